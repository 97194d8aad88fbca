//! What [`compile`](super::compile) makes: a lowered module and the facts that backends plan with.

use super::{EmitSlot, OutputDecl, TableDecl, TableUse};
use crate::message::Layout;
use naga::valid::ModuleInfo;
use naga::{ArraySize, Function, GlobalVariable, Handle, Module, TypeInner};

/// A handler that passed every check, lowered: the input of every engine.
///
/// Engines run [`entry`](Self::entry), whose signature is that of `on_message`, and then look at `rt_fault`. What
/// lowering guarantees and what engines still owe is written down in `lower.rs`.
pub(crate) struct Program {
    /// The user's text followed by the library's; spans of the module point into it.
    #[cfg_attr(
        not(any(test, feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "for whoever joins the handler with more text")
    )]
    pub text: String,
    /// What the handler was compiled for.
    #[cfg_attr(
        not(any(test, feature = "cuda", feature = "jit", feature = "wgpu")),
        expect(dead_code, reason = "for machine code, and for whoever joins the handler with more text")
    )]
    pub signature: Signature,
    /// The lowered module; it has no entry points of a pipeline.
    pub module: Module,
    /// naga's facts about `module`.
    pub info: ModuleInfo,
    /// `rt_handle`: resets the private variables, then calls `on_message` with its own arguments.
    pub entry: Handle<Function>,
    /// What `entry` reaches, callees before callers; `entry` is last.
    pub functions: Vec<Handle<Function>>,
    /// The handler takes a message (false only where the message type is the unit type).
    pub has_message: bool,
    /// The handler's state, if its signature has one.
    pub state: Option<StateFacts>,
    /// The byte of a message where the number of its instance is, if the kernel has instances.
    #[cfg_attr(
        not(any(test, feature = "jit")),
        expect(dead_code, reason = "only machine code is made for one place")
    )]
    pub instance_at: Option<u32>,
    /// It can be run on many messages at once.
    #[cfg_attr(
        not(feature = "jit"),
        expect(dead_code, reason = "only machine code has a way of its own for them")
    )]
    pub takes_batches: bool,
    /// A loop can run: the budget can be exhausted, a run can be long.
    pub has_loops: bool,
    /// A table can be written other than by atomics.
    pub writes_tables: bool,
    /// Declared tables in the order of their bindings; `Frame::tables` follows it.
    pub tables: Vec<TableUse>,
    /// The handles of the tables' variables, in the same order.
    pub table_globals: Vec<Handle<GlobalVariable>>,
    /// Which of them can be written other than by atomics, in the same order.
    pub stored_tables: Vec<bool>,
    /// Where each `var<private>` is in the private segment, in WGSL layout (a `bool` takes one byte).
    pub privates: Vec<PrivateSlot>,
    /// Bytes of the private segment, a multiple of 16.
    pub privates_size: u32,
    /// In the order of the declared outputs.
    pub emits: Vec<EmitSlot>,
    /// `rt_fault`, a u32: 0, or a [`FaultCode`](super::FaultCode) after a run.
    pub fault: Handle<GlobalVariable>,
}

/// The Rust side of a handler, as far as a driver has to name it.
#[cfg_attr(
    not(any(feature = "wgpu", all(feature = "cuda", feature = "jit"))),
    expect(
        dead_code,
        reason = "machine code needs one half, whoever joins the handler with more text another"
    )
)]
pub(crate) struct Signature {
    pub message: &'static Layout,
    pub reply: &'static Layout,
    pub outputs: Vec<OutputDecl>,
    /// Loop iterations per message.
    pub loop_budget: u32,
}

/// What the second parameter of a handler points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateFacts {
    /// Name of the type, as WGSL writes it.
    pub name: String,
    /// Bytes in WGSL layout.
    pub size: u32,
}

/// Where a `var<private>` is in the private segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PrivateSlot {
    pub global: Handle<GlobalVariable>,
    pub offset: u32,
    pub size: u32,
}

impl Program {
    /// The handler has state: one message at a time.
    pub fn has_state(&self) -> bool {
        self.state.is_some()
    }

    /// A loop may use up its budget, or there may be more values than its output declares.
    #[cfg(any(feature = "jit", feature = "wgpu"))]
    pub fn may_fault(&self) -> bool {
        self.has_loops || !self.emits.is_empty()
    }

    /// Bytes of the state, 0 without one.
    pub fn state_size(&self) -> u32 {
        self.state.as_ref().map_or(0, |s| s.size)
    }

    /// Bytes of the longest payload that comes out.
    #[cfg(any(feature = "jit", test))]
    pub fn longest_output(&self) -> u32 {
        self.emits.iter().map(|emit| emit.size).fold(self.signature.reply.size, u32::max)
    }

    /// Are these tables, which have the right names and elements, as long as the handler declares them? The one fact
    /// about tables that may differ between kernels with one program.
    pub fn fits(&self, bound: &[TableDecl]) -> bool {
        self.tables.iter().zip(&self.table_globals).all(|(table, global)| {
            let needed = match self.module.types[self.module.global_variables[*global].ty].inner {
                TypeInner::Array { size: ArraySize::Constant(count), .. } => count.get() as usize,
                _ => 1,
            };
            bound.iter().any(|bound| bound.name == table.name && bound.len >= needed)
        })
    }
}
