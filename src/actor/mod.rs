//! The actor layer: what runs kernels, whatever runs their handlers.
//!
//! `runtime`, which a `builder` makes, and `handle` are what users hold. A `core` is one running kernel: a `gate` in front
//! of its port, a `mailbox` with the books, and the way of a message in; `feed` is its way from there into the port, `driver`
//! how messages are run and answered, `recovery` what becomes of a kernel after a fault or with a lost device,
//! `ask` how callers wait, `admin` the lifecycle calls, `host` the kernels with a thread of their own. `plan` and `launch`
//! make one of what was declared.

mod admin;
mod any_kernel;
mod ask;
mod builder;
mod cell;
mod core;
#[cfg(all(test, feature = "cuda", not(loom)))]
mod cuda_tests;
mod dead_letters;
#[cfg(all(test, any(feature = "cuda", feature = "wgpu"), not(loom)))]
mod device_tests;
mod devices;
mod direct;
mod driver;
mod feed;
mod gate;
mod handle;
mod host;
mod inlet;
mod launch;
mod lifecycle;
mod links;
#[cfg(all(test, loom))]
mod loom_tests;
mod mailbox;
mod plan;
#[cfg_attr(loom, path = "pool_model.rs")]
mod pool;
#[cfg(all(test, not(loom)))]
mod port_tests;
mod receive;
mod recovery;
mod runtime;
mod send;
mod services;
mod telemetry;
mod together;
mod wake;

pub use admin::Termination;
pub use ask::Pending;
pub use builder::RuntimeBuilder;
pub use dead_letters::DeadLetter;
pub use handle::{Handle, Replies, Snapshot};
pub use lifecycle::KernelState;
pub use receive::Output;
pub use runtime::Runtime;
pub use send::Options;
pub use telemetry::{DeadLetterCounts, DeadLetterReason, Latency, Telemetry};
