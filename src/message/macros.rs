//! The [`message!`](crate::message!) macro.
#[doc(hidden)]
pub mod __private {}
