//! The machine under the measurement, and who else uses it. Linux only.

use std::fs;
use std::time::Instant;

/// Processor time over a stretch of wall time, the whole machine's and our own.
pub struct Load {
    start: Instant,
    machine: f64,
    own: f64,
}

impl Load {
    pub fn start() -> Self {
        Self { start: Instant::now(), machine: machine_seconds(), own: own_seconds() }
    }

    /// Processors kept busy by others since `start`, stolen time included.
    pub fn foreign(&self) -> f64 {
        /// `/proc/stat` counts in steps of 10 ms: about two of them, one a processor, are not evidence.
        const GRAIN: f64 = 0.022;
        let wall = self.start.elapsed().as_secs_f64().max(1e-3);
        let others = (machine_seconds() - self.machine) - (own_seconds() - self.own);
        (others - GRAIN).max(0.0) / wall
    }
}

/// Seconds that all processors together were not idle: user, nice, system, irq, softirq, steal.
fn machine_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.lines().next().unwrap_or("").split_whitespace().skip(1).flat_map(str::parse).collect();
    [0, 1, 2, 5, 6, 7].iter().filter_map(|&i| fields.get(i)).sum::<f64>() / 100.0
}

fn own_seconds() -> f64 {
    // SAFETY: `rusage` is plain numbers, and the call only writes into it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// One line about processor, kernel and compiler.
pub fn description() -> String {
    let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}, {} processors, {}Linux {}; {}; load at start {}",
        model.unwrap_or(std::env::consts::ARCH),
        std::thread::available_parallelism().map_or(1, |n| n.get()),
        if cpu_info.contains(" hypervisor") { "virtual machine, " } else { "" },
        release.trim(),
        command("rustc", &["--version"]),
        load.split_whitespace().next().unwrap_or("unknown"),
    )
}

/// What a command prints, trimmed; a hyphen if it cannot run.
pub fn command(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output();
    output.map_or("-".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
