//! Segments as functions: what lives from one to the next is kept in memory, for each invocation.

use super::fission::Plan;
use super::type_handle;
use crate::compile::lower::map_operands;
use crate::compile::uses::{uses, visit};
use naga::valid::FunctionInfo;
use naga::{
    AddressSpace, Arena, ArraySize, BinaryOperator, Block, Expression as E, Function, FunctionArgument,
    GlobalVariable, Handle, Literal, LocalVariable, Module, Range, Span, Statement as S, SwitchCase, Type,
    TypeInner,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A function in the making, expression by expression.
#[derive(Default)]
pub(super) struct Maker {
    pub function: Function,
}

impl Maker {
    /// An expression that is always there.
    pub fn add(&mut self, expression: E) -> Handle<E> {
        self.function.expressions.append(expression, Span::UNDEFINED)
    }

    pub fn u32(&mut self, value: u32) -> Handle<E> {
        self.add(E::Literal(Literal::U32(value)))
    }

    /// An expression that is evaluated at the end of a block.
    pub fn emit(&mut self, block: &mut Block, expression: E) -> Handle<E> {
        let handle = self.add(expression);
        block.push(S::Emit(Range::new_from_bounds(handle, handle)), Span::UNDEFINED);
        handle
    }

    pub fn load(&mut self, block: &mut Block, pointer: Handle<E>) -> Handle<E> {
        self.emit(block, E::Load { pointer })
    }

    pub fn binary(
        &mut self,
        block: &mut Block,
        op: BinaryOperator,
        left: Handle<E>,
        right: Handle<E>,
    ) -> Handle<E> {
        self.emit(block, E::Binary { op, left, right })
    }
}

/// Memory with a place for each invocation.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub global: Handle<GlobalVariable>,
}

impl Kept {
    fn new(module: &mut Module, ty: Handle<Type>, invocations: u32, stride: u32) -> Self {
        let count = std::num::NonZeroU32::new(invocations).expect("checked by the front");
        let inner = TypeInner::Array { base: ty, size: ArraySize::Constant(count), stride };
        let ty = type_handle(module, inner);
        let global = GlobalVariable {
            name: Some("rt_kept".to_string()),
            space: AddressSpace::WorkGroup,
            binding: None,
            ty,
            init: None,
            memory_decorations: Default::default(),
        };
        Self { global: module.global_variables.append(global, Span::UNDEFINED) }
    }

    fn place(self, maker: &mut Maker, block: &mut Block, index: Handle<E>) -> Handle<E> {
        let base = maker.add(E::GlobalVariable(self.global));
        maker.emit(block, E::Access { base, index })
    }

    /// What an invocation has kept.
    pub fn load(self, maker: &mut Maker, block: &mut Block, index: Handle<E>) -> Handle<E> {
        let place = self.place(maker, block, index);
        maker.load(block, place)
    }

    fn store(self, maker: &mut Maker, block: &mut Block, index: Handle<E>, value: Handle<E>) {
        let pointer = self.place(maker, block, index);
        block.push(S::Store { pointer, value }, Span::UNDEFINED);
    }
}

/// What there is to know about the segments of an entry point.
pub(super) struct Segments<'a> {
    pub plan: &'a Plan,
    old: &'a Function,
    info: &'a FunctionInfo,
    /// Which segment computes an expression, by its index; `None` for one that is always there.
    computed: Vec<Option<usize>>,
    /// Values that another segment, or the control flow of the group, uses.
    values: BTreeMap<Handle<E>, Kept>,
    locals: BTreeMap<Handle<LocalVariable>, Kept>,
    privates: Vec<(Handle<GlobalVariable>, Kept)>,
    /// Values that other segments use.
    shared: HashSet<Handle<E>>,
    /// Whose invocations have returned: words that are not zero then.
    pub gone: Option<Kept>,
    fuel: Handle<GlobalVariable>,
    budget: u32,
}

/// Facts about the entry point that `Segments` needs.
pub(super) struct Input<'a> {
    pub plan: &'a Plan,
    pub function: &'a Function,
    pub info: &'a FunctionInfo,
    pub invocations: u32,
    /// Private variables of each invocation that functions use, the loop budget apart.
    pub privates: &'a [Handle<GlobalVariable>],
    /// Values that the control flow of the group asks for.
    pub asked: &'a [Handle<E>],
    pub fuel: Handle<GlobalVariable>,
    pub budget: u32,
    pub stride: &'a dyn Fn(&mut Module, Handle<Type>) -> u32,
}

