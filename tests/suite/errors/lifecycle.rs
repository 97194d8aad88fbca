//! Calls that a kernel's state does not allow, and calls that would wait for themselves.

use super::{ECHO, Reply, Total, refused, send_refused};
use crate::common::{LONG, runtime};
use ringwork::{Context, Error, Handle, KernelState, RingKernel, Runtime};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A kernel in some state, and what keeps it there.
struct Held {
    kernel: Handle<Reply, Reply>,
    release: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((release, thread)) = self.release.take() {
            drop(release);
            thread.join().unwrap();
        }
    }
}

#[track_caller]
fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A host kernel whose function waits for the sender to be dropped, with a message in hand.
fn blocked(runtime: &Runtime, name: &str) -> (Handle<Reply, Reply>, Sender<()>) {
    let (release, wait) = channel::<()>();
    let wait: Mutex<Receiver<()>> = Mutex::new(wait);
    let kernel = runtime
        .launch(RingKernel::<Reply, Reply>::host(name, move |context: &mut Context<Reply, Reply>| {
            while context.receive().is_some() {
                let _ = wait.lock().unwrap().recv();
            }
        }))
        .unwrap();
    (kernel, release)
}

/// A kernel named `k` in this state.
fn kernel_in(runtime: &Runtime, state: KernelState) -> Held {
    let launch = |text: &str| {
        let kernel = RingKernel::<Reply, Reply>::wgsl("k", text).loop_budget(100);
        runtime.launch(kernel).unwrap()
    };
    let mut held = Held { kernel: launch(ECHO), release: None };
    let kernel = &held.kernel;
    match state {
        KernelState::Launched => {}
        KernelState::Active => kernel.activate().unwrap(),
        KernelState::Deactivated => {
            kernel.activate().unwrap();
            kernel.deactivate().unwrap();
        }
        KernelState::Terminating => {
            kernel.terminate(LONG).unwrap();
            let (kernel, release) = blocked(runtime, "k");
            kernel.activate().unwrap();
            kernel.send(Reply { r: 1 }).unwrap();
            wait_for("the message in hand", || kernel.telemetry().depth == 0);
            let ending = kernel.clone();
            let thread = std::thread::spawn(move || drop(ending.terminate(LONG).unwrap()));
            wait_for("Terminating", || kernel.lifecycle() == KernelState::Terminating);
            held = Held { kernel, release: Some((release, thread)) };
        }
        KernelState::Terminated => drop(kernel.terminate(LONG).unwrap()),
        KernelState::Failed => {
            kernel.terminate(LONG).unwrap();
            held.kernel =
                launch("fn on_message(m: Reply) -> Reply { loop { if m.r == 7u { break; } } return m; }");
            held.kernel.activate().unwrap();
            held.kernel.ask(Reply { r: 1 }, LONG).unwrap_err();
        }
        other => panic!("{other} cannot be seen from outside"),
    }
    assert_eq!(held.kernel.lifecycle(), state);
    held
}

const STATES: [KernelState; 6] = [
    KernelState::Launched,
    KernelState::Active,
    KernelState::Deactivated,
    KernelState::Terminating,
    KernelState::Terminated,
    KernelState::Failed,
];

#[test]
fn every_call_in_every_state() {
    use KernelState::*;
    type Call = fn(&Handle<Reply, Reply>) -> ringwork::Result<()>;
    let calls: [(&str, Call, &[KernelState], KernelState); 3] = [
        ("activate", |kernel| kernel.activate(), &[Launched, Deactivated], Active),
        ("deactivate", |kernel| kernel.deactivate(), &[Active], Deactivated),
        (
            "terminate",
            |kernel| kernel.terminate(LONG).map(drop),
            &[Launched, Active, Deactivated, Failed],
            Terminating,
        ),
    ];
    for state in STATES {
        for (name, call, legal, target) in calls {
            let runtime = runtime();
            let held = kernel_in(&runtime, state);
            let result = call(&held.kernel);
            if legal.contains(&state) {
                result.unwrap_or_else(|error| panic!("{name} of a kernel that is {state}: {error}"));
                let after = if target == Terminating { Terminated } else { target };
                assert_eq!(held.kernel.lifecycle(), after);
            } else {
                refused(
                    result,
                    Error::is_illegal_state,
                    &format!("cannot {name} kernel `k`: it is {state}, from which it cannot become {target}"),
                );
                assert_eq!(held.kernel.lifecycle(), state, "an illegal call changes nothing");
            }
        }
    }
}

