//! Tables in the device's memory.

use super::gpu::Gpu;
use crate::backend::{DeviceStorage, check_range};
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Instant;

/// A table. Reads and writes take their turn in the device's queue: between rounds, in the order of the calls.
pub(super) struct WgpuStorage {
    gpu: Arc<Gpu>,
    buffer: wgpu::Buffer,
    bytes: usize,
}

impl WgpuStorage {
    pub fn new(gpu: Arc<Gpu>, bytes: usize) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        let most = gpu.largest_storage();
        if bytes as u64 > most {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("wgpu: a table of {bytes} bytes; the device allows {most} in a buffer"),
            ));
        }
        let usage = Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC;
        let buffer = gpu.buffer("a table", bytes as u64, usage, false)?;
        let storage = Self { gpu, buffer, bytes };
        // Before anybody writes to it: wgpu's own clear of what nobody has written comes when a submission first uses it,
        // and may come behind a write from another thread.
        storage.zero()?;
        Ok(storage)
    }

    fn zero(&self) -> Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        let scope = self.gpu.scope();
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        encoder.clear_buffer(&self.buffer, 0, Some(self.bytes as u64));
        self.gpu.submit(encoder.finish());
        scope.check("a buffer for a table")
    }

    /// Is it memory of this device?
    pub fn is_of(&self, gpu: &Arc<Gpu>) -> bool {
        Arc::ptr_eq(&self.gpu, gpu)
    }

    /// As handlers see it.
    pub fn binding(&self) -> wgpu::BindingResource<'_> {
        let size = std::num::NonZeroU64::new(self.bytes as u64);
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &self.buffer, offset: 0, size })
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
        self.gpu.write("a write to a table", &self.buffer, offset as u64, from)
    }

    fn clear(&self, _deadline: Instant) -> Result<()> {
        self.check(0, self.bytes)?;
        self.zero()
    }

    fn prefix(&self, bytes: usize) -> Arc<dyn DeviceStorage> {
        assert!(bytes <= self.bytes, "a prefix is not longer than the whole");
        Arc::new(Self { gpu: self.gpu.clone(), buffer: self.buffer.clone(), bytes })
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
