//! Runtimes on the emulated driver (see `tests/cuda`): what was compiled once runs where there is no compiler, and a device
//! that hangs is told from a handler that takes long. Where there is no g++ to build the emulation, the reason is printed.

#[allow(
    clippy::duplicate_mod,
    reason = "the tests of the backend build the same emulation, and may not be named here"
)]
#[path = "../../tests/cuda/build.rs"]
mod build;

use crate::{
    BackendKind, CacheSettings, DispatchClock, Handle, KernelState, PoolSettings, RestartPolicy,
    RestartState, RingKernel, Runtime, message,
};
use std::process::Command;
use std::time::{Duration, Instant};

message! {
    /// A number.
    struct Number { n: u32 }
}

/// Long enough for anything that ends at all, on a machine that is busy.
const LONG: Duration = Duration::from_secs(20);

/// Loads the emulated driver into this process, so that it is what is found by its name.
#[cfg(not(feature = "wgpu"))] // the tests of devices, who ask for it, are about wgpu then
pub(super) fn load() -> Result<(), String> {
    static LOADED: std::sync::OnceLock<Result<(), String>> = std::sync::OnceLock::new();
    let load = || {
        let folder = build::emulation()?;
        for library in ["libcuda.so", "libnvrtc.so"] {
            // SAFETY: the emulation's libraries have no initialisers that matter.
            let library = unsafe { libloading::Library::new(folder.join(library)) };
            std::mem::forget(library.map_err(|error| error.to_string())?);
        }
        Ok(())
    };
    LOADED.get_or_init(load).clone()
}

/// Set for the child: the folder of the cache, and what is expected of it.
const FOLDER: &str = "RINGWORK_TEST_WARM";

#[test]
fn child_asks_a_kernel() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let cache = CacheSettings::new().disk_folder(folder);
    let runtime =
        Runtime::builder().backend(BackendKind::Cuda).cache(cache).build().expect("a driver is there");
    let driver = runtime.capabilities().expect("a device is there").driver;
    let text = "fn on_message(m: Number) -> Number { return Number(m.n * 3u); }";
    let twin = "__device__ Number on_message(const Number& m, RtContext&) { return {m.n * 5u}; }";
    let kernels = [
        RingKernel::<Number, Number>::wgsl("wgsl", text),
        RingKernel::<Number, Number>::wgsl("twin", text).cuda_source(twin),
    ];
    for kernel in kernels {
        match runtime.launch(kernel) {
            Ok(kernel) => {
                kernel.activate().unwrap();
                println!("\nFOUND {}", kernel.ask(Number { n: 7 }, LONG).unwrap().n);
            }
            Err(error) => {
                assert!(error.is_unavailable(), "{error}");
                println!("\nFOUND {error}");
            }
        }
    }
    let told = runtime.cache_statistics();
    println!(
        "\nFOUND {driver}; {} found, {} made, {} rejected",
        told.disk_hits, told.disk_writes, told.disk_rejected
    );
}

