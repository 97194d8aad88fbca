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

impl Scalar {
    /// The scalar's name in WGSL.
    fn wgsl(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::I32 => "i32",
            Self::U32 => "u32",
        }
    }
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

impl FieldKind {
    /// Bytes the type takes in WGSL memory.
    pub const fn size(&self) -> u32 {
        match self {
            Self::Scalar(_) => 4,
            Self::Vector(_, len) => 4 * *len,
            Self::Array { len, stride, .. } => *len * *stride,
            Self::Struct(layout) => layout.size,
        }
    }

    /// WGSL alignment in bytes: 4, 8 or 16.
    pub const fn align(&self) -> u32 {
        match self {
            Self::Scalar(_) => 4,
            Self::Vector(_, 2) => 8,
            Self::Vector(..) => 16,
            Self::Array { element, .. } => element.align(),
            Self::Struct(layout) => layout.align,
        }
    }

    /// Bytes from one element to the next in a WGSL array of this type.
    pub(crate) const fn stride(&self) -> u32 {
        self.size().next_multiple_of(self.align())
    }

    /// Bytes the type takes in Rust, where vectors are aligned to 4 and elements lie next to each other.
    pub(crate) const fn rust_size(&self) -> u32 {
        match self {
            Self::Array { element, len, .. } => *len * element.rust_size(),
            other => other.size(),
        }
    }

    /// The type as WGSL text.
    pub(crate) fn to_wgsl(self) -> String {
        match self {
            Self::Scalar(scalar) => scalar.wgsl().to_owned(),
            Self::Vector(scalar, len) => format!("vec{len}<{}>", scalar.wgsl()),
            Self::Array { element, len, .. } => format!("array<{}, {len}>", element.to_wgsl()),
            Self::Struct(layout) => layout.name.to_owned(),
        }
    }
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

impl Layout {
    /// The WGSL declaration of this struct alone; those it is made of come from [`structs`](Self::structs).
    pub(crate) fn to_wgsl(self) -> String {
        let mut text = format!("struct {} {{\n", self.name);
        for field in self.fields {
            text += &format!("    {}: {},\n", field.name, field.kind.to_wgsl());
        }
        text + "}\n"
    }

    /// This struct and all that it is made of, each once, what is used before what uses it; none for the unit type.
    ///
    /// Two different structs of one name (from two Rust modules) are both in the list; WGSL cannot have both.
    pub(crate) fn structs(&'static self) -> Vec<&'static Layout> {
        let mut found = Vec::new();
        if !self.fields.is_empty() {
            self.collect(&mut found);
        }
        found
    }

    fn collect(&'static self, found: &mut Vec<&'static Layout>) {
        for field in self.fields {
            let mut kind = field.kind;
            while let FieldKind::Array { element, .. } = kind {
                kind = *element;
            }
            if let FieldKind::Struct(layout) = kind {
                layout.collect(found);
            }
        }
        if !found.contains(&self) {
            found.push(self);
        }
    }
}
