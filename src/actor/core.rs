//! One running kernel: its gate, its port, its mailbox, and the way of a message in.
//!
//! The other half, how messages are run and answered, is `driver`; lifecycle calls are `admin`.

use super::cell::{CellPool, ReplyCell};
use super::dead_letters::DeadLetter;
use super::gate::{self, Gate};
use super::launch::Relaunch;
use super::mailbox::{Mailbox, Meta, Slot};
use super::services::{Services, Source};
use super::telemetry::{DeadLetterReason, Histogram, Telemetry};
use crate::backend::{Fault, Port, PortControl, Shape};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{AnyOutlet, Backpressure, OutletCounts, Plain, Queue, RestartPolicy, RestartState};
use crate::message::{Layout, Message, Priority, Token};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Condvar, Guarded, Mutex, Ordering, lock, thread_local};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Instant;
use uuid::Uuid;

// `const` spares each access the question whether the value is there; a model's macro does not take it.
#[cfg(not(loom))]
thread_local! {
    /// What this thread is doing: twice the kernel whose handler it is inside of (0 for none), plus one if it holds
    /// a port. Whoever holds one takes no second one.
    static DOING: Cell<u64> = const { Cell::new(0) };
}
#[cfg(loom)]
thread_local! {
    static DOING: Cell<u64> = Cell::new(0);
}

/// The kernel whose handler this thread is inside of; 0 for none.
pub(super) fn inside() -> u64 {
    DOING.with(Cell::get) >> 1
}

/// Makes this thread a host kernel's own: it is inside of that kernel's function, and holds no port.
pub(super) fn live_inside(kernel: u64) {
    DOING.with(|doing| doing.set(kernel << 1));
}

/// Marks this thread as being inside a kernel's handler, and as holding a port.
pub(super) struct Inside(u64);

impl Inside {
    #[inline]
    pub(super) fn enter(kernel: u64) -> Self {
        Self(DOING.with(|doing| doing.replace(kernel << 1 | 1)))
    }
}

impl Drop for Inside {
    #[inline]
    fn drop(&mut self) {
        DOING.with(|doing| doing.set(self.0));
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
    pub(super) mailbox: Apart<Mutex<Mailbox<In, Out>>>,
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
    pub(super) place: Mutex<Place>,
    pub(super) control: Arc<PortControl>,
}

/// A value that begins with a cache line of its own.
#[repr(align(64))]
pub(super) struct Apart<T>(pub(super) T);

impl<T> std::ops::Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
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
    /// Never run on a caller's thread: asked for, or because an interrupted message would repeat its table writes.
    pub(super) background_only: bool,
    /// Begins on the background driver, until it has shown itself to be fast: nothing could interrupt it.
    pub(super) on_probation: bool,
    /// Launched on a device other than the CPU: handlers may run while nobody holds the port, and every message goes through
    /// the mailbox. It stays so on the CPU, if the kernel goes on there.
    pub(super) on_device: bool,
    /// How to get another port when the device is lost.
    pub(super) relaunch: Option<Relaunch>,
    /// The Rust type of its state, where one was given.
    pub(super) state: Option<&'static Layout>,
    pub(super) launched: Instant,
}

/// What runs the handler: another one once a device is lost, if the kernel goes on.
pub(super) struct Place {
    pub(super) engine: &'static str,
    /// The device may work on several rounds of the kernel.
    pub(super) overlaps: bool,
}

impl Place {
    pub(super) fn of(port: Option<&dyn Port>) -> Self {
        Self {
            engine: port.map_or("host", |port| port.engine()),
            overlaps: port.is_some_and(|port| port.overlaps()),
        }
    }
}

/// A message that was run, and its reply unless that went to the reply queue.
pub(super) type Settled<Out> = (Meta<Out>, Result<Option<Out>, Fault>);

/// What the gate's holder works with.
pub(super) struct Engine<Out> {
    /// A host kernel has none; gone once terminated.
    pub(super) port: Option<Box<dyn Port>>,
    /// Results of a round on their way to their callers.
    pub(super) finished: Vec<(Token, Result<Out, Fault>)>,
    /// … those that somebody waits for, or that have to be looked at again.
    pub(super) settled: Vec<Settled<Out>>,
    /// Replies of a round on their way to the reply queue.
    pub(super) unasked: Vec<(Token, Out)>,
    /// Values of a round on their way to the outputs.
    pub(super) emitted: Emitted,
    /// Messages in the port whose replies will go to the reply queue.
    pub(super) reply_places: usize,
    /// The message at the port's head was interrupted by `terminate`.
    pub(super) cut_short: bool,
    /// Messages in a row that the background driver found fast.
    pub(super) trusted: u64,
    /// Rounds and lots that callers ran of a handler on probation.
    pub(super) rounds: u32,
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
    /// The states after a restart that does not go on with those there are.
    pub(super) fn fallback(&self, state: RestartState) -> Arc<[u8]> {
        let initial = || Arc::from(self.initial.repeat(self.instances));
        match (state, &self.snapshot) {
            (RestartState::Snapshot, Some(snapshot)) => snapshot.clone(),
            _ => initial(),
        }
    }

    /// Tells the port what a faulted instance restarts with.
    pub(super) fn arrange_restart(&self, port: &mut dyn Port, policy: RestartPolicy) -> crate::Result<()> {
        let RestartPolicy::OneForOne { state, .. } = policy else { return Ok(()) };
        port.reset_on_fault((state != RestartState::Current).then(|| self.fallback(state)))
    }
}

