//! What a device refuses: for lack of memory, or because it is more than it allows. Each is an error that says what was
//! asked and why it cannot be, nothing of it stays, and the device goes on.

use super::{ADD, LONG, Number, Sum, adder, check_books, holds_no_more_than, runtime};
use crate::backend::wgpu::small;
use crate::{Error, KernelState, RestartPolicy, RestartState, RingKernel, Runtime, message};
use std::time::Duration;

message! { pub struct To { pub to: u32, pub value: u32 } }
message! { pub struct Index { pub index: u32 } }
message! { pub struct Five { pub to: u32, pub words: [u32; 4] } }
message! { pub struct Large { pub words: [u32; 256] } }

const ADD_TO: &str = "
    fn on_message(m: To, s: ptr<function, Sum>) -> Sum {
        (*s).sum += m.value;
        (*s).count += 1u;
        return *s;
    }";
const LOOK_UP: &str = "
    @group(1) @binding(0) var<storage, read> table: array<u32>;
    fn on_message(m: Index) -> Number { return Number(table[m.index]); }";

/// Refused for this reason, with all of these words; and nothing is left of it.
fn refused<T: std::fmt::Debug>(
    runtime: &Runtime,
    what: impl FnOnce() -> crate::Result<T>,
    kind: fn(&Error) -> bool,
    words: &[&str],
) {
    let before = runtime.device().holdings();
    let error = what().expect_err("the device does not allow it");
    assert!(kind(&error), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "`{word}` is not in: {error}");
    }
    holds_no_more_than(runtime, &before);
    assert!(!runtime.device().is_lost(), "{error}");
}

/// A runtime on a device whose buffers may have so many bytes.
fn small_runtime(bytes: u64, buffers: u32) -> Option<Runtime> {
    let runtime = runtime()?;
    runtime.put_device(small(bytes, buffers)?);
    Some(runtime)
}

fn still_works(runtime: &Runtime) {
    let kernel = RingKernel::<Number, Sum>::wgsl("still there", ADD).initial_state(Sum::default());
    let kernel = runtime.launch(kernel).unwrap();
    kernel.activate().unwrap();
    assert_eq!(kernel.ask(Number { value: 7 }, LONG).unwrap().sum, 7);
    assert!(kernel.terminate(LONG).unwrap().is_clean());
}

fn instances(name: &str, count: u32) -> RingKernel<To, Sum> {
    RingKernel::wgsl(name, ADD_TO).initial_state(Sum::default()).instances(count)
}

#[test]
fn what_is_larger_than_a_buffer_is_refused() {
    const MOST: usize = 64 << 10;
    let Some(runtime) = small_runtime(MOST as u64, 8) else { return };
    assert_eq!(runtime.capabilities().unwrap().largest_buffer, MOST as u64);
    still_works(&runtime);
    let table = |words| runtime.buffer(&vec![3u32; words]);
    refused(
        &runtime,
        || table(MOST / 4 + 1),
        Error::is_invalid,
        &["16385 elements of 4 bytes", "allows 65536"],
    );
    let words = ["10000 instances", "a state of 8 bytes", "80000 bytes", "allows 65536"];
    refused(&runtime, || runtime.launch(instances("many", 10_000)), Error::is_invalid, &words);
    // Each may have its states, and both together may not.
    let first = runtime.launch(instances("first", 8_000)).unwrap();
    let words = ["the states of all kernels with one handler", "allows 65536"];
    refused(&runtime, || runtime.launch(instances("second", 8_000)), Error::is_unavailable, &words);
    first.activate().unwrap();
    for to in [0, 7_999] {
        assert_eq!(first.ask(To { to, value: to }, LONG).unwrap().sum, to);
    }
    first.terminate(LONG).unwrap();
    let second = runtime.launch(instances("second", 8_000)).unwrap();
    second.terminate(LONG).unwrap();
    still_works(&runtime);
}

