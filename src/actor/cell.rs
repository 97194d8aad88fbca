//! Where one reply lands: armed with a token, filled once by whoever handled the message, or given up.
//!
//! A cell is used again for other messages, also while a late deliverer still holds it: the token in the state
//! word tells them apart.

use crate::error::Error;
use crate::message::Token;
use crate::sync::{AtomicU64, Guarded, Mutex, Ordering, Thread, current, lock, park_until, spin};
use std::sync::Arc;
use std::time::Instant;

// The state word is `token << 2 | phase`; tokens stay below 2^62.
const IDLE: u64 = 0;
const WAITING: u64 = 1;
const WRITING: u64 = 2;
const READY: u64 = 3;

/// What a waiting caller gets.
pub(crate) type Reply<Out> = Result<Out, Error>;

/// One reply's place.
pub(crate) struct ReplyCell<Out> {
    state: AtomicU64,
    /// Written between `WRITING` and `READY` by the deliverer, taken after `READY` by the one waiter.
    value: Guarded<Option<Reply<Out>>>,
    /// Whom to wake; set only by a waiter about to park.
    sleeper: Mutex<Option<Thread>>,
}

impl<Out: Send> ReplyCell<Out> {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU64::new(IDLE), value: Guarded::new(None), sleeper: Mutex::new(None) }
    }

    /// Waits from now on for this token's reply. The push that carries the token publishes it.
    pub(crate) fn arm(&self, token: Token) {
        // Relaxed: the deliverer learns of the token through the mailbox's lock.
        self.state.store(token << 2 | WAITING, Ordering::Relaxed);
    }

    /// Is the reply there?
    #[inline]
    pub(crate) fn is_ready(&self, token: Token) -> bool {
        // Relaxed: `poll` decides.
        self.state.load(Ordering::Relaxed) == token << 2 | READY
    }

    /// The reply, if it is there. Only the one waiter calls this.
    #[inline]
    pub(crate) fn poll(&self, token: Token) -> Option<Reply<Out>> {
        // Acquire pairs with the deliverer's store of READY.
        if self.state.load(Ordering::Acquire) != token << 2 | READY {
            return None;
        }
        self.state.store(IDLE, Ordering::Relaxed);
        // SAFETY: READY ends the deliverer's access, and there is one waiter, which calls this.
        unsafe { self.value.with(Option::take) }
    }

    /// Gives the reply up; what came first after all is returned, unless it has been taken.
    pub(crate) fn disarm(&self, token: Token) -> Option<Reply<Out>> {
        // AcqRel/Acquire: orders the waiter's later use of the cell after a deliverer that lost.
        let given_up =
            self.state.compare_exchange(token << 2 | WAITING, IDLE, Ordering::AcqRel, Ordering::Acquire);
        if matches!(given_up, Ok(_) | Err(IDLE)) {
            return None;
        }
        loop {
            if let Some(reply) = self.poll(token) {
                return Some(reply);
            }
            spin();
        }
    }

    /// Delivers; `false` if the caller has left.
    pub(crate) fn deliver(&self, token: Token, reply: Reply<Out>) -> bool {
        // Acquire: after the waiter's use of the value in an earlier life of the cell.
        let begun = self.state.compare_exchange(
            token << 2 | WAITING,
            token << 2 | WRITING,
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        if begun.is_err() {
            return false;
        }
        // SAFETY: WRITING is ours alone: only one deliverer wins the exchange, and the waiter waits for READY.
        unsafe { self.value.with(|value| *value = Some(reply)) };
        // Release pairs with `poll`; the lock below orders it against a waiter that registers before it parks.
        self.state.store(token << 2 | READY, Ordering::Release);
        if let Some(thread) = lock(&self.sleeper).take() {
            thread.unpark();
        }
        true
    }

    /// Names this thread as the one to wake; `false` if the reply is there already.
    pub(crate) fn register(&self, token: Token) -> bool {
        let mut sleeper = lock(&self.sleeper);
        // Under the lock: either the deliverer stored READY before and we see it, or it takes the lock after us
        // and finds our name.
        if self.state.load(Ordering::Acquire) == token << 2 | READY {
            return false;
        }
        *sleeper = Some(current());
        true
    }

    /// Takes the name back.
    pub(crate) fn unregister(&self) {
        lock(&self.sleeper).take();
    }

    /// Sleeps until the reply may be there, or until the deadline. May wake early.
    pub(crate) fn park(&self, token: Token, deadline: Option<Instant>) {
        if self.register(token) {
            park_until(deadline);
            self.unregister();
        }
    }
}

/// Cells that are not in use, so that an `ask` allocates nothing.
pub(crate) struct CellPool<Out>(Mutex<Vec<Arc<ReplyCell<Out>>>>);

/// Free cells kept; more than this at once are waits in large numbers, whose memory shall go back.
const MOST_FREE: usize = 256;

impl<Out: Send> CellPool<Out> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(crate) fn take(&self) -> Arc<ReplyCell<Out>> {
        lock(&self.0).pop().unwrap_or_else(|| Arc::new(ReplyCell::new()))
    }

    pub(crate) fn give_back(&self, cell: Arc<ReplyCell<Out>>) {
        let mut free = lock(&self.0);
        if free.len() < MOST_FREE {
            free.push(cell);
        }
    }
}
