//! Kernels that come and go beside one that streams: it does not stall, and nothing of them stays.

use super::{ADD, LONG, Number, Sum, adder, check_books, holds_no_more_than, runtime};
use crate::{RestartPolicy, RingKernel, Runtime};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Messages of the stream that are on their way at once.
const WINDOW: usize = 64;
/// Kernels that come and go before what the device holds is looked at for the first time.
const FIRST: usize = 20;
/// A stall that no scheduler explains. On an idle machine the gap has to be far smaller: see `a_thousand_without_a_stall`.
const GENEROUS: Duration = Duration::from_secs(2);

type Other = RingKernel<Number, Sum>;

/// A kernel with the stream's own handler: it joins the stream's rounds.
fn same(_: usize) -> Other {
    RingKernel::wgsl("other", ADD).initial_state(Sum::default())
}

/// A kernel with a handler that nobody had before.
fn own(number: usize) -> Other {
    let text = ADD.replace("+= m.value", &format!("+= m.value + {number}u"));
    RingKernel::wgsl("other", text).initial_state(Sum::default())
}

/// How long its launch took.
fn come_and_go(runtime: &Runtime, kernel: Other) -> Duration {
    let begun = Instant::now();
    let kernel = runtime.launch(kernel).unwrap();
    let took = begun.elapsed();
    kernel.activate().unwrap();
    for count in 1..=3 {
        assert_eq!(kernel.ask(Number { value: 1 }, LONG).unwrap().count, count);
    }
    kernel.deactivate().unwrap();
    assert!(kernel.terminate(LONG).unwrap().is_clean());
    took
}

/// Streams while so many others come and go; the longest time without a reply.
fn churn(test: &str, times: usize, other: fn(usize) -> Other) -> Option<Duration> {
    let runtime = runtime()?;
    let stream = adder(&runtime, RestartPolicy::Never);
    let is_over = AtomicBool::new(false);
    let (mut held, mut launch) = (Vec::new(), Duration::ZERO);
    let begun = Instant::now();
    let (gap, streamed) = std::thread::scope(|scope| {
        let streaming = scope.spawn(|| {
            let (mut gap, mut sent) = (Duration::ZERO, 0u32);
            let mut last = Instant::now();
            while !is_over.load(Ordering::Relaxed) {
                let pending: Vec<_> =
                    (0..WINDOW).map(|_| stream.request(Number { value: 1 }).unwrap()).collect();
                for one in pending {
                    sent += 1;
                    assert_eq!(one.wait(LONG).unwrap().count, sent);
                    let now = Instant::now();
                    gap = gap.max(now - last);
                    last = now;
                }
            }
            (gap, sent)
        });
        for number in 0..times {
            if number == FIRST {
                held = runtime.device().holdings();
            }
            launch = launch.max(come_and_go(&runtime, other(number)));
        }
        is_over.store(true, Ordering::Relaxed);
        streaming.join().unwrap()
    });
    let took = begun.elapsed();
    println!("{test}: {times} in {took:?}, the longest launch {launch:?}");
    println!("{streamed} messages beside them, the longest gap {gap:?}");
    println!("held after {FIRST}: {held:?}");
    // At its busiest the stream has two rounds on the device and one that is handed out; when it was looked at it may have
    // had one. A leak would be of one thing for each that has come and gone.
    for (what, count) in &mut held {
        *count += match *what {
            "buffers" | "bind groups" => 2 * 4,
            "bytes in buffers" => 1 << 20,
            _ => 0,
        };
    }
    println!("held after {times}: {:?}", holds_no_more_than(&runtime, &held));
    assert!(!runtime.device().is_lost(), "nothing went wrong that nobody foresaw");
    check_books(&stream);
    Some(gap)
}

#[test]
fn kernels_with_the_streams_handler_come_and_go_beside_it() {
    if let Some(gap) = churn("with its handler", 200, same) {
        assert!(gap < GENEROUS, "{gap:?}");
    }
}

#[test]
fn kernels_with_handlers_of_their_own_come_and_go_beside_a_stream() {
    if let Some(gap) = churn("with their own", 100, own) {
        assert!(gap < GENEROUS, "{gap:?}");
    }
}

#[test]
#[ignore = "takes minutes, and wants a machine with nothing else to do"]
fn a_thousand_without_a_stall() {
    let strict = |test, other| {
        if let Some(gap) = churn(test, 1000, other) {
            assert!(gap < Duration::from_millis(100), "{test}: {gap:?}");
        }
    };
    strict("with its handler", same);
    strict("with their own", own);
}
