//! Tables: layout, clamping, atomics, threads.

use crate::compile::tests::*;
use crate::compile::{HandlerSource, Outcome, TableDecl, TableUse, TableView};

fn view(words: &mut [u32]) -> TableView {
    TableView { data: words.as_mut_ptr().cast(), bytes: words.len() * 4 }
}

#[test]
fn tables_are_read_and_written_within_their_bounds() {
    let text = "@group(1) @binding(3) var<storage, read_write> sums: array<u32>;
                @group(1) @binding(1) var<storage, read> edges: array<u32>;
                fn on_message(m: In) -> Out { var r: array<u32, 8>; r[0] = edges[m.a[0]]; r[1] = edges[i32(m.a[1])]; \
                r[2] = arrayLength(&edges) + 100u * arrayLength(&sums); r[3] = edges[5]; sums[m.a[2]] = 6u; \
                sums[i32(m.a[1])] += 7u; let e = &edges[1]; r[4] = *e; return Out(r); }";
    let tables = [table("sums", 2), table("edges", 4)];
    let mut bench = Bench::new(&HandlerSource { tables: &tables, ..source(text) }).unwrap();
    let used = |name: &str, binding, writable| TableUse { name: name.to_string(), binding, writable };
    assert_eq!(bench.program.tables, [used("edges", 1, false), used("sums", 3, true)]);
    assert!(bench.program.writes_tables);
    let (mut edges, mut sums) = ([10, 11, 12, 13], [1, 2]);
    let views = [view(&mut edges), view(&mut sums)];
    let message = [4u32, -3i32 as u32, 1_000_000_000, 0, 0, 0, 0, 0];
    assert_eq!(bench.run_with(bytemuck::cast_slice(&message), &views), Outcome::Done);
    assert_eq!(words(&bench.reply)[..5], [13, 10, 204, 13, 11]);
    assert_eq!(sums, [8, 6]);
}

#[test]
fn elements_lie_as_wgsl_lays_them_out() {
    let text = "struct Cell { v: vec3<f32>, n: u32, m: mat2x3<f32>, list: array<u32, 2> }
                @group(1) @binding(0) var<storage, read_write> cells: array<Cell>;
                fn on_message(m: In) -> Out { var r: array<u32, 8>; var c = cells[m.a[0]]; \
                r[0] = u32(c.v.z); r[1] = c.n; r[2] = u32(c.m[1].y); r[3] = c.list[1]; \
                r[4] = u32(cells[m.a[0]].m[m.a[1]][m.a[2]]); r[5] = u32(cells[m.a[0]].v[m.a[2]]); \
                c.n = 50u; c.m[0].x = 0.5; cells[0] = c; cells[0].m[m.a[1]].z = 9.0; cells[0].list[m.a[1]] = 60u; \
                return Out(r); }";
    let tables = [TableDecl { name: "cells".into(), element_size: 64, element_name: "Cell", len: 2 }];
    let mut bench = Bench::new(&HandlerSource { tables: &tables, ..source(text) }).unwrap();
    let mut cells = [0u32; 32];
    for (i, at) in [
        (1.0f32, 16),
        (2.0, 17),
        (3.0, 18),
        (11.0, 20),
        (12.0, 21),
        (13.0, 22),
        (21.0, 24),
        (22.0, 25),
        (23.0, 26),
    ] {
        cells[at] = i.to_bits();
    }
    cells[19] = 5;
    cells[23] = 0xdead; // padding
    cells[28..30].copy_from_slice(&[30, 31]);
    let views = [view(&mut cells)];
    assert_eq!(bench.run_with(bytemuck::cast_slice(&[1u32, 1, 2, 0, 0, 0, 0, 0]), &views), Outcome::Done);
    assert_eq!(words(&bench.reply)[..6], [3, 5, 22, 31, 23, 3]);
    let float = |i: usize| f32::from_bits(cells[i]);
    assert_eq!((float(2), cells[3], float(4), float(10), cells[13]), (3.0, 50, 0.5, 9.0, 60));
    assert_eq!((float(9), cells[12], cells[7]), (22.0, 30, 0), "padding is left alone");
}

