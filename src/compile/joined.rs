//! A handler and a driver as one module: for devices that run modules and not functions.
//!
//! The driver's text is appended to the handler's (the user's text and the library's), behind a head that names the
//! handler's types; the whole is parsed once more, and the handler's part of it is lowered as for every other engine.

use super::program::Program;
use super::{lower, on_compile_thread};
use crate::error::{Error, ErrorKind, Result};
use naga::proc::Layouter;
use naga::{Module, TypeInner};
use std::fmt::Write;

/// `rt_STATELESS` of the driver.
const STATELESS: u32 = 0;

/// What a driver wants to know at compile time.
pub(crate) struct Driver<'a> {
    /// WGSL that has the entry point.
    pub text: &'a str,
    /// `rt_SHAPE`.
    pub shape: u32,
    /// `rt_WORKGROUP`.
    pub workgroup: u32,
    /// `rt_CANARY`.
    pub canary: bool,
}

/// A module with an entry point, `rt_main`, and how the memory it shares with the host is laid out.
pub(crate) struct Joined {
    pub module: Module,
    /// Bytes from one message to the next in `rt_input`.
    pub message_stride: u32,
    /// Bytes from one state to the next in `rt_states`.
    pub state_stride: u32,
    pub record: Record,
}

/// What comes back of each message.
pub(crate) struct Record {
    /// Its first word is the status; else `rt_states` has the statuses of messages that were not handled.
    pub has_status: bool,
    /// Offset of the first record in `rt_out`; before it is the stamp of the last round with a message that was not
    /// handled.
    pub first: u32,
    /// Bytes from one record to the next.
    pub stride: u32,
    /// Offset of the reply.
    pub reply: u32,
    /// In the order of the declared outputs; offsets in the record.
    pub emits: Vec<super::EmitSlot>,
}

/// Joins a handler with a driver.
///
/// # Errors
///
/// `Rejected`, if the two do not fit: the handler uses a name in a way that the driver cannot live with.
pub(crate) fn join(program: &Program, driver: &Driver<'_>) -> Result<Joined> {
    let text = format!("{}{}{}", program.text, head(program, driver), driver.text);
    // As deep as the user's expressions are.
    let did_not_end = |why: &str| failed(&format!("the WGSL compiler failed on it ({why})"));
    on_compile_thread(text.len(), did_not_end, || parse(program, &text))
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Rejected, format!("a handler could not be joined with the ring driver: {what}"))
}

fn parse(program: &Program, text: &str) -> Result<Joined> {
    let module = naga::front::wgsl::Frontend::new()
        .parse(text)
        .map_err(|error| failed(&error.emit_to_string_with_path(text, "ring driver")))?;
    let module = lower::lower_joined(module, program.signature.loop_budget, program.text.len())
        .map_err(|error| failed(&error.emit_to_string_with_path(text, "ring driver")))?;
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|error| failed(&error.to_string()))?;
    let members_of = |name: &str| {
        let mut types = module.types.iter();
        let (_, ty) = types.find(|(_, ty)| ty.name.as_deref() == Some(name)).expect("the head declares it");
        let TypeInner::Struct { ref members, span } = ty.inner else {
            unreachable!("the head declares it as a struct")
        };
        (members, span)
    };
    let (members, span) = members_of("rt_Record");
    let first = members_of("rt_Out").0[1].offset;
    let stride_of = |name: &str| {
        let (_, global) = module
            .global_variables
            .iter()
            .find(|(_, global)| global.name.as_deref() == Some(name))
            .expect("the head declares it");
        match module.types[global.ty].inner {
            TypeInner::Array { stride, .. } => stride,
            _ => unreachable!("the head declares it as an array"),
        }
    };
    let member = |name: &str| members.iter().find(|member| member.name.as_deref() == Some(name));
    let offset = |name: &str| member(name).map_or(0, |member| member.offset);
    let emits = program.signature.outputs.iter().map(|output| {
        let items = format!("items_{}", output.name);
        let stride = match module.types[member(&items).expect("the head declares it").ty].inner {
            TypeInner::Array { stride, .. } => stride,
            _ => unreachable!("the head declares it as an array"),
        };
        super::EmitSlot {
            count_offset: offset(&format!("count_{}", output.name)),
            items_offset: offset(&items),
            stride,
            size: output.layout.size,
            max: output.max_per_message,
        }
    });
    let record = Record {
        has_status: member("status").is_some(),
        first,
        stride: span,
        reply: offset("reply"),
        emits: emits.collect(),
    };
    Ok(Joined { message_stride: stride_of("rt_input"), state_stride: stride_of("rt_states"), record, module })
}

