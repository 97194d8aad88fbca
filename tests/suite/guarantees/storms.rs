//! Guarantee 4 under load: after `deactivate` returns, nothing is handled until `activate`.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{Backpressure, KernelState, RingKernel};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CYCLES: u32 = 200;

#[test]
fn nothing_is_handled_while_deactivated() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel =
            counter(kind, "stormy", &latch).queue_capacity(32).output_backpressure(Backpressure::DropOldest);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        let done = AtomicBool::new(false);
        crate::threads::scope(|scope| {
            let senders: Vec<_> = (0..4)
                .map(|sender| {
                    let (kernel, done) = (&kernel, &done);
                    scope.spawn(move || {
                        let mut accepted = 0u64;
                        let mut number = 0;
                        while !done.load(Ordering::Relaxed) {
                            number += 1;
                            let message = Job::of(sender, number);
                            let taken = match number % 4 {
                                0 => kernel.send(message).is_ok(),
                                1 => kernel.try_send(message).is_ok(),
                                2 => kernel.request(message).map(drop).is_ok(),
                                _ => {
                                    // Taken or not: the books will tell. A minute is never reached.
                                    match kernel.ask(message, PATIENCE) {
                                        Ok(answer) => {
                                            assert_eq!((answer.sender, answer.number), (sender, number));
                                            true
                                        }
                                        Err(error) => {
                                            assert!(error.is_not_active(), "{error:?}");
                                            false
                                        }
                                    }
                                }
                            };
                            accepted += u64::from(taken);
                            if !taken {
                                std::thread::yield_now();
                            }
                        }
                        accepted
                    })
                })
                .collect();
            let mut handled_at_all = 0;
            for cycle in 0..CYCLES {
                kernel.deactivate_timeout(LONG).unwrap();
                let before = kernel.telemetry();
                let state = (kind != Kind::Host).then(|| kernel.read_state::<Tally>().unwrap());
                check_books(&before);
                for _ in 0..3 {
                    std::thread::sleep(Duration::from_micros(100));
                    let now = kernel.telemetry();
                    assert_eq!(
                        (now.handled, now.accepted),
                        (before.handled, before.accepted),
                        "cycle {cycle}"
                    );
                }
                if let Some(state) = state {
                    assert_eq!(u64::from(state.count), before.handled, "cycle {cycle}");
                    assert_eq!(kernel.read_state::<Tally>().unwrap(), state, "cycle {cycle}");
                }
                assert_eq!(kernel.lifecycle(), KernelState::Deactivated);
                handled_at_all = before.handled;
                kernel.activate().unwrap();
                if cycle % 10 == 0 {
                    // Let the senders get somewhere.
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            assert!(handled_at_all > 0, "nothing happened in the storm");
            done.store(true, Ordering::Relaxed);
            let accepted: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
            let books = settled(&kernel);
            assert_eq!((books.accepted, books.handled), (accepted, accepted));
        });
    });
}

