//! Tables in the device's memory.

use super::gpu::Gpu;
use crate::backend::{DeviceStorage, check_range};
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Instant;

/// A table. Reads and writes take their turn in the device's queue: between rounds, in the order of the calls.
pub(super) struct WgpuStorage {
    gpu: Arc<Gpu>,
    pub buffer: wgpu::Buffer,
    bytes: usize,
}

impl WgpuStorage {
    pub fn new(gpu: Arc<Gpu>, bytes: usize) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        let most = gpu.limits.max_storage_buffer_binding_size.min(gpu.limits.max_buffer_size);
        if bytes as u64 > most {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("wgpu: a buffer of {bytes} bytes; the device allows {most} bytes"),
            ));
        }
        if gpu.is_lost() {
            return Err(gpu.lost_error());
        }
        let scope = gpu.scope();
        let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let buffer = gpu.buffer("ringwork table", bytes as u64, usage);
        if bytes > 0 {
            // Before anybody writes to it: wgpu's own clear of what nobody has written comes when a submission first uses
            // it, and may come behind a write from another thread.
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            encoder.clear_buffer(&buffer, 0, None);
            gpu.submit(encoder.finish());
        }
        scope.check("a buffer for a table")?;
        Ok(Self { gpu, buffer, bytes })
    }

    fn check(&self, offset: usize, len: usize) -> Result<()> {
        if self.gpu.is_lost() {
            return Err(self.gpu.lost_error());
        }
        check_range(offset, len, self.bytes)
    }
}

impl DeviceStorage for WgpuStorage {
    fn read(&self, offset: usize, into: &mut [u8], deadline: Instant) -> Result<()> {
        self.check(offset, into.len())?;
        if into.is_empty() {
            return Ok(());
        }
        let encoder = self.gpu.device.create_command_encoder(&Default::default());
        let copy = self.gpu.start_download(encoder, &self.buffer, offset as u64, into.len() as u64)?;
        into.copy_from_slice(&copy.finish(Some(deadline))?);
        Ok(())
    }

    fn write(&self, offset: usize, from: &[u8], _deadline: Instant) -> Result<()> {
        self.check(offset, from.len())?;
        let scope = self.gpu.scope();
        self.gpu.queue.write_buffer(&self.buffer, offset as u64, from);
        scope.check("a write to a table")
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
