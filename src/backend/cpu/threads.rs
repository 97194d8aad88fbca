//! The device's threads, and how many of them are free: nobody waits for one that is not.
//!
//! A Rust function may wait for another kernel, or for ever. So whoever has much to run does it on its own thread, and
//! on as many others as are free then; if none is, it takes longer, and that is all.

use rayon::{Scope, ThreadPool, ThreadPoolBuilder};
use std::num::NonZero;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The threads of a CPU device.
pub(super) struct Threads {
    /// All but the caller's. Made when first wanted; `None` if there are none, or the system gives none.
    pool: OnceLock<Option<ThreadPool>>,
    /// Those of the pool that nobody has taken.
    free: AtomicUsize,
    parallelism: usize,
}

/// Threads that somebody has taken to run something beside its own; free again when dropped.
pub(super) struct Helpers<'t> {
    threads: &'t Threads,
    left: usize,
}

impl Threads {
    pub(super) fn new(parallelism: usize) -> Self {
        Self { pool: OnceLock::new(), free: AtomicUsize::new(parallelism - 1), parallelism }
    }

    /// How many run at the same time, the caller's own among them.
    pub(super) fn parallelism(&self) -> usize {
        self.parallelism
    }

    fn pool(&self) -> Option<&ThreadPool> {
        let make = || {
            // Rayon takes zero for as many as there are processors.
            let others = NonZero::new(self.parallelism - 1)?;
            let pool = ThreadPoolBuilder::new().num_threads(others.get());
            pool.thread_name(|index| format!("ringwork-cpu-{index}")).build().ok()
        };
        self.pool.get_or_init(make).as_ref()
    }

    /// Takes up to `most` threads that are free: none for one of these threads, which is a helper itself.
    pub(super) fn take(&self, most: usize) -> Helpers<'_> {
        let mut helpers = Helpers { threads: self, left: 0 };
        if most > 0 && self.pool().is_some_and(|pool| pool.current_thread_index().is_none()) {
            let less = |free: usize| (free > 0).then(|| free - free.min(most));
            // Relaxed: the count carries nothing else.
            let before = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
            helpers.left = before.map_or(0, |free| free.min(most));
        }
        helpers
    }

    /// Calls `body` with what [`Helpers::spawn`] takes, and waits until all that was given to helpers is over; `false`,
    /// and does not, if there are no other threads.
    pub(super) fn scope<'s>(&'s self, body: impl FnOnce(&Scope<'s>)) -> bool {
        self.pool().map(|pool| pool.in_place_scope(body)).is_some()
    }
}

impl<'t> Helpers<'t> {
    pub(super) fn threads(&self) -> &'t Threads {
        self.threads
    }

    /// How many there are to give something to.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Gives `work` to one of them, with the number of its thread, which is less than how many run beside the caller's.
    /// The thread is free again when that is over.
    ///
    /// # Panics
    ///
    /// If none is left.
    pub(super) fn spawn<'s>(&mut self, scope: &Scope<'s>, work: impl FnOnce(usize) + Send + 's)
    where
        't: 's,
    {
        assert!(self.left > 0, "every helper has something to do");
        self.left -= 1;
        let one = Self { threads: self.threads, left: 1 };
        scope.spawn(move |_| {
            work(rayon::current_thread_index().expect("a thread of the pool runs this"));
            drop(one);
        });
    }
}

impl Drop for Helpers<'_> {
    fn drop(&mut self) {
        // Relaxed: as in `take`.
        self.threads.free.fetch_add(self.left, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_taken_once_and_come_back() {
        let threads = Threads::new(4);
        let mut all = threads.take(9);
        assert_eq!((all.left(), threads.take(1).left()), (3, 0));
        let ran = AtomicUsize::new(0);
        threads.scope(|scope| {
            all.spawn(scope, |thread| {
                assert!(thread < 3);
                // One of the threads is nobody to take others.
                ran.fetch_add(1 + threads.take(1).left(), Ordering::Relaxed);
            });
        });
        assert_eq!((ran.into_inner(), all.left(), threads.take(3).left()), (1, 2, 1));
        drop(all);
        assert_eq!(threads.take(2).left(), 2);
        assert_eq!(threads.take(0).left(), 0);
    }
}
