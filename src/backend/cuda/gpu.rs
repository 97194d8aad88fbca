//! An opened device: its context, which all runtimes of the process share, its memory, and the kernels on it.
//!
//! What may wait for kernels that never end by themselves (freeing memory, loading code) is done
//! [quietly](Gpu::quietly): all kernels leave the device first, and come back afterwards; their states and messages stay
//! where they are meanwhile.

mod memory;

pub(super) use memory::{DeviceMemory, MOST_SPARE};

use super::driver::{self, CUcontext, CUdevice, CUresult, CUstream, Refusal};
use super::host::Remains;
use super::ingress::{self, ALONE, Ingress};
use super::kernel::Code;
use super::lane::Lane;
use super::nvrtc::NoCode;
use super::room::{Part, Room, Who};
use super::watch::Watch;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, MutexGuard, back_off, lock};
use memory::{Copies, STAGING, Spare};
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, Weak};
use std::time::{Duration, Instant};

/// A handler that does not end holds up what is done quietly for so long, and then the driver decides.
const QUIET: Duration = Duration::from_millis(100);
/// Between the loss of a device and the reset of its context: whoever had looked at the loss just before makes the call by
/// then that he was about to make.
const ASIDE: Duration = Duration::from_millis(20);
/// Whoever closes a device is done with it before that.
const CLOSES: Duration = Duration::from_secs(10);
/// What takes no time by itself, and is not over by then, may be behind a kernel that stays, in one of the driver's queues,
/// which streams share.
pub(super) const WAY: Duration = Duration::from_millis(10);
/// As that, of a dispatch, which may just take long: kernels that leave beside one come back behind it.
pub(super) const WAY_OF_DISPATCH: Duration = Duration::from_secs(1);
/// How often a dispatch looks whether there is room for it.
const ROOM_STEP: Duration = Duration::from_micros(100);
/// Codes that are kept while nobody runs them.
const MOST_CODES: usize = 64;

/// A handle of the driver's. The driver's calls may come from any thread.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(pub T);
// SAFETY: the driver's handles and addresses are not bound to a thread; its calls are thread-safe.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

/// See the module.
pub(super) struct Gpu {
    pub device: CUdevice,
    context: Shared<CUcontext>,
    /// As `sm_90`.
    pub architecture: String,
    /// Set behind the reason.
    is_lost: AtomicBool,
    lost: Mutex<Option<Error>>,
    lanes: Mutex<Vec<Weak<Lane>>>,
    /// Where there have been many kernels.
    pub ingress: Mutex<Option<Arc<Ingress>>>,
    /// Held by whoever makes it.
    making: Mutex<()>,
    /// Held to start a kernel, exclusively by what is done quietly.
    pub gate: RwLock<()>,
    /// What kernels take of the device.
    room: Mutex<Room>,
    /// Dispatches of entry points that are under way.
    pub dispatches: AtomicUsize,
    codes: Mutex<Vec<(String, Arc<Code>)>>,
    spare: Mutex<Spare>,
    /// What becomes of host memory when the device is lost.
    pub remains: Arc<Remains>,
    copies: Mutex<Option<Copies>>,
    /// What a test does between loading code and looking whether somebody else has loaded the same.
    #[cfg(test)]
    pub loaded: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// … and before the device is closed.
    #[cfg(test)]
    pub going: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    pub watch: Arc<Watch>,
}

/// A device that somebody has opened.
struct Open {
    device: CUdevice,
    gpu: Weak<Gpu>,
    /// Its context has to be reset before it is of use again.
    is_lost: bool,
    remains: Arc<Remains>,
}

/// For whoever opens the same one.
static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

/// Locks what is open, when nobody is about to close this device: what is given back then waits for all kernels, also for
/// those of whoever opened it meanwhile, and keeps their calls waiting.
fn lock_closed(device: CUdevice) -> Result<MutexGuard<'static, Vec<Open>>> {
    let begun = Instant::now();
    loop {
        let open = lock(&OPEN);
        let is_closing =
            |other: &Open| other.device == device && !other.is_lost && other.gpu.strong_count() == 0;
        if !open.iter().any(is_closing) {
            return Ok(open);
        }
        drop(open);
        if begun.elapsed() >= CLOSES {
            return Err(driver::unavailable("the device is still being closed"));
        }
        back_off(begun);
    }
}

