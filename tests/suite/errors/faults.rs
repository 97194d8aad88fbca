//! Messages that fault, or name what is not there.

use super::{Deposit, ECHO, Reply, Total, active, launch_refused, refused, send_refused};
use crate::common::{LONG, runtime};
use ringwork::{
    Backpressure, Context, DeadLetterReason, Error, KernelState, RestartPolicy, RestartState, RingKernel,
    message,
};
use std::time::Duration;

const SPIN: &str = "struct Total { sum: u32 }
fn on_message(m: Reply, s: ptr<function, Total>) -> Reply {
    (*s).sum += m.r;
    for (var i = 0u; i < m.r; i++) { (*s).sum += 1u; }
    return m;
}";

fn restarts(max: u32) -> RestartPolicy {
    RestartPolicy::OneForOne { max, within: Duration::from_secs(3600), state: RestartState::Current }
}

#[test]
fn an_endless_loop_uses_up_its_budget() {
    let budget = "kernel `k`: the handler used up its loop budget";
    for text in [
        "fn on_message(m: Reply) -> Reply { loop { if m.r == 0u { break; } } return m; }",
        "fn on_message(m: Reply) -> Reply { while m.r != 0u { } return m; }",
        "fn on_message(m: Reply) -> Reply { for (var i = 0u; m.r > 0u; i++) { continue; } return m; }",
        "fn f(x: u32) -> u32 { var i = x; loop { if i == 0u { break; } continuing { i |= 1u; } } return i; }
         fn on_message(m: Reply) -> Reply { return Reply(f(m.r)); }",
    ] {
        let runtime = runtime();
        let kernel = active(
            &runtime,
            RingKernel::<Reply, Reply>::wgsl("k", text).loop_budget(1000).restart(restarts(9)),
        );
        assert_eq!(kernel.ask(Reply { r: 0 }, LONG).unwrap().r, 0);
        refused(kernel.ask(Reply { r: 1 }, LONG), Error::is_failed, budget);
        assert_eq!(kernel.lifecycle(), KernelState::Active, "{text}");
        assert_eq!(kernel.ask(Reply { r: 0 }, LONG).unwrap().r, 0, "it goes on");
        let books = kernel.telemetry();
        assert_eq!((books.accepted, books.handled, books.pending, books.restarts), (3, 2, 0, 1));
        assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), 1);
        let letters = runtime.take_dead_letters();
        assert_eq!(letters.len(), 1);
        assert_eq!((letters[0].kernel.as_str(), letters[0].cause.as_str()), ("k", budget));
        assert_eq!(letters[0].reason, DeadLetterReason::Fault);
        assert_eq!(letters[0].payload.as_deref(), Some(&1u32.to_ne_bytes()[..]));
    }
}

#[test]
fn the_budget_counts_iterations_exactly_and_a_fault_commits_nothing() {
    let runtime = runtime();
    let kernel = active(
        &runtime,
        RingKernel::<Reply, Reply>::wgsl("k", SPIN).loop_budget(100).restart(restarts(1024)),
    );
    assert_eq!(kernel.ask(Reply { r: 100 }, LONG).unwrap().r, 100);
    assert_eq!(kernel.read_state::<Total>().unwrap().sum, 200);
    refused(
        kernel.ask(Reply { r: 101 }, LONG),
        Error::is_failed,
        "kernel `k`: the handler used up its loop budget",
    );
    assert_eq!(kernel.read_state::<Total>().unwrap().sum, 200, "as it was before the message");
    // A sender who does not wait hears nothing, but the books do.
    kernel.send(Reply { r: 101 }).unwrap();
    assert_eq!(kernel.ask(Reply { r: 0 }, LONG).unwrap().r, 0);
    assert_eq!(kernel.telemetry().dead_letters.get(DeadLetterReason::Fault), 2);
}

