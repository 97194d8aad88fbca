//! A bounded queue of values waiting to be received: replies nobody asked for, and outputs that are not linked.

use super::settings::Backpressure;
use crate::message::Token;
use crate::sync::{Condvar, Mutex, MutexGuard, lock, wait_until};
use std::collections::VecDeque;
use std::time::Instant;

/// A value and the message it came from.
pub(crate) type Tagged<T> = (Token, T);

/// The queue. One port's holder pushes, anybody receives.
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    arrived: Condvar,
    capacity: usize,
    strategy: Backpressure,
}

struct Inner<T> {
    values: VecDeque<Tagged<T>>,
    /// Threads waiting on `arrived`.
    receivers: usize,
    /// Nobody waits any longer; what is there can still be taken.
    closed: bool,
    dropped: u64,
}

/// Why [`Queue::wait`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// There may be a value.
    Maybe,
    /// There is none, and the queue is closed.
    Closed,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize, strategy: Backpressure) -> Self {
        let inner = Inner { values: VecDeque::new(), receivers: 0, closed: false, dropped: 0 };
        Self { inner: Mutex::new(inner), arrived: Condvar::new(), capacity, strategy }
    }

    /// Values that can be pushed with none dropped; without bound if the strategy drops.
    pub(crate) fn room(&self) -> usize {
        if self.strategy == Backpressure::Block {
            self.capacity.saturating_sub(lock(&self.inner).values.len())
        } else {
            usize::MAX
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.inner).values.len()
    }

    /// Values dropped by the strategy.
    pub(crate) fn dropped(&self) -> u64 {
        lock(&self.inner).dropped
    }

    /// Adds values. With `Block` the pusher has made sure of the [`room`](Self::room).
    pub(crate) fn push(&self, values: impl IntoIterator<Item = Tagged<T>>) {
        let mut inner = lock(&self.inner);
        let before = inner.values.len();
        if self.strategy == Backpressure::Block {
            inner.values.extend(values);
            let added = inner.values.len() - before;
            return self.tell(inner, added);
        }
        let mut added = 0;
        for value in values {
            if inner.values.len() >= self.capacity {
                inner.dropped += 1;
                if self.strategy != Backpressure::DropOldest {
                    continue;
                }
                inner.values.pop_front();
            }
            inner.values.push_back(value);
            added += 1;
        }
        self.tell(inner, added);
    }

    /// Wakes receivers for so many new values.
    fn tell(&self, inner: MutexGuard<'_, Inner<T>>, added: usize) {
        let wake = inner.receivers > 0 && added > 0;
        drop(inner);
        if wake {
            if added == 1 { self.arrived.notify_one() } else { self.arrived.notify_all() }
        }
    }

    /// The oldest value.
    pub(crate) fn pop(&self) -> Option<Tagged<T>> {
        lock(&self.inner).values.pop_front()
    }

    /// The value that was taken before, and up to `most` of the oldest ones behind it.
    pub(crate) fn pop_many(&self, first: T, most: usize) -> Vec<T> {
        let mut inner = lock(&self.inner);
        let count = inner.values.len().min(most);
        let mut values = Vec::with_capacity(1 + count);
        values.push(first);
        values.extend(inner.values.drain(..count).map(|(_, value)| value));
        values
    }

    /// Waits until there is a value, the queue closes, or the deadline passes.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Woken {
        let mut inner = lock(&self.inner);
        if inner.values.is_empty() && !inner.closed {
            inner.receivers += 1;
            inner = wait_until(&self.arrived, inner, deadline);
            inner.receivers -= 1;
        }
        if inner.values.is_empty() && inner.closed { Woken::Closed } else { Woken::Maybe }
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.inner).closed
    }

    /// Wakes all receivers; from now on nobody waits.
    pub(crate) fn close(&self) {
        lock(&self.inner).closed = true;
        self.arrived.notify_all();
    }
}
