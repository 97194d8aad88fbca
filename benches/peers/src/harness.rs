//! Cases, interleaved rounds, and samples that are taken again because somebody else was using the machine.

use crate::machine::Load;
use crate::placement::{Placement, Probe, probe};
use std::time::{Duration, Instant};

/// More processors than this kept busy by others spoil a sample.
pub const FOREIGN: f64 = 0.2;
/// How often a spoilt sample is taken again.
const RETRIES: usize = 3;
/// Rounds in which cases that do not depend on the machine's mood take part.
const STEADY_ROUNDS: usize = 3;

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
            let (size, name) =
                steps.iter().find(|step| value.abs() >= step.0).unwrap_or(&steps[steps.len() - 1]);
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
    /// Counts bytes or calls, not time: every sample is as good as another, and a few are enough.
    pub steady: bool,
    pub cases: Vec<Case>,
}

pub struct Case {
    pub name: &'static str,
    /// What the name leaves open.
    pub what: &'static str,
    run: Box<dyn FnMut(Scale) -> Vec<f64>>,
    pub samples: Vec<Sample>,
}

pub struct Sample {
    pub values: Vec<f64>,
    /// Processors kept busy by others meanwhile.
    pub foreign: f64,
    /// Where the two processors were before and after; `None` if they moved.
    pub placement: Option<Placement>,
}

impl Sample {
    /// Nobody else was there and nothing moved.
    pub fn is_quiet(&self) -> bool {
        self.foreign < FOREIGN && self.placement.is_some()
    }
}

/// All groups of a run.
pub struct Board {
    pub groups: Vec<Group>,
    /// Every look at the placement.
    pub probes: Vec<Probe>,
    /// How long the run may still wait for a quiet machine.
    patience: Duration,
}

impl Board {
    pub fn new(scale: Scale) -> Self {
        Self {
            groups: vec![],
            probes: vec![],
            patience: Duration::from_secs(if scale.quick { 10 } else { 180 }),
        }
    }

    pub fn group(
        &mut self,
        name: &'static str,
        title: &'static str,
        metrics: &'static [(&'static str, Unit)],
    ) -> &mut Self {
        self.groups.push(Group { name, title, metrics, steady: false, cases: vec![] });
        self
    }

    /// A group of cases that count bytes or calls, not time.
    #[cfg_attr(not(feature = "ringwork"), allow(dead_code))]
    pub fn steady_group(
        &mut self,
        name: &'static str,
        title: &'static str,
        metrics: &'static [(&'static str, Unit)],
    ) -> &mut Self {
        self.groups.push(Group { name, title, metrics, steady: true, cases: vec![] });
        self
    }

    /// Adds a case to a group; `what` says what the name leaves open.
    pub fn add(
        &mut self,
        group: &str,
        name: &'static str,
        what: &'static str,
        run: impl FnMut(Scale) -> Vec<f64> + 'static,
    ) {
        let group = self.groups.iter_mut().find(|g| g.name == group).expect("a declared group");
        group.cases.push(Case { name, what, run: Box::new(run), samples: vec![] });
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
            .flat_map(|group| (0..self.groups[group].cases.len()).map(move |case| (group, case)))
            .collect();
        for round in 0..rounds {
            for i in 0..all.len() {
                let (group, case) = all[(i + round * all.len() / rounds) % all.len()];
                let Group { name, steady, cases, .. } = &self.groups[group];
                eprint!("\rround {}/{rounds}  {name}/{}\x1b[K", round + 1, cases[case].name);
                match (steady, round < STEADY_ROUNDS) {
                    (true, false) => {}
                    (true, true) => drop(self.sample(group, case, scale)),
                    (false, _) => self.quiet_sample(group, case, scale),
                }
            }
        }
        eprint!("\r\x1b[K");
    }

    fn quiet_sample(&mut self, group: usize, case: usize, scale: Scale) {
        for _ in 0..=RETRIES {
            let settled = self.settle();
            let sample = self.sample(group, case, scale);
            let good = sample.is_quiet() && sample.placement != Some(Placement::OneCore);
            if good || !settled {
                return; // on a machine that does not settle, another try is only another disturbed sample
            }
        }
    }

    fn sample(&mut self, group: usize, case: usize, scale: Scale) -> &Sample {
        let before = probe();
        let load = Load::start();
        let case = &mut self.groups[group].cases[case];
        let values = (case.run)(scale);
        let foreign = load.foreign();
        let after = probe();
        self.probes.extend([before, after]);
        let placement = (before.placement == after.placement).then_some(before.placement);
        case.samples.push(Sample { values, foreign, placement });
        &case.samples[case.samples.len() - 1]
    }

    /// Waits for a quiet machine with two cores, while patience lasts.
    fn settle(&mut self) -> bool {
        while !self.patience.is_zero() {
            let start = Instant::now();
            let load = Load::start();
            std::thread::sleep(Duration::from_millis(40));
            if load.foreign() < FOREIGN && probe().placement != Placement::OneCore {
                return true;
            }
            std::thread::sleep(Duration::from_millis(60));
            self.patience = self.patience.saturating_sub(start.elapsed());
        }
        false
    }
}
