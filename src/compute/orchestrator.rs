//! One-shot compute: WGSL entry points over buffers, run once, with their results, errors and times.

use super::{BoundTable, ComputeKernel, UnifiedBuffer};
use crate::backend::compute::DeviceEntryPoint;
use crate::backend::{Device, DispatchClock};
use crate::compile::{Cache, CompiledCompute, ComputeSource, Key};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, lock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Dispatches that are remembered unless the program says otherwise.
const HISTORY: usize = 256;
/// Entry points that a device keeps ready, at most.
const MOST_READY: usize = 64;

/// Where an orchestrator gets its device from.
pub(crate) trait ComputeHost: Send + Sync {
    /// May work still be submitted?
    fn check_open(&self) -> Result<()>;
    /// The device; another one after one was lost.
    fn device(&self) -> Result<Arc<dyn Device>>;
    fn cache(&self) -> &Cache;
}

/// Runs compute entry points, WGSL's ordinary `@compute` functions, over a runtime's buffers.
///
/// Made by [`Runtime::orchestrator`](crate::Runtime::orchestrator). The same text runs on every backend, with workgroup
/// memory, barriers, atomics, `override` constants and all built-in values, and is checked and lowered like a handler:
/// indices are clamped, workgroup memory and private variables begin with zeros, and loops have a
/// [budget](ComputeKernel::loop_budget). Clones are the same orchestrator.
///
/// # Example
///
/// ```
/// use ringwork::Runtime;
///
/// let runtime = Runtime::new()?;
/// let orchestrator = runtime.orchestrator();
/// let a = runtime.buffer(&[1.0f32, 2.0, 3.0])?;
/// let out = runtime.buffer(&[0.0f32; 3])?;
/// let double = orchestrator.kernel(
///     "@group(0) @binding(0) var<storage, read> a: array<f32>;
///      @group(0) @binding(1) var<storage, read_write> out: array<f32>;
///      override FACTOR: f32 = 2.0;
///      @compute @workgroup_size(64)
///      fn main(@builtin(global_invocation_id) id: vec3<u32>) {
///          if id.x < arrayLength(&out) { out[id.x] = FACTOR * a[id.x]; }
///      }",
///     "main",
/// )?;
/// double.bind("a", &a).bind("out", &out).constant("FACTOR", 3.0).dispatch([1, 1, 1])?;
/// assert_eq!(out.to_vec()?, [3.0, 6.0, 9.0]);
/// assert_eq!(orchestrator.history()[0].groups, [1, 1, 1]);
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone)]
pub struct ComputeOrchestrator(Arc<Inner>);

struct Inner {
    host: Arc<dyn ComputeHost>,
    closed: AtomicBool,
    history: Mutex<VecDeque<Dispatch>>,
    history_capacity: AtomicUsize,
    ready: Mutex<Ready>,
}

/// Entry points that are ready to run, those used last at the end, and the device that they are on.
#[derive(Default)]
struct Ready {
    device: Option<Arc<dyn Device>>,
    kernels: Vec<(Key, Arc<dyn DeviceEntryPoint>)>,
}

/// A dispatch that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dispatch {
    /// The entry point.
    pub entry: String,
    /// Workgroups along x, y and z.
    pub groups: [u32; 3],
    /// Invocations of all workgroups.
    pub invocations: u64,
    /// How long it took, by `clock`.
    pub duration: Duration,
    /// Whose time that is.
    pub clock: DispatchClock,
    /// What ran it: `jit`, `interpreter: ` and why, `wgpu` or `cuda`.
    pub engine: &'static str,
}

impl std::fmt::Debug for ComputeOrchestrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let history = lock(&self.0.history).len();
        f.debug_struct("ComputeOrchestrator").field("history", &history).finish_non_exhaustive()
    }
}

impl ComputeOrchestrator {
    pub(crate) fn new(host: Arc<dyn ComputeHost>) -> Self {
        Self(Arc::new(Inner {
            host,
            closed: AtomicBool::new(false),
            history: Mutex::default(),
            history_capacity: AtomicUsize::new(HISTORY),
            ready: Mutex::default(),
        }))
    }

