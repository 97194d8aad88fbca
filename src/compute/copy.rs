//! The host's copy of a buffer, and who has it: to look at it with others, or alone.

use super::shared::{ALIGNMENT, PATIENCE};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, lock};
use std::ops::{Deref, DerefMut};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Memory as aligned as any element may be.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

/// The host's copy; empty where it has none.
#[derive(Default)]
pub(super) struct HostCopy(Vec<Line>);

impl HostCopy {
    /// # Errors
    ///
    /// `Unavailable`, if the host has not so much memory.
    pub fn allocate(&mut self, bytes: usize) -> Result<()> {
        if self.0.is_empty() {
            let lines = bytemuck::try_zeroed_vec(bytes.div_ceil(ALIGNMENT));
            self.0 = lines.map_err(|()| no_memory(bytes))?;
        }
        Ok(())
    }

    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// The host has not so much memory.
pub(super) fn no_memory(bytes: usize) -> Error {
    let text = format!("the host has no memory for {bytes} bytes of a buffer; look at a part of it");
    Error::new(ErrorKind::Unavailable, text)
}

/// Somebody who has the copy.
struct Holder {
    id: u64,
    thread: ThreadId,
    /// A view or a call.
    what: &'static str,
}

/// Those who have the copy.
#[derive(Default)]
struct Holders {
    all: Vec<Holder>,
    next: u64,
}

/// The copy with its lock, of which std's cannot say who has it.
#[derive(Default)]
pub(super) struct Guarded {
    copy: RwLock<HostCopy>,
    holders: Mutex<Holders>,
}

impl Guarded {
    /// The copy, with others that look at it; `what` is the view or the call that it is for.
    ///
    /// # Errors
    ///
    /// `Conflict` if this thread has it alone, `TimedOut` if another one keeps it so.
    pub fn look(&self, what: &'static str) -> Result<Looking<'_>> {
        let copy = self.patiently(what, || match self.copy.try_read() {
            Ok(guard) => Some(guard),
            // Whoever panicked with a view has written what it has written; the view marked it when it was dropped.
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })?;
        Ok(Looking { copy, entry: self.enter(what) })
    }

    /// The copy, alone.
    ///
    /// # Errors
    ///
    /// As [`look`](Self::look), if anybody has it.
    pub fn alone(&self, what: &'static str) -> Result<Alone<'_>> {
        let copy = self.patiently(what, || match self.copy.try_write() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })?;
        Ok(Alone { copy, entry: self.enter(what) })
    }

    fn enter(&self, what: &'static str) -> Entry<'_> {
        let mut holders = lock(&self.holders);
        let id = holders.next;
        holders.next += 1;
        holders.all.push(Holder { id, thread: std::thread::current().id(), what });
        Entry { holders: &self.holders, id }
    }

    /// Waits for a lock, which std's cannot until a deadline; views are short as a rule, so a short sleep is no loss.
    fn patiently<G>(&self, what: &str, mut attempt: impl FnMut() -> Option<G>) -> Result<G> {
        let begun = Instant::now();
        if let Some(guard) = attempt() {
            return Ok(guard);
        }
        let this = std::thread::current().id();
        // A view stays on its thread. What this one has it will not give back while it waits.
        if let Some(own) = lock(&self.holders).all.iter().find(|holder| holder.thread == this) {
            let text = format!(
                "a buffer has {}, of this thread, and {what} would wait for it for ever; let it go first",
                own.what
            );
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        loop {
            if begun.elapsed() >= PATIENCE {
                // None if it has gone between the last attempt and now.
                let other = lock(&self.holders).all.first().map(|other| other.what);
                let other = other.unwrap_or("something else");
                let text = format!("{what} of a buffer that has {other}, of another thread,");
                return Err(Error::timed_out(text, begun.elapsed()));
            }
            std::thread::sleep(Duration::from_micros(20));
            if let Some(guard) = attempt() {
                return Ok(guard);
            }
        }
    }
}

/// Takes a holder off the list in the end.
struct Entry<'a> {
    holders: &'a Mutex<Holders>,
    id: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        lock(self.holders).all.retain(|holder| holder.id != self.id);
    }
}

/// The copy, with others that look at it.
pub(super) struct Looking<'a> {
    /// Dropped first: on the list is whoever has it, and for a moment who had it.
    copy: RwLockReadGuard<'a, HostCopy>,
    #[expect(dead_code, reason = "it is dropped")]
    entry: Entry<'a>,
}

impl Deref for Looking<'_> {
    type Target = HostCopy;

    fn deref(&self) -> &HostCopy {
        &self.copy
    }
}

/// The copy, alone.
pub(super) struct Alone<'a> {
    copy: RwLockWriteGuard<'a, HostCopy>,
    entry: Entry<'a>,
}

impl<'a> Alone<'a> {
    /// Lets others look at it too.
    pub fn downgrade(self) -> Looking<'a> {
        Looking { copy: RwLockWriteGuard::downgrade(self.copy), entry: self.entry }
    }
}

impl Deref for Alone<'_> {
    type Target = HostCopy;

    fn deref(&self) -> &HostCopy {
        &self.copy
    }
}

impl DerefMut for Alone<'_> {
    fn deref_mut(&mut self) -> &mut HostCopy {
        &mut self.copy
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_the_host_does_not_have() {
        let mut copy = HostCopy::default();
        let bytes = isize::MAX as usize - (1 << 20);
        let error = copy.allocate(bytes).expect_err("no machine has it");
        assert!(error.is_unavailable() && error.to_string().contains(&bytes.to_string()), "{error:?}");
        copy.allocate(100).expect("every machine has it");
        assert_eq!(copy.bytes(), [0; 128]);
    }
}
