//! The wgpu backend.

mod adapter;
mod generated;
mod kit;
mod order;
mod pipelines;
mod published;
