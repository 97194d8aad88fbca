//! A kernel's settings, their bounds, and the errors that name both.

use super::outlet::{AnyOutlet, DeviceOutlet, HostOutlet, Outlet};
use crate::backend::Accelerator;
use crate::compute::BoundTable;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{DeviceMessage, Field, FieldKind, Layout, Message, Scalar};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// What a full queue does with a further message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backpressure {
    /// The sender waits for room, and runs handlers meanwhile if it can.
    #[default]
    Block,
    /// The message comes back to its sender.
    Reject,
    /// The oldest message of the lowest priority is dead-lettered to make room. The newcomer comes back instead if
    /// it ranks below all that are there, or if none can be recalled.
    DropOldest,
    /// The newcomer is dead-lettered, and its sender is told.
    DropNewest,
}

/// What happens to a kernel whose handler faulted or panicked.
///
/// A kernel whose device is lost fails, unless it restarts with its snapshot or initial state and has no tables. Then a
/// device is opened again: the kernel's [own accelerator](crate::RingKernel::on), or what the runtime's backend finds,
/// which with [`Auto`](crate::BackendKind::Auto) may be the CPU. Messages without a result run again, and it counts as a
/// restart. A host kernel's function is called again; of the states only [`Current`](RestartState::Current) applies to it.
///
/// # Example
///
/// ```
/// use ringwork::{DeadLetterReason, RestartPolicy, RestartState, RingKernel, Runtime, message};
/// use std::time::Duration;
///
/// message! { pub struct Step { pub by: u32 } }
/// message! { pub struct Total { pub sum: u32 } }
///
/// let (runtime, second) = (Runtime::new()?, Duration::from_secs(1));
/// let policy = RestartPolicy::OneForOne { max: 3, within: 60 * second, state: RestartState::Snapshot };
/// let total = runtime.launch(
///     RingKernel::<Step, Total>::native("total", |step: Step, total: &mut Total| {
///         assert!(step.by < 100, "too far");
///         total.sum += step.by;
///         *total
///     })
///     .restart(policy),
/// )?;
/// total.activate()?;
/// total.ask(Step { by: 5 }, second)?;
/// total.snapshot()?;
/// total.ask(Step { by: 1 }, second)?;
/// assert!(total.ask(Step { by: 100 }, second).is_err_and(|error| error.is_failed()));
/// assert_eq!(total.read_state::<Total>()?.sum, 5);
/// assert_eq!(runtime.take_dead_letters()[0].reason, DeadLetterReason::Fault);
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RestartPolicy {
    /// It fails.
    #[default]
    Never,
    /// It goes on with its next message, unless it has restarted too often.
    OneForOne {
        /// The restarts that are allowed `within` the time, 1 to 1,024, or `u32::MAX` for any number; one more fails the
        /// kernel.
        max: u32,
        /// The time in which restarts count against `max`.
        within: Duration,
        /// What the state becomes.
        state: RestartState,
    },
}

/// The state a kernel (or the instance that faulted) restarts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RestartState {
    /// As it was before the message that faulted.
    #[default]
    Current,
    /// As in the last [`snapshot`](crate::Handle::snapshot), or the initial one if there is none.
    Snapshot,
    /// The initial one.
    Initial,
}

/// The largest capacity of any queue.
pub(crate) const MOST_CAPACITY: usize = 1 << 20;
const MOST_INSTANCES: u32 = 1 << 24;
const MOST_PER_MESSAGE: u32 = 1024;
const MOST_OUTPUTS: usize = 16;
/// Each restart inside of the policy's time is remembered.
const MOST_RESTARTS: u32 = 1024;

/// Loop iterations of a message, unless set.
const LOOP_BUDGET: u32 = 1_000_000;

/// All that can be set on a kernel.
pub(crate) struct Settings {
    pub queue_capacity: usize,
    pub backpressure: Backpressure,
    pub output_capacity: usize,
    pub output_backpressure: Backpressure,
    pub initial_state: Option<(&'static Layout, Vec<u8>)>,
    /// The state type of a native kernel's function.
    pub native_state: Option<&'static Layout>,
    pub instances: Option<u32>,
    /// `to` unless set.
    pub instance_field: Option<String>,
    pub tables: Vec<(String, BoundTable)>,
    pub outputs: Vec<OutputSpec>,
    /// [`LOOP_BUDGET`] unless set.
    pub loop_budget: Option<u32>,
    pub restart: RestartPolicy,
    /// Tables that others may have although the handler writes them.
    pub shared: Vec<String>,
    /// What the kernel runs on; `None` for what the runtime has.
    pub accelerator: Option<Accelerator>,
    pub unordered_writes: bool,
    /// Handlers run on the background driver's threads and no others.
    pub background: bool,
    /// The handler in CUDA C++.
    pub cuda_source: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_capacity: 1024,
            backpressure: Backpressure::default(),
            output_capacity: 1024,
            output_backpressure: Backpressure::default(),
            initial_state: None,
            native_state: None,
            instances: None,
            instance_field: None,
            tables: Vec::new(),
            outputs: Vec::new(),
            loop_budget: None,
            restart: RestartPolicy::default(),
            shared: Vec::new(),
            accelerator: None,
            unordered_writes: false,
            background: false,
            cuda_source: None,
        }
    }
}

