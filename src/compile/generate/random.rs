//! Choices: a small generator, and numbers full of corners.

use super::ast::Kind;

/// A xorshift generator: generation is most of what a generated test does besides compiling.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u32) -> u32 {
        self.next() % end.max(1)
    }

    /// A number in `low ..= high`.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    /// True `times` out of `of` times.
    pub fn chance(&mut self, times: u32, of: u32) -> bool {
        self.below(of) < times
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u32) as usize]
    }

    /// The number of a choice with these weights.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        0
    }

    /// The bits of a scalar as a person would write it.
    pub fn literal(&mut self, kind: Kind) -> u32 {
        const FLOATS: [f32; 14] =
            [0.0, 1.0, -1.0, 0.5, 2.0, -2.5, 0.1, 1.5, 100.0, -7.25, 3.0e9, 1.0e-3, 1.0e-40, 3.0e38];
        const SIGNED: [i32; 12] = [0, 1, -1, 2, 3, -3, 7, 31, 100, -100, i32::MAX, i32::MIN];
        const UNSIGNED: [u32; 12] = [0, 1, 2, 3, 4, 5, 7, 31, 32, 100, 1 << 31, u32::MAX];
        match kind {
            Kind::F32 => self.pick(&FLOATS).to_bits(),
            Kind::I32 => *self.pick(&SIGNED) as u32,
            Kind::U32 => *self.pick(&UNSIGNED),
            Kind::Bool => self.below(2),
        }
    }

    /// The bits of a scalar in a message or a table: often usual, sometimes at the end of what there is.
    pub fn data(&mut self, is_float: bool) -> u32 {
        const CORNERS: [u32; 12] = [
            0x7fc0_0000,
            0xffc0_0001,
            0x7f80_0000,
            0xff80_0000,
            0x8000_0000,
            0x7fff_ffff,
            0xffff_ffff,
            1,
            0x807f_ffff,
            0x0080_0000,
            0x3f00_0000,
            0x4f00_0000,
        ];
        match self.below(8) {
            0 => *self.pick(&CORNERS),
            1 => self.next(),
            2 if is_float => (self.below(9) as f32 - 4.0 + 0.5).to_bits(),
            2..=4 if is_float => ((self.below(4001) as f32 - 2000.0) / 16.0).to_bits(),
            5 | 6 if is_float => (self.below(7) as f32 - 2.0).to_bits(),
            2 => self.below(8).wrapping_sub(4),
            _ if is_float => ((self.next() >> 8) as f32 / 8_388_608.0 - 1.0).to_bits(),
            3..=5 => self.below(6),
            _ => self.below(1000),
        }
    }
}
