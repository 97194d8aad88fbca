//! Handles after the end, many kernels, many threads.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{KernelState, SendError};
use std::time::Duration;

#[test]
fn handles_outlive_the_runtime() {
    each_kind(|kind| {
        let latch = Latch::new();
        let (kernel, request, output) = {
            let runtime = runtime();
            let kernel = counter(kind, "gone", &latch);
            // A native handler only replies.
            let kernel = if kind == Kind::Native { kernel } else { kernel.output::<Answer>("out") };
            let kernel = runtime.launch(kernel).unwrap();
            kernel.activate().unwrap();
            kernel.send(job(1)).unwrap();
            let request = kernel.request(job(2)).unwrap();
            let output = kernel.output::<Answer>("out");
            (kernel, request, output)
        };
        assert_eq!(kernel.lifecycle(), KernelState::Terminated);
        assert_eq!(request.wait(LONG).unwrap().number, 2, "answered in the drain");
        assert_eq!(kernel.recv().unwrap().number, 1);
        assert!(kernel.recv().is_err_and(|error| error.is_terminated()));
        assert!(kernel.recv_many(3, LONG).is_err_and(|error| error.is_terminated()));
        assert!(kernel.recv_envelope(LONG).is_err_and(|error| error.is_terminated()));
        if kind != Kind::Native {
            let output = output.unwrap();
            assert!(output.recv().is_err_and(|error| error.is_terminated()));
            assert!(output.try_recv().is_err_and(|error| error.is_terminated()));
        }
        assert!(matches!(kernel.send(job(3)), Err(SendError::Terminated(back)) if back == job(3)));
        assert!(
            matches!(kernel.send_many([job(4)]).unwrap_err().error, SendError::Terminated(back) if back == job(4))
        );
        assert!(kernel.ask(job(5), LONG).is_err_and(|error| error.is_terminated()));
        assert!(kernel.ask_many([job(5)], LONG).is_err_and(|error| error.is_terminated()));
        assert!(kernel.read_state::<Tally>().is_err());
        assert!(kernel.snapshot().is_err());
        assert!(kernel.activate().is_err_and(|error| error.is_illegal_state()));
        assert!(kernel.deactivate().is_err_and(|error| error.is_illegal_state()));
        assert!(kernel.terminate(LONG).is_err_and(|error| error.is_illegal_state()));
        let books = kernel.telemetry();
        check_books(&books);
        assert_eq!((books.accepted, books.handled), (2, 2));
        assert_eq!(kernel.clone().name(), "gone");
    });
}

#[test]
fn two_thousand_kernels_come_and_go() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        for round in 0..4u32 {
            let kernels: Vec<_> = (0..500u32)
                .map(|index| {
                    let kind = match index % 25 {
                        0 => Kind::Wgsl,
                        1 => Kind::Host,
                        _ => Kind::Native,
                    };
                    let kernel = runtime.launch(counter(kind, &format!("kernel-{index}"), &latch)).unwrap();
                    kernel.activate().unwrap();
                    kernel
                })
                .collect();
            assert_eq!(runtime.kernels().len(), 500);
            for (index, kernel) in kernels.iter().enumerate() {
                kernel.send(job(index as u32)).unwrap();
            }
            let requests: Vec<_> = kernels.iter().map(|kernel| kernel.request(job(round)).unwrap()).collect();
            for request in requests {
                let answer = request.wait(LONG).unwrap();
                assert_eq!((answer.number, answer.count), (round, 2));
            }
            for kernel in kernels {
                assert!(kernel.terminate(LONG).unwrap().is_clean());
            }
            assert!(runtime.kernels().is_empty());
        }
    });
}

#[test]
fn sixty_four_threads_on_one_kernel() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel =
            runtime.launch(counter(kind, "popular", &latch).queue_capacity(16).output_capacity(8)).unwrap();
        kernel.activate().unwrap();
        let received = crate::threads::scope(|scope| {
            let receivers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut sum = 0u64;
                        // Until the queue is closed by `terminate` below.
                        while let Ok(answer) = kernel.recv() {
                            assert_eq!(answer.sender % 2, 0, "only replies that nobody asked for");
                            sum += 1;
                        }
                        sum
                    })
                })
                .collect();
            let senders: Vec<_> = (0..56)
                .map(|sender| {
                    let kernel = &kernel;
                    scope.spawn(move || {
                        for number in 0..100 {
                            let message = Job::of(sender, number);
                            if sender % 2 == 0 {
                                kernel.send(message).unwrap();
                            } else {
                                let answer = kernel.ask(message, LONG).unwrap();
                                assert_eq!((answer.sender, answer.number), (sender, number));
                            }
                        }
                    })
                })
                .collect();
            for sender in senders {
                sender.join().unwrap();
            }
            assert_eq!(settled(&kernel).handled, 5600);
            assert!(kernel.terminate(LONG).unwrap().is_clean());
            receivers.into_iter().map(|receiver| receiver.join().unwrap()).sum::<u64>()
        });
        assert_eq!(received, 2800, "each reply went to exactly one receiver");
    });
}

#[test]
fn kernels_launched_and_shut_down_at_once() {
    bounded(|| {
        for round in 0..20 {
            let (runtime, latch) = (runtime(), Latch::new());
            crate::threads::scope(|scope| {
                for thread in 0..3 {
                    let (runtime, latch) = (&runtime, &latch);
                    scope.spawn(move || {
                        for index in 0.. {
                            let name = format!("kernel-{thread}-{index}");
                            let kind = KINDS[index % 3];
                            let kernel = match runtime.launch(counter(kind, &name, latch)) {
                                Ok(kernel) => kernel,
                                Err(error) => {
                                    assert!(error.is_terminated(), "{error:?}");
                                    return;
                                }
                            };
                            match kernel.activate().map_err(|error| error.is_illegal_state()) {
                                Ok(()) => match kernel.ask(job(1), LONG) {
                                    Ok(answer) => assert_eq!(answer.count, 1),
                                    Err(error) => assert!(error.is_terminated(), "{error:?}"),
                                },
                                Err(illegal) => assert!(illegal, "it was terminated first"),
                            }
                        }
                    });
                }
                std::thread::sleep(Duration::from_millis(round));
                runtime.shutdown(LONG).unwrap();
            });
            assert!(runtime.kernels().is_empty(), "none slipped through: {:?}", runtime.kernels());
        }
    });
}
