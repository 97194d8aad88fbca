//! References to a buffer: the last one to a buffer of a pool gives it back, with all that was made for it.

use super::shared::Shared;
use std::ops::Deref;
use std::sync::Arc;

/// A buffer, as its users, kernels and their settings have it.
#[derive(Clone)]
pub(crate) struct BufferHandle(Option<Arc<Shared>>);

impl BufferHandle {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(Some(shared))
    }

    /// Is it the same buffer?
    pub fn is(&self, other: &Self) -> bool {
        std::ptr::eq(&**self, &**other)
    }
}

impl Deref for BufferHandle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        self.0.as_ref().expect("taken out when this is dropped")
    }
}

impl Drop for BufferHandle {
    fn drop(&mut self) {
        let Some(mut shared) = self.0.take() else { return };
        // Of two that go at once none may be the last here: then the block goes back alone, as where a kernel still has it,
        // or a backend remembers that it was bound.
        if let Some(loan) = Arc::get_mut(&mut shared).and_then(Shared::leave) {
            loan.give_back(shared);
        }
    }
}
