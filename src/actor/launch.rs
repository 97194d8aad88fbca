//! From a declared kernel to a running one: checks, compiles or finds what was compiled, opens the port.

use super::core::{Core, Engine, Facts, Inside, Memory};
use super::devices::Devices;
use super::lifecycle::Event;
use super::mailbox::Mailbox;
use super::services::Services;
use crate::backend::{
    Accelerator, Code, Device, Execution, LaunchSpec, NativeHandler, Onward, Port, PortControl, Shape, Twin,
};
use crate::compile::{Cache, HandlerSource, OutputDecl, Program, TableDecl};
use crate::compute::{Access, BoundTable, Lease, LeasedPort, check_twice};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{
    AnyOutlet, Body, HostFunction, KernelKind, Plain, Queue, RestartState, RingKernel, Settings, invalid,
};
use crate::message::{Layout, Message};
use std::sync::Arc;
use std::time::Instant;

/// Messages of a serial kernel fed at once: enough to share one lock and one look at the clock, few enough that
/// priority keeps its meaning.
const SERIAL_ROUND: u32 = 32;
/// Messages of a stateless kernel fed at once: a batch worth spreading over cores.
const STATELESS_ROUND: u32 = 4096;
/// Messages of a kernel with instances fed at once.
const INSTANCES_ROUND: u32 = 1 << 16;
/// Messages of a serial kernel given to a device at once, at most: one invocation runs them one after the other.
const DISPATCHED_SERIAL_ROUND: u32 = 1024;
/// … and of any other kernel.
const DISPATCHED_ROUND: u32 = 1 << 16;
/// Bytes of state one instance may have.
const MOST_STATE: u32 = 1024;
/// Bytes a message may have.
const MOST_MESSAGE: u32 = 4096;

/// How a kernel gets another port when its device is lost: on the device that there is then, with these states of all
/// instances.
pub(super) type Relaunch = Box<dyn Fn(Arc<[u8]>) -> Result<Box<dyn Port>> + Send + Sync>;

/// A kernel with tables has no other port: what was in them is lost with the device.
fn relaunch(spec: &LaunchSpec, devices: &Arc<Devices>, pinned: Option<&Accelerator>) -> Relaunch {
    let (has_tables, devices, pinned) = (!spec.tables.is_empty(), devices.clone(), pinned.cloned());
    // Whoever has a kernel's handle does not keep its tables.
    let spec = LaunchSpec { tables: Vec::new(), ..spec.clone() };
    Box::new(move |states| {
        if has_tables {
            let text = "its tables were in the memory of the device that is lost";
            return Err(Error::new(ErrorKind::DeviceLost, text));
        }
        devices.of(pinned.as_ref())?.launch(LaunchSpec { states: Some(states), ..spec.clone() })
    })
}

/// A kernel ready to be entered into the registry.
pub(super) struct Launched<In, Out> {
    pub(super) core: Arc<Core<In, Out>>,
    /// A host kernel's thread has to be started.
    pub(super) host: Option<HostFunction<In, Out>>,
}

/// What a port kernel runs and how.
struct Plan {
    code: Code,
    shape: Shape,
    initial_state: Vec<u8>,
    background_only: bool,
    /// Nothing can interrupt the handler: it has to show that it is fast.
    on_probation: bool,
    /// In the order of the program's tables.
    tables: Vec<Table>,
}

/// A table of a handler, with what is bound to it.
struct Table {
    name: String,
    bound: BoundTable,
    access: Access,
}

