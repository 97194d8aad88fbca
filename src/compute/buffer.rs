//! Buffers that live on the device: bound to handlers by name, read and written from the host between messages.

use crate::backend::{Device, DeviceStorage};
use crate::error::{Error, ErrorKind, Result};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Host access waits this long for handlers that are running.
const PATIENCE: Duration = Duration::from_secs(5);

/// An array of plain values in the device's memory.
///
/// Made by [`Runtime::buffer`](crate::Runtime::buffer), bound to a kernel with
/// [`RingKernel::bind`](crate::RingKernel::bind). The host reads and writes it between messages: each call waits
/// for handlers that are using the buffer, and those wait for the call. Clones are the same buffer.
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
    storage: Arc<dyn DeviceStorage>,
    len: usize,
    _type: PhantomData<fn() -> T>,
}

impl<T> Clone for UnifiedBuffer<T> {
    fn clone(&self) -> Self {
        Self { storage: self.storage.clone(), len: self.len, _type: PhantomData }
    }
}

impl<T> std::fmt::Debug for UnifiedBuffer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UnifiedBuffer<{}>[{}]", std::any::type_name::<T>(), self.len)
    }
}

impl<T: bytemuck::Pod> UnifiedBuffer<T> {
    /// A buffer on this device with these values.
    pub(crate) fn new(device: &dyn Device, values: &[T]) -> Result<Self> {
        if size_of::<T>() == 0 || !size_of::<T>().is_multiple_of(4) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "a buffer of `{}`: an element has {} bytes, but must have a multiple of 4; use `u32` or a \
                     `message!` struct",
                    std::any::type_name::<T>(),
                    size_of::<T>()
                ),
            ));
        }
        if values.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "a buffer of no elements: it takes at least 1"));
        }
        let storage = device.allocate(size_of_val(values))?;
        let buffer = Self { storage, len: values.len(), _type: PhantomData };
        buffer.write(0, values)?;
        Ok(buffer)
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a buffer has at least one element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A copy of all elements.
    ///
    /// # Errors
    ///
    /// [timed out](Error::is_timed_out) if handlers use the buffer without a pause for five seconds.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        let mut values = vec![T::zeroed(); self.len];
        self.read(0, &mut values)?;
        Ok(values)
    }

    /// Copies the elements from `offset` on into `values`.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if they go past the end; [timed out](Error::is_timed_out) as
    /// [`to_vec`](Self::to_vec).
    pub fn read(&self, offset: usize, values: &mut [T]) -> Result<()> {
        self.check(offset, values.len())?;
        let bytes = bytemuck::cast_slice_mut(values);
        self.storage.read(offset * size_of::<T>(), bytes, Instant::now() + PATIENCE)
    }

    /// Writes `values` over the elements from `offset` on.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn write(&self, offset: usize, values: &[T]) -> Result<()> {
        self.check(offset, values.len())?;
        let bytes = bytemuck::cast_slice(values);
        self.storage.write(offset * size_of::<T>(), bytes, Instant::now() + PATIENCE)
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
}

impl BoundTable {
    pub(crate) fn of<T>(buffer: &UnifiedBuffer<T>) -> Self {
        Self {
            storage: buffer.storage.clone(),
            element_size: size_of::<T>() as u32,
            element_name: std::any::type_name::<T>(),
            len: buffer.len,
        }
    }
}
