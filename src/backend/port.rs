//! What a launched kernel is driven by: messages go in, what came of them comes out, and the words that both sides watch.

use super::onward::DeviceInlet;
use crate::compile::{FaultCode, Limits, STOP_AFTER_MESSAGE};
use crate::error::{Error, Result};
use crate::message::Token;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering, compiler_fence, fence};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Told that something came back from a device, or that it is lost.
pub(crate) type Ready = dyn Fn(bool) + Send + Sync;

/// Words shared between a port and whoever watches it.
#[derive(Default)]
pub(crate) struct PortControl {
    /// 0, [`STOP_AFTER_MESSAGE`] or [`STOP_NOW`]. Written by lifecycle calls, read by whoever runs handlers.
    pub stop: AtomicU32,
    /// Messages in the port whose handler has not begun; written by the port's holder, and, where kernels run beside it,
    /// by who watches them, under a lock of theirs.
    pub waiting: AtomicUsize,
    /// Somebody waits for a place in the mailbox, and has not been told of one.
    awaited: AtomicBool,
    on_place: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// What to call when something came back from the device: whoever waits for it may not hold the port.
    ready: std::sync::Mutex<Option<Box<Ready>>>,
    /// The round in hand runs one message at a time: all before the last that is not waiting are complete. Written
    /// by the port's holder only; a port that cannot tell leaves it.
    pub one_at_a_time: AtomicBool,
}

impl PortControl {
    /// Has anybody asked to stop? Relaxed: the word only hastens a stop that the gate then makes certain.
    #[inline]
    pub(crate) fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed) >= STOP_AFTER_MESSAGE
    }

    /// So many messages in the port have not begun.
    #[inline]
    pub(crate) fn set_waiting(&self, waiting: usize) {
        // Release pairs with the Acquire in the mailbox's count of free places: a place seen free is free.
        self.waiting.store(waiting, Ordering::Release);
    }

    /// Says that a message begins, and so many in the port have not. `false` if somebody has asked to stop: then it does
    /// not begin.
    #[inline]
    pub(crate) fn begin(&self, behind: usize) -> bool {
        self.set_waiting(behind);
        // In this order, and then whoever has asked to stop finds the message begun, or it does not begin. The compiler is
        // to keep it; a processor may not, but only for as long as it takes a store to reach its cache, and who reads
        // this in the end has asked a millisecond before. A fence would cost each message 20 cycles.
        compiler_fence(Ordering::SeqCst);
        if self.stop_requested() {
            self.set_waiting(behind + 1);
            return false;
        }
        if behind == 0 {
            // Those before it are over soon, and then told of; this one may take for ever.
            self.tell_of_place();
        }
        true
    }

    /// Tells those who wait for a place in the mailbox that there may be one.
    fn tell_of_place(&self) {
        // SeqCst pairs with the fence in `waiting_for_place`: that sees the place, or is seen here.
        fence(Ordering::SeqCst);
        // Relaxed: whoever is told looks again, under the mailbox's lock.
        if self.awaited.load(Ordering::Relaxed)
            && let Some(tell) = self.on_place.get()
        {
            self.awaited.store(false, Ordering::Relaxed);
            tell();
        }
    }

    /// As [`waiting`](Self::waiting), for whoever waits for a place if that leaves none.
    pub(crate) fn waiting_for_place(&self) -> usize {
        self.awaited.store(true, Ordering::Relaxed);
        // SeqCst pairs with the fence in `tell_of_place`.
        fence(Ordering::SeqCst);
        // Acquire pairs with the Release in `set_waiting`.
        self.waiting.load(Ordering::Acquire)
    }

    /// Sets what is called when a message that is alone in the port begins while somebody waits for its place.
    pub(crate) fn on_place(&self, tell: Box<dyn Fn() + Send + Sync>) {
        let is_first = self.on_place.set(tell).is_ok();
        debug_assert!(is_first, "a kernel is told once");
    }

    /// Sets what [`call_ready`](Self::call_ready) calls.
    pub(crate) fn on_ready(&self, ready: Box<Ready>) {
        *self.ready.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(ready);
    }

    /// Tells the kernel that something came back from the device, or that it is lost.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "the CPU's handlers are over when it returns")
    )]
    pub(crate) fn call_ready(&self, is_lost: bool) {
        if let Some(ready) = &*self.ready.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            ready(is_lost);
        }
    }
}

/// What a native handler said when it panicked. Always in a box: how a message ended is then passed in registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PanicText(pub String);

/// Why a message's handler did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// More loop iterations than the budget.
    LoopBudget,
    /// More values emitted than declared.
    EmitOverflow,
    /// A native handler panicked, with this text.
    Panic(Box<PanicText>),
    /// The device ended the handler's loops before they were over.
    #[cfg_attr(not(feature = "wgpu"), expect(dead_code, reason = "the CPU does not"))]
    CutShort,
}