#[test]
fn what_one_message_may_send_has_to_fit_into_a_buffer() {
    let Some(runtime) = small_runtime(64 << 10, 8) else { return };
    let kernel = |most| {
        let text = "fn on_message(m: Index) -> Large {
            var l: Large;
            l.words[255] = m.index;
            emit_pages(l);
            return l;
        }";
        RingKernel::<Index, Large>::wgsl("large", text)
            .output_capacity(1024)
            .output_many::<Large>("pages", most)
    };
    let words = ["what one message may send takes", "allows 65536"];
    refused(&runtime, || runtime.launch(kernel(1000)), Error::is_unavailable, &words);
    // Fifteen messages fill a round.
    let kernel = runtime.launch(kernel(1)).unwrap();
    let pages = kernel.output::<Large>("pages").unwrap();
    kernel.activate().unwrap();
    let pending: Vec<_> = (0..200).map(|index| kernel.request(Index { index }).unwrap()).collect();
    for (index, one) in (0..).zip(pending) {
        assert_eq!(one.wait(LONG).unwrap().words[255], index);
        assert_eq!(pages.recv_timeout(LONG).unwrap().words[255], index);
    }
    kernel.terminate(LONG).unwrap();
    still_works(&runtime);
}

#[test]
fn more_tables_than_the_device_has_room_for_are_refused() {
    let Some(runtime) = small_runtime(1 << 20, 5) else { return };
    let table = runtime.buffer(&[5u32, 6]).unwrap();
    let two = "
        @group(1) @binding(0) var<storage, read> a: array<u32>;
        @group(1) @binding(1) var<storage, read> b: array<u32>;
        fn on_message(m: Index) -> Number { return Number(a[m.index] + b[m.index]); }";
    let launch =
        || runtime.launch(RingKernel::<Index, Number>::wgsl("two", two).bind("a", &table).bind("b", &table));
    let words = ["a handler with 2 tables needs 6 buffers", "allows 5"];
    refused(&runtime, launch, Error::is_unavailable, &words);
    let one =
        runtime.launch(RingKernel::<Index, Number>::wgsl("one", LOOK_UP).bind("table", &table)).unwrap();
    one.activate().unwrap();
    assert_eq!(one.ask(Index { index: 1 }, LONG).unwrap().value, 6);
}

#[test]
fn without_memory_a_launch_is_refused() {
    let Some(runtime) = runtime() else { return };
    still_works(&runtime);
    let refuse = |part| runtime.device().refuse(part);
    for part in ["a table", "the states of", "the messages of a round", "the results of a round"] {
        refuse(Some(part));
        let launch = || match part {
            "a table" => runtime.buffer(&[1u32]).map(drop),
            _ => runtime.launch(instances("none", 10)).map(drop),
        };
        let words = [part, "the device has no memory for", "bytes"];
        refused(&runtime, launch, Error::is_unavailable, &words);
        refuse(None);
        still_works(&runtime);
    }
    // States that need a larger buffer, and a large write.
    let small = runtime.launch(instances("small", 10)).unwrap();
    small.activate().unwrap();
    small.ask(To { to: 9, value: 1 }, LONG).unwrap();
    for part in ["the states of", "a write of states"] {
        if part == "a write of states" {
            // There is room for them: what it takes stays there for kernels to come.
            runtime.launch(instances("large", 100_000)).unwrap().terminate(LONG).unwrap();
        }
        refuse(Some(part));
        let launch = || runtime.launch(instances("large", 100_000));
        refused(&runtime, launch, Error::is_unavailable, &[part, "no memory for", "bytes"]);
        refuse(None);
        assert!(small.ask(To { to: 9, value: 1 }, LONG).unwrap().count > 1, "its states are where they were");
    }
    let large = runtime.launch(instances("large", 100_000)).unwrap();
    large.activate().unwrap();
    assert_eq!(large.ask(To { to: 99_999, value: 1 }, LONG).unwrap().count, 1);
    assert_eq!(small.ask(To { to: 9, value: 1 }, LONG).unwrap().count, 4);
}

