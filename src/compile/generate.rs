//! Generated handlers: whole WGSL programs made at random, valid by construction, that shrink to small readable ones.
//!
//! They are how engines are compared. [`strategy`] makes a [`GeneratedHandler`], [`run_series`] sends its messages
//! through an engine, and two engines agree if their [`Trace`]s are equal; [`check`] does that for many handlers and
//! prints the smallest that fails. `RINGWORK_GENERATED` is how many, `RINGWORK_GENERATED_SEED` where to begin.
//! What once failed is kept in `regressions/` and runs first.

mod ast;
mod batch_mutants;
mod batches;
mod build;
mod builtins;
mod check;
mod coverage;
mod handler;
mod mutants;
mod print;
mod random;
mod rules;
mod shapes;
mod shrink;
mod tests;
mod trace;

pub(crate) use builtins::Floats;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(crate) use check::count;
pub(crate) use check::{check, engines};
pub(crate) use handler::GeneratedHandler;
pub(crate) use shrink::Handlers;
#[cfg(feature = "wgpu")]
pub(crate) use trace::{Step, run_instances};
pub(crate) use trace::{Trace, run_series};

/// Handlers that use floats as far as `floats` says.
pub(crate) fn strategy(floats: Floats) -> Handlers {
    Handlers { floats }
}

/// The handlers that once failed, with the names of their files.
pub(crate) fn regressions() -> impl Iterator<Item = (String, GeneratedHandler)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/compile/generate/regressions");
    let files = std::fs::read_dir(folder).expect("the folder of regressions is there");
    let paths = files.map(|file| file.expect("the folder can be read").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "wgsl")).map(|path| {
        let read = |path| std::fs::read_to_string(path).expect("each handler has two files");
        let handler = GeneratedHandler::read(&read(path.clone()), &read(path.with_extension("data")));
        (path.display().to_string(), handler)
    })
}
