//! What kernels can run on, described without opening it.

use super::{BackendKind, DeviceOptions, backends, choose, free_memory, select};
use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::ops::RangeInclusive;
use uuid::Uuid;

/// What sort of thing an [`Accelerator`] is.
///
/// # Example
///
/// ```
/// use ringwork::AcceleratorKind;
///
/// assert_eq!(AcceleratorKind::Software.to_string(), "software");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AcceleratorKind {
    /// The processor that this program runs on.
    Processor,
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the processor's memory.
    Integrated,
    /// A part of a GPU, or a GPU passed through by a hypervisor.
    Virtual,
    /// A driver that pretends to be a GPU, and computes on the processor.
    Software,
    /// Its driver does not say.
    Other,
}

impl fmt::Display for AcceleratorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Processor => "processor",
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Other => "other",
        })
    }
}

/// What one workgroup may have on a GPU, and a dispatch of workgroups.
///
/// # Example
///
/// ```
/// for accelerator in ringwork::Accelerator::all() {
///     if let Some(workgroup) = accelerator.workgroup {
///         assert!(workgroup.size.iter().all(|size| *size <= workgroup.invocations));
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkgroupLimits {
    /// Invocations in all.
    pub invocations: u32,
    /// Invocations in each of three directions.
    pub size: [u32; 3],
    /// Bytes of the memory that its invocations share.
    pub memory: u32,
    /// Workgroups of one dispatch in each of three directions.
    pub count: [u32; 3],
}

/// Something that device kernels can run on, as its backend describes it without opening it.
///
/// [`backends`](crate::backends) lists them. What an opened one can do is in [`Capabilities`](crate::Capabilities);
/// the few things there that are found out by trying are not here. A description is as of the moment it was made:
/// what it describes may be unplugged, or its driver replaced, by the time it is used.
///
/// # Example
///
/// [`RuntimeBuilder::on`](crate::RuntimeBuilder::on) has a runtime use it; so does its index, its UUID, its PCI address, or a
/// part of its name that no other one has, as an [adapter](crate::RuntimeBuilder::adapter). A runtime that has another one
/// can still use it, for [a kernel](crate::RingKernel::on) and [its buffers](crate::Runtime::buffer_on).
///
/// ```
/// use ringwork::{Accelerator, BackendKind, Runtime};
///
/// let cpu = Accelerator::by_index(BackendKind::Cpu, 0)?;
/// let runtime = Runtime::builder().on(&cpu).build()?;
/// println!("{cpu} is taken: {}", runtime.why());
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accelerator {
    /// The backend that it belongs to.
    pub backend: BackendKind,
    /// Its place among those of its backend, from 0, in the order in which the drivers name them. It may change when
    /// hardware or drivers do.
    pub index: usize,
    /// Its name, for people.
    pub name: String,
    /// Names it, the same in every run on this machine until its driver gives it another name; `None` for the CPU.
    /// On CUDA it is NVIDIA's own, which its tools show after `GPU-`; through wgpu, which does not pass on the drivers', it
    /// is the library's.
    pub uuid: Option<Uuid>,
    /// Who made it; `None` if the driver does not say.
    pub vendor: Option<String>,
    /// What sort of thing it is.
    pub kind: AcceleratorKind,
    /// The interface it is reached through, as `Vulkan`; empty for the CPU.
    pub api: String,
    /// The driver's name and version; empty for the CPU.
    pub driver: String,
    /// Its PCI address, as `0000:01:00.0`, where it has one and the driver tells.
    pub pci_address: Option<String>,
    /// Host and device see the same memory: messages and results are written and read in place, unless the environment
    /// variable `RINGWORK_WGPU_TRANSFER` says otherwise.
    pub unified_memory: bool,
    /// Threads that run handlers at the same time; on a GPU, those of one workgroup.
    pub parallelism: usize,
    /// What runs independently of each other: cores of a processor, multiprocessors of a GPU. `None` through wgpu, which
    /// does not say.
    pub compute_units: Option<u32>,
    /// Invocations that run in step, at least and at most: a warp, a wave. `None` if the driver does not say, and on
    /// the CPU, where nothing does.
    pub subgroup_size: Option<RangeInclusive<u32>>,
    /// What a workgroup may have; `None` on the CPU, whose handlers do not run in any.
    pub workgroup: Option<WorkgroupLimits>,
    /// Bytes of its memory, of the processor's where that is its own; `None` through wgpu, which does not say, and where
    /// the system does not.
    pub total_memory: Option<u64>,
    /// Bytes of the largest buffer.
    pub largest_buffer: u64,
    /// What parts of a buffer that are bound by themselves have to be aligned to, in bytes; `None` if it does not matter.
    pub buffer_alignment: Option<u32>,
    /// What it has that others do not: wgpu's names of features, the architecture on CUDA (`sm_90`), a processor's
    /// extensions for vectors. In alphabetical order.
    pub features: Vec<String>,
}

