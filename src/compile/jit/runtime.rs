//! What machine code calls: a table of functions whose address it gets with every run, so that the code itself is
//! nothing but position-independent bytes.

use crate::compile::{StopCheck, TableView, float};
use std::sync::atomic::{AtomicU32, AtomicUsize};

/// What machine code gets besides what it works on.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Context {
    pub fixed: *const Fixed,
    pub stop: *const (),
    /// What `look` found out.
    pub must_stop: u32,
}

/// What machine code gets for a batch, and what it says about it.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct BatchRun {
    /// First, so that a pointer to this is one to it.
    pub context: Context,
    pub stop_word: *const AtomicU32,
    /// Is told before each message how many have not begun.
    pub waiting: *const AtomicUsize,
    /// Less the number of a message's slot: how many wait when it begins.
    pub last_waiting: u64,
    /// Slots to read: `input_next` is the next message's, also afterwards.
    pub input: *const u8,
    pub input_mask: u64,
    pub input_next: u64,
    /// The slot behind the last message's; the code makes it less where it wants to be called again.
    pub input_end: u64,
    /// The state of `first_instance`, or the only one.
    pub states: *mut u8,
    /// Slots to fill: `output_next` is the next one to fill, also afterwards.
    pub output: *mut u8,
    pub output_mask: u64,
    pub output_next: u64,
    pub privates: *mut u8,
    pub tables: *const TableView,
    /// A stop word from here on ends the batch between two messages.
    pub stop_at: u32,
    pub first_instance: u32,
    pub instances: u32,
}

/// The second half of a slot's header.
pub(super) fn head(kind: u32, len: u32) -> u64 {
    bytemuck::cast([kind, len])
}

/// What is the same in all runs of a handler.
#[repr(C)]
pub(super) struct Fixed {
    pub services: *const Services,
    /// Asks whether the run must stop; see [`look`](super::look).
    pub look: *const (),
    pub constants: *const u8,
}

/// Numbers of the services: the order of their addresses in [`SERVICES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(super) enum Service {
    Copy,
    Zero,
    Cos,
    Cosh,
    Sin,
    Sinh,
    Tan,
    Tanh,
    Acos,
    Asin,
    Atan,
    Asinh,
    Acosh,
    Atanh,
    Exp,
    Exp2,
    Log,
    Log2,
    Quantize,
    Fraction,
    Atan2,
    Pow,
    Exponent,
    ToHalf,
    FromHalf,
    ScaleByExponent,
}

/// How many there are.
const COUNT: usize = Service::ScaleByExponent as usize + 1;

/// What is passed and returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Signature {
    /// `(pointer, pointer, u64)`
    Copy,
    /// `(pointer, u64)`
    Zero,
    /// `(f32) -> f32`
    Float1,
    /// `(f32, f32) -> f32`
    Float2,
    /// `(f32) -> u32`
    ToBits,
    /// `(u64) -> f32`
    FromBits,
    /// `(f32, u64) -> f32`
    Scale,
}

impl Service {
    pub(super) fn signature(self) -> Signature {
        match self {
            Self::Copy => Signature::Copy,
            Self::Zero => Signature::Zero,
            Self::Atan2 | Self::Pow => Signature::Float2,
            Self::Exponent | Self::ToHalf => Signature::ToBits,
            Self::FromHalf => Signature::FromBits,
            Self::ScaleByExponent => Signature::Scale,
            _ => Signature::Float1,
        }
    }
}

/// Addresses of the services, by their numbers. Numbers narrower than a register are passed as 64 bits, so that no
/// calling convention's rules on the upper half matter.
#[repr(transparent)]
pub(super) struct Services([*const (); COUNT]);

// SAFETY: addresses of functions, which are valid everywhere and for ever.
unsafe impl Sync for Services {}

/// Asks whether the run must stop, and puts the answer into the context.
pub(super) extern "C" fn look(context: *mut Context) {
    // SAFETY: the code passes on the context that `JitHandler` made for its run; nobody else has a reference to it
    // meanwhile. The check in it is a reference whose frame outlives the run.
    unsafe {
        let stop = &*(*context).stop.cast::<StopCheck<'_>>();
        (*context).must_stop = stop.must_stop().into();
    }
}

