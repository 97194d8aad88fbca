//! An `if` or a `switch` that only decides which values a few scalars get is a row of selections: no branch that a
//! processor may foresee wrongly, at the price of computing all ways.

use super::place::{Memory, pointee};
use super::{Body, Operand, Place, Refusal, Translator};
use crate::compile::jit::analysis::{Root, trace};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, InstructionData, MemFlagsData, Opcode, Value, types};
use cranelift_frontend::Variable;
use naga::{
    AddressSpace, BinaryOperator, Block, Expression as E, Handle, ScalarKind, Statement as S, SwitchCase,
    SwitchValue, TypeInner,
};
use std::rc::Rc;

/// Expressions in one of the two ways, up to which both are computed. A wrongly foreseen branch costs ten to twenty times
/// as much as one of them.
const MOST_EXPRESSIONS: usize = 6;

/// Ways that a `switch` has besides its default, at most, and scalars that it sets.
const MOST_WAYS: usize = 3;
const MOST_TARGETS: usize = 2;

/// What a `switch` does for some neighbouring values: the first of them, how many more there are, and what.
struct Way<'p> {
    first: u32,
    more: u32,
    block: &'p Block,
}

/// The ways of a `switch`, and its default, if they are few.
fn ways(cases: &[SwitchCase]) -> Option<(Vec<Way<'_>>, &Block)> {
    let (mut ways, mut default) = (Vec::new(), None);
    // Values that lead to the next block.
    let (mut values, mut is_default) = (Vec::new(), false);
    for case in cases {
        match case.value {
            SwitchValue::I32(value) => values.push(value as u32),
            SwitchValue::U32(value) => values.push(value),
            SwitchValue::Default => is_default = true,
        }
        if case.fall_through && case.body.is_empty() {
            continue;
        }
        if case.fall_through {
            return None;
        }
        values.sort_unstable();
        if is_default {
            // What else leads there goes by itself.
            default = Some(&case.body);
        } else {
            let (first, last) = (*values.first()?, *values.last()?);
            let more = last - first;
            if more as usize + 1 != values.len() || ways.len() == MOST_WAYS {
                return None;
            }
            ways.push(Way { first, more, block: &case.body });
        }
        (values, is_default) = (Vec::new(), false);
    }
    Some((ways, default?))
}

/// All of several lists, each once.
fn union(lists: impl IntoIterator<Item = Vec<Variable>>) -> Vec<Variable> {
    let mut all: Vec<Variable> = lists.into_iter().flatten().collect();
    all.sort_unstable_by_key(|variable| variable.as_u32());
    all.dedup();
    all
}

