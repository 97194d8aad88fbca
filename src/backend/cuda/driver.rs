//! The driver's calls, as far as they are used here: checked, and with an error in the place of a panic.
//!
//! The only module that calls `cudarc::driver`. Everything here may be called while resident kernels run; what may wait
//! for them says so.

use crate::error::{Error, ErrorKind, Result};
use cudarc::driver::sys as cuda;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::time::Duration;

pub(super) use cuda::{CUcontext, CUdevice, CUdeviceptr, CUevent, CUfunction, CUmodule, CUresult, CUstream};

/// What the driver answered, if not that all went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub CUresult);

impl Refusal {
    /// There is too little memory.
    pub fn is_shortage(self) -> bool {
        self.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY
    }

    /// The context is of no use any more: every later call would say so too.
    ///
    /// What the driver answers for lack of something, or to a call that makes no sense, leaves the context as it was.
    pub fn is_loss(self) -> bool {
        use CUresult as R;
        !matches!(
            self.0,
            R::CUDA_ERROR_OUT_OF_MEMORY
                | R::CUDA_ERROR_INVALID_VALUE
                | R::CUDA_ERROR_INVALID_IMAGE
                | R::CUDA_ERROR_NO_BINARY_FOR_GPU
                | R::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
                | R::CUDA_ERROR_NOT_FOUND
                | R::CUDA_ERROR_NOT_READY
                | R::CUDA_ERROR_INVALID_DEVICE
                | R::CUDA_ERROR_NOT_SUPPORTED
                | R::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
                | R::CUDA_ERROR_FILE_NOT_FOUND
                | R::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED
                | R::CUDA_ERROR_NOT_PERMITTED
                | R::CUDA_ERROR_OPERATING_SYSTEM
        )
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |ask: unsafe fn(CUresult, *mut *const c_char) -> CUresult| {
            let mut text = std::ptr::null();
            // SAFETY: the driver gives a text that lives as long as it does, or leaves the null.
            unsafe {
                _ = ask(self.0, &mut text);
                (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
            }
        };
        let name = text(cuda::cuGetErrorName).unwrap_or_else(|| format!("error {:?}", self.0));
        match text(cuda::cuGetErrorString) {
            Some(text) => write!(f, "{name}: {text}"),
            None => f.write_str(&name),
        }
    }
}

/// The answer to a call.
pub(super) fn checked(result: CUresult) -> Result<(), Refusal> {
    if result == CUresult::CUDA_SUCCESS { Ok(()) } else { Err(Refusal(result)) }
}

/// Is there a driver, and does it run here? Asked once: what a process has loaded, it keeps.
pub(super) fn start() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            // SAFETY: loads the driver's library, as any program with CUDA does; cudarc's other calls panic without it.
            if !unsafe { cuda::is_culib_present() } {
                return Err("the driver's library (libcuda, nvcuda) was not found".to_owned());
            }
            // SAFETY: no preconditions.
            checked(unsafe { cuda::cuInit(0) }).map_err(|refusal| {
                let (Refusal(code), mut text) = (refusal, format!("the driver does not start: {refusal}"));
                if code == CUresult::CUDA_ERROR_NO_DEVICE {
                    text = "the driver finds no device".to_owned();
                }
                text
            })?;
            let number = version_number();
            if number < OLDEST {
                let (has, needs) = (as_version(number), as_version(OLDEST));
                return Err(format!("the driver is too old: it is for CUDA {has}, and {needs} is needed"));
            }
            Ok(())
        })
        .clone()
}

/// The oldest driver that has all calls; cudarc panics at one that is not there. (The latest of them is `cuFuncLoad`.)
const OLDEST: i32 = 12040;

fn version_number() -> i32 {
    let mut version = 0;
    // SAFETY: writes one integer.
    _ = unsafe { cuda::cuDriverGetVersion(&mut version) };
    version
}

fn as_version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// The CUDA that the driver is for, as `13.0`.
pub(super) fn version() -> String {
    as_version(version_number())
}

pub(super) fn devices() -> Result<Vec<CUdevice>, Refusal> {
    let mut count = 0;
    // SAFETY: writes one integer.
    checked(unsafe { cuda::cuDeviceGetCount(&mut count) })?;
    (0..count)
        .map(|index| {
            let mut device = 0;
            // SAFETY: writes one handle.
            checked(unsafe { cuda::cuDeviceGet(&mut device, index) })?;
            Ok(device)
        })
        .collect()
}

