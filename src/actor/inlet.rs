//! A kernel as others see it without its types: the end of a link, the source of one, something to be driven.

use super::core::Core;
use super::dead_letters::DeadLetter;
use super::lifecycle::KernelState;
use super::send::Options;
use super::services::{Drive, Source};
use super::telemetry::DeadLetterReason;
use crate::kernel::{Inlet, Tagged};
use crate::message::Message;
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

    fn accept(self: Arc<Self>, values: &mut VecDeque<Tagged<In>>, in_cycle: bool) -> usize {
        let mut refused = Vec::new();
        let mut mailbox = lock(&self.mailbox);
        if !mailbox.takes_links() {
            drop(mailbox);
            let lost = values.len();
            for (token, payload) in values.drain(..) {
                self.facts.services.dead_letters.add(DeadLetter {
                    kernel: self.facts.name.to_string(),
                    id: self.uuid(token),
                    correlation_id: None,
                    reason: DeadLetterReason::Undeliverable,
                    cause: "the kernel at the end of the link takes no messages any more".to_owned(),
                    payload: self.encode(&payload),
                });
            }
            return lost;
        }
        let mut taken = false;
        while !values.is_empty() && mailbox.room(self.waiting()) > 0 {
            if !in_cycle && mailbox.cycle.as_ref().is_some_and(|cycle| !cycle.try_inject()) {
                break;
            }
            let Some((token, payload)) = values.pop_front() else { break };
            mailbox.accepted += 1;
            let slot = self.slot(payload, token, &Options::default());
            if let Some(instance) = self.instance_out_of_range(&slot.payload) {
                mailbox.dead.count(DeadLetterReason::InstanceOutOfRange);
                if let Some(cycle) = &mailbox.cycle {
                    cycle.release(1);
                }
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
        for (slot, instance) in refused {
            let payload = self.encode(&slot.payload);
            let error = self.instance_error(instance);
            self.bury_meta(slot.meta, payload, DeadLetterReason::InstanceOutOfRange, error);
        }
        if taken {
            self.announce();
        }
        0
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
