//! The narrow traits a way to run kernels implements, and the data they exchange.
//!
//! A backend sees a [`LaunchSpec`] and never a user's declaration. Calls are paid per batch. Everything a caller
//! can foresee has been checked above; what comes back as an error here could not be.

mod accelerator;
pub(crate) mod compute;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod onward;
mod port;
mod report;
mod select;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod tokens;
#[cfg(feature = "wgpu")]
pub(crate) mod wgpu;

pub use accelerator::{Accelerator, AcceleratorKind, WorkgroupLimits};
pub use compute::DispatchClock;
#[cfg(feature = "cuda")]
pub use cuda::{GpuMonitor, GpuSample};
pub use report::{BackendReport, Choice, Problem, backends};

use crate::compile;
use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use crate::compile::{Limits, STOP_AFTER_MESSAGE, STOP_NOW};
pub(crate) use onward::{DeviceInlet, Onward};
pub(crate) use port::{
    Completion, Fault, One, Packed, PanicText, Port, PortControl, Progress, Strided, Until,
};

/// A way to run device kernels.
///
/// Its name, as `RINGWORK_BACKEND` takes it, is what it shows as and what it is parsed from.
///
/// # Example
///
/// ```
/// use ringwork::BackendKind;
///
/// assert_eq!(BackendKind::default(), BackendKind::Auto);
/// assert_eq!("wgpu".parse::<BackendKind>()?, BackendKind::Wgpu);
/// assert_eq!(BackendKind::Cpu.to_string(), "cpu");
/// assert!("vulkan".parse::<BackendKind>().is_err_and(|error| error.is_invalid()));
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// The best one that this build has and this machine can run: a GPU through CUDA or wgpu, or else the CPU. A software
    /// rasteriser, which pretends to be a GPU, is only taken if [an adapter](crate::RuntimeBuilder::adapter) is named.
    /// [`RuntimeBuilder::choice`](crate::RuntimeBuilder::choice) says what it is, and why.
    #[default]
    Auto,
    /// The CPU: always there.
    Cpu,
    /// Any GPU through wgpu (Vulkan, Metal, Direct3D 12), and software rasterisers; in builds with the feature `wgpu`.
    Wgpu,
    /// NVIDIA GPUs through CUDA, with kernels that stay on the device; in builds with the feature `cuda`.
    Cuda,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        })
    }
}

impl std::str::FromStr for BackendKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Auto, Self::Cpu, Self::Wgpu, Self::Cuda]
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Invalid,
                    format!("backend `{text}` is not one of auto, cpu, wgpu, cuda"),
                )
            })
    }
}

impl BackendKind {
    /// What to do instead where this backend is not in this build; `None` where it is.
    fn absent(self) -> Option<&'static str> {
        match self {
            Self::Wgpu if cfg!(not(feature = "wgpu")) => {
                Some("build ringwork with its feature `wgpu`, or use `cpu` or `auto`")
            }
            Self::Cuda if cfg!(not(feature = "cuda")) => {
                Some("build ringwork with its feature `cuda`, or use `cpu` or `auto`")
            }
            Self::Auto | Self::Cpu | Self::Wgpu | Self::Cuda => None,
        }
    }
}

/// Is this backend in this build?
pub(crate) fn check(kind: BackendKind) -> Result<()> {
    match kind.absent() {
        None => Ok(()),
        Some(remedy) => {
            let text = format!("backend `{kind}` is not in this build of ringwork; {remedy}");
            Err(Error::new(ErrorKind::Unavailable, text))
        }
    }
}

/// What is asked of a device.
#[derive(Clone, Debug)]
pub(crate) struct DeviceOptions {
    /// The adapter: its index, its UUID, its PCI address, or a part of its name.
    pub adapter: Option<String>,
    /// What said so, for errors.
    pub adapter_setting: &'static str,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self { adapter: None, adapter_setting: "adapter" }
    }
}

/// A device that was chosen, and is not open yet.
enum Candidate {
    Cpu,
    #[cfg(feature = "wgpu")]
    Wgpu(Box<wgpu::Found>),
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::Found>),
}