impl Accelerator {
    /// All that this build can reach on this machine: the CPU, and what wgpu and CUDA find. A GPU that both find is there
    /// twice. What is missing, and why, [`backends`](crate::backends) says.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Accelerator, BackendKind};
    ///
    /// let all = Accelerator::all();
    /// assert_eq!(all[0].backend, BackendKind::Cpu);
    /// for accelerator in &all {
    ///     println!("{} {}: {accelerator}", accelerator.backend, accelerator.index);
    /// }
    /// ```
    pub fn all() -> Vec<Self> {
        backends().into_iter().flat_map(|backend| backend.accelerators).collect()
    }

    /// What [`Auto`](BackendKind::Auto) takes if the environment says nothing else: a GPU, or else the CPU, also
    /// where drivers cannot be asked.
    ///
    /// # Errors
    ///
    /// None in this version.
    ///
    /// # Example
    ///
    /// ```
    /// let best = ringwork::Accelerator::best()?;
    /// assert!(!best.is_software());
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn best() -> Result<Self> {
        choose(BackendKind::Auto, &DeviceOptions::default()).map(|choice| choice.accelerator)
    }

    /// The one with this [index](Self::index) among those of a backend.
    ///
    /// # Errors
    ///
    /// [unavailable](Error::is_unavailable), with how many there are, and what keeps the backend from having any;
    /// [invalid](Error::is_invalid) for [`Auto`](BackendKind::Auto), which is no backend.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Accelerator, BackendKind};
    ///
    /// let cpu = Accelerator::by_index(BackendKind::Cpu, 0)?;
    /// assert!(cpu.compute_units.is_some_and(|cores| cores > 0));
    /// assert!(Accelerator::by_index(BackendKind::Cpu, 1).is_err_and(|error| error.is_unavailable()));
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn by_index(backend: BackendKind, index: usize) -> Result<Self> {
        let Some(mut report) = backends().into_iter().find(|report| report.kind == backend) else {
            let text =
                format!("backend `{backend}` has no accelerators of its own; name one of cpu, wgpu, cuda");
            return Err(Error::new(ErrorKind::Invalid, text));
        };
        if index < report.accelerators.len() {
            return Ok(report.accelerators.swap_remove(index));
        }
        let (count, problem) = (report.accelerators.len(), report.problem);
        let problem = problem.map_or(String::new(), |problem| format!(": {problem}"));
        let text =
            format!("backend `{backend}` has {count} accelerators, and none with index {index}{problem}");
        Err(Error::new(ErrorKind::Unavailable, text))
    }

