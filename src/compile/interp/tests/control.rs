//! Control flow, variables, budget, stop word, emits.

use crate::compile::tests::*;
use crate::compile::{FaultCode, HandlerSource, Limits, Outcome, STOP_AFTER_MESSAGE, STOP_NOW, StopCheck};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const LOOP_BUDGET: Outcome = Outcome::Fault(FaultCode::LoopBudget);

/// Runs a text of functions and `on_message` with a budget.
fn with_budget(text: &str, loop_budget: u32, first: u32) -> (Outcome, Vec<u32>) {
    let mut bench = Bench::new(&HandlerSource { loop_budget, ..source(text) }).unwrap();
    let mut message = [0; 8];
    message[0] = first;
    let outcome = bench.run(bytemuck::cast_slice(&message));
    (outcome, words(&bench.reply))
}

/// Runs the body of a handler with a budget.
fn body_with_budget(body: &str, loop_budget: u32, first: u32) -> Outcome {
    let text = format!("fn on_message(m: In) -> Out {{ var r: array<u32, 8>; {body} return Out(r); }}");
    with_budget(&text, loop_budget, first).0
}

#[test]
fn sum_of_a_message() {
    let body = "var sum = 0u; for (var i = 0u; i < m.a[0]; i++) { sum += m.a[i + 1]; } r[0] = sum;";
    assert_eq!(evaluate(body, [3, 10, 20, 30, 40, 0, 0, 0])[0], 60);
}

#[test]
fn loops_with_continue_and_break_if() {
    let body = "var i = 0u; loop { if i == 3u { i += 2u; continue; } if i > 20u { break; } r[0] += i; \
                continuing { i += 1u; r[1] += 1u; break if i >= m.a[0]; } }";
    // i = 0, 1, 2, (3: to 5 without its sum), 6, 7, 8, 9; `continuing` runs each time.
    assert_eq!(evaluate(body, [10, 0, 0, 0, 0, 0, 0, 0])[..2], [33, 8]);
    let body = "for (var i = 0u; i < 4u; i++) { for (var j = 0u; ; j++) { if j == i { break; } if j == 1u { continue; } \
                r[0] += 10u * i + j; } if i == 2u { continue; } r[1] += i; }";
    assert_eq!(evaluate(body, [0; 8])[..2], [10 + 20 + 30 + 32, 4]);
    let body = "var i = m.a[0]; while i > 0u && r[0] < 100u { r[0] += i; i--; } r[1] = i;";
    assert_eq!(evaluate(body, [20, 0, 0, 0, 0, 0, 0, 0])[..2], [105, 14]);
}

#[test]
fn what_the_end_of_a_loop_uses_is_of_this_iteration() {
    let body = "var i = 0u; var w = 0u; loop { let x = i; if i == 1u { continue; } \
                continuing { w += x; i += 1u; break if i >= 3u; } } r[0] = w;";
    assert_eq!(evaluate(body, [0; 8])[0], 3);
    // Copies that a store behind the `continue` would have asked for; and what `break if` looks at.
    let body = "var i = 0u; var v = vec3(0u); loop { let x = i; let y = v; let z = y.y; if i % 2u == 1u { continue; } \
                i += 2u; v.y += 10u; loop { let u = v.z; v.z += 1u; if v.z % 3u == 1u { continue; } v.x += 1u; \
                continuing { r[4] += u; break if u >= 5u; } } \
                continuing { r[0] += x; r[1] += y.y; r[2] += z; i += 1u; break if x >= 9u; } } r[3] = i; r[5] = v.x;";
    let mut wanted = [0u32; 6];
    let (mut i, mut v) = (0, [0u32; 3]);
    loop {
        let (x, y) = (i, v[1]);
        if i % 2 == 0 {
            i += 2;
            v[1] += 10;
            loop {
                let u = v[2];
                v[2] += 1;
                v[0] += u32::from(v[2] % 3 != 1);
                wanted[4] += u;
                if u >= 5 {
                    break;
                }
            }
        }
        wanted[0] += x;
        wanted[1] += y;
        wanted[2] += y;
        i += 1;
        if x >= 9 {
            break;
        }
    }
    (wanted[3], wanted[5]) = (i, v[0]);
    assert_eq!(evaluate(body, [0; 8])[..6], wanted);
    let text = "var<private> p: u32; fn bump() -> u32 { p += 5u; return p; }
                fn on_message(m: In) -> Out { var r: array<u32, 8>; var i = 0u; loop { let x = p; \
                if i == m.a[0] { continue; } r[1] += bump(); \
                continuing { r[0] += x; i += 1u; break if i >= 4u; } } return Out(r); }";
    // `p` is 0, 5 and, where nothing is added to it, 10 twice.
    assert_eq!(with_budget(text, 100, 2).1[..2], [25, 5 + 10 + 15]);
}

