//! Planted bugs: engines that are wrong on purpose, to see that the comparison notices.
//!
//! Each is the interpreter on a lowered module with one thing changed, so no engine has a hook for it.

use super::check::count;
use super::{Floats, GeneratedHandler, Trace, check, run_series, strategy};
use crate::compile::front::CAPABILITIES;
use crate::compile::{Executable, Interpreter, Program};
use naga::valid::{ValidationFlags, Validator};
use naga::{
    Arena, AtomicFunction, BinaryOperator as B, Block, Expression as E, Function, Handle, Literal, MathFunction as M,
    Module, Range, ScalarKind, Span, Statement as S, SwitchCase, TypeInner,
};
use std::cell::RefCell;
use std::sync::Arc;

/// A bug: its name, and what it does to an expression.
struct Mutant {
    name: &'static str,
    change: Change,
}

/// How a bug changes a program.
enum Change {
    /// Replaces an expression: by what the closure returns, which may use expressions that it adds before.
    Expression(fn(&Scene<'_>, &E, &mut dyn FnMut(E) -> Handle<E>) -> Option<E>),
    /// Changes the whole module.
    Module(fn(&mut Module, &Program)),
}

/// Where an expression stands.
struct Scene<'a> {
    program: &'a Program,
    function: Handle<Function>,
    /// The literals 0.5 and 1, which stand before everything else in the changed function.
    half: Handle<E>,
    one: Handle<E>,
}

impl Scene<'_> {
    fn kind(&self, old: Handle<E>) -> Option<ScalarKind> {
        let info = &self.program.info[self.function];
        info[old].ty.inner_with(&self.program.module.types).scalar_kind()
    }

    fn is_scalar(&self, old: Handle<E>) -> bool {
        let info = &self.program.info[self.function];
        matches!(info[old].ty.inner_with(&self.program.module.types), TypeInner::Scalar(_))
    }
}
