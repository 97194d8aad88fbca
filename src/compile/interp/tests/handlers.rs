//! Handlers as people write them, each against a twin in Rust, bit for bit.

use crate::compile::tests::*;
use crate::compile::{HandlerSource, Outcome, TableDecl, TableView};
use crate::message::{Field, FieldKind, Layout, Scalar};

/// A small generator, so that runs repeat.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Between -1 and 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 8) as f32 / 8_388_608.0 - 1.0
    }
}

const SAMPLE: &Layout =
    &Layout { name: "Sample", size: 4, align: 4, fields: &[scalar("value", 0, Scalar::F32)] };
const SCORE: &Layout =
    &Layout { name: "Score", size: 4, align: 4, fields: &[scalar("value", 0, Scalar::F32)] };

fn float_of(bench: &Bench) -> f32 {
    f32::from_bits(words(&bench.reply)[0])
}

#[test]
fn sum() {
    const REQUEST: &Layout = &Layout {
        name: "ComputeRequest",
        size: 36,
        align: 4,
        fields: &[scalar("len", 0, Scalar::U32), array("values", 4, F32, 8)],
    };
    const RESPONSE: &Layout =
        &Layout { name: "ComputeResponse", size: 4, align: 4, fields: &[scalar("result", 0, Scalar::F32)] };
    let text = "
        fn on_message(m: ComputeRequest) -> ComputeResponse {
            var sum = 0.0;
            for (var i = 0u; i < min(m.len, 8u); i++) { sum += m.values[i]; }
            return ComputeResponse(sum);
        }";
    let source = HandlerSource { input: REQUEST, output: RESPONSE, loop_budget: 8, ..source(text) };
    let mut bench = Bench::new(&source).unwrap();
    let mut random = Random(7);
    for len in 0..20u32 {
        let values: [f32; 8] = std::array::from_fn(|_| random.float());
        let mut message = vec![len];
        message.extend(values.map(f32::to_bits));
        assert_eq!(bench.run(bytemuck::cast_slice(&message)), Outcome::Done);
        let twin = values[..len.min(8) as usize].iter().fold(0.0, |sum, v| sum + v);
        assert_eq!(float_of(&bench), twin);
    }
}

#[test]
fn z_score_of_a_stream() {
    const RUNNING: &Layout = &Layout {
        name: "Running",
        size: 12,
        align: 4,
        fields: &[scalar("n", 0, Scalar::U32), scalar("mean", 4, Scalar::F32), scalar("m2", 8, Scalar::F32)],
    };
    let text = "
        fn deviation(s: Running) -> f32 { return sqrt(s.m2 / f32(max(s.n, 2u) - 1u)); }
        fn on_message(m: Sample, s: ptr<function, Running>) -> Score {
            var score = 0.0;
            if (*s).n >= 2u {
                let d = deviation(*s);
                if d > 0.0 { score = (m.value - (*s).mean) / d; }
            }
            (*s).n += 1u;
            let delta = m.value - (*s).mean;
            (*s).mean += delta / f32((*s).n);
            (*s).m2 += delta * (m.value - (*s).mean);
            return Score(score);
        }";
    let source = HandlerSource { input: SAMPLE, output: SCORE, state: Some(RUNNING), ..source(text) };
    let mut bench = Bench::new(&source).unwrap();
    let (mut n, mut mean, mut m2) = (0u32, 0.0f32, 0.0f32);
    let mut random = Random(99);
    for _ in 0..500 {
        let value = random.float() * 10.0 + 3.0;
        assert_eq!(bench.run(&value.to_ne_bytes()), Outcome::Done);
        let deviation = (m2 / (n.max(2) - 1) as f32).sqrt();
        let twin = if n >= 2 && deviation > 0.0 { (value - mean) / deviation } else { 0.0 };
        n += 1;
        let delta = value - mean;
        mean += delta / n as f32;
        m2 += delta * (value - mean);
        assert_eq!(float_of(&bench).to_bits(), twin.to_bits());
    }
    assert_eq!(words(&bench.state), [n, mean.to_bits(), m2.to_bits()]);
}

