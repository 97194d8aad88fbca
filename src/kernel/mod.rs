//! What a user declares: a kernel, its settings, and what a host kernel's function is given.

mod context;
mod outlet;
mod queue;
mod settings;

pub use context::Context;
pub(crate) use context::{HostPort, ended};
#[cfg(all(test, loom))]
pub(crate) use outlet::DeviceOutlet;
pub(crate) use outlet::{AnyOutlet, Credits, Dropped, Inlet, Outlet, OutletCounts, Paused};
pub(crate) use queue::{Queue, Tagged, Woken};
pub use settings::{Backpressure, RestartPolicy, RestartState};
pub(crate) use settings::{KernelKind, OutputSpec, Settings, invalid};

use crate::backend::{Accelerator, NativeHandler, Packed, PanicText, Strided};
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

impl<In, Out> std::fmt::Debug for RingKernel<In, Out> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.body {
            Body::Wgsl { .. } => "wgsl",
            Body::Native { .. } => "native",
            Body::Host(_) => "host",
        };
        f.debug_struct("RingKernel").field("name", &self.name).field("kind", &kind).finish_non_exhaustive()
    }
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

impl<In, Out> Body<In, Out> {
    pub(crate) fn kind(&self) -> KernelKind {
        match self {
            Self::Wgsl { .. } => KernelKind::Wgsl,
            Self::Native { .. } => KernelKind::Native,
            Self::Host(_) => KernelKind::Host,
        }
    }
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

    /// The message that these bytes are.
    ///
    /// # Panics
    ///
    /// If they are not as many as the message has.
    pub(crate) fn message(&self, bytes: &[u8]) -> In {
        assert_eq!(bytes.len(), size_of::<In>(), "a message of the wrong size");
        // SAFETY: `In` is `Pod` as above: any bytes of its size are a value, wherever they lie.
        unsafe { bytes.as_ptr().cast::<In>().read_unaligned() }
    }

    /// Adds the replies that these bytes are.
    ///
    /// # Panics
    ///
    /// If they are not as many as a reply has.
    pub(crate) fn extend(&self, replies: &mut Vec<Out>, from: Strided<'_>) {
        replies.extend(from.iter().map(|bytes| self.reply(bytes)));
    }

