//! Running handlers: whoever holds the gate feeds the port, lets it run, and hands out what comes back.
//!
//! Three drive: a sender or caller on an idle kernel (`direct`), a caller that waits, and the background.

use super::core::{Core, Emitted, Engine, Inside, Settled};
use super::gate;
use super::mailbox::Mailbox;
use super::telemetry::{self, DeadLetterReason};
use super::together::Together;
use crate::backend::{Completion, Fault, Limits, Port, Progress, Until};
use crate::kernel::{Credits, Plain};
use crate::message::{Message, Token};
use crate::sync::{MutexGuard, Ordering, elapsed, lock};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A handler on a caller's thread is interrupted after this long, and left to the background from then on.
pub(super) const SLICE: Duration = Duration::from_micros(20);
/// Messages a caller runs before it looks after its own business again.
const CALLER_ROUND: usize = 32;
/// One in so many of the rounds and lots that a caller runs is timed: to read the clock twice takes an eighth as long as a
/// lot of 32 messages that do next to nothing.
const TIMED: u32 = 16;
/// Rounds the background driver runs before another kernel gets its turn.
const ROUNDS: usize = 8;
/// A handler that takes less than this per message, for [`TRUSTED`] messages in a row, may run on callers' threads.
const FAST: Duration = Duration::from_micros(5);
const TRUSTED: u64 = if cfg!(loom) { 1 } else { 16 };
/// One that was seen to take more than this has to show it again. A caller's thread that lost its core for a moment
/// looks the same, and pays with a few messages that take the longer way.
const SLOW: Duration = Duration::from_millis(1);

/// What came of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoundEnd {
    /// Some messages were dealt with.
    Moved,
    /// There is nothing to run.
    Empty,
    /// There is something, but no room for what it may send.
    Stalled,
    /// A message was left in the middle, or the kernel stopped.
    Stopped,
    /// The device has what there is, and will tell.
    UnderWay,
}

/// What a port had.
struct Popped<In, Out> {
    /// Of messages that were sent together.
    together: Together<Out>,
    /// Messages that came over links on the device.
    arrived: Vec<(Token, In)>,
    /// Of the rounds that brought them, how many there might have been.
    link_over: usize,
}

impl<In: Message, Out: Message> Core<In, Out> {
    pub(super) fn plain(&self) -> &Plain<In, Out> {
        self.facts.plain.as_ref().expect("only kernels with a port are driven")
    }

    /// Runs what is queued, as a sender that waits for room; `true` if something moved.
    pub(super) fn drive_as_sender(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if !Self::may_drive() || !self.hot.gate.enter(gate::BACKGROUND | gate::STALLED | gate::WANTED) {
            return false;
        }
        let until =
            Until { token: None, limits: Limits { deadline, slice: Some(SLICE) }, patience: Some(&|| false) };
        let round = self.callers_round(&until);
        self.release();
        round == RoundEnd::Moved
    }

    /// Runs what is queued up to the caller's own message, if the port is free; `true` if it was. A caller with
    /// `patience` waits for a device that has the message, until that says that the wait is over.
    pub(super) fn drive_as_caller(
        self: &Arc<Self>,
        own: Option<Token>,
        deadline: Option<Instant>,
        patience: Option<&dyn Fn() -> bool>,
    ) -> bool {
        let keep_out = gate::BACKGROUND | gate::STALLED | gate::WANTED;
        if self.hot.gate.load() & gate::QUEUED == 0 || !self.hot.gate.enter(keep_out) {
            return false;
        }
        let until = Until { token: own, limits: Limits { deadline, slice: Some(SLICE) }, patience };
        self.callers_round(&until);
        self.release();
        true
    }

    /// A round on the thread of somebody who waits. The gate is held.
    fn callers_round(self: &Arc<Self>, until: &Until<'_>) -> RoundEnd {
        let watch = self.watch();
        let handled = || self.handled.load(Ordering::Relaxed);
        let before = handled();
        // SAFETY: the gate is held.
        let round = unsafe { self.engine.with(|engine| self.round(engine, until, CALLER_ROUND)) };
        self.distrust_after(watch, handled().wrapping_sub(before));
        round
    }

    /// The background driver's turn.
    pub(super) fn drive_in_background(self: &Arc<Self>) {
        self.hot.gate.clear(gate::SCHEDULED);
        // Whoever holds it sees on release that there is something queued.
        if !self.hot.gate.enter(gate::STALLED | gate::WANTED) {
            if self.facts.on_device && self.hot.gate.load() & gate::ACTIVE == 0 && self.hot.gate.seize() {
                // Before the port is looked into: what comes back after that is told.
                self.hot.gate.leave_to_device();
                // SAFETY: the gate was just taken.
                unsafe { self.engine.with(|engine| self.hand_out(engine)) };
                self.release();
            }
            return;
        }
        let handled = || self.handled.load(Ordering::Relaxed);
        let (before, begun) = (handled(), Instant::now());
        for _ in 0..ROUNDS {
            // SAFETY: the gate is held.
            let round =
                unsafe { self.engine.with(|engine| self.round(engine, &Until::BACKGROUND, usize::MAX)) };
            if round != RoundEnd::Moved || self.hot.gate.load() & gate::WANTED != 0 {
                break;
            }
        }
        self.judge(handled().wrapping_sub(before), elapsed(begun));
        self.release();
    }

