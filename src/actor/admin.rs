//! Lifecycle calls: activate, deactivate, terminate, fail, and what needs the port between messages.

use super::core::{Core, Engine, Memory, inside};
use super::gate;
use super::lifecycle::{Event, KernelState};
use super::mailbox::{Meta, Slot};
use super::telemetry::DeadLetterReason;
use crate::backend::{Port, STOP_AFTER_MESSAGE, STOP_NOW};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::Credits;
use crate::message::Message;
use crate::sync::{deadline_in, lock, park_until, passed, wait_until};
use crate::{Envelope, Uuid};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a call waits for the message in hand when it is given no time-out.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// After its time-out, `terminate` gives a handler this long to notice that it has been stopped.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// At least so long after the stop word is set, even if the time is long over, what has begun is not counted: the handler's
/// last store before its last look at the word is to be seen. No processor keeps a write to itself for so long.
const NOTICE: Duration = Duration::from_millis(1);

/// What became of a kernel's messages at its end.
#[derive(Debug)]
#[non_exhaustive]
pub struct Termination<In> {
    /// Messages that were not begun, in the order in which they would have been handled.
    pub returned: Vec<Envelope<In>>,
    /// The message that was in hand when the time ran out; it is dead-lettered as
    /// [`Abandoned`](DeadLetterReason::Abandoned), and if its handler ever ends, the result is dropped. So are
    /// messages that ran beside it, on other cores, and whose results had not been handed out. `None` also if a
    /// sender runs the message itself.
    pub abandoned: Option<Uuid>,
    /// A thread is still inside the handler, or is a host kernel's that did not end: it has been left to itself.
    pub detached: bool,
    /// Messages handled between the call and the end.
    pub drained: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl<In> Termination<In> {
    /// Everything that was queued has been handled, and nothing was left behind.
    pub fn is_clean(&self) -> bool {
        self.returned.is_empty() && self.abandoned.is_none() && !self.detached
    }
}

impl<In: Message, Out: Message> Core<In, Out> {
    pub(super) fn activate(self: &Arc<Self>) -> Result<()> {
        let mut mailbox = lock(&self.mailbox);
        mailbox.state = mailbox.state.after(Event::Activate, self.name())?;
        // Relaxed: handlers begin only behind the gate, whose bit is set after this.
        self.control.stop.store(0, Ordering::Relaxed);
        // Messages that were given to a device's port while a stop was asked for are not at the device, and nobody would
        // tell that they came back.
        self.hot.gate.activate();
        drop(mailbox);
        self.items.notify_all();
        self.rescue();
        Ok(())
    }

    pub(super) fn deactivate(self: &Arc<Self>, timeout: Duration) -> Result<()> {
        let mut mailbox = lock(&self.mailbox);
        mailbox.state = mailbox.state.after(Event::Deactivate, self.name())?;
        self.hot.gate.clear(gate::ACTIVE);
        self.control.stop.store(STOP_AFTER_MESSAGE, Ordering::Relaxed);
        drop(mailbox);
        self.changed.notify_all();
        if inside() == self.facts.id {
            // A handler that deactivates its own kernel: the message in hand is the caller's own.
            return Ok(());
        }
        if self.wait_idle(deadline_in(timeout)) {
            return Ok(());
        }
        Err(Error::timed_out(
            format!(
                "deactivate of kernel `{}`: no message begins any more, but the one in hand",
                self.name()
            ),
            timeout,
        ))
    }

    pub(super) fn state(&self) -> KernelState {
        lock(&self.mailbox).state
    }

    /// Waits until nobody is terminating the kernel any more; `false` at the deadline.
    pub(super) fn wait_terminated(&self, deadline: Option<Instant>) -> bool {
        self.wait_mailbox(deadline, |mailbox| mailbox.state != KernelState::Terminating)
    }

