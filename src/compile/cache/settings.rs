//! What is asked of the cache: by the program, and from outside of it.

use super::folder::{self, Temporary, default_folder};
use crate::error::{Error, ErrorKind, Result};
use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Handlers kept in memory, at most.
const MEMORY_CAPACITIES: RangeInclusive<usize> = 0..=1 << 20;
/// Bytes kept on disk: at least a few artefacts of usual size.
const DISK_CAPACITIES: RangeInclusive<u64> = 64 << 10..=1 << 40;
/// The variable that names the folder from outside.
pub(crate) const VARIABLE: &str = "RINGWORK_CACHE";

/// How a runtime keeps compiled handlers: so many in memory, and what is dear to compile in a folder on disk.
///
/// Kernels with the same handler (source text, message and state types, outputs, tables, loop budget and the field
/// that names the instance; the kernel's name does not matter) share one compilation. The folder may be shared by any
/// number of processes. Machine code for the CPU is kept there, what NVRTC makes of handlers, and what drivers of GPUs
/// do, where they give it out (Vulkan); what the interpreter runs is not.
///
/// The folder is the first of these that is set: what [`disk_folder`](Self::disk_folder) or
/// [`without_disk`](Self::without_disk) says; the environment variable `RINGWORK_CACHE`, a folder or `off`; and
/// `ringwork` in the user's cache folder, which is `$XDG_CACHE_HOME` or `~/.cache`, on macOS `~/Library/Caches`, on
/// Windows `%LOCALAPPDATA%`. A folder that cannot be used is no error: the runtime does without it, and
/// [`CacheStatistics::disk_problem`](crate::CacheStatistics::disk_problem) says why.
///
/// # Example
///
/// ```
/// use ringwork::{CacheSettings, RingKernel, Runtime, message};
///
/// message! { pub struct Number { pub n: u32 } }
///
/// let runtime = Runtime::builder().cache(CacheSettings::new().memory_capacity(16).without_disk()).build()?;
/// for name in ["first", "second"] {
///     let text = "fn on_message(m: Number) -> Number { return Number(m.n + 1u); }";
///     runtime.launch(RingKernel::<Number, Number>::wgsl(name, text))?;
/// }
/// let statistics = runtime.cache_statistics();
/// assert_eq!((statistics.misses, statistics.hits), (1, 1));
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "settings do nothing until a runtime is built with them"]
pub struct CacheSettings {
    memory_capacity: usize,
    disk: Disk,
    disk_capacity: u64,
}

/// Whether and where to keep things on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Disk {
    /// Whatever the environment says.
    Default,
    Off,
    Folder(PathBuf),
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { memory_capacity: 256, disk: Disk::Default, disk_capacity: 256 << 20 }
    }
}

impl CacheSettings {
    /// 256 handlers in memory, and 256 MiB in the folder named [above](Self).
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is kept, neither in memory nor on disk: every launch compiles.
    pub fn disabled() -> Self {
        Self::new().memory_capacity(0).without_disk()
    }

    /// Handlers kept in memory, those used last (0 to 1,048,576; 256 unless set). With 0 none is kept, and none is
    /// shared. Kernels that run keep their own handler whatever happens here.
    pub fn memory_capacity(mut self, handlers: usize) -> Self {
        self.memory_capacity = handlers;
        self
    }