#[test]
fn messages_come_back_from_a_kernel_that_does_not_take_them() {
    type Is = fn(&Error) -> bool;
    let failed = "kernel `k` has failed: kernel `k`: the handler used up its loop budget";
    for state in STATES {
        let (is, sent, asked): (Is, &str, String) = match state {
            KernelState::Active => continue,
            KernelState::Launched | KernelState::Deactivated => (
                Error::is_not_active,
                "the kernel is not active",
                format!("kernel `k` is not active: it is {state}"),
            ),
            KernelState::Failed => (Error::is_failed, failed, failed.to_owned()),
            _ => (Error::is_terminated, "the kernel is terminated", "kernel `k` is terminated".to_owned()),
        };
        let runtime = runtime();
        let held = kernel_in(&runtime, state);
        let (kernel, message) = (&held.kernel, Reply { r: 9 });
        let accepted = kernel.telemetry().accepted;
        send_refused(kernel.send(message), Some(message), is, sent);
        send_refused(kernel.try_send(message), Some(message), is, sent);
        send_refused(kernel.send_timeout(message, LONG), Some(message), is, sent);
        send_refused(
            kernel.send_many([message]).map(drop).map_err(|error| error.error),
            Some(message),
            is,
            sent,
        );
        send_refused(kernel.request(message).map(drop), Some(message), is, sent);
        refused(kernel.ask(message, LONG), is, &asked);
        refused(kernel.ask_many([message], LONG), is, &asked);
        assert_eq!(kernel.telemetry().accepted, accepted, "nothing was accepted");
    }
}

#[test]
fn an_ask_needs_some_time() {
    let runtime = runtime();
    for state in [KernelState::Launched, KernelState::Active] {
        let held = kernel_in(&runtime, state);
        refused(
            held.kernel.ask(Reply { r: 1 }, Duration::ZERO),
            Error::is_invalid,
            "ask of kernel `k` with a time-out of zero: it must be more",
        );
        assert_eq!(held.kernel.telemetry().accepted, 0);
        held.kernel.terminate(LONG).unwrap();
    }
    let held = kernel_in(&runtime, KernelState::Active);
    refused(
        held.kernel.recv_many(0, LONG),
        Error::is_invalid,
        "recv_many of at most 0 replies: it must be more",
    );
}

type Errors = Arc<Mutex<Vec<Error>>>;
type Own = Arc<OnceLock<Handle<Reply, Reply>>>;

/// Everything that would wait for the caller's own handler.
fn wait_for_oneself(own: &Handle<Reply, Reply>, errors: &Errors) {
    let one = Reply { r: 0 };
    let mut errors = errors.lock().unwrap();
    errors.push(own.ask(one, LONG).unwrap_err());
    errors.push(own.ask_many([one, one], LONG).unwrap_err());
    errors.push(own.terminate(LONG).unwrap_err());
    errors.push(own.read_state::<Total>().unwrap_err());
    errors.push(own.snapshot().unwrap_err());
}

#[track_caller]
fn check_waits_for_oneself(errors: &Errors, calls: &[&str]) {
    let errors = errors.lock().unwrap();
    for (error, call) in errors.iter().zip(calls) {
        assert_eq!(
            error.to_string(),
            format!(
                "`{call}` of kernel `own` inside its own handler would wait for itself; call it from another thread"
            )
        );
        assert!(error.is_deadlock(), "{error:?}");
    }
}

#[test]
fn a_native_kernel_cannot_wait_for_itself() {
    let runtime = runtime();
    let (own, errors) = (Own::default(), Errors::default());
    let (inside, seen) = (own.clone(), errors.clone());
    let kernel = runtime
        .launch(RingKernel::<Reply, Reply>::native("own", move |m: Reply, _: &mut Total| {
            if m.r == 1 {
                wait_for_oneself(inside.get().unwrap(), &seen);
            }
            m
        }))
        .unwrap();
    own.set(kernel.clone()).unwrap();
    kernel.activate().unwrap();
    let begun = Instant::now();
    assert_eq!(kernel.ask(Reply { r: 1 }, LONG).unwrap().r, 1);
    assert!(begun.elapsed() < LONG / 2, "it waited for itself");
    check_waits_for_oneself(&errors, &["ask", "ask", "terminate", "read_state", "snapshot"]);
    assert_eq!(kernel.lifecycle(), KernelState::Active);
    // Once more on a caller's thread, now that the handler is known to be fast.
    kernel.ask_many([Reply { r: 0 }; 64], LONG).unwrap();
    assert_eq!(kernel.ask(Reply { r: 1 }, LONG).unwrap().r, 1);
    assert_eq!(errors.lock().unwrap().len(), 10);
    let end = kernel.terminate(LONG).unwrap();
    assert!(end.is_clean(), "{end:?}");
}

#[test]
fn a_host_kernel_cannot_wait_for_itself() {
    let runtime = runtime();
    let (own, errors) = (Own::default(), Errors::default());
    let (inside, seen) = (own.clone(), errors.clone());
    let kernel = runtime
        .launch(RingKernel::<Reply, Reply>::host("own", move |context: &mut Context<Reply, Reply>| {
            while let Some(message) = context.receive() {
                if message.r == 1 {
                    wait_for_oneself(inside.get().unwrap(), &seen);
                }
                context.reply(message.into_inner());
            }
        }))
        .unwrap();
    own.set(kernel.clone()).unwrap();
    kernel.activate().unwrap();
    let begun = Instant::now();
    assert_eq!(kernel.ask(Reply { r: 1 }, LONG).unwrap().r, 1);
    assert!(begun.elapsed() < LONG / 2, "it waited for itself");
    check_waits_for_oneself(&errors, &["ask", "ask", "terminate"]);
    assert_eq!(errors.lock().unwrap().len(), 5);
}

