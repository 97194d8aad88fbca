//! The text on a host: compiled by `g++` through the header's host part, loaded, and compared with the interpreter.
//! It shows that the text computes the right things; of GPUs it shows nothing.

mod engine;
mod entry_points;
mod functions;
mod generated;
mod nvrtc;
mod published;
mod realistic;
mod shape;

pub(in crate::compile) use engine::HostHandler;

use crate::compile::Program;
use std::sync::Arc;

/// A handler for the tests of all engines, if `RINGWORK_CUDA` is set: each is a compilation of its own. With NVRTC's path
/// in `RINGWORK_NVRTC`, that has to take it too. `None` also for a handler with functions that are the host's own.
pub(in crate::compile) fn host_handler(program: &Arc<Program>) -> Option<HostHandler> {
    let is_wanted = std::env::var_os("RINGWORK_CUDA").is_some() && engine::has_compiler();
    if is_wanted && std::env::var_os("RINGWORK_NVRTC").is_some() {
        nvrtc::compile(program);
    }
    (is_wanted && is_exact(program)).then(|| engine::build_one(program.clone()))
}

/// Has a program no function whose last bits are left open?
fn is_exact(program: &Program) -> bool {
    use naga::MathFunction as M;
    let functions = program.functions.iter().map(|function| &program.module.functions[*function]);
    functions.flat_map(|function| function.expressions.iter()).all(|(_, expression)| match expression {
        naga::Expression::Math { fun, .. } => !matches!(
            fun,
            M::Cos
                | M::Cosh
                | M::Sin
                | M::Sinh
                | M::Tan
                | M::Tanh
                | M::Acos
                | M::Asin
                | M::Atan
                | M::Atan2
                | M::Asinh
                | M::Acosh
                | M::Atanh
                | M::Exp
                | M::Exp2
                | M::Log
                | M::Log2
                | M::Pow
        ),
        _ => true,
    })
}
