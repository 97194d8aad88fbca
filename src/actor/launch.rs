//! From a declared kernel to a running one: takes its buffers and opens its port.

use super::core::{Core, Engine, Facts, Inside, Memory};
use super::devices::Devices;
use super::host::{check_restart, unit_reply};
use super::lifecycle::Event;
use super::mailbox::Mailbox;
use super::plan::{Plan, Table, plan_native, plan_wgsl};
use super::services::Services;
use crate::backend::{Accelerator, Device, Execution, LaunchSpec, Onward, Port, PortControl, Shape, Twin};
use crate::compute::{Lease, LeasedPort, check_twice};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::{
    AnyOutlet, Body, HostFunction, Plain, Queue, RestartState, RingKernel, Settings, invalid,
};
use crate::message::Message;
use std::sync::Arc;
use std::time::Instant;

/// Messages of a serial kernel in its port at once: enough to share one lock and one look at the clock, few enough that
/// priority keeps its meaning.
const SERIAL_ROUND: u32 = 32;
/// … of a stateless kernel: a batch worth spreading over cores.
const STATELESS_ROUND: u32 = 4096;
/// … of a kernel with instances.
const INSTANCES_ROUND: u32 = 1 << 16;
/// … of a serial kernel on a device: one invocation runs them one after the other.
const SERIAL_DEVICE_ROUND: u32 = 1024;
/// … of any other kernel on a device.
const DEVICE_ROUND: u32 = 1 << 16;

/// How a kernel gets another port when its device is lost: on the device that there is then, with these states of all
/// instances.
pub(super) type Relaunch = Box<dyn Fn(Arc<[u8]>) -> Result<Box<dyn Port>> + Send + Sync>;

/// A kernel ready to be entered into the registry.
pub(super) struct Launched<In, Out> {
    pub(super) core: Arc<Core<In, Out>>,
    /// A host kernel's thread has to be started.
    pub(super) host: Option<HostFunction<In, Out>>,
}

/// What a port is opened for.
struct Declared<'a> {
    id: u64,
    name: &'a str,
    settings: &'a Settings,
    outlets: &'a [(String, Arc<dyn AnyOutlet>)],
    control: &'a Arc<PortControl>,
    message_size: u32,
    reply_size: u32,
    /// On a device other than the CPU.
    on_device: bool,
}

pub(super) fn launch<In: Message, Out: Message>(
    kernel: RingKernel<In, Out>,
    id: u64,
    services: Arc<Services>,
    devices: &Arc<Devices>,
) -> Result<Launched<In, Out>> {
    let RingKernel { name, body, settings } = kernel;
    settings.check(&name, body.kind())?;
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
            check_restart(&name, settings.restart)?;
            (None, None, None, Some(function))
        }
    };
    let launched = Instant::now();
    let outlets: Vec<(String, Arc<dyn AnyOutlet>)> =
        settings.outputs.iter().map(|output| (output.name.clone(), output.make(&settings))).collect();
    let on_device = device.as_ref().is_some_and(|device| device.capabilities().execution != Execution::Host);
    let shape = plan.as_ref().map_or(Shape::Serial, |plan| plan.shape);
    // What runs on a device is never interrupted but by the kernel's end, and never on a caller's thread.
    let background_only =
        settings.background || plan.as_ref().is_some_and(|plan| plan.background_only && !on_device);
    let on_probation = plan.as_ref().is_some_and(|plan| plan.on_probation);
    let control = Arc::new(PortControl::default());
    let (engine, relaunch) = match (plan, &plain, device) {
        (Some(plan), Some(Plain { input, output, .. }), Some(device)) => {
            let declared = Declared {
                id,
                name: &name,
                settings: &settings,
                outlets: &outlets,
                control: &control,
                message_size: input.size,
                reply_size: output.size,
                on_device,
            };
            open_port(&declared, plan, &*device, devices)?
        }
        _ => (Engine::new(None, Memory { initial: Vec::new(), instances: 0, snapshot: None }), None),
    };
    let facts = Facts {
        id,
        name: name.clone().into(),
        services,
        plain,
        shape,
        has_reply: plain.map_or_else(|| unit_reply::<Out>().is_none(), |plain| plain.output.size > 0),
        backpressure: settings.backpressure,
        restart: settings.restart,
        background_only,
        on_probation,
        on_device,
        relaunch,
        state: settings.initial_state.as_ref().map(|(layout, _)| *layout).or(settings.native_state),
        launched,
    };
    let mut mailbox = Mailbox::new(settings.queue_capacity, settings.backpressure);
    mailbox.state = mailbox.state.after(Event::Launch, &name)?;
    mailbox.inlet = engine.port.as_ref().and_then(|port| port.inlet());
    let replies = Queue::new(settings.output_capacity, settings.output_backpressure);
    let core = Core::new(facts, mailbox, replies, outlets, engine, control);
    Ok(Launched { core, host })
}

