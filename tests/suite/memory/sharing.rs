//! Who may have a buffer at the same time.

use super::{BUMP, LOOK, bumping, looking, start};
use crate::common::{LONG, runtime};
use crate::errors::{launch_refused_by, refused};
use ringwork::{BufferView, Error, RingKernel, message};

const COUNT: &str = "@group(1) @binding(0) var<storage, read_write> cells: array<atomic<u32>>;
    fn on_message() { atomicAdd(&cells[0], 1u); }";

message! {
    /// A part of a table.
    pub struct Part { pub part: BufferView, pub factor: u32 }

    /// A number.
    pub struct Word { pub value: u32 }
}

fn kernel(name: &str, text: &str, cells: &ringwork::UnifiedBuffer<u32>) -> RingKernel<(), ()> {
    RingKernel::wgsl(name, text).bind("cells", cells)
}

#[test]
fn many_read_or_one_writes() {
    let runtime = runtime();
    let cells = runtime.buffer(&[0u32; 4]).unwrap();
    let readers = ["a", "b", "c"].map(|name| looking(&runtime, name, &cells));
    launch_refused_by(
        &runtime,
        kernel("writer", BUMP, &cells),
        Error::is_conflict,
        "table `cells` of kernel `writer`, which writes it: kernel `a` has the same buffer as its table `cells`, which \
         reads it; terminate one of them first, write by atomics only, or let the one that writes `.share(\"cells\")`",
    );
    for reader in &readers {
        reader.ask((), LONG).unwrap();
        reader.terminate(LONG).unwrap();
    }
    let writer = bumping(&runtime, "writer", &cells);
    let text = |kernel: &str, what: &str| {
        format!(
            "table `cells` of kernel `{kernel}`, which {what} it: kernel `writer` has the same buffer as its table \
             `cells`, which writes it; terminate one of them first, write by atomics only, or let the one that writes \
             `.share(\"cells\")`"
        )
    };
    launch_refused_by(&runtime, kernel("a", LOOK, &cells), Error::is_conflict, &text("a", "reads"));
    launch_refused_by(&runtime, kernel("b", BUMP, &cells), Error::is_conflict, &text("b", "writes"));
    launch_refused_by(&runtime, kernel("c", COUNT, &cells), Error::is_conflict, &text("c", "reads"));
    // It is refused for what it is, and nothing of it stays: the writer goes on, and the names are free.
    writer.ask((), LONG).unwrap();
    writer.terminate(LONG).unwrap();
    looking(&runtime, "a", &cells).ask((), LONG).unwrap();
    assert_eq!(cells.to_vec().unwrap(), [1; 4]);
}

#[test]
fn atomics_may_be_shared() {
    let runtime = runtime();
    let cells = runtime.buffer(&[0u32; 4]).unwrap();
    let counting = ["a", "b"].map(|name| start(&runtime, kernel(name, COUNT, &cells)));
    let look = looking(&runtime, "look", &cells);
    for _ in 0..10 {
        counting.iter().for_each(|kernel| kernel.ask((), LONG).unwrap());
        look.ask((), LONG).unwrap();
    }
    assert_eq!(cells.to_vec().unwrap(), [20, 0, 0, 0]);
}

#[test]
fn who_lets_others_share_may_write_beside_them() {
    let runtime = runtime();
    let cells = runtime.buffer(&[0u32; 4]).unwrap();
    let look = looking(&runtime, "look", &cells);
    let writers = ["a", "b"].map(|name| start(&runtime, kernel(name, BUMP, &cells).share("cells")));
    for _ in 0..5 {
        writers.iter().for_each(|kernel| kernel.ask((), LONG).unwrap());
        look.ask((), LONG).unwrap();
    }
    assert_eq!(cells.to_vec().unwrap(), [10; 4]);
    assert!(runtime.launch(kernel("c", BUMP, &cells)).is_err_and(|error| error.is_conflict()));
    launch_refused_by(
        &runtime,
        kernel("d", BUMP, &cells).share("cell"),
        Error::is_invalid,
        "kernel `d`: share: no buffer is bound to a table `cell`",
    );
}

