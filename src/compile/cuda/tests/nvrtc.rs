//! NVIDIA's own compiler on the text: that it takes it, and what the machine code needs. No GPU is needed, and nothing is
//! run.
//!
//! ```text
//! RINGWORK_NVRTC=$(ci/nvrtc.sh) cargo test --features cuda --lib nvrtc -- --ignored --nocapture
//! ```

use super::engine::is_required;
use super::{entry_points, published, realistic, shape};
use crate::compile::Program;
use crate::compile::cuda::{write, write_compute, write_twin};
use crate::compile::generate::{Floats, check, regressions, strategy};
use crate::compile::tests::published::operations;
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;
use std::sync::{Arc, OnceLock};

const ARCHITECTURES: [&str; 3] = ["sm_75", "sm_80", "sm_90"];

/// What a driver does with a handler, at its simplest: each thread runs the message of its number.
const KERNEL: &str = r#"
extern "C" __global__ void kernel(const RtMessage* messages, RtState* states, RtReply* replies, RtPrivates* privates,
    const RtTable* tables, volatile const unsigned* stop, unsigned* ends) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    RtState state = states[i];
    RtReply reply;
    unsigned end = rt_run(messages[i], state, reply, privates[i], tables, stop);
    if (end == RT_DONE) {
        states[i] = state;
        replies[i] = reply;
    }
    ends[i] = end;
}
"#;

type Handle = *mut c_void;

/// The compiler, by its functions.
struct Nvrtc {
    create: unsafe extern "C" fn(
        *mut Handle,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int,
    compile: unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> c_int,
    log_size: unsafe extern "C" fn(Handle, *mut usize) -> c_int,
    log: unsafe extern "C" fn(Handle, *mut c_char) -> c_int,
    cubin_size: unsafe extern "C" fn(Handle, *mut usize) -> c_int,
    cubin: unsafe extern "C" fn(Handle, *mut c_char) -> c_int,
    destroy: unsafe extern "C" fn(*mut Handle) -> c_int,
    _libraries: Vec<Library>,
}

/// Machine code, and what the assembler says about it.
struct Compiled {
    cubin: Vec<u8>,
    registers: u32,
    /// Bytes that are stored to and loaded from memory because there are too few registers.
    spills: u32,
    stack: u32,
}

/// The compiler, or `None`, said aloud.
///
/// # Panics
///
/// If it is not there, and `RINGWORK_REQUIRE` has `cuda`.
fn nvrtc() -> Option<&'static Nvrtc> {
    static NVRTC: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
    let loaded = NVRTC.get_or_init(|| {
        let path = std::env::var("RINGWORK_NVRTC").map_err(|_| "RINGWORK_NVRTC is not set".to_owned())?;
        Nvrtc::load(Path::new(&path)).map_err(|error| format!("{path}: {error}"))
    });
    match loaded {
        Ok(nvrtc) => Some(nvrtc),
        Err(error) => {
            assert!(!is_required(), "NVRTC is required: {error}; ci/nvrtc.sh fetches it");
            println!("SKIPPED: {error}; ci/nvrtc.sh fetches it");
            None
        }
    }
}

