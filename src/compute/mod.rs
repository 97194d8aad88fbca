//! Memory that kernels and the host share, and entry points that run over it once.

mod buffer;
mod buffer_handle;
mod copy;
mod kernel;
mod lease;
mod lent;
mod orchestrator;
mod pool;
mod port;
mod ranges;
mod shared;
mod slice;
#[cfg(all(test, not(loom)))]
mod tests;
mod transfers;
mod view;
mod views;

pub(crate) use buffer::BoundTable;
pub use buffer::UnifiedBuffer;
pub use kernel::ComputeKernel;
pub(crate) use lease::{Access, Lease, check_twice};
pub(crate) use orchestrator::ComputeHost;
pub use orchestrator::{ComputeOrchestrator, Dispatch};
pub use pool::{MemoryPool, PoolSettings, PoolStatistics};
pub(crate) use port::LeasedPort;
pub use shared::BufferState;
pub use slice::BufferSlice;
pub use transfers::Transfers;
pub use view::BufferView;
pub use views::{Elements, HostView, HostViewMut};
