//! Loops over the invocations of a workgroup, and what each is told of where it is.

use super::segment::Maker;
use super::{Builtin, ComputeProgram, Parameter, type_handle};
use crate::compile::uses::visit;
use crate::compile::{FaultCode, lower};
use naga::{
    BinaryOperator as B, Block, Expression as E, Function, FunctionArgument, GlobalVariable, Handle,
    LocalVariable, Module, Span, Statement as S, Type, TypeInner, VectorSize,
};
use std::collections::HashMap;

/// What each invocation does, given the id that it has in its workgroup.
type Inside<'a, 'i> = dyn FnMut(&mut GroupMaker<'a>, &mut Block, [Handle<E>; 3]) + 'i;

/// Invocations one behind the other in a loop over them, so that it costs less for each.
const SIDE_BY_SIDE: u32 = 4;
/// Only of functions with so few expressions, those of what they call among them: longer ones gain nothing by it, and take
/// longer to compile.
const MOST_EXPRESSIONS: usize = 160;

/// How far a loop goes.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    Constant(u32),
    Value(Handle<E>),
}

/// The function that runs workgroups, in the making.
pub(super) struct GroupMaker<'a> {
    compute: &'a ComputeProgram,
    pub module: &'a Module,
    pub maker: Maker,
    message: Handle<E>,
    word: Handle<Type>,
    vector: Handle<Type>,
    /// Counters of the loops over invocations, along x, y and z.
    counters: [Option<Handle<LocalVariable>>; 3],
}

impl<'a> GroupMaker<'a> {
    pub fn new(compute: &'a ComputeProgram, module: &'a mut Module, message: Handle<Type>) -> Self {
        let word = type_handle(module, TypeInner::Scalar(naga::Scalar::U32));
        let vector = vector_type(module);
        let mut maker = Maker::default();
        maker.function.name = Some("rt_handle".to_string());
        let argument = FunctionArgument { name: Some("groups".to_string()), ty: message, binding: None };
        maker.function.arguments.push(argument);
        let message = maker.add(E::FunctionArgument(0));
        let mut group = Self { compute, module, maker, message, word, vector, counters: [None; 3] };
        group.counters = compute.workgroup_size.map(|size| (size > 1).then(|| group.local()));
        group
    }

    pub fn local(&mut self) -> Handle<LocalVariable> {
        let local = LocalVariable { name: None, ty: self.word, init: None };
        self.maker.function.local_variables.append(local, Span::UNDEFINED)
    }

    pub fn finish(mut self, mut body: Block) -> Function {
        body.push(S::Return { value: None }, Span::UNDEFINED);
        self.maker.function.body = body;
        self.maker.function
    }

    pub fn clear_fault(&mut self, block: &mut Block) {
        let (pointer, value) =
            (self.maker.add(E::GlobalVariable(self.compute.library.fault)), self.maker.u32(0));
        block.push(S::Store { pointer, value }, Span::UNDEFINED);
        self.fill_budget(block);
    }

    pub fn fill_budget(&mut self, block: &mut Block) {
        self.fill(self.compute.library.fuel, block);
    }

    /// One round less is left, or a fault and out of the loop.
    pub fn spend(&mut self, rounds: Handle<GlobalVariable>, block: &mut Block) {
        let pointer = self.maker.add(E::GlobalVariable(rounds));
        let fault = self.maker.add(E::GlobalVariable(self.compute.library.fault));
        let (zero, one) = (self.maker.u32(0), self.maker.u32(1));
        let code = self.maker.u32(FaultCode::LoopBudget as u32);
        let left = self.maker.load(block, pointer);
        let condition = self.maker.binary(block, B::Equal, left, zero);
        let mut accept = Block::new();
        accept.push(S::Store { pointer: fault, value: code }, Span::UNDEFINED);
        accept.push(S::Break, Span::UNDEFINED);
        block.push(S::If { condition, accept, reject: Block::new() }, Span::UNDEFINED);
        let value = self.maker.binary(block, B::Subtract, left, one);
        block.push(S::Store { pointer, value }, Span::UNDEFINED);
    }

