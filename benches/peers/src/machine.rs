//! The machine under the measurement: its clock, its processors, and who else uses them. Linux only.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A time stamp in ticks: the time-stamp counter on x86-64, nanoseconds of [`Instant`] elsewhere.
#[inline(always)]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and Linux leaves it open to user code.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

/// What is known about [`ticks`].
pub struct Clock {
    /// Nanoseconds per tick.
    pub period: f64,
    /// Nanoseconds that an empty pair of stamps shows (their mean), to be taken off.
    pub cost: f64,
    /// Nanoseconds between two values that a stamp can have: a hypervisor may let the counter advance in steps.
    pub step: f64,
}

pub fn clock() -> &'static Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(|| {
        let (instant, first) = (Instant::now(), ticks());
        std::thread::sleep(Duration::from_millis(100));
        let period = instant.elapsed().as_nanos() as f64 / (ticks() - first) as f64;
        let mut empty: Vec<u64> = (0..20_000)
            .map(|_| {
                let start = ticks();
                ticks() - start
            })
            .collect();
        empty.sort_unstable();
        // Steps differ by a tick: one alone is none.
        let moved: Vec<u64> = empty.iter().copied().filter(|&ticks| ticks > 1).collect();
        // Not the very least: some are cut short when the thread is moved.
        let step = moved.get(moved.len() / 20).map_or(0.0, |&ticks| ticks as f64);
        let undisturbed = &empty[..empty.len() * 9 / 10];
        let cost = undisturbed.iter().sum::<u64>() as f64 / undisturbed.len() as f64;
        Clock { period, cost: cost * period, step: step * period }
    })
}

/// How many processors this process may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Two processors on different physical cores, as far as the system tells; the same one twice where there is one.
pub fn pair() -> (usize, usize) {
    static PAIR: OnceLock<(usize, usize)> = OnceLock::new();
    *PAIR.get_or_init(|| {
        let allowed = allowed();
        let core = |cpu: usize| {
            ["physical_package_id", "core_id"].map(|file| {
                fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{file}")).ok()
            })
        };
        let first = allowed[0];
        let other = allowed.iter().skip(1).find(|&&cpu| core(cpu) != core(first));
        (first, *other.or(allowed.get(1)).unwrap_or(&first))
    })
}

fn allowed() -> Vec<usize> {
    // SAFETY: `cpu_set_t` is a plain bit set, for which all zeros is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours and its size is given; 0 means the calling thread.
    let status = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    assert_eq!(status, 0, "sched_getaffinity failed");
    // SAFETY: every index is below the set's size.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Keeps the calling thread on one processor.
pub fn pin(cpu: usize) {
    // SAFETY: `cpu_set_t` is a plain bit set; `cpu` comes from `allowed`, so it is in range; 0 is this thread.
    let status = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    assert_eq!(status, 0, "sched_setaffinity failed");
}

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
        /// `/proc/stat` counts in steps of 10 ms: about one of them is not evidence.
        const GRAIN: f64 = 0.012;
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

/// Bytes of this process that are in memory.
#[cfg_attr(not(feature = "ringwork"), allow(dead_code))]
pub fn resident_bytes() -> f64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = pages.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(f64::NAN);
    // SAFETY: the call has no preconditions.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as f64
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