impl<Out> Engine<Out> {
    pub(super) fn new(port: Option<Box<dyn Port>>, memory: Memory) -> Self {
        Self {
            port,
            finished: Vec::new(),
            settled: Vec::new(),
            unasked: Vec::new(),
            emitted: Emitted::default(),
            reply_places: 0,
            cut_short: false,
            trusted: 0,
            rounds: 0,
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
        if !outlets.is_empty() || !has_port || facts.on_device {
            bits |= gate::INDIRECT;
        }
        // A host kernel's own thread is the only one that handles its messages.
        if facts.background_only || facts.on_probation || !has_port {
            bits |= gate::BACKGROUND;
        }
        let place = Place::of(engine.port.as_deref());
        let core = Arc::new(Self {
            hot: Hot { gate: Gate::new(bits), spinners: AtomicU32::new(0), direct: AtomicU64::new(0) },
            engine: Guarded::new(engine),
            handled: AtomicU64::new(0),
            mailbox: Apart(Mutex::new(mailbox)),
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
            place: Mutex::new(place),
            control,
        });
        let told = Arc::downgrade(&core);
        core.control.on_place(Box::new(move || {
            if let Some(core) = told.upgrade() {
                // Whoever holds the lock has yet to wait.
                drop(lock(&core.mailbox));
                core.changed.notify_all();
            }
        }));
        if core.facts.on_device {
            let told = Arc::downgrade(&core);
            core.control.on_ready(Box::new(move |is_lost| {
                if let Some(core) = told.upgrade() {
                    core.come_back(is_lost);
                }
            }));
        }
        core
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
        DOING.with(Cell::get) & 1 == 0
    }

    /// May this thread run the kernel's handler?
    #[inline]
    pub(super) fn may_run(&self) -> bool {
        Self::may_drive() && !self.is_host()
    }

    /// Counts this thread as one that looks for work here itself, if it may.
    pub(super) fn spinner(&self) -> Option<Spinner<'_>> {
        self.may_run().then(|| {
            // SeqCst: before this caller announces what it waits for.
            self.hot.spinners.fetch_add(1, Ordering::SeqCst);
            Spinner(&self.hot.spinners)
        })
    }

    pub(super) fn terminated_error(&self) -> Error {
        Error::new(ErrorKind::Terminated, format!("kernel `{}` is terminated", self.name()))
    }

    /// How many states the kernel keeps.
    pub(super) fn instances(&self) -> usize {
        if let Shape::Instances { count, .. } = self.facts.shape { count as usize } else { 1 }
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

    /// Logs a message that faulted, has the kernel go on or fail, and then tells its caller: who hears of a fault finds
    /// what became of the kernel. `true` if it goes on.
    pub(super) fn bury_faulted(
        self: &Arc<Self>,
        mut meta: Meta<Out>,
        payload: Option<Vec<u8>>,
        error: &Error,
    ) -> bool {
        let (cell, token) = (meta.cell.take(), meta.token);
        self.bury_meta(meta, payload, DeadLetterReason::Fault, error.clone());
        let goes_on = self.supervise(error);
        if let Some(cell) = cell {
            self.answer(&cell, token, Err(error.clone()));
        }
        goes_on
    }

    /// A message as bytes, for a dead letter: its own if it is plain data, else postcard's, if it can be written so.
    pub(super) fn encode(&self, message: &In) -> Option<Vec<u8>> {
        if !self.facts.services.dead_letters.keeps_any() {
            return None;
        }
        match &self.facts.plain {
            Some(plain) => Some(plain.bytes(message).to_vec()),
            // A user's code: whoever drops a message need not be who made it.
            None => catch_unwind(AssertUnwindSafe(|| postcard::to_stdvec(message).ok())).unwrap_or(None),
        }
    }

    /// Delivers to a waiting caller; a reply that comes too late is counted.
    pub(super) fn answer(&self, cell: &ReplyCell<Out>, token: Token, reply: Result<Out>) {
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
        let from_mailbox = self.handled.load(Ordering::Acquire);
        let direct = self.hot.direct.load(Ordering::Acquire);
        let (accepted, returned, dead_letters) = (mailbox.accepted, mailbox.returned, mailbox.dead);
        let arrived = mailbox.arrived;
        let depth = mailbox.queued() + self.waiting();
        drop(mailbox);
        let uptime = self.facts.launched.elapsed();
        let mut outputs = OutletCounts::default();
        for (_, outlet) in &self.outlets {
            let counts = outlet.counts();
            outputs.emitted += counts.emitted;
            outputs.dropped += counts.dropped;
            outputs.undeliverable += counts.undeliverable;
        }
        Telemetry {
            engine: lock(&self.place).engine,
            accepted: accepted + direct,
            arrived,
            handled: from_mailbox + direct,
            returned,
            dead_letters,
            pending: accepted - from_mailbox - returned - dead_letters.total(),
            depth,
            late_replies: self.counts.late.load(Ordering::Relaxed),
            unread_replies: self.replies.len(),
            dropped_replies: self.replies.dropped() + outputs.dropped,
            emitted: outputs.emitted,
            undeliverable: outputs.undeliverable,
            restarts: self.counts.restarts.load(Ordering::Relaxed),
            latency: self.latency.read(),
            throughput: (from_mailbox + direct) as f64 / uptime.as_secs_f64().max(1e-9),
            uptime,
        }
    }
}

pub(super) fn correlation<Out>(meta: &Meta<Out>) -> Option<Uuid> {
    (meta.correlation != 0).then(|| Uuid::from_u128(meta.correlation))
}
