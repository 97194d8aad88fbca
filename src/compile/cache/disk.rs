//! What is kept on disk: artefacts that are dear to make, for this process and those after it.
//!
//! Nothing here can fail a launch. What cannot be read is built, what cannot be written is not kept; the statistics
//! count it and say why.

use super::entry::{self, Found, HEADER};
use super::folder::{self, Kind, Temporary};
use super::key::Key;
use super::statistics::CacheStatistics;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Mutex, lock};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// A folder of artefacts, each under its [`Key`]. Safe between threads and between processes: an entry appears whole
/// under its name or not at all.
pub(crate) struct Store {
    /// Where, or why nowhere.
    place: Result<PathBuf, String>,
    /// Bytes of all entries together, at most.
    capacity: u64,
    /// The folder has been made and looked at; or why it cannot be used.
    prepared: Mutex<Option<Result<(), String>>>,
    /// The last thing that went wrong.
    problem: Mutex<Option<String>>,
    usage: Mutex<Usage>,
    counts: Counts,
}

/// Bytes in the folder. One writer of a process at a time makes room; the lock is not held while anything is built.
#[derive(Default)]
struct Usage {
    /// Not counted yet: `None`.
    bytes: Option<u64>,
    /// Written, or about to be, since they were counted.
    written: u64,
}

impl Usage {
    fn take(&mut self, bytes: u64) {
        self.bytes = self.bytes.map(|counted| counted + bytes);
        self.written += bytes;
    }
}

#[derive(Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    writes: AtomicU64,
    unwritten: AtomicU64,
    rejected: AtomicU64,
    evictions: AtomicU64,
}

