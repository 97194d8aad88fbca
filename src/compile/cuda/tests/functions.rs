//! Every built-in function of [`math`](super::super::math), as text on a host against the interpreter.

use super::engine::{build_one, has_compiler};
use crate::compile::cuda::write_body;
use crate::compile::tests::*;
use crate::compile::{Executable, Frame, Interpreter, Limits, Outcome, StopCheck, compile};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// What the header's function is called, and a call: of the floats `x`, `y` and `z`, the vectors `p` and `q`, the `u32`s
/// `u` and `v` and the `i32` `i`. The result is a float, or a word that has to be the same.
const FLOATS: [(&str, &str); 46] = [
    ("abs", "abs(x)"),
    ("sign", "sign(x)"),
    ("saturate", "saturate(x)"),
    ("cos", "cos(x)"),
    ("cosh", "cosh(x)"),
    ("sin", "sin(x)"),
    ("sinh", "sinh(x)"),
    ("tan", "tan(x)"),
    ("tanh", "tanh(x)"),
    ("acos", "acos(y)"),
    ("asin", "asin(y)"),
    ("atan", "atan(x)"),
    ("atan2", "atan2(x, z)"),
    ("asinh", "asinh(x)"),
    ("acosh", "acosh(z)"),
    ("atanh", "atanh(y)"),
    ("radians", "radians(x)"),
    ("degrees", "degrees(x)"),
    ("ceil", "ceil(x)"),
    ("floor", "floor(x)"),
    ("round", "round(x)"),
    ("fract", "fract(x)"),
    ("trunc", "trunc(x)"),
    ("exp", "exp(x)"),
    ("exp2", "exp2(x)"),
    ("log", "log(z)"),
    ("log2", "log2(z)"),
    ("pow", "pow(z, x)"),
    ("sqrt", "sqrt(z)"),
    ("inverse_sqrt", "inverseSqrt(z)"),
    ("quantize", "quantizeToF16(x)"),
    ("fma", "fma(x, y, z)"),
    ("mix", "mix(x, z, y)"),
    ("step", "step(x, y)"),
    ("smooth_step", "smoothstep(-1.0, z, x)"),
    ("ldexp", "ldexp(x, i % 10)"),
    ("dot", "dot(p, q)"),
    ("length", "length(p)"),
    ("distance", "distance(p, q)"),
    ("normalize", "dot(normalize(p), vec3(1.0, 10.0, 100.0))"),
    ("cross", "dot(cross(p, q), vec3(1.0, 10.0, 100.0))"),
    ("face_forward", "faceForward(p, q, p).y"),
    ("reflect", "dot(reflect(p, q), vec3(1.0, 10.0, 100.0))"),
    ("refract", "refract(normalize(p), normalize(q), 0.7).z"),
    ("transpose", "(transpose(mat2x3(p, q)) * p).y"),
    ("determinant", "determinant(mat3x3(p, q, p.zxy))"),
];
const WORDS: [(&str, &str); 31] = [
    ("min", "min(u, v)"),
    ("max", "bitcast<u32>(max(i, 7))"),
    ("clamp", "clamp(u, 5u, 500u)"),
    ("count_trailing_zeros", "countTrailingZeros(u)"),
    ("count_leading_zeros", "countLeadingZeros(u)"),
    ("count_one_bits", "countOneBits(u)"),
    ("reverse_bits", "reverseBits(u)"),
    ("first_trailing_bit", "firstTrailingBit(u)"),
    ("first_leading_bit", "bitcast<u32>(firstLeadingBit(i))"),
    ("extract_bits", "bitcast<u32>(extractBits(i, v % 40u, u % 40u))"),
    ("insert_bits", "insertBits(u, v, v % 40u, u % 40u)"),
    ("dot_signed", "bitcast<u32>(dot4I8Packed(u, v))"),
    ("dot_unsigned", "dot4U8Packed(u, v)"),
    ("dot", "dot(vec3(u, v, 3u), vec3(v, 5u, u))"),
    ("pack_4x8snorm", "pack4x8snorm(vec4(x, y, z, 0.3))"),
    ("pack_4x8unorm", "pack4x8unorm(vec4(x, y, z, 0.3))"),
    ("pack_2x16snorm", "pack2x16snorm(vec2(x, y))"),
    ("pack_2x16unorm", "pack2x16unorm(vec2(y, z))"),
    ("pack_2x16float", "pack2x16float(vec2(x, z))"),
    ("pack_4x8", "pack4xI8(vec4(i, i + 1, 300, -3))"),
    ("pack_4x8", "pack4xU8(vec4(u, v, 300u, 3u))"),
    ("pack_4x8clamp", "pack4xI8Clamp(vec4(i, i + 1, 300, -300))"),
    ("pack_4x8clamp", "pack4xU8Clamp(vec4(u, v, 300u, 3u))"),
    ("unpack_4x8snorm", "pack4x8snorm(unpack4x8snorm(u).wzyx)"),
    ("unpack_4x8unorm", "pack4x8unorm(unpack4x8unorm(u).wzyx)"),
    ("unpack_2x16snorm", "pack2x16snorm(unpack2x16snorm(u).yx)"),
    ("unpack_2x16unorm", "pack2x16unorm(unpack2x16unorm(u).yx)"),
    ("unpack_2x16float", "pack2x16float(unpack2x16float(u & 0x3fff3fffu).yx)"),
    ("unpack_signed<4u>", "pack4xI8(unpack4xI8(u).yxwz)"),
    ("unpack_unsigned<4u>", "pack4xU8(unpack4xU8(u).yxwz)"),
    ("abs", "bitcast<u32>(abs(i))"),
];

