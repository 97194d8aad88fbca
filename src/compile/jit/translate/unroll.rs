//! Short loops of a known number of iterations, as that many copies of their bodies.
//!
//! In a copy the counter is a constant: indices become offsets, the counter's comparison and most of the budget's
//! checks go. Cranelift does not do that by itself.

use super::{Body, MOST_INSTRUCTIONS, Place, Refusal, Translator};
use crate::compile::jit::analysis::{Root, trace};
use crate::compile::uses::visit;
use cranelift_codegen::ir::{InstBuilder, types};
use cranelift_frontend::Variable;
use naga::{
    BinaryOperator as B, Block, Expression as E, Function, Handle, Literal, LocalVariable, Module,
    Statement as S,
};

/// Iterations of a loop that is unrolled, at most.
const MOST_COPIES: usize = 16;
/// Statements and expressions in all copies, at most. What a function called in the loop has counts; a loop inside
/// counts as many times as it may be copied itself.
const MOST_WEIGHT: usize = 600;

/// A loop to unroll.
pub(super) struct Unrolled {
    counter: Variable,
    /// What the counter is in each iteration, and behind the last.
    values: Vec<u32>,
}

impl<'p> Translator<'p, '_> {
    /// Is this a loop to unroll: `for (…; i < CONSTANT; i += CONSTANT)` with a known `i` to begin with, which nothing
    /// but the loop itself changes?
    pub(super) fn plan_unrolling(
        &mut self,
        body: &Body<'p>,
        inner: &Block,
        continuing: &Block,
    ) -> Option<Unrolled> {
        // A handler that is large already shall not become too large by this.
        if self.builder.func.dfg.num_insts() > MOST_INSTRUCTIONS / 4 {
            return None;
        }
        let function = body.function;
        let (local, op, limit, is_signed) = condition(self.module, function, inner)?;
        let (stepped, step) = step(self.module, function, continuing)?;
        if stepped != local || is_changed(function, inner, local) {
            return None;
        }
        let Place::Scalar(counter) = *body.locals[&local] else { return None };
        let begin = self.builder.use_var(counter);
        let mut value = self.known_integer(begin)?;
        let mut values = vec![value];
        while holds(op, value, limit, is_signed) {
            if values.len() > MOST_COPIES {
                return None;
            }
            value = value.wrapping_add(step);
            values.push(value);
        }
        let weight = self.weight(inner) + self.weight(continuing);
        (weight * values.len() <= MOST_WEIGHT).then_some(Unrolled { counter, values })
    }

    /// Translates the copies; says whether control comes out behind them.
    pub(super) fn unroll(
        &mut self,
        body: &mut Body<'p>,
        plan: &Unrolled,
        inner: &'p Block,
        continuing: &'p Block,
    ) -> Result<bool, Refusal> {
        let mut breaks = self.target();
        let mut comes_back = true;
        for next in &plan.values[1..] {
            (breaks, comes_back) = self.iteration(body, breaks, inner, continuing)?;
            if !comes_back {
                break;
            }
            // What `continuing` computed, as a constant.
            let next = self.ins().iconst(types::I32, i64::from(*next));
            self.builder.def_var(plan.counter, next);
        }
        if comes_back {
            self.jump(&mut breaks);
        }
        Ok(self.land(breaks))
    }

    fn weight(&self, block: &Block) -> usize {
        let mut weight = 0;
        for statement in block {
            weight += match statement {
                S::Emit(range) => range.clone().count(),
                S::Block(block) => self.weight(block),
                S::If { accept, reject, .. } => 1 + self.weight(accept) + self.weight(reject),
                S::Switch { cases, .. } => {
                    1 + cases.iter().map(|case| self.weight(&case.body)).sum::<usize>()
                }
                S::Loop { body, continuing, .. } => {
                    MOST_COPIES * (self.weight(body) + self.weight(continuing))
                }
                S::Call { function, .. } => 1 + self.weight(&self.module.functions[*function].body),
                _ => 1,
            };
            if weight > MOST_WEIGHT {
                break;
            }
        }
        weight
    }
}

