//! What a port and the pump share: the messages that wait for a round, and what came back of those before.

use super::chains::Chains;
use super::ends::Ends;
use super::group::{CUT_SHORT, Group};
use super::round::Landed;
use crate::backend::{Onward, Packed, PortControl, Shape};
use crate::error::{Error, Result};
use crate::message::Token;
use crate::sync::{Condvar, Mutex, MutexGuard, lock, wait_until};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Nothing follows, or nothing replaces: `rt_NONE` in `shaders/ring.wgsl`.
pub(super) const NONE: u32 = u32::MAX;

/// Messages of one kernel for one round, in order.
#[derive(Default)]
pub(super) struct Batch {
    pub count: u32,
    /// The messages.
    pub parts: Vec<Part>,
    /// Of a kernel with instances.
    pub chains: Chains,
    /// Its messages must not share the device's patience with others; one whose loops are ended does not run again.
    pub alone: bool,
    /// No more messages belong into it.
    pub is_sealed: bool,
    /// Its messages have been to the device before, and run again before all others.
    pub is_again: bool,
    /// The messages' tokens; only where what they emit may go over a link on the device.
    pub tokens: Vec<Token>,
    /// They came over a link on the device, in a round that might have brought so many.
    pub linked: Option<u32>,
    /// What the first so many messages emitted went over a link on the device.
    pub passed: u32,
    /// [A detour](LaneState::detours).
    pub is_detour: bool,
}

/// Some of a batch's messages, one after the other.
pub(super) enum Part {
    Own(Vec<u8>),
    /// These bytes of messages that the layer above keeps as well.
    Shared(Arc<dyn Packed>, Range<usize>),
}

impl Part {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(messages, range) => &messages.bytes()[range.clone()],
        }
    }
}

impl Batch {
    /// Room for messages that come one by one, behind those that are there.
    pub fn own(&mut self) -> &mut Vec<u8> {
        if !matches!(self.parts.last(), Some(Part::Own(_))) {
            self.parts.push(Part::Own(Vec::new()));
        }
        match self.parts.last_mut() {
            Some(Part::Own(bytes)) => bytes,
            _ => unreachable!("just pushed"),
        }
    }

    /// How a message of a round with these ended, by its number there; `None` if it has to run again.
    pub fn end_of(&self, landed: &Landed, number: u32) -> Option<u32> {
        // One that the device cuts short although it is alone would be cut short again.
        landed.code(number).filter(|code| *code != CUT_SHORT || self.alone)
    }

    /// A message, by its number and the size of each.
    pub fn message(&self, index: usize, size: usize) -> &[u8] {
        let mut at = index * size;
        for part in &self.parts {
            let bytes = part.bytes();
            if at < bytes.len() {
                return &bytes[at..at + size];
            }
            at -= bytes.len();
        }
        &[]
    }

    pub fn clear(&mut self) {
        self.count = 0;
        // What was allocated for messages that come one by one is used again.
        let own = self.parts.drain(..).find_map(|part| match part {
            Part::Own(mut bytes) => {
                bytes.clear();
                Some(Part::Own(bytes))
            }
            Part::Shared(..) => None,
        });
        self.parts.extend(own);
        self.chains.clear();
        self.tokens.clear();
        self.alone = false;
        self.is_sealed = false;
        self.is_again = false;
        self.linked = None;
        self.passed = 0;
        self.is_detour = false;
    }
}

/// A batch that has been to the device, and where the records of its messages are.
pub(super) struct Returned {
    pub batch: Batch,
    pub landed: Arc<Landed>,
    /// The first message's number in its round.
    pub first: u32,
    /// What its messages brought to the next kernel, which gets it when these are in the books: nobody sees what a
    /// message caused before that.
    pub next: Option<Box<Passing>>,
}

/// What came over a link, on its way to the kernel at its end.
pub(super) struct Passing {
    pub lane: Arc<Lane>,
    pub returned: Returned,
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
    /// Rounds that have been submitted, or are about to be.
    pub rounds: u32,
    /// What the messages of the round under way emit goes over links on the device.
    pub passes: bool,
    /// Rounds of which something that was emitted goes through the host, and may not have got to its mailbox yet: nothing
    /// may pass by on the device meanwhile.
    pub detours: u32,
    /// Rounds that came over links and are over, while the kernels before have not handed out what caused them.
    pub on_the_way: u32,
    /// Messages that rounds which did not come about might have brought over links.
    pub called_off: usize,
    pub returned: VecDeque<Returned>,
    /// Batches to be used again.
    pub spare: Vec<Batch>,
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
    /// Messages that its port takes at once.
    pub most: u32,
    /// Where what it emits may go on the device.
    pub onward: Option<Arc<dyn Onward>>,
    /// Of a kernel with instances.
    pub ends: Option<Ends>,
    state: Mutex<LaneState>,
    /// Something came back.
    changed: Condvar,
}

