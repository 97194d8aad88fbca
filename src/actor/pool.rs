//! The background drivers: a few threads that run the handlers nobody is waiting for.
//!
//! As many threads as cores, started when first needed. A handler that cannot be interrupted may hold one for good;
//! a watchdog starts another one when work waits and no thread takes it.

use super::services::Drive;
use crate::sync::SPIN;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

enum Job {
    Drive(Arc<dyn Drive>),
    Quit,
}

/// The threads and the queue of kernels that wait for one.
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    jobs: flume::Sender<Job>,
    taken: flume::Receiver<Job>,
    cores: usize,
    workers: AtomicUsize,
    idle: AtomicUsize,
    /// Jobs begun, ever: how the watchdog sees whether anything moves.
    begun: AtomicU64,
    /// One idle thread at a time looks for work before it sleeps.
    spinning: AtomicBool,
    closed: AtomicBool,
    watchdog: OnceLock<Thread>,
    starting: Mutex<()>,
}

/// How long work may wait for a thread before another one is started.
const STARVED: Duration = Duration::from_millis(10);
/// Threads, at most: a bound against a program whose every handler hangs.
const MOST_WORKERS: usize = 256;
/// A thread beyond the cores goes when it had nothing to do for so long.
const SPARE: Duration = Duration::from_secs(1);

impl Pool {
    pub(crate) fn new() -> Self {
        let (jobs, taken) = flume::unbounded();
        Self(Arc::new(Inner {
            jobs,
            taken,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            workers: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            spinning: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            watchdog: OnceLock::new(),
            starting: Mutex::new(()),
        }))
    }

    /// Has the kernel driven soon.
    pub(crate) fn submit(&self, kernel: Arc<dyn Drive>) {
        let inner = &self.0;
        // For ThreadSanitizer, which cannot look into flume's lock: what came before this comes before the look at
        // `idle` of the worker that takes the job.
        #[cfg(tsan)]
        inner.idle.fetch_add(0, Ordering::SeqCst);
        // The receiver lives in `inner`, so this cannot fail.
        let _ = inner.jobs.send(Job::Drive(kernel));
        // SeqCst: after the send; a worker stops counting as idle before it looks whether more work waits.
        if inner.idle.load(Ordering::SeqCst) == 0 {
            inner.call_somebody();
        }
    }

    /// Ends the threads as they become free.
    pub(crate) fn close(&self) {
        let inner = &self.0;
        inner.closed.store(true, Ordering::SeqCst);
        for _ in 0..inner.workers.load(Ordering::SeqCst) {
            let _ = inner.jobs.send(Job::Quit);
        }
        if let Some(watchdog) = inner.watchdog.get() {
            watchdog.unpark();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// Sees to it that work which waits while no thread is idle is taken.
    fn call_somebody(self: &Arc<Self>) {
        if self.workers.load(Ordering::SeqCst) < self.cores {
            self.start(self.cores);
        } else {
            self.watch();
        }
    }

    /// Starts a thread, unless there are so many.
    fn start(self: &Arc<Self>, most: usize) {
        let _one_at_a_time = self.starting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let number = self.workers.load(Ordering::SeqCst);
        if number >= most || self.closed.load(Ordering::SeqCst) {
            return;
        }
        // Before the thread runs: it may end, and uncount itself, at once.
        self.workers.fetch_add(1, Ordering::SeqCst);
        let inner = self.clone();
        let thread = std::thread::Builder::new().name(format!("ringwork-driver-{number}"));
        if thread.spawn(move || inner.work()).is_err() {
            // Without another thread the work waits for those there are, and for callers.
            self.workers.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn work(self: Arc<Self>) {
        loop {
            self.idle.fetch_add(1, Ordering::SeqCst);
            let job = self.next();
            let was_idle = self.idle.fetch_sub(1, Ordering::SeqCst);
            if job.is_some() && was_idle == 1 && !self.taken.is_empty() {
                // Whoever submitted that work may have counted on this thread.
                self.call_somebody();
            }
            match job {
                Some(Job::Drive(kernel)) => {
                    self.begun.fetch_add(1, Ordering::Relaxed);
                    kernel.drive();
                }
                Some(Job::Quit) => break,
                // A last look, no longer idle: work that came before it counted on this thread.
                None if self.workers.load(Ordering::SeqCst) > self.cores && self.taken.is_empty() => break,
                None => {}
            }
            if self.closed.load(Ordering::SeqCst) && self.taken.is_empty() {
                break;
            }
        }
        self.workers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Looks for work, first without sleeping: waking a thread costs more than most handlers.
    fn next(&self) -> Option<Job> {
        if !self.spinning.swap(true, Ordering::SeqCst) {
            let end = Instant::now() + SPIN;
            let mut found = self.taken.try_recv().ok();
            while found.is_none() && Instant::now() < end {
                // A look every 32 pauses disturbs whoever sends least.
                for _ in 0..32 {
                    std::hint::spin_loop();
                }
                found = self.taken.try_recv().ok();
            }
            self.spinning.store(false, Ordering::SeqCst);
            if found.is_some() {
                return found;
            }
        }
        self.taken.recv_timeout(SPARE).ok()
    }

    /// Sees to it that somebody watches over the work that waits.
    fn watch(self: &Arc<Self>) {
        let watchdog = self.watchdog.get_or_init(|| {
            let inner = Arc::downgrade(self);
            let watch = move || {
                while let Some(pool) = inner.upgrade() {
                    if pool.closed.load(Ordering::SeqCst) {
                        return;
                    }
                    if pool.taken.is_empty() {
                        drop(pool);
                        std::thread::park();
                        continue;
                    }
                    let begun = pool.begun.load(Ordering::Relaxed);
                    std::thread::sleep(STARVED);
                    let stuck = begun == pool.begun.load(Ordering::Relaxed);
                    if stuck && !pool.taken.is_empty() && pool.idle.load(Ordering::SeqCst) == 0 {
                        pool.start(MOST_WORKERS);
                    }
                }
            };
            match std::thread::Builder::new().name("ringwork-watchdog".to_owned()).spawn(watch) {
                Ok(handle) => handle.thread().clone(),
                // Then nobody watches; callers who wait still drive.
                Err(_) => std::thread::current(),
            }
        });
        watchdog.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says that it has begun, then waits until it is let go.
    struct Held(flume::Receiver<()>);
    struct Lets(flume::Sender<()>);

    impl Drive for Held {
        fn drive(self: Arc<Self>) {
            let _ = self.0.recv_timeout(Duration::from_secs(20));
        }
    }

    impl Drive for Lets {
        fn drive(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }

    #[test]
    fn work_behind_a_handler_that_holds_its_thread_is_taken_by_another() {
        let pool = Pool::new();
        let begun = Instant::now();
        for _ in 0..200 {
            // The second job comes while the thread that will take the first one still counts as idle.
            let (lets, held) = flume::bounded(1);
            let (tells, told) = flume::bounded(1);
            pool.submit(Arc::new(Held(held)));
            pool.submit(Arc::new(Lets(lets)));
            pool.submit(Arc::new(Lets(tells)));
            told.recv_timeout(Duration::from_secs(10)).expect("the last job runs");
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