impl Gpu {
    /// Opens a device, which has so many multiprocessors as far as is known, or takes the one that is open.
    pub fn open(device: CUdevice, architecture: String, units: Option<u32>) -> Result<Arc<Self>> {
        // Dropped behind the lock, which dropping the last one takes.
        let known;
        let mut open = lock_closed(device)?;
        let entry = open.iter().find(|other| other.device == device);
        let remains = entry.filter(|entry| entry.is_lost).map(|entry| entry.remains.clone());
        known = entry.and_then(|entry| entry.gpu.upgrade());
        if let Some(gpu) = &known
            && !gpu.is_lost()
        {
            return Ok(gpu.clone());
        }
        let failed = |refusal: Refusal| {
            let again = "; it was lost before, and may be there for another process";
            let again = if remains.is_some() { again } else { "" };
            driver::unavailable(format!("the device does not open: {refusal}{again}"))
        };
        if remains.is_some() {
            // What is left of it makes no calls any more.
            std::thread::sleep(ASIDE);
            // Whether it helped is seen below.
            _ = driver::reset(device);
        }
        let watch = Watch::start()?;
        let context = driver::retain(device).map_err(failed).inspect_err(|_| watch.close())?;
        let gpu = Arc::new(Self {
            device,
            context: Shared(context),
            architecture,
            is_lost: AtomicBool::new(false),
            lost: Mutex::default(),
            lanes: Mutex::default(),
            ingress: Mutex::default(),
            making: Mutex::default(),
            gate: RwLock::new(()),
            room: Mutex::new(Room::new(units)),
            dispatches: AtomicUsize::new(0),
            codes: Mutex::default(),
            spare: Mutex::default(),
            remains: Arc::default(),
            copies: Mutex::default(),
            #[cfg(test)]
            loaded: Mutex::default(),
            #[cfg(test)]
            going: Mutex::default(),
            watch,
        });
        let usable = || if remains.is_some() { driver::try_memory() } else { Ok(()) };
        if let Err(refusal) = driver::bind(context).and_then(|()| usable()) {
            // The new one's end takes the lock.
            drop(open);
            return Err(failed(refusal));
        }
        remains.into_iter().for_each(|remains| remains.free());
        open.retain(|other| other.device != device);
        let remains = gpu.remains.clone();
        open.push(Open { device, gpu: Arc::downgrade(&gpu), is_lost: false, remains });
        drop(open);
        gpu.warm_up()?;
        Ok(gpu)
    }

    /// Copies a little and much, to no purpose but that the driver loads what it needs for that before there are kernels
    /// to wait for.
    fn warm_up(self: &Arc<Self>) -> Result<()> {
        let memory = self.device_memory(STAGING)?;
        let mut bytes = vec![0; STAGING];
        for size in [4, STAGING] {
            self.upload(&memory, 0, &bytes[..size])?;
            self.download(&memory, 0, &mut bytes[..size])?;
        }
        let little = self.device_memory(256)?;
        self.clear(&little)
    }

    /// Bytes of a device that nobody has; `None` while it is not open.
    pub fn free_memory(device: CUdevice) -> Option<u64> {
        let gpu =
            lock(&OPEN).iter().find(|open| open.device == device).and_then(|open| open.gpu.upgrade())?;
        gpu.bind().ok()?;
        driver::free_memory().ok()
    }

    /// Is it gone for good?
    pub fn is_lost(&self) -> bool {
        // Acquire pairs with the Release in `lose`: what came before the loss is seen by whoever sees that.
        self.is_lost.load(Ordering::Acquire)
    }

    /// Why it is gone.
    pub fn loss(&self) -> Option<Error> {
        if self.is_lost() { lock(&self.lost).clone() } else { None }
    }

    /// Takes note that the device is gone; everybody with kernels on it is told.
    pub fn lose(&self, doing: &str, why: &dyn std::fmt::Display) -> Error {
        let error = Error::new(ErrorKind::DeviceLost, format!("cuda: the device is lost: {doing}: {why}"));
        let mut open = lock(&OPEN);
        let error = lock(&self.lost).get_or_insert(error).clone();
        // Release pairs with the Acquire in `is_lost`.
        self.is_lost.store(true, Ordering::Release);
        let own = open.iter_mut().find(|other| std::ptr::eq(other.gpu.as_ptr(), self));
        own.into_iter().for_each(|own| own.is_lost = true);
        drop(open);
        let lanes = self.lanes();
        // On a thread that holds no port.
        self.watch.tell_all(lanes);
        error
    }

    /// What the driver's refusal means.
    pub fn refused(&self, doing: &str, refusal: Refusal) -> Error {
        if refusal.is_loss() {
            return self.lose(doing, &refusal);
        }
        driver::unavailable(format!("{doing}: {refusal}"))
    }

    /// Makes this thread one that calls the driver for this device.
    pub fn bind(&self) -> Result<()> {
        if let Some(error) = self.loss() {
            return Err(error);
        }
        driver::bind(self.context.0).map_err(|refusal| self.refused("the context", refusal))
    }