#[test]
fn a_loaded_value_stays_what_it_was() {
    let body = "var x = m.a[0]; var y = m.a[1]; let a = x; x = y; y = a; r[0] = x; r[1] = y; \
                let b = x; if m.a[2] == 1u { x = 50u; } r[2] = b; r[3] = x; \
                let c = x; for (var i = 0u; i < 3u; i++) { x += c; r[4] += c; } r[5] = x; \
                var t = array<u32, 2>(1u, 2u); let d = t; t[m.a[2]] = 9u; \
                r[6] = d[0] + 10u * d[1] + 100u * t[0] + 1000u * t[1]; \
                var less = y < x; if less { r[7] = 1u; } if less { r[7] += 2u; }";
    assert_eq!(evaluate(body, [3, 10, 1, 0, 0, 0, 0, 0]), [10, 3, 10, 50, 150, 200, 9121, 3]);
    assert_eq!(evaluate(body, [3, 10, 0, 0, 0, 0, 0, 0]), [10, 3, 10, 10, 30, 40, 2921, 3]);
    let text = "var<private> p: u32; fn store(at: ptr<function, u32>) { let q = *at; *at = 7u; p += q; }
                fn on_message(m: In) -> Out { var r: array<u32, 8>; var x = m.a[0]; let a = x; let b = p; store(&x); \
                r[0] = a; r[1] = x; r[2] = b; r[3] = p; return Out(r); }";
    assert_eq!(with_budget(text, 1, 5).1[..4], [5, 7, 0, 5]);
}

#[test]
fn switches() {
    let body = "for (var i = 0u; i < 6u; i++) { switch i { case 0u, 1u: { r[0] += 1u; } \
                case 2u: { if m.a[0] == 0u { break; } r[1] = 7u; } case 3u: { continue; } \
                case 4u, default: { r[2] += i; } } r[3] += 1u; } \
                switch i32(m.a[1]) { case -1: { r[4] = 1u; } default { r[4] = 2u; } } \
                switch m.a[0] { default: { r[5] = 9u; } }";
    assert_eq!(evaluate(body, [0, u32::MAX, 0, 0, 0, 0, 0, 0])[..6], [2, 0, 9, 5, 1, 9]);
    assert_eq!(evaluate(body, [1, 5, 0, 0, 0, 0, 0, 0])[..6], [2, 7, 9, 5, 2, 9]);
}

#[test]
fn short_switches_choose_values() {
    let text = "fn on_message(m: In) -> Out { var r: array<u32, 8>; let u = m.a[0]; let i = bitcast<i32>(m.a[0]); \
                var x = f32(m.a[1]) * 0.5; var n = m.a[1]; var z = x; var yes = false; var count = 7u; \
                switch u { case 0u, 1u, 2u: {} case 3u, 4u: { x += 0.25; } default: { x = -x; } } \
                switch i { case -2, -1: { n += 5u; z = 1.5; } default: { z *= 3.0; } case 2147483647: { n = 1u; } } \
                switch u { case 5u, default: { yes = true; } case 4294967295u: { yes = n == 1u; } case 0u: {} } \
                switch i { case 3, 1: { n ^= 9u; } default: {} } \
                switch u { case 0u: { n += 1u; } case 1u: { n += 2u; } case 2u: { n += 3u; } case 3u: { n += 4u; } \
                default: { n += 100u; } } \
                if u < 3u { count += 1u; } if yes && n > 5u { count++; } if !yes || x < 0.0 { count += 1u; } \
                let first = u == 4u; if first { count = 1u; } else { count = 0u + count; } \
                r[0] = bitcast<u32>(x); r[1] = n; r[2] = bitcast<u32>(z); r[3] = u32(yes); r[4] = count; return Out(r); }";
    let mut bench = Bench::new(&source(text)).unwrap();
    let selectors =
        (0..8).chain([100, 0x7fff_fffe, 0x7fff_ffff, 0x8000_0000, 0xffff_fffd, 0xffff_fffe, 0xffff_ffff]);
    for u in selectors {
        for n in [0u32, 1, 6] {
            let message = [u, n, 0, 0, 0, 0, 0, 0];
            assert_eq!(bench.run(bytemuck::cast_slice(&message)), Outcome::Done);
            let half = n as f32 * 0.5;
            let x = match u {
                0..=2 => half,
                3 | 4 => half + 0.25,
                _ => -half,
            };
            let (mut count, mut other, z) = match u as i32 {
                -2 | -1 => (7, n + 5, 1.5),
                i32::MAX => (7, 1, half),
                _ => (7, n, half * 3.0),
            };
            let yes = u != 0 && (u != u32::MAX || other == 1);
            if [1, 3].contains(&u) {
                other ^= 9;
            }
            other += if u < 4 { u + 1 } else { 100 };
            count += u32::from(u < 3) + u32::from(yes && other > 5) + u32::from(!yes || x < 0.0);
            count = if u == 4 { 1 } else { count };
            let expected = [x.to_bits(), other, z.to_bits(), u32::from(yes), count];
            assert_eq!(words(&bench.reply)[..5], expected, "{u} {n}");
        }
    }
}

