//! Pointers to a part of a variable, as arguments: SPIR-V has only those to whole variables.
//!
//! naga's SPIR-V writer panics at the others. Such a part is copied to a variable of its own before the call, and back
//! after it. Nobody can tell: WGSL forbids that a function reaches what one of its parameters points to in another way,
//! if either writes, and the front refuses it.

use naga::{
    AddressSpace, Block, Expression as E, Function, GlobalVariable, Handle, LocalVariable, Module, Range,
    Span, Statement as S, Type, TypeInner,
};

/// Makes every pointer that is passed one to a whole variable.
pub(super) fn pass_whole_variables(module: &mut Module) {
    let handles: Vec<_> = module.functions.iter().map(|(handle, _)| handle).collect();
    for handle in handles {
        let mut function = std::mem::take(module.functions.get_mut(handle));
        let body = std::mem::take(&mut function.body);
        function.body = block(module, &mut function, body);
        *module.functions.get_mut(handle) = function;
    }
}

fn block(module: &mut Module, function: &mut Function, old: Block) -> Block {
    let mut new = Block::with_capacity(old.len());
    for (statement, span) in old.span_into_iter() {
        let mut inside = |body| block(module, function, body);
        let statement = match statement {
            S::Block(body) => S::Block(inside(body)),
            S::If { condition, accept, reject } => {
                S::If { condition, accept: inside(accept), reject: inside(reject) }
            }
            S::Switch { selector, mut cases } => {
                for case in &mut cases {
                    case.body = inside(std::mem::take(&mut case.body));
                }
                S::Switch { selector, cases }
            }
            S::Loop { body, continuing, break_if } => {
                S::Loop { body: inside(body), continuing: inside(continuing), break_if }
            }
            S::Call { function: callee, mut arguments, result } => {
                let copies = copy(module, function, callee, &mut arguments, &mut new);
                new.push(S::Call { function: callee, arguments, result }, span);
                for (part, variable) in copies {
                    let value = load(function, variable, &mut new);
                    new.push(S::Store { pointer: part, value }, span);
                }
                continue;
            }
            other => other,
        };
        new.push(statement, span);
    }
    new
}

/// Puts variables in the place of parts; the parts and their variables.
fn copy(
    module: &mut Module,
    function: &mut Function,
    callee: Handle<Function>,
    arguments: &mut [Handle<E>],
    block: &mut Block,
) -> Vec<(Handle<E>, Handle<E>)> {
    let mut copies = Vec::new();
    for (index, argument) in arguments.iter_mut().enumerate() {
        let is_part = matches!(function.expressions[*argument], E::Access { .. } | E::AccessIndex { .. });
        let parameter = module.functions[callee].arguments[index].ty;
        let TypeInner::Pointer { base, space } = module.types[parameter].inner else { continue };
        if is_part {
            let variable = variable(module, function, base, space);
            let value = load(function, *argument, block);
            block.push(S::Store { pointer: variable, value }, Span::UNDEFINED);
            copies.push((std::mem::replace(argument, variable), variable));
        }
    }
    copies
}

/// A new variable that a pointer into this space can point to.
fn variable(
    module: &mut Module,
    function: &mut Function,
    ty: Handle<Type>,
    space: AddressSpace,
) -> Handle<E> {
    let expression = if space == AddressSpace::Function {
        E::LocalVariable(
            function.local_variables.append(LocalVariable { name: None, ty, init: None }, Span::UNDEFINED),
        )
    } else {
        // One for each place: a variable of the callee's callee is never this one.
        let global = GlobalVariable {
            name: None,
            space,
            binding: None,
            ty,
            init: None,
            memory_decorations: Default::default(),
        };
        E::GlobalVariable(module.global_variables.append(global, Span::UNDEFINED))
    };
    function.expressions.append(expression, Span::UNDEFINED)
}

fn load(function: &mut Function, pointer: Handle<E>, block: &mut Block) -> Handle<E> {
    let value = function.expressions.append(E::Load { pointer }, Span::UNDEFINED);
    block.push(S::Emit(Range::new_from_bounds(value, value)), Span::UNDEFINED);
    value
}
