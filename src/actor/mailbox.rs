//! The bounded queue in front of a kernel, and the books: everything here is under one lock.
//!
//! A message is in one of two places: queued by priority, or in flight (in the port, or in a host kernel's hand),
//! in the order it was taken. It leaves in exactly one way, and each way is counted.
//!
//! Many messages that were sent together to a kernel on a device stay together, as a [`Batch`]: none of them is looked at
//! alone, unless something happens to one of them.

use super::cell::ReplyCell;
use super::lifecycle::KernelState;
use super::links::CycleCredits;
use super::telemetry::{DeadLetterCounts, DeadLetterReason};
use super::together::Batch;
use crate::backend::DeviceInlet;
use crate::error::Error;
use crate::kernel::Backpressure;
use crate::message::Token;
use crate::sync::passed;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// A message with what it takes to answer it.
pub(crate) struct Slot<In, Out> {
    pub meta: Meta<Out>,
    pub payload: In,
}

/// What is known of a message besides its payload.
pub(crate) struct Meta<Out> {
    pub token: Token,
    /// The sender's correlation id as a number; 0 for none.
    pub correlation: u128,
    /// When it was accepted, in nanoseconds since the process's epoch; 0 if this message is not sampled.
    pub stamp: u64,
    /// Where the caller waits, if one does.
    pub cell: Option<Arc<ReplyCell<Out>>>,
    pub priority: u8,
    /// Nobody wants the reply.
    pub discard_reply: bool,
}

impl<Out> Meta<Out> {
    /// Does its reply go to the queue of replies nobody asked for?
    pub(crate) fn replies_to_queue(&self) -> bool {
        self.cell.is_none() && !self.discard_reply
    }
}

/// The normal priority, whose queue is found without a look into the map.
pub(super) const NORMAL: u8 = 128;

/// What a full mailbox or a wrong state makes of a push.
pub(crate) enum Refusal<In, Out> {
    /// Not accepted, for this reason; the message comes back.
    Refused(Slot<In, Out>, Cause),
    /// Accepted and dead-lettered at once (`DropNewest`).
    Dropped(Slot<In, Out>),
}

/// Why a message was not accepted.
#[derive(Clone, Debug)]
pub(crate) enum Cause {
    Full,
    NotActive(KernelState),
    Failed(Error),
    Terminated,
}

/// The queue and the books of one kernel.
///
/// In this order so that what each push and each pop changes shares one cache line with the lock before it (8 bytes):
/// a line's way from a sender's processor to the receiver's takes longer than either.
#[repr(C)]
pub(crate) struct Mailbox<In, Out> {
    normal: VecDeque<Slot<In, Out>>,
    queued: usize,
    /// Accepted through the mailbox (messages on the direct path are counted where they run).
    pub accepted: u64,
    pub state: KernelState,
    backpressure: Backpressure,
    /// A terminating kernel still handles what it has, until `drain_until`.
    pub draining: bool,
    /// The host kernel's thread waits on `Core::items`.
    pub host_sleeps: bool,
    /// The host kernel's thread has ended.
    pub host_ended: bool,
    /// There is something in `batches`, which then is behind all of `normal`, and nothing in `others`.
    has_batches: bool,
    capacity: usize,
    /// Threads waiting on `Core::changed`.
    pub blocked: usize,
    /// The other priorities; a queue is there only while it holds something.
    others: BTreeMap<u8, VecDeque<Slot<In, Out>>>,
    /// The links' cycle this kernel is part of.
    pub cycle: Option<Arc<CycleCredits>>,
    /// The cycle's credits that each message in the port has besides its own: for all that it may send.
    pub growth: usize,
    batches: VecDeque<Batch<In>>,
    /// In the port and not yet confirmed, oldest first.
    pub singly: VecDeque<Slot<In, Out>>,
    /// … and behind them, what went there together.
    pub together: VecDeque<Batch<In>>,
    /// What a host kernel's function works on; the payload is the function's.
    pub hand: Option<Meta<Out>>,
    /// Why the kernel failed, if it did.
    pub failure: Option<Error>,
    pub returned: u64,
    pub dead: DeadLetterCounts,
    pub drain_until: Option<Instant>,
    /// When the kernel restarted after a fault, as far back as its policy looks.
    pub restarted: VecDeque<Instant>,
    /// The way into the port for what kernels of its device emit.
    pub inlet: Option<Arc<dyn DeviceInlet>>,
    /// Places kept for messages that other kernels' rounds may still deliver on the device: while there are some, nothing is
    /// fed to the port.
    pub awaited: usize,
    /// Messages that came that way.
    pub arrived: u64,
}

