//! What the text looks like, and how runs end.

use super::engine::{build, build_one, has_compiler};
use crate::compile::cuda::{HEADER, write};
use crate::compile::tests::*;
use crate::compile::{
    Executable, FaultCode, Frame, HandlerSource, Interpreter, Limits, Outcome, Program, STOP_NOW, StopCheck,
    compile,
};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

fn program(source: &HandlerSource<'_>) -> Arc<Program> {
    Arc::new(compile(source).unwrap_or_else(|error| panic!("{error}")))
}

fn run(engine: &dyn Executable, program: &Program, message: &[u32; 8], stop: u32) -> (Outcome, Vec<u32>) {
    let (word, mut reply) = (AtomicU32::new(stop), [0u32; 8]);
    let mut privates = vec![0u32; program.privates_size as usize / 4];
    let outcome = engine.run(Frame {
        message: bytemuck::cast_slice(message),
        state: &mut [],
        reply: bytemuck::cast_slice_mut(&mut reply),
        privates: bytemuck::cast_slice_mut(&mut privates),
        tables: &[],
        stop: &StopCheck::new(&word, &Limits::NONE),
    });
    (outcome, reply.to_vec())
}

#[test]
fn a_handler_runs() {
    if !has_compiler() {
        return;
    }
    let text = "fn on_message(m: In) -> Out {
        var r: array<u32, 8>;
        for (var i = 0u; i < 8u; i++) { r[i] = m.a[7u - i] * 3u + m.a[m.a[i]]; }
        return Out(r);
    }";
    let program = program(&source(text));
    let handler = build_one(program.clone());
    let message = [1, 2, 3, 400, 5, 6, 7, u32::MAX];
    let expected = run(&Interpreter::new(program.clone()), &program, &message, 0);
    assert_eq!(run(&handler, &program, &message, 0), expected);
    assert_eq!(expected.0, Outcome::Done);
}

/// A text in which the sums, in lines 2 and 7 of the user's, call something that is not there.
pub fn broken(name: &str) -> String {
    let text = "fn helper(x: u32) -> u32 {\n    return x + 1u;\n}\n\nfn on_message(m: In) -> Out {\n    \
                var r: array<u32, 8>;\n    r[0] = helper(m.a[0])\n        + m.a[1];\n    return Out(r);\n}";
    let program = program(&HandlerSource { name, ..source(text) });
    let text = write(&program, name).text;
    let body = text.strip_prefix(HEADER).expect("the text begins with the header");
    HEADER.to_owned() + &body.replace("rt_add(", "rt_nothing(")
}

/// A handler with everything that a twin may use, and its twin, which reads the message in its third line.
pub fn twin() -> (Arc<Program>, &'static str) {
    let text = "@group(1) @binding(0) var<storage, read_write> seen: array<u32>;
        struct State { n: u32, place: vec3<f32>, turn: mat3x3<f32>, list: array<vec3<i32>, 2> }
        fn on_message(m: In, s: ptr<function, State>) -> Out {
            seen[m.a[0]] += 1u;
            emit_alerts(Alert(1u, (*s).place.x));
            (*s).n += u32((*s).list[1].y);
            return Out();
        }";
    let (outputs, tables) = ([output("alerts", 2)], [table("seen", 8)]);
    let program = program(&HandlerSource { outputs: &outputs, tables: &tables, ..source(text) });
    let twin = "__device__ Out on_message(const In& m, State& s, RtContext& rt) {
        Out out = {};
        for (unsigned i = 0; i < m.a[0] && rt.loop(); i++) rt.seen[i] += rt.seen.length;
        rt.emit_alerts({1u, s.place.x + s.turn[2].value.y});
        s.n += (unsigned)s.list[1].value.y + __popc(m.a[1]);
        out.r[7] = s.n;
        return out;
    }";
    (program, twin)
}

