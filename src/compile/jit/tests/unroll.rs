//! Loops that are unrolled, and those that only look as if they could be: on both engines, which must agree.

use crate::compile::jit::translate;
use crate::compile::tests::*;
use crate::compile::{FaultCode, HandlerSource, Outcome, compile};
use crate::message::Layout;

/// The first word of the reply to a message, on all engines.
fn first(body: &str, message: [u32; 8]) -> u32 {
    evaluate(body, message)[0]
}

#[test]
fn every_form_of_counting() {
    for (head, times) in [
        ("var i = 0u; i < 8u; i++", 8),
        ("var i = 3u; i <= 9u; i += 2u", 4),
        ("var i = 7; i >= 0; i--", 8),
        ("var i = 5; i > -5; i -= 3", 4),
        ("var i = 0u; i != 12u; i += 3u", 4),
        ("var i = 4294967290u; i > 5u; i++", 6),
        ("var i = 9u; i < 8u; i++", 0),
        ("var i = 0u; i < 16u; i++", 16),
        ("var i = 0u; i < 17u; i++", 17),
        ("var i = -2147483647; i < 0; i -= 1", 1),
    ] {
        let body = format!("for ({head}) {{ r[0] += 1u; r[1] = u32(i); }}");
        let times_run = if head.contains("-2147483647") {
            // To the least number and on from the greatest, which is not below zero.
            2
        } else {
            times
        };
        assert_eq!(first(&body, [0; 8]), times_run, "{head}");
    }
}

#[test]
fn ways_out_and_on() {
    let body = "for (var i = 0u; i < 8u; i++) { if m.a[i] == 7u { break; } if m.a[i] == 3u { continue; } \
                r[0] += m.a[i]; for (var j = 0u; j < 3u; j++) { if j == i { continue; } r[1] += j; } }";
    assert_eq!(evaluate(body, [1, 3, 5, 7, 100, 0, 0, 0])[..2], [6, (1 + 2) + (1)]);
    let text = "fn find(a: array<u32, 8>, x: u32) -> u32 { var copy = a; \
                for (var i = 0u; i < 8u; i++) { if copy[i] == x { return i; } } return 99u; }
                fn on_message(m: In) -> Out { var r: array<u32, 8>; r[0] = find(m.a, 5u); r[1] = find(m.a, 6u); \
                return Out(r); }";
    let mut bench = Bench::new(&source(text)).unwrap();
    assert_eq!(bench.words(&[9, 8, 5, 0, 0, 0, 0, 1])[..2], [2, 99]);
}

#[test]
fn counters_that_something_else_changes() {
    let body = "for (var i = 0u; i < 8u; i++) { r[0] += 1u; if m.a[i] > 0u { i += 2u; } }";
    assert_eq!(first(body, [1, 0, 0, 1, 0, 0, 0, 0]), 4);
    let text = "fn skip(i: ptr<function, u32>) { *i += 1u; }
                fn on_message(m: In) -> Out { var r: array<u32, 8>; \
                for (var i = 0u; i < 8u; i++) { r[0] += 1u; skip(&i); } return Out(r); }";
    assert_eq!(Bench::new(&source(text)).unwrap().words(&[0; 8])[0], 4);
    let body = "var i = m.a[0]; for (; i < 8u; i++) { r[0] += 1u; } r[1] = i;";
    assert_eq!(evaluate(body, [5, 0, 0, 0, 0, 0, 0, 0])[..2], [3, 8]);
}

#[test]
fn a_counter_that_was_loaded_before_the_loop() {
    let fault = Outcome::Fault(FaultCode::LoopBudget);
    for (body, first) in [
        ("let x = i; for (; x < 4u; i += 1u) { n += 1u; if n == 10u { break; } }", Ok(10)),
        ("let x = i; for (; x < 4u; i += 1u) { n += 1u; }", Err(fault)),
        ("let x = i; for (; i < 4u; i = x + 1u) { n += 1u; if n == 10u { break; } }", Ok(10)),
        ("let x = i; for (; i < 4u; i = x + 4u) { n += 1u; if n == 10u { break; } }", Ok(1)),
        ("loop { if i >= 4u { break; } let x = i; n += 1u; continuing { i = x + 1u; } }", Ok(4)),
    ] {
        let text = format!(
            "fn on_message(m: In) -> Out {{ var r: array<u32, 8>; var i = 0u; var n = 0u; {body} \
             r[0] = n; return Out(r); }}"
        );
        let mut bench = Bench::new(&HandlerSource { loop_budget: 1000, ..source(&text) }).unwrap();
        let outcome = bench.run(&[0; 32]);
        let got = if outcome == Outcome::Done { Ok(words(&bench.reply)[0]) } else { Err(outcome) };
        assert_eq!(got, first, "{body}");
    }
}

