//! Statements: control flow becomes jumps.

use super::super::code::{Address, Atomic, Op};
use super::{Body, Place};
use crate::compile::uses::uses;
use naga::{
    AtomicFunction, Block, Expression as E, Function, Handle, ScalarKind, Statement as S, SwitchCase,
    SwitchValue,
};
use std::collections::HashSet;

/// Jumps whose targets are not known yet, by their place in the code.
pub(super) struct Exits {
    breaks: Vec<usize>,
    /// `None` for a `switch`, where `continue` belongs to the loop around it.
    continues: Option<Vec<usize>>,
}

impl Body<'_, '_> {
    /// The next instruction, to which something will jump.
    fn label(&mut self) -> u32 {
        self.decoder.label = self.decoder.ops.len();
        self.decoder.label as u32
    }

    fn push(&mut self, op: Op) -> usize {
        self.decoder.ops.push(op);
        self.decoder.ops.len() - 1
    }

    /// Lets a jump made earlier come here.
    fn land(&mut self, jump: usize) {
        let here = self.label();
        match &mut self.decoder.ops[jump] {
            Op::Jump(target)
            | Op::JumpIf { target, .. }
            | Op::JumpIfLess { target, .. }
            | Op::JumpIfBinary { target, .. } => *target = here,
            _ => unreachable!("only jumps are kept for later"),
        }
    }

