//! Buffers that live on the device: bound to handlers by name, read and written from the host between messages.

use super::buffer_handle::BufferHandle;
use super::copy::no_memory;
use super::shared::{ALIGNMENT, BufferState, Shared};
use super::slice::BufferSlice;
use super::transfers::Transfers;
use super::view::BufferView;
use super::views::{Elements, HostView, HostViewMut};
use crate::backend::{Device, DeviceStorage};
use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

/// An array of plain values with two sides: the device's memory, which handlers see, and the host's copy of it.
///
/// Made by [`Runtime::buffer`](crate::Runtime::buffer) or from a [`MemoryPool`](crate::MemoryPool), bound to a kernel with
/// [`RingKernel::bind`](crate::RingKernel::bind). The host reads and writes it between messages: each transfer waits
/// for handlers that are using the buffer, and those wait for the transfer. Clones are the same buffer.
///
/// # Two sides
///
/// A buffer knows [where its newest values are](BufferState), and moves them when the other side needs them: once, and not
/// at all if it has them. [`transfers`](Self::transfers) counts that.
///
/// * [`host`](Self::host), [`host_mut`](Self::host_mut), [`to_vec`](Self::to_vec) and [`iter`](Self::iter) bring the host's
///   copy up to date, if a kernel that may write the buffer ran since it was made, and keep it.
/// * What is written through [`host_mut`](Self::host_mut) is marked when the view goes: all elements of the view, so
///   [a part's](Self::slice) view moves less. The device gets them when a kernel is launched with the buffer; at once if
///   one has it, for that may run at any moment.
/// * [`write`](Self::write), [`fill`](Self::fill) and [`copy_from`](Self::copy_from) write to the host's copy if it is up to
///   date, and else on the device; [`read`](Self::read) reads where the newest values are. They move no other element, and
///   a kernel that runs at the same time comes before or after them; with wgpu, before or after each 256 MiB of them.
/// * A view that was written while a kernel may have written the buffer leaves it with two versions of which neither is
///   whole. That is a [conflict](Error::is_conflict), which names both, from then on, until
///   [`keep_host`](Self::keep_host) or [`keep_device`](Self::keep_device) decides.
/// * What has no values yet cannot be read: not by the host, and not by a kernel that only reads. One that may write finds
///   zeros.
///
/// # Kernels that share a buffer
///
/// As references in Rust do: any number of kernels that read, or one that writes, from launch until `terminate`. Kernels that
/// write by atomics only count as readers here, as with atomics in Rust. A launch that breaks this is a
/// [conflict](Error::is_conflict) that names both kernels. [`RingKernel::share`](crate::RingKernel::share) lifts it for a
/// table whose writes others may see in the middle: each word of it is then old or new, and each message of a kernel sees
/// what the messages that were answered before it was sent have written.
///
/// # Example
///
/// ```
/// use ringwork::{RingKernel, Runtime, message};
/// use std::time::Duration;
///
/// message! { pub struct Key { pub index: u32 } }
/// message! { pub struct Value { pub value: f32 } }
///
/// let runtime = Runtime::new()?;
/// let prices = runtime.buffer(&[1.5f32, 2.5, 3.5])?;
/// let lookup = runtime.launch(
///     RingKernel::<Key, Value>::wgsl(
///         "lookup",
///         "@group(1) @binding(0) var<storage, read> prices: array<f32>;
///          fn on_message(m: Key) -> Value { return Value(prices[m.index]); }",
///     )
///     .bind("prices", &prices),
/// )?;
/// lookup.activate()?;
/// prices.write(1, &[20.0])?;
/// assert_eq!(lookup.ask(Key { index: 1 }, Duration::from_secs(1))?.value, 20.0);
/// # Ok::<(), ringwork::Error>(())
/// ```
pub struct UnifiedBuffer<T> {
    shared: BufferHandle,
    len: usize,
    _type: PhantomData<fn() -> T>,
}

impl<T> Clone for UnifiedBuffer<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), len: self.len, _type: PhantomData }
    }
}