#[test]
fn atomics() {
    let text = "@group(1) @binding(0) var<storage, read_write> u: array<atomic<u32>>;
                @group(1) @binding(1) var<storage, read_write> i: array<atomic<i32>, 4>;
                fn on_message(m: In) -> Out { var r: array<u32, 8>; r[0] = atomicAdd(&u[0], 5u); \
                r[1] = atomicSub(&u[0], 1u); r[2] = atomicOr(&u[1], 6u) + atomicAnd(&u[1], 3u) + atomicXor(&u[1], 1u); \
                r[3] = atomicMax(&u[2], 0x80000000u); r[4] = atomicExchange(&u[3], 9u); atomicStore(&u[4], 8u); \
                let hit = atomicCompareExchangeWeak(&u[3], 9u, 10u); let miss = atomicCompareExchangeWeak(&u[3], 9u, 11u); \
                r[5] = hit.old_value + 100u * u32(hit.exchanged) + 1000u * miss.old_value + 100000u * u32(miss.exchanged); \
                r[6] = u32(atomicMin(&i[0], -5)) + u32(atomicMax(&i[1], -5)); \
                r[7] = atomicLoad(&u[m.a[0]]) + u32(atomicAdd(&i[m.a[0]], -1)); return Out(r); }";
    let tables = [table("u", 5), table("i", 4)];
    let mut bench = Bench::new(&HandlerSource { tables: &tables, ..source(text) }).unwrap();
    assert!(!bench.program.writes_tables, "atomics do not count");
    let (mut u, mut i) = ([1, 1, 2, 3, 4], [3, -9i32 as u32, 0, 5]);
    let views = [view(&mut u), view(&mut i)];
    assert_eq!(bench.run_with(bytemuck::cast_slice(&[99u32, 0, 0, 0, 0, 0, 0, 0]), &views), Outcome::Done);
    let got = words(&bench.reply);
    assert_eq!(got[..6], [1, 6, 1 + 7 + 3, 2, 3, 9 + 100 + 10_000]);
    assert_eq!(got[6] as i32, 3 - 9);
    assert_eq!(got[7], 8 + 5);
    assert_eq!((u, i), ([5, 2, 0x8000_0000, 10, 8], [-5i32 as u32, -5i32 as u32, 0, 4]));
}

#[test]
fn one_handler_serves_many_threads() {
    let text = "@group(1) @binding(0) var<storage, read_write> hits: array<atomic<u32>>;
                @group(1) @binding(1) var<storage, read> weights: array<u32>;
                fn on_message(m: In) -> Out { var r: array<u32, 8>; for (var k = 0u; k < 10u; k++) { \
                atomicAdd(&hits[m.a[0]], weights[k]); } r[0] = m.a[0]; return Out(r); }";
    let tables = [table("hits", 4), table("weights", 10)];
    let bench = Bench::new(&HandlerSource { tables: &tables, ..source(text) }).unwrap();
    let (mut hits, mut weights) = ([0; 4], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let views = [view(&mut hits), view(&mut weights)];
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (views, program) = (&views, &bench.program);
            let engine = bench.engines()[thread as usize % bench.engines().len()];
            scope.spawn(move || {
                use crate::compile::{Frame, Limits, StopCheck};
                let word = std::sync::atomic::AtomicU32::new(0);
                let stop = StopCheck::new(&word, &Limits::NONE);
                let mut reply = [0u32; 8];
                let mut privates = vec![0; program.privates_size as usize];
                for i in 0..1000 {
                    let message = [(thread + i) % 4, 0, 0, 0, 0, 0, 0, 0];
                    let outcome = engine.run(Frame {
                        message: bytemuck::cast_slice(&message),
                        state: &mut [],
                        reply: bytemuck::cast_slice_mut(&mut reply),
                        privates: &mut privates,
                        tables: views,
                        stop: &stop,
                    });
                    assert_eq!((outcome, reply[0]), (Outcome::Done, message[0]));
                }
            });
        }
    });
    assert_eq!(hits, [45_000; 4]);
}
