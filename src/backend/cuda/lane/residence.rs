//! Whether a kernel is on the device: starts it, notices that it has left, and has it leave.

use super::{BEGUN, EPOCH, HEAD, LEAVE_AT, Lane, REASON, RINGS_AT, Run, STOP_AT};
use crate::backend::cuda::driver::{self, Refusal};
use crate::backend::cuda::gpu::WAY;
use crate::backend::cuda::layout::{
    EXIT_FAULT, EXIT_IDLE, EXIT_INTERRUPTED, GO_ON, HEARTBEAT, LEAVE, Launch, STOP, Table,
};
use crate::backend::cuda::pulse::{MOST_DEAF, Pulse};
use crate::backend::cuda::room::Who;
use crate::backend::cuda::storage::CudaStorage;
use crate::backend::{STOP_AFTER_MESSAGE, STOP_NOW};
use crate::error::{Error, Result};
use crate::sync::{back_off, lock, passed};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A kernel with nothing to do leaves after so long: looking into an empty ring takes a part of the device, and of the
/// bus. To start it again costs some microseconds.
pub(in crate::backend::cuda) const IDLE: Duration = Duration::from_millis(100);
/// Where others wait for room on the device, a busy one stays at least so long.
const TURN: Duration = Duration::from_millis(10);
/// How often the driver is asked whether a kernel is still there.
const LIVENESS: Duration = Duration::from_millis(1);
/// The driver notices by then that a kernel has left, as a rule.
const OVER: Duration = Duration::from_micros(20);
/// A kernel that is started only to be stopped has left by then.
const WARM_UP: Duration = Duration::from_secs(5);

impl Lane {
    pub fn is_running(&self) -> bool {
        let mut run = lock(&self.run);
        self.note_exit(&mut run);
        run.is_running
    }

    /// Takes note of the kernel's leaving.
    pub(super) fn note_exit(&self, run: &mut Run) {
        if !run.is_running {
            return;
        }
        if self.gpu.is_lost() {
            self.set_running(run, false);
            return;
        }
        let left = self.host.words(LEAVE_AT, 4);
        // Acquire pairs with the device's release: all it wrote before it left is there.
        if left[EPOCH].load(Ordering::Acquire) != run.epoch {
            return;
        }
        self.set_running(run, false);
        let word = |at: usize| u64::from(left[at].load(Ordering::Relaxed));
        run.first = word(HEAD) | word(HEAD + 1) << 32;
        let reason = left[REASON].load(Ordering::Relaxed);
        run.is_cut_short = reason == EXIT_INTERRUPTED;
        run.has_faulted = reason == EXIT_FAULT;
        if run.is_cut_short {
            // It stays: the next launch may have to leave before it comes to them.
            run.again = (run.first + u64::from(self.batch)).min(self.tail.load(Ordering::Relaxed));
        }
        // What a fault means for those behind it, the layer above decides: it says so by making progress, which it may
        // have done already, if it saw the record before this.
        run.is_wanted &= reason != EXIT_FAULT || run.taken == run.first;
        if self.control.stop_requested() || reason == EXIT_FAULT && !run.is_wanted {
            self.call_off_rest(run);
        }
        // What was written before a launch is there for it. One look too early is forgiven.
        let is_deaf = reason == EXIT_IDLE && run.first < run.due;
        run.deaf = if is_deaf { run.deaf + 1 } else { 0 };
        if run.deaf >= MOST_DEAF {
            self.gpu.lose(
                "a resident kernel",
                &"it does not see messages that were written before it was started",
            );
        }
    }

    /// Nobody on the device is to wait for what has not been begun.
    fn call_off_rest(&self, run: &mut Run) {
        debug_assert!(!run.is_running);
        if let Some(position) = self.call_off(run.first, run.again) {
            run.routed = position;
        }
    }

    /// What it has not begun emits through the host; it has [left](Self::stop).
    pub fn detour(&self) {
        let mut run = lock(&self.run);
        if !run.is_running && !self.gpu.is_lost() {
            // Before it is looked at what has a way: one that is not entered yet is not any more, for its places have been
            // given out before anybody asked where it leads.
            self.take_detour(self.tail());
            self.call_off_rest(&mut run);
        }
    }

