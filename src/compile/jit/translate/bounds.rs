//! What is known about integers from the conditions that led to where they are used: enough to see that the index of
//! an ordinary loop is in range, so that it need not be clamped.

use super::Translator;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, InstructionData, Opcode, Value, ValueDef, types};

/// A value is less than a limit, as a signed number or as an unsigned one.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    value: Value,
    limit: Value,
    is_signed: bool,
}

/// An index that was made one of a table, which is so many elements long.
#[derive(Clone, Copy)]
pub(super) struct Clamped {
    index: Value,
    last: Value,
    value: Value,
}

/// What was known before a block.
#[derive(Clone, Copy)]
pub(super) struct Known {
    bounds: usize,
    clamped: usize,
}

impl Translator<'_, '_> {
    /// What is known here, to be given to [`forget`](Self::forget) where less is.
    pub(super) fn known(&self) -> Known {
        Known { bounds: self.bounds.len(), clamped: self.clamped.len() }
    }

    pub(super) fn forget(&mut self, known: Known) {
        self.bounds.truncate(known.bounds);
        self.clamped.truncate(known.clamped);
    }

    /// The instruction that a value comes from.
    pub(super) fn definition(&self, value: Value) -> Option<&InstructionData> {
        match self.builder.func.dfg.value_def(value) {
            ValueDef::Result(instruction, _) => Some(&self.builder.func.dfg.insts[instruction]),
            _ => None,
        }
    }

    /// The value of a constant.
    pub(super) fn known_integer(&self, value: Value) -> Option<u32> {
        match self.definition(value) {
            Some(InstructionData::UnaryImm { opcode: Opcode::Iconst, imm }) => Some(imm.bits() as u32),
            _ => None,
        }
    }

    /// What a comparison of two constants says, or of a value with itself.
    pub(super) fn known_condition(&self, condition: Value) -> Option<bool> {
        let Some(InstructionData::IntCompare { cond, args: [a, b], .. }) = self.definition(condition) else {
            return None;
        };
        let (a, b) = match (self.known_integer(*a), self.known_integer(*b)) {
            (Some(a), Some(b)) => (a, b),
            _ if a == b => (0, 0),
            _ => return None,
        };
        let (signed_a, signed_b) = (a as i32, b as i32);
        Some(match cond {
            IntCC::Equal => a == b,
            IntCC::NotEqual => a != b,
            IntCC::UnsignedLessThan => a < b,
            IntCC::UnsignedLessThanOrEqual => a <= b,
            IntCC::UnsignedGreaterThan => a > b,
            IntCC::UnsignedGreaterThanOrEqual => a >= b,
            IntCC::SignedLessThan => signed_a < signed_b,
            IntCC::SignedLessThanOrEqual => signed_a <= signed_b,
            IntCC::SignedGreaterThan => signed_a > signed_b,
            IntCC::SignedGreaterThanOrEqual => signed_a >= signed_b,
        })
    }

    /// Remembers what a condition says that holds from here on.
    pub(super) fn learn(&mut self, condition: Value) {
        let Some(InstructionData::IntCompare { cond, args, .. }) = self.definition(condition) else { return };
        let [a, b] = *args;
        let (value, limit, is_signed) = match cond {
            IntCC::UnsignedLessThan => (a, b, false),
            IntCC::SignedLessThan => (a, b, true),
            IntCC::UnsignedGreaterThan => (b, a, false),
            IntCC::SignedGreaterThan => (b, a, true),
            _ => return,
        };
        let value = self.builder.func.dfg.resolve_aliases(value);
        self.bounds.push(Bound { value, limit, is_signed });
    }

