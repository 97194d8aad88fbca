//! The examples as their users meet them: processes with arguments, standard streams and an exit code.

use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;

/// The program that cargo built from `examples/<name>.rs`, beside this test's own.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("a test lies in target/<profile>/deps");
    let program = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{} is not there: run `cargo build --examples` first", program.display());
    program
}

fn repository(path: &str) -> String {
    format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))
}

/// What a process left behind.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the examples write UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Run {
    /// The value that follows `label` on its line of the summary.
    #[track_caller]
    fn line(&self, label: &str) -> &str {
        let found = self.out.lines().find_map(|line| line.strip_prefix(label));
        found.unwrap_or_else(|| panic!("no line `{label}` in:\n{}\n{}", self.out, self.err)).trim()
    }

    fn anomalies(&self) -> Vec<&str> {
        self.out.lines().filter(|line| line.starts_with("line ")).collect()
    }

    /// A kernel's books: accepted, handled, returned, dead, pending, emitted.
    #[track_caller]
    fn books(&self, kernel: &str) -> [u64; 6] {
        let numbers = self.line(&format!("{kernel} ")).split([' ', '=', '+']).filter(|word| !word.is_empty());
        let numbers: Vec<u64> = numbers.take(6).map(|word| word.parse().expect("a count")).collect();
        numbers.try_into().expect("six counts")
    }

    /// Every kernel handled all that it accepted, and the kernels agree with each other and with the counts.
    #[track_caller]
    fn assert_balanced(&self, lines: u64, parsed: u64, anomalies: u64) {
        assert_eq!(self.code, Some(0), "{}", self.err);
        assert!(self.line("lines").starts_with(&format!("{lines} = ")), "{}", self.out);
        assert!(self.line("lines").ends_with(&format!(" + {parsed} parsed")), "{}", self.out);
        assert!(self.line("scored").starts_with(&format!("{parsed}, ")), "{}", self.out);
        assert_eq!(self.line("anomalies"), format!("{anomalies} = {anomalies} at the sink"));
        assert_eq!(self.anomalies().len() as u64, anomalies, "{}", self.out);
        assert_eq!(self.books("parse"), [lines, lines, 0, 0, 0, parsed + 1]);
        assert_eq!(self.books("score"), [parsed + 1, parsed + 1, 0, 0, 0, anomalies + 1]);
        assert_eq!(self.books("report"), [anomalies, anomalies, 0, 0, 0, 0]);
    }
}

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
fn diagnosis(environment: &[(&str, &str)]) -> (Option<i32>, Value) {
    let run = doctor(&["--json"], environment);
    let value = serde_json::from_str(&run.out);
    (run.code, value.unwrap_or_else(|error| panic!("{error}: {}\n{}", run.out, run.err)))
}

/// What is said of this backend.
#[track_caller]
fn backend<'a>(diagnosis: &'a Value, name: &str) -> &'a Value {
    let backends = diagnosis["backends"].as_array().expect("a list of backends");
    backends.iter().find(|backend| backend["backend"] == name).expect("every backend is in the list")
}

/// Hides every Vulkan driver there is.
const HIDDEN: [(&str, &str); 2] = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];

fn pipeline(arguments: &[&str]) -> Run {
    let output = Command::new(example("pipeline")).args(arguments).stdin(Stdio::null()).output();
    output.expect("the example starts").into()
}

