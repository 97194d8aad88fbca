//! What goes over links on the device, and that it comes out as if it had gone through the host.

// Nowhere else do they stay on the device.
#[cfg(feature = "wgpu")]
mod instances;
mod keep;
mod random;
// Nowhere else is a kernel ahead of the books.
#[cfg(not(feature = "wgpu"))]
mod resident;

use super::{AGAIN, LONG, eventually, runtime};
use crate::backend::Device;
use crate::{Backpressure, DeadLetterReason, Handle, KernelState, Message, RingKernel, Runtime, message};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

message! {
    /// A number, how many kernels it has been through, an instance, and what the last kernel with instances had seen.
    pub struct Item { pub number: u32, pub hops: u32, pub to: u32, pub seen: u32 }
    /// What a kernel has seen.
    pub struct Seen { pub count: u32, pub sum: u32 }
}

const PASS: &str = "fn on_message(m: Item) { emit_out(Item(m.number, m.hops + 1u, m.to, m.seen)); }";
/// Emits nothing, one or two values; faults at every thirteenth message.
const SPREAD: &str = "
    fn on_message(m: Item) {
        if m.number % 13u == 12u { emit_out(m); emit_out(m); emit_out(m); }
        for (var i = 0u; i < m.number % 3u; i++) { emit_out(Item(m.number, m.hops + 1u + i, m.to, m.seen)); }
    }";
const COUNT: &str = "
    fn on_message(m: Item, s: ptr<function, Seen>) -> Item {
        (*s).count += 1u;
        (*s).sum += m.number;
        return m;
    }";
/// As `COUNT`, and faults at number 5.
const COUNT_AND_FAULT: &str = "
    fn on_message(m: Item, s: ptr<function, Seen>) -> Item {
        (*s).count += 1u;
        (*s).sum += m.number;
        while m.number == 5u { (*s).sum += 1u; }
        return m;
    }";

fn item(number: u32) -> Item {
    Item { number, hops: 0, to: number % 5, seen: 0 }
}

/// Starts a kernel that emits.
fn stage(runtime: &Runtime, name: &str, handler: &str) -> Handle<Item, ()> {
    let kernel = RingKernel::<Item, ()>::wgsl(name, handler).output_many::<Item>("out", 2);
    let kernel = runtime.launch(kernel.queue_capacity(1024).restart(AGAIN)).unwrap();
    kernel.activate().unwrap();
    kernel
}

fn start<Out: Message>(runtime: &Runtime, kernel: RingKernel<Item, Out>) -> Handle<Item, Out> {
    let kernel = runtime.launch(kernel).unwrap();
    kernel.activate().unwrap();
    kernel
}

fn counter(name: &str) -> RingKernel<Item, Item> {
    RingKernel::wgsl(name, COUNT).initial_state(Seen::default()).queue_capacity(1024).restart(AGAIN)
}

fn link<Out: Message>(runtime: &Runtime, from: &Handle<Item, ()>, to: &Handle<Item, Out>) {
    runtime.link(&from.output::<Item>("out").unwrap(), to).unwrap();
}

fn receive(end: &Handle<Item, Item>, count: usize) -> Vec<u32> {
    let one = |index| match end.recv_timeout(LONG) {
        Ok(item) => item.number,
        Err(error) => panic!("{index} of {count}: {error}; {:#?}", end.telemetry()),
    };
    (0..count).map(one).collect()
}

/// Sends number 0 until it has gone by on the device all the way, and says how often: a backend may make room for what
/// comes over a link when it has seen it used.
fn open(first: &Handle<Item, ()>, end: &Handle<Item, Item>, arrived: impl Fn() -> u64) -> u64 {
    let begun = Instant::now();
    for sent in 1.. {
        first.send(item(0)).unwrap();
        assert_eq!(receive(end, 1), [0]);
        if arrived() > 0 {
            return sent;
        }
        assert!(begun.elapsed() < LONG, "nothing goes by on the device");
    }
    unreachable!("it ends before")
}

