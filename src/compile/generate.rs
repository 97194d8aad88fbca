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
pub(crate) use check::{check, count, engines};
pub(crate) use handler::GeneratedHandler;
pub(crate) use shrink::Handlers;
pub(crate) use trace::{Step, Trace, run_series};

/// Handlers that use floats as far as `floats` says.
pub(crate) fn strategy(floats: Floats) -> Handlers {
    Handlers { floats }
}
