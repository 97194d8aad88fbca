//! `doctor`: for people, for programs, and wherever something is missing.

use super::{Run, example};
use serde_json::Value;
use std::process::{Command, Stdio};

/// Runs the doctor with nothing of Ringwork's or the Vulkan loader's in the environment but this.
fn doctor(arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new(example("doctor"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if ["RINGWORK_", "VK_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    // Not the user's folder: what the doctor looks at, it makes.
    command.env("RINGWORK_CACHE", "off").envs(environment.iter().copied());
    command.output().expect("the example starts").into()
}

/// What the doctor says to programs.
#[track_caller]
pub fn diagnosis(environment: &[(&str, &str)]) -> (Option<i32>, Value) {
    let run = doctor(&["--json"], environment);
    let value = serde_json::from_str(&run.out);
    (run.code, value.unwrap_or_else(|error| panic!("{error}: {}\n{}", run.out, run.err)))
}

/// What is said of this backend.
#[track_caller]
pub fn backend<'a>(diagnosis: &'a Value, name: &str) -> &'a Value {
    let backends = diagnosis["backends"].as_array().expect("a list of backends");
    backends.iter().find(|backend| backend["backend"] == name).expect("every backend is in the list")
}

/// Hides every Vulkan driver there is.
const HIDDEN: [(&str, &str); 2] = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];

#[test]
fn doctor_tells_programs_what_there_is() {
    let (code, diagnosis) = self::diagnosis(&[]);
    assert_eq!(code, Some(0), "{diagnosis:#}");
    assert_eq!(diagnosis["ringwork"], env!("CARGO_PKG_VERSION"));
    assert_eq!(diagnosis["system"], std::env::consts::OS);
    assert_eq!(diagnosis["cache"]["problem"], "RINGWORK_CACHE is `off`");
    assert_eq!(diagnosis["environment"]["RINGWORK_CACHE"], "off");
    assert_eq!(diagnosis["environment"]["RINGWORK_BACKEND"], Value::Null);
    let names: Vec<_> = diagnosis["backends"].as_array().unwrap().iter().map(|one| &one["backend"]).collect();
    assert_eq!(names, ["cpu", "wgpu", "cuda"]);

    let cpu = backend(&diagnosis, "cpu");
    assert_eq!((&cpu["built"], &cpu["usable"]), (&Value::Bool(true), &Value::Bool(true)));
    let engine = cpu["engine"].as_str().expect("the CPU has an engine");
    assert!(engine == "jit" || engine.starts_with("interpreter: "), "{engine}");
    let cuda = backend(&diagnosis, "cuda");
    assert_eq!(cuda["built"], Value::Bool(cfg!(feature = "cuda")));
    if cfg!(not(feature = "cuda")) {
        assert_eq!(cuda["usable"], Value::Bool(false));
        assert_eq!(cuda["reason"], "it is not in this build of ringwork");
    }
    assert_eq!(backend(&diagnosis, "wgpu")["built"], cfg!(feature = "wgpu"));

    for backend in diagnosis["backends"].as_array().unwrap() {
        let accelerators = backend["accelerators"].as_array().expect("a list of accelerators");
        assert_eq!(backend["usable"], !accelerators.is_empty(), "{backend:#}");
        for field in ["reason", "remedy"] {
            assert_eq!(backend[field].is_null(), backend["usable"] == true, "{backend:#}");
        }
        for (index, accelerator) in accelerators.iter().enumerate() {
            assert_eq!(accelerator["index"], index);
            assert!(accelerator["name"].as_str().is_some_and(|name| !name.is_empty()), "{accelerator:#}");
            assert!(accelerator["largest_buffer"].as_u64().is_some_and(|bytes| bytes > 0), "{accelerator:#}");
            assert!(
                accelerator["parallelism"].as_u64().is_some_and(|threads| threads > 0),
                "{accelerator:#}"
            );
            assert!(accelerator["unified_memory"].is_boolean(), "{accelerator:#}");
            let of_cpu = backend["backend"] == "cpu";
            assert_eq!(accelerator["kind"] == "processor", of_cpu, "{accelerator:#}");
            assert_eq!(accelerator["uuid"].is_null(), of_cpu, "{accelerator:#}");
            assert_eq!(accelerator["api"] == "", of_cpu, "{accelerator:#}");
        }
    }

    // `Auto` takes hardware, or else the CPU.
    let adapters = backend(&diagnosis, "wgpu")["accelerators"].as_array().unwrap();
    let hardware = adapters.iter().any(|adapter| adapter["kind"] != "software");
    assert_eq!(diagnosis["choice"]["backend"], if hardware { "wgpu" } else { "cpu" });
    let why = diagnosis["choice"]["why"].as_str().expect("a reason");
    if let (Some(software), false) = (adapters.first(), hardware) {
        assert!(why.contains(software["name"].as_str().unwrap()), "{why}");
    }
}