/// Accepted is what ended and what is pending, everywhere.
fn check(runtime: &Runtime) {
    for (name, books) in runtime.telemetry() {
        let ended = books.handled + books.returned + books.dead_letters.total();
        assert_eq!(books.accepted, ended + books.pending, "{name}: {books:#?}");
    }
}

#[test]
fn a_message_goes_through_three_kernels_in_one_submission() {
    let Some(runtime) = runtime() else { return };
    let (first, second) = (stage(&runtime, "first", PASS), stage(&runtime, "second", PASS));
    let end = start(&runtime, counter("end"));
    link(&runtime, &first, &second);
    link(&runtime, &second, &end);
    let opened = open(&first, &end, || second.telemetry().arrived.min(end.telemetry().arrived));
    let before = (second.telemetry().arrived, end.telemetry().arrived);
    for number in 0..20 {
        #[cfg(feature = "wgpu")]
        let before = runtime.device().submissions();
        first.send(item(number)).unwrap();
        let got = end.recv_timeout(LONG).unwrap();
        assert_eq!((got.number, got.hops), (number, 2));
        #[cfg(feature = "wgpu")]
        assert_eq!(runtime.device().submissions() - before, 1, "message {number}");
        // Whoever has the end's reply finds what caused it in the books.
        for stage in [&first, &second] {
            let books = stage.telemetry();
            let sent = opened + u64::from(number) + 1;
            assert_eq!((books.handled, books.emitted), (sent, sent));
        }
    }
    let after = (second.telemetry().arrived, end.telemetry().arrived);
    assert_eq!((after.0 - before.0, after.1 - before.1), (20, 20));
    assert_eq!(end.telemetry().accepted, 20 + opened);
    let seen = end.read_state::<Seen>().unwrap();
    assert_eq!((u64::from(seen.count), seen.sum), (20 + opened, 190));
}

/// What `SPREAD` makes of these, if each message that should not fault does not.
fn spread(numbers: std::ops::Range<u32>) -> Vec<u32> {
    let kept = numbers.filter(|number| number % 13 != 12);
    kept.flat_map(|number| (0..number % 3).map(move |_| number)).collect()
}

#[test]
fn what_faults_and_what_emits_nothing_or_more_leaves_the_order() {
    let Some(runtime) = runtime() else { return };
    let (first, second) = (stage(&runtime, "first", SPREAD), stage(&runtime, "second", PASS));
    let end = start(&runtime, counter("end"));
    link(&runtime, &first, &second);
    link(&runtime, &second, &end);
    let (mut next, mut wanted) = (0, Vec::new());
    let mut received = Vec::new();
    for count in [1, 3, 12, 13, 14, 40, 64, 65, 200, 7, 1, 1, 1, 300] {
        first.send_many((next..next + count).map(item)).unwrap();
        let these = spread(next..next + count);
        received.extend(receive(&end, these.len()));
        wanted.extend(these);
        next += count;
    }
    assert_eq!(received, wanted);
    eventually("all is in the books", || first.telemetry().pending == 0);
    let books = first.telemetry();
    assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), u64::from(next / 13));
    assert_eq!((books.handled, books.emitted), (u64::from(next - next / 13), wanted.len() as u64));
    let (books, last) = (second.telemetry(), end.telemetry());
    assert!(books.arrived > 0 && books.arrived < books.accepted, "some behind a fault: {books:#?}");
    assert_eq!((books.accepted, last.accepted), (wanted.len() as u64, wanted.len() as u64));
    assert!(last.arrived >= books.arrived, "{last:#?}");
    check(&runtime);
}

