//! Guarantee 3 on the way out: the reply queue's own strategies.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{Backpressure, Context, Handle, KernelState, Options, Pending, RingKernel};
use std::time::{Duration, Instant};

/// A kernel that keeps three replies, and was sent ten messages.
fn ten_into_three(kind: Kind, strategy: Backpressure, test: impl FnOnce(Handle<Job, Answer>)) {
    let (runtime, latch) = (runtime(), Latch::new());
    let kernel = counter(kind, "talkative", &latch).output_capacity(3).output_backpressure(strategy);
    let kernel = runtime.launch(kernel).unwrap();
    kernel.activate().unwrap();
    for number in 0..10 {
        kernel.send(job(number)).unwrap();
    }
    test(kernel);
}

fn drain(kernel: &Handle<Job, Answer>) -> Vec<u32> {
    std::iter::from_fn(|| kernel.try_recv().unwrap()).map(|answer| answer.number).collect()
}

#[test]
fn block_stops_the_kernel_and_loses_nothing() {
    each_kind(|kind| {
        ten_into_three(kind, Backpressure::Block, |kernel| {
            eventually("three are handled", || kernel.telemetry().unread_replies == 3);
            std::thread::sleep(Duration::from_millis(20));
            let books = kernel.telemetry();
            check_books(&books);
            assert_eq!((books.unread_replies, books.handled, books.pending), (3, 3, 7));
            let numbers: Vec<u32> = (0..10).map(|_| kernel.recv_timeout(LONG).unwrap().number).collect();
            assert_eq!(numbers, (0..10).collect::<Vec<_>>());
            assert_eq!(settled(&kernel).dropped_replies, 0);
            assert!(kernel.recv_timeout(Duration::from_millis(5)).is_err_and(|error| error.is_timed_out()));
        });
    });
}

#[test]
fn whoever_receives_to_the_end_gets_what_comes_while_the_kernel_is_terminated() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = counter(Kind::Native, "talkative", &latch).queue_capacity(16).output_capacity(1);
        let kernel = runtime.launch(kernel.output_backpressure(Backpressure::Block)).unwrap();
        kernel.activate().unwrap();
        kernel.send(job(0).action(BLOCK)).unwrap();
        latch.await_arrivals(1);
        (1..10).for_each(|number| kernel.send(job(number)).unwrap());
        crate::threads::scope(|scope| {
            let received = scope.spawn(|| kernel.iter().map(|answer| answer.number).collect::<Vec<_>>());
            // So that it waits: there is no reply before the latch opens.
            std::thread::sleep(Duration::from_millis(20));
            let ending = scope.spawn(|| kernel.terminate(LONG).unwrap());
            eventually("its end begins", || kernel.lifecycle() == KernelState::Terminating);
            std::thread::sleep(Duration::from_millis(20));
            latch.open();
            let end = ending.join().unwrap();
            assert!(end.is_clean(), "nothing stalls while somebody receives: {end:?}");
            assert_eq!(received.join().unwrap(), (0..10).collect::<Vec<_>>());
        });
    });
}

#[test]
fn reject_and_drop_newest_keep_the_first() {
    each_kind(|kind| {
        for strategy in [Backpressure::Reject, Backpressure::DropNewest] {
            ten_into_three(kind, strategy, |kernel| {
                let books = settled(&kernel);
                assert_eq!((books.handled, books.dropped_replies, books.unread_replies), (10, 7, 3));
                assert_eq!(drain(&kernel), [0, 1, 2]);
            });
        }
    });
}

#[test]
fn drop_oldest_keeps_the_last() {
    each_kind(|kind| {
        ten_into_three(kind, Backpressure::DropOldest, |kernel| {
            let books = settled(&kernel);
            assert_eq!((books.handled, books.dropped_replies, books.unread_replies), (10, 7, 3));
            assert_eq!(drain(&kernel), [7, 8, 9]);
        });
    });
}

#[test]
fn an_ask_and_a_discarded_reply_need_no_room() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "full", &latch).output_capacity(1)).unwrap();
        kernel.activate().unwrap();
        kernel.send(job(0)).unwrap();
        eventually("the queue of replies is full", || kernel.telemetry().unread_replies == 1);
        for number in 1..20 {
            assert_eq!(kernel.ask(job(number), LONG).unwrap().number, number);
            kernel.send_with(job(100), Options::default().discard_reply()).unwrap();
        }
        let books = settled(&kernel);
        assert_eq!((books.handled, books.unread_replies, books.dropped_replies), (39, 1, 0));
        assert_eq!(drain(&kernel), [0]);
    });
}

