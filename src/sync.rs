//! What threads synchronise with: std, or loom's model of it under `--cfg loom`, or std in a way that
//! ThreadSanitizer can follow under `--cfg tsan`.
//!
//! Code that is model-checked takes its primitives from here and from nowhere else.

#[cfg(not(loom))]
pub(crate) use std::{
    cell::UnsafeCell as StdUnsafeCell,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    thread::{Thread, current},
    thread_local,
};

#[cfg(not(any(loom, tsan)))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

#[cfg(tsan)]
mod tsan;
#[cfg(tsan)]
pub(crate) use tsan::{Condvar, Mutex, MutexGuard};

#[cfg(loom)]
pub(crate) use loom::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    sync::{Condvar, Mutex, MutexGuard},
    thread::{Thread, current},
    thread_local,
};

use std::sync::{RwLock, RwLockWriteGuard, TryLockError};
use std::time::{Duration, Instant};

/// Locks, whether or not a holder panicked: what our locks guard is consistent at every point a panic can come from.
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(tsan)]
    return mutex.lock();
    #[cfg(not(tsan))]
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Waits on a condition variable until woken or until the deadline. Under loom a wait without a deadline never ends
/// by itself, so a lost wake-up is a deadlock that the model finds; one with a deadline is over at once.
pub(crate) fn wait_until<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> MutexGuard<'a, T> {
    #[cfg(tsan)]
    return condvar.wait(guard, deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())));
    #[cfg(not(any(loom, tsan)))]
    if let Some(deadline) = deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        return condvar.wait_timeout(guard, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
    }
    #[cfg(loom)]
    if deadline.is_some() {
        return guard;
    }
    #[cfg(not(tsan))]
    condvar.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Parks the thread until it is unparked or until the deadline.
pub(crate) fn park_until(deadline: Option<Instant>) {
    #[cfg(not(loom))]
    match deadline {
        Some(deadline) => std::thread::park_timeout(deadline.saturating_duration_since(Instant::now())),
        None => std::thread::park(),
    }
    #[cfg(loom)]
    match deadline {
        Some(_) => loom::thread::yield_now(),
        None => loom::thread::park(),
    }
}

/// One turn of a spinning wait.
#[inline]
pub(crate) fn spin() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// One turn of a wait for a device, which began then: at first for the shortest time there is, later for the least use of this
/// core.
#[cfg(feature = "cuda")]
pub(crate) fn back_off(begun: Instant) {
    match begun.elapsed().as_micros() {
        0..25 => std::hint::spin_loop(),
        25..200 => std::thread::yield_now(),
        _ => std::thread::sleep(Duration::from_micros(20)),
    }
}

/// How long a waiting thread looks before it parks. Waking one costs 40 to 80 µs, so a wait about as long is well
/// spent; a model has no time to spend.
pub(crate) const SPIN: Duration = if cfg!(loom) { Duration::ZERO } else { Duration::from_micros(25) };

/// The time a wait that began now would end, if it can be told. A model has no clock: its waits end when what they
/// wait for happens, unless the test gives a deadline, which then has always [`passed`].
pub(crate) fn deadline_in(timeout: Duration) -> Option<Instant> {
    // A century is for ever, and still can be added to the time.
    if cfg!(loom) {
        None
    } else {
        Some(Instant::now() + timeout.min(Duration::from_secs(100 * 365 * 86_400)))
    }
}

/// The time since then: none in a model, where every handler is fast.
pub(crate) fn elapsed(since: Instant) -> Duration {
    if cfg!(loom) { Duration::ZERO } else { since.elapsed() }
}

/// Has the deadline passed?
pub(crate) fn passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| cfg!(loom) || Instant::now() >= deadline)
}

/// Takes a lock for itself; `None` at the deadline. What it guards is consistent, whether or not a holder panicked.
///
/// std's has no timed wait. Who holds it is in the middle of a round, which is short as a rule, so a short sleep is no loss.
pub(crate) fn write_before<T>(lock: &RwLock<T>, deadline: Instant) -> Option<RwLockWriteGuard<'_, T>> {
    loop {
        match lock.try_write() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(_)) => lock.clear_poison(),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_micros(50)),
        }
    }
}

/// A value that only one thread at a time reaches, by a protocol of its owner's. Loom checks that it is so.
#[cfg(not(loom))]
pub(crate) struct Guarded<T>(StdUnsafeCell<T>);
#[cfg(loom)]
pub(crate) struct Guarded<T>(loom::cell::UnsafeCell<T>);

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        #[cfg(not(loom))]
        return Self(StdUnsafeCell::new(value));
        #[cfg(loom)]
        return Self(loom::cell::UnsafeCell::new(value));
    }

    /// Calls `body` with the value.
    ///
    /// # Safety
    ///
    /// No other thread is inside `with` of the same value, and neither is this one.
    #[inline]
    pub(crate) unsafe fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        #[cfg(not(loom))]
        // SAFETY: the caller is alone.
        return body(unsafe { &mut *self.0.get() });
        #[cfg(loom)]
        // SAFETY: the caller is alone; loom fails the model if not.
        return self.0.with_mut(|pointer| body(unsafe { &mut *pointer }));
    }
}

// SAFETY: `with` hands the value to one thread at a time, so moving it between threads is all that happens.
unsafe impl<T: Send> Sync for Guarded<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Guarded<T> {}
