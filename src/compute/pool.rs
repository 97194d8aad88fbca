//! Memory of a device that is kept to be used again.

use super::buffer::{UnifiedBuffer, size_of_buffer};
use super::lent::{Lent, Loan};
use super::shared::Shared;
use crate::backend::{Device, DeviceStorage};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, lock};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes of the smallest block: what devices align buffers to.
const SMALLEST: usize = 256;
/// Bytes of blocks that are allocated ahead of their use at once, at most.
const MOST_AHEAD: usize = 16 << 20;

/// How large a [`MemoryPool`] is at first, and may become.
///
/// # Example
///
/// ```
/// use ringwork::{PoolSettings, Runtime};
///
/// let runtime = Runtime::new()?;
/// // Four buffers of 4 KiB from the beginning, 64 KiB at most.
/// let pool = runtime.memory_pool(PoolSettings::new(64 << 10).reserve(4 << 10, 4))?;
/// assert_eq!(pool.statistics().free, 4 * (4 << 10));
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "settings do nothing until they are used"]
pub struct PoolSettings {
    limit: usize,
    reserved: Vec<(usize, usize)>,
}

impl PoolSettings {
    /// A pool with nothing in it at first, that may take `limit` bytes of the device, free ones included.
    pub fn new(limit: usize) -> Self {
        Self { limit, reserved: Vec::new() }
    }

    /// Has memory for `count` buffers of `bytes` bytes from the beginning: blocks of the size that such buffers get, and
    /// that those of much fewer bytes do not. May be called for several sizes.
    pub fn reserve(mut self, bytes: usize, count: usize) -> Self {
        self.reserved.push((bytes, count));
        self
    }
}

/// What is in a [`MemoryPool`]; bytes are those of its blocks, unless said otherwise.
///
/// # Example
///
/// ```
/// use ringwork::{PoolSettings, Runtime};
///
/// let runtime = Runtime::new()?;
/// let pool = runtime.memory_pool(PoolSettings::new(1 << 20))?;
/// for _ in 0..4 {
///     drop(pool.buffer(&[0u32; 300])?);
/// }
/// let statistics = pool.statistics();
/// assert_eq!((statistics.allocations, statistics.reused), (4, 3));
/// assert_eq!((statistics.used, statistics.free, statistics.peak), (0, 1280, 1280));
/// assert_eq!(statistics.reuse_ratio(), Some(0.75));
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatistics {
    /// Bytes of blocks that buffers have, or kernels that outlive them.
    pub used: usize,
    /// Bytes that those buffers have asked for: what handlers see.
    pub asked: usize,
    /// Bytes of blocks that nobody has.
    pub free: usize,
    /// Bytes that the pool has of the device, whether or not they were [set aside](MemoryPool::reserve): those used, those
    /// free, and those that are being allocated.
    pub reserved: usize,
    /// The most bytes that were used at a time.
    pub peak: usize,
    /// Bytes that may be reserved.
    pub limit: usize,
    /// Buffers that there are, and those that only a kernel still has.
    pub buffers: usize,
    /// Buffers that have been made, with those that are still there.
    pub allocations: u64,
    /// Of these, buffers that got a block that was there already.
    pub reused: u64,
    /// Blocks that were allocated from the device.
    pub device_allocations: u64,
}

impl PoolStatistics {
    /// The part of all allocations that found a block, 0 to 1; `None` before the first.
    pub fn reuse_ratio(&self) -> Option<f64> {
        (self.allocations > 0).then(|| self.reused as f64 / self.allocations as f64)
    }

    /// The part of the used bytes that no buffer asked for, because blocks come in some sizes only: 0 to 1, in a pool
    /// whose buffers all have 256 bytes or more below 0.2. `None` if none are used.
    pub fn fragmentation(&self) -> Option<f64> {
        (self.used > 0).then(|| (self.used - self.asked) as f64 / self.used as f64)
    }
}

