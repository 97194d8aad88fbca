//! Adds two large vectors on any backend, checks every element, and says how fast that was.
//!
//! ```text
//! cargo run --release --example vector_add -- [ELEMENTS] [ROUNDS]
//! RINGWORK_BACKEND=wgpu cargo run --release --example vector_add
//! ```
//!
//! Without arguments: 16,777,216 elements, ten rounds. The figure is that of the fastest round: 12 bytes are moved for
//! each element, two numbers read and one written.

use ringwork::{DispatchClock, Runtime};
use std::process::ExitCode;
use std::time::Instant;

const ADD: &str = "
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> sum: array<f32>;
@compute @workgroup_size(256)
fn add(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = id.x + id.y * groups.x * 256u;
    if i < arrayLength(&sum) { sum[i] = a[i] + b[i]; }
}";

/// The largest dispatch: 65,535 workgroups along each of two axes, of which fewer do.
const MOST_ELEMENTS: usize = 1 << 28;

fn argument(
    words: &mut impl Iterator<Item = String>,
    what: &str,
    usual: usize,
    most: usize,
) -> Result<usize, String> {
    let Some(word) = words.next() else { return Ok(usual) };
    let number = word.parse().ok().filter(|number| (1..=most).contains(number));
    number.ok_or(format!("{what} is `{word}`; it is a number from 1 to {most}"))
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let elements = argument(&mut words, "ELEMENTS", 1 << 24, MOST_ELEMENTS)?;
    let rounds = argument(&mut words, "ROUNDS", 10, 1_000_000)?;

    let runtime = Runtime::new()?;
    println!("{}: {}", runtime.capabilities()?.name, runtime.why());
    let number = |index: usize, factor: usize| (index * factor % 1000) as f32 * 0.25;
    let begun = Instant::now();
    let a: Vec<f32> = (0..elements).map(|index| number(index, 7)).collect();
    let b: Vec<f32> = (0..elements).map(|index| number(index, 13)).collect();
    let (of_a, of_b) = (runtime.buffer(&a)?, runtime.buffer(&b)?);
    let sum = runtime.buffer(&vec![0.0f32; elements])?;
    println!("{elements} elements made and uploaded in {:.0?}", begun.elapsed());

    let add = runtime.orchestrator().kernel(ADD, "add")?;
    let add = add.bind("a", &of_a).bind("b", &of_b).bind("sum", &sum);
    let groups = elements.div_ceil(256) as u32;
    let rows = groups.div_ceil(65_535);
    let groups = [groups.div_ceil(rows), rows, 1];
    let mut best = add.dispatch(groups)?;
    for _ in 1..rounds {
        let dispatch = add.dispatch(groups)?;
        if dispatch.duration < best.duration {
            best = dispatch;
        }
    }
    let found = sum.to_vec()?;
    // Quarters below 500: no sum is rounded, so every backend gives the same.
    if let Some(wrong) = (0..elements).find(|index| found[*index] != a[*index] + b[*index]) {
        return Err(format!("element {wrong} is {} and not {}", found[wrong], a[wrong] + b[wrong]).into());
    }
    let seconds = best.duration.as_secs_f64();
    let clock = match best.clock {
        DispatchClock::Device => "the device's clock",
        _ => "the host's clock",
    };
    println!(
        "{rounds} rounds by {}, all elements checked; the fastest took {:.3} ms by {clock}: {:.2} GB/s",
        best.engine,
        seconds * 1e3,
        elements as f64 * 12.0 / seconds / 1e9
    );
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}
