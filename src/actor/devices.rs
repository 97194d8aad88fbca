//! The devices of a runtime: opened when first needed, and again when lost.

use crate::backend::{self, Accelerator, BackendKind, Device, DeviceOptions, Opened};
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
    /// All that are open, each once. Locked while one is opened, and behind `device`.
    open: Mutex<Vec<(Accelerator, Arc<dyn Device>)>>,
    cache: Cache,
}

impl Devices {
    pub(super) fn new(wanted: BackendKind, options: DeviceOptions, cache: Cache) -> Self {
        Self {
            wanted,
            options,
            why: Mutex::new("no device has been opened yet".to_owned()),
            device: Mutex::new(None),
            open: Mutex::default(),
            cache,
        }
    }

    /// The device of the runtime's backend.
    pub(super) fn device(&self) -> Result<Arc<dyn Device>> {
        let mut device = lock(&self.device);
        if let Some(device) = device.as_ref().filter(|device| !device.is_lost()) {
            return Ok(device.clone());
        }
        let mut open = lock(&self.open);
        open.retain(|(_, device)| !device.is_lost());
        let Opened { device: opened, accelerator, why } =
            backend::open(self.wanted, &self.options, &|accelerator| find(&open, accelerator))?;
        if find(&open, &accelerator).is_none() {
            open.push((accelerator, opened.clone()));
        }
        *lock(&self.why) = why;
        Ok(device.insert(opened).clone())
    }

    /// The device that this describes.
    pub(super) fn on(&self, accelerator: &Accelerator) -> Result<Arc<dyn Device>> {
        let mut open = lock(&self.open);
        open.retain(|(_, device)| !device.is_lost());
        if let Some(device) = find(&open, accelerator) {
            return Ok(device);
        }
        let device = backend::open_accelerator(accelerator)?;
        open.push((accelerator.clone(), device.clone()));
        Ok(device)
    }

    /// The device of a kernel that may be pinned to one.
    pub(super) fn of(&self, pinned: Option<&Accelerator>) -> Result<Arc<dyn Device>> {
        pinned.map_or_else(|| self.device(), |accelerator| self.on(accelerator))
    }

    /// Has this device be the one that is open.
    #[cfg(all(test, feature = "wgpu", not(loom)))]
    pub(super) fn put(&self, device: Arc<dyn Device>) {
        *lock(&self.device) = Some(device);
    }

    /// The CPU.
    pub(super) fn cpu(&self) -> Result<Arc<dyn Device>> {
        self.on(&backend::cpu::accelerator())
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

/// The one of them that this describes.
fn find(open: &[(Accelerator, Arc<dyn Device>)], accelerator: &Accelerator) -> Option<Arc<dyn Device>> {
    open.iter().find(|(other, _)| other.is(accelerator)).map(|(_, device)| device.clone())
}
