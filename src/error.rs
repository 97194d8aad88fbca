//! Errors: one opaque [`Error`] with predicates, and the send-side errors that give the message back.

use std::fmt;
use std::time::Duration;

/// A `Result` whose error is Ringwork's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong outside of a failed send.
///
/// The `is_…` methods tell its kind, so that new kinds never break a caller's `match`; the text says which
/// kernel (unless it was made from a [`SendError`], which has no name), which setting, what was found and what to do.
///
/// # Example
///
/// ```
/// use ringwork::{RingKernel, Runtime};
///
/// let runtime = Runtime::new()?;
/// let error = runtime.launch(RingKernel::<(), ()>::wgsl("clock", "fn tick() {}")).unwrap_err();
/// assert!(error.is_rejected());
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    text: String,
}

/// What an [`Error`] is about; internal, asked through the predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The handler's source was refused.
    Rejected,
    /// A setting, a name or an argument was refused.
    Invalid,
    /// A lifecycle call that the present state does not allow.
    State,
    /// The deadline passed.
    TimedOut,
    /// The kernel is not active.
    NotActive,
    /// The kernel failed, or the message's handler did.
    Failed,
    /// The kernel is terminated or terminating, or the runtime or orchestrator has been shut down.
    Terminated,
    /// The message was dropped by a backpressure strategy.
    Dropped,
    /// The mailbox is full and its strategy is to reject.
    Full,
    /// Waiting here could never end.
    Deadlock,
    /// A backend or device is not there.
    Unavailable,
    /// A device was there, and is gone.
    DeviceLost,
    /// Two use one buffer in ways that do not go together.
    Conflict,
}

/// The text of a panic, as far as it has one.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, text: text.into() }))
    }

    pub(crate) fn timed_out(what: impl fmt::Display, after: Duration) -> Self {
        Self::new(ErrorKind::TimedOut, format!("{what} timed out after {after:?}"))
    }
}

macro_rules! predicates {
    ($($(#[$doc:meta])* $name:ident: $kind:ident;)*) => {
        impl Error {
            $($(#[$doc])* pub fn $name(&self) -> bool { self.0.kind == ErrorKind::$kind })*
        }
    };
}
predicates! {
    /// The source of a handler or an entry point was refused; the text has its name, line, column and what to write instead.
    is_rejected: Rejected;
    /// A setting, name or argument was refused; the text names it, its value and its bound.
    is_invalid: Invalid;
    /// The kernel's lifecycle state does not allow the call; the text names both states.
    is_illegal_state: State;
    /// The deadline passed first.
    is_timed_out: TimedOut;
    /// The kernel is not active.
    is_not_active: NotActive;
    /// The handler faulted on this message, the kernel has failed, or a dispatch did; the text is the cause.
    is_failed: Failed;
    /// The kernel is terminated or being terminated, or the runtime or orchestrator has been shut down.
    is_terminated: Terminated;
    /// A backpressure strategy dropped the message before it was handled.
    is_dropped: Dropped;
    /// The mailbox is full, and the call or the kernel's [strategy](crate::Backpressure) does not wait.
    is_full: Full;
    /// The wait could never end, as when a kernel asks itself.
    is_deadlock: Deadlock;
    /// The backend or device asked for is not available here; the text has the reason.
    is_unavailable: Unavailable;
    /// The device that the kernel runs on, or the buffer is on, is gone: unplugged, reset by its driver, or destroyed. A
    /// kernel whose [policy](crate::RestartPolicy) allows it goes on by itself. Others are to be terminated and launched
    /// again, with buffers and pools made anew: the runtime opens a device when one is needed. Of a buffer that is lost,
    /// what its copy on the host has can still be read.
    is_device_lost: DeviceLost;
    /// Two kernels, or a kernel and the host, or one thread twice, use one buffer in ways that do not go together; the text
    /// names both.
    is_conflict: Conflict;
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.text)
    }
}

impl std::error::Error for Error {}

/// A send that did not happen gives the message back, unless [`Backpressure::DropNewest`](crate::Backpressure::DropNewest) has
/// made it a dead letter.
///
/// The variants are what users of channels expect: full, closed in one of three ways, and timed out are different
/// errors. [`TrySendError`] and [`SendTimeoutError`] are other names of the same type.
#[derive(Clone)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The mailbox is full, and the call or the kernel's strategy does not wait.
    Full(T),
    /// The kernel is not active.
    NotActive(T),
    /// The kernel has failed; the cause.
    Failed(T, Error),
    /// The kernel is terminated or terminating.
    Terminated(T),
    /// There was no room before the deadline; the text says what it waited for.
    TimedOut(T, Error),
    /// The message or the call is wrong: an instance out of range, a kernel that would wait for itself.
    Refused(T, Error),
    /// [`Backpressure::DropNewest`](crate::Backpressure::DropNewest) dead-lettered the message.
    Dropped(Error),
}

/// The error of [`Handle::try_send`](crate::Handle::try_send).
pub type TrySendError<T> = SendError<T>;
/// The error of [`Handle::send_timeout`](crate::Handle::send_timeout).
pub type SendTimeoutError<T> = SendError<T>;

/// A [`send_many`](crate::Handle::send_many) that came to a message that was not taken.
#[derive(Clone)]
pub struct SendManyError<T> {
    /// Messages taken before it.
    pub sent: usize,
    /// The message and why it was not taken.
    pub error: SendError<T>,
    /// Messages drawn from the iterator after it, in order.
    pub unsent: Vec<T>,
}

impl<T> From<SendManyError<T>> for Error {
    fn from(error: SendManyError<T>) -> Self {
        error.error.into()
    }
}

impl<T> fmt::Display for SendManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} messages: {}", self.sent, self.error)
    }
}