#[test]
fn fraud_detector() {
    const PAYMENT: &Layout = &Layout {
        name: "Payment",
        size: 16,
        align: 4,
        fields: &[
            scalar("account", 0, Scalar::U32),
            scalar("amount", 4, Scalar::F32),
            scalar("country", 8, Scalar::U32),
            scalar("time", 12, Scalar::U32),
        ],
    };
    const HISTORY: &Layout = &Layout {
        name: "History",
        size: 44,
        align: 4,
        fields: &[
            array("times", 0, U32, 8),
            scalar("next", 32, Scalar::U32),
            scalar("average", 36, Scalar::F32),
            scalar("country", 40, Scalar::U32),
        ],
    };
    let text = "
        const WINDOW = 60u;
        @group(1) @binding(0) var<storage, read> risk: array<f32>;
        @group(1) @binding(1) var<storage, read_write> flagged: array<atomic<u32>>;

        fn recent(h: ptr<function, History>, now: u32) -> u32 {
            var n = 0u;
            for (var i = 0u; i < 8u; i++) {
                if (*h).times[i] != 0u && now - (*h).times[i] < WINDOW { n++; }
            }
            return n;
        }

        fn on_message(p: Payment, h: ptr<function, History>) {
            var score = risk[p.country];
            switch recent(h, p.time) {
                case 0u, 1u, 2u: {}
                case 3u, 4u: { score += 0.25; }
                default: { score += 0.5; }
            }
            if (*h).average > 0.0 && p.amount > 4.0 * (*h).average { score += 0.4; }
            if (*h).country != 0u && (*h).country != p.country { score += 0.2; }
            (*h).times[(*h).next % 8u] = p.time;
            (*h).next += 1u;
            (*h).average = mix((*h).average, p.amount, 0.125);
            (*h).country = p.country;
            if score >= 0.6 {
                atomicAdd(&flagged[p.country], 1u);
                emit_alerts(Alert(p.account, score));
            }
        }";
    let tables = [
        TableDecl { name: "risk".into(), element_size: 4, element_name: "f32", len: 5 },
        table("flagged", 5),
    ];
    let outputs = [output("alerts", 1)];
    let source = HandlerSource {
        input: PAYMENT,
        output: UNIT,
        state: Some(HISTORY),
        outputs: &outputs,
        tables: &tables,
        loop_budget: 8,
        instance_at: None,
        ..source(text)
    };
    let mut bench = Bench::new(&source).unwrap();
    assert!(!bench.program.writes_tables);
    let mut risk = [0.0f32, 0.05, 0.1, 0.3, 0.15];
    let mut flagged = [0u32; 5];
    let views = [
        TableView { data: risk.as_mut_ptr().cast(), bytes: 20 },
        TableView { data: flagged.as_mut_ptr().cast(), bytes: 20 },
    ];
    let slot = bench.program.emits[0].clone();
    let (mut times, mut next, mut average, mut country) = ([0u32; 8], 0usize, 0.0f32, 0u32);
    let (mut twin_flagged, mut alerts, mut time) = ([0u32; 5], 0, 1000u32);
    let mut random = Random(3);
    for i in 0..400u32 {
        time += random.next() % 40;
        let amount = random.float().abs() * if random.next().is_multiple_of(9) { 900.0 } else { 60.0 };
        let here = if random.next().is_multiple_of(4) { random.next() % 5 } else { 1 };
        let message = [i, amount.to_bits(), here, time];
        assert_eq!(bench.run_with(bytemuck::cast_slice(&message), &views), Outcome::Done);

        let mut score = risk[here as usize];
        score += match times.iter().filter(|t| **t != 0 && time - **t < 60).count() {
            0..=2 => 0.0,
            3 | 4 => 0.25,
            _ => 0.5,
        };
        if average > 0.0 && amount > 4.0 * average {
            score += 0.4;
        }
        if country != 0 && country != here {
            score += 0.2;
        }
        times[next % 8] = time;
        next += 1;
        average = average * (1.0 - 0.125) + amount * 0.125;
        country = here;
        let emitted = words(&bench.privates[slot.count_offset as usize..])[0];
        assert_eq!(emitted, u32::from(score >= 0.6));
        if score >= 0.6 {
            twin_flagged[here as usize] += 1;
            alerts += 1;
            let alert = words(&bench.privates[slot.items_offset as usize..])[..2].to_vec();
            assert_eq!(alert, [i, score.to_bits()]);
        }
    }
    assert_eq!(flagged, twin_flagged);
    assert!((20..380).contains(&alerts), "{alerts} alerts: the test should see both cases");
}

