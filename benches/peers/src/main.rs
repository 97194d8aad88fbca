//! Ringwork against its yardsticks (bare rings, flume, a plain loop) and its peers (actix, ractor, kameo), in one
//! run, because only numbers taken side by side on one machine can be compared.
//!
//! ```text
//! cargo run --release --manifest-path benches/peers/Cargo.toml -- [--quick] [--rounds N] [--only NAME] [--out FILE]
//! ```
//!
//! `--quick` takes short samples in few rounds, `--only` keeps the cases whose `group/name` contains one of the
//! comma-separated words. With `--no-default-features` Ringwork itself is left out. Linux only.

mod actix;
mod actors;
mod harness;
mod kameo;
mod machine;
mod placement;
mod ractor;
mod report;
mod ring;
#[cfg(feature = "ringwork")]
mod ringwork_cases;
#[cfg(feature = "ringwork")]
mod ringwork_memory;
mod summary;
mod targets;
mod workload;
mod yardsticks;

use harness::{Board, Scale, Unit};

/// Counts allocations where the memory cases ask for it.
#[cfg(feature = "ringwork")]
#[global_allocator]
static ALLOCATOR: ringwork_memory::Counting = ringwork_memory::Counting;

#[derive(Default)]
struct Arguments {
    quick: bool,
    rounds: Option<usize>,
    only: Vec<String>,
    out: Option<String>,
    /// A memory case, measured in a process of its own; given by a run to its children.
    #[cfg(feature = "ringwork")]
    memory: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--quick" => found.quick = true,
            "--rounds" => {
                let rounds = value()?.parse().ok().filter(|&n| n > 0);
                found.rounds = Some(rounds.ok_or("--rounds needs a number above 0")?);
            }
            "--only" => found.only = value()?.split(',').map(String::from).collect(),
            "--out" => found.out = Some(value()?),
            #[cfg(feature = "ringwork")]
            "--memory" => found.memory = Some(value()?),
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    Ok(found)
}

fn board(scale: Scale) -> Board {
    use Unit::*;
    let mut board = Board::new(scale);
    board
        .group(
            "ask",
            "Ask, one at a time",
            &[
                ("p50", Nanoseconds),
                ("p99", Nanoseconds),
                ("p50 in runs", Nanoseconds),
                ("mean", Nanoseconds),
            ],
        )
        .group("in-flight", "64 requests in flight from one thread", &[("requests", PerSecond)])
        .group("one-way", "One sender, the handler run on each message", &[("messages", PerSecond)])
        .group("instances", "One message to each of 100,000 actors", &[("a pass", Milliseconds)]);
    yardsticks::cases(&mut board);
    actix::cases(&mut board);
    ractor::cases(&mut board);
    kameo::cases(&mut board);
    #[cfg(feature = "ringwork")]
    {
        ringwork_cases::cases(&mut board);
        board
            .steady_group(
                "resident",
                "Resident memory under load",
                &[("growth", Bytes), ("after 10 M messages", Bytes), ("after 50 M messages", Bytes)],
            )
            .steady_group(
                "idle",
                "An idle kernel's memory",
                &[("beyond its slots", Bytes), ("with its slots", Bytes)],
            )
            .steady_group("allocations", "Allocations", &[("per ask", Count), ("per send", Count)]);
        ringwork_memory::cases(&mut board);
    }
    board
}

fn main() {
    let arguments = arguments().unwrap_or_else(|problem| {
        eprintln!("{problem}\nusage: [--quick] [--rounds N] [--only NAME[,NAME…]] [--out FILE]");
        std::process::exit(2);
    });
    let scale = Scale { quick: arguments.quick };
    #[cfg(feature = "ringwork")]
    if let Some(case) = &arguments.memory {
        return ringwork_memory::measure_here(case);
    }
    let rounds = arguments.rounds.unwrap_or(if scale.quick { 3 } else { 9 });
    let head = report::head(rounds, scale);
    let mut board = board(scale);
    if !arguments.only.is_empty() {
        board.keep(&arguments.only);
    }
    board.run(rounds, scale);
    let text = report::text(&head, &board);
    print!("{text}");
    if let Some(path) = arguments.out
        && let Err(error) = std::fs::write(&path, &text)
    {
        eprintln!("{path}: {error}");
        std::process::exit(1);
    }
}
