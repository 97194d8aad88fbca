//! The report: machine, method, tables, targets, as Markdown.

use crate::harness::{Board, FOREIGN, Scale};
use crate::machine::{self, clock};
use crate::placement::Placement;
use crate::summary::{View, views};
use crate::targets;
use crate::workload::RUN;

/// What is known before the first sample.
pub fn head(rounds: usize, scale: Scale) -> String {
    format!(
        "# Ringwork and its peers\n\n{}; {}\n\n{}\n\nTimer: steps of {:.1} ns, {:.1} ns taken off each timed ask; \
         asks are also timed in runs of {RUN}, without that, of which the mean is taken too. {}{rounds} rounds.\n",
        machine::command("date", &["-u", "+%F %H:%M UTC"]),
        versions(),
        machine::description(),
        clock().step,
        clock().cost,
        if scale.quick { "Quick run, short samples: for a first look only. " } else { "" },
    )
}

/// The whole report.
pub fn text(head: &str, board: &Board) -> String {
    let (near, far) = machine::pair();
    let mut text = format!(
        "{head}
Each number is the median over interleaved rounds. A sample does not count, and is taken again, if others kept more
than {FOREIGN} processors busy meanwhile (stolen time included), if processors {near} and {far} were on one physical
core (two busy loops slow each other down), or if they were moved. Samples are told apart by what lies between the
two, because a cache line's way decides what two threads can do (a placement with less than a fifth of the samples is
left out); `samples` are those that count here, of all taken.
A time below one step of the timer is shown as that; where `samples` says 1, there is one measurement and no median.
Yardsticks pin their two threads; the frameworks and Ringwork are left to the scheduler, as they would be in use. The
message is 64 bytes, the handler adds eight numbers, the client is one blocking thread.
"
    );
    let views = views(board);
    text.extend(views.iter().map(section));
    let memory = views[0].tables(true); // the same in every view
    if !memory.is_empty() {
        text += &format!("\n## Memory\n{memory}");
    }
    text
}

fn section(view: &View) -> String {
    let tables = view.tables(false);
    let targets = if cfg!(feature = "ringwork") { targets::table(view) } else { String::new() };
    if tables.is_empty() {
        return targets; // only memory was asked for, which knows no placement
    }
    let title = view.placement.map_or("every sample, none of them undisturbed".into(), |p| p.to_string());
    let crossing = view.crossing().map_or("not measured".into(), |ns| format!("{ns:.0} ns"));
    let mut text = format!("\n## On {title}\n\nA cache line's round trip between the two: {crossing}.\n");
    if !matches!(view.placement, Some(Placement::SeparateCaches | Placement::SharedCache)) {
        text += "**The machine gave nothing better in this run: not for comparisons.**\n";
    }
    text + &tables + &targets
}

/// The exact versions that the lock file holds.
fn versions() -> String {
    let lock = include_str!("../Cargo.lock");
    let version = |name: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        rest.split_once('"').map(|(version, _)| format!("{name} {version}"))
    };
    let named = ["ringwork", "flume", "actix", "ractor", "kameo", "tokio"];
    named.into_iter().filter_map(version).collect::<Vec<_>>().join(", ")
}
