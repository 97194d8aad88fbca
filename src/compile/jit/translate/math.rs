//! Operations on scalars. What each has to give is settled in `lower.rs`; the interpreter's `math.rs` says it in Rust.

use super::Translator;
use crate::compile::jit::runtime::Service;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value, types};
use naga::{BinaryOperator, MathFunction as M, ScalarKind as K, UnaryOperator};

impl Translator<'_, '_> {
    pub(super) fn unary(&mut self, op: UnaryOperator, kind: K, x: Value) -> Value {
        match (op, kind) {
            (UnaryOperator::Negate, K::Float) => self.ins().fneg(x),
            (UnaryOperator::Negate, _) => self.ins().ineg(x),
            (UnaryOperator::LogicalNot, _) => self.ins().bxor_imm_u(x, 1),
            (UnaryOperator::BitwiseNot, _) => self.ins().bnot(x),
        }
    }

    pub(super) fn binary(&mut self, op: BinaryOperator, kind: K, a: Value, b: Value) -> Value {
        match kind {
            K::Float => self.float_binary(op, a, b),
            _ => self.integer_binary(op, kind == K::Sint, a, b),
        }
    }

    fn float_binary(&mut self, op: BinaryOperator, a: Value, b: Value) -> Value {
        use BinaryOperator as B;
        let condition = match op {
            B::Add => return self.ins().fadd(a, b),
            B::Subtract => return self.ins().fsub(a, b),
            B::Multiply => return self.ins().fmul(a, b),
            B::Divide => return self.ins().fdiv(a, b),
            B::Modulo => {
                let quotient = self.ins().fdiv(a, b);
                let whole = self.ins().trunc(quotient);
                let product = self.ins().fmul(b, whole);
                return self.ins().fsub(a, product);
            }
            B::Equal => FloatCC::Equal,
            B::NotEqual => FloatCC::NotEqual,
            B::Less => FloatCC::LessThan,
            B::LessEqual => FloatCC::LessThanOrEqual,
            B::Greater => FloatCC::GreaterThan,
            B::GreaterEqual => FloatCC::GreaterThanOrEqual,
            _ => unreachable!("validated: bit operations take integers"),
        };
        self.ins().fcmp(condition, a, b)
    }

    fn integer_binary(&mut self, op: BinaryOperator, is_signed: bool, a: Value, b: Value) -> Value {
        // Of what an unrolled loop counts; the translation itself looks at the results.
        if let (Some(a), Some(b)) = (self.known_integer(a), self.known_integer(b)) {
            match op {
                BinaryOperator::Add => return self.number(a.wrapping_add(b)),
                BinaryOperator::Subtract => return self.number(a.wrapping_sub(b)),
                BinaryOperator::Multiply => return self.number(a.wrapping_mul(b)),
                _ => {}
            }
        }
        use BinaryOperator as B;
        let condition = match (op, is_signed) {
            (B::Add, _) => return self.ins().iadd(a, b),
            (B::Subtract, _) => return self.ins().isub(a, b),
            (B::Multiply, _) => return self.ins().imul(a, b),
            (B::Divide | B::Modulo, _) => return self.division(op == B::Divide, is_signed, a, b),
            (B::And | B::LogicalAnd, _) => return self.ins().band(a, b),
            (B::InclusiveOr | B::LogicalOr, _) => return self.ins().bor(a, b),
            (B::ExclusiveOr, _) => return self.ins().bxor(a, b),
            (B::ShiftLeft, _) => return self.ins().ishl(a, b),
            (B::ShiftRight, true) => return self.ins().sshr(a, b),
            (B::ShiftRight, false) => return self.ins().ushr(a, b),
            (B::Equal, _) => IntCC::Equal,
            (B::NotEqual, _) => IntCC::NotEqual,
            (B::Less, true) => IntCC::SignedLessThan,
            (B::LessEqual, true) => IntCC::SignedLessThanOrEqual,
            (B::Greater, true) => IntCC::SignedGreaterThan,
            (B::GreaterEqual, true) => IntCC::SignedGreaterThanOrEqual,
            (B::Less, false) => IntCC::UnsignedLessThan,
            (B::LessEqual, false) => IntCC::UnsignedLessThanOrEqual,
            (B::Greater, false) => IntCC::UnsignedGreaterThan,
            (B::GreaterEqual, false) => IntCC::UnsignedGreaterThanOrEqual,
        };
        self.ins().icmp(condition, a, b)
    }

