//! The messages of each instance, chained in their order: what the host does so that the device need not sort.

/// Ends a chain.
const NONE: u32 = u32::MAX;
/// Chains of this length and longer are not told apart by the sorting.
const LONG: usize = 32;

/// The chains of a part of a round, built from a table of each instance's last message.
pub struct Chains {
    /// By message: the next one for the same instance, or `u32::MAX`.
    pub next: Vec<u32>,
    /// The first message of each instance that has any.
    pub heads: Vec<u32>,
    /// By instance: `base` plus the number of its last message; less than `base` if it has none in this part, so that
    /// nothing has to be cleared between parts.
    last: Vec<u32>,
    base: u32,
    /// By message: the number of its chain.
    chain: Vec<u32>,
    /// By chain, in the order of their first messages.
    begun: Vec<Begun>,
}

#[derive(Clone, Copy)]
struct Begun {
    head: u32,
    length: u32,
}

impl Chains {
    /// For parts of so many messages.
    pub fn new(instances: usize, part: usize) -> Self {
        Self {
            next: vec![NONE; part],
            heads: Vec::with_capacity(part),
            last: vec![0; instances],
            base: 1,
            chain: vec![0; part],
            begun: Vec::with_capacity(part),
        }
    }

    /// Chains messages, given the instance of each. In a SIMD group all wait for the longest chain, so `sorted` puts
    /// chains of one length beside each other, the longest first.
    pub fn build(&mut self, instances: impl ExactSizeIterator<Item = u32>, sorted: bool) {
        let count = instances.len() as u32;
        if self.base > u32::MAX - count {
            self.last.fill(0);
            self.base = 1;
        }
        self.heads.clear();
        self.begun.clear();
        for (i, instance) in instances.enumerate() {
            let last = &mut self.last[instance as usize];
            let before = last.wrapping_sub(self.base) as usize;
            *last = self.base + i as u32;
            self.next[i] = NONE;
            if before < i {
                self.next[before] = i as u32;
            }
            if !sorted {
                if before >= i {
                    self.heads.push(i as u32);
                }
            } else if before < i {
                let chain = self.chain[before];
                self.chain[i] = chain;
                self.begun[chain as usize].length += 1;
            } else {
                self.chain[i] = self.begun.len() as u32;
                self.begun.push(Begun { head: i as u32, length: 1 });
            }
        }
        self.base += count;
        if sorted {
            self.sort();
        }
    }

    /// A counting sort by length.
    fn sort(&mut self) {
        let rank = |begun: &Begun| LONG - (begun.length as usize).min(LONG);
        let mut places = [0; LONG];
        for begun in &self.begun {
            places[rank(begun)] += 1;
        }
        let mut first = 0;
        for place in &mut places {
            first += std::mem::replace(place, first);
        }
        self.heads.resize(self.begun.len(), 0);
        for begun in &self.begun {
            let place = &mut places[rank(begun)];
            self.heads[*place] = begun.head;
            *place += 1;
        }
    }
}
