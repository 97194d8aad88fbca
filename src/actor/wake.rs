//! Who has to be told: of work that nobody is about to run, of room that somebody waits for, of a port let go.

use super::core::Core;
use super::gate::{self, Gate};
use super::mailbox::Mailbox;
use crate::message::Message;
use crate::sync::{Ordering, lock, passed, spin, wait_until};
use std::sync::{Arc, Weak};
use std::time::Instant;

impl<In: Message, Out: Message> Core<In, Out> {
    /// Sees to it that what was queued is run: unless a waiting caller will, tells the background driver.
    pub(super) fn announce(self: &Arc<Self>) {
        let gate = &self.hot.gate;
        if gate.load() & gate::QUEUED != 0 {
            return;
        }
        gate.set(gate::QUEUED);
        self.rescue();
    }

    /// Sees to it that what was queued for a device goes there: at once, if nothing of this kernel is there, or if it is
    /// `much` and the device may work on several rounds of the kernel.
    pub(super) fn announce_to_device(self: &Arc<Self>, much: bool) {
        let gate = &self.hot.gate;
        if gate.load() & gate::QUEUED == 0 {
            gate.set(gate::QUEUED);
        }
        let beside = much && lock(&self.place).overlaps;
        let may = (beside || gate.load() & gate::AWAY == 0) && Self::may_drive();
        if !may || !self.drive_as_caller(None, None, None) {
            self.rescue();
        }
    }

    /// Tells the background driver.
    pub(super) fn schedule(self: &Arc<Self>) {
        if self.is_host() {
            return;
        }
        if self.hot.gate.set(gate::SCHEDULED) & gate::SCHEDULED == 0 {
            self.facts.services.pool.submit(self.clone());
        }
    }

    /// Hands work that nobody is about to run to the background driver.
    pub(super) fn rescue(self: &Arc<Self>) {
        let word = self.hot.gate.load();
        if self.facts.on_device
            && word & (gate::QUEUED | gate::ACTIVE | gate::BUSY | gate::AWAY) == gate::QUEUED
        {
            // No callers drive a kernel that is not active, but what it had begun has to come to its end. Whoever was told
            // of that may not have got hold of the port.
            self.schedule();
            return;
        }
        let nobody = gate::QUEUED | gate::ACTIVE;
        if word & (nobody | gate::BUSY | gate::STALLED | gate::AWAY) == nobody
            && (word & gate::BACKGROUND != 0 || self.hot.spinners.load(Ordering::SeqCst) == 0)
        {
            self.schedule();
        }
    }

    /// Something came back from the device, or it is lost, which somebody has to look at even if nothing is queued.
    pub(super) fn come_back(self: &Arc<Self>, is_lost: bool) {
        // No room that somebody makes will ever help what a lost device has.
        let gone = if is_lost { gate::AWAY | gate::STALLED } else { gate::AWAY };
        let before = self.hot.gate.clear(gone);
        // Nobody drives a kernel that is not active; but what came back of a round that had begun is handed out.
        if is_lost || before & gate::ACTIVE == 0 {
            self.schedule();
        } else {
            self.rescue();
        }
    }

    /// Waits until nobody holds the port, or until a host kernel has no message in hand; `false` at the deadline.
    pub(super) fn wait_idle(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if !self.is_host() {
            if self.facts.on_device {
                return self.seize_recalled(deadline, |_| ());
            }
            return self.wait_gate(deadline, |gate| gate.load() & gate::BUSY == 0);
        }
        self.wait_mailbox(deadline, |mailbox| mailbox.hand.is_none())
    }

    /// Waits until it is so with the mailbox; `false` at the deadline.
    pub(super) fn wait_mailbox(
        &self,
        deadline: Option<Instant>,
        is_so: impl Fn(&Mailbox<In, Out>) -> bool,
    ) -> bool {
        let mut mailbox = lock(&self.mailbox);
        while !is_so(&mailbox) {
            if passed(deadline) {
                return false;
            }
            mailbox.blocked += 1;
            mailbox = wait_until(&self.changed, mailbox, deadline);
            mailbox.blocked -= 1;
        }
        true
    }

    /// Takes the port, whatever the kernel's state; `false` at the deadline.
    pub(super) fn seize(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        self.wait_gate(deadline, Gate::seize)
    }

    fn wait_gate(self: &Arc<Self>, deadline: Option<Instant>, attempt: impl Fn(&Gate) -> bool) -> bool {
        let gate = &self.hot.gate;
        if cfg!(not(loom)) {
            for _ in 0..64 {
                if attempt(gate) {
                    return true;
                }
                spin();
            }
        }
        let mut guard = lock(&self.idle.0);
        let done = loop {
            gate.set(gate::WANTED);
            if attempt(gate) {
                break true;
            }
            if passed(deadline) {
                break false;
            }
            guard = wait_until(&self.idle.1, guard, deadline);
        };
        gate.clear(gate::WANTED);
        // Others may be waiting too, and drivers were kept out meanwhile.
        self.idle.1.notify_all();
        drop(guard);
        self.rescue();
        done
    }

    /// There may be room for what this kernel sends: lets it go on.
    pub(super) fn unstall(self: &Arc<Self>) {
        if self.hot.gate.load() & gate::STALLED == 0 {
            return;
        }
        let before = self.hot.gate.clear(gate::STALLED);
        if before & (gate::STALLED | gate::QUEUED | gate::ACTIVE | gate::BUSY | gate::AWAY)
            == gate::STALLED | gate::QUEUED | gate::ACTIVE
        {
            self.schedule();
        }
    }

    /// Lets kernels go on that wait for room in this one.
    pub(super) fn resume_upstream(&self) {
        // Relaxed: set before the first linked message can come, under the lock that brings it.
        if !self.has_upstream.load(Ordering::Relaxed) {
            return;
        }
        let sources: Vec<_> = lock(&self.upstream).iter().filter_map(Weak::upgrade).collect();
        for source in sources {
            source.resume();
        }
    }

    /// Delivers what waits on links for room.
    pub(super) fn flush_outlets(&self) {
        for (_, outlet) in &self.outlets {
            outlet.flush();
        }
    }
}