#[test]
fn a_detour_through_the_host_is_over_with_what_took_it() {
    let Some(runtime) = runtime() else { return };
    let (first, second) = (stage(&runtime, "first", SPREAD), stage(&runtime, "second", PASS));
    let end = start(&runtime, counter("end"));
    link(&runtime, &first, &second);
    link(&runtime, &second, &end);
    for round in 1..=5 {
        // What is behind the fault of number 12.
        first.send_many((0..20).map(item)).unwrap();
        assert_eq!(receive(&end, spread(0..20).len()), spread(0..20));
        let is_idle = || [first.telemetry(), second.telemetry()].iter().all(|books| books.pending == 0);
        eventually("all is in the books", is_idle);
        assert!(second.telemetry().arrived < second.telemetry().accepted, "round {round}");
        // Its last steps are behind the books.
        eventually("the next one goes by on the device", || {
            let arrived = || [second.telemetry().arrived, end.telemetry().arrived];
            let before = arrived();
            first.send(item(1)).unwrap();
            assert_eq!(receive(&end, 1), [1]);
            arrived() == before.map(|before| before + 1)
        });
    }
    check(&runtime);
}

#[test]
fn a_serial_end_that_fails_half_way_keeps_the_rest() {
    let Some(runtime) = runtime() else { return };
    let first = stage(&runtime, "first", PASS);
    let end = RingKernel::wgsl("end", COUNT_AND_FAULT).initial_state(Seen::default()).loop_budget(50);
    let end: Handle<Item, Item> = start(&runtime, end.queue_capacity(1024));
    link(&runtime, &first, &end);
    let opened = open(&first, &end, || end.telemetry().arrived);
    let before = end.telemetry().arrived;
    first.send_many((0..20).map(item)).unwrap();
    eventually("it fails", || end.lifecycle() == KernelState::Failed);
    eventually("its source is done", || first.telemetry().pending == 0);
    let books = end.telemetry();
    let arrived = books.arrived - before;
    assert_eq!((arrived, books.handled - opened, books.pending), (20, 5, 14), "{books:#?}");
    assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), 1);
    check(&runtime);
    let rest: Vec<_> = end.terminate(LONG).unwrap().returned.iter().map(|rest| rest.payload.number).collect();
    assert!(rest.into_iter().eq(6..20), "in order, each once");
    first.send(item(20)).unwrap();
    eventually("nobody is there", || first.telemetry().undeliverable == 1);
}

#[test]
fn a_serial_end_that_goes_on_after_a_fault_handles_the_rest() {
    let Some(runtime) = runtime() else { return };
    let first = stage(&runtime, "first", PASS);
    let end = RingKernel::wgsl("end", COUNT_AND_FAULT).initial_state(Seen::default()).loop_budget(50);
    let end: Handle<Item, Item> = start(&runtime, end.queue_capacity(1024).restart(AGAIN));
    link(&runtime, &first, &end);
    open(&first, &end, || end.telemetry().arrived);
    let before = end.telemetry().arrived;
    first.send_many((0..20).map(item)).unwrap();
    assert!(receive(&end, 19).into_iter().eq((0..20).filter(|number| *number != 5)));
    assert_eq!(end.read_state::<Seen>().unwrap().count, 14, "from the initial state on");
    assert_eq!((end.telemetry().arrived - before, end.telemetry().restarts), (20, 1));
    // Once more, with what is sent meanwhile behind it.
    first.send_many((5..10).map(item)).unwrap();
    assert!(receive(&end, 4).into_iter().eq(6..10));
    check(&runtime);
}

#[test]
fn what_has_no_room_waits_and_comes_in_order() {
    let Some(runtime) = runtime() else { return };
    let (first, second) = (stage(&runtime, "first", PASS), stage(&runtime, "second", PASS));
    let end = start(&runtime, counter("end").queue_capacity(8).output_capacity(5));
    link(&runtime, &first, &second);
    link(&runtime, &second, &end);
    let opened = open(&first, &end, || second.telemetry().arrived.min(end.telemetry().arrived));
    std::thread::scope(|scope| {
        scope.spawn(|| (0..200).for_each(|number| first.send(item(number)).unwrap()));
        eventually("the queue of replies is full", || end.telemetry().unread_replies == 5);
        std::thread::sleep(Duration::from_millis(20));
        let books = end.telemetry();
        assert_eq!(books.handled - opened, 5, "no more begin than there is room for: {books:#?}");
        assert!(receive(&end, 200).into_iter().eq(0..200));
    });
    check(&runtime);
}

