//! The wgpu backend.

mod adapter;