/// Relaxed: numbers for people, which guard nothing.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Store {
    /// A store in a folder, or the reason why there is none. The folder is made and looked at when it is first
    /// needed.
    pub fn new(place: Result<PathBuf, String>, capacity: u64) -> Self {
        Self {
            place,
            capacity,
            prepared: Mutex::new(None),
            problem: Mutex::new(None),
            usage: Mutex::new(Usage::default()),
            counts: Counts::default(),
        }
    }

    /// The artefact of a key: `load` makes it of the bytes that are kept, or else `build` makes it and the bytes to
    /// keep.
    ///
    /// The bytes that `load` gets are those that a `build` made for this key, to the last bit. It still looks whether
    /// they are what it can use, and says `None` if not: then the entry is dropped and built once more.
    ///
    /// # Errors
    ///
    /// What `build` says, and nothing else.
    #[cfg_attr(
        not(any(test, feature = "cuda", feature = "jit", feature = "wgpu")),
        expect(dead_code, reason = "the interpreter's code is not kept")
    )]
    pub fn get_or_build<T, E>(
        &self,
        key: &Key,
        load: impl FnOnce(&[u8]) -> Option<T>,
        build: impl FnOnce() -> Result<(T, Vec<u8>), E>,
    ) -> Result<T, E> {
        let Some(folder) = self.folder() else { return build().map(|(artefact, _)| artefact) };
        if let Some(artefact) = self.look(folder, key, load) {
            count(&self.counts.hits);
            return Ok(artefact);
        }
        count(&self.counts.misses);
        let (artefact, bytes) = build()?;
        self.write(folder, key, &bytes, |file| {
            file.write_all(&entry::header(key, &bytes))?;
            file.write_all(&bytes)
        });
        Ok(artefact)
    }

    /// What `load` makes of the entry of a key. One that must not be used is removed.
    pub(super) fn look<T>(
        &self,
        folder: &Path,
        key: &Key,
        load: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let path = folder::entry(folder, key);
        match entry::read(&path, key, self.capacity) {
            Ok(Found::Nothing) => return None,
            Ok(Found::Artefact(bytes)) => {
                if let Some(artefact) = load(&bytes) {
                    return Some(artefact);
                }
            }
            Ok(Found::Rejected) => {}
            Err(error) => {
                self.failed(&path, "read", &error);
                return None;
            }
        }
        count(&self.counts.rejected);
        // Another process may have put a good one there meanwhile; then that is built once more, too.
        if let Err(error) = remove(&path) {
            self.failed(&path, "removed", &error);
        }
        None
    }

    /// The folder, if it can be used.
    fn folder(&self) -> Option<&Path> {
        let folder = self.place.as_ref().ok()?;
        let mut prepared = lock(&self.prepared);
        prepared.get_or_insert_with(|| folder::prepare(folder)).is_ok().then_some(folder)
    }

    fn failed(&self, path: &Path, what: &str, error: &io::Error) {
        *lock(&self.problem) = Some(format!("{} could not be {what}: {error}", path.display()));
    }

    /// Keeps an artefact, or counts that it could not; `fill` writes its file.
    pub(super) fn write(
        &self,
        folder: &Path,
        key: &Key,
        bytes: &[u8],
        fill: impl Fn(&mut File) -> io::Result<()>,
    ) {
        let size = (HEADER + bytes.len()) as u64;
        let kept = self.make_room(folder, size) && {
            // A second try, if somebody removed the folder, or the file from it.
            let kept = write_once(folder, key, &fill).or_else(|error| {
                if error.kind() != io::ErrorKind::NotFound {
                    return Err(error);
                }
                folder::prepare(folder).map_err(io::Error::other)?;
                write_once(folder, key, &fill)
            });
            kept.map_err(|error| self.failed(&folder::entry(folder, key), "written", &error)).is_ok()
        };
        count(if kept { &self.counts.writes } else { &self.counts.unwritten });
    }

    /// Sees to it that so many bytes more are not too many, and counts them: before they are written, so that two
    /// threads do not take the same room. What comes to nothing is put right at the next count.
    fn make_room(&self, folder: &Path, size: u64) -> bool {
        if size > self.capacity {
            let text = format!(
                "an artefact of {size} bytes is more than all of the {} that may be kept",
                self.capacity
            );
            *lock(&self.problem) = Some(text);
            return false;
        }
        let mut usage = lock(&self.usage);
        // Others write too: what is there is counted again now and then, so that each process that shares the folder
        // can exceed its bound by an eighth.
        let recent = usage.written <= self.capacity / 8;
        if let Some(bytes) = usage.bytes
            && recent
            && bytes + size <= self.capacity
        {
            usage.take(size);
            return true;
        }
        // An eighth more than is needed goes, so that not every write of a full folder has to look at every file.
        let most = (self.capacity - self.capacity / 8).min(self.capacity - size);
        let bytes = match self.shrink(folder, self.capacity - size, most) {
            Ok(bytes) => bytes,
            // The folder is gone; the write makes it again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => {
                self.failed(folder, "listed", &error);
                return false;
            }
        };
        *usage = Usage { bytes: Some(bytes), written: 0 };
        let fits = bytes + size <= self.capacity;
        if fits {
            usage.take(size);
        }
        fits
    }

    /// Counts the bytes in the folder; if they are more than `limit`, removes entries not used for longest until they
    /// are `most`. Returns how many are left. Files that dead writers left go in any case.
    fn shrink(&self, folder: &Path, limit: u64, most: u64) -> io::Result<u64> {
        let mut files = Vec::new();
        let mut bytes = 0;
        for file in list(folder)? {
            if file.kind == Kind::Temporary && folder::left_over(&file.path) && remove(&file.path).is_ok() {
                continue;
            }
            bytes += file.size;
            if file.kind == Kind::Entry {
                files.push(file);
            }
        }
        if bytes <= limit {
            return Ok(bytes);
        }
        files.sort_unstable_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        for file in files {
            if bytes <= most {
                break;
            }
            match remove(&file.path) {
                Ok(()) => {
                    count(&self.counts.evictions);
                    bytes -= file.size;
                }
                Err(error) => self.failed(&file.path, "removed", &error),
            }
        }
        Ok(bytes)
    }

    /// Removes all entries, whichever process wrote them.
    ///
    /// # Errors
    ///
    /// Unavailable, if some could not be removed; the others are.
    pub fn clear(&self) -> Result<()> {
        // Nothing to remove is no reason to make the folder.
        if self.place.as_ref().is_ok_and(|folder| !folder.exists()) {
            return Ok(());
        }
        let Some(folder) = self.folder() else { return Ok(()) };
        let mut usage = lock(&self.usage);
        *usage = Usage::default();
        let files = match list(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err((folder.to_owned(), error)),
            files => Ok(files.unwrap_or_default()),
        };
        let removed = files.and_then(|files| {
            let mut result = Ok(());
            for Listed { path, kind, .. } in files {
                if (kind == Kind::Entry || folder::left_over(&path))
                    && let Err(error) = remove(&path)
                {
                    result = Err((path, error));
                }
            }
            result
        });
        removed.map_err(|(path, error)| {
            let text = format!("the cache could not be cleared: {}: {error}", path.display());
            Error::new(ErrorKind::Unavailable, text)
        })
    }

    /// Fills in what the statistics say about the disk.
    pub(super) fn report(&self, statistics: &mut CacheStatistics) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let place = self.place.clone().and_then(|folder| match &*lock(&self.prepared) {
            Some(Err(reason)) => Err(format!("{}: {reason}", folder.display())),
            _ => Ok(folder),
        });
        statistics.disk_problem = place.as_ref().err().cloned().or_else(|| lock(&self.problem).clone());
        statistics.disk_folder = place.ok();
        statistics.disk_hits = load(&self.counts.hits);
        statistics.disk_misses = load(&self.counts.misses);
        statistics.disk_writes = load(&self.counts.writes);
        statistics.disk_unwritten = load(&self.counts.unwritten);
        statistics.disk_rejected = load(&self.counts.rejected);
        statistics.disk_evictions = load(&self.counts.evictions);
        statistics.disk_bytes = lock(&self.usage).bytes.unwrap_or(0);
    }
}

fn write_once(folder: &Path, key: &Key, fill: impl Fn(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut temporary = Temporary::new(folder)?;
    fill(&mut temporary.file)?;
    temporary.keep(folder, key)
}

/// A file of the cache's.
struct Listed {
    path: PathBuf,
    kind: Kind,
    size: u64,
    used: SystemTime,
}

/// The cache's files in a folder; those that go while it is read may be missing.
fn list(folder: &Path) -> io::Result<Vec<Listed>> {
    let mut files = Vec::new();
    for file in folder.read_dir()? {
        let file = file?;
        let kind = file.file_name().to_str().map_or(Kind::Foreign, folder::kind);
        if kind == Kind::Foreign {
            continue;
        }
        let Ok(metadata) = file.metadata() else { continue };
        let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        files.push(Listed { path: file.path(), kind, size: metadata.len(), used });
    }
    Ok(files)
}

/// Removes a file; one that another process has removed is gone as well.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
