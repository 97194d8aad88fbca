//! The suite on CUDA, on an emulated driver: its own code, unchanged, but for the device (`tests/cuda/README.md`). What
//! passes here is not yet said to run on a GPU.
//!
//! Builds the emulation with g++, and runs the program that cargo made of `tests/suite` with it in the place of the
//! driver and of NVRTC. Arguments are passed on. Where there is no g++, the suite's tests are shown as ignored.

#[path = "cuda/build.rs"]
mod build;
mod rerun;

use std::process::ExitCode;

fn main() -> ExitCode {
    rerun::run(|suite| {
        let folder = match build::emulation() {
            // A mistake in it is no reason to test nothing.
            Err(refused) if refused.starts_with(build::REFUSED) => {
                eprintln!("{refused}");
                std::process::exit(1);
            }
            other => other?,
        };
        suite.env("RINGWORK_BACKEND", "cuda").env("LD_LIBRARY_PATH", folder);
        Ok(())
    })
}
