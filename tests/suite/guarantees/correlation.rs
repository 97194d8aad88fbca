//! Guarantee 5: nobody gets somebody else's reply, and a reply that comes too late is counted.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{Backpressure, Context, Options, Pending, RingKernel, Uuid};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// As [`counter`], without a state: any number of these may run at once.
fn echo(kind: Kind) -> RingKernel<Job, Answer> {
    let echo = |job: Job| {
        if job.micros > 0 {
            std::thread::sleep(Duration::from_micros(job.micros.into()));
        }
        Answer { sender: job.sender, number: job.number, count: job.sender ^ job.number, sum: job.loops }
    };
    match kind {
        Kind::Wgsl => RingKernel::wgsl(
            "echo",
            with_churn(
                "fn on_message(m: Job) -> Answer {
                    var noise = m.number;
                    for (var i = 0u; i < m.loops; i++) { noise = churn(noise); }
                    // Never so, but for all a compiler knows.
                    let odd = u32(noise == 7u && m.sender == 0xffffffffu);
                    return Answer(m.sender, m.number, m.sender ^ m.number, m.loops + odd);
                }",
            ),
        )
        // What a job of some milliseconds loops is more than the default, in machine code.
        .loop_budget(u32::MAX),
        Kind::Native => RingKernel::native("echo", move |job: Job, _: &mut ()| echo(job)),
        Kind::Host => RingKernel::host("echo", move |context: &mut Context<Job, Answer>| {
            while let Some(job) = context.receive() {
                context.reply(echo(job.into_inner()));
            }
        }),
    }
}

#[track_caller]
fn check(job: Job, answer: Answer) {
    assert_eq!((answer.sender, answer.number), (job.sender, job.number), "somebody else's reply");
    assert_eq!((answer.count, answer.sum), (job.sender ^ job.number, job.loops));
}

#[test]
fn a_hundred_concurrent_asks_are_never_crossed() {
    each_kind(|kind| {
        let runtime = runtime();
        let kernel = runtime.launch(echo(kind).queue_capacity(4096)).unwrap();
        kernel.activate().unwrap();
        let slow = Job::default().taking(Duration::from_millis(2));
        let late = AtomicU64::new(0);
        crate::threads::scope(|scope| {
            for sender in 0..20 {
                let (kernel, late) = (&kernel, &late);
                scope.spawn(move || {
                    let mut number = 0;
                    let mut next = |like: Job| {
                        number += 1;
                        Job { sender, number, ..like }
                    };
                    for round in 0..12 {
                        // Five on their way at once, times twenty threads.
                        let jobs: Vec<Job> = (0..5).map(|_| next(Job::default())).collect();
                        let requests: Result<Vec<_>, _> =
                            jobs.iter().map(|job| kernel.request(*job)).collect();
                        let mut requests = requests.unwrap();
                        let plain = next(Job::default());
                        check(plain, kernel.ask(plain, LONG).unwrap());
                        for _ in 0..5 {
                            let (index, answer) = Pending::wait_any(&mut requests, LONG).unwrap();
                            check(jobs[index], answer.unwrap());
                        }
                        assert!(requests.iter().all(Pending::is_done));
                        assert!(
                            Pending::wait_any(&mut requests, LONG).is_err_and(|error| error.is_invalid())
                        );
                        // Callers that leave early, by time-out and by dropping.
                        let hasty = next(if round % 3 == 0 { slow } else { Job::default() });
                        match kernel.ask(hasty, Duration::from_micros(200)) {
                            Ok(answer) => check(hasty, answer),
                            Err(error) => {
                                assert!(error.is_timed_out(), "{error}");
                                late.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        let many: Vec<Job> = (0..3).map(|_| next(Job::default())).collect();
                        for (job, answer) in many.iter().zip(kernel.ask_many(many.clone(), LONG).unwrap()) {
                            check(*job, answer);
                        }
                    }
                });
            }
        });
        let books = settled(&kernel);
        assert_eq!((books.accepted, books.handled), (20 * 12 * 10, 20 * 12 * 10));
        assert_eq!(books.late_replies, late.load(Ordering::Relaxed), "each that timed out, once");
        assert_eq!(books.unread_replies, 0, "a late reply goes to nobody");
    });
}

#[test]
fn late_replies_are_dropped_and_counted() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "late", &latch)).unwrap();
        kernel.activate().unwrap();
        let slow = job(1).taking(Duration::from_millis(100));
        for _ in 0..3 {
            assert!(kernel.ask(slow, Duration::from_millis(5)).is_err_and(|error| error.is_timed_out()));
        }
        drop(kernel.request(slow).unwrap());
        // The cells of those who left are used again: the late replies must not land there.
        assert_eq!(kernel.ask(job(7), LONG).unwrap().number, 7);
        let books = settled(&kernel);
        assert_eq!((books.handled, books.late_replies, books.unread_replies), (5, 4, 0));
    });
}

