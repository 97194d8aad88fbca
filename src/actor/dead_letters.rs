//! The last dead letters of a runtime: what they were, why they died.

use super::telemetry::DeadLetterReason;
use crate::sync::{Mutex, lock};
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use uuid::Uuid;

/// A message that ended without being handled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The kernel it was for.
    pub kernel: String,
    /// Its id.
    pub id: Uuid,
    /// Its sender's correlation id.
    pub correlation_id: Option<Uuid>,
    /// Why it died.
    pub reason: DeadLetterReason,
    /// What happened, in words.
    pub cause: String,
    /// The message: its own bytes if it is plain data, else encoded by postcard; `None` if a host kernel's function
    /// had taken it.
    pub payload: Option<Vec<u8>>,
}

/// Dead letters kept, unless set; older ones are only counted.
pub(super) const CAPACITY: usize = 256;
/// … and how many may be asked for.
pub(super) const CAPACITIES: RangeInclusive<usize> = 0..=1 << 20;

/// The last dead letters.
pub(crate) struct DeadLetterLog {
    capacity: usize,
    letters: Mutex<VecDeque<DeadLetter>>,
}

impl DeadLetterLog {
    /// Of so many at most.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, letters: Mutex::default() }
    }

    /// Are any kept?
    pub(crate) fn keeps_any(&self) -> bool {
        self.capacity > 0
    }

    pub(crate) fn add(&self, letter: DeadLetter) {
        if !self.keeps_any() {
            return;
        }
        let mut letters = lock(&self.letters);
        if letters.len() == self.capacity {
            letters.pop_front();
        }
        letters.push_back(letter);
    }

    /// Takes them out, oldest first.
    pub(crate) fn take(&self) -> Vec<DeadLetter> {
        lock(&self.letters).drain(..).collect()
    }
}
