//! Guarantee 6: faults are visible at once, cost one message, and leave the state as it was.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{
    Backpressure, Context, DeadLetterReason, Execution, Handle, KernelState, RestartPolicy, RestartState,
    RingKernel, SendError, message,
};
use std::time::{Duration, Instant};

message! {
    /// Sent out by a handler.
    pub struct Note { pub number: u32 }
}

const GO_ON: RestartPolicy =
    RestartPolicy::OneForOne { max: u32::MAX, within: Duration::from_secs(60), state: RestartState::Current };

/// The counter, whose `FAULT` is soon noticed in every kind.
fn faulty(kind: Kind, latch: &Latch) -> RingKernel<Job, Answer> {
    let kernel = counter(kind, "faulty", latch);
    if kind == Kind::Wgsl { kernel.loop_budget(2000) } else { kernel }
}

/// What the cause of such a fault has to say.
fn cause(kind: Kind) -> &'static str {
    if kind == Kind::Wgsl { "loop" } else { PANIC }
}

#[test]
fn a_waiting_caller_gets_the_cause_at_once() {
    each_kind(|kind| {
        for policy in [RestartPolicy::Never, GO_ON] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = runtime.launch(faulty(kind, &latch).restart(policy)).unwrap();
            kernel.activate().unwrap();
            let begun = Instant::now();
            let error = kernel.ask(job(1).action(FAULT), PATIENCE).unwrap_err();
            assert!(begun.elapsed() < LONG, "at once, not at the deadline");
            assert!(error.is_failed(), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("`faulty`") && text.contains(cause(kind)), "{text}");
            if policy == RestartPolicy::Never {
                eventually("it has failed", || kernel.lifecycle() == KernelState::Failed);
            } else {
                assert_eq!(kernel.ask(job(2), LONG).unwrap().number, 2, "it goes on");
            }
            let letters = runtime.take_dead_letters();
            assert_eq!(letters.len(), 1);
            assert_eq!(letters[0].reason, DeadLetterReason::Fault);
            assert!(letters[0].cause.contains(cause(kind)), "{:?}", letters[0]);
        }
    });
}

#[test]
fn a_kernel_that_fails_tells_everybody_who_waits() {
    bounded(|| {
        for kind in [Kind::Native, Kind::Host] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = runtime.launch(faulty(kind, &latch).queue_capacity(6)).unwrap();
            kernel.activate().unwrap();
            crate::threads::scope(|scope| {
                kernel.send(job(0).action(BLOCK)).unwrap();
                latch.await_arrivals(1);
                kernel.send(job(1).action(FAULT)).unwrap();
                let asks: Vec<_> = (2..6)
                    .map(|number| {
                        scope.spawn({
                            let kernel = &kernel;
                            move || kernel.ask(job(number), PATIENCE)
                        })
                    })
                    .collect();
                let request = kernel.request(job(6)).unwrap();
                eventually("the mailbox is full", || kernel.telemetry().depth == 6);
                let sender = scope.spawn(|| kernel.send(job(7)));
                let receiver = scope.spawn(|| {
                    let first = kernel.recv();
                    (first, kernel.recv())
                });
                std::thread::sleep(Duration::from_millis(10));
                latch.open();
                for ask in asks {
                    let error = ask.join().unwrap().unwrap_err();
                    assert!(error.is_failed() && error.to_string().contains(PANIC), "{error}");
                }
                assert!(request.wait(LONG).is_err_and(|error| error.is_failed()));
                match sender.join().unwrap() {
                    Err(SendError::Failed(back, error)) => {
                        assert_eq!(back.number, 7);
                        assert!(error.to_string().contains(PANIC), "{error}");
                    }
                    // It may have slipped in when the first message left.
                    Ok(()) => {}
                    other => panic!("{other:?}"),
                }
                let (first, then) = receiver.join().unwrap();
                assert_eq!(first.unwrap().number, 0, "what was replied before can be received");
                assert!(then.is_err_and(|error| error.is_failed()));
            });
            assert_eq!(kernel.lifecycle(), KernelState::Failed);
        }
    });
}

