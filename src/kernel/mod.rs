//! What a user declares: a kernel, its settings, and what a host kernel's function is given.

mod context;
mod outlet;
mod queue;
mod settings;

pub use context::Context;
pub(crate) use context::{HostPort, ended};
#[cfg(all(test, loom))]
pub(crate) use outlet::DeviceOutlet;
pub(crate) use outlet::{AnyOutlet, Inlet, Outlet};
pub(crate) use queue::{Queue, Tagged, Woken};
pub use settings::{Backpressure, RestartPolicy, RestartState};
pub(crate) use settings::{KernelKind, OutputSpec, Settings, invalid};

use crate::backend::NativeHandler;
use crate::compute::{BoundTable, UnifiedBuffer};
use crate::message::{DeviceMessage, Message};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Describes a kernel: its name, its handler, its settings. [`Runtime::launch`](crate::Runtime::launch) makes it run.
///
/// `In` is what it takes and `Out` what it replies; `Out = ()` is a kernel that does not reply (an `ask` of it
/// returns when the message is handled).
///
/// # Example
///
/// ```
/// use ringwork::{Backpressure, RingKernel, Runtime, message};
/// use std::time::Duration;
///
/// message! { pub struct Add { pub amount: u32 } }
/// message! { pub struct Total { pub sum: u32 } }
///
/// let runtime = Runtime::new()?;
/// let counter = runtime.launch(
///     RingKernel::<Add, Total>::native("counter", |add: Add, total: &mut Total| {
///         total.sum += add.amount;
///         *total
///     })
///     .queue_capacity(64)
///     .backpressure(Backpressure::Reject),
/// )?;
/// counter.activate()?;
/// counter.ask(Add { amount: 2 }, Duration::from_secs(1))?;
/// assert_eq!(counter.ask(Add { amount: 3 }, Duration::from_secs(1))?.sum, 5);
/// # Ok::<(), ringwork::Error>(())
/// ```
#[must_use = "a kernel does nothing until it is launched"]
pub struct RingKernel<In, Out> {
    pub(crate) name: String,
    pub(crate) body: Body<In, Out>,
    pub(crate) settings: Settings,
}

/// The function of a host kernel.
pub(crate) type HostFunction<In, Out> = Arc<dyn Fn(&mut Context<In, Out>) + Send + Sync>;

/// What a kernel runs.
pub(crate) enum Body<In, Out> {
    /// A WGSL handler, on the runtime's device.
    Wgsl { text: String, plain: Plain<In, Out> },
    /// A Rust function per message, on the CPU; made with a state of this many bytes of zeros.
    Native { handler: Arc<dyn NativeHandler>, state_size: usize, plain: Plain<In, Out> },
    /// A Rust function with a receive loop, on a thread of its own.
    Host(HostFunction<In, Out>),
}

/// Proof that both message types are plain data: only made where the compiler knows it.
pub(crate) struct Plain<In, Out> {
    pub(crate) input: &'static crate::Layout,
    pub(crate) output: &'static crate::Layout,
    _types: PhantomData<fn(In) -> Out>,
}

impl<In, Out> Clone for Plain<In, Out> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<In, Out> Copy for Plain<In, Out> {}

impl<In: DeviceMessage, Out: DeviceMessage> Plain<In, Out> {
    pub(crate) fn new() -> Self {
        Self { input: In::LAYOUT, output: Out::LAYOUT, _types: PhantomData }
    }
}

impl<In, Out> Plain<In, Out> {
    /// The bytes of a message.
    #[inline]
    pub(crate) fn bytes<'a>(&self, message: &'a In) -> &'a [u8] {
        // SAFETY: `new` is the only way to make a proof, and it requires `In: DeviceMessage`, hence `Pod`: any value
        // is `size_of::<In>()` initialised bytes.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(message).cast(), size_of::<In>()) }
    }

    /// The reply that these bytes are.
    ///
    /// # Panics
    ///
    /// If they are not as many as the reply has.
    #[inline]
    pub(crate) fn reply(&self, bytes: &[u8]) -> Out {
        assert_eq!(bytes.len(), size_of::<Out>(), "a reply of the wrong size");
        // SAFETY: `Out` is `Pod` as above: any bytes of its size are a value, wherever they lie.
        unsafe { bytes.as_ptr().cast::<Out>().read_unaligned() }
    }

    /// A reply whose bytes `fill` writes over zeros, and what `fill` returns.
    #[inline]
    pub(crate) fn reply_by<R>(&self, fill: impl FnOnce(&mut [u8]) -> R) -> (R, Out) {
        let mut reply = MaybeUninit::<Out>::zeroed();
        // SAFETY: the bytes are initialised, by `zeroed`, and borrowed for this call alone.
        let bytes = unsafe { std::slice::from_raw_parts_mut(reply.as_mut_ptr().cast(), size_of::<Out>()) };
        let result = fill(bytes);
        // SAFETY: `Out` is `Pod` as above: any bytes are a value.
        (result, unsafe { reply.assume_init() })
    }
}

