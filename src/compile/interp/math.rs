//! Scalar operations on 32-bit words: what an f32, i32, u32 or bool operation does to the bits.
//!
//! A bool is 0 or 1. The rules that WGSL leaves open are settled in `lower.rs`.

use crate::compile::float;
use naga::{BinaryOperator, MathFunction as M, ScalarKind, UnaryOperator};

pub(super) type Fn1 = fn(u32) -> u32;
pub(super) type Fn2 = fn(u32, u32) -> u32;
pub(super) type Fn3 = fn(u32, u32, u32) -> u32;

pub(super) fn f(word: u32) -> f32 {
    f32::from_bits(word)
}

fn float1(a: u32, g: impl Fn(f32) -> f32) -> u32 {
    g(f(a)).to_bits()
}

fn float2(a: u32, b: u32, g: impl Fn(f32, f32) -> f32) -> u32 {
    g(f(a), f(b)).to_bits()
}

fn int1(a: u32, g: impl Fn(i32) -> i32) -> u32 {
    g(a as i32) as u32
}

fn int2(a: u32, b: u32, g: impl Fn(i32, i32) -> i32) -> u32 {
    g(a as i32, b as i32) as u32
}

/// `b` if `b < a`, else `a`; a NaN gives way to the other.
pub(super) fn min(a: f32, b: f32) -> f32 {
    if b < a || a.is_nan() { b } else { a }
}

/// `b` if `a < b`, else `a`; a NaN gives way to the other.
pub(super) fn max(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { b } else { a }
}

pub(super) fn clamp(x: f32, low: f32, high: f32) -> f32 {
    min(max(x, low), high)
}

/// A unary operator.
pub(super) fn unary(op: UnaryOperator, kind: ScalarKind) -> Fn1 {
    match (op, kind) {
        (UnaryOperator::Negate, ScalarKind::Float) => |a| a ^ 0x8000_0000,
        (UnaryOperator::Negate, _) => u32::wrapping_neg,
        (UnaryOperator::LogicalNot, _) => |a| a ^ 1,
        (UnaryOperator::BitwiseNot, _) => |a| !a,
    }
}

/// A binary operator on scalars of one kind.
pub(super) fn binary(op: BinaryOperator, kind: ScalarKind) -> Fn2 {
    match kind {
        ScalarKind::Float => float_binary(op),
        ScalarKind::Sint => signed_binary(op).unwrap_or_else(|| unsigned_binary(op)),
        _ => unsigned_binary(op),
    }
}

fn float_binary(op: BinaryOperator) -> Fn2 {
    use BinaryOperator as B;
    match op {
        B::Add => |a, b| float2(a, b, |x, y| x + y),
        B::Subtract => |a, b| float2(a, b, |x, y| x - y),
        B::Multiply => |a, b| float2(a, b, |x, y| x * y),
        B::Divide => |a, b| float2(a, b, |x, y| x / y),
        B::Modulo => |a, b| float2(a, b, |x, y| x - y * (x / y).trunc()),
        B::Equal => |a, b| u32::from(f(a) == f(b)),
        B::NotEqual => |a, b| u32::from(f(a) != f(b)),
        B::Less => |a, b| u32::from(f(a) < f(b)),
        B::LessEqual => |a, b| u32::from(f(a) <= f(b)),
        B::Greater => |a, b| u32::from(f(a) > f(b)),
        B::GreaterEqual => |a, b| u32::from(f(a) >= f(b)),
        _ => unreachable!("validated: bit operations take integers"),
    }
}

/// Where signed integers differ from unsigned ones.
fn signed_binary(op: BinaryOperator) -> Option<Fn2> {
    use BinaryOperator as B;
    Some(match op {
        B::Divide => |a, b| if b == 0 { a } else { int2(a, b, i32::wrapping_div) },
        B::Modulo => |a, b| if b == 0 { 0 } else { int2(a, b, i32::wrapping_rem) },
        B::Less => |a, b| u32::from((a as i32) < b as i32),
        B::LessEqual => |a, b| u32::from(a as i32 <= b as i32),
        B::Greater => |a, b| u32::from(a as i32 > b as i32),
        B::GreaterEqual => |a, b| u32::from(a as i32 >= b as i32),
        B::ShiftRight => |a, b| (a as i32).wrapping_shr(b) as u32,
        _ => return None,
    })
}