    /// The folder for what is kept on disk; it is made when it is first needed. It has to belong to the user whom the
    /// process runs as, and nobody else may be able to write in it. A relative path is looked up when the runtime is
    /// built.
    ///
    /// Only files that the cache itself has made, by their names, are ever removed from it.
    pub fn disk_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.disk = Disk::Folder(folder.into());
        self
    }

    /// Bytes the folder may hold (65,536 to 1,099,511,627,776; 268,435,456 unless set); what was not used for
    /// longest goes first. Every process that shares the folder keeps it to its own setting.
    pub fn disk_capacity(mut self, bytes: u64) -> Self {
        self.disk_capacity = bytes;
        self
    }

    /// Keeps nothing on disk.
    pub fn without_disk(mut self) -> Self {
        self.disk = Disk::Off;
        self
    }

    /// The folder on disk, which is made if it was not there, and looked at whether it can be used: it belongs to the
    /// user alone, and can be written to.
    ///
    /// A runtime does not need this: it does without a folder that cannot be used.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::CacheSettings;
    ///
    /// match CacheSettings::new().usable_folder() {
    ///     Ok(folder) => println!("machine code is kept in {}", folder.display()),
    ///     Err(error) => println!("machine code is not kept: {error}"),
    /// }
    /// assert!(CacheSettings::disabled().usable_folder().is_err_and(|error| error.is_unavailable()));
    /// ```
    ///
    /// # Errors
    ///
    /// [unavailable](Error::is_unavailable) with the folder and the reason, if it cannot be used or is off;
    /// [invalid](Error::is_invalid) for a setting out of its bounds.
    pub fn usable_folder(&self) -> Result<PathBuf> {
        let unavailable = |reason| Error::new(ErrorKind::Unavailable, reason);
        let folder = self.resolve(std::env::var_os(VARIABLE).as_deref())?.folder.map_err(unavailable)?;
        let in_folder = |reason| unavailable(format!("{}: {reason}", folder.display()));
        folder::prepare(&folder).map_err(in_folder)?;
        Temporary::new(&folder).map_err(|error| in_folder(format!("it cannot be written to: {error}")))?;
        Ok(folder)
    }

    /// Checks every setting; `variable` is what `RINGWORK_CACHE` says.
    ///
    /// # Errors
    ///
    /// The first one that does not hold: setting, value and bound.
    pub(super) fn resolve(&self, variable: Option<&OsStr>) -> Result<Resolved> {
        within("cache memory_capacity", self.memory_capacity, &MEMORY_CAPACITIES)?;
        within("cache disk_capacity", self.disk_capacity, &DISK_CAPACITIES)?;
        let folder = match (&self.disk, variable) {
            (Disk::Off, _) => Err("the runtime was built without it".to_owned()),
            (Disk::Folder(folder), _) => Ok(absolute("cache disk_folder", folder, "a folder")?),
            (Disk::Default, Some(value)) if value == "off" => Err(format!("{VARIABLE} is `off`")),
            (Disk::Default, Some(value)) => Ok(absolute(VARIABLE, Path::new(value), "a folder or `off`")?),
            (Disk::Default, None) => default_folder(|name| std::env::var_os(name), std::env::home_dir()),
        };
        Ok(Resolved { memory_capacity: self.memory_capacity, folder, disk_capacity: self.disk_capacity })
    }
}

/// Settings that have been checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub memory_capacity: usize,
    /// Where to keep things on disk, or why nowhere.
    pub folder: Result<PathBuf, String>,
    pub disk_capacity: u64,
}

fn within<T: PartialOrd + std::fmt::Display>(
    setting: &str,
    value: T,
    bounds: &RangeInclusive<T>,
) -> Result<()> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(invalid(format!("{setting} is {value}, but must be {} to {}", bounds.start(), bounds.end())))
}

/// The folder whatever the process's own folder becomes later.
fn absolute(setting: &str, folder: &Path, wanted: &str) -> Result<PathBuf> {
    if folder.as_os_str().is_empty() {
        return Err(invalid(format!("{setting} is empty, but must be {wanted}")));
    }
    std::path::absolute(folder)
        .map_err(|error| invalid(format!("{setting} is `{}`, which is no folder: {error}", folder.display())))
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(settings: &CacheSettings, variable: Option<&str>) -> Result<PathBuf, String> {
        settings.resolve(variable.map(OsStr::new)).expect("good settings").folder
    }

    #[test]
    fn code_goes_before_the_environment() {
        let here = std::env::current_dir().expect("there is one");
        let default = CacheSettings::new();
        assert_eq!(folder(&default, Some("off")), Err("RINGWORK_CACHE is `off`".to_owned()));
        assert_eq!(folder(&default, Some("some/where")), Ok(here.join("some/where")));
        assert_ne!(folder(&default, None), folder(&default, Some("off")));
        for variable in [None, Some("off"), Some("/else/where"), Some("")] {
            let set = CacheSettings::new().disk_folder("mine");
            assert_eq!(folder(&set, variable), Ok(here.join("mine")));
            let off = CacheSettings::new().without_disk();
            assert_eq!(folder(&off, variable), Err("the runtime was built without it".to_owned()));
        }
    }

    #[test]
    fn bounds_are_allowed_and_what_is_beyond_them_is_named() {
        let refused = |settings: CacheSettings, variable: Option<&str>, wanted: &str| {
            let error = settings.resolve(variable.map(OsStr::new)).expect_err("this should be an error");
            assert!(error.is_invalid());
            assert_eq!(error.to_string(), wanted);
        };
        let new = CacheSettings::new;
        refused(
            new().memory_capacity(1_048_577),
            None,
            "cache memory_capacity is 1048577, but must be 0 to 1048576",
        );
        for bytes in [0, 65_535, 1_099_511_627_777] {
            refused(
                new().disk_capacity(bytes),
                None,
                &format!("cache disk_capacity is {bytes}, but must be 65536 to 1099511627776"),
            );
        }
        refused(new(), Some(""), "RINGWORK_CACHE is empty, but must be a folder or `off`");
        refused(new().disk_folder(""), None, "cache disk_folder is empty, but must be a folder");
        for (memory, disk) in [(0, 65_536), (1_048_576, 1_099_511_627_776)] {
            let resolved = new().memory_capacity(memory).disk_capacity(disk).resolve(None).unwrap();
            assert_eq!((resolved.memory_capacity, resolved.disk_capacity), (memory, disk));
        }
        assert_eq!(CacheSettings::disabled(), new().memory_capacity(0).without_disk());
    }
}
