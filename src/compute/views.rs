//! What the host has of a buffer while it looks at it.

use super::copy::{Alone, Looking};
use super::shared::Shared;
use crate::error::Result;
use bytemuck::Pod;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

/// The host's copy of a buffer, or of a part of it, to be read as a slice; [`UnifiedBuffer::host`] makes it.
///
/// Several may be there at once. Another thread that wants to write waits until they are gone, for five seconds at most; on
/// the same one that is a [conflict](crate::Error::is_conflict). Handlers do not wait for them.
///
/// [`UnifiedBuffer::host`]: crate::UnifiedBuffer::host
///
/// # Example
///
/// ```
/// let runtime = ringwork::Runtime::new()?;
/// let buffer = runtime.buffer(&[1u32, 2, 3])?;
/// let view = buffer.host()?;
/// assert_eq!(view[1..], [2, 3]);
/// assert_eq!(view.iter().max(), Some(&3));
/// # Ok::<(), ringwork::Error>(())
/// ```
#[must_use = "a view is there to be looked at"]
pub struct HostView<'a, T> {
    copy: Looking<'a>,
    range: Range<usize>,
    _type: PhantomData<fn() -> T>,
}

impl<'a, T: Pod> HostView<'a, T> {
    pub(super) fn new(shared: &'a Shared, range: Range<usize>) -> Result<Self> {
        Ok(Self { copy: shared.view()?, range, _type: PhantomData })
    }
}

impl<T: Pod> Deref for HostView<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.copy.bytes()[self.range.clone()])
    }
}

impl<'a, T: Pod> IntoIterator for &'a HostView<'_, T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for HostView<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The elements of a buffer, one after the other, by value; [`UnifiedBuffer::iter`](crate::UnifiedBuffer::iter) makes it.
///
/// # Example
///
/// ```
/// let runtime = ringwork::Runtime::new()?;
/// let buffer = runtime.buffer(&[1u32, 2, 3])?;
/// assert_eq!(buffer.iter()?.map(|element| element * 2).collect::<Vec<_>>(), [2, 4, 6]);
/// # Ok::<(), ringwork::Error>(())
/// ```
#[must_use = "iterators are lazy"]
pub struct Elements<'a, T> {
    view: HostView<'a, T>,
    range: Range<usize>,
}

impl<'a, T: Pod> Elements<'a, T> {
    pub(super) fn new(view: HostView<'a, T>) -> Self {
        let range = 0..view.len();
        Self { view, range }
    }
}

impl<T: Pod> Iterator for Elements<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.range.next().map(|index| self.view[index])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.range.size_hint()
    }
}

impl<T: Pod> DoubleEndedIterator for Elements<'_, T> {
    fn next_back(&mut self) -> Option<T> {
        self.range.next_back().map(|index| self.view[index])
    }
}

impl<T: Pod> ExactSizeIterator for Elements<'_, T> {}

impl<T: Pod + fmt::Debug> fmt::Debug for Elements<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Elements").field(&&self.view[self.range.clone()]).finish()
    }
}

/// The host's copy of a buffer, or of a part of it, to be read and written as a slice; [`UnifiedBuffer::host_mut`] makes it.
///
/// Once it has been written, even a single element, all of it counts as written: dropping it marks that. It is alone while
/// it is there; handlers do not wait for it. If one that may write the buffer runs meanwhile, both sides were written, and
/// that is an error that [`commit`](Self::commit) returns, or else the next use of the buffer.
///
/// [`UnifiedBuffer::host_mut`]: crate::UnifiedBuffer::host_mut
///
/// # Example
///
/// ```
/// let runtime = ringwork::Runtime::new()?;
/// let buffer = runtime.buffer(&[3u32, 1, 2])?;
/// let mut view = buffer.host_mut()?;
/// view.sort();
/// view.commit()?; // or just let it go
/// assert_eq!(buffer.to_vec()?, [1, 2, 3]);
/// # Ok::<(), ringwork::Error>(())
/// ```
#[must_use = "a view is there to be written"]
pub struct HostViewMut<'a, T> {
    shared: &'a Shared,
    copy: Alone<'a>,
    range: Range<usize>,
    is_written: bool,
    _type: PhantomData<fn() -> T>,
}

impl<'a, T: Pod> HostViewMut<'a, T> {
    pub(super) fn new(shared: &'a Shared, range: Range<usize>) -> Result<Self> {
        Ok(Self { shared, copy: shared.view_mut()?, range, is_written: false, _type: PhantomData })
    }
}

impl<T> HostViewMut<'_, T> {
    /// Ends the view and says what becomes of what was written. Without kernels that have the buffer nothing can fail:
    /// the device gets it when it is needed there.
    ///
    /// # Errors
    ///
    /// [conflict](crate::Error::is_conflict) if a kernel may have written the buffer since this view was made;
    /// [timed out](crate::Error::is_timed_out) if handlers use the buffer without a pause for five seconds. What was
    /// written is in the host's copy all the same; the next write or [`ensure_on_device`] tries again.
    ///
    /// [`ensure_on_device`]: crate::UnifiedBuffer::ensure_on_device
    pub fn commit(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        match std::mem::take(&mut self.is_written) {
            true => self.shared.written(&self.copy, self.range.clone()),
            false => Ok(()),
        }
    }
}

impl<T> Drop for HostViewMut<'_, T> {
    fn drop(&mut self) {
        // The buffer remembers what it has not sent, and a conflict.
        let _ = self.finish();
    }
}

impl<T: Pod> Deref for HostViewMut<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.copy.bytes()[self.range.clone()])
    }
}

impl<T: Pod> DerefMut for HostViewMut<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.is_written = true;
        bytemuck::cast_slice_mut(&mut self.copy.bytes_mut()[self.range.clone()])
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for HostViewMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
