//! How good the code is: handlers against the same thing written in Rust, with WGSL's semantics. Not tests:
//!
//! `cargo test --release --lib compile::jit::tests::measure -- --ignored --nocapture --test-threads 1`

use super::*;
use crate::compile::{Batch, Interpreter, Places, TableDecl, TableView};
use crate::wire::SlotRing;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

const SAMPLE: &Layout =
    &Layout { name: "Sample", size: 4, align: 4, fields: &[scalar("value", 0, Scalar::F32)] };
const SCORE: &Layout =
    &Layout { name: "Score", size: 4, align: 4, fields: &[scalar("value", 0, Scalar::F32)] };

/// Nanoseconds of one call: the best of several rounds, because the machine is not ours alone.
fn time(mut call: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..20 {
        let begin = Instant::now();
        (0..20_000).for_each(|_| call());
        best = best.min(begin.elapsed().as_nanos() as f64 / 20_000.0);
    }
    best
}

/// Nanoseconds of one message on an engine.
fn time_engine(
    engine: &dyn Executable,
    program: &Program,
    reply_size: u32,
    message: &[u8],
    tables: &[TableView],
) -> f64 {
    let word = AtomicU32::new(0);
    let stop = StopCheck::new(&word, None, None);
    let mut state = vec![0u8; program.state_size() as usize];
    let mut reply = vec![0u8; reply_size as usize];
    let mut privates = vec![0u8; program.privates_size as usize];
    let engine = black_box(engine);
    time(|| {
        let outcome = engine.run(&mut Frame {
            message: black_box(message),
            state: &mut state,
            reply: &mut reply,
            privates: &mut privates,
            tables,
            stop: &stop,
        });
        assert_eq!(outcome, Outcome::Done);
    })
}

/// Prints what a handler and its twin take.
fn compare(
    name: &str,
    source: &HandlerSource<'_>,
    message: &[u8],
    tables: &[TableView],
    twin: &mut dyn FnMut(),
) {
    let program = Arc::new(compile(source).unwrap());
    let mut compiling = f64::INFINITY;
    for _ in 0..20 {
        let begin = Instant::now();
        black_box(translate(&program).unwrap());
        compiling = compiling.min(begin.elapsed().as_secs_f64() * 1e3);
    }
    let code = translate(&program).unwrap();
    if let Ok(folder) = std::env::var("RINGWORK_DUMP_CODE") {
        std::fs::write(format!("{folder}/{name}.bin"), &code.code).unwrap();
    }
    let handler = load(&code).unwrap();
    let ours = time_engine(&handler, &program, source.output.size, message, tables);
    let theirs = time(twin);
    let interpreter = Interpreter::new(program.clone());
    let slow = time_engine(&interpreter, &program, source.output.size, message, tables);
    println!(
        "{name}: {ours:.1} ns, in Rust {theirs:.1} ns ({:.2}), interpreted {slow:.0} ns; \
         {} bytes in {compiling:.2} ms",
        ours / theirs,
        code.code_size()
    );
}

#[test]
#[ignore = "a measurement: run it alone, in release"]
fn compiling_what_is_nearly_too_large() {
    for (kind, statement) in [
        ("loops", "for (var i = 0u; i < m.a[0]; i++) { x = x * 3u + i; }"),
        ("branches", "if x > 77u { x -= m.a[1]; } else { y += x / 3u; }"),
        ("straight", "x = (x ^ y) * 5u + m.a[2]; y = max(y, x) - 7u;"),
        ("vectors", "v = normalize(v * 2.0 + vec4(f32(x), 1.0, 2.0, 3.0)); w += v * w.x;"),
    ] {
        let mut accepted = (0, Duration::ZERO);
        for count in (1..).map(|step| step * 250) {
            let mut text = String::from(
                "fn on_message(m: In) -> Out { var r: array<u32, 8>; var x = 1u; var y = 2u; \
                                         var v = vec4(1.0); var w = vec4(2.0);",
            );
            (0..count).for_each(|_| text += statement);
            text += "r[0] = x; r[1] = y; r[2] = u32(v.x + w.y); return Out(r); }";
            let program = program(&text);
            let begin = Instant::now();
            match translate(&program) {
                Ok(_) => accepted = (count, begin.elapsed()),
                Err(_) => break,
            }
        }
        println!("{kind}: {} statements in {:?}", accepted.0, accepted.1);
    }
}

