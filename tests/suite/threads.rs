//! Threads of tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

/// As [`std::thread::Scope`].
pub struct Scope<'scope, 'env: 'scope> {
    inner: &'scope std::thread::Scope<'scope, 'env>,
    ended: Arc<AtomicUsize>,
}

/// As [`std::thread::scope`]. That all its threads did comes before its end is so there, too, but inside of std, which is not
/// instrumented, so that ThreadSanitizer does not see it.
pub fn scope<'env, T>(body: impl for<'scope> FnOnce(&Scope<'scope, 'env>) -> T) -> T {
    let ended = Arc::new(AtomicUsize::new(0));
    let value = std::thread::scope(|inner| body(&Scope { inner, ended: ended.clone() }));
    // Acquire pairs with the threads' release.
    ended.load(Ordering::Acquire);
    value
}

impl<'scope> Scope<'scope, '_> {
    pub fn spawn<T: Send + 'scope>(
        &self,
        body: impl FnOnce() -> T + Send + 'scope,
    ) -> ScopedJoinHandle<'scope, T> {
        let ended = self.ended.clone();
        self.inner.spawn(move || {
            let value = body();
            // Release pairs with the scope's acquire.
            ended.fetch_add(1, Ordering::Release);
            value
        })
    }
}
