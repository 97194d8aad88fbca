//! Every refusal, with its text.

use crate::compile::tests::*;
use crate::compile::{HandlerSource, TableDecl};
use crate::message::{Field, FieldKind, Layout, Scalar};

/// A good handler, for what stands before it to be refused.
const GOOD: &str = "fn on_message(m: In) -> Out { return Out(); }";

/// Text before a good handler, on its first line.
fn before(text: &str) -> String {
    format!("{text}\n{GOOD}")
}

/// A statement inside a handler, on its third line.
fn inside(statement: &str) -> String {
    format!(
        "fn on_message(m: In) -> Out {{\n    var r: array<u32, 8>;\n    {statement}\n    return Out(r);\n}}"
    )
}

/// Compares the first line of a refusal: naga's picture of the place follows it for syntax and name errors.
fn refused_source(source: HandlerSource<'_>, wanted: &str) {
    let text = refusal(&source);
    assert_eq!(text.lines().next(), Some(wanted), "in: {}", source.text);
    for leak in ["Handle", "naga", "Expression [", "rt_fuel"] {
        assert!(!text.contains(leak), "{text}");
    }
}

fn refused(text: impl AsRef<str>, wanted: &str) {
    refused_source(source(text.as_ref()), &format!("test.wgsl:{wanted}"));
}

