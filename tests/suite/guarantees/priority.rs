//! Guarantee 2: higher priority first among those still in the mailbox.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{Handle, Options, Priority, Runtime};

/// What is sent while the kernel stands still: number and priority. All 256 priorities come, some several times.
fn mixed() -> Vec<(u32, u8)> {
    (1..=600u32).map(|number| (number, (number.wrapping_mul(2_654_435_761) >> 24) as u8)).collect()
}

fn in_order_of_priority() -> Vec<u32> {
    let mut sorted = mixed();
    // Stable: those of one priority stay in the order they were sent.
    sorted.sort_by_key(|(_, priority)| std::cmp::Reverse(*priority));
    sorted.into_iter().map(|(number, _)| number).collect()
}

fn send_mixed(kernel: &Handle<Job, Answer>) {
    for (number, priority) in mixed() {
        kernel.send_with(job(number), Options::default().priority(priority)).unwrap();
    }
}

#[test]
fn higher_priority_first_behind_a_busy_handler() {
    bounded(|| {
        for kind in [Kind::Native, Kind::Host] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = runtime.launch(counter(kind, "busy", &latch)).unwrap();
            kernel.activate().unwrap();
            kernel.send(job(0).action(BLOCK)).unwrap();
            latch.await_arrivals(1);
            send_mixed(&kernel);
            latch.open();
            assert_eq!(kernel.recv_timeout(LONG).unwrap().number, 0);
            let numbers: Vec<u32> = (0..600).map(|_| kernel.recv_timeout(LONG).unwrap().number).collect();
            assert_eq!(numbers, in_order_of_priority(), "{kind:?}");
        }
    });
}

#[test]
fn higher_priority_first_behind_unread_replies() {
    bounded(|| {
        for kind in [Kind::Wgsl, Kind::Native] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = runtime.launch(counter(kind, "stalled", &latch).output_capacity(1)).unwrap();
            kernel.activate().unwrap();
            kernel.send(job(0)).unwrap();
            eventually("the reply is there", || kernel.telemetry().unread_replies == 1);
            send_mixed(&kernel);
            assert_eq!(kernel.recv_timeout(LONG).unwrap().number, 0);
            let numbers: Vec<u32> = (0..600).map(|_| kernel.recv_timeout(LONG).unwrap().number).collect();
            assert_eq!(numbers, in_order_of_priority(), "{kind:?}");
        }
    });
}

/// A kernel with a message in hand that waits at the latch, and 49 behind it.
fn behind_fifty(runtime: &Runtime, kind: Kind, latch: &Latch) -> Handle<Job, Answer> {
    let kernel = runtime.launch(counter(kind, "urgent", latch)).unwrap();
    kernel.activate().unwrap();
    kernel.send(job(0).action(BLOCK)).unwrap();
    latch.await_arrivals(1);
    kernel.send_many((1..50).map(job)).unwrap();
    kernel
}

#[test]
fn an_urgent_ask_overtakes_what_waits() {
    bounded(|| {
        for kind in [Kind::Native, Kind::Host] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = behind_fifty(&runtime, kind, &latch);
            let urgent =
                kernel.request_with(job(100), Options::default().priority(Priority::HIGHEST)).unwrap();
            let last = kernel.request_with(job(101), Options::default().priority(Priority::LOWEST)).unwrap();
            kernel.send(job(50)).unwrap();
            latch.open();
            assert_eq!(urgent.wait(LONG).unwrap().count, 2, "right after the one in hand");
            assert_eq!(last.wait(LONG).unwrap().count, 53, "after all others");
        }
    });
}

#[test]
fn a_caller_that_waits_may_be_urgent() {
    bounded(|| {
        for kind in [Kind::Native, Kind::Host] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = behind_fifty(&runtime, kind, &latch);
            crate::threads::scope(|scope| {
                let asks = || {
                    let options = Options::default().priority(Priority::HIGHEST);
                    kernel.ask_with(job(100), LONG, options).unwrap()
                };
                let answer = scope.spawn(asks);
                eventually("the question waits", || kernel.telemetry().accepted == 51);
                latch.open();
                assert_eq!(answer.join().unwrap().count, 2, "right after the one in hand");
            });
        }
    });
}

#[test]
fn priorities_do_not_break_the_order_of_a_sender_within_one() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime
            .launch(counter(kind, "mixed", &latch).queue_capacity(16).output_capacity(10_000))
            .unwrap();
        kernel.activate().unwrap();
        crate::threads::scope(|scope| {
            for sender in 0..4 {
                let kernel = &kernel;
                scope.spawn(move || {
                    for number in 0..1000 {
                        let options = Options::default().priority([40, 128, 200][number as usize % 3]);
                        kernel.send_with(Job::of(sender, number), options).unwrap();
                    }
                });
            }
        });
        settled(&kernel);
        // Next number of each sender and priority.
        let mut next: Vec<[u32; 3]> = vec![[0, 1, 2]; 4];
        for _ in 0..4000 {
            let answer = kernel.recv_timeout(LONG).unwrap();
            let next = &mut next[answer.sender as usize][answer.number as usize % 3];
            assert_eq!(answer.number, *next, "{kind:?}");
            *next += 3;
        }
    });
}
