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
    /// The oldest ones.
    values: VecDeque<Tagged<T>>,
    /// Those behind them; empty unless some came together.
    parts: VecDeque<Part<T>>,
    /// In `parts`.
    in_parts: usize,
    /// Threads waiting on `arrived`.
    receivers: usize,
    /// Nobody waits any longer; what is there can still be taken.
    closed: bool,
    dropped: u64,
}

/// Values that came together, or one by one behind such.
enum Part<T> {
    /// Of messages whose tokens count up from this one.
    Run(Token, VecDeque<T>),
    Single(VecDeque<Tagged<T>>),
}

impl<T> Inner<T> {
    fn len(&self) -> usize {
        self.values.len() + self.in_parts
    }

    fn push(&mut self, value: Tagged<T>) {
        if self.in_parts == 0 {
            return self.values.push_back(value);
        }
        self.in_parts += 1;
        match self.parts.back_mut() {
            Some(Part::Single(values)) => values.push_back(value),
            _ => self.parts.push_back(Part::Single([value].into())),
        }
    }

    fn pop(&mut self) -> Option<Tagged<T>> {
        if let Some(value) = self.values.pop_front() {
            return Some(value);
        }
        loop {
            let (value, is_empty) = match self.parts.front_mut()? {
                Part::Run(next, values) => {
                    let token = *next;
                    *next += 1;
                    (values.pop_front().map(|value| (token, value)), values.is_empty())
                }
                Part::Single(values) => (values.pop_front(), values.is_empty()),
            };
            if is_empty {
                self.parts.pop_front();
            }
            if value.is_some() {
                self.in_parts -= 1;
                return value;
            }
        }
    }

    /// Takes the oldest ones that came together, if there is nothing before them and they are not more than `most`.
    fn pop_run(&mut self, most: usize) -> Option<Vec<T>> {
        let Some(Part::Run(_, values)) = self.parts.front() else { return None };
        if !self.values.is_empty() || values.len() > most {
            return None;
        }
        let Some(Part::Run(_, values)) = self.parts.pop_front() else { unreachable!("just looked at") };
        self.in_parts -= values.len();
        Some(values.into())
    }
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
        let inner = Inner {
            values: VecDeque::new(),
            parts: VecDeque::new(),
            in_parts: 0,
            receivers: 0,
            closed: false,
            dropped: 0,
        };
        Self { inner: Mutex::new(inner), arrived: Condvar::new(), capacity, strategy }
    }

    /// Values that can be pushed with none dropped; without bound if the strategy drops.
    pub(crate) fn room(&self) -> usize {
        if self.strategy == Backpressure::Block {
            self.capacity.saturating_sub(lock(&self.inner).len())
        } else {
            usize::MAX
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.inner).len()
    }

    /// Values dropped by the strategy.
    pub(crate) fn dropped(&self) -> u64 {
        lock(&self.inner).dropped
    }

    /// Adds values. With `Block` the pusher has made sure of the [`room`](Self::room).
    pub(crate) fn push(&self, values: impl IntoIterator<Item = Tagged<T>>) {
        let mut inner = lock(&self.inner);
        if self.strategy == Backpressure::Block {
            let before = inner.len();
            if inner.in_parts == 0 {
                inner.values.extend(values);
            } else {
                values.into_iter().for_each(|value| inner.push(value));
            }
            let added = inner.len() - before;
            return self.tell(inner, added);
        }
        let mut added = 0;
        for value in values {
            if inner.len() >= self.capacity {
                inner.dropped += 1;
                if self.strategy != Backpressure::DropOldest {
                    continue;
                }
                inner.pop();
            }
            inner.push(value);
            added += 1;
        }
        self.tell(inner, added);
    }

    /// As [`push`](Self::push) for values of messages whose tokens count up from `first`.
    pub(crate) fn push_run(&self, first: Token, values: Vec<T>) {
        if values.is_empty() {
            return;
        }
        if self.strategy != Backpressure::Block {
            return self.push((first..).zip(values));
        }
        let mut inner = lock(&self.inner);
        let added = values.len();
        inner.in_parts += added;
        inner.parts.push_back(Part::Run(first, values.into()));
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
        lock(&self.inner).pop()
    }

    /// Up to `most` of the oldest values; `None` if there is none.
    pub(crate) fn pop_many(&self, most: usize) -> Option<Vec<T>> {
        let mut inner = lock(&self.inner);
        let count = inner.len().min(most);
        if count == 0 {
            return None;
        }
        // Those that came together stay where they are in memory.
        let mut all = inner.pop_run(most).unwrap_or_else(|| Vec::with_capacity(count));
        all.reserve_exact(count - all.len());
        if inner.in_parts == 0 {
            let rest = count - all.len();
            all.extend(inner.values.drain(..rest).map(|(_, value)| value));
        }
        while all.len() < count
            && let Some((_, value)) = inner.pop()
        {
            all.push(value);
        }
        Some(all)
    }

    /// Waits until there is a value, the queue closes, or the deadline passes.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Woken {
        let mut inner = lock(&self.inner);
        if inner.len() == 0 && !inner.closed {
            inner.receivers += 1;
            inner = wait_until(&self.arrived, inner, deadline);
            inner.receivers -= 1;
        }
        if inner.len() == 0 && inner.closed { Woken::Closed } else { Woken::Maybe }
    }

    /// Waits until there is a value or the deadline passes, closed or not.
    pub(crate) fn wait_though_closed(&self, deadline: Option<Instant>) {
        let mut inner = lock(&self.inner);
        if inner.len() == 0 {
            inner.receivers += 1;
            inner = wait_until(&self.arrived, inner, deadline);
            inner.receivers -= 1;
        }
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
