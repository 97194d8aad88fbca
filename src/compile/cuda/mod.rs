//! CUDA C++ for handlers: the lowered module, written in the words of `shaders/cuda/handler.cuh`.
//!
//! [`write`] is the way in. What it gives compiles with NVRTC for a GPU and, with `RT_HOST` defined, with any C++17
//! compiler for a test. Whoever compiles it appends a driver, which finds these, in this order:
//!
//! * `RtMessage`, `RtState`, `RtReply`: WGSL's layout; `unsigned` where the handler has none, which
//!   `RT_HAS_MESSAGE`, `RT_HAS_STATE` and `RT_HAS_REPLY` say as 0 or 1;
//! * `RtPrivates`: the private segment, where emitted values and their counts are as [`Program::emits`] says;
//! * `unsigned rt_run(const RtMessage&, RtState&, RtReply&, RtPrivates&, const RtTable*, volatile const unsigned* stop)`,
//!   which runs one message: 0 done, 1 and 2 a [`FaultCode`](super::FaultCode), 3 interrupted by the stop word. On
//!   anything but 0 the caller discards state, reply and privates.
//!
//! [`write_twin`] puts the same around a handler that its user wrote in CUDA C++.

mod compute;
mod declare;
mod expression;
mod function;
mod math;
mod statement;
#[cfg(test)]
mod tests;
mod text;
mod twin;
mod types;

#[cfg(test)]
pub(super) use tests::{HostHandler, host_handler};

pub(crate) use compute::{MOST_TABLES, write_compute};

use super::Program;
use text::Text;
pub(crate) use twin::write_twin;

/// The run-time header, which each text begins with: its files, each by its name in messages of a compiler.
const HEADER: &str = concat!(
    "#line 1 \"ringwork/handler.cuh\"\n",
    include_str!("../../../shaders/cuda/handler.cuh"),
    "#line 1 \"ringwork/memory.cuh\"\n",
    include_str!("../../../shaders/cuda/memory.cuh"),
    "#line 1 \"ringwork/machine.cuh\"\n",
    include_str!("../../../shaders/cuda/machine.cuh"),
    "#line 1 \"ringwork/scalar.cuh\"\n",
    include_str!("../../../shaders/cuda/scalar.cuh"),
    "#line 1 \"ringwork/vector.cuh\"\n",
    include_str!("../../../shaders/cuda/vector.cuh"),
    "#line 1 \"ringwork/packing.cuh\"\n",
    include_str!("../../../shaders/cuda/packing.cuh"),
);

/// A handler in CUDA C++.
pub(crate) struct CudaSource {
    /// The header and the handler; nothing else is needed to compile it.
    pub text: String,
}

/// Writes a program in CUDA C++. Messages of a C++ compiler name `source_name` and the line in the user's WGSL.
pub(crate) fn write(program: &Program, source_name: &str) -> CudaSource {
    let body = write_body(program, source_name);
    CudaSource { text: format!("{HEADER}{body}") }
}

/// What comes behind the header.
fn write_body(program: &Program, source_name: &str) -> String {
    let mut text = Text::new(&program.text, source_name);
    declare::declare(program, &mut text);
    text.finish()
}
