//! Runs one message: the part that serial and parallel rounds share.

use crate::backend::{Code, Fault, LaunchSpec, NativeHandler, Shape};
use crate::compile::{
    Batch, BatchEnd, EmitSlot, Executable, Frame, HandlerEngine, Outcome, PartSizes, Places, StopCheck,
    TableView,
};
use crate::message::Token;
use crate::wire::{KIND_EMIT, KIND_REPLY, SlotRing};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// How a handler is called.
enum Engine {
    Compiled(Arc<HandlerEngine>),
    Native(Arc<dyn NativeHandler>),
}

/// What all threads that run a kernel share.
pub(super) struct Runner {
    engine: Engine,
    /// Of the engine.
    pub(super) name: &'static str,
    pub(super) parts: PartSizes,
    /// The handler has loops: many messages, each over before it looks at the clock, can take long.
    pub(super) has_loops: bool,
    emits: Vec<EmitSlot>,
    tables: Vec<TableView>,
}

/// What each thread that runs a kernel needs for itself: room for what comes out; 16-byte units keep every type
/// aligned.
pub(super) struct Scratch {
    reply: Box<[u128]>,
    pub(super) privates: Box<[u128]>,
}

/// Messages for [`Runner::run_batch`]; the fields are those of [`Batch`].
pub(super) struct Messages<'a> {
    pub input: &'a SlotRing,
    pub places: Places<'a>,
    pub shape: Shape,
    pub states: &'a mut [u8],
    pub first_instance: usize,
    pub output: &'a mut SlotRing,
    pub stop: &'a StopCheck<'a>,
    pub stop_at: u32,
    pub waiting: Option<&'a AtomicUsize>,
    pub last: Option<Token>,
}

/// How one message ended.
pub(super) enum Ran {
    Done,
    Faulted(Fault),
    Interrupted,
}

pub(super) fn units(bytes: usize) -> Box<[u128]> {
    vec![0; bytes.div_ceil(16)].into()
}

impl Runner {
    pub(super) fn new(spec: &LaunchSpec, tables: Vec<TableView>) -> Self {
        let (engine, name, privates_size, has_loops, emits) = match &spec.code {
            Code::Handler(handler) => {
                let (code, name) = handler.executable();
                let program = &handler.program;
                let privates = program.privates_size as usize;
                (Engine::Compiled(code), name, privates, program.has_loops, program.emits.clone())
            }
            Code::Native(handler) => (Engine::Native(handler.clone()), "native", 0, false, Vec::new()),
        };
        let parts = PartSizes {
            message: spec.message_size as usize,
            state: spec.initial_state.len(),
            reply: spec.reply_size as usize,
            privates: privates_size,
        };
        if let Engine::Compiled(code) = &engine {
            code.check(parts, &tables);
        }
        Self { engine, parts, name, has_loops, emits, tables }
    }

    pub(super) fn scratch(&self) -> Scratch {
        Scratch { reply: units(self.parts.reply), privates: units(self.parts.privates) }
    }

    /// Slots that one message can fill on its way out.
    pub(super) fn slots_per_message(&self) -> usize {
        1 + self.emits.iter().map(|emit| emit.max as usize).sum::<usize>()
    }

    /// Bytes of the longest payload that comes out.
    pub(super) fn longest_output(&self) -> u32 {
        self.emits.iter().map(|emit| emit.size).max().unwrap_or(0).max(self.parts.reply as u32)
    }

    /// Can it run batches? A panic needs more care.
    pub(super) fn takes_batches(&self) -> bool {
        matches!(self.engine, Engine::Compiled(_))
    }

    /// Runs messages, what comes out into `output`. If one faults or is interrupted, its state is as before it.
    ///
    /// # Panics
    ///
    /// If the handler does not [take batches](Self::takes_batches).
    pub(super) fn run_batch(&self, scratch: &mut Scratch, round: Messages<'_>) -> BatchEnd {
        let Engine::Compiled(code) = &self.engine else { panic!("a native handler takes no batches") };
        code.run_batch(&mut Batch {
            input: round.input,
            places: round.places,
            message_size: self.parts.message,
            state_size: self.parts.state,
            states: round.states,
            first_instance: round.first_instance,
            instance_at: match round.shape {
                Shape::Instances { field_offset, .. } => Some(field_offset as usize),
                Shape::Stateless | Shape::Serial => None,
            },
            reply_size: self.parts.reply,
            emits: &self.emits,
            output: round.output,
            privates: bytemuck::cast_slice_mut(&mut scratch.privates),
            tables: &self.tables,
            stop: round.stop,
            stop_at: round.stop_at,
            waiting: round.waiting,
            last: round.last,
        })
    }

    /// Runs the handler. If the message faults or is interrupted, the state is as before it; else emitted values
    /// and reply are in the scratch memory for [`results`](Self::results).
    #[inline]
    pub(super) fn run(
        &self,
        scratch: &mut Scratch,
        message: &[u8],
        state: &mut [u8],
        stop: &StopCheck<'_>,
    ) -> Ran {
        let reply = &mut bytemuck::cast_slice_mut::<u128, u8>(&mut scratch.reply)[..self.parts.reply];
        self.run_into(&mut scratch.privates, message, state, reply, stop)
    }

    /// As [`run`](Self::run) for a kernel without outputs, with the reply where the caller wants it: aligned for its
    /// type, and as long.
    ///
    /// Inlined always: a call of its own took 2 of 23 ns of an ask.
    #[inline(always)]
    pub(super) fn run_into(
        &self,
        privates: &mut [u128],
        message: &[u8],
        state: &mut [u8],
        reply: &mut [u8],
        stop: &StopCheck<'_>,
    ) -> Ran {
        match &self.engine {
            Engine::Native(handler) => match handler.run(message, state, reply) {
                Ok(()) => Ran::Done,
                Err(panic) => Ran::Faulted(Fault::Panic(panic)),
            },
            Engine::Compiled(code) => {
                let privates: &mut [u8] = bytemuck::cast_slice_mut(privates);
                let parts = &self.parts;
                // No `&&`: one branch for all of them.
                let fits = (message.len() >= parts.message)
                    & (state.len() >= parts.state)
                    & (reply.len() >= parts.reply)
                    & (privates.len() >= parts.privates);
                assert!(fits, "a frame is too small for its handler");
                let frame = Frame { message, state, reply, privates, tables: &self.tables, stop };
                // SAFETY: checked in `new` for these tables, which stay the same, and parts that are not larger.
                match unsafe { code.run_checked(frame) } {
                    Outcome::Done => Ran::Done,
                    Outcome::Interrupted => Ran::Interrupted,
                    Outcome::Fault(code) => Ran::Faulted(code.into()),
                }
            }
        }
    }

    /// Gives out what the last run that was `Done` produced: emitted values, then the reply.
    #[inline]
    pub(super) fn results(&self, scratch: &Scratch, mut sink: impl FnMut(u32, &[u8])) {
        let privates: &[u8] = bytemuck::cast_slice(&scratch.privates);
        for (kind, slot) in (KIND_EMIT..).zip(&self.emits) {
            slot.values(privates).for_each(|value| sink(kind, value));
        }
        sink(KIND_REPLY, &bytemuck::cast_slice::<u128, u8>(&scratch.reply)[..self.parts.reply]);
    }
}
