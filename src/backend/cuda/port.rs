//! A kernel's port: writes messages into the ring, and watches the place of the next record itself.

use super::lane::Lane;
use super::layout::Layout;
use super::link::{Next, open_way};
use crate::backend::tokens::{Run, Tokens};
use crate::backend::{Completion, DeviceInlet, Packed, Port, Progress, Strided, Until};
use crate::error::{Error, Result};
use crate::message::Token;
use crate::sync::{back_off, passed};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A wait for the device that nobody gave a deadline ends after so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// A kernel is looked after this often while its port is waited at.
const LOOK: Duration = Duration::from_micros(100);

/// What a message emitted over a link, on its way to the kernel at its end.
struct Passing {
    to: Arc<Lane>,
    /// The first of its places there.
    place: u64,
    token: Token,
    words: Vec<u32>,
}

/// See the module.
pub(super) struct CudaPort {
    lane: Arc<Lane>,
    /// Of the messages in the port.
    tokens: Tokens,
    /// Of the record in hand, or of the replies of a run.
    words: Vec<u32>,
    /// Messages of a kernel with a link that have not been written: where what they emit goes is asked when the layer
    /// above has nothing locked.
    staged: Vec<u8>,
    passing: Vec<Passing>,
    has_state: bool,
}

impl CudaPort {
    pub fn new(lane: Arc<Lane>) -> Self {
        let has_state = lane.layout.state_words > 0;
        Self {
            lane,
            tokens: Tokens::default(),
            words: Vec::new(),
            staged: Vec::new(),
            passing: Vec::new(),
            has_state,
        }
    }

    fn staged(&self) -> usize {
        // Relaxed: written by the port.
        self.lane.links.staged.load(Ordering::Relaxed)
    }

