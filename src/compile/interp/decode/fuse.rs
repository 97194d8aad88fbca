//! Instructions that do the work of two: each step from one instruction to the next costs as much as what it does.
//!
//! An instruction may be taken back if its result has one use, which is in hand, and if no jump goes between the two.

use super::super::code::{Address, Op, Path, Scalars};
use super::super::math::Fn2;
use super::{Body, Decoder};
use naga::{BinaryOperator as B, Expression as E, Handle, MathFunction, ScalarKind};

/// The instruction of an operation on scalars that needs no function.
pub(super) fn direct(op: B, kind: ScalarKind) -> Option<fn(Scalars) -> Op> {
    Some(match (op, kind) {
        (B::Add, ScalarKind::Float) => Op::AddFloat,
        (B::Subtract, ScalarKind::Float) => Op::SubtractFloat,
        (B::Multiply, ScalarKind::Float) => Op::MultiplyFloat,
        (B::Add, _) => Op::Add,
        (B::Subtract, _) => Op::Subtract,
        (B::Multiply, _) => Op::Multiply,
        _ => return None,
    })
}

impl Decoder<'_> {
    /// The last instruction, if it is always run before the next.
    fn last(&mut self) -> Option<&mut Op> {
        if self.ops.len() > self.label { self.ops.last_mut() } else { None }
    }

    /// Takes the last instruction back if it is the operation on two scalars whose result is at `at`.
    fn take_binary(&mut self, at: Address) -> Option<(Address, Address, Fn2)> {
        let Op::Binary { to, a, b, f } = *self.last()? else { return None };
        (to == at).then(|| {
            self.ops.pop();
            (a, b, f)
        })
    }

    /// Takes the last instruction back if it makes the pointer at `at`.
    fn take_move(&mut self, at: Address) -> Option<Path> {
        let Op::Move { to, path } = *self.last()? else { return None };
        (to == at).then(|| {
            self.ops.pop();
            path
        })
    }
}

impl Body<'_, '_> {
    /// Is an expression, computed to a place of its own, for the use in hand alone?
    fn is_temporary(&self, expression: Handle<E>) -> bool {
        let has_own_place = match self.function.expressions[expression] {
            E::Unary { .. } | E::Binary { .. } | E::Select { .. } | E::Math { .. } => true,
            E::As { convert, .. } => convert.is_some(),
            _ => false,
        };
        has_own_place && self.is_only_use(expression)
    }

    /// Is an expression this comparison of unsigned integers?
    fn is_unsigned(&self, expression: Handle<E>, wanted: B) -> bool {
        match self.function.expressions[expression] {
            E::Binary { op, left, .. } => op == wanted && self.kind_of(left) == ScalarKind::Uint,
            _ => false,
        }
    }

    /// A jump to somewhere if a condition is `when`.
    pub(super) fn jump_if(&mut self, condition: Handle<E>, when: bool) -> Op {
        let at = self.value(condition);
        let fused = if self.is_temporary(condition) { self.decoder.take_binary(at) } else { None };
        match fused {
            Some((a, b, _)) if self.is_unsigned(condition, B::Equal) && b == self.decoder.zero => {
                Op::JumpIf { condition: a, when: !when, target: 0 }
            }
            Some((a, b, _)) if self.is_unsigned(condition, B::Less) => {
                Op::JumpIfLess { a, b, when, target: 0 }
            }
            Some((a, b, f)) => Op::JumpIfBinary { a, b, f, when, target: 0 },
            None => Op::JumpIf { condition: at, when, target: 0 },
        }
    }

    /// Lets the last instruction put its word, the value of an expression at `from`, to another place.
    pub(super) fn redirect(&mut self, expression: Handle<E>, from: Address, place: Address) -> bool {
        if !self.is_temporary(expression) {
            return false;
        }
        let to = match self.decoder.last() {
            Some(Op::Unary { to, .. } | Op::Binary { to, .. } | Op::Ternary { to, .. }) => to,
            Some(
                Op::Add(Scalars { to, .. })
                | Op::Subtract(Scalars { to, .. })
                | Op::Multiply(Scalars { to, .. })
                | Op::AddFloat(Scalars { to, .. })
                | Op::SubtractFloat(Scalars { to, .. })
                | Op::MultiplyFloat(Scalars { to, .. }),
            ) => to,
            _ => return false,
        };
        if *to != from {
            return false;
        }
        *to = place;
        // Others may read that place, so it stays written.
        self.decoder.label = self.decoder.ops.len();
        true
    }

    /// The path to an element; the minimum by which lowering keeps the index in range becomes part of it.
    pub(super) fn path(&mut self, base: Address, index: Handle<E>, stride: u32) -> Path {
        let at = self.value(index);
        let is_minimum = matches!(self.function.expressions[index], E::Math { fun: MathFunction::Min, .. });
        let is_minimum = is_minimum && self.is_temporary(index) && self.kind_of(index) == ScalarKind::Uint;
        let taken = if is_minimum { self.decoder.take_binary(at) } else { None };
        if let Some((index, last, _)) = taken {
            return Path { base, index, last, stride };
        }
        Path { base, index: at, last: self.decoder.unlimited, stride }
    }

    /// The path of a pointer that is loaded from and of no other use; `moving` is where it is.
    pub(super) fn take_path(&mut self, mut pointer: Handle<E>, moving: Address) -> Option<Path> {
        while self.is_only_use(pointer) {
            match self.function.expressions[pointer] {
                E::AccessIndex { base, .. } => pointer = base,
                E::Access { .. } => return self.decoder.take_move(moving),
                _ => return None,
            }
        }
        None
    }
}
