//! Planted bugs: engines that are wrong on purpose, to see that the comparison notices.
//!
//! Each is the interpreter on a lowered module with one thing changed, so no engine has a hook for it.

use super::{Floats, GeneratedHandler, check, run_series, strategy};
use crate::compile::front::CAPABILITIES;
use crate::compile::lower::map_operands;
use crate::compile::{Interpreter, Program};
use naga::valid::{FunctionInfo, ValidationFlags, Validator};
use naga::{
    Arena, AtomicFunction, BinaryOperator as B, Block, Expression as E, Function, Handle, Literal,
    MathFunction as M, Module, Range, ScalarKind as K, Span, Statement as S, TypeInner,
};
use std::cell::RefCell;
use std::sync::Arc;

/// What a bug makes of an expression, `old` in the old function and `new` with the new one's operands; it may add
/// expressions that stand before.
type Change = fn(scene: &Scene<'_>, old: &E, new: &E, add: &mut dyn FnMut(E) -> Handle<E>) -> Option<E>;

/// How a bug changes a program.
enum Bug {
    InExpressions(Change),
    /// Changes something in place.
    InModule(fn(&mut Program)),
}

/// The function that an expression stands in.
struct Scene<'a> {
    module: &'a Module,
    info: &'a FunctionInfo,
    /// Literals that stand before everything else in the new function.
    half: Handle<E>,
    one: Handle<E>,
    /// The literals of the old function, by their new handles.
    literals: Vec<(Handle<E>, Literal)>,
}

impl Scene<'_> {
    fn inner(&self, old: Handle<E>) -> &TypeInner {
        self.info[old].ty.inner_with(&self.module.types)
    }

    fn is(&self, old: Handle<E>, kind: K) -> bool {
        self.inner(old).scalar_kind() == Some(kind)
    }
}

fn cast(expr: Handle<E>, kind: K) -> E {
    E::As { expr, kind, convert: None }
}

fn math(fun: M, arg: Handle<E>, arg1: Option<Handle<E>>) -> E {
    E::Math { fun, arg, arg1, arg2: None, arg3: None }
}

