//! The reference engine against what WGSL and the handler contract say.

mod control;
mod expressions;
mod handlers;
mod numbers;
mod robust;
mod tables;
