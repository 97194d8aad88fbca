//! A kernel without its types: what a runtime asks of all of its kernels alike.

use super::core::Core;
use super::lifecycle::KernelState;
use super::links::CycleCredits;
use super::telemetry::Telemetry;
use crate::kernel::Paused;
use crate::message::Message;
use crate::sync::lock;
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// A kernel without its types.
pub(crate) trait AnyKernel: Send + Sync {
    fn id(&self) -> u64;
    fn name(&self) -> &str;
    fn state(&self) -> KernelState;
    fn telemetry(&self) -> Telemetry;
    /// Terminates it, or waits for whoever does; `false` if something was left behind, or it is not done at the deadline.
    fn end(self: Arc<Self>, deadline: Option<Instant>, grace: Option<Instant>) -> bool;
    /// Takes the port between messages, for a change of links; `false` at the deadline.
    fn hold(self: Arc<Self>, deadline: Option<Instant>) -> bool;
    fn let_go(self: Arc<Self>);
    /// Keeps everybody from delivering over its links.
    fn pause(&self) -> Vec<Paused<'_>>;
    /// Marks its links to these members of a cycle; how many places it has, and by how many one of its messages
    /// can become more. Held and paused.
    fn mark_cycle(&self, members: &[u64]) -> (usize, usize);
    /// Makes it a member of a cycle that counts its messages from now on. Held and paused.
    fn enter_cycle(&self, cycle: Arc<CycleCredits>);
    /// Lets kernels go on that wait for room in this one.
    fn resume_sources(&self);
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<In: Message, Out: Message> AnyKernel for Core<In, Out> {
    fn id(&self) -> u64 {
        self.facts.id
    }

    fn name(&self) -> &str {
        &self.facts.name
    }

    fn state(&self) -> KernelState {
        self.state()
    }

    fn telemetry(&self) -> Telemetry {
        self.telemetry()
    }

    fn end(self: Arc<Self>, deadline: Option<Instant>, grace: Option<Instant>) -> bool {
        match self.terminate(deadline, grace) {
            Ok(end) => !end.detached,
            // Somebody else does, and needs the background driver for it.
            Err(_) => self.wait_terminated(deadline),
        }
    }

    fn hold(self: Arc<Self>, deadline: Option<Instant>) -> bool {
        // A host kernel's links are under their own lock.
        if self.is_host() {
            return true;
        }
        if !self.seize(deadline) {
            return false;
        }
        // SAFETY: the gate was just taken.
        let is_held = unsafe { self.engine.with(|engine| self.hold_values(engine, deadline)) };
        if !is_held {
            self.release();
        }
        is_held
    }

    fn let_go(self: Arc<Self>) {
        if !self.is_host() {
            // SAFETY: the caller holds the gate.
            unsafe { self.engine.with(|engine| self.detour_values(engine)) };
            self.release();
        }
    }

    fn pause(&self) -> Vec<Paused<'_>> {
        self.outlets.iter().map(|(_, outlet)| outlet.pause()).collect()
    }

    fn mark_cycle(&self, members: &[u64]) -> (usize, usize) {
        self.outlets.iter().for_each(|(_, outlet)| outlet.mark_cycle(members));
        let most: usize = self.outlets.iter().map(|(_, outlet)| outlet.in_cycles().1).sum();
        let growth = most.saturating_sub(1);
        let mut mailbox = lock(&self.mailbox);
        // A host kernel's function reserves nothing before it sends.
        mailbox.growth = if self.is_host() { 0 } else { growth };
        (mailbox.capacity(), growth)
    }

    fn enter_cycle(&self, cycle: Arc<CycleCredits>) {
        let boxed: usize = self.outlets.iter().map(|(_, outlet)| outlet.in_cycles().0).sum();
        let mut mailbox = lock(&self.mailbox);
        let in_hand = mailbox.in_port() + usize::from(mailbox.hand.is_some());
        cycle.count(mailbox.queued() + in_hand * (1 + mailbox.growth) + boxed);
        // Under the lock: what comes or goes from here on, the cycle counts itself.
        mailbox.cycle = Some(cycle);
    }

    fn resume_sources(&self) {
        self.resume_upstream();
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
