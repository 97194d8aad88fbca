//! What the signature decides: parallel, serial, or serial per instance; replies or none.

use super::{Random, started};
use crate::common::{LONG, runtime};
use ringwork::{Options, Priority, RingKernel, message};

message! {
    /// A number.
    pub struct Number { pub value: u32 }

    /// A sum, and how many numbers went into it.
    pub struct Sum { pub total: u32, pub count: u32 }

    /// A number for an instance.
    pub struct Addressed { pub value: u32, pub to: u32 }
}

const SQUARE: &str = "fn on_message(m: Number) -> Number { return Number(m.value * m.value + 1u); }";
const SUM: &str = "fn on_message(m: Number, s: ptr<function, Sum>) -> Sum {
    (*s).total += m.value;
    (*s).count += 1u;
    return *s;
}";

fn square(value: u32) -> u32 {
    value.wrapping_mul(value).wrapping_add(1)
}

const MANY: u32 = 10_000;

#[test]
fn stateless_ask_many_keeps_the_order() {
    let runtime = runtime();
    let kernel = started(&runtime, RingKernel::<Number, Number>::wgsl("square", SQUARE));
    let replies = kernel.ask_many((0..MANY).map(|value| Number { value }), LONG).unwrap();
    assert!(replies.iter().map(|reply| reply.value).eq((0..MANY).map(square)));
    let books = kernel.telemetry();
    assert_eq!((books.accepted, books.handled, books.pending), (MANY.into(), MANY.into(), 0));
}

#[test]
fn stateless_send_many_and_recv_many_keep_the_order() {
    let runtime = runtime();
    for (capacity, outputs) in [(1024, 1024), (1, 1), (8192, 16_384), (3, 7)] {
        let name = format!("square{capacity}");
        let kernel = RingKernel::<Number, Number>::wgsl(name, SQUARE).queue_capacity(capacity);
        let kernel = started(&runtime, kernel.output_capacity(outputs));
        crate::threads::scope(|scope| {
            let sender = &kernel;
            scope.spawn(move || {
                let sent = sender.send_many((0..MANY).map(|value| Number { value })).unwrap();
                assert_eq!(sent, MANY as usize);
            });
            let mut next = 0;
            while next < MANY {
                for reply in kernel.recv_many(333, LONG).unwrap() {
                    assert_eq!(reply.value, square(next), "number {next} at capacity {capacity}");
                    next += 1;
                }
            }
        });
        assert_eq!(kernel.telemetry().unread_replies, 0);
        assert!(kernel.terminate(LONG).unwrap().is_clean());
    }
}

#[test]
fn a_slow_stateless_batch_in_parallel_keeps_the_order_of_replies_and_values() {
    // Heavy enough to be spread over cores; what each message emits depends on it.
    let text = "fn on_message(m: Number) -> Number {
        var x = m.value;
        for (var i = 0u; i < 40u; i++) { x = x * 1664525u + 1013904223u; }
        for (var i = 0u; i < m.value % 3u; i++) { emit_out(Sum(m.value, i)); }
        return Number(x);
    }";
    let twin = |value: u32| (0..40).fold(value, |x, _| x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let count = 6000u32;
    let runtime = runtime();
    let kernel = RingKernel::<Number, Number>::wgsl("heavy", text).output_many::<Sum>("out", 2);
    let kernel = started(&runtime, kernel.queue_capacity(4096).output_capacity(16_384));
    kernel.send_many((0..count).map(|value| Number { value })).unwrap();
    let out = kernel.output::<Sum>("out").unwrap();
    for value in 0..count {
        assert_eq!(kernel.recv_timeout(LONG).unwrap().value, twin(value));
        for index in 0..value % 3 {
            assert_eq!(out.recv_timeout(LONG).unwrap(), Sum { total: value, count: index });
        }
    }
    assert_eq!((kernel.try_recv().unwrap(), out.try_recv().unwrap()), (None, None));
}

