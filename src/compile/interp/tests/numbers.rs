//! Arithmetic, conversions and built-in functions.

use crate::compile::tests::{Bench, evaluate, source};

const MIN: u32 = i32::MIN as u32;

fn floats(values: &[f32]) -> [u32; 8] {
    let mut message = [0; 8];
    for (to, from) in message.iter_mut().zip(values) {
        *to = from.to_bits();
    }
    message
}

/// Evaluates one f32 expression of `a`, `b` and `c`.
fn float(expression: &str, values: &[f32]) -> f32 {
    let declare = "let a = bitcast<f32>(m.a[0]); let b = bitcast<f32>(m.a[1]); let c = bitcast<f32>(m.a[2]);";
    f32::from_bits(evaluate(&format!("{declare} r[0] = bitcast<u32>({expression});"), floats(values))[0])
}

/// Evaluates u32 expressions of `a`, `b`, `c`, `d` and the i32 `i`, `j`.
fn ints(expressions: &[&str], values: &[u32]) -> Vec<u32> {
    let mut message = [0; 8];
    message[..values.len()].copy_from_slice(values);
    let mut body = "let a = m.a[0]; let b = m.a[1]; let c = m.a[2]; let d = m.a[3]; \
                    let i = i32(a); let j = i32(b);"
        .to_string();
    for (index, expression) in expressions.iter().enumerate() {
        body += &format!("r[{index}] = u32({expression});");
    }
    evaluate(&body, message)[..expressions.len()].to_vec()
}

#[test]
fn integer_division_by_zero_and_overflow() {
    assert_eq!(ints(&["a / b", "a % b", "i / j", "i % j"], &[7, 0]), [7, 0, 7, 0]);
    assert_eq!(ints(&["i / j", "i % j", "-i", "abs(i)"], &[MIN, u32::MAX]), [MIN, 0, MIN, MIN]);
    assert_eq!(ints(&["i / j", "i % j"], &[-7i32 as u32, 2]), [-3i32 as u32, -1i32 as u32]);
    assert_eq!(ints(&["a + b", "a * b", "b - a"], &[u32::MAX, 2]), [1, u32::MAX - 1, 3]);
}

#[test]
fn compound_assignments_divide_the_same_way() {
    let body = "var x = i32(m.a[0]); x /= i32(m.a[1]); var y = m.a[0]; y %= m.a[2]; r[0] = u32(x); r[1] = y;";
    assert_eq!(evaluate(body, [MIN, u32::MAX, 0, 0, 0, 0, 0, 0])[..2], [MIN, 0]);
}

#[test]
fn shifts_mask_their_amount_and_keep_the_sign() {
    assert_eq!(ints(&["a << b", "a >> b", "i >> b"], &[0x8000_0001, 33]), [2, 0x4000_0000, 0xc000_0000]);
    assert_eq!(ints(&["a << b", "a >> b", "i >> b"], &[0x8000_0001, 32]), [0x8000_0001; 3]);
    assert_eq!(ints(&["i >> 31u", "a >> 31u", "i << 1u"], &[MIN, 0]), [u32::MAX, 1, 0]);
    let body = "let v = vec2(m.a[0], m.a[0]) << vec2(m.a[1], m.a[2]); r[0] = v.x; r[1] = v.y;";
    assert_eq!(evaluate(body, [1, 35, 4, 0, 0, 0, 0, 0])[..2], [8, 16]);
}

#[test]
fn round_sends_ties_to_even() {
    for (x, wanted) in
        [(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, -0.0), (-1.5, -2.0), (-2.5, -2.0), (0.49999997, 0.0)]
    {
        assert_eq!(float("round(a)", &[x]).to_bits(), f32::to_bits(wanted), "round({x})");
    }
    assert_eq!(float("round(a)", &[8_388_609.0]), 8_388_609.0);
}