    /// An entry point of a WGSL text, checked. Each is compiled once, however often it is asked for. Where an `override` has
    /// no value yet, what depends on it is checked by the first dispatch.
    ///
    /// # Errors
    ///
    /// [rejected](Error::is_rejected), with line and column, what is wrong there and what to write instead;
    /// [terminated](Error::is_terminated) after [`shutdown`](Self::shutdown), or after the runtime's.
    pub fn kernel(&self, source: &str, entry: &str) -> Result<ComputeKernel> {
        self.check_open()?;
        ComputeKernel::new(self.clone(), source, entry)
    }

    /// The last dispatches that came to their end, oldest first: [256](Self::set_history_capacity) at most.
    pub fn history(&self) -> Vec<Dispatch> {
        lock(&self.0.history).iter().cloned().collect()
    }

    /// How many dispatches are remembered, from now on; 0 for none.
    ///
    /// # Example
    ///
    /// ```
    /// let runtime = ringwork::Runtime::new()?;
    /// let orchestrator = runtime.orchestrator();
    /// orchestrator.set_history_capacity(10);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn set_history_capacity(&self, capacity: usize) {
        let mut history = lock(&self.0.history);
        // Relaxed: written and read under the lock.
        self.0.history_capacity.store(capacity, Ordering::Relaxed);
        let excess = history.len().saturating_sub(capacity);
        history.drain(..excess);
    }

    /// Takes no more work. Dispatches that have begun come to their end; the history stays.
    ///
    /// # Example
    ///
    /// ```
    /// let runtime = ringwork::Runtime::new()?;
    /// let orchestrator = runtime.orchestrator();
    /// orchestrator.shutdown();
    /// assert!(orchestrator.kernel("", "main").is_err_and(|error| error.is_terminated()));
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn shutdown(&self) {
        // Release pairs with the Acquire in `check_open`.
        self.0.closed.store(true, Ordering::Release);
        *lock(&self.0.ready) = Ready::default();
    }

    pub(super) fn check_open(&self) -> Result<()> {
        // Acquire pairs with the Release in `shutdown`.
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Terminated, "the orchestrator has been shut down"));
        }
        self.0.host.check_open()
    }

    /// `None` for a draft without all values.
    pub(super) fn compile(&self, source: &ComputeSource<'_>) -> Result<Option<Arc<CompiledCompute>>> {
        self.0.host.cache().compute(source)
    }

    pub(super) fn device(&self) -> Result<Arc<dyn Device>> {
        self.0.host.device()
    }

    /// The entry point on its device.
    pub(super) fn ready(
        &self,
        device: &Arc<dyn Device>,
        compiled: &Arc<CompiledCompute>,
    ) -> Result<Arc<dyn DeviceEntryPoint>> {
        let mut ready = lock(&self.0.ready);
        if !ready.device.as_ref().is_some_and(|known| Arc::ptr_eq(known, device)) {
            *ready = Ready { device: Some(device.clone()), kernels: Vec::new() };
        }
        if let Some(index) = ready.kernels.iter().position(|(key, _)| *key == compiled.key) {
            let found = ready.kernels.remove(index);
            let kernel = found.1.clone();
            ready.kernels.push(found);
            return Ok(kernel);
        }
        drop(ready);
        // Outside of the lock: it may take long. Two that ask at the same time make two.
        let kernel = device.compute(compiled)?;
        let mut ready = lock(&self.0.ready);
        // Unless that was for another device, or somebody was faster.
        let is_wanted = ready.device.as_ref().is_some_and(|known| Arc::ptr_eq(known, device))
            && ready.kernels.iter().all(|(key, _)| *key != compiled.key);
        if is_wanted {
            if ready.kernels.len() == MOST_READY {
                ready.kernels.remove(0);
            }
            ready.kernels.push((compiled.key, kernel.clone()));
        }
        Ok(kernel)
    }

    pub(super) fn remember(&self, dispatch: Dispatch) {
        let mut history = lock(&self.0.history);
        // Relaxed: as in `set_history_capacity`.
        let capacity = self.0.history_capacity.load(Ordering::Relaxed);
        if capacity == 0 {
            return;
        }
        if history.len() >= capacity {
            history.pop_front();
        }
        history.push_back(dispatch);
    }
}

/// A buffer of any type, under the name that an entry point has for it.
#[derive(Clone)]
pub(super) struct BoundBuffer {
    pub name: String,
    pub table: BoundTable,
}

impl BoundBuffer {
    pub(super) fn new<T>(name: &str, buffer: &UnifiedBuffer<T>) -> Self {
        Self { name: name.to_string(), table: BoundTable::of(buffer) }
    }
}
