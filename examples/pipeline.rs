//! Finds the numbers of a series that lie far from those before them.
//!
//! ```text
//! lines ──► parse ──numbers──► score ──anomalies──► report ──► standard output
//!         host kernel      WGSL, with state   │   host kernel
//!                                             └──totals──► main
//! ```
//!
//! `parse` and `report` are Rust functions on threads of their own, since reading text and printing may block.
//! `score` runs on the device: it keeps the running mean and variance as its state, compares every number with
//! those before it, and lets only the anomalies out. Every queue is bounded, so a slow reader of the output slows
//! the reading of the input, and memory stays the same however long the series is.
//!
//! Try it:
//!
//! ```text
//! cargo run --release --example pipeline -- examples/data/nile.txt
//! seq 100000 | cargo run --release --example pipeline -- --threshold 2
//! ```
//!
//! Numbers are single precision on the device: magnitudes up to 10^15, about seven digits. Blank lines and lines
//! that begin with `#` are skipped; what is no number is reported on standard error and skipped.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringwork::{Context, Handle, Message, RingKernel, Runtime, Telemetry, Vec2, message};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A line of the input; to a host kernel any serde type can be sent.
#[derive(Serialize, Deserialize)]
struct Line {
    number: u32,
    text: Vec<u8>,
}

message! {
    /// A number and the line it stands on; line 0 marks the end of the series.
    struct Number { line: u32, value: f32 }

    /// The state of `score`. A sum is kept as two numbers: the sum, and what its last addition rounded away.
    struct Running { mean: Vec2, squares: Vec2, count: u32, warm_up: u32, threshold: f32, _pad: u32 }

    /// A number more than `threshold` standard deviations from the mean of those before it.
    struct Anomaly { line: u32, value: f32, z: f32 }

    /// What `score` knows at the end.
    struct Totals { count: u32, mean: f32, deviation: f32 }
}

/// Welford's algorithm for mean and variance, with Kahan's compensated sums: with plain single-precision sums the
/// millionth number would hardly count.
const SCORE: &str = r#"
    fn add(sum: vec2f, value: f32) -> vec2f {
        let term = value - sum.y;
        let total = sum.x + term;
        return vec2f(total, (total - sum.x) - term);
    }

    fn deviation(s: ptr<function, Running>) -> f32 {
        if (*s).count < 2u { return 0.0; }
        return sqrt(max((*s).squares.x, 0.0) / f32((*s).count - 1u));
    }

    fn on_message(m: Number, s: ptr<function, Running>) {
        if m.line == 0u {
            emit_totals(Totals((*s).count, (*s).mean.x, deviation(s)));
            return;
        }
        let difference = m.value - (*s).mean.x;
        if (*s).count >= (*s).warm_up {
            // Among equal numbers any other one is infinitely far away; 1e30 stands for that.
            let unit = deviation(s);
            var z = sign(difference) * 1.0e30;
            if unit > 0.0 { z = difference / unit; }
            if abs(z) > (*s).threshold { emit_anomalies(Anomaly(m.line, m.value, z)); }
        }
        (*s).count += 1u;
        (*s).mean = add((*s).mean, difference / f32((*s).count));
        (*s).squares = add((*s).squares, difference * (m.value - (*s).mean.x));
    }"#;

const USAGE: &str = "\
usage: pipeline [--threshold Z] [--warm-up N] [FILE]

Reads numbers, one a line, from FILE or standard input, and prints those that are more than Z standard
deviations (3 unless given) from the mean of all numbers before them, once there are N of those (10 unless given).
";

