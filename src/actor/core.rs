//! One running kernel: its gate, its port, its mailbox, and the way of a message in.
//!
//! The other half, how messages are run and answered, is `driver`; lifecycle calls are `admin`.

use super::cell::CellPool;
use super::dead_letters::{DeadLetter, DeadLetterLog};
use super::gate::{self, Gate};
use super::mailbox::{Cause, Mailbox, Meta, Refusal, Slot};
use super::pool::Pool;
use super::telemetry::{self, DeadLetterReason, Histogram, Telemetry};
use crate::backend::{Port, PortControl, Shape};
use crate::error::{Error, ErrorKind, Result, SendError};
use crate::kernel::{AnyOutlet, Backpressure, Inlet, Plain, Queue, RestartPolicy, RestartState, Tagged};
use crate::message::{IdSource, Message, Priority, Token, TokenPrefix};
use crate::sync::{
    AtomicBool, AtomicU32, AtomicU64, Condvar, Guarded, Mutex, MutexGuard, Ordering, lock, spin, thread_local,
    wait_until,
};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Instant;
use uuid::Uuid;

thread_local! {
    /// The kernel whose handler this thread is inside of; 0 for none.
    pub(super) static INSIDE: Cell<u64> = Cell::new(0);
    /// This thread holds a port: it takes no second one.
    pub(super) static HOLDING: Cell<bool> = Cell::new(false);
}

/// What all kernels of a runtime share.
pub(crate) struct Services {
    pub pool: Pool,
    pub prefix: TokenPrefix,
    pub dead_letters: DeadLetterLog,
    /// The running kernels by name, and the links between them by id.
    pub registry: Mutex<Registry>,
}

/// See [`Services::registry`].
#[derive(Default)]
pub(crate) struct Registry {
    pub kernels: std::collections::BTreeMap<String, Arc<dyn super::runtime::AnyKernel>>,
    /// Names whose kernel is being made.
    pub reserved: std::collections::BTreeSet<String>,
    pub edges: Vec<(u64, u64)>,
}

impl Services {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    /// Forgets a kernel that has ended: its name is free.
    pub(super) fn unregister(&self, name: &str, id: u64) {
        let mut registry = self.registry();
        registry.edges.retain(|edge| edge.0 != id && edge.1 != id);
        let gone = registry.kernels.get(name).is_some_and(|kernel| kernel.id() == id);
        let kernel = if gone { registry.kernels.remove(name) } else { None };
        drop(registry);
        // Dropped outside of the lock: it may be the last reference.
        drop(kernel);
    }
}

/// Whatever can make a source of a link go on when there is room again.
pub(crate) trait Source: Send + Sync {
    /// There may be room now.
    fn resume(self: Arc<Self>);
}

/// A kernel that a background driver can run.
pub(crate) trait Drive: Send + Sync {
    /// Runs handlers for a while.
    fn drive(self: Arc<Self>);
}

/// How a message may be sent besides its payload.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Higher ones are handled first among those still in the mailbox.
    pub priority: Priority,
    /// Travels with the message: a host kernel sees it, and it comes back with a returned message.
    pub correlation_id: Option<Uuid>,
    /// The reply is dropped instead of waiting in the reply queue.
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

/// A kernel that runs.
pub(crate) struct Core<In, Out> {
    /// What every message touches: one cache line.
    pub(super) hot: Hot,
    /// Only whoever has the gate's `BUSY` is inside.
    pub(super) engine: Guarded<Engine<Out>>,
    /// Messages that came through the mailbox and were handled; written under the mailbox's lock.
    pub(super) handled: AtomicU64,
    pub(super) mailbox: Mutex<Mailbox<In, Out>>,
    /// Room in the mailbox, or another state: wakes those counted in `Mailbox::blocked`.
    pub(super) changed: Condvar,
    /// Something to do for a host kernel's thread.
    pub(super) items: Condvar,
    /// Wakes those who wait for the gate's `BUSY` to go.
    pub(super) idle: (Mutex<()>, Condvar),
    pub(super) replies: Queue<Out>,
    pub(super) cells: CellPool<Out>,
    pub(super) outlets: Vec<(String, Arc<dyn AnyOutlet>)>,
    pub(super) upstream: Mutex<Vec<Weak<dyn Source>>>,
    pub(super) has_upstream: AtomicBool,
    pub(super) counts: Counts,
    pub(super) latency: Histogram,
    pub(super) facts: Facts<In, Out>,
    pub(super) control: Arc<PortControl>,
}

