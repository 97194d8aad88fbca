//! Rewrites one function: its expressions in their order with new ones between them, then its statements.

use super::{FaultCode, Library, constants, fault_literal};
use crate::compile::compute::uniform::is_barrier;
use crate::compile::uses::{visit, visit_statement};
use naga::valid::FunctionInfo;
use naga::{
    Arena, ArraySize, BinaryOperator, Block, Expression as E, Function, GlobalVariable, Handle, Literal,
    MathFunction, Module, Range, ScalarKind, Span, Statement as S, SwitchCase, TypeInner, VectorSize,
};

/// The lowered form of a function of `module`.
pub(super) fn rewrite(module: &Module, old: &Function, info: &FunctionInfo, library: Library) -> Function {
    let mut rewriter = Rewriter {
        module,
        old,
        info,
        library,
        expressions: Arena::new(),
        order: Vec::new(),
        made: Vec::new(),
        span: Span::UNDEFINED,
    };
    for (handle, expression) in old.expressions.iter() {
        rewriter.span = old.expressions.get_span(handle);
        let first = rewriter.order.len();
        rewriter.expression(expression);
        rewriter.made.push((first, rewriter.order.len()));
    }
    // Where there are barriers, an invocation that has no budget left still has to reach them.
    let exit = if library.rounds.is_some() { Exit::Break } else { Exit::Return };
    let body = rewriter.block(&old.body, exit);
    let mut function = Function {
        name: old.name.clone(),
        arguments: old.arguments.clone(),
        result: old.result.clone(),
        local_variables: old.local_variables.clone(),
        diagnostic_filter_leaf: old.diagnostic_filter_leaf,
        ..Function::default()
    };
    for (_, local) in function.local_variables.iter_mut() {
        local.init = local.init.map(|init| rewriter.map(init));
    }
    let named = old.named_expressions.iter();
    function.named_expressions = named.map(|(handle, name)| (rewriter.map(*handle), name.clone())).collect();
    function.expressions = rewriter.expressions;
    function.body = body;
    function
}

/// How a loop leaves when the budget is exhausted.
#[derive(Clone, Copy)]
enum Exit {
    Return,
    /// Inside a `continuing` block, where `return` is not allowed, and where others wait for this invocation.
    Break,
}

struct Rewriter<'a> {
    module: &'a Module,
    old: &'a Function,
    info: &'a FunctionInfo,
    library: Library,
    expressions: Arena<E>,
    /// Every new expression, in order.
    order: Vec<Handle<E>>,
    /// For each old expression, in order, where in `order` what was made for it begins and ends; the last is its
    /// replacement.
    made: Vec<(usize, usize)>,
    /// Place of the old expression in hand; new ones inherit it.
    span: Span,
}

