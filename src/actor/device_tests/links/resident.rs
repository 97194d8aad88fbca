//! Between resident kernels: messages that a device has and has not begun, and kernels that are ahead of the books.

use super::super::{AGAIN, LONG, runtime};
use super::{Item, PASS, Seen, check, counter, eventually, item, link, open, receive, stage, start};
use crate::actor::gate;
use crate::sync::{deadline_in, lock};
use crate::{Handle, RingKernel, Runtime};
use std::time::{Duration, Instant};

/// A pass that takes as many turns as its message says.
const SLOW_PASS: &str = "
    fn on_message(m: Item) {
        var n = m.number;
        for (var i = 0u; i < m.seen; i++) { n = n * 1664525u + 1u; }
        emit_out(Item(m.number, m.hops + 1u, m.to, n));
    }";

fn slow_stage(runtime: &Runtime, name: &str) -> Handle<Item, ()> {
    let kernel = RingKernel::<Item, ()>::wgsl(name, SLOW_PASS).output_many::<Item>("out", 2);
    start(runtime, kernel.queue_capacity(1024).loop_budget(u32::MAX).restart(AGAIN))
}

#[test]
fn an_end_goes_on_when_the_kernel_before_it_was_given_up_ahead_of_the_books() {
    let Some(runtime) = runtime() else { return };
    let first = slow_stage(&runtime, "first");
    let (second, end) = (stage(&runtime, "second", PASS), start(&runtime, counter("end")));
    link(&runtime, &first, &second);
    link(&runtime, &second, &end);
    open(&first, &end, || second.telemetry().arrived.min(end.telemetry().arrived));
    // The device has all of them when the first one begins, which takes a while; nobody takes what comes back.
    let slow = Item { seen: 1 << 28, ..item(0) };
    first.send_many(std::iter::once(slow).chain((1..21).map(item))).unwrap();
    assert!(first.core().seize(deadline_in(LONG)));
    std::thread::sleep(Duration::from_secs(2));
    second.terminate(Duration::ZERO).unwrap();
    first.core().release();
    assert_eq!(end.ask(item(1000), LONG).unwrap().number, 1000);
    eventually("the first one is done", || first.telemetry().pending == 0);
    assert_eq!(end.telemetry().pending, 0);
    check(&runtime);
}

#[test]
fn a_second_link_gets_what_messages_emit_that_begin_behind_it() {
    second_link(|runtime| slow_stage(runtime, "first"));
}

#[test]
fn a_second_link_of_a_kernel_with_a_table_gets_what_messages_emit_that_begin_behind_it() {
    second_link(|runtime| {
        let table = runtime.buffer(&[1u32]).unwrap();
        let text = format!(
            "@group(1) @binding(0) var<storage, read> table: array<u32>;
            {}",
            SLOW_PASS.replace("+ 1u; }", "+ table[0]; }")
        );
        let kernel = RingKernel::<Item, ()>::wgsl("first", text).output_many::<Item>("out", 2);
        start(runtime, kernel.queue_capacity(1024).loop_budget(u32::MAX).bind("table", &table))
    });
}

/// Links a kernel to a second one while it has messages that are to go to the first one on the device.
///
/// On a busy machine the link may come when the device is through with them. Then it says nothing, and they take longer
/// the next time.
fn second_link(first: impl Fn(&Runtime) -> Handle<Item, ()>) {
    let in_time = |turns| match runtime() {
        Some(runtime) => link_behind_a_slow_message(&runtime, &first(&runtime), turns) >= 20,
        None => true,
    };
    assert!([1 << 26, 1 << 28, 1 << 30].into_iter().any(in_time), "no message began behind the link");
}

/// How many of the 20 messages behind one that takes so many turns a second link got, which comes meanwhile.
fn link_behind_a_slow_message(runtime: &Runtime, first: &Handle<Item, ()>, turns: u32) -> usize {
    let ends = ["one", "two"].map(|name| start(runtime, counter(name).output_capacity(4096)));
    link(runtime, first, &ends[0]);
    open(first, &ends[0], || ends[0].telemetry().arrived);
    eventually("all is in the books", || first.telemetry().pending + ends[0].telemetry().pending == 0);
    // The device has all of them when the first one begins, which takes a while.
    let slow = Item { seen: turns, ..item(0) };
    first.send_many(std::iter::once(slow).chain((1..21).map(item))).unwrap();
    let are_there = || lock(&ends[0].core().mailbox).awaited == 42 || first.telemetry().pending == 0;
    eventually("the device has them, or is through", are_there);
    link(runtime, first, &ends[1]);
    assert_eq!(receive(&ends[0], 21), (0..21).collect::<Vec<_>>());
    eventually("the first one is done", || first.telemetry().pending == 0);
    // Of the slow one and what the same batch had, one link was told.
    let got = ends[1].telemetry().accepted as usize;
    assert_eq!(receive(&ends[1], got), (21 - got as u32..21).collect::<Vec<_>>());
    check(runtime);
    got
}