#[test]
fn the_budget_counts_the_same_iterations() {
    let text = "fn on_message(m: In) -> Out { var r: array<u32, 8>; \
                for (var i = 0u; i < 4u; i++) { for (var j = 0u; j < 3u; j++) { r[i] += j; } } \
                for (var k = 0u; k < m.a[0]; k++) { r[7] += k; } return Out(r); }";
    // 4 + 4 * 3 iterations, and as many as the message says.
    for (budget, last, outcome) in [
        (16, 0, Outcome::Done),
        (15, 0, Outcome::Fault(FaultCode::LoopBudget)),
        (1, 0, Outcome::Fault(FaultCode::LoopBudget)),
        (20, 4, Outcome::Done),
        (20, 5, Outcome::Fault(FaultCode::LoopBudget)),
        (5000, 4984, Outcome::Done),
        (5000, 4985, Outcome::Fault(FaultCode::LoopBudget)),
    ] {
        let mut bench = Bench::new(&HandlerSource { loop_budget: budget, ..source(text) }).unwrap();
        let message = [last, 0, 0, 0, 0, 0, 0, 0u32];
        assert_eq!(bench.run(bytemuck::cast_slice(&message)), outcome, "budget {budget}, {last} at last");
    }
}

#[test]
fn short_loops_are_unrolled_and_long_ones_are_not() {
    let size = |limit: u32| {
        let text = format!(
            "fn on_message(m: In) -> Out {{ var r: array<u32, 8>; \
             for (var i = 0u; i < {limit}u; i++) {{ r[0] = r[0] * 31u + m.a[i % 8u]; }} return Out(r); }}"
        );
        translate(&compile(&source(&text)).unwrap()).unwrap().code.len()
    };
    assert!(size(16) > size(4) + 12 * 4, "sixteen copies take more room than four");
    assert!(size(1000).abs_diff(size(17)) < 16, "seventeen iterations are a loop like a thousand");
}

#[test]
fn a_named_constant_bounds_a_loop_as_a_literal_does() {
    let size = |limit: &str| {
        let text = format!(
            "const N = 8u; const M = 8; fn on_message(m: In) -> Out {{ var r: array<u32, 8>; \
             for (var i = 0u; i < {limit}; i++) {{ r[0] = r[0] * 31u + m.a[i]; }} return Out(r); }}"
        );
        let mut bench = Bench::new(&source(&text)).unwrap();
        let message = [1, 2, 3, 4, 5, 6, 7, 8];
        let sum = message.iter().fold(0u32, |sum, x| sum.wrapping_mul(31).wrapping_add(*x));
        assert_eq!(bench.words(&message)[0], sum);
        translate(&compile(&source(&text)).unwrap()).unwrap().code.len()
    };
    assert_eq!(size("N"), size("8u"));
    let down = "for (var i = M; i > 0; i -= 2) { r[u32(i) / 2u] = u32(i); }";
    let text =
        format!("const M = 8; fn on_message(m: In) -> Out {{ var r: array<u32, 8>; {down} return Out(r); }}");
    assert_eq!(Bench::new(&source(&text)).unwrap().words(&[0; 8])[..5], [0, 2, 4, 6, 8]);
}

#[test]
fn state_is_not_copied_for_loops_that_cannot_run_out() {
    let size = |limit: &str| {
        let text = format!(
            "fn on_message(m: In, s: ptr<function, Line>) -> Out {{ var r: array<u32, 8>; \
             (*s).past[m.a[0] % 8u] = m.a[1]; \
             for (var i = 0u; i < {limit}; i++) {{ r[i] = (*s).past[(m.a[0] + i) % 8u]; }} return Out(r); }}"
        );
        const LINE: &Layout =
            &Layout { name: "Line", size: 32, align: 4, fields: &[array("past", 0, U32, 8)] };
        let program = compile(&HandlerSource { state: Some(LINE), ..source(&text) }).unwrap();
        translate(&program).unwrap().needs_replay
    };
    assert!(size("m.a[2]"), "a loop that the message bounds may run out of its budget");
    assert!(!size("8u"), "eight iterations may not");
}