impl Rewriter<'_> {
    /// The new expression for an old one.
    fn map(&self, old: Handle<E>) -> Handle<E> {
        self.order[self.made[old.index()].1 - 1]
    }

    fn add(&mut self, expression: E) -> Handle<E> {
        let handle = self.expressions.append(expression, self.span);
        self.order.push(handle);
        handle
    }

    fn u32(&mut self, value: u32) -> Handle<E> {
        self.add(E::Literal(Literal::U32(value)))
    }

    fn binary(&mut self, op: BinaryOperator, left: Handle<E>, right: Handle<E>) -> Handle<E> {
        self.add(E::Binary { op, left, right })
    }

    fn math(
        &mut self,
        fun: MathFunction,
        arg: Handle<E>,
        arg1: Handle<E>,
        arg2: Option<Handle<E>>,
    ) -> Handle<E> {
        self.add(E::Math { fun, arg, arg1: Some(arg1), arg2, arg3: None })
    }

    /// A literal, as wide as a vector if there is one.
    fn spread(&mut self, literal: Literal, size: Option<VectorSize>) -> Handle<E> {
        let value = self.add(E::Literal(literal));
        match size {
            Some(size) => self.add(E::Splat { size, value }),
            None => value,
        }
    }

    fn type_of(&self, old: Handle<E>) -> &TypeInner {
        self.info[old].ty.inner_with(&self.module.types)
    }

    fn expression(&mut self, old: &E) {
        match *old {
            E::Access { base, index } => {
                let index = self.clamped(base, index);
                let base = self.map(base);
                self.add(E::Access { base, index });
            }
            E::AccessIndex { base, index } if index > 0 && self.length(base) == Length::Dynamic => {
                let index = self.u32(index);
                let index = self.at_most_last(index, base, Length::Dynamic);
                let base = self.map(base);
                self.add(E::Access { base, index });
            }
            E::As { expr, kind: kind @ (ScalarKind::Sint | ScalarKind::Uint), convert: Some(_) }
                if self.type_of(expr).scalar_kind() == Some(ScalarKind::Float) =>
            {
                self.float_to_int(expr, kind);
            }
            E::Binary { op: op @ (BinaryOperator::ShiftLeft | BinaryOperator::ShiftRight), left, right } => {
                let size = vector_size(self.type_of(right));
                let mask = self.spread(Literal::U32(31), size);
                let (left, right) = (self.map(left), self.map(right));
                let right = self.binary(BinaryOperator::And, right, mask);
                self.binary(op, left, right);
            }
            E::Compose { ty, components: ref parts } if constants::is_vector(self.module, ty) => {
                let mut components = Vec::with_capacity(parts.len());
                for part in parts {
                    let literals = match self.type_of(*part) {
                        TypeInner::Vector { .. } => {
                            constants::components(self.module, &self.old.expressions, *part)
                        }
                        _ => None,
                    };
                    match literals {
                        Some(literals) => {
                            components.extend(literals.into_iter().map(|l| self.add(E::Literal(l))))
                        }
                        None => components.push(self.map(*part)),
                    }
                }
                self.add(E::Compose { ty, components });
            }
            _ => {
                let copy = map_operands(old.clone(), |operand| self.map(operand));
                self.add(copy);
            }
        }
    }

    /// How many elements there are behind an old expression, a value or a pointer.
    fn length(&self, base: Handle<E>) -> Length {
        let inner = match self.type_of(base) {
            TypeInner::Pointer { base, .. } => &self.module.types[*base].inner,
            inner => inner,
        };
        match *inner {
            TypeInner::Vector { size, .. } | TypeInner::ValuePointer { size: Some(size), .. } => {
                Length::Fixed(size.into())
            }
            TypeInner::Matrix { columns, .. } => Length::Fixed(columns.into()),
            TypeInner::Array { size: ArraySize::Constant(count), .. } => Length::Fixed(count.get()),
            TypeInner::Array { .. } => Length::Dynamic,
            _ => Length::None,
        }
    }

    /// An index brought into `0 ..= length - 1`.
    fn clamped(&mut self, base: Handle<E>, index: Handle<E>) -> Handle<E> {
        let length = self.length(base);
        let is_signed = self.type_of(index).scalar_kind() == Some(ScalarKind::Sint);
        let mut index = self.map(index);
        if is_signed {
            let zero = self.add(E::Literal(Literal::I32(0)));
            index = self.math(MathFunction::Max, index, zero, None);
            index = self.add(E::As { expr: index, kind: ScalarKind::Uint, convert: None });
        }
        self.at_most_last(index, base, length)
    }

    fn at_most_last(&mut self, index: Handle<E>, base: Handle<E>, length: Length) -> Handle<E> {
        let last = match length {
            Length::Fixed(count) => self.u32(count - 1),
            Length::Dynamic => {
                let base = self.map(base);
                let one = self.u32(1);
                let count = self.add(E::ArrayLength(base));
                self.binary(BinaryOperator::Subtract, count, one)
            }
            Length::None => unreachable!("validated: only vectors, matrices and arrays are indexed"),
        };
        self.math(MathFunction::Min, index, last, None)
    }

    fn float_to_int(&mut self, value: Handle<E>, kind: ScalarKind) {
        let size = vector_size(self.type_of(value));
        let value = self.map(value);
        let (low, high) = match kind {
            ScalarKind::Sint => (-2_147_483_648.0, 2_147_483_520.0),
            _ => (0.0, 4_294_967_040.0),
        };
        let low = self.spread(Literal::F32(low), size);
        let high = self.spread(Literal::F32(high), size);
        let zero = self.spread(Literal::F32(0.0), size);
        // A test on the bits: `x != x` is something that a shader compiler may assume to be false.
        let magnitude_mask = self.spread(Literal::U32(0x7fff_ffff), size);
        let infinity = self.spread(Literal::U32(0x7f80_0000), size);
        let bits = self.add(E::As { expr: value, kind: ScalarKind::Uint, convert: None });
        let magnitude = self.binary(BinaryOperator::And, bits, magnitude_mask);
        let is_nan = self.binary(BinaryOperator::Greater, magnitude, infinity);
        let clamped = self.math(MathFunction::Clamp, value, low, Some(high));
        let number = self.add(E::Select { condition: is_nan, accept: zero, reject: clamped });
        self.add(E::As { expr: number, kind, convert: Some(4) });
    }

    fn block(&mut self, old: &Block, exit: Exit) -> Block {
        let mut block = Block::with_capacity(old.len());
        for (statement, span) in old.span_iter() {
            self.statement(statement, *span, exit, &mut block);
        }
        block
    }

    fn statement(&mut self, old: &S, span: Span, exit: Exit, block: &mut Block) {
        let statement = match old {
            S::Emit(range) => {
                let mut handles = range.clone();
                let first = handles.next();
                let last = handles.last().or(first);
                if let (Some(first), Some(last)) = (first, last) {
                    self.emit(self.made[first.index()].0, self.made[last.index()].1, block);
                }
                return;
            }
            S::Block(inner) => S::Block(self.block(inner, exit)),
            S::If { condition, accept, reject } => S::If {
                condition: self.map(*condition),
                accept: self.block(accept, exit),
                reject: self.block(reject, exit),
            },
            S::Switch { selector, cases } => S::Switch {
                selector: self.map(*selector),
                cases: cases
                    .iter()
                    .map(|case| SwitchCase {
                        value: case.value,
                        body: self.block(&case.body, exit),
                        fall_through: case.fall_through,
                    })
                    .collect(),
            },
            S::Loop { body, continuing, break_if } => S::Loop {
                body: self.loop_body(body, span, exit),
                continuing: self.block(continuing, Exit::Break),
                break_if: break_if.map(|e| self.map(e)),
            },
            S::Return { value } => S::Return { value: value.map(|e| self.map(e)) },
            S::Store { pointer, value } => S::Store { pointer: self.map(*pointer), value: self.map(*value) },
            S::Atomic { pointer, fun, value, result } => S::Atomic {
                pointer: self.map(*pointer),
                fun: match fun {
                    naga::AtomicFunction::Exchange { compare } => {
                        naga::AtomicFunction::Exchange { compare: compare.map(|e| self.map(e)) }
                    }
                    other => *other,
                },
                value: self.map(*value),
                result: result.map(|e| self.map(e)),
            },
            S::Call { function, arguments, result } => S::Call {
                function: *function,
                arguments: arguments.iter().map(|e| self.map(*e)).collect(),
                result: result.map(|e| self.map(e)),
            },
            S::Break => S::Break,
            S::Continue => S::Continue,
            S::ControlBarrier(flags) => {
                block.push(S::ControlBarrier(*flags), span);
                return self.refill(span, block);
            }
            S::MemoryBarrier(flags) => S::MemoryBarrier(*flags),
            S::WorkGroupUniformLoad { pointer, result } => {
                let (pointer, result) = (self.map(*pointer), self.map(*result));
                block.push(S::WorkGroupUniformLoad { pointer, result }, span);
                return self.refill(span, block);
            }
            _ => unreachable!("refused by the front: not part of the handler contract"),
        };
        block.push(statement, span);
    }

    /// Emits what was made between two places of `order`, leaving out what is always there.
    fn emit(&self, first: usize, end: usize, block: &mut Block) {
        let is_emitted = |h: &Handle<E>| !self.expressions[*h].needs_pre_emit();
        for run in self.order[first..end].split(|h| !is_emitted(h)) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                block.push(S::Emit(Range::new_from_bounds(*first, *last)), Span::UNDEFINED);
            }
        }
    }

    /// The body of a loop with the budget's check where an iteration begins: after the condition of a `for` or
    /// `while`, so that `n` iterations cost `n`.
    fn loop_body(&mut self, old: &Block, span: Span, exit: Exit) -> Block {
        let is_condition = |s: &S| match s {
            S::If { accept, reject, .. } => accept.is_empty() && matches!(reject.first(), Some(S::Break)),
            _ => false,
        };
        // What comes before it computes the condition; nothing there may lead past the check.
        let condition = old.iter().position(is_condition).filter(|end| {
            let mut leaves = false;
            for statement in old.iter().take(*end) {
                visit_statement(statement, &mut |s| leaves |= matches!(s, S::Continue | S::Loop { .. }));
            }
            !leaves
        });
        let begins = condition.map_or(0, |i| i + 1);
        let mut has_barriers = false;
        visit(old, &mut |statement| has_barriers |= is_barrier(statement));
        // All invocations have as many rounds left, so that they leave together.
        let budget = match self.library.rounds {
            Some(rounds) if has_barriers => rounds,
            _ => self.library.fuel,
        };
        let mut block = Block::with_capacity(old.len() + 6);
        for (index, (statement, statement_span)) in old.span_iter().enumerate() {
            if index == begins {
                self.spend(budget, span, exit, &mut block);
            }
            self.statement(statement, *statement_span, exit, &mut block);
        }
        if begins >= old.len() {
            self.spend(budget, span, exit, &mut block);
        }
        block
    }

    /// A new loop budget, behind a barrier.
    fn refill(&mut self, span: Span, block: &mut Block) {
        self.span = span;
        let pointer = self.add(E::GlobalVariable(self.library.fuel));
        let value = self.u32(self.library.budget);
        block.push(S::Store { pointer, value }, span);
    }

    /// One unit of a budget, or out.
    fn spend(&mut self, budget: Handle<GlobalVariable>, span: Span, exit: Exit, block: &mut Block) {
        self.span = span;
        let fuel = self.add(E::GlobalVariable(budget));
        let fault = self.add(E::GlobalVariable(self.library.fault));
        let (zero, one) = (self.u32(0), self.u32(1));
        let start = self.order.len();
        let left = self.add(E::Load { pointer: fuel });
        let is_empty = self.binary(BinaryOperator::Equal, left, zero);
        self.emit(start, self.order.len(), block);

        let mut out = Block::new();
        let code = self.add(E::Literal(fault_literal(FaultCode::LoopBudget)));
        let start = self.order.len();
        let earlier = self.add(E::Load { pointer: fault });
        let is_first = self.binary(BinaryOperator::Equal, earlier, zero);
        let value = self.add(E::Select { condition: is_first, accept: code, reject: earlier });
        self.emit(start, self.order.len(), &mut out);
        out.push(S::Store { pointer: fault, value }, span);
        let leave = match exit {
            Exit::Return => {
                let value = self.old.result.as_ref().map(|result| self.add(E::ZeroValue(result.ty)));
                S::Return { value }
            }
            Exit::Break => S::Break,
        };
        out.push(leave, span);
        block.push(S::If { condition: is_empty, accept: out, reject: Block::new() }, span);

        let start = self.order.len();
        let value = self.binary(BinaryOperator::Subtract, left, one);
        self.emit(start, self.order.len(), block);
        block.push(S::Store { pointer: fuel, value }, span);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    Fixed(u32),
    /// A table without a size of its own.
    Dynamic,
    None,
}

