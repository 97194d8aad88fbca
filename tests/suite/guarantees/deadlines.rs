//! The deadline of an `ask` holds, also when the caller itself would run the handler.

use super::kit::*;
use crate::common::{LONG, runtime};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_millis(10);
const BOUND: Duration = Duration::from_millis(30);

/// Asks for something that takes a second, with ten milliseconds to spend; how long it took.
fn ask_too_much(kernel: &ringwork::Handle<Job, Answer>, slow: Job) -> Duration {
    let begun = Instant::now();
    let result = kernel.ask(slow, DEADLINE);
    let took = begun.elapsed();
    let error = result.unwrap_err();
    assert!(error.is_timed_out() && took >= DEADLINE - Duration::from_millis(1), "{error} after {took:?}");
    took
}

#[test]
fn an_ask_returns_at_its_deadline_and_the_message_is_handled_once() {
    each_kind(|kind| {
        let slow = job(5).taking(SECOND);
        within(BOUND, &format!("ask(10 ms) of a {kind:?} handler that takes a second"), |_| {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = runtime.launch(counter(kind, "slow", &latch)).unwrap();
            kernel.activate().unwrap();
            let took = ask_too_much(&kernel, slow);
            assert_eq!(kernel.telemetry().handled, 0, "{kind:?}: it was to take a second");
            let books = settled(&kernel);
            assert_eq!((books.accepted, books.handled, books.late_replies), (1, 1, 1));
            let answer = kernel.ask(job(1), LONG).unwrap();
            assert_eq!((answer.count, answer.sum), (2, 6), "{kind:?}: its effect is there once");
            took
        });
    });
}

#[test]
fn an_ask_of_a_handler_known_to_be_fast_returns_at_its_deadline() {
    bounded(|| {
        // A WGSL handler on the caller's own thread is stopped there; the message goes to the background.
        for kind in [Kind::Wgsl, Kind::Host] {
            let slow = job(5).taking(SECOND);
            within(BOUND, &format!("ask(10 ms) of a {kind:?} handler that was fast before"), |_| {
                let (runtime, latch) = (runtime(), Latch::new());
                let kernel = runtime.launch(counter(kind, "moody", &latch)).unwrap();
                kernel.activate().unwrap();
                for _ in 0..100 {
                    kernel.ask(job(0), LONG).unwrap();
                }
                let took = ask_too_much(&kernel, slow);
                let books = settled(&kernel);
                assert_eq!((books.accepted, books.handled), (101, 101));
                assert_eq!(kernel.ask(job(1), LONG).unwrap().sum, 6, "{kind:?}: its effect is there once");
                took
            });
        }
    });
}

#[test]
fn an_ask_of_a_background_handler_that_was_fast_returns_at_its_deadline() {
    bounded(|| {
        for kind in [Kind::Native, Kind::Wgsl] {
            within(BOUND, &format!("ask(10 ms) of a {kind:?} handler in the background"), |_| {
                let (runtime, latch) = (runtime(), Latch::new());
                let kernel = runtime.launch(counter(kind, "moody", &latch).background()).unwrap();
                kernel.activate().unwrap();
                for _ in 0..200 {
                    kernel.ask(job(0), LONG).unwrap();
                }
                let took = ask_too_much(&kernel, job(5).taking(SECOND));
                let books = settled(&kernel);
                assert_eq!((books.accepted, books.handled, books.late_replies), (201, 201, 1));
                took
            });
        }
    });
}

/// A native handler that was fast so far, and takes 10 ms for this job.
fn moody(runtime: &ringwork::Runtime) -> (ringwork::Handle<Job, Answer>, Job) {
    let kernel = runtime.launch(counter(Kind::Native, "moody", &Latch::new())).unwrap();
    kernel.activate().unwrap();
    for _ in 0..1000 {
        kernel.ask(job(0), LONG).unwrap();
    }
    (kernel, Job { micros: 10_000, ..job(1) })
}

