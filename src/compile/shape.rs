//! How many words a value of a type takes, where its components are in a table, which is WGSL's memory layout, and what a
//! constant is.

use naga::{
    Arena, ArraySize, Expression as E, Handle, Literal, Module, ScalarKind, StructMember, Type, TypeInner,
    VectorSize,
};

/// Words of a value: one for each scalar in it. A table of no fixed size has none.
pub(super) fn words(module: &Module, inner: &TypeInner) -> u32 {
    match *inner {
        TypeInner::Vector { size, .. } => size.into(),
        TypeInner::Matrix { columns, rows, .. } => u32::from(columns) * u32::from(rows),
        TypeInner::Array { base, size: ArraySize::Constant(count), .. } => {
            count.get() * words(module, &module.types[base].inner)
        }
        TypeInner::Array { .. } => 0,
        TypeInner::Struct { ref members, .. } => {
            members.iter().map(|m| words(module, &module.types[m.ty].inner)).sum()
        }
        // Scalars, atomics and pointers.
        _ => 1,
    }
}

/// Words from one column of a matrix to the next in WGSL's layout.
fn column_stride(rows: VectorSize) -> u32 {
    if rows == VectorSize::Bi { 2 } else { 4 }
}

/// Has it a `bool` inside? WGSL gives that no layout: it is in no buffer, but in what an invocation keeps of its own.
fn has_bool(module: &Module, inner: &TypeInner) -> bool {
    match *inner {
        TypeInner::Scalar(scalar) | TypeInner::Vector { scalar, .. } => scalar.kind == ScalarKind::Bool,
        TypeInner::Array { base, .. } => has_bool(module, &module.types[base].inner),
        TypeInner::Struct { ref members, .. } => {
            members.iter().any(|m| has_bool(module, &module.types[m.ty].inner))
        }
        _ => false,
    }
}

/// Words that a value takes in a table of the interpreter: as WGSL has it; and where that says nothing, one for each
/// `bool`, for a word is the least that the interpreter writes, and its parts one behind the other.
pub(super) fn table_words(module: &Module, inner: &TypeInner) -> u32 {
    match *inner {
        _ if !has_bool(module, inner) => inner.size(module.to_ctx()) / 4,
        TypeInner::Array { base, size: ArraySize::Constant(count), .. } => {
            count.get() * table_words(module, &module.types[base].inner)
        }
        TypeInner::Struct { ref members, .. } => {
            members.iter().map(|m| table_words(module, &module.types[m.ty].inner)).sum()
        }
        _ => words(module, inner),
    }
}

/// Words from one element of an array to the next in a table.
fn stride_words(module: &Module, base: Handle<Type>, stride: u32) -> u32 {
    let base = &module.types[base].inner;
    if has_bool(module, base) { table_words(module, base) } else { stride / 4 }
}

/// Words before a member of a struct in a table.
fn offset_words(module: &Module, members: &[StructMember], index: usize) -> u32 {
    let inner = |member: &StructMember| &module.types[member.ty].inner;
    if members.iter().any(|member| has_bool(module, inner(member))) {
        members[..index].iter().map(|member| table_words(module, inner(member))).sum()
    } else {
        members[index].offset / 4
    }
}

/// The words of a table that hold a value's components, in the order of [`words`].
pub(super) fn leaves(module: &Module, inner: &TypeInner) -> Box<[u32]> {
    let mut all = Vec::new();
    collect(module, inner, 0, &mut all);
    all.into()
}

fn collect(module: &Module, inner: &TypeInner, start: u32, all: &mut Vec<u32>) {
    match *inner {
        TypeInner::Vector { size, .. } => all.extend((0..u32::from(size)).map(|i| start + i)),
        TypeInner::Matrix { columns, rows, .. } => {
            for column in 0..u32::from(columns) {
                let start = start + column * column_stride(rows);
                all.extend((0..u32::from(rows)).map(|i| start + i));
            }
        }
        TypeInner::Array { base, size: ArraySize::Constant(count), stride } => {
            let stride = stride_words(module, base, stride);
            for i in 0..count.get() {
                collect(module, &module.types[base].inner, start + i * stride, all);
            }
        }
        TypeInner::Array { .. } => {}
        TypeInner::Struct { ref members, .. } => {
            for (index, member) in members.iter().enumerate() {
                let start = start + offset_words(module, members, index);
                collect(module, &module.types[member.ty].inner, start, all);
            }
        }
        _ => all.push(start),
    }
}

