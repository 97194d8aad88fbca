//! The word in front of a kernel's port: who may run its handlers, and who has to see to it that somebody does.
//!
//! Whoever sets [`BUSY`] holds the port until it clears the bit. A message is never forgotten: whoever puts one
//! into the mailbox sets [`QUEUED`]; whoever sets `QUEUED` on a kernel that nobody holds, and whoever lets go of
//! one that is `QUEUED`, hands it to the background driver or knows of a waiting caller that will take it.

use crate::sync::{AtomicU32, Ordering};

/// The port is held.
pub(crate) const BUSY: u32 = 1;
/// Handlers may run.
pub(crate) const ACTIVE: u32 = 1 << 1;
/// The mailbox or the port may hold messages.
pub(crate) const QUEUED: u32 = 1 << 2;
/// The background driver has been told.
pub(crate) const SCHEDULED: u32 = 1 << 3;
/// Somebody waits for `BUSY` to go.
pub(crate) const WANTED: u32 = 1 << 4;
/// Only the background driver (a host kernel's thread) may run handlers.
pub(crate) const BACKGROUND: u32 = 1 << 5;
/// There is no room for what the next message may send; whoever makes some clears the bit.
pub(crate) const STALLED: u32 = 1 << 6;
/// Terminated while the port was held: its holder's results do not count, and it takes the port apart.
pub(crate) const ABANDONED: u32 = 1 << 7;
/// The holder runs messages that never were in the mailbox, and nobody has accounted for the one in hand.
pub(crate) const DIRECT: u32 = 1 << 8;
/// Every message has to go through the mailbox (kernels with outputs, on a device, host kernels).
pub(crate) const INDIRECT: u32 = 1 << 9;
/// What is queued is at the device, which clears the bit when something comes back.
pub(crate) const AWAY: u32 = 1 << 10;

/// The word. All operations are sequentially consistent: each is one half of a "publish, then look" pair whose
/// other half is on another thread (push and look at `QUEUED` against clear `QUEUED` and look at the mailbox).
pub(crate) struct Gate(AtomicU32);

impl Gate {
    pub(crate) fn new(bits: u32) -> Self {
        Self(AtomicU32::new(bits))
    }

    #[inline]
    pub(crate) fn load(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Sets bits; returns the word before.
    #[inline]
    pub(crate) fn set(&self, bits: u32) -> u32 {
        self.0.fetch_or(bits, Ordering::SeqCst)
    }

    /// Clears bits; returns the word before.
    #[inline]
    pub(crate) fn clear(&self, bits: u32) -> u32 {
        self.0.fetch_and(!bits, Ordering::SeqCst)
    }

    /// Handlers may run, and what is thought to be at the device may not be: somebody has to look.
    pub(crate) fn activate(&self) {
        let mut word = self.load();
        while let Err(seen) =
            self.0.compare_exchange(word, (word | ACTIVE) & !AWAY, Ordering::SeqCst, Ordering::SeqCst)
        {
            word = seen;
        }
    }

    /// Sets [`AWAY`] for a kernel that is not active, unless it has become so meanwhile: then its port is looked into by
    /// whoever drives it. The port is held.
    pub(crate) fn leave_to_device(&self) {
        // Either `activate` comes behind this and clears the bit, or it is seen here.
        if self.set(AWAY) & ACTIVE != 0 {
            self.clear(AWAY);
        }
    }

    /// Takes an idle, active kernel with nothing queued: the direct path.
    #[inline]
    pub(crate) fn enter_direct(&self) -> bool {
        // Relaxed failure: nothing is read on the strength of it.
        self.0.compare_exchange(ACTIVE, ACTIVE | BUSY | DIRECT, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Lets go of what [`enter_direct`](Self::enter_direct) took, if nothing happened meanwhile; otherwise the
    /// caller still holds it.
    #[inline]
    pub(crate) fn leave_direct(&self) -> bool {
        self.0.compare_exchange(ACTIVE | BUSY | DIRECT, ACTIVE, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Claims the direct path's message in hand for the books; `false` if `terminate` has accounted for it. The port
    /// stays held.
    pub(crate) fn claim_direct(&self) -> bool {
        self.clear(DIRECT) & ABANDONED == 0
    }

    /// As [`leave_direct`](Self::leave_direct), after [`claim_direct`](Self::claim_direct).
    pub(crate) fn leave_claimed(&self) -> bool {
        self.0.compare_exchange(ACTIVE | BUSY, ACTIVE, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Takes the port for good, or marks the results of whoever holds it as nobody's; the word before.
    pub(crate) fn seize_or_abandon(&self) -> u32 {
        let before = self.set(BUSY | ABANDONED);
        if before & BUSY == 0 {
            self.clear(ABANDONED);
        }
        before
    }

    /// Takes a kernel to run what is queued. `forbidden` are bits that keep this caller out.
    pub(crate) fn enter(&self, forbidden: u32) -> bool {
        let mut word = self.load();
        while word & (BUSY | forbidden) == 0 && word & ACTIVE != 0 {
            match self.0.compare_exchange(word, word | BUSY, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
        false
    }

    /// Takes the port whatever the kernel's state, for a lifecycle call; never waits.
    pub(crate) fn seize(&self) -> bool {
        self.set(BUSY) & BUSY == 0
    }
}
