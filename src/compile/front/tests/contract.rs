//! What the handler contract asks for: signatures, structs, tables, outputs, and what handlers may not use.

use super::*;
use crate::compile::tests::*;
use crate::message::{Field, FieldKind, Layout, Scalar};

#[test]
fn signatures_and_structs_that_break_the_contract() {
    refused("fn tick() {}", "1:1: there is no function `on_message`; write `fn on_message(m: In) -> Out`");
    refused(
        "fn on_message(m: Other) -> Out { return Out(); }",
        "1:18: no definition in scope for identifier: `Other`; declare it, or use a type made from Rust: `In`, `Out`",
    );
    refused(
        "fn on_message(m: u32) -> Out { return Out(); }",
        "1:15: the first parameter is not the message type `In` in `fn on_message(m: u32) -> Out`; write `fn on_message(m: In) -> Out`",
    );
    refused(
        "fn on_message() -> Out { return Out(); }",
        "1:4: the message is missing in `fn on_message() -> Out`; write `fn on_message(m: In) -> Out`",
    );
    refused(
        "fn on_message(m: In, s: u32) -> Out { return Out(); }",
        "1:22: the state parameter is not a `ptr<function, …>` in `fn on_message(m: In, s: u32) -> Out`; write `fn on_message(m: In, s: ptr<function, State>) -> Out`",
    );
    refused(
        "fn on_message(m: In, s: ptr<private, u32>) -> Out { return Out(); }",
        "1:22: the state parameter is not a `ptr<function, …>` in `fn on_message(m: In, s: ptr<private, u32>) -> Out`; write `fn on_message(m: In, s: ptr<function, State>) -> Out`",
    );
    refused(
        "fn on_message(m: In, s: ptr<function, State>) -> Out { return Out(); }",
        "1:39: no definition in scope for identifier: `State`; declare it, or use a type made from Rust: `In`, `Out`",
    );
    refused(
        "fn on_message(m: In, s: ptr<function, u32>, t: u32) -> Out { return Out(); }",
        "1:45: there is a parameter too many in `fn on_message(m: In, s: ptr<function, u32>, t: u32) -> Out`; write `fn on_message(m: In, s: ptr<function, u32>) -> Out`",
    );
    refused(
        "fn on_message(m: In) { }",
        "1:4: the reply `Out` is missing in `fn on_message(m: In)`; write `fn on_message(m: In) -> Out`",
    );
    refused(
        "fn on_message(m: In) -> u32 { return 1u; }",
        "1:4: the result is not the reply type `Out` in `fn on_message(m: In) -> u32`; write `fn on_message(m: In) -> Out`",
    );
    refused(
        before("struct In { a: array<u32, 4> }"),
        "1:13: `In.a` is `array<u32, 4>` in WGSL but `array<u32, 8>` in Rust; declare it as in Rust, or remove the struct and it is generated",
    );
    refused(
        before("struct In { b: array<u32, 8> }"),
        "1:13: `In.b` stands where the Rust type has `a: array<u32, 8>`; declare it as in Rust, or remove the struct and it is generated",
    );
    refused(
        before("struct In { @size(16) x: u32, a: array<u32, 8> }"),
        "1:23: `In.x` stands where the Rust type has `a: array<u32, 8>`; declare it as in Rust, or remove the struct and it is generated",
    );
    refused(
        before("struct In { @align(16) a: array<u32, 8>, b: u32 }"),
        "1:42: `In.b` is not a field of the Rust type; declare it as in Rust, or remove the struct and it is generated",
    );
    refused(
        before("struct Out { @align(64) r: array<u32, 8> }"),
        "1:8: `Out` takes 64 bytes in WGSL but 32 in Rust; declare it as in Rust, or remove the struct and it is generated",
    );
    refused(
        before("alias In = u32;"),
        "2:15: the first parameter is not the message type `In` in `fn on_message(m: u32) -> Out`; write `fn on_message(m: In) -> Out`",
    );
}