/// The question with which a loop's body begins: `local op limit`, or out.
fn condition(
    module: &Module,
    function: &Function,
    inner: &Block,
) -> Option<(Handle<LocalVariable>, B, u32, bool)> {
    let first = inner.iter().find(|statement| !matches!(statement, S::Emit(_)))?;
    let S::If { condition, accept, reject } = first else { return None };
    if !accept.is_empty() || !matches!(reject.last(), Some(S::Break)) || reject.len() > 1 {
        return None;
    }
    let E::Binary { op, left, right } = function.expressions[*condition] else { return None };
    let local = loaded(function, inner, left)?;
    let (limit, is_signed) = literal(module, function, right)?;
    matches!(op, B::Less | B::LessEqual | B::Greater | B::GreaterEqual | B::NotEqual)
        .then_some((local, op, limit, is_signed))
}

/// The one thing that `continuing` does: `local += step`, or `-=`.
fn step(module: &Module, function: &Function, continuing: &Block) -> Option<(Handle<LocalVariable>, u32)> {
    let mut statements = continuing.iter().filter(|statement| !matches!(statement, S::Emit(_)));
    let S::Store { pointer, value } = statements.next()? else { return None };
    if statements.next().is_some() {
        return None;
    }
    let E::LocalVariable(local) = function.expressions[*pointer] else { return None };
    let E::Binary { op, left, right } = function.expressions[*value] else { return None };
    let (step, _) = literal(module, function, right)?;
    let step = match op {
        B::Add => step,
        B::Subtract => step.wrapping_neg(),
        _ => return None,
    };
    (loaded(function, continuing, left)? == local).then_some((local, step))
}

/// The variable that an expression loads, in a block itself: what was loaded elsewhere may be of an earlier iteration.
fn loaded(function: &Function, block: &Block, expression: Handle<E>) -> Option<Handle<LocalVariable>> {
    let is_here = block.iter().any(
        |statement| matches!(statement, S::Emit(range) if range.clone().any(|emitted| emitted == expression)),
    );
    if !is_here {
        return None;
    }
    let E::Load { pointer } = function.expressions[expression] else { return None };
    let E::LocalVariable(local) = function.expressions[pointer] else { return None };
    Some(local)
}

/// An integer's word, and whether it is signed; perhaps by a constant's name.
fn literal(module: &Module, function: &Function, expression: Handle<E>) -> Option<(u32, bool)> {
    let expression = match function.expressions[expression] {
        E::Constant(constant) => &module.global_expressions[module.constants[constant].init],
        ref own => own,
    };
    match *expression {
        E::Literal(Literal::U32(value)) => Some((value, false)),
        E::Literal(Literal::I32(value)) => Some((value as u32, true)),
        _ => None,
    }
}

/// May a block change a variable, by itself or by passing a pointer to it?
fn is_changed(function: &Function, block: &Block, local: Handle<LocalVariable>) -> bool {
    let is_it = |pointer| matches!(trace(function, pointer).0, Some(Root::Local(root)) if root == local);
    let mut is_changed = false;
    visit(block, &mut |statement| {
        is_changed |= match statement {
            S::Store { pointer, .. } => is_it(*pointer),
            S::Call { arguments, .. } => arguments.iter().any(|argument| is_it(*argument)),
            _ => false,
        };
    });
    is_changed
}

fn holds(op: B, value: u32, limit: u32, is_signed: bool) -> bool {
    let order = if is_signed { (value as i32).cmp(&(limit as i32)) } else { value.cmp(&limit) };
    match op {
        B::Less => order.is_lt(),
        B::LessEqual => order.is_le(),
        B::Greater => order.is_gt(),
        B::GreaterEqual => order.is_ge(),
        _ => order.is_ne(),
    }
}
