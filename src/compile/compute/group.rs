//! A workgroup as a handler: a program whose message says which workgroups to run, for the engines of handlers.
//!
//! The invocations of a workgroup run one after the other, from one barrier to the next, in loops that machine code is
//! made of as of any others. Buffers and workgroup memory are the program's tables.

use super::fission::{Step, cut};
use super::invocations::{GroupMaker, Limit, is_short, vector_type};
use super::segment::{Input, Kept, Maker, Segments};
use super::within::{Within, within};
use super::{Binding, ComputeProgram, type_handle};
use crate::compile::TableUse;
use crate::compile::front::{self, CAPABILITIES};
use crate::compile::lower;
use crate::compile::lower::Library;
use crate::compile::program::{Program, Signature};
use crate::compile::shape;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Layout;
use naga::proc::Layouter;
use naga::valid::{ValidationFlags, Validator};
use naga::{
    AddressSpace, BinaryOperator as B, Block, Expression as E, Function, GlobalVariable, Handle, Module,
    Span, Statement as S, StorageAccess, StructMember, SwitchCase, Type, TypeInner,
};

/// The message: which workgroups to run.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(crate) struct Groups {
    /// The first one.
    pub first: [u32; 3],
    /// So many of them along x; 1 if workgroups have memory.
    pub count: u32,
    /// Of the whole dispatch.
    pub dispatched: [u32; 3],
    pub zero: u32,
}

/// What runs workgroups on the CPU.
pub(crate) struct GroupProgram {
    pub program: Program,
    /// Bytes of each table behind those of the buffers: memory of one workgroup.
    pub memory: Vec<usize>,
    /// How many of these, from the first, are zero when a workgroup begins.
    pub zeroed: usize,
    /// Several workgroups may run with one message.
    pub takes_rows: bool,
}

const NOTHING: &Layout = &Layout { name: "", size: 0, align: 1, fields: &[] };

/// Makes the program that runs workgroups.
///
/// # Errors
///
/// `Rejected`, which would be a fault of this library.
pub(crate) fn group(compute: &ComputeProgram) -> Result<GroupProgram> {
    let mut module = compute.module.clone();
    let message = message_type(&mut module);
    let privates: Vec<_> = used_privates(compute);
    let mut kept_globals = Vec::new();
    let mut has_gone = false;
    let main = if compute.has_barriers {
        let (function, kept, gone) = with_barriers(compute, &mut module, message, &privates)?;
        (kept_globals, has_gone) = (kept, gone);
        function
    } else {
        without_barriers(compute, &mut module, message, &privates)
    };
    for (_, variable) in module.global_variables.iter_mut() {
        variable.init = None;
    }
    for binding in compute.bindings.iter().filter(|binding| is_only_read(compute, binding)) {
        module.global_variables[binding.global].space = AddressSpace::Storage { access: StorageAccess::LOAD };
    }
    let entry = module.functions.append(main, Span::UNDEFINED);
    let failed = |what: String| {
        let text = format!(
            "{}: a workgroup made an invalid module ({what}); please report this shader",
            compute.name
        );
        Error::new(ErrorKind::Rejected, text)
    };
    let info = Validator::new(ValidationFlags::all(), CAPABILITIES)
        .validate(&module)
        .map_err(|error| failed(format!("{:?}", error.as_inner())))?;
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|error| failed(error.to_string()))?;
    let (private_slots, privates_size) = lower::lay_out_privates(&module, &layouter);
    let buffers = compute.bindings.iter().map(|binding| binding.global);
    let variables = compute.workgroup_variables.iter().map(|(global, _)| *global);
    let memory_globals: Vec<_> = variables.chain(kept_globals).collect();
    let memory = memory_globals.iter().map(|global| {
        let ty = module.global_variables[*global].ty;
        // The engines agree on where things are unless there are bools, which take more room in the interpreter.
        let interpreted = shape::table_words(&module, shape::inner(&module, ty)) * 4;
        layouter[ty].size.max(interpreted) as usize
    });
    let memory = memory.collect();
    let table_globals: Vec<_> = buffers.chain(memory_globals.iter().copied()).collect();
    let tables = table_globals.iter().zip(0..).map(|(global, binding)| {
        let variable = &module.global_variables[*global];
        let access = match variable.space {
            AddressSpace::Storage { access } => access.contains(StorageAccess::STORE),
            space => space == AddressSpace::WorkGroup,
        };
        TableUse { name: variable.name.clone().unwrap_or_default(), binding, writable: access }
    });
    let tables: Vec<TableUse> = tables.collect();
    let functions = lower::reachable(&module, entry);
    let program = Program {
        text: String::new(),
        signature: Signature {
            message: NOTHING,
            reply: NOTHING,
            outputs: Vec::new(),
            loop_budget: compute.loop_budget,
        },
        entry,
        functions,
        has_message: true,
        state: None,
        instance_at: None,
        takes_batches: false,
        has_loops: true,
        writes_tables: true,
        stored_tables: tables.iter().map(|table| table.writable).collect(),
        tables,
        table_globals,
        privates: private_slots,
        privates_size,
        emits: Vec::new(),
        fault: compute.library.fault,
        info,
        module,
    };
    let takes_rows = !compute.has_barriers && compute.workgroup_variables.is_empty();
    let zeroed = compute.workgroup_variables.len() + usize::from(has_gone);
    Ok(GroupProgram { program, memory, zeroed, takes_rows })
}