    /// Division that cannot trap: what would is divided by 1, which gives what WGSL wants.
    fn division(&mut self, is_quotient: bool, is_signed: bool, a: Value, b: Value) -> Value {
        let divisor = match self.known_integer(b) {
            Some(0) => self.number(1),
            Some(known) if known != u32::MAX || !is_signed => b,
            _ => {
                let mut is_bad = self.ins().icmp_imm_u(IntCC::Equal, b, 0);
                if is_signed {
                    let is_least = self.ins().icmp_imm_u(IntCC::Equal, a, i64::from(i32::MIN as u32));
                    let is_minus_one = self.ins().icmp_imm_u(IntCC::Equal, b, i64::from(u32::MAX));
                    let overflows = self.ins().band(is_least, is_minus_one);
                    is_bad = self.ins().bor(is_bad, overflows);
                }
                let one = self.number(1);
                self.ins().select(is_bad, one, b)
            }
        };
        match (is_quotient, is_signed) {
            (true, true) => self.ins().sdiv(a, divisor),
            (true, false) => self.ins().udiv(a, divisor),
            (false, true) => self.ins().srem(a, divisor),
            (false, false) => self.ins().urem(a, divisor),
        }
    }

    /// `b` if `b < a`, else `a`; a NaN gives way to the other.
    pub(super) fn float_min(&mut self, a: Value, b: Value) -> Value {
        let is_less = self.ins().fcmp(FloatCC::LessThan, b, a);
        let least = self.ins().select(is_less, b, a);
        let result = self.unless_nan(a, b, least);
        match (self.ranges.get(&a).copied(), self.ranges.get(&b).copied()) {
            (Some(a), Some(b)) => self.in_range(result, a.0.min(b.0), a.1.min(b.1)),
            (Some(known), None) | (None, Some(known)) => self.in_range(result, f32::NEG_INFINITY, known.1),
            (None, None) => result,
        }
    }

    /// `b` if `a < b`, else `a`; a NaN gives way to the other.
    pub(super) fn float_max(&mut self, a: Value, b: Value) -> Value {
        let is_less = self.ins().fcmp(FloatCC::LessThan, a, b);
        let most = self.ins().select(is_less, b, a);
        let result = self.unless_nan(a, b, most);
        match (self.ranges.get(&a).copied(), self.ranges.get(&b).copied()) {
            (Some(a), Some(b)) => self.in_range(result, a.0.max(b.0), a.1.max(b.1)),
            (Some(known), None) | (None, Some(known)) => self.in_range(result, known.0, f32::INFINITY),
            (None, None) => result,
        }
    }

    fn in_range(&mut self, value: Value, least: f32, most: f32) -> Value {
        self.ranges.insert(value, (least, most));
        value
    }

    /// `result` is `a` or `b`, and `a` if one of them is a NaN: makes it `b` if `a` is one.
    fn unless_nan(&mut self, a: Value, b: Value, result: Value) -> Value {
        if self.ranges.contains_key(&a) {
            return result;
        }
        // A branch that is never taken costs less than a selection, which Cranelift makes of a taken one.
        let [nan, end] = [(); 2].map(|()| self.builder.create_block());
        self.builder.append_block_param(end, types::F32);
        let is_nan = self.ins().fcmp(FloatCC::Unordered, a, a);
        self.ins().brif(is_nan, nan, &[], end, &[BlockArg::Value(result)]);
        self.builder.seal_block(nan);
        self.builder.set_cold_block(nan);
        self.builder.switch_to_block(nan);
        self.ins().jump(end, &[BlockArg::Value(b)]);
        self.builder.seal_block(end);
        self.builder.switch_to_block(end);
        self.builder.block_params(end)[0]
    }

    pub(super) fn float_clamp(&mut self, x: Value, low: Value, high: Value) -> Value {
        let x = self.float_max(x, low);
        self.float_min(x, high)
    }

    fn min(&mut self, kind: K, a: Value, b: Value) -> Value {
        match kind {
            K::Float => self.float_min(a, b),
            K::Sint => self.ins().smin(a, b),
            _ => self.unsigned_min(a, b),
        }
    }

