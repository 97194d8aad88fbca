//! The seven guarantees, with many threads, on every kind of kernel.
//!
//! Nothing here waits without a bound: a test that hangs fails after [`kit::PATIENCE`]. Times are asserted only
//! where the guarantee is a time, and then the best of five measurements counts: a busy machine is no fault.

mod accounting;
mod backpressure;
mod books;
mod correlation;
mod deadlines;
mod faults;
mod kit;
mod lifecycle;
mod misuse;
mod nesting;
mod order;
mod priority;
mod replies;
mod restarts;
mod storms;
mod stuck;
mod torture;