impl From<FaultCode> for Fault {
    fn from(code: FaultCode) -> Self {
        match code {
            FaultCode::LoopBudget => Self::LoopBudget,
            FaultCode::EmitOverflow => Self::EmitOverflow,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoopBudget => f.write_str("the handler used up its loop budget"),
            Self::EmitOverflow => f.write_str("the handler emitted more values than its output declares"),
            Self::Panic(text) => write!(f, "the handler panicked: {}", text.0),
            Self::CutShort => f.write_str(
                "the handler has more loop iterations than the device runs (`Capabilities::longest_loop`)",
            ),
        }
    }
}

/// What comes out of a port, in the order of the messages that went in.
pub(crate) enum Completion<'a> {
    /// A value for the output with this index, emitted by the message with this token, whose own completion follows.
    Emit { token: Token, output: usize, value: &'a [u8] },
    /// The message was handled; its reply, if the handler gives one.
    Handled { token: Token, reply: &'a [u8] },
    /// The message faulted; nothing of it took effect.
    Faulted { token: Token, fault: Fault },
    /// Messages of a [run](Port::push_run) were handled: so many, with tokens that count up from `first`; `more` are
    /// about to follow. None emitted anything.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "the CPU hands out results one by one")
    )]
    Run { first: Token, replies: Strided<'a>, more: usize },
    /// A message that came over a link on the device; its own completion follows.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "the CPU has no links of its own")
    )]
    Arrived { token: Token, message: &'a [u8] },
    /// So many of the messages are over, or did not come, that the port's [inlet](DeviceInlet) was opened for.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "the CPU has no links of its own")
    )]
    LinkOver { most: usize },
    /// So many values of this output go over its link on the device.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "the CPU has no links of its own")
    )]
    Passed { output: usize, count: usize },
}

/// Values one behind the other, with other bytes in between.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub count: usize,
    /// From the first byte of the first value on.
    pub bytes: &'a [u8],
    /// From one value to the next.
    pub stride: usize,
    /// Of one value.
    pub size: usize,
}

impl<'a> Strided<'a> {
    /// Each value's bytes.
    pub(crate) fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        (0..self.count).map(move |index| &self.bytes[index * self.stride..][..self.size])
    }
}

/// Messages one behind the other, with nothing in between, that several may hold.
pub(crate) trait Packed: Send + Sync {
    fn bytes(&self) -> &[u8];
}

/// Who drives a port, and when [`Port::progress`] has to come back to it.
///
/// A caller has a time slice, and a deadline as a rule; the background driver, on whose thread nobody waits, neither.
pub(crate) struct Until<'a> {
    /// Behind this message.
    pub token: Option<Token>,
    /// When the time is up. A message that is in hand then is interrupted, and runs again later.
    pub limits: Limits,
    /// A device that has the messages may be waited for, until the deadline, or until this says that it is over: if it says
    /// so from the beginning, the port looks once at what the device has done. `None` for who only brings messages.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "the CPU's handlers run on who waits")
    )]
    pub patience: Option<&'a dyn Fn() -> bool>,
}

impl Until<'_> {
    /// What the background driver says.
    pub(crate) const BACKGROUND: Until<'static> = Until { token: None, limits: Limits::NONE, patience: None };

    /// Does the background driver drive?
    pub(crate) fn is_background(&self) -> bool {
        self.limits.deadline.is_none() && self.limits.slice.is_none()
    }
}

/// How the message of [`Port::exchange_one`] ended.
pub(crate) enum One {
    /// It was handled; the reply is where the caller wanted it.
    Handled,
    /// It faulted; nothing of it took effect.
    Faulted(Fault),
    /// Left in the middle: it is in the port, first in line.
    Interrupted,
    /// A stop was asked for before it began: it is in the port, first in line.
    NotBegun,
}

/// Why [`Port::progress`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All that was in the port is done, or the message waited for is, or it is time to hand out what is.
    Done,
    /// A stop was asked for, or a message faulted, between two messages.
    Stopped,
    /// A message was left in the middle; it is first in line again.
    Interrupted,
    /// The device has messages, and [`PortControl::call_ready`] will tell when something comes back.
    UnderWay,
    /// The device is gone, or refused: [`Port::failure`] says why.
    Lost,
}

