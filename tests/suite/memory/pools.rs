//! Pools: what they keep, what they refuse, and that nobody sees what was another's.

use super::{BUMP, bumping, start};
use crate::common::{LONG, runtime};
use crate::errors::refused;
use ringwork::{BufferState, Error, PoolSettings, RingKernel, UnifiedBuffer};

#[test]
fn what_a_buffer_leaves_the_next_one_gets_and_cannot_see() {
    let runtime = runtime();
    let pool = runtime.memory_pool(PoolSettings::new(1 << 20)).unwrap();
    for round in 0..6u32 {
        let secret: UnifiedBuffer<u32> = pool.buffer(&[0xdead_beef; 100]).unwrap();
        assert_eq!(secret.to_vec().unwrap(), [0xdead_beef; 100]);
        drop(secret);
        // Smaller, without values: the host cannot read it, a kernel finds zeros, as many as were asked for.
        let len = 70 + round as usize * 6;
        let cells = pool.buffer_uninitialized::<u32>(len).unwrap();
        assert_eq!(cells.state(), BufferState::Uninitialized);
        assert!(cells.to_vec().is_err_and(|error| error.is_invalid()));
        if round % 2 == 0 {
            let kernel = bumping(&runtime, "bump", &cells);
            kernel.ask((), LONG).unwrap();
            assert_eq!(cells.to_vec().unwrap(), vec![1; len]);
            kernel.terminate(LONG).unwrap();
        } else {
            cells.fill(round).unwrap();
            assert_eq!(cells.to_vec().unwrap(), vec![round; len]);
        }
    }
    let statistics = pool.statistics();
    assert_eq!((statistics.allocations, statistics.buffers, statistics.used), (12, 0, 0));
    assert!(statistics.reused >= 6 && statistics.device_allocations <= 4, "{statistics:?}");
}

#[test]
fn a_handler_sees_as_many_elements_as_were_asked_for() {
    let text = "@group(1) @binding(0) var<storage, read_write> cells: array<u32>;
        fn on_message() { cells[0] = arrayLength(&cells); cells[1000000] += 5u; }";
    let runtime = runtime();
    let pool = runtime.memory_pool(PoolSettings::new(1 << 20)).unwrap();
    drop(pool.buffer(&[7u32; 160]).unwrap());
    for len in [129usize, 150, 160] {
        let cells = pool.buffer(&vec![1u32; len]).unwrap();
        let kernel = start(&runtime, RingKernel::wgsl("length", text).bind("cells", &cells));
        kernel.ask((), LONG).unwrap();
        let mut expected = vec![1u32; len];
        expected[0] = len as u32;
        // Past the end is the last one.
        expected[len - 1] += 5;
        assert_eq!(cells.to_vec().unwrap(), expected);
        kernel.terminate(LONG).unwrap();
    }
    assert_eq!(pool.statistics().device_allocations, 1);
}

#[test]
fn the_limit_is_kept_and_the_error_has_the_numbers() {
    let runtime = runtime();
    let pool = runtime.memory_pool(PoolSettings::new(4096).reserve(1000, 2)).unwrap();
    let statistics = pool.statistics();
    assert_eq!((statistics.free, statistics.reserved, statistics.limit), (2048, 2048, 4096));
    refused(
        pool.buffer_uninitialized::<u32>(1025),
        Error::is_invalid,
        "pool: 4100 bytes asked, for which a block has 5120, but the pool may have 4096 in all",
    );
    let first = pool.buffer_uninitialized::<u32>(256).unwrap();
    let second = pool.buffer_uninitialized::<u32>(500).unwrap();
    refused(
        pool.buffer_uninitialized::<u32>(300),
        Error::is_unavailable,
        "pool: 1200 bytes asked, for which a block has 1280; 3072 are used and 1024 free in other blocks, and the limit \
         is 4096",
    );
    assert_eq!((pool.statistics().used, pool.statistics().asked, pool.statistics().buffers), (3072, 3024, 2));
    // What is free in other blocks makes room.
    drop(second);
    let third = pool.buffer_uninitialized::<u32>(700).unwrap();
    assert_eq!((pool.statistics().used, pool.statistics().reserved), (1024 + 3072, 1024 + 3072));
    drop((first, third));
    assert_eq!(pool.statistics().peak, 4096);
    assert_eq!(pool.trim(), 4096);
    assert_eq!((pool.trim(), pool.statistics().reserved), (0, 0));
    refused(
        runtime.memory_pool(PoolSettings::new(255)),
        Error::is_invalid,
        "pool: limit is 255, but must be 256 bytes or more",
    );
    refused(
        runtime.memory_pool(PoolSettings::new(4096).reserve(1000, 3).reserve(100, 5)),
        Error::is_invalid,
        "pool: 4352 bytes to be reserved at first, and the limit is 4096",
    );
    refused(
        runtime.memory_pool(PoolSettings::new(4096).reserve(1 << 40, usize::MAX)),
        Error::is_invalid,
        "pool: more than there can be bytes to be reserved at first, and the limit is 4096",
    );
    refused(pool.buffer::<u32>(&[]), Error::is_invalid, "a buffer of no elements: it takes at least 1");
    assert!(pool.buffer(&[1u8]).is_err_and(|error| error.is_invalid()));
    assert_eq!(pool.statistics().buffers, 0);
}

