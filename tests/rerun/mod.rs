//! Running the suite's program once more, on another backend. Shared by `tests/wgpu.rs` and `tests/cuda.rs`.

use ringwork::{BackendKind, Runtime};
use std::any::TypeId;
use std::env::consts::EXE_EXTENSION;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

/// Runs the suite with this program's arguments, in an environment that `prepare` changes. If that says why the backend is
/// not there, the suite's tests are shown as ignored.
pub fn run(prepare: impl FnOnce(&mut Command) -> Result<(), String>) -> ExitCode {
    if let Err(missing) = check_required() {
        eprintln!("RINGWORK_REQUIRE: {missing}");
        return ExitCode::FAILURE;
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let suite = match suite() {
        Ok(suite) => suite,
        Err(text) => {
            eprintln!("{text}; run `cargo test --test suite --no-run` first, with the same options");
            return ExitCode::FAILURE;
        }
    };
    let mut run = Command::new(suite);
    run.args(&arguments);
    let only_lists = arguments.iter().any(|argument| argument == "--list");
    match prepare(&mut run) {
        Err(reason) if !only_lists => show_ignored(run.arg("--list"), &reason),
        _ => match run.status() {
            Ok(status) if status.success() => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("the suite does not start: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Can kernels run there? What is in the way otherwise.
pub fn there(kind: BackendKind) -> Result<(), String> {
    let runtime = Runtime::builder().backend(kind).build();
    runtime.and_then(|runtime| runtime.capabilities()).map(drop).map_err(|error| error.to_string())
}

fn check_required() -> Result<(), String> {
    let required = std::env::var("RINGWORK_REQUIRE").unwrap_or_default();
    for name in required.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name.parse() {
            Ok(BackendKind::Auto) => return Err("`auto` is no backend".to_owned()),
            Ok(kind) => there(kind)?,
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// Shows the tests that `list` lists, as the harness of Rust would.
fn show_ignored(list: &mut Command, reason: &str) -> ExitCode {
    let output = list.output().expect("it has run before");
    let text = String::from_utf8_lossy(&output.stdout);
    let tests: Vec<_> = text.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    println!("\nrunning {} tests", tests.len());
    tests.iter().for_each(|test| println!("test {test} ... ignored, {reason}"));
    println!("\ntest result: ok. 0 passed; 0 failed; {} ignored; 0 measured; 0 filtered out\n", tests.len());
    if output.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The suite's program that has the same build of the library as this one, and is not older than its sources.
fn suite() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = own.parent().expect("a program is in a folder");
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let files = folder.read_dir().map_err(|error| error.to_string())?;
    let is_suite = |path: &PathBuf| {
        path.extension().unwrap_or_default() == EXE_EXTENSION
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("suite-"))
    };
    let mut found: Vec<_> = files.flatten().map(|file| file.path()).filter(is_suite).collect();
    found.sort_by_key(|path| std::cmp::Reverse(changed(path)));
    // A type's id is another one in every build of its crate with other features or another profile.
    let build = format!("build {:?}", TypeId::of::<Runtime>());
    let has_build = |path: &PathBuf| {
        let told = Command::new(path).args(["--exact", "tells_its_build", "--nocapture"]).output();
        told.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains(&build))
    };
    let suite = found.into_iter().find(has_build).ok_or("the suite's program is not there")?;
    let sources = ["Cargo.toml", "src", "shaders", "tests/suite", "tests/realistic"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if sources.iter().filter_map(|source| newest(&root.join(source))).max() > changed(&suite) {
        return Err("the suite's program is older than its sources".to_owned());
    }
    Ok(suite)
}

/// When a file, or the file in a folder that was changed last, was changed; `None` where the sources are not.
fn newest(path: &Path) -> Option<SystemTime> {
    if path.is_dir() {
        path.read_dir().ok()?.flatten().filter_map(|file| newest(&file.path())).max()
    } else {
        path.metadata().ok()?.modified().ok()
    }
}
