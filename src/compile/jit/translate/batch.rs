//! The loop around a handler that takes many messages from a ring and puts what comes out into another.
//!
//! What a call costs, about as much as a small handler, is paid once for all of them, and the compiler moves what is
//! the same for every message out of the loop.

use super::place::{self, Address, Memory};
use super::{DONE, NO_INSTANCE, Place, STOPPED, Translator};
use crate::compile::jit::runtime::{BatchRun, head};
use crate::compile::jit::{layout, sizes};
use crate::compile::{EmitSlot, shape};
use crate::wire::{KIND_EMIT, KIND_REPLY, SlotHeader};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::immediates::Offset32;
use cranelift_codegen::ir::{self, BlockArg, InstBuilder, MemFlagsData, Type, Value, types};
use naga::{Expression as E, GlobalVariable, Handle, TypeInner};
use std::mem::offset_of;

/// Values emitted to one output that are copied without a loop.
const MOST_COPIES: u32 = 4;

/// Where the headers of slots have what they have, and where the payload begins.
const TOKEN: i32 = offset_of!(SlotHeader, token) as i32;
const HEAD: i32 = offset_of!(SlotHeader, kind) as i32;
const PAYLOAD: i32 = size_of::<SlotHeader>() as i32;

/// The loop while it is translated.
#[derive(Clone, Copy)]
pub(super) struct Batch {
    head: ir::Block,
    /// The slot of the message in hand.
    pub index: Value,
    /// The next slot to fill.
    pub next: Value,
    /// The address of the state.
    pub state: Value,
    /// Of the message in hand.
    token: Value,
    output: Ring,
    /// The array of emitted values that is not needed, as they go into their slots at once: that of the only output.
    direct: Option<Handle<GlobalVariable>>,
}

/// A ring of slots, whose numbers have 64 bits.
#[derive(Clone, Copy)]
struct Ring {
    base: Value,
    mask: Value,
    stride: u32,
}

impl Translator<'_, '_> {
    /// A field of what the batch is described by, which does not change before the batch is left.
    fn of_run(&mut self, ty: Type, offset: usize) -> Value {
        let run = self.context;
        self.ins().load(ty, place::fixed_flags(), run, Offset32::new(offset as i32))
    }

    /// The address of a slot.
    fn ring_slot(&mut self, ring: Ring, index: Value) -> Value {
        let index = self.ins().band(index, ring.mask);
        let bytes = self.ins().imul_imm_u(index, i64::from(ring.stride));
        self.ins().iadd(ring.base, bytes)
    }

    /// Begins the function and, in it, the loop; what follows handles one message. The address of its state.
    pub(super) fn begin_batch(&mut self) -> Value {
        let tables = self.of_run(types::I64, offset_of!(BatchRun, tables));
        self.tables(tables);
        self.privates = self.of_run(types::I64, offset_of!(BatchRun, privates));
        let stop_at = self.of_run(types::I32, offset_of!(BatchRun, stop_at));
        let stop_word = self.of_run(types::I64, offset_of!(BatchRun, stop_word));
        let [first, first_output] = [offset_of!(BatchRun, input_next), offset_of!(BatchRun, output_next)]
            .map(|offset| self.of_run(types::I64, offset));
        let sizes = sizes(self.program);
        let input = Ring {
            base: self.of_run(types::I64, offset_of!(BatchRun, input)),
            mask: self.of_run(types::I64, offset_of!(BatchRun, input_mask)),
            stride: sizes.input_slot,
        };
        let output = Ring {
            base: self.of_run(types::I64, offset_of!(BatchRun, output)),
            mask: self.of_run(types::I64, offset_of!(BatchRun, output_mask)),
            stride: sizes.output_slot,
        };

        self.prepare_interruption(&[first, first_output, self.context]);
        let head = self.builder.create_block();
        self.ins().jump(head, &[BlockArg::Value(first), BlockArg::Value(first_output)]);
        self.builder.switch_to_block(head);
        let index = self.builder.append_block_param(head, types::I64);
        let next = self.builder.append_block_param(head, types::I64);
        let mut batch = Batch {
            head,
            index,
            next,
            state: self.context,
            token: index,
            output,
            direct: self.direct_items(),
        };

        let run = Address::new(self.context, 0, Memory::Own);
        let end = self.load_scalar(run, offset_of!(BatchRun, input_end) as u32, types::I64);
        let is_over = self.ins().icmp(IntCC::Equal, index, end);
        self.leave_batch_if(batch, is_over, DONE);
        // Before the look at the stop word, as `Batch::each` does.
        self.tell_waiting(index);
        let word = self.ins().atomic_load(types::I32, MemFlagsData::trusted(), stop_word);
        let is_stopped = self.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, word, stop_at);
        self.leave_batch_if(batch, is_stopped, STOPPED);

