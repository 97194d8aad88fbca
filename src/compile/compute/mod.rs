//! Compute entry points: the same front, lowering and engines as handlers have.
//!
//! [`compile`] gives a [`ComputeProgram`]: the lowered module, in which the entry point is a plain function, and what is
//! bound to it. GPUs get that with an entry point around it; on the CPU
//! [`group`](mod@group) makes a program of it that runs a whole workgroup as a handler runs one message.

mod compiled;
#[cfg(feature = "wgpu")]
pub(crate) mod device;
mod fission;
pub(crate) mod group;
pub(in crate::compile) mod inline;
mod invocations;
mod segment;
pub(in crate::compile) mod uniform;
mod within;

pub(in crate::compile) use compiled::key;
pub(crate) use compiled::{CompiledCompute, OnCpu};

use super::{front, lower, on_compile_thread, too_large};
use crate::error::Result;
use naga::valid::ModuleInfo;
use naga::{Function, GlobalVariable, Handle, Module, Type};

/// Names and text of a compute entry point, with the values of its overrides.
pub(crate) struct ComputeSource<'a> {
    /// Names the file in error messages.
    pub name: &'a str,
    /// The user's WGSL.
    pub text: &'a str,
    /// The entry point.
    pub entry: &'a str,
    /// Values of `override` constants, by name.
    pub constants: &'a [(String, f64)],
    /// Loop iterations of an invocation between two barriers, and rounds of loops with barriers; at least 1.
    pub loop_budget: u32,
    /// Only to find errors: an override without a value gets one, and what may be wrong for that is none.
    pub draft: bool,
}

/// The most invocations of a workgroup, and the most along x, y and z: what every WebGPU device has.
pub(crate) const MOST_INVOCATIONS: u32 = 256;
pub(crate) const MOST_ALONG: [u32; 3] = [256, 256, 64];
/// Bytes of workgroup memory that every WebGPU device has.
pub(crate) const MOST_WORKGROUP_MEMORY: u32 = 16 << 10;
/// Buffers of an entry point, at most: of the eight that every WebGPU device has, one tells of faults.
pub(crate) const MOST_BINDINGS: usize = 7;

/// What an entry point is told about where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    GlobalInvocationId,
    LocalInvocationId,
    LocalInvocationIndex,
    WorkgroupId,
    NumWorkgroups,
}

/// A parameter of an entry point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    One(Builtin),
    /// A struct of them.
    Struct(Vec<Builtin>),
}

/// How an entry point uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
    Uniform,
}

/// A buffer that an entry point uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    pub name: String,
    /// Where it is declared, as `file:line:column`.
    pub place: String,
    pub group: u32,
    pub binding: u32,
    pub access: Access,
    /// Written other than by atomics.
    pub is_stored: bool,
    pub global: Handle<GlobalVariable>,
    /// Bytes of what one Rust element has to be: of an array its stride, of a struct that ends with one a word, of
    /// anything else all of it.
    pub element_size: u32,
    /// Bytes of the shortest buffer that will do.
    pub least: u32,
    /// The WGSL type of an element, for errors.
    pub element: String,
    /// `f32`, `i32` or `u32`, if an element is one scalar.
    pub scalar: Option<&'static str>,
}

/// A compute entry point that passed every check, lowered.
pub(crate) struct ComputeProgram {
    /// Names the file in error messages.
    pub name: String,
    /// The user's text followed by the library's; spans of the module point into it.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "for messages of a C++ compiler"))]
    pub text: String,
    /// The lowered module, without entry points.
    pub module: Module,
    /// naga's facts about it.
    pub info: ModuleInfo,
    /// The function that was the entry point.
    pub entry: Handle<Function>,
    /// What `entry` reaches, callees before callers; `entry` is last.
    pub functions: Vec<Handle<Function>>,
    pub parameters: Vec<Parameter>,
    pub workgroup_size: [u32; 3],
    /// By group and binding.
    pub bindings: Vec<Binding>,
    /// Workgroup variables that the entry point uses, and the bytes of each.
    pub workgroup_variables: Vec<(Handle<GlobalVariable>, u32)>,
    /// A loop can run: the budget can be exhausted.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "for devices that have to be asked for faults")
    )]
    pub has_loops: bool,
    pub has_barriers: bool,
    /// Some override had no value, and has one that stands for it.
    pub is_draft: bool,
    pub loop_budget: u32,
    pub library: lower::Library,
}

impl ComputeProgram {
    /// Invocations of a workgroup.
    pub fn invocations(&self) -> u32 {
        self.workgroup_size.iter().product()
    }
}

/// Parses a compute entry point, checks and lowers it. A draft that may be right once its constants have their values is
/// `None`.
///
/// # Errors
///
/// `Rejected`, with file, line and column in the user's text, what is wrong there and what to write instead.
pub(crate) fn compile(source: &ComputeSource<'_>) -> Result<Option<ComputeProgram>> {
    on_compile_thread(source.text.len(), too_large(source.name), || {
        let parsed = front::parse_compute(source)?;
        parsed.map(|parsed| lower::lower_compute(parsed, source.loop_budget)).transpose()
    })
}

/// The handle of a type, which is made if there is none.
fn type_handle(module: &mut Module, inner: naga::TypeInner) -> Handle<Type> {
    module.types.insert(Type { name: None, inner }, naga::Span::UNDEFINED)
}
