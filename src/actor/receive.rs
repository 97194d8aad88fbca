//! Receiving: replies nobody asked for, and outputs that are not linked. Whoever waits here drives.

use super::any_kernel::AnyKernel;
use super::core::Core;
use super::lifecycle::KernelState;
use super::services::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{Outlet, Queue, Tagged, Woken};
use crate::message::Message;
use crate::sync::{deadline_in, lock, passed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A kernel whose handlers fill a queue, whatever its types.
pub(super) trait Feeder: AnyKernel {
    /// Runs handlers on this thread if the port is free; `true` if it was. Whoever is `patient` waits for a device, and who is
    /// not looks once at what it has done.
    fn drive(self: Arc<Self>, deadline: Option<Instant>, patient: bool) -> bool;
    /// Something was taken from a queue: the kernel may go on.
    fn made_room(self: Arc<Self>);
    /// Why nothing comes any more.
    fn ended(&self) -> Error;
    /// Is it being terminated, so that something may come yet?
    fn is_ending(&self) -> bool;
    /// To be told of room at the end of a link.
    fn source(self: Arc<Self>) -> Weak<dyn Source>;
}

impl<In: Message, Out: Message> Feeder for Core<In, Out> {
    fn drive(self: Arc<Self>, deadline: Option<Instant>, patient: bool) -> bool {
        !self.is_host() && Self::may_drive() && self.drive_as_caller(None, deadline, Some(&|| !patient))
    }

    fn made_room(self: Arc<Self>) {
        if self.is_host() {
            // It may wait with a reply or a value for the room just made.
            self.items.notify_all();
        } else {
            self.unstall();
        }
    }

    fn ended(&self) -> Error {
        lock(&self.mailbox).failure.clone().unwrap_or_else(|| self.terminated_error())
    }

    fn is_ending(&self) -> bool {
        self.state() == KernelState::Terminating
    }

    fn source(self: Arc<Self>) -> Weak<dyn Source> {
        let source: Weak<Self> = Arc::downgrade(&self);
        source
    }
}

/// Takes a value if there is one, or running a round of handlers makes one.
pub(super) fn try_receive<T, K: Feeder + ?Sized>(
    queue: &Queue<T>,
    kernel: &Arc<K>,
) -> Result<Option<Tagged<T>>> {
    let value = queue.pop().or_else(|| if kernel.clone().drive(None, false) { queue.pop() } else { None });
    if value.is_some() {
        kernel.clone().made_room();
    } else if queue.is_closed() && queue.len() == 0 {
        return Err(kernel.ended());
    }
    Ok(value)
}

/// Waits for a value.
pub(super) fn receive<T, K: Feeder + ?Sized>(
    queue: &Queue<T>,
    kernel: &Arc<K>,
    timeout: Option<Duration>,
) -> Result<Tagged<T>> {
    receive_by(queue, kernel, timeout, Queue::pop)
}

/// Waits until `take` takes something.
pub(super) fn receive_by<T, K: Feeder + ?Sized, R>(
    queue: &Queue<T>,
    kernel: &Arc<K>,
    timeout: Option<Duration>,
    take: impl Fn(&Queue<T>) -> Option<R>,
) -> Result<R> {
    let deadline = timeout.and_then(deadline_in);
    loop {
        if let Some(value) = take(queue) {
            kernel.clone().made_room();
            return Ok(value);
        }
        if passed(deadline) {
            let what = format!("receive from kernel `{}`", kernel.name());
            return Err(Error::timed_out(what, timeout.unwrap_or_default()));
        }
        if !kernel.clone().drive(deadline, true) && queue.wait(deadline) == Woken::Closed {
            return Err(kernel.ended());
        }
    }
}

/// Waits until there is a value, and takes up to so many; `of` says what they are.
pub(super) fn receive_many<T, K: Feeder + ?Sized>(
    queue: &Queue<T>,
    kernel: &Arc<K>,
    (most, of): (usize, &str),
    timeout: Duration,
) -> Result<Vec<T>> {
    if most == 0 {
        return Err(Error::new(ErrorKind::Invalid, format!("recv_many of at most 0 {of}: it must be more")));
    }
    receive_by(queue, kernel, Some(timeout), |queue| queue.pop_many(most))
}

/// Waits for a value until the kernel has ended: also while it is being terminated, when others are told at once.
pub(super) fn receive_to_the_end<T, K: Feeder + ?Sized>(queue: &Queue<T>, kernel: &Arc<K>) -> Option<T> {
    loop {
        if let Ok((_, value)) = receive(queue, kernel, None) {
            return Some(value);
        }
        if !kernel.is_ending() {
            // What came up to the end.
            return queue.pop().map(|(_, value)| value);
        }
        queue.wait_though_closed(deadline_in(Duration::from_millis(1)));
    }
}

/// A declared output of a kernel: to be linked, or to be received from while it is not.
///
/// Made by [`Handle::output`](crate::Handle::output); clones are the same output.
#[derive(Clone)]
pub struct Output<T> {
    outlet: Arc<Outlet<T>>,
    name: String,
    kernel: Arc<dyn Feeder>,
}

impl<T> std::fmt::Debug for Output<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Output(`{}` of `{}`)", self.name, self.kernel.name())
    }
}

impl<T: Message + Clone> Output<T> {
    pub(super) fn new(outlet: Arc<Outlet<T>>, name: String, kernel: Arc<dyn Feeder>) -> Self {
        Self { outlet, name, kernel }
    }

    pub(super) fn outlet(&self) -> &Outlet<T> {
        &self.outlet
    }

    pub(super) fn kernel(&self) -> Arc<dyn AnyKernel> {
        self.kernel.clone()
    }

    pub(super) fn source(&self) -> Weak<dyn Source> {
        self.kernel.clone().source()
    }

    /// The output's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Receives a value, waiting until there is one.
    ///
    /// # Errors
    ///
    /// [terminated](Error::is_terminated) or [failed](Error::is_failed) once the kernel has ended, or is being
    /// terminated, and there is no value; whoever wants those that come until its end uses [`iter`](Self::iter).
    pub fn recv(&self) -> Result<T> {
        receive(self.outlet.queue(), &self.kernel, None).map(|(_, value)| value)
    }

    /// Receives a value if there is one now; `None` if not.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<T>> {
        Ok(try_receive(self.outlet.queue(), &self.kernel)?.map(|(_, value)| value))
    }

    /// Receives a value, waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [timed out](Error::is_timed_out).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T> {
        receive(self.outlet.queue(), &self.kernel, Some(timeout)).map(|(_, value)| value)
    }

    /// Receives up to `most` values, waiting for the first one for at most `timeout`; never empty.
    ///
    /// # Errors
    ///
    /// As [`recv_timeout`](Self::recv_timeout); [invalid](Error::is_invalid) if `most` is 0.
    pub fn recv_many(&self, most: usize, timeout: Duration) -> Result<Vec<T>> {
        receive_many(self.outlet.queue(), &self.kernel, (most, "values"), timeout)
    }

    /// Receives values until the kernel has ended and none is left: also those that come while it is terminated.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| receive_to_the_end(self.outlet.queue(), &self.kernel))
    }
}
