//! Folders and files that must not be used, and disks that cannot be written to: the work is done all the same, and
//! the statistics say why nothing was kept.

use super::super::entry::HEADER;
use super::super::folder::{self, Temporary};
use super::{Folder, PLENTY, Store, artefact, ask, key, statistics};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A store that cannot use its folder still answers, and says why.
#[track_caller]
fn off(place: Result<PathBuf, String>, wanted: &str) {
    let store = Store::new(place, PLENTY);
    assert!(ask(&store, 1, 10) && ask(&store, 1, 10));
    let told = statistics(&store);
    assert_eq!(told.disk_folder, None);
    let problem = told.disk_problem.clone().expect("there is a problem");
    assert!(problem.contains(wanted), "{problem}");
    assert!(told.to_string().ends_with(&format!("; disk: off ({problem})")), "{told}");
    assert_eq!((told.disk_hits, told.disk_misses, told.disk_writes, told.disk_unwritten), (0, 0, 0, 0));
    store.clear().expect("there is nothing to clear");
}

#[test]
fn a_folder_that_cannot_be_made_is_done_without() {
    off(Err("because".to_owned()), "because");
    let folder = Folder::new();
    folder::prepare(&folder.0).unwrap();
    let file = folder.0.join("file");
    fs::write(&file, "not a folder").unwrap();
    off(Ok(file.clone()), "it cannot be made: ");
    off(Ok(file.join("below")), "it cannot be made: ");
    #[cfg(target_os = "linux")]
    off(Ok("/proc/ringwork".into()), "/proc/ringwork: it cannot be made: ");
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_the_cache_makes_is_its_owners_alone() {
        let folder = Folder::new();
        assert!(ask(&folder.store(PLENTY), 1, 10));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.0), mode(&folder.entry(1))), (0o700, 0o600));
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_done_without() {
        let folder = Folder::new();
        folder::prepare(&folder.0).unwrap();
        for (bits, wanted) in [(0o770, "770"), (0o722, "722"), (0o1777, "1777"), (0o702, "702")] {
            mode(&folder.0, bits);
            off(Ok(folder.0.clone()), &format!("others may write to it: its mode is {wanted}"));
        }
        mode(&folder.0, 0o755);
        assert!(ask(&folder.store(PLENTY), 1, 10), "others may read");
        assert_eq!(folder.names().len(), 1);
    }

    #[test]
    fn somebody_elses_folder_is_done_without() {
        let folder = Folder::new();
        folder::prepare(&folder.0).unwrap();
        // Only root can give a folder away; whoever is not root has root's at hand.
        let foreign =
            if chown(&folder.0, Some(12_345), None).is_ok() { &*folder.0 } else { Path::new("/usr") };
        off(Ok(foreign.to_owned()), "it belongs to user ");
    }

    /// A file of this kind in an entry's place is neither used nor waited for.
    #[track_caller]
    fn replaced(put: impl FnOnce(&Path)) {
        let folder = Folder::new();
        assert!(ask(&folder.store(PLENTY), 1, 10));
        put(&folder.entry(1));
        let store = folder.store(PLENTY);
        assert!(ask(&store, 1, 10), "it was used");
        assert_eq!(statistics(&store).disk_rejected, 1);
        assert!(!ask(&store, 1, 10), "it was not replaced");
    }

    #[test]
    fn files_that_the_cache_cannot_have_made_are_not_used() {
        // A link to an entry that would be right is refused as well.
        replaced(|entry| {
            let elsewhere = entry.with_extension("elsewhere");
            fs::rename(entry, &elsewhere).unwrap();
            symlink(elsewhere, entry).unwrap();
        });
        replaced(|entry| {
            fs::remove_file(entry).unwrap();
            symlink("/dev/zero", entry).unwrap();
        });
        replaced(|entry| mode(entry, 0o666));
        replaced(|entry| {
            fs::remove_file(entry).unwrap();
            let made = std::process::Command::new("mkfifo").arg(entry).status().expect("every Unix has it");
            assert!(made.success());
        });
        replaced(|entry| {
            if chown(entry, Some(12_345), None).is_err() {
                // Not root: links to root's files have been tried above.
                mode(entry, 0o622);
            }
        });
    }

    #[test]
    fn a_folder_in_an_entrys_place_is_in_the_way_and_no_more() {
        let folder = Folder::new();
        folder::prepare(&folder.0).unwrap();
        fs::create_dir(folder.entry(1)).unwrap();
        let store = folder.store(PLENTY);
        assert!(ask(&store, 1, 10) && ask(&store, 1, 10));
        let told = statistics(&store);
        assert_eq!((told.disk_rejected, told.disk_unwritten), (2, 2));
        assert!(told.disk_problem.is_some_and(|problem| problem.contains("could not be written: ")));
        assert_eq!(folder.names().len(), 1, "no temporary file stays");
    }
}

