//! What a link may join, and what becomes of it when one end goes.

use super::*;
use crate::common::runtime;
use ringwork::{Context, DeadLetterReason, Error, KernelState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn from_a_device_kernel_to_a_host_kernel() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let from = pass(runtime, "from", 8);
        let host = started(
            runtime,
            RingKernel::<Item, String>::host("host", |context: &mut Context<Item, String>| {
                while let Some(item) = context.receive() {
                    context.reply(format!("item {} after {} hops", item.number, item.hops));
                }
            })
            .queue_capacity(1),
        );
        link(runtime, &from, &host);
        crate::threads::scope(|scope| {
            let from = &from;
            scope.spawn(move || from.send_many((0..500).map(item)).unwrap());
            let texts = receive(runtime, &host, 500);
            assert!(texts.iter().enumerate().all(|(n, text)| *text == format!("item {n} after 1 hops")));
        });
        books_balance(runtime);
    });
}

#[test]
fn from_a_host_kernel_to_a_device_kernel() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let host = started(
            runtime,
            RingKernel::<String, ()>::host("host", |context: &mut Context<String, ()>| {
                while let Some(line) = context.receive() {
                    for word in line.split(' ') {
                        let number = word.parse().expect("a number");
                        context.send("out", item(number)).expect("declared");
                    }
                }
            })
            .output::<Item>("out")
            .queue_capacity(2),
        );
        let end = sink(runtime, "end", 1);
        link(runtime, &host, &end);
        crate::threads::scope(|scope| {
            let host = &host;
            scope.spawn(move || {
                for n in 0..300 {
                    host.send(format!("{} {}", 2 * n, 2 * n + 1)).unwrap();
                }
            });
            assert!(receive(runtime, &end, 600).iter().map(|item| item.number).eq(0..600));
        });
        assert_eq!(host.telemetry().emitted, 600);
        assert_eq!(end.telemetry().accepted, 600);
    });
}

#[test]
fn from_host_to_host_with_strings() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let words = started(
            runtime,
            RingKernel::<String, ()>::host("words", |context: &mut Context<String, ()>| {
                while let Some(line) = context.receive() {
                    for word in line.split_whitespace() {
                        context.send("word", word.to_owned()).expect("declared");
                    }
                }
            })
            .host_output::<String>("word"),
        );
        let longest = started(
            runtime,
            RingKernel::<String, String>::host("longest", |context: &mut Context<String, String>| {
                let mut longest = String::new();
                while let Some(word) = context.receive() {
                    if word.len() > longest.len() {
                        longest = word.into_inner();
                        context.reply(longest.clone());
                    }
                }
            })
            .queue_capacity(1),
        );
        runtime.link(&words.output::<String>("word").unwrap(), &longest).unwrap();
        for n in 0..200 {
            words.send(format!("a bb {} a", "x".repeat(n % 50))).unwrap();
        }
        let replies = receive(runtime, &longest, 49);
        assert!(replies.iter().map(String::len).eq(1..50), "{replies:?}");
        eventually(runtime, "all words", || longest.telemetry().handled == words.telemetry().emitted);
    });
}

#[test]
fn a_native_kernel_is_the_end_of_a_link() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let from = pass(runtime, "from", 4);
        let native = RingKernel::<Item, Seen>::native("native", |m: Item, seen: &mut Seen| {
            seen.count += 1;
            seen.sum += m.number;
            *seen
        });
        let native = started(runtime, native.queue_capacity(2).output_capacity(8));
        link(runtime, &from, &native);
        crate::threads::scope(|scope| {
            let from = &from;
            scope.spawn(move || from.send_many((0..1000).map(item)).unwrap());
            let seen = receive(runtime, &native, 1000);
            assert!(seen.iter().enumerate().all(|(n, seen)| seen.count == n as u32 + 1));
        });
        assert_eq!(native.read_state::<Seen>().unwrap(), Seen { count: 1000, sum: 999 * 500 });
    });
}

