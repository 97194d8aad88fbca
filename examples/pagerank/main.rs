//! PageRank of an edge list or a generated graph, on any backend: the graph stays on the device, and an actor drives the
//! kernels that update the ranks.
//!
//! ```text
//! cargo run --release --example pagerank -- examples/data/links.txt
//! cargo run --release --example pagerank -- --nodes 1000000 --edges 10000000 --plot ranks.svg
//! cargo run --release --example pagerank -- --backend wgpu --nodes 10000
//! ```
//!
//! Prints each round's change until that is below the tolerance, compares the ranks with those of a plain loop in double
//! precision, and prints the nodes that rank highest.

mod graph;
mod plot;
mod rank;
mod read;
mod reference;

use graph::{Graph, LeftOut};
use rank::{Iterate, Ranked, Ranking};
use ringwork::{BackendKind, Runtime};
use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "\
usage: pagerank [OPTIONS] FILE
       pagerank [OPTIONS] --nodes N [--edges M] [--seed S]

Ranks the nodes of the edge list FILE (two node ids a line, # begins a comment), or those of a generated graph with N nodes
and about M edges (ten times as many unless given; S is 1 unless given).

  --backend B     auto, cpu, wgpu or cuda; auto unless given
  --damping D     the part of a rank that is given along links; 0.85 unless given
  --tolerance T   stop when a round changes all ranks together by less; 1e-6 unless given
  --rounds R      stop after so many rounds in any case; 100 unless given
  --top K         nodes to print; 10 unless given
  --plot FILE     draw convergence and the distribution of ranks as SVG
";

/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How far the sum of all ranks may be from 1.
const MOST_OFF: f64 = 1e-6;
/// How far ranks may be from the reference's, all differences together: some thousand rounding errors of single precision,
/// of which each is relative to its rank.
const MOST_DIFFERENT: f64 = 1e-5;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprint!("pagerank: {wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pagerank: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Where the graph comes from.
enum Origin {
    File(PathBuf),
    Generated { nodes: usize, edges: usize, seed: u64 },
}

/// What the command line says.
struct Arguments {
    origin: Origin,
    backend: BackendKind,
    damping: f64,
    tolerance: f64,
    rounds: usize,
    top: usize,
    plot: Option<PathBuf>,
}

impl Arguments {
    /// `None` asks for help.
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, String> {
        let (mut nodes, mut edges, mut seed, mut plot) = (None, None, None, None);
        let (mut backend, mut damping, mut tolerance) = (BackendKind::Auto, 0.85, 1e-6);
        let (mut rounds, mut top) = (100, 10);
        let (mut files, mut only_files) = (Vec::new(), false);
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy().into_owned();
            if only_files || !text.starts_with('-') {
                files.push(PathBuf::from(argument));
                continue;
            }
            let (option, given) = match text.split_once('=') {
                Some((option, value)) => (option, Some(OsString::from(value))),
                None => (text.as_str(), None),
            };
            let mut value = || {
                given.clone().or_else(|| arguments.next()).ok_or_else(|| format!("{option} needs a value"))
            };
            match option {
                "--" => only_files = true,
                "-h" | "--help" => return Ok(None),
                "--backend" => {
                    let value = value()?.to_string_lossy().into_owned();
                    backend = value.parse().map_err(|error| format!("{error}"))?;
                }
                "--damping" => {
                    damping = number(option, value()?, "a number from 0 to 1", |d| (0.0..=1.0).contains(d))?;
                }
                "--tolerance" => tolerance = number(option, value()?, "a number above 0", |t| *t > 0.0)?,
                "--rounds" => rounds = number(option, value()?, "a whole number above 0", |r| *r > 0)?,
                "--top" => top = number(option, value()?, "a whole number", |_| true)?,
                // What the device indexes with 32 bits; the examples' generator needs two nodes.
                "--nodes" => {
                    let fits = |n: &usize| (2..1 << 31).contains(n);
                    nodes = Some(number(option, value()?, "a whole number from 2 to 2^31 - 1", fits)?);
                }
                "--edges" => {
                    let fits = |n: &usize| (1..1 << 31).contains(n);
                    edges = Some(number(option, value()?, "a whole number from 1 to 2^31 - 1", fits)?);
                }
                "--seed" => seed = Some(number(option, value()?, "a whole number", |_| true)?),
                "--plot" => plot = Some(PathBuf::from(value()?)),
                _ => return Err(format!("unknown option {text}")),
            }
        }
        let origin = match (files.pop(), nodes) {
            (Some(_), _) if !files.is_empty() => return Err("more than one file".to_owned()),
            (Some(_), Some(_)) => {
                return Err("a file and --nodes: the graph is either read or made".to_owned());
            }
            (Some(_), None) if edges.is_some() || seed.is_some() => {
                return Err("--edges and --seed go with --nodes, not with a file".to_owned());
            }
            (Some(file), None) => Origin::File(file),
            (None, Some(nodes)) => {
                let edges = edges.unwrap_or_else(|| nodes.saturating_mul(10).min((1 << 31) - 1));
                Origin::Generated { nodes, edges, seed: seed.unwrap_or(1) }
            }
            (None, None) => return Err("neither a file nor --nodes".to_owned()),
        };
        Ok(Some(Self { origin, backend, damping, tolerance, rounds, top, plot }))
    }
}

fn number<T: std::str::FromStr>(
    option: &str,
    value: OsString,
    what: &str,
    fits: impl Fn(&T) -> bool,
) -> Result<T, String> {
    let text = value.to_string_lossy();
    let number = text.parse().ok().filter(fits);
    number.ok_or_else(|| format!("{option} is `{text}`, but must be {what}"))
}

/// The graph, and the ids of its nodes if they are not their numbers.
fn load(origin: &Origin) -> Result<(Graph, Option<Vec<u64>>, LeftOut), String> {
    match origin {
        Origin::Generated { nodes, edges, seed } => {
            let (graph, left_out) = Graph::scale_free(*nodes, *edges, *seed);
            Ok((graph, None, left_out))
        }
        Origin::File(path) => {
            let place = path.display();
            let file = File::open(path).map_err(|error| format!("cannot read {place}: {error}"))?;
            let read = read::read(BufReader::with_capacity(1 << 20, file));
            let read = read.map_err(|wrong| format!("{place}: {wrong}"))?;
            Ok((read.graph, Some(read.ids), read.left_out))
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let begun = Instant::now();
    let (graph, ids, left_out) = load(&arguments.origin)?;
    println!(
        "graph      {} nodes, {} edges, {} duplicates and {} self edges left out, {} nodes without links; {:.1?}",
        graph.nodes(),
        graph.sources.len(),
        left_out.duplicates,
        left_out.to_itself,
        graph.out_degrees.iter().filter(|degree| **degree == 0).count(),
        begun.elapsed()
    );
    let runtime = Runtime::builder().backend(arguments.backend).build()?;
    println!("device     {}: {}", runtime.capabilities()?.name, runtime.why());

    let ranking = Ranking::new(&runtime, &graph, arguments.damping)?;
    let (buffer, orchestrator) = (ranking.ranks(), ranking.orchestrator());
    let actor = runtime.launch(ranking.into_actor())?;
    actor.activate()?;
    let begun = Instant::now();
    let mut changes = Vec::new();
    let mut sum = 1.0;
    while changes.len() < arguments.rounds {
        let round = actor.ask(Iterate, PATIENCE)??;
        changes.push(round.change);
        sum = round.sum;
        println!("round {:>4} change {:.3e}, ranks sum to {:.9}", changes.len(), round.change, round.sum);
        if round.change < arguments.tolerance {
            break;
        }
    }
    let took = begun.elapsed();
    let rounds = changes.len();
    let last = changes.last().copied().unwrap_or(f64::INFINITY);
    let verdict = if last < arguments.tolerance { "converged" } else { "not converged" };
    let speed = graph.sources.len() as f64 * rounds as f64 / took.as_secs_f64() / 1e6;
    println!("rounds     {rounds}, {verdict}; {took:.1?}, {speed:.1} million edges a second");
    for entry in ["update", "total"] {
        let mut times: Vec<_> = orchestrator.history().into_iter().filter(|one| one.entry == entry).collect();
        times.sort_by_key(|one| one.duration);
        if let Some(median) = times.get(times.len() / 2) {
            println!("kernel     {entry}, {:.3?} a round, run by {}", median.duration, median.engine);
        }
    }
    actor.terminate(PATIENCE)?;

    let ranks: Vec<f32> = buffer.host()?.iter().map(|ranked: &Ranked| ranked.rank).collect();
    let expected = reference::ranks(&graph, arguments.damping, rounds);
    let off: f64 =
        ranks.iter().zip(&expected).map(|(rank, expected)| (f64::from(*rank) - expected).abs()).sum();
    println!(
        "checked    ranks sum to 1 {:+.1e}; from the reference they differ by {off:.1e} together",
        sum - 1.0
    );
    if sum.is_nan() || (sum - 1.0).abs() > MOST_OFF {
        return Err(format!("the ranks sum to {sum}").into());
    }
    if off.is_nan() || off > MOST_DIFFERENT {
        return Err(format!("the ranks differ from the reference's by {off}").into());
    }

    let mut order: Vec<usize> = (0..ranks.len()).collect();
    order.sort_by(|a, b| ranks[*b].total_cmp(&ranks[*a]).then(a.cmp(b)));
    for (place, node) in order.into_iter().take(arguments.top).enumerate() {
        let id = ids.as_ref().map_or(node as u64, |ids| ids[node]);
        println!("{:>4}. {id} {:.6e}", place + 1, ranks[node]);
    }
    if let Some(path) = &arguments.plot {
        let drawn = plot::draw(path, &changes, &ranks);
        drawn.map_err(|error| format!("cannot draw {}: {error}", path.display()))?;
        println!("drawn      {}", path.display());
    }
    runtime.shutdown(PATIENCE)?;
    Ok(())
}