#[repr(align(64))]
pub(super) struct Hot {
    pub(super) gate: Gate,
    /// Waiting callers that look at the gate themselves: nobody need be woken for what they wait for.
    pub(super) spinners: AtomicU32,
    /// Accepted and handled in one go on the direct path; written by the gate's holder.
    pub(super) direct: AtomicU64,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) late: AtomicU64,
    pub(super) restarts: AtomicU64,
}

/// What does not change while the kernel runs.
pub(super) struct Facts<In, Out> {
    pub(super) id: u64,
    pub(super) name: Arc<str>,
    pub(super) services: Arc<Services>,
    /// Proof that port messages are plain data; host kernels have none.
    pub(super) plain: Option<Plain<In, Out>>,
    pub(super) shape: Shape,
    pub(super) has_reply: bool,
    pub(super) backpressure: Backpressure,
    pub(super) restart: RestartPolicy,
    /// Never run on a caller's thread: an interrupted message would repeat its table writes.
    pub(super) background_only: bool,
    /// Begins on the background driver, until it has shown itself to be fast: nothing could interrupt it.
    pub(super) on_probation: bool,
    pub(super) launched: Instant,
}

/// A message that was run, and its reply unless that went to the reply queue.
pub(super) type Settled<Out> = (Meta<Out>, Result<Option<Out>, crate::backend::Fault>);

/// What the gate's holder works with.
pub(super) struct Engine<Out> {
    /// A host kernel has none; gone once terminated.
    pub(super) port: Option<Box<dyn Port>>,
    /// Results of a round on their way to their callers.
    pub(super) finished: Vec<(Token, Result<Out, crate::backend::Fault>)>,
    pub(super) settled: Vec<Settled<Out>>,
    /// Values of a round on their way to the outputs.
    pub(super) emitted: Emitted,
    /// Messages in the port whose replies will go to the reply queue.
    pub(super) reply_places: usize,
    /// Growth per message reserved in the kernel's cycle.
    pub(super) growth: usize,
    /// The message at the port's head was interrupted by `terminate`.
    pub(super) cut_short: bool,
    /// Messages in a row that the background driver found fast.
    pub(super) trusted: u64,
    pub(super) memory: Memory,
}

/// Emitted values, one after the other.
#[derive(Default)]
pub(super) struct Emitted {
    bytes: Vec<u8>,
    /// Of each value: the message's token, the output, and where its bytes end.
    values: Vec<(Token, usize, usize)>,
}

impl Emitted {
    pub(super) fn push(&mut self, token: Token, output: usize, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.values.push((token, output, self.bytes.len()));
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.values.clear();
    }

    /// Message, output and bytes of each value, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Token, usize, &[u8])> {
        let mut begin = 0;
        self.values.iter().map(move |&(token, output, end)| {
            (token, output, &self.bytes[std::mem::replace(&mut begin, end)..end])
        })
    }
}

/// The states that a restart can go back to: all instances', one after the other.
pub(super) struct Memory {
    /// One instance's.
    pub(super) initial: Vec<u8>,
    pub(super) instances: usize,
    pub(super) snapshot: Option<Arc<[u8]>>,
}

impl Memory {
    /// Tells the port what a faulted instance restarts with.
    pub(super) fn arrange_restart(&self, port: &mut dyn Port, policy: RestartPolicy) {
        let RestartPolicy::OneForOne { state, .. } = policy else { return };
        let initial = || Arc::from(self.initial.repeat(self.instances));
        port.reset_on_fault(match state {
            RestartState::Current => None,
            RestartState::Initial => Some(initial()),
            RestartState::Snapshot => Some(self.snapshot.clone().unwrap_or_else(initial)),
        });
    }
}

