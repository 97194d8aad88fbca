//! Workgroups that end before the shortest of their tables does: for them a version of an entry point that does not
//! compare `global_invocation_id.x` with their lengths.
//!
//! Most entry points have an element of each table for an invocation, and that is its index. Lowering brings every index
//! into range, and most authors compare it with a length themselves. One comparison with each table, for the whole
//! workgroup, says the same. Other indices are looked at as ever.

use super::{Builtin, ComputeProgram, Parameter};
use naga::{
    BinaryOperator as B, Expression as E, Function, GlobalVariable, Handle, Literal, MathFunction, ScalarKind,
};

/// A version of an entry point for workgroups whose invocations all are within these tables.
pub(super) struct Within {
    pub function: Function,
    pub tables: Vec<Handle<GlobalVariable>>,
}

/// `None` if the entry point asks nothing that such a version need not ask.
pub(super) fn within(compute: &ComputeProgram) -> Option<Within> {
    let mut function = compute.module.functions[compute.entry].clone();
    let mut tables = Vec::new();
    let all: Vec<_> = function.expressions.iter().map(|(handle, _)| handle).collect();
    for handle in all {
        let Some((table, answer)) = question(compute, &function, handle) else { continue };
        if !tables.contains(&table) {
            tables.push(table);
        }
        function.expressions[handle] = answer;
    }
    (!tables.is_empty()).then_some(Within { function, tables })
}

/// If an expression asks whether an invocation is within a table: which, and what it is where it is known to be.
fn question(
    compute: &ComputeProgram,
    function: &Function,
    expression: Handle<E>,
) -> Option<(Handle<GlobalVariable>, E)> {
    let of = |handle: Handle<E>| &function.expressions[handle];
    let id = |handle| is_id(compute, function, handle).then_some(handle);
    let length = |handle| {
        let E::ArrayLength(base) = *of(handle) else { return None };
        let E::GlobalVariable(table) = *of(base) else { return None };
        Some(table)
    };
    // True, or false: a constant would have to be somewhere else in the function.
    let known =
        |left, is_true| E::Binary { op: if is_true { B::LessEqual } else { B::Less }, left, right: left };
    match *of(expression) {
        // As lowering writes it: `min(id, arrayLength(&table) - 1)`.
        E::Math { fun: MathFunction::Min, arg, arg1: Some(last), .. } => {
            let (id, E::Binary { op: B::Subtract, left, right }) = (id(arg)?, of(last)) else { return None };
            let table = length(*left)?;
            // The same under a name of its own.
            let same = E::As { expr: id, kind: ScalarKind::Uint, convert: None };
            matches!(of(*right), E::Literal(Literal::U32(1))).then_some((table, same))
        }
        E::Binary { op: op @ (B::Less | B::GreaterEqual), left, right } => {
            let (id, table) = (id(left)?, length(right)?);
            Some((table, known(id, op == B::Less)))
        }
        E::Binary { op: op @ (B::Greater | B::LessEqual), left, right } => {
            let (id, table) = (id(right)?, length(left)?);
            Some((table, known(id, op == B::Greater)))
        }
        _ => None,
    }
}

/// Is it `global_invocation_id.x`?
fn is_id(compute: &ComputeProgram, function: &Function, expression: Handle<E>) -> bool {
    let E::AccessIndex { mut base, index: 0 } = function.expressions[expression] else { return false };
    let mut member = None;
    if let E::AccessIndex { base: parameter, index } = function.expressions[base] {
        (base, member) = (parameter, Some(index as usize));
    }
    let E::FunctionArgument(argument) = function.expressions[base] else { return false };
    let builtin = match &compute.parameters[argument as usize] {
        Parameter::One(builtin) => Some(builtin),
        Parameter::Struct(builtins) => member.map(|member| &builtins[member]),
    };
    builtin == Some(&Builtin::GlobalInvocationId)
}
