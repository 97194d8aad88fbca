//! Which barriers are not reached by all invocations of a workgroup, or load another place for each: WGSL's uniformity
//! analysis, as far as barriers need it, and a little stricter: what a variable holds is judged over the whole function.
//!
//! naga does not look at this. On a GPU such a barrier hangs, or worse.

use super::{Builtin, Parameter};
use crate::compile::uses::visit;
use naga::{
    AddressSpace, Block, Expression as E, Function, Handle, LocalVariable, Module, Span, Statement as S,
    StorageAccess,
};
use std::cell::Cell;
use std::collections::HashSet;

/// A barrier at which not all invocations meet for the same.
pub(in crate::compile) struct Violation {
    pub barrier: Span,
    pub why: Why,
}

/// What differs between invocations.
pub(in crate::compile) enum Why {
    /// This condition decides who reaches the barrier.
    Condition(Span),
    /// This condition decides who leaves the `switch` around it by that statement.
    LeavesSwitch(Span, Span),
    /// The place that is loaded for all of them.
    Place,
}

/// The first barrier in a block.
fn first_barrier(block: &Block) -> Option<Span> {
    block.span_iter().find_map(|(statement, span)| match statement {
        S::ControlBarrier(_) | S::WorkGroupUniformLoad { .. } => Some(*span),
        S::Block(block) => first_barrier(block),
        S::If { accept, reject, .. } => first_barrier(accept).or_else(|| first_barrier(reject)),
        S::Switch { cases, .. } => cases.iter().find_map(|case| first_barrier(&case.body)),
        S::Loop { body, continuing, .. } => first_barrier(body).or_else(|| first_barrier(continuing)),
        _ => None,
    })
}

/// Is this a statement that all invocations of a workgroup have to reach together?
pub(in crate::compile) fn is_barrier(statement: &S) -> bool {
    matches!(statement, S::ControlBarrier(_) | S::WorkGroupUniformLoad { .. })
}

/// Looks at an entry point.
pub(in crate::compile) fn check(
    module: &Module,
    function: &Function,
    parameters: &[Parameter],
) -> Option<Violation> {
    let mut analysis = Analysis {
        module,
        function,
        parameters,
        gives_the_same: same_for_same(module),
        changing: HashSet::new(),
        known: vec![Cell::new(None); function.expressions.len()],
        violation: None,
        has_changed: true,
    };
    // Variables only ever stop being uniform, so this ends.
    while std::mem::take(&mut analysis.has_changed) {
        analysis.violation = None;
        let mut flow = Flow { cause: None, leaves: Leaves::default() };
        analysis.block(&function.body, &mut flow);
    }
    analysis.violation
}

/// Ways out of the statements that have been seen, taken by some invocations only: by what.
#[derive(Clone, Copy, Default)]
struct Leaves {
    breaks: Option<Span>,
    /// The statement that does so for `breaks`: of a function that has become part of this one it is a `return`.
    breaks_by: Span,
    continues: Option<Span>,
    returns: Option<Span>,
}

/// Control flow at a place.
struct Flow {
    /// Why not all invocations are here; `None` if they are.
    cause: Option<Span>,
    leaves: Leaves,
}

struct Analysis<'a> {
    module: &'a Module,
    function: &'a Function,
    parameters: &'a [Parameter],
    /// By function: what [`same_for_same`] says.
    gives_the_same: Vec<bool>,
    /// Variables that may differ between invocations.
    changing: HashSet<Handle<LocalVariable>>,
    /// By expression: is it uniform, as long as no more variables are changing? One is often an operand of many.
    known: Vec<Cell<Option<bool>>>,
    violation: Option<Violation>,
    has_changed: bool,
}

