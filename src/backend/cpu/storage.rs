//! Tables in host memory.

use crate::backend::{DeviceStorage, check_range};
use crate::compile::TableView;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// Zeroed memory, in words that handlers may share. Handlers hold it shared, the host takes it exclusively.
pub(crate) struct CpuStorage {
    words: Box<[AtomicU32]>,
    bytes: usize,
    access: RwLock<()>,
}

impl CpuStorage {
    pub(crate) fn new(bytes: usize) -> Self {
        let words = (0..bytes.div_ceil(4)).map(|_| AtomicU32::new(0)).collect();
        Self { words, bytes, access: RwLock::new(()) }
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
        loop {
            match self.access.try_write() {
                Ok(_guard) => {
                    body();
                    return Ok(());
                }
                Err(std::sync::TryLockError::Poisoned(_)) => self.access.clear_poison(),
                Err(std::sync::TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(Error::timed_out(
                        "access to a buffer that handlers are using",
                        begun.elapsed(),
                    ));
                }
                // std's RwLock has no timed wait; rounds are short, so a short sleep is no loss.
                Err(std::sync::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_micros(50)),
            }
        }
    }

    fn check(&self, offset: usize, len: usize) -> Result<()> {
        check_range(offset, len, self.bytes)
    }
}

impl DeviceStorage for CpuStorage {
    fn read(&self, offset: usize, into: &mut [u8], deadline: Instant) -> Result<()> {
        self.check(offset, into.len())?;
        self.exclusively(deadline, || {
            for (word, bytes) in self.words[offset / 4..].iter().zip(into.chunks_exact_mut(4)) {
                // Relaxed: the exclusive lock orders this after the handlers that wrote.
                bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
            }
        })
    }

    fn write(&self, offset: usize, from: &[u8], deadline: Instant) -> Result<()> {
        self.check(offset, from.len())?;
        self.exclusively(deadline, || {
            for (word, bytes) in self.words[offset / 4..].iter().zip(from.chunks_exact(4)) {
                // Relaxed: the exclusive lock orders this before the handlers that read.
                word.store(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]), Ordering::Relaxed);
            }
        })
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
