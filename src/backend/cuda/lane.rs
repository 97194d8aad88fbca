//! A kernel on the device: its rings and states, and, in `residence`, whether it is there.
//!
//! A resident kernel is started when there are messages, and leaves when it is asked to, when a message faulted, or when
//! there was nothing to do for a while; then whoever looks after it starts it again as soon as there is. What it had not
//! begun lies in the ring, and what it had lies in the other one: neither leaving nor coming back moves anything.

mod residence;

pub(super) use residence::IDLE;

use super::driver::{self, Block, CUstream};
use super::gpu::{DeviceMemory, Gpu, Shared, WAY};
use super::host::HostMemory;
use super::ingress::Bell;
use super::kernel::Code;
use super::layout::{Layout, ROUTE_WORDS, ROUTES, WARP_SIZE};
use super::link::{Links, Next};
use super::pulse::Pulse;
use super::room::Part;
use super::storage::CudaStorage;
use crate::backend::{DeviceStorage, LaunchSpec, PortControl};
use crate::error::Result;
use crate::message::Token;
use crate::sync::{Mutex, lock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Blocks as large as a kernel's that a multiprocessor has room for, at least, if it has more than one warp: large ones
/// find none so easily, and leave none.
const NEIGHBOURS: u32 = 4;

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
    /// It left because of a fault.
    has_faulted: bool,
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
    /// Until the port is gone, and the kernel has left.
    tables: Mutex<Vec<Arc<dyn DeviceStorage>>>,
    /// Its heart beats in loops, too; what the user wrote in CUDA may have loops of its own.
    counts_loops: bool,
    /// Position of the next message, and of the next record; written by the port.
    tail: AtomicU64,
    next: AtomicU64,
    /// Who wants it off the device for now.
    holds: AtomicUsize,
    pub links: Links,
    bell: Bell,
    run: Mutex<Run>,
    /// Dropped last: the memory above goes back to it.
    pub gpu: Arc<Gpu>,
}

