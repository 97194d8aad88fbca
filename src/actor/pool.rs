//! The background drivers: a few threads that run the handlers nobody is waiting for.
//!
//! As many threads as cores, started when first needed. A handler that cannot be interrupted may hold one for good;
//! a watchdog starts another one when work waits and no thread takes it.

use super::core::Drive;
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
const PATIENCE: Duration = Duration::from_millis(10);
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
        // The receiver lives in `inner`, so this cannot fail.
        let _ = inner.jobs.send(Job::Drive(kernel));
        // SeqCst: after the send; a worker counts itself idle before it looks at the queue for the last time.
        if inner.idle.load(Ordering::SeqCst) == 0 {
            inner.help();
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
    /// No thread is free for the work that waits: starts one if there may be more, else has it watched.
    fn help(self: &Arc<Self>) {
        if self.workers.load(Ordering::SeqCst) < self.cores { self.start() } else { self.watch() }
    }

    fn start(self: &Arc<Self>) {
        let _one_at_a_time = self.starting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let number = self.workers.load(Ordering::SeqCst);
        if number >= MOST_WORKERS || self.closed.load(Ordering::SeqCst) {
            return;
        }
        let inner = self.clone();
        let thread = std::thread::Builder::new().name(format!("ringwork-driver-{number}"));
        // Without another thread the work waits for those there are, and for callers.
        if thread.spawn(move || inner.work()).is_ok() {
            self.workers.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn work(self: Arc<Self>) {
        loop {
            self.idle.fetch_add(1, Ordering::SeqCst);
            let job = self.next();
            // A thread counts as idle until here, also for somebody who submitted while it was waking up: what came
            // meanwhile and finds nobody else idle is this thread's to see to before it is busy.
            if self.idle.fetch_sub(1, Ordering::SeqCst) == 1 && !self.taken.is_empty() {
                self.help();
            }
            match job {
                Some(Job::Drive(kernel)) => {
                    self.begun.fetch_add(1, Ordering::Relaxed);
                    kernel.drive();
                }
                Some(Job::Quit) => break,
                None if self.workers.load(Ordering::SeqCst) > self.cores => break,
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
                    std::thread::sleep(PATIENCE);
                    let stuck = begun == pool.begun.load(Ordering::Relaxed);
                    if stuck && !pool.taken.is_empty() && pool.idle.load(Ordering::SeqCst) == 0 {
                        pool.start();
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
    use std::sync::mpsc;

    /// Runs a closure once.
    struct Once(Mutex<Option<Box<dyn FnOnce() + Send>>>);

    impl Drive for Once {
        fn drive(self: Arc<Self>) {
            let run = self.0.lock().unwrap().take();
            run.unwrap()();
        }
    }

    fn once(run: impl FnOnce() + Send + 'static) -> Arc<dyn Drive> {
        Arc::new(Once(Mutex::new(Some(Box::new(run)))))
    }

    #[test]
    fn work_gets_a_thread_however_many_are_stuck() {
        for round in 0..20 {
            let pool = Pool::new();
            let cores = pool.0.cores;
            let (release, stuck) = flume::unbounded::<()>();
            let (done, finished) = mpsc::channel();
            // One idle worker, and then more work at once than it can take.
            pool.submit(once(|| ()));
            std::thread::sleep(Duration::from_micros(50 * round));
            for _ in 0..cores + 2 {
                let stuck = stuck.clone();
                pool.submit(once(move || {
                    let _ = stuck.recv();
                }));
            }
            let sender = done.clone();
            pool.submit(once(move || sender.send(()).unwrap()));
            finished.recv_timeout(Duration::from_secs(10)).expect("the work behind the stuck ones is done");
            drop(release);
        }
    }
}
