//! The way of a message in: checked, queued by the kernel's strategy, waiting for room; and what it is told if not.

use super::core::{Core, inside};
use super::gate;
use super::mailbox::{Cause, Meta, Refusal, Slot};
use super::telemetry::{self, DeadLetterReason};
use crate::backend::Shape;
use crate::error::{Error, ErrorKind, Result, SendError};
use crate::kernel::Backpressure;
use crate::message::{IdSource, Message, Priority, Token};
use crate::sync::{lock, wait_until};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// How a message may be sent besides its payload.
///
/// # Example
///
/// ```
/// use ringwork::{Options, Priority, Uuid};
///
/// let options = Options::default().priority(Priority::HIGH).correlation_id(Uuid::from_u128(7));
/// assert!(options.priority > Priority::NORMAL && !options.discard_reply);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Higher ones are handled first among those still in the mailbox.
    pub priority: Priority,
    /// Travels with the message: a host kernel sees it, and it comes back with a returned message and a dead letter. It is
    /// not the `correlation_id` of the reply, which is the message's own id. A nil one counts as none.
    pub correlation_id: Option<Uuid>,
    /// The reply to a `send` is dropped instead of waiting in the reply queue. Without effect on `ask` and `request`.
    pub discard_reply: bool,
}

impl Options {
    /// With this priority.
    #[must_use]
    pub fn priority(mut self, priority: impl Into<Priority>) -> Self {
        self.priority = priority.into();
        self
    }

    /// With this correlation id.
    #[must_use]
    pub fn correlation_id(mut self, id: Uuid) -> Self {
        self.correlation_id = Some(id);
        self
    }

    /// With nobody interested in the reply.
    #[must_use]
    pub fn discard_reply(mut self) -> Self {
        self.discard_reply = true;
        self
    }
}

/// How long a send may wait for room.
#[derive(Clone, Copy)]
pub(super) enum Wait {
    /// Not at all.
    No,
    /// Until then; without a deadline, until there is room or the kernel ends.
    Until(Option<Instant>),
}

impl<In: Message, Out: Message> Core<In, Out> {
    pub(super) fn slot(&self, payload: In, token: Token, options: &Options) -> Slot<In, Out> {
        let meta = Meta {
            token,
            correlation: options.correlation_id.map_or(0, |id| id.as_u128()),
            stamp: telemetry::stamp(token),
            cell: None,
            priority: options.priority.into(),
            discard_reply: options.discard_reply || !self.facts.has_reply,
        };
        Slot { meta, payload }
    }

    /// Puts a message into the mailbox, by the kernel's strategy; does not wait.
    pub(super) fn enqueue(self: &Arc<Self>, slot: Slot<In, Out>) -> Result<(), Refusal<In, Out>> {
        let mut dropped = None;
        let mut mailbox = lock(&self.mailbox);
        let result = mailbox.push(slot, self.waiting(), &mut dropped);
        let wake_host = mailbox.host_sleeps && result.is_ok();
        if wake_host {
            mailbox.host_sleeps = false;
        }
        drop(mailbox);
        if wake_host {
            self.items.notify_one();
        }
        if let Some(slot) = dropped {
            self.bury(slot, DeadLetterReason::DroppedOldest);
        }
        result
    }

    /// Sends, waiting for room until the deadline if the strategy is to block.
    pub(super) fn send(
        self: &Arc<Self>,
        message: In,
        options: &Options,
        wait: Wait,
    ) -> Result<(), SendError<In>> {
        if let Err(error) = self.validate(&message) {
            return Err(SendError::Refused(message, error));
        }
        let token = IdSource::next();
        if self.may_run() && self.hot.gate.enter_direct() {
            return self.send_direct(message, token, options, wait);
        }
        self.send_queued(message, token, options, wait)
    }

    pub(super) fn send_queued(
        self: &Arc<Self>,
        message: In,
        token: Token,
        options: &Options,
        wait: Wait,
    ) -> Result<(), SendError<In>> {
        self.send_slot(self.slot(message, token, options), wait)
    }

    /// Queues a message, waiting for room if the strategy and the caller want to, and sees to it that it is run.
    pub(super) fn send_slot(self: &Arc<Self>, slot: Slot<In, Out>, wait: Wait) -> Result<(), SendError<In>> {
        self.queue_slot(slot, wait)?;
        if self.facts.on_device {
            self.announce_to_device(false)
        } else {
            self.announce()
        }
        Ok(())
    }

    /// Queues a message, waiting for room if the strategy and the caller want to; the caller has to
    /// [`announce`](Self::announce) it.
    pub(super) fn queue_slot(
        self: &Arc<Self>,
        mut slot: Slot<In, Out>,
        wait: Wait,
    ) -> Result<(), SendError<In>> {
        loop {
            let (returned, cause) = match self.enqueue(slot) {
                Ok(()) => return Ok(()),
                Err(Refusal::Refused(returned, cause)) => (returned, cause),
                Err(Refusal::Dropped(slot)) => {
                    let error = self.dropped_error();
                    self.bury(slot, DeadLetterReason::DroppedNewest);
                    return Err(SendError::Dropped(error));
                }
            };
            match (cause, wait) {
                (Cause::Full, Wait::Until(deadline)) if self.facts.backpressure == Backpressure::Block => {
                    if inside() == self.facts.id {
                        return Err(SendError::Refused(returned.payload, self.self_error("send")));
                    }
                    if !self.make_room(deadline) {
                        return Err(SendError::TimedOut(returned.payload, self.stalled_error("send to")));
                    }
                }
                (Cause::Full, _) => return Err(SendError::Full(returned.payload)),
                (Cause::NotActive(_), _) => return Err(SendError::NotActive(returned.payload)),
                (Cause::Failed(error), _) => return Err(SendError::Failed(returned.payload, error)),
                (Cause::Terminated, _) => return Err(SendError::Terminated(returned.payload)),
            }
            slot = returned;
        }
    }

