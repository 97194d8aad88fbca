//! Guarantee 3: capacity is exact, and each strategy does what it says.

use super::kit::*;
use crate::common::{LONG, runtime};
use ringwork::{Backpressure, DeadLetterReason, Handle, Options, Priority, Runtime, SendError};
use std::time::{Duration, Instant};

/// A kernel whose handler has one message in hand, and keeps it for as long as the latch is closed (a WGSL handler:
/// `hold`). Its mailbox is empty.
fn busy(
    runtime: &Runtime,
    kind: Kind,
    capacity: usize,
    strategy: Backpressure,
    latch: &Latch,
    hold: Duration,
) -> Handle<Job, Answer> {
    let kernel = holdable(runtime, kind, "busy", latch).queue_capacity(capacity).backpressure(strategy);
    let kernel = runtime.launch(kernel).unwrap();
    kernel.activate().unwrap();
    if kind == Kind::Wgsl {
        kernel.send(job(0).taking(hold)).unwrap();
    } else {
        kernel.send(job(0).action(BLOCK)).unwrap();
        latch.await_arrivals(1);
    }
    // The message is taken as soon as a driver comes by.
    eventually("the handler has begun", || kernel.telemetry().depth == 0);
    assert_eq!(kernel.telemetry().handled, 0, "the handler was to be busy for longer");
    kernel
}

/// Long enough for a handful of sends.
const HOLD: Duration = Duration::from_millis(400);

#[test]
fn capacity_is_exact_while_a_handler_runs() {
    each_kind(|kind| {
        for capacity in [1, 2, 7] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = busy(&runtime, kind, capacity, Backpressure::Block, &latch, HOLD);
            let taken = (1..100).take_while(|&number| kernel.try_send(job(number)).is_ok()).count();
            assert_eq!(taken, capacity, "the message in hand does not count, the others do");
            let books = kernel.telemetry();
            assert_eq!((books.depth, books.pending), (capacity, capacity as u64 + 1));
            match kernel.try_send(job(77)) {
                Err(SendError::Full(back)) => assert_eq!(back, job(77)),
                other => panic!("{other:?}"),
            }
            latch.open();
            assert_eq!(settled(&kernel).handled, capacity as u64 + 1);
            assert_eq!(kernel.telemetry().depth, 0);
        }
    });
}

#[test]
fn capacity_is_exact_while_replies_stall_the_kernel() {
    each_kind(|kind| {
        for capacity in [1, 2, 7] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = counter(kind, "stalled", &latch).queue_capacity(capacity).output_capacity(1);
            let kernel = runtime.launch(kernel).unwrap();
            kernel.activate().unwrap();
            kernel.send(job(0)).unwrap();
            eventually("one reply is unread", || kernel.telemetry().unread_replies == 1);
            if kind == Kind::Host {
                // A host kernel takes one more into its hand before it finds no room for the reply.
                kernel.send(job(0)).unwrap();
                eventually("it is taken", || kernel.telemetry().depth == 0);
            }
            let taken = (1..100).take_while(|&number| kernel.try_send(job(number)).is_ok()).count();
            assert_eq!((taken, kernel.telemetry().depth), (capacity, capacity));
            let begun = usize::from(kind == Kind::Host) + 1;
            for _ in 0..capacity + begun {
                kernel.recv_timeout(LONG).unwrap();
            }
            assert_eq!(settled(&kernel).handled, (capacity + begun) as u64);
        }
    });
}

#[test]
fn messages_in_the_ring_count_until_their_handlers_begin() {
    bounded(|| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = counter(Kind::Native, "ring", &latch).queue_capacity(7).output_capacity(1);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        for _ in 0..300 {
            // Known to be fast, it is given as many at once as there are.
            kernel.ask(job(0), LONG).unwrap();
        }
        kernel.send(job(0)).unwrap();
        eventually("the reply is there", || kernel.telemetry().unread_replies == 1);
        // Seven are queued together behind the reply that nobody has received: the third stays in its handler.
        for number in 1..=7 {
            let message = job(number).action(if number == 3 { BLOCK } else { COUNT });
            let options = Options::default();
            kernel.send_with(message, if number == 1 { options } else { options.discard_reply() }).unwrap();
        }
        assert!(matches!(kernel.try_send(job(8)), Err(SendError::Full(_))));
        kernel.recv_timeout(LONG).unwrap();
        latch.await_arrivals(1);
        // Two are done, one is in hand: four wait, wherever they are.
        assert_eq!(kernel.telemetry().depth, 4);
        let taken = (10..100).take_while(|&number| kernel.try_send(job(number)).is_ok()).count();
        assert_eq!((taken, kernel.telemetry().depth), (3, 7));
        latch.open();
        for _ in 0..4 {
            kernel.recv_timeout(LONG).unwrap();
        }
        assert_eq!(settled(&kernel).handled, 300 + 1 + 7 + 3);
    });
}

