//! From WGSL text to something that runs: parse, contract, lowering, engines.
//!
//! [`Cache::handler`] is the way in, through [`compile`] for what is not kept already. Everything above sees a
//! [`Program`] and an [`Executable`]; naga stays inside.

mod batch;
mod cache;
pub(crate) mod compute;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod float;
mod front;
#[cfg(test)]
pub(crate) mod generate;
mod interp;
#[cfg(feature = "jit")]
mod jit;
#[cfg(feature = "wgpu")]
mod joined;
mod lower;
mod program;
mod shape;
#[cfg(test)]
mod speed;
#[cfg(test)]
pub(crate) mod tests;
mod uses;

pub(crate) use batch::{Batch, BatchEnd, Ending, Places};
#[cfg(any(feature = "jit", feature = "wgpu"))]
pub(crate) use cache::KeyBuilder;
pub(crate) use cache::{Cache, Handler, Key, Store, VARIABLE as CACHE_VARIABLE};
pub use cache::{CacheSettings, CacheStatistics};
pub(crate) use compute::{CompiledCompute, ComputeProgram, ComputeSource};
pub(crate) use interp::Interpreter;
#[cfg(feature = "wgpu")]
pub(crate) use joined::{Driver, Joined, Record, join};
pub(crate) use program::{Program, StateFacts};

use crate::error::{Error, ErrorKind, Result};
use crate::message::Layout;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What a kernel declares about its handler, besides the text.
pub(crate) struct HandlerSource<'a> {
    /// Names the file in error messages (`<kernel "sum">` unless the text came from a file).
    pub name: &'a str,
    /// The user's WGSL.
    pub text: &'a str,
    /// The message type.
    pub input: &'static Layout,
    /// The reply type; size 0 (the unit type) for a handler that does not reply.
    pub output: &'static Layout,
    /// The Rust state type, if one was given with `.initial_state`.
    pub state: Option<&'static Layout>,
    /// Declared outputs, in order.
    pub outputs: &'a [OutputDecl],
    /// Bound tables.
    pub tables: &'a [TableDecl],
    /// Loop iterations per message, at least 1.
    pub loop_budget: u32,
    /// The byte of a message where the number of its instance is; `None` if there are no instances.
    pub instance_at: Option<u32>,
}

/// A declared output of a handler: `emit_<name>` sends to it.
#[derive(Clone)]
pub(crate) struct OutputDecl {
    pub name: String,
    pub layout: &'static Layout,
    /// At most this many per message, at least 1.
    pub max_per_message: u32,
}

/// A table bound by name.
#[derive(Clone)]
pub(crate) struct TableDecl {
    pub name: String,
    /// Bytes of one element, as the buffer has it.
    pub element_size: u32,
    /// Rust name of the element type, for messages.
    pub element_name: &'static str,
    /// Elements in the buffer.
    pub len: usize,
}

/// The most tables of a handler: a portable device has eight storage buffers, and a round of messages takes the other four.
pub(crate) const MOST_TABLES: usize = 4;

/// One table as the lowered module wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableUse {
    pub name: String,
    /// `@binding(n)` in `@group(1)`.
    pub binding: u32,
    /// The handler may write it.
    pub writable: bool,
}

/// Where an output's values are in the private segment after a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EmitSlot {
    /// Offset of a u32: how many times `emit_<name>` was called (never more than `max`: more is a fault).
    pub count_offset: u32,
    /// Offset of the first value; the next ones follow every `stride` bytes.
    pub items_offset: u32,
    pub stride: u32,
    /// Bytes of one value on the Rust side.
    pub size: u32,
    pub max: u32,
}

impl EmitSlot {
    /// The values that the last run emitted.
    #[inline]
    pub fn values<'p>(&self, privates: &'p [u8]) -> impl Iterator<Item = &'p [u8]> {
        let at = self.count_offset as usize;
        let count: u32 = *bytemuck::from_bytes(&privates[at..at + 4]);
        let (first, stride, size) = (self.items_offset, self.stride, self.size as usize);
        (0..count.min(self.max)).map(move |item| {
            let at = (first + item * stride) as usize;
            &privates[at..at + size]
        })
    }
}

