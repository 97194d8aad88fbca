//! Memory that kernels and the host share.

mod buffer;

pub(crate) use buffer::BoundTable;
pub use buffer::UnifiedBuffer;
