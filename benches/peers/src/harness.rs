//! Cases, interleaved rounds, and samples that are thrown away because somebody else was using the machine.

use crate::machine::{Load, cross_core_ns};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// More processors than this kept busy by others spoil a sample.
const FOREIGN: f64 = 0.2;
/// How often a spoilt sample is taken again.
const RETRIES: usize = 3;

/// How much work goes into a sample.
#[derive(Clone, Copy)]
pub struct Scale {
    pub quick: bool,
}

impl Scale {
    /// How long a sample that can choose takes.
    pub fn seconds(self) -> f64 {
        if self.quick { 0.05 } else { 0.2 }
    }

    /// `full`, or a fifth of it in a quick run.
    pub fn count(self, full: u64) -> u64 {
        if self.quick { full / 5 } else { full }
    }
}

#[derive(Clone, Copy)]
pub enum Unit {
    Nanoseconds,
    Milliseconds,
    PerSecond,
    #[cfg_attr(not(feature = "ringwork"), allow(dead_code))]
    Bytes,
    #[cfg_attr(not(feature = "ringwork"), allow(dead_code))]
    Count,
}

impl Unit {
    pub fn show(self, value: f64) -> String {
        let digits = |value: f64| match value.abs() {
            x if x >= 100.0 => format!("{value:.0}"),
            x if x >= 10.0 => format!("{value:.1}"),
            _ => format!("{value:.2}"),
        };
        let scaled = |steps: &[(f64, &str)]| {
            let (size, name) = steps.iter().find(|step| value.abs() >= step.0).unwrap_or(&steps[steps.len() - 1]);
            format!("{} {name}", digits(value / size))
        };
        match self {
            Unit::Nanoseconds => scaled(&[(1e6, "ms"), (1e3, "µs"), (1.0, "ns")]),
            Unit::Milliseconds => scaled(&[(1.0, "ms"), (1e-3, "µs")]),
            Unit::PerSecond => scaled(&[(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")]),
            Unit::Bytes => scaled(&[(1e6, "MB"), (1e3, "kB"), (1.0, "B")]),
            Unit::Count => digits(value),
        }
    }
}

/// Cases that answer the same question and so can be compared.
pub struct Group {
    pub name: &'static str,
    pub title: &'static str,
    pub metrics: &'static [(&'static str, Unit)],
    cases: Vec<Case>,
}

struct Case {
    name: &'static str,
    what: String,
    run: Box<dyn FnMut(Scale) -> Vec<f64>>,
    samples: Vec<Sample>,
}

struct Sample {
    values: Vec<f64>,
    /// Processors kept busy by others meanwhile.
    foreign: f64,
    /// The smaller of the round trips between the two processors before and after, in ns.
    crossing: f64,
}

/// What one case came to.
pub struct Summary {
    /// Of each metric, over the samples that count.
    pub medians: Vec<f64>,
    /// Smallest and largest of the first metric.
    pub range: (f64, f64),
    pub clean: usize,
    pub taken: usize,
    /// Too few samples were clean, so all of them count.
    pub disturbed: bool,
}

/// All groups of a run.
pub struct Board {
    groups: Vec<Group>,
    /// Round trips between the two processors, all of this run.
    crossings: Vec<f64>,
    /// How long the run may still wait for a quiet machine.
    patience: Duration,
}

impl Board {
    pub fn new(scale: Scale) -> Self {
        let crossings = (0..20).map(|_| cross_core_ns()).collect();
        Self { groups: vec![], crossings, patience: Duration::from_secs(if scale.quick { 10 } else { 180 }) }
    }

