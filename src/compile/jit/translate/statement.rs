//! Statements: control flow becomes blocks.
//!
//! What translates a statement says whether control comes out behind it.

use super::place::{Address, Memory};
use super::{Body, Operand, Place, Refusal, STOP_INTERVAL, Translator};
use crate::compile::jit::layout;
use crate::compile::jit::look;
use crate::compile::jit::runtime::{Context, Fixed};
use crate::compile::shape;
use cranelift_codegen::ir::condcodes::{CondCode, IntCC};
use cranelift_codegen::ir::{
    self, AtomicRmwOp, BlockArg, InstBuilder, InstructionData, MemFlagsData, Value, types,
};
use cranelift_frontend::Switch;
use naga::{
    AtomicFunction, BinaryOperator, Block, Expression as E, Function, Handle, Literal, ScalarKind,
    Statement as S, SwitchCase, SwitchValue, TypeInner,
};
use std::mem::offset_of;

/// A block that somebody may jump to.
#[derive(Clone, Copy)]
pub(super) struct Target {
    block: ir::Block,
    is_used: bool,
}

/// The ways out of a loop or switch.
pub(super) struct Exit {
    breaks: Target,
    /// `None` for a `switch`, where `continue` belongs to the loop around it.
    continues: Option<Target>,
}

