//! From the lowered module to instructions: places for everything first, then each function, callees first.

use super::code::{Address, Op};
use super::{Border, Code, EmitBorder};
use crate::compile::Program;
use crate::compile::shape::{constant, inner, leaves, words};
use naga::{AddressSpace, Expression, Function, GlobalVariable, Handle, Module, Statement, Type, TypeInner};
use std::collections::{HashMap, HashSet};

mod borrow;
mod expression;
mod fuse;
mod statement;

/// Decodes a program.
pub(super) fn decode(program: &Program) -> Code {
    let mut decoder = Decoder::new(program);
    let state = decoder.state.map(|(at, ty)| border(&program.module, at, ty));
    for handle in &program.functions {
        decoder.function(*handle);
    }
    let entry = &decoder.functions[&program.entry];
    let (start, arguments, result) = (entry.start, entry.arguments.clone(), entry.result);
    let module = &program.module;
    let function = &module.functions[program.entry];
    let message = program.has_message.then(|| border(module, arguments[0], function.arguments[0].ty));
    let reply = function.result.as_ref().map(|r| border(module, result, r.ty));
    let emits = program.emits.iter().map(|slot| {
        let global = |offset| {
            let private = program.privates.iter().find(|p| p.offset == offset);
            private.expect("an emit slot is made of two private variables").global
        };
        let (count, items) = (global(slot.count_offset), global(slot.items_offset));
        let TypeInner::Array { base, .. } = *inner(module, module.global_variables[items].ty) else {
            unreachable!("the library declares it as an array")
        };
        EmitBorder { count: decoder.globals[&count], item: border(module, decoder.globals[&items], base) }
    });
    Code {
        start,
        message,
        state,
        reply,
        emits: emits.collect(),
        fault: decoder.globals[&program.fault],
        ops: decoder.ops,
        leaves: decoder.leaves,
        memory: decoder.memory,
    }
}

fn border(module: &Module, at: Address, ty: Handle<Type>) -> Border {
    Border { at, leaves: leaves(module, inner(module, ty)) }
}

/// Where a function is and where it takes and leaves values.
struct Callee {
    start: u32,
    arguments: Vec<Address>,
    result: Address,
}

/// Where the value of an expression is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Not evaluated yet.
    None,
    /// A value.
    Value(Address),
    /// A value that is still where it was loaded from; see `borrow`.
    Borrowed(Address),
    /// A pointer into the memory: what the word at `moving` holds, plus `plus`.
    Pointer { moving: Address, plus: u32 },
    /// A pointer into a table.
    Table(super::code::TablePlace),
}

/// State of the decoding.
struct Decoder<'a> {
    program: &'a Program,
    module: &'a Module,
    ops: Vec<Op>,
    leaves: Vec<Box<[u32]>>,
    memory: Vec<u32>,
    constants: HashMap<Vec<u32>, Address>,
    globals: HashMap<Handle<GlobalVariable>, Address>,
    functions: HashMap<Handle<Function>, Callee>,
    /// A word that is always 0.
    zero: Address,
    /// A word that no index passes.
    unlimited: Address,
    /// Where the state is, and its type.
    state: Option<(Address, Handle<Type>)>,
    /// Some jump may go to the instruction after so many.
    label: usize,
}

impl<'a> Decoder<'a> {
    fn new(program: &'a Program) -> Self {
        let module = &program.module;
        let mut decoder = Self {
            program,
            module,
            ops: Vec::new(),
            leaves: Vec::new(),
            memory: Vec::new(),
            constants: HashMap::new(),
            globals: HashMap::new(),
            functions: HashMap::new(),
            zero: 0,
            unlimited: 0,
            state: None,
            label: 0,
        };
        decoder.zero = decoder.constant(0);
        decoder.unlimited = decoder.constant(u32::MAX);
        if program.state.is_some() {
            let last = module.functions[program.entry].arguments.last();
            let TypeInner::Pointer { base, .. } = *inner(module, last.expect("the state's").ty) else {
                unreachable!("the contract: the state's parameter is a pointer")
            };
            decoder.state = Some((decoder.reserve(words(module, inner(module, base))), base));
        }
        for (handle, variable) in module.global_variables.iter() {
            if variable.space == AddressSpace::Private {
                let at = decoder.reserve(words(module, inner(module, variable.ty)));
                decoder.globals.insert(handle, at);
            }
        }
        decoder
    }

