//! The reference engine against what WGSL and the handler contract say; the other engines have to agree with it on all
//! of these handlers (see [`Bench`](crate::compile::tests::Bench)).

mod control;
mod expressions;
mod handlers;
mod numbers;
mod robust;
mod tables;

use crate::compile::tests::source;
use crate::compile::{Interpreter, compile};
use std::sync::Arc;

#[test]
fn equal_constants_share_their_memory() {
    let words = |reads: &str| {
        let list: Vec<_> = (0..1000).map(|i| format!("{i}u")).collect();
        let text = format!(
            "const LIST = array<u32, 1000>({}); const ONES = vec4(1u); \
             fn on_message(m: In) -> Out {{ var r: array<u32, 8>; {reads} return Out(r); }}",
            list.join(", ")
        );
        Interpreter::new(Arc::new(compile(&source(&text)).unwrap())).code.memory.len()
    };
    let one = words("r[0] = LIST[m.a[0]];");
    assert!(one >= 1000, "the list is in memory");
    let eight =
        words(&(0..8).map(|i| format!("r[{i}] = LIST[m.a[{i}]] + ONES[m.a[0]];")).collect::<String>());
    assert!(eight < one + 200, "{eight} words for eight reads, {one} for one");
}
