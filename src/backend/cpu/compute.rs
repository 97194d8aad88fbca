//! Entry points on the CPU: workgroups on all cores, each as one run of an engine.

use super::runner::units;
use super::storage::CpuStorage;
use super::threads::Threads;
use crate::backend::compute::{DeviceEntryPoint, DispatchClock, DispatchTime, budget_error};
use crate::backend::{DeviceStorage, STOP_NOW};
use crate::compile::compute::OnCpu;
use crate::compile::compute::group::Groups;
use crate::compile::{CompiledCompute, Executable, Frame, Limits, Outcome, PartSizes, StopCheck, TableView};
use crate::error::Result;
use crate::sync::{Mutex, lock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// Invocations up to which a dispatch runs on its caller's thread: to wake others takes tens of microseconds.
const MOST_ALONE: u64 = 2048;
/// Pieces of a dispatch for each thread: so many that one that is slower than others does not hold up all.
const PIECES: u64 = 16;

/// An entry point and memory for those who run it.
pub(super) struct CpuEntryPoint {
    compiled: Arc<CompiledCompute>,
    on_cpu: Arc<OnCpu>,
    threads: Arc<Threads>,
    spare: Mutex<Vec<Scratch>>,
}

/// What each thread needs for itself.
struct Scratch {
    privates: Box<[u128]>,
    /// Memory of one workgroup, each table of it at a whole unit.
    memory: Box<[u128]>,
}

/// One dispatch.
struct Job<'a> {
    kernel: &'a CpuEntryPoint,
    buffers: Vec<TableView>,
    groups: [u32; 3],
    /// Groups of a piece.
    piece: u64,
    /// Neighbouring groups for each thread, and the same ones each time, if it comes in time: what it has in its caches of
    /// a dispatch before is often what it needs now. Who is through with its own helps others.
    shares: Vec<Share>,
    stop: AtomicU32,
    faulted: AtomicBool,
}

/// A thread's groups of a dispatch, alone on its cache lines.
#[repr(align(128))]
struct Share {
    next: AtomicU64,
    end: u64,
}

impl CpuEntryPoint {
    pub(super) fn new(compiled: Arc<CompiledCompute>, threads: Arc<Threads>) -> Result<Self> {
        let on_cpu = compiled.on_cpu()?;
        Ok(Self { compiled, on_cpu, threads, spare: Mutex::default() })
    }

    fn scratch(&self) -> Scratch {
        lock(&self.spare).pop().unwrap_or_else(|| {
            let bytes = self.on_cpu.memory.iter().map(|bytes| bytes.next_multiple_of(16)).sum();
            Scratch { privates: units(self.on_cpu.privates_size), memory: units(bytes) }
        })
    }
}

impl DeviceEntryPoint for CpuEntryPoint {
    fn engine(&self) -> &'static str {
        self.on_cpu.name
    }

    fn dispatch(&self, buffers: &[Arc<dyn DeviceStorage>], groups: [u32; 3]) -> Result<DispatchTime> {
        let begun = Instant::now();
        let storages: Vec<&CpuStorage> = buffers
            .iter()
            .map(|buffer| {
                let storage = buffer.as_any().downcast_ref();
                storage.expect("the layer above has checked that the buffers are of this device")
            })
            .collect();
        let mut guards = Vec::new();
        for (index, storage) in storages.iter().enumerate() {
            // A lock that is taken twice by one thread may wait for a writer in between.
            if !storages[..index].iter().any(|other| std::ptr::eq(*other, *storage)) {
                guards.push(storage.share());
            }
        }
        let total: u64 = groups.iter().map(|along| u64::from(*along)).product();
        let invocations = total.saturating_mul(self.compiled.program.invocations().into());
        let workers = if total == 1 || invocations <= MOST_ALONE { 1 } else { self.threads.parallelism() };
        let job = Job {
            kernel: self,
            buffers: storages.iter().map(|storage| storage.view()).collect(),
            groups,
            piece: (total / (workers as u64 * PIECES)).max(1),
            shares: shares(total, workers as u64),
            stop: AtomicU32::new(0),
            faulted: AtomicBool::new(false),
        };
        let mut wanted = workers - 1;
        let is_over = wanted > 0
            && self.threads.scope(|scope| {
                // This thread is one of them, and calls the others as they become free.
                job.run(0, || {
                    let mut helpers = self.threads.take(wanted);
                    wanted -= helpers.left();
                    while helpers.left() > 0 {
                        helpers.spawn(scope, |thread| job.run(1 + thread, || ()));
                    }
                });
            });
        if !is_over {
            job.run(0, || ());
        }
        drop(guards);
        // Relaxed: all who ran are over, and the scope's end came after that.
        if job.faulted.load(Ordering::Relaxed) {
            return Err(budget_error(&self.compiled.program));
        }
        Ok(DispatchTime { duration: begun.elapsed(), clock: DispatchClock::Host })
    }
}

