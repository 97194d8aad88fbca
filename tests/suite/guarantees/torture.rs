//! Nothing lost, duplicated or out of order in millions of messages.

use super::kit::*;
use super::order::Watch;
use crate::common::{LONG, runtime};
use ringwork::{Backpressure, RingKernel, message};
use std::sync::atomic::{AtomicBool, Ordering};

message! {
    /// A small message.
    pub struct Step { pub sender: u32, pub number: u32 }
}

/// Ten million in all, a million where nothing is optimised, so that a plain `cargo test` stays short;
/// `RINGWORK_TORTURE` multiplies.
fn messages() -> u32 {
    let times: u32 = std::env::var("RINGWORK_TORTURE").map_or(1, |times| times.parse().expect("a number"));
    times * if cfg!(debug_assertions) { 1_000_000 } else { 10_000_000 }
}

const SENDERS: u32 = 6;

#[test]
fn nothing_is_lost_or_duplicated_in_millions_of_messages() {
    bounded_by(messages(), || {
        let runtime = runtime();
        let kernel = RingKernel::<Step, Step>::native("torture", |step: Step, watch: &mut Watch| {
            watch.see(&Job::of(step.sender, step.number));
            step
        });
        let kernel =
            kernel.queue_capacity(512).output_capacity(1024).output_backpressure(Backpressure::Block);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        let each = messages() / SENDERS;
        let done = AtomicBool::new(false);
        let (queued, received) = crate::threads::scope(|scope| {
            let receiver = scope.spawn(|| {
                // Replies to what was sent with no question: in order per sender, too.
                let (mut last, mut received) = ([0; SENDERS as usize], 0u64);
                let mut see = |step: Step| {
                    let last = &mut last[step.sender as usize];
                    assert!(*last <= step.number, "replies in order");
                    *last = step.number + 1;
                    received += 1;
                };
                loop {
                    match kernel.recv_many(256, std::time::Duration::from_millis(20)) {
                        Ok(replies) => replies.into_iter().for_each(&mut see),
                        Err(error) => {
                            assert!(error.is_timed_out(), "{error:?}");
                            if done.load(Ordering::Acquire) {
                                return received;
                            }
                        }
                    }
                    let books = kernel.telemetry();
                    let ended = books.handled + books.returned + books.dead_letters.total();
                    assert_eq!(books.accepted, ended + books.pending, "{books:?}");
                }
            });
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| {
                    let kernel = &kernel;
                    scope.spawn(move || {
                        let (mut next, mut queued) = (0, 0u64);
                        let mut requests = Vec::new();
                        while next < each {
                            let step = Step { sender, number: next };
                            match next % 97 {
                                0..60 => {
                                    kernel.send(step).unwrap();
                                    queued += 1;
                                }
                                60..62 => assert_eq!(kernel.ask(step, LONG).unwrap(), step),
                                62..66 => requests.push((step, kernel.request(step).unwrap())),
                                66 => {
                                    for (step, request) in requests.drain(..) {
                                        assert_eq!(request.wait(LONG).unwrap(), step);
                                    }
                                    kernel.send(step).unwrap();
                                    queued += 1;
                                }
                                67 => drop(kernel.request(step).unwrap()),
                                _ => {
                                    let many = (each - next).min(300);
                                    let batch = (next..next + many).map(|number| Step { sender, number });
                                    assert_eq!(kernel.send_many(batch).unwrap() as u32, many);
                                    queued += u64::from(many);
                                    next += many;
                                    continue;
                                }
                            }
                            next += 1;
                        }
                        for (step, request) in requests {
                            assert_eq!(request.wait(LONG).unwrap(), step);
                        }
                        queued
                    })
                })
                .collect();
            let queued: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
            eventually("all are handled", || kernel.telemetry().pending == 0);
            done.store(true, Ordering::Release);
            (queued, receiver.join().unwrap())
        });
        let watch: Watch = kernel.read_state().unwrap();
        assert_eq!((watch.wrong, watch.count), (0, each * SENDERS), "in order, each exactly once");
        assert!(watch.next[..SENDERS as usize].iter().all(|next| *next == each), "{watch:?}");
        assert_eq!(received, queued, "every reply that nobody asked for was received");
        let books = kernel.telemetry();
        assert_eq!((books.accepted, books.handled), (u64::from(each * SENDERS), u64::from(each * SENDERS)));
        assert_eq!((books.dead_letters.total(), books.dropped_replies, books.unread_replies), (0, 0, 0));
    });
}

/// As [`bounded`], for a test that takes as long as it was told to.
fn bounded_by(messages: u32, test: impl FnOnce() + Send + 'static) {
    if std::env::var("RINGWORK_TORTURE").is_ok() {
        println!("{messages} messages");
        test();
    } else {
        bounded(test);
    }
}
