//! PageRank: each vertex adds up what flows into it.

use super::{Random, Realistic, Table, at};
use ringwork::message;

message! {
    /// A vertex to work on.
    pub struct Vertex { pub id: u32 }

    /// What flows into it.
    pub struct Rank { pub rank: f32, pub degree: u32 }
}

/// Reads the ranks of one round and replies with those of the next.
pub struct PageRank;

/// Edges in compressed sparse rows: vertex `v` is entered from `sources[starts[v] .. starts[v + 1]]`.
pub struct Graph {
    pub starts: Vec<u32>,
    pub sources: Vec<u32>,
    /// Edges that leave a vertex.
    pub out_degree: Vec<u32>,
    /// The rank of a vertex divided by its edges.
    pub shares: Vec<f32>,
}

impl Graph {
    /// How many vertices there are.
    pub const VERTICES: usize = 300;

    /// Shares from ranks.
    pub fn share(&mut self, ranks: &[f32]) {
        let shares = ranks.iter().zip(&self.out_degree);
        self.shares = shares.map(|(rank, degree)| rank / (*degree).max(1) as f32).collect();
    }
}

impl Realistic for PageRank {
    const NAME: &'static str = "PageRank";
    const TEXT: &'static str = "@group(1) @binding(0) var<storage, read> starts: array<u32>;
@group(1) @binding(1) var<storage, read> sources: array<u32>;
@group(1) @binding(2) var<storage, read> shares: array<f32>;
fn on_message(m: Vertex) -> Rank {
    var sum = 0.0;
    let end = starts[m.id + 1u];
    for (var e = starts[m.id]; e < end; e++) { sum += shares[sources[e]]; }
    return Rank(0.15 / f32(arrayLength(&shares)) + 0.85 * sum, end - starts[m.id]);
}";

    type In = Vertex;
    type Out = Rank;
    type State = ();
    type Emitted = ();
    type Tables = Graph;

    fn messages(count: usize) -> Vec<Vertex> {
        (0..count).map(|i| Vertex { id: (i % Graph::VERTICES) as u32 }).collect()
    }

    fn tables() -> Graph {
        let count = Graph::VERTICES;
        let mut random = Random(8);
        let mut vertex = || random.below(count as u32) as usize;
        let edges: Vec<(usize, usize)> = (0..count * 4).map(|_| (vertex(), vertex())).collect();
        let mut out_degree = vec![0; count];
        edges.iter().for_each(|(from, _)| out_degree[*from] += 1);
        let (mut starts, mut sources) = (vec![0], Vec::new());
        for vertex in 0..count {
            sources.extend(edges.iter().filter(|(_, to)| *to == vertex).map(|(from, _)| *from as u32));
            starts.push(sources.len() as u32);
        }
        let mut graph = Graph { starts, sources, out_degree, shares: Vec::new() };
        graph.share(&vec![1.0 / count as f32; count]);
        graph
    }

    fn bound(graph: &Graph) -> Vec<Table> {
        vec![
            Table::new("starts", &graph.starts),
            Table::new("sources", &graph.sources),
            Table::new("shares", &graph.shares),
        ]
    }

    fn twin(m: Vertex, _: &mut (), graph: &Graph, _: &mut Vec<()>) -> Rank {
        let mut sum = 0.0;
        let end = at(&graph.starts, m.id.wrapping_add(1));
        for e in at(&graph.starts, m.id)..end {
            sum += at(&graph.shares, at(&graph.sources, e));
        }
        let degree = end.wrapping_sub(at(&graph.starts, m.id));
        Rank { rank: 0.15 / graph.shares.len() as f32 + 0.85 * sum, degree }
    }
}
