//! Where the scalars of a value are in memory.
//!
//! One layout for everything: naga's, which is WGSL's where WGSL has one, and in which a `bool` takes one byte.

use crate::compile::shape;
use cranelift_codegen::ir::{Type, types};
use naga::{Module, Scalar, ScalarKind, TypeInner, VectorSize};

/// A scalar inside a value.
#[derive(Clone, Copy)]
pub(super) struct Leaf {
    pub offset: u32,
    pub ty: Type,
}

/// What holds a scalar.
pub(super) fn machine_type(kind: ScalarKind) -> Type {
    match kind {
        ScalarKind::Float => types::F32,
        ScalarKind::Bool => types::I8,
        _ => types::I32,
    }
}

/// What holds a vector of four numbers.
pub(super) fn vector_type(inner: &TypeInner) -> Type {
    match inner.scalar_kind() {
        Some(ScalarKind::Float) => types::F32X4,
        _ => types::I32X4,
    }
}

/// Bytes of a value.
pub(super) fn size(module: &Module, inner: &TypeInner) -> u32 {
    inner.size(module.to_ctx())
}

/// No byte of it is padding, and none is a `bool`.
pub(super) fn is_dense(module: &Module, inner: &TypeInner) -> bool {
    shape::words(module, inner) * 4 == size(module, inner)
}

/// Every scalar of a value, in the order of [`shape::words`].
pub(super) fn leaves(module: &Module, inner: &TypeInner) -> Vec<Leaf> {
    let mut all = Vec::with_capacity(shape::words(module, inner) as usize);
    collect(module, inner, 0, &mut all);
    all
}

fn collect(module: &Module, inner: &TypeInner, start: u32, all: &mut Vec<Leaf>) {
    let leaf = |scalar: Scalar, offset| Leaf { offset, ty: machine_type(scalar.kind) };
    match *inner {
        TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => all.push(leaf(scalar, start)),
        TypeInner::Vector { size, scalar } => {
            let width = u32::from(scalar.width);
            all.extend((0..u32::from(size)).map(|i| leaf(scalar, start + i * width)));
        }
        TypeInner::Matrix { columns, rows, scalar } => {
            for column in 0..u32::from(columns) {
                let start = start + column * column_stride(rows);
                all.extend((0..u32::from(rows)).map(|i| leaf(scalar, start + i * 4)));
            }
        }
        TypeInner::Array { base, stride, .. } => {
            let base = shape::inner(module, base);
            for i in 0..shape::element(module, inner).count {
                collect(module, base, start + i * stride, all);
            }
        }
        TypeInner::Struct { ref members, .. } => {
            for member in members {
                collect(module, shape::inner(module, member.ty), start + member.offset, all);
            }
        }
        _ => unreachable!("validated: a value is made of scalars"),
    }
}

fn column_stride(rows: VectorSize) -> u32 {
    if rows == VectorSize::Bi { 8 } else { 16 }
}

/// Bytes from one element to the next of what a dynamic index may go into.
pub(super) fn stride(inner: &TypeInner) -> u32 {
    match *inner {
        TypeInner::Vector { scalar, .. } | TypeInner::ValuePointer { scalar, .. } => scalar.width.into(),
        TypeInner::Matrix { rows, .. } => column_stride(rows),
        TypeInner::Array { stride, .. } => stride,
        _ => unreachable!("validated: only vectors, matrices and arrays have elements"),
    }
}

/// Bytes before the part that a constant index names.
pub(super) fn offset(inner: &TypeInner, index: u32) -> u32 {
    match inner {
        TypeInner::Struct { members, .. } => members[index as usize].offset,
        _ => index * stride(inner),
    }
}
