//! The suite that every backend has to pass. `RINGWORK_BACKEND` says on which one it runs.

mod cache;
mod common;
mod compute;
mod devices;
mod errors;
mod guarantees;
mod handlers;
mod links;
mod memory;
#[path = "../realistic/mod.rs"]
mod realistic;
mod shown;
mod threads;

/// Which build of the library this is: how `tests/wgpu.rs` finds the program that belongs to its own.
#[test]
fn tells_its_build() {
    println!("\nbuild {:?}", std::any::TypeId::of::<ringwork::Runtime>());
}
