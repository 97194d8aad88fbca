//! A part of a buffer as a message carries it.

use crate::message;

message! {
    /// A part of a buffer, in a message: so that a message points at megabytes instead of carrying them.
    ///
    /// [`UnifiedBuffer::view`](crate::UnifiedBuffer::view) makes it, checked against the buffer;
    /// [`UnifiedBuffer::at`](crate::UnifiedBuffer::at) checks one that came back. It may be a field of any message. A WGSL
    /// handler that does not declare a struct of this name gets it: `struct BufferView { offset: u32, len: u32 }`. Which
    /// buffer it is a part of, the program knows: that of the table that the handler uses it with.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{BufferView, RingKernel, Runtime, message};
    /// use std::time::Duration;
    ///
    /// message! { pub struct Sum { pub part: BufferView } }
    /// message! { pub struct Total { pub total: u32 } }
    ///
    /// let runtime = Runtime::new()?;
    /// let numbers = runtime.buffer(&(0..1_000).collect::<Vec<u32>>())?;
    /// let sum = runtime.launch(
    ///     RingKernel::<Sum, Total>::wgsl(
    ///         "sum",
    ///         "@group(1) @binding(0) var<storage, read> numbers: array<u32>;
    ///          fn on_message(m: Sum) -> Total {
    ///              var total = 0u;
    ///              for (var i = 0u; i < m.part.len; i++) { total += numbers[m.part.offset + i]; }
    ///              return Total(total);
    ///          }",
    ///     )
    ///     .bind("numbers", &numbers),
    /// )?;
    /// sum.activate()?;
    /// let reply = sum.ask(Sum { part: numbers.view(10..14)? }, Duration::from_secs(1))?;
    /// assert_eq!(reply.total, 10 + 11 + 12 + 13);
    /// assert!(numbers.view(990..1_001).is_err_and(|error| error.is_invalid()));
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub struct BufferView {
        /// The first element.
        pub offset: u32,
        /// How many elements.
        pub len: u32,
    }
}
