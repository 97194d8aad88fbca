//! A kernel's port on a wgpu device: stages messages for the next round, and reads what rounds bring back.

use super::chains::Table;
use super::ends::Ends;
use super::gpu::Gpu;
use super::group::{CUT_SHORT, DONE, Group};
use super::lane::{Batch, Lane, Part, Passing, Returned};
use super::pump::Pump;
use super::round::Landed;
use crate::backend::tokens::{Run, Tokens};
use crate::backend::{
    Completion, DeviceInlet, DeviceStorage, Fault, LaunchSpec, Packed, Port, Progress, Shape, Strided, Until,
};
use crate::compile::FaultCode;
use crate::error::{Error, Result};
use crate::message::Token;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A wait for the device that nobody gave a deadline ends after so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages to instances that the device gets at once: their chains are made while it has those before them. Worth a tenth
/// of the throughput even where the device is the host's own processors (measured on llvmpipe).
const MOST_CHAINED: usize = 1 << 15;

/// Records that are looked at and handed out together.
const PIECE: u32 = 256;

/// See the module.
pub(super) struct WgpuPort {
    pump: Arc<Pump>,
    gpu: Arc<Gpu>,
    lane: Arc<Lane>,
    message_size: usize,
    has_state: bool,
    reply_size: usize,
    /// Messages it takes at once.
    round: usize,
    /// Of the messages in the port, in order.
    tokens: Tokens,
    /// Messages of which some have to run again before those behind them can be handed out.
    held: VecDeque<Held>,
    /// Messages that were staged when that was found out.
    later: Option<Batch>,
    /// What popped messages brought to the next kernel.
    passing: Vec<Passing>,
    /// [Detours](super::lane::LaneState::detours) of popped messages.
    detours: u32,
    /// Of a kernel with instances: which of the staged messages are whose.
    table: Option<Table>,
    /// Keeps the tables' memory.
    _tables: Vec<Arc<dyn DeviceStorage>>,
}

/// A message whose turn to be handed out has not come.
enum Held {
    /// What became of it, and its record.
    Over(u32, Box<[u8]>),
    /// It has to run: its bytes, and whether the device ended it in the middle.
    Open { message: Box<[u8]>, cut_short: bool },
}

impl WgpuPort {
    pub fn new(pump: Arc<Pump>, group: Arc<Group>, spec: LaunchSpec) -> Result<Self> {
        let places = group.allocate(spec.shape.instances())?;
        let gpu = group.gpu.clone();
        let most = match spec.shape {
            Shape::Stateless => usize::MAX,
            Shape::Serial => group.longest_chain as usize,
            Shape::Instances { .. } => MOST_CHAINED.min(group.longest_chain as usize),
        };
        let round = (spec.round as usize).min(group.most as usize).min(most);
        let has_state = !spec.initial_state.is_empty();
        // Who waits for a reply does not wait for the kernels behind the one that gives it.
        let onward = match (&spec.onward[..], &group.shader.record.emits[..]) {
            ([onward], [emit]) if spec.reply_size == 0 && emit.size > 0 && pump.has_links() => {
                Some(onward.clone())
            }
            _ => None,
        };
        let has_instances = matches!(spec.shape, Shape::Instances { .. });
        let table = has_instances.then(|| Table::new(spec.shape));
        let ends = has_instances.then(|| Ends::new(spec.shape));
        let states = spec.all_states();
        let lane = Lane::new(group.clone(), places.clone(), spec.control, round as u32, onward, ends);
        let lane = Arc::new(lane);
        group.write_states(places.start, &states)?;
        pump.watch(&lane);
        Ok(Self {
            pump,
            gpu,
            lane,
            message_size: spec.message_size as usize,
            has_state,
            reply_size: spec.reply_size as usize,
            round,
            tokens: Tokens::default(),
            held: VecDeque::new(),
            later: None,
            passing: Vec::new(),
            detours: 0,
            table,
            _tables: spec.tables,
        })
    }

