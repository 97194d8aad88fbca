//! The port of a kernel with tables: it has its buffers' leases, and tells them when messages run that may write them.

use super::lease::Lease;
use crate::backend::{Completion, DeviceInlet, One, Packed, Port, Progress, Until};
use crate::error::{Error, Result};
use crate::message::Token;
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// The leases of a kernel, and whether it runs messages.
struct Leases {
    leases: Vec<Lease>,
    runs: Cell<bool>,
}

impl Leases {
    fn begin(&self) {
        if !self.runs.replace(true) {
            self.leases.iter().for_each(Lease::begin);
        }
    }

    fn end(&self) {
        if self.runs.replace(false) {
            self.leases.iter().for_each(Lease::end);
        }
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        self.end();
    }
}

/// See the module.
pub(crate) struct LeasedPort {
    /// Dropped first: the buffers stay until the port has left them.
    port: Box<dyn Port>,
    leases: Leases,
    /// Handlers run inside the port's calls and nowhere else.
    runs_here: bool,
    /// Messages in the port whose completion has not been handed out.
    inside: usize,
}

impl LeasedPort {
    pub(crate) fn new(port: Box<dyn Port>, leases: Vec<Lease>, runs_here: bool) -> Self {
        Self { port, leases: Leases { leases, runs: Cell::new(false) }, runs_here, inside: 0 }
    }
}

/// Messages whose end this is.
fn ends(completion: &Completion<'_>) -> usize {
    match completion {
        Completion::Emit { .. }
        | Completion::Arrived { .. }
        | Completion::LinkOver { .. }
        | Completion::Passed { .. } => 0,
        Completion::Handled { .. } | Completion::Faulted { .. } => 1,
        Completion::Run { replies, .. } => replies.count,
    }
}