    /// Lets callers run a handler that has shown itself to be fast. The gate is held.
    fn judge(&self, handled: u64, took: Duration) {
        if self.facts.background_only || handled == 0 {
            return;
        }
        if self.hot.gate.load() & gate::BACKGROUND == 0 {
            self.distrust(took / u32::try_from(handled).unwrap_or(u32::MAX));
            return;
        }
        // SAFETY: the gate is held.
        let trusted = unsafe {
            self.engine.with(|engine| {
                let fast = took.as_nanos() < u128::from(handled) * FAST.as_nanos();
                engine.trusted = if fast { engine.trusted + handled } else { 0 };
                engine.trusted >= TRUSTED
            })
        };
        if trusted {
            self.hot.gate.clear(gate::BACKGROUND);
        }
    }

    /// The time, now and then, if it matters how long messages take on the thread of a caller. The gate is held.
    pub(super) fn watch(&self) -> Option<Instant> {
        if !self.facts.on_probation {
            return None;
        }
        // SAFETY: the caller's.
        let rounds = unsafe {
            self.engine.with(|engine| {
                engine.rounds = engine.rounds.wrapping_add(1);
                engine.rounds
            })
        };
        rounds.is_multiple_of(TIMED).then(Instant::now)
    }

    /// As [`distrust`](Self::distrust), of as many messages since then.
    pub(super) fn distrust_after(&self, watch: Option<Instant>, handled: u64) {
        if let Some(begun) = watch.filter(|_| handled > 0) {
            self.distrust(elapsed(begun) / u32::try_from(handled).unwrap_or(u32::MAX));
        }
    }

    /// Keeps a handler that nothing can interrupt away from callers again, if it was seen to take this long. The
    /// gate is held.
    pub(super) fn distrust(&self, took: Duration) {
        if self.facts.on_probation && took > SLOW {
            // SAFETY: the gate is held.
            unsafe { self.engine.with(|engine| engine.trusted = 0) };
            self.hot.gate.set(gate::BACKGROUND);
        }
    }

    /// One round: feed, run, hand out. The gate is held.
    fn round(self: &Arc<Self>, engine: &mut Engine<Out>, until: &Until<'_>, most: usize) -> RoundEnd {
        let is_caller = !until.is_background();
        if engine.port.as_ref().is_some_and(|port| port.failure().is_some()) {
            return self.lose(engine, is_caller);
        }
        // A device is given all it can take: what a round costs, it costs for one message too.
        let most = if self.facts.on_device { usize::MAX } else { most };
        let (in_port, stalled) = self.feed(engine, most);
        if in_port == 0 {
            // Once more, now that it says that it is stalled: whoever loses the device looks for that afterwards.
            if stalled && engine.port.as_ref().is_some_and(|port| port.failure().is_some()) {
                self.hot.gate.clear(gate::STALLED);
                return self.lose(engine, is_caller);
            }
            return if stalled { RoundEnd::Stalled } else { RoundEnd::Empty };
        }
        let Some(port) = &mut engine.port else { return RoundEnd::Empty };
        if self.facts.on_device {
            // Before the device has anything: it may tell at once.
            self.hot.gate.set(gate::AWAY);
        }
        let inside = Inside::enter(self.facts.id);
        let progress = port.progress(until);
        drop(inside);
        if progress == Progress::UnderWay {
            return RoundEnd::UnderWay;
        }
        if self.facts.on_device {
            self.hot.gate.clear(gate::AWAY);
        }
        if progress == Progress::Lost {
            return self.lose(engine, is_caller);
        }
        if progress == Progress::Interrupted {
            engine.trusted = 0;
            engine.cut_short = self.stopped_now();
            self.hot.gate.set(gate::BACKGROUND);
        }
        if self.facts.on_device && progress == Progress::Done {
            self.begin_next(engine);
        }
        let moved = self.hand_out(engine);
        if progress == Progress::Done || moved { RoundEnd::Moved } else { RoundEnd::Stopped }
    }

