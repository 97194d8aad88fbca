//! Links on the device: what one kernel's round emitted goes into the next kernel's round, in the same submission.
//!
//! The pass in `shaders/link.wgsl` packs the values between the two rounds. When the submission is over the host does the
//! same once more, with the same records, so that its books have every message: a kernel hears of what came to it when
//! the kernel before has entered what it came from ([`Passing`]). Chains of messages for the same instance are made by the
//! pass, which is the first to have the messages.

use super::ends::Ends;
use super::gpu::Gpu;
use super::group::{DONE, FIRST_ITEM, ITEM_WORDS, Piece, STATUS_BITS};
use super::lane::{Batch, Lane, NONE, Passing, Returned};
use super::round::{Landed, Round};
use crate::backend::onward::{self, MOST_LEGS};
use crate::backend::{DeviceInlet, Shape};
use crate::compile::EmitSlot;
use crate::error::Result;
use std::any::Any;
use std::sync::Arc;

const PASS: &str = include_str!("../../../shaders/link.wgsl");

/// A link's parameters, as `RtLink` in `shaders/link.wgsl`, which says what they are. Behind the words of the next round.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Parameters {
    first: u32,
    stride: u32,
    count: u32,
    count_at: u32,
    done: u32,
    values: u32,
    items: u32,
    item_stride: u32,
    item_size: u32,
    most: u32,
    messages: u32,
    message_stride: u32,
    messages_at: u32,
    workgroup: u32,
    instances: u32,
    instance_at: u32,
    place: u32,
    fallback: u32,
    links: u32,
    base: u32,
}

/// Words of a link's parameters.
pub(super) const WORDS: usize = size_of::<Parameters>() / 4;
/// Invocations of the pass: `rt_WORKGROUP`.
const WORKGROUP: u32 = 64;
/// Messages that a round of a kernel with instances may get over a link, at most: its chains are made by one workgroup, and
/// the host has been there and back before it is done with many of them (measured on llvmpipe, where 256 took 0.65 of the
/// time that they take through the host, and 1,024 up to 1.5 times as long).
const MOST_CHAINED: u32 = 512;
/// Rounds that a kernel has not handed out, at most, when another one is to bring messages: each keeps its buffers.
const MOST_WAITING: usize = 8;

/// See the module.
pub(super) struct LinkPass {
    plain: Pass,
    /// Into kernels with instances.
    chained: Pass,
}

struct Pass {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

/// One step of what a round's messages emit: into a round of this kernel.
pub(super) struct Leg {
    lane: Arc<Lane>,
    /// Messages it may bring.
    most: u32,
    /// What its messages emit goes through the host.
    is_last: bool,
}

/// Where a round's messages come from: a piece of a round before it in the same submission.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub round: usize,
    pub piece: usize,
    /// The piece's first message in that round.
    pub first: u32,
}

/// How a round's messages come to it.
pub(super) struct Link {
    pub origin: Origin,
    pipeline: wgpu::ComputePipeline,
    pub buffers: LinkBuffers,
}

/// What the pass works on.
#[derive(Clone)]
pub(super) struct LinkBuffers {
    /// The source's.
    records: wgpu::Buffer,
    /// The sink's [ends](super::ends::Ends).
    ends: Option<wgpu::Buffer>,
    bind_group: wgpu::BindGroup,
    /// The size of the dispatch behind the pass.
    pub size: wgpu::Buffer,
}

impl Link {
    pub fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.buffers.bind_group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
}

/// Iterations that an invocation of the pass makes for so many messages, at most.
fn trips(messages: u32, emit: &EmitSlot) -> u64 {
    // A value is looked at, and copied; and tiles of values are chained.
    let tile = 1 + u64::from(WORKGROUP.ilog2()) + u64::from(emit.max) * u64::from(emit.size / 4 + 3);
    u64::from(messages.div_ceil(WORKGROUP)) * tile
}

/// The word of a round that says how many messages it has: the items of a stateless kernel, the end of a serial one's; of
/// one with instances, whose items are chains, a word of its own.
fn count_at(shape: Shape) -> u32 {
    match shape {
        Shape::Stateless => 0,
        Shape::Serial => FIRST_ITEM as u32 + 1,
        Shape::Instances { .. } => FIRST_ITEM as u32 - 1,
    }
}