#[test]
fn a_failed_kernel_keeps_what_it_has_not_begun() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        // The first reply stalls it, so that the others are in the mailbox together.
        let kernel = runtime.launch(faulty(kind, &latch).output_capacity(1)).unwrap();
        kernel.activate().unwrap();
        for number in 0..10 {
            let action = if number == 5 { FAULT } else { COUNT };
            kernel.send(job(number).action(action)).unwrap();
        }
        for number in 0..5 {
            assert_eq!(kernel.recv_timeout(LONG).unwrap().number, number, "completed before the fault");
        }
        eventually("it has failed", || kernel.lifecycle() == KernelState::Failed);
        let books = kernel.telemetry();
        check_books(&books);
        assert_eq!((books.handled, books.pending), (5, 4));
        assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), 1);
        assert!(kernel.recv_timeout(LONG).is_err_and(|error| error.is_failed()));
        for result in [kernel.send(job(10)), kernel.try_send(job(10)), kernel.send_timeout(job(10), LONG)] {
            let Err(SendError::Failed(back, error)) = result else { panic!("{result:?}") };
            assert_eq!(back.number, 10);
            assert!(error.is_failed() && error.to_string().contains(cause(kind)), "{error}");
        }
        assert!(kernel.ask(job(11), LONG).is_err_and(|error| error.is_failed()));
        assert!(kernel.activate().is_err_and(|error| error.is_illegal_state()));
        assert!(kernel.deactivate().is_err_and(|error| error.is_illegal_state()));
        let end = kernel.terminate(LONG).unwrap();
        let numbers: Vec<u32> = end.returned.iter().map(|message| message.number).collect();
        assert_eq!((numbers, end.abandoned, end.detached), (vec![6, 7, 8, 9], None, false));
        assert_eq!(kernel.lifecycle(), KernelState::Terminated);
        runtime.launch(counter(kind, "faulty", &latch)).expect("its name is free");
    });
}

#[test]
fn neighbours_of_a_faulty_message_are_handled() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(faulty(kind, &latch).restart(GO_ON)).unwrap();
        kernel.activate().unwrap();
        let faulty = |number: u32| number % 7 == 3;
        let batch = (0..700).map(|number| job(number).action(if faulty(number) { FAULT } else { COUNT }));
        kernel.send_many(batch).unwrap();
        let mut count = 0;
        for number in (0..700).filter(|number| !faulty(*number)) {
            let answer = kernel.recv_timeout(LONG).unwrap();
            assert_eq!(answer.number, number, "in order, none missing");
            count += 1;
            // A host kernel's state is its function's own, which begins again.
            assert!(kind == Kind::Host || answer.count == count, "{answer:?}");
        }
        let books = settled(&kernel);
        assert_eq!((books.handled, books.restarts), (600, 100));
        assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), 100);
    });
}

#[test]
fn neighbours_in_a_parallel_round_are_handled_and_stay_in_order() {
    bounded(|| {
        let runtime = runtime();
        let kernel = RingKernel::<Job, Answer>::wgsl(
            "parallel",
            "fn on_message(m: Job) -> Answer {
                var noise = 0u;
                for (var i = 0u; i < 200u || m.action == 2u; i++) { noise = noise * 31u + i; }
                return Answer(m.sender, m.number, noise, 0u);
            }",
        );
        let kernel = kernel.loop_budget(1000).restart(GO_ON).queue_capacity(4096).output_capacity(4096);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        let faulty = |number: u32| number % 97 == 50;
        let batch = (0..4000).map(|number| job(number).action(if faulty(number) { FAULT } else { COUNT }));
        kernel.send_many(batch).unwrap();
        let mut faults = 4000;
        for number in (0..4000).filter(|number| !faulty(*number)) {
            assert_eq!(kernel.recv_timeout(LONG).unwrap().number, number);
            faults -= 1;
        }
        let books = settled(&kernel);
        assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), faults);
    });
}

