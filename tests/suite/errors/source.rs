//! Handlers that are refused: file, line, column, and what to write instead.

use super::{Ask, ECHO, Reply, Total, launch_refused};
use crate::common::runtime;
use ringwork::{BackendKind, Error, RingKernel, Runtime, message};

message! {
    /// 4,100 bytes.
    pub struct Long { pub words: [u32; 1025] }

    /// 1,028 bytes.
    pub struct Wide { pub words: [u32; 257] }
}

/// A good handler for [`Ask`] and [`Reply`].
const GOOD: &str = "fn on_message(m: Ask) -> Reply { return Reply(m.a); }";

#[track_caller]
fn rejected(text: impl Into<String>, wanted: &str) {
    launch_refused(RingKernel::<Ask, Reply>::wgsl("k", text), Error::is_rejected, wanted);
}

/// With these lines before a good handler.
#[track_caller]
fn before(text: &str, wanted: &str) {
    rejected(format!("{text}\n{GOOD}"), wanted);
}

/// With this statement on the second line of the handler.
#[track_caller]
fn inside(statement: &str, wanted: &str) {
    rejected(
        format!("fn on_message(m: Ask) -> Reply {{\n    {statement}\n    return Reply(m.a);\n}}"),
        wanted,
    );
}

#[test]
fn a_missing_or_wrongly_typed_on_message() {
    rejected(
        "fn tick(m: Ask) -> Reply { return Reply(m.a); }",
        "k:1:1: there is no function `on_message`; write `fn on_message(m: Ask) -> Reply`",
    );
    rejected("", "k:1:1: there is no function `on_message`; write `fn on_message(m: Ask) -> Reply`");
    rejected(
        "\n  fn on_message(m: u32) -> Reply { return Reply(m); }",
        "k:2:17: the first parameter is not the message type `Ask` in `fn on_message(m: u32) -> Reply`; \
         write `fn on_message(m: Ask) -> Reply`",
    );
    rejected(
        "fn on_message(m: Reply) -> Reply { return m; }",
        "k:1:15: the first parameter is not the message type `Ask` in `fn on_message(m: Reply) -> Reply`; \
         write `fn on_message(m: Ask) -> Reply`",
    );
    rejected(
        "fn on_message() -> Reply { return Reply(1u); }",
        "k:1:4: the message is missing in `fn on_message() -> Reply`; write `fn on_message(m: Ask) -> Reply`",
    );
    rejected(
        "fn on_message(m: Ask) -> u32 { return m.a; }",
        "k:1:4: the result is not the reply type `Reply` in `fn on_message(m: Ask) -> u32`; \
         write `fn on_message(m: Ask) -> Reply`",
    );
    rejected(
        "fn on_message(m: Ask) {}",
        "k:1:4: the reply `Reply` is missing in `fn on_message(m: Ask)`; write `fn on_message(m: Ask) -> Reply`",
    );
    launch_refused(
        RingKernel::<Ask, ()>::wgsl("quiet", GOOD.replace("Reply", "Ask").replace("Ask(m.a)", "m")),
        Error::is_rejected,
        "quiet:1:4: a kernel whose reply is `()` returns something in `fn on_message(m: Ask) -> Ask`; \
         write `fn on_message(m: Ask)`",
    );
    rejected(
        "fn on_message(m: Ask, s: Total) -> Reply { return Reply(m.a); }\nstruct Total { sum: u32 }",
        "k:1:23: the state parameter is not a `ptr<function, …>` in `fn on_message(m: Ask, s: Total) -> Reply`; \
         write `fn on_message(m: Ask, s: ptr<function, State>) -> Reply`",
    );
    rejected(
        "fn on_message(m: Ask, s: ptr<function, u32>, t: u32) -> Reply { return Reply(m.a); }",
        "k:1:46: there is a parameter too many in \
         `fn on_message(m: Ask, s: ptr<function, u32>, t: u32) -> Reply`; \
         write `fn on_message(m: Ask, s: ptr<function, u32>) -> Reply`",
    );
}

