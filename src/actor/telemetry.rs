//! What a kernel tells about itself.

use crate::message::Token;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Why a message ended as a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeadLetterReason {
    /// Its handler faulted or panicked.
    Fault,
    /// Dropped from a full mailbox to make room ([`Backpressure::DropOldest`](crate::Backpressure::DropOldest)).
    DroppedOldest,
    /// Not let into a full mailbox ([`Backpressure::DropNewest`](crate::Backpressure::DropNewest)).
    DroppedNewest,
    /// It was in hand when `terminate` ran out of time, or had run in the same round without its result handed out.
    Abandoned,
    /// It came over a link with an instance that the kernel does not have.
    InstanceOutOfRange,
    /// The host kernel's function returned with this message still queued.
    KernelEnded,
    /// Emitted over a link to a kernel that has failed or is terminated. Counted by the source, as
    /// [`undeliverable`](Telemetry::undeliverable), for the destination never accepted it; among the destination's dead
    /// letters only if it had come there over a link on the device.
    Undeliverable,
}

impl DeadLetterReason {
    /// All reasons, in the order of their counts.
    pub const ALL: [Self; 7] = [
        Self::Fault,
        Self::DroppedOldest,
        Self::DroppedNewest,
        Self::Abandoned,
        Self::InstanceOutOfRange,
        Self::KernelEnded,
        Self::Undeliverable,
    ];
}

impl fmt::Display for DeadLetterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fault => "fault",
            Self::DroppedOldest => "dropped as the oldest",
            Self::DroppedNewest => "dropped as the newest",
            Self::Abandoned => "abandoned at termination",
            Self::InstanceOutOfRange => "instance out of range",
            Self::KernelEnded => "kernel ended",
            Self::Undeliverable => "undeliverable over a link",
        })
    }
}

/// Dead letters counted by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterCounts([u64; DeadLetterReason::ALL.len()]);

impl DeadLetterCounts {
    /// How many for this reason.
    pub fn get(&self, reason: DeadLetterReason) -> u64 {
        self.0[reason as usize]
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn count(&mut self, reason: DeadLetterReason) {
        self.0[reason as usize] += 1;
    }
}

/// A kernel's books and measurements at one moment.
///
/// `accepted == handled + returned + dead_letters.total() + pending` holds in every one ever read. The values that a message
/// emitted are counted after the message itself.
///
/// # Example
///
/// ```
/// use ringwork::{RingKernel, Runtime, message};
/// use std::time::Duration;
///
/// message! { pub struct Tick { pub count: u32 } }
///
/// let runtime = Runtime::new()?;
/// let clock = runtime.launch(RingKernel::<Tick, ()>::wgsl("clock", "fn on_message(m: Tick) {}"))?;
/// clock.activate()?;
/// clock.ask(Tick { count: 1 }, Duration::from_secs(1))?;
/// let books = clock.telemetry();
/// assert_eq!(books.accepted, books.handled + books.returned + books.dead_letters.total() + books.pending);
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Telemetry {
    /// What runs the handler: `jit` (machine code), `interpreter: ` and the reason why it is not that, `wgpu`, `cuda`,
    /// `native`, or `host`.
    pub engine: &'static str,
    /// Messages taken over from their senders.
    pub accepted: u64,
    /// Those of them that came over a link on the device, without a visit to the host; not among those whose latency is
    /// measured.
    pub arrived: u64,
    /// Messages whose handler ran and committed.
    pub handled: u64,
    /// Messages given back by `terminate`.
    pub returned: u64,
    /// Messages that ended as dead letters, by reason.
    pub dead_letters: DeadLetterCounts,
    /// Messages accepted and not yet ended.
    pub pending: u64,
    /// Messages that count against the queue's capacity: accepted, handler not begun.
    pub depth: usize,
    /// Replies whose caller had left.
    pub late_replies: u64,
    /// Replies waiting to be received.
    pub unread_replies: usize,
    /// Replies and emitted values that the output's strategy dropped.
    pub dropped_replies: u64,
    /// Values that went out through declared outputs.
    pub emitted: u64,
    /// Emitted values that no longer had a kernel to go to.
    pub undeliverable: u64,
    /// Restarts after a fault.
    pub restarts: u64,
    /// From acceptance to commit, of a sample: every sixty-fourth message that a thread sends. Not of those that `send_many`
    /// runs on the sender's own thread, nor of those that come over links.
    pub latency: Latency,
    /// Messages handled per second since the launch.
    pub throughput: f64,
    /// Since the launch.
    pub uptime: Duration,
}

/// A distribution of latencies. Quantiles are upper bounds of histogram buckets, at most 12.5 % too high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latency {
    /// Messages measured.
    pub samples: u64,
    /// Mean.
    pub mean: Duration,
    /// Largest.
    pub max: Duration,
    /// Half are below.
    pub p50: Duration,
    /// 90 % are below.
    pub p90: Duration,
    /// 99 % are below.
    pub p99: Duration,
    /// 99.9 % are below.
    pub p999: Duration,
}

/// Buckets an octave.
const FINE: usize = 8;
/// Octaves above the first: up to 2^40 ns, 18 minutes.
const OCTAVES: usize = 38;
const BUCKETS: usize = FINE * OCTAVES;

