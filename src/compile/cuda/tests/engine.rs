//! A shared library with handlers in it, each an [`Executable`].

use crate::compile::cuda::{HEADER, write_body};
use crate::compile::{Executable, FaultCode, Frame, Outcome, Program, TableView, shape};
use libloading::Library;
use naga::TypeInner;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// `extern "C"` around `rt_run`, which copies what may not be aligned.
type Entry = unsafe extern "C" fn(
    message: *const u8,
    state: *mut u8,
    reply: *mut u8,
    privates: *mut u8,
    tables: *const TableView,
    stop: *const u32,
) -> u32;

/// A handler that `g++` compiled.
pub struct HostHandler {
    entry: Entry,
    program: Arc<Program>,
    message_size: usize,
    reply_size: usize,
    /// Holds the code.
    _library: Arc<Library>,
}

/// Is there a C++ compiler? If not, the reason is printed.
///
/// # Panics
///
/// If there is none, and `RINGWORK_REQUIRE` has `cuda`.
pub fn has_compiler() -> bool {
    let error = match Command::new("g++").arg("--version").output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => output.status.to_string(),
        Err(error) => error.to_string(),
    };
    assert!(!is_required(), "a C++ compiler is required: g++: {error}");
    println!("SKIPPED: there is no g++: {error}");
    false
}

/// Has `RINGWORK_REQUIRE` got `cuda`?
pub fn is_required() -> bool {
    let required = std::env::var("RINGWORK_REQUIRE").unwrap_or_default();
    required.split(',').any(|name| name.trim() == "cuda")
}

/// A folder that is removed with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringwork-cuda-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the folder for temporary files can be written");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn size_of_type(program: &Program, ty: naga::Handle<naga::Type>) -> usize {
    shape::inner(&program.module, ty).size(program.module.to_ctx()) as usize
}

/// The text of a library with these handlers; `handler_<n>` runs one.
fn library_text(handlers: &[(&str, Arc<Program>)]) -> String {
    let mut text = format!("#define RT_HOST\n{HEADER}");
    for (number, (name, program)) in handlers.iter().enumerate() {
        let body = write_body(program, name);
        let copy_in = |has: bool, name: &str| {
            if has { format!("memcpy(&r_{name}, {name}, sizeof r_{name});") } else { String::new() }
        };
        let copy_out = |has: bool, name: &str| {
            if has { format!("memcpy({name}, &r_{name}, sizeof r_{name});") } else { String::new() }
        };
        let has_reply = program.module.functions[program.entry].result.is_some();
        let _ = write!(
            text,
            "namespace space_{number} {{
{body}
#line 1 \"entry\"
extern \"C\" unsigned handler_{number}(const void* message, void* state, void* reply, void* privates,
    const RtTable* tables, volatile const unsigned* stop) {{
    RtMessage r_message; RtState r_state; RtReply r_reply; RtPrivates r_privates;
    memset(&r_reply, 0xaa, sizeof r_reply);
    {}
    {}
    memcpy(&r_privates, privates, sizeof r_privates);
    unsigned end = rt_run(r_message, r_state, r_reply, r_privates, tables, stop);
    if (end != RT_DONE) return end;
    {}
    {}
    memcpy(privates, &r_privates, sizeof r_privates);
    return end;
}}
}}
",
            copy_in(program.has_message, "message"),
            copy_in(program.has_state(), "state"),
            copy_out(program.has_state(), "state"),
            copy_out(has_reply, "reply"),
        );
    }
    text
}

/// Compiles handlers, each with the name that messages of the compiler have for its source.
///
/// # Errors
///
/// What the compiler has against them.
pub fn build(handlers: &[(&str, Arc<Program>)]) -> Result<Vec<HostHandler>, String> {
    let folder = Folder::new();
    let (source, library) = (folder.0.join("handlers.cpp"), folder.0.join("handlers.so"));
    std::fs::write(&source, library_text(handlers)).map_err(|error| error.to_string())?;
    let output = Command::new("g++")
        .args(["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC"])
        .args([
            "-Wall",
            "-Wextra",
            "-Wno-unused",
            "-Wno-missing-field-initializers",
            "-Wno-maybe-uninitialized",
        ])
        .args([&source, &"-o".into(), &library])
        .output()
        .map_err(|error| format!("g++: {error}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !messages.is_empty() {
        let messages: String = messages.lines().take(40).map(|line| format!("{line}\n")).collect();
        return Err(format!("g++: {}\n{messages}", output.status));
    }
    // SAFETY: what the library does when it is loaded is nothing.
    let library = Arc::new(unsafe { Library::new(&library) }.map_err(|error| error.to_string())?);
    let handlers = handlers.iter().enumerate().map(|(number, (_, program))| {
        // SAFETY: `library_text` defined it with this signature; the library stays as long as the handler.
        let entry = *unsafe { library.get::<Entry>(format!("handler_{number}").as_bytes()) }
            .map_err(|error| error.to_string())?;
        let function = &program.module.functions[program.entry];
        Ok(HostHandler {
            entry,
            program: program.clone(),
            message_size: match function.arguments.first() {
                Some(argument) if program.has_message => size_of_type(program, argument.ty),
                _ => 0,
            },
            reply_size: function.result.as_ref().map_or(0, |result| size_of_type(program, result.ty)),
            _library: library.clone(),
        })
    });
    handlers.collect()
}

/// Compiles one handler.
pub fn build_one(program: Arc<Program>) -> HostHandler {
    let built = build(&[("test.wgsl", program)]).unwrap_or_else(|error| panic!("{error}"));
    built.into_iter().next().expect("one was asked for")
}

impl Executable for HostHandler {
    fn run(&self, frame: Frame<'_>) -> Outcome {
        let Frame { message, state, reply, privates, tables, stop } = frame;
        let program = &self.program;
        assert!(message.len() >= self.message_size && reply.len() >= self.reply_size);
        assert!(state.len() >= program.state_size() as usize);
        assert!(privates.len() >= program.privates_size as usize);
        assert_eq!(tables.len(), program.tables.len());
        for (view, global) in tables.iter().zip(&program.table_globals) {
            let ty = program.module.global_variables[*global].ty;
            let TypeInner::Array { stride, .. } = *shape::inner(&program.module, ty) else {
                panic!("a table is an array")
            };
            assert!(view.bytes >= stride as usize);
            // What the allocator gives, and more than any element wants.
            assert!(view.data.addr().is_multiple_of(if stride.is_multiple_of(16) { 16 } else { 4 }));
        }
        // SAFETY: all parts are as large as the handler's types (above), and the code was made for this signature.
        let end = unsafe {
            (self.entry)(
                message.as_ptr(),
                state.as_mut_ptr(),
                reply.as_mut_ptr(),
                privates.as_mut_ptr(),
                tables.as_ptr(),
                stop.word_address().as_ptr(),
            )
        };
        match end {
            0 => Outcome::Done,
            1 => Outcome::Fault(FaultCode::LoopBudget),
            2 => Outcome::Fault(FaultCode::EmitOverflow),
            3 => Outcome::Interrupted,
            other => panic!("a handler ended with {other}"),
        }
    }
}