#[test]
fn a_faulty_message_leaves_the_state_as_it_was() {
    bounded(|| {
        for kind in [Kind::Wgsl, Kind::Native] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = runtime.launch(faulty(kind, &latch).restart(GO_ON)).unwrap();
            kernel.activate().unwrap();
            for number in 1..=10 {
                kernel.ask(job(number), LONG).unwrap();
            }
            let before: Tally = kernel.read_state().unwrap();
            assert_eq!((before.count, before.sum), (10, 55));
            assert!(kernel.ask(job(1).action(FAULT), LONG).is_err_and(|error| error.is_failed()));
            assert_eq!(kernel.read_state::<Tally>().unwrap(), before);
            let answer = kernel.ask(job(5), LONG).unwrap();
            assert_eq!((answer.count, answer.sum), (11, 60));
        }
    });
}

#[test]
fn what_a_faulty_message_emitted_is_not_sent() {
    bounded(|| {
        let runtime = runtime();
        let source = "
            fn on_message(m: Job) {
                emit_notes(Note(m.number));
                if m.action == 1u { emit_notes(Note(m.number)); }
                while m.action == 2u { }
            }";
        let kernel = RingKernel::<Job, ()>::wgsl("emits", source).output::<Note>("notes");
        let kernel = runtime.launch(kernel.loop_budget(100).restart(GO_ON)).unwrap();
        let notes = kernel.output::<Note>("notes").unwrap();
        kernel.activate().unwrap();
        kernel.ask(job(1), LONG).unwrap();
        let error = kernel.ask(job(2).action(1), LONG).unwrap_err();
        assert!(error.is_failed() && error.to_string().contains("emit"), "more than declared: {error}");
        let error = kernel.ask(job(3).action(FAULT), LONG).unwrap_err();
        assert!(error.is_failed() && error.to_string().contains("loop"), "{error}");
        kernel.ask(job(4), LONG).unwrap();
        assert_eq!(notes.recv_timeout(LONG).unwrap().number, 1);
        assert_eq!(notes.recv_timeout(LONG).unwrap().number, 4);
        assert_eq!(notes.try_recv().unwrap(), None);
        assert_eq!(settled_unit(&kernel).0, (4, 2, 2));
    });
}

/// Accepted, handled, emitted, once nothing is pending.
fn settled_unit(kernel: &Handle<Job, ()>) -> ((u64, u64, u64), u64) {
    eventually("nothing is pending", || kernel.telemetry().pending == 0);
    let books = kernel.telemetry();
    check_books(&books);
    ((books.accepted, books.handled, books.emitted), books.dead_letters.total())
}

#[test]
fn the_loop_budget_is_exact_per_message() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = counter(Kind::Wgsl, "budget", &latch).loop_budget(500).restart(GO_ON);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        let asked = |loops| kernel.ask(Job { loops, ..job(0) }, LONG);
        // The budget is each message's own: what others used does not count.
        for _ in 0..10 {
            asked(490).unwrap();
        }
        let bound = (400..600).find(|&loops| asked(loops).is_err()).expect("the budget ends somewhere");
        assert!((500..=501).contains(&bound), "500 iterations, and the check that ends the loop: {bound}");
        assert!(asked(bound).is_err_and(|error| error.is_failed()), "the same message faults every time");
        asked(bound - 1).unwrap();
    });
}

#[test]
fn a_host_kernel_that_does_not_reply_is_visible() {
    bounded(|| {
        let runtime = runtime();
        let kernel = runtime
            .launch(RingKernel::host(
                "mute",
                |context: &mut Context<Job, Answer>| while context.receive().is_some() {},
            ))
            .unwrap();
        kernel.activate().unwrap();
        let begun = Instant::now();
        let error = kernel.ask(job(1), PATIENCE).unwrap_err();
        assert!(error.is_failed() && error.to_string().contains("without a reply"), "{error}");
        assert!(begun.elapsed() < LONG);
        assert_eq!(settled(&kernel).handled, 1);
    });
}

