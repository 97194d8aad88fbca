//! Guarantee 1 in small: each way a message can end, one at a time.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{Backpressure, Context, DeadLetterReason, Handle, RingKernel, Runtime, SendError};
use std::time::{Duration, Instant};

#[test]
fn every_way_to_send_is_counted_once() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "all", &latch)).unwrap();
        assert!(matches!(kernel.send(job(9)), Err(SendError::NotActive(back)) if back.number == 9));
        assert_eq!(kernel.telemetry().accepted, 0, "a message given back is not accepted");
        kernel.activate().unwrap();
        kernel.send(job(1)).unwrap();
        kernel.try_send(job(2)).unwrap();
        kernel.send_timeout(job(3), LONG).unwrap();
        assert_eq!(kernel.send_many([job(4), job(5)]).unwrap(), 2);
        drop(kernel.request(job(6)).unwrap());
        let last = kernel.request(job(7)).unwrap().wait(LONG).unwrap();
        assert_eq!((last.count, last.sum), (7, 28));
        assert_eq!(kernel.ask(job(8), LONG).unwrap().sum, 36);
        assert_eq!(kernel.ask_many([job(9), job(10)], LONG).unwrap().last().unwrap().sum, 55);
        let books = settled(&kernel);
        assert_eq!((books.accepted, books.handled, books.depth), (10, 10, 0));
        // The replies to 1 to 5, which nobody asked for.
        assert_eq!(books.unread_replies, 5);
    });
}

#[test]
fn what_terminate_returns_is_in_the_books_and_in_order() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "rest", &latch).output_capacity(1)).unwrap();
        kernel.activate().unwrap();
        // One reply is not received: a kernel stops before its second message, a host kernel in it.
        for number in 0..10 {
            kernel.send(job(number)).unwrap();
        }
        eventually("the first is handled", || kernel.telemetry().handled >= 1);
        kernel.deactivate_timeout(Duration::from_millis(50)).ok();
        let end = kernel.terminate(Duration::from_millis(50)).unwrap();
        let books = kernel.telemetry();
        check_books(&books);
        assert_eq!((books.accepted, books.pending), (10, 0));
        assert_eq!(books.returned, end.returned.len() as u64);
        let numbers: Vec<u32> = end.returned.iter().map(|envelope| envelope.number).collect();
        let first = 10 - numbers.len() as u32;
        assert_eq!(numbers, (first..10).collect::<Vec<_>>());
        assert!(first == 1 || kind == Kind::Host && first == 2, "{books:?}");
        assert!(end.returned.windows(2).all(|pair| pair[0].id != pair[1].id));
    });
}

/// A kernel that drops what comes when it has a message and a reply that nobody has received.
fn full_at_once(runtime: &Runtime, kind: Kind, latch: &Latch) -> Handle<Job, Answer> {
    let kernel = counter(kind, "small", latch).queue_capacity(1).backpressure(Backpressure::DropNewest);
    let kernel = runtime.launch(kernel.output_capacity(1)).unwrap();
    kernel.activate().unwrap();
    kernel
}

#[test]
fn a_dead_letter_tells_what_it_was_and_why() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = full_at_once(&runtime, kind, &latch);
        kernel.send(job(0)).unwrap();
        eventually("the first is handled", || kernel.telemetry().unread_replies == 1);
        let mut taken = 0;
        let id = ringwork::Uuid::from_u128(77);
        let options = ringwork::Options::default().correlation_id(id);
        // A host kernel takes one into its hand before it stalls.
        eventually("it is full", || match kernel.send_with(job(taken + 1), options) {
            Ok(()) => {
                taken += 1;
                std::thread::sleep(Duration::from_millis(5));
                false
            }
            Err(SendError::Dropped(error)) => {
                assert!(error.is_dropped() && error.to_string().contains("`small`"), "{error}");
                true
            }
            Err(other) => panic!("{other:?}"),
        });
        assert_eq!(kernel.telemetry().dead_letters.get(DeadLetterReason::DroppedNewest), 1);
        let letters = runtime.take_dead_letters();
        assert_eq!(letters.len(), 1);
        let letter = &letters[0];
        assert_eq!((letter.kernel.as_str(), letter.reason), ("small", DeadLetterReason::DroppedNewest));
        assert_eq!(letter.correlation_id, Some(id));
        let payload = letter.payload.as_ref().expect("the message is kept");
        // A host kernel's is encoded by postcard: for plain data that is a length and the bytes.
        let bytes = &payload[payload.len() - size_of::<Job>()..];
        assert_eq!(bytes, job_bytes(job(taken + 1)));
        assert!(runtime.take_dead_letters().is_empty(), "taken is taken");
        // The runtime would give it time.
        kernel.terminate(Duration::ZERO).unwrap();
    });
}