/// Latencies in buckets of an eighth of an octave; made when the first one is recorded. Written by the port's
/// holder, read by anybody.
#[derive(Default)]
pub(crate) struct Histogram(OnceLock<Box<Buckets>>);

struct Buckets {
    counts: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

fn bucket(nanoseconds: u64) -> usize {
    let value = nanoseconds.max(FINE as u64);
    let octave = value.ilog2() as usize - 3;
    (octave * FINE + ((value >> octave) as usize & (FINE - 1))).min(BUCKETS - 1)
}

/// The largest value that falls into a bucket.
fn upper_bound(bucket: usize) -> u64 {
    (((FINE + bucket % FINE + 1) as u64) << (bucket / FINE)) - 1
}

impl Histogram {
    /// Records one latency. Relaxed throughout: each number is good by itself, and a reader wants no more.
    pub(crate) fn record(&self, nanoseconds: u64) {
        let buckets = self.0.get_or_init(|| {
            Box::new(Buckets {
                counts: [const { AtomicU64::new(0) }; BUCKETS],
                sum: AtomicU64::new(0),
                max: AtomicU64::new(0),
            })
        });
        buckets.counts[bucket(nanoseconds)].fetch_add(1, Ordering::Relaxed);
        buckets.sum.fetch_add(nanoseconds, Ordering::Relaxed);
        buckets.max.fetch_max(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Latency {
        let Some(buckets) = self.0.get() else { return Latency::default() };
        let counts: Vec<u64> = buckets.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let samples: u64 = counts.iter().sum();
        let max = buckets.max.load(Ordering::Relaxed);
        let quantile = |per_mille: u64| {
            let rank = (samples * per_mille).div_ceil(1000);
            let mut seen = 0;
            let at = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            Duration::from_nanos(at.map_or(0, upper_bound).min(max))
        };
        Latency {
            samples,
            mean: Duration::from_nanos(buckets.sum.load(Ordering::Relaxed) / samples.max(1)),
            max: Duration::from_nanos(max),
            p50: quantile(500),
            p90: quantile(900),
            p99: quantile(990),
            p999: quantile(999),
        }
    }
}

/// One message in this many is timed: reading the clock costs as much as handling a message.
const SAMPLE: Token = 64;

/// Now, in nanoseconds since the process's first look at the clock; never 0.
pub(crate) fn now() -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    EPOCH.get_or_init(Instant::now).elapsed().as_nanos() as u64 + 1
}

/// The time to stamp messages with whose tokens count up: now if one of them is of the sample, else 0.
pub(crate) fn stamp_of_run(first: Token, count: usize) -> u64 {
    if first.next_multiple_of(SAMPLE) < first + count as u64 { now() } else { 0 }
}

/// The time to stamp a message with: now if it is one of the sample, else 0.
#[inline]
pub(crate) fn stamp(token: Token) -> u64 {
    if cfg!(not(loom)) && token.is_multiple_of(SAMPLE) { now() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_four_thousand_million_samples_are_counted() {
        let histogram = Histogram::default();
        histogram.record(100);
        let buckets = histogram.0.get().expect("the first one makes them");
        buckets.counts[bucket(100)].store(u32::MAX.into(), Ordering::Relaxed);
        buckets.sum.store(100 * u64::from(u32::MAX), Ordering::Relaxed);
        histogram.record(100);
        let latency = histogram.read();
        assert_eq!((latency.samples, latency.mean), (1 << 32, Duration::from_nanos(100)));
    }

    #[test]
    fn buckets_are_monotonic_and_hold_their_bounds() {
        let mut last = 0;
        for exponent in 0..60 {
            for step in 0..16u64 {
                let value = (1u64 << exponent) + (step << exponent >> 4);
                let index = bucket(value);
                assert!(index >= last);
                last = index;
                if index < BUCKETS - 1 {
                    assert!(upper_bound(index) >= value, "{value} in bucket {index}");
                    assert!(upper_bound(index) as f64 <= value.max(8) as f64 * 1.126 + 1.0);
                }
            }
        }
    }

    #[test]
    fn quantiles_of_a_known_distribution() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read(), Latency::default());
        for value in 1..=1000 {
            histogram.record(value * 1000);
        }
        let latency = histogram.read();
        assert_eq!(latency.samples, 1000);
        assert_eq!(latency.max, Duration::from_micros(1000));
        assert_eq!(latency.mean, Duration::from_nanos(500_500));
        for (got, exact) in [(latency.p50, 500), (latency.p90, 900), (latency.p99, 990), (latency.p999, 999)]
        {
            let exact = Duration::from_micros(exact);
            assert!(got >= exact && got <= exact.mul_f64(1.126), "{got:?} for {exact:?}");
        }
    }

    #[test]
    fn every_reason_has_its_own_count() {
        let mut counts = DeadLetterCounts::default();
        for (index, reason) in DeadLetterReason::ALL.into_iter().enumerate() {
            for _ in 0..=index {
                counts.count(reason);
            }
        }
        for (index, reason) in DeadLetterReason::ALL.into_iter().enumerate() {
            assert_eq!(counts.get(reason), index as u64 + 1);
        }
        assert_eq!(counts.total(), 28);
    }
}
