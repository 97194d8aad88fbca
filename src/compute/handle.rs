//! What has a buffer; the last one that has one of a pool leaves it there.

use super::shared::Shared;
use std::ops::Deref;
use std::sync::Arc;

/// A buffer, as its users, kernels and their settings have it.
#[derive(Clone)]
pub(crate) struct Handle(Option<Arc<Shared>>);

impl Handle {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(Some(shared))
    }

    /// Is it the same buffer?
    pub fn is(&self, other: &Self) -> bool {
        std::ptr::eq(&**self, &**other)
    }
}

impl Deref for Handle {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        self.0.as_ref().expect("taken out when this is dropped")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let Some(mut shared) = self.0.take() else { return };
        // Of two that go at once none may be the last here: then the memory goes back by itself, as where a kernel still
        // has it.
        if let Some(lent) = Arc::get_mut(&mut shared).and_then(Shared::leave) {
            lent.give_back(shared);
        }
    }
}