fn unsigned_binary(op: BinaryOperator) -> Fn2 {
    use BinaryOperator as B;
    match op {
        B::Add => u32::wrapping_add,
        B::Subtract => u32::wrapping_sub,
        B::Multiply => u32::wrapping_mul,
        B::Divide => |a, b| a.checked_div(b).unwrap_or(a),
        B::Modulo => |a, b| a.checked_rem(b).unwrap_or(0),
        B::Equal => |a, b| u32::from(a == b),
        B::NotEqual => |a, b| u32::from(a != b),
        B::Less => |a, b| u32::from(a < b),
        B::LessEqual => |a, b| u32::from(a <= b),
        B::Greater => |a, b| u32::from(a > b),
        B::GreaterEqual => |a, b| u32::from(a >= b),
        B::And | B::LogicalAnd => |a, b| a & b,
        B::InclusiveOr | B::LogicalOr => |a, b| a | b,
        B::ExclusiveOr => |a, b| a ^ b,
        B::ShiftLeft => u32::wrapping_shl,
        B::ShiftRight => u32::wrapping_shr,
    }
}

/// A conversion by value.
pub(super) fn convert(from: ScalarKind, to: ScalarKind) -> Fn1 {
    use ScalarKind as K;
    match (from, to) {
        (K::Float, K::Sint) => |a| f(a) as i32 as u32,
        (K::Float, K::Uint) => |a| f(a) as u32,
        (K::Float, K::Bool) => |a| u32::from(f(a) != 0.0),
        (K::Sint, K::Float) => |a| (a as i32 as f32).to_bits(),
        (K::Uint | K::Bool, K::Float) => |a| (a as f32).to_bits(),
        (_, K::Bool) => |a| u32::from(a != 0),
        _ => |a| a,
    }
}

/// A built-in function of one scalar, applied to each component.
pub(super) fn math1(fun: M, kind: ScalarKind) -> Option<Fn1> {
    use ScalarKind as K;
    Some(match (fun, kind) {
        (M::Abs, K::Float) => |a| a & 0x7fff_ffff,
        (M::Abs, K::Sint) => |a| int1(a, i32::wrapping_abs),
        (M::Abs, _) => |a| a,
        (M::Sign, K::Sint) => |a| int1(a, i32::signum),
        (M::Sign, _) => |a| {
            float1(a, |x| {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    0.0
                }
            })
        },
        (M::Saturate, _) => |a| float1(a, |x| clamp(x, 0.0, 1.0)),
        (M::Cos, _) => |a| float1(a, libm::cosf),
        (M::Cosh, _) => |a| float1(a, libm::coshf),
        (M::Sin, _) => |a| float1(a, libm::sinf),
        (M::Sinh, _) => |a| float1(a, libm::sinhf),
        (M::Tan, _) => |a| float1(a, libm::tanf),
        (M::Tanh, _) => |a| float1(a, libm::tanhf),
        (M::Acos, _) => |a| float1(a, libm::acosf),
        (M::Asin, _) => |a| float1(a, libm::asinf),
        (M::Atan, _) => |a| float1(a, libm::atanf),
        (M::Asinh, _) => |a| float1(a, libm::asinhf),
        (M::Acosh, _) => |a| float1(a, libm::acoshf),
        (M::Atanh, _) => |a| float1(a, libm::atanhf),
        (M::Radians, _) => |a| float1(a, |x| x * (std::f32::consts::PI / 180.0)),
        (M::Degrees, _) => |a| float1(a, |x| x * (180.0 / std::f32::consts::PI)),
        (M::Ceil, _) => |a| float1(a, f32::ceil),
        (M::Floor, _) => |a| float1(a, f32::floor),
        (M::Round, _) => |a| float1(a, f32::round_ties_even),
        (M::Fract, _) => |a| float1(a, |x| x - x.floor()),
        (M::Trunc, _) => |a| float1(a, f32::trunc),
        (M::Exp, _) => |a| float1(a, libm::expf),
        (M::Exp2, _) => |a| float1(a, libm::exp2f),
        (M::Log, _) => |a| float1(a, libm::logf),
        (M::Log2, _) => |a| float1(a, libm::log2f),
        (M::Sqrt, _) => |a| float1(a, f32::sqrt),
        (M::InverseSqrt, _) => |a| float1(a, |x| 1.0 / x.sqrt()),
        (M::QuantizeToF16, _) => |a| float1(a, float::quantize),
        (M::CountTrailingZeros, _) => u32::trailing_zeros,
        (M::CountLeadingZeros, _) => u32::leading_zeros,
        (M::CountOneBits, _) => u32::count_ones,
        (M::ReverseBits, _) => u32::reverse_bits,
        (M::FirstTrailingBit, _) => |a| if a == 0 { u32::MAX } else { a.trailing_zeros() },
        // Of a negative number, the highest bit that differs from its sign. `31 - 32` wraps to -1: none.
        (M::FirstLeadingBit, K::Sint) => {
            |a| 31u32.wrapping_sub(if a as i32 >= 0 { a } else { !a }.leading_zeros())
        }
        (M::FirstLeadingBit, _) => |a| 31u32.wrapping_sub(a.leading_zeros()),
        _ => return None,
    })
}

