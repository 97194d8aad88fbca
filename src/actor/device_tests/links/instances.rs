//! Links into and out of kernels with instances: their chains are made on the device, and say what a plain loop does.

use super::super::{AGAIN, LONG, runtime};
use super::keep::{KEEP, LAST, at_the_end, kept};
use super::{Item, PASS, Seen, check, eventually, item, link, stage, start};
use crate::{BackendKind, Backpressure, DeadLetterReason, Handle, RingKernel, Runtime, RuntimeBuilder};
use std::time::{Duration, Instant};

fn passed(items: Vec<Item>) -> Vec<Item> {
    items.into_iter().map(|item| Item { hops: item.hops + 1, ..item }).collect()
}

/// An end that never waits for whoever reads its replies.
fn last(name: &str, instances: u32, most: usize) -> RingKernel<Item, Item> {
    let kernel = RingKernel::wgsl(name, LAST).initial_state(Seen::default()).instances(instances);
    kernel.queue_capacity(most).output_capacity(most).restart(AGAIN)
}

fn receive(end: &Handle<Item, Item>, count: usize) -> Vec<Item> {
    let one = |index| match end.recv_timeout(LONG) {
        Ok(item) => item,
        Err(error) => panic!("{index} of {count}: {error}; {:#?}", end.telemetry()),
    };
    (0..count).map(one).collect()
}

#[test]
fn messages_for_instances_arrive_on_the_device_in_their_order() {
    let Some(runtime) = runtime() else { return };
    let first = kernel(&runtime, "first", How::Stateless);
    let end = start(&runtime, last("end", 7, 4096));
    link(&runtime, &first, &end);
    let mut all = Vec::new();
    let mut received = Vec::new();
    // One instance's only, several's by turns, several's in blocks; tiles of the pass, more and less.
    let ways: [fn(u32) -> u32; 4] = [
        |_| 3,
        |number| number % 7,
        |number| number / 50 % 7,
        |number| number.wrapping_mul(0x9e37_79b9) >> 30,
    ];
    for (way, to) in ways.into_iter().enumerate() {
        for count in [1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 500, 512] {
            let before = runtime.device().submissions();
            let items: Vec<_> = (0..count).map(|number| Item { to: to(number), ..item(number) }).collect();
            first.send_many(items.iter().copied()).unwrap();
            received.extend(receive(&end, count as usize));
            if count == 1 && way > 0 {
                assert_eq!(runtime.device().submissions() - before, 1, "one after the other");
            }
            all.extend(items);
        }
    }
    assert!(received == at_the_end(passed(all.clone()), 7), "as a plain loop");
    let books = end.telemetry();
    assert_eq!((books.accepted, books.arrived), (all.len() as u64, all.len() as u64));
    check(&runtime);
}

/// How a kernel of a chain works.
#[derive(Clone, Copy, Debug)]
enum How {
    Stateless,
    Serial,
    Instances,
}

fn kernel(runtime: &Runtime, name: &str, how: How) -> Handle<Item, ()> {
    let keep = || RingKernel::<Item, ()>::wgsl(name, KEEP).initial_state(Seen::default());
    let kernel = match how {
        How::Stateless => RingKernel::wgsl(name, PASS),
        How::Serial => keep(),
        How::Instances => keep().instances(6),
    };
    let kernel = kernel.output::<Item>("out").queue_capacity(1024).restart(AGAIN);
    start(runtime, kernel)
}

