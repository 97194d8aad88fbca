//! Six handlers as people write them, each with a twin in Rust that does the same, bit for bit.
//!
//! The suite compares them through the public API, the unit tests engine by engine, and the benchmarks take their
//! times. A twin keeps WGSL's rules: indices are clamped, integers wrap.

// Each of those who include this uses a part of it.
#![allow(dead_code, unused_imports)]

mod fir;
mod fraud;
mod k_means;
mod monte_carlo;
mod order_book;
mod page_rank;

pub use fir::{Fir, Line, Value};
pub use fraud::{Alert, Fraud, History, Payment};
pub use k_means::{GATHER, Gathered, KMeans, Nearest, Sample, gather};
pub use monte_carlo::{Hits, MonteCarlo, Trial};
pub use order_book::{Book, Order, OrderBook, Placed, Trade};
pub use page_rank::{Graph, PageRank, Rank, Vertex};

use ringwork::DeviceMessage;
use std::fmt::Debug;

/// A handler and its twin.
pub trait Realistic: 'static {
    /// Names the kernel.
    const NAME: &'static str;
    /// The handler in WGSL.
    const TEXT: &'static str;
    /// Name of the output and the most values per message, if the handler emits.
    const OUTPUT: Option<(&'static str, u32)> = None;
    /// One actor for each instance, by this field of the message.
    const INSTANCES: Option<(u32, &'static str)> = None;

    type In: DeviceMessage + Debug;
    type Out: DeviceMessage + Debug + PartialEq;
    /// The unit type if there is no state.
    type State: DeviceMessage + Debug + Default + PartialEq;
    type Emitted: DeviceMessage + Debug + Clone + PartialEq;
    /// What the tables hold.
    type Tables: Send + Sync;

    /// A series of messages; longer ones begin as shorter ones do.
    fn messages(count: usize) -> Vec<Self::In>;

    /// The tables before the first message.
    fn tables() -> Self::Tables;

    /// The tables as buffers have them.
    fn bound(tables: &Self::Tables) -> Vec<Table>;

    /// The instance that a message goes to.
    fn instance(_: &Self::In) -> usize {
        0
    }

    /// The handler in Rust.
    fn twin(
        message: Self::In,
        state: &mut Self::State,
        tables: &Self::Tables,
        emitted: &mut Vec<Self::Emitted>,
    ) -> Self::Out;
}

/// The contents of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub name: &'static str,
    /// Words of an element.
    pub width: usize,
    pub words: Vec<u32>,
}

impl Table {
    fn new<T: bytemuck::Pod>(name: &'static str, elements: &[T]) -> Self {
        Self { name, width: size_of::<T>() / 4, words: bytemuck::cast_slice(elements).to_vec() }
    }
}

/// An element of a table as WGSL takes it: an index past the end is the last one's.
fn at<T: Copy>(table: &[T], index: u32) -> T {
    table[(index as usize).min(table.len() - 1)]
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
