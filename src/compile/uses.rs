//! What is in a block of a handler: its statements, and the expressions that they use.

use naga::{Block, Expression as E, Function, Handle, Statement as S};
use std::collections::HashSet;

/// Visits every statement of a block and of the blocks inside.
pub(super) fn visit(block: &Block, with: &mut dyn FnMut(&S)) {
    block.iter().for_each(|statement| visit_statement(statement, with));
}

/// Visits a statement and those inside it.
pub(super) fn visit_statement(statement: &S, with: &mut dyn FnMut(&S)) {
    with(statement);
    match statement {
        S::Block(block) => visit(block, with),
        S::If { accept, reject, .. } => {
            visit(accept, with);
            visit(reject, with);
        }
        S::Switch { cases, .. } => cases.iter().for_each(|case| visit(&case.body, with)),
        S::Loop { body, continuing, .. } => {
            visit(body, with);
            visit(continuing, with);
        }
        _ => {}
    }
}

/// Collects every expression that a block uses.
pub(super) fn uses(function: &Function, block: &Block, used: &mut HashSet<Handle<E>>) {
    visit(block, &mut |statement| match statement {
        S::Emit(range) => {
            for handle in range.clone() {
                operands(&function.expressions[handle], used);
            }
        }
        S::If { condition, .. } => {
            used.insert(*condition);
        }
        S::Switch { selector, .. } => {
            used.insert(*selector);
        }
        S::Store { pointer, value } => used.extend([*pointer, *value]),
        S::Atomic { pointer, fun, value, .. } => {
            used.extend([*pointer, *value]);
            if let naga::AtomicFunction::Exchange { compare: Some(expected) } = fun {
                used.insert(*expected);
            }
        }
        S::Call { arguments, .. } => used.extend(arguments),
        S::WorkGroupUniformLoad { pointer, .. } => {
            used.insert(*pointer);
        }
        S::Loop { break_if, .. } => used.extend(break_if),
        _ => {}
    });
}

fn operands(expression: &E, used: &mut HashSet<Handle<E>>) {
    match expression {
        E::Compose { components, .. } => used.extend(components),
        E::Access { base, index } => used.extend([*base, *index]),
        E::AccessIndex { base: one, .. }
        | E::Splat { value: one, .. }
        | E::Swizzle { vector: one, .. }
        | E::Load { pointer: one }
        | E::Unary { expr: one, .. }
        | E::Relational { argument: one, .. }
        | E::As { expr: one, .. }
        | E::ArrayLength(one) => {
            used.insert(*one);
        }
        E::Binary { left, right, .. } => used.extend([*left, *right]),
        E::Select { condition, accept, reject } => used.extend([*condition, *accept, *reject]),
        E::Math { arg, arg1, arg2, arg3, .. } => {
            used.insert(*arg);
            used.extend([arg1, arg2, arg3].into_iter().flatten());
        }
        _ => {}
    }
}
