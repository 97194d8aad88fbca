//! From a lowered handler to Cranelift's IR: one function for the whole handler.
//!
//! Every call is inlined (WGSL has no recursion), vectors, matrices and structs are their scalars, and variables are
//! SSA values except for the parts that are indexed dynamically, which are in memory. What comes out is bounded:
//! a handler that would need more than the limits below is left to the interpreter.

mod batch;
mod bounds;
mod choice;
mod constant;
mod expression;
mod inline;
mod math;
mod packed;
mod place;
mod statement;
mod unroll;
mod whole;

use super::analysis::Analysis;
use super::layout;
use super::runtime::{Context, Fixed, Service, Signature};
use crate::compile::shape;
use crate::compile::{Program, TableView};
pub(super) use constant::Constants;
use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::{
    self, AbiParam, InstBuilder, SigRef, StackSlot, StackSlotData, StackSlotKind, Type, Value, types,
};
use cranelift_codegen::isa::TargetIsa;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use naga::{AddressSpace, Function, GlobalVariable, Handle, Module, StorageAccess, TypeInner};
use place::{Address, Home, Memory, Place};
use std::collections::{HashMap, HashSet};
use std::mem::offset_of;
use std::rc::Rc;

/// Loop iterations between two looks at whether the run must stop.
pub(super) const STOP_INTERVAL: u32 = 2048;

/// Scalars of a value that is kept in registers; a larger one is a piece of memory.
const MOST_SCALARS: u32 = 32;
/// Scalars of a variable that are kept in registers, arrays aside; more would only be spilled.
const MOST_SCALARS_OF_A_VARIABLE: u32 = 128;
/// Instructions of Cranelift's IR: bounds the time and memory of a compilation (at most 0.1 s, measured with loops and
/// branches).
const MOST_INSTRUCTIONS: usize = 30_000;
/// Calls that are inlined: bounds what calls of empty functions cost.
const MOST_CALLS: usize = 3_000;
/// Bytes of variables, and of copies of them, on the stack; the front allows 64 KiB of variables.
const MOST_STACK: u32 = 96 << 10;
/// Blocks and calls inside each other: bounds the recursion of the translation itself.
const MOST_DEPTH: u32 = 1_000;

/// Why a handler is not translated; the interpreter runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Instructions,
    Calls,
    Stack,
    Depth,
    TableValue,
}

impl Refusal {
    pub(super) fn engine(self) -> &'static str {
        match self {
            Self::Instructions => "interpreter: the handler is too large with its calls inlined",
            Self::Calls => "interpreter: the handler makes too many calls to inline",
            Self::Stack => "interpreter: the handler's variables need too much stack",
            Self::Depth => "interpreter: the handler's blocks and calls are too deep inside each other",
            Self::TableValue => "interpreter: the handler copies table elements that are too large",
        }
    }
}

/// Returned codes besides those of faults.
pub(super) const DONE: u32 = 0;
pub(super) const INTERRUPTED: u32 = u32::MAX;
/// Of a batch: by the stop word, between two messages.
pub(super) const STOPPED: u32 = u32::MAX - 1;
/// Of a batch: a message is for an instance that is not there.
pub(super) const NO_INSTANCE: u32 = u32::MAX - 2;

/// Which function of a handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// For one message.
    One,
    /// For many messages in a ring.
    Batch,
}

/// The value of an expression.
#[derive(Clone)]
enum Operand {
    /// Its scalars.
    Scalars(Rc<[Value]>),
    /// Its scalars, in variables: used where their computation need not dominate.
    Kept(Rc<[Variable]>),
    /// A vector of four in one register.
    Packed(Value),
    /// In memory that does not change as long as the value is used.
    Bytes(Address),
    /// All zero, and too large for scalars.
    Zero,
    /// A pointer.
    Pointer(Rc<Place>),
    /// What is left of the loop budget.
    Fuel,
}

/// The private variable `rt_fuel`, in two parts: iterations until the next look at the stop word, and the rest.
struct Fuel {
    global: Handle<GlobalVariable>,
    now: Variable,
    later: Variable,
    /// The whole budget.
    budget: u32,
}

