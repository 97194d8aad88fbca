//! All that is around the functions: types, constants, private variables, tables and the way in.

use super::function::Functions;
use super::text::Text;
use super::types::{Types, assert_offset, identifier};
use crate::compile::{Program, shape};
use naga::{AddressSpace, GlobalVariable, Handle, Type, TypeInner};
use std::collections::HashMap;

/// Where a module-scope variable is.
#[derive(Clone)]
pub(super) enum Global {
    /// What lowering calls `rt_fuel`.
    Budget,
    /// In the context, which lives in registers.
    Register(String),
    /// In the private segment.
    Segment(String),
    /// A table, by its number.
    Table(usize),
    /// A buffer that is no array, by its number.
    Whole(usize),
    /// In the memory of the workgroup.
    Shared(String),
}

/// A program in the making.
pub(super) struct Module<'a> {
    pub program: &'a Program,
    pub types: Types<'a>,
    pub globals: HashMap<Handle<GlobalVariable>, Global>,
}

impl<'a> Module<'a> {
    pub fn new(program: &'a Program) -> Self {
        let types = Types::new(&program.module);
        let mut globals = HashMap::new();
        for (handle, variable) in program.module.global_variables.iter() {
            let name = variable.name.as_deref();
            let identifier = identifier('g', handle.index(), name);
            let place = match variable.space {
                AddressSpace::Private if name == Some("rt_fuel") => Global::Budget,
                // An array that is indexed would keep the whole context out of registers.
                AddressSpace::Private => match types.inner(variable.ty) {
                    TypeInner::Scalar(_) | TypeInner::Vector { .. } => Global::Register(identifier),
                    _ => Global::Segment(identifier),
                },
                _ => match program.table_globals.iter().position(|table| *table == handle) {
                    Some(number) if matches!(types.inner(variable.ty), TypeInner::Array { .. }) => {
                        Global::Table(number)
                    }
                    Some(number) => Global::Whole(number),
                    None if variable.space == AddressSpace::WorkGroup => Global::Shared(identifier),
                    None => continue,
                },
            };
            globals.insert(handle, place);
        }
        Self { program, types, globals }
    }

    /// Declares the private segment.
    pub fn declare_privates(&self, text: &mut Text) {
        let program = self.program;
        text.own("struct alignas(16) RtPrivates {");
        let mut end = 0;
        let mut asserts = Vec::new();
        for slot in &program.privates {
            let variable = &program.module.global_variables[slot.global];
            let name = identifier('g', slot.global.index(), variable.name.as_deref());
            if slot.offset > end {
                text.own(format!("    unsigned char padding{end}[{}];", slot.offset - end));
            }
            text.own(format!("    {} {name};", self.types.name(variable.ty)));
            asserts.push(assert_offset("RtPrivates", &name, slot.offset));
            end = slot.offset + slot.size;
        }
        if program.privates_size > end {
            text.own(format!("    unsigned char padding{end}[{}];", program.privates_size - end));
        }
        text.own("};");
        text.own(format!("static_assert(sizeof(RtPrivates) == {}, \"size\");", program.privates_size));
        asserts.into_iter().for_each(|assert| text.own(assert));
    }

    /// Declares what every function gets: what is left of the budget, variables in registers, tables.
    pub fn declare_context(&self, text: &mut Text) {
        let program = self.program;
        text.own("struct RtContext {");
        text.own("    RtBudget budget;");
        text.own("    RtPrivates* privates;");
        for slot in &program.privates {
            if let Some(Global::Register(name)) = self.globals.get(&slot.global) {
                let ty = program.module.global_variables[slot.global].ty;
                text.own(format!("    {} {name};", self.types.name(ty)));
            }
        }
        for (number, global) in program.table_globals.iter().enumerate() {
            let pointee = self.pointee(program.module.global_variables[*global].ty);
            text.own(format!("    {pointee}* table{number};"));
            text.own(format!("    unsigned length{number};"));
        }
        if self.globals.values().any(|global| matches!(global, Global::Shared(_))) {
            text.own("    RtShared* shared;");
        }
        text.own("};");
    }

    /// The type that the context's pointer to a table points to.
    fn pointee(&self, ty: naga::Handle<naga::Type>) -> String {
        match self.types.inner(ty) {
            TypeInner::Array { .. } => self.types.slot_name(ty),
            _ => self.types.name(ty),
        }
    }

