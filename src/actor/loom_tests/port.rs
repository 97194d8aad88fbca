//! The port of a model: a queue, a plain function, and a log that only the gate protects.

use super::{Number, reply_to};
use crate::backend::{Completion, Fault, Port, PortControl, Progress, STOP_NOW, Until};
use crate::error::Result;
use crate::message::Token;
use crate::sync::Guarded;
use loom::sync::atomic::{AtomicBool, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;

/// The handler faults on this value.
pub(super) const FAULTY: u32 = 13;

/// What the handler saw.
#[derive(Clone)]
pub(super) struct Log(Arc<Inner>);

struct Inner {
    /// A handler runs.
    running: AtomicBool,
    /// None may.
    forbidden: AtomicBool,
    values: Guarded<Vec<u32>>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            running: AtomicBool::new(false),
            forbidden: AtomicBool::new(false),
            values: Guarded::new(Vec::new()),
        }))
    }

    /// From now on, running a handler is an error, or none any more.
    pub(super) fn forbid(&self, forbidden: bool) {
        self.0.forbidden.store(forbidden, Ordering::SeqCst);
    }

    /// One message.
    pub(super) fn handle(&self, value: u32) {
        // Relaxed: what orders one handler against the next must be the kernel's own protocol.
        assert!(!self.0.running.swap(true, Ordering::Relaxed), "two handlers at a time");
        assert!(!self.0.forbidden.load(Ordering::SeqCst), "a handler runs in a kernel that is not active");
        // SAFETY: loom checks that it is so.
        unsafe { self.0.values.with(|values| values.push(value)) };
        self.0.running.store(false, Ordering::Relaxed);
    }

    /// The values handled so far, sorted. Only when no handler can run.
    pub(super) fn sorted(&self) -> Vec<u32> {
        // SAFETY: loom checks that it is so.
        let mut values = unsafe { self.0.values.with(|values| values.clone()) };
        values.sort_unstable();
        values
    }

    /// The values handled so far, in their order. Only when no handler can run.
    pub(super) fn in_order(&self) -> Vec<u32> {
        // SAFETY: loom checks that it is so.
        unsafe { self.0.values.with(|values| values.clone()) }
    }
}

pub(super) struct ModelPort {
    input: VecDeque<(Token, u32)>,
    output: VecDeque<(Token, std::result::Result<u32, Fault>)>,
    control: Arc<PortControl>,
    log: Log,
    interruptions: usize,
    outputs: usize,
}

/// Messages the port takes at once.
const ROUND: usize = 2;

impl ModelPort {
    pub(super) fn new(control: Arc<PortControl>, log: Log, interruptions: usize, outputs: usize) -> Self {
        Self { input: VecDeque::new(), output: VecDeque::new(), control, log, interruptions, outputs }
    }

    fn set_waiting(&self, waiting: usize) {
        self.control.waiting.store(waiting, std::sync::atomic::Ordering::Release);
    }
}

impl Port for ModelPort {
    fn engine(&self) -> &'static str {
        "model"
    }

    fn free(&self) -> usize {
        ROUND - self.input.len() - self.output.len()
    }

    fn push(&mut self, batch: &mut dyn Iterator<Item = (Token, &[u8])>) {
        for (token, message) in batch {
            assert!(self.free() > 0);
            self.input.push_back((token, bytemuck::pod_read_unaligned::<Number>(message).value));
        }
        self.set_waiting(self.input.len());
    }

    fn exchange<'a>(
        &mut self,
        batch: &mut dyn Iterator<Item = (Token, &'a [u8])>,
        until: &Until,
        sink: &mut dyn FnMut(Completion<'_>),
    ) -> usize {
        let mut taken = 0;
        for (index, message) in batch.enumerate() {
            self.push(&mut std::iter::once(message));
            let progress = self.progress(until);
            let has_begun = progress != Progress::Stopped || !self.output.is_empty();
            self.pop(sink);
            if progress != Progress::Done {
                self.input.clear();
                self.set_waiting(0);
                return index + usize::from(has_begun);
            }
            taken = index + 1;
        }
        taken
    }

    fn progress(&mut self, until: &Until) -> Progress {
        while let Some(&(token, value)) = self.input.front() {
            if !self.control.begin(self.input.len() - 1) {
                return Progress::Stopped;
            }
            let stop = self.control.stop.load(std::sync::atomic::Ordering::Relaxed);
            if self.interruptions > 0 && (until.limits.slice.is_some() || stop >= STOP_NOW) {
                self.interruptions -= 1;
                return Progress::Interrupted;
            }
            self.input.pop_front();
            if value == FAULTY {
                self.output.push_back((token, Err(Fault::LoopBudget)));
                return Progress::Stopped;
            }
            self.log.handle(value);
            self.output.push_back((token, Ok(value)));
            if until.token == Some(token) {
                break;
            }
        }
        Progress::Done
    }

    fn pop(&mut self, sink: &mut dyn FnMut(Completion<'_>)) {
        for (token, result) in self.output.drain(..) {
            match result {
                Ok(value) => {
                    let reply = Number { value: reply_to(value) };
                    let bytes = bytemuck::bytes_of(&reply);
                    for output in 0..self.outputs {
                        sink(Completion::Emit { token, output, value: bytes });
                    }
                    sink(Completion::Handled { token, reply: bytes });
                }
                Err(fault) => sink(Completion::Faulted { token, fault }),
            }
        }
    }

    fn read_state(&mut self) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn reset_on_fault(&mut self, _: Option<Arc<[u8]>>) -> Result<()> {
        Ok(())
    }
}
