//! Packing: small numbers inside one word.

use super::math::{Fn2, clamp, f};
use crate::compile::float::{float_to_half, half_to_float};
use naga::MathFunction as M;

/// Packs a vector into one word; `None` for any other function.
pub(super) fn pack(fun: M) -> Option<fn(&[u32]) -> u32> {
    fn join(components: &[u32], bits: u32, g: impl Fn(u32) -> u32) -> u32 {
        let mask = u32::MAX >> (32 - bits);
        components.iter().rev().fold(0, |word, c| (word << bits) | (g(*c) & mask))
    }
    fn normalised(low: f32, scale: f32) -> impl Fn(u32) -> u32 {
        move |c| (0.5 + scale * clamp(f(c), low, 1.0)).floor() as i32 as u32
    }
    // `<< 16` drops nothing for two components, `<< 8` nothing for four.
    Some(match fun {
        M::Pack4x8snorm => |v| join(v, 8, normalised(-1.0, 127.0)),
        M::Pack4x8unorm => |v| join(v, 8, normalised(0.0, 255.0)),
        M::Pack2x16snorm => |v| join(v, 16, normalised(-1.0, 32767.0)),
        M::Pack2x16unorm => |v| join(v, 16, normalised(0.0, 65535.0)),
        M::Pack2x16float => |v| join(v, 16, |c| float_to_half(f(c)).into()),
        M::Pack4xI8 | M::Pack4xU8 => |v| join(v, 8, |c| c),
        M::Pack4xI8Clamp => |v| join(v, 8, |c| (c as i32).clamp(-128, 127) as u32),
        M::Pack4xU8Clamp => |v| join(v, 8, |c| c.min(255)),
        _ => return None,
    })
}

/// Unpacks one component of a word: how many there are, and what makes one from the word and its number.
pub(super) fn unpack(fun: M) -> Option<(u32, Fn2)> {
    fn signed(word: u32, i: u32, bits: u32) -> i32 {
        (word << (32 - bits * (i + 1))) as i32 >> (32 - bits)
    }
    fn unsigned(word: u32, i: u32, bits: u32) -> u32 {
        (word << (32 - bits * (i + 1))) >> (32 - bits)
    }
    Some(match fun {
        M::Unpack4x8snorm => (4, |w, i| (signed(w, i, 8) as f32 / 127.0).max(-1.0).to_bits()),
        M::Unpack4x8unorm => (4, |w, i| (unsigned(w, i, 8) as f32 / 255.0).to_bits()),
        M::Unpack2x16snorm => (2, |w, i| (signed(w, i, 16) as f32 / 32767.0).max(-1.0).to_bits()),
        M::Unpack2x16unorm => (2, |w, i| (unsigned(w, i, 16) as f32 / 65535.0).to_bits()),
        M::Unpack2x16float => (2, |w, i| half_to_float(unsigned(w, i, 16) as u16).to_bits()),
        M::Unpack4xI8 => (4, |w, i| signed(w, i, 8) as u32),
        M::Unpack4xU8 => (4, |w, i| unsigned(w, i, 8)),
        _ => return None,
    })
}

/// `dot4I8Packed`.
pub(super) fn dot_signed(a: u32, b: u32) -> u32 {
    let bytes = |w: u32| w.to_le_bytes().map(|byte| i32::from(byte as i8));
    bytes(a).iter().zip(bytes(b)).map(|(x, y)| x * y).sum::<i32>() as u32
}

/// `dot4U8Packed`.
pub(super) fn dot_unsigned(a: u32, b: u32) -> u32 {
    let bytes = |w: u32| w.to_le_bytes().map(u32::from);
    bytes(a).iter().zip(bytes(b)).map(|(x, y)| x * y).sum()
}
