//! A kernel's port on the CPU: two rings, the states, and the loop that runs handlers between them.

use super::parallel::{self, Lanes};
use super::runner::{Messages, Ran, Runner, Scratch, units};
use super::storage::CpuStorage;
use super::threads::{Helpers, Threads};
use crate::backend::{
    Around, Completion, DeviceStorage, Fault, LaunchSpec, One, PanicText, Port, PortControl, Progress,
    STOP_AFTER_MESSAGE, STOP_NOW, Shape, Until,
};
use crate::compile::{Ending, FaultCode, Places, StopCheck};
use crate::error::Result;
use crate::message::Token;
use crate::wire::{KIND_EMIT, KIND_FAULT, KIND_MESSAGE, SlotRing};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A round must be worth this many nanoseconds to be spread: waking a pool thread costs some 70,000.
const WORTH_SPREADING: f64 = 200_000.0;
/// A round on all cores takes as many messages as should be done in so many nanoseconds, but one for each core: no
/// reply waits much longer than that for those of the same round.
const LONGEST_ROUND: f64 = 10_000_000.0;
/// The background driver hands out what is done after so long; for the same reason.
const LONGEST_SERIAL: Duration = Duration::from_micros(100);
/// How often it looks at the clock for that, in nanoseconds of what messages are known to cost.
const LOOK: f64 = 5_000.0;
/// Output slots of one round, at most: bounds the memory of handlers that emit a lot.
const MOST_OUTPUT_SLOTS: usize = 1 << 17;

/// Code of a panic in a fault slot; the text is in [`CpuPort::panics`].
const FAULT_PANIC: u32 = 0;

pub(super) struct CpuPort {
    runner: Runner,
    shape: Shape,
    input: SlotRing,
    output: SlotRing,
    /// All instances' states, one after the other; 16-byte units keep every type aligned.
    states: Box<[u128]>,
    /// Bytes of them.
    states_size: usize,
    reset: Option<Arc<[u8]>>,
    scratch: Scratch,
    control: Arc<PortControl>,
    /// Keeps the tables' memory alive, and the host away while handlers run.
    tables: Vec<Arc<dyn DeviceStorage>>,
    /// Texts of panics whose fault slots have not been popped, in order.
    panics: VecDeque<Box<PanicText>>,
    threads: Arc<Threads>,
    lanes: Lanes,
    /// See [`Port::ran_beside`].
    beside: Vec<usize>,
    around: Arc<Around>,
    /// See [`Port::is_cut_short`].
    cut_short: bool,
    /// Nanoseconds a message takes, a moving average over the background driver's rounds; 0 if not known.
    cost: f64,
    round: usize,
}

/// This backend's own type behind a storage that it allocated.
fn storage(table: &Arc<dyn DeviceStorage>) -> &CpuStorage {
    table.as_any().downcast_ref().expect("the layer above binds storage of the kernel's own device")
}

impl CpuPort {
    pub(super) fn new(spec: LaunchSpec, threads: Arc<Threads>) -> Result<Self> {
        let views = spec.tables.iter().map(|table| storage(table).view()).collect();
        let runner = Runner::new(&spec, views);
        let round = (spec.round as usize).min(MOST_OUTPUT_SLOTS / runner.slots_per_message()).max(1);
        let all = spec.all_states();
        // One buffer may be bound under two names; taking its lock twice could wait for a writer in between.
        let mut tables = spec.tables;
        tables.sort_by_key(|table| Arc::as_ptr(table).cast::<()>() as usize);
        tables.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let mut states = units(all.len());
        bytemuck::cast_slice_mut::<u128, u8>(&mut states)[..all.len()].copy_from_slice(&all);
        Ok(Self {
            shape: spec.shape,
            input: SlotRing::new(round as u32, spec.message_size),
            output: SlotRing::new((round * runner.slots_per_message()) as u32, runner.longest_output()),
            states,
            states_size: all.len(),
            reset: None,
            scratch: runner.scratch(),
            control: spec.control,
            tables,
            panics: Default::default(),
            threads,
            lanes: Lanes::default(),
            around: spec.around,
            cut_short: false,
            cost: 0.0,
            beside: Vec::new(),
            round,
            runner,
        })
    }

    /// Makes the port believe that a message takes this long.
    #[cfg(test)]
    pub(super) fn pretend_cost(&mut self, nanoseconds: f64) {
        self.cost = nanoseconds;
    }

    /// Runs handlers while the host is kept away from the tables.
    fn with_tables<R>(&mut self, body: impl FnOnce(&mut Self) -> R) -> R {
        let tables = std::mem::take(&mut self.tables);
        let guards: Vec<_> = tables.iter().map(|table| storage(table).share()).collect();
        let result = body(self);
        drop(guards);
        self.tables = tables;
        result
    }

