//! The interpreter: the reference for every other engine, and the engine where there is no other or where a handler is
//! too large for it.
//!
//! It decodes the lowered module once into a flat list of instructions (`decode`) and runs those (`code`). A value
//! is one word for each scalar in it; bytes in WGSL layout are met only at the borders, in messages, state, replies,
//! emitted values and tables.

mod code;
mod decode;
mod math;
mod pack;
#[cfg(test)]
mod tests;
mod whole;

use super::{Executable, FaultCode, Frame, Outcome, Program};
use crate::sync::{Mutex, lock};
use code::{Address, Machine, Op};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs a handler by interpreting its lowered form.
pub(crate) struct Interpreter {
    program: Arc<Program>,
    code: Code,
    spare: [Spare; PLACES],
}

/// Memories not in use: as many as there were runs at the same time. On a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Spare(Mutex<Vec<Memory>>);

/// Threads are spread over so many places for spare memories. All kernels that have the same handler share its
/// interpreter; with one place for all, two threads that ran two of them took 13 % longer.
const PLACES: usize = 16;

thread_local! {
    /// This thread's place: threads are numbered in the order in which they first run a handler.
    static PLACE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % PLACES
    };
}

/// A decoded handler.
struct Code {
    ops: Vec<Op>,
    leaves: Vec<Box<[u32]>>,
    /// The memory before the first run: constants in their places.
    memory: Vec<u32>,
    /// First instruction of the entry.
    start: u32,
    message: Option<Border>,
    state: Option<Border>,
    reply: Option<Border>,
    fault: Address,
    emits: Vec<EmitBorder>,
}

/// A value that is in memory as words and outside as bytes.
struct Border {
    at: Address,
    /// For each word, its place in the bytes, in words.
    leaves: Box<[u32]>,
}

struct EmitBorder {
    count: Address,
    /// The first value.
    item: Border,
}

/// What one run needs.
struct Memory {
    words: Vec<u32>,
    calls: Vec<u32>,
}

impl Border {
    fn read(&self, bytes: &[u8], memory: &mut [u32]) {
        for (to, leaf) in memory[self.at as usize..].iter_mut().zip(&self.leaves) {
            let from = *leaf as usize * 4;
            *to = u32::from_ne_bytes([bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]]);
        }
    }

    fn write(&self, words: &[u32], bytes: &mut [u8]) {
        for (word, leaf) in words.iter().zip(&self.leaves) {
            let to = *leaf as usize * 4;
            bytes[to..to + 4].copy_from_slice(&word.to_ne_bytes());
        }
    }
}

impl Interpreter {
    /// Decodes a program.
    pub fn new(program: Arc<Program>) -> Self {
        let code = decode::decode(&program);
        Self { program, code, spare: Default::default() }
    }

    fn finish(&self, memory: &[u32], frame: &mut Frame<'_>) -> Outcome {
        match memory[self.code.fault as usize] {
            0 => {}
            code => return Outcome::Fault(FaultCode::of(code)),
        }
        if let Some(state) = &self.code.state {
            state.write(&memory[state.at as usize..], frame.state);
        }
        if let Some(reply) = &self.code.reply {
            reply.write(&memory[reply.at as usize..], frame.reply);
        }
        for (slot, border) in self.program.emits.iter().zip(&self.code.emits) {
            let count = memory[border.count as usize];
            let at = slot.count_offset as usize;
            frame.privates[at..at + 4].copy_from_slice(&count.to_ne_bytes());
            let words = border.item.leaves.len();
            for i in 0..count as usize {
                let bytes = &mut frame.privates[(slot.items_offset + slot.stride * i as u32) as usize..];
                border.item.write(&memory[border.item.at as usize + i * words..], bytes);
            }
        }
        Outcome::Done
    }
}

impl Executable for Interpreter {
    fn run(&self, mut frame: Frame<'_>) -> Outcome {
        debug_assert!(frame.privates.len() >= self.program.privates_size as usize);
        debug_assert!(frame.state.len() >= self.program.state_size() as usize);
        debug_assert_eq!(frame.tables.len(), self.program.tables.len());
        let Spare(memories) = &self.spare[PLACE.with(|place| *place)];
        let spare = lock(memories).pop();
        let mut memory =
            spare.unwrap_or_else(|| Memory { words: self.code.memory.clone(), calls: Vec::new() });
        if let Some(message) = &self.code.message {
            message.read(frame.message, &mut memory.words);
        }
        if let Some(state) = &self.code.state {
            state.read(frame.state, &mut memory.words);
        }
        let mut machine = Machine {
            memory: &mut memory.words,
            calls: &mut memory.calls,
            code: &self.code.ops,
            leaves: &self.code.leaves,
            tables: frame.tables,
            stop: frame.stop,
        };
        let outcome = match machine.run(self.code.start) {
            Outcome::Done => self.finish(&memory.words, &mut frame),
            other => other,
        };
        lock(memories).push(memory);
        outcome
    }
}
