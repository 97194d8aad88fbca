//! Messages that were sent together to a kernel on a device, and their replies: they stay together all the way, so that
//! each costs one copy in and one copy out, and has no entry of its own in the books or the queues.

use super::core::{Core, inside};
use super::mailbox::{Mailbox, Meta, NORMAL, Slot};
use super::send::{Options, Wait};
use super::telemetry;
use crate::backend::{Fault, Shape};
use crate::error::{SendError, SendManyError};
use crate::kernel::{Backpressure, PackedMessages, Plain};
use crate::message::{IdSource, Message, Priority, Token};
use crate::sync::lock;
use std::ops::Range;
use std::sync::Arc;

/// Messages of an iterator of unknown length that are sent together at a time.
const TOGETHER: usize = 1024;

/// Messages that were sent together, of the normal priority, for whose replies nobody waits.
pub(crate) struct Batch<In> {
    pub messages: Arc<PackedMessages<In>>,
    /// Those of them that are meant.
    pub range: Range<usize>,
    /// Token of the first one meant; they count up.
    pub first: Token,
    /// As in [`Meta`], for one of them.
    pub stamp: u64,
    pub discard_reply: bool,
}

impl<In> Batch<In> {
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// Takes the first so many off.
    pub(crate) fn split_front(&mut self, count: usize) -> Self {
        let middle = self.range.start + count.min(self.len());
        let front = Self {
            messages: self.messages.clone(),
            range: self.range.start..middle,
            first: self.first,
            stamp: std::mem::take(&mut self.stamp),
            discard_reply: self.discard_reply,
        };
        self.first += front.len() as u64;
        self.range.start = middle;
        front
    }

    /// Each message by itself.
    pub(crate) fn into_slots<Out>(self) -> impl Iterator<Item = Slot<In, Out>> {
        let Self { messages, range, first, discard_reply, .. } = self;
        (first..).zip(range).map(move |(token, index)| Slot {
            meta: Meta { token, correlation: 0, stamp: 0, cell: None, priority: NORMAL, discard_reply },
            payload: messages.copy(index),
        })
    }
}

/// Replies of messages that were sent together.
pub(super) struct Together<Out> {
    /// Of the messages, in order.
    tokens: Vec<Range<Token>>,
    pub(super) count: usize,
    /// None if the kernel does not reply.
    pub(super) replies: Vec<Out>,
}

impl<Out> Default for Together<Out> {
    fn default() -> Self {
        Self { tokens: Vec::new(), count: 0, replies: Vec::new() }
    }
}

impl<Out> Together<Out> {
    /// So many more, from this token on.
    pub(super) fn add(&mut self, first: Token, count: usize) {
        let end = first + count as u64;
        match self.tokens.last_mut() {
            Some(last) if last.end == first => last.end = end,
            _ => self.tokens.push(first..end),
        }
        self.count += count;
    }

    /// Makes results of single messages of them.
    pub(super) fn separate<In>(
        &mut self,
        plain: &Plain<In, Out>,
        finished: &mut Vec<(Token, Result<Out, Fault>)>,
    ) {
        let tokens = self.tokens.drain(..).flatten();
        if size_of::<Out>() == 0 {
            finished.extend(tokens.map(|token| (token, Ok(plain.reply(&[])))));
        } else {
            finished.extend(tokens.zip(self.replies.drain(..).map(Ok)));
        }
        self.count = 0;
    }
}

impl<In: Message, Out: Message> Core<In, Out> {
    /// May messages that are sent together stay together? Those of a kernel on a device, unless each of them needs to
    /// be looked at.
    pub(super) fn may_stay_together(&self, options: &Options) -> bool {
        self.facts.on_device
            && size_of::<In>() > 0
            && self.outlets.is_empty()
            && matches!(self.facts.backpressure, Backpressure::Block | Backpressure::Reject)
            && options.priority == Priority::default()
            && options.correlation_id.is_none()
    }

    /// Sends messages that [stay together](Self::may_stay_together).
    pub(super) fn send_together(
        self: &Arc<Self>,
        mut messages: impl Iterator<Item = In>,
        options: &Options,
    ) -> std::result::Result<usize, SendManyError<In>> {
        // All at once if they surely fit: those of a `Vec` stay where they are.
        let room = lock(&self.mailbox).room(self.waiting());
        if messages.size_hint().1.is_some_and(|most| most <= room) {
            return self.send_batch(messages.collect(), 0, options);
        }
        let mut sent = 0;
        loop {
            let batch: Vec<In> = messages.by_ref().take(TOGETHER).collect();
            let is_last = batch.len() < TOGETHER;
            sent = self.send_batch(batch, sent, options)?;
            if is_last {
                return Ok(sent);
            }
        }
    }

