//! What is undefined elsewhere and defined here: no fault, one answer.

use super::active;
use crate::common::{LONG, runtime};
use ringwork::{RingKernel, Vec3, message};

message! {
    /// Operands.
    pub struct Operands { pub a: i32, pub b: i32, pub u: u32, pub v: u32 }

    /// What came out, by name of the operation.
    pub struct Results {
        pub divided: i32,
        pub remainder: i32,
        pub divided_u: u32,
        pub remainder_u: u32,
        pub sum: i32,
        pub product: i32,
        pub sum_u: u32,
        pub product_u: u32,
        pub negated: i32,
        pub left: i32,
        pub right: i32,
        pub left_u: u32,
        pub right_u: u32,
        pub absolute: i32,
    }
}

const INTEGERS: &str = "fn on_message(m: Operands) -> Results {
    return Results(m.a / m.b, m.a % m.b, m.u / m.v, m.u % m.v, m.a + m.b, m.a * m.b, m.u + m.v, m.u * m.v, -m.a,
        m.a << m.v, m.a >> m.v, m.u << m.v, m.u >> m.v, abs(m.a));
}";

/// The same in Rust, by the contract's words.
fn twin(m: Operands) -> Results {
    let Operands { a, b, u, v } = m;
    Results {
        divided: if b == 0 { a } else { a.wrapping_div(b) },
        remainder: if b == 0 { 0 } else { a.wrapping_rem(b) },
        divided_u: u.checked_div(v).unwrap_or(u),
        remainder_u: if v == 0 { 0 } else { u % v },
        sum: a.wrapping_add(b),
        product: a.wrapping_mul(b),
        sum_u: u.wrapping_add(v),
        product_u: u.wrapping_mul(v),
        negated: a.wrapping_neg(),
        left: a.wrapping_shl(v),
        right: a.wrapping_shr(v),
        left_u: u.wrapping_shl(v),
        right_u: u.wrapping_shr(v),
        absolute: a.wrapping_abs(),
    }
}

#[test]
fn integers_divide_by_zero_overflow_and_shift_far() {
    let runtime = runtime();
    let kernel = active(&runtime, RingKernel::<Operands, Results>::wgsl("k", INTEGERS));
    let corners = [0, 1, -1, 2, 31, 32, 40, -7, i32::MIN, i32::MAX, i32::MIN + 1];
    let messages: Vec<_> = corners
        .iter()
        .flat_map(|&a| corners.iter().map(move |&b| Operands { a, b, u: a as u32, v: b as u32 }))
        .collect();
    let replies = kernel.ask_many(messages.iter().copied(), LONG).unwrap();
    for (message, reply) in messages.iter().zip(replies) {
        assert_eq!(reply, twin(*message), "{message:?}");
    }
    // In particular: x / 0 = x, x % 0 = 0, 1 << 40 = 1 << 8, the minimum by -1 wraps.
    let special = kernel.ask(Operands { a: 7, b: 0, u: 9, v: 0 }, LONG).unwrap();
    assert_eq!((special.divided, special.remainder, special.divided_u, special.remainder_u), (7, 0, 9, 0));
    let special = kernel.ask(Operands { a: i32::MIN, b: -1, u: 1, v: 40 }, LONG).unwrap();
    assert_eq!((special.divided, special.remainder, special.left_u), (i32::MIN, 0, 1 << 8));
    assert_eq!(kernel.telemetry().dead_letters.total(), 0);
}

message! {
    /// A float.
    pub struct Float { pub x: f32 }

    /// As integers, and as a float again.
    pub struct Converted { pub signed: i32, pub unsigned: u32, pub back: f32, pub from_vector: i32 }
}

#[test]
fn floats_saturate_to_integers_and_nan_is_zero() {
    let text = "fn on_message(m: Float) -> Converted {
        return Converted(i32(m.x), u32(m.x), f32(i32(m.x)), vec3<i32>(vec3(m.x)).y);
    }";
    let runtime = runtime();
    let kernel = active(&runtime, RingKernel::<Float, Converted>::wgsl("k", text));
    let floats = [
        0.0,
        -0.0,
        1.9,
        -1.9,
        2_147_483_648.0,
        -2_147_483_648.0,
        -2_147_483_904.0,
        4_294_967_040.0,
        4_294_967_296.0,
        1e30,
        -1e30,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -f32::NAN,
        f32::MIN_POSITIVE / 2.0,
    ];
    let replies = kernel.ask_many(floats.map(|x| Float { x }), LONG).unwrap();
    for (x, reply) in floats.iter().zip(replies) {
        // WGSL clamps to what both types can hold; `as` makes zero of NaN.
        let signed = x.clamp(-2_147_483_648.0, 2_147_483_520.0) as i32;
        let unsigned = x.clamp(0.0, 4_294_967_040.0) as u32;
        let wanted = Converted { signed, unsigned, back: signed as f32, from_vector: signed };
        assert_eq!(reply, wanted, "{x}");
    }
}

