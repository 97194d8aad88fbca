struct Point { a: f32, b: u32 }
struct In { a: u32, b: vec4<f32>, c: f32, d: i32 }
struct Out { a: u32, b: i32, c: f32, d: f32, e: f32, f: Point }
struct State { a: vec2<i32>, b: f32 }
fn on_message(m: In, s: ptr<function, State>) -> Out {
    var v13: u32 = 1u;
    var v25: i32;
    loop {
        let v26 = v13;
        if v25 >= 1i {
            break;
        }
        continue;
        continuing {
            v13 = v26;
            v25++;
        }
    }
    return Out(0u, 0i, 0.0f, 0.0f, 0.0f, Point(0.0f, v13));
}