#[test]
fn whoever_is_deactivated_handles_nothing_and_loses_nothing() {
    let Some(runtime) = runtime() else { return };
    let (first, second) = (stage(&runtime, "first", PASS), stage(&runtime, "second", PASS));
    let end = start(&runtime, counter("end"));
    link(&runtime, &first, &second);
    link(&runtime, &second, &end);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let begun = Instant::now();
            while !is_over.load(Ordering::Relaxed) && begun.elapsed() < LONG {
                second.deactivate().unwrap();
                let before = second.telemetry();
                std::thread::sleep(Duration::from_micros(300));
                let after = second.telemetry();
                assert_eq!(before.handled, after.handled, "{after:#?}");
                second.activate().unwrap();
                end.deactivate().unwrap();
                let (before, state) = (end.telemetry().handled, end.read_state::<Seen>().unwrap());
                assert_eq!(before, u64::from(state.count), "the books have what the state has");
                end.activate().unwrap();
                std::thread::sleep(Duration::from_micros(500));
                // Where a kernel takes longer to begin, it would never come to anything.
                let active = Instant::now();
                while end.telemetry().handled == before
                    && !is_over.load(Ordering::Relaxed)
                    && active.elapsed() < Duration::from_millis(50)
                {
                    std::thread::yield_now();
                }
            }
        });
        for begin in (0..600).step_by(20) {
            (begin..begin + 20).for_each(|number| first.send(item(number)).unwrap());
            assert!(receive(&end, 20).into_iter().eq(begin..begin + 20));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let (books, last) = (second.telemetry(), end.telemetry());
    assert_eq!((books.accepted, last.accepted), (600, 600));
    assert!(books.arrived > 0, "{books:#?}");
    check(&runtime);
}

#[test]
fn an_end_that_is_terminated_in_the_middle_accounts_for_every_value() {
    let Some(runtime) = runtime() else { return };
    for round in 0..20u64 {
        let first = stage(&runtime, &format!("first {round}"), PASS);
        let end = start(&runtime, counter("end").output_capacity(4096));
        link(&runtime, &first, &end);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..200).for_each(|number| first.send(item(number)).unwrap()));
            std::thread::sleep(Duration::from_micros(200 * round));
            let timeout = if round % 2 == 0 { Duration::ZERO } else { LONG };
            end.terminate(timeout).unwrap();
        });
        eventually("all is handled", || first.telemetry().pending == 0);
        // What nobody takes is counted behind the messages that emitted it.
        let accounted = || end.telemetry().accepted + first.telemetry().undeliverable;
        eventually("each value is somewhere", || accounted() >= 200);
        let last = end.telemetry();
        assert_eq!((first.telemetry().emitted, accounted()), (200, 200), "{last:#?}");
        assert_eq!(last.pending, 0, "{last:#?}");
        check(&runtime);
    }
}

