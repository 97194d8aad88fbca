//! Locks that ThreadSanitizer can see (`--cfg tsan`, set by `ci/sanitize.sh`).
//!
//! The std that it is used with is not instrumented: what a contended lock or a condition variable does there is
//! invisible, and would be reported as races of everything under the lock. So each lock says it once more, with an
//! atomic of ours. Nothing else changes: the waiting and waking are std's.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) struct Mutex<T> {
    /// Released before each unlock, acquired after each lock.
    order: AtomicU32,
    inner: std::sync::Mutex<T>,
}

pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Always there, but while a condition variable has it.
    inner: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { order: AtomicU32::new(0), inner: std::sync::Mutex::new(value) }
    }

    fn guard<'a>(&'a self, inner: std::sync::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        self.order.load(Ordering::Acquire);
        MutexGuard { mutex: self, inner: Some(inner) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.guard(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<'a, T> MutexGuard<'a, T> {
    /// std's guard, about to be unlocked.
    fn give_up(&mut self) -> std::sync::MutexGuard<'a, T> {
        self.mutex.order.fetch_add(1, Ordering::AcqRel);
        self.inner.take().expect("there until it is dropped")
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if self.inner.is_some() {
            drop(self.give_up());
        }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().expect("there until it is dropped")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("there until it is dropped")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Condvar(std::sync::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(std::sync::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(super) fn wait<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, T> {
        let (mutex, inner) = (guard.mutex, guard.give_up());
        mutex.guard(match timeout {
            Some(timeout) => self.0.wait_timeout(inner, timeout).unwrap_or_else(PoisonError::into_inner).0,
            None => self.0.wait(inner).unwrap_or_else(PoisonError::into_inner),
        })
    }
}
