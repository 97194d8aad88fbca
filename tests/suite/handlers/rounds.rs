//! What a device gets in rounds: more messages than fit into one, many kernels in one, what comes back of them, and
//! what stays there.

use super::started;
use crate::common::{LONG, runtime};
use ringwork::{RestartPolicy, RestartState, RingKernel, message};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

message! {
    /// A number for an instance.
    pub struct Add { pub to: u32, pub value: u32 }

    /// A sum, and how many numbers went into it.
    pub struct Sum { pub total: u32, pub count: u32 }

    /// A word to send.
    pub struct Word { pub value: u32 }

    /// Two of a kind.
    pub struct Pair { pub first: u32, pub second: u32, pub third: u32 }

    /// `Spread`, as it lies in memory.
    pub struct Laid { pub at: [f32; 3], pub count: u32, pub seen: [u32; 3], _pad: u32 }
}

const SUM: &str = "fn on_message(m: Add, s: ptr<function, Sum>) -> Sum {
    (*s).total += m.value;
    (*s).count += 1u;
    return *s;
}";

/// More than any backend takes into one round of such a kernel.
const MANY: u32 = 70_000;

fn add(number: u32) -> Add {
    Add { to: number % 1000, value: number }
}

#[test]
fn a_batch_larger_than_a_round_of_a_stateless_kernel() {
    let runtime = runtime();
    let text = "fn on_message(m: Add) -> Word { return Word(m.value * 3u + m.to); }";
    let kernel = RingKernel::<Add, Word>::wgsl("triple", text).queue_capacity(1 << 17);
    let kernel = started(&runtime, kernel);
    let replies = kernel.ask_many((0..MANY).map(add), LONG).unwrap();
    assert!(replies.iter().map(|reply| reply.value).eq((0..MANY).map(|number| number * 3 + number % 1000)));
}

#[test]
fn a_batch_larger_than_a_round_of_a_serial_kernel() {
    let runtime = runtime();
    let kernel = RingKernel::<Add, Sum>::wgsl("sum", SUM).initial_state(Sum::default()).queue_capacity(8192);
    let kernel = started(&runtime, kernel);
    let mut total = 0u32;
    for (reply, number) in kernel.ask_many((0..5000).map(add), LONG).unwrap().into_iter().zip(0..) {
        total += number;
        assert_eq!(reply, Sum { total, count: number + 1 });
    }
}

#[test]
fn a_batch_larger_than_a_round_of_a_kernel_with_instances() {
    let runtime = runtime();
    let kernel = RingKernel::<Add, Sum>::wgsl("sums", SUM).initial_state(Sum::default()).instances(1000);
    let kernel = started(&runtime, kernel.queue_capacity(1 << 17));
    let mut sums = vec![Sum::default(); 1000];
    for (reply, number) in kernel.ask_many((0..MANY).map(add), LONG).unwrap().into_iter().zip(0..) {
        let sum = &mut sums[number as usize % 1000];
        *sum = Sum { total: sum.total.wrapping_add(number), count: sum.count + 1 };
        assert_eq!(reply, *sum, "number {number}");
    }
    assert_eq!(kernel.read_states::<Sum>().unwrap(), sums);
}

#[test]
fn kernels_launched_while_others_with_their_handler_run_disturb_nobodys_state() {
    let runtime = runtime();
    let is_over = AtomicBool::new(false);
    crate::threads::scope(|scope| {
        let running: Vec<_> = (0..64)
            .map(|number| {
                let kernel = RingKernel::<Add, Sum>::wgsl(format!("k{number}"), SUM);
                let kernel = started(&runtime, kernel.initial_state(Sum { total: number, count: 0 }));
                if number % 8 != 0 {
                    return (number, kernel, None);
                }
                // These are at work while the rest is launched.
                let (busy, is_over) = (kernel.clone(), &is_over);
                let thread = scope.spawn(move || {
                    let mut count = 0;
                    while count < 20 || !is_over.load(Ordering::Relaxed) {
                        count += 1;
                        let sum = busy.ask(Add { to: 0, value: 1 }, LONG).unwrap();
                        assert_eq!(sum, Sum { total: number + count, count });
                        if count % 4 == 0 {
                            assert_eq!(busy.read_state::<Sum>().unwrap(), sum);
                        }
                    }
                    count
                });
                (number, kernel, Some(thread))
            })
            .collect();
        is_over.store(true, Ordering::Relaxed);
        for (number, kernel, thread) in running {
            let count = thread.map_or(0, |thread| thread.join().unwrap());
            assert_eq!(kernel.read_state::<Sum>().unwrap(), Sum { total: number + count, count });
        }
    });
}