/// Like `min` in `lower.rs`.
fn min(a: f32, b: f32) -> f32 {
    if b < a || a.is_nan() { b } else { a }
}

fn max(a: f32, b: f32) -> f32 {
    if a < b || a.is_nan() { b } else { a }
}

/// Spends one iteration of the loop budget, as a handler does.
macro_rules! spend {
    ($fuel:ident) => {
        if $fuel == 0 {
            return black_box(());
        }
        $fuel -= 1;
    };
}

#[test]
#[ignore = "a measurement: run it alone, in release"]
fn trivial() {
    let text = "fn on_message(m: Sample) -> Score { return Score(m.value + 1.0); }";
    let source = HandlerSource { input: SAMPLE, output: SCORE, ..source(text) };
    let (message, mut reply) = (1.5f32, 0.0f32);
    let mut twin = || {
        #[inline(never)]
        fn add(message: &f32, reply: &mut f32) {
            *reply = message + 1.0;
        }
        add(black_box(&message), black_box(&mut reply));
    };
    compare("trivial", &source, &message.to_ne_bytes(), &[], &mut twin);
}

#[test]
#[ignore = "a measurement: run it alone, in release"]
fn a_batch_of_trivial_messages() {
    let text = "fn on_message(m: Sample) -> Score { return Score(m.value + 1.0); }";
    let program = compile(&HandlerSource { input: SAMPLE, output: SCORE, ..source(text) }).unwrap();
    let handler = load(&translate(&program).unwrap()).unwrap();
    let handler: &dyn Executable = black_box(&handler);
    let word = AtomicU32::new(0);
    let stop = StopCheck::new(&word, None, None);
    let waiting = AtomicUsize::new(0);
    let mut privates = vec![0u8; program.privates_size as usize];
    let (mut input, mut output) = (SlotRing::new(32, 4), SlotRing::new(32, 4));
    (0..32).for_each(|token| input.push(token, 0, &1.5f32.to_ne_bytes()));
    let batch = time(|| {
        let end = handler.run_batch(&mut Batch {
            input: &input,
            places: Places::First(32),
            message_size: 4,
            state_size: 0,
            states: &mut [],
            first_instance: 0,
            instance_at: None,
            reply_size: 4,
            output: &mut output,
            privates: &mut privates,
            tables: &[],
            stop: &stop,
            stop_at: 1,
            waiting: Some(&waiting),
            last: None,
        });
        assert_eq!(end.completed, 32);
        output.clear();
    });
    println!("a batch of 32: {:.1} ns a message, slots and headers included", batch / 32.0);
}