#[test]
fn block_blocks_until_there_is_room() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = busy(&runtime, kind, 1, Backpressure::Block, &latch, HOLD);
        kernel.try_send(job(1)).unwrap();
        crate::threads::scope(|scope| {
            let sender = scope.spawn(|| kernel.send(job(2)));
            let many = scope.spawn(|| kernel.send_many((3..8).map(job)));
            std::thread::sleep(Duration::from_millis(30));
            if kind != Kind::Wgsl {
                assert!(!sender.is_finished() && !many.is_finished(), "they were to wait");
            }
            latch.open();
            sender.join().unwrap().unwrap();
            assert_eq!(many.join().unwrap().unwrap(), 5);
        });
        assert_eq!(settled(&kernel).handled, 8);
    });
}

#[test]
fn a_blocked_send_ends_at_its_deadline_with_the_message_and_the_reason() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = busy(&runtime, kind, 2, Backpressure::Block, &latch, HOLD);
        kernel.try_send(job(1)).unwrap();
        kernel.try_send(job(2)).unwrap();
        let begun = Instant::now();
        match kernel.send_timeout(job(3), Duration::from_millis(20)) {
            Err(SendError::TimedOut(back, error)) => {
                assert_eq!(back, job(3));
                assert!(begun.elapsed() >= Duration::from_millis(20));
                assert!(error.is_timed_out());
                assert_eq!(
                    error.to_string(),
                    "send to kernel `busy` timed out: 2 messages queued, its handler is busy"
                );
            }
            other => panic!("{other:?}"),
        }
        let error = kernel.ask(job(4), Duration::from_millis(20)).unwrap_err();
        assert!(error.is_timed_out() && error.to_string().contains("its handler is busy"), "{error}");
        latch.open();
        assert_eq!(settled(&kernel).handled, 3, "neither was accepted");
    });
}

#[test]
fn a_stalled_caller_is_told_of_the_replies_that_nobody_receives() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = counter(kind, "unheard", &latch).queue_capacity(2).output_capacity(4);
        let kernel = runtime.launch(kernel).unwrap();
        kernel.activate().unwrap();
        for number in 0..4 {
            kernel.send(job(number)).unwrap();
            eventually("it is handled", || kernel.telemetry().unread_replies == number as usize + 1);
        }
        // Nobody asked for this one's reply either, so it has to wait, and whatever comes after it.
        kernel.send(job(4)).unwrap();
        let error = kernel.ask(job(5), Duration::from_millis(60)).unwrap_err();
        assert!(error.is_timed_out());
        assert!(error.to_string().contains("4 replies of `unheard` not received"), "{error}");
        while kernel.try_send(job(6)).is_ok() {}
        let error = match kernel.send_timeout(job(7), Duration::from_millis(20)) {
            Err(SendError::TimedOut(back, error)) if back.number == 7 => error,
            other => panic!("{other:?}"),
        };
        assert!(error.to_string().contains("4 replies of `unheard` not received"), "{error}");
        // The runtime would give it time.
        kernel.terminate(Duration::ZERO).unwrap();
    });
}

#[test]
fn reject_returns_the_message() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = busy(&runtime, kind, 2, Backpressure::Reject, &latch, HOLD);
        kernel.send(job(1)).unwrap();
        kernel.send(job(2)).unwrap();
        assert!(matches!(kernel.send(job(3)), Err(SendError::Full(back)) if back == job(3)));
        assert!(matches!(kernel.send_timeout(job(4), LONG), Err(SendError::Full(back)) if back == job(4)));
        let error = kernel.send_many([job(5), job(6)]).unwrap_err();
        assert!(matches!(error.error, SendError::Full(back) if back == job(5)));
        assert_eq!((error.sent, error.unsent), (0, vec![job(6)]));
        assert!(matches!(kernel.request(job(7)).err(), Some(SendError::Full(back)) if back == job(7)));
        let error = kernel.ask(job(8), LONG).unwrap_err();
        assert!(error.is_full() && error.to_string().contains("`busy`"), "{error}");
        latch.open();
        let books = settled(&kernel);
        assert_eq!((books.accepted, books.handled, books.dead_letters.total()), (3, 3, 0));
    });
}

