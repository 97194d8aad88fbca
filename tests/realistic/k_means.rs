//! One step of k-means: points are assigned to the nearest centre; a second kernel gathers them, an instance each.

use super::{Random, Realistic, Table};
use ringwork::{Vec2, message};

message! {
    /// A point to be assigned to a cluster.
    pub struct Sample { pub at: Vec2, pub to: u32, pub weight: f32 }

    /// The nearest cluster.
    pub struct Nearest { pub cluster: u32, pub distance: f32 }

    /// What one cluster's instance keeps.
    pub struct Gathered { pub sum: Vec2, pub weight: f32, pub count: u32 }
}

/// Assigns points by a table of centres.
pub struct KMeans;

impl Realistic for KMeans {
    const NAME: &'static str = "k-means";
    const TEXT: &'static str = "@group(1) @binding(0) var<storage, read> centres: array<vec2<f32>>;
fn on_message(m: Sample) -> Nearest {
    var best = Nearest(0u, 1e30);
    for (var i = 0u; i < arrayLength(&centres); i++) {
        let dx = m.at.x - centres[i].x;
        let dy = m.at.y - centres[i].y;
        let d = dx * dx + dy * dy;
        if d < best.distance { best = Nearest(i, d); }
    }
    emit_assigned(Sample(m.at, best.cluster, m.weight));
    best.distance = sqrt(best.distance);
    return best;
}";
    const OUTPUT: Option<(&'static str, u32)> = Some(("assigned", 1));

    type In = Sample;
    type Out = Nearest;
    type State = ();
    type Emitted = Sample;
    type Tables = Vec<[f32; 2]>;

    fn messages(count: usize) -> Vec<Sample> {
        let mut random = Random(43);
        let mut point = || Vec2::new(random.float(), random.float());
        (0..count).map(|i| Sample { at: point(), to: 0, weight: (i % 7) as f32 * 0.25 }).collect()
    }

    fn tables() -> Self::Tables {
        let mut random = Random(41);
        (0..8).map(|_| [random.float(), random.float()]).collect()
    }

    fn bound(centres: &Self::Tables) -> Vec<Table> {
        vec![Table::new("centres", centres)]
    }

    fn twin(m: Sample, _: &mut (), centres: &Self::Tables, emitted: &mut Vec<Sample>) -> Nearest {
        let mut best = Nearest { cluster: 0, distance: 1e30 };
        for (i, centre) in centres.iter().enumerate() {
            let (dx, dy) = (m.at.x - centre[0], m.at.y - centre[1]);
            let d = dx * dx + dy * dy;
            if d < best.distance {
                best = Nearest { cluster: i as u32, distance: d };
            }
        }
        emitted.push(Sample { to: best.cluster, ..m });
        best.distance = best.distance.sqrt();
        best
    }
}

/// The second kernel: what is assigned to a cluster adds up in its instance.
pub const GATHER: &str = "fn on_message(m: Sample, s: ptr<function, Gathered>) {
    (*s).sum += m.at * m.weight;
    (*s).weight += m.weight;
    (*s).count += 1u;
}";

/// Its twin.
pub fn gather(m: Sample, s: &mut Gathered) {
    s.sum.x += m.at.x * m.weight;
    s.sum.y += m.at.y * m.weight;
    s.weight += m.weight;
    s.count += 1;
}