const BUGS: [(&str, Bug); 15] = [
    (
        "ties are rounded up",
        Bug::InExpressions(|scene, old, new, add| match (old, new) {
            (E::Math { fun: M::Round, arg, .. }, &E::Math { arg: new, .. }) => {
                let half = match *scene.inner(*arg) {
                    TypeInner::Vector { size, .. } => add(E::Splat { size, value: scene.half }),
                    _ => scene.half,
                };
                let sum = add(E::Binary { op: B::Add, left: new, right: half });
                Some(math(M::Floor, sum, None))
            }
            _ => None,
        }),
    ),
    (
        "a shift of i32 fills with zeros",
        Bug::InExpressions(|scene, old, new, add| match (old, new) {
            (E::Binary { op: B::ShiftRight, left, .. }, &E::Binary { op, left: new, right })
                if scene.is(*left, K::Sint) =>
            {
                let left = add(cast(new, K::Uint));
                let shifted = add(E::Binary { op, left, right });
                Some(cast(shifted, K::Sint))
            }
            _ => None,
        }),
    ),
    (
        "an index is clamped one short",
        Bug::InExpressions(|scene, _, new, add| match *new {
            E::Math { fun: M::Min, arg, arg1: Some(last), .. }
                if scene.literals.iter().any(|(h, l)| *h == last && matches!(l, Literal::U32(1..))) =>
            {
                let last = add(E::Binary { op: B::Subtract, left: last, right: scene.one });
                Some(math(M::Min, arg, Some(last)))
            }
            _ => None,
        }),
    ),
    ("the budget is one short", Bug::InModule(|program| change_budget(program, u32::MAX))),
    ("the budget is one too long", Bug::InModule(|program| change_budget(program, 1))),
    (
        "a swizzle swaps two lanes",
        Bug::InExpressions(|_, _, new, _| match *new {
            E::Swizzle { size, vector, mut pattern } => {
                pattern.swap(0, 1);
                Some(E::Swizzle { size, vector, pattern })
            }
            _ => None,
        }),
    ),
    (
        "the second lane of a vector is the first",
        Bug::InExpressions(|scene, _, new, _| match new {
            E::Compose { ty, components } if components.len() == 2 => {
                let is_vector = matches!(
                    scene.module.types[*ty].inner,
                    TypeInner::Vector { size: naga::VectorSize::Bi, .. }
                );
                is_vector.then(|| E::Compose { ty: *ty, components: vec![components[0]; 2] })
            }
            _ => None,
        }),
    ),
    (
        "a float is less than its equal",
        Bug::InExpressions(|scene, old, new, _| match (old, new) {
            (E::Binary { op: B::Less, left, .. }, &E::Binary { left: new, right, .. })
                if scene.is(*left, K::Float) =>
            {
                Some(E::Binary { op: B::LessEqual, left: new, right })
            }
            _ => None,
        }),
    ),
    (
        "i32 are divided as u32",
        Bug::InExpressions(|scene, old, new, add| match (old, new) {
            (E::Binary { op: B::Divide, left, .. }, &E::Binary { op, left: new, right })
                if scene.is(*left, K::Sint) =>
            {
                let (left, right) = (add(cast(new, K::Uint)), add(cast(right, K::Uint)));
                let quotient = add(E::Binary { op, left, right });
                Some(cast(quotient, K::Sint))
            }
            _ => None,
        }),
    ),
    (
        "u32 are compared as i32",
        Bug::InExpressions(|scene, old, new, add| match (old, new) {
            (E::Binary { op: B::Greater, left, .. }, &E::Binary { op, left: new, right })
                if scene.is(*left, K::Uint) =>
            {
                let (left, right) = (add(cast(new, K::Sint)), add(cast(right, K::Sint)));
                Some(E::Binary { op, left, right })
            }
            _ => None,
        }),
    ),
    (
        "a float is rounded on its way to i32",
        Bug::InExpressions(|scene, old, new, add| match (old, new) {
            (E::As { expr, kind: K::Sint, convert: Some(_) }, &E::As { expr: new, kind, convert })
                if scene.is(*expr, K::Float) =>
            {
                let expr = add(math(M::Round, new, None));
                Some(E::As { expr, kind, convert })
            }
            _ => None,
        }),
    ),
    (
        "a u32 becomes a float as an i32 does",
        Bug::InExpressions(|scene, old, new, add| match (old, new) {
            (E::As { expr, kind: K::Float, convert: Some(_) }, &E::As { expr: new, kind, convert })
                if scene.is(*expr, K::Uint) =>
            {
                let expr = add(cast(new, K::Sint));
                Some(E::As { expr, kind, convert })
            }
            _ => None,
        }),
    ),
    (
        "an output takes one less",
        Bug::InModule(|program| {
            for (_, function) in program.module.functions.iter_mut() {
                let is_emit = function.name.as_deref().is_some_and(|name| name.starts_with("emit_"));
                for (_, expression) in function.expressions.iter_mut().filter(|_| is_emit) {
                    if let E::Literal(Literal::U32(most @ 2..)) = expression {
                        *most -= 1;
                    }
                }
            }
        }),
    ),
    (
        "atomicSub adds",
        Bug::InModule(|program| {
            for (_, function) in program.module.functions.iter_mut() {
                visit(&mut function.body, &mut |statement| {
                    if let S::Atomic { fun: fun @ AtomicFunction::Subtract, .. } = statement {
                        *fun = AtomicFunction::Add;
                    }
                });
            }
        }),
    ),
    (
        "private variables keep their values",
        Bug::InModule(|program| {
            let entry = program.module.functions.get_mut(program.entry);
            let globals = &program.module.global_variables;
            let is_library = |pointer: Handle<E>| match entry.expressions[pointer] {
                E::GlobalVariable(global) => {
                    globals[global].name.as_deref().is_some_and(|name| name.starts_with("rt_"))
                }
                _ => true,
            };
            let kept = entry.body.iter().filter(|s| match s {
                S::Store { pointer, .. } => is_library(*pointer),
                _ => true,
            });
            entry.body = Block::from_vec(kept.cloned().collect());
        }),
    ),
];

/// Adds to the number of iterations that the prologue stores.
fn change_budget(program: &mut Program, by: u32) {
    let budget = program.module.global_variables.iter().find(|(_, g)| g.name.as_deref() == Some("rt_fuel"));
    let budget = budget.expect("lowering declares it").0;
    let entry = program.module.functions.get_mut(program.entry);
    let stored = entry.body.iter().find_map(|statement| match *statement {
        S::Store { pointer, value } if entry.expressions[pointer] == E::GlobalVariable(budget) => Some(value),
        _ => None,
    });
    let E::Literal(Literal::U32(budget)) = entry.expressions[stored.expect("the prologue stores it")] else {
        panic!("the budget is a literal")
    };
    let changed = E::Literal(Literal::U32(budget.wrapping_add(by)));
    *entry.expressions.get_mut(stored.expect("found above")) = changed;
}

fn visit(block: &mut Block, change: &mut dyn FnMut(&mut S)) {
    for statement in block.iter_mut() {
        change(statement);
        match statement {
            S::Block(block) => visit(block, change),
            S::If { accept, reject, .. } => {
                visit(accept, change);
                visit(reject, change);
            }
            S::Switch { cases, .. } => cases.iter_mut().for_each(|case| visit(&mut case.body, change)),
            S::Loop { body, continuing, .. } => {
                visit(body, change);
                visit(continuing, change);
            }
            _ => {}
        }
    }
}

/// The new handles of a function's expressions: where what was made for each begins and ends.
struct Places(Vec<(Handle<E>, Handle<E>)>);

