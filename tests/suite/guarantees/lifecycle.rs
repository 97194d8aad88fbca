//! Guarantee 4: every transition, and what each state does with messages.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{Handle, KernelState, Runtime, SendError};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[track_caller]
fn illegal(result: ringwork::Result<()>, call: &str, state: &str) {
    let error = result.unwrap_err();
    assert!(error.is_illegal_state(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(call) && text.contains(&format!("it is {state}")), "{text}");
}

fn not_active(kernel: &Handle<Job, Answer>, state: &str) {
    assert!(matches!(kernel.send(job(1)), Err(SendError::NotActive(back)) if back == job(1)));
    assert!(matches!(kernel.try_send(job(2)), Err(SendError::NotActive(back)) if back == job(2)));
    assert!(matches!(kernel.send_timeout(job(3), LONG), Err(SendError::NotActive(back)) if back == job(3)));
    assert!(
        matches!(kernel.send_many([job(4), job(5)]).unwrap_err().error, SendError::NotActive(back) if back == job(4))
    );
    assert!(matches!(kernel.request(job(6)).err(), Some(SendError::NotActive(back)) if back == job(6)));
    let error = kernel.ask(job(7), LONG).unwrap_err();
    assert!(error.is_not_active() && error.to_string().contains(state), "{error}");
    assert!(kernel.recv_timeout(Duration::from_millis(1)).is_err_and(|error| error.is_timed_out()));
    assert_eq!(kernel.try_recv().unwrap(), None);
}

#[test]
fn every_transition_and_sends_in_each_state() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "life", &latch)).unwrap();
        assert_eq!(kernel.lifecycle(), KernelState::Launched);
        assert_eq!(runtime.kernels(), [("life".to_owned(), KernelState::Launched)]);
        illegal(kernel.deactivate(), "deactivate", "Launched");
        not_active(&kernel, "Launched");

        kernel.activate().unwrap();
        assert_eq!(kernel.lifecycle(), KernelState::Active);
        illegal(kernel.activate(), "activate", "Active");
        assert_eq!(kernel.ask(job(1), LONG).unwrap().count, 1);

        kernel.deactivate().unwrap();
        assert_eq!(kernel.lifecycle(), KernelState::Deactivated);
        illegal(kernel.deactivate(), "deactivate", "Deactivated");
        not_active(&kernel, "Deactivated");

        kernel.activate().unwrap();
        assert_eq!(kernel.ask(job(1), LONG).unwrap().count, 2, "the state is kept");
        kernel.send(job(1)).unwrap();

        let end = kernel.terminate(LONG).unwrap();
        assert!(end.is_clean(), "{end:?}");
        assert_eq!(kernel.lifecycle(), KernelState::Terminated);
        illegal(kernel.activate(), "activate", "Terminated");
        illegal(kernel.deactivate(), "deactivate", "Terminated");
        illegal(kernel.terminate(LONG).map(drop), "terminate", "Terminated");
        assert!(matches!(kernel.send(job(1)), Err(SendError::Terminated(back)) if back == job(1)));
        assert!(matches!(kernel.try_send(job(2)), Err(SendError::Terminated(_))));
        assert!(matches!(kernel.send_timeout(job(3), LONG), Err(SendError::Terminated(_))));
        assert!(
            matches!(kernel.send_many([job(4)]).unwrap_err().error, SendError::Terminated(back) if back == job(4))
        );
        assert!(matches!(kernel.request(job(5)).err(), Some(SendError::Terminated(_))));
        assert!(kernel.ask(job(6), LONG).is_err_and(|error| error.is_terminated()));
        // A reply produced before the end can still be received; then it is over.
        assert_eq!(kernel.recv().unwrap().count, 3);
        assert!(kernel.recv().is_err_and(|error| error.is_terminated()));
        assert!(kernel.try_recv().is_err_and(|error| error.is_terminated()));
        assert_eq!(kernel.iter().count(), 0);
        assert!(runtime.kernels().is_empty());

        for terminated_from in ["launched", "deactivated"] {
            let kernel = runtime.launch(counter(kind, "life", &latch)).expect("the name is free");
            if terminated_from == "deactivated" {
                kernel.activate().unwrap();
                kernel.deactivate().unwrap();
            }
            assert!(kernel.terminate(LONG).unwrap().is_clean(), "{kind:?} {terminated_from}");
            assert_eq!(kernel.lifecycle(), KernelState::Terminated);
        }
    });
}