#[test]
fn sixty_four_kernels_with_one_handler_at_once() {
    let runtime = runtime();
    let kernels: Vec<_> = (0..64)
        .map(|number| {
            let kernel = RingKernel::<Add, Sum>::wgsl(format!("k{number}"), SUM);
            started(&runtime, kernel.initial_state(Sum { total: number, count: 0 }))
        })
        .collect();
    for round in 0..20 {
        let asked: Vec<_> = kernels
            .iter()
            .flat_map(|kernel| (0..3).map(move |value| kernel.request(Add { to: 0, value }).unwrap()))
            .collect();
        for (pending, index) in asked.into_iter().zip(0..) {
            let (number, value) = (index / 3, index % 3);
            let total = number + 3 * round + [0, 1, 3][value as usize];
            let wanted = Sum { total, count: 3 * round + value + 1 };
            assert_eq!(pending.wait(LONG).unwrap(), wanted, "kernel {number}, round {round}");
        }
    }
}

/// Loops more than some devices let a round.
const LOOPING: &str = "
    var x = m.value;
    for (var i = 0u; i < 12000u; i++) { x = x * 1664525u + 1013904223u; }";

/// What waits for each of three kernels fits into a round, and what waits for two of them does not.
#[test]
fn messages_of_several_kernels_that_do_not_fit_into_one_round() {
    const EACH: u32 = 1 << 16;
    let runtime = runtime();
    let text = "fn on_message(m: Word) -> Word { return Word(m.value * 3u + 1u); }";
    let kernels: Vec<_> = (0..3)
        .map(|kernel| {
            let kernel = RingKernel::<Word, Word>::wgsl(format!("triple {kernel}"), text);
            started(&runtime, kernel.queue_capacity(EACH as usize).output_capacity(EACH as usize))
        })
        .collect();
    let first = |kernel: u32| kernel * 10 * EACH;
    for (kernel, which) in kernels.iter().zip(0..) {
        kernel.send_many((first(which)..).take(EACH as usize).map(|value| Word { value })).unwrap();
    }
    for (kernel, which) in kernels.iter().zip(0..) {
        let mut next = first(which);
        while next < first(which) + EACH {
            for reply in kernel.recv_many(EACH as usize, LONG).unwrap() {
                assert_eq!(reply.value, next * 3 + 1);
                next += 1;
            }
        }
    }
}

#[test]
fn messages_whose_loops_are_too_many_for_one_round() {
    const MESSAGES: u32 = 40;
    let runtime = runtime();
    let twin =
        |value| (0..12_000).fold(value, |x: u32, _| x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let stateless = format!("fn on_message(m: Add) -> Sum {{ {LOOPING} return Sum(x, 1u); }}");
    let stateful = format!(
        "fn on_message(m: Add, s: ptr<function, Sum>) -> Sum {{
            {LOOPING}
            (*s).total += x;
            (*s).count += 1u;
            return Sum(x, (*s).count);
        }}"
    );
    let state = |name| RingKernel::<Add, Sum>::wgsl(name, stateful.clone()).initial_state(Sum::default());
    let kernels = [
        (0, RingKernel::<Add, Sum>::wgsl("stateless", stateless)),
        (1, state("serial")),
        (3, state("instances").instances(3)),
    ];
    for (instances, kernel) in kernels {
        let kernel = started(&runtime, kernel.loop_budget(20_000));
        let mut sums = vec![Sum::default(); instances.max(1) as usize];
        // Twice: what is sent next finds those that have to run again, and comes behind them.
        for pass in 0..2 {
            let messages = (0..MESSAGES).map(|value| Add { to: value % instances.max(1), value });
            for (message, reply) in messages.clone().zip(kernel.ask_many(messages, LONG).unwrap()) {
                let (x, sum) = (twin(message.value), &mut sums[message.to as usize]);
                *sum = Sum { total: sum.total.wrapping_add(x), count: sum.count + 1 };
                let count = if instances == 0 { 1 } else { sum.count };
                assert_eq!(reply, Sum { total: x, count }, "{instances} instances, pass {pass}");
            }
        }
        if instances > 0 {
            assert_eq!(kernel.read_states::<Sum>().unwrap(), sums);
        }
        assert_eq!(kernel.telemetry().handled, 2 * u64::from(MESSAGES));
    }
}

