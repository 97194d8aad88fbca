//! Six realistic handlers through the public API, each as WGSL, as a native kernel with its twin in Rust, and as a
//! bare loop over the twin, which is the floor.
//!
//! ```text
//! cargo bench --bench handlers
//! ```
//!
//! Every figure is the median of interleaved rounds; a round asks for 4,096 replies at once. A native kernel has no
//! outputs: what its twin emits is made and dropped. What an engine takes without the message path around it is
//! measured by the unit test `engine_speed`.

#[path = "../tests/realistic/mod.rs"]
mod realistic;

use realistic::{Fir, Fraud, KMeans, MonteCarlo, OrderBook, PageRank, Realistic, Table};
use ringwork::{Backpressure, Handle, RingKernel, Runtime};
use std::hint::black_box;
use std::time::{Duration, Instant};

const MESSAGES: usize = 4096;
const ROUNDS: usize = 15;
const LAUNCHES: usize = 15;
const PATIENCE: Duration = Duration::from_secs(60);

/// The kernel's settings that the handler asks for.
fn declared<R: Realistic>(kernel: RingKernel<R::In, R::Out>) -> RingKernel<R::In, R::Out> {
    let kernel = kernel.queue_capacity(MESSAGES).output_capacity(4 * MESSAGES);
    match R::INSTANCES {
        Some((count, field)) => kernel.instances(count).instance_field(field),
        None => kernel,
    }
}

fn bind<In, Out>(kernel: RingKernel<In, Out>, runtime: &Runtime, table: &Table) -> RingKernel<In, Out>
where
    In: ringwork::DeviceMessage,
    Out: ringwork::DeviceMessage,
{
    match table.width {
        1 => kernel.bind(table.name, &runtime.buffer(&table.words).expect("small")),
        2 => kernel.bind(
            table.name,
            &runtime.buffer(bytemuck::cast_slice::<u32, [u32; 2]>(&table.words)).expect("small"),
        ),
        other => panic!("no table here has elements of {other} words"),
    }
}

fn wgsl<R: Realistic>(runtime: &Runtime, name: &str, text: &str) -> Handle<R::In, R::Out> {
    let mut kernel = declared::<R>(RingKernel::wgsl(name, text));
    for table in R::bound(&R::tables()) {
        kernel = bind(kernel, runtime, &table);
    }
    if size_of::<R::State>() > 0 {
        kernel = kernel.initial_state(R::State::default());
    }
    if let Some((output, most)) = R::OUTPUT {
        // What nobody takes is dropped, so that nothing waits.
        kernel = kernel.output_many::<R::Emitted>(output, most).output_backpressure(Backpressure::DropOldest);
    }
    runtime.launch(kernel).unwrap_or_else(|error| panic!("{error}"))
}

fn native<R: Realistic>(runtime: &Runtime, name: &str) -> Handle<R::In, R::Out> {
    let tables = R::tables();
    let kernel = RingKernel::native(name, move |message: R::In, state: &mut R::State| {
        let mut emitted = Vec::new();
        let reply = R::twin(message, state, &tables, &mut emitted);
        black_box(emitted);
        reply
    });
    runtime.launch(declared::<R>(kernel)).unwrap_or_else(|error| panic!("{error}"))
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Nanoseconds for each of the messages of a round.
fn per_message(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_nanos() as f64 / MESSAGES as f64
}

/// Milliseconds to launch a handler that was never launched before.
fn launch_time<R: Realistic>(runtime: &Runtime) -> f64 {
    let launches = (0..LAUNCHES).map(|number| {
        let text = format!("{}\n// {number}", R::TEXT);
        let begin = Instant::now();
        let kernel = wgsl::<R>(runtime, &format!("{} {number}", R::NAME), &text);
        let taken = begin.elapsed().as_secs_f64() * 1e3;
        kernel.terminate(PATIENCE).expect("nothing runs in it");
        taken
    });
    median(launches.collect())
}

/// Prints a line of the table; returns how many times the native kernel's time the WGSL kernel takes.
fn measure<R: Realistic>(runtime: &Runtime) -> f64 {
    let wgsl = wgsl::<R>(runtime, R::NAME, R::TEXT);
    let native = native::<R>(runtime, &format!("{} native", R::NAME));
    wgsl.activate().expect("it was launched");
    native.activate().expect("it was launched");
    let messages = R::messages(MESSAGES);
    let tables = R::tables();
    let mut states = vec![R::State::default(); R::INSTANCES.map_or(1, |(count, _)| count as usize)];
    let ask = |kernel: &Handle<R::In, R::Out>| {
        let replies = kernel.ask_many(messages.iter().copied(), PATIENCE);
        assert_eq!(black_box(replies.unwrap_or_else(|error| panic!("{error}"))).len(), MESSAGES);
    };
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        let taken = [
            per_message(|| {
                let mut emitted = Vec::new();
                for message in &messages {
                    emitted.clear();
                    let state = &mut states[R::instance(message)];
                    black_box(R::twin(black_box(*message), state, &tables, &mut emitted));
                }
            }),
            per_message(|| ask(&native)),
            per_message(|| ask(&wgsl)),
        ];
        // The first round warms up.
        if round > 0 {
            times.iter_mut().zip(taken).for_each(|(times, taken)| times.push(taken));
        }
    }
    let [floor, native, wgsl] = times.map(median);
    let launch = launch_time::<R>(runtime);
    println!("| {} | {floor:.1} | {native:.1} | {wgsl:.1} | {:.2} | {launch:.2} |", R::NAME, wgsl / native);
    wgsl / native
}

fn main() {
    let runtime = Runtime::new().expect("the CPU is always there");
    println!("Nanoseconds per message in batches of {MESSAGES}, medians of {ROUNDS} rounds.\n");
    println!("| handler | loop over the twin | native kernel | WGSL kernel | WGSL / native | launch, ms |");
    println!("|---|---:|---:|---:|---:|---:|");
    let ratios = [
        measure::<KMeans>(&runtime),
        measure::<Fraud>(&runtime),
        measure::<PageRank>(&runtime),
        measure::<OrderBook>(&runtime),
        measure::<Fir>(&runtime),
        measure::<MonteCarlo>(&runtime),
    ];
    let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    println!("\nWGSL / native, geometric mean: {:.2}", (logarithms / ratios.len() as f64).exp());
}