#[test]
fn one_kernel_has_a_buffer_under_one_name_if_it_writes_it() {
    let runtime = runtime();
    let cells = runtime.buffer(&[4u32; 4]).unwrap();
    let two = |access: &str, statement: &str| {
        let text = format!(
            "@group(1) @binding(0) var<storage, read> cells: array<u32>;
             @group(1) @binding(1) var<storage, {access}> others: array<u32>;
             fn on_message() {{ let x = cells[0] + others[0]; {statement} }}"
        );
        RingKernel::<(), ()>::wgsl("two", text).bind("cells", &cells).bind("others", &cells)
    };
    start(&runtime, two("read", "")).terminate(LONG).unwrap();
    launch_refused_by(
        &runtime,
        two("read_write", "others[1] = x;").share("others"),
        Error::is_conflict,
        "kernel `two`: one buffer is bound to the tables `cells` and `others`, and a handler that writes a table may have \
         it under one name only",
    );
    bumping(&runtime, "bump", &cells);
}

#[test]
fn without_values_a_kernel_that_reads_is_refused_and_one_that_writes_finds_zeros() {
    let runtime = runtime();
    let cells = runtime.buffer_uninitialized(4).unwrap();
    let text =
        "a buffer of 4 elements has no values yet; give it all of them first, with `fill` or `copy_from`";
    launch_refused_by(&runtime, kernel("look", LOOK, &cells), Error::is_invalid, text);
    refused(cells.to_vec(), Error::is_invalid, text);
    refused(cells.host().map(drop), Error::is_invalid, text);
    refused(cells.host_mut().map(drop), Error::is_invalid, text);
    refused(cells.iter().map(drop), Error::is_invalid, text);
    refused(cells.read(1, &mut [0; 2]), Error::is_invalid, text);
    refused(cells.write(1, &[0; 2]), Error::is_invalid, text);
    refused(cells.ensure_on_device(), Error::is_invalid, text);
    let writer = bumping(&runtime, "bump", &cells);
    refused(cells.to_vec(), Error::is_invalid, text);
    writer.ask((), LONG).unwrap();
    assert_eq!(cells.to_vec().unwrap(), [1; 4]);
}

#[test]
fn a_message_points_at_a_part_of_a_buffer() {
    let text = "@group(1) @binding(0) var<storage, read> numbers: array<u32>;
        fn on_message(m: Part) -> Word {
            var sum = 0u;
            for (var i = m.part.offset; i < m.part.offset + m.part.len; i++) { sum += numbers[i] * m.factor; }
            return Word(sum);
        }";
    let runtime = runtime();
    let values: Vec<u32> = (0..50_000).map(|number| number * 7 % 1000).collect();
    let numbers = runtime.buffer(&values).unwrap();
    let kernel =
        runtime.launch(RingKernel::<Part, Word>::wgsl("sum", text).bind("numbers", &numbers)).unwrap();
    kernel.activate().unwrap();
    for (start, end) in [(0, 10), (49_990, 50_000), (20_000, 30_000), (5, 5)] {
        let part = numbers.view(start..end).unwrap();
        assert_eq!((part.offset as usize, part.len as usize), (start, end - start));
        let sum = values[start..end].iter().fold(0u32, |sum, value| sum.wrapping_add(value * 3));
        assert_eq!(kernel.ask(Part { part, factor: 3 }, LONG).unwrap().value, sum);
        assert_eq!(numbers.at(part).unwrap().to_vec().unwrap(), values[start..end]);
    }
    let past = |range: &str| format!("elements {range} of a buffer of 50000 elements: they go past its end");
    refused(numbers.view(49_999..50_001), Error::is_invalid, &past("49999..50001"));
    let view = BufferView { offset: u32::MAX, len: u32::MAX };
    refused(numbers.at(view).map(drop), Error::is_invalid, &past("4294967295..8589934590"));
    let backwards = (std::ops::Bound::Included(3), std::ops::Bound::Excluded(1));
    refused(
        numbers.slice(backwards).map(drop),
        Error::is_invalid,
        "elements 3..1 of a buffer: they end before they begin",
    );
}
