//! What the kernels of a runtime share, and the two things they can be asked for without their types.

use super::dead_letters::DeadLetterLog;
use super::pool::Pool;
use crate::error::{Error, ErrorKind, Result};
use crate::message::TokenPrefix;
use crate::sync::{Mutex, MutexGuard, lock};
use std::sync::Arc;

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
    pub kernels: std::collections::BTreeMap<String, Arc<dyn super::runtime::AnyKernel>>,
    /// Names whose kernel is being made.
    pub reserved: std::collections::BTreeSet<String>,
    pub edges: Vec<(u64, u64)>,
    /// The runtime has been shut down.
    pub closed: bool,
}

impl Registry {
    /// May kernels still be launched?
    pub(super) fn check_open(&self) -> Result<()> {
        if self.closed {
            return Err(Error::new(ErrorKind::Terminated, "the runtime has been shut down"));
        }
        Ok(())
    }
}

impl Services {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
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
