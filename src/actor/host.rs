//! Host kernels: a thread of their own, a receive loop, and what their `Context` does.

use super::Termination;
use super::cell::ReplyCell;
use super::core::{Core, live_inside};
use super::gate;
use super::lifecycle::{Event, KernelState};
use super::links::CycleCredits;
use super::mailbox::Mailbox;
use super::telemetry::{self, DeadLetterReason};
use crate::error::{Error, ErrorKind, Result, panic_text};
use crate::kernel::{AnyOutlet, Context, Credits, HostFunction, HostPort, RestartPolicy, ended};
use crate::message::{Envelope, IdSource, Message, Token};
use crate::sync::{Ordering, SPIN, deadline_in, lock, passed, spin, wait_until};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a host kernel's `Context` stands on.
struct Hand<In: Message, Out: Message> {
    core: Arc<Core<In, Out>>,
    /// Token of the last message received, which emitted values carry; before the first, each has its own.
    token: Option<Token>,
    /// Values that may go into cycles of links, whatever room there is: those that were declared for each message that came,
    /// less those that have gone.
    free: usize,
}

/// What is left to do outside of the mailbox's lock once a message has ended.
struct Ended<Out> {
    /// A caller who has not been answered.
    unanswered: Option<(Token, Arc<ReplyCell<Out>>)>,
    cycle: Option<Arc<CycleCredits>>,
    /// Somebody waits for room, or for the message to end.
    blocked: bool,
}

/// The unit value, if that is what replies are: then nobody replies.
pub(super) fn unit_reply<Out: 'static>() -> Option<Out> {
    let mut unit = Some(());
    (&mut unit as &mut dyn Any).downcast_mut::<Option<Out>>().and_then(Option::take)
}

impl<In: Message, Out: Message> Core<In, Out> {
    /// Starts the kernel's thread.
    pub(super) fn start_host(self: &Arc<Self>, function: HostFunction<In, Out>) -> Result<()> {
        let core = self.clone();
        let thread = std::thread::Builder::new().name(format!("ringwork-{}", self.name()));
        let run = move || core.run_host(&function);
        thread.spawn(run).map(drop).map_err(|error| {
            let text = format!("kernel `{}`: no thread for it: {error}", self.name());
            Error::new(ErrorKind::Unavailable, text)
        })
    }

    pub(super) fn run_host(self: Arc<Self>, function: &HostFunction<In, Out>) {
        live_inside(self.facts.id);
        while self.wait_active() {
            let mut context = Context::new(Box::new(Hand { core: self.clone(), token: None, free: 0 }));
            match catch_unwind(AssertUnwindSafe(|| function(&mut context))) {
                Ok(()) => {
                    let ended = self.commit(&mut lock(&self.mailbox));
                    self.tell(ended);
                    self.end_of_function();
                    break;
                }
                Err(panic) => {
                    let text = panic_text(&*panic);
                    let cause = Error::new(
                        ErrorKind::Failed,
                        format!("kernel `{}`: its function panicked: {text}", self.name()),
                    );
                    if !self.bury_hand(&cause) {
                        break;
                    }
                }
            }
        }
        lock(&self.mailbox).host_ended = true;
        self.changed.notify_all();
    }

    /// Waits until the kernel is active; `false` if it has ended first.
    fn wait_active(&self) -> bool {
        let mut mailbox = lock(&self.mailbox);
        loop {
            match mailbox.state {
                KernelState::Active => return true,
                KernelState::Created | KernelState::Launched | KernelState::Deactivated => {
                    mailbox = wait_until(&self.items, mailbox, None);
                }
                // Told to end before this thread ran: what came while it was active is drained all the same. One
                // that never was active has nothing to drain.
                _ => return mailbox.runs(),
            }
        }
    }