#[test]
fn a_fault_without_a_restart_fails_the_kernel() {
    let runtime = runtime();
    let kernel = active(&runtime, RingKernel::<Reply, Reply>::wgsl("k", SPIN).loop_budget(5));
    refused(
        kernel.ask(Reply { r: 6 }, LONG),
        Error::is_failed,
        "kernel `k`: the handler used up its loop budget",
    );
    assert_eq!(kernel.lifecycle(), KernelState::Failed);
    let failed = "kernel `k` has failed: kernel `k`: the handler used up its loop budget";
    refused(kernel.recv(), Error::is_failed, failed);
    refused(kernel.try_recv(), Error::is_failed, failed);
    refused(kernel.ask(Reply { r: 1 }, LONG), Error::is_failed, failed);
    assert_eq!(runtime.kernels(), [("k".to_owned(), KernelState::Failed)]);
    assert!(kernel.terminate(LONG).unwrap().is_clean());
    assert!(runtime.kernels().is_empty());
}

#[test]
fn too_many_restarts_fail_the_kernel() {
    let runtime = runtime();
    let kernel =
        active(&runtime, RingKernel::<Reply, Reply>::wgsl("k", SPIN).loop_budget(5).restart(restarts(2)));
    for expected in [KernelState::Active, KernelState::Active, KernelState::Failed] {
        assert!(kernel.ask(Reply { r: 6 }, LONG).unwrap_err().is_failed());
        assert_eq!(kernel.lifecycle(), expected);
    }
}

#[test]
fn a_panic_is_the_callers_error() {
    let runtime = runtime();
    let native = RingKernel::<Reply, Reply>::native("native", |m: Reply, total: &mut Total| {
        total.sum += 1;
        assert!(m.r < 10, "{} is too many", m.r);
        m
    });
    let native = active(&runtime, native.restart(restarts(9)));
    native.ask(Reply { r: 1 }, LONG).unwrap();
    refused(
        native.ask(Reply { r: 10 }, LONG),
        Error::is_failed,
        "kernel `native`: the handler panicked: 10 is too many",
    );
    assert_eq!(native.read_state::<Total>().unwrap().sum, 1, "nothing of it took effect");

    let host = RingKernel::<Reply, Reply>::host("host", |context: &mut Context<Reply, Reply>| {
        while let Some(message) = context.receive() {
            assert!(message.r < 10, "{} is too many", message.r);
            context.reply(message.into_inner());
        }
    });
    let host = active(&runtime, host.restart(restarts(9)));
    refused(
        host.ask(Reply { r: 10 }, LONG),
        Error::is_failed,
        "kernel `host`: its function panicked: 10 is too many",
    );
    assert_eq!(host.ask(Reply { r: 9 }, LONG).unwrap().r, 9);
}

#[test]
fn a_host_kernel_that_does_not_answer_or_ends() {
    let runtime = runtime();
    let kernel = RingKernel::<Reply, Reply>::host("host", |context: &mut Context<Reply, Reply>| {
        while let Some(message) = context.receive() {
            if message.r == 9 {
                return;
            }
        }
    });
    let kernel = active(&runtime, kernel);
    refused(
        kernel.ask(Reply { r: 1 }, LONG),
        Error::is_failed,
        "kernel `host` ended its message without a reply",
    );
    refused(
        kernel.ask(Reply { r: 9 }, LONG),
        Error::is_failed,
        "kernel `host` ended its message without a reply",
    );
    let end = std::time::Instant::now() + LONG;
    while kernel.lifecycle() != KernelState::Terminated {
        assert!(std::time::Instant::now() < end, "the kernel ends with its function");
        std::thread::yield_now();
    }
    send_refused(
        kernel.send(Reply { r: 1 }),
        Some(Reply { r: 1 }),
        Error::is_terminated,
        "the kernel is terminated",
    );
}

