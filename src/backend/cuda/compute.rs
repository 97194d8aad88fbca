//! Entry points on CUDA: a kernel of as many blocks as there are workgroups, on a stream of its own.

use super::driver::{self, Block};
use super::gpu::{DeviceMemory, Gpu, Shared, WAY_OF_DISPATCH};
use super::kernel::Code;
use super::layout::Table;
use super::room::Part;
use super::storage::CudaStorage;
use crate::backend::DeviceStorage;
use crate::backend::compute::{DeviceEntryPoint, DispatchClock, DispatchTime, budget_error};
use crate::compile::CompiledCompute;
use crate::compile::cuda::MOST_TABLES;
use crate::error::Result;
use crate::sync::{Mutex, lock};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What the kernel takes; `shaders/cuda/compute.cuh`.
#[repr(C)]
struct Dispatch {
    tables: [Table; MOST_TABLES],
    fault: u64,
    stop: u64,
}

/// An entry point on a device.
pub(super) struct CudaEntryPoint {
    compiled: Arc<CompiledCompute>,
    code: Arc<Code>,
    /// What one of its blocks takes of a multiprocessor.
    part: Part,
    /// One dispatch at a time, because of the words.
    turn: Mutex<Turn>,
    /// Last: the code and the words go back to it.
    gpu: Arc<Gpu>,
}

struct Turn {
    stream: Shared<driver::CUstream>,
    /// The fault, and a stop word that is never set.
    words: DeviceMemory,
    /// At a kernel's begin and at its end, where the driver tells the time between them.
    events: Option<[Shared<driver::CUevent>; 2]>,
}

impl Turn {
    /// Does `launch`, which gives the stream a kernel, between the two events.
    ///
    /// # Safety
    ///
    /// The context that stream and events are of is this thread's.
    unsafe fn begin(
        &self,
        launch: impl FnOnce() -> Result<(), driver::Refusal>,
    ) -> Result<(), driver::Refusal> {
        let Some([begun, ended]) = self.events else { return launch() };
        // SAFETY: stream and events exist as long as this.
        unsafe { driver::record(begun.0, self.stream.0)? };
        launch()?;
        // SAFETY: as above.
        unsafe { driver::record(ended.0, self.stream.0) }
    }

    /// Waits for what has begun; how long it took, by the device's clock.
    ///
    /// # Safety
    ///
    /// As in [`begin`](Self::begin).
    unsafe fn end(&self, gpu: &Gpu) -> Result<Option<Duration>, driver::Refusal> {
        // SAFETY: the stream exists as long as this.
        unsafe { gpu.wait(self.stream.0, WAY_OF_DISPATCH)? };
        let Some([begun, ended]) = self.events else { return Ok(None) };
        // SAFETY: as above, and the events, to which the stream has come.
        unsafe { driver::time_between(begun.0, ended.0).map(Some) }
    }
}

impl CudaEntryPoint {
    pub(super) fn new(gpu: Arc<Gpu>, compiled: Arc<CompiledCompute>, code: Arc<Code>) -> Result<Self> {
        let words = gpu.device_memory(8)?;
        gpu.bind()?;
        let block = Block { threads: compiled.program.workgroup_size.iter().product(), shared: 0 };
        // SAFETY: the code is loaded; its context is this thread's.
        let blocks = unsafe { driver::blocks(code.function.0, block) };
        let part = Part::of(blocks.map_err(|refusal| gpu.refused("the room for an entry point", refusal))?);
        let event = || driver::timed_event().map_err(|refusal| gpu.refused("an event", refusal));
        let events = event()?.zip(event()?).map(|(begun, ended)| [Shared(begun), Shared(ended)]);
        let turn = Mutex::new(Turn { stream: gpu.stream()?, words, events });
        Ok(Self { compiled, gpu, code, part, turn })
    }
}

impl DeviceEntryPoint for CudaEntryPoint {
    fn engine(&self) -> &'static str {
        "cuda"
    }

    fn dispatch(&self, buffers: &[Arc<dyn DeviceStorage>], groups: [u32; 3]) -> Result<DispatchTime> {
        let gpu = &self.gpu;
        gpu.bind()?;
        let turn = lock(&self.turn);
        // Until the end: transfers go on a stream of their own. Two of one storage are no harm, as nobody waits to write.
        let _shared: Vec<_> = buffers.iter().map(|buffer| CudaStorage::of(buffer).share()).collect();
        let mut tables = [Table { data: 0, bytes: 0 }; MOST_TABLES];
        for (table, buffer) in tables.iter_mut().zip(buffers) {
            *table = CudaStorage::of(buffer).table();
        }
        let mut dispatch = Dispatch { tables, fault: turn.words.address, stop: turn.words.address + 4 };
        let block = self.compiled.program.workgroup_size;
        gpu.wait_for_room(self.part)?;
        let begun = Instant::now();
        // Relaxed: resident kernels are forgiven to wait meanwhile, and a little longer does no harm.
        gpu.dispatches.fetch_add(1, Ordering::Relaxed);
        let mut begin = || {
            let function = self.code.function.0;
            // SAFETY: the function takes this parameter; the buffers, the code and the words are kept until the stream is
            // over, below, or the device is lost: then nobody is given their memory again before its context is reset.
            unsafe {
                turn.begin(|| driver::launch_grid(function, groups, block, turn.stream.0, &mut dispatch))
            }
        };
        // The first time it may wait for kernels, to have local memory for all of its threads.
        let is_warm = self.code.is_warm.load(Ordering::Relaxed);
        let has_begun = if is_warm { begin() } else { gpu.quietly(begin) };
        // In any case: what was refused may have come behind the launch.
        // SAFETY: as above.
        let ended = unsafe { turn.end(gpu) };
        if has_begun.is_ok() {
            self.code.is_warm.store(true, Ordering::Relaxed);
        }
        let done = has_begun.and(ended);
        gpu.dispatches.fetch_sub(1, Ordering::Relaxed);
        gpu.give_room_of(self.part);
        let host = DispatchTime { duration: begun.elapsed(), clock: DispatchClock::Host };
        let duration = done.map_err(|refusal| gpu.refused("a dispatch", refusal))?;
        let device = duration.map(|duration| DispatchTime { duration, clock: DispatchClock::Device });
        let time = device.unwrap_or(host);
        if self.compiled.program.has_loops {
            let mut fault = [0; 4];
            gpu.download(&turn.words, 0, &mut fault)?;
            if u32::from_ne_bytes(fault) != 0 {
                gpu.upload(&turn.words, 0, &[0; 4])?;
                return Err(budget_error(&self.compiled.program));
            }
        }
        Ok(time)
    }
}

impl Drop for CudaEntryPoint {
    fn drop(&mut self) {
        if self.gpu.bind().is_ok() {
            let turn = lock(&self.turn);
            // SAFETY: every dispatch has waited for all of them.
            unsafe {
                driver::destroy_stream(turn.stream.0);
                turn.events.into_iter().flatten().for_each(|event| driver::destroy_event(event.0));
            }
        }
    }
}