impl LinkPass {
    pub fn new(gpu: &Gpu) -> Result<Self> {
        let scope = gpu.scope();
        let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("ringwork link"),
            source: wgpu::ShaderSource::Wgsl(PASS.into()),
        });
        let pass = |entry_point| {
            let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some("ringwork link"),
                layout: None,
                module: &module,
                entry_point: Some(entry_point),
                // It writes what it reads.
                compilation_options: wgpu::PipelineCompilationOptions {
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            });
            Pass { layout: pipeline.get_bind_group_layout(0), pipeline }
        };
        let (plain, chained) = (pass("rt_main"), pass("rt_main_chained"));
        scope.check("the link pass")?;
        Ok(Self { plain, chained })
    }

    /// The rounds behind these in the same submission: where what their messages emit goes.
    pub fn extend(&self, rounds: &mut Vec<Round>) {
        for round in 0..rounds.len() {
            let mut first = 0;
            for piece in 0..rounds[round].pieces.len() {
                let from = &mut rounds[round].pieces[piece];
                let (count, legs) = (from.batch.count, std::mem::take(&mut from.legs));
                self.follow(rounds, Origin { round, piece, first }, legs);
                first += count;
            }
        }
    }

    fn follow(&self, rounds: &mut Vec<Round>, mut origin: Origin, legs: Vec<Leg>) {
        let mut legs = legs.into_iter();
        while let Some(leg) = legs.next() {
            match self.round(rounds, origin, &leg) {
                Ok(next) => {
                    rounds.push(next);
                    origin = Origin { round: rounds.len() - 1, piece: 0, first: 0 };
                }
                Err(_) => {
                    // There is no memory for it now: through the host, which tries again and tells if there still is none.
                    leg.call_off();
                    legs.for_each(|leg| leg.call_off());
                    let Piece { lane, batch, .. } = &mut rounds[origin.round].pieces[origin.piece];
                    lane.take_detour(&mut lane.lock(), batch);
                    return;
                }
            }
        }
    }

    /// A round whose messages come from one before it.
    fn round(&self, rounds: &[Round], origin: Origin, leg: &Leg) -> Result<Round> {
        let (lane, source) = (&leg.lane, &rounds[origin.round]);
        let mut batch = lane.lock().spare.pop().unwrap_or_default();
        (batch.count, batch.linked) = (leg.most, Some(leg.most));
        batch.alone = lane.group.alone;
        batch.is_detour = leg.is_last && lane.emits();
        let piece = Piece { lane: lane.clone(), batch, legs: Vec::new() };
        let (mut round, mut words) = lane.group.blank(vec![piece])?;
        let ends = lane.ends.as_ref().map(|ends| ends.next(&lane.group.gpu, leg.most)).transpose()?;
        let (ends, base) = ends.unzip();
        let parameters = parameters(source, origin, &round, lane, base.unwrap_or(0));
        words.extend_from_slice(bytemuck::cast_slice(&[parameters]));
        round.fill(&words)?;
        let is_known = |link: &&LinkBuffers| link.records == source.sheet.records && link.ends == ends;
        let pass = if ends.is_some() { &self.chained } else { &self.plain };
        let buffers = match round.sheet.link.as_ref().filter(is_known) {
            Some(buffers) => buffers.clone(),
            None => pass.buffers(source, &round, ends)?,
        };
        round.sheet.link = Some(buffers.clone());
        round.link = Some(Link { origin, pipeline: pass.pipeline.clone(), buffers });
        Ok(round)
    }
}

impl Pass {
    fn buffers(&self, source: &Round, sink: &Round, ends: Option<wgpu::Buffer>) -> Result<LinkBuffers> {
        let gpu = &sink.group.gpu;
        let size = match &sink.sheet.link {
            Some(link) => link.size.clone(),
            None => {
                let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::INDIRECT;
                gpu.buffer("the size of a round", 16, usage, false)?
            }
        };
        let buffers = [&source.sheet.records, &source.sheet.upload, &sink.sheet.upload, &size];
        let entries: Vec<_> = (0..)
            .zip(buffers.into_iter().chain(&ends))
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let scope = gpu.scope();
        let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("ringwork link"),
            layout: &self.layout,
            entries: &entries,
        });
        scope.check("the buffers of a link")?;
        Ok(LinkBuffers { records: source.sheet.records.clone(), ends, bind_group, size })
    }
}

