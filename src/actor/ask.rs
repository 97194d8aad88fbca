//! Requests and their replies.

use super::cell::ReplyCell;
use super::core::{Core, Spinner};
use super::direct::Direct;
use super::mailbox::Slot;
use super::send::{Options, Wait};
use crate::error::{Error, ErrorKind, Result, SendError};
use crate::message::{IdSource, Message, Token};
use crate::sync::{SPIN, deadline_in, passed, spin};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A reply that is on its way.
///
/// Dropping it cancels the interest, not the message: the message is still handled, and its reply is dropped; one
/// that comes after that is counted as late.
///
/// # Example
///
/// ```
/// use ringwork::{RingKernel, Runtime, message};
/// use std::time::Duration;
///
/// message! { pub struct Number { pub value: u32 } }
///
/// let runtime = Runtime::new()?;
/// let square = runtime.launch(RingKernel::<Number, Number>::native("square", |n: Number, _: &mut ()| {
///     Number { value: n.value * n.value }
/// }))?;
/// square.activate()?;
/// let pending: Vec<_> = (1..=3).map(|value| square.request(Number { value })).collect::<Result<_, _>>()?;
/// let squares: Vec<u32> = pending
///     .into_iter()
///     .map(|reply| reply.wait(Duration::from_secs(1)).map(|number| number.value))
///     .collect::<Result<_, _>>()?;
/// assert_eq!(squares, [1, 4, 9]);
/// # Ok::<(), ringwork::Error>(())
/// ```
#[must_use = "dropping it gives the reply up"]
pub struct Pending<Out: Message>(PendingState<Out>);

impl<Out: Message> std::fmt::Debug for Pending<Out> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match &self.0 {
            PendingState::Ready(_) => "ready",
            PendingState::Failed(_) => "failed",
            PendingState::Waiting(_) => "waiting",
            PendingState::Done => "taken",
        };
        f.debug_tuple("Pending").field(&format_args!("{state}")).finish()
    }
}

enum PendingState<Out: Message> {
    /// The handler ran before `request` returned.
    Ready(Out),
    /// It failed before that.
    Failed(Error),
    Waiting(Awaited<Out>),
    /// The reply has been taken.
    Done,
}

/// A reply that somebody else will bring. Dropping it gives the reply up.
struct Awaited<Out: Message> {
    token: Token,
    cell: Arc<ReplyCell<Out>>,
    kernel: Arc<dyn Asked<Out>>,
}

impl<Out: Message> Drop for Awaited<Out> {
    fn drop(&mut self) {
        drop(self.cell.disarm(self.token));
        self.kernel.give_back(self.cell.clone());
    }
}

/// The kernel a pending reply comes from, whatever it takes.
trait Asked<Out: Message>: Send + Sync {
    fn wait(
        self: Arc<Self>,
        token: Token,
        cell: &ReplyCell<Out>,
        deadline: Option<Instant>,
    ) -> Option<Result<Out>>;
    fn drive(self: Arc<Self>, token: Token);
    fn give_back(&self, cell: Arc<ReplyCell<Out>>);
    fn timed_out(&self) -> Error;
}

impl<In: Message, Out: Message> Asked<Out> for Core<In, Out> {
    fn wait(
        self: Arc<Self>,
        token: Token,
        cell: &ReplyCell<Out>,
        deadline: Option<Instant>,
    ) -> Option<Result<Out>> {
        self.wait_reply(token, cell, deadline, self.spinner())
    }

    fn drive(self: Arc<Self>, token: Token) {
        if Self::may_drive() {
            // Who only looks does not wait for a device, and yet sees what it has done.
            self.drive_as_caller(Some(token), None, Some(&|| true));
        }
    }

    fn give_back(&self, cell: Arc<ReplyCell<Out>>) {
        self.cells.give_back(cell);
    }

    fn timed_out(&self) -> Error {
        self.stalled_error("a request of")
    }
}

impl<Out: Message> Pending<Out> {
    /// Waits for the reply, running handlers meanwhile if it can.
    ///
    /// # Errors
    ///
    /// [timed out](Error::is_timed_out) with what it waited for; [failed](Error::is_failed) with the cause;
    /// [device lost](Error::is_device_lost), [terminated](Error::is_terminated), [dropped](Error::is_dropped);
    /// [invalid](Error::is_invalid) if [`try_wait`](Self::try_wait) has taken the reply.
    #[inline]
    pub fn wait(self, timeout: Duration) -> Result<Out> {
        match self.0 {
            PendingState::Ready(reply) => Ok(reply),
            PendingState::Failed(error) => Err(error),
            PendingState::Waiting(awaited) => awaited.wait(timeout),
            PendingState::Done => {
                Err(Error::new(ErrorKind::Invalid, "the reply to this request has been taken already"))
            }
        }
    }