    /// Has the kernel, which has left, handled messages of which nobody has heard?
    pub fn is_ahead(&self) -> bool {
        let first = lock(&self.run).first;
        !self.gpu.is_lost() && self.links.is_unknown_before(first)
    }

    /// Is it to run when there are messages?
    pub fn is_wanted(&self) -> bool {
        lock(&self.run).is_wanted
    }

    fn set_running(&self, run: &mut Run, is_running: bool) {
        debug_assert_ne!(run.is_running, is_running);
        run.is_running = is_running;
        if !is_running {
            self.bell.give_back();
            self.gpu.give_room_of(self.part);
        }
    }

    /// The port wants its messages handled from now on; `false` if there is something to take first.
    pub fn want(&self) -> bool {
        let mut run = lock(&self.run);
        self.note_exit(&mut run);
        // Behind the look at whether it has left: a fault is taken before anything behind it begins.
        if self.has_news() {
            return false;
        }
        let taken = self.next.load(Ordering::Relaxed);
        if !run.is_running && run.has_faulted && taken < run.first {
            // Its record is there, but the kernel before has not been heard: whoever hears it looks again.
            return true;
        }
        let was_wanted = std::mem::replace(&mut run.is_wanted, true);
        run.taken = taken;
        if run.is_running && !was_wanted && !self.control.stop_requested() {
            self.take_back(&run);
        }
        self.look(&mut run);
        true
    }

    /// A kernel that was asked to stop, and may not have seen it, is to go on, unless somebody else wants it to leave. If
    /// it has seen it, it is started again.
    fn take_back(&self, run: &Run) {
        debug_assert!(run.is_running);
        if let Ok(_gate) = self.gpu.gate.try_read()
            && self.holds.load(Ordering::SeqCst) == 0
        {
            self.stop_word().store(GO_ON, Ordering::Relaxed);
        }
    }

    /// Looks after the kernel: starts it if it has to be there, and asks now and then whether it still is.
    pub fn tend(&self) {
        let mut run = lock(&self.run);
        self.note_exit(&mut run);
        self.look(&mut run);
    }

    fn look(&self, run: &mut Run) {
        if self.gpu.is_lost() {
            return;
        }
        if run.is_running {
            self.pass_stop_on();
            if run.asked.elapsed() >= LIVENESS {
                run.asked = Instant::now();
                self.ask_driver(run);
                self.feel_pulse(run);
            }
            return;
        }
        if self.control.stop_requested() {
            self.call_off_rest(run);
            return;
        }
        let has_messages = self.tail.load(Ordering::Relaxed) > run.first;
        if run.is_wanted && has_messages {
            self.start(run);
        }
    }

    /// What lifecycle calls ask for, the device is to know: whoever asks may not get hold of the port.
    fn pass_stop_on(&self) {
        // Relaxed, all of it: the word only hastens what is then waited for.
        let asked = self.control.stop.load(Ordering::Relaxed);
        if asked >= STOP_AFTER_MESSAGE {
            let word = if asked >= STOP_NOW { LEAVE } else { STOP };
            self.stop_word().fetch_max(word, Ordering::Relaxed);
        }
    }

    /// A kernel whose stream is over without its having left as it should has been ended by something else.
    fn ask_driver(&self, run: &mut Run) {
        // What is done quietly may wait for this kernel in the driver, which keeps other calls waiting as long: with `run`
        // locked nobody could have the kernel leave.
        let Ok(_gate) = self.gpu.gate.try_read() else { return };
        if self.gpu.bind().is_err() {
            return;
        }
        // SAFETY: the stream is this kernel's.
        match unsafe { driver::is_over(self.stream.0) } {
            Ok(false) => self.bell.tend(&self.gpu, self.tail()),
            Ok(true) => {
                self.note_exit(run);
                if run.is_running {
                    self.gpu.lose("a resident kernel", &"it came to an end by itself");
                }
            }
            Err(refusal) => _ = self.gpu.lose("a resident kernel", &refusal),
        }
    }