impl Candidate {
    /// `wanted`: it, or else nothing, and not the first there is.
    fn cuda(options: &DeviceOptions, wanted: bool) -> Result<(Self, String)> {
        check(BackendKind::Cuda)?;
        #[cfg(feature = "cuda")]
        {
            let found = cuda::choose(options, wanted)?;
            let why = match (options.adapter.is_some(), wanted) {
                (true, _) => "cuda: the device that was asked for",
                (false, true) => "cuda: asked for",
                (false, false) => "cuda: the first there is",
            };
            let why = format!("{why}: {}", found.accelerator());
            Ok((Self::Cuda(Box::new(found)), why))
        }
        #[cfg(not(feature = "cuda"))]
        unreachable!("the check says so: {options:?}, {wanted}")
    }

    /// For `Auto`: CUDA goes before wgpu, which may drive the same GPU.
    fn any_gpu(options: &DeviceOptions) -> Result<(Self, String)> {
        if cfg!(not(feature = "cuda")) {
            return Self::gpu(options, options.adapter.is_some());
        }
        let no_cuda = match Self::cuda(options, false) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        match Self::gpu(options, options.adapter.is_some()) {
            Err(_) if cfg!(not(feature = "wgpu")) => Err(no_cuda),
            Err(error) if options.adapter.is_none() && error.is_unavailable() => {
                Err(Error::new(ErrorKind::Unavailable, format!("{error}; {no_cuda}")))
            }
            other => other,
        }
    }

    /// `wanted`: it, or else nothing, and not the best there is.
    fn gpu(options: &DeviceOptions, wanted: bool) -> Result<(Self, String)> {
        check(BackendKind::Wgpu)?;
        #[cfg(feature = "wgpu")]
        {
            let found = wgpu::choose(options, !wanted)?;
            let adapter = found.accelerator();
            let why = match (options.adapter.is_some(), wanted) {
                (true, _) => "wgpu: the adapter that was asked for",
                (false, true) => "wgpu: asked for",
                (false, false) => "wgpu: the best there is",
            };
            Ok((Self::Wgpu(Box::new(found)), format!("{why}: {adapter}")))
        }
        #[cfg(not(feature = "wgpu"))]
        unreachable!("the check says so: {options:?}, {wanted}")
    }

    fn accelerator(&self) -> Accelerator {
        match self {
            Self::Cpu => cpu::accelerator(),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(found) => found.accelerator(),
            #[cfg(feature = "cuda")]
            Self::Cuda(found) => found.accelerator(),
        }
    }

    fn open(&self) -> Result<Arc<dyn Device>> {
        match self {
            Self::Cpu => Ok(cpu::CpuDevice::open()),
            #[cfg(feature = "wgpu")]
            Self::Wgpu(found) => wgpu::WgpuDevice::open(found),
            #[cfg(feature = "cuda")]
            Self::Cuda(found) => cuda::CudaDevice::open(found),
        }
    }
}

/// Does `Auto` do without a GPU that could not be had for this reason?
///
/// Whoever names an adapter wants that one, and a setting that is wrong is not made right by ignoring it.
fn may_go_without(error: &Error, options: &DeviceOptions) -> bool {
    options.adapter.is_none() && !error.is_invalid()
}

fn without_gpu(error: &Error) -> String {
    format!("cpu ({}), for there is no GPU: {error}", cpu::engine())
}

/// The one place that knows which backends this build has.
fn candidate(kind: BackendKind, options: &DeviceOptions) -> Result<(Candidate, String)> {
    match kind {
        BackendKind::Auto => match Candidate::any_gpu(options) {
            Err(error) if may_go_without(&error, options) => Ok((Candidate::Cpu, without_gpu(&error))),
            gpu => gpu,
        },
        BackendKind::Cpu => Ok((Candidate::Cpu, format!("cpu: asked for ({})", cpu::engine()))),
        BackendKind::Wgpu => Candidate::gpu(options, true),
        BackendKind::Cuda => Candidate::cuda(options, true),
    }
}

/// What [`open`] would open, and why.
pub(crate) fn choose(kind: BackendKind, options: &DeviceOptions) -> Result<Choice> {
    let (candidate, why) = candidate(kind, options)?;
    Ok(Choice { accelerator: candidate.accelerator(), why })
}