impl<T> fmt::Debug for UnifiedBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnifiedBuffer<{}>[{}]({})", std::any::type_name::<T>(), self.len, self.shared.state())
    }
}

/// Bytes of a buffer with so many elements, on this device.
pub(super) fn size_of_buffer<T>(device: &dyn Device, len: usize) -> Result<usize> {
    let refuse = |text: String| Err(Error::new(ErrorKind::Invalid, text));
    let (name, size) = (std::any::type_name::<T>(), size_of::<T>());
    if size == 0 || !size.is_multiple_of(4) {
        return refuse(format!(
            "a buffer of `{name}`: an element has {size} bytes, but must have a multiple of 4; use `u32` or a \
             `message!` struct"
        ));
    }
    if align_of::<T>() > ALIGNMENT {
        return refuse(format!(
            "a buffer of `{name}`: an element is aligned to {} bytes, but may be to {ALIGNMENT}",
            align_of::<T>()
        ));
    }
    if len == 0 {
        return refuse("a buffer of no elements: it takes at least 1".to_owned());
    }
    let capabilities = device.capabilities();
    let (place, most) = (&capabilities.name, capabilities.largest_buffer);
    match len.checked_mul(size) {
        Some(bytes) if bytes as u64 <= most => Ok(bytes),
        _ => refuse(format!(
            "a buffer of {len} elements of {size} bytes: {place} allows {most} bytes in a buffer"
        )),
    }
}

impl<T: bytemuck::Pod> UnifiedBuffer<T> {
    /// A buffer on this device with these values.
    pub(crate) fn new(device: &dyn Device, values: &[T]) -> Result<Self> {
        let buffer = Self::uninitialized(device, values.len())?;
        buffer.begin_with(values)?;
        Ok(buffer)
    }

    /// A buffer on this device with no values.
    pub(crate) fn uninitialized(device: &dyn Device, len: usize) -> Result<Self> {
        let bytes = size_of_buffer::<T>(device, len)?;
        let place = device.capabilities().name.as_str().into();
        let shared = Shared::new(place, device.allocate(bytes)?, bytes, size_of::<T>(), true);
        Ok(Self::of(Arc::new(shared), len))
    }

    /// A buffer with as many bytes as this many elements have.
    pub(super) fn of(shared: Arc<Shared>, len: usize) -> Self {
        Self { shared: BufferHandle::new(shared), len, _type: PhantomData }
    }

    /// Its first values, which go to the device: the caller has them already.
    pub(super) fn begin_with(&self, values: &[T]) -> Result<()> {
        self.shared.initialize(bytemuck::cast_slice(values))
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a buffer has at least one element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where its newest values are, at this moment.
    pub fn state(&self) -> BufferState {
        self.shared.state()
    }

    /// The transfers since it was made.
    pub fn transfers(&self) -> Transfers {
        self.shared.transfers()
    }

    /// The host's copy, up to date, to be read.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if it has no values yet; [conflict](Error::is_conflict) if both sides were written, or
    /// this thread has a view that has to go first; [timed out](Error::is_timed_out) if handlers use the buffer without a
    /// pause for five seconds, or another thread keeps such a view as long; [unavailable](Error::is_unavailable) if the
    /// host has no memory for it; [device lost](Error::is_device_lost).
    pub fn host(&self) -> Result<HostView<'_, T>> {
        HostView::new(&self.shared, self.bytes(0..self.len))
    }