/// Memory of a device for buffers that come and go: dropped, its buffers leave their memory to the next ones, which saves
/// the driver's allocation. If a handler could not be stopped, the memory that it may still write to is kept until it has
/// ended.
///
/// Blocks come in sizes a quarter of a power of two apart. A buffer gets one of the smallest size that is large enough, and
/// of no other, and sees just what it asked for. A new buffer never shows what was in its block before: it begins with its
/// own values, or without any (and where a kernel that may write is to have it, it is zeroed first).
///
/// A pool that runs out of blocks of a size allocates as many as it has of that size, up to 16 MiB at once: so a device whose
/// resident kernels have to leave before it can allocate is asked rarely. What is [reserved](Self::reserve) needs no
/// allocation later, unless it is [trimmed](Self::trim), or given up because the limit leaves no room for a buffer of
/// another size. Clones are the same pool. Buffers may outlive it; their memory goes back to the device then.
///
/// # Example
///
/// ```
/// use ringwork::{PoolSettings, Runtime};
///
/// let runtime = Runtime::new()?;
/// let pool = runtime.memory_pool(PoolSettings::new(16 << 10))?;
/// let buffer = pool.buffer(&[1u32, 2, 3])?;
/// assert_eq!(buffer.to_vec()?, [1, 2, 3]);
/// let error = pool.buffer_uninitialized::<u32>(5_000).unwrap_err();
/// assert!(error.is_invalid()); // 20,000 bytes are more than it may ever have
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryPool(Arc<Owner>);

/// All clones of a pool together.
struct Owner(Arc<Inner>);

impl Deref for Owner {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let free = {
            let mut state = lock(&self.state);
            state.is_closed = true;
            std::mem::take(&mut state.free)
        };
        drop(free);
    }
}

/// What buffers have of a pool, which may outlive it.
pub(super) struct Inner {
    pub device: Arc<dyn Device>,
    /// The device's name.
    place: Arc<str>,
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By their size, the one that was used last at the end.
    free: BTreeMap<usize, Vec<Spare>>,
    /// How many blocks of a size there are, used or free.
    blocks: BTreeMap<usize, usize>,
    statistics: PoolStatistics,
    /// Nobody has the pool any more: what comes back goes to the device.
    is_closed: bool,
}

/// A block that nobody has, with all that a buffer needs beside it: what is allocated once is used again, too.
type Spare = Arc<Shared>;

impl Inner {
    /// A block of so many bytes, zeros or not.
    fn spare(&self, block: Arc<dyn DeviceStorage>, size: usize, is_clean: bool) -> Spare {
        Arc::new(Shared::new(self.place.clone(), Arc::new(Lent::new(block, size)), size, 1, is_clean))
    }
}

impl Loan {
    /// What a buffer had, with all that was made for it.
    pub(super) fn give_back(self, spare: Spare) {
        let Self { pool, size, asked } = self;
        let mut state = lock(&pool.state);
        state.statistics.used -= size;
        state.statistics.asked -= asked;
        state.statistics.buffers -= 1;
        if state.is_closed {
            // The device's call is not made inside of the lock.
            drop(state);
            return;
        }
        state.statistics.free += size;
        state.free.entry(size).or_default().push(spare);
    }

    /// … which a kernel had for longer: the block alone.
    pub(super) fn give_back_block(self, block: Arc<dyn DeviceStorage>) {
        let spare = self.pool.spare(block, self.size, false);
        self.give_back(spare);
    }
}

/// Bytes of the smallest block for so many: a power of two, or a quarter, a half or three quarters more.
fn size_class(bytes: usize) -> usize {
    if bytes <= SMALLEST {
        return SMALLEST;
    }
    let below = 1 << bytes.ilog2();
    bytes.checked_next_multiple_of(below / 4).unwrap_or(usize::MAX)
}

