//! Links between kernels: chains, diamonds, cycles, fan-out and fan-in.

mod broken;
mod cycles;
mod ends;
mod flow;

use crate::common::LONG;
use ringwork::{DeviceMessage, Handle, Message, Output, Result, RingKernel, Runtime, message};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

message! {
    /// A number on its way.
    pub struct Item { pub number: u32, pub sender: u32, pub hops: u32, pub trace: u32 }

    /// How many items came, and what they add up to.
    pub struct Seen { pub count: u32, pub sum: u32 }
}

/// Sends every item on.
pub const PASS: &str = "fn on_message(m: Item) { emit_out(m); }";
/// Sends every item on, one hop older.
pub const HOP: &str = "fn on_message(m: Item) {
    var next = m;
    next.hops += 1u;
    next.trace = next.trace * 31u + 7u;
    emit_out(next);
}";
/// Keeps count and gives the item back.
pub const COUNT: &str = "struct Seen { count: u32, sum: u32 }
fn on_message(m: Item, s: ptr<function, Seen>) -> Item {
    (*s).count += 1u;
    (*s).sum += m.number;
    return m;
}";

/// An item with this number.
pub fn item(number: u32) -> Item {
    Item { number, ..Item::default() }
}

/// A kernel that passes items on through `out`.
#[track_caller]
pub fn pass(runtime: &Runtime, name: &str, capacity: usize) -> Handle<Item, ()> {
    let kernel = RingKernel::<Item, ()>::wgsl(name, HOP).output::<Item>("out").queue_capacity(capacity);
    started(runtime, kernel)
}

/// A kernel that counts and gives back.
#[track_caller]
pub fn sink(runtime: &Runtime, name: &str, capacity: usize) -> Handle<Item, Item> {
    started(runtime, RingKernel::<Item, Item>::wgsl(name, COUNT).queue_capacity(capacity).output_capacity(16))
}

/// Launches and activates.
#[track_caller]
pub fn started<In: Message, Out: Message>(runtime: &Runtime, kernel: RingKernel<In, Out>) -> Handle<In, Out> {
    let handle = runtime.launch(kernel).unwrap();
    handle.activate().unwrap();
    handle
}

/// The output `out`.
#[track_caller]
pub fn out<In: Message, Out: Message>(kernel: &Handle<In, Out>) -> Output<Item> {
    kernel.output::<Item>("out").unwrap()
}

/// Links `out` of one kernel to another.
#[track_caller]
pub fn link<In: Message, Out: Message, O: Message>(
    runtime: &Runtime,
    from: &Handle<In, Out>,
    to: &Handle<Item, O>,
) {
    runtime.link(&out(from), to).unwrap();
}

/// What all kernels of a runtime are doing, for a test that is stuck.
pub fn where_it_stands(runtime: &Runtime) -> String {
    let states = runtime.kernels();
    let lines = runtime.telemetry().into_iter().zip(states).map(|((name, books), (_, state))| {
        format!(
            "  {name}: {state}, accepted {}, handled {}, pending {}, depth {}, emitted {}, undeliverable {}, \
             dead {}, unread {}\n",
            books.accepted,
            books.handled,
            books.pending,
            books.depth,
            books.emitted,
            books.undeliverable,
            books.dead_letters.total(),
            books.unread_replies
        )
    });
    lines.collect()
}

/// Runs `body` on a thread of its own; a test that hangs says where the kernels stand.
#[track_caller]
pub fn bounded<T: Send + 'static>(runtime: &Runtime, body: impl FnOnce(&Runtime) -> T + Send + 'static) -> T {
    let (results, result) = channel();
    let inside = runtime.clone();
    let thread = std::thread::spawn(move || {
        let value = body(&inside);
        drop(inside);
        let _ = results.send(value);
    });
    match result.recv_timeout(LONG + LONG) {
        Ok(value) => value,
        Err(RecvTimeoutError::Timeout) => panic!("stuck:\n{}", where_it_stands(runtime)),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => unreachable!("it sends before it ends"),
        },
    }
}

/// Receives this many replies.
#[track_caller]
pub fn receive<In: Message, Out: Message>(
    runtime: &Runtime,
    kernel: &Handle<In, Out>,
    count: usize,
) -> Vec<Out> {
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        match kernel.recv_many(count - all.len(), LONG) {
            Ok(more) => all.extend(more),
            Err(error) => panic!("{} of {count} came, then {error}\n{}", all.len(), where_it_stands(runtime)),
        }
    }
    all
}

/// Receives this many values of an output.
#[track_caller]
pub fn receive_from<T: DeviceMessage + Message + Clone>(
    runtime: &Runtime,
    output: &Output<T>,
    count: usize,
) -> Vec<T> {
    let next = |index: usize| {
        output.recv_timeout(LONG).unwrap_or_else(|error| {
            panic!("{index} of {count} came, then {error}\n{}", where_it_stands(runtime))
        })
    };
    (0..count).map(next).collect()
}

/// Waits until this holds.
#[track_caller]
pub fn eventually(runtime: &Runtime, what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < end, "{what} did not come about:\n{}", where_it_stands(runtime));
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Checks every kernel's books.
#[track_caller]
pub fn books_balance(runtime: &Runtime) {
    for (name, books) in runtime.telemetry() {
        assert_eq!(
            books.accepted,
            books.handled + books.returned + books.dead_letters.total() + books.pending,
            "{name}: {books:?}"
        );
    }
}

/// Sends numbers from several threads, each with its own; ends when all are taken.
#[track_caller]
pub fn send_from(senders: u32, each: u32, send: impl Fn(Item) -> Result<()> + Send + Sync) {
    crate::threads::scope(|scope| {
        for sender in 0..senders {
            let send = &send;
            scope.spawn(move || {
                for number in 0..each {
                    send(Item { number, sender, ..Item::default() }).unwrap();
                }
            });
        }
    });
}

/// Checks that every sender's numbers are there once, and in order.
#[track_caller]
pub fn in_order(items: &[Item], senders: u32, each: u32) {
    assert_eq!(items.len(), (senders * each) as usize);
    let mut next = vec![0; senders as usize];
    for item in items {
        let wanted = &mut next[item.sender as usize];
        assert_eq!(item.number, *wanted, "of sender {}", item.sender);
        *wanted += 1;
    }
}

/// Checks that every sender's numbers are there once, in any order.
#[track_caller]
pub fn all_there(items: &[Item], senders: u32, each: u32) {
    let mut seen: Vec<_> = items.iter().map(|item| (item.sender, item.number)).collect();
    seen.sort_unstable();
    let wanted: Vec<_> =
        (0..senders).flat_map(|sender| (0..each).map(move |number| (sender, number))).collect();
    assert!(seen == wanted, "{} items, {} wanted; lost or duplicated", seen.len(), wanted.len());
}
