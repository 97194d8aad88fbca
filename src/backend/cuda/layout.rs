//! What host and resident kernel both see: granules, records, the words of a launch. The CUDA side is `ring.cuh`.

use crate::backend::{Completion, LaunchSpec, Shape};
use crate::compile::{EmitSlot, FaultCode};
use crate::message::Token;
use std::fmt::Write;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

/// What comes behind a handler's text: its rings, and the resident driver.
const DRIVER: &str = concat!(
    "#line 1 \"ringwork/bus.cuh\"\n",
    include_str!("../../../shaders/cuda/bus.cuh"),
    "#line 1 \"ringwork/ring.cuh\"\n",
    include_str!("../../../shaders/cuda/ring.cuh"),
    "#line 1 \"ringwork/resident.cuh\"\n",
    include_str!("../../../shaders/cuda/resident.cuh"),
);
/// Lanes of a warp.
pub(super) const WARP_SIZE: u32 = 32;
/// Warps of a kernel's one block, at most.
pub(super) const MOST_WARPS: u32 = 8;
/// Bytes of shared memory for messages that are taken at once, at most; every device has twice as much.
const SHARED: u32 = 20 << 10;
/// … and behind each of them: is it skipped, and its route.
const BESIDE: u32 = 16;
/// Bytes of the larger ring of a kernel, at most.
const MOST_RING: usize = 1 << 20;

/// What a record begins with, unless it is a fault's code.
const DONE: u32 = 4;

/// … or that of a slot with nothing in it.
const SKIPPED: u32 = 5;
/// The bit of a stamp that says so of a slot: `RT_SKIPPED`.
const SKIPPED_SLOT: u64 = 0x8000_0000 << 32;

/// Stop words. The device looks at them between two messages, a handler at the second now and then.
pub(super) const GO_ON: u32 = 0;
/// Begin no message.
pub(super) const STOP: u32 = 1;
/// Leave the one in hand, too.
pub(super) const LEAVE: u32 = 2;

/// Where a kernel's heartbeat is, in words behind its stop word: in another line of the host's caches.
pub(super) const HEARTBEAT: usize = 32;

/// Why a kernel came to its end.
pub(super) const EXIT_INTERRUPTED: u32 = 2;
pub(super) const EXIT_IDLE: u32 = 3;
pub(super) const EXIT_FAULT: u32 = 4;

/// A table, as `RtTable`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Table {
    pub data: u64,
    pub bytes: u64,
}

/// The parameter of the resident kernel, as `RtLaunch`; addresses are the device's.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Launch {
    pub input: u64,
    pub output: u64,
    pub states: u64,
    pub fallback: u64,
    pub stop: u64,
    pub leave: u64,
    pub first: u64,
    pub again: u64,
    pub idle_ns: u64,
    pub shift: u32,
    pub epoch: u32,
    pub linked: u64,
    pub routes: u64,
    pub routed: u64,
    pub bell: u64,
    pub tables: [Table; crate::compile::MOST_TABLES],
}

// `ring.cuh` asserts the same size, and a test compares the fields.
const _: () = assert!(size_of::<Launch>() == 176 && offset_of!(Launch, tables) == 112);

/// Words of a route, as `RtRoute`; the last one is its number.
pub(super) const ROUTE_WORDS: usize = 8;
/// Routes that a kernel knows at once: `RT_ROUTES`.
pub(super) const ROUTES: usize = 16;

/// The rings of one kernel.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub message_words: usize,
    pub reply_words: usize,
    pub state_words: usize,
    outputs: Vec<EmitSlot>,
    /// Granules of a slot, and of a record.
    pub slot: usize,
    pub record: usize,
    /// Both rings have `1 << shift` places.
    pub shift: u32,
    /// Warps of a block that the code is for, at most, and messages that it takes at once then.
    pub most_warps: u32,
    batch: u32,
    /// Bytes of a message in shared memory.
    space: u32,
    pub shape: Shape,
    tables: usize,
    /// What it emits may go over a link on the device: then each slot ends with the number of a route.
    pub is_routed: bool,
}

impl Layout {
    pub fn new(spec: &LaunchSpec, outputs: &[EmitSlot]) -> Self {
        let words = |bytes: u32| bytes as usize / 4;
        let (message_words, reply_words) = (words(spec.message_size), words(spec.reply_size));
        let values: usize = outputs.iter().map(|output| output.max as usize * words(output.size)).sum();
        // One output: a message has one route.
        let is_routed = spec.onward.len() == 1 && outputs.len() == 1 && outputs[0].size > 0;
        let slot = message_words.max(1) + usize::from(is_routed);
        let record = 1 + outputs.len() + reply_words + values;
        let most = (MOST_RING / 8 / slot.max(record)).max(1);
        let places = (spec.round.max(1) as usize).next_power_of_two();
        let shift = places.ilog2().min(most.ilog2());
        let space = 4 * message_words.next_multiple_of(4).max(4) as u32;
        let fitting = SHARED / (space + BESIDE);
        let most_warps = match spec.shape {
            Shape::Serial => 1,
            _ => (fitting / WARP_SIZE).clamp(1, MOST_WARPS),
        };
        Self {
            message_words,
            reply_words,
            state_words: spec.initial_state.len() / 4,
            outputs: outputs.to_vec(),
            slot,
            record,
            shift,
            most_warps,
            batch: fitting.clamp(1, most_warps * WARP_SIZE),
            space,
            shape: spec.shape,
            tables: spec.tables.len(),
            is_routed,
        }
    }

