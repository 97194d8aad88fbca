//! The folder on disk: where it is, whether it can be trusted, and what the files in it are called.

use super::key::Key;
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The end of an entry's name, behind its key.
const ENTRY: &str = ".entry";
/// The end of the name of a file that is being written.
const TEMPORARY: &str = ".tmp";
/// A temporary file that was written to so recently is not looked at: its writer may be about to lock it.
const FRESH: Duration = Duration::from_secs(10);
/// Where files cannot be locked, a temporary file is left over if nothing was written to it for so long.
const STALE: Duration = Duration::from_secs(3600);

/// `ringwork` in the user's cache folder, or why there is none.
pub(super) fn default_folder(
    variable: impl Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
) -> Result<PathBuf, String> {
    // A relative path in one of these is to be ignored, says the XDG base directory specification.
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let home = home.and_then(absolute);
    let of = |name| variable(name).map(PathBuf::from).and_then(absolute);
    let (parent, wanted) = if cfg!(windows) {
        (of("LOCALAPPDATA"), "LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        (home.map(|home| home.join("Library/Caches")), "HOME")
    } else {
        let cache = of("XDG_CACHE_HOME").or_else(|| home.map(|home| home.join(".cache")));
        (cache, "XDG_CACHE_HOME or HOME")
    };
    match parent {
        Some(parent) => Ok(parent.join("ringwork")),
        None => Err(format!("there is no folder for it: {wanted} is not set to an absolute path")),
    }
}

/// What a file in the folder is, by its name; whatever the cache did not name is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Entry,
    Temporary,
    Foreign,
}

pub(super) fn kind(name: &str) -> Kind {
    let digits = |name: &str, count| {
        name.len() == count && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    if name.strip_suffix(ENTRY).is_some_and(|stem| digits(stem, 2 * Key::SIZE)) {
        Kind::Entry
    } else if name.strip_suffix(TEMPORARY).is_some_and(|stem| digits(stem, 32)) {
        Kind::Temporary
    } else {
        Kind::Foreign
    }
}

/// The file of a key.
pub(super) fn entry(folder: &Path, key: &Key) -> PathBuf {
    folder.join(format!("{key}{ENTRY}"))
}

/// Makes the folder if it is not there, for its owner alone, and looks whether it can be trusted: what is in it will
/// be run, so nobody else may put anything there.
///
/// # Errors
///
/// Why it cannot be used.
pub(super) fn prepare(folder: &Path) -> Result<(), String> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| format!("it cannot be made: {error}"))?;
    let metadata = folder.metadata().map_err(|error| format!("it cannot be looked at: {error}"))?;
    owned(&metadata)
}

/// Does this belong to the user whom the process runs as, and can nobody else write to it?
///
/// Only where files have one owner and a mode. Elsewhere (Windows) the default folder lies in the user's profile,
/// which the system keeps others out of.
///
/// # Errors
///
/// Why not.
#[cfg(unix)]
pub(super) fn owned(metadata: &Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    // SAFETY: it takes nothing, reads the process's own credentials and cannot fail.
    let user = unsafe { libc::geteuid() };
    if metadata.uid() != user {
        return Err(format!("it belongs to user {}, but the process runs as user {user}", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        let mode = metadata.mode() & 0o7777;
        return Err(format!(
            "others may write to it: its mode is {mode:o}; take that from them with `chmod go-w`"
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn owned(_: &Metadata) -> Result<(), String> {
    Ok(())
}

/// Opens a file to be read. It follows no link, and does not wait for the other end of a pipe: neither is a file of
/// the cache's.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options.open(path)
}

/// A new file that will be an entry once it is whole. It is removed again unless it became one.
pub(super) struct Temporary {
    path: PathBuf,
    pub file: File,
}

impl Temporary {
    pub fn new(folder: &Path) -> io::Result<Self> {
        let path = folder.join(format!("{}{TEMPORARY}", uuid::Uuid::new_v4().simple()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path)?;
        // The lock says that its writer lives; it goes with the process, however that ends. Where there are no locks,
        // the file's age has to do.
        let _ = file.try_lock();
        Ok(Self { path, file })
    }

    /// Makes it the entry of a key, at once and whole.
    ///
    /// It is not synced first: that would cost every miss some milliseconds, and all that a power failure can do
    /// without it is to leave an entry empty or damaged, which its checksum shows. Then it is built once more.
    pub fn keep(self, folder: &Path, key: &Key) -> io::Result<()> {
        // The time of the last use; the system's own is a tick behind the clock that later uses are told by.
        let _ = self.file.set_modified(SystemTime::now());
        std::fs::rename(&self.path, entry(folder, key))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already if it was kept.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Is the writer of this temporary file gone?
pub(super) fn left_over(path: &Path) -> bool {
    let Ok(file) = open(path) else { return false };
    let written = file.metadata().and_then(|metadata| metadata.modified());
    let Some(age) = written.ok().and_then(|written| written.elapsed().ok()) else { return false };
    age > FRESH
        && match file.try_lock() {
            Ok(()) => true,
            Err(std::fs::TryLockError::WouldBlock) => false,
            Err(std::fs::TryLockError::Error(_)) => age > STALE,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(unix, not(target_os = "macos")))]
    fn the_default_folder_is_the_users() {
        let find = |cache: Option<&str>, home: Option<&str>| {
            default_folder(
                |name| cache.filter(|_| name == "XDG_CACHE_HOME").map(OsString::from),
                home.map(PathBuf::from),
            )
        };
        assert_eq!(find(Some("/c"), Some("/h")), Ok("/c/ringwork".into()));
        assert_eq!(find(None, Some("/h")), Ok("/h/.cache/ringwork".into()));
        assert_eq!(find(Some("relative"), Some("/h")), Ok("/h/.cache/ringwork".into()));
        assert_eq!(find(Some(""), Some("/h")), Ok("/h/.cache/ringwork".into()));
        for home in [None, Some(""), Some("relative")] {
            let reason = "there is no folder for it: XDG_CACHE_HOME or HOME is not set to an absolute path";
            assert_eq!(find(None, home), Err(reason.to_owned()));
        }
    }

    #[test]
    fn only_names_of_the_cache_are_its_files() {
        let key = super::super::key::KeyBuilder::new("test").finish();
        let name = entry(Path::new(""), &key);
        assert_eq!(kind(name.to_str().expect("digits")), Kind::Entry);
        assert_eq!(kind(&format!("{}.tmp", uuid::Uuid::new_v4().simple())), Kind::Temporary);
        let (long, short) = ("0".repeat(64), "0".repeat(32));
        for foreign in ["", ".entry", ".tmp", "notes.txt", "notes.tmp", &long, &short] {
            assert_eq!(kind(foreign), Kind::Foreign, "{foreign}");
        }
        for foreign in [format!("{short}.entry"), format!("{long}.tmp"), format!("{}.entry", "A".repeat(64))]
        {
            assert_eq!(kind(&foreign), Kind::Foreign, "{foreign}");
        }
    }
}