fn refused_with_tables(text: &str, tables: &[TableDecl], wanted: &str) {
    refused_source(HandlerSource { tables, ..source(&before(text)) }, &format!("test.wgsl:{wanted}"));
}

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
fn errors_of_the_language() {
    refused(inside("let x = ;"), r#"3:13: expected expression, found ";""#);
    refused(inside("let x = y + 1;"), "3:13: no definition in scope for identifier: `y`; declare it");
    refused(
        inside("r[0] = 1.0;"),
        "3:5: automatic conversions cannot convert elements of `{AbstractFloat}` to `u32`",
    );
    refused(
        inside("r[0] = m.a[0] + 1.5;"),
        "3:21: in `1.5`: the sides have different types; convert one of them, as in `f32(x)`",
    );
    refused(inside("r[0] = m.b;"), "3:14: invalid field accessor `b`");
    refused(inside("r[0] = foo(1);"), "3:12: no definition in scope for identifier: `foo`; declare it");
    refused(inside("m.a[0] = 1u;"), "3:5: invalid left-hand side of assignment");
    refused(inside("let x = 1u; x = 2u;"), "3:17: invalid left-hand side of assignment");
    refused(inside("if m.a[0] { }"), "3:8: in `m.a[0]`: a condition must be a `bool`; write a comparison");
    refused(inside("return 1;"), "3:12: automatic conversions cannot convert `{AbstractInt}` to `Out`");
    refused(inside("r[0] = sqrt(m.a[0]);"), "3:12: wrong type passed as argument #1 to `sqrt`");
    refused(inside("r[9] = 1u;"), "3:5: in `r[9]`: the index 9 is past the end; write a smaller one");
    refused(
        inside("r[0] = m.a[0] << 40u;"),
        "3:12: in `m.a[0] << 40u`: the shift amount is not below 32; write a smaller one",
    );
    refused(inside("r[0] = 1u / 0u;"), "3:12: Division by zero");
    refused(
        inside("let x = vec2(1.0) + vec3(f32(m.a[0]));"),
        "3:13: in `vec2(1.0) + vec3(f32(m.a[0]))`: the operator does not take `vec2<f32>` and `vec3<f32>`; convert one of them, as in `f32(x)`",
    );
    refused(
        inside("r[0] = select(1u, 2.0, true);"),
        "3:19: type mismatch for reject and accept values in `select` call",
    );
    refused(
        inside("let x = mat2x2(vec4(f32(m.a[0])), vec4(f32(m.a[0])));"),
        "3:13: in `mat2x2(vec4(f32(m.a[0])), vec4(f32(m.a[0])))`: component 1 has another type than its place; convert it, as in `f32(x)`",
    );
    refused(
        inside("let x = Out(m.a, 1u);"),
        "3:13: in `Out(m.a, 1u)`: there are 2 components, but the type has 1; write 1",
    );
    refused(
        inside("let x = array<u32, 2>(m.a[0], 1u, 2u);"),
        "3:13: in `array<u32, 2>(m.a[0], 1u, 2u)`: there are 3 components, but the type has 2; write 2",
    );
    refused(
        inside("let x = vec3(1u, m.a[0]);"),
        "3:13: in `vec3(1u, m.a[0])`: there are 2 components, but the type has 3; write 3",
    );
    refused(inside("break;"), "3:5: in `break;`: this `break` is in no loop or `switch`; remove it");
    refused(inside("var x = 1.0 / 0.0;"), "3:13: Divide operation overflowed");
    refused(
        inside("emit_alerts(1u);"),
        r#"3:5: no definition in scope for identifier: `emit_alerts`; declare the output with `.output::<T>("alerts")`"#,
    );
    refused(
        before("fn f(x: u32) -> u32 { return x; } fn g() -> u32 { return f(1.0 * f32(2)); }"),
        "1:60: in `1.0 * f32(2)`: argument 1 of the call has another type than the parameter; pass a value of type `u32`",
    );
    refused(before("fn f(x: u32) -> u32 { return f(x); }"), "1:4: declaration of `f` is recursive");
    refused(
        before("fn f(x: u32) -> u32 { if x == 1u { return 1u; } }"),
        "1:4: this function can end without a result; end it with a `return` of a `u32`",
    );
    refused(
        before("fn f(x: u32) -> u32 { loop { } }"),
        "1:4: this function can end without a result; end it with a `return` of a `u32`",
    );
    refused(
        before(
            "fn f(x: u32) -> u32 { switch x { case 1u: { return 1u; } case 1u: { return 2u; } default: { return 3u; } } }",
        ),
        "1:69: in `return 2u;`: the `switch` has the case 1 twice; remove one",
    );
    refused(
        "fn on_message(m: In) -> Out { return Out();\n\n",
        "3:1: expected statement, found the end of the text",
    );
    refused(
        "fn on_message(m: In) -> Out { return Out(); /* open",
        "1:45: this comment is never closed; end it with `*/`",
    );
    refused(
        before("fn Out() {}"),
        "1:4: redefinition of `Out`, which the library declares; choose another name",
    );
    refused(
        before("var<private> big: array<u32, 100000>;"),
        "1:1: `big` with the private variables before it takes 400000 bytes, but at most 65536 are there; keep large data in a table",
    );
    refused(
        inside("var big: array<u32, 100000>; r[0] = big[m.a[0]];"),
        "3:5: `big` with the variables before it takes 400032 bytes, but at most 65536 are there; keep large data in a table",
    );
    refused(
        inside("r[0] = array<u32, 100000>()[m.a[0]];"),
        "3:12: this value takes 400000 bytes, but at most 65536 are there; keep large data in a table",
    );
    refused(
        before("const pi: u32 = 3.5;"),
        "1:7: the type of `pi` is expected to be `u32`, but got `{AbstractFloat}`",
    );
    refused(
        before("const rt = 1; fn f() -> u32 { var x: u32; let p = &x; return p; }"),
        "1:18: this `return` does not give the function's result; return a value of type `u32`",
    );
    refused(
        before("fn f(s: ptr<function, u32>) {} fn g() { f(1u); }"),
        "1:43: in `1u`: argument 1 of the call has another type than the parameter; pass a value of type `ptr<function, u32>`",
    );
    refused(
        before("fn f(s: u32) {} fn g() { f(1u, 2u); }"),
        "1:26: in `f(1u, 2u)`: the call has 2 arguments, but the function takes 1; write 1",
    );
    refused(
        before("@group(1) @binding(0) var<storage, read_write> t: array<atomic<f32>>;"),
        r#"1:23: no buffer is bound to the table `t`; call `.bind("t", &buffer)`"#,
    );
    refused(
        inside("r[0] = u32(textureDimensions(t).x);"),
        "3:34: no definition in scope for identifier: `t`; declare it",
    );
    refused(inside("switch 1.0 { default: {} }"), "3:12: invalid `switch` selector");
    refused(
        inside("let x = -m.a[0];"),
        "3:13: in `-m.a[0]`: the operator does not take this type; convert the value, as in `i32(x)`",
    );
    refused(
        inside("let x = !m.a[0];"),
        "3:13: in `!m.a[0]`: the operator does not take this type; convert the value, as in `i32(x)`",
    );
    refused(before("requires foo;"), "1:10: unknown language extension `foo`");
    refused(
        before("fn f() -> array<u32> { }"),
        "1:4: a function cannot return this type; return a value of a fixed size",
    );
    refused(
        before("struct X { a: array<u32> } fn f(x: X) {}"),
        "1:1: in `struct X { a: array<u32> }`: the parameter `x` has a type that cannot be passed; pass a value of a fixed size",
    );
    refused(
        before("var<private> a: array<atomic<u32>, 2>;"),
        "1:1: in `var<private> a: array<atomic<u32>, 2>;`: `a` has a type that such a variable cannot have; atomics and unsized arrays are for tables",
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
fn syntax_errors_show_the_line() {
    let text = refusal(&source(&inside("let x = ;")));
    let wanted = r#"test.wgsl:3:13: expected expression, found ";"
error: expected expression, found ";"
  ┌─ test.wgsl:3:13
  │
3 │     let x = ;
  │             ^ expected expression"#;
    assert_eq!(text, wanted);
}

#[test]
fn good_handlers_with_unusual_text_are_accepted() {
    for text in [
        "fn on_message(message: In) -> Out { return Out(message.a); } // the end",
        "struct Out { r: array<u32, 8> } struct In { a: array<u32, 8>, }\nfn on_message(m: In) -> Out { return Out(m.a); }",
        "/* rt_ /* nested */ */ fn on_message(m: In) -> Out { /* \u{e4} */ let \u{e9}t\u{e9} = 1u; return Out(); }",
        "@id(0) override scale: f32 = 1.0; fn on_message(m: In) -> Out { return Out(); }",
        "diagnostic(off, derivative_uniformity); fn on_message(m: In) -> Out { return Out(); }",
        "fn on_message(m: In, s: ptr<function, vec4<f32>>) -> Out { return Out(); }",
    ] {
        assert!(crate::compile::compile(&source(text)).is_ok(), "{text}");
    }
}

#[test]
fn names_like_wide_types_are_names() {
    let text = "fn f16(i64: u32) -> u32 { var f64 = i64; f64 += 1u; return f64; }
                fn on_message(m: In) -> Out { let u64 = f16(m.a[0]); return Out(array<u32, 8>(u64, 0, 0, 0, 0, 0, 0, 0)); }";
    assert_eq!(Bench::new(&source(text)).unwrap().words(&[7; 8])[0], 8);
}

#[test]
fn long_generated_text_is_compiled_or_refused() {
    let sum = inside(&format!("r[0] = m.a[0]{};", " + m.a[1]".repeat(20_000)));
    assert_eq!(Bench::new(&source(&sum)).unwrap().words(&[2; 8])[0], 40_002);
    let not = inside(&format!("r[0] = {}m.a[0];", "~".repeat(10_000)));
    assert_eq!(Bench::new(&source(&not)).unwrap().words(&[2; 8])[0], 2);
    let mut chain = String::from("fn f0(x: u32) -> u32 { return x; }\n");
    for i in 1..3000 {
        chain += &format!("fn f{i}(x: u32) -> u32 {{ return f{}(x) + 1u; }}\n", i - 1);
    }
    chain += &inside("r[0] = f2999(m.a[0]);");
    assert_eq!(Bench::new(&source(&chain)).unwrap().words(&[2; 8])[0], 3001);

    let parentheses = inside(&format!("r[0] = {}m.a[0]{};", "(".repeat(1000), ")".repeat(1000)));
    refused(parentheses, "1:1: an expression is nested too deeply; use variables");
    let mut choices = String::from("if m.a[0] == 0u {}");
    choices += &" else if m.a[0] == 1u {}".repeat(1000);
    refused(inside(&choices), "3:7232: this is nested too deeply; use a `switch` or a function");
    refused(
        inside(&format!("{} {}", "{".repeat(1000), "}".repeat(1000))),
        "3:131: brace nesting limit reached",
    );
}
