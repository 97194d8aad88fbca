//! Guarantee 4 with handlers that never end: `terminate` and `shutdown` are bounded, and say what was left.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{
    Context, DeadLetterReason, Handle, KernelState, Options, RestartPolicy, RingKernel, Runtime, SendError,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A message that its handler never ends with: WGSL is endless by itself, the others wait at the latch.
fn endless(kind: Kind, number: u32) -> Job {
    if kind == Kind::Wgsl { Job { loops: u32::MAX, ..job(number) } } else { job(number).action(BLOCK) }
}

/// A kernel in the middle of an endless message, with `queued` ones behind it.
fn stuck(runtime: &Runtime, kind: Kind, name: &str, latch: &Latch, queued: u32) -> Handle<Job, Answer> {
    let kernel = runtime.launch(holdable(runtime, kind, name, latch)).unwrap();
    kernel.activate().unwrap();
    kernel.send(endless(kind, 0)).unwrap();
    if kind != Kind::Wgsl {
        latch.await_arrivals(1);
    }
    eventually("the handler has begun", || kernel.telemetry().depth == 0);
    for number in 1..=queued {
        kernel.send(job(number)).unwrap();
    }
    kernel
}

#[test]
fn terminate_is_bounded_whatever_the_handler_does() {
    each_endless_kind(|kind| {
        within(Duration::from_millis(400), &format!("terminate(200 ms) of a stuck {kind:?} kernel"), |_| {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = stuck(&runtime, kind, "stuck", &latch, 5);
            let request = kernel.request(job(6)).unwrap();
            let begun = Instant::now();
            let end = kernel.terminate(Duration::from_millis(200)).unwrap();
            let took = begun.elapsed();
            assert!(took >= Duration::from_millis(200), "the handler had that long to end: {took:?}");

            assert!(!end.is_clean());
            if kind == Kind::Wgsl && end.detached {
                // Its thread got no processor in which to see that it was stopped: measure again.
                return Duration::MAX;
            }
            assert_eq!(
                end.detached,
                kind != Kind::Wgsl,
                "only a handler that cannot be stopped is left to itself"
            );
            let numbers: Vec<u32> = end.returned.iter().map(|message| message.number).collect();
            assert_eq!(numbers, [1, 2, 3, 4, 5, 6], "the rest, in order");
            assert!(request.wait(LONG).is_err_and(|error| error.is_terminated()));
            let books = kernel.telemetry();
            check_books(&books);
            assert_eq!((books.accepted, books.handled, books.returned, books.pending), (7, 0, 6, 0));
            assert_eq!(books.dead_letters.get(DeadLetterReason::Abandoned), 1);
            let letters = runtime.take_dead_letters();
            assert_eq!(letters.len(), 1);
            assert_eq!(
                (letters[0].reason, Some(letters[0].id)),
                (DeadLetterReason::Abandoned, end.abandoned)
            );
            assert_eq!(kernel.lifecycle(), KernelState::Terminated);

            // The name is free, also while the old handler is still at it.
            let again = runtime.launch(counter(kind, "stuck", &latch)).expect("the name is free");
            again.activate().unwrap();
            assert_eq!(again.ask(job(1), LONG).unwrap().count, 1);
            assert!(matches!(kernel.send(job(1)), Err(SendError::Terminated(_))));

            // Whatever the old handler still comes to is nobody's.
            latch.open();
            if kind != Kind::Wgsl {
                latch.await_passed(1);
            }
            std::thread::sleep(Duration::from_millis(5));
            let later = kernel.telemetry();
            check_books(&later);
            assert_eq!(
                (later.handled, later.pending, later.unread_replies),
                (0, 0, 0),
                "a late result counts"
            );
            assert!(kernel.recv().is_err_and(|error| error.is_terminated()));
            assert_eq!(again.telemetry().handled, 1);
            took
        });
    });
}

#[test]
fn a_caller_of_a_stuck_handler_is_told_at_termination() {
    each_endless_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(holdable(&runtime, kind, "asked", &latch)).unwrap();
        kernel.activate().unwrap();
        crate::threads::scope(|scope| {
            let asking = scope.spawn(|| kernel.ask(endless(kind, 0), PATIENCE));
            eventually("it is taken", || {
                let books = kernel.telemetry();
                books.accepted == 1 && books.depth == 0
            });
            let end = kernel.terminate(Duration::from_millis(20)).unwrap();
            let error = asking.join().unwrap().unwrap_err();
            assert!(error.is_terminated(), "{error:?}");
            assert!(end.abandoned.is_some() && end.returned.is_empty(), "{end:?}");
        });
    });
}

