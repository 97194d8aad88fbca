//! Machine code for handlers, by Cranelift.
//!
//! [`translate()`] turns a lowered program into [`MachineCode`]: position-independent bytes that may be kept and used
//! again by the same library on the same kind of processor ([`host_key`]). [`load`] makes them executable.

mod analysis;
mod batch;
mod layout;
mod look;
mod machine_code;
mod pack;
mod runtime;
#[cfg(test)]
mod tests;
mod translate;

pub(crate) use machine_code::MachineCode;

use super::{
    Batch, BatchEnd, Executable, FaultCode, Frame, Outcome, PartSizes, Program, StopCheck, TableView, shape,
};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::slot_size;
use analysis::Analysis;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{Context as CompilationContext, ir};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module as _};
use machine_code::Sizes;
use runtime::{BatchRun, Context, Fixed, SERVICES};
use std::sync::{Mutex, OnceLock};
use translate::Constants;

/// Bytes of stack that a handler may use, spilled registers included: a thread that drives kernels usually has 2 MiB
/// in Rust, and most of it is the caller's.
const MOST_FRAME: u32 = 128 << 10;

/// A way to call a handler.
type Entry =
    unsafe extern "C" fn(*mut Context, *const u8, *mut u8, *mut u8, *mut u8, *const TableView) -> u32;

/// A way to run a handler on many messages.
type BatchEntry = unsafe extern "C" fn(*mut BatchRun) -> u32;

/// Instructions of Cranelift's IR up to which a handler gets an entry for batches, which takes as long to compile as
/// the other: a call costs next to nothing beside a larger one.
const MOST_BATCHED: usize = 4_000;

/// The code generator for this machine, or the engine to take instead.
fn host() -> std::result::Result<&'static OwnedTargetIsa, &'static str> {
    static HOST: OnceLock<std::result::Result<OwnedTargetIsa, String>> = OnceLock::new();
    let host = HOST.get_or_init(|| {
        let none = |why: &dyn std::fmt::Display| format!("interpreter: {why}");
        let mut flags = settings::builder();
        for (name, value) in [
            ("opt_level", "speed"),
            // cranelift-jit wants it so; the code is position-independent all the same, as it refers to nothing.
            ("is_pic", "false"),
            // A frame of more than a page touches each of its pages in order, so that the end of a stack is found
            // as in Rust. In line, because a function for it would be a relocation.
            ("enable_probestack", "true"),
            ("probestack_strategy", "inline"),
            // Nothing unwinds through a handler: services do not panic.
            ("unwind_info", "false"),
            ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        ] {
            flags.set(name, value).map_err(|error| none(&error))?;
        }
        let builder = cranelift_native::builder().map_err(|why| none(&why))?;
        let isa = builder.finish(settings::Flags::new(flags)).map_err(|error| none(&error))?;
        if isa.pointer_type() != ir::types::I64 {
            return Err(none(&"the processor does not have 64 bits"));
        }
        Ok(isa)
    });
    host.as_ref().map_err(String::as_str)
}

/// Can this machine run machine code at all? The error names the engine to take instead.
pub(crate) fn check_host() -> std::result::Result<(), &'static str> {
    host().map(|_| ())
}

/// Names all that machine code depends on besides the program: the processor, Cranelift's settings and version, and
/// this library's version. Code made under another key must not be loaded.
///
/// # Errors
///
/// `Unavailable` if there is no code generator for this machine.
pub(crate) fn host_key() -> Result<String> {
    let isa = host().map_err(unavailable)?;
    let features: Vec<_> = isa.isa_flags().iter().map(ToString::to_string).collect();
    Ok(format!(
        "ringwork {} machine code {}; cranelift {}; {}; {}; {}",
        env!("CARGO_PKG_VERSION"),
        machine_code::VERSION,
        cranelift_codegen::VERSION,
        isa.triple(),
        isa.flags().to_string().replace('\n', " "),
        features.join(" ")
    ))
}

fn unavailable(why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("no machine code: {why}"))
}

/// Compiles a program to machine code.
///
/// # Errors
///
/// The interpreter's name with the reason why it has to run this program: there is no code generator for this
/// machine, or the handler is too large.
pub(crate) fn translate(program: &Program) -> std::result::Result<MachineCode, &'static str> {
    let isa = host()?;
    // The translation walks the handler's blocks and calls recursively, as deep as it allows itself; and a bug in the
    // code generator must cost a handler its speed and not the program its life.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("ringwork-jit".into()).stack_size(16 << 20);
        let thread = thread.spawn_scoped(scope, || generate(program, isa));
        thread
            .map_err(|_| "interpreter: there is no thread to compile on")?
            .join()
            .unwrap_or(Err("interpreter: the code generator panicked"))
    })
}