/// What was compiled once runs where there is no compiler; what was not, says so.
#[test]
fn a_warm_cache_makes_the_compiler_optional() {
    let all = match build::emulation() {
        Ok(folder) => folder,
        Err(reason) => return println!("SKIPPED: {reason}"),
    };
    if std::path::Path::new("/proc/driver/nvidia").exists() {
        // A machine with a GPU may have NVRTC elsewhere.
        return;
    }
    // This process's own: a library that is written over under somebody who has it loaded takes that one down.
    let driver_only = std::env::temp_dir().join(format!("ringwork-driver-alone-{}", std::process::id()));
    std::fs::create_dir_all(&driver_only).unwrap();
    std::fs::copy(all.join("libcuda.so"), driver_only.join("libcuda.so")).unwrap();
    let cache = std::env::temp_dir().join(format!("ringwork-warm-{}", std::process::id()));
    let told = |libraries: &std::path::Path, compiler: &str| {
        let mut child = Command::new(std::env::current_exe().expect("a test is a program"));
        child.args(["--exact", "actor::cuda_tests::child_asks_a_kernel", "--nocapture"]);
        child.env(FOLDER, &cache).env("LD_LIBRARY_PATH", libraries).env_remove("RINGWORK_NVRTC");
        let output = child.env("RINGWORK_EMULATION", compiler).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text.lines().filter_map(|line| line.strip_prefix("FOUND ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let missing = told(&driver_only, "");
    for text in &missing[..2] {
        assert!(text.contains("NVRTC, which compiles handlers, was not found"), "{text}");
        assert!(text.contains("is not in the cache on disk; install NVRTC"), "{text}");
    }
    assert_eq!(missing[2], "13.0 without NVRTC; 0 found, 0 made, 0 rejected");
    assert_eq!(told(&all, ""), ["21", "35", "13.0 with NVRTC 13.0; 0 found, 2 made, 0 rejected"]);
    assert_eq!(told(&all, ""), ["21", "35", "13.0 with NVRTC 13.0; 2 found, 0 made, 0 rejected"]);
    assert_eq!(told(&driver_only, ""), ["21", "35", "13.0 without NVRTC; 2 found, 0 made, 0 rejected"]);
    // Another version of the compiler makes its own.
    let other = told(&all, "nvrtc-13.1");
    assert_eq!(other, ["21", "35", "13.0 with NVRTC 13.1; 0 found, 2 made, 2 rejected"]);
    std::fs::remove_dir_all(&cache).unwrap();
    std::fs::remove_dir_all(&driver_only).unwrap();
}

/// Set for the child: whether the device hangs, or handlers take long.
const LIFE: &str = "RINGWORK_TEST_LIFE";
/// Longer than a kernel may be silent.
const SLOW: Duration = Duration::from_secs(5);

#[test]
fn child_lives_with_its_device() {
    let Ok(what) = std::env::var(LIFE) else { return };
    let runtime = Runtime::builder().backend(BackendKind::Cuda).build().expect("a driver is there");
    match what.as_str() {
        "hang" => a_hang(&runtime),
        "times" => a_dispatch(&runtime, DispatchClock::Device),
        "no-times" => a_dispatch(&runtime, DispatchClock::Host),
        "left" => a_handler_that_was_left(&runtime),
        _ => slow_handlers(&runtime),
    }
}

/// Adds up, from 100 to so many.
fn sum(name: &str, most: u32) -> RingKernel<Number, Number> {
    let text = format!(
        "fn on_message(m: Number, s: ptr<function, Number>) -> Number {{
            (*s).n = min((*s).n + m.n, {most}u);
            return *s;
        }}"
    );
    RingKernel::wgsl(name, text).initial_state(Number { n: 100 })
}

/// The fourth launch hangs: the first two only warm the code up, which each kernel has of its own.
fn a_hang(runtime: &Runtime) {
    let launch = |kernel| {
        let kernel: Handle<Number, Number> = runtime.launch(kernel).expect("the device is there");
        kernel.activate().unwrap();
        kernel
    };
    let policy = RestartPolicy::OneForOne { max: 3, within: 60 * LONG, state: RestartState::Initial };
    let keeper = launch(sum("keeper", 1 << 30).restart(policy));
    let victim = launch(sum("victim", 1 << 31).initial_state(Number { n: 200 }));
    let one = Number { n: 1 };
    let begun = Instant::now();
    let error = loop {
        assert!(begun.elapsed() < LONG, "nothing hangs");
        if let Err(error) = keeper.ask(one, LONG).and_then(|_| victim.ask(one, LONG)) {
            break error;
        }
    };
    assert!(begun.elapsed() < LONG, "the wait is bounded: {:?}", begun.elapsed());
    assert!(error.is_device_lost() && error.to_string().contains("its heartbeat has stopped"), "{error}");
    // The one without a policy fails, the other goes on where it began, on the device that is opened anew.
    let answer = loop {
        match keeper.ask(one, LONG) {
            Ok(answer) => break answer,
            Err(error) => assert!(begun.elapsed() < 2 * LONG, "{error}"),
        }
    };
    assert_eq!(answer.n, 101);
    assert_eq!(victim.lifecycle(), KernelState::Failed);
    runtime.launch(sum("another", 1 << 30)).expect("the device is there again");
}

fn slow_handlers(runtime: &Runtime) {
    let text = "fn on_message(m: Number) -> Number {
        var x = 1.0;
        for (var i = 0u; i < m.n; i++) { x = sqrt(x + f32(i)); }
        return Number(u32(x));
    }";
    // Its loop is not counted, and it gives no sign of life.
    let twin = "__device__ Number on_message(const Number& m, RtContext&) {
        volatile unsigned x = 1u;
        for (unsigned i = 0u; i < m.n; i++) { for (unsigned j = 0u; j < 8u; j++) { x = x * 1664525u + i; } }
        return {x};
    }";
    for kernel in [
        RingKernel::<Number, Number>::wgsl("loop", text),
        RingKernel::<Number, Number>::wgsl("twin", text).cuda_source(twin),
    ] {
        let kernel = runtime.launch(kernel.loop_budget(u32::MAX)).expect("the device is there");
        kernel.activate().unwrap();
        let mut n = 1 << 22;
        loop {
            let begun = Instant::now();
            kernel.ask(Number { n }, 3 * LONG).expect("it takes long, that is all");
            if begun.elapsed() >= SLOW {
                break;
            }
            n = n.checked_mul(2).expect("it takes long at last");
        }
    }
}

