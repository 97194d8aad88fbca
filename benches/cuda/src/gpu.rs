//! The driver's calls that the yardsticks need, on the device that the library has opened.

use cudarc::driver::sys as cuda;
use cudarc::nvrtc::{result, sys as nvrtc};
use std::ffi::{CStr, CString, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, AtomicU64};

pub const KERNELS: &str = include_str!("kernels.cu");

pub fn checked(result: cuda::CUresult, what: &str) -> Result<(), String> {
    if result == cuda::CUresult::CUDA_SUCCESS { Ok(()) } else { Err(format!("{what}: {result:?}")) }
}

/// What the kernel `once` takes.
#[repr(C)]
pub struct Once {
    pub input: u64,
    pub output: u64,
    pub words: u32,
    pub unused: u32,
}

/// A device, current on the thread that has it.
pub struct Gpu {
    pub name: String,
    /// As `sm_90`.
    pub architecture: String,
    pub stream: cuda::CUstream,
    context: cuda::CUcontext,
    module: cuda::CUmodule,
}

/// Loads NVRTC from the place that `RINGWORK_NVRTC` names, if it names one.
pub fn load_nvrtc() -> Result<(), String> {
    if let Some(place) = std::env::var_os("RINGWORK_NVRTC").map(PathBuf::from) {
        let folder = if place.is_file() { place.parent().unwrap_or(Path::new(".")) } else { &place };
        let entries = folder.read_dir().map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        // What NVRTC asks for by its bare name has to be there first.
        for start in ["libnvrtc-builtins.so", "libnvrtc.so"] {
            let is_meant = |path: &&PathBuf| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
            };
            for path in files.iter().filter(is_meant) {
                // SAFETY: NVIDIA's library, whose initialisers run as they would if the loader had found it.
                let library = unsafe { libloading::Library::new(path) };
                library.map(std::mem::forget).map_err(|error| error.to_string())?;
            }
        }
    }
    // SAFETY: loads the library, if it has not been loaded; cudarc's other calls panic without it.
    if unsafe { nvrtc::is_culib_present() } { Ok(()) } else { Err("NVRTC was not found".to_owned()) }
}

/// The yardsticks' kernels for an architecture.
pub fn compile(architecture: &str) -> Result<Vec<u8>, String> {
    let text = CString::new(KERNELS).expect("there is no zero in it");
    let program = result::create_program(&text, Some(c"kernels.cu")).map_err(|error| error.to_string())?;
    let options = [format!("--gpu-architecture={architecture}"), "--std=c++17".to_owned()];
    // SAFETY: the program is one until it is destroyed below, and the image has the size that was given before.
    unsafe {
        let compiled = result::compile_program(program, &options);
        let log = result::get_program_log(program).unwrap_or_default();
        let log: Vec<u8> = log.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
        let mut image = Vec::new();
        let mut size = 0;
        if compiled.is_ok() && nvrtc::nvrtcGetCUBINSize(program, &mut size).result().is_ok() {
            image.resize(size, 0);
            _ = nvrtc::nvrtcGetCUBIN(program, image.as_mut_ptr().cast());
        }
        _ = result::destroy_program(program);
        compiled.map_err(|error| format!("{architecture}: {error}: {}", String::from_utf8_lossy(&log)))?;
        Ok(image)
    }
}

impl Gpu {
    /// The device with this id, and the kernels on it. The library has started driver and NVRTC.
    pub fn open(uuid: [u8; 16]) -> Result<Self, String> {
        let (mut count, mut context, mut stream, mut module) = (0, null_mut(), null_mut(), null_mut());
        // SAFETY: each call writes one value; the device is one of those counted.
        unsafe {
            checked(cuda::cuDeviceGetCount(&mut count), "cuDeviceGetCount")?;
            for index in 0..count {
                let (mut device, mut id) = (0, cuda::CUuuid { bytes: [0; 16] });
                checked(cuda::cuDeviceGet(&mut device, index), "cuDeviceGet")?;
                checked(cuda::cuDeviceGetUuid_v2(&mut id, device), "cuDeviceGetUuid")?;
                if id.bytes.map(|byte| byte as u8) != uuid {
                    continue;
                }
                let mut name = [0u8; 256];
                checked(cuda::cuDeviceGetName(name.as_mut_ptr().cast(), 256, device), "cuDeviceGetName")?;
                let attribute = |which| {
                    let mut value = 0;
                    checked(cuda::cuDeviceGetAttribute(&mut value, which, device), "cuDeviceGetAttribute")?;
                    Ok::<_, String>(value)
                };
                use cuda::CUdevice_attribute as A;
                let major = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
                let minor = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
                checked(cuda::cuDevicePrimaryCtxRetain(&mut context, device), "cuDevicePrimaryCtxRetain")?;
                checked(cuda::cuCtxSetCurrent(context), "cuCtxSetCurrent")?;
                checked(cuda::cuStreamCreate(&mut stream, 1), "cuStreamCreate")?;
                let architecture = format!("sm_{major}{minor}");
                let image = compile(&architecture)?;
                checked(cuda::cuModuleLoadData(&mut module, image.as_ptr().cast()), "cuModuleLoadData")?;
                let name =
                    CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned();
                return Ok(Self { name, architecture, stream, context, module });
            }
        }
        Err("the library's device is not among the driver's".to_owned())
    }

