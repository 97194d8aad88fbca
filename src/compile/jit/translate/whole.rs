//! Operations on whole vectors and matrices, and what packs them into words.

use super::{Body, Operand, Translator};
use crate::compile::jit::runtime::Service;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use naga::{Expression as E, Handle, MathFunction as M, ScalarKind, TypeInner};

impl<'p> Translator<'p, '_> {
    pub(super) fn math_expression(
        &mut self,
        body: &Body<'p>,
        fun: M,
        argument: Handle<E>,
        rest: [Option<Handle<E>>; 3],
    ) -> Operand {
        let kind = self.kind_of(body, argument);
        let first = self.components(body, argument);
        let rest: Vec<_> = rest.iter().flatten().map(|e| self.components(body, *e)).collect();
        let all: Vec<&[Value]> = std::iter::once(&*first).chain(rest.iter().map(|r| &**r)).collect();
        let matrix = match *body.type_of(self.module, argument) {
            TypeInner::Matrix { columns, rows, .. } => [columns as usize, rows as usize],
            _ => [first.len(), 1],
        };
        if let Some(result) = self.whole(fun, kind, &all, matrix) {
            return Operand::Scalars(result.into());
        }
        let count = all.iter().map(|scalars| scalars.len()).max().unwrap_or(0);
        // A scalar spreads over a vector.
        let of = |scalars: &[Value], index: usize| scalars[index.min(scalars.len() - 1)];
        let result = (0..count).map(|i| {
            match *all.as_slice() {
                [a] => self.math1(fun, kind, of(a, i)),
                [a, b] => self.math2(fun, kind, of(a, i), of(b, i)),
                [a, b, c] => self.math3(fun, kind, [of(a, i), of(b, i), of(c, i)]),
                [e, new, offset, count] => {
                    Some(self.insert_bits(of(e, i), of(new, i), of(offset, i), of(count, i)))
                }
                _ => None,
            }
            .unwrap_or_else(|| unreachable!("not a function of WGSL: {fun:?}"))
        });
        Operand::Scalars(result.collect())
    }

    /// A function that mixes components; `None` if it works on each alone.
    fn whole(
        &mut self,
        fun: M,
        kind: ScalarKind,
        all: &[&[Value]],
        matrix: [usize; 2],
    ) -> Option<Vec<Value>> {
        let a = all[0];
        let b = all.get(1).copied().unwrap_or_default();
        Some(match fun {
            M::Dot if kind == ScalarKind::Float => vec![self.dot(a, b)],
            M::Dot => {
                let products: Vec<_> = a.iter().zip(b).map(|(x, y)| self.ins().imul(*x, *y)).collect();
                vec![self.sum_of_integers(&products)]
            }
            M::Dot4I8Packed => vec![self.packed_dot(true, a[0], b[0])],
            M::Dot4U8Packed => vec![self.packed_dot(false, a[0], b[0])],
            M::Length => vec![self.length(a)],
            M::Distance => {
                let difference: Vec<_> = a.iter().zip(b).map(|(x, y)| self.ins().fsub(*x, *y)).collect();
                vec![self.length(&difference)]
            }
            M::Normalize => {
                let length = self.length(a);
                a.iter().map(|x| self.ins().fdiv(*x, length)).collect()
            }
            M::Cross => (0..3).map(|i| self.cross(a, b, (i + 1) % 3, (i + 2) % 3)).collect(),
            M::FaceForward => {
                let dot = self.dot(b, all[2]);
                let zero = self.float(0.0);
                let keep = self.ins().fcmp(FloatCC::LessThan, dot, zero);
                let choose = a.iter().map(|x| {
                    let turned = self.ins().fneg(*x);
                    self.ins().select(keep, *x, turned)
                });
                choose.collect()
            }
            M::Reflect => {
                let dot = self.dot(b, a);
                let two = self.float(2.0);
                let twice = self.ins().fmul(two, dot);
                let reflected = a.iter().zip(b).map(|(x, normal)| {
                    let part = self.ins().fmul(twice, *normal);
                    self.ins().fsub(*x, part)
                });
                reflected.collect()
            }
            M::Refract => self.refract(a, b, all[2][0]),
            M::Modf => self.modf(a),
            M::Frexp => {
                let mut result: Vec<_> = a.iter().map(|x| self.ask(Service::Fraction, &[*x])).collect();
                result.extend(a.iter().map(|x| self.ask(Service::Exponent, &[*x])));
                result
            }
            M::Transpose => {
                let [columns, rows] = matrix;
                (0..rows).flat_map(|r| (0..columns).map(move |c| a[c * rows + r])).collect()
            }
            M::Determinant => {
                let n = matrix[0];
                let columns: Vec<Vec<Value>> = a.chunks_exact(n).map(<[Value]>::to_vec).collect();
                vec![self.determinant(&columns)]
            }
            _ => return self.packing(fun, a),
        })
    }

    fn sum_of_integers(&mut self, terms: &[Value]) -> Value {
        let mut sum = terms[0];
        for term in &terms[1..] {
            sum = self.ins().iadd(sum, *term);
        }
        sum
    }

    /// The sum of products, from the first to the last.
    fn sum_of_products(&mut self, pairs: impl Iterator<Item = (Value, Value)>) -> Value {
        let mut sum = None;
        for (x, y) in pairs {
            let product = self.ins().fmul(x, y);
            sum = Some(match sum {
                None => product,
                Some(sum) => self.ins().fadd(sum, product),
            });
        }
        sum.expect("vectors have components")
    }

    fn dot(&mut self, a: &[Value], b: &[Value]) -> Value {
        self.sum_of_products(a.iter().copied().zip(b.iter().copied()))
    }

    fn length(&mut self, a: &[Value]) -> Value {
        if let [x] = *a {
            return self.ins().fabs(x);
        }
        let square = self.dot(a, a);
        self.ins().sqrt(square)
    }

    fn cross(&mut self, a: &[Value], b: &[Value], i: usize, j: usize) -> Value {
        let first = self.ins().fmul(a[i], b[j]);
        let second = self.ins().fmul(a[j], b[i]);
        self.ins().fsub(first, second)
    }

    fn refract(&mut self, a: &[Value], normal: &[Value], ratio: Value) -> Vec<Value> {
        let dot = self.dot(normal, a);
        let [zero, one] = [0.0, 1.0].map(|value| self.float(value));
        let square = self.ins().fmul(dot, dot);
        let rest = self.ins().fsub(one, square);
        let ratio_square = self.ins().fmul(ratio, ratio);
        let lost = self.ins().fmul(ratio_square, rest);
        let k = self.ins().fsub(one, lost);
        let is_total = self.ins().fcmp(FloatCC::LessThan, k, zero);
        let root = self.ins().sqrt(k);
        let along = self.ins().fmul(ratio, dot);
        let factor = self.ins().fadd(along, root);
        let refracted = a.iter().zip(normal).map(|(x, normal)| {
            let kept = self.ins().fmul(ratio, *x);
            let turned = self.ins().fmul(factor, *normal);
            let sum = self.ins().fsub(kept, turned);
            self.ins().select(is_total, zero, sum)
        });
        refracted.collect()
    }

    fn modf(&mut self, a: &[Value]) -> Vec<Value> {
        let wholes: Vec<_> = a.iter().map(|x| self.ins().trunc(*x)).collect();
        let fractions = a.iter().zip(&wholes).map(|(x, whole)| {
            let fraction = self.ins().fsub(*x, *whole);
            let magnitude = self.ins().fabs(*x);
            let [zero, infinity] = [0.0, f32::INFINITY].map(|value| self.float(value));
            let is_infinite = self.ins().fcmp(FloatCC::Equal, magnitude, infinity);
            let signed_zero = self.ins().fcopysign(zero, *x);
            self.ins().select(is_infinite, signed_zero, fraction)
        });
        let mut result: Vec<_> = fractions.collect();
        result.extend(&wholes);
        result
    }

    /// Laplace's expansion along the first row; at most 4×4.
    fn determinant(&mut self, columns: &[Vec<Value>]) -> Value {
        if let [column] = columns {
            return column[0];
        }
        let mut sum = None;
        for (index, column) in columns.iter().enumerate() {
            let others = columns.iter().enumerate().filter(|(other, _)| *other != index);
            let minor: Vec<_> = others.map(|(_, column)| column[1..].to_vec()).collect();
            let minor = self.determinant(&minor);
            let term = self.ins().fmul(column[0], minor);
            sum = Some(match sum {
                None => term,
                Some(sum) if index % 2 == 1 => self.ins().fsub(sum, term),
                Some(sum) => self.ins().fadd(sum, term),
            });
        }
        sum.expect("matrices have columns")
    }

    /// `matrix * matrix`; of a vector as the second, `columns` is 1.
    pub(super) fn matrix_matrix(
        &mut self,
        a: &[Value],
        b: &[Value],
        [shared, rows]: [usize; 2],
        columns: usize,
    ) -> Operand {
        let mut result = Vec::with_capacity(columns * rows);
        for column in 0..columns {
            for row in 0..rows {
                let pairs = (0..shared).map(|k| (a[k * rows + row], b[column * shared + k]));
                result.push(self.sum_of_products(pairs));
            }
        }
        Operand::Scalars(result.into())
    }

    /// `vector * matrix`; the size is the matrix's.
    pub(super) fn vector_matrix(&mut self, a: &[Value], b: &[Value], [columns, rows]: [usize; 2]) -> Operand {
        let result = (0..columns).map(|c| {
            let column = &b[c * rows..(c + 1) * rows];
            self.dot(a, column)
        });
        Operand::Scalars(result.collect())
    }

    /// A component of a packed word, as an integer.
    fn unpacked(&mut self, is_signed: bool, word: Value, index: u32, bits: u32) -> Value {
        let up = self.ins().ishl_imm_u(word, i64::from(32 - bits * (index + 1)));
        let down = i64::from(32 - bits);
        if is_signed { self.ins().sshr_imm_u(up, down) } else { self.ins().ushr_imm_u(up, down) }
    }

    fn packed_dot(&mut self, is_signed: bool, a: Value, b: Value) -> Value {
        let products: Vec<_> = (0..4)
            .map(|i| {
                let [x, y] = [a, b].map(|word| self.unpacked(is_signed, word, i, 8));
                self.ins().imul(x, y)
            })
            .collect();
        self.sum_of_integers(&products)
    }

    /// Functions that pack a vector into a word, or unpack one.
    fn packing(&mut self, fun: M, a: &[Value]) -> Option<Vec<Value>> {
        let bits = 32 / u32::try_from(a.len()).unwrap_or(1);
        let packed = |translator: &mut Self, component: &dyn Fn(&mut Self, Value) -> Value| {
            let parts: Vec<_> = a.iter().map(|x| component(translator, *x)).collect();
            Some(vec![translator.join(&parts, bits)])
        };
        let unpacked = |translator: &mut Self, count: u32, is_signed: bool, scale: Option<f32>| {
            let parts = (0..count).map(|i| {
                let integer = translator.unpacked(is_signed, a[0], i, 32 / count);
                match scale {
                    Some(scale) => translator.normalised(is_signed, integer, scale),
                    None => integer,
                }
            });
            Some(parts.collect())
        };
        match fun {
            M::Pack4x8snorm => packed(self, &|t, x| t.scaled(x, -1.0, 127.0)),
            M::Pack4x8unorm => packed(self, &|t, x| t.scaled(x, 0.0, 255.0)),
            M::Pack2x16snorm => packed(self, &|t, x| t.scaled(x, -1.0, 32767.0)),
            M::Pack2x16unorm => packed(self, &|t, x| t.scaled(x, 0.0, 65535.0)),
            M::Pack2x16float => packed(self, &|t, x| t.ask(Service::ToHalf, &[x])),
            M::Pack4xI8 | M::Pack4xU8 => packed(self, &|_, x| x),
            M::Pack4xI8Clamp => packed(self, &|t, x| {
                let [low, high] = [-128i32 as u32, 127].map(|bound| t.number(bound));
                let x = t.ins().smax(x, low);
                t.ins().smin(x, high)
            }),
            M::Pack4xU8Clamp => packed(self, &|t, x| {
                let high = t.number(255);
                t.ins().umin(x, high)
            }),
            M::Unpack4x8snorm => unpacked(self, 4, true, Some(127.0)),
            M::Unpack4x8unorm => unpacked(self, 4, false, Some(255.0)),
            M::Unpack2x16snorm => unpacked(self, 2, true, Some(32767.0)),
            M::Unpack2x16unorm => unpacked(self, 2, false, Some(65535.0)),
            M::Unpack4xI8 => unpacked(self, 4, true, None),
            M::Unpack4xU8 => unpacked(self, 4, false, None),
            M::Unpack2x16float => {
                let halves = (0..2).map(|i| {
                    let half = self.unpacked(false, a[0], i, 16);
                    let half = self.ins().uextend(types::I64, half);
                    self.ask(Service::FromHalf, &[half])
                });
                Some(halves.collect())
            }
            _ => None,
        }
    }

    /// A number between `low` and 1 as an integer.
    fn scaled(&mut self, x: Value, low: f32, scale: f32) -> Value {
        let [low, one, half, scale] = [low, 1.0, 0.5, scale].map(|value| self.float(value));
        let x = self.float_clamp(x, low, one);
        let x = self.ins().fmul(scale, x);
        let x = self.ins().fadd(half, x);
        let x = self.ins().floor(x);
        self.ins().fcvt_to_sint_sat(types::I32, x)
    }

    /// An integer as a number between -1 or 0 and 1.
    fn normalised(&mut self, is_signed: bool, integer: Value, scale: f32) -> Value {
        let x = self.ins().fcvt_from_sint(types::F32, integer);
        let scale = self.float(scale);
        let x = self.ins().fdiv(x, scale);
        if is_signed {
            let least = self.float(-1.0);
            self.float_max(least, x)
        } else {
            x
        }
    }

    fn join(&mut self, parts: &[Value], bits: u32) -> Value {
        let mut word = None;
        for part in parts.iter().rev() {
            let part = self.ins().band_imm_u(*part, i64::from(u32::MAX >> (32 - bits)));
            word = Some(match word {
                None => part,
                Some(word) => {
                    let moved = self.ins().ishl_imm_u(word, i64::from(bits));
                    self.ins().bor(moved, part)
                }
            });
        }
        word.expect("vectors have components")
    }
}

/// Scalars of a result that no function has more of: a 4×4 matrix.
const _: () = assert!(super::MOST_SCALARS >= 16);
