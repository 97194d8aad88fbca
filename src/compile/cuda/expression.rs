//! Expressions: those that are evaluated become variables, those that name a place or a part of a value stay names.

use super::declare::Global;
use super::function::{Body, constant, is_constant, parameter};
use super::types::{identifier, literal, scalar_name};
use naga::proc::TypeResolution;
use naga::{
    AddressSpace, BinaryOperator, Expression as E, Handle, RelationalFunction, Scalar, Type, TypeInner,
    UnaryOperator, VectorSize,
};

impl<'a> Body<'_, 'a> {
    pub fn type_of(&self, expression: Handle<E>) -> &'a TypeInner {
        self.info[expression].ty.inner_with(&self.module.program.module.types)
    }

    /// The type behind a pointer.
    pub fn pointee(&self, pointer: Handle<E>) -> &'a TypeInner {
        match self.type_of(pointer) {
            TypeInner::Pointer { base, .. } => self.module.types.inner(*base),
            inner => inner,
        }
    }

    pub fn type_name(&self, expression: Handle<E>) -> String {
        match &self.info[expression].ty {
            TypeResolution::Handle(ty) => self.module.types.name(*ty),
            TypeResolution::Value(inner) => self.module.types.inner_name(inner),
        }
    }

    /// Is its value kept in a variable of its own?
    pub fn is_variable(&self, expression: Handle<E>) -> bool {
        let of = &self.function.expressions[expression];
        if matches!(of, E::CallResult(_) | E::AtomicResult { .. } | E::WorkGroupUniformLoadResult { .. }) {
            return true;
        }
        let inner = self.type_of(expression);
        if of.needs_pre_emit()
            || matches!(inner, TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. })
            || self.constants.contains_key(&expression)
        {
            return false;
        }
        // A large part of a value that does not change is not copied.
        let is_part = matches!(of, E::Access { .. } | E::AccessIndex { .. });
        let is_large =
            matches!(inner, TypeInner::Array { .. } | TypeInner::Struct { .. } | TypeInner::Matrix { .. });
        !(is_large && (is_part || is_constant(&self.function.expressions, expression)))
    }

    /// The name of a value, or what it is written as.
    pub fn value(&self, expression: Handle<E>) -> String {
        if let Some(name) = self.constants.get(&expression) {
            return name.clone();
        }
        if self.is_variable(expression) {
            return format!("e{}", expression.index());
        }
        self.expression(expression)
    }

    /// A value as wide as `size`.
    fn spread(&self, expression: Handle<E>, size: Option<VectorSize>) -> String {
        let value = self.value(expression);
        match (size, self.type_of(expression)) {
            (Some(size), TypeInner::Scalar(_)) => format!("rt_splat<{}u>({value})", size as u32),
            _ => value,
        }
    }

    pub fn vector_size(&self, expression: Handle<E>) -> Option<VectorSize> {
        match *self.type_of(expression) {
            TypeInner::Vector { size, .. } => Some(size),
            _ => None,
        }
    }

    /// Operands of what is done on each component, all as wide as the widest.
    pub fn spread_all(&self, operands: &[Handle<E>]) -> Vec<String> {
        let size = operands.iter().find_map(|operand| self.vector_size(*operand));
        operands.iter().map(|operand| self.spread(*operand, size)).collect()
    }

    /// How an expression is written.
    pub fn expression(&self, expression: Handle<E>) -> String {
        match self.function.expressions[expression] {
            E::Literal(value) => literal(value),
            E::Constant(_) | E::ZeroValue(_) => constant(self.module, &self.function.expressions, expression),
            E::FunctionArgument(index) => parameter(self.function, index),
            E::Access { base, index } => {
                let index = self.value(index);
                match self.type_of(base) {
                    TypeInner::Vector { .. } => format!("rt_at({}, {index})", self.value(base)),
                    _ => self.part(self.value(base), base, Index::Moving(index)),
                }
            }
            E::AccessIndex { base, index } => self.part(self.value(base), base, Index::Fixed(index)),
            E::Load { pointer } => self.load(pointer),
            E::Compose { ty, ref components } => self.compose(expression, ty, components),
            E::Splat { size, value } => format!("rt_splat<{}u>({})", size as u32, self.value(value)),
            E::Swizzle { size, vector, ref pattern } => {
                let vector = self.value(vector);
                let components = pattern[..size as usize].iter();
                let components: Vec<_> = components.map(|c| format!("{vector}.v[{}]", *c as u32)).collect();
                format!("{}{{{{{}}}}}", self.type_name(expression), components.join(", "))
            }
            E::Unary { op, expr } => {
                let function = match op {
                    UnaryOperator::Negate => "rt_negate",
                    UnaryOperator::LogicalNot | UnaryOperator::BitwiseNot => "rt_not",
                };
                format!("{function}({})", self.value(expr))
            }
            E::Binary { op, left, right } => self.binary(op, left, right),
            E::Select { condition, accept, reject } => match self.type_of(condition) {
                TypeInner::Vector { .. } => {
                    format!("rt_select({})", self.spread_all(&[condition, accept, reject]).join(", "))
                }
                _ => {
                    let [condition, accept, reject] = [condition, accept, reject].map(|e| self.value(e));
                    format!("({condition} ? {accept} : {reject})")
                }
            },
            E::Relational { fun, argument } => {
                let function = match fun {
                    RelationalFunction::All => "rt_all",
                    RelationalFunction::Any => "rt_any",
                    _ => unreachable!("not a function of WGSL"),
                };
                format!("{function}({})", self.value(argument))
            }
            E::Math { fun, arg, arg1, arg2, arg3 } => {
                let operands: Vec<_> = [Some(arg), arg1, arg2, arg3].into_iter().flatten().collect();
                self.math(fun, &operands)
            }
            E::As { expr, kind, convert } => {
                let value = self.value(expr);
                let to = scalar_name(Scalar { kind, width: 4 });
                match (self.type_of(expr), convert) {
                    // To the type that it has: there is but one of matrices.
                    (TypeInner::Matrix { .. }, _) => value,
                    (_, Some(_)) => format!("rt_convert<{to}>({value})"),
                    (_, None) => format!("rt_bits<{to}>({value})"),
                }
            }
            E::ArrayLength(table) => {
                let global = self.function.originating_global(table);
                match global.and_then(|global| self.module.globals.get(&global)) {
                    Some(Global::Table(number) | Global::Whole(number)) => format!("context.length{number}"),
                    _ => unreachable!("validated: only a table has no fixed size"),
                }
            }
            _ => unreachable!("refused by the front: not part of the handler contract"),
        }
    }

    fn compose(&self, expression: Handle<E>, ty: Handle<Type>, components: &[Handle<E>]) -> String {
        if is_constant(&self.function.expressions, expression) {
            return constant(self.module, &self.function.expressions, expression);
        }
        let mut parts = Vec::with_capacity(components.len());
        for component in components {
            let value = self.value(*component);
            match (self.module.types.inner(ty), self.vector_size(*component)) {
                (TypeInner::Vector { .. }, Some(size)) => {
                    parts.extend((0..size as u32).map(|i| format!("{value}.v[{i}]")));
                }
                _ => parts.push(value),
            }
        }
        self.module.types.compose(ty, &parts)
    }

    fn binary(&self, op: BinaryOperator, left: Handle<E>, right: Handle<E>) -> String {
        use BinaryOperator as B;
        let function = match op {
            B::Add => "add",
            B::Subtract => "subtract",
            B::Multiply => "multiply",
            B::Divide => "divide",
            B::Modulo => "modulo",
            B::Equal => "equal",
            B::NotEqual => "not_equal",
            B::Less => "less",
            B::LessEqual => "less_equal",
            B::Greater => "greater",
            B::GreaterEqual => "greater_equal",
            B::And | B::LogicalAnd => "and",
            B::InclusiveOr | B::LogicalOr => "or",
            B::ExclusiveOr => "xor",
            B::ShiftLeft => "shift_left",
            B::ShiftRight => "shift_right",
        };
        let is_matrix = |e: Handle<E>| matches!(self.type_of(e), TypeInner::Matrix { .. });
        let operands = if is_matrix(left) || is_matrix(right) {
            vec![self.value(left), self.value(right)]
        } else {
            self.spread_all(&[left, right])
        };
        format!("rt_{function}({})", operands.join(", "))
    }

    /// The name of a struct's member; `expression` is such a struct, or points to one.
    pub fn member(&self, expression: Handle<E>, index: u32) -> String {
        let ty = match (&self.info[expression].ty, self.type_of(expression)) {
            (_, TypeInner::Pointer { base, .. }) => *base,
            (TypeResolution::Handle(ty), _) => *ty,
            _ => unreachable!("a struct has a name"),
        };
        self.module.types.member(ty, index)
    }

    /// A part of a value or place that is written as `text`.
    fn part(&self, text: String, base: Handle<E>, index: Index) -> String {
        let number = match &index {
            Index::Fixed(index) => format!("{index}"),
            Index::Moving(index) => index.clone(),
        };
        match self.pointee(base) {
            TypeInner::Struct { .. } => match index {
                Index::Fixed(index) => format!("{text}.{}", self.member(base, index)),
                Index::Moving(_) => unreachable!("validated: members have names"),
            },
            TypeInner::Vector { .. } | TypeInner::ValuePointer { .. } => format!("{text}.v[{number}]"),
            TypeInner::Array { .. } | TypeInner::Matrix { .. } => format!("{text}.slots[{number}].value"),
            inner => unreachable!("validated: there is nothing inside {inner:?}"),
        }
    }

    /// What a pointer points to.
    pub fn place(&self, pointer: Handle<E>) -> String {
        let (base, index) = match self.function.expressions[pointer] {
            E::LocalVariable(local) => {
                let name = self.function.local_variables[local].name.as_deref();
                return identifier('v', local.index(), name);
            }
            E::FunctionArgument(index) => return parameter(self.function, index),
            E::GlobalVariable(global) => {
                return match &self.module.globals[&global] {
                    Global::Budget => "context.budget.now".to_owned(),
                    Global::Register(name) => format!("context.{name}"),
                    Global::Segment(name) => format!("context.privates->{name}"),
                    Global::Table(number) => format!("context.table{number}"),
                    Global::Whole(number) => format!("(*context.table{number})"),
                    Global::Shared(name) => format!("context.shared->{name}"),
                };
            }
            E::Access { base, index } => (base, Index::Moving(self.value(index))),
            E::AccessIndex { base, index } => (base, Index::Fixed(index)),
            _ => unreachable!("validated: no other expression is a pointer"),
        };
        let text = self.place(base);
        match (&self.function.expressions[base], &index) {
            (E::GlobalVariable(global), index) if matches!(self.module.globals[global], Global::Table(_)) => {
                match index {
                    Index::Fixed(index) => format!("{text}[{index}].value"),
                    Index::Moving(index) => format!("{text}[{index}].value"),
                }
            }
            _ => self.part(text, base, index),
        }
    }

    pub fn is_in_table(&self, pointer: Handle<E>) -> bool {
        let global = self.function.originating_global(pointer);
        let space = global.map(|global| self.module.program.module.global_variables[global].space);
        matches!(space, Some(AddressSpace::Storage { .. } | AddressSpace::WorkGroup))
    }

    /// Are there bytes in what a pointer points to that no component has?
    pub fn has_padding(&self, pointer: Handle<E>) -> bool {
        match *self.type_of(pointer) {
            TypeInner::Pointer { base, .. } => self.module.types.has_padding(base),
            _ => false,
        }
    }

    /// The vector and the index, if this points to a component that is known at run time only, and not into a table:
    /// memory is indexed, registers are not.
    pub fn moving_component(&self, pointer: Handle<E>) -> Option<(String, String)> {
        let E::Access { base, index } = self.function.expressions[pointer] else { return None };
        let is_vector = matches!(
            self.pointee(base),
            TypeInner::Vector { .. } | TypeInner::ValuePointer { size: Some(_), .. }
        );
        (is_vector && !self.is_in_table(pointer)).then(|| (self.place(base), self.value(index)))
    }

    fn load(&self, pointer: Handle<E>) -> String {
        if let Some((vector, index)) = self.moving_component(pointer) {
            return format!("rt_at({vector}, {index})");
        }
        let place = self.place(pointer);
        match self.pointee(pointer) {
            TypeInner::Atomic(_) => format!("rt_atomic_load(&{place})"),
            // A whole table: only if its size is fixed.
            inner @ TypeInner::Array { .. }
                if matches!(self.function.expressions[pointer], E::GlobalVariable(global)
                    if matches!(self.module.globals[&global], Global::Table(_))) =>
            {
                format!("*({}*){place}", self.module.types.inner_name(inner))
            }
            _ => place,
        }
    }
}

/// Which part of something.
enum Index {
    /// A member, or a component whose number is written there.
    Fixed(u32),
    /// A component whose number is a value.
    Moving(String),
}
