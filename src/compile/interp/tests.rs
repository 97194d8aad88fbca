//! Semantics, one rule a test.

use crate::compile::tests::*;

#[test]
fn sum_of_a_message() {
    let body = "var sum = 0u; for (var i = 0u; i < m.a[0]; i++) { sum += m.a[i + 1]; } r[0] = sum;";
    assert_eq!(evaluate(body, [3, 10, 20, 30, 40, 0, 0, 0])[0], 60);
}