    /// The reply if it is there; `None` if it is not yet, or has been taken.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), but for the time-out.
    pub fn try_wait(&mut self) -> Result<Option<Out>> {
        match std::mem::replace(&mut self.0, PendingState::Done) {
            PendingState::Ready(reply) => Ok(Some(reply)),
            PendingState::Failed(error) => Err(error),
            PendingState::Done => Ok(None),
            PendingState::Waiting(awaited) => match awaited.look() {
                Some(reply) => reply.map(Some),
                None => {
                    self.0 = PendingState::Waiting(awaited);
                    Ok(None)
                }
            },
        }
    }

    /// Has the reply been taken?
    pub fn is_done(&self) -> bool {
        matches!(self.0, PendingState::Done)
    }

    /// Waits until one of several replies is there; its index and the reply. Those already taken are passed over. The requests
    /// may be to different kernels whose replies are of one type. What nobody asked for cannot be waited for so: link the
    /// outputs of many kernels to one [host kernel](crate::RingKernel::host) instead.
    ///
    /// # Errors
    ///
    /// [timed out](Error::is_timed_out); [invalid](Error::is_invalid) if there is nothing to wait for.
    pub fn wait_any(pending: &mut [Self], timeout: Duration) -> Result<(usize, Result<Out>)> {
        let deadline = deadline_in(timeout);
        let begun = Instant::now();
        if pending.iter().all(Self::is_done) {
            return Err(Error::new(
                ErrorKind::Invalid,
                "wait_any over no request that is still to be answered",
            ));
        }
        loop {
            for (index, one) in pending.iter_mut().enumerate() {
                match one.try_wait() {
                    Ok(None) => {}
                    Ok(Some(reply)) => return Ok((index, Ok(reply))),
                    Err(error) => return Ok((index, Err(error))),
                }
            }
            if passed(deadline) {
                return Err(Error::timed_out("the wait for any of several replies", timeout));
            }
            if begun.elapsed() < SPIN {
                spin();
                continue;
            }
            let mut all_registered = true;
            for one in pending.iter() {
                if let PendingState::Waiting(awaited) = &one.0 {
                    all_registered &= awaited.cell.register(awaited.token);
                }
            }
            if all_registered {
                // A millisecond at most: a handler that only callers would run must not wait for ours.
                let nap = deadline_in(Duration::from_millis(1));
                crate::sync::park_until(deadline.map_or(nap, |end| nap.map(|nap| nap.min(end))));
            }
        }
    }
}

impl<Out: Message> Awaited<Out> {
    #[cold]
    fn wait(self, timeout: Duration) -> Result<Out> {
        let reply = self.kernel.clone().wait(self.token, &self.cell, deadline_in(timeout));
        reply.or_else(|| self.cell.disarm(self.token)).unwrap_or_else(|| Err(self.kernel.timed_out()))
    }

    /// The reply, if it is there or can be made to be.
    fn look(&self) -> Option<Result<Out>> {
        self.cell.poll(self.token).or_else(|| {
            self.kernel.clone().drive(self.token);
            self.cell.poll(self.token)
        })
    }
}

