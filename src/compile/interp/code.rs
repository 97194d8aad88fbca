//! The decoded form of a handler and the machine that runs it.
//!
//! WGSL has no recursion, so every value, variable and argument of every function has one fixed place in a flat
//! memory of words; a pointer is the number of a word. Nothing is allocated while a handler runs.

use super::math::{Fn1, Fn2, Fn3};
use super::whole::{MOST, Operands, WholeFn};
use crate::compile::{Outcome, StopCheck, TableView};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// The number of a word in the memory.
pub(super) type Address = u32;

/// Loop iterations and calls between two looks at the stop word.
const STOP_INTERVAL: u32 = 4096;

/// An operand of a componentwise operation: a scalar stays where it is while a vector moves on.
#[derive(Clone, Copy)]
pub(super) struct Operand {
    pub at: Address,
    pub step: u32,
}

/// A place in a table: `words` from its begin, plus what the word at `moving` holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct TablePlace {
    pub table: u32,
    pub words: u32,
    pub moving: Address,
}

/// A pointer to an element: what `base` holds plus `stride` for each of `index`, which ends at `last`.
#[derive(Clone, Copy)]
pub(super) struct Path {
    pub base: Address,
    pub index: Address,
    pub last: Address,
    pub stride: u32,
}

/// Two operands and a result, a word each.
#[derive(Clone, Copy)]
pub(super) struct Scalars {
    pub to: Address,
    pub a: Address,
    pub b: Address,
}

/// One instruction; code addresses are indices of instructions.
pub(super) enum Op {
    /// A copy of one word.
    Set {
        to: Address,
        from: Address,
    },
    Copy {
        to: Address,
        from: Address,
        words: u32,
    },
    Zero {
        to: Address,
        words: u32,
    },
    /// The commonest operations, which need no call: on integers that wrap, and on floats.
    Add(Scalars),
    Subtract(Scalars),
    Multiply(Scalars),
    AddFloat(Scalars),
    SubtractFloat(Scalars),
    MultiplyFloat(Scalars),
    /// Operations on scalars.
    Unary {
        to: Address,
        a: Address,
        f: Fn1,
    },
    Binary {
        to: Address,
        a: Address,
        b: Address,
        f: Fn2,
    },
    Ternary {
        to: Address,
        a: Address,
        b: Address,
        c: Address,
        f: Fn3,
    },
    /// The same on each component of a vector.
    Map1 {
        to: Address,
        a: Address,
        words: u32,
        f: Fn1,
    },
    Map2 {
        to: Address,
        a: Operand,
        b: Operand,
        words: u32,
        f: Fn2,
    },
    Map3 {
        to: Address,
        a: Operand,
        b: Operand,
        c: Operand,
        words: u32,
        f: Fn3,
    },
    InsertBits {
        to: Address,
        e: Address,
        new: Address,
        offset: Address,
        count: Address,
        words: u32,
    },
    Whole {
        to: Address,
        words: u32,
        operation: Box<Whole>,
    },
    Unpack {
        to: Address,
        from: Address,
        count: u32,
        f: fn(u32, u32) -> u32,
    },
    Pack {
        to: Address,
        from: Address,
        count: u32,
        f: fn(&[u32]) -> u32,
    },
    /// `words` words of the value at `base`, from element `index`.
    Pick {
        to: Address,
        base: Address,
        index: Address,
        words: u32,
        count: u32,
    },
    /// A pointer.
    Move {
        to: Address,
        path: Path,
    },
    /// Through a pointer that is of no other use.
    LoadAt {
        to: Address,
        path: Path,
        plus: u32,
        words: u32,
    },
    /// Through a pointer: the word at `at` plus `words` is the address.
    Load {
        to: Address,
        at: Address,
        plus: u32,
        words: u32,
    },
    Store {
        at: Address,
        plus: u32,
        from: Address,
        words: u32,
    },
    /// One word of a table.
    TableWord {
        to: Address,
        place: TablePlace,
    },
    /// The same; `path` takes the place of `place.moving`.
    TableWordAt {
        to: Address,
        table: u32,
        words: u32,
        path: Path,
    },
    TableLoad {
        to: Address,
        place: TablePlace,
        leaves: u32,
    },
    TableStore {
        place: TablePlace,
        from: Address,
        leaves: u32,
    },
    /// Elements of a table.
    TableLength {
        to: Address,
        table: u32,
        /// Bytes in front of the array.
        before: u32,
        stride: u32,
    },
    Atomic {
        fun: Atomic,
        place: TablePlace,
        value: Address,
        compare: Address,
        to: Option<Address>,
    },
    Jump(u32),
    /// The jump back of a loop.
    Again(u32),
    /// A jump if the condition is `when`.
    JumpIf {
        condition: Address,
        when: bool,
        target: u32,
    },
    /// A jump if it is `when` that one unsigned integer is less than another.
    JumpIfLess {
        a: Address,
        b: Address,
        when: bool,
        target: u32,
    },
    /// The same with what computes a condition that is of no other use.
    JumpIfBinary {
        a: Address,
        b: Address,
        f: Fn2,
        when: bool,
        target: u32,
    },
    Switch {
        selector: Address,
        cases: Box<[(u32, u32)]>,
        default: u32,
    },
    Call(u32),
    Return,
}

