//! An opened wgpu device with what every use of it needs: errors as results, and the news that it is lost.

use super::adapter::Found;
use crate::error::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// How often a wait for the device looks whether it is lost.
const LOOK: Duration = Duration::from_millis(2);

/// A device and its queue.
pub(super) struct Gpu {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub limits: wgpu::Limits,
    /// Buffers that handlers use can be mapped by the host.
    pub mapped: bool,
    /// Shared from where a round binds the buffer of states until it is submitted; alone while such a buffer is
    /// replaced: a round that ran on the old one would lose what it did to its states.
    states: RwLock<()>,
    /// Held by whoever submits or polls.
    turn: parking_lot::FairMutex<()>,
    lost: Arc<Lost>,
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
pub(super) struct Scope([wgpu::ErrorScopeGuard; 3]);

impl Scope {
    /// # Errors
    ///
    /// `Unavailable`, with what failed and the first thing that wgpu had against it.
    pub fn check(self, what: &str) -> Result<()> {
        let errors = self.0.map(|guard| pollster::block_on(guard.pop()));
        match errors.into_iter().flatten().next() {
            None => Ok(()),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(Error::new(ErrorKind::Unavailable, format!("wgpu: {what}: the device is out of memory")))
            }
            Some(error) => Err(Error::new(ErrorKind::Unavailable, format!("wgpu: {what}: {error}"))),
        }
    }
}

impl Gpu {
    /// Opens an adapter. `mapped` asks for buffers that both sides see, or forbids them; by default they are taken
    /// where the memory is one anyway.
    pub fn open(found: &Found, mapped: Option<bool>) -> Result<Self> {
        let mappable = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
        let mapped = match mapped {
            Some(asked) => asked && found.adapter.features().contains(mappable),
            None => found.is_unified(),
        };
        let limits = found.adapter.limits();
        let mut features = found.adapter.features() & wgpu::Features::PIPELINE_CACHE;
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
        Ok(Self {
            device,
            queue,
            limits,
            mapped,
            states: RwLock::default(),
            turn: parking_lot::FairMutex::new(()),
            lost,
        })
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
    pub fn scope(&self) -> Scope {
        let mut guards =
            [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation]
                .map(|filter| self.device.push_error_scope(filter));
        guards.reverse();
        Scope(guards)
    }

    /// Submits commands.
    pub fn submit(&self, commands: wgpu::CommandBuffer) -> wgpu::SubmissionIndex {
        let _turn = self.turn.lock();
        self.queue.submit([commands])
    }

    /// Looks what is over, or waits a moment for it.
    ///
    /// One at a time, and not while somebody submits: wgpu 30.0.1 panics when a wait for a submission finds that another
    /// thread has just put away what it looked at ("If the queue is empty, the current submission index …").
    pub fn poll(&self, how: wgpu::PollType) -> std::result::Result<wgpu::PollStatus, wgpu::PollError> {
        let _turn = self.turn.lock();
        self.device.poll(how)
    }

    /// A buffer; errors go to the scope around.
    pub fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
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
        let scope = self.scope();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let copy = self.buffer("ringwork read-back", size, usage);
        encoder.copy_buffer_to_buffer(buffer, offset, &copy, 0, size);
        let submission = self.submit(encoder.finish());
        let mapped = Arc::new(AtomicU32::new(PENDING));
        let told = mapped.clone();
        copy.map_async(wgpu::MapMode::Read, .., move |result| {
            // Release pairs with the Acquire in `Download::finish`.
            told.store(if result.is_ok() { MAPPED } else { REFUSED }, Ordering::Release);
        });
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
        self.gpu.wait(&self.submission, deadline)?;
        let failed = |what: &str| {
            if self.gpu.is_lost() {
                return self.gpu.lost_error();
            }
            Error::new(ErrorKind::Unavailable, format!("wgpu: a copy from the device: {what}"))
        };
        // The callback comes from whichever thread's poll saw the end of the submission, perhaps after this one's.
        // Acquire pairs with the Release in it.
        while self.mapped.load(Ordering::Acquire) == PENDING {
            if self.gpu.is_lost() {
                return Err(self.gpu.lost_error());
            }
            // What matters is what the callback says.
            let _ = self.gpu.poll(wgpu::PollType::Poll);
            std::thread::yield_now();
        }
        if self.mapped.load(Ordering::Acquire) != MAPPED {
            return Err(failed("it could not be mapped"));
        }
        let view = self.copy.get_mapped_range(..).map_err(|error| failed(&error.to_string()))?;
        Ok(view.to_vec())
    }
}
