//! Ringwork: GPU-native actors.

#![deny(missing_docs)]

extern crate self as ringwork;

mod actor;
mod backend;
mod compile;
mod compute;
mod error;
mod kernel;
mod message;
mod sync;
mod wire;

pub use actor::{
    DeadLetter, DeadLetterCounts, DeadLetterReason, Handle, KernelState, Latency, Options, Output, Pending,
    Replies, Runtime, RuntimeBuilder, Snapshot, Telemetry, Termination,
};
pub use backend::{BackendKind, Capabilities, Execution};
pub use compute::UnifiedBuffer;
pub use error::{Error, Result, SendError, SendTimeoutError, TrySendError};
pub use kernel::{Backpressure, Context, RestartPolicy, RestartState, RingKernel};
#[doc(hidden)]
pub use message::__private;
pub use message::{
    DeviceMessage, Envelope, Field, FieldKind, Layout, Message, Priority, Scalar, Vec2, Vec3, Vec4,
};
pub use uuid::Uuid;