fn a_dispatch(runtime: &Runtime, clock: DispatchClock) {
    let text = "@group(0) @binding(0) var<storage, read_write> words: array<u32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            for (var i = 0u; i < 1000u; i++) { words[id.x] = words[id.x] * 1664525u + 1u; }
        }";
    let orchestrator = runtime.orchestrator();
    let words = runtime.buffer(&[1u32; 640]).expect("there is memory");
    let kernel = orchestrator.kernel(text, "main").expect("it is right").bind("words", &words);
    let begun = Instant::now();
    let told = kernel.dispatch([10, 1, 1]).expect("it runs");
    let (took, longest) = (told.duration, begun.elapsed());
    assert_eq!((told.clock, told.engine), (clock, "cuda"));
    assert!(took > Duration::ZERO && took < longest, "{took:?} of {longest:?}");
    let expected = (0..1000).fold(1u32, |word, _| word.wrapping_mul(1_664_525).wrapping_add(1));
    assert_eq!(words.to_vec().expect("nobody writes"), [expected; 640]);
}

/// What a handler that nobody could stop still writes to is not the next buffer's.
fn a_handler_that_was_left(runtime: &Runtime) {
    let text = "@group(1) @binding(0) var<storage, read_write> cells: array<u32>;
        fn on_message(m: Number) { cells[0] = m.n; }";
    // It takes some time, and does not look at the stop word.
    let twin = "__device__ void on_message(const Number& m, RtContext& rt) {
        const unsigned long long begun = rt_now();
        while (rt_now() - begun < 4000000000ull) {}
        for (unsigned i = 0u; i < rt.cells.length; i++) rt.cells[i] = m.n;
    }";
    let pool = runtime.memory_pool(PoolSettings::new(1 << 20)).expect("there is memory");
    // A part of a block, as most buffers are.
    let cells = pool.buffer(&[0u32; 70]).expect("there is memory");
    let kernel = RingKernel::<Number, ()>::wgsl("left", text).cuda_source(twin).bind("cells", &cells);
    let kernel = runtime.launch(kernel).expect("the device is there");
    kernel.activate().unwrap();
    kernel.send(Number { n: 7 }).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(kernel.terminate(Duration::ZERO).unwrap().abandoned.is_some(), "its handler runs");
    drop((kernel, cells));
    let next = pool.buffer(&[1u32; 70]).expect("there is memory");
    let text = "@group(1) @binding(0) var<storage, read> cells: array<u32>;
        fn on_message(m: Number) -> Number {
            var sum = 0u;
            for (var i = 0u; i < arrayLength(&cells); i++) { sum += cells[i]; }
            return Number(sum);
        }";
    let sum = RingKernel::<Number, Number>::wgsl("sum", text).bind("cells", &next);
    let sum = runtime.launch(sum).expect("the device is there");
    sum.activate().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < SLOW {
        assert_eq!(sum.ask(Number { n: 0 }, LONG).unwrap().n, 70, "after {:?}", begun.elapsed());
    }
    // When the handler has ended, its memory is the pool's again.
    while pool.statistics().buffers > 1 {
        assert!(begun.elapsed() < 3 * LONG, "{:?}", pool.statistics());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn in_a_child(what: &str, seeds: &str) {
    let folder = match build::emulation() {
        Ok(folder) => folder,
        Err(reason) => return println!("SKIPPED: {reason}"),
    };
    let mut child = Command::new(std::env::current_exe().expect("a test is a program"));
    child.args(["--exact", "actor::cuda_tests::child_lives_with_its_device", "--nocapture"]);
    child.env(LIFE, what).env("LD_LIBRARY_PATH", folder).env("RINGWORK_EMULATION", seeds);
    let output = child.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}

/// As it is where granules become visible late and in any order, and old ones are seen again.
#[cfg(not(feature = "wgpu"))]
#[test]
fn links_on_a_device_lose_nothing_where_granules_come_late() {
    let folder = match build::emulation() {
        Ok(folder) => folder,
        Err(reason) => return println!("SKIPPED: {reason}"),
    };
    let mut child = Command::new(std::env::current_exe().expect("a test is a program"));
    child.args(["--exact", "--nocapture"]);
    let tests = [
        "what_faults_and_what_emits_nothing_or_more_leaves_the_order",
        "random::chains_do_what_a_plain_loop_does",
    ];
    child.args(tests.map(|test| format!("actor::device_tests::links::{test}")));
    child
        .env("LD_LIBRARY_PATH", folder)
        .env("RINGWORK_EMULATION", "torn,stale")
        .env("RINGWORK_GENERATED", "25");
    let output = child.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("2 passed"), "{text}{errors}");
}

#[test]
fn a_hanging_device_is_an_error_in_time_and_kernels_restart_under_their_policies() {
    in_a_child("hang", "stall=4");
}

#[test]
fn a_dispatch_is_timed_by_the_device_where_the_driver_can() {
    in_a_child("times", "");
    in_a_child("no-times", "no-times");
}

#[test]
fn handlers_that_take_long_are_no_hang() {
    in_a_child("slow", "");
}

#[test]
fn memory_that_a_handler_still_writes_to_is_nobody_elses() {
    in_a_child("left", "");
}