    /// The host's copy, up to date, to be read and written.
    ///
    /// # Errors
    ///
    /// As [`host`](Self::host).
    pub fn host_mut(&self) -> Result<HostViewMut<'_, T>> {
        HostViewMut::new(&self.shared, self.bytes(0..self.len))
    }

    /// All elements, one after the other.
    ///
    /// # Errors
    ///
    /// As [`host`](Self::host).
    pub fn iter(&self) -> Result<Elements<'_, T>> {
        Ok(Elements::new(self.host()?))
    }

    /// A part of the buffer, to be read and written on the host and named in messages by itself.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if it goes past the end.
    ///
    /// # Example
    ///
    /// ```
    /// let runtime = ringwork::Runtime::new()?;
    /// let buffer = runtime.buffer(&[1u32, 2, 3, 4])?;
    /// buffer.host()?; // From here on there is a copy.
    /// buffer.slice(1..3)?.host_mut()?.reverse();
    /// buffer.ensure_on_device()?;
    /// assert_eq!(buffer.transfers().bytes_to_device, 16 + 8);
    /// assert_eq!(buffer.slice(2..)?.to_vec()?, [2, 4]);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<BufferSlice<'_, T>> {
        Ok(BufferSlice::new(self, self.range(range)?))
    }

    /// A part of the buffer to be sent in a message.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if it goes past the end, or past what 32 bits can count.
    pub fn view(&self, range: impl RangeBounds<usize>) -> Result<BufferView> {
        let range = self.range(range)?;
        match (u32::try_from(range.start), u32::try_from(range.len())) {
            (Ok(offset), Ok(len)) => Ok(BufferView { offset, len }),
            _ => {
                let text = format!("elements {}..{}: a view counts in 32 bits", range.start, range.end);
                Err(Error::new(ErrorKind::Invalid, text))
            }
        }
    }

    /// The part that a view from a message means.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if it goes past the end.
    pub fn at(&self, view: BufferView) -> Result<BufferSlice<'_, T>> {
        let (offset, len) = (view.offset as usize, view.len as usize);
        self.check(offset, len)?;
        Ok(BufferSlice::new(self, offset..offset + len))
    }

    /// A copy of all elements.
    ///
    /// # Errors
    ///
    /// As [`host`](Self::host).
    pub fn to_vec(&self) -> Result<Vec<T>> {
        let (view, mut values) = (self.host()?, Vec::new());
        values.try_reserve_exact(self.len).map_err(|_| no_memory(self.len * size_of::<T>()))?;
        values.extend_from_slice(&view);
        Ok(values)
    }

    /// Copies the elements from `offset` on into `values`. Unless the host's copy is up to date, they come from the device,
    /// every time, and no others.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if they go past the end; else as [`host`](Self::host).
    pub fn read(&self, offset: usize, values: &mut [T]) -> Result<()> {
        self.check(offset, values.len())?;
        self.shared.read(self.bytes(offset..offset + values.len()), bytemuck::cast_slice_mut(values))
    }

    /// Writes `values` over the elements from `offset` on.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn write(&self, offset: usize, values: &[T]) -> Result<()> {
        self.check(offset, values.len())?;
        let from = bytemuck::cast_slice(values);
        self.shared.write(self.bytes(offset..offset + values.len()), &mut |bytes| bytes.copy_from_slice(from))
    }

    /// Writes `values` over all elements. This ends a conflict: nothing of what either side had is left.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if they are not as many; [conflict](Error::is_conflict) if this thread has a view; others
    /// as [`host`](Self::host).
    pub fn copy_from(&self, values: &[T]) -> Result<()> {
        self.check_count(values.len(), self.len)?;
        self.write(0, values)
    }

    /// Makes all elements this value. This ends a conflict, as [`copy_from`](Self::copy_from) does.
    ///
    /// # Errors
    ///
    /// As [`copy_from`](Self::copy_from).
    pub fn fill(&self, value: T) -> Result<()> {
        self.fill_range(0..self.len, value)
    }

    pub(super) fn fill_range(&self, range: Range<usize>, value: T) -> Result<()> {
        self.shared
            .write(self.bytes(range), &mut |bytes| bytemuck::cast_slice_mut::<u8, T>(bytes).fill(value))
    }

    /// Sends what the device has not got, without waiting for a kernel to need it.
    ///
    /// # Errors
    ///
    /// As [`host`](Self::host).
    pub fn ensure_on_device(&self) -> Result<()> {
        self.shared.ensure_on_device()
    }

    /// Brings the host's copy up to date, without looking at it.
    ///
    /// # Errors
    ///
    /// As [`host`](Self::host).
    pub fn ensure_on_host(&self) -> Result<()> {
        self.host().map(drop)
    }

    /// Gives the memory of the host's copy back; the device gets first what it has not got.
    ///
    /// # Errors
    ///
    /// As [`host`](Self::host); the copy is still there then.
    pub fn release_host(&self) -> Result<()> {
        self.shared.release_host()
    }

    /// Ends a conflict: what the host wrote goes to the device, over what a kernel may have written in its place. Without
    /// a conflict it does what [`ensure_on_device`](Self::ensure_on_device) does.
    ///
    /// # Errors
    ///
    /// [conflict](Error::is_conflict) if this thread has a view; [timed out](Error::is_timed_out) and
    /// [device lost](Error::is_device_lost) as [`host`](Self::host).
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{RingKernel, Runtime};
    /// use std::time::Duration;
    ///
    /// let runtime = Runtime::new()?;
    /// let cells = runtime.buffer(&[1u32, 2])?;
    /// let double = runtime.launch(
    ///     RingKernel::<(), ()>::wgsl(
    ///         "double",
    ///         "@group(1) @binding(0) var<storage, read_write> cells: array<u32>;
    ///          fn on_message() { for (var i = 0u; i < 2u; i++) { cells[i] *= 2u; } }",
    ///     )
    ///     .bind("cells", &cells),
    /// )?;
    /// double.activate()?;
    /// let mut view = cells.slice(..1)?.host_mut()?;
    /// view[0] += 10;
    /// double.ask((), Duration::from_secs(1))?; // while there is a view
    /// assert!(view.commit().is_err_and(|error| error.is_conflict()));
    /// assert!(cells.to_vec().is_err_and(|error| error.is_conflict()));
    /// cells.keep_host()?;
    /// assert_eq!(cells.to_vec()?, [11, 4]);
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn keep_host(&self) -> Result<()> {
        self.shared.keep_host()
    }

    /// Ends a conflict: what the host wrote, and the device has not got, is forgotten.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if the device has no values; [conflict](Error::is_conflict) if this thread has a view;
    /// [timed out](Error::is_timed_out) if another one keeps a view for five seconds.
    pub fn keep_device(&self) -> Result<()> {
        self.shared.keep_device()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The bytes of these elements.
    pub(super) fn bytes(&self, elements: Range<usize>) -> Range<usize> {
        elements.start * size_of::<T>()..elements.end * size_of::<T>()
    }

    fn range(&self, range: impl RangeBounds<usize>) -> Result<Range<usize>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => self.len,
        };
        if start > end {
            let text = format!("elements {start}..{end} of a buffer: they end before they begin");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        self.check(start, end - start)?;
        Ok(start..end)
    }

    /// # Errors
    ///
    /// If there are not as many values as elements to be written.
    pub(super) fn check_count(&self, values: usize, elements: usize) -> Result<()> {
        if values == elements {
            return Ok(());
        }
        let text = format!("{values} values for {elements} elements of a buffer: they must be as many");
        Err(Error::new(ErrorKind::Invalid, text))
    }

    fn check(&self, offset: usize, len: usize) -> Result<()> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            let end = offset.saturating_add(len);
            let text = format!(
                "elements {offset}..{end} of a buffer of {} elements: they go past its end",
                self.len
            );
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        Ok(())
    }
}

/// A buffer as a kernel's setting keeps it: without its type.
#[derive(Clone)]
pub(crate) struct BoundTable {
    pub storage: Arc<dyn DeviceStorage>,
    pub element_size: u32,
    pub element_name: &'static str,
    pub len: usize,
    pub(super) shared: BufferHandle,
}

impl BoundTable {
    pub(crate) fn of<T>(buffer: &UnifiedBuffer<T>) -> Self {
        Self {
            storage: buffer.shared.storage().clone(),
            element_size: size_of::<T>() as u32,
            element_name: std::any::type_name::<T>(),
            len: buffer.len,
            shared: buffer.shared.clone(),
        }
    }

    /// Is it the same buffer?
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.shared.is(&other.shared)
    }

    /// The name of the device that it is on.
    pub(crate) fn place(&self) -> &str {
        self.shared.place()
    }
}
