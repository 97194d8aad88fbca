//! Ringwork: GPU-native actors.

extern crate self as ringwork;

mod compile;
mod error;
mod message;

pub use error::{Error, Result};
#[doc(hidden)]
pub use message::__private;
pub use message::{
    DeviceMessage, Envelope, Field, FieldKind, Layout, Message, Priority, Scalar, Vec2, Vec3, Vec4,
};
pub use uuid::Uuid;
