//! PageRank of a large generated graph beside a plain multi-threaded loop over the same graph, and what memory it takes.
//!
//! ```text
//! cargo bench --bench pagerank -- [--nodes N] [--edges M] [--rounds R]
//! RINGWORK_BACKEND=wgpu cargo bench --bench pagerank -- --nodes 100000
//! ```
//!
//! On the CPU backend unless `RINGWORK_BACKEND` says otherwise; 1,000,000 nodes, 10,000,000 edges and 31 rounds unless told.
//! The actor of `examples/pagerank` and the loop take turns, round by round, and the ranks are compared at the end.
//! The loop is what one would write in Rust with rayon: single precision, indices checked, on as many
//! threads as the backend has, with the same arrays, edge by edge. Memory is what the process has at most, from the moment before
//! the buffers are made until the last round, beside the bytes of the graph's two arrays; Linux only.

#[path = "../examples/pagerank/graph.rs"]
#[allow(dead_code, unused_imports, reason = "the example calls more of it, and its tests run elsewhere")]
mod graph;
#[path = "../examples/pagerank/rank.rs"]
mod rank;

use graph::Graph;
use rank::{Iterate, Ranking};
use rayon::prelude::*;
use ringwork::{BackendKind, Runtime};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(600);
const DAMPING: f32 = 0.85;

/// The same algorithm as the device's, in plain Rust.
struct Plain {
    graph: Graph,
    parts: Vec<f32>,
    given: Vec<f32>,
    gives: Vec<f32>,
    ranks: Vec<f32>,
    sum: f64,
    stuck: f64,
}

impl Plain {
    fn new(graph: Graph) -> Self {
        let nodes = graph.nodes();
        let rank = 1.0 / nodes as f32;
        let parts = graph.parts();
        let given: Vec<f32> = parts.iter().map(|part| rank * part).collect();
        let stuck = graph.out_degrees.iter().filter(|degree| **degree == 0).count() as f64 / nodes as f64;
        Self { graph, parts, gives: given.clone(), given, ranks: vec![rank; nodes], sum: 1.0, stuck }
    }

    /// A round; returns the sum of changes.
    fn iterate(&mut self) -> f64 {
        let nodes = self.graph.nodes();
        let least = ((1.0 - f64::from(DAMPING) * (self.sum - self.stuck)) / nodes as f64) as f32;
        // As the backend does it: so many pieces that one that takes longer does not hold up all.
        let piece = nodes.div_ceil(rayon::current_num_threads() * 16);
        let (graph, shares, given) = (&self.graph, &self.parts, &self.given);
        let parts = self.ranks.par_chunks_mut(piece).zip(self.gives.par_chunks_mut(piece)).enumerate();
        let sums = parts.map(|(part, (ranks, gives))| {
            let (mut sum, mut stuck, mut change) = (0.0, 0.0, 0.0);
            for (index, (rank, gives)) in ranks.iter_mut().zip(gives).enumerate() {
                let node = part * piece + index;
                let pulled: f32 = graph.sources_of(node).iter().map(|from| given[*from as usize]).sum();
                let new = least + DAMPING * pulled;
                let share = shares[node];
                change += f64::from((new - *rank).abs());
                sum += f64::from(new);
                if share == 0.0 {
                    stuck += f64::from(new);
                }
                *rank = new;
                *gives = new * share;
            }
            [sum, stuck, change]
        });
        let [sum, stuck, change] = sums.reduce(|| [0.0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
        std::mem::swap(&mut self.given, &mut self.gives);
        (self.sum, self.stuck) = (sum, stuck);
        change
    }
}

/// Kilobytes behind this name in what Linux says of the process.
fn status(name: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse().ok()
}

/// Forgets the most memory that the process has had; what it has now, in megabytes.
fn begin_to_count_memory() -> Option<f64> {
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(status("VmRSS")? * 1024.0 / 1e6)
}

fn arguments() -> Option<[usize; 3]> {
    let mut values = [1_000_000, 10_000_000, 31];
    // Cargo's own comes last.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let index = ["--nodes", "--edges", "--rounds"].iter().position(|option| *option == word)?;
        values[index] = words.next()?.parse().ok().filter(|value| *value >= 2)?;
    }
    Some(values)
}

/// Median, and 10th and 90th percentile, in milliseconds.
fn percentiles(times: &mut [Duration]) -> [f64; 3] {
    times.sort();
    [50, 10, 90].map(|percent| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3)
}

fn main() {
    let Some([nodes, edges, rounds]) = arguments() else {
        eprintln!("usage: [--nodes N] [--edges M] [--rounds R]");
        std::process::exit(2);
    };
    let kind = std::env::var("RINGWORK_BACKEND").map_or(Ok(BackendKind::Cpu), |name| name.parse());
    let runtime = Runtime::builder().backend(kind.expect("a backend")).build().expect("it is there");
    println!("{}", runtime.capabilities().expect("it opens").name);
    let (graph, _) = Graph::scale_free(nodes, edges, 1);
    let bytes = (size_of_val(&graph.rows[..]) + size_of_val(&graph.sources[..])) as f64;
    println!(
        "{} nodes, {} edges, at most {} to one node; rows and sources {:.1} MB",
        graph.nodes(),
        graph.sources.len(),
        graph.largest_in_degree(),
        bytes / 1e6
    );

    let before = begin_to_count_memory();
    let ranking = Ranking::new(&runtime, &graph, f64::from(DAMPING)).expect("there is memory");
    let (ranks, orchestrator) = (ranking.ranks(), ranking.orchestrator());
    let actor = runtime.launch(ranking.into_actor()).expect("it launches");
    actor.activate().expect("it was launched");
    let ask = || actor.ask(Iterate, PATIENCE).expect("it answers").expect("it runs");
    // One round each that does not count, for what is done once.
    ask();
    let most = before.and_then(|before| Some(status("VmHWM")? * 1024.0 / 1e6 - before));

    let mut plain = Plain::new(graph);
    plain.iterate();
    let (mut of_actor, mut of_plain) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        ask();
        of_actor.push(begun.elapsed());
        let begun = Instant::now();
        plain.iterate();
        of_plain.push(begun.elapsed());
    }
    let found: Vec<f64> =
        ranks.host().expect("it can be read").iter().map(|one| f64::from(one.rank)).collect();
    let off: f64 =
        found.iter().zip(&plain.ranks).map(|(found, plain)| (found - f64::from(*plain)).abs()).sum();
    assert!(off < 1e-5, "the ranks differ by {off}");

    println!("{rounds} rounds each, taking turns; ranks differ by {off:.1e} together");
    let mut medians = Vec::new();
    for (name, times) in [("rayon", &mut of_plain), ("ringwork", &mut of_actor)] {
        let [median, low, high] = percentiles(times);
        println!("  {name:<10} median {median:>8.2} ms, p10 {low:>8.2}, p90 {high:>8.2}");
        medians.push(median);
    }
    for entry in ["update", "total"] {
        let history = orchestrator.history();
        let mut times: Vec<_> =
            history.iter().filter(|one| one.entry == entry).map(|one| one.duration).collect();
        println!("    its kernel `{entry}` median {:.2} ms", percentiles(&mut times)[0]);
    }
    println!("  ringwork takes {:.2} times as long as rayon", medians[1] / medians[0]);
    match most {
        Some(most) => println!("  memory: {most:.1} MB at most, {:.2} times the graph", most * 1e6 / bytes),
        None => println!("  memory: not known on this system"),
    }
}