impl Lane {
    pub fn new(
        group: Arc<Group>,
        places: Range<u32>,
        control: Arc<PortControl>,
        most: u32,
        onward: Option<Arc<dyn Onward>>,
        ends: Option<Ends>,
    ) -> Self {
        Self {
            group,
            places,
            fallback: AtomicU32::new(NONE),
            control,
            most,
            onward,
            ends,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Where the states are that replace those of faulted instances.
    pub fn fallback(&self) -> Option<u32> {
        // Relaxed: rounds are ordered by the device's queue, and this one's words by the lock around them.
        Some(self.fallback.load(Ordering::Relaxed)).filter(|first| *first != NONE)
    }

    /// From now on a faulted instance goes on with its part of these states.
    pub fn set_fallback(&self, states: Option<&[u8]>) -> Result<()> {
        let Some(states) = states else {
            if let Some(first) = self.fallback() {
                self.fallback.store(NONE, Ordering::Relaxed);
                self.group.free(first..first + self.places.len() as u32);
            }
            return Ok(());
        };
        let count = self.places.len() as u32;
        let first = match self.fallback() {
            Some(first) => first,
            None => self.group.allocate(count)?.start,
        };
        // Where there is no memory to write them, those that were there stay as they were.
        if let Err(error) = self.group.write_states(first, states) {
            if self.fallback().is_none() {
                self.group.free(first..first + count);
            }
            return Err(error);
        }
        self.fallback.store(first, Ordering::Relaxed);
        Ok(())
    }

    pub fn lock(&self) -> MutexGuard<'_, LaneState> {
        lock(&self.state)
    }

    /// Could a round begin with what is staged?
    pub fn may_begin(&self, state: &LaneState) -> bool {
        state.staged.count > 0
            && state.rounds < if state.passes { 1 } else { self.most_rounds() }
            && !(state.is_rough || state.is_paused || state.is_closed)
            && state.failure.is_none()
            && !self.control.stop_requested()
    }

    /// Should a round with what is staged begin while the device is at something else? If it is much, or if it is the
    /// same kernel's round that it is at: then it goes on with this one.
    pub fn is_worth_a_round(&self) -> bool {
        const MUCH: u32 = 1024;
        let state = self.lock();
        state.rounds > 0 || state.staged.count >= MUCH
    }

    /// Rounds that may be under way at once.
    pub fn most_rounds(&self) -> u32 {
        match self.group.shape {
            Shape::Stateless => 2,
            // No chain is longer than the device handles.
            _ if !self.group.shader.may_fault => 2,
            // A fault in one decides what the next finds.
            Shape::Serial | Shape::Instances { .. } => 1,
        }
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
        state.rounds + state.on_the_way == 0 || state.failure.is_some()
    }

    /// Is there anything for the port to look at?
    pub fn has_news(&self) -> bool {
        let state = self.lock();
        !state.returned.is_empty() || state.called_off > 0 || state.failure.is_some()
    }

    /// Enters how many messages have not begun; the lane is locked.
    pub fn count_waiting(&self, waiting: usize) {
        self.control.set_waiting(waiting);
    }

    /// Takes what a round made of a batch; the kernel has to be [told](Self::tell_kernel). `true` if the next batch may follow at once.
    pub fn take_back(&self, mut returned: Returned) -> bool {
        let mut state = self.lock();
        self.end_round(&mut state, &mut returned);
        if state.is_closed {
            drop(state);
            self.changed.notify_all();
            // Nobody comes for it, but what it brought to another kernel is that one's.
            if let Some(next) = returned.next.take() {
                drop(next.arrive());
            }
            return false;
        }
        state.returned.push_back(returned);
        let more = self.may_begin(&state) && !state.is_queued;
        state.is_queued |= more;
        drop(state);
        self.changed.notify_all();
        more
    }

    /// A round is over.
    pub fn end_round(&self, state: &mut LaneState, returned: &mut Returned) {
        let Returned { batch, landed, first, .. } = returned;
        // It is 0 already if the kernel has failed meanwhile.
        state.rounds = state.rounds.saturating_sub(1);
        state.passes = false;
        let is_smooth = landed.is_smooth(*first, batch.count);
        debug_assert!(is_smooth || self.group.shader.may_fault, "what cannot fault comes to its end");
        state.is_rough |= !is_smooth;
        if batch.passed < batch.count && !batch.is_detour {
            self.take_detour(state, batch);
        }
    }

    /// Something that these messages emit goes through the host.
    pub fn take_detour(&self, state: &mut LaneState, batch: &mut Batch) {
        state.passes = false;
        if self.emits() {
            batch.is_detour = true;
            state.detours += 1;
        }
    }

    /// Has it outputs?
    pub fn emits(&self) -> bool {
        !self.group.shader.record.emits.is_empty()
    }

    /// Tells whoever waits that something came back.
    pub fn notify(&self) {
        self.changed.notify_all();
    }

    /// Has somebody look after what came back.
    pub fn tell_kernel(&self) {
        self.control.call_ready(false);
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
            self.changed.notify_all();
            self.control.call_ready(true);
        }
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
