//! The bound on the bytes on disk, and who goes first.

use super::super::entry::HEADER;
use super::{Folder, artefact, ask, key, rewrite, statistics};
use proptest::prelude::*;

/// An artefact whose file has this many bytes.
const fn file(bytes: usize) -> usize {
    bytes - HEADER
}

#[test]
fn what_was_not_used_for_longest_goes_first() {
    let folder = Folder::new();
    // Eight files of 1,000 bytes; a ninth takes an eighth of the room more than it needs.
    let store = folder.store(8000);
    for number in 0..8 {
        assert!(ask(&store, number, file(1000)));
    }
    assert_eq!((folder.bytes(), statistics(&store).disk_evictions), (8000, 0));
    // Used again, also by somebody else: 2 and 3 are the oldest from here on.
    assert!(!ask(&store, 0, file(1000)) && !ask(&folder.store(8000), 1, file(1000)));
    assert!(ask(&store, 8, file(1000)));
    assert_eq!(statistics(&store).disk_evictions, 1);
    assert!(!folder.entry(2).exists(), "2 was the oldest");
    assert!(ask(&store, 9, file(3000)));
    let told = statistics(&store);
    assert_eq!((told.disk_evictions, told.disk_bytes), (4, 8000));
    for (number, there) in
        [(3, false), (4, false), (5, false), (6, true), (7, true), (0, true), (1, true), (8, true), (9, true)]
    {
        assert_eq!(folder.entry(number).exists(), there, "{number}");
    }
}

#[test]
fn what_is_larger_than_all_that_may_be_kept_is_not_kept() {
    let folder = Folder::new();
    let store = folder.store(1000);
    assert!(ask(&store, 1, file(1000)) && !ask(&store, 1, file(1000)));
    assert!(ask(&store, 2, file(1001)) && ask(&store, 2, file(1001)));
    let told = statistics(&store);
    assert_eq!((told.disk_writes, told.disk_unwritten, told.disk_evictions), (1, 2, 0));
    let problem = "an artefact of 1001 bytes is more than all of the 1000 that may be kept";
    assert_eq!(told.disk_problem.as_deref(), Some(problem));
    let shown = told.to_string();
    assert!(
        shown.ends_with(&format!("1 writes, 2 unwritten, 0 rejected, 0 evictions; {problem}")),
        "{shown}"
    );
    assert!(!ask(&store, 1, file(1000)), "it did not have to go for what has no room anyway");
    // Kept by a process with more room: not even read.
    assert!(ask(&folder.store(2000), 2, file(1001)));
    let store = folder.store(1000);
    assert!(ask(&store, 2, file(1001)));
    assert_eq!(statistics(&store).disk_rejected, 1);
}

#[test]
fn what_others_write_is_counted_now_and_then() {
    let folder = Folder::new();
    let (one, other) = (folder.store(8000), folder.store(8000));
    for number in 0..8 {
        ask(&one, number, file(500));
        ask(&other, 100 + number, file(500));
        assert!(folder.bytes() <= 10_000, "each may be an eighth over: {}", folder.bytes());
    }
    // A process that comes later counts what is there.
    let late = folder.store(4000);
    assert!(ask(&late, 200, file(500)));
    assert!(folder.bytes() <= 4000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_bound_holds_after_every_step(
        capacity in 500u64..5000,
        steps in prop::collection::vec((0..30u64, 0..20u8), 1..60),
    ) {
        let folder = Folder::new();
        let mut store = folder.store(capacity);
        for (number, what) in steps {
            match what {
                0 => store = folder.store(capacity),
                1 if folder.entry(number).exists() => rewrite(&folder.entry(number), |bytes| bytes[20] ^= 1),
                2 => store.clear().unwrap(),
                // Each artefact has a size of its own.
                _ => {
                    let there = folder.0.exists() && folder.entry(number).exists();
                    let built = ask(&store, number, artefact(number, 2)[1] as usize * 5);
                    prop_assert!(built || there);
                }
            }
            prop_assert!(!folder.0.exists() || folder.bytes() <= capacity);
        }
        let told = statistics(&store);
        prop_assert!(key(0) != key(1) && told.disk_bytes <= capacity);
    }
}
