//! Every state of a buffer and what can be done in it: how much is moved, what it becomes, what is in it.

use super::{bump, bumping, looking};
use crate::common::{LONG, runtime};
use crate::errors::refused;
use ringwork::BufferState::{self, *};
use ringwork::{Error, Result, Runtime, Transfers, UnifiedBuffer};

const STATES: [BufferState; 6] = [Uninitialized, HostOnly, DeviceOnly, Synchronized, HostDirty, DeviceDirty];

/// A buffer in this state, and what is in it.
fn buffer_in(state: BufferState, runtime: &Runtime) -> (UnifiedBuffer<u32>, [u32; 4]) {
    let values = [10, 20, 30, 40];
    let buffer = match state {
        Uninitialized | HostOnly => runtime.buffer_uninitialized(4).unwrap(),
        _ => runtime.buffer(&values).unwrap(),
    };
    let mut expected = values;
    match state {
        Uninitialized => expected = [0; 4],
        HostOnly => buffer.copy_from(&values).unwrap(),
        DeviceOnly => {}
        _ => buffer.ensure_on_host().unwrap(),
    }
    if state == HostDirty {
        buffer.write(1, &[21]).unwrap();
        expected[1] = 21;
    }
    if state == DeviceDirty {
        bump(runtime, &buffer);
        expected = values.map(|value| value + 1);
    }
    assert_eq!(buffer.state(), state);
    (buffer, expected)
}

/// Does something to a buffer, and to a copy of what is in it.
type Operation = fn(&Runtime, &UnifiedBuffer<u32>, &mut [u32; 4]) -> Result<()>;

/// What an operation moves, in elements and times, and the state behind it; `None` if it is an error.
type Outcome = Option<(Moved, BufferState)>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moved {
    to_device: u64,
    elements_to_device: u64,
    to_host: u64,
    elements_to_host: u64,
}

fn moved(before: Transfers, after: Transfers) -> Moved {
    Moved {
        to_device: after.to_device - before.to_device,
        elements_to_device: (after.bytes_to_device - before.bytes_to_device) / 4,
        to_host: after.to_host - before.to_host,
        elements_to_host: (after.bytes_to_host - before.bytes_to_host) / 4,
    }
}

const NO: Outcome = None;

const fn none(state: BufferState) -> Outcome {
    Some((Moved { to_device: 0, elements_to_device: 0, to_host: 0, elements_to_host: 0 }, state))
}

const fn down(elements: u64, state: BufferState) -> Outcome {
    both((0, 0), elements, state)
}

const fn up(elements: u64, state: BufferState) -> Outcome {
    both((1, elements), 0, state)
}

const fn both((times, up): (u64, u64), down: u64, state: BufferState) -> Outcome {
    let to_host = if down > 0 { 1 } else { 0 };
    let moved = Moved { to_device: times, elements_to_device: up, to_host, elements_to_host: down };
    Some((moved, state))
}