#[test]
fn a_struct_that_differs_from_the_rust_type() {
    let generated = "declare it as in Rust, or remove the struct and it is generated";
    before(
        "struct Ask { a: u32, x: f32 }",
        &format!("k:1:22: `Ask.x` stands where the Rust type has `b: f32`; {generated}"),
    );
    before(
        "struct Ask { a: i32, b: f32 }",
        &format!("k:1:14: `Ask.a` is `i32` in WGSL but `u32` in Rust; {generated}"),
    );
    before(
        "struct Ask {\n    a: u32,\n    @align(16) b: f32,\n}",
        &format!("k:3:16: `Ask.b` is at byte 16 in WGSL but at byte 4 in Rust; {generated}"),
    );
    before(
        "struct Ask { a: u32, @size(8) b: f32 }",
        &format!("k:1:8: `Ask` takes 12 bytes in WGSL but 8 in Rust; {generated}"),
    );
    before(
        "struct Ask { a: u32, b: f32, c: u32 }",
        &format!("k:1:30: `Ask.c` is not a field of the Rust type; {generated}"),
    );
    before(
        "struct Reply { r: vec2<u32> }",
        &format!("k:1:16: `Reply.r` is `vec2<u32>` in WGSL but `u32` in Rust; {generated}"),
    );
    rejected(
        "struct Ask { a: u32 }\nfn on_message(m: Ask) -> Reply { return Reply(m.a); }",
        &format!("k:1:8: `Ask` lacks the field `b: f32` that the Rust type has; {generated}"),
    );
}

#[test]
fn what_handlers_do_not_have() {
    before(
        "fn first(p: ptr<storage, u32>) -> u32 { return *p; }",
        "k:1:10: the parameter `p` points to storage; name the table in the function, or pass an index",
    );
    before(
        "fn first(p: ptr<workgroup, u32>) -> u32 { return *p; }",
        "k:1:10: the parameter `p` points to workgroup memory, which handlers do not have; pass a value",
    );
    before(
        "@group(1) @binding(0) var image: texture_2d<f32>;",
        "k:1:23: `image` is a texture; bind its texels as a table and index it",
    );
    before(
        "@group(1) @binding(0) var smooth_: sampler;",
        "k:1:23: `smooth_` is a sampler; read a table and interpolate in the handler",
    );
    before(
        "@group(0) @binding(0) var<storage, read> edges: array<u32>;",
        "k:1:23: `edges` is in `@group(0)`, which is the library's; use `@group(1)`",
    );
    before(
        "var<workgroup> shared_: array<u32, 64>;",
        "k:1:1: `shared_` is a workgroup variable, but a handler runs alone; use `var<private>` or a table",
    );
    before(
        "@group(1) @binding(0) var<uniform> scale: f32;",
        "k:1:23: `scale` is a uniform variable; put the value into the message, the state or a table",
    );
    inside(
        "workgroupBarrier();",
        "k:2:5: a handler runs alone, so there is nothing for a barrier to wait for; remove it",
    );
    inside(
        "let d = dpdx(m.b);",
        "k:2:13: derivatives are for fragment shaders; compute the difference of two values in the handler",
    );
    before("fn no() { discard; }", "k:1:11: `discard` is for fragment shaders; write `return`");
    before(
        "@compute @workgroup_size(64) fn main() {}",
        "k:1:33: `main` is an entry point, but a handler is a plain function; remove the `@` attributes and write \
         `fn on_message`",
    );
    before(
        "override scale: f32;",
        "k:1:1: the override `scale` has no value; write `const scale = …;` or pass it in the message",
    );
    before(
        "var<private> rt_seed: u32;",
        "k:1:14: `rt_seed` begins with `rt_`, which is the library's; choose another name",
    );
    before(
        "fn rt_next() -> u32 { return 1u; }",
        "k:1:4: `rt_next` begins with `rt_`, which is the library's; choose another name",
    );
    inside("let rt_x = 1u;", "k:2:9: `rt_x` begins with `rt_`, which is the library's; choose another name");
    inside(
        "let x = f16(m.b);",
        "k:2:13: this needs the extension `f16`, which not every backend has; use the core of WGSL",
    );
}