impl Nvrtc {
    fn load(path: &Path) -> Result<Self, String> {
        let mut libraries = Vec::new();
        // It looks for its built-in functions by a name alone, and finds what is loaded already.
        let folder = path.parent().unwrap_or(Path::new("."));
        for file in folder.read_dir().map_err(|error| error.to_string())?.flatten() {
            if file.file_name().to_string_lossy().starts_with("libnvrtc-builtins.so") {
                // SAFETY: a library of functions; loading it does nothing else.
                libraries.push(unsafe { Library::new(file.path()) }.map_err(|error| error.to_string())?);
            }
        }
        // SAFETY: as above.
        libraries.push(unsafe { Library::new(path) }.map_err(|error| error.to_string())?);
        let library = libraries.last().expect("pushed above");
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the signature is the one in NVIDIA's documentation, and the library stays loaded.
                *unsafe { library.get(concat!($name, "\0").as_bytes()) }.map_err(|error| error.to_string())?
            };
        }
        Ok(Self {
            create: function!("nvrtcCreateProgram"),
            compile: function!("nvrtcCompileProgram"),
            log_size: function!("nvrtcGetProgramLogSize"),
            log: function!("nvrtcGetProgramLog"),
            cubin_size: function!("nvrtcGetCUBINSize"),
            cubin: function!("nvrtcGetCUBIN"),
            destroy: function!("nvrtcDestroyProgram"),
            _libraries: libraries,
        })
    }

    /// Compiles a text; the error is the compiler's log.
    fn compile(&self, text: &str, architecture: &str) -> Result<Compiled, String> {
        let text = CString::new(text).map_err(|error| error.to_string())?;
        let options = [
            &format!("--gpu-architecture={architecture}"),
            "--std=c++17",
            "--fmad=false",
            "--ftz=false",
            "--prec-div=true",
            "--prec-sqrt=true",
            "--device-as-default-execution-space",
            "--ptxas-options=-v",
        ];
        let options = options.map(|option| CString::new(option).expect("there is no zero in it"));
        let pointers = options.each_ref().map(|option| option.as_ptr());
        let mut program = ptr::null_mut();
        // SAFETY: all texts end with zeros and outlive the calls; there are no headers.
        let status = unsafe {
            (self.create)(
                &raw mut program,
                text.as_ptr(),
                c"handler.cu".as_ptr(),
                0,
                ptr::null(),
                ptr::null(),
            )
        };
        if status != 0 {
            return Err(format!("no program: {status}"));
        }
        // SAFETY: `program` is one until it is destroyed, below, after its last use.
        let (status, log, cubin) = unsafe {
            let status = (self.compile)(program, pointers.len() as c_int, pointers.as_ptr());
            let log = self.bytes(program, self.log_size, self.log);
            let cubin =
                if status == 0 { self.bytes(program, self.cubin_size, self.cubin) } else { Vec::new() };
            (self.destroy)(&raw mut program);
            (status, log, cubin)
        };
        let log = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy().into_owned();
        if status != 0 || log.contains("warning") {
            return Err(format!("status {status}\n{log}"));
        }
        let number_before = |what: &str| {
            let words: Vec<_> = log.split_whitespace().collect();
            let wanted: Vec<_> = what.split(' ').collect();
            let found = words.windows(wanted.len() + 1).filter(|window| window[1..] == wanted);
            found.filter_map(|window| window[0].parse::<u32>().ok()).sum::<u32>()
        };
        Ok(Compiled {
            registers: number_before("registers,"),
            spills: number_before("bytes spill stores,") + number_before("bytes spill loads"),
            stack: number_before("bytes stack frame,"),
            cubin,
        })
    }

    /// Something that the compiler copies out after it was asked how large it is.
    ///
    /// # Safety
    ///
    /// `program` is one of this compiler's, and the functions are its.
    unsafe fn bytes(
        &self,
        program: Handle,
        size: unsafe extern "C" fn(Handle, *mut usize) -> c_int,
        copy: unsafe extern "C" fn(Handle, *mut c_char) -> c_int,
    ) -> Vec<u8> {
        let mut length = 0;
        // SAFETY: the caller's; `length` is written.
        if unsafe { size(program, &raw mut length) } != 0 {
            return Vec::new();
        }
        let mut bytes = vec![0u8; length];
        // SAFETY: the caller's; there is as much room as was asked for.
        let status = unsafe { copy(program, bytes.as_mut_ptr().cast()) };
        if status == 0 { bytes } else { Vec::new() }
    }
}

/// Compiles a handler for every architecture.
fn compile_all(nvrtc: &Nvrtc, name: &str, program: &Program) -> Result<Vec<Compiled>, String> {
    compile_text(nvrtc, name, &(write(program, name).text + KERNEL))
}

fn compile_text(nvrtc: &Nvrtc, name: &str, text: &str) -> Result<Vec<Compiled>, String> {
    let compiled = ARCHITECTURES.map(|architecture| {
        let compiled =
            nvrtc.compile(text, architecture).map_err(|log| format!("{name}, {architecture}: {log}"))?;
        assert_eq!(&compiled.cubin[..4], b"\x7fELF", "{name}");
        Ok(compiled)
    });
    compiled.into_iter().collect()
}

/// Compiles a handler for every architecture, and has nothing against it.
pub fn compile(program: &Program) {
    if let Some(nvrtc) = nvrtc() {
        compile_all(nvrtc, "test.wgsl", program).unwrap_or_else(|error| panic!("{error}"));
    }
}

fn report(name: &str, compiled: &[Compiled]) {
    for (architecture, code) in ARCHITECTURES.iter().zip(compiled) {
        let Compiled { cubin, registers, spills, stack } = code;
        println!(
            "{name:14} {architecture}: {registers:3} registers, {spills:4} bytes spilled, {stack:5} bytes of stack, {} \
             bytes of cubin",
            cubin.len()
        );
    }
}

#[test]
#[ignore = "needs NVRTC: RINGWORK_NVRTC=$(ci/nvrtc.sh)"]
fn nvrtc_compiles_realistic_handlers_without_spills() {
    let Some(nvrtc) = nvrtc() else { return };
    for (name, program) in realistic::programs() {
        let compiled = compile_all(nvrtc, name, &program).unwrap_or_else(|error| panic!("{error}"));
        report(name, &compiled);
        assert!(compiled.iter().all(|code| code.spills == 0), "{name} spills");
    }
}

#[test]
#[ignore = "needs NVRTC: RINGWORK_NVRTC=$(ci/nvrtc.sh)"]
fn nvrtc_compiles_entry_points_without_spills() {
    let Some(nvrtc) = nvrtc() else { return };
    for (name, program) in entry_points::programs() {
        let text = write_compute(&program, name).text;
        assert!(text.contains("rt_compute"), "{name}: the backend looks for that name");
        let compiled = compile_text(nvrtc, name, &text).unwrap_or_else(|error| panic!("{error}"));
        report(name, &compiled);
        assert!(compiled.iter().all(|code| code.spills == 0), "{name} spills");
    }
}

