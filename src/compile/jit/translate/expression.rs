//! Expressions: each is evaluated once, where its `Emit` stands.

use super::place::{Address, Base, Memory, pointee};
use super::{Body, MOST_SCALARS, Operand, Place, Refusal, Translator};
use crate::compile::jit::analysis::{Root, trace};
use crate::compile::jit::layout;
use crate::compile::shape;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use naga::{
    BinaryOperator, Expression as E, Handle, Literal, MathFunction, Module, RelationalFunction, ScalarKind,
    TypeInner, VectorSize,
};
use std::rc::Rc;

/// Elements up to which a dynamic index into a value in registers is a row of selections.
const MOST_SELECTIONS: u32 = 4;
/// The largest f32 that is an i32.
const MOST_SIGNED: u32 = 2_147_483_520;
/// The largest f32 that is a u32.
const MOST_UNSIGNED: u32 = 4_294_967_040;

impl<'p> Body<'p> {
    pub(super) fn type_of(&self, module: &'p Module, expression: Handle<E>) -> &'p TypeInner {
        self.info[expression].ty.inner_with(&module.types)
    }
}

impl<'p> Translator<'p, '_> {
    pub(super) fn kind_of(&self, body: &Body<'p>, expression: Handle<E>) -> ScalarKind {
        let inner = body.type_of(self.module, expression);
        inner.scalar_kind().expect("validated: arithmetic is on scalars, vectors and matrices")
    }

    /// The value of an expression; those that need no emit are made here.
    pub(super) fn operand(&mut self, body: &Body<'p>, expression: Handle<E>) -> Operand {
        if let Some(operand) = &body.values[expression.index()] {
            return operand.clone();
        }
        match body.function.expressions[expression] {
            E::Literal(_) | E::Constant(_) | E::ZeroValue(_) => {
                let inner = body.type_of(self.module, expression);
                self.constant(&body.function.expressions, expression, inner)
            }
            E::FunctionArgument(index) => body.arguments[index as usize].clone(),
            E::LocalVariable(local) => Operand::Pointer(body.locals[&local].clone()),
            E::GlobalVariable(global) => Operand::Pointer(self.globals[&global].clone()),
            _ => unreachable!("validated: an expression is used after its emit"),
        }
    }

    pub(super) fn scalar(&mut self, body: &Body<'p>, expression: Handle<E>) -> Value {
        self.components(body, expression)[0]
    }

    /// The scalars of an expression's value.
    pub(super) fn components(&mut self, body: &Body<'p>, expression: Handle<E>) -> Rc<[Value]> {
        let operand = self.operand(body, expression);
        self.scalars(&operand, body.type_of(self.module, expression))
    }

    pub(super) fn pointer(&mut self, body: &Body<'p>, expression: Handle<E>) -> Rc<Place> {
        match self.operand(body, expression) {
            Operand::Pointer(place) => place,
            _ => unreachable!("validated: an access goes through a pointer"),
        }
    }

    /// Remembers the value of an expression.
    pub(super) fn set(&mut self, body: &mut Body<'p>, expression: Handle<E>, operand: Operand) {
        let operand = if self.analysis.facts(body.handle).continued.contains(&expression) {
            self.keep(operand)
        } else {
            operand
        };
        body.values[expression.index()] = Some(operand);
    }

    /// Puts what an operand is made of into variables, because a `continue` may lead past its computation to a use
    /// that then does not matter.
    fn keep(&mut self, operand: Operand) -> Operand {
        match operand {
            Operand::Scalars(scalars) => {
                Operand::Kept(scalars.iter().map(|scalar| self.keep_value(*scalar)).collect())
            }
            Operand::Packed(vector) => {
                let scalars = self.lanes(vector);
                self.keep(Operand::Scalars(scalars))
            }
            Operand::Bytes(at) => Operand::Bytes(self.keep_address(at)),
            Operand::Pointer(place) => match *place {
                Place::Memory(at) => Operand::Pointer(Rc::new(Place::Memory(self.keep_address(at)))),
                _ => Operand::Pointer(place),
            },
            other => other,
        }
    }

