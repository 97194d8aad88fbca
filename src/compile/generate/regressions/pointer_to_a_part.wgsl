struct Point { a: i32 }
struct In { a: u32, b: u32, c: Point }
struct Out { a: u32, b: i32, c: array<i32, 4>, d: u32 }
struct State { a: i32, b: vec4<u32>, c: i32 }
var<private> kept: array<vec2<u32>, 3>;
fn inner(p: ptr<private, vec2<u32>>, q: ptr<function, vec4<u32>>) -> u32 {
    (*p).y += 3u + (*q).x;
    *q = (*q).yzwx + 1u;
    return (*p).y;
}
fn helper0(x: u32, p: ptr<function, vec4<u32>>) -> u32 {
    (*p).y = x;
    return inner(&kept[x % 3u], p) + inner(&kept[x % 2u], p);
}
fn on_message(m: In, s: ptr<function, State>) -> Out {
    (*s).b.x += m.a;
    return Out(helper0(m.b, &(*s).b), 0i, array<i32, 4>(), kept[1].y);
}
