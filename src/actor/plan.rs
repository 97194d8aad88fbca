//! What a declared kernel will run, and how: its settings and types checked, its handler compiled.

use crate::backend::{Code, NativeHandler, Shape};
use crate::compile::{Cache, HandlerSource, OutputDecl, Program, TableDecl};
use crate::compute::{Access, BoundTable};
use crate::error::Result;
use crate::kernel::{OutputSpec, Plain, Settings, invalid};
use crate::message::Layout;
use std::sync::Arc;

/// Bytes of state one instance may have.
const MOST_STATE: u32 = 1024;
/// Bytes a message may have.
const MOST_MESSAGE: u32 = 4096;

/// What a port kernel runs and how.
pub(super) struct Plan {
    pub(super) code: Code,
    pub(super) shape: Shape,
    /// One instance's.
    pub(super) initial_state: Vec<u8>,
    /// On the CPU it is not run on callers' threads: an interruption would show.
    pub(super) background_only: bool,
    /// Nothing can interrupt the handler: it has to show that it is fast.
    pub(super) on_probation: bool,
    /// In the order of the program's tables.
    pub(super) tables: Vec<Table>,
}

/// A table of a handler, with what is bound to it.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) bound: BoundTable,
    pub(super) access: Access,
}

fn limit(kernel: &str, what: &str, layout: &Layout, most: u32) -> Result<()> {
    if layout.size <= most {
        return Ok(());
    }
    Err(invalid(
        kernel,
        format!(
            "{what} `{}` has {} bytes, but may have {most}; keep larger data in a table",
            layout.name, layout.size
        ),
    ))
}

fn check_messages<In, Out>(kernel: &str, plain: &Plain<In, Out>, settings: &Settings) -> Result<()> {
    limit(kernel, "message", plain.input, MOST_MESSAGE)?;
    limit(kernel, "reply", plain.output, MOST_MESSAGE)?;
    settings
        .outputs
        .iter()
        .filter_map(|output| output.layout)
        .try_for_each(|layout| limit(kernel, "output value", layout, MOST_MESSAGE))
}

/// The plan of a WGSL handler, which is compiled or found in the cache.
pub(super) fn plan_wgsl<In, Out>(
    name: &str,
    text: &str,
    plain: &Plain<In, Out>,
    settings: &Settings,
    cache: &Cache,
) -> Result<Plan> {
    check_messages(name, plain, settings)?;
    if let Some((layout, _)) = &settings.initial_state {
        limit(name, "state", layout, MOST_STATE)?;
    }
    let (outputs, tables) = (output_declarations(settings), table_declarations(settings));
    let handler = cache.handler(&HandlerSource {
        name,
        text,
        input: plain.input,
        output: plain.output,
        state: settings.initial_state.as_ref().map(|(layout, _)| *layout),
        outputs: &outputs,
        tables: &tables,
        loop_budget: settings.loop_budget(),
        // If there is no such field, `shape_of` says so below.
        instance_at: settings.instances.and_then(|_| settings.instance_field_offset(name, plain.input).ok()),
    })?;
    let program = &*handler.program;
    let why = if program.has_state() {
        Some("a handler with a state runs for one message after the other")
    } else {
        let writes = program.tables.iter().any(|table| table.writable);
        (!writes).then_some("the handler writes no table")
    };
    if let Some(why) = why.filter(|_| settings.unordered_writes) {
        return Err(invalid(name, format!("unordered_writes: {why}")));
    }
    let shape = shape_of(name, program.has_state(), plain.input, settings)?;
    let shape = match shape {
        Shape::Stateless if program.writes_tables && !settings.unordered_writes => Shape::Serial,
        shape => shape,
    };
    let state_size = program.state_size() as usize;
    let initial_state = match &settings.initial_state {
        Some((_, bytes)) => bytes.clone(),
        None => vec![0; state_size],
    };
    Ok(Plan {
        shape,
        initial_state,
        background_only: interruption_would_show(program),
        on_probation: false,
        tables: tables_of(program, settings),
        code: Code::Handler(handler),
    })
}

/// The outputs that a handler may emit to; host kernels' have no layout.
fn output_declarations(settings: &Settings) -> Vec<OutputDecl> {
    let declaration = |output: &OutputSpec| {
        Some(OutputDecl {
            name: output.name.clone(),
            layout: output.layout?,
            max_per_message: output.max_per_message,
        })
    };
    settings.outputs.iter().filter_map(declaration).collect()
}

/// The tables that a handler may use.
fn table_declarations(settings: &Settings) -> Vec<TableDecl> {
    let declaration = |(name, table): &(String, BoundTable)| TableDecl {
        name: name.clone(),
        element_size: table.element_size,
        element_name: table.element_name,
        len: table.len,
    };
    settings.tables.iter().map(declaration).collect()
}

/// The tables that a handler uses, and how.
fn tables_of(program: &Program, settings: &Settings) -> Vec<Table> {
    let all = program.tables.iter().zip(&program.stored_tables);
    all.map(|(table, is_stored)| {
        let access = match (table.writable, is_stored) {
            (false, _) => Access::Read,
            (true, false) => Access::Atomic,
            (true, true) if settings.shared.contains(&table.name) => Access::SharedWrite,
            (true, true) => Access::Write,
        };
        let (_, bound) = settings
            .tables
            .iter()
            .find(|(name, _)| *name == table.name)
            .expect("the compiler checked the bindings");
        Table { name: table.name.clone(), bound: bound.clone(), access }
    })
    .collect()
}

/// A handler that is stopped in the middle runs again; what it wrote to tables by then stays written.
fn interruption_would_show(program: &Program) -> bool {
    program.has_loops && program.tables.iter().any(|table| table.writable)
}

/// The plan of a Rust function.
pub(super) fn plan_native<In, Out>(
    name: &str,
    handler: Arc<dyn NativeHandler>,
    state_size: usize,
    plain: &Plain<In, Out>,
    settings: &Settings,
) -> Result<Plan> {
    check_messages(name, plain, settings)?;
    if let Some(layout) = settings.native_state {
        limit(name, "state", layout, MOST_STATE)?;
    }
    let initial_state = match &settings.initial_state {
        Some((_, bytes)) => bytes.clone(),
        None => vec![0; state_size],
    };
    Ok(Plan {
        code: Code::Native(handler),
        shape: shape_of(name, state_size > 0, plain.input, settings)?,
        initial_state,
        background_only: false,
        on_probation: !settings.background,
        tables: Vec::new(),
    })
}

/// The signature decides: no state is data-parallel, state is serial, state with instances is many serial actors.
fn shape_of(kernel: &str, has_state: bool, message: &Layout, settings: &Settings) -> Result<Shape> {
    match (settings.instances, has_state) {
        (None, false) => Ok(Shape::Stateless),
        (None, true) => Ok(Shape::Serial),
        (Some(count), true) => {
            let field_offset = settings.instance_field_offset(kernel, message)?;
            Ok(Shape::Instances { count, field_offset })
        }
        (Some(_), false) => Err(invalid(
            kernel,
            "instances are set, but the handler has no state: without state its messages run in parallel anyway",
        )),
    }
}
