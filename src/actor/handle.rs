//! What users talk to kernels with.

use super::ask::Pending;
use super::core::Core;
use super::lifecycle::KernelState;
use super::receive::{Output, receive, receive_many, receive_to_the_end, try_receive};
use super::send::{Options, Wait};
use super::telemetry::Telemetry;
use super::{Termination, admin};
use crate::error::{Error, ErrorKind, Result, SendError, SendManyError, SendTimeoutError, TrySendError};
use crate::kernel::Outlet;
use crate::message::{DeviceMessage, Envelope, IdSource, Message, Priority, Token};
use crate::sync::{deadline_in, lock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages of one `send_many` that are numbered and run at a time.
const BATCH: usize = 32;
/// … of a kernel whose messages a device handles in rounds: all of them are queued before it is told.
const DEVICE_BATCH: usize = 1024;

/// Talks to a running kernel. Cheap to clone, usable from any thread; dropping it stops nothing.
pub struct Handle<In, Out>(Arc<Core<In, Out>>);

impl<In, Out> Clone for Handle<In, Out> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<In: Message, Out: Message> std::fmt::Debug for Handle<In, Out> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("kernel", &self.name()).field("state", &self.lifecycle()).finish()
    }
}

impl<In: Message, Out: Message> Handle<In, Out> {
    pub(super) fn new(core: Arc<Core<In, Out>>) -> Self {
        Self(core)
    }

    pub(super) fn core(&self) -> &Arc<Core<In, Out>> {
        &self.0
    }

    /// The kernel's name.
    pub fn name(&self) -> &str {
        &self.0.facts.name
    }

    /// Where the kernel is in its life.
    pub fn lifecycle(&self) -> KernelState {
        self.0.state()
    }

    /// Lets the kernel accept and handle messages.
    ///
    /// # Errors
    ///
    /// [illegal state](Error::is_illegal_state) unless it is launched or deactivated.
    pub fn activate(&self) -> Result<()> {
        self.0.activate()
    }

    /// Stops the kernel accepting and handling messages, and waits (five seconds) for the message or round in
    /// hand. What is queued stays; blocked senders wake; queued asks keep their deadlines. After it returns, no
    /// message is handled until [`activate`](Self::activate).
    ///
    /// # Errors
    ///
    /// [illegal state](Error::is_illegal_state) unless it is active; [timed out](Error::is_timed_out) if the
    /// message in hand goes on, in which case no further one begins all the same.
    pub fn deactivate(&self) -> Result<()> {
        self.deactivate_timeout(admin::PATIENCE)
    }

    /// As [`deactivate`](Self::deactivate), waiting for the message in hand for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`deactivate`](Self::deactivate).
    pub fn deactivate_timeout(&self, timeout: Duration) -> Result<()> {
        self.0.deactivate(timeout)
    }

    /// Ends the kernel: wakes every blocked caller, handles what is queued for as long as `timeout` if the kernel is
    /// active, stops what still runs, returns the rest. Its name is free afterwards. Replies that were produced can still
    /// be received.
    ///
    /// Returns about 100 ms after `timeout` even if a handler never ends.
    ///
    /// # Errors
    ///
    /// [illegal state](Error::is_illegal_state) if it is being terminated, or has been;
    /// [deadlock](Error::is_deadlock) from inside its own handler.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{RingKernel, Runtime, message};
    /// use std::time::Duration;
    ///
    /// message! { pub struct Tick { pub count: u32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let clock = runtime.launch(RingKernel::<Tick, ()>::wgsl("clock", "fn on_message(m: Tick) {}"))?;
    /// clock.activate()?;
    /// clock.send(Tick { count: 1 })?;
    /// let end = clock.terminate(Duration::from_secs(1))?;
    /// assert!(end.is_clean());
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn terminate(&self, timeout: Duration) -> Result<Termination<In>> {
        self.0.terminate(deadline_in(timeout), deadline_in(timeout.saturating_add(admin::GRACE)))
    }

    /// Sends a message, waiting for room if the kernel's strategy is to block. An idle kernel's handler may run on
    /// the calling thread.
    ///
    /// A kernel that replies puts the reply into its reply queue, for [`recv`](Self::recv); if nobody takes them, a full queue
    /// [holds the kernel up](crate::RingKernel::output_capacity), then the mailbox fills, and this waits. Who does not want
    /// the replies says [`discard_reply`](Options::discard_reply) to [`send_with`](Self::send_with).
    ///
    /// # Errors
    ///
    /// The message and why it was not taken.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{RingKernel, Runtime, SendError, message};
    ///
    /// message! { pub struct Tick { pub count: u32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let clock = runtime.launch(RingKernel::<Tick, ()>::wgsl("clock", "fn on_message(m: Tick) {}"))?;
    /// match clock.send(Tick { count: 7 }) {
    ///     Err(SendError::NotActive(message)) => assert_eq!(message.count, 7),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    #[inline]
    pub fn send(&self, message: In) -> Result<(), SendError<In>> {
        self.send_with(message, Options::default())
    }