#[test]
fn what_arrives_at_an_end_that_was_given_up_is_accounted_for() {
    let Some(runtime) = runtime() else { return };
    let first = stage(&runtime, "first", PASS);
    let end = start(&runtime, counter("end").output_capacity(4096));
    link(&runtime, &first, &end);
    let opened = open(&first, &end, || end.telemetry().arrived);
    eventually("all is in the books", || first.telemetry().pending + end.telemetry().pending == 0);
    // Somebody is in the middle of something with the port, for longer than `terminate` waits.
    assert!(end.core().seize(crate::sync::deadline_in(LONG)));
    first.send_many((0..20).map(item)).unwrap();
    eventually("all is handled", || first.telemetry().pending == 0);
    end.terminate(Duration::ZERO).unwrap();
    end.core().release();
    // What nobody takes is counted behind the messages that emitted it.
    let accounted = || end.telemetry().accepted + first.telemetry().undeliverable;
    eventually("each value is somewhere", || accounted() >= opened + 20);
    let last = end.telemetry();
    assert_eq!((first.telemetry().emitted, accounted()), (opened + 20, opened + 20), "{last:#?}");
    let ended = last.handled + last.returned + last.dead_letters.total();
    assert_eq!((last.pending, last.accepted), (0, ended), "{last:#?}");
    check(&runtime);
}

#[test]
fn a_source_that_is_terminated_in_the_middle_leaves_the_end_usable() {
    let Some(runtime) = runtime() else { return };
    for round in 0..20u64 {
        let first = stage(&runtime, &format!("first {round}"), PASS);
        let end = start(&runtime, counter(&format!("end {round}")).output_capacity(4096));
        link(&runtime, &first, &end);
        std::thread::scope(|scope| {
            // Refused from the moment of its end.
            scope.spawn(|| (0..200).all(|number| first.send(item(number)).is_ok()));
            std::thread::sleep(Duration::from_micros(100 * round));
            first.terminate(Duration::ZERO).unwrap();
        });
        // What came of it on the device, or not: the end is there for others, and its books are right.
        assert_eq!(end.ask(item(1000), LONG).unwrap().number, 1000);
        let last = end.telemetry();
        assert_eq!((last.accepted, last.pending), (last.handled, 0), "{last:#?}");
        assert_eq!(u64::from(end.read_state::<Seen>().unwrap().count), last.handled);
        check(&runtime);
    }
}

#[test]
fn a_lost_device_in_the_middle_doubles_and_loses_nothing() {
    let Some(runtime) = runtime() else { return };
    let (first, second) = (stage(&runtime, "first", PASS), stage(&runtime, "second", PASS));
    let end = start(&runtime, counter("end"));
    link(&runtime, &first, &second);
    link(&runtime, &second, &end);
    let is_over = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        scope.spawn(|| {
            // Fewer than a kernel tries, and none before the last one has been replaced.
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(40));
                let device: Arc<dyn Device> = runtime.device();
                device.destroy();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let mut sent = 0;
        let begun = Instant::now();
        // Where a new device takes long, no message may have stayed on one when the last has been lost.
        let none_stayed = || end.telemetry().arrived == 0 && begun.elapsed() < LONG;
        while !is_over.load(Ordering::Relaxed) || none_stayed() {
            first.send_many((sent..sent + 30).map(item)).unwrap();
            assert!(receive(&end, 30).into_iter().eq(sent..sent + 30), "in order, each once");
            sent += 30;
        }
        sent
    });
    for kernel in [&first, &second] {
        let books = kernel.telemetry();
        assert_eq!((books.handled, books.emitted), (u64::from(sent), u64::from(sent)), "{books:#?}");
    }
    let last = end.telemetry();
    assert_eq!(last.accepted, u64::from(sent));
    let restarts = first.telemetry().restarts + second.telemetry().restarts + last.restarts;
    assert!(last.arrived > 0 && restarts > 0, "{last:#?}");
    check(&runtime);
}

#[test]
fn a_kernel_on_a_device_that_was_replaced_still_hears_that_it_is_lost() {
    let Some(runtime) = runtime() else { return };
    let end = start(&runtime, counter("end"));
    end.ask(item(0), LONG).unwrap();
    // Lost, and replaced by a launch, before any kernel has noticed.
    let device = runtime.device();
    device.destroy();
    #[cfg(feature = "wgpu")]
    device.holdings();
    assert!(device.is_lost());
    drop(device);
    let first = stage(&runtime, "first", PASS);
    link(&runtime, &first, &end);
    first.send(item(1)).unwrap();
    // Nobody waits for the end or sends to it, so nobody pumps but the old device's own thread.
    eventually("it goes on with the new one", || end.telemetry().handled == 2);
    assert_eq!(end.telemetry().restarts, 1);
    check(&runtime);
}

