//! The way from the mailbox into the port: as many messages as may begin, of what comes next.

use super::core::{Core, Engine};
use super::gate;
use super::mailbox::{Mailbox, Slot};
use crate::backend::{Packed, Port, Shape};
use crate::kernel::{Backpressure, Credits};
use crate::message::Message;
use crate::sync::lock;
use std::sync::Arc;

/// What may go into a port, and what went.
struct Fed {
    /// Messages there is still room for.
    room: usize,
    /// … with replies for the reply queue.
    reply_room: usize,
    count: usize,
    /// Missing room keeps more out.
    is_stalled: bool,
}

impl Fed {
    /// So many messages went, of which so many will reply to the queue.
    fn take(&mut self, count: usize, replies: usize) {
        self.room -= count;
        self.reply_room -= replies;
        self.count += count;
    }
}

impl<In: Message, Out: Message> Core<In, Out> {
    /// Moves messages from the mailbox into the port, as many as may begin; returns how many are in the port, and
    /// whether missing room kept more out.
    pub(super) fn feed(self: &Arc<Self>, engine: &mut Engine<Out>, most: usize) -> (usize, bool) {
        // A handler that is not known to be fast gets its messages one by one: no reply waits for the message beside
        // it or after it, which may take for ever. Unless its user wants them to run on all cores all the same.
        let slow = (self.facts.shape == Shape::Serial || self.facts.on_probation)
            && !self.facts.on_device
            && self.hot.gate.load() & gate::BACKGROUND != 0;
        let most = if slow { 1 } else { most };
        loop {
            let (in_port, stalled) = self.feed_once(engine, most);
            if in_port > 0 || !stalled {
                return (in_port, stalled);
            }
            // Say so, then look once more: whoever makes room looks for the bit after making it.
            if self.hot.gate.set(gate::STALLED) & gate::STALLED != 0 {
                return (0, true);
            }
            let (in_port, still) = self.feed_once(engine, most);
            if in_port == 0 && still {
                return (0, true);
            }
            self.hot.gate.clear(gate::STALLED);
            if in_port > 0 {
                return (in_port, false);
            }
        }
    }

    /// As [`feed`](Self::feed), without saying that it is stalled.
    fn feed_once(&self, engine: &mut Engine<Out>, most: usize) -> (usize, bool) {
        let mut admitted = usize::MAX;
        for (_, outlet) in &self.outlets {
            admitted = admitted.min(outlet.admit());
        }
        let reply_room = if self.facts.has_reply {
            self.replies.room().saturating_sub(engine.reply_places)
        } else {
            usize::MAX
        };
        let mut mailbox = lock(&self.mailbox);
        let Engine { port: Some(port), reply_places, .. } = engine else { return (0, false) };
        let in_port = mailbox.in_port();
        if !mailbox.runs() {
            // The end of a terminating kernel's time comes unannounced: nobody need try again.
            self.hot.gate.clear(gate::ACTIVE);
            return (0, false);
        }
        if mailbox.awaited > 0 {
            // What comes over links on the device is before what is queued.
            return (in_port + mailbox.awaited, false);
        }
        // What is in the port already was admitted, but an interrupted message may come before new room.
        let mut room = port.free().min(most.saturating_sub(in_port)).min(admitted.saturating_sub(in_port));
        if self.facts.on_device && in_port > 0 && self.facts.backpressure == Backpressure::DropOldest {
            // What is staged behind a round could not be dropped for a newcomer.
            return (in_port, false);
        }
        let wants = mailbox.queued() > 0 && port.free() > 0 && most > in_port;
        let mut stalled = wants && room == 0;
        let growth = mailbox.growth;
        let growing = mailbox.cycle.clone().filter(|_| growth > 0 && wants && room > 0);
        if let Some(cycle) = &growing {
            room = cycle.reserve(room.min(mailbox.queued()), growth);
            stalled |= room == 0;
        }
        let mut fed = Fed { room, reply_room, count: 0, is_stalled: stalled };
        // Messages that were sent together are behind all others in the port until they are through.
        if wants && mailbox.together.is_empty() {
            self.feed_singly(&mut mailbox, port.as_mut(), reply_places, &mut fed);
        }
        if wants {
            self.feed_together(&mut mailbox, port.as_mut(), reply_places, &mut fed);
        }
        if let Some(cycle) = growing {
            cycle.release((fed.room * growth) as i64);
        }
        (in_port + fed.count, fed.is_stalled)
    }

    /// Messages that came one by one, and are next.
    fn feed_singly(
        &self,
        mailbox: &mut Mailbox<In, Out>,
        port: &mut dyn Port,
        reply_places: &mut usize,
        fed: &mut Fed,
    ) {
        let queued = mailbox.queued();
        let old = mailbox.singly.len();
        if queued > 1 && queued <= fed.room.min(fed.reply_room) && mailbox.take_all_normal() {
            let replies_to_queue = |slot: &&Slot<In, Out>| slot.meta.replies_to_queue();
            let replies = mailbox.singly.iter().filter(replies_to_queue).count();
            *reply_places += replies;
            fed.take(queued, replies);
        }
        while fed.room > 0 {
            let Some(next) = mailbox.peek() else { break };
            let replies = usize::from(next.meta.replies_to_queue());
            if replies > fed.reply_room {
                fed.is_stalled = true;
                break;
            }
            let Some(slot) = mailbox.pop() else { break };
            mailbox.singly.push_back(slot);
            *reply_places += replies;
            fed.take(1, replies);
        }
        if mailbox.singly.len() > old {
            let plain = self.plain();
            let messages = mailbox.singly.range(old..);
            port.push(&mut messages.map(|slot| (slot.meta.token, plain.bytes(&slot.payload))));
        }
    }

    /// Messages that were sent together, and are next.
    fn feed_together(
        &self,
        mailbox: &mut Mailbox<In, Out>,
        port: &mut dyn Port,
        reply_places: &mut usize,
        fed: &mut Fed,
    ) {
        loop {
            let has_replies = self.facts.has_reply && !mailbox.next_batch_discards();
            let most = if has_replies { fed.reply_room } else { usize::MAX };
            let Some(batch) = mailbox.take_batch(most.min(fed.room)) else {
                fed.is_stalled |= fed.count == 0 && most == 0;
                break;
            };
            let replies = if has_replies { batch.len() } else { 0 };
            *reply_places += replies;
            fed.take(batch.len(), replies);
            let messages: Arc<dyn Packed> = batch.messages.clone();
            port.push_run(batch.first, &messages, batch.range.clone(), size_of::<In>());
            mailbox.together.push_back(batch);
        }
    }
}