    /// Sends these messages after `sent` others; how many are sent then.
    fn send_batch(
        self: &Arc<Self>,
        mut batch: Vec<In>,
        mut sent: usize,
        options: &Options,
    ) -> std::result::Result<usize, SendManyError<In>> {
        let wrong = match self.facts.shape {
            Shape::Instances { .. } => {
                batch.iter().position(|message| self.instance_out_of_range(message).is_some())
            }
            Shape::Stateless | Shape::Serial => None,
        };
        let mut refused = wrong.map(|wrong| batch.split_off(wrong).into_iter());
        let (first, count) = (IdSource::run(batch.len()), batch.len());
        let mut rest = Batch {
            messages: self.plain().pack(batch),
            range: 0..count,
            first,
            stamp: telemetry::stamp_of_run(first, count),
            discard_reply: options.discard_reply,
        };
        while rest.len() > 0 {
            let mut mailbox = lock(&self.mailbox);
            let is_open = mailbox.closed().is_none() && mailbox.cycle.is_none();
            let count = if is_open { mailbox.room(self.waiting()).min(rest.len()) } else { 0 };
            if count > 0 {
                mailbox.enqueue_batch(rest.split_front(count));
                sent += count;
            }
            drop(mailbox);
            self.announce_to_device(true);
            if rest.len() == 0 {
                break;
            }
            if is_open && self.facts.backpressure == Backpressure::Block && inside() != self.facts.id {
                self.make_room(None);
                continue;
            }
            // One by itself, with all that this means.
            let one = rest.split_front(1);
            let message = one.messages.copy(one.range.start);
            if let Err(error) = self.send_queued(message, one.first, options, Wait::Until(None)) {
                let unsent =
                    rest.range.map(|index| rest.messages.copy(index)).chain(refused.into_iter().flatten());
                return Err(SendManyError { sent, error, unsent: unsent.collect() });
            }
            sent += 1;
        }
        match refused.as_mut().and_then(Iterator::next) {
            None => Ok(sent),
            Some(message) => {
                let error = self.validate(&message).expect_err("looked at above");
                let unsent = refused.into_iter().flatten().collect();
                Err(SendManyError { sent, error: SendError::Refused(message, error), unsent })
            }
        }
    }