impl<'a> Segments<'a> {
    /// Finds out what has to be kept, and makes room for it.
    pub fn new(module: &mut Module, input: &Input<'a>) -> Self {
        let Input { plan, function, info, invocations, .. } = *input;
        let mut computed = vec![None; function.expressions.len()];
        for (index, block) in plan.segments.iter().enumerate() {
            visit(block, &mut |statement| {
                for handle in results(statement) {
                    computed[handle.index()] = Some(index);
                }
            });
        }
        let mut segments = Self {
            plan,
            old: function,
            info,
            computed,
            values: BTreeMap::new(),
            locals: BTreeMap::new(),
            privates: Vec::new(),
            shared: HashSet::new(),
            gone: None,
            fuel: input.fuel,
            budget: input.budget,
        };
        let mut wanted: Vec<Handle<E>> =
            input.asked.iter().copied().filter(|e| segments.computed[e.index()].is_some()).collect();
        let mut users: BTreeMap<Handle<LocalVariable>, Vec<usize>> = BTreeMap::new();
        for index in 0..plan.segments.len() {
            let needs = segments.needs(module, index);
            segments.shared.extend(&needs.kept);
            wanted.extend(needs.kept);
            for local in needs.locals {
                users.entry(local).or_default().push(index);
            }
        }
        let room = |module: &mut Module, ty: Handle<Type>| {
            let stride = (input.stride)(module, ty);
            Kept::new(module, ty, invocations, stride)
        };
        for value in wanted {
            segments.values.entry(value).or_insert_with(|| {
                let ty = match &info[value].ty {
                    naga::proc::TypeResolution::Handle(ty) => *ty,
                    naga::proc::TypeResolution::Value(inner) => type_handle(module, inner.clone()),
                };
                room(module, ty)
            });
        }
        for (local, by) in users {
            if by.len() > 1 || plan.repeats[by[0]] {
                segments.locals.insert(local, room(module, function.local_variables[local].ty));
            }
        }
        for global in input.privates {
            let kept = room(module, module.global_variables[*global].ty);
            segments.privates.push((*global, kept));
        }
        if plan.returns && plan.segments.len() > 1 {
            let word = type_handle(module, TypeInner::Scalar(naga::Scalar::U32));
            segments.gone = Some(room(module, word));
        }
        segments
    }

    /// Where a value is kept that the group asks for; `None` if it is a constant.
    pub fn kept(&self, value: Handle<E>) -> Option<Kept> {
        self.values.get(&value).copied()
    }

    /// Does a segment only compute what the group asks for? Then the first invocation's is enough, for it is the same.
    pub fn is_for_group(&self, index: usize) -> bool {
        let block = &self.plan.segments[index];
        let is_pure = block.iter().all(|statement| matches!(statement, S::Emit(_)));
        let own = self.shared.iter().any(|value| self.computed[value.index()] == Some(index));
        index > 0 && is_pure && !own
    }

    /// Memory that has to be there for each invocation.
    pub fn memory(&self) -> Vec<Handle<GlobalVariable>> {
        let values = self.values.values().chain(self.locals.values());
        let all = values.chain(self.privates.iter().map(|(_, kept)| kept)).chain(&self.gone);
        all.map(|kept| kept.global).collect()
    }

    fn is_pointer(&self, module: &Module, value: Handle<E>) -> bool {
        self.info[value].ty.inner_with(&module.types).pointer_space().is_some()
    }

    /// What a segment uses of what it does not compute.
    fn needs(&self, module: &Module, index: usize) -> Needs {
        let mut needs = Needs::default();
        let mut used = HashSet::new();
        uses(self.old, &self.plan.segments[index], &mut used);
        let mut rest: Vec<_> = used.into_iter().collect();
        visit(&self.plan.segments[index], &mut |statement| rest.extend(results(statement)));
        while let Some(value) = rest.pop() {
            if !needs.all.insert(value) {
                continue;
            }
            if let E::LocalVariable(local) = self.old.expressions[value] {
                needs.locals.insert(local);
            }
            let is_elsewhere = self.computed[value.index()].is_some_and(|by| by != index);
            if is_elsewhere && !self.is_pointer(module, value) {
                needs.kept.insert(value);
                continue;
            }
            _ = map_operands(self.old.expressions[value].clone(), |operand| {
                rest.push(operand);
                operand
            });
        }
        needs
    }

