//! Cycles of links that lose a member: the others go on, and whoever sends into the cycle.

use super::*;
use crate::common::runtime;
use ringwork::{Context, KernelState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Long enough for what would be wrong to happen.
const A_WHILE: Duration = Duration::from_millis(30);

/// Links two kernels to each other.
#[track_caller]
fn join<A: Message, B: Message>(runtime: &Runtime, one: &Handle<Item, A>, two: &Handle<Item, B>) {
    link(runtime, one, two);
    link(runtime, two, one);
}

/// Far more than the cycle holds; the link's end is gone.
#[track_caller]
fn sends_to_nobody(runtime: &Runtime, kernel: &Handle<Item, ()>) {
    let before = kernel.telemetry().undeliverable;
    for number in 100..120 {
        if let Err(error) = kernel.send_timeout(item(number), LONG) {
            panic!("{error}\n{}", where_it_stands(runtime));
        }
    }
    eventually(runtime, "values for nobody", || kernel.telemetry().undeliverable == before + 20);
    books_balance(runtime);
}

#[test]
fn a_cycle_goes_on_when_a_member_was_terminated() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let (one, two) = (pass(runtime, "one", 2), pass(runtime, "two", 2));
        join(runtime, &one, &two);
        two.terminate(LONG).unwrap();
        sends_to_nobody(runtime, &one);
        drop(two);
        sends_to_nobody(runtime, &one);
    });
}

#[test]
fn a_cycle_goes_on_when_a_member_has_failed() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let one = pass(runtime, "one", 2);
        let two = started(
            runtime,
            RingKernel::<Item, ()>::wgsl("two", "fn on_message(m: Item) { while m.number == 3u { } }")
                .output::<Item>("out")
                .loop_budget(10)
                .queue_capacity(2),
        );
        join(runtime, &one, &two);
        one.send(item(3)).unwrap();
        eventually(runtime, "the fault", || two.lifecycle() == KernelState::Failed);
        sends_to_nobody(runtime, &one);
    });
}

#[test]
fn messages_that_a_member_returns_need_no_room_for_what_they_would_have_sent() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        // It fails on its first message, with three more in its port.
        let two = RingKernel::<Item, ()>::wgsl(
            "two",
            "struct Seen { count: u32, sum: u32 }
            fn on_message(m: Item, s: ptr<function, Seen>) {
                while m.number == 0u { }
                (*s).count += 1u;
                if m.number > 1000u { emit_out(m); }
            }",
        );
        let two = two.initial_state(Seen::default()).output_many::<Item>("out", 4).loop_budget(10);
        let two = runtime.launch(two.queue_capacity(4)).unwrap();
        let one = RingKernel::<Item, ()>::wgsl("one", PASS).output::<Item>("out").queue_capacity(20);
        let one = runtime.launch(one).unwrap();
        join(runtime, &one, &two);
        let (to_one, to_two) = (pass(runtime, "to_one", 4), pass(runtime, "to_two", 4));
        link(runtime, &to_one, &one);
        link(runtime, &to_two, &two);
        to_two.send_many((0..4).map(item)).unwrap();
        eventually(runtime, "four messages", || two.telemetry().accepted == 4);
        two.activate().unwrap();
        eventually(runtime, "the fault", || two.lifecycle() == KernelState::Failed);
        two.terminate(LONG).unwrap();
        to_one.send_many((0..20).map(item)).unwrap();
        eventually(runtime, "a full mailbox", || one.telemetry().accepted == 20);
    });
}

#[test]
fn a_members_end_lets_a_source_outside_go_on() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        // Two messages are all that this cycle takes, and the second member has both.
        let feed = pass(runtime, "feed", 8);
        let one = RingKernel::<Item, ()>::wgsl("one", PASS).output_many::<Item>("out", 2).queue_capacity(1);
        let one = started(runtime, one);
        let two = RingKernel::<Item, ()>::wgsl("two", PASS).output::<Item>("out").queue_capacity(2);
        let two = runtime.launch(two).unwrap();
        join(runtime, &one, &two);
        link(runtime, &feed, &one);
        feed.send_many((0..4).map(item)).unwrap();
        eventually(runtime, "a stall", || two.telemetry().accepted == 2 && feed.telemetry().handled == 3);
        std::thread::sleep(A_WHILE);
        assert_eq!(two.terminate(LONG).unwrap().returned.len(), 2);
        eventually(runtime, "the rest", || one.telemetry().undeliverable == 2);
        assert_eq!(one.telemetry().handled, 4);
    });
}

