//! Errors of the language itself, in the user's terms.

use super::*;
use crate::compile::tests::*;

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
        "3:21: in `1.5`: a number here has no type that fits; give it one, as in `1.5f` or `1u`, or convert the other side",
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
fn comments_end_where_naga_ends_them() {
    for end in ["\u{b}", "\u{c}", "\r", "\u{85}", "\u{2028}", "\u{2029}"] {
        let text = format!("//{end}fn rt_f(i: u32) -> u32 {{ return i; }} {GOOD}");
        refused(text, "1:7: `rt_f` begins with `rt_`, which is the library's; choose another name");
        // What is declared behind the comment is not generated again.
        let text = format!("// {end}struct In {{ a: array<u32, 8> }}{end}// {end}{GOOD}");
        assert!(crate::compile::compile(&source(&text)).is_ok(), "{end:?}");
    }
}

#[test]
fn two_ways_to_what_is_written_are_refused() {
    let functions =
        "var<private> k: array<u32, 2>; alias P = ptr<function, u32>; alias K = ptr<private, u32>;
        fn add(p: P, q: P) { *p += 1u; *q += 1u; }
        fn copy(p: P, q: P) { *p = *q; }
        fn one(p: P, q: P) { *p += 1u; }
        fn sum(p: P, q: P) -> u32 { return *p + *q; }
        fn deep(p: P, q: P) { copy(q, p); }
        fn read(p: K) -> u32 { return *p + k[1]; }
        fn bump(p: K) -> u32 { *p += 1u; return k[1]; }
        fn clear() { k[0] = 1u; }
        fn behind(p: K) -> u32 { clear(); return *p; }
        fn alone(p: K) { *p += 1u; }
        fn through(p: K) -> u32 { return behind(p); }\n";
    let handler = |body: &str| {
        format!("{functions}fn on_message(m: In) -> Out {{ var r = m.a; var s = r; {body} return Out(r); }}")
    };
    let both = |callee: &str, variable: &str| {
        format!(
            "the arguments 1 and 2 of `{callee}` both lead to `{variable}`, and it writes there; copy one part to a \
             variable of its own"
        )
    };
    let named = |callee: &str| {
        format!(
            "the argument 1 of `{callee}` leads to `k`, which it also uses by name, and it writes there; use it in one \
             of these ways only"
        )
    };
    for (body, wanted) in [
        ("add(&r[m.a[0]], &r[m.a[1]]);", both("add", "r")),
        ("let p = &r[0]; if m.a[0] == 1u { copy(p, &r[1]); }", both("copy", "r")),
        ("deep(&s[0], &s[0]);", both("deep", "s")),
        ("r[0] = bump(&k[0]);", named("bump")),
        ("r[0] = behind(&k[1]);", named("behind")),
        ("r[0] = through(&k[1]);", named("through")),
    ] {
        let text = refusal(&source(&handler(body)));
        assert!(text.starts_with("test.wgsl:13:") && text.ends_with(&wanted), "{text}");
    }
    let text = format!("{functions}fn twice(p: P) {{ add(p, p); }}\n{GOOD}");
    let text = refusal(&source(&text));
    assert!(text.ends_with(&both("add", "p")), "{text}");
    for body in [
        "add(&r[0], &s[0]); copy(&r[m.a[0]], &s[0]); deep(&s[1], &r[1]); let t = sum(&r[0], &r[0]);",
        "one(&r[0], &r[1]); r[0] = read(&k[0]); alone(&k[0]); clear();",
    ] {
        crate::compile::compile(&source(&handler(body))).unwrap_or_else(|error| panic!("{error}"));
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
    let sum = inside(&format!("r[0] = m.a[0]{};", " + m.a[1]".repeat(6000)));
    assert_eq!(Bench::new(&source(&sum)).unwrap().words(&[2; 8])[0], 12_002);
    let not = inside(&format!("r[0] = {}m.a[0];", "~".repeat(10_000)));
    assert_eq!(Bench::new(&source(&not)).unwrap().words(&[2; 8])[0], 2);
    let mut chain = String::from("fn f0(x: u32) -> u32 { return x; }\n");
    for i in 1..1000 {
        chain += &format!("fn f{i}(x: u32) -> u32 {{ return f{}(x) + 1u; }}\n", i - 1);
    }
    chain += &inside("r[0] = f999(m.a[0]);");
    assert_eq!(Bench::new(&source(&chain)).unwrap().words(&[2; 8])[0], 1001);

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

#[test]
fn errors_about_types_and_variables() {
    let t = [table("t", 4)];
    let atomic = "@group(1) @binding(0) var<storage, read_write> t: array<atomic<u32>>;";
    let plain = "@group(1) @binding(0) var<storage, read_write> t: array<u32>;";
    for (declaration, wanted) in [
        (
            "@group(1) @binding(0) var<storage, read_write> t: array<atomic<f32>>;".to_string(),
            "1:1: this is beyond plain WGSL; use f32, i32, u32 and bool, and atomics of i32 and u32",
        ),
        (
            format!("{plain} fn f() {{ atomicAdd(&t[0], 1u); }}"),
            "1:82: atomic operation is done on a pointer to a non-atomic",
        ),
        (
            format!("{atomic} fn f() {{ let x = t[0]; }}"),
            "1:88: atomic variables cannot be accessed directly; use atomic built-in functions",
        ),
        (
            plain.replace("var", "@coherent var"),
            "1:33: in `var<storage, read_write> t: array<u32>;`: `t` is declared `@coherent` or `@volatile`; \
             use atomics where messages share a table",
        ),
        (
            format!("{plain} fn f() -> u32 {{ return t; }}"),
            "1:86: in `t`: this cannot be read whole; read an element or a member",
        ),
        (
            format!("{plain} fn f() {{ var x = t; }}"),
            "1:72: in `var x = t`: a variable cannot have this type; use one of a fixed size, and keep atomics in \
             tables",
        ),
        (
            format!("struct X {{ n: u32, a: array<u32> }} {}", plain.replace("array<u32>", "X")),
            "1:58: the table `t` is `X`, but a table is an array; write `array<X>`",
        ),
    ] {
        refused_with_tables(&declaration, &t, wanted);
    }
    for (function, wanted) in [
        (
            "var<immediate> x: u32;",
            "1:1: `x` is in an address space that handlers do not have; use `var<private>` or a table",
        ),
        (
            "const c = extractBits(0xf0u, 4u, 2u);",
            "1:11: Not implemented as constant expression: ExtractBits built-in function; compute it inside a \
             function",
        ),
        (
            "fn f() { loop { continuing { return; } } }",
            "1:30: in `return;`: `continuing` cannot return; set a variable and use `break if`",
        ),
        (
            "fn f() { switch 1u { case 1u: {} } }",
            "1:10: in `switch 1u { case 1u: {} }`: this `switch` has no default; add `default: {}`",
        ),
        (
            "fn f() { switch 1u { default: {} default: {} } }",
            "1:4: this `switch` has two defaults; remove one",
        ),
        (
            "fn f() { var x = array<u32, 3>(1,2,3); x = 5u; }",
            "1:44: in `5u`: the value's type is not the variable's; convert it, as in `f32(x)`",
        ),
        (
            "fn v(@builtin(global_invocation_id) id: vec3<u32>) { }",
            "1:4: a plain function has no `@builtin` or `@location`; a handler gets all it needs in its message",
        ),
        (
            "fn f() { /* \u{e9} */ let \u{e9} = 1; let z = \u{e9} + q; }",
            "1:41: no definition in scope for identifier: `q`; declare it",
        ),
    ] {
        refused(before(function), wanted);
    }
}

/// WGSL forbids it, but naga takes it: pointers would be those of an earlier iteration, or lead nowhere.
#[test]
fn a_continue_past_what_continuing_uses_is_refused() {
    let what =
        "a `continue` before this leads past it, but `continuing` uses it; move it to before that `continue`";
    for (column, body) in [
        (
            56,
            "loop { if r[0] < 1u { r[0]++; continue; } let p = &r[m.a[0]]; continuing { *p += 1u; break if r[1] > 9u; } }",
        ),
        (
            72,
            "loop { switch r[0] { case 1u: { continue; } default: { } } let k = r[1] + 1u; continuing { break if k > 9u; } }",
        ),
        (
            51,
            "loop { { if r[0] < 1u { continue; } } let f = g(r[0]); continuing { if f > 1u { r[0] = 1u; } break if true; } }",
        ),
    ] {
        let text = format!("fn g(x: u32) -> u32 {{ return x + 1u; }} {}", inside(body));
        refused(text, &format!("3:{column}: {what}"));
    }
    for body in [
        // Computed before it, computed by nobody else, or another loop's.
        "loop { let p = &r[m.a[0]]; if r[0] < 1u { continue; } let k = r[2]; r[3] = k; continuing { *p += 1u; break if r[1] > 9u; } }",
        "loop { if r[0] < 1u { continue; } let k = r[2]; r[3] = k; continuing { let j = r[3]; r[2] = j; break if j > 9u; } }",
        "loop { loop { if r[0] < 1u { continue; } break; } let k = r[2]; continuing { r[3] = k; break if true; } }",
    ] {
        crate::compile::compile(&source(&inside(body))).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn mistakes_in_results_conditions_and_indices() {
    for (body, wanted) in [
        ("r[0] = m.a[0] / 0u;", "3:12: in `m.a[0] / 0u`: this divides by zero; write another divisor"),
        (
            "let x = i32(m.a[0]) % 0; r[0] = u32(x);",
            "3:13: in `i32(m.a[0]) % 0`: this divides by zero; write another divisor",
        ),
        (
            "switch i32(m.a[0]) { case -1: {} case -1: {} default: {} }",
            "1:4: the `switch` has the case -1 twice; remove one",
        ),
        ("continue;", "3:5: in `continue;`: this `continue` is in no loop; remove it"),
        (
            "loop { continuing { continue; } }",
            "3:25: in `continue;`: this `continue` is in no loop; remove it",
        ),
        (
            "let p = &r; (*p) = 1u;",
            "3:24: in `1u`: the value's type is not the variable's; convert it, as in `f32(x)`",
        ),
        ("if vec2(true) { }", "3:8: in `vec2(true)`: a condition must be a `bool`; write a comparison"),
        ("let x = vec2(m.a[0], 2u)[5]; r[0] = x;", "1:1: the index 5 is past the end; write a smaller one"),
        ("r[0] = select(1u, 2u, m.a[0]);", "3:12: in `select`: this is not valid WGSL for a handler"),
        ("let x = m.a[1.5]; r[0] = x;", "3:13: in `m.a[1.5]`: Accessing with index can't be done"),
    ] {
        refused(inside(body), wanted);
    }
    for (function, wanted) in [
        (
            "fn f() { return 1u; }",
            "1:17: in `1u`: this function has no result; declare one with `->` or write `return;`",
        ),
        (
            "fn f() -> u32 { return; }",
            "1:17: in `return;`: this function can end without a result; end it with a `return` of a `u32`",
        ),
        (
            "fn f() -> @location(0) u32 { return 1u; }",
            "1:4: a plain function has no `@builtin` or `@location`; a handler gets all it needs in its message",
        ),
        (
            "fn f(x: atomic<u32>) {}",
            "1:4: the parameter `x` has a type that cannot be passed; pass a value of a fixed size",
        ),
        (
            "fn f(n: i32) -> bool { return n < 1.5f; }",
            "1:31: in `n < 1.5f`: the operator does not take `i32` and `f32`; convert one of them, as in `f32(x)`",
        ),
    ] {
        refused(before(function), wanted);
    }
}
