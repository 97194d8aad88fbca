//! What a GPU says of itself while kernels run: memory, load, heat, power, clocks, through NVIDIA's management library.
//!
//! The only module that calls `nvml_wrapper`. Everything is asked on a thread of its own: a driver in trouble may take its
//! time, and nobody else is to wait for it.

use crate::backend::Accelerator;
use crate::sync::{Condvar, Mutex, lock, wait_until};
use nvml_wrapper::bitmasks::device::ThrottleReasons;
#[cfg(target_os = "linux")]
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet, Nvml};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first answer is waited for so long.
const FIRST: Duration = Duration::from_secs(2);
/// More often than this the driver's figures do not change.
const LEAST_PERIOD: Duration = Duration::from_millis(10);

/// What a GPU said of itself at one moment; what it does not tell is `None`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GpuSample {
    /// When it was asked.
    pub at: Instant,
    /// The device's name.
    pub name: String,
    /// Bytes of its memory that are in use, by whomever.
    pub memory_used: Option<u64>,
    /// Bytes of its memory.
    pub memory_total: Option<u64>,
    /// Percent of the last moments (up to a second) in which a kernel ran: a resident one runs always.
    pub utilization: Option<u32>,
    /// Percent of the last moments in which its memory was read or written.
    pub memory_utilization: Option<u32>,
    /// Degrees Celsius.
    pub temperature: Option<u32>,
    /// Milliwatts.
    pub power: Option<u32>,
    /// Milliwatts that it may use.
    pub power_limit: Option<u32>,
    /// Megahertz of its multiprocessors.
    pub clock: Option<u32>,
    /// Megahertz of its memory.
    pub memory_clock: Option<u32>,
    /// Why its clocks are lower than they could be, in NVML's words (`SW_POWER_CAP`); empty if they are not.
    pub throttle_reasons: Option<Vec<String>>,
    /// Errors of its memory since the driver was loaded that were corrected.
    pub ecc_corrected: Option<u64>,
    /// Errors of its memory since the driver was loaded that could not be corrected.
    pub ecc_uncorrected: Option<u64>,
    /// Critical errors (Xid) that the driver has reported of it since the monitor was started. Told on Linux only.
    pub xid_count: Option<u64>,
    /// The number of the last one, as in NVIDIA's catalogue of Xid errors; of several at once only the last one's is known.
    pub last_xid: Option<u64>,
}

/// Watches an NVIDIA GPU. In builds with the feature `cuda`.
///
/// # Example
///
/// ```
/// use ringwork::{GpuMonitor, backends};
/// use std::time::Duration;
///
/// for accelerator in backends().iter().flat_map(|backend| &backend.accelerators) {
///     let monitor = GpuMonitor::start(accelerator, Duration::from_millis(100));
///     match monitor.sample() {
///         Some(sample) => println!("{}: {:?} °C", sample.name, sample.temperature),
///         None => println!("{}: {}", accelerator.name, monitor.problem().unwrap_or_default()),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct GpuMonitor {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    sample: Option<GpuSample>,
    problem: Option<String>,
    is_closed: bool,
}

impl GpuMonitor {
    /// Asks a device about itself every `period` (at least 10 ms), until the monitor is dropped. It is found by its
    /// [UUID](Accelerator::uuid), which has to be NVIDIA's own: that of an accelerator of CUDA. One of another backend gets
    /// no sample, and [`problem`](Self::problem) says so.
    ///
    /// Returns when the first answer is there, or the reason why there is none; after two seconds in any case.
    pub fn start(accelerator: &Accelerator, period: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let uuid = accelerator.uuid.map(|uuid| format!("GPU-{uuid}"));
        let period = period.max(LEAST_PERIOD);
        let thread = std::thread::Builder::new().name("ringwork-nvml".into());
        let started = thread.spawn(move || {
            if let Err(problem) = watch(&own, uuid.as_deref(), period) {
                own.put(None, Some(problem));
            }
        });
        if let Err(error) = started {
            shared.put(None, Some(format!("no thread to ask on: {error}")));
        }
        let limit = Instant::now() + FIRST;
        let mut state = lock(&shared.state);
        while state.sample.is_none() && state.problem.is_none() && Instant::now() < limit {
            state = wait_until(&shared.changed, state, Some(limit));
        }
        drop(state);
        Self { shared }
    }

    /// What the device said last; `None` where it cannot be asked, for the reason that [`problem`](Self::problem) gives.
    pub fn sample(&self) -> Option<GpuSample> {
        lock(&self.shared.state).sample.clone()
    }