    /// Puts messages behind those that are staged; those that have been there before without their tokens.
    fn stage<'a>(&mut self, messages: impl Iterator<Item = (Option<Token>, &'a [u8])>) {
        let Self { lane, table, .. } = self;
        let goes_on = lane.onward.is_some();
        let mut state = lane.lock();
        let staged = &mut state.staged;
        for (token, message) in messages {
            if let Some(table) = table {
                table.add(&mut staged.chains, staged.count, std::iter::once(message));
            }
            staged.count += 1;
            staged.tokens.extend(token.filter(|_| goes_on));
            staged.own().extend_from_slice(message);
        }
        let waiting = staged.count as usize + state.apart;
        lane.count_waiting(waiting);
    }

    /// Hands out the results of a round, or keeps them until those before them are there.
    fn absorb(&mut self, returned: Returned, sink: &mut dyn FnMut(Completion<'_>)) {
        let Returned { mut batch, landed, first, next } = returned;
        if batch.linked.is_some() {
            for (index, first) in batch.tokens.iter().copied().enumerate() {
                sink(Completion::Arrived { token: first, message: batch.message(index, self.message_size) });
                self.tokens.push(first);
            }
        }
        self.absorb_records(&batch, &landed, first, sink);
        drop(landed);
        if let Some(most) = batch.linked {
            sink(Completion::LinkOver { most: most as usize });
        }
        self.passing.extend(next.map(|next| *next));
        self.detours += u32::from(batch.is_detour);
        batch.clear();
        self.lane.lock().spare.push(batch);
    }

    fn absorb_records(
        &mut self,
        batch: &Batch,
        landed: &Landed,
        first: u32,
        sink: &mut dyn FnMut(Completion<'_>),
    ) {
        let all = first..first + batch.count;
        let begin =
            if self.held.is_empty() { self.hand_out_first(batch, landed, all.clone(), sink) } else { first };
        if batch.is_again {
            self.hold_again(batch, landed, begin..all.end);
        } else {
            for number in begin..all.end {
                self.held.push_back(match batch.end_of(landed, number) {
                    Some(code) => Held::Over(code, landed.records(number, 1).into()),
                    None => {
                        let message = batch.message((number - first) as usize, self.message_size);
                        let cut_short = landed.code(number) == Some(CUT_SHORT);
                        Held::Open { message: message.into(), cut_short }
                    }
                });
            }
        }
        let is_over = |held: &mut Held| matches!(held, Held::Over(..));
        while let Some(Held::Over(code, record)) = self.held.pop_front_if(is_over) {
            let token = self.tokens.take(1);
            self.hand_out(token, code, &record, true, sink);
        }
    }

    /// Hands out results of a round up to the first message that has to run again, whose number is returned, or the end.
    fn hand_out_first(
        &mut self,
        batch: &Batch,
        landed: &Landed,
        all: Range<u32>,
        sink: &mut dyn FnMut(Completion<'_>),
    ) -> u32 {
        let mut first = all.start;
        // A piece at a time, so that what is looked at is at hand when it is handed out.
        while first < all.end {
            let next = self.tokens.front().expect("a token for each message");
            let most = if next.is_together { (next.count as u32).min(PIECE) } else { 1 };
            let piece = first..all.end.min(first + most);
            let is_done = |number| landed.code(number) == Some(DONE);
            if next.is_together && piece.clone().all(is_done) {
                let records = landed.records(first, piece.len() as u32);
                self.hand_out_run(records, (all.end - piece.end) as usize, sink);
            } else {
                // Up to where what was emitted has gone over a link all have ended.
                let emits = first - all.start >= batch.passed;
                for number in piece.clone() {
                    let Some(code) = batch.end_of(landed, number) else { return number };
                    let token = self.tokens.take(1);
                    self.hand_out(token, code, landed.records(number, 1), emits, sink);
                }
            }
            first = piece.end;
        }
        first
    }

    /// Enters what became of messages that ran again, which are held.
    fn hold_again(&mut self, batch: &Batch, landed: &Landed, numbers: Range<u32>) {
        let open = self.held.iter_mut().filter(|held| matches!(held, Held::Open { .. }));
        for (held, number) in open.zip(numbers) {
            if let Some(code) = batch.end_of(landed, number) {
                *held = Held::Over(code, landed.records(number, 1).into());
            } else if let Held::Open { cut_short, .. } = held {
                *cut_short = landed.code(number) == Some(CUT_SHORT);
            }
        }
    }

    /// The completion of messages that came together and were all handled; `more` are behind them.
    fn hand_out_run(&mut self, records: &[u8], more: usize, sink: &mut dyn FnMut(Completion<'_>)) {
        let record = &self.lane.group.shader.record;
        let (stride, at, size) = (record.stride as usize, record.reply as usize, self.reply_size);
        let count = records.len() / stride;
        let first = self.tokens.take(count);
        let replies = Strided { count, bytes: &records[at..], stride, size };
        sink(Completion::Run { first, replies, more });
    }

    /// One message's completion, by its record; with what it emitted, unless that went over a link.
    fn hand_out(
        &self,
        token: Token,
        code: u32,
        record: &[u8],
        emits: bool,
        sink: &mut dyn FnMut(Completion<'_>),
    ) {
        let layout = &self.lane.group.shader.record;
        match code {
            DONE => {
                for (output, emit) in layout.emits.iter().enumerate().filter(|_| emits) {
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
                let fault = if code == CUT_SHORT { Fault::CutShort } else { FaultCode::of(code).into() };
                sink(Completion::Faulted { token, fault });
            }
        }
    }

    /// Stages what has to run again, before what was staged behind it.
    fn stage_again(&mut self) {
        {
            let mut state = self.lane.lock();
            let more_comes = state.rounds > 0 || state.on_the_way > 0 || !state.returned.is_empty();
            if more_comes || state.staged.is_again {
                return;
            }
            state.apart = 0;
            if self.held.is_empty() {
                if let Some(later) = self.later.take() {
                    debug_assert_eq!(state.staged.count, 0);
                    // What the table says is of other batches by now.
                    state.staged = Batch { is_sealed: true, ..later };
                }
                state.is_rough = false;
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
            Held::Over(..) => None,
        });
        let again = if alone { 1 } else { open.clone().count() };
        let later = self.later.as_ref().map_or(0, |later| later.count as usize);
        self.lane.lock().apart = open.clone().count() - again + later;
        self.stage(open.map(|message| (None, message)).take(again));
        self.held = held;
        let mut state = self.lane.lock();
        state.staged.alone = alone;
        state.staged.is_again = true;
        // Only now: until here nothing might begin, and no link open.
        state.is_rough = false;
    }

    fn is_waited_for(&self) -> bool {
        let state = self.lane.lock();
        state.staged.count > 0 || state.rounds > 0 || state.on_the_way > 0
    }
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
        self.stage(batch.map(|(first, message)| {
            tokens.push(first);
            (Some(first), message)
        }));
        self.tokens = tokens;
    }

    fn push_run(&mut self, first: Token, messages: &Arc<dyn Packed>, range: Range<usize>, size: usize) {
        let Self { lane, table, .. } = self;
        let is_together = lane.group.shader.record.emits.is_empty();
        self.tokens.push_run(Run { first, count: range.len(), is_together });
        let bytes = range.start * size..range.end * size;
        let mut state = lane.lock();
        let staged = &mut state.staged;
        if let Some(table) = table {
            let messages = messages.bytes()[bytes.clone()].chunks_exact(size);
            table.add(&mut staged.chains, staged.count, messages);
        }
        staged.count += range.len() as u32;
        staged.parts.push(Part::Shared(messages.clone(), bytes));
        let waiting = staged.count as usize + state.apart;
        lane.count_waiting(waiting);
    }

    fn begin(&mut self) -> bool {
        // What is paused or has to run again is for `progress`.
        if self.lane.lock().staged.count > 0 {
            self.pump.enqueue(&self.lane);
            self.pump.submit_waiting();
        }
        let state = self.lane.lock();
        state.is_queued || state.rounds > 0 || state.on_the_way > 0
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
            self.pump.wait_until(lane, until.limits.deadline, &over);
        } else if !until.is_background() {
            self.pump.look(&self.lane);
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
        let most = std::mem::take(&mut self.lane.lock().called_off);
        if most > 0 {
            sink(Completion::LinkOver { most });
        }
        self.stage_again();
    }

    fn overlaps(&self) -> bool {
        self.lane.most_rounds() > 1
    }

    fn inlet(&self) -> Option<Arc<dyn DeviceInlet>> {
        Some(self.lane.clone())
    }

    fn pass_on(&mut self, sink: &mut dyn FnMut(Completion<'_>)) {
        for passing in self.passing.drain(..) {
            // Before the kernel there can show what comes of them.
            sink(Completion::Passed { output: 0, count: passing.returned.batch.count as usize });
            if let Some(Returned { batch, .. }) = passing.arrive() {
                let size = self.lane.group.shader.record.emits[0].size as usize;
                for (index, token) in batch.tokens.iter().copied().enumerate() {
                    sink(Completion::Emit { token, output: 0, value: batch.message(index, size) });
                }
            }
        }
    }

    fn all_is_out(&mut self) {
        // What is kept until others have run again is not where it goes.
        if self.detours > 0 && self.held.is_empty() {
            self.lane.lock().detours -= std::mem::take(&mut self.detours);
        }
    }

    fn close(&mut self) {
        self.lane.lock().is_closed = true;
    }

    fn recall(&mut self, deadline: Option<Instant>) -> bool {
        self.lane.lock().is_paused = true;
        let lane = &self.lane;
        lane.is_idle() || self.pump.wait_until(lane, deadline, &|| lane.is_idle())
    }

    fn resume(&mut self) {
        self.lane.lock().is_paused = false;
    }

    fn ran_beside(&self) -> Vec<usize> {
        let is_over = |(_, held): &(usize, &Held)| matches!(held, Held::Over(..));
        self.held.iter().enumerate().filter(is_over).map(|(index, _)| index).collect()
    }

    fn failure(&self) -> Option<Error> {
        self.lane.lock().failure.clone()
    }

    fn read_state(&mut self) -> Result<Vec<u8>> {
        if !self.has_state {
            return Ok(Vec::new());
        }
        if self.gpu.is_lost() {
            return Err(self.gpu.lost_error());
        }
        let deadline = Some(Instant::now() + PATIENCE);
        self.lane.group.read_states(&self.lane.places, deadline)
    }

    fn reset_on_fault(&mut self, states: Option<Arc<[u8]>>) -> Result<()> {
        if !self.has_state {
            return Ok(());
        }
        self.lane.set_fallback(states.as_deref())
    }
}

impl WgpuPort {
    /// What came back is nobody's, but what it brought to other kernels is theirs.
    fn let_go(&mut self) {
        let returned = std::mem::take(&mut self.lane.lock().returned);
        let next = returned.into_iter().filter_map(|returned| returned.next).map(|next| *next);
        for passing in self.passing.drain(..).chain(next) {
            drop(passing.arrive());
        }
    }

    fn news(&self) -> Progress {
        if self.lane.lock().failure.is_some() { Progress::Lost } else { Progress::Done }
    }
}

impl Drop for WgpuPort {
    fn drop(&mut self) {
        let mut state = self.lane.lock();
        state.is_closed = true;
        state.staged.clear();
        drop(state);
        self.let_go();
    }
}