#[test]
fn what_handlers_may_not_use() {
    refused(
        before("fn f(p: ptr<storage, u32>) {}"),
        "1:6: the parameter `p` points to storage; name the table in the function, or pass an index",
    );
    refused(
        before("fn f(p: ptr<workgroup, u32>) {}"),
        "1:6: the parameter `p` points to workgroup memory, which handlers do not have; pass a value",
    );
    refused(
        before("@group(1) @binding(0) var t: texture_2d<f32>;"),
        "1:23: `t` is a texture; bind its texels as a table and index it",
    );
    refused(
        before("@group(1) @binding(0) var t: sampler;"),
        "1:23: `t` is a sampler; read a table and interpolate in the handler",
    );
    refused(
        before("fn f(t: texture_2d<f32>) -> vec4<f32> { return textureLoad(t, vec2(0), 0); }"),
        "1:6: the parameter `t` is a texture; bind its texels as a table and index it",
    );
    refused(
        inside("r[0] = u32(dpdx(1.0 * f32(m.a[0])));"),
        "3:16: derivatives are for fragment shaders; compute the difference of two values in the handler",
    );
    refused(before("fn f() { discard; }"), "1:10: `discard` is for fragment shaders; write `return`");
    refused(
        before("@group(1) @binding(0) var acc: acceleration_structure;"),
        "1:32: this needs the extension `wgpu_ray_query`, which not every backend has; use the core of WGSL",
    );
    refused(
        before("enable wgpu_ray_query; @group(1) @binding(0) var acc: acceleration_structure;"),
        "1:46: `acc` is for ray queries, which handlers do not have; intersect by hand over a table",
    );
    refused(
        before("enable wgpu_ray_query; fn f() { var rq: ray_query; rayQueryProceed(&rq); }"),
        "1:52: handlers have no ray queries; intersect by hand over a table",
    );
    refused(
        inside("r[0] = subgroupAdd(m.a[0]);"),
        "3:12: a handler runs alone, so it has no subgroup; combine values of several messages in the state",
    );
    refused(
        before("enable subgroups; fn f() -> u32 { return subgroupAdd(1u); }"),
        "1:8: this needs the extension `subgroups`, which not every backend has; use the core of WGSL",
    );
    refused(
        "@compute @workgroup_size(1) fn on_message() { }",
        "1:32: `on_message` is an entry point, but a handler is a plain function; remove the `@` attributes and write `fn on_message`",
    );
    refused(
        "@fragment fn main() { }",
        "1:14: `main` is an entry point, but a handler is a plain function; remove the `@` attributes and write `fn on_message`",
    );
    refused(
        before("@group(0) @binding(0) var<storage, read> t: array<u32>;"),
        "1:23: `t` is in `@group(0)`, which is the library's; use `@group(1)`",
    );
    refused(
        before("@group(2) @binding(0) var<storage, read> t: array<u32>;"),
        "1:23: `t` is a table outside of `@group(1)`; write `@group(1) @binding(n)`",
    );
    refused(
        before("var<storage, read> t: array<u32>;"),
        "1:1: `t` is a table without a binding; write `@group(1) @binding(n)` before it",
    );
    refused(
        before("var<private> rt_x: u32;"),
        "1:14: `rt_x` begins with `rt_`, which is the library's; choose another name",
    );
    refused(
        inside("let rt_x = 1;"),
        "3:9: `rt_x` begins with `rt_`, which is the library's; choose another name",
    );
    refused(
        before("struct S { rt_f: u32 }"),
        "1:12: `rt_f` begins with `rt_`, which is the library's; choose another name",
    );
    refused(
        before("fn f(rt_p: u32) {}"),
        "1:6: `rt_p` begins with `rt_`, which is the library's; choose another name",
    );
    refused(
        before("override scale: f32;"),
        "1:1: the override `scale` has no value; write `const scale = …;` or pass it in the message",
    );
    refused(
        before("var<workgroup> w: u32;"),
        "1:1: `w` is a workgroup variable, but a handler runs alone; use `var<private>` or a table",
    );
    refused(
        inside("workgroupBarrier();"),
        "3:5: a handler runs alone, so there is nothing for a barrier to wait for; remove it",
    );
    refused(
        inside("storageBarrier();"),
        "3:5: a handler runs alone, so there is nothing for a barrier to wait for; remove it",
    );
    refused(
        before("@group(1) @binding(0) var<uniform> u: vec4<f32>;"),
        "1:23: `u` is a uniform variable; put the value into the message, the state or a table",
    );
    refused(
        before("enable f16; fn f() -> f16 { return 1.0h; }"),
        "1:8: `f16` is not available on every backend; use `f32`, `i32` or `u32`",
    );
    refused(
        inside("let x: f64 = 1.0;"),
        "3:18: in `1.0`: this number is not available on every backend; use `f32`, `i32` or `u32`",
    );
    refused(
        inside("let x = i64(m.a[0]);"),
        "3:13: `i64` is not available on every backend; use `f32`, `i32` or `u32`",
    );
    refused(
        inside("let x = 1.0lf; r[0] = u32(x);"),
        "3:13: in `1.0lf`: this number is not available on every backend; use `f32`, `i32` or `u32`",
    );
    refused(
        inside("let x = 1li; r[0] = u32(x);"),
        "3:13: in `1li`: this number is not available on every backend; use `f32`, `i32` or `u32`",
    );
    refused(
        inside("let x = 1.0h; r[0] = u32(x);"),
        "3:13: this needs the extension `f16`, which not every backend has; use the core of WGSL",
    );
    refused(
        before("@group(1) @binding(0) var<storage, read> t: array<u32>;"),
        r#"1:23: no buffer is bound to the table `t`; call `.bind("t", &buffer)`"#,
    );
}

