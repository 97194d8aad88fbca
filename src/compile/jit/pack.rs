//! Which vectors of four numbers are worth a vector register: sums of vectors from memory, and what is added to them.
//!
//! All others are scalars, one for each component. To take vectors apart costs more than it saves, and most handlers do:
//! a sum of whole vectors is what stays together from its loads to its end.

use super::analysis::{Facts, Root, trace};
use crate::compile::Program;
use crate::compile::shape;
use crate::compile::uses::visit;
use naga::{
    BinaryOperator as B, Expression as E, Function, Handle, LocalVariable, ScalarKind, Statement as S,
    TypeInner, VectorSize,
};
use std::collections::HashSet;

/// Loads and operations that something added to a sum may be made of, at most.
const MOST_OPERATIONS: usize = 64;

/// What of a function is packed.
#[derive(Default)]
pub(super) struct Packed {
    pub locals: HashSet<Handle<LocalVariable>>,
    pub expressions: HashSet<Handle<E>>,
}

/// What of a function to pack, on processors that Cranelift makes vector instructions for, with the lowest byte first.
pub(super) fn packed(program: &Program, handle: Handle<Function>, facts: &Facts) -> Packed {
    let mut packed = Packed::default();
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return packed;
    }
    let function = &program.module.functions[handle];
    let vectors = Vectors { program, handle, function };
    for (local, variable) in function.local_variables.iter() {
        let inner = shape::inner(&program.module, variable.ty);
        if is_vector(inner) && facts.local(local).is_empty() && vectors.is_sum(local) {
            packed.locals.insert(local);
        }
    }
    if packed.locals.is_empty() {
        return packed;
    }
    visit(&function.body, &mut |statement| {
        if let S::Store { pointer, value } = statement
            && matches!(function.expressions[*pointer], E::LocalVariable(local) if packed.locals.contains(&local))
        {
            vectors.mark(*value, &mut packed.expressions);
        }
    });
    packed
}

/// Four numbers of 32 bits?
fn is_vector(inner: &TypeInner) -> bool {
    let TypeInner::Vector { size: VectorSize::Quad, scalar } = inner else { return false };
    matches!(scalar.kind, ScalarKind::Float | ScalarKind::Sint | ScalarKind::Uint)
}

struct Vectors<'p> {
    program: &'p Program,
    handle: Handle<Function>,
    function: &'p Function,
}

impl Vectors<'_> {
    /// Is a local variable always set as a whole, and somewhere to itself and something from memory?
    fn is_sum(&self, local: Handle<LocalVariable>) -> bool {
        let function = self.function;
        let is_it =
            |e: Handle<E>| matches!(function.expressions[e], E::LocalVariable(other) if other == local);
        let is_part =
            |e: Handle<E>| matches!(trace(function, e).0, Some(Root::Local(other)) if other == local);
        let (mut is_whole, mut grows) = (true, false);
        visit(&function.body, &mut |statement| match statement {
            S::Store { pointer, value } if is_it(*pointer) => {
                if let E::Binary { op: B::Add | B::Subtract, left, right } = function.expressions[*value] {
                    let is_old = |e: Handle<E>| matches!(function.expressions[e], E::Load { pointer } if is_it(pointer));
                    grows |= (is_old(left) && self.is_from_memory(right))
                        || (is_old(right) && self.is_from_memory(left));
                }
            }
            S::Store { pointer, .. } => is_whole &= !is_part(*pointer),
            S::Call { arguments, .. } => is_whole &= !arguments.iter().any(|argument| is_part(*argument)),
            _ => {}
        });
        is_whole && grows
    }

    /// Is it a vector loaded from a table, or computed of such by a few operations?
    fn is_from_memory(&self, expression: Handle<E>) -> bool {
        let mut open = vec![expression];
        for _ in 0..MOST_OPERATIONS {
            let Some(expression) = open.pop() else { return true };
            match self.function.expressions[expression] {
                _ if !self.is_vector(expression) => return false,
                E::Load { pointer } => match trace(self.function, pointer).0 {
                    Some(Root::Global(global)) if self.program.table_globals.contains(&global) => {}
                    _ => return false,
                },
                E::Binary { op: B::Add | B::Subtract | B::Multiply, left, right } => {
                    open.extend([left, right])
                }
                _ => return false,
            }
        }
        false
    }

    /// Marks what a packed variable is set to, as far as it is computed of vectors.
    fn mark(&self, value: Handle<E>, marked: &mut HashSet<Handle<E>>) {
        let mut open = vec![value];
        while let Some(expression) = open.pop() {
            let sides = match self.function.expressions[expression] {
                E::Load { .. } if self.is_vector(expression) => None,
                E::Binary { op: B::Add | B::Subtract | B::Multiply, left, right }
                    if self.is_vector(left) && self.is_vector(right) =>
                {
                    Some([left, right])
                }
                _ => continue,
            };
            if marked.insert(expression) {
                open.extend(sides.into_iter().flatten());
            }
        }
    }

    fn is_vector(&self, expression: Handle<E>) -> bool {
        is_vector(self.program.info[self.handle][expression].ty.inner_with(&self.program.module.types))
    }
}
