//! The work, the same for everybody: one message, one handler, and the loops that time a system as its client.

use crate::harness::Scale;
use crate::machine::{clock, ticks};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests that a pipelining client keeps open.
pub const IN_FLIGHT: usize = 64;

/// Actors, each of which gets one message.
pub const INSTANCES: usize = 100_000;

/// Passes over all instances in one sample, after one that warms up.
const PASSES: u32 = 3;

/// Up to eight numbers to add, 64 bytes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Numbers {
    /// The instance that gets them, where there are several.
    pub to: u32,
    /// How many of `values` count.
    pub len: u32,
    pub values: [f32; 8],
}

const _: () = assert!(size_of::<Numbers>() == 64);

impl Numbers {
    /// The client's message number `i`.
    #[inline]
    pub fn new(i: u64) -> Self {
        Self { to: 0, len: 8, values: [value(i); 8] }
    }

    /// The handler: the sum.
    #[inline]
    pub fn sum(&self) -> f32 {
        sum(self.len, &self.values)
    }
}

/// Each of the values in message number `i`.
#[inline]
pub fn value(i: u64) -> f32 {
    (i & 7) as f32
}

/// The sum of the first `len` values.
#[inline]
pub fn sum(len: u32, values: &[f32; 8]) -> f32 {
    values[..len.min(8) as usize].iter().sum()
}

/// What one of the many instances keeps.
#[derive(Clone, Copy, Default)]
pub struct Agent {
    pub totals: [f32; 8],
    pub count: u32,
}

impl Agent {
    /// The instances' handler.
    #[inline]
    pub fn take(&mut self, message: &Numbers) {
        for (total, value) in self.totals.iter_mut().zip(&message.values) {
            *total += value;
        }
        self.count += 1;
    }
}

/// Every instance once, shuffled, the same in every run.
pub fn destinations() -> Vec<u32> {
    let mut order: Vec<u32> = (0..INSTANCES as u32).collect();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for i in (1..order.len()).rev() {
        // xorshift64 (Marsaglia 2003)
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        order.swap(i, (random % (i as u64 + 1)) as usize);
    }
    order
}

/// Stops the run on a wrong reply to message number `i`.
#[inline]
pub fn check(i: u64, reply: f32) {
    assert_eq!(reply, value(i) * 8.0, "wrong reply to message {i}");
}

/// How many requests [`ask`] also times together, because one may take less time than the timer's steps.
pub const RUN: u64 = 32;

/// One request after the other: p50 and p99 of single requests, p50 of runs of [`RUN`] and the mean, in ns a request.
/// The first two come from a stamp before and after each, the stamps' own cost taken off; the others from a second
/// loop, with stamps around each run.
pub fn ask(scale: Scale, mut call: impl FnMut(u64) -> f32) -> Vec<f64> {
    const MOST: usize = 400_000;
    let clock = clock();
    let until = |share: f64| ticks() + (scale.seconds() * share * 1e9 / clock.period) as u64;
    let mut i = 0;
    let mut timed = |i| {
        let start = ticks();
        let reply = call(i);
        let stop = ticks();
        check(i, reply);
        (stop, stop - start)
    };

    let warm = until(0.2);
    while timed(i).0 < warm {
        i += 1;
    }
    let mut samples = vec![1; MOST]; // not zeros, which the kernel would only map at first touch, while we measure
    let (end, mut taken) = (until(0.5), 0);
    while taken < MOST {
        let (now, sample) = timed(i);
        samples[taken] = sample;
        (taken, i) = (taken + 1, i + 1);
        if now > end {
            break;
        }
    }
    let timed = &mut samples[..taken];
    timed.sort_unstable();
    let percentile = |n: usize| (timed[taken * n / 100] as f64 * clock.period - clock.cost).max(0.0);

    let single = [percentile(50), percentile(99)];

    let (start, end, mut taken) = (ticks(), until(0.3), 0);
    let mut last = start;
    while last < end && taken < samples.len() {
        for _ in 0..RUN {
            check(i, call(i));
            i += 1;
        }
        let now = ticks();
        samples[taken] = now - last;
        (last, taken) = (now, taken + 1);
    }
    let runs = &mut samples[..taken];
    let mean = (last - start) as f64 * clock.period / (taken as u64 * RUN) as f64;
    runs.sort_unstable();
    let in_runs = runs[taken / 2] as f64 * clock.period / RUN as f64;
    vec![single[0], single[1], in_runs, mean]
}

/// [`IN_FLIGHT`] requests open at a time, replies awaited oldest first: requests per second.
pub fn in_flight<P>(
    count: u64,
    mut request: impl FnMut(u64) -> P,
    mut wait: impl FnMut(P) -> f32,
) -> Vec<f64> {
    let mut open = VecDeque::with_capacity(IN_FLIGHT);
    let mut run = |count: u64| {
        for i in 0..count {
            if open.len() == IN_FLIGHT {
                check(i - IN_FLIGHT as u64, wait(open.pop_front().expect("not empty")));
            }
            open.push_back(request(i));
        }
        let first = count - open.len() as u64;
        for i in first..count {
            check(i, wait(open.pop_front().expect("as many as counted")));
        }
    };
    run(count / 10);
    rate(count, || run(count))
}

/// `count` messages that nobody answers; `flush` returns when the last has been handled: messages per second.
pub fn one_way(count: u64, mut send: impl FnMut(u64), mut flush: impl FnMut()) -> Vec<f64> {
    let mut run = |count: u64| {
        (0..count).for_each(&mut send);
        flush();
    };
    run(count / 10);
    rate(count, || run(count))
}

/// Operations per second of `run`, which does `count` of them.
pub fn rate(count: u64, run: impl FnOnce()) -> Vec<f64> {
    let start = Instant::now();
    run();
    vec![count as f64 / start.elapsed().as_secs_f64()]
}

/// One message to every instance, until the last has been handled: milliseconds a pass.
pub fn passes(mut pass: impl FnMut()) -> Vec<f64> {
    pass();
    let start = Instant::now();
    (0..PASSES).for_each(|_| pass());
    vec![start.elapsed().as_secs_f64() * 1e3 / f64::from(PASSES)]
}

/// Looks every few microseconds, without taking a processor away from those who work, until `done`.
pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not happen within a minute");
        std::thread::sleep(Duration::from_micros(20));
    }
}