impl State {
    /// Takes memory out of the pool until this many bytes more fit, the largest blocks first; it is to be dropped outside of
    /// the lock.
    fn make_room(&mut self, bytes: usize, limit: usize) -> Vec<Spare> {
        let mut removed = Vec::new();
        while self.statistics.reserved.saturating_add(bytes) > limit {
            let Some(mut entry) = self.free.last_entry() else { break };
            let size = *entry.key();
            // The list of a size that was used up is there still.
            let Some(spare) = entry.get_mut().pop() else {
                entry.remove();
                continue;
            };
            removed.push(spare);
            self.statistics.free -= size;
            self.statistics.reserved -= size;
            self.forget_block(size);
        }
        removed
    }

    fn forget_block(&mut self, size: usize) {
        if let Some(count) = self.blocks.get_mut(&size) {
            *count -= 1;
            if *count == 0 {
                self.blocks.remove(&size);
            }
        }
    }
}

impl MemoryPool {
    /// A pool on this device.
    pub(crate) fn new(device: Arc<dyn Device>, settings: &PoolSettings) -> Result<Self> {
        let refuse = |text: String| Err(Error::new(ErrorKind::Invalid, text));
        let limit = settings.limit;
        if limit < SMALLEST {
            return refuse(format!("pool: limit is {limit}, but must be {SMALLEST} bytes or more"));
        }
        let wanted = settings
            .reserved
            .iter()
            .try_fold(0usize, |sum, (bytes, count)| sum.checked_add(size_class(*bytes).checked_mul(*count)?));
        if wanted.is_none_or(|wanted| wanted > limit) {
            let wanted = wanted.map_or("more than there can be".to_owned(), |wanted| wanted.to_string());
            return refuse(format!("pool: {wanted} bytes to be reserved at first, and the limit is {limit}"));
        }
        let statistics = PoolStatistics { limit, ..PoolStatistics::default() };
        let state = Mutex::new(State { statistics, ..State::default() });
        let place = device.capabilities().name.as_str().into();
        let pool = Self(Arc::new(Owner(Arc::new(Inner { device, place, limit, state }))));
        let mut counts = BTreeMap::new();
        for (bytes, count) in &settings.reserved {
            *counts.entry(pool.size_class(*bytes)).or_insert(0) += count;
        }
        counts.into_iter().try_for_each(|(bytes, count)| pool.reserve(bytes, count))?;
        Ok(pool)
    }

    /// A buffer with these values.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) as [`Runtime::buffer`](crate::Runtime::buffer), and for more bytes than the pool may
    /// ever have; [unavailable](Error::is_unavailable) if it has not as many left, or the device has not.
    pub fn buffer<T: bytemuck::Pod>(&self, values: &[T]) -> Result<UnifiedBuffer<T>> {
        let buffer = self.buffer_uninitialized(values.len())?;
        buffer.begin_with(values)?;
        Ok(buffer)
    }

    /// A buffer of so many elements without values.
    ///
    /// # Errors
    ///
    /// As [`buffer`](Self::buffer).
    pub fn buffer_uninitialized<T: bytemuck::Pod>(&self, len: usize) -> Result<UnifiedBuffer<T>> {
        let bytes = size_of_buffer::<T>(&*self.0.device, len)?;
        Ok(UnifiedBuffer::of(self.take(bytes, size_of::<T>())?, len))
    }

    /// Sees to it that there is memory for `count` buffers of `bytes` bytes more than there are now; as
    /// [`PoolSettings::reserve`].
    ///
    /// # Errors
    ///
    /// As [`buffer`](Self::buffer); what could be reserved, stays.
    pub fn reserve(&self, bytes: usize, count: usize) -> Result<()> {
        let size = self.size_class(bytes);
        loop {
            let removed = {
                let mut state = lock(&self.0.state);
                if state.free.get(&size).map_or(0, Vec::len) >= count {
                    return Ok(());
                }
                self.claim(&mut state, bytes, size, false)?
            };
            drop(removed);
            self.add(size)?;
        }
    }

