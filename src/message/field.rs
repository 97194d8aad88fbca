//! Which Rust types may be fields of a message, and what they are in WGSL.

use super::layout::{FieldKind, Scalar};
use super::vector::{Vec2, Vec3, Vec4};

/// A type that WGSL and Rust share; implemented here and by `message!`, for nobody else.
///
/// # Safety
///
/// [`KIND`](Self::KIND) describes the type. The type is `Copy` data aligned to 4 bytes, with no padding and no
/// pointer, and every bit pattern is a value of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a field of a message",
    label = "WGSL has no such type in device memory",
    note = "fields are f32, i32, u32, Vec2, Vec3, Vec4, arrays `[T; N]` of these, and `message!` structs; \
            for a bool or a small integer use u32"
)]
pub unsafe trait FieldType: Copy + Send + Sync + 'static {
    /// The type in WGSL.
    const KIND: FieldKind;
}

macro_rules! field_types {
    ($($scalar:ident $variant:ident),+) => { $(
        // SAFETY: a 4-byte number.
        unsafe impl FieldType for $scalar {
            const KIND: FieldKind = FieldKind::Scalar(Scalar::$variant);
        }
        // SAFETY: 2 numbers, `repr(C)`.
        unsafe impl FieldType for Vec2<$scalar> {
            const KIND: FieldKind = FieldKind::Vector(Scalar::$variant, 2);
        }
        // SAFETY: 3 numbers, `repr(C)`.
        unsafe impl FieldType for Vec3<$scalar> {
            const KIND: FieldKind = FieldKind::Vector(Scalar::$variant, 3);
        }
        // SAFETY: 4 numbers, `repr(C)`.
        unsafe impl FieldType for Vec4<$scalar> {
            const KIND: FieldKind = FieldKind::Vector(Scalar::$variant, 4);
        }
    )+ };
}
field_types!(f32 F32, i32 I32, u32 U32);

// SAFETY: an array adds no bytes to those of its elements.
unsafe impl<T: FieldType, const N: usize> FieldType for [T; N] {
    const KIND: FieldKind = {
        assert!(N > 0, "WGSL has no array of length 0: leave the field out");
        assert!(size_of::<[T; N]>() < 1 << 30, "an array in a message must be smaller than 1 GiB");
        FieldKind::Array { element: &T::KIND, len: N as u32, stride: T::KIND.stride() }
    };
}