    /// Sends a message if there is room now.
    ///
    /// # Errors
    ///
    /// The message and why it was not taken.
    #[inline]
    pub fn try_send(&self, message: In) -> Result<(), TrySendError<In>> {
        self.0.send(message, &Options::default(), Wait::No)
    }

    /// Sends a message, waiting for room for at most `timeout`.
    ///
    /// # Errors
    ///
    /// The message and why it was not taken.
    pub fn send_timeout(&self, message: In, timeout: Duration) -> Result<(), SendTimeoutError<In>> {
        self.0.send(message, &Options::default(), Wait::Until(deadline_in(timeout)))
    }

    /// Sends a message with a priority, a correlation id, or no interest in its reply.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    #[inline]
    pub fn send_with(&self, message: In, options: Options) -> Result<(), SendError<In>> {
        self.0.send(message, &options, Wait::Until(None))
    }

    /// Sends messages in order, as [`send`](Self::send) would, at a fraction of the cost; returns how many.
    ///
    /// # Errors
    ///
    /// The first message that was refused and why, how many were sent before it, and those already drawn from the iterator
    /// behind it: up to 31; for a kernel on a device up to 1,023, or as many as its mailbox had room for.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Backpressure, RingKernel, Runtime, SendError, message};
    ///
    /// message! { pub struct Item { pub to: u32 } }
    /// message! { pub struct Count { pub items: u32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let shelves = runtime.launch(
    ///     RingKernel::<Item, ()>::native("shelves", |_: Item, shelf: &mut Count| shelf.items += 1).instances(3),
    /// )?;
    /// shelves.activate()?;
    /// assert_eq!(shelves.send_many((0..3).map(|to| Item { to }))?, 3);
    /// let error = shelves.send_many((0..9).map(|to| Item { to })).unwrap_err();
    /// assert_eq!(error.sent, 3);
    /// assert!(matches!(error.error, SendError::Refused(Item { to: 3 }, _)));
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn send_many(&self, messages: impl IntoIterator<Item = In>) -> Result<usize, SendManyError<In>> {
        self.send_many_with(messages, Options::default())
    }

    /// As [`send_many`](Self::send_many), with options for all of them.
    ///
    /// # Errors
    ///
    /// As [`send_many`](Self::send_many).
    pub fn send_many_with(
        &self,
        messages: impl IntoIterator<Item = In>,
        options: Options,
    ) -> Result<usize, SendManyError<In>> {
        let core = &self.0;
        let mut messages = messages.into_iter();
        if core.may_stay_together(&options) {
            return core.send_together(messages, &options);
        }
        let most = if core.facts.on_device { DEVICE_BATCH } else { BATCH };
        // Those on the CPU have been announced, or are handled already.
        let announce = || {
            if core.facts.on_device {
                core.announce_to_device(true);
            }
        };
        let mut batch = VecDeque::with_capacity(most);
        let mut sent = 0;
        loop {
            let mut refused = None;
            while batch.len() < most && refused.is_none() {
                let Some(message) = messages.next() else { break };
                match core.validate(&message) {
                    Ok(()) => batch.push_back((IdSource::next(), message)),
                    Err(error) => refused = Some(SendError::Refused(message, error)),
                }
            }
            let count = batch.len();
            if let Err(error) = self.send_batch(&mut batch, &options) {
                sent += count - batch.len() - 1;
                announce();
                let refused = refused.and_then(SendError::into_message);
                let unsent = batch.into_iter().map(|(_, message)| message).chain(refused).collect();
                return Err(SendManyError { sent, error, unsent });
            }
            sent += count;
            if let Some(error) = refused {
                announce();
                return Err(SendManyError { sent, error, unsent: Vec::new() });
            }
            if count < most {
                announce();
                return Ok(sent);
            }
        }
    }

    fn send_batch(&self, batch: &mut VecDeque<(Token, In)>, options: &Options) -> Result<(), SendError<In>> {
        let core = &self.0;
        if !batch.is_empty() && Core::<In, Out>::may_drive() && core.hot.gate.enter_direct() {
            core.send_direct_batch(batch, options);
        }
        core.send_queued_batch(batch, options)
    }

