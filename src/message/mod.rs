//! Messages: what may travel, how it is laid out, how it is named.
//!
//! [`Message`] is anything serde can carry (host kernels); [`DeviceMessage`] is plain data with a layout that WGSL
//! shares (device and native kernels), made by [`message!`](crate::message!).

mod check;
mod envelope;
mod field;
mod id;
mod layout;
mod macros;
#[cfg(test)]
mod tests;
mod vector;

pub use envelope::{Envelope, Priority};
pub(crate) use id::{IdSource, Token, TokenPrefix};
pub use layout::{Field, FieldKind, Layout, Scalar};
#[doc(hidden)]
pub use macros::__private;
pub use vector::{Vec2, Vec3, Vec4};

use serde::{Serialize, de::DeserializeOwned};

/// Anything a host kernel can take or return: any owned serde type that may cross threads.
///
/// Implemented for every such type; there is nothing to write. Between two threads of one process a message moves
/// as it is; it is encoded (postcard) only where bytes are needed, as in a dead letter.
pub trait Message: Serialize + DeserializeOwned + Send + 'static {}
impl<T: Serialize + DeserializeOwned + Send + 'static> Message for T {}

/// Plain data that lies in memory as WGSL lays it out; implemented by [`message!`](crate::message!).
///
/// # Example
///
/// ```
/// use ringwork::{DeviceMessage, Vec2, message};
///
/// message! { pub struct Hit { pub at: Vec2, pub force: f32, pub target_id: u32 } }
///
/// assert_eq!(Hit::LAYOUT.size, 16);
/// assert_eq!(Hit::LAYOUT.align, 8);
/// ```
///
/// The unit type is the empty message: a kernel with `Out = ()` does not reply, one with state `()` has none.
///
/// # Safety
///
/// [`LAYOUT`](Self::LAYOUT) must describe the type exactly: name, size, and each field's offset and type, by
/// WGSL's rules for the storage address space; every byte is covered by a field or by explicit padding fields.
pub unsafe trait DeviceMessage: bytemuck::Pod + Message {
    /// The layout.
    const LAYOUT: &'static Layout;
}

// SAFETY: the unit type has no bytes, and its layout says so.
unsafe impl DeviceMessage for () {
    const LAYOUT: &'static Layout = &Layout { name: "", size: 0, align: 1, fields: &[] };
}
