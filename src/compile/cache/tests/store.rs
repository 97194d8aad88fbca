//! Entries: kept, found, and never used unless they are right to the last bit.

use super::super::entry::HEADER;
use super::{Folder, PLENTY, artefact, ask, key, rewrite, sign, statistics};
use crate::error::{Error, ErrorKind};

#[test]
fn what_one_process_keeps_the_next_one_finds() {
    let folder = Folder::new();
    let first = folder.store(PLENTY);
    assert!(ask(&first, 1, 100) && ask(&first, 2, 0));
    assert!(!ask(&first, 1, 100));
    let second = folder.store(PLENTY);
    assert!(!ask(&second, 1, 100) && !ask(&second, 2, 0));
    let told = statistics(&first);
    assert_eq!((told.disk_hits, told.disk_misses, told.disk_writes), (1, 2, 2));
    assert_eq!(told.disk_bytes, 100 + 2 * HEADER as u64);
    assert_eq!((told.disk_folder.as_deref(), told.disk_problem), (Some(&*folder.0), None));
    let told = statistics(&second);
    // It has written nothing, and so has not counted.
    assert_eq!((told.disk_hits, told.disk_misses, told.disk_bytes), (2, 0, 0));
    assert_eq!(folder.names(), {
        let mut names = [key(1), key(2)].map(|key| format!("{key}.entry"));
        names.sort();
        names
    });
}

/// Spoils an entry; it must be built once more, and be right from then on.
#[track_caller]
fn spoiled(what: &str, spoil: impl FnOnce(&Folder)) {
    let folder = Folder::new();
    assert!(ask(&folder.store(PLENTY), 1, 40));
    let good = std::fs::read(folder.entry(1)).expect("it was written");
    spoil(&folder);
    let store = folder.store(PLENTY);
    assert!(ask(&store, 1, 40), "{what}: it was used");
    let told = statistics(&store);
    assert_eq!((told.disk_rejected, told.disk_misses, told.disk_writes), (1, 1, 1), "{what}");
    assert!(std::fs::read(folder.entry(1)).is_ok_and(|now| now == good), "{what}: it was not written again");
    assert!(!ask(&folder.store(PLENTY), 1, 40), "{what}: it was not kept");
}

#[test]
fn a_damaged_byte_anywhere_is_noticed() {
    for at in 0..HEADER + 40 {
        for flip in [0x01, 0x80, 0xff] {
            spoiled(&format!("byte {at} xor {flip}"), |folder| {
                rewrite(&folder.entry(1), |bytes| bytes[at] ^= flip);
            });
        }
    }
}

#[test]
fn an_entry_cut_short_anywhere_is_noticed() {
    for length in 0..HEADER + 40 {
        spoiled(&format!("{length} bytes"), |folder| {
            rewrite(&folder.entry(1), |bytes| bytes.truncate(length))
        });
    }
    spoiled("one byte more", |folder| rewrite(&folder.entry(1), |bytes| bytes.push(0)));
    spoiled("twice", |folder| rewrite(&folder.entry(1), |bytes| bytes.extend(bytes.clone())));
}

#[test]
fn an_entry_of_another_key_or_version_is_not_used() {
    spoiled("another key", |folder| {
        assert!(ask(&folder.store(PLENTY), 2, 40));
        std::fs::copy(folder.entry(2), folder.entry(1)).expect("it is there");
    });
    spoiled("another version", |folder| {
        rewrite(&folder.entry(1), |bytes| {
            bytes[8] += 1;
            sign(bytes);
        });
    });
    spoiled("another length", |folder| {
        rewrite(&folder.entry(1), |bytes| {
            bytes[12] -= 1;
            sign(bytes);
        });
    });
    spoiled("another magic", |folder| {
        rewrite(&folder.entry(1), |bytes| {
            bytes[0] = b'r';
            sign(bytes);
        });
    });
}

#[test]
fn bytes_that_their_user_refuses_are_built_once_more() {
    let folder = Folder::new();
    let store = folder.store(PLENTY);
    let get = |load: fn(&[u8]) -> Option<u8>, fresh: u8| {
        store
            .get_or_build(&key(1), load, || Ok::<_, Error>((fresh, vec![fresh])))
            .expect("nothing here can fail")
    };
    assert_eq!(get(|bytes| Some(bytes[0]), 1), 1);
    assert_eq!(get(|bytes| Some(bytes[0]), 2), 1);
    assert_eq!(get(|_| None, 3), 3);
    assert_eq!(get(|bytes| Some(bytes[0]), 4), 3);
    let told = statistics(&store);
    assert_eq!((told.disk_hits, told.disk_misses, told.disk_writes, told.disk_rejected), (2, 2, 2, 1));
}

#[test]
fn what_cannot_be_built_is_not_kept() {
    let folder = Folder::new();
    let store = folder.store(PLENTY);
    let fail = || Err(Error::new(ErrorKind::Rejected, "no"));
    let error = store.get_or_build(&key(1), |_| Some(()), fail).unwrap_err();
    assert_eq!(error.to_string(), "no");
    assert!(folder.names().is_empty());
    assert!(ask(&store, 1, 10));
}

#[test]
fn threads_and_stores_share_a_folder() {
    let folder = Folder::new();
    let stores: Vec<_> = (0..3).map(|_| folder.store(20_000)).collect();
    std::thread::scope(|scope| {
        let work = |seed: u64| {
            let store = &stores[seed as usize % 3];
            for number in artefact(seed, 400) {
                let number = number % 40;
                ask(store, number.into(), 500 + 20 * usize::from(number));
            }
        };
        let threads: Vec<_> = (0..6).map(|seed| scope.spawn(move || work(seed))).collect();
        // Joined and not only waited for: ThreadSanitizer sees no other end of a thread.
        threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
    });
    let mut told = Vec::from_iter(stores.iter().map(statistics));
    for told in &told {
        assert_eq!((told.disk_rejected, told.disk_unwritten), (0, 0), "{told}");
        assert_eq!(told.disk_problem, None);
        assert_eq!(told.disk_hits + told.disk_misses, 800);
    }
    told.retain(|told| told.disk_hits > 0 && told.disk_evictions > 0);
    assert_eq!(told.len(), 3, "the test found nothing to share and nothing to evict");
}