fn generate(program: &Program, isa: &OwnedTargetIsa) -> std::result::Result<MachineCode, &'static str> {
    let analysis = Analysis::new(program);
    let one = translate::translate(program, &analysis, &**isa, translate::Kind::One, Constants::default());
    let translate::Translated { function: one, constants, .. } = one.map_err(translate::Refusal::engine)?;
    let instructions = one.dfg.num_insts();
    let kept = constants.clone();
    let (one, batch) = std::thread::scope(|scope| {
        let batch = (program.takes_batches && instructions <= MOST_BATCHED).then(|| {
            let thread = std::thread::Builder::new().name("ringwork-jit".into()).stack_size(16 << 20);
            let work = || {
                let batch = translate::Kind::Batch;
                let translated = translate::translate(program, &analysis, &**isa, batch, kept).ok()?;
                let compiled = compile(translated.function, isa).ok()?;
                Some((compiled, translated.constants, translated.needs_replay))
            };
            thread.spawn_scoped(scope, work)
        });
        // Without it each message of a batch is a call: nothing that a handler has to be refused for.
        let one = compile(one, isa);
        (one, batch.and_then(|thread| thread.ok()?.join().ok()?))
    });
    let mut code = one?;
    let (mut at, mut constants, mut needs_replay) = (None, constants, false);
    if let Some((batch, more, replay)) = batch {
        let start = code.bytes.len().next_multiple_of(batch.alignment as usize);
        code.bytes.resize(start, 0);
        code.bytes.extend(batch.bytes);
        code.alignment = code.alignment.max(batch.alignment);
        (at, constants, needs_replay) = (Some(start as u32), more, replay);
    }
    Ok(MachineCode {
        code: code.bytes,
        batch: at,
        needs_replay,
        alignment: code.alignment,
        constants: constants.bytes,
        sizes: sizes(program),
    })
}

/// The machine code of one function.
struct Compiled {
    bytes: Vec<u8>,
    alignment: u32,
}

fn compile(function: ir::Function, isa: &OwnedTargetIsa) -> std::result::Result<Compiled, &'static str> {
    let mut context = CompilationContext::for_function(function);
    let compiled = context
        .compile(&**isa, &mut ControlPlane::default())
        .map_err(|_| "interpreter: the code generator refused the handler")?;
    if !compiled.buffer.relocs().is_empty() {
        return Err("interpreter: the processor lacks instructions that the handler needs");
    }
    if compiled.buffer.frame_layout().is_none_or(|layout| layout.frame_to_fp_offset > MOST_FRAME) {
        return Err(translate::Refusal::Stack.engine());
    }
    let alignment = u64::from(compiled.buffer.alignment)
        .max(u64::from(isa.function_alignment().minimum))
        .max(isa.symbol_alignment());
    Ok(Compiled { bytes: compiled.code_buffer().to_vec(), alignment: alignment as u32 })
}

/// What a caller of the handler has to provide.
fn sizes(program: &Program) -> Sizes {
    let module = &program.module;
    let entry = &module.functions[program.entry];
    let size = |ty| layout::size(module, shape::inner(module, ty));
    Sizes {
        message: if program.has_message { size(entry.arguments[0].ty) } else { 0 },
        state: program.state_size(),
        reply: entry.result.as_ref().map_or(0, |result| size(result.ty)),
        privates: program.privates_size,
        emits: program.emits.iter().map(|emit| emit.max).sum(),
        input_slot: slot_size(program.signature.message.size),
        output_slot: slot_size(program.longest_output()),
        instance_at: program.instance_at,
        tables: program
            .table_globals
            .iter()
            .map(|global| {
                let inner = shape::inner(module, module.global_variables[*global].ty);
                match shape::unsized_part(module, inner) {
                    Some((before, stride)) => before + stride,
                    None => layout::size(module, inner),
                }
            })
            .collect(),
    }
}

/// Machine code in executable memory, which is freed with this. Never writable and executable at the same time.
struct Loaded {
    address: *const (),
    /// Empty only while this is dropped.
    module: Mutex<Option<JITModule>>,
}

// SAFETY: the address is of memory that nobody writes to any more; the module is behind a lock.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Loaded {
    fn new(code: &[u8], alignment: u32) -> Result<Self> {
        let isa = host().map_err(unavailable)?;
        let builder = JITBuilder::with_isa(isa.clone(), cranelift_module::default_libcall_names());
        let mut module = JITModule::new(builder);
        let signature = ir::Signature::new(isa.default_call_conv());
        let failed = |error: cranelift_module::ModuleError| unavailable(&error.to_string());
        let function = module.declare_function("handler", Linkage::Local, &signature).map_err(failed)?;
        module.define_function_bytes(function, alignment.into(), code, &[]).map_err(failed)?;
        module.finalize_definitions().map_err(failed)?;
        let address = module.get_finalized_function(function).cast();
        Ok(Self { address, module: Mutex::new(Some(module)) })
    }

    fn address(&self) -> *const () {
        self.address
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let module = self.module.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(module) = module {
            // SAFETY: whoever calls the code borrows its owner meanwhile: no call is going on, and none follows.
            unsafe { module.free_memory() }
        }
    }
}

/// A handler in executable memory.
pub(crate) struct JitHandler {
    entry: Entry,
    /// `None` for a handler that is large.
    batch: Option<BatchEntry>,
    /// See [`MachineCode`].
    needs_replay: bool,
    fixed: Fixed,
    sizes: Sizes,
    /// Holds the constants that `fixed` points to.
    _constants: Box<[u8]>,
    /// Holds the memory that the entries point into.
    _memory: Loaded,
}