#[test]
fn kernels_of_all_shapes_follow_each_other() {
    const ALL: [How; 3] = [How::Stateless, How::Serial, How::Instances];
    let Some(runtime) = runtime() else { return };
    for (a, b, c) in ALL.into_iter().flat_map(|a| ALL.into_iter().flat_map(move |b| ALL.map(|c| (a, b, c)))) {
        let chain = [a, b, c];
        let stages: Vec<_> = (0..)
            .zip(chain)
            .map(|(place, how)| kernel(&runtime, &format!("{a:?} {b:?} {c:?} {place}"), how))
            .collect();
        let end = start(&runtime, last(&format!("{a:?} {b:?} {c:?}, the end"), 6, 1024));
        link(&runtime, &stages[0], &stages[1]);
        link(&runtime, &stages[1], &stages[2]);
        link(&runtime, &stages[2], &end);
        // None that faults: what is behind it would go through the host.
        let numbers = (0..400).filter(|number| number % 11 != 10);
        let items: Vec<_> = numbers.map(item).collect();
        for some in items.chunks(70) {
            stages[0].send_many(some.iter().copied()).unwrap();
        }
        let wanted = chain.into_iter().fold(items, |items, how| match how {
            How::Stateless => passed(items),
            How::Serial => kept(items, None),
            How::Instances => kept(items, Some(6)),
        });
        let wanted = at_the_end(wanted, 6);
        assert!(receive(&end, wanted.len()) == wanted, "{chain:?}");
        let books = end.telemetry();
        assert!(books.arrived > 0, "{chain:?}: {books:#?}");
        check(&runtime);
        stages.iter().for_each(|stage| drop(stage.terminate(LONG).unwrap()));
        end.terminate(LONG).unwrap();
    }
}

#[test]
fn instances_that_are_not_there_and_faults_leave_the_order_and_the_books() {
    let Some(runtime) = runtime() else { return };
    let (first, second) = (stage(&runtime, "first", PASS), kernel(&runtime, "second", How::Instances));
    let end = start(&runtime, last("end", 4, 1024));
    link(&runtime, &first, &second);
    link(&runtime, &second, &end);
    let (mut next, mut all, mut received) = (0, Vec::new(), Vec::new());
    let mut wanted = Vec::new();
    for count in [1, 3, 12, 13, 64, 65, 200, 7, 1, 1, 300] {
        let items: Vec<_> =
            (next..next + count).map(|number| Item { to: number % 23 % 9, ..item(number) }).collect();
        next += count;
        first.send_many(items.iter().copied()).unwrap();
        all.extend(items);
        wanted = at_the_end(kept(passed(all.clone()), Some(6)), 4);
        received.extend(receive(&end, wanted.len() - received.len()));
    }
    assert!(received == wanted, "as a plain loop");
    eventually("all is in the books", || {
        [first.telemetry(), second.telemetry()].iter().all(|books| books.pending == 0)
    });
    let astray = |items: &[Item], instances| items.iter().filter(|item| item.to >= instances).count() as u64;
    let (books, last) = (second.telemetry(), end.telemetry());
    let reason = DeadLetterReason::InstanceOutOfRange;
    assert_eq!(books.dead_letters.get(reason), astray(&all, 6), "{books:#?}");
    assert_eq!(last.dead_letters.get(reason), astray(&kept(passed(all.clone()), Some(6)), 4), "{last:#?}");
    assert_eq!(books.accepted, all.len() as u64);
    assert!(books.arrived > 0 && books.arrived < books.accepted && last.arrived > 0, "{books:#?} {last:#?}");
    check(&runtime);
}

#[test]
fn a_hundred_thousand_instances_get_what_is_theirs() {
    const INSTANCES: u32 = 100_000;
    // In one send they are too many for the device's own way.
    const MESSAGES: u32 = 16_384;
    let Some(runtime) = runtime() else { return };
    let first = RingKernel::<Item, ()>::wgsl("first", PASS).output::<Item>("out");
    let first = start(&runtime, first.queue_capacity(MESSAGES as usize));
    let end = start(&runtime, last("end", INSTANCES, MESSAGES as usize));
    link(&runtime, &first, &end);
    let mut all = Vec::new();
    for round in 0..3u32 {
        let to = |number: u32| (number + round).wrapping_mul(0x9e37_79b9) % INSTANCES;
        let items: Vec<_> = (0..MESSAGES).map(|number| Item { to: to(number), ..item(number) }).collect();
        let at_once = if round == 0 { items.len() } else { 500 };
        for some in items.chunks(at_once) {
            first.send_many(some.iter().copied()).unwrap();
        }
        let begin = all.len();
        all.extend(items);
        let wanted = at_the_end(passed(all.clone()), INSTANCES);
        assert!(receive(&end, MESSAGES as usize) == wanted[begin..], "round {round}");
    }
    assert!(end.telemetry().arrived > 0, "{:#?}", end.telemetry());
    check(&runtime);
}