/// Runs the pipeline on this standard input.
fn pipe(arguments: &[&str], input: impl Into<Vec<u8>>) -> Run {
    let mut command = Command::new(example("pipeline"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("the example starts");
    let (mut stdin, input) = (process.stdin.take().expect("it is piped"), input.into());
    // From a thread: the output may fill its pipe while there is input left.
    let writer = thread::spawn(move || stdin.write_all(&input));
    let run = process.wait_with_output().expect("the example ends").into();
    // An error is the example's good right: it need not read to the end.
    let _ = writer.join().expect("the writer does not panic");
    run
}

#[test]
fn hello_says_six_with_an_empty_environment() {
    // Empty but for what Mesa's Vulkan driver complains about otherwise, on standard error.
    let folder = std::env::temp_dir();
    let output = Command::new(example("hello")).env_clear().env("XDG_RUNTIME_DIR", folder).output();
    let output = output.expect("the example starts");
    let run = Run::from(output);
    assert_eq!((run.out.as_str(), run.err.as_str(), run.code), ("Result: 6\n", "", Some(0)));
}

#[test]
fn hello_is_what_the_readme_shows() {
    let readme = std::fs::read_to_string(repository("README.md")).expect("there is a README");
    let code = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let hello = std::fs::read_to_string(repository("examples/hello.rs")).expect("there is an example");
    let hello = hello.split_once("\n\n").expect("the first paragraph is its description").1;
    assert_eq!(code.expect("the README shows Rust"), hello, "README.md and examples/hello.rs differ");
}

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
            "RINGWORK_ADAPTER is empty, but must be an index, a UUID, or a part of a name",
        ),
        (
            "RINGWORK_ADAPTER",
            " ",
            "RINGWORK_ADAPTER is empty, but must be an index, a UUID, or a part of a name",
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

#[test]
fn pipeline_finds_the_year_the_nile_was_lowest() {
    let run = pipeline(&[&repository("examples/data/nile.txt")]);
    run.assert_balanced(108, 100, 1);
    assert_eq!(run.anomalies(), ["line 51: 456 (z -3.17)"]);
    assert_eq!(run.line("lines"), "108 = 0 blank + 8 comments + 0 bad + 100 parsed");
    assert_eq!(run.line("scored"), "100, of which 90 were compared with 10 or more before them");
    assert!(run.line("series").starts_with("mean 919.35, standard deviation 169.22"), "{}", run.out);
    assert_eq!(run.err, "");
}

#[test]
fn pipeline_takes_its_threshold_and_warm_up_from_the_command_line() {
    let file = repository("examples/data/nile.txt");
    let run = pipeline(&["--threshold", "2", &file]);
    run.assert_balanced(108, 100, 6);
    let expected = [
        "line 26: 799 (z -2.14)",
        "line 37: 774 (z -2.40)",
        "line 40: 694 (z -2.49)",
        "line 43: 701 (z -2.12)",
        "line 45: 692 (z -2.01)",
        "line 51: 456 (z -3.17)",
    ];
    assert_eq!(run.anomalies(), expected);
    assert_eq!(pipeline(&[&file, "--threshold=2", "--warm-up=20"]).anomalies(), expected[1..]);
}

#[test]
fn pipeline_reads_standard_input() {
    let input = std::fs::read(repository("examples/data/nile.txt")).expect("the data are there");
    for arguments in [&[][..], &["-"]] {
        let run = pipe(arguments, input.clone());
        run.assert_balanced(108, 100, 1);
        assert_eq!(run.anomalies(), ["line 51: 456 (z -3.17)"]);
    }
}

#[test]
fn pipeline_reports_bad_lines_and_goes_on() {
    let mut input = b"\xef\xbb\xbf1\r\n2\n\n# a comment\n 3 \nfour\nNaN\n-inf\n1e16\n1e400\n1,5\n".to_vec();
    input.extend(b"\xff\n");
    input.extend(format!("{}\n", "9".repeat(1000)).into_bytes());
    input.extend(b"-4e-3");
    let run = pipe(&["--warm-up", "3"], input);
    run.assert_balanced(14, 4, 0);
    assert_eq!(run.line("lines"), "14 = 1 blank + 1 comments + 8 bad + 4 parsed");
    let expected = [
        "line 6 skipped: \"four\" is not a number".to_owned(),
        "line 7 skipped: \"NaN\" is not a finite number".to_owned(),
        "line 8 skipped: \"-inf\" is not a finite number".to_owned(),
        "line 9 skipped: \"1e16\" is too large for single precision: more than 1e15".to_owned(),
        "line 10 skipped: \"1e400\" is not a finite number".to_owned(),
        "line 11 skipped: \"1,5\" is not a number".to_owned(),
        "line 12 skipped: \"\u{fffd}\" is not a number".to_owned(),
        format!("line 13 skipped: \"{}\" is not a finite number", "9".repeat(40)),
    ];
    assert_eq!(run.err.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn pipeline_of_equal_numbers_finds_any_other_one() {
    let run = pipe(&[], "5\n".repeat(20) + "5.5\n5\n");
    run.assert_balanced(22, 22, 1);
    assert_eq!(run.anomalies(), ["line 21: 5.5 (z +inf)"]);
}

#[test]
fn pipeline_of_nothing_balances() {
    pipe(&[], "").assert_balanced(0, 0, 0);
    pipe(&[], "\n").assert_balanced(1, 0, 0);
    pipe(&[], "# nothing but this").assert_balanced(1, 0, 0);
    pipe(&[], "7").assert_balanced(1, 1, 0);
}

#[test]
fn pipeline_says_what_is_wrong_with_its_input() {
    let run = pipeline(&["no/such/file"]);
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""));
    assert!(run.err.starts_with("pipeline: cannot read no/such/file: "), "{}", run.err);
    assert_eq!(run.err.lines().count(), 1);
    let run = pipeline(&[env!("CARGO_MANIFEST_DIR")]);
    assert_eq!((run.code, run.out.as_str()), (Some(2), ""));
    assert!(run.err.ends_with(": is a directory\n"), "{}", run.err);
}

#[test]
fn pipeline_says_what_is_wrong_with_its_options() {
    for (arguments, sentence) in [
        (&["--treshold", "2"][..], "unknown option --treshold"),
        (&["-x"], "unknown option -x"),
        (&["--threshold"], "--threshold needs a value"),
        (&["--threshold", "high"], "--threshold is `high`, but must be a number that is 0 or more"),
        (&["--threshold=-1"], "--threshold is `-1`, but must be a number that is 0 or more"),
        (&["--threshold=NaN"], "--threshold is `NaN`, but must be a number that is 0 or more"),
        (&["--warm-up=1"], "--warm-up is `1`, but must be a whole number, 2 or more"),
        (&["one", "two"], "more than one file"),
    ] {
        let run = pipeline(arguments);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(run.err.starts_with(&format!("pipeline: {sentence}\n\nusage: pipeline ")), "{}", run.err);
    }
    let run = pipeline(&["--help"]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    assert!(run.out.starts_with("usage: pipeline "), "{}", run.out);
}

#[test]
#[cfg(unix)]
fn pipeline_ends_quietly_when_nobody_reads_its_output() {
    let mut command = Command::new(example("pipeline"));
    command.args(["--threshold", "0"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("the example starts");
    drop(process.stdout.take());
    let mut stdin = process.stdin.take().expect("it is piped");
    // Without end: the example has to notice by itself. Its leaving is what ends this, as an error.
    let mut number = 0u32;
    while writeln!(stdin, "{number}").is_ok() {
        number = number.wrapping_add(1);
    }
    let run = Run::from(process.wait_with_output().expect("the example ends"));
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
}

#[test]
#[cfg(target_os = "linux")]
fn pipeline_says_so_when_its_output_cannot_be_written() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has a full device");
    let mut command = Command::new(example("pipeline"));
    let output = command.arg(repository("examples/data/nile.txt")).stdout(full).output();
    let run = Run::from(output.expect("the example starts"));
    assert_eq!(run.code, Some(1));
    assert!(run.err.starts_with("pipeline: cannot write the output: "), "{}", run.err);
}

#[test]
#[cfg_attr(
    debug_assertions,
    ignore = "a million lines take a minute without optimisation; run with --release"
)]
fn pipeline_scores_a_million_lines() {
    const LINES: u64 = 1_000_000;
    // Twenty and a bit, in no visible order; a hundred on every hundred-thousandth line.
    let value = |line: u64| {
        if line.is_multiple_of(100_000) { 100.0 } else { 20.0 + (line * 7919 % 1000) as f64 / 1000.0 }
    };
    let input: String = (1..=LINES).map(|line| format!("{}\n", value(line))).collect();
    let run = pipe(&[], input);
    run.assert_balanced(LINES, LINES, 10);
    let expected: Vec<String> = (1..=10).map(|nth| format!("line {}: 100 ", nth * 100_000)).collect();
    for (found, start) in run.anomalies().iter().zip(&expected) {
        assert!(found.starts_with(start), "{found}");
    }
    // In double precision, two passes.
    let mean = (1..=LINES).map(value).sum::<f64>() / LINES as f64;
    let squares = (1..=LINES).map(|line| (value(line) - mean).powi(2)).sum::<f64>();
    let deviation = (squares / (LINES - 1) as f64).sqrt();
    let series = run.line("series").strip_prefix("mean ").expect("the mean comes first");
    let (found_mean, found_deviation) =
        series.split_once(", standard deviation ").expect("then the deviation");
    let close =
        |found: &str, exact: f64| (found.parse::<f64>().expect("a number") / exact - 1.0).abs() < 1e-6;
    assert!(
        close(found_mean, mean) && close(found_deviation, deviation),
        "{series}, not {mean} and {deviation}"
    );
    assert_eq!(run.err, "");
}

fn vector_add(arguments: &[&str]) -> Run {
    let output = Command::new(example("vector_add")).args(arguments).env("RINGWORK_BACKEND", "cpu").output();
    output.expect("the example starts").into()
}

#[test]
fn vector_add_checks_every_element_and_tells_how_fast_it_was() {
    // More workgroups than there may be along one axis, and a last one that is not full.
    let run = vector_add(&["17000001", "2"]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    let last = run.out.lines().last().expect("it prints something");
    assert!(last.starts_with("2 rounds by ") && last.contains("all elements checked"), "{last}");
    let speed = last.rsplit(' ').nth(1).and_then(|number| number.parse::<f64>().ok());
    assert!(last.ends_with(" GB/s") && speed.is_some_and(|speed| speed > 0.0), "{last}");
}

#[test]
fn vector_add_says_what_is_wrong_with_its_arguments() {
    for (arguments, text) in [
        (&["0"][..], "ELEMENTS is `0`; it is a number from 1 to 268435456\n"),
        (&["x"], "ELEMENTS is `x`; it is a number from 1 to 268435456\n"),
        (&["5", "-1"], "ROUNDS is `-1`; it is a number from 1 to 1000000\n"),
    ] {
        let run = vector_add(arguments);
        assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(1), "", text));
    }
}

// The example's own tests run here: an example has no test harness of its own.
#[path = "../examples/pagerank/graph.rs"]
#[allow(dead_code, reason = "the example calls what its tests do not")]
mod graph;
#[path = "../examples/pagerank/plot.rs"]
#[allow(dead_code, reason = "the example calls what its tests do not")]
mod plot;
#[path = "../examples/pagerank/read.rs"]
mod read;
#[path = "../examples/pagerank/reference.rs"]
mod reference;

fn pagerank(arguments: &[&str]) -> Run {
    let output = Command::new(example("pagerank")).args(arguments).stdin(Stdio::null()).output();
    output.expect("the example starts").into()
}

/// A file with this text, which goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ringwork-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("temporary files have plain names")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where the test failed before it was written there is none.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn pagerank_ranks_an_edge_list_on_every_backend() {
    let (_, diagnosis) = self::diagnosis(&[]);
    for backend in ["cpu", "wgpu", "cuda"] {
        if self::backend(&diagnosis, backend)["usable"] != true {
            eprintln!(
                "pagerank_ranks_an_edge_list_on_every_backend: skipped {backend}, it cannot be used here"
            );
            continue;
        }
        let run = pagerank(&["--backend", backend, "--top=3", &repository("examples/data/links.txt")]);
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{backend}: {}", run.out);
        let graph = "12 nodes, 23 edges, 1 duplicates and 1 self edges left out, 1 nodes without links; ";
        assert!(run.line("graph").starts_with(graph), "{}", run.out);
        assert!(run.line("rounds").contains(", converged; "), "{}", run.out);
        // By the reference in double precision, which the example compares all ranks with.
        let best: Vec<_> = ["   1. ", "   2. ", "   3. "].map(|place| run.line(place)).into();
        for (found, (id, rank)) in best.iter().zip([("1", 0.2304691), ("10", 0.1914053), ("3", 0.1172831)]) {
            let (found_id, found) = found.split_once(' ').expect("an id and a rank");
            let found: f64 = found.parse().expect("a number");
            assert!(found_id == id && (found - rank).abs() < 1e-6, "{backend}: {best:?}");
        }
        assert!(!run.out.contains("   4. "), "{}", run.out);
        assert!(run.line("checked").starts_with("ranks sum to 1 "), "{}", run.out);
    }
}

