//! `pipeline`: files and standard input, good lines and bad ones.

use super::{Run, example, repository};
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

impl Run {
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
