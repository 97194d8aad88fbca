//! Guarantee 1 under load: the books balance in every reading, and agree with what each message came to.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{
    Backpressure, Context, DeadLetterReason, Handle, Priority, RingKernel, Runtime, SendError, Telemetry,
    UnifiedBuffer,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SENDERS: u32 = 8;
/// More than any sender gets to send.
const MOST: u32 = 1 << 15;

/// What a sender knows of a message it sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Known {
    /// Never sent.
    #[default]
    Nothing,
    Accepted,
    /// Its reply came.
    Answered,
    /// Given back, or refused before it was taken.
    NotTaken,
    /// An `ask` or a batch that ended with an error which does not say.
    Unsaid,
}

/// Counts in a table, or where Rust can see it, which messages were handled.
enum Ledger {
    Table(UnifiedBuffer<u32>),
    Shared(Seen),
}

impl Ledger {
    fn read(&self) -> Vec<u32> {
        match self {
            Self::Table(buffer) => buffer.to_vec().unwrap(),
            Self::Shared(seen) => (0..(SENDERS * MOST) as usize).map(|index| seen.count(index)).collect(),
        }
    }
}

/// A kernel that notes what it handles. The note is the last thing that a handler does.
fn noting(runtime: &Runtime, kind: Kind) -> (RingKernel<Job, Answer>, Ledger) {
    if kind == Kind::Wgsl {
        let buffer = runtime.buffer(&vec![0u32; (SENDERS * MOST) as usize]).unwrap();
        let source = "
            @group(1) @binding(0) var<storage, read_write> seen: array<atomic<u32>>;
            fn on_message(m: Job) -> Answer {
                var noise = m.number;
                for (var i = 0u; i < m.loops; i++) { noise = churn(noise); }
                atomicAdd(&seen[m.sender * 32768u + m.number], 1u);
                return Answer(m.sender, m.number, noise, 0u);
            }";
        let kernel = RingKernel::wgsl("noting", with_churn(source)).loop_budget(u32::MAX);
        return (kernel.bind("seen", &buffer), Ledger::Table(buffer));
    }
    let seen = Seen::new((SENDERS * MOST) as usize);
    let noted = seen.clone();
    let work = move |job: Job| {
        if job.micros > 0 {
            std::thread::sleep(Duration::from_micros(job.micros.into()));
        }
        noted.mark((job.sender * MOST + job.number) as usize);
        Answer { sender: job.sender, number: job.number, count: 0, sum: 0 }
    };
    let kernel = if kind == Kind::Native {
        RingKernel::native("noting", move |job: Job, _: &mut ()| work(job))
    } else {
        RingKernel::host("noting", move |context: &mut Context<Job, Answer>| {
            while let Some(job) = context.receive() {
                let answer = work(job.into_inner());
                context.reply(answer);
            }
        })
    };
    (kernel, Ledger::Shared(seen))
}