#[test]
fn a_handler_of_another_kernel_may_send_to_a_linked_one() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        // Fed by a link and by a handler on another kernel's thread at the same time; its state keeps it serial.
        let end = sink(runtime, "end", 1);
        let from = pass(runtime, "from", 4);
        link(runtime, &from, &end);
        let to = end.clone();
        let native = started(
            runtime,
            RingKernel::<Item, ()>::native("native", move |m: Item, _: &mut Seen| {
                to.send(Item { sender: 1, ..m }).unwrap();
            })
            .queue_capacity(3),
        );
        crate::threads::scope(|scope| {
            let (from, native) = (&from, &native);
            scope.spawn(move || from.send_many((0..300).map(item)).unwrap());
            scope.spawn(move || native.send_many((0..300).map(item)).unwrap());
            in_order(&receive(runtime, &end, 600), 2, 300);
        });
    });
}

#[test]
fn a_terminated_destination_makes_values_undeliverable() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let from = pass(runtime, "from", 4);
        let (gone, end) = (sink(runtime, "gone", 2), sink(runtime, "end", 2));
        link(runtime, &from, &gone);
        link(runtime, &from, &end);
        let count = 400;
        let gone_books = crate::threads::scope(|scope| {
            let (from, gone, end) = (&from, &gone, &end);
            scope.spawn(move || from.send_many((0..count).map(item)).unwrap());
            let reader = scope.spawn(move || gone.iter().count());
            let first = receive(runtime, end, 100);
            let termination = gone.terminate(LONG).unwrap();
            assert!(!termination.detached && termination.abandoned.is_none());
            let rest = receive(runtime, end, count as usize - 100);
            assert!(
                first.iter().chain(&rest).map(|item| item.number).eq(0..count),
                "the other end misses nothing"
            );
            reader.join().unwrap();
            gone.telemetry()
        });
        eventually(runtime, "all accounted", || {
            gone_books.accepted + from.telemetry().undeliverable == u64::from(count)
        });
        let books = from.telemetry();
        assert_eq!((books.emitted, books.handled, books.pending), (u64::from(count), u64::from(count), 0));
        assert_eq!(
            gone_books.accepted,
            gone_books.handled + gone_books.returned + gone_books.dead_letters.total() + gone_books.pending
        );
        let letters = runtime.take_dead_letters();
        assert!(letters.iter().all(|letter| {
            letter.kernel == "gone"
                && letter.reason == DeadLetterReason::Undeliverable
                && letter.cause == "the kernel at the end of the link takes no messages any more"
                && letter.payload.as_ref().is_some_and(|bytes| bytes.len() == 16)
        }));
        assert!(!letters.is_empty());
        assert_eq!(from.lifecycle(), KernelState::Active);
    });
}

#[test]
fn a_failed_destination_makes_values_undeliverable() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let from = pass(runtime, "from", 4);
        let failing = started(
            runtime,
            RingKernel::<Item, ()>::wgsl("failing", "fn on_message(m: Item) { while m.number == 3u { } }")
                .loop_budget(10)
                .queue_capacity(2),
        );
        link(runtime, &from, &failing);
        from.send_many((0..100).map(item)).unwrap();
        eventually(runtime, "the source's end", || from.telemetry().handled == 100);
        assert_eq!(failing.lifecycle(), KernelState::Failed);
        let (books, source) = (failing.telemetry(), from.telemetry());
        eventually(runtime, "all accounted", || {
            failing.telemetry().accepted + from.telemetry().undeliverable == 100
        });
        // The three before it; and on a device the one that was with it in its round, and the two of the round that
        // was under way with that one.
        assert!((3..=6).contains(&books.handled), "{books:?}");
        assert_eq!(books.dead_letters.get(DeadLetterReason::Fault), 1, "{source:?}");
        assert_eq!(failing.terminate(LONG).unwrap().returned.len() as u64, failing.telemetry().returned);
        books_balance(runtime);
    });
}