#[test]
fn what_was_handled_before_the_stuck_one_is_not_returned() {
    bounded(|| {
        for kind in [Kind::Native, Kind::Host] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = runtime.launch(counter(kind, "partly", &latch)).unwrap();
            kernel.activate().unwrap();
            kernel.send(job(0).action(BLOCK)).unwrap();
            latch.await_arrivals(1);
            // These are in the mailbox together: a driver may take them in one go.
            for number in 1..8 {
                kernel.send(job(number).action(if number == 4 { BLOCK } else { COUNT })).unwrap();
            }
            latch.let_one();
            latch.await_arrivals(2);
            let end = kernel.terminate(Duration::from_millis(20)).unwrap();
            let numbers: Vec<u32> = end.returned.iter().map(|message| message.number).collect();
            assert_eq!(numbers, [5, 6, 7], "{kind:?}: 0 to 3 were handled, 4 is in hand");
            let books = kernel.telemetry();
            check_books(&books);
            assert_eq!((books.handled, books.pending), (4, 0), "{kind:?}");
            let letters = runtime.take_dead_letters();
            assert_eq!(letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [end.abandoned.unwrap()]);
            if let Some(payload) = &letters[0].payload {
                assert_eq!(payload[4..8], 4u32.to_ne_bytes(), "{kind:?}: the dead letter is the one in hand");
            }
            let replies: Vec<u32> = kernel.iter().map(|answer| answer.number).collect();
            assert_eq!(replies, [0, 1, 2, 3], "{kind:?}: their replies were produced");
        }
    });
}

#[test]
fn what_ran_beside_a_stuck_message_is_not_returned() {
    if !endless_kinds().contains(&Kind::Wgsl) {
        return;
    }
    bounded(|| {
        let runtime = runtime();
        let marks = runtime.buffer(&[0u32; 256]).unwrap();
        // The mark is the last thing that a handler does.
        let source = "
            @group(1) @binding(0) var<storage, read_write> marks: array<atomic<u32>>;
            fn on_message(m: Job, s: ptr<function, Tally>) {
                var noise = m.number;
                for (var i = 0u; i < m.loops; i++) { noise = churn(noise); }
                (*s).noise ^= noise;
                atomicAdd(&marks[m.to], 1u);
            }";
        let kernel = RingKernel::<Job, ()>::wgsl("beside", with_churn(source));
        let kernel = kernel.initial_state(Tally::default()).instances(256).loop_budget(u32::MAX);
        let kernel = runtime.launch(kernel.queue_capacity(512).bind("marks", &marks)).unwrap();
        kernel.activate().unwrap();
        let message = |number: u32| Job { to: number, ..job(number) }.taking(Duration::from_micros(50));
        // So that what they take is known, and they are worth all cores.
        for _ in 0..4 {
            kernel.send_many((0..256).map(message)).unwrap();
            eventually("they are handled", || kernel.telemetry().pending == 0);
        }
        // One in the middle of a round does not end; the others have instances of their own.
        let endless = |number: u32| if number == 100 { u32::MAX } else { message(number).loops };
        kernel.send_many((0..256).map(|number| Job { loops: endless(number), ..message(number) })).unwrap();
        let end = kernel.terminate(Duration::from_millis(300)).unwrap();
        let books = kernel.telemetry();
        check_books(&books);
        assert!(books.dead_letters.get(DeadLetterReason::Abandoned) >= 1, "{books:?}");
        let marks = marks.to_vec().unwrap();
        let ran: Vec<u32> = end
            .returned
            .iter()
            .map(|back| back.number)
            .filter(|number| marks[*number as usize] > 4)
            .collect();
        assert!(ran.is_empty(), "returned, although they ran: {ran:?}");
        let letters = runtime.take_dead_letters();
        assert_eq!(letters.last().map(|letter| letter.id), end.abandoned, "the one in hand is the last");
        let hand = letters.last().and_then(|letter| letter.payload.clone()).unwrap();
        let hand = u32::from_ne_bytes(hand[4..8].try_into().unwrap());
        // On a busy machine one before it may not have come to its end either.
        assert!(hand <= 100 && marks[hand as usize] == 4, "in hand: {hand}");
    });
}