fn job_bytes(job: Job) -> Vec<u8> {
    let Job { sender, number, action, loops, micros, to } = job;
    [sender, number, action, loops, micros, to].into_iter().flat_map(u32::to_ne_bytes).collect()
}

#[test]
fn a_host_kernel_that_returns_dead_letters_what_is_queued() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        let gate = latch.inner();
        let kernel =
            ringwork::RingKernel::host("brief", move |context: &mut ringwork::Context<Job, Answer>| {
                context.receive();
                gate.pass();
            });
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        for number in 0..5 {
            kernel.send(job(number)).unwrap();
        }
        let waiting = kernel.request(job(5)).unwrap();
        latch.await_arrivals(1);
        latch.open();
        assert!(waiting.wait(LONG).is_err_and(|error| error.is_terminated()));
        let books = settled(&kernel);
        assert_eq!((books.accepted, books.handled), (6, 1));
        assert_eq!(books.dead_letters.get(DeadLetterReason::KernelEnded), 5);
        assert!(matches!(kernel.send(job(6)), Err(SendError::Terminated(_))));
    });
}

#[test]
fn as_many_dead_letters_are_kept_as_the_runtime_was_built_for() {
    for (capacity, kept) in [(None, 7), (Some(0), 0), (Some(3), 3), (Some(1 << 20), 7)] {
        each_kind(move |kind| {
            let builder = Runtime::builder();
            let builder = match capacity {
                Some(capacity) => builder.dead_letter_capacity(capacity),
                None => builder,
            };
            let (runtime, latch) = (builder.build().unwrap(), Latch::new());
            let kernel = full_at_once(&runtime, kind, &latch);
            let dropped = || kernel.telemetry().dead_letters.get(DeadLetterReason::DroppedNewest);
            let (mut number, mut last) = (0, Vec::new());
            // It stalls with its first reply, which nobody receives.
            let begun = Instant::now();
            while dropped() < 7 {
                assert!(begun.elapsed() < LONG, "{:?}", kernel.telemetry());
                if matches!(kernel.send(job(number)), Err(SendError::Dropped(_))) {
                    last.push(number);
                }
                number += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            let letters = runtime.take_dead_letters();
            let numbers: Vec<_> = letters
                .iter()
                .map(|letter| {
                    let payload = letter.payload.as_ref().expect("the message is kept");
                    payload[payload.len() - size_of::<Job>()..].to_vec()
                })
                .collect();
            let wanted: Vec<_> = last[7 - kept..].iter().map(|number| job_bytes(job(*number))).collect();
            assert_eq!(numbers, wanted, "the last ones, oldest first");
            kernel.terminate(Duration::ZERO).unwrap();
        });
    }
    let error = Runtime::builder().dead_letter_capacity((1 << 20) + 1).build().unwrap_err();
    assert!(error.is_invalid(), "{error:?}");
    assert_eq!(error.to_string(), "dead_letter_capacity is 1048577, but must be 0 to 1048576");
}

/// A message that may not be written.
#[derive(Clone, Debug, serde::Deserialize)]
struct Secret(bool);

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!self.0, "it is not to be written");
        serializer.serialize_bool(self.0)
    }
}

#[test]
fn a_message_that_cannot_be_written_is_a_dead_letter_all_the_same() {
    bounded(|| {
        let runtime = runtime();
        let kernel = RingKernel::host("k", |context: &mut Context<Secret, ()>| {
            context.receive();
            while !context.should_terminate() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let kernel = kernel.queue_capacity(1).backpressure(Backpressure::DropOldest);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        kernel.send(Secret(false)).unwrap();
        eventually("the first is in hand", || kernel.telemetry().depth == 0);
        kernel.send(Secret(true)).unwrap();
        kernel.send(Secret(false)).unwrap();
        let letters = runtime.take_dead_letters();
        assert_eq!(letters.len(), 1);
        assert_eq!((letters[0].reason, letters[0].payload.clone()), (DeadLetterReason::DroppedOldest, None));
        kernel.terminate(LONG).unwrap();
        check_books(&kernel.telemetry());
    });
}
