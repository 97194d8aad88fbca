//! What becomes of kernels whose device is lost, and what others leave behind on one. On software Vulkan, if it is there;
//! in a build without wgpu, on the emulated CUDA driver (`tests/cuda`).

#[cfg(feature = "wgpu")]
mod again;
#[cfg(feature = "wgpu")]
mod churn;
#[cfg(feature = "wgpu")]
mod limits;
mod links;
#[cfg(feature = "wgpu")]
mod loss;
#[cfg(feature = "wgpu")]
mod pipelines;
#[cfg(feature = "wgpu")]
mod rounds;

use crate::backend::{BackendKind, DeviceStorage};
use crate::{
    DeadLetterReason, Handle, KernelState, RestartPolicy, RestartState, RingKernel, Runtime, RuntimeBuilder,
    message,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

message! { pub struct Number { pub value: u32 } }
message! { pub struct Sum { pub sum: u32, pub count: u32 } }

const ADD: &str = "
    fn on_message(m: Number, s: ptr<function, Sum>) -> Sum {
        (*s).sum += m.value;
        (*s).count += 1u;
        return *s;
    }";
const LONG: Duration = Duration::from_secs(20);
const AGAIN: RestartPolicy =
    RestartPolicy::OneForOne { max: u32::MAX, within: LONG, state: RestartState::Initial };

/// A runtime that has its device for itself: on CUDA all runtimes of a process share one, and these tests lose it.
#[cfg(not(feature = "wgpu"))]
struct Alone(Runtime, #[expect(dead_code, reason = "held")] std::sync::MutexGuard<'static, ()>);

#[cfg(not(feature = "wgpu"))]
impl std::ops::Deref for Alone {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.0
    }
}

/// A runtime on what pretends to be a GPU of NVIDIA's; `None` where there is no g++ to build that.
#[cfg(not(feature = "wgpu"))]
fn runtime() -> Option<Alone> {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Err(reason) = super::cuda_tests::load() {
        println!("SKIPPED: {reason}");
        return None;
    }
    let runtime = RuntimeBuilder::default().backend(BackendKind::Cuda).build().expect("it is in this build");
    runtime.capabilities().expect("the emulation has a device");
    Some(Alone(runtime, guard))
}

/// A runtime on a GPU, or on what pretends to be one; `None` where there is none, unless one is required.
#[cfg(feature = "wgpu")]
fn runtime() -> Option<Runtime> {
    let runtime = RuntimeBuilder::default().backend(BackendKind::Wgpu).build().expect("it is in this build");
    match runtime.capabilities() {
        Ok(_) => Some(runtime),
        Err(error) => {
            let required = std::env::var("RINGWORK_REQUIRE").is_ok_and(|names| names.contains("wgpu"));
            assert!(!required, "{error}");
            println!("not run: {error}");
            None
        }
    }
}

fn adder(runtime: &Runtime, restart: RestartPolicy) -> Handle<Number, Sum> {
    let kernel = RingKernel::<Number, Sum>::wgsl("adder", ADD).initial_state(Sum::default()).restart(restart);
    let kernel = runtime.launch(kernel).unwrap();
    kernel.activate().unwrap();
    kernel
}

#[cfg(feature = "wgpu")]
/// What the runtime's device holds, once that is no more of anything than this: who is done with a kernel may let go of
/// it a moment later.
fn holds_no_more_than(runtime: &Runtime, most: &[(&'static str, isize)]) -> Vec<(&'static str, isize)> {
    let begun = Instant::now();
    loop {
        let now = runtime.device().holdings();
        if now.iter().zip(most).all(|((_, now), (_, most))| now <= most) {
            return now;
        }
        assert!(begun.elapsed() < LONG, "{now:?} is more than {most:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn check_books(kernel: &Handle<Number, Sum>) {
    let books = kernel.telemetry();
    let ended = books.handled + books.returned + books.dead_letters.total();
    assert_eq!(books.accepted, ended + books.pending, "{books:#?}");
}

/// Waits for something that nobody tells of.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Several callers, of a kernel that does not restart, when the device is lost in this way.
fn everybody_hears_of(runtime: &Runtime, lose: impl FnOnce(&Runtime)) {
    let kernel = adder(runtime, RestartPolicy::Never);
    let told = AtomicU32::new(0);
    let asked = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let begun = Instant::now();
                    if let Err(error) = kernel.ask(Number { value: 1 }, LONG) {
                        assert!(error.is_device_lost() || error.is_failed(), "{error:?}");
                        assert!(begun.elapsed() < LONG / 4, "{:?}", begun.elapsed());
                        told.fetch_add(u32::from(error.is_device_lost()), Ordering::Relaxed);
                        break;
                    }
                }
            });
        }
        while asked.load(Ordering::Relaxed) < 100 {
            std::thread::yield_now();
        }
        lose(runtime);
    });
    assert!(told.load(Ordering::Relaxed) > 0, "somebody was in the middle of it");
    assert_eq!(kernel.lifecycle(), KernelState::Failed);
    check_books(&kernel);
    assert!(kernel.ask(Number { value: 1 }, LONG).unwrap_err().is_failed());
    let end = kernel.terminate(LONG).unwrap();
    assert!(!end.detached, "nothing is waited for that cannot come: {end:?}");
    check_books(&kernel);
}

