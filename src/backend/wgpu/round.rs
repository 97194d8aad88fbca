//! One round of a group: its buffers, its commands, and the way of its records back.

use super::gpu::Gpu;
use super::group::{DONE, Group, Piece};
use super::lane::Part;
use super::link::{Link, LinkBuffers};
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
    /// Of messages that were not handled, where the records have no status.
    pub statuses: Option<wgpu::Buffer>,
    /// Where those can be read; `None` where they can be read in place.
    pub statuses_back: Option<wgpu::Buffer>,
    /// Where the records can be read; `None` where they can be read in place.
    pub read_back: Option<wgpu::Buffer>,
    /// The arena's generation that `bind_group` has.
    pub generation: u32,
    pub bind_group: wgpu::BindGroup,
    /// The group's era in which it was made.
    pub era: u32,
    /// The commands of a round of one workgroup, and how many messages come back of it.
    pub ahead: Option<(wgpu::CommandBuffer, Mapping, u32)>,
    /// What brought messages over a link into it the last time.
    pub link: Option<LinkBuffers>,
    /// Room to put the words together.
    pub words: Vec<u32>,
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
    /// Its messages come over a link, from a round before it in the same submission.
    pub link: Option<Link>,
}

impl Round {
    /// Copies words and messages to where the device finds them.
    pub fn fill(&mut self, words: &[u32]) -> Result<()> {
        let gpu = &self.group.gpu;
        let words: &[u8] = bytemuck::cast_slice(words);
        let at = self.sheet.messages_at;
        let bytes: u64 = self.parts().map(|part| part.len() as u64).sum();
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

    /// Every kernel's messages.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().flat_map(|piece| &piece.batch.parts).map(Part::bytes)
    }

    /// … with where they go.
    fn each_part(&self, mut copy: impl FnMut(std::ops::Range<usize>, &[u8])) {
        let mut begin = 0;
        for part in self.parts() {
            let end = begin + part.len();
            if end > begin {
                copy(begin..end, part);
            }
            begin = end;
        }
    }

    fn dispatch(&self, pass: &mut wgpu::ComputePass<'_>, workgroups: u32) {
        if let Some(link) = &self.link {
            link.dispatch(pass);
        }
        let group = &self.group;
        pass.set_pipeline(&group.shader.pipeline);
        pass.set_bind_group(0, &self.sheet.bind_group, &[]);
        if let Some(tables) = &group.tables {
            pass.set_bind_group(1, tables, &[]);
        }
        match &self.link {
            Some(link) if workgroups > 1 => pass.dispatch_workgroups_indirect(&link.buffers.size, 0),
            _ => pass.dispatch_workgroups(workgroups, 1, 1),
        }
    }