#[test]
fn syntax_errors_have_the_users_line_and_column() {
    inside(
        "let x = ;",
        r#"k:2:13: expected expression, found ";"
error: expected expression, found ";"
  ┌─ k:2:13
  │
2 │     let x = ;
  │             ^ expected expression"#,
    );
    inside(
        "let x = y;",
        r#"k:2:13: no definition in scope for identifier: `y`; declare it
error: no definition in scope for identifier: `y`
  ┌─ k:2:13
  │
2 │     let x = y;
  │             ^ unknown identifier"#,
    );
    // A multi-byte character before the place counts as one column.
    let text = "/* größer */ fn on_message(m: Ask -> Reply {}";
    let error = runtime().launch(RingKernel::<Ask, Reply>::wgsl("k", text)).unwrap_err();
    assert!(error.is_rejected());
    assert!(error.to_string().starts_with("k:1:35: "), "{error}");
    // What is missing at the end is missed at the user's end, not in the library's text.
    let error = runtime()
        .launch(RingKernel::<Ask, Reply>::wgsl("k", "fn on_message(m: Ask) -> Reply {"))
        .unwrap_err();
    assert_eq!(
        error.to_string().lines().next(),
        Some("k:1:33: expected statement, found the end of the text")
    );
}

#[test]
fn validation_errors_are_in_wgsl_s_words() {
    inside(
        "if m.a { return Reply(1u); }",
        "k:2:8: in `m.a`: a condition must be a `bool`; write a comparison",
    );
    inside(
        "let x = m.a + m.b;",
        "k:2:13: in `m.a + m.b`: the operator does not take `u32` and `f32`; convert one of them, as in `f32(x)`",
    );
    inside(
        "return Reply(m.b);",
        "k:2:12: in `Reply(m.b)`: component 1 has another type than its place; convert it, as in `f32(x)`",
    );
    before(
        "fn f(x: u32) -> u32 { if x > 1u { return 2u; } }",
        "k:1:4: this function can end without a result; end it with a `return` of a `u32`",
    );
    before(
        "fn f(x: u32) {} fn g() { f(1u, 2u); }",
        "k:1:26: in `f(1u, 2u)`: the call has 2 arguments, but the function takes 1; write 1",
    );
    inside(
        "let x = m.a << 40u;",
        "k:2:13: in `m.a << 40u`: the shift amount is not below 32; write a smaller one",
    );
    inside(
        "var a: array<u32, 4>; a[4] = 1u;",
        "k:2:27: in `a[4]`: the index 4 is past the end; write a smaller one",
    );
}

#[test]
fn no_text_of_the_checker_leaks() {
    let statements = [
        "let x = m.a + vec2(1.0);",
        "var x = 1.0; x = m.a;",
        "let x = sqrt(m.a);",
        "let x = select(1u, 2.0, true);",
        "switch m.b { default: {} }",
        "m.a = 1u;",
        "break;",
        "let p = &m.a;",
        "var x: array<u32>;",
        "let x = mat2x2(m.b);",
        "return Total(1u);",
        "loop { continuing { return Reply(1u); } }",
        "let x = !m.a;",
        "let x = m.c;",
        "emit_alerts(m);",
        "var x: texture_2d<f32>;",
        "let x = dot(m.a, m.b);",
        "let x = atomicAdd(&m.a, 1u);",
    ];
    for statement in statements {
        let text = format!(
            "fn on_message(m: Ask) -> Reply {{\n    {statement}\n    return Reply(m.a);\n}}\nstruct Total {{ s: u32 }}"
        );
        let error = runtime().launch(RingKernel::<Ask, Reply>::wgsl("k", text)).expect_err(statement);
        let text = error.to_string();
        assert!(error.is_rejected(), "{statement}: {text}");
        assert!(text.starts_with("k:2:"), "`{statement}` is on line 2: {text}");
        for leak in ["naga", "Handle", "rt_", "Expression", "[0]", "[1]", "[2]", "[3]", "TypeInner"] {
            assert!(!text.contains(leak), "`{statement}` shows `{leak}`: {text}");
        }
    }
}

