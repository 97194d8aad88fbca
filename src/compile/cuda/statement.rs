//! Statements: control flow stays as it is.

use super::declare::Global;
use super::function::{Body, made};
use super::types::identifier;
use naga::{
    AtomicFunction, Block, Expression as E, Function, Handle, Literal, MathFunction, Span, Statement as S,
    SwitchCase, SwitchValue, TypeInner,
};

/// Where `continue` goes in a loop.
pub(super) struct Continue {
    /// The label before what is done at the end of each iteration; none if that is nothing.
    label: Option<String>,
    is_used: bool,
}

impl<'a> Body<'_, 'a> {
    /// Declares the values that a block makes, then writes its statements. Values have no initialisers, so that a
    /// `goto` may pass them.
    pub fn block(&mut self, block: &'a Block) {
        let mut declared: Vec<(String, String)> = Vec::new();
        for value in made(block).into_iter().filter(|value| self.is_variable(*value)) {
            let (ty, name) = (self.type_name(value), format!("e{}", value.index()));
            match declared.iter_mut().find(|(known, _)| *known == ty) {
                Some((_, names)) => *names += &format!(", {name}"),
                None => declared.push((ty, name)),
            }
        }
        let place = block.span_iter().map(|(_, span)| *span).find(|span| span.is_defined());
        for (ty, names) in declared {
            self.text.line(place.unwrap_or_default(), format!("{ty} {names};"));
        }
        for (statement, span) in block.span_iter() {
            self.statement(statement, *span);
        }
    }

    fn inner_block(&mut self, block: &'a Block) {
        self.text.indent();
        self.block(block);
        self.text.outdent();
    }

    fn statement(&mut self, statement: &'a S, span: Span) {
        match statement {
            S::Emit(range) => range.clone().for_each(|value| self.emit(value)),
            S::Block(block) => {
                self.text.line(span, "{");
                self.inner_block(block);
                self.text.own("}");
            }
            S::If { condition, accept, reject } => {
                let condition = self.value(*condition);
                if accept.is_empty() {
                    self.text.line(span, format!("if (!{condition}) {{"));
                    self.inner_block(reject);
                } else {
                    self.text.line(span, format!("if ({condition}) {{"));
                    self.inner_block(accept);
                    if !reject.is_empty() {
                        self.text.own("} else {");
                        self.inner_block(reject);
                    }
                }
                self.text.own("}");
            }
            S::Switch { selector, cases } => self.switch(*selector, cases, span),
            S::Loop { body, continuing, break_if } => self.repeat(body, continuing, *break_if, span),
            S::Break => self.text.line(span, "break;"),
            S::Continue => {
                let inner = self.continues.last_mut().expect("validated: a continue is in a loop");
                inner.is_used = true;
                let jump = inner.label.as_ref().map_or("continue;".to_owned(), |l| format!("goto {l};"));
                self.text.line(span, jump);
            }
            S::Return { value: Some(value) } => {
                let value = self.value(*value);
                self.text.line(span, format!("return {value};"));
            }
            S::Return { value: None } => self.text.line(span, "return;"),
            S::Store { pointer, value } => {
                let store = self.store(*pointer, *value);
                self.text.line(span, store);
            }
            S::Atomic { pointer, fun, value, result } => self.atomic(*pointer, fun, *value, *result, span),
            S::Call { function, arguments, result } => self.call(*function, arguments, *result, span),
            S::ControlBarrier(_) => self.text.line(span, "rt_barrier();"),
            S::MemoryBarrier(_) => self.text.line(span, "rt_memory_barrier();"),
            S::WorkGroupUniformLoad { pointer, result } => {
                let place = match self.pointee(*pointer) {
                    TypeInner::Atomic(_) => format!("rt_atomic_load(&{})", self.place(*pointer)),
                    _ => self.place(*pointer),
                };
                self.text.line(span, "rt_barrier();");
                self.text.line(span, format!("e{} = {place};", result.index()));
                self.text.line(span, "rt_barrier();");
            }
            _ => unreachable!("refused by the front: not part of the handler contract"),
        }
    }

    fn switch(&mut self, selector: Handle<E>, cases: &'a [SwitchCase], span: Span) {
        let selector = self.value(selector);
        self.text.line(span, format!("switch ({selector}) {{"));
        for case in cases {
            let label = match case.value {
                SwitchValue::I32(value) => format!("case {}:", super::types::literal(Literal::I32(value))),
                SwitchValue::U32(value) => format!("case {value}u:"),
                SwitchValue::Default => "default:".to_owned(),
            };
            if case.fall_through && case.body.is_empty() {
                self.text.own(label);
                continue;
            }
            self.text.own(format!("{label} {{"));
            self.inner_block(&case.body);
            let ends = matches!(case.body.last(), Some(S::Break | S::Continue | S::Return { .. }));
            self.text.own(if case.fall_through || ends { "}" } else { "} break;" });
        }
        self.text.own("}");
    }

    fn repeat(&mut self, body: &'a Block, continuing: &'a Block, break_if: Option<Handle<E>>, span: Span) {
        let label = (!continuing.is_empty() || break_if.is_some()).then(|| {
            self.labels += 1;
            format!("continue_{}", self.labels)
        });
        self.text.line(span, "for (;;) {");
        self.continues.push(Continue { label, is_used: false });
        self.inner_block(body);
        let inner = self.continues.pop().expect("pushed above");
        if let Some(label) = inner.label {
            self.text.indent();
            self.text.own(if inner.is_used { format!("{label}: {{") } else { "{".to_owned() });
            self.text.indent();
            self.block(continuing);
            if let Some(condition) = break_if {
                let condition = self.value(condition);
                self.text.own(format!("if ({condition}) break;"));
            }
            self.text.outdent();
            self.text.own("}");
            self.text.outdent();
        }
        self.text.own("}");
    }

    /// Evaluates an expression where its `Emit` stands.
    fn emit(&mut self, expression: Handle<E>) {
        if !self.is_variable(expression) {
            return;
        }
        let span = self.function.expressions.get_span(expression);
        let name = format!("e{}", expression.index());
        match self.function.expressions[expression] {
            E::Load { pointer } if self.is_budget(pointer) => {
                let leave = self.leave();
                let line = format!("if (context.budget.now == 0u && rt_refill(context.budget)) {leave}");
                self.text.line(span, line);
                self.text.line(span, format!("{name} = context.budget.now;"));
            }
            E::Math { fun: fun @ (MathFunction::Modf | MathFunction::Frexp), arg, .. } => {
                let (first, second) = match fun {
                    MathFunction::Modf => ("rt_modf_fract", "rt_trunc"),
                    _ => ("rt_frexp_fract", "rt_frexp_exponent"),
                };
                let argument = self.value(arg);
                for (function, index) in [(first, 0), (second, 1)] {
                    let member = self.member(expression, index);
                    self.text.line(span, format!("{name}.{member} = {function}({argument});"));
                }
            }
            _ => {
                let value = self.expression(expression);
                self.text.line(span, format!("{name} = {value};"));
            }
        }
    }

    /// How the function in hand is left when the stop word says so.
    fn leave(&self) -> String {
        match &self.function.result {
            Some(result) => format!("return {}{{}};", self.module.types.name(result.ty)),
            None => "return;".to_owned(),
        }
    }

    fn is_budget(&self, pointer: Handle<E>) -> bool {
        match self.function.expressions[pointer] {
            E::GlobalVariable(global) => matches!(self.module.globals.get(&global), Some(Global::Budget)),
            _ => false,
        }
    }

    fn store(&mut self, pointer: Handle<E>, value: Handle<E>) -> String {
        let stored = self.value(value);
        if self.is_budget(pointer) && matches!(self.function.expressions[value], E::Literal(_)) {
            return format!("rt_begin(context.budget, {stored});");
        }
        if let Some((vector, index)) = self.moving_component(pointer) {
            return format!("rt_put({vector}, {index}, {stored});");
        }
        let place = self.place(pointer);
        match self.pointee(pointer) {
            TypeInner::Atomic(_) => format!("rt_atomic_store(&{place}, {stored});"),
            _ if self.is_in_table(pointer) && self.has_padding(pointer) => {
                format!("rt_store({place}, {stored});")
            }
            _ => format!("{place} = {stored};"),
        }
    }

    fn atomic(
        &mut self,
        pointer: Handle<E>,
        fun: &AtomicFunction,
        value: Handle<E>,
        result: Option<Handle<E>>,
        span: Span,
    ) {
        let (place, value) = (self.place(pointer), self.value(value));
        let function = match *fun {
            AtomicFunction::Add => "add",
            AtomicFunction::Subtract => "sub",
            AtomicFunction::And => "and",
            AtomicFunction::InclusiveOr => "or",
            AtomicFunction::ExclusiveOr => "xor",
            AtomicFunction::Min => "min",
            AtomicFunction::Max => "max",
            AtomicFunction::Exchange { compare: None } => "exchange",
            AtomicFunction::Exchange { compare: Some(expected) } => {
                let expected = self.value(expected);
                let exchange = format!("rt_atomic_compare_exchange(&{place}, {expected}, {value});");
                let Some(result) = result else { return self.text.line(span, exchange) };
                let (name, old) = (format!("e{}", result.index()), self.member(result, 0));
                let exchanged = self.member(result, 1);
                self.text.line(span, format!("{name}.{old} = {exchange}"));
                self.text.line(span, format!("{name}.{exchanged} = {name}.{old} == {expected};"));
                return;
            }
        };
        let result = result.map_or(String::new(), |result| format!("e{} = ", result.index()));
        self.text.line(span, format!("{result}rt_atomic_{function}(&{place}, {value});"));
    }

    fn call(
        &mut self,
        function: Handle<Function>,
        arguments: &[Handle<E>],
        result: Option<Handle<E>>,
        span: Span,
    ) {
        let callee = &self.module.program.module.functions[function];
        let name = identifier('f', function.index(), callee.name.as_deref());
        let mut passed = vec!["context".to_owned()];
        passed.extend(arguments.iter().map(|argument| match self.type_of(*argument) {
            TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. } => self.place(*argument),
            _ => self.value(*argument),
        }));
        let result = result.map_or(String::new(), |result| format!("e{} = ", result.index()));
        self.text.line(span, format!("{result}{name}({});", passed.join(", ")));
        if self.interruptible.contains(&function) {
            let leave = self.leave();
            self.text.line(span, format!("if (context.budget.interrupted) {leave}"));
        }
    }
}
