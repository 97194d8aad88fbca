//! The suite that every backend has to pass. `RINGWORK_BACKEND` says on which one it runs.

mod cache;
mod common;
mod devices;
mod errors;
mod guarantees;
mod handlers;
mod links;
#[path = "../realistic/mod.rs"]
mod realistic;