    pub fn function(&self, name: &CStr) -> Result<cuda::CUfunction, String> {
        let mut function = null_mut();
        // SAFETY: the module stays loaded; writes one handle.
        unsafe {
            checked(
                cuda::cuModuleGetFunction(&mut function, self.module, name.as_ptr()),
                "cuModuleGetFunction",
            )?;
            checked(cuda::cuFuncLoad(function), "cuFuncLoad")?;
        }
        Ok(function)
    }

    /// Makes the device current on a further thread.
    pub fn enter(&self) -> Result<(), String> {
        // SAFETY: the context is never released.
        checked(unsafe { cuda::cuCtxSetCurrent(self.context) }, "cuCtxSetCurrent")
    }

    /// Starts one block of 32 lanes.
    ///
    /// # Safety
    ///
    /// The function takes this parameter, and what it points to lives as long as the kernel runs.
    pub unsafe fn launch<P>(&self, function: cuda::CUfunction, parameter: &mut P) -> Result<(), String> {
        // SAFETY: the caller's.
        unsafe { self.launch_on(self.stream, function, parameter) }
    }

    /// As [`launch`](Self::launch), on another stream.
    ///
    /// # Safety
    ///
    /// As for [`launch`](Self::launch), and the stream exists.
    pub unsafe fn launch_on<P>(
        &self,
        stream: cuda::CUstream,
        function: cuda::CUfunction,
        parameter: &mut P,
    ) -> Result<(), String> {
        let mut parameters = [std::ptr::from_mut(parameter).cast::<c_void>()];
        // SAFETY: the caller's.
        let result = unsafe {
            cuda::cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, stream, parameters.as_mut_ptr(), null_mut())
        };
        checked(result, "cuLaunchKernel")
    }

    pub fn wait(&self) -> Result<(), String> {
        // SAFETY: the stream exists.
        checked(unsafe { cuda::cuStreamSynchronize(self.stream) }, "cuStreamSynchronize")
    }

    /// Free and total bytes of the device.
    pub fn memory(&self) -> Result<(usize, usize), String> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two integers.
        checked(unsafe { cuda::cuMemGetInfo_v2(&mut free, &mut total) }, "cuMemGetInfo")?;
        Ok((free, total))
    }
}

// SAFETY: the driver's handles are not bound to a thread; its calls are thread-safe.
unsafe impl Sync for Gpu {}

/// Host memory that the device reaches, kept for as long as the process runs.
#[derive(Clone, Copy)]
pub struct Mapped {
    host: *mut c_void,
    pub device: u64,
}

// SAFETY: never freed, and accessed atomically.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// 512 bytes of zeros.
    pub fn new() -> Result<Self, String> {
        let (mut host, mut device) = (null_mut(), 0);
        let flags = cuda::CU_MEMHOSTALLOC_PORTABLE | cuda::CU_MEMHOSTALLOC_DEVICEMAP;
        // SAFETY: each call writes one address; there are 512 bytes at it.
        unsafe {
            checked(cuda::cuMemHostAlloc(&mut host, 512, flags), "cuMemHostAlloc")?;
            checked(cuda::cuMemHostGetDevicePointer_v2(&mut device, host, 0), "cuMemHostGetDevicePointer")?;
            host.cast::<u8>().write_bytes(0, 512);
        }
        Ok(Self { host, device })
    }

    pub fn granules(&self) -> &[AtomicU64] {
        // SAFETY: 512 aligned bytes, initialised, which both sides access atomically.
        unsafe { std::slice::from_raw_parts(self.host.cast(), 64) }
    }

    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.host.cast(), 128) }
    }
}
