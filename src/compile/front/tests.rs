//! Every refusal, with its text.

mod contract;
mod language;

use crate::compile::tests::{refusal, source};
use crate::compile::{HandlerSource, TableDecl};

/// A good handler, for what stands before it to be refused.
const GOOD: &str = "fn on_message(m: In) -> Out { return Out(); }";

/// Text before a good handler, on its first line.
fn before(text: &str) -> String {
    format!("{text}\n{GOOD}")
}

/// A statement inside a handler, on its third line.
fn inside(statement: &str) -> String {
    format!(
        "fn on_message(m: In) -> Out {{\n    var r: array<u32, 8>;\n    {statement}\n    return Out(r);\n}}"
    )
}

/// Compares the first line of a refusal: naga's picture of the place follows it for syntax and name errors.
fn refused_source(source: HandlerSource<'_>, wanted: &str) {
    let text = refusal(&source);
    assert_eq!(text.lines().next(), Some(wanted), "in: {}", source.text);
    for leak in ["Handle", "naga", "Expression [", "rt_fuel"] {
        assert!(!text.contains(leak), "{text}");
    }
}

fn refused(text: impl AsRef<str>, wanted: &str) {
    refused_source(source(text.as_ref()), &format!("test.wgsl:{wanted}"));
}

fn refused_with_tables(text: &str, tables: &[TableDecl], wanted: &str) {
    refused_source(HandlerSource { tables, ..source(&before(text)) }, &format!("test.wgsl:{wanted}"));
}
