//! Any series of messages through handlers full of corners: every message ends, and memory stays whole.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwork_fuzz::{ask_all, launch, messages};

const HANDLERS: [&str; 5] = [
    include_str!("../handlers/corners.wgsl"),
    include_str!("../handlers/control.wgsl"),
    include_str!("../handlers/pointers.wgsl"),
    include_str!("../handlers/numbers.wgsl"),
    include_str!("../handlers/tables.wgsl"),
];

// The first byte chooses the handler.
fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let text = HANDLERS[usize::from(*first) % HANDLERS.len()];
    let kernel = launch(text).unwrap_or_else(|error| panic!("{error}"));
    ask_all(&kernel, &messages(rest));
});
