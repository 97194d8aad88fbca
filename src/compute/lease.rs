//! Who has a buffer, and what for: many that read, or one that writes.

use super::buffer::BoundTable;
use super::buffer_handle::BufferHandle;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::lock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a kernel does with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Its handler declares it `read`.
    Read,
    /// `read_write`, but it is written by atomics only.
    Atomic,
    /// `read_write`, and written in other ways, too.
    Write,
    /// As `Write`; its owner says that others may use it meanwhile.
    SharedWrite,
}

impl Access {
    pub(crate) fn may_write(self) -> bool {
        self != Self::Read
    }

    /// May another kernel have the buffer for this, too?
    fn goes_with(self, other: Self) -> bool {
        self != Self::Write && other != Self::Write
    }
}

/// A table of a kernel that a buffer is bound to.
pub(super) struct Holder {
    lease: u64,
    kernel: String,
    table: String,
    access: Access,
}

impl Holder {
    /// Its kernel, if that may write.
    pub fn writer(&self) -> Option<String> {
        self.access.may_write().then(|| format!("kernel `{}`", self.kernel))
    }
}

/// A buffer's being bound to a running kernel, from its launch until it is gone. Meanwhile what the host writes is sent at
/// once.
pub(crate) struct Lease {
    shared: BufferHandle,
    id: u64,
    access: Access,
}

impl Lease {
    /// Gives the buffer to a kernel, with the host's values on the device.
    ///
    /// # Errors
    ///
    /// `Conflict` if somebody has it in a way that does not go with this one, or both sides were written; `Invalid` if it
    /// has no values and the kernel only reads; what a transfer may fail with.
    pub(crate) fn take(bound: &BoundTable, kernel: &str, table: &str, access: Access) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only that no two are the same matters.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let shared = bound.shared.clone();
        {
            let mut holders = lock(&shared.holders);
            if let Some(other) = holders.iter().find(|other| !access.goes_with(other.access)) {
                let (writer, what) = match access {
                    Access::Write => (table, "which writes it"),
                    _ => (other.table.as_str(), "which reads it"),
                };
                let holder = match other.access {
                    Access::Write => "which writes it",
                    _ => "which reads it",
                };
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "table `{table}` of kernel `{kernel}`, {what}: kernel `{}` has the same buffer as its table \
                         `{}`, {holder}; terminate one of them first, write by atomics only, or let the one that \
                         writes `.share(\"{writer}\")`",
                        other.kernel, other.table
                    ),
                ));
            }
            let (kernel, table) = (kernel.to_owned(), table.to_owned());
            holders.push(Holder { lease: id, kernel, table, access });
        }
        let lease = Self { shared, id, access };
        lease.shared.prepare(access.may_write())?;
        Ok(lease)
    }

    /// The kernel begins to run messages.
    pub(crate) fn begin(&self) {
        if self.access.may_write() {
            self.shared.begin_writing();
        }
    }

    /// … and has ended them: what they wrote is there. Once for each [`begin`](Self::begin).
    pub(crate) fn end(&self) {
        if self.access.may_write() {
            self.shared.end_writing();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.shared.holders).retain(|holder| holder.lease != self.id);
    }
}

/// Checks what one kernel binds: it may have a buffer twice only to do the same with it, and not to write it.
///
/// # Errors
///
/// `Conflict`, with both names.
pub(crate) fn check_twice(kernel: &str, tables: &[(&str, &BoundTable, Access)]) -> Result<()> {
    for (index, (name, bound, access)) in tables.iter().enumerate() {
        let twin = tables[..index].iter().find(|(_, other, _)| bound.is(other));
        let Some((first, _, other)) = twin else { continue };
        if access == other && matches!(access, Access::Read | Access::Atomic) {
            continue;
        }
        return Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "kernel `{kernel}`: one buffer is bound to the tables `{first}` and `{name}`, and a handler that writes \
                 a table may have it under one name only"
            ),
        ));
    }
    Ok(())
}