#[test]
fn room_that_was_kept_on_a_device_is_there_again_when_it_is_lost() {
    let Some(runtime) = runtime() else { return };
    let first = slow_stage(&runtime, "first");
    let end = start(&runtime, counter("end").queue_capacity(4));
    link(&runtime, &first, &end);
    open(&first, &end, || end.telemetry().arrived);
    let has_both = |turns| {
        eventually("all is in the books", || first.telemetry().pending + end.telemetry().pending == 0);
        first.send_many([Item { seen: turns, ..item(1) }, item(2)]).unwrap();
        let are_there = || lock(&end.core().mailbox).awaited == 4;
        eventually("the device has both, or is through", || are_there() || first.telemetry().pending == 0);
        let are_there = are_there();
        if !are_there {
            assert_eq!(receive(&end, 2), [1, 2]);
        }
        are_there
    };
    // On a busy machine this thread may come when the device is through with them.
    assert!([1 << 28, 1 << 30].into_iter().any(has_both), "nothing was found on the device");
    assert!(end.core().seize(deadline_in(LONG)));
    runtime.device().destroy();
    // It goes on elsewhere, before the one behind it has heard of anything.
    first.send_many((3..10).map(item)).unwrap();
    let is_stalled = || first.core().hot.gate.load() & gate::STALLED != 0;
    eventually("there is no room", is_stalled);
    end.core().release();
    eventually("there is room again", || !is_stalled());
    assert_eq!(receive(&end, 9), (1..10).collect::<Vec<_>>());
    eventually("all is in the books", || first.telemetry().pending + end.telemetry().pending == 0);
    check(&runtime);
}

#[test]
fn what_arrives_stays_behind_messages_that_were_sent_together() {
    const SLOW: &str = "
        fn on_message(m: Item, s: ptr<function, Seen>) -> Item {
            (*s).count += 1u;
            for (var i = 0u; i < m.seen; i++) { (*s).sum = (*s).sum * 31u + i; }
            return m;
        }";
    let Some(runtime) = runtime() else { return };
    let first = stage(&runtime, "first", PASS);
    let end = RingKernel::<Item, Item>::wgsl("end", SLOW).initial_state(Seen::default());
    let end = start(&runtime, end.queue_capacity(1024).output_capacity(4096));
    link(&runtime, &first, &end);
    open(&first, &end, || end.telemetry().arrived);
    let before = end.telemetry().arrived;
    for number in 1000..1010 {
        let slow = (0..500).map(|number| Item { seen: 5000, ..item(number) });
        end.send_many_with(slow, crate::Options::default().discard_reply()).unwrap();
        first.send(item(number)).unwrap();
        assert_eq!(receive(&end, 1), [number], "the one reply that somebody wants");
    }
    assert!(end.telemetry().arrived > before, "nothing went by on the device");
    eventually("all is in the books", || end.telemetry().pending == 0);
    check(&runtime);
}

#[test]
fn a_link_that_waits_for_a_cycles_member_gets_what_comes_through_another_kernel_meanwhile() {
    const SLOW: &str = "
        fn on_message(m: Item) {
            var n = m.number;
            for (var i = 0u; i < m.seen; i++) { n = n * 1664525u + 1u; }
            if m.number == 1000u { emit_out(Item(n, m.hops, m.to, 0u)); emit_other(m); }
        }";
    let Some(runtime) = runtime() else { return };
    let [a, b] = ["a", "b"].map(|name| stage(&runtime, name, PASS));
    let c = start(&runtime, counter("c").output_capacity(4096));
    // With two outputs: what it may emit has no places at the device.
    let x = RingKernel::<Item, ()>::wgsl("x", SLOW).output_many::<Item>("out", 2).output::<Item>("other");
    let x = start(&runtime, x.queue_capacity(1024).loop_budget(u32::MAX).restart(AGAIN));
    link(&runtime, &a, &b);
    link(&runtime, &b, &c);
    link(&runtime, &x, &b);
    open(&a, &c, || b.telemetry().arrived.min(c.telemetry().arrived));
    eventually("all is in the books", || [&a, &b].iter().all(|stage| stage.telemetry().pending == 0));
    // The members of the cycle are held one after the other: the last one is busy for a while.
    let turns = 1 << 22;
    let times = (0..8).map(|_| {
        let begun = Instant::now();
        x.ask(Item { seen: turns, ..item(0) }, LONG).unwrap();
        begun.elapsed()
    });
    // The shortest: whoever was held up would make it too short.
    let turns = f64::from(turns) * 1.5 / times.min().expect("eight").as_secs_f64();
    x.send(Item { seen: turns as u32, ..item(0) }).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    std::thread::scope(|scope| {
        let linking = scope.spawn(|| link(&runtime, &b, &x));
        std::thread::sleep(Duration::from_millis(300));
        a.send_many((1..21).map(item)).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(!linking.is_finished(), "a member is busy");
    });
    assert_eq!(receive(&c, 20), (1..21).collect::<Vec<_>>());
    eventually("the cycle is through", || x.telemetry().pending + b.telemetry().pending == 0);
    // Nine were its own.
    assert_eq!(x.telemetry().accepted, 9 + 20);
    check(&runtime);
}