/// The translation of one handler.
struct Translator<'p, 'b> {
    program: &'p Program,
    module: &'p Module,
    analysis: &'p Analysis,
    builder: FunctionBuilder<'b>,
    isa: &'p dyn TargetIsa,
    context: Value,
    message: Value,
    privates: Value,
    /// Of a function for one message.
    state: Value,
    globals: HashMap<Handle<GlobalVariable>, Rc<Place>>,
    /// The number of elements of each table that somebody asks for.
    lengths: HashMap<Handle<GlobalVariable>, Value>,
    /// The index of the last element of such a table in 64 bits, by its number of elements.
    lasts: HashMap<Value, Value>,
    /// The index in 64 bits that one in 32 bits was made of.
    wide: HashMap<Value, Value>,
    /// Those of them that are inside of their table wherever they are used, and not because of a condition there.
    inside: HashSet<Value>,
    fuel: Option<Fuel>,
    /// Where a run ends that has to stop.
    interrupted: Option<ir::Block>,
    /// The signature of what loops call.
    look: Option<SigRef>,
    /// What is known about values as long as the block in hand goes on.
    bounds: Vec<bounds::Bound>,
    /// Indices of tables that were looked at, likewise.
    clamped: Vec<bounds::Clamped>,
    signatures: Vec<(Signature, SigRef)>,
    constants: Constants,
    /// The loop around the handler.
    batch: Option<batch::Batch>,
    /// A run may end before the handler does.
    can_fail: bool,
    /// Whether state that is changed in memory has to be kept, because a run may end before the handler does.
    keeps_backups: bool,
    /// There would be some if it did.
    lacks_backups: bool,
    /// Floats that are known not to be NaN, with the least and greatest number they can be.
    ranges: HashMap<Value, (f32, f32)>,
    stack: u32,
    calls: usize,
    depth: u32,
}

/// A function while it is inlined.
struct Body<'p> {
    function: &'p Function,
    handle: Handle<Function>,
    info: &'p naga::valid::FunctionInfo,
    arguments: Vec<Operand>,
    locals: HashMap<Handle<naga::LocalVariable>, Rc<Place>>,
    /// By the index of the expression.
    values: Vec<Option<Operand>>,
    /// Loops and switches around the statement in hand, innermost last.
    exits: Vec<statement::Exit>,
    /// Where its `return`s go.
    end: ir::Block,
    /// Where a result goes that is not passed as scalars.
    result_place: Option<Address>,
}

/// A translated handler.
pub(super) struct Translated {
    pub function: ir::Function,
    pub constants: Constants,
    /// A message that is not handled to its end leaves a changed state: whoever runs the batch has to put an earlier
    /// one back, and to run the messages since then again.
    pub needs_replay: bool,
}

/// Translates a program; `constants` are those that there are already.
pub(super) fn translate<'p>(
    program: &'p Program,
    analysis: &'p Analysis,
    isa: &'p dyn TargetIsa,
    kind: Kind,
    constants: Constants,
) -> Result<Translated, Refusal> {
    // Often only the translation shows that nothing can fail, where short loops are unrolled: then the second one is
    // without copies of the state, which no run needs.
    // Of a batch, messages that were handled can be handled again, unless that would show in tables.
    let replays = kind == Kind::Batch && !analysis.writes_tables;
    let (translated, needs_no_backups) =
        translate_with(program, analysis, isa, kind, constants.clone(), !replays)?;
    if needs_no_backups {
        return Ok(translate_with(program, analysis, isa, kind, constants, false)?.0);
    }
    Ok(translated)
}