impl<In: Message, Out: Message> Core<In, Out> {
    /// Asks and waits.
    pub(super) fn ask(self: &Arc<Self>, message: In, timeout: Duration, options: &Options) -> Result<Out> {
        if timeout.is_zero() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("ask of kernel `{}` with a time-out of zero: it must be more", self.name()),
            ));
        }
        self.validate(&message)?;
        let token = IdSource::next();
        if self.may_run() && self.hot.gate.enter_direct() {
            return match self.ask_direct(&message, token, timeout) {
                Direct::Handled(reply) => Ok(reply),
                other => {
                    let slot = self.ask_unfinished(other, message, token, options)?;
                    self.ask_delegated(slot, timeout)
                }
            };
        }
        self.ask_queued(message, token, timeout, options)
    }

    fn ask_queued(
        self: &Arc<Self>,
        message: In,
        token: Token,
        timeout: Duration,
        options: &Options,
    ) -> Result<Out> {
        self.check_outside("ask")?;
        let deadline = deadline_in(timeout);
        let cell = self.cells.take();
        cell.arm(token);
        let mut slot = self.slot(message, token, options);
        slot.meta.cell = Some(cell.clone());
        let result = match self.queue_slot(slot, Wait::Until(deadline)) {
            Ok(()) => {
                // Counted only now: a caller asleep before a full mailbox looks after nobody's message.
                let spinner = self.spinner();
                self.announce();
                self.wait_reply(token, &cell, deadline, spinner)
            }
            Err(error) => {
                drop(cell.disarm(token));
                self.cells.give_back(cell);
                return Err(self.describe(error));
            }
        };
        self.finish_ask(result, cell, token, "an ask of")
    }

    /// Waits for a message that the direct path could not finish.
    fn ask_delegated(self: &Arc<Self>, mut slot: Slot<In, Out>, timeout: Duration) -> Result<Out> {
        // The slice that was used up already is microseconds; the deadline is counted from here, less that.
        let deadline = deadline_in(timeout.saturating_sub(Duration::from_micros(20)));
        let cell = self.cells.take();
        let token = slot.meta.token;
        cell.arm(token);
        slot.meta.cell = Some(cell.clone());
        slot.meta.discard_reply = true;
        self.delegate(slot);
        let result = self.wait_reply(token, &cell, deadline, self.spinner());
        self.finish_ask(result, cell, token, "an ask of")
    }

    fn finish_ask(
        self: &Arc<Self>,
        result: Option<Result<Out>>,
        cell: Arc<ReplyCell<Out>>,
        token: Token,
        call: &str,
    ) -> Result<Out> {
        let result = result.or_else(|| cell.disarm(token)).unwrap_or_else(|| Err(self.stalled_error(call)));
        self.cells.give_back(cell);
        result
    }

    /// A send's error without the message, with the kernel's name.
    pub(super) fn describe(&self, error: SendError<In>) -> Error {
        use super::mailbox::Cause;
        match error {
            SendError::Full(_) => self.closed_error(&Cause::Full),
            SendError::NotActive(_) => {
                self.closed_error(&Cause::NotActive(crate::sync::lock(&self.mailbox).state))
            }
            SendError::Terminated(_) => self.terminated_error(),
            other => other.into(),
        }
    }

    /// Sends a message on its way and returns at once.
    ///
    /// Inlined always, and with the results of its rare ways moved once more, so that the usual one's is made of
    /// registers in the caller: a copy of it just after its fields were written took 5 of 30 ns.
    #[inline(always)]
    pub(super) fn request(
        self: &Arc<Self>,
        message: In,
        options: &Options,
        deadline: Option<Instant>,
    ) -> Result<Pending<Out>, SendError<In>> {
        if let Err(error) = self.validate(&message) {
            return Err(SendError::Refused(message, error));
        }
        let token = IdSource::next();
        if self.may_run() && self.hot.gate.enter_direct() {
            return match self.ask_direct(&message, token, Duration::MAX) {
                Direct::Handled(reply) => Ok(Pending(PendingState::Ready(reply))),
                other => match self.request_unfinished(other, message, token, options) {
                    Ok(awaited) => Ok(Pending(PendingState::Waiting(awaited))),
                    Err(error) => Ok(Pending(PendingState::Failed(error))),
                },
            };
        }
        match self.request_queued(message, token, options, deadline) {
            Ok(awaited) => Ok(Pending(PendingState::Waiting(awaited))),
            Err(error) => Err(error),
        }
    }

    /// What a request on the direct path becomes whose message was not handled at once.
    #[cold]
    fn request_unfinished(
        self: &Arc<Self>,
        result: Direct<Out>,
        message: In,
        token: Token,
        options: &Options,
    ) -> Result<Awaited<Out>> {
        let mut slot = self.ask_unfinished(result, message, token, options)?;
        let awaited = self.awaited(token);
        slot.meta.cell = Some(awaited.cell.clone());
        self.delegate(slot);
        Ok(awaited)
    }

    #[inline(never)]
    fn request_queued(
        self: &Arc<Self>,
        message: In,
        token: Token,
        options: &Options,
        deadline: Option<Instant>,
    ) -> Result<Awaited<Out>, SendError<In>> {
        let awaited = self.awaited(token);
        let mut slot = self.slot(message, token, options);
        slot.meta.cell = Some(awaited.cell.clone());
        self.send_slot(slot, Wait::Until(deadline))?;
        Ok(awaited)
    }

    fn awaited(self: &Arc<Self>, token: Token) -> Awaited<Out> {
        let cell = self.cells.take();
        cell.arm(token);
        Awaited { token, cell, kernel: self.clone() }
    }

    /// Waits for a reply, running handlers meanwhile if the port is free; `None` at the deadline.
    pub(super) fn wait_reply(
        self: &Arc<Self>,
        token: Token,
        cell: &ReplyCell<Out>,
        deadline: Option<Instant>,
        spinner: Option<Spinner<'_>>,
    ) -> Option<Result<Out>> {
        let mut spinner = spinner;
        let mut begun = None;
        let may_run = self.may_run();
        // Also while a device has something else of this kernel: the message may have been dropped.
        let is_ready = || cell.is_ready(token);
        let reply = loop {
            for _ in 0..if cfg!(loom) { 1 } else { 32 } {
                // A round may have brought our reply; if not, a look at the clock before the next one.
                if is_ready() || (may_run && self.drive_as_caller(Some(token), deadline, Some(&is_ready))) {
                    break;
                }
                spin();
            }
            if let Some(reply) = cell.poll(token) {
                break Some(reply);
            }
            if passed(deadline) {
                break None;
            }
            if begun.get_or_insert_with(Instant::now).elapsed() >= SPIN {
                // First out of the count, then one more look, then asleep: nobody relies on a sleeper.
                if spinner.take().is_some() {
                    self.rescue();
                    continue;
                }
                cell.park(token, deadline);
            }
        };
        if spinner.take().is_some() {
            // Somebody may have counted on us since our last look at the gate.
            self.rescue();
        }
        reply
    }
}