#[test]
fn float_to_int_saturates_and_nan_is_zero() {
    let body = "let x = bitcast<f32>(m.a[0]); r[0] = u32(i32(x)); r[1] = u32(x); \
                let v = vec2<i32>(vec2(x, 1.5)); r[2] = u32(v.x); r[3] = u32(v.y); \
                let w = vec3<u32>(vec3(x)); r[4] = w.z;";
    let convert = |x: f32| evaluate(body, floats(&[x]))[..5].to_vec();
    const I32_TOP: u32 = 2_147_483_520;
    const U32_TOP: u32 = 4_294_967_040;
    assert_eq!(convert(f32::NAN), [0, 0, 0, 1, 0]);
    assert_eq!(convert(-f32::NAN), [0, 0, 0, 1, 0]);
    assert_eq!(convert(f32::INFINITY), [I32_TOP, U32_TOP, I32_TOP, 1, U32_TOP]);
    assert_eq!(convert(f32::NEG_INFINITY), [MIN, 0, MIN, 1, 0]);
    assert_eq!(convert(3e9), [I32_TOP, 3_000_000_000, I32_TOP, 1, 3_000_000_000]);
    assert_eq!(convert(-1.9), [-1i32 as u32, 0, -1i32 as u32, 1, 0]);
    assert_eq!(convert(1e-40), [0, 0, 0, 1, 0]);
}

#[test]
fn conversions_of_integers_and_bools() {
    let body = "r[0] = bitcast<u32>(f32(m.a[0])); r[1] = bitcast<u32>(f32(i32(m.a[0]))); r[2] = u32(bool(m.a[0])); \
                r[3] = bitcast<u32>(f32(m.a[0] > 1u)); r[4] = u32(bool(bitcast<f32>(m.a[1]))); \
                let v = vec2<f32>(vec2<bool>(true, m.a[0] == 0u)); r[5] = bitcast<u32>(v.x + v.y);";
    let wanted = [u32::MAX as f32, -1.0, 0.0, 1.0, 0.0, 1.0].map(f32::to_bits);
    let got = evaluate(body, [u32::MAX, 0x8000_0000, 0, 0, 0, 0, 0, 0]);
    assert_eq!((got[0], got[1], got[3], got[5]), (wanted[0], wanted[1], wanted[3], wanted[5]));
    assert_eq!((got[2], got[4]), (1, 0), "-0.0 is false");
}

#[test]
fn min_max_clamp_prefer_numbers() {
    let nan = f32::NAN;
    assert_eq!(float("min(a, b)", &[nan, 1.0]), 1.0);
    assert_eq!(float("max(a, b)", &[1.0, nan]), 1.0);
    assert_eq!(float("min(a, b)", &[2.0, 1.0]), 1.0);
    assert_eq!(float("clamp(a, b, c)", &[nan, -1.0, 1.0]), -1.0);
    assert_eq!(float("clamp(a, b, c)", &[5.0, 2.0, 1.0]), 1.0);
    assert_eq!(float("min(a, b)", &[0.0, -0.0]).to_bits(), 0);
    assert_eq!(ints(&["min(a, b)", "min(i, j)", "max(a, b)", "max(i, j)"], &[1, MIN]), [1, MIN, MIN, 1]);
    assert_eq!(ints(&["clamp(a, b, c)", "clamp(i, j, i32(c))"], &[9, 2, 5]), [5, 5]);
}

