//! A handler's twin, which a user wrote in CUDA C++: what stands before and behind it, so that a driver finds in it what it
//! finds in a handler that was translated.
//!
//! What the user may use is in the documentation of `RingKernel::cuda_source`; keep both the same.

use super::HEADER;
use super::declare::Named;
use super::types::{assert_offset, scalar_name};
use crate::compile::Program;
use naga::proc::Layouter;
use naga::{ArraySize, Handle, Module, Scalar, Type, TypeInner};
use std::collections::HashSet;
use std::fmt::Write;

/// Its run-time header, which comes behind the one of all handlers.
const CALLS: &str = include_str!("../../../shaders/cuda/twin.cuh");

/// What the compiler calls the user's text in its messages.
const SOURCE: &str = "cuda_source";

/// C++'s keywords that WGSL lets one use as a name.
const KEYWORDS: [&str; 25] = [
    "and", "and_eq", "bitand", "bitor", "bool", "char", "char16_t", "char32_t", "compl", "double", "float",
    "int", "long", "not", "not_eq", "or", "or_eq", "private", "register", "short", "signed", "unsigned",
    "void", "wchar_t", "xor",
];

/// The whole text of a twin: the header, the handler's types, the user's text, the way in.
pub(crate) fn write_twin(program: &Program, twin: &str) -> String {
    let types = Types::new(&program.module);
    let mut out = format!("{HEADER}#line 1 \"ringwork/twin.cuh\"\n{CALLS}#line 1 \"ringwork\"\n");
    let named = Named::of(program);
    let outputs: Vec<_> = outputs(program).collect();
    let mut wanted = HashSet::new();
    let elements = program.table_globals.iter().map(|table| types.element(*table).0);
    let roots = [named.message, named.state, named.reply].into_iter().flatten();
    roots
        .chain(outputs.iter().map(|output| output.ty))
        .chain(elements)
        .for_each(|ty| types.collect(ty, &mut wanted));
    // In the arena what is used comes before what uses it.
    program
        .module
        .types
        .iter()
        .map(|(ty, _)| ty)
        .filter(|ty| wanted.contains(ty))
        .for_each(|ty| types.declare(ty, &mut out));
    named.write(|ty| (types.name(ty), types.size(ty)), |line| _ = writeln!(out, "{line}"));
    _ = writeln!(out, "struct alignas(16) RtPrivates {{ unsigned char bytes[{}]; }};", program.privates_size);
    context(program, &types, &outputs, &mut out);
    _ = writeln!(out, "#line 1 \"{SOURCE}\"\n{twin}\n#line 1 \"ringwork\"");
    run(program, &types, &named, &outputs, &mut out);
    out
}

/// A declared output.
struct Output<'a> {
    name: &'a str,
    ty: Handle<Type>,
    slot: &'a crate::compile::EmitSlot,
}

fn outputs(program: &Program) -> impl Iterator<Item = Output<'_>> {
    program.signature.outputs.iter().zip(&program.emits).map(|(declared, slot)| {
        let items =
            program.privates.iter().find(|private| private.offset == slot.items_offset && private.size > 0);
        let items = items.expect("lowering laid it out");
        let TypeInner::Array { base, .. } =
            program.module.types[program.module.global_variables[items.global].ty].inner
        else {
            unreachable!("the library declares it as an array")
        };
        Output { name: &declared.name, ty: base, slot }
    })
}

/// The types of a module, by the names that the user knows.
struct Types<'a> {
    module: &'a Module,
    layouter: Layouter,
}

impl<'a> Types<'a> {
    fn new(module: &'a Module) -> Self {
        let mut layouter = Layouter::default();
        layouter.update(module.to_ctx()).expect("lowering laid the same types out");
        Self { module, layouter }
    }

    fn size(&self, ty: Handle<Type>) -> u32 {
        self.layouter[ty].size
    }

    /// Enters the structs that a type is made of.
    fn collect(&self, ty: Handle<Type>, found: &mut HashSet<Handle<Type>>) {
        match self.module.types[ty].inner {
            TypeInner::Struct { ref members, .. } if found.insert(ty) => {
                members.iter().for_each(|member| self.collect(member.ty, found));
            }
            TypeInner::Array { base, .. } => self.collect(base, found),
            _ => {}
        }
    }

    /// The name of a type that needs no brackets behind what has it.
    fn name(&self, ty: Handle<Type>) -> String {
        let declared = &self.module.types[ty];
        match declared.inner {
            TypeInner::Scalar(scalar) | TypeInner::Atomic(scalar) => scalar_name(scalar).to_owned(),
            TypeInner::Vector { size, scalar } => vector_name(scalar, size as u32),
            TypeInner::Struct { .. } => identifier(declared.name.as_deref().unwrap_or_default()),
            _ => unreachable!("arrays and matrices are declared with what has them"),
        }
    }

    /// The declaration of something that has this type.
    fn declaration(&self, ty: Handle<Type>, name: &str) -> String {
        match self.module.types[ty].inner {
            TypeInner::Array { base, size: ArraySize::Constant(count), stride } => {
                self.elements(base, stride, &format!("{name}[{count}]"))
            }
            TypeInner::Matrix { columns, rows, scalar } => {
                let stride = if rows as u32 == 2 { 8 } else { 16 };
                let column = vector_name(scalar, rows as u32);
                let column = if rows as u32 == 3 { format!("RtSlot<{column}, {stride}u>") } else { column };
                format!("{column} {name}[{}]", columns as u32)
            }
            _ => format!("{} {name}", self.name(ty)),
        }
    }

