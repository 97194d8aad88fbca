//! Values and variables of all shapes, some in registers and some in memory, on both engines: [`Bench`] compares.

use super::*;
use crate::compile::TableView;

/// Runs a handler on messages that are small, large and random; the engines have to agree on all.
fn agree(text: &str) {
    let mut bench = Bench::new(&source(text)).unwrap_or_else(|error| panic!("{error}"));
    let mut random = 0x9e37_79b9u32;
    for round in 0..60u32 {
        let mut message = [0u32; 8];
        for word in &mut message {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *word = match round % 3 {
                0 => random >> 29,
                1 => random >> 24,
                _ => random,
            };
        }
        assert_eq!(bench.run(bytemuck::cast_slice(&message)), Outcome::Done, "{text}");
    }
}

fn agree_on_body(declarations: &str, body: &str) {
    agree(&format!(
        "{declarations} fn on_message(m: In) -> Out {{ var r: array<u32, 8>; {body} return Out(r); }}"
    ));
}

#[test]
fn bools_in_vectors_arrays_and_structs() {
    agree_on_body(
        "struct Flags { on: array<bool, 5>, v: vec3<bool>, n: u32, b: bool }
         var<private> kept: array<Flags, 2>;",
        "var f: Flags; f.on[m.a[0]] = m.a[1] > 3u; f.v = vec3(m.a[2] > 1u, true, f.on[m.a[3]]); f.b = f.v[m.a[4]]; \
         f.n = 7u; kept[m.a[5]] = f; let g = kept[m.a[6]]; var v = vec4<bool>(); v[m.a[7]] = true; \
         r[0] = u32(g.on[m.a[0]]); r[1] = u32(any(g.v)) + 2u * u32(all(f.v)); r[2] = g.n; r[3] = u32(g.b); \
         r[4] = u32(v.x) + 2u * u32(v.y) + 4u * u32(v.w); let copy = f.on; r[5] = u32(copy[m.a[1]]); \
         r[6] = u32(select(f.v, !f.v, v.xyz).y);",
    );
}

#[test]
fn large_values_travel_by_value() {
    agree_on_body(
        "struct Inner { list: array<u32, 12>, m: mat3x3<f32> }
         struct Large { inner: array<Inner, 3>, total: u32, v: vec3<f32> }
         fn make(n: u32) -> Large { var l: Large; for (var i = 0u; i < 12u; i++) { l.inner[i % 3u].list[i] = n + i; } \
           l.inner[1].m[n] = vec3(f32(n), 2.0, 3.0); l.total = n; l.v.y = 0.5; return l; }
         fn sum(l: Large, at: u32) -> u32 { return l.inner[at].list[at] + l.total + u32(l.inner[1].m[1].y); }
         fn swap(a: ptr<function, Large>, b: ptr<function, Large>) { let t = *a; *a = *b; *b = t; }
         var<private> kept: Large;",
        "var x = make(m.a[0]); var y = make(m.a[1]); swap(&x, &y); kept = x; x = Large(); \
         r[0] = sum(kept, m.a[2]); r[1] = sum(y, m.a[3]); r[2] = sum(x, m.a[4]); \
         kept.inner[m.a[5]] = y.inner[0]; r[3] = sum(kept, m.a[5]); let i = kept.inner; r[4] = i[m.a[6]].list[3]; \
         let made = Large(array(y.inner[2], Inner(), i[1]), 9u, vec3(1.0)); r[5] = sum(made, m.a[7]) + u32(made.v.z); \
         r[6] = u32(made.inner[m.a[0]].m[m.a[1]][m.a[2]]); y.inner = i; r[7] = y.inner[1].list[m.a[3]];",
    );
}