fn block(layout: &Layout, warps: u32) -> Block {
    Block { threads: warps * WARP_SIZE, shared: layout.shared(warps) }
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
        let routes = if layout.is_routed { ROUTES * ROUTE_WORDS } else { 0 };
        let rings = (layout.slot + layout.record) * layout.places();
        let host = gpu.host_memory(RINGS_AT + (rings + routes) * 8)?;
        let onward = spec.onward.first().filter(|_| layout.is_routed).cloned();
        let initial = spec.all_states();
        let states_size = initial.len();
        let states = gpu.device_memory(states_size)?;
        gpu.upload(&states, 0, &initial)?;
        let now = Instant::now();
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
            tables: Mutex::new(spec.tables.clone()),
            counts_loops: spec.twin.is_none(),
            tail: AtomicU64::new(0),
            next: AtomicU64::new(0),
            holds: AtomicUsize::new(0),
            links: Links::new(onward),
            bell: Bell::default(),
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
                has_faulted: false,
                routed: 0,
                fallback: None,
                pulse: Pulse::new(now),
                due: 0,
                deaf: 0,
            }),
            layout,
        });
        gpu.enter(&lane);
        spec.tables.iter().for_each(|table| CudaStorage::of(table).enter(&lane));
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

    /// How often it has been launched.
    #[cfg(test)]
    pub fn launches(&self) -> u32 {
        lock(&self.run).epoch
    }

    /// Has it a bell?
    #[cfg(test)]
    pub fn listens(&self) -> bool {
        self.bell.address() != 0
    }

    /// Has its bell, if it has one, say this, whatever is so.
    #[cfg(test)]
    pub fn mislead(&self, tail: u64) {
        self.bell.ring(tail);
    }

    /// Where the next record is.
    pub fn next_position(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// Gives the next places to somebody else than the port; under the lock that keeps the port from giving messages.
    pub fn give_out(&self, places: usize) {
        self.set_tail(self.tail() + places as u64);
    }

    fn set_tail(&self, tail: u64) {
        self.tail.store(tail, Ordering::Relaxed);
        self.bell.ring(tail);
    }

    /// Is there a record in this place, whatever is before it?
    pub fn has_record(&self, position: u64) -> bool {
        self.layout.has_begun(self.output(), position)
    }

    /// Places that have been given to messages, and whose records have not been taken.
    pub fn pending(&self) -> usize {
        // Relaxed: written by the port, read by it, and by others as a hint, who may see the one without the other.
        self.tail.load(Ordering::Relaxed).saturating_sub(self.next.load(Ordering::Relaxed)) as usize
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
        self.set_tail(tail + count as u64);
        count
    }

    /// As [`write`](Self::write), all that was kept until its way was known.
    pub fn write_staged<'a>(&self, messages: impl Iterator<Item = &'a [u8]>, route: u32) {
        // Under the lock: `count_waiting` counts them as the one or the other.
        let _run = lock(&self.run);
        self.write(messages, route);
        // Release pairs with the Acquire of whoever opens a link to this kernel: the messages have their places.
        self.links.staged.store(0, Ordering::Release);
    }

    /// Is there a record for the port?
    pub fn has_news(&self) -> bool {
        let next = self.next.load(Ordering::Relaxed);
        next < self.tail.load(Ordering::Relaxed)
            && self.layout.has_begun(self.output(), next)
            && self.links.is_filled(next)
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
    /// for one more. The watch's, which does not know whether the kernel of a lost device has another port by now.
    pub fn count_waiting(&self) -> bool {
        self.enter_waiting(false)
    }

    /// As [`count_waiting`](Self::count_waiting), the port's: what it has of a lost device waits to be queued again.
    pub fn count_own(&self) -> bool {
        self.enter_waiting(true)
    }

    fn enter_waiting(&self, is_ports: bool) -> bool {
        // Held to the end: what the watch enters before the loss, the port enters behind it once more.
        let mut run = lock(&self.run);
        self.note_exit(&mut run);
        let is_lost = self.gpu.is_lost();
        if is_lost && !is_ports {
            return false;
        }
        let tail = self.tail.load(Ordering::Relaxed);
        let in_port = tail.saturating_sub(self.next.load(Ordering::Relaxed));
        // The device may have begun what the port has written and is about to count: then nothing waits.
        let behind = if is_lost {
            in_port
        } else if run.is_running {
            // Relaxed: a count that the device writes, and which is late at worst. Of both only the low words are there.
            let begun = self.host.words(LEAVE_AT, 5)[BEGUN].load(Ordering::Relaxed);
            ((tail as u32).wrapping_sub(begun) as i32).max(0) as u64
        } else {
            tail.saturating_sub(run.first)
        };
        let behind = behind.min(in_port);
        let cut_short = usize::from(run.is_cut_short && !run.is_running && !is_lost);
        let unheard = self.links.unheard(tail - behind..tail) + cut_short;
        let staged = self.links.staged.load(Ordering::Relaxed);
        let waiting = (behind as usize).saturating_sub(unheard) + staged;
        // Release pairs with the Acquire in the mailbox's count of free places: a place seen free is free.
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

    /// The states; the kernel has been [stopped](Self::stop).
    pub fn read_states(&self) -> Result<Vec<u8>> {
        let mut states = vec![0; self.states_size];
        self.wait_for_stream()?;
        self.gpu.download(&self.states, 0, &mut states)?;
        Ok(states)
    }

    /// Waits for the very end of a kernel that has left: memory is as it should be then, also for copies.
    pub fn wait_for_stream(&self) -> Result<()> {
        self.gpu.bind()?;
        // SAFETY: the stream is this kernel's.
        unsafe { self.gpu.wait(self.stream.0, WAY) }
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

impl Drop for Lane {
    fn drop(&mut self) {
        // Nobody looks after it any more, and the watch has kept it until its kernel had left. What it did last came before
        // this, as it was an owner; a sanitizer that does not see that sees the lock.
        drop(lock(&self.run));
        if self.gpu.bind().is_ok() {
            // SAFETY: the last one to use it.
            unsafe {
                _ = driver::wait(self.stream.0);
                driver::destroy_stream(self.stream.0);
            }
        }
    }
}
