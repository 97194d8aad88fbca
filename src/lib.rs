//! Ringwork: GPU-native actors.
//!
//! An actor, here called a *kernel*, has a handler, a state and bounded queues. The handler is written once, in WGSL;
//! the program talks to it from ordinary synchronous Rust. **This version runs handlers on the CPU**, as machine code
//! made at launch, **through wgpu, and**, with the feature `cuda`, **through CUDA**. The wgpu backend has been tested on
//! Mesa's software Vulkan driver only, the CUDA backend on an emulated driver only; neither has been run on GPU hardware
//! yet.
//!
//! # A first example
//!
//! This is `examples/hello.rs`; it prints `Result: 6`.
//!
#![doc = concat!("```\n", include_str!("../examples/hello.rs"), "```\n")]
//!
//! 1. [`message!`] declares what travels: plain structs whose layout is the same in Rust and in WGSL, or a compile
//!    error that names the field.
//! 2. [`RingKernel`] describes a kernel: a WGSL handler ([`wgsl`](RingKernel::wgsl)), a Rust function
//!    ([`native`](RingKernel::native)), or a Rust function with a receive loop and a thread of its own
//!    ([`host`](RingKernel::host)); and its settings.
//! 3. [`Runtime::launch`] checks and compiles it, and returns a [`Handle`]; [`Handle::activate`] lets it begin. Kernels
//!    with the same handler share [one compilation](CacheSettings).
//! 4. [`Handle::ask`] waits for the reply; [`Handle::send`] does not; [`Handle::request`] returns a [`Pending`] to be
//!    waited for later. [`Handle::recv`] takes the replies that nobody asked for.
//! 5. [`Runtime::link`] joins an [output](RingKernel::output) of one kernel to another kernel.
//!
//! # Memory
//!
//! What is too large for a message lives in a [`UnifiedBuffer`]: an array with a side on the device, which handlers see as a
//! table, and a copy on the host. It knows [which side is newer](BufferState) and moves values once, when the other side
//! needs them. Kernels may [share](UnifiedBuffer#kernels-that-share-a-buffer) one as references in Rust do, and a message
//! points at a part of one with a [`BufferView`]. A [`MemoryPool`] keeps the memory of buffers that come and go. A runtime
//! may use [several accelerators](Accelerator): [`RingKernel::on`], [`Runtime::buffer_on`].
//!
//! # Without actors
//!
//! [`Runtime::orchestrator`] runs ordinary WGSL compute entry points over buffers, once and to their end, on the same
//! backends: with workgroup memory, barriers, atomics and `override` constants. [`ComputeOrchestrator`] has an example.
//!
//! # What is guaranteed
//!
//! 1. **Accounting.** Every accepted message ends exactly once: handled, returned by
//!    [`terminate`](Handle::terminate), or a [dead letter](DeadLetter) with a reason; the counters of every
//!    [`Telemetry`] add up.
//! 2. **Order.** First in, first out for each sender, kernel and [priority](Priority); higher priorities first among
//!    the messages that still are in the mailbox.
//! 3. **Backpressure.** A message counts against the [capacity](RingKernel::queue_capacity) until its handler begins,
//!    and the [strategy](Backpressure) decides what a full mailbox does. A failed send
//!    [gives the message back](SendError), unless the strategy made it a dead letter.
//! 4. **Lifecycle.** One state machine, [`KernelState`]; a call that the state does not allow is an error that names
//!    both states. After [`deactivate`](Handle::deactivate) has returned no message is handled;
//!    [`terminate`](Handle::terminate) is bounded even if a handler never ends.
//! 5. **Correlation.** Concurrent asks never get each other's replies; a reply whose caller has left is dropped and
//!    counted.
//! 6. **Faults are visible.** A panic of a Rust handler; an exhausted [loop budget](RingKernel::loop_budget), or more values
//!    emitted than declared, of a WGSL handler (which has no other faults: integers wrap, indices are clamped, and a division
//!    by zero gives the dividend): each reaches the waiting callers at once, with its cause; the state is as before the message (tables keep what it wrote), the
//!    message is a dead letter, and the [restart policy](RestartPolicy) decides what comes next: unless one is set, the
//!    kernel fails.
//! 7. **Memory is bounded** by the capacities asked for. The one exception is links that lead back: where handlers
//!    send more messages into their own cycle than they take out of it, the cycle holds them.
//!
//! # Time-outs
//!
//! `ask`, `ask_many`, [`Pending::wait`], `recv_timeout`, `send_timeout`, `deactivate_timeout`, `terminate` and `shutdown` take
//! a time-out. `send`, `send_many` and `request` wait for room for as long as the kernel is active and its
//! [strategy](Backpressure) blocks; `try_send` does not wait. `deactivate`, `read_state`, `snapshot`, `link`, and the host's
//! access to a buffer wait for a handler that runs for five seconds. A dispatch ends by its
//! [loop budget](ComputeKernel::loop_budget).
//!
//! # In tests
//!
//! `Runtime::builder().backend(BackendKind::Cpu).build()` has the same device on every machine; with [`Runtime::new`],
//! `RINGWORK_BACKEND=cpu cargo test` does that from outside. `RINGWORK_BACKEND=wgpu`, with Mesa's software driver, tests what
//! a GPU would run without one.
//!
//! # Backends and features
//!
//! | feature | what it adds |
//! |---|---|
//! | `jit` (default) | machine code for WGSL handlers on the CPU, by Cranelift; without it they are interpreted |
//! | `wgpu` (default) | the wgpu backend, which needs a driver to run, and none to build |
//! | `cuda` | the CUDA backend, which needs NVIDIA's driver to run, and NVRTC unless the cache has what it runs; nothing of CUDA to build |
//!
//! Where there is no machine code (the feature is off, Cranelift does not know the processor, or a handler is too large
//! with all its calls inlined), the interpreter runs a handler: with the same results, and about 30 to 90 times slower
//! where it has something to compute. [`Telemetry::engine`] says so, and why.
//!
//! | backend | in this version |
//! |---|---|
//! | [`Cpu`](BackendKind::Cpu) | always there; WGSL handlers are compiled or interpreted, native ones are called |
//! | [`Wgpu`](BackendKind::Wgpu) | WGSL handlers on what Vulkan, Metal or Direct3D 12 reach, in rounds of messages; states and tables stay on the device; native kernels run on the CPU |
//! | [`Cuda`](BackendKind::Cuda) | WGSL handlers as CUDA C++ in a kernel that stays on an NVIDIA GPU while there are messages; compiled and emulated, not yet run on a GPU |
//!
//! Messages over a link go through the host, unless both kernels are on one wgpu or CUDA device; then they may stay there
//! ([`Telemetry::arrived`] counts them), through wgpu in the next kernel's round of the same submission, on CUDA in its ring.
//! They do
//!
//! * if the link's source has one output with one link and, through wgpu, does not reply;
//! * if its target has no tables and, on CUDA, no instances; [blocks or rejects](Backpressure) when it is full; and is in no
//!   cycle of links;
//! * as long as the target is free, and has room for all that may come; of several CUDA kernels that link to one, one at a
//!   time sends this way.
//!
//! [`Auto`](BackendKind::Auto), the default, takes a GPU if there is one, or else the CPU, and a software rasteriser only
//! if an [adapter](RuntimeBuilder::adapter) is named. [`backends`] lists what there is and what is missing, with the
//! remedy; [`RuntimeBuilder::choice`] says what a runtime would take, [`Runtime::why`] what it took and why.
//! `examples/doctor.rs` prints all that.
//!
//! | environment variable | what it says |
//! |---|---|
//! | `RINGWORK_BACKEND` | `cpu`, `wgpu` or `cuda`: replaces `Auto`, and nothing else |
//! | `RINGWORK_ADAPTER` | the [adapter](RuntimeBuilder::adapter), where the program does not say |
//! | `RINGWORK_WGPU_TRANSFER` | `mapped` or `staged`: how messages get to a wgpu device, where both are possible |
//! | `RINGWORK_NVRTC` | where NVRTC is, for the CUDA backend, if it is not found by itself |
//! | `RINGWORK_CUDA_TIME_LIMIT` | set: the CUDA backend also takes devices whose kernels the system ends after some seconds |
//! | `RINGWORK_CACHE` | [where](CacheSettings) compiled code may be kept on disk, or `off` |
//!
//! # The map of the code
//!
//! | module | what is in it |
//! |---|---|
//! | `error` | [`Error`] with its predicates, and the errors of a send that give the message back |
//! | `sync` | locks, atomics and waiting, or their stand-ins under a model checker |
//! | `wire` | the CPU's slots and rings |
//! | `message` | [`Message`], [`DeviceMessage`], [`message!`], ids, priorities |
//! | `compile` | WGSL to a checked and lowered program, what runs it (the interpreter, and the JIT in `compile/jit`), and the cache that keeps both |
//! | `backend` | the traits of a device, the CPU, wgpu, CUDA, and the list of what there is |
//! | `compute` | buffers that host and handlers share, pools of memory for them, and entry points that run over them |
//! | `kernel` | what a user declares: kernels, settings, outputs, the context of a host kernel |
//! | `actor` | what runs them: runtime, handles, mailboxes, drivers, links, supervision, telemetry |
//!
//! The first four may import each other, each of the others only what stands above it; `ci/imports.sh` checks that.