    /// Why there is no sample: NVML is not there, it does not know the device, or the device is lost.
    pub fn problem(&self) -> Option<String> {
        let state = lock(&self.shared.state);
        let waits = || state.sample.is_none().then(|| "NVML has not answered yet".to_owned());
        state.problem.clone().or_else(waits)
    }
}

impl Drop for GpuMonitor {
    fn drop(&mut self) {
        lock(&self.shared.state).is_closed = true;
        // Not waited for: the driver may not answer it.
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn put(&self, sample: Option<GpuSample>, problem: Option<String>) {
        let mut state = lock(&self.state);
        (state.sample, state.problem) = (sample, problem);
        drop(state);
        self.changed.notify_all();
    }
}

/// Asks until nobody listens any more.
fn watch(shared: &Shared, uuid: Option<&str>, period: Duration) -> Result<(), String> {
    let uuid = uuid.ok_or("it is no GPU")?;
    let nvml = Nvml::init().map_err(|error| match error {
        NvmlError::LibloadingError(_) => "NVIDIA's management library (NVML) was not found".to_owned(),
        error => format!("NVIDIA's management library (NVML) does not start: {error}"),
    })?;
    let device = nvml.device_by_uuid(uuid).map_err(|error| format!("NVML does not know {uuid}: {error}"))?;
    let mut xids = Xids { events: listen(&nvml, &device), count: 0, last: None };
    loop {
        // Before the device is asked, which may be lost by what is reported of it.
        xids.take();
        let sample = ask(&device, &xids).map_err(|error| {
            let xid = xids.last.map(|xid| format!("; the last error that was reported of it is Xid {xid}"));
            format!("NVML does not answer any more: {error}{}", xid.unwrap_or_default())
        })?;
        shared.put(Some(sample), None);
        let until = Instant::now() + period;
        let mut state = lock(&shared.state);
        while !state.is_closed && Instant::now() < until {
            state = wait_until(&shared.changed, state, Some(until));
        }
        if state.is_closed {
            return Ok(());
        }
    }
}

/// The critical errors that a device reports.
struct Xids<'nvml> {
    /// `None` where they are not told.
    events: Option<EventSet<'nvml>>,
    count: u64,
    last: Option<u64>,
}

impl Xids<'_> {
    /// Takes what has been reported, without waiting.
    fn take(&mut self) {
        // An error is that there are no more, or that there will be none.
        while let Some(Ok(event)) = self.events.as_ref().map(|events| events.wait(0)) {
            if let Some(xid) = event.event_data {
                self.count += 1;
                self.last = match xid {
                    XidError::Value(number) => Some(number),
                    XidError::Unknown => None,
                };
            }
        }
    }
}

/// Has the driver tell critical errors, if it does.
#[cfg(target_os = "linux")]
fn listen<'nvml>(nvml: &'nvml Nvml, device: &Device<'nvml>) -> Option<EventSet<'nvml>> {
    let events = nvml.create_event_set().ok()?;
    device.register_events(EventTypes::CRITICAL_XID_ERROR, events).ok()
}

/// NVML has no events elsewhere.
#[cfg(not(target_os = "linux"))]
fn listen<'nvml>(_: &'nvml Nvml, _: &Device<'nvml>) -> Option<EventSet<'nvml>> {
    None
}

/// Everything that the device tells; an error only if it tells nothing, not even its name.
fn ask(device: &Device<'_>, xids: &Xids<'_>) -> Result<GpuSample, NvmlError> {
    let name = device.name()?;
    let memory = device.memory_info().ok();
    let utilization = device.utilization_rates().ok();
    let ecc = |kind| device.total_ecc_errors(kind, EccCounter::Volatile).ok();
    let reasons = |reasons: ThrottleReasons| {
        let limiting = reasons - ThrottleReasons::GPU_IDLE;
        limiting.iter_names().map(|(name, _)| name.to_owned()).collect()
    };
    Ok(GpuSample {
        at: Instant::now(),
        name,
        memory_used: memory.as_ref().map(|memory| memory.used),
        memory_total: memory.as_ref().map(|memory| memory.total),
        utilization: utilization.as_ref().map(|utilization| utilization.gpu),
        memory_utilization: utilization.as_ref().map(|utilization| utilization.memory),
        temperature: device.temperature(TemperatureSensor::Gpu).ok(),
        power: device.power_usage().ok(),
        power_limit: device.enforced_power_limit().ok(),
        clock: device.clock_info(Clock::SM).ok(),
        memory_clock: device.clock_info(Clock::Memory).ok(),
        throttle_reasons: device.current_throttle_reasons().ok().map(reasons),
        ecc_corrected: ecc(MemoryError::Corrected),
        ecc_uncorrected: ecc(MemoryError::Uncorrected),
        xid_count: xids.events.is_some().then_some(xids.count),
        last_xid: xids.last,
    })
}