// SAFETY: what `fixed` points to stays as long as the handler, and nobody writes to it.
unsafe impl Send for JitHandler {}
// SAFETY: as above.
unsafe impl Sync for JitHandler {}

/// Makes machine code executable.
///
/// # Errors
///
/// `Unavailable` if there is no code generator for this machine or it gives no executable memory.
pub(crate) fn load(code: &MachineCode) -> Result<JitHandler> {
    let look = look::address().map_err(unavailable)?;
    let memory = Loaded::new(&code.code, code.alignment)?;
    // SAFETY: the bytes were made by `generate` with this signature, for this host (who makes `MachineCode` from
    // bytes owes that they are such), and the memory stays as long as the handler.
    let entry = unsafe { std::mem::transmute::<*const (), Entry>(memory.address()) };
    // SAFETY: as above; the second function begins there.
    let batch = code.batch.map(|at| unsafe {
        std::mem::transmute::<*const (), BatchEntry>(memory.address().byte_add(at as usize))
    });
    let constants: Box<[u8]> = code.constants.clone().into();
    let fixed = Fixed { services: &SERVICES, look, constants: constants.as_ptr() };
    Ok(JitHandler {
        entry,
        batch,
        needs_replay: code.needs_replay,
        fixed,
        sizes: code.sizes.clone(),
        _constants: constants,
        _memory: memory,
    })
}

impl JitHandler {
    /// See [`HandlerEngine::check`](super::HandlerEngine::check).
    pub(super) fn check(&self, parts: PartSizes, tables: &[TableView]) {
        let sizes = &self.sizes;
        let fits = parts.message >= sizes.message as usize
            && parts.state >= sizes.state as usize
            && parts.reply >= sizes.reply as usize
            && parts.privates >= sizes.privates as usize
            && tables.len() == sizes.tables.len();
        assert!(fits, "a frame is too small for its handler");
        for (view, bytes) in tables.iter().zip(&sizes.tables) {
            assert!(view.bytes >= *bytes as usize, "a table is too small for its handler");
        }
    }

    /// As [`run`](Executable::run) without a look at the sizes.
    ///
    /// # Safety
    ///
    /// They have been [checked](Self::check).
    #[inline(always)]
    pub(super) unsafe fn run_checked(&self, frame: Frame<'_>) -> Outcome {
        let Frame { message, state, reply, privates, tables, stop } = frame;
        let mut context = self.context(stop);
        // SAFETY: the caller's; the frame outlives the call.
        unsafe { self.call(&mut context, message, state, reply, privates, tables) }
    }

    #[inline]
    fn context(&self, stop: &StopCheck<'_>) -> Context {
        Context { fixed: &self.fixed, stop: std::ptr::from_ref(stop).cast(), must_stop: 0 }
    }

    /// Calls the code.
    ///
    /// # Safety
    ///
    /// The sizes of all that is passed have been [checked](Self::check), and what the context points to is there.
    #[inline]
    unsafe fn call(
        &self,
        context: &mut Context,
        message: &[u8],
        state: &mut [u8],
        reply: &mut [u8],
        privates: &mut [u8],
        tables: &[TableView],
    ) -> Outcome {
        // SAFETY: the code reads and writes only what it was translated for, which is there (the caller), and the
        // tables, which whoever made their views keeps valid; it was made for this signature, and `self` keeps it
        // in memory. It takes any alignment but the tables', whose words are aligned.
        let code = unsafe {
            (self.entry)(
                context,
                message.as_ptr(),
                state.as_mut_ptr(),
                reply.as_mut_ptr(),
                privates.as_mut_ptr(),
                tables.as_ptr(),
            )
        };
        if code == translate::DONE { Outcome::Done } else { undone(code) }
    }
}

/// What the code says when a message is not done.
#[cold]
fn undone(code: u32) -> Outcome {
    match code {
        translate::INTERRUPTED => Outcome::Interrupted,
        code => Outcome::Fault(FaultCode::of(code)),
    }
}

impl Executable for JitHandler {
    fn run(&self, frame: Frame<'_>) -> Outcome {
        self.check(frame.sizes(), frame.tables);
        // SAFETY: just checked.
        unsafe { self.run_checked(frame) }
    }

    fn run_batch(&self, batch: &mut Batch<'_>) -> BatchEnd {
        let parts = PartSizes {
            message: batch.message_size,
            state: batch.state_size,
            reply: batch.reply_size,
            privates: batch.privates.len(),
        };
        self.check(parts, batch.tables);
        if let Some(entry) = self.batch {
            // SAFETY: the code has been made for this signature, and the sizes were checked just now.
            return unsafe { batch::run(entry, self.needs_replay, &self.fixed, &self.sizes, batch) };
        }
        let (tables, stop) = (batch.tables, batch.stop);
        let mut context = self.context(stop);
        batch.each(|message, state, reply, privates| {
            // SAFETY: `each` passes slices of just the sizes that were checked; what the context points to is
            // borrowed above.
            unsafe { self.call(&mut context, message, state, reply, privates, tables) }
        })
    }
}