    /// Messages that may be on their way at once.
    pub fn places(&self) -> usize {
        1 << self.shift
    }

    /// Warps that this kernel has work for: no more than its code is for, no more than there are instances for, and no more
    /// than take half of what is on its way, so that the other half comes meanwhile.
    pub fn warps(&self) -> u32 {
        let messages = match self.shape {
            Shape::Serial => 1,
            Shape::Stateless => u32::MAX,
            Shape::Instances { count, .. } => count,
        };
        let half = u32::try_from(self.places() / 2).unwrap_or(u32::MAX);
        messages.div_ceil(WARP_SIZE).min(half / WARP_SIZE).clamp(1, self.most_warps)
    }

    /// Messages that a block of so many warps takes at once, at most.
    pub fn batch(&self, warps: u32) -> u32 {
        self.batch.min(warps * WARP_SIZE)
    }

    /// Bytes of shared memory that a block of so many warps needs for them.
    pub fn shared(&self, warps: u32) -> u32 {
        self.batch(warps) * (self.space + BESIDE)
    }

    /// The whole text: a head, the handler, the resident driver. Kernels with equal texts share their code.
    pub fn text(&self, handler: &str) -> String {
        let mut head = String::new();
        for (name, value) in [
            ("SHAPE", self.shape.code()),
            ("MESSAGE_WORDS", self.message_words as u32),
            ("REPLY_WORDS", self.reply_words as u32),
            ("STATE_WORDS", self.state_words as u32),
            ("SLOT_GRANULES", self.slot as u32),
            ("RECORD_GRANULES", self.record as u32),
            ("WARPS", self.most_warps),
            ("BATCH", self.batch),
            ("MESSAGE_SPACE", self.space),
            ("INSTANCE_WORD", self.shape.instance_word()),
            ("HEARTBEAT", HEARTBEAT as u32),
            ("TABLES", self.tables as u32),
            ("OUTPUTS", self.outputs.len() as u32),
            ("ROUTED", u32::from(self.is_routed)),
        ] {
            _ = writeln!(head, "#define RT_{name} {value}");
        }
        let mut places = String::new();
        if !self.outputs.is_empty() {
            let rows = self.outputs.iter().map(|output| {
                let EmitSlot { count_offset, items_offset, stride, size, max } = output;
                format!("{{{count_offset}u, {items_offset}u, {stride}u, {}u, {max}u}}", size / 4)
            });
            let rows: Vec<_> = rows.collect();
            places = format!("#define RT_OUTPUT_PLACES {{{}}}\n", rows.join(", "));
        }
        format!("{head}{places}{handler}\n{DRIVER}")
    }

    /// The stamp of a position, where it is in its granule.
    pub fn stamp(&self, position: u64) -> u64 {
        // As on the device: the lap's low 32 bits.
        u64::from(((position >> self.shift) as u32).wrapping_add(1)) << 32
    }

    fn place(&self, position: u64) -> usize {
        (position & (self.places() as u64 - 1)) as usize
    }