    /// A kernel that has not shown for some seconds that it runs has hung, and the device with it.
    fn feel_pulse(&self, run: &mut Run) {
        if !run.is_running {
            return;
        }
        let beat = self.heartbeat();
        // Relaxed: as that.
        let begun = self.host.words(LEAVE_AT, 5)[BEGUN].load(Ordering::Relaxed);
        let may_be_silent = if beat == 0 {
            // Dispatches may have the whole device.
            let is_dispatched = self.gpu.dispatches.load(Ordering::Relaxed) > 0;
            if !is_dispatched && run.started.elapsed() > WAY {
                // It may be behind others in a queue, or there is less room than it seemed.
                self.gpu.make_way();
            }
            is_dispatched
        } else {
            // As far as is known, a handler runs.
            !self.counts_loops && begun != self.next.load(Ordering::Relaxed) as u32
        };
        if run.pulse.has_stopped([beat, begun], may_be_silent, Instant::now()) {
            let what = if beat == 0 { "it does not begin" } else { "it hangs: its heartbeat has stopped" };
            self.gpu.lose("a resident kernel", &what);
        }
    }

    /// Has the driver noticed that the kernel has left? Until then the next launch would wait for that in one of the driver's
    /// queues, behind kernels of other streams that share it and stay. It takes some microseconds.
    fn is_over(&self) -> bool {
        let begun = Instant::now();
        loop {
            // SAFETY: the stream is this kernel's.
            match unsafe { driver::is_over(self.stream.0) } {
                Ok(false) if begun.elapsed() < OVER => std::hint::spin_loop(),
                Ok(is_over) => return is_over,
                Err(refusal) => {
                    self.gpu.lose("a resident kernel", &refusal);
                    return false;
                }
            }
        }
    }

    fn start(&self, run: &mut Run) {
        // Somebody does something quietly, or wants the tables for itself: whoever looks after this looks again.
        let Ok(_gate) = self.gpu.gate.try_read() else { return };
        // SeqCst pairs with `hold`: either this is seen to run there, or the hold here.
        if self.holds.load(Ordering::SeqCst) > 0 || self.gpu.bind().is_err() || !self.is_over() {
            return;
        }
        if !self.gpu.has_room_for(Who::Kernel, self.part) {
            return;
        }
        if let Some(ingress) = self.gpu.ingress_beside_many() {
            self.bell.take(&self.gpu, ingress);
            self.bell.ring(self.tail());
        }
        if let Err(refusal) = self.begin(run, GO_ON) {
            self.gpu.lose("a resident kernel does not start", &refusal);
        }
    }

