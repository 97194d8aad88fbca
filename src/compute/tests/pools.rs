//! A pool beside a list of the buffers that there are.

use crate::backend::cpu::CpuDevice;
use crate::compute::{
    Access, BoundTable, BufferState, Lease, MemoryPool, PoolSettings, Transfers, UnifiedBuffer,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
enum Operation {
    /// A buffer of so many elements with this value in all of them.
    Buffer(usize, u32),
    /// A buffer of so many elements, which a kernel finds zeroed.
    Uninitialized(usize),
    Drop(usize),
    Reserve(usize, usize),
    Trim,
}

fn operations() -> impl Strategy<Value = Operation> {
    let len = || prop_oneof![1usize..200, prop::sample::select(vec![64, 65, 80, 128, 256, 500, 1024, 3000])];
    prop_oneof![
        6 => (len(), 1..u32::MAX).prop_map(|(len, value)| Operation::Buffer(len, value)),
        3 => len().prop_map(Operation::Uninitialized),
        6 => (0..16usize).prop_map(Operation::Drop),
        1 => (1..4000usize, 0..4usize).prop_map(|(bytes, count)| Operation::Reserve(bytes, count)),
        1 => Just(Operation::Trim),
    ]
}

/// The sizes that blocks may have, by trying them all.
fn block_size(bytes: usize) -> usize {
    (0..).map(|n| (64 * (4 + n % 4)) << (n / 4)).find(|size| *size >= bytes).expect("there is no largest")
}

struct Model {
    /// What each buffer asked for, with its value.
    buffers: Vec<(UnifiedBuffer<u32>, usize, u32)>,
    limit: usize,
    peak: usize,
    allocations: u64,
}

impl Model {
    fn used(&self) -> usize {
        self.buffers.iter().map(|(_, len, _)| block_size(4 * len)).sum()
    }

    fn check(&self, pool: &MemoryPool) {
        let statistics = pool.statistics();
        assert_eq!(statistics.used, self.used());
        assert_eq!(statistics.asked, self.buffers.iter().map(|(_, len, _)| 4 * len).sum::<usize>());
        assert_eq!((statistics.buffers, statistics.allocations), (self.buffers.len(), self.allocations));
        assert_eq!((statistics.reserved, statistics.limit), (statistics.used + statistics.free, self.limit));
        assert!(statistics.reserved <= self.limit && statistics.peak == self.peak, "{statistics:?}");
    }

    /// Takes a buffer, or is refused for the one reason there is.
    fn allocate(&mut self, pool: &MemoryPool, len: usize, value: Option<u32>) {
        let size = block_size(4 * len);
        let before = pool.statistics();
        let result = match value {
            Some(value) => pool.buffer(&vec![value; len]),
            None => pool.buffer_uninitialized(len),
        };
        let fits = self.used() + size <= self.limit;
        let buffer = match result {
            Ok(buffer) => buffer,
            Err(error) => {
                assert!(
                    !fits && (error.is_unavailable() || error.is_invalid() && size > self.limit),
                    "{error:?}"
                );
                return;
            }
        };
        assert!(fits, "{len} elements");
        let after = pool.statistics();
        let was_reused = after.reused > before.reused;
        assert_eq!(
            was_reused,
            after.device_allocations == before.device_allocations,
            "{before:?}, {after:?}"
        );
        self.allocations += 1;
        self.buffers.push((buffer, len, value.unwrap_or(0)));
        self.peak = self.peak.max(self.used());
    }
}

/// What a kernel that may write finds in a buffer.
fn found(buffer: &UnifiedBuffer<u32>) -> Vec<u32> {
    let bound = BoundTable::of(buffer);
    let _lease = Lease::take(&bound, "k", "t", Access::Write).unwrap();
    let mut values = vec![1; bound.len];
    let deadline = Instant::now() + Duration::from_secs(1);
    bound.storage.read(0, bytemuck::cast_slice_mut(&mut values), deadline).unwrap();
    values
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_pool_is_what_its_buffers_are(
        limit in prop::sample::select(vec![256usize, 1000, 4096, 20_000, 1 << 20]),
        history in prop::collection::vec(operations(), 1..40),
    ) {
        let pool = MemoryPool::new(CpuDevice::open(), &PoolSettings::new(limit)).unwrap();
        let mut model = Model { buffers: Vec::new(), limit, peak: 0, allocations: 0 };
        for operation in &history {
            match *operation {
                Operation::Buffer(len, value) => model.allocate(&pool, len, Some(value)),
                Operation::Uninitialized(len) => {
                    let before = model.buffers.len();
                    model.allocate(&pool, len, None);
                    for (buffer, len, _) in &model.buffers[before..] {
                        prop_assert!(buffer.to_vec().is_err());
                        prop_assert_eq!(found(buffer), vec![0; *len]);
                        buffer.fill(0).unwrap();
                    }
                }
                Operation::Drop(which) => {
                    if which < model.buffers.len() {
                        let (buffer, len, value) = model.buffers.swap_remove(which);
                        prop_assert_eq!(buffer.to_vec().unwrap(), vec![value; len]);
                    }
                }
                Operation::Reserve(bytes, count) => {
                    let before = pool.statistics();
                    let result = pool.reserve(bytes, count);
                    let size = block_size(bytes);
                    match result {
                        Ok(()) => prop_assert!(pool.statistics().free >= size * count),
                        Err(_) => prop_assert!(before.used + size * count > limit || before.reserved + size > limit
                            || before.reserved + size * count > limit),
                    }
                }
                Operation::Trim => {
                    let free = pool.statistics().free;
                    prop_assert_eq!(pool.trim(), free);
                    prop_assert_eq!(pool.statistics().free, 0);
                }
            }
            model.check(&pool);
        }
        // Each has its own, whatever the others did.
        let counted = model.buffers.iter().fold(BTreeMap::new(), |mut counts, (_, len, _)| {
            *counts.entry(block_size(4 * len)).or_insert(0usize) += 1;
            counts
        });
        for (buffer, len, value) in model.buffers.drain(..) {
            prop_assert_eq!(buffer.to_vec().unwrap(), vec![value; len]);
        }
        // … and leaves it to the next one: as many of each size are there as there were.
        for (size, count) in counted {
            let before = pool.statistics().device_allocations;
            let again: Vec<_> = (0..count).map(|_| pool.buffer_uninitialized::<u32>(size / 4).unwrap()).collect();
            prop_assert_eq!(pool.statistics().device_allocations, before);
            drop(again);
        }
    }
}

fn pool_of_one(bytes: usize) -> MemoryPool {
    MemoryPool::new(CpuDevice::open(), &PoolSettings::new(bytes).reserve(bytes, 1)).unwrap()
}

/// A buffer gets what another one had beside its memory, and must not find anything of it.
#[test]
fn a_buffer_in_the_place_of_another_begins_as_a_new_one() {
    let pool = pool_of_one(1024);
    let first = pool.buffer(&[7u32; 256]).unwrap();
    first.host_mut().unwrap()[3] = 8;
    // Its lock is never given up.
    std::mem::forget(first.host_mut().unwrap());
    assert_eq!((first.state(), first.transfers().to_host), (BufferState::HostDirty, 1));
    drop(first);
    let second = pool.buffer_uninitialized::<[u32; 2]>(120).unwrap();
    assert_eq!((second.len(), second.state()), (120, BufferState::Uninitialized));
    assert_eq!(second.transfers(), Transfers::default());
    assert!(second.host().unwrap_err().is_invalid());
    second.fill([1, 2]).unwrap();
    assert_eq!(second.to_vec().unwrap(), [[1, 2]; 120]);
    assert!(second.read(120, &mut [[0; 2]]).is_err());
    let statistics = pool.statistics();
    assert_eq!((statistics.device_allocations, statistics.used, statistics.asked), (1, 1024, 960));
    drop(second);
    assert_eq!(pool.buffer(&[9u32; 256]).unwrap().to_vec().unwrap(), [9; 256]);
}

/// Which of two clones is the last is not known where they go at once.
#[test]
fn clones_dropped_at_once_give_the_memory_back_once() {
    let pool = pool_of_one(256);
    for round in 0..2000u32 {
        let buffer = pool.buffer(&[round; 64]).unwrap();
        let clone = buffer.clone();
        let other = std::thread::spawn(move || drop(clone));
        drop(buffer);
        other.join().unwrap();
        let statistics = pool.statistics();
        assert_eq!((statistics.used, statistics.asked, statistics.buffers, statistics.free), (0, 0, 0, 256));
    }
    assert_eq!(pool.statistics().device_allocations, 1);
}