#[test]
fn pagerank_ranks_a_generated_graph_and_draws() {
    let plot = Scratch::new("pagerank.svg");
    let arguments = ["--backend=cpu", "--nodes=5000", "--edges=40000", "--seed", "3", "--plot", plot.path()];
    let run = pagerank(&arguments);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{}", run.out);
    assert!(run.line("graph").starts_with("5000 nodes, "), "{}", run.out);
    let svg = std::fs::read_to_string(&plot.0).expect("it was drawn");
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg:.200}");
    for text in ["Change of all ranks by round", "Nodes by rank", "log10 of the rank"] {
        assert!(svg.contains(text), "no `{text}` in the drawing");
    }
    // Two curves, of which the right one has a point for each rank that is not close to the one before.
    assert_eq!(svg.matches("stroke=\"#0000FF\"").count(), 2);
    // The same graph, with a limit on its rounds.
    let short = pagerank(&["--backend=cpu", "--nodes=5000", "--edges=40000", "--seed=3", "--rounds=2"]);
    assert!(short.line("rounds").starts_with("2, not converged; "), "{}", short.out);
    assert_eq!(short.line("round    1"), run.line("round    1"));
}

#[test]
fn pagerank_says_what_is_wrong_with_its_input() {
    let bad = Scratch::new("bad-links.txt");
    std::fs::write(&bad.0, "# from to\n1\t2\n2 three\n3\n").expect("it can be written");
    let run = pagerank(&["--backend=cpu", bad.path()]);
    let text = format!(
        "pagerank: {}: 2 of 4 lines are no edge:\n\
         line 3: \"2 three\": a node id is a whole number below 2^64, and not `three`\n\
         line 4: \"3\": an edge is two node ids, and here is 1\n",
        bad.path()
    );
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(1), "", text.as_str()));
    std::fs::write(&bad.0, "# nothing\n").expect("it can be written");
    let run = pagerank(&[bad.path()]);
    assert_eq!(run.err, format!("pagerank: {}: there is no edge in its 1 lines\n", bad.path()));

    let run = pagerank(&["/nonexistent/links.txt"]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    assert!(run.err.starts_with("pagerank: cannot read /nonexistent/links.txt: "), "{}", run.err);
    let run = pagerank(&["--backend=cpu", "--nodes=10", "--plot=/nonexistent/plot.svg"]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.starts_with("pagerank: cannot draw /nonexistent/plot.svg: "), "{}", run.err);
}

