//! Bad input: each refusal with its exact words.

mod buffers;
mod defined;
mod faults;
mod lifecycle;
mod links;
mod settings;
mod source;

use ringwork::{Error, Handle, Message, Result, RingKernel, Runtime, SendError, message};
use std::fmt::Debug;

message! {
    /// Two numbers.
    pub struct Ask { pub a: u32, pub b: f32 }

    /// One number.
    pub struct Reply { pub r: u32 }

    /// A sum of numbers.
    pub struct Total { pub sum: u32 }

    /// A number for an instance.
    pub struct Deposit { pub to: u32, pub amount: u32 }
}

/// A handler that gives a number back.
pub const ECHO: &str = "fn on_message(m: Reply) -> Reply { return m; }";
/// A handler that keeps a sum.
pub const SUM: &str = "fn on_message(m: Reply, s: ptr<function, Total>) -> Total {
    (*s).sum += m.r;
    return *s;
}";

/// Compares an error's predicate and its whole text.
#[track_caller]
pub fn refused<T: Debug>(result: Result<T>, is: fn(&Error) -> bool, wanted: &str) {
    let error = result.expect_err("this should be an error");
    assert_eq!(error.to_string(), wanted);
    assert!(is(&error), "another kind of error: {error:?}");
}

/// Compares the error of a launch.
#[track_caller]
pub fn launch_refused<In: Message, Out: Message>(
    kernel: RingKernel<In, Out>,
    is: fn(&Error) -> bool,
    wanted: &str,
) {
    refused(super::common::runtime().launch(kernel), is, wanted);
}

/// Compares the error of a launch in this runtime.
#[track_caller]
pub fn launch_refused_by<In: Message, Out: Message>(
    runtime: &Runtime,
    kernel: RingKernel<In, Out>,
    is: fn(&Error) -> bool,
    wanted: &str,
) {
    refused(runtime.launch(kernel), is, wanted);
}

/// Compares the error of a send, and what its message came back as.
#[track_caller]
pub fn send_refused<T: Clone + PartialEq + Debug>(
    result: Result<(), SendError<T>>,
    message: Option<T>,
    is: fn(&Error) -> bool,
    wanted: &str,
) {
    let error = result.expect_err("this should be an error");
    assert_eq!(error.to_string(), wanted);
    let kind = Error::from(error.clone());
    assert_eq!(kind.to_string(), wanted);
    assert!(is(&kind), "another kind of error: {error:?}");
    assert_eq!(error.into_message(), message);
}

/// A running kernel with this WGSL handler.
#[track_caller]
pub fn active<In: Message, Out: Message>(runtime: &Runtime, kernel: RingKernel<In, Out>) -> Handle<In, Out> {
    let handle = runtime.launch(kernel).expect("a good kernel");
    handle.activate().expect("a launched kernel");
    handle
}
