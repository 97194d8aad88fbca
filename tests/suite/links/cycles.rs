//! Cycles of links: whatever the load, they move on, lose nothing and end.

use super::*;
use crate::common::runtime;
use ringwork::Context;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sends an item on until it has made its hops, then out.
fn hopper(hops: u32) -> String {
    format!(
        "fn on_message(m: Item) {{
            var next = m;
            next.hops += 1u;
            if next.hops >= {hops}u {{ emit_done(next); }} else {{ emit_out(next); }}
        }}"
    )
}

fn hop(runtime: &Runtime, name: &str, hops: u32, capacity: usize) -> Handle<Item, ()> {
    let kernel = RingKernel::<Item, ()>::wgsl(name, hopper(hops));
    started(
        runtime,
        kernel.output::<Item>("out").output::<Item>("done").queue_capacity(capacity).output_capacity(16),
    )
}

fn done<In: Message, Out: Message>(kernel: &Handle<In, Out>) -> Output<Item> {
    kernel.output::<Item>("done").unwrap()
}

/// Sends from several threads into a cycle while another one receives what leaves it.
fn load(
    runtime: &Runtime,
    entrances: &[Handle<Item, ()>],
    exit: impl Fn(usize) -> Vec<Item> + Send + Sync,
    senders: u32,
    each: u32,
) -> Vec<Item> {
    let ended = AtomicBool::new(false);
    let items =
        crate::threads::scope(|scope| {
            let ended = &ended;
            scope.spawn(move || {
                // Senders that hang hold the scope: say where it stands, the outer bound ends the test.
                let begun = Instant::now();
                while !ended.load(Ordering::Relaxed) && begun.elapsed() < LONG {
                    std::thread::sleep(Duration::from_millis(5));
                }
                if !ended.load(Ordering::Relaxed) {
                    eprintln!("a cycle under load is stuck:\n{}", where_it_stands(runtime));
                }
            });
            scope.spawn(move || {
                send_from(senders, each, |item| {
                    Ok(entrances[item.sender as usize % entrances.len()].send(item)?)
                });
            });
            let items = exit((senders * each) as usize);
            ended.store(true, Ordering::Relaxed);
            items
        });
    all_there(&items, senders, each);
    items
}

#[test]
fn a_ring_of_three_with_one_place_each() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let hops = 7;
        let ring: Vec<_> = (0..3).map(|index| hop(runtime, &format!("ring{index}"), hops, 1)).collect();
        for index in 0..3 {
            link(runtime, &ring[index], &ring[(index + 1) % 3]);
        }
        let end = sink(runtime, "end", 2);
        ring.iter().for_each(|kernel| runtime.link(&done(kernel), &end).unwrap());
        let items = load(runtime, &ring, |count| receive(runtime, &end, count), 4, 150);
        assert!(items.iter().all(|item| item.hops == hops));
        let handled: u64 = ring.iter().map(|kernel| kernel.telemetry().handled).sum();
        assert_eq!(handled, 4 * 150 * u64::from(hops));
        assert!(ring.iter().all(|kernel| kernel.telemetry().pending == 0));
        books_balance(runtime);
    });
}

#[test]
fn a_ring_of_three_entered_at_one_place() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let hops = 30;
        let ring: Vec<_> = (0..3).map(|index| hop(runtime, &format!("ring{index}"), hops, 2)).collect();
        for index in 0..3 {
            link(runtime, &ring[index], &ring[(index + 1) % 3]);
        }
        // Thirty hops from the first: all leave from the last, unlinked.
        let exit = done(&ring[2]);
        let items = load(runtime, &ring[..1], |count| receive_from(runtime, &exit, count), 3, 60);
        in_order_of_each(&items, 3);
        assert!(items.iter().all(|item| item.hops == hops));
        books_balance(runtime);
    });
}

/// One way round, so nobody overtakes.
fn in_order_of_each(items: &[Item], senders: u32) {
    for sender in 0..senders {
        let numbers = items.iter().filter(|item| item.sender == sender).map(|item| item.number);
        assert!(numbers.is_sorted(), "of sender {sender}");
    }
}

#[test]
fn a_kernel_linked_to_itself_with_one_place() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let kernel = hop(runtime, "self", 5, 1);
        link(runtime, &kernel, &kernel);
        let exit = done(&kernel);
        let items =
            load(runtime, std::slice::from_ref(&kernel), |count| receive_from(runtime, &exit, count), 3, 200);
        assert!(items.iter().all(|item| item.hops == 5));
        let books = kernel.telemetry();
        assert_eq!((books.handled, books.pending), (5 * 600, 0));
    });
}