#[test]
fn drop_oldest_drops_the_oldest_of_the_lowest_priority() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = busy(&runtime, kind, 3, Backpressure::DropOldest, &latch, HOLD);
        let send = |number: u32, priority: Priority| {
            kernel.send_with(job(number), Options::default().priority(priority))
        };
        send(1, Priority::NORMAL).unwrap();
        send(2, Priority::LOW).unwrap();
        send(3, Priority::HIGH).unwrap();
        // Full. The newcomer makes 2 go, then 1 (the oldest of two that are equal), then 4.
        send(4, Priority::NORMAL).unwrap();
        send(5, Priority::HIGH).unwrap();
        send(6, Priority::HIGH).unwrap();
        // Only high ones are left: what ranks below them comes back.
        assert!(matches!(send(7, Priority::NORMAL), Err(SendError::Full(back)) if back.number == 7));
        assert!(kernel.ask(job(8), LONG).is_err_and(|error| error.is_full()));
        // As high as they are: the oldest of them goes.
        send(9, Priority::HIGH).unwrap();
        assert_eq!(kernel.telemetry().handled, 0, "the handler was to be busy for longer");
        latch.open();
        let books = settled(&kernel);
        assert_eq!((books.accepted, books.handled), (8, 4));
        assert_eq!(books.dead_letters.get(DeadLetterReason::DroppedOldest), 4);
        let numbers: Vec<u32> = (0..4).map(|_| kernel.recv_timeout(LONG).unwrap().number).collect();
        assert_eq!(numbers, [0, 5, 6, 9]);
    });
}

#[test]
fn the_place_of_a_message_that_begins_is_given_to_a_sender_that_waits() {
    bounded(|| {
        for background in [true, false] {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = counter(Kind::Native, "one", &latch).queue_capacity(1);
            let kernel = runtime.launch(if background { kernel.background() } else { kernel }).unwrap();
            kernel.activate().unwrap();
            kernel.send(job(0).action(BLOCK)).unwrap();
            latch.await_arrivals(1);
            kernel.send(job(1).action(BLOCK)).unwrap();
            crate::threads::scope(|scope| {
                let sending = scope.spawn(|| kernel.send(job(2)).unwrap());
                // It finds the mailbox full, and waits. Sooner or later, the outcome is to be the same.
                std::thread::sleep(Duration::from_millis(50));
                assert!(!sending.is_finished());
                latch.let_one();
                latch.await_arrivals(2);
                eventually("there is a place", || sending.is_finished());
                assert_eq!(kernel.telemetry().handled, 1, "the second one is at the latch still");
                latch.open();
            });
            assert_eq!(settled(&kernel).handled, 3);
        }
    });
}

#[test]
fn an_ask_whose_message_is_dropped_errors_at_once() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = busy(&runtime, kind, 1, Backpressure::DropOldest, &latch, Duration::from_secs(2));
        let begun = Instant::now();
        crate::threads::scope(|scope| {
            let asking = scope.spawn(|| kernel.ask(job(1), PATIENCE));
            eventually("it is queued", || kernel.telemetry().depth == 1);
            kernel.send(job(2)).unwrap();
            let error = asking.join().unwrap().unwrap_err();
            assert!(error.is_dropped(), "{error}");
        });
        // The handler is still at the first message: nobody waited for it.
        assert_eq!(kernel.telemetry().handled, 0, "{:?}", begun.elapsed());
        latch.open();
    });
}

#[test]
fn drop_newest_tells_the_sender() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = busy(&runtime, kind, 2, Backpressure::DropNewest, &latch, HOLD);
        kernel.send(job(1)).unwrap();
        kernel.send(job(2)).unwrap();
        assert!(matches!(kernel.send(job(3)), Err(SendError::Dropped(_))));
        assert!(matches!(kernel.try_send(job(4)), Err(SendError::Dropped(_))));
        assert!(matches!(kernel.send_many([job(5), job(6)]).unwrap_err().error, SendError::Dropped(_)));
        assert!(kernel.ask(job(7), PATIENCE).is_err_and(|error| error.is_dropped()));
        // A higher rank does not help the newcomer.
        let high = Options::default().priority(Priority::HIGHEST);
        assert!(matches!(kernel.send_with(job(8), high), Err(SendError::Dropped(_))));
        assert_eq!(kernel.telemetry().handled, 0, "the handler was to be busy for longer");
        latch.open();
        let books = settled(&kernel);
        assert_eq!((books.accepted, books.handled), (8, 3));
        assert_eq!(books.dead_letters.get(DeadLetterReason::DroppedNewest), 5);
    });
}