#[test]
#[ignore = "a measurement: run it alone, in release"]
fn sum() {
    const REQUEST: &Layout = &Layout {
        name: "Request",
        size: 68,
        align: 4,
        fields: &[scalar("len", 0, Scalar::U32), array("values", 4, F32, 16)],
    };
    const STATISTICS: &Layout = &Layout {
        name: "Statistics",
        size: 16,
        align: 4,
        fields: &[
            scalar("total", 0, Scalar::F32),
            scalar("n", 4, Scalar::U32),
            scalar("low", 8, Scalar::F32),
            scalar("high", 12, Scalar::F32),
        ],
    };
    let text = "fn on_message(m: Request, s: ptr<function, Statistics>) -> Score {
                    let n = min(m.len, 16u);
                    for (var i = 0u; i < n; i++) {
                        let v = m.values[i];
                        (*s).total += v; (*s).low = min((*s).low, v); (*s).high = max((*s).high, v);
                    }
                    (*s).n += n;
                    return Score((*s).total);
                }";
    #[derive(Default)]
    struct Statistics {
        total: f32,
        n: u32,
        low: f32,
        high: f32,
    }
    #[inline(never)]
    fn twin(len: u32, values: &[f32; 16], s: &mut Statistics, reply: &mut f32) {
        let mut fuel = 1_000_000u32;
        let n = len.min(16);
        let (mut total, mut low, mut high) = (s.total, s.low, s.high);
        let mut i = 0;
        while i < n {
            spend!(fuel);
            let v = values[i.min(15) as usize];
            total += v;
            low = min(low, v);
            high = max(high, v);
            i += 1;
        }
        *s = Statistics { total, n: s.n.wrapping_add(n), low, high };
        *reply = total;
    }
    let source = HandlerSource { input: REQUEST, output: SCORE, state: Some(STATISTICS), ..source(text) };
    let mut message = vec![16u32];
    let values: [f32; 16] = std::array::from_fn(|i| i as f32 * 0.25 - 1.0);
    message.extend(values.map(f32::to_bits));
    let (mut statistics, mut reply) = (Statistics::default(), 0.0);
    compare("sum", &source, bytemuck::cast_slice(&message), &[], &mut || {
        twin(black_box(16), black_box(&values), black_box(&mut statistics), black_box(&mut reply));
    });
}

#[test]
#[ignore = "a measurement: run it alone, in release"]
fn fir() {
    const FILTER: &Layout = &Layout {
        name: "Filter",
        size: 260,
        align: 4,
        fields: &[scalar("next", 0, Scalar::U32), array("taps", 4, F32, 32), array("past", 132, F32, 32)],
    };
    let text = "fn on_message(m: Sample, s: ptr<function, Filter>) -> Score {
                    (*s).past[(*s).next & 31u] = m.value;
                    var sum = 0.0;
                    for (var i = 0u; i < 32u; i++) { sum += (*s).taps[i] * (*s).past[((*s).next - i) & 31u]; }
                    (*s).next += 1u;
                    return Score(sum);
                }";
    struct Filter {
        next: u32,
        taps: [f32; 32],
        past: [f32; 32],
    }
    #[inline(never)]
    fn twin(value: f32, s: &mut Filter, reply: &mut f32) {
        let mut fuel = 1_000_000u32;
        s.past[(s.next & 31) as usize] = value;
        let mut sum = 0.0;
        let mut i = 0;
        while i < 32 {
            spend!(fuel);
            sum += s.taps[i as usize] * s.past[(s.next.wrapping_sub(i) & 31) as usize];
            i += 1;
        }
        s.next = s.next.wrapping_add(1);
        *reply = sum;
    }
    let source = HandlerSource { input: SAMPLE, output: SCORE, state: Some(FILTER), ..source(text) };
    let (mut filter, mut reply) = (Filter { next: 0, taps: [0.5; 32], past: [0.0; 32] }, 0.0);
    compare("fir", &source, &1.5f32.to_ne_bytes(), &[], &mut || {
        twin(black_box(1.5), black_box(&mut filter), black_box(&mut reply));
    });
}

