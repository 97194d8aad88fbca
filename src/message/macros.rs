//! The [`message!`](crate::message!) macro and what its expansion calls.

/// Declares plain structs that lie in memory alike in Rust and in WGSL.
///
/// Each struct becomes `#[repr(C)]` and gets `Clone`, `Copy`, `Debug`, `PartialEq`, `Default` (all zero),
/// bytemuck's `Pod`, serde's `Serialize` and `Deserialize` (its bytes, in the byte order of the machine), and
/// [`DeviceMessage`](crate::DeviceMessage) with a layout that the compiler has compared with WGSL's.
///
/// Fields are `f32`, `i32`, `u32`, [`Vec2`](crate::Vec2), [`Vec3`](crate::Vec3), [`Vec4`](crate::Vec4), arrays
/// `[T; N]` (WGSL's `array<T, N>`), and other `message!` structs. Attributes and documentation stay where they
/// are; derives may be added.
///
/// # Example
///
/// ```
/// use ringwork::{DeviceMessage, Vec3, message};
///
/// message! {
///     /// One sample of a track.
///     pub struct Sample {
///         /// Metres.
///         pub position: Vec3,
///         /// Seconds since the start.
///         pub time: f32,
///     }
///
///     /// Up to 16 samples.
///     pub struct Track {
///         pub len: u32,
///         _pad: [u32; 3],
///         pub samples: [Sample; 16],
///     }
/// }
///
/// let track = Track { len: 1, ..Track::default() };
/// assert_eq!(Track::LAYOUT.size, 16 + 16 * 16);
/// assert_eq!(Track::LAYOUT.fields[2].offset, 16);
/// assert_eq!(track.samples[0].position, Vec3::default());
/// ```
///
/// # Errors
///
/// What WGSL would lay out differently does not compile. WGSL aligns vectors, Rust's padding has to be a field, so
/// that every byte of a message is defined; the error says which field is missing where:
///
/// ```compile_fail,E0080
/// use ringwork::{Vec3, message};
///
/// // field `p` is at byte 4 in Rust but at 16 in WGSL; put `_pad: [u32; 3]` before it
/// message! { pub struct Move { pub id: u32, pub p: Vec3 } }
/// ```
///
/// ```compile_fail,E0080
/// use ringwork::{Vec3, message};
///
/// // the struct `Point` ends at byte 12 in Rust but at 16 in WGSL; put `_pad: u32` at its end
/// message! { pub struct Point { pub p: Vec3 } }
/// ```
///
/// ```compile_fail,E0080
/// use ringwork::{Vec3, message};
///
/// // the elements of field `corners` are 12 bytes apart in Rust but 16 in WGSL; use `Vec4`, …
/// message! { pub struct Corners { pub corners: [Vec3; 4] } }
/// ```
///
/// Types that WGSL does not have in device memory do not compile either, nor do names that it reserves, names that
/// start with `rt_` or `__`, and structs with no field (the empty message is `()`):
///
/// ```compile_fail,E0277
/// // `bool` cannot be a field of a message
/// ringwork::message! { pub struct Switch { pub on: bool } }
/// ```
///
/// ```compile_fail,E0080
/// // field `rt_time` needs another name: names that start with `rt_` are the library's
/// ringwork::message! { pub struct Tick { pub rt_time: u32 } }
/// ```
///
/// ```compile_fail,E0080
/// // field `target` needs another name: it is a reserved word of WGSL
/// ringwork::message! { pub struct Aim { pub target: u32 } }
/// ```
///
/// ```compile_fail,E0080
/// // `Empty` has no fields; the empty message is `()`
/// ringwork::message! { pub struct Empty {} }
/// ```
#[macro_export]
macro_rules! message {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident : $type:ty),* $(,)?
        }
    )*) => { $(
        $(#[$attribute])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq)]
        $visibility struct $name {
            $($(#[$field_attribute])* $field_visibility $field: $type,)*
        }

        impl ::core::default::Default for $name {
            #[inline]
            fn default() -> Self {
                $crate::__private::bytemuck::Zeroable::zeroed()
            }
        }

        // SAFETY: every field is a `FieldType`, for which zero is a value (LAYOUT below does not compile otherwise).
        unsafe impl $crate::__private::bytemuck::Zeroable for $name {}
        // SAFETY: every field is a `FieldType`: plain, aligned to 4, of a size that is a multiple of 4, any bit
        // pattern a value; so `repr(C)` puts no padding between them, and `check` below refuses any other `repr`.
        unsafe impl $crate::__private::bytemuck::Pod for $name {}

        // SAFETY: size and offsets are the compiler's; `check` below compares them with WGSL's rules.
        unsafe impl $crate::DeviceMessage for $name {
            const LAYOUT: &'static $crate::Layout = {
                const FIELDS: &[$crate::Field] = &[$($crate::Field {
                    name: ::core::stringify!($field),
                    offset: ::core::mem::offset_of!($name, $field) as u32,
                    kind: <$type as $crate::__private::FieldType>::KIND,
                }),*];
                &$crate::Layout {
                    name: ::core::stringify!($name),
                    size: ::core::mem::size_of::<$name>() as u32,
                    align: $crate::__private::struct_align(FIELDS),
                    fields: FIELDS,
                }
            };
        }

        const _: () = $crate::__private::check(
            <$name as $crate::DeviceMessage>::LAYOUT,
            ::core::mem::align_of::<$name>(),
        );

        // SAFETY: the struct is Pod, `check` has found it aligned to 4, and KIND is its own layout.
        unsafe impl $crate::__private::FieldType for $name {
            const KIND: $crate::FieldKind = $crate::FieldKind::Struct(<$name as $crate::DeviceMessage>::LAYOUT);
        }

        impl $crate::__private::serde::Serialize for $name {
            fn serialize<S: $crate::__private::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                $crate::__private::serialize(self, serializer)
            }
        }

        impl<'de> $crate::__private::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::__private::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                $crate::__private::deserialize(deserializer)
            }
        }
    )* };
}

/// What the expansion of `message!` names; no part of the API.
#[doc(hidden)]
pub mod __private {
    pub use super::super::check::{check, struct_align};
    pub use super::super::field::FieldType;
    pub use bytemuck;
    pub use serde;

    use bytemuck::Pod;
    use serde::de::{Deserializer, Error, SeqAccess, Visitor};
    use serde::ser::Serializer;
    use std::fmt;
    use std::marker::PhantomData;

    /// Writes a message as its bytes.
    pub fn serialize<T: Pod, S: Serializer>(message: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytemuck::bytes_of(message))
    }

    /// Reads a message from exactly its bytes.
    pub fn deserialize<'de, T: Pod, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_bytes(Bytes(PhantomData))
    }

    struct Bytes<T>(PhantomData<T>);

    impl<'de, T: Pod> Visitor<'de> for Bytes<T> {
        type Value = T;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "{} bytes", size_of::<T>())
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
            if bytes.len() != size_of::<T>() {
                return Err(E::invalid_length(bytes.len(), &self));
            }
            Ok(bytemuck::pod_read_unaligned(bytes))
        }

        /// Text formats such as JSON have no bytes, only lists of numbers.
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
            let mut message = T::zeroed();
            for (i, byte) in bytemuck::bytes_of_mut(&mut message).iter_mut().enumerate() {
                *byte = list.next_element()?.ok_or_else(|| A::Error::invalid_length(i, &self))?;
            }
            if list.next_element::<serde::de::IgnoredAny>()?.is_some() {
                return Err(A::Error::invalid_length(size_of::<T>() + 1, &self));
            }
            Ok(message)
        }
    }
}