    fn keep_value(&mut self, value: Value) -> cranelift_frontend::Variable {
        let ty = self.builder.func.dfg.value_type(value);
        let variable = self.builder.declare_var(ty);
        self.builder.def_var(variable, value);
        variable
    }

    fn keep_address(&mut self, at: Address) -> Address {
        match at.base {
            Base::Value(value) => Address { base: Base::Kept(self.keep_value(value)), ..at },
            Base::Kept(_) => at,
        }
    }

    /// Evaluates an emitted expression.
    pub(super) fn emit(&mut self, body: &mut Body<'p>, expression: Handle<E>) -> Result<(), Refusal> {
        let inner = body.type_of(self.module, expression);
        let operand = match body.function.expressions[expression] {
            E::Access { base, index } => self.access(body, inner, base, index)?,
            E::AccessIndex { base, index } => self.access_index(body, inner, base, index),
            E::Load { pointer } => self.load_expression(body, inner, expression, pointer)?,
            E::Compose { ref components, .. } => {
                if shape::words(self.module, inner) > MOST_SCALARS {
                    self.compose_in_memory(body, inner, components)?
                } else {
                    let parts = components.iter().map(|component| self.components(body, *component));
                    Operand::Scalars(parts.collect::<Vec<_>>().concat().into())
                }
            }
            E::Splat { value, size } => {
                let scalar = self.scalar(body, value);
                Operand::Scalars(vec![scalar; size as usize].into())
            }
            E::Swizzle { size, vector, ref pattern } => {
                let from = self.components(body, vector);
                let picked = pattern[..size as usize].iter().map(|component| from[*component as usize]);
                Operand::Scalars(picked.collect())
            }
            E::Unary { op, expr } => {
                let kind = self.kind_of(body, expr);
                let scalars = self.components(body, expr);
                Operand::Scalars(scalars.iter().map(|x| self.unary(op, kind, *x)).collect())
            }
            E::Binary { op, left, right } if self.is_packed(body, expression) => {
                self.packed_binary(body, op, left, right)
            }
            E::Binary { op, left, right } => self.binary_expression(body, op, left, right),
            E::Select { condition, accept, reject } => {
                let conditions = self.components(body, condition);
                let [accept, reject] = [accept, reject].map(|e| self.components(body, e));
                let pairs = accept.iter().zip(reject.iter()).enumerate();
                let chosen = pairs.map(|(index, (yes, no))| {
                    let condition = conditions[index.min(conditions.len() - 1)];
                    self.ins().select(condition, *yes, *no)
                });
                Operand::Scalars(chosen.collect())
            }
            E::Relational { fun, argument } => self.relational(body, fun, argument),
            E::Math { fun, arg, arg1, arg2, arg3 } => {
                self.math_expression(body, fun, arg, [arg1, arg2, arg3])
            }
            E::As { expr, kind, convert } => self.conversion(body, expr, kind, convert.is_some()),
            E::ArrayLength(base) => {
                let (Some(Root::Global(global)), ..) = trace(body.function, base) else {
                    unreachable!("validated: only a table has no fixed size")
                };
                Operand::Scalars([self.lengths[&global]].into())
            }
            _ => self.operand(body, expression),
        };
        self.set(body, expression, operand);
        Ok(())
    }