#[test]
fn a_full_kernel_cannot_block_on_itself() {
    let runtime = runtime();
    let own = Own::default();
    let (inside, (refusals, refusal)) = (own.clone(), channel());
    let kernel = runtime
        .launch(
            RingKernel::<Reply, Reply>::native("own", move |m: Reply, _: &mut ()| {
                if m.r == 1 {
                    let own = inside.get().unwrap();
                    own.send(Reply { r: 2 }).expect("there is one place");
                    let _ = refusals.send(own.send(Reply { r: 3 }));
                }
                m
            })
            .queue_capacity(1),
        )
        .unwrap();
    own.set(kernel.clone()).unwrap();
    kernel.activate().unwrap();
    kernel.send(Reply { r: 1 }).unwrap();
    send_refused(
        refusal.recv_timeout(LONG).unwrap(),
        Some(Reply { r: 3 }),
        Error::is_deadlock,
        "`send` of kernel `own` inside its own handler would wait for itself; call it from another thread",
    );
    assert_eq!([kernel.recv_timeout(LONG).unwrap().r, kernel.recv_timeout(LONG).unwrap().r], [1, 2]);
}

#[test]
fn a_handler_may_deactivate_its_own_kernel() {
    let runtime = runtime();
    let own = Own::default();
    let inside = own.clone();
    let kernel = runtime
        .launch(RingKernel::<Reply, Reply>::native("own", move |m: Reply, _: &mut ()| {
            if m.r == 1 {
                inside.get().unwrap().deactivate().unwrap();
            }
            m
        }))
        .unwrap();
    own.set(kernel.clone()).unwrap();
    kernel.activate().unwrap();
    assert_eq!(kernel.ask(Reply { r: 1 }, LONG).unwrap().r, 1);
    assert_eq!(kernel.lifecycle(), KernelState::Deactivated);
    send_refused(
        kernel.send(Reply { r: 2 }),
        Some(Reply { r: 2 }),
        Error::is_not_active,
        "the kernel is not active",
    );
    kernel.activate().unwrap();
    assert_eq!(kernel.ask(Reply { r: 3 }, LONG).unwrap().r, 3);
}

#[test]
fn a_handler_cannot_shut_its_runtime_down() {
    let runtime = runtime();
    let (inside, (results, result)) = (runtime.clone(), channel());
    let kernel = runtime
        .launch(RingKernel::<Reply, Reply>::native("own", move |m: Reply, _: &mut ()| {
            let _ = results.send(inside.shutdown(LONG));
            m
        }))
        .unwrap();
    kernel.activate().unwrap();
    assert_eq!(kernel.ask(Reply { r: 1 }, LONG).unwrap().r, 1);
    refused(
        result.recv_timeout(LONG).unwrap(),
        Error::is_deadlock,
        "`shutdown` inside the handler of kernel `own` would wait for itself; call it from another thread",
    );
    assert_eq!(kernel.lifecycle(), KernelState::Active);
    // The function holds a clone of the runtime: without an end it would live for ever.
    runtime.shutdown(LONG).unwrap();
    assert_eq!(kernel.lifecycle(), KernelState::Terminated);
}

#[test]
fn host_kernels_keep_their_state_to_themselves() {
    let runtime = runtime();
    let (kernel, _release) = blocked(&runtime, "k");
    let wanted = "kernel `k` is a host kernel: its state is its function's own";
    refused(kernel.read_state::<Total>(), Error::is_invalid, wanted);
    refused(kernel.snapshot(), Error::is_invalid, wanted);
}

ringwork::message! { struct Share { part: f32 } }

#[test]
fn a_state_is_read_as_what_it_is() {
    let runtime = runtime();
    let kernel = runtime.launch(RingKernel::<Reply, Total>::wgsl("k", super::SUM)).unwrap();
    assert_eq!(kernel.read_state::<Total>().unwrap(), Total { sum: 0 }, "also before it is active");
    refused(
        kernel.read_state::<super::Ask>(),
        Error::is_invalid,
        "the state of kernel `k` has 4 bytes, but `Ask` has 8",
    );
    let known = RingKernel::<Reply, Total>::wgsl("known", super::SUM).initial_state(Total { sum: 7 });
    let known = runtime.launch(known).unwrap();
    assert_eq!(known.read_state::<Total>().unwrap(), Total { sum: 7 });
    refused(
        known.read_state::<Share>(),
        Error::is_invalid,
        "the state of kernel `known` is a `Total`, whose fields are not those of this `Share`",
    );
    let echo = runtime.launch(RingKernel::<Reply, Reply>::wgsl("echo", ECHO)).unwrap();
    refused(echo.read_state::<Total>(), Error::is_invalid, "kernel `echo` has no state");
    assert!(echo.snapshot().unwrap().as_bytes().is_empty());
    kernel.terminate(LONG).unwrap();
    refused(kernel.read_state::<Total>(), Error::is_terminated, "kernel `k` is terminated");
    refused(kernel.snapshot(), Error::is_terminated, "kernel `k` is terminated");
}
