//! An opened wgpu device with what every use of it needs: errors as results, and the news that it is lost.

use super::adapter::Found;
use crate::error::{Error, ErrorKind, Result, panic_text};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// How often a wait for the device looks whether it is lost.
const LOOK: Duration = Duration::from_millis(2);
/// Bytes of a write that wgpu is left to stage.
const SMALL_WRITE: usize = 64 << 10;
/// Bytes that are staged at once.
const LARGEST_STAGE: usize = 16 << 20;
/// Bytes of a write that no round finds a part of; there is as much memory to stage them.
const LARGEST_WRITE: usize = 256 << 20;

/// A device and its queue.
pub(super) struct Gpu {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub limits: wgpu::Limits,
    /// Buffers that handlers use can be mapped by the host.
    pub mapped: bool,
    /// What pipeline caches are good for: the adapter and its driver. `None` where there are none.
    pub pipeline_caches: Option<String>,
    /// Shared from where a round binds the buffer of states until it is submitted; alone while such a buffer is
    /// replaced: a round that ran on the old one would lose what it did to its states.
    states: RwLock<()>,
    /// Held by whoever submits or polls.
    turn: parking_lot::FairMutex<()>,
    lost: Arc<Lost>,
    /// Submissions there have been.
    #[cfg(test)]
    pub submissions: AtomicU32,
    /// Buffers with this in their name find no memory: Mesa's software driver never says so by itself.
    #[cfg(test)]
    refused: Mutex<Option<&'static str>>,
    /// Waits panic, as wgpu has them do when the driver says that the device is lost.
    #[cfg(test)]
    breaks: AtomicBool,
}

/// What the driver says when the device is gone.
#[derive(Default)]
struct Lost {
    is_lost: AtomicBool,
    cause: Mutex<Option<String>>,
}

impl Lost {
    fn set(&self, cause: String) {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
        // Release pairs with the Acquire in `Gpu::is_lost`: whoever sees it finds the cause.
        self.is_lost.store(true, Ordering::Release);
    }
}

/// Catches the errors of the calls made while it lives, on this thread. The guard made last comes first: they have to
/// go in that order, also when this is dropped.
pub(super) struct Scope<'a> {
    gpu: &'a Gpu,
    guards: [wgpu::ErrorScopeGuard; 3],
}

impl Scope<'_> {
    /// # Errors
    ///
    /// `Unavailable`, with what failed and the first thing that wgpu had against it; `DeviceLost`, if that is why.
    pub fn check(self, what: &str) -> Result<()> {
        let gpu = self.gpu;
        match self.first() {
            None => Ok(()),
            Some(error) if gpu.is_gone() => Err(gpu.lose(what, &error)),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(Error::new(ErrorKind::Unavailable, format!("wgpu: {what}: the device is out of memory")))
            }
            Some(error) => Err(Error::new(ErrorKind::Unavailable, format!("wgpu: {what}: {error}"))),
        }
    }

    fn first(self) -> Option<wgpu::Error> {
        self.guards.map(|guard| pollster::block_on(guard.pop())).into_iter().flatten().next()
    }
}