/// A typed Rust function behind the bytes that a port has.
struct Native<In, S, Out, F> {
    function: F,
    _types: PhantomData<fn(In, S) -> Out>,
}

impl<In, S, Out, F> NativeHandler for Native<In, S, Out, F>
where
    In: DeviceMessage,
    S: DeviceMessage,
    Out: DeviceMessage,
    F: Fn(In, &mut S) -> Out + Send + Sync,
{
    #[inline]
    fn run(&self, message: &[u8], state: &mut [u8], reply: &mut [u8]) -> Result<(), String> {
        // The function works on a copy, so that a panic leaves the state as it was.
        let mut next: S = *bytemuck::from_bytes(state);
        let call = AssertUnwindSafe(|| (self.function)(*bytemuck::from_bytes(message), &mut next));
        let out = catch_unwind(call).map_err(|panic| crate::error::panic_text(&*panic))?;
        state.copy_from_slice(bytemuck::bytes_of(&next));
        reply.copy_from_slice(bytemuck::bytes_of(&out));
        Ok(())
    }
}

impl<In, Out> RingKernel<In, Out> {
    fn new(name: impl Into<String>, body: Body<In, Out>) -> Self {
        Self { name: name.into(), body, settings: Settings::default() }
    }
}

impl<In: DeviceMessage, Out: DeviceMessage> RingKernel<In, Out> {
    /// A kernel whose handler is the WGSL function `on_message` of `source`; it runs on the runtime's device.
    ///
    /// The signature decides the parallelism: `fn on_message(m: In) -> Out` has no state and messages may run in
    /// parallel; with a second parameter `s: ptr<function, State>` messages run one at a time, in order. The source
    /// is checked at launch.
    pub fn wgsl(name: impl Into<String>, source: impl Into<String>) -> Self {
        Self::new(name, Body::Wgsl { text: source.into(), plain: Plain::new() })
    }

    /// A kernel whose handler is a Rust function, called once per message with the state; it has no thread of its
    /// own. `S = ()` is a kernel without state, whose messages may run in parallel.
    ///
    /// The state begins as zeros, or as [`initial_state`](Self::initial_state) says. The function gets a copy of
    /// the state that is committed when it returns: a panic leaves the state as it was. It runs on the background
    /// driver's threads, and on callers' threads once it has shown itself to be fast. Nothing can interrupt it: one
    /// that is fast as a rule and slow now and then should be kept in the [`background`](Self::background), and one
    /// that blocks belongs into a [host kernel](Self::host).
    pub fn native<S: DeviceMessage>(
        name: impl Into<String>,
        function: impl Fn(In, &mut S) -> Out + Send + Sync + 'static,
    ) -> Self {
        let handler = Arc::new(Native { function, _types: PhantomData });
        let mut kernel =
            Self::new(name, Body::Native { handler, state_size: size_of::<S>(), plain: Plain::new() });
        kernel.settings.native_state = Some(S::LAYOUT);
        kernel
    }

    /// The state every instance begins with. The type names the state's struct for a handler that does not declare
    /// it; one that does is compared with it field by field.
    pub fn initial_state<S: DeviceMessage>(mut self, state: S) -> Self {
        self.settings.initial_state = Some((S::LAYOUT, bytemuck::bytes_of(&state).to_vec()));
        self
    }

    /// Makes the kernel `count` serial actors that run in parallel, each with its own state (1 to 16,777,216).
    ///
    /// A message's field `to: u32`, or the one that [`instance_field`](Self::instance_field) names, says which
    /// instance it is for.
    pub fn instances(mut self, count: u32) -> Self {
        self.settings.instances = Some(count);
        self
    }

    /// The message's `u32` field that names the instance; `to` unless set.
    pub fn instance_field(mut self, field: impl Into<String>) -> Self {
        self.settings.instance_field = field.into();
        self
    }

    /// Binds a buffer to the handler's module-scope table of this name.
    pub fn bind<T: bytemuck::Pod>(mut self, name: impl Into<String>, buffer: &UnifiedBuffer<T>) -> Self {
        self.settings.tables.push((name.into(), BoundTable::of(buffer)));
        self
    }