    pub fn stream(&self) -> Result<Shared<CUstream>> {
        self.bind()?;
        driver::stream().map(Shared).map_err(|refusal| self.refused("a stream", refusal))
    }

    /// Enters a kernel.
    pub fn enter(&self, lane: &Arc<Lane>) {
        let mut lanes = lock(&self.lanes);
        lanes.retain(|lane| lane.strong_count() > 0);
        lanes.push(Arc::downgrade(lane));
    }

    /// For one more kernel: if there are many, makes what they may listen to, of the code that is given, unless it is there.
    ///
    /// # Errors
    ///
    /// As [`code`](Self::code), and those of memory.
    pub fn prepare_ingress(
        self: &Arc<Self>,
        image: impl FnOnce(&str) -> std::result::Result<Vec<u8>, NoCode>,
    ) -> Result<()> {
        let count = lock(&self.lanes).iter().filter(|lane| lane.strong_count() > 0).count();
        if count < ALONE {
            return Ok(());
        }
        let _making = lock(&self.making);
        if self.ingress().is_some() {
            return Ok(());
        }
        let refused = "the CUDA compiler refused the ingress";
        let code = self.code(ingress::text(), "the ingress", c"rt_ingress", image, refused)?;
        let made = Ingress::new(self, code)?;
        *lock(&self.ingress) = Some(made);
        Ok(())
    }

    fn ingress(&self) -> Option<Arc<Ingress>> {
        lock(&self.ingress).clone()
    }

    /// What a kernel that is about to start may listen to, if many are there.
    pub fn ingress_beside_many(&self) -> Option<Arc<Ingress>> {
        if self.blocks() > ALONE { self.ingress() } else { None }
    }

    /// Takes room for one more block, if there is some. If not, the watch asks kernels to leave.
    pub fn has_room_for(&self, who: Who, part: Part) -> bool {
        let has_room = lock(&self.room).enter(who, part, Instant::now());
        if !has_room {
            self.watch.make_room(false, || self.lanes());
            // Beside a few kernels nobody needs it.
            if self.blocks() <= ALONE + 1 {
                self.dismiss_ingress();
            }
        }
        has_room
    }

    /// Takes room for one more block if nobody has to leave for it.
    pub fn finds_room_for(&self, part: Part) -> bool {
        lock(&self.room).enter_if_free(part, Instant::now())
    }

    /// Blocks of kernels that are there.
    pub fn blocks(&self) -> usize {
        lock(&self.room).blocks()
    }

    fn dismiss_ingress(&self) {
        let ingress = self.ingress().filter(|ingress| ingress.is_running(self));
        ingress.iter().for_each(|ingress| ingress.ask_to_stop());
    }

    /// Takes room for a block of a dispatch, which else would not begin while resident kernels have something to do: waits
    /// until some of these have left.
    ///
    /// # Errors
    ///
    /// `DeviceLost`, as it is when one of them hangs.
    pub fn wait_for_room(&self, part: Part) -> Result<()> {
        loop {
            let has_room = self.has_room_for(Who::Dispatch, part);
            // Behind it: kernels of a device that is lost leave their room.
            if let Some(loss) = self.loss() {
                if has_room {
                    self.give_room_of(part);
                }
                return Err(loss);
            }
            if has_room {
                return Ok(());
            }
            std::thread::sleep(ROOM_STEP);
        }
    }

    fn lanes(&self) -> Vec<Arc<Lane>> {
        lock(&self.lanes).iter().filter_map(Weak::upgrade).collect()
    }

    /// Asks kernels to leave: something waits, as it seems for one of them.
    pub fn make_way(&self) {
        self.watch.make_room(true, || self.lanes());
        self.dismiss_ingress();
    }

    /// Waits for all that was given to a stream. What is not over after this patience has kernels make way.
    ///
    /// # Safety
    ///
    /// The stream exists, unless the device is lost, and its context is this thread's.
    pub unsafe fn wait(&self, stream: CUstream, mut patience: Duration) -> Result<(), Refusal> {
        let begun = Instant::now();
        loop {
            // First: the stream of a lost device may be gone with its context.
            if self.is_lost() {
                return Err(Refusal(CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE));
            }
            // SAFETY: the caller's.
            if unsafe { driver::is_over(stream) }? {
                return Ok(());
            }
            if begun.elapsed() >= patience {
                self.make_way();
                patience *= 2;
            }
            back_off(begun);
        }
    }

    /// Takes room where there is more than enough: what is done quietly.
    pub fn take_room_for(&self, part: Part) {
        lock(&self.room).enter_anyway(part);
    }

    /// A kernel has left.
    pub fn give_room_of(&self, part: Part) {
        lock(&self.room).leave(part);
    }

