//! Links without cycles: order, admission, backpressure, books.

use super::*;
use crate::common::runtime;
use ringwork::{Backpressure, Context};

#[test]
fn an_output_that_is_not_linked_is_received() {
    let runtime = runtime();
    let kernel = pass(&runtime, "k", 1024);
    let output = out(&kernel);
    assert_eq!(output.try_recv().unwrap(), None);
    kernel.send_many((0..5).map(item)).unwrap();
    assert_eq!(output.recv().unwrap(), Item { hops: 1, trace: 7, ..item(0) });
    assert_eq!(output.recv_timeout(LONG).unwrap().number, 1);
    eventually(&runtime, "the third value", || {
        output.try_recv().unwrap().is_some_and(|item| item.number == 2)
    });
    // Clones are the same output.
    assert_eq!(output.clone().recv().unwrap().number, 3);
    let short = output.recv().and_then(|_| output.recv_timeout(Duration::from_millis(5)));
    assert_eq!(short.unwrap_err().to_string(), "receive from kernel `k` timed out after 5ms");
    // Some at once: never none, never more than are wanted.
    kernel.send_many((5..25).map(item)).unwrap();
    let mut many = Vec::new();
    while many.len() < 20 {
        let some = output.recv_many(7.min(20 - many.len()), LONG).unwrap();
        assert!((1..=7).contains(&some.len()));
        many.extend(some.into_iter().map(|item| item.number));
    }
    assert!(many.into_iter().eq(5..25));
    let none = output.recv_many(7, Duration::from_millis(5)).unwrap_err();
    assert!(none.is_timed_out(), "{none:?}");
    let none = output.recv_many(0, LONG).unwrap_err();
    assert_eq!(none.to_string(), "recv_many of at most 0 values: it must be more");
    assert!(none.is_invalid());
    kernel.send_many((25..28).map(item)).unwrap();
    eventually(&runtime, "the last three", || kernel.telemetry().handled == 28);
    kernel.terminate(LONG).unwrap();
    assert_eq!(output.recv_many(1, LONG).unwrap()[0].number, 25);
    let rest: Vec<_> = output.iter().map(|item| item.number).collect();
    assert_eq!(rest, [26, 27], "what was emitted can still be received after the end");
    assert!(output.recv_many(1, LONG).unwrap_err().is_terminated());
    assert_eq!(kernel.telemetry().emitted, 28);
}

#[test]
fn what_a_host_kernel_sends_of_its_own_accord_has_ids_of_its_own() {
    let runtime = runtime();
    let source = RingKernel::host("source", |context: &mut Context<u32, ()>| {
        for number in 0..3_u32 {
            context.send("out", number).unwrap();
        }
        let message = context.receive().unwrap();
        context.send("out", message.payload).unwrap();
        context.send("out", message.payload).unwrap();
        while context.receive().is_some() {}
    });
    let source = runtime.launch(source.host_output::<u32>("out")).unwrap();
    let (told, ids) = std::sync::mpsc::channel();
    let end = RingKernel::host("end", move |context: &mut Context<u32, ()>| {
        while let Some(envelope) = context.receive() {
            told.send((envelope.payload, envelope.id)).unwrap();
        }
    });
    let end = runtime.launch(end).unwrap();
    runtime.link(&source.output::<u32>("out").unwrap(), &end).unwrap();
    end.activate().unwrap();
    source.activate().unwrap();
    source.send(9).unwrap();
    let came: Vec<_> = (0..5).map(|_| ids.recv_timeout(LONG).unwrap()).collect();
    assert!(came.iter().map(|(number, _)| *number).eq([0, 1, 2, 9, 9]));
    let id = |at: usize| came[at].1;
    assert!(id(0) != id(1) && id(0) != id(2) && id(1) != id(2), "{came:?}");
    assert!(id(3) == id(4) && (0..3).all(|at| id(at) != id(3)), "of the message they came from: {came:?}");
}

