//! The two sides of a buffer: which of them has the newest values, and the transfers between them.
//!
//! Bytes only; elements are [`UnifiedBuffer`](super::UnifiedBuffer)'s. Whoever has the host's copy locked for writing is the
//! one that moves the buffer from state to state; kernels only count that they begin and end to write.

use super::copy::{Alone, Guarded, HostCopy, Looking};
use super::lease::Holder;
use super::lent::{Lent, Loan};
use super::pool::Inner;
use super::ranges::Ranges;
use super::transfers::Transfers;
use crate::backend::DeviceStorage;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, lock};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Host access waits this long for handlers that are running, and for views of other threads.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The largest alignment of an element, in bytes.
pub(super) const ALIGNMENT: usize = 64;
/// No generation of the device's values: the host's copy is older, whatever they are.
const OLD: u64 = u64::MAX;

/// Where the newest values of a [`UnifiedBuffer`](crate::UnifiedBuffer) are.
///
/// # Example
///
/// ```
/// use ringwork::{BufferState, Runtime};
///
/// let runtime = Runtime::new()?;
/// let buffer = runtime.buffer(&[1u32, 2, 3])?;
/// assert_eq!(buffer.state(), BufferState::DeviceOnly);
/// buffer.host()?;
/// assert_eq!(buffer.state(), BufferState::Synchronized);
/// buffer.host_mut()?[1] = 20;
/// assert_eq!(buffer.state(), BufferState::HostDirty);
/// buffer.ensure_on_device()?;
/// assert_eq!(buffer.state(), BufferState::Synchronized);
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferState {
    /// Neither side has any.
    Uninitialized,
    /// The host has them; the device has never had any.
    HostOnly,
    /// The device has them; the host has no copy.
    DeviceOnly,
    /// Both sides have the same.
    Synchronized,
    /// The host's copy was written, and the device has not got that yet.
    HostDirty,
    /// A kernel that may write the buffer ran since the host's copy was made, or runs now.
    DeviceDirty,
}

impl fmt::Display for BufferState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uninitialized => "uninitialized",
            Self::HostOnly => "host only",
            Self::DeviceOnly => "device only",
            Self::Synchronized => "synchronized",
            Self::HostDirty => "host dirty",
            Self::DeviceDirty => "device dirty",
        })
    }
}

/// What is known of the two sides.
struct Sides {
    /// The host has a copy, of whatever age.
    has_copy: bool,
    /// The host has sent values to the device.
    was_sent: bool,
    /// The generation of the device's values that the copy was made of or sent as.
    seen: u64,
    /// Bytes of the copy that the device has not got.
    dirty: Ranges,
    /// The device's memory is zeros, or its user's own.
    is_clean: bool,
    /// Both sides were written; what to say of it.
    conflict: Option<String>,
}

impl Sides {
    /// Neither has any values.
    fn new(is_clean: bool) -> Self {
        let dirty = Ranges::default();
        Self { has_copy: false, was_sent: false, seen: OLD, dirty, is_clean, conflict: None }
    }
}

/// A buffer without its element type.
pub(crate) struct Shared {
    storage: Arc<dyn DeviceStorage>,
    bytes: usize,
    element_size: usize,
    /// The device's name.
    place: Arc<str>,
    copy: Guarded,
    sides: Mutex<Sides>,
    pub(super) holders: Mutex<Vec<Holder>>,
    /// How often kernels began, and ended, to run messages that may write the buffer.
    begun: AtomicU64,
    ended: AtomicU64,
    transfers: Mutex<Transfers>,
}