    /// The smaller of two unsigned integers: the first, where that is known. If the second is the last index of a table,
    /// the first is an index, and addresses are made of 64 bits: it is compared as such, which saves an instruction and
    /// a register. Such an index is hardly ever too large: a branch that is not taken costs less than a choice, and loads
    /// need not wait for it. Not where there is a state, which is kept in registers: there more branches make it worse (a
    /// handler with a state and tables took twice as long).
    pub(super) fn unsigned_min(&mut self, a: Value, b: Value) -> Value {
        if self.is_at_most(a, b) {
            // Perhaps it was clamped to another table's length; of this one a condition says that it is inside.
            self.inside.remove(&a);
            return a;
        }
        let Some(last) = self.last_index(b) else { return self.ins().umin(a, b) };
        let a = self.builder.func.dfg.resolve_aliases(a);
        let mut clamped = self.clamped.iter();
        if let Some(known) = clamped.find(|clamped| (clamped.index, clamped.last) == (a, last)) {
            return known.value;
        }
        let index = self.ins().uextend(types::I64, a);
        if self.program.state.is_some() {
            let index = self.ins().umin(index, last);
            let narrow = self.ins().ireduce(types::I32, index);
            self.widen(narrow, index);
            return narrow;
        }
        let is_beyond = self.ins().icmp(IntCC::UnsignedGreaterThan, index, last);
        let (beyond, then) = (self.builder.create_block(), self.builder.create_block());
        self.builder.set_cold_block(beyond);
        let inside = self.builder.append_block_param(then, types::I64);
        self.ins().brif(is_beyond, beyond, &[], then, &[index.into()]);
        self.builder.seal_block(beyond);
        self.builder.switch_to_block(beyond);
        self.ins().jump(then, &[last.into()]);
        self.builder.seal_block(then);
        self.builder.switch_to_block(then);
        let narrow = self.ins().ireduce(types::I32, inside);
        self.widen(narrow, inside);
        self.clamped.push(Clamped { index: a, last, value: narrow });
        narrow
    }

    /// Remembers what an index is in 64 bits, which was made one of a table.
    fn widen(&mut self, narrow: Value, wide: Value) {
        self.wide.insert(narrow, wide);
        self.inside.insert(narrow);
    }

    /// The same in 64 bits, if it is written as a table's length less one.
    fn last_index(&self, value: Value) -> Option<Value> {
        let Some(InstructionData::Binary { opcode: Opcode::Isub, args }) = self.definition(value) else {
            return None;
        };
        let last = self.lasts.get(&args[0])?;
        (self.known_integer(args[1]) == Some(1)).then_some(*last)
    }

    /// The larger of two signed integers. Of a bounded number and zero, it is as bounded without its sign.
    pub(super) fn signed_max(&mut self, a: Value, b: Value) -> Value {
        let larger = self.ins().smax(a, b);
        if self.known_integer(b) == Some(0) {
            let a = self.builder.func.dfg.resolve_aliases(a);
            let bound = self.bounds.iter().find(|bound| bound.value == a && bound.is_signed).copied();
            // Below a limit that is at least 1, zero is, too.
            if let Some(Bound { limit, .. }) = bound
                && self.known_integer(limit).is_some_and(|limit| limit as i32 >= 1)
            {
                self.bounds.push(Bound { value: larger, limit, is_signed: false });
            }
        }
        larger
    }

    fn is_at_most(&self, a: Value, b: Value) -> bool {
        let most = self.known_integer(b);
        if let Some(most) = most
            && self.greatest(a).is_some_and(|greatest| greatest <= most)
        {
            return true;
        }
        let a = self.builder.func.dfg.resolve_aliases(a);
        self.bounds.iter().any(|bound| {
            if bound.value != a || bound.is_signed {
                return false;
            }
            match (most, self.known_integer(bound.limit)) {
                (Some(most), Some(limit)) => limit != 0 && limit - 1 <= most,
                (Some(most), None) => {
                    self.greatest(bound.limit).is_some_and(|limit| limit != 0 && limit - 1 <= most)
                }
                _ => self.is_one_less(b, bound.limit),
            }
        })
    }

    /// The greatest unsigned number that a value can be by the operation it comes from.
    fn greatest(&self, value: Value) -> Option<u32> {
        match *self.definition(value)? {
            InstructionData::UnaryImm { opcode: Opcode::Iconst, imm } => Some(imm.bits() as u32),
            InstructionData::Unary { opcode: Opcode::FcvtToSintSat | Opcode::FcvtToUintSat, arg } => {
                let (least, most) = self.ranges.get(&arg)?;
                (*least >= 0.0 && *most < u32::MAX as f32).then_some(*most as u32)
            }
            InstructionData::Binary { opcode, args: [a, b] } => match opcode {
                Opcode::Band => self.known_integer(b).or(self.known_integer(a)),
                Opcode::Urem => self.known_integer(b)?.checked_sub(1),
                Opcode::Ushr => u32::MAX.checked_shr(self.known_integer(b)?),
                Opcode::Umin => self.known_integer(b).or(self.known_integer(a)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Is `a` written as `b - 1`?
    fn is_one_less(&self, a: Value, b: Value) -> bool {
        match self.definition(a) {
            Some(InstructionData::Binary { opcode: Opcode::Isub, args }) => {
                args[0] == b && self.known_integer(args[1]) == Some(1)
            }
            _ => false,
        }
    }
}
