//! What the cache tells about itself.

use std::fmt;
use std::path::PathBuf;

/// What a runtime's cache of compiled handlers holds, and what happened since the runtime was built.
///
/// Each number is right by itself; while other threads launch kernels, two of them may be of slightly different
/// times.
///
/// # Example
///
/// ```
/// let runtime = ringwork::Runtime::new()?;
/// println!("{}", runtime.cache_statistics());
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStatistics {
    /// Launches of device kernels, and of entry points, whose code was there, or was being compiled by another thread
    /// already.
    pub hits: u64,
    /// Launches that compiled theirs, or failed to.
    pub misses: u64,
    /// Handlers and entry points that had to go for others.
    pub evictions: u64,
    /// Handlers and entry points in memory now.
    pub entries: usize,
    /// How many there is room for in memory: as many of each as
    /// [`memory_capacity`](crate::CacheSettings::memory_capacity) says.
    pub capacity: usize,
    /// The folder on disk, unless it is off. It need not be there: it is made when it is first needed.
    pub disk_folder: Option<PathBuf>,
    /// Why the folder is not used, or why the last thing that was not kept in it was not; `None` if all is well.
    pub disk_problem: Option<String>,
    /// Artefacts found on disk, whole and right.
    pub disk_hits: u64,
    /// Artefacts looked for on disk and built because they were not there, or were rejected.
    pub disk_misses: u64,
    /// Artefacts written to disk.
    pub disk_writes: u64,
    /// Artefacts that could not be written, or are larger than the folder may be.
    pub disk_unwritten: u64,
    /// Files found damaged, incomplete, of another version or key, or not the user's own: never used, and removed.
    pub disk_rejected: u64,
    /// Files that had to go for others.
    pub disk_evictions: u64,
    /// Bytes in the folder, as counted at the runtime's first write (0 before), and kept up with its own writes
    /// since; what other processes write is seen at the next count.
    pub disk_bytes: u64,
}

impl fmt::Display for CacheStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hits, misses, evictions, entries, capacity, .. } = self;
        let disk = match &self.disk_folder {
            None => format!("off ({})", self.disk_problem.as_deref().unwrap_or("no reason")),
            Some(folder) => format!(
                "{} bytes in {}, {} hits, {} misses, {} writes, {} unwritten, {} rejected, {} evictions{}",
                self.disk_bytes,
                folder.display(),
                self.disk_hits,
                self.disk_misses,
                self.disk_writes,
                self.disk_unwritten,
                self.disk_rejected,
                self.disk_evictions,
                self.disk_problem.as_ref().map_or(String::new(), |problem| format!("; {problem}"))
            ),
        };
        write!(
            f,
            "memory: {entries} of {capacity} handlers and entry points, {hits} hits, {misses} misses, {evictions} evictions; \
             disk: {disk}"
        )
    }
}
