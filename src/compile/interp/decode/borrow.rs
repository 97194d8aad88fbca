//! Values that stay where they were loaded from for as long as nothing is stored there.
//!
//! Most loads read a variable that does not change before the value is used, so a load from a fixed place costs
//! nothing: its value is "borrowed". Before anything is stored into the variable, a borrowed value that may still be
//! used is copied. As the code before a branch or a loop does not know which way the handler went, what a branch or a
//! loop stores to is copied in front of it. And as each `continue` comes to the loop's end with its own stores behind it,
//! what is used there and loaded in the body is copied at once.

use super::super::code::{Address, Op};
use super::{Body, Place};
use crate::compile::shape::{inner, words};
use crate::compile::uses::visit;
use naga::{AddressSpace, Block, Expression as E, Handle, Statement as S};
use std::ops::Range;

/// What a statement may change.
#[derive(Clone)]
enum Written {
    Nothing,
    Words(Range<Address>),
    Anything,
}

impl Body<'_, '_> {
    /// Lets the value of an expression stay in the variable where it is.
    pub(super) fn borrow(&mut self, expression: Handle<E>, at: Address) {
        if self.continued.contains(&expression) {
            let words = self.words_of(expression);
            let to = self.fresh(expression);
            self.decoder.ops.push(Op::copy(to, at, words));
            return;
        }
        self.places[expression.index()] = Place::Borrowed(at);
        self.borrowed.push(expression);
    }

    /// Is the use in hand the only one?
    pub(super) fn is_only_use(&self, expression: Handle<E>) -> bool {
        self.info[expression].ref_count == 1
    }

    /// Prepares a store through a pointer.
    pub(super) fn save_from_store(&mut self, pointer: Handle<E>) {
        let written = self.written(pointer);
        self.save(&[written]);
    }

    /// Prepares a call. Functions store to private variables and through pointers.
    pub(super) fn save_from_call(&mut self) {
        self.save(&[Written::Anything]);
    }

    /// Prepares blocks of which it is not known whether or how often they run: until [`Self::rejoin`], nothing is
    /// stored to what is borrowed now.
    pub(super) fn fork(&mut self, blocks: &[&Block]) -> Vec<Handle<E>> {
        let mut written = Vec::new();
        for block in blocks {
            visit(block, &mut |statement| match statement {
                S::Store { pointer, .. } => written.push(self.written(*pointer)),
                S::Call { .. } => written.push(Written::Anything),
                _ => {}
            });
        }
        self.save(&written);
        std::mem::take(&mut self.borrowed)
    }

    /// Behind a block: what it borrowed is out of scope, and what was borrowed before is where it was.
    pub(super) fn rejoin(&mut self, borrowed: Vec<Handle<E>>) {
        self.borrowed = borrowed;
    }

    /// Copies the borrowed values that may be changed and may be used again.
    fn save(&mut self, written: &[Written]) {
        for expression in std::mem::take(&mut self.borrowed) {
            if self.is_only_use(expression) && self.is_used[expression.index()] {
                continue;
            }
            let Place::Borrowed(from) = self.places[expression.index()] else {
                unreachable!("`borrow` puts it there, and it moves here only")
            };
            let words = self.words_of(expression);
            let changes = |written: &Written| match written {
                Written::Nothing => false,
                Written::Words(range) => from < range.end && range.start < from + words,
                Written::Anything => true,
            };
            if written.iter().any(changes) {
                let to = self.fresh(expression);
                self.decoder.ops.push(Op::copy(to, from, words));
            } else {
                self.borrowed.push(expression);
            }
        }
    }

    /// What a store through a pointer may change: the whole variable, whichever part it is.
    fn written(&self, mut pointer: Handle<E>) -> Written {
        let module = self.decoder.module;
        let range = |at: Address, ty| Written::Words(at..at + words(module, inner(module, ty)));
        loop {
            pointer = match self.function.expressions[pointer] {
                E::Access { base, .. } | E::AccessIndex { base, .. } => base,
                E::LocalVariable(local) => {
                    return range(self.locals[&local], self.function.local_variables[local].ty);
                }
                E::GlobalVariable(global) => {
                    let variable = &module.global_variables[global];
                    return match variable.space {
                        AddressSpace::Private => range(self.decoder.globals[&global], variable.ty),
                        // A table is elsewhere.
                        _ => Written::Nothing,
                    };
                }
                E::FunctionArgument(_) if self.gets_state => {
                    let (at, ty) = self.decoder.state.expect("it has a pointer to it");
                    return range(at, ty);
                }
                _ => return Written::Anything,
            };
        }
    }
}