#[test]
fn parts_of_a_variable_in_memory_and_in_registers() {
    agree_on_body(
        "struct Mixed { a: u32, list: array<vec2<f32>, 6>, b: vec4<u32>, m: mat4x3<f32>, c: i32 }
         var<private> p: Mixed;
         fn touch(x: ptr<private, Mixed>, i: u32) { (*x).list[i].y += 1.5; (*x).b.z ^= i; }
         fn column(m: ptr<function, mat4x3<f32>>, i: u32) -> f32 { (*m)[i] += vec3(1.0); return (*m)[2].y; }",
        "p.a = m.a[0]; p.c = -3; touch(&p, m.a[1]); touch(&p, 2u); var q = p; q.b.w = 9u; q.list[1] = vec2(3.0, 4.0); \
         r[0] = p.a + p.b.z; r[1] = u32(p.list[m.a[1]].y * 2.0); r[2] = u32(q.list[m.a[2]].x); r[3] = q.b[m.a[3]]; \
         r[4] = u32(column(&q.m, m.a[4])); r[5] = u32(q.m[3].z + q.m[m.a[5]].x); r[6] = u32(q.c) + q.a; p = q; \
         r[7] = u32(p.list[m.a[6]].y) + p.b[m.a[7]];",
    );
}

#[test]
fn control_flow_of_all_kinds() {
    agree_on_body(
        "fn early(x: u32) -> vec2<u32> { for (var i = 0u; i < 9u; i++) { switch (x + i) % 7u { \
           case 0u: { return vec2(i, 1u); } case 1u, 2u: { continue; } case 3u: { break; } \
           default: { if i == x { return vec2(9u, i); } } } if i > 6u { break; } } return vec2(x); }",
        "var n = m.a[0] % 50u; var i = 0u; loop { if i == 3u { i += 2u; continue; } let k = i * 2u; \
         if i > n { break; } r[0] += k; continuing { i += 1u; r[1] += i; break if i >= 40u; } } \
         r[2] = early(m.a[1]).x + 10u * early(m.a[2]).y; \
         loop { if i == 0u { break; } i -= 1u; if i % 2u == 0u { continue; } r[3] += i; \
           continuing { loop { if r[4] > m.a[3] % 9u { break; } r[4] += 1u; } } } \
         while i < m.a[4] % 30u { i++; if i == 7u { continue; } for (var j = 0u; j < i; j++) { if j == 5u { break; } r[5]++; } } \
         switch i32(m.a[5] % 5u) - 2 { case -2: { r[6] = 1u; } case -1, 0: { r[6] = 2u; } default: { r[6] = 3u; } case 2: { if r[5] > 3u { break; } r[6] = 4u; } } \
         { var x = 1u; { x += m.a[6]; if x > 5u { r[7] = x; return Out(r); } } r[7] = 100u; } r[7] += 1u;",
    );
}

#[test]
fn loops_whose_indices_need_no_clamp_and_those_that_do() {
    agree_on_body(
        "var<private> list: array<u32, 10>;",
        "for (var i = 0u; i < 10u; i++) { list[i] = i * 3u; } for (var i = 0; i < 10; i++) { list[i] += u32(i); } \
         for (var i = 0u; i < 12u; i++) { list[i] += 1u; } for (var i = -3; i < 12; i++) { list[i] += 1u; } \
         for (var i = 9u; i > 2u; i--) { list[i] ^= i; } let n = min(m.a[0], 10u); \
         for (var i = 0u; i < n; i++) { list[i] += n; } for (var i = 0u; i < m.a[1] % 20u; i++) { list[i] += 5u; } \
         for (var i = 0u; i < 10u; i++) { var j = i; j += m.a[2]; list[j] += 7u; } \
         for (var i = 0u; 10u > i; i += 3u) { list[i + 1u] *= 2u; list[i & 7u] += 1u; list[i % 10u] += 1u; } \
         if m.a[3] < 10u { list[m.a[3]] = 77u; } else { list[m.a[3]] += 99u; } list[m.a[3]] += 1u; \
         let x = bitcast<f32>(m.a[4]); list[u32(clamp(x, 0.0, 9.0))] += 3u; list[i32(clamp(x, -5.0, 15.5))] += 4u; \
         for (var i = 0u; i < 8u; i++) { r[i] = list[i]; } r[0] += list[8] + 31u * list[9];",
    );
}

#[test]
fn values_from_the_body_of_a_loop_in_its_continuing_block() {
    agree_on_body(
        "struct Pair { x: u32, list: array<u32, 3> } var<private> pairs: array<Pair, 3>;",
        "var i = 0u; loop { let k = i + m.a[0]; let p = &pairs[k]; let v = vec2(k, i); (*p).x += 1u; \
         if i > 4u { break; } if (k & 1u) == 1u { (*p).list[v.x] = 5u; } \
         continuing { i += 1u; (*p).list[i] += v.y; r[0] += k ^ v.x; } } \
         for (var j = 0u; j < 3u; j++) { r[j + 1u] = pairs[j].x + 10u * pairs[j].list[j]; }",
    );
}