#[test]
fn a_native_handler_that_becomes_slow_leaves_its_callers_threads() {
    bounded(|| {
        let runtime = runtime();
        let (kernel, slow) = moody(&runtime);
        // The first few may run where they should not: that is how it shows itself to be slow.
        let after = (0..500).position(|_| kernel.ask(slow, Duration::from_millis(2)).is_err());
        assert!(after.is_some(), "it ran on its callers' threads, far past their deadlines, 500 times");
        assert!(kernel.ask(slow, Duration::from_millis(2)).is_err_and(|error| error.is_timed_out()));
        settled(&kernel);
    });
}

#[test]
fn a_native_handler_that_becomes_slow_leaves_its_senders_threads() {
    bounded(|| {
        let runtime = runtime();
        let (kernel, slow) = moody(&runtime);
        let lot = || {
            let begun = Instant::now();
            kernel.send_many([slow; 2]).unwrap();
            begun.elapsed()
        };
        // The first few may run on this thread, as above.
        let takes: Vec<_> = (0..32).map(|_| lot()).collect();
        assert!(
            takes.iter().any(|took| *took < Duration::from_millis(10)),
            "all ran on the thread that sent them: {takes:?}"
        );
        settled(&kernel);
    });
}

#[test]
fn asks_behind_a_slow_message_return_at_their_deadlines() {
    each_kind(|kind| {
        let slow = job(5).taking(SECOND);
        within(BOUND, &format!("the last of ten asks behind a slow {kind:?} message"), |_| {
            let (runtime, latch) = (runtime(), Latch::new());
            let kernel = runtime.launch(counter(kind, "behind", &latch)).unwrap();
            kernel.activate().unwrap();
            let first = kernel.request(slow).unwrap();
            let took = crate::threads::scope(|scope| {
                let asks: Vec<_> = (0..10).map(|_| scope.spawn(|| ask_too_much(&kernel, job(1)))).collect();
                asks.into_iter().map(|ask| ask.join().unwrap()).max().unwrap()
            });
            assert_eq!(first.wait(LONG).unwrap().number, 5);
            let books = settled(&kernel);
            assert_eq!((books.accepted, books.handled, books.late_replies), (11, 11, 10));
            took
        });
    });
}

#[test]
fn receives_and_requests_end_at_their_deadlines() {
    each_kind(|kind| {
        let (runtime, latch) = (runtime(), Latch::new());
        let kernel = runtime.launch(counter(kind, "quiet", &latch)).unwrap();
        kernel.activate().unwrap();
        within(BOUND, "recv_timeout(10 ms)", |_| {
            let begun = Instant::now();
            assert!(kernel.recv_timeout(DEADLINE).is_err_and(|error| error.is_timed_out()));
            begun.elapsed()
        });
        within(BOUND, "recv_many(10 ms)", |_| {
            let begun = Instant::now();
            assert!(kernel.recv_many(10, DEADLINE).is_err_and(|error| error.is_timed_out()));
            begun.elapsed()
        });
        let slow = job(5).taking(SECOND);
        let mut requests = vec![kernel.request(slow).unwrap(), kernel.request(job(1)).unwrap()];
        let begun = Instant::now();
        let nothing = ringwork::Pending::wait_any(&mut requests, DEADLINE);
        assert!(nothing.is_err_and(|error| error.is_timed_out()) && begun.elapsed() < SECOND);
        assert!(requests[1].try_wait().unwrap().is_none());
        let last = requests.pop().unwrap();
        assert!(last.wait(DEADLINE).is_err_and(|error| error.is_timed_out()));
        assert_eq!(requests.pop().unwrap().wait(LONG).unwrap().number, 5, "that one is still waited for");
        assert_eq!(settled(&kernel).late_replies, 1);
        assert!(kernel.ask(job(1), Duration::ZERO).is_err_and(|error| error.is_invalid()));
        // As good as for ever.
        assert_eq!(kernel.ask(job(1), Duration::MAX).unwrap().count, 3);
        assert_eq!(kernel.request(job(1)).unwrap().wait(Duration::MAX).unwrap().count, 4);
    });
}
