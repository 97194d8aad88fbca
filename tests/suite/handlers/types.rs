//! Every kind of field goes in and comes out as it is.

use super::{Random, started};
use crate::common::{LONG, runtime};
use ringwork::{RingKernel, Vec2, Vec3, Vec4, message};

message! {
    /// A point with a weight.
    pub struct Point { pub at: Vec3, pub weight: f32 }

    /// Four points and what belongs to them.
    pub struct Cloud {
        pub count: u32,
        _pad: [u32; 3],
        pub points: [Point; 4],
        pub low: Vec2,
        pub high: Vec2<u32>,
        pub color: Vec4<i32>,
        pub tags: [u32; 6],
        pub grid: [[i32; 2]; 3],
    }

    /// Vectors of every kind.
    pub struct Vectors {
        pub f2: Vec2,
        pub i2: Vec2<i32>,
        pub u2: Vec2<u32>,
        _pad: [u32; 2],
        pub f3: Vec3,
        pub a: u32,
        pub i3: Vec3<i32>,
        pub b: u32,
        pub u3: Vec3<u32>,
        pub c: u32,
        pub f4: Vec4,
        pub i4: Vec4<i32>,
        pub u4: Vec4<u32>,
    }
}

fn cloud(random: &mut Random) -> Cloud {
    let mut float = || random.float();
    let points = [(); 4].map(|()| Point { at: Vec3::new(float(), float(), float()), weight: float() });
    Cloud {
        count: random.below(5),
        points,
        low: Vec2::new(random.float(), random.float()),
        high: Vec2::new(random.next(), random.next()),
        color: Vec4::from([random.next() as i32, -1, i32::MIN, 7]),
        tags: [(); 6].map(|()| random.next()),
        grid: [(); 3].map(|()| [random.next() as i32, -(random.below(99) as i32)]),
        ..Cloud::default()
    }
}

#[test]
fn nested_structs_and_arrays_pass_unchanged() {
    let runtime = runtime();
    let kernel = RingKernel::<Cloud, Cloud>::wgsl("echo", "fn on_message(m: Cloud) -> Cloud { return m; }");
    let kernel = started(&runtime, kernel);
    let mut random = Random(1);
    for _ in 0..50 {
        let sent = cloud(&mut random);
        assert_eq!(kernel.ask(sent, LONG).unwrap(), sent);
    }
}

#[test]
fn nested_fields_are_read_and_written() {
    let text = "fn on_message(m: Cloud, s: ptr<function, Cloud>) -> Cloud {
        var r = m;
        for (var i = 0u; i < min(m.count, 4u); i++) {
            r.points[i].at = m.points[i].at.zyx * m.points[i].weight;
            (*s).points[i].weight += m.points[i].weight;
        }
        (*s).count += 1u;
        r.low = vec2(m.low.y, m.low.x) - m.points[3].at.xy;
        r.high = m.high.yx + vec2(1u);
        r.color.z = m.color.x ^ m.color.w;
        r.tags[5] = m.tags[0] + m.tags[1];
        r.grid[2][1] = m.grid[0][0] * m.grid[1][1];
        r.grid[m.count % 3u] = m.grid[1];
        r.points[0].weight = (*s).points[0].weight;
        r.count = (*s).count;
        return r;
    }";
    let runtime = runtime();
    let kernel = started(&runtime, RingKernel::<Cloud, Cloud>::wgsl("cloud", text));
    let (mut random, mut state) = (Random(77), Cloud::default());
    for _ in 0..100 {
        let m = cloud(&mut random);
        let mut r = m;
        for i in 0..m.count.min(4) as usize {
            let Point { at: Vec3 { x, y, z }, weight } = m.points[i];
            r.points[i].at = Vec3::new(z * weight, y * weight, x * weight);
            state.points[i].weight += weight;
        }
        state.count += 1;
        r.low = Vec2::new(m.low.y - m.points[3].at.x, m.low.x - m.points[3].at.y);
        r.high = Vec2::new(m.high.y.wrapping_add(1), m.high.x.wrapping_add(1));
        r.color.z = m.color.x ^ m.color.w;
        r.tags[5] = m.tags[0].wrapping_add(m.tags[1]);
        r.grid[2][1] = m.grid[0][0].wrapping_mul(m.grid[1][1]);
        r.grid[m.count as usize % 3] = m.grid[1];
        r.points[0].weight = state.points[0].weight;
        r.count = state.count;
        assert_eq!(kernel.ask(m, LONG).unwrap(), r);
        assert_eq!(kernel.read_state::<Cloud>().unwrap(), state);
    }
}

#[test]
fn vectors_of_every_kind() {
    let text = "fn on_message(m: Vectors) -> Vectors {
        var r: Vectors;
        r.f2 = m.f2.yx * 2.0;
        r.i2 = -m.i2;
        r.u2 = m.u2 ^ vec2(5u);
        r.f3 = m.f3.zxy;
        r.a = m.a + 1u;
        r.i3 = m.i3.yzx + vec3(i32(m.a));
        r.b = u32(dot(m.i3, vec3(1, 1, 1)));
        r.u3 = max(m.u3, vec3(10u));
        r.c = m.c;
        r.f4 = sqrt(abs(m.f4));
        r.i4 = select(m.i4, vec4(0), m.i4 < vec4(0));
        r.u4 = m.u4.wzyx;
        return r;
    }";
    let runtime = runtime();
    let kernel = started(&runtime, RingKernel::<Vectors, Vectors>::wgsl("vectors", text));
    let mut random = Random(5);
    for _ in 0..100 {
        let mut f = || random.float() * 8.0;
        let (f2, f3, f4) = ([f(), f()], [f(), f(), f()], [f(), f(), f(), f()]);
        let mut u = || random.next();
        let m = Vectors {
            f2: f2.into(),
            i2: [u() as i32, u() as i32].into(),
            u2: [u(), u()].into(),
            f3: f3.into(),
            a: u(),
            i3: [u() as i32, u() as i32, u() as i32].into(),
            b: u(),
            u3: [u(), u() % 20, u() % 20].into(),
            c: u(),
            f4: f4.into(),
            i4: [u() as i32, u() as i32, u() as i32, u() as i32].into(),
            u4: [u(), u(), u(), u()].into(),
            ..Vectors::default()
        };
        let a = m.a as i32;
        let wanted = Vectors {
            f2: [m.f2.y * 2.0, m.f2.x * 2.0].into(),
            i2: [m.i2.x.wrapping_neg(), m.i2.y.wrapping_neg()].into(),
            u2: [m.u2.x ^ 5, m.u2.y ^ 5].into(),
            f3: [m.f3.z, m.f3.x, m.f3.y].into(),
            a: m.a.wrapping_add(1),
            i3: [m.i3.y.wrapping_add(a), m.i3.z.wrapping_add(a), m.i3.x.wrapping_add(a)].into(),
            b: m.i3.x.wrapping_add(m.i3.y).wrapping_add(m.i3.z) as u32,
            u3: [m.u3.x.max(10), m.u3.y.max(10), m.u3.z.max(10)].into(),
            c: m.c,
            f4: f4.map(|x| x.abs().sqrt()).into(),
            i4: <[i32; 4]>::from(m.i4).map(|x| x.max(0)).into(),
            u4: [m.u4.w, m.u4.z, m.u4.y, m.u4.x].into(),
            ..Vectors::default()
        };
        assert_eq!(kernel.ask(m, LONG).unwrap(), wanted);
    }
}
