//! Random chains of kernels under random histories: what comes out is what a plain loop says, in order, each once, whether
//! it went over links on the device or through the host, whoever was deactivated, and whatever device was lost meanwhile.

use super::super::{AGAIN, LONG, runtime};
use super::keep::{KEEP, LAST, at_the_end, kept};
use super::{COUNT, Item, PASS, SPREAD, Seen, check, eventually, item, link, start};
use crate::actor::recovery::REVIVALS;
use crate::{Handle, RingKernel, Runtime, SendError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
enum Stage {
    Pass,
    Spread,
    /// [`KEEP`] with one state.
    Serial,
    /// … and with [`INSTANCES`].
    Instances,
}

/// The first number of another source.
const OTHER: u32 = 1 << 20;

/// One fewer than `KEEP` and `LAST` may be told of.
const INSTANCES: u32 = 5;

#[derive(Clone, Debug)]
enum Step {
    Send(u32),
    /// Deactivates a kernel of the chain, the last one included.
    Pause(usize),
    /// Activates all that are paused.
    Resume,
    Sleep(u64),
    Destroy,
    /// From now on there is no memory for such a part of a link's rounds; then they do not come about.
    Refuse(Option<&'static str>),
}

#[derive(Clone, Debug)]
struct History {
    stages: Vec<Stage>,
    /// Has the end instances?
    is_split: bool,
    /// Does another kernel send to where the first one does?
    is_joined: bool,
    capacity: usize,
    /// Of the end's queue of replies.
    unread: usize,
    steps: Vec<Step>,
}

fn histories() -> impl Strategy<Value = History> {
    let step = prop_oneof![
        6 => (1..70u32).prop_map(Step::Send),
        1 => any::<prop::sample::Index>().prop_map(|index| Step::Pause(index.index(4))),
        1 => Just(Step::Resume),
        2 => (0..1500u64).prop_map(Step::Sleep),
        1 => Just(Step::Destroy),
        2 => prop::sample::select(vec![None, Some("the size of a round"), Some("the ends of chains")])
            .prop_map(Step::Refuse),
    ];
    let stage = prop_oneof![
        2 => Just(Stage::Pass),
        1 => Just(Stage::Spread),
        1 => Just(Stage::Serial),
        2 => Just(Stage::Instances),
    ];
    (
        prop::collection::vec(stage, 1..4),
        any::<bool>(),
        prop::bool::weighted(0.3),
        prop_oneof![Just(4usize), Just(64), Just(1024)],
        prop_oneof![Just(3usize), Just(1024)],
        prop::collection::vec(step, 1..30),
    )
        .prop_map(|(stages, is_split, is_joined, capacity, unread, mut steps)| {
            // A kernel whose devices are lost one behind the other while it is given them fails after so many.
            let mut left = REVIVALS;
            steps.retain(|step| {
                left -= usize::from(left > 0 && matches!(step, Step::Destroy));
                left > 0 || !matches!(step, Step::Destroy)
            });
            History { stages, is_split, is_joined, capacity, unread, steps }
        })
}

/// What comes to the end of the chain for these messages.
fn expected(stages: &[Stage], items: Vec<Item>) -> Vec<Item> {
    stages.iter().fold(items, |items, stage| match stage {
        Stage::Pass => items.into_iter().map(|one| Item { hops: one.hops + 1, ..one }).collect(),
        Stage::Spread => items
            .into_iter()
            .flat_map(|one| {
                // The others fault.
                let copies = if one.number % 13 == 12 { 0 } else { one.number % 3 };
                (0..copies).map(move |copy| Item { hops: one.hops + 1 + copy, ..one })
            })
            .collect(),
        Stage::Serial => kept(items, None),
        Stage::Instances => kept(items, Some(INSTANCES)),
    })
}

/// How many messages came to kernels over links, and how many of them on the device.
fn run(history: &History, runtime: &Runtime) -> [u64; 2] {
    let stages: Vec<Handle<Item, ()>> = (0..)
        .zip(&history.stages)
        .map(|(number, stage)| {
            let name = format!("stage {number}");
            let keep = || RingKernel::<Item, ()>::wgsl(&*name, KEEP).initial_state(Seen::default());
            let kernel = match stage {
                Stage::Pass => RingKernel::wgsl(&*name, PASS),
                Stage::Spread => RingKernel::wgsl(&*name, SPREAD),
                Stage::Serial => keep(),
                Stage::Instances => keep().instances(INSTANCES),
            };
            // One value at most goes another way through the pass than two.
            let most = if matches!(stage, Stage::Spread) { 2 } else { 1 };
            let kernel = kernel.output_many::<Item>("out", most);
            let kernel = kernel.queue_capacity(history.capacity).restart(AGAIN);
            let kernel = runtime.launch(kernel).unwrap();
            kernel.activate().unwrap();
            kernel
        })
        .collect();
    let end = match history.is_split {
        false => RingKernel::wgsl("end", COUNT).initial_state(Seen::default()),
        true => RingKernel::wgsl("end", LAST).initial_state(Seen::default()).instances(INSTANCES),
    };
    let end = end.restart(AGAIN);
    let end: Handle<Item, Item> =
        start(runtime, end.queue_capacity(history.capacity).output_capacity(history.unread));
    let other = RingKernel::<Item, ()>::wgsl("other", PASS).output::<Item>("out").restart(AGAIN);
    let other = start(runtime, other.queue_capacity(history.capacity));
    if history.is_joined {
        match stages.get(1) {
            Some(next) => link(runtime, &other, next),
            None => link(runtime, &other, &end),
        }
    }
    for (number, stage) in stages.iter().enumerate() {
        match stages.get(number + 1) {
            Some(next) => link(runtime, stage, next),
            None => link(runtime, stage, &end),
        }
    }
    let sent: u32 =
        history.steps.iter().map(|step| if let Step::Send(count) = step { *count } else { 0 }).sum();
    let mut arrivals = vec![expected(&history.stages, (0..sent).map(item).collect())];
    if history.is_joined {
        let mut stages = history.stages.clone();
        stages[0] = Stage::Pass;
        arrivals.push(expected(&stages, (OTHER..OTHER + sent).map(item).collect()));
    }
    let accepted = arrivals.iter().map(|items| items.len() as u64).sum::<u64>();
    let expected: Vec<_> = arrivals
        .into_iter()
        .map(|items| if history.is_split { at_the_end(items, INSTANCES) } else { items })
        .collect();
    let replies = expected.iter().map(Vec::len).sum::<usize>();
    // A device that is lost takes the states with it, and who comes first to them is nobody's choice.
    let has_states = !history.is_joined && !history.steps.iter().any(|step| matches!(step, Step::Destroy));
    let seen = |items: &[Item]| -> Vec<Item> {
        items.iter().map(|item| Item { seen: if has_states { item.seen } else { 0 }, ..*item }).collect()
    };
    std::thread::scope(|scope| {
        let received = scope.spawn(|| {
            let one = |_| end.recv_timeout(LONG).map_err(|error| format!("{error}; {:#?}", end.telemetry()));
            (0..replies).map(one).collect::<Result<Vec<_>, _>>()
        });
        let mut senders = Vec::new();
        if history.is_joined {
            // Nobody pauses it.
            senders.push(
                scope.spawn(|| _ = (OTHER..OTHER + sent).all(|number| other.send(item(number)).is_ok())),
            );
        }
        // Sends wait while the chain is stalled, so they have a thread of their own.
        let (sender, numbers) = std::sync::mpsc::channel::<std::ops::Range<u32>>();
        let first = &stages[0];
        senders.push(scope.spawn(move || {
            for range in numbers {
                // In parts, and one by one.
                let mut left = range.map(item).collect::<Vec<_>>();
                while !left.is_empty() {
                    let taken = if left.len() % 2 == 0 {
                        first.send_many(left.iter().copied()).map_err(|error| (error.sent, error.error))
                    } else {
                        first.send(left[0]).map(|()| 1).map_err(|error| (0, error))
                    };
                    let count = match taken {
                        Ok(count) => count,
                        // It is paused.
                        Err((count, SendError::NotActive(_))) => {
                            std::thread::yield_now();
                            count
                        }
                        Err((_, SendError::Terminated(_))) => return,
                        Err((_, error)) => panic!("{error}"),
                    };
                    left.drain(..count);
                }
            }
        }));
        let mut next = 0;
        let resume = || {
            stages.iter().for_each(|stage| drop(stage.activate()));
            drop(end.activate());
        };
        for step in &history.steps {
            match step {
                Step::Send(count) => {
                    sender.send(next..next + count).unwrap();
                    next += count;
                }
                Step::Pause(kernel) => match stages.get(*kernel) {
                    Some(stage) => drop(stage.deactivate()),
                    None => drop(end.deactivate()),
                },
                Step::Resume => resume(),
                Step::Sleep(micros) => std::thread::sleep(Duration::from_micros(*micros)),
                Step::Destroy => runtime.device().destroy(),
                Step::Refuse(part) => runtime.device().refuse(*part),
            }
        }
        resume();
        drop(sender);
        match received.join().unwrap() {
            Ok(received) => {
                let (own, others) = received.into_iter().partition::<Vec<_>, _>(|item| item.number < OTHER);
                assert_eq!(seen(&own), seen(&expected[0]));
                assert_eq!(seen(&others), expected.get(1).map_or(Vec::new(), |items| seen(items)));
            }
            Err(error) => {
                let all = runtime.telemetry();
                // Whoever still sends has to end too.
                let senders = stages.iter().chain([&other]);
                senders.for_each(|stage| drop(stage.terminate(Duration::ZERO)));
                panic!("{error}; {all:#?}");
            }
        }
        // What the end of a scope puts in order, ThreadSanitizer does not see.
        senders.into_iter().for_each(|thread| thread.join().unwrap());
    });
    for stage in stages.iter().chain([&other]) {
        eventually("all is in the books", || stage.telemetry().pending == 0);
        let books = stage.telemetry();
        assert_eq!(books.undeliverable, 0);
        assert_eq!(books.accepted, books.handled + books.dead_letters.total());
    }
    if !history.is_joined {
        for (place, stage) in stages.iter().enumerate() {
            let emitted =
                self::expected(&history.stages[..=place], (0..sent).map(item).collect()).len() as u64;
            // What a message emitted is counted behind the message.
            let text = format!("stage {place} has emitted {emitted}");
            eventually(&text, || stage.telemetry().emitted >= emitted);
            assert_eq!(stage.telemetry().emitted, emitted, "by stage {place}");
        }
    }
    // What is for an instance that is not there is refused behind the messages that emitted it, and gives no reply.
    eventually("each value has arrived", || end.telemetry().accepted >= accepted);
    let last = end.telemetry();
    assert_eq!((last.accepted, last.handled), (accepted, replies as u64));
    check(runtime);
    let ends = stages[1..].iter().map(Handle::telemetry).chain([last]);
    ends.map(|books| [books.accepted, books.arrived]).fold([0; 2], |[a, b], [c, d]| [a + c, b + d])
}

#[test]
fn chains_do_what_a_plain_loop_does() {
    if runtime().is_none() {
        return;
    }
    let cases = std::env::var("RINGWORK_GENERATED").ok().and_then(|cases| cases.parse().ok()).unwrap_or(25);
    let total = std::cell::Cell::new([0u64; 2]);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 30,
        ..Config::default()
    });
    runner
        .run(&histories(), |history| {
            let [accepted, arrived] = run(&history, &runtime().expect("there was one"));
            total.set([total.get()[0] + accepted, total.get()[1] + arrived]);
            Ok(())
        })
        .unwrap();
    let [accepted, arrived] = total.get();
    println!("{arrived} of {accepted} arrived on the device");
    assert!(
        arrived > accepted / 1000,
        "{arrived} of {accepted}: what always goes through the host tests no links"
    );
}