#[test]
fn tables_that_do_not_fit() {
    let t = [table("t", 4)];
    refused_with_tables(
        "",
        &t,
        "1:1: a buffer is bound to `t`, but no such table is declared; write `@group(1) @binding(0) var<storage, read> t: array<…>;`",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage, read> t: array<vec2<u32>>;",
        &t,
        "1:23: one element of the table `t` is `vec2<u32>` and takes 8 bytes, but the bound buffer's `u32` takes 4; use the same type on both sides",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage, read> t: u32;",
        &t,
        "1:23: the table `t` is `u32`, but a table is an array; write `array<u32>`",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage, read> t: array<u32, 5>;",
        &t,
        "1:23: the table `t` needs 5 elements, but the bound buffer has 4; bind a larger one",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage, read> t: array<bool>;",
        &t,
        "1:23: `t[…]` is a `bool`, which has no layout in memory; keep it as a `u32`",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage, read> t: array<u32>;",
        &[table("t", 0)],
        "1:23: the buffer bound to the table `t` is empty; bind one with elements",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage, read> t: array<u32>; fn f() { t[1] = 2u; }",
        &t,
        "1:66: the table `t` is declared `read`; declare it `var<storage, read_write>` to write it",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage> t: array<u32>; fn f() { let p = &t[1]; *p = 2u; }",
        &t,
        "1:75: the table `t` is declared `read`; declare it `var<storage, read_write>` to write it",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage, read> t: array<atomic<u32>>; fn f() { atomicAdd(&t[1], 2u); }",
        &t,
        "1:74: the table `t` is declared `read`; declare it `var<storage, read_write>` to write it",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage, write> t: array<u32>;",
        &t,
        "1:23: in `var<storage, write> t: array<u32>;`: the table `t` is declared `write`; declare it `var<storage, read_write>`",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage, read> t: array<u32>; @group(1) @binding(0) var<storage, read> u: array<u32>;",
        &[table("t", 4), table("u", 4)],
        "1:79: the tables `t` and `u` are both `@binding(0)`; give each its own number",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage, read> a: array<u32>;\n@group(1) @binding(1) var<storage, read> b: array<u32>; @group(1) @binding(2) var<storage, read> c: array<u32>; @group(1) @binding(3) var<storage, read> d: array<u32>; @group(1) @binding(4) var<storage, read> e: array<u32>; ",
        &[table("a", 4), table("b", 4), table("c", 4), table("d", 4), table("e", 4)],
        "2:191: `e` is one table too many; a handler has at most 4, so join some of them",
    );
    refused_with_tables(
        "@group(1) @binding(0) var<storage, read_write> t: array<u32>; fn g(p: ptr<storage, u32, read_write>) {} fn f() { g(&t[1]); }",
        &t,
        "1:68: the parameter `p` points to storage; name the table in the function, or pass an index",
    );
}