/// `cargo test --release --lib a_chain_into_instances_in_time -- --ignored --nocapture`
#[test]
#[ignore = "prints timings"]
fn a_chain_into_instances_in_time() {
    const MOST: usize = 16_384;
    let Some(runtime) = runtime() else { return };
    println!("{}", runtime.capabilities().unwrap().name);
    // Messages that a kernel may drop go through the host.
    let ways = [("host", Backpressure::DropNewest), ("device", Backpressure::Block)];
    for instances in [16, 100_000] {
        let chains = ways.map(|(way, strategy)| {
            let first = RingKernel::<Item, ()>::wgsl(format!("{way} {instances}: first"), PASS);
            let first = start(&runtime, first.output::<Item>("out").queue_capacity(MOST));
            let end = last(&format!("{way} {instances}: end"), instances, MOST).backpressure(strategy);
            let end = start(&runtime, end);
            link(&runtime, &first, &end);
            (way, first, end, Vec::new())
        });
        let mut chains = chains;
        for count in [1u32, 16, 256, 512, 1024, 16_384] {
            for round in 0..100u32 {
                for (_, first, end, times) in &mut chains {
                    let to = |number: u32| (number + round).wrapping_mul(0x9e37_79b9) % instances;
                    let items: Vec<_> =
                        (0..count).map(|number| Item { to: to(number), ..item(number) }).collect();
                    let begun = Instant::now();
                    first.send_many(items).unwrap();
                    let mut left = count as usize;
                    while left > 0 {
                        left -= end.recv_many(left, LONG).unwrap().len();
                    }
                    times.push(begun.elapsed());
                }
            }
            for (way, _, end, times) in &mut chains {
                times.sort_unstable();
                let (arrived, accepted) = (end.telemetry().arrived, end.telemetry().accepted);
                println!(
                    "{instances} instances, {count} messages, {way}: p50 {:?}, p90 {:?}; {arrived} of {accepted} arrived \
                     on the device",
                    times[50], times[90]
                );
                times.clear();
            }
        }
    }
}

#[test]
fn a_runtime_that_is_dropped_in_the_middle_leaves_nothing_behind() {
    let Some(first) = runtime() else { return };
    let device = first.device();
    drop(first);
    let before = device.holdings();
    for round in 0..24u64 {
        let runtime =
            RuntimeBuilder::default().backend(BackendKind::Wgpu).build().expect("it is in this build");
        runtime.put_device(device.clone());
        let (first, second) = (stage(&runtime, "first", PASS), kernel(&runtime, "second", How::Instances));
        let end = start(&runtime, last("end", 4, 256));
        link(&runtime, &first, &second);
        link(&runtime, &second, &end);
        std::thread::scope(|scope| {
            // Until there is nobody to send to, and all that was handled meanwhile is received: with nobody to take its
            // results the last kernel would be waited for in vain.
            scope.spawn(|| (0..).all(|number| first.send(item(number)).is_ok()));
            scope.spawn(|| end.iter().for_each(drop));
            // The last one at once, so that nothing may be submitted behind it.
            std::thread::sleep(Duration::from_micros(150 * (23 - round)));
            let begun = Instant::now();
            drop(runtime);
            assert!(begun.elapsed() < LONG, "round {round}: {:?}", begun.elapsed());
        });
        assert!(first.send(item(0)).is_err());
        assert!(end.recv().is_err_and(|error| error.is_terminated()));
    }
    // The device keeps the two pipelines of its link pass, and nothing of kernels.
    let is_pass = |name: &str| ["pipeline", "layout", "shader"].iter().any(|part| name.contains(part));
    let most = |name: &str| if is_pass(name) { 2 } else { 0 };
    let begun = Instant::now();
    loop {
        let now = device.holdings();
        if now.iter().zip(&before).all(|((name, now), (_, before))| now - before <= most(name)) {
            break;
        }
        assert!(begun.elapsed() < LONG, "{now:?}, and before {before:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
