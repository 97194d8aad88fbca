//! The cache by itself: what is in memory against a model, what is on disk against damage, strangers, threads and
//! processes that are killed.

mod handlers;
mod kill;
mod memory;
mod room;
mod store;
mod trust;

use super::disk::Store;
use super::entry::{CHECKSUM_AT, checksum};
use super::key::{Key, KeyBuilder};
use super::statistics::CacheStatistics;
use std::convert::Infallible;
use std::path::{Path, PathBuf};

/// A folder of a test's own, removed at its end. The store makes it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("ringwork-test-{}", uuid::Uuid::new_v4().simple())))
    }

    /// A store on it, as a process of its own would have.
    fn store(&self, capacity: u64) -> Store {
        Store::new(Ok(self.0.clone()), capacity)
    }

    fn entry(&self, number: u64) -> PathBuf {
        super::folder::entry(&self.0, &key(number))
    }

    /// The names in it, sorted.
    fn names(&self) -> Vec<String> {
        let names = self.0.read_dir().expect("it is there");
        let mut names: Vec<_> =
            names.map(|name| name.unwrap().file_name().into_string().expect("its names are text")).collect();
        names.sort();
        names
    }

    /// Bytes of all files in it.
    fn bytes(&self) -> u64 {
        self.0.read_dir().expect("it is there").map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// More than any test keeps.
const PLENTY: u64 = 1 << 30;

fn key(number: u64) -> Key {
    KeyBuilder::new("test").number(number).finish()
}

/// An artefact that says which one it is, in every byte.
fn artefact(number: u64, size: usize) -> Vec<u8> {
    let mut seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        // Xorshift64.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Asks for an artefact; says whether it had to be built, and checks that it is the right one either way.
#[track_caller]
fn ask(store: &Store, number: u64, size: usize) -> bool {
    let wanted = artefact(number, size);
    let mut built = false;
    let bytes = store.get_or_build(
        &key(number),
        |bytes| Some(bytes.to_vec()),
        || {
            built = true;
            Ok::<_, Infallible>((wanted.clone(), wanted.clone()))
        },
    );
    assert!(bytes.expect("nothing here can fail") == wanted, "artefact {number} is another one");
    built
}

fn statistics(store: &Store) -> CacheStatistics {
    let mut statistics = CacheStatistics::default();
    store.report(&mut statistics);
    statistics
}

/// Puts the right checksum into an entry whose header was changed.
fn sign(bytes: &mut [u8]) {
    let (facts, rest) = bytes.split_at_mut(CHECKSUM_AT);
    let (sum, artefact) = rest.split_at_mut(32);
    sum.copy_from_slice(&checksum(facts, artefact));
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("it is there");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("it can be written");
}