impl<'p> Translator<'p, '_> {
    pub(super) fn target(&mut self) -> Target {
        Target { block: self.builder.create_block(), is_used: false }
    }

    pub(super) fn jump(&mut self, target: &mut Target) {
        target.is_used = true;
        self.ins().jump(target.block, &[]);
    }

    /// Goes on in a block that nobody will jump to any more; is it reached at all?
    pub(super) fn land(&mut self, target: Target) -> bool {
        self.builder.seal_block(target.block);
        if target.is_used {
            self.builder.switch_to_block(target.block);
        }
        target.is_used
    }

    pub(super) fn block(&mut self, body: &mut Body<'p>, block: &'p Block) -> Result<bool, Refusal> {
        self.deeper()?;
        let mut is_reached = true;
        let known = self.known();
        for statement in block {
            is_reached = self.statement(body, statement)?;
            if !is_reached {
                break;
            }
        }
        self.forget(known);
        self.depth -= 1;
        Ok(is_reached)
    }

    fn statement(&mut self, body: &mut Body<'p>, statement: &'p S) -> Result<bool, Refusal> {
        match statement {
            S::Emit(range) => {
                for expression in range.clone() {
                    self.emit(body, expression)?;
                }
            }
            S::Block(block) => return self.block(body, block),
            S::If { condition, accept, reject } => {
                if self.is_budget_check(body, *condition) {
                    self.spend(body, accept)?;
                } else {
                    return self.branch(body, *condition, accept, reject);
                }
            }
            S::Switch { selector, cases } => return self.switch(body, *selector, cases),
            S::Loop { body: inner, continuing, break_if } => {
                return self.repeat(body, inner, continuing, *break_if);
            }
            S::Break => {
                let mut exit = body.exits.pop().expect("validated: a break is in a loop or switch");
                self.jump(&mut exit.breaks);
                body.exits.push(exit);
                return Ok(false);
            }
            S::Continue => {
                let targets = body.exits.iter_mut().rev().find_map(|e| e.continues.as_mut());
                let target = targets.expect("validated: a continue is in a loop");
                target.is_used = true;
                let block = target.block;
                self.ins().jump(block, &[]);
                return Ok(false);
            }
            S::Return { value } => {
                self.leave(body, *value);
                return Ok(false);
            }
            S::Store { pointer, value } => self.store_statement(body, *pointer, *value)?,
            S::Atomic { pointer, fun, value, result } => self.atomic(body, *pointer, fun, *value, *result),
            S::Call { function, arguments, result } => {
                self.call_statement(body, *function, arguments, *result)?;
            }
            _ => unreachable!("refused by the front: not part of the handler contract"),
        }
        self.check_size()?;
        Ok(true)
    }

    fn branch(
        &mut self,
        body: &mut Body<'p>,
        condition: Handle<E>,
        accept: &'p Block,
        reject: &'p Block,
    ) -> Result<bool, Refusal> {
        let condition = self.scalar(body, condition);
        if let Some(condition) = self.known_condition(condition) {
            return self.block(body, if condition { accept } else { reject });
        }
        if self.choose(body, condition, accept, reject)? {
            return Ok(true);
        }
        let mut end = self.target();
        let yes = self.builder.create_block();
        let mut is_certain = false;
        if reject.is_empty() {
            end.is_used = true;
            self.ins().brif(condition, yes, &[], end.block, &[]);
        } else {
            let no = self.builder.create_block();
            // Cranelift lays out the second target first: of a loop, that should be the way that stays in it.
            if matches!(reject.last(), Some(S::Break | S::Return { .. })) {
                let opposite = self.opposite(condition);
                self.ins().brif(opposite, no, &[], yes, &[]);
            } else {
                self.ins().brif(condition, yes, &[], no, &[]);
            }
            self.builder.seal_block(no);
            self.builder.switch_to_block(no);
            if self.block(body, reject)? {
                self.jump(&mut end);
            } else {
                is_certain = true;
            }
        }
        self.builder.seal_block(yes);
        self.builder.switch_to_block(yes);
        let known = self.known();
        self.learn(condition);
        if self.block(body, accept)? {
            self.jump(&mut end);
        }
        // Behind a way that only leads here if the condition holds, it still does.
        if !is_certain {
            self.forget(known);
        }
        Ok(self.land(end))
    }

    fn switch(
        &mut self,
        body: &mut Body<'p>,
        selector: Handle<E>,
        cases: &'p [SwitchCase],
    ) -> Result<bool, Refusal> {
        let selector = self.scalar(body, selector);
        if self.choose_case(body, selector, cases)? {
            return Ok(true);
        }
        let mut end = self.target();
        let blocks: Vec<_> = cases.iter().map(|_| self.builder.create_block()).collect();
        let mut switch = Switch::new();
        let mut default = None;
        for (case, block) in cases.iter().zip(&blocks) {
            match case.value {
                SwitchValue::I32(value) => switch.set_entry(u128::from(value as u32), *block),
                SwitchValue::U32(value) => switch.set_entry(u128::from(value), *block),
                SwitchValue::Default => default = Some(*block),
            }
        }
        if default.is_none() {
            end.is_used = true;
        }
        switch.emit(&mut self.builder, selector, default.unwrap_or(end.block));
        body.exits.push(Exit { breaks: end, continues: None });
        for (index, case) in cases.iter().enumerate() {
            self.builder.seal_block(blocks[index]);
            self.builder.switch_to_block(blocks[index]);
            if self.block(body, &case.body)? {
                match blocks.get(index + 1) {
                    Some(next) if case.fall_through => {
                        self.ins().jump(*next, &[]);
                    }
                    _ => {
                        let mut exit = body.exits.pop().expect("pushed above");
                        self.jump(&mut exit.breaks);
                        body.exits.push(exit);
                    }
                }
            }
        }
        let exit = body.exits.pop().expect("pushed above");
        Ok(self.land(exit.breaks))
    }

    fn repeat(
        &mut self,
        body: &mut Body<'p>,
        inner: &'p Block,
        continuing: &'p Block,
        break_if: Option<Handle<E>>,
    ) -> Result<bool, Refusal> {
        if break_if.is_none()
            && let Some(plan) = self.plan_unrolling(body, inner, continuing)
        {
            return self.unroll(body, &plan, inner, continuing);
        }
        let head = self.builder.create_block();
        self.ins().jump(head, &[]);
        self.builder.switch_to_block(head);
        let breaks = self.target();
        let (mut breaks, comes_back) = self.iteration(body, breaks, inner, continuing)?;
        if comes_back {
            match break_if {
                Some(condition) => {
                    let condition = self.scalar(body, condition);
                    breaks.is_used = true;
                    self.ins().brif(condition, breaks.block, &[], head, &[]);
                }
                None => {
                    self.ins().jump(head, &[]);
                }
            }
        }
        self.builder.seal_block(head);
        Ok(self.land(breaks))
    }

    /// One iteration of a loop; `breaks` lead to where it is left. Says whether another one may follow.
    pub(super) fn iteration(
        &mut self,
        body: &mut Body<'p>,
        breaks: Target,
        inner: &'p Block,
        continuing: &'p Block,
    ) -> Result<(Target, bool), Refusal> {
        let continues = self.target();
        body.exits.push(Exit { breaks, continues: Some(continues) });
        let falls_through = self.block(body, inner)?;
        let mut exit = body.exits.pop().expect("pushed above");
        let mut continues = exit.continues.take().expect("pushed above");
        if falls_through {
            self.jump(&mut continues);
        }
        // `break` and `continue` in a `continuing` block belong to loops inside of it, but a budget that runs out
        // there breaks out of this one.
        body.exits.push(exit);
        let comes_back = self.land(continues) && self.block(body, continuing)?;
        let exit = body.exits.pop().expect("pushed above");
        Ok((exit.breaks, comes_back))
    }

    /// The opposite of a condition.
    fn opposite(&mut self, condition: Value) -> Value {
        if let Some(InstructionData::IntCompare { cond, args: [a, b], .. }) =
            self.definition(condition).copied()
        {
            return self.ins().icmp(cond.complement(), a, b);
        }
        self.ins().icmp_imm_u(IntCC::Equal, condition, 0)
    }

    /// Is this the question of lowering whether the loop budget is used up?
    fn is_budget_check(&self, body: &Body<'p>, condition: Handle<E>) -> bool {
        let expressions = &body.function.expressions;
        let E::Binary { op: BinaryOperator::Equal, left, .. } = expressions[condition] else { return false };
        let E::Load { pointer } = expressions[left] else { return false };
        self.is_fuel(body, pointer)
    }

    pub(super) fn is_fuel(&self, body: &Body<'p>, pointer: Handle<E>) -> bool {
        let fuel = self.fuel.as_ref().expect("the lowered module has the variable");
        matches!(body.function.expressions[pointer], E::GlobalVariable(global) if global == fuel.global)
    }

    /// The budget's check. What is left of it is in two variables, so that this one comparison is also the question
    /// whether it is time to look at the stop word.
    fn spend(&mut self, body: &mut Body<'p>, exhausted: &'p Block) -> Result<(), Refusal> {
        let fuel = self.fuel.as_ref().expect("the lowered module has the variable");
        let (now, later, budget) = (fuel.now, fuel.later, fuel.budget);
        let left = self.builder.use_var(now);
        if self.known_integer(left).is_some_and(|left| left > 0) {
            return Ok(());
        }
        let [check, look, out, go_on] = [(); 4].map(|()| self.builder.create_block());
        // The look goes back to this check and not on behind it. Cranelift moves what is the same in all iterations
        // out of a loop only as long as it has not seen a block behind the loop, and sees blocks in such an order
        // that ways that lead on come first: none of those must lead out of the loop.
        self.ins().jump(check, &[]);
        self.builder.switch_to_block(check);
        let left = self.builder.use_var(now);
        // The second target is the one that follows at once.
        let is_used_up = self.ins().icmp_imm_u(IntCC::Equal, left, 0);
        self.ins().brif(is_used_up, look, &[], go_on, &[]);
        self.builder.seal_block(look);
        self.builder.set_cold_block(look);
        self.builder.set_cold_block(out);
        self.builder.switch_to_block(look);
        if budget <= STOP_INTERVAL {
            self.ins().jump(out, &[]);
        } else {
            let [ask, refill] = [(); 2].map(|()| self.builder.create_block());
            let rest = self.builder.use_var(later);
            self.ins().brif(rest, ask, &[], out, &[]);
            self.builder.seal_block(ask);
            self.builder.set_cold_block(ask);
            self.builder.switch_to_block(ask);
            let must_stop = self.look();
            let (interrupted, arguments) = self.interrupted();
            self.ins().brif(must_stop, interrupted, &arguments, refill, &[]);
            self.builder.seal_block(refill);
            self.builder.set_cold_block(refill);
            self.builder.switch_to_block(refill);
            let most = self.number(STOP_INTERVAL);
            let portion = self.ins().umin(rest, most);
            let rest = self.ins().isub(rest, portion);
            self.builder.def_var(now, portion);
            self.builder.def_var(later, rest);
            self.end_batch_soon();
            self.ins().jump(check, &[]);
        }
        self.builder.seal_block(check);
        self.builder.seal_block(out);
        self.builder.switch_to_block(out);
        if self.block(body, exhausted)? {
            self.ins().jump(go_on, &[]);
        }
        self.builder.seal_block(go_on);
        self.builder.switch_to_block(go_on);
        Ok(())
    }

    /// Asks whether the run must stop.
    fn look(&mut self) -> Value {
        let signature = match self.look {
            Some(signature) => signature,
            None => {
                let signature = look::signature(self.isa);
                *self.look.insert(self.builder.import_signature(signature))
            }
        };
        let address = self.fixed(offset_of!(Fixed, look));
        let context = self.context;
        self.ins().call_indirect(signature, address, &[context]);
        let at = Address::new(context, 0, Memory::Own);
        self.load_scalar(at, offset_of!(Context, must_stop) as u32, types::I32)
    }

    /// Makes the block where runs end that have to stop; called at the function's begin, with what the block gets
    /// in place of what [`interrupted`](Self::interrupted) passes.
    ///
    /// A way there from the begin, which is never gone, says that the block belongs to no loop: see
    /// [`spend`](Self::spend).
    pub(super) fn prepare_interruption(&mut self, arguments: &[Value]) {
        if !self.program.has_loops {
            return;
        }
        let [block, go_on] = [(); 2].map(|()| self.builder.create_block());
        self.builder.set_cold_block(block);
        for argument in arguments {
            let ty = self.builder.func.dfg.value_type(*argument);
            self.builder.append_block_param(block, ty);
        }
        let arguments: Vec<_> = arguments.iter().map(|argument| BlockArg::Value(*argument)).collect();
        let context = self.context;
        let never = self.ins().icmp_imm_u(IntCC::Equal, context, 0);
        self.ins().brif(never, block, &arguments, go_on, &[]);
        self.builder.seal_block(go_on);
        self.builder.switch_to_block(go_on);
        self.interrupted = Some(block);
    }

    /// Where a run ends that has to stop, and what is passed there.
    fn interrupted(&mut self) -> (ir::Block, Vec<BlockArg>) {
        self.can_fail = true;
        let block = self.interrupted.expect("prepared, as the handler has loops and this run may fail");
        let arguments = self
            .batch
            .map_or(Vec::new(), |batch| [batch.index, batch.next, batch.state].map(BlockArg::Value).into());
        (block, arguments)
    }

    /// Leaves the function in hand.
    fn leave(&mut self, body: &mut Body<'p>, value: Option<Handle<E>>) {
        let end = body.end;
        let (Some(value), Some(result)) = (value, &body.function.result) else {
            self.ins().jump(end, &[]);
            return;
        };
        let inner = shape::inner(self.module, result.ty);
        let operand = self.operand(body, value);
        if let Some(to) = body.result_place {
            self.put(to, inner, &operand);
            self.ins().jump(end, &[]);
        } else {
            let scalars = self.scalars(&operand, inner);
            let arguments: Vec<_> = scalars.iter().map(|scalar| BlockArg::Value(*scalar)).collect();
            self.ins().jump(end, &arguments);
        }
    }

    fn store_statement(
        &mut self,
        body: &mut Body<'p>,
        pointer: Handle<E>,
        value: Handle<E>,
    ) -> Result<(), Refusal> {
        if self.is_fuel(body, pointer)
            && let E::Literal(Literal::U32(budget)) = body.function.expressions[value]
        {
            let now = self.number(budget.min(STOP_INTERVAL));
            let later = self.number(budget.saturating_sub(STOP_INTERVAL));
            let fuel = self.fuel.as_mut().expect("the lowered module has the variable");
            fuel.budget = budget;
            let variables = [fuel.now, fuel.later];
            self.builder.def_var(variables[0], now);
            self.builder.def_var(variables[1], later);
            return Ok(());
        }
        let place = self.pointer(body, pointer);
        let operand = self.operand(body, value);
        let inner = body.type_of(self.module, value);
        if let Place::Memory(at) = *place
            && at.memory == Memory::Table
        {
            self.check_table_value(inner)?;
            let target = super::place::pointee(self.module, body.type_of(self.module, pointer));
            if let TypeInner::Atomic(_) = *target {
                let value = self.scalars(&operand, inner)[0];
                let address = self.address_value(at);
                self.ins().atomic_store(MemFlagsData::trusted(), value, address);
                return Ok(());
            }
        }
        self.store(&place, inner, &operand);
        Ok(())
    }

    fn atomic(
        &mut self,
        body: &mut Body<'p>,
        pointer: Handle<E>,
        fun: &AtomicFunction,
        value: Handle<E>,
        result: Option<Handle<E>>,
    ) {
        let Place::Memory(at) = *self.pointer(body, pointer) else {
            unreachable!("validated: atomics are in tables and in workgroup memory")
        };
        let is_signed = body.type_of(self.module, value).scalar_kind() == Some(ScalarKind::Sint);
        let value = self.scalar(body, value);
        if at.memory == Memory::Own {
            return self.atomic_of_one_thread(body, at, (fun, is_signed), value, result);
        }
        let address = self.address_value(at);
        // Tables are aligned to their elements, which are words.
        let flags = MemFlagsData::trusted();
        let operation = match *fun {
            AtomicFunction::Add => AtomicRmwOp::Add,
            AtomicFunction::Subtract => AtomicRmwOp::Sub,
            AtomicFunction::And => AtomicRmwOp::And,
            AtomicFunction::InclusiveOr => AtomicRmwOp::Or,
            AtomicFunction::ExclusiveOr => AtomicRmwOp::Xor,
            AtomicFunction::Min if is_signed => AtomicRmwOp::Smin,
            AtomicFunction::Max if is_signed => AtomicRmwOp::Smax,
            AtomicFunction::Min => AtomicRmwOp::Umin,
            AtomicFunction::Max => AtomicRmwOp::Umax,
            AtomicFunction::Exchange { compare: None } => AtomicRmwOp::Xchg,
            AtomicFunction::Exchange { compare: Some(expected) } => {
                let expected = self.scalar(body, expected);
                let old = self.ins().atomic_cas(flags, address, expected, value);
                let exchanged = self.ins().icmp(IntCC::Equal, old, expected);
                if let Some(result) = result {
                    self.set(body, result, Operand::Scalars([old, exchanged].into()));
                }
                return;
            }
        };
        let old = self.ins().atomic_rmw(types::I32, flags, operation, address, value);
        if let Some(result) = result {
            self.set(body, result, Operand::Scalars([old].into()));
        }
    }

    /// The same in workgroup memory, which one thread has for itself: no other comes between a load and a store.
    fn atomic_of_one_thread(
        &mut self,
        body: &mut Body<'p>,
        at: Address,
        (fun, is_signed): (&AtomicFunction, bool),
        value: Value,
        result: Option<Handle<E>>,
    ) {
        let old = self.load_scalar(at, 0, types::I32);
        let mut results = vec![old];
        let new = match *fun {
            AtomicFunction::Add => self.ins().iadd(old, value),
            AtomicFunction::Subtract => self.ins().isub(old, value),
            AtomicFunction::And => self.ins().band(old, value),
            AtomicFunction::InclusiveOr => self.ins().bor(old, value),
            AtomicFunction::ExclusiveOr => self.ins().bxor(old, value),
            AtomicFunction::Min if is_signed => self.ins().smin(old, value),
            AtomicFunction::Max if is_signed => self.ins().smax(old, value),
            AtomicFunction::Min => self.ins().umin(old, value),
            AtomicFunction::Max => self.ins().umax(old, value),
            AtomicFunction::Exchange { compare: None } => value,
            AtomicFunction::Exchange { compare: Some(expected) } => {
                let expected = self.scalar(body, expected);
                let exchanged = self.ins().icmp(IntCC::Equal, old, expected);
                results.push(exchanged);
                self.ins().select(exchanged, value, old)
            }
        };
        self.store_scalar(at, 0, new);
        if let Some(result) = result {
            self.set(body, result, Operand::Scalars(results.into()));
        }
    }

    fn call_statement(
        &mut self,
        body: &mut Body<'p>,
        function: Handle<Function>,
        arguments: &[Handle<E>],
        result: Option<Handle<E>>,
    ) -> Result<(), Refusal> {
        let arguments = arguments.iter().map(|argument| self.operand(body, *argument)).collect();
        let value = self.inline(function, arguments)?;
        if let (Some(result), Some(value)) = (result, value) {
            self.set(body, result, value);
        }
        Ok(())
    }

    /// Bytes of a composed value at their offsets.
    pub(super) fn compose_in_memory(
        &mut self,
        body: &mut Body<'p>,
        inner: &TypeInner,
        components: &[Handle<E>],
    ) -> Result<Operand, Refusal> {
        // A struct around one array is where the array is.
        if let [component] = *components
            && let operand @ Operand::Bytes(_) = self.operand(body, component)
            && layout::size(self.module, inner)
                == layout::size(self.module, body.type_of(self.module, component))
        {
            return Ok(operand);
        }
        let to = self.slot(layout::size(self.module, inner))?;
        for (component, index) in components.iter().zip(0..) {
            let operand = self.operand(body, *component);
            let part = body.type_of(self.module, *component);
            self.put(to.plus(layout::offset(inner, index)), part, &operand);
        }
        Ok(Operand::Bytes(to))
    }
}
