//! The states of all kernels that share a pipeline: one buffer, a range of it for each kernel.

use super::gpu::{Download, Gpu};
use crate::error::{Error, ErrorKind, Result};
use range_alloc::RangeAllocator;
use std::ops::Range;
use std::sync::Arc;

/// States that a new arena has room for.
const FIRST: u32 = 16;

/// See the module.
pub(super) struct Arena {
    buffer: wgpu::Buffer,
    places: RangeAllocator<u32>,
    /// Bytes from one state to the next.
    stride: u32,
    /// Counts the buffers there have been: who has bound an older one binds again.
    pub generation: u32,
}

fn buffer(gpu: &Gpu, states: u32, stride: u32) -> Result<wgpu::Buffer> {
    use wgpu::BufferUsages as Usage;
    let size = u64::from(states) * u64::from(stride);
    let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
    gpu.buffer("the states of all kernels with one handler", size, usage, false)
}

impl Arena {
    pub fn new(gpu: &Gpu, stride: u32) -> Result<Self> {
        Ok(Self {
            buffer: buffer(gpu, FIRST, stride)?,
            places: RangeAllocator::new(0..FIRST),
            stride,
            generation: 0,
        })
    }

    pub fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// Places for so many states, if the buffer has them; what is in them is not defined.
    pub fn find(&mut self, count: u32) -> Option<Range<u32>> {
        self.places.allocate_range(count).ok()
    }

    /// As [`find`](Self::find), in a larger buffer if need be; within [`Gpu::replace_states`].
    pub fn allocate(&mut self, gpu: &Gpu, count: u32) -> Result<Range<u32>> {
        if let Some(range) = self.find(count) {
            return Ok(range);
        }
        let (size, most) = (u64::from(count) * u64::from(self.stride), gpu.largest_storage());
        if size > most {
            let stride = self.stride;
            let text = format!(
                "wgpu: {count} instances with a state of {stride} bytes are {size} bytes; the device allows {most} in a \
                 buffer"
            );
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let old = self.places.initial_range().end;
        let too_many = || Error::new(ErrorKind::Unavailable, "wgpu: more states than the device can number");
        let least = old.checked_add(count).ok_or_else(too_many)?;
        // Twice as large, or as much as is needed where the device does not allow that.
        let wanted = least.checked_next_power_of_two().unwrap_or(least);
        let (new, size) = match buffer(gpu, wanted, self.stride) {
            Ok(new) => (new, wanted),
            Err(_) => (buffer(gpu, least, self.stride)?, least),
        };
        let scope = gpu.scope();
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        // In the queue's order: behind the rounds that still use the old buffer, before those that use the new one.
        let copied = u64::from(old) * u64::from(self.stride);
        encoder.copy_buffer_to_buffer(&self.buffer, 0, &new, 0, copied);
        // wgpu clears what nobody has written before a buffer is first used. A state written on one thread while another
        // submits was lost to that: the clear, decided on before, came behind the write.
        encoder.clear_buffer(&new, copied, None);
        gpu.submit(encoder.finish());
        scope.check("a larger buffer for states")?;
        self.buffer = new;
        self.generation += 1;
        self.places.grow_to(size);
        self.places
            .allocate_range(count)
            .map_err(|_| Error::new(ErrorKind::Unavailable, "wgpu: the states are too scattered"))
    }

    pub fn free(&mut self, range: Range<u32>) {
        self.places.free_range(range);
    }

    /// Writes whole states from a place on; in the queue's order. A struct's size is a multiple of its alignment, so that
    /// they lie there as they do here.
    pub fn write(&self, gpu: &Gpu, first: u32, states: &[u8]) -> Result<()> {
        debug_assert!(states.len().is_multiple_of(self.stride as usize));
        gpu.write("a write of states", &self.buffer, u64::from(first) * u64::from(self.stride), states)
    }

    /// Places that somebody has.
    #[cfg(test)]
    pub fn taken(&self) -> u32 {
        self.places.allocated_ranges().map(|range| range.len() as u32).sum()
    }

    /// Copies the states of a range to the host, in the queue's order.
    pub fn copy(&self, gpu: &Arc<Gpu>, range: &Range<u32>) -> Result<Download> {
        let stride = u64::from(self.stride);
        let encoder = gpu.device.create_command_encoder(&Default::default());
        gpu.start_download(
            encoder,
            &self.buffer,
            u64::from(range.start) * stride,
            range.len() as u64 * stride,
        )
    }
}
