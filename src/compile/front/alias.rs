//! Two ways to one variable: WGSL's [alias analysis](https://www.w3.org/TR/WGSL/#alias-analysis), which naga leaves out.
//!
//! A function must not write to what a pointer parameter leads to if it also gets there by another parameter or by the
//! variable's name. Some engines pass the variable itself and some copies of it: only such a function could tell.

use naga::{
    AddressSpace, Expression as E, Function, GlobalVariable, Handle, LocalVariable, Module, Statement as S,
};
use std::collections::HashMap;

/// Where a pointer leads to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Root {
    Local(Handle<LocalVariable>),
    /// What a pointer parameter points to.
    Argument(u32),
    Private(Handle<GlobalVariable>),
}

/// What a function does to what somebody else sees, by itself or by what it calls: is it written, or only read?
type Accesses = HashMap<Root, bool>;

/// The accesses of functions, callees before callers.
#[derive(Default)]
pub(super) struct Aliases(HashMap<Handle<Function>, Accesses>);

/// A call that gives a function two ways to one variable, to which it writes.
pub(super) struct Violation {
    /// The place of the argument, from 0.
    pub argument: usize,
    /// That of the other, or else the function has the private variable's name.
    pub other: Option<usize>,
    /// The variable; none if it has no name, as what a parameter points to.
    pub variable: Option<String>,
}

impl Aliases {
    /// Looks at a function after all that it calls.
    pub(super) fn add(&mut self, module: &Module, handle: Handle<Function>) {
        let function = &module.functions[handle];
        let mut accesses = Accesses::new();
        let mut access = |root, is_written| {
            if let Some(root) = root
                && !matches!(root, Root::Local(_))
            {
                *accesses.entry(root).or_default() |= is_written;
            }
        };
        for (_, expression) in function.expressions.iter() {
            if let E::Load { pointer } = *expression {
                access(root(module, function, pointer), false);
            }
        }
        crate::compile::uses::visit(&function.body, &mut |statement| match statement {
            S::Store { pointer, .. } => access(root(module, function, *pointer), true),
            S::Call { function: callee, arguments, .. } => {
                for (of, is_written) in &self.0[callee] {
                    match *of {
                        Root::Argument(index) => {
                            let argument = arguments.get(index as usize);
                            access(argument.and_then(|a| root(module, function, *a)), *is_written);
                        }
                        other => access(Some(other), *is_written),
                    }
                }
            }
            _ => {}
        });
        self.0.insert(handle, accesses);
    }

    /// Looks at a call.
    pub(super) fn check(
        &self,
        module: &Module,
        caller: &Function,
        callee: Handle<Function>,
        arguments: &[Handle<E>],
    ) -> Option<Violation> {
        let accesses = &self.0[&callee];
        // By the root: whose argument leads there, and whether that is written.
        let mut seen: HashMap<Root, (usize, bool)> = HashMap::new();
        for (argument, pointer) in arguments.iter().enumerate() {
            let Some(is_written) = accesses.get(&Root::Argument(argument as u32)).copied() else { continue };
            let Some(root) = root(module, caller, *pointer) else { continue };
            let violation = |other| Some(Violation { argument, other, variable: name(module, caller, root) });
            if let Some((other, other_is_written)) = seen.get(&root) {
                if is_written || *other_is_written {
                    return violation(Some(*other));
                }
            } else {
                seen.insert(root, (argument, is_written));
            }
            let by_name = matches!(root, Root::Private(_)).then(|| accesses.get(&root)).flatten();
            if by_name.is_some_and(|name_is_written| is_written || *name_is_written) {
                return violation(None);
            }
        }
        None
    }
}

fn root(module: &Module, function: &Function, mut pointer: Handle<E>) -> Option<Root> {
    loop {
        pointer = match function.expressions[pointer] {
            E::Access { base, .. } | E::AccessIndex { base, .. } => base,
            E::LocalVariable(local) => return Some(Root::Local(local)),
            E::FunctionArgument(index) => return Some(Root::Argument(index)),
            E::GlobalVariable(global) => {
                let is_private = module.global_variables[global].space == AddressSpace::Private;
                return is_private.then_some(Root::Private(global));
            }
            _ => return None,
        }
    }
}

fn name(module: &Module, function: &Function, root: Root) -> Option<String> {
    match root {
        Root::Local(local) => function.local_variables[local].name.clone(),
        Root::Argument(index) => function.arguments.get(index as usize)?.name.clone(),
        Root::Private(global) => module.global_variables[global].name.clone(),
    }
}
