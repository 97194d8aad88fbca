//! One round of a group: its buffers, its commands, and the way of its records back.

use super::gpu::Gpu;
use super::group::{Group, Piece};
use super::lane::Lane;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The buffers of one round.
pub(super) struct Sheet {
    /// Messages that fit.
    pub capacity: u32,
    /// The round's words, and the messages behind them at `messages_at`.
    pub upload: wgpu::Buffer,
    pub messages_at: u64,
    pub records: wgpu::Buffer,
    /// Where the records can be read; `None` where they can be read in place.
    pub read_back: Option<wgpu::Buffer>,
    /// The arena's generation that `bind_group` has.
    pub generation: u32,
    pub bind_group: wgpu::BindGroup,
    /// The group's era in which it was made.
    pub era: u32,
    /// The commands of a round of one workgroup, and how many messages come back of it.
    pub ahead: Option<(wgpu::CommandBuffer, Mapping, u32)>,
}

/// What is known of buffers that are to be mapped when a submission is over.
#[derive(Clone, Default)]
pub(super) struct Mapping(Arc<MappingInner>);

#[derive(Default)]
struct MappingInner {
    /// Buffers that have not been mapped yet.
    open: AtomicUsize,
    failed: AtomicBool,
}

impl Mapping {
    /// For one more buffer.
    fn callback(
        &self,
    ) -> impl FnOnce(std::result::Result<(), wgpu::BufferAsyncError>) + Send + 'static + use<> {
        // Relaxed: counted before the commands are submitted.
        self.0.open.fetch_add(1, Ordering::Relaxed);
        let inner = self.0.clone();
        move |result| {
            if result.is_err() {
                inner.failed.store(true, Ordering::Relaxed);
            }
            // Release pairs with the Acquire in `is_over`: at zero, `failed` is final.
            inner.open.fetch_sub(1, Ordering::Release);
        }
    }

    pub fn is_over(&self) -> bool {
        self.0.open.load(Ordering::Acquire) == 0
    }

    /// Asked once it is over.
    pub fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::Relaxed)
    }
}

/// A round that is about to be submitted, or has been.
pub(super) struct Round {
    pub group: Arc<Group>,
    pub sheet: Sheet,
    pub pieces: Vec<Piece>,
    pub messages: u32,
    pub items: u32,
    pub stamp: u32,
}

impl Round {
    /// Copies words and messages to where the device finds them.
    pub fn fill(&mut self, words: &[u32]) -> Result<()> {
        let gpu = &self.group.gpu;
        let words: &[u8] = bytemuck::cast_slice(words);
        let at = self.sheet.messages_at;
        let bytes: u64 = self.pieces.iter().map(|piece| piece.batch.bytes.len() as u64).sum();
        let failed = |error: &dyn std::fmt::Display| gpu.lose("the messages of a round", error);
        let upload = &self.sheet.upload;
        if gpu.mapped {
            let mut view =
                upload.get_mapped_range_mut(..words.len() as u64).map_err(|error| failed(&error))?;
            view.copy_from_slice(words);
            drop(view);
            if bytes > 0 {
                let mut view = upload.get_mapped_range_mut(at..at + bytes).map_err(|error| failed(&error))?;
                self.each_part(|range, part| view.slice(range).copy_from_slice(part));
            }
            upload.unmap();
            return Ok(());
        }
        gpu.queue.write_buffer(upload, 0, words);
        if let Some(size) = wgpu::BufferSize::new(bytes) {
            let view = gpu.queue.write_buffer_with(upload, at, size);
            let mut view = view.ok_or_else(|| failed(&"there is no memory to stage them"))?;
            self.each_part(|range, part| view.slice(range).copy_from_slice(part));
        }
        Ok(())
    }

    /// Every kernel's messages, with where they go.
    fn each_part(&self, mut copy: impl FnMut(std::ops::Range<usize>, &[u8])) {
        let mut begin = 0;
        for Piece { batch, .. } in &self.pieces {
            let end = begin + batch.bytes.len();
            if end > begin {
                copy(begin..end, &batch.bytes);
            }
            begin = end;
        }
    }

    fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, workgroups: u32) {
        let group = &self.group;
        pass.set_pipeline(&group.shader.pipeline);
        pass.set_bind_group(0, &self.sheet.bind_group, &[]);
        if let Some(tables) = &group.tables {
            pass.set_bind_group(1, tables, &[]);
        }
        pass.dispatch_workgroups(workgroups, 1, 1);
    }

    /// Bytes of the records of so many messages.
    fn record_bytes(&self, messages: u32) -> u64 {
        u64::from(messages) * u64::from(self.group.shader.record.stride)
    }

    fn readable(&self) -> &wgpu::Buffer {
        self.sheet.read_back.as_ref().unwrap_or(&self.sheet.records)
    }

    /// Has the records of so many messages come to where the host can read them, and the buffer for the next messages
    /// to where it can write them.
    fn copy_back(&self, encoder: &mut wgpu::CommandEncoder, messages: u32, mapping: &Mapping) {
        let bytes = self.record_bytes(messages);
        if messages > 0 {
            if let Some(read_back) = &self.sheet.read_back {
                encoder.copy_buffer_to_buffer(&self.sheet.records, 0, read_back, 0, bytes);
            }
            encoder.map_buffer_on_submit(self.readable(), wgpu::MapMode::Read, ..bytes, mapping.callback());
        }
        if self.group.gpu.mapped {
            encoder.map_buffer_on_submit(&self.sheet.upload, wgpu::MapMode::Write, .., mapping.callback());
        }
    }

    /// The commands of these rounds.
    pub fn encode(gpu: &Gpu, rounds: &mut [Self]) -> (wgpu::CommandBuffer, Mapping) {
        // One small round is what a caller waits for most often: its commands are there already.
        if let [round] = rounds
            && round.items <= round.group.shader.workgroup
            && let Some((commands, mapping, messages)) = round.sheet.ahead.take()
            && round.messages <= messages
        {
            return (commands, mapping);
        }
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for round in rounds.iter() {
            round.dispatch(&mut pass, round.items.div_ceil(round.group.shader.workgroup).max(1));
        }
        drop(pass);
        let mapping = Mapping::default();
        for round in rounds.iter() {
            round.copy_back(&mut encoder, round.messages, &mapping);
        }
        (encoder.finish(), mapping)
    }

    /// Encodes what the next small round will want, while the device is at this one (a third of the time of a round
    /// there and back, measured on llvmpipe). Only a submission looks at what is mapped.
    pub fn encode_ahead(&mut self) {
        if self.sheet.ahead.is_some() {
            return;
        }
        let messages = self.group.shader.workgroup.min(self.sheet.capacity);
        let mut encoder = self.group.gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.dispatch(&mut pass, 1);
        drop(pass);
        let mapping = Mapping::default();
        self.copy_back(&mut encoder, messages, &mapping);
        self.sheet.ahead = Some((encoder.finish(), mapping, messages));
    }

    /// Hands the records to the kernels; those whose next messages may follow at once go to `next`.
    ///
    /// # Errors
    ///
    /// `DeviceLost`, told to the kernels too, if they cannot be read.
    pub fn finish(mut self, next: &mut Vec<Arc<Lane>>) -> Result<()> {
        let stride = self.group.shader.record.stride as usize;
        let view = match self.readable().get_mapped_range(..self.record_bytes(self.messages)) {
            Ok(view) => view,
            Err(error) => {
                let error = self.group.gpu.lose("the records of a round", &error);
                self.fail(&error);
                return Err(error);
            }
        };
        let mut end = 0;
        for Piece { lane, batch } in std::mem::take(&mut self.pieces) {
            let begin = end;
            end += batch.count as usize * stride;
            if lane.take_back(batch, &view[begin..end], self.stamp) {
                next.push(lane);
            }
        }
        drop(view);
        self.readable().unmap();
        self.retire();
        Ok(())
    }

    /// Keeps the buffers for another round.
    pub fn retire(self) {
        self.group.keep(self.sheet);
    }

    /// Tells the kernels that nothing comes back.
    pub fn fail(&self, error: &Error) {
        self.pieces.iter().for_each(|piece| piece.lane.fail(error));
    }
}
