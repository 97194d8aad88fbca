//! One-shot compute: real entry points, against the same in plain Rust.

mod alone;
mod barriers;
mod control;
mod errors;
mod groups;
mod helpers;
mod kept;
mod language;
mod sorting;

use crate::common::runtime;
use ringwork::{ComputeOrchestrator, Runtime};

/// A runtime and an orchestrator of it.
fn both() -> (Runtime, ComputeOrchestrator) {
    let runtime = runtime();
    let orchestrator = runtime.orchestrator();
    (runtime, orchestrator)
}

/// So many workgroups that each of `len` elements has an invocation.
fn groups_for(len: usize, size: usize) -> [u32; 3] {
    [len.div_ceil(size) as u32, 1, 1]
}

/// Numbers that look random, the same each time.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        // Marsaglia's xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }

    /// In `0..1`.
    fn float(&mut self) -> f32 {
        (self.next() >> 8) as f32 / (1u32 << 24) as f32
    }
}

/// Are these the same, as far as floats that a GPU may contract are?
#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let most = tolerance * expected.abs().max(1.0);
        assert!((found - expected).abs() <= most, "at {index}: {found} instead of {expected}");
    }
}
