//! The map against a model that is too simple to be wrong, and who builds when many ask.

use super::super::memory::{Lru, Memory, MemoryCounts};
use super::key;
use crate::error::{Error, ErrorKind};
use proptest::prelude::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Debug)]
enum Step {
    Get(u64),
    Insert(u64, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..12u64).prop_map(Step::Get),
        (0..12u64, any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn the_map_keeps_what_was_used_last(capacity in 0usize..10, steps in steps()) {
        let mut map = Lru::new(capacity);
        // The most recently used one last.
        let mut model: Vec<(u64, u32)> = Vec::new();
        for step in steps {
            match step {
                Step::Get(number) => {
                    let at = model.iter().position(|entry| entry.0 == number);
                    let entry = at.map(|at| model.remove(at));
                    model.extend(entry);
                    prop_assert_eq!(map.get(&key(number)), entry.map(|entry| entry.1));
                }
                Step::Insert(number, value) => {
                    let evicted = map.insert(key(number), value);
                    model.retain(|entry| entry.0 != number);
                    model.push((number, value));
                    let oldest = (model.len() > capacity).then(|| model.remove(0).1);
                    // With no room at all the new value is the one that goes, and is not given back.
                    prop_assert_eq!(evicted, oldest.filter(|_| capacity > 0));
                }
            }
            prop_assert_eq!(map.len(), model.len());
        }
        // In the end all that the model has is there, and nothing else.
        for number in 0..12 {
            let wanted = model.iter().find(|entry| entry.0 == number).map(|entry| entry.1);
            prop_assert_eq!(map.get(&key(number)), wanted);
        }
    }
}

fn counts(hits: u64, misses: u64, evictions: u64, entries: usize) -> MemoryCounts {
    MemoryCounts { hits, misses, evictions, entries }
}

#[test]
fn capacity_is_exact_and_none_is_none() {
    let memory = Memory::new(3);
    for number in [0, 1, 2, 0, 3, 1] {
        memory.get_or_build(key(number), || Ok(number)).unwrap();
    }
    // The second 1 was evicted by 3, and then 2 by it.
    assert_eq!(memory.counts(), counts(1, 5, 2, 3));
    memory.clear();
    assert_eq!(memory.counts(), counts(1, 5, 2, 0));
    assert_eq!(memory.get_or_build(key(0), || Ok(7)).unwrap(), 7);

    let none = Memory::new(0);
    assert_eq!(none.get_or_build(key(0), || Ok(1)).unwrap(), 1);
    assert_eq!(none.get_or_build(key(0), || Ok(2)).unwrap(), 2);
    assert_eq!(none.counts(), counts(0, 2, 0, 0));
}

/// Runs this on eight threads that begin together.
fn together<R: Send>(body: impl Fn() -> R + Sync) -> Vec<R> {
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    body()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
    })
}

#[test]
fn many_who_ask_at_once_share_one_build() {
    // With room for one, an entry may be evicted before those who wait for it wake: they get it all the same.
    let memory = Memory::new(1);
    for round in 0..50 {
        let builds = AtomicUsize::new(0);
        let values = together(|| {
            memory
                .get_or_build(key(round), || {
                    builds.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    Ok(round)
                })
                .unwrap()
        });
        assert_eq!(values, [round; 8]);
        assert_eq!(builds.into_inner(), 1);
    }
    assert_eq!(memory.counts(), counts(350, 50, 49, 1));
}

#[test]
fn the_lock_is_not_held_while_something_is_built() {
    let memory = Memory::new(4);
    let built = memory.get_or_build(key(0), || {
        assert_eq!(memory.get_or_build(key(1), || Ok(1))?, 1);
        memory.clear();
        Ok(memory.counts().misses)
    });
    assert_eq!(built.unwrap(), 2);
    assert_eq!(memory.counts(), counts(0, 2, 0, 1));
}

#[test]
fn an_error_is_its_own_and_is_not_kept() {
    let memory = Memory::<u32>::new(4);
    let tries = AtomicUsize::new(0);
    let mut texts: Vec<_> = together(|| {
        let number = tries.fetch_add(1, Ordering::Relaxed);
        let fail = || Err(Error::new(ErrorKind::Rejected, number.to_string()));
        memory.get_or_build(key(0), fail).unwrap_err().to_string()
    });
    texts.sort();
    assert_eq!(texts, ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(memory.counts(), counts(0, 8, 0, 0));
    assert_eq!(memory.get_or_build(key(0), || Ok(5)).unwrap(), 5);
}

#[test]
fn a_builder_that_panics_leaves_nobody_waiting() {
    let memory = Memory::new(4);
    let tries = AtomicUsize::new(0);
    let values = together(|| {
        let build = || {
            memory.get_or_build(key(0), || {
                assert_ne!(tries.fetch_add(1, Ordering::Relaxed), 0, "the first builder fails");
                Ok(5)
            })
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(build)).ok().map(Result::unwrap)
    });
    assert_eq!(values.iter().filter(|value| value.is_none()).count(), 1);
    assert_eq!(values.iter().flatten().collect::<Vec<_>>(), [&5; 7]);
    assert_eq!(tries.into_inner(), 2);
}