#[test]
#[ignore = "needs NVRTC: RINGWORK_NVRTC=$(ci/nvrtc.sh)"]
fn nvrtc_compiles_every_expression() {
    let (Some(nvrtc), Some(operations)) = (nvrtc(), operations()) else { return };
    let program = published::handler(&operations);
    report("published", &compile_all(nvrtc, "published", &program).unwrap_or_else(|error| panic!("{error}")));
}

#[test]
#[ignore = "needs NVRTC: RINGWORK_NVRTC=$(ci/nvrtc.sh)"]
fn nvrtc_compiles_generated_handlers() {
    let Some(nvrtc) = nvrtc() else { return };
    for (name, handler) in regressions() {
        let program = handler.compile().unwrap();
        compile_all(nvrtc, "regression", &program).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let count = handlers();
    check("nvrtc", &strategy(Floats::All), count, |handler| {
        let program = handler.compile().map(Arc::new).map_err(|error| error.to_string())?;
        compile_all(nvrtc, "generated.wgsl", &program).map(|_| ())
    });
    println!("{count} generated handlers");
}

/// The texts that a run of the suite on the emulated driver left, whole with the ring driver: `ci/cubins.sh` makes them.
/// Those of the realistic handlers are in a folder of that name.
#[test]
#[ignore = "needs NVRTC and what the suite compiled: ci/cubins.sh"]
fn nvrtc_compiles_whole_kernels() {
    let Some(nvrtc) = nvrtc() else { return };
    let Some(sources) = std::env::var_os("RINGWORK_CUDA_SOURCES") else {
        assert!(!is_required(), "RINGWORK_CUDA_SOURCES is not set; ci/cubins.sh sets it");
        return println!("SKIPPED: RINGWORK_CUDA_SOURCES is not set; ci/cubins.sh sets it");
    };
    let mut has_ingress = false;
    for (folder, may_spill) in [("realistic", false), ("suite", true)] {
        let files = Path::new(&sources).join(folder).read_dir().expect("the suite left its texts");
        let mut files: Vec<_> = files.map(|file| file.expect("it is there").path()).collect();
        files.sort();
        assert!(files.len() >= 6, "{folder}: the suite launches more than {} kernels", files.len());
        let (mut most, mut spilling) = ([0; 3], Vec::new());
        for file in &files {
            let text = std::fs::read_to_string(file).expect("text of ours");
            has_ingress |= text.contains("rt_ingress");
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            let compile = |architecture| {
                let compiled = nvrtc.compile(&text, architecture);
                compiled.unwrap_or_else(|log| panic!("{}, {architecture}: {log}", file.display()))
            };
            let compiled = ARCHITECTURES.map(compile);
            report(&format!("{folder}/{name:.8}"), &compiled);
            for (most, code) in most.iter_mut().zip(&compiled) {
                *most = code.registers.max(*most);
            }
            if compiled.iter().any(|code| code.spills > 0) {
                spilling.push(name.into_owned());
            }
        }
        let count = files.len();
        println!("{folder}: {count} kernels, at most {most:?} registers, {} with spills", spilling.len());
        assert!(may_spill || spilling.is_empty(), "{folder}: {spilling:?} spill");
    }
    assert!(has_ingress, "the suite launches enough kernels for an ingress");
}

/// Generated handlers, each compiled three times.
fn handlers() -> u32 {
    crate::compile::generate::count(200) / 10
}

#[test]
#[ignore = "needs NVRTC: RINGWORK_NVRTC=$(ci/nvrtc.sh)"]
fn nvrtc_compiles_twins_and_names_their_lines() {
    let Some(nvrtc) = nvrtc() else { return };
    let (program, twin) = shape::twin();
    for architecture in ARCHITECTURES {
        let text = write_twin(&program, twin) + KERNEL;
        let compiled = nvrtc.compile(&text, architecture).unwrap_or_else(|log| panic!("{log}"));
        assert_eq!(compiled.spills, 0, "{architecture}");
        let Err(log) =
            nvrtc.compile(&(write_twin(&program, &twin.replace("m.a[0]", "x")) + KERNEL), architecture)
        else {
            panic!("it compiled")
        };
        assert!(log.contains("cuda_source(3): error") && log.contains("\"x\""), "{log}");
        let Err(log) = nvrtc.compile(&(write_twin(&program, "") + KERNEL), architecture) else {
            panic!("it compiled")
        };
        assert!(log.contains("has to define `__device__ Out on_message(const In& message, "), "{log}");
    }
}

#[test]
#[ignore = "needs NVRTC: RINGWORK_NVRTC=$(ci/nvrtc.sh)"]
fn messages_of_nvrtc_name_the_users_line() {
    let Some(nvrtc) = nvrtc() else { return };
    let name = "<kernel \"so \\ called\">";
    let Err(log) = nvrtc.compile(&(shape::broken(name) + KERNEL), "sm_90") else { panic!("it compiled") };
    for line in [2, 7] {
        assert!(log.contains(&format!("{name}({line}): error")), "{log}");
    }
}
