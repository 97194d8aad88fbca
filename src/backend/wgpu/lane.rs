//! What a port and the pump share: the messages that wait for a round, and what came back of those before.

use super::group::Group;
use crate::backend::PortControl;
use crate::error::{Error, Result};
use crate::sync::{Condvar, Mutex, MutexGuard, lock, wait_until};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Nothing follows, or nothing replaces: `RT_NONE` in `shaders/ring.wgsl`.
pub(super) const NONE: u32 = u32::MAX;

/// Messages of one kernel for one round, in order.
#[derive(Default)]
pub(super) struct Batch {
    pub count: u32,
    /// The messages, one after the other.
    pub bytes: Vec<u8>,
    /// Of a kernel with instances: the first message of each instance that has any, and the instance.
    pub chains: Vec<(u32, u32)>,
    /// … and of each message the next one for the same instance, or [`NONE`].
    pub links: Vec<u32>,
    /// The one message in it must not share the device's patience with others.
    pub alone: bool,
    /// No more messages belong into it.
    pub is_sealed: bool,
    /// Its messages have been to the device before, and run again before all others.
    pub is_again: bool,
}

impl Batch {
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
        self.chains.clear();
        self.links.clear();
        self.alone = false;
        self.is_sealed = false;
        self.is_again = false;
    }
}

/// A batch that has been to the device, and the records of its messages.
pub(super) struct Returned {
    pub batch: Batch,
    pub records: Vec<u8>,
    pub stamp: u32,
}

/// Where a kernel's messages are.
#[derive(Default)]
pub(super) struct LaneState {
    /// For the next round.
    pub staged: Batch,
    /// Messages that the port keeps until those before them have run again.
    pub apart: usize,
    /// The pump has been told of `staged`.
    pub is_queued: bool,
    /// In rounds that have been submitted.
    pub rounds: u32,
    pub returned: VecDeque<Returned>,
    /// Batches and records to be used again.
    pub spare: Vec<Batch>,
    pub spare_records: Vec<Vec<u8>>,
    /// Recalled: nothing of this kernel begins until the port makes progress again.
    pub is_paused: bool,
    /// Not all messages of a round came to their end: nothing begins until the port has looked after them.
    pub is_rough: bool,
    /// The port is gone: nobody wants what comes back.
    pub is_closed: bool,
    /// The device is lost, or refused a round.
    pub failure: Option<Error>,
}

/// See the module.
pub(super) struct Lane {
    pub group: Arc<Group>,
    /// The places of its states.
    pub places: Range<u32>,
    /// The first of the states that replace those of faulted instances; [`NONE`] if they stay as they were.
    fallback: AtomicU32,
    pub control: Arc<PortControl>,
    state: Mutex<LaneState>,
    /// Something came back.
    changed: Condvar,
}

impl Lane {
    pub fn new(group: Arc<Group>, places: Range<u32>, control: Arc<PortControl>) -> Self {
        let fallback = AtomicU32::new(NONE);
        Self { group, places, fallback, control, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Where the states are that replace those of faulted instances.
    pub fn fallback(&self) -> Option<u32> {
        // Relaxed: rounds are ordered by the device's queue, and this one's words by the lock around them.
        Some(self.fallback.load(Ordering::Relaxed)).filter(|first| *first != NONE)
    }

    /// From now on a faulted instance goes on with its part of these states, of `size` bytes each.
    pub fn set_fallback(&self, states: Option<&[u8]>, size: usize) -> Result<()> {
        let Some(states) = states else {
            if let Some(first) = self.fallback() {
                self.fallback.store(NONE, Ordering::Relaxed);
                self.group.free(first..first + self.places.len() as u32);
            }
            return Ok(());
        };
        let first = match self.fallback() {
            Some(first) => first,
            None => self.group.allocate(self.places.len() as u32)?.start,
        };
        self.group.write_states(first, states, size);
        self.fallback.store(first, Ordering::Relaxed);
        Ok(())
    }

    pub fn lock(&self) -> MutexGuard<'_, LaneState> {
        lock(&self.state)
    }

    /// Could a round begin with what is staged?
    pub fn may_begin(&self, state: &LaneState) -> bool {
        // One round of a kernel at a time: a fault in it decides whether there is another.
        state.staged.count > 0
            && state.rounds == 0
            && !(state.is_rough || state.is_paused || state.is_closed)
            && state.failure.is_none()
            && !self.control.stop_requested()
    }

    /// Waits until something comes back or somebody else should pump, at most until then.
    pub fn wait(&self, until: Instant) {
        let state = self.lock();
        // What came between the caller's look and this is noticed at `until`, which is soon.
        drop(wait_until(&self.changed, state, Some(until)));
    }

    /// Is nothing of it on the device?
    pub fn is_idle(&self) -> bool {
        let state = self.lock();
        state.rounds == 0 || state.failure.is_some()
    }

    /// Is there anything for the port to look at?
    pub fn has_news(&self) -> bool {
        let state = self.lock();
        !state.returned.is_empty() || state.failure.is_some()
    }

    /// Enters how many messages have not begun; the lane is locked.
    pub fn count_waiting(&self, waiting: usize) {
        // Release pairs with the Acquire in the mailbox's count of free places: a place seen free is free.
        self.control.waiting.store(waiting, Ordering::Release);
    }

    /// Takes what a round made of a batch. `true` if the next batch may follow at once.
    pub fn take_back(&self, batch: Batch, records: &[u8], stamp: u32) -> bool {
        let mut state = self.lock();
        state.rounds -= 1;
        let mut copy = state.spare_records.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(records);
        let smooth = self.group.all_done(&copy, stamp);
        state.returned.push_back(Returned { batch, records: copy, stamp });
        state.is_rough |= !smooth;
        let more = self.may_begin(&state) && !state.is_queued;
        state.is_queued |= more;
        drop(state);
        self.tell(false);
        more
    }

    /// The device is gone, or had something against a round.
    pub fn fail(&self, error: &Error) {
        let mut state = self.lock();
        state.rounds = 0;
        state.is_queued = false;
        let is_news = state.failure.is_none();
        state.failure.get_or_insert_with(|| error.clone());
        drop(state);
        if is_news {
            self.tell(true);
        }
    }

    fn tell(&self, is_lost: bool) {
        self.changed.notify_all();
        self.control.call_ready(is_lost);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(first) = self.fallback() {
            self.group.free(first..first + self.places.len() as u32);
        }
        self.group.free(self.places.clone());
    }
}