#[test]
fn a_switch_in_a_loop_in_a_function_returns_early() {
    let text = "fn find(a: array<u32, 8>, x: u32) -> i32 { var copy = a; for (var i = 0; i < 8; i++) { \
                switch copy[i] { case 77u: { return -7; } default: { if copy[i] == x { return i; } } } } return -1; }
                fn on_message(m: In) -> Out { var r: array<u32, 8>; r[0] = u32(find(m.a, 5u)); \
                r[1] = u32(find(m.a, 6u)); r[2] = u32(find(m.a, 9u)); return Out(r); }";
    let mut bench = Bench::new(&source(text)).unwrap();
    assert_eq!(bench.words(&[1, 5, 9, 9, 1, 1, 1, 1])[..3], [1, u32::MAX, 2]);
    assert_eq!(bench.words(&[77, 5, 9, 9, 1, 1, 1, 1])[..3], [-7i32 as u32; 3]);
}

#[test]
fn short_circuit_spares_the_right_side() {
    let text = "var<private> calls: u32;
                fn touch(x: bool) -> bool { calls += 1u; return x; }
                fn on_message(m: In) -> Out { var r: array<u32, 8>; \
                if m.a[0] == 1u && touch(true) { r[0] = 1u; } if m.a[0] == 0u || touch(true) { r[1] = 1u; } \
                r[2] = calls; return Out(r); }";
    let mut bench = Bench::new(&source(text)).unwrap();
    assert_eq!(bench.words(&[0; 8])[..3], [0, 1, 0]);
    assert_eq!(bench.words(&[1, 0, 0, 0, 0, 0, 0, 0])[..3], [1, 1, 2]);
}