#[test]
fn terminate_drains_what_is_queued() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "drained", &latch)).unwrap();
        kernel.activate().unwrap();
        let slow = job(1).taking(Duration::from_millis(1));
        kernel.send_many((0..50).map(|number| Job { number, ..slow })).unwrap();
        let end = kernel.terminate(PATIENCE).unwrap();
        assert!(end.is_clean() && end.drained <= 50, "{end:?}");
        let books = kernel.telemetry();
        check_books(&books);
        assert_eq!(books.handled, 50);
        assert_eq!(
            kernel.iter().map(|answer| answer.number).collect::<Vec<_>>(),
            (0..50).collect::<Vec<_>>()
        );
    });
}

/// A kernel with its handler at the latch (WGSL: busy for the time given), and `queued` messages behind.
fn held(
    runtime: &Runtime,
    kind: Kind,
    latch: &Latch,
    capacity: usize,
    queued: u32,
    hold: Duration,
) -> Handle<Job, Answer> {
    let kernel = runtime.launch(holdable(runtime, kind, "held", latch).queue_capacity(capacity)).unwrap();
    kernel.activate().unwrap();
    if kind == Kind::Wgsl {
        kernel.send(job(0).taking(hold)).unwrap();
    } else {
        kernel.send(job(0).action(BLOCK)).unwrap();
        latch.await_arrivals(1);
    }
    eventually("the handler has begun", || kernel.telemetry().depth == 0);
    for number in 1..=queued {
        kernel.try_send(job(number)).unwrap();
    }
    kernel
}

#[test]
fn deactivate_waits_for_the_message_in_hand() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = held(&runtime, kind, &latch, 16, 5, Duration::from_millis(300));
        crate::threads::scope(|scope| {
            let waiting = scope.spawn(|| kernel.deactivate_timeout(LONG));
            eventually("it is deactivated", || kernel.lifecycle() == KernelState::Deactivated);
            if kind != Kind::Wgsl {
                std::thread::sleep(Duration::from_millis(30));
                assert!(!waiting.is_finished(), "the handler has not ended");
            }
            latch.open();
            waiting.join().unwrap().unwrap();
        });
        let books = kernel.telemetry();
        assert_eq!((books.handled, books.pending, books.depth), (1, 5, 5), "{kind:?}");
        std::thread::sleep(Duration::from_millis(30));
        assert_eq!(kernel.telemetry().handled, 1, "nothing is handled until activate");
        kernel.activate().unwrap();
        assert_eq!(settled(&kernel).handled, 6, "what was queued stays");
        let numbers: Vec<u32> = (0..6).map(|_| kernel.recv_timeout(LONG).unwrap().number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    });
}

#[test]
fn nothing_is_forgotten_by_a_deactivate_that_does_not_wait() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "hasty", &latch)).unwrap();
        kernel.activate().unwrap();
        for number in 0..200 {
            kernel.send_with(job(number), ringwork::Options::default().discard_reply()).unwrap();
            // At one moment after another of the way to the handler.
            let until = Instant::now() + Duration::from_micros(u64::from(number % 50) * 4);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            drop(kernel.deactivate_timeout(Duration::from_nanos(1)));
            kernel.activate().unwrap();
            eventually("it is handled", || kernel.telemetry().handled == u64::from(number) + 1);
        }
    });
}

