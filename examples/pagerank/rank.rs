//! PageRank on the device: the graph stays there, and an actor drives the kernels that update the ranks.
//!
//! After Page, Brin, Motwani and Winograd, "The PageRank citation ranking", 1999. Each node pulls: it adds up what those
//! that link to it give away, so no two invocations write one place. Nodes without links give all nodes the same.

use super::graph::Graph;
use ringwork::{ComputeKernel, ComputeOrchestrator, Context, Error, RingKernel, Runtime, UnifiedBuffer};
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};

const UPDATE: &str = "
/// A node's rank, by how much the last round changed it, and what part of it goes along each link; 0 if there is none.
struct Ranked { rank: f32, change: f32, part: f32 }
/// The least rank that a node has now, and how much of a rank is given away.
struct Rule { least: f32, damping: f32 }
@group(0) @binding(0) var<storage, read> rows: array<u32>;
@group(0) @binding(1) var<storage, read> sources: array<u32>;
@group(0) @binding(2) var<storage, read> given: array<f32>;
@group(0) @binding(3) var<storage, read_write> gives: array<f32>;
@group(0) @binding(4) var<storage, read_write> ranks: array<Ranked>;
@group(0) @binding(5) var<storage, read> rule: Rule;

@compute @workgroup_size(256)
fn update(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let node = id.x + id.y * groups.x * 256u;
    if node >= arrayLength(&ranks) { return; }
    let end = rows[node + 1u];
    var sum = 0.0;
    var edge = rows[node];
    // Four at a time where there are as many: their loads do not wait for each other.
    for (; edge + 4u <= end; edge += 4u) {
        sum += (given[sources[edge]] + given[sources[edge + 1u]])
            + (given[sources[edge + 2u]] + given[sources[edge + 3u]]);
    }
    for (; edge < end; edge++) { sum += given[sources[edge]]; }
    let rank = rule.least + rule.damping * sum;
    ranks[node].change = abs(rank - ranks[node].rank);
    ranks[node].rank = rank;
    gives[node] = rank * ranks[node].part;
}";

const TOTAL: &str = "
struct Ranked { rank: f32, change: f32, part: f32 }
struct Total { ranks: f32, stuck: f32, change: f32, unused: f32 }
@group(0) @binding(0) var<storage, read> ranks: array<Ranked>;
@group(0) @binding(1) var<storage, read_write> totals: array<Total>;

/// Each workgroup adds up neighbours: what its invocations read lies close together.
@compute @workgroup_size(64)
fn total(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
         @builtin(local_invocation_index) local: u32) {
    let nodes = arrayLength(&ranks);
    let share = (nodes + groups.x - 1u) / groups.x;
    let end = min(nodes, (group.x + 1u) * share);
    var sum: Total;
    for (var node = group.x * share + local; node < end; node += 64u) {
        let found = ranks[node];
        sum.ranks += found.rank;
        sum.change += found.change;
        if found.part == 0.0 { sum.stuck += found.rank; }
    }
    totals[group.x * 64u + local] = sum;
}";

/// A node: its rank, by how much the last round changed it, and what part of it goes along each of its links.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Ranked {
    pub rank: f32,
    pub change: f32,
    pub part: f32,
}

/// How a rank comes from those of others.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Rule {
    least: f32,
    damping: f32,
}

/// What one invocation adds up.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Total {
    ranks: f32,
    stuck: f32,
    change: f32,
    unused: f32,
}

/// Tells the actor to iterate once.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Iterate;

/// What a round came to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Of all nodes: the sum of what the round changed.
    pub change: f64,
    /// The sum of all ranks.
    pub sum: f64,
    /// The ranks of nodes without links, together.
    pub stuck: f64,
}

/// The actor's answer; a failure in words, because answers may travel as bytes.
pub type Answer = Result<Round, String>;

/// A graph on the device with the ranks of its nodes.
pub struct Ranking {
    orchestrator: ComputeOrchestrator,
    /// From one half of the shares to the other, and back.
    update: [ComputeKernel; 2],
    total: ComputeKernel,
    ranks: UnifiedBuffer<Ranked>,
    totals: UnifiedBuffer<Total>,
    rule: UnifiedBuffer<Rule>,
    nodes: usize,
    damping: f64,
    rounds: usize,
    /// Of the round before.
    last: Round,
}

