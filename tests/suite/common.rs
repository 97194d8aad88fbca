//! What the tests share: messages, handlers, runtimes.

#![allow(dead_code)]

use ringwork::{Runtime, message};
use std::time::Duration;

message! {
    /// Up to eight numbers to add.
    pub struct Request { pub len: u32, pub values: [f32; 8] }
}
message! {
    /// Their sum.
    pub struct Response { pub result: f32 }
}
message! {
    /// A number of a sender.
    pub struct Numbered { pub sender: u32, pub number: u32 }
}

/// Long enough for anything that ends at all, on a machine that is busy.
pub const LONG: Duration = Duration::from_secs(20);

/// A runtime on the backend under test.
pub fn runtime() -> Runtime {
    Runtime::new().expect("the backend under test is there")
}
