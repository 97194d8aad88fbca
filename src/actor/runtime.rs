//! The runtime: opens devices, launches kernels, links them, shuts them down.

use super::admin::PATIENCE;
use super::builder::RuntimeBuilder;
use super::core::{Core, inside};
use super::dead_letters::{DeadLetter, DeadLetterLog};
use super::devices::Devices;
use super::handle::Handle;
use super::launch::{self, Launched};
use super::lifecycle::KernelState;
use super::links::{cycles, enter_cycle};
use super::pool::Pool;
use super::receive::Output;
use super::services::Services;
use super::telemetry::Telemetry;
use crate::backend::{Accelerator, BackendKind, Capabilities, DeviceOptions};
use crate::compile::{Cache, CacheStatistics};
use crate::compute::{ComputeHost, ComputeOrchestrator, MemoryPool, PoolSettings, UnifiedBuffer};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{Inlet, RingKernel};
use crate::message::{Message, TokenPrefix};
use crate::sync::{Mutex, deadline_in, lock};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Launches kernels and keeps what they share.
///
/// Cheap to clone, usable from any thread. When the last clone is dropped, all kernels are terminated as by
/// [`shutdown`](Self::shutdown) with five seconds; handles do not keep it alive.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

/// Ids are the process's, not the runtime's: threads remember them.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

struct Inner {
    services: Arc<Services>,
    devices: Arc<Devices>,
    /// One change of links at a time.
    linking: Mutex<()>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("kernels", &self.kernels()).finish_non_exhaustive()
    }
}

impl Runtime {
    /// What a builder builds.
    pub(super) fn assemble(
        wanted: BackendKind,
        options: DeviceOptions,
        cache: Cache,
        dead_letters: DeadLetterLog,
    ) -> Self {
        Self(Arc::new(Inner {
            services: Arc::new(Services {
                pool: Pool::new(),
                prefix: TokenPrefix::random(),
                dead_letters,
                registry: Default::default(),
            }),
            devices: Arc::new(Devices::new(wanted, options, cache)),
            linking: Mutex::new(()),
        }))
    }

    /// A runtime on the best backend that this build has and this machine can run.
    ///
    /// # Errors
    ///
    /// As [`RuntimeBuilder::build`].
    pub fn new() -> Result<Self> {
        Self::builder().build()
    }