impl<In, Out> Mailbox<In, Out> {
    pub(crate) fn new(capacity: usize, backpressure: Backpressure) -> Self {
        Self {
            normal: VecDeque::new(),
            others: BTreeMap::new(),
            queued: 0,
            has_batches: false,
            batches: VecDeque::new(),
            singly: VecDeque::new(),
            together: VecDeque::new(),
            hand: None,
            capacity,
            backpressure,
            state: KernelState::Created,
            failure: None,
            accepted: 0,
            returned: 0,
            dead: DeadLetterCounts::default(),
            blocked: 0,
            host_sleeps: false,
            host_ended: false,
            draining: false,
            drain_until: None,
            restarted: VecDeque::new(),
            cycle: None,
            growth: 0,
            inlet: None,
            awaited: 0,
            arrived: 0,
        }
    }

    /// Messages not yet taken.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Nothing to do for anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0
            && self.singly.is_empty()
            && self.together.is_empty()
            && self.awaited == 0
            && self.hand.is_none()
    }

    /// Messages in the port.
    pub(crate) fn in_port(&self) -> usize {
        self.singly.len() + self.together.iter().map(Batch::len).sum::<usize>()
    }

    /// Places left; `waiting` messages in the port still count, for their handlers have not begun, and so do places that
    /// are kept for what comes over links on the device.
    pub(crate) fn room(&self, waiting: usize) -> usize {
        self.capacity.saturating_sub(self.queued + waiting + self.awaited)
    }

    /// The places there are.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// May handlers begin messages?
    pub(crate) fn runs(&self) -> bool {
        match self.state {
            KernelState::Active => true,
            KernelState::Terminating => self.draining && !passed(self.drain_until),
            _ => false,
        }
    }

    /// Does a link still find a kernel here that will take messages?
    pub(crate) fn takes_links(&self) -> bool {
        !matches!(self.state, KernelState::Failed | KernelState::Terminating | KernelState::Terminated)
    }

    /// Why no message is accepted now, if none is.
    pub(crate) fn closed(&self) -> Option<Cause> {
        match self.state {
            KernelState::Active => None,
            KernelState::Failed => {
                Some(Cause::Failed(self.failure.clone().expect("a failed kernel has a cause")))
            }
            KernelState::Terminating | KernelState::Terminated => Some(Cause::Terminated),
            state => Some(Cause::NotActive(state)),
        }
    }

    /// Takes a message from a sender, by the kernel's strategy. `dropped` gets the one that has to make room.
    ///
    /// # Errors
    ///
    /// The message and why it was not taken, or that it was dropped at once.
    pub(crate) fn push(
        &mut self,
        slot: Slot<In, Out>,
        waiting: usize,
        dropped: &mut Option<Slot<In, Out>>,
    ) -> Result<(), Refusal<In, Out>> {
        if let Some(cause) = self.closed() {
            return Err(Refusal::Refused(slot, cause));
        }
        let full = self.room(waiting) == 0;
        if full || self.cycle.as_ref().is_some_and(|cycle| !cycle.try_inject()) {
            match self.backpressure {
                Backpressure::Block | Backpressure::Reject => {
                    return Err(Refusal::Refused(slot, Cause::Full));
                }
                Backpressure::DropNewest => {
                    self.accepted += 1;
                    self.dead.count(DeadLetterReason::DroppedNewest);
                    return Err(Refusal::Dropped(slot));
                }
                Backpressure::DropOldest => match self.drop_oldest(slot.meta.priority) {
                    // The dropped message's credit in a cycle, if any, goes over to the newcomer.
                    Some(oldest) => *dropped = Some(oldest),
                    None => return Err(Refusal::Refused(slot, Cause::Full)),
                },
            }
        }
        self.accepted += 1;
        self.enqueue(slot);
        Ok(())
    }

    /// Takes a message whose place is certain.
    pub(crate) fn enqueue(&mut self, slot: Slot<In, Out>) {
        if self.has_batches {
            self.undo_batches();
        }
        self.queued += 1;
        if slot.meta.priority == NORMAL {
            if self.normal.len() == self.normal.capacity() {
                // Doubling, but never past what was asked for: the capacity bounds the memory too.
                // More than that is queued only of what a lost device had.
                let free = self.capacity.saturating_sub(self.normal.len());
                let more = self.normal.len().clamp(4, free.max(4));
                self.normal.reserve_exact(more);
            }
            self.normal.push_back(slot);
        } else {
            self.others.entry(slot.meta.priority).or_default().push_back(slot);
        }
    }

    /// Takes messages that were sent together, whose places are certain.
    pub(crate) fn enqueue_batch(&mut self, batch: Batch<In>) {
        self.accepted += batch.len() as u64;
        if !self.others.is_empty() {
            return batch.into_slots().for_each(|slot| self.enqueue(slot));
        }
        self.queued += batch.len();
        self.has_batches = true;
        self.batches.push_back(batch);
    }

    /// Does nobody want the replies to the messages that [`take_batch`](Self::take_batch) takes next?
    pub(crate) fn next_batch_discards(&self) -> bool {
        self.batches.front().is_some_and(|batch| batch.discard_reply)
    }

    /// Takes the first up to `most` messages that were sent together and are next, if nothing else is.
    pub(crate) fn take_batch(&mut self, most: usize) -> Option<Batch<In>> {
        if !self.has_batches || !self.normal.is_empty() || most == 0 {
            return None;
        }
        let next = self.batches.front_mut()?;
        let batch = if next.len() <= most { self.batches.pop_front()? } else { next.split_front(most) };
        self.has_batches = !self.batches.is_empty();
        self.queued -= batch.len();
        Some(batch)
    }

    /// Queues each message by itself that was sent together with others.
    #[cold]
    fn undo_batches(&mut self) {
        let batches = std::mem::take(&mut self.batches);
        self.normal.extend(batches.into_iter().flat_map(Batch::into_slots));
        self.has_batches = false;
    }

    /// Keeps each message in the port by itself.
    pub(crate) fn separate_all(&mut self) {
        let together = std::mem::take(&mut self.together);
        self.singly.extend(together.into_iter().flat_map(Batch::into_slots));
    }

    /// The next message to take by itself: highest priority first, oldest first inside one.
    pub(crate) fn peek(&self) -> Option<&Slot<In, Out>> {
        match self.others.last_key_value() {
            Some((priority, queue)) if *priority > NORMAL || self.normal.is_empty() => queue.front(),
            _ => self.normal.front(),
        }
    }

    /// Takes it.
    pub(crate) fn pop(&mut self) -> Option<Slot<In, Out>> {
        if let Some(mut queue) = self.others.last_entry()
            && (*queue.key() > NORMAL || self.normal.is_empty())
        {
            let slot = queue.get_mut().pop_front();
            if queue.get().is_empty() {
                queue.remove();
            }
            self.queued -= 1;
            return slot;
        }
        if self.has_batches && self.normal.is_empty() {
            self.undo_batches();
        }
        let slot = self.normal.pop_front()?;
        self.queued -= 1;
        Some(slot)
    }

    /// Takes everything at once, in order, if nothing is in flight and all has the normal priority: no message moves.
    /// `false`, and nothing is taken, otherwise.
    pub(crate) fn take_all_normal(&mut self) -> bool {
        if self.in_port() > 0 || !self.others.is_empty() || self.has_batches {
            return false;
        }
        std::mem::swap(&mut self.normal, &mut self.singly);
        self.queued = 0;
        true
    }

    /// Dead-letters the oldest message of the lowest priority, unless the newcomer ranks below it.
    fn drop_oldest(&mut self, newcomer: u8) -> Option<Slot<In, Out>> {
        debug_assert!(!self.has_batches, "a kernel with this strategy gets its messages one by one");
        let lowest_other = self.others.first_key_value().map(|(priority, _)| *priority);
        let lowest = match (lowest_other, self.normal.is_empty()) {
            (Some(other), false) => other.min(NORMAL),
            (Some(other), true) => other,
            (None, false) => NORMAL,
            (None, true) => return None,
        };
        if newcomer < lowest {
            return None;
        }
        let slot = if lowest == NORMAL {
            self.normal.pop_front()
        } else {
            let mut queue = self.others.first_entry()?;
            let slot = queue.get_mut().pop_front();
            if queue.get().is_empty() {
                queue.remove();
            }
            slot
        }?;
        self.queued -= 1;
        self.dead.count(DeadLetterReason::DroppedOldest);
        Some(slot)
    }

    /// Takes the waiting callers off all messages; the messages stay.
    pub(crate) fn take_waiters(&mut self) -> Vec<(Token, Arc<ReplyCell<Out>>)> {
        let queued = self.normal.iter_mut().chain(self.others.values_mut().flatten());
        let slots = self.singly.iter_mut().chain(queued).map(|slot| &mut slot.meta);
        let taken = slots.chain(&mut self.hand).filter_map(|meta| {
            let cell = meta.cell.take()?;
            // Its reply may come yet, and is not one that nobody asked for.
            meta.discard_reply = true;
            Some((meta.token, cell))
        });
        taken.collect()
    }

    /// Gives the queues' memory back.
    pub(crate) fn shrink(&mut self) {
        self.normal.shrink_to_fit();
        self.singly.shrink_to_fit();
        self.batches.shrink_to_fit();
        self.together.shrink_to_fit();
    }

    /// Queues what is in flight again, in front of what is queued; how many.
    pub(crate) fn requeue(&mut self) -> usize {
        self.separate_all();
        if self.has_batches {
            self.undo_batches();
        }
        let again = self.singly.len();
        self.queued += again;
        while let Some(slot) = self.singly.pop_back() {
            if slot.meta.priority == NORMAL {
                self.normal.push_front(slot);
            } else {
                self.others.entry(slot.meta.priority).or_default().push_front(slot);
            }
        }
        again
    }

    /// Takes everything, oldest of the highest priority first, those in flight before those queued.
    pub(crate) fn take_all(&mut self) -> Vec<Slot<In, Out>> {
        self.separate_all();
        let mut all: Vec<_> = self.singly.drain(..).collect();
        while let Some(slot) = self.pop() {
            all.push(slot);
        }
        all
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(token: Token, priority: u8) -> Slot<u64, ()> {
        let meta = Meta { token, correlation: 0, stamp: 0, cell: None, priority, discard_reply: false };
        Slot { meta, payload: token }
    }

    fn mailbox(capacity: usize, backpressure: Backpressure) -> Mailbox<u64, ()> {
        let mut mailbox = Mailbox::new(capacity, backpressure);
        mailbox.state = KernelState::Active;
        mailbox
    }

    #[test]
    fn more_than_the_capacity_is_queued_where_all_have_their_places() {
        let mut mailbox = mailbox(8, Backpressure::Block);
        (0..30).for_each(|token| mailbox.enqueue(slot(token, NORMAL)));
        assert!((0..30).all(|token| mailbox.pop().is_some_and(|slot| slot.meta.token == token)));
    }

    #[test]
    fn drop_oldest_refuses_a_newcomer_that_ranks_below_all() {
        let mut mailbox = mailbox(2, Backpressure::DropOldest);
        let mut dropped = None;
        assert!(mailbox.push(slot(1, 128), 0, &mut dropped).is_ok());
        assert!(mailbox.push(slot(2, 200), 0, &mut dropped).is_ok());
        let refused = mailbox.push(slot(3, 100), 0, &mut dropped);
        assert!(matches!(refused, Err(Refusal::Refused(slot, Cause::Full)) if slot.meta.token == 3));
        assert!(mailbox.push(slot(4, 128), 0, &mut dropped).is_ok());
        assert_eq!(dropped.take().map(|slot| slot.meta.token), Some(1));
        assert_eq!(mailbox.pop().map(|slot| slot.meta.token), Some(2));
        assert_eq!(mailbox.pop().map(|slot| slot.meta.token), Some(4));
        // All places are taken by messages in the port: none can be recalled.
        assert!(matches!(mailbox.push(slot(5, 128), 2, &mut dropped), Err(Refusal::Refused(..))));
    }

    #[test]
    fn a_reply_whose_waiter_was_taken_is_for_nobody() {
        let mut mailbox = mailbox(2, Backpressure::Block);
        let mut asked = slot(1, NORMAL);
        asked.meta.cell = Some(Arc::new(ReplyCell::new()));
        mailbox.singly.push_back(asked);
        assert_eq!(mailbox.take_waiters().len(), 1);
        assert!(!mailbox.singly[0].meta.replies_to_queue());
    }

    proptest! {
        /// Against a plain sorted list: order, capacity and books.
        #[test]
        fn agrees_with_a_naive_model(
            capacity in 1usize..6,
            strategy in 0usize..4,
            steps in proptest::collection::vec((any::<bool>(), prop::sample::select(vec![0u8, 64, 128, 129, 255])), 0..60),
        ) {
            let strategy = [Backpressure::Block, Backpressure::Reject, Backpressure::DropOldest, Backpressure::DropNewest][strategy];
            let mut mailbox = mailbox(capacity, strategy);
            let mut model: Vec<(u8, Token)> = Vec::new();
            let (mut accepted, mut dead) = (0, 0);
            for (token, (push, priority)) in steps.into_iter().enumerate() {
                let token = token as Token + 1;
                if push {
                    let mut dropped = None;
                    let full = model.len() == capacity;
                    match mailbox.push(slot(token, priority), 0, &mut dropped) {
                        Ok(()) => {
                            if full {
                                prop_assert_eq!(strategy, Backpressure::DropOldest);
                                let lowest = model.iter().map(|m| m.0).min().unwrap();
                                let at = model.iter().position(|m| m.0 == lowest).unwrap();
                                prop_assert_eq!(dropped.map(|slot| slot.meta.token), Some(model.remove(at).1));
                                dead += 1;
                            }
                            accepted += 1;
                            model.push((priority, token));
                        }
                        Err(Refusal::Dropped(slot)) => {
                            prop_assert!(full && strategy == Backpressure::DropNewest && slot.meta.token == token);
                            accepted += 1;
                            dead += 1;
                        }
                        Err(Refusal::Refused(..)) => {
                            let below_all = model.iter().all(|m| priority < m.0);
                            prop_assert!(full && (strategy != Backpressure::DropOldest || below_all));
                            prop_assert!(strategy != Backpressure::DropNewest);
                        }
                    }
                } else {
                    let best = model.iter().map(|m| m.0).max();
                    let expected = best.map(|best| model.remove(model.iter().position(|m| m.0 == best).unwrap()).1);
                    prop_assert_eq!(mailbox.peek().map(|slot| slot.meta.token), expected);
                    prop_assert_eq!(mailbox.pop().map(|slot| slot.meta.token), expected);
                }
                prop_assert_eq!(mailbox.queued(), model.len());
                prop_assert_eq!(mailbox.accepted, accepted);
                prop_assert_eq!(mailbox.dead.total(), dead);
            }
        }
    }
}
