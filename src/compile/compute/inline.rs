//! Functions with barriers become part of the entry point that calls them, so that all its barriers are in one function: there
//! the [uniformity analysis](super::uniform) follows what they depend on, and the CPU [cuts](super::fission) it at them.
//!
//! WGSL knows no recursion, so this ends. It is done before lowering, once for all engines.

use super::type_handle;
use super::uniform::is_barrier;
use crate::compile::lower::map_operands;
use crate::compile::uses::{visit, visit_statement};
use naga::{
    AtomicFunction, Block, Expression as E, Function, Handle, Literal, LocalVariable, Module, Range, Scalar,
    Span, Statement as S, SwitchCase, Type, TypeInner, UnaryOperator,
};
use std::collections::{HashMap, HashSet};

/// Calls that become part of an entry point, at most: a chain of functions that call each other twice is twice as long with
/// each of them.
pub(in crate::compile) const MOST_CALLS: usize = 1000;

/// Puts functions with barriers where the entry point calls them, and where those call each other.
///
/// # Errors
///
/// A function whose calls are more than [`MOST_CALLS`], with those of others.
pub(in crate::compile) fn inline(
    module: &mut Module,
    entry: Handle<Function>,
) -> Result<(), Handle<Function>> {
    let with = with_barriers(module);
    let calls = |function: Handle<Function>| {
        let mut any = false;
        visit(&module.functions[function].body, &mut |statement| any |= calls_one_of(statement, &with));
        any
    };
    if !calls(entry) {
        return Ok(());
    }
    let bool_type = type_handle(module, TypeInner::Scalar(Scalar::BOOL));
    let old = module.functions[entry].clone();
    let mut new = Function {
        name: old.name.clone(),
        arguments: old.arguments.clone(),
        diagnostic_filter_leaf: old.diagnostic_filter_leaf,
        ..Function::default()
    };
    let arguments = (0..old.arguments.len() as u32)
        .map(|argument| new.expressions.append(E::FunctionArgument(argument), Span::UNDEFINED))
        .collect();
    let mut inliner = Inliner { module, with: &with, bool_type, function: new, calls: 0 };
    let mut frame = Frame::new(&old, arguments);
    for (handle, local) in old.local_variables.iter() {
        let init = local.init.map(|init| inliner.standing(&mut frame, init));
        let span = old.local_variables.get_span(handle);
        let copy = inliner.function.local_variables.append(LocalVariable { init, ..local.clone() }, span);
        frame.locals.insert(handle, copy);
    }
    let mut body = Block::new();
    inliner.block(&mut frame, &old.body, Within::Function, &mut body)?;
    let mut function = inliner.function;
    function.body = body;
    *module.functions.get_mut(entry) = function;
    Ok(())
}

fn calls_one_of(statement: &S, some: &HashSet<Handle<Function>>) -> bool {
    matches!(statement, S::Call { function, .. } if some.contains(function))
}

/// Functions that have a barrier, or call one that has.
fn with_barriers(module: &Module) -> HashSet<Handle<Function>> {
    let mut with = HashSet::new();
    // Callees come before their callers.
    for (handle, function) in module.functions.iter() {
        let mut has = false;
        visit(&function.body, &mut |statement| {
            has |= is_barrier(statement) || calls_one_of(statement, &with)
        });
        if has {
            with.insert(handle);
        }
    }
    with
}

/// A call, or the entry point itself: what the function's parts have become.
struct Frame<'a> {
    old: &'a Function,
    /// What is computed so far, and what is always there.
    values: HashMap<Handle<E>, Handle<E>>,
    /// What its parameters stand for.
    arguments: Vec<Handle<E>>,
    locals: HashMap<Handle<LocalVariable>, Handle<LocalVariable>>,
    /// Of a call.
    end: Option<End>,
}

