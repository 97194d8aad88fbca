//! Tables: read by all, written serially, atomically in parallel, and by the host between messages.

use super::{Random, started};
use crate::common::{LONG, runtime};
use ringwork::{RingKernel, message};

message! {
    /// Where and what.
    pub struct At { pub index: u32, pub value: u32 }

    /// A number.
    pub struct Word { pub value: u32 }

    /// An element of a table.
    pub struct Edge { pub tail: u32, pub head: u32, pub weight: f32, pub flags: u32 }
}

#[test]
fn a_table_is_read_by_a_parallel_handler() {
    let text = "@group(1) @binding(3) var<storage, read> edges: array<Edge>;
        @group(1) @binding(1) var<storage, read> scale: array<f32, 2>;
        struct Edge { tail: u32, head: u32, weight: f32, flags: u32 }
        fn on_message(m: At) -> Edge {
            var e = edges[m.index];
            e.weight = e.weight * scale[m.value] + f32(arrayLength(&edges));
            return e;
        }";
    let runtime = runtime();
    let edges: Vec<_> =
        (0..500).map(|n| Edge { tail: n, head: n * n, weight: n as f32 * 0.3, flags: !n }).collect();
    let (table, scale) = (runtime.buffer(&edges).unwrap(), runtime.buffer(&[0.7f32, -1.25]).unwrap());
    let kernel = RingKernel::<At, Edge>::wgsl("edges", text).bind("edges", &table).bind("scale", &scale);
    let kernel = started(&runtime, kernel);
    let mut random = Random(2);
    let messages: Vec<_> =
        (0..4000).map(|_| At { index: random.below(500), value: random.below(2) }).collect();
    for (message, reply) in messages.iter().zip(kernel.ask_many(messages.iter().copied(), LONG).unwrap()) {
        let edge = edges[message.index as usize];
        let weight = edge.weight * [0.7, -1.25][message.value as usize] + 500.0;
        assert_eq!(reply, Edge { weight, ..edge });
    }
}

/// Handlers that write, and then have long loops: in the shapes there are, and too long for some devices in the end.
#[test]
fn what_is_written_before_long_loops_is_written_once() {
    const MESSAGES: usize = 12;
    let turns = "
        fn turn(m: At, most: u32) -> u32 {
            var x = m.value;
            // Two loops, of which neighbours run different ones.
            if m.index % 2u == 0u {
                for (var i = 0u; i < most; i++) { x = x * 3u + i; }
            } else {
                for (var i = 0u; i < most; i++) { x = x * 5u + i; }
            }
            return x;
        }";
    let plain = "@group(1) @binding(0) var<storage, read_write> seen: array<u32>;
        fn on_message(m: At) -> Word { seen[m.index] += 1u; return Word(turn(m, LOOPS)); }";
    let atomic = "@group(1) @binding(0) var<storage, read_write> seen: array<atomic<u32>>;
        fn on_message(m: At) -> Word { atomicAdd(&seen[m.index], 1u); return Word(turn(m, LOOPS)); }";
    let state = "@group(1) @binding(0) var<storage, read_write> seen: array<u32>;
        fn on_message(m: At, s: ptr<function, Word>) -> Word {
            seen[m.index] += 1u;
            (*s).value += 1u;
            return Word(turn(m, LOOPS));
        }";
    let expected = |m: &At, loops: u32| {
        let factor = if m.index.is_multiple_of(2) { 3u32 } else { 5 };
        (0..loops).fold(m.value, |x, i| x.wrapping_mul(factor).wrapping_add(i))
    };
    let runtime = runtime();
    let longest = runtime.capabilities().unwrap().longest_loop.unwrap_or(u32::MAX);
    // The second on a third of the device's iterations, the third on more than it has.
    for (loops, budget) in [(30, 40), (22_000, 1_000_000), (100_000, 1_000_000)] {
        if loops == 100_000 && longest > loops {
            continue;
        }
        for (name, text, instances) in [
            ("plain", plain, None),
            ("atomic", atomic, None),
            ("state", state, None),
            ("many", state, Some(MESSAGES as u32)),
        ] {
            let seen = runtime.buffer(&[0u32; MESSAGES]).unwrap();
            let text = format!("{turns}\n{}", text.replace("LOOPS", &format!("{loops}u")));
            let mut kernel = RingKernel::<At, Word>::wgsl(name, text).bind("seen", &seen).loop_budget(budget);
            if let Some(count) = instances {
                kernel = kernel.instances(count).instance_field("index");
            }
            let kernel = started(&runtime, kernel);
            let messages: Vec<_> = (0..MESSAGES as u32).map(|n| At { index: n, value: n * 7 }).collect();
            let replies = kernel.ask_many(messages.iter().copied(), LONG);
            let seen = seen.to_vec().unwrap();
            if loops < longest {
                let replies = replies.unwrap_or_else(|error| panic!("{name}, {loops}: {error}"));
                for (message, reply) in messages.iter().zip(replies) {
                    assert_eq!(reply.value, expected(message, loops), "{name}, {loops}: {message:?}");
                }
                assert_eq!(seen, [1; MESSAGES], "{name}, {loops}");
            } else {
                let error = replies.expect_err("the device ends it");
                assert!(error.to_string().contains("longest_loop"), "{name}: {error}");
                assert!(seen[0] == 1 && seen.iter().all(|times| *times <= 1), "{name}: {seen:?}");
            }
            kernel.terminate(LONG).unwrap();
        }
    }
}

