//! What the samples of a run come to: medians over those taken at one placement of the processors.

use crate::harness::{Board, Case, Group, Sample, Unit};
use crate::machine::clock;
use crate::placement::Placement;

/// A run as seen at one placement. Medians over samples of several placements would describe none of them.
pub struct View<'a> {
    board: &'a Board,
    /// `None` where no sample was quiet: then every sample counts.
    pub placement: Option<Placement>,
}

/// The views that there are enough samples for, the farthest placement first; samples of one core for both
/// processors count only where there are no others.
pub fn views(board: &Board) -> Vec<View<'_>> {
    /// Of a view in the quiet samples, below which it is left out.
    const LEAST_SHARE: f64 = 0.2;
    let timed = board.groups.iter().filter(|group| !group.steady);
    let samples = timed.flat_map(|group| &group.cases).flat_map(|case| &case.samples);
    let mut quiet: Vec<Placement> =
        samples.filter(|sample| sample.is_quiet()).filter_map(|sample| sample.placement).collect();
    if quiet.iter().any(|&placement| placement != Placement::OneCore) {
        quiet.retain(|&placement| placement != Placement::OneCore);
    }
    if quiet.is_empty() {
        return vec![View { board, placement: None }];
    }
    let mut seen = quiet.clone();
    seen.sort_unstable();
    seen.dedup();
    let share = |wanted| quiet.iter().filter(|&&p| p == wanted).count() as f64 / quiet.len() as f64;
    seen.retain(|&placement| share(placement) >= LEAST_SHARE);
    seen.into_iter().map(|placement| View { board, placement: Some(placement) }).collect()
}

impl View<'_> {
    /// The samples of a case that count here.
    fn counted<'a>(&self, group: &Group, case: &'a Case) -> Vec<&'a Sample> {
        let counts = |sample: &&Sample| match self.placement {
            _ if group.steady => true,
            None => true,
            placement => sample.is_quiet() && sample.placement == placement,
        };
        case.samples.iter().filter(counts).collect()
    }

    /// One metric's values, sorted; empty if the case has no samples here.
    fn sorted(&self, group: &Group, case: &Case, metric: usize) -> Vec<f64> {
        let mut values: Vec<f64> =
            self.counted(group, case).iter().map(|sample| sample.values[metric]).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The median of a group's metric for each case that has one: names and values.
    pub fn medians(&self, group: &str, metric: usize) -> Vec<(&'static str, f64)> {
        let Some(group) = self.board.groups.iter().find(|g| g.name == group) else { return vec![] };
        let median = |case| median(&self.sorted(group, case, metric));
        group.cases.iter().filter_map(|case| Some((case.name, median(case)?))).collect()
    }

    /// The median of one case's metric, if there is one.
    pub fn median(&self, group: &str, case: &str, metric: usize) -> Option<f64> {
        self.medians(group, metric).into_iter().find(|(name, _)| *name == case).map(|(_, value)| value)
    }

    /// The usual round trip of a cache line between the two processors here, in ns.
    pub fn crossing(&self) -> Option<f64> {
        let mut all: Vec<f64> = self
            .board
            .probes
            .iter()
            .filter(|probe| self.placement.is_none_or(|placement| probe.placement == placement))
            .map(|probe| probe.crossing)
            .collect();
        all.sort_by(f64::total_cmp);
        median(&all)
    }

    /// The groups that do, or do not, depend on the placement, as Markdown tables.
    pub fn tables(&self, steady: bool) -> String {
        let groups = self.board.groups.iter().filter(|group| group.steady == steady);
        groups.map(|group| self.table(group)).collect()
    }

    fn table(&self, group: &Group) -> String {
        let mut text = format!("\n### {} (`{}`)\n\n| case |", group.title, group.name);
        text.extend(group.metrics.iter().map(|(metric, _)| format!(" {metric} |")));
        let (first, unit) = &group.metrics[0];
        text += &format!(" range of {first} | samples | what |\n|---|");
        text += &"---:|".repeat(group.metrics.len() + 2);
        text += "---|\n";
        let show = |value: f64, unit: &Unit| match unit {
            Unit::Nanoseconds if value < clock().step => format!("< {}", unit.show(clock().step)),
            unit => unit.show(value),
        };
        for case in &group.cases {
            text += &format!("| {} |", case.name);
            for (metric, (_, unit)) in group.metrics.iter().enumerate() {
                let value = median(&self.sorted(group, case, metric));
                text += &format!(" {} |", value.map_or("-".into(), |value| show(value, unit)));
            }
            let all = self.sorted(group, case, 0);
            let range = match &all[..] {
                [] => "-".into(),
                [only] => show(*only, unit),
                [least, .., most] => format!("{} … {}", show(*least, unit), show(*most, unit)),
            };
            text += &format!(" {range} | {} of {} | {} |\n", all.len(), case.samples.len(), case.what);
        }
        text
    }
}

fn median(sorted: &[f64]) -> Option<f64> {
    sorted.get(sorted.len() / 2).copied()
}