/// `total` groups for so many threads.
fn shares(total: u64, threads: u64) -> Vec<Share> {
    let each = total.div_ceil(threads);
    let share = |index| Share { next: AtomicU64::new(index * each), end: total.min((index + 1) * each) };
    (0..threads).map(share).collect()
}

impl Job<'_> {
    /// Runs pieces until none is left, each after a call of `before`, those of the share at `own` first.
    fn run(&self, own: usize, mut before: impl FnMut()) {
        let mut scratch = self.kernel.scratch();
        let on_cpu = &*self.kernel.on_cpu;
        let mut tables = self.buffers.clone();
        let mut at = 0;
        let base = scratch.memory.as_mut_ptr();
        for bytes in &on_cpu.memory {
            // SAFETY: the sum of all whole units is what the memory has.
            let data = unsafe { base.add(at) };
            tables.push(TableView { data: data.cast(), bytes: *bytes });
            at += bytes.div_ceil(16);
        }
        let parts = PartSizes {
            message: size_of::<Groups>(),
            state: 0,
            reply: 0,
            privates: scratch.privates.len() * 16,
        };
        on_cpu.engine.check(parts, &tables);
        let stop = StopCheck::new(&self.stop, &Limits::NONE);
        let (others, first) = self.shares.split_at(own);
        let mut is_on = true;
        for share in first.iter().chain(others) {
            // Relaxed: the number says nothing but who takes the piece. A look first: on many cores all come by at the end.
            while is_on && share.next.load(Ordering::Relaxed) < share.end {
                before();
                // Relaxed: as above.
                let first = share.next.fetch_add(self.piece, Ordering::Relaxed);
                let end = share.end.min(first.saturating_add(self.piece));
                if first >= end {
                    break;
                }
                is_on = self.piece(first, end, &mut scratch, &tables, &stop);
            }
        }
        lock(&self.kernel.spare).push(scratch);
    }

    /// Runs groups `first..end`, counted along x first; `false` if one faulted, or another thread's did.
    fn piece(
        &self,
        mut first: u64,
        end: u64,
        scratch: &mut Scratch,
        tables: &[TableView],
        stop: &StopCheck<'_>,
    ) -> bool {
        let on_cpu = &*self.kernel.on_cpu;
        let [x, y, _] = self.groups.map(u64::from);
        let memory = &tables[self.buffers.len()..][..on_cpu.zeroed];
        while first < end {
            let along = first % x;
            let count = if on_cpu.takes_rows { (x - along).min(end - first) } else { 1 };
            let groups = Groups {
                first: [along as u32, (first / x % y) as u32, (first / x / y) as u32],
                count: count as u32,
                dispatched: self.groups,
                zero: 0,
            };
            for view in memory {
                // SAFETY: the view is of this thread's memory, and nothing else refers to it now.
                unsafe { view.data.write_bytes(0, view.bytes) };
            }
            let outcome = on_cpu.engine.run(Frame {
                message: bytemuck::bytes_of(&groups),
                state: &mut [],
                reply: &mut [],
                privates: bytemuck::cast_slice_mut(&mut scratch.privates),
                tables,
                stop,
            });
            match outcome {
                Outcome::Done => {}
                Outcome::Fault(_) => {
                    // Relaxed: as where they are read.
                    self.faulted.store(true, Ordering::Relaxed);
                    self.stop.store(STOP_NOW, Ordering::Relaxed);
                    return false;
                }
                Outcome::Interrupted => return false,
            }
            first += count;
        }
        // Relaxed: it only hastens the end.
        self.stop.load(Ordering::Relaxed) < STOP_NOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_there_is_and_nothing_twice() {
        for (total, threads) in [(1, 1), (2, 4), (5, 3), (64, 64), (1 << 40, 7)] {
            let shares = shares(total, threads);
            assert_eq!(shares.len() as u64, threads);
            let mut next = 0;
            for mut share in shares {
                let first = *share.next.get_mut();
                assert!(
                    first >= share.end || first == next,
                    "{total} for {threads}: {first}, and not {next}"
                );
                next = next.max(share.end);
            }
            assert_eq!(next, total);
        }
    }
}