#[test]
fn floats_divide_by_zero_as_ieee_says() {
    message! { pub struct Pair { pub a: f32, pub b: f32 } }
    let text = "fn on_message(m: Pair) -> Float { return Float(m.a / m.b); }";
    let runtime = runtime();
    let kernel = active(&runtime, RingKernel::<Pair, Float>::wgsl("k", text));
    let ask = |a, b| kernel.ask(Pair { a, b }, LONG).unwrap().x;
    assert_eq!(ask(1.0, 0.0), f32::INFINITY);
    assert_eq!(ask(-1.0, 0.0), f32::NEG_INFINITY);
    assert!(ask(0.0, 0.0).is_nan());
    assert_eq!(ask(1.0, f32::INFINITY), 0.0);
}

message! {
    /// Where to look, with something to look at.
    pub struct Look { pub at: i32, pub values: [u32; 4], _pad: [u32; 3], pub vector: Vec3<u32>, _pad2: u32 }

    /// What was there: in the message's array, a local one, a vector, a table.
    pub struct Seen { pub message: u32, pub local: u32, pub vector: u32, pub table: u32, pub matrix: f32 }
}

#[test]
fn indices_are_clamped() {
    let text = "@group(1) @binding(0) var<storage, read> words: array<u32>;
    fn on_message(m: Look) -> Seen {
        var local = m.values;
        local[m.at] += 100u;
        var v = m.vector;
        v[m.at] += 100u;
        var f = mat2x2<f32>(1.0, 2.0, 3.0, 4.0);
        let u = u32(m.at);
        return Seen(m.values[m.at], local[u], v[u], words[u], f[u].x);
    }";
    let runtime = runtime();
    let words = runtime.buffer(&[50u32, 51, 52, 53, 54]).unwrap();
    let kernel = active(&runtime, RingKernel::<Look, Seen>::wgsl("k", text).bind("words", &words));
    let look = Look { values: [10, 11, 12, 13], vector: Vec3::new(20, 21, 22), ..Look::default() };
    for at in [0, 1, 2, 3, 4, 5, 1000, i32::MAX, -1, i32::MIN] {
        let seen = kernel.ask(Look { at, ..look }, LONG).unwrap();
        // A negative index is before the first; as an unsigned number it is past the last.
        let signed = |most: i32| at.clamp(0, most) as u32;
        let unsigned = |most: u32| (at as u32).min(most);
        let hit = |same: bool| if same { 100 } else { 0 };
        let wanted = Seen {
            message: 10 + signed(3),
            local: 10 + unsigned(3) + hit(signed(3) == unsigned(3)),
            vector: 20 + unsigned(2) + hit(signed(2) == unsigned(2)),
            table: 50 + unsigned(4),
            matrix: [1.0, 3.0][unsigned(1) as usize],
        };
        assert_eq!(seen, wanted, "at {at}");
    }
}

#[test]
fn a_write_past_the_end_of_a_table_stays_inside() {
    let text = "@group(1) @binding(0) var<storage, read_write> words: array<u32>;
    @group(1) @binding(1) var<storage, read_write> counts: array<atomic<u32>, 2>;
    fn on_message(m: Operands) { words[m.a] = m.u; atomicAdd(&counts[m.v], 1u); }";
    let runtime = runtime();
    // The guard lies in its own buffer; nothing but the bound one may change.
    let (words, counts) = (runtime.buffer(&[0u32; 4]).unwrap(), runtime.buffer(&[0u32; 2]).unwrap());
    let kernel = RingKernel::<Operands, ()>::wgsl("k", text).bind("words", &words).bind("counts", &counts);
    let kernel = active(&runtime, kernel);
    for (a, u) in [(0, 1), (3, 2), (4, 3), (-1, 4), (i32::MAX, 5)] {
        kernel.ask(Operands { a, u, v: a as u32, b: 0 }, LONG).unwrap();
    }
    assert_eq!(words.to_vec().unwrap(), [4, 0, 0, 5]);
    assert_eq!(counts.to_vec().unwrap(), [1, 4]);
    assert_eq!(kernel.telemetry().dead_letters.total(), 0);
}
