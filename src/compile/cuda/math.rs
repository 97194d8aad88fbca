//! Built-in functions: which of the header's functions each is.

use super::function::Body;
use naga::{Expression as E, Handle, MathFunction as M};

impl Body<'_, '_> {
    pub fn math(&self, fun: M, operands: &[Handle<E>]) -> String {
        if let Some(function) = each(fun) {
            return format!("rt_{function}({})", self.spread_all(operands).join(", "));
        }
        let operands: Vec<_> = operands.iter().map(|operand| self.value(*operand)).collect();
        let function = match fun {
            M::ExtractBits => "extract_bits",
            M::InsertBits => "insert_bits",
            M::Dot => "dot",
            M::Dot4I8Packed => "dot_signed",
            M::Dot4U8Packed => "dot_unsigned",
            M::Length => "length",
            M::Distance => "distance",
            M::Normalize => "normalize",
            M::Cross => "cross",
            M::FaceForward => "face_forward",
            M::Reflect => "reflect",
            M::Refract => "refract",
            M::Transpose => "transpose",
            M::Determinant => "determinant",
            M::Pack4x8snorm => "pack_4x8snorm",
            M::Pack4x8unorm => "pack_4x8unorm",
            M::Pack2x16snorm => "pack_2x16snorm",
            M::Pack2x16unorm => "pack_2x16unorm",
            M::Pack2x16float => "pack_2x16float",
            M::Pack4xI8 | M::Pack4xU8 => "pack_4x8",
            M::Pack4xI8Clamp | M::Pack4xU8Clamp => "pack_4x8clamp",
            M::Unpack4x8snorm => "unpack_4x8snorm",
            M::Unpack4x8unorm => "unpack_4x8unorm",
            M::Unpack2x16snorm => "unpack_2x16snorm",
            M::Unpack2x16unorm => "unpack_2x16unorm",
            M::Unpack2x16float => "unpack_2x16float",
            M::Unpack4xI8 => "unpack_signed<4u>",
            M::Unpack4xU8 => "unpack_unsigned<4u>",
            _ => unreachable!("not a function of WGSL: {fun:?}"),
        };
        format!("rt_{function}({})", operands.join(", "))
    }
}

/// The functions that work on each component alone.
fn each(fun: M) -> Option<&'static str> {
    Some(match fun {
        M::Abs => "abs",
        M::Sign => "sign",
        M::Saturate => "saturate",
        M::Cos => "cos",
        M::Cosh => "cosh",
        M::Sin => "sin",
        M::Sinh => "sinh",
        M::Tan => "tan",
        M::Tanh => "tanh",
        M::Acos => "acos",
        M::Asin => "asin",
        M::Atan => "atan",
        M::Atan2 => "atan2",
        M::Asinh => "asinh",
        M::Acosh => "acosh",
        M::Atanh => "atanh",
        M::Radians => "radians",
        M::Degrees => "degrees",
        M::Ceil => "ceil",
        M::Floor => "floor",
        M::Round => "round",
        M::Fract => "fract",
        M::Trunc => "trunc",
        M::Exp => "exp",
        M::Exp2 => "exp2",
        M::Log => "log",
        M::Log2 => "log2",
        M::Pow => "pow",
        M::Sqrt => "sqrt",
        M::InverseSqrt => "inverse_sqrt",
        M::QuantizeToF16 => "quantize",
        M::CountTrailingZeros => "count_trailing_zeros",
        M::CountLeadingZeros => "count_leading_zeros",
        M::CountOneBits => "count_one_bits",
        M::ReverseBits => "reverse_bits",
        M::FirstTrailingBit => "first_trailing_bit",
        M::FirstLeadingBit => "first_leading_bit",
        M::Min => "min",
        M::Max => "max",
        M::Clamp => "clamp",
        M::Fma => "fma",
        M::Mix => "mix",
        M::Step => "step",
        M::SmoothStep => "smooth_step",
        M::Ldexp => "ldexp",
        _ => return None,
    })
}
