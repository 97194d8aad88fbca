//! The wgpu backend.

mod adapter;
mod dispatches;
mod generated;
mod kit;
mod pipelines;
mod published;
