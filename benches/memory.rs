//! Buffers and pools beside what they are made of: a bare memcpy, and the driver's allocation.
//!
//! ```text
//! cargo bench --bench memory
//! RINGWORK_BACKEND=wgpu cargo bench --bench memory
//! ```
//!
//! `round trip` writes 64 MB through a view of the host's copy, sends them and fetches them again; `memcpy` writes them,
//! copies them to another place and back. `allocation` makes a buffer and drops it: `pool` from a pool, `device`
//! from the device each time.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringwork::{PoolSettings, RingKernel, Runtime};
use std::hint::black_box;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
const LEN: usize = 16 << 20;
/// Handled without doing anything: but it might have written.
const TOUCH: &str = "@group(1) @binding(0) var<storage, read_write> cells: array<u32>;
    fn on_message() { if arrayLength(&cells) == 0u { cells[0] = 1u; } }";

fn round_trip(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let buffer = runtime.buffer_uninitialized::<u32>(LEN).unwrap();
    buffer.fill(0).unwrap();
    let kernel = runtime.launch(RingKernel::<(), ()>::wgsl("touch", TOUCH).bind("cells", &buffer)).unwrap();
    kernel.activate().unwrap();
    let mut group = c.benchmark_group("64 MB");
    group.sample_size(20).throughput(Throughput::Bytes(2 * 4 * LEN as u64));
    let (mut host, mut device) = (vec![0u32; LEN], vec![0u32; LEN]);
    let mut value = 0;
    group.bench_function("memcpy", |b| {
        b.iter(|| {
            value += 1;
            host.fill(value);
            device.copy_from_slice(black_box(&host));
            host.copy_from_slice(black_box(&device));
            assert_eq!(black_box(&host)[LEN - 1], value);
        });
    });
    group.bench_function("round trip", |b| {
        b.iter(|| {
            value += 1;
            let mut view = buffer.host_mut().unwrap();
            view.fill(value);
            view.commit().unwrap();
            kernel.ask((), PATIENCE).unwrap();
            assert_eq!(black_box(&buffer.host().unwrap())[LEN - 1], value);
        });
    });
    let before = buffer.transfers();
    buffer.host_mut().unwrap()[0] = 1;
    kernel.ask((), PATIENCE).unwrap();
    drop(buffer.host().unwrap());
    let after = buffer.transfers();
    assert_eq!((after.to_device - before.to_device, after.to_host - before.to_host), (1, 1));
    group.finish();
}

fn allocation(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    for kib in [64, 1024, 16 << 10] {
        let (bytes, len) = (kib << 10, kib << 8);
        let pool = runtime.memory_pool(PoolSettings::new(8 * bytes).reserve(bytes, 4)).unwrap();
        let mut group = c.benchmark_group(format!("allocation of {kib} KiB"));
        group.bench_function("pool", |b| b.iter(|| pool.buffer_uninitialized::<u32>(len).unwrap()));
        group.bench_function("device", |b| b.iter(|| runtime.buffer_uninitialized::<u32>(len).unwrap()));
        group.finish();
    }
}

criterion_group!(benches, round_trip, allocation);
criterion_main!(benches);
