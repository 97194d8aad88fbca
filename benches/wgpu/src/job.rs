//! The messages of the yardsticks, their handlers as WGSL text, and the same handlers in Rust, which every answer is
//! checked against. The texts have the form that Ringwork's handlers have, so that its cases can run the very same.

use bytemuck::{Pod, Zeroable};

/// 64 bytes in.
#[repr(C, align(16))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
pub struct Job {
    pub seed: [u32; 4],
    pub left: [u32; 4],
    pub right: [u32; 4],
    pub weights: [f32; 4],
}

/// 64 bytes out.
#[repr(C, align(16))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Pod, Zeroable)]
pub struct Answer {
    pub seed: [u32; 4],
    pub mixed: [u32; 4],
    pub folded: [u32; 4],
    pub hash: u32,
    pub count: u32,
    pub sum: f32,
    pub largest: f32,
}

/// What [`Job`] and [`Answer`] are in WGSL.
pub const TYPES: &str = "
struct Job { seed: vec4<u32>, left: vec4<u32>, right: vec4<u32>, weights: vec4<f32> }
struct Answer {
    seed: vec4<u32>, mixed: vec4<u32>, folded: vec4<u32>,
    hash: u32, count: u32, sum: f32, largest: f32,
}
";

/// The handler without a state. It has no loop, because what is measured is the way of a message, not the handler.
pub const STATELESS: &str = "
fn on_message(m: Job) -> Answer {
    let mixed = (m.left ^ (m.seed * 0x9E3779B1u)) * 0x85EBCA77u + m.right;
    let folded = mixed ^ (mixed >> vec4<u32>(15u));
    let hash = (folded.x * 31u + folded.y) ^ (folded.z * 31u + folded.w);
    let w = m.weights;
    return Answer(m.seed, mixed, folded, hash, 1u, w.x + w.y + w.z + w.w, max(max(w.x, w.y), max(w.z, w.w)));
}
";

/// A state of 16 bytes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Tally {
    hash: u32,
    count: u32,
    sum: f32,
    largest: f32,
}

/// The handler with a state: each answer depends on all messages before it, so that a wrong order shows.
pub const STATEFUL: &str = "
struct Tally { hash: u32, count: u32, sum: f32, largest: f32 }
fn on_message(m: Job, s: ptr<function, Tally>) -> Answer {
    let mixed = (m.left ^ (m.seed * 0x9E3779B1u)) * 0x85EBCA77u + m.right;
    let folded = mixed ^ (mixed >> vec4<u32>(15u));
    (*s).hash = (*s).hash * 31u + ((folded.x * 31u + folded.y) ^ (folded.z * 31u + folded.w));
    (*s).count += 1u;
    (*s).sum += m.weights.x;
    (*s).largest = max((*s).largest, m.weights.y);
    return Answer(m.seed, mixed, folded, (*s).hash, (*s).count, (*s).sum, (*s).largest);
}
";

/// Jobs that no other call with another `first` makes. The weights are small multiples of 1/8: their sums are exact.
pub fn jobs(first: u32, count: usize) -> Vec<Job> {
    let job = |i: u32| {
        let base = i.wrapping_mul(0x9E37_79B1);
        let lane = |k: u32| base.rotate_left(k * 7).wrapping_add(k);
        let weight = |k: u32| (lane(k) >> 24) as f32 / 8.0;
        Job {
            seed: [i, !i, i.rotate_left(16), 7],
            left: [0, 1, 2, 3].map(lane),
            right: [4, 5, 6, 7].map(lane),
            weights: [1, 3, 5, 7].map(weight),
        }
    };
    (0..count as u32).map(|i| job(first.wrapping_add(i))).collect()
}

fn mix(m: &Job) -> ([u32; 4], [u32; 4], u32) {
    let mixed = std::array::from_fn(|i| {
        let left = m.left[i] ^ m.seed[i].wrapping_mul(0x9E37_79B1);
        left.wrapping_mul(0x85EB_CA77).wrapping_add(m.right[i])
    });
    let folded = mixed.map(|word: u32| word ^ (word >> 15));
    let pair = |i: usize| folded[i].wrapping_mul(31).wrapping_add(folded[i + 1]);
    (mixed, folded, pair(0) ^ pair(2))
}

/// [`STATELESS`] in Rust.
pub fn answer(m: &Job) -> Answer {
    let (mixed, folded, hash) = mix(m);
    let [x, y, z, w] = m.weights;
    Answer {
        seed: m.seed,
        mixed,
        folded,
        hash,
        count: 1,
        sum: x + y + z + w,
        largest: x.max(y).max(z.max(w)),
    }
}

/// [`STATEFUL`] in Rust.
pub fn tally(m: &Job, state: &mut Tally) -> Answer {
    let (mixed, folded, hash) = mix(m);
    state.hash = state.hash.wrapping_mul(31).wrapping_add(hash);
    state.count += 1;
    state.sum += m.weights[0];
    state.largest = state.largest.max(m.weights[1]);
    let Tally { hash, count, sum, largest } = *state;
    Answer { seed: m.seed, mixed, folded, hash, count, sum, largest }
}

/// Compares a round's answers with what the Rust twin of the handler says.
pub fn check<A: PartialEq + std::fmt::Debug>(
    got: &[A],
    wanted: impl ExactSizeIterator<Item = A>,
) -> Result<(), String> {
    if got.len() != wanted.len() {
        return Err(format!("{} answers to {} messages", got.len(), wanted.len()));
    }
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        if *got != wanted {
            return Err(format!("the answer to message {i} is {got:?}, but should be {wanted:?}"));
        }
    }
    Ok(())
}