    fn max(&mut self, kind: K, a: Value, b: Value) -> Value {
        match kind {
            K::Float => self.float_max(a, b),
            K::Sint => self.signed_max(a, b),
            _ => self.ins().umax(a, b),
        }
    }

    /// A built-in function of one scalar, applied to each component; `None` if it is not one.
    pub(super) fn math1(&mut self, fun: M, kind: K, x: Value) -> Option<Value> {
        if let Some(service) = service1(fun) {
            return Some(self.ask(service, &[x]));
        }
        Some(match (fun, kind) {
            (M::Abs, K::Float) => self.ins().fabs(x),
            (M::Abs, K::Sint) => self.ins().iabs(x),
            (M::Abs, _) => x,
            (M::Sign, K::Sint) => {
                let sign = self.ins().sshr_imm_u(x, 31);
                let is_positive = self.ins().icmp_imm_s(IntCC::SignedGreaterThan, x, 0);
                let is_positive = self.ins().uextend(types::I32, is_positive);
                self.ins().bor(sign, is_positive)
            }
            (M::Sign, _) => {
                let [zero, one, minus_one] = [0.0, 1.0, -1.0].map(|value| self.float(value));
                let is_negative = self.ins().fcmp(FloatCC::LessThan, x, zero);
                let otherwise = self.ins().select(is_negative, minus_one, zero);
                let is_positive = self.ins().fcmp(FloatCC::GreaterThan, x, zero);
                self.ins().select(is_positive, one, otherwise)
            }
            (M::Saturate, _) => {
                let [zero, one] = [0.0, 1.0].map(|value| self.float(value));
                self.float_clamp(x, zero, one)
            }
            (M::Radians, _) => {
                let factor = self.float(std::f32::consts::PI / 180.0);
                self.ins().fmul(x, factor)
            }
            (M::Degrees, _) => {
                let factor = self.float(180.0 / std::f32::consts::PI);
                self.ins().fmul(x, factor)
            }
            (M::Ceil, _) => self.ins().ceil(x),
            (M::Floor, _) => self.ins().floor(x),
            (M::Round, _) => self.ins().nearest(x),
            (M::Trunc, _) => self.ins().trunc(x),
            (M::Fract, _) => {
                let floor = self.ins().floor(x);
                self.ins().fsub(x, floor)
            }
            (M::Sqrt, _) => self.ins().sqrt(x),
            (M::InverseSqrt, _) => {
                let root = self.ins().sqrt(x);
                let one = self.float(1.0);
                self.ins().fdiv(one, root)
            }
            (M::CountTrailingZeros, _) => self.ins().ctz(x),
            (M::CountLeadingZeros, _) => self.ins().clz(x),
            (M::CountOneBits, _) => self.ins().popcnt(x),
            (M::ReverseBits, _) => self.ins().bitrev(x),
            (M::FirstTrailingBit, _) => {
                let zeros = self.ins().ctz(x);
                let none = self.number(u32::MAX);
                let is_none = self.ins().icmp_imm_u(IntCC::Equal, x, 0);
                self.ins().select(is_none, none, zeros)
            }
            (M::FirstLeadingBit, kind) => {
                // Of a negative number, the highest bit that differs from its sign. `31 - 32` wraps to -1: none.
                let bits = if kind == K::Sint {
                    let sign = self.ins().sshr_imm_u(x, 31);
                    self.ins().bxor(x, sign)
                } else {
                    x
                };
                let zeros = self.ins().clz(bits);
                let last = self.number(31);
                self.ins().isub(last, zeros)
            }
            _ => return None,
        })
    }

    /// A built-in function of two scalars, applied to each component; `None` if it is not one.
    pub(super) fn math2(&mut self, fun: M, kind: K, a: Value, b: Value) -> Option<Value> {
        Some(match fun {
            M::Min => self.min(kind, a, b),
            M::Max => self.max(kind, a, b),
            M::Atan2 => self.ask(Service::Atan2, &[a, b]),
            M::Pow => self.ask(Service::Pow, &[a, b]),
            M::Step => {
                let [zero, one] = [0.0, 1.0].map(|value| self.float(value));
                let is_reached = self.ins().fcmp(FloatCC::LessThanOrEqual, a, b);
                self.ins().select(is_reached, one, zero)
            }
            M::Ldexp => {
                let exponent = self.ins().sextend(types::I64, b);
                self.ask(Service::ScaleByExponent, &[a, exponent])
            }
            _ => return None,
        })
    }