#[test]
fn pagerank_says_what_is_wrong_with_its_arguments() {
    for (arguments, wrong) in [
        (&[][..], "neither a file nor --nodes"),
        (&["a", "b"], "more than one file"),
        (&["a", "--nodes=5"], "a file and --nodes: the graph is either read or made"),
        (&["a", "--seed=5"], "--edges and --seed go with --nodes, not with a file"),
        (&["--colour", "a"], "unknown option --colour"),
        (&["a", "--rounds"], "--rounds needs a value"),
        (&["a", "--rounds=0"], "--rounds is `0`, but must be a whole number above 0"),
        (&["a", "--damping=1.5"], "--damping is `1.5`, but must be a number from 0 to 1"),
        (&["a", "--damping=NaN"], "--damping is `NaN`, but must be a number from 0 to 1"),
        (&["a", "--tolerance", "0"], "--tolerance is `0`, but must be a number above 0"),
        (&["--nodes=1"], "--nodes is `1`, but must be a whole number from 2 to 2^31 - 1"),
        (&["a", "--backend=vulkan"], "backend `vulkan` is not one of auto, cpu, wgpu, cuda"),
    ] {
        let run = pagerank(arguments);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{arguments:?}: {}", run.err);
        let text = format!("pagerank: {wrong}\n\nusage: pagerank ");
        assert!(run.err.starts_with(&text), "{arguments:?}: {}", run.err);
    }
    let help = pagerank(&["--help"]);
    assert!(help.code == Some(0) && help.out.starts_with("usage: pagerank "), "{}", help.out);
}
