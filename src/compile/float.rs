//! What floats are made of: half floats, fractions and exponents. One implementation for all engines of the CPU.

/// Rounds to the nearest half float, ties to even; what is too large becomes infinite. A NaN loses its sign, which
/// depends on the order in which a processor got its operands.
pub(super) fn float_to_half(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return 0x7e00;
    }
    // Halves are spaced 2^-24 below 2^-14; adding 0.5, whose neighbours in f32 are 2^-24 apart, rounds to that.
    if magnitude < 0x3880_0000 {
        return sign | ((f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()) as u16;
    }
    let rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    let half = (rounded >> 13).saturating_sub((127 - 15) << 10);
    sign | half.min(0x7c00) as u16
}

/// The value of a half float.
pub(super) fn half_to_float(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff);
    let value = match magnitude >> 10 {
        0 => (magnitude as f32 * (1.0 / 16_777_216.0)).to_bits(),
        31 => 0x7f80_0000 | (magnitude & 0x3ff) << 13,
        _ => (magnitude << 13) + ((127 - 15) << 23),
    };
    f32::from_bits(sign | value)
}

/// Rounds to a number that a half float can hold.
pub(super) fn quantize(x: f32) -> f32 {
    half_to_float(float_to_half(x))
}

/// The fraction and the exponent of a float; an infinity or NaN is its own fraction.
pub(super) fn split(x: f32) -> (f32, i32) {
    if x.is_finite() { libm::frexpf(x) } else { (x, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_the_way_through_f32() {
        for half in 0..=u16::MAX {
            let float = half_to_float(half);
            if float.is_nan() {
                assert_eq!(float_to_half(float) & 0x7e00, 0x7e00);
            } else {
                assert_eq!(float_to_half(float), half, "{float}");
            }
        }
    }

    #[test]
    fn halves_round_to_nearest_even() {
        assert_eq!(float_to_half(2049.0), float_to_half(2048.0));
        assert_eq!(float_to_half(2051.0), float_to_half(2052.0));
        assert_eq!(float_to_half(65519.0), 0x7bff);
        assert_eq!(float_to_half(65520.0), 0x7c00);
        assert_eq!(float_to_half(-1e10), 0xfc00);
        assert_eq!(float_to_half(f32::from_bits(0x3300_0000)), 0); // 2^-25, a tie with 0
        assert_eq!(float_to_half(f32::from_bits(0x3300_0001)), 1);
    }
}