    fn access(
        &mut self,
        body: &mut Body<'p>,
        inner: &TypeInner,
        base: Handle<E>,
        index: Handle<E>,
    ) -> Result<Operand, Refusal> {
        let index = self.scalar(body, index);
        if let Some(at) = self.emitted_value(&body.function.expressions[base], index) {
            return Ok(Operand::Pointer(Rc::new(Place::Memory(at))));
        }
        let whole = pointee(self.module, body.type_of(self.module, base));
        let operand = self.operand(body, base);
        Ok(match operand {
            Operand::Pointer(place) => {
                let Place::Memory(at) = *place else {
                    unreachable!("the analysis puts what is indexed dynamically into memory")
                };
                Operand::Pointer(Rc::new(Place::Memory(self.indexed(at, index, &whole))))
            }
            Operand::Bytes(at) => {
                let at = self.indexed(at, index, &whole);
                self.piece(at, inner)
            }
            Operand::Zero => self.zero_of(inner),
            Operand::Scalars(_) | Operand::Kept(_) | Operand::Packed(_) => {
                let scalars = self.scalars(&operand, &whole);
                let element = shape::element(self.module, &whole);
                if element.count <= MOST_SELECTIONS {
                    self.chosen(&scalars, index, element.words as usize)
                } else {
                    let to = self.slot(layout::size(self.module, &whole))?;
                    self.put(to, &whole, &operand);
                    let at = self.indexed(to, index, &whole);
                    let mut picked = Vec::new();
                    for leaf in layout::leaves(self.module, inner) {
                        picked.push(self.load_scalar(at, leaf.offset, leaf.ty));
                    }
                    Operand::Scalars(picked.into())
                }
            }
            Operand::Fuel => unreachable!("validated: a scalar has no elements"),
        })
    }

    /// A part of an unchanging value in memory: of what has members or elements, perhaps only some are used.
    fn piece(&mut self, at: Address, inner: &TypeInner) -> Operand {
        if matches!(inner, TypeInner::Struct { .. } | TypeInner::Array { .. }) {
            return Operand::Bytes(at);
        }
        let scalars = self.scalars(&Operand::Bytes(at), inner);
        Operand::Scalars(scalars)
    }

    /// The address of an element of `whole`.
    fn indexed(&mut self, at: Address, index: Value, whole: &TypeInner) -> Address {
        let stride = layout::stride(whole);
        if let Some(number) = self.known_integer(index)
            && let Some(bytes) = number.checked_mul(stride)
            && bytes < 1 << 20
        {
            // Elsewhere a condition keeps it in range, or is never true: of a loop that is unrolled, in some copies.
            let is_inside = number < shape::element(self.module, whole).count;
            return Address { is_steady: at.is_steady && is_inside, ..at.plus(bytes) };
        }
        let wide = self.wide.get(&index).copied();
        let is_inside = self.inside.contains(&index);
        let index = wide.unwrap_or_else(|| self.ins().uextend(types::I64, index));
        let bytes = if stride.is_power_of_two() {
            self.ins().ishl_imm_u(index, i64::from(stride.trailing_zeros()))
        } else {
            self.ins().imul_imm_u(index, i64::from(stride))
        };
        let base = self.base(at);
        let base = self.ins().iadd(base, bytes);
        Address { base: Base::Value(base), is_steady: at.is_steady && is_inside, ..at }
    }

    /// One of a few elements in registers.
    fn chosen(&mut self, scalars: &[Value], index: Value, words: usize) -> Operand {
        let mut elements = scalars.chunks_exact(words);
        let mut chosen = elements.next().expect("an array has an element").to_vec();
        for (element, number) in elements.zip(1..) {
            let is_it = self.ins().icmp_imm_u(IntCC::Equal, index, number);
            for (chosen, scalar) in chosen.iter_mut().zip(element) {
                *chosen = self.ins().select(is_it, *scalar, *chosen);
            }
        }
        Operand::Scalars(chosen.into())
    }

    fn access_index(&mut self, body: &Body<'p>, inner: &TypeInner, base: Handle<E>, index: u32) -> Operand {
        let whole = pointee(self.module, body.type_of(self.module, base));
        match self.operand(body, base) {
            Operand::Pointer(place) => Operand::Pointer(place.part(&whole, index)),
            Operand::Bytes(at) => self.piece(at.plus(layout::offset(&whole, index)), inner),
            Operand::Zero => self.zero_of(inner),
            operand => {
                let scalars = self.scalars(&operand, &whole);
                let first = shape::part(self.module, &whole, index).words as usize;
                let count = shape::words(self.module, inner) as usize;
                Operand::Scalars(scalars[first..first + count].into())
            }
        }
    }

