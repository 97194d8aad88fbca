fn on_message(m: In) -> Out {
    var r: array<u32, 8>;
    let f = bitcast<vec4<f32>>(vec4(m.a[0], m.a[1], m.a[2], m.a[3]));
    let i = bitcast<vec4<i32>>(vec4(m.a[4], m.a[5], m.a[6], m.a[7]));
    let u = vec4(m.a[4], m.a[5], m.a[6], m.a[7]);
    let q = i / i.yzwx + i % i.wzyx + (i << u) + (i >> u.yxwz) + i32(f.x) * -i;
    let p = u / u.yzwx + u % u.wzyx + u32(f.y) + dot(u, u.wzyx) + (u >> u.yxwz);
    let g = round(f) + fract(f.yzwx) + trunc(f * 1e10) + sqrt(f.wzyx) + f % f.yxwz + clamp(f, f.yzwx, f.zwxy);
    r[0] = u32(g.x) ^ u32(dot(f, f.yzwx)) ^ pack4xI8Clamp(q) ^ pack4xU8(p);
    r[1] = insertBits(p.x, p.y, p.z, p.w) ^ extractBits(p.y, p.w, p.x) ^ u32(extractBits(q.y, p.w, p.x));
    r[2] = u32(frexp(f.z).exp) ^ u32(modf(g).whole.y) ^ u32(ldexp(f.x, q.x)) ^ dot4U8Packed(p.x, p.y);
    r[3] = countOneBits(p.x) ^ firstLeadingBit(p.y) ^ u32(firstLeadingBit(q.z)) ^ reverseBits(p.w);
    let t = mat3x3(f.xyz, g.yzw, f.wxy);
    r[4] = u32(determinant(t) + determinant(transpose(t) * t) + (t * f.xyz).y + (g.xyz * t).z);
    r[5] = u32(select(p, bitcast<vec4<u32>>(q), f < g).z) ^ pack2x16float(g.xy) ^ u32(all(f == f));
    let h = sin(f) + cos(f) * tan(f) + asin(f) + acos(f) * atan(f) + sinh(f) + cosh(f) * tanh(f);
    let l = exp(f) + exp2(f) + log(f) * log2(f) + pow(f, g) + atan2(f, g) + asinh(f) + acosh(f) + atanh(f);
    r[6] = u32(h.x + l.y + length(f.xyz) + distance(f, g) + normalize(g).z + quantizeToF16(f.w));
    r[7] = u32(cross(f.xyz, g.xyz).x + reflect(f.xy, g.xy).y + refract(f, g, f.x).w + smoothstep(f.x, g.x, f.y));
    return Out(r);
}