/// Invocations that add up.
const PARTS: usize = 8192;

impl Ranking {
    /// Uploads a graph, which the caller need not keep; all ranks are equal.
    pub fn new(runtime: &Runtime, graph: &Graph, damping: f64) -> Result<Self, Error> {
        let nodes = graph.nodes();
        let orchestrator = runtime.orchestrator();
        let rank = 1.0 / nodes as f32;
        let rows = runtime.buffer(&graph.rows)?;
        // A graph of nodes alone has no sources, and a buffer has at least one element.
        let sources = runtime.buffer(if graph.sources.is_empty() { &[0] } else { &graph.sources[..] })?;
        let parts = graph.parts();
        let values: Vec<f32> = parts.iter().map(|part| rank * part).collect();
        let shares = [runtime.buffer(&values)?, runtime.buffer(&values)?];
        drop(values);
        let values: Vec<_> = parts.iter().map(|part| Ranked { rank, change: 0.0, part: *part }).collect();
        let ranks = runtime.buffer(&values)?;
        drop((parts, values));
        let rule = runtime.buffer(&[Rule { least: 0.0, damping: damping as f32 }])?;
        let totals =
            runtime.buffer(&vec![Total { ranks: 0.0, stuck: 0.0, change: 0.0, unused: 0.0 }; PARTS])?;
        let update = orchestrator.kernel(UPDATE, "update")?.loop_budget(graph.largest_in_degree() + 1);
        let update = [(0, 1), (1, 0)].map(|(given, gives)| {
            let update = update.clone().bind("rows", &rows).bind("sources", &sources);
            let update = update.bind("rule", &rule).bind("ranks", &ranks);
            update.bind("given", &shares[given]).bind("gives", &shares[gives])
        });
        let total = orchestrator.kernel(TOTAL, "total")?.loop_budget((nodes / PARTS) as u32 + 2);
        let total = total.bind("ranks", &ranks).bind("totals", &totals);
        let stuck = graph.out_degrees.iter().filter(|degree| **degree == 0).count() as f64 / nodes as f64;
        let last = Round { change: f64::INFINITY, sum: 1.0, stuck };
        Ok(Self { orchestrator, update, total, ranks, totals, rule, nodes, damping, rounds: 0, last })
    }

    /// The ranks, wherever they are; they change as long as the actor is told to iterate.
    pub fn ranks(&self) -> UnifiedBuffer<Ranked> {
        self.ranks.clone()
    }

    /// What remembers how long each kernel took.
    pub fn orchestrator(&self) -> ComputeOrchestrator {
        self.orchestrator.clone()
    }

    /// One round over all nodes.
    pub fn iterate(&mut self) -> Result<Round, Error> {
        // What is not given along links, all nodes get alike. It is made up from what is there, in double precision, so
        // that rounding does not let the sum of all ranks drift away from 1.
        let least = (1.0 - self.damping * (self.last.sum - self.last.stuck)) / self.nodes as f64;
        self.rule.copy_from(&[Rule { least: least as f32, damping: self.damping as f32 }])?;
        let groups = self.nodes.div_ceil(256) as u32;
        let rows = groups.div_ceil(65_535);
        self.update[self.rounds % 2].dispatch([groups.div_ceil(rows), rows, 1])?;
        self.total.dispatch([PARTS as u32 / 64, 1, 1])?;
        let mut round = Round { change: 0.0, sum: 0.0, stuck: 0.0 };
        for part in self.totals.host()?.iter() {
            round.change += f64::from(part.change);
            round.sum += f64::from(part.ranks);
            round.stuck += f64::from(part.stuck);
        }
        self.rounds += 1;
        self.last = round;
        Ok(round)
    }

    /// The actor that owns the ranking: it iterates once for each message.
    pub fn into_actor(self) -> RingKernel<Iterate, Answer> {
        // A kernel may be started again, so its function is shared; the lock is never waited for.
        let ranking = Mutex::new(self);
        RingKernel::host("pagerank", move |context: &mut Context<Iterate, Answer>| {
            let mut ranking = ranking.lock().unwrap_or_else(PoisonError::into_inner);
            while context.receive().is_some() {
                context.reply(ranking.iterate().map_err(|error| error.to_string()));
            }
        })
    }
}
