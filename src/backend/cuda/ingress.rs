//! The ingress: one warp that looks, for many kernels, whether the host has written messages for them.
//!
//! A kernel with nothing to do looks into its ring in host memory on and on, each time over the bus, which a few of them
//! do not burden. Those that come when more than [`ALONE`] are there have a bell each: where their next message will be, in a
//! list that the host writes and the ingress copies into device memory, where they look instead.
//!
//! All of it is a hint. A kernel looks into its ring now and then whatever its bell says, and at once if it says anything
//! but that there is nothing: without an ingress, or with a bell that somebody else had before, a message comes later by
//! microseconds. So nothing here has to be in order with anything else, and an ingress that cannot be made is done without.
//!
//! The CUDA side is `ingress.cuh`.

use super::driver::{self, Block, CUdeviceptr, CUstream};
use super::gpu::{DeviceMemory, Gpu, Shared};
use super::host::{HostMemory, Mapped};
use super::kernel::Code;
use super::lane::IDLE;
use super::layout::{GO_ON, STOP, WARP_SIZE};
use super::room::{MOST_RESIDENT, Part};
use crate::error::Result;
use crate::sync::{Mutex, back_off, lock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Beside so many kernels, which are there as far as is known, each further one listens: a look into a ring is a trip of about a
/// microsecond over the bus.
pub(super) const ALONE: usize = 16;
/// One for each kernel that may be on the device.
const BELLS: usize = MOST_RESIDENT;
/// It leaves in microseconds, unless it has not begun.
const LEAVES: Duration = Duration::from_millis(100);

/// Places in its host memory: what the host writes, what the device writes, the list.
const STOP_AT: usize = 0;
const LEFT_AT: usize = 256;
const LIST_AT: usize = 512;
const BYTES: usize = LIST_AT + 4 * BELLS;

/// The parameter of the kernel, as `RtIngress`; addresses are the device's.
#[repr(C)]
struct Launch {
    list: u64,
    bells: u64,
    stop: u64,
    left: u64,
    idle_ns: u64,
    epoch: u32,
    zero: u32,
}

const _: () = assert!(size_of::<Launch>() == 48, "`ingress.cuh` asserts the same");

/// The whole text.
pub(super) fn text() -> String {
    let head = format!("#define RT_BELLS {BELLS}u\n");
    let parts = [
        &head,
        "#line 1 \"ringwork/bus.cuh\"\n",
        include_str!("../../../shaders/cuda/bus.cuh"),
        "#line 1 \"ringwork/ingress.cuh\"\n",
        include_str!("../../../shaders/cuda/ingress.cuh"),
    ];
    parts.concat()
}

/// A kernel's bell, which it has while it is on the device, if it listens then.
#[derive(Default)]
pub(super) struct Bell {
    taken: Mutex<Option<(Arc<Ingress>, usize)>>,
    /// Is there one? Cheaper to ask than to lock.
    is_taken: AtomicBool,
}

impl Bell {
    /// The kernel is about to start, and listens to this. It is to be [rung](Self::ring) then. The gate is held, the context
    /// is this thread's.
    pub fn take(&self, gpu: &Gpu, ingress: Arc<Ingress>) {
        ingress.tend(gpu);
        let bell = lock(&ingress.run).free.pop();
        *lock(&self.taken) = bell.map(|bell| (ingress, bell));
        // Relaxed: whoever does not see that yet has written a message of which the kernel hears a little later.
        self.is_taken.store(true, Ordering::Relaxed);
    }

    /// For work that takes longer than the port's may wait.
    fn taken(&self) -> Option<(Arc<Ingress>, usize)> {
        lock(&self.taken).clone()
    }

    /// The kernel's next message will be there. What it is told before may reach the device behind this.
    pub fn ring(&self, tail: u64) {
        if self.is_taken.load(Ordering::Relaxed)
            && let Some((ingress, bell)) = &*lock(&self.taken)
        {
            // Relaxed: a hint.
            ingress.list()[*bell].store(tail as u32, Ordering::Relaxed);
        }
    }

    /// Looks after the ingress, if the kernel listens, and after what the bell says. The gate is held, the context is this
    /// thread's.
    pub fn tend(&self, gpu: &Gpu, tail: u64) {
        if let Some((ingress, _)) = self.taken() {
            ingress.tend(gpu);
            self.ring(tail);
        }
    }

    /// Where the kernel listens, on the device; 0 if it does not.
    pub fn address(&self) -> u64 {
        self.taken().map_or(0, |(ingress, bell)| ingress.bells.address + 4 * bell as u64)
    }

    /// The kernel has left, or has not started.
    pub fn give_back(&self) {
        self.is_taken.store(false, Ordering::Relaxed);
        let taken = lock(&self.taken).take();
        if let Some((ingress, bell)) = taken {
            lock(&ingress.run).free.push(bell);
        }
    }
}

struct Run {
    is_running: bool,
    /// Of the last launch.
    epoch: u32,
    /// Bells that no kernel has.
    free: Vec<usize>,
}

/// See the module. The device keeps it.
pub(super) struct Ingress {
    code: Arc<Code>,
    host: HostMemory,
    bells: DeviceMemory,
    stream: Shared<CUstream>,
    part: Part,
    run: Mutex<Run>,
}

const BLOCK: Block = Block { threads: WARP_SIZE, shared: 0 };

impl Ingress {
    /// One with this code, which has run. It is started when a kernel [takes a bell](Bell::take).
    pub fn new(gpu: &Arc<Gpu>, code: Arc<Code>) -> Result<Arc<Self>> {
        gpu.bind()?;
        // SAFETY: the code is loaded.
        let blocks = unsafe { driver::blocks(code.function.0, BLOCK) };
        let part = Part::of(blocks.map_err(|refusal| gpu.refused("the room for the ingress", refusal))?);
        let ingress = Self {
            code,
            host: gpu.host_memory(BYTES)?,
            bells: gpu.device_memory(4 * BELLS)?,
            stream: gpu.stream()?,
            part,
            run: Mutex::new(Run { is_running: false, epoch: 0, free: (0..BELLS).collect() }),
        };
        if let Err(error) = ingress.warm_up(gpu) {
            if gpu.bind().is_ok() {
                // SAFETY: it has been given nothing, and is not used any more.
                unsafe { driver::destroy_stream(ingress.stream.0) };
            }
            return Err(error);
        }
        Ok(Arc::new(ingress))
    }

    /// Runs the code for the first time, as [`Lane`](super::lane::Lane)s do. It leaves at once; if it does not, kernels look
    /// for themselves until it has.
    fn warm_up(&self, gpu: &Gpu) -> Result<()> {
        if self.code.is_warm.load(Ordering::Relaxed) {
            return Ok(());
        }
        gpu.quietly(|| {
            gpu.bind()?;
            gpu.take_room_for(self.part);
            let begun = self.begin(gpu, &mut lock(&self.run), STOP);
            begun.map_err(|refusal| gpu.refused("the ingress does not start", refusal))
        })?;
        self.code.is_warm.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn stop_word(&self) -> &AtomicU32 {
        &self.host.words(STOP_AT, 1)[0]
    }

    fn left(&self) -> &AtomicU32 {
        &self.host.words(LEFT_AT, 1)[0]
    }

    fn list(&self) -> &[AtomicU32] {
        self.host.words(LIST_AT, BELLS)
    }

    /// Starts it if it is not there, and can be.
    fn tend(&self, gpu: &Gpu) {
        let mut run = lock(&self.run);
        // SAFETY: the stream is this one's.
        let is_over = match unsafe { driver::is_over(self.stream.0) } {
            Ok(is_over) => is_over,
            Err(refusal) => {
                gpu.refused("the ingress", refusal);
                return;
            }
        };
        self.note_exit(gpu, &mut run);
        if is_over && run.is_running {
            gpu.lose("the ingress", &"it came to an end by itself");
        } else if is_over
            && gpu.finds_room_for(self.part)
            && let Err(refusal) = self.begin(gpu, &mut run, GO_ON)
        {
            gpu.refused("the ingress does not start", refusal);
        }
    }

    /// Starts it, for which there is room, with this stop word.
    fn begin(&self, gpu: &Gpu, run: &mut Run, stop: u32) -> Result<(), driver::Refusal> {
        run.epoch = run.epoch.wrapping_add(1).max(1);
        self.stop_word().store(stop, Ordering::Relaxed);
        let mut launch = Launch {
            list: self.host.address(LIST_AT),
            bells: self.bells.address,
            stop: self.host.address(STOP_AT),
            left: self.host.address(LEFT_AT),
            idle_ns: IDLE.as_nanos() as u64,
            epoch: run.epoch,
            zero: 0,
        };
        // SAFETY: the code takes this parameter; what it points to is this one's, which stays until the kernel has left.
        let started = unsafe { driver::launch(self.code.function.0, BLOCK, self.stream.0, &mut launch) };
        match started {
            Ok(()) => run.is_running = true,
            Err(_) => gpu.give_room_of(self.part),
        }
        started
    }

    fn note_exit(&self, gpu: &Gpu, run: &mut Run) {
        // Acquire pairs with the device's release: all that it wrote is there.
        let has_left = self.left().load(Ordering::Acquire) == run.epoch;
        if run.is_running && (has_left || gpu.is_lost()) {
            run.is_running = false;
            gpu.give_room_of(self.part);
        }
    }

    pub fn is_running(&self, gpu: &Gpu) -> bool {
        let mut run = lock(&self.run);
        self.note_exit(gpu, &mut run);
        run.is_running
    }

    /// Asks it to leave. Kernels with bells look for themselves until somebody [tends](Bell::tend) it.
    pub fn ask_to_stop(&self) {
        // Relaxed: the word only hastens what is then waited for.
        self.stop_word().store(STOP, Ordering::Relaxed);
    }

    /// Has it something to copy: the last bell to be taken, which nobody has as long as there are fewer kernels.
    #[cfg(test)]
    pub fn disturb(&self) {
        self.list()[0].fetch_add(1, Ordering::Relaxed);
    }

    /// Bells that no kernel has.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        lock(&self.run).free.len()
    }

    /// What it had, for the device itself, which goes and whose context is this thread's: its memory, if its kernel has left.
    pub fn into_memory(self, gpu: &Gpu) -> Option<(Mapped, CUdeviceptr)> {
        self.ask_to_stop();
        let begun = Instant::now();
        while self.is_running(gpu) && begun.elapsed() < LEAVES {
            // Asked for nothing but that a driver that gathers launches makes this one, too.
            // SAFETY: the stream exists.
            _ = unsafe { driver::is_over(self.stream.0) };
            back_off(begun);
        }
        if self.is_running(gpu) {
            // It may come to write to it.
            std::mem::forget(self.host);
            return None;
        }
        // SAFETY: the last one to use it.
        unsafe {
            _ = driver::wait(self.stream.0);
            driver::destroy_stream(self.stream.0);
        }
        Some((self.host.into_mapped(), self.bells.address))
    }
}
