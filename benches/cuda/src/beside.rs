//! What the driver does beside kernels that stay: how many there can be, and which calls wait for them.

use crate::gpu::{Gpu, Mapped, Once, checked, compile};
use crate::report::Report;
use cudarc::driver::sys as cuda;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// More than the driver's queues, which streams share: 8 unless `CUDA_DEVICE_MAX_CONNECTIONS` says otherwise, and at most 32.
const MANY: usize = 40;
/// A kernel that has not begun by then waits for the others.
const SOON: Duration = Duration::from_secs(1);
/// A call that has not come back by then waits for the kernel, which then is told to end.
const BESIDE: Duration = Duration::from_millis(300);

#[repr(C)]
struct Stay {
    begun: u64,
    stop: u64,
}

/// A kernel that stays until it is told to end.
struct Staying {
    stream: cuda::CUstream,
    begun: Mapped,
    stop: Mapped,
}

impl Staying {
    /// All that it needs, which the driver may not give while others stay.
    fn new() -> Result<Self, String> {
        let mut own = Self { stream: null_mut(), begun: Mapped::new()?, stop: Mapped::new()? };
        // SAFETY: writes one handle.
        checked(unsafe { cuda::cuStreamCreate(&mut own.stream, 1) }, "cuStreamCreate")?;
        Ok(own)
    }

    fn start(&self, gpu: &Gpu, function: cuda::CUfunction) -> Result<(), String> {
        let mut parameter = Stay { begun: self.begun.device, stop: self.stop.device };
        // SAFETY: the stream exists; the kernel takes this parameter, and mapped memory is never freed.
        unsafe { gpu.launch_on(self.stream, function, &mut parameter) }
    }

    fn is_there(&self) -> bool {
        self.begun.granules()[0].load(Ordering::Relaxed) != 0
    }

    /// Has it begun in time?
    fn comes(&self, since: Instant) -> bool {
        while !self.is_there() && since.elapsed() < SOON {
            std::thread::yield_now();
        }
        self.is_there()
    }

    fn stop(&self) {
        self.stop.words()[0].store(1, Ordering::Relaxed);
    }

    /// Waits for its end; it has been told to.
    fn end(self) -> Result<(), String> {
        // SAFETY: the stream exists, and is not used afterwards.
        unsafe {
            checked(cuda::cuStreamSynchronize(self.stream), "cuStreamSynchronize")?;
            checked(cuda::cuStreamDestroy_v2(self.stream), "cuStreamDestroy")
        }
    }
}

/// How many kernels with a stream each are there at the same time, and whether one that ends comes to its turn beside them.
fn many(gpu: &Gpu, report: &mut Report) -> Result<(), String> {
    let (input, output) = (Mapped::new()?, Mapped::new()?);
    let mut parameter = Once { input: input.device, output: output.device, words: 1, unused: 0 };
    let (once, stay) = (gpu.function(c"once")?, gpu.function(c"stay")?);
    // The first launch of a function may wait for others.
    // SAFETY: the kernel takes this parameter, and mapped memory is never freed.
    unsafe { gpu.launch(once, &mut parameter)? };
    gpu.wait()?;
    let mut event = null_mut();
    // SAFETY: writes one handle.
    checked(unsafe { cuda::cuEventCreate(&mut event, 0) }, "cuEventCreate")?;
    let kernels = (0..MANY).map(|_| Staying::new()).collect::<Result<Vec<_>, _>>()?;
    let mut measure = || {
        kernels.iter().try_for_each(|kernel| kernel.start(gpu, stay))?;
        let begun = Instant::now();
        let there = kernels.iter().filter(|kernel| kernel.comes(begun)).count();
        let launched = Instant::now();
        // SAFETY: as above, and the event exists.
        unsafe {
            gpu.launch(once, &mut parameter)?;
            checked(cuda::cuEventRecord(event, gpu.stream), "cuEventRecord")?;
            loop {
                let is_over = cuda::cuStreamQuery(gpu.stream) == cuda::CUresult::CUDA_SUCCESS;
                if is_over || launched.elapsed() > SOON {
                    return Ok((there, is_over));
                }
            }
        }
    };
    let measured: Result<_, String> = measure();
    // Also if something was refused, and all before one of them is waited for: those that have begun may be in the way.
    kernels.iter().for_each(Staying::stop);
    kernels.into_iter().try_for_each(Staying::end)?;
    let (there, is_over) = measured?;
    gpu.wait()?;
    // SAFETY: the stream has come to it.
    checked(unsafe { cuda::cuEventDestroy_v2(event) }, "cuEventDestroy")?;
    let connections = std::env::var("CUDA_DEVICE_MAX_CONNECTIONS");
    let connections = connections.unwrap_or_else(|_| "not set".to_owned());
    report.line(format!(
        "* {there} of {MANY} kernels with a stream each are there at the same time (CUDA_DEVICE_MAX_CONNECTIONS: {connections}); \
         a launch with an event behind it, on a further stream, {} beside them",
        if is_over { "comes to its end" } else { "WAITS" }
    ));
    if there == MANY && is_over {
        Ok(())
    } else {
        Err("resident kernels keep each other from running".to_owned())
    }
}