    /// The one with this [UUID](Self::uuid).
    ///
    /// # Errors
    ///
    /// [unavailable](Error::is_unavailable) if there is none.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Accelerator, Uuid};
    ///
    /// for accelerator in Accelerator::all() {
    ///     let Some(uuid) = accelerator.uuid else { continue };
    ///     assert_eq!(Accelerator::by_uuid(uuid)?, accelerator);
    /// }
    /// assert!(Accelerator::by_uuid(Uuid::nil()).is_err_and(|error| error.is_unavailable()));
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn by_uuid(uuid: Uuid) -> Result<Self> {
        let found = Self::all().into_iter().find(|accelerator| accelerator.uuid == Some(uuid));
        found.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("there is no accelerator with the UUID {uuid}"))
        })
    }

    /// The one at this [PCI address](Self::pci_address), as `0000:01:00.0`. If both CUDA and wgpu list it, this is CUDA's.
    ///
    /// # Errors
    ///
    /// [unavailable](Error::is_unavailable) if there is none, or its driver does not tell.
    ///
    /// # Example
    ///
    /// ```
    /// let nothing = ringwork::Accelerator::by_pci_address("ffff:ff:1f.7");
    /// assert!(nothing.is_err_and(|error| error.is_unavailable()));
    /// ```
    pub fn by_pci_address(address: &str) -> Result<Self> {
        let is_there = |accelerator: &Self| {
            let own = accelerator.pci_address.as_deref();
            own.is_some_and(|own| own.eq_ignore_ascii_case(address.trim()))
        };
        Self::best_first().into_iter().find(is_there).ok_or_else(|| {
            let text = format!("there is no accelerator at the PCI address `{address}`");
            Error::new(ErrorKind::Unavailable, text)
        })
    }

    /// The one with this name, or this as a part of its name, whatever the case. One that CUDA and wgpu find under the same
    /// name, by CUDA.
    ///
    /// # Errors
    ///
    /// [unavailable](Error::is_unavailable) if there is none, [invalid](Error::is_invalid) if there are several; each with
    /// what there is.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Accelerator, BackendKind};
    ///
    /// assert_eq!(Accelerator::by_name("cpu (")?.backend, BackendKind::Cpu);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn by_name(name: &str) -> Result<Self> {
        select::by_name(name, &Self::best_first()).cloned()
    }

    /// All, in the order in which [`Auto`](BackendKind::Auto) would like them: CUDA, wgpu, the CPU.
    fn best_first() -> Vec<Self> {
        let mut all = Self::all();
        all.sort_by_key(|accelerator| match accelerator.backend {
            BackendKind::Cuda => 0,
            BackendKind::Wgpu => 1,
            _ => 2,
        });
        all
    }

    /// Bytes of its memory that nobody has, now. `None` through wgpu, which does not say; on CUDA while the device is not
    /// open in this process; and on systems that do not say.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Accelerator, BackendKind};
    ///
    /// let cpu = Accelerator::by_index(BackendKind::Cpu, 0)?;
    /// if let (Some(free), Some(total)) = (cpu.free_memory(), cpu.total_memory) {
    ///     assert!(free <= total);
    /// }
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn free_memory(&self) -> Option<u64> {
        free_memory(self)
    }

    /// Does this describe the same thing, perhaps at another time?
    pub(crate) fn is(&self, other: &Self) -> bool {
        let is_same = match (self.uuid, other.uuid) {
            (Some(own), Some(others)) => own == others,
            _ => self.index == other.index,
        };
        self.backend == other.backend && is_same
    }

    /// Does it pretend to be a GPU? Such a one is good for tests, and [`Auto`](BackendKind::Auto) never takes it.
    pub fn is_software(&self) -> bool {
        self.kind == AcceleratorKind::Software
    }
}

/// The name, and where it is not the CPU's, the interface and the driver.
///
/// ```text
/// llvmpipe (LLVM 15.0.6, 256 bits) (Vulkan, llvmpipe Mesa 22.3.6)
/// ```
impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match (self.api.as_str(), self.driver.as_str()) {
            ("", "") => Ok(()),
            (one, "") | ("", one) => write!(f, " ({one})"),
            (api, driver) => write!(f, " ({api}, {driver})"),
        }
    }
}
