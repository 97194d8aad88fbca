struct Point { a: vec3<f32>, b: u32 }
struct In { a: u32, b: i32, c: Point }
struct Out { a: u32, b: i32, c: vec2<f32> }
struct State { a: u32, b: mat2x3<f32> }
struct Alert { a: f32 }
@group(1) @binding(0) var<storage, read_write> t0: array<atomic<u32>>;
@group(1) @binding(2) var<storage, read> t2: array<Point, 2>;
fn on_message(m: In, s: ptr<function, State>) -> Out {
    (*s).a += atomicAdd(&t0[m.b], m.a);
    (*s).b[m.a] = t2[m.b].a * m.c.a;
    for (var v0 = 0u; v0 < (m.a & 7u); v0++) {
        emit_alerts(Alert(t2[v0].a.y));
    }
    return Out((*s).a, m.b / i32(m.a), m.c.a.zx);
}