// A method that is not passed on would do nothing, and nobody would notice.
#[deny(clippy::missing_trait_methods)]
impl Port for LeasedPort {
    fn engine(&self) -> &'static str {
        self.port.engine()
    }

    fn free(&self) -> usize {
        self.port.free()
    }

    fn push(&mut self, batch: &mut dyn Iterator<Item = (Token, &[u8])>) {
        let Self { port, leases, runs_here, inside } = self;
        port.push(&mut batch.inspect(|_| {
            *inside += 1;
            if !*runs_here {
                // Before the device can have it.
                leases.begin();
            }
        }));
    }

    fn exchange<'a>(
        &mut self,
        batch: &mut dyn Iterator<Item = (Token, &'a [u8])>,
        until: &Until<'_>,
        sink: &mut dyn FnMut(Completion<'_>),
    ) -> usize {
        let Self { port, leases, .. } = self;
        let (leases, given, ended) = (&*leases, Cell::new(0), Cell::new(0));
        let mut batch = batch.inspect(|_| {
            given.set(given.get() + 1);
            leases.begin();
        });
        let taken = port.exchange(&mut batch, until, &mut |completion| {
            ended.set(ended.get() + ends(&completion));
            if ended.get() == given.get() {
                // Before anybody hears of it, and looks at the buffer.
                leases.end();
            }
            sink(completion);
        });
        leases.end();
        taken
    }

    fn exchange_one(&mut self, token: Token, message: &[u8], until: &Until<'_>, reply: &mut [u8]) -> One {
        self.leases.begin();
        let ended = self.port.exchange_one(token, message, until, reply);
        let is_inside = matches!(ended, One::Interrupted | One::NotBegun);
        self.inside += usize::from(is_inside);
        if self.runs_here || !is_inside {
            self.leases.end();
        }
        ended
    }

    fn push_run(&mut self, first: Token, messages: &Arc<dyn Packed>, range: Range<usize>, size: usize) {
        self.inside += range.len();
        if !self.runs_here && !range.is_empty() {
            self.leases.begin();
        }
        self.port.push_run(first, messages, range, size);
    }

    fn begin(&mut self) -> bool {
        if !self.runs_here && self.inside > 0 {
            self.leases.begin();
        }
        self.port.begin()
    }

    fn progress(&mut self, until: &Until<'_>) -> Progress {
        if self.inside > 0 {
            self.leases.begin();
        }
        let progress = self.port.progress(until);
        if self.runs_here {
            self.leases.end();
        }
        progress
    }

    fn pop(&mut self, sink: &mut dyn FnMut(Completion<'_>)) {
        let Self { port, leases, inside, .. } = self;
        port.pop(&mut |completion| {
            *inside = inside.saturating_sub(ends(&completion));
            if *inside == 0 {
                // Before anybody hears of it, as above.
                leases.end();
            }
            sink(completion);
        });
    }

    fn read_state(&mut self) -> Result<Vec<u8>> {
        self.port.read_state()
    }

    fn reset_on_fault(&mut self, states: Option<Arc<[u8]>>) -> Result<()> {
        self.port.reset_on_fault(states)
    }

    fn recall(&mut self, deadline: Option<Instant>) -> bool {
        let is_back = self.port.recall(deadline);
        if is_back {
            // What is in the port has not begun, or is over.
            self.leases.end();
        }
        is_back
    }

    fn detour(&mut self) {
        self.port.detour();
    }

    fn overlaps(&self) -> bool {
        self.port.overlaps()
    }

    /// None: a round that brings messages over a link begins without anybody to tell the leases. So what goes over links to
    /// a kernel with tables goes through the host on every device.
    fn inlet(&self) -> Option<Arc<dyn DeviceInlet>> {
        None
    }

    fn pass_on(&mut self, sink: &mut dyn FnMut(Completion<'_>)) {
        self.port.pass_on(sink);
    }

    fn all_is_out(&mut self) {
        self.port.all_is_out();
    }

    fn close(&mut self) {
        self.port.close();
    }

    /// Nothing: what the port has begins with the next [`progress`](Self::progress), which tells the leases; on a device that
    /// others keep busy it might otherwise begin, and end, between two looks at a buffer.
    fn resume(&mut self) {}

    fn is_cut_short(&self) -> bool {
        self.port.is_cut_short()
    }

    fn ran_beside(&self) -> Vec<usize> {
        self.port.ran_beside()
    }

    fn failure(&self) -> Option<Error> {
        self.port.failure()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::{Mutex, lock};

    /// Writes down what reaches it.
    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<&'static str>>>);

    impl Recorder {
        fn note(&self, what: &'static str) {
            lock(&self.0).push(what);
        }
    }

    impl Port for Recorder {
        fn engine(&self) -> &'static str {
            "recorder"
        }
        fn free(&self) -> usize {
            1
        }
        fn push(&mut self, _: &mut dyn Iterator<Item = (Token, &[u8])>) {}
        fn progress(&mut self, _: &Until<'_>) -> Progress {
            Progress::Done
        }
        fn pop(&mut self, _: &mut dyn FnMut(Completion<'_>)) {}
        fn read_state(&mut self) -> Result<Vec<u8>> {
            Ok(Vec::new())
        }
        fn reset_on_fault(&mut self, _: Option<Arc<[u8]>>) -> Result<()> {
            Ok(())
        }
        fn recall(&mut self, _: Option<Instant>) -> bool {
            self.note("recall");
            true
        }
        fn detour(&mut self) {
            self.note("detour");
        }
        fn resume(&mut self) {
            self.note("resume");
        }
        fn pass_on(&mut self, _: &mut dyn FnMut(Completion<'_>)) {
            self.note("pass_on");
        }
        fn all_is_out(&mut self) {
            self.note("all_is_out");
        }
        fn close(&mut self) {
            self.note("close");
        }
    }

    #[test]
    fn what_is_asked_of_the_port_reaches_it_but_what_would_begin_untold() {
        let recorder = Recorder::default();
        let mut port = LeasedPort::new(Box::new(recorder.clone()), Vec::new(), false);
        assert!(port.recall(None));
        port.detour();
        port.resume();
        port.pass_on(&mut |_| ());
        port.all_is_out();
        port.close();
        let all = ["recall", "detour", "pass_on", "all_is_out", "close"];
        assert_eq!(*lock(&recorder.0), all);
    }
}