impl Analysis<'_> {
    fn block(&mut self, block: &Block, flow: &mut Flow) {
        for (statement, span) in block.span_iter() {
            self.statement(statement, *span, flow);
        }
    }

    /// A barrier, and what is wrong with it; the first one counts.
    fn meet(&mut self, barrier: Span, why: Option<Why>) {
        if self.violation.is_none() {
            self.violation = why.map(|why| Violation { barrier, why });
        }
    }

    /// A block that runs under a condition.
    fn branch(&mut self, block: &Block, cause: Option<Span>) -> Leaves {
        let mut inner = Flow { cause, leaves: Leaves::default() };
        self.block(block, &mut inner);
        inner.leaves
    }

    fn statement(&mut self, statement: &S, span: Span, flow: &mut Flow) {
        let cause = flow.cause;
        match statement {
            S::ControlBarrier(_) => self.meet(span, cause.map(Why::Condition)),
            S::WorkGroupUniformLoad { pointer, .. } => {
                let place = (!self.leads_to_one_place(*pointer)).then_some(Why::Place);
                self.meet(span, cause.map(Why::Condition).or(place));
            }
            S::Block(block) => self.block(block, flow),
            S::If { condition, accept, reject } => {
                let inside = cause.or_else(|| self.cause(*condition, span));
                for block in [accept, reject] {
                    let leaves = self.branch(block, inside);
                    flow.join(leaves);
                }
            }
            S::Switch { selector, cases } => {
                let inside = cause.or_else(|| self.cause(*selector, span));
                let barrier = cases.iter().find_map(|case| first_barrier(&case.body));
                for case in cases {
                    let leaves = self.branch(&case.body, inside);
                    // The workgroup goes through such a `switch` as one, so that it also leaves it as one.
                    if let Some(barrier) = barrier {
                        let why = leaves.breaks.map(|cause| Why::LeavesSwitch(cause, leaves.breaks_by));
                        self.meet(barrier, why);
                    }
                    // A `break` ends in the switch.
                    flow.join(Leaves { breaks: None, ..leaves });
                }
            }
            S::Loop { body, continuing, break_if } => {
                let mut inside = cause;
                // What leaves the loop for some makes its next iteration one for the others: a second look, if the
                // first one finds that.
                loop {
                    let mut inner = Flow { cause: inside, leaves: Leaves::default() };
                    self.block(body, &mut inner);
                    self.block(continuing, &mut inner);
                    let broken = break_if.and_then(|condition| self.cause(condition, span));
                    let Leaves { breaks, continues, returns, .. } = inner.leaves;
                    flow.join(Leaves { returns, ..Leaves::default() });
                    let next = breaks.or(continues).or(returns).or(broken);
                    if inside.is_some() || next.is_none() {
                        break;
                    }
                    inside = next;
                }
            }
            S::Break => {
                let leaves = Leaves { breaks: cause, breaks_by: span, ..Leaves::default() };
                flow.leaves.add_break(leaves);
            }
            S::Continue => flow.leaves.continues = flow.leaves.continues.or(cause),
            S::Return { .. } => flow.leaves.returns = flow.leaves.returns.or(cause),
            S::Store { pointer, value }
                if cause.is_some() || !self.is_uniform(*value) || !self.leads_to_one_place(*pointer) =>
            {
                self.change(*pointer);
            }
            S::Call { arguments, .. } => arguments.iter().for_each(|argument| self.change(*argument)),
            _ => {}
        }
    }

    /// The place of a condition that may differ between invocations; `span` is the statement's that asks for it.
    fn cause(&self, condition: Handle<E>, span: Span) -> Option<Span> {
        (!self.is_uniform(condition)).then(|| {
            // A parameter stands in the function's head.
            let is_parameter = matches!(self.function.expressions[condition], E::FunctionArgument(_));
            let own = self.function.expressions.get_span(condition);
            if is_parameter || !own.is_defined() { span } else { own }
        })
    }

    /// What is behind a pointer to a variable may differ from now on.
    fn change(&mut self, mut pointer: Handle<E>) {
        loop {
            match self.function.expressions[pointer] {
                E::Access { base, .. } | E::AccessIndex { base, .. } => pointer = base,
                E::LocalVariable(local) => {
                    if self.changing.insert(local) {
                        self.has_changed = true;
                        self.known.fill(Cell::new(None));
                    }
                    return;
                }
                _ => return,
            }
        }
    }

    /// Are all indices of a pointer the same for all invocations?
    fn leads_to_one_place(&self, pointer: Handle<E>) -> bool {
        match self.function.expressions[pointer] {
            E::Access { base, index } => self.is_uniform(index) && self.leads_to_one_place(base),
            E::AccessIndex { base, .. } => self.leads_to_one_place(base),
            _ => true,
        }
    }

    fn is_uniform(&self, expression: Handle<E>) -> bool {
        let known = &self.known[expression.index()];
        known.get().unwrap_or_else(|| {
            let is_uniform = self.has_uniform_operands(expression);
            known.set(Some(is_uniform));
            is_uniform
        })
    }

    fn has_uniform_operands(&self, expression: Handle<E>) -> bool {
        let all = |operands: &[Handle<E>]| operands.iter().all(|operand| self.is_uniform(*operand));
        match self.function.expressions[expression] {
            E::FunctionArgument(index) => match &self.parameters[index as usize] {
                Parameter::One(builtin) => is_shared(*builtin),
                Parameter::Struct(builtins) => builtins.iter().all(|builtin| is_shared(*builtin)),
            },
            E::AccessIndex { base, index } => match self.function.expressions[base] {
                E::FunctionArgument(argument) => match &self.parameters[argument as usize] {
                    Parameter::Struct(builtins) => is_shared(builtins[index as usize]),
                    Parameter::One(builtin) => is_shared(*builtin),
                },
                _ => self.is_uniform(base),
            },
            E::Load { pointer } => self.is_uniform(pointer),
            E::LocalVariable(local) => !self.changing.contains(&local),
            E::GlobalVariable(global) => is_constant(self.module.global_variables[global].space),
            E::CallResult(function) => self.is_call_uniform(function, expression),
            E::AtomicResult { .. } => false,
            E::Access { base, index } => all(&[base, index]),
            E::Splat { value, .. } => self.is_uniform(value),
            E::Swizzle { vector, .. } => self.is_uniform(vector),
            E::Unary { expr, .. } | E::As { expr, .. } => self.is_uniform(expr),
            E::Binary { left, right, .. } => all(&[left, right]),
            E::Select { condition, accept, reject } => all(&[condition, accept, reject]),
            E::Relational { argument, .. } => self.is_uniform(argument),
            E::Compose { ref components, .. } => all(components),
            E::Math { arg, arg1, arg2, arg3, .. } => {
                [Some(arg), arg1, arg2, arg3].into_iter().flatten().all(|arg| self.is_uniform(arg))
            }
            // Constants, lengths of buffers, and what `workgroupUniformLoad` gives to all.
            _ => true,
        }
    }

    /// The result of a call of a function that looks at nothing that differs, with arguments that do not.
    fn is_call_uniform(&self, callee: Handle<Function>, result: Handle<E>) -> bool {
        let mut is_same = self.gives_the_same[callee.index()];
        visit(&self.function.body, &mut |statement| {
            if let S::Call { arguments, result: Some(given), .. } = statement
                && *given == result
            {
                is_same &= arguments.iter().all(|argument| self.is_uniform(*argument));
            }
        });
        is_same
    }
}

