//! What Ringwork finds on this machine: backends, accelerators, what `Auto` takes; for what is missing, the remedy.
//!
//! ```text
//! cargo run --release --example doctor
//! cargo run --release --example doctor -- --json
//! ```
//!
//! It opens no device.

use ringwork::{Accelerator, BackendReport, CacheSettings, Choice, Runtime, backends};
use serde_json::{Value, json};
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

const USAGE: &str = "\
usage: doctor [--json]

Lists the backends and accelerators that Ringwork finds here, as text or as JSON, and what a runtime would take.
Exits with 0 if a runtime can run device kernels with the environment as it is, 1 if not, 2 for a wrong argument.
";

/// What changes the answers from outside: Ringwork's own variables, and those of the Vulkan loader.
const VARIABLES: [&str; 9] = [
    "RINGWORK_BACKEND",
    "RINGWORK_ADAPTER",
    "RINGWORK_WGPU_TRANSFER",
    "RINGWORK_NVRTC",
    "RINGWORK_CUDA_TIME_LIMIT",
    "RINGWORK_CACHE",
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "VK_LOADER_DRIVERS_DISABLE",
];

/// Bytes that no memory has: as much as not to be limited.
const LIMITLESS: u64 = 1 << 60;

fn main() -> ExitCode {
    let as_json = match arguments(env::args_os().skip(1)) {
        Ok(Some(as_json)) => as_json,
        Ok(None) => return print(USAGE, ExitCode::SUCCESS),
        Err(wrong) => {
            // Nobody there to read it: then nobody misses it.
            let _ = write!(io::stderr(), "doctor: {wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let findings = Findings::new();
    let report = if as_json { format!("{:#}\n", findings.json()) } else { findings.text() };
    print(&report, if findings.choice.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Is JSON wanted? `None` asks for help.
fn arguments(arguments: impl Iterator<Item = OsString>) -> Result<Option<bool>, String> {
    let mut as_json = false;
    for argument in arguments {
        match argument.to_str() {
            Some("--json") => as_json = true,
            Some("-h" | "--help") => return Ok(None),
            _ => return Err(format!("unknown argument {}", argument.to_string_lossy())),
        }
    }
    Ok(Some(as_json))
}

/// Prints, and says with what to exit: a reader that has left, as `head` does, is no failure; a full disk is.
fn print(text: &str, code: ExitCode) -> ExitCode {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "doctor: cannot write the output: {error}");
            ExitCode::FAILURE
        }
        _ => code,
    }
}

struct Findings {
    backends: Vec<BackendReport>,
    /// What a runtime would take that nothing is said to, or why it would be none.
    choice: ringwork::Result<Choice>,
    /// Where compiled handlers are kept, or why nowhere.
    cache: Result<String, String>,
    environment: Vec<(&'static str, Option<String>)>,
}

impl Findings {
    fn new() -> Self {
        let value = |name| env::var_os(name).map(|value: OsString| value.to_string_lossy().into_owned());
        let folder = CacheSettings::new().usable_folder();
        Self {
            backends: backends(),
            choice: Runtime::builder().choice(),
            cache: folder.map(|folder| folder.display().to_string()).map_err(|error| error.to_string()),
            environment: VARIABLES.map(|name| (name, value(name))).to_vec(),
        }
    }

    fn json(&self) -> Value {
        let choice = match &self.choice {
            Ok(Choice { accelerator, why, .. }) => json!({
                "backend": accelerator.backend.to_string(),
                "index": accelerator.index,
                "name": accelerator.name,
                "why": why,
            }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        let cache = match &self.cache {
            Ok(folder) => json!({ "folder": folder, "problem": null }),
            Err(problem) => json!({ "folder": null, "problem": problem }),
        };
        json!({
            "ringwork": env!("CARGO_PKG_VERSION"),
            "system": env::consts::OS,
            "processor": env::consts::ARCH,
            "backends": self.backends.iter().map(backend_json).collect::<Vec<_>>(),
            "choice": choice,
            "cache": cache,
            "environment": self.environment.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        })
    }

    fn text(&self) -> String {
        let mut out =
            format!("Ringwork {} on {}, {}\n", env!("CARGO_PKG_VERSION"), env::consts::OS, env::consts::ARCH);
        for backend in &self.backends {
            backend_text(&mut out, backend);
        }
        match &self.choice {
            Ok(choice) => section(
                &mut out,
                "a runtime takes",
                &[("", choice.accelerator.to_string()), ("why", choice.why.clone())],
            ),
            Err(error) => section(&mut out, "a runtime fails", &[("why", error.to_string())]),
        }
        match &self.cache {
            Ok(folder) => section(&mut out, "compiled handlers are kept", &[("in", folder.clone())]),
            Err(problem) => section(&mut out, "compiled handlers are not kept", &[("why", problem.clone())]),
        }
        out.push_str("\nenvironment\n");
        for (name, value) in &self.environment {
            let value = value.as_ref().map_or("not set".to_owned(), |value| format!("`{value}`"));
            line(&mut out, name, &value, 26);
        }
        out
    }
}

fn backend_json(backend: &BackendReport) -> Value {
    json!({
        "backend": backend.kind.to_string(),
        "built": backend.built,
        "usable": backend.is_usable(),
        "reason": backend.problem.as_ref().map(|problem| &problem.reason),
        "remedy": backend.problem.as_ref().map(|problem| &problem.remedy),
        "engine": backend.engine,
        "accelerators": backend.accelerators.iter().map(accelerator_json).collect::<Vec<_>>(),
    })
}

fn accelerator_json(accelerator: &Accelerator) -> Value {
    json!({
        "index": accelerator.index,
        "name": accelerator.name,
        "uuid": accelerator.uuid.map(|uuid| uuid.to_string()),
        "vendor": accelerator.vendor,
        "kind": accelerator.kind.to_string(),
        "api": accelerator.api,
        "driver": accelerator.driver,
        "pci_address": accelerator.pci_address,
        "unified_memory": accelerator.unified_memory,
        "parallelism": accelerator.parallelism,
        "compute_units": accelerator.compute_units,
        "subgroup_size": accelerator.subgroup_size.as_ref().map(|size| [*size.start(), *size.end()]),
        "workgroup": accelerator.workgroup.map(|workgroup| json!({
            "invocations": workgroup.invocations,
            "size": workgroup.size,
            "memory": workgroup.memory,
            "count": workgroup.count,
        })),
        "total_memory": accelerator.total_memory,
        "free_memory": accelerator.free_memory(),
        "largest_buffer": accelerator.largest_buffer,
        "buffer_alignment": accelerator.buffer_alignment,
        "features": accelerator.features,
    })
}

fn backend_text(out: &mut String, backend: &BackendReport) {
    let kind = backend.kind.to_string();
    if let Some(problem) = &backend.problem {
        let remedy = ("remedy", problem.remedy.clone());
        return if backend.built {
            section(out, &format!("{kind} cannot be used"), &[("reason", problem.reason.clone()), remedy])
        } else {
            section(out, &format!("{kind} is not in this build"), &[remedy])
        };
    }
    let engine = backend.engine.map(|engine| ("engine", engine.to_owned()));
    section(out, &format!("{kind} can be used"), engine.as_slice());
    for accelerator in &backend.accelerators {
        let _ = writeln!(out, "  {}: {}", accelerator.index, accelerator.name);
        let memory = if accelerator.unified_memory { "shared with the host" } else { "its own" };
        let parallelism = match accelerator.api.as_str() {
            "" => accelerator.parallelism.to_string(),
            _ => format!("{} in a workgroup", accelerator.parallelism),
        };
        let memory = match accelerator.total_memory {
            Some(total) => {
                let free = accelerator.free_memory().map(|free| format!(", {} free", bytes(free)));
                format!("{}{}, {memory}", bytes(total), free.unwrap_or_default())
            }
            None => memory.to_owned(),
        };
        let subgroup = accelerator.subgroup_size.as_ref().map(|size| match (size.start(), size.end()) {
            (least, most) if least == most => least.to_string(),
            (least, most) => format!("{least} to {most}"),
        });
        let facts = [
            ("vendor", accelerator.vendor.clone()),
            ("kind", Some(accelerator.kind.to_string())),
            ("uuid", accelerator.uuid.map(|uuid| uuid.to_string())),
            ("api", Some(accelerator.api.clone())),
            ("driver", Some(accelerator.driver.clone())),
            ("PCI address", accelerator.pci_address.clone()),
            ("memory", Some(memory)),
            (
                "largest buffer",
                (accelerator.largest_buffer < LIMITLESS).then(|| bytes(accelerator.largest_buffer)),
            ),
            ("threads", Some(parallelism)),
            ("compute units", accelerator.compute_units.map(|units| units.to_string())),
            ("subgroup", subgroup),
            ("group memory", accelerator.workgroup.map(|workgroup| bytes(workgroup.memory.into()))),
        ];
        for (label, value) in facts {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                line(out, &format!("   {label}"), &value, 19);
            }
        }
    }
}

fn section(out: &mut String, title: &str, lines: &[(&str, String)]) {
    let _ = writeln!(out, "\n{title}");
    for (label, value) in lines {
        line(out, label, value, 8);
    }
}

fn line(out: &mut String, label: &str, value: &str, width: usize) {
    let _ = match label {
        "" => writeln!(out, "  {value}"),
        _ => writeln!(out, "  {label:<width$}{value}"),
    };
}

/// A number of bytes in the largest unit that loses nothing worth knowing.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && count >> (10 * (unit + 1)) != 0 {
        unit += 1;
    }
    let value = count as f64 / (1u64 << (10 * unit)) as f64;
    // Limits are often a page or so short of a round number.
    format!("{} {}", (value * 10.0).round() / 10.0, UNITS[unit])
}
