//! A compiled entry point, kept like a handler: shared by all who ask for the same one.

use super::group::{GroupProgram, group};
use super::{ComputeProgram, ComputeSource};
use crate::compile::cache::{Key, Store};
use crate::compile::{HandlerEngine, executable};
use crate::error::Result;
use crate::sync::{Mutex, lock};
use std::sync::Arc;

/// An entry point and what the CPU runs it with.
pub(crate) struct CompiledCompute {
    pub program: ComputeProgram,
    /// Names it: its text, its constants, its budget.
    pub key: Key,
    on_cpu: Mutex<Option<Arc<OnCpu>>>,
    kept: Arc<Store>,
}

/// What runs workgroups on the CPU.
pub(crate) struct OnCpu {
    pub engine: Arc<HandlerEngine>,
    /// `jit`, or `interpreter: ` and why.
    pub name: &'static str,
    /// As of [`GroupProgram`].
    pub memory: Vec<usize>,
    pub zeroed: usize,
    pub takes_rows: bool,
    pub privates_size: usize,
}

impl CompiledCompute {
    pub fn new(program: ComputeProgram, key: Key, kept: Arc<Store>) -> Self {
        Self { program, key, on_cpu: Mutex::new(None), kept }
    }

    /// What runs it on the CPU; made by the first caller while the others wait.
    ///
    /// # Errors
    ///
    /// As [`group()`].
    pub fn on_cpu(&self) -> Result<Arc<OnCpu>> {
        let mut on_cpu = lock(&self.on_cpu);
        if let Some(made) = &*on_cpu {
            return Ok(made.clone());
        }
        let GroupProgram { program, memory, zeroed, takes_rows } = group(&self.program)?;
        let privates_size = program.privates_size as usize;
        let (engine, name) = executable(Arc::new(program), Some(&(self.kept.clone(), self.key)));
        let made = OnCpu { engine, name, memory, zeroed, takes_rows, privates_size };
        Ok(on_cpu.insert(Arc::new(made)).clone())
    }

    /// The code of a GPU for it: what is kept under all that went into it, or else it is built.
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
        crate::compile::cache::gpu_code(&self.kept, &self.key, question, compiler, build)
    }
}

/// The key of an entry point that compiles; what only words an error is not in it.
pub(in crate::compile) fn key(source: &ComputeSource<'_>) -> Key {
    let ComputeSource { name: _, text, entry, constants, loop_budget, draft: _ } = source;
    let mut key =
        crate::compile::cache::KeyBuilder::new("compute").text(text).text(entry).number(*loop_budget);
    key = key.number(constants.len() as u64);
    for (name, value) in *constants {
        key = key.text(name).number(value.to_bits());
    }
    key.finish()
}