    /// Queues a run of messages, as many under one lock as there is room for. For a kernel on a device the caller has to
    /// [`announce`](Self::announce) them.
    pub(super) fn send_queued_batch(
        self: &Arc<Self>,
        batch: &mut VecDeque<(Token, In)>,
        options: &Options,
    ) -> Result<(), SendError<In>> {
        let plain_room = matches!(self.facts.backpressure, Backpressure::Block | Backpressure::Reject);
        while !batch.is_empty() {
            if plain_room {
                let mut mailbox = lock(&self.mailbox);
                let open = mailbox.closed().is_none() && mailbox.cycle.is_none();
                let room = if open { mailbox.room(self.waiting()) } else { 0 };
                let count = room.min(batch.len());
                for (token, message) in batch.drain(..count) {
                    mailbox.accepted += 1;
                    mailbox.enqueue(self.slot(message, token, options));
                }
                let wake_host = count > 0 && std::mem::take(&mut mailbox.host_sleeps);
                drop(mailbox);
                if wake_host {
                    self.items.notify_one();
                }
                if count > 0 {
                    // A device gets the whole run in one round: whoever sends it announces it.
                    if !self.facts.on_device {
                        self.announce();
                    }
                    continue;
                }
                self.announce();
            }
            // Full, closed, or a strategy that looks at each message: one at a time, with all that this means.
            if let Some((token, message)) = batch.pop_front() {
                self.send_queued(message, token, options, Wait::Until(None))?;
            }
        }
        Ok(())
    }

    /// Waits until a full mailbox may have room (or is closed); `false` at the deadline. Runs handlers if it can.
    pub(super) fn make_room(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if self.drive_as_sender(deadline) {
            return true;
        }
        let mut mailbox = lock(&self.mailbox);
        while mailbox.closed().is_none() && mailbox.room(self.control.waiting_for_place()) == 0 {
            if crate::sync::passed(deadline) {
                return false;
            }
            mailbox.blocked += 1;
            mailbox = wait_until(&self.changed, mailbox, deadline);
            mailbox.blocked -= 1;
        }
        if mailbox.closed().is_none() && mailbox.cycle.is_some() {
            // There is room here, but perhaps not in the cycle, which tells nobody: look again soon.
            drop(mailbox);
            if crate::sync::passed(deadline) {
                return false;
            }
            crate::sync::park_until(crate::sync::deadline_in(std::time::Duration::from_micros(200)));
        }
        true
    }

    /// What a kernel that does not take messages answers.
    pub(super) fn closed_error(&self, cause: &Cause) -> Error {
        let name = self.name();
        match cause {
            Cause::Full => Error::new(ErrorKind::Full, format!("the mailbox of kernel `{name}` is full")),
            Cause::NotActive(state) => {
                Error::new(ErrorKind::NotActive, format!("kernel `{name}` is not active: it is {state}"))
            }
            Cause::Failed(error) => error.clone(),
            Cause::Terminated => self.terminated_error(),
        }
    }

    pub(super) fn dropped_error(&self) -> Error {
        Error::new(
            ErrorKind::Dropped,
            format!("the message was dropped: the mailbox of kernel `{}` is full", self.name()),
        )
    }

    /// The error of a call that would wait for the handler it is made from.
    pub(super) fn check_outside(&self, call: &str) -> Result<()> {
        if inside() == self.facts.id { Err(self.self_error(call)) } else { Ok(()) }
    }

    pub(super) fn self_error(&self, call: &str) -> Error {
        Error::new(
            ErrorKind::Deadlock,
            format!(
                "`{call}` of kernel `{}` inside its own handler would wait for itself; call it from another thread",
                self.name()
            ),
        )
    }

    /// The error of a wait that ran out, saying what it waited for.
    pub(super) fn stalled_error(&self, call: &str) -> Error {
        let name = self.name();
        let unread = self.replies.len();
        let mailbox = lock(&self.mailbox);
        let queued = mailbox.queued() + self.waiting();
        let reason = if self.hot.gate.load() & gate::STALLED != 0 && unread >= self.replies.capacity() {
            format!("{} replies of `{name}` not received", grouped(unread))
        } else if self.hot.gate.load() & gate::STALLED != 0 {
            format!("an output of `{name}` has no room")
        } else if !mailbox.runs() {
            format!("it is {} with {} messages queued", mailbox.state, grouped(queued))
        } else {
            format!("{} messages queued, its handler is busy", grouped(queued))
        };
        Error::new(ErrorKind::TimedOut, format!("{call} kernel `{name}` timed out: {reason}"))
    }

    /// The instance a message names, if the kernel does not have it.
    #[inline]
    pub(super) fn instance_out_of_range(&self, message: &In) -> Option<u32> {
        let (Shape::Instances { count, .. }, Some(plain)) = (self.facts.shape, &self.facts.plain) else {
            return None;
        };
        let instance = self.facts.shape.instance_of(plain.bytes(message));
        (instance >= count).then_some(instance)
    }

    /// Checks what can be checked before a message is queued.
    #[inline]
    pub(super) fn validate(&self, message: &In) -> Result<()> {
        match self.instance_out_of_range(message) {
            None => Ok(()),
            Some(instance) => Err(self.instance_error(instance)),
        }
    }

    #[cold]
    pub(super) fn instance_error(&self, instance: u32) -> Error {
        let last = self.instances() - 1;
        Error::new(
            ErrorKind::Invalid,
            format!("instance {instance} of kernel `{}`, which has instances 0 to {last}", self.name()),
        )
    }
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