#[test]
fn a_reply_is_taken_once_and_a_fault_is_told_once() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = counter(kind, "once", &latch);
        let kernel = if kind == Kind::Wgsl { kernel.loop_budget(1000) } else { kernel };
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        let mut request = kernel.request(job(1)).unwrap();
        let answer = loop {
            if let Some(answer) = request.try_wait().unwrap() {
                break answer;
            }
            std::thread::yield_now();
        };
        assert!(answer.number == 1 && request.is_done() && request.try_wait().unwrap().is_none());
        let error = request.wait(LONG).unwrap_err();
        assert!(error.is_invalid(), "{error:?}");
        assert_eq!(error.to_string(), "the reply to this request has been taken already");

        let mut requests = [kernel.request(job(2).action(FAULT)).unwrap()];
        let (index, answer) = Pending::wait_any(&mut requests, LONG).unwrap();
        assert!(index == 0 && answer.is_err_and(|error| error.is_failed()));
        assert!(requests[0].is_done() && requests[0].try_wait().unwrap().is_none());
    });
}

#[test]
fn the_capacity_of_the_reply_queue_is_never_passed() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "bounded", &latch).output_capacity(5)).unwrap();
        kernel.activate().unwrap();
        crate::threads::scope(|scope| {
            let sender = scope.spawn(|| kernel.send_many((0..2000).map(job)));
            let mut next = 0;
            while next < 2000 {
                let books = kernel.telemetry();
                check_books(&books);
                assert!(books.unread_replies <= 5, "{books:?}");
                if next % 7 == 0 {
                    for answer in kernel.recv_many(3, LONG).unwrap() {
                        assert_eq!(answer.number, next);
                        next += 1;
                    }
                } else {
                    assert_eq!(kernel.recv_timeout(LONG).unwrap().number, next);
                    next += 1;
                }
            }
            assert_eq!(sender.join().unwrap().unwrap(), 2000);
        });
        assert_eq!(settled(&kernel).handled, 2000);
    });
}

/// Looks, and is not away for long between two looks.
#[track_caller]
fn looking<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < end, "looked all the time, and saw nothing: {what}");
        std::thread::sleep(Duration::from_micros(20));
    }
}

#[test]
fn whoever_only_looks_sees_what_is_there() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "k", &latch)).unwrap();
        kernel.activate().unwrap();
        for number in 0..100 {
            kernel.send(job(number)).unwrap();
            let reply = looking("a reply", || kernel.try_recv().unwrap());
            assert_eq!(reply.number, number);
            let mut asked = kernel.request(job(number)).unwrap();
            let reply = looking("a reply to a request", || asked.try_wait().unwrap());
            assert_eq!(reply.number, number);
        }
        check_books(&kernel.telemetry());
    });
}

#[test]
fn many_that_wait_for_any_of_their_requests_are_all_answered() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(Kind::Wgsl, "k", &latch)).unwrap();
        kernel.activate().unwrap();
        crate::threads::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..30 {
                        let mut asked: Vec<_> =
                            (0..37).map(|number| kernel.request(job(number)).unwrap()).collect();
                        for _ in 0..37 {
                            let (_, reply) = Pending::wait_any(&mut asked, LONG).expect("they are handled");
                            reply.unwrap();
                        }
                    }
                });
            }
        });
        check_books(&kernel.telemetry());
    });
}

/// A reply of no bytes, which says that something is done.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Done;

#[test]
fn a_reply_without_bytes_is_a_reply() {
    bounded(|| {
        let runtime = runtime();
        let kernel = RingKernel::host("k", |context: &mut Context<u32, Done>| {
            while context.receive().is_some() {
                assert!(context.reply(Done));
            }
        });
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        kernel.send(1).unwrap();
        assert_eq!(kernel.recv_timeout(LONG).unwrap(), Done);
        assert_eq!(kernel.ask(2, LONG).unwrap(), Done);
    });
}