/// A device that is open, what it is, and why it was chosen.
pub(crate) struct Opened {
    pub device: Arc<dyn Device>,
    pub accelerator: Accelerator,
    pub why: String,
}

/// Opens the device of a backend, or says why it cannot. One that is `known` to be open is not opened again.
pub(crate) fn open(
    kind: BackendKind,
    options: &DeviceOptions,
    known: &dyn Fn(&Accelerator) -> Option<Arc<dyn Device>>,
) -> Result<Opened> {
    let open = |candidate: Candidate, why| {
        let accelerator = candidate.accelerator();
        let device = known(&accelerator).map_or_else(|| candidate.open(), Ok)?;
        Ok(Opened { device, accelerator, why })
    };
    let (candidate, why) = candidate(kind, options)?;
    match open(candidate, why) {
        Err(error) if kind == BackendKind::Auto && may_go_without(&error, options) => {
            open(Candidate::Cpu, without_gpu(&error))
        }
        result => result,
    }
}

/// Opens what was described.
pub(crate) fn open_accelerator(accelerator: &Accelerator) -> Result<Arc<dyn Device>> {
    let Accelerator { backend, uuid, index, .. } = accelerator;
    let adapter = uuid.map_or_else(|| index.to_string(), |uuid| uuid.to_string());
    let options = DeviceOptions { adapter: Some(adapter), adapter_setting: "accelerator" };
    candidate(*backend, &options)?.0.open()
}

/// What wgpu can run kernels on.
#[cfg(feature = "wgpu")]
fn wgpu_accelerators() -> Result<Vec<Accelerator>, Problem> {
    wgpu::accelerators()
}

#[cfg(not(feature = "wgpu"))]
fn wgpu_accelerators() -> Result<Vec<Accelerator>, Problem> {
    unreachable!("it is not in this build")
}

/// What CUDA can run kernels on.
#[cfg(feature = "cuda")]
fn cuda_accelerators() -> Result<Vec<Accelerator>, Problem> {
    cuda::accelerators()
}

#[cfg(not(feature = "cuda"))]
fn cuda_accelerators() -> Result<Vec<Accelerator>, Problem> {
    unreachable!("it is not in this build")
}

/// Bytes of a device that nobody has.
fn free_memory(accelerator: &Accelerator) -> Option<u64> {
    match accelerator.backend {
        BackendKind::Cpu => cpu::free_memory(),
        #[cfg(feature = "cuda")]
        BackendKind::Cuda => cuda::free_memory(accelerator.uuid?),
        // wgpu does not pass on what drivers say.
        _ => None,
    }
}

/// How a device gets its work.
///
/// # Example
///
/// ```
/// use ringwork::{BackendKind, Execution, Runtime};
///
/// let runtime = Runtime::builder().backend(BackendKind::Cpu).build()?;
/// assert_eq!(runtime.capabilities()?.execution, Execution::Host);
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Execution {
    /// Handlers run on the threads of this process.
    Host,
    /// The device is given rounds of messages, and answers when a round is over. A round is not interrupted: a caller
    /// whose deadline passes leaves, and the device finishes it.
    Dispatched,
    /// Kernels stay on the device and look for messages themselves. A handler can be interrupted; a caller whose deadline
    /// passes leaves, and the device finishes the message.
    Persistent,
}

/// What an opened device is and can do; [`Runtime::capabilities`](crate::Runtime::capabilities) tells it.
///
/// # Example
///
/// ```
/// use ringwork::{BackendKind, Runtime};
///
/// let runtime = Runtime::builder().backend(BackendKind::Cpu).build()?;
/// let cpu = runtime.capabilities()?;
/// println!("{}, {} threads", cpu.name, cpu.parallelism);
/// assert!(cpu.unified_memory && !cpu.software);
/// assert_eq!((cpu.uuid, cpu.longest_loop), (None, None));
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The device's name, for people.
    pub name: String,
    /// The driver's name and version; empty on the CPU.
    pub driver: String,
    /// Names the device, the same in every run on this machine; `None` on the CPU.
    pub uuid: Option<uuid::Uuid>,
    /// How it gets its work.
    pub execution: Execution,
    /// It pretends to be a GPU, and computes on the processor.
    pub software: bool,
    /// Host and device see the same memory: messages and results are written and read in place.
    pub unified_memory: bool,
    /// Threads that run handlers at the same time; on a GPU, those of one workgroup.
    pub parallelism: usize,
    /// Bytes of the largest buffer.
    pub largest_buffer: u64,
    /// Iterations after which the device silently ends the loops of a message, where one was found to do so. A message
    /// that needs more faults there.
    ///
    /// Messages of one round share these iterations, and one that finds them used up runs again by itself. A handler
    /// that writes tables must not run twice: its rounds hold about as many messages as this is
    /// [loop budgets](crate::RingKernel::loop_budget), and at least one, which is what the usual budget of 1,000,000 gives.
    /// A smaller budget makes its rounds larger there.
    pub longest_loop: Option<u32>,
}