#[test]
fn a_message_for_no_instance_lets_a_source_outside_go_on() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let (feed, one) = (pass(runtime, "feed", 4), pass(runtime, "one", 1));
        let two = RingKernel::<Item, ()>::wgsl(
            "two",
            "struct Seen { count: u32, sum: u32 }
            fn on_message(m: Item, s: ptr<function, Seen>) { (*s).count += 1u; emit_out(m); }",
        );
        let two = two.initial_state(Seen::default()).instances(2).instance_field("number");
        let two = runtime.launch(two.output::<Item>("out").queue_capacity(1)).unwrap();
        let three = RingKernel::<Item, ()>::wgsl("three", PASS).output::<Item>("out").queue_capacity(2);
        let three = runtime.launch(three).unwrap();
        link(runtime, &one, &two);
        link(runtime, &two, &three);
        link(runtime, &three, &one);
        link(runtime, &feed, &three);
        // One message in the second kernel, three behind it that it will not take: the cycle is full.
        one.send_many([0, 5, 6, 7].map(item)).unwrap();
        eventually(runtime, "a full cycle", || one.telemetry().handled == 4);
        feed.send_many([0, 1].map(item)).unwrap();
        eventually(runtime, "a stall", || feed.telemetry().emitted > 0);
        std::thread::sleep(A_WHILE);
        assert_eq!(three.telemetry().accepted, 0);
        two.activate().unwrap();
        eventually(runtime, "a message from outside", || three.telemetry().accepted == 2);
        assert_eq!(two.telemetry().dead_letters.total(), 3);
    });
}

#[test]
fn what_a_terminated_member_sent_reaches_the_next() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let open = Arc::new(AtomicBool::new(false));
        let door = open.clone();
        let one = pass(runtime, "one", 2);
        let two = started(
            runtime,
            RingKernel::<Item, Item>::host("two", move |context: &mut Context<Item, Item>| {
                while let Some(item) = context.receive() {
                    while !door.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    context.reply(*item);
                }
            })
            .output::<Item>("out")
            .queue_capacity(1),
        );
        join(runtime, &one, &two);
        one.send_many((0..3).map(item)).unwrap();
        eventually(runtime, "a value that waits", || one.telemetry().handled == 3);
        // Nobody has the kernel after that.
        let ending = std::thread::spawn(move || drop(one.terminate(LONG).unwrap()));
        std::thread::sleep(A_WHILE);
        open.store(true, Ordering::Relaxed);
        ending.join().unwrap();
        assert!(receive(runtime, &two, 3).iter().map(|item| item.number).eq(0..3));
    });
}

#[test]
fn what_a_member_that_is_gone_had_sent_takes_no_room() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let one = RingKernel::<Item, ()>::host("one", |context: &mut Context<Item, ()>| {
            while let Some(item) = context.receive() {
                (0..4).for_each(|_| context.send("out", *item).expect("declared"));
            }
        });
        let one = started(runtime, one.output_many::<Item>("out", 4).queue_capacity(1));
        let two = RingKernel::<Item, ()>::wgsl("two", "fn on_message(m: Item) { }").output::<Item>("out");
        let two = runtime.launch(two.queue_capacity(2)).unwrap();
        join(runtime, &one, &two);
        one.send(item(0)).unwrap();
        eventually(runtime, "two values that wait", || one.telemetry().emitted == 4);
        // It does not wait for a kernel that is not active.
        one.terminate(LONG).unwrap();
        drop(one);
        two.activate().unwrap();
        for number in 1..4 {
            two.send_timeout(item(number), LONG).unwrap();
        }
        // Those that waited come too, if the thread of the one that sent them still has it.
        eventually(runtime, "all", || (5..=7).contains(&two.telemetry().handled));
    });
}