#[test]
fn pointers_to_variables_members_and_elements() {
    let text = "struct Pair { x: u32, v: vec3<f32> }
                var<private> kept: array<Pair, 2>;
                fn add(p: ptr<function, u32>, n: u32) -> u32 { *p += n; return *p; }
                fn put(p: ptr<private, array<Pair, 2>>, i: u32) { let q = &(*p)[i]; (*q).x = i + 5u; (*q).v[i] = 2.5; }
                fn on_message(m: In) -> Out { var r: array<u32, 8>; var local = array(m.a[0], 7u); \
                r[0] = add(&local[0], 2u) + add(&local[0], 3u); r[1] = local[0]; \
                put(&kept, m.a[1]); put(&kept, 0u); r[2] = kept[m.a[1]].x; r[3] = u32(kept[1].v.y * 2.0); \
                let whole = kept; r[4] = whole[m.a[1]].x + u32(whole[0].v[0]); \
                let e = &local[m.a[1]]; *e = 40u; r[5] = local[1]; \
                var w = vec4(0u); let c = &w; (*c).y = 3u; w[m.a[1] + 1u] += 2u; r[6] = w.x + 10u * w.y + 100u * w.z; \
                return Out(r); }";
    let mut bench = Bench::new(&source(text)).unwrap();
    let got = bench.words(&[1, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(got[..7], [3 + 6, 6, 6, 5, 6 + 2, 40, 230]);
}

#[test]
fn variables_in_loops_begin_anew() {
    let body = "for (var i = 0u; i < 3u; i++) { var x: u32; var y = 5u; x += 1u; y += x; r[i] = y; }";
    assert_eq!(evaluate(body, [0; 8])[..3], [6, 6, 6]);
    let text = "fn f() -> u32 { var x: array<u32, 3>; x[1] += 1u; return x[1]; }
                fn on_message(m: In) -> Out { var r: array<u32, 8>; r[0] = f(); r[1] = f(); return Out(r); }";
    assert_eq!(Bench::new(&source(text)).unwrap().words(&[0; 8])[..2], [1, 1]);
}

#[test]
fn private_variables_begin_anew_for_every_message() {
    let text = "var<private> n: u32; var<private> v = vec3(1.0, 2.0, 3.0); var<private> on: bool = true;
                var<private> list = array<u32, 3>(4, 5, 6); const K = 2u + 1u; var<private> k: u32 = K * 2u;
                fn on_message(m: In) -> Out { var r: array<u32, 8>; n += 1u; v *= 2.0; list[m.a[0]] += 1u; \
                r[0] = n; r[1] = u32(v.z); r[2] = u32(on); r[3] = list[0] + 10u * list[1]; r[4] = k; \
                on = false; k = 0u; return Out(r); }";
    let mut bench = Bench::new(&source(text)).unwrap();
    for _ in 0..3 {
        assert_eq!(bench.words(&[1, 0, 0, 0, 0, 0, 0, 0])[..5], [1, 6, 1, 64, 6]);
    }
}

#[test]
fn overrides_with_a_value_are_constants() {
    let text = "override scale: u32 = 3; override twice = scale * 2u;
                fn on_message(m: In) -> Out { var r: array<u32, 8>; r[0] = m.a[0] * twice; return Out(r); }";
    assert_eq!(Bench::new(&source(text)).unwrap().words(&[7; 8])[0], 42);
}

#[test]
fn indices_are_clamped() {
    let body = "var x = array(10u, 11u, 12u); let i = m.a[0]; let j = i32(m.a[0]); r[0] = x[i]; r[1] = x[j]; \
                x[j] = 99u; r[2] = x[0] + 1000u * x[2]; let v = vec3(20u, 21u, 22u); r[3] = v[i]; r[4] = v[j]; \
                var w = v; w[j] = 0u; r[5] = w.x; \
                var t = mat2x3(1.0, 2.0, 3.0, 4.0, 5.0, 6.0); r[6] = u32(t[i][j]); let y = m.a; r[7] = y[i];";
    assert_eq!(evaluate(body, [u32::MAX, 0, 0, 0, 0, 0, 0, 8]), [12, 10, 99 + 12_000, 22, 20, 0, 4, 8]);
    assert_eq!(evaluate(body, [3, 0, 0, 0, 0, 0, 0, 8]), [12, 12, 10 + 99_000, 22, 22, 20, 6, 0]);
    assert_eq!(evaluate(body, [1, 6, 0, 0, 0, 0, 0, 8]), [11, 11, 12_010, 21, 21, 20, 5, 6]);
}

#[test]
fn a_budget_of_n_allows_n_iterations() {
    let counted = "for (var i = 0u; i < m.a[0]; i++) { r[0] += i; }";
    assert_eq!(body_with_budget(counted, 10, 10), Outcome::Done);
    assert_eq!(body_with_budget(counted, 10, 11), LOOP_BUDGET);
    let with_and = "var i = 0u; while i < m.a[0] && r[1] == 0u { i++; r[0] += i; }";
    assert_eq!(body_with_budget(with_and, 10, 10), Outcome::Done);
    assert_eq!(body_with_budget(with_and, 10, 11), LOOP_BUDGET);
    let bare = "var i = 0u; loop { i++; continuing { break if i == m.a[0]; } }";
    assert_eq!(body_with_budget(bare, 10, 10), Outcome::Done);
    assert_eq!(body_with_budget(bare, 10, 11), LOOP_BUDGET);
    // Nested loops share one budget: 3 outer and 3 * 2 inner iterations.
    let nested = "for (var i = 0u; i < m.a[0]; i++) { for (var j = 0u; j < 2u; j++) { r[0] += j; } }";
    assert_eq!(body_with_budget(nested, 9, 3), Outcome::Done);
    assert_eq!(body_with_budget(nested, 8, 3), LOOP_BUDGET);
}

#[test]
fn endless_loops_fault_wherever_they_are() {
    assert_eq!(
        body_with_budget("loop { r[0] += 1u; if r[0] == 0u && m.a[0] == 1u { break; } }", 1000, 0),
        LOOP_BUDGET
    );
    assert_eq!(body_with_budget("while true { if m.a[0] == 0u { continue; } break; }", 1000, 0), LOOP_BUDGET);
    let helper = "fn spin(x: u32) -> vec2<u32> { loop { if x == 1u { return vec2(x); } } return vec2(9u); }
                  fn on_message(m: In) -> Out { var r: array<u32, 8>; loop { r[0] += spin(m.a[0]).x; \
                  if r[0] == 5u { break; } } return Out(r); }";
    assert_eq!(with_budget(helper, 1000, 0).0, LOOP_BUDGET);
    assert_eq!(with_budget(helper, 1000, 1), (Outcome::Done, vec![5, 0, 0, 0, 0, 0, 0, 0]));
    let in_continuing = "var i = 0u; loop { r[0] += 1u; continuing { loop { i++; if i == 7u && m.a[0] == 1u { break; } \
                         } break if r[0] == 3u; } }";
    assert_eq!(body_with_budget(in_continuing, 1000, 0), LOOP_BUDGET);
    let with_call = "fn spin() { loop { } } fn on_message(m: In) -> Out { var r: array<u32, 8>; \
                     for (var i = 0u; i < 5u; i += 1u) { switch i { case 3u: { spin(); } default: {} } } return Out(r); }";
    assert_eq!(with_budget(with_call, 1000, 0).0, LOOP_BUDGET);
}

#[test]
fn the_budget_is_full_again_for_the_next_message() {
    let text = "fn on_message(m: In) -> Out { var r: array<u32, 8>; \
                for (var i = 0u; i < m.a[0]; i++) { r[0]++; } return Out(r); }";
    let mut bench = Bench::new(&HandlerSource { loop_budget: 100, ..source(text) }).unwrap();
    for _ in 0..3 {
        assert_eq!(bench.run(bytemuck::cast_slice(&[101u32; 8])), LOOP_BUDGET);
        assert_eq!(bench.words(&[100; 8])[0], 100);
    }
}

#[test]
fn state_is_written_only_when_done() {
    let text = "fn on_message(m: In, s: ptr<function, State>) -> Out { var r: array<u32, 8>; (*s).n += m.a[0]; \
                s.sum = s.sum * 0.5 + 1.0; while m.a[1] == 1u {} r[0] = s.n; return Out(r); }";
    let mut bench = Bench::new(&HandlerSource { state: Some(STATE), ..source(text) }).unwrap();
    assert_eq!(bench.program.state_size(), 8);
    assert!(bench.program.has_state() && bench.program.has_loops);
    assert_eq!(bench.words(&[5, 0, 0, 0, 0, 0, 0, 0])[0], 5);
    assert_eq!(bench.run(bytemuck::cast_slice(&[9u32, 1, 0, 0, 0, 0, 0, 0])), LOOP_BUDGET);
    assert_eq!(bench.words(&[2, 0, 0, 0, 0, 0, 0, 0])[0], 7);
    assert_eq!(words(&bench.state), [7, 1.5f32.to_bits()]);
}

#[test]
fn any_type_can_be_the_state_if_rust_does_not_say() {
    let text = "fn on_message(m: In, s: ptr<function, array<u32, 3>>) -> Out { var r: array<u32, 8>; \
                (*s)[m.a[0]] += 1u; r[0] = (*s)[2]; return Out(r); }";
    let mut bench = Bench::new(&source(text)).unwrap();
    assert_eq!(
        bench.program.state.clone().map(|s| (s.name, s.size)),
        Some(("array<u32, 3>".to_string(), 12))
    );
    assert_eq!(bench.words(&[2; 8])[0], 1);
    assert_eq!(bench.words(&[9; 8])[0], 2);
    assert_eq!(words(&bench.state), [0, 0, 2]);
}

#[test]
fn a_handler_may_be_silent_and_take_nothing() {
    let text = "fn on_message(s: ptr<function, State>) { s.n += 1u; }";
    let quiet = HandlerSource { input: UNIT, output: UNIT, state: Some(STATE), ..source(text) };
    let mut bench = Bench::new(&quiet).unwrap();
    assert!(!bench.program.has_message && !bench.program.has_loops);
    assert_eq!((bench.run(&[]), bench.run(&[])), (Outcome::Done, Outcome::Done));
    assert_eq!(words(&bench.state)[0], 2);
}

#[test]
fn the_stop_word_and_the_deadline_interrupt_a_long_loop() {
    let text = "fn on_message(m: In) -> Out { var r: array<u32, 8>; loop { r[0]++; if r[0] == m.a[0] { break; } } \
                return Out(r); }";
    let mut bench = Bench::new(&HandlerSource { loop_budget: u32::MAX, ..source(text) }).unwrap();
    let endless = [0u32; 8];
    bench.stop_word.store(STOP_NOW, Ordering::Relaxed);
    assert_eq!(bench.run(bytemuck::cast_slice(&endless)), Outcome::Interrupted);
    bench.stop_word.store(STOP_AFTER_MESSAGE, Ordering::Relaxed);
    assert_eq!(bench.words(&[5000; 8])[0], 5000);

    let message = bytemuck::cast_slice(&endless);
    let begin = Instant::now();
    // Each engine's own; they are few.
    let soon = || {
        let deadline = Some(Instant::now() + Duration::from_millis(20));
        StopCheck::new(&bench.stop_word, Box::leak(Box::new(Limits { deadline, slice: None })))
    };
    bench.on_each(message, &soon, |outcome| assert_eq!(outcome, Outcome::Interrupted));
    assert!(begin.elapsed() < Duration::from_secs(5));

    let word = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in bench.engines() {
                std::thread::sleep(Duration::from_millis(10));
                word.store(STOP_NOW, Ordering::Relaxed);
                while word.load(Ordering::Relaxed) != 0 {
                    std::thread::yield_now();
                }
            }
        });
        bench.on_each(message, &|| StopCheck::new(&word, &Limits::NONE), |outcome| {
            assert_eq!(outcome, Outcome::Interrupted);
            word.store(0, Ordering::Relaxed);
        });
    });
}