/// The way into one running kernel, and out of it. Whoever holds it `&mut` is the one producer and the one consumer.
pub(crate) trait Port: Send {
    /// What runs the handler: `jit`, `interpreter: ` and why, `native`, `wgpu` or `cuda`.
    fn engine(&self) -> &'static str;
    /// Messages it can take now.
    fn free(&self) -> usize;
    /// Takes messages, in order.
    ///
    /// # Panics
    ///
    /// If there are more than [`free`](Self::free).
    fn push(&mut self, batch: &mut dyn Iterator<Item = (Token, &[u8])>);
    /// Takes messages and hands out their results in one go, for a port with nothing in it; returns how many it
    /// took, in order. Nothing stays in the port: one that was interrupted is among those taken, and is the caller's. A
    /// port whose handlers run elsewhere takes none.
    fn exchange<'a>(
        &mut self,
        _batch: &mut dyn Iterator<Item = (Token, &'a [u8])>,
        _until: &Until<'_>,
        _sink: &mut dyn FnMut(Completion<'_>),
    ) -> usize {
        0
    }
    /// As [`exchange`](Self::exchange) for one message of a kernel without outputs, whose reply goes into `reply`
    /// (as long as replies are). A message that has not ended stays in the port.
    fn exchange_one(&mut self, token: Token, message: &[u8], until: &Until<'_>, reply: &mut [u8]) -> One {
        let mut ended = None;
        let taken = self.exchange(&mut std::iter::once((token, message)), until, &mut |completion| {
            ended = Some(match completion {
                Completion::Handled { reply: bytes, .. } => {
                    reply.copy_from_slice(bytes);
                    One::Handled
                }
                Completion::Faulted { fault, .. } => One::Faulted(fault),
                Completion::Emit { .. } => unreachable!("the kernel has no outputs"),
                Completion::Run { .. } => unreachable!("nothing was pushed as a run"),
                Completion::Arrived { .. } | Completion::LinkOver { .. } | Completion::Passed { .. } => {
                    unreachable!("the port has no inlet")
                }
            });
        });
        ended.unwrap_or_else(|| {
            self.push(&mut std::iter::once((token, message)));
            if taken == 0 { One::NotBegun } else { One::Interrupted }
        })
    }
    /// Takes a run of messages: number `range.start` of `messages` has the token `first`, and so on; each has `size`
    /// bytes. Their results come as [`Completion::Run`], or one by one.
    ///
    /// # Panics
    ///
    /// As [`push`](Self::push).
    fn push_run(&mut self, first: Token, messages: &Arc<dyn Packed>, range: Range<usize>, size: usize) {
        let bytes = &messages.bytes()[range.start * size..range.end * size];
        self.push(&mut (first..).zip(bytes.chunks_exact(size)));
    }
    /// Has the device begin with what it was given, without waiting; `true` if it has something, and will tell.
    fn begin(&mut self) -> bool {
        false
    }
    /// Runs handlers, or waits for the device that does.
    fn progress(&mut self, until: &Until<'_>) -> Progress;
    /// Hands out what is complete.
    fn pop(&mut self, sink: &mut dyn FnMut(Completion<'_>));
    /// The states of all instances, one after the other.
    fn read_state(&mut self) -> Result<Vec<u8>>;
    /// What an instance's state becomes when one of its messages faults: as it was before that message (`None`),
    /// or its part of these states.
    fn reset_on_fault(&mut self, states: Option<Arc<[u8]>>) -> Result<()>;
    /// Begins nothing more until the next [`progress`](Self::progress), and waits for what the device has: `false` if it
    /// still has something at the deadline.
    fn recall(&mut self, _deadline: Option<Instant>) -> bool {
        true
    }
    /// What the messages in the port emit goes through the host from now on, also where the way to another kernel of the
    /// device was open. After a [recall](Self::recall).
    fn detour(&mut self) {}
    /// Ends a [recall](Self::recall) for those who give messages to the port without holding it.
    fn resume(&mut self) {}
    /// Was the first of the messages in the port left in the middle? Asked after [`recall`](Self::recall).
    fn is_cut_short(&self) -> bool {
        false
    }
    /// Of the messages in the port, counted from the first, those that came to their end beside it, which was left in the
    /// middle or has to run again. Nothing of them is handed out.
    fn ran_beside(&self) -> Vec<usize> {
        Vec::new()
    }
    /// May the device begin with more messages of this kernel while it has some?
    fn overlaps(&self) -> bool {
        false
    }
    /// The way in for what other kernels of the device emit; `None` if that goes through the host.
    fn inlet(&self) -> Option<Arc<dyn DeviceInlet>> {
        None
    }
    /// What was popped is in the books. Hands what went over links on the device to the kernels there: a
    /// [`Completion::Passed`] counts the values that are about to be handed over, [`Completion::Emit`]s give those back whose
    /// kernel is gone. They are of earlier messages than all [`Completion::Emit`]s that were popped.
    fn pass_on(&mut self, _sink: &mut dyn FnMut(Completion<'_>)) {}
    /// All that was emitted by what was popped is where it goes.
    fn all_is_out(&mut self) {}
    /// Nothing that comes back later is of interest.
    fn close(&mut self) {}
    /// Why nothing comes of this port any more.
    fn failure(&self) -> Option<Error> {
        None
    }
}