fn vector_size(inner: &TypeInner) -> Option<VectorSize> {
    match *inner {
        TypeInner::Vector { size, .. } => Some(size),
        _ => None,
    }
}

/// An expression with its operands replaced.
pub(in crate::compile) fn map_operands(expression: E, mut map: impl FnMut(Handle<E>) -> Handle<E>) -> E {
    match expression {
        E::Literal(_)
        | E::Constant(_)
        | E::ZeroValue(_)
        | E::FunctionArgument(_)
        | E::GlobalVariable(_)
        | E::LocalVariable(_)
        | E::CallResult(_)
        | E::AtomicResult { .. }
        | E::WorkGroupUniformLoadResult { .. } => expression,
        E::Compose { ty, components } => {
            E::Compose { ty, components: components.into_iter().map(&mut map).collect() }
        }
        E::Access { base, index } => E::Access { base: map(base), index: map(index) },
        E::AccessIndex { base, index } => E::AccessIndex { base: map(base), index },
        E::Splat { size, value } => E::Splat { size, value: map(value) },
        E::Swizzle { size, vector, pattern } => E::Swizzle { size, vector: map(vector), pattern },
        E::Load { pointer } => E::Load { pointer: map(pointer) },
        E::Unary { op, expr } => E::Unary { op, expr: map(expr) },
        E::Binary { op, left, right } => E::Binary { op, left: map(left), right: map(right) },
        E::Select { condition, accept, reject } => {
            E::Select { condition: map(condition), accept: map(accept), reject: map(reject) }
        }
        E::Relational { fun, argument } => E::Relational { fun, argument: map(argument) },
        E::Math { fun, arg, arg1, arg2, arg3 } => E::Math {
            fun,
            arg: map(arg),
            arg1: arg1.map(&mut map),
            arg2: arg2.map(&mut map),
            arg3: arg3.map(&mut map),
        },
        E::As { expr, kind, convert } => E::As { expr: map(expr), kind, convert },
        E::ArrayLength(base) => E::ArrayLength(map(base)),
        _ => unreachable!("refused by the front: not part of the handler contract"),
    }
}