#[test]
fn float_functions() {
    let close = |got: f32, wanted: f64| {
        assert!((f64::from(got) - wanted).abs() <= 2e-6 * wanted.abs().max(1.0), "{got} is not {wanted}");
    };
    let x = 0.7f32;
    let exact = f64::from(x);
    for (name, wanted) in [
        ("sin", exact.sin()),
        ("cos", exact.cos()),
        ("tan", exact.tan()),
        ("asin", exact.asin()),
        ("acos", exact.acos()),
        ("atan", exact.atan()),
        ("sinh", exact.sinh()),
        ("cosh", exact.cosh()),
        ("tanh", exact.tanh()),
        ("asinh", exact.asinh()),
        ("atanh", exact.atanh()),
        ("exp", exact.exp()),
        ("exp2", exact.exp2()),
        ("log", exact.ln()),
        ("log2", exact.log2()),
        ("sqrt", exact.sqrt()),
        ("inverseSqrt", 1.0 / exact.sqrt()),
        ("radians", exact.to_radians()),
        ("degrees", exact.to_degrees()),
        ("fract", exact),
        ("saturate", exact),
        ("length", exact),
    ] {
        close(float(&format!("{name}(a)"), &[x]), wanted);
    }
    close(float("acosh(a)", &[1.7]), 1.7f64.acosh());
    close(float("atan2(a, b)", &[x, -2.0]), exact.atan2(-2.0));
    close(float("pow(a, b)", &[x, 2.5]), exact.powf(2.5));
    close(float("smoothstep(a, b, c)", &[0.0, 2.0, 0.5]), 0.15625);
    close(float("mix(a, b, c)", &[1.0, 3.0, 0.25]), 1.5);
    assert_eq!(float("step(a, b)", &[1.0, 1.0]), 1.0);
    assert_eq!(float("sign(a)", &[-0.5]), -1.0);
    assert_eq!(float("sign(a)", &[f32::NAN]), 0.0);
    assert_eq!(float("ceil(a) + floor(b) + trunc(c)", &[1.2, -1.2, -1.7]), 2.0 - 2.0 - 1.0);
    assert_eq!(float("a % b", &[-7.5, 2.0]), -1.5);
    assert_eq!(float("ldexp(a, 3i)", &[0.75]), 6.0);
    // Fused, this would be 2^-24 instead of 0.
    assert_eq!(float("fma(a, b, c)", &[1.0 + f32::EPSILON, 1.0 - f32::EPSILON / 2.0, -1.0]), {
        (1.0 + f32::EPSILON) * (1.0 - f32::EPSILON / 2.0) - 1.0
    });
    assert_eq!(float("quantizeToF16(a)", &[1.0 / 3.0]), 0.333_251_95);
    assert_eq!(float("frexp(a).fract", &[-12.0]), -0.75);
    assert_eq!(float("f32(frexp(a).exp)", &[-12.0]), 4.0);
    assert_eq!(float("modf(a).fract + 10.0 * modf(a).whole", &[-2.25]), -20.25);
    assert_eq!(float("modf(a).fract", &[f32::INFINITY]), 0.0);
}

#[test]
fn bit_functions() {
    let fun = [
        "countLeadingZeros(a)",
        "countTrailingZeros(a)",
        "countOneBits(a)",
        "firstLeadingBit(a)",
        "firstTrailingBit(a)",
        "firstLeadingBit(i)",
    ];
    assert_eq!(ints(&fun, &[0]), [32, 32, 0, u32::MAX, u32::MAX, u32::MAX]);
    assert_eq!(ints(&fun, &[u32::MAX]), [0, 0, 32, 31, 0, u32::MAX]);
    assert_eq!(ints(&fun, &[0x00f0]), [24, 4, 4, 7, 4, 7]);
    assert_eq!(ints(&fun, &[MIN]), [0, 31, 1, 31, 31, 30]);
    assert_eq!(ints(&["reverseBits(a)", "sign(i)"], &[0x8000_0003]), [0xc000_0001, u32::MAX]);
}

#[test]
fn bit_ranges_end_with_the_word() {
    let extract = ["extractBits(a, b, c)", "extractBits(i, b, c)"];
    assert_eq!(ints(&extract, &[0xabcd_ef12, 8, 8]), [0xef, 0xffff_ffef]);
    assert_eq!(ints(&extract, &[0xabcd_ef12, 0, 32]), [0xabcd_ef12; 2]);
    assert_eq!(ints(&extract, &[0xabcd_ef12, 28, 99]), [0xa, 0xffff_fffa]);
    assert_eq!(ints(&extract, &[0xabcd_ef12, 32, 5]), [0, 0]);
    assert_eq!(ints(&extract, &[0xabcd_ef12, u32::MAX, u32::MAX]), [0, 0]);
    assert_eq!(ints(&extract, &[0xabcd_ef12, 5, 0]), [0, 0]);
    let insert = ["insertBits(a, b, c, d)"];
    assert_eq!(ints(&insert, &[0xffff_ffff, 0, 8, 8]), [0xffff_00ff]);
    assert_eq!(ints(&insert, &[0, u32::MAX, 28, 99]), [0xf000_0000]);
    assert_eq!(ints(&insert, &[0, 0x1234_5678, 0, 32]), [0x1234_5678]);
    assert_eq!(ints(&insert, &[5, u32::MAX, 40, 3]), [5]);
}

