//! What the fuzz targets share: a kernel of fixed types for any handler, and one series of messages through it.

use ringwork::{Backpressure, Error, Handle, RestartPolicy, RestartState, RingKernel, Runtime, message};
use std::sync::OnceLock;
use std::time::Duration;

message! {
    pub struct In { pub a: [u32; 8] }

    pub struct Out { pub r: [u32; 8] }

    pub struct State { pub n: u32, pub sum: f32, pub kept: [i32; 4] }

    pub struct Alert { pub code: u32, pub level: f32 }
}

/// Longer than anything takes that keeps its loop budget, even under a sanitizer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Enough for a handler's loops, little enough that an endless one is over at once.
const LOOP_BUDGET: u32 = 1000;

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("the CPU is always there"))
}

/// Launches a handler with what its text seems to ask for: the state `State`, the output `alerts`, the tables `words`
/// (of u32), `cells` (of 16 bytes) and `counts` (of u32, for atomics).
pub fn launch(text: &str) -> Result<Handle<In, Out>, Error> {
    let runtime = runtime();
    let mut kernel = RingKernel::<In, Out>::wgsl("fuzzed", text).loop_budget(LOOP_BUDGET);
    let policy =
        RestartPolicy::OneForOne { max: u32::MAX, within: Duration::from_secs(1), state: RestartState::Current };
    kernel = kernel.restart(policy).output_capacity(64);
    if text.contains("State") {
        kernel = kernel.initial_state(State::default());
    }
    if text.contains("emit_alerts") {
        kernel = kernel.output_many::<Alert>("alerts", 2).output_backpressure(Backpressure::DropOldest);
    }
    if text.contains("words") {
        kernel = kernel.bind("words", &runtime.buffer(&[1u32, 2, 3, 4, 5])?);
    }
    if text.contains("cells") {
        kernel = kernel.bind("cells", &runtime.buffer(&[[1.0f32, 2.0, 3.0, 4.0]; 3])?);
    }
    if text.contains("counts") {
        kernel = kernel.bind("counts", &runtime.buffer(&[0u32; 3])?);
    }
    runtime.launch(kernel)
}

/// Asks a kernel once for each message, then ends it. A message may fault, but nothing may hang.
///
/// # Panics
///
/// If an answer does not come in time, or if the kernel does not end.
pub fn ask_all(kernel: &Handle<In, Out>, messages: &[In]) {
    kernel.activate().expect("it was just launched");
    for message in messages {
        if let Err(error) = kernel.ask(*message, PATIENCE) {
            assert!(!error.is_timed_out(), "a handler that keeps its budget did not end: {error}");
        }
    }
    kernel.terminate(PATIENCE).expect("nothing runs any more");
}

/// Messages from any bytes; what is left at the end counts with zeros behind it.
pub fn messages(bytes: &[u8]) -> Vec<In> {
    let message = |chunk: &[u8]| {
        let mut message = In::default();
        bytemuck::bytes_of_mut(&mut message)[..chunk.len()].copy_from_slice(chunk);
        message
    };
    bytes.chunks(size_of::<In>()).take(64).map(message).collect()
}
