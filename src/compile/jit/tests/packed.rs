//! Sums of vectors, which are in vector registers: the same numbers as in the interpreter, whatever else is done with them.

use crate::compile::jit::analysis::Analysis;
use crate::compile::tests::*;
use crate::compile::{HandlerSource, Outcome, Program, TableDecl, TableView, compile};

const LENGTH: usize = 24;

/// What a handler does with its sum, and how many of its variables are packed.
const BODIES: [(&str, usize); 14] = [
    ("var s = vec4<T>(); for (var i = 0u; i < m.a[0]; i++) { s += a[i]; } r = bits(s);", 1),
    (
        "var s = vec4<T>(1, 2, 3, 4); for (var i = 0u; i < 8u; i++) { s += a[m.a[0] + i] * b[i]; } r = bits(s);",
        1,
    ),
    ("var s = a[0]; for (var i = 1u; i < m.a[0]; i++) { s = a[i] - s; } r = bits(s);", 1),
    (
        "var s = vec4<T>(); for (var i = 0u; i < m.a[0]; i++) { if bitcast<u32>(s.y) % 3u == 1u { s = s.wzyx; continue; } \
         s -= a[i] - b[i]; if s.w > s.x { break; } } r = bits(s);",
        1,
    ),
    (
        "var s = vec4<T>(T(m.a[1])); for (var i = 0u; i < m.a[0]; i++) { s += a[i]; b[i] = s; s += b[i / 2u]; } \
         r = bits(s); r[4] = bitcast<u32>(b[3].z);",
        1,
    ),
    // A component is set, one is looked for, or somebody else sets it: none of these is packed.
    ("var s = vec4<T>(); for (var i = 0u; i < m.a[0]; i++) { s += a[i]; s.y = s.z; } r = bits(s);", 0),
    (
        "var s = vec4<T>(); for (var i = 0u; i < m.a[0]; i++) { s += a[i]; r[5] += bitcast<u32>(s[i & 3u]); } r = bits(s);",
        0,
    ),
    ("var s = vec4<T>(); for (var i = 0u; i < m.a[0]; i++) { s += a[i]; turn(&s); } r = bits(s);", 0),
    ("var s = vec4<T>(); for (var i = 0u; i < m.a[0]; i++) { s += vec4<T>(T(i)); } r = bits(s);", 0),
    // What the end of a loop uses of its body.
    (
        "var s = vec4<T>(); var t = vec4<T>(); var i = 0u; loop { if i >= m.a[0] { break; } let v = s + a[i]; s += a[i]; \
         if i % 3u == 2u { continue; } t = v; continuing { t -= s + v; i += 1u; } } r = bits(s); r[6] = bitcast<u32>(t.x);",
        1,
    ),
    (
        "var s = vec4<T>(); var t = vec4<T>(); for (var i = 0u; i < m.a[0]; i++) { t += a[i]; s = t; t = s + b[i]; \
         s += b[i]; } r = bits(s + t);",
        2,
    ),
    ("r = bits(sum(m.a[0]) + sum(m.a[1] % 9u));", 1),
    (
        "var s = vec4<T>(); for (var i = 0u; i < m.a[0]; i++) { s += a[i] * T(i); } r = bits(s); r[7] = bitcast<u32>(dot(s, a[1]));",
        0,
    ),
    (
        "var s = vec4<T>(); var list: array<vec4<T>, 3>; for (var i = 0u; i < m.a[0]; i++) { s += a[i]; list[i % 3u] = s; } \
         r = bits(list[m.a[1] % 3u] + select(s, a[0], s < a[0]));",
        1,
    ),
];

fn text(ty: &str, body: &str) -> String {
    let text = format!(
        "@group(1) @binding(0) var<storage, read> a: array<vec4<T>>;
         @group(1) @binding(1) var<storage, read_write> b: array<vec4<T>>;
         fn bits(v: vec4<T>) -> array<u32, 8> {{ let w = bitcast<vec4<u32>>(v); \
             return array(w.x, w.y, w.z, w.w, 0, 0, 0, 0); }}
         fn turn(v: ptr<function, vec4<T>>) {{ *v = (*v).yzwx; }}
         fn sum(count: u32) -> vec4<T> {{ var s = vec4<T>(); \
             for (var i = 0u; i < count; i++) {{ s += a[i]; }} return s; }}
         fn on_message(m: In) -> Out {{ var r: array<u32, 8>; {body} return Out(r); }}"
    );
    text.replace("<T>", &format!("<{ty}>")).replace("T(", &format!("{ty}("))
}

/// How many variables are packed.
fn packed(program: &Program) -> usize {
    let analysis = Analysis::new(program);
    program.functions.iter().map(|function| analysis.facts(*function).packed.locals.len()).sum()
}

#[test]
fn sums_are_those_of_the_interpreter() {
    for ty in ["u32", "i32", "f32"] {
        for (body, expected) in BODIES {
            let text = text(ty, body);
            let table = |name: &str| TableDecl {
                name: name.into(),
                element_size: 16,
                element_name: "[u32; 4]",
                len: LENGTH,
            };
            let tables = [table("a"), table("b")];
            let source = HandlerSource { tables: &tables, ..source(&text) };
            if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
                assert_eq!(packed(&compile(&source).unwrap()), expected, "{body}");
            }
            let mut bench = Bench::new(&source).unwrap();
            let number = |index: usize| match ty {
                "f32" => (index as f32 * 0.37 - 9.0).to_bits(),
                _ => (index as u32).wrapping_mul(0x9e37_79b9),
            };
            let mut a: Vec<u32> = (0..4 * LENGTH).map(number).collect();
            for count in [0u32, 1, 2, 7, 12] {
                let mut b: Vec<u32> = (0..4 * LENGTH).map(|index| number(4 * LENGTH - index)).collect();
                let views = [&mut a, &mut b]
                    .map(|words| TableView { data: words.as_mut_ptr().cast(), bytes: words.len() * 4 });
                let message = [count, count + 3, 0, 0, 0, 0, 0, 0];
                assert_eq!(bench.run_with(bytemuck::cast_slice(&message), &views), Outcome::Done, "{body}");
            }
        }
    }
}

#[test]
fn sums_of_much_are_looked_at_in_time() {
    let mut body = String::from("var s = vec4<T>(); let x0 = a[0];");
    for level in 1..60 {
        body += &format!(" let x{level} = x{0} + x{0};", level - 1);
    }
    body += " s += x59; var t = vec4<T>(); t += a[1]";
    for index in 0..4000 {
        body += &format!(" + a[{}]", index % 24);
    }
    let text = text("u32", &(body + "; r = bits(s + t);"));
    let table =
        |name: &str| TableDecl { name: name.into(), element_size: 16, element_name: "[u32; 4]", len: LENGTH };
    let tables = [table("a"), table("b")];
    let begun = std::time::Instant::now();
    assert_eq!(packed(&compile(&HandlerSource { tables: &tables, ..source(&text) }).unwrap()), 0);
    assert!(begun.elapsed() < std::time::Duration::from_secs(20));
}
