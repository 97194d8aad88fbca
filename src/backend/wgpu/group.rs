//! Kernels that share a pipeline: rounds that serve all of them with one dispatch.

use super::arena::Arena;
use super::gpu::Gpu;
use super::lane::{Batch, Lane, NONE};
use super::round::{Round, Sheet};
use super::shader::Shader;
use crate::backend::Shape;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, lock};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Bits of a status below its stamp; `shaders/ring.wgsl`.
const STATUS_BITS: u32 = 3;
/// The loops of a message were ended by the device.
pub(super) const CUT_SHORT: u32 = 3;
/// A message was handled.
pub(super) const DONE: u32 = 4;
/// Words before the items.
const FIRST_ITEM: usize = 4;
const ITEM_WORDS: usize = 4;
/// Trips that the canary has to make.
const TRIPS: u32 = 3;

/// Messages in one round, at most.
const MOST_MESSAGES: u32 = 1 << 17;
/// Bytes of a round's messages, or of its records, at most.
const MOST_BYTES: u64 = 64 << 20;
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
}

impl Group {
    pub fn new(gpu: Arc<Gpu>, shader: Shader, shape: Shape, tables: Option<wgpu::BindGroup>) -> Result<Self> {
        let largest = gpu.limits.max_storage_buffer_binding_size.min(gpu.limits.max_buffer_size);
        let longest = u64::from(shader.message_stride.max(shader.record.stride).max(20));
        let most = (largest / 2).min(MOST_BYTES) / longest;
        // A dispatch has 65,535 workgroups in one dimension on every adapter.
        let most = most.min(MOST_MESSAGES.into()).min(u64::from(shader.workgroup) * 65_535) as u32;
        if most == 0 {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("wgpu: what one message may send takes {longest} bytes; the device allows {largest}"),
            ));
        }
        let arena = Arena::new(&gpu, shader.state_stride)?;
        let inner = Inner { arena, idle: Vec::new(), stamp: 0, era: 0 };
        Ok(Self { gpu, shader, shape, tables, most, inner: Mutex::new(inner) })
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

    pub fn write_states(&self, first: u32, states: &[u8], size: usize) {
        lock(&self.inner).arena.write(&self.gpu, first, states, size);
    }

    pub fn read_states(
        &self,
        places: &Range<u32>,
        size: usize,
        deadline: Option<Instant>,
    ) -> Result<Vec<u8>> {
        // The copy is in the queue before the lock goes: the arena may grow, and the places stay what they were.
        let copy = lock(&self.inner).arena.copy(&self.gpu, places)?;
        let (spread, stride) = (copy.finish(deadline)?, self.shader.state_stride as usize);
        if size == stride {
            return Ok(spread);
        }
        Ok(spread.chunks_exact(stride).flat_map(|state| &state[..size]).copied().collect())
    }

    /// What became of a message, by its record: the code, or `None` if the round did not come to it.
    #[inline]
    pub fn code(record: &[u8], stamp: u32) -> Option<u32> {
        let status: [u8; 4] = record[..4].try_into().expect("four bytes");
        let status = u32::from_ne_bytes(status);
        (status >> STATUS_BITS == stamp).then_some(status & ((1 << STATUS_BITS) - 1))
    }

    /// Was every message handled?
    pub fn all_done(&self, records: &[u8], stamp: u32) -> bool {
        let stride = self.shader.record.stride as usize;
        records.chunks_exact(stride).all(|record| Self::code(record, stamp) == Some(DONE))
    }

    /// A round with these pieces, filled in; not more messages than [`most`](Self::most).
    pub fn prepare(self: &Arc<Self>, pieces: Vec<Piece>) -> Result<Round> {
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
                let capacity = messages.clamp(FIRST_MESSAGES, self.most).next_power_of_two().min(self.most);
                self.sheet(&inner.arena, capacity, inner.era)?
            }
        };
        if sheet.generation != inner.arena.generation {
            sheet.bind_group = self.bind(&inner.arena, &sheet.upload, sheet.messages_at, &sheet.records);
            sheet.generation = inner.arena.generation;
            sheet.ahead = None;
        }
        drop(inner);
        let (words, items) = self.words(&pieces, messages, stamp);
        let mut round = Round { group: self.clone(), sheet, pieces, messages, items, stamp };
        round.fill(&words)?;
        Ok(round)
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

    /// The words of a round: see `shaders/ring.wgsl`.
    fn words(&self, pieces: &[Piece], messages: u32, stamp: u32) -> (Vec<u32>, u32) {
        let mut words = vec![0, stamp, TRIPS, 0];
        let mut first = 0;
        for Piece { lane, batch } in pieces {
            let place = lane.places.start;
            let fallback = lane.fallback();
            match self.shape {
                Shape::Stateless => {}
                Shape::Serial => words.extend([first, first + batch.count, place, fallback.unwrap_or(NONE)]),
                Shape::Instances { .. } => {
                    for (message, instance) in &batch.chains {
                        let fallback = fallback.map_or(NONE, |fallback| fallback + instance);
                        words.extend([first + message, 0, place + instance, fallback]);
                    }
                }
            }
            first += batch.count;
        }
        let items = match self.shape {
            Shape::Stateless => messages,
            _ => ((words.len() - FIRST_ITEM) / ITEM_WORDS) as u32,
        };
        words[0] = items;
        words[3] = words.len() as u32;
        let mut first = 0;
        for Piece { batch, .. } in pieces {
            let links = batch.links.iter();
            words.extend(links.map(|next| if *next == NONE { NONE } else { first + next }));
            first += batch.count;
        }
        (words, items)
    }

    fn sheet(&self, arena: &Arena, capacity: u32, era: u32) -> Result<Sheet> {
        use wgpu::BufferUsages as Usage;
        let (gpu, capacity_bytes) = (&self.gpu, u64::from(capacity));
        let words = match self.shape {
            Shape::Stateless => FIRST_ITEM as u64,
            Shape::Serial => FIRST_ITEM as u64 + capacity_bytes * ITEM_WORDS as u64,
            Shape::Instances { .. } => FIRST_ITEM as u64 + capacity_bytes * (ITEM_WORDS as u64 + 1),
        };
        let align = u64::from(gpu.limits.min_storage_buffer_offset_alignment).max(16);
        let messages_at = (words * 4).next_multiple_of(align);
        let size = messages_at + (capacity_bytes * u64::from(self.shader.message_stride)).max(16);
        let scope = gpu.scope();
        let upload = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("ringwork messages"),
            size: size.next_multiple_of(16),
            usage: Usage::STORAGE | if gpu.mapped { Usage::MAP_WRITE } else { Usage::COPY_DST },
            mapped_at_creation: gpu.mapped,
        });
        let size = (capacity_bytes * u64::from(self.shader.record.stride)).next_multiple_of(16);
        let usage = Usage::STORAGE | if gpu.mapped { Usage::MAP_READ } else { Usage::COPY_SRC };
        let records = gpu.buffer("ringwork records", size, usage);
        let read_back =
            (!gpu.mapped).then(|| gpu.buffer("ringwork read-back", size, Usage::MAP_READ | Usage::COPY_DST));
        let bind_group = self.bind(arena, &upload, messages_at, &records);
        scope.check("the buffers of a round")?;
        Ok(Sheet {
            capacity,
            upload,
            messages_at,
            records,
            read_back,
            generation: arena.generation,
            bind_group,
            era,
            ahead: None,
        })
    }

    fn bind(
        &self,
        arena: &Arena,
        upload: &wgpu::Buffer,
        messages_at: u64,
        records: &wgpu::Buffer,
    ) -> wgpu::BindGroup {
        let part = |offset, size| {
            wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: upload, offset, size })
        };
        let resources = [
            part(0, wgpu::BufferSize::new(messages_at)),
            part(messages_at, None),
            records.as_entire_binding(),
            arena.buffer().as_entire_binding(),
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
