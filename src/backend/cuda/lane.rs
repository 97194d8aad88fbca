//! A kernel on the device: its rings and states, and whether it is there.
//!
//! A resident kernel is started when there are messages, and leaves when it is asked to, when a message faulted, or when
//! there was nothing to do for a while; then whoever looks after it starts it again as soon as there is. What it had not
//! begun lies in the ring, and what it had lies in the other one: neither leaving nor coming back moves anything.

use super::driver::{self, Block, CUstream, Refusal};
use super::gpu::{DeviceMemory, Gpu, HostMemory, Shared};
use super::kernel::Code;
use super::layout::{
    EXIT_FAULT, EXIT_IDLE, EXIT_INTERRUPTED, GO_ON, HEARTBEAT, LANES, LEAVE, Launch, Layout, ROUTE_WORDS,
    ROUTES, STOP, Table,
};
use super::link::{Links, Next};
use super::pulse::{MOST_DEAF, Pulse};
use super::room::Part;
use super::storage::CudaStorage;
use crate::backend::{DeviceStorage, LaunchSpec, PortControl, STOP_AFTER_MESSAGE, STOP_NOW, Shape};
use crate::error::{Error, Result};
use crate::message::Token;
use crate::sync::{Mutex, lock, passed};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A kernel with nothing to do leaves after so long: looking into an empty ring takes a part of the device, and of the
/// bus. To start it again costs some microseconds.
const IDLE: Duration = Duration::from_millis(100);
/// Where others wait for room on the device, a busy one stays at least so long.
const TURN: Duration = Duration::from_millis(10);
/// How often the driver is asked whether a kernel is still there.
const LIVENESS: Duration = Duration::from_millis(1);

/// Blocks as large as a kernel's that a multiprocessor has room for, at least, if it has more than one warp: large ones
/// find none so easily, and leave none.
const NEIGHBOURS: u32 = 4;

/// A kernel that is started only to be stopped has left by then.
const WARM_UP: Duration = Duration::from_secs(5);

/// Places in the host memory of a kernel: what the host writes, what the device writes, each far from the other, and the
/// two rings.
const STOP_AT: usize = 0;
const LEAVE_AT: usize = 256;
const RINGS_AT: usize = 512;

/// Words of what the device leaves behind.
const HEAD: usize = 0;
const REASON: usize = 2;
const EPOCH: usize = 3;
/// All messages before this position have been begun; written as they are.
const BEGUN: usize = 4;

/// Whether the kernel is on the device.
struct Run {
    is_running: bool,
    /// Of the last launch.
    epoch: u32,
    started: Instant,
    asked: Instant,
    /// It is to be started when there are messages.
    is_wanted: bool,
    /// All records before this position had been taken when the port last wanted it.
    taken: u64,
    /// Where it begins when it is started.
    first: u64,
    /// Messages before this position may be over although one before them is not.
    again: u64,
    /// The message at `first` was left in the middle.
    is_cut_short: bool,
    /// What messages before this position emit goes through the host.
    routed: u64,
    fallback: Option<DeviceMemory>,
    pulse: Pulse,
    /// Messages before this position had been written when it was last started.
    due: u64,
    /// How often in a row it left without having seen any of those.
    deaf: u32,
}

/// See the module.
pub(super) struct Lane {
    pub gpu: Arc<Gpu>,
    code: Arc<Code>,
    pub layout: Layout,
    host: HostMemory,
    states: DeviceMemory,
    states_size: usize,
    stream: Shared<CUstream>,
    /// What it is launched as, and how much of the device that takes.
    block: Block,
    part: Part,
    /// Messages that it takes at once, at most.
    batch: u32,
    pub control: Arc<PortControl>,
    tables: Vec<Arc<dyn DeviceStorage>>,
    /// Its heart beats in loops, too; what the user wrote in CUDA may have loops of its own.
    counts_loops: bool,
    /// Position of the next message, and of the next record; written by the port.
    tail: AtomicU64,
    next: AtomicU64,
    /// Who wants it off the device for now.
    holds: AtomicUsize,
    pub links: Links,
    run: Mutex<Run>,
}

fn block(layout: &Layout, warps: u32) -> Block {
    Block { threads: warps * LANES, shared: layout.shared(warps) }
}

/// So many warps, or a half of them, and so on, until there is room for some such blocks beside each other.
fn fitting(gpu: &Gpu, code: &Code, layout: &Layout, warps: u32) -> Result<(u32, Part)> {
    gpu.bind()?;
    let halves = std::iter::successors(Some(warps), |warps| (*warps > 1).then_some(warps / 2));
    let mut found = None;
    for warps in halves {
        // SAFETY: the code is loaded.
        let blocks = unsafe { driver::blocks(code.function.0, block(layout, warps)) };
        let blocks = blocks.map_err(|refusal| gpu.refused("the room for a resident kernel", refusal))?;
        found = Some((warps, Part::of(blocks)));
        if blocks >= NEIGHBOURS {
            break;
        }
    }
    Ok(found.expect("a block has at least one warp"))
}

