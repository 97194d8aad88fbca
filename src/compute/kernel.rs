//! An entry point with what is bound to it.

use super::buffer::BoundTable;
use super::lease::{self, Lease};
use super::orchestrator::BoundBuffer;
use super::{ComputeOrchestrator, Dispatch, UnifiedBuffer};
use crate::backend::Device;
use crate::backend::compute::MOST_GROUPS;
use crate::compile::compute::{Access, Binding};
use crate::compile::{CompiledCompute, ComputeSource};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, lock};
use std::sync::Arc;

/// Loop iterations that an invocation has unless the program says otherwise.
const LOOP_BUDGET: u32 = 1_000_000;

/// A compute entry point, with the buffers bound to it so far.
///
/// Made by [`ComputeOrchestrator::kernel`]. Cheap to clone: to run one entry point over other buffers, clone it before
/// anything is bound. Every check that takes all settings is made by [`dispatch`](Self::dispatch).
///
/// # Example
///
/// ```
/// use ringwork::Runtime;
///
/// let runtime = Runtime::new()?;
/// let add = runtime.orchestrator().kernel(
///     "@group(0) @binding(0) var<storage, read> source: array<u32>;
///      @group(0) @binding(1) var<storage, read_write> to: array<u32>;
///      @compute @workgroup_size(4)
///      fn add(@builtin(global_invocation_id) id: vec3<u32>) { to[id.x] += source[id.x]; }",
///     "add",
/// )?;
/// let (a, b) = (runtime.buffer(&[1u32, 2, 3, 4])?, runtime.buffer(&[10u32, 20, 30, 40])?);
/// let forth = add.clone().bind("source", &a).bind("to", &b);
/// let back = add.bind("source", &b).bind("to", &a);
/// forth.dispatch([1, 1, 1])?;
/// back.dispatch([1, 1, 1])?;
/// assert_eq!(a.to_vec()?, [12, 24, 36, 48]);
/// # Ok::<(), ringwork::Error>(())
/// ```
#[must_use = "an entry point does nothing until it is dispatched"]
pub struct ComputeKernel {
    orchestrator: ComputeOrchestrator,
    name: String,
    text: Arc<str>,
    entry: String,
    constants: Vec<(String, f64)>,
    bound: Vec<BoundBuffer>,
    /// Variables whose buffers others may use meanwhile, although they are written.
    shared: Vec<String>,
    loop_budget: u32,
    /// With these constants and this budget; made by the first dispatch.
    compiled: Mutex<Option<Arc<CompiledCompute>>>,
}

impl Clone for ComputeKernel {
    fn clone(&self) -> Self {
        Self {
            orchestrator: self.orchestrator.clone(),
            name: self.name.clone(),
            text: self.text.clone(),
            entry: self.entry.clone(),
            constants: self.constants.clone(),
            bound: self.bound.clone(),
            shared: self.shared.clone(),
            loop_budget: self.loop_budget,
            compiled: Mutex::new(lock(&self.compiled).clone()),
        }
    }
}

impl std::fmt::Debug for ComputeKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bound: Vec<_> = self.bound.iter().map(|bound| &bound.name).collect();
        f.debug_struct("ComputeKernel")
            .field("entry", &self.entry)
            .field("bound", &bound)
            .finish_non_exhaustive()
    }
}

impl ComputeKernel {
    pub(super) fn new(orchestrator: ComputeOrchestrator, text: &str, entry: &str) -> Result<Self> {
        let kernel = Self {
            orchestrator,
            name: format!("<compute \"{entry}\">"),
            text: text.into(),
            entry: entry.to_string(),
            constants: Vec::new(),
            bound: Vec::new(),
            shared: Vec::new(),
            loop_budget: LOOP_BUDGET,
            compiled: Mutex::new(None),
        };
        let compiled = kernel.compile(true)?;
        *lock(&kernel.compiled) = compiled;
        Ok(kernel)
    }

    /// `None` for a draft without all values.
    fn compile(&self, draft: bool) -> Result<Option<Arc<CompiledCompute>>> {
        self.orchestrator.compile(&ComputeSource {
            name: &self.name,
            text: &self.text,
            entry: &self.entry,
            constants: &self.constants,
            loop_budget: self.loop_budget,
            draft,
        })
    }

    /// Binds a buffer to the variable of this name, whatever its `@group` and `@binding`. An element has to be as large
    /// as the variable's: of an `array<f32>` an `f32`; of a struct all of it; of a struct that ends with an array of no
    /// fixed length, a `u32`.
    pub fn bind<T: bytemuck::Pod>(mut self, name: &str, buffer: &UnifiedBuffer<T>) -> Self {
        self.bound.push(BoundBuffer::new(name, buffer));
        self
    }

