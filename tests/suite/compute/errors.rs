//! What is refused, with a sentence that says what to do, and nothing lost.

use super::both;
use ringwork::{Error, Result};
use std::time::Duration;

#[track_caller]
fn refused<T>(result: Result<T>, is_kind: fn(&Error) -> bool, text: &str) {
    let error = result.err().expect("it is refused");
    assert!(is_kind(&error), "{error:?}");
    assert_eq!(error.to_string(), text);
}

#[track_caller]
pub(super) fn mentions<T>(result: Result<T>, is_kind: fn(&Error) -> bool, parts: &[&str]) {
    let error = result.err().expect("it is refused");
    assert!(is_kind(&error), "{error:?}");
    parts.iter().for_each(|part| assert!(error.to_string().contains(part), "`{part}` is not in: {error}"));
}

const COPY: &str = "@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) { out[id.x] = a[id.x]; }";

#[test]
fn names_that_are_not_bound_or_bound_twice() {
    let (runtime, orchestrator) = both();
    let (a, out) = (runtime.buffer(&[1.0f32; 8]).unwrap(), runtime.buffer(&[0.0f32; 8]).unwrap());
    let copy = orchestrator.kernel(COPY, "main").unwrap();
    refused(
        copy.clone().bind("a", &a).dispatch([1, 1, 1]),
        Error::is_rejected,
        "<compute \"main\">:2:23: no buffer is bound to `out`; call `.bind(\"out\", &buffer)`",
    );
    refused(
        copy.clone().bind("a", &a).bind("out", &out).bind("a", &out).dispatch([1, 1, 1]),
        Error::is_invalid,
        "`a` of `main` is bound twice; bind one buffer to it",
    );
    refused(
        copy.clone().bind("b", &a).dispatch([1, 1, 1]),
        Error::is_invalid,
        "a buffer is bound to `b`, but `main` uses no such variable; it uses `a`, `out`",
    );
    refused(
        copy.clone().bind("a", &a).bind("out", &a).dispatch([1, 1, 1]),
        Error::is_invalid,
        "`a` and `out` of `main` are bound to one buffer, and it is written; bind two",
    );
    assert_eq!(orchestrator.history(), [], "nothing ran");
    assert_eq!(out.to_vec().unwrap(), [0.0; 8]);
    copy.bind("a", &a).bind("out", &out).dispatch([1, 1, 1]).unwrap();
    assert_eq!(out.to_vec().unwrap(), [1.0; 8]);
}

#[test]
fn elements_of_another_type_or_size() {
    let (runtime, orchestrator) = both();
    let out = runtime.buffer(&[0.0f32; 8]).unwrap();
    let copy = orchestrator.kernel(COPY, "main").unwrap().bind("out", &out);
    let other = runtime.buffer(&[0u32; 8]).unwrap();
    refused(
        copy.clone().bind("a", &other).dispatch([1, 1, 1]),
        Error::is_rejected,
        "<compute \"main\">:1:23: one element of `a` is `f32` and takes 4 bytes, but the bound buffer's `u32` takes 4; \
         use the same type on both sides",
    );
    let wide = runtime.buffer(&[[0.0f32; 2]; 8]).unwrap();
    refused(
        copy.clone().bind("a", &wide).dispatch([1, 1, 1]),
        Error::is_rejected,
        "<compute \"main\">:1:23: one element of `a` is `f32` and takes 4 bytes, but the bound buffer's `[f32; 2]` takes \
         8; use the same type on both sides",
    );
    let text = "@group(0) @binding(0) var<storage, read_write> words: array<u32, 6>;
        @compute @workgroup_size(1) fn main() { words[5] = 1u; }";
    let short = runtime.buffer(&[0u32; 5]).unwrap();
    refused(
        orchestrator.kernel(text, "main").unwrap().bind("words", &short).dispatch([1, 1, 1]),
        Error::is_rejected,
        "<compute \"main\">:1:23: `words` needs 24 bytes, but the bound buffer has 20; bind a longer one",
    );
}