impl Shared {
    /// A buffer with no values in this memory, on the device that `place` names; `is_clean` says that it is zeros, and was
    /// nobody else's before.
    pub fn new(
        place: Arc<str>,
        storage: Arc<dyn DeviceStorage>,
        bytes: usize,
        element_size: usize,
        is_clean: bool,
    ) -> Self {
        Self {
            storage,
            bytes,
            element_size,
            place,
            copy: Guarded::default(),
            sides: Mutex::new(Sides::new(is_clean)),
            holders: Mutex::default(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            transfers: Mutex::default(),
        }
    }

    /// Its memory as what a pool lends, if nothing else has it.
    fn lent(&mut self) -> Option<&mut Lent> {
        Lent::of(&mut self.storage)
    }

    /// A buffer of a pool begins, with no values.
    pub fn begin(&mut self, pool: &Arc<Inner>, bytes: usize, element_size: usize) {
        self.lent().expect("nobody has what is in the pool").lend(pool, bytes);
        (self.bytes, self.element_size) = (bytes, element_size);
    }

    /// … and leaves nothing of itself behind; what is to go back to its pool, if nothing else has the memory.
    pub fn leave(&mut self) -> Option<Loan> {
        let loan = self.lent()?.end()?;
        // New locks, not only what is in them: a view that was forgotten has its lock for ever.
        self.copy = Guarded::default();
        self.sides = Mutex::new(Sides::new(false));
        self.holders = Mutex::default();
        self.transfers = Mutex::default();
        (self.begun, self.ended) = (AtomicU64::new(0), AtomicU64::new(0));
        Some(loan)
    }

    pub fn storage(&self) -> &Arc<dyn DeviceStorage> {
        &self.storage
    }

    /// The device's name.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A kernel begins to run messages that may write the buffer.
    pub fn begin_writing(&self) {
        // Release pairs with the Acquire in `generation`.
        self.begun.fetch_add(1, Ordering::Release);
    }

    /// … and has ended them.
    pub fn end_writing(&self) {
        // Release pairs with the Acquire in `generation`: whoever sees that it ended sees that it began.
        self.ended.fetch_add(1, Ordering::Release);
    }

    /// Names what the device has now; `None` while a kernel that may write runs.
    fn generation(&self) -> Option<u64> {
        // In this order: if as many began as had ended before, none was running at the second look.
        let ended = self.ended.load(Ordering::Acquire);
        let begun = self.begun.load(Ordering::Acquire);
        (begun == ended).then_some(begun)
    }

    fn device_has_values(&self, sides: &Sides) -> bool {
        sides.was_sent || self.begun.load(Ordering::Acquire) > 0
    }

    /// May the device have something that the copy has not?
    fn is_device_newer(&self, sides: &Sides) -> bool {
        self.device_has_values(sides) && self.generation() != Some(sides.seen)
    }

    fn is_current(&self, sides: &Sides) -> bool {
        sides.has_copy && !self.is_device_newer(sides)
    }

    pub fn state(&self) -> BufferState {
        let sides = lock(&self.sides);
        match (sides.has_copy, self.device_has_values(&sides)) {
            (false, false) => BufferState::Uninitialized,
            (true, false) => BufferState::HostOnly,
            (false, true) => BufferState::DeviceOnly,
            _ if !sides.dirty.is_empty() => BufferState::HostDirty,
            _ if self.is_device_newer(&sides) => BufferState::DeviceDirty,
            _ => BufferState::Synchronized,
        }
    }

    pub fn transfers(&self) -> Transfers {
        *lock(&self.transfers)
    }

    fn uninitialized(&self) -> Error {
        let count = self.bytes / self.element_size;
        Error::new(
            ErrorKind::Invalid,
            format!(
                "a buffer of {count} elements has no values yet; give it all of them first, with `fill` or `copy_from`"
            ),
        )
    }

    fn conflict(&self, sides: &mut Sides) -> Error {
        let Sides { conflict, dirty, .. } = sides;
        let text = conflict.get_or_insert_with(|| {
            let range = dirty.first().unwrap_or(0..0);
            let (start, end) = (range.start / self.element_size, range.end / self.element_size);
            let writers: Vec<_> = lock(&self.holders).iter().filter_map(Holder::writer).collect();
            let who = match writers.is_empty() {
                true => "a kernel that has ended".to_owned(),
                false => writers.join(" and "),
            };
            format!(
                "elements {start}..{end} of a buffer were written on the host while {who} may have written the buffer on \
                 the device; take one side with `keep_host` or `keep_device`"
            )
        });
        Error::new(ErrorKind::Conflict, text.clone())
    }

    /// # Errors
    ///
    /// If both sides were written, or neither.
    fn check_values(&self) -> Result<()> {
        let mut sides = lock(&self.sides);
        if sides.conflict.is_some() || !sides.dirty.is_empty() && self.is_device_newer(&sides) {
            return Err(self.conflict(&mut sides));
        }
        if !sides.has_copy && !self.device_has_values(&sides) {
            return Err(self.uninitialized());
        }
        Ok(())
    }

    fn send(&self, range: Range<usize>, from: &[u8]) -> Result<()> {
        let begun = Instant::now();
        self.storage.write(range.start, from, begun + PATIENCE)?;
        lock(&self.transfers).count_sent(from.len(), begun.elapsed());
        lock(&self.sides).was_sent = true;
        Ok(())
    }

    fn fetch(&self, range: Range<usize>, into: &mut [u8]) -> Result<()> {
        let begun = Instant::now();
        self.storage.read(range.start, into, begun + PATIENCE)?;
        lock(&self.transfers).count_fetched(into.len(), begun.elapsed());
        Ok(())
    }

    /// Brings the copy up to date.
    fn refresh(&self, copy: &mut HostCopy) -> Result<()> {
        self.check_values()?;
        if self.is_current(&lock(&self.sides)) {
            return Ok(());
        }
        // Before the transfer: what a kernel writes during it, the copy may or may not have.
        let generation = self.generation();
        copy.allocate(self.bytes)?;
        self.fetch(0..self.bytes, &mut copy.bytes_mut()[..self.bytes])?;
        let mut sides = lock(&self.sides);
        sides.has_copy = true;
        sides.seen = generation.unwrap_or(OLD);
        Ok(())
    }

    /// Sends what the device has not got. `is_blind`: it may be written over what a kernel wrote meanwhile.
    fn flush(&self, copy: &HostCopy, is_blind: bool) -> Result<()> {
        let (mut dirty, had_values, generation) = {
            let mut sides = lock(&self.sides);
            if sides.conflict.is_some() {
                return Err(self.conflict(&mut sides));
            }
            if sides.dirty.is_empty() {
                return Ok(());
            }
            // One look for both questions, before and after: a kernel that begins between two would be in neither's answer.
            let generation = self.generation();
            let had_values = self.device_has_values(&sides);
            if !is_blind && had_values && generation != Some(sides.seen) {
                return Err(self.conflict(&mut sides));
            }
            (sides.dirty.clone(), had_values, generation)
        };
        while let Some(range) = dirty.first() {
            let sent = self.send(range.clone(), &copy.bytes()[range]);
            if sent.is_err() {
                // What has been sent need not be sent again.
                lock(&self.sides).dirty = dirty;
                return sent;
            }
            dirty.remove_first();
        }
        let mut sides = lock(&self.sides);
        // While a kernel runs there is no generation, and none is like another.
        if !is_blind && (generation.is_none() || self.generation() != generation) {
            return Err(self.conflict(&mut sides));
        }
        sides.dirty.clear();
        if !had_values {
            sides.seen = generation.unwrap_or(OLD);
        }
        Ok(())
    }

    /// A copy that is up to date, to be read.
    pub fn view(&self) -> Result<Looking<'_>> {
        let what = "a view to be read";
        let copy = self.copy.look(what)?;
        self.check_values()?;
        if self.is_current(&lock(&self.sides)) {
            return Ok(copy);
        }
        drop(copy);
        let mut copy = self.copy.alone(what)?;
        self.refresh(&mut copy)?;
        Ok(copy.downgrade())
    }

