//! Kernels that share a pipeline: rounds that serve all of them with one dispatch.

use super::arena::Arena;
use super::gpu::Gpu;
use super::lane::{Batch, Lane, NONE};
use super::link::{self, Leg};
use super::round::{Round, Sheet};
use super::shader::Shader;
use crate::backend::Shape;
use crate::error::Result;
use crate::sync::{Mutex, lock};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Bits of a status below its stamp; `shaders/ring.wgsl`.
pub(super) const STATUS_BITS: u32 = 3;
/// The loops of a message were ended by the device.
pub(super) const CUT_SHORT: u32 = 3;
/// A message was handled.
pub(super) const DONE: u32 = 4;
/// Words before the items.
pub(super) const FIRST_ITEM: usize = 5;
pub(super) const ITEM_WORDS: usize = 4;
/// Trips that the canary has to make.
const TRIPS: u32 = 3;

/// Messages that the first round buffers have room for.
const FIRST_MESSAGES: u32 = 64;

/// See the module.
pub(super) struct Group {
    pub gpu: Arc<Gpu>,
    pub shader: Shader,
    pub shape: Shape,
    pub tables: Option<wgpu::BindGroup>,
    /// Messages that fit into a round.
    pub most: u32,
    /// A kernel's messages share no round with another's, and none of them runs twice.
    pub alone: bool,
    /// Messages that one invocation may handle without its device ending the loop over them, if there are no other loops.
    pub longest_chain: u32,
    inner: Mutex<Inner>,
}

struct Inner {
    arena: Arena,
    /// Buffers of rounds that are over.
    idle: Vec<Sheet>,
    stamp: u32,
    /// Counts how often the stamps began again: what was written under those before must not be seen.
    era: u32,
}

/// One kernel's part of a round.
pub(super) struct Piece {
    pub lane: Arc<Lane>,
    pub batch: Batch,
    /// Where what it emits goes on the device, and from there, and so on.
    pub legs: Vec<Leg>,
}

impl Group {
    /// With `at_once`, a kernel's messages share no round with another's, and there are no more of them in it.
    pub fn new(
        gpu: Arc<Gpu>,
        shader: Shader,
        shape: Shape,
        tables: Option<wgpu::BindGroup>,
        at_once: Option<u32>,
        longest_chain: u32,
    ) -> Result<Self> {
        let most = shader.most.min(at_once.unwrap_or(u32::MAX));
        let arena = Arena::new(&gpu, shader.state_stride)?;
        let inner = Inner { arena, idle: Vec::new(), stamp: 0, era: 0 };
        let alone = at_once.is_some();
        Ok(Self { gpu, shader, shape, tables, most, alone, longest_chain, inner: Mutex::new(inner) })
    }

    /// Places for a kernel's states.
    pub fn allocate(&self, states: u32) -> Result<Range<u32>> {
        if let Some(places) = lock(&self.inner).arena.find(states) {
            return Ok(places);
        }
        let _replacing = self.gpu.replace_states();
        lock(&self.inner).arena.allocate(&self.gpu, states)
    }

    pub fn free(&self, places: Range<u32>) {
        lock(&self.inner).arena.free(places);
    }

    pub fn write_states(&self, first: u32, states: &[u8]) -> Result<()> {
        lock(&self.inner).arena.write(&self.gpu, first, states)
    }

    /// Places that kernels have.
    #[cfg(test)]
    pub fn places_taken(&self) -> u32 {
        lock(&self.inner).arena.taken()
    }

    pub fn read_states(&self, places: &Range<u32>, deadline: Option<Instant>) -> Result<Vec<u8>> {
        // The copy is in the queue before the lock goes: the arena may grow, and the places stay what they were.
        let copy = lock(&self.inner).arena.copy(&self.gpu, places)?;
        copy.finish(deadline)
    }

    /// What a status says: the code, or `None` if it is of another round.
    #[inline]
    pub fn code(status: &[u8], stamp: u32) -> Option<u32> {
        let status: [u8; 4] = status[..4].try_into().expect("four bytes");
        let status = u32::from_ne_bytes(status);
        (status >> STATUS_BITS == stamp).then_some(status & ((1 << STATUS_BITS) - 1))
    }