    /// Runs `body` with the port between two messages.
    pub(super) fn with_port<R>(
        self: &Arc<Self>,
        call: &str,
        body: impl FnOnce(&mut dyn Port, &mut Memory) -> Result<R>,
    ) -> Result<R> {
        self.check_outside(call)?;
        if self.is_host() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("kernel `{}` is a host kernel: its state is its function's own", self.name()),
            ));
        }
        let mut result = Err(self.terminated_error());
        let is_back = self.seize_recalled(deadline_in(PATIENCE), |engine| {
            if let Some(port) = &mut engine.port {
                result = body(port.as_mut(), &mut engine.memory);
            }
        });
        if is_back {
            return result;
        }
        Err(Error::timed_out(format!("{call} of kernel `{}`, whose handler runs,", self.name()), PATIENCE))
    }

    /// Runs `body` with the port between two messages, and nothing of it at a device; `false`, without having run it,
    /// at the deadline.
    pub(super) fn seize_recalled(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        body: impl FnOnce(&mut Engine<Out>),
    ) -> bool {
        if !self.seize(deadline) {
            return false;
        }
        // SAFETY: the gate was just taken.
        let is_back = unsafe {
            self.engine.with(|engine| {
                let is_back = self.recall(engine, deadline);
                if is_back {
                    body(engine);
                }
                if let Some(port) = &mut engine.port {
                    port.resume();
                }
                is_back
            })
        };
        self.release();
        is_back
    }

    /// Waits until the device has nothing of this kernel, and hands out what came back; `false` at the deadline. The
    /// gate is held.
    fn recall(self: &Arc<Self>, engine: &mut Engine<Out>, deadline: Option<Instant>) -> bool {
        let is_back = engine.port.as_mut().is_none_or(|port| port.recall(deadline));
        if self.facts.on_device {
            self.hand_out(engine);
            if is_back {
                self.hot.gate.clear(gate::AWAY);
                let cut_short = engine.port.as_ref().is_some_and(|port| port.is_cut_short());
                engine.cut_short = cut_short && self.stopped_now();
            }
        }
        is_back
    }

    /// What messages emit that have not begun goes by the links that there are when they do; `false` at the deadline. The
    /// gate is held.
    pub(super) fn hold_values(self: &Arc<Self>, engine: &mut Engine<Out>, deadline: Option<Instant>) -> bool {
        if !self.facts.on_device || self.outlets.is_empty() {
            return true;
        }
        let is_back = self.recall(engine, deadline);
        if let Some(port) = &mut engine.port {
            port.detour();
            port.resume();
        }
        is_back
    }

    /// As [`hold_values`](Self::hold_values), for messages that other kernels of the device have given it since. The links
    /// are what they will be, and the gate is held.
    pub(super) fn detour_values(&self, engine: &mut Engine<Out>) {
        if self.facts.on_device
            && let Some(port) = &mut engine.port
        {
            port.detour();
        }
    }

    /// Ends the kernel for good because of a fault: everybody who waits gets the cause. One that is being terminated
    /// drains no further.
    pub(super) fn fail(&self, cause: &Error) {
        let mut mailbox = lock(&self.mailbox);
        match mailbox.state.after(Event::Fail, self.name()) {
            Ok(state) => {
                mailbox.state = state;
                let text = format!("kernel `{}` has failed: {cause}", self.name());
                mailbox.failure = Some(Error::new(ErrorKind::Failed, text));
            }
            // It ends as it would have, but handles nothing more; whoever terminates it deals with what is left.
            Err(_) if mailbox.state == KernelState::Terminating => mailbox.draining = false,
            Err(_) => return,
        }
        self.hot.gate.clear(gate::ACTIVE);
        // Not less than `terminate` may have asked for.
        self.control.stop.fetch_max(STOP_AFTER_MESSAGE, Ordering::Relaxed);
        let waiting = mailbox.take_waiters();
        drop(mailbox);
        for (token, cell) in waiting {
            self.answer(&cell, token, Err(cause.clone()));
        }
        self.changed.notify_all();
        self.items.notify_all();
        self.replies.close();
        self.outlets.iter().for_each(|(_, outlet)| outlet.close());
        self.resume_upstream();
    }

    /// Drains until `deadline`, stops what still runs until `grace`, and takes the kernel apart.
    pub(super) fn terminate(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        grace: Option<Instant>,
    ) -> Result<Termination<In>> {
        let begun = Instant::now();
        self.check_outside("terminate")?;
        let mut mailbox = lock(&self.mailbox);
        let was = mailbox.state;
        mailbox.state = was.after(Event::Terminate, self.name())?;
        if was == KernelState::Active {
            mailbox.draining = true;
            mailbox.drain_until = deadline.or_else(|| deadline_in(PATIENCE));
        }
        let handled_before = self.handled.load(Ordering::Relaxed);
        drop(mailbox);
        self.changed.notify_all();
        self.items.notify_all();
        self.replies.close();
        self.outlets.iter().for_each(|(_, outlet)| outlet.close());

        let mut end = if self.is_host() {
            self.end_host(deadline, grace)
        } else {
            let held = was == KernelState::Active && self.drain(deadline);
            self.end_port(held, grace)
        };
        self.deliver_rest(deadline);
        end.drained = self.handled.load(Ordering::Relaxed) - handled_before;
        end.elapsed = begun.elapsed();
        self.facts.services.unregister(&self.facts.name, self.facts.id);
        self.resume_upstream();
        Ok(end)
    }

    /// Waits until nothing is left, running handlers meanwhile if it can; then it holds the port and returns `true`.
    fn drain(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        loop {
            // This thread waits for so long and no longer: it does not run what nothing can interrupt.
            while !self.facts.on_probation && self.drive_as_sender(deadline) {}
            let mut mailbox = lock(&self.mailbox);
            // It may have failed meanwhile.
            if passed(deadline) || !mailbox.runs() {
                return false;
            }
            if mailbox.is_empty() {
                drop(mailbox);
                // One on the direct path may put its message into the mailbox yet, to be run again.
                if !self.seize(deadline) {
                    return false;
                }
                if lock(&self.mailbox).is_empty() {
                    return true;
                }
                self.release();
                continue;
            }
            // A stall (no room for replies or outputs) ends if somebody receives; else the deadline ends it.
            mailbox.blocked += 1;
            mailbox = wait_until(&self.changed, mailbox, deadline);
            mailbox.blocked -= 1;
        }
    }

    /// Gives the destinations of links time to take what this kernel has sent: once it is gone they may go too.
    pub(super) fn deliver_rest(&self, deadline: Option<Instant>) {
        let deadline = deadline.or_else(|| deadline_in(PATIENCE));
        loop {
            self.flush_outlets();
            if passed(deadline) || !self.outlets.iter().any(|(_, outlet)| outlet.will_deliver()) {
                return;
            }
            park_until(deadline_in(Duration::from_millis(1)));
        }
    }

    /// Stops the handler in hand, if one is, and returns the rest. `held`: this thread has the port already.
    fn end_port(self: &Arc<Self>, held: bool, grace: Option<Instant>) -> Termination<In> {
        self.control.stop.store(STOP_NOW, Ordering::Relaxed);
        self.hot.gate.clear(gate::ACTIVE);
        let grace = grace.map(|grace| grace.max(Instant::now() + NOTICE));
        if held || self.seize(grace) {
            return self.end_seized(grace);
        }
        let mut mailbox = lock(&self.mailbox);
        // Under the lock: the holder enters its results under it, and looks for the bit first.
        let before = self.hot.gate.seize_or_abandon();
        if before & gate::BUSY == 0 {
            // The holder came back at the last moment.
            drop(mailbox);
            return self.end_seized(grace);
        }
        if before & gate::DIRECT != 0 {
            // It never was in the mailbox; its sender, who runs it, has it.
            mailbox.accepted += 1;
            mailbox.dead.count(DeadLetterReason::Abandoned);
        }
        mailbox.separate_all();
        let begun = mailbox.singly.len().saturating_sub(self.waiting());
        let mut begun: Vec<_> = mailbox.singly.drain(..begun).collect();
        let mut handled = Vec::new();
        if self.control.one_at_a_time.load(Ordering::Relaxed) {
            // The last one begun is in hand; those before it have run and committed. Their replies lie in the port
            // that is not coming back, but handled they are.
            handled.extend(begun.drain(..begun.len().saturating_sub(1)));
            // Release pairs with telemetry's Acquire; the port's holder writes no more: it looks for the bit first.
            let count = self.handled.load(Ordering::Relaxed) + handled.len() as u64;
            self.handled.store(count, Ordering::Release);
            if let Some(cycle) = &mailbox.cycle {
                cycle.release((handled.len() * (1 + mailbox.growth)) as i64);
            }
        }
        drop(mailbox);
        handled.into_iter().for_each(|slot| self.refuse(slot.meta));
        self.close_books(begun, true)
    }

    fn end_seized(self: &Arc<Self>, grace: Option<Instant>) -> Termination<In> {
        // SAFETY: the gate was just taken.
        let (cut_short, beside, is_back) = unsafe {
            self.engine.with(|engine| {
                let is_back = self.recall(engine, grace);
                if let Some(port) = &mut engine.port {
                    port.close();
                    // What came up to now, over links too.
                    self.hand_out(engine);
                }
                let beside = engine.port.take().map(|port| port.ran_beside()).unwrap_or_default();
                (std::mem::take(&mut engine.cut_short), beside, is_back)
            })
        };
        let mut mailbox = lock(&self.mailbox);
        mailbox.separate_all();
        let begun = match (is_back, cut_short) {
            // The device does not come back with them.
            (false, _) => mailbox.singly.len().saturating_sub(self.waiting()),
            (true, true) => mailbox.singly.len().min(1),
            (true, false) => 0,
        };
        let mut begun: Vec<_> = mailbox.singly.drain(..begun).collect();
        if is_back && !beside.is_empty() {
            // What ran in the same round is not returned: it took effect. The one in hand is the last, as ever.
            let left = std::mem::take(&mut mailbox.singly);
            let (ran, rest): (Vec<_>, Vec<_>) =
                left.into_iter().zip(begun.len()..).partition(|(_, index)| beside.contains(index));
            mailbox.singly = rest.into_iter().map(|(slot, _)| slot).collect();
            begun = ran.into_iter().map(|(slot, _)| slot).chain(begun).collect();
        }
        drop(mailbox);
        let end = self.close_books(begun, !is_back);
        self.release();
        end
    }

    /// Counts and gives back what is left, and dead-letters what was begun; the kernel is terminated.
    pub(super) fn close_books(&self, begun: Vec<Slot<In, Out>>, detached: bool) -> Termination<In> {
        let mut mailbox = lock(&self.mailbox);
        let in_port = mailbox.in_port() + begun.len();
        let rest = mailbox.take_all();
        mailbox.returned += rest.len() as u64;
        begun.iter().for_each(|_| mailbox.dead.count(DeadLetterReason::Abandoned));
        let cycle = mailbox.cycle.take();
        if let Some(cycle) = &cycle {
            cycle.release((rest.len() + begun.len() + in_port * mailbox.growth) as i64);
        }
        (mailbox.awaited, mailbox.inlet) = (0, None);
        mailbox.state = mailbox.state.after(Event::Finish, self.name()).unwrap_or(KernelState::Terminated);
        // The queues' memory goes now, also while handles live on.
        mailbox.shrink();
        drop(mailbox);
        self.changed.notify_all();
        if let Some(cycle) = cycle {
            cycle.resume_sources();
        }
        let abandoned = begun.last().map(|slot| self.envelope_id(&slot.meta));
        begun.into_iter().for_each(|slot| self.bury(slot, DeadLetterReason::Abandoned));
        let returned = rest
            .into_iter()
            .map(|slot| {
                let envelope = self.envelope(&slot.meta, slot.payload);
                self.refuse(slot.meta);
                envelope
            })
            .collect();
        Termination { returned, abandoned, detached, drained: 0, elapsed: Duration::ZERO }
    }

    /// Tells a waiting caller that the kernel is gone.
    pub(super) fn refuse(&self, meta: Meta<Out>) {
        if let Some(cell) = meta.cell {
            self.answer(&cell, meta.token, Err(self.terminated_error()));
        }
    }

    pub(super) fn read_state(self: &Arc<Self>) -> Result<Vec<u8>> {
        self.with_port("read_state", |port, _| port.read_state())
    }

    /// Keeps the present state for restarts, and returns it.
    pub(super) fn snapshot(self: &Arc<Self>) -> Result<Arc<[u8]>> {
        self.with_port("snapshot", |port, memory| {
            let states: Arc<[u8]> = port.read_state()?.into();
            let before = memory.snapshot.replace(states.clone());
            memory
                .arrange_restart(port, self.facts.restart)
                // What the port has stayed as it was.
                .inspect_err(|_| memory.snapshot = before)?;
            Ok(states)
        })
    }
}