/// The text between handler and driver: `shaders/ring.wgsl` says what it has to declare, and that nobody checks its
/// indices and loops.
fn head(program: &Program, driver: &Driver<'_>) -> String {
    let signature = &program.signature;
    let or_word = |name: &str| if name.is_empty() { "u32".to_owned() } else { name.to_owned() };
    let has_reply = signature.reply.size > 0;
    let message = or_word(if program.has_message { signature.message.name } else { "" });
    let state = or_word(program.state.as_ref().map_or("", |state| &state.name));
    // In front of a reply that is aligned to 16 bytes a status takes 16. Whoever has a reply and nothing else has none
    // there: where the states would be is room for the statuses.
    let has_status = driver.shape != STATELESS || !has_reply || !signature.outputs.is_empty();
    let mut members = String::new();
    let settle = if has_status {
        members.push_str("    status: u32,\n");
        "rt_out.records[message].status = status;"
    } else {
        "if code != rt_DONE { rt_states[message] = status; }"
    };
    let mut copies = String::new();
    if has_reply {
        let _ = writeln!(members, "    reply: {},", signature.reply.name);
    }
    for output in &signature.outputs {
        let (name, value, most) = (&output.name, output.layout.name, output.max_per_message);
        let _ = write!(members, "    count_{name}: u32,\n    items_{name}: array<{value}, {most}>,\n");
        let _ = write!(
            copies,
            "    rt_out.records[message].count_{name} = rt_count_{name};
    for (var i = 0u; i < rt_count_{name}; i += 1u) {{
        rt_out.records[message].items_{name}[i] = rt_items_{name}[i];
    }}
"
        );
    }
    let mut parameters = Vec::new();
    let mut arguments = Vec::new();
    let mut passed = Vec::new();
    if program.has_message {
        parameters.push(format!("m: {message}"));
        arguments.push("m");
        passed.push("rt_input[message]");
    }
    if program.has_state() {
        parameters.push(format!("s: ptr<function, {state}>"));
        arguments.push("s");
        passed.push("state");
    }
    let (parameters, arguments, passed) = (parameters.join(", "), arguments.join(", "), passed.join(", "));
    // The body of `rt_handle` is lowering's; what stands here only says what it calls.
    let (handle, call) = if has_reply {
        let reply = signature.reply.name;
        (
            format!("fn rt_handle({parameters}) -> {reply} {{ return on_message({arguments}); }}"),
            format!("    rt_out.records[message].reply = rt_handle({passed});\n"),
        )
    } else {
        (
            format!("fn rt_handle({parameters}) {{ on_message({arguments}); }}"),
            format!("    rt_handle({passed});\n"),
        )
    };
    let Driver { shape, workgroup, canary, .. } = driver;
    let faults = program.may_fault();
    format!(
        "
const rt_SHAPE: u32 = {shape}u;
const rt_WORKGROUP: u32 = {workgroup}u;
const rt_FAULTS: bool = {faults};
const rt_CANARY: bool = {canary};
alias rt_Message = {message};
alias rt_State = {state};
struct rt_Record {{
{members}}}
struct rt_Out {{ trouble: atomic<u32>, records: array<rt_Record> }}
@group(0) @binding(0) var<storage, read> rt_round: array<u32>;
@group(0) @binding(1) var<storage, read> rt_input: array<rt_Message>;
@group(0) @binding(2) var<storage, read_write> rt_out: rt_Out;
@group(0) @binding(3) var<storage, read_write> rt_states: array<rt_State>;
{handle}
fn rt_settle(message: u32, code: u32, status: u32) {{
    {settle}
}}
fn rt_run(message: u32, state: ptr<function, rt_State>) {{
{call}{copies}}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::tests::{output, source};
    use crate::compile::{HandlerSource, compile};

    fn driver(shape: u32) -> Driver<'static> {
        Driver { text: include_str!("../../shaders/ring.wgsl"), shape, workgroup: 64, canary: true }
    }

    #[test]
    fn the_driver_declares_only_names_that_no_handler_has() {
        let text = "fn on_message(m: In) -> Out { emit_alerts(Alert(1u, 2.0)); return Out(m.a); }";
        let outputs = [output("alerts", 2)];
        let program = compile(&HandlerSource { outputs: &outputs, ..source(text) }).unwrap();
        let added = format!("{}{}", head(&program, &driver(1)), driver(1).text);
        let keywords = ["const", "alias", "struct", "fn", "read>", "read_write>"];
        let words: Vec<_> = added.lines().map(|line| line.split("//").next().unwrap_or("")).collect();
        let words: Vec<_> = words.iter().flat_map(|line| line.split_whitespace()).collect();
        let names: Vec<_> =
            words.windows(2).filter(|two| keywords.contains(&two[0])).map(|two| two[1]).collect();
        assert!(names.len() > 25, "{names:?}");
        names.iter().for_each(|name| assert!(name.starts_with("rt_"), "{name}"));
    }

    #[test]
    fn names_that_only_look_like_the_driver_s() {
        let text = "struct RtMessage { x: u32 } struct RtRecord { x: u32 } struct RtOut { x: u32 } alias RtState = u32;
            const RT_DONE = 1u; const RT_NONE = 2u; const RT_SHAPE = 3u; var<private> RT_ITEMS: u32;
            fn RT_STAMP(x: RtState) -> u32 { return x + RT_DONE + RT_NONE + RT_SHAPE; }
            fn on_message(m: In) -> Out { RT_ITEMS = RT_STAMP(m.a[0]); return Out(m.a); }";
        let program = compile(&source(text)).unwrap();
        for shape in 0..3 {
            join(&program, &driver(shape)).map(|_| ()).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