/// How a call ends.
#[derive(Clone, Copy)]
struct End {
    /// Where its result goes.
    result: Option<Handle<LocalVariable>>,
    /// Set when it returns; `None` if it does so in its last statement only.
    has_returned: Option<Handle<LocalVariable>>,
}

impl<'a> Frame<'a> {
    fn new(old: &'a Function, arguments: Vec<Handle<E>>) -> Self {
        Self { old, values: HashMap::new(), arguments, locals: HashMap::new(), end: None }
    }
}

/// What a `break` would leave.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Nothing of this function's.
    Function,
    /// One of its loops, or a `switch`.
    Breakable,
}

struct Inliner<'a> {
    module: &'a Module,
    with: &'a HashSet<Handle<Function>>,
    bool_type: Handle<Type>,
    function: Function,
    calls: usize,
}

impl Inliner<'_> {
    /// What a value has become. What stands by itself has not been computed anywhere.
    fn value(&mut self, frame: &mut Frame<'_>, old: Handle<E>) -> Handle<E> {
        match frame.values.get(&old) {
            Some(new) => *new,
            None => self.standing(frame, old),
        }
    }

    /// Something constant, or a name.
    fn standing(&mut self, frame: &mut Frame<'_>, old: Handle<E>) -> Handle<E> {
        let copy = match frame.old.expressions[old] {
            E::FunctionArgument(argument) => return frame.arguments[argument as usize],
            E::LocalVariable(local) => E::LocalVariable(frame.locals[&local]),
            ref other => map_operands(other.clone(), |operand| self.value(frame, operand)),
        };
        self.append(frame, old, copy)
    }

    fn append(&mut self, frame: &mut Frame<'_>, old: Handle<E>, copy: E) -> Handle<E> {
        let new = self.function.expressions.append(copy, frame.old.expressions.get_span(old));
        frame.values.insert(old, new);
        new
    }

    /// An expression that is evaluated here.
    fn compute(&mut self, expression: E, span: Span, to: &mut Block) -> Handle<E> {
        let new = self.function.expressions.append(expression, span);
        to.push(S::Emit(Range::new_from_bounds(new, new)), span);
        new
    }

    fn load(&mut self, local: Handle<LocalVariable>, span: Span, to: &mut Block) -> Handle<E> {
        let pointer = self.function.expressions.append(E::LocalVariable(local), span);
        self.compute(E::Load { pointer }, span, to)
    }

    fn store(&mut self, local: Handle<LocalVariable>, value: Handle<E>, span: Span, to: &mut Block) {
        let pointer = self.function.expressions.append(E::LocalVariable(local), span);
        to.push(S::Store { pointer, value }, span);
    }

    fn local(&mut self, ty: Handle<Type>) -> Handle<LocalVariable> {
        let local = LocalVariable { name: None, ty, init: None };
        self.function.local_variables.append(local, Span::UNDEFINED)
    }

    /// A constant that a variable begins with, as a value that can be stored.
    fn constant(&mut self, frame: &Frame<'_>, old: Handle<E>, to: &mut Block) -> Handle<E> {
        let expression = frame.old.expressions[old].clone();
        let stands = expression.needs_pre_emit();
        let copy = map_operands(expression, |operand| self.constant(frame, operand, to));
        if stands {
            self.function.expressions.append(copy, Span::UNDEFINED)
        } else {
            self.compute(copy, Span::UNDEFINED, to)
        }
    }

    /// Copies statements of a block, from one on; whoever has returned does not run those behind.
    fn block(
        &mut self,
        frame: &mut Frame<'_>,
        old: &Block,
        within: Within,
        to: &mut Block,
    ) -> Result<(), Handle<Function>> {
        let statements: Vec<_> = old.span_iter().collect();
        self.statements(frame, &statements, within, to)
    }

    fn statements(
        &mut self,
        frame: &mut Frame<'_>,
        statements: &[(&S, &Span)],
        within: Within,
        to: &mut Block,
    ) -> Result<(), Handle<Function>> {
        for (index, (statement, span)) in statements.iter().enumerate() {
            self.statement(frame, statement, **span, within, to)?;
            let Some(has_returned) = frame.end.and_then(|end| end.has_returned) else { continue };
            let Some(at) = first_return(statement) else { continue };
            let rest = &statements[index + 1..];
            match (within, statement) {
                _ if matches!(statement, S::Return { .. }) => {}
                // A return inside is a `break` out of it.
                (Within::Breakable, S::Loop { .. } | S::Switch { .. }) => {
                    let condition = self.load(has_returned, at, to);
                    let mut accept = Block::new();
                    accept.push(S::Break, at);
                    to.push(S::If { condition, accept, reject: Block::new() }, at);
                }
                // … and here out of what is around it.
                (Within::Breakable, _) => {}
                (Within::Function, _) if rest.is_empty() => {}
                (Within::Function, _) => {
                    let expr = self.load(has_returned, at, to);
                    let condition = self.compute(E::Unary { op: UnaryOperator::LogicalNot, expr }, at, to);
                    let mut accept = Block::new();
                    self.statements(frame, rest, within, &mut accept)?;
                    to.push(S::If { condition, accept, reject: Block::new() }, at);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn statement(
        &mut self,
        frame: &mut Frame<'_>,
        statement: &S,
        span: Span,
        within: Within,
        to: &mut Block,
    ) -> Result<(), Handle<Function>> {
        let copy = match statement {
            S::Emit(range) => {
                for old in range.clone() {
                    let copy = map_operands(frame.old.expressions[old].clone(), |operand| {
                        self.value(frame, operand)
                    });
                    let new = self.append(frame, old, copy);
                    to.push(S::Emit(Range::new_from_bounds(new, new)), span);
                }
                return Ok(());
            }
            S::Block(block) => S::Block(self.inner(frame, block, within)?),
            S::If { condition, accept, reject } => S::If {
                condition: self.value(frame, *condition),
                accept: self.inner(frame, accept, within)?,
                reject: self.inner(frame, reject, within)?,
            },
            S::Switch { selector, cases } => {
                let selector = self.value(frame, *selector);
                let case = |case: &SwitchCase| {
                    let body = self.inner(frame, &case.body, Within::Breakable)?;
                    Ok(SwitchCase { value: case.value, body, fall_through: case.fall_through })
                };
                S::Switch { selector, cases: cases.iter().map(case).collect::<Result<_, _>>()? }
            }
            S::Loop { body, continuing, break_if } => S::Loop {
                body: self.inner(frame, body, Within::Breakable)?,
                continuing: self.inner(frame, continuing, Within::Breakable)?,
                break_if: break_if.map(|condition| self.value(frame, condition)),
            },
            S::Return { value } => match frame.end {
                None => S::Return { value: None },
                Some(End { result, has_returned }) => {
                    if let (Some(result), Some(value)) = (result, value) {
                        let value = self.value(frame, *value);
                        self.store(result, value, span, to);
                    }
                    if let Some(has_returned) = has_returned {
                        let yes = E::Literal(Literal::Bool(true));
                        let yes = self.function.expressions.append(yes, span);
                        self.store(has_returned, yes, span, to);
                    }
                    if within == Within::Breakable {
                        to.push(S::Break, span);
                    }
                    return Ok(());
                }
            },
            S::Store { pointer, value } => {
                S::Store { pointer: self.value(frame, *pointer), value: self.value(frame, *value) }
            }
            S::Atomic { pointer, fun, value, result } => S::Atomic {
                pointer: self.value(frame, *pointer),
                fun: match fun {
                    AtomicFunction::Exchange { compare } => AtomicFunction::Exchange {
                        compare: compare.map(|compare| self.value(frame, compare)),
                    },
                    other => *other,
                },
                value: self.value(frame, *value),
                result: result.map(|result| self.standing(frame, result)),
            },
            S::WorkGroupUniformLoad { pointer, result } => S::WorkGroupUniformLoad {
                pointer: self.value(frame, *pointer),
                result: self.standing(frame, *result),
            },
            S::Call { function, arguments, result } => {
                let arguments = arguments.iter().map(|argument| self.value(frame, *argument)).collect();
                if self.with.contains(function) {
                    let value = self.call(*function, arguments, span, to)?;
                    if let (Some(result), Some(value)) = (result, value) {
                        frame.values.insert(*result, value);
                    }
                    return Ok(());
                }
                let result = result.map(|result| self.standing(frame, result));
                S::Call { function: *function, arguments, result }
            }
            S::Break => S::Break,
            S::Continue => S::Continue,
            S::ControlBarrier(barrier) => S::ControlBarrier(*barrier),
            S::MemoryBarrier(barrier) => S::MemoryBarrier(*barrier),
            _ => unreachable!("refused by the front: not part of the contract"),
        };
        to.push(copy, span);
        Ok(())
    }

    fn inner(
        &mut self,
        frame: &mut Frame<'_>,
        old: &Block,
        within: Within,
    ) -> Result<Block, Handle<Function>> {
        let mut copy = Block::with_capacity(old.len());
        self.block(frame, old, within, &mut copy)?;
        Ok(copy)
    }

    /// A function in the place of its call; its result.
    fn call(
        &mut self,
        function: Handle<Function>,
        arguments: Vec<Handle<E>>,
        span: Span,
        to: &mut Block,
    ) -> Result<Option<Handle<E>>, Handle<Function>> {
        self.calls += 1;
        if self.calls > MOST_CALLS {
            return Err(function);
        }
        let old = &self.module.functions[function];
        let mut frame = Frame::new(old, arguments);
        // In a loop they begin anew with each call.
        for (handle, local) in old.local_variables.iter() {
            let copy = LocalVariable { init: None, ..local.clone() };
            let copy = self.function.local_variables.append(copy, old.local_variables.get_span(handle));
            frame.locals.insert(handle, copy);
            let value = match local.init {
                Some(init) => self.constant(&frame, init, to),
                None => self.function.expressions.append(E::ZeroValue(local.ty), span),
            };
            self.store(copy, value, span, to);
        }
        let result = old.result.as_ref().map(|result| self.local(result.ty));
        let has_returned = returns_early(&old.body).then(|| self.local(self.bool_type));
        if let Some(has_returned) = has_returned {
            let no = self.function.expressions.append(E::Literal(Literal::Bool(false)), span);
            self.store(has_returned, no, span, to);
        }
        frame.end = Some(End { result, has_returned });
        self.block(&mut frame, &old.body, Within::Function, to)?;
        Ok(result.map(|result| self.load(result, span, to)))
    }
}

/// Where it first returns.
fn first_return(statement: &S) -> Option<Span> {
    let in_block = |block: &Block| {
        block.span_iter().find_map(|(statement, span)| match statement {
            S::Return { .. } => Some(*span),
            inner => first_return(inner),
        })
    };
    match statement {
        S::Return { .. } => Some(Span::UNDEFINED),
        S::Block(block) => in_block(block),
        S::If { accept, reject, .. } => in_block(accept).or_else(|| in_block(reject)),
        S::Switch { cases, .. } => cases.iter().find_map(|case| in_block(&case.body)),
        S::Loop { body, .. } => in_block(body),
        _ => None,
    }
}

/// Does a function return before its last statement, or inside of it?
fn returns_early(body: &Block) -> bool {
    let mut returns = 0;
    body.iter().for_each(|statement| {
        visit_statement(statement, &mut |inner| returns += usize::from(matches!(inner, S::Return { .. })))
    });
    let at_the_end = matches!(body.last(), Some(S::Return { .. }));
    returns > usize::from(at_the_end)
}