#[test]
fn without_memory_reads_and_writes_are_refused() {
    let Some(runtime) = runtime() else { return };
    let kernel = adder(&runtime, RestartPolicy::Never);
    kernel.ask(Number { value: 3 }, LONG).unwrap();
    let table = runtime.buffer(&vec![1u32; 1 << 20]).unwrap();
    runtime.device().refuse(Some("a copy from the device"));
    let words = ["a copy from the device", "no memory for 4194304 bytes"];
    refused(&runtime, || table.to_vec(), Error::is_unavailable, &words);
    refused(&runtime, || kernel.read_state::<Sum>(), Error::is_unavailable, &words[..1]);
    refused(&runtime, || kernel.snapshot(), Error::is_unavailable, &words[..1]);
    runtime.device().refuse(Some("a write to a table"));
    let words = ["a write to a table", "no memory for 4194304 bytes"];
    refused(&runtime, || table.write(0, &vec![2; 1 << 20]), Error::is_unavailable, &words);
    runtime.device().refuse(None);
    table.write(1, &vec![2; (1 << 20) - 1]).unwrap();
    let found = table.to_vec().unwrap();
    assert!(found[0] == 1 && found[1..].iter().all(|word| *word == 2));
    assert_eq!(kernel.read_state::<Sum>().unwrap(), Sum { sum: 3, count: 1 });
    assert_eq!(kernel.ask(Number { value: 1 }, LONG).unwrap().sum, 4);
}

#[test]
fn a_round_that_finds_no_memory_fails_its_kernel_alone() {
    let Some(runtime) = runtime() else { return };
    let policies = [
        RestartPolicy::Never,
        RestartPolicy::OneForOne { max: 9, within: Duration::from_secs(60), state: RestartState::Initial },
    ];
    let other = runtime.launch(instances("other", 2)).unwrap();
    other.activate().unwrap();
    for policy in policies {
        let kernel = adder(&runtime, policy);
        kernel.ask(Number { value: 1 }, LONG).unwrap();
        runtime.device().refuse(Some("the messages of a round"));
        // More than the first buffers have room for.
        let messages = (0..500).map(|_| Number { value: 1 });
        kernel.send_many(messages).unwrap();
        let error = kernel.ask(Number { value: 1 }, LONG).expect_err("there is no memory");
        assert!(error.is_unavailable() || error.is_failed() || error.is_device_lost(), "{error:?}");
        assert!(
            error.to_string().contains("the messages of a round: the device has no memory for"),
            "{error}"
        );
        assert_eq!(kernel.lifecycle(), KernelState::Failed);
        other.ask(To { to: 1, value: 1 }, LONG).expect("it needs no memory");
        runtime.device().refuse(None);
        check_books(&kernel);
        assert!(kernel.terminate(LONG).unwrap().abandoned.is_none());
        still_works(&runtime);
    }
}

#[test]
fn thousands_of_tables_come_and_go() {
    let Some(runtime) = runtime() else { return };
    still_works(&runtime);
    let before = runtime.device().holdings();
    // More than many drivers allow allocations of memory: tables share them.
    let tables: Vec<_> = (0..5000u32).map(|number| runtime.buffer(&[number]).unwrap()).collect();
    for (table, number) in tables.iter().zip(0..).step_by(999) {
        assert_eq!(table.to_vec().unwrap(), [number]);
    }
    drop(tables);
    holds_no_more_than(&runtime, &before);
}

#[test]
fn the_largest_round_fits_with_its_words() {
    const MOST: u32 = 64 << 10;
    let Some(runtime) = small_runtime(MOST.into(), 8) else { return };
    let text = "fn on_message(m: Five, s: ptr<function, Sum>) -> Sum {
        (*s).sum += m.words[0];
        (*s).count += 1u;
        return *s;
    }";
    let kernel = RingKernel::<Five, Sum>::wgsl("five", text).initial_state(Sum::default()).instances(4);
    let kernel = runtime.launch(kernel.queue_capacity(4096).output_capacity(4096)).unwrap();
    let messages: Vec<_> = (0..2000).map(|number| Five { to: number % 4, words: [1, 0, 0, 0] }).collect();
    // As many as there may be go in one round.
    kernel.activate().unwrap();
    assert!(kernel.send_many(messages).is_ok());
    let begun = std::time::Instant::now();
    while kernel.telemetry().handled < 2000 {
        assert!(begun.elapsed() < LONG, "{:#?}", kernel.telemetry());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_large_write_is_one_submission() {
    let Some(runtime) = runtime() else { return };
    let buffer = runtime.buffer(&vec![1u32; 10 << 20]).unwrap();
    let before = runtime.device().submissions();
    buffer.copy_from(&vec![2u32; 10 << 20]).unwrap();
    buffer.ensure_on_device().unwrap();
    assert_eq!(runtime.device().submissions() - before, 1, "no round finds a part of it");
}
