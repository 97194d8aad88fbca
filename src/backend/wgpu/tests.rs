//! The wgpu backend.

mod adapter;
mod dispatches;
mod generated;
mod kit;
mod order;
mod pipelines;
mod published;