#[test]
fn an_instance_out_of_range_comes_back() {
    let text =
        "fn on_message(m: Deposit, s: ptr<function, Total>) -> Total { (*s).sum += m.amount; return *s; }";
    let runtime = runtime();
    let kernel = active(&runtime, RingKernel::<Deposit, Total>::wgsl("bank", text).instances(3));
    let (good, bad) = (Deposit { to: 2, amount: 5 }, Deposit { to: 3, amount: 5 });
    let wanted = "instance 3 of kernel `bank`, which has instances 0 to 2";
    send_refused(kernel.send(bad), Some(bad), Error::is_invalid, wanted);
    send_refused(kernel.try_send(bad), Some(bad), Error::is_invalid, wanted);
    send_refused(kernel.request(bad).map(drop), Some(bad), Error::is_invalid, wanted);
    refused(kernel.ask(bad, LONG), Error::is_invalid, wanted);
    send_refused(
        kernel.send_many([good, bad, good]).map(drop).map_err(|error| error.error),
        Some(bad),
        Error::is_invalid,
        wanted,
    );
    assert_eq!(kernel.ask(good, LONG).unwrap().sum, 10, "those before it went");
    let books = kernel.telemetry();
    assert_eq!((books.accepted, books.handled, books.dead_letters.total()), (2, 2, 0));
    assert_eq!(kernel.lifecycle(), KernelState::Active);
    assert_eq!(kernel.read_states::<Total>().unwrap().map_sums(), [0, 0, 10]);
}

/// The sums of a list of totals.
trait Sums {
    fn map_sums(self) -> Vec<u32>;
}
impl Sums for Vec<Total> {
    fn map_sums(self) -> Vec<u32> {
        self.into_iter().map(|total| total.sum).collect()
    }
}

#[test]
fn a_full_mailbox_says_so() {
    let runtime = runtime();
    for (strategy, comes_back) in [(Backpressure::Reject, true), (Backpressure::DropNewest, false)] {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let kernel = RingKernel::<Reply, Reply>::native("slow", move |m: Reply, _: &mut ()| {
            if m.r == 0 {
                let _ = wait.lock().unwrap().recv();
            }
            m
        });
        let kernel = active(&runtime, kernel.queue_capacity(1).backpressure(strategy));
        kernel.send(Reply { r: 0 }).unwrap();
        let end = std::time::Instant::now() + LONG;
        while kernel.telemetry().depth > 0 {
            assert!(std::time::Instant::now() < end, "the handler begins");
            std::thread::yield_now();
        }
        kernel.send(Reply { r: 1 }).unwrap();
        let message = Reply { r: 2 };
        if comes_back {
            send_refused(kernel.send(message), Some(message), Error::is_full, "the mailbox is full");
            refused(kernel.ask(message, LONG), Error::is_full, "the mailbox of kernel `slow` is full");
        } else {
            let dropped = "the message was dropped: the mailbox of kernel `slow` is full";
            send_refused(kernel.send(message), None, Error::is_dropped, dropped);
            refused(kernel.ask(message, LONG), Error::is_dropped, dropped);
        }
        drop(release);
        assert_eq!([kernel.recv_timeout(LONG).unwrap().r, kernel.recv_timeout(LONG).unwrap().r], [0, 1]);
        kernel.terminate(LONG).unwrap();
    }
}

#[test]
fn time_outs_say_what_they_waited_for() {
    let runtime = runtime();
    let short = Duration::from_millis(30);
    let kernel = RingKernel::<Reply, Reply>::wgsl("k", ECHO).queue_capacity(1).output_capacity(2);
    let kernel = active(&runtime, kernel);
    refused(kernel.recv_timeout(short), Error::is_timed_out, "receive from kernel `k` timed out after 30ms");
    for r in 0..3 {
        kernel.send(Reply { r }).unwrap();
    }
    let message = Reply { r: 3 };
    send_refused(
        kernel.send_timeout(message, short),
        Some(message),
        Error::is_timed_out,
        "send to kernel `k` timed out: 2 replies of `k` not received",
    );
    refused(
        kernel.ask(message, short),
        Error::is_timed_out,
        "send to kernel `k` timed out: 2 replies of `k` not received",
    );
    send_refused(kernel.try_send(message), Some(message), Error::is_full, "the mailbox is full");
    // The third is handled as soon as there is room, perhaps while the first two are received.
    let replies: Vec<_> = (0..3).map(|_| kernel.recv_timeout(LONG).unwrap().r).collect();
    assert_eq!(replies, [0, 1, 2]);
    assert_eq!(kernel.ask(message, LONG).unwrap().r, 3);
    kernel.deactivate().unwrap();
}