    /// A round with these pieces, filled in; not more messages than [`most`](Self::most).
    pub fn prepare(self: &Arc<Self>, pieces: Vec<Piece>) -> Result<Round> {
        let (mut round, words) = self.blank(pieces)?;
        round.fill(&words)?;
        round.sheet.words = words;
        Ok(round)
    }

    /// … and its words, which have to be filled in.
    pub fn blank(self: &Arc<Self>, pieces: Vec<Piece>) -> Result<(Round, Vec<u32>)> {
        let messages: u32 = pieces.iter().map(|piece| piece.batch.count).sum();
        let mut inner = lock(&self.inner);
        inner.stamp += 1;
        if inner.stamp >> (32 - STATUS_BITS) != 0 {
            // New buffers are zero, and no stamp is.
            inner.stamp = 1;
            inner.era += 1;
            inner.idle.clear();
        }
        let stamp = inner.stamp;
        let mut sheet = match inner.idle.iter().position(|sheet| sheet.capacity >= messages) {
            Some(index) => inner.idle.swap_remove(index),
            None => {
                // Those that became too small would never be used again.
                inner.idle.clear();
                let capacity = messages.max(FIRST_MESSAGES).next_power_of_two().min(self.most);
                self.sheet(&inner.arena, capacity, inner.era)?
            }
        };
        if sheet.generation != inner.arena.generation {
            let states = sheet.statuses.as_ref().unwrap_or(inner.arena.buffer());
            sheet.bind_group = self.bind(&sheet.upload, sheet.messages_at, &sheet.records, states);
            sheet.generation = inner.arena.generation;
            sheet.ahead = None;
        }
        drop(inner);
        let mut words = std::mem::take(&mut sheet.words);
        let items = self.write_words(&mut words, &pieces, messages, stamp);
        let round = Round { group: self.clone(), sheet, pieces, messages, items, stamp, link: None };
        Ok((round, words))
    }

    /// A round that has nothing to do: has the driver make its machine code.
    pub fn warm_up(self: &Arc<Self>) -> Result<()> {
        let scope = self.gpu.scope();
        let mut rounds = [self.prepare(Vec::new())?];
        let (commands, mapping) = Round::encode(&self.gpu, &mut rounds);
        let submission = self.gpu.submit(commands);
        let [mut round] = rounds;
        round.encode_ahead();
        scope.check("the first dispatch of a handler")?;
        self.gpu.wait(&submission, None)?;
        if mapping.is_over() && !mapping.has_failed() {
            round.retire();
        }
        Ok(())
    }

    /// Keeps the buffers of a round that is over.
    pub fn keep(&self, sheet: Sheet) {
        let mut inner = lock(&self.inner);
        if sheet.era == inner.era {
            inner.idle.push(sheet);
        }
    }

    /// The words of a round: see `shaders/ring.wgsl`. How many items they have.
    fn write_words(&self, words: &mut Vec<u32>, pieces: &[Piece], messages: u32, stamp: u32) -> u32 {
        words.clear();
        words.extend([0, stamp, TRIPS, 0, 0]);
        let mut first = 0;
        for Piece { lane, batch, .. } in pieces {
            let place = lane.places.start;
            let fallback = lane.fallback();
            match self.shape {
                Shape::Stateless => {}
                Shape::Serial => words.extend([first, first + batch.count, place, fallback.unwrap_or(NONE)]),
                Shape::Instances { .. } => {
                    let begin = words.len();
                    words.resize(begin + batch.chains.len() * ITEM_WORDS, 0);
                    let (items, _) = words[begin..].as_chunks_mut::<ITEM_WORDS>();
                    batch.chains.longest_first(|item, chain| {
                        let fallback = fallback.map_or(NONE, |fallback| fallback + chain.instance);
                        items[item] = [first + chain.first, NONE, place + chain.instance, fallback];
                    });
                }
            }
            first += batch.count;
        }
        let items = match self.shape {
            Shape::Stateless => messages,
            // Chains are made when the messages are there: one for each, at most.
            Shape::Instances { .. } if pieces.iter().any(|piece| piece.batch.linked.is_some()) => messages,
            _ => ((words.len() - FIRST_ITEM) / ITEM_WORDS) as u32,
        };
        words[0] = items;
        words[3] = words.len() as u32;
        let mut first = 0;
        for Piece { batch, .. } in pieces {
            let links = batch.chains.links.iter();
            words.extend(links.map(|next| if *next == NONE { NONE } else { first + next }));
            first += batch.count;
        }
        items
    }

