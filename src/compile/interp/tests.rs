//! The reference engine against what WGSL and the handler contract say; the other engines have to agree with it on all
//! of these handlers (see [`Bench`](crate::compile::tests::Bench)).

mod control;
mod expressions;
mod handlers;
mod numbers;
mod robust;
mod tables;
