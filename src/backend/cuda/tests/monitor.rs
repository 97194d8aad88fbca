//! What a GPU says of itself, where NVML is not there and where it is emulated. Each in a process of its own: what a
//! process has loaded, it keeps.

use crate::backend::cuda::{GpuMonitor, driver};
use crate::backend::{BackendKind, backends};
use std::process::Command;
use std::time::{Duration, Instant};

/// Set for the child: what it has to find.
const CHILD: &str = "RINGWORK_TEST_MONITOR";

#[test]
fn child_watches_the_device() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let backends = backends();
    let of =
        |kind| &backends.iter().find(|backend| backend.kind == kind).expect("in the list").accelerators[0];
    let period = Duration::from_millis(1);
    let begun = Instant::now();
    let monitor = GpuMonitor::start(of(BackendKind::Cuda), period);
    let cpu = GpuMonitor::start(of(BackendKind::Cpu), period);
    assert_eq!((cpu.sample(), cpu.problem().as_deref()), (None, Some("it is no GPU")));
    if what == "absent" {
        assert_eq!(monitor.sample(), None);
        assert_eq!(monitor.problem().unwrap(), "NVIDIA's management library (NVML) was not found");
        assert!(begun.elapsed() < super::kit::LONG);
        return;
    }
    let first = monitor.sample().expect("it answers");
    assert_eq!(first.name, "NVML emulation (no GPU)");
    assert_eq!((first.memory_used, first.memory_total), (Some(300), Some(1000)));
    assert_eq!((first.utilization, first.memory_utilization), (Some(99), Some(7)));
    assert_eq!((first.temperature, first.power, first.power_limit), (Some(41), Some(123_456), None));
    assert_eq!((first.clock, first.memory_clock), (Some(1980), Some(3201)));
    let reasons = ["SW_POWER_CAP", "HW_THERMAL_SLOWDOWN"].map(str::to_owned).to_vec();
    assert_eq!(first.throttle_reasons, Some(reasons));
    assert_eq!((first.ecc_corrected, first.ecc_uncorrected), (Some(3), Some(0)));
    // What is reported may be there before the first look.
    if ["there", "no-events"].contains(&&*what) {
        assert_eq!((first.xid_count, first.last_xid), ((what != "no-events").then_some(0), None));
    }
    while what == "xid" && monitor.sample().expect("it answers").xid_count != Some(2) {
        assert!(begun.elapsed() < super::kit::LONG, "nothing is reported");
        std::thread::sleep(period);
    }
    if what == "xid" {
        assert_eq!(monitor.sample().expect("it answers").last_xid, Some(31));
    }
    while monitor.sample().is_some_and(|sample| sample.at == first.at) {
        assert!(begun.elapsed() < super::kit::LONG, "it is asked once only");
        std::thread::sleep(period);
    }
    if what == "lost" {
        while monitor.sample().is_some() {
            assert!(begun.elapsed() < super::kit::LONG, "it is never lost");
            std::thread::sleep(period);
        }
        let problem = monitor.problem().unwrap();
        assert!(problem.starts_with("NVML does not answer any more: "), "{problem}");
        assert!(problem.ends_with("; the last error that was reported of it is Xid 79"), "{problem}");
    } else {
        assert_eq!(monitor.problem(), None);
    }
    assert!(!driver::version().is_empty(), "the driver is another library");
}

#[test]
fn a_monitor_says_what_the_device_says_or_why_it_does_not() {
    let folder = match super::build::emulation() {
        Ok(folder) => folder,
        Err(reason) => return println!("SKIPPED: {reason}"),
    };
    if std::path::Path::new("/proc/driver/nvidia").exists() {
        // A machine with a GPU has an NVML of its own.
        return;
    }
    let without = folder.join("without-nvml");
    std::fs::create_dir_all(&without).unwrap();
    for file in ["libcuda.so", "libnvrtc.so", "device.h"] {
        std::fs::copy(folder.join(file), without.join(file)).unwrap();
    }
    for (what, libraries, seeds) in [
        ("absent", &without, ""),
        ("there", &folder, ""),
        ("xid", &folder, "nvml-xid"),
        ("no-events", &folder, "nvml-no-events"),
        ("lost", &folder, "nvml-lost"),
    ] {
        let mut child = Command::new(std::env::current_exe().expect("a test is a program"));
        child.args(["--exact", "backend::cuda::tests::monitor::child_watches_the_device", "--nocapture"]);
        child.env(CHILD, what).env("LD_LIBRARY_PATH", libraries).env("RINGWORK_EMULATION", seeds);
        let output = child.output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{what}: {text}{errors}");
    }
}
