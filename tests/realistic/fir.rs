//! A FIR filter of 16 taps over a signal that comes value by value.

use super::{Random, Realistic, Table};
use ringwork::message;

message! {
    /// One value of a signal.
    pub struct Value { pub x: f32 }

    /// The filter's memory: a ring of the last 16 values.
    pub struct Line { pub past: [f32; 16], pub at: u32 }
}

/// Filters a signal.
pub struct Fir;

impl Realistic for Fir {
    const NAME: &'static str = "FIR filter";
    const TEXT: &'static str = "const N = 16u;
@group(1) @binding(0) var<storage, read> taps: array<f32, 16>;
fn on_message(m: Value, line: ptr<function, Line>) -> Value {
    (*line).past[(*line).at] = m.x;
    var y = 0.0;
    for (var k = 0u; k < N; k++) { y += taps[k] * (*line).past[((*line).at + N - k) % N]; }
    (*line).at = ((*line).at + 1u) % N;
    return Value(y);
}";

    type In = Value;
    type Out = Value;
    type State = Line;
    type Emitted = ();
    type Tables = [f32; 16];

    fn messages(count: usize) -> Vec<Value> {
        let mut random = Random(13);
        (0..count).map(|_| Value { x: random.float() }).collect()
    }

    fn tables() -> [f32; 16] {
        let mut random = Random(11);
        [0; 16].map(|_| random.float() * 0.1)
    }

    fn bound(taps: &[f32; 16]) -> Vec<Table> {
        vec![Table::new("taps", taps)]
    }

    fn twin(m: Value, line: &mut Line, taps: &[f32; 16], _: &mut Vec<()>) -> Value {
        let last = line.past.len() as u32 - 1;
        line.past[line.at.min(last) as usize] = m.x;
        let mut y = 0.0;
        for (k, tap) in (0..).zip(taps) {
            y += tap * line.past[(line.at.wrapping_add(16 - k) % 16) as usize];
        }
        line.at = line.at.wrapping_add(1) % 16;
        Value { x: y }
    }
}
