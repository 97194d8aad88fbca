//! Barriers that not all invocations reach are refused, and others are not.

use super::both;
use super::errors::mentions;
use ringwork::Error;

#[test]
fn barriers_that_not_all_reach() {
    let (_runtime, orchestrator) = both();
    let body = |body: &str| {
        format!(
            "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
             var<workgroup> w: array<u32, 64>; var<workgroup> n: atomic<u32>; struct P {{ a: u32, b: u32 }} var<workgroup> v: array<P, 2>;
             @compute @workgroup_size(64)
             fn main(@builtin(local_invocation_index) i: u32, @builtin(workgroup_id) g: vec3<u32>) {{
                 w[i] = i;
                 {body}
                 x[i] = w[63u - i];
             }}"
        )
    };
    let refused = [
        "if i < 32u { workgroupBarrier(); }",
        "if x[0] == 1u { return; } workgroupBarrier();",
        "for (var k = 0u; k < i; k++) { workgroupBarrier(); }",
        "var k = 0u; loop { if k > 3u { break; } k += w[i]; workgroupBarrier(); }",
        "for (var k = 0u; k < 4u; k++) { if w[k] == 2u { continue; } workgroupBarrier(); }",
        "switch i { case 1u: { storageBarrier(); } default: {} }",
        "var k = 1u; if i == 5u { k = 2u; } if k == 1u { workgroupBarrier(); }",
        "if i > 3u { return; } let y = workgroupUniformLoad(&w[0]); x[y] = 1u;",
        "if atomicAdd(&n, 1u) == 2u { workgroupBarrier(); }",
        "if i == 1u { { storageBarrier(); } }",
        "if i == 1u { switch g.x { case 1u: { workgroupBarrier(); } default: {} } }",
    ];
    for text in refused {
        // Shown if one of them is not.
        println!("{text}");
        mentions(
            orchestrator.kernel(&body(text), "main"),
            Error::is_rejected,
            &[
                "<compute \"main\">:6:",
                "not all invocations of a workgroup reach this barrier together",
                "line 6",
            ],
        );
    }
    let leaves =
        "switch g.x { case 0u: { workgroupBarrier(); if i == 0u { break; } x[i] = 1u; } default: {} }";
    mentions(
        orchestrator.kernel(&body(leaves), "main"),
        Error::is_rejected,
        &["<compute \"main\">:6:", "leave the `switch` around this barrier by a `break`", "line 6"],
    );
    mentions(
        orchestrator.kernel(&body("let y = workgroupUniformLoad(&v[i % 2u].b); x[y] = 1u;"), "main"),
        Error::is_rejected,
        &["<compute \"main\">:6:", "gives one place's value to all invocations", "this place differs"],
    );
    let accepted = [
        "let y = workgroupUniformLoad(&v[g.x % 2u].b); x[workgroupUniformLoad(&w[y])] = 1u;",
        "switch g.x { case 0u: { workgroupBarrier(); if g.y == 0u { break; } x[i] = 1u; } default: {} }",
        "if g.x == 1u { workgroupBarrier(); }",
        "for (var k = g.x; k < arrayLength(&x); k += 32u) { workgroupBarrier(); }",
        "let y = workgroupUniformLoad(&w[0]); if y == 3u { return; } workgroupBarrier();",
        "var k = 0u; loop { workgroupBarrier(); k++; if k > 3u { break; } }",
        "switch g.y { case 1u: { workgroupBarrier(); } default: { storageBarrier(); } }",
    ];
    for text in accepted {
        assert!(orchestrator.kernel(&body(text), "main").is_ok(), "{text}");
    }
}

#[test]
fn a_continue_past_a_uniform_load() {
    let (_runtime, orchestrator) = both();
    let text = "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
var<workgroup> w: u32;
@compute @workgroup_size(4) fn main(@builtin(workgroup_id) g: vec3<u32>) {
    loop {
        if g.x == 1u { continue; }
        let y = workgroupUniformLoad(&w);
        continuing { x[0] = y; break if g.x < 9u; }
    }
}";
    mentions(
        orchestrator.kernel(text, "main"),
        Error::is_rejected,
        &["<compute \"main\">:6:", "a `continue` before this leads past it, but `continuing` uses it"],
    );
}

