struct Cell { v: vec3<f32>, n: u32, m: mat3x2<f32> }
@group(1) @binding(0) var<storage, read_write> words: array<u32>;
@group(1) @binding(1) var<storage, read_write> counts: array<atomic<i32>>;
var<private> kept: array<Cell, 3>;
var<private> last = 7i;
fn mixed(p: ptr<function, array<vec4<f32>, 2>>, i: i32, k: u32) -> f32 {
    (*p)[i][k] = f32(i) / f32(k);
    kept[k].m[i][k] += (*p)[k][i];
    kept[i].n = u32((*p)[i].x);
    return (*p)[i][k] % 3.5;
}
fn on_message(m: In, s: ptr<function, State>) -> Out {
    var r: array<u32, 8>;
    var a = array(vec4(1.0), bitcast<vec4<f32>>(vec4(m.a[0], m.a[1], m.a[2], m.a[3])));
    let i = bitcast<i32>(m.a[4]);
    let k = m.a[5];
    for (var n = 0u; n < (k & 15u); n++) {
        last = last / (i + i32(n)) + last % i32(k);
        r[n + k] += u32(mixed(&a, i - last, k >> n));
        if bool(extractBits(k, n, n)) { continue; }
        switch i32(n) & last { case 0: { break; } case 1, 2: { s.n += 1u; } default: { s.sum *= 0.5; } }
        if n == m.a[6] { emit_alerts(Alert(n, a[n].y)); }
    }
    let x = a[1];
    let y = vec4<f32>(pow(abs(x.x), x.y), ldexp(x.z, i), atan2(x.w, x.x), exp(x.y));
    let z = kept[k].m * vec3(x.x, y.y, 1.0) + unpack2x16float(m.a[7]) + refract(x.xy, y.zw, x.z);
    words[i] = u32(i32(z.x)) ^ pack4x8snorm(y) ^ pack2x16float(z) ^ insertBits(k, m.a[6], k, m.a[7]);
    words[k] += words[u32(z.y)] << m.a[7];
    r[0] = u32(atomicMax(&counts[i], i32(y.x))) + countLeadingZeros(k) + firstLeadingBit(m.a[6]);
    s.sum = length(x) + dot(y, x) + smoothstep(x.x, y.x, x.z) + sin(x.x) + tan(y.y) + acosh(x.w);
    return Out(r);
}
