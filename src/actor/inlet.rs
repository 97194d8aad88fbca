//! A kernel as others see it without its types: the end of a link, the source of one, something to be driven.

use super::core::Core;
use super::dead_letters::DeadLetter;
use super::gate;
use super::lifecycle::KernelState;
use super::mailbox::Mailbox;
use super::send::Options;
use super::services::{Drive, Source};
use super::telemetry::DeadLetterReason;
use crate::backend::DeviceInlet;
use crate::kernel::{Backpressure, Dropped, Inlet, Tagged};
use crate::message::{Message, Token};
use crate::sync::lock;
use std::collections::VecDeque;
use std::sync::Arc;

impl<In: Message, Out: Message> Inlet<In> for Core<In, Out> {
    fn room(&self) -> usize {
        lock(&self.mailbox).room(self.waiting())
    }

    fn is_active(&self) -> bool {
        lock(&self.mailbox).state == KernelState::Active
    }

    fn accept(self: Arc<Self>, values: &mut VecDeque<Tagged<In>>, in_cycle: bool) -> Dropped {
        let mut refused = Vec::new();
        let mut mailbox = lock(&self.mailbox);
        if !mailbox.takes_links() {
            drop(mailbox);
            let lost = values.len();
            values.drain(..).for_each(|(token, payload)| self.undeliverable(token, &payload));
            return Dropped { undeliverable: lost, ..Dropped::default() };
        }
        let mut taken = false;
        while mailbox.room(self.waiting()) > 0 {
            let Some((_, payload)) = values.front() else { break };
            let misdirected = self.instance_out_of_range(payload);
            // What is a dead letter at once needs no place in the cycle.
            let enters = !in_cycle && misdirected.is_none();
            if enters && mailbox.cycle.as_ref().is_some_and(|cycle| !cycle.try_inject()) {
                break;
            }
            let Some((token, payload)) = values.pop_front() else { break };
            mailbox.accepted += 1;
            let slot = self.slot(payload, token, &Options::default());
            if let Some(instance) = misdirected {
                mailbox.dead.count(DeadLetterReason::InstanceOutOfRange);
                refused.push((slot, instance));
                continue;
            }
            mailbox.enqueue(slot);
            taken = true;
        }
        let wake_host = taken && std::mem::take(&mut mailbox.host_sleeps);
        drop(mailbox);
        if wake_host {
            self.items.notify_one();
        }
        let misdirected = refused.len();
        for (slot, instance) in refused {
            let payload = self.encode(&slot.payload);
            let error = self.instance_error(instance);
            self.bury_meta(slot.meta, payload, DeadLetterReason::InstanceOutOfRange, error);
        }
        if taken {
            self.announce();
        }
        Dropped { misdirected, ..Dropped::default() }
    }

    fn open(self: Arc<Self>, source: &Arc<dyn DeviceInlet>, most: usize) -> Option<Arc<dyn DeviceInlet>> {
        // A message that is at the device could not be dropped for a newcomer.
        if !matches!(self.facts.backpressure, Backpressure::Block | Backpressure::Reject) {
            return None;
        }
        // Outside of the mailbox's lock, as ever. Nothing else reaches the outlets meanwhile: what is in the port would
        // show below, and the inlet does not open before what was in it has got to them.
        let admitted = self.outlets.iter().map(|(_, outlet)| outlet.admit()).min().unwrap_or(usize::MAX);
        let mut mailbox = lock(&self.mailbox);
        let is_next =
            mailbox.state == KernelState::Active && mailbox.cycle.is_none() && mailbox.queued() == 0;
        let in_port = mailbox.in_port();
        let all = in_port + mailbox.awaited + most;
        let has_room = mailbox.room(self.waiting()) >= most
            && admitted >= all
            && (!self.facts.has_reply || self.replies.room() >= all);
        let inlet = mailbox.inlet.clone().filter(|inlet| {
            let is_behind = in_port == 0 || inlet.queues();
            is_next && has_room && is_behind && inlet.open(source, most)
        })?;
        mailbox.awaited += most;
        // There is something to do here, and the device will tell.
        self.hot.gate.set(gate::QUEUED | gate::AWAY);
        drop(mailbox);
        if inlet.is_lost() {
            // It may have been told before there was anything to look at, by somebody who did not get hold of the port.
            self.come_back(true);
        }
        Some(inlet)
    }
}

impl<In: Message, Out: Message> Core<In, Out> {
    /// Enters messages that came over links on the device, of rounds that might have brought `most`; returns how many
    /// replies of theirs will go to the queue. Whatever the state: when the rounds began the kernel was active.
    pub(super) fn arrive(
        &self,
        mailbox: &mut Mailbox<In, Out>,
        messages: Vec<(Token, In)>,
        most: usize,
    ) -> usize {
        let count = messages.len();
        // Fewer are awaited if the kernel lost another device meanwhile.
        mailbox.awaited = mailbox.awaited.saturating_sub(most);
        mailbox.accepted += count as u64;
        mailbox.arrived += count as u64;
        if let Some(cycle) = &mailbox.cycle {
            // One that was made meanwhile.
            cycle.count(count * (1 + mailbox.growth));
        }
        if count > 0 {
            // What is in the port is before them, also what was sent together.
            mailbox.separate_all();
        }
        for (token, payload) in messages {
            let mut slot = self.slot(payload, token, &Options::default());
            // It was accepted when it was handled.
            slot.meta.stamp = 0;
            mailbox.singly.push_back(slot);
        }
        if self.facts.has_reply { count } else { 0 }
    }

    /// Dead-letters a message that came over a link to a kernel that takes none any more.
    pub(super) fn undeliverable(&self, token: Token, payload: &In) {
        self.facts.services.dead_letters.add(DeadLetter {
            kernel: self.facts.name.to_string(),
            id: self.uuid(token),
            correlation_id: None,
            reason: DeadLetterReason::Undeliverable,
            cause: "the kernel at the end of the link takes no messages any more".to_owned(),
            payload: self.encode(payload),
        });
    }
}

impl<In: Message, Out: Message> Drive for Core<In, Out> {
    fn drive(self: Arc<Self>) {
        self.drive_in_background();
    }
}

impl<In: Message, Out: Message> Source for Core<In, Out> {
    fn resume(self: Arc<Self>) {
        // What waits in the links' boxes: this kernel may have nothing more to run, or not be active.
        self.flush_outlets();
        if self.is_host() {
            // Its thread may wait for room with a full box.
            drop(lock(&self.mailbox));
            self.items.notify_all();
            return;
        }
        self.unstall();
    }
}