    /// One message after the other, until told to leave.
    fn run_serially(&mut self, until: &Until<'_>) -> Progress {
        // Relaxed: read by a `terminate` that found the port held for all its timeout.
        self.control.one_at_a_time.store(true, Ordering::Relaxed);
        if self.runner.takes_batches() {
            return self.run_in_batches(until);
        }
        let Self { runner, shape, input, output, states, reset, scratch, control, cost, .. } = self;
        let stop = StopCheck::new(&control.stop, &until.limits);
        let states: &mut [u8] = bytemuck::cast_slice_mut(states);
        let size = runner.parts.state;
        let begun = until.is_background().then(Instant::now);
        let stride = messages_between_looks(*cost);
        let mut unlooked = 0;
        while input.len() > 0 {
            if output.free() < runner.slots_per_message() || !control.begin(input.len() - 1) {
                return Progress::Stopped;
            }
            let (header, payload) = input.get(0);
            let (token, message) = (header.token, &payload[..runner.parts.message]);
            let first = shape.instance_of(message) as usize * size;
            let state = &mut states[first..first + size];
            match runner.run(scratch, message, state, &stop) {
                Ran::Done => {
                    runner.results(scratch, |kind, bytes| output.push(token, kind, bytes));
                    input.consume(1);
                }
                Ran::Faulted(fault) => {
                    if let Some(reset) = reset {
                        state.copy_from_slice(&reset[first..first + size]);
                    }
                    input.consume(1);
                    self.record_fault(token, fault);
                    return Progress::Stopped;
                }
                Ran::Interrupted => return Progress::Interrupted,
            }
            if until.token == Some(token) {
                break;
            }
            unlooked += 1;
            if unlooked >= stride {
                unlooked = 0;
                if is_time(begun, runner, &stop) {
                    break;
                }
            }
        }
        Progress::Done
    }

    /// As [`run_serially`](Self::run_serially), for a handler that takes batches.
    fn run_in_batches(&mut self, until: &Until<'_>) -> Progress {
        let Self { runner, shape, input, output, states, reset, scratch, control, cost, .. } = self;
        let stop = StopCheck::new(&control.stop, &until.limits);
        let states: &mut [u8] = bytemuck::cast_slice_mut(states);
        let size = runner.parts.state;
        let begun = until.is_background().then(Instant::now);
        let looks = begun.is_some() || runner.has_loops;
        let most = if looks { messages_between_looks(*cost) } else { usize::MAX };
        while input.len() > 0 {
            let room = output.free() / runner.slots_per_message();
            let is_alone = input.len() == 1;
            if room == 0 || is_alone && !control.begin(0) {
                return Progress::Stopped;
            }
            let end = runner.run_batch(
                scratch,
                Messages {
                    input,
                    places: Places::First(input.len().min(room).min(most)),
                    shape: *shape,
                    states,
                    first_instance: 0,
                    output,
                    stop: &stop,
                    // One that has been said to begin does.
                    stop_at: if is_alone { STOP_NOW } else { STOP_AFTER_MESSAGE },
                    waiting: Some(&control.waiting),
                    last: until.token,
                },
            );
            input.consume(end.completed);
            match end.why {
                Ending::Stopped => {
                    // The batch has counted one that then did not begin.
                    control.set_waiting(input.len());
                    return Progress::Stopped;
                }
                Ending::Interrupted => return Progress::Interrupted,
                Ending::Fault(code) => {
                    let (header, message) = input.get(0);
                    let (token, first) = (header.token, shape.instance_of(message) as usize * size);
                    if let Some(reset) = reset {
                        states[first..first + size].copy_from_slice(&reset[first..first + size]);
                    }
                    input.consume(1);
                    self.record_fault(token, code.into());
                    return Progress::Stopped;
                }
                Ending::Last => break,
                Ending::Finished => {}
            }
            if is_time(begun, runner, &stop) {
                break;
            }
        }
        Progress::Done
    }

