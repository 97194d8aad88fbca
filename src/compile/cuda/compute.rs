//! Compute entry points in CUDA C++: a kernel whose blocks are workgroups, `rt_compute`, in the words of
//! `shaders/cuda/compute.cuh`.

use super::declare::{Global, Module};
use super::function::Functions;
use super::text::Text;
use super::types::identifier;
use super::{CudaSource, HEADER};
use crate::compile::TableUse;
use crate::compile::compute::{Builtin, ComputeProgram, Parameter};
use crate::compile::lower;
use crate::compile::program::{Program, Signature};
use crate::message::Layout;
use naga::proc::Layouter;

/// What `rt_compute` takes, and what barriers are.
const DRIVER: &str = include_str!("../../../shaders/cuda/compute.cuh");

/// Buffers that `rt_compute` takes at most; `shaders/cuda/compute.cuh`.
pub(crate) const MOST_TABLES: usize = 8;

const NOTHING: &Layout = &Layout { name: "", size: 0, align: 1, fields: &[] };

/// Writes an entry point. Messages of a C++ compiler name `source_name` and the line in the user's WGSL.
pub(crate) fn write_compute(compute: &ComputeProgram, source_name: &str) -> CudaSource {
    let program = as_program(compute);
    let mut text = Text::new(&compute.text, source_name);
    let module = Module::new(&program);
    text.own("RT_BEGIN_HANDLER");
    module.types.declare(&mut text);
    text.leave_source();
    module.declare_privates(&mut text);
    let has_shared = !compute.workgroup_variables.is_empty();
    // Other entry points of the text may have workgroup memory, to which the context then has a pointer.
    text.own("struct RtShared;");
    if has_shared {
        text.own("struct alignas(16) RtShared {");
        for (global, _) in &compute.workgroup_variables {
            let variable = &program.module.global_variables[*global];
            let name = identifier('g', global.index(), variable.name.as_deref());
            text.own(format!("    alignas(16) {} {name};", module.types.name(variable.ty)));
        }
        text.own("};");
    }
    module.declare_context(&mut text);
    let mut functions = Functions::new(&module);
    for handle in &program.functions {
        functions.write(*handle, &mut text);
    }
    text.leave_source();
    define_kernel(compute, &module, has_shared, &mut text);
    text.own("RT_END_HANDLER");
    let text = format!("{HEADER}#line 1 \"ringwork/compute.cuh\"\n{DRIVER}{}", text.finish());
    CudaSource { text }
}

/// An entry point as the writer of handlers takes it.
fn as_program(compute: &ComputeProgram) -> Program {
    let module = compute.module.clone();
    let mut layouter = Layouter::default();
    // The types of a valid module.
    layouter.update(module.to_ctx()).expect("lowering laid the same types out");
    let (privates, privates_size) = lower::lay_out_privates(&module, &layouter);
    let tables = compute.bindings.iter().map(|binding| TableUse {
        name: binding.name.clone(),
        binding: binding.binding,
        writable: binding.access == crate::compile::compute::Access::ReadWrite,
    });
    Program {
        text: compute.text.clone(),
        signature: Signature {
            message: NOTHING,
            reply: NOTHING,
            outputs: Vec::new(),
            loop_budget: compute.loop_budget,
        },
        info: compute.info.clone(),
        entry: compute.entry,
        functions: compute.functions.clone(),
        has_message: false,
        state: None,
        instance_at: None,
        takes_batches: false,
        has_loops: compute.has_loops,
        writes_tables: true,
        tables: tables.collect(),
        table_globals: compute.bindings.iter().map(|binding| binding.global).collect(),
        stored_tables: compute.bindings.iter().map(|binding| binding.is_stored).collect(),
        privates,
        privates_size,
        emits: Vec::new(),
        fault: compute.library.fault,
        module,
    }
}

/// Defines `rt_compute`: one invocation is a thread.
fn define_kernel(compute: &ComputeProgram, module: &Module<'_>, has_shared: bool, text: &mut Text) {
    let program = module.program;
    let [x, y, z] = compute.workgroup_size;
    text.own(format!(
        "extern \"C\" __global__ void __launch_bounds__({}) rt_compute(RtDispatch dispatch) {{",
        compute.invocations()
    ));
    text.indent();
    text.own("RtVector<unsigned, 3u> local{{threadIdx.x, threadIdx.y, threadIdx.z}};");
    text.own("RtVector<unsigned, 3u> group{{blockIdx.x, blockIdx.y, blockIdx.z}};");
    text.own("RtVector<unsigned, 3u> groups{{gridDim.x, gridDim.y, gridDim.z}};");
    text.own(format!("unsigned index = local.v[0] + {x}u * (local.v[1] + {y}u * local.v[2]);"));
    text.own(format!(
        "RtVector<unsigned, 3u> global{{{{group.v[0] * {x}u + local.v[0], group.v[1] * {y}u + local.v[1], \
         group.v[2] * {z}u + local.v[2]}}}};"
    ));
    text.own("RtPrivates privates;");
    text.own("RtContext context;");
    text.own("context.privates = &privates;");
    text.own("context.budget.interrupted = false;");
    text.own("context.budget.stop = dispatch.stop;");
    text.own(format!("rt_begin(context.budget, {}u);", compute.loop_budget));
    if has_shared {
        text.own("__shared__ RtShared shared;");
        text.own(format!(
            "rt_clear((unsigned*)&shared, sizeof(RtShared) / 4u, index, {}u);",
            compute.invocations()
        ));
        text.own("context.shared = &shared;");
    }
    for (number, global) in program.table_globals.iter().enumerate() {
        module.define_table(number, program.module.global_variables[*global].ty, "dispatch.tables", text);
    }
    for slot in &program.privates {
        let variable = &program.module.global_variables[slot.global];
        let place = match &module.globals[&slot.global] {
            Global::Register(name) => format!("context.{name}"),
            Global::Segment(name) => format!("privates.{name}"),
            _ => continue,
        };
        let value = match variable.init {
            Some(init) => super::function::constant(module, &program.module.global_expressions, init),
            None => format!("{}{{}}", module.types.name(variable.ty)),
        };
        text.own(format!("{place} = {value};"));
    }
    let entry = &program.module.functions[program.entry];
    let mut arguments = vec!["context".to_string()];
    for (argument, parameter) in entry.arguments.iter().zip(&compute.parameters) {
        arguments.push(match parameter {
            Parameter::One(builtin) => named(*builtin).to_string(),
            Parameter::Struct(builtins) => {
                let members: Vec<_> = builtins.iter().map(|builtin| named(*builtin).to_string()).collect();
                module.types.compose(argument.ty, &members)
            }
        });
    }
    let name = identifier('f', program.entry.index(), entry.name.as_deref());
    text.own(format!("{name}({});", arguments.join(", ")));
    if let Some(Global::Register(fault)) = module.globals.get(&program.fault) {
        text.own(format!("if (context.{fault} != 0u) rt_atomic_max(dispatch.fault, context.{fault});"));
    }
    text.outdent();
    text.own("}");
}

fn named(builtin: Builtin) -> &'static str {
    match builtin {
        Builtin::GlobalInvocationId => "global",
        Builtin::LocalInvocationId => "local",
        Builtin::LocalInvocationIndex => "index",
        Builtin::WorkgroupId => "group",
        Builtin::NumWorkgroups => "groups",
    }
}