fn parameters(source: &Round, origin: Origin, sink: &Round, lane: &Lane, base: u32) -> Parameters {
    let (record, shader) = (&source.group.shader.record, &sink.group.shader);
    let emit = &record.emits[0];
    let count = if source.link.is_some() { NONE } else { source.pieces[origin.piece].batch.count };
    Parameters {
        first: (record.first + origin.first * record.stride) / 4,
        stride: record.stride / 4,
        count,
        count_at: count_at(source.group.shape),
        done: source.stamp << STATUS_BITS | DONE,
        values: emit.count_offset / 4,
        items: emit.items_offset / 4,
        item_stride: emit.stride / 4,
        item_size: emit.size / 4,
        most: emit.max,
        messages: (sink.sheet.messages_at / 4) as u32,
        message_stride: shader.message_stride / 4,
        messages_at: count_at(sink.group.shape),
        workgroup: shader.workgroup,
        instances: lane.ends.as_ref().map_or(0, |ends| ends.shape.instances()),
        instance_at: lane.ends.as_ref().map_or(0, |ends| ends.shape.instance_word()),
        place: lane.places.start,
        fallback: lane.fallback().unwrap_or(NONE),
        links: (FIRST_ITEM + ITEM_WORDS * sink.messages as usize) as u32,
        base,
    }
}

impl Leg {
    /// The round does not come about.
    pub fn call_off(&self) {
        let mut state = self.lane.lock();
        state.rounds = state.rounds.saturating_sub(1);
        state.passes = false;
        state.detours -= u32::from(self.is_last && self.lane.emits());
        state.called_off += self.most as usize;
        drop(state);
        self.lane.notify();
        self.lane.tell_kernel();
    }
}

/// Opens the way for what these messages of a kernel emit, as far as it leads on the device. `longest`: the device ends
/// loops after so many iterations.
pub(super) fn legs(lane: &Arc<Lane>, messages: u32, longest: Option<u32>) -> Vec<Leg> {
    let mut legs: Vec<Leg> = Vec::new();
    let (mut lane, mut count) = (lane.clone(), messages);
    while legs.len() < MOST_LEGS
        && let Some(onward) = &lane.onward
    {
        let emit = &lane.group.shader.record.emits[0];
        if longest.is_some_and(|longest| trips(count, emit) > u64::from(longest / 2)) {
            break;
        }
        let Some(next) = onward::open(&**onward, &lane, count as usize) else { break };
        // No more than that takes, which has looked.
        count *= emit.max;
        if let Some(leg) = legs.last_mut() {
            leg.is_last = false;
        }
        legs.push(Leg { lane: next.clone(), most: count, is_last: true });
        lane = next;
    }
    for leg in &legs {
        let mut state = leg.lane.lock();
        state.passes = !leg.is_last;
        state.detours += u32::from(leg.is_last && leg.lane.emits());
    }
    legs
}

impl DeviceInlet for Lane {
    fn open(&self, source: &Arc<dyn DeviceInlet>, most: usize) -> bool {
        let source: &dyn Any = &**source;
        let Some(source) = source.downcast_ref::<Self>() else { return false };
        let (from, to) = (&source.group, &self.group);
        let fits = Arc::ptr_eq(&from.gpu, &to.gpu)
            && from.shader.record.emits.first().is_some_and(|emit| emit.size == to.shader.message_stride)
            && most <= self.ends.as_ref().map_or(self.most, |_| self.most.min(MOST_CHAINED)) as usize;
        let mut state = self.lock();
        // One at a time where the order of what it emits depends on how the one before ended.
        let rounds = if self.emits() { 1 } else { self.most_rounds() };
        let goes = fits
            && state.staged.count == 0
            && state.rounds < rounds
            && state.detours == 0
            && state.on_the_way as usize + state.returned.len() < MOST_WAITING
            && !(state.is_rough || state.is_paused || state.is_closed)
            && state.failure.is_none()
            && !self.control.stop_requested();
        state.rounds += u32::from(goes);
        goes
    }

    fn is_lost(&self) -> bool {
        self.lock().failure.is_some()
    }
}

/// A round that is over: its kernels' parts, where they come from, and its records.
pub(super) type Over = (Vec<Piece>, Option<Origin>, Arc<Landed>);

/// Finds out what went over links, and gives each kernel with a part in these rounds that did not come over one what came
/// back of it, with what it brought to others.
pub(super) fn hand_back(mut rounds: Vec<Over>, mut give: impl FnMut(&Arc<Lane>, Returned)) {
    for index in 0..rounds.len() {
        let (before, rest) = rounds.split_at_mut(index);
        if let (pieces, Some(origin), _) = &mut rest[0] {
            let (sources, _, landed) = &mut before[origin.round];
            let Piece { lane, batch, .. } = &mut pieces[0];
            bring(landed, origin.first, &mut sources[origin.piece].batch, batch, lane.ends.as_ref());
        }
    }
    let mut brought: Vec<(Origin, Box<Passing>)> = Vec::new();
    // From the ends of the links.
    while let Some((pieces, origin, landed)) = rounds.pop() {
        let mut first = 0;
        for (index, Piece { lane, batch, .. }) in pieces.into_iter().enumerate() {
            let is_from = |(origin, _): &(Origin, _)| (origin.round, origin.piece) == (rounds.len(), index);
            let next = brought.iter().position(is_from).map(|at| brought.swap_remove(at).1);
            let count = batch.count;
            let mut returned = Returned { batch, landed: landed.clone(), first, next };
            first += count;
            match origin {
                None => give(&lane, returned),
                Some(origin) => {
                    let mut state = lane.lock();
                    lane.end_round(&mut state, &mut returned);
                    state.on_the_way += 1;
                    drop(state);
                    brought.push((origin, Box::new(Passing { lane, returned })));
                }
            }
        }
    }
}