#[test]
fn a_reply_names_its_request() {
    bounded(|| {
        let runtime = runtime();
        // A host kernel sees ids: it replies with the one of the message, and with the correlation id it came with.
        let kernel = RingKernel::host("ids", |context: &mut Context<u32, (u128, Option<u128>, u32)>| {
            while let Some(message) = context.receive() {
                let correlation = message.correlation_id.map(|id| id.as_u128());
                context.reply((message.id.as_u128(), correlation, message.payload));
            }
        });
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        let mut ids = HashSet::new();
        for number in 0..50 {
            let own = Uuid::from_u128(u128::from(number) + 1);
            kernel.send_with(number, Options::default().correlation_id(own)).unwrap();
            let reply = kernel.recv_envelope(LONG).unwrap();
            let (id, correlation, payload) = reply.payload;
            let id = Uuid::from_u128(id);
            assert_eq!(reply.correlation_id, Some(id), "a reply's correlation id is its request's id");
            assert_eq!((correlation, payload), (Some(own.as_u128()), number));
            assert_eq!(id.get_version_num(), 8);
            assert!(ids.insert(id) && ids.insert(reply.id), "ids are never used twice");
        }
        let (_, none, _) = kernel.ask(7, LONG).unwrap();
        assert_eq!(none, None);
    });
}

#[test]
fn replies_of_device_kernels_carry_ids_too() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = counter(kind, "ids", &latch).output_capacity(2);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        kernel.send_many((0..20).map(job)).unwrap();
        let replies: Vec<_> = (0..10).map(|_| kernel.recv_envelope(LONG).unwrap()).collect();
        let answered: HashSet<Uuid> = replies.iter().map(|reply| reply.correlation_id.unwrap()).collect();
        assert_eq!(answered.len(), 10, "each names another request");
        kernel.deactivate_timeout(Duration::from_millis(20)).ok();
        let end = kernel.terminate(Duration::ZERO).unwrap();
        assert!(!end.returned.is_empty());
        assert!(end.returned.iter().all(|message| !answered.contains(&message.id)), "those were answered");
    });
}

#[test]
fn asks_and_plain_sends_do_not_mix() {
    each_kind(|kind| {
        let runtime = runtime();
        let kernel = echo(kind).output_capacity(8192).output_backpressure(Backpressure::Block);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        crate::threads::scope(|scope| {
            for sender in 0..4 {
                let kernel = &kernel;
                scope.spawn(move || {
                    for number in 0..500 {
                        let message = Job::of(sender, number);
                        if sender % 2 == 0 {
                            check(message, kernel.ask(message, LONG).unwrap());
                        } else {
                            kernel.send(message).unwrap();
                        }
                    }
                });
            }
        });
        settled(&kernel);
        let mut next = [0, 0, 0, 0];
        while let Some(answer) = kernel.try_recv().unwrap() {
            assert_eq!(answer.number, next[answer.sender as usize], "in the order of their messages");
            next[answer.sender as usize] += 1;
        }
        assert_eq!(next, [0, 500, 0, 500], "only the replies nobody asked for, and all of them");
    });
}