#[test]
fn doctor_tells_people_the_same() {
    let (_, diagnosis) = self::diagnosis(&[]);
    let run = doctor(&[], &[]);
    assert_eq!(run.code, Some(0), "{}\n{}", run.out, run.err);
    assert!(run.out.starts_with(&format!("Ringwork {} on ", env!("CARGO_PKG_VERSION"))), "{}", run.out);
    for backend in diagnosis["backends"].as_array().unwrap() {
        let name = backend["backend"].as_str().unwrap();
        let title = match (&backend["built"], &backend["usable"]) {
            (_, Value::Bool(true)) => "can be used",
            (Value::Bool(true), _) => "cannot be used",
            _ => "is not in this build",
        };
        assert!(run.out.contains(&format!("\n{name} {title}\n")), "{}", run.out);
        // What the title says is not said again.
        let texts = [if backend["built"] == true { "reason" } else { "remedy" }, "remedy"]
            .map(|field| backend[field].as_str());
        let accelerators = backend["accelerators"].as_array().unwrap().iter();
        let texts = texts
            .into_iter()
            .chain(accelerators.flat_map(|one| [one["name"].as_str(), one["uuid"].as_str()]));
        for text in texts.flatten() {
            assert!(run.out.contains(text), "no `{text}` in:\n{}", run.out);
        }
    }
    let why = diagnosis["choice"]["why"].as_str().unwrap();
    assert!(
        run.out.contains(&format!("\na runtime takes\n  {}", diagnosis["choice"]["name"].as_str().unwrap()))
    );
    assert!(run.out.contains(&format!("\n  why     {why}\n")), "{}", run.out);
    assert!(
        run.out.contains("\ncompiled handlers are not kept\n  why     RINGWORK_CACHE is `off`\n"),
        "{}",
        run.out
    );
}

#[test]
#[cfg(target_os = "linux")]
fn doctor_knows_the_remedy_where_there_is_no_driver() {
    if !cfg!(feature = "wgpu") {
        let (_, diagnosis) = self::diagnosis(&[]);
        let remedy = backend(&diagnosis, "wgpu")["remedy"].as_str().expect("it is not built");
        assert!(remedy.contains("its feature `wgpu`"), "{remedy}");
        return;
    }
    let (code, diagnosis) = self::diagnosis(&HIDDEN);
    assert_eq!(code, Some(0), "{diagnosis:#}");
    let wgpu = backend(&diagnosis, "wgpu");
    assert_eq!((&wgpu["built"], &wgpu["usable"]), (&Value::Bool(true), &Value::Bool(false)));
    assert_eq!(wgpu["reason"], "no adapter was found");
    let remedy = wgpu["remedy"].as_str().expect("there is one");
    assert!(
        remedy.starts_with("unset what may hide the drivers there are (VK_DRIVER_FILES is `/nonexistent`, ")
    );
    assert!(remedy.contains("apt install mesa-vulkan-drivers"), "{remedy}");
    assert_eq!(diagnosis["choice"]["backend"], "cpu");
    let why = diagnosis["choice"]["why"].as_str().unwrap();
    assert!(why.contains("for there is no GPU: wgpu: no adapter was found") && why.contains(remedy), "{why}");
    // Who asks for it gets an error that says the same.
    let run = doctor(&[], &[HIDDEN[0], HIDDEN[1], ("RINGWORK_BACKEND", "wgpu")]);
    assert_eq!(run.code, Some(1), "{}", run.out);
    let error = format!("\na runtime fails\n  why     wgpu: no adapter was found; {remedy}\n");
    assert!(run.out.contains(&error), "{}", run.out);
}