    /// Loop iterations one message may take before it faults (1 to 4,294,967,295; 1,000,000 unless set).
    pub fn loop_budget(mut self, iterations: u32) -> Self {
        self.settings.loop_budget = iterations;
        self
    }

    /// Runs the handler on the background driver's threads only, never on a caller's.
    ///
    /// Deadlines of asks then hold whatever a [native](Self::native) handler does (a WGSL handler can be stopped
    /// anyway), and no caller lends its thread to the messages of others; each ask costs a hand-over between threads
    /// instead, which takes microseconds where running the handler at once takes nanoseconds.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{RingKernel, Runtime, message};
    /// use std::time::Duration;
    ///
    /// message! { pub struct Nap { pub milliseconds: u32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let sleeper = runtime.launch(
    ///     RingKernel::<Nap, Nap>::native("sleeper", |nap: Nap, _: &mut ()| {
    ///         std::thread::sleep(Duration::from_millis(nap.milliseconds.into()));
    ///         nap
    ///     })
    ///     .background(),
    /// )?;
    /// sleeper.activate()?;
    /// let error = sleeper.ask(Nap { milliseconds: 300 }, Duration::from_millis(5)).unwrap_err();
    /// assert!(error.is_timed_out());
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn background(mut self) -> Self {
        self.settings.background = true;
        self
    }

    /// Says that the order of the handler's table writes does not matter, so that a handler without state may
    /// still run in parallel.
    pub fn unordered_writes(mut self) -> Self {
        self.settings.unordered_writes = true;
        self
    }
}

impl<In: Message, Out: Message> RingKernel<In, Out> {
    /// A kernel that is a Rust function with a receive loop, on a thread of its own; for any serde type, blocking
    /// I/O welcome.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Context, RingKernel, Runtime};
    /// use std::time::Duration;
    ///
    /// let runtime = Runtime::new()?;
    /// let shout = runtime.launch(RingKernel::host("shout", |context: &mut Context<String, String>| {
    ///     while let Some(message) = context.receive() {
    ///         context.reply(message.to_uppercase());
    ///     }
    /// }))?;
    /// shout.activate()?;
    /// assert_eq!(shout.ask("hello".to_owned(), Duration::from_secs(1))?, "HELLO");
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn host(
        name: impl Into<String>,
        function: impl Fn(&mut Context<In, Out>) + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, Body::Host(Arc::new(function)))
    }

    /// Messages the mailbox holds (1 to 1,048,576; 1,024 unless set). A message counts until its handler begins.
    pub fn queue_capacity(mut self, messages: usize) -> Self {
        self.settings.queue_capacity = messages;
        self
    }

    /// What a full mailbox does with a further message.
    pub fn backpressure(mut self, strategy: Backpressure) -> Self {
        self.settings.backpressure = strategy;
        self
    }

    /// Replies nobody asked for, and values of each output that is not linked, that wait to be received (1 to
    /// 1,048,576; 1,024 unless set).
    pub fn output_capacity(mut self, values: usize) -> Self {
        self.settings.output_capacity = values;
        self
    }

    /// What happens to a reply or value when as many are waiting: `Block` runs no further message until some have
    /// been received; `Reject` and `DropNewest` drop the new one, `DropOldest` the oldest. Drops are counted.
    pub fn output_backpressure(mut self, strategy: Backpressure) -> Self {
        self.settings.output_backpressure = strategy;
        self
    }

    /// Declares an output that a handler sends to with `emit_<name>(value)`, at most once per message, and a host
    /// kernel with [`Context::send`].
    pub fn output<T: DeviceMessage>(self, name: impl Into<String>) -> Self {
        self.output_many::<T>(name, 1)
    }

    /// Declares an output that a handler may send to up to `max_per_message` times per message (1 to 1,024).
    pub fn output_many<T: DeviceMessage>(mut self, name: impl Into<String>, max_per_message: u32) -> Self {
        self.settings.outputs.push(OutputSpec::device::<T>(name.into(), max_per_message));
        self
    }

    /// Declares an output of any serde type, for host kernels.
    pub fn host_output<T: Message + Clone>(mut self, name: impl Into<String>) -> Self {
        self.settings.outputs.push(OutputSpec::host::<T>(name.into()));
        self
    }

    /// What happens after a fault; [`RestartPolicy::Never`] unless set.
    pub fn restart(mut self, policy: RestartPolicy) -> Self {
        self.settings.restart = policy;
        self
    }
}