    /// Enters the message in hand as handled.
    fn commit(&self, mailbox: &mut Mailbox<In, Out>) -> Ended<Out> {
        let blocked = mailbox.blocked > 0;
        let Some(meta) = mailbox.hand.take() else { return Ended { unanswered: None, cycle: None, blocked } };
        // Release pairs with telemetry's Acquire; this thread is the only writer.
        self.handled.store(self.handled.load(Ordering::Relaxed) + 1, Ordering::Release);
        if meta.stamp != 0 {
            self.latency.record(telemetry::now().saturating_sub(meta.stamp));
        }
        let cycle = mailbox.cycle.clone();
        if let Some(cycle) = &cycle {
            cycle.release(1);
        }
        Ended { unanswered: meta.cell.map(|cell| (meta.token, cell)), cycle, blocked }
    }

    /// Dead-letters the message in hand: the function panicked on it. `true` if the kernel goes on.
    fn bury_hand(self: &Arc<Self>, cause: &Error) -> bool {
        let mut mailbox = lock(&self.mailbox);
        let mut meta = mailbox.hand.take();
        let cycle = mailbox.cycle.clone().filter(|_| meta.is_some());
        if meta.is_some() {
            mailbox.dead.count(DeadLetterReason::Fault);
        }
        if let Some(cycle) = &cycle {
            cycle.release(1);
        }
        let ended = Ended { unanswered: None, cycle, blocked: mailbox.blocked > 0 };
        drop(mailbox);
        // Told last, as in `bury_faulted`. One that is being terminated is not called again.
        let caller = meta.as_mut().and_then(|meta| Some((meta.cell.take()?, meta.token)));
        if let Some(meta) = meta {
            self.bury_meta(meta, None, DeadLetterReason::Fault, cause.clone());
        }
        let goes_on = self.state() != KernelState::Terminating && self.supervise(cause);
        if let Some((cell, token)) = caller {
            self.answer(&cell, token, Err(cause.clone()));
        }
        self.tell(ended);
        goes_on
    }

    /// Tells whoever waited for a message to end.
    fn tell(&self, ended: Ended<Out>) {
        if let Some((token, cell)) = ended.unanswered {
            let reply = unit_reply::<Out>().ok_or_else(|| {
                let text = format!("kernel `{}` ended its message without a reply", self.name());
                Error::new(ErrorKind::Failed, text)
            });
            self.answer(&cell, token, reply);
        }
        if ended.blocked {
            self.changed.notify_all();
        }
        self.resume_upstream();
        if let Some(cycle) = ended.cycle {
            cycle.resume_sources();
        }
    }

    /// The function returned by itself: the kernel ends, what is queued is dead-lettered.
    fn end_of_function(self: &Arc<Self>) {
        let mut mailbox = lock(&self.mailbox);
        if mailbox.state == KernelState::Terminating {
            return;
        }
        let Ok(state) = mailbox.state.after(Event::Terminate, self.name()) else { return };
        mailbox.state = state.after(Event::Finish, self.name()).unwrap_or(KernelState::Terminated);
        self.hot.gate.clear(gate::ACTIVE);
        let rest = mailbox.take_all();
        for _ in &rest {
            mailbox.dead.count(DeadLetterReason::KernelEnded);
        }
        let cycle = mailbox.cycle.take();
        if let Some(cycle) = &cycle {
            cycle.release(rest.len() as i64);
        }
        drop(mailbox);
        for slot in rest {
            self.bury(slot, DeadLetterReason::KernelEnded);
        }
        self.changed.notify_all();
        self.replies.close();
        self.outlets.iter().for_each(|(_, outlet)| outlet.close());
        self.resume_upstream();
        if let Some(cycle) = cycle {
            cycle.resume_sources();
        }
        self.deliver_rest(None);
        self.facts.services.unregister(&self.facts.name, self.facts.id);
    }

