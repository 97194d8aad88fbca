//! The machine under the measurement, and who else uses it. Linux only.

use std::fs;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
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

/// Whether two threads get a processor each. A hypervisor may put two processors on one physical core for a while and
/// says nothing; then, or while others keep them busy, two busy loops take longer than one.
pub fn side_by_side() -> bool {
    /// 2.0 on one physical core, at most 1.3 on two (measured on Zen 4).
    const SLOWED: f64 = 1.6;
    if processors() != 2 {
        return true; // one is never enough for two; where there are more, the scheduler finds another
    }
    let together = || {
        let start = Barrier::new(2);
        let busy = || {
            start.wait();
            multiply()
        };
        thread::scope(|scope| {
            let threads = [scope.spawn(busy), scope.spawn(busy)];
            threads.map(|t| t.join().expect("the loop does not panic")).into_iter().fold(0.0, f64::max)
        })
    };
    together() < SLOWED * multiply()
}

/// Keeps a core's multiplier busy; the median seconds of a stretch of about 10 µs.
fn multiply() -> f64 {
    let factor = black_box(0x9E37_79B9_7F4A_7C15_u64);
    let stretch = || {
        let start = Instant::now();
        // Six independent chains: more than the latency of a multiplication, so that its throughput is the limit.
        let mut chains = black_box([1_u64, 3, 5, 7, 9, 11]);
        for i in 0..8_000 {
            for chain in &mut chains {
                *chain = (*chain ^ i).wrapping_mul(factor);
            }
        }
        black_box(chains);
        start.elapsed().as_secs_f64()
    };
    let mut all: Vec<f64> = (0..31).map(|_| stretch()).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, |n| n.get())
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
        processors(),
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