#[test]
fn fir_filter() {
    let text = "
        struct Line { taps: array<vec4<f32>, 2>, past: array<f32, 8>, at: u32 }
        const H = array<f32, 8>(0.01, 0.05, 0.12, 0.32, 0.32, 0.12, 0.05, 0.01);
        fn on_message(m: Sample, line: ptr<function, Line>) -> Score {
            (*line).past[(*line).at] = m.value;
            var y = 0.0;
            for (var k = 0u; k < 8u; k++) { y += H[k] * (*line).past[((*line).at + 8u - k) % 8u]; }
            (*line).at = ((*line).at + 1u) % 8u;
            (*line).taps[0].x = y;
            return Score(y);
        }";
    let mut bench = Bench::new(&HandlerSource { input: SAMPLE, output: SCORE, ..source(text) }).unwrap();
    assert_eq!(bench.program.state_size(), 80);
    let taps = [0.01f32, 0.05, 0.12, 0.32, 0.32, 0.12, 0.05, 0.01];
    let mut past = std::collections::VecDeque::from([0.0f32; 8]);
    let mut random = Random(11);
    for _ in 0..200 {
        let value = random.float();
        assert_eq!(bench.run(&value.to_ne_bytes()), Outcome::Done);
        past.push_front(value);
        past.pop_back();
        let twin = taps.iter().zip(&past).fold(0.0, |y, (h, x)| y + h * x);
        assert_eq!(float_of(&bench).to_bits(), twin.to_bits());
    }
}

#[test]
fn k_means_step() {
    const POINT: &Layout = &Layout {
        name: "Point",
        size: 16,
        align: 16,
        fields: &[
            Field { name: "at", offset: 0, kind: FieldKind::Vector(Scalar::F32, 3) },
            scalar("weight", 12, Scalar::F32),
        ],
    };
    const NEAREST: &Layout = &Layout {
        name: "Nearest",
        size: 8,
        align: 4,
        fields: &[scalar("cluster", 0, Scalar::U32), scalar("distance", 4, Scalar::F32)],
    };
    let text = "
        struct Cluster { centre: vec3<f32>, weight: f32 }
        @group(1) @binding(0) var<storage, read_write> clusters: array<Cluster>;
        fn on_message(p: Point) -> Nearest {
            var best = Nearest(0u, 1e30);
            for (var i = 0u; i < arrayLength(&clusters); i++) {
                let d = p.at - clusters[i].centre;
                let squared = dot(d, d);
                if squared < best.distance { best = Nearest(i, squared); }
            }
            let c = &clusters[best.cluster];
            (*c).weight += p.weight;
            (*c).centre = mix((*c).centre, p.at, p.weight / (*c).weight);
            best.distance = sqrt(best.distance);
            return best;
        }";
    let tables = [TableDecl { name: "clusters".into(), element_size: 16, element_name: "Cluster", len: 4 }];
    let source = HandlerSource { input: POINT, output: NEAREST, tables: &tables, ..source(text) };
    let mut bench = Bench::new(&source).unwrap();
    assert!(bench.program.writes_tables && !bench.program.has_state());
    let mut random = Random(5);
    let mut clusters: [[f32; 4]; 4] =
        std::array::from_fn(|_| [random.float(), random.float(), random.float(), 1.0]);
    let mut twin = clusters;
    let views = [TableView { data: clusters.as_mut_ptr().cast(), bytes: 64 }];
    for _ in 0..300 {
        let point = [random.float(), random.float(), random.float(), random.float().abs() + 0.1];
        assert_eq!(bench.run_with(bytemuck::cast_slice(&point), &views), Outcome::Done);
        let (mut best, mut distance) = (0, 1e30f32);
        for (i, cluster) in twin.iter().enumerate() {
            let d: [f32; 3] = std::array::from_fn(|k| point[k] - cluster[k]);
            let squared = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            if squared < distance {
                (best, distance) = (i, squared);
            }
        }
        let cluster = &mut twin[best];
        cluster[3] += point[3];
        let t = point[3] / cluster[3];
        (0..3).for_each(|k| cluster[k] = cluster[k] * (1.0 - t) + point[k] * t);
        assert_eq!(words(&bench.reply), [best as u32, distance.sqrt().to_bits()]);
    }
    assert_eq!(clusters, twin);
}

