//! Places: where variables are, and how values get there and back.

use super::{MOST_SCALARS, MOST_SCALARS_OF_A_VARIABLE, Operand, Refusal, Translator};
use crate::compile::jit::analysis::Path;
use crate::compile::jit::layout;
use crate::compile::jit::runtime::Service;
use crate::compile::shape;
use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, StackSlot, Type, Value, types};
use cranelift_frontend::Variable;
use naga::{Handle, Module, TypeInner};
use std::borrow::Cow;
use std::rc::Rc;

/// Bytes up to which a copy is a row of instructions and not a call.
const MOST_INLINE_COPY: u32 = 128;
/// Scalars of a table's element that are copied one by one.
const MOST_TABLE_SCALARS: u32 = 512;

/// Whose memory it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Memory {
    /// Nobody writes it during a run: the message, constants.
    Fixed,
    /// Only this run touches it: the stack, the private segment, the state, the memory of a workgroup.
    Own,
    /// A table: others may access it at the same time, in words.
    Table,
}

/// A place in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    pub base: Base,
    pub offset: i32,
    pub memory: Memory,
    /// It is valid wherever it is used, and this program does not change what is there: it may be loaded whenever the
    /// compiler likes. (Another kernel may, where a buffer is shared; what is loaded is old then, or new.) With an index
    /// in it that a condition keeps in range it is not valid everywhere.
    pub is_steady: bool,
}

/// What an address is counted from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Base {
    Value(Value),
    /// Kept in a variable, as [`Operand::Kept`] is.
    Kept(Variable),
}

impl Address {
    pub(super) fn new(base: Value, offset: i32, memory: Memory) -> Self {
        Self { base: Base::Value(base), offset, memory, is_steady: memory == Memory::Fixed }
    }

    pub(super) fn plus(self, bytes: u32) -> Self {
        Self { offset: self.offset + bytes as i32, ..self }
    }

    fn flags(self) -> MemFlagsData {
        // Never `aligned`: what a caller passes is aligned to 4 at least, and that is enough for plain accesses.
        match self.memory {
            _ if self.is_steady => fixed_flags(),
            Memory::Fixed => MemFlagsData::new().with_notrap().with_readonly(),
            _ => MemFlagsData::new().with_notrap(),
        }
    }
}

/// For what does not change during a run.
pub(super) fn fixed_flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_readonly().with_can_move()
}

/// Where a variable or a part of it is.
pub(super) enum Place {
    /// A scalar in a register.
    Scalar(Variable),
    /// A vector of four in one register.
    Packed(Variable),
    /// A component of such a one, to be read.
    Lane(Variable, u8),
    /// Members, elements, columns or components.
    Parts(Vec<Rc<Place>>),
    /// In memory, as a whole.
    Memory(Address),
}

impl Place {
    /// A part of it, by a constant index; `inner` is the type of the whole.
    pub(super) fn part(self: &Rc<Self>, inner: &TypeInner, index: u32) -> Rc<Self> {
        match &**self {
            Self::Parts(parts) => parts[index as usize].clone(),
            Self::Packed(variable) => Rc::new(Self::Lane(*variable, index as u8)),
            Self::Memory(at) => Rc::new(Self::Memory(at.plus(layout::offset(inner, index)))),
            Self::Scalar(_) | Self::Lane(..) => unreachable!("validated: a scalar has no parts"),
        }
    }
}

impl Home {
    fn plus(self, bytes: u32) -> Self {
        match self {
            Self::Stack => Self::Stack,
            Self::At(at) => Self::At(at.plus(bytes)),
        }
    }
}

/// Must it be in memory as a whole?
fn in_memory(module: &Module, inner: &TypeInner, indexed: &[&[u32]]) -> bool {
    let is_array = matches!(inner, TypeInner::Array { .. });
    indexed.iter().any(|path| path.is_empty()) || (is_array && shape::words(module, inner) > MOST_SCALARS)
}

/// The paths that go into a part, from there on.
fn inside<'i>(indexed: &[&'i [u32]], index: u32) -> Vec<&'i [u32]> {
    indexed.iter().filter(|path| path.first() == Some(&index)).map(|path| &path[1..]).collect()
}