    pub fn group(
        &mut self,
        name: &'static str,
        title: &'static str,
        metrics: &'static [(&'static str, Unit)],
    ) -> &mut Self {
        self.groups.push(Group { name, title, metrics, cases: vec![] });
        self
    }

    /// Adds a case to a group; `what` says what the name leaves open.
    pub fn add(
        &mut self,
        group: &str,
        name: &'static str,
        what: impl Into<String>,
        run: impl FnMut(Scale) -> Vec<f64> + 'static,
    ) {
        let group = self.groups.iter_mut().find(|g| g.name == group).expect("a declared group");
        group.cases.push(Case { name, what: what.into(), run: Box::new(run), samples: vec![] });
    }

    /// Keeps the cases whose `group/name` contains one of the words.
    pub fn keep(&mut self, words: &[String]) {
        for group in &mut self.groups {
            let prefix = group.name;
            group.cases.retain(|case| {
                let path = format!("{prefix}/{}", case.name);
                words.iter().any(|word| path.contains(word.as_str()))
            });
        }
        self.groups.retain(|group| !group.cases.is_empty());
    }

    /// Rounds over all cases, each begun at another one, so that no case always follows the same neighbour.
    pub fn run(&mut self, rounds: usize, scale: Scale) {
        let all: Vec<(usize, usize)> = (0..self.groups.len())
            .flat_map(|g| (0..self.groups[g].cases.len()).map(move |c| (g, c)))
            .collect();
        for round in 0..rounds {
            for i in 0..all.len() {
                let (group, case) = all[(i + round * all.len() / rounds) % all.len()];
                eprint!(
                    "\rround {}/{rounds}  {}/{}\x1b[K",
                    round + 1,
                    self.groups[group].name,
                    self.groups[group].cases[case].name
                );
                self.sample(group, case, scale);
            }
        }
        eprint!("\r\x1b[K");
    }

    fn sample(&mut self, group: usize, case: usize, scale: Scale) {
        for _ in 0..=RETRIES {
            let quiet = self.settle();
            let before = cross_core_ns();
            let load = Load::start();
            let values = (self.groups[group].cases[case].run)(scale);
            let foreign = load.foreign();
            let after = cross_core_ns();
            self.crossings.extend([before, after]);
            let sample = Sample { values, foreign, crossing: before.min(after) };
            let clean = self.is_clean(&sample);
            self.groups[group].cases[case].samples.push(sample);
            if clean || !quiet {
                return; // on a machine that does not settle, another try is only another disturbed sample
            }
        }
    }

    /// Waits for a quiet machine while patience lasts.
    fn settle(&mut self) -> bool {
        loop {
            let start = Instant::now();
            let load = Load::start();
            std::thread::sleep(Duration::from_millis(40));
            if load.foreign() < FOREIGN && !self.is_one_core(cross_core_ns()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(60));
            self.patience = self.patience.saturating_sub(start.elapsed());
            if self.patience.is_zero() {
                return false;
            }
        }
    }

    /// Whether such a round trip means that both processors run on one physical core: it takes less than half of
    /// what is usual between two.
    fn is_one_core(&self, crossing: f64) -> bool {
        crossing < 0.5 * self.usual_crossing()
    }

    /// The 90th percentile, so that it holds even if most of a run is spent on one core.
    pub fn usual_crossing(&self) -> f64 {
        let mut all = self.crossings.clone();
        all.sort_by(f64::total_cmp);
        all[all.len() * 9 / 10]
    }

    fn is_clean(&self, sample: &Sample) -> bool {
        sample.foreign < FOREIGN && !self.is_one_core(sample.crossing)
    }

    fn summary(&self, case: &Case) -> Option<Summary> {
        let taken = case.samples.len();
        let mut counted: Vec<&Sample> = case.samples.iter().filter(|sample| self.is_clean(sample)).collect();
        let clean = counted.len();
        let disturbed = clean < taken.min(3);
        if disturbed {
            counted = case.samples.iter().collect();
        }
        let metrics = counted.first()?.values.len();
        let sorted = |metric: usize| {
            let mut values: Vec<f64> = counted.iter().map(|sample| sample.values[metric]).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let first = sorted(0);
        Some(Summary {
            medians: (0..metrics).map(|metric| sorted(metric)[counted.len() / 2]).collect(),
            range: (first[0], first[first.len() - 1]),
            clean,
            taken,
            disturbed,
        })
    }

    /// The median of a group's metric for each case that ran: names and values.
    pub fn medians(&self, group: &str, metric: usize) -> Vec<(&'static str, f64)> {
        let group = self.groups.iter().find(|g| g.name == group);
        let cases = group.map_or(&[][..], |group| &group.cases);
        cases.iter().filter_map(|case| Some((case.name, self.summary(case)?.medians[metric]))).collect()
    }

    /// The median of one case's metric, if it ran.
    pub fn median(&self, group: &str, case: &str, metric: usize) -> Option<f64> {
        self.medians(group, metric).into_iter().find(|(name, _)| *name == case).map(|(_, value)| value)
    }

    /// Every group as a Markdown table.
    pub fn tables(&self) -> String {
        self.groups.iter().map(|group| self.table(group)).collect()
    }

    fn table(&self, group: &Group) -> String {
        let mut text = format!("\n### {} (`{}`)\n\n| case |", group.title, group.name);
        for (metric, _) in group.metrics {
            write!(text, " {metric} |").expect("strings take everything");
        }
        text += &format!(" range of {} | clean / taken | what |\n|---|", group.metrics[0].0);
        text += &"---:|".repeat(group.metrics.len() + 2);
        text += "---|\n";
        for case in &group.cases {
            let Some(summary) = self.summary(case) else { continue };
            text += &format!("| {} |", case.name);
            for (value, (_, unit)) in summary.medians.iter().zip(group.metrics) {
                text += &format!(" {} |", unit.show(*value));
            }
            let unit = group.metrics[0].1;
            text += &format!(
                " {} … {} | {} / {}{} | {} |\n",
                unit.show(summary.range.0),
                unit.show(summary.range.1),
                summary.clean,
                summary.taken,
                if summary.disturbed { " †" } else { "" },
                case.what
            );
        }
        text
    }
}