#[test]
fn a_fault_while_the_kernel_drains_ends_the_drain_unless_it_restarts() {
    let mut kinds = vec![Kind::Native];
    // What a device was given together with the faulty message is its neighbour, and handled.
    if device().execution == Execution::Host {
        kinds.push(Kind::Wgsl);
    }
    bounded(move || {
        for (kind, policy) in kinds.iter().flat_map(|kind| [(*kind, RestartPolicy::Never), (*kind, GO_ON)]) {
            let (runtime, latch) = (runtime(), Latch::new());
            let mut kernel = counter(kind, "faulty", &latch).restart(policy);
            let mut hold = Duration::ZERO;
            if kind == Kind::Wgsl {
                hold = Duration::from_millis(100);
                kernel = kernel.loop_budget(loops_for(3 * hold));
            }
            let kernel = runtime.launch(kernel).unwrap();
            kernel.activate().unwrap();
            kernel.send(job(0).action(BLOCK).taking(hold)).unwrap();
            kernel.send(job(1).action(FAULT)).unwrap();
            let asked = kernel.request(job(2)).unwrap();
            kernel.send(job(3)).unwrap();
            crate::threads::scope(|scope| {
                let terminating = scope.spawn(|| kernel.terminate(LONG).unwrap());
                eventually("it drains", || kernel.lifecycle() != KernelState::Active);
                latch.open();
                let (end, answer) = (terminating.join().unwrap(), asked.wait(LONG));
                let returned: Vec<u32> = end.returned.iter().map(|message| message.number).collect();
                if policy == GO_ON {
                    assert!(end.is_clean() && answer.is_ok(), "{kind:?}: {end:?}, {answer:?}");
                    return;
                }
                assert_eq!(returned, [2, 3], "{kind:?}: nothing is handled after the fault");
                let error = answer.unwrap_err();
                assert!(error.is_failed() && error.to_string().contains(cause(kind)), "{kind:?}: {error}");
            });
            let books = settled(&kernel);
            assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), 1);
            assert_eq!(books.handled, if policy == GO_ON { 3 } else { 1 }, "{kind:?}");
        }
    });
}

#[test]
fn a_reply_does_not_wait_for_a_neighbour_that_hangs() {
    bounded(|| {
        type Make = fn(&Latch) -> RingKernel<Job, Answer>;
        let shapes: [(&str, Make); 4] = [
            ("serial", |latch| counter(Kind::Native, "neighbours", latch)),
            ("instances", |latch| counter(Kind::Native, "neighbours", latch).instances(3)),
            ("stateless", |latch| stateless("neighbours", latch)),
            ("host", |latch| counter(Kind::Host, "neighbours", latch)),
        ];
        for (shape, make) in shapes {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = make(&latch).output_backpressure(Backpressure::DropOldest);
            let kernel = runtime.launch(kernel).unwrap();
            kernel.activate().unwrap();
            kernel.send(job(0).action(BLOCK)).unwrap();
            latch.await_arrivals(1);
            // In the mailbox together, so that a driver may take them in one go.
            let first = kernel.request(job(1)).unwrap();
            kernel.send(job(2).action(BLOCK)).unwrap();
            latch.let_one();
            latch.await_arrivals(2);
            let answer = first.wait(Duration::from_secs(2));
            assert!(answer.is_ok(), "{shape}: it was handled, and its caller waits: {answer:?}");
            assert_eq!(kernel.telemetry().handled, 2, "{shape}");
            latch.open();
            assert_eq!(settled(&kernel).handled, 3);
        }
    });
}

#[test]
fn whoever_hears_of_a_fatal_fault_finds_the_kernel_failed() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        for _ in 0..if kind == Kind::Wgsl { 20 } else { 300 } {
            let kernel = runtime.launch(faulty(kind, &latch)).unwrap();
            kernel.activate().unwrap();
            let error = kernel.ask(job(1).action(FAULT), LONG).unwrap_err();
            assert!(error.is_failed() && error.to_string().contains(cause(kind)), "{error:?}");
            assert_eq!(kernel.lifecycle(), KernelState::Failed);
            assert_eq!(runtime.take_dead_letters().len(), 1);
            kernel.terminate(LONG).unwrap();
        }
    });
}