#[test]
fn a_round_on_all_cores_is_waited_for_too() {
    bounded(|| {
        let runtime = runtime();
        let seen = runtime.buffer(&[0u32]).unwrap();
        let kernel = RingKernel::<Job, Answer>::wgsl(
            "rounds",
            "@group(1) @binding(0) var<storage, read_write> seen: array<atomic<u32>>;
            fn on_message(m: Job) -> Answer {
                var noise = 0u;
                for (var i = 0u; i < 100u; i++) { noise = noise * 31u + i; }
                atomicAdd(&seen[0], 1u);
                return Answer(m.sender, m.number, noise, 0u);
            }",
        );
        let kernel =
            kernel.bind("seen", &seen).queue_capacity(2048).output_backpressure(Backpressure::DropOldest);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        let done = AtomicBool::new(false);
        crate::threads::scope(|scope| {
            for sender in 0..2 {
                let (kernel, done) = (&kernel, &done);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        if kernel.send_many((0..500).map(|number| Job::of(sender, number))).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            for cycle in 0..100 {
                std::thread::sleep(Duration::from_millis(2));
                kernel.deactivate_timeout(LONG).unwrap();
                let before = (kernel.telemetry().handled, seen.to_vec().unwrap()[0]);
                assert_eq!(before.0, u64::from(before.1), "cycle {cycle}: all that ran is handled");
                std::thread::sleep(Duration::from_micros(300));
                let after = (kernel.telemetry().handled, seen.to_vec().unwrap()[0]);
                assert_eq!(after, before, "cycle {cycle}");
                kernel.activate().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(settled(&kernel).handled > 1000);
    });
}

#[test]
fn many_threads_turn_it_on_and_off() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "switch", &latch).output_capacity(100_000)).unwrap();
        kernel.activate().unwrap();
        let done = AtomicBool::new(false);
        let (sent, on, off) = crate::threads::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = 0u64;
                while !done.load(Ordering::Relaxed) && sent < 50_000 {
                    sent += u64::from(kernel.send(job(1)).is_ok());
                }
                sent
            });
            let switches: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let (mut on, mut off) = (0i64, 0i64);
                        for _ in 0..CYCLES / 2 {
                            // Of those who try at the same time one succeeds, the others are told why not.
                            match kernel.deactivate_timeout(LONG) {
                                Ok(()) => off += 1,
                                Err(error) => assert!(error.is_illegal_state(), "{error:?}"),
                            }
                            match kernel.activate() {
                                Ok(()) => on += 1,
                                Err(error) => assert!(error.is_illegal_state(), "{error:?}"),
                            }
                        }
                        (on, off)
                    })
                })
                .collect();
            let counts: Vec<(i64, i64)> = switches.into_iter().map(|thread| thread.join().unwrap()).collect();
            done.store(true, Ordering::Relaxed);
            let on: i64 = counts.iter().map(|count| count.0).sum();
            let off: i64 = counts.iter().map(|count| count.1).sum();
            (sender.join().unwrap(), on, off)
        });
        let active = kernel.lifecycle() == KernelState::Active;
        assert_eq!(off - on, i64::from(!active), "each change was reported to exactly one");
        if !active {
            kernel.activate().unwrap();
        }
        let books = settled(&kernel);
        assert_eq!((books.accepted, books.handled), (sent, sent));
    });
}

#[test]
fn terminate_in_a_storm_happens_once() {
    each_kind(|kind| {
        for round in 0..10 {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = counter(kind, "ending", &latch)
                .queue_capacity(8)
                .output_backpressure(Backpressure::DropNewest);
            let kernel = runtime.launch(kernel).unwrap();
            kernel.activate().unwrap();
            let ends = crate::threads::scope(|scope| {
                for sender in 0..3 {
                    let kernel = &kernel;
                    scope.spawn(move || {
                        for number in 0.. {
                            let result = kernel.send(Job::of(sender, number));
                            match result {
                                Ok(()) | Err(ringwork::SendError::NotActive(_)) => {}
                                Err(ringwork::SendError::Terminated(back)) => {
                                    assert_eq!(back.number, number);
                                    return;
                                }
                                Err(other) => panic!("{other:?}"),
                            }
                        }
                    });
                }
                scope.spawn(|| {
                    while kernel.deactivate_timeout(LONG).and_then(|()| kernel.activate()).is_ok() {}
                });
                std::thread::sleep(Duration::from_millis(round));
                let enders: Vec<_> =
                    (0..3).map(|_| scope.spawn(|| kernel.terminate(Duration::from_millis(5)))).collect();
                let ends: Vec<_> = enders.into_iter().map(|ender| ender.join().unwrap()).collect();
                ends.into_iter().filter_map(Result::ok).collect::<Vec<_>>()
            });
            assert_eq!(ends.len(), 1, "one of the three ended it");
            let books = kernel.telemetry();
            check_books(&books);
            assert_eq!((books.pending, books.returned), (0, ends[0].returned.len() as u64));
            assert!(runtime.kernels().is_empty());
        }
    });
}