    /// The whole budget into one of its variables.
    pub fn fill(&mut self, variable: Handle<GlobalVariable>, block: &mut Block) {
        let pointer = self.maker.add(E::GlobalVariable(variable));
        let value = self.maker.u32(self.compute.loop_budget);
        block.push(S::Store { pointer, value }, Span::UNDEFINED);
    }

    /// A member of the message.
    pub fn member(&mut self, block: &mut Block, index: u32) -> Handle<E> {
        self.maker.emit(block, E::AccessIndex { base: self.message, index })
    }

    /// The workgroup: the first of the message, and so many behind it.
    pub fn workgroup_id(&mut self, block: &mut Block, row: Option<Handle<LocalVariable>>) -> [Handle<E>; 3] {
        let first = self.member(block, 0);
        let mut id = [0, 1, 2].map(|index| self.maker.emit(block, E::AccessIndex { base: first, index }));
        if let Some(row) = row {
            let pointer = self.maker.add(E::LocalVariable(row));
            let more = self.maker.load(block, pointer);
            id[0] = self.maker.binary(block, B::Add, id[0], more);
        }
        id
    }

    /// `for (var i = 0u; i < limit; i += step)`.
    pub fn repeat(
        &mut self,
        block: &mut Block,
        counter: Handle<LocalVariable>,
        limit: Limit,
        step: u32,
        inside: &mut dyn FnMut(&mut Self, &mut Block),
    ) {
        let pointer = self.maker.add(E::LocalVariable(counter));
        let (zero, step) = (self.maker.u32(0), self.maker.u32(step));
        let limit = match limit {
            Limit::Constant(limit) => self.maker.u32(limit),
            Limit::Value(limit) => limit,
        };
        block.push(S::Store { pointer, value: zero }, Span::UNDEFINED);
        let mut body = Block::new();
        let now = self.maker.load(&mut body, pointer);
        let condition = self.maker.binary(&mut body, B::Less, now, limit);
        let mut reject = Block::new();
        reject.push(S::Break, Span::UNDEFINED);
        body.push(S::If { condition, accept: Block::new(), reject }, Span::UNDEFINED);
        inside(self, &mut body);
        let mut continuing = Block::new();
        let now = self.maker.load(&mut continuing, pointer);
        let value = self.maker.binary(&mut continuing, B::Add, now, step);
        continuing.push(S::Store { pointer, value }, Span::UNDEFINED);
        block.push(S::Loop { body, continuing, break_if: None }, Span::UNDEFINED);
    }

    /// A loop over all invocations, which gives the id of each in the workgroup; each calls this function.
    pub fn invocations(&mut self, block: &mut Block, called: Handle<Function>, inside: &mut Inside<'a, '_>) {
        let is_short = is_short(self.module, called);
        let is_even = self.compute.workgroup_size[0].is_multiple_of(SIDE_BY_SIDE);
        self.along(2, if is_short && is_even { SIDE_BY_SIDE } else { 1 }, block, inside);
    }

    fn along(&mut self, axis: usize, together: u32, block: &mut Block, inside: &mut Inside<'a, '_>) {
        let deeper = &mut |group: &mut Self, block: &mut Block| match axis {
            0 => {
                for more in 0..together {
                    let mut at = group.counters.map(|counter| match counter {
                        Some(counter) => {
                            let pointer = group.maker.add(E::LocalVariable(counter));
                            group.maker.load(block, pointer)
                        }
                        None => group.maker.u32(0),
                    });
                    if more > 0 {
                        let more = group.maker.u32(more);
                        at[0] = group.maker.binary(block, B::Add, at[0], more);
                    }
                    inside(group, block, at);
                }
            }
            _ => group.along(axis - 1, together, block, inside),
        };
        match self.counters[axis] {
            Some(counter) => {
                let limit = Limit::Constant(self.compute.workgroup_size[axis]);
                self.repeat(block, counter, limit, if axis == 0 { together } else { 1 }, deeper);
            }
            None => deeper(self, block),
        }
    }

