//! NVIDIA GPUs through CUDA: every kernel is a resident one, which polls a ring of messages in mapped host memory.
//!
//! A kernel's [port](port) writes messages into its [lane](lane)'s ring and watches the place of the next record
//! itself; where nobody waits, the device's [watch](watch) does. How the rings work is in `shaders/cuda/ring.cuh`, and
//! the driver that runs on the device is `resident.cuh` beside it. A kernel leaves the device when it has nothing to
//! do, when it is asked to, and when the device has to be [quiet](gpu::Gpu::quietly), and comes back when there is
//! something to do. For those that come when many are there an [ingress](ingress) looks. A kernel is a block of as
//! many warps as its shape, its ring and the device have [room](room) for. What it emits goes into the ring of the kernel at
//! its [link]'s end, where there is room for all that may come.
//!
//! The host's side calls CUDA through `cudarc`, which loads driver and NVRTC when they are first asked for; without them
//! the backend is unavailable, and says why.

mod adapter;
mod compute;
mod driver;
mod gpu;
mod host;
mod ingress;
mod kernel;
mod lane;
mod layout;
mod link;
mod monitor;
mod nvrtc;
mod port;
mod pulse;
mod room;
mod storage;
#[cfg(test)]
mod tests;
mod watch;

use super::{Capabilities, Code, Device, DeviceStorage, LaunchSpec, Port};
use crate::compile::EmitSlot;
use crate::compile::cuda::{write, write_compute, write_twin};
use crate::error::Result;
pub(crate) use adapter::{Found, accelerators, choose, free_memory};
use gpu::Gpu;
use lane::Lane;
use layout::Layout;
pub use monitor::{GpuMonitor, GpuSample};
use std::sync::Arc;
use storage::CudaStorage;

/// Names a handler's text in messages of the CUDA compiler, of which there are none unless this library is wrong.
const SOURCE: &str = "handler.wgsl";

/// An opened device.
pub(crate) struct CudaDevice {
    capabilities: Capabilities,
    gpu: Arc<Gpu>,
    /// Tests say how many warps a kernel has, as far as its code can have so many; else its shape does.
    warps: Option<u32>,
}

impl CudaDevice {
    /// Opens a device.
    ///
    /// # Errors
    ///
    /// `Unavailable`, with the reason.
    pub(crate) fn open(found: &Found) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(Self::open_here(found)?))
    }

    fn open_here(found: &Found) -> Result<Self> {
        let gpu = Gpu::open(found.device, found.architecture.clone(), found.accelerator().compute_units)?;
        Ok(Self { capabilities: found.capabilities(), gpu, warps: None })
    }

    /// A kernel that runs this text; see `ring.cuh` for what it has to define.
    fn launch_text(&self, spec: &LaunchSpec, handler: &str, outputs: &[EmitSlot]) -> Result<Box<dyn Port>> {
        let layout = Layout::new(spec, outputs);
        let refused = match &spec.twin {
            Some(twin) => format!("kernel `{}`: cuda_source does not compile", twin.kernel),
            None => format!("{SOURCE}:1:1: the CUDA compiler refused what this handler became"),
        };
        let image = |text: &str, is_handler: bool| {
            let (architecture, compiler) = (&self.gpu.architecture, nvrtc::version());
            let build = || nvrtc::compile(text, SOURCE, architecture);
            let (question, compiler) = ([text, architecture], compiler.as_deref());
            match &spec.code {
                Code::Handler(handler) if is_handler => handler.gpu_code(&question, compiler, build),
                Code::Handler(handler) => handler.driver_code(&question, compiler, build),
                Code::Native(_) => build(),
            }
        };
        let build = |text: &str| image(text, true);
        let code = self.gpu.code(layout.text(handler), SOURCE, c"rt_resident", build, &refused)?;
        // Kernels do without it if need be. A device that is lost says so again below.
        _ = self.gpu.prepare_ingress(|text| image(text, false));
        let warps = match self.warps {
            Some(warps) => warps.min(layout.most_warps),
            None => layout.warps(),
        };
        let lane = Lane::new(&self.gpu, code, layout, warps, spec)?;
        Ok(Box::new(port::CudaPort::new(lane)))
    }
}

impl Device for CudaDevice {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceStorage>> {
        Ok(Arc::new(CudaStorage::new(self.gpu.clone(), bytes)?))
    }

    fn prefix(&self, storage: &dyn DeviceStorage, bytes: usize) -> Arc<dyn DeviceStorage> {
        let own = storage.as_any().downcast_ref::<CudaStorage>().expect("memory of this backend");
        Arc::new(own.prefix(bytes))
    }

    fn owns(&self, storage: &dyn DeviceStorage) -> bool {
        let own = storage.as_any().downcast_ref::<CudaStorage>();
        own.is_some_and(|storage| storage.is_of(&self.gpu))
    }

    fn compute(
        &self,
        compiled: &Arc<crate::compile::CompiledCompute>,
    ) -> Result<Arc<dyn super::compute::DeviceEntryPoint>> {
        let text = write_compute(&compiled.program, SOURCE).text;
        let name = &compiled.program.name;
        let refused = format!("{name}:1:1: the CUDA compiler refused what this entry point became");
        let build = |text: &str| {
            let (architecture, compiler) = (&self.gpu.architecture, nvrtc::version());
            let build = || nvrtc::compile(text, SOURCE, architecture);
            compiled.gpu_code(&[text, architecture], compiler.as_deref(), build)
        };
        let code = self.gpu.code(text, name, c"rt_compute", build, &refused)?;
        Ok(Arc::new(compute::CudaEntryPoint::new(self.gpu.clone(), compiled.clone(), code)?))
    }

    fn launch(&self, spec: LaunchSpec) -> Result<Box<dyn Port>> {
        let Code::Handler(handler) = &spec.code else {
            unreachable!("native handlers are launched on the CPU")
        };
        let text = match &spec.twin {
            Some(twin) => write_twin(&handler.program, &twin.text),
            None => write(&handler.program, SOURCE).text,
        };
        self.launch_text(&spec, &text, &handler.program.emits)
    }

    fn is_lost(&self) -> bool {
        self.gpu.is_lost()
    }

    #[cfg(test)]
    fn destroy(&self) {
        self.gpu.lose("on purpose", &"a test");
    }
}