#[test]
#[ignore = "a measurement: run it alone, in release"]
fn k_means() {
    const POINT: &Layout = &Layout {
        name: "Point",
        size: 16,
        align: 4,
        fields: &[array("p", 0, F32, 3), scalar("weight", 12, Scalar::F32)],
    };
    const CLUSTER: &Layout = &Layout {
        name: "Cluster",
        size: 8,
        align: 4,
        fields: &[scalar("index", 0, Scalar::U32), scalar("distance", 4, Scalar::F32)],
    };
    let text = "struct Centroid { mean: vec3<f32>, count: f32 }
                @group(1) @binding(0) var<storage, read_write> centroids: array<Centroid>;
                fn squared(a: vec3<f32>, b: vec3<f32>) -> f32 { let d = a - b; return dot(d, d); }
                fn nearest(p: vec3<f32>, best_d: ptr<function, f32>) -> u32 {
                    var best = 0u;
                    let k = arrayLength(&centroids);
                    for (var i = 0u; i < k; i++) {
                        let d = squared(p, centroids[i].mean);
                        if d < *best_d { *best_d = d; best = i; }
                    }
                    return best;
                }
                fn on_message(m: Point, s: ptr<function, State>) -> Cluster {
                    let p = vec3(m.p[0], m.p[1], m.p[2]);
                    var d = 3.0e38;
                    let c = nearest(p, &d);
                    let old = centroids[c].mean;
                    let w = centroids[c].count + m.weight;
                    centroids[c].mean = old + (p - old) * (m.weight / w);
                    centroids[c].count = w;
                    (*s).n += 1u; (*s).sum += d * m.weight;
                    return Cluster(c, sqrt(d));
                }";
    #[derive(Clone, Copy)]
    struct Centroid {
        mean: [f32; 3],
        count: f32,
    }
    #[inline(never)]
    fn twin(
        p: &[f32; 3],
        weight: f32,
        s: &mut (u32, f32),
        centroids: &mut [Centroid],
        reply: &mut (u32, f32),
    ) {
        let mut fuel = 1_000_000u32;
        let (mut best, mut least) = (0, 3e38);
        let mut i = 0;
        while i < centroids.len() {
            spend!(fuel);
            let d: [f32; 3] = std::array::from_fn(|axis| p[axis] - centroids[i].mean[axis]);
            let d = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
            if d < least {
                (best, least) = (i, d);
            }
            i += 1;
        }
        let centroid = &mut centroids[best];
        let w = centroid.count + weight;
        let rate = weight / w;
        for (mean, p) in centroid.mean.iter_mut().zip(p) {
            *mean += (p - *mean) * rate;
        }
        centroid.count = w;
        *s = (s.0.wrapping_add(1), s.1 + least * weight);
        *reply = (best as u32, least.sqrt());
    }
    let tables =
        [TableDecl { name: "centroids".into(), element_size: 16, element_name: "Centroid", len: 16 }];
    let source =
        HandlerSource { input: POINT, output: CLUSTER, state: Some(STATE), tables: &tables, ..source(text) };
    let make = || -> Vec<Centroid> {
        (0..16).map(|i| Centroid { mean: [i as f32, 16.0 - i as f32, 1.0], count: 1.0 }).collect()
    };
    let (mut ours, mut theirs) = (make(), make());
    let view = TableView { data: ours.as_mut_ptr().cast(), bytes: 256 };
    let point = [3.5f32, 2.5, 1.25];
    let message = [point[0], point[1], point[2], 1.0];
    let (mut state, mut reply) = ((0, 0.0), (0, 0.0));
    compare("k-means", &source, bytemuck::cast_slice(&message), &[view], &mut || {
        twin(
            black_box(&point),
            black_box(1.0),
            black_box(&mut state),
            black_box(&mut theirs),
            black_box(&mut reply),
        );
    });
}

