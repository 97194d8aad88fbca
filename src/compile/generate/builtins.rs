//! WGSL's built-in functions, by what they give.

use super::ast::{Kind, Type};
use super::random::Random;
use Shape::{Any, Condition, Fixed, Float, Same, Signed, Square, Unsigned};

/// The type of an operand, seen from the result's.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// The result's type.
    Same,
    /// As many i32s as the result has components.
    Signed,
    /// `f32`
    Float,
    /// Any vector of the result's kind; the same for all operands of a call.
    Any,
    /// `u32`
    Unsigned,
    /// `bool`, or as many of them as the result has components.
    Condition,
    /// This kind and size; size 1 is a scalar.
    Fixed(Kind, u32),
    /// A square matrix.
    Square,
}

/// A built-in function.
pub struct Builtin {
    pub name: &'static str,
    pub operands: &'static [Shape],
    /// The member of the result that is meant.
    pub member: Option<&'static str>,
    /// Where implementations may differ in the last digits.
    pub is_transcendental: bool,
}

const fn exact(name: &'static str, operands: &'static [Shape]) -> Builtin {
    Builtin { name, operands, member: None, is_transcendental: false }
}

const fn about(name: &'static str, operands: &'static [Shape]) -> Builtin {
    Builtin { name, operands, member: None, is_transcendental: true }
}

const fn part(name: &'static str, member: &'static str) -> Builtin {
    Builtin { name, operands: &[Same], member: Some(member), is_transcendental: false }
}

const VEC4F: Shape = Fixed(Kind::F32, 4);
const VEC2F: Shape = Fixed(Kind::F32, 2);
const VEC4I: Shape = Fixed(Kind::I32, 4);
const VEC4U: Shape = Fixed(Kind::U32, 4);

/// A scalar or vector of f32.
pub const FLOAT: &[Builtin] = &[
    exact("abs", &[Same]),
    exact("ceil", &[Same]),
    exact("floor", &[Same]),
    exact("round", &[Same]),
    exact("round", &[Same]),
    exact("trunc", &[Same]),
    exact("fract", &[Same]),
    exact("sign", &[Same]),
    exact("saturate", &[Same]),
    exact("sqrt", &[Same]),
    exact("inverseSqrt", &[Same]),
    exact("degrees", &[Same]),
    exact("radians", &[Same]),
    exact("quantizeToF16", &[Same]),
    exact("min", &[Same, Same]),
    exact("max", &[Same, Same]),
    exact("step", &[Same, Same]),
    exact("clamp", &[Same, Same, Same]),
    exact("mix", &[Same, Same, Same]),
    exact("fma", &[Same, Same, Same]),
    exact("smoothstep", &[Same, Same, Same]),
    exact("ldexp", &[Same, Signed]),
    exact("select", &[Same, Same, Condition]),
    part("modf", "fract"),
    part("modf", "whole"),
    part("frexp", "fract"),
    about("cos", &[Same]),
    about("cosh", &[Same]),
    about("sin", &[Same]),
    about("sinh", &[Same]),
    about("tan", &[Same]),
    about("tanh", &[Same]),
    about("acos", &[Same]),
    about("asin", &[Same]),
    about("atan", &[Same]),
    about("asinh", &[Same]),
    about("acosh", &[Same]),
    about("atanh", &[Same]),
    about("exp", &[Same]),
    about("exp2", &[Same]),
    about("log", &[Same]),
    about("log2", &[Same]),
    about("pow", &[Same, Same]),
    about("atan2", &[Same, Same]),
];

/// A scalar f32.
pub const FLOAT_SCALAR: &[Builtin] = &[
    exact("dot", &[Any, Any]),
    exact("length", &[Any]),
    exact("distance", &[Any, Any]),
    exact("length", &[Float]),
    exact("determinant", &[Square]),
];

/// A vector of f32.
pub const FLOAT_VECTOR: &[Builtin] = &[
    exact("mix", &[Same, Same, Float]),
    exact("normalize", &[Same]),
    exact("faceForward", &[Same, Same, Same]),
    exact("reflect", &[Same, Same]),
    exact("refract", &[Same, Same, Float]),
];

