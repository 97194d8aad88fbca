//! Edge lists as the SNAP collection has them: an edge a line, two node ids with tabs or blanks between.
//!
//! Lines that begin with `#`, and empty ones, are skipped. Ids are whole numbers of up to 64 bits with any gaps; nodes are
//! numbered in the order of their ids. A byte order mark and Windows line ends do not matter. A line that is anything
//! else is an error: a graph of which a part was skipped would have other ranks, and nobody would notice.

use super::graph::{Graph, LeftOut};
use std::io::{self, BufRead};

/// Bad lines that are told one by one.
const MOST_TOLD: usize = 10;
/// What is shown of one, in characters.
const MOST_SHOWN: usize = 40;

/// A graph, and what its nodes are called in the file.
pub struct Read {
    pub graph: Graph,
    /// The id of each node, ascending.
    pub ids: Vec<u64>,
    pub left_out: LeftOut,
}

/// Reads an edge list to its end.
///
/// # Errors
///
/// Whatever `input` says; or the lines that are bad, by number; or that there is no edge.
pub fn read(mut input: impl BufRead) -> Result<Read, String> {
    let mut edges: Vec<(u64, u64)> = Vec::new();
    let (mut told, mut bad) = (String::new(), 0);
    let (mut line, mut number) = (Vec::new(), 0u64);
    loop {
        line.clear();
        let cannot = |error: io::Error| format!("cannot read on: {error}");
        if input.read_until(b'\n', &mut line).map_err(cannot)? == 0 {
            break;
        }
        number += 1;
        let text = String::from_utf8_lossy(&line);
        let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { &text }.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match edge(text) {
            Ok(edge) => edges.push(edge),
            Err(wrong) => {
                bad += 1;
                if bad <= MOST_TOLD {
                    let start: String = text.chars().take(MOST_SHOWN).collect();
                    told += &format!("\nline {number}: {start:?}: {wrong}");
                }
            }
        }
    }
    if bad > 0 {
        if bad > MOST_TOLD {
            told += &format!("\nand {} more", bad - MOST_TOLD);
        }
        return Err(format!("{bad} of {number} lines are no edge:{told}"));
    }
    if edges.is_empty() {
        return Err(format!("there is no edge in its {number} lines"));
    }
    number_nodes(&edges)
}

/// The two ids on a line.
fn edge(text: &str) -> Result<(u64, u64), String> {
    let mut words = text.split_whitespace();
    let (Some(from), Some(to), None) = (words.next(), words.next(), words.next()) else {
        let count = text.split_whitespace().count();
        return Err(format!("an edge is two node ids, and here is {count}"));
    };
    let id = |word: &str| {
        let id = word.parse().ok().filter(|_| !word.starts_with('+'));
        id.ok_or_else(|| format!("a node id is a whole number below 2^64, and not `{word:.20}`"))
    };
    Ok((id(from)?, id(to)?))
}

fn number_nodes(edges: &[(u64, u64)]) -> Result<Read, String> {
    let mut ids: Vec<u64> = edges.iter().flat_map(|(from, to)| [*from, *to]).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() >= u32::MAX as usize || edges.len() >= u32::MAX as usize {
        return Err(format!("{} nodes and {} edges: each must be below 2^32 - 1", ids.len(), edges.len()));
    }
    let node = |id: &u64| ids.binary_search(id).expect("every id is in the list") as u32;
    let edges = edges.iter().map(|(from, to)| (node(from), node(to))).collect();
    let (graph, left_out) = Graph::from_edges(ids.len(), edges);
    Ok(Read { graph, ids, left_out })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        read(text.as_bytes()).err().expect("it is an error")
    }

    #[test]
    fn comments_blanks_gaps_and_line_ends_do_not_matter() {
        let text = "\u{feff}# Nodes: 3\r\n\r\n 7\t18446744073709551615 \r\n7 100\n\t# and\n100   7";
        let found = read(text.as_bytes()).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(found.ids, [7, 100, u64::MAX]);
        assert_eq!(found.graph.rows, [0, 1, 2, 3]);
        assert_eq!(found.graph.sources, [1, 0, 0]);
        assert_eq!(found.left_out, LeftOut::default());
    }

    #[test]
    fn edges_count_once_and_not_to_themselves_but_their_nodes_stay() {
        let found = read("1 2\n1\t2\n5 5\n2 1\n1 2\n".as_bytes()).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(found.left_out, LeftOut { duplicates: 2, to_itself: 1 });
        assert_eq!(
            (found.ids.as_slice(), found.graph.out_degrees.as_slice()),
            (&[1, 2, 5][..], &[1, 1, 0][..])
        );
    }

    #[test]
    fn bad_lines_are_named_by_their_number() {
        assert_eq!(
            wrong("# c\n1 2\n3\n4 five\n6 7 8\n-1 2\n1 18446744073709551616\n+1 2\n"),
            "6 of 8 lines are no edge:\n\
             line 3: \"3\": an edge is two node ids, and here is 1\n\
             line 4: \"4 five\": a node id is a whole number below 2^64, and not `five`\n\
             line 5: \"6 7 8\": an edge is two node ids, and here is 3\n\
             line 6: \"-1 2\": a node id is a whole number below 2^64, and not `-1`\n\
             line 7: \"1 18446744073709551616\": a node id is a whole number below 2^64, and not `18446744073709551616`\n\
             line 8: \"+1 2\": a node id is a whole number below 2^64, and not `+1`"
        );
        let many = wrong(&"x\n".repeat(12));
        assert!(
            many.starts_with("12 of 12 lines")
                && many.ends_with("line 10: \"x\": an edge is two node ids, and here is 1\nand 2 more"),
            "{many}"
        );
        // Not UTF-8, and longer than anybody wants to see.
        let bytes = [b"1 2\n".as_slice(), &[0xff; 200]].concat();
        let told = read(bytes.as_slice()).err().expect("it is an error");
        assert!(told.contains("\nline 2: ") && told.chars().count() < 150, "{told}");
    }

    #[test]
    fn a_list_without_edges_is_an_error() {
        assert_eq!(wrong("# nothing\n\n"), "there is no edge in its 2 lines");
        assert_eq!(wrong(""), "there is no edge in its 0 lines");
    }
}