impl Gpu {
    /// Opens an adapter. `mapped` asks for buffers that both sides see, or forbids them; by default they are taken
    /// where the memory is one anyway. `limits` are the adapter's, or lower ones.
    pub fn open(found: &Found, mapped: Option<bool>, limits: wgpu::Limits) -> Result<Self> {
        let mappable = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
        let mapped = match mapped {
            Some(asked) => asked && found.adapter.features().contains(mappable),
            None => found.is_unified(),
        };
        let useful = wgpu::Features::PIPELINE_CACHE | wgpu::Features::TIMESTAMP_QUERY;
        let mut features = found.adapter.features() & useful;
        features.set(mappable, mapped);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("ringwork"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: wgpu::ExperimentalFeatures::disabled(),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        };
        let (device, queue) =
            pollster::block_on(found.adapter.request_device(&descriptor)).map_err(|error| {
                Error::new(
                    ErrorKind::Unavailable,
                    format!("wgpu: {} does not open: {error}", found.accelerator()),
                )
            })?;
        let lost = Arc::new(Lost::default());
        let told = lost.clone();
        device.set_device_lost_callback(move |reason, text| {
            told.set(format!("{reason:?}: {text}"));
        });
        // Without a handler of ours an error that no scope caught would panic. One that comes this way was foreseen by
        // nobody: the device is not to be trusted any more.
        let told = lost.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            told.set(format!("an error that nobody expected: {error}"));
        }));
        let pipeline_caches = features.contains(wgpu::Features::PIPELINE_CACHE);
        let pipeline_caches = pipeline_caches.then(|| wgpu::util::pipeline_cache_key(&found.info)).flatten();
        let wgpu::AdapterInfo { name, driver, driver_info, .. } = &found.info;
        Ok(Self {
            device,
            queue,
            limits,
            mapped,
            pipeline_caches: pipeline_caches.map(|key| format!("{key}/{name}/{driver}/{driver_info}")),
            states: RwLock::default(),
            turn: parking_lot::FairMutex::new(()),
            lost,
            #[cfg(test)]
            submissions: AtomicU32::new(0),
            #[cfg(test)]
            refused: Mutex::default(),
            #[cfg(test)]
            breaks: AtomicBool::new(false),
        })
    }

    /// Can passes be timed by the device itself?
    pub fn has_timestamps(&self) -> bool {
        self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
    }

    /// No buffer of states is replaced while this lives. Taken before a group's lock, as is the next.
    pub fn keep_states(&self) -> RwLockReadGuard<'_, ()> {
        self.states.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// No round is between its binding and its submission while this lives.
    pub fn replace_states(&self) -> RwLockWriteGuard<'_, ()> {
        self.states.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the device up, which did something that nothing but its loss explains; what to say of it.
    pub fn lose(&self, what: &str, error: &dyn std::fmt::Display) -> Error {
        self.lost.set(format!("{what}: {error}"));
        self.lost_error()
    }

    /// Is the device gone?
    pub fn is_lost(&self) -> bool {
        // Acquire pairs with the Release in `Lost::set`.
        self.lost.is_lost.load(Ordering::Acquire)
    }

    /// What is said of a lost device.
    pub fn lost_error(&self) -> Error {
        let cause = self.lost.cause.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = cause.as_deref().unwrap_or("no reason was given");
        Error::new(ErrorKind::DeviceLost, format!("wgpu: the device is lost ({cause})"))
    }

    /// Catches errors from here on, on this thread.
    pub fn scope(&self) -> Scope<'_> {
        let mut guards =
            [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation]
                .map(|filter| self.device.push_error_scope(filter));
        guards.reverse();
        Scope { gpu: self, guards }
    }

    /// Is the device lost, whether anybody was told or not? wgpu tells by its callback alone, at some later poll; until
    /// then what is made on the device is invalid without a word, and whatever uses it is refused as if it were wrong.
    fn is_gone(&self) -> bool {
        if self.is_lost() {
            return true;
        }
        // Only a device that is there minds a buffer that is good for nothing.
        let scope = self.scope();
        let usage = wgpu::BufferUsages::empty();
        let descriptor =
            wgpu::BufferDescriptor { label: Some("no buffer"), size: 4, usage, mapped_at_creation: false };
        drop(self.device.create_buffer(&descriptor));
        scope.first().is_none()
    }

    /// A cache for the driver's code of pipelines: an empty one, or with what [`wgpu::PipelineCache::get_data`] gave.
    /// `None` if there are no such caches, or the data are another driver's.
    ///
    /// # Safety
    ///
    /// The data are what `get_data` gave, to the last bit: wgpu looks at their head, and many a driver at nothing.
    pub unsafe fn pipeline_cache(&self, data: Option<&[u8]>) -> Option<wgpu::PipelineCache> {
        self.pipeline_caches.as_ref()?;
        let scope = self.scope();
        let descriptor = wgpu::PipelineCacheDescriptor { label: Some("ringwork"), data, fallback: false };
        // SAFETY: the caller's.
        let cache = unsafe { self.device.create_pipeline_cache(&descriptor) };
        scope.check("a cache for pipelines").is_ok().then_some(cache)
    }

    /// Submits commands.
    pub fn submit(&self, commands: wgpu::CommandBuffer) -> wgpu::SubmissionIndex {
        let _turn = self.turn.lock();
        #[cfg(test)]
        self.submissions.fetch_add(1, Ordering::Relaxed);
        self.queue.submit([commands])
    }

    /// Looks what is over, or waits a moment for it.
    ///
    /// One at a time, and not while somebody submits: wgpu 30.0.1 panics when a wait for a submission finds that another
    /// thread has just put away what it looked at ("If the queue is empty, the current submission index …"). It panics,
    /// too, when the driver answers a wait with the loss of the device: then the device is lost, and nothing else.
    pub fn poll(&self, how: wgpu::PollType) -> std::result::Result<wgpu::PollStatus, wgpu::PollError> {
        let _turn = self.turn.lock();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(test)]
            if self.breaks.load(Ordering::Relaxed) {
                panic!("the driver says that the device is lost");
            }
            self.device.poll(how)
        }));
        polled.unwrap_or_else(|panic| {
            self.lose("the wait for the device", &panic_text(&*panic));
            // Callers look for the loss before they wait on.
            Err(wgpu::PollError::Timeout)
        })
    }

    /// Bytes that one buffer for handlers may have.
    pub fn largest_storage(&self) -> u64 {
        self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size)
    }

    /// A buffer; mapped already where the host is to write it first.
    ///
    /// # Errors
    ///
    /// `Unavailable`, with what it is for and how large it would be: it is larger than the device allows, or there is
    /// no memory for it. `DeviceLost`.
    pub fn buffer(
        &self,
        what: &str,
        size: u64,
        usage: wgpu::BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<wgpu::Buffer> {
        if self.is_lost() {
            return Err(self.lost_error());
        }
        let unavailable = |text: String| Error::new(ErrorKind::Unavailable, format!("wgpu: {text}"));
        let is_storage = usage.contains(wgpu::BufferUsages::STORAGE);
        let most = if is_storage { self.largest_storage() } else { self.limits.max_buffer_size };
        if size > most {
            return Err(unavailable(format!("{what}: {size} bytes; the device allows {most} in a buffer")));
        }
        let no_memory = || unavailable(format!("{what}: the device has no memory for {size} bytes"));
        #[cfg(test)]
        if self.refused.lock().is_ok_and(|refused| refused.is_some_and(|part| what.contains(part))) {
            return Err(no_memory());
        }
        let scope = self.scope();
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size,
            usage,
            mapped_at_creation,
        });
        match scope.first() {
            None => Ok(buffer),
            Some(error) if self.is_gone() => Err(self.lose(what, &error)),
            Some(wgpu::Error::OutOfMemory { .. }) => Err(no_memory()),
            Some(error) => Err(unavailable(format!("{what}: {size} bytes: {error}"))),
        }
    }

    /// Writes to a buffer, behind what has been submitted and before what is submitted later.
    ///
    /// # Errors
    ///
    /// `Unavailable` without memory to stage a large write. wgpu stages small ones itself, and gives the device up where
    /// there is no memory even for that.
    pub fn write(&self, what: &str, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        use wgpu::BufferUsages as Usage;
        if bytes.len() <= SMALL_WRITE {
            let scope = self.scope();
            self.queue.write_buffer(buffer, offset, bytes);
            return scope.check(what);
        }
        let mut at = offset;
        for whole in bytes.chunks(LARGEST_WRITE) {
            let mut stages = Vec::new();
            for part in whole.chunks(LARGEST_STAGE) {
                let size = part.len() as u64;
                let stage = self.buffer(what, size, Usage::MAP_WRITE | Usage::COPY_SRC, true)?;
                let mut view = stage.get_mapped_range_mut(..).map_err(|error| self.lose(what, &error))?;
                view.copy_from_slice(part);
                drop(view);
                stage.unmap();
                stages.push((stage, size));
            }
            // In one submission: no round may find a part of it.
            let scope = self.scope();
            let mut encoder = self.device.create_command_encoder(&Default::default());
            for (stage, size) in &stages {
                encoder.copy_buffer_to_buffer(stage, 0, buffer, at, *size);
                at += size;
            }
            self.submit(encoder.finish());
            scope.check(what)?;
        }
        Ok(())
    }

    /// From now on the driver answers waits as it does when the device is lost.
    #[cfg(test)]
    pub fn break_waits(&self) {
        self.breaks.store(true, Ordering::Relaxed);
    }

    /// From now on there is no memory for buffers with this in their name.
    #[cfg(test)]
    pub fn refuse(&self, part: Option<&'static str>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = part;
    }

    /// What the driver holds for this device: buffers and so on, by what they are and how many.
    #[cfg(test)]
    pub fn holdings(&self) -> Vec<(&'static str, isize)> {
        // What was written to buffers that nobody has any more is kept, with them, for the next submission.
        self.queue.submit(None);
        // They go when the device is looked after.
        for _ in 0..2 {
            let _ = self.poll(wgpu::PollType::wait_indefinitely());
        }
        let counters = self.device.get_internal_counters().hal;
        vec![
            ("buffers", counters.buffers.read()),
            ("bytes in buffers", counters.buffer_memory.read()),
            ("bind groups", counters.bind_groups.read()),
            ("bind group layouts", counters.bind_group_layouts.read()),
            ("pipelines", counters.compute_pipelines.read()),
            ("pipeline layouts", counters.pipeline_layouts.read()),
            ("shader modules", counters.shader_modules.read()),
        ]
    }

    /// Waits until a submission is done.
    ///
    /// # Errors
    ///
    /// `DeviceLost`; `TimedOut` at the deadline.
    pub fn wait(&self, submission: &wgpu::SubmissionIndex, deadline: Option<Instant>) -> Result<()> {
        let begun = Instant::now();
        loop {
            if self.is_lost() {
                return Err(self.lost_error());
            }
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let polled = self.poll(wgpu::PollType::Wait {
                submission_index: Some(submission.clone()),
                timeout: Some(left.map_or(LOOK, |left| left.min(LOOK))),
            });
            match polled {
                Ok(_) => return Ok(()),
                Err(wgpu::PollError::Timeout) if left.is_some_and(|left| left.is_zero()) => {
                    return Err(Error::timed_out("wgpu: the wait for the device", begun.elapsed()));
                }
                Err(wgpu::PollError::Timeout) => {}
                Err(error) => drop(self.lose("a submission was not accepted", &error)),
            }
        }
    }

    /// Submits the encoder's work and a copy of `size` bytes of a buffer to the host.
    ///
    /// # Errors
    ///
    /// `Unavailable` without memory for the copy.
    pub fn start_download(
        self: &Arc<Self>,
        mut encoder: wgpu::CommandEncoder,
        buffer: &wgpu::Buffer,
        offset: u64,
        size: u64,
    ) -> Result<Download> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let copy = self.buffer("a copy from the device", size, usage, false)?;
        let scope = self.scope();
        encoder.copy_buffer_to_buffer(buffer, offset, &copy, 0, size);
        let submission = self.submit(encoder.finish());
        let mapped = start_mapping(&copy);
        scope.check("a copy from the device")?;
        Ok(Download { gpu: self.clone(), copy, submission, mapped })
    }
}