    /// Gives the device what is queued before what came back is handed out, which takes its time.
    fn begin_next(self: &Arc<Self>, engine: &mut Engine<Out>) {
        if lock(&self.mailbox).queued() > 0 {
            self.feed(engine, usize::MAX);
        }
        if let Some(port) = &mut engine.port {
            // Before it has anything, as in `round`.
            self.hot.gate.set(gate::AWAY);
            if !port.begin() {
                self.hot.gate.clear(gate::AWAY);
            }
        }
    }

    /// Enters what is complete into the books and gives it to whoever waits for it; `true` if anything was.
    pub(super) fn hand_out(self: &Arc<Self>, engine: &mut Engine<Out>) -> bool {
        let plain = self.plain();
        let Engine { port: Some(port), finished, settled, unasked, emitted, reply_places, .. } = engine
        else {
            return false;
        };
        emitted.clear();
        let Popped { mut together, arrived, link_over } = self.pop(port.as_mut(), finished, emitted);
        let mut faulted = Vec::new();
        let mut mailbox = lock(&self.mailbox);
        if self.hot.gate.load() & gate::ABANDONED != 0 {
            self.discard(mailbox, port.as_mut(), arrived);
            return false;
        }
        if link_over > 0 {
            *reply_places += self.arrive(&mut mailbox, arrived, link_over);
        }
        let (singly, in_port) = (mailbox.singly.len(), mailbox.in_port());
        let is_usual = if together.count == 0 {
            finished.len() <= singly
        } else {
            finished.len() == singly && together.count <= in_port - singly
        };
        if !is_usual {
            // Something happened to a message that was sent together with others.
            mailbox.separate_all();
            together.separate(plain, finished);
        }
        let ended = finished.len() + together.count;
        let mut handled = together.count as u64;
        for (token, result) in finished.drain(..) {
            let slot = mailbox.singly.pop_front().expect("a result for each message, in order");
            debug_assert_eq!(token, slot.meta.token, "results come in the order of their messages");
            let replies_to_queue = self.facts.has_reply && slot.meta.replies_to_queue();
            *reply_places -= usize::from(replies_to_queue);
            let is_looked_at = slot.meta.cell.is_some() || slot.meta.stamp != 0 || result.is_err();
            let result = match result {
                Ok(reply) if replies_to_queue => {
                    unasked.push((token, reply));
                    Ok(None)
                }
                Ok(reply) => Ok(Some(reply)),
                Err(fault) => {
                    mailbox.dead.count(DeadLetterReason::Fault);
                    faulted.push(slot.payload);
                    Err(fault)
                }
            };
            handled += u64::from(result.is_ok());
            if is_looked_at {
                settled.push((slot.meta, result));
            }
        }
        if !unasked.is_empty() {
            // Before the messages count as handled: whoever sees that they are finds the replies.
            self.replies.push(unasked.drain(..));
        }
        // Freed outside of the lock.
        let done = self.take_replies(&mut mailbox, together, reply_places);
        // Release pairs with telemetry's Acquire; the holder of the gate is the only writer.
        self.handled.store(self.handled.load(Ordering::Relaxed) + handled, Ordering::Release);
        let (cycle, growth) = (mailbox.cycle.clone(), mailbox.growth);
        let room = mailbox.room(self.waiting());
        let wake = mailbox.blocked > 0 && (room * 2 >= mailbox.capacity() || mailbox.queued() == 0);
        drop(mailbox);
        drop(done);
        if wake {
            self.changed.notify_all();
        }
        let into_cycles = self.pass_on(port.as_mut(), emitted);
        let credits = (ended + ended * growth) as i64 - into_cycles as i64;
        if let Some(cycle) = &cycle {
            cycle.release(credits);
        }
        let moved = ended + link_over > 0;
        self.deliver(settled, faulted);
        if moved {
            self.flush_outlets();
            self.resume_upstream();
        }
        if let Some(cycle) = cycle.filter(|_| credits > 0) {
            cycle.resume_sources();
        }
        moved
    }

    /// Drops what came back of a round during which the kernel was terminated: its messages have been accounted for, its
    /// results are nobody's. What came over links meanwhile has not been.
    fn discard(
        &self,
        mut mailbox: MutexGuard<'_, Mailbox<In, Out>>,
        port: &mut dyn Port,
        arrived: Vec<(Token, In)>,
    ) {
        mailbox.accepted += arrived.len() as u64;
        mailbox.arrived += arrived.len() as u64;
        arrived.iter().for_each(|_| mailbox.dead.count(DeadLetterReason::Undeliverable));
        drop(mailbox);
        arrived.into_iter().for_each(|(token, payload)| self.undeliverable(token, &payload));
        port.pass_on(&mut |_| ());
    }