const TABLE: &[(&str, Operation, [Outcome; 6])] = &[
    (
        "host",
        |_, buffer, values| {
            assert_eq!(*buffer.host()?, *values);
            Ok(())
        },
        [
            NO,
            none(HostOnly),
            down(4, Synchronized),
            none(Synchronized),
            none(HostDirty),
            down(4, Synchronized),
        ],
    ),
    (
        "host, twice",
        |_, buffer, values| {
            assert_eq!(*buffer.host()?, *values);
            assert_eq!(buffer.host()?.iter().sum::<u32>(), values.iter().sum());
            Ok(())
        },
        [
            NO,
            none(HostOnly),
            down(4, Synchronized),
            none(Synchronized),
            none(HostDirty),
            down(4, Synchronized),
        ],
    ),
    (
        "host_mut, only read",
        |_, buffer, values| {
            assert_eq!(*buffer.host_mut()?, *values);
            Ok(())
        },
        [
            NO,
            none(HostOnly),
            down(4, Synchronized),
            none(Synchronized),
            none(HostDirty),
            down(4, Synchronized),
        ],
    ),
    (
        "host_mut of a part",
        |_, buffer, values| {
            let mut view = buffer.slice(2..)?.host_mut()?;
            (view[0], values[2]) = (33, 33);
            view.commit()
        },
        [NO, none(HostOnly), down(4, HostDirty), none(HostDirty), none(HostDirty), down(4, HostDirty)],
    ),
    (
        "host_mut of a part, then the device",
        |_, buffer, values| {
            (buffer.slice(2..)?.host_mut()?[0], values[2]) = (33, 33);
            buffer.ensure_on_device()
        },
        [
            NO,
            up(4, Synchronized),
            both((1, 2), 4, Synchronized),
            up(2, Synchronized),
            // Next to what was written before.
            up(3, Synchronized),
            both((1, 2), 4, Synchronized),
        ],
    ),
    (
        "to_vec",
        |_, buffer, values| {
            assert_eq!(buffer.to_vec()?, *values);
            Ok(())
        },
        [
            NO,
            none(HostOnly),
            down(4, Synchronized),
            none(Synchronized),
            none(HostDirty),
            down(4, Synchronized),
        ],
    ),
    (
        "iter",
        |_, buffer, values| {
            assert!(buffer.iter()?.rev().eq(values.iter().rev().copied()));
            Ok(())
        },
        [
            NO,
            none(HostOnly),
            down(4, Synchronized),
            none(Synchronized),
            none(HostDirty),
            down(4, Synchronized),
        ],
    ),
    (
        "ensure_on_host",
        |_, buffer, _| buffer.ensure_on_host(),
        [
            NO,
            none(HostOnly),
            down(4, Synchronized),
            none(Synchronized),
            none(HostDirty),
            down(4, Synchronized),
        ],
    ),
    (
        "read of a part",
        |_, buffer, values| {
            let mut part = [0; 2];
            buffer.read(1, &mut part)?;
            assert_eq!(part, values[1..3]);
            Ok(())
        },
        [NO, none(HostOnly), down(2, DeviceOnly), none(Synchronized), none(HostDirty), down(2, DeviceDirty)],
    ),
    (
        "to_vec of a slice",
        |_, buffer, values| {
            assert_eq!(buffer.slice(1..=3)?.to_vec()?, values[1..]);
            Ok(())
        },
        [NO, none(HostOnly), down(3, DeviceOnly), none(Synchronized), none(HostDirty), down(3, DeviceDirty)],
    ),
    (
        "write of a part",
        |_, buffer, values| {
            values[2..].copy_from_slice(&[7, 8]);
            buffer.write(2, &[7, 8])
        },
        [NO, none(HostOnly), up(2, DeviceOnly), none(HostDirty), none(HostDirty), up(2, DeviceDirty)],
    ),
    (
        "fill of a slice",
        |_, buffer, values| {
            values[..1].fill(9);
            buffer.slice(..1)?.fill(9)
        },
        [NO, none(HostOnly), up(1, DeviceOnly), none(HostDirty), none(HostDirty), up(1, DeviceDirty)],
    ),
    (
        "write of nothing",
        |_, buffer, _| buffer.write(4, &[]),
        [
            none(Uninitialized),
            none(HostOnly),
            none(DeviceOnly),
            none(Synchronized),
            none(HostDirty),
            none(DeviceDirty),
        ],
    ),
    (
        "copy_from",
        |_, buffer, values| {
            *values = [5, 6, 7, 8];
            buffer.copy_from(values)
        },
        [
            none(HostOnly),
            none(HostOnly),
            up(4, DeviceOnly),
            none(HostDirty),
            none(HostDirty),
            none(HostDirty),
        ],
    ),
    (
        "fill",
        |_, buffer, values| {
            *values = [3; 4];
            buffer.fill(3)
        },
        [
            none(HostOnly),
            none(HostOnly),
            up(4, DeviceOnly),
            none(HostDirty),
            none(HostDirty),
            none(HostDirty),
        ],
    ),
    (
        "ensure_on_device",
        |_, buffer, _| buffer.ensure_on_device(),
        [
            NO,
            up(4, Synchronized),
            none(DeviceOnly),
            none(Synchronized),
            up(1, Synchronized),
            none(DeviceDirty),
        ],
    ),
    (
        "release_host",
        |_, buffer, _| buffer.release_host(),
        [
            none(Uninitialized),
            up(4, DeviceOnly),
            none(DeviceOnly),
            none(DeviceOnly),
            up(1, DeviceOnly),
            none(DeviceOnly),
        ],
    ),
    (
        "keep_host",
        |_, buffer, _| buffer.keep_host(),
        [
            none(Uninitialized),
            up(4, Synchronized),
            none(DeviceOnly),
            none(Synchronized),
            up(1, Synchronized),
            none(DeviceDirty),
        ],
    ),
    (
        "keep_device",
        |_, buffer, values| {
            let was_dirty = buffer.state() == HostDirty;
            buffer.keep_device()?;
            if was_dirty {
                values[1] = 20;
            }
            Ok(())
        },
        [NO, NO, none(DeviceOnly), none(Synchronized), none(DeviceDirty), none(DeviceDirty)],
    ),
    (
        "a kernel that reads",
        |runtime, buffer, _| {
            let look = ringwork::RingKernel::<(), ()>::wgsl("look", super::LOOK).bind("cells", buffer);
            let kernel = runtime.launch(look)?;
            kernel.activate()?;
            kernel.ask((), LONG)?;
            kernel.terminate(LONG)?;
            Ok(())
        },
        [
            NO,
            up(4, Synchronized),
            none(DeviceOnly),
            none(Synchronized),
            up(1, Synchronized),
            none(DeviceDirty),
        ],
    ),
    (
        "a kernel that may write and has not run",
        |runtime, buffer, _| bumping(runtime, "bump", buffer).terminate(LONG).map(drop),
        [
            none(Uninitialized),
            up(4, Synchronized),
            none(DeviceOnly),
            none(Synchronized),
            up(1, Synchronized),
            none(DeviceDirty),
        ],
    ),
    (
        "a kernel that wrote",
        |runtime, buffer, values| {
            bump(runtime, buffer);
            *values = values.map(|value| value + 1);
            Ok(())
        },
        [
            none(DeviceOnly),
            up(4, DeviceDirty),
            none(DeviceOnly),
            none(DeviceDirty),
            up(1, DeviceDirty),
            none(DeviceDirty),
        ],
    ),
    (
        "write of a part beside a kernel that reads",
        |runtime, buffer, values| {
            if buffer.state() == Uninitialized {
                return buffer.write(0, &[1, 2]);
            }
            let kernel = looking(runtime, "look", buffer);
            values[..2].copy_from_slice(&[1, 2]);
            buffer.write(0, &[1, 2])?;
            kernel.terminate(LONG).map(drop)
        },
        [
            NO,
            both((2, 6), 0, Synchronized),
            up(2, DeviceOnly),
            up(2, Synchronized),
            both((2, 3), 0, Synchronized),
            up(2, DeviceDirty),
        ],
    ),
    (
        "host_mut of a part beside a kernel that reads",
        |runtime, buffer, values| {
            if buffer.state() == Uninitialized {
                return buffer.host_mut().map(drop);
            }
            let kernel = looking(runtime, "look", buffer);
            buffer.slice(1..3)?.host_mut()?.copy_from_slice(&[6, 7]);
            values[1..3].copy_from_slice(&[6, 7]);
            kernel.terminate(LONG).map(drop)
        },
        [
            NO,
            both((2, 6), 0, Synchronized),
            both((1, 2), 4, Synchronized),
            up(2, Synchronized),
            both((2, 3), 0, Synchronized),
            both((1, 2), 4, Synchronized),
        ],
    ),
    (
        "copy_from beside a kernel that writes",
        |runtime, buffer, values| {
            let kernel = bumping(runtime, "bump", buffer);
            *values = [1, 2, 3, 4];
            buffer.copy_from(values)?;
            kernel.terminate(LONG).map(drop)
        },
        [
            up(4, Synchronized),
            both((2, 8), 0, Synchronized),
            up(4, DeviceOnly),
            up(4, Synchronized),
            both((2, 5), 0, Synchronized),
            up(4, Synchronized),
        ],
    ),
];

