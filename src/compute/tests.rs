//! The buffer and the pool beside naive models, on random histories.

mod buffers;
mod pools;