impl Places {
    fn map(&self, old: &mut Handle<E>) {
        *old = self.0[old.index()].1;
    }

    fn statement(&self, statement: &mut S) {
        match statement {
            S::Emit(range) => {
                let handles: Vec<_> = range.clone().collect();
                if let (Some(first), Some(last)) = (handles.first(), handles.last()) {
                    *range = Range::new_from_bounds(self.0[first.index()].0, self.0[last.index()].1);
                }
            }
            S::If { condition, .. } => self.map(condition),
            S::Switch { selector, .. } => self.map(selector),
            S::Loop { break_if, .. } => break_if.iter_mut().for_each(|e| self.map(e)),
            S::Return { value } => value.iter_mut().for_each(|e| self.map(e)),
            S::Store { pointer, value } => [pointer, value].into_iter().for_each(|e| self.map(e)),
            S::Atomic { pointer, fun, value, result } => {
                if let AtomicFunction::Exchange { compare: Some(compare) } = fun {
                    self.map(compare);
                }
                [pointer, value].into_iter().chain(result).for_each(|e| self.map(e));
            }
            S::Call { arguments, result, .. } => arguments.iter_mut().chain(result).for_each(|e| self.map(e)),
            _ => {}
        }
    }
}

/// A function with changed expressions, and whether there was anything to change.
fn rebuild(module: &Module, info: &FunctionInfo, old: &Function, change: Change) -> (Function, bool) {
    let mut expressions = Arena::new();
    let mut literal = |literal| expressions.append(E::Literal(literal), Span::UNDEFINED);
    let (half, one) = (literal(Literal::F32(0.5)), literal(Literal::U32(1)));
    let mut scene = Scene { module, info, half, one, literals: Vec::new() };
    let mut places = Places(Vec::new());
    let mut is_changed = false;
    for (_, expression) in old.expressions.iter() {
        let new = map_operands(expression.clone(), |operand| places.0[operand.index()].1);
        let mut first = None;
        let mut add = |expression| {
            let handle = expressions.append(expression, Span::UNDEFINED);
            first.get_or_insert(handle);
            handle
        };
        let changed = change(&scene, expression, &new, &mut add);
        is_changed |= changed.is_some();
        let last = add(changed.unwrap_or(new));
        if let E::Literal(literal) = expression {
            scene.literals.push((last, *literal));
        }
        places.0.push((first.unwrap_or(last), last));
    }
    let mut function = Function { expressions, named_expressions: Default::default(), ..old.clone() };
    for (_, local) in function.local_variables.iter_mut() {
        local.init.iter_mut().for_each(|init| places.map(init));
    }
    visit(&mut function.body, &mut |statement| places.statement(statement));
    (function, is_changed)
}

/// The program of a handler with a bug; `None` if the bug is nowhere in it.
fn plant(handler: &GeneratedHandler, bug: &Bug) -> Option<Program> {
    let mut program = handler.compile().expect("it was compiled before");
    match bug {
        Bug::InModule(change) => change(&mut program),
        Bug::InExpressions(change) => {
            let mut is_anywhere = false;
            for handle in program.functions.clone() {
                let old = &program.module.functions[handle];
                let (new, is_changed) = rebuild(&program.module, &program.info[handle], old, *change);
                *program.module.functions.get_mut(handle) = new;
                is_anywhere |= is_changed;
            }
            if !is_anywhere {
                return None;
            }
        }
    }
    let mut validator = Validator::new(ValidationFlags::all(), CAPABILITIES);
    program.info = validator.validate(&program.module).unwrap_or_else(|error| {
        panic!("{}", error.emit_to_string(&program.text));
    });
    Some(program)
}

#[test]
fn planted_bugs_are_found() {
    const HANDLERS: u32 = 1000;
    let missed: RefCell<Vec<&(&str, Bug)>> = RefCell::new(BUGS.iter().collect());
    let number = RefCell::new(0);
    check("mutants", &strategy(Floats::All), HANDLERS, |handler| {
        *number.borrow_mut() += 1;
        if missed.borrow().is_empty() {
            return Ok(());
        }
        let trace = |program: Program| {
            let program = Arc::new(program);
            run_series(&Interpreter::new(program.clone()), &program, handler)
        };
        let expected = trace(handler.compile().map_err(|error| error.to_string())?);
        missed.borrow_mut().retain(|(name, bug)| {
            let found = plant(handler, bug).and_then(|wrong| expected.difference(&trace(wrong)));
            if let Some(difference) = &found {
                println!("found after {} handlers: {name} ({difference})", number.borrow());
            }
            found.is_none()
        });
        Ok(())
    });
    let missed: Vec<_> = missed.borrow().iter().map(|(name, _)| *name).collect();
    assert!(missed.is_empty(), "not found in {HANDLERS} handlers: {missed:?}");
}