#[test]
fn dispatches_of_nothing_and_of_too_much() {
    let (runtime, orchestrator) = both();
    let (a, out) = (runtime.buffer(&[1.0f32; 8]).unwrap(), runtime.buffer(&[0.0f32; 8]).unwrap());
    let copy = orchestrator.kernel(COPY, "main").unwrap().bind("a", &a).bind("out", &out);
    for groups in [[0, 1, 1], [1, 0, 1], [1, 1, 0], [65_536, 1, 1], [1, u32::MAX, 1]] {
        let text = format!("a dispatch of `main` with {groups:?} workgroups; each number is 1 to 65535");
        refused(copy.dispatch(groups), Error::is_invalid, &text);
    }
    assert_eq!(out.to_vec().unwrap(), [0.0; 8]);
    refused(
        copy.clone().loop_budget(0).dispatch([1, 1, 1]),
        Error::is_invalid,
        "loop_budget of `main` is 0; it is at least 1",
    );
}

#[test]
fn entry_points_that_are_none() {
    let (_runtime, orchestrator) = both();
    refused(
        orchestrator.kernel(COPY, "copy"),
        Error::is_rejected,
        "<compute \"copy\">:1:1: there is no entry point `copy` (there is `main`); write `@compute \
         @workgroup_size(64) fn copy(…)`",
    );
    refused(
        orchestrator.kernel("fn helper() {}", "helper"),
        Error::is_rejected,
        "<compute \"helper\">:1:4: `helper` is a function, but no compute entry point; write `@compute \
         @workgroup_size(64) fn helper(…)` for it",
    );
    refused(
        orchestrator.kernel("@fragment fn shade() {}", "shade"),
        Error::is_rejected,
        "<compute \"shade\">:1:14: `shade` is not a compute entry point; write `@compute` before it",
    );
    refused(
        orchestrator.kernel("\n@compute @workgroup_size(32, 32) fn main() {}", "main"),
        Error::is_rejected,
        "<compute \"main\">:2:37: a workgroup of `main` is 32 × 32 × 1, which is 1024 invocations; write a \
         `@workgroup_size` of 1 to 256 invocations, at most 256 × 256 × 64",
    );
    mentions(
        orchestrator.kernel("@compute @workgroup_size(1) fn main() { let x = 1 +; }", "main"),
        Error::is_rejected,
        &["<compute \"main\">:1:52:"],
    );
    mentions(
        orchestrator.kernel("@compute @workgroup_size(1) fn main() { var x: u32 = 1.5; }", "main"),
        Error::is_rejected,
        &["<compute \"main\">:1:"],
    );
}

#[test]
fn what_not_every_backend_has() {
    let (_runtime, orchestrator) = both();
    let cases = [
        (
            "@group(0) @binding(0) var t: texture_2d<f32>;
          @compute @workgroup_size(1) fn main() { _ = textureLoad(t, vec2(0), 0); }",
            "is a texture",
        ),
        (
            "@group(4) @binding(0) var<storage, read_write> x: array<u32>;
          @compute @workgroup_size(1) fn main() { x[0] = 1u; }",
            "write `@group(0)` to `@group(3)`",
        ),
        (
            "var<workgroup> big: array<u32, 5000>;
          @compute @workgroup_size(1) fn main() { big[0] = 1u; }",
            "takes 20000 bytes, but a workgroup has 16384",
        ),
        (
            "var<workgroup> flags: array<bool, 5>;
          @compute @workgroup_size(1) fn main() { flags[0] = true; }",
            "`flags[…]` is a `bool` in workgroup memory",
        ),
        ("@compute @workgroup_size(1) fn main(@builtin(subgroup_size) n: u32) {}", "not every backend has"),
        (
            "@compute @workgroup_size(1) fn main(@location(0) n: u32) {}",
            "the parameter `n` of `main` is no `@builtin`",
        ),
        ("@compute @workgroup_size(1) fn main() {} /* and so on", "this comment is never closed"),
        (
            "var<private> huge: array<array<u32, 40000>, 40000>;
          @compute @workgroup_size(1) fn main() { huge[0][1] = 1u; }",
            "a type is larger than memory",
        ),
        (
            "struct Flags { a: u32, b: bool } @group(0) @binding(0) var<storage, read_write> flags: Flags;
          @compute @workgroup_size(1) fn main() { flags.b = true; }",
            "`bool`",
        ),
        (
            "@group(0) @binding(0) var<storage, read> x: array<u32>;
          @compute @workgroup_size(1) fn main() { x[0] = 1u; }",
            "is declared `read`",
        ),
        (
            "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
          @group(0) @binding(0) var<storage, read_write> y: array<u32>;
          @compute @workgroup_size(1) fn main() { x[0] = y[0]; }",
            "are both `@group(0) @binding(0)`",
        ),
    ];
    for (text, part) in cases {
        mentions(orchestrator.kernel(text, "main"), Error::is_rejected, &["<compute \"main\">:", part]);
    }
    let buffers: String = (0..8)
        .map(|n| format!("@group(0) @binding({n}) var<storage, read_write> x{n}: array<u32>;\n"))
        .collect();
    let sum: Vec<_> = (1..8).map(|n| format!("x{n}[0]")).collect();
    let text = format!("{buffers}@compute @workgroup_size(1) fn main() {{ x0[0] = {}; }}", sum.join(" + "));
    mentions(
        orchestrator.kernel(&text, "main"),
        Error::is_rejected,
        &["<compute \"main\">:8:", "`x7` is one buffer too many; an entry point has at most 7"],
    );
}