/// An opened device.
pub(crate) trait Device: Send + Sync {
    /// What it is and can do.
    fn capabilities(&self) -> &Capabilities;
    /// Zeroed memory for tables.
    fn allocate(&self, bytes: usize) -> Result<Arc<dyn DeviceStorage>>;
    /// Memory of this device as one that has only its first `bytes`, which is what handlers see of it. Whoever has both uses
    /// one at a time.
    ///
    /// # Panics
    ///
    /// If there are not as many, or it is another backend's.
    fn prefix(&self, storage: &dyn DeviceStorage, bytes: usize) -> Arc<dyn DeviceStorage>;
    /// Is this memory that kernels of this device can use?
    fn owns(&self, storage: &dyn DeviceStorage) -> bool;
    /// Makes a kernel ready to run. Code is compiled before this returns.
    fn launch(&self, spec: LaunchSpec) -> Result<Box<dyn Port>>;
    /// Makes a compute entry point ready to run.
    fn compute(&self, compiled: &Arc<compile::CompiledCompute>)
    -> Result<Arc<dyn compute::DeviceEntryPoint>>;
    /// Is it gone for good? Whoever needs one opens another.
    fn is_lost(&self) -> bool {
        false
    }
    /// Loses the device on purpose.
    #[cfg(all(test, any(feature = "cuda", feature = "wgpu")))]
    fn destroy(&self) {}
    /// Has its driver answer waits as it does when the device is lost.
    #[cfg(all(test, feature = "wgpu"))]
    fn break_waits(&self) {}
    /// From now on there is no memory for buffers with this in their name.
    #[cfg(all(test, any(feature = "cuda", feature = "wgpu")))]
    fn refuse(&self, _part: Option<&'static str>) {}
    /// Submissions there have been.
    #[cfg(all(test, feature = "wgpu"))]
    fn submissions(&self) -> u32 {
        0
    }
    /// Does its driver give out what it makes of handlers?
    #[cfg(all(test, feature = "wgpu"))]
    fn keeps_pipelines(&self) -> bool {
        false
    }
    /// What the device holds: what it is, and how many.
    #[cfg(all(test, feature = "wgpu"))]
    fn holdings(&self) -> Vec<(&'static str, isize)> {
        Vec::new()
    }
}

/// Memory of a device that tables live in.
///
/// A backend keeps the host and handlers apart: the host's access waits for those that run.
pub(crate) trait DeviceStorage: std::any::Any + Send + Sync {
    /// Copies from the storage to the host; waits for handlers that are running, up to the deadline.
    fn read(&self, offset: usize, into: &mut [u8], deadline: Instant) -> Result<()>;
    /// Copies from the host to the storage; waits for handlers that are running, up to the deadline.
    fn write(&self, offset: usize, from: &[u8], deadline: Instant) -> Result<()>;
    /// Zeroes all of it, waiting as [`write`](Self::write) does.
    fn clear(&self, deadline: Instant) -> Result<()>;
    /// For the backend that made it: its own type, whatever is around it.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Are these bytes inside of a storage with so many?
fn check_range(offset: usize, len: usize, bytes: usize) -> Result<()> {
    if offset.checked_add(len).is_none_or(|end| end > bytes) {
        let end = offset.saturating_add(len);
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("bytes {offset}..{end} of a buffer of {bytes} bytes"),
        ));
    }
    debug_assert!(offset.is_multiple_of(4) && len.is_multiple_of(4), "elements are whole words");
    Ok(())
}