impl Op {
    /// A copy of so many words.
    pub fn copy(to: Address, from: Address, words: u32) -> Self {
        if words == 1 { Self::Set { to, from } } else { Self::Copy { to, from, words } }
    }
}

/// An operation on whole vectors or matrices.
pub(super) struct Whole {
    pub f: WholeFn,
    pub operands: [(Address, u32); 3],
    pub size: [usize; 2],
    pub columns: usize,
}

/// What an atomic does to the word of a table.
#[derive(Clone, Copy)]
pub(super) enum Atomic {
    Add,
    Subtract,
    And,
    Or,
    Xor,
    MinSigned,
    MaxSigned,
    MinUnsigned,
    MaxUnsigned,
    Exchange,
    CompareExchange,
}

/// The memory of one run and what it borrows.
pub(super) struct Machine<'a> {
    pub memory: &'a mut [u32],
    /// Return addresses; as deep as the deepest call at most.
    pub calls: &'a mut Vec<u32>,
    pub code: &'a [Op],
    /// For each list, the words of a type in a table that hold its components, in order.
    pub leaves: &'a [Box<[u32]>],
    pub tables: &'a [TableView],
    pub stop: &'a StopCheck<'a>,
}

impl Machine<'_> {
    fn word(&self, at: Address) -> u32 {
        self.memory[at as usize]
    }

    fn set(&mut self, at: Address, value: u32) {
        self.memory[at as usize] = value;
    }

    #[inline(always)]
    fn integers(&mut self, Scalars { to, a, b }: Scalars, f: impl Fn(u32, u32) -> u32) {
        self.set(to, f(self.word(a), self.word(b)));
    }

    #[inline(always)]
    fn floats(&mut self, Scalars { to, a, b }: Scalars, f: impl Fn(f32, f32) -> f32) {
        self.set(to, f(f32::from_bits(self.word(a)), f32::from_bits(self.word(b))).to_bits());
    }

    fn operand(&self, operand: Operand, index: u32) -> u32 {
        self.word(operand.at + operand.step * index)
    }

    #[inline(always)]
    fn copy(&mut self, to: Address, from: Address, words: u32) {
        if words == 1 {
            self.set(to, self.word(from));
        } else {
            self.memory.copy_within(from as usize..(from + words) as usize, to as usize);
        }
    }

    fn follow(&self, path: Path) -> u32 {
        let index = self.word(path.index).min(self.word(path.last));
        self.word(path.base).wrapping_add(index.wrapping_mul(path.stride))
    }

    /// A word of a table.
    #[inline(always)]
    fn table_word(&self, table: u32, index: u32) -> &AtomicU32 {
        let view = &self.tables[table as usize];
        let index = index as usize;
        assert!((index + 1) * 4 <= view.bytes, "lowering keeps indices inside of the table");
        // SAFETY: the word is inside of the view, which its maker keeps valid and which is aligned to 4 bytes as
        // every element type is; others touch its words only by atomics while the handler runs.
        unsafe { AtomicU32::from_ptr(view.data.cast::<u32>().add(index)) }
    }

    /// Runs from an instruction until the outermost return.
    pub fn run(&mut self, start: u32) -> Outcome {
        let mut next = start as usize;
        let mut until_check = STOP_INTERVAL;
        self.calls.clear();
        loop {
            let op = &self.code[next];
            next += 1;
            // What handlers do most is here, so that it is found by one jump; `step` is a second one.
            match *op {
                Op::Set { to, from } => self.set(to, self.word(from)),
                Op::Add(scalars) => self.integers(scalars, u32::wrapping_add),
                Op::Subtract(scalars) => self.integers(scalars, u32::wrapping_sub),
                Op::Multiply(scalars) => self.integers(scalars, u32::wrapping_mul),
                Op::AddFloat(scalars) => self.floats(scalars, |a, b| a + b),
                Op::SubtractFloat(scalars) => self.floats(scalars, |a, b| a - b),
                Op::MultiplyFloat(scalars) => self.floats(scalars, |a, b| a * b),
                Op::Unary { to, a, f } => self.set(to, f(self.word(a))),
                Op::Binary { to, a, b, f } => self.set(to, f(self.word(a), self.word(b))),
                Op::Ternary { to, a, b, c, f } => self.set(to, f(self.word(a), self.word(b), self.word(c))),
                Op::Move { to, path } => self.set(to, self.follow(path)),
                Op::LoadAt { to, path, plus, words } => self.copy(to, self.follow(path) + plus, words),
                Op::Load { to, at, plus, words } => self.copy(to, self.word(at) + plus, words),
                Op::Store { at, plus, from, words } => self.copy(self.word(at) + plus, from, words),
                Op::TableWord { to, place } => {
                    // Relaxed, here and below: WGSL orders nothing between handlers but each atomic's own word.
                    let index = place.words + self.word(place.moving);
                    let word = self.table_word(place.table, index).load(Ordering::Relaxed);
                    self.set(to, word);
                }
                Op::TableWordAt { to, table, words, path } => {
                    let word = self.table_word(table, words + self.follow(path)).load(Ordering::Relaxed);
                    self.set(to, word);
                }
                Op::Jump(target) => next = target as usize,
                Op::JumpIf { condition, when, target } => {
                    if (self.word(condition) != 0) == when {
                        next = target as usize;
                    }
                }
                Op::JumpIfLess { a, b, when, target } => {
                    if (self.word(a) < self.word(b)) == when {
                        next = target as usize;
                    }
                }
                Op::JumpIfBinary { a, b, f, when, target } => {
                    if (f(self.word(a), self.word(b)) != 0) == when {
                        next = target as usize;
                    }
                }
                Op::Switch { selector, ref cases, default } => {
                    let value = self.word(selector);
                    let case = cases.iter().find(|(wanted, _)| *wanted == value);
                    next = case.map_or(default, |(_, target)| *target) as usize;
                }
                Op::Again(target) | Op::Call(target) => {
                    if matches!(op, Op::Call(_)) {
                        self.calls.push(next as u32);
                    }
                    next = target as usize;
                    until_check -= 1;
                    if until_check == 0 {
                        until_check = STOP_INTERVAL;
                        if self.stop.must_stop() {
                            return Outcome::Interrupted;
                        }
                    }
                }
                Op::Return => match self.calls.pop() {
                    Some(back) => next = back as usize,
                    None => return Outcome::Done,
                },
                _ => self.step(op),
            }
        }
    }

    /// Executes an instruction that `run` leaves to it.
    #[inline(never)]
    fn step(&mut self, op: &Op) {
        match *op {
            Op::Copy { to, from, words } => self.copy(to, from, words),
            Op::Zero { to, words } => self.memory[to as usize..(to + words) as usize].fill(0),
            Op::Map1 { to, a, words, f } => (0..words).for_each(|i| self.set(to + i, f(self.word(a + i)))),
            Op::Map2 { to, a, b, words, f } => {
                for i in 0..words {
                    self.set(to + i, f(self.operand(a, i), self.operand(b, i)));
                }
            }
            Op::Map3 { to, a, b, c, words, f } => {
                for i in 0..words {
                    self.set(to + i, f(self.operand(a, i), self.operand(b, i), self.operand(c, i)));
                }
            }
            Op::InsertBits { to, e, new, offset, count, words } => {
                for i in 0..words {
                    let (e, new) = (self.word(e + i), self.word(new + i));
                    self.set(to + i, super::math::insert_bits(e, new, self.word(offset), self.word(count)));
                }
            }
            Op::Whole { to, words, ref operation } => self.whole(to, words, operation),
            Op::Unpack { to, from, count, f } => {
                let word = self.word(from);
                (0..count).for_each(|i| self.set(to + i, f(word, i)));
            }
            Op::Pack { to, from, count, f } => {
                let word = f(&self.memory[from as usize..(from + count) as usize]);
                self.set(to, word);
            }
            Op::Pick { to, base, index, words, count } => {
                let index = self.word(index);
                debug_assert!(index < count, "lowering clamps indices");
                self.copy(to, base + index * words, words);
            }
            Op::TableLoad { to, place, leaves } => {
                let begin = place.words + self.word(place.moving);
                for (i, leaf) in self.leaves[leaves as usize].iter().enumerate() {
                    self.memory[to as usize + i] =
                        self.table_word(place.table, begin + leaf).load(Ordering::Relaxed);
                }
            }
            Op::TableStore { place, from, leaves } => {
                let begin = place.words + self.word(place.moving);
                for (i, leaf) in self.leaves[leaves as usize].iter().enumerate() {
                    let word = self.table_word(place.table, begin + leaf);
                    word.store(self.memory[from as usize + i], Ordering::Relaxed);
                }
            }
            Op::TableLength { to, table, before, stride } => {
                let elements = (self.tables[table as usize].bytes - before as usize) / stride as usize;
                // Past 16 GiB the number of a word would not fit into a word.
                let countable = u32::MAX / (stride / 4);
                self.set(to, countable.min(u32::try_from(elements).unwrap_or(u32::MAX)));
            }
            Op::Atomic { fun, place, value, compare, to } => {
                let (value, compare) = (self.word(value), self.word(compare));
                let index = place.words + self.word(place.moving);
                let old = atomic(fun, self.table_word(place.table, index), value, compare);
                if let Some(to) = to {
                    self.set(to, old);
                    if let Atomic::CompareExchange = fun {
                        self.set(to + 1, u32::from(old == compare));
                    }
                }
            }
            _ => unreachable!("`run` takes the others"),
        }
    }

    fn whole(&mut self, to: Address, words: u32, operation: &Whole) {
        let mut operands =
            Operands { words: [[0; MOST]; 3], size: operation.size, columns: operation.columns };
        for (words, (from, count)) in operands.words.iter_mut().zip(operation.operands) {
            let (from, count) = (from as usize, count as usize);
            words[..count].copy_from_slice(&self.memory[from..from + count]);
        }
        (operation.f)(&operands, &mut self.memory[to as usize..(to + words) as usize]);
    }
}

