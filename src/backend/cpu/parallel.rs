//! A round on all cores: stateless messages in chunks, instances in blocks; outputs in the order of the messages.

use super::runner::{Messages, Ran, Runner, Scratch};
use super::threads::Helpers;
use crate::backend::{Around, Fault, PortControl, STOP_NOW, Shape};
use crate::compile::{Ending, Limits, Places, StopCheck};
use crate::message::Token;
use crate::wire::{KIND_EMIT, SlotHeader, SlotRing};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// What the threads of a round work on, kept from round to round.
#[derive(Default)]
pub(super) struct Lanes(Vec<Lane>);

/// A round to run.
pub(super) struct Job<'a> {
    pub runner: &'a Runner,
    pub shape: Shape,
    pub input: &'a SlotRing,
    /// So many messages from its head.
    pub count: usize,
    pub around: &'a Around,
    pub reset: Option<&'a [u8]>,
    pub control: &'a PortControl,
}

/// What one thread works on: some messages of the round, in order, and where their results go.
struct Lane {
    scratch: Scratch,
    /// Places in the input ring.
    messages: Vec<u32>,
    out: SlotRing,
    faults: VecDeque<(Token, Fault)>,
}

/// The results of a round, to be taken in the order of its messages.
pub(super) struct Results<'a> {
    lanes: &'a mut [Lane],
    block: usize,
    count: usize,
}

/// One result.
pub(super) enum Item<'a> {
    /// An emitted value or a reply.
    Slot(SlotHeader, &'a [u8]),
    /// A fault.
    Fault(Token, Fault),
}

impl Lanes {
    /// Runs the job's messages, on this thread and on those of the helpers.
    pub(super) fn run<'a>(
        &'a mut self,
        job: &Job<'_>,
        states: &mut [u8],
        mut helpers: Helpers<'_>,
    ) -> Results<'a> {
        let (count, parallelism) = (job.count, 1 + helpers.left());
        while self.0.len() < parallelism {
            self.0.push(Lane {
                scratch: job.runner.scratch(),
                messages: Vec::new(),
                out: SlotRing::new(1, job.runner.longest_output()),
                faults: VecDeque::new(),
            });
        }
        let lanes = &mut self.0[..parallelism];
        // A lane owns a run of neighbouring messages (no state), or of neighbouring instances: a counting sort
        // into one inbox per lane keeps each instance's messages in order.
        let block = match job.shape {
            Shape::Instances { count: instances, .. } => (instances as usize).div_ceil(parallelism),
            _ => count.div_ceil(parallelism),
        }
        .max(1);
        lanes.iter_mut().for_each(|lane| lane.messages.clear());
        for index in 0..count {
            let lane = lane_of(job.shape, job.input, index, block);
            lanes[lane].messages.push(index as u32);
        }
        for lane in lanes.iter_mut() {
            let slots = (lane.messages.len() * job.runner.slots_per_message()) as u32;
            lane.out.clear();
            if lane.out.free() < slots as usize {
                lane.out = SlotRing::new(slots, job.runner.longest_output());
            }
            lane.faults.clear();
        }
        let bytes_per_lane = block * job.runner.parts.state;
        let instances = matches!(job.shape, Shape::Instances { .. });
        helpers.threads().scope(|scope| {
            let (mut rest, mut own) = (states, None);
            for (index, lane) in lanes.iter_mut().enumerate() {
                let first = index * block;
                let taken = if instances { bytes_per_lane.min(rest.len()) } else { 0 };
                let (states, others) = rest.split_at_mut(taken);
                rest = others;
                if lane.messages.is_empty() {
                    continue;
                }
                let mut run = move || (job.around)(&mut || lane.run(job, states, first));
                match own {
                    None => own = Some(run),
                    Some(_) => helpers.spawn(scope, move |_| run()),
                }
            }
            if let Some(mut run) = own {
                run();
            }
        });
        Results { lanes, block, count }
    }
}

fn lane_of(shape: Shape, input: &SlotRing, index: usize, block: usize) -> usize {
    match shape {
        Shape::Instances { .. } => shape.instance_of(input.get(index).1) as usize / block,
        _ => index / block,
    }
}

