//! Compiled handlers, kept: in [memory](memory) those used last, in a [folder](disk) what is dear to make.
//!
//! A [`Cache`] belongs to a runtime. It gives out [`Handler`]s: a lowered program and the engine that runs it, both
//! shared by all kernels that have the same handler. Whoever makes code that is worth keeping (machine code, a cubin,
//! a pipeline cache) gets the [`Store`] and calls [`Store::get_or_build`]; what it is given back is checked to be what
//! was kept under the [`Key`], to the last bit, and never trusted to be more.

mod disk;
mod entry;
mod folder;
mod key;
mod memory;
mod origin;
mod settings;
mod statistics;
#[cfg(test)]
mod tests;

pub use settings::CacheSettings;
pub(crate) use settings::VARIABLE;
pub use statistics::CacheStatistics;

use super::{HandlerEngine, HandlerSource, Program, compile, executable};
use crate::error::Result;
use crate::sync::{Mutex, lock};
pub(crate) use disk::Store;
pub(crate) use key::Key;
#[cfg(feature = "jit")]
pub(crate) use key::KeyBuilder;
use memory::{Memory, MemoryCounts};
use std::ffi::OsStr;
use std::sync::Arc;

/// A compiled handler, shared by all kernels that have it.
pub(crate) struct Handler {
    /// For what plans with it, and for engines to compile.
    pub program: Arc<Program>,
    /// Beside the program and not in it: engines hold the program. Under a lock of ours and no `OnceLock`, which
    /// ThreadSanitizer cannot look into.
    engine: Mutex<Option<(Arc<HandlerEngine>, &'static str)>>,
    /// Where its code is kept, and the key of the handler.
    kept: Option<(Arc<Store>, Key)>,
}

impl Handler {
    /// One whose code is kept there, if anywhere.
    pub fn new(program: Program, kept: Option<(Arc<Store>, Key)>) -> Self {
        Self { program: Arc::new(program), engine: Mutex::new(None), kept }
    }

    /// The engine that runs the handler on the CPU, and its name; made by the first caller while the others wait.
    pub fn executable(&self) -> (Arc<HandlerEngine>, &'static str) {
        lock(&self.engine).get_or_insert_with(|| executable(self.program.clone(), self.kept.as_ref())).clone()
    }
}

/// A runtime's compiled handlers.
pub(crate) struct Cache {
    handlers: Memory<Arc<Handler>>,
    store: Arc<Store>,
}

impl Cache {
    /// A cache as the settings say; `variable` is what [`VARIABLE`] says.
    ///
    /// # Errors
    ///
    /// Invalid, for a setting out of its bounds. A folder that cannot be used is no error.
    pub fn new(settings: &CacheSettings, variable: Option<&OsStr>) -> Result<Self> {
        let settings = settings.resolve(variable)?;
        Ok(Self {
            handlers: Memory::new(settings.memory_capacity),
            store: Arc::new(Store::new(settings.folder, settings.disk_capacity)),
        })
    }

    /// The compiled form of a handler: the one that is kept, or else it is compiled.
    ///
    /// # Errors
    ///
    /// As [`compile`].
    pub fn handler(&self, source: &HandlerSource<'_>) -> Result<Arc<Handler>> {
        let key = key::handler(source);
        let build = || Ok(Arc::new(Handler::new(compile(source)?, Some((self.store.clone(), key)))));
        let handler = self.handlers.get_or_build(key, build)?;
        if handler.program.fits(source.tables) {
            return Ok(handler);
        }
        // It was compiled for longer tables than these: the compiler says where they are declared.
        build()
    }

    pub fn statistics(&self) -> CacheStatistics {
        let MemoryCounts { hits, misses, evictions, entries } = self.handlers.counts();
        let mut statistics = CacheStatistics {
            hits,
            misses,
            evictions,
            entries,
            capacity: self.handlers.capacity(),
            ..CacheStatistics::default()
        };
        self.store.report(&mut statistics);
        statistics
    }

    /// Forgets all handlers, here and on disk. Kernels that run keep theirs.
    ///
    /// # Errors
    ///
    /// Unavailable, if something on disk could not be removed.
    pub fn clear(&self) -> Result<()> {
        self.handlers.clear();
        self.store.clear()
    }
}
