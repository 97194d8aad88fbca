//! The port on the emulated driver (see `tests/cuda`), with handlers written by hand in the shape that the writer gives
//! them. Where there is no g++ to build the emulation, the reason is printed.

mod absent;
#[path = "../../../tests/cuda/build.rs"]
mod build;
mod crowd;
mod ingress;
mod kit;
mod links;
mod memory;
mod monitor;
mod places;
mod rings;
mod seeded;
mod warps;