#[test]
fn whole_elements_of_tables() {
    let text = "struct Cell { v: vec3<f32>, n: u32, list: array<u32, 40> }
                @group(1) @binding(0) var<storage, read_write> cells: array<Cell>;
                fn second(c: Cell) -> u32 { return c.list[1] + c.n; }
                fn on_message(m: In) -> Out { var r: array<u32, 8>; var c = cells[m.a[0]]; c.list[m.a[1]] += 3u; \
                c.v.y += 1.0; cells[m.a[2]] = c; cells[m.a[3]].list[m.a[4]] = 8u; r[0] = second(cells[m.a[5]]); \
                let d = cells[1]; r[1] = d.list[m.a[6]]; r[2] = u32(d.v.y); cells[0].v = vec3(d.v.xy, 2.0); \
                r[3] = arrayLength(&cells); return Out(r); }";
    let tables =
        [crate::compile::TableDecl { name: "cells".into(), element_size: 176, element_name: "Cell", len: 3 }];
    let mut bench = Bench::new(&HandlerSource { tables: &tables, ..source(text) }).unwrap();
    let mut cells = [0u32; 132];
    let view = TableView { data: cells.as_mut_ptr().cast(), bytes: 528 };
    for i in 0..100u32 {
        let message: [u32; 8] = std::array::from_fn(|k| (i * 7 + k as u32 * 13) % 45);
        assert_eq!(bench.run_with(bytemuck::cast_slice(&message), &[view]), Outcome::Done);
    }
    assert_ne!(cells, [0; 132]);
}

#[test]
fn an_index_at_the_end_of_a_table_of_any_length() {
    let text = "struct Odd { a: u32, b: u32, c: u32 }
                @group(1) @binding(0) var<storage, read_write> odd: array<Odd>;
                @group(1) @binding(1) var<storage, read_write> words: array<u32>;
                fn on_message(m: In) -> Out { var r: array<u32, 8>; \
                let last = min(m.a[0], arrayLength(&odd) - 1u); r[0] = last; r[1] = odd[m.a[0]].b; \
                r[2] = odd[last].c; r[3] = words[m.a[1]]; r[4] = min(m.a[1], arrayLength(&words) - 1u) * 2u; \
                for (var i = m.a[2]; i < m.a[3]; i++) { words[i] += 1u; r[5] += words[i - 1u]; } \
                words[words[m.a[4]]] = 5u; return Out(r); }";
    let tables = [
        crate::compile::TableDecl { name: "odd".into(), element_size: 12, element_name: "Odd", len: 1 },
        table("words", 1),
    ];
    let mut bench = Bench::new(&HandlerSource { tables: &tables, ..source(text) }).unwrap();
    for (odd_len, words_len) in [(1, 1), (1, 7), (2, 2), (5, 16), (7, 3)] {
        let mut odd: Vec<u32> = (0..odd_len * 3).collect();
        let mut words: Vec<u32> = (0..words_len).map(|word| word * 3 + 1).collect();
        for index in [0, 1, 2, 6, 7, 100, i32::MAX as u32, u32::MAX - 1, u32::MAX] {
            let before = words.clone();
            let message = [index, index, index.min(words_len), words_len + 2, index, 0, 0, 0];
            // What the bench compares are the engines; here are the values.
            let views = [&mut odd, &mut words]
                .map(|words| TableView { data: words.as_mut_ptr().cast(), bytes: words.len() * 4 });
            assert_eq!(bench.run_with(bytemuck::cast_slice(&message), &views), Outcome::Done);
            let (last, last_word) = (index.min(odd_len - 1), index.min(words_len - 1));
            let expected = [last, last * 3 + 1, last * 3 + 2, before[last_word as usize], last_word * 2];
            assert_eq!(bytemuck::pod_collect_to_vec::<u8, u32>(&bench.reply)[..5], expected);
        }
    }
}
