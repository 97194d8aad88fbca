//! A directed graph by destination: for each node, the nodes that link to it.

/// The edges of a graph, grouped by where they lead; nodes are numbered from 0 without gaps.
pub struct Graph {
    /// Edges into node `n` are `sources[rows[n]..rows[n + 1]]`.
    pub rows: Vec<u32>,
    pub sources: Vec<u32>,
    /// Edges out of each node.
    pub out_degrees: Vec<u32>,
}

/// What [`Graph::from_edges`] left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Edges that were there already: a link counts once.
    pub duplicates: usize,
    /// Edges from a node to itself: nobody ranks by their own word.
    pub to_itself: usize,
}

impl Graph {
    /// Groups edges from the first to the second node of each pair, in the order of their sources.
    ///
    /// # Panics
    ///
    /// If an edge has an end that is not below `nodes`, or there are 2³² edges.
    pub fn from_edges(nodes: usize, mut edges: Vec<(u32, u32)>) -> (Self, LeftOut) {
        let given = edges.len();
        edges.retain(|(from, to)| from != to);
        let to_itself = given - edges.len();
        edges.sort_unstable_by_key(|(from, to)| (*to, *from));
        let unlike = edges.len();
        edges.dedup();
        let duplicates = unlike - edges.len();
        let mut rows = vec![0u32; nodes + 1];
        let mut out_degrees = vec![0u32; nodes];
        for (from, to) in &edges {
            rows[*to as usize + 1] += 1;
            out_degrees[*from as usize] += 1;
        }
        let mut sum = 0u32;
        for row in &mut rows {
            sum = sum.checked_add(*row).expect("edges are counted in 32 bits");
            *row = sum;
        }
        let sources = edges.into_iter().map(|(from, _)| from).collect();
        (Self { rows, sources, out_degrees }, LeftOut { duplicates, to_itself })
    }

    /// A graph in which few nodes have many links and most have few: an edge leads to where another one leads, or,
    /// two times of five, anywhere. In-degrees then fall off as a power of about 2.7 (the copying model of Kumar et al.,
    /// "Stochastic models for the web graph", 2000). Every tenth node has no edge out of it.
    ///
    /// Edges may come twice or lead to themselves, and are left out then: there are a few less than asked for.
    ///
    /// # Panics
    ///
    /// If there are fewer than two nodes, or 2³² or more.
    pub fn scale_free(nodes: usize, edges: usize, seed: u64) -> (Self, LeftOut) {
        let count = u32::try_from(nodes).ok().filter(|count| *count >= 2);
        let count = count.expect("nodes are counted in 32 bits, and there are two");
        let mut random = Random(seed);
        let mut made: Vec<(u32, u32)> = Vec::with_capacity(edges);
        while made.len() < edges {
            let mut from = random.below(count);
            // The tenth of each ten has none.
            if from % 10 == 9 {
                from -= 1 + random.below(9);
            }
            let copies = !made.is_empty() && random.below(5) >= 2;
            let to =
                if copies { made[random.below(made.len() as u32) as usize].1 } else { random.below(count) };
            made.push((from, to));
        }
        Self::from_edges(nodes, made)
    }

    pub fn nodes(&self) -> usize {
        self.out_degrees.len()
    }

    /// The edges into node `n`, by where they come from.
    pub fn sources_of(&self, n: usize) -> &[u32] {
        &self.sources[self.rows[n] as usize..self.rows[n + 1] as usize]
    }

    /// The part of its rank that each node gives along one of its edges; 0 for a node without.
    pub fn parts(&self) -> Vec<f32> {
        let part = |degree: &u32| if *degree == 0 { 0.0 } else { 1.0 / *degree as f32 };
        self.out_degrees.iter().map(part).collect()
    }

    /// Edges into the node that has most.
    pub fn largest_in_degree(&self) -> u32 {
        self.rows.windows(2).map(|row| row[1] - row[0]).max().unwrap_or(0)
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same graph from the same seed on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below this one, each about as likely.
    fn below(&mut self, end: u32) -> u32 {
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_grouped_by_where_they_lead() {
        let (graph, left_out) = Graph::from_edges(4, vec![(2, 1), (0, 1), (2, 1), (3, 3), (1, 0)]);
        assert_eq!((graph.rows.as_slice(), graph.sources.as_slice()), (&[0, 1, 3, 3, 3][..], &[1, 0, 2][..]));
        assert_eq!(graph.out_degrees, [1, 1, 1, 0]);
        assert_eq!(graph.parts(), [1.0, 1.0, 1.0, 0.0]);
        assert_eq!(left_out, LeftOut { duplicates: 1, to_itself: 1 });
        assert_eq!(
            (graph.sources_of(1), graph.sources_of(3), graph.largest_in_degree()),
            (&[0, 2][..], &[][..], 2)
        );
    }

    #[test]
    fn a_generated_graph_has_hubs_and_dead_ends_and_is_the_same_again() {
        let (graph, left_out) = Graph::scale_free(10_000, 100_000, 7);
        let (again, _) = Graph::scale_free(10_000, 100_000, 7);
        let (other, _) = Graph::scale_free(10_000, 100_000, 8);
        assert!(graph.sources == again.sources && graph.sources != other.sources);
        assert_eq!(graph.sources.len() + left_out.duplicates + left_out.to_itself, 100_000);
        assert!(graph.sources.len() > 90_000);
        assert!((9..10_000).step_by(10).all(|node| graph.out_degrees[node] == 0));
        // With ends chosen evenly, the most would be about 30.
        assert!(graph.largest_in_degree() > 100, "{}", graph.largest_in_degree());
    }
}