        let slot = self.ring_slot(input, index);
        batch.token = self.ins().load(types::I64, place::fixed_flags(), slot, Offset32::new(TOKEN));
        self.message = self.ins().iadd_imm_s(slot, i64::from(PAYLOAD));
        if self.program.state.is_some() {
            batch.state = self.batch_state(batch, slot);
        }
        self.batch = Some(batch);
        batch.state
    }

    /// Says how many messages behind the next one have not begun.
    fn tell_waiting(&mut self, index: Value) {
        let waiting = self.of_run(types::I64, offset_of!(BatchRun, waiting));
        let last = self.of_run(types::I64, offset_of!(BatchRun, last_waiting));
        let count = self.ins().isub(last, index);
        // Release pairs with the Acquire in the mailbox's count of free places: a place seen free is free.
        if cfg!(target_arch = "x86_64") {
            // Every store releases there, and Cranelift keeps stores in their order; its atomic store is a fence.
            self.ins().store(MemFlagsData::trusted(), count, waiting, Offset32::new(0));
        } else {
            self.ins().atomic_store(MemFlagsData::trusted(), count, waiting);
        }
    }

    /// The address of the state that a message is for.
    fn batch_state(&mut self, batch: Batch, slot: Value) -> Value {
        let states = self.of_run(types::I64, offset_of!(BatchRun, states));
        let Some(at) = self.program.instance_at else { return states };
        let [first, count] = [offset_of!(BatchRun, first_instance), offset_of!(BatchRun, instances)]
            .map(|offset| self.of_run(types::I32, offset));
        let at = Offset32::new(PAYLOAD + at as i32);
        let number = self.ins().load(types::I32, place::fixed_flags(), slot, at);
        let number = self.ins().isub(number, first);
        let is_nowhere = self.ins().icmp(IntCC::UnsignedGreaterThanOrEqual, number, count);
        self.leave_batch_if(batch, is_nowhere, NO_INSTANCE);
        let number = self.ins().uextend(types::I64, number);
        let size = i64::from(self.program.state_size());
        let bytes = self.ins().imul_imm_u(number, size);
        self.ins().iadd(states, bytes)
    }

    fn leave_batch_if(&mut self, batch: Batch, condition: Value, code: u32) {
        let [out, on] = [(); 2].map(|()| self.builder.create_block());
        self.builder.set_cold_block(out);
        self.ins().brif(condition, out, &[], on, &[]);
        self.builder.seal_block(out);
        self.builder.seal_block(on);
        self.builder.switch_to_block(out);
        let code = self.number(code);
        self.leave_batch(batch, code);
        self.builder.switch_to_block(on);
    }

    /// If the batch may have to be run again, lets it end with the message in hand, which takes long: so that what is
    /// run again never does.
    pub(super) fn end_batch_soon(&mut self) {
        if let Some(batch) = self.batch
            && self.lacks_backups
        {
            let run = Address::new(self.context, 0, Memory::Own);
            let end = self.ins().iadd_imm_s(batch.index, 1);
            self.store_scalar(run, offset_of!(BatchRun, input_end) as u32, end);
        }
    }

    /// Ends the function; the message in hand does not count.
    pub(super) fn leave_batch(&mut self, batch: Batch, code: Value) {
        let run = Address::new(self.context, 0, Memory::Own);
        self.store_scalar(run, offset_of!(BatchRun, input_next) as u32, batch.index);
        self.store_scalar(run, offset_of!(BatchRun, output_next) as u32, batch.next);
        self.ins().return_(&[code]);
    }

    /// Puts the values that the message emitted into slots; returns the next slot, and where the reply goes in it.
    pub(super) fn batch_outputs(&mut self, batch: &mut Batch) -> Address {
        for (slot, kind) in self.program.emits.iter().zip(KIND_EMIT..) {
            let count = self.emitted(slot);
            let wide = self.ins().uextend(types::I64, count);
            if batch.direct.is_some() {
                batch.next = self.ins().iadd(batch.next, wide);
                continue;
            }
            let most = self.known_integer(count).unwrap_or(slot.max);
            if most <= MOST_COPIES {
                self.send_few(batch, slot, kind, count, most);
            } else {
                self.send_many(batch, slot, kind, count);
            }
            batch.next = self.ins().iadd(batch.next, wide);
        }
        let slot = self.ring_slot(batch.output, batch.next);
        Address::new(slot, PAYLOAD, Memory::Own)
    }

    /// The array of the values emitted to the only output, if a slot has room for what the handler writes of one.
    fn direct_items(&self) -> Option<Handle<GlobalVariable>> {
        let [slot] = self.program.emits.as_slice() else { return None };
        let items = self.program.privates.iter().find(|p| p.offset == slot.items_offset)?.global;
        let inner = shape::inner(self.module, self.module.global_variables[items].ty);
        let TypeInner::Array { base, .. } = *inner else { return None };
        let size = layout::size(self.module, shape::inner(self.module, base));
        // A payload is padded to 16 bytes.
        (size <= slot.size.next_multiple_of(16)).then_some(items)
    }

    /// Where the emitted value with this number goes, if that is its slot; the slot gets its header.
    pub(super) fn emitted_value(&mut self, array: &E, number: Value) -> Option<Address> {
        let batch = self.batch?;
        if *array != E::GlobalVariable(batch.direct?) {
            return None;
        }
        let number = self.ins().uextend(types::I64, number);
        let index = self.ins().iadd(batch.next, number);
        let slot = self.ring_slot(batch.output, index);
        let slot = Address::new(slot, PAYLOAD, Memory::Own);
        self.slot_header(
            Address { offset: 0, ..slot },
            batch.token,
            head(KIND_EMIT, self.program.emits[0].size),
        );
        Some(slot)
    }

    /// How many values were emitted to an output.
    pub(super) fn emitted(&mut self, slot: &EmitSlot) -> Value {
        let private = self.program.privates.iter().find(|p| p.offset == slot.count_offset);
        let global = private.expect("an emit slot is made of two private variables").global;
        let Place::Scalar(count) = *self.globals[&global].clone() else {
            unreachable!("a u32 is one scalar")
        };
        self.builder.use_var(count)
    }

    fn send_few(&mut self, batch: &Batch, slot: &EmitSlot, kind: u32, count: Value, most: u32) {
        let is_certain = self.known_integer(count).is_some();
        let end = self.builder.create_block();
        for number in 0..most {
            if !is_certain {
                let more = self.builder.create_block();
                let is_there = self.ins().icmp_imm_u(IntCC::UnsignedGreaterThan, count, i64::from(number));
                self.ins().brif(is_there, more, &[], end, &[]);
                self.builder.seal_block(more);
                self.builder.switch_to_block(more);
            }
            let number = self.number(number);
            self.send(batch, slot, kind, number);
        }
        self.ins().jump(end, &[]);
        self.builder.seal_block(end);
        self.builder.switch_to_block(end);
    }

    fn send_many(&mut self, batch: &Batch, slot: &EmitSlot, kind: u32, count: Value) {
        let [head, copy, end] = [(); 3].map(|()| self.builder.create_block());
        let number = self.builder.append_block_param(head, types::I32);
        let none = self.number(0);
        self.ins().jump(head, &[BlockArg::Value(none)]);
        self.builder.switch_to_block(head);
        let is_over = self.ins().icmp(IntCC::Equal, number, count);
        self.ins().brif(is_over, end, &[], copy, &[]);
        self.builder.seal_block(copy);
        self.builder.switch_to_block(copy);
        self.send(batch, slot, kind, number);
        let number = self.ins().iadd_imm_s(number, 1);
        self.ins().jump(head, &[BlockArg::Value(number)]);
        self.builder.seal_block(head);
        self.builder.seal_block(end);
        self.builder.switch_to_block(end);
    }

    /// Copies one emitted value into its slot.
    fn send(&mut self, batch: &Batch, slot: &EmitSlot, kind: u32, number: Value) {
        let number = self.ins().uextend(types::I64, number);
        let index = self.ins().iadd(batch.next, number);
        let to = self.ring_slot(batch.output, index);
        let to = Address::new(to, 0, Memory::Own);
        self.slot_header(to, batch.token, head(kind, slot.size));
        let bytes = self.ins().imul_imm_u(number, i64::from(slot.stride));
        let privates = self.privates;
        let from = self.ins().iadd(privates, bytes);
        let from = Address::new(from, slot.items_offset as i32, Memory::Own);
        // Word by word, as it was written a moment ago: a wider load would have to wait for the cache.
        for at in (0..slot.size).step_by(4) {
            let word = self.load_scalar(from, at, types::I32);
            self.store_scalar(to, PAYLOAD as u32 + at, word);
        }
    }

    fn slot_header(&mut self, slot: Address, token: Value, head: u64) {
        let head = self.ins().iconst(types::I64, head as i64);
        self.store_scalar(slot, TOKEN as u32, token);
        self.store_scalar(slot, HEAD as u32, head);
    }

    /// The message is handled, its reply is in its slot: on to the next one.
    pub(super) fn end_message(&mut self, batch: Batch, reply: Address) {
        let head = head(KIND_REPLY, self.program.signature.reply.size);
        self.slot_header(Address { offset: 0, ..reply }, batch.token, head);
        let index = self.ins().iadd_imm_s(batch.index, 1);
        let next = self.ins().iadd_imm_s(batch.next, 1);
        self.ins().jump(batch.head, &[BlockArg::Value(index), BlockArg::Value(next)]);
        self.builder.seal_block(batch.head);
    }
}