#[test]
fn an_unread_output_stalls_its_kernel_or_drops() {
    let runtime = runtime();
    let make = |name: &str, strategy| {
        let kernel = RingKernel::<Item, ()>::wgsl(name, PASS).output::<Item>("out").queue_capacity(64);
        started(&runtime, kernel.output_capacity(3).output_backpressure(strategy))
    };
    let block = make("block", Backpressure::Block);
    block.send_many((0..10).map(item)).unwrap();
    eventually(&runtime, "three emitted", || block.telemetry().emitted == 3);
    let books = block.telemetry();
    assert_eq!((books.handled, books.pending), (3, 7), "as many as there is room for begin");
    let error = block.ask(item(99), Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.to_string(), "an ask of kernel `block` timed out: an output of `block` has no room");
    let numbers: Vec<_> = receive_from(&runtime, &out(&block), 11).iter().map(|item| item.number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99]);

    for (strategy, kept) in [(Backpressure::DropOldest, [7, 8, 9]), (Backpressure::DropNewest, [0, 1, 2])] {
        let kernel = make(&format!("{strategy:?}"), strategy);
        kernel.send_many((0..10).map(item)).unwrap();
        eventually(&runtime, "ten handled", || kernel.telemetry().handled == 10);
        let numbers: Vec<_> =
            receive_from(&runtime, &out(&kernel), 3).iter().map(|item| item.number).collect();
        assert_eq!(numbers, kept);
        assert_eq!(kernel.telemetry().dropped_replies, 7);
    }
    books_balance(&runtime);
}

#[test]
fn a_chain_of_eight_keeps_the_order() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let stages: Vec<_> = (0..8).map(|index| pass(runtime, &format!("stage{index}"), 2)).collect();
        let end = sink(runtime, "end", 2);
        stages.windows(2).for_each(|pair| link(runtime, &pair[0], &pair[1]));
        link(runtime, &stages[7], &end);
        let (senders, each) = (3, 700);
        let items = crate::threads::scope(|scope| {
            let first = &stages[0];
            scope.spawn(move || send_from(senders, each, |item| Ok(first.send(item)?)));
            receive(runtime, &end, (senders * each) as usize)
        });
        in_order(&items, senders, each);
        assert!(items.iter().all(|item| item.hops == 8));
        let total = u64::from(senders * each);
        for stage in &stages {
            let books = stage.telemetry();
            assert_eq!((books.accepted, books.handled, books.emitted), (total, total, total));
        }
        assert_eq!(end.telemetry().accepted, total);
        books_balance(runtime);
    });
}

#[test]
fn a_diamond_brings_every_item_twice() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let top = pass(runtime, "top", 3);
        let (left, right) = (pass(runtime, "left", 1), pass(runtime, "right", 5));
        let bottom = sink(runtime, "bottom", 2);
        link(runtime, &top, &left);
        link(runtime, &top, &right);
        link(runtime, &left, &bottom);
        link(runtime, &right, &bottom);
        let count = 1500;
        let items = crate::threads::scope(|scope| {
            let top = &top;
            scope.spawn(move || top.send_many((0..count).map(item)).unwrap());
            receive(runtime, &bottom, 2 * count as usize)
        });
        let mut seen = vec![0; count as usize];
        items.iter().for_each(|item| seen[item.number as usize] += 1);
        assert!(seen.iter().all(|times| *times == 2), "every item by both ways");
        // Each way keeps its order: the first and the second copies both ascend.
        let mut copies = [Vec::new(), Vec::new()];
        let mut before = vec![0; count as usize];
        for item in &items {
            copies[before[item.number as usize]].push(item.number);
            before[item.number as usize] += 1;
        }
        assert!(copies[0].is_sorted() && copies[1].is_sorted());
        let seen = bottom.read_state::<Seen>().unwrap();
        assert_eq!((seen.count, seen.sum), (2 * count, count * (count - 1)));
        books_balance(runtime);
    });
}

#[test]
fn fan_out_to_three_gives_each_everything() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let from = pass(runtime, "from", 4);
        let ends: Vec<_> = (0..3).map(|index| sink(runtime, &format!("end{index}"), 1 + index)).collect();
        ends.iter().for_each(|end| link(runtime, &from, end));
        let count = 1000;
        crate::threads::scope(|scope| {
            let from = &from;
            scope.spawn(move || from.send_many((0..count).map(item)).unwrap());
            for end in &ends {
                scope.spawn(move || {
                    let items = receive(runtime, end, count as usize);
                    assert!(items.iter().map(|item| item.number).eq(0..count), "in order, each once");
                });
            }
        });
        assert_eq!(from.telemetry().emitted, u64::from(count), "values, not copies");
        assert!(ends.iter().all(|end| end.telemetry().accepted == u64::from(count)));
    });
}