impl Lane {
    /// Everything a kernel needs, with its states as the spec has them, for a block of so many warps, or of fewer if so
    /// many took too much of a multiprocessor. It is not started.
    pub fn new(
        gpu: &Arc<Gpu>,
        code: Arc<Code>,
        layout: Layout,
        warps: u32,
        spec: &LaunchSpec,
    ) -> Result<Arc<Self>> {
        let (warps, part) = fitting(gpu, &code, &layout, warps)?;
        let instances = if let Shape::Instances { count, .. } = spec.shape { count as usize } else { 1 };
        let routes = if layout.is_routed { ROUTES * ROUTE_WORDS } else { 0 };
        let rings = (layout.slot + layout.record) * layout.places();
        let host = gpu.host_memory(RINGS_AT + (rings + routes) * 8)?;
        let onward = spec.onward.first().filter(|_| layout.is_routed).cloned();
        let states_size = spec.initial_state.len() * instances;
        let states = gpu.device_memory(states_size)?;
        let initial = spec.states.clone().unwrap_or_else(|| spec.initial_state.repeat(instances).into());
        gpu.upload(&states, 0, &initial)?;
        let now = Instant::now();
        // Release: as in `count_waiting`. What a port before this one had is with the layer above.
        spec.control.waiting.store(0, Ordering::Release);
        let lane = Arc::new(Self {
            gpu: gpu.clone(),
            code,
            host,
            states,
            states_size,
            stream: gpu.stream()?,
            block: block(&layout, warps),
            part,
            batch: layout.batch(warps),
            control: spec.control.clone(),
            tables: spec.tables.clone(),
            counts_loops: spec.twin.is_none(),
            tail: AtomicU64::new(0),
            next: AtomicU64::new(0),
            holds: AtomicUsize::new(0),
            links: Links::new(onward),
            run: Mutex::new(Run {
                is_running: false,
                epoch: 0,
                started: now,
                asked: now,
                is_wanted: false,
                taken: 0,
                first: 0,
                again: 0,
                is_cut_short: false,
                routed: 0,
                fallback: None,
                pulse: Pulse::new(now),
                due: 0,
                deaf: 0,
            }),
            layout,
        });
        gpu.enter(&lane);
        lane.tables.iter().for_each(|table| CudaStorage::of(table).enter(&lane));
        if let Err(error) = lane.warm_up() {
            lane.abandon();
            gpu.watch.adopt(lane, Vec::new());
            return Err(error);
        }
        Ok(lane)
    }

    pub fn input(&self) -> &[AtomicU64] {
        self.host.granules(RINGS_AT, self.layout.slot * self.layout.places())
    }

    fn output_at(&self) -> usize {
        RINGS_AT + self.layout.slot * self.layout.places() * 8
    }

    pub fn output(&self) -> &[AtomicU64] {
        self.host.granules(self.output_at(), self.layout.record * self.layout.places())
    }

    fn routes_at(&self) -> usize {
        self.output_at() + self.layout.record * self.layout.places() * 8
    }

    /// The table of routes of a kernel that has them.
    pub fn routes(&self) -> &[AtomicU64] {
        self.host.granules(self.routes_at(), ROUTES * ROUTE_WORDS)
    }

    fn stop_word(&self) -> &AtomicU32 {
        &self.host.words(STOP_AT, 1)[0]
    }

    /// Where the next message goes.
    pub fn tail(&self) -> u64 {
        // Relaxed: as in `pending`.
        self.tail.load(Ordering::Relaxed)
    }

    /// Where the next record is.
    pub fn next_position(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Gives the next places to somebody else than the port; under the lock that keeps the port from giving messages.
    pub fn give_out(&self, places: usize) {
        self.tail.store(self.tail() + places as u64, Ordering::Relaxed);
    }

    /// Is there a record in this place, whatever is before it?
    pub fn has_record(&self, position: u64) -> bool {
        self.layout.has_begun(self.output(), position)
    }

    /// Places that have been given to messages, and whose records have not been taken.
    pub fn pending(&self) -> usize {
        // Relaxed: written by the port, read by it, and by others as a hint.
        (self.tail.load(Ordering::Relaxed) - self.next.load(Ordering::Relaxed)) as usize
    }

    /// Has it nothing to do?
    pub fn is_idle(&self) -> bool {
        self.pending() == 0
    }

    /// Writes messages behind those that are there, and returns how many; the port's, which has seen that there are places.
    pub fn write<'a>(&self, messages: impl Iterator<Item = &'a [u8]>, route: u32) -> usize {
        let (input, tail) = (self.input(), self.tail.load(Ordering::Relaxed));
        let mut count = 0;
        for message in messages {
            assert!(self.pending() + count < self.layout.places(), "a full ring was pushed to");
            self.layout.write(input, tail + count as u64, message, route);
            count += 1;
        }
        // Relaxed, and once for all: it is no index that the device sees.
        self.tail.store(tail + count as u64, Ordering::Relaxed);
        count
    }