/// Emits none to two words, one pair for every third message, and replies.
const EMIT: &str = "
    for (var i = 0u; i < m.value % 3u; i++) { emit_words(Word(m.value * 2u + i)); }
    if m.value % 3u == 0u { emit_pairs(Pair(m.value, m.value + 1u, m.to)); }";

fn emits_come_in_order(kernel: RingKernel<Add, Word>) {
    const MESSAGES: u32 = 3000;
    let runtime = runtime();
    let kernel = kernel.output_many::<Word>("words", 2).output::<Pair>("pairs");
    let kernel = started(&runtime, kernel.queue_capacity(4096).output_capacity(8192));
    let (words, pairs) = (kernel.output::<Word>("words").unwrap(), kernel.output::<Pair>("pairs").unwrap());
    let messages = || (0..MESSAGES).map(|value| Add { to: value * 7 % 5, value });
    let replies = kernel.ask_many(messages(), LONG).unwrap();
    assert!(replies.iter().map(|reply| reply.value).eq(messages().map(|message| !message.value)));
    let mut emitted = 0;
    for Add { to, value } in messages() {
        for part in 0..value % 3 {
            assert_eq!(words.recv_timeout(LONG).unwrap(), Word { value: value * 2 + part });
            emitted += 1;
        }
        if value % 3 == 0 {
            assert_eq!(
                pairs.recv_timeout(LONG).unwrap(),
                Pair { first: value, second: value + 1, third: to }
            );
            emitted += 1;
        }
    }
    assert_eq!(kernel.telemetry().emitted, emitted);
    assert!(words.try_recv().unwrap().is_none() && pairs.try_recv().unwrap().is_none());
}

#[test]
fn several_outputs_of_a_stateless_kernel() {
    let text = format!("fn on_message(m: Add) -> Word {{ {EMIT} return Word(~m.value); }}");
    emits_come_in_order(RingKernel::wgsl("emitting", text));
}

#[test]
fn several_outputs_of_a_serial_kernel_and_of_one_with_instances() {
    let text = format!(
        "fn on_message(m: Add, s: ptr<function, Sum>) -> Word {{ {EMIT} (*s).count += 1u; return Word(~m.value); }}"
    );
    emits_come_in_order(RingKernel::wgsl("emitting", text.clone()).initial_state(Sum::default()));
    emits_come_in_order(RingKernel::wgsl("emitting", text).initial_state(Sum::default()).instances(5));
}

/// Its state has a hole behind the second vector, and no Rust type.
const SPREAD: &str = "struct Spread { at: vec3<f32>, count: u32, seen: vec3<u32> }
    fn on_message(m: Add, s: ptr<function, Spread>) -> Pair {
        (*s).at += vec3<f32>(1.0, 0.5, f32(m.value));
        (*s).count += 1u;
        (*s).seen[m.value % 3u] += m.value;
        while m.value == 13u { (*s).count += 1000u; }
        return Pair((*s).seen.x, (*s).seen.y, (*s).seen.z);
    }";

impl Laid {
    /// The handler again.
    fn take(&mut self, value: u32) {
        self.at = [self.at[0] + 1.0, self.at[1] + 0.5, self.at[2] + value as f32];
        self.count += 1;
        self.seen[value as usize % 3] += value;
    }
}

