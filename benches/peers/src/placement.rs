//! Where the two processors of the [`pair`] are. A hypervisor moves them between physical cores while we measure,
//! stays for seconds or minutes, and says nothing: two threads then cost 2 or 4 times what they did before.

use crate::machine::{clock, pair, pin, ticks};
use std::fmt;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread;

/// Two busy loops side by side that take this much longer than one share a core's arithmetic units: 2.0 where both
/// run on one physical core, at most 1.3 where they do not (measured on Zen 4).
const SLOWED: f64 = 1.6;
/// A cache line's round trip between two cores, in ns, below which a cache is between them: 90 within a Zen 4
/// core complex, 350 between two.
const NEAR: f64 = 180.0;

/// Distance of the two processors, the farthest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Placement {
    SeparateCaches,
    SharedCache,
    /// Nothing about two threads is worth measuring here.
    OneCore,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SeparateCaches => "two cores, no common cache",
            Self::SharedCache => "two cores, a common cache",
            Self::OneCore => "one physical core for both processors",
        })
    }
}

/// A look at the placement: takes about 2 ms.
#[derive(Clone, Copy)]
pub struct Probe {
    pub placement: Placement,
    /// Median round trip of a cache line, in ns.
    pub crossing: f64,
}

pub fn probe() -> Probe {
    let (here, far) = pair();
    if here == far {
        return Probe { placement: Placement::OneCore, crossing: 0.0 };
    }
    let crossing = crossing(here, far);
    let placement = match crossing {
        _ if together(here, far) > SLOWED * alone(here) => Placement::OneCore,
        near if near < NEAR => Placement::SharedCache,
        _ => Placement::SeparateCaches,
    };
    Probe { placement, crossing }
}

fn crossing(here: usize, far: usize) -> f64 {
    const TRIPS: u64 = 2_000;
    #[repr(align(128))]
    struct Line(AtomicU64);
    let (there, back) = (&Line(AtomicU64::new(0)), &Line(AtomicU64::new(0)));
    // Each Acquire pairs with the other side's Release, as in the rings whose cost this foretells.
    let trips = thread::scope(|scope| {
        scope.spawn(move || {
            pin(far);
            for i in 1..=TRIPS {
                while there.0.load(Acquire) != i {
                    std::hint::spin_loop();
                }
                back.0.store(i, Release);
            }
        });
        let client = scope.spawn(move || {
            pin(here);
            let trip = |i| {
                let start = ticks();
                there.0.store(i, Release);
                while back.0.load(Acquire) != i {
                    std::hint::spin_loop();
                }
                ticks() - start
            };
            (1..=TRIPS).map(trip).collect()
        });
        client.join().expect("the probe does not panic")
    });
    median(trips) * clock().period
}

fn alone(here: usize) -> f64 {
    thread::scope(|scope| {
        let busy = scope.spawn(move || {
            pin(here);
            median((0..15).map(|_| multiply()).collect())
        });
        busy.join().expect("the probe does not panic")
    })
}

fn together(here: usize, far: usize) -> f64 {
    let start = &Barrier::new(2);
    thread::scope(|scope| {
        let busy = [here, far].map(|cpu| {
            scope.spawn(move || {
                pin(cpu);
                start.wait();
                median((0..15).map(|_| multiply()).collect())
            })
        });
        busy.map(|thread| thread.join().expect("the probe does not panic")).into_iter().fold(0.0, f64::max)
    })
}

/// Keeps a core's multiplier busy for about 10 µs; in ticks.
fn multiply() -> u64 {
    let start = ticks();
    let factor = black_box(0x9E37_79B9_7F4A_7C15_u64);
    // Six independent chains: more than the latency of a multiplication, so that its throughput is the limit.
    let mut chains = black_box([1_u64, 3, 5, 7, 9, 11]);
    for i in 0..8_000 {
        for chain in &mut chains {
            *chain = (*chain ^ i).wrapping_mul(factor);
        }
    }
    black_box(chains);
    ticks() - start
}

fn median(mut all: Vec<u64>) -> f64 {
    all.sort_unstable();
    all[all.len() / 2] as f64
}