fn translate_with<'p>(
    program: &'p Program,
    analysis: &'p Analysis,
    isa: &'p dyn TargetIsa,
    kind: Kind,
    constants: Constants,
    keeps_backups: bool,
) -> Result<(Translated, bool), Refusal> {
    let mut function = ir::Function::new();
    function.signature.call_conv = isa.default_call_conv();
    // Context, message, state, reply, private segment, tables: what most handlers need is in registers at once. A
    // batch is described in memory.
    let count = if kind == Kind::One { 6 } else { 1 };
    function.signature.params.extend(std::iter::repeat_n(AbiParam::new(types::I64), count));
    function.signature.returns.push(AbiParam::new(types::I32));
    let mut builder_context = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut function, &mut builder_context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    let parameters: Vec<Value> = builder.block_params(entry).to_vec();
    let context = parameters[0];
    let mut translator = Translator {
        program,
        module: &program.module,
        analysis,
        builder,
        isa,
        context,
        message: context,
        privates: context,
        state: context,
        globals: HashMap::new(),
        lengths: HashMap::new(),
        lasts: HashMap::new(),
        wide: HashMap::new(),
        inside: HashSet::new(),
        fuel: None,
        interrupted: None,
        look: None,
        bounds: Vec::new(),
        clamped: Vec::new(),
        signatures: Vec::new(),
        constants,
        batch: None,
        can_fail: false,
        keeps_backups,
        lacks_backups: false,
        ranges: HashMap::new(),
        stack: 0,
        calls: 0,
        depth: 0,
    };
    let has_backups = match *parameters.as_slice() {
        [_, message, state, reply, privates, tables] => {
            (translator.message, translator.privates, translator.state) = (message, privates, state);
            translator.prepare_interruption(&[]);
            translator.tables(tables);
            translator.handler(state, reply)?
        }
        _ => {
            let state = translator.begin_batch();
            translator.handler(state, state)?
        }
    };
    let Translator { builder, constants, can_fail, lacks_backups, .. } = translator;
    builder.finalize(isa.frontend_config());
    let needs_replay = lacks_backups && can_fail;
    Ok((Translated { function, constants, needs_replay }, has_backups && !can_fail))
}

impl<'p, 'b> Translator<'p, 'b> {
    fn ins(&mut self) -> cranelift_frontend::FuncInstBuilder<'_, 'b> {
        self.builder.ins()
    }

    fn number(&mut self, value: u32) -> Value {
        self.ins().iconst(types::I32, i64::from(value))
    }

    fn float(&mut self, value: f32) -> Value {
        let constant = self.ins().f32const(value);
        if !value.is_nan() {
            self.ranges.insert(constant, (value, value));
        }
        constant
    }

    /// A part of what is fixed, by its offset.
    fn fixed(&mut self, offset: usize) -> Value {
        let (context, at) = (self.context, Offset32::new(offset_of!(Context, fixed) as i32));
        let fixed = self.ins().load(types::I64, place::fixed_flags(), context, at);
        self.ins().load(types::I64, place::fixed_flags(), fixed, Offset32::new(offset as i32))
    }

    /// What handles a message, to the end of the function; says whether it keeps copies of state.
    fn handler(&mut self, state: Value, reply: Value) -> Result<bool, Refusal> {
        self.private_variables()?;
        let entry = &self.module.functions[self.program.entry];
        let mut arguments = Vec::new();
        if self.program.has_message {
            arguments.push(Operand::Bytes(Address::new(self.message, 0, Memory::Fixed)));
        }
        let state = match (&self.program.state, entry.arguments.last()) {
            (Some(_), Some(parameter)) => {
                let TypeInner::Pointer { base, .. } = *shape::inner(self.module, parameter.ty) else {
                    unreachable!("the contract: the state's parameter is a pointer")
                };
                let state = self.take_state(state, base, (entry.arguments.len() - 1) as u32)?;
                arguments.push(Operand::Pointer(state.place.clone()));
                Some(state)
            }
            _ => None,
        };
        let result = self.inline(self.program.entry, arguments)?;
        self.finish(state.as_ref(), result, reply);
        Ok(state.is_some_and(|state| state.has_backups()))
    }