#[test]
fn serial_state_sees_one_message_at_a_time_in_order() {
    let runtime = runtime();
    let kernel = started(
        &runtime,
        RingKernel::<Number, Sum>::wgsl("sum", SUM).initial_state(Sum { total: 5, count: 0 }),
    );
    let replies = kernel.ask_many((0..2000).map(|value| Number { value }), LONG).unwrap();
    let mut total = 5;
    for (index, reply) in replies.iter().enumerate() {
        total += index as u32;
        assert_eq!(*reply, Sum { total, count: index as u32 + 1 });
    }
    assert_eq!(kernel.read_state::<Sum>().unwrap(), Sum { total, count: 2000 });
    // Order matters to this one: state = state * 31 + value.
    let text =
        "fn on_message(m: Number, s: ptr<function, Number>) { (*s).value = (*s).value * 31u + m.value; }";
    let hash = started(&runtime, RingKernel::<Number, ()>::wgsl("hash", text).queue_capacity(16));
    let mut random = Random(17);
    let values: Vec<_> = (0..3000).map(|_| random.next()).collect();
    hash.send_many(values.iter().map(|&value| Number { value })).unwrap();
    hash.ask(Number { value: 1 }, LONG).unwrap();
    let twin = values.iter().chain(&[1]).fold(0u32, |hash, value| hash.wrapping_mul(31).wrapping_add(*value));
    assert_eq!(hash.read_state::<Number>().unwrap().value, twin);
}

#[test]
fn a_thousand_instances_keep_their_own_sums() {
    let text = "fn on_message(m: Addressed, s: ptr<function, Sum>) -> Sum {
        (*s).total = (*s).total * 3u + m.value;
        (*s).count += 1u;
        return *s;
    }";
    let runtime = runtime();
    let count = 1000u32;
    let kernel = RingKernel::<Addressed, Sum>::wgsl("bank", text).instances(count);
    let kernel = started(&runtime, kernel.initial_state(Sum { total: 1, count: 0 }).queue_capacity(4096));
    let mut random = Random(23);
    let messages: Vec<_> =
        (0..12_000).map(|value| Addressed { to: random.below(count), value: value * 7 }).collect();
    let replies = kernel.ask_many(messages.iter().copied(), LONG).unwrap();
    let mut twin = vec![Sum { total: 1, count: 0 }; count as usize];
    for (message, reply) in messages.iter().zip(&replies) {
        let own = &mut twin[message.to as usize];
        own.total = own.total.wrapping_mul(3).wrapping_add(message.value);
        own.count += 1;
        assert_eq!(reply, own, "{message:?}");
    }
    assert_eq!(kernel.read_states::<Sum>().unwrap(), twin);
    assert_eq!(kernel.read_state::<Sum>().unwrap(), twin[0]);
    assert_eq!(kernel.snapshot().unwrap().instances(), 1000);
}

#[test]
fn instances_by_another_field_without_replies() {
    message! { pub struct Payment { pub amount: u32, pub account: u32 } }
    let text =
        "fn on_message(m: Payment, s: ptr<function, Sum>) { (*s).total += m.amount; (*s).count += 1u; }";
    let runtime = runtime();
    let kernel = RingKernel::<Payment, ()>::wgsl("accounts", text).initial_state(Sum::default());
    let kernel = started(&runtime, kernel.instances(10).instance_field("account"));
    crate::threads::scope(|scope| {
        for sender in 0..4u32 {
            let kernel = &kernel;
            scope.spawn(move || {
                kernel
                    .send_many((0..1000).map(|n| Payment { amount: n, account: (n + sender) % 10 }))
                    .unwrap();
            });
        }
    });
    kernel.ask(Payment { amount: 0, account: 0 }, LONG).unwrap();
    let end = std::time::Instant::now() + LONG;
    while kernel.telemetry().pending > 0 {
        assert!(std::time::Instant::now() < end);
        std::thread::yield_now();
    }
    let states = kernel.read_states::<Sum>().unwrap();
    assert_eq!(states.iter().map(|sum| sum.count).sum::<u32>(), 4001);
    assert_eq!(states.iter().map(|sum| sum.total).sum::<u32>(), 4 * 999 * 500);
    assert!(states[1..].iter().all(|sum| sum.count == 400));
}