    /// Keeps messages as the bytes they are.
    pub(crate) fn pack(&self, messages: Vec<In>) -> Arc<PackedMessages<In>> {
        Arc::new(PackedMessages(messages))
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

/// Messages that are plain data: only made by a [proof](Plain) of it.
pub(crate) struct PackedMessages<In>(Vec<In>);

// SAFETY: plain data, as `Plain` proves, without pointers or cells.
unsafe impl<In> Send for PackedMessages<In> {}
// SAFETY: as above.
unsafe impl<In> Sync for PackedMessages<In> {}

impl<In> PackedMessages<In> {
    /// A copy of one of the messages.
    pub(crate) fn copy(&self, index: usize) -> In {
        // SAFETY: a valid reference, to a type that is `Copy`, as `Plain` proves.
        unsafe { std::ptr::read(&raw const self.0[index]) }
    }
}

impl<In> Packed for PackedMessages<In> {
    fn bytes(&self) -> &[u8] {
        // SAFETY: plain data is initialised bytes, and a slice of it has no others.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(&self.0[..])) }
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
    fn run(&self, message: &[u8], state: &mut [u8], reply: &mut [u8]) -> Result<(), Box<PanicText>> {
        // The function works on a copy, so that a panic leaves the state as it was.
        let mut next: S = *bytemuck::from_bytes(state);
        let call = AssertUnwindSafe(|| (self.function)(*bytemuck::from_bytes(message), &mut next));
        let out =
            catch_unwind(call).map_err(|panic| Box::new(PanicText(crate::error::panic_text(&*panic))))?;
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
    /// A kernel whose handler is the WGSL function `on_message` of `source`; it runs on the runtime's device. Such a kernel
    /// is called a device kernel, also where the device is the CPU.
    ///
    /// The signature decides the parallelism: `fn on_message(m: In) -> Out` has no state, and messages may run in
    /// parallel, unless it writes a table, if only by atomics: then they run one at a time, in order, or in parallel with
    /// [`unordered_writes`](Self::unordered_writes). With a second parameter `s: ptr<function, State>` messages run one at a
    /// time, in order. A handler gets
    /// the structs of its Rust types without declaring them. A message, a reply and a value of an output have up to 4,096
    /// bytes, the state up to 1,024. The source is checked at launch.
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
    /// that blocks belongs in a [host kernel](Self::host).
    ///
    /// One that takes 5 µs or more gets one message at a time, whatever its shape, so that no reply waits for another
    /// message. In the [`background`](Self::background) its messages run on all cores, however long they take, if its
    /// shape allows that.
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
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{RingKernel, Runtime, message};
    /// use std::time::Duration;
    ///
    /// message! { pub struct Deposit { pub to: u32, pub amount: u32 } }
    /// message! { pub struct Account { pub balance: u32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let accounts = runtime.launch(
    ///     RingKernel::<Deposit, Account>::wgsl(
    ///         "accounts",
    ///         "fn on_message(m: Deposit, s: ptr<function, Account>) -> Account {
    ///              (*s).balance += m.amount;
    ///              return *s;
    ///          }",
    ///     )
    ///     .initial_state(Account { balance: 10 })
    ///     .instances(1_000),
    /// )?;
    /// accounts.activate()?;
    /// assert_eq!(accounts.ask(Deposit { to: 7, amount: 5 }, Duration::from_secs(1))?.balance, 15);
    /// assert_eq!(accounts.read_states::<Account>()?[8].balance, 10);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn instances(mut self, count: u32) -> Self {
        self.settings.instances = Some(count);
        self
    }

    /// The message's `u32` field that names the instance; `to` unless set. Only with [`instances`](Self::instances).
    pub fn instance_field(mut self, field: impl Into<String>) -> Self {
        self.settings.instance_field = Some(field.into());
        self
    }

    /// Binds a buffer to the handler's module-scope table of this name, declared as
    /// `@group(1) @binding(n) var<storage, read> name: array<T>`, or `read_write`; a handler has up to 4, and only WGSL
    /// handlers have any. Kernels that only read a buffer, or write it by atomics only, may have it at the same time; one
    /// that writes it in other ways is alone, unless it lets others [share](Self::share) it.
    ///
    /// If the elements are structs, the handler's text declares them, unless they are its message, reply, state or a value
    /// that it emits. Their size is compared with that of the buffer's elements.
    pub fn bind<T: bytemuck::Pod>(mut self, name: impl Into<String>, buffer: &UnifiedBuffer<T>) -> Self {
        self.settings.tables.push((name.into(), BoundTable::of(buffer)));
        self
    }

    /// Lets other kernels have the buffer of this table, too, although the handler writes it.
    ///
    /// Unless it says so, a kernel that writes a table other than by atomics is the only one that has its buffer, from its
    /// launch until it is terminated. Where kernels share one, each 32-bit word is seen before or after a write, and messages
    /// order what is seen: who asks one kernel, and then another, has the second see what the first wrote.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{RingKernel, Runtime, message};
    /// use std::time::Duration;
    ///
    /// message! { pub struct Price { pub index: u32, pub value: f32 } }
    /// message! { pub struct Key { pub index: u32 } }
    /// message! { pub struct Value { pub value: f32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let prices = runtime.buffer(&[0.0f32; 100])?;
    /// let update = || {
    ///     RingKernel::<Price, ()>::wgsl(
    ///         "update",
    ///         "@group(1) @binding(0) var<storage, read_write> prices: array<f32>;
    ///          fn on_message(m: Price) { prices[m.index] = m.value; }",
    ///     )
    ///     .bind("prices", &prices)
    /// };
    /// let look_up = runtime.launch(
    ///     RingKernel::<Key, Value>::wgsl(
    ///         "look_up",
    ///         "@group(1) @binding(0) var<storage, read> prices: array<f32>;
    ///          fn on_message(m: Key) -> Value { return Value(prices[m.index]); }",
    ///     )
    ///     .bind("prices", &prices),
    /// )?;
    /// assert!(runtime.launch(update()).is_err_and(|error| error.is_conflict()));
    /// let update = runtime.launch(update().share("prices"))?;
    /// look_up.activate()?;
    /// update.activate()?;
    /// update.ask(Price { index: 7, value: 2.5 }, Duration::from_secs(1))?;
    /// assert_eq!(look_up.ask(Key { index: 7 }, Duration::from_secs(1))?.value, 2.5);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn share(mut self, table: impl Into<String>) -> Self {
        self.settings.shared.push(table.into());
        self
    }

    /// Runs the handler on this accelerator instead of the runtime's own. The buffers bound to it must be
    /// [there](crate::Runtime::buffer_on), too. A runtime opens each accelerator once.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Accelerator, BackendKind, RingKernel, Runtime, message};
    /// use std::time::Duration;
    ///
    /// message! { pub struct Number { pub value: u32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let cpu = Accelerator::by_index(BackendKind::Cpu, 0)?;
    /// let double = runtime.launch(
    ///     RingKernel::<Number, Number>::wgsl(
    ///         "double",
    ///         "fn on_message(m: Number) -> Number { return Number(2u * m.value); }",
    ///     )
    ///     .on(&cpu),
    /// )?;
    /// double.activate()?;
    /// assert_eq!(double.ask(Number { value: 21 }, Duration::from_secs(1))?.value, 42);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn on(mut self, accelerator: &Accelerator) -> Self {
        self.settings.accelerator = Some(accelerator.clone());
        self
    }

    /// Loop iterations one message of a WGSL handler may take before it faults (1 to 4,294,967,295; 1,000,000 unless
    /// set). What the message had written to tables by then stays written. Some devices allow
    /// [fewer](crate::Capabilities::longest_loop).
    pub fn loop_budget(mut self, iterations: u32) -> Self {
        self.settings.loop_budget = Some(iterations);
        self
    }

    /// Runs the handler on the background driver's threads only, never on a caller's.
    ///
    /// Deadlines of asks then hold whatever a [native](Self::native) handler does (a WGSL handler can be stopped
    /// anyway), and no caller lends its thread to the messages of others; each ask costs a hand-over between threads
    /// instead, which takes microseconds where running the handler at once takes nanoseconds.
    ///
    /// Messages without state, and those of different instances, run on as many cores as are free, a round of them at
    /// a time: its replies are there when all of its messages have ended. A native handler that does not come to its
    /// end keeps them waiting, and other kernels from the core it has, but not from running.
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

    /// The same handler in CUDA C++, tuned by hand: used in its place on CUDA, and on no other backend.
    ///
    /// The WGSL stays what defines the kernel: its signature decides the shape, its types are checked, other backends
    /// run it. The text has to define one function, whose parameters are those of `on_message` that there are, by
    /// reference, and the context of the message:
    ///
    /// ```text
    /// __device__ Out on_message(const In& m, State& s, RtContext& rt)    // void where the WGSL gives nothing
    /// ```
    ///
    /// `In`, `Out` and `State`, and the structs of outputs, of table elements and inside of others, are declared before
    /// the text, with the fields and the layout that WGSL gives them: `u32`, `i32`, `f32` are `unsigned`, `int`,
    /// `float`; vectors are CUDA's `float2`, `int3`, `uint4` …; `array<f32, 8>` is `float x[8]`, but elements that are
    /// further apart than they are long (three-component vectors) are at `x[i].value`; a name that is a keyword of C++
    /// alone gets a `_` behind it (`int_`). The message, the state (a copy that becomes the state when the function
    /// returns) and the reply are plain values. In the context are
    ///
    /// * `bool rt.loop()`, which begins one more iteration of a loop and is to be asked in the condition of each that
    ///   may be long: `for (unsigned i = 0; i < n && rt.loop(); i++)`. `false` says that the
    ///   [budget](Self::loop_budget) is used up or that the kernel has to stop; the function then returns, and nothing
    ///   of the message counts. A loop that does not ask cannot be stopped;
    /// * `rt.emit_alerts(value)` for an output `alerts`; more values than declared are a fault;
    /// * `rt.edges` for a table `edges`: `rt.edges[i]`, with the last element for an index that is too large,
    ///   `rt.edges.length` and the pointer `rt.edges.data`; constant if the WGSL only reads it.
    ///
    /// The text is compiled by NVRTC, as C++17 without headers and without contraction to fma. Names that begin with
    /// `rt_`, `Rt` or `RT_` are the library's. What the compiler refuses is an error of the launch, with its words and
    /// the line in this text. Nothing compares the twin with the WGSL; tests that run on both backends do.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{RingKernel, Runtime, message};
    /// use std::time::Duration;
    ///
    /// message! { pub struct Number { pub n: u32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let bits = RingKernel::<Number, Number>::wgsl(
    ///     "bits",
    ///     "fn on_message(m: Number) -> Number { return Number(countOneBits(m.n)); }",
    /// )
    /// .cuda_source("__device__ Number on_message(const Number& m, RtContext&) { return {(unsigned)__popc(m.n)}; }");
    /// let bits = runtime.launch(bits)?;
    /// bits.activate()?;
    /// assert_eq!(bits.ask(Number { n: 0xff }, Duration::from_secs(1))?.n, 8);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn cuda_source(mut self, text: impl Into<String>) -> Self {
        self.settings.cuda_source = Some(text.into());
        self
    }