/// A copy from the device that is under way.
pub(super) struct Download {
    gpu: Arc<Gpu>,
    copy: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    mapped: Arc<AtomicU32>,
}

/// What became of a copy's mapping.
const PENDING: u32 = 0;
const MAPPED: u32 = 1;
const REFUSED: u32 = 2;

impl Download {
    /// Waits for it.
    ///
    /// # Errors
    ///
    /// `DeviceLost`; `TimedOut` at the deadline.
    pub fn finish(self, deadline: Option<Instant>) -> Result<Vec<u8>> {
        let Self { gpu, copy, submission, mapped } = &self;
        gpu.wait(submission, deadline)?;
        gpu.take_mapped(copy, mapped)
    }
}

/// Has a buffer be mapped; what became of that.
fn start_mapping(buffer: &wgpu::Buffer) -> Arc<AtomicU32> {
    let mapped = Arc::new(AtomicU32::new(PENDING));
    let told = mapped.clone();
    buffer.map_async(wgpu::MapMode::Read, .., move |result| {
        // Release pairs with the Acquire in `Gpu::take_mapped`.
        told.store(if result.is_ok() { MAPPED } else { REFUSED }, Ordering::Release);
    });
    mapped
}

impl Gpu {
    /// Maps a buffer that can be read from the host, waits for the submission that wrote it, and gives what is in it.
    ///
    /// # Errors
    ///
    /// `DeviceLost`; `Unavailable` if it cannot be mapped.
    pub fn read(&self, buffer: &wgpu::Buffer, submission: &wgpu::SubmissionIndex) -> Result<Vec<u8>> {
        let scope = self.scope();
        let mapped = start_mapping(buffer);
        scope.check("a report from the device")?;
        self.wait(submission, None)?;
        let bytes = self.take_mapped(buffer, &mapped);
        buffer.unmap();
        bytes
    }

    /// What is in a buffer whose mapping was begun before a submission that is over.
    fn take_mapped(&self, buffer: &wgpu::Buffer, mapped: &AtomicU32) -> Result<Vec<u8>> {
        let failed = |what: &str| {
            if self.is_lost() {
                return self.lost_error();
            }
            Error::new(ErrorKind::Unavailable, format!("wgpu: a copy from the device: {what}"))
        };
        // The callback comes from whichever thread's poll saw the end of the submission, perhaps after this one's.
        // Acquire pairs with the Release in it.
        while mapped.load(Ordering::Acquire) == PENDING {
            if self.is_lost() {
                return Err(self.lost_error());
            }
            // What matters is what the callback says.
            let _ = self.poll(wgpu::PollType::Poll);
            std::thread::yield_now();
        }
        if mapped.load(Ordering::Acquire) != MAPPED {
            return Err(failed("it could not be mapped"));
        }
        let view = buffer.get_mapped_range(..).map_err(|error| failed(&error.to_string()))?;
        Ok(view.to_vec())
    }
}