/// A borrowed table: the bytes of a bound buffer.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct TableView {
    pub data: *mut u8,
    pub bytes: usize,
}
// SAFETY: a view is a pointer and a length; whoever makes one (the CPU port, from storage it keeps alive) owes
// that it is valid while it is used, and engines access shared tables by atomics or from one thread at a time.
unsafe impl Send for TableView {}
// SAFETY: as above.
unsafe impl Sync for TableView {}

/// How long a run may take, even inside a handler.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Leave at once when this has passed.
    pub deadline: Option<Instant>,
    /// Leave at once this long after the first check: a handler without loops never pays for a look at the clock.
    pub slice: Option<Duration>,
}

impl Limits {
    /// As long as it takes.
    pub const NONE: Self = Self { deadline: None, slice: None };
}

/// When a run has to give up. Engines ask every few thousand loop iterations.
pub(crate) struct StopCheck<'a> {
    /// [`STOP_NOW`]: leave at once, commit nothing.
    word: &'a AtomicU32,
    /// Not copied: most runs never look.
    limits: &'a Limits,
    /// When the slice ends, once it has begun.
    slice_end: Cell<Option<Instant>>,
}

impl<'a> StopCheck<'a> {
    /// Stops by the word, at the deadline, or when the slice is used up, whichever comes first.
    pub(crate) fn new(word: &'a AtomicU32, limits: &'a Limits) -> Self {
        Self { word, limits, slice_end: Cell::new(None) }
    }

    /// The stop word.
    #[inline]
    fn word(&self) -> u32 {
        // Relaxed: as in `must_stop`.
        self.word.load(Ordering::Relaxed)
    }

    /// Where the stop word is.
    #[cfg(any(feature = "jit", all(test, feature = "cuda")))]
    fn word_address(&self) -> &AtomicU32 {
        self.word
    }

    /// Must the run stop?
    #[cold]
    pub(crate) fn must_stop(&self) -> bool {
        // Relaxed: the word carries no data; who stopped us waits for the port itself.
        if self.word.load(Ordering::Relaxed) >= STOP_NOW {
            return true;
        }
        let Limits { deadline, slice } = *self.limits;
        if deadline.is_none() && slice.is_none() {
            return false;
        }
        let now = Instant::now();
        let slice_end = self.slice_end.get().or_else(|| slice.map(|slice| now + slice));
        self.slice_end.set(slice_end);
        deadline.is_some_and(|end| now >= end) || slice_end.is_some_and(|end| now >= end)
    }
}

/// Value of the stop word: finish the message in hand, begin no other.
pub(crate) const STOP_AFTER_MESSAGE: u32 = 1;
/// Value of the stop word: leave the message in hand, commit nothing.
pub(crate) const STOP_NOW: u32 = 2;

/// All that one run of a handler touches. Passed by value, so that it need not be in memory for an engine that is inlined.
pub(crate) struct Frame<'a> {
    /// The message, in WGSL layout.
    pub message: &'a [u8],
    /// The state; it changes only if the run is `Done`.
    pub state: &'a mut [u8],
    /// Room for the reply.
    pub reply: &'a mut [u8],
    /// The private segment: module-scope `var<private>`s and emitted values; kept by the caller between runs so
    /// that it is allocated once, initialised by the handler's own prologue.
    pub privates: &'a mut [u8],
    /// In the order of [`Program::tables`].
    pub tables: &'a [TableView],
    pub stop: &'a StopCheck<'a>,
}

impl Frame<'_> {
    #[cfg_attr(
        not(feature = "jit"),
        expect(dead_code, reason = "the interpreter's slices are checked as they are used")
    )]
    fn sizes(&self) -> PartSizes {
        let Self { message, state, reply, privates, .. } = self;
        PartSizes { message: message.len(), state: state.len(), reply: reply.len(), privates: privates.len() }
    }
}

