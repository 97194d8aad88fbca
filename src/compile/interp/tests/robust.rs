//! No message can make a handler do anything but end: random bytes through handlers full of corners.

use crate::compile::tests::*;
use crate::compile::{HandlerSource, Outcome, TableView};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;

const CORNERS: &str = "
    struct Cell { v: vec3<f32>, n: u32, m: mat3x2<f32> }
    @group(1) @binding(0) var<storage, read_write> table: array<u32>;
    @group(1) @binding(1) var<storage, read_write> counts: array<atomic<i32>>;
    var<private> cells: array<Cell, 3>;
    var<private> last = 7i;
    fn mixed(p: ptr<function, array<vec4<f32>, 2>>, i: i32, k: u32) -> f32 {
        (*p)[i][k] = f32(i) / f32(k);
        cells[k].m[i][k] += (*p)[k][i];
        cells[i].n = u32((*p)[i].x);
        return (*p)[i][k] % 3.5;
    }
    fn on_message(m: In, s: ptr<function, State>) -> Out {
        var r: array<u32, 8>;
        var a = array(vec4(1.0), bitcast<vec4<f32>>(vec4(m.a[0], m.a[1], m.a[2], m.a[3])));
        let i = bitcast<i32>(m.a[4]);
        let k = m.a[5];
        for (var n = 0u; n < (k & 15u); n++) {
            last = last / (i + i32(n)) + last % i32(k);
            r[n + k] += u32(mixed(&a, i - last, k >> n));
            if bool(extractBits(k, n, n)) { continue; }
            switch i32(n) & last { case 0: { break; } case 1, 2: { s.n += 1u; } default: { s.sum *= 0.5; } }
            if n == m.a[6] { emit_alerts(Alert(n, a[n].y)); }
        }
        let x = a[1];
        let y = vec4<f32>(pow(abs(x.x), x.y), ldexp(x.z, i), atan2(x.w, x.x), exp(x.y));
        let z = cells[k].m * vec3(x.x, y.y, 1.0) + unpack2x16float(m.a[7]) + refract(x.xy, y.zw, x.z);
        table[i] = u32(i32(z.x)) ^ pack4x8snorm(y) ^ pack2x16float(z) ^ insertBits(k, m.a[6], k, m.a[7]);
        table[k] += table[u32(z.y)] << m.a[7];
        let old = atomicMax(&counts[i], i32(y.x));
        r[0] = u32(old) + countLeadingZeros(k) + firstLeadingBit(m.a[6]) + reverseBits(m.a[7]);
        r[1] = u32(frexp(x.x).exp) + u32(modf(y).whole.w) + u32(determinant(mat2x2(x.xy, y.xy)));
        r[2] = dot4U8Packed(k, m.a[7]) + u32(all(x < y)) + u32(quantizeToF16(x.z)) + u32(round(y.w));
        s.sum = length(x) + dot(y, x) + smoothstep(x.x, y.x, x.z) + sin(x.x) + tan(y.y) + acosh(x.w);
        return Out(r);
    }";

#[test]
fn any_message_ends_and_repeats() {
    let tables = [table("table", 5), table("counts", 3)];
    let outputs = [output("alerts", 1)];
    let corners = source(CORNERS);
    let source =
        HandlerSource { state: Some(STATE), tables: &tables, outputs: &outputs, loop_budget: 12, ..corners };
    let bench = RefCell::new(Bench::new(&source).unwrap());
    let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
    let messages = prop::collection::vec(any::<[u32; 8]>(), 4);
    let result = TestRunner::new(config).run(&messages, |messages| {
        let mut bench = bench.borrow_mut();
        let mut seen = Vec::new();
        for _ in 0..2 {
            let (mut table, mut counts) = ([1u32, 2, 3, 4, 5], [0u32; 3]);
            let views = [&mut table[..], &mut counts[..]]
                .map(|t| TableView { data: t.as_mut_ptr().cast(), bytes: t.len() * 4 });
            bench.state.fill(0);
            bench.reply.fill(0);
            let mut results = Vec::new();
            for message in &messages {
                let outcome = bench.run_with(bytemuck::cast_slice(message), &views);
                prop_assert!(outcome != Outcome::Interrupted);
                results.push((outcome, bench.reply.clone(), bench.state.clone()));
            }
            seen.push((results, table, counts));
        }
        prop_assert_eq!(&seen[0], &seen[1]);
        Ok(())
    });
    result.unwrap();
}