    /// Waits for the thread's end, then returns the rest; a thread that does not end is left to itself.
    pub(super) fn end_host(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        grace: Option<Instant>,
    ) -> Termination<In> {
        let mut mailbox = lock(&self.mailbox);
        while !mailbox.host_ended && !passed(deadline) {
            mailbox.blocked += 1;
            mailbox = wait_until(&self.changed, mailbox, deadline);
            mailbox.blocked -= 1;
        }
        mailbox.draining = false;
        self.hot.gate.clear(gate::ACTIVE);
        drop(mailbox);
        self.items.notify_all();
        let mut mailbox = lock(&self.mailbox);
        while !mailbox.host_ended && !passed(grace) {
            mailbox.blocked += 1;
            mailbox = wait_until(&self.changed, mailbox, grace);
            mailbox.blocked -= 1;
        }
        let detached = !mailbox.host_ended;
        let hand = mailbox.hand.take();
        if hand.is_some() {
            mailbox.dead.count(DeadLetterReason::Abandoned);
            if let Some(cycle) = &mailbox.cycle {
                cycle.release(1);
            }
        }
        drop(mailbox);
        let mut end = self.close_books(Vec::new(), detached);
        end.abandoned = hand.as_ref().map(|meta| self.envelope_id(meta));
        if let Some(meta) = hand {
            self.bury_meta(meta, None, DeadLetterReason::Abandoned, self.terminated_error());
        }
        end
    }
}

/// Is there no time left, to wait for room either?
fn is_over<In, Out>(mailbox: &Mailbox<In, Out>) -> bool {
    match mailbox.state {
        KernelState::Terminating => !mailbox.runs(),
        KernelState::Terminated | KernelState::Failed => true,
        _ => false,
    }
}

/// Is there no message to come?
fn has_ended<In, Out>(mailbox: &Mailbox<In, Out>) -> bool {
    is_over(mailbox) || (mailbox.state == KernelState::Terminating && mailbox.queued() == 0)
}

impl<In: Message, Out: Message> Hand<In, Out> {
    /// Commits the message in hand and takes the next one, if one may begin; both under one lock: each lock is a
    /// cache line's way from the senders and back.
    fn turn(&mut self) -> Option<Envelope<In>> {
        let core = &self.core;
        let mut mailbox = lock(&core.mailbox);
        let ended = core.commit(&mut mailbox);
        let next = if mailbox.runs() { mailbox.pop() } else { None };
        if next.is_some() && mailbox.cycle.is_some() {
            let declared: usize = core.outlets.iter().map(|(_, outlet)| outlet.leads_back()).sum();
            // What is saved up is bounded, too.
            self.free = (self.free + declared).min(declared.max(mailbox.capacity()));
        }
        let next = next.map(|slot| {
            self.token = Some(slot.meta.token);
            let envelope = core.envelope(&slot.meta, slot.payload);
            mailbox.hand = Some(slot.meta);
            envelope
        });
        if next.is_none() && mailbox.queued() == 0 {
            // Under the lock: a push after this sets the bit again.
            core.hot.gate.clear(gate::QUEUED);
        }
        drop(mailbox);
        core.tell(ended);
        next
    }

    /// Is there room for a value that goes out here?
    fn has_room(&self, output: &str, outlet: &dyn AnyOutlet) -> Result<bool> {
        if outlet.admit() == 0 {
            return Ok(false);
        }
        if self.free > 0 || outlet.leads_back() == 0 {
            return Ok(true);
        }
        let mailbox = lock(&self.core.mailbox);
        let has_room = mailbox.cycle.as_ref().is_none_or(|cycle| cycle.has_room());
        if !has_room && mailbox.queued() > 0 && !is_over(&mailbox) {
            return Err(Error::new(
                ErrorKind::Deadlock,
                format!(
                    "kernel `{}`: output `{output}` leads back to it, and the cycle is full: receive before more is sent",
                    self.core.name()
                ),
            ));
        }
        Ok(has_room)
    }

    fn wait_for_room(&self, output: &str, outlet: &dyn AnyOutlet) -> Result<()> {
        let core = &self.core;
        while !self.has_room(output, outlet)? {
            let mailbox = lock(&core.mailbox);
            if is_over(&mailbox) {
                return Err(ended(core.name()));
            }
            core.hot.gate.set(gate::STALLED);
            drop(wait_until(&core.items, mailbox, deadline_in(Duration::from_millis(1))));
        }
        Ok(())
    }
}

