//! Handlers end to end: every shape, tables, and realistic handlers against twins in Rust, bit for bit.

mod engine;
mod realistic;
mod rounds;
mod shapes;
mod tables;
mod twins;
mod types;

pub use crate::realistic::Random;
use ringwork::{Handle, Message, RingKernel, Runtime};

/// Launches and activates.
#[track_caller]
pub fn started<In: Message, Out: Message>(runtime: &Runtime, kernel: RingKernel<In, Out>) -> Handle<In, Out> {
    let handle = runtime.launch(kernel).unwrap_or_else(|error| panic!("{error}"));
    handle.activate().unwrap();
    handle
}
