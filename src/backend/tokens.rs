//! The tokens of the messages that a device's port has.

use crate::message::Token;
use std::collections::VecDeque;

/// Messages that came one by one, or together: then their tokens count up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub first: Token,
    pub count: usize,
    /// Their results may be handed out together, too.
    pub is_together: bool,
}

/// In the order of the messages.
#[derive(Default)]
pub(super) struct Tokens(VecDeque<Run>);

impl Tokens {
    /// Adds one that came by itself.
    pub fn push(&mut self, token: Token) {
        self.0.push_back(Run { first: token, count: 1, is_together: false });
    }

    /// Adds messages that came together, if any.
    pub fn push_run(&mut self, run: Run) {
        if run.count > 0 {
            self.0.push_back(run);
        }
    }

    /// The next that are over.
    pub fn front(&self) -> Option<Run> {
        self.0.front().copied()
    }

    /// Takes out so many of [those in front](Self::front), which are over; the first one's token.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn take(&mut self, count: usize) -> Token {
        let front = self.0.front_mut().expect("a token for each message");
        let first = front.first;
        (front.first, front.count) = (first + count as Token, front.count - count);
        if front.count == 0 {
            self.0.pop_front();
        }
        first
    }

    /// All that are left, one by one.
    #[cfg(feature = "cuda")]
    pub fn drain(&mut self) -> Vec<Token> {
        let tokens = |run: Run| run.first..run.first + run.count as Token;
        self.0.drain(..).flat_map(tokens).collect()
    }
}
