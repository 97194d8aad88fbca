//! An `if` that only decides which values a few scalars get is a row of selections: no branch that a processor may foresee
//! wrongly, at the price of computing both.

use super::place::{Memory, pointee};
use super::{Body, Operand, Place, Refusal, Translator};
use crate::compile::jit::analysis::{Root, trace};
use cranelift_codegen::ir::{InstBuilder, Value};
use cranelift_frontend::Variable;
use naga::{
    AddressSpace, BinaryOperator, Block, Expression as E, Handle, ScalarKind, Statement as S, TypeInner,
};
use std::rc::Rc;

/// Expressions in one of the two ways, up to which both are computed. A wrongly foreseen branch costs ten to twenty times
/// as much as one of them.
const MOST_EXPRESSIONS: usize = 6;

impl<'p> Translator<'p, '_> {
    /// Translates an `if` without a branch; `false`, and nothing is done, if that does not go or does not pay.
    pub(super) fn choose(
        &mut self,
        body: &mut Body<'p>,
        condition: Value,
        accept: &'p Block,
        reject: &'p Block,
    ) -> Result<bool, Refusal> {
        let (Some(mut targets), Some(others)) = (self.stores(body, accept), self.stores(body, reject)) else {
            return Ok(false);
        };
        targets.extend(others);
        targets.sort_unstable_by_key(|target| target.as_u32());
        targets.dedup();
        let before = self.read(&targets);
        self.block(body, accept)?;
        let accepted = self.read(&targets);
        targets.iter().zip(&before).for_each(|(target, value)| self.builder.def_var(*target, *value));
        self.block(body, reject)?;
        let rejected = self.read(&targets);
        for ((target, accepted), rejected) in targets.iter().zip(accepted).zip(rejected) {
            let value = self.ins().select(condition, accepted, rejected);
            self.builder.def_var(*target, value);
        }
        Ok(true)
    }

    fn read(&mut self, variables: &[Variable]) -> Vec<Value> {
        variables.iter().map(|variable| self.builder.use_var(*variable)).collect()
    }

    /// Where a block puts values, if it is short and does nothing else, whatever the values are.
    fn stores(&self, body: &Body<'p>, block: &'p Block) -> Option<Vec<Variable>> {
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
                    // A selection of floats is a branch on x86-64.
                    let is_integer = matches!(
                        body.type_of(self.module, *value),
                        TypeInner::Scalar(scalar) if scalar.kind != ScalarKind::Float
                    );
                    let Place::Scalar(variable) = *self.place_of(body, *pointer)? else { return None };
                    if !is_integer || !self.is_own(body, *pointer) {
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