    /// The declaration of things of which each is so many bytes from the next.
    fn elements(&self, base: Handle<Type>, stride: u32, name: &str) -> String {
        if self.size(base) == stride {
            return self.declaration(base, name);
        }
        format!("RtSlot<{}, {stride}u> {name}", self.name(base))
    }

    /// Type and stride of the elements of a table.
    fn element(&self, table: Handle<naga::GlobalVariable>) -> (Handle<Type>, u32) {
        match self.module.types[self.module.global_variables[table].ty].inner {
            TypeInner::Array { base, stride, .. } => (base, stride),
            _ => unreachable!("the contract: a table is an array"),
        }
    }

    /// Declares a struct, and asserts that C++ lays it out as WGSL does.
    fn declare(&self, ty: Handle<Type>, out: &mut String) {
        let TypeInner::Struct { ref members, span } = self.module.types[ty].inner else {
            unreachable!("only structs are collected")
        };
        let (name, align) = (self.name(ty), self.layouter[ty].alignment.round_up(1));
        _ = writeln!(out, "struct alignas({align}) {name} {{");
        let mut end = 0;
        let mut asserts = format!("static_assert(sizeof({name}) == {span}, \"size\");\n");
        for (number, member) in members.iter().enumerate() {
            if member.offset > end {
                _ = writeln!(out, "    unsigned char rt_padding{number}[{}];", member.offset - end);
            }
            let field = identifier(member.name.as_deref().unwrap_or_default());
            _ = writeln!(out, "    {};", self.declaration(member.ty, &field));
            asserts += &assert_offset(&name, &field, member.offset);
            asserts.push('\n');
            end = member.offset + self.size(member.ty);
        }
        *out += "};\n";
        *out += &asserts;
    }
}

fn vector_name(scalar: Scalar, size: u32) -> String {
    let scalar = match scalar_name(scalar) {
        "unsigned" => "uint",
        other => other,
    };
    format!("{scalar}{size}")
}

fn identifier(name: &str) -> String {
    if KEYWORDS.contains(&name) { format!("{name}_") } else { name.to_owned() }
}

/// Declares what the user's function gets besides message and state: the loop budget, outputs, tables.
fn context(program: &Program, types: &Types<'_>, outputs: &[Output<'_>], out: &mut String) {
    for (number, table) in program.table_globals.iter().enumerate() {
        let (base, stride) = types.element(*table);
        _ = writeln!(out, "typedef {};", types.elements(base, stride, &format!("RtElement{number}")));
    }
    *out += "struct RtContext : RtCalls {\n";
    for output in outputs {
        let (ty, crate::compile::EmitSlot { count_offset, items_offset, stride, max, .. }) =
            (types.name(output.ty), output.slot);
        _ = writeln!(
            out,
            "    RT_SMALL void emit_{}(const {ty}& value) {{ rt_emit<{max}u, {stride}u>(rt_privates + {count_offset}, \
             rt_privates + {items_offset}, value); }}",
            output.name
        );
    }
    for (number, table) in program.tables.iter().enumerate() {
        let constant = if table.writable { "" } else { "const " };
        _ = writeln!(out, "    RtElements<{constant}RtElement{number}> {};", identifier(&table.name));
    }
    *out += "};\n";
}

/// Defines `rt_run`.
fn run(program: &Program, types: &Types<'_>, named: &Named, outputs: &[Output<'_>], out: &mut String) {
    *out += "static __device__ unsigned rt_run(const RtMessage& message, RtState& state, RtReply& reply, RtPrivates& privates, \
             const RtTable* tables, volatile const unsigned* stop) {\n";
    _ = writeln!(
        out,
        "    RtContext rt;\n    rt.rt_start(privates.bytes, {}u, stop);",
        program.signature.loop_budget
    );
    for output in outputs {
        _ = writeln!(out, "    rt_put_count(privates.bytes + {}, 0u);", output.slot.count_offset);
    }
    for (number, (table, global)) in program.tables.iter().zip(&program.table_globals).enumerate() {
        let stride = types.element(*global).1;
        _ = writeln!(
            out,
            "    rt.{} = {{(RtElement{number}*)tables[{number}].data, rt_length(tables[{number}], {stride}u)}};",
            identifier(&table.name)
        );
    }
    let parts = [(named.message, "const ", "message"), (named.state, "", "state")];
    let parts: Vec<_> = parts
        .into_iter()
        .filter_map(|(ty, constant, name)| Some((types.name(ty?), constant, name)))
        .collect();
    let parameters: Vec<_> =
        parts.iter().map(|(ty, constant, name)| format!("{constant}{ty}& {name}, ")).collect();
    let arguments: String = parts.iter().map(|(.., name)| format!("{name}, ")).collect();
    let (result, assigned) =
        named.reply.map_or(("void".to_owned(), ""), |reply| (types.name(reply), "reply = "));
    // The name of the file is what is said if the function is not there, or another one.
    _ = writeln!(
        out,
        "#line 1 \"{SOURCE}, which has to define `__device__ {result} on_message({}RtContext& rt)`\"",
        parameters.concat()
    );
    _ = writeln!(
        out,
        "    {assigned}on_message({arguments}rt);\n#line 1 \"ringwork\"\n    return rt.rt_end();\n}}"
    );
}
