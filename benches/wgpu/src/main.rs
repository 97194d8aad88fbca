//! Yardsticks of the wgpu backend: what programs reach that are written by hand for one job with wgpu alone, in one
//! run on one adapter, because only numbers taken side by side can be compared.
//!
//! ```text
//! cargo run --release --manifest-path benches/wgpu/Cargo.toml -- [--rounds N] [--only NAME[,NAME…]] [--out FILE]
//! ```
//!
//! `--only` keeps the cases whose `group/name` contains one of the words. Linux and Vulkan only.

mod chains;
mod expert;
mod floor;
mod gpu;
mod harness;
mod instances;
mod job;
mod lane;
mod library;
mod machine;
mod naive;
mod report;
mod serial;

use gpu::Gpu;
use harness::{Board, Case, Entry, Goal, Group, Show};
use std::sync::Arc;

#[derive(Default)]
struct Arguments {
    rounds: Option<usize>,
    only: Vec<String>,
    out: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => {
                let rounds = value()?.parse().ok().filter(|&n| n > 0);
                found.rounds = Some(rounds.ok_or("--rounds needs a number above 0")?);
            }
            "--only" => found.only = value()?.split(',').map(String::from).collect(),
            "--out" => found.out = Some(value()?),
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    Ok(found)
}

fn group(
    name: &'static str,
    title: &'static str,
    messages: usize,
    show: Show,
    cases: Vec<Box<dyn Case>>,
) -> Group {
    let entries = cases.into_iter().map(|case| Entry { case, samples: vec![] }).collect();
    Group { name, title, messages, show, entries }
}

fn board(gpu: &Arc<Gpu>) -> Result<Board, String> {
    use Show::*;
    let kernels = 64 * serial::KERNELS;
    let and = |mut cases: Vec<Box<dyn Case>>, more: Vec<Box<dyn Case>>| {
        cases.extend(more);
        cases
    };
    let batches =
        |batch| Ok::<_, String>(and(expert::cases(gpu, batch), vec![library::batches(gpu, batch)?]));
    let groups = vec![
        group(
            "floor",
            "One 64-byte job there and back",
            1,
            Time,
            and(floor::cases(gpu), vec![library::ask(gpu)?]),
        ),
        group("naive", "64-byte jobs, each asked for and waited for", 64, Rate, naive::cases(gpu)),
        group("batch-64", "64-byte jobs in batches of 64", 4096, Rate, batches(64)?),
        group("batch-1024", "64-byte jobs in batches of 1,024", 32_768, Rate, batches(1024)?),
        group("batch-16384", "64-byte jobs in batches of 16,384", 131_072, Rate, batches(16_384)?),
        group(
            "serial",
            "64 serial kernels, 64 messages of 64 bytes each",
            kernels,
            Rate,
            and(serial::cases(gpu), library::serial_cases(gpu)?),
        ),
        group(
            "instances",
            "16-byte messages to 100,000 instances at random",
            instances::MESSAGES,
            Rate,
            and(instances::cases(gpu), vec![library::instances_case(gpu)?]),
        ),
    ];
    let goal = |of, to, at_least| Goal { of, to, at_least };
    let goals = vec![
        goal(("floor", "floor"), ("naive", "naive"), 1.2),
        goal(("batch-64", "expert"), ("naive", "naive"), 30.0),
        goal(("batch-1024", "expert"), ("batch-64", "expert"), 4.0),
        goal(("batch-16384", "expert"), ("batch-1024", "expert"), 1.5),
        goal(("serial", "one dispatch"), ("serial", "a dispatch each"), 2.0),
        goal(("serial", "a dispatch each"), ("serial", "a submission each"), 1.5),
        goal(("floor", "ringwork"), ("floor", "floor"), 1.0 / 1.15),
        goal(("batch-64", "ringwork"), ("batch-64", "expert"), 0.9),
        goal(("batch-1024", "ringwork"), ("batch-1024", "expert"), 0.9),
        goal(("batch-16384", "ringwork"), ("batch-16384", "expert"), 0.9),
        goal(
            ("serial", "ringwork, one handler, together"),
            ("serial", "ringwork, one handler, one by one"),
            10.0,
        ),
        goal(
            ("serial", "ringwork, own handlers, together"),
            ("serial", "ringwork, own handlers, one by one"),
            2.5,
        ),
        // One by one Ringwork is faster than a submission each by hand.
        goal(("serial", "ringwork, own handlers, together"), ("serial", "a submission each"), 2.5),
        goal(("instances", "ringwork"), ("instances", "longest"), 0.8),
    ];
    Ok(Board::new(groups, goals))
}

fn run() -> Result<(), String> {
    let arguments = arguments()
        .map_err(|problem| format!("{problem}\nusage: [--rounds N] [--only NAME[,NAME…]] [--out FILE]"))?;
    let rounds = arguments.rounds.unwrap_or(9);
    let gpu = Gpu::open()?;
    let head = report::head(&gpu, rounds);
    let mut board = board(&gpu)?;
    if !arguments.only.is_empty() {
        board.keep(&arguments.only);
    }
    board.run(rounds)?;
    let text = report::text(&head, &board);
    print!("{text}");
    if let Some(path) = arguments.out {
        std::fs::write(&path, &text).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    // Memory that was freed is kept: else glibc gives a round's answers back to the system and gets them again page by
    // page, which a case that has its answers allocated before the clock starts does not pay for.
    // SAFETY: before any other thread; the options are glibc's.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            std::process::ExitCode::FAILURE
        }
    }
}
