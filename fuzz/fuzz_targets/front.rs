//! Any text as a handler: it is refused, or it runs; never a panic, a hang, or memory without bound.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringwork_fuzz::{In, ask_all, launch};

fuzz_target!(|text: &str| {
    match launch(text) {
        Ok(kernel) => ask_all(&kernel, &[In::default(), In { a: [u32::MAX, 1, 2, 3, 1 << 31, 0, 7, 0x7fc0_0000] }]),
        Err(error) => {
            let shown = error.to_string();
            assert!(error.is_rejected(), "refused for a reason that is not in the text: {shown}");
            for wrong in ["the WGSL compiler failed", "lowering made an invalid module"] {
                assert!(!shown.contains(wrong), "{shown}");
            }
        }
    }
});
