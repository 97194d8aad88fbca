//! PageRank in plain Rust and double precision, to compare with.

use super::graph::Graph;

/// The ranks after so many rounds from equal ones.
pub fn ranks(graph: &Graph, damping: f64, rounds: usize) -> Vec<f64> {
    let nodes = graph.nodes();
    let mut ranks = vec![1.0 / nodes as f64; nodes];
    for _ in 0..rounds {
        let shares: Vec<f64> = ranks
            .iter()
            .zip(&graph.out_degrees)
            .map(|(rank, degree)| rank / f64::from(*degree).max(1.0))
            .collect();
        let stuck: f64 = ranks
            .iter()
            .zip(&graph.out_degrees)
            .filter(|(_, degree)| **degree == 0)
            .map(|(rank, _)| rank)
            .sum();
        let least = (1.0 - damping + damping * stuck) / nodes as f64;
        for (node, rank) in ranks.iter_mut().enumerate() {
            let sum: f64 = graph.sources_of(node).iter().map(|from| shares[*from as usize]).sum();
            *rank = least + damping * sum;
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by hand: a links to b, b to nobody; b's rank is everybody's.
    #[test]
    fn a_dead_end_gives_all_nodes_the_same() {
        let (graph, _) = Graph::from_edges(2, vec![(0, 1)]);
        assert_eq!(ranks(&graph, 0.5, 1), [0.375, 0.625]);
        let ranks = ranks(&graph, 0.5, 100);
        // a = 1/4 + b/4, b = 1/4 + b/4 + a/2, which are 2/5 and 3/5.
        assert!((ranks[0] - 0.4).abs() < 1e-12 && (ranks[1] - 0.6).abs() < 1e-12, "{ranks:?}");
    }
}