#[test]
fn native_kernels_have_the_same_shapes() {
    let runtime = runtime();
    let square_ = RingKernel::<Number, Number>::native("square", |m: Number, _: &mut ()| Number {
        value: square(m.value),
    });
    let square_ = started(&runtime, square_);
    let replies = square_.ask_many((0..2000).map(|value| Number { value }), LONG).unwrap();
    assert!(replies.iter().map(|reply| reply.value).eq((0..2000).map(square)));

    let bank = RingKernel::<Addressed, Sum>::native("bank", |m: Addressed, s: &mut Sum| {
        s.total += m.value;
        s.count += 1;
        *s
    });
    let bank = started(&runtime, bank.instances(7).initial_state(Sum { total: 100, count: 0 }));
    let replies = bank.ask_many((0..700).map(|value| Addressed { value: 1, to: value % 7 }), LONG).unwrap();
    assert_eq!(replies[699], Sum { total: 200, count: 100 });
    assert_eq!(bank.read_states::<Sum>().unwrap(), [Sum { total: 200, count: 100 }; 7]);

    let quiet = RingKernel::<Number, ()>::native("quiet", |m: Number, s: &mut Number| s.value += m.value);
    let quiet = started(&runtime, quiet);
    quiet.send_many((0..100).map(|value| Number { value })).unwrap();
    quiet.ask(Number { value: 50 }, LONG).unwrap();
    assert_eq!(quiet.read_state::<Number>().unwrap().value, 5000);
}

#[test]
fn higher_priorities_go_first() {
    let runtime = runtime();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let kernel = RingKernel::<Number, Number>::native("ordered", move |m: Number, _: &mut Number| {
        if m.value == 0 {
            let _ = wait.lock().unwrap().recv();
        }
        m
    });
    let kernel = started(&runtime, kernel);
    kernel.send(Number { value: 0 }).unwrap();
    let end = std::time::Instant::now() + LONG;
    while kernel.telemetry().depth > 0 {
        assert!(std::time::Instant::now() < end);
        std::thread::yield_now();
    }
    let mut random = Random(3);
    let mut wanted = Vec::new();
    for value in 1..200u32 {
        let priority = [0, 64, 128, 192, 255][random.below(5) as usize];
        kernel.send_with(Number { value }, Options::default().priority(Priority::from(priority))).unwrap();
        wanted.push((255 - priority, value));
    }
    wanted.sort_unstable();
    drop(release);
    assert_eq!(kernel.recv_timeout(LONG).unwrap().value, 0);
    for (priority, value) in wanted {
        assert_eq!(kernel.recv_timeout(LONG).unwrap().value, value, "of priority {}", 255 - priority);
    }
}

#[test]
fn private_variables_begin_anew_for_every_message() {
    let text = "var<private> counter: u32;
        var<private> start: u32 = 41u;
        var<private> list: array<u32, 4>;
        fn bump() { counter += 1u; start += 1u; list[counter % 4u] += 7u; }
        fn on_message(m: Number) -> Sum {
            for (var i = 0u; i < m.value; i++) { bump(); }
            var local: array<u32, 4>;
            local[m.value % 4u] += 1u;
            return Sum(start, counter + 100u * (list[0] + list[1] + list[2] + list[3]) + 10000u * (local[0] + local[1] + local[2] + local[3]));
        }";
    let runtime = runtime();
    let kernel = started(&runtime, RingKernel::<Number, Sum>::wgsl("private", text).queue_capacity(4096));
    for (index, reply) in
        kernel.ask_many((0..3000).map(|n| Number { value: n % 9 }), LONG).unwrap().iter().enumerate()
    {
        let n = index as u32 % 9;
        assert_eq!(*reply, Sum { total: 41 + n, count: n + 700 * n + 10_000 });
    }
}

#[test]
fn no_reply_and_no_message() {
    let runtime = runtime();
    let kernel = RingKernel::<(), Number>::wgsl(
        "ticks",
        "fn on_message(s: ptr<function, Number>) -> Number { (*s).value += 1u; return *s; }",
    );
    let kernel = started(&runtime, kernel);
    kernel.send_many([(); 10]).unwrap();
    let values: Vec<_> = (0..10).map(|_| kernel.recv_timeout(LONG).unwrap().value).collect();
    assert_eq!(values, (1..=10).collect::<Vec<_>>());
    let silent = started(&runtime, RingKernel::<Number, ()>::wgsl("silent", "fn on_message(m: Number) {}"));
    silent.ask(Number { value: 1 }, LONG).unwrap();
    silent.send(Number { value: 1 }).unwrap();
    assert_eq!(silent.try_recv().unwrap(), None, "`()` is no reply");
    let discarded =
        started(&runtime, RingKernel::<Number, Number>::wgsl("square", SQUARE).output_capacity(1));
    for value in 0..10 {
        discarded.send_with(Number { value }, Options::default().discard_reply()).unwrap();
    }
    assert_eq!(discarded.ask(Number { value: 3 }, LONG).unwrap().value, 10);
    assert_eq!(discarded.try_recv().unwrap(), None);
}