/// Vectors of f32 of one size, by that size.
pub const FLOAT_SIZED: [&[Builtin]; 3] = [
    &[
        exact("unpack2x16snorm", &[Unsigned]),
        exact("unpack2x16unorm", &[Unsigned]),
        exact("unpack2x16float", &[Unsigned]),
    ],
    &[exact("cross", &[Same, Same])],
    &[exact("unpack4x8snorm", &[Unsigned]), exact("unpack4x8unorm", &[Unsigned])],
];

/// A scalar or vector of integers.
pub const INTEGER: &[Builtin] = &[
    exact("abs", &[Same]),
    exact("countOneBits", &[Same]),
    exact("countLeadingZeros", &[Same]),
    exact("countTrailingZeros", &[Same]),
    exact("reverseBits", &[Same]),
    exact("firstLeadingBit", &[Same]),
    exact("firstTrailingBit", &[Same]),
    exact("min", &[Same, Same]),
    exact("max", &[Same, Same]),
    exact("clamp", &[Same, Same, Same]),
    exact("extractBits", &[Same, Unsigned, Unsigned]),
    exact("insertBits", &[Same, Same, Unsigned, Unsigned]),
    exact("select", &[Same, Same, Condition]),
];

/// A scalar integer.
pub const INTEGER_SCALAR: &[Builtin] = &[exact("dot", &[Any, Any])];

/// A scalar i32, without and with floats.
pub const SIGNED_SCALAR: &[Builtin] = &[exact("dot4I8Packed", &[Unsigned, Unsigned])];
pub const SIGNED_OF_FLOAT: &[Builtin] = &[exact("bits_i", &[Fixed(Kind::F32, 1)])];

/// A scalar or vector of i32, without and with floats.
pub const SIGNED: &[Builtin] = &[exact("sign", &[Same])];
pub const FREXP: Builtin =
    Builtin { name: "frexp", operands: &[Shape::Signed], member: Some("exp"), is_transcendental: false };

/// A scalar u32, without and with floats.
pub const UNSIGNED_SCALAR: &[Builtin] = &[
    exact("dot4U8Packed", &[Unsigned, Unsigned]),
    exact("pack4xI8", &[VEC4I]),
    exact("pack4xU8", &[VEC4U]),
    exact("pack4xI8Clamp", &[VEC4I]),
    exact("pack4xU8Clamp", &[VEC4U]),
];
pub const UNSIGNED_OF_FLOAT: &[Builtin] = &[
    exact("pack4x8snorm", &[VEC4F]),
    exact("pack4x8unorm", &[VEC4F]),
    exact("pack2x16snorm", &[VEC2F]),
    exact("pack2x16unorm", &[VEC2F]),
    exact("half_bits", &[VEC2F]),
    exact("bits_u", &[Fixed(Kind::F32, 1)]),
];

/// Vectors of four integers.
pub const VEC4_SIGNED: &[Builtin] = &[exact("unpack4xI8", &[Unsigned])];
pub const VEC4_UNSIGNED: &[Builtin] = &[exact("unpack4xU8", &[Unsigned])];

/// bool, and vectors of it.
pub const BOOL: &[Builtin] = &[exact("select", &[Same, Same, Condition])];
pub const BOOL_SCALAR: &[Builtin] =
    &[exact("all", &[Any]), exact("any", &[Any]), exact("is_nan", &[Fixed(Kind::F32, 1)])];

/// The names of them all.
pub fn names() -> impl Iterator<Item = &'static str> {
    let lists = [
        FLOAT,
        FLOAT_SCALAR,
        FLOAT_VECTOR,
        INTEGER,
        INTEGER_SCALAR,
        SIGNED_SCALAR,
        SIGNED_OF_FLOAT,
        SIGNED,
        UNSIGNED_SCALAR,
        UNSIGNED_OF_FLOAT,
        VEC4_SIGNED,
        VEC4_UNSIGNED,
        BOOL,
        BOOL_SCALAR,
    ];
    lists.into_iter().chain(FLOAT_SIZED).flatten().map(|builtin| builtin.name)
}