    /// Does something that may wait for kernels, while there are none.
    pub fn quietly<R>(&self, work: impl FnOnce() -> R) -> R {
        self.if_quiet(|_| work())
    }

    /// As [`quietly`](Self::quietly), for work that is told whether all kernels have left.
    fn if_quiet<R>(&self, work: impl FnOnce(bool) -> R) -> R {
        // Let go of behind the gate: it may be the last of a kernel.
        let lanes: Vec<_>;
        let _gate = self.gate.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        lanes = self.lanes();
        let ingress = self.ingress();
        let begun = Instant::now();
        let mut running: Vec<_> = lanes.iter().filter(|lane| lane.is_running()).collect();
        running.iter().for_each(|lane| lane.ask_to_stop());
        let is_listening = || ingress.as_ref().is_some_and(|ingress| ingress.is_running(self));
        ingress.iter().for_each(|ingress| ingress.ask_to_stop());
        while (!running.is_empty() || is_listening()) && begun.elapsed() < QUIET && !self.is_lost() {
            std::thread::sleep(Duration::from_micros(20));
            running.retain(|lane| lane.is_running());
        }
        let is_quiet = || running.is_empty() && !is_listening() && !self.is_lost();
        let result = work(is_quiet());
        if is_quiet() {
            lock(&self.spare).shrink(MOST_SPARE);
        }
        result
    }

    /// The code of a text: what is loaded already, or else it is made into an image and loaded.
    ///
    /// # Errors
    ///
    /// `Rejected`, with `refused` and what NVRTC says; `Unavailable` if NVRTC would be needed and is not there; or what is
    /// wrong with the device.
    pub fn code(
        self: &Arc<Self>,
        text: String,
        name: &str,
        kernel: &CStr,
        image: impl FnOnce(&str) -> std::result::Result<Vec<u8>, NoCode>,
        refused: &str,
    ) -> Result<Arc<Code>> {
        // Moves it to the end: what was used last stays longest.
        let find = |codes: &mut Vec<(String, Arc<Code>)>| {
            let position = codes.iter().position(|(other, _)| *other == text)?;
            let found = codes.remove(position);
            let code = found.1.clone();
            codes.push(found);
            Some(code)
        };
        if let Some(code) = find(&mut lock(&self.codes)) {
            return Ok(code);
        }
        let code = Arc::new(Code::load(self, name, kernel, || image(&text), refused)?);
        #[cfg(test)]
        self.has_loaded();
        let mut codes = lock(&self.codes);
        if let Some(other) = find(&mut codes) {
            drop(codes);
            // Unloading may wait for kernels.
            self.quietly(|| drop(code));
            return Ok(other);
        }
        codes.push((text, code.clone()));
        if codes.len() > MOST_CODES
            && let Some(unused) = codes.iter().position(|(_, code)| Arc::strong_count(code) == 1)
        {
            let removed = codes.remove(unused);
            drop(codes);
            self.quietly(|| drop(removed));
        }
        Ok(code)
    }

    #[cfg(test)]
    fn has_loaded(&self) {
        let loaded = lock(&self.loaded).take();
        if let Some(loaded) = loaded {
            loaded();
        }
    }

    #[cfg(test)]
    fn is_going(&self) {
        let going = lock(&self.going).take();
        if let Some(going) = going {
            going();
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        #[cfg(test)]
        self.is_going();
        self.watch.close();
        lock(&self.codes).clear();
        let copies = lock(&self.copies).take();
        let mut spare = std::mem::take(&mut *lock(&self.spare));
        let stream = copies.map(|copies| {
            spare.host.push(copies.staging.into_mapped());
            copies.stream
        });
        let ingress = lock(&self.ingress).take().and_then(Arc::into_inner);
        if !self.is_lost() && driver::bind(self.context.0).is_ok() {
            if let Some((host, device)) = ingress.and_then(|ingress| ingress.into_memory(self)) {
                spare.host.push(host);
                spare.device.push((0, device));
            }
            // SAFETY: nobody copies any more; what is spare is nobody's; no kernel runs, for each keeps its device.
            unsafe {
                stream.into_iter().for_each(|stream| driver::destroy_stream(stream.0));
                spare.host.into_iter().for_each(|memory| memory.free());
                spare.device.into_iter().for_each(|(_, address)| driver::free_device(address));
            }
            driver::release(self.device);
        } else {
            spare.host.into_iter().for_each(|memory| self.remains.take(memory));
        }
        // One that was lost is remembered, for its context.
        lock(&OPEN).retain(|other| other.is_lost || !std::ptr::eq(other.gpu.as_ptr(), self));
    }
}