    /// Words of the memory that nothing else uses.
    fn reserve(&mut self, words: u32) -> Address {
        let at = self.memory.len() as Address;
        self.memory.resize(self.memory.len() + words as usize, 0);
        at
    }

    /// The place of a constant word.
    fn constant(&mut self, word: u32) -> Address {
        self.constants(vec![word])
    }

    /// The place of a constant value; equal ones share it.
    fn constants(&mut self, value: Vec<u32>) -> Address {
        if let Some(at) = self.constants.get(&value) {
            return *at;
        }
        let at = self.reserve(value.len() as u32);
        self.memory[at as usize..].copy_from_slice(&value);
        self.constants.insert(value, at);
        at
    }

    /// Is this the entry or the handler that it calls? A pointer that these get is the state's, always.
    fn gets_state(&self, function: Handle<Function>) -> bool {
        let entry = self.program.entry;
        let is_handler =
            |s: &Statement| matches!(s, Statement::Call { function: called, .. } if *called == function);
        function == entry || self.module.functions[entry].body.iter().any(is_handler)
    }

    fn function(&mut self, handle: Handle<Function>) {
        let function = &self.module.functions[handle];
        let info = &self.program.info[handle];
        let module = self.module;
        let arguments: Vec<_> =
            function.arguments.iter().map(|a| self.reserve(words(module, inner(module, a.ty)))).collect();
        let result = function.result.as_ref().map_or(0, |r| words(module, inner(module, r.ty)));
        let result = self.reserve(result);
        let start = self.ops.len() as u32;
        self.label = self.ops.len();
        let mut body = Body {
            gets_state: self.gets_state(handle),
            decoder: self,
            function,
            info,
            borrowed: Vec::new(),
            continued: HashSet::new(),
            is_used: vec![false; function.expressions.len()],
            arguments: arguments.clone(),
            result,
            locals: HashMap::new(),
            places: vec![Place::None; function.expressions.len()],
            exits: Vec::new(),
        };
        body.locals();
        body.block(&function.body);
        body.decoder.ops.push(Op::Return);
        self.functions.insert(handle, Callee { start, arguments, result });
    }
}

/// One function in the making.
struct Body<'d, 'a> {
    decoder: &'d mut Decoder<'a>,
    function: &'a Function,
    info: &'a naga::valid::FunctionInfo,
    arguments: Vec<Address>,
    result: Address,
    locals: HashMap<Handle<naga::LocalVariable>, Address>,
    /// Is its pointer the state's?
    gets_state: bool,
    /// By the index of the expression, as the next.
    places: Vec<Place>,
    is_used: Vec<bool>,
    /// The expressions whose place is `Place::Borrowed`, those that are of no more use apart.
    borrowed: Vec<Handle<Expression>>,
    /// What the `continuing` block of the loop around the statement in hand uses, in the loop's body itself.
    continued: HashSet<Handle<Expression>>,
    /// Jumps out of the loops and switches around the statement in hand, innermost last.
    exits: Vec<statement::Exits>,
}

impl Body<'_, '_> {
    /// Gives every local variable its place, and its value whenever the function begins.
    fn locals(&mut self) {
        for (handle, local) in self.function.local_variables.iter() {
            let module = self.decoder.module;
            let count = words(module, inner(module, local.ty));
            let to = self.decoder.reserve(count);
            self.locals.insert(handle, to);
            let op = match local.init {
                Some(init) => {
                    let mut value = Vec::new();
                    constant(module, &self.function.expressions, init, &mut value);
                    let from = self.decoder.constants(value);
                    Op::copy(to, from, count)
                }
                None if count == 1 => Op::Set { to, from: self.decoder.zero },
                None => Op::Zero { to, words: count },
            };
            self.decoder.ops.push(op);
        }
    }
}
