//! Tables in the device's memory.

use super::gpu::{DeviceMemory, Gpu};
use super::lane::Lane;
use super::layout::Table;
use crate::backend::{DeviceStorage, check_range};
use crate::error::{Error, Result};
use crate::sync::{Mutex, lock, write_before};
use std::sync::{Arc, RwLock, RwLockReadGuard, Weak};
use std::time::Instant;

/// A table. Kernels that have it leave the device while the host reads or writes it, and come back then.
pub(super) struct CudaStorage {
    memory: Arc<DeviceMemory>,
    bytes: usize,
    lanes: Mutex<Vec<Weak<Lane>>>,
    /// Held shared by dispatches that use it.
    dispatched: RwLock<()>,
    /// Dropped last: the memory goes back to it.
    gpu: Arc<Gpu>,
}

impl CudaStorage {
    pub fn new(gpu: Arc<Gpu>, bytes: usize) -> Result<Self> {
        let memory = Arc::new(gpu.device_memory(bytes)?);
        Ok(Self { gpu, memory, bytes, lanes: Mutex::default(), dispatched: RwLock::default() })
    }

    /// This backend's own type behind a storage that it allocated.
    pub fn of(table: &Arc<dyn DeviceStorage>) -> &Self {
        table.as_any().downcast_ref().expect("the layer above binds storage of the kernel's own device")
    }

    /// Is it memory of this device?
    pub fn is_of(&self, gpu: &Arc<Gpu>) -> bool {
        Arc::ptr_eq(&self.gpu, gpu)
    }

    /// As kernels see it.
    pub fn table(&self) -> Table {
        Table { data: self.memory.address, bytes: self.bytes as u64 }
    }

    /// Keeps the host away while a dispatch runs.
    pub fn share(&self) -> RwLockReadGuard<'_, ()> {
        // The lock guards no data of its own, so a panic of its holder leaves nothing broken.
        self.dispatched.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Enters a kernel that has it.
    pub fn enter(&self, lane: &Arc<Lane>) {
        let mut lanes = lock(&self.lanes);
        lanes.retain(|lane| lane.strong_count() > 0);
        lanes.push(Arc::downgrade(lane));
    }

    /// Does something while no kernel that has it is on the device.
    fn alone(&self, deadline: Instant, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        let Some(_no_dispatch) = write_before(&self.dispatched, deadline) else {
            return Err(Error::timed_out("access to a buffer that a dispatch is using", begun.elapsed()));
        };
        let mut lanes: Vec<_> = lock(&self.lanes).iter().filter_map(Weak::upgrade).collect();
        // One buffer may be bound under two names.
        lanes.sort_by_key(Arc::as_ptr);
        lanes.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let mut held: Vec<&Arc<Lane>> = Vec::new();
        let mut result = Ok(());
        for lane in &lanes {
            if lane.hold(deadline) {
                held.push(lane);
                result = lane.wait_for_stream();
            } else {
                let what = "access to a buffer that handlers are using";
                result = Err(Error::timed_out(what, begun.elapsed()));
            }
            if result.is_err() {
                break;
            }
        }
        let result = result.and_then(|()| work());
        held.iter().for_each(|lane| lane.let_go());
        result
    }

    /// The same memory, of which only the first `bytes` are there.
    ///
    /// # Panics
    ///
    /// If there are not as many.
    pub(super) fn prefix(&self, bytes: usize) -> Self {
        assert!(bytes <= self.bytes, "a prefix is not longer than the whole");
        let (gpu, memory) = (self.gpu.clone(), self.memory.clone());
        Self { gpu, memory, bytes, lanes: Mutex::default(), dispatched: RwLock::default() }
    }
}

impl DeviceStorage for CudaStorage {
    fn read(&self, offset: usize, into: &mut [u8], deadline: Instant) -> Result<()> {
        self.gpu.bind()?;
        check_range(offset, into.len(), self.bytes)?;
        self.alone(deadline, || self.gpu.download(&self.memory, offset, into))
    }

    fn write(&self, offset: usize, from: &[u8], deadline: Instant) -> Result<()> {
        self.gpu.bind()?;
        check_range(offset, from.len(), self.bytes)?;
        self.alone(deadline, || self.gpu.upload(&self.memory, offset, from))
    }

    fn clear(&self, deadline: Instant) -> Result<()> {
        self.gpu.bind()?;
        self.alone(deadline, || self.gpu.clear(&self.memory))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
