//! Blocks of a pool while buffers have them.

use super::pool::Inner;
use crate::backend::DeviceStorage;
use crate::error::Result;
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// As much of a block as its buffer asked for, for the buffer and for kernels. A handler that cannot be stopped may have it
/// for longer than there is a buffer: the block goes back behind the last one that has it.
pub(super) struct Lent {
    /// Whose block it is; nobody's while it is in the pool.
    pool: Option<Arc<Inner>>,
    /// Taken out when this is dropped.
    block: Option<Arc<dyn DeviceStorage>>,
    /// What was asked for, where the block is larger.
    part: Option<Arc<dyn DeviceStorage>>,
    size: usize,
    asked: usize,
}

impl Lent {
    /// A block of so many bytes that is in no pool and that nobody has.
    pub fn new(block: Arc<dyn DeviceStorage>, size: usize) -> Self {
        Self { pool: None, block: Some(block), part: None, size, asked: size }
    }

    /// The block of a pool, if nothing else has it.
    pub fn of(storage: &mut Arc<dyn DeviceStorage>) -> Option<&mut Self> {
        let storage: &mut dyn Any = Arc::get_mut(storage)?;
        storage.downcast_mut()
    }

    /// Lends so many bytes of the block.
    pub fn lend(&mut self, pool: &Arc<Inner>, asked: usize) {
        if asked != self.asked {
            self.part = (asked < self.size).then(|| pool.device.prefix(self.block(), asked));
            self.asked = asked;
        }
        self.pool = Some(pool.clone());
    }

    /// Is lent no longer, if it was: what to do with it.
    pub fn end(&mut self) -> Option<Loan> {
        let pool = self.pool.take()?;
        Some(Loan { pool, size: self.size, asked: self.asked })
    }

    fn block(&self) -> &dyn DeviceStorage {
        &**self.block.as_ref().expect("taken out when this is dropped")
    }

    fn storage(&self) -> &dyn DeviceStorage {
        self.part.as_ref().map_or_else(|| self.block(), |part| &**part)
    }
}

/// A loan that has ended: the block is to go back to its pool.
pub(super) struct Loan {
    pub pool: Arc<Inner>,
    pub size: usize,
    pub asked: usize,
}

impl DeviceStorage for Lent {
    fn read(&self, offset: usize, into: &mut [u8], deadline: Instant) -> Result<()> {
        self.storage().read(offset, into, deadline)
    }

    fn write(&self, offset: usize, from: &[u8], deadline: Instant) -> Result<()> {
        self.storage().write(offset, from, deadline)
    }

    fn clear(&self, deadline: Instant) -> Result<()> {
        self.storage().clear(deadline)
    }

    fn as_any(&self) -> &dyn Any {
        self.storage().as_any()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Nobody has the part any more when others may have the block.
        self.part = None;
        if let (Some(loan), Some(block)) = (self.end(), self.block.take()) {
            loan.give_back_block(block);
        }
    }
}
