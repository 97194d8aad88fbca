//! The messages of each instance, chained in their order: what the host does so that the device need not sort.

use super::lane::NONE;
use crate::backend::Shape;

/// Chains of this length and longer are not told apart when they are sorted.
const LONG: usize = 32;

/// The messages of one instance in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub instance: u32,
    /// The first one's number.
    pub first: u32,
    last: u32,
    length: u32,
}

/// The chains of a batch.
#[derive(Default)]
pub(super) struct Chains {
    /// In the order of their first messages.
    all: Vec<Chain>,
    /// By message: the next one for the same instance, or [`NONE`].
    pub links: Vec<u32>,
}

impl Chains {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn clear(&mut self) {
        self.all.clear();
        self.links.clear();
    }

    /// Calls `place` with every chain and its number among all of them, the longest first: invocations that run side by
    /// side wait for the one with the longest chain, so that those of one length belong together. A counting sort.
    pub fn longest_first(&self, mut place: impl FnMut(usize, &Chain)) {
        let rank = |chain: &Chain| LONG - (chain.length as usize).min(LONG);
        let mut places = [0; LONG];
        for chain in &self.all {
            places[rank(chain)] += 1;
        }
        let mut first = 0;
        for place in &mut places {
            first += std::mem::replace(place, first);
        }
        for chain in &self.all {
            let next = &mut places[rank(chain)];
            place(*next, chain);
            *next += 1;
        }
    }
}

/// Which chain of the present batch an instance's messages are in.
pub(super) struct Table {
    /// By instance: `base` and its chain's number; less than `base` if it has none, so that nothing has to be cleared between
    /// batches.
    chains: Vec<u32>,
    base: u32,
    /// More than all in `chains`.
    top: u32,
    shape: Shape,
}

impl Table {
    pub fn new(shape: Shape) -> Self {
        Self { chains: vec![0; shape.instances() as usize], base: 1, top: 1, shape }
    }

    /// Adds messages to a batch that has so many.
    pub fn add<'a>(
        &mut self,
        chains: &mut Chains,
        before: u32,
        messages: impl ExactSizeIterator<Item = &'a [u8]>,
    ) {
        if before == 0 {
            self.base = self.top;
            if self.top >= u32::MAX / 2 {
                self.chains.fill(0);
                self.base = 1;
            }
        }
        chains.links.resize(before as usize + messages.len(), NONE);
        for (message, number) in messages.zip(before..) {
            let instance = self.shape.instance_of(message);
            let entry = &mut self.chains[instance as usize];
            match chains.all.get_mut(entry.wrapping_sub(self.base) as usize) {
                Some(chain) => {
                    chains.links[chain.last as usize] = number;
                    chain.last = number;
                    chain.length += 1;
                }
                None => {
                    // A batch has fewer messages than there are numbers above half of all.
                    *entry = self.base + chains.all.len() as u32;
                    chains.all.push(Chain { instance, first: number, last: number, length: 1 });
                }
            }
        }
        self.top = self.base + chains.all.len() as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Batches of messages, each in parts, against lists of each instance's messages.
        #[test]
        fn chains_are_each_instances_messages(batches in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(0u32..20, 0..40), 1..4), 1..6
        ), near_the_end in any::<bool>()) {
            let mut table = Table::new(Shape::Instances { count: 20, field_offset: 4 });
            if near_the_end {
                table.top = u32::MAX / 2 - 3;
            }
            for parts in batches {
                let mut chains = Chains::default();
                let mut wanted: Vec<Vec<u32>> = vec![Vec::new(); 20];
                let mut count = 0;
                for part in parts {
                    let messages: Vec<[u32; 2]> = part.iter().map(|instance| [7, *instance]).collect();
                    let bytes = messages.iter().map(bytemuck::bytes_of);
                    table.add(&mut chains, count, bytes);
                    for instance in part {
                        wanted[instance as usize].push(count);
                        count += 1;
                    }
                }
                let mut placed = vec![None; chains.len()];
                chains.longest_first(|place, chain| placed[place] = Some(*chain));
                let placed: Vec<Chain> = placed.into_iter().map(|chain| chain.expect("a place each")).collect();
                prop_assert!(placed.is_sorted_by(|a, b| a.length >= b.length || b.length as usize >= LONG));
                let mut got: Vec<Vec<u32>> = vec![Vec::new(); 20];
                for chain in placed {
                    let mut message = chain.first;
                    while message != NONE {
                        got[chain.instance as usize].push(message);
                        message = chains.links[message as usize];
                    }
                }
                prop_assert_eq!(got, wanted);
            }
        }
    }
}