/// A component of a type as a value and in a table.
pub(super) struct Part {
    /// Words before it in a value; for an array, vector or matrix, words of one element.
    pub words: u32,
    /// Words before it in a table, or from one element to the next.
    pub layout_words: u32,
    /// How many elements there are; 0 for a table.
    pub count: u32,
}

/// The elements of what a dynamic index may go into.
pub(super) fn element(module: &Module, inner: &TypeInner) -> Part {
    match *inner {
        TypeInner::Vector { size, .. } | TypeInner::ValuePointer { size: Some(size), .. } => {
            Part { words: 1, layout_words: 1, count: size.into() }
        }
        TypeInner::Matrix { columns, rows, .. } => {
            Part { words: rows.into(), layout_words: column_stride(rows), count: columns.into() }
        }
        TypeInner::Array { base, size, stride } => Part {
            words: words(module, &module.types[base].inner),
            layout_words: stride_words(module, base, stride),
            count: match size {
                ArraySize::Constant(count) => count.get(),
                _ => 0,
            },
        },
        _ => unreachable!("validated: only vectors, matrices and arrays have elements"),
    }
}

/// The part of a type that a constant index names; its `words` and `layout_words` are offsets.
pub(super) fn part(module: &Module, inner: &TypeInner, index: u32) -> Part {
    if let TypeInner::Struct { ref members, .. } = *inner {
        let before = &members[..index as usize];
        return Part {
            words: before.iter().map(|m| words(module, &module.types[m.ty].inner)).sum(),
            layout_words: offset_words(module, members, index as usize),
            count: 1,
        };
    }
    let Part { words, layout_words, .. } = element(module, inner);
    Part { words: words * index, layout_words: layout_words * index, count: 1 }
}

/// What has no fixed length: an array, or the last member of a struct. The bytes before it, and of one element.
#[cfg(any(feature = "cuda", feature = "jit"))]
pub(super) fn unsized_part(module: &Module, inner: &TypeInner) -> Option<(u32, u32)> {
    match *inner {
        TypeInner::Array { size: ArraySize::Dynamic, stride, .. } => Some((0, stride)),
        TypeInner::Struct { ref members, .. } => {
            let last = members.last()?;
            let (before, stride) = unsized_part(module, &module.types[last.ty].inner)?;
            Some((last.offset + before, stride))
        }
        _ => None,
    }
}

/// What a pointer points to; other types are themselves.
pub(super) fn pointee<'a>(module: &'a Module, inner: &'a TypeInner) -> &'a TypeInner {
    match inner {
        TypeInner::Pointer { base, .. } => &module.types[*base].inner,
        _ => inner,
    }
}

/// The inner form of a type.
pub(super) fn inner(module: &Module, ty: Handle<Type>) -> &TypeInner {
    &module.types[ty].inner
}

/// Appends the words of a constant expression; `arena` is the module's or a function's.
pub(super) fn constant(module: &Module, arena: &Arena<E>, expression: Handle<E>, value: &mut Vec<u32>) {
    match arena[expression] {
        E::Literal(literal) => value.push(literal_word(literal)),
        E::Constant(handle) => {
            constant(module, &module.global_expressions, module.constants[handle].init, value);
        }
        E::ZeroValue(ty) => {
            let count = words(module, inner(module, ty));
            value.resize(value.len() + count as usize, 0);
        }
        E::Compose { ref components, .. } => {
            components.iter().for_each(|c| constant(module, arena, *c, value));
        }
        E::Splat { size, value: component } => {
            (0..u32::from(size)).for_each(|_| constant(module, arena, component, value));
        }
        _ => unreachable!("validated: constant expressions are evaluated by the front"),
    }
}

fn literal_word(literal: Literal) -> u32 {
    match literal {
        Literal::F32(value) => value.to_bits(),
        Literal::U32(value) => value,
        Literal::I32(value) => value as u32,
        Literal::Bool(value) => value.into(),
        _ => unreachable!("refused by the front: only 32-bit scalars and bool"),
    }
}