/// Launches what is planned on this device, and says how to come back from its loss.
fn open_port<Out>(
    declared: &Declared<'_>,
    plan: Plan,
    device: &dyn Device,
    devices: &Arc<Devices>,
) -> Result<(Engine<Out>, Option<Relaunch>)> {
    let Declared { name, settings, on_device, .. } = *declared;
    let leases = lease(name, device, &plan.tables)?;
    let spec = spec_of(declared, plan);
    let instances = spec.shape.instances() as usize;
    let memory = Memory { initial: spec.initial_state.clone(), instances, snapshot: None };
    let relaunch = on_device.then(|| relaunch(&spec, devices, settings.accelerator.as_ref()));
    let mut opened = device.launch(spec);
    if let (Some(relaunch), Err(error)) = (&relaunch, &opened)
        && error.is_device_lost()
        && leases.is_empty()
    {
        // It was lost before, without anybody having noticed.
        opened = relaunch(memory.fallback(RestartState::Initial));
    }
    let mut port = opened?;
    if !leases.is_empty() {
        port = Box::new(LeasedPort::new(port, leases, !on_device));
    }
    memory.arrange_restart(port.as_mut(), settings.restart)?;
    Ok((Engine::new(Some(port), memory), relaunch))
}

/// What the backend is told.
fn spec_of(declared: &Declared<'_>, plan: Plan) -> LaunchSpec {
    let Declared { id, name, settings, outlets, control, message_size, reply_size, on_device } = *declared;
    let twin = |text: &String| Arc::new(Twin { kernel: name.to_owned(), text: text.clone() });
    LaunchSpec {
        code: plan.code,
        twin: settings.cuda_source.as_ref().map(twin),
        shape: plan.shape,
        message_size,
        reply_size,
        initial_state: plan.initial_state,
        states: None,
        tables: plan.tables.iter().map(|table| table.bound.storage.clone()).collect(),
        onward: outlets.iter().map(|(_, outlet)| outlet.clone() as Arc<dyn Onward>).collect(),
        round: round_of(plan.shape, on_device, settings.queue_capacity),
        control: control.clone(),
        around: Arc::new(move |body: &mut dyn FnMut()| {
            let _inside = Inside::enter(id);
            body();
        }),
    }
}

/// Messages in the port at once, at most.
fn round_of(shape: Shape, on_device: bool, queue_capacity: usize) -> u32 {
    let most = match (shape, on_device) {
        (Shape::Serial, false) => SERIAL_ROUND,
        (Shape::Stateless, false) => STATELESS_ROUND,
        (Shape::Instances { .. }, false) => INSTANCES_ROUND,
        (Shape::Serial, true) => SERIAL_DEVICE_ROUND,
        (_, true) => DEVICE_ROUND,
    };
    u32::try_from(queue_capacity).unwrap_or(u32::MAX).clamp(SERIAL_ROUND, most)
}

/// The way back from a loss. A kernel with tables has none: what was in them is lost with the device.
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
