//! The message path by itself, for comparing one change with the next. Figures against other libraries come from
//! the separate crate in `benches/peers`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringwork::{CacheSettings, Context, Handle, RingKernel, Runtime, message};
use std::hint::black_box;
use std::time::Duration;

message! { struct Request { len: u32, values: [f32; 8], _pad: [u32; 7] } }
message! { struct Sum { sum: f32, count: u32 } }
message! { struct Count { count: u32 } }
message! { struct Add { to: u32, amount: u32 } }

const REQUEST: Request = Request { len: 8, values: [1.0; 8], _pad: [0; 7] };
const PATIENCE: Duration = Duration::from_secs(5);

const HANDLER: &str = "
    fn on_message(m: Request, s: ptr<function, Count>) -> Sum {
        var sum = 0.0;
        for (var i = 0u; i < min(m.len, 8u); i++) { sum += m.values[i]; }
        (*s).count += 1u;
        return Sum(sum, (*s).count);
    }";

fn sum(request: Request, state: &mut Count) -> Sum {
    state.count += 1;
    Sum { sum: request.values.iter().take(request.len as usize).sum(), count: state.count }
}

/// An active kernel that has shown itself to be fast, so that callers run it.
fn warm(handle: Handle<Request, Sum>) -> Handle<Request, Sum> {
    handle.activate().unwrap();
    for _ in 0..1000 {
        handle.ask(REQUEST, PATIENCE).unwrap();
    }
    handle
}

fn message_path(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let native = warm(runtime.launch(RingKernel::<Request, Sum>::native("native", sum)).unwrap());
    let wgsl = warm(
        runtime
            .launch(RingKernel::<Request, Sum>::wgsl("wgsl", HANDLER).initial_state(Count::default()))
            .unwrap(),
    );
    let host = warm(
        runtime
            .launch(RingKernel::host("host", |context: &mut Context<Request, Sum>| {
                let mut count = Count::default();
                while let Some(request) = context.receive() {
                    let reply = sum(*request, &mut count);
                    context.reply(reply);
                }
            }))
            .unwrap(),
    );
    c.bench_function("ask/native", |b| b.iter(|| native.ask(black_box(REQUEST), PATIENCE).unwrap()));
    c.bench_function("ask/wgsl", |b| b.iter(|| wgsl.ask(black_box(REQUEST), PATIENCE).unwrap()));
    c.bench_function("ask/host", |b| b.iter(|| host.ask(black_box(REQUEST), PATIENCE).unwrap()));

    let mut group = c.benchmark_group("one-way");
    group.throughput(Throughput::Elements(1));
    let silent = |_: Request, state: &mut Count| state.count += 1;
    let sink = runtime.launch(RingKernel::<Request, ()>::native("sink", silent)).unwrap();
    sink.activate().unwrap();
    for _ in 0..1000 {
        sink.ask(REQUEST, PATIENCE).unwrap();
    }
    group.bench_function("send", |b| b.iter(|| sink.send(black_box(REQUEST)).unwrap()));
    group.throughput(Throughput::Elements(32));
    group.bench_function("send_many", |b| b.iter(|| sink.send_many([black_box(REQUEST); 32]).unwrap()));
    group.throughput(Throughput::Elements(64));
    group.bench_function("requests", |b| {
        b.iter(|| {
            let pending: Vec<_> = (0..64).map(|_| native.request(REQUEST).unwrap()).collect();
            for reply in pending {
                black_box(reply.wait(PATIENCE).unwrap());
            }
        });
    });
    group.finish();
}

fn instances(c: &mut Criterion) {
    const COUNT: u32 = 100_000;
    let runtime = Runtime::new().unwrap();
    let add = |add: Add, state: &mut Count| state.count = state.count.wrapping_add(add.amount);
    let kernel = RingKernel::<Add, ()>::native("instances", add).instances(COUNT).queue_capacity(1 << 17);
    let kernel = runtime.launch(kernel).unwrap();
    kernel.activate().unwrap();
    let messages: Vec<_> = (0..COUNT).map(|i| Add { to: i.wrapping_mul(7919) % COUNT, amount: i }).collect();
    let mut group = c.benchmark_group("instances");
    group.throughput(Throughput::Elements(u64::from(COUNT)));
    group.bench_function("one message each", |b| {
        b.iter_batched(
            || messages.clone(),
            |messages| {
                kernel.send_many(messages).unwrap();
                while kernel.telemetry().pending > 0 {
                    std::hint::spin_loop();
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// What it takes to launch many kernels: with one handler, and with every handler compiled.
fn launch(c: &mut Criterion) {
    let mut group = c.benchmark_group("launch");
    group.sample_size(10);
    for (name, count, settings) in [
        ("10,000 kernels with one handler", 10_000, CacheSettings::new()),
        ("100 kernels without the cache", 100, CacheSettings::disabled()),
    ] {
        group.throughput(Throughput::Elements(count));
        let setup = || {
            let kernel = |index| {
                RingKernel::<Request, Sum>::wgsl(format!("kernel {index}"), HANDLER)
                    .initial_state(Count::default())
            };
            let runtime = Runtime::builder().cache(settings.clone()).build().unwrap();
            (runtime, (0..count).map(kernel).collect::<Vec<_>>())
        };
        // The runtime goes out with its kernels, so that their end is not measured.
        let launch = |(runtime, kernels): (Runtime, Vec<_>)| {
            for kernel in kernels {
                runtime.launch(kernel).unwrap();
            }
            runtime
        };
        group.bench_function(name, |b| b.iter_batched(setup, launch, BatchSize::PerIteration));
    }
    group.finish();
}

criterion_group!(benches, message_path, instances, launch);
criterion_main!(benches);