#[test]
fn a_queued_ask_of_a_deactivated_kernel_says_so() {
    let runtime = runtime();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let kernel = RingKernel::<Reply, Reply>::native("slow", move |m: Reply, _: &mut ()| {
        if m.r == 0 {
            let _ = wait.lock().unwrap().recv();
        }
        m
    });
    let kernel = active(&runtime, kernel);
    kernel.send(Reply { r: 0 }).unwrap();
    let end = std::time::Instant::now() + LONG;
    while kernel.telemetry().depth > 0 {
        assert!(std::time::Instant::now() < end, "the handler begins");
        std::thread::yield_now();
    }
    let queued = kernel.request(Reply { r: 1 }).unwrap();
    refused(
        kernel.deactivate_timeout(Duration::from_millis(20)),
        Error::is_timed_out,
        "deactivate of kernel `slow`: no message begins any more, but the one in hand timed out after 20ms",
    );
    refused(
        queued.wait(Duration::from_millis(20)),
        Error::is_timed_out,
        "a request of kernel `slow` timed out: it is Deactivated with 1 messages queued",
    );
    drop(release);
}

#[test]
fn more_values_than_declared_are_a_fault() {
    let text = "fn on_message(m: Reply) -> Reply {
        for (var i = 0u; i < m.r; i++) { emit_out(Reply(i)); }
        return m;
    }";
    let runtime = runtime();
    let kernel =
        RingKernel::<Reply, Reply>::wgsl("k", text).output_many::<Reply>("out", 3).restart(restarts(9));
    let kernel = active(&runtime, kernel);
    assert_eq!(kernel.ask(Reply { r: 3 }, LONG).unwrap().r, 3);
    refused(
        kernel.ask(Reply { r: 4 }, LONG),
        Error::is_failed,
        "kernel `k`: the handler emitted more values than its output declares",
    );
    let out = kernel.output::<Reply>("out").unwrap();
    let values: Vec<_> = (0..3).map(|_| out.recv_timeout(LONG).unwrap().r).collect();
    assert_eq!(values, [0, 1, 2]);
    assert_eq!(out.try_recv().unwrap(), None, "what the faulty message emitted is gone");
    assert_eq!(kernel.telemetry().emitted, 3);
}

#[test]
fn unit_kernels_do_not_take_what_they_cannot_have() {
    // The empty message is `()`: a handler without a message parameter.
    let runtime = runtime();
    let ticks = RingKernel::<(), Total>::wgsl(
        "ticks",
        "struct Count { n: u32 }
         fn on_message(s: ptr<function, Count>) -> Total { (*s).n += 1u; return Total((*s).n); }",
    );
    let ticks = active(&runtime, ticks);
    for expected in 1..=3 {
        assert_eq!(ticks.ask((), LONG).unwrap().sum, expected);
    }
    message! { pub struct Unused { pub x: u32 } }
    launch_refused(
        RingKernel::<(), ()>::wgsl("k", "fn on_message(m: Unused) {} struct Unused { x: u32 }"),
        Error::is_rejected,
        "k:1:15: the state parameter is not a `ptr<function, …>` in `fn on_message(m: Unused)`; write \
         `fn on_message(s: ptr<function, State>)`",
    );
    launch_refused(
        RingKernel::<Reply, ()>::wgsl("k", "fn on_message(m: Reply) {}").output::<()>("nothing"),
        Error::is_rejected,
        "k:1:1: the output `nothing` carries the unit type, which has no value in WGSL; give it a message type",
    );
}
