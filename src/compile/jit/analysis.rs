//! Which parts of which variables are indexed by something that is not a constant: those must be in memory, the
//! rest can be in registers. And which parts of what a pointer argument points to are written.

use super::pack::{Packed, packed};
use crate::compile::Program;
use crate::compile::uses::{uses, visit};
use naga::{Expression as E, Function, GlobalVariable, Handle, LocalVariable, Statement as S, TypeInner};
use std::collections::{HashMap, HashSet};

/// The constant indices that lead from a variable to a part of it.
pub(super) type Path = Vec<u32>;

/// What is known about one function.
#[derive(Default)]
pub(super) struct Facts {
    locals: HashMap<Handle<LocalVariable>, Vec<Path>>,
    arguments: HashMap<u32, Vec<Path>>,
    /// Paths of stores through pointer arguments, up to the first dynamic index.
    stored: HashMap<u32, Vec<Path>>,
    /// Expressions used in the `continuing` block of a loop, perhaps computed in its body.
    pub continued: HashSet<Handle<E>>,
    /// Vectors in vector registers.
    pub packed: Packed,
}

/// What is known about a program.
pub(super) struct Analysis {
    functions: HashMap<Handle<Function>, Facts>,
    globals: HashMap<Handle<GlobalVariable>, Vec<Path>>,
    /// Tables whose length is asked for.
    pub measured: HashSet<Handle<GlobalVariable>>,
    /// Some table may be written, by atomics or else. Two tables may be the same buffer.
    pub writes_tables: bool,
}

/// A variable or pointer argument.
pub(super) enum Root {
    Local(Handle<LocalVariable>),
    Argument(u32),
    Global(Handle<GlobalVariable>),
}

impl Analysis {
    pub(super) fn new(program: &Program) -> Self {
        let mut analysis = Self {
            functions: HashMap::new(),
            globals: HashMap::new(),
            measured: HashSet::new(),
            writes_tables: false,
        };
        // Callees come first.
        for handle in &program.functions {
            analysis.function(program, *handle);
        }
        analysis
    }

    pub(super) fn facts(&self, function: Handle<Function>) -> &Facts {
        &self.functions[&function]
    }

    pub(super) fn global(&self, global: Handle<GlobalVariable>) -> &[Path] {
        self.globals.get(&global).map_or(&[], Vec::as_slice)
    }

    fn function(&mut self, program: &Program, handle: Handle<Function>) {
        let function = &program.module.functions[handle];
        let info = &program.info[handle];
        let is_pointer = |e: Handle<E>| {
            let inner = info[e].ty.inner_with(&program.module.types);
            matches!(inner, TypeInner::Pointer { .. } | TypeInner::ValuePointer { .. })
        };
        let mut facts = Facts::default();
        for (_, expression) in function.expressions.iter() {
            match *expression {
                E::Access { base, .. } if is_pointer(base) => {
                    let (root, path, _) = trace(function, base);
                    self.mark(&mut facts, root, path);
                }
                E::ArrayLength(base) => {
                    if let (Some(Root::Global(global)), ..) = trace(function, base) {
                        self.measured.insert(global);
                    }
                }
                _ => {}
            }
        }
        visit(&function.body, &mut |statement| match statement {
            S::Store { pointer, .. } => {
                if let (Some(Root::Global(global)), ..) = trace(function, *pointer) {
                    let space = program.module.global_variables[global].space;
                    self.writes_tables |=
                        matches!(space, naga::AddressSpace::Storage { .. } | naga::AddressSpace::WorkGroup);
                }
                if let (Some(Root::Argument(index)), path, _) = trace(function, *pointer) {
                    insert(&mut facts.stored, index, path);
                }
            }
            S::Call { function: callee, arguments, .. } => {
                for (index, argument) in arguments.iter().enumerate().filter(|(_, a)| is_pointer(**a)) {
                    let (root, path, is_whole) = trace(function, *argument);
                    let callee = &self.functions[callee];
                    if let Some(Root::Argument(own)) = root {
                        for rest in callee.stored.get(&(index as u32)).into_iter().flatten() {
                            let rest = if is_whole { rest.as_slice() } else { &[] };
                            insert(&mut facts.stored, own, [path.as_slice(), rest].concat());
                        }
                    }
                    let inside = callee.arguments.get(&(index as u32)).cloned();
                    // A pointer that went through a dynamic index points into memory already.
                    if is_whole && let Some(root) = root {
                        for rest in inside.unwrap_or_default() {
                            let path = [path.clone(), rest].concat();
                            self.mark(&mut facts, Some(root.copy()), path);
                        }
                    }
                }
            }
            S::Atomic { .. } => self.writes_tables = true,
            S::Loop { continuing, break_if, .. } => {
                uses(function, continuing, &mut facts.continued);
                facts.continued.extend(break_if);
            }
            _ => {}
        });
        facts.packed = packed(program, handle, &facts);
        self.functions.insert(handle, facts);
    }

    fn mark(&mut self, facts: &mut Facts, root: Option<Root>, path: Path) {
        match root {
            Some(Root::Local(local)) => insert(&mut facts.locals, local, path),
            Some(Root::Argument(index)) => insert(&mut facts.arguments, index, path),
            Some(Root::Global(global)) => insert(&mut self.globals, global, path),
            None => {}
        }
    }
}

fn insert<K: Eq + std::hash::Hash>(all: &mut HashMap<K, Vec<Path>>, key: K, path: Path) {
    let paths = all.entry(key).or_default();
    if !paths.contains(&path) {
        paths.push(path);
    }
}

impl Facts {
    pub(super) fn local(&self, local: Handle<LocalVariable>) -> &[Path] {
        self.locals.get(&local).map_or(&[], Vec::as_slice)
    }

    pub(super) fn argument(&self, index: u32) -> &[Path] {
        self.arguments.get(&index).map_or(&[], Vec::as_slice)
    }

    /// May anything in a part of what an argument points to be written?
    pub(super) fn is_stored(&self, argument: u32, part: &[u32]) -> bool {
        let stored = self.stored.get(&argument).into_iter().flatten();
        stored.into_iter().any(|path| path.starts_with(part) || part.starts_with(path))
    }
}

impl Root {
    fn copy(&self) -> Self {
        match *self {
            Self::Local(local) => Self::Local(local),
            Self::Argument(index) => Self::Argument(index),
            Self::Global(global) => Self::Global(global),
        }
    }
}

/// Where a pointer comes from, the constant indices up to its first dynamic one, and whether there is none.
pub(super) fn trace(function: &Function, mut pointer: Handle<E>) -> (Option<Root>, Path, bool) {
    // From the pointer to the root; `None` is a dynamic index.
    let mut steps = Vec::new();
    let root = loop {
        match function.expressions[pointer] {
            E::Access { base, .. } => {
                steps.push(None);
                pointer = base;
            }
            E::AccessIndex { base, index } => {
                steps.push(Some(index));
                pointer = base;
            }
            E::LocalVariable(local) => break Some(Root::Local(local)),
            E::FunctionArgument(index) => break Some(Root::Argument(index)),
            E::GlobalVariable(global) => break Some(Root::Global(global)),
            _ => break None,
        }
    };
    let path: Path = steps.iter().rev().map_while(|step| *step).collect();
    let is_whole = path.len() == steps.len();
    (root, path, is_whole)
}