#[test]
#[ignore = "a measurement: run it alone, in release"]
fn fraud() {
    const PAYMENT: &Layout = &Layout {
        name: "Payment",
        size: 12,
        align: 4,
        fields: &[
            scalar("amount", 0, Scalar::F32),
            scalar("hour", 4, Scalar::U32),
            scalar("country", 8, Scalar::U32),
        ],
    };
    const HISTORY: &Layout = &Layout {
        name: "History",
        size: 88,
        align: 4,
        fields: &[
            scalar("n", 0, Scalar::U32),
            scalar("mean", 4, Scalar::F32),
            scalar("m2", 8, Scalar::F32),
            scalar("average", 12, Scalar::F32),
            scalar("country", 16, Scalar::U32),
            scalar("streak", 20, Scalar::U32),
            array("counts", 24, U32, 16),
        ],
    };
    let text = "fn bin_of(amount: f32) -> u32 { return u32(clamp(log2(1.0 + max(amount, 0.0)), 0.0, 15.0)); }
                fn rarity(s: ptr<function, History>, b: u32) -> u32 {
                    var rank = 0u;
                    for (var i = 0u; i < 16u; i++) {
                        if i == b { continue; }
                        if (*s).counts[i] > (*s).counts[b] { rank += 1u; }
                    }
                    return rank;
                }
                fn on_message(m: Payment, s: ptr<function, History>) -> Score {
                    let before = (*s).mean;
                    (*s).n += 1u;
                    let d = m.amount - (*s).mean;
                    (*s).mean += d / f32((*s).n);
                    (*s).m2 += d * (m.amount - (*s).mean);
                    let variance = select(0.0, (*s).m2 / f32((*s).n - 1u), (*s).n > 1u);
                    let deviation = sqrt(variance);
                    let z = select((m.amount - before) / deviation, 0.0, deviation < 1e-6);
                    (*s).average = mix((*s).average, m.amount, 0.1);
                    let b = bin_of(m.amount);
                    (*s).counts[b] += 1u;
                    let rank = rarity(s, b);
                    if m.country != (*s).country { (*s).streak = 0u; (*s).country = m.country; }
                    else { (*s).streak = min((*s).streak + 1u, 1000u); }
                    var score = abs(z) * 0.5 + f32(rank) * 0.1;
                    if m.hour < 6u || m.hour > 22u { score *= 1.25; }
                    score -= f32((*s).streak) * 0.01;
                    return Score(1.0 / (1.0 + exp(-(score - 2.0))));
                }";
    #[derive(Default)]
    struct History {
        n: u32,
        mean: f32,
        m2: f32,
        average: f32,
        country: u32,
        streak: u32,
        counts: [u32; 16],
    }
    #[inline(never)]
    fn twin(amount: f32, hour: u32, country: u32, s: &mut History, reply: &mut f32) {
        let mut fuel = 1_000_000u32;
        let before = s.mean;
        s.n = s.n.wrapping_add(1);
        let d = amount - s.mean;
        s.mean += d / s.n as f32;
        s.m2 += d * (amount - s.mean);
        let variance = if s.n > 1 { s.m2 / s.n.wrapping_sub(1) as f32 } else { 0.0 };
        let deviation = variance.sqrt();
        let z = if deviation < 1e-6 { 0.0 } else { (amount - before) / deviation };
        s.average = s.average * (1.0 - 0.1) + amount * 0.1;
        let b = min(max(libm::log2f(1.0 + max(amount, 0.0)), 0.0), 15.0) as usize;
        s.counts[b.min(15)] = s.counts[b.min(15)].wrapping_add(1);
        let (mut rank, mut i) = (0u32, 0usize);
        while i < 16 {
            spend!(fuel);
            if i != b && s.counts[i] > s.counts[b.min(15)] {
                rank += 1;
            }
            i += 1;
        }
        if country != s.country {
            (s.streak, s.country) = (0, country);
        } else {
            s.streak = s.streak.wrapping_add(1).min(1000);
        }
        let mut score = z.abs() * 0.5 + rank as f32 * 0.1;
        if !(6..=22).contains(&hour) {
            score *= 1.25;
        }
        score -= s.streak as f32 * 0.01;
        *reply = 1.0 / (1.0 + libm::expf(-(score - 2.0)));
    }
    let source = HandlerSource { input: PAYMENT, output: SCORE, state: Some(HISTORY), ..source(text) };
    let message = [120f32.to_bits(), 23, 4];
    let (mut history, mut reply) = (History::default(), 0.0);
    compare("fraud", &source, bytemuck::cast_slice(&message), &[], &mut || {
        twin(black_box(120.0), black_box(23), black_box(4), black_box(&mut history), black_box(&mut reply));
    });
}