/// Bytes of what a frame has for its handler.
#[derive(Clone, Copy)]
pub(crate) struct PartSizes {
    pub message: usize,
    pub state: usize,
    pub reply: usize,
    pub privates: usize,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// State, reply and emits are good.
    Done,
    /// The handler faulted: nothing of it counts.
    Fault(FaultCode),
    /// Stopped from outside: nothing of it counts, the message may run again.
    Interrupted,
}

/// Why a handler faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum FaultCode {
    /// More loop iterations than the budget.
    LoopBudget = 1,
    /// More values emitted to one output than declared.
    EmitOverflow = 2,
}

impl FaultCode {
    /// What the code of a handler says when it is neither done nor interrupted.
    pub(crate) fn of(code: u32) -> Self {
        debug_assert!(
            code == Self::LoopBudget as u32 || code == Self::EmitOverflow as u32,
            "{code} is no fault"
        );
        if code == Self::LoopBudget as u32 { Self::LoopBudget } else { Self::EmitOverflow }
    }
}

/// Something that runs a handler on one message.
pub(crate) trait Executable: Send + Sync {
    /// Runs the handler once.
    ///
    /// # Panics
    ///
    /// If a part of the frame is smaller than the handler's types.
    fn run(&self, frame: Frame<'_>) -> Outcome;

    /// Runs many messages, one after the other.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run), or if the output has no room for all replies.
    fn run_batch(&self, batch: &mut Batch<'_>) -> BatchEnd {
        let (tables, stop) = (batch.tables, batch.stop);
        batch.each(|message, state, reply, privates| {
            self.run(Frame { message, state, reply, privates, tables, stop })
        })
    }
}

/// What runs a handler. An enumeration, and no box of [`Executable`]: a call that the compiler sees through needs no frame
/// in memory, and machine code is often over in the time that one takes.
#[cfg_attr(
    feature = "jit",
    expect(
        clippy::large_enum_variant,
        reason = "there is one for a handler; a box would be one more load a message"
    )
)]
pub(crate) enum HandlerEngine {
    #[cfg(feature = "jit")]
    Jit(jit::JitHandler),
    Interpreter(Box<Interpreter>),
}

impl HandlerEngine {
    /// Do parts of these sizes, and these tables, have all that the handler may touch?
    ///
    /// # Panics
    ///
    /// If not.
    pub(crate) fn check(&self, parts: PartSizes, tables: &[TableView]) {
        match self {
            #[cfg(feature = "jit")]
            Self::Jit(handler) => handler.check(parts, tables),
            // It looks whenever it touches something.
            Self::Interpreter(_) => _ = (parts, tables),
        }
    }

    /// As [`run`](Executable::run), for sizes that have been looked at once for all messages: that takes as long as a
    /// small handler.
    ///
    /// # Safety
    ///
    /// [`check`](Self::check) has returned for parts that are not larger, and for these tables.
    #[inline(always)]
    pub(crate) unsafe fn run_checked(&self, frame: Frame<'_>) -> Outcome {
        match self {
            #[cfg(feature = "jit")]
            // SAFETY: the caller's.
            Self::Jit(handler) => unsafe { handler.run_checked(frame) },
            Self::Interpreter(interpreter) => interpreter.run(frame),
        }
    }
}

impl Executable for HandlerEngine {
    fn run(&self, frame: Frame<'_>) -> Outcome {
        match self {
            #[cfg(feature = "jit")]
            Self::Jit(handler) => handler.run(frame),
            Self::Interpreter(interpreter) => interpreter.run(frame),
        }
    }

    fn run_batch(&self, batch: &mut Batch<'_>) -> BatchEnd {
        match self {
            #[cfg(feature = "jit")]
            Self::Jit(handler) => handler.run_batch(batch),
            Self::Interpreter(interpreter) => interpreter.run_batch(batch),
        }
    }
}

