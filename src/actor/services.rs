//! What the kernels of a runtime share, and the two things they can be asked for without their types.

use super::admin::GRACE;
use super::any_kernel::AnyKernel;
use super::dead_letters::DeadLetterLog;
use super::lifecycle::KernelState;
use super::pool::Pool;
use crate::error::{Error, ErrorKind, Result};
use crate::message::TokenPrefix;
use crate::sync::{Mutex, MutexGuard, deadline_in, lock};
use std::sync::Arc;
use std::time::Duration;

/// What all kernels of a runtime share.
pub(crate) struct Services {
    pub pool: Pool,
    pub prefix: TokenPrefix,
    pub dead_letters: DeadLetterLog,
    /// The running kernels by name, and the links between them by id.
    pub registry: Mutex<Registry>,
}

/// See [`Services::registry`].
#[derive(Default)]
pub(crate) struct Registry {
    pub kernels: std::collections::BTreeMap<String, Arc<dyn AnyKernel>>,
    /// Names whose kernel is being made.
    pub reserved: std::collections::BTreeSet<String>,
    pub edges: Vec<(u64, u64)>,
    /// The runtime has been shut down.
    pub closed: bool,
}

/// A name that is kept, until this is dropped: also by a panic.
pub(super) struct Reserved<'a> {
    services: &'a Services,
    name: &'a str,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.services.registry().reserved.remove(self.name);
    }
}

impl Registry {
    /// May kernels still be launched?
    pub(super) fn check_open(&self) -> Result<()> {
        if self.closed {
            return Err(Error::new(ErrorKind::Terminated, "the runtime has been shut down"));
        }
        Ok(())
    }

    /// Does a kernel have this name? One that is terminated may still be delivering its last values.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        let running = self.kernels.get(name).filter(|kernel| kernel.state() != KernelState::Terminated);
        running.is_some() || self.reserved.contains(name)
    }
}

impl Services {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    /// Keeps a name for a kernel that is being made.
    ///
    /// # Errors
    ///
    /// `Invalid` if it is empty or a kernel has it, `Terminated` after a shutdown.
    pub(super) fn reserve<'a>(&'a self, name: &'a str) -> Result<Reserved<'a>> {
        if name.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "a kernel's name is empty"));
        }
        let mut registry = self.registry();
        registry.check_open()?;
        if registry.is_taken(name) {
            let text = format!(
                "a kernel named `{name}` is running already; terminate it first, or take another name"
            );
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        registry.reserved.insert(name.to_owned());
        Ok(Reserved { services: self, name })
    }

    /// Forgets a kernel that has ended: its name is free.
    pub(super) fn unregister(&self, name: &str, id: u64) {
        let mut registry = self.registry();
        registry.edges.retain(|edge| edge.0 != id && edge.1 != id);
        let gone = registry.kernels.get(name).is_some_and(|kernel| kernel.id() == id);
        let kernel = if gone { registry.kernels.remove(name) } else { None };
        drop(registry);
        // Dropped outside of the lock: it may be the last reference.
        drop(kernel);
    }

    /// Ends all kernels, sources of links first, and the threads that drive them.
    pub(super) fn shutdown(&self, timeout: Duration) -> Result<()> {
        let kernels = {
            let mut registry = self.registry();
            registry.closed = true;
            sources_first(&registry)
        };
        let deadline = deadline_in(timeout);
        let grace = deadline_in(timeout.saturating_add(GRACE));
        let mut left = Vec::new();
        for kernel in kernels {
            let name = kernel.name().to_owned();
            if !kernel.end(deadline, grace) {
                left.push(format!("`{name}`"));
            }
        }
        self.pool.close();
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::timed_out(
            format!("shutdown left {} in the middle of a message: it", left.join(", ")),
            timeout,
        ))
    }
}

/// The kernels in an order in which sources of links come before their destinations, as far as there is one.
fn sources_first(registry: &Registry) -> Vec<Arc<dyn AnyKernel>> {
    let mut rest: Vec<_> = registry.kernels.values().cloned().collect();
    let mut ordered = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let fed = |id: u64, among: &[Arc<dyn AnyKernel>]| {
            registry.edges.iter().any(|edge| edge.1 == id && among.iter().any(|kernel| kernel.id() == edge.0))
        };
        let (now, later): (Vec<_>, Vec<_>) = if registry.edges.is_empty() {
            (std::mem::take(&mut rest), Vec::new())
        } else {
            rest.iter().cloned().partition(|kernel| !fed(kernel.id(), &rest))
        };
        if now.is_empty() {
            // A cycle: any order will do.
            ordered.append(&mut rest);
            break;
        }
        ordered.extend(now);
        rest = later;
    }
    ordered
}

/// Whatever can make a source of a link go on when there is room again.
pub(crate) trait Source: Send + Sync {
    /// There may be room now.
    fn resume(self: Arc<Self>);
}

/// A kernel that a background driver can run.
pub(crate) trait Drive: Send + Sync {
    /// Runs handlers for a while.
    fn drive(self: Arc<Self>);
}
