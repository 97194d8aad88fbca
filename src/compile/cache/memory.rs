//! What is kept in memory: the values used last, exactly as many as asked for, each built once.

use super::key::Key;
use crate::error::Result;
use crate::sync::{Condvar, Mutex, lock, wait_until};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

/// A least-recently-used map.
pub(super) struct Lru<T> {
    capacity: usize,
    /// Each value with the time of its last use.
    entries: HashMap<Key, (u64, T)>,
    /// The keys by the time of their last use.
    order: BTreeMap<u64, Key>,
    /// Counts uses.
    time: u64,
}

impl<T: Clone> Lru<T> {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), order: BTreeMap::new(), time: 0 }
    }

    /// The value of a key, which is now the one used last.
    pub fn get(&mut self, key: &Key) -> Option<T> {
        let (used, value) = self.entries.get_mut(key)?;
        let value = value.clone();
        self.time += 1;
        self.order.remove(used);
        *used = self.time;
        self.order.insert(self.time, *key);
        Some(value)
    }

    /// Keeps a value, which is now the one used last, in place of what was kept under its key; gives back the one not
    /// used for longest if that has to go.
    pub fn insert(&mut self, key: Key, value: T) -> Option<T> {
        if self.capacity == 0 {
            return None;
        }
        self.time += 1;
        if let Some((used, _)) = self.entries.insert(key, (self.time, value)) {
            self.order.remove(&used);
        }
        self.order.insert(self.time, key);
        if self.entries.len() <= self.capacity {
            return None;
        }
        let (_, oldest) = self.order.pop_first()?;
        self.entries.remove(&oldest).map(|(_, value)| value)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes everything out.
    fn drain(&mut self) -> HashMap<Key, (u64, T)> {
        self.order.clear();
        std::mem::take(&mut self.entries)
    }
}

/// Values built once for all who ask for them at the same time, and then kept. The lock is not held while one is
/// built.
pub(super) struct Memory<T> {
    capacity: usize,
    state: Mutex<State<T>>,
    /// A value has been built, or could not be.
    built: Condvar,
}

struct State<T> {
    kept: Lru<T>,
    /// What is being built now, and where its value will be for those who wait: it may be evicted before they wake.
    building: HashMap<Key, Arc<OnceLock<T>>>,
    counts: MemoryCounts,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MemoryCounts {
    /// Found, or waited for while somebody else built it.
    pub hits: u64,
    /// Built, or tried to.
    pub misses: u64,
    pub evictions: u64,
    /// Kept now.
    pub entries: usize,
}

impl<T: Clone> Memory<T> {
    /// Keeps `capacity` values; with 0 nothing is kept and nothing is shared.
    pub fn new(capacity: usize) -> Self {
        let state =
            State { kept: Lru::new(capacity), building: HashMap::new(), counts: MemoryCounts::default() };
        Self { capacity, state: Mutex::new(state), built: Condvar::new() }
    }

    /// The value of a key: the one that is kept, the one that another thread is building, or else what `build` makes
    /// of it.
    ///
    /// # Errors
    ///
    /// What `build` says. It is not kept: whoever waited for it tries for himself.
    pub fn get_or_build(&self, key: Key, build: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut state = lock(&self.state);
        if self.capacity == 0 {
            state.counts.misses += 1;
            drop(state);
            return build();
        }
        loop {
            if let Some(value) = state.kept.get(&key) {
                state.counts.hits += 1;
                return Ok(value);
            }
            let Some(place) = state.building.get(&key).cloned() else { break };
            while state.building.get(&key).is_some_and(|now| Arc::ptr_eq(now, &place)) {
                state = wait_until(&self.built, state, None);
            }
            if let Some(value) = place.get() {
                state.counts.hits += 1;
                return Ok(value.clone());
            }
        }
        state.counts.misses += 1;
        let place = Arc::new(OnceLock::new());
        state.building.insert(key, place.clone());
        drop(state);
        // Dropped however this ends: a builder that panics leaves nobody waiting.
        let _building = Building { memory: self, key };
        let value = build()?;
        let _ = place.set(value.clone());
        let mut state = lock(&self.state);
        let evicted = state.kept.insert(key, value.clone());
        state.counts.evictions += u64::from(evicted.is_some());
        // Outside of the lock: it may be large.
        drop(state);
        drop(evicted);
        Ok(value)
    }

    /// Forgets everything; what is being built is kept when it is there.
    pub fn clear(&self) {
        let gone = lock(&self.state).kept.drain();
        drop(gone);
    }

    pub fn counts(&self) -> MemoryCounts {
        let state = lock(&self.state);
        MemoryCounts { entries: state.kept.len(), ..state.counts }
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// Marks a key as being built.
struct Building<'a, T> {
    memory: &'a Memory<T>,
    key: Key,
}

impl<T> Drop for Building<'_, T> {
    fn drop(&mut self) {
        lock(&self.memory.state).building.remove(&self.key);
        self.memory.built.notify_all();
    }
}