/// Name of the engine that makes machine code; other names are `interpreter: ` and the reason.
#[cfg(feature = "jit")]
const JIT: &str = "jit";
/// The engine of a build that has no other.
#[cfg(not(feature = "jit"))]
const ONLY_INTERPRETER: &str = "interpreter: this build is without the feature `jit`";

/// The engine of handlers on this machine, those apart that it cannot take.
pub(crate) fn engine() -> &'static str {
    #[cfg(feature = "jit")]
    let engine = jit::check_host().map_or_else(|interpreter| interpreter, |()| JIT);
    #[cfg(not(feature = "jit"))]
    let engine = ONLY_INTERPRETER;
    engine
}

/// The best engine there is for a program, and its name. Machine code is looked for where it is kept, if anywhere.
pub(crate) fn executable(
    program: Arc<Program>,
    #[cfg_attr(not(feature = "jit"), expect(unused_variables, reason = "only machine code is kept"))]
    kept: Option<&(Arc<Store>, Key)>,
) -> (Arc<HandlerEngine>, &'static str) {
    #[cfg(feature = "jit")]
    let engine = match machine_code(&program, kept).map(|code| jit::load(&code)) {
        Ok(Ok(handler)) => return (Arc::new(HandlerEngine::Jit(handler)), JIT),
        Ok(Err(_)) => "interpreter: the system gives no executable memory",
        Err(interpreter) => interpreter,
    };
    #[cfg(not(feature = "jit"))]
    let engine = ONLY_INTERPRETER;
    (Arc::new(HandlerEngine::Interpreter(Box::new(Interpreter::new(program)))), engine)
}

/// A program's machine code: what is kept under its handler's key, or else it is translated.
#[cfg(feature = "jit")]
fn machine_code(
    program: &Program,
    kept: Option<&(Arc<Store>, Key)>,
) -> std::result::Result<jit::MachineCode, &'static str> {
    let (Some((store, handler)), Ok(host)) = (kept, jit::host_key()) else { return jit::translate(program) };
    let key = KeyBuilder::new("machine code").bytes(handler.bytes()).text(&host).finish();
    store.get_or_build(
        &key,
        // SAFETY: the store only gives what `to_bytes` made below under the same key, which has the handler with all
        // that went into its program, this library's sources and `host_key`; and only from files that nobody but the
        // user whom the process runs as could write.
        |bytes| unsafe { jit::MachineCode::from_bytes(bytes) }.ok(),
        || {
            jit::translate(program).map(|code| {
                let bytes = code.to_bytes();
                (code, bytes)
            })
        },
    )
}

/// Parses a handler, checks it against its contract and lowers it.
///
/// # Errors
///
/// `Rejected`, with file, line and column in the user's text, what is wrong there and what to write instead.
pub(crate) fn compile(source: &HandlerSource<'_>) -> Result<Program> {
    on_compile_thread(source.text.len(), too_large(source.name), || {
        front::parse(source).and_then(|parsed| lower::lower(parsed, source))
    })
}

/// What is said of a text with which the compiler did not come to its end, and why.
fn too_large(name: &str) -> impl Fn(&str) -> Error {
    move |why| {
        let text = format!("{name}:1:1: the WGSL compiler failed on this text ({why}); make it smaller");
        Error::new(ErrorKind::Rejected, text)
    }
}

/// Does something with a text of so many bytes; `failed` makes an error of why it did not come to its end.
fn on_compile_thread<T: Send>(
    length: usize,
    failed: impl Fn(&str) -> Error,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    // naga recurses along operators and `else if`, up to once a byte of text, with 700 bytes of stack each (measured
    // at opt-level 1): a long generated expression would overflow a usual stack, and that ends the process.
    let stack = length.saturating_mul(4096).clamp(8 << 20, 1 << 30);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("ringwork-compile".into()).stack_size(stack);
        let thread = thread.spawn_scoped(scope, work).map_err(|error| failed(&error.to_string()))?;
        thread.join().unwrap_or_else(|_| Err(failed("it panicked")))
    })
}