    /// Takes what is complete from the port: results that came singly into `finished`, values into `emitted`.
    fn pop(
        &self,
        port: &mut dyn Port,
        finished: &mut Vec<(Token, Result<Out, Fault>)>,
        emitted: &mut Emitted,
    ) -> Popped<In, Out> {
        let plain = self.plain();
        finished.clear();
        let mut together = Together::default();
        let (mut arrived, mut link_over) = (Vec::new(), 0);
        port.pop(&mut |completion| match completion {
            Completion::Emit { token, output, value } => emitted.push(token, output, value),
            Completion::Arrived { token, message } => arrived.push((token, plain.message(message))),
            Completion::LinkOver { most } => link_over += most,
            Completion::Run { first, replies, more } => {
                if self.facts.has_reply {
                    together.replies.reserve(if together.count == 0 { replies.count + more } else { 0 });
                    plain.extend(&mut together.replies, replies);
                }
                together.add(first, replies.count);
            }
            other => {
                // What was together comes before it.
                together.separate(plain, finished);
                collect(plain, other, finished);
            }
        });
        Popped { together, arrived, link_over }
    }

    /// Gives what was emitted to the links and queues, and returns how many cycles of links it went into. Outside of the
    /// mailbox's lock: a link's lock is held while its target's mailbox is locked, and the target may be this kernel or one
    /// before it.
    fn pass_on(&self, port: &mut dyn Port, emitted: &Emitted) -> usize {
        let mut into_cycles = 0;
        // Before those that go through the host: values that were passed on the device are of earlier rounds.
        port.pass_on(&mut |completion| match completion {
            Completion::Passed { output, count } => self.outlets[output].1.count_passed(count),
            Completion::Emit { token, output, value } => {
                self.outlets[output].1.put_passed(token, value, &mut into_cycles);
            }
            _ => unreachable!("results have been popped"),
        });
        for (token, output, value) in emitted.iter() {
            self.outlets[output].1.put_bytes(token, value, &mut into_cycles);
        }
        port.all_is_out();
        into_cycles
    }

    /// Gives results to waiting callers, faults to the supervisor.
    fn deliver(self: &Arc<Self>, settled: &mut Vec<Settled<Out>>, faulted: Vec<In>) {
        let mut faulted = faulted.into_iter();
        let now = if settled.iter().any(|(meta, _)| meta.stamp != 0) { telemetry::now() } else { 0 };
        for (meta, result) in settled.drain(..) {
            match result {
                Ok(reply) => {
                    if meta.stamp != 0 {
                        self.latency.record(now.saturating_sub(meta.stamp));
                    }
                    if let (Some(cell), Some(reply)) = (&meta.cell, reply) {
                        self.answer(cell, meta.token, Ok(reply));
                    }
                }
                Err(fault) => {
                    let error = self.fault_error(&fault);
                    let payload = faulted.next().and_then(|payload| self.encode(&payload));
                    self.bury_faulted(meta, payload, &error);
                }
            }
        }
    }

    /// Lets go of the gate; work left behind goes to a caller that looks for it, or to the background driver.
    pub(super) fn release(self: &Arc<Self>) {
        let gate = &self.hot.gate;
        if gate.load() & gate::QUEUED != 0 {
            let mailbox = lock(&self.mailbox);
            if mailbox.is_empty() {
                // Under the lock: a push after this sets the bit again.
                gate.clear(gate::QUEUED);
            }
            if mailbox.blocked > 0 && mailbox.room(self.waiting()) > 0 {
                self.changed.notify_all();
            }
        }
        let mut before = gate.clear(gate::BUSY | gate::DIRECT);
        if before & gate::ABANDONED != 0 && gate.seize() {
            // Terminated while the port was held: nobody else takes it apart, and other kernels may send to it still, or
            // wait for its buffers.
            // SAFETY: the gate was just taken.
            unsafe {
                self.engine.with(|engine| {
                    if let Some(port) = &mut engine.port {
                        port.close();
                        self.hand_out(engine);
                    }
                    engine.port = None;
                });
            }
            before |= gate.clear(gate::BUSY);
        }
        if before & gate::WANTED != 0 {
            drop(lock(&self.idle.0));
            self.idle.1.notify_all();
        }
        self.rescue();
    }
}

/// Keeps one result for later.
pub(super) fn collect<In, Out>(
    plain: &Plain<In, Out>,
    completion: Completion<'_>,
    finished: &mut Vec<(Token, Result<Out, Fault>)>,
) {
    match completion {
        Completion::Handled { token, reply } => finished.push((token, Ok(plain.reply(reply)))),
        Completion::Faulted { token, fault } => finished.push((token, Err(fault))),
        Completion::Run { first, replies, .. } => {
            finished.extend((first..).zip(replies.iter().map(|reply| Ok(plain.reply(reply)))));
        }
        Completion::Emit { .. } => unreachable!("kernels with outputs have no direct path"),
        Completion::Arrived { .. } | Completion::LinkOver { .. } | Completion::Passed { .. } => {
            unreachable!("kernels on a device have no direct path")
        }
    }
}
