//! What is said in the end: figures of a GPU, or, on the emulation, that everything ran.

use std::fmt::Write;
use std::time::Duration;

pub struct Report {
    pub is_emulated: bool,
    text: String,
    pub missed: usize,
    /// Parts that came to no good end.
    pub failures: usize,
}

impl Report {
    pub fn new(is_emulated: bool) -> Self {
        Self { is_emulated, text: String::new(), missed: 0, failures: 0 }
    }

    pub fn line(&mut self, line: impl AsRef<str>) {
        println!("{}", line.as_ref());
        _ = writeln!(self.text, "{}", line.as_ref());
    }

    pub fn heading(&mut self, title: &str, columns: &[&str]) {
        self.line(format!("\n## {title}\n"));
        if !self.is_emulated && !columns.is_empty() {
            self.line(format!("| {} |", columns.join(" | ")));
            self.line(format!("|{}", "---|".repeat(columns.len())));
        }
    }

    /// Percentiles of one job's time; gives the median and the 99th in microseconds.
    pub fn times(&mut self, name: &str, samples: &mut [Duration]) -> (f64, f64) {
        samples.sort();
        let at = |part: f64| {
            let index = ((samples.len() as f64 * part) as usize).min(samples.len() - 1);
            samples[index].as_secs_f64() * 1e6
        };
        let (p50, p90, p99, p999) = (at(0.5), at(0.9), at(0.99), at(0.999));
        let count = samples.len();
        if self.is_emulated {
            self.line(format!("* {name}: {count} jobs, each answer right"));
        } else {
            let most = at(1.0);
            self.line(format!(
                "| {name} | {p50:.2} | {p90:.2} | {p99:.2} | {p999:.2} | {most:.1} | {count} |"
            ));
        }
        (p50, p99)
    }

    /// Messages a second, of several rounds.
    pub fn rate(&mut self, name: &str, messages: usize, rounds: &mut [Duration]) {
        rounds.sort();
        let rate = |time: Duration| messages as f64 / time.as_secs_f64() / 1e6;
        if self.is_emulated {
            self.line(format!("* {name}: {} rounds of {messages} messages, each answer right", rounds.len()));
        } else {
            let (best, median, worst) = (rounds[0], rounds[rounds.len() / 2], rounds[rounds.len() - 1]);
            self.line(format!(
                "| {name} | {:.2} | {:.2} | {:.2} | {} × {messages} |",
                rate(median),
                rate(worst),
                rate(best),
                rounds.len()
            ));
        }
    }

    /// A goal, which only a GPU can meet or miss.
    pub fn goal(&mut self, goal: &str, found: f64, is_met: bool) {
        if self.is_emulated {
            return self.line(format!("* goal, not judged on the emulation: {goal}"));
        }
        self.missed += usize::from(!is_met);
        let judged = if is_met { "met" } else { "MISSED" };
        self.line(format!("* **{judged}**: {goal} (found {found:.2})"));
    }

    /// How a part ended, if not well.
    pub fn failed(&mut self, part: &str, done: Result<(), String>) {
        if let Err(error) = done {
            self.failures += 1;
            self.line(format!("\n**FAILED**: {part}: {error}"));
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}