impl Lane {
    /// Runs the lane's messages; `states` belong to the instances from `first` on.
    fn run(&mut self, job: &Job<'_>, states: &mut [u8], first: usize) {
        let stop = StopCheck::new(&job.control.stop, &Limits::NONE);
        if job.runner.takes_batches() {
            return self.run_batches(job, states, first, &stop);
        }
        let size = job.runner.parts.state;
        for &index in &self.messages {
            // The kernel is being terminated: what has not begun does not.
            if job.control.stop.load(Ordering::Relaxed) >= STOP_NOW {
                return;
            }
            let (header, payload) = job.input.get(index as usize);
            let message = &payload[..job.runner.parts.message];
            let instance = job.shape.instance_of(message) as usize;
            let at = instance.saturating_sub(first) * size;
            let state = &mut states[at..at + size];
            match job.runner.run(&mut self.scratch, message, state, &stop) {
                Ran::Done => {
                    job.runner.results(&self.scratch, |kind, bytes| self.out.push(header.token, kind, bytes))
                }
                Ran::Faulted(fault) => {
                    if let Some(reset) = job.reset {
                        state.copy_from_slice(&reset[instance * size..(instance + 1) * size]);
                    }
                    self.faults.push_back((header.token, fault));
                }
                // The kernel is being terminated: what this lane has not done is not confirmed.
                Ran::Interrupted => return,
            }
        }
    }
}

impl Lane {
    /// As [`run`](Self::run), for a handler that takes batches.
    fn run_batches(&mut self, job: &Job<'_>, states: &mut [u8], first: usize, stop: &StopCheck<'_>) {
        let size = job.runner.parts.state;
        let mut rest = self.messages.as_slice();
        while !rest.is_empty() {
            let end = job.runner.run_batch(
                &mut self.scratch,
                Messages {
                    input: job.input,
                    places: Places::Listed(rest),
                    shape: job.shape,
                    states,
                    first_instance: first,
                    output: &mut self.out,
                    stop,
                    // The kernel is being terminated: what has not begun does not, and what this lane has not done
                    // is not confirmed.
                    stop_at: STOP_NOW,
                    waiting: None,
                    last: None,
                },
            );
            let Ending::Fault(code) = end.why else { return };
            let (header, message) = job.input.get(rest[end.completed] as usize);
            let instance = job.shape.instance_of(message) as usize;
            if let Some(reset) = job.reset {
                let at = (instance - first) * size;
                states[at..at + size].copy_from_slice(&reset[instance * size..(instance + 1) * size]);
            }
            self.faults.push_back((header.token, code.into()));
            rest = &rest[end.completed + 1..];
        }
    }
}

impl Results<'_> {
    /// Gives out the results message by message; returns how many messages are complete, in order from the first, and
    /// which of those behind are, too, counted from the first that is not.
    pub(super) fn merge(
        mut self,
        input: &SlotRing,
        shape: Shape,
        mut sink: impl FnMut(Item<'_>),
    ) -> (usize, Vec<usize>) {
        for index in 0..self.count {
            let token = input.get(index).0.token;
            let lane = &mut self.lanes[lane_of(shape, input, index, self.block)];
            if lane.faults.front().is_some_and(|(faulted, _)| *faulted == token) {
                let (token, fault) = lane.faults.pop_front().expect("just seen");
                sink(Item::Fault(token, fault));
                continue;
            }
            loop {
                if lane.out.len() == 0 {
                    return (index, self.beside(input, shape, index));
                }
                let (header, payload) = lane.out.get(0);
                sink(Item::Slot(header, payload));
                lane.out.consume(1);
                if header.kind < KIND_EMIT {
                    break;
                }
            }
        }
        (self.count, Vec::new())
    }

    /// The messages behind this one that came to their end, on other lanes: counted from it.
    fn beside(&mut self, input: &SlotRing, shape: Shape, first: usize) -> Vec<usize> {
        let mut beside = Vec::new();
        for index in first..self.count {
            let token = input.get(index).0.token;
            let lane = &mut self.lanes[lane_of(shape, input, index, self.block)];
            let mut is_over = lane.faults.front().is_some_and(|(faulted, _)| *faulted == token);
            if is_over {
                lane.faults.pop_front();
            }
            while lane.out.len() > 0 && lane.out.get(0).0.token == token {
                lane.out.consume(1);
                is_over = true;
            }
            if is_over {
                beside.push(index - first);
            }
        }
        beside
    }
}