    /// Keeps a message until [`give`](Self::give).
    fn stage<'a>(&mut self, messages: impl Iterator<Item = &'a [u8]>) -> usize {
        let free = self.free();
        let mut count = 0;
        for message in messages {
            self.staged.extend_from_slice(message);
            count += 1;
        }
        assert!(count <= free, "a full ring was pushed to");
        self.lane.links.staged.store(self.staged() + count, Ordering::Relaxed);
        count
    }

    /// Gives the kernel what has been kept.
    fn give(&mut self) {
        let count = self.staged();
        if count == 0 || self.lane.gpu.is_lost() {
            return;
        }
        let route = open_way(&self.lane, count);
        let size = self.lane.layout.message_words * 4;
        if size == 0 {
            self.lane.write_staged((0..count).map(|_| &[][..]), route);
        } else {
            self.lane.write_staged(self.staged.chunks_exact(size), route);
        }
        self.staged.clear();
    }

    /// Hands out the next record, with its message's token; what it emitted over a link is kept until it is in the books.
    fn hand_out(
        &mut self,
        token: Token,
        way: Option<(Arc<Lane>, u64)>,
        sink: &mut dyn FnMut(Completion<'_>),
    ) {
        let Some((to, place)) = way else { return self.lane.hand_out(token, &self.words, sink) };
        let mut words = Vec::new();
        self.lane.hand_out(token, &self.words, &mut |completion| match completion {
            Completion::Emit { value, .. } => words.extend_from_slice(bytemuck::cast_slice(value)),
            other => sink(other),
        });
        self.passing.push(Passing { to, place, token, words });
    }

    /// Where what the message of the next record emitted goes on the device.
    fn way(&self) -> Option<(Arc<Lane>, u64)> {
        let layout = &self.lane.layout;
        if !layout.is_routed {
            return None;
        }
        self.lane.links.way(self.lane.next_position(), layout.most_emitted())
    }

    /// Hands out one record; `false` if there is none that can be.
    fn pop_one(&mut self, sink: &mut dyn FnMut(Completion<'_>)) -> bool {
        // First: a position before the tail has its place by now, for the tail is stored behind that, under the same lock.
        // One that is given out from here on, with its record on the heels of it, would seem to be a message of this port's.
        if self.lane.is_idle() {
            return false;
        }
        let next = self.lane.links.next(self.lane.next_position());
        if next == Next::Unknown {
            return false;
        }
        #[cfg(test)]
        self.lane.links.looked();
        let way = self.way();
        // One by one: what is no run, and a fault in one.
        if !self.lane.take(&mut self.words) {
            return false;
        }
        debug_assert_eq!(next == Next::Skipped, Layout::is_skipped(&self.words), "host and device agree");
        if next == Next::Skipped {
            let nothing = |(to, place)| Passing { to, place, token: 0, words: Vec::new() };
            self.passing.extend(way.map(nothing));
            sink(Completion::LinkOver { most: 1 });
        } else {
            let token = self.tokens.take(1);
            self.hand_out(token, way, sink);
        }
        true
    }

    /// Watches the next record until it is there, or until one of the reasons to leave is; `true` if it is.
    fn wait(&self, until: &Until<'_>, is_over: &dyn Fn() -> bool) -> bool {
        let begun = Instant::now();
        let mut looked = begun;
        loop {
            // The latency path: nothing but the record's first granule is looked at, some times in a row.
            for _ in 0..16 {
                if self.lane.has_news() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if is_over()
                || self.lane.control.stop_requested()
                || self.lane.gpu.is_lost()
                || passed(until.limits.deadline)
            {
                self.lane.tend();
                return false;
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.lane.tend();
                if self.lane.count_own() {
                    // Whoever waits for room in the queue is told when the port is let go.
                    return false;
                }
            }
            back_off(begun);
        }
    }

    /// Hands out what there is of a run, up to a fault; `false` if there is nothing, or if none is next.
    fn pop_run(&mut self, sink: &mut dyn FnMut(Completion<'_>)) -> bool {
        let Some(Run { count, is_together: true, .. }) = self.tokens.front() else { return false };
        let count = self.lane.take_replies(count, &mut self.words);
        if count == 0 {
            return false;
        }
        let first = self.tokens.take(count);
        let size = self.lane.layout.reply_words * 4;
        let replies = Strided { count, bytes: bytemuck::cast_slice(&self.words), stride: size, size };
        sink(Completion::Run { first, replies, more: 0 });
        true
    }

    fn news(&self) -> Progress {
        if self.lane.gpu.is_lost() { Progress::Lost } else { Progress::Done }
    }
}

impl Port for CudaPort {
    fn engine(&self) -> &'static str {
        "cuda"
    }

    fn free(&self) -> usize {
        self.lane.layout.places() - self.lane.pending() - self.staged()
    }

    fn push(&mut self, batch: &mut dyn Iterator<Item = (Token, &[u8])>) {
        let mut tokens = std::mem::take(&mut self.tokens);
        let messages = batch.map(|(first, message)| {
            tokens.push(first);
            message
        });
        if self.lane.layout.is_routed {
            self.stage(messages);
        } else {
            self.lane.write(messages, 0);
        }
        self.tokens = tokens;
        self.lane.count_own();
    }

    // There is no doorbell behind it: a kernel on the device begins by itself, while the layer above still hands out what
    // came back before.
    fn push_run(&mut self, first: Token, messages: &Arc<dyn Packed>, range: Range<usize>, size: usize) {
        let bytes = &messages.bytes()[range.start * size..range.end * size];
        let count = match (size, self.lane.layout.is_routed) {
            (0, false) => self.lane.write(range.map(|_| &[][..]), 0),
            (_, false) => self.lane.write(bytes.chunks_exact(size), 0),
            (0, true) => self.stage(range.map(|_| &[][..])),
            (_, true) => self.stage(bytes.chunks_exact(size)),
        };
        self.tokens.push_run(Run { first, count, is_together: self.lane.layout.has_runs() });
        self.lane.count_own();
    }

    fn begin(&mut self) -> bool {
        self.give();
        false
    }

    fn progress(&mut self, until: &Until<'_>) -> Progress {
        self.lane.make_ring();
        self.give();
        if self.lane.pending() == 0 || !self.lane.want() || self.lane.gpu.is_lost() {
            return self.news();
        }
        let is_there = match until.patience {
            Some(is_over) => self.wait(until, is_over),
            None => self.lane.has_news(),
        };
        if is_there || self.lane.gpu.is_lost() {
            return self.news();
        }
        self.lane.count_own();
        self.lane.gpu.watch.add(&self.lane);
        Progress::UnderWay
    }

    fn pop(&mut self, sink: &mut dyn FnMut(Completion<'_>)) {
        if self.lane.control.stop_requested() {
            // It may have been given messages after its kernel was seen to leave: nobody is to wait for what they emit.
            self.lane.tend();
        }
        // Nobody makes progress while a stop is asked for, and the watch forgets whom it has told, if only that a message
        // has begun: what a handler still comes to has to be told, too. Asked before the records are looked at: a kernel
        // that has left by now has written them all.
        let is_owed =
            self.lane.control.stop_requested() && self.tokens.front().is_some() || self.lane.links.are_open();
        let is_owed = is_owed && self.lane.is_running();
        let tokens = &mut self.tokens;
        let mut enter = |token| tokens.push(token);
        self.lane.links.tell(&mut enter, sink);
        while self.pop_run(sink) || self.pop_one(sink) {}
        self.lane.links.forget_before(self.lane.next_position());
        self.lane.count_own();
        if is_owed {
            self.lane.gpu.watch.add(&self.lane);
        }
    }

    fn overlaps(&self) -> bool {
        // It reads on in its ring, whatever the shape.
        true
    }

    fn inlet(&self) -> Option<Arc<dyn DeviceInlet>> {
        Some(self.lane.clone())
    }

    fn pass_on(&mut self, sink: &mut dyn FnMut(Completion<'_>)) {
        let layout = &self.lane.layout;
        if !layout.is_routed {
            return;
        }
        let mut told: Vec<Arc<Lane>> = Vec::new();
        let (most, size) = (layout.most_emitted(), layout.emitted_words());
        for Passing { to, place, token, words } in self.passing.drain(..) {
            // Before the kernel there can show what comes of them.
            sink(Completion::Passed { output: 0, count: words.len() / size });
            if !to.arrive(place, most, token, &words) {
                for value in words.chunks_exact(size) {
                    sink(Completion::Emit { token, output: 0, value: bytemuck::cast_slice(value) });
                }
            }
            if !told.last().is_some_and(|last| Arc::ptr_eq(last, &to)) {
                told.push(to);
            }
        }
        told.iter().for_each(|to| to.control.call_ready(false));
    }

    fn all_is_out(&mut self) {
        // Not before what goes through the host has got there: others open this kernel's link without its port.
        if self.lane.layout.is_routed {
            self.lane.links.set_passed(self.lane.next_position());
        }
    }

    fn close(&mut self) {
        self.lane.links.close();
    }

    fn recall(&mut self, deadline: Option<Instant>) -> bool {
        let has_left = self.lane.stop(deadline);
        self.lane.count_own();
        let begun = Instant::now();
        // What it has handled is to be in the books: the kernel before is about to be heard.
        while has_left && self.lane.is_ahead() {
            if passed(deadline) || begun.elapsed() >= PATIENCE {
                return false;
            }
            back_off(begun);
        }
        has_left
    }

    fn detour(&mut self) {
        self.lane.detour();
    }

    fn is_cut_short(&self) -> bool {
        self.lane.is_cut_short()
    }

    fn ran_beside(&self) -> Vec<usize> {
        self.lane.ran_beside()
    }

    fn failure(&self) -> Option<Error> {
        self.lane.gpu.loss()
    }

    fn read_state(&mut self) -> Result<Vec<u8>> {
        if !self.has_state {
            return Ok(Vec::new());
        }
        self.lane.stop_for("read_state", PATIENCE)?;
        self.lane.read_states()
    }

    fn reset_on_fault(&mut self, states: Option<Arc<[u8]>>) -> Result<()> {
        if !self.has_state {
            return Ok(());
        }
        self.lane.stop_for("reset_on_fault", PATIENCE)?;
        self.lane.set_fallback(states.as_deref())
    }
}

impl Drop for CudaPort {
    fn drop(&mut self) {
        self.lane.links.close();
        let Self { lane, tokens, .. } = self;
        let mut enter = |token| tokens.push(token);
        lane.links.tell(&mut enter, &mut |_| ());
        self.pass_on(&mut |_| ());
        self.lane.abandon();
        self.lane.release_tables();
        self.lane.gpu.watch.adopt(self.lane.clone(), self.tokens.drain());
    }
}