#[test]
fn the_books_of_a_batch_that_gets_stuck_are_right() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(Kind::Native, "trusted", &latch).output_capacity(1)).unwrap();
        kernel.activate().unwrap();
        for _ in 0..300 {
            kernel.ask(job(0), LONG).unwrap();
        }
        // A handler known to be fast is given many at once: behind the one reply that nobody receives, then.
        kernel.send(job(0)).unwrap();
        eventually("the reply is there", || kernel.telemetry().unread_replies == 1);
        let options = Options::default().discard_reply();
        kernel.send(job(0)).unwrap();
        for number in 1..8 {
            let action = if number == 4 { BLOCK } else { COUNT };
            kernel.send_with(job(number).action(action), options).unwrap();
        }
        kernel.recv_timeout(LONG).unwrap();
        latch.await_arrivals(1);
        let end = kernel.terminate(Duration::from_millis(20)).unwrap();
        let numbers: Vec<u32> = end.returned.iter().map(|message| message.number).collect();
        assert_eq!(numbers, [5, 6, 7], "0 to 3 were handled, 4 is in hand");
        let books = kernel.telemetry();
        check_books(&books);
        assert_eq!((books.handled, books.pending), (300 + 2 + 3, 0));
        let letters = runtime.take_dead_letters();
        let numbers: Vec<_> =
            letters.iter().map(|letter| letter.payload.as_ref().unwrap()[4..8].to_vec()).collect();
        assert_eq!(numbers, [4u32.to_ne_bytes()], "the dead letter is the one in hand");
        latch.open();
        latch.await_passed(1);
        std::thread::sleep(Duration::from_millis(5));
        let later = kernel.telemetry();
        check_books(&later);
        assert_eq!((later.handled, later.pending), (305, 0), "the late result does not count");
    });
}

#[test]
fn a_handler_stuck_on_its_callers_own_thread_does_not_hold_up_terminate() {
    bounded(|| {
        for asks in [true, false] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = runtime.launch(counter(Kind::Native, "direct", &latch)).unwrap();
            kernel.activate().unwrap();
            // Until it is known to be fast, whereupon callers run it themselves.
            for _ in 0..300 {
                kernel.ask(job(0), LONG).unwrap();
            }
            crate::threads::scope(|scope| {
                let caller = scope.spawn(|| {
                    let message = job(7).action(BLOCK);
                    if asks {
                        kernel.ask(message, PATIENCE).map(drop).map_err(|error| error.is_terminated())
                    } else {
                        kernel.send(message).map_err(|error| matches!(error, SendError::Terminated(_)))
                    }
                });
                latch.await_arrivals(1);
                for number in 0..3 {
                    kernel.send(job(number)).unwrap();
                }
                let end = kernel.terminate(Duration::from_millis(20)).unwrap();
                assert!(end.detached, "{end:?}");
                let numbers: Vec<u32> = end.returned.iter().map(|message| message.number).collect();
                assert_eq!(numbers, [0, 1, 2]);
                let books = kernel.telemetry();
                check_books(&books);
                assert_eq!((books.accepted, books.handled, books.pending), (304, 300, 0));
                assert_eq!(books.dead_letters.get(DeadLetterReason::Abandoned), 1);
                latch.open();
                // A `send` that only queued the message has ended long ago.
                let ended = caller.join().unwrap();
                assert!(ended == Err(true) || !asks && ended == Ok(()), "{ended:?}");
                let later = kernel.telemetry();
                check_books(&later);
                assert_eq!((later.handled, later.dead_letters.total()), (300, 1), "the late result counts");
            });
        }
    });
}

#[test]
fn what_a_stuck_handler_held_is_free_when_it_ends_also_while_there_is_a_handle() {
    bounded(|| {
        let (runtime, latch, held) = (runtime(), Latch::new(), Arc::new(()));
        let (freed, passes) = (Arc::downgrade(&held), latch.inner());
        let kernel = RingKernel::native("holding", move |job: Job, _: &mut ()| {
            let _held = &held;
            passes.pass();
            Answer { number: job.number, ..Answer::default() }
        });
        let kernel = runtime.launch(kernel.background()).unwrap();
        kernel.activate().unwrap();
        kernel.send(job(0)).unwrap();
        latch.await_arrivals(1);
        assert!(kernel.terminate(Duration::ZERO).unwrap().detached);
        assert!(freed.upgrade().is_some(), "the handler still runs");
        latch.open();
        eventually("the handler is gone", || freed.upgrade().is_none());
        check_books(&kernel.telemetry());
    });
}

