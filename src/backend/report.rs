//! What this build and this machine have, for people and programs that want to know before anything is opened.

use super::accelerator::Accelerator;
use super::{BackendKind, cpu};
use std::fmt;

/// Why something cannot be used, and what to do about it.
///
/// It shows as `reason; remedy`.
///
/// # Example
///
/// ```
/// for backend in ringwork::backends() {
///     if let Some(problem) = backend.problem {
///         assert_eq!(problem.to_string(), format!("{}; {}", problem.reason, problem.remedy));
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What is wrong.
    pub reason: String,
    /// What puts it right, or else what to use instead.
    pub remedy: String,
}

impl Problem {
    pub(crate) fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

/// What is known of one backend; [`backends`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendReport {
    /// Which one it is; never [`Auto`](BackendKind::Auto).
    pub kind: BackendKind,
    /// It is in this build.
    pub built: bool,
    /// Why it cannot run here; `None` if it can.
    pub problem: Option<Problem>,
    /// What it can run kernels on, in the order of their [indices](Accelerator::index); not empty unless there is a
    /// problem.
    pub accelerators: Vec<Accelerator>,
    /// What runs WGSL handlers, on the CPU: `jit`, or `interpreter: ` and why. `None` for the other backends, which have
    /// their drivers' compilers.
    pub engine: Option<&'static str>,
}

impl BackendReport {
    /// Can it run kernels here, as far as can be told without opening a device?
    pub fn is_usable(&self) -> bool {
        self.problem.is_none()
    }
}

/// What a runtime would run device kernels on, and why; [`RuntimeBuilder::choice`](crate::RuntimeBuilder::choice) makes
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Choice {
    /// What was chosen, with its backend.
    pub accelerator: Accelerator,
    /// Why; what [`Runtime::why`](crate::Runtime::why) says once the device is open.
    pub why: String,
}

/// Every backend that Ringwork knows, with what it found on this machine, or why it found nothing and what to do
/// about it.
///
/// This is what `examples/doctor.rs` prints. No device is opened, and it cannot fail: a
/// driver that panics when it is asked is a [`Problem`] of its backend. (One that brings the process down cannot be
/// caught.) The drivers themselves are loaded by the first call, which takes most of its time, and stay loaded as long
/// as the process runs. Environment variables of Ringwork do not change the list.
///
/// # Example
///
/// ```
/// use ringwork::{BackendKind, backends};
///
/// for backend in backends() {
///     match &backend.problem {
///         None => println!("{}: {} to run on", backend.kind, backend.accelerators.len()),
///         Some(problem) => println!("{}: {}; to do: {}", backend.kind, problem.reason, problem.remedy),
///     }
/// }
/// assert_eq!(backends()[0].kind, BackendKind::Cpu);
/// assert!(backends()[0].is_usable());
/// ```
pub fn backends() -> Vec<BackendReport> {
    let cpu = BackendReport {
        kind: BackendKind::Cpu,
        built: true,
        problem: None,
        accelerators: vec![cpu::accelerator()],
        engine: Some(cpu::engine()),
    };
    [cpu].into_iter().chain([BackendKind::Wgpu, BackendKind::Cuda].map(with_driver)).collect()
}

/// A backend that needs a driver.
fn with_driver(kind: BackendKind) -> BackendReport {
    let absent = kind.absent();
    let built = absent.is_none();
    let found = match absent {
        Some(remedy) => Err(Problem::new("it is not in this build of ringwork", remedy)),
        None if kind == BackendKind::Cuda => super::cuda_accelerators(),
        None => super::wgpu_accelerators(),
    };
    let (accelerators, problem) = match found {
        Ok(accelerators) => (accelerators, None),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    BackendReport { kind, built, problem, accelerators, engine: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_is_in_the_list_and_says_what_it_has_or_lacks() {
        let list = backends();
        let kinds: Vec<_> = list.iter().map(|backend| backend.kind).collect();
        assert_eq!(kinds, [BackendKind::Cpu, BackendKind::Wgpu, BackendKind::Cuda]);
        for backend in &list {
            assert_eq!(backend.is_usable(), !backend.accelerators.is_empty(), "{backend:?}");
            assert!(backend.built || !backend.is_usable(), "{backend:?}");
            for (index, accelerator) in backend.accelerators.iter().enumerate() {
                assert_eq!((accelerator.backend, accelerator.index), (backend.kind, index));
                assert!(!accelerator.name.is_empty() && accelerator.largest_buffer > 0, "{accelerator:?}");
                assert_eq!(accelerator.uuid.is_none(), backend.kind == BackendKind::Cpu, "{accelerator:?}");
            }
            if let Some(problem) = &backend.problem {
                assert!(!problem.reason.is_empty() && !problem.remedy.is_empty(), "{backend:?}");
            }
        }
        assert_eq!(list[1].built, cfg!(feature = "wgpu"));
        assert_eq!(list[2].built, cfg!(feature = "cuda"));
        assert_eq!(list[0].engine, Some(cpu::engine()));
    }

    /// Threads and open files of this process.
    #[cfg(target_os = "linux")]
    fn held() -> (usize, usize) {
        let count = |folder: &str| std::fs::read_dir(folder).expect("Linux has it").count();
        (count("/proc/self/task"), count("/proc/self/fd"))
    }

    /// Other tests of the process come and go meanwhile; a listing that kept something would keep it 200 times.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_listing_keeps_nothing_open() {
        let first = backends();
        let (threads, files) = held();
        for _ in 0..200 {
            assert_eq!(backends(), first);
        }
        let (more_threads, more_files) = held();
        assert!(more_threads < threads + 150, "{threads} threads became {more_threads}");
        assert!(more_files < files + 150, "{files} open files became {more_files}");
    }
}
