//! Expressions: each is evaluated once, where its `Emit` stands.

use super::super::code::{Address, Op, Operand, Path, Scalars, TablePlace, Whole};
use super::super::{math, pack, whole};
use super::fuse::direct;
use super::{Body, Place};
use crate::compile::shape::{self, element, leaves, part, pointee, words};
use naga::{
    AddressSpace, BinaryOperator, Expression as E, Handle, MathFunction, RelationalFunction, ScalarKind,
    SwizzleComponent, TypeInner, VectorSize,
};

impl<'a> Body<'_, 'a> {
    pub(super) fn type_of(&self, expression: Handle<E>) -> &'a TypeInner {
        self.info[expression].ty.inner_with(&self.decoder.module.types)
    }

    pub(super) fn kind_of(&self, expression: Handle<E>) -> ScalarKind {
        let inner = pointee(self.decoder.module, self.type_of(expression));
        inner.scalar_kind().expect("validated: arithmetic is on scalars, vectors and matrices")
    }

    pub(super) fn words_of(&self, expression: Handle<E>) -> u32 {
        words(self.decoder.module, self.type_of(expression))
    }

    /// A fresh place for the value of an expression.
    pub(super) fn fresh(&mut self, expression: Handle<E>) -> Address {
        let at = self.decoder.reserve(self.words_of(expression));
        self.places[expression.index()] = Place::Value(at);
        at
    }

    /// Where a value is.
    pub(super) fn value(&mut self, expression: Handle<E>) -> Address {
        match self.place(expression) {
            Place::Value(at) | Place::Borrowed(at) => at,
            other => unreachable!("validated: a value is used after its emit ({other:?})"),
        }
    }

    fn operand(&mut self, expression: Handle<E>) -> Operand {
        Operand { at: self.value(expression), step: u32::from(self.words_of(expression) > 1) }
    }

    /// Where an expression is; those that need no emit get their place here.
    pub(super) fn place(&mut self, expression: Handle<E>) -> Place {
        let index = expression.index();
        self.is_used[index] = true;
        if let Place::None = self.places[index] {
            self.places[index] = self.standing(expression);
        }
        self.places[index]
    }

    /// An expression that is there when its function begins.
    fn standing(&mut self, expression: Handle<E>) -> Place {
        match self.function.expressions[expression] {
            E::Literal(_) | E::Constant(_) | E::ZeroValue(_) => {
                let mut value = Vec::new();
                shape::constant(self.decoder.module, &self.function.expressions, expression, &mut value);
                Place::Value(self.decoder.constants(value))
            }
            E::FunctionArgument(index) => {
                let at = self.arguments[index as usize];
                match self.type_of(expression) {
                    TypeInner::Pointer { .. } if self.gets_state => {
                        let (state, _) = self.decoder.state.expect("it has a pointer to it");
                        Place::Pointer { moving: self.decoder.zero, plus: state }
                    }
                    TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. } => {
                        Place::Pointer { moving: at, plus: 0 }
                    }
                    _ => Place::Value(at),
                }
            }
            E::LocalVariable(local) => {
                Place::Pointer { moving: self.decoder.zero, plus: self.locals[&local] }
            }
            E::GlobalVariable(global) => {
                let decoder = &self.decoder;
                match decoder.module.global_variables[global].space {
                    AddressSpace::Private => {
                        Place::Pointer { moving: decoder.zero, plus: decoder.globals[&global] }
                    }
                    _ => {
                        let table = decoder.program.table_globals.iter().position(|t| *t == global);
                        let table = table.expect("the contract: every storage variable is a table") as u32;
                        Place::Table(TablePlace { table, words: 0, moving: decoder.zero })
                    }
                }
            }
            _ => unreachable!("validated: an expression is used after its emit"),
        }
    }

    /// Evaluates an emitted expression.
    pub(super) fn emit(&mut self, expression: Handle<E>) {
        let function = self.function;
        match function.expressions[expression] {
            E::Access { base, index } => self.access(expression, base, index),
            E::AccessIndex { base, index } => self.access_index(expression, base, index),
            E::Load { pointer } => self.load(expression, pointer),
            E::Compose { ref components, .. } => {
                let from: Vec<_> = components.iter().map(|c| (self.value(*c), self.words_of(*c))).collect();
                let mut to = self.fresh(expression);
                for (from, words) in from {
                    self.decoder.ops.push(Op::copy(to, from, words));
                    to += words;
                }
            }
            E::Splat { value, size } => {
                let from = self.value(value);
                let to = self.fresh(expression);
                for i in 0..u32::from(size) {
                    self.decoder.ops.push(Op::Set { to: to + i, from });
                }
            }
            E::Swizzle { size, vector, ref pattern } => self.swizzle(expression, vector, pattern, size),
            E::Unary { op, expr } => self.map1(expression, expr, math::unary(op, self.kind_of(expr))),
            E::Binary { op, left, right } => self.binary(expression, op, left, right),
            E::Select { condition, accept, reject } => {
                self.map3(expression, [condition, accept, reject], |c, a, r| if c != 0 { a } else { r });
            }
            E::Relational { fun, argument } => {
                let f = match fun {
                    RelationalFunction::All => whole::all,
                    RelationalFunction::Any => whole::any,
                    _ => unreachable!("not a function of WGSL"),
                };
                self.whole(expression, &[argument], f, [self.words_of(argument) as usize, 1], 0);
            }
            E::Math { fun, arg, arg1, arg2, arg3 } => self.math(expression, fun, arg, [arg1, arg2, arg3]),
            E::As { expr, kind, convert } => match convert {
                Some(_) => self.map1(expression, expr, math::convert(self.kind_of(expr), kind)),
                None => match self.place(expr) {
                    Place::Borrowed(at) => self.borrow(expression, at),
                    place => self.places[expression.index()] = place,
                },
            },
            E::ArrayLength(base) => {
                let Place::Table(place) = self.place(base) else {
                    unreachable!("validated: only a table has no fixed size")
                };
                let stride = element(self.decoder.module, pointee(self.decoder.module, self.type_of(base)));
                let to = self.fresh(expression);
                let stride = stride.layout_words * 4;
                let before = place.words * 4;
                self.decoder.ops.push(Op::TableLength { to, table: place.table, before, stride });
            }
            _ => {
                self.place(expression);
            }
        }
    }

    fn access(&mut self, expression: Handle<E>, base: Handle<E>, index: Handle<E>) {
        let module = self.decoder.module;
        let parts = element(module, pointee(module, self.type_of(base)));
        let place = match self.place(base) {
            Place::Value(base) | Place::Borrowed(base) => {
                let index = self.value(index);
                let to = self.decoder.reserve(parts.words);
                let (words, count) = (parts.words, parts.count);
                self.decoder.ops.push(Op::Pick { to, base, index, words, count });
                Place::Value(to)
            }
            Place::Pointer { moving, plus } => {
                let path = self.path(moving, index, parts.words);
                Place::Pointer { moving: self.follow(path), plus }
            }
            Place::Table(place) => {
                let path = self.path(place.moving, index, parts.layout_words);
                Place::Table(TablePlace { moving: self.follow(path), ..place })
            }
            Place::None => unreachable!("`place` finds one"),
        };
        self.places[expression.index()] = place;
    }

    fn follow(&mut self, path: Path) -> Address {
        let to = self.decoder.reserve(1);
        self.decoder.ops.push(Op::Move { to, path });
        to
    }

    fn access_index(&mut self, expression: Handle<E>, base: Handle<E>, index: u32) {
        let module = self.decoder.module;
        let part = part(module, pointee(module, self.type_of(base)), index);
        self.places[expression.index()] = match self.place(base) {
            // A part of a value is where the value is: values do not change.
            Place::Value(at) => Place::Value(at + part.words),
            Place::Borrowed(at) => return self.borrow(expression, at + part.words),
            Place::Pointer { moving, plus } => Place::Pointer { moving, plus: plus + part.words },
            Place::Table(place) => {
                Place::Table(TablePlace { words: place.words + part.layout_words, ..place })
            }
            Place::None => unreachable!("`place` finds one"),
        };
    }

    fn load(&mut self, expression: Handle<E>, pointer: Handle<E>) {
        let words = self.words_of(expression);
        let op = match self.place(pointer) {
            Place::Pointer { moving, plus } if moving == self.decoder.zero => {
                return self.borrow(expression, plus);
            }
            Place::Pointer { moving, plus } => {
                let path = self.take_path(pointer, moving);
                let to = self.fresh(expression);
                match path {
                    Some(path) => Op::LoadAt { to, path, plus, words },
                    None => Op::Load { to, at: moving, plus, words },
                }
            }
            Place::Table(place) if words == 1 => {
                let path = self.take_path(pointer, place.moving);
                let to = self.fresh(expression);
                match path {
                    Some(path) => Op::TableWordAt { to, table: place.table, words: place.words, path },
                    None => Op::TableWord { to, place },
                }
            }
            Place::Table(place) => {
                let to = self.fresh(expression);
                let leaves = self.leaves(self.type_of(expression));
                Op::TableLoad { to, place, leaves }
            }
            _ => unreachable!("validated: a load goes through a pointer"),
        };
        self.decoder.ops.push(op);
    }

    /// The number of the list of a type's words.
    pub(super) fn leaves(&mut self, inner: &TypeInner) -> u32 {
        let list = leaves(self.decoder.module, inner);
        let known = self.decoder.leaves.iter().position(|l| *l == list);
        known.unwrap_or_else(|| {
            self.decoder.leaves.push(list);
            self.decoder.leaves.len() - 1
        }) as u32
    }

    fn swizzle(
        &mut self,
        expression: Handle<E>,
        vector: Handle<E>,
        pattern: &[SwizzleComponent; 4],
        size: VectorSize,
    ) {
        let from = self.value(vector);
        let to = self.fresh(expression);
        for (to, component) in (to..).zip(&pattern[..size as usize]) {
            self.decoder.ops.push(Op::Set { to, from: from + *component as u32 });
        }
    }

    fn map1(&mut self, expression: Handle<E>, a: Handle<E>, f: math::Fn1) {
        let (a, words) = (self.value(a), self.words_of(expression));
        let to = self.fresh(expression);
        self.decoder.ops.push(if words == 1 { Op::Unary { to, a, f } } else { Op::Map1 { to, a, words, f } });
    }

    fn map2(&mut self, expression: Handle<E>, a: Handle<E>, b: Handle<E>, f: math::Fn2) {
        let (a, b, words) = (self.operand(a), self.operand(b), self.words_of(expression));
        let to = self.fresh(expression);
        self.decoder.ops.push(match words {
            1 => Op::Binary { to, a: a.at, b: b.at, f },
            _ => Op::Map2 { to, a, b, words, f },
        });
    }

    fn map3(&mut self, expression: Handle<E>, operands: [Handle<E>; 3], f: math::Fn3) {
        let [a, b, c] = operands.map(|operand| self.operand(operand));
        // A select of whole arrays or structs is not in WGSL, so a scalar condition spreads like any scalar.
        let words = self.words_of(expression);
        let to = self.fresh(expression);
        self.decoder.ops.push(match words {
            1 => Op::Ternary { to, a: a.at, b: b.at, c: c.at, f },
            _ => Op::Map3 { to, a, b, c, words, f },
        });
    }

    fn whole(
        &mut self,
        expression: Handle<E>,
        operands: &[Handle<E>],
        f: whole::WholeFn,
        size: [usize; 2],
        columns: usize,
    ) {
        let mut places = [(0, 0); 3];
        for (place, operand) in places.iter_mut().zip(operands) {
            *place = (self.value(*operand), self.words_of(*operand));
        }
        let words = self.words_of(expression);
        let to = self.fresh(expression);
        let operation = Box::new(Whole { f, operands: places, size, columns });
        self.decoder.ops.push(Op::Whole { to, words, operation });
    }

    fn binary(&mut self, expression: Handle<E>, op: BinaryOperator, left: Handle<E>, right: Handle<E>) {
        use TypeInner::{Matrix, Vector};
        let size = |columns: VectorSize, rows: VectorSize| [columns as usize, rows as usize];
        if op == BinaryOperator::Multiply {
            match (self.type_of(left), self.type_of(right)) {
                (&Matrix { columns, rows, .. }, &Matrix { columns: second, .. }) => {
                    let f = whole::matrix_matrix;
                    return self.whole(expression, &[left, right], f, size(columns, rows), second as usize);
                }
                (&Matrix { columns, rows, .. }, Vector { .. }) => {
                    return self.whole(
                        expression,
                        &[left, right],
                        whole::matrix_vector,
                        size(columns, rows),
                        0,
                    );
                }
                (Vector { .. }, &Matrix { columns, rows, .. }) => {
                    return self.whole(
                        expression,
                        &[left, right],
                        whole::vector_matrix,
                        size(columns, rows),
                        0,
                    );
                }
                _ => {}
            }
        }
        let kind = self.kind_of(left);
        if self.words_of(expression) == 1
            && let Some(op) = direct(op, kind)
        {
            let (a, b) = (self.value(left), self.value(right));
            let to = self.fresh(expression);
            self.decoder.ops.push(op(Scalars { to, a, b }));
            return;
        }
        self.map2(expression, left, right, math::binary(op, kind));
    }

    fn math(
        &mut self,
        expression: Handle<E>,
        fun: MathFunction,
        arg: Handle<E>,
        rest: [Option<Handle<E>>; 3],
    ) {
        let kind = self.kind_of(arg);
        if fun == MathFunction::InsertBits {
            let [Some(new), Some(offset), Some(count)] = rest else {
                unreachable!("validated: insertBits takes four arguments")
            };
            let [e, new, offset, count] = [arg, new, offset, count].map(|operand| self.value(operand));
            let words = self.words_of(expression);
            let to = self.fresh(expression);
            self.decoder.ops.push(Op::InsertBits { to, e, new, offset, count, words });
        } else if let Some(f) = math::math1(fun, kind) {
            self.map1(expression, arg, f);
        } else if let (Some(f), Some(b)) = (math::math2(fun, kind), rest[0]) {
            self.map2(expression, arg, b, f);
        } else if let (Some(f), [Some(b), Some(c), _]) = (math::math3(fun, kind), rest) {
            self.map3(expression, [arg, b, c], f);
        } else if let Some(f) = pack::pack(fun) {
            let (from, count) = (self.value(arg), self.words_of(arg));
            let to = self.fresh(expression);
            self.decoder.ops.push(Op::Pack { to, from, count, f });
        } else if let Some((count, f)) = pack::unpack(fun) {
            let from = self.value(arg);
            let to = self.fresh(expression);
            self.decoder.ops.push(Op::Unpack { to, from, count, f });
        } else if let Some(f) = whole::math(fun, kind) {
            let operands: Vec<_> = [Some(arg), rest[0], rest[1]].into_iter().flatten().collect();
            let size = match *self.type_of(arg) {
                TypeInner::Matrix { columns, rows, .. } => [columns as usize, rows as usize],
                _ => [self.words_of(arg) as usize, 1],
            };
            self.whole(expression, &operands, f, size, 0);
        } else {
            unreachable!("not a function of WGSL: {fun:?}")
        }
    }
}
