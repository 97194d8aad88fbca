//! Handlers with a twin in CUDA C++: on CUDA it is the twin that runs, elsewhere the WGSL, and both are to say the same.

use super::started;
use crate::common::{LONG, runtime};
use ringwork::{Handle, Message, RestartPolicy, RestartState, RingKernel, Runtime, Vec2, Vec3, message};
use std::time::Duration;

message! {
    /// Of every kind of field one.
    pub struct Everything {
        pub to: u32,
        pub signed: i32,
        pub pair: Vec2<f32>,
        pub inner: [Inner; 2],
        pub place: Vec3<f32>,
        pub float: f32,
        pub numbers: [u32; 3],
        pub last: f32,
    }

    /// Inside of another.
    pub struct Inner { pub a: f32, pub b: u32 }

    /// A sum.
    pub struct Sum { pub total: f32, pub count: u32 }

    /// A word.
    pub struct Word { pub value: u32 }

    /// What goes out.
    pub struct Alert { pub code: u32, pub level: f32 }
}

/// Does the runtime under test run twins?
fn runs_twins<In: Message, Out: Message>(kernel: &Handle<In, Out>) -> bool {
    kernel.telemetry().engine == "cuda"
}

fn restarts() -> RestartPolicy {
    RestartPolicy::OneForOne { max: 100, within: Duration::from_secs(3600), state: RestartState::Current }
}

#[test]
fn a_twin_runs_on_cuda_and_nowhere_else() {
    let runtime = runtime();
    let kernel =
        RingKernel::<Word, Word>::wgsl("k", "fn on_message(m: Word) -> Word { return Word(m.value + 1u); }");
    // Not the same, so that one sees which of them it was.
    let twin = "__device__ Word on_message(const Word& m, RtContext& rt) { return {m.value + 1000u}; }";
    let kernel = started(&runtime, kernel.cuda_source(twin));
    let added = if runs_twins(&kernel) { 1000 } else { 1 };
    for value in [0, 7, u32::MAX] {
        assert_eq!(kernel.ask(Word { value }, LONG).unwrap().value, value.wrapping_add(added));
    }
}

const EVERYTHING: &str = "fn on_message(m: Everything, s: ptr<function, Sum>) -> Sum {
    var sum = f32(m.signed) + m.pair.x * m.pair.y + m.place.x + m.place.y - m.place.z + m.float + m.last;
    for (var i = 0u; i < 2u; i++) { sum += m.inner[i].a * f32(m.inner[i].b); }
    for (var i = 0u; i < 3u; i++) { sum += f32(m.numbers[i]); }
    (*s).total += sum;
    (*s).count += 1u;
    emit_alerts(Alert(m.to, sum));
    if m.signed < 0 { emit_alerts(Alert((*s).count, (*s).total)); }
    return *s;
}";

const EVERYTHING_TWIN: &str = "
__device__ float inner(const Inner& inner) { return inner.a * (float)inner.b; }
__device__ Sum on_message(const Everything& m, Sum& s, RtContext& rt) {
    float sum = (float)m.signed_ + m.pair.x * m.pair.y + m.place.x + m.place.y - m.place.z + m.float_ + m.last;
    for (int i = 0; i < 2; i++) sum += inner(m.inner[i]);
    for (int i = 0; i < 3; i++) sum += (float)m.numbers[i];
    s.total += sum;
    s.count += 1u;
    rt.emit_alerts({m.to, sum});
    if (m.signed_ < 0) rt.emit_alerts({s.count, s.total});
    return s;
}";

fn everything(number: u32) -> Everything {
    let float = number as f32;
    Everything {
        to: number % 7,
        signed: if number.is_multiple_of(5) { -(number as i32) } else { number as i32 },
        pair: Vec2::new(float, 0.5),
        inner: [Inner { a: 2.0, b: number }, Inner { a: float, b: 3 }],
        place: Vec3::new(1.0, float, 2.0),
        float: 0.25,
        numbers: [number, 1, 2],
        last: float * 4.0,
    }
}

#[test]
fn a_twin_sees_the_same_fields_states_and_outputs() {
    let runtime = runtime();
    let kernel = |name: &str| {
        RingKernel::<Everything, Sum>::wgsl(name, EVERYTHING)
            .output_many::<Alert>("alerts", 2)
            .initial_state(Sum { total: 0.0, count: 0 })
            .instances(7)
    };
    let both =
        [kernel("wgsl"), kernel("twin").cuda_source(EVERYTHING_TWIN)].map(|kernel| started(&runtime, kernel));
    let messages: Vec<_> = (0..300).map(everything).collect();
    let seen = both.map(|kernel| {
        let replies = kernel.ask_many(messages.iter().copied(), LONG).unwrap();
        let output = kernel.output::<Alert>("alerts").unwrap();
        let alerts: Vec<_> = std::iter::from_fn(|| output.try_recv().unwrap()).collect();
        assert_eq!(alerts.len(), 300 + 59);
        (replies, alerts)
    });
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn a_twin_reads_and_writes_tables() {
    let runtime = runtime();
    let text = "@group(1) @binding(0) var<storage, read> scale: array<vec3<f32>>;
        @group(1) @binding(1) var<storage, read_write> seen: array<u32>;
        fn on_message(m: Word) -> Word {
            seen[m.value] += 1u;
            return Word(u32(scale[m.value].y) + seen[m.value] + arrayLength(&seen));
        }";
    let twin = "__device__ Word on_message(const Word& m, RtContext& rt) {
            rt.seen[m.value] += 1u;
            return {(unsigned)rt.scale[m.value].value.y + rt.seen[m.value] + rt.seen.length};
        }";
    let scale: Vec<[f32; 4]> = (0..10).map(|n| [0.0, n as f32 * 10.0, 0.0, 0.0]).collect();
    let seen = [false, true].map(|is_twin| {
        let (scale, seen) = (runtime.buffer(&scale).unwrap(), runtime.buffer(&[0u32; 20]).unwrap());
        let kernel = RingKernel::<Word, Word>::wgsl(format!("k{is_twin}"), text);
        let kernel = kernel.bind("scale", &scale).bind("seen", &seen);
        let kernel = started(&runtime, if is_twin { kernel.cuda_source(twin) } else { kernel });
        // Past the end of the one, and of both.
        let messages = (0..100).map(|number| Word { value: number % 25 });
        let replies = kernel.ask_many(messages, LONG).unwrap();
        (replies, seen.to_vec().unwrap())
    });
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].1[19], 4 + 4 * 5, "the last element stands for those behind it");
}