/// The messages by their number: there may be thousands, and `unwrap` prints this.
impl<T> fmt::Debug for SendManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendManyError")
            .field("sent", &self.sent)
            .field("error", &self.error)
            .field("unsent", &format_args!("{} messages", self.unsent.len()))
            .finish()
    }
}

impl<T> std::error::Error for SendManyError<T> {}

impl<T> SendError<T> {
    /// The message, unless it was dropped.
    pub fn into_message(self) -> Option<T> {
        match self {
            Self::Full(message)
            | Self::NotActive(message)
            | Self::Failed(message, _)
            | Self::Terminated(message)
            | Self::TimedOut(message, _)
            | Self::Refused(message, _) => Some(message),
            Self::Dropped(_) => None,
        }
    }
}

impl<T> From<SendError<T>> for Error {
    fn from(error: SendError<T>) -> Self {
        let text = error.to_string();
        match error {
            SendError::Full(_) => Self::new(ErrorKind::Full, text),
            SendError::NotActive(_) => Self::new(ErrorKind::NotActive, text),
            SendError::Terminated(_) => Self::new(ErrorKind::Terminated, text),
            SendError::Failed(_, error)
            | SendError::TimedOut(_, error)
            | SendError::Refused(_, error)
            | SendError::Dropped(error) => error,
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the mailbox is full"),
            Self::NotActive(_) => f.write_str("the kernel is not active"),
            Self::Terminated(_) => f.write_str("the kernel is terminated"),
            Self::Failed(_, error)
            | Self::TimedOut(_, error)
            | Self::Refused(_, error)
            | Self::Dropped(error) => error.fmt(f),
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Full(_) => "Full",
            Self::NotActive(_) => "NotActive",
            Self::Failed(..) => "Failed",
            Self::Terminated(_) => "Terminated",
            Self::TimedOut(..) => "TimedOut",
            Self::Refused(..) => "Refused",
            Self::Dropped(_) => "Dropped",
        };
        write!(f, "{name}: {self}")
    }
}

impl<T> std::error::Error for SendError<T> {}