impl<In: Message, Out: Message> HostPort<In, Out> for Hand<In, Out> {
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Envelope<In>> {
        if let Some(envelope) = self.turn() {
            return Ok(envelope);
        }
        let begun = Instant::now();
        loop {
            // Many looks at the gate for one at the clock, which takes as long as several of them.
            while begun.elapsed() < SPIN
                && (0..64).all(|_| {
                    spin();
                    self.core.hot.gate.load() & gate::QUEUED == 0
                })
            {}
            if let Some(envelope) = self.turn() {
                return Ok(envelope);
            }
            let core = &self.core;
            let mut mailbox = lock(&core.mailbox);
            if has_ended(&mailbox) {
                return Err(ended(core.name()));
            }
            if passed(deadline) {
                return Err(Error::timed_out(
                    format!("receive of kernel `{}`", core.name()),
                    begun.elapsed(),
                ));
            }
            // What came since `turn` looked has told nobody.
            if !mailbox.runs() || (mailbox.queued() == 0 && begun.elapsed() >= SPIN) {
                mailbox.host_sleeps = true;
                mailbox = wait_until(&core.items, mailbox, deadline);
                mailbox.host_sleeps = false;
            }
        }
    }

    fn reply(&mut self, reply: Out) -> bool {
        let core = &self.core;
        // The cell is taken, not shared: counting its owners here would fetch its cache line from the caller, who
        // looks at it, once more than the reply does.
        let mut mailbox = lock(&core.mailbox);
        let Some(meta) = &mut mailbox.hand else { return false };
        let (cell, token) = (meta.cell.take(), meta.token);
        let to_queue = !std::mem::replace(&mut meta.discard_reply, true) && cell.is_none();
        if let Some(cell) = cell {
            drop(mailbox);
            core.answer(&cell, token, Ok(reply));
            return true;
        }
        if !to_queue {
            return false;
        }
        while core.replies.room() == 0 && !is_over(&mailbox) {
            // So that whoever waits for this kernel can say why.
            core.hot.gate.set(gate::STALLED);
            mailbox = wait_until(&core.items, mailbox, deadline_in(Duration::from_millis(10)));
        }
        core.hot.gate.clear(gate::STALLED);
        drop(mailbox);
        if core.replies.room() == 0 {
            return false;
        }
        core.replies.push([(token, reply)]);
        true
    }

    fn emit(&mut self, output: &str, value: &mut dyn Any, type_name: &str) -> Result<()> {
        let core = self.core.clone();
        let Some((_, outlet)) = core.outlets.iter().find(|(name, _)| name == output) else {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("kernel `{}` has no output `{output}`; declare it with `.host_output`", core.name()),
            ));
        };
        let waited = self.wait_for_room(output, &**outlet);
        core.hot.gate.clear(gate::STALLED);
        waited?;
        if !outlet.put_any(self.token.unwrap_or_else(IdSource::next), value) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "output `{output}` of kernel `{}` is declared with another type than `{type_name}`",
                    core.name()
                ),
            ));
        }
        if self.free > 0 && outlet.leads_back() > 0 {
            self.free -= 1;
        }
        Ok(())
    }

    fn should_terminate(&self) -> bool {
        !matches!(self.core.state(), KernelState::Active | KernelState::Deactivated)
    }

    fn name(&self) -> &str {
        self.core.name()
    }
}

/// The restart policies that a host kernel's settings may name.
pub(super) fn check_restart(kernel: &str, policy: RestartPolicy) -> Result<()> {
    use crate::kernel::RestartState;
    match policy {
        RestartPolicy::OneForOne { state: RestartState::Snapshot | RestartState::Initial, .. } => {
            Err(crate::kernel::invalid(
                kernel,
                "restart.state: a host kernel's state is its function's own; only `Current` applies",
            ))
        }
        _ => Ok(()),
    }
}