#[test]
fn an_instance_out_of_range_over_a_link_is_a_dead_letter() {
    message! { pub struct Deposit { pub to: u32, pub amount: u32 } pub struct Total { pub sum: u32 } }
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let from = started(
            runtime,
            RingKernel::<Item, ()>::wgsl(
                "from",
                "fn on_message(m: Item) { emit_out(Deposit(m.number, 1u)); }",
            )
            .output::<Deposit>("out"),
        );
        let bank = started(
            runtime,
            RingKernel::<Deposit, ()>::wgsl(
                "bank",
                "fn on_message(m: Deposit, s: ptr<function, Total>) { (*s).sum += m.amount; }",
            )
            .initial_state(Total::default())
            .instances(4)
            .queue_capacity(2),
        );
        runtime.link(&from.output::<Deposit>("out").unwrap(), &bank).unwrap();
        from.send_many((0..300).map(|number| item(number % 6))).unwrap();
        eventually(runtime, "all accounted", || {
            bank.telemetry().accepted == 300 && bank.telemetry().pending == 0
        });
        let books = bank.telemetry();
        assert_eq!((books.handled, books.dead_letters.get(DeadLetterReason::InstanceOutOfRange)), (200, 100));
        let sums: Vec<_> = bank.read_states::<Total>().unwrap().into_iter().map(|total| total.sum).collect();
        assert_eq!(sums, [50; 4]);
        assert_eq!(bank.lifecycle(), KernelState::Active);
        // A letter is counted before it is written.
        let letters = std::cell::RefCell::new(Vec::new());
        eventually(runtime, "all are written", || {
            letters.borrow_mut().extend(runtime.take_dead_letters());
            letters.borrow().len() >= 100
        });
        let letters = letters.into_inner();
        assert_eq!(letters.len(), 100);
        assert!(letters.iter().all(|letter| {
            let instance = letter.payload.as_ref().map(|bytes| bytes[0]);
            letter.reason == DeadLetterReason::InstanceOutOfRange && matches!(instance, Some(4 | 5))
        }));
        let causes: Vec<_> = letters.iter().map(|letter| letter.cause.as_str()).take(2).collect();
        assert_eq!(
            causes,
            [
                "instance 4 of kernel `bank`, which has instances 0 to 3",
                "instance 5 of kernel `bank`, which has instances 0 to 3"
            ]
        );
    });
}

#[test]
fn an_emitted_message_carries_the_id_of_the_one_it_came_from() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let from = pass(runtime, "from", 8);
        let host = started(
            runtime,
            RingKernel::<Item, Vec<String>>::host("host", |context: &mut Context<Item, Vec<String>>| {
                while let Some(envelope) = context.receive() {
                    let id = envelope.id.to_string();
                    context.reply(vec![id, envelope.number.to_string()]);
                }
            }),
        );
        let echo = started(
            runtime,
            RingKernel::<Item, Item>::wgsl(
                "echo",
                "fn on_message(m: Item) -> Item { emit_out(m); return m; }",
            )
            .output::<Item>("out"),
        );
        link(runtime, &echo, &host);
        link(runtime, &from, &echo);
        from.send_many((0..20).map(item)).unwrap();
        let ids = receive(runtime, &host, 20);
        for (number, seen) in ids.iter().enumerate() {
            let reply = echo.recv_envelope(LONG).unwrap();
            assert_eq!(reply.number, number as u32);
            assert_eq!(seen[0], reply.correlation_id.unwrap().to_string(), "one token along the whole chain");
            assert_eq!(seen[1], number.to_string());
            let id = reply.correlation_id.unwrap();
            assert_eq!(id.get_version_num(), 8);
        }
    });
}

#[test]
fn shutdown_drains_along_the_links() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let end = started(
            runtime,
            RingKernel::<Item, ()>::wgsl(
                "a_end",
                "struct Seen { count: u32, sum: u32 }
            fn on_message(m: Item, s: ptr<function, Seen>) { (*s).count += 1u; }",
            )
            .queue_capacity(4),
        );
        let (middle, from) = (pass(runtime, "b_middle", 4), pass(runtime, "c_from", 512));
        link(runtime, &from, &middle);
        link(runtime, &middle, &end);
        from.send_many((0..500).map(item)).unwrap();
        runtime.shutdown(LONG).unwrap();
        // Sources end before their destinations, so nothing that was accepted is lost on the way.
        assert_eq!(
            end.telemetry().handled,
            500,
            "{}",
            [&from, &middle].map(|k| format!("{:?}\n", k.telemetry())).concat()
        );
        let error: Error = from.send(item(1)).unwrap_err().into();
        assert!(error.is_terminated());
    });
}