    /// Messages straight from the caller's memory, results straight to it: no ring in between.
    #[inline]
    fn run_through<'a>(
        &mut self,
        batch: &mut dyn Iterator<Item = (Token, &'a [u8])>,
        until: &Until<'_>,
        sink: &mut dyn FnMut(Completion<'_>),
    ) -> usize {
        let Self { runner, shape, states, reset, scratch, control, .. } = self;
        let stop = StopCheck::new(&control.stop, &until.limits);
        let states: &mut [u8] = bytemuck::cast_slice_mut(states);
        let size = runner.parts.state;
        let mut taken = 0;
        while !control.stop_requested() {
            let Some((token, message)) = batch.next() else { break };
            taken += 1;
            let first = shape.instance_of(message) as usize * size;
            let state = &mut states[first..first + size];
            match runner.run(scratch, message, state, &stop) {
                Ran::Done => runner.results(scratch, |kind, bytes| {
                    sink(if kind >= KIND_EMIT {
                        Completion::Emit { token, output: (kind - KIND_EMIT) as usize, value: bytes }
                    } else {
                        Completion::Handled { token, reply: bytes }
                    });
                }),
                Ran::Faulted(fault) => {
                    if let Some(reset) = reset {
                        state.copy_from_slice(&reset[first..first + size]);
                    }
                    sink(Completion::Faulted { token, fault });
                    break;
                }
                Ran::Interrupted => break,
            }
        }
        taken
    }

    /// One message from the caller's memory, its reply straight into it.
    #[inline(always)]
    fn run_one(&mut self, token: Token, message: &[u8], until: &Until<'_>, reply: &mut [u8]) -> One {
        let Self { runner, shape, input, states, reset, scratch, control, .. } = self;
        let stopped = control.stop_requested();
        if !stopped {
            let stop = StopCheck::new(&control.stop, &until.limits);
            let size = runner.parts.state;
            let first = shape.instance_of(message) as usize * size;
            let state = &mut bytemuck::cast_slice_mut::<u128, u8>(states)[first..first + size];
            match runner.run_into(&mut scratch.privates, message, state, reply, &stop) {
                Ran::Done => return One::Handled,
                Ran::Faulted(fault) => {
                    if let Some(reset) = reset {
                        state.copy_from_slice(&reset[first..first + size]);
                    }
                    return One::Faulted(fault);
                }
                Ran::Interrupted => {}
            }
        }
        input.push(token, KIND_MESSAGE, message);
        if stopped {
            self.control.set_waiting(1);
            One::NotBegun
        } else {
            One::Interrupted
        }
    }

    #[cold]
    fn run_one_with_tables(
        &mut self,
        token: Token,
        message: &[u8],
        until: &Until<'_>,
        reply: &mut [u8],
    ) -> One {
        self.with_tables(|port| port.run_one(token, message, until, reply))
    }

    fn record_fault(&mut self, token: Token, fault: Fault) {
        push_fault(&mut self.output, &mut self.panics, token, fault);
    }

    /// A round with the tables held.
    fn run(&mut self, until: &Until<'_>) -> Progress {
        // Only a driver that may stay runs a whole round, which nothing but a termination interrupts; and only its
        // rounds are timed: a caller's are short.
        if !until.is_background() {
            return self.run_serially(until);
        }
        let (waiting, begun) = (self.input.len(), Instant::now());
        let spread = self.shape != Shape::Serial
            && waiting > 1
            && self.cost * waiting as f64 > WORTH_SPREADING
            && self.output.free() >= waiting * self.runner.slots_per_message()
            && !self.control.stop_requested();
        let threads = spread.then(|| self.threads.clone());
        let helpers = threads.as_ref().map(|threads| threads.take(threads.parallelism() - 1));
        let (progress, cores) = match helpers.filter(|helpers| helpers.left() > 0) {
            Some(helpers) => {
                let cores = 1 + helpers.left();
                let most = (LONGEST_ROUND * cores as f64 / self.cost) as usize;
                (self.run_in_parallel(most.max(cores).min(waiting), helpers), cores)
            }
            None => (self.run_serially(until), 1),
        };
        let done = waiting - self.input.len();
        if done > 0 {
            let cost = begun.elapsed().as_nanos() as f64 * cores.min(done) as f64 / done as f64;
            self.cost = if self.cost == 0.0 { cost } else { self.cost * 0.75 + cost * 0.25 };
        }
        progress
    }

    /// The first `count` messages on this thread and those of the helpers, outputs in the order of the messages.
    fn run_in_parallel(&mut self, count: usize, helpers: Helpers<'_>) -> Progress {
        // Relaxed: as in `run_serially`.
        self.control.one_at_a_time.store(false, Ordering::Relaxed);
        self.control.set_waiting(self.input.len() - count);
        let job = parallel::Job {
            runner: &self.runner,
            shape: self.shape,
            input: &self.input,
            count,
            around: &*self.around,
            reset: self.reset.as_deref(),
            control: &self.control,
        };
        let states = &mut bytemuck::cast_slice_mut(&mut self.states)[..self.states_size];
        let results = self.lanes.run(&job, states, helpers);
        let (complete, beside) = results.merge(&self.input, self.shape, |result| match result {
            parallel::Item::Slot(header, payload) => {
                self.output.push(header.token, header.kind, &payload[..header.len as usize]);
            }
            parallel::Item::Fault(token, fault) => {
                push_fault(&mut self.output, &mut self.panics, token, fault);
            }
        });
        self.input.consume(complete);
        self.beside = beside;
        if complete == count { Progress::Done } else { Progress::Interrupted }
    }
}

fn push_fault(output: &mut SlotRing, panics: &mut VecDeque<Box<PanicText>>, token: Token, fault: Fault) {
    let code = match fault {
        Fault::LoopBudget => FaultCode::LoopBudget as u32,
        Fault::EmitOverflow => FaultCode::EmitOverflow as u32,
        Fault::CutShort => unreachable!("no device is between the handler and its results"),
        Fault::Panic(text) => {
            panics.push_back(text);
            FAULT_PANIC
        }
    };
    output.push_fault(token, code);
}

/// Of messages that cost so many nanoseconds; 0 is not known.
fn messages_between_looks(cost: f64) -> usize {
    if cost == 0.0 { 1 } else { ((LOOK / cost) as usize).clamp(1, LOOK as usize) }
}

/// Is it time to hand out what is done? Asked between two messages: of the background driver (`begun` is when its round
/// did), for those that wait for it; of a caller, whose time is up, unless the handler cannot take long.
fn is_time(begun: Option<Instant>, runner: &Runner, stop: &StopCheck<'_>) -> bool {
    match begun {
        Some(begun) => begun.elapsed() >= LONGEST_SERIAL,
        None => runner.has_loops && stop.must_stop(),
    }
}

impl Port for CpuPort {
    fn engine(&self) -> &'static str {
        self.runner.name
    }

