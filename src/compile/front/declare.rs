//! The text appended to the user's: structs for the Rust types it does not declare, and the outputs' functions.

use super::report::Reporter;
use super::scan::{Word, declaration};
use crate::compile::{FaultCode, HandlerSource};
use crate::error::Result;
use crate::message::Layout;
use std::fmt::Write;

/// Every struct that the Rust types of a handler name, inner ones first.
pub(super) fn layouts(source: &HandlerSource<'_>) -> Vec<&'static Layout> {
    let mut all = Vec::new();
    let outputs = source.outputs.iter().map(|o| o.layout);
    for layout in [Some(source.input), Some(source.output), source.state].into_iter().flatten().chain(outputs)
    {
        for inner in layout.structs() {
            if !all.contains(&inner) {
                all.push(inner);
            }
        }
    }
    all
}

/// The text to append; it begins with a line break, so that a comment on the user's last line ends.
pub(super) fn library_text(
    source: &HandlerSource<'_>,
    words: &[Word<'_>],
    report: &Reporter<'_>,
) -> Result<String> {
    let mut text = String::from("\nvar<private> rt_fault: u32;\nvar<private> rt_fuel: u32;\n");
    let layouts = layouts(source);
    for (index, layout) in layouts.iter().enumerate() {
        if layouts[..index].iter().any(|other| other.name == layout.name) {
            return Err(report.whole(format_args!(
                "two different Rust types are named `{0}`; WGSL has one name space, so rename one of them",
                layout.name
            )));
        }
        let declared = ["struct", "alias"].iter().any(|k| declaration(words, k, layout.name).is_some());
        if !declared {
            text += &layout.to_wgsl();
        }
    }
    for (index, output) in source.outputs.iter().enumerate() {
        let name = &output.name;
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            return Err(report.whole(format_args!(
                "the output `{name}` cannot be called as `emit_{name}`; name outputs with letters, digits and `_`"
            )));
        }
        if source.outputs[..index].iter().any(|other| other.name == *name) {
            return Err(report.whole(format_args!("the output `{name}` is declared twice; declare it once")));
        }
        if let Some(at) = declaration(words, "fn", &format!("emit_{name}")) {
            return Err(report.at(
                at,
                format_args!(
                    "`emit_{name}` is made by the library for the output `{name}`; remove this declaration"
                ),
            ));
        }
        output_text(name, output.layout.name, output.max_per_message, &mut text);
    }
    Ok(text)
}

fn output_text(name: &str, value: &str, max: u32, text: &mut String) {
    let overflow = FaultCode::EmitOverflow as u32;
    let _ = write!(
        text,
        "var<private> rt_count_{name}: u32;
var<private> rt_items_{name}: array<{value}, {max}>;
fn emit_{name}(value: {value}) {{
    if rt_count_{name} >= {max}u {{
        if rt_fault == 0u {{ rt_fault = {overflow}u; }}
        return;
    }}
    rt_items_{name}[rt_count_{name}] = value;
    rt_count_{name} += 1u;
}}
"
    );
}