    /// May results of messages that were pushed as a run be handed out as one? Values that they emit come between them.
    pub fn has_runs(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Values that a message emits over a link, at most.
    pub fn most_emitted(&self) -> u64 {
        u64::from(self.outputs[0].max)
    }

    /// Words of such a value.
    pub fn emitted_words(&self) -> usize {
        self.outputs[0].size as usize / 4
    }

    /// Writes a message into its slot, which is free, and where what it emits goes: a route, or 0.
    pub fn write(&self, input: &[AtomicU64], position: u64, message: &[u8], route: u32) {
        let slot = &input[self.place(position) * self.slot..][..self.slot];
        let stamp = self.stamp(position);
        if self.is_routed {
            // Relaxed: as below.
            slot[self.slot - 1].store(stamp | u64::from(route), Ordering::Relaxed);
        }
        let mut words = message.chunks_exact(4);
        let word = |bytes: &[u8]| u64::from(u32::from_ne_bytes(bytes.try_into().expect("four bytes")));
        let first = words.next().map_or(0, word);
        for (granule, bytes) in slot[1..].iter().zip(words) {
            // Relaxed: a granule says all by itself, and the device takes none until it has them all.
            granule.store(stamp | word(bytes), Ordering::Relaxed);
        }
        // Release pairs with the fence behind which a handler with tables begins: it finds what others had written to
        // them when their records were read.
        slot[0].store(stamp | first, Ordering::Release);
    }

    /// Writes a slot, which is free, with nothing in it; what a kernel emits for it has nothing in it either.
    pub fn write_skipped(&self, input: &[AtomicU64], position: u64, route: u32) {
        let slot = &input[self.place(position) * self.slot..][..self.slot];
        let stamp = self.stamp(position) ^ SKIPPED_SLOT;
        for granule in slot {
            // Relaxed: as in `write`. The words of the message are not looked at.
            granule.store(stamp | u64::from(route), Ordering::Relaxed);
        }
    }

    /// Is this the record of a slot with nothing in it?
    pub fn is_skipped(words: &[u32]) -> bool {
        words[0] == SKIPPED
    }

    fn record_at<'a>(&self, output: &'a [AtomicU64], position: u64) -> &'a [AtomicU64] {
        &output[self.place(position) * self.record..][..self.record]
    }

    /// The words of a record, if it is complete; they replace what is in `words`.
    pub fn read(&self, output: &[AtomicU64], position: u64, words: &mut Vec<u32>) -> bool {
        let record = self.record_at(output, position);
        let stamp = self.stamp(position);
        words.clear();
        let take = |words: &mut Vec<u32>, count: usize| {
            for granule in &record[words.len()..words.len() + count] {
                // Acquire pairs with the fence that follows a handler with tables. And the host writes the next message
                // into this place only behind these loads, which pairs with the dependency of a record on its message.
                let granule = granule.load(Ordering::Acquire);
                if granule & !0xffff_ffff != stamp {
                    return false;
                }
                words.push(granule as u32);
            }
            true
        };
        if !take(words, 1) {
            return false;
        }
        if words[0] != DONE {
            return true;
        }
        if !take(words, self.outputs.len() + self.reply_words) {
            return false;
        }
        let values = self.outputs.iter().zip(&words[1..]);
        let values =
            values.map(|(output, count)| (*count).min(output.max) as usize * output.size as usize / 4);
        let values = values.sum();
        take(words, values)
    }

    /// The replies of the messages from a position on, one behind the other, up to one that is not over or has faulted;
    /// how many. They are put behind what is in `words`. For kernels that [have runs](Self::has_runs).
    pub fn read_replies(
        &self,
        output: &[AtomicU64],
        position: u64,
        most: usize,
        words: &mut Vec<u32>,
    ) -> usize {
        (0..most).position(|index| !self.read_reply(output, position + index as u64, words)).unwrap_or(most)
    }

    fn read_reply(&self, output: &[AtomicU64], position: u64, words: &mut Vec<u32>) -> bool {
        let record = &self.record_at(output, position)[..1 + self.reply_words];
        let stamp = self.stamp(position);
        let begun = words.len();
        // Acquire: as in `read`.
        if record[0].load(Ordering::Acquire) != stamp | u64::from(DONE) {
            return false;
        }
        words.extend(record[1..].iter().map_while(|granule| {
            let granule = granule.load(Ordering::Acquire);
            (granule & !0xffff_ffff == stamp).then_some(granule as u32)
        }));
        let is_whole = words.len() - begun == self.reply_words;
        if !is_whole {
            words.truncate(begun);
        }
        is_whole
    }

    /// Is there a record, at least its beginning? Cheaper than to read it.
    pub fn has_begun(&self, output: &[AtomicU64], position: u64) -> bool {
        // Relaxed: whoever reads it looks again.
        self.record_at(output, position)[0].load(Ordering::Relaxed) & !0xffff_ffff == self.stamp(position)
    }

    /// Hands out what became of a message, from the words of its record.
    pub fn hand_out(&self, token: Token, words: &[u32], sink: &mut dyn FnMut(Completion<'_>)) {
        if words[0] != DONE {
            return sink(Completion::Faulted { token, fault: FaultCode::of(words[0]).into() });
        }
        let counts = &words[1..1 + self.outputs.len()];
        let (reply, mut values) = words[1 + self.outputs.len()..].split_at(self.reply_words);
        for (output, (facts, count)) in self.outputs.iter().zip(counts).enumerate() {
            for _ in 0..(*count).min(facts.max) {
                let (value, rest) = values.split_at(facts.size as usize / 4);
                values = rest;
                sink(Completion::Emit { token, output, value: bytemuck::cast_slice(value) });
            }
        }
        sink(Completion::Handled { token, reply: bytemuck::cast_slice(reply) });
    }
}

#[cfg(test)]
mod tests {
    use super::Launch;
    use std::mem::offset_of;

    #[test]
    fn the_device_has_the_fields_of_a_launch_in_the_same_places() {
        macro_rules! places {
            ($($field:ident)*) => { [$((stringify!($field), offset_of!(Launch, $field))),*] };
        }
        let places = places!(
            input output states fallback stop leave first again idle_ns shift epoch linked routes routed bell tables
        );
        let text = include_str!("../../../shaders/cuda/ring.cuh");
        let (_, rest) = text.split_once("struct RtLaunch {\n").expect("it is there");
        let (fields, _) = rest.split_once("};").expect("it ends");
        let (mut at, mut found) = (0, Vec::new());
        for field in fields.lines().filter_map(|line| line.split_once(';').map(|(field, _)| field)) {
            let (what, name) = field.rsplit_once(' ').expect("a type and a name");
            let size = if what.trim() == "rt_u32" { 4 } else { 8 };
            found.push((name.trim_end_matches("[4]"), at));
            at += size;
        }
        assert_eq!(found, places);
    }
}
