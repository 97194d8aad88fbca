//! How a message lies in memory: one description, compared with naga's field by field.

/// A WGSL scalar, 4 bytes wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// `f32`
    F32,
    /// `i32`
    I32,
    /// `u32`
    U32,
}

/// The type of one field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `f32`, `i32` or `u32`.
    Scalar(Scalar),
    /// `vec2`, `vec3` or `vec4` of a scalar.
    Vector(Scalar, u32),
    /// `array<T, len>`.
    Array {
        /// The elements' type.
        element: &'static FieldKind,
        /// How many.
        len: u32,
        /// Bytes from one element to the next.
        stride: u32,
    },
    /// Another message.
    Struct(&'static Layout),
}

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name, the same in Rust and WGSL.
    pub name: &'static str,
    /// Bytes from the start of the message.
    pub offset: u32,
    /// Its type.
    pub kind: FieldKind,
}

/// The layout of a message, the same in Rust and in WGSL memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The type's name, the same in Rust and WGSL. Empty for the unit type.
    pub name: &'static str,
    /// Bytes, a multiple of `align`. 0 for the unit type.
    pub size: u32,
    /// WGSL alignment in bytes: 4, 8 or 16 (1 for the unit type).
    pub align: u32,
    /// In order of declaration.
    pub fields: &'static [Field],
}