/// One sender: all ways to send, until the kernel is gone.
fn send_all_ways(kernel: &Handle<Job, Answer>, sender: u32, slow: Job, done: &AtomicBool) -> Vec<Known> {
    let mut known = vec![Known::Nothing; MOST as usize];
    let mut next = 0u32;
    while !done.load(Ordering::Relaxed) && next + 8 < MOST {
        let number = next;
        // Most are quick; some take as long as `slow`.
        let cost = if number.is_multiple_of(64) { slow } else { Job::default() };
        let message = Job { sender, number, ..cost };
        next += 1;
        let sent = |result: Result<(), SendError<Job>>| match result {
            Ok(()) => Known::Accepted,
            Err(SendError::Dropped(_)) => Known::Accepted,
            Err(error) => {
                assert_eq!(error.into_message().unwrap().number, number, "another message came back");
                Known::NotTaken
            }
        };
        known[number as usize] = match (sender + number) % 7 {
            0 => sent(kernel.send(message)),
            1 => sent(kernel.try_send(message)),
            2 => sent(kernel.send_timeout(message, Duration::from_micros(50))),
            3 => {
                let numbers = number..number + 5;
                next = numbers.end;
                let batch = numbers.clone().map(|number| Job { sender, number, ..Job::default() });
                let result = kernel.send_many(batch);
                let (taken, first_not_taken) = match result {
                    Ok(count) => (count, Known::NotTaken),
                    Err(error) => {
                        assert_eq!(
                            error.sent + 1 + error.unsent.len(),
                            numbers.len(),
                            "some are unaccounted for"
                        );
                        let dropped = matches!(error.error, SendError::Dropped(_));
                        (error.sent, if dropped { Known::Unsaid } else { Known::NotTaken })
                    }
                };
                for (index, number) in numbers.enumerate() {
                    known[number as usize] = match index.cmp(&taken) {
                        std::cmp::Ordering::Less => Known::Accepted,
                        std::cmp::Ordering::Equal => first_not_taken,
                        std::cmp::Ordering::Greater => Known::NotTaken,
                    };
                }
                continue;
            }
            4 => match kernel.ask(message, Duration::from_micros(300)) {
                Ok(answer) => {
                    assert_eq!((answer.sender, answer.number), (sender, number), "somebody else's reply");
                    Known::Answered
                }
                Err(error) if error.is_not_active() || error.is_full() => Known::NotTaken,
                Err(_) => Known::Unsaid,
            },
            5 => match kernel.request(message) {
                // The interest is dropped at once; the message is not.
                Ok(pending) => {
                    drop(pending);
                    Known::Accepted
                }
                Err(error) => sent(Err(error)),
            },
            _ => match kernel.ask(message, LONG) {
                Ok(answer) => {
                    assert_eq!((answer.sender, answer.number), (sender, number), "somebody else's reply");
                    Known::Answered
                }
                Err(error) if error.is_not_active() || error.is_full() => Known::NotTaken,
                Err(_) => Known::Unsaid,
            },
        };
        if known[number as usize] == Known::NotTaken {
            std::thread::yield_now();
        }
    }
    known
}

/// Reads the books as fast as it can until told to stop; how often.
fn monitor(kernel: &Handle<Job, Answer>, done: &AtomicBool) -> u64 {
    let mut readings = 0;
    let mut last: Option<Telemetry> = None;
    while readings == 0 || !done.load(Ordering::Relaxed) {
        let books = kernel.telemetry();
        check_books(&books);
        if let Some(last) = last {
            assert!(books.accepted >= last.accepted && books.handled >= last.handled, "counts never go back");
        }
        last = Some(books);
        readings += 1;
    }
    readings
}

