//! WGSL's vectors as Rust types: plain fields, 4-byte alignment.
//!
//! WGSL aligns `vec2` to 8 bytes, `vec3` and `vec4` to 16; these types do not, so that no struct made of them has
//! hidden padding bytes. [`message!`](crate::message!) checks that every vector lies where WGSL expects it and
//! says which padding field is missing.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

macro_rules! vector {
    ($(#[$attr:meta])* $name:ident, $len:literal, $($field:ident $doc:literal),+) => {
        $(#[$attr])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub struct $name<T = f32> {
            $(#[doc = $doc] pub $field: T,)+
        }

        impl<T> $name<T> {
            /// A vector of these components.
            pub const fn new($($field: T),+) -> Self {
                Self { $($field),+ }
            }
        }

        impl<T> From<[T; $len]> for $name<T> {
            fn from([$($field),+]: [T; $len]) -> Self {
                Self { $($field),+ }
            }
        }

        impl<T> From<$name<T>> for [T; $len] {
            fn from(vector: $name<T>) -> Self {
                [$(vector.$field),+]
            }
        }

        // SAFETY: every component may be zero.
        unsafe impl<T: Zeroable> Zeroable for $name<T> {}
        // SAFETY: `repr(C)` with components of one plain type: no padding, every bit pattern is valid.
        unsafe impl<T: Pod> Pod for $name<T> {}
    };
}

vector! {
    /// WGSL's `vec2<T>`: 8 bytes, at a multiple of 8 in a message; `T` is `f32`, `i32` or `u32`.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::Vec2;
    ///
    /// let position: Vec2 = Vec2::new(1.0, 2.0);
    /// assert_eq!(position, [1.0, 2.0].into());
    /// ```
    Vec2, 2, x "First component.", y "Second component."
}

vector! {
    /// WGSL's `vec3<T>`: 12 bytes, at a multiple of 16 in a message; `T` is `f32`, `i32` or `u32`.
    ///
    /// In WGSL the elements of an array of `vec3` are 16 bytes apart, in Rust 12, so `[Vec3; N]` cannot be a
    /// field of a message; `[Vec4; N]` can.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Vec3, message};
    ///
    /// message! { pub struct Body { pub position: Vec3, pub mass: f32, pub cell: Vec3<i32>, _pad: u32 } }
    ///
    /// let body = Body { position: Vec3::new(0.0, 1.0, 0.0), mass: 2.0, ..Body::default() };
    /// assert_eq!(<[f32; 3]>::from(body.position), [0.0, 1.0, 0.0]);
    /// ```
    Vec3, 3, x "First component.", y "Second component.", z "Third component."
}

vector! {
    /// WGSL's `vec4<T>`: 16 bytes, at a multiple of 16 in a message; `T` is `f32`, `i32` or `u32`.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::Vec4;
    ///
    /// let color = Vec4::from([255_u32, 128, 0, 255]);
    /// assert_eq!(color.w, 255);
    /// ```
    Vec4, 4, x "First component.", y "Second component.", z "Third component.", w "Fourth component."
}
