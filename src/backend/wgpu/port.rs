//! A kernel's port on a wgpu device: stages messages for the next round, and reads what rounds bring back.

use super::gpu::Gpu;
use super::group::{CUT_SHORT, DONE, Group};
use super::lane::{Batch, Lane, NONE, Returned};
use super::pump::Pump;
use crate::backend::{Completion, DeviceStorage, Fault, LaunchSpec, Port, Progress, Shape, Until};
use crate::compile::FaultCode;
use crate::error::{Error, Result};
use crate::message::Token;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A wait for the device that nobody gave a deadline ends after so long.
const PATIENCE: Duration = Duration::from_secs(5);

const LOOP_BUDGET: u32 = FaultCode::LoopBudget as u32;

/// See the module.
pub(super) struct WgpuPort {
    pump: Arc<Pump>,
    gpu: Arc<Gpu>,
    lane: Arc<Lane>,
    shape: Shape,
    message_size: usize,
    state_size: usize,
    reply_size: usize,
    /// Messages it takes at once.
    round: usize,
    /// Of each message in the port, in order.
    tokens: VecDeque<Token>,
    /// Messages of which some have to run again before those behind them can be handed out.
    held: VecDeque<Held>,
    /// Messages that were staged when that was found out.
    later: Option<Batch>,
    /// Of each instance: in which batch it had a message last, and which.
    last: Vec<(u32, u32)>,
    /// Counts the batches of `last`.
    batch: u32,
    /// Keeps the tables' memory.
    _tables: Vec<Arc<dyn DeviceStorage>>,
}

/// A message whose turn to be handed out has not come.
enum Held {
    /// Its record.
    Over(Box<[u8]>),
    /// It has to run: its bytes, and whether the device ended it in the middle.
    Open { message: Box<[u8]>, cut_short: bool },
}

impl WgpuPort {
    pub fn new(pump: Arc<Pump>, group: Arc<Group>, spec: LaunchSpec) -> Result<Self> {
        let instances = if let Shape::Instances { count, .. } = spec.shape { count } else { 1 };
        let places = group.allocate(instances)?;
        let gpu = group.gpu.clone();
        let round = (spec.round as usize).min(group.most as usize);
        let state_size = spec.initial_state.len();
        let lane = Arc::new(Lane::new(group.clone(), places.clone(), spec.control));
        let states = spec.states.unwrap_or_else(|| spec.initial_state.repeat(instances as usize).into());
        group.write_states(places.start, &states, state_size);
        pump.watch(&lane);
        let with_instances = matches!(spec.shape, Shape::Instances { .. });
        Ok(Self {
            pump,
            gpu,
            lane,
            shape: spec.shape,
            message_size: spec.message_size as usize,
            state_size,
            reply_size: spec.reply_size as usize,
            round,
            tokens: VecDeque::new(),
            held: VecDeque::new(),
            later: None,
            last: vec![(0, 0); if with_instances { instances as usize } else { 0 }],
            batch: 0,
            _tables: spec.tables,
        })
    }