#[test]
fn what_may_not_go_by_on_the_device_goes_through_the_host() {
    let Some(runtime) = runtime() else { return };
    // To two kernels; to one that may drop; to one on the processor; in a cycle.
    let end = |name: &str| counter(name);
    let (two, left, right) =
        (stage(&runtime, "two", PASS), start(&runtime, end("left")), start(&runtime, end("right")));
    link(&runtime, &two, &left);
    link(&runtime, &two, &right);
    let (to_drop, drops) = (
        stage(&runtime, "to drop", PASS),
        start(&runtime, end("drops").backpressure(Backpressure::DropNewest)),
    );
    link(&runtime, &to_drop, &drops);
    let (to_native, native) = (
        stage(&runtime, "to native", PASS),
        start(&runtime, RingKernel::<Item, Item>::native("native", |m: Item, _: &mut ()| m)),
    );
    link(&runtime, &to_native, &native);
    for (from, to) in [(&two, &left), (&two, &right), (&to_drop, &drops), (&to_native, &native)] {
        from.send(item(1)).unwrap();
        assert_eq!(receive(to, 1), [1]);
        assert_eq!((to.telemetry().arrived, to.telemetry().accepted > 0), (0, true));
    }
    let (there, back) = (
        stage(&runtime, "there", PASS),
        stage(
            &runtime,
            "back",
            "fn on_message(m: Item) { if m.hops < 9u { emit_out(Item(m.number, m.hops + 1u, m.to, m.seen)); } }",
        ),
    );
    link(&runtime, &there, &back);
    link(&runtime, &back, &there);
    there.send(item(1)).unwrap();
    eventually("it went round", || back.telemetry().handled == 5);
    assert_eq!((there.telemetry().arrived, back.telemetry().arrived), (0, 0));
    check(&runtime);
}

/// Where the time of a chain goes: `cargo test --release --lib chain_of_three_in_time -- --ignored --nocapture`.
#[test]
#[ignore = "prints timings"]
fn a_chain_of_three_in_time() {
    let Some(runtime) = runtime() else { return };
    println!("{}", runtime.capabilities().unwrap().name);
    let make = |name: &str, strategy: Backpressure| {
        let name = |part: &str| format!("{name}: {part}");
        let pass = |part: &str| {
            let kernel = RingKernel::<Item, ()>::wgsl(name(part), PASS).output::<Item>("out");
            start(&runtime, kernel.queue_capacity(1024).backpressure(strategy))
        };
        let (first, second) = (pass("first"), pass("second"));
        let end = counter(&name("end")).backpressure(strategy).output_capacity(2048);
        let end = start(&runtime, end);
        link(&runtime, &first, &second);
        link(&runtime, &second, &end);
        (first, end)
    };
    // Messages that a kernel may drop go through the host.
    let ways =
        [("host", make("host", Backpressure::DropNewest)), ("device", make("device", Backpressure::Block))];
    for count in [1, 16, 256, 1000] {
        for (way, (first, end)) in &ways {
            let mut times = Vec::new();
            for _ in 0..200 {
                let messages: Vec<_> = (0..count).map(item).collect();
                let begun = Instant::now();
                first.send_many(messages).unwrap();
                receive(end, count as usize);
                times.push(begun.elapsed());
            }
            times.sort_unstable();
            let (arrived, accepted) = (end.telemetry().arrived, end.telemetry().accepted);
            println!(
                "{count} messages, {way}: p50 {:?}, p90 {:?}; {arrived} of {accepted} arrived on the device",
                times[100], times[180]
            );
        }
    }
}