    /// Configures a runtime.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{BackendKind, Runtime};
    ///
    /// let runtime = Runtime::builder().backend(BackendKind::Cpu).build()?;
    /// assert!(runtime.capabilities()?.parallelism >= 1);
    /// assert!(runtime.why().starts_with("cpu: asked for (")); // and the engine: `jit`, if the build has it
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Makes a kernel ready: checks its settings, compiles its handler, makes its queues. It takes messages once
    /// it is [activated](Handle::activate).
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) for a setting (the error names it, its value and its bound), a name that is empty or
    /// taken, or a buffer of another device or without values; [rejected](Error::is_rejected) for a handler;
    /// [conflict](Error::is_conflict) if a buffer is in use in a way that
    /// [does not go](UnifiedBuffer#kernels-that-share-a-buffer) with this kernel's, or if this thread has a view of it;
    /// [timed out](Error::is_timed_out) if another thread has one for five seconds;
    /// [unavailable](Error::is_unavailable) if the backend is not; [device lost](Error::is_device_lost);
    /// [terminated](Error::is_terminated) after [`shutdown`](Self::shutdown).
    pub fn launch<In: Message, Out: Message>(&self, kernel: RingKernel<In, Out>) -> Result<Handle<In, Out>> {
        let inner = &*self.0;
        let name = kernel.name.clone();
        let _reserved = inner.services.reserve(&name)?;
        // Compiled outside of the lock: other launches go on meanwhile.
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let Launched { core, host } = launch::launch(kernel, id, inner.services.clone(), &inner.devices)?;
        let mut registry = inner.services.registry();
        registry.check_open()?;
        if let Some(function) = host {
            core.start_host(function)?;
        }
        let before = registry.kernels.insert(name.clone(), core.clone());
        drop(registry);
        // Outside of the lock, as in `unregister`.
        drop(before);
        Ok(Handle::new(core))
    }

    /// The handle of a running kernel.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if there is none of this name, or it takes or replies other types.
    pub fn handle<In: Message, Out: Message>(&self, name: &str) -> Result<Handle<In, Out>> {
        let kernel = self.0.services.registry().kernels.get(name).cloned();
        let Some(kernel) = kernel else {
            return Err(Error::new(ErrorKind::Invalid, format!("no kernel named `{name}` is running")));
        };
        match kernel.as_any().downcast::<Core<In, Out>>() {
            Ok(core) => Ok(Handle::new(core)),
            Err(_) => Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "kernel `{name}` does not take `{}` and reply `{}`",
                    std::any::type_name::<In>(),
                    std::any::type_name::<Out>()
                ),
            )),
        }
    }

    /// The running kernels' names and states, sorted by name.
    pub fn kernels(&self) -> Vec<(String, KernelState)> {
        let kernels: Vec<_> = self.0.services.registry().kernels.values().cloned().collect();
        kernels.into_iter().map(|kernel| (kernel.name().to_owned(), kernel.state())).collect()
    }

    /// All running kernels' telemetry, sorted by name.
    pub fn telemetry(&self) -> Vec<(String, Telemetry)> {
        let kernels: Vec<_> = self.0.services.registry().kernels.values().cloned().collect();
        kernels.into_iter().map(|kernel| (kernel.name().to_owned(), kernel.telemetry())).collect()
    }

    /// A buffer on the runtime's device with these values, to be bound to handlers.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) for no elements, for more than the device allows in a buffer, or if an element's size is
    /// not a multiple of four bytes or its alignment is more than 64; [unavailable](Error::is_unavailable) if the device has
    /// not so much memory; and as [`capabilities`](Self::capabilities).
    pub fn buffer<T: bytemuck::Pod>(&self, values: &[T]) -> Result<UnifiedBuffer<T>> {
        UnifiedBuffer::new(&*self.0.devices.device()?, values)
    }

    /// A buffer of so many elements on the runtime's device, without values: to be written first. The host writes all of
    /// them at once, with [`fill`](UnifiedBuffer::fill) or [`copy_from`](UnifiedBuffer::copy_from); a kernel that may write
    /// finds zeros.
    ///
    /// # Errors
    ///
    /// As [`buffer`](Self::buffer).
    ///
    /// # Example
    ///
    /// ```
    /// let runtime = ringwork::Runtime::new()?;
    /// let buffer = runtime.buffer_uninitialized::<f32>(1_000)?;
    /// assert!(buffer.to_vec().is_err_and(|error| error.is_invalid()));
    /// buffer.fill(0.5)?;
    /// assert_eq!(buffer.iter()?.sum::<f32>(), 500.0);
    /// assert_eq!(buffer.transfers().to_device, 0); // until a kernel needs it
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn buffer_uninitialized<T: bytemuck::Pod>(&self, len: usize) -> Result<UnifiedBuffer<T>> {
        UnifiedBuffer::uninitialized(&*self.0.devices.device()?, len)
    }

    /// A buffer on this accelerator with these values, for kernels that are [pinned](RingKernel::on) to it.
    ///
    /// # Errors
    ///
    /// As [`buffer`](Self::buffer).
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Accelerator, RingKernel, Runtime};
    /// use std::time::Duration;
    ///
    /// let runtime = Runtime::new()?;
    /// for accelerator in Accelerator::all() {
    ///     let cells = runtime.buffer_on(&accelerator, &[1u32, 2, 3])?;
    ///     let double = RingKernel::<(), ()>::wgsl(
    ///         format!("double on {accelerator}"),
    ///         "@group(1) @binding(0) var<storage, read_write> cells: array<u32>;
    ///          fn on_message() { for (var i = 0u; i < 3u; i++) { cells[i] *= 2u; } }",
    ///     );
    ///     let double = runtime.launch(double.bind("cells", &cells).on(&accelerator))?;
    ///     double.activate()?;
    ///     double.ask((), Duration::from_secs(10))?;
    ///     assert_eq!(cells.to_vec()?, [2, 4, 6]);
    /// }
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn buffer_on<T: bytemuck::Pod>(
        &self,
        accelerator: &Accelerator,
        values: &[T],
    ) -> Result<UnifiedBuffer<T>> {
        UnifiedBuffer::new(&*self.0.devices.on(accelerator)?, values)
    }

    /// A pool of memory on the runtime's device.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) for a limit below 256 bytes, or if more than the limit is to be reserved;
    /// [unavailable](Error::is_unavailable) if the device has not so much memory; and as
    /// [`capabilities`](Self::capabilities).
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{PoolSettings, Runtime};
    ///
    /// let runtime = Runtime::new()?;
    /// let pool = runtime.memory_pool(PoolSettings::new(1 << 20))?;
    /// let first = pool.buffer(&[1.0f32; 1_000])?;
    /// assert_eq!(pool.statistics().asked, 4_000);
    /// drop(first);
    /// assert_eq!(pool.trim(), 4_096);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn memory_pool(&self, settings: PoolSettings) -> Result<MemoryPool> {
        MemoryPool::new(self.0.devices.device()?, &settings)
    }

    /// A pool of memory on this accelerator.
    ///
    /// # Errors
    ///
    /// As [`memory_pool`](Self::memory_pool).
    pub fn memory_pool_on(&self, accelerator: &Accelerator, settings: PoolSettings) -> Result<MemoryPool> {
        MemoryPool::new(self.0.devices.on(accelerator)?, &settings)
    }

    /// Runs compute entry points over buffers of this runtime; each call makes one with a history of its own. It does not
    /// keep the runtime alive, and takes no work after the runtime's [`shutdown`](Self::shutdown). It always runs on the
    /// runtime's own device; to compute on a certain GPU, build a runtime for it, with
    /// [`backend`](RuntimeBuilder::backend) and [`adapter`](RuntimeBuilder::adapter), or [`on`](RuntimeBuilder::on).
    pub fn orchestrator(&self) -> ComputeOrchestrator {
        let (services, devices) = (self.0.services.clone(), self.0.devices.clone());
        ComputeOrchestrator::new(Arc::new(Submissions { services, devices }))
    }

    /// What the runtime's device is and can do; opens it if it is not open yet.
    ///
    /// # Errors
    ///
    /// [unavailable](Error::is_unavailable) if the backend is not; [invalid](Error::is_invalid) for an
    /// [adapter](RuntimeBuilder::adapter) that means several, or a variable `RINGWORK_WGPU_TRANSFER` that says neither of
    /// what it may; [device lost](Error::is_device_lost) if it is gone while it is opened.
    pub fn capabilities(&self) -> Result<Capabilities> {
        Ok(self.0.devices.device()?.capabilities().clone())
    }

    /// The device, to do things to it that nobody else may.
    #[cfg(all(test, any(feature = "cuda", feature = "wgpu"), not(loom)))]
    pub(super) fn device(&self) -> Arc<dyn crate::backend::Device> {
        self.0.devices.device().expect("a device opens")
    }

    /// Takes this device.
    #[cfg(all(test, feature = "wgpu", not(loom)))]
    pub(super) fn put_device(&self, device: Arc<dyn crate::backend::Device>) {
        self.0.devices.put(device);
    }

    /// Why device kernels run where they run; on the CPU, also by which engine. Where
    /// [`Auto`](BackendKind::Auto) took the CPU, it says what it found instead of a GPU, or how to get one.
    ///
    /// [`RuntimeBuilder::choice`] tells the same without a device; this, only once it is open.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{BackendKind, Runtime};
    ///
    /// let runtime = Runtime::builder().backend(BackendKind::Cpu).build()?;
    /// assert_eq!(runtime.why(), "no device has been opened yet");
    /// runtime.capabilities()?;
    /// assert!(runtime.why().starts_with("cpu: asked for ("));
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn why(&self) -> String {
        self.0.devices.why()
    }

    /// What the cache of compiled handlers holds and what happened in it.
    ///
    /// # Example
    ///
    /// ```
    /// let runtime = ringwork::Runtime::new()?;
    /// assert_eq!(runtime.cache_statistics().entries, 0);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn cache_statistics(&self) -> CacheStatistics {
        self.0.devices.cache().statistics()
    }

    /// Forgets all compiled handlers, in memory and on disk, where the folder may be shared with other processes.
    /// Running kernels keep theirs; the statistics go on counting.
    ///
    /// # Errors
    ///
    /// [unavailable](Error::is_unavailable) if files could not be removed; it names one.
    pub fn clear_cache(&self) -> Result<()> {
        self.0.devices.cache().clear()
    }

    /// Takes the last dead letters of all kernels, oldest first: 256 at most, unless
    /// [the builder](RuntimeBuilder::dead_letter_capacity) was told another number. If more came since they were taken, the
    /// oldest are gone; [`Telemetry::dead_letters`] still counts them.
    pub fn take_dead_letters(&self) -> Vec<DeadLetter> {
        self.0.services.dead_letters.take()
    }

    /// Sends every further value of an output to a kernel: at the latest those of messages that begin when this has
    /// returned. An output may have several links (each gets every value), and a kernel may be the end of several.
    ///
    /// A kernel begins a message only when there is room for what it may send: a full destination slows its
    /// sources, nothing is lost, and no cycle of links can lock itself up. Values that wait in the output's own
    /// queue stay there.
    ///
    /// A value arrives with the [normal priority](crate::Priority::NORMAL) and without a correlation id, whatever the message
    /// had that it came from; its id is that message's.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if the link is there already, a kernel has ended, or they are in different
    /// runtimes; [timed out](Error::is_timed_out) if a handler holds one of the kernels for five seconds.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Context, RingKernel, Runtime, message};
    /// use std::time::Duration;
    ///
    /// message! { pub struct Reading { pub value: f32 } }
    /// message! { pub struct Alert { pub value: f32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let watch = runtime.launch(
    ///     RingKernel::<Reading, ()>::wgsl(
    ///         "watch",
    ///         "fn on_message(m: Reading) { if m.value > 10.0 { emit_alerts(Alert(m.value)); } }",
    ///     )
    ///     .output::<Alert>("alerts"),
    /// )?;
    /// let echo = runtime.launch(RingKernel::<Alert, Alert>::native("echo", |alert: Alert, _: &mut ()| alert))?;
    /// runtime.link(&watch.output::<Alert>("alerts")?, &echo)?;
    /// watch.activate()?;
    /// echo.activate()?;
    /// for value in [1.0, 11.0, 2.0] {
    ///     watch.send(Reading { value })?;
    /// }
    /// assert_eq!(echo.recv_timeout(Duration::from_secs(1))?.value, 11.0);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn link<T: Message + Clone, Out: Message>(
        &self,
        output: &Output<T>,
        target: &Handle<T, Out>,
    ) -> Result<()> {
        let services = &self.0.services;
        let (source, target) = (output.kernel(), target.core());
        let refuse = |text: String| Err(Error::new(ErrorKind::Invalid, text));
        let what =
            format!("link from output `{}` of `{}` to `{}`", output.name(), source.name(), target.name());
        let _one_at_a_time = lock(&self.0.linking);
        let (mut edges, members) = {
            let registry = services.registry();
            let runs = |name: &str, id| registry.kernels.get(name).is_some_and(|kernel| kernel.id() == id);
            if !runs(source.name(), source.id()) || !runs(target.name(), target.facts.id) {
                return refuse(format!("{what}: both kernels must be running in this runtime"));
            }
            let mut edges = registry.edges.clone();
            edges.push((source.id(), target.facts.id));
            let group = cycles(&edges).into_iter().find(|group| group.contains(&source.id()));
            let group = group.filter(|group| group.contains(&target.facts.id)).unwrap_or_default();
            let members: Vec<_> =
                registry.kernels.values().filter(|kernel| group.contains(&kernel.id())).cloned().collect();
            (edges, members)
        };
        let edge = edges.pop();
        let mut to_hold = members.clone();
        if !to_hold.iter().any(|kernel| kernel.id() == source.id()) {
            to_hold.push(source.clone());
        }
        let deadline = deadline_in(PATIENCE);
        for (index, kernel) in to_hold.iter().enumerate() {
            if !kernel.clone().hold(deadline) {
                to_hold[..index].iter().for_each(|held| held.clone().let_go());
                return Err(Error::timed_out(
                    format!("{what}: the handler of `{}` runs, and it", kernel.name()),
                    PATIENCE,
                ));
            }
        }
        let inlet: Weak<dyn Inlet<T>> = Arc::downgrade(&(target.clone() as Arc<dyn Inlet<T>>));
        // Before there is a link: a host kernel's thread may send over it at once, and wait to be told of room.
        let mut upstream = lock(&target.upstream);
        upstream.retain(|source| source.strong_count() > 0);
        upstream.push(output.source());
        drop(upstream);
        target.has_upstream.store(true, Ordering::Release);
        let made = output.outlet().link(inlet, target.facts.id);
        if made {
            services.registry().edges.extend(edge);
            enter_cycle(&members);
        } else {
            lock(&target.upstream).pop();
        }
        to_hold.iter().for_each(|kernel| kernel.clone().let_go());
        if made { Ok(()) } else { refuse(format!("{what} is there already")) }
    }

    /// Terminates all kernels, sources of links before their destinations, and takes no new ones. Returns within
    /// about `timeout`, whatever the handlers do.
    ///
    /// # Errors
    ///
    /// [timed out](Error::is_timed_out), naming them, if some kernels had to be left in the middle of a message;
    /// [deadlock](Error::is_deadlock) from inside a handler of one of them.
    pub fn shutdown(&self, timeout: Duration) -> Result<()> {
        let inside = inside();
        if let Some(kernel) = self.0.services.registry().kernels.values().find(|kernel| kernel.id() == inside)
        {
            return Err(Error::new(
                ErrorKind::Deadlock,
                format!(
                    "`shutdown` inside the handler of kernel `{}` would wait for itself; call it from another thread",
                    kernel.name()
                ),
            ));
        }
        self.0.services.shutdown(timeout)
    }
}

/// What an orchestrator has of its runtime.
struct Submissions {
    services: Arc<Services>,
    devices: Arc<Devices>,
}

impl ComputeHost for Submissions {
    fn check_open(&self) -> Result<()> {
        self.services.registry().check_open()
    }

    fn device(&self) -> Result<Arc<dyn crate::backend::Device>> {
        self.devices.device()
    }

    fn cache(&self) -> &Cache {
        self.devices.cache()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is there to hear of a kernel that had to be left; its dead letter says so.
        if inside() == 0 {
            let _ = self.services.shutdown(PATIENCE);
            return;
        }
        // The last clone was a handler's: its own kernel cannot end before the handler does.
        let services = self.services.clone();
        let shutdown = move || drop(services.shutdown(PATIENCE));
        let _ = std::thread::Builder::new().name("ringwork-shutdown".to_owned()).spawn(shutdown);
    }
}
