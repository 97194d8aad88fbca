//! `pagerank`: edge lists and generated graphs, and the tests of its parts.

use super::doctor::{backend, diagnosis};
use super::{Run, example, repository};
use std::path::PathBuf;
use std::process::{Command, Stdio};

// The example's own tests run here: an example has no test harness of its own.
#[path = "../../examples/pagerank/graph.rs"]
#[allow(dead_code, reason = "the example calls what its tests do not")]
mod graph;
#[path = "../../examples/pagerank/plot.rs"]
#[allow(dead_code, reason = "the example calls what its tests do not")]
mod plot;
#[path = "../../examples/pagerank/read.rs"]
mod read;
#[path = "../../examples/pagerank/reference.rs"]
mod reference;

fn pagerank(arguments: &[&str]) -> Run {
    let output = Command::new(example("pagerank")).args(arguments).stdin(Stdio::null()).output();
    output.expect("the example starts").into()
}

/// A file with this text, which goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ringwork-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("temporary files have plain names")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where the test failed before it was written there is none.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn pagerank_ranks_an_edge_list_on_every_backend() {
    let (_, diagnosis) = self::diagnosis(&[]);
    for backend in ["cpu", "wgpu", "cuda"] {
        if self::backend(&diagnosis, backend)["usable"] != true {
            eprintln!(
                "pagerank_ranks_an_edge_list_on_every_backend: skipped {backend}, it cannot be used here"
            );
            continue;
        }
        let run = pagerank(&["--backend", backend, "--top=3", &repository("examples/data/links.txt")]);
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{backend}: {}", run.out);
        let graph = "12 nodes, 23 edges, 1 duplicates and 1 self edges left out, 1 nodes without links; ";
        assert!(run.line("graph").starts_with(graph), "{}", run.out);
        assert!(run.line("rounds").contains(", converged; "), "{}", run.out);
        // By the reference in double precision, which the example compares all ranks with.
        let best: Vec<_> = ["   1. ", "   2. ", "   3. "].map(|place| run.line(place)).into();
        for (found, (id, rank)) in best.iter().zip([("1", 0.2304691), ("10", 0.1914053), ("3", 0.1172831)]) {
            let (found_id, found) = found.split_once(' ').expect("an id and a rank");
            let found: f64 = found.parse().expect("a number");
            assert!(found_id == id && (found - rank).abs() < 1e-6, "{backend}: {best:?}");
        }
        assert!(!run.out.contains("   4. "), "{}", run.out);
        assert!(run.line("checked").starts_with("ranks sum to 1 "), "{}", run.out);
    }
}

#[test]
fn pagerank_ranks_a_generated_graph_and_draws() {
    let plot = Scratch::new("pagerank.svg");
    let arguments = ["--backend=cpu", "--nodes=5000", "--edges=40000", "--seed", "3", "--plot", plot.path()];
    let run = pagerank(&arguments);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{}", run.out);
    assert!(run.line("graph").starts_with("5000 nodes, "), "{}", run.out);
    let svg = std::fs::read_to_string(&plot.0).expect("it was drawn");
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg:.200}");
    for text in ["Change of all ranks by round", "Nodes by rank", "log10 of the rank"] {
        assert!(svg.contains(text), "no `{text}` in the drawing");
    }
    // Two curves, of which the right one has a point for each rank that is not close to the one before.
    assert_eq!(svg.matches("stroke=\"#0000FF\"").count(), 2);
    // The same graph, with a limit on its rounds.
    let short = pagerank(&["--backend=cpu", "--nodes=5000", "--edges=40000", "--seed=3", "--rounds=2"]);
    assert!(short.line("rounds").starts_with("2, not converged; "), "{}", short.out);
    assert_eq!(short.line("round    1"), run.line("round    1"));
}

#[test]
fn pagerank_says_what_is_wrong_with_its_input() {
    let bad = Scratch::new("bad-links.txt");
    std::fs::write(&bad.0, "# from to\n1\t2\n2 three\n3\n").expect("it can be written");
    let run = pagerank(&["--backend=cpu", bad.path()]);
    let text = format!(
        "pagerank: {}: 2 of 4 lines are no edge:\n\
         line 3: \"2 three\": a node id is a whole number below 2^64, and not `three`\n\
         line 4: \"3\": an edge is two node ids, and here is 1\n",
        bad.path()
    );
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (Some(1), "", text.as_str()));
    std::fs::write(&bad.0, "# nothing\n").expect("it can be written");
    let run = pagerank(&[bad.path()]);
    assert_eq!(run.err, format!("pagerank: {}: there is no edge in its 1 lines\n", bad.path()));

    let run = pagerank(&["/nonexistent/links.txt"]);
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
    assert!(run.err.starts_with("pagerank: cannot read /nonexistent/links.txt: "), "{}", run.err);
    let run = pagerank(&["--backend=cpu", "--nodes=10", "--plot=/nonexistent/plot.svg"]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.starts_with("pagerank: cannot draw /nonexistent/plot.svg: "), "{}", run.err);
}

#[test]
fn pagerank_says_what_is_wrong_with_its_arguments() {
    for (arguments, wrong) in [
        (&[][..], "neither a file nor --nodes"),
        (&["a", "b"], "more than one file"),
        (&["a", "--nodes=5"], "a file and --nodes: the graph is either read or made"),
        (&["a", "--seed=5"], "--edges and --seed go with --nodes, not with a file"),
        (&["--colour", "a"], "unknown option --colour"),
        (&["a", "--rounds"], "--rounds needs a value"),
        (&["a", "--rounds=0"], "--rounds is `0`, but must be a whole number above 0"),
        (&["a", "--damping=1.5"], "--damping is `1.5`, but must be a number from 0 to 1"),
        (&["a", "--damping=NaN"], "--damping is `NaN`, but must be a number from 0 to 1"),
        (&["a", "--tolerance", "0"], "--tolerance is `0`, but must be a number above 0"),
        (&["--nodes=1"], "--nodes is `1`, but must be a whole number from 2 to 2^31 - 1"),
        (&["a", "--backend=vulkan"], "backend `vulkan` is not one of auto, cpu, wgpu, cuda"),
    ] {
        let run = pagerank(arguments);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{arguments:?}: {}", run.err);
        let text = format!("pagerank: {wrong}\n\nusage: pagerank ");
        assert!(run.err.starts_with(&text), "{arguments:?}: {}", run.err);
    }
    let help = pagerank(&["--help"]);
    assert!(help.code == Some(0) && help.out.starts_with("usage: pagerank "), "{}", help.out);
}