#[test]
fn packing() {
    let floats_in = "let v = bitcast<vec4<f32>>(vec4(m.a[0], m.a[1], m.a[2], m.a[3]));";
    let body = format!(
        "{floats_in} r[0] = pack4x8snorm(v); r[1] = pack4x8unorm(v); r[2] = pack2x16snorm(v.xy); \
         r[3] = pack2x16unorm(v.xy); r[4] = pack2x16float(v.xy); \
         let u = unpack4x8snorm(m.a[4]) + unpack4x8unorm(m.a[4]); r[5] = bitcast<u32>(u.y); \
         let h = unpack2x16float(m.a[5]); r[6] = bitcast<u32>(h.y); \
         r[7] = bitcast<u32>(unpack2x16snorm(m.a[6]).y + unpack2x16unorm(m.a[6]).x);"
    );
    let mut message = floats(&[1.0, -0.5, 2.0, f32::NEG_INFINITY]);
    message[4..7].copy_from_slice(&[0x0000_8000, 0xc000_0000, 0x8001_ffff]);
    let got = evaluate(&body, message);
    assert_eq!(got[..4], [0x817f_c17f, 0x00ff_00ff, 0xc001_7fff, 0x0000_ffff]);
    assert_eq!(got[4], 0xb800_3c00);
    assert_eq!(f32::from_bits(got[5]), -1.0 + 128.0 / 255.0);
    assert_eq!(f32::from_bits(got[6]), -2.0);
    assert_eq!(f32::from_bits(got[7]), 0.0);

    let body = "let v = vec4(i32(m.a[0]), i32(m.a[1]), 3, 4); r[0] = pack4xI8(v); r[1] = pack4xI8Clamp(v); \
                let w = vec4(m.a[0], m.a[1], 3, 4); r[2] = pack4xU8(w); r[3] = pack4xU8Clamp(w); \
                r[4] = u32(unpack4xI8(m.a[2]).z); r[5] = unpack4xU8(m.a[2]).z; \
                r[6] = u32(dot4I8Packed(m.a[2], m.a[3])); r[7] = dot4U8Packed(m.a[2], m.a[3]);";
    let got = evaluate(body, [300, u32::MAX, 0x01ff_0280, 0x0102_0304, 0, 0, 0, 0]);
    assert_eq!(got[..6], [0x0403_ff2c, 0x0403_ff7f, 0x0403_ff2c, 0x0403_ffff, u32::MAX, 255]);
    assert_eq!(got[6], (-128 * 4 + 2 * 3 - 2 + 1) as u32);
    assert_eq!(got[7], 128 * 4 + 2 * 3 + 255 * 2 + 1);
}

#[test]
fn vectors() {
    let body = "let v = vec3(f32(m.a[0]), f32(m.a[1]), f32(m.a[2])); let w = vec3(2.0, 3.0, 4.0); \
                r[0] = u32(dot(v, w)); let c = cross(v, w); r[1] = u32(i32(c.x * 100.0 + c.y * 10.0 + c.z)); \
                r[2] = u32(length(vec2(3.0, 4.0) * v.x)); r[3] = u32(distance(v, w) * distance(v, w) + 0.5); \
                let q = v.zyx * 2.0; r[4] = u32(q.x * 100.0 + q.y * 10.0 + q.z); \
                r[5] = u32(all(v < w)) + 2u * u32(any(v > w)) + 4u * u32(all(v == v)); \
                let s = select(v, w, vec3(true, false, true)); r[6] = u32(s.x * 100.0 + s.y * 10.0 + s.z); \
                r[7] = dot(vec2(m.a[0], m.a[1]), vec2(5u, 7u));";
    let got = evaluate(body, [1, 2, 3, 0, 0, 0, 0, 0]);
    assert_eq!(got[0], 20);
    assert_eq!(got[1] as i32, -100 + 20 - 1);
    assert_eq!(got[2..], [5, 3, 642, 5, 224, 19]);
}