extern "C" fn copy(to: *mut u8, from: *const u8, bytes: u64) {
    // SAFETY: the translator passes places of at least so many bytes; both are its own or the message, and a value
    // is copied only to a place that is not part of it.
    unsafe { std::ptr::copy(from, to, bytes as usize) }
}

extern "C" fn zero(to: *mut u8, bytes: u64) {
    // SAFETY: the translator passes a place of its own with so many bytes.
    unsafe { to.write_bytes(0, bytes as usize) }
}

/// Functions of the C convention from those of Rust.
macro_rules! shims {
    ($($name:ident($($argument:ident: $ty:ty),*) -> $result:ty = $body:expr;)*) => {
        $(extern "C" fn $name($($argument: $ty),*) -> $result { $body })*
    };
}

shims! {
    cos(x: f32) -> f32 = libm::cosf(x);
    cosh(x: f32) -> f32 = libm::coshf(x);
    sin(x: f32) -> f32 = libm::sinf(x);
    sinh(x: f32) -> f32 = libm::sinhf(x);
    tan(x: f32) -> f32 = libm::tanf(x);
    tanh(x: f32) -> f32 = libm::tanhf(x);
    acos(x: f32) -> f32 = libm::acosf(x);
    asin(x: f32) -> f32 = libm::asinf(x);
    atan(x: f32) -> f32 = libm::atanf(x);
    asinh(x: f32) -> f32 = libm::asinhf(x);
    acosh(x: f32) -> f32 = libm::acoshf(x);
    atanh(x: f32) -> f32 = libm::atanhf(x);
    exp(x: f32) -> f32 = libm::expf(x);
    exp2(x: f32) -> f32 = libm::exp2f(x);
    log(x: f32) -> f32 = libm::logf(x);
    log2(x: f32) -> f32 = libm::log2f(x);
    quantize(x: f32) -> f32 = float::quantize(x);
    fraction(x: f32) -> f32 = float::split(x).0;
    atan2(y: f32, x: f32) -> f32 = libm::atan2f(y, x);
    pow(x: f32, y: f32) -> f32 = libm::powf(x, y);
    exponent(x: f32) -> u32 = float::split(x).1 as u32;
    to_half(x: f32) -> u32 = float::float_to_half(x).into();
    from_half(half: u64) -> f32 = float::half_to_float(half as u16);
    scale_by_exponent(x: f32, exponent: u64) -> f32 = libm::ldexpf(x, exponent as i32);
}

/// The services.
pub(super) static SERVICES: Services = Services({
    use Service as S;
    let all: [(Service, *const ()); COUNT] = [
        (S::Copy, copy as *const ()),
        (S::Zero, zero as *const ()),
        (S::Cos, cos as *const ()),
        (S::Cosh, cosh as *const ()),
        (S::Sin, sin as *const ()),
        (S::Sinh, sinh as *const ()),
        (S::Tan, tan as *const ()),
        (S::Tanh, tanh as *const ()),
        (S::Acos, acos as *const ()),
        (S::Asin, asin as *const ()),
        (S::Atan, atan as *const ()),
        (S::Asinh, asinh as *const ()),
        (S::Acosh, acosh as *const ()),
        (S::Atanh, atanh as *const ()),
        (S::Exp, exp as *const ()),
        (S::Exp2, exp2 as *const ()),
        (S::Log, log as *const ()),
        (S::Log2, log2 as *const ()),
        (S::Quantize, quantize as *const ()),
        (S::Fraction, fraction as *const ()),
        (S::Atan2, atan2 as *const ()),
        (S::Pow, pow as *const ()),
        (S::Exponent, exponent as *const ()),
        (S::ToHalf, to_half as *const ()),
        (S::FromHalf, from_half as *const ()),
        (S::ScaleByExponent, scale_by_exponent as *const ()),
    ];
    let mut addresses = [std::ptr::null(); COUNT];
    let mut index = 0;
    while index < COUNT {
        addresses[all[index].0 as usize] = all[index].1;
        index += 1;
    }
    addresses
});

#[cfg(test)]
impl Services {
    /// Has every number its address?
    pub(super) fn is_complete(&self) -> bool {
        self.0.iter().all(|address| !address.is_null())
    }
}
