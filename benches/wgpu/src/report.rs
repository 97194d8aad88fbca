//! The report: machine, adapter, method, tables, goals, as Markdown.

use crate::gpu::Gpu;
use crate::harness::{Board, Entry, FOREIGN, Goal, Group, Show, quantile};
use crate::machine;

/// What is known before the first sample.
pub fn head(gpu: &Gpu, rounds: usize) -> String {
    let info = &gpu.info;
    let threads = std::env::var("LP_NUM_THREADS");
    let environment = threads.as_ref().map_or(String::new(), |value| format!("LP_NUM_THREADS={value} "));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut text = format!(
        "# Yardsticks of the wgpu backend\n\n{}; wgpu {}\n\n{}\n\nAdapter: {} ({:?}), backend {:?}, driver {} {}; \
         mappable storage: {}; LP_NUM_THREADS: {}\n\n    \
         {environment}cargo run --release --manifest-path benches/wgpu/Cargo.toml -- {}\n\n{rounds} rounds.\n",
        machine::command("date", &["-u", "+%F %H:%M UTC"]),
        version("wgpu").unwrap_or("of unknown version"),
        machine::description(),
        info.name,
        info.device_type,
        info.backend,
        info.driver,
        info.driver_info,
        if gpu.mappable { "yes" } else { "no" },
        threads.as_deref().unwrap_or("not set"),
        arguments.join(" "),
    );
    if info.device_type == wgpu::DeviceType::Cpu {
        text += "
**This adapter is a software rasteriser: the \"device\" is the processors that the host code runs on. Ratios between
cases say something about designs; no number here says anything about a GPU.** With `LP_NUM_THREADS=0` llvmpipe runs a
dispatch on the thread that takes submissions, and wakes no other.
";
    }
    text
}

/// The exact version that the lock file holds.
fn version(name: &str) -> Option<&'static str> {
    let (_, rest) = include_str!("../Cargo.lock").split_once(&format!("name = \"{name}\"\nversion = \""))?;
    rest.split_once('"').map(|(version, _)| version)
}

/// The whole report.
pub fn text(head: &str, board: &Board) -> String {
    let mut text = format!(
        "{head}
The first column of numbers is the median over interleaved samples of each sample's median; percentiles are of the times
of all rounds together, so `p99` is of the slow end also where rates are shown. A sample is taken again if others kept
more than {FOREIGN} processors busy meanwhile (stolen time included), or if the machine's two processors were on one
physical core, where two busy loops slow each other down; where a case has undisturbed samples, only they count. A round
begins with the messages in the host's memory and ends with the answers there; what makes the one and checks the other
is off the clock. Every answer of every round was compared with what the handler's twin in Rust says.

`write_buffer`: wgpu's own staging there, a mapped copy back. `staged`: mapped buffers and copies both ways. `mapped`:
the storage buffers themselves are mapped. `sleeps`: waits in `poll(Wait)`. `spins`: polls and yields for at most 100 µs,
then sleeps. `encoded ahead`: while the device has the message before.
"
    );
    text.extend(board.groups.iter().map(table));
    text + &goals(board)
}

fn table(group: &Group) -> String {
    let kind = match group.show {
        Show::Rate => "messages",
        Show::Time => "a round",
    };
    let mut text = format!(
        "\n## {} (`{}`)\n\n{} messages a round.\n\n\
         | case | {kind} | p10 | p90 | p99 | to the best | undisturbed samples |\n|---|---:|---:|---:|---:|---:|---:|\n",
        group.title, group.name, group.messages
    );
    let best = group.entries.iter().filter_map(Entry::median).min_by(f64::total_cmp);
    for entry in &group.entries {
        let times = entry.times();
        let show = |seconds: Option<f64>| seconds.map_or("-".into(), |seconds| shown(group, seconds));
        let ratio = entry.median().zip(best).map_or("-".into(), |(own, best)| format!("{:.2} ×", own / best));
        text += &format!(
            "| {} | {} | {} | {} | {} | {ratio} | {} of {} |\n",
            entry.case.name(),
            show(entry.median()),
            show(quantile(&times, 0.1)),
            show(quantile(&times, 0.9)),
            show(quantile(&times, 0.99)),
            entry.samples.iter().filter(|sample| sample.is_quiet()).count(),
            entry.samples.len(),
        );
    }
    text
}

fn shown(group: &Group, seconds: f64) -> String {
    let (value, steps) = match group.show {
        Show::Rate => (group.messages as f64 / seconds, [(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")]),
        Show::Time => (seconds, [(1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")]),
    };
    let (size, unit) = *steps.iter().find(|step| value >= step.0).unwrap_or(&steps[2]);
    match value / size {
        x if x >= 100.0 => format!("{x:.0} {unit}"),
        x if x >= 10.0 => format!("{x:.1} {unit}"),
        x => format!("{x:.2} {unit}"),
    }
}

/// The least time a message takes in a group's cases whose names begin with a word: the case's name and seconds.
fn best<'a>(board: &'a Board, (group, case): (&str, &str)) -> Option<(&'a str, f64)> {
    let group = board.groups.iter().find(|g| g.name == group)?;
    let entries = group.entries.iter().filter(|entry| entry.case.name().starts_with(case));
    let times = entries.filter_map(|e| Some((e.case.name(), e.median()? / group.messages as f64)));
    times.min_by(|a, b| a.1.total_cmp(&b.1))
}

fn goals(board: &Board) -> String {
    let mut text = String::from(
        "\n## Goals\n\nHow many times as fast a message is, the best case of each kind.\n\n\
         | case | held against | goal | measured | |\n|---|---|---:|---:|---|\n",
    );
    for Goal { of, to, at_least } in &board.goals {
        let Some((own, other)) = best(board, *of).zip(best(board, *to)) else { continue };
        let ratio = other.1 / own.1;
        let verdict = if ratio >= *at_least { "met" } else { "**missed**" };
        text += &format!(
            "| {}/{} | {}/{} | ≥ {at_least:.2} × | {ratio:.2} × | {verdict} |\n",
            of.0, own.0, to.0, other.0
        );
    }
    text
}
