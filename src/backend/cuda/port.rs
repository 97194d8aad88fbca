//! A kernel's port: writes messages into the ring, and watches the place of the next record itself.

use super::lane::{Lane, rest};
use crate::backend::{Completion, Packed, Port, Progress, Strided, Until};
use crate::error::{Error, Result};
use crate::message::Token;
use crate::sync::passed;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A wait for the device that nobody gave a deadline ends after so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// A kernel is looked after this often while its port is waited at.
const LOOK: Duration = Duration::from_micros(100);

/// Tokens of messages that came together: they count up.
struct Tokens {
    first: Token,
    count: usize,
    /// The results may be handed out together, too.
    are_run: bool,
}

/// See the module.
pub(super) struct CudaPort {
    lane: Arc<Lane>,
    /// Of the messages in the port, in order; none is of no message.
    tokens: VecDeque<Tokens>,
    /// Of the record in hand, or of the replies of a run.
    words: Vec<u32>,
    has_state: bool,
}

impl CudaPort {
    pub fn new(lane: Arc<Lane>) -> Self {
        let has_state = lane.layout.state_words > 0;
        Self { lane, tokens: VecDeque::new(), words: Vec::new(), has_state }
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
                if self.lane.count_waiting() {
                    // Whoever waits for room in the queue is told when the port is let go.
                    return false;
                }
            }
            rest(begun);
        }
    }

    /// The tokens of so many messages that are over.
    fn end(&mut self, count: usize) -> Token {
        let front = self.tokens.front_mut().expect("a token for each message");
        let first = front.first;
        (front.first, front.count) = (first + count as u64, front.count - count);
        if front.count == 0 {
            self.tokens.pop_front();
        }
        first
    }

    /// Hands out what there is of a run, up to a fault; `false` if there is nothing, or if none is next.
    fn pop_run(&mut self, sink: &mut dyn FnMut(Completion<'_>)) -> bool {
        let Some(&Tokens { count, are_run: true, .. }) = self.tokens.front() else { return false };
        let count = self.lane.take_replies(count, &mut self.words);
        if count == 0 {
            return false;
        }
        let first = self.end(count);
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
        self.lane.layout.places() - self.lane.pending()
    }

    fn push(&mut self, batch: &mut dyn Iterator<Item = (Token, &[u8])>) {
        let tokens = &mut self.tokens;
        self.lane.write(batch.map(|(first, message)| {
            tokens.push_back(Tokens { first, count: 1, are_run: false });
            message
        }));
        self.lane.count_waiting();
    }

    // There is no doorbell behind it: a kernel on the device begins by itself, while the layer above still hands out what
    // came back before.
    fn push_run(&mut self, first: Token, messages: &Arc<dyn Packed>, range: Range<usize>, size: usize) {
        let bytes = &messages.bytes()[range.start * size..range.end * size];
        let count = match size {
            0 => self.lane.write(range.map(|_| &[][..])),
            _ => self.lane.write(bytes.chunks_exact(size)),
        };
        if count > 0 {
            self.tokens.push_back(Tokens { first, count, are_run: self.lane.layout.has_runs() });
        }
        self.lane.count_waiting();
    }

    fn progress(&mut self, until: &Until<'_>) -> Progress {
        if self.tokens.is_empty() || !self.lane.want() || self.lane.gpu.is_lost() {
            return self.news();
        }
        let is_there = match until.patience {
            Some(is_over) => self.wait(until, is_over),
            None => self.lane.has_news(),
        };
        if is_there || self.lane.gpu.is_lost() {
            return self.news();
        }
        self.lane.count_waiting();
        self.lane.gpu.watch.add(&self.lane);
        Progress::UnderWay
    }

    fn pop(&mut self, sink: &mut dyn FnMut(Completion<'_>)) {
        // Nobody makes progress while a stop is asked for, and the watch forgets whom it has told, if only that a message
        // has begun: what a handler still comes to has to be told, too. Asked before the records are looked at: a kernel
        // that has left by now has written them all.
        let is_owed = self.lane.control.stop_requested() && !self.tokens.is_empty() && self.lane.is_running();
        loop {
            if self.pop_run(sink) {
                continue;
            }
            // One by one: what is no run, and a fault in one.
            if !self.lane.take(&mut self.words) {
                break;
            }
            let token = self.end(1);
            self.lane.hand_out(token, &self.words, sink);
        }
        self.lane.count_waiting();
        if is_owed {
            self.lane.gpu.watch.add(&self.lane);
        }
    }

    fn clear(&mut self) {
        if !self.lane.stop(Some(Instant::now() + PATIENCE)) {
            self.lane.gpu.lose("a resident kernel", &"it does not stop");
        }
        self.lane.forget();
        self.tokens.clear();
        self.lane.count_waiting();
    }

    fn recall(&mut self, deadline: Option<Instant>) -> bool {
        let has_left = self.lane.stop(deadline);
        self.lane.count_waiting();
        has_left
    }

    fn is_cut_short(&self) -> bool {
        self.lane.is_cut_short()
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
        self.lane.abandon();
        self.lane.gpu.watch.adopt(self.lane.clone());
    }
}