    /// Puts the replies to messages that were sent together into the reply queue; returns what is over of those.
    pub(super) fn take_replies(
        &self,
        mailbox: &mut Mailbox<In, Out>,
        together: Together<Out>,
        reply_places: &mut usize,
    ) -> Vec<Batch<In>> {
        let Together { tokens, count, mut replies } = together;
        let mut done = Vec::new();
        let mut left = count;
        for mut tokens in tokens {
            while !tokens.is_empty() {
                let batch = mailbox.together.front_mut().expect("results of a run for messages of a run");
                debug_assert_eq!(batch.first, tokens.start, "results come in the order of their messages");
                let over = batch.split_front((tokens.end - tokens.start) as usize);
                if batch.len() == 0 {
                    done.extend(mailbox.together.pop_front());
                }
                if over.stamp != 0 {
                    self.latency.record(telemetry::now().saturating_sub(over.stamp));
                }
                tokens.start += over.len() as u64;
                left -= over.len();
                if !self.facts.has_reply {
                    continue;
                }
                // The usual case is one batch: its replies stay where they are.
                let these = if left == 0 {
                    std::mem::take(&mut replies)
                } else {
                    replies.drain(..over.len()).collect()
                };
                if !over.discard_reply {
                    *reply_places -= over.len();
                    self.replies.push_run(over.first, these);
                }
            }
        }
        done
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::actor::lifecycle::KernelState;
    use crate::kernel::Queue;
    use proptest::prelude::*;

    crate::message! { struct Number { pub value: u32 } }

    fn batch(first: Token, count: usize) -> Batch<Number> {
        let numbers = (first..).take(count).map(|token| Number { value: token as u32 });
        let messages = Plain::<Number, ()>::new().pack(numbers.collect());
        Batch { messages, range: 0..count, first, stamp: 0, discard_reply: false }
    }

    fn slot(token: Token, priority: u8) -> Slot<Number, ()> {
        let meta = Meta { token, correlation: 0, stamp: 0, cell: None, priority, discard_reply: false };
        Slot { meta, payload: Number { value: token as u32 } }
    }

    /// What is done to a mailbox.
    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Batch(usize),
        Pop,
        TakeBatch(usize),
        /// What was taken together comes back to the mailbox.
        Requeue,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop::sample::select(vec![0u8, 128, 200]).prop_map(Step::Push),
            (1usize..5).prop_map(Step::Batch),
            Just(Step::Pop),
            (1usize..7).prop_map(Step::TakeBatch),
            Just(Step::Requeue),
        ]
    }

    proptest! {
        /// Against a plain list: order and counts, however messages that were sent together mix with others.
        #[test]
        fn a_mailbox_keeps_the_order(steps in proptest::collection::vec(step(), 0..60)) {
            let mut mailbox = Mailbox::<Number, ()>::new(1000, Backpressure::Block);
            mailbox.state = KernelState::Active;
            let mut model: Vec<(u8, Token)> = Vec::new();
            let mut together: Vec<Token> = Vec::new();
            let (mut next, mut accepted) = (1, 0);
            let best = |model: &Vec<(u8, Token)>| {
                let best = model.iter().map(|m| m.0).max()?;
                model.iter().position(|m| m.0 == best)
            };
            for step in steps {
                match step {
                    Step::Push(priority) => {
                        prop_assert!(mailbox.push(slot(next, priority), 0, &mut None).is_ok());
                        model.push((priority, next));
                        (next, accepted) = (next + 1, accepted + 1);
                    }
                    Step::Batch(count) => {
                        mailbox.enqueue_batch(batch(next, count));
                        model.extend((next..).take(count).map(|token| (NORMAL, token)));
                        (next, accepted) = (next + count as u64, accepted + count as u64);
                    }
                    Step::Pop => {
                        let expected = best(&model).map(|at| model.remove(at).1);
                        let popped = mailbox.pop();
                        prop_assert!(popped.as_ref().is_none_or(|slot| u64::from(slot.payload.value) == slot.meta.token));
                        prop_assert_eq!(popped.map(|slot| slot.meta.token), expected);
                    }
                    Step::TakeBatch(most) => {
                        if let Some(batch) = mailbox.take_batch(most) {
                            prop_assert!((1..=most).contains(&batch.len()));
                            for index in batch.range.clone() {
                                let expected = best(&model).map(|at| model.remove(at).1);
                                prop_assert_eq!(expected, Some(u64::from(batch.messages.copy(index).value)));
                                together.extend(expected);
                            }
                            mailbox.together.push_back(batch);
                        }
                    }
                    Step::Requeue => {
                        prop_assert_eq!(mailbox.in_port(), together.len());
                        prop_assert_eq!(mailbox.requeue(), together.len());
                        // First in line of their priority.
                        model.splice(0..0, together.drain(..).map(|token| (NORMAL, token)));
                    }
                }
                prop_assert_eq!(mailbox.queued(), model.len());
                prop_assert_eq!(mailbox.accepted, accepted);
                prop_assert_eq!(mailbox.is_empty(), model.is_empty() && together.is_empty());
            }
            together.extend(std::iter::from_fn(|| best(&model).map(|at| model.remove(at).1)));
            let rest: Vec<_> = mailbox.take_all().iter().map(|slot| slot.meta.token).collect();
            prop_assert_eq!(rest, together);
        }

        /// Against a plain list, by every way to take values.
        #[test]
        fn a_reply_queue_keeps_the_order(
            steps in proptest::collection::vec((0usize..4, 1usize..6), 0..40),
            strategy in prop::sample::select(vec![Backpressure::Block, Backpressure::DropOldest, Backpressure::DropNewest]),
        ) {
            let queue = Queue::new(12, strategy);
            let mut model = std::collections::VecDeque::new();
            let (mut next, mut dropped) = (1, 0);
            for (what, count) in steps {
                match what {
                    0 | 1 => {
                        let count = count.min(queue.room());
                        let tokens: Vec<Token> = (next..).take(count).collect();
                        next += count as u64;
                        for token in &tokens {
                            if model.len() == 12 {
                                dropped += 1;
                                if strategy == Backpressure::DropNewest {
                                    continue;
                                }
                                model.pop_front();
                            }
                            model.push_back(*token);
                        }
                        match tokens.first() {
                            Some(first) if what == 1 => queue.push_run(*first, tokens),
                            _ => queue.push(tokens.into_iter().map(|token| (token, token))),
                        }
                    }
                    2 => {
                        let popped = queue.pop();
                        prop_assert!(popped.is_none_or(|(token, value)| token == value));
                        prop_assert_eq!(popped.map(|value| value.1), model.pop_front());
                    }
                    _ => {
                        let expected: Vec<_> = model.drain(..count.min(model.len())).collect();
                        prop_assert_eq!(queue.pop_many(count).unwrap_or_default(), expected);
                    }
                }
                prop_assert_eq!((queue.len(), queue.dropped()), (model.len(), dropped));
            }
        }
    }
}