#[test]
fn fan_in_from_four_keeps_each_order() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let end = sink(runtime, "end", 2);
        let sources: Vec<_> = (0..4).map(|index| pass(runtime, &format!("from{index}"), 3)).collect();
        sources.iter().for_each(|from| link(runtime, from, &end));
        let each = 500;
        let items = crate::threads::scope(|scope| {
            let sources = &sources;
            scope.spawn(move || send_from(4, each, |item| Ok(sources[item.sender as usize].send(item)?)));
            receive(runtime, &end, 4 * each as usize)
        });
        in_order(&items, 4, each);
        let emitted: u64 = sources.iter().map(|from| from.telemetry().emitted).sum();
        assert_eq!((emitted, end.telemetry().accepted), (u64::from(4 * each), u64::from(4 * each)));
    });
}

#[test]
fn a_slow_destination_of_capacity_one_loses_and_doubles_nothing() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let from = started(
            runtime,
            RingKernel::<Item, ()>::wgsl(
                "from",
                "fn on_message(m: Item) {
                    for (var i = 0u; i < m.number % 3u; i++) { emit_out(Item(m.number, m.sender, i, 0u)); }
                }",
            )
            .output_many::<Item>("out", 2)
            .queue_capacity(16),
        );
        let end = started(
            runtime,
            RingKernel::<Item, Item>::native("slow", |m: Item, _: &mut ()| {
                std::thread::sleep(Duration::from_micros(200));
                m
            })
            .queue_capacity(1)
            .output_capacity(4),
        );
        link(runtime, &from, &end);
        let count = 600u32;
        let wanted: Vec<_> = (0..count).flat_map(|n| (0..n % 3).map(move |i| (n, i))).collect();
        let items = crate::threads::scope(|scope| {
            let from = &from;
            scope.spawn(move || from.send_many((0..count).map(item)).unwrap());
            receive(runtime, &end, wanted.len())
        });
        let got: Vec<_> = items.iter().map(|item| (item.number, item.hops)).collect();
        assert!(got == wanted, "{} of {}, in order, each once", got.len(), wanted.len());
        assert!(end.recv_timeout(Duration::from_millis(5)).is_err(), "and no more");
        assert_eq!(from.telemetry().emitted, wanted.len() as u64);
        assert_eq!(end.telemetry().accepted, wanted.len() as u64);
    });
}

#[test]
fn a_deactivated_kernel_in_a_chain_stalls_its_source() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let (from, middle, end) =
            (pass(runtime, "from", 4), pass(runtime, "middle", 2), sink(runtime, "end", 4));
        link(runtime, &from, &middle);
        link(runtime, &middle, &end);
        from.send_many((0..20).map(item)).unwrap();
        assert_eq!(receive(runtime, &end, 20).len(), 20);
        middle.deactivate().unwrap();
        let handled = middle.telemetry().handled;
        let mut sent = 20;
        let stuck = loop {
            match from.send_timeout(item(sent), Duration::from_millis(100)) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
            assert!(sent < 1000, "the source never stalls");
        };
        assert_eq!(
            stuck.to_string(),
            "send to kernel `from` timed out: an output of `from` has no room",
            "{}",
            where_it_stands(runtime)
        );
        assert_eq!(middle.telemetry().handled, handled, "a deactivated kernel handles nothing");
        middle.activate().unwrap();
        let items = receive(runtime, &end, (sent - 20) as usize);
        assert!(items.iter().map(|item| item.number).eq(20..sent), "nothing lost, and in order");
        from.send(item(sent)).unwrap();
        assert_eq!(receive(runtime, &end, 1)[0].number, sent, "it goes on");
        books_balance(runtime);
    });
}