    /// Places of the tables, and the lengths of those that are asked for theirs.
    fn tables(&mut self, views: Value) {
        for (index, global) in self.program.table_globals.iter().enumerate() {
            let view = (index * size_of::<TableView>()) as i32;
            let at = Offset32::new(view + offset_of!(TableView, data) as i32);
            let data = self.ins().load(types::I64, place::fixed_flags(), views, at);
            let space = self.module.global_variables[*global].space;
            let is_own = space == AddressSpace::WorkGroup;
            let mut at = Address::new(data, 0, if is_own { Memory::Own } else { Memory::Table });
            // The buffer of a table that is only read is not written under another name: who binds them sees to that.
            let is_read_only =
                matches!(space, AddressSpace::Storage { access } if !access.contains(StorageAccess::STORE));
            at.is_steady = !self.analysis.writes_tables || is_read_only;
            self.globals.insert(*global, Rc::new(Place::Memory(at)));
            if self.analysis.measured.contains(global) {
                let at = Offset32::new(view + offset_of!(TableView, bytes) as i32);
                let bytes = self.ins().load(types::I64, place::fixed_flags(), views, at);
                let inner = shape::inner(self.module, self.module.global_variables[*global].ty);
                let part = shape::unsized_part(self.module, inner);
                let (before, stride) = part.unwrap_or_else(|| (0, layout::stride(inner)));
                // Past 16 GiB the number of a word would not fit into a word.
                let countable = i64::from(u32::MAX / (stride / 4));
                let elements = self.elements(bytes, before, stride, countable);
                let length = self.ins().ireduce(types::I32, elements);
                // Not by subtracting from the length: Cranelift computes what is that cheap wherever it is used, in
                // every iteration of a loop. A table has one element at least, which callers check.
                let last = self.elements(bytes, before + stride, stride, countable - 1);
                self.lasts.insert(length, last);
                self.lengths.insert(*global, length);
            }
        }
    }

    /// How many elements there are in so many bytes behind the first `before`, at most `most`.
    fn elements(&mut self, bytes: Value, before: u32, stride: u32, most: i64) -> Value {
        let bytes = if before == 0 { bytes } else { self.ins().iadd_imm_s(bytes, -i64::from(before)) };
        let elements = if stride.is_power_of_two() {
            self.ins().ushr_imm_u(bytes, i64::from(stride.trailing_zeros()))
        } else {
            self.ins().udiv_imm_u(bytes, i64::from(stride))
        };
        let most = self.ins().iconst(types::I64, most);
        self.ins().umin(elements, most)
    }

    /// Places of the private variables: in registers, or in the caller's private segment.
    fn private_variables(&mut self) -> Result<(), Refusal> {
        for slot in &self.program.privates {
            let variable = &self.module.global_variables[slot.global];
            let name = variable.name.as_deref().unwrap_or("");
            let home = Home::At(Address::new(self.privates, slot.offset as i32, Memory::Own));
            let place = if name == "rt_fuel" {
                let now = self.builder.declare_var(types::I32);
                let later = self.builder.declare_var(types::I32);
                self.fuel = Some(Fuel { global: slot.global, now, later, budget: 0 });
                Rc::new(Place::Scalar(now))
            } else if name.starts_with("rt_items_") {
                // Read by whoever takes the emitted values.
                Rc::new(Place::Memory(Address::new(self.privates, slot.offset as i32, Memory::Own)))
            } else {
                self.place(variable.ty, self.analysis.global(slot.global), home)?
            };
            self.globals.insert(slot.global, place);
        }
        Ok(())
    }

    /// Room on the stack.
    fn slot(&mut self, bytes: u32) -> Result<Address, Refusal> {
        let slot = self.stack_slot(bytes)?;
        Ok(self.slot_address(slot))
    }

    fn slot_address(&mut self, slot: StackSlot) -> Address {
        let base = self.ins().stack_addr(types::I64, slot, 0);
        Address::new(base, 0, Memory::Own)
    }