/// Those whose constant operands the front may refuse.
pub const PARTICULAR: [&str; 5] = ["clamp", "extractBits", "insertBits", "ldexp", "smoothstep"];

/// How much of floating point is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Floats {
    /// No f32 at all: every backend gives the same bits.
    None,
    /// What the contract defines bit for bit between the CPU and CUDA.
    Exact,
    /// The transcendental functions too.
    All,
}

/// One of the functions that give `ty`, and its operands' types.
pub fn pick(ty: &Type, floats: Floats, random: &mut Random) -> Option<(&'static Builtin, Vec<Type>)> {
    const NONE: &[Builtin] = &[];
    let kind = ty.kind()?;
    let is_scalar = matches!(ty, Type::Scalar(_));
    let has_floats = floats > Floats::None;
    let when = |is: bool, list: &'static [Builtin]| if is { list } else { NONE };
    let lists: [&'static [Builtin]; 5] = match *ty {
        Type::Scalar(Kind::F32) => [FLOAT, FLOAT_SCALAR, NONE, NONE, NONE],
        Type::Vector(Kind::F32, size) => [FLOAT, FLOAT_VECTOR, FLOAT_SIZED[size as usize - 2], NONE, NONE],
        Type::Scalar(Kind::Bool) => [BOOL, &BOOL_SCALAR[..if has_floats { 3 } else { 2 }], NONE, NONE, NONE],
        Type::Vector(Kind::Bool, _) => [BOOL, NONE, NONE, NONE, NONE],
        Type::Scalar(Kind::I32) => {
            [INTEGER, INTEGER_SCALAR, SIGNED, SIGNED_SCALAR, when(has_floats, SIGNED_OF_FLOAT)]
        }
        Type::Scalar(Kind::U32) => {
            [INTEGER, INTEGER_SCALAR, UNSIGNED_SCALAR, when(has_floats, UNSIGNED_OF_FLOAT), NONE]
        }
        Type::Vector(Kind::I32, size) => [INTEGER, SIGNED, when(size == 4, VEC4_SIGNED), NONE, NONE],
        Type::Vector(Kind::U32, size) => [INTEGER, when(size == 4, VEC4_UNSIGNED), NONE, NONE, NONE],
        _ => return None,
    };
    // The first list is long; what only this type has comes up often enough by itself.
    let special = lists[1..].iter().any(|list| !list.is_empty()) && random.chance(1, 4);
    let lists = if special { &lists[1..] } else { &lists[..] };
    let mut number = random.below(lists.iter().map(|list| list.len() as u32).sum()) as usize;
    let mut builtin = lists.iter().find_map(|list| match list.get(number) {
        Some(found) => Some(found),
        None => {
            number -= list.len();
            None
        }
    })?;
    if kind == Kind::I32 && has_floats && random.chance(1, 20) {
        return Some((&FREXP, vec![ty.with_kind(Kind::F32)]));
    }
    if builtin.is_transcendental && floats < Floats::All {
        builtin = &FLOAT[0];
    }
    let any = random.between(2, 4);
    let square = random.between(2, 4);
    let per_component = random.chance(1, 2) && !is_scalar;
    let operand = |shape: &Shape| match *shape {
        Same => ty.clone(),
        Signed => ty.with_kind(Kind::I32),
        Float => Type::Scalar(Kind::F32),
        Any => Type::Vector(kind, any),
        Unsigned => Type::Scalar(Kind::U32),
        Condition if per_component => ty.with_kind(Kind::Bool),
        Condition => Type::Scalar(Kind::Bool),
        Fixed(kind, 1) => Type::Scalar(kind),
        Fixed(kind, size) => Type::Vector(kind, size),
        Square => Type::Matrix(square, square),
    };
    Some((builtin, builtin.operands.iter().map(operand).collect()))
}
