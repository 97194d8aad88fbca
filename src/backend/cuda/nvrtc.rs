//! NVRTC: CUDA C++ to a cubin for one architecture, by a library that is found at run time.
//!
//! The only module that calls `cudarc::nvrtc`.

use cudarc::nvrtc::{result, sys};
use std::ffi::{CString, OsStr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Names NVRTC's library, or the folder it is in.
pub(super) const PLACE: &str = "RINGWORK_NVRTC";

/// Is NVRTC there? Asked once; why not, otherwise.
pub(super) fn start() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            preload();
            // SAFETY: loads the library, as any program with NVRTC does; cudarc's other calls panic without it.
            if unsafe { sys::is_culib_present() } {
                return Ok(());
            }
            Err("NVRTC, which compiles handlers, was not found (libnvrtc)".to_owned())
        })
        .clone()
}

/// Loads NVRTC from where the system's loader does not look: a library that is loaded is found by its name.
fn preload() {
    for folder in folders() {
        let Ok(entries) = folder.read_dir() else { continue };
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let with = |start: &str| {
            let is_meant = |path: &&PathBuf| {
                path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(start))
            };
            files.iter().filter(is_meant).cloned().collect::<Vec<_>>()
        };
        // NVRTC asks for its builtins by their bare name: they have to be there first.
        let builtins = with("libnvrtc-builtins.so");
        let libraries = with("libnvrtc.so");
        builtins.iter().for_each(|path| _ = keep(path));
        if libraries.iter().any(|path| keep(path)) {
            return;
        }
    }
}

/// Loads a library for as long as the process runs.
fn keep(path: &Path) -> bool {
    // SAFETY: the initialisers of NVIDIA's library run, as they would if the loader found it.
    unsafe { libloading::Library::new(path) }.map(std::mem::forget).is_ok()
}

/// Where NVRTC may be: the folder that was named, a CUDA installation, Python's NVIDIA packages.
fn folders() -> Vec<PathBuf> {
    let named = std::env::var_os(PLACE).map(PathBuf::from);
    let named = named.map(|path| if path.is_file() { path.with_file_name("") } else { path });
    let mut folders: Vec<_> = named.into_iter().collect();
    let roots = ["CUDA_PATH", "CUDA_HOME"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let roots: Vec<_> = roots.chain([PathBuf::from("/usr/local/cuda")]).collect();
    folders.extend(roots.iter().flat_map(|root| [root.join("lib64"), root.join("lib")]));
    let mut pythons = Vec::new();
    if let Some(environment) = std::env::var_os("VIRTUAL_ENV") {
        pythons.push(PathBuf::from(environment).join("lib"));
    }
    pythons.extend(["/usr/local/lib", "/usr/lib", "/opt/conda/lib"].map(PathBuf::from));
    for lib in pythons {
        let entries = lib.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
        let is_python = |path: &PathBuf| {
            path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with("python3"))
        };
        for python in entries.filter(is_python) {
            for packages in ["site-packages", "dist-packages"] {
                let nvidia = python.join(packages).join("nvidia");
                folders.extend(["cu13/lib", "cuda_nvrtc/lib"].map(|part| nvidia.join(part)));
            }
        }
    }
    folders
}

/// NVRTC's version, as `13.0`; `None` if it is not there.
pub(super) fn version() -> Option<String> {
    start().ok()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: writes two integers.
    _ = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    Some(format!("{major}.{minor}"))
}

/// Why there is no code.
pub(super) enum NoCode {
    /// NVRTC is not there; the reason.
    NoCompiler(String),
    /// What NVRTC says.
    Refused(String),
}

/// What to do where NVRTC is not there.
pub(super) fn remedy() -> String {
    format!(
        "install NVRTC (with CUDA 13, or from Python's package `nvidia-cuda-nvrtc`), or set {PLACE} to its folder"
    )
}

/// A program, destroyed in the end.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `create_program`, and not used any more.
        _ = unsafe { result::destroy_program(self.0) };
    }
}

impl Program {
    fn log(&self) -> String {
        // SAFETY: the program has not been destroyed.
        let log = unsafe { result::get_program_log(self.0) }.unwrap_or_default();
        let bytes: Vec<u8> = log.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

/// Compiles a text for an architecture, as `sm_90`.
///
/// # Errors
///
/// If there is no NVRTC, and what it says otherwise.
pub(super) fn compile(text: &str, name: &str, architecture: &str) -> Result<Vec<u8>, NoCode> {
    start().map_err(NoCode::NoCompiler)?;
    compile_here(text, name, architecture).map_err(NoCode::Refused)
}

fn compile_here(text: &str, name: &str, architecture: &str) -> Result<Vec<u8>, String> {
    let text = CString::new(text).map_err(|_| "the text has a null byte".to_owned())?;
    let name = CString::new(name.replace('\0', "?")).unwrap_or_default();
    let program = result::create_program(&text, Some(&name)).map_err(|error| format!("NVRTC: {error}"))?;
    let program = Program(program);
    // As WGSL's rules are kept on the other backends: no contraction to fma, no flushing of small numbers.
    let options = [
        &format!("--gpu-architecture={architecture}"),
        "--std=c++17",
        "--fmad=false",
        "--ftz=false",
        "--prec-div=true",
        "--prec-sqrt=true",
        "--device-as-default-execution-space",
    ];
    let options: Vec<String> = options.into_iter().map(str::to_owned).collect();
    // SAFETY: the program has not been destroyed.
    if let Err(error) = unsafe { result::compile_program(program.0, &options) } {
        return Err(format!("NVRTC: {error}: {}", program.log()));
    }
    let failed = |code: sys::nvrtcResult| format!("NVRTC gives no code: {code:?}");
    let mut size = 0;
    // SAFETY: writes one integer.
    unsafe { sys::nvrtcGetCUBINSize(program.0, &mut size) }.result().map_err(|error| failed(error.0))?;
    let mut image = vec![0u8; size];
    // SAFETY: the image has the size that was just given.
    unsafe { sys::nvrtcGetCUBIN(program.0, image.as_mut_ptr().cast()) }
        .result()
        .map_err(|error| failed(error.0))?;
    Ok(image)
}
