//! The devices of a runtime: opened when first needed, and again when lost.

use crate::backend::{self, BackendKind, Device, DeviceOptions};
use crate::compile::Cache;
use crate::error::Result;
use crate::sync::{Mutex, lock};
use std::sync::Arc;

/// What kernels get their ports and their handlers from. Kernels hold it too, to come back from a lost device.
pub(super) struct Devices {
    wanted: BackendKind,
    options: DeviceOptions,
    why: Mutex<String>,
    device: Mutex<Option<Arc<dyn Device>>>,
    cpu: Mutex<Option<Arc<dyn Device>>>,
    cache: Cache,
}

impl Devices {
    pub(super) fn new(wanted: BackendKind, options: DeviceOptions, cache: Cache) -> Self {
        Self {
            wanted,
            options,
            why: Mutex::new("no device has been opened yet".to_owned()),
            device: Mutex::new(None),
            cpu: Mutex::new(None),
            cache,
        }
    }

    /// The device of the runtime's backend.
    pub(super) fn device(&self) -> Result<Arc<dyn Device>> {
        let mut device = lock(&self.device);
        if let Some(device) = device.as_ref().filter(|device| !device.is_lost()) {
            return Ok(device.clone());
        }
        let (opened, why) = backend::open(self.wanted, &self.options)?;
        *lock(&self.why) = why;
        Ok(device.insert(opened).clone())
    }

    /// The CPU.
    pub(super) fn cpu(&self) -> Result<Arc<dyn Device>> {
        let mut cpu = lock(&self.cpu);
        if let Some(cpu) = &*cpu {
            return Ok(cpu.clone());
        }
        Ok(cpu.insert(backend::open(BackendKind::Cpu, &DeviceOptions::default())?.0).clone())
    }

    /// The compiled handlers.
    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Why the device is the one it is.
    pub(super) fn why(&self) -> String {
        lock(&self.why).clone()
    }
}