const TURNS: &str = "fn on_message(m: Word, s: ptr<function, Word>) -> Word {
    (*s).value += 1u;
    for (var i = 0u; i < m.value; i++) { (*s).value += 1u; }
    return *s;
}";
const TURNS_TWIN: &str = "__device__ Word on_message(const Word& m, Word& s, RtContext& rt) {
    s.value += 1u;
    for (unsigned i = 0; i < m.value && rt.loop(); i++) s.value += 1u;
    return s;
}";

#[test]
fn a_twin_counts_iterations_and_its_faults_commit_nothing() {
    let runtime = runtime();
    let kernel = RingKernel::<Word, Word>::wgsl("k", TURNS).cuda_source(TURNS_TWIN);
    let kernel = started(&runtime, kernel.loop_budget(10_000).restart(restarts()));
    assert_eq!(kernel.ask(Word { value: 10_000 }, LONG).unwrap().value, 10_001);
    let error = kernel.ask(Word { value: 10_001 }, LONG).unwrap_err();
    assert_eq!(error.to_string(), "kernel `k`: the handler used up its loop budget");
    assert_eq!(kernel.ask(Word { value: 0 }, LONG).unwrap().value, 10_002);
}

#[test]
fn a_twin_that_emits_more_than_it_may_faults() {
    let runtime = runtime();
    let text = "fn on_message(m: Word) { for (var i = 0u; i < m.value; i++) { emit_out(Word(i)); } }";
    let twin = "__device__ void on_message(const Word& m, RtContext& rt) {
        for (unsigned i = 0; i < m.value && rt.loop(); i++) rt.emit_out({i});
    }";
    let kernel = RingKernel::<Word, ()>::wgsl("k", text).cuda_source(twin).output_many::<Word>("out", 3);
    let kernel = started(&runtime, kernel.restart(restarts()));
    kernel.ask(Word { value: 3 }, LONG).unwrap();
    let error = kernel.ask(Word { value: 4 }, LONG).unwrap_err();
    assert_eq!(error.to_string(), "kernel `k`: the handler emitted more values than its output declares");
    let output = kernel.output::<Word>("out").unwrap();
    let values: Vec<_> = std::iter::from_fn(|| output.try_recv().unwrap()).map(|word| word.value).collect();
    assert_eq!(values, [0, 1, 2]);
}

#[test]
fn a_twin_that_does_not_end_is_left_when_its_kernel_is_terminated() {
    let runtime = runtime();
    let kernel = RingKernel::<Word, Word>::wgsl("k", TURNS).cuda_source(TURNS_TWIN);
    let kernel = started(&runtime, kernel.loop_budget(u32::MAX));
    kernel.send(Word { value: u32::MAX }).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let begun = std::time::Instant::now();
    kernel.terminate(Duration::from_millis(50)).unwrap();
    assert!(begun.elapsed() < LONG);
}

/// The error of a launch with this twin; `None` where twins do not run.
fn refusal(runtime: &Runtime, twin: &str) -> Option<String> {
    let text = "fn on_message(m: Word, s: ptr<function, Sum>) -> Word { return m; }";
    let kernel = RingKernel::<Word, Word>::wgsl("k", text).initial_state(Sum { total: 0.0, count: 0 });
    let launched = runtime.launch(kernel.cuda_source(twin));
    match launched {
        Ok(kernel) if runs_twins(&kernel) => panic!("it compiles"),
        Ok(kernel) => {
            kernel.terminate(LONG).unwrap();
            None
        }
        Err(error) => {
            assert!(error.is_rejected(), "{error}");
            Some(error.to_string())
        }
    }
}

#[test]
fn what_the_compiler_has_against_a_twin_names_the_kernel_and_the_line() {
    let runtime = runtime();
    let body = "__device__ Word on_message(const Word& m, Sum& s, RtContext& rt) {\n    s.count += nothing;\n    return m;\n}";
    if let Some(error) = refusal(&runtime, body) {
        assert!(error.starts_with("kernel `k`: cuda_source does not compile"), "{error}");
        // NVRTC writes `cuda_source(2): error`, g++ `cuda_source:2:16: error`.
        assert!(error.contains("cuda_source(2)") || error.contains("cuda_source:2:"), "{error}");
        assert!(error.contains("nothing"), "{error}");
    }
    for other in ["", "__device__ Word on_message(const Word& m, RtContext& rt) { return m; }"] {
        if let Some(error) = refusal(&runtime, other) {
            let wanted =
                "has to define `__device__ Word on_message(const Word& message, Sum& state, RtContext& rt)`";
            assert!(error.contains(wanted), "{error}");
        }
    }
}