    /// Sets pointer and length of a table in the context.
    pub fn define_table(&self, number: usize, ty: naga::Handle<naga::Type>, tables: &str, text: &mut Text) {
        let inner = self.types.inner(ty);
        let pointee = self.pointee(ty);
        text.own(format!("context.table{number} = ({pointee}*){tables}[{number}].data;"));
        let (before, stride) = match (shape::unsized_part(self.types.module, inner), inner) {
            (Some(part), _) => part,
            (None, TypeInner::Array { stride, .. }) => (0, *stride),
            // Nobody asks for the length of what is no array.
            (None, _) => return text.own(format!("context.length{number} = 1u;")),
        };
        let table = format!("RtTable{{{tables}[{number}].data, {tables}[{number}].bytes - {before}u}}");
        text.own(format!("context.length{number} = rt_length({table}, {stride}u);"));
    }

    /// Defines `rt_run`.
    fn define_run(&self, text: &mut Text) {
        let program = self.program;
        let entry = &program.module.functions[program.entry];
        text.own(
            "static __device__ unsigned rt_run(const RtMessage& message, RtState& state, RtReply& reply, \
             RtPrivates& privates, const RtTable* tables, volatile const unsigned* stop) {",
        );
        text.indent();
        text.own("RtContext context;");
        text.own("context.budget.interrupted = false;");
        text.own("context.budget.stop = stop;");
        text.own("context.privates = &privates;");
        for (number, global) in program.table_globals.iter().enumerate() {
            let ty = program.module.global_variables[*global].ty;
            self.define_table(number, ty, "tables", text);
        }
        let mut arguments = vec!["context"];
        if program.has_message {
            arguments.push("message");
        }
        if program.has_state() {
            arguments.push("state");
        }
        let name = identifier('f', program.entry.index(), entry.name.as_deref());
        let result = if entry.result.is_some() { "reply = " } else { "" };
        text.own(format!("{result}{name}({});", arguments.join(", ")));
        text.own("if (context.budget.interrupted) return RT_INTERRUPTED;");
        if let Some(Global::Register(fault)) = self.globals.get(&program.fault) {
            text.own(format!("if (context.{fault} != 0u) return context.{fault};"));
        }
        for emit in &program.emits {
            let slot = program.privates.iter().find(|slot| slot.offset == emit.count_offset);
            let count = slot.and_then(|slot| self.globals.get(&slot.global));
            if let Some(Global::Register(count)) = count {
                text.own(format!("privates.{count} = context.{count};"));
            }
        }
        text.own("return RT_DONE;");
        text.outdent();
        text.own("}");
    }
}

/// The types of what goes into a handler and comes out of it, if it has them.
pub(super) struct Named {
    pub message: Option<Handle<Type>>,
    pub state: Option<Handle<Type>>,
    pub reply: Option<Handle<Type>>,
}

impl Named {
    pub fn of(program: &Program) -> Self {
        let entry = &program.module.functions[program.entry];
        let state = entry.arguments.last().filter(|_| program.has_state());
        let state = state.map(|argument| match program.module.types[argument.ty].inner {
            TypeInner::Pointer { base, .. } => base,
            _ => unreachable!("the contract: the state's parameter is a pointer"),
        });
        let message = entry.arguments.first().filter(|_| program.has_message).map(|argument| argument.ty);
        Self { message, state, reply: entry.result.as_ref().map(|result| result.ty) }
    }

    /// Writes the names that a driver finds them under, one line after the other; `describe` gives a type's name and size.
    pub fn write(&self, describe: impl Fn(Handle<Type>) -> (String, u32), mut line: impl FnMut(String)) {
        let parts = [
            ("MESSAGE", "RtMessage", self.message),
            ("STATE", "RtState", self.state),
            ("REPLY", "RtReply", self.reply),
        ];
        for (what, name, ty) in parts {
            let described = ty.map(&describe);
            line(format!("#undef RT_HAS_{what}"));
            line(format!("#define RT_HAS_{what} {}", u32::from(ty.is_some())));
            let own = described.as_ref().map_or("unsigned", |(own, _)| own);
            line(format!("typedef {own} {name};"));
            if let Some((_, size)) = described {
                line(format!("static_assert(sizeof({name}) == {size}, \"size\");"));
            }
        }
    }
}

/// Writes a whole program.
pub(super) fn declare(program: &Program, text: &mut Text) {
    let module = Module::new(program);
    text.own("RT_BEGIN_HANDLER");
    module.types.declare(text);
    text.leave_source();
    let named = Named::of(program);
    named.write(|ty| (module.types.name(ty), module.types.size(ty)), |line| text.own(line));
    module.declare_privates(text);
    module.declare_context(text);
    let mut functions = Functions::new(&module);
    for handle in &program.functions {
        functions.write(*handle, text);
    }
    text.leave_source();
    module.define_run(text);
    text.own("RT_END_HANDLER");
}
