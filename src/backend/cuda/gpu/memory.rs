//! The memory of a device, and host memory that it sees: what is spare is used again, for freeing may wait for kernels; and
//! copies between the two.

use super::{Gpu, Shared, WAY};
use crate::backend::cuda::driver::{self, CUdeviceptr, CUstream, Refusal};
use crate::backend::cuda::host::{self, HostMemory, Mapped};
use crate::error::Result;
use crate::sync::lock;
use std::sync::{Arc, Weak};

/// Bytes of host memory, and of device memory, that are kept to be used again. What is above goes when the device is quiet
/// the next time; all of it, if there is too little for something else.
pub(in crate::backend::cuda) const MOST_SPARE: usize = 64 << 20;
/// Bytes that are copied at once.
pub(super) const STAGING: usize = 1 << 20;

/// Memory to be used again, with its size.
#[derive(Default)]
pub(super) struct Spare {
    pub host: Vec<Mapped>,
    pub device: Vec<(usize, CUdeviceptr)>,
}

impl Spare {
    /// Frees the oldest memory, until there is no more of either kind than this. No kernel is on the device.
    pub fn shrink(&mut self, most: usize) {
        while self.host.iter().map(Mapped::size).sum::<usize>() > most {
            // SAFETY: what is spare is nobody's.
            unsafe { self.host.remove(0).free() };
        }
        while self.device.iter().map(|(size, _)| size).sum::<usize>() > most {
            let (_, address) = self.device.remove(0);
            // SAFETY: as above.
            unsafe { driver::free_device(address) };
        }
    }
}

/// For copies between host and device, one at a time.
pub(super) struct Copies {
    pub stream: Shared<CUstream>,
    pub staging: HostMemory,
}

impl Gpu {
    /// Asks the driver for memory. If there is too little, what is spare is freed, and it is asked once more: unless a kernel
    /// would not leave, for freeing may wait for it.
    fn allocate<R>(&self, ask: impl Fn() -> Result<R, Refusal>) -> Result<R, Refusal> {
        self.if_quiet(|is_quiet| match ask() {
            Err(refusal) if refusal.is_shortage() && is_quiet => {
                lock(&self.spare).shrink(0);
                ask()
            }
            answer => answer,
        })
    }

    /// Bytes of host and device memory that are kept to be used again.
    #[cfg(test)]
    pub fn spare_bytes(&self) -> [usize; 2] {
        let spare = lock(&self.spare);
        [spare.host.iter().map(Mapped::size).sum(), spare.device.iter().map(|(size, _)| size).sum()]
    }

    /// Host memory that the device sees; zeroed.
    pub fn host_memory(self: &Arc<Self>, bytes: usize) -> Result<HostMemory> {
        let size = bytes.max(host::PAGE).next_power_of_two();
        let spare = {
            let mut spare = lock(&self.spare);
            spare.host.iter().position(|has| has.size() == size).map(|at| spare.host.swap_remove(at))
        };
        let mapped = match spare {
            Some(found) => found,
            None => {
                self.bind()?;
                let doing = format!("{size} bytes of host memory");
                let mapped = self.allocate(|| Mapped::new(size));
                if let Err(loss) = self.bind() {
                    // The context may have been reset meanwhile, and what was registered behind that be another device's to
                    // write to: it stays.
                    std::mem::forget(mapped);
                    return Err(loss);
                }
                mapped
                    .map_err(|refusal| self.refused(&doing, refusal))?
                    .ok_or_else(|| driver::unavailable(format!("{doing}: there are not as many")))?
            }
        };
        Ok(HostMemory::new(self, mapped))
    }

    /// Keeps host memory, which nobody uses any more, to be used again.
    pub fn keep(&self, memory: Mapped) {
        lock(&self.spare).host.push(memory);
    }

    /// Memory of the device; zeroed.
    pub fn device_memory(self: &Arc<Self>, bytes: usize) -> Result<DeviceMemory> {
        let size = bytes.max(256).next_multiple_of(256);
        let spare = {
            let mut spare = lock(&self.spare);
            spare.device.iter().position(|(has, _)| *has == size).map(|at| spare.device.swap_remove(at))
        };
        self.bind()?;
        let address = match spare {
            Some((_, address)) => address,
            None => self
                .allocate(|| driver::device_memory(size))
                .map_err(|refusal| self.refused(&format!("{size} bytes of device memory"), refusal))?,
        };
        let memory = DeviceMemory { gpu: Arc::downgrade(self), address, size };
        self.clear(&memory)?;
        Ok(memory)
    }

    /// Zeroes memory that no kernel uses meanwhile.
    pub fn clear(self: &Arc<Self>, memory: &DeviceMemory) -> Result<()> {
        self.copy(|copies| {
            // SAFETY: so many bytes are the memory's; the stream is this device's.
            unsafe {
                driver::clear(memory.address, memory.size, copies.stream.0)?;
                self.wait(copies.stream.0, WAY)
            }
        })
    }

    fn copy<R>(self: &Arc<Self>, work: impl FnOnce(&Copies) -> Result<R, Refusal>) -> Result<R> {
        self.bind()?;
        let mut copies = lock(&self.copies);
        if copies.is_none() {
            *copies = Some(Copies { stream: self.stream()?, staging: self.host_memory(STAGING)? });
        }
        let copies = copies.as_ref().expect("just made");
        work(copies).map_err(|refusal| self.refused("a copy", refusal))
    }

    /// Copies to the device. No kernel uses these bytes meanwhile.
    pub fn upload(self: &Arc<Self>, to: &DeviceMemory, offset: usize, from: &[u8]) -> Result<()> {
        assert!(offset + from.len() <= to.size, "a copy is inside its memory");
        self.copy(|copies| {
            for (part, at) in from.chunks(STAGING).zip((offset..).step_by(STAGING)) {
                // SAFETY: the staging memory is this copy's, which is over before the next one begins; the device's has
                // the room, as asserted.
                unsafe {
                    copies.staging.bytes().copy_from_nonoverlapping(part.as_ptr(), part.len());
                    let from = copies.staging.bytes().cast();
                    driver::upload(to.address + at as u64, from, part.len(), copies.stream.0)?;
                    self.wait(copies.stream.0, WAY)?;
                }
            }
            Ok(())
        })
    }

    /// Copies from the device. No kernel uses these bytes meanwhile.
    pub fn download(self: &Arc<Self>, from: &DeviceMemory, offset: usize, into: &mut [u8]) -> Result<()> {
        assert!(offset + into.len() <= from.size, "a copy is inside its memory");
        self.copy(|copies| {
            for (part, at) in into.chunks_mut(STAGING).zip((offset..).step_by(STAGING)) {
                // SAFETY: as in `upload`.
                unsafe {
                    let to = copies.staging.bytes().cast();
                    driver::download(to, from.address + at as u64, part.len(), copies.stream.0)?;
                    self.wait(copies.stream.0, WAY)?;
                    part.as_mut_ptr().copy_from_nonoverlapping(copies.staging.bytes(), part.len());
                }
            }
            Ok(())
        })
    }
}

/// Memory of the device. As [`HostMemory`].
pub(in crate::backend::cuda) struct DeviceMemory {
    gpu: Weak<Gpu>,
    pub address: CUdeviceptr,
    size: usize,
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let Some(gpu) = self.gpu.upgrade().filter(|gpu| !gpu.is_lost()) else { return };
        lock(&gpu.spare).device.push((self.size, self.address));
    }
}
