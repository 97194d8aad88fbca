//! C++ types for WGSL's, with WGSL's layout.

use super::text::Text;
use crate::compile::shape;
use naga::proc::Layouter;
use naga::{ArraySize, Handle, Literal, Module, Scalar, ScalarKind, Type, TypeInner};

/// Names and layouts of a module's types.
pub(super) struct Types<'a> {
    pub module: &'a Module,
    layouter: Layouter,
}

/// What one thing is called in C++: `prefix` and the number make it unique, the name is for whoever reads it.
pub(super) fn identifier(prefix: char, number: usize, name: Option<&str>) -> String {
    let name = name.unwrap_or_default().chars();
    let name: String = name.map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("{prefix}{number}_{name}")
}

impl<'a> Types<'a> {
    pub fn new(module: &'a Module) -> Self {
        let mut layouter = Layouter::default();
        layouter.update(module.to_ctx()).expect("lowering laid the same types out");
        Self { module, layouter }
    }

    pub fn inner(&self, ty: Handle<Type>) -> &'a TypeInner {
        &self.module.types[ty].inner
    }

    /// Bytes of a value.
    pub fn size(&self, ty: Handle<Type>) -> u32 {
        self.layouter[ty].size
    }

    pub fn name(&self, ty: Handle<Type>) -> String {
        let declared = &self.module.types[ty];
        match declared.inner {
            TypeInner::Struct { .. } => identifier('T', ty.index(), declared.name.as_deref()),
            ref inner => self.inner_name(inner),
        }
    }

    /// The name of a type that is no struct.
    pub fn inner_name(&self, inner: &TypeInner) -> String {
        match *inner {
            TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => scalar_name(scalar).to_owned(),
            TypeInner::Vector { size, scalar } => {
                format!("RtVector<{}, {}u>", scalar_name(scalar), size as u32)
            }
            TypeInner::Matrix { columns, rows, .. } => {
                format!("RtMatrix<{}u, {}u>", columns as u32, rows as u32)
            }
            TypeInner::Array { base, size: ArraySize::Constant(count), stride } => {
                format!("RtArray<{}, {count}u, {stride}u>", self.name(base))
            }
            // The last member of a buffer's struct: one element is written there, and more follow.
            TypeInner::Array { base, stride, .. } => format!("RtArray<{}, 1u, {stride}u>", self.name(base)),
            _ => unreachable!("refused by the front: no value of a handler has this type"),
        }
    }

    /// The type of a table's elements with what lies between them.
    pub fn slot_name(&self, table: Handle<Type>) -> String {
        match *self.inner(table) {
            TypeInner::Array { base, stride, .. } => format!("RtSlot<{}, {stride}u>", self.name(base)),
            _ => unreachable!("the contract: a table is an array"),
        }
    }

    pub fn member(&self, ty: Handle<Type>, index: u32) -> String {
        match *self.inner(ty) {
            TypeInner::Struct { ref members, .. } => {
                identifier('m', index as usize, members[index as usize].name.as_deref())
            }
            _ => unreachable!("validated: only structs have members"),
        }
    }

    /// Is there a table inside, which no value may have?
    fn is_unsized(&self, ty: Handle<Type>) -> bool {
        match *self.inner(ty) {
            TypeInner::Array { base, size, .. } => {
                !matches!(size, ArraySize::Constant(_)) || self.is_unsized(base)
            }
            TypeInner::Struct { ref members, .. } => members.iter().any(|member| self.is_unsized(member.ty)),
            _ => false,
        }
    }

    /// Is this what `modf`, `frexp` or an atomic exchange gives? It is never in memory, and naga lays it out as no memory
    /// is.
    fn is_result(&self, ty: Handle<Type>) -> bool {
        self.module.special_types.predeclared_types.values().any(|predeclared| *predeclared == ty)
    }

    /// Are there bytes in a value that no component has?
    pub fn has_padding(&self, ty: Handle<Type>) -> bool {
        shape::words(self.module, self.inner(ty)) * 4 < self.layouter[ty].size
    }

    /// Declares every struct, and asserts that C++ lays it out as naga does.
    pub fn declare(&self, text: &mut Text) {
        for (handle, ty) in self.module.types.iter() {
            let TypeInner::Struct { ref members, span: ref size } = ty.inner else { continue };
            let is_unsized = self.is_unsized(handle);
            let place = self.module.types.get_span(handle);
            let name = self.name(handle);
            text.begin(place);
            if self.is_result(handle) {
                text.own(format!("struct {name} {{"));
                for (member, index) in members.iter().zip(0..) {
                    text.own(format!("    {} {};", self.name(member.ty), self.member(handle, index)));
                }
                text.own("};");
                continue;
            }
            text.line(
                place,
                format!("struct alignas({}) {name} {{", self.layouter[handle].alignment.round_up(1)),
            );
            for ((member, offset), index) in members.iter().zip(self.gaps(handle)).zip(0..) {
                if offset > 0 {
                    text.line(place, format!("    unsigned char padding{index}[{offset}];"));
                }
                text.line(place, format!("    {} {};", self.name(member.ty), self.member(handle, index)));
            }
            // C++ would add this too, but for what `@align` alone asks for.
            let end = members.last().map_or(0, |last| last.offset + self.size(last.ty));
            if is_unsized {
                // It is behind a pointer only, and as long as the buffer.
                text.line(place, "};");
                continue;
            }
            if *size > end {
                text.line(place, format!("    unsigned char padding[{}];", size - end));
            }
            text.line(place, "};");
            text.line(place, format!("static_assert(sizeof({name}) == {size}, \"size\");"));
            for (member, index) in members.iter().zip(0..) {
                let (member_name, offset) = (self.member(handle, index), member.offset);
                text.line(place, assert_offset(&name, &member_name, offset));
            }
            if self.has_padding(handle) {
                self.define_store(handle, members, text);
            }
        }
    }

    /// Defines how a struct is stored to a table whose padding stays as it is.
    fn define_store(&self, ty: Handle<Type>, members: &[naga::StructMember], text: &mut Text) {
        let name = self.name(ty);
        text.own(format!("RT_SMALL void rt_store({name}& to, const {name}& from) {{"));
        for (member, index) in members.iter().zip(0..) {
            let member_name = self.member(ty, index);
            text.own(if self.has_padding(member.ty) {
                format!("    rt_store(to.{member_name}, from.{member_name});")
            } else {
                format!("    to.{member_name} = from.{member_name};")
            });
        }
        text.own("}");
    }

    /// For each member of a struct, the bytes between it and the one before it.
    fn gaps(&self, ty: Handle<Type>) -> Vec<u32> {
        let TypeInner::Struct { ref members, .. } = *self.inner(ty) else {
            unreachable!("asked for structs only")
        };
        let mut end = 0;
        let gap = |member: &naga::StructMember| {
            let gap = member.offset - end;
            end = member.offset + self.size(member.ty);
            gap
        };
        members.iter().map(gap).collect()
    }

    /// A value made of its components; those of a vector are scalars.
    pub fn compose(&self, ty: Handle<Type>, components: &[String]) -> String {
        let name = self.name(ty);
        match *self.inner(ty) {
            TypeInner::Struct { .. } => {
                let with_gaps = components.iter().zip(self.gaps(ty)).map(|(component, gap)| {
                    let padding = if gap > 0 { "{}, " } else { "" };
                    format!("{padding}{component}")
                });
                format!("{name}{{{}}}", with_gaps.collect::<Vec<_>>().join(", "))
            }
            TypeInner::Vector { .. } => format!("{name}{{{{{}}}}}", components.join(", ")),
            _ => {
                let slots: Vec<_> = components.iter().map(|component| format!("{{{component}}}")).collect();
                format!("{name}{{{{{}}}}}", slots.join(", "))
            }
        }
    }
}