/// Is a buffer only read, by this entry point and by all functions that its module still has? Then machine code may load
/// from it when it likes.
fn is_only_read(compute: &ComputeProgram, binding: &Binding) -> bool {
    let ty = compute.module.global_variables[binding.global].ty;
    let is_atomic = |inner: &TypeInner| matches!(inner, TypeInner::Atomic(_));
    let stores = |function: &Function| {
        lower::any(&function.body, &|statement| match statement {
            S::Store { pointer, .. } => function.originating_global(*pointer) == Some(binding.global),
            _ => false,
        })
    };
    front::inside(&compute.module, ty, &is_atomic).is_none()
        && !compute.module.functions.iter().any(|(_, function)| stores(function))
}

/// Private variables that a function uses, those of the budget and of faults apart.
fn used_privates(compute: &ComputeProgram) -> Vec<Handle<GlobalVariable>> {
    let module = &compute.module;
    let is_used = |global: Handle<GlobalVariable>| {
        compute.functions.iter().any(|function| {
            let mut expressions = module.functions[*function].expressions.iter();
            expressions.any(|(_, expression)| *expression == E::GlobalVariable(global))
        })
    };
    let Library { fault, fuel, rounds, .. } = compute.library;
    let all = module.global_variables.iter();
    all.filter(|(handle, variable)| {
        variable.space == AddressSpace::Private
            && ![Some(fault), Some(fuel), rounds].contains(&Some(*handle))
            && is_used(*handle)
    })
    .map(|(handle, _)| handle)
    .collect()
}

/// The type of [`Groups`].
fn message_type(module: &mut Module) -> Handle<Type> {
    let vector = vector_type(module);
    let word = type_handle(module, TypeInner::Scalar(naga::Scalar::U32));
    let member =
        |name: &str, ty, offset| StructMember { name: Some(name.to_string()), ty, binding: None, offset };
    let members = vec![
        member("first", vector, 0),
        member("count", word, 12),
        member("dispatched", vector, 16),
        member("zero", word, 28),
    ];
    let ty = Type { name: Some("rt_groups".to_string()), inner: TypeInner::Struct { members, span: 32 } };
    module.types.insert(ty, Span::UNDEFINED)
}

/// Copies a constant of the module into a function.
pub(super) fn copy_constant(
    module: &Module,
    constant: Handle<E>,
    maker: &mut Maker,
    body: &mut Block,
) -> Handle<E> {
    let expression = module.global_expressions[constant].clone();
    let is_standing = expression.needs_pre_emit();
    let copy = lower::map_operands(expression, |operand| copy_constant(module, operand, maker, body));
    if is_standing { maker.add(copy) } else { maker.emit(body, copy) }
}

