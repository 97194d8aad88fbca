struct In { a: u32, b: u32 }
struct Out { a: i32 }
const Z = vec2<i32>();
const Y = vec4<i32>(1, 2, Z);
const W = vec4<i32>(Z, vec2<i32>(3));
var<private> p: vec4<i32> = vec4<i32>(Z, Z);
fn on_message(m: In) -> Out {
    var t = vec3<i32>(4i, Z);
    p += vec4<i32>(vec3<i32>(), i32(m.a));
    return Out(Y[m.a % 4u] + W[m.b % 4u] + t[m.a % 3u] + p.w);
}
