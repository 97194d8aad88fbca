//! Tables in host memory.

use crate::backend::{DeviceStorage, check_range};
use crate::compile::TableView;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::write_before;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::time::Instant;

/// Zeroed memory, in words that handlers may share. Handlers hold it shared, the host takes it exclusively.
pub(crate) struct CpuStorage {
    words: Arc<Box<[AtomicU32]>>,
    bytes: usize,
    access: RwLock<()>,
}

impl CpuStorage {
    /// # Errors
    ///
    /// `Unavailable` if there is not so much memory.
    pub(crate) fn new(bytes: usize) -> Result<Self> {
        let (count, mut words) = (bytes.div_ceil(4), Vec::new());
        words.try_reserve_exact(count).map_err(|_| {
            Error::new(ErrorKind::Unavailable, format!("cpu: a table: there is no memory for {bytes} bytes"))
        })?;
        words.resize_with(count, || AtomicU32::new(0));
        Ok(Self { words: Arc::new(words.into_boxed_slice()), bytes, access: RwLock::new(()) })
    }

    /// Keeps the host away while handlers run.
    pub(crate) fn share(&self) -> RwLockReadGuard<'_, ()> {
        // The lock guards no data of its own, so a panic of its holder leaves nothing broken.
        self.access.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The bytes, for an engine. Valid as long as `self`; atomics inside, so shared writes are defined.
    pub(crate) fn view(&self) -> TableView {
        TableView { data: self.words.as_ptr().cast_mut().cast(), bytes: self.bytes }
    }

    /// Runs `body` with no handler running on this storage.
    fn exclusively(&self, deadline: Instant, body: impl FnOnce()) -> Result<()> {
        let begun = Instant::now();
        let Some(_guard) = write_before(&self.access, deadline) else {
            return Err(Error::timed_out("access to a buffer that handlers are using", begun.elapsed()));
        };
        body();
        Ok(())
    }

    fn bytes_from(&self, offset: usize) -> *mut u8 {
        self.words.as_ptr().cast_mut().cast::<u8>().wrapping_add(offset)
    }

    fn check(&self, offset: usize, len: usize) -> Result<()> {
        check_range(offset, len, self.bytes)
    }

    /// The same memory, of which only the first `bytes` are there.
    ///
    /// # Panics
    ///
    /// If there are not as many.
    pub(super) fn prefix(&self, bytes: usize) -> Self {
        assert!(bytes <= self.bytes, "a prefix is not longer than the whole");
        Self { words: self.words.clone(), bytes, access: RwLock::new(()) }
    }
}

impl DeviceStorage for CpuStorage {
    fn read(&self, offset: usize, into: &mut [u8], deadline: Instant) -> Result<()> {
        self.check(offset, into.len())?;
        self.exclusively(deadline, || {
            // SAFETY: inside, as checked; initialised; and alone: handlers hold the lock shared, and it orders this after
            // those that wrote.
            unsafe { self.bytes_from(offset).copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) }
        })
    }

    fn write(&self, offset: usize, from: &[u8], deadline: Instant) -> Result<()> {
        self.check(offset, from.len())?;
        self.exclusively(deadline, || {
            // SAFETY: as in `read`; behind an atomic, so that it may be written through a shared reference.
            unsafe { self.bytes_from(offset).copy_from_nonoverlapping(from.as_ptr(), from.len()) }
        })
    }

    fn clear(&self, deadline: Instant) -> Result<()> {
        self.exclusively(deadline, || {
            // SAFETY: as in `write`.
            unsafe { self.bytes_from(0).write_bytes(0, self.bytes) }
        })
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