    /// Is there a record for the port?
    pub fn has_news(&self) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        next < self.tail.load(Ordering::Relaxed)
            && self.layout.has_begun(self.output(), next)
            && self.links.is_settled(next)
    }

    /// Takes the next record, if it is complete; the port's.
    pub fn take(&self, words: &mut Vec<u32>) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        if next == self.tail.load(Ordering::Relaxed) || !self.layout.read(self.output(), next, words) {
            return false;
        }
        self.next.store(next + 1, Ordering::Relaxed);
        true
    }

    /// Takes the replies of up to so many messages, one behind the other, up to one that is not over or has faulted; how
    /// many. The port's, for a kernel that [has runs](Layout::has_runs).
    pub fn take_replies(&self, most: usize, words: &mut Vec<u32>) -> usize {
        let next = self.next.load(Ordering::Relaxed);
        words.clear();
        let count = self.layout.read_replies(self.output(), next, most, words);
        self.next.store(next + count as u64, Ordering::Relaxed);
        count
    }

    /// Enters how many messages have not been begun; `true` if there are fewer than before: then somebody may have room
    /// for one more.
    pub fn count_waiting(&self) -> bool {
        let mut run = lock(&self.run);
        self.note_exit(&mut run);
        if self.gpu.is_lost() {
            // The kernel has another port by now, or will have one that counts from nothing.
            return false;
        }
        let tail = self.tail.load(Ordering::Relaxed);
        // The device may have begun what the port has written and is about to count: then nothing waits.
        let behind = if run.is_running {
            // Relaxed: a count that the device writes, and which is late at worst. Of both only the low words are there.
            let begun = self.host.words(LEAVE_AT, 5)[BEGUN].load(Ordering::Relaxed);
            ((tail as u32).wrapping_sub(begun) as i32).max(0) as u64
        } else {
            tail.saturating_sub(run.first)
        };
        let first = tail - behind;
        let cut_short = usize::from(run.is_cut_short && !run.is_running);
        let unheard = self.links.unheard(first) + cut_short;
        let staged = self.links.staged.load(Ordering::Relaxed);
        let waiting = (behind as usize).saturating_sub(unheard) + staged;
        // Release pairs with the Acquire in the mailbox's count of free places: a place seen free is free. Under the lock:
        // the port's holder counts, and the watch.
        self.control.waiting.swap(waiting, Ordering::Release) > waiting
    }

    /// Was the first message that waits left in the middle?
    pub fn is_cut_short(&self) -> bool {
        lock(&self.run).is_cut_short
    }

    /// As [`Port::ran_beside`](crate::backend::Port::ran_beside).
    pub fn ran_beside(&self) -> Vec<usize> {
        let run = lock(&self.run);
        let mut beside = Vec::new();
        if !run.is_cut_short || run.is_running || self.gpu.is_lost() {
            return beside;
        }
        // What is skipped is no message, and what nobody has heard of is not in the port yet.
        let places = self.next_position()..run.again;
        let places = places.map(|position| (position, self.links.next(position)));
        let known = places.take_while(|(_, next)| *next != Next::Unknown);
        let messages = known.filter(|(_, next)| *next == Next::Known);
        let over = |(index, (position, _)): (usize, (u64, Next))| {
            (position > run.first && self.has_record(position)).then_some(index)
        };
        beside.extend(messages.enumerate().filter_map(over));
        beside
    }

    pub fn is_running(&self) -> bool {
        let mut run = lock(&self.run);
        self.note_exit(&mut run);
        run.is_running
    }

    /// Takes note of the kernel's leaving.
    fn note_exit(&self, run: &mut Run) {
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
        let was_wanted = std::mem::replace(&mut run.is_wanted, true);
        run.taken = self.next.load(Ordering::Relaxed);
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
        if self.gpu.bind().is_err() {
            return;
        }
        // SAFETY: the stream is this kernel's.
        match unsafe { driver::is_over(self.stream.0) } {
            Ok(false) => {}
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
        // Relaxed, both: signs that may come late.
        let beat = self.host.words(STOP_AT, HEARTBEAT + 1)[HEARTBEAT].load(Ordering::Relaxed);
        let begun = self.host.words(LEAVE_AT, 5)[BEGUN].load(Ordering::Relaxed);
        let may_be_silent = if beat == 0 {
            // Dispatches may have the whole device.
            self.gpu.dispatches.load(Ordering::Relaxed) > 0
        } else {
            // As far as is known, a handler runs.
            !self.counts_loops && begun != self.next.load(Ordering::Relaxed) as u32
        };
        if run.pulse.has_stopped([beat, begun], may_be_silent, Instant::now()) {
            let what = if beat == 0 { "it does not begin" } else { "it hangs: its heartbeat has stopped" };
            self.gpu.lose("a resident kernel", &what);
        }
    }

    fn start(&self, run: &mut Run) {
        // Somebody does something quietly, or wants the tables for itself: whoever looks after this looks again.
        let Ok(_gate) = self.gpu.gate.try_read() else { return };
        // SeqCst pairs with `hold`: either this is seen to run there, or the hold here.
        if self.holds.load(Ordering::SeqCst) > 0
            || self.gpu.bind().is_err()
            || !self.gpu.has_room_for(self.part)
        {
            return;
        }
        if let Err(refusal) = self.begin(run, GO_ON) {
            self.gpu.lose("a resident kernel does not start", &refusal);
        }
    }

    /// Runs the code for the first time, to no purpose but that the driver gives it what it needs: that may wait for
    /// kernels.
    fn warm_up(&self) -> Result<()> {
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
        for (table, bound) in tables.iter_mut().zip(&self.tables) {
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
            tables,
        };
        // SAFETY: the code takes this parameter; what it points to is this lane's, which stays until the kernel has left.
        let started = unsafe { driver::launch(self.code.function.0, self.block, self.stream.0, &mut launch) };
        if let Err(refusal) = started {
            self.gpu.give_room_of(self.part);
            return Err(refusal);
        }
        self.set_running(run, true);
        run.is_cut_short = false;
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

    /// Has it been on the device for as long as it may while others wait?
    pub fn had_turn(&self) -> bool {
        lock(&self.run).started.elapsed() >= TURN
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
            rest(begun);
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
            rest(begun);
        }
        true
    }

    pub fn let_go(&self) {
        self.holds.fetch_sub(1, Ordering::SeqCst);
    }

    /// Forgets what has not been handled; the port's, whose kernel has been [stopped](Self::stop).
    pub fn forget(&self) {
        let mut run = lock(&self.run);
        let tail = self.tail.load(Ordering::Relaxed);
        self.next.store(tail, Ordering::Relaxed);
        (run.first, run.again, run.is_cut_short) = (tail, 0, false);
        self.links.forget_before(tail);
    }

    /// The states; the kernel has been [stopped](Self::stop).
    pub fn read_states(&self) -> Result<Vec<u8>> {
        let mut states = vec![0; self.states_size];
        self.settle()?;
        self.gpu.download(&self.states, 0, &mut states)?;
        Ok(states)
    }

    /// Waits for the very end of a kernel that has left: memory is as it should be then, also for copies.
    pub fn settle(&self) -> Result<()> {
        self.gpu.bind()?;
        // SAFETY: the stream is this kernel's.
        unsafe { driver::wait(self.stream.0) }
            .map_err(|refusal| self.gpu.refused("a resident kernel", refusal))
    }

    /// From now on a faulted instance goes on with its part of these states. The kernel has been [stopped](Self::stop).
    pub fn set_fallback(&self, states: Option<&[u8]>) -> Result<()> {
        let memory = match states {
            Some(states) => {
                let memory = self.gpu.device_memory(states.len())?;
                self.gpu.upload(&memory, 0, states)?;
                Some(memory)
            }
            None => None,
        };
        let old = std::mem::replace(&mut lock(&self.run).fallback, memory);
        drop(old);
        Ok(())
    }

    /// What became of a message, from the words of its record.
    pub fn hand_out(
        &self,
        token: Token,
        words: &[u32],
        sink: &mut dyn FnMut(crate::backend::Completion<'_>),
    ) {
        self.layout.hand_out(token, words, sink);
    }
}

/// One turn of a wait for the device, which began then: at first for the shortest time there is, later for the least use
/// of this core.
pub(super) fn rest(begun: Instant) {
    match begun.elapsed().as_micros() {
        0..25 => std::hint::spin_loop(),
        25..200 => std::thread::yield_now(),
        _ => std::thread::sleep(Duration::from_micros(20)),
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Nobody looks after it any more, and the watch has kept it until its kernel had left.
        if self.gpu.bind().is_ok() {
            // SAFETY: the last one to use it.
            unsafe {
                _ = driver::wait(self.stream.0);
                driver::destroy_stream(self.stream.0);
            }
        }
    }
}