#[test]
fn declarations_of_the_rust_side_that_do_not_fit() {
    static BIG: Layout = Layout { name: "Big", size: 8192, align: 4, fields: &[array("a", 0, U32, 2048)] };
    static BAD: Layout = Layout {
        name: "In",
        size: 8,
        align: 4,
        fields: &[Field { name: "type", offset: 0, kind: FieldKind::Scalar(Scalar::U32) }],
    };
    static HOLES: Layout = Layout {
        name: "In",
        size: 8,
        align: 4,
        fields: &[Field { name: "x", offset: 4, kind: FieldKind::Scalar(Scalar::U32) }],
    };
    refused_source(
        HandlerSource { input: &BIG, ..source(GOOD) },
        "test.wgsl:1:1: `Big` takes 8192 bytes, but a message takes at most 4096; keep large data in a table",
    );
    refused_source(
        HandlerSource { input: &BAD, ..source(GOOD) },
        "test.wgsl: in the declarations added for the Rust types and outputs of this handler: name `type` is a reserved keyword; rename the field or type in Rust",
    );
    refused_source(
        HandlerSource { input: &HOLES, ..source(GOOD) },
        "test.wgsl: in the declarations added for the Rust types and outputs of this handler: `In.x` is at byte 0 in WGSL but at byte 4 in Rust; change the Rust type's padding",
    );
    refused_source(
        HandlerSource { state: Some(STATE), ..source(GOOD) },
        "test.wgsl:1:4: there is no parameter for the state `State` in `fn on_message(m: In) -> Out`; write `fn on_message(m: In, s: ptr<function, State>) -> Out`",
    );
    refused_source(
        HandlerSource {
            state: Some(STATE),
            ..source("fn on_message(m: In, s: ptr<function, u32>) -> Out { return Out(); }")
        },
        "test.wgsl:1:22: the state is not the Rust type `State` in `fn on_message(m: In, s: ptr<function, u32>) -> Out`; write `fn on_message(m: In, s: ptr<function, State>) -> Out`",
    );
    refused_source(
        HandlerSource {
            state: Some(STATE),
            ..source(
                "struct State { n: f32, sum: f32 }\nfn on_message(m: In, s: ptr<function, State>) -> Out { return Out(); }",
            )
        },
        "test.wgsl:1:16: `State.n` is `f32` in WGSL but `u32` in Rust; declare it as in Rust, or remove the struct and it is generated",
    );
    refused_source(
        source(
            "struct State { n: f32,\n on: bool }\nfn on_message(m: In, s: ptr<function, State>) -> Out { return Out(); }",
        ),
        "test.wgsl:2:2: `State.on` is a `bool`, which has no layout in memory; keep it as a `u32`",
    );
    let atomic = "is atomic, but a state belongs to one message at a time; leave out the `atomic`";
    for (declared, state, place) in [
        ("struct S { n: atomic<u32> }", "S", "1:12: `S.n`"),
        ("struct P { n: array<atomic<i32>, 2> } struct S { k: u32, p: P }", "S", "1:58: `S.p.n[…]`"),
        ("alias A = atomic<u32>;", "A", "2:4: `atomic<u32>`"),
    ] {
        let text =
            format!("{declared}\nfn on_message(m: In, s: ptr<function, {state}>) -> Out {{ return Out(); }}");
        refused(text, &format!("{place} {atomic}"));
    }
    refused_source(
        source(
            "struct State { n: array<f32, 300>}\nfn on_message(m: In, s: ptr<function, State>) -> Out { return Out(); }",
        ),
        "test.wgsl:1:8: the state `State` takes 1200 bytes, but at most 1024 are kept; use a table",
    );
    refused_source(
        HandlerSource { output: UNIT, ..source(GOOD) },
        "test.wgsl:1:25: no definition in scope for identifier: `Out`; declare it, or use a type made from Rust: `In`",
    );
    let o = [output("alerts", 1)];
    refused_source(
        HandlerSource {
            outputs: &o,
            ..source("fn emit_alerts(x: u32) {} fn on_message(m: In) -> Out { return Out(); }")
        },
        "test.wgsl:1:4: `emit_alerts` is made by the library for the output `alerts`; remove this declaration",
    );
    refused_source(
        HandlerSource {
            outputs: &o,
            ..source("struct Alert { level: f32, code: u32 }\nfn on_message(m: In) -> Out { return Out(); }")
        },
        "test.wgsl:1:16: `Alert.level` stands where the Rust type has `code: u32`; declare it as in Rust, or remove the struct and it is generated",
    );
    refused_source(
        HandlerSource {
            outputs: &o,
            ..source("fn on_message(m: In) -> Out { emit_alerts(1u); return Out(); }")
        },
        "test.wgsl:1:43: in `1u`: argument 1 of the call has another type than the parameter; pass a value of type `Alert`",
    );
    let o = [output("a b", 1)];
    refused_source(
        HandlerSource { outputs: &o, ..source(GOOD) },
        "test.wgsl:1:1: the output `a b` cannot be called as `emit_a b`; name outputs with letters, digits and `_`",
    );
    let o = [output("a", 1), output("a", 2)];
    refused_source(
        HandlerSource { outputs: &o, ..source(GOOD) },
        "test.wgsl:1:1: the output `a` is declared twice; declare it once",
    );
    let o = [output("a", 1_000_000)];
    refused_source(
        HandlerSource { outputs: &o, ..source(GOOD) },
        "test.wgsl:1:1: the outputs may emit 8000000 bytes for one message, but at most 1048576 are kept; declare fewer per message",
    );
}