#[test]
fn a_disk_that_fills_up_loses_nothing() {
    let folder = Folder::new();
    let store = folder.store(PLENTY);
    assert!(ask(&store, 1, 1000));
    // A disk with room for 300 bytes more.
    let fill = |file: &mut File| {
        file.write_all(&[7; 300])?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    };
    store.write(&folder.0, &key(2), &artefact(2, 1000), fill);
    let told = statistics(&store);
    assert_eq!((told.disk_writes, told.disk_unwritten), (1, 1));
    let problem = told.disk_problem.expect("there is a problem");
    assert!(problem.contains("could not be written: ") && problem.contains(&key(2).to_string()), "{problem}");
    assert_eq!(folder.names().len(), 1, "what was half written is removed");
    assert!(!ask(&store, 1, 1000) && ask(&store, 2, 1000), "and when there is room again, all is well");
    assert!(!ask(&store, 2, 1000));
}

/// The same with a file system that is full in earnest.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "has to be root, and mounts a small tmpfs"]
fn a_file_system_that_is_full_or_read_only_loses_nothing() {
    let folder = Folder::new();
    folder::prepare(&folder.0).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let status = std::process::Command::new(program).args(arguments).arg(&folder.0).status();
        assert!(status.expect("it is there").success());
    };
    run("mount", &["-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs"]);
    let store = folder.store(PLENTY);
    let built = (0..20).filter(|number| ask(&store, *number, 10_000)).count();
    let found = (0..20).filter(|number| !ask(&store, *number, 10_000)).count();
    let (told, names) = (statistics(&store), folder.names().len());
    // What is there can still be read where nothing can be written.
    run("mount", &["-o", "remount,ro"]);
    let store = folder.store(PLENTY);
    let readable = (0..20).filter(|number| !ask(&store, *number, 10_000)).count();
    let reading = statistics(&store);
    run("umount", &[]);
    assert_eq!(
        (readable as u64, reading.disk_hits, reading.disk_writes),
        (told.disk_writes, told.disk_writes, 0)
    );
    assert!(reading.disk_problem.is_some_and(|problem| problem.contains("os error 30")));
    assert_eq!((built, found as u64, names), (20, told.disk_writes, found));
    assert!((3..7).contains(&found), "{told}");
    assert!(told.disk_problem.is_some_and(|problem| problem.contains("os error 28")));
}

#[test]
fn a_folder_that_is_removed_is_made_again() {
    let folder = Folder::new();
    let store = folder.store(PLENTY);
    assert!(ask(&store, 1, 10));
    fs::remove_dir_all(&folder.0).unwrap();
    assert!(ask(&store, 1, 10) && !ask(&store, 1, 10));
    let told = statistics(&store);
    assert_eq!((told.disk_writes, told.disk_unwritten, told.disk_problem), (2, 0, None));
}

/// Makes a file look as if it was written an hour ago.
pub(super) fn age(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(3500)).unwrap();
}

#[test]
fn files_of_dead_writers_go_and_those_of_living_ones_stay() {
    let folder = Folder::new();
    folder::prepare(&folder.0).unwrap();
    let dead = folder.0.join(format!("{}.tmp", "d".repeat(32)));
    let fresh = folder.0.join(format!("{}.tmp", "f".repeat(32)));
    fs::write(&dead, [1; 500]).unwrap();
    fs::write(&fresh, [2; 500]).unwrap();
    age(&dead);
    let mut living = Temporary::new(&folder.0).unwrap();
    living.file.write_all(&[3; 500]).unwrap();
    living.file.set_modified(SystemTime::now() - Duration::from_secs(3500)).unwrap();
    let store = folder.store(PLENTY);
    assert!(ask(&store, 1, 100));
    assert!(!dead.exists() && fresh.exists());
    assert_eq!(folder.names().len(), 3);
    assert_eq!(statistics(&store).disk_bytes, 1100 + HEADER as u64);
    living.keep(&folder.0, &key(2)).expect("its writer had not been robbed of it");
}

#[test]
fn clearing_takes_the_caches_files_and_no_others() {
    let folder = Folder::new();
    let store = folder.store(PLENTY);
    store.clear().expect("there is nothing to clear");
    assert!(!folder.0.exists(), "it was made to be cleared");
    let others = ["notes.txt".to_owned(), "0".repeat(64), format!("{}.tmp", "0".repeat(31))];
    assert!(ask(&store, 1, 10) && ask(&store, 2, 10));
    for other in &others {
        fs::write(folder.0.join(other), "mine").unwrap();
        age(&folder.0.join(other));
    }
    store.clear().unwrap();
    let mut left = others.to_vec();
    left.sort();
    assert_eq!(folder.names(), left);
    assert_eq!(statistics(&store).disk_bytes, 0);
    assert!(ask(&store, 1, 10) && !ask(&store, 1, 10));
}