#[test]
fn terminate_does_not_wait_for_a_message_that_takes_long() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(holdable(&runtime, kind, "long", &latch)).unwrap();
        kernel.activate().unwrap();
        kernel.send(job(0).taking(Duration::from_millis(1500))).unwrap();
        eventually("the handler has begun", || kernel.telemetry().depth == 0);
        for number in 1..4 {
            kernel.send(job(number)).unwrap();
        }
        let end = kernel.terminate(Duration::from_millis(20)).unwrap();
        assert!(end.elapsed < Duration::from_secs(1), "{:?}", end.elapsed);
        assert!(end.abandoned.is_some(), "{end:?}");
        assert_eq!(end.returned.iter().map(|message| message.number).collect::<Vec<_>>(), [1, 2, 3]);
        let again = runtime.launch(counter(kind, "long", &latch)).expect("the name is free");
        again.activate().unwrap();
        assert_eq!(again.ask(job(1), LONG).unwrap().count, 1);
        // What the old one still comes to is nobody's.
        std::thread::sleep(Duration::from_millis(1600));
        let books = kernel.telemetry();
        check_books(&books);
        assert_eq!((books.accepted, books.handled, books.returned, books.pending), (4, 0, 3, 0));
        assert_eq!(again.telemetry().handled, 1);
    });
}

#[test]
fn deactivate_is_bounded_when_the_handler_takes_long() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = held(&runtime, kind, &latch, 16, 3, Duration::from_secs(2));
        let begun = Instant::now();
        let error = kernel.deactivate_timeout(Duration::from_millis(30)).unwrap_err();
        assert!(begun.elapsed() >= Duration::from_millis(30));
        assert!(error.is_timed_out() && error.to_string().contains("`held`"), "{error}");
        assert_eq!(kernel.lifecycle(), KernelState::Deactivated, "deactivated all the same");
        assert!(matches!(kernel.send(job(9)), Err(SendError::NotActive(_))));
        latch.open();
        eventually("the one in hand is handled", || kernel.telemetry().handled == 1);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(kernel.telemetry().handled, 1, "no further one has begun");
        kernel.activate().unwrap();
        assert_eq!(settled(&kernel).handled, 4);
    });
}

#[test]
fn what_was_in_hand_is_handled_also_if_deactivate_came_just_after_it_had_begun() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(holdable(&runtime, kind, "just begun", &latch)).unwrap();
        for number in 0..20 {
            kernel.activate().unwrap();
            let message = job(number).taking(Duration::from_millis(10));
            kernel.send_with(message, ringwork::Options::default().discard_reply()).unwrap();
            // No pause: whoever drives the kernel is on the way to it, because it has begun, and finds it deactivated.
            let begun = Instant::now();
            while kernel.telemetry().depth > 0 {
                assert!(begun.elapsed() < LONG, "it does not begin");
                std::hint::spin_loop();
            }
            drop(kernel.deactivate_timeout(Duration::ZERO));
            // One that was about to begin at that very moment may still wait after all.
            eventually("it is handled, or waits", || {
                let books = kernel.telemetry();
                books.handled + books.depth as u64 == u64::from(number) + 1
            });
        }
        kernel.activate().unwrap();
        eventually("all are handled", || kernel.telemetry().handled == 20);
    });
}

#[test]
fn blocked_senders_wake_when_the_kernel_is_deactivated() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = held(&runtime, kind, &latch, 2, 2, Duration::from_millis(500));
        crate::threads::scope(|scope| {
            let senders: Vec<_> = (0..4)
                .map(|number| {
                    let kernel = &kernel;
                    scope.spawn(move || match number {
                        0 => kernel.send(job(90)),
                        1 => kernel.send_timeout(job(91), PATIENCE),
                        2 => kernel.request(job(92)).map(drop),
                        _ => kernel.send_many([job(93)]).map(drop).map_err(|error| error.error),
                    })
                })
                .collect();
            let asking = scope.spawn(|| kernel.ask(job(94), PATIENCE));
            std::thread::sleep(Duration::from_millis(30));
            kernel.deactivate_timeout(Duration::ZERO).ok();
            for (number, sender) in senders.into_iter().enumerate() {
                let result = sender.join().unwrap();
                let back = job(90 + number as u32);
                assert!(
                    matches!(&result, Err(SendError::NotActive(message)) if *message == back),
                    "{result:?}"
                );
            }
            assert!(asking.join().unwrap().is_err_and(|error| error.is_not_active()));
        });
        latch.open();
        kernel.activate().unwrap();
        assert_eq!(settled(&kernel).handled, 3);
    });
}

