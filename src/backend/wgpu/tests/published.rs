//! The published WGSL expression tables on a device: all of them in one handler, all cases in one round.
//!
//! Drivers have faults of their own. Those of Mesa's software one are in `known.txt`: more than that is a failure, less
//! is reported. `RINGWORK_KNOWN=write` writes the file anew.

use super::kit::{Kernel, Launch, device};
use crate::backend::Shape;
use crate::compile::tests::published::{Operation, operations};
use crate::compile::{Handler, HandlerSource, compile};
use crate::message::{Field, FieldKind, Layout, Scalar};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

const KNOWN: &str = include_str!("known.txt");
const KNOWN_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/backend/wgpu/tests/known.txt");

const fn word(name: &'static str, offset: u32) -> Field {
    Field { name, offset, kind: FieldKind::Scalar(Scalar::U32) }
}

const PARAMETERS: &Layout = &Layout {
    name: "Parameters",
    size: 16,
    align: 4,
    fields: &[word("operation", 0), word("a", 4), word("b", 8), word("c", 12)],
};
const RESULT: &Layout = &Layout { name: "Result", size: 4, align: 4, fields: &[word("r", 0)] };

/// A handler that evaluates the operation that the message names.
fn handler(operations: &[Operation]) -> String {
    let mut functions = String::new();
    let mut cases = String::new();
    for (number, operation) in operations.iter().enumerate() {
        let body = operation.body();
        let _ = write!(functions, "fn operation_{number}(m: Parameters) -> Result {{\n{body}\n}}\n");
        let _ = writeln!(cases, "case {number}u: {{ return operation_{number}(m); }}");
    }
    format!(
        "{functions}fn on_message(m: Parameters) -> Result {{\nswitch m.operation {{\n{cases}\
         default: {{ return Result(0u); }}\n}}\n}}"
    )
}

/// Known failures of a driver: how many cases of which operation. A line is a count and a name, under a heading with a
/// part of the adapter's name.
fn known(adapter: &str) -> BTreeMap<&'static str, usize> {
    let mut found = BTreeMap::new();
    let mut is_meant = false;
    for line in KNOWN.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once(' ') {
            Some((count, name)) if is_meant => {
                found.insert(name, count.parse().expect("a number"));
            }
            Some(_) => {}
            None => is_meant = adapter.contains(line),
        }
    }
    found
}

#[test]
fn published_expression_tables() {
    let (Some(device), Some(operations)) = (device(), operations()) else { return };
    let source = HandlerSource {
        name: "published.wgsl",
        text: &handler(&operations),
        input: PARAMETERS,
        output: RESULT,
        state: None,
        outputs: &[],
        tables: &[],
        loop_budget: 1,
        instance_at: None,
    };
    let handler = Arc::new(Handler::new(compile(&source).unwrap(), None));
    let launch = Launch {
        handler: &handler,
        shape: Shape::Stateless,
        message_words: 4,
        reply_words: 1,
        state: &[],
        tables: Vec::new(),
    };
    let mut kernel = Kernel::launch(&*device, launch).unwrap();
    let cases =
        || (0..).zip(&operations).flat_map(|(number, op)| op.cases.iter().map(move |c| (number, op, c)));
    let messages: Vec<_> =
        cases().map(|(number, _, case)| [&[number], &case.operands[..]].concat()).collect();
    let ends = kernel.run(&messages).unwrap();

    let mut failures = BTreeMap::<_, (usize, String)>::new();
    for ((_, operation, case), end) in cases().zip(&ends) {
        let (None, &[bits]) = (&end.fault, &end.reply[..]) else {
            panic!("{}: {:?}", operation.name, end.fault);
        };
        if !operation.accepts(case, bits) {
            let (count, first) = failures.entry(operation.name.as_str()).or_default();
            if *count == 0 {
                let (operands, float) = (case.operands, f32::from_bits(bits));
                *first = format!("{operands:x?} gave {bits:#x} ({float}), accepted: {}", case.accepted());
            }
            *count += 1;
        }
    }
    let adapter = &device.capabilities().name;
    if std::env::var("RINGWORK_KNOWN").as_deref() == Ok("write") {
        let mut text = KNOWN
            .lines()
            .take_while(|line| line.starts_with('#'))
            .fold(String::new(), |all, line| all + line + "\n");
        let _ = writeln!(text, "\n{}", adapter.split_whitespace().next().unwrap_or_default());
        failures.iter().for_each(|(name, (count, _))| {
            let _ = writeln!(text, "{count} {name}");
        });
        std::fs::write(KNOWN_PATH, text).unwrap();
    }
    let known = known(adapter);
    let total: usize = failures.values().map(|(count, _)| count).sum();
    println!("{total} of {} cases fail on {adapter}", ends.len());
    for (name, count) in &known {
        let now = failures.get(name).map_or(0, |(count, _)| *count);
        if now < *count {
            println!("{name}: {now} cases fail, and {count} are known to");
        }
    }
    let new: Vec<_> = failures
        .iter()
        .filter(|(name, (count, _))| *count > known.get(*name).copied().unwrap_or(0))
        .map(|(name, (count, first))| format!("{name}: {count} cases, the first: {first}"))
        .collect();
    assert!(new.is_empty(), "not known of {adapter}:\n{}", new.join("\n"));
}
