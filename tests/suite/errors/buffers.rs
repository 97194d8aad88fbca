//! Buffers that cannot be, and elements that are not there.

use super::refused;
use crate::common::runtime;
use ringwork::{Error, UnifiedBuffer};

#[test]
fn a_buffer_has_elements_of_whole_words() {
    let runtime = runtime();
    refused(runtime.buffer::<u32>(&[]), Error::is_invalid, "a buffer of no elements: it takes at least 1");
    refused(
        runtime.buffer(&[1u8, 2, 3, 4]),
        Error::is_invalid,
        "a buffer of `u8`: an element has 1 bytes, but must have a multiple of 4; use `u32` or a `message!` struct",
    );
    refused(
        runtime.buffer(&[[1u16; 3]]),
        Error::is_invalid,
        "a buffer of `[u16; 3]`: an element has 6 bytes, but must have a multiple of 4; use `u32` or a `message!` \
         struct",
    );
    refused(
        runtime.buffer(&[(), ()]),
        Error::is_invalid,
        "a buffer of `()`: an element has 0 bytes, but must have a multiple of 4; use `u32` or a `message!` struct",
    );
    runtime.buffer(&[1u64]).expect("eight bytes are two words");
}

#[test]
fn elements_past_the_end() {
    let runtime = runtime();
    let buffer: UnifiedBuffer<u32> = runtime.buffer(&[1, 2, 3, 4]).unwrap();
    assert_eq!((buffer.len(), buffer.is_empty()), (4, false));
    let past = |range: &str| format!("elements {range} of a buffer of 4 elements: they go past its end");
    refused(buffer.write(4, &[0]), Error::is_invalid, &past("4..5"));
    refused(buffer.write(2, &[0; 3]), Error::is_invalid, &past("2..5"));
    refused(buffer.read(0, &mut [0; 5]), Error::is_invalid, &past("0..5"));
    refused(buffer.read(usize::MAX, &mut [0; 2]), Error::is_invalid, &past(&format!("{0}..{0}", usize::MAX)));
    assert_eq!(buffer.to_vec().unwrap(), [1, 2, 3, 4], "nothing was written");
    buffer.write(4, &[]).expect("no elements are nowhere past the end");
    buffer.write(2, &[7, 8]).unwrap();
    let mut two = [0; 2];
    buffer.read(1, &mut two).unwrap();
    assert_eq!(two, [2, 7]);
}