    /// Says that the order of the handler's table writes does not matter, so that a WGSL handler without state that
    /// writes tables may run for many messages at once; unless this is set, it runs for one after the other. A handler with a
    /// state, or that writes no table, is refused at launch.
    pub fn unordered_writes(mut self) -> Self {
        self.settings.unordered_writes = true;
        self
    }
}

impl<In: Message, Out: Message> RingKernel<In, Out> {
    /// A kernel that is a Rust function with a receive loop, on a thread of its own; for any serde type, blocking
    /// I/O welcome.
    ///
    /// The function is called when the kernel is first active. When it returns, the kernel is terminated, and what is still
    /// queued is dead-lettered. When it panics, so is the message in hand, and the [restart policy](Self::restart) decides
    /// whether it is called again. Its state is its own: tables, instances, an initial state, [`on`](Self::on) and
    /// [`background`](Self::background) are refused.
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

    /// What a full mailbox does with a further message; [`Backpressure::Block`] unless set.
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

    /// What happens to a reply or value when as many are waiting ([`Backpressure::Block`] unless set): `Block` runs no
    /// further message until some have been received; `Reject` and `DropNewest` drop the new one, `DropOldest` the oldest.
    /// Drops are counted.
    pub fn output_backpressure(mut self, strategy: Backpressure) -> Self {
        self.settings.output_backpressure = strategy;
        self
    }

    /// Declares an output that a WGSL handler sends to with `emit_<name>(value)`, at most once per message, and a host
    /// kernel with [`Context::send`], as often as it likes. A native kernel has none. The name is a WGSL identifier, and
    /// there are up to 16 of them.
    pub fn output<T: DeviceMessage>(self, name: impl Into<String>) -> Self {
        self.output_many::<T>(name, 1)
    }

    /// Declares an output that a WGSL handler may send to up to `max_per_message` times per message (1 to 1,024); more is
    /// a fault. A host kernel may send as often as it likes. All outputs together may take 1 MiB for one message, and an
    /// [`output_capacity`](Self::output_capacity) that [blocks](Backpressure::Block) must hold what one message may send: so
    /// many messages as it has room for begin at once, which on a device decides the throughput.
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