#[test]
fn what_a_long_chain_of_messages_writes_is_written_once() {
    // No loops of its own: but those that run a chain are loops, too.
    let text = "@group(1) @binding(0) var<storage, read_write> seen: array<u32>;
        fn on_message(m: At, s: ptr<function, Word>) -> Word {
            seen[m.value] += 1u;
            (*s).value += 1u;
            return *s;
        }";
    let count = 40_000u32;
    let runtime = runtime();
    let seen = runtime.buffer(&vec![0u32; count as usize]).unwrap();
    let kernel = RingKernel::<At, Word>::wgsl("chain", text).bind("seen", &seen).queue_capacity(1 << 16);
    let kernel = started(&runtime, kernel.instances(2).instance_field("index"));
    let messages = (0..count).map(|value| At { index: 0, value });
    for (reply, number) in kernel.ask_many(messages, LONG).unwrap().into_iter().zip(1..) {
        assert_eq!(reply.value, number);
    }
    assert!(seen.to_vec().unwrap().iter().all(|times| *times == 1));
}

#[test]
fn a_written_table_makes_the_handler_serial() {
    // Each message depends on what the one before it wrote.
    let text = "@group(1) @binding(0) var<storage, read_write> cells: array<u32>;
        fn on_message(m: At) -> Word {
            let old = cells[m.index];
            cells[m.index] = old * 3u + m.value;
            return Word(old);
        }";
    let runtime = runtime();
    let cells = runtime.buffer(&[1u32; 8]).unwrap();
    let kernel = started(
        &runtime,
        RingKernel::<At, Word>::wgsl("cells", text).bind("cells", &cells).queue_capacity(4096),
    );
    let mut random = Random(9);
    let messages: Vec<_> = (0..5000).map(|_| At { index: random.below(8), value: random.next() }).collect();
    let mut twin = [1u32; 8];
    for (message, reply) in messages.iter().zip(kernel.ask_many(messages.iter().copied(), LONG).unwrap()) {
        let cell = &mut twin[message.index as usize];
        assert_eq!(reply.value, *cell);
        *cell = cell.wrapping_mul(3).wrapping_add(message.value);
    }
    assert_eq!(cells.to_vec().unwrap(), twin);
}

