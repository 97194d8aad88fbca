//! What the system says of the processor and its memory.

/// The text behind a label in one of Linux's lists of facts.
#[cfg(target_os = "linux")]
fn fact(file: &str, label: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == label).then(|| value.trim().to_owned())
    })
}

#[cfg(not(target_os = "linux"))]
fn fact(_file: &str, _label: &str) -> Option<String> {
    None
}

/// Bytes of what Linux gives in kB.
fn memory(label: &str) -> Option<u64> {
    let text = fact("/proc/meminfo", label)?;
    text.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Who made the processor.
pub(super) fn vendor() -> Option<String> {
    fact("/proc/cpuinfo", "vendor_id").filter(|name| !name.is_empty())
}

/// Bytes of memory in this machine.
pub(super) fn total_memory() -> Option<u64> {
    memory("MemTotal")
}

/// Bytes that a program can still have without another one's being swapped out.
pub(crate) fn free_memory() -> Option<u64> {
    memory("MemAvailable")
}

/// The processor's extensions for vectors, in alphabetical order.
pub(super) fn features() -> Vec<String> {
    macro_rules! present {
        ($detected:ident: $($name:tt),*) => {
            [$(($name, std::arch::$detected!($name))),*]
        };
    }
    #[cfg(target_arch = "x86_64")]
    let all = present!(is_x86_feature_detected: "avx", "avx2", "avx512f", "fma", "sse4.1", "sse4.2");
    #[cfg(target_arch = "aarch64")]
    let all = present!(is_aarch64_feature_detected: "dotprod", "neon", "sve");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let all: [(&str, bool); 0] = [];
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name.to_owned()).collect()
}
