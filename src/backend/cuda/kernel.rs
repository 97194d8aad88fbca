//! The code of a kernel: compiled, loaded, and ready to be started.

use super::driver::{self, CUfunction, CUmodule};
use super::gpu::{Gpu, Shared};
use super::nvrtc::{self, NoCode};
use crate::error::{Error, ErrorKind, Result};
use std::ffi::CStr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

/// A loaded module and its one kernel.
pub(super) struct Code {
    gpu: Weak<Gpu>,
    module: Shared<CUmodule>,
    pub function: Shared<CUfunction>,
    /// It has run.
    pub is_warm: AtomicBool,
}

impl Code {
    /// Loads an image, if it can be made; `refused` says what it means if not.
    pub fn load(
        gpu: &Arc<Gpu>,
        name: &str,
        kernel: &CStr,
        image: impl FnOnce() -> Result<Vec<u8>, NoCode>,
        refused: &str,
    ) -> Result<Self> {
        let image = image().map_err(|why| match why {
            NoCode::Refused(why) => Error::new(ErrorKind::Rejected, format!("{refused}: {why}")),
            NoCode::NoCompiler(why) => driver::unavailable(format!(
                "{why}, and the code of {name} is not in the cache on disk; {}",
                nvrtc::remedy()
            )),
        })?;
        gpu.bind()?;
        let loaded = gpu.quietly(|| {
            // SAFETY: made by NVRTC, whole; what the cache had of it is that to the last bit.
            let module = unsafe { driver::load(&image) }?;
            // SAFETY: just loaded.
            Ok((module, unsafe { driver::function(module, kernel) }?))
        });
        let (module, function) =
            loaded.map_err(|refusal| gpu.refused(&format!("the code of {name}"), refusal))?;
        Ok(Self {
            gpu: Arc::downgrade(gpu),
            module: Shared(module),
            function: Shared(function),
            is_warm: AtomicBool::new(false),
        })
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // Whoever drops the last one is the device itself, or does it quietly. What is left when the device goes, goes
        // with its context.
        if let Some(gpu) = self.gpu.upgrade()
            && gpu.bind().is_ok()
        {
            // SAFETY: every kernel of it keeps it.
            unsafe { driver::unload(self.module.0) };
        }
    }
}