/// Does an atomic operation; returns what was there before.
fn atomic(fun: Atomic, word: &AtomicU32, value: u32, compare: u32) -> u32 {
    const RELAXED: Ordering = Ordering::Relaxed;
    // SAFETY: both types are the same four bytes, and both are accessed by atomics only.
    let signed = || unsafe { AtomicI32::from_ptr(word.as_ptr().cast()) };
    match fun {
        Atomic::Add => word.fetch_add(value, RELAXED),
        Atomic::Subtract => word.fetch_sub(value, RELAXED),
        Atomic::And => word.fetch_and(value, RELAXED),
        Atomic::Or => word.fetch_or(value, RELAXED),
        Atomic::Xor => word.fetch_xor(value, RELAXED),
        Atomic::MinUnsigned => word.fetch_min(value, RELAXED),
        Atomic::MaxUnsigned => word.fetch_max(value, RELAXED),
        Atomic::MinSigned => signed().fetch_min(value as i32, RELAXED) as u32,
        Atomic::MaxSigned => signed().fetch_max(value as i32, RELAXED) as u32,
        Atomic::Exchange => word.swap(value, RELAXED),
        Atomic::CompareExchange => {
            word.compare_exchange(compare, value, RELAXED, RELAXED).unwrap_or_else(|old| old)
        }
    }
}