    fn load_expression(
        &mut self,
        body: &Body<'p>,
        inner: &TypeInner,
        load: Handle<E>,
        pointer: Handle<E>,
    ) -> Result<Operand, Refusal> {
        if self.is_fuel(body, pointer) {
            return Ok(Operand::Fuel);
        }
        let place = self.pointer(body, pointer);
        let is_packed = self.is_packed(body, load);
        match *place {
            Place::Packed(variable) if is_packed => {
                return Ok(Operand::Packed(self.builder.use_var(variable)));
            }
            Place::Memory(at) if is_packed => {
                return Ok(Operand::Packed(self.load_scalar(at, 0, layout::vector_type(inner))));
            }
            _ => {}
        }
        if let TypeInner::Atomic(scalar) = *pointee(self.module, body.type_of(self.module, pointer))
            && let Place::Memory(at) = *place
        {
            let ty = layout::machine_type(scalar.kind);
            let value = if at.memory == Memory::Own {
                self.load_scalar(at, 0, ty)
            } else {
                let address = self.address_value(at);
                self.ins().atomic_load(ty, MemFlagsData::trusted(), address)
            };
            return Ok(Operand::Scalars([value].into()));
        }
        self.load(&place, inner)
    }

    fn binary_expression(
        &mut self,
        body: &Body<'p>,
        op: BinaryOperator,
        left: Handle<E>,
        right: Handle<E>,
    ) -> Operand {
        use TypeInner::{Matrix, Vector};
        let (a, b) = (self.components(body, left), self.components(body, right));
        let size = |columns: VectorSize, rows: VectorSize| [columns as usize, rows as usize];
        if op == BinaryOperator::Multiply {
            let module = self.module;
            match (body.type_of(module, left), body.type_of(module, right)) {
                (&Matrix { columns, rows, .. }, &Matrix { columns: second, .. }) => {
                    return self.matrix_matrix(&a, &b, size(columns, rows), second as usize);
                }
                (&Matrix { columns, rows, .. }, Vector { .. }) => {
                    return self.matrix_matrix(&a, &b, size(columns, rows), 1);
                }
                (Vector { .. }, &Matrix { columns, rows, .. }) => {
                    return self.vector_matrix(&a, &b, size(columns, rows));
                }
                _ => {}
            }
        }
        let kind = self.kind_of(body, left);
        let count = a.len().max(b.len());
        // A scalar spreads over a vector or matrix.
        let of = |scalars: &[Value], index: usize| scalars[index.min(scalars.len() - 1)];
        Operand::Scalars((0..count).map(|i| self.binary(op, kind, of(&a, i), of(&b, i))).collect())
    }

    fn relational(&mut self, body: &Body<'p>, fun: RelationalFunction, argument: Handle<E>) -> Operand {
        let scalars = self.components(body, argument);
        let mut result = scalars[0];
        for scalar in &scalars[1..] {
            result = match fun {
                RelationalFunction::All => self.ins().band(result, *scalar),
                RelationalFunction::Any => self.ins().bor(result, *scalar),
                _ => unreachable!("not a function of WGSL"),
            };
        }
        Operand::Scalars([result].into())
    }

    fn conversion(&mut self, body: &Body<'p>, from: Handle<E>, to: ScalarKind, by_value: bool) -> Operand {
        let kind = self.kind_of(body, from);
        if by_value && kind == ScalarKind::Float && matches!(to, ScalarKind::Sint | ScalarKind::Uint) {
            let saturated = saturated(body, from, to);
            let scalars = self.components(body, saturated.unwrap_or(from));
            let needs_limit = saturated.is_some();
            let converted = scalars.iter().map(|x| self.float_to_int(*x, to, needs_limit));
            return Operand::Scalars(converted.collect());
        }
        let scalars = self.components(body, from);
        Operand::Scalars(
            scalars
                .iter()
                .map(|x| if by_value { self.convert(*x, kind, to) } else { self.reinterpret(*x, to) })
                .collect(),
        )
    }

