//! Without a driver, without NVRTC, without a device: a reason, and never a panic. Each in a process of its own: what a
//! process has loaded, it keeps.

use crate::backend::{BackendKind, DeviceOptions, backends, open};
use std::process::Command;

/// Set for the child, which then looks at what it finds.
const CHILD: &str = "RINGWORK_TEST_ABSENT";

/// What a process sees with these variables: the reason and the remedy of the backend, or nothing.
fn seen(variables: &[(&str, &str)]) -> String {
    let own = std::env::current_exe().expect("a test is a program");
    let name = "backend::cuda::tests::absent::child_tells_what_it_finds";
    let mut child = Command::new(own);
    child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").env_remove("RINGWORK_NVRTC");
    let output = child.envs(variables.iter().copied()).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("FOUND ")).map(str::to_owned);
    line.unwrap_or_else(|| panic!("the child says nothing: {text}"))
}

#[test]
fn child_tells_what_it_finds() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let report =
        backends().into_iter().find(|backend| backend.kind == BackendKind::Cuda).expect("in the list");
    let opened = open(BackendKind::Cuda, &DeviceOptions::default(), &|_| None).map(drop);
    // Without NVRTC a runtime that asks for CUDA runs what was compiled before.
    let has_compiler = super::super::nvrtc::start().is_ok();
    assert_eq!(report.is_usable(), opened.is_ok() && has_compiler, "{opened:?}");
    println!("\nFOUND {}", report.problem.map_or_else(String::new, |problem| problem.to_string()));
    if let Err(error) = opened {
        assert!(error.is_unavailable(), "{error}");
        println!("ERROR {error}");
    }
}

#[test]
fn what_is_missing_is_the_reason() {
    let folder = match super::build::emulation() {
        Ok(folder) => folder,
        Err(reason) => return println!("SKIPPED: {reason}"),
    };
    let all = folder.to_str().expect("a path of ours");
    let with = |libraries: &[&str], name: &str| {
        let part = folder.join(name);
        std::fs::create_dir_all(&part).expect("a folder in the target folder");
        for library in libraries {
            _ = std::fs::copy(folder.join(library), part.join(library));
        }
        part
    };
    let driver_only = with(&["libcuda.so"], "driver-only");
    let nothing = with(&[], "nothing");
    let path = |path: &std::path::Path| path.to_str().expect("a path of ours").to_owned();
    assert_eq!(seen(&[("LD_LIBRARY_PATH", all)]), "");
    let found = seen(&[("LD_LIBRARY_PATH", all), ("RINGWORK_EMULATION", "no-device")]);
    assert!(found.starts_with("the driver finds no device; install NVIDIA's driver"), "{found}");
    let found = seen(&[("LD_LIBRARY_PATH", all), ("RINGWORK_EMULATION", "no-driver")]);
    assert!(found.starts_with("the driver does not start: "), "{found}");
    let found = seen(&[("LD_LIBRARY_PATH", all), ("RINGWORK_EMULATION", "old-driver")]);
    assert!(found.starts_with("the driver is too old: it is for CUDA 12.2, and 12.4 is needed; "), "{found}");
    let limited = ("RINGWORK_EMULATION", "time-limit");
    let found = seen(&[("LD_LIBRARY_PATH", all), limited]);
    assert!(found.contains("the system ends its kernels after some seconds"), "{found}");
    assert_eq!(seen(&[("LD_LIBRARY_PATH", all), limited, ("RINGWORK_CUDA_TIME_LIMIT", "1")]), "");
    let found = seen(&[("LD_LIBRARY_PATH", all), ("RINGWORK_EMULATION", "no-registration")]);
    assert!(found.contains("does not let kernels use memory of this process"), "{found}");
    // A machine with a GPU has them elsewhere.
    if std::path::Path::new("/proc/driver/nvidia").exists() {
        return;
    }
    {
        let found = seen(&[("LD_LIBRARY_PATH", &path(&nothing))]);
        assert!(
            found.starts_with("the driver's library (libcuda, nvcuda) was not found; install"),
            "{found}"
        );
        let found = seen(&[("LD_LIBRARY_PATH", &path(&driver_only))]);
        assert!(found.starts_with("NVRTC, which compiles handlers, was not found"), "{found}");
        assert!(found.contains("RINGWORK_NVRTC"), "{found}");
        assert!(found.contains("asked for `cuda` runs what its cache on disk has"), "{found}");
        // … and found where the variable says.
        let given = [("LD_LIBRARY_PATH", &*path(&driver_only)), ("RINGWORK_NVRTC", all)];
        assert_eq!(seen(&given), "");
    }
}
