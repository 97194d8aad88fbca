//! The examples as their users meet them: processes with arguments, standard streams and an exit code.

mod doctor;
mod pagerank;
mod pipeline;

use std::path::PathBuf;
use std::process::{Command, Output};

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
