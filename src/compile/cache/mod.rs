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

use super::compute::{self, CompiledCompute, ComputeSource};
use super::{HandlerEngine, HandlerSource, Program, compile, executable};
use crate::error::Result;
use crate::sync::{Mutex, lock};
pub(crate) use disk::Store;
pub(crate) use key::Key;
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

    /// Where what is made of it is kept, if anywhere, and its key.
    #[cfg(feature = "wgpu")]
    pub fn kept(&self) -> Option<&(Arc<Store>, Key)> {
        self.kept.as_ref()
    }

    /// The engine that runs the handler on the CPU, and its name; made by the first caller while the others wait.
    pub fn executable(&self) -> (Arc<HandlerEngine>, &'static str) {
        lock(&self.engine).get_or_insert_with(|| executable(self.program.clone(), self.kept.as_ref())).clone()
    }

    /// The code of a GPU for this handler: what is kept under all that went into it, or else it is built.
    ///
    /// What another version of the compiler made is built once more. Where there is no compiler, any version's will do.
    ///
    /// # Errors
    ///
    /// What `build` says.
    #[cfg(feature = "cuda")]
    pub fn gpu_code<E>(
        &self,
        question: &[&str],
        compiler: Option<&str>,
        build: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let Some((store, handler)) = &self.kept else { return build() };
        gpu_code(store, handler, question, compiler, build)
    }

    /// As [`gpu_code`](Self::gpu_code), for what is the same for all handlers.
    ///
    /// # Errors
    ///
    /// What `build` says.
    #[cfg(feature = "cuda")]
    pub fn driver_code<E>(
        &self,
        question: &[&str],
        compiler: Option<&str>,
        build: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let Some((store, _)) = &self.kept else { return build() };
        gpu_code(store, &KeyBuilder::new("no handler").finish(), question, compiler, build)
    }
}

/// The code of a GPU for what has this key: what is kept under all that went into it, or else it is built.
///
/// # Errors
///
/// What `build` says.
#[cfg(feature = "cuda")]
pub(super) fn gpu_code<E>(
    store: &Store,
    of: &Key,
    question: &[&str],
    compiler: Option<&str>,
    build: impl FnOnce() -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let key = KeyBuilder::new("gpu code").bytes(of.bytes());
    let key = question.iter().fold(key, |key, part| key.text(part)).finish();
    // The compiler's version, a zero, the code.
    let load = |kept: &[u8]| {
        let end = kept.iter().position(|byte| *byte == 0)?;
        let fits = compiler.is_none_or(|compiler| compiler.as_bytes() == &kept[..end]);
        fits.then(|| kept[end + 1..].to_vec())
    };
    let keep = |code: Vec<u8>| {
        let kept = [compiler.unwrap_or_default().as_bytes(), &[0], &code].concat();
        (code, kept)
    };
    store.get_or_build(&key, load, || build().map(keep))
}

/// A runtime's compiled handlers.
pub(crate) struct Cache {
    handlers: Memory<Arc<Handler>>,
    computes: Memory<Arc<CompiledCompute>>,
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
            computes: Memory::new(settings.memory_capacity),
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

    /// The compiled form of a compute entry point: the one that is kept, or else it is compiled. `None` for a draft without
    /// all values, which is of no use to anybody.
    ///
    /// # Errors
    ///
    /// As [`compute::compile`].
    pub fn compute(&self, source: &ComputeSource<'_>) -> Result<Option<Arc<CompiledCompute>>> {
        let key = compute::key(source);
        let build = |program| Arc::new(CompiledCompute::new(program, key, self.store.clone()));
        if source.draft && source.text.contains("override") {
            let program = compute::compile(source)?;
            return Ok(program.filter(|program| !program.is_draft).map(build));
        }
        let made = self.computes.get_or_build(key, || {
            Ok(build(compute::compile(source)?.expect("not a draft, or one without overrides")))
        });
        made.map(Some)
    }

    pub fn statistics(&self) -> CacheStatistics {
        let (handlers, computes) = (self.handlers.counts(), self.computes.counts());
        let MemoryCounts { hits, misses, evictions, entries } = MemoryCounts {
            hits: handlers.hits + computes.hits,
            misses: handlers.misses + computes.misses,
            evictions: handlers.evictions + computes.evictions,
            entries: handlers.entries + computes.entries,
        };
        let mut statistics = CacheStatistics {
            hits,
            misses,
            evictions,
            entries,
            capacity: self.handlers.capacity() + self.computes.capacity(),
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
        self.computes.clear();
        self.store.clear()
    }
}