#[test]
fn doctor_says_what_is_wrong_with_the_environment() {
    for (variable, value, wrong) in [
        ("RINGWORK_BACKEND", "vulkan", "backend `vulkan` is not one of auto, cpu, wgpu, cuda"),
        #[cfg(not(feature = "cuda"))]
        (
            "RINGWORK_BACKEND",
            "cuda",
            "backend `cuda` is not in this build of ringwork; build ringwork with its feature `cuda`, or use ",
        ),
        (
            "RINGWORK_ADAPTER",
            "",
            "RINGWORK_ADAPTER is empty, but must be an index, a UUID, a PCI address, or a part of a name",
        ),
        (
            "RINGWORK_ADAPTER",
            " ",
            "RINGWORK_ADAPTER is empty, but must be an index, a UUID, a PCI address, or a part of a name",
        ),
    ] {
        let (code, diagnosis) = self::diagnosis(&[(variable, value)]);
        assert_eq!(code, Some(1), "{variable}={value}");
        let error = diagnosis["choice"]["error"].as_str().expect("a runtime would fail");
        assert!(error.starts_with(wrong), "{error}");
        // The rest is there all the same.
        assert_eq!(backend(&diagnosis, "cpu")["usable"], true);
        let run = doctor(&[], &[(variable, value)]);
        assert_eq!(run.code, Some(1));
        assert!(run.out.contains(&format!("\na runtime fails\n  why     {wrong}")), "{}", run.out);
    }
    let (_, diagnosis) = self::diagnosis(&[("RINGWORK_CACHE", "")]);
    assert_eq!(diagnosis["cache"]["problem"], "RINGWORK_CACHE is empty, but must be a folder or `off`");
}

#[test]
fn doctor_follows_the_adapter_that_the_environment_names() {
    let (_, here) = self::diagnosis(&[]);
    let adapters = backend(&here, "wgpu")["accelerators"].as_array().unwrap();
    // Mesa's software driver is enough to have one.
    let Some(adapter) = adapters.first() else {
        eprintln!("doctor_follows_the_adapter_that_the_environment_names: skipped, wgpu has no adapter here");
        return;
    };
    let uuid = adapter["uuid"].as_str().expect("adapters of wgpu have one");
    for wanted in ["0", uuid] {
        let (code, diagnosis) = self::diagnosis(&[("RINGWORK_ADAPTER", wanted)]);
        assert_eq!(code, Some(0), "{diagnosis:#}");
        let choice = &diagnosis["choice"];
        assert_eq!((&choice["backend"], &choice["name"]), (&Value::from("wgpu"), &adapter["name"]));
        assert!(
            choice["why"]
                .as_str()
                .is_some_and(|why| why.starts_with("wgpu: the adapter that was asked for: "))
        );
    }
    // The CPU has none to choose.
    let (code, diagnosis) = self::diagnosis(&[("RINGWORK_ADAPTER", "no such"), ("RINGWORK_BACKEND", "cpu")]);
    assert_eq!((code, &diagnosis["choice"]["backend"]), (Some(0), &Value::from("cpu")));
    for (wanted, reason) in [("9999", "index"), ("00000000-0000-8000-8000-000000000000", "UUID")] {
        let (code, diagnosis) = self::diagnosis(&[("RINGWORK_ADAPTER", wanted)]);
        assert_eq!(code, Some(1), "{diagnosis:#}");
        let error = diagnosis["choice"]["error"].as_str().expect("there is no such adapter");
        let start =
            format!("RINGWORK_ADAPTER is `{wanted}`, but there is none with this {reason}; there is 0 `");
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn doctor_says_what_is_wrong_with_its_arguments() {
    for argument in ["--jsno", "json", "-x", ""] {
        let run = doctor(&["--json", argument], &[]);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{argument}");
        let start = format!("doctor: unknown argument {argument}\n\nusage: doctor [--json]\n");
        assert!(run.err.starts_with(&start), "{}", run.err);
    }
    let run = doctor(&["--help"], &[]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    assert!(run.out.starts_with("usage: doctor [--json]\n"), "{}", run.out);
}

#[test]
fn doctor_tells_where_compiled_handlers_are_kept() {
    let folder = std::env::temp_dir().join(format!("ringwork-doctor-{}", std::process::id()));
    let path = folder.to_str().expect("it is made of text");
    let (_, diagnosis) = self::diagnosis(&[("RINGWORK_CACHE", path)]);
    assert_eq!(diagnosis["cache"]["folder"], path);
    assert_eq!(std::fs::read_dir(&folder).expect("it was made").count(), 0);
    std::fs::remove_dir(&folder).expect("it is empty");
    // A file in the place of a folder.
    std::fs::write(&folder, "").expect("a file can be written there");
    let (code, diagnosis) = self::diagnosis(&[("RINGWORK_CACHE", path)]);
    std::fs::remove_file(&folder).expect("it is there");
    assert_eq!((code, &diagnosis["cache"]["folder"]), (Some(0), &Value::Null));
    let problem = diagnosis["cache"]["problem"].as_str().expect("a reason");
    assert!(problem.starts_with(&format!("{path}: it cannot be made: ")), "{problem}");
}