#[test]
fn geometry() {
    assert_eq!(float("normalize(vec2(a, b)).x", &[3.0, 4.0]), 0.6);
    assert_eq!(float("reflect(vec2(a, b), vec2(0.0, 1.0)).y", &[1.0, -2.0]), 2.0);
    assert_eq!(float("refract(vec2(a, b), vec2(0.0, 1.0), c).y", &[0.0, -1.0, 0.5]), -1.0);
    assert_eq!(float("refract(vec2(a, b), vec2(0.0, 1.0), c).x", &[1.0, -0.01, 2.0]), 0.0);
    assert_eq!(float("faceForward(vec2(a, b), vec2(1.0, 0.0), vec2(c, 0.0)).x", &[1.0, 0.0, 1.0]), -1.0);
    assert_eq!(float("mix(vec2(a, b), vec2(b, a), c).x", &[1.0, 3.0, 0.5]), 2.0);
    assert_eq!(float("(vec2(a, b) / c).y", &[1.0, 3.0, 2.0]), 1.5);
    assert_eq!(float("(c - vec2(a, b)).y", &[1.0, 3.0, 2.0]), -1.0);
}

#[test]
fn matrices() {
    let m = "mat2x3(a, b, c, 4.0, 5.0, 6.0)";
    let value = |expression: &str| float(expression, &[1.0, 2.0, 3.0]);
    assert_eq!(value(&format!("({m} * vec2(10.0, 1.0)).z")), 36.0);
    assert_eq!(value(&format!("(vec3(1.0, 10.0, 100.0) * {m}).y")), 654.0);
    assert_eq!(value(&format!("({m} * mat2x2(1.0, 0.0, 10.0, 1.0))[1].y")), 25.0);
    assert_eq!(value(&format!("transpose({m})[2].y")), 6.0);
    assert_eq!(value(&format!("({m} * 2.0 + {m} - {m})[1].x")), 8.0);
    assert_eq!(value("determinant(mat2x2(a, b, c, 4.0))"), -2.0);
    assert_eq!(value("determinant(mat3x3(a, b, c, 0.0, 1.0, 4.0, 5.0, 6.0, 0.0))"), 1.0);
    assert_eq!(
        value(
            "determinant(mat4x4(a, 0.0, 0.0, 0.0, 0.0, b, 0.0, 0.0, 0.0, 0.0, c, 0.0, 0.0, 0.0, 0.0, 4.0))"
        ),
        24.0
    );
}

#[test]
fn functions_of_vectors_go_by_component() {
    let body = "let v = vec2(f32(m.a[0]), f32(m.a[1])); let u = vec2(m.a[0], m.a[1]); let i = vec2<i32>(u); \
                let f = frexp(v); r[0] = u32(f.fract.y * 100.0) + 1000u * u32(f.exp.y); \
                let g = modf(v * 0.3); r[1] = u32(g.fract.x * 10.0) + 100u * u32(g.whole.y); \
                r[2] = u32(ldexp(v, i).y); r[3] = extractBits(u, 1u, 2u).y + 10u * insertBits(u, vec2(7u), 1u, 2u).x; \
                r[4] = u32(clamp(v, vec2(4.0), vec2(6.0)).y + mix(v, v * 2.0, vec2(0.0, 1.0)).y); \
                r[5] = max(u, vec2(5u)).x + min(i, vec2(9)).y_as; r[6] = u32(pow(v, vec2(2.0)).y + step(v, vec2(7.0)).x);";
    let body = body.replace("min(i, vec2(9)).y_as", "u32(min(i, vec2(9)).y)");
    let got = evaluate(&body, [4, 10, 0, 0, 0, 0, 0, 0]);
    assert_eq!(got[..7], [62 + 4000, 2 + 300, 10_240, 1 + 60, 26, 14, 101]);
}

#[test]
fn matrices_are_also_scalars_in_a_row() {
    let m = "mat2x2(a, b, c, 4.0)";
    let value = |expression: &str| float(expression, &[1.0, 2.0, 3.0]);
    assert_eq!(value(&format!("(2.0 * {m})[0].y")), 4.0);
    assert_eq!(value("mat2x2<f32>()[1].y + mat2x2(vec2(a, b), vec2(b, c))[1].y"), 3.0);
    let body = "var m2 = mat2x2(1.0, 2.0, 3.0, f32(m.a[0])); m2[m.a[1]] = vec2(7.0, 8.0); m2[0][m.a[1]] *= 2.0; \
                let p = &m2[m.a[1]]; (*p).x += 1.0; r[0] = u32(m2[0].y); r[1] = u32(m2[1].x); r[2] = u32(m2[1].y);";
    assert_eq!(evaluate(body, [9, 1, 0, 0, 0, 0, 0, 0])[..3], [4, 8, 8]);
}

