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
    #[derive(Clone, Copy)]
    #[repr(C, align(128))]
    struct Wide([u32; 32]);
    // SAFETY: words without padding, all of which may have any bits, as zeros are.
    unsafe impl bytemuck::Zeroable for Wide {}
    // SAFETY: as above.
    unsafe impl bytemuck::Pod for Wide {}
    let name = std::any::type_name::<Wide>();
    refused(
        runtime.buffer(&[Wide([1; 32])]),
        Error::is_invalid,
        &format!("a buffer of `{name}`: an element is aligned to 128 bytes, but may be to 64"),
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

#[test]
fn a_buffer_that_no_device_has_room_for() {
    let runtime = runtime();
    let error = runtime.buffer_uninitialized::<u32>(usize::MAX).unwrap_err();
    let start = format!("a buffer of {} elements of 4 bytes: ", usize::MAX);
    assert!(error.is_invalid() && error.to_string().starts_with(&start), "{error:?}");
    // Where the device sets no limit, its memory does.
    let error = runtime.buffer_uninitialized::<u32>(1 << 50).unwrap_err();
    assert!(error.is_invalid() || error.is_unavailable(), "{error:?}");
    let numbers = [(1u64 << 50).to_string(), (1u64 << 52).to_string()];
    assert!(numbers.iter().any(|number| error.to_string().contains(number)), "{error}");
    assert_eq!(runtime.buffer(&[1u32]).unwrap().to_vec().unwrap(), [1], "nothing is lost by it");
}

#[test]
fn values_that_are_not_as_many_as_the_elements() {
    let runtime = runtime();
    let buffer = runtime.buffer(&[1u32, 2, 3, 4]).unwrap();
    let text = |values, elements| {
        format!("{values} values for {elements} elements of a buffer: they must be as many")
    };
    refused(buffer.copy_from(&[1, 2, 3]), Error::is_invalid, &text(3, 4));
    refused(buffer.slice(1..).unwrap().copy_from(&[0; 4]), Error::is_invalid, &text(4, 3));
    refused(
        buffer.slice(..5).map(drop),
        Error::is_invalid,
        "elements 0..5 of a buffer of 4 elements: they go past its end",
    );
    assert_eq!(buffer.to_vec().unwrap(), [1, 2, 3, 4]);
}