    /// A built-in function of three scalars, applied to each component; `None` if it is not one.
    pub(super) fn math3(&mut self, fun: M, kind: K, [a, b, c]: [Value; 3]) -> Option<Value> {
        Some(match fun {
            M::Clamp => {
                let least = self.max(kind, a, b);
                self.min(kind, least, c)
            }
            // Rounded twice, as everywhere.
            M::Fma => {
                let product = self.ins().fmul(a, b);
                self.ins().fadd(product, c)
            }
            M::Mix => {
                let one = self.float(1.0);
                let rest = self.ins().fsub(one, c);
                let first = self.ins().fmul(a, rest);
                let second = self.ins().fmul(b, c);
                self.ins().fadd(first, second)
            }
            M::SmoothStep => {
                let above = self.ins().fsub(c, a);
                let width = self.ins().fsub(b, a);
                let ratio = self.ins().fdiv(above, width);
                let [zero, one, two, three] = [0.0, 1.0, 2.0, 3.0].map(|value| self.float(value));
                let t = self.float_clamp(ratio, zero, one);
                let square = self.ins().fmul(t, t);
                let double = self.ins().fmul(two, t);
                let factor = self.ins().fsub(three, double);
                self.ins().fmul(square, factor)
            }
            M::ExtractBits => self.extract_bits(kind == K::Sint, a, b, c),
            _ => return None,
        })
    }

    fn extract_bits(&mut self, is_signed: bool, e: Value, offset: Value, count: Value) -> Value {
        let (offset, count) = self.bit_range(offset, count);
        let end = self.ins().iadd(offset, count);
        let word = self.number(32);
        let up = self.ins().isub(word, end);
        let down = self.ins().isub(word, count);
        // A shift by 32 is one by 0 here; it happens only where the count is 0.
        let high = self.ins().ishl(e, up);
        let bits = if is_signed { self.ins().sshr(high, down) } else { self.ins().ushr(high, down) };
        let zero = self.number(0);
        let is_empty = self.ins().icmp_imm_u(IntCC::Equal, count, 0);
        self.ins().select(is_empty, zero, bits)
    }

    pub(super) fn insert_bits(&mut self, e: Value, new: Value, offset: Value, count: Value) -> Value {
        let (offset, count) = self.bit_range(offset, count);
        let word = self.number(32);
        let unused = self.ins().isub(word, count);
        let all = self.number(u32::MAX);
        let mask = self.ins().ushr(all, unused);
        let mask = self.ins().ishl(mask, offset);
        let moved = self.ins().ishl(new, offset);
        let moved = self.ins().band(moved, mask);
        let kept = self.ins().band_not(e, mask);
        let bits = self.ins().bor(kept, moved);
        let is_empty = self.ins().icmp_imm_u(IntCC::Equal, count, 0);
        self.ins().select(is_empty, e, bits)
    }

    /// WGSL's clamping of a bit range: it begins within the word and ends within it.
    fn bit_range(&mut self, offset: Value, count: Value) -> (Value, Value) {
        let word = self.number(32);
        let offset = self.ins().umin(offset, word);
        let room = self.ins().isub(word, offset);
        let count = self.ins().umin(count, room);
        (offset, count)
    }
}

/// The service that computes a function of one float.
fn service1(fun: M) -> Option<Service> {
    Some(match fun {
        M::Cos => Service::Cos,
        M::Cosh => Service::Cosh,
        M::Sin => Service::Sin,
        M::Sinh => Service::Sinh,
        M::Tan => Service::Tan,
        M::Tanh => Service::Tanh,
        M::Acos => Service::Acos,
        M::Asin => Service::Asin,
        M::Atan => Service::Atan,
        M::Asinh => Service::Asinh,
        M::Acosh => Service::Acosh,
        M::Atanh => Service::Atanh,
        M::Exp => Service::Exp,
        M::Exp2 => Service::Exp2,
        M::Log => Service::Log,
        M::Log2 => Service::Log2,
        M::QuantizeToF16 => Service::Quantize,
        _ => return None,
    })
}