/// The program of an entry point without barriers: a loop over workgroups and invocations.
fn without_barriers(
    compute: &ComputeProgram,
    module: &mut Module,
    message: Handle<Type>,
    privates: &[Handle<GlobalVariable>],
) -> Function {
    let entry = compute.entry;
    let within = if is_short(module, entry) { within(compute) } else { None };
    let within = within
        .map(|Within { function, tables }| (module.functions.append(function, Span::UNDEFINED), tables));
    let mut group = GroupMaker::new(compute, module, message);
    let mut body = Block::new();
    group.clear_fault(&mut body);
    let count = group.member(&mut body, 1);
    let row = group.local();
    group.repeat(&mut body, row, Limit::Value(count), 1, &mut |group, block| {
        let id = group.workgroup_id(block, Some(row));
        let calls = |group: &mut GroupMaker<'_>, block: &mut Block, function| {
            group.invocations(block, function, &mut |group, block, at| {
                for global in privates {
                    let value = match group.module.global_variables[*global].init {
                        Some(init) => copy_constant(group.module, init, &mut group.maker, block),
                        None => group.maker.add(E::ZeroValue(group.module.global_variables[*global].ty)),
                    };
                    let pointer = group.maker.add(E::GlobalVariable(*global));
                    block.push(S::Store { pointer, value }, Span::UNDEFINED);
                }
                group.fill_budget(block);
                let arguments = group.arguments(block, id, at);
                block.push(S::Call { function, arguments, result: None }, Span::UNDEFINED);
            });
        };
        let Some((function, tables)) = &within else { return calls(group, block, entry) };
        let condition = group.is_within(block, id, tables);
        let (mut accept, mut reject) = (Block::new(), Block::new());
        calls(group, &mut accept, *function);
        calls(group, &mut reject, entry);
        block.push(S::If { condition, accept, reject }, Span::UNDEFINED);
    });
    group.finish(body)
}

type WithBarriers = (Function, Vec<Handle<GlobalVariable>>, bool);

/// The program of an entry point with barriers: a loop over the invocations for each segment.
fn with_barriers(
    compute: &ComputeProgram,
    module: &mut Module,
    message: Handle<Type>,
    privates: &[Handle<GlobalVariable>],
) -> Result<WithBarriers> {
    let mut function = compute.module.functions[compute.entry].clone();
    let rounds = compute.library.rounds.expect("an entry point with barriers counts rounds");
    let plan = cut(&mut function, rounds);
    let mut asked = Vec::new();
    ask(&plan.steps, &mut asked);
    let input = Input {
        plan: &plan,
        function: &function,
        info: &compute.info[compute.entry],
        invocations: compute.invocations(),
        privates,
        asked: &asked,
        fuel: compute.library.fuel,
        budget: compute.loop_budget,
        stride: &|module, ty| {
            let mut layouter = Layouter::default();
            // The types of a valid module, and arrays of them.
            layouter.update(module.to_ctx()).map_or(0, |()| layouter[ty].to_stride())
        },
    };
    let segments = Segments::new(module, &input);
    let functions: Vec<_> = (0..plan.segments.len())
        .map(|index| {
            let function = segments.function(module, index);
            module.functions.append(function, Span::UNDEFINED)
        })
        .collect();
    let mut memory = segments.memory();
    // What has to be zero comes first.
    if let Some(gone) = segments.gone {
        memory.retain(|global| *global != gone.global);
        memory.insert(0, gone.global);
    }
    let mut group = GroupMaker::new(compute, module, message);
    let mut body = Block::new();
    group.clear_fault(&mut body);
    group.fill(rounds, &mut body);
    let id = group.workgroup_id(&mut body, None);
    let control = Control { segments: &segments, function: &function, functions: &functions, rounds, id };
    control.steps(&mut group, &plan.steps, Leave::Return, &mut body);
    Ok((group.finish(body), memory, segments.gone.is_some()))
}

/// The values that the control flow of the group asks for.
fn ask(steps: &[Step], asked: &mut Vec<Handle<E>>) {
    for step in steps {
        match step {
            Step::If { condition, accept, reject } => {
                asked.push(*condition);
                ask(accept, asked);
                ask(reject, asked);
            }
            Step::Switch { selector, cases } => {
                asked.push(*selector);
                cases.iter().for_each(|(_, steps, _)| ask(steps, asked));
            }
            Step::Loop { body, continuing, break_if } => {
                ask(body, asked);
                ask(continuing, asked);
                asked.extend(break_if);
            }
            _ => {}
        }
    }
}

/// The control flow that all invocations take together.
struct Control<'a> {
    segments: &'a Segments<'a>,
    function: &'a Function,
    functions: &'a [Handle<Function>],
    rounds: Handle<GlobalVariable>,
    id: [Handle<E>; 3],
}

/// How the control flow of the group ends where all invocations have returned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    Return,
    /// In a `continuing` block, where there is no `return`: what follows there does nothing.
    Nothing,
    /// In a loop inside of one.
    Break,
}