impl<Out> Engine<Out> {
    pub(super) fn new(port: Option<Box<dyn Port>>, memory: Memory) -> Self {
        Self {
            port,
            finished: Vec::new(),
            settled: Vec::new(),
            emitted: Emitted::default(),
            reply_places: 0,
            growth: 0,
            cut_short: false,
            trusted: 0,
            memory,
        }
    }
}

/// Counts a waiting caller that keeps looking, and uncounts it however it leaves.
pub(super) struct Spinner<'a>(&'a AtomicU32);

impl Drop for Spinner<'_> {
    fn drop(&mut self) {
        // SeqCst: before the leaver's last look at the gate; a holder that lets go looks in the other order.
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<In: Message, Out: Message> Core<In, Out> {
    pub(super) fn new(
        facts: Facts<In, Out>,
        mailbox: Mailbox<In, Out>,
        replies: Queue<Out>,
        outlets: Vec<(String, Arc<dyn AnyOutlet>)>,
        engine: Engine<Out>,
        control: Arc<PortControl>,
    ) -> Arc<Self> {
        let has_port = facts.plain.is_some();
        let mut bits = 0;
        if !outlets.is_empty() || !has_port {
            bits |= gate::INDIRECT;
        }
        // A host kernel's own thread is the only one that handles its messages.
        if facts.background_only || facts.on_probation || !has_port {
            bits |= gate::BACKGROUND;
        }
        Arc::new(Self {
            hot: Hot { gate: Gate::new(bits), spinners: AtomicU32::new(0), direct: AtomicU64::new(0) },
            engine: Guarded::new(engine),
            handled: AtomicU64::new(0),
            mailbox: Mutex::new(mailbox),
            changed: Condvar::new(),
            items: Condvar::new(),
            idle: (Mutex::new(()), Condvar::new()),
            replies,
            cells: CellPool::new(),
            outlets,
            upstream: Mutex::new(Vec::new()),
            has_upstream: AtomicBool::new(false),
            counts: Counts::default(),
            latency: Histogram::default(),
            facts,
            control,
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.facts.name
    }

    pub(super) fn envelope_id(&self, meta: &Meta<Out>) -> Uuid {
        self.uuid(meta.token)
    }

    pub(super) fn uuid(&self, token: Token) -> Uuid {
        self.facts.services.prefix.uuid(token)
    }

    pub(super) fn is_host(&self) -> bool {
        self.facts.plain.is_none()
    }

    /// Messages in the port whose handler has not begun. Acquire pairs with the port's Release.
    pub(super) fn waiting(&self) -> usize {
        self.control.waiting.load(std::sync::atomic::Ordering::Acquire)
    }

    /// May this thread take a port?
    #[inline]
    pub(super) fn may_drive() -> bool {
        !HOLDING.with(Cell::get)
    }

    /// Counts this thread as one that looks for work here itself, if it may.
    pub(super) fn spinner(&self) -> Option<Spinner<'_>> {
        Self::may_drive().then(|| {
            // SeqCst: before this caller announces what it waits for.
            self.hot.spinners.fetch_add(1, Ordering::SeqCst);
            Spinner(&self.hot.spinners)
        })
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

    pub(super) fn terminated_error(&self) -> Error {
        Error::new(ErrorKind::Terminated, format!("kernel `{}` is terminated", self.name()))
    }

    /// The instance a message names, if the kernel does not have it.
    #[inline]
    pub(super) fn instance_out_of_range(&self, message: &In) -> Option<u32> {
        let (Shape::Instances { count, field_offset }, Some(plain)) = (self.facts.shape, &self.facts.plain) else {
            return None;
        };
        let at = field_offset as usize;
        let bytes = &plain.bytes(message)[at..at + 4];
        let instance = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
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
    fn instance_error(&self, instance: u32) -> Error {
        let last = self.instances() - 1;
        Error::new(
            ErrorKind::Invalid,
            format!("instance {instance} of kernel `{}`, which has instances 0 to {last}", self.name()),
        )
    }

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

    /// How many states the kernel keeps.
    pub(super) fn instances(&self) -> usize {
        if let Shape::Instances { count, .. } = self.facts.shape { count as usize } else { 1 }
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

    /// Sees to it that what was queued is run: unless a waiting caller will, tells the background driver.
    pub(super) fn announce(self: &Arc<Self>) {
        let gate = &self.hot.gate;
        if gate.load() & gate::QUEUED != 0 {
            return;
        }
        gate.set(gate::QUEUED);
        self.rescue();
    }

    /// Tells the background driver.
    pub(super) fn schedule(self: &Arc<Self>) {
        if self.is_host() {
            return;
        }
        if self.hot.gate.set(gate::SCHEDULED) & gate::SCHEDULED == 0 {
            self.facts.services.pool.submit(self.clone());
        }
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
        if Self::may_drive() && self.hot.gate.enter_direct() {
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
        self.announce();
        Ok(())
    }

    /// Queues a message, waiting for room if the strategy and the caller want to; the caller has to
    /// [`announce`](Self::announce) it.
    pub(super) fn queue_slot(self: &Arc<Self>, mut slot: Slot<In, Out>, wait: Wait) -> Result<(), SendError<In>> {
        loop {
            match self.enqueue(slot) {
                Ok(()) => return Ok(()),
                Err(Refusal::Dropped(slot)) => {
                    let error = self.dropped_error();
                    self.bury(slot, DeadLetterReason::DroppedNewest);
                    return Err(SendError::Dropped(error));
                }
                Err(Refusal::Refused(returned, cause)) => {
                    let message = match cause {
                        Cause::Full => match (self.facts.backpressure, wait) {
                            (Backpressure::Block, Wait::Until(_)) if INSIDE.with(Cell::get) == self.facts.id => {
                                return Err(SendError::Refused(returned.payload, self.self_error("send")));
                            }
                            (Backpressure::Block, Wait::Until(deadline)) => {
                                if self.make_room(deadline) {
                                    slot = returned;
                                    continue;
                                }
                                return Err(SendError::TimedOut(returned.payload, self.stalled_error("send to")));
                            }
                            _ => SendError::Full(returned.payload),
                        },
                        Cause::NotActive(_) => SendError::NotActive(returned.payload),
                        Cause::Failed(error) => SendError::Failed(returned.payload, error),
                        Cause::Terminated => SendError::Terminated(returned.payload),
                    };
                    return Err(message);
                }
            }
        }
    }

    /// Queues a run of messages, as many under one lock as there is room for.
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
                    self.announce();
                    continue;
                }
            }
            // Full, closed, or a strategy that looks at each message: one at a time, with all that this means.
            if let Some((token, message)) = batch.pop_front() {
                self.send_queued(message, token, options, Wait::Until(None))?;
            }
        }
        Ok(())
    }

    pub(super) fn dropped_error(&self) -> Error {
        Error::new(
            ErrorKind::Dropped,
            format!("the message was dropped: the mailbox of kernel `{}` is full", self.name()),
        )
    }

    /// The error of a call that would wait for the handler it is made from.
    pub(super) fn check_outside(&self, call: &str) -> Result<()> {
        if INSIDE.with(Cell::get) == self.facts.id { Err(self.self_error(call)) } else { Ok(()) }
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

    /// Waits until a full mailbox may have room (or is closed); `false` at the deadline. Runs handlers if it can.
    pub(super) fn make_room(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if self.drive_as_sender(deadline) {
            return true;
        }
        let mut mailbox = lock(&self.mailbox);
        while mailbox.closed().is_none() && mailbox.room(self.waiting()) == 0 {
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

    /// Answers, logs and forgets a message that ends as a dead letter; it has been counted.
    pub(super) fn bury(&self, slot: Slot<In, Out>, reason: DeadLetterReason) {
        let error = match reason {
            DeadLetterReason::DroppedOldest | DeadLetterReason::DroppedNewest => self.dropped_error(),
            _ => self.terminated_error(),
        };
        let payload = self.encode(&slot.payload);
        self.bury_meta(slot.meta, payload, reason, error);
    }

    pub(super) fn bury_meta(
        &self,
        meta: Meta<Out>,
        payload: Option<Vec<u8>>,
        reason: DeadLetterReason,
        error: Error,
    ) {
        self.facts.services.dead_letters.add(DeadLetter {
            kernel: self.facts.name.to_string(),
            id: self.uuid(meta.token),
            correlation_id: correlation(&meta),
            reason,
            cause: error.to_string(),
            payload,
        });
        if let Some(cell) = meta.cell {
            self.answer(&cell, meta.token, Err(error));
        }
    }

    /// A message as bytes: its own if it is plain data, else postcard's.
    pub(super) fn encode(&self, message: &In) -> Option<Vec<u8>> {
        match &self.facts.plain {
            Some(plain) => Some(plain.bytes(message).to_vec()),
            None => postcard::to_stdvec(message).ok(),
        }
    }

    /// Delivers to a waiting caller; a reply that comes too late is counted.
    pub(super) fn answer(&self, cell: &super::cell::ReplyCell<Out>, token: Token, reply: Result<Out>) {
        if !cell.deliver(token, reply) {
            self.counts.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn envelope(&self, meta: &Meta<Out>, payload: In) -> crate::Envelope<In> {
        crate::Envelope {
            id: self.uuid(meta.token),
            correlation_id: correlation(meta),
            priority: Priority::from(meta.priority),
            payload,
        }
    }

    /// The books and measurements now.
    pub(super) fn telemetry(&self) -> Telemetry {
        let mailbox = lock(&self.mailbox);
        // Everything that changes through the mailbox changes under its lock; `direct` is both accepted and
        // handled, so that reading it once keeps the sum.
        let queued = self.handled.load(Ordering::Acquire);
        let direct = self.hot.direct.load(Ordering::Acquire);
        let (accepted, returned, dead_letters) = (mailbox.accepted, mailbox.returned, mailbox.dead);
        let depth = mailbox.queued() + self.waiting();
        drop(mailbox);
        let uptime = self.facts.launched.elapsed();
        let mut outputs = [0; 3];
        for (_, outlet) in &self.outlets {
            for (sum, count) in outputs.iter_mut().zip(outlet.counts()) {
                *sum += count;
            }
        }
        Telemetry {
            accepted: accepted + direct,
            handled: queued + direct,
            returned,
            dead_letters,
            pending: accepted - queued - returned - dead_letters.total(),
            depth,
            late_replies: self.counts.late.load(Ordering::Relaxed),
            unread_replies: self.replies.len(),
            dropped_replies: self.replies.dropped() + outputs[1],
            emitted: outputs[0],
            undeliverable: outputs[2],
            restarts: self.counts.restarts.load(Ordering::Relaxed),
            latency: self.latency.read(),
            throughput: (queued + direct) as f64 / uptime.as_secs_f64().max(1e-9),
            uptime,
        }
    }

    /// Waits until nobody holds the port; `false` at the deadline.
    pub(super) fn wait_idle(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        self.wait_gate(deadline, |gate| gate.load() & gate::BUSY == 0)
    }

    /// Takes the port, whatever the kernel's state; `false` at the deadline.
    pub(super) fn seize(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        self.wait_gate(deadline, Gate::seize)
    }

    fn wait_gate(self: &Arc<Self>, deadline: Option<Instant>, attempt: impl Fn(&Gate) -> bool) -> bool {
        let gate = &self.hot.gate;
        for _ in 0..if cfg!(loom) { 0 } else { 64 } {
            if attempt(gate) {
                return true;
            }
            spin();
        }
        let mut guard = lock(&self.idle.0);
        let done = loop {
            gate.set(gate::WANTED);
            if attempt(gate) {
                break true;
            }
            if crate::sync::passed(deadline) {
                break false;
            }
            guard = wait_until(&self.idle.1, guard, deadline);
        };
        gate.clear(gate::WANTED);
        // Others may be waiting too, and drivers were kept out meanwhile.
        self.idle.1.notify_all();
        drop(guard);
        self.rescue();
        done
    }

    /// Hands work that nobody is about to run to the background driver.
    pub(super) fn rescue(self: &Arc<Self>) {
        let word = self.hot.gate.load();
        let nobody = gate::QUEUED | gate::ACTIVE;
        if word & (nobody | gate::BUSY | gate::STALLED) == nobody
            && (word & gate::BACKGROUND != 0 || self.hot.spinners.load(Ordering::SeqCst) == 0)
        {
            self.schedule();
        }
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

pub(super) fn correlation<Out>(meta: &Meta<Out>) -> Option<Uuid> {
    (meta.correlation != 0).then(|| Uuid::from_u128(meta.correlation))
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

impl<In: Message, Out: Message> Inlet<In> for Core<In, Out> {
    fn room(&self) -> usize {
        lock(&self.mailbox).room(self.waiting())
    }

    fn accept(self: Arc<Self>, values: &mut VecDeque<Tagged<In>>, in_cycle: bool) -> usize {
        let mut refused = Vec::new();
        let mut mailbox = lock(&self.mailbox);
        if !mailbox.takes_links() {
            drop(mailbox);
            let lost = values.len();
            for (token, payload) in values.drain(..) {
                self.facts.services.dead_letters.add(DeadLetter {
                    kernel: self.facts.name.to_string(),
                    id: self.uuid(token),
                    correlation_id: None,
                    reason: DeadLetterReason::Undeliverable,
                    cause: "the kernel at the end of the link takes no messages any more".to_owned(),
                    payload: self.encode(&payload),
                });
            }
            return lost;
        }
        let mut taken = false;
        while !values.is_empty() && mailbox.room(self.waiting()) > 0 {
            if !in_cycle && mailbox.cycle.as_ref().is_some_and(|cycle| !cycle.try_inject()) {
                break;
            }
            let Some((token, payload)) = values.pop_front() else { break };
            mailbox.accepted += 1;
            let slot = self.slot(payload, token, &Options::default());
            if let Some(instance) = self.instance_out_of_range(&slot.payload) {
                mailbox.dead.count(DeadLetterReason::InstanceOutOfRange);
                if let Some(cycle) = &mailbox.cycle {
                    cycle.release(1);
                }
                refused.push((slot, instance));
                continue;
            }
            mailbox.enqueue(slot);
            taken = true;
        }
        let wake_host = taken && std::mem::take(&mut mailbox.host_sleeps);
        drop(mailbox);
        if wake_host {
            self.items.notify_one();
        }
        for (slot, instance) in refused {
            let payload = self.encode(&slot.payload);
            let error = self.instance_error(instance);
            self.bury_meta(slot.meta, payload, DeadLetterReason::InstanceOutOfRange, error);
        }
        if taken {
            self.announce();
        }
        0
    }
}

impl<In: Message, Out: Message> Drive for Core<In, Out> {
    fn drive(self: Arc<Self>) {
        self.drive_in_background();
    }
}

impl<In: Message, Out: Message> Source for Core<In, Out> {
    fn resume(self: Arc<Self>) {
        // What waits in the links' boxes: this kernel may have nothing more to run, or not be active.
        self.flush_outlets();
        if self.is_host() {
            // Its thread may wait for room with a full box.
            drop(lock(&self.mailbox));
            self.items.notify_all();
            return;
        }
        self.unstall();
    }
}

impl<In: Message, Out: Message> Core<In, Out> {
    /// There may be room for what this kernel sends: lets it go on.
    pub(super) fn unstall(self: &Arc<Self>) {
        if self.hot.gate.load() & gate::STALLED == 0 {
            return;
        }
        let before = self.hot.gate.clear(gate::STALLED);
        if before & (gate::STALLED | gate::QUEUED | gate::ACTIVE | gate::BUSY)
            == gate::STALLED | gate::QUEUED | gate::ACTIVE
        {
            self.schedule();
        }
    }

    /// Lets kernels go on that wait for room in this one.
    pub(super) fn resume_upstream(&self) {
        // Relaxed: set before the first linked message can come, under the lock that brings it.
        if !self.has_upstream.load(Ordering::Relaxed) {
            return;
        }
        let sources: Vec<_> = lock(&self.upstream).iter().filter_map(Weak::upgrade).collect();
        for source in sources {
            source.resume();
        }
    }

    /// Lets kernels outside of a cycle go on that wait to send into it.
    pub(super) fn resume_cycle(&self) {
        let cycle = lock(&self.mailbox).cycle.clone();
        if let Some(cycle) = cycle {
            cycle.resume_sources();
        }
    }

    /// Delivers what waits on links for room.
    pub(super) fn flush_outlets(&self) {
        for (_, outlet) in &self.outlets {
            outlet.flush();
        }
    }
}