#[test]
fn monte_carlo_with_xorshift() {
    const TRIAL: &Layout = &Layout {
        name: "Trial",
        size: 8,
        align: 4,
        fields: &[scalar("seed", 0, Scalar::U32), scalar("points", 4, Scalar::U32)],
    };
    const HITS: &Layout =
        &Layout { name: "Hits", size: 4, align: 4, fields: &[scalar("inside", 0, Scalar::U32)] };
    let text = "
        var<private> seed: u32;
        fn next() -> u32 {
            seed ^= seed << 13u;
            seed ^= seed >> 17u;
            seed ^= seed << 5u;
            return seed;
        }
        fn unit() -> f32 { return f32(next() >> 8u) / 8388608.0 - 1.0; }
        fn on_message(m: Trial) -> Hits {
            seed = m.seed;
            var inside = 0u;
            for (var i = 0u; i < m.points; i++) {
                let p = vec2(unit(), unit());
                inside += select(0u, 1u, dot(p, p) <= 1.0);
            }
            return Hits(inside);
        }";
    let mut bench = Bench::new(&HandlerSource { input: TRIAL, output: HITS, ..source(text) }).unwrap();
    for seed in 1..6u32 {
        let points = 2000;
        assert_eq!(bench.run(bytemuck::cast_slice(&[seed, points])), Outcome::Done);
        let mut random = Random(seed);
        let inside = (0..points).filter(|_| {
            let (x, y) = (random.float(), random.float());
            x * x + y * y <= 1.0
        });
        let twin = inside.count() as u32;
        assert_eq!(words(&bench.reply)[0], twin);
    }
}

#[test]
fn newton_on_a_nested_message() {
    const COEFFICIENTS: &Layout =
        &Layout { name: "Coefficients", size: 16, align: 4, fields: &[array("c", 0, F32, 4)] };
    const PROBLEM: &Layout = &Layout {
        name: "Problem",
        size: 36,
        align: 4,
        fields: &[
            Field {
                name: "pair",
                offset: 0,
                kind: FieldKind::Array { element: &FieldKind::Struct(COEFFICIENTS), len: 2, stride: 16 },
            },
            scalar("start", 32, Scalar::F32),
        ],
    };
    let text = "
        fn at(p: Coefficients, x: f32) -> f32 {
            var y = 0.0;
            for (var i = 3; i >= 0; i--) { y = y * x + p.c[i]; }
            return y;
        }
        fn on_message(m: Problem) -> Score {
            var x = m.start;
            for (var step = 0; step < 30; step++) {
                let slope = at(m.pair[1], x);
                if abs(slope) < 1e-12 { break; }
                let next = x - at(m.pair[0], x) / slope;
                if next == x { return Score(x); }
                x = next;
            }
            return Score(x);
        }";
    let mut bench = Bench::new(&HandlerSource { input: PROBLEM, output: SCORE, ..source(text) }).unwrap();
    // x^3 - 2 and its slope.
    let message = [-2.0f32, 0.0, 0.0, 1.0, 0.0, 0.0, 3.0, 0.0, 1.5];
    assert_eq!(bench.run(bytemuck::cast_slice(&message)), Outcome::Done);
    let at = |p: &[f32], x: f32| p.iter().rev().fold(0.0, |y, c| y * x + c);
    let mut x = message[8];
    for _ in 0..30 {
        let slope = at(&message[4..8], x);
        let next = x - at(&message[..4], x) / slope;
        if next == x {
            break;
        }
        x = next;
    }
    assert_eq!(float_of(&bench).to_bits(), x.to_bits());
    assert!((x - 2f32.cbrt()).abs() < 1e-6);
}
