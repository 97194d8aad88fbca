//! One-shot compute: what a device runs an entry point with, once, until it is over.

use super::DeviceStorage;
use crate::compile::ComputeProgram;
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// Which clock timed a dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DispatchClock {
    /// The device's own: from the beginning of the kernel to its end.
    Device,
    /// The host's: from the submission until the device was known to be done.
    Host,
}

/// The most workgroups along an axis: what every WebGPU device takes.
pub(crate) const MOST_GROUPS: u32 = 65_535;

/// How long a dispatch took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DispatchTime {
    pub duration: Duration,
    pub clock: DispatchClock,
}

/// An entry point on a device, ready to run.
pub(crate) trait DeviceEntryPoint: Send + Sync {
    /// What runs it: `jit`, `interpreter: ` and why, `wgpu` or `cuda`.
    fn engine(&self) -> &'static str;
    /// Runs workgroups, at least one and at most [`MOST_GROUPS`] along each axis, and waits for them. The buffers are in
    /// the order of the program's bindings, of this device, and fit them.
    ///
    /// # Errors
    ///
    /// `Failed` if an invocation faulted; what the buffers hold then is not defined. `DeviceLost` and `Unavailable` as
    /// of other calls.
    fn dispatch(&self, buffers: &[Arc<dyn DeviceStorage>], groups: [u32; 3]) -> Result<DispatchTime>;
}

/// An invocation has used up its budget.
pub(crate) fn budget_error(program: &ComputeProgram) -> Error {
    let entry = program.module.functions[program.entry].name.as_deref().unwrap_or("_");
    let text = format!(
        "`{entry}`: an invocation used up its loop budget of {} iterations; set a larger one with `.loop_budget(n)`, or \
         look for a loop that does not end",
        program.loop_budget
    );
    Error::new(ErrorKind::Failed, text)
}
