//! Ringwork: GPU-native actors.

extern crate self as ringwork;

mod compile;
mod error;
mod message;

pub use error::{Error, Result};
pub use message::{DeviceMessage, Field, FieldKind, Layout, Message, Scalar};
#[doc(hidden)]
pub use message::__private;
