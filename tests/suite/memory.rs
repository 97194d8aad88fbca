//! Memory: where the values of a buffer are, who may have it, pools, and several accelerators.

mod accelerators;
mod pools;
mod sharing;
mod states;
mod views;

use crate::common::LONG;
use ringwork::{Handle, RingKernel, Runtime, UnifiedBuffer};

/// Adds one to each element.
pub const BUMP: &str = "@group(1) @binding(0) var<storage, read_write> cells: array<u32>;
    fn on_message() { for (var i = 0u; i < arrayLength(&cells); i++) { cells[i] += 1u; } }";
/// Looks at the first element.
pub const LOOK: &str = "@group(1) @binding(0) var<storage, read> cells: array<u32>;
    fn on_message() { if cells[0] == 4294967295u { return; } }";

/// A kernel that bumps the buffer, active.
#[track_caller]
pub fn bumping(runtime: &Runtime, name: &str, cells: &UnifiedBuffer<u32>) -> Handle<(), ()> {
    start(runtime, RingKernel::wgsl(name, BUMP).bind("cells", cells))
}

/// A kernel that looks at the buffer, active.
#[track_caller]
pub fn looking(runtime: &Runtime, name: &str, cells: &UnifiedBuffer<u32>) -> Handle<(), ()> {
    start(runtime, RingKernel::wgsl(name, LOOK).bind("cells", cells))
}

#[track_caller]
pub fn start(runtime: &Runtime, kernel: RingKernel<(), ()>) -> Handle<(), ()> {
    let kernel = runtime.launch(kernel).expect("a good kernel");
    kernel.activate().expect("it was just launched");
    kernel
}

/// Bumps the buffer once, with a kernel that is gone afterwards.
pub fn bump(runtime: &Runtime, cells: &UnifiedBuffer<u32>) {
    let kernel = bumping(runtime, "bump", cells);
    kernel.ask((), LONG).expect("the device is there");
    kernel.terminate(LONG).expect("it runs");
}
