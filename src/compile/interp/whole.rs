//! Operations on whole vectors and matrices: those that mix components.

use super::math::f;
use super::pack;
use crate::compile::float;
use naga::{MathFunction as M, ScalarKind};

/// Words that an operand or a result of a whole operation has at most: a 4×4 matrix.
pub(super) const MOST: usize = 16;

/// The operands of a whole operation.
pub(super) struct Operands {
    pub words: [[u32; MOST]; 3],
    /// Components of a vector, or columns and rows of the first matrix.
    pub size: [usize; 2],
    /// Columns of the second matrix.
    pub columns: usize,
}

/// Computes the result from the operands.
pub(super) type WholeFn = fn(&Operands, &mut [u32]);

impl Operands {
    fn float(&self, operand: usize, index: usize) -> f32 {
        f(self.words[operand][index])
    }

    fn dot(&self, a: usize, b: usize) -> f32 {
        let product = |i| self.float(a, i) * self.float(b, i);
        (1..self.size[0]).fold(product(0), |sum, i| sum + product(i))
    }

    fn each(&self, out: &mut [u32], value: impl Fn(usize) -> f32) {
        (0..self.size[0]).for_each(|i| out[i] = value(i).to_bits());
    }
}

/// The square root of the sum of squares of `component(0..n)`; of a scalar, its magnitude.
fn length(n: usize, component: impl Fn(usize) -> f32) -> f32 {
    if n == 1 {
        return component(0).abs();
    }
    let square = |i| component(i) * component(i);
    (1..n).fold(square(0), |sum, i| sum + square(i)).sqrt()
}

/// A built-in function on whole values; `None` if it works on each component alone.
pub(super) fn math(fun: M, kind: ScalarKind) -> Option<WholeFn> {
    Some(match fun {
        M::Dot if kind == ScalarKind::Float => |o, out| out[0] = o.dot(0, 1).to_bits(),
        M::Dot => |o, out| {
            let product = |i: usize| o.words[0][i].wrapping_mul(o.words[1][i]);
            out[0] = (0..o.size[0]).fold(0, |sum, i| product(i).wrapping_add(sum));
        },
        M::Dot4I8Packed => |o, out| out[0] = pack::dot_signed(o.words[0][0], o.words[1][0]),
        M::Dot4U8Packed => |o, out| out[0] = pack::dot_unsigned(o.words[0][0], o.words[1][0]),
        M::Length => |o, out| out[0] = length(o.size[0], |i| o.float(0, i)).to_bits(),
        M::Distance => |o, out| out[0] = length(o.size[0], |i| o.float(0, i) - o.float(1, i)).to_bits(),
        M::Normalize => |o, out| {
            let length = length(o.size[0], |i| o.float(0, i));
            o.each(out, |i| o.float(0, i) / length);
        },
        M::Cross => |o, out| {
            let (a, b) = (|i| o.float(0, i % 3), |i| o.float(1, i % 3));
            o.each(out, |i| a(i + 1) * b(i + 2) - a(i + 2) * b(i + 1));
        },
        M::FaceForward => |o, out| {
            let keep = o.dot(1, 2) < 0.0;
            o.each(out, |i| if keep { o.float(0, i) } else { -o.float(0, i) });
        },
        M::Reflect => |o, out| {
            let dot = o.dot(1, 0);
            o.each(out, |i| o.float(0, i) - 2.0 * dot * o.float(1, i));
        },
        M::Refract => |o, out| {
            let (ratio, dot) = (o.float(2, 0), o.dot(1, 0));
            let k = 1.0 - ratio * ratio * (1.0 - dot * dot);
            o.each(out, |i| {
                if k < 0.0 { 0.0 } else { ratio * o.float(0, i) - (ratio * dot + k.sqrt()) * o.float(1, i) }
            });
        },
        M::Modf => |o, out| {
            let n = o.size[0];
            o.each(out, |i| {
                let x = o.float(0, i);
                if x.is_infinite() { 0.0f32.copysign(x) } else { x - x.trunc() }
            });
            (0..n).for_each(|i| out[n + i] = o.float(0, i).trunc().to_bits());
        },
        M::Frexp => |o, out| {
            let n = o.size[0];
            for i in 0..n {
                let (fraction, exponent) = float::split(o.float(0, i));
                out[i] = fraction.to_bits();
                out[n + i] = exponent as u32;
            }
        },
        M::Transpose => |o, out| {
            let [columns, rows] = o.size;
            for c in 0..columns {
                (0..rows).for_each(|r| out[r * columns + c] = o.words[0][c * rows + r]);
            }
        },
        M::Determinant => |o, out| {
            let n = o.size[0];
            out[0] = determinant(n, &|c, r| o.float(0, c * n + r)).to_bits();
        },
        _ => return None,
    })
}

/// Laplace's expansion along the first row.
fn determinant(n: usize, at: &dyn Fn(usize, usize) -> f32) -> f32 {
    if n == 1 {
        return at(0, 0);
    }
    let mut sum = 0.0;
    for column in 0..n {
        let minor = determinant(n - 1, &|c, r| at(if c < column { c } else { c + 1 }, r + 1));
        let term = at(column, 0) * minor;
        sum = match column {
            0 => term,
            c if c % 2 == 1 => sum - term,
            _ => sum + term,
        };
    }
    sum
}

/// `matrix * vector`.
pub(super) fn matrix_vector(o: &Operands, out: &mut [u32]) {
    let [columns, rows] = o.size;
    for (r, out) in out.iter_mut().enumerate() {
        let product = |c: usize| o.float(0, c * rows + r) * o.float(1, c);
        *out = (1..columns).fold(product(0), |sum, c| sum + product(c)).to_bits();
    }
}

/// `vector * matrix`; `size` is the matrix's.
pub(super) fn vector_matrix(o: &Operands, out: &mut [u32]) {
    let [_, rows] = o.size;
    for (c, out) in out.iter_mut().enumerate() {
        let product = |r: usize| o.float(0, r) * o.float(1, c * rows + r);
        *out = (1..rows).fold(product(0), |sum, r| sum + product(r)).to_bits();
    }
}

/// `matrix * matrix`.
pub(super) fn matrix_matrix(o: &Operands, out: &mut [u32]) {
    let [shared, rows] = o.size;
    for column in 0..o.columns {
        for r in 0..rows {
            let product = |k: usize| o.float(0, k * rows + r) * o.float(1, column * shared + k);
            out[column * rows + r] = (1..shared).fold(product(0), |sum, k| sum + product(k)).to_bits();
        }
    }
}

/// `all`.
pub(super) fn all(o: &Operands, out: &mut [u32]) {
    out[0] = u32::from(o.words[0][..o.size[0]].iter().all(|w| *w != 0));
}

/// `any`.
pub(super) fn any(o: &Operands, out: &mut [u32]) {
    out[0] = u32::from(o.words[0][..o.size[0]].iter().any(|w| *w != 0));
}