/// Makes an output's typed end: capacity and strategy of its queue, values per message.
type MakeOutlet = fn(usize, Backpressure, u32) -> Arc<dyn AnyOutlet>;

/// A declared output.
#[derive(Clone)]
pub(crate) struct OutputSpec {
    pub name: String,
    /// Only device messages have one.
    pub layout: Option<&'static Layout>,
    pub max_per_message: u32,
    make: MakeOutlet,
}

impl OutputSpec {
    pub(crate) fn device<T: DeviceMessage>(name: String, max_per_message: u32) -> Self {
        Self {
            name,
            layout: Some(T::LAYOUT),
            max_per_message,
            make: |capacity, strategy, max| {
                Arc::new(DeviceOutlet(Arc::new(Outlet::<T>::new(capacity, strategy, max))))
            },
        }
    }

    pub(crate) fn host<T: Message + Clone>(name: String) -> Self {
        Self {
            name,
            layout: None,
            max_per_message: 1,
            make: |capacity, strategy, max| {
                Arc::new(HostOutlet(Arc::new(Outlet::<T>::new(capacity, strategy, max))))
            },
        }
    }

    /// The output's typed end for a kernel with these settings.
    pub(crate) fn make(&self, settings: &Settings) -> Arc<dyn AnyOutlet> {
        (self.make)(settings.output_capacity, settings.output_backpressure, self.max_per_message)
    }
}

/// What kind of kernel settings are for: some apply to one kind only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelKind {
    Wgsl,
    Native,
    Host,
}

impl Settings {
    /// Checks every setting by itself, and that it applies to this kind of kernel.
    ///
    /// # Errors
    ///
    /// The first one that does not hold: setting, value and bound.
    pub(crate) fn check(&self, kernel: &str, kind: KernelKind) -> Result<()> {
        within(kernel, "queue_capacity", self.queue_capacity, 1..=MOST_CAPACITY)?;
        within(kernel, "output_capacity", self.output_capacity, 1..=MOST_CAPACITY)?;
        within(kernel, "loop_budget", self.loop_budget(), 1..=u32::MAX)?;
        within(kernel, "outputs", self.outputs.len(), 0..=MOST_OUTPUTS)?;
        self.check_kind(kernel, kind)?;
        if self.instances.is_none() && self.instance_field.is_some() {
            return Err(invalid(kernel, "instance_field: without instances no message is for one"));
        }
        if let Some(count) = self.instances {
            within(kernel, "instances", count, 1..=MOST_INSTANCES)?;
        }
        if let RestartPolicy::OneForOne { max, .. } = self.restart
            && max != u32::MAX
        {
            within(kernel, "restart.max", max, 1..=MOST_RESTARTS)?;
        }
        self.check_outputs(kernel, kind)?;
        self.check_tables(kernel, kind)?;
        self.check_native_state(kernel)
    }

    /// Are all settings of those that a kernel of this kind has?
    fn check_kind(&self, kernel: &str, kind: KernelKind) -> Result<()> {
        if kind == KernelKind::Host {
            let unused =
                [("initial_state", self.initial_state.is_some()), ("instances", self.instances.is_some())];
            if let Some((setting, _)) = unused.into_iter().find(|(_, set)| *set) {
                return Err(invalid(
                    kernel,
                    format!("{setting}: a host kernel's state is its function's own"),
                ));
            }
        }
        if kind != KernelKind::Wgsl {
            let unused = [
                ("loop_budget", "only the loops of a WGSL handler are counted", self.loop_budget.is_some()),
                ("unordered_writes", "only a WGSL handler has tables", self.unordered_writes),
            ];
            if let Some((setting, why, _)) = unused.into_iter().find(|(.., set)| *set) {
                return Err(invalid(kernel, format!("{setting}: {why}")));
            }
        }
        if self.background && kind == KernelKind::Host {
            return Err(invalid(kernel, "background: a host kernel has a thread of its own already"));
        }
        if let Some(text) = &self.cuda_source {
            if kind != KernelKind::Wgsl {
                return Err(invalid(kernel, "cuda_source: only a WGSL handler has a twin in CUDA C++"));
            }
            if let Some(at) = text.find('\0') {
                return Err(invalid(kernel, format!("cuda_source has a null byte, at byte {at}")));
            }
        }
        if self.accelerator.is_some() && kind != KernelKind::Wgsl {
            return Err(invalid(
                kernel,
                "on: only WGSL handlers run on an accelerator; others are the CPU's",
            ));
        }
        Ok(())
    }