    /// A copy that is up to date, to be written.
    pub fn view_mut(&self) -> Result<Alone<'_>> {
        let mut copy = self.copy.alone("a view to be written")?;
        self.refresh(&mut copy)?;
        Ok(copy)
    }

    /// These bytes of the copy were written by whoever has it. Sent at once if a kernel has the buffer, which may run at any
    /// moment.
    pub fn written(&self, copy: &HostCopy, range: Range<usize>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut sides = lock(&self.sides);
        sides.dirty.insert(range);
        if self.is_device_newer(&sides) {
            return Err(self.conflict(&mut sides));
        }
        drop(sides);
        if lock(&self.holders).is_empty() { Ok(()) } else { self.flush(copy, false) }
    }

    /// Copies bytes from where the newest are. Without a copy that is up to date they come from the device by themselves.
    pub fn read(&self, range: Range<usize>, into: &mut [u8]) -> Result<()> {
        let copy = self.copy.look("`read`")?;
        self.check_values()?;
        if self.is_current(&lock(&self.sides)) {
            into.copy_from_slice(&copy.bytes()[range]);
            return Ok(());
        }
        self.fetch(range, into)
    }

    /// Writes bytes, which `fill` makes of those there are, over what is there: into the host's copy if it is up to date, or
    /// else, for there is nothing else to be lost, on the device.
    pub fn write(&self, range: Range<usize>, fill: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        let mut copy = self.copy.alone("`write`")?;
        let is_whole = range == (0..self.bytes);
        if range.is_empty() {
            return Ok(());
        }
        let (into_copy, device_has_values) = {
            let sides = lock(&self.sides);
            let device_has_values = self.device_has_values(&sides);
            let into_copy = self.is_current(&sides) || is_whole && (sides.has_copy || !device_has_values);
            (into_copy, device_has_values)
        };
        if !is_whole || device_has_values && !into_copy {
            self.check_values()?;
        }
        if !into_copy {
            let mut bytes = HostCopy::default();
            bytes.allocate(range.len())?;
            let bytes = &mut bytes.bytes_mut()[..range.len()];
            fill(bytes);
            return self.send(range, bytes);
        }
        copy.allocate(self.bytes)?;
        fill(&mut copy.bytes_mut()[range.clone()]);
        let mut sides = lock(&self.sides);
        sides.has_copy = true;
        sides.dirty.insert(range);
        if is_whole {
            // Nothing of what either side had is of interest any more.
            sides.conflict = None;
            sides.seen = self.generation().unwrap_or(OLD);
        }
        drop(sides);
        if lock(&self.holders).is_empty() { Ok(()) } else { self.flush(&copy, true) }
    }

    /// The first values, of a buffer that nobody else has: straight to the device.
    pub fn initialize(&self, values: &[u8]) -> Result<()> {
        self.send(0..self.bytes, values)
    }

    pub fn ensure_on_device(&self) -> Result<()> {
        let copy = self.copy.alone("`ensure_on_device`")?;
        self.check_values()?;
        self.flush(&copy, false)
    }

    /// Before a kernel has the buffer: the device has what the host has, or zeros for a kernel that may write them.
    ///
    /// # Errors
    ///
    /// If there are no values, and the kernel only reads.
    pub fn prepare(&self, may_write: bool) -> Result<()> {
        let copy = self.copy.alone("the launch or dispatch")?;
        let must_clear = {
            let sides = lock(&self.sides);
            let has_values = sides.has_copy || self.device_has_values(&sides);
            if !has_values && !may_write {
                return Err(self.uninitialized());
            }
            !has_values && !sides.is_clean
        };
        if must_clear {
            self.storage.clear(Instant::now() + PATIENCE)?;
            lock(&self.sides).is_clean = true;
        }
        self.flush(&copy, false)
    }

    pub fn release_host(&self) -> Result<()> {
        let mut copy = self.copy.alone("`release_host`")?;
        self.flush(&copy, false)?;
        *copy = HostCopy::default();
        lock(&self.sides).has_copy = false;
        Ok(())
    }

    pub fn keep_host(&self) -> Result<()> {
        let copy = self.copy.alone("`keep_host`")?;
        let mut sides = lock(&self.sides);
        if sides.conflict.take().is_some() || self.is_device_newer(&sides) {
            // What the host has not written, the device may have newer.
            sides.seen = OLD;
        }
        drop(sides);
        self.flush(&copy, true)
    }

    pub fn keep_device(&self) -> Result<()> {
        let _copy = self.copy.alone("`keep_device`")?;
        let mut sides = lock(&self.sides);
        if !self.device_has_values(&sides) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "keep_device: the device has no values yet, and those of the host would be lost",
            ));
        }
        if !sides.dirty.is_empty() {
            sides.dirty.clear();
            sides.conflict = None;
            sides.seen = OLD;
        }
        Ok(())
    }
}
