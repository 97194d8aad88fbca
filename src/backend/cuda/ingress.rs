//! The ingress: one warp that looks, for many kernels, whether the host has written messages for them.
//!
//! A kernel with nothing to do looks into its ring in host memory on and on, each time over the bus, which a few of them
//! do not burden. Those beyond [`ALONE`] that are on the device at the same time have a bell each: where their next
//! message will be, in a list that the host writes and the ingress copies into device memory, where they look instead.
//!
//! All of it is a hint. A kernel looks into its ring now and then whatever its bell says, and at once if it says anything
//! but that there is nothing: without an ingress, or with a bell that somebody else had before, a message comes later by
//! microseconds. So nothing here has to be in order with anything else, and what fails is done without.
//!
//! The CUDA side is `ingress.cuh`.

use super::driver::{self, Block, CUstream};
use super::gpu::{DeviceMemory, Gpu, Shared};
use super::host::HostMemory;
use super::kernel::Code;
use super::lane::{IDLE, rest};
use super::layout::{GO_ON, LANES, STOP};
use super::room::{MOST_RESIDENT, Part};
use crate::error::Result;
use crate::sync::{Mutex, lock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Kernels on the device that look for themselves: a look is a trip of about a microsecond over the bus, for a slot or two.
pub(super) const ALONE: usize = 16;
/// One for each kernel that may be on the device.
const BELLS: usize = MOST_RESIDENT;
/// It is at no work that it could not leave.
const LEAVES: Duration = Duration::from_secs(5);

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
pub(super) struct Bell {
    /// Where there are many kernels, some keep the ingress for all.
    _kept: Option<Arc<Ingress>>,
    taken: Mutex<Option<(Arc<Ingress>, usize)>>,
    /// Is there one? Cheaper to ask than to lock.
    is_taken: AtomicBool,
}

impl Bell {
    /// None yet. The kernel keeps this.
    pub fn new(kept: Option<Arc<Ingress>>) -> Self {
        Self { _kept: kept, taken: Mutex::new(None), is_taken: AtomicBool::new(false) }
    }

    /// The kernel is about to start, and listens to this; its next message will be there. The gate is held, the context is
    /// this thread's.
    pub fn take(&self, ingress: Arc<Ingress>, tail: u64) {
        let bell = lock(&ingress.run).free.pop();
        *lock(&self.taken) = bell.map(|bell| (ingress, bell));
        // Relaxed: what is rung before that is seen is rung below, or to no purpose, and without harm.
        self.is_taken.store(true, Ordering::Relaxed);
        self.ring(tail);
        self.tend();
    }

    fn taken<R>(&self, work: impl FnOnce(&Ingress, usize) -> R) -> Option<R> {
        let is_taken = self.is_taken.load(Ordering::Relaxed);
        is_taken.then(|| lock(&self.taken).as_ref().map(|(ingress, bell)| work(ingress, *bell))).flatten()
    }

    /// The kernel's next message will be there. What it is told before may reach the device behind this.
    pub fn ring(&self, tail: u64) {
        // Relaxed: a hint.
        self.taken(|ingress, bell| ingress.list()[bell].store(tail as u32, Ordering::Relaxed));
    }

    /// Looks after the ingress, if the kernel listens. The gate is held, the context is this thread's.
    pub fn tend(&self) {
        self.taken(|ingress, _| ingress.tend());
    }

    /// Where the kernel listens, on the device; 0 if it does not.
    pub fn address(&self) -> u64 {
        self.taken(|ingress, bell| ingress.bells.address + 4 * bell as u64).unwrap_or(0)
    }

    /// The kernel has left, or has not started.
    pub fn give_back(&self) {
        self.is_taken.store(false, Ordering::Relaxed);
        if let Some((ingress, bell)) = lock(&self.taken).take() {
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

/// See the module. Kernels that may have bells keep it.
pub(super) struct Ingress {
    code: Arc<Code>,
    host: HostMemory,
    bells: DeviceMemory,
    stream: Shared<CUstream>,
    part: Part,
    run: Mutex<Run>,
    /// Dropped last: the memory above goes back to it.
    gpu: Arc<Gpu>,
}

const BLOCK: Block = Block { threads: LANES, shared: 0 };

impl Ingress {
    /// One with this code. It is started when a kernel [takes a bell](Bell::take).
    pub fn new(gpu: &Arc<Gpu>, code: Arc<Code>) -> Result<Arc<Self>> {
        gpu.bind()?;
        // SAFETY: the code is loaded.
        let blocks = unsafe { driver::blocks(code.function.0, BLOCK) };
        let part = Part::of(blocks.map_err(|refusal| gpu.refused("the room for the ingress", refusal))?);
        let ingress = Arc::new(Self {
            code,
            host: gpu.host_memory(BYTES)?,
            bells: gpu.device_memory(4 * BELLS)?,
            stream: gpu.stream()?,
            part,
            run: Mutex::new(Run { is_running: false, epoch: 0, free: (0..BELLS).collect() }),
            gpu: gpu.clone(),
        });
        ingress.warm_up()?;
        Ok(ingress)
    }

    /// Runs the code for the first time, as [`Lane`](super::lane::Lane)s do.
    fn warm_up(&self) -> Result<()> {
        if self.code.is_warm.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.gpu.quietly(|| {
            self.gpu.bind()?;
            self.gpu.take_room_for(self.part);
            let begun = self.begin(&mut lock(&self.run), STOP);
            begun.map_err(|refusal| self.gpu.refused("the ingress does not start", refusal))
        })?;
        self.wait();
        self.code.is_warm.store(true, Ordering::Relaxed);
        self.gpu.loss().map_or(Ok(()), Err)
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
    fn tend(&self) {
        let mut run = lock(&self.run);
        self.note_exit(&mut run);
        // SAFETY: the stream is this one's.
        let may_start = || matches!(unsafe { driver::is_over(self.stream.0) }, Ok(true));
        if run.is_running || !may_start() || !self.gpu.finds_room_for(self.part) {
            return;
        }
        if let Err(refusal) = self.begin(&mut run, GO_ON) {
            self.gpu.refused("the ingress does not start", refusal);
        }
    }

    /// Starts it, for which there is room, with this stop word.
    fn begin(&self, run: &mut Run, stop: u32) -> Result<(), driver::Refusal> {
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
        // SAFETY: the code takes this parameter; what it points to is this one's, which waits for the kernel to leave.
        let started = unsafe { driver::launch(self.code.function.0, BLOCK, self.stream.0, &mut launch) };
        match started {
            Ok(()) => run.is_running = true,
            Err(_) => self.gpu.give_room_of(self.part),
        }
        started
    }

    fn note_exit(&self, run: &mut Run) {
        // Acquire pairs with the device's release: all that it wrote is there.
        let has_left = self.left().load(Ordering::Acquire) == run.epoch;
        if run.is_running && (has_left || self.gpu.is_lost()) {
            run.is_running = false;
            self.gpu.give_room_of(self.part);
        }
    }

    pub fn is_running(&self) -> bool {
        let mut run = lock(&self.run);
        self.note_exit(&mut run);
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

    /// Waits until it has left, which it was asked to.
    fn wait(&self) {
        let begun = Instant::now();
        while self.is_running() {
            if begun.elapsed() > LEAVES {
                self.gpu.lose("the ingress", &"it does not leave");
            }
            rest(begun);
        }
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        self.ask_to_stop();
        self.wait();
        if self.gpu.bind().is_ok() {
            // SAFETY: the last one to use it.
            unsafe {
                _ = driver::wait(self.stream.0);
                driver::destroy_stream(self.stream.0);
            }
        }
    }
}