/// Does what the pass did; `ends`: of the sink.
fn bring(landed: &Landed, first: u32, source: &mut Batch, sink: &mut Batch, ends: Option<&Ends>) {
    let record = &landed.round().group.shader.record;
    let emit = &record.emits[0];
    sink.count = 0;
    let records = landed.records(first, source.count).chunks_exact(record.stride as usize);
    for (number, record) in (first..).zip(records) {
        let is_astray = |value| ends.is_some_and(|ends| !ends.have(value));
        if landed.code(number) != Some(DONE) || emit.values(record).any(is_astray) {
            break;
        }
        let token = source.tokens[source.passed as usize];
        for value in emit.values(record) {
            sink.own().extend_from_slice(value);
            sink.tokens.push(token);
            sink.count += 1;
        }
        source.passed += 1;
    }
}

impl Passing {
    /// Gives it to the kernel at the link's end, or gives it back if that is gone.
    pub fn arrive(self) -> Option<Returned> {
        let Self { lane, mut returned } = self;
        let mut state = lane.lock();
        state.on_the_way = state.on_the_way.saturating_sub(1);
        if state.failure.is_none() && !state.is_closed {
            state.returned.push_back(returned);
            drop(state);
            lane.notify();
            lane.tell_kernel();
            return None;
        }
        drop(state);
        lane.notify();
        // A kernel that was given up in the middle has run all the same, and the next one has what came of it; that one
        // notices itself if the device is lost.
        if let Some(next) = returned.next.take() {
            drop(next.arrive());
        }
        Some(returned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_shaders_call_the_same_by_the_same_names() {
        const ROUND: &str = include_str!("../../../shaders/ring.wgsl");
        let in_rounds = [
            ("rt_STATUS_BITS", STATUS_BITS),
            ("rt_CUT_SHORT", super::super::group::CUT_SHORT),
            ("rt_DONE", DONE),
            ("rt_FIRST_ITEM", FIRST_ITEM as u32),
            ("rt_ITEM_WORDS", ITEM_WORDS as u32),
            ("rt_STATELESS", Shape::Stateless.code()),
            ("rt_SERIAL", Shape::Serial.code()),
            ("rt_INSTANCES", Shape::Instances { count: 1, field_offset: 0 }.code()),
        ];
        for (name, value) in in_rounds {
            assert!(ROUND.contains(&format!("\nconst {name}: u32 = {value}u;\n")), "{name} is not {value}");
        }
        assert!(ROUND.contains(&format!("\nconst rt_NONE: u32 = {NONE:#x}u;\n")));
        let in_links = [
            ("rt_WORKGROUP", WORKGROUP),
            ("rt_FIRST_ITEM", FIRST_ITEM as u32),
            ("rt_ITEM_WORDS", ITEM_WORDS as u32),
        ];
        for (name, value) in in_links {
            assert!(PASS.contains(&format!("\nconst {name}: u32 = {value}u;\n")), "{name} is not {value}");
        }
        assert!(PASS.contains(&format!("\nconst rt_NONE: u32 = {NONE:#x}u;\n")));
    }

    #[test]
    fn the_pass_has_the_parameters_in_the_same_places() {
        macro_rules! places {
            ($($field:ident)*) => { [$((stringify!($field), offset_of!(Parameters, $field))),*] };
        }
        let places = places!(
            first stride count count_at done values items item_stride item_size most messages message_stride
            messages_at workgroup instances instance_at place fallback links base
        );
        let (_, rest) = PASS.split_once("struct RtLink {\n").expect("it has parameters");
        let (fields, _) = rest.split_once('}').expect("they end");
        let fields = fields.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let fields: Vec<_> =
            fields.filter_map(|line| line.strip_suffix(": u32,")).zip((0..).step_by(4)).collect();
        assert_eq!(fields, places);
    }
}