    /// Puts messages behind those that are staged.
    fn stage<'a>(&mut self, messages: impl Iterator<Item = &'a [u8]>) {
        let mut state = self.lane.lock();
        let staged = &mut state.staged;
        if staged.count == 0 {
            // Nothing in `last` is of this batch.
            self.batch = self.batch.wrapping_add(1);
            if self.batch == 0 {
                self.last.fill((0, 0));
                self.batch = 1;
            }
        }
        for message in messages {
            if let Shape::Instances { field_offset, .. } = self.shape {
                let at = field_offset as usize;
                let number: [u8; 4] = message[at..at + 4].try_into().expect("four bytes");
                let instance = u32::from_ne_bytes(number);
                let last = &mut self.last[instance as usize];
                if last.0 == self.batch {
                    staged.links[last.1 as usize] = staged.count;
                } else {
                    staged.chains.push((staged.count, instance));
                }
                *last = (self.batch, staged.count);
                staged.links.push(NONE);
            }
            staged.bytes.extend_from_slice(message);
            staged.count += 1;
        }
        let waiting = staged.count as usize + state.apart;
        self.lane.count_waiting(waiting);
    }

    /// Hands out the results of a round, or keeps them until those before them are there.
    fn absorb(&mut self, returned: Returned, sink: &mut dyn FnMut(Completion<'_>)) {
        let Returned { batch, records, stamp } = returned;
        let stride = self.lane.group.shader.record.stride as usize;
        let is_final = |code: Option<u32>| match code {
            None => false,
            Some(CUT_SHORT) => batch.alone,
            Some(_) => true,
        };
        let records_of = || records.chunks_exact(stride);
        if self.held.is_empty() && records_of().all(|record| is_final(Group::code(record, stamp))) {
            for record in records_of() {
                let token = self.tokens.pop_front().expect("a token for each message");
                self.hand_out(token, record, stamp, sink);
            }
        } else if self.held.is_empty() {
            for (index, record) in records_of().enumerate() {
                let code = Group::code(record, stamp);
                self.held.push_back(if is_final(code) {
                    Held::Over(with_stamp_zero(record, code))
                } else {
                    let at = index * self.message_size;
                    Held::Open {
                        message: batch.bytes[at..at + self.message_size].into(),
                        cut_short: code == Some(CUT_SHORT),
                    }
                });
            }
        } else {
            let open = self.held.iter_mut().filter(|held| matches!(held, Held::Open { .. }));
            for (held, record) in open.zip(records_of()) {
                let code = Group::code(record, stamp);
                if is_final(code) {
                    *held = Held::Over(with_stamp_zero(record, code));
                } else if let Held::Open { cut_short, .. } = held {
                    *cut_short = code == Some(CUT_SHORT);
                }
            }
        }
        while let Some(Held::Over(_)) = self.held.front() {
            let Some(Held::Over(record)) = self.held.pop_front() else { unreachable!("just looked at") };
            let token = self.tokens.pop_front().expect("a token for each message");
            self.hand_out(token, &record, 0, sink);
        }
        let mut state = self.lane.lock();
        let mut batch = batch;
        batch.clear();
        state.spare.push(batch);
        state.spare_records.push(records);
    }

    /// One message's completion, by its record.
    fn hand_out(&self, token: Token, record: &[u8], stamp: u32, sink: &mut dyn FnMut(Completion<'_>)) {
        let layout = &self.lane.group.shader.record;
        match Group::code(record, stamp) {
            Some(DONE) => {
                for (output, emit) in layout.emits.iter().enumerate() {
                    let at = emit.count_offset as usize;
                    let count: [u8; 4] = record[at..at + 4].try_into().expect("four bytes");
                    for item in 0..u32::from_ne_bytes(count).min(emit.max) {
                        let at = (emit.items_offset + item * emit.stride) as usize;
                        let value = &record[at..at + emit.size as usize];
                        sink(Completion::Emit { token, output, value });
                    }
                }
                let at = layout.reply as usize;
                sink(Completion::Handled { token, reply: &record[at..at + self.reply_size] });
            }
            code => {
                let fault = match code {
                    Some(LOOP_BUDGET) => Fault::LoopBudget,
                    Some(CUT_SHORT) => Fault::CutShort,
                    _ => Fault::EmitOverflow,
                };
                sink(Completion::Faulted { token, fault });
            }
        }
    }

    /// Stages what has to run again, before what was staged behind it.
    fn stage_again(&mut self) {
        {
            let mut state = self.lane.lock();
            if state.rounds > 0 || !state.returned.is_empty() || state.staged.is_again {
                return;
            }
            state.is_rough = false;
            state.apart = 0;
            if self.held.is_empty() {
                if let Some(later) = self.later.take() {
                    debug_assert_eq!(state.staged.count, 0);
                    // What `last` says is of other batches by now.
                    state.staged = Batch { is_sealed: true, ..later };
                }
                self.lane.count_waiting(state.staged.count as usize);
                return;
            }
            if state.staged.count > 0 {
                // Nothing is pushed while any is held: this is what was staged behind the round that was not smooth.
                debug_assert!(self.later.is_none());
                self.later = Some(std::mem::take(&mut state.staged));
            }
        }
        // One that was ended in the middle may have been the victim of others: it gets a round of its own.
        let alone = matches!(self.held.front(), Some(Held::Open { cut_short: true, .. }));
        let held = std::mem::take(&mut self.held);
        let open = held.iter().filter_map(|held| match held {
            Held::Open { message, .. } => Some(&**message),
            Held::Over(_) => None,
        });
        let again = if alone { 1 } else { open.clone().count() };
        let later = self.later.as_ref().map_or(0, |later| later.count as usize);
        self.lane.lock().apart = open.clone().count() - again + later;
        self.stage(open.take(again));
        self.held = held;
        let mut state = self.lane.lock();
        state.staged.alone = alone;
        state.staged.is_again = true;
    }

    fn is_waited_for(&self) -> bool {
        let state = self.lane.lock();
        state.staged.count > 0 || state.rounds > 0
    }
}

/// A record as if its round's stamp had been 0.
fn with_stamp_zero(record: &[u8], code: Option<u32>) -> Box<[u8]> {
    let mut record: Box<[u8]> = record.into();
    record[..4].copy_from_slice(&code.unwrap_or(0).to_ne_bytes());
    record
}

impl Port for WgpuPort {
    fn engine(&self) -> &'static str {
        "wgpu"
    }

    fn free(&self) -> usize {
        if !self.held.is_empty() || self.later.is_some() {
            return 0;
        }
        let state = self.lane.lock();
        if state.staged.is_sealed { 0 } else { self.round - state.staged.count as usize }
    }

    fn push(&mut self, batch: &mut dyn Iterator<Item = (Token, &[u8])>) {
        let mut tokens = std::mem::take(&mut self.tokens);
        self.stage(batch.map(|(token, message)| {
            tokens.push_back(token);
            message
        }));
        self.tokens = tokens;
    }

    fn progress(&mut self, until: &Until<'_>) -> Progress {
        self.stage_again();
        self.lane.lock().is_paused = false;
        self.pump.enqueue(&self.lane);
        if self.lane.has_news() {
            return self.news();
        }
        if !self.is_waited_for() {
            return Progress::Done;
        }
        if let Some(is_over) = until.patience {
            let lane = &self.lane;
            let over = || lane.has_news() || lane.control.stop_requested() || is_over();
            self.pump.wait_until(lane, until.deadline, &over);
        } else if until.slice.is_some() {
            self.pump.look();
        } else {
            self.pump.ring();
        }
        if self.lane.has_news() { self.news() } else { Progress::UnderWay }
    }

    fn pop(&mut self, sink: &mut dyn FnMut(Completion<'_>)) {
        loop {
            let returned = self.lane.lock().returned.pop_front();
            match returned {
                Some(returned) => self.absorb(returned, sink),
                None => break,
            }
        }
        self.stage_again();
    }

    fn clear(&mut self) {
        let mut state = self.lane.lock();
        state.staged.clear();
        state.returned.clear();
        state.apart = 0;
        drop(state);
        self.lane.count_waiting(0);
        self.tokens.clear();
        self.held.clear();
        self.later = None;
    }

    fn recall(&mut self, deadline: Option<Instant>) -> bool {
        self.lane.lock().is_paused = true;
        let lane = &self.lane;
        lane.is_idle() || self.pump.wait_until(lane, deadline, &|| lane.is_idle())
    }

    fn failure(&self) -> Option<Error> {
        self.lane.lock().failure.clone()
    }

    fn read_state(&mut self) -> Result<Vec<u8>> {
        if self.state_size == 0 {
            return Ok(Vec::new());
        }
        if self.gpu.is_lost() {
            return Err(self.gpu.lost_error());
        }
        let deadline = Some(Instant::now() + PATIENCE);
        self.lane.group.read_states(&self.lane.places, self.state_size, deadline)
    }

    fn reset_on_fault(&mut self, states: Option<Arc<[u8]>>) -> Result<()> {
        if self.state_size == 0 {
            return Ok(());
        }
        self.lane.set_fallback(states.as_deref(), self.state_size)
    }
}

impl WgpuPort {
    fn news(&self) -> Progress {
        if self.lane.lock().failure.is_some() { Progress::Lost } else { Progress::Done }
    }
}

impl Drop for WgpuPort {
    fn drop(&mut self) {
        let mut state = self.lane.lock();
        state.is_closed = true;
        state.staged.clear();
        state.returned.clear();
    }
}