#[test]
fn a_host_kernel_that_asks_whether_to_end_is_not_left_behind() {
    bounded(|| {
        let runtime = runtime();
        let kernel = RingKernel::host("polite", |context: &mut Context<Job, Answer>| {
            while let Some(job) = context.receive() {
                while !context.should_terminate() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                context.reply(Answer { number: job.number, ..Answer::default() });
            }
        });
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        kernel.send_many((0..3).map(job)).unwrap();
        eventually("it has taken one", || kernel.telemetry().depth == 2);
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!(kernel.telemetry().handled, 0);
        let end = kernel.terminate(LONG).unwrap();
        assert!(end.is_clean(), "{end:?}");
        assert_eq!(end.drained, 3);
        assert_eq!(kernel.iter().map(|answer| answer.number).collect::<Vec<_>>(), [0, 1, 2]);
    });
}

#[test]
fn shutdown_is_bounded_with_stuck_handlers() {
    bounded(|| {
        let (runtime, native, host) = (runtime(), Latch::new(), Latch::new());
        let wgsl = Latch::new();
        let mut kernels = vec![
            stuck(&runtime, Kind::Native, "stuck-native", &native, 2),
            stuck(&runtime, Kind::Host, "stuck-host", &host, 2),
        ];
        if endless_kinds().contains(&Kind::Wgsl) {
            kernels.push(stuck(&runtime, Kind::Wgsl, "stuck-wgsl", &wgsl, 2));
        }
        let fine = runtime.launch(counter(Kind::Native, "fine", &wgsl)).unwrap();
        fine.activate().unwrap();
        let begun = Instant::now();
        let error = runtime.shutdown(Duration::from_millis(200)).unwrap_err();
        // Not a promise about milliseconds: it did not wait for handlers that never end.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let text = error.to_string();
        assert!(error.is_timed_out(), "{error:?}");
        assert!(text.contains("`stuck-native`") && text.contains("`stuck-host`"), "{text}");
        assert!(!text.contains("`fine`"), "{text}");
        for kernel in &kernels {
            assert_eq!(kernel.lifecycle(), KernelState::Terminated);
            let books = kernel.telemetry();
            check_books(&books);
            assert_eq!((books.pending, books.returned), (0, 2), "{kernel:?}");
        }
        assert!(runtime.kernels().is_empty());
        let refused = runtime.launch(counter(Kind::Native, "late", &native));
        assert!(refused.is_err_and(|error| error.is_terminated()));
    });
}

#[test]
fn shutdown_waits_for_a_kernel_that_another_thread_terminates() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        // More messages than a driver runs before it lets another kernel have its thread.
        let kernel = runtime.launch(counter(Kind::Native, "slow", &latch).background()).unwrap();
        kernel.activate().unwrap();
        kernel.send_many((0..30).map(|number| job(number).taking(Duration::from_millis(10)))).unwrap();
        crate::threads::scope(|scope| {
            let terminating = scope.spawn(|| kernel.terminate(LONG).unwrap());
            eventually("it drains", || kernel.lifecycle() == KernelState::Terminating);
            runtime.shutdown(LONG).unwrap();
            let end = terminating.join().unwrap();
            assert!(end.is_clean(), "there was time for all of them: {end:?}");
        });
        assert_eq!(kernel.telemetry().handled, 30);
    });
}

#[test]
fn the_last_clone_dropped_shuts_down() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "orphan", &latch)).unwrap();
        kernel.activate().unwrap();
        let clone = runtime.clone();
        drop(runtime);
        assert_eq!(kernel.ask(job(1), LONG).unwrap().count, 1, "a clone is left");
        kernel.send(job(2)).unwrap();
        drop(clone);
        assert_eq!(kernel.lifecycle(), KernelState::Terminated, "a handle does not keep it alive");
        assert_eq!(kernel.telemetry().handled, 2, "what was queued has been handled");
        assert!(kernel.ask(job(3), LONG).is_err_and(|error| error.is_terminated()));
    });
}

