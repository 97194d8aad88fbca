//! The CPU: no driver, always there. Handlers run on whatever thread drives their port; large batches of
//! data-parallel ones on a pool sized to the cores.

mod parallel;
mod port;
mod runner;
mod storage;
#[cfg(test)]
mod tests;

use super::{Capabilities, Device, DeviceStorage, Execution, LaunchSpec, Port};
use crate::compile;
use crate::error::Result;
use std::sync::Arc;

/// What runs WGSL handlers here: `jit`, or `interpreter: ` and why.
pub(crate) fn engine() -> &'static str {
    compile::engine()
}

/// The CPU as a device.
pub(crate) struct CpuDevice {
    capabilities: Capabilities,
    /// Made when the first batch is large enough to be worth it.
    pool: parallel::SharedPool,
}

impl CpuDevice {
    /// Opens it; there is nothing that could fail.
    pub(crate) fn open() -> Arc<dyn Device> {
        let parallelism = std::thread::available_parallelism().map_or(1, usize::from);
        let capabilities = Capabilities {
            name: format!("CPU ({parallelism} threads, {})", engine()),
            driver: String::new(),
            uuid: None,
            execution: Execution::Host,
            software: false,
            unified_memory: true,
            parallelism,
            largest_buffer: isize::MAX as u64,
            longest_loop: None,
        };
        Arc::new(Self { capabilities, pool: Arc::default() })
    }
}

impl Device for CpuDevice {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceStorage>> {
        Ok(Arc::new(storage::CpuStorage::new(bytes)))
    }

    fn launch(&self, spec: LaunchSpec) -> Result<Box<dyn Port>> {
        Ok(Box::new(port::CpuPort::new(spec, self.pool.clone(), self.capabilities.parallelism)?))
    }
}
