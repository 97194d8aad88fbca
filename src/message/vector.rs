//! WGSL's vectors as Rust types.