    /// Lets kernels that read this variable's buffer, and others that share theirs, have it at the same time although it is
    /// written, as [`RingKernel::share`](crate::RingKernel::share) does: what they find in it may be old or new.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{RingKernel, Runtime, message};
    /// use std::time::Duration;
    ///
    /// message! { pub struct Key { pub index: u32 } }
    /// message! { pub struct Value { pub value: u32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let cells = runtime.buffer(&[1u32, 2, 3, 4])?;
    /// let look_up = runtime.launch(
    ///     RingKernel::<Key, Value>::wgsl(
    ///         "look_up",
    ///         "@group(1) @binding(0) var<storage, read> cells: array<u32>;
    ///          fn on_message(m: Key) -> Value { return Value(cells[m.index]); }",
    ///     )
    ///     .bind("cells", &cells),
    /// )?;
    /// look_up.activate()?;
    /// let double = runtime.orchestrator().kernel(
    ///     "@group(0) @binding(0) var<storage, read_write> cells: array<u32>;
    ///      @compute @workgroup_size(4)
    ///      fn double(@builtin(global_invocation_id) id: vec3<u32>) { cells[id.x] *= 2u; }",
    ///     "double",
    /// )?;
    /// let double = double.bind("cells", &cells);
    /// assert!(double.dispatch([1, 1, 1]).is_err_and(|error| error.is_conflict()));
    /// double.share("cells").dispatch([1, 1, 1])?;
    /// assert_eq!(look_up.ask(Key { index: 2 }, Duration::from_secs(1))?.value, 6);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn share(mut self, name: &str) -> Self {
        self.shared.push(name.to_string());
        self
    }

    /// Sets an `override` constant, by its name or the number of its `@id`. A `bool` is true unless it is 0.
    pub fn constant(mut self, name: &str, value: f64) -> Self {
        self.constants.push((name.to_string(), value));
        self.compiled = Mutex::new(None);
        self
    }

    /// How many iterations the loops of an invocation may have together, at least 1; 1,000,000 unless set. Behind a
    /// barrier they count from the beginning; of a loop with barriers inside, its rounds count by themselves.
    pub fn loop_budget(mut self, iterations: u32) -> Self {
        self.loop_budget = iterations;
        self.compiled = Mutex::new(None);
        self
    }

    /// Invocations of a workgroup along x, y and z, with the constants set so far.
    ///
    /// # Errors
    ///
    /// As [`dispatch`](Self::dispatch), of what concerns the text and the constants.
    pub fn workgroup_size(&self) -> Result<[u32; 3]> {
        Ok(self.compiled()?.program.workgroup_size)
    }

    fn compiled(&self) -> Result<Arc<CompiledCompute>> {
        if self.loop_budget == 0 {
            let text = format!("loop_budget of `{}` is 0; it is at least 1", self.entry);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let mut compiled = lock(&self.compiled);
        if let Some(compiled) = &*compiled {
            return Ok(compiled.clone());
        }
        let made = self.compile(false)?.expect("only a draft may lack values");
        Ok(compiled.insert(made).clone())
    }

    /// Runs so many workgroups along x, y and z, and waits until they are done. What it says of the dispatch is in the
    /// [history](ComputeOrchestrator::history) too.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) for a number of workgroups that is not 1 to 65,535, a name that is bound twice or unknown, a
    /// buffer of another device, one without values that is only read, or one that is written and bound to a second name;
    /// [conflict](Error::is_conflict) if a kernel, or another dispatch, has a buffer at the same time in a way that
    /// [does not go](UnifiedBuffer#kernels-that-share-a-buffer) with this one, or this thread has a
    /// [view](UnifiedBuffer::host) of it; [rejected](Error::is_rejected),
    /// with the place of its declaration, for a variable that no buffer is bound to, or one whose elements are
    /// different; [failed](Error::is_failed) if an invocation used up its [budget](Self::loop_budget): what the buffers
    /// hold then is not defined; [timed out](Error::is_timed_out) if another thread has a view of a buffer for five seconds;
    /// [terminated](Error::is_terminated) after a shutdown; [device lost](Error::is_device_lost)
    /// and [unavailable](Error::is_unavailable).
    pub fn dispatch(&self, groups: [u32; 3]) -> Result<Dispatch> {
        self.orchestrator.check_open()?;
        if groups.iter().any(|along| !(1..=MOST_GROUPS).contains(along)) {
            let [x, y, z] = groups;
            let text = format!(
                "a dispatch of `{}` with [{x}, {y}, {z}] workgroups; each number is 1 to {MOST_GROUPS}",
                self.entry
            );
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let compiled = self.compiled()?;
        let device = self.orchestrator.device()?;
        let bindings = &compiled.program.bindings;
        let buffers = self.buffers(bindings, &*device)?;
        let kernel = self.orchestrator.ready(&device, &compiled)?;
        let leases = bindings.iter().zip(&buffers).map(|(binding, table)| {
            let access = match (binding.access, binding.is_stored) {
                (Access::Read | Access::Uniform, _) => lease::Access::Read,
                (Access::ReadWrite, false) => lease::Access::Atomic,
                (Access::ReadWrite, true) if self.shared.contains(&binding.name) => {
                    lease::Access::SharedWrite
                }
                (Access::ReadWrite, true) => lease::Access::Write,
            };
            Lease::take(table, &self.entry, &binding.name, access)
        });
        let leases = leases.collect::<Result<Vec<_>>>()?;
        let storages: Vec<_> = buffers.iter().map(|table| table.storage.clone()).collect();
        leases.iter().for_each(Lease::begin);
        let ended = kernel.dispatch(&storages, groups);
        leases.iter().for_each(Lease::end);
        drop(leases);
        let time = ended?;
        let workgroups: u64 = groups.iter().map(|along| u64::from(*along)).product();
        let dispatch = Dispatch {
            entry: self.entry.clone(),
            groups,
            invocations: workgroups.saturating_mul(compiled.program.invocations().into()),
            duration: time.duration,
            clock: time.clock,
            engine: kernel.engine(),
        };
        self.orchestrator.remember(dispatch.clone());
        Ok(dispatch)
    }

    /// The buffers in the order of the bindings, checked.
    fn buffers(&self, bindings: &[Binding], device: &dyn Device) -> Result<Vec<&BoundTable>> {
        let invalid = |text: String| Err(Error::new(ErrorKind::Invalid, text));
        for (index, bound) in self.bound.iter().enumerate() {
            let name = &bound.name;
            if self.bound[..index].iter().any(|other| other.name == *name) {
                return invalid(format!(
                    "`{name}` of `{}` is bound twice; bind one buffer to it",
                    self.entry
                ));
            }
            if !bindings.iter().any(|binding| binding.name == *name) {
                return invalid(format!(
                    "a buffer is bound to `{name}`, but `{}` uses no such variable; it uses {}",
                    self.entry,
                    list(bindings)
                ));
            }
            if !device.owns(&*bound.table.storage) {
                return invalid(format!(
                    "the buffer bound to `{name}` is not on the device that `{}` runs on; make it with this runtime's \
                     `buffer`",
                    self.entry
                ));
            }
        }
        if let Some(name) = self.shared.iter().find(|name| !bindings.iter().any(|own| own.name == **name)) {
            return invalid(format!(
                "`{name}` is to be shared, but `{}` uses no such variable; it uses {}",
                self.entry,
                list(bindings)
            ));
        }
        let mut buffers: Vec<&BoundTable> = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let Binding { name, place, .. } = binding;
            let Some(bound) = self.bound.iter().find(|bound| bound.name == *name) else {
                let text =
                    format!("{place}: no buffer is bound to `{name}`; call `.bind(\"{name}\", &buffer)`");
                return Err(Error::new(ErrorKind::Rejected, text));
            };
            check(binding, bound)?;
            let twin = bindings.iter().zip(&buffers).find(|(other, buffer)| {
                let is_written = [other.access, binding.access].contains(&Access::ReadWrite);
                is_written && buffer.is(&bound.table)
            });
            if let Some((other, _)) = twin {
                return invalid(format!(
                    "`{}` and `{name}` of `{}` are bound to one buffer, and it is written; bind two",
                    other.name, self.entry
                ));
            }
            buffers.push(&bound.table);
        }
        Ok(buffers)
    }
}