/// The type of the part that a constant index names.
pub(super) fn part_type<'m>(module: &'m Module, inner: &TypeInner, index: u32) -> Cow<'m, TypeInner> {
    match *inner {
        TypeInner::Struct { ref members, .. } => {
            Cow::Borrowed(shape::inner(module, members[index as usize].ty))
        }
        TypeInner::Array { base, .. } => Cow::Borrowed(shape::inner(module, base)),
        TypeInner::Matrix { rows, scalar, .. } => Cow::Owned(TypeInner::Vector { size: rows, scalar }),
        TypeInner::Vector { scalar, .. } => Cow::Owned(TypeInner::Scalar(scalar)),
        _ => unreachable!("validated: only composite types have parts"),
    }
}

/// What a pointer points to; other types are themselves.
pub(super) fn pointee<'m>(module: &'m Module, inner: &'m TypeInner) -> Cow<'m, TypeInner> {
    match *inner {
        TypeInner::Pointer { base, .. } => Cow::Borrowed(shape::inner(module, base)),
        TypeInner::ValuePointer { size: Some(size), scalar, .. } => {
            Cow::Owned(TypeInner::Vector { size, scalar })
        }
        TypeInner::ValuePointer { size: None, scalar, .. } => Cow::Owned(TypeInner::Scalar(scalar)),
        _ => Cow::Borrowed(inner),
    }
}

/// Where the parts of a variable are that must be in memory.
#[derive(Clone, Copy)]
pub(super) enum Home {
    Stack,
    At(Address),
}

/// The state while a handler runs.
pub(super) struct TakenState {
    pub place: Rc<Place>,
    /// Its number among the handler's arguments.
    argument: u32,
    /// Scalars in registers: where they belong, and what they were.
    scalars: Vec<(Address, Variable, Value)>,
    /// Parts that are changed where they are: how far from the state's begin that is, a copy of what was there, and
    /// its bytes.
    backups: Vec<(i32, StackSlot, u32)>,
}

impl TakenState {
    /// Is there a copy of anything?
    pub(super) fn has_backups(&self) -> bool {
        !self.backups.is_empty()
    }
}

impl Translator<'_, '_> {
    pub(super) fn base(&mut self, at: Address) -> Value {
        match at.base {
            Base::Value(value) => value,
            Base::Kept(variable) => self.builder.use_var(variable),
        }
    }

    /// The address as a number.
    pub(super) fn address_value(&mut self, at: Address) -> Value {
        let base = self.base(at);
        if at.offset == 0 { base } else { self.ins().iadd_imm_s(base, i64::from(at.offset)) }
    }

    pub(super) fn load_scalar(&mut self, at: Address, offset: u32, ty: Type) -> Value {
        let at = at.plus(offset);
        let base = self.base(at);
        self.ins().load(ty, at.flags(), base, Offset32::new(at.offset))
    }

    pub(super) fn store_scalar(&mut self, at: Address, offset: u32, value: Value) {
        let at = at.plus(offset);
        let base = self.base(at);
        self.ins().store(at.flags(), value, base, Offset32::new(at.offset));
    }

