//! The front: from the user's text to a validated module that keeps the handler contract.
//!
//! The library's text is appended after the user's, so places need no mapping. Checks are made in the order in
//! which their sentences help most: words, syntax, what handlers may not use, the contract, then naga's validator.

mod alias;
mod compute;
mod contract;
mod declare;
mod explain;
mod layout;
mod overrides;
mod refuse;
mod report;
mod scan;
mod tables;
#[cfg(test)]
mod tests;

pub(super) use compute::{ParsedCompute, parse_compute};
pub(super) use contract::inside;

use super::{HandlerSource, OutputDecl, StateFacts, TableUse};
use crate::error::Result;
use crate::message::Layout;
use naga::proc::Layouter;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Function, GlobalVariable, Handle, Module};
use report::Reporter;
use scan::Word;

/// The largest message, reply or emitted value, in bytes.
const MESSAGE_LIMIT: u32 = 4096;
/// The largest state, in bytes.
const STATE_LIMIT: u32 = 1024;
/// The largest variable or value inside a handler, in bytes; the private variables together keep to it too.
const VALUE_LIMIT: u32 = 64 << 10;
/// The most that the outputs of a handler may hold for one message, in bytes.
const OUTPUT_LIMIT: u32 = 1 << 20;

/// What naga lets handlers use beyond the core of WGSL: half floats in `quantizeToF16` and the packing functions,
/// which every backend has. The types `f16`, `i64`, `u64` and `f64` stay out.
pub(super) const CAPABILITIES: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;

/// A handler that passed every check, not yet lowered.
pub(super) struct Parsed {
    pub name: String,
    pub text: String,
    pub module: Module,
    pub info: ModuleInfo,
    pub on_message: Handle<Function>,
    pub has_message: bool,
    pub input: &'static Layout,
    pub output: &'static Layout,
    pub state: Option<StateFacts>,
    pub tables: Vec<(TableUse, Handle<GlobalVariable>)>,
    pub outputs: Vec<OutputDecl>,
}

/// Parses and checks a handler.
pub(super) fn parse(source: &HandlerSource<'_>) -> Result<Parsed> {
    let mut text = source.text.to_string();
    let user_len = text.len();
    let scan::Scan { words, open_comment } = scan::scan(source.text);
    let report = Reporter::new(source.name, source.text, user_len);
    if let Some(at) = open_comment {
        return Err(report.at(at, "this comment is never closed; end it with `*/`"));
    }
    resolve_overrides(&mut text, &words, &report)?;
    refuse::refuse_words(&words, &report)?;
    contract::check_sizes(source, &report)?;
    text += &declare::library_text(source, &words, &report)?;

    let report = Reporter::new(source.name, &text, user_len);
    let module = parse_text(source, &report)?;
    refuse::refuse_module(&module, &words, refuse::Contract::Handler, &report)?;
    let signature = contract::check_signature(source, &module, &words, &report)?;
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|_| {
        report.whole("a type of this handler is larger than memory; keep large data in tables")
    })?;
    layout::check_layouts(source, &module, &words, &report)?;
    let state = contract::check_state(source, &module, &layouter, signature.state, &words, &report)?;
    let tables = tables::check_tables(source, &module, &layouter, &report)?;
    let info = Validator::new(ValidationFlags::all(), CAPABILITIES)
        .validate(&module)
        .map_err(|error| explain::validation_error(&error, &module, &words, &report))?;
    contract::check_values(&module, &info, &layouter, &report)?;

    Ok(Parsed {
        name: source.name.to_string(),
        info,
        on_message: signature.function,
        has_message: source.input.size > 0,
        input: source.input,
        output: source.output,
        state,
        tables,
        outputs: source.outputs.to_vec(),
        module,
        text,
    })
}

/// Turns `override x = 1;` into `const    x = 1;` in place, so that no column moves: a handler has no pipeline
/// whose creation could set it.
fn resolve_overrides(text: &mut String, words: &[Word<'_>], report: &Reporter<'_>) -> Result<()> {
    for (index, word) in words.iter().enumerate().filter(|(_, w)| w.text == "override") {
        let end = text[word.at..].find(';').map_or(text.len(), |end| word.at + end);
        let name = words.get(index + 1).map_or("", |w| w.text);
        if !text[word.at..end].contains('=') {
            return Err(report.at(
                word.at,
                format_args!(
                    "the override `{name}` has no value; write `const {name} = …;` or pass it in the message"
                ),
            ));
        }
        text.replace_range(word.at..word.at + "override".len(), "const   ");
    }
    Ok(())
}

fn parse_text(source: &HandlerSource<'_>, report: &Reporter<'_>) -> Result<Module> {
    let parse = |text: &str| naga::front::wgsl::Frontend::new().parse(text);
    parse(report.text()).map_err(|error| {
        let generated: Vec<_> = declare::layouts(source).iter().map(|l| l.name).collect();
        let in_user_text = error
            .labels()
            .map(|(span, _)| span)
            .find(naga::Span::is_defined)
            .is_some_and(|s| report.is_user(s));
        if !in_user_text {
            // A block that is never closed is noticed in the appended text; the user's alone ends where it should.
            let alone = &report.text()[..source.text.len()];
            if let Err(own) = parse(alone)
                && !own.message().contains("no definition in scope")
            {
                let report = Reporter::new(report.name(), alone, alone.len());
                return explain::parse_error(&own, &report, &[]);
            }
        }
        explain::parse_error(&error, report, &generated)
    })
}
