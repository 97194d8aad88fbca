//! The wgpu backend.

mod adapter;
mod generated;
mod kit;
mod pipelines;
mod published;