#[test]
fn messages_of_the_compiler_name_the_users_line() {
    if !has_compiler() {
        return;
    }
    let name = "<kernel \"so \\ called\">";
    let folder = std::env::temp_dir().join(format!("ringwork-cuda-lines-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("broken.cpp");
    std::fs::write(&path, broken(name)).unwrap();
    let output = std::process::Command::new("g++")
        .args(["-std=c++17", "-DRT_HOST", "-fsyntax-only"])
        .arg(&path)
        .output()
        .unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let messages = String::from_utf8_lossy(&output.stderr);
    for line in [2, 7] {
        let place = format!("{name}:{line}:");
        assert!(messages.lines().any(|m| m.starts_with(&place) && m.contains("rt_nothing")), "{messages}");
    }
}

#[test]
fn runs_end_as_the_interpreters_do() {
    if !has_compiler() {
        return;
    }
    let text = "
        fn spin(n: u32) -> u32 { var x = 1u; for (var i = 0u; i < n; i++) { x = x * 5u + i; } return x; }
        fn on_message(m: In) -> Out {
            var r: array<u32, 8>;
            r[0] = spin(m.a[0]);
            for (var i = 0u; i < m.a[1]; i++) { emit_alerts(Alert(i, 0.5)); }
            loop { r[1] += 1u; continuing { for (var j = 0u; j < m.a[2]; j++) { r[2] += j; } break if r[1] > 3u; } }
            return Out(r);
        }";
    let outputs = [output("alerts", 3)];
    let program = program(&HandlerSource { outputs: &outputs, loop_budget: 10_000, ..source(text) });
    let handler = build_one(program.clone());
    let interpreter = Interpreter::new(program.clone());
    let mut ends = Vec::new();
    for (a, b, c) in [
        (5, 0, 0),
        (9_996, 0, 0),
        (9_997, 0, 0),
        (5, 3, 1),
        (5, 4, 1),
        (20_000, 4, 0),
        (1, 1, 2_498),
        (1, 1, 2_499),
    ] {
        let message = [a, b, c, 0, 0, 0, 0, 0];
        let expected = run(&interpreter, &program, &message, 0);
        let got = run(&handler, &program, &message, 0);
        assert_eq!(got.0, expected.0, "{message:?}");
        if got.0 == Outcome::Done {
            assert_eq!(got.1, expected.1, "{message:?}");
        }
        ends.push(got.0);
    }
    assert!(ends.contains(&Outcome::Fault(FaultCode::LoopBudget)));
    assert!(ends.contains(&Outcome::Fault(FaultCode::EmitOverflow)));
    assert!(ends.contains(&Outcome::Done));
    // A short run does not look at the stop word, a long one leaves.
    assert_eq!(run(&handler, &program, &[5, 0, 0, 0, 0, 0, 0, 0], STOP_NOW).0, Outcome::Done);
    assert_eq!(run(&handler, &program, &[9_000, 0, 0, 0, 0, 0, 0, 0], STOP_NOW).0, Outcome::Interrupted);
    assert_eq!(run(&handler, &program, &[9_000, 0, 0, 0, 0, 0, 0, 0], 1).0, Outcome::Done);
}

#[test]
fn an_interrupted_run_writes_nothing_more() {
    if !has_compiler() {
        return;
    }
    let text = "@group(1) @binding(0) var<storage, read_write> t: array<u32>;
        fn deep(n: u32) -> u32 { var x = 0u; loop { x++; if x == n { break; } } return x; }
        fn on_message(m: In) { t[0] = 1u; t[1] = deep(m.a[0]) + 5u; t[2] = 2u; }";
    let tables = [table("t", 4)];
    let program = program(&HandlerSource { output: UNIT, tables: &tables, ..source(text) });
    let handler = build_one(program.clone());
    let (word, mut contents) = (AtomicU32::new(STOP_NOW), vec![0u32; 4]);
    let mut privates = vec![0u32; program.privates_size as usize / 4];
    let view = crate::compile::TableView { data: contents.as_mut_ptr().cast(), bytes: 16 };
    let outcome = handler.run(Frame {
        message: bytemuck::cast_slice(&[100_000u32, 0, 0, 0, 0, 0, 0, 0]),
        state: &mut [],
        reply: &mut [],
        privates: bytemuck::cast_slice_mut(&mut privates),
        tables: &[view],
        stop: &StopCheck::new(&word, &Limits::NONE),
    });
    assert_eq!((outcome, &contents[..]), (Outcome::Interrupted, &[1, 0, 0, 0][..]));
}

#[test]
fn layouts_are_naga_s() {
    if !has_compiler() {
        return;
    }
    // Every kind of gap; the compiler looks at the assertions.
    let text = "
        struct Inner { v: vec3<f32>, n: u32, m: mat3x3<f32>, w: vec2<i32>, b: array<vec3<u32>, 2> }
        struct Outer { a: u32, inner: Inner, m: mat2x2<f32>, n: mat4x3<f32>, @size(32) c: f32, @align(64) d: vec4<f32> }
        struct Flags { a: bool, v: vec3<bool>, n: u32, w: vec4<bool>, x: vec2<bool> }
        struct Table { o: Outer, t: array<Inner, 3> }
        var<private> p: Outer; var<private> f: Flags; var<private> b: bool; var<private> c: vec3<bool>;
        var<private> q: array<Flags, 3>; var<private> r: mat3x2<f32>;
        fn on_message(m: In) -> Out {
            p.inner.b[1].y = m.a[0]; f.w.z = true; b = f.v.x; c = f.v; q[2] = f; r[1].x = 2.0;
            var t: Table; t.t[2].m[1][2] = 4.0; t.o = p;
            return Out(array<u32, 8>(t.o.inner.b[1].y, u32(q[2].w.z), u32(t.t[2].m[1].z), 0u, 0u, 0u, 0u, 0u));
        }";
    let program = program(&source(text));
    let asserts = write(&program, "test.wgsl").text.matches("static_assert(__builtin_offsetof").count();
    assert!(asserts >= 25, "{asserts}");
    let handler = build_one(program.clone());
    let message = [9, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(run(&handler, &program, &message, 0), (Outcome::Done, vec![9, 1, 4, 0, 0, 0, 0, 0]));
}

#[test]
fn names_that_are_c_plus_plus_s() {
    if !has_compiler() {
        return;
    }
    let text = "
        struct union_ { int_: u32, double: f32, größe: u32 }
        const nullptr_ = array(1u, 2u, 3u);
        fn printf(long: u32) -> u32 { return long + nullptr_[long]; }
        fn main_(context: u32, e1: u32) -> u32 { let size_t = union_(context, 1.0, e1); return printf(size_t.int_ + size_t.größe); }
        fn on_message(m: In) -> Out { var memcpy = m.a; memcpy[1] = main_(m.a[0], 1u); return Out(memcpy); }";
    let program = program(&source(text));
    let handlers = build(&[("a.wgsl", program.clone()), ("b.wgsl", program.clone())]).unwrap();
    for handler in &handlers {
        let message = [0, 0, 5, 0, 0, 0, 0, 0];
        assert_eq!(run(handler, &program, &message, 0).1[..3], [0, 3, 5]);
    }
}

#[test]
fn sums_of_products_are_rounded_twice() {
    if !has_compiler() {
        return;
    }
    let text = "fn on_message(m: In) -> Out {
        let v = bitcast<vec4<f32>>(vec4(m.a[0], m.a[1], m.a[2], m.a[3]));
        let w = bitcast<vec4<f32>>(vec4(m.a[4], m.a[5], m.a[6], m.a[7]));
        let a = v.x * v.y + v.z;
        let b = v.x * v.y - w.x * w.y;
        let c = fma(v.y, w.z, v.w);
        let d = mix(v, w, w.w).y + smoothstep(v.x, w.x + 2.0, w.y);
        let e = dot(v, w) + length(v.xyz) + reflect(v, w).z;
        let f = (mat2x2(v.xy, w.xy) * w.xy).y + (v.xy * mat2x2(w.xy, v.xy)).x + (mat2x2(v.xy, w.xy) * mat2x2(w.zw, v.zw))[1].x;
        let g = cross(v.xyz, w.xyz).y + determinant(mat3x3(v.xyz, w.xyz, v.wzy)) + v.x % 0.37;
        let h = refract(v.xy, w.zw, 0.4).x + normalize(w).z + inverseSqrt(v.w) + distance(v, w);
        return Out(array(bitcast<u32>(a), bitcast<u32>(b), bitcast<u32>(c), bitcast<u32>(d), bitcast<u32>(e),
            bitcast<u32>(f), bitcast<u32>(g), bitcast<u32>(h)));
    }";
    let program = program(&source(text));
    let (handler, interpreter) = (build_one(program.clone()), Interpreter::new(program.clone()));
    let mut random = 1u32;
    for _ in 0..2000 {
        // All bits of the fractions: products that fit are no test.
        let message = std::array::from_fn(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            0x3f80_0000 | random >> 9
        });
        assert_eq!(
            run(&handler, &program, &message, 0),
            run(&interpreter, &program, &message, 0),
            "{message:x?}"
        );
    }
}