pub(super) fn launch<In: Message, Out: Message>(
    kernel: RingKernel<In, Out>,
    id: u64,
    services: Arc<Services>,
    devices: &Arc<Devices>,
) -> Result<Launched<In, Out>> {
    let RingKernel { name, body, settings } = kernel;
    let kind = match &body {
        Body::Wgsl { .. } => KernelKind::Wgsl,
        Body::Native { .. } => KernelKind::Native,
        Body::Host(_) => KernelKind::Host,
    };
    settings.check(&name, kind)?;
    let control = Arc::new(PortControl::default());
    let (plain, plan, device, host) = match body {
        Body::Wgsl { text, plain } => {
            let plan = plan_wgsl(&name, &text, &plain, &settings, devices.cache())?;
            (Some(plain), Some(plan), Some(devices.of(settings.accelerator.as_ref())?), None)
        }
        Body::Native { handler, state_size, plain } => {
            let plan = plan_native(&name, handler, state_size, &plain, &settings)?;
            (Some(plain), Some(plan), Some(devices.cpu()?), None)
        }
        Body::Host(function) => {
            super::host::check_restart(&name, settings.restart)?;
            (None, None, None, Some(function))
        }
    };
    let shape = plan.as_ref().map_or(Shape::Serial, |plan| plan.shape);
    let launched = Instant::now();
    let outlets: Vec<(String, Arc<dyn AnyOutlet>)> =
        settings.outputs.iter().map(|output| (output.name.clone(), output.make(&settings))).collect();
    let dispatched = device.as_ref().is_some_and(|device| device.capabilities().execution != Execution::Host);
    // What runs on a device is never interrupted but by the kernel's end, and never on a caller's thread.
    let background_only =
        settings.background || plan.as_ref().is_some_and(|plan| plan.background_only && !dispatched);
    let on_probation = plan.as_ref().is_some_and(|plan| plan.on_probation);
    let mut again = None;
    let engine = match (plan, plain, device) {
        (Some(plan), Some(plain), Some(device)) => {
            let instances = shape.instances() as usize;
            let memory = Memory { initial: plan.initial_state.clone(), instances, snapshot: None };
            let capacity = u32::try_from(settings.queue_capacity).unwrap_or(u32::MAX);
            let round = match shape {
                Shape::Serial if dispatched => capacity.clamp(SERIAL_ROUND, DISPATCHED_SERIAL_ROUND),
                _ if dispatched => capacity.clamp(SERIAL_ROUND, DISPATCHED_ROUND),
                Shape::Serial => SERIAL_ROUND,
                Shape::Stateless => capacity.clamp(SERIAL_ROUND, STATELESS_ROUND),
                Shape::Instances { .. } => capacity.clamp(SERIAL_ROUND, INSTANCES_ROUND),
            };
            let spec = LaunchSpec {
                code: plan.code,
                twin: settings.cuda_source.clone().map(|text| Arc::new(Twin { kernel: name.clone(), text })),
                shape,
                message_size: plain.input.size,
                reply_size: plain.output.size,
                initial_state: plan.initial_state,
                states: None,
                tables: plan.tables.iter().map(|table| table.bound.storage.clone()).collect(),
                onward: outlets.iter().map(|(_, outlet)| outlet.clone() as Arc<dyn Onward>).collect(),
                round,
                control: control.clone(),
                around: Arc::new(move |body: &mut dyn FnMut()| {
                    let _inside = Inside::enter(id);
                    body();
                }),
            };
            again = dispatched.then(|| relaunch(&spec, devices, settings.accelerator.as_ref()));
            let leases = lease(&name, &*device, &plan.tables)?;
            let mut launched = device.launch(spec);
            if let (Some(relaunch), Err(error)) = (&again, &launched)
                && error.is_device_lost()
                && leases.is_empty()
            {
                // It was lost before, without anybody having noticed.
                launched = relaunch(memory.fallback(RestartState::Initial));
            }
            let mut port = launched?;
            if !leases.is_empty() {
                port = Box::new(LeasedPort::new(port, leases, !dispatched));
            }
            memory.arrange_restart(port.as_mut(), settings.restart)?;
            Engine::new(Some(port), memory)
        }
        _ => Engine::new(None, Memory { initial: Vec::new(), instances: 0, snapshot: None }),
    };
    let facts = Facts {
        id,
        name: name.clone().into(),
        services,
        plain,
        shape,
        has_reply: plain.map_or(size_of::<Out>() > 0, |plain| plain.output.size > 0),
        backpressure: settings.backpressure,
        restart: settings.restart,
        background_only,
        on_probation,
        dispatched,
        relaunch: again,
        state: settings.initial_state.as_ref().map(|(layout, _)| *layout).or(settings.native_state),
        launched,
    };
    let mut mailbox = Mailbox::new(settings.queue_capacity, settings.backpressure);
    mailbox.state = mailbox.state.after(Event::Launch, &name)?;
    mailbox.entry = engine.port.as_ref().and_then(|port| port.entry());
    let replies = Queue::new(settings.output_capacity, settings.output_backpressure);
    let core = Core::new(facts, mailbox, replies, outlets, engine, control);
    Ok(Launched { core, host })
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

fn plan_wgsl<In, Out>(
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
    let outputs: Vec<OutputDecl> = settings
        .outputs
        .iter()
        .filter_map(|output| {
            Some(OutputDecl {
                name: output.name.clone(),
                layout: output.layout?,
                max_per_message: output.max_per_message,
            })
        })
        .collect();
    let tables: Vec<TableDecl> = settings
        .tables
        .iter()
        .map(|(name, table)| TableDecl {
            name: name.clone(),
            element_size: table.element_size,
            element_name: table.element_name,
            len: table.len,
        })
        .collect();
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
    let bound =
        |wanted: &str| settings.tables.iter().find(|(name, _)| name == wanted).map(|(_, table)| table);
    let tables = program.tables.iter().zip(&program.stored_tables).map(|(table, is_stored)| {
        let is_shared = settings.shared.contains(&table.name);
        let access = match (table.writable, is_stored) {
            (false, _) => Access::Read,
            (true, false) => Access::Atomic,
            (true, true) if is_shared => Access::SharedWrite,
            (true, true) => Access::Write,
        };
        let bound = bound(&table.name).expect("the compiler checked the bindings").clone();
        Table { name: table.name.clone(), bound, access }
    });
    let tables = tables.collect();
    Ok(Plan {
        shape,
        initial_state,
        background_only: interruption_would_show(program),
        on_probation: false,
        tables,
        code: Code::Handler(handler),
    })
}

/// Takes the buffers of a kernel for it, until the leases are dropped.
///
/// # Errors
///
/// If one is another device's, or somebody has one in a way that does not go with this kernel's.
fn lease(kernel: &str, device: &dyn Device, tables: &[Table]) -> Result<Vec<Lease>> {
    for Table { name, bound, .. } in tables {
        if !device.owns(&*bound.storage) {
            let (there, here) = (bound.place(), &device.capabilities().name);
            return Err(invalid(
                kernel,
                format!(
                    "table `{name}`: its buffer is in the memory of {there}, as this or another runtime opened it, \
                     and the kernel runs on {here}; make the buffer with `buffer_on`, or pin the kernel with `.on`"
                ),
            ));
        }
    }
    let all: Vec<_> = tables.iter().map(|table| (table.name.as_str(), &table.bound, table.access)).collect();
    check_twice(kernel, &all)?;
    let mut leases = Vec::with_capacity(tables.len());
    for (index, (name, bound, access)) in all.iter().enumerate() {
        // One buffer under two names is one to be had.
        if all[..index].iter().all(|(_, other, _)| !other.is(bound)) {
            leases.push(Lease::take(bound, kernel, name, *access)?);
        }
    }
    Ok(leases)
}

/// A handler that is stopped in the middle runs again; what it wrote to tables by then stays written.
fn interruption_would_show(program: &Program) -> bool {
    program.has_loops && program.tables.iter().any(|table| table.writable)
}

fn plan_native<In, Out>(
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

/// The error of a name that cannot be a kernel's.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "a kernel's name is empty"));
    }
    Ok(())
}