#![deny(missing_docs, missing_debug_implementations)]

extern crate self as ringwork;

mod actor;
mod backend;
mod compile;
mod compute;
mod error;
mod kernel;
mod message;
mod sync;
mod wire;

pub use actor::{
    DeadLetter, DeadLetterCounts, DeadLetterReason, Handle, KernelState, Latency, Options, Output, Pending,
    Replies, Runtime, RuntimeBuilder, Snapshot, Telemetry, Termination,
};
pub use backend::{
    Accelerator, AcceleratorKind, BackendKind, BackendReport, Capabilities, Choice, DispatchClock, Execution,
    Problem, WorkgroupLimits, backends,
};
#[cfg(feature = "cuda")]
pub use backend::{GpuMonitor, GpuSample};
pub use compile::{CacheSettings, CacheStatistics};
pub use compute::{
    BufferSlice, BufferState, BufferView, ComputeKernel, ComputeOrchestrator, Dispatch, Elements, HostView,
    HostViewMut, MemoryPool, PoolSettings, PoolStatistics, Transfers, UnifiedBuffer,
};
pub use error::{Error, Result, SendError, SendManyError, SendTimeoutError, TrySendError};
pub use kernel::{Backpressure, Context, RestartPolicy, RestartState, RingKernel};
#[doc(hidden)]
pub use message::__private;
pub use message::{
    DeviceMessage, Envelope, Field, FieldKind, Layout, Message, Priority, Scalar, Vec2, Vec3, Vec4,
};
pub use uuid::Uuid;
