//! The report: machine, method, tables, targets, as Markdown.

use crate::harness::{Board, Scale};
use crate::machine::{self, clock};
use crate::targets;

/// What is known before the first sample.
pub fn head(rounds: usize, scale: Scale) -> String {
    format!(
        "# Ringwork and its peers\n\n{}, {}\n\n{}\n\nTimer: {:.3} ns a tick, {:.1} ns taken off each timed ask. {}{} \
         rounds.\n",
        machine::command("date", &["-u", "+%F %H:%M UTC"]),
        versions(),
        machine::description(),
        clock().period,
        clock().cost as f64 * clock().period,
        if scale.quick { "Quick run, short samples: for a first look only. " } else { "" },
        rounds,
    )
}

/// The whole report.
pub fn text(head: &str, board: &Board) -> String {
    let (near, far) = machine::pair();
    let mut text = format!(
        "{head}\nEach number is the median over interleaved rounds. A sample is thrown away and taken again if others \
         kept more than 0.2 processors busy meanwhile (stolen time included), or if processors {near} and {far} shared \
         a physical core (a cache line's round trip below half of the usual {:.0} ns). † marks rows with fewer than \
         three clean samples (or fewer than all, if fewer were taken), in which all samples count. Yardsticks pin \
         their two threads; the frameworks and Ringwork are left to the scheduler, as they would be in use. The \
         message is 64 bytes, the handler adds eight numbers, the client is one blocking thread.\n",
        board.usual_crossing()
    );
    text += &board.tables();
    if cfg!(feature = "ringwork") {
        text += &targets::table(board);
    }
    text
}

/// The exact versions that the lock file holds.
fn versions() -> String {
    let lock = include_str!("../Cargo.lock");
    let version = |name: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        rest.split_once('"').map(|(version, _)| format!("{name} {version}"))
    };
    ["ringwork", "flume", "actix", "ractor", "kameo", "tokio"].into_iter().flat_map(version).collect::<Vec<_>>().join(", ")
}