#[test]
fn constants_are_folded_to_what_would_be_computed() {
    let body = "const A = array<f32, 4>(2.5, -2.5, 3.5, 0.3); const N = i32(-7) / 2; const M = i32(-7) % 3; \
                const V = vec3(1u, 2u, 3u).zyx * 2u; const S = 1u << 5u; const B = vec2(true, false); \
                r[0] = bitcast<u32>(round(A[0]) + round(A[1])); r[1] = u32(N); r[2] = u32(M); r[3] = V.x + V[2]; \
                r[4] = S + u32(any(B)) + 2u * u32(all(B)); r[5] = bitcast<u32>(A[m.a[0]] * 2.0); r[6] = u32(min(3.9, 4.0));";
    let got = evaluate(body, [2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(got[..7], [0, -3i32 as u32, -1i32 as u32, 8, 33, 7f32.to_bits(), 3]);
}

#[test]
fn functions_of_constants_are_computed_wherever_naga_leaves_them() {
    const BEGIN: &str = "fn on_message(m: In) -> Out { var r: array<u32, 8>;";
    for (expression, wanted) in [
        ("bitcast<u32>(1.5)", 1.5f32.to_bits()),
        ("pack4x8snorm(vec4(1.0))", 0x7f7f_7f7f),
        ("pack4xU8(vec4(1u, 2u, 3u, 4u))", 0x0403_0201),
        ("u32(frexp(12.0).exp)", 4),
        ("u32(modf(12.5).whole)", 12),
        ("u32(ldexp(1.5, 3))", 12),
        ("u32(determinant(mat2x2(1f, 2f, 3f, 8f)))", 2),
        ("u32(transpose(mat2x3(1f, 2f, 3f, 4f, 5f, 6f))[1].y)", 5),
        ("u32(quantizeToF16(2049.0))", 2048),
        ("extractBits(0xf0u, 4u, 2u)", 3),
        ("insertBits(0u, 3u, 4u, 2u)", 0x30),
        ("unpack4xU8(0x01020304u).x", 4),
        ("u32(unpack2x16unorm(0xffffffffu).y)", 1),
        ("u32(length(vec2(3.0, 4.0)))", 5),
        ("u32(refract(vec2(0.0, -4.0), vec2(0.0, 0.0), 1.0).y * -1.0)", 4),
        ("u32(normalize(vec2(0.0, 2.0)).y)", 1),
        ("u32(cross(vec3(1.0, 0.0, 0.0), vec3(0.0, 1.0, 0.0)).z)", 1),
        ("dot4U8Packed(0x01010101u, 0x01020304u)", 10),
        ("u32((mat2x2(1.0, 2.0, 3.0, 4.0) * vec2(1.0, 1.0)).y)", 6),
        ("firstLeadingBit(0x100u) + countOneBits(7u)", 11),
        ("u32(mix(1f, 3f, 0.5f)) + u32(smoothstep(0f, 1f, 1f))", 3),
        ("u32(select(1.0, 2.0, true)) + u32(any(vec2(true, false)))", 3),
    ] {
        let run = |text: &str| Bench::new(&source(text)).map(|mut bench| bench.words(&[0; 8])[0]);
        for text in [
            format!("{BEGIN} var x = {expression}; r[0] = x; return Out(r); }}"),
            format!("{BEGIN} let x = {expression}; r[0] = x; return Out(r); }}"),
            format!(
                "{BEGIN} for (var i = 0; i < 2; i++) {{ var x = {expression}; r[0] = x; }} return Out(r); }}"
            ),
            format!("var<private> p: u32 = {expression}; {BEGIN} r[0] = p; return Out(r); }}"),
            format!("const c = {expression}; {BEGIN} r[0] = c; return Out(r); }}"),
        ] {
            match run(&text) {
                Ok(got) => assert_eq!(got, wanted, "{text}"),
                // naga does not fold every function, and says so; in a function it then leaves them to us.
                Err(error) => assert!(error.to_string().contains("Not implemented as constant"), "{error}"),
            }
        }
    }
}