    /// Gives all free memory back to the device; how many bytes that were.
    pub fn trim(&self) -> usize {
        let removed = {
            let mut state = lock(&self.0.state);
            let free = std::mem::take(&mut state.free);
            for (size, list) in &free {
                list.iter().for_each(|_| state.forget_block(*size));
            }
            state.statistics.reserved -= state.statistics.free;
            (std::mem::take(&mut state.statistics.free), free)
        };
        removed.0
    }

    /// What is in it now.
    pub fn statistics(&self) -> PoolStatistics {
        lock(&self.0.state).statistics
    }

    /// Bytes of a block for so many, on a device that may not allow one of the size it would have else.
    fn size_class(&self, bytes: usize) -> usize {
        let most = usize::try_from(self.0.device.capabilities().largest_buffer).unwrap_or(usize::MAX);
        size_class(bytes).min((most & !3).max(bytes))
    }

    /// A buffer of so many bytes.
    fn take(&self, bytes: usize, element_size: usize) -> Result<Arc<Shared>> {
        let size = self.size_class(bytes);
        let mut found_there = true;
        loop {
            let (removed, ahead) = {
                let mut state = lock(&self.0.state);
                if let Some(mut spare) = state.free.get_mut(&size).and_then(Vec::pop) {
                    let statistics = &mut state.statistics;
                    statistics.free -= size;
                    statistics.used += size;
                    statistics.asked += bytes;
                    statistics.peak = statistics.peak.max(statistics.used);
                    statistics.buffers += 1;
                    statistics.allocations += 1;
                    statistics.reused += u64::from(found_there);
                    drop(state);
                    let alone = Arc::get_mut(&mut spare).expect("nobody has what is in the pool");
                    alone.begin(&self.0.0, bytes, element_size);
                    return Ok(spare);
                }
                let there = state.blocks.get(&size).copied().unwrap_or(0);
                (self.claim(&mut state, bytes, size, true)?, there.min(MOST_AHEAD / size))
            };
            // Outside of the lock, as what follows: others may use the pool meanwhile.
            drop(removed);
            found_there = false;
            self.add(size)?;
            for _ in 1..ahead {
                // Ahead of their use: where there is no room, there is one less.
                let has_room = {
                    let mut state = lock(&self.0.state);
                    let has_room = state.statistics.reserved + size <= self.0.limit;
                    if has_room {
                        state.statistics.reserved += size;
                    }
                    has_room
                };
                if !has_room || self.add(size).is_err() {
                    break;
                }
            }
        }
    }

    /// Counts one more block as reserved, if need be in the place of free ones, which are to be dropped outside of the lock.
    fn claim(&self, state: &mut State, bytes: usize, size: usize, may_remove: bool) -> Result<Vec<Spare>> {
        let limit = self.0.limit;
        if size > limit {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "pool: {bytes} bytes asked, for which a block has {size}, but the pool may have {limit} in all"
                ),
            ));
        }
        let PoolStatistics { used, reserved, .. } = state.statistics;
        let kept = if may_remove { reserved - state.statistics.free } else { reserved };
        if kept + size > limit {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "pool: {bytes} bytes asked, for which a block has {size}; {used} are used and {} free in other \
                     blocks, and the limit is {limit}",
                    state.statistics.free
                ),
            ));
        }
        let removed = state.make_room(size, limit);
        state.statistics.reserved += size;
        Ok(removed)
    }

    /// Allocates a block that has been counted as reserved.
    fn add(&self, size: usize) -> Result<()> {
        let allocated = self.0.device.allocate(size);
        let spare = allocated.map(|block| self.0.spare(block, size, true));
        let mut state = lock(&self.0.state);
        let spare = match spare {
            Ok(spare) => spare,
            Err(error) => {
                state.statistics.reserved -= size;
                return Err(error);
            }
        };
        state.statistics.free += size;
        state.statistics.device_allocations += 1;
        *state.blocks.entry(size).or_default() += 1;
        state.free.entry(size).or_default().push(spare);
        Ok(())
    }
}

impl fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PoolStatistics { used, free, limit, .. } = self.statistics();
        write!(f, "MemoryPool({used} bytes used, {free} free, {limit} at most)")
    }
}
