//! The direct path: a message for an idle kernel runs on its sender's thread, through the port, past the mailbox.

use super::core::{Core, Engine, Inside};
use super::driver::{SLICE, collect};
use super::gate;
use super::mailbox::Slot;
use super::send::{Options, Wait};
use super::telemetry::{self, DeadLetterReason};
use crate::backend::{Fault, Limits, One, Until};
use crate::error::{Error, Result, SendError};
use crate::message::{Message, Token};
use crate::sync::{Ordering, lock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How a message on the direct path ended.
pub(super) enum Direct<Out> {
    Handled(Out),
    Faulted(Fault),
    /// It is still in the port.
    Left,
    /// `terminate` has given it up; the gate is not held any more.
    Abandoned,
}

/// What became of a run of messages on the direct path.
struct DirectBatch<In, Out> {
    /// Messages that the port might have taken.
    offered: usize,
    handled: u64,
    /// The last that came to an end.
    last: Option<(Token, In)>,
    /// Its fault, if it faulted.
    fault: Option<Fault>,
    replies: Vec<(Token, Out)>,
    /// The one behind it was left in the middle.
    is_left: bool,
}

impl<In, Out> Default for DirectBatch<In, Out> {
    fn default() -> Self {
        Self { offered: 0, handled: 0, last: None, fault: None, replies: Vec::new(), is_left: false }
    }
}

impl<In: Message, Out: Message> Core<In, Out> {
    /// Runs one message on an idle kernel. The gate is held.
    #[inline]
    fn run_direct(
        &self,
        engine: &mut Engine<Out>,
        token: Token,
        message: &In,
        slice: Duration,
    ) -> Direct<Out> {
        let plain = self.plain();
        let Some(port) = &mut engine.port else { return Direct::Left };
        let limits = Limits { deadline: None, slice: Some(slice) };
        let until = Until { token: None, limits, patience: None };
        let inside = Inside::enter(self.facts.id);
        let (ended, reply) =
            plain.reply_by(|reply| port.exchange_one(token, plain.bytes(message), &until, reply));
        drop(inside);
        match ended {
            One::Handled => Direct::Handled(reply),
            One::Faulted(fault) => Direct::Faulted(fault),
            One::Interrupted => {
                engine.cut_short = self.stopped_now();
                Direct::Left
            }
            One::NotBegun => Direct::Left,
        }
    }

    /// Has `terminate` asked to stop inside a handler?
    pub(super) fn stopped_now(&self) -> bool {
        // Relaxed: whoever has been interrupted by the word has seen it.
        self.control.stop.load(std::sync::atomic::Ordering::Relaxed) >= crate::backend::STOP_NOW
    }

    /// Counts a message of the direct path as accepted and handled, and puts its reply into the reply queue if it
    /// belongs there; `false`, and neither, if `terminate` has given it up. The gate is held before, and not after.
    #[inline]
    fn finish_direct(self: &Arc<Self>, stamp: u64, reply: Option<(Token, Out)>) -> bool {
        let direct = &self.hot.direct;
        // Relaxed read, Release store: the holder of the gate is the only writer.
        direct.store(direct.load(Ordering::Relaxed) + 1, Ordering::Release);
        if stamp != 0 {
            let took = telemetry::now().saturating_sub(stamp);
            self.latency.record(took);
            self.distrust(Duration::from_nanos(took));
        }
        if reply.is_none() && self.hot.gate.leave_direct() {
            return true;
        }
        let ours = self.hot.gate.claim_direct();
        if ours {
            self.replies.push(reply);
            if self.hot.gate.leave_claimed() {
                return true;
            }
        } else {
            direct.store(direct.load(Ordering::Relaxed) - 1, Ordering::Release);
        }
        self.release();
        ours
    }

    /// Logs a message of the direct path that `terminate` has given up, and counted.
    fn bury_abandoned(&self, slot: Slot<In, Out>) {
        self.bury(slot, DeadLetterReason::Abandoned);
    }

    /// Puts a message that the direct path left in the port into the books: first in line for the background. If
    /// `terminate` has given it up, it is dead-lettered. The gate is held before, and not after.
    pub(super) fn delegate(self: &Arc<Self>, slot: Slot<In, Out>) {
        let mut mailbox = lock(&self.mailbox);
        // Under the lock: `terminate` finds the message either here or there.
        if !self.hot.gate.claim_direct() {
            drop(mailbox);
            self.bury_abandoned(slot);
            self.release();
            return;
        }
        mailbox.accepted += 1;
        let places = usize::from(slot.meta.replies_to_queue());
        mailbox.singly.push_back(slot);
        drop(mailbox);
        // SAFETY: the gate is held.
        unsafe { self.engine.with(|engine| engine.reply_places += places) };
        self.hot.gate.set(gate::QUEUED | gate::BACKGROUND);
        self.release();
    }

    /// Dead-letters a message of the direct path that faulted. The gate is held before, and not after.
    fn fault_direct(self: &Arc<Self>, slot: Slot<In, Out>, fault: &Fault) -> Error {
        let error = self.fault_error(fault);
        if self.hot.gate.claim_direct() {
            self.count_fault(slot, &error);
        } else {
            self.bury_abandoned(slot);
        }
        self.release();
        error
    }

    /// Enters a fault of a message that was not in the mailbox. The gate is held, and the message claimed.
    fn count_fault(self: &Arc<Self>, slot: Slot<In, Out>, error: &Error) {
        let mut mailbox = lock(&self.mailbox);
        mailbox.accepted += 1;
        mailbox.dead.count(DeadLetterReason::Fault);
        drop(mailbox);
        let payload = self.encode(&slot.payload);
        self.bury_faulted(slot.meta, payload, error);
    }

    /// Sends on an idle kernel: its handler runs here and now. The gate is held before, and not after.
    pub(super) fn send_direct(
        self: &Arc<Self>,
        message: In,
        token: Token,
        options: &Options,
        wait: Wait,
    ) -> std::result::Result<(), SendError<In>> {
        let queue_reply = self.facts.has_reply && !options.discard_reply;
        if queue_reply && self.replies.room() == 0 {
            // It would have to wait for a receiver: into the mailbox with it.
            if !self.hot.gate.leave_direct() {
                let ours = self.hot.gate.claim_direct();
                self.release();
                if !ours {
                    self.bury_abandoned(self.slot(message, token, options));
                    return Ok(());
                }
            }
            return self.send_queued(message, token, options, wait);
        }
        let stamp = telemetry::stamp(token);
        // SAFETY: the gate is held.
        let result = unsafe { self.engine.with(|engine| self.run_direct(engine, token, &message, SLICE)) };
        match result {
            Direct::Handled(reply) => {
                if !self.finish_direct(stamp, queue_reply.then_some((token, reply))) {
                    self.bury_abandoned(self.slot(message, token, options));
                }
            }
            Direct::Faulted(fault) => {
                self.fault_direct(self.slot(message, token, options), &fault);
            }
            Direct::Left | Direct::Abandoned => self.delegate(self.slot(message, token, options)),
        }
        Ok(())
    }

    /// Asks an idle kernel: its handler runs here and now. The gate is held before; after anything but `Handled` the
    /// caller owes [`ask_unfinished`](Self::ask_unfinished). The message stays where it is: a copy just after it was
    /// written would wait for the writes (10 of 100 cycles).
    #[inline(always)]
    pub(super) fn ask_direct(self: &Arc<Self>, message: &In, token: Token, timeout: Duration) -> Direct<Out> {
        let stamp = telemetry::stamp(token);
        // SAFETY: the gate is held.
        let result =
            unsafe { self.engine.with(|engine| self.run_direct(engine, token, message, SLICE.min(timeout))) };
        if matches!(result, Direct::Handled(_)) && !self.finish_direct(stamp, None) {
            return Direct::Abandoned;
        }
        result
    }

    /// What becomes of an ask on the direct path whose message was not handled at once: the error it ends with, or
    /// what has to be waited for: the slot is what [`delegate`](Self::delegate) wants, with the gate still held.
    #[cold]
    pub(super) fn ask_unfinished(
        self: &Arc<Self>,
        result: Direct<Out>,
        message: In,
        token: Token,
        options: &Options,
    ) -> Result<Slot<In, Out>> {
        let slot = self.slot(message, token, options);
        match result {
            Direct::Faulted(fault) => Err(self.fault_direct(slot, &fault)),
            Direct::Abandoned => {
                self.bury_abandoned(slot);
                Err(self.terminated_error())
            }
            Direct::Handled(_) | Direct::Left => Ok(slot),
        }
    }

    /// Runs a run of messages on an idle kernel, and takes those that came to an end from the front of `batch`. The gate is
    /// held.
    fn run_direct_batch(
        &self,
        engine: &mut Engine<Out>,
        batch: &mut VecDeque<(Token, In)>,
        queue_replies: bool,
    ) -> DirectBatch<In, Out> {
        let plain = self.plain();
        let mut ran = DirectBatch::default();
        let Engine { port: Some(port), finished, .. } = engine else { return ran };
        let room = if queue_replies { self.replies.room() } else { usize::MAX };
        ran.offered = batch.len().min(room);
        finished.clear();
        let until =
            Until { token: None, limits: Limits { deadline: None, slice: Some(SLICE) }, patience: None };
        let inside = Inside::enter(self.facts.id);
        // What did not begin, or was interrupted, stays in the sender's hands.
        let taken = port.exchange(
            &mut batch.iter().take(ran.offered).map(|(token, message)| (*token, plain.bytes(message))),
            &until,
            &mut |completion| collect(plain, completion, finished),
        );
        drop(inside);
        ran.is_left = taken > finished.len();
        for (token, result) in finished.drain(..) {
            ran.last = Some(batch.pop_front().expect("a result for each message, in order"));
            match result {
                Ok(reply) => {
                    ran.handled += 1;
                    if queue_replies {
                        ran.replies.push((token, reply));
                    }
                }
                Err(cause) => ran.fault = Some(cause),
            }
        }
        ran
    }

    /// Sends a run of messages on an idle kernel, from the front of `batch`; what is left there was not accepted.
    /// The gate is held before, and not after.
    pub(super) fn send_direct_batch(self: &Arc<Self>, batch: &mut VecDeque<(Token, In)>, options: &Options) {
        let queue_replies = self.facts.has_reply && !options.discard_reply;
        let watch = self.watch();
        // SAFETY: the gate is held.
        let ran = unsafe { self.engine.with(|engine| self.run_direct_batch(engine, batch, queue_replies)) };
        let DirectBatch { offered, handled, mut last, fault, mut replies, is_left } = ran;
        self.distrust_after(watch, handled);
        let direct = &self.hot.direct;
        // Relaxed read, Release store: the holder of the gate is the only writer.
        let before = direct.load(Ordering::Relaxed);
        direct.store(before + handled, Ordering::Release);
        if offered > 0 && handled == 0 {
            // Slow, or stopped: the mailbox takes it from here.
            self.hot.gate.set(gate::BACKGROUND);
        }
        if replies.is_empty() && fault.is_none() && self.hot.gate.leave_direct() {
            return;
        }
        if self.hot.gate.claim_direct() {
            self.replies.push(replies);
            match (last, fault) {
                (Some((token, message)), Some(fault)) => {
                    self.count_fault(self.slot(message, token, options), &self.fault_error(&fault));
                }
                _ if self.hot.gate.leave_claimed() => return,
                _ => {}
            }
        } else {
            // The last one begun was in hand then, and has been accounted for: one that was left in the middle, or else the
            // last that came to its end.
            if is_left {
                last = batch.pop_front();
            } else if fault.is_none() && handled > 0 {
                direct.store(before + handled - 1, Ordering::Release);
                replies.pop();
            }
            self.replies.push(replies);
            if let Some((token, message)) = last.or_else(|| batch.pop_front()) {
                self.bury_abandoned(self.slot(message, token, options));
            }
        }
        self.release();
    }
}