    /// Is the last invocation along x within all these tables?
    pub fn is_within(
        &mut self,
        block: &mut Block,
        id: [Handle<E>; 3],
        tables: &[Handle<GlobalVariable>],
    ) -> Handle<E> {
        let [size, ..] = self.compute.workgroup_size.map(|size| self.maker.u32(size));
        let more = self.maker.u32(self.compute.workgroup_size[0] - 1);
        let first = self.maker.binary(block, B::Multiply, id[0], size);
        let last = self.maker.binary(block, B::Add, first, more);
        let mut all = None;
        for table in tables {
            let table = self.maker.add(E::GlobalVariable(*table));
            let length = self.maker.emit(block, E::ArrayLength(table));
            let is_within = self.maker.binary(block, B::Less, last, length);
            all = Some(match all {
                Some(others) => self.maker.binary(block, B::LogicalAnd, others, is_within),
                None => is_within,
            });
        }
        all.expect("there is a table")
    }

    /// The index of an invocation in its workgroup.
    pub fn index(&mut self, block: &mut Block, at: [Handle<E>; 3]) -> Handle<E> {
        let [x, y, _] = self.compute.workgroup_size;
        let mut index = at[0];
        for (axis, stride) in [(1, x), (2, x * y)] {
            if self.counters[axis].is_some() {
                let stride = self.maker.u32(stride);
                let before = self.maker.binary(block, B::Multiply, at[axis], stride);
                index = self.maker.binary(block, B::Add, index, before);
            }
        }
        index
    }

    /// What the entry point is told of an invocation.
    pub fn arguments(&mut self, block: &mut Block, id: [Handle<E>; 3], at: [Handle<E>; 3]) -> Vec<Handle<E>> {
        let compute = self.compute;
        let types = compute.module.functions[compute.entry].arguments.iter().map(|argument| argument.ty);
        let mut arguments = Vec::new();
        for (parameter, ty) in compute.parameters.iter().zip(types) {
            arguments.push(match parameter {
                Parameter::One(builtin) => self.builtin(block, *builtin, id, at),
                Parameter::Struct(builtins) => {
                    let components = builtins.iter().map(|builtin| self.builtin(block, *builtin, id, at));
                    let components = components.collect();
                    self.maker.emit(block, E::Compose { ty, components })
                }
            });
        }
        arguments
    }

    fn builtin(
        &mut self,
        block: &mut Block,
        builtin: Builtin,
        id: [Handle<E>; 3],
        at: [Handle<E>; 3],
    ) -> Handle<E> {
        let components = match builtin {
            Builtin::LocalInvocationIndex => return self.index(block, at),
            Builtin::NumWorkgroups => return self.member(block, 2),
            Builtin::LocalInvocationId => at,
            Builtin::WorkgroupId => id,
            Builtin::GlobalInvocationId => [0, 1, 2].map(|axis| {
                let size = self.maker.u32(self.compute.workgroup_size[axis]);
                let first = self.maker.binary(block, B::Multiply, id[axis], size);
                self.maker.binary(block, B::Add, first, at[axis])
            }),
        };
        self.maker.emit(block, E::Compose { ty: self.vector, components: components.into() })
    }
}

/// Is a function, with those that it calls as often as it does, worth having more than once?
pub(super) fn is_short(module: &Module, called: Handle<Function>) -> bool {
    let mut weights: HashMap<Handle<Function>, usize> = HashMap::new();
    // Callees come first.
    for handle in lower::reachable(module, called) {
        let function = &module.functions[handle];
        let mut weight = function.expressions.len();
        visit(&function.body, &mut |statement| match statement {
            S::Call { function, .. } => weight = weight.saturating_add(weights[function]),
            S::Loop { .. } => weight = usize::MAX,
            _ => {}
        });
        weights.insert(handle, weight);
    }
    weights[&called] <= MOST_EXPRESSIONS
}

pub(super) fn vector_type(module: &mut Module) -> Handle<Type> {
    type_handle(module, TypeInner::Vector { size: VectorSize::Tri, scalar: naga::Scalar::U32 })
}
