//! A Monte Carlo estimate of pi with a xorshift generator in a private variable.

use super::{Random, Realistic, Table};
use ringwork::message;

message! {
    /// A seed, and how many points to try.
    pub struct Trial { pub seed: u32, pub points: u32 }

    /// How many were inside, what their distances add up to, and the generator's end.
    pub struct Hits { pub inside: u32, pub distance: f32, pub seed: u32 }
}

/// Tries points.
pub struct MonteCarlo;

impl Realistic for MonteCarlo {
    const NAME: &'static str = "Monte Carlo";
    const TEXT: &'static str = "var<private> seed: u32;
fn next() -> u32 {
    seed ^= seed << 13u;
    seed ^= seed >> 17u;
    seed ^= seed << 5u;
    return seed;
}
fn unit() -> f32 { return f32(next() >> 8u) / 8388608.0 - 1.0; }
fn on_message(m: Trial) -> Hits {
    seed = m.seed;
    var hits: Hits;
    for (var i = 0u; i < m.points; i++) {
        let x = unit();
        let y = unit();
        let d = x * x + y * y;
        if d <= 1.0 { hits.inside++; hits.distance += sqrt(d); }
    }
    hits.seed = seed;
    return hits;
}";

    type In = Trial;
    type Out = Hits;
    type State = ();
    type Emitted = ();
    type Tables = ();

    fn messages(count: usize) -> Vec<Trial> {
        (1..=count as u32).map(|i| Trial { seed: i.wrapping_mul(7919) | 1, points: 20 * (i % 5) }).collect()
    }

    fn tables() {}

    fn bound(_: &()) -> Vec<Table> {
        Vec::new()
    }

    fn twin(m: Trial, _: &mut (), _: &(), _: &mut Vec<()>) -> Hits {
        let (mut random, mut hits) = (Random(m.seed), Hits::default());
        for _ in 0..m.points {
            let (x, y) = (random.float(), random.float());
            let d = x * x + y * y;
            if d <= 1.0 {
                hits.inside += 1;
                hits.distance += d.sqrt();
            }
        }
        hits.seed = random.0;
        hits
    }
}