    /// Bytes of what comes back of so many messages.
    fn record_bytes(&self, messages: u32) -> u64 {
        let record = &self.group.shader.record;
        u64::from(record.first) + u64::from(messages) * u64::from(record.stride)
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

    /// Was there a message that was not handled?
    fn has_trouble(&self, records: &[u8]) -> bool {
        let trouble: [u8; 4] = records[..4].try_into().expect("four bytes");
        u32::from_ne_bytes(trouble) == self.stamp
    }

    /// Where the host can read the statuses.
    fn readable_statuses(&self) -> Option<&wgpu::Buffer> {
        self.sheet.statuses_back.as_ref().or(self.sheet.statuses.as_ref())
    }

    fn status_bytes(&self) -> u64 {
        u64::from(self.messages) * 4
    }

    /// Has the statuses come to where the host can read them, of rounds that are over with messages that were not
    /// handled; `None` if there are no such. It may take a submission, which is then what to wait for.
    ///
    /// # Errors
    ///
    /// `DeviceLost`.
    pub fn ask_for_statuses(
        gpu: &Gpu,
        rounds: &[Self],
    ) -> Result<Option<(Option<wgpu::SubmissionIndex>, Mapping)>> {
        let mut troubled = Vec::new();
        for round in rounds.iter().filter(|round| round.sheet.statuses.is_some() && round.messages > 0) {
            let view = round.readable().get_mapped_range(..4);
            let view = view.map_err(|error| gpu.lose("the records of a round", &error))?;
            if round.has_trouble(&view) {
                troubled.push(round);
            }
        }
        if troubled.is_empty() {
            return Ok(None);
        }
        let scope = gpu.scope();
        let mapping = Mapping::default();
        let mut encoder = None;
        for round in troubled {
            let bytes = round.status_bytes();
            match (&round.sheet.statuses, &round.sheet.statuses_back) {
                (Some(statuses), Some(back)) => {
                    let encoder =
                        encoder.get_or_insert_with(|| gpu.device.create_command_encoder(&Default::default()));
                    encoder.copy_buffer_to_buffer(statuses, 0, back, 0, bytes);
                    encoder.map_buffer_on_submit(back, wgpu::MapMode::Read, ..bytes, mapping.callback());
                }
                (Some(statuses), None) => {
                    statuses.map_async(wgpu::MapMode::Read, ..bytes, mapping.callback());
                }
                (None, _) => {}
            }
        }
        let submission = encoder.map(|encoder| gpu.submit(encoder.finish()));
        // The buffers are there already. Of a kernel that cannot be told what became of its messages nothing is known any more.
        scope
            .check("the statuses of a round")
            .map_err(|error| gpu.lose("the statuses of a round", &error))?;
        Ok(Some((submission, mapping)))
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

    /// Keeps the buffers for another round.
    pub fn retire(self) {
        self.group.keep(self.sheet);
    }

    /// Tells the kernels that nothing comes back.
    pub fn fail(&self, error: &Error) {
        self.pieces.iter().for_each(|piece| piece.lane.fail(error));
    }
}

/// A round that is over, whose records can be read. Its buffers are used again when nobody has it any more.
pub(super) struct Landed {
    /// Both are taken only when this is dropped; the view has to go first.
    view: Option<wgpu::BufferView>,
    round: Option<Round>,
    /// Was there a message that was not handled?
    trouble: bool,
    /// Then the statuses, where they are not in the records.
    statuses: Vec<u8>,
}

impl Landed {
    /// Of a round whose records, and [statuses](Round::ask_for_statuses), can be read.
    ///
    /// # Errors
    ///
    /// `DeviceLost`, if they cannot be read.
    pub fn new(round: Round) -> Result<Self> {
        let failed = |error| round.group.gpu.lose("the records of a round", &error);
        let bytes = round.record_bytes(round.messages);
        let view = round.readable().get_mapped_range(..bytes).map_err(failed)?;
        let trouble = round.has_trouble(&view);
        let statuses = match round.readable_statuses() {
            Some(statuses) if trouble => {
                let view = statuses.get_mapped_range(..round.status_bytes()).map_err(failed)?;
                let copy = view.to_vec();
                drop(view);
                statuses.unmap();
                copy
            }
            _ => Vec::new(),
        };
        Ok(Self { view: Some(view), round: Some(round), trouble, statuses })
    }

    pub fn round(&self) -> &Round {
        self.round.as_ref().expect("there until the end")
    }

    /// The records of these messages.
    pub fn records(&self, first: u32, count: u32) -> &[u8] {
        let bytes = |messages| self.round().record_bytes(messages) as usize;
        &self.view.as_ref().expect("there until the end")[bytes(first)..bytes(first + count)]
    }

    /// What became of a message: the code, or `None` if the round did not come to it.
    #[inline]
    pub fn code(&self, number: u32) -> Option<u32> {
        if !self.trouble {
            return Some(DONE);
        }
        let stamp = self.round().stamp;
        match &self.round().sheet.statuses {
            // Only what was not handled has one.
            Some(_) => Group::code(&self.statuses[number as usize * 4..], stamp).or(Some(DONE)),
            None => Group::code(self.records(number, 1), stamp),
        }
    }

    /// Was each of these messages handled?
    pub fn is_smooth(&self, first: u32, count: u32) -> bool {
        !self.trouble || (first..first + count).all(|number| self.code(number) == Some(DONE))
    }
}

impl Drop for Landed {
    fn drop(&mut self) {
        drop(self.view.take());
        if let Some(round) = self.round.take() {
            round.readable().unmap();
            round.retire();
        }
    }
}
