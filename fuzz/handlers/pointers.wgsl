struct Pair { x: u32, v: vec3<f32>, list: array<vec2<i32>, 3> }
struct Nest { pairs: array<Pair, 2>, on: bool, m: mat2x4<f32> }
var<private> nest: Nest;
var<private> start = vec3(1u, 2u, 3u);
fn add(p: ptr<function, u32>, n: u32) -> u32 {
    *p += n;
    return *p;
}
fn put(p: ptr<private, Nest>, i: u32, j: i32) {
    let q = &(*p).pairs[i];
    (*q).x = i + 5u;
    (*q).v[j] = f32(j);
    (*q).list[i][j] = j * 3;
    (*p).m[j][i] += 1.0;
    (*p).on = !(*p).on;
}
fn swap(a: ptr<function, vec4<i32>>, b: ptr<function, vec4<i32>>, lane: i32) {
    let old = (*a)[lane];
    (*a)[lane] = (*b)[3 - lane];
    (*b)[3 - lane] = old;
}
fn on_message(m: In, s: ptr<function, State>) -> Out {
    var r = m.a;
    let i = m.a[0];
    let j = bitcast<i32>(m.a[1]);
    r[0] = add(&r[i], 2u) + add(&r[j], start[i]);
    put(&nest, i, j);
    put(&nest, m.a[2], j - 1);
    let whole = nest;
    r[2] = whole.pairs[i].x + u32(whole.pairs[j].v[i]) + u32(whole.on);
    var left = vec4<i32>(j);
    var right = vec4<i32>(vec2(j, 1), s.kept[i], s.kept[j]);
    for (var n = 0; n < 6; n++) { swap(&left, &right, j + n); }
    s.kept[m.a[3]] = left[i] + right[j] + whole.pairs[1].list[i].y;
    let e = &start;
    (*e)[j] = 40u;
    r[5] = start.y + u32(whole.m[i][j]);
    return Out(r);
}