    /// Asks: sends a message and waits for its reply. The calling thread runs the handler itself if it can; from inside a
    /// handler it cannot, and another thread has to, which takes tens of microseconds.
    ///
    /// # Errors
    ///
    /// [timed out](Error::is_timed_out), with what it waited for: if that is room in the mailbox, the message was not
    /// taken; else it is still handled, and its reply is dropped;
    /// [failed](Error::is_failed) with the cause if the handler faults; [device lost](Error::is_device_lost);
    /// [not active](Error::is_not_active), [terminated](Error::is_terminated), [full](Error::is_full), [dropped](Error::is_dropped);
    /// [invalid](Error::is_invalid) for a time-out of zero or an instance out of range;
    /// [deadlock](Error::is_deadlock) from inside the kernel's own handler.
    #[inline]
    pub fn ask(&self, message: In, timeout: Duration) -> Result<Out> {
        self.0.ask(message, timeout, &Options::default())
    }

    /// Asks with a priority or a correlation id. The caller gets the reply, whatever
    /// [`discard_reply`](Options::discard_reply) says.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn ask_with(&self, message: In, timeout: Duration, options: Options) -> Result<Out> {
        self.0.ask(message, timeout, &options)
    }

    /// Asks several at once; the replies in the order of the messages. `timeout` is for all of them together.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask), of the first that did not get its reply; but a time-out of zero is not refused. What was
    /// sent by then is handled all the same, and its replies are dropped.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{RingKernel, Runtime, message};
    /// use std::time::Duration;
    ///
    /// message! { pub struct Number { pub value: i32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let negate = runtime.launch(RingKernel::<Number, Number>::wgsl(
    ///     "negate",
    ///     "fn on_message(m: Number) -> Number { return Number(-m.value); }",
    /// ))?;
    /// negate.activate()?;
    /// let replies = negate.ask_many((1..=3).map(|value| Number { value }), Duration::from_secs(1))?;
    /// assert_eq!(replies.iter().map(|number| number.value).collect::<Vec<_>>(), [-1, -2, -3]);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn ask_many(&self, messages: impl IntoIterator<Item = In>, timeout: Duration) -> Result<Vec<Out>> {
        self.0.check_outside("ask")?;
        let deadline = deadline_in(timeout);
        let left = || deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
        let mut pending = VecDeque::new();
        let mut replies = Vec::new();
        // As many on their way as the mailbox may hold: more would wait for those before them anyway.
        let most = lock(&self.0.mailbox).capacity();
        for message in messages {
            if pending.len() == most {
                let first: Pending<Out> =
                    pending.pop_front().expect("as many as the capacity, which is not 0");
                replies.push(first.wait(left())?);
            }
            pending.push_back(
                self.0
                    .request(message, &Options::default(), deadline)
                    .map_err(|error| self.0.describe(error))?,
            );
        }
        for one in pending {
            replies.push(one.wait(left())?);
        }
        Ok(replies)
    }

    /// Sends a message whose reply is fetched later; waits for room if the kernel's strategy is to block.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    #[inline(always)]
    pub fn request(&self, message: In) -> Result<Pending<Out>, SendError<In>> {
        self.0.request(message, &Options::default(), None)
    }

    /// As [`request`](Self::request), with a priority or a correlation id; as for [`ask_with`](Self::ask_with).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn request_with(&self, message: In, options: Options) -> Result<Pending<Out>, SendError<In>> {
        self.0.request(message, &options, None)
    }

    /// Receives a reply that nobody asked for, waiting until there is one.
    ///
    /// # Errors
    ///
    /// [terminated](Error::is_terminated) or [failed](Error::is_failed) once the kernel has ended, or is being
    /// terminated, and there is no reply; whoever wants those that come until its end uses [`iter`](Self::iter).
    pub fn recv(&self) -> Result<Out> {
        receive(&self.0.replies, &self.0, None).map(|(_, reply)| reply)
    }

    /// Receives a reply if there is one now; `None` if not.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Out>> {
        Ok(try_receive(&self.0.replies, &self.0)?.map(|(_, reply)| reply))
    }

    /// Receives a reply, waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [timed out](Error::is_timed_out).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Out> {
        receive(&self.0.replies, &self.0, Some(timeout)).map(|(_, reply)| reply)
    }

    /// As [`recv_timeout`](Self::recv_timeout), with the reply's ids. Its `correlation_id` is the id of the message that it
    /// answers, as a dead letter or a host kernel shows it; [`send`](Self::send) does not tell that id. Whoever wants to
    /// know which reply is whose uses [`request`](Self::request), or puts a number into message and reply.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout).
    pub fn recv_envelope(&self, timeout: Duration) -> Result<Envelope<Out>> {
        let (token, payload) = receive(&self.0.replies, &self.0, Some(timeout))?;
        let id = self.0.uuid(IdSource::next());
        let correlation_id = Some(self.0.uuid(token));
        Ok(Envelope { id, correlation_id, priority: Priority::default(), payload })
    }

    /// Receives up to `most` replies, waiting for the first one for at most `timeout`; never empty.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout); [invalid](Error::is_invalid) if `most` is 0.
    pub fn recv_many(&self, most: usize, timeout: Duration) -> Result<Vec<Out>> {
        receive_many(&self.0.replies, &self.0, (most, "replies"), timeout)
    }

    /// Receives replies until the kernel has ended and none is left: also those that come while it is terminated.
    pub fn iter(&self) -> Replies<'_, In, Out> {
        Replies(self)
    }

    /// A declared output, to link or to receive from.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if it is not declared, or of another type.
    pub fn output<T: Message + Clone>(&self, name: &str) -> Result<Output<T>> {
        let found = self.0.outlets.iter().find(|(declared, _)| declared == name);
        let Some((_, outlet)) = found else {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("kernel `{}` has no output `{name}`; declare it with `.output`", self.name()),
            ));
        };
        let Ok(outlet) = outlet.clone().as_any().downcast::<Outlet<T>>() else {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "output `{name}` of kernel `{}` is not declared as `{}`",
                    self.name(),
                    std::any::type_name::<T>()
                ),
            ));
        };
        Ok(Output::new(outlet, name.to_owned(), self.0.clone()))
    }

    /// A copy of the state, between two messages (of a kernel with instances: of the first).
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if the kernel has no state, its state is of another size than `S`, or has other fields
    /// as far as its Rust type is known ([`initial_state`](crate::RingKernel::initial_state), or a native function's), or it
    /// is a host kernel; [timed out](Error::is_timed_out) if a handler runs for five seconds; [deadlock](Error::is_deadlock) from
    /// inside its own handler; [device lost](Error::is_device_lost); [terminated](Error::is_terminated).
    pub fn read_state<S: DeviceMessage>(&self) -> Result<S> {
        Ok(self.read_states()?.swap_remove(0))
    }

    /// Copies of all instances' states, between two messages.
    ///
    /// # Errors
    ///
    /// As [`read_state`](Self::read_state).
    pub fn read_states<S: DeviceMessage>(&self) -> Result<Vec<S>> {
        let bytes = self.0.read_state()?;
        if bytes.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, format!("kernel `{}` has no state", self.name())));
        }
        self.states_from(&bytes)
    }

    fn states_from<S: DeviceMessage>(&self, bytes: &[u8]) -> Result<Vec<S>> {
        let count = self.0.instances();
        let size = S::LAYOUT.size as usize;
        if size == 0 || size * count != bytes.len() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "the state of kernel `{}` has {} bytes, but `{}` has {size}",
                    self.name(),
                    bytes.len() / count,
                    S::LAYOUT.name
                ),
            ));
        }
        if let Some(state) = self.0.facts.state.filter(|state| state.fields != S::LAYOUT.fields) {
            let (found, asked) = (state.name, S::LAYOUT.name);
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "the state of kernel `{}` is a `{found}`, whose fields are not those of this `{asked}`",
                    self.name()
                ),
            ));
        }
        Ok(bytes.chunks_exact(size).map(bytemuck::pod_read_unaligned).collect())
    }

    /// Keeps the present state in memory: what [`RestartState::Snapshot`](crate::RestartState::Snapshot) restarts
    /// with. Taken between two messages. It is this kernel's: no other one can be given it.
    ///
    /// # Errors
    ///
    /// As [`read_state`](Self::read_state).
    pub fn snapshot(&self) -> Result<Snapshot> {
        let states = self.0.snapshot()?;
        Ok(Snapshot { states, instances: self.0.instances() })
    }

    /// The kernel's books and measurements now.
    pub fn telemetry(&self) -> Telemetry {
        self.0.telemetry()
    }
}

/// The state of a kernel as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    states: Arc<[u8]>,
    instances: usize,
}

impl Snapshot {
    /// All instances' states, one after the other, in WGSL layout.
    pub fn as_bytes(&self) -> &[u8] {
        &self.states
    }

    /// How many instances' states they are.
    pub fn instances(&self) -> usize {
        self.instances
    }
}

/// Receives replies until the kernel has ended; made by [`Handle::iter`].
pub struct Replies<'a, In, Out>(&'a Handle<In, Out>);

impl<In: Message, Out: Message> std::fmt::Debug for Replies<'_, In, Out> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Replies").field(self.0).finish()
    }
}

impl<In: Message, Out: Message> Iterator for Replies<'_, In, Out> {
    type Item = Out;

    fn next(&mut self) -> Option<Out> {
        receive_to_the_end(&self.0.0.replies, &self.0.0)
    }
}