#[test]
fn a_figure_of_eight() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        // The waist sends even numbers round the left and odd ones round the right.
        let waist = started(
            runtime,
            RingKernel::<Item, ()>::wgsl(
                "waist",
                "fn on_message(m: Item) {
                    var next = m;
                    next.hops += 1u;
                    if next.hops >= 6u { emit_done(next); }
                    else if (m.number + m.hops) % 2u == 0u { emit_left(next); }
                    else { emit_right(next); }
                }",
            )
            .output::<Item>("left")
            .output::<Item>("right")
            .output::<Item>("done")
            .queue_capacity(1)
            .output_capacity(8),
        );
        let (left, right) = (pass(runtime, "left", 1), pass(runtime, "right", 2));
        let back = pass(runtime, "back", 1);
        runtime.link(&waist.output::<Item>("left").unwrap(), &left).unwrap();
        runtime.link(&waist.output::<Item>("right").unwrap(), &right).unwrap();
        link(runtime, &left, &waist);
        link(runtime, &right, &back);
        link(runtime, &back, &waist);
        let exit = done(&waist);
        let items =
            load(runtime, std::slice::from_ref(&waist), |count| receive_from(runtime, &exit, count), 3, 150);
        assert!(items.iter().all(|item| item.hops >= 6));
        assert!([&waist, &left, &right, &back].iter().all(|kernel| kernel.telemetry().pending == 0));
        books_balance(runtime);
    });
}

#[test]
fn a_cycle_whose_handler_doubles() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        // Every item becomes two for three rounds, then eight leave.
        let double = started(
            runtime,
            RingKernel::<Item, ()>::wgsl(
                "double",
                "fn on_message(m: Item) {
                    if m.hops == 3u { emit_done(m); return; }
                    emit_out(Item(m.number, m.sender, m.hops + 1u, m.trace * 2u));
                    emit_out(Item(m.number, m.sender, m.hops + 1u, m.trace * 2u + 1u));
                }",
            )
            .output_many::<Item>("out", 2)
            .output::<Item>("done")
            .queue_capacity(2)
            .output_capacity(8),
        );
        let back = started(
            runtime,
            RingKernel::<Item, ()>::wgsl("back", PASS).output::<Item>("out").queue_capacity(16),
        );
        link(runtime, &double, &back);
        link(runtime, &back, &double);
        let exit = done(&double);
        let (senders, each) = (2, 100);
        let items = crate::threads::scope(|scope| {
            let double = &double;
            scope.spawn(move || send_from(senders, each, |item| Ok(double.send(item)?)));
            receive_from(runtime, &exit, (8 * senders * each) as usize)
        });
        let mut seen: Vec<_> = items.iter().map(|item| (item.sender, item.number, item.trace)).collect();
        seen.sort_unstable();
        let wanted: Vec<_> = (0..senders)
            .flat_map(|sender| {
                (0..each).flat_map(move |number| (0..8).map(move |trace| (sender, number, trace)))
            })
            .collect();
        assert!(seen == wanted, "every one of the eight once");
        assert!([&double, &back].iter().all(|kernel| kernel.telemetry().pending == 0));
        books_balance(runtime);
    });
}

#[test]
fn a_cycle_is_fed_over_a_link_from_outside() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let feed = pass(runtime, "feed", 2);
        let ring: Vec<_> = (0..2).map(|index| hop(runtime, &format!("ring{index}"), 9, 1)).collect();
        link(runtime, &ring[0], &ring[1]);
        link(runtime, &ring[1], &ring[0]);
        link(runtime, &feed, &ring[0]);
        let end = sink(runtime, "end", 1);
        ring.iter().for_each(|kernel| runtime.link(&done(kernel), &end).unwrap());
        let items = load(runtime, std::slice::from_ref(&feed), |count| receive(runtime, &end, count), 2, 200);
        assert!(items.iter().all(|item| item.hops == 9));
        books_balance(runtime);
    });
}