/// A built-in function of two scalars, applied to each component.
pub(super) fn math2(fun: M, kind: ScalarKind) -> Option<Fn2> {
    use ScalarKind as K;
    Some(match (fun, kind) {
        (M::Min, K::Float) => |a, b| float2(a, b, min),
        (M::Min, K::Sint) => |a, b| int2(a, b, i32::min),
        (M::Min, _) => u32::min,
        (M::Max, K::Float) => |a, b| float2(a, b, max),
        (M::Max, K::Sint) => |a, b| int2(a, b, i32::max),
        (M::Max, _) => u32::max,
        (M::Atan2, _) => |a, b| float2(a, b, libm::atan2f),
        (M::Pow, _) => |a, b| float2(a, b, libm::powf),
        (M::Step, _) => |a, b| float2(a, b, |edge, x| if edge <= x { 1.0 } else { 0.0 }),
        (M::Ldexp, _) => |a, b| libm::ldexpf(f(a), b as i32).to_bits(),
        _ => return None,
    })
}

/// A built-in function of three scalars, applied to each component.
pub(super) fn math3(fun: M, kind: ScalarKind) -> Option<Fn3> {
    use ScalarKind as K;
    Some(match (fun, kind) {
        (M::Clamp, K::Float) => |a, b, c| clamp(f(a), f(b), f(c)).to_bits(),
        (M::Clamp, K::Sint) => |a, b, c| (a as i32).max(b as i32).min(c as i32) as u32,
        (M::Clamp, _) => |a, b, c| a.max(b).min(c),
        (M::Fma, _) => |a, b, c| (f(a) * f(b) + f(c)).to_bits(),
        (M::Mix, _) => |a, b, t| (f(a) * (1.0 - f(t)) + f(b) * f(t)).to_bits(),
        (M::SmoothStep, _) => |low, high, x| {
            let t = clamp((f(x) - f(low)) / (f(high) - f(low)), 0.0, 1.0);
            (t * t * (3.0 - 2.0 * t)).to_bits()
        },
        (M::ExtractBits, K::Sint) => |e, offset, count| {
            let (offset, count) = bit_range(offset, count);
            if count == 0 { 0 } else { ((e << (32 - offset - count)) as i32 >> (32 - count)) as u32 }
        },
        (M::ExtractBits, _) => |e, offset, count| {
            let (offset, count) = bit_range(offset, count);
            if count == 0 { 0 } else { (e << (32 - offset - count)) >> (32 - count) }
        },
        _ => return None,
    })
}

/// `insertBits`.
pub(super) fn insert_bits(e: u32, new: u32, offset: u32, count: u32) -> u32 {
    let (offset, count) = bit_range(offset, count);
    if count == 0 {
        return e;
    }
    let mask = (u32::MAX >> (32 - count)) << offset;
    (e & !mask) | ((new << offset) & mask)
}

/// WGSL's clamping of a bit range: it begins within the word and ends within it.
fn bit_range(offset: u32, count: u32) -> (u32, u32) {
    let offset = offset.min(32);
    (offset, count.min(32 - offset))
}
