//! The CPU: no driver, always there. Handlers run on whatever thread drives their port; large batches of
//! data-parallel ones on a pool sized to the cores.

mod compute;
mod machine;
mod parallel;
mod port;
mod runner;
mod storage;
#[cfg(test)]
mod tests;
mod threads;

use super::compute::DeviceEntryPoint;
use super::{
    Accelerator, AcceleratorKind, BackendKind, Capabilities, Device, DeviceStorage, Execution, LaunchSpec,
    Port,
};
use crate::compile;
use crate::error::Result;
pub(crate) use machine::free_memory;
use std::sync::Arc;

/// What runs WGSL handlers here: `jit`, or `interpreter: ` and why.
pub(crate) fn engine() -> &'static str {
    compile::engine()
}

/// The processor of this process.
pub(crate) fn accelerator() -> Accelerator {
    let parallelism = std::thread::available_parallelism().map_or(1, usize::from);
    Accelerator {
        backend: BackendKind::Cpu,
        index: 0,
        name: format!("CPU ({parallelism} threads, {})", engine()),
        uuid: None,
        vendor: machine::vendor(),
        kind: AcceleratorKind::Processor,
        api: String::new(),
        driver: String::new(),
        pci_address: None,
        unified_memory: true,
        parallelism,
        compute_units: u32::try_from(parallelism).ok(),
        subgroup_size: None,
        workgroup: None,
        total_memory: machine::total_memory(),
        largest_buffer: isize::MAX as u64,
        buffer_alignment: None,
        features: machine::features(),
    }
}

/// The CPU as a device.
pub(crate) struct CpuDevice {
    capabilities: Capabilities,
    threads: Arc<threads::Threads>,
}

impl CpuDevice {
    /// Opens it; there is nothing that could fail.
    pub(crate) fn open() -> Arc<dyn Device> {
        let Accelerator { name, driver, uuid, unified_memory, parallelism, largest_buffer, .. } =
            accelerator();
        let capabilities = Capabilities {
            name,
            driver,
            uuid,
            execution: Execution::Host,
            software: false,
            unified_memory,
            parallelism,
            largest_buffer,
            longest_loop: None,
        };
        Arc::new(Self { capabilities, threads: Arc::new(threads::Threads::new(parallelism)) })
    }
}

impl Device for CpuDevice {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceStorage>> {
        Ok(Arc::new(storage::CpuStorage::new(bytes)?))
    }

    fn prefix(&self, storage: &dyn DeviceStorage, bytes: usize) -> Arc<dyn DeviceStorage> {
        let own = storage.as_any().downcast_ref::<storage::CpuStorage>().expect("memory of this backend");
        Arc::new(own.prefix(bytes))
    }

    fn owns(&self, storage: &dyn DeviceStorage) -> bool {
        storage.as_any().is::<storage::CpuStorage>()
    }

    fn compute(&self, compiled: &Arc<compile::CompiledCompute>) -> Result<Arc<dyn DeviceEntryPoint>> {
        Ok(Arc::new(compute::CpuEntryPoint::new(compiled.clone(), self.threads.clone())?))
    }

    fn launch(&self, spec: LaunchSpec) -> Result<Box<dyn Port>> {
        Ok(Box::new(port::CpuPort::new(spec, self.threads.clone())?))
    }
}
