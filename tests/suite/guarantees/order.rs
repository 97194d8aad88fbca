//! Guarantee 2: FIFO per sender and kernel, and replies and emitted values in the order of their messages.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{Backpressure, Context, RingKernel, message};
use std::sync::{Arc, Mutex};
use std::time::Duration;

message! {
    /// What a kernel has seen of each sender: its last number plus one, and how often a number was not the next.
    pub struct Watch { pub next: [u32; 16], pub wrong: u32, pub count: u32 }
}

impl Watch {
    pub fn see(&mut self, job: &Job) {
        let next = &mut self.next[job.sender as usize];
        self.wrong += u32::from(*next != job.number);
        *next = job.number + 1;
        self.count += 1;
    }
}

const WATCHING: &str = "
    fn on_message(m: Job, s: ptr<function, Watch>) -> Answer {
        if (*s).next[m.sender] != m.number { (*s).wrong += 1u; }
        (*s).next[m.sender] = m.number + 1u;
        (*s).count += 1u;
        return Answer(m.sender, m.number, (*s).count, 0u);
    }";

/// A kernel that checks each sender's order, and where to read what it has seen.
fn watching(kind: Kind) -> (RingKernel<Job, Answer>, Arc<Mutex<Watch>>) {
    let seen = Arc::new(Mutex::new(Watch::default()));
    let answer = |job: &Job, count| Answer { sender: job.sender, number: job.number, count, sum: 0 };
    let kernel = match kind {
        Kind::Wgsl => RingKernel::wgsl("watching", WATCHING).initial_state(Watch::default()),
        Kind::Native => RingKernel::native("watching", move |job: Job, watch: &mut Watch| {
            watch.see(&job);
            answer(&job, watch.count)
        }),
        Kind::Host => {
            let seen = seen.clone();
            RingKernel::host("watching", move |context: &mut Context<Job, Answer>| {
                while let Some(job) = context.receive() {
                    let mut watch = seen.lock().unwrap();
                    watch.see(&job);
                    context.reply(answer(&job, watch.count));
                }
            })
        }
    };
    (kernel, seen)
}

#[test]
fn fifo_per_sender_whatever_way_it_sends() {
    each_kind(|kind| {
        const EACH: u32 = 1500;
        let runtime = runtime();
        let (kernel, seen) = watching(kind);
        // Small, so that senders block; nobody receives, so the replies give way.
        let kernel = kernel.queue_capacity(32).output_backpressure(Backpressure::DropOldest);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        crate::threads::scope(|scope| {
            for sender in 0..6 {
                let kernel = &kernel;
                scope.spawn(move || {
                    let mut next = 0;
                    while next < EACH {
                        let message = Job::of(sender, next);
                        match next % 5 {
                            0 => kernel.send(message).unwrap(),
                            1 => eventually("there is room", || kernel.try_send(message).is_ok()),
                            2 => drop(kernel.request(message).unwrap()),
                            3 => {
                                let many = EACH.min(next + 40) - next;
                                let batch = (next..next + many).map(|number| Job::of(sender, number));
                                assert_eq!(kernel.send_many(batch).unwrap() as u32, many);
                                next += many;
                                continue;
                            }
                            _ => assert_eq!(kernel.ask(message, LONG).unwrap().number, next),
                        }
                        next += 1;
                    }
                });
            }
        });
        let books = settled(&kernel);
        assert_eq!(books.handled, 6 * u64::from(EACH));
        let watch: Watch =
            if kind == Kind::Host { *seen.lock().unwrap() } else { kernel.read_state().unwrap() };
        assert_eq!((watch.wrong, watch.count), (0, 6 * EACH), "{watch:?}");
    });
}