#[test]
fn barriers_are_checked_in_a_time_that_anyone_waits_for() {
    let (_runtime, orchestrator) = both();
    let chain = |first: &str, step: &str| {
        let mut text = format!("let a0 = {first};");
        for n in 1..=60 {
            text += &format!(" let a{n} = {};", step.replace('@', &format!("a{}", n - 1)));
        }
        text
    };
    let squares = chain("g.x", "@ * @");
    let functions: String = (1..=40)
        .map(|n| format!("fn f{n}(x: u32) -> u32 {{ return f{0}(x) + f{0}(x); }}\n", n - 1))
        .collect();
    let (open, close) = ("loop { if g.x == 1u { break; } ".repeat(40), "break; }".repeat(40));
    for body in [
        format!("{squares} var v = a60; workgroupBarrier(); w[i] = v;"),
        "if f40(g.x) == 1u { workgroupBarrier(); }".to_owned(),
        format!("{open} workgroupBarrier(); {close}"),
    ] {
        let text = format!(
            "var<workgroup> w: array<u32, 4>;
             fn f0(x: u32) -> u32 {{ return x; }}
             {functions}
             @compute @workgroup_size(4)
             fn main(@builtin(local_invocation_index) i: u32, @builtin(workgroup_id) g: vec3<u32>) {{ {body} }}"
        );
        let kernel = orchestrator.kernel(&text, "main");
        assert!(kernel.is_ok(), "{:?}", kernel.err());
    }
}

#[test]
fn a_call_without_a_result_may_make_a_difference() {
    let (_runtime, orchestrator) = both();
    let text = "@group(0) @binding(0) var<storage, read_write> x: atomic<u32>;
fn next(p: ptr<function, u32>) { *p = atomicAdd(&x, 1u); }
fn number() -> u32 { var n = 0u; next(&n); return n; }
@compute @workgroup_size(4) fn main() {
    if number() == 0u { workgroupBarrier(); }
}";
    mentions(orchestrator.kernel(text, "main"), Error::is_rejected, &["not all invocations"]);
}

#[test]
fn barriers_in_functions_that_not_all_reach() {
    let (_runtime, orchestrator) = both();
    let text = |helper: &str, call: &str| {
        format!(
            "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
             var<workgroup> w: array<u32, 64>;
             fn helper(i: u32) -> u32 {{
                 {helper}
             }}
             @compute @workgroup_size(64)
             fn main(@builtin(local_invocation_index) i: u32, @builtin(workgroup_id) g: vec3<u32>) {{
                 w[i] = i;
                 {call}
             }}"
        )
    };
    let refused = [
        (
            "workgroupBarrier(); return 1u;",
            "if i < 32u { x[i] = helper(i); }",
            "<compute \"main\">:4:",
            "line 9",
        ),
        (
            "if i < 5u { workgroupBarrier(); } return 1u;",
            "x[i] = helper(i);",
            "<compute \"main\">:4:",
            "line 4",
        ),
        ("if i < 5u { return 2u; } workgroupBarrier(); return 1u;", "x[i] = helper(i);", ":4:", "line 4"),
        (
            "for (var k = 0u; k < 9u; k++) { if k == i { return 2u; } workgroupBarrier(); } return 1u;",
            "x[i] = helper(i);",
            ":4:",
            "line 4",
        ),
        ("workgroupBarrier(); return i;", "if helper(i) == 3u { storageBarrier(); }", ":9:", "line 9"),
    ];
    for (helper, call, place, line) in refused {
        let parts = [place, "not all invocations of a workgroup reach this barrier together", line];
        mentions(orchestrator.kernel(&text(helper, call), "main"), Error::is_rejected, &parts);
    }
    // Directly, and out of a loop in it.
    for leave in ["if i == 0u { return 1u; }", "for (var k = 0u; k < 9u; k++) { if k == i { return 1u; } }"] {
        let helper = format!(
            "switch arrayLength(&x) {{ case 7u: {{ workgroupBarrier(); {leave} }} default: {{}} }} return 2u;"
        );
        let parts =
            ["leave the `switch` around this barrier by a `return`", "instead of the `return`", "line 4"];
        mentions(
            orchestrator.kernel(&text(&helper, "x[i] = helper(i);"), "main"),
            Error::is_rejected,
            &parts,
        );
    }
    let accepted = [
        ("if i < 5u { workgroupBarrier(); } return 1u;", "x[i] = helper(g.x);"),
        (
            "workgroupBarrier(); if w[i] == 5u { return 2u; } return 1u;",
            "x[i] = helper(i); workgroupBarrier();",
        ),
        ("workgroupBarrier(); return i;", "if helper(g.x) == 3u { storageBarrier(); }"),
    ];
    for (helper, call) in accepted {
        assert!(orchestrator.kernel(&text(helper, call), "main").is_ok(), "{helper} {call}");
    }
    // Each calls the one before it twice.
    let many: String = (1..=10).map(|n| format!("fn f{n}() {{ f{}(); f{}(); }}\n", n - 1, n - 1)).collect();
    let many = format!(
        "fn f0() {{ workgroupBarrier(); }}\n{many}@compute @workgroup_size(1) fn main() {{ f10(); }}"
    );
    let parts = ["has a barrier", "more than 1000 times", "call them in a loop"];
    mentions(orchestrator.kernel(&many, "main"), Error::is_rejected, &parts);
}
