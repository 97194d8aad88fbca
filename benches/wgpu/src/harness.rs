//! Cases, groups of cases that can be compared, and interleaved rounds over them.

use crate::machine::{self, Load};
use std::time::{Duration, Instant};

/// More processors than this kept busy by others spoil a sample.
pub const FOREIGN: f64 = 0.2;
/// How often a spoilt sample is taken again.
const RETRIES: usize = 3;
/// How long a sample takes, what is off the clock included: a shorter one could not tell whether others were there.
const SAMPLE: Duration = Duration::from_millis(250);
/// Rounds of a sample at the least.
const LEAST_ROUNDS: usize = 3;

/// One way to get messages handled. A yardstick is one, and so is a library that is held against it.
pub trait Case {
    fn name(&self) -> &str;

    /// Has this many messages handled, and says how long it took from the first message at hand to the last answer at
    /// hand. What makes the messages and checks the answers is off the clock; a wrong answer is the error.
    fn round(&mut self, messages: usize) -> Result<Duration, String>;
}

/// What a group's numbers are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Messages per second.
    Rate,
    /// Time of a round.
    Time,
}

/// What one case is expected to reach, held against others of the same run.
pub struct Goal {
    /// `group/case` that it is about, or the best of the group's cases whose names begin so.
    pub of: (&'static str, &'static str),
    /// What it is held against, in the same way.
    pub to: (&'static str, &'static str),
    /// How many times as fast a message must be; below 1 it may be slower.
    pub at_least: f64,
}

/// Cases that answer the same question.
pub struct Group {
    pub name: &'static str,
    pub title: &'static str,
    /// Messages in a round.
    pub messages: usize,
    pub show: Show,
    pub entries: Vec<Entry>,
}

pub struct Entry {
    pub case: Box<dyn Case>,
    pub samples: Vec<Sample>,
}

pub struct Sample {
    /// Seconds of each round.
    pub times: Vec<f64>,
    /// Processors kept busy by others meanwhile.
    pub foreign: f64,
    /// Two threads ran side by side before and after.
    pub side_by_side: bool,
}

impl Sample {
    pub fn is_quiet(&self) -> bool {
        self.foreign < FOREIGN && self.side_by_side
    }
}

impl Entry {
    /// The samples that count: the quiet ones, or all of them where none is.
    fn counted(&self) -> Vec<&Sample> {
        let quiet: Vec<&Sample> = self.samples.iter().filter(|sample| sample.is_quiet()).collect();
        if quiet.is_empty() { self.samples.iter().collect() } else { quiet }
    }

    /// All times that count, sorted.
    pub fn times(&self) -> Vec<f64> {
        let mut times: Vec<f64> =
            self.counted().iter().flat_map(|sample| sample.times.iter().copied()).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// The median over the samples of their medians: a sample weighs the same however many times it has.
    pub fn median(&self) -> Option<f64> {
        let mut medians: Vec<f64> = self
            .counted()
            .iter()
            .filter_map(|sample| {
                let mut times = sample.times.clone();
                times.sort_by(f64::total_cmp);
                quantile(&times, 0.5)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        quantile(&medians, 0.5)
    }
}

/// A quantile of sorted values.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * q).round() as usize).copied()
}

/// All groups of a run.
pub struct Board {
    pub groups: Vec<Group>,
    pub goals: Vec<Goal>,
    /// How long the run may still wait for a quiet machine.
    patience: Duration,
}

impl Board {
    pub fn new(groups: Vec<Group>, goals: Vec<Goal>) -> Self {
        Self { groups, goals, patience: Duration::from_secs(60) }
    }

    /// Keeps the cases whose `group/name` contains one of the words.
    pub fn keep(&mut self, words: &[String]) {
        for group in &mut self.groups {
            let prefix = group.name;
            group.entries.retain(|entry| {
                let path = format!("{prefix}/{}", entry.case.name());
                words.iter().any(|word| path.contains(word.as_str()))
            });
        }
        self.groups.retain(|group| !group.entries.is_empty());
    }

    /// Rounds over all cases, each begun at another one, so that no case always follows the same neighbour.
    pub fn run(&mut self, rounds: usize) -> Result<(), String> {
        let all: Vec<(usize, usize)> = (0..self.groups.len())
            .flat_map(|group| (0..self.groups[group].entries.len()).map(move |entry| (group, entry)))
            .collect();
        for &(group, entry) in &all {
            self.round(group, entry)?; // a pipeline becomes machine code when it is first used
        }
        for round in 0..rounds {
            for i in 0..all.len() {
                let (group, entry) = all[(i + round * all.len() / rounds) % all.len()];
                let Group { name, entries, .. } = &self.groups[group];
                eprint!("\rround {}/{rounds}  {name}/{}\x1b[K", round + 1, entries[entry].case.name());
                for _ in 0..=RETRIES {
                    let settled = self.settle();
                    let sample = self.sample(group, entry)?;
                    let quiet = sample.is_quiet();
                    self.groups[group].entries[entry].samples.push(sample);
                    if quiet || !settled {
                        break; // where the machine does not settle, another try is only another disturbed sample
                    }
                }
            }
        }
        eprint!("\r\x1b[K");
        Ok(())
    }

    fn sample(&mut self, group: usize, entry: usize) -> Result<Sample, String> {
        self.round(group, entry)?; // whatever ran before left caches and clocks in another state
        let before = machine::side_by_side();
        let (load, start) = (Load::start(), Instant::now());
        let mut times = vec![];
        while times.len() < LEAST_ROUNDS || start.elapsed() < SAMPLE {
            times.push(self.round(group, entry)?.as_secs_f64());
        }
        let foreign = load.foreign();
        Ok(Sample { times, foreign, side_by_side: before && machine::side_by_side() })
    }

    fn round(&mut self, group: usize, entry: usize) -> Result<Duration, String> {
        let Group { name, messages, entries, .. } = &mut self.groups[group];
        let case = &mut entries[entry].case;
        case.round(*messages).map_err(|wrong| format!("{name}/{}: {wrong}", case.name()))
    }

    /// Waits for a quiet machine, while patience lasts.
    fn settle(&mut self) -> bool {
        while !self.patience.is_zero() {
            let start = Instant::now();
            let load = Load::start();
            std::thread::sleep(Duration::from_millis(40));
            if load.foreign() < FOREIGN && machine::side_by_side() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(60));
            self.patience = self.patience.saturating_sub(start.elapsed());
        }
        false
    }
}