#[test]
fn an_undeclared_output_is_named() {
    let error = runtime()
        .launch(RingKernel::<Reply, ()>::wgsl("k", "fn on_message(m: Reply) { emit_alerts(m); }"))
        .unwrap_err();
    assert!(error.is_rejected());
    assert_eq!(
        error.to_string().lines().next(),
        Some(
            "k:1:27: no definition in scope for identifier: `emit_alerts`; declare the output with \
             `.output::<T>(\"alerts\")`"
        )
    );
    launch_refused(
        RingKernel::<Reply, ()>::wgsl("k", "fn on_message(m: Reply) { emit_alerts(Reply(m.r)); }")
            .output::<Total>("alerts"),
        Error::is_rejected,
        "k:1:39: in `Reply(m.r)`: argument 1 of the call has another type than the parameter; pass a value of type `Total`",
    );
    launch_refused(
        RingKernel::<Reply, ()>::wgsl("k", "fn emit_alerts(m: Reply) {} fn on_message(m: Reply) {}")
            .output::<Reply>("alerts"),
        Error::is_rejected,
        "k:1:4: `emit_alerts` is made by the library for the output `alerts`; remove this declaration",
    );
}

#[test]
fn messages_and_states_over_the_limit() {
    launch_refused(
        RingKernel::<Long, ()>::wgsl("k", "fn on_message(m: Long) {}"),
        Error::is_invalid,
        "kernel `k`: message `Long` has 4100 bytes, but may have 4096; keep larger data in a table",
    );
    launch_refused(
        RingKernel::<Reply, Long>::wgsl("k", "fn on_message(m: Reply) -> Long { return Long(); }"),
        Error::is_invalid,
        "kernel `k`: reply `Long` has 4100 bytes, but may have 4096; keep larger data in a table",
    );
    launch_refused(
        RingKernel::<Reply, ()>::wgsl("k", "fn on_message(m: Reply) { emit_far(Long()); }")
            .output::<Long>("far"),
        Error::is_invalid,
        "kernel `k`: output value `Long` has 4100 bytes, but may have 4096; keep larger data in a table",
    );
    launch_refused(
        RingKernel::<Reply, ()>::wgsl("k", "fn on_message(m: Reply, s: ptr<function, Wide>) {}")
            .initial_state(Wide::default()),
        Error::is_invalid,
        "kernel `k`: state `Wide` has 1028 bytes, but may have 1024; keep larger data in a table",
    );
    launch_refused(
        RingKernel::<Reply, ()>::wgsl(
            "k",
            "struct Wide { words: array<u32, 257> }\nfn on_message(m: Reply, s: ptr<function, Wide>) {}",
        ),
        Error::is_rejected,
        "k:1:8: the state `Wide` takes 1028 bytes, but at most 1024 are kept; use a table",
    );
    launch_refused(
        RingKernel::<Long, ()>::native("k", |_: Long, _: &mut ()| ()),
        Error::is_invalid,
        "kernel `k`: message `Long` has 4100 bytes, but may have 4096; keep larger data in a table",
    );
    launch_refused(
        RingKernel::<Reply, ()>::native("k", |_: Reply, _: &mut Wide| ()),
        Error::is_invalid,
        "kernel `k`: state `Wide` has 1028 bytes, but may have 1024; keep larger data in a table",
    );
    // The bounds themselves are allowed.
    message! { pub struct Full { pub words: [u32; 1024] } pub struct Most { pub words: [u32; 256] } }
    let mut message = Full::default();
    message.words[1023] = 5;
    let runtime = runtime();
    let text = "fn on_message(m: Full) -> Reply { return Reply(m.words[1023]); }";
    let kernel = super::active(&runtime, RingKernel::<Full, Reply>::wgsl("full", text));
    assert_eq!(kernel.ask(message, crate::common::LONG).unwrap(), Reply { r: 5 });
    // The others on the CPU: Mesa's software driver compiles copies of so many words for minutes.
    let cpu = Runtime::builder().backend(BackendKind::Cpu).build().unwrap();
    let text = "fn on_message(m: Full, s: ptr<function, Most>) -> Full {
        (*s).words[255] += m.words[1023];
        var r = m;
        r.words[0] = (*s).words[255];
        return r;
    }";
    let kernel = RingKernel::<Full, Full>::wgsl("full", text).initial_state(Most::default());
    let kernel = super::active(&cpu, kernel);
    for expected in [5, 10] {
        let reply = kernel.ask(message, crate::common::LONG).unwrap();
        assert_eq!((reply.words[0], reply.words[1023]), (expected, 5));
    }
}