#[test]
fn what_a_host_kernel_sent_last_arrives_although_its_function_has_returned() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let open = Arc::new(AtomicBool::new(false));
        let door = open.clone();
        let end = started(
            runtime,
            RingKernel::<Item, Item>::host("end", move |context: &mut Context<Item, Item>| {
                while let Some(item) = context.receive() {
                    while !door.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    context.reply(*item);
                }
            })
            .queue_capacity(1),
        );
        let once = RingKernel::<Item, ()>::host("once", |context: &mut Context<Item, ()>| {
            context.receive();
            (0..3).for_each(|number| context.send("out", item(number)).expect("declared"));
        });
        let once = started(runtime, once.output::<Item>("out"));
        link(runtime, &once, &end);
        once.send(item(0)).unwrap();
        eventually(runtime, "the last value", || once.telemetry().emitted == 3);
        // Nobody has the kernel after that, and one value finds no room yet.
        drop(once);
        std::thread::sleep(Duration::from_millis(30));
        open.store(true, Ordering::Relaxed);
        assert!(receive(runtime, &end, 3).iter().map(|item| item.number).eq(0..3));
        eventually(runtime, "the end", || runtime.kernels().len() == 1);
    });
}

#[test]
fn a_host_kernel_that_is_terminated_still_replies() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let host = RingKernel::<Item, bool>::host("host", |context: &mut Context<Item, bool>| {
            let mut gave = true;
            while context.receive().is_some() {
                gave = context.reply(gave);
            }
        });
        let host = started(runtime, host.output_capacity(1));
        host.send_many((0..3).map(item)).unwrap();
        eventually(runtime, "a reply that waits", || host.telemetry().handled == 1);
        crate::threads::scope(|scope| {
            let ending = scope.spawn(|| host.terminate(LONG).unwrap());
            eventually(runtime, "the beginning of the end", || host.lifecycle() == KernelState::Terminating);
            std::thread::sleep(Duration::from_millis(30));
            assert!(host.iter().eq([true; 3]));
            assert!(ending.join().unwrap().is_clean());
        });
    });
}

#[test]
fn an_end_that_is_gone_costs_its_source_nothing() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let from = pass(runtime, "from", 4);
        for _ in 0..3 {
            let gone = runtime.launch(RingKernel::<Item, Item>::wgsl("gone", COUNT)).unwrap();
            link(runtime, &from, &gone);
            gone.terminate(LONG).unwrap();
        }
        from.send(item(0)).unwrap();
        eventually(runtime, "a value for the last one", || from.telemetry().undeliverable > 0);
        assert_eq!(from.telemetry().undeliverable, 1, "the others have been forgotten");
        let end = sink(runtime, "end", 2);
        link(runtime, &from, &end);
        from.send(item(1)).unwrap();
        assert_eq!(receive(runtime, &end, 1)[0].number, 1);
        let books = from.telemetry();
        assert_eq!((books.emitted, books.undeliverable), (2, 1));
    });
}

#[test]
fn the_name_of_a_terminated_kernel_is_free_while_its_last_values_are_delivered() {
    let runtime = runtime();
    bounded(&runtime, |runtime| {
        let source = || {
            RingKernel::host("source", |context: &mut Context<Item, ()>| {
                // The second one waits in the link's box.
                (0..2).for_each(|number| context.send("out", item(number)).unwrap());
            })
            .host_output::<Item>("out")
        };
        let (go, gone) = std::sync::mpsc::channel();
        let gone = std::sync::Mutex::new(gone);
        let full = RingKernel::host("full", move |context: &mut Context<Item, ()>| {
            gone.lock().unwrap().recv().unwrap();
            while context.receive().is_some() {}
        });
        let full = started(runtime, full.queue_capacity(1));
        let first = runtime.launch(source()).unwrap();
        link(runtime, &first, &full);
        first.activate().unwrap();
        eventually(runtime, "its end", || first.lifecycle() == KernelState::Terminated);
        assert_eq!(full.telemetry().accepted, 1);
        let second = started(runtime, source());
        eventually(runtime, "the other's end", || second.lifecycle() == KernelState::Terminated);
        go.send(()).unwrap();
        eventually(runtime, "the last value", || full.telemetry().handled == 2);
    });
}
