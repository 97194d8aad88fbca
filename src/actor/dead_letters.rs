//! The last dead letters of a runtime: what they were, why they died.

use super::telemetry::DeadLetterReason;
use crate::sync::{Mutex, lock};
use std::collections::VecDeque;
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

/// Dead letters kept; older ones are only counted.
const KEPT: usize = 256;

/// The last dead letters.
#[derive(Default)]
pub(crate) struct DeadLetterLog(Mutex<VecDeque<DeadLetter>>);

impl DeadLetterLog {
    pub(crate) fn add(&self, letter: DeadLetter) {
        let mut letters = lock(&self.0);
        if letters.len() == KEPT {
            letters.pop_front();
        }
        letters.push_back(letter);
    }

    /// Takes them out, oldest first.
    pub(crate) fn take(&self) -> Vec<DeadLetter> {
        lock(&self.0).drain(..).collect()
    }
}
