//! A part of a buffer.

use super::buffer::UnifiedBuffer;
use super::copy::no_memory;
use super::view::BufferView;
use super::views::{Elements, HostView, HostViewMut};
use crate::error::Result;
use bytemuck::Pod;
use std::fmt;
use std::ops::Range;

/// Some elements of a [`UnifiedBuffer`], next to each other; [`UnifiedBuffer::slice`] makes it.
///
/// Its calls are those of the buffer with the same names, for its own elements; those that write mark, and send, no others.
///
/// # Example
///
/// ```
/// let runtime = ringwork::Runtime::new()?;
/// let buffer = runtime.buffer(&[1u32, 2, 3, 4])?;
/// let middle = buffer.slice(1..3)?;
/// middle.fill(7)?;
/// assert_eq!((middle.len(), middle.to_vec()?), (2, vec![7, 7]));
/// middle.copy_from(&[8, 9])?;
/// assert_eq!(buffer.to_vec()?, [1, 8, 9, 4]);
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone)]
pub struct BufferSlice<'a, T> {
    buffer: &'a UnifiedBuffer<T>,
    range: Range<usize>,
}

impl<T> fmt::Debug for BufferSlice<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {:?}", self.range, self.buffer)
    }
}

impl<'a, T: Pod> BufferSlice<'a, T> {
    /// These elements of a buffer, which has them.
    pub(super) fn new(buffer: &'a UnifiedBuffer<T>, range: Range<usize>) -> Self {
        Self { buffer, range }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Has it no elements?
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The place of its first element in the buffer.
    pub fn offset(&self) -> usize {
        self.range.start
    }

    /// It, to be sent in a message.
    ///
    /// # Errors
    ///
    /// As [`UnifiedBuffer::view`].
    pub fn view(&self) -> Result<BufferView> {
        self.buffer.view(self.range.clone())
    }

    /// Its part of the host's copy, to be read. The copy is brought up to date as a whole.
    ///
    /// # Errors
    ///
    /// As [`UnifiedBuffer::host`].
    pub fn host(&self) -> Result<HostView<'a, T>> {
        HostView::new(self.buffer.shared(), self.buffer.bytes(self.range.clone()))
    }

    /// Its part of the host's copy, to be read and written. The copy is brought up to date as a whole.
    ///
    /// # Errors
    ///
    /// As [`UnifiedBuffer::host`].
    pub fn host_mut(&self) -> Result<HostViewMut<'a, T>> {
        HostViewMut::new(self.buffer.shared(), self.buffer.bytes(self.range.clone()))
    }

    /// Its elements, one after the other.
    ///
    /// # Errors
    ///
    /// As [`UnifiedBuffer::host`].
    pub fn iter(&self) -> Result<Elements<'a, T>> {
        Ok(Elements::new(self.host()?))
    }

    /// A copy of its elements, which moves no others, as [`UnifiedBuffer::read`].
    ///
    /// # Errors
    ///
    /// As [`UnifiedBuffer::host`].
    pub fn to_vec(&self) -> Result<Vec<T>> {
        let values = bytemuck::try_zeroed_vec(self.len());
        let mut values = values.map_err(|()| no_memory(self.len() * size_of::<T>()))?;
        self.buffer.read(self.range.start, &mut values)?;
        Ok(values)
    }

    /// Writes `values` over its elements.
    ///
    /// # Errors
    ///
    /// [invalid](crate::Error::is_invalid) if they are not as many; else as [`UnifiedBuffer::write`].
    pub fn copy_from(&self, values: &[T]) -> Result<()> {
        self.buffer.check_count(values.len(), self.len())?;
        self.buffer.write(self.range.start, values)
    }

    /// Makes its elements this value.
    ///
    /// # Errors
    ///
    /// As [`UnifiedBuffer::write`].
    pub fn fill(&self, value: T) -> Result<()> {
        self.buffer.fill_range(self.range.clone(), value)
    }
}
