//! The suite on wgpu, whatever `cargo test` runs it on otherwise, and a look at what this machine has to have.
//!
//! Runs the program that cargo made of `tests/suite` with `RINGWORK_BACKEND=wgpu`, and passes its own arguments on. A
//! harness of its own, because the one that Rust has cannot find out at run time that a test has to be ignored: where
//! there is no adapter, the suite's tests are shown as ignored, with the reason.
//!
//! `RINGWORK_REQUIRE` names backends, with commas between them, that have to be there: without one of them this fails.

mod rerun;

use ringwork::BackendKind;
use std::process::ExitCode;

fn main() -> ExitCode {
    rerun::run(|suite| {
        suite.env("RINGWORK_BACKEND", "wgpu");
        rerun::there(BackendKind::Wgpu)
    })
}