impl Control<'_> {
    fn block(&self, group: &mut GroupMaker<'_>, steps: &[Step], leave: Leave) -> Block {
        let mut block = Block::new();
        self.steps(group, steps, leave, &mut block);
        block
    }

    fn steps(&self, group: &mut GroupMaker<'_>, steps: &[Step], leave: Leave, block: &mut Block) {
        for step in steps {
            let statement = match step {
                Step::Segment(index) => {
                    let (function, id) = (self.functions[*index], self.id);
                    if self.segments.is_for_group(*index) {
                        let zero = group.maker.u32(0);
                        let mut arguments = group.arguments(block, id, [zero; 3]);
                        arguments.push(zero);
                        block.push(S::Call { function, arguments, result: None }, Span::UNDEFINED);
                        continue;
                    }
                    group.invocations(block, function, &mut |group, block, at| {
                        let mut arguments = group.arguments(block, id, at);
                        arguments.push(group.index(block, at));
                        block.push(S::Call { function, arguments, result: None }, Span::UNDEFINED);
                    });
                    continue;
                }
                Step::If { condition, accept, reject } => {
                    self.look(group, leave, block);
                    let condition = self.value(group, block, *condition);
                    let accept = self.block(group, accept, leave);
                    let reject = self.block(group, reject, leave);
                    S::If { condition, accept, reject }
                }
                Step::Switch { selector, cases } => {
                    self.look(group, leave, block);
                    let selector = self.value(group, block, *selector);
                    let cases = cases.iter().map(|(value, steps, fall_through)| SwitchCase {
                        value: *value,
                        body: self.block(group, steps, leave),
                        fall_through: *fall_through,
                    });
                    let cases = cases.collect();
                    S::Switch { selector, cases }
                }
                Step::Loop { body, continuing, break_if } => {
                    let inside = if leave == Leave::Return { Leave::Return } else { Leave::Break };
                    let body = self.block(group, body, inside);
                    let mut continuing = self.block(group, continuing, Leave::Nothing);
                    let break_if = break_if.map(|condition| {
                        let condition = self.value(group, &mut continuing, condition);
                        match self.has_gone(group, &mut continuing) {
                            Some(gone) => group.maker.binary(&mut continuing, B::LogicalOr, condition, gone),
                            None => condition,
                        }
                    });
                    S::Loop { body, continuing, break_if }
                }
                Step::Spend => {
                    // Where all have returned, nothing computes what would end the loop.
                    self.look(group, leave, block);
                    group.spend(self.rounds, block);
                    continue;
                }
                Step::Break => S::Break,
                Step::Continue => S::Continue,
                Step::Return => S::Return { value: None },
            };
            block.push(statement, Span::UNDEFINED);
            if matches!(step, Step::Break | Step::Continue | Step::Return) {
                return;
            }
        }
    }

    /// Have all invocations returned? Then nothing has computed what the next condition is.
    fn has_gone(&self, group: &mut GroupMaker<'_>, block: &mut Block) -> Option<Handle<E>> {
        let word = self.first(group, block, self.segments.gone?);
        let zero = group.maker.u32(0);
        Some(group.maker.binary(block, B::NotEqual, word, zero))
    }

    /// Leaves if all invocations have returned.
    fn look(&self, group: &mut GroupMaker<'_>, leave: Leave, block: &mut Block) {
        let statement = match leave {
            Leave::Return => S::Return { value: None },
            Leave::Break => S::Break,
            Leave::Nothing => return,
        };
        if let Some(condition) = self.has_gone(group, block) {
            let mut accept = Block::new();
            accept.push(statement, Span::UNDEFINED);
            block.push(S::If { condition, accept, reject: Block::new() }, Span::UNDEFINED);
        }
    }

    /// A value that is the same for all invocations: the first one's.
    fn value(&self, group: &mut GroupMaker<'_>, block: &mut Block, value: Handle<E>) -> Handle<E> {
        match (self.segments.kept(value), &self.function.expressions[value]) {
            (Some(kept), _) => self.first(group, block, kept),
            (None, constant @ (E::Constant(_) | E::Literal(_) | E::ZeroValue(_))) => {
                group.maker.add(constant.clone())
            }
            (None, other) => unreachable!("a condition is computed by a segment, or a constant: {other:?}"),
        }
    }

    fn first(&self, group: &mut GroupMaker<'_>, block: &mut Block, kept: Kept) -> Handle<E> {
        let zero = group.maker.u32(0);
        kept.load(&mut group.maker, block, zero)
    }
}
