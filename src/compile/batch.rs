//! Many messages in one call.

use super::{EmitSlot, FaultCode, Outcome, StopCheck, TableView};
use crate::message::Token;
use crate::wire::{KIND_EMIT, KIND_REPLY, SlotRing};
use std::sync::atomic::{AtomicUsize, Ordering, compiler_fence};

/// Messages of one kernel to be run one after the other, all that comes out of each straight into the ring that takes
/// it: the emitted values, output by output, then the reply.
pub(crate) struct Batch<'a> {
    /// Where the messages are.
    pub input: &'a SlotRing,
    pub places: Places<'a>,
    pub message_size: usize,
    /// Bytes of one state; 0 without.
    pub state_size: usize,
    /// The states of the instances from `first_instance` on, or the one state there is.
    pub states: &'a mut [u8],
    pub first_instance: usize,
    /// The byte of a message where the number of its instance is; `None` if there are no instances.
    pub instance_at: Option<usize>,
    pub reply_size: usize,
    /// What the handler emits; those of its [`Program`](super::Program).
    pub emits: &'a [EmitSlot],
    /// Takes what comes out; there is room for all that can.
    pub output: &'a mut SlotRing,
    /// As in [`Frame`](super::Frame), as the next two.
    pub privates: &'a mut [u8],
    pub tables: &'a [TableView],
    pub stop: &'a StopCheck<'a>,
    /// A stop word from here on is obeyed between two messages; one of [`STOP_NOW`](super::STOP_NOW), always inside.
    pub stop_at: u32,
    /// Is told before each message, and before the look at the stop word that may keep it from beginning, how many behind
    /// it in the ring have not begun.
    pub waiting: Option<&'a AtomicUsize>,
    /// The batch ends behind this message.
    pub last: Option<Token>,
}

/// Which messages of a ring.
#[derive(Clone, Copy)]
pub(crate) enum Places<'a> {
    /// So many from its head.
    First(usize),
    /// These, by their places behind the head.
    Listed(&'a [u32]),
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchEnd {
    /// So many messages are handled, in order.
    pub completed: usize,
    pub why: Ending,
}

/// Why a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was at its end.
    Finished,
    /// Behind the message that was to be the last.
    Last,
    /// By the stop word, between two messages.
    Stopped,
    /// The message behind the completed ones faulted.
    Fault(FaultCode),
    /// The message behind the completed ones was left in the middle.
    Interrupted,
}

impl Batch<'_> {
    /// How many messages there are.
    pub(super) fn count(&self) -> usize {
        match self.places {
            Places::First(count) => count,
            Places::Listed(places) => places.len(),
        }
    }

    /// Runs the messages: `run` gets a message, its state, room for the reply, and the private segment.
    #[inline]
    pub(super) fn each(
        &mut self,
        mut run: impl FnMut(&[u8], &mut [u8], &mut [u8], &mut [u8]) -> Outcome,
    ) -> BatchEnd {
        let count = self.count();
        // Where a reply waits for the values that come before it.
        let mut reply = vec![0u128; if self.emits.is_empty() { 0 } else { self.reply_size.div_ceil(16) }];
        for completed in 0..count {
            let end = |why| BatchEnd { completed, why };
            if let Some(waiting) = self.waiting {
                // Release pairs with the Acquire in the mailbox's count of free places: a place seen free is free.
                waiting.store(self.input.len() - completed - 1, Ordering::Release);
                // Before the look at the stop word, as in `PortControl::begin`.
                compiler_fence(Ordering::SeqCst);
            }
            if self.stop.word() >= self.stop_at {
                return end(Ending::Stopped);
            }
            let place = match self.places {
                Places::First(_) => completed,
                Places::Listed(places) => places[completed] as usize,
            };
            let (header, payload) = self.input.get(place);
            let message = &payload[..self.message_size];
            let instance = self.instance_at.map_or(0, |at| {
                let number: [u8; 4] = message[at..at + 4].try_into().expect("four bytes");
                u32::from_ne_bytes(number) as usize - self.first_instance
            });
            let at = instance * self.state_size;
            let state = &mut self.states[at..at + self.state_size];
            let mut outcome = Outcome::Done;
            if self.emits.is_empty() {
                self.output.push_if(header.token, KIND_REPLY, self.reply_size, |reply| {
                    outcome = run(message, state, reply, self.privates);
                    outcome == Outcome::Done
                });
            } else {
                let reply = &mut bytemuck::cast_slice_mut::<u128, u8>(&mut reply)[..self.reply_size];
                outcome = run(message, state, reply, self.privates);
                if outcome == Outcome::Done {
                    for (kind, slot) in (KIND_EMIT..).zip(self.emits) {
                        for value in slot.values(self.privates) {
                            self.output.push(header.token, kind, value);
                        }
                    }
                    self.output.push(header.token, KIND_REPLY, reply);
                }
            }
            match outcome {
                Outcome::Done => {}
                Outcome::Fault(code) => return end(Ending::Fault(code)),
                Outcome::Interrupted => return end(Ending::Interrupted),
            }
            if self.last == Some(header.token) {
                return BatchEnd { completed: completed + 1, why: Ending::Last };
            }
        }
        BatchEnd { completed: count, why: Ending::Finished }
    }
}
