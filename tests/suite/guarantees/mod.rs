//! The seven guarantees, with many threads.