#[test]
fn what_is_reserved_is_there_while_a_kernel_runs() {
    let runtime = runtime();
    let pool = runtime.memory_pool(PoolSettings::new(1 << 20).reserve(400, 8)).unwrap();
    let allocated = pool.statistics().device_allocations;
    let cells = pool.buffer(&[0u32; 100]).unwrap();
    let kernel = bumping(&runtime, "bump", &cells);
    crate::threads::scope(|scope| {
        let sender = scope.spawn(|| (0..300).for_each(|_| kernel.ask((), LONG).unwrap()));
        while !sender.is_finished() {
            let others: Vec<_> = (0..7u32).map(|number| pool.buffer(&[number; 100]).unwrap()).collect();
            for (number, other) in (0..).zip(&others) {
                assert_eq!(other.to_vec().unwrap(), [number; 100]);
            }
        }
    });
    assert_eq!(cells.to_vec().unwrap(), [300; 100]);
    assert_eq!(pool.statistics().device_allocations, allocated, "nothing was allocated meanwhile");
}

#[test]
fn a_pool_that_grows_grows_by_as_much_as_it_has() {
    let runtime = runtime();
    let pool = runtime.memory_pool(PoolSettings::new(100 * 1024)).unwrap();
    let buffers: Vec<_> = (0..33).map(|_| pool.buffer_uninitialized::<u32>(256).unwrap()).collect();
    assert_eq!(pool.statistics().device_allocations, 64);
    // No more than there may be.
    let more: Vec<_> = (33..100).map(|_| pool.buffer_uninitialized::<u32>(256).unwrap()).collect();
    assert!(pool.buffer_uninitialized::<u32>(256).is_err_and(|error| error.is_unavailable()));
    assert_eq!((pool.statistics().device_allocations, pool.statistics().free), (100, 0));
    assert_eq!(pool.statistics().fragmentation(), Some(0.0));
    drop((buffers, more));
    assert_eq!(pool.statistics().fragmentation(), None);
}

#[test]
fn buffers_outlive_their_pool_and_kernels_keep_their_buffers() {
    let runtime = runtime();
    let pool = runtime.memory_pool(PoolSettings::new(1 << 16)).unwrap();
    let cells = pool.buffer(&[1u32; 64]).unwrap();
    let kernel = start(&runtime, RingKernel::wgsl("bump", BUMP).bind("cells", &cells));
    drop(cells);
    assert_eq!(pool.statistics().buffers, 1, "the kernel has it");
    let other = pool.buffer(&[5u32; 64]).unwrap();
    kernel.ask((), LONG).unwrap();
    assert_eq!(other.to_vec().unwrap(), [5; 64]);
    kernel.terminate(LONG).unwrap();
    assert_eq!(pool.statistics().buffers, 1, "and nobody has it any more");
    drop(pool);
    assert_eq!(other.to_vec().unwrap(), [5; 64]);
}