#[test]
fn every_operation_in_every_state_moves_what_it_must_and_no_more() {
    let runtime = runtime();
    for (name, operation, outcomes) in TABLE {
        for (state, outcome) in STATES.into_iter().zip(outcomes) {
            let what = format!("{name}, {state}");
            let (buffer, mut values) = buffer_in(state, &runtime);
            let before = buffer.transfers();
            let result = operation(&runtime, &buffer, &mut values);
            let moves = moved(before, buffer.transfers());
            match outcome {
                None => {
                    let error = result.expect_err(&what);
                    assert!(error.is_invalid(), "{what}: {error:?}");
                    assert_eq!((moves, buffer.state()), (Moved::default(), state), "{what}");
                }
                Some((expected, behind)) => {
                    result.unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!((moves, buffer.state()), (*expected, *behind), "{what}");
                }
            }
            if buffer.state() == Uninitialized {
                assert!(buffer.to_vec().is_err(), "{what}");
            } else {
                assert_eq!(buffer.to_vec().unwrap(), values, "{what}");
            }
        }
    }
}

#[test]
fn parts_that_were_written_go_to_the_device_and_no_others() {
    let runtime = runtime();
    let buffer = runtime.buffer(&[0u32; 100]).unwrap();
    buffer.ensure_on_host().unwrap();
    let before = buffer.transfers();
    for start in [10, 40, 12, 70, 90] {
        buffer.slice(start..start + 5).unwrap().host_mut().unwrap().fill(start as u32);
    }
    assert_eq!(moved(before, buffer.transfers()), Moved::default());
    buffer.ensure_on_device().unwrap();
    // 10..17, 40..45, 70..75, 90..95
    let expected = Moved { to_device: 4, elements_to_device: 22, ..Moved::default() };
    assert_eq!(moved(before, buffer.transfers()), expected);
    buffer.release_host().unwrap();
    let values = buffer.to_vec().unwrap();
    assert_eq!((values[9], values[11], values[12], values[16], values[17]), (0, 10, 12, 12, 0));
    assert_eq!((values[44], values[45], values[94], values[99]), (40, 0, 90, 0));
}

