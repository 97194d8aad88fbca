//! What went between the two sides of a buffer.

use std::time::Duration;

/// Transfers between the host's and the device's side of a [`UnifiedBuffer`](crate::UnifiedBuffer) since it was made.
///
/// # Example
///
/// ```
/// use ringwork::Runtime;
///
/// let runtime = Runtime::new()?;
/// let buffer = runtime.buffer(&[1u32, 2, 3])?;
/// assert_eq!(buffer.transfers().to_device, 1);
/// for _ in 0..3 {
///     assert_eq!(buffer.host()?.iter().sum::<u32>(), 6);
/// }
/// let transfers = buffer.transfers();
/// assert_eq!((transfers.to_host, transfers.bytes_to_host), (1, 12));
/// # Ok::<(), ringwork::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transfers {
    /// How many went to the device.
    pub to_device: u64,
    /// How many came from the device.
    pub to_host: u64,
    /// Bytes that went to the device.
    pub bytes_to_device: u64,
    /// Bytes that came from the device.
    pub bytes_to_host: u64,
    /// Time that callers spent sending, with the wait for handlers that used the buffer. On a GPU a transfer may still be
    /// under way when its call is over.
    pub time_to_device: Duration,
    /// Time that callers spent fetching, with the wait for handlers and for the device.
    pub time_to_host: Duration,
}

impl Transfers {
    pub(super) fn count_sent(&mut self, bytes: usize, time: Duration) {
        self.to_device += 1;
        self.bytes_to_device += bytes as u64;
        self.time_to_device += time;
    }

    pub(super) fn count_fetched(&mut self, bytes: usize, time: Duration) {
        self.to_host += 1;
        self.bytes_to_host += bytes as u64;
        self.time_to_host += time;
    }
}