#[test]
fn emits_are_counted_and_kept_in_order() {
    let text = "fn on_message(m: In) -> Out { var r: array<u32, 8>; for (var i = 0u; i < m.a[0]; i++) { \
                emit_alerts(Alert(m.a[i + 1], 0.5)); } if m.a[0] == 2u { emit_log(Alert(77, 1.0)); } return Out(r); }";
    let outputs = [output("alerts", 3), output("log", 1)];
    let mut bench = Bench::new(&HandlerSource { outputs: &outputs, ..source(text) }).unwrap();
    let [alerts, log] = [0, 1].map(|i: usize| bench.program.emits[i].clone());
    assert_eq!((alerts.stride, alerts.size, alerts.max, log.max), (8, 8, 3, 1));
    let count = |bench: &Bench, offset: u32| words(&bench.privates[offset as usize..])[0];
    let mut run = |message: [u32; 8]| {
        let outcome = bench.run(bytemuck::cast_slice(&message));
        let codes: Vec<_> = (0..count(&bench, alerts.count_offset))
            .map(|i| count(&bench, alerts.items_offset + i * alerts.stride))
            .collect();
        let level = count(&bench, alerts.items_offset + 4);
        (outcome, codes, level, count(&bench, log.count_offset), count(&bench, log.items_offset))
    };
    let half = 0.5f32.to_bits();
    assert_eq!(run([2, 8, 9, 0, 0, 0, 0, 0]), (Outcome::Done, vec![8, 9], half, 1, 77));
    assert_eq!(run([3, 5, 6, 7, 0, 0, 0, 0]), (Outcome::Done, vec![5, 6, 7], half, 0, 77));
    assert_eq!(run([0, 5, 6, 7, 0, 0, 0, 0]), (Outcome::Done, vec![], half, 0, 77));
    assert_eq!(run([4, 5, 6, 7, 8, 0, 0, 0]).0, Outcome::Fault(FaultCode::EmitOverflow));
    assert_eq!(run([1, 4, 0, 0, 0, 0, 0, 0]), (Outcome::Done, vec![4], half, 0, 77));
}

#[test]
fn the_first_fault_is_the_one_reported() {
    let text = "fn on_message(m: In) -> Out { var r: array<u32, 8>; \
                if m.a[0] == 1u { loop {} } emit_log(Alert()); emit_log(Alert()); loop {} return Out(r); }";
    let outputs = [output("log", 1)];
    let source = HandlerSource { outputs: &outputs, loop_budget: 10, ..source(text) };
    let mut bench = Bench::new(&source).unwrap();
    assert_eq!(bench.run(bytemuck::cast_slice(&[1u32; 8])), LOOP_BUDGET);
    assert_eq!(bench.run(bytemuck::cast_slice(&[0u32; 8])), Outcome::Fault(FaultCode::EmitOverflow));
}
