//! Vectors of four in vector registers: what [`pack`](crate::compile::jit::pack) found worth it.

use super::{Body, Operand, Translator};
use crate::compile::jit::layout;
use cranelift_codegen::ir::{InstBuilder, Value};
use naga::{BinaryOperator, Expression as E, Handle, TypeInner};
use std::rc::Rc;

impl<'p> Translator<'p, '_> {
    pub(super) fn is_packed(&self, body: &Body<'p>, expression: Handle<E>) -> bool {
        self.analysis.facts(body.handle).packed.expressions.contains(&expression)
    }

    /// The components of a vector in a register.
    pub(super) fn lanes(&mut self, vector: Value) -> Rc<[Value]> {
        (0..4).map(|lane| self.ins().extractlane(vector, lane)).collect()
    }

    /// A vector in one register.
    pub(super) fn pack(&mut self, operand: &Operand, inner: &TypeInner) -> Value {
        if let Operand::Packed(vector) = operand {
            return *vector;
        }
        let scalars = self.scalars(operand, inner);
        let mut vector = self.ins().splat(layout::vector_type(inner), scalars[0]);
        for (lane, scalar) in scalars.iter().enumerate().skip(1) {
            if *scalar != scalars[0] {
                vector = self.ins().insertlane(vector, *scalar, lane as u8);
            }
        }
        vector
    }

    /// An operation on two vectors.
    pub(super) fn packed_binary(
        &mut self,
        body: &Body<'p>,
        op: BinaryOperator,
        left: Handle<E>,
        right: Handle<E>,
    ) -> Operand {
        let [a, b] = [left, right].map(|side| {
            let operand = self.operand(body, side);
            self.pack(&operand, body.type_of(self.module, side))
        });
        let kind = self.kind_of(body, left);
        Operand::Packed(self.binary(op, kind, a, b))
    }
}