/// A call of the driver's, made on a thread of its own.
type Call<'a> = Box<dyn FnOnce() -> Result<(), String> + Send + 'a>;

/// Does the call come back while a kernel stays, and how long does somebody wait meanwhile who asks after the kernel?
fn beside(gpu: &Gpu, name: &str, call: Call<'_>, report: &mut Report) -> Result<(), String> {
    let kernel = Staying::new()?;
    kernel.start(gpu, gpu.function(c"stay")?)?;
    if !kernel.comes(Instant::now()) {
        kernel.stop();
        return Err("a kernel does not begin".to_owned());
    }
    let (stop, stream) = (kernel.stop, kernel.stream);
    let (mut longest, mut returned) = (Duration::ZERO, None);
    let done = std::thread::scope(|scope| {
        // Whoever asks may wait, too.
        scope.spawn(move || {
            std::thread::sleep(BESIDE);
            stop.words()[0].store(1, Ordering::Relaxed);
        });
        let begun = Instant::now();
        let call = scope.spawn(move || gpu.enter().and_then(|()| call()));
        while begun.elapsed() < BESIDE {
            if call.is_finished() && returned.is_none() {
                returned = Some(begun.elapsed());
            }
            let asked = Instant::now();
            // SAFETY: the stream exists.
            _ = unsafe { cuda::cuStreamQuery(stream) };
            longest = longest.max(asked.elapsed());
        }
        call.join().expect("no panic")
    });
    done.map_err(|error| format!("{name}: {error}"))?;
    let came_back = match returned {
        Some(_) if report.is_emulated => "comes back".to_owned(),
        Some(after) => format!("comes back after {after:.0?}"),
        None => "waits for the kernel".to_owned(),
    };
    let asks = if longest > BESIDE / 2 { "waits as well" } else { "does not wait" };
    report.line(format!("* `{name}` {came_back}; whoever asks after the kernel meanwhile {asks}"));
    kernel.end()
}

pub fn measure(gpu: &Gpu, report: &mut Report) -> Result<(), String> {
    report.heading("What the driver does beside kernels that stay", &[]);
    let image = compile(&gpu.architecture)?;
    let mut pages = vec![0u8; 1 << 20];
    // Whole pages, inside.
    let aligned = pages.as_mut_ptr().align_offset(1 << 16);
    let at = pages[aligned..].as_mut_ptr() as usize;
    let (mut module, mut address) = (0, 0);
    // SAFETY: each call gives one handle or address back, and is given the one that the call before it gave; the pages are
    // there until the end.
    unsafe {
        beside(
            gpu,
            "cuModuleLoadData",
            Box::new(|| {
                let mut loaded = null_mut();
                checked(cuda::cuModuleLoadData(&mut loaded, image.as_ptr().cast()), "load")?;
                module = loaded as usize;
                Ok(())
            }),
            report,
        )?;
        let unload = || checked(cuda::cuModuleUnload(module as cuda::CUmodule), "unload");
        beside(gpu, "cuModuleUnload", Box::new(unload), report)?;
        let allocate = || checked(cuda::cuMemAlloc_v2(&mut address, 1 << 20), "allocate");
        beside(gpu, "cuMemAlloc", Box::new(allocate), report)?;
        beside(gpu, "cuMemFree", Box::new(|| checked(cuda::cuMemFree_v2(address), "free")), report)?;
        let flags = cuda::CU_MEMHOSTREGISTER_PORTABLE | cuda::CU_MEMHOSTREGISTER_DEVICEMAP;
        let register = || checked(cuda::cuMemHostRegister_v2(at as *mut c_void, 1 << 19, flags), "register");
        beside(gpu, "cuMemHostRegister", Box::new(register), report)?;
        let unregister = || checked(cuda::cuMemHostUnregister(at as *mut c_void), "unregister");
        beside(gpu, "cuMemHostUnregister", Box::new(unregister), report)?;
        let stream = || {
            let mut stream = null_mut();
            checked(cuda::cuStreamCreate(&mut stream, 1), "create")?;
            checked(cuda::cuStreamDestroy_v2(stream), "destroy")
        };
        beside(gpu, "cuStreamCreate and cuStreamDestroy", Box::new(stream), report)?;
    }
    many(gpu, report)
}