#[test]
fn dropping_a_handle_stops_nothing() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "kept", &latch)).unwrap();
        kernel.activate().unwrap();
        kernel.send(job(1)).unwrap();
        drop(kernel);
        let kernel = runtime.handle::<Job, Answer>("kept").unwrap();
        assert_eq!(kernel.ask(job(2), LONG).unwrap().count, 2);
        assert!(runtime.handle::<Job, Job>("kept").is_err_and(|error| error.is_invalid()), "other types");
        assert!(runtime.handle::<Job, Answer>("other").is_err_and(|error| error.is_invalid()));
        assert!(
            runtime.launch(counter(kind, "kept", &latch)).is_err_and(|error| error.is_invalid()),
            "taken"
        );
    });
}

#[test]
fn a_runtime_dropped_with_a_stuck_handler_does_not_hang() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        let native = stuck(&runtime, Kind::Native, "native", &latch, 1);
        let begun = Instant::now();
        drop(runtime);
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        assert_eq!(native.lifecycle(), KernelState::Terminated);
        let books = native.telemetry();
        assert_eq!((books.pending, books.returned, books.dead_letters.total()), (0, 1, 1));
    });
}

#[test]
fn stuck_handlers_do_not_keep_others_from_running() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        // More than this machine has cores.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let stuck: Vec<_> = (0..cores + 3)
            .map(|index| {
                let kernel =
                    runtime.launch(counter(Kind::Native, &format!("stuck-{index}"), &latch)).unwrap();
                kernel.activate().unwrap();
                kernel.send(job(0).action(BLOCK)).unwrap();
                kernel
            })
            .collect();
        latch.await_arrivals(stuck.len() as u32);
        let fine =
            runtime.launch(counter(Kind::Native, "fine", &latch).restart(RestartPolicy::Never)).unwrap();
        fine.activate().unwrap();
        fine.send_many((0..100).map(job)).unwrap();
        assert_eq!(settled(&fine).handled, 100);
        assert_eq!(fine.ask(job(1), LONG).unwrap().count, 101);
        latch.open();
        for kernel in stuck {
            assert_eq!(settled(&kernel).handled, 1);
        }
    });
}

#[test]
fn handlers_that_wait_on_all_cores_do_not_keep_others_from_running() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let stuck = runtime.launch(stateless("stuck", &latch).background()).unwrap();
        stuck.activate().unwrap();
        // So that what a message takes is known, and a few are worth all cores.
        stuck.ask(job(0).taking(Duration::from_millis(5)), LONG).unwrap();
        stuck.send_many((0..cores).map(|number| job(number).action(BLOCK))).unwrap();
        latch.await_arrivals(cores);

        // What else there is that wants all cores goes on without them.
        let source = "fn on_message(m: Job) -> Answer {
                 var noise = m.number;
                 for (var i = 0u; i < m.loops; i++) { noise = noise * 1664525u + 1013904223u; }
                 return Answer(m.sender, m.number, 1u, noise);
             }";
        let fine = runtime.launch(RingKernel::<Job, Answer>::wgsl("fine", source)).unwrap();
        fine.activate().unwrap();
        for round in 0..2 {
            fine.send_many((0..64).map(|number| job(number).taking(Duration::from_micros(300)))).unwrap();
            eventually("a round of another kernel is handled", || {
                fine.telemetry().handled == 64 * (round + 1)
            });
        }
        let ones = runtime.buffer(&[1u32; 1 << 14]).unwrap();
        let add = "@group(0) @binding(0) var<storage, read_write> numbers: array<u32>;
                   @compute @workgroup_size(64)
                   fn main(@builtin(global_invocation_id) id: vec3<u32>) { numbers[id.x] += 1u; }";
        let orchestrator = runtime.orchestrator();
        let add = orchestrator.kernel(add, "main").unwrap().bind("numbers", &ones);
        add.dispatch([1 << 8, 1, 1]).unwrap();
        assert!(ones.to_vec().unwrap().iter().all(|number| *number == 2));
        assert_eq!(stuck.telemetry().handled, 1);
        latch.open();
        eventually("the others are handled", || stuck.telemetry().handled == u64::from(cores) + 1);
    });
}