#[test]
fn every_function_does_what_the_interpreter_does() {
    let mut cases = String::new();
    let floats = FLOATS.iter().map(|(_, call)| format!("bitcast<u32>({call})"));
    let words = WORDS.iter().map(|(_, call)| (*call).to_owned());
    for (number, call) in floats.chain(words).enumerate() {
        let _ = writeln!(cases, "case {number}u: {{ r[0] = {call}; }}");
    }
    let text = format!(
        "fn on_message(m: In) -> Out {{
            let x = bitcast<f32>(m.a[1]);
            let y = bitcast<f32>(m.a[2]);
            let z = bitcast<f32>(m.a[3]);
            let u = m.a[4];
            let v = m.a[5];
            let i = bitcast<i32>(m.a[6]);
            let p = vec3(x, y, z);
            let q = vec3(z, x, -0.5);
            var r: array<u32, 8>;
            switch m.a[0] {{ {cases} default: {{ }} }}
            return Out(r);
        }}"
    );
    let program = Arc::new(compile(&source(&text)).unwrap_or_else(|error| panic!("{error}")));
    let body = write_body(&program, "functions.wgsl");
    for (name, call) in FLOATS.iter().chain(&WORDS) {
        assert!(body.contains(&format!("rt_{name}(")), "{call} calls no `rt_{name}`");
    }
    if !has_compiler() {
        return;
    }
    let (host, interpreter) = (build_one(program.clone()), Interpreter::new(program.clone()));
    let evaluate = |engine: &dyn Executable, message: &[u32; 8]| {
        let (word, mut reply) = (AtomicU32::new(0), [0u32; 8]);
        let mut privates = vec![0u32; program.privates_size as usize / 4];
        let outcome = engine.run(Frame {
            message: bytemuck::cast_slice(message),
            state: &mut [],
            reply: bytemuck::cast_slice_mut(&mut reply),
            privates: bytemuck::cast_slice_mut(&mut privates),
            tables: &[],
            stop: &StopCheck::new(&word, &Limits::NONE),
        });
        assert_eq!(outcome, Outcome::Done);
        reply[0]
    };
    // Those of which WGSL leaves the last bits open are the libraries' own.
    let is_close =
        |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 2e-6 * b.abs().max(1.0);
    for [x, y, z] in [[0.75f32, -0.5, 1.5], [-2.25, 0.125, 3.0], [2.5, 0.9, 1.0], [-0.0, -0.25, 20.5]] {
        for [u, v, i] in [[0x0123_4567u32, 9, -5i32 as u32], [0x8000_0000, 0xfedc_ba98, 123_456], [0, 31, 0]]
        {
            for number in 0..FLOATS.len() + WORDS.len() {
                let message = [number as u32, x.to_bits(), y.to_bits(), z.to_bits(), u, v, i, 0];
                let (got, expected) = (evaluate(&host, &message), evaluate(&interpreter, &message));
                match FLOATS.get(number) {
                    Some((_, call)) => {
                        let (got, expected) = (f32::from_bits(got), f32::from_bits(expected));
                        assert!(
                            is_close(got, expected),
                            "{call} of {x}, {y}, {z}, {i}: {got}, not {expected}"
                        );
                    }
                    None => {
                        let call = WORDS[number - FLOATS.len()].1;
                        assert_eq!(got, expected, "{call} of {x}, {y}, {z}, {u:#x}, {v:#x}, {i}");
                    }
                }
            }
        }
    }
}