#[test]
fn tables_that_do_not_fit_their_buffers() {
    let runtime = runtime();
    let words = runtime.buffer(&[1u32, 2, 3, 4]).unwrap();
    let launch = |text: &str, bind: &[&str]| {
        let text = format!("{text}\n{ECHO}");
        let kernel = RingKernel::<Reply, Reply>::wgsl("k", text);
        let kernel = runtime.launch(bind.iter().fold(kernel, |kernel, name| kernel.bind(*name, &words)))?;
        kernel.terminate(crate::common::LONG)
    };
    let table = |number: u32, name: &str| {
        format!("@group(1) @binding({number}) var<storage, read> {name}: array<u32>;")
    };
    super::refused(
        launch(&table(0, "edges"), &[]),
        Error::is_rejected,
        "k:1:23: no buffer is bound to the table `edges`; call `.bind(\"edges\", &buffer)`",
    );
    super::refused(
        launch("", &["edges"]),
        Error::is_rejected,
        "k:1:1: a buffer is bound to `edges`, but no such table is declared; write `@group(1) @binding(0) \
         var<storage, read> edges: array<…>;`",
    );
    super::refused(
        launch("@group(1) @binding(0) var<storage, read> edges: array<vec2<u32>>;", &["edges"]),
        Error::is_rejected,
        "k:1:23: one element of the table `edges` is `vec2<u32>` and takes 8 bytes, but the bound buffer's `u32` \
         takes 4; use the same type on both sides",
    );
    super::refused(
        launch("@group(1) @binding(0) var<storage, read> edges: array<u32, 8>;", &["edges"]),
        Error::is_rejected,
        "k:1:23: the table `edges` needs 8 elements, but the bound buffer has 4; bind a larger one",
    );
    let five = ["a", "b", "c", "d", "e"];
    let text: Vec<_> = five.iter().zip(0..).map(|(name, number)| table(number, name)).collect();
    super::refused(
        launch(&text.join("\n"), &five),
        Error::is_rejected,
        "k:5:23: `e` is one table too many; a handler has at most 4, so join some of them",
    );
    launch(&text[..4].join("\n"), &five[..4]).expect("four tables are allowed");
    super::refused(
        launch(&table(0, "edges"), &["edges", "edges"]),
        Error::is_invalid,
        "kernel `k`: table `edges` is bound twice",
    );
    let write = format!("{}\nfn f() {{ edges[0] = 1u; }}", table(0, "edges"));
    super::refused(
        launch(&write, &["edges"]),
        Error::is_rejected,
        "k:2:10: the table `edges` is declared `read`; declare it `var<storage, read_write>` to write it",
    );
}