#[test]
fn nothing_is_moved_while_nothing_ran() {
    let runtime = runtime();
    let buffer = runtime.buffer(&[1u32, 2]).unwrap();
    let kernel = bumping(&runtime, "bump", &buffer);
    for round in 1..=20 {
        kernel.ask((), LONG).unwrap();
        for _ in 0..3 {
            assert_eq!(buffer.to_vec().unwrap(), [1 + round, 2 + round]);
        }
        assert_eq!((buffer.transfers().to_host, buffer.state()), (u64::from(round), Synchronized));
    }
    // A batch, of which each message writes.
    kernel.ask_many((0..100).map(|_| ()), LONG).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [121, 122]);
    assert_eq!(buffer.to_vec().unwrap(), [121, 122]);
    assert_eq!((buffer.transfers().to_host, buffer.transfers().to_device), (21, 1));
    assert!(buffer.transfers().time_to_host > std::time::Duration::ZERO);
}

#[test]
fn what_both_sides_wrote_is_a_conflict_that_names_both() {
    let runtime = runtime();
    let buffer = runtime.buffer(&[1u32, 2, 3, 4]).unwrap();
    let kernel = bumping(&runtime, "bump", &buffer);
    let conflict = "elements 1..3 of a buffer were written on the host while kernel `bump` may have written the buffer \
                    on the device; take one side with `keep_host` or `keep_device`";
    let write_both = || {
        let mut view = buffer.slice(1..3).unwrap().host_mut().unwrap();
        view.fill(70);
        kernel.ask((), LONG).unwrap();
        view
    };
    refused(write_both().commit(), Error::is_conflict, conflict);
    assert_eq!(buffer.state(), HostDirty);
    // A view that is dropped cannot say so; everything after it does.
    buffer.keep_device().unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [2, 3, 4, 5]);
    drop(write_both());
    for _ in 0..2 {
        refused(buffer.to_vec(), Error::is_conflict, conflict);
        refused(buffer.host().map(drop), Error::is_conflict, conflict);
        refused(buffer.host_mut().map(drop), Error::is_conflict, conflict);
        refused(buffer.read(0, &mut [0]), Error::is_conflict, conflict);
        refused(buffer.write(0, &[0]), Error::is_conflict, conflict);
        refused(buffer.ensure_on_device(), Error::is_conflict, conflict);
        refused(buffer.release_host(), Error::is_conflict, conflict);
    }
    buffer.keep_host().unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [3, 70, 70, 6]);
    // Who writes all of it does not need either.
    drop(write_both());
    buffer.copy_from(&[5, 6, 7, 8]).unwrap();
    kernel.ask((), LONG).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [6, 7, 8, 9]);
    // A kernel that is launched is refused, too, and has nothing then.
    let view = write_both();
    kernel.terminate(LONG).unwrap();
    drop(view);
    let gone = conflict.replace("kernel `bump`", "a kernel that has ended");
    let look = ringwork::RingKernel::<(), ()>::wgsl("look", super::LOOK).bind("cells", &buffer);
    refused(runtime.launch(look), Error::is_conflict, &gone);
    buffer.keep_device().unwrap();
    let kernel = bumping(&runtime, "bump", &buffer);
    kernel.ask((), LONG).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [8, 9, 10, 11]);
}

#[test]
fn several_may_look_and_only_one_may_write() {
    let runtime = runtime();
    let buffer = runtime.buffer(&[1u32; 1000]).unwrap();
    let (first, second) = (buffer.host().unwrap(), buffer.host().unwrap());
    crate::threads::scope(|scope| {
        let writer = scope.spawn(|| buffer.host_mut().map(|mut view| view.fill(2)));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!writer.is_finished(), "it waits for those that look");
        assert_eq!((first[0], second[999]), (1, 1));
        drop((first, second));
        writer.join().unwrap().unwrap();
    });
    assert_eq!(buffer.to_vec().unwrap(), [2; 1000]);
    // A writer that panics has written what it has written.
    let panicked = crate::threads::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut view = buffer.host_mut().unwrap();
            view[0] = 3;
            panic!("on purpose");
        });
        thread.join()
    });
    assert!(panicked.is_err());
    assert_eq!((buffer.state(), buffer.to_vec().unwrap()[0]), (HostDirty, 3));
}