    fn free(&self) -> usize {
        (self.round - self.input.len()).min(self.output.free() / self.runner.slots_per_message())
    }

    fn push(&mut self, batch: &mut dyn Iterator<Item = (Token, &[u8])>) {
        for (token, message) in batch {
            self.input.push(token, KIND_MESSAGE, message);
        }
        self.control.set_waiting(self.input.len());
    }

    fn exchange<'a>(
        &mut self,
        batch: &mut dyn Iterator<Item = (Token, &'a [u8])>,
        until: &Until<'_>,
        sink: &mut dyn FnMut(Completion<'_>),
    ) -> usize {
        debug_assert_eq!(self.input.len(), 0);
        if self.tables.is_empty() {
            return self.run_through(batch, until, sink);
        }
        self.with_tables(|port| port.run_through(batch, until, sink))
    }

    fn exchange_one(&mut self, token: Token, message: &[u8], until: &Until<'_>, reply: &mut [u8]) -> One {
        debug_assert_eq!(self.input.len(), 0);
        if self.tables.is_empty() {
            return self.run_one(token, message, until, reply);
        }
        self.run_one_with_tables(token, message, until, reply)
    }

    fn progress(&mut self, until: &Until<'_>) -> Progress {
        let progress =
            if self.tables.is_empty() { self.run(until) } else { self.with_tables(|port| port.run(until)) };
        // Relaxed: whoever has been interrupted by the word has seen it. Not by the end of a caller's slice.
        let is_stopped = self.control.stop.load(Ordering::Relaxed) >= STOP_NOW;
        self.cut_short = progress == Progress::Interrupted && is_stopped;
        progress
    }

    fn pop(&mut self, sink: &mut dyn FnMut(Completion<'_>)) {
        while self.output.len() > 0 {
            let (header, payload) = self.output.get(0);
            let token = header.token;
            match header.kind {
                KIND_FAULT => {
                    let fault = match header.len {
                        FAULT_PANIC => Fault::Panic(self.panics.pop_front().unwrap_or_default()),
                        code => FaultCode::of(code).into(),
                    };
                    sink(Completion::Faulted { token, fault });
                }
                kind if kind >= KIND_EMIT => sink(Completion::Emit {
                    token,
                    output: (kind - KIND_EMIT) as usize,
                    value: &payload[..header.len as usize],
                }),
                _ => sink(Completion::Handled { token, reply: &payload[..header.len as usize] }),
            }
            self.output.consume(1);
        }
    }

    fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    fn ran_beside(&self) -> Vec<usize> {
        self.beside.clone()
    }

    fn read_state(&mut self) -> Result<Vec<u8>> {
        Ok(bytemuck::cast_slice(&self.states)[..self.states_size].to_vec())
    }

    fn reset_on_fault(&mut self, states: Option<Arc<[u8]>>) -> Result<()> {
        debug_assert!(states.as_ref().is_none_or(|states| states.len() == self.states_size));
        self.reset = states;
        Ok(())
    }
}
