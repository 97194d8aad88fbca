//! Constants: in instructions, or in memory beside the machine code.

use super::place::{Address, Memory};
use super::{MOST_SCALARS, Operand, Translator};
use crate::compile::jit::layout;
use crate::compile::jit::runtime::Fixed;
use crate::compile::shape;
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use naga::{Expression as E, Handle, TypeInner};
use std::collections::HashMap;
use std::mem::offset_of;

/// Constants that are too large for instructions, and where each is.
#[derive(Clone, Default)]
pub(in crate::compile::jit) struct Constants {
    pub bytes: Vec<u8>,
    known: HashMap<Vec<u32>, u32>,
}

impl Translator<'_, '_> {
    /// A constant: as scalars, or in the constants' memory.
    pub(super) fn constant(
        &mut self,
        arena: &naga::Arena<E>,
        expression: Handle<E>,
        inner: &TypeInner,
    ) -> Operand {
        let mut words = Vec::new();
        shape::constant(self.module, arena, expression, &mut words);
        let leaves = layout::leaves(self.module, inner);
        if leaves.len() <= MOST_SCALARS as usize {
            let scalars = leaves.iter().zip(&words).map(|(leaf, word)| match leaf.ty {
                types::F32 => self.float(f32::from_bits(*word)),
                ty => self.ins().iconst(ty, i64::from(*word)),
            });
            return Operand::Scalars(scalars.collect());
        }
        if words.iter().all(|word| *word == 0) {
            return Operand::Zero;
        }
        let size = layout::size(self.module, inner) as usize;
        let Constants { bytes: constants, known } = &mut self.constants;
        let at = *known.entry(words).or_insert_with_key(|words| {
            let start = constants.len().next_multiple_of(16);
            constants.resize(start + size, 0);
            for (leaf, word) in leaves.iter().zip(words) {
                let at = start + leaf.offset as usize;
                if leaf.ty == types::I8 {
                    constants[at] = *word as u8;
                } else {
                    constants[at..at + 4].copy_from_slice(&word.to_ne_bytes());
                }
            }
            start as u32
        });
        let base = self.fixed(offset_of!(Fixed, constants));
        Operand::Bytes(Address::new(base, at as i32, Memory::Fixed))
    }

    pub(super) fn zero_of(&mut self, inner: &TypeInner) -> Operand {
        if shape::words(self.module, inner) > MOST_SCALARS {
            return Operand::Zero;
        }
        let leaves = layout::leaves(self.module, inner);
        Operand::Scalars(leaves.iter().map(|leaf| self.zero_scalar(leaf.ty)).collect())
    }

    pub(super) fn zero_scalar(&mut self, ty: Type) -> Value {
        if ty == types::F32 { self.float(0.0) } else { self.ins().iconst(ty, 0) }
    }
}