    fn check_outputs(&self, kernel: &str, kind: KernelKind) -> Result<()> {
        for (index, output) in self.outputs.iter().enumerate() {
            let setting = format!("output `{}`", output.name);
            within(kernel, &format!("{setting} per message"), output.max_per_message, 1..=MOST_PER_MESSAGE)?;
            let most = output.max_per_message as usize;
            if self.output_backpressure == Backpressure::Block && self.output_capacity < most {
                return Err(invalid(
                    kernel,
                    format!(
                        "{setting} may get {most} values per message, but output_capacity is {}: no message could \
                         ever begin",
                        self.output_capacity
                    ),
                ));
            }
            if !is_identifier(&output.name) {
                return Err(invalid(
                    kernel,
                    format!("{setting}: a name is a WGSL identifier, such as `alerts`"),
                ));
            }
            if self.outputs[..index].iter().any(|other| other.name == output.name) {
                return Err(invalid(kernel, format!("{setting} is declared twice")));
            }
            if output.layout.is_none() && kind != KernelKind::Host {
                return Err(invalid(
                    kernel,
                    format!("{setting} is of a host type; declare it with `.output`"),
                ));
            }
            if kind == KernelKind::Native {
                return Err(invalid(
                    kernel,
                    format!("{setting}: a native kernel only replies; it has no outputs"),
                ));
            }
        }
        Ok(())
    }

    fn check_tables(&self, kernel: &str, kind: KernelKind) -> Result<()> {
        for (index, (name, _)) in self.tables.iter().enumerate() {
            if kind != KernelKind::Wgsl {
                return Err(invalid(kernel, format!("table `{name}`: only WGSL handlers have tables")));
            }
            if self.tables[..index].iter().any(|(other, _)| other == name) {
                return Err(invalid(kernel, format!("table `{name}` is bound twice")));
            }
        }
        if let Some(name) =
            self.shared.iter().find(|name| self.tables.iter().all(|(table, _)| table != *name))
        {
            return Err(invalid(kernel, format!("share: no buffer is bound to a table `{name}`")));
        }
        Ok(())
    }

    /// Is the initial state one of the type that a native function has?
    fn check_native_state(&self, kernel: &str) -> Result<()> {
        if let (Some(native), Some((given, _))) = (self.native_state, &self.initial_state)
            && native != *given
        {
            let found = if native.size == 0 {
                " has no state".to_owned()
            } else if native.name == given.name {
                format!("'s state is another `{}`, with other fields", native.name)
            } else {
                format!("'s state is a `{}`", native.name)
            };
            return Err(invalid(
                kernel,
                format!("initial_state is a `{}`, but the function{found}", given.name),
            ));
        }
        Ok(())
    }

    /// Loop iterations that a message of a WGSL handler may take.
    pub(crate) fn loop_budget(&self) -> u32 {
        self.loop_budget.unwrap_or(LOOP_BUDGET)
    }

    /// The byte of the message's field that names the instance.
    ///
    /// # Errors
    ///
    /// If the message has no such field, or it is no `u32`.
    pub(crate) fn instance_field_offset(&self, kernel: &str, message: &Layout) -> Result<u32> {
        let name = self.instance_field.as_deref().unwrap_or("to");
        let field = message.fields.iter().find(|field| field.name == name);
        match field {
            Some(Field { offset, kind: FieldKind::Scalar(Scalar::U32), .. }) => Ok(*offset),
            Some(_) => Err(invalid(
                kernel,
                format!("field `{name}` of `{}` names the instance and must be u32", message.name),
            )),
            None => Err(invalid(
                kernel,
                format!(
                    "instances need a field `{name}: u32` in `{}`, or `.instance_field(..)` to name another",
                    message.name
                ),
            )),
        }
    }
}

/// An error about a setting of a kernel.
pub(crate) fn invalid(kernel: &str, text: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Invalid, format!("kernel `{kernel}`: {text}"))
}

fn within<T: PartialOrd + fmt::Display>(
    kernel: &str,
    setting: &str,
    value: T,
    bounds: RangeInclusive<T>,
) -> Result<()> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(invalid(kernel, format!("{setting} is {value}, but must be {} to {}", bounds.start(), bounds.end())))
}

fn is_identifier(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.contains("__")
}