fn list(bindings: &[Binding]) -> String {
    let names: Vec<_> = bindings.iter().map(|binding| format!("`{}`", binding.name)).collect();
    if names.is_empty() { "none".to_string() } else { names.join(", ") }
}

/// Compares a buffer with the variable that it is bound to.
fn check(binding: &Binding, bound: &BoundBuffer) -> Result<()> {
    let Binding { name, place, element, element_size, least, scalar, .. } = binding;
    let table = &bound.table;
    let rejected = |what: String| Err(Error::new(ErrorKind::Rejected, format!("{place}: {what}")));
    let is_number = ["f32", "i32", "u32"].contains(&table.element_name);
    let is_other_number = is_number && scalar.is_some_and(|scalar| scalar != table.element_name);
    if table.element_size != *element_size || is_other_number {
        return rejected(format!(
            "one element of `{name}` is `{element}` and takes {element_size} bytes, but the bound buffer's `{}` takes \
             {}; use the same type on both sides",
            table.element_name, table.element_size
        ));
    }
    let bytes = table.len as u64 * u64::from(table.element_size);
    if bytes < u64::from(*least) {
        return rejected(format!(
            "`{name}` needs {least} bytes, but the bound buffer has {bytes}; bind a longer one"
        ));
    }
    Ok(())
}