#[test]
fn constants_that_are_none() {
    let text = "override N: u32;
        override F = 1.5f;
        @group(0) @binding(0) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(N) fn main() { x[0] = F; }";
    let (runtime, orchestrator) = both();
    let x = runtime.buffer(&[0.0f32]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("x", &x);
    refused(
        kernel.dispatch([1, 1, 1]),
        Error::is_rejected,
        "<compute \"main\">:1:1: the override `N` has no value; call `.constant(\"N\", …)` or write one here",
    );
    refused(
        kernel.clone().constant("N", 1.5).dispatch([1, 1, 1]),
        Error::is_invalid,
        "the constant `N` is 1.5, which is no `u32`; set one that is",
    );
    refused(
        kernel.clone().constant("N", 1.0).constant("M", 1.0).dispatch([1, 1, 1]),
        Error::is_rejected,
        "<compute \"main\">:1:1: there is no `override M`, for which a constant is set; declare it, or remove the constant",
    );
    refused(
        kernel.clone().constant("N", 1.0).constant("N", 2.0).dispatch([1, 1, 1]),
        Error::is_rejected,
        "<compute \"main\">:1:1: the constant `N` is set twice; set it once",
    );
    mentions(
        kernel.clone().constant("N", 257.0).dispatch([1, 1, 1]),
        Error::is_rejected,
        &["a workgroup of `main` is 257 × 1 × 1"],
    );
    kernel.constant("N", 2.0).constant("F", -0.25).dispatch([1, 1, 1]).unwrap();
    assert_eq!(x.to_vec().unwrap(), [-0.25]);
}

#[test]
fn constants_that_their_types_do_not_have() {
    let text = "@id(7) override STEP: i32 = 2;
        @id(1300)
        override
            SCALE: f32;
        override REVERSED: bool = false;
        @group(0) @binding(0) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(1) fn main() { x[0] = select(1.0, -1.0, REVERSED) * SCALE * f32(STEP); }";
    let (runtime, orchestrator) = both();
    let x = runtime.buffer(&[0.0f32]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("x", &x);
    // By number as well as by name, and never by both.
    kernel.clone().constant("1300", 0.25).constant("7", -3.0).dispatch([1, 1, 1]).unwrap();
    assert_eq!(x.to_vec().unwrap(), [-0.75]);
    let named = kernel.clone().constant("SCALE", 1.5).constant("REVERSED", 1.0);
    named.dispatch([1, 1, 1]).unwrap();
    assert_eq!(x.to_vec().unwrap(), [-3.0]);
    for (scale, step) in [(f32::MAX, 1), (0.5, i32::MIN)] {
        let extreme = kernel.clone().constant("SCALE", scale.into()).constant("STEP", step.into());
        extreme.dispatch([1, 1, 1]).unwrap();
        assert_eq!(x.to_vec().unwrap(), [scale * step as f32]);
    }
    for (name, value, part) in [
        ("STEP", 3e9, "the constant `STEP` is 3000000000, which is no `i32`; set one that is"),
        ("7", 0.5, "the constant `STEP` is 0.5, which is no `i32`; set one that is"),
        ("SCALE", 1e39, "which is no `f32`; set one that is"),
        ("SCALE", f64::NAN, "the constant `SCALE` is NaN, which is no `f32`; set one that is"),
    ] {
        let whole = if name == "SCALE" { kernel.clone() } else { kernel.clone().constant("SCALE", 1.0) };
        mentions(whole.constant(name, value).dispatch([1, 1, 1]), Error::is_invalid, &[part]);
    }
    mentions(
        kernel.clone().constant("SCALE", 1.0).constant("8", 1.0).dispatch([1, 1, 1]),
        Error::is_rejected,
        &["there is no `override 8`, for which a constant is set"],
    );
    // Lines stay where they were.
    let wrong = text.replace("f32(STEP);", "f32(STEP) + 1u;");
    mentions(
        orchestrator
            .kernel(&wrong, "main")
            .and_then(|kernel| kernel.bind("x", &x).constant("SCALE", 1.0).dispatch([1, 1, 1])),
        Error::is_rejected,
        &["<compute \"main\">:7:"],
    );
}

#[test]
fn loops_that_do_not_end() {
    let text = "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
        @compute @workgroup_size(4)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            var i = 0u;
            while x[id.x] != 7u { i++; }
            x[id.x] = i;
        }";
    let (runtime, orchestrator) = both();
    let x = runtime.buffer(&[7u32, 7, 1, 7]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("x", &x).loop_budget(1000);
    mentions(
        kernel.dispatch([1, 1, 1]),
        Error::is_failed,
        &["`main`: an invocation used up its loop budget of 1000 iterations", ".loop_budget(n)"],
    );
    // The next one begins as if nothing had been.
    x.write(0, &[7; 4]).unwrap();
    kernel.dispatch([1, 1, 1]).unwrap();
    assert_eq!(x.to_vec().unwrap(), [0; 4]);
    // With barriers inside, all leave together.
    let text = "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
        var<workgroup> turns: u32;
        @compute @workgroup_size(4)
        fn main(@builtin(local_invocation_index) i: u32) {
            loop {
                if i == 0u { turns++; }
                if workgroupUniformLoad(&turns) == x[4] { break; }
            }
            x[i] = turns;
        }";
    let x = runtime.buffer(&[0u32, 0, 0, 0, 50]).unwrap();
    mentions(orchestrator.kernel(text, "main"), Error::is_rejected, &["not all invocations"]);
    let text = text.replace("x[4] { break", "100u { break");
    let kernel = orchestrator.kernel(&text, "main").unwrap().bind("x", &x);
    mentions(kernel.clone().loop_budget(99).dispatch([2, 1, 1]), Error::is_failed, &["loop budget of 99"]);
    kernel.loop_budget(100).dispatch([2, 1, 1]).unwrap();
    assert_eq!(x.to_vec().unwrap(), [100, 100, 100, 100, 50]);
}

#[test]
fn work_after_a_shutdown() {
    let (runtime, orchestrator) = both();
    let (a, out) = (runtime.buffer(&[1.0f32; 8]).unwrap(), runtime.buffer(&[0.0f32; 8]).unwrap());
    let copy = orchestrator.kernel(COPY, "main").unwrap().bind("a", &a).bind("out", &out);
    copy.dispatch([1, 1, 1]).unwrap();
    let other = runtime.orchestrator();
    orchestrator.shutdown();
    refused(copy.dispatch([1, 1, 1]), Error::is_terminated, "the orchestrator has been shut down");
    assert_eq!(orchestrator.history().len(), 1);
    let second = other.kernel(COPY, "main").unwrap().bind("a", &a).bind("out", &out);
    second.dispatch([1, 1, 1]).unwrap();
    runtime.shutdown(Duration::from_secs(5)).unwrap();
    refused(second.dispatch([1, 1, 1]), Error::is_terminated, "the runtime has been shut down");
    refused(other.kernel(COPY, "main"), Error::is_terminated, "the runtime has been shut down");
    assert_eq!(out.to_vec().unwrap(), [1.0; 8], "buffers stay");
}

#[test]
fn buffers_of_another_device() {
    let (runtime, orchestrator) = both();
    let cpu = ringwork::Runtime::builder().backend(ringwork::BackendKind::Cpu).build().unwrap();
    let (a, out) = (cpu.buffer(&[1.0f32; 8]).unwrap(), runtime.buffer(&[0.0f32; 8]).unwrap());
    let result =
        orchestrator.kernel(COPY, "main").unwrap().bind("a", &a).bind("out", &out).dispatch([1, 1, 1]);
    if std::env::var("RINGWORK_BACKEND").is_ok_and(|backend| backend != "cpu") {
        refused(
            result,
            Error::is_invalid,
            "the buffer bound to `a` is not on the device that `main` runs on; make it with this runtime's `buffer`",
        );
    } else {
        result.expect("all CPU runtimes have the same memory");
    }
}

#[test]
fn a_constant_that_is_set_by_its_name_and_by_its_number() {
    let text = "@id(7) override N: u32;
        @group(0) @binding(0) var<storage, read_write> x: array<u32>;
        @compute @workgroup_size(1) fn main() { x[0] = N; }";
    let (runtime, orchestrator) = both();
    let x = runtime.buffer(&[0u32]).unwrap();
    let kernel = orchestrator.kernel(text, "main").unwrap().bind("x", &x);
    refused(
        kernel.clone().constant("N", 2.0).constant("7", 3.0).dispatch([1, 1, 1]),
        Error::is_rejected,
        "<compute \"main\">:1:1: the constants `N` and `7` are one `override`, which is set twice; set it once",
    );
    kernel.constant("7", 3.0).dispatch([1, 1, 1]).unwrap();
    assert_eq!(x.to_vec().unwrap(), [3]);
}

#[test]
fn what_depends_on_a_constant_is_checked_when_that_is_known() {
    let header = "override N: u32;
        @group(0) @binding(0) var<storage, read_write> x: array<u32>;";
    // With 1 for `N`: an array of no elements, a workgroup of none, an index out of range.
    let texts = [
        "var<workgroup> tile: array<u32, N - 1>;
         @compute @workgroup_size(1) fn main() { tile[3] = N; x[0] = tile[3]; }",
        "@compute @workgroup_size(N / 2) fn main() { x[0] = N; }",
        "var<workgroup> tile: array<u32, N>;
         @compute @workgroup_size(1) fn main() { tile[N - 2u] = N; x[0] = tile[N - 2u]; }",
        "const_assert N == 65u; @compute @workgroup_size(1) fn main() { x[0] = N; }",
    ];
    let (runtime, orchestrator) = both();
    let x = runtime.buffer(&[0u32]).unwrap();
    for text in &texts[..3] {
        let text = format!("{header}\n{text}");
        x.fill(0).unwrap();
        let kernel = orchestrator.kernel(&text, "main").unwrap_or_else(|error| panic!("{error}: {text}"));
        let kernel = kernel.bind("x", &x);
        mentions(kernel.dispatch([1, 1, 1]), Error::is_rejected, &["the override `N` has no value"]);
        mentions(kernel.workgroup_size(), Error::is_rejected, &["the override `N` has no value"]);
        kernel.clone().constant("N", 65.0).dispatch([1, 1, 1]).unwrap();
        assert_eq!(x.to_vec().unwrap(), [65], "{text}");
        let wrong = kernel.constant("N", 1.0).dispatch([1, 1, 1]);
        assert!(wrong.is_err_and(|error| error.is_rejected()), "{text}");
    }
    // What is wrong whatever the constant is, is said at once.
    for (text, part) in [
        (texts[0].replace("x[0] = tile[3]", "x[0] = tile[3] + 1.5"), "main\">:4:"),
        (texts[1].replace("x[0] = N", "x[0] = y"), "`y`"),
        (texts[0].replace("fn main", "fn other"), "there is no entry point `main`"),
        (texts[2].replace("x[0] = tile", "let p = discard_it(); x[0] = tile"), "discard_it"),
    ] {
        let text = format!("{header}\n{text}");
        mentions(orchestrator.kernel(&text, "main"), Error::is_rejected, &[part]);
    }
}

#[test]
fn a_buffer_that_is_shorter_than_its_struct() {
    // Its alignment is 16, and so is its size a multiple of that.
    let text = "struct S { a: vec4<u32>, b: array<u32> }
        @group(0) @binding(0) var<storage, read_write> s: S;
        @compute @workgroup_size(1) fn main() { s.b[0] = arrayLength(&s.b); }";
    let (runtime, orchestrator) = both();
    let kernel = orchestrator.kernel(text, "main").unwrap();
    for words in [5, 7] {
        let short = runtime.buffer(&vec![0u32; words]).unwrap();
        let text = format!(
            "<compute \"main\">:2:31: `s` needs 32 bytes, but the bound buffer has {}; bind a longer one",
            words * 4
        );
        refused(kernel.clone().bind("s", &short).dispatch([1, 1, 1]), Error::is_rejected, &text);
    }
    for words in [8, 9] {
        let buffer = runtime.buffer(&vec![0u32; words as usize]).unwrap();
        kernel.clone().bind("s", &buffer).dispatch([1, 1, 1]).unwrap();
        assert_eq!(buffer.to_vec().unwrap()[4], words - 4);
    }
}
