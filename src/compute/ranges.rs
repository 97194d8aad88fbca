//! Sets of bytes: which part of a buffer one side has and the other has not.

use std::ops::Range;

/// Disjoint ranges in ascending order, none empty, none next to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<Range<usize>>);

impl Ranges {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a range; what it overlaps or touches becomes one with it.
    pub fn insert(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|other| other.end < range.start);
        let end = self.0.partition_point(|other| other.start <= range.end);
        let joined = self.0[first..end]
            .iter()
            .fold(range, |sum, other| sum.start.min(other.start)..sum.end.max(other.end));
        self.0.splice(first..end, [joined]);
    }

    /// The first of them, without which there would be nothing.
    pub fn first(&self) -> Option<Range<usize>> {
        self.0.first().cloned()
    }

    /// Takes the first of them out.
    pub fn remove_first(&mut self) {
        self.0.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 10_000 }))]

        #[test]
        fn ranges_are_the_set_of_what_was_inserted(
            inserted in prop::collection::vec((0usize..64, 0usize..12), 0..24),
        ) {
            let (mut ranges, mut twin) = (Ranges::default(), [false; 80]);
            for (start, len) in inserted {
                ranges.insert(start..start + len);
                twin[start..start + len].fill(true);
                let list = &ranges.0;
                prop_assert!(list.iter().all(|range| !range.is_empty()));
                prop_assert!(list.windows(2).all(|pair| pair[0].end < pair[1].start), "{list:?}");
                let mut has = [false; 80];
                list.iter().for_each(|range| has[range.clone()].fill(true));
                prop_assert_eq!(has, twin);
            }
        }
    }
}
