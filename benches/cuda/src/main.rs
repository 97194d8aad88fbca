//! Ringwork's CUDA backend beside hand-written CUDA, in one run on one device, and checks that need a device.
//!
//! ```text
//! cargo run --release --manifest-path benches/cuda/Cargo.toml -- [PART…] [--quick] [--messages N] [--out FILE]
//! cargo run --release --manifest-path benches/cuda/Cargo.toml -- --soak SECONDS
//! cargo run --release --manifest-path benches/cuda/Cargo.toml -- --compile
//! ```
//!
//! The parts are `driver`, `torture` (`--messages` of them, 10 million unless set), `latency`, `throughput`, `kernels`, `links`
//! and `faults`; all of them unless some are named. `--quick` does little of each, `--device` only says what the device is.
//! `--compile` needs no device: it compiles the yardsticks' kernels for sm_75, sm_80 and sm_90. `--out` is written behind
//! each part; one that fails does not keep the next from running. Exits with 1 if anything was wrong, and with 3 if all was
//! right but a goal was missed. On the emulation of `tests/cuda` everything runs, and no figure is shown.

mod beside;
mod faults;
mod gpu;
mod latency;
mod report;
mod soak;
mod throughput;
mod torture;

use gpu::Gpu;
use report::Report;
use ringwork::{BackendKind, Handle, Message, RingKernel, Runtime, message};
use std::process::ExitCode;
use std::time::Duration;

message! {
    /// 64 bytes.
    pub struct Job { pub words: [u32; 16] }
}

/// Each word one larger, as the yardsticks do.
pub const HANDLER: &str = "fn on_message(m: Job) -> Job {
    var r: Job;
    for (var i = 0u; i < 16u; i++) { r.words[i] = m.words[i] + 1u; }
    return r;
}";

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

const PARTS: [&str; 7] = ["driver", "torture", "latency", "throughput", "kernels", "links", "faults"];

/// Numbers that look random, the same in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xd1b5_4a32_d192_ed03)
    }

    pub fn word(&mut self) -> u32 {
        // Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x >> 32) as u32
    }
}

/// Launches and activates.
pub fn active<In: Message, Out: Message>(
    runtime: &Runtime,
    kernel: RingKernel<In, Out>,
) -> Result<Handle<In, Out>, String> {
    let handle = runtime.launch(kernel).map_err(|error| error.to_string())?;
    handle.activate().map_err(|error| error.to_string())?;
    Ok(handle)
}

struct Arguments {
    parts: Vec<String>,
    quick: bool,
    messages: u64,
    soak: Option<u64>,
    compile: bool,
    device: bool,
    out: Option<String>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        parts: vec![],
        quick: false,
        messages: 10_000_000,
        soak: None,
        compile: false,
        device: false,
        out: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        let number = |text: String| {
            text.parse().ok().filter(|n| *n > 0).ok_or(format!("{word} needs a number above 0"))
        };
        match word.as_str() {
            "--quick" => found.quick = true,
            "--messages" => found.messages = number(value()?)?,
            "--soak" => found.soak = Some(number(value()?)?),
            "--device" => found.device = true,
            "--compile" => found.compile = true,
            "--out" => found.out = Some(value()?),
            part if PARTS.contains(&part) => found.parts.push(word),
            _ => return Err(format!("unknown argument {word}; the parts are {}", PARTS.join(", "))),
        }
    }
    if found.parts.is_empty() && found.soak.is_none() {
        found.parts = PARTS.map(str::to_owned).to_vec();
    }
    Ok(found)
}

fn run() -> Result<Report, String> {
    let arguments = arguments()?;
    if arguments.compile {
        gpu::load_nvrtc()?;
        let mut report = Report::new(false);
        for architecture in ["sm_75", "sm_80", "sm_90"] {
            report.line(format!("{architecture}: {} bytes of cubin", gpu::compile(architecture)?.len()));
        }
        return Ok(report);
    }
    let runtime = Runtime::builder().backend(BackendKind::Cuda).build().map_err(|error| error.to_string())?;
    let device = runtime.capabilities().map_err(|error| error.to_string())?;
    gpu::load_nvrtc()?;
    let gpu = Gpu::open(*device.uuid.ok_or("the device has no id")?.as_bytes())?;
    let mut report = Report::new(gpu.name.contains("emulation"));
    let driver = &device.driver;
    report.line(format!("Device: {} ({}), driver {driver}.", gpu.name, gpu.architecture));
    if arguments.device {
        return Ok(report);
    }
    if report.is_emulated {
        report.line("This is an emulation, not a GPU: what runs on it is checked, and no figure is shown.");
    }
    let quick = arguments.quick;
    // Behind each part: whoever ends this program has what it had found.
    let write = |report: &Report| match &arguments.out {
        Some(out) => std::fs::write(out, report.text()).map_err(|error| format!("{out}: {error}")),
        None => Ok(()),
    };
    for part in &arguments.parts {
        let done = match part.as_str() {
            "driver" => beside::measure(&gpu, &mut report),
            "torture" => torture::run(&runtime, arguments.messages, &mut report),
            "latency" => latency::measure(&runtime, &gpu, quick, &mut report),
            "throughput" => throughput::measure(&runtime, quick, &mut report),
            "kernels" => throughput::kernels(&runtime, quick, &mut report)
                .and_then(|()| latency::in_turn(&runtime, quick, &mut report)),
            "links" => latency::hop(&runtime, quick, &mut report),
            // The last one: what this program has on the device is lost with it.
            _ => faults::run(&runtime, &mut report),
        };
        report.failed(part, done);
        write(&report)?;
    }
    if let Some(seconds) = arguments.soak {
        let done = soak::run(&runtime, &gpu, seconds, &mut report);
        report.failed("soak", done);
        write(&report)?;
    }
    runtime.shutdown(PATIENCE).map_err(|error| error.to_string())?;
    Ok(report)
}

fn main() -> ExitCode {
    match run() {
        Ok(report) if report.failures > 0 => ExitCode::FAILURE,
        Ok(report) if report.missed > 0 => ExitCode::from(3),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}