/// How the messages of a kernel relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// No state: messages of a batch may run in parallel.
    Stateless,
    /// One message at a time, in order.
    Serial,
    /// One serial actor per instance; the instance is the u32 at this byte of the message.
    Instances { count: u32, field_offset: u32 },
}

impl Shape {
    /// Serial actors that there are: 1 where there are no instances.
    pub fn instances(self) -> u32 {
        if let Self::Instances { count, .. } = self { count } else { 1 }
    }

    /// The instance a message is for, which need not exist; 0 where there are none.
    #[inline]
    pub fn instance_of(self, message: &[u8]) -> u32 {
        match self {
            Self::Instances { field_offset, .. } => {
                let at = field_offset as usize;
                bytemuck::pod_read_unaligned(&message[at..at + 4])
            }
            Self::Stateless | Self::Serial => 0,
        }
    }

    /// The number of the message's word that names the instance; 0 where there are none.
    #[cfg_attr(not(any(feature = "cuda", feature = "wgpu")), expect(dead_code, reason = "for devices"))]
    pub fn instance_word(self) -> u32 {
        if let Self::Instances { field_offset, .. } = self { field_offset / 4 } else { 0 }
    }

    /// What `shaders` call it.
    #[cfg_attr(not(any(feature = "cuda", feature = "wgpu")), expect(dead_code, reason = "for devices"))]
    pub fn code(self) -> u32 {
        match self {
            Self::Stateless => 0,
            Self::Serial => 1,
            Self::Instances { .. } => 2,
        }
    }
}

/// What a kernel runs.
#[derive(Clone)]
pub(crate) enum Code {
    /// A lowered WGSL handler.
    Handler(Arc<compile::Handler>),
    /// A Rust function.
    Native(Arc<dyn NativeHandler>),
}

/// A handler in CUDA C++, beside its WGSL.
#[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "for CUDA alone"))]
pub(crate) struct Twin {
    /// The kernel's name, for errors.
    pub kernel: String,
    pub text: String,
}

/// A Rust function on the bytes of a message, a state and a reply; aligned for their types.
pub(crate) trait NativeHandler: Send + Sync {
    /// Handles one message.
    ///
    /// # Errors
    ///
    /// The text of the function's panic; the state is as it was then.
    fn run(
        &self,
        message: &[u8],
        state: &mut [u8],
        reply: &mut [u8],
    ) -> std::result::Result<(), Box<PanicText>>;
}

/// All a backend needs to know to run a kernel.
#[derive(Clone)]
pub(crate) struct LaunchSpec {
    pub code: Code,
    /// The same handler in CUDA C++, by its user's own hand.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "for CUDA alone"))]
    pub twin: Option<Arc<Twin>>,
    pub shape: Shape,
    /// Bytes of a message.
    pub message_size: u32,
    /// Bytes of a reply; 0 if the handler does not reply.
    pub reply_size: u32,
    /// One instance's state to begin with, in WGSL layout; empty without state.
    pub initial_state: Vec<u8>,
    /// All instances' states to begin with, tightly packed; `None` if each is the initial one.
    pub states: Option<Arc<[u8]>>,
    /// In the order of the program's tables.
    pub tables: Vec<Arc<dyn DeviceStorage>>,
    /// Where what the handler emits goes, by output.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "the CPU has no links of its own")
    )]
    pub onward: Vec<Arc<dyn Onward>>,
    /// Messages the port should take at once, at most.
    pub round: u32,
    /// Shared with the layer above.
    pub control: Arc<PortControl>,
    /// For threads that the backend runs handlers on besides the one that drives the port.
    pub around: Arc<Around>,
}

impl LaunchSpec {
    /// The states of all instances to begin with.
    pub fn all_states(&self) -> Arc<[u8]> {
        let initial = || self.initial_state.repeat(self.shape.instances() as usize).into();
        self.states.clone().unwrap_or_else(initial)
    }
}

/// Calls its argument as one that is inside the kernel's handler: so that a handler that waits for its own kernel is
/// refused on whatever thread it runs.
pub(crate) type Around = dyn Fn(&mut dyn FnMut()) + Send + Sync;