#[test]
fn a_cycle_closed_while_messages_flow() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let (one, two) = (hop(runtime, "one", 4, 2), hop(runtime, "two", 4, 2));
        let end = sink(runtime, "end", 4);
        [&one, &two].iter().for_each(|kernel| runtime.link(&done(kernel), &end).unwrap());
        link(runtime, &one, &two);
        // The open end first: items that reach it wait there.
        let open = out(&two);
        one.send_many((0..4).map(item)).unwrap();
        eventually(runtime, "items at the open end", || two.telemetry().handled == 4);
        crate::threads::scope(|scope| {
            let one = &one;
            scope.spawn(move || one.send_many((4..300).map(item)).unwrap());
            eventually(runtime, "some flow", || one.telemetry().handled > 8);
            link(runtime, &two, one);
            let early = (0..).map_while(|_| open.try_recv().unwrap()).count();
            let mut items = receive(runtime, &end, 300 - early);
            items.sort_unstable_by_key(|item| item.number);
            assert!(items.windows(2).all(|pair| pair[0].number < pair[1].number));
            assert!(items.iter().all(|item| item.hops == 4));
        });
        books_balance(runtime);
    });
}

#[test]
fn a_deactivated_member_holds_a_cycle_and_lets_it_go() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let ring: Vec<_> = (0..3).map(|index| hop(runtime, &format!("ring{index}"), 10, 2)).collect();
        for index in 0..3 {
            link(runtime, &ring[index], &ring[(index + 1) % 3]);
        }
        let end = sink(runtime, "end", 2);
        ring.iter().for_each(|kernel| runtime.link(&done(kernel), &end).unwrap());
        crate::threads::scope(|scope| {
            let ring = &ring;
            scope.spawn(move || ring[0].send_many((0..400).map(item)).unwrap());
            let mut items = receive(runtime, &end, 20);
            for _ in 0..5 {
                ring[1].deactivate().unwrap();
                let handled = ring[1].telemetry().handled;
                std::thread::sleep(Duration::from_millis(3));
                assert_eq!(ring[1].telemetry().handled, handled);
                ring[1].activate().unwrap();
                items.extend(receive(runtime, &end, 20));
            }
            items.extend(receive(runtime, &end, 400 - items.len()));
            all_there(&items, 1, 400);
        });
        books_balance(runtime);
    });
}

#[test]
fn a_full_exit_stalls_a_cycle_and_its_senders_only_for_a_time() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let kernel = started(
            runtime,
            RingKernel::<Item, ()>::wgsl("self", hopper(3))
                .output::<Item>("out")
                .output::<Item>("done")
                .queue_capacity(2)
                .output_capacity(1),
        );
        link(runtime, &kernel, &kernel);
        let mut sent = 0;
        while kernel.send_timeout(item(sent), Duration::from_millis(50)).is_ok() {
            sent += 1;
            assert!(sent < 1000, "a cycle holds a bounded number of messages");
        }
        let items = receive_from(runtime, &done(&kernel), sent as usize);
        all_there(&items, 1, sent);
        kernel.send(item(sent)).unwrap();
        assert_eq!(receive_from(runtime, &done(&kernel), 1)[0].number, sent);
    });
}

#[test]
fn a_host_kernel_that_never_receives_is_told_when_its_cycle_is_full() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let (report, told) = std::sync::mpsc::channel();
        let boss = RingKernel::host("boss", move |context: &mut Context<Item, ()>| {
            let Some(start) = context.receive() else { return };
            let (mut back, mut in_a_row, mut most) = (Vec::new(), 0u32, 0);
            for number in 0..start.number {
                while let Err(error) = context.send("out", item(number)) {
                    assert!(error.is_deadlock(), "{error}");
                    report.send(error.to_string()).unwrap();
                    in_a_row = 0;
                    back.push(context.receive().expect("one is there").number);
                }
                in_a_row += 1;
                most = most.max(in_a_row);
            }
            while back.len() < start.number as usize {
                back.push(context.receive().expect("all come back").number);
            }
            assert!(back.into_iter().eq(0..start.number), "in order");
            context.send("done", most).unwrap();
            while context.receive().is_some() {}
        });
        let boss = boss.host_output::<Item>("out").host_output::<u32>("done").queue_capacity(4);
        let boss = started(runtime, boss);
        let worker = RingKernel::<Item, ()>::wgsl("worker", PASS).output::<Item>("out").queue_capacity(4);
        let worker = started(runtime, worker);
        link(runtime, &boss, &worker);
        link(runtime, &worker, &boss);
        boss.send(item(1000)).unwrap();
        let most = boss.output::<u32>("done").unwrap().recv_timeout(LONG).unwrap();
        // As many as both mailboxes hold, and one for the message in hand; the worker's round is on its way.
        assert!((1..=16).contains(&most), "{most} were let into a cycle of eight places");
        let told = told.try_iter().next().expect("a thousand do not fit");
        let text = "kernel `boss`: output `out` leads back to it, and the cycle is full: receive before more is sent";
        assert_eq!(told, text);
        books_balance(runtime);
    });
}
