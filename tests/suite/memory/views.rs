//! Views of a buffer, and who is in whose way.

use crate::common::runtime;
use ringwork::{Error, Result};
use std::time::{Duration, Instant};

/// A refusal that comes at once.
#[track_caller]
fn at_once<T>(attempt: impl FnOnce() -> Result<T>, is_kind: fn(&Error) -> bool, parts: &[&str]) {
    let begun = Instant::now();
    let error = attempt().err().expect("it is refused");
    let took = begun.elapsed();
    assert!(is_kind(&error), "{error:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    parts.iter().for_each(|part| assert!(error.to_string().contains(part), "`{part}` is not in: {error}"));
}

#[test]
fn a_thread_does_not_wait_for_itself() {
    let runtime = runtime();
    let buffer = runtime.buffer(&[1u32, 2, 3]).unwrap();
    let look = buffer.host().unwrap();
    let second = buffer.host().unwrap();
    drop(look);
    let reading = "a view to be read, of this thread,";
    at_once(|| buffer.write(0, &[9]), Error::is_conflict, &[reading, "`write`"]);
    at_once(|| buffer.fill(9), Error::is_conflict, &[reading]);
    at_once(|| buffer.host_mut().map(drop), Error::is_conflict, &[reading, "a view to be written"]);
    at_once(|| buffer.slice(1..2).unwrap().host_mut().map(drop), Error::is_conflict, &[reading]);
    at_once(|| buffer.ensure_on_device(), Error::is_conflict, &[reading, "`ensure_on_device`"]);
    at_once(|| buffer.release_host(), Error::is_conflict, &[reading, "`release_host`"]);
    assert_eq!((buffer.to_vec().unwrap(), &second[..]), (vec![1, 2, 3], &[1, 2, 3][..]));
    drop(second);
    let mut alone = buffer.host_mut().unwrap();
    alone[0] = 7;
    let writing = "a view to be written, of this thread,";
    at_once(|| buffer.read(0, &mut [0]), Error::is_conflict, &[writing, "`read`"]);
    at_once(|| buffer.to_vec(), Error::is_conflict, &[writing]);
    at_once(|| buffer.host().map(drop), Error::is_conflict, &[writing, "a view to be read"]);
    at_once(|| buffer.write(1, &[9]), Error::is_conflict, &[writing]);
    alone.commit().unwrap();
    buffer.write(1, &[9]).unwrap();
    assert_eq!(buffer.to_vec().unwrap(), [7, 9, 3]);
}

#[test]
fn views_of_other_threads_are_waited_for_and_named() {
    let runtime = runtime();
    let buffer = runtime.buffer(&[1u32, 2, 3]).unwrap();
    crate::threads::scope(|scope| {
        let look = buffer.host().unwrap();
        let writer = scope.spawn(|| buffer.write(0, &[5]));
        std::thread::sleep(Duration::from_millis(50));
        drop(look);
        writer.join().unwrap().unwrap();
        // This one is not let go.
        let look = buffer.host().unwrap();
        let error = scope.spawn(|| buffer.write(0, &[6])).join().unwrap().unwrap_err();
        assert!(error.is_timed_out(), "{error:?}");
        for part in ["`write`", "a view to be read, of another thread"] {
            assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
        }
        assert_eq!(look[0], 5);
    });
}