    fn sheet(&self, arena: &Arena, capacity: u32, era: u32) -> Result<Sheet> {
        use wgpu::BufferUsages as Usage;
        let (gpu, capacity_bytes) = (&self.gpu, u64::from(capacity));
        // The parameters of a link, too.
        let words = (FIRST_ITEM + link::WORDS) as u64
            + match self.shape {
                Shape::Stateless => 0,
                Shape::Serial => capacity_bytes * ITEM_WORDS as u64,
                Shape::Instances { .. } => capacity_bytes * (ITEM_WORDS as u64 + 1),
            };
        let align = u64::from(gpu.limits.min_storage_buffer_offset_alignment).max(16);
        let messages_at = (words * 4).next_multiple_of(align);
        let size = messages_at + (capacity_bytes * u64::from(self.shader.message_stride)).max(16);
        let usage = Usage::STORAGE | if gpu.mapped { Usage::MAP_WRITE } else { Usage::COPY_DST };
        let upload = gpu.buffer("the messages of a round", size.next_multiple_of(16), usage, gpu.mapped)?;
        let record = &self.shader.record;
        let size = u64::from(record.first) + capacity_bytes * u64::from(record.stride);
        let size = size.next_multiple_of(16);
        let usage = Usage::STORAGE | if gpu.mapped { Usage::MAP_READ } else { Usage::COPY_SRC };
        let records = gpu.buffer("the results of a round", size, usage, false)?;
        let read_back = if gpu.mapped {
            None
        } else {
            let usage = Usage::MAP_READ | Usage::COPY_DST;
            Some(gpu.buffer("the results of a round", size, usage, false)?)
        };
        // What they are read from is there beforehand, too: that a message faulted must not depend on free memory.
        let (mut statuses, mut statuses_back) = (None, None);
        if !record.has_status {
            let size = (capacity_bytes * 4).next_multiple_of(16);
            let part = |usage| gpu.buffer("the statuses of a round", size, usage, false);
            if gpu.mapped {
                statuses = Some(part(Usage::STORAGE | Usage::MAP_READ)?);
            } else {
                statuses = Some(part(Usage::STORAGE | Usage::COPY_SRC)?);
                statuses_back = Some(part(Usage::MAP_READ | Usage::COPY_DST)?);
            }
        }
        let scope = gpu.scope();
        let states = statuses.as_ref().unwrap_or(arena.buffer());
        let bind_group = self.bind(&upload, messages_at, &records, states);
        scope.check("the buffers of a round")?;
        Ok(Sheet {
            capacity,
            upload,
            messages_at,
            records,
            statuses,
            statuses_back,
            read_back,
            generation: arena.generation,
            bind_group,
            era,
            ahead: None,
            link: None,
            words: Vec::new(),
        })
    }

    /// `states`: or the statuses, of a kernel that has no states.
    fn bind(
        &self,
        upload: &wgpu::Buffer,
        messages_at: u64,
        records: &wgpu::Buffer,
        states: &wgpu::Buffer,
    ) -> wgpu::BindGroup {
        let part = |offset, size| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: upload, offset, size })
        };
        let resources = [
            part(0, wgpu::BufferSize::new(messages_at)),
            part(messages_at, None),
            records.as_entire_binding(),
            states.as_entire_binding(),
        ];
        let entries: Vec<_> = (0..)
            .zip(resources)
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("ringwork round"),
            layout: &self.shader.round_layout,
            entries: &entries,
        })
    }
}
