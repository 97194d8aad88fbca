//! Tables in the device's memory.

use super::compute::Bindings;
use super::gpu::Gpu;
use crate::backend::{DeviceStorage, check_range};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, lock};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// A table. Reads and writes take their turn in the device's queue: between rounds, in the order of the calls.
pub(super) struct WgpuStorage {
    gpu: Arc<Gpu>,
    memory: Arc<Memory>,
    bytes: usize,
}

/// The memory of a table and of its prefixes.
struct Memory {
    buffer: wgpu::Buffer,
    /// Entry points that may have it bound.
    bound_by: Mutex<Vec<Weak<Bindings>>>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Bind groups keep the buffers that they are of, and an entry point keeps its bind groups until its next dispatch,
        // which may never come.
        let bound_by = std::mem::take(&mut *lock(&self.bound_by));
        bound_by.iter().filter_map(Weak::upgrade).for_each(|bindings| bindings.forget_dropped());
    }
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
        let memory = Arc::new(Memory { buffer, bound_by: Mutex::default() });
        let storage = Self { gpu, memory, bytes };
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
        encoder.clear_buffer(&self.memory.buffer, 0, Some(self.bytes as u64));
        self.gpu.submit(encoder.finish());
        scope.check("a buffer for a table")
    }

    /// Is it memory of this device?
    pub fn is_of(&self, gpu: &Arc<Gpu>) -> bool {
        Arc::ptr_eq(&self.gpu, gpu)
    }

    /// Enters an entry point that is about to have it bound, to be told when the memory goes.
    pub fn enter(&self, bindings: &Arc<Bindings>) {
        let mut all = lock(&self.memory.bound_by);
        all.retain(|known| known.strong_count() > 0);
        if !all.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(bindings))) {
            all.push(Arc::downgrade(bindings));
        }
    }

    /// As handlers see it.
    pub fn binding(&self) -> wgpu::BindingResource<'_> {
        let size = std::num::NonZeroU64::new(self.bytes as u64);
        wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &self.memory.buffer, offset: 0, size })
    }

    fn check(&self, offset: usize, len: usize) -> Result<()> {
        if self.gpu.is_lost() {
            return Err(self.gpu.lost_error());
        }
        check_range(offset, len, self.bytes)
    }

    /// The same memory, of which only the first `bytes` are there.
    ///
    /// # Panics
    ///
    /// If there are not as many.
    pub(super) fn prefix(&self, bytes: usize) -> Self {
        assert!(bytes <= self.bytes, "a prefix is not longer than the whole");
        Self { gpu: self.gpu.clone(), memory: self.memory.clone(), bytes }
    }
}

impl DeviceStorage for WgpuStorage {
    fn read(&self, offset: usize, into: &mut [u8], deadline: Instant) -> Result<()> {
        self.check(offset, into.len())?;
        if into.is_empty() {
            return Ok(());
        }
        let encoder = self.gpu.device.create_command_encoder(&Default::default());
        let copy = self.gpu.start_download(encoder, &self.memory.buffer, offset as u64, into.len() as u64)?;
        into.copy_from_slice(&copy.finish(Some(deadline))?);
        Ok(())
    }

    fn write(&self, offset: usize, from: &[u8], _deadline: Instant) -> Result<()> {
        self.check(offset, from.len())?;
        self.gpu.write("a write to a table", &self.memory.buffer, offset as u64, from)
    }

    fn clear(&self, _deadline: Instant) -> Result<()> {
        self.check(0, self.bytes)?;
        self.zero()
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
