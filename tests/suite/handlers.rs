//! Handlers end to end: every shape, tables, and realistic handlers against twins in Rust, bit for bit.

mod engine;
mod realistic;
mod shapes;
mod tables;
mod types;

use ringwork::{Handle, Message, RingKernel, Runtime};

/// Launches and activates.
#[track_caller]
pub fn started<In: Message, Out: Message>(runtime: &Runtime, kernel: RingKernel<In, Out>) -> Handle<In, Out> {
    let handle = runtime.launch(kernel).unwrap_or_else(|error| panic!("{error}"));
    handle.activate().unwrap();
    handle
}

/// A small generator, so that runs repeat.
pub struct Random(pub u32);

impl Random {
    /// The next 32 bits.
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Below this.
    pub fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }

    /// Between -1 and 1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 8) as f32 / 8_388_608.0 - 1.0
    }
}