fn balances_to_the_end(kind: Kind, strategy: Backpressure) {
    let runtime = runtime();
    let (kernel, ledger) = noting(&runtime, kind);
    let kernel = kernel
        .queue_capacity(48)
        .backpressure(strategy)
        .output_capacity(64)
        .output_backpressure(Backpressure::DropOldest);
    let kernel = runtime.launch(kernel).unwrap();
    kernel.activate().unwrap();
    let slow = Job::default().taking(Duration::from_millis(1));
    let (stop_senders, stop_monitor) = (AtomicBool::new(false), AtomicBool::new(false));

    let (known, end) = crate::threads::scope(|scope| {
        let watching = scope.spawn(|| monitor(&kernel, &stop_monitor));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn({
                    let (kernel, stop) = (&kernel, &stop_senders);
                    move || send_all_ways(kernel, sender, slow, stop)
                })
            })
            .collect();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(5));
            kernel.deactivate().unwrap();
            kernel.activate().unwrap();
        }
        let end = kernel.terminate(Duration::from_millis(1)).unwrap();
        stop_senders.store(true, Ordering::Relaxed);
        let known: Vec<Vec<Known>> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        stop_monitor.store(true, Ordering::Relaxed);
        assert!(watching.join().unwrap() > 0);
        (known, end)
    });

    let books = kernel.telemetry();
    check_books(&books);
    assert_eq!(books.pending, 0, "{books:?}");
    assert_eq!(books.returned, end.returned.len() as u64);
    // With the message in hand goes what ran beside it, in a round on all cores.
    let abandoned = books.dead_letters.get(DeadLetterReason::Abandoned);
    assert_eq!(abandoned > 0, end.abandoned.is_some(), "{books:?}");
    let newest = books.dead_letters.get(DeadLetterReason::DroppedNewest);
    let oldest = books.dead_letters.get(DeadLetterReason::DroppedOldest);
    assert_eq!(books.dead_letters.total(), abandoned + newest + oldest);
    assert!(strategy == Backpressure::DropNewest || newest == 0);
    assert!(strategy == Backpressure::DropOldest || oldest == 0);
    assert!(books.handled > 10, "too little happened to show anything: {books:?}");

    let handled = ledger.read();
    let mut returned = vec![0u32; handled.len()];
    for envelope in &end.returned {
        returned[(envelope.sender * MOST + envelope.number) as usize] += 1;
    }
    let mut vanished = 0;
    for (index, (handled, returned)) in handled.iter().zip(&returned).enumerate() {
        let known = known[index / MOST as usize][index % MOST as usize];
        let what = || format!("message {index}: {known:?}, handled {handled}, returned {returned}");
        assert!(handled + returned <= 1, "{}", what());
        match known {
            Known::Nothing | Known::NotTaken => assert_eq!(handled + returned, 0, "{}", what()),
            Known::Answered => assert_eq!((*handled, *returned), (1, 0), "{}", what()),
            Known::Accepted => vanished += u64::from(handled + returned == 0),
            Known::Unsaid => {}
        }
    }
    // What was accepted and neither handled nor returned can only be a dead letter.
    assert!(vanished <= books.dead_letters.total(), "{vanished} messages vanished, {books:?}");
    let handled: u64 = handled.iter().map(|count| u64::from(*count)).sum();
    // What was in hand at the end may have noted itself before it was stopped.
    let possible = books.handled..=books.handled + abandoned;
    assert!(possible.contains(&handled), "{handled} noted, {books:?}");
}

#[test]
fn the_books_balance_under_load_with_block() {
    each_kind(|kind| balances_to_the_end(kind, Backpressure::Block));
}

#[test]
fn the_books_balance_under_load_with_reject() {
    each_kind(|kind| balances_to_the_end(kind, Backpressure::Reject));
}

#[test]
fn the_books_balance_under_load_with_drop_oldest() {
    each_kind(|kind| balances_to_the_end(kind, Backpressure::DropOldest));
}

#[test]
fn the_books_balance_under_load_with_drop_newest() {
    each_kind(|kind| balances_to_the_end(kind, Backpressure::DropNewest));
}

#[test]
fn faults_are_in_the_books_too() {
    each_kind(|kind| {
        let latch = Latch::new();
        let runtime = runtime();
        let policy = ringwork::RestartPolicy::OneForOne {
            max: u32::MAX,
            within: Duration::from_secs(3600),
            state: ringwork::RestartState::Current,
        };
        let kernel =
            counter(kind, "faulty", &latch).restart(policy).output_backpressure(Backpressure::DropOldest);
        let kernel = if kind == Kind::Wgsl { kernel.loop_budget(1000) } else { kernel };
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        let done = AtomicBool::new(false);
        crate::threads::scope(|scope| {
            let watching = scope.spawn(|| monitor(&kernel, &done));
            let senders: Vec<_> = (0..4)
                .map(|sender| {
                    scope.spawn({
                        let kernel = &kernel;
                        move || {
                            for number in 0..250 {
                                let fault = number % 10 == 3;
                                let message =
                                    Job::of(sender, number).action(if fault { FAULT } else { COUNT });
                                if number % 3 == 0 {
                                    let answer = kernel.ask(message, LONG);
                                    assert_eq!(answer.is_err_and(|error| error.is_failed()), fault);
                                } else {
                                    let priority = Priority::from((number % 5) as u8 * 60);
                                    kernel
                                        .send_with(message, ringwork::Options::default().priority(priority))
                                        .unwrap();
                                }
                            }
                        }
                    })
                })
                .collect();
            for sender in senders {
                sender.join().unwrap();
            }
            let books = settled(&kernel);
            done.store(true, Ordering::Relaxed);
            assert!(watching.join().unwrap() > 0);
            assert_eq!((books.accepted, books.handled, books.restarts), (1000, 900, 100));
            assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), 100);
        });
    });
}