    /// A segment as a function: the parameters of the entry point, and the invocation's index.
    pub fn function(&self, module: &mut Module, index: usize) -> Function {
        let needs = self.needs(module, index);
        let block = &self.plan.segments[index];
        let mut maker = Maker::default();
        maker.function.name = Some(format!("rt_segment_{index}"));
        maker.function.arguments = self.old.arguments.clone();
        let word = type_handle(module, TypeInner::Scalar(naga::Scalar::U32));
        let argument = FunctionArgument { name: Some("rt_index".to_string()), ty: word, binding: None };
        maker.function.arguments.push(argument);
        let own = maker.add(E::FunctionArgument(self.old.arguments.len() as u32));
        let mut body = Block::new();
        if let (Some(gone), true) = (self.gone, index > 0) {
            let mut accept = Block::new();
            accept.push(S::Return { value: None }, Span::UNDEFINED);
            let value = gone.load(&mut maker, &mut body, own);
            let zero = maker.u32(0);
            let condition = maker.binary(&mut body, BinaryOperator::NotEqual, value, zero);
            body.push(S::If { condition, accept, reject: Block::new() }, Span::UNDEFINED);
        }

        let mut locals: HashMap<Handle<LocalVariable>, Handle<LocalVariable>> = HashMap::new();
        let mut map: HashMap<Handle<E>, Handle<E>> = HashMap::new();
        let mut wanted: Vec<_> = needs.locals.iter().copied().collect();
        if index == 0 {
            // Here all of them get their initial values.
            wanted.extend(self.locals.keys().filter(|local| !needs.locals.contains(local)));
        }
        wanted.sort();
        for old in wanted {
            let mut local = self.old.local_variables[old].clone();
            local.init =
                local.init.map(|init| copy_standing(&self.old.expressions, init, &mut maker, &mut map));
            let new = maker.function.local_variables.append(local, Span::UNDEFINED);
            locals.insert(old, new);
            let is_kept = self.locals.get(&old).filter(|_| index > 0);
            if let Some(kept) = is_kept {
                let value = kept.load(&mut maker, &mut body, own);
                let pointer = maker.add(E::LocalVariable(new));
                body.push(S::Store { pointer, value }, Span::UNDEFINED);
            }
        }
        for (global, kept) in &self.privates {
            let value = match module.global_variables[*global].init {
                _ if index > 0 => kept.load(&mut maker, &mut body, own),
                Some(init) => super::group::copy_constant(module, init, &mut maker, &mut body),
                None => maker.add(E::ZeroValue(module.global_variables[*global].ty)),
            };
            let pointer = maker.add(E::GlobalVariable(*global));
            body.push(S::Store { pointer, value }, Span::UNDEFINED);
        }
        let (pointer, value) = (maker.add(E::GlobalVariable(self.fuel)), maker.u32(self.budget));
        body.push(S::Store { pointer, value }, Span::UNDEFINED);

        for value in &needs.kept {
            map.insert(*value, self.values[value].load(&mut maker, &mut body, own));
        }
        // In the order of the old ones, so that operands come first.
        for (old, expression) in self.old.expressions.iter() {
            if !needs.all.contains(&old) || map.contains_key(&old) {
                continue;
            }
            let copy = match *expression {
                E::LocalVariable(local) => E::LocalVariable(locals[&local]),
                ref other => map_operands(other.clone(), |operand| map[&operand]),
            };
            let is_pointer_from_elsewhere = self.computed[old.index()].is_some_and(|by| by != index);
            let span = self.old.expressions.get_span(old);
            let new = maker.function.expressions.append(copy, span);
            if is_pointer_from_elsewhere {
                body.push(S::Emit(Range::new_from_bounds(new, new)), Span::UNDEFINED);
            }
            map.insert(old, new);
        }
        let leave = self.gone.map(|gone| {
            let value = maker.u32(1);
            let mut before = Block::new();
            let pointer = gone.place(&mut maker, &mut before, own);
            before.push(S::Store { pointer, value }, Span::UNDEFINED);
            before
        });
        copy_block(block, &map, leave.as_ref(), &mut body);

        for (old, new) in &locals {
            let written = index == 0 || is_written(self.old, block, *old);
            if let (Some(kept), true) = (self.locals.get(old), written) {
                let pointer = maker.add(E::LocalVariable(*new));
                let value = maker.load(&mut body, pointer);
                kept.store(&mut maker, &mut body, own, value);
            }
        }
        for (global, kept) in &self.privates {
            let pointer = maker.add(E::GlobalVariable(*global));
            let value = maker.load(&mut body, pointer);
            kept.store(&mut maker, &mut body, own, value);
        }
        for (value, kept) in &self.values {
            if self.computed[value.index()] == Some(index) {
                kept.store(&mut maker, &mut body, own, map[value]);
            }
        }
        maker.function.body = body;
        maker.function
    }
}