    fn stack_slot(&mut self, bytes: u32) -> Result<StackSlot, Refusal> {
        self.stack += bytes.next_multiple_of(16);
        if self.stack > MOST_STACK {
            return Err(Refusal::Stack);
        }
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes.max(1), 4);
        Ok(self.builder.create_sized_stack_slot(data))
    }

    /// Fails if there is too much already.
    fn check_size(&self) -> Result<(), Refusal> {
        if self.builder.func.dfg.num_insts() > MOST_INSTRUCTIONS {
            Err(Refusal::Instructions)
        } else {
            Ok(())
        }
    }

    /// Calls a service.
    fn call(&mut self, service: Service, arguments: &[Value]) -> Option<Value> {
        let signature = self.signature(service.signature());
        let services = self.fixed(offset_of!(Fixed, services));
        let at = Offset32::new((service as usize * size_of::<*const ()>()) as i32);
        let address = self.ins().load(types::I64, place::fixed_flags(), services, at);
        let call = self.ins().call_indirect(signature, address, arguments);
        self.builder.inst_results(call).first().copied()
    }

    /// Calls a service that returns something.
    fn ask(&mut self, service: Service, arguments: &[Value]) -> Value {
        self.call(service, arguments).expect("the service returns something")
    }

    fn signature(&mut self, wanted: Signature) -> SigRef {
        if let Some((_, known)) = self.signatures.iter().find(|(signature, _)| *signature == wanted) {
            return *known;
        }
        let (parameters, result): (&[Type], Option<Type>) = match wanted {
            Signature::Copy => (&[types::I64, types::I64, types::I64], None),
            Signature::Zero => (&[types::I64, types::I64], None),
            Signature::Float1 => (&[types::F32], Some(types::F32)),
            Signature::Float2 => (&[types::F32, types::F32], Some(types::F32)),
            Signature::ToBits => (&[types::F32], Some(types::I32)),
            Signature::FromBits => (&[types::I64], Some(types::F32)),
            Signature::Scale => (&[types::F32, types::I64], Some(types::F32)),
        };
        let mut signature = ir::Signature::new(self.isa.default_call_conv());
        signature.params.extend(parameters.iter().map(|ty| AbiParam::new(*ty)));
        signature.returns.extend(result.map(AbiParam::new));
        let made = self.builder.import_signature(signature);
        self.signatures.push((wanted, made));
        made
    }

    /// Ends the function: what the run found out becomes its result.
    fn finish(&mut self, state: Option<&place::TakenState>, result: Option<Operand>, reply: Value) {
        let fault = self.globals[&self.program.fault].clone();
        let Place::Scalar(fault) = *fault else { unreachable!("a u32 is one scalar") };
        let code = self.builder.use_var(fault);
        if self.known_integer(code) != Some(0) {
            self.can_fail = true;
            let [good, bad] = [(); 2].map(|()| self.builder.create_block());
            self.builder.set_cold_block(bad);
            self.ins().brif(code, bad, &[], good, &[]);
            self.builder.seal_block(bad);
            self.builder.seal_block(good);
            self.builder.switch_to_block(bad);
            self.fail(state, self.batch, code);
            self.builder.switch_to_block(good);
        }
        if let Some(state) = state {
            self.commit_state(state);
        }
        let mut batch = self.batch;
        let reply = match &mut batch {
            Some(batch) => self.batch_outputs(batch),
            None => Address::new(reply, 0, Memory::Own),
        };
        let entry = &self.module.functions[self.program.entry];
        if let (Some(result), Some(ty)) = (result, &entry.result) {
            self.write_out(reply, shape::inner(self.module, ty.ty), &result);
        }
        match batch {
            Some(batch) => self.end_message(batch, reply),
            None => {
                for slot in &self.program.emits {
                    let count = self.emitted(slot);
                    let at = Address::new(self.privates, slot.count_offset as i32, Memory::Own);
                    self.store_scalar(at, 0, count);
                }
                let done = self.number(DONE);
                self.ins().return_(&[done]);
            }
        }
        if let Some(block) = self.interrupted {
            self.builder.seal_block(block);
            self.builder.switch_to_block(block);
            // What it knows of the message in hand comes as parameters.
            if let (Some(batch), [index, next, state_now]) =
                (&mut self.batch, self.builder.block_params(block))
            {
                (batch.index, batch.next, batch.state) = (*index, *next, *state_now);
            }
            let code = self.number(INTERRUPTED);
            self.fail(state, self.batch, code);
        }
    }

    /// Ends the function; nothing of the message in hand counts.
    fn fail(&mut self, state: Option<&place::TakenState>, batch: Option<batch::Batch>, code: Value) {
        if let Some(state) = state {
            let at = batch.map_or(self.state, |batch| batch.state);
            self.restore_state(state, at);
        }
        match batch {
            Some(batch) => self.leave_batch(batch, code),
            None => {
                self.ins().return_(&[code]);
            }
        }
    }

    /// Goes one block or call deeper.
    fn deeper(&mut self) -> Result<(), Refusal> {
        self.depth += 1;
        if self.depth > MOST_DEPTH { Err(Refusal::Depth) } else { self.check_size() }
    }
}