    pub(super) fn block(&mut self, block: &Block) {
        for statement in block {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &S) {
        match statement {
            S::Emit(range) => range.clone().for_each(|e| self.emit(e)),
            S::Block(block) => self.block(block),
            S::If { condition, accept, reject } => self.branch(*condition, accept, reject),
            S::Switch { selector, cases } => self.switch(*selector, cases),
            S::Loop { body, continuing, break_if } => self.repeat(body, continuing, *break_if),
            S::Break => {
                let jump = self.push(Op::Jump(0));
                let exits = self.exits.last_mut().expect("validated: a break is in a loop or switch");
                exits.breaks.push(jump);
            }
            S::Continue => {
                let jump = self.push(Op::Jump(0));
                let continues = self.exits.iter_mut().rev().find_map(|e| e.continues.as_mut());
                continues.expect("validated: a continue is in a loop").push(jump);
            }
            S::Return { value } => {
                if let Some(value) = *value {
                    let (from, words) = (self.value(value), self.words_of(value));
                    let to = self.result;
                    self.push(Op::copy(to, from, words));
                }
                self.push(Op::Return);
            }
            S::Store { pointer, value } => self.store(*pointer, *value),
            S::Atomic { pointer, fun, value, result } => self.atomic(*pointer, fun, *value, *result),
            S::Call { function, arguments, result } => self.call(*function, arguments, *result),
            _ => unreachable!("refused by the front: not part of the handler contract"),
        }
    }

    fn branch(&mut self, condition: Handle<E>, accept: &Block, reject: &Block) {
        let borrowed = self.fork(&[accept, reject]);
        let jump = self.jump_if(condition, accept.is_empty());
        let skip = self.push(jump);
        if accept.is_empty() {
            self.block(reject);
        } else {
            self.block(accept);
            if !reject.is_empty() {
                let end = self.push(Op::Jump(0));
                self.land(skip);
                self.borrowed.clear();
                self.block(reject);
                self.land(end);
                return self.rejoin(borrowed);
            }
        }
        self.land(skip);
        self.rejoin(borrowed);
    }

    fn repeat(&mut self, body: &Block, continuing: &Block, break_if: Option<Handle<E>>) {
        let borrowed = self.fork(&[body, continuing]);
        let start = self.label();
        self.exits.push(Exits { breaks: Vec::new(), continues: Some(Vec::new()) });
        let mut used = HashSet::from_iter(break_if);
        uses(self.function, continuing, &mut used);
        let around = std::mem::replace(&mut self.continued, used);
        self.block(body);
        self.continued = around;
        // What is still borrowed is of no more use.
        self.borrowed.clear();
        let continues = self.exits.last_mut().and_then(|e| e.continues.take()).unwrap_or_default();
        continues.into_iter().for_each(|jump| self.land(jump));
        self.block(continuing);
        if let Some(condition) = break_if {
            let jump = self.jump_if(condition, true);
            let out = self.push(jump);
            if let Some(exits) = self.exits.last_mut() {
                exits.breaks.push(out);
            }
        }
        self.push(Op::Again(start));
        self.leave();
        self.rejoin(borrowed);
    }

    /// Lets the breaks of the innermost loop or switch come here.
    fn leave(&mut self) {
        let exits = self.exits.pop().expect("pushed by whoever leaves");
        exits.breaks.into_iter().for_each(|jump| self.land(jump));
    }

    fn switch(&mut self, selector: Handle<E>, cases: &[SwitchCase]) {
        let blocks: Vec<_> = cases.iter().map(|case| &case.body).collect();
        let borrowed = self.fork(&blocks);
        let selector = self.value(selector);
        let switch = self.push(Op::Switch { selector, cases: Box::new([]), default: 0 });
        self.exits.push(Exits { breaks: Vec::new(), continues: None });
        let mut targets = Vec::new();
        let mut default_target = None;
        for case in cases {
            let here = self.label();
            self.borrowed.clear();
            match case.value {
                SwitchValue::I32(value) => targets.push((value as u32, here)),
                SwitchValue::U32(value) => targets.push((value, here)),
                SwitchValue::Default => default_target = Some(here),
            }
            self.block(&case.body);
            if !case.fall_through {
                let jump = self.push(Op::Jump(0));
                if let Some(exits) = self.exits.last_mut() {
                    exits.breaks.push(jump);
                }
            }
        }
        self.leave();
        let end = self.label();
        self.rejoin(borrowed);
        if let Op::Switch { cases, default, .. } = &mut self.decoder.ops[switch] {
            *cases = targets.into();
            *default = default_target.unwrap_or(end);
        }
    }

    fn store(&mut self, pointer: Handle<E>, value: Handle<E>) {
        let (from, words) = (self.value(value), self.words_of(value));
        self.save_from_store(pointer);
        let op = match self.place(pointer) {
            Place::Pointer { moving, plus } if moving == self.decoder.zero => {
                if self.redirect(value, from, plus) {
                    return;
                }
                Op::copy(plus, from, words)
            }
            Place::Pointer { moving, plus } => Op::Store { at: moving, plus, from, words },
            Place::Table(place) => {
                let leaves = self.leaves(self.type_of(value));
                Op::TableStore { place, from, leaves }
            }
            _ => unreachable!("validated: a store goes through a pointer"),
        };
        self.push(op);
    }

    fn atomic(
        &mut self,
        pointer: Handle<E>,
        fun: &AtomicFunction,
        value: Handle<E>,
        result: Option<Handle<E>>,
    ) {
        let Place::Table(place) = self.place(pointer) else {
            unreachable!("validated: atomics are in tables, as there is no workgroup memory")
        };
        let signed = self.type_of(value).scalar_kind() == Some(ScalarKind::Sint);
        let value = self.value(value);
        let mut compare: Address = value;
        let fun = match *fun {
            AtomicFunction::Add => Atomic::Add,
            AtomicFunction::Subtract => Atomic::Subtract,
            AtomicFunction::And => Atomic::And,
            AtomicFunction::InclusiveOr => Atomic::Or,
            AtomicFunction::ExclusiveOr => Atomic::Xor,
            AtomicFunction::Min if signed => Atomic::MinSigned,
            AtomicFunction::Max if signed => Atomic::MaxSigned,
            AtomicFunction::Min => Atomic::MinUnsigned,
            AtomicFunction::Max => Atomic::MaxUnsigned,
            AtomicFunction::Exchange { compare: None } => Atomic::Exchange,
            AtomicFunction::Exchange { compare: Some(expected) } => {
                compare = self.value(expected);
                Atomic::CompareExchange
            }
        };
        let to = result.map(|result| self.fresh(result));
        self.push(Op::Atomic { fun, place, value, compare, to });
    }

    fn call(&mut self, function: Handle<Function>, arguments: &[Handle<E>], result: Option<Handle<E>>) {
        let callee = &self.decoder.functions[&function];
        let (start, parameters, from) = (callee.start, callee.arguments.clone(), callee.result);
        for (to, argument) in parameters.into_iter().zip(arguments) {
            let op = match self.place(*argument) {
                Place::Value(from) | Place::Borrowed(from) => Op::copy(to, from, self.words_of(*argument)),
                Place::Pointer { moving, plus } => {
                    let plus = self.decoder.constant(plus);
                    Op::Binary { to, a: moving, b: plus, f: u32::wrapping_add }
                }
                other => unreachable!("validated: pointers into tables are not passed ({other:?})"),
            };
            self.push(op);
        }
        self.save_from_call();
        self.push(Op::Call(start));
        if let Some(result) = result {
            let words = self.words_of(result);
            let to = self.fresh(result);
            self.push(Op::copy(to, from, words));
        }
    }
}
