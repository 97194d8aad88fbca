//! What kernels can run on, described without opening it.

use super::BackendKind;
use std::fmt;
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

/// Something that device kernels can run on, as its backend describes it without opening it.
///
/// [`backends`](crate::backends) lists them. What an opened one can do is in [`Capabilities`](crate::Capabilities);
/// the few things there that are found out by trying are not here. A description is as of the moment it was made:
/// what it describes may be unplugged, or its driver replaced, by the time it is used.
///
/// # Example
///
/// Its index chooses it for a runtime; so does its UUID, or a part of its name that no other one has.
///
/// ```
/// use ringwork::Runtime;
///
/// for accelerator in ringwork::backends().iter().flat_map(|backend| &backend.accelerators) {
///     let chosen = Runtime::builder()
///         .backend(accelerator.backend)
///         .adapter(accelerator.index.to_string())
///         .choice()?
///         .accelerator;
///     assert_eq!((chosen.backend, chosen.index), (accelerator.backend, accelerator.index));
/// }
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
    /// It is the library's own, not the one that the vendor's tools show.
    pub uuid: Option<Uuid>,
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
    /// Bytes of the largest buffer.
    pub largest_buffer: u64,
}

impl Accelerator {
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