#[test]
fn rust_types_are_checked_to_the_innermost_struct() {
    static POINT: Layout = Layout {
        name: "Point",
        size: 8,
        align: 4,
        fields: &[scalar("x", 0, Scalar::F32), scalar("y", 4, Scalar::F32)],
    };
    static OTHER_POINT: Layout =
        Layout { name: "Point", size: 4, align: 4, fields: &[scalar("x", 0, Scalar::F32)] };
    static LINE: Layout = Layout {
        name: "In",
        size: 16,
        align: 4,
        fields: &[Field {
            name: "ends",
            offset: 0,
            kind: FieldKind::Array { element: &FieldKind::Struct(&POINT), len: 2, stride: 8 },
        }],
    };
    static END: Layout = Layout {
        name: "Out",
        size: 4,
        align: 4,
        fields: &[Field { name: "end", offset: 0, kind: FieldKind::Struct(&OTHER_POINT) }],
    };
    static LONG: Layout = Layout { name: "Out", size: 4100, align: 4, fields: &[array("a", 0, U32, 1025)] };
    let line = |text| HandlerSource { input: &LINE, ..source(text) };
    refused_source(
        line("struct Point { x: f32, y: u32 }\nfn on_message(m: In) -> Out { return Out(); }"),
        "test.wgsl:1:24: `Point.y` is `u32` in WGSL but `f32` in Rust; declare it as in Rust, or remove the struct and \
         it is generated",
    );
    refused_source(
        HandlerSource { output: &END, ..line(GOOD) },
        "test.wgsl:1:1: two different Rust types are named `Point`; WGSL has one name space, so rename one of them",
    );
    refused_source(
        HandlerSource { output: &LONG, ..source(GOOD) },
        "test.wgsl:1:1: `Out` takes 4100 bytes, but a message takes at most 4096; keep large data in a table",
    );
    let text = "struct Point { x: f32, y: f32 } fn on_message(m: In) -> Out { return Out(); }";
    assert!(crate::compile::compile(&line(text)).is_ok());
    let text = "struct In { ends: array<Point, 2> } fn on_message(m: In) -> Out { return Out(); }";
    assert!(crate::compile::compile(&line(text)).is_ok(), "the inner struct is generated");
}