#[test]
fn a_deactivated_source_sends_nothing_until_it_is_active() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let (from, end) = (pass(runtime, "from", 64), sink(runtime, "end", 1));
        link(runtime, &from, &end);
        end.deactivate().unwrap();
        from.send_many((0..50).map(item)).unwrap();
        eventually(runtime, "a stall", || from.telemetry().emitted > 0);
        from.deactivate().unwrap();
        let emitted = from.telemetry().emitted;
        end.activate().unwrap();
        // What was emitted is delivered, whatever the source's state.
        let items = receive(runtime, &end, emitted as usize);
        assert!(items.iter().map(|item| u64::from(item.number)).eq(0..emitted));
        assert!(end.recv_timeout(Duration::from_millis(20)).is_err());
        from.activate().unwrap();
        let rest = receive(runtime, &end, 50 - emitted as usize);
        assert!(rest.iter().map(|item| u64::from(item.number)).eq(emitted..50));
    });
}

#[test]
fn links_made_while_messages_flow() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let from = started(
            runtime,
            RingKernel::<Item, ()>::wgsl("from", PASS)
                .output::<Item>("out")
                .queue_capacity(8)
                .output_capacity(4096),
        );
        let ends: Vec<_> = (0..3).map(|index| sink(runtime, &format!("end{index}"), 2)).collect();
        let count = 3000u32;
        let received: Vec<Vec<u32>> = crate::threads::scope(|scope| {
            let from = &from;
            let sender = scope.spawn(move || {
                for number in 0..count - 1 {
                    from.send(item(number)).unwrap();
                }
            });
            let receivers: Vec<_> = ends
                .iter()
                .map(|end| {
                    scope.spawn(move || {
                        let mut numbers = Vec::new();
                        while numbers.last() != Some(&(count - 1)) {
                            numbers.extend(receive(runtime, end, 1).iter().map(|item| item.number));
                        }
                        numbers
                    })
                })
                .collect();
            for (index, end) in ends.iter().enumerate() {
                let before = from.telemetry().handled;
                eventually(runtime, "some flow", || {
                    from.telemetry().handled > before + 50 || sender.is_finished()
                });
                link(runtime, from, end);
                assert!(runtime.link(&out(from), &ends[index]).unwrap_err().is_invalid());
            }
            sender.join().unwrap();
            // The last one, which every end gets.
            from.send(item(count - 1)).unwrap();
            receivers.into_iter().map(|receiver| receiver.join().unwrap()).collect()
        });
        // Each got a tail of the numbers; the output's own queue has what came before the first link.
        let mut first = Vec::new();
        while let Some(item) = out(&from).try_recv().unwrap() {
            first.push(item.number);
        }
        assert!(first.iter().copied().eq(0..first.len() as u32));
        for (end, numbers) in ends.iter().zip(&received) {
            assert_eq!(end.telemetry().accepted, numbers.len() as u64);
            assert!(
                numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "no gap in what `{}` got",
                end.name()
            );
        }
        assert_eq!(first.len() + received[0].len(), count as usize, "none lost between queue and link");
        assert_eq!(from.telemetry().emitted, u64::from(count));
    });
}

#[test]
fn replies_and_values_keep_the_order_of_their_messages() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let from = started(
            runtime,
            RingKernel::<Item, Item>::wgsl(
                "from",
                "fn on_message(m: Item) -> Item {
                    emit_first(m);
                    emit_second(Item(m.number, 1u, 0u, 0u));
                    emit_second(Item(m.number, 2u, 0u, 0u));
                    return m;
                }",
            )
            .output::<Item>("first")
            .output_many::<Item>("second", 2)
            .queue_capacity(32)
            .output_capacity(4),
        );
        let (one, two) = (sink(runtime, "one", 1), sink(runtime, "two", 3));
        runtime.link(&from.output::<Item>("first").unwrap(), &one).unwrap();
        runtime.link(&from.output::<Item>("second").unwrap(), &two).unwrap();
        let count = 800u32;
        crate::threads::scope(|scope| {
            let (from, one, two) = (&from, &one, &two);
            scope.spawn(move || from.send_many((0..count).map(item)).unwrap());
            scope.spawn(move || {
                assert!(receive(runtime, one, count as usize).iter().map(|m| m.number).eq(0..count))
            });
            scope.spawn(move || {
                let items = receive(runtime, two, 2 * count as usize);
                let wanted = (0..count).flat_map(|number| [(number, 1), (number, 2)]);
                assert!(items.iter().map(|m| (m.number, m.sender)).eq(wanted));
            });
            assert!(receive(runtime, from, count as usize).iter().map(|m| m.number).eq(0..count));
        });
        assert_eq!(from.telemetry().emitted, 3 * u64::from(count));
    });
}