/// Lines handed to `parse` at a time.
const BATCH: usize = 1024;
/// The largest magnitude whose squares can be summed in single precision.
const LARGEST: f64 = 1e15;
/// How long the pipeline may take to run empty: whoever reads its output may be a person with a pager.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            // Nobody there to read it: then nobody misses it.
            let _ = io::stdout().write_all(USAGE.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprint!("pipeline: {wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let (input, bytes) = match arguments.open() {
        Ok(opened) => opened,
        Err(wrong) => {
            eprintln!("pipeline: {wrong}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments, input, bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pipeline: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line says.
struct Arguments {
    threshold: f32,
    warm_up: u32,
    /// Standard input if there is none.
    file: Option<PathBuf>,
}

impl Arguments {
    /// `None` asks for help.
    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, String> {
        let mut parsed = Self { threshold: 3.0, warm_up: 10, file: None };
        let mut arguments = arguments.peekable();
        let (mut files, mut only_files) = (Vec::new(), false);
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy().into_owned();
            if only_files || text == "-" || !text.starts_with('-') {
                files.push(argument);
                continue;
            }
            let (option, given) = match text.split_once('=') {
                Some((option, value)) => (option, Some(value.to_owned())),
                None => (text.as_str(), None),
            };
            let mut value = || {
                let next = || arguments.next().map(|value| value.to_string_lossy().into_owned());
                given.clone().or_else(next).ok_or_else(|| format!("{option} needs a value"))
            };
            match option {
                "--" => only_files = true,
                "-h" | "--help" => return Ok(None),
                "--threshold" => {
                    let value = value()?;
                    let number = value.parse().ok().filter(|z: &f32| z.is_finite() && *z >= 0.0);
                    parsed.threshold = number.ok_or_else(|| {
                        format!("--threshold is `{value}`, but must be a number that is 0 or more")
                    })?;
                }
                "--warm-up" => {
                    let value = value()?;
                    let number = value.parse().ok().filter(|count| *count >= 2);
                    parsed.warm_up = number.ok_or_else(|| {
                        format!("--warm-up is `{value}`, but must be a whole number, 2 or more")
                    })?;
                }
                _ => return Err(format!("unknown option {text}")),
            }
        }
        if files.len() > 1 {
            return Err("more than one file".to_owned());
        }
        parsed.file = files.pop().filter(|file| file != "-").map(PathBuf::from);
        Ok(Some(parsed))
    }

    /// The input, and its size if it has one.
    fn open(&self) -> Result<(Box<dyn BufRead>, Option<u64>), String> {
        let Some(path) = &self.file else { return Ok((Box::new(io::stdin().lock()), None)) };
        let wrong = |error: io::Error| format!("cannot read {}: {error}", path.display());
        let file = File::open(path).map_err(wrong)?;
        let facts = file.metadata().map_err(wrong)?;
        if facts.is_dir() {
            return Err(wrong(io::ErrorKind::IsADirectory.into()));
        }
        let bytes = facts.is_file().then_some(facts.len());
        Ok((Box::new(BufReader::new(file)), bytes))
    }
}

/// What the host kernels share with `main`.
struct Shared {
    blank: AtomicU64,
    comments: AtomicU64,
    bad: AtomicU64,
    parsed: AtomicU64,
    printed: AtomicU64,
    /// Why nothing can be printed any more.
    output_gone: OnceLock<io::Error>,
    /// Draws nothing until the work has taken a while, and only ever on a terminal.
    bar: ProgressBar,
}

impl Shared {
    fn new(bytes: Option<u64>) -> Arc<Self> {
        let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::hidden());
        let template = match bytes {
            Some(_) => "{wide_bar} {binary_bytes} of {binary_total_bytes}, {eta} left",
            None => "{spinner} {binary_bytes} read, {binary_bytes_per_sec}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
        Arc::new(Self {
            blank: AtomicU64::new(0),
            comments: AtomicU64::new(0),
            bad: AtomicU64::new(0),
            parsed: AtomicU64::new(0),
            printed: AtomicU64::new(0),
            output_gone: OnceLock::new(),
            bar,
        })
    }

    /// Writes to standard output, until that fails for the first time.
    fn print(&self, text: std::fmt::Arguments<'_>) {
        if self.output_gone.get().is_none()
            && let Err(error) = self.bar.suspend(|| io::stdout().write_fmt(text))
        {
            // Whichever came first is the one to tell.
            let _ = self.output_gone.set(error);
        }
    }

    /// Is there still somebody to print for?
    ///
    /// A reader that has left, as `head` does, is no failure; a full disk is.
    fn output(&self) -> io::Result<bool> {
        match self.output_gone.get() {
            None => Ok(true),
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Some(error) => Err(io::Error::new(error.kind(), format!("cannot write the output: {error}"))),
        }
    }
}

fn count(counter: &AtomicU64) {
    // Relaxed: `main` reads the counters when the kernel that writes them has ended.
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The number on a line, `None` if there is nothing on it, or what is wrong with it.
fn number(text: &str) -> Option<Result<f32, &'static str>> {
    if text.is_empty() {
        return None;
    }
    Some(match text.parse::<f64>() {
        Err(_) => Err("not a number"),
        Ok(value) if !value.is_finite() => Err("not a finite number"),
        Ok(value) if value.abs() > LARGEST => Err("too large for single precision: more than 1e15"),
        Ok(value) => Ok(value as f32),
    })
}

/// The kernel `parse`: lines to numbers.
fn parse(context: &mut Context<Line, ()>, shared: &Shared) {
    while let Some(message) = context.receive() {
        let Line { number: line, text } = message.payload;
        let text = String::from_utf8_lossy(&text);
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.starts_with('#') {
            count(&shared.comments);
            continue;
        }
        match number(text) {
            None => count(&shared.blank),
            Some(Ok(value)) => {
                count(&shared.parsed);
                if context.send("numbers", Number { line, value }).is_err() {
                    return;
                }
            }
            Some(Err(wrong)) => {
                count(&shared.bad);
                let start: String = text.chars().take(40).collect();
                shared.bar.suspend(|| eprintln!("line {line} skipped: {start:?} is {wrong}"));
            }
        }
    }
    // An error here means that the pipeline is being given up, and nobody waits for the totals.
    let _ = context.send("numbers", Number::default());
}

/// The kernel `report`: prints the anomalies.
fn report(context: &mut Context<Anomaly, ()>, shared: &Shared) {
    while let Some(message) = context.receive() {
        let Anomaly { line, value, z } = message.payload;
        let z = if z.abs() < 1e30 { format!("{z:+.2}") } else { format!("{:+}", f32::INFINITY * z) };
        shared.print(format_args!("line {line}: {value} (z {z})\n"));
        count(&shared.printed);
    }
}

fn run(arguments: &Arguments, input: Box<dyn BufRead>, bytes: Option<u64>) -> Result<(), Failure> {
    let begun = Instant::now();
    let shared = Shared::new(bytes);
    let runtime = Runtime::new()?;

    let (for_parse, for_report) = (shared.clone(), shared.clone());
    let parse = runtime.launch(
        RingKernel::host("parse", move |context: &mut Context<Line, ()>| parse(context, &for_parse))
            .output::<Number>("numbers"),
    )?;
    let state = Running { warm_up: arguments.warm_up, threshold: arguments.threshold, ..Running::default() };
    let score = runtime.launch(
        RingKernel::<Number, ()>::wgsl("score", SCORE)
            .initial_state(state)
            .output::<Anomaly>("anomalies")
            .output::<Totals>("totals"),
    )?;
    let report = runtime.launch(RingKernel::host("report", move |context: &mut Context<Anomaly, ()>| {
        report(context, &for_report);
    }))?;
    runtime.link(&parse.output::<Number>("numbers")?, &score)?;
    runtime.link(&score.output::<Anomaly>("anomalies")?, &report)?;
    report.activate()?;
    score.activate()?;
    parse.activate()?;

    let lines = feed(input, &parse, &shared)?;

    // From the front to the back: each kernel ends when it has handled all that those before it sent.
    let books_of_parse = finish(&parse)?;
    let totals = score.output::<Totals>("totals")?.recv_timeout(PATIENCE)?;
    let books_of_score = finish(&score)?;
    let books_of_report = finish(&report)?;
    runtime.shutdown(PATIENCE)?;
    shared.bar.finish_and_clear();

    let books = [("parse", books_of_parse), ("score", books_of_score), ("report", books_of_report)];
    summary(&shared, lines, arguments.warm_up, &totals, &books, begun.elapsed());
    shared.output()?;
    Ok(())
}

/// Sends the input's lines to `parse`; returns how many there were.
fn feed(mut input: Box<dyn BufRead>, parse: &Handle<Line, ()>, shared: &Shared) -> Result<u32, Failure> {
    let begun = Instant::now();
    let mut lines = 0u32;
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        let mut bytes = 0;
        while batch.len() < BATCH {
            let mut text = Vec::new();
            bytes +=
                input.read_until(b'\n', &mut text).map_err(|error| format!("cannot read on: {error}"))?;
            if text.is_empty() {
                break;
            }
            lines = lines.checked_add(1).ok_or("more than 4,294,967,295 lines")?;
            batch.push(Line { number: lines, text });
        }
        let last = batch.len() < BATCH;
        parse.send_many(batch).map_err(ringwork::Error::from)?;
        shared.bar.inc(bytes as u64);
        if shared.bar.is_hidden()
            && begun.elapsed() > Duration::from_millis(500)
            && io::stderr().is_terminal()
        {
            shared.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if last || !shared.output()? {
            return Ok(lines);
        }
    }
}

/// Ends a kernel once it has handled everything; returns its books.
fn finish<In: Message, Out: Message>(kernel: &Handle<In, Out>) -> Result<Telemetry, Failure> {
    let end = kernel.terminate(PATIENCE)?;
    let books = kernel.telemetry();
    if end.is_clean() && books.dead_letters.total() == 0 {
        return Ok(books);
    }
    let (returned, dead) = (books.returned, books.dead_letters.total());
    Err(format!("kernel `{}` left {returned} messages unhandled and lost {dead}", kernel.name()).into())
}

/// Prints what went in, what came out, and the books of each kernel.
fn summary(
    shared: &Shared,
    lines: u32,
    warm_up: u32,
    totals: &Totals,
    books: &[(&str, Telemetry); 3],
    took: Duration,
) {
    let [blank, comments, bad, parsed, printed] =
        [&shared.blank, &shared.comments, &shared.bad, &shared.parsed, &shared.printed]
            .map(|counter| counter.load(Ordering::Relaxed));
    let Totals { count, mean, deviation } = *totals;
    let compared = count.saturating_sub(warm_up);
    // What `score` sent, less the totals.
    let sent = books[1].1.emitted.saturating_sub(1);
    let seconds = took.as_secs_f64();
    shared.print(format_args!(
        "\n\
         lines      {lines} = {blank} blank + {comments} comments + {bad} bad + {parsed} parsed\n\
         scored     {count}, of which {compared} were compared with {warm_up} or more before them\n\
         anomalies  {sent} = {printed} at the sink\n\
         series     mean {mean}, standard deviation {deviation}\n\
         time       {seconds:.3} s, {:.0} lines a second\n\n\
         {:<8}{:>10} ={:>10} +{:>9} +{:>5} +{:>8}{:>10}{:>10}{:>10}{:>12}{:>10}\n",
        f64::from(lines) / seconds,
        "kernel",
        "accepted",
        "handled",
        "returned",
        "dead",
        "pending",
        "emitted",
        "p50",
        "p99",
        "max",
        "a second",
    ));
    for (name, books) in books {
        let latency = |value: Duration| match books.latency.samples {
            0 => "-".to_owned(),
            _ => format!("{value:.1?}"),
        };
        shared.print(format_args!(
            "{name:<8}{:>10} ={:>10} +{:>9} +{:>5} +{:>8}{:>10}{:>10}{:>10}{:>12}{:>10.0}\n",
            books.accepted,
            books.handled,
            books.returned,
            books.dead_letters.total(),
            books.pending,
            books.emitted,
            latency(books.latency.p50),
            latency(books.latency.p99),
            latency(books.latency.max),
            books.throughput,
        ));
    }
    shared.print(format_args!(
        "\n`score` accepts one message more than there are numbers, the end mark, and answers it with the totals.\n"
    ));
}