#[derive(Default)]
struct Needs {
    /// Every expression that the segment uses or computes, and their operands.
    all: HashSet<Handle<E>>,
    /// Those that are to be taken from memory.
    kept: HashSet<Handle<E>>,
    locals: HashSet<Handle<LocalVariable>>,
}

/// The expressions that a statement computes, not those of the statements inside it.
fn results(statement: &S) -> Vec<Handle<E>> {
    match statement {
        S::Emit(range) => range.clone().collect(),
        S::Call { result, .. } | S::Atomic { result, .. } => result.iter().copied().collect(),
        _ => Vec::new(),
    }
}

/// Does a block store to a local variable, or pass a pointer to it?
fn is_written(function: &Function, block: &Block, local: Handle<LocalVariable>) -> bool {
    let is_local = |mut pointer: Handle<E>| loop {
        match function.expressions[pointer] {
            E::Access { base, .. } | E::AccessIndex { base, .. } => pointer = base,
            E::LocalVariable(found) => break found == local,
            _ => break false,
        }
    };
    let mut written = false;
    visit(block, &mut |statement| match statement {
        S::Store { pointer, .. } => written |= is_local(*pointer),
        S::Call { arguments, .. } => written |= arguments.iter().any(|argument| is_local(*argument)),
        _ => {}
    });
    written
}

/// Copies a constant of one function to another.
fn copy_standing(
    old: &Arena<E>,
    constant: Handle<E>,
    maker: &mut Maker,
    map: &mut HashMap<Handle<E>, Handle<E>>,
) -> Handle<E> {
    if let Some(known) = map.get(&constant) {
        return *known;
    }
    let copy = map_operands(old[constant].clone(), |operand| copy_standing(old, operand, maker, &mut *map));
    let new = maker.add(copy);
    map.insert(constant, new);
    new
}

/// Copies statements; `leave` comes before each `return`.
fn copy_block(block: &Block, map: &HashMap<Handle<E>, Handle<E>>, leave: Option<&Block>, to: &mut Block) {
    let inner = |block: &Block| {
        let mut copy = Block::with_capacity(block.len());
        copy_block(block, map, leave, &mut copy);
        copy
    };
    let of = |handle: &Handle<E>| map[handle];
    for (statement, span) in block.span_iter() {
        let copy = match statement {
            S::Emit(range) => {
                for handle in range.clone() {
                    let handle = of(&handle);
                    to.push(S::Emit(Range::new_from_bounds(handle, handle)), *span);
                }
                continue;
            }
            S::Block(block) => S::Block(inner(block)),
            S::If { condition, accept, reject } => {
                S::If { condition: of(condition), accept: inner(accept), reject: inner(reject) }
            }
            S::Switch { selector, cases } => S::Switch {
                selector: of(selector),
                cases: cases
                    .iter()
                    .map(|case| SwitchCase {
                        value: case.value,
                        body: inner(&case.body),
                        fall_through: case.fall_through,
                    })
                    .collect(),
            },
            S::Loop { body, continuing, break_if } => S::Loop {
                body: inner(body),
                continuing: inner(continuing),
                break_if: break_if.as_ref().map(of),
            },
            S::Return { value } => {
                if let Some(leave) = leave {
                    to.extend_block(leave.clone());
                }
                S::Return { value: value.as_ref().map(of) }
            }
            S::Store { pointer, value } => S::Store { pointer: of(pointer), value: of(value) },
            S::Atomic { pointer, fun, value, result } => S::Atomic {
                pointer: of(pointer),
                fun: match fun {
                    naga::AtomicFunction::Exchange { compare } => {
                        naga::AtomicFunction::Exchange { compare: compare.as_ref().map(of) }
                    }
                    other => *other,
                },
                value: of(value),
                result: result.as_ref().map(of),
            },
            S::Call { function, arguments, result } => S::Call {
                function: *function,
                arguments: arguments.iter().map(of).collect(),
                result: result.as_ref().map(of),
            },
            S::Break => S::Break,
            S::Continue => S::Continue,
            S::MemoryBarrier(_) => continue,
            _ => unreachable!("refused by the front, or of the group"),
        };
        to.push(copy, *span);
    }
}
