//! The background drivers as a model has them: a queue of kernels, emptied by a thread of the test's.

use super::services::Drive;
use crate::sync::{Condvar, Mutex, lock, wait_until};
use std::collections::VecDeque;
use std::sync::Arc;

/// The kernels that wait to be driven.
pub(crate) struct Pool {
    jobs: Mutex<Jobs>,
    arrived: Condvar,
}

struct Jobs {
    waiting: VecDeque<Arc<dyn Drive>>,
    closed: bool,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let jobs = Jobs { waiting: VecDeque::new(), closed: false };
        Self { jobs: Mutex::new(jobs), arrived: Condvar::new() }
    }

    /// Has the kernel driven soon.
    pub(crate) fn submit(&self, kernel: Arc<dyn Drive>) {
        lock(&self.jobs).waiting.push_back(kernel);
        self.arrived.notify_one();
    }

    /// Lets [`work`](Self::work) end when there is nothing left to do.
    pub(crate) fn close(&self) {
        lock(&self.jobs).closed = true;
        self.arrived.notify_all();
    }

    /// Drives what comes until the pool is closed: a background driver.
    pub(crate) fn work(&self) {
        loop {
            let mut jobs = lock(&self.jobs);
            let kernel = loop {
                if let Some(kernel) = jobs.waiting.pop_front() {
                    break kernel;
                }
                if jobs.closed {
                    return;
                }
                jobs = wait_until(&self.arrived, jobs, None);
            };
            drop(jobs);
            kernel.drive();
        }
    }
}