    /// Runs the code for the first time, to no purpose but that the driver gives it what it needs: that may wait for
    /// kernels.
    pub(super) fn warm_up(&self) -> Result<()> {
        let begins = || {
            self.gpu.bind()?;
            self.gpu.take_room_for(self.part);
            let mut run = lock(&self.run);
            let begun = self.begin(&mut run, STOP);
            begun.map_err(|refusal| self.gpu.refused("a resident kernel does not start", refusal))
        };
        if !self.code.is_warm.load(Ordering::Relaxed) {
            self.gpu.quietly(begins)?;
            self.stop_for("launch", WARM_UP)?;
            self.code.is_warm.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Starts the kernel, for which there is room, with this stop word.
    fn begin(&self, run: &mut Run, stop: u32) -> std::result::Result<(), Refusal> {
        run.epoch = run.epoch.wrapping_add(1).max(1);
        self.stop_word().store(stop, Ordering::Relaxed);
        self.host.words(LEAVE_AT, 5)[BEGUN].store(run.first as u32, Ordering::Relaxed);
        self.host.words(STOP_AT, HEARTBEAT + 1)[HEARTBEAT].store(0, Ordering::Relaxed);
        let linked = self.links.ring();
        // What other kernels have not written yet is not there.
        run.due = if self.links.are_awaited() { run.first } else { self.tail.load(Ordering::Relaxed) };
        let mut tables = [Table::default(); crate::compile::MOST_TABLES];
        for (table, bound) in tables.iter_mut().zip(&*lock(&self.tables)) {
            *table = CudaStorage::of(bound).table();
        }
        let mut launch = Launch {
            input: self.host.address(RINGS_AT),
            output: self.host.address(self.output_at()),
            states: self.states.address,
            fallback: run.fallback.as_ref().map_or(0, |memory| memory.address),
            stop: self.host.address(STOP_AT),
            leave: self.host.address(LEAVE_AT),
            first: run.first,
            again: run.again,
            idle_ns: IDLE.as_nanos() as u64,
            shift: self.layout.shift,
            epoch: run.epoch,
            linked,
            routes: self.host.address(if self.layout.is_routed { self.routes_at() } else { STOP_AT }),
            routed: run.routed,
            bell: self.bell.address(),
            tables,
        };
        // SAFETY: the code takes this parameter; what it points to is this lane's, which stays until the kernel has left.
        let started = unsafe { driver::launch(self.code.function.0, self.block, self.stream.0, &mut launch) };
        if let Err(refusal) = started {
            self.bell.give_back();
            self.gpu.give_room_of(self.part);
            return Err(refusal);
        }
        self.set_running(run, true);
        run.is_cut_short = false;
        run.has_faulted = false;
        run.started = Instant::now();
        run.asked = run.started;
        run.pulse = Pulse::new(run.started);
        Ok(())
    }

    /// Asks the kernel to begin no more messages, for whatever reason; it is started again if it is wanted.
    pub fn ask_to_stop(&self) {
        // Relaxed: the word only hastens what is then waited for.
        self.stop_word().fetch_max(STOP, Ordering::Relaxed);
    }

    /// Has it been on the device for as long as it may while others wait? One that waits to begin has not.
    pub fn had_turn(&self) -> bool {
        let is_long_ago = lock(&self.run).started.elapsed() >= TURN;
        is_long_ago && self.heartbeat() != 0
    }

    /// Another number from time to time; 0 until the kernel has begun.
    fn heartbeat(&self) -> u32 {
        // Relaxed: a sign that may come late.
        self.host.words(STOP_AT, HEARTBEAT + 1)[HEARTBEAT].load(Ordering::Relaxed)
    }

    /// Has the kernel leave the device; `false` if it is still there at the deadline. What the stop word of the port says
    /// meanwhile goes on to the device.
    pub fn stop(&self, deadline: Option<Instant>) -> bool {
        let begun = Instant::now();
        loop {
            let mut run = lock(&self.run);
            run.is_wanted = false;
            self.note_exit(&mut run);
            if !run.is_running {
                if self.control.stop_requested() && !self.gpu.is_lost() {
                    self.call_off_rest(&mut run);
                }
                return true;
            }
            self.look(&mut run);
            drop(run);
            self.ask_to_stop();
            if passed(deadline) {
                return false;
            }
            back_off(begun);
        }
    }

    /// As [`stop`](Self::stop), with an error.
    pub fn stop_for(&self, call: &str, patience: Duration) -> Result<()> {
        if self.stop(Some(Instant::now() + patience)) {
            return self.gpu.loss().map_or(Ok(()), Err);
        }
        Err(Error::timed_out(format!("{call} of a kernel whose handler runs"), patience))
    }

    /// Nobody wants anything of it any more: it leaves as soon as it can.
    pub fn abandon(&self) {
        lock(&self.run).is_wanted = false;
        self.stop_word().store(LEAVE, Ordering::Relaxed);
    }

    /// Lets go of the tables, unless the kernel is on the device: then they are kept until the lane is dropped. The port is
    /// gone, so that it is not started again.
    pub fn release_tables(&self) {
        if lock(&self.tables).is_empty() || self.is_running() {
            return;
        }
        // For whoever gets their memory next. A device that does not get there is lost, and its memory with it.
        _ = self.wait_for_stream();
        let tables = std::mem::take(&mut *lock(&self.tables));
        drop(tables);
    }

    /// Keeps the kernel off the device until [`let_go`](Self::let_go); `false`, and it is let go, if it is still there at
    /// the deadline.
    pub fn hold(&self, deadline: Instant) -> bool {
        // SeqCst: as in `start`.
        self.holds.fetch_add(1, Ordering::SeqCst);
        let begun = Instant::now();
        while self.is_running() {
            self.ask_to_stop();
            if Instant::now() >= deadline {
                self.let_go();
                return false;
            }
            self.tend();
            back_off(begun);
        }
        true
    }

    pub fn let_go(&self) {
        self.holds.fetch_sub(1, Ordering::SeqCst);
    }
}