pub(super) fn assert_offset(ty: &str, member: &str, offset: u32) -> String {
    format!("static_assert(__builtin_offsetof({ty}, {member}) == {offset}, \"offset\");")
}

pub(super) fn scalar_name(scalar: Scalar) -> &'static str {
    match scalar.kind {
        ScalarKind::Bool => "bool",
        ScalarKind::Sint => "int",
        ScalarKind::Uint => "unsigned",
        _ => "float",
    }
}

pub(super) fn literal(literal: Literal) -> String {
    match literal {
        Literal::F32(value) => float_literal(value),
        Literal::U32(value) => format!("{value}u"),
        Literal::I32(i32::MIN) => "(-2147483647 - 1)".to_owned(),
        Literal::I32(value) => value.to_string(),
        Literal::Bool(value) => value.to_string(),
        _ => unreachable!("refused by the front: only 32-bit scalars and bool"),
    }
}

/// A float to its last bit, in hexadecimal but for small whole numbers.
fn float_literal(value: f32) -> String {
    if value.fract() == 0.0 && value.abs() < 1e6 {
        return format!("{value:?}f");
    }
    let bits = value.to_bits();
    let sign = if value.is_sign_negative() { "-" } else { "" };
    let fraction = bits & 0x7f_ffff;
    match (bits >> 23) & 0xff {
        0 => format!("{sign}0x{fraction:x}p-149f"),
        255 => format!("rt_float(0x{bits:x}u)"),
        exponent => format!("{sign}0x1.{:06x}p{}f", fraction << 1, exponent as i32 - 127),
    }
}