#[test]
fn a_lost_device_fails_its_kernels_and_tells_every_caller_at_once() {
    let Some(runtime) = runtime() else { return };
    everybody_hears_of(&runtime, |runtime| runtime.device().destroy());
}

#[test]
fn a_kernel_goes_on_with_its_snapshot_on_another_device() {
    let Some(runtime) = runtime() else { return };
    let policy =
        RestartPolicy::OneForOne { max: 3, within: Duration::from_secs(60), state: RestartState::Snapshot };
    let kernel = adder(&runtime, policy);
    for _ in 0..10 {
        kernel.ask(Number { value: 5 }, LONG).unwrap();
    }
    kernel.snapshot().unwrap();
    kernel.ask(Number { value: 1000 }, LONG).unwrap();
    runtime.device().destroy();
    let sum = kernel.ask(Number { value: 1 }, LONG).unwrap();
    assert_eq!((sum.sum, sum.count), (51, 11), "the snapshot, and the message after it");
    assert_eq!(kernel.telemetry().restarts, 1);
    assert_eq!(kernel.read_state::<Sum>().unwrap(), sum);
    check_books(&kernel);
}

#[test]
fn what_was_not_handled_when_the_device_was_lost_is_handled_on_another() {
    let Some(runtime) = runtime() else { return };
    let policy =
        RestartPolicy::OneForOne { max: 10, within: Duration::from_secs(60), state: RestartState::Initial };
    let kernel = adder(&runtime, policy);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(20));
                runtime.device().destroy();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let mut sent = 0;
        while !is_over.load(Ordering::Relaxed) {
            let pending: Vec<_> = (0..50).map(|_| kernel.request(Number { value: 1 }).unwrap()).collect();
            sent += 50;
            for one in pending {
                one.wait(LONG).expect("every message is handled in the end");
            }
        }
        let books = kernel.telemetry();
        assert_eq!(books.handled, sent, "each exactly once, as far as anybody was told");
        assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), 0);
        assert!(books.restarts >= 1, "{books:#?}");
    });
    check_books(&kernel);
}

#[test]
fn a_launch_on_a_device_that_is_lost_without_anybodys_knowledge_gets_another() {
    let Some(runtime) = runtime() else { return };
    for _ in 0..3 {
        runtime.device().destroy();
        let kernel = adder(&runtime, AGAIN);
        assert_eq!(kernel.ask(Number { value: 2 }, LONG).unwrap().sum, 2);
        assert!(kernel.terminate(LONG).unwrap().is_clean());
    }
    let device = runtime.device();
    device.destroy();
    // wgpu says nothing at the allocation; whoever uses it is told.
    let read = |memory: Arc<dyn DeviceStorage>| memory.read(0, &mut [0; 64], Instant::now() + LONG);
    let error = device.allocate(64).and_then(read).expect_err("it is lost");
    assert!(error.is_device_lost(), "{error:?}");
}

#[test]
fn a_policy_that_wants_the_lost_state_fails_and_says_so() {
    let Some(runtime) = runtime() else { return };
    let policy =
        RestartPolicy::OneForOne { max: 3, within: Duration::from_secs(60), state: RestartState::Current };
    let kernel = adder(&runtime, policy);
    kernel.ask(Number { value: 5 }, LONG).unwrap();
    runtime.device().destroy();
    let error = kernel.ask(Number { value: 5 }, LONG).unwrap_err();
    // The kernel may have heard of it first.
    assert!(
        (error.is_device_lost() || error.is_failed()) && error.to_string().contains("state"),
        "{error:?}"
    );
    assert_eq!(kernel.lifecycle(), KernelState::Failed);
}