#[test]
fn a_state_with_holes_and_without_a_rust_type() {
    let runtime = runtime();
    let one = started(&runtime, RingKernel::<Add, Pair>::wgsl("one", SPREAD));
    let several = started(&runtime, RingKernel::<Add, Pair>::wgsl("several", SPREAD).instances(5));
    let mut twins = [Laid::default(); 6];
    for value in (0..40).filter(|value| *value != 13) {
        let to = value * 3 % 5;
        for (kernel, place) in [(&one, 5), (&several, to as usize)] {
            twins[place].take(value);
            let [first, second, third] = twins[place].seen;
            assert_eq!(kernel.ask(Add { to, value }, LONG).unwrap(), Pair { first, second, third });
        }
    }
    assert_eq!(one.read_state::<Laid>().unwrap(), twins[5]);
    assert_eq!(several.read_states::<Laid>().unwrap(), twins[..5]);
}

#[test]
fn instances_with_holes_in_their_states_restart_from_the_snapshot() {
    let runtime = runtime();
    let policy = RestartPolicy::OneForOne {
        max: 100,
        within: Duration::from_secs(3600),
        state: RestartState::Snapshot,
    };
    let kernel = RingKernel::<Add, Pair>::wgsl("several", SPREAD).instances(4).loop_budget(100);
    let kernel = started(&runtime, kernel.restart(policy));
    let mut twins = [Laid::default(); 4];
    let ask = |twins: &mut [Laid; 4], to: u32, value: u32| {
        twins[to as usize].take(value);
        kernel.ask(Add { to, value }, LONG).unwrap();
    };
    (0..12).for_each(|value| ask(&mut twins, value % 4, value));
    kernel.snapshot().unwrap();
    let kept = twins;
    (20..32).for_each(|value| ask(&mut twins, value % 4, value));
    // The chain of the second instance goes on after its fault, from the snapshot; the others are not touched.
    let batch = [(1, 40), (2, 41), (1, 13), (1, 42), (3, 43), (1, 44)];
    let asked = batch.map(|(to, value)| kernel.request(Add { to, value }).unwrap());
    for (pending, (to, value)) in asked.into_iter().zip(batch) {
        if value == 13 {
            assert!(pending.wait(LONG).is_err_and(|error| error.is_failed()));
            twins[1] = kept[1];
        } else {
            pending.wait(LONG).unwrap();
            twins[to as usize].take(value);
        }
    }
    assert_eq!(kernel.read_states::<Laid>().unwrap(), twins);
    assert_eq!(kernel.telemetry().restarts, 1);
}

#[test]
fn a_table_is_shared_by_kernels_with_one_handler_and_with_another() {
    let runtime = runtime();
    let table = runtime.buffer(&[0u32; 16]).unwrap();
    let count = "@group(1) @binding(0) var<storage, read_write> cells: array<atomic<u32>>;
        fn on_message(m: Add) { atomicAdd(&cells[m.to], m.value); }";
    let look = "@group(1) @binding(2) var<storage, read> numbers: array<u32>;
        fn on_message(m: Add) -> Word { return Word(numbers[m.to] + m.value); }";
    let counting = ["a", "b"].map(|name| {
        started(&runtime, RingKernel::<Add, ()>::wgsl(name, count).bind("cells", &table).queue_capacity(2048))
    });
    let looking = started(&runtime, RingKernel::<Add, Word>::wgsl("looking", look).bind("numbers", &table));
    let mut twin = [0u32; 16];
    for round in 1..4 {
        for kernel in &counting {
            kernel.send_many((0..1500).map(|number| Add { to: number % 16, value: round })).unwrap();
        }
        (0..1500).for_each(|number: usize| twin[number % 16] += 2 * round);
        let end = std::time::Instant::now() + LONG;
        while counting.iter().any(|kernel| kernel.telemetry().pending > 0) {
            assert!(std::time::Instant::now() < end, "the messages are not handled");
            std::thread::yield_now();
        }
        for (to, number) in (0..).zip(twin) {
            assert_eq!(looking.ask(Add { to, value: 5 }, LONG).unwrap().value, number + 5, "round {round}");
        }
        assert_eq!(table.to_vec().unwrap(), twin);
    }
}
