//! A message together with what names and orders it.

use std::ops::{Deref, DerefMut};
use uuid::Uuid;

/// How urgent a message is, 0 to 255: the higher one leaves the mailbox first, equal ones in order of arrival.
///
/// # Example
///
/// ```
/// use ringwork::Priority;
///
/// assert_eq!(Priority::default(), Priority::NORMAL);
/// assert!(Priority::from(200) > Priority::HIGH);
/// assert_eq!(u8::from(Priority::LOW), 64);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// 0: after everything else.
    pub const LOWEST: Self = Self(0);
    /// 64.
    pub const LOW: Self = Self(64);
    /// 128: what a message has that was sent without saying.
    pub const NORMAL: Self = Self(128);
    /// 192.
    pub const HIGH: Self = Self(192);
    /// 255: before everything else.
    pub const HIGHEST: Self = Self(255);
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

impl From<u8> for Priority {
    fn from(value: u8) -> Self {
        Self(value)
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

/// A message with its identity; reads like the payload itself.
///
/// # Example
///
/// ```
/// use ringwork::{Envelope, Priority, Uuid, message};
///
/// message! { pub struct Response { pub result: f32 } }
///
/// let request = Uuid::from_u128(7);
/// let reply = Envelope {
///     id: Uuid::from_u128(8),
///     correlation_id: Some(request),
///     priority: Priority::NORMAL,
///     payload: Response { result: 6.0 },
/// };
/// assert_eq!(reply.result, 6.0);
/// assert_eq!(reply.correlation_id, Some(request));
/// assert_eq!(reply.into_inner(), Response { result: 6.0 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<T> {
    /// Names this message. One that a kernel emitted has the id of the message it came from; no others share one.
    pub id: Uuid,
    /// The id of the message that this one answers or belongs to.
    pub correlation_id: Option<Uuid>,
    /// Its rank in the mailbox.
    pub priority: Priority,
    /// The message itself.
    pub payload: T,
}

impl<T> Envelope<T> {
    /// The payload, the rest dropped.
    pub fn into_inner(self) -> T {
        self.payload
    }

    /// The same identity around another payload.
    ///
    /// # Example
    ///
    /// ```
    /// # use ringwork::{Envelope, Priority, Uuid};
    /// let id = Uuid::from_u128(1);
    /// let number = Envelope { id, correlation_id: None, priority: Priority::HIGH, payload: 42 };
    /// let text = number.map(|n| n.to_string());
    /// assert_eq!((text.id, text.as_str()), (id, "42"));
    /// ```
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Envelope<U> {
        Envelope {
            id: self.id,
            correlation_id: self.correlation_id,
            priority: self.priority,
            payload: change(self.payload),
        }
    }
}

impl<T> Deref for Envelope<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.payload
    }
}

impl<T> DerefMut for Envelope<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.payload
    }
}