#[test]
fn fifo_survives_deactivation() {
    each_kind(|kind| {
        let runtime = runtime();
        let (kernel, seen) = watching(kind);
        let kernel = kernel.queue_capacity(64).output_backpressure(Backpressure::DropOldest);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        crate::threads::scope(|scope| {
            let senders: Vec<_> = (0..4)
                .map(|sender| {
                    let kernel = &kernel;
                    scope.spawn(move || {
                        for number in 0..500 {
                            eventually("it is active", || kernel.send(Job::of(sender, number)).is_ok());
                        }
                    })
                })
                .collect();
            while !senders.iter().all(|sender| sender.is_finished()) {
                kernel.deactivate().unwrap();
                kernel.activate().unwrap();
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        assert_eq!(settled(&kernel).handled, 2000);
        let watch: Watch =
            if kind == Kind::Host { *seen.lock().unwrap() } else { kernel.read_state().unwrap() };
        assert_eq!((watch.wrong, watch.count), (0, 2000), "{watch:?}");
    });
}

message! {
    /// The number of the message that sent it.
    pub struct Note { pub number: u32, pub part: u32 }
}

/// Handlers of each shape that reply with the message's number and emit it twice. The work differs from message to
/// message, so that lanes of a parallel round end at different times.
const STATELESS: &str = "
    fn on_message(m: Job) -> Answer {
        var noise = m.number;
        for (var i = 0u; i < (m.number * 7919u) % 300u; i++) { noise = noise * 1664525u + 1013904223u; }
        emit_notes(Note(m.number, 0u));
        emit_notes(Note(m.number, 1u));
        return Answer(m.sender, m.number, noise, 0u);
    }";
const STATEFUL: &str = "
    fn on_message(m: Job, s: ptr<function, Tally>) -> Answer {
        var noise = m.number;
        for (var i = 0u; i < (m.number * 7919u) % 300u; i++) { noise = noise * 1664525u + 1013904223u; }
        (*s).count += 1u;
        emit_notes(Note(m.number, 0u));
        emit_notes(Note(m.number, 1u));
        return Answer(m.sender, m.number, (*s).count, 0u);
    }";

fn replies_and_emits_keep_their_order(kernel: RingKernel<Job, Answer>, instances: u32) {
    const MESSAGES: u32 = 6000;
    let runtime = runtime();
    let kernel =
        kernel.output_many::<Note>("notes", 2).queue_capacity(4096).output_capacity(16_384).loop_budget(1000);
    let kernel = runtime.launch(kernel).unwrap();
    let notes = kernel.output::<Note>("notes").unwrap();
    kernel.activate().unwrap();
    let batch = (0..MESSAGES).map(|number| Job { to: number * 31 % instances, ..job(number) });
    assert_eq!(kernel.send_many(batch).unwrap() as u32, MESSAGES);
    let mut counts = vec![0; instances as usize];
    for number in 0..MESSAGES {
        let answer = kernel.recv_timeout(LONG).unwrap();
        assert_eq!(answer.number, number, "replies in order");
        let count = &mut counts[(number * 31 % instances) as usize];
        *count += 1;
        // A kernel with state counts, each instance for itself, in order.
        assert!(answer.count == *count || instances == 1, "{answer:?}");
        for part in 0..2 {
            assert_eq!(notes.recv_timeout(LONG).unwrap(), Note { number, part }, "emits in order");
        }
    }
    let books = settled(&kernel);
    assert_eq!((books.handled, books.emitted), (MESSAGES.into(), 2 * u64::from(MESSAGES)));
}

#[test]
fn replies_and_emits_keep_their_order_stateless() {
    bounded(|| replies_and_emits_keep_their_order(RingKernel::wgsl("parallel", STATELESS), 1));
}

#[test]
fn replies_and_emits_keep_their_order_serial() {
    bounded(|| {
        let kernel = RingKernel::wgsl("serial", STATEFUL).initial_state(Tally::default());
        replies_and_emits_keep_their_order(kernel, 1);
    });
}

#[test]
fn replies_and_emits_keep_their_order_with_instances() {
    bounded(|| {
        let kernel = RingKernel::wgsl("many", STATEFUL).initial_state(Tally::default()).instances(17);
        replies_and_emits_keep_their_order(kernel, 17);
    });
}

#[test]
fn a_native_kernel_without_state_keeps_the_order_of_replies() {
    bounded(|| {
        let runtime = runtime();
        let kernel = RingKernel::<Job, Answer>::native("parallel", |job: Job, _: &mut ()| {
            let work = (0..job.number * 7919 % 2000).fold(job.number, |sum, i| sum.wrapping_mul(31) ^ i);
            Answer { number: job.number, sum: std::hint::black_box(work), ..Answer::default() }
        });
        let kernel = runtime.launch(kernel.queue_capacity(8192).output_capacity(32_768)).unwrap();
        kernel.activate().unwrap();
        for round in 0..3 {
            assert_eq!(kernel.send_many((0..8000).map(job)).unwrap(), 8000);
            for number in 0..8000 {
                assert_eq!(kernel.recv_timeout(LONG).unwrap().number, number, "round {round}");
            }
        }
    });
}

#[test]
fn asks_of_many_come_back_in_order_in_every_shape() {
    bounded(|| {
        let runtime = runtime();
        let latch = Latch::new();
        let kernels = [
            counter(Kind::Wgsl, "serial", &latch),
            counter(Kind::Native, "native", &latch),
            counter(Kind::Host, "host", &latch),
            counter(Kind::Wgsl, "instances", &latch).instances(5),
            counter(Kind::Native, "native-instances", &latch).instances(5),
            RingKernel::wgsl(
                "stateless",
                "fn on_message(m: Job) -> Answer { return Answer(m.sender, m.number, 0u, 0u); }",
            ),
        ];
        for kernel in kernels {
            let kernel = runtime.launch(kernel.queue_capacity(100)).unwrap();
            kernel.activate().unwrap();
            let replies = kernel.ask_many((0..1000).map(|number| job(number).to(number % 5)), LONG).unwrap();
            let numbers: Vec<u32> = replies.iter().map(|answer| answer.number).collect();
            assert_eq!(numbers, (0..1000).collect::<Vec<_>>(), "{kernel:?}");
        }
    });
}