impl<'p> Translator<'p, '_> {
    /// Translates an `if` without a branch; `false`, and nothing is done, if that does not go or does not pay.
    pub(super) fn choose(
        &mut self,
        body: &mut Body<'p>,
        condition: Value,
        accept: &'p Block,
        reject: &'p Block,
    ) -> Result<bool, Refusal> {
        // A selection of floats is a branch on x86-64.
        let stores = |block| self.stores(body, block, &|kind| kind != ScalarKind::Float);
        let Some(targets) = stores(accept).zip(stores(reject)).map(|(some, others)| union([some, others]))
        else {
            return Ok(false);
        };
        let before = self.read(&targets);
        let accepted = self.way(body, accept, &targets, &before)?;
        let rejected = self.way(body, reject, &targets, &before)?;
        for ((target, accepted), rejected) in targets.iter().zip(accepted).zip(rejected) {
            let value = self.selected(condition, accepted, rejected);
            self.builder.def_var(*target, value);
        }
        Ok(true)
    }

    /// Translates a `switch` without a branch, likewise: a jump to one of several places is foreseen worse than an `if`, so
    /// that even floats are selected, through their bits.
    pub(super) fn choose_case(
        &mut self,
        body: &mut Body<'p>,
        selector: Value,
        cases: &'p [SwitchCase],
    ) -> Result<bool, Refusal> {
        let Some((ways, default)) = ways(cases) else { return Ok(false) };
        let blocks = || ways.iter().map(|way| way.block).chain([default]);
        let stores = blocks().map(|block| self.stores(body, block, &|_| true)).collect::<Option<Vec<_>>>();
        let Some(targets) = stores.map(union) else { return Ok(false) };
        if targets.len() > MOST_TARGETS {
            return Ok(false);
        }
        let before = self.read(&targets);
        let kinds: Vec<_> = before.iter().map(|value| self.builder.func.dfg.value_type(*value)).collect();
        let chosen = self.way(body, default, &targets, &before)?;
        let mut chosen: Vec<_> = chosen.into_iter().map(|value| self.bits(value)).collect();
        for way in &ways {
            let values = self.way(body, way.block, &targets, &before)?;
            // Below the first they are large numbers.
            let above = self.ins().iadd_imm_s(selector, i64::from(way.first.wrapping_neg() as i32));
            let is_it = self.ins().icmp_imm_u(IntCC::UnsignedLessThanOrEqual, above, i64::from(way.more));
            for (chosen, value) in chosen.iter_mut().zip(values) {
                let bits = self.bits(value);
                *chosen = self.ins().select(is_it, bits, *chosen);
            }
        }
        for ((target, bits), kind) in targets.iter().zip(chosen).zip(kinds) {
            let is_float = kind == types::F32;
            let value = if is_float { self.ins().bitcast(kind, MemFlagsData::new(), bits) } else { bits };
            self.builder.def_var(*target, value);
        }
        Ok(true)
    }

    /// A float's bits; what is no float as it is.
    fn bits(&mut self, value: Value) -> Value {
        match self.builder.func.dfg.value_type(value) {
            types::F32 => self.ins().bitcast(types::I32, MemFlagsData::new(), value),
            _ => value,
        }
    }

    /// What the targets are if this way is gone; they are again what they were before.
    fn way(
        &mut self,
        body: &mut Body<'p>,
        block: &'p Block,
        targets: &[Variable],
        before: &[Value],
    ) -> Result<Vec<Value>, Refusal> {
        self.block(body, block)?;
        let values = self.read(targets);
        targets.iter().zip(before).for_each(|(target, value)| self.builder.def_var(*target, *value));
        Ok(values)
    }

    /// One of two values. Where the one is the other and 1 more it is a sum, and of conditions with a constant it is an
    /// `and` or an `or`: several in a row have less to wait for.
    fn selected(&mut self, condition: Value, accepted: Value, rejected: Value) -> Value {
        let [accepted, rejected] =
            [accepted, rejected].map(|value| self.builder.func.dfg.resolve_aliases(value));
        let constants = (self.known_integer(accepted), self.known_integer(rejected));
        if self.builder.func.dfg.value_type(accepted) == types::I8 {
            return match constants {
                (_, Some(0)) => self.ins().band(condition, accepted),
                (Some(1), _) => self.ins().bor(condition, rejected),
                _ => self.ins().select(condition, accepted, rejected),
            };
        }
        let is_one_more = match (constants, self.definition(accepted)) {
            ((Some(accepted), Some(rejected)), _) => accepted.wrapping_sub(rejected) == 1,
            (_, Some(&InstructionData::Binary { opcode: Opcode::Iadd, args: [a, b] })) => {
                self.builder.func.dfg.resolve_aliases(a) == rejected && self.known_integer(b) == Some(1)
            }
            _ => false,
        };
        if is_one_more {
            let one_or_none = self.ins().uextend(types::I32, condition);
            return self.ins().iadd(rejected, one_or_none);
        }
        self.ins().select(condition, accepted, rejected)
    }

    fn read(&mut self, variables: &[Variable]) -> Vec<Value> {
        variables.iter().map(|variable| self.builder.use_var(*variable)).collect()
    }

    /// Where a block puts values of certain kinds, if it is short and does nothing else, whatever the values are.
    fn stores(
        &self,
        body: &Body<'p>,
        block: &'p Block,
        takes: &dyn Fn(ScalarKind) -> bool,
    ) -> Option<Vec<Variable>> {
        let (mut stores, mut count) = (Vec::new(), 0);
        for statement in block {
            match statement {
                S::Emit(range) => {
                    count += range.clone().filter(|one| self.is_work(body, *one)).count();
                    if count > MOST_EXPRESSIONS || !range.clone().all(|one| self.is_harmless(body, one)) {
                        return None;
                    }
                }
                S::Store { pointer, value } => {
                    let is_right = matches!(
                        body.type_of(self.module, *value),
                        TypeInner::Scalar(scalar) if takes(scalar.kind)
                    );
                    let Place::Scalar(variable) = *self.place_of(body, *pointer)? else { return None };
                    if !is_right || !self.is_own(body, *pointer) {
                        return None;
                    }
                    stores.push(variable);
                }
                _ => return None,
            }
        }
        Some(stores)
    }

    /// Does it take an instruction?
    fn is_work(&self, body: &Body<'p>, expression: Handle<E>) -> bool {
        !matches!(body.function.expressions[expression], E::AccessIndex { .. } | E::Load { .. })
    }

    /// May it be computed where its value does not matter, at little cost? An index that is not constant may be in range
    /// only where the condition holds, and what others write is not looked at unasked.
    fn is_harmless(&self, body: &Body<'p>, expression: Handle<E>) -> bool {
        use BinaryOperator as B;
        let is_scalar = |one| matches!(body.type_of(self.module, one), TypeInner::Scalar(_));
        match body.function.expressions[expression] {
            E::AccessIndex { .. } => true,
            E::Load { pointer } => is_scalar(expression) && self.is_own(body, pointer),
            E::Binary { op, left, .. } => {
                is_scalar(expression) && is_scalar(left) && !matches!(op, B::Divide | B::Modulo)
            }
            E::Unary { .. } | E::Select { .. } => is_scalar(expression),
            _ => false,
        }
    }

    /// Does a pointer lead to something of this run's, other than the loop budget, by constant indices?
    fn is_own(&self, body: &Body<'p>, pointer: Handle<E>) -> bool {
        if self.is_fuel(body, pointer) {
            return false;
        }
        match trace(body.function, pointer) {
            (Some(Root::Local(_)), _, is_whole) => is_whole,
            (Some(Root::Argument(index)), _, is_whole) => {
                let is_table =
                    |place: &Place| matches!(place, Place::Memory(at) if at.memory == Memory::Table);
                let argument = &body.arguments[index as usize];
                is_whole && matches!(argument, Operand::Pointer(place) if !is_table(place))
            }
            (Some(Root::Global(global)), _, is_whole) => {
                is_whole && self.module.global_variables[global].space == AddressSpace::Private
            }
            (None, ..) => false,
        }
    }

    /// The place that a pointer leads to by constant indices, also if it has not been computed yet.
    fn place_of(&self, body: &Body<'p>, pointer: Handle<E>) -> Option<Rc<Place>> {
        if let Some(operand) = &body.values[pointer.index()] {
            let Operand::Pointer(place) = operand else { return None };
            return Some(place.clone());
        }
        match body.function.expressions[pointer] {
            E::LocalVariable(local) => body.locals.get(&local).cloned(),
            E::GlobalVariable(global) => self.globals.get(&global).cloned(),
            E::FunctionArgument(index) => match &body.arguments[index as usize] {
                Operand::Pointer(place) => Some(place.clone()),
                _ => None,
            },
            E::AccessIndex { base, index } => {
                let inner = pointee(self.module, body.type_of(self.module, base));
                Some(self.place_of(body, base)?.part(&inner, index))
            }
            _ => None,
        }
    }
}