pub(super) fn name(device: CUdevice) -> Result<String, Refusal> {
    let mut name = [0u8; 256];
    // SAFETY: writes a text that ends with a null into an array with that many bytes.
    checked(unsafe { cuda::cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as i32, device) })?;
    Ok(text(&name))
}

/// As `0000:01:00.0`.
pub(super) fn pci_address(device: CUdevice) -> Option<String> {
    let mut id = [0u8; 32];
    // SAFETY: as in `name`.
    let result = unsafe { cuda::cuDeviceGetPCIBusId(id.as_mut_ptr().cast(), id.len() as i32, device) };
    checked(result).ok().map(|()| text(&id).to_lowercase())
}

fn text(bytes: &[u8]) -> String {
    CStr::from_bytes_until_nul(bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(super) fn uuid(device: CUdevice) -> Result<uuid::Uuid, Refusal> {
    let mut uuid = cuda::CUuuid { bytes: [0; 16] };
    // SAFETY: writes one id.
    checked(unsafe { cuda::cuDeviceGetUuid_v2(&mut uuid, device) })?;
    Ok(uuid::Uuid::from_bytes(uuid.bytes.map(|byte| byte as u8)))
}

pub(super) fn memory(device: CUdevice) -> Result<u64, Refusal> {
    let mut bytes = 0;
    // SAFETY: writes one integer.
    checked(unsafe { cuda::cuDeviceTotalMem_v2(&mut bytes, device) })?;
    Ok(bytes as u64)
}

/// Bytes that nobody has, of the device whose context is this thread's own.
pub(super) fn free_memory() -> Result<u64, Refusal> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: writes two integers.
    checked(unsafe { cuda::cuMemGetInfo_v2(&mut free, &mut total) })?;
    Ok(free as u64)
}

pub(super) fn attribute(device: CUdevice, which: cuda::CUdevice_attribute) -> Result<i32, Refusal> {
    let mut value = 0;
    // SAFETY: writes one integer.
    checked(unsafe { cuda::cuDeviceGetAttribute(&mut value, which, device) })?;
    Ok(value)
}

/// The context that everybody in this process shares on a device.
pub(super) fn retain(device: CUdevice) -> Result<CUcontext, Refusal> {
    let mut context = null_mut();
    // SAFETY: writes one handle.
    checked(unsafe { cuda::cuDevicePrimaryCtxRetain(&mut context, device) })?;
    Ok(context)
}

pub(super) fn release(device: CUdevice) {
    // SAFETY: no preconditions; a context that is still in use elsewhere stays.
    _ = unsafe { cuda::cuDevicePrimaryCtxRelease_v2(device) };
}

/// Makes a context that has been lost as good as new, if it can be: [`try_memory`] tells. What was in it is gone. The driver
/// may answer with the error that the context had.
pub(super) fn reset(device: CUdevice) -> Result<(), Refusal> {
    // SAFETY: no preconditions; whoever had something in the old context has been told that it is lost.
    checked(unsafe { cuda::cuDevicePrimaryCtxReset_v2(device) })
}

/// Is the context of any use?
pub(super) fn try_memory() -> Result<(), Refusal> {
    let address = device_memory(256)?;
    // SAFETY: nobody has it.
    unsafe { free_device(address) };
    Ok(())
}

/// Makes the context this thread's own.
pub(super) fn bind(context: CUcontext) -> Result<(), Refusal> {
    // SAFETY: the context was retained by the caller.
    checked(unsafe { cuda::cuCtxSetCurrent(context) })
}

/// A stream that waits for no other.
pub(super) fn stream() -> Result<CUstream, Refusal> {
    let mut stream = null_mut();
    let flags = cuda::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
    // SAFETY: writes one handle.
    checked(unsafe { cuda::cuStreamCreate(&mut stream, flags) })?;
    Ok(stream)
}

/// # Safety
///
/// The stream is not used afterwards.
pub(super) unsafe fn destroy_stream(stream: CUstream) {
    // SAFETY: the caller's.
    _ = unsafe { cuda::cuStreamDestroy_v2(stream) };
}

/// Is all over that was given to the stream?
///
/// # Safety
///
/// The stream exists.
pub(super) unsafe fn is_over(stream: CUstream) -> Result<bool, Refusal> {
    // SAFETY: the caller's.
    match checked(unsafe { cuda::cuStreamQuery(stream) }) {
        Ok(()) => Ok(true),
        Err(Refusal(CUresult::CUDA_ERROR_NOT_READY)) => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// Waits for all that was given to the stream.
///
/// # Safety
///
/// The stream exists.
pub(super) unsafe fn wait(stream: CUstream) -> Result<(), Refusal> {
    // SAFETY: the caller's.
    checked(unsafe { cuda::cuStreamSynchronize(stream) })
}

/// Tells the driver of host memory, which the device reaches at the address that is returned from then on. May wait for
/// kernels.
///
/// # Safety
///
/// So many bytes, which are whole pages, are the caller's until [`unregister`] or [`reset`], and stay allocated until then.
pub(super) unsafe fn register(host: *mut c_void, bytes: usize) -> Result<(), Refusal> {
    let flags = cuda::CU_MEMHOSTREGISTER_PORTABLE | cuda::CU_MEMHOSTREGISTER_DEVICEMAP;
    // SAFETY: the caller's.
    checked(unsafe { cuda::cuMemHostRegister_v2(host, bytes, flags) })
}

/// The device's address of [registered](register) memory: not on all devices the same as the host's.
pub(super) fn device_address(host: *mut c_void) -> Result<CUdeviceptr, Refusal> {
    let mut device = 0;
    // SAFETY: writes one address; what is not registered is refused.
    checked(unsafe { cuda::cuMemHostGetDevicePointer_v2(&mut device, host, 0) })?;
    Ok(device)
}

/// Takes [registered](register) memory from the device. May wait for kernels.
///
/// # Safety
///
/// The device does not use the memory any more.
pub(super) unsafe fn unregister(host: *mut c_void) -> Result<(), Refusal> {
    // SAFETY: the caller's.
    checked(unsafe { cuda::cuMemHostUnregister(host) })
}

/// Memory of the device. May wait for kernels.
pub(super) fn device_memory(bytes: usize) -> Result<CUdeviceptr, Refusal> {
    let mut address = 0;
    // SAFETY: writes one address.
    checked(unsafe { cuda::cuMemAlloc_v2(&mut address, bytes) })?;
    Ok(address)
}

/// May wait for kernels.
///
/// # Safety
///
/// Nobody uses the memory any more.
pub(super) unsafe fn free_device(address: CUdeviceptr) {
    // SAFETY: the caller's.
    _ = unsafe { cuda::cuMemFree_v2(address) };
}

/// # Safety
///
/// So many bytes from the address on are the caller's, and the stream exists.
pub(super) unsafe fn clear(address: CUdeviceptr, bytes: usize, stream: CUstream) -> Result<(), Refusal> {
    // SAFETY: the caller's.
    checked(unsafe { cuda::cuMemsetD8Async(address, 0, bytes, stream) })
}

/// # Safety
///
/// Both places are the caller's until the stream is over, `from` is memory that was [registered](register), the stream exists.
pub(super) unsafe fn upload(
    to: CUdeviceptr,
    from: *const c_void,
    bytes: usize,
    stream: CUstream,
) -> Result<(), Refusal> {
    // SAFETY: the caller's.
    checked(unsafe { cuda::cuMemcpyHtoDAsync_v2(to, from, bytes, stream) })
}

/// # Safety
///
/// As for [`upload`], for `to`.
pub(super) unsafe fn download(
    to: *mut c_void,
    from: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> Result<(), Refusal> {
    // SAFETY: the caller's.
    checked(unsafe { cuda::cuMemcpyDtoHAsync_v2(to, from, bytes, stream) })
}

/// Loads code. May wait for kernels.
///
/// # Safety
///
/// The image is what NVRTC made, whole.
pub(super) unsafe fn load(image: &[u8]) -> Result<CUmodule, Refusal> {
    let mut module = null_mut();
    // SAFETY: the caller's; an image knows its own length.
    checked(unsafe { cuda::cuModuleLoadData(&mut module, image.as_ptr().cast()) })?;
    Ok(module)
}

/// May wait for kernels.
///
/// # Safety
///
/// No kernel of it runs, or will.
pub(super) unsafe fn unload(module: CUmodule) {
    // SAFETY: the caller's.
    _ = unsafe { cuda::cuModuleUnload(module) };
}

/// A kernel of a module, on the device already: loading at the first launch could wait for kernels.
///
/// # Safety
///
/// The module is loaded.
pub(super) unsafe fn function(module: CUmodule, name: &CStr) -> Result<CUfunction, Refusal> {
    let mut function = null_mut();
    // SAFETY: the caller's.
    unsafe {
        checked(cuda::cuModuleGetFunction(&mut function, module, name.as_ptr()))?;
        checked(cuda::cuFuncLoad(function))?;
    }
    Ok(function)
}

/// A block: its threads, and bytes of shared memory besides what its code declares.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub threads: u32,
    pub shared: u32,
}

/// How many such blocks of a kernel a multiprocessor has room for at once.
///
/// # Safety
///
/// The function is of a loaded module.
pub(super) unsafe fn blocks(function: CUfunction, block: Block) -> Result<u32, Refusal> {
    let mut count = 0;
    // SAFETY: the caller's; writes one integer.
    checked(unsafe {
        cuda::cuOccupancyMaxActiveBlocksPerMultiprocessor(
            &mut count,
            function,
            block.threads as i32,
            block.shared as usize,
        )
    })?;
    Ok(u32::try_from(count).unwrap_or(0))
}

/// Starts one block of a kernel, whose one parameter is copied before this returns.
///
/// # Safety
///
/// The function is of a loaded module, takes this parameter, and what that points to lives as long as the kernel runs.
pub(super) unsafe fn launch<P>(
    function: CUfunction,
    block: Block,
    stream: CUstream,
    parameter: &mut P,
) -> Result<(), Refusal> {
    let mut parameters = [std::ptr::from_mut(parameter).cast::<c_void>()];
    // SAFETY: the caller's.
    checked(unsafe {
        cuda::cuLaunchKernel(
            function,
            1,
            1,
            1,
            block.threads,
            1,
            1,
            block.shared,
            stream,
            parameters.as_mut_ptr(),
            null_mut(),
        )
    })
}

/// Starts a kernel of so many blocks with so many threads, whose one parameter is copied before this returns.
///
/// # Safety
///
/// As for [`launch`].
pub(super) unsafe fn launch_grid<P>(
    function: CUfunction,
    [x, y, z]: [u32; 3],
    [along_x, along_y, along_z]: [u32; 3],
    stream: CUstream,
    parameter: &mut P,
) -> Result<(), Refusal> {
    let mut parameters = [std::ptr::from_mut(parameter).cast::<c_void>()];
    // SAFETY: the caller's.
    checked(unsafe {
        cuda::cuLaunchKernel(
            function,
            x,
            y,
            z,
            along_x,
            along_y,
            along_z,
            0,
            stream,
            parameters.as_mut_ptr(),
            null_mut(),
        )
    })
}

/// The oldest driver with the call that tells the time between two events: cudarc has only the newer of two forms.
const OLDEST_TIMES: i32 = 12080;

/// An event that notes when a stream comes to it; `None` if the driver cannot tell the time between two.
pub(super) fn timed_event() -> Result<Option<CUevent>, Refusal> {
    if version_number() < OLDEST_TIMES {
        return Ok(None);
    }
    let mut event = null_mut();
    let flags = cuda::CUevent_flags::CU_EVENT_DEFAULT as u32;
    // SAFETY: writes one handle.
    checked(unsafe { cuda::cuEventCreate(&mut event, flags) })?;
    Ok(Some(event))
}

/// # Safety
///
/// Event and stream exist, in the same context.
pub(super) unsafe fn record(event: CUevent, stream: CUstream) -> Result<(), Refusal> {
    // SAFETY: the caller's.
    checked(unsafe { cuda::cuEventRecord(event, stream) })
}

/// The time between two events, to half a microsecond.
///
/// # Safety
///
/// Both are of [`timed_event`], were recorded, and their streams have come to them.
pub(super) unsafe fn time_between(begun: CUevent, ended: CUevent) -> Result<Duration, Refusal> {
    let mut milliseconds = 0.0;
    // SAFETY: the caller's; writes one number.
    checked(unsafe { cuda::cuEventElapsedTime_v2(&mut milliseconds, begun, ended) })?;
    Ok(Duration::try_from_secs_f64(f64::from(milliseconds) / 1000.0).unwrap_or_default())
}

/// # Safety
///
/// The event is not used afterwards.
pub(super) unsafe fn destroy_event(event: CUevent) {
    // SAFETY: the caller's.
    _ = unsafe { cuda::cuEventDestroy_v2(event) };
}

/// An error of this backend.
pub(super) fn unavailable(text: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cuda: {text}"))
}