    /// Copies bytes between places that do not overlap.
    fn copy_bytes(&mut self, to: Address, from: Address, bytes: u32) {
        if bytes > MOST_INLINE_COPY {
            let (to, from) = (self.address_value(to), self.address_value(from));
            let count = self.ins().iconst(types::I64, i64::from(bytes));
            self.call(Service::Copy, &[to, from, count]);
            return;
        }
        let mut done = 0;
        // All loads first would need many registers; one by one is as fast from and to the cache.
        for ty in [types::I8X16, types::I64, types::I32, types::I16, types::I8] {
            if ty == types::I8X16 && !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
                continue;
            }
            while bytes - done >= ty.bytes() {
                let value = self.load_scalar(from, done, ty);
                self.store_scalar(to, done, value);
                done += ty.bytes();
            }
        }
    }

    fn zero_bytes(&mut self, to: Address, bytes: u32) {
        if bytes > MOST_INLINE_COPY {
            let to = self.address_value(to);
            let count = self.ins().iconst(types::I64, i64::from(bytes));
            self.call(Service::Zero, &[to, count]);
            return;
        }
        let mut done = 0;
        for ty in [types::I64, types::I32, types::I16, types::I8] {
            while bytes - done >= ty.bytes() {
                let zero = self.ins().iconst(ty, 0);
                self.store_scalar(to, done, zero);
                done += ty.bytes();
            }
        }
    }

    /// Makes the place of a variable; `indexed` are the parts that must be in memory.
    pub(super) fn place(
        &mut self,
        ty: Handle<naga::Type>,
        indexed: &[Path],
        home: Home,
    ) -> Result<Rc<Place>, Refusal> {
        let inner = shape::inner(self.module, ty);
        let paths: Vec<&[u32]> = indexed.iter().map(Vec::as_slice).collect();
        if self.scalars_in_registers(inner, &paths) > MOST_SCALARS_OF_A_VARIABLE {
            return self.part(inner, &[&[]], home);
        }
        self.part(inner, &paths, home)
    }

    /// How many scalars of a variable would be in registers.
    fn scalars_in_registers(&self, inner: &TypeInner, indexed: &[&[u32]]) -> u32 {
        let words = shape::words(self.module, inner);
        if in_memory(self.module, inner, indexed) {
            return 0;
        }
        match inner {
            TypeInner::Struct { members, .. } => {
                let members = members.iter().zip(0..);
                members
                    .map(|(member, index)| {
                        let inner = shape::inner(self.module, member.ty);
                        self.scalars_in_registers(inner, &inside(indexed, index))
                    })
                    .sum()
            }
            _ => words,
        }
    }

    fn part(&mut self, inner: &TypeInner, indexed: &[&[u32]], home: Home) -> Result<Rc<Place>, Refusal> {
        if in_memory(self.module, inner, indexed) {
            let at = match home {
                Home::Stack => self.slot(layout::size(self.module, inner))?,
                Home::At(at) => at,
            };
            return Ok(Rc::new(Place::Memory(at)));
        }
        let mut parts = Vec::new();
        match *inner {
            TypeInner::Scalar(scalar) => {
                let variable = self.builder.declare_var(layout::machine_type(scalar.kind));
                return Ok(Rc::new(Place::Scalar(variable)));
            }
            TypeInner::Struct { ref members, .. } => {
                for (member, index) in members.iter().zip(0..) {
                    let inner_part = shape::inner(self.module, member.ty);
                    let home = home.plus(member.offset);
                    parts.push(self.part(inner_part, &inside(indexed, index), home)?);
                }
            }
            _ => {
                let module = self.module;
                for index in 0..shape::element(module, inner).count {
                    let element = part_type(module, inner, index);
                    let home = home.plus(layout::offset(inner, index));
                    parts.push(self.part(&element, &inside(indexed, index), home)?);
                }
            }
        }
        Ok(Rc::new(Place::Parts(parts)))
    }

    /// A value's scalars.
    pub(super) fn scalars(&mut self, operand: &Operand, inner: &TypeInner) -> Rc<[Value]> {
        match operand {
            Operand::Scalars(scalars) => scalars.clone(),
            Operand::Kept(variables) => variables.iter().map(|v| self.builder.use_var(*v)).collect(),
            Operand::Packed(vector) => self.lanes(*vector),
            Operand::Bytes(at) => {
                let leaves = layout::leaves(self.module, inner);
                leaves.iter().map(|leaf| self.load_scalar(*at, leaf.offset, leaf.ty)).collect()
            }
            Operand::Zero => {
                let leaves = layout::leaves(self.module, inner);
                leaves.iter().map(|leaf| self.zero_scalar(leaf.ty)).collect()
            }
            Operand::Fuel => {
                let now = self.fuel.as_ref().expect("the lowered module has the variable").now;
                [self.builder.use_var(now)].into()
            }
            Operand::Pointer(_) => unreachable!("validated: a pointer is not a value"),
        }
    }

    /// Stores a value into a variable or table.
    pub(super) fn store(&mut self, place: &Place, inner: &TypeInner, value: &Operand) {
        match (place, value) {
            (Place::Packed(variable), _) => {
                let vector = self.pack(value, inner);
                self.builder.def_var(*variable, vector);
            }
            (Place::Memory(to), Operand::Packed(vector)) => self.store_scalar(*to, 0, *vector),
            (Place::Memory(to), _) if to.memory == Memory::Table => {
                self.write_out(*to, inner, value);
            }
            (Place::Memory(to), Operand::Bytes(from)) => {
                let bytes = layout::size(self.module, inner);
                self.copy_bytes(*to, *from, bytes);
            }
            (Place::Memory(to), Operand::Zero) => {
                let bytes = layout::size(self.module, inner);
                self.zero_bytes(*to, bytes);
            }
            (_, Operand::Zero | Operand::Bytes(_)) => self.spread(place, inner, 0, value),
            _ => {
                let scalars = self.scalars(value, inner);
                self.store_scalars(place, inner, &mut scalars.iter().copied());
            }
        }
    }

    fn store_scalars(&mut self, place: &Place, inner: &TypeInner, scalars: &mut dyn Iterator<Item = Value>) {
        match place {
            Place::Scalar(variable) => {
                let value = scalars.next().expect("a value has as many scalars as its place");
                self.builder.def_var(*variable, value);
            }
            Place::Memory(to) => {
                for leaf in layout::leaves(self.module, inner) {
                    let value = scalars.next().expect("a value has as many scalars as its place");
                    self.store_scalar(*to, leaf.offset, value);
                }
            }
            Place::Parts(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let inner = part_type(self.module, inner, index as u32);
                    self.store_scalars(part, &inner, scalars);
                }
            }
            Place::Packed(_) | Place::Lane(..) => {
                unreachable!("a packed variable is a local one, and set as a whole")
            }
        }
    }

    /// Stores a large value into a variable that is not in memory as a whole; `offset` is into the value.
    fn spread(&mut self, place: &Place, inner: &TypeInner, offset: u32, value: &Operand) {
        match place {
            Place::Parts(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let offset = offset + layout::offset(inner, index as u32);
                    let inner = part_type(self.module, inner, index as u32);
                    self.spread(part, &inner, offset, value);
                }
            }
            _ => {
                let value = match value {
                    Operand::Bytes(from) => Operand::Bytes(from.plus(offset)),
                    other => other.clone(),
                };
                match place {
                    Place::Scalar(variable) => {
                        let scalar = self.scalars(&value, inner)[0];
                        self.builder.def_var(*variable, scalar);
                    }
                    _ => self.store(place, inner, &value),
                }
            }
        }
    }

    /// Writes a value's scalars where others see them; padding is left alone.
    pub(super) fn write_out(&mut self, to: Address, inner: &TypeInner, value: &Operand) {
        if to.memory == Memory::Own && layout::is_dense(self.module, inner) {
            match value {
                Operand::Bytes(from) if from.memory != Memory::Table => {
                    return self.copy_bytes(to, *from, layout::size(self.module, inner));
                }
                Operand::Zero => return self.zero_bytes(to, layout::size(self.module, inner)),
                _ => {}
            }
        }
        match value {
            // One by one: a load of all first would fill the registers.
            Operand::Bytes(from) => {
                for leaf in layout::leaves(self.module, inner) {
                    let scalar = self.load_scalar(*from, leaf.offset, leaf.ty);
                    self.store_scalar(to, leaf.offset, scalar);
                }
            }
            _ => {
                let scalars = self.scalars(value, inner);
                for (leaf, scalar) in layout::leaves(self.module, inner).iter().zip(scalars.iter()) {
                    self.store_scalar(to, leaf.offset, *scalar);
                }
            }
        }
    }

    /// Fails for a value of a table that would have to be copied word by word, and is too large for that.
    pub(super) fn check_table_value(&self, inner: &TypeInner) -> Result<(), Refusal> {
        if shape::words(self.module, inner) > MOST_TABLE_SCALARS { Err(Refusal::TableValue) } else { Ok(()) }
    }

    /// The value of a variable or table now.
    pub(super) fn load(&mut self, place: &Place, inner: &TypeInner) -> Result<Operand, Refusal> {
        let is_table = matches!(place, Place::Memory(at) if at.memory == Memory::Table);
        if is_table {
            self.check_table_value(inner)?;
        }
        if shape::words(self.module, inner) <= MOST_SCALARS {
            let mut scalars = Vec::new();
            self.load_scalars(place, inner, &mut scalars);
            return Ok(Operand::Scalars(scalars.into()));
        }
        if let Place::Memory(at) = place
            && at.memory == Memory::Fixed
        {
            return Ok(Operand::Bytes(*at));
        }
        let copy = self.slot(layout::size(self.module, inner))?;
        self.take_copy(copy, place, inner);
        Ok(Operand::Bytes(copy))
    }

    fn load_scalars(&mut self, place: &Place, inner: &TypeInner, scalars: &mut Vec<Value>) {
        match place {
            Place::Scalar(variable) => scalars.push(self.builder.use_var(*variable)),
            Place::Memory(at) => {
                for leaf in layout::leaves(self.module, inner) {
                    scalars.push(self.load_scalar(*at, leaf.offset, leaf.ty));
                }
            }
            Place::Parts(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let inner = part_type(self.module, inner, index as u32);
                    self.load_scalars(part, &inner, scalars);
                }
            }
            Place::Packed(variable) => {
                let vector = self.builder.use_var(*variable);
                scalars.extend_from_slice(&self.lanes(vector));
            }
            Place::Lane(variable, lane) => {
                let vector = self.builder.use_var(*variable);
                scalars.push(self.ins().extractlane(vector, *lane));
            }
        }
    }

    /// Copies what is at a place into memory of our own.
    fn take_copy(&mut self, to: Address, place: &Place, inner: &TypeInner) {
        match place {
            Place::Packed(_) | Place::Lane(..) => unreachable!("a vector is never too large for registers"),
            Place::Scalar(variable) => {
                let value = self.builder.use_var(*variable);
                self.store_scalar(to, 0, value);
            }
            Place::Memory(from) if from.memory == Memory::Table => {
                self.write_out(to, inner, &Operand::Bytes(*from));
            }
            Place::Memory(from) => {
                let bytes = layout::size(self.module, inner);
                self.copy_bytes(to, *from, bytes);
            }
            Place::Parts(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let to = to.plus(layout::offset(inner, index as u32));
                    let inner = part_type(self.module, inner, index as u32);
                    self.take_copy(to, part, &inner);
                }
            }
        }
    }

    /// Writes a part of a value into memory of our own.
    pub(super) fn put(&mut self, to: Address, inner: &TypeInner, value: &Operand) {
        self.store(&Place::Memory(to), inner, value);
    }

    /// Takes the scalars of the state into registers. What must be in memory stays where it is, with a backup of
    /// what is written, because a run that does not come to its end must not have changed it.
    pub(super) fn take_state(
        &mut self,
        state: Value,
        ty: Handle<naga::Type>,
        argument: u32,
    ) -> Result<TakenState, Refusal> {
        let at = Address::new(state, 0, Memory::Own);
        let indexed = self.analysis.facts(self.program.entry).argument(argument);
        let place = self.place(ty, indexed, Home::At(at))?;
        let mut taken =
            TakenState { place: place.clone(), argument, scalars: Vec::new(), backups: Vec::new() };
        self.take_part(&mut taken, &place, shape::inner(self.module, ty), at, &mut Vec::new())?;
        Ok(taken)
    }

    fn take_part(
        &mut self,
        taken: &mut TakenState,
        place: &Place,
        inner: &TypeInner,
        at: Address,
        path: &mut Path,
    ) -> Result<(), Refusal> {
        match place {
            Place::Scalar(variable) => {
                let TypeInner::Scalar(scalar) = *inner else { unreachable!("a scalar's place") };
                let value = self.load_scalar(at, 0, layout::machine_type(scalar.kind));
                self.builder.def_var(*variable, value);
                taken.scalars.push((at, *variable, value));
            }
            Place::Packed(_) | Place::Lane(..) => unreachable!("a packed variable is a local one"),
            Place::Memory(_) => {
                let facts = self.analysis.facts(self.program.entry);
                // Without loops and outputs a run always comes to its end.
                let can_fail = self.program.may_fault();
                let is_changed = can_fail && facts.is_stored(taken.argument, path);
                self.lacks_backups |= is_changed && !self.keeps_backups;
                if is_changed && self.keeps_backups {
                    let bytes = layout::size(self.module, inner);
                    let slot = self.stack_slot(bytes)?;
                    let backup = self.slot_address(slot);
                    self.copy_bytes(backup, at, bytes);
                    taken.backups.push((at.offset, slot, bytes));
                }
            }
            Place::Parts(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let at = at.plus(layout::offset(inner, index as u32));
                    let inner = part_type(self.module, inner, index as u32);
                    path.push(index as u32);
                    self.take_part(taken, part, &inner, at, path)?;
                    path.pop();
                }
            }
        }
        Ok(())
    }

    /// Puts the scalars of the state back into the caller's memory.
    pub(super) fn commit_state(&mut self, taken: &TakenState) {
        for (at, variable, before) in &taken.scalars {
            let value = self.builder.use_var(*variable);
            if value != *before {
                self.store_scalar(*at, 0, value);
            }
        }
    }

    /// Undoes what was written to the caller's memory: the state is at `state`.
    pub(super) fn restore_state(&mut self, taken: &TakenState, state: Value) {
        for (offset, slot, bytes) in &taken.backups {
            let backup = self.slot_address(*slot);
            self.copy_bytes(Address::new(state, *offset, Memory::Own), backup, *bytes);
        }
    }
}