    /// A float to an integer; `needs_limit` if it may be larger than the largest float that lowering lets through.
    fn float_to_int(&mut self, x: Value, to: ScalarKind, needs_limit: bool) -> Value {
        let (least, most) = self.ranges.get(&x).copied().unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let is_signed = to == ScalarKind::Sint;
        let limit = if is_signed { MOST_SIGNED } else { MOST_UNSIGNED };
        let needs_limit = needs_limit && most > limit as f32;
        // The signed conversion is the shorter one.
        let integer = if is_signed || (least >= 0.0 && most <= MOST_SIGNED as f32) {
            self.ins().fcvt_to_sint_sat(types::I32, x)
        } else {
            self.ins().fcvt_to_uint_sat(types::I32, x)
        };
        if !needs_limit {
            return integer;
        }
        let limit = self.number(limit);
        if is_signed { self.ins().smin(integer, limit) } else { self.ins().umin(integer, limit) }
    }

    fn convert(&mut self, x: Value, from: ScalarKind, to: ScalarKind) -> Value {
        use ScalarKind as K;
        match (from, to) {
            (K::Float, K::Bool) => {
                let zero = self.float(0.0);
                self.ins().fcmp(FloatCC::NotEqual, x, zero)
            }
            (K::Sint, K::Float) => self.ins().fcvt_from_sint(types::F32, x),
            (K::Uint, K::Float) => self.ins().fcvt_from_uint(types::F32, x),
            (K::Bool, K::Float) => {
                let word = self.ins().uextend(types::I32, x);
                self.ins().fcvt_from_sint(types::F32, word)
            }
            (K::Bool, K::Bool) | (K::Float, _) => x,
            (_, K::Bool) => self.ins().icmp_imm_u(IntCC::NotEqual, x, 0),
            (K::Bool, _) => self.ins().uextend(types::I32, x),
            _ => x,
        }
    }

    /// The same bits as another type.
    pub(super) fn reinterpret(&mut self, x: Value, to: ScalarKind) -> Value {
        let ty = layout::machine_type(to);
        if self.builder.func.dfg.value_type(x) == ty {
            return x;
        }
        self.ins().bitcast(ty, MemFlagsData::new(), x)
    }
}

/// What lowering clamps before it converts it to an integer: Cranelift's conversions saturate by themselves, so the
/// operations around it are not needed.
fn saturated(body: &Body<'_>, number: Handle<E>, to: ScalarKind) -> Option<Handle<E>> {
    let expressions = &body.function.expressions;
    let E::Select { condition, accept, reject } = expressions[number] else { return None };
    let E::Math { fun: MathFunction::Clamp, arg: value, arg1: Some(low), arg2: Some(high), .. } =
        expressions[reject]
    else {
        return None;
    };
    let E::Binary { op: BinaryOperator::Greater, left: magnitude, right: infinity } = expressions[condition]
    else {
        return None;
    };
    let E::Binary { op: BinaryOperator::And, left: bits, right: mask } = expressions[magnitude] else {
        return None;
    };
    let E::As { expr, kind: ScalarKind::Uint, convert: None } = expressions[bits] else { return None };
    let literal = |mut expression: Handle<E>| {
        if let E::Splat { value, .. } = expressions[expression] {
            expression = value;
        }
        match expressions[expression] {
            E::Literal(literal) => Some(literal),
            _ => None,
        }
    };
    let (least, most) = match to {
        ScalarKind::Sint => (-2_147_483_648.0, MOST_SIGNED as f32),
        _ => (0.0, MOST_UNSIGNED as f32),
    };
    let is_ours = expr == value
        && literal(accept) == Some(Literal::F32(0.0))
        && literal(low) == Some(Literal::F32(least))
        && literal(high) == Some(Literal::F32(most))
        && literal(mask) == Some(Literal::U32(0x7fff_ffff))
        && literal(infinity) == Some(Literal::U32(0x7f80_0000));
    is_ours.then_some(value)
}