#[test]
fn atomics_count_in_parallel() {
    let text = "@group(1) @binding(0) var<storage, read_write> bins: array<atomic<u32>>;
        @group(1) @binding(1) var<storage, read_write> most: array<atomic<i32>, 2>;
        fn on_message(m: At) {
            var x = m.value;
            for (var i = 0u; i < 20u; i++) { x = x * 1664525u + 1013904223u; }
            atomicAdd(&bins[x % arrayLength(&bins)], 1u);
            atomicMax(&most[0], i32(x >> 1u));
            atomicMin(&most[1], -i32(x >> 1u));
        }";
    let runtime = runtime();
    let (bins, most) = (runtime.buffer(&[0u32; 13]).unwrap(), runtime.buffer(&[0i32; 2]).unwrap());
    let kernel = RingKernel::<At, ()>::wgsl("bins", text).bind("bins", &bins).bind("most", &most);
    let kernel = started(&runtime, kernel.queue_capacity(4096));
    crate::threads::scope(|scope| {
        for sender in 0..3u32 {
            let kernel = &kernel;
            scope.spawn(move || {
                kernel.send_many((0..4000).map(|n| At { index: 0, value: n * 3 + sender })).unwrap();
            });
        }
    });
    let end = std::time::Instant::now() + LONG;
    while kernel.telemetry().pending > 0 {
        assert!(std::time::Instant::now() < end);
        std::thread::yield_now();
    }
    let (mut twin, mut highest) = ([0u32; 13], 0);
    for value in 0..12_000u32 {
        let x = (0..20).fold(value, |x, _| x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        twin[x as usize % 13] += 1;
        highest = highest.max((x >> 1) as i32);
    }
    assert_eq!(bins.to_vec().unwrap(), twin);
    assert_eq!(most.to_vec().unwrap(), [highest, -highest]);
}

#[test]
fn the_host_writes_between_messages() {
    let text = "@group(1) @binding(0) var<storage, read> prices: array<f32>;
        fn on_message(m: At) -> Edge { return Edge(m.index, 0u, prices[m.index], 0u); }";
    let runtime = runtime();
    let prices = runtime.buffer(&[1.0f32, 2.0, 3.0]).unwrap();
    let kernel = started(&runtime, RingKernel::<At, Edge>::wgsl("prices", text).bind("prices", &prices));
    for step in 0..200 {
        let price = step as f32 * 0.1;
        prices.write(1, &[price]).unwrap();
        assert_eq!(kernel.ask(At { index: 1, value: 0 }, LONG).unwrap().weight, price);
    }
    assert_eq!(kernel.ask(At { index: 0, value: 0 }, LONG).unwrap().weight, 1.0);
}

#[test]
fn a_host_write_is_whole_for_every_message() {
    // Two words written together are never seen apart.
    let text = "@group(1) @binding(0) var<storage, read> pair: array<u32, 64>;
        fn on_message(m: At) -> Word {
            var different = 0u;
            for (var i = 0u; i < 64u; i++) { if pair[i] != pair[0] { different++; } }
            return Word(different);
        }";
    let runtime = runtime();
    let pair = runtime.buffer(&[0u32; 64]).unwrap();
    let kernel = started(&runtime, RingKernel::<At, Word>::wgsl("pair", text).bind("pair", &pair));
    crate::threads::scope(|scope| {
        let (pair, kernel) = (&pair, &kernel);
        let writer = scope.spawn(move || (1..200u32).for_each(|n| pair.write(0, &[n; 64]).unwrap()));
        while !writer.is_finished() {
            assert_eq!(kernel.ask(At::default(), LONG).unwrap().value, 0);
        }
    });
}

#[test]
fn two_kernels_share_a_table() {
    let write = "@group(1) @binding(0) var<storage, read_write> cells: array<u32>;
        fn on_message(m: At) { cells[m.index] = m.value; }";
    let read = "@group(1) @binding(0) var<storage, read> table: array<u32>;
        fn on_message(m: At) -> Word { return Word(table[m.index]); }";
    let runtime = runtime();
    let cells = runtime.buffer(&[0u32; 16]).unwrap();
    let writer =
        started(&runtime, RingKernel::<At, ()>::wgsl("writer", write).bind("cells", &cells).share("cells"));
    let reader = started(&runtime, RingKernel::<At, Word>::wgsl("reader", read).bind("table", &cells));
    for n in 0..100 {
        let at = At { index: n % 16, value: n };
        writer.ask(at, LONG).unwrap();
        assert_eq!(reader.ask(at, LONG).unwrap().value, n);
    }
    writer.terminate(LONG).unwrap();
    assert_eq!(reader.ask(At { index: 3, value: 0 }, LONG).unwrap().value, 99);
    drop(cells);
    assert_eq!(reader.ask(At { index: 2, value: 0 }, LONG).unwrap().value, 98, "the kernel keeps the table");
}

#[test]
fn a_handler_that_writes_by_atomics_may_be_called_unordered() {
    let text = "@group(1) @binding(0) var<storage, read_write> sums: array<atomic<u32>>;
        fn on_message(m: At) { atomicAdd(&sums[0], m.index); }";
    let runtime = runtime();
    let sums = runtime.buffer(&[0u32]).unwrap();
    let kernel = RingKernel::<At, ()>::wgsl("sum", text).bind("sums", &sums).unordered_writes();
    let kernel = started(&runtime, kernel);
    kernel.ask_many((0..100).map(|index| At { index, value: 0 }), LONG).unwrap();
    assert_eq!(sums.to_vec().unwrap(), [4950]);
}

#[test]
fn unordered_writes_may_run_in_parallel() {
    let text = "@group(1) @binding(0) var<storage, read_write> squares: array<u32>;
        fn on_message(m: At) { squares[m.index] = m.index * m.index; }";
    let runtime = runtime();
    let squares = runtime.buffer(&vec![0u32; 5000]).unwrap();
    let kernel = RingKernel::<At, ()>::wgsl("squares", text).bind("squares", &squares).unordered_writes();
    let kernel = started(&runtime, kernel);
    kernel.ask_many((0..5000).map(|index| At { index, value: 0 }), LONG).unwrap();
    assert!(squares.to_vec().unwrap().into_iter().eq((0..5000).map(|n| n * n)));
}