impl Leaves {
    /// Keeps the first one.
    fn add_break(&mut self, other: Self) {
        if self.breaks.is_none() {
            (self.breaks, self.breaks_by) = (other.breaks, other.breaks_by);
        }
    }
}

impl Flow {
    /// Behind a statement some ways of which lead elsewhere.
    fn join(&mut self, joined: Leaves) {
        let Leaves { breaks, continues, returns, .. } = joined;
        let leaves = &mut self.leaves;
        leaves.add_break(joined);
        leaves.continues = leaves.continues.or(continues);
        leaves.returns = leaves.returns.or(returns);
        self.cause = self.cause.or(breaks).or(continues).or(returns);
    }
}

fn is_shared(builtin: Builtin) -> bool {
    matches!(builtin, Builtin::WorkgroupId | Builtin::NumWorkgroups)
}

/// Does memory of this kind hold the same for all invocations, whatever they do?
fn is_constant(space: AddressSpace) -> bool {
    match space {
        AddressSpace::Storage { access } => !access.contains(StorageAccess::STORE),
        AddressSpace::Uniform => true,
        _ => false,
    }
}

/// By function: does it give the same for the same arguments, as it looks at nothing that differs, and calls nothing
/// that does? Callees stand before their callers.
fn same_for_same(module: &Module) -> Vec<bool> {
    let mut all: Vec<bool> = Vec::new();
    for (_, function) in module.functions.iter() {
        let mut is_same = function.expressions.iter().all(|(_, expression)| match *expression {
            E::GlobalVariable(global) => is_constant(module.global_variables[global].space),
            E::AtomicResult { .. } => false,
            _ => true,
        });
        // Also a call without a result: it may store through a pointer.
        visit(&function.body, &mut |statement| {
            if let S::Call { function: callee, .. } = statement {
                is_same &= all[callee.index()];
            }
        });
        all.push(is_same);
    }
    all
}