#[test]
fn queued_asks_keep_their_deadlines() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = held(&runtime, kind, &latch, 16, 0, Duration::from_millis(300));
        crate::threads::scope(|scope| {
            let short = scope.spawn(|| {
                let begun = Instant::now();
                (kernel.ask(job(1), Duration::from_millis(500)), begun.elapsed())
            });
            let long = scope.spawn(|| kernel.ask(job(2), PATIENCE));
            eventually("both are queued", || kernel.telemetry().depth == 2);
            let request = kernel.request(job(3)).unwrap();
            kernel.deactivate_timeout(Duration::ZERO).ok();
            latch.open();
            let (answer, took) = short.join().unwrap();
            let error = answer.unwrap_err();
            assert!(error.is_timed_out() && took >= Duration::from_millis(500), "{error} after {took:?}");
            assert!(error.to_string().contains("Deactivated"), "it says why: {error}");
            assert!(!long.is_finished());
            kernel.activate().unwrap();
            assert_eq!(long.join().unwrap().unwrap().number, 2);
            assert_eq!(request.wait(LONG).unwrap().number, 3);
        });
        let books = settled(&kernel);
        assert_eq!((books.handled, books.late_replies), (4, 1), "the one that left is handled all the same");
    });
}

#[test]
fn terminate_wakes_blocked_senders_and_receivers() {
    bounded(|| {
        for kind in [Kind::Native, Kind::Host] {
            within(Duration::from_millis(50), &format!("{kind:?}: the last one to wake"), |_| {
                let (runtime, latch) = (runtime(), Latch::new());
                let kernel = held(&runtime, kind, &latch, 1, 1, Duration::ZERO);
                let (woken, wakes) = mpsc::channel();
                crate::threads::scope(|scope| {
                    for number in 0..6 {
                        let (kernel, woken) = (&kernel, woken.clone());
                        scope.spawn(move || {
                            let ended = match number {
                                0 => matches!(kernel.send(job(1)), Err(SendError::Terminated(_))),
                                1 => matches!(
                                    kernel.send_timeout(job(1), PATIENCE),
                                    Err(SendError::Terminated(_))
                                ),
                                2 => kernel
                                    .send_many([job(1)])
                                    .is_err_and(|error| matches!(error.error, SendError::Terminated(_))),
                                3 => kernel.ask(job(1), PATIENCE).is_err_and(|error| error.is_terminated()),
                                4 => kernel.recv().is_err_and(|error| error.is_terminated()),
                                _ => kernel.recv_timeout(PATIENCE).is_err_and(|error| error.is_terminated()),
                            };
                            woken.send((Instant::now(), number, ended)).unwrap();
                        });
                    }
                    std::thread::sleep(Duration::from_millis(40));
                    assert!(wakes.try_recv().is_err(), "all were to be blocked");
                    // The handler is still at the latch: nobody may wait for it, nor for the drain.
                    let begun = Instant::now();
                    let ending = scope.spawn(|| kernel.terminate(Duration::from_millis(300)));
                    let mut last = Duration::ZERO;
                    for _ in 0..6 {
                        let (woke, number, ended) = wakes.recv_timeout(LONG).expect("all wake");
                        assert!(ended, "caller {number} was told something else");
                        last = last.max(woke - begun);
                    }
                    latch.open();
                    ending.join().unwrap().unwrap();
                    last
                })
            });
        }
    });
}

#[test]
fn asks_that_terminate_cannot_answer_are_told() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = held(&runtime, kind, &latch, 16, 0, Duration::from_secs(20));
        crate::threads::scope(|scope| {
            let asks: Vec<_> = (1..5)
                .map(|number| {
                    scope.spawn({
                        let kernel = &kernel;
                        move || kernel.ask(job(number), PATIENCE)
                    })
                })
                .collect();
            eventually("they are queued", || kernel.telemetry().depth == 4);
            let end = kernel.terminate(Duration::from_millis(50)).unwrap();
            assert_eq!((end.returned.len(), end.abandoned.is_some()), (4, true));
            for ask in asks {
                assert!(ask.join().unwrap().is_err_and(|error| error.is_terminated()));
            }
        });
    });
}
