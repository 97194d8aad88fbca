//! What a host kernel's function is given.

use crate::error::{Error, ErrorKind, Result};
use crate::message::{Envelope, Message};
use std::any::Any;
use std::time::{Duration, Instant};

/// The actor layer, as a host kernel sees it.
pub(crate) trait HostPort<In, Out> {
    /// The next message; the one before it is handled with this call.
    fn receive(&mut self, deadline: Option<Instant>) -> Result<Envelope<In>>;
    /// Answers the message in hand; `false` if there is none or it is answered already.
    fn reply(&mut self, reply: Out) -> bool;
    /// Sends the value in `value` (an `Option<T>`, of which `type_name` is the name) to an output.
    fn emit(&mut self, output: &str, value: &mut dyn Any, type_name: &str) -> Result<()>;
    /// Has the kernel been told to end?
    fn should_terminate(&self) -> bool;
    /// The kernel's name.
    fn name(&self) -> &str;
}

/// What a host kernel's function works with: its messages, its replies, its outputs.
///
/// A message is handled when the next one is received, or when the function returns. A caller who asked and was
/// not answered by then gets an error.
pub struct Context<In, Out> {
    port: Box<dyn HostPort<In, Out>>,
}

impl<In, Out> std::fmt::Debug for Context<In, Out> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("kernel", &self.port.name()).finish_non_exhaustive()
    }
}

impl<In: Message, Out: Message> Context<In, Out> {
    pub(crate) fn new(port: Box<dyn HostPort<In, Out>>) -> Self {
        Self { port }
    }

    /// Waits for the next message; `None` when the kernel has been told to end and nothing is left.
    pub fn receive(&mut self) -> Option<Envelope<In>> {
        self.port.receive(None).ok()
    }

    /// Waits for the next message for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [timed out](Error::is_timed_out), or [terminated](Error::is_terminated) when the kernel has been told to end
    /// and nothing is left.
    pub fn receive_timeout(&mut self, timeout: Duration) -> Result<Envelope<In>> {
        self.port.receive(Instant::now().checked_add(timeout))
    }

    /// Answers the message in hand: its caller gets the reply, or if nobody asked, the reply queue. While that is full and
    /// [blocks](crate::Backpressure::Block), this waits; with another strategy a reply is dropped then, and counted, which
    /// is `true`.
    ///
    /// Returns `false`, and drops the reply, if no message is in hand, it has been answered, its sender
    /// [discards](crate::Options::discard_reply) the reply, or the kernel ended during the wait.
    pub fn reply(&mut self, reply: Out) -> bool {
        self.port.reply(reply)
    }

    /// Sends a value to a declared output. Waits while there is no room, if the output is linked or
    /// [blocks](crate::Backpressure::Block); else a value is dropped then, which is `Ok` and counted in
    /// [`Telemetry::dropped_replies`](crate::Telemetry::dropped_replies).
    ///
    /// If links lead from the output back to this kernel, each message that it receives earns it the right to send as many
    /// values as it declared for one message without waiting; rights that are not used are kept, up to the mailbox's capacity.
    /// Any further value waits while the cycle of links holds as many messages as its mailboxes can.
    ///
    /// # Errors
    ///
    /// [invalid](Error::is_invalid) if the output is not declared, or is of another type;
    /// [terminated](Error::is_terminated) if the kernel was told to end and ran out of time while waiting;
    /// [deadlock](Error::is_deadlock), and the value is not sent, if such a cycle is full and messages of this kernel are
    /// queued: it would wait for itself, and receives first.
    ///
    /// # Example
    ///
    /// ```
    /// use ringwork::{Context, RingKernel, Runtime};
    /// use std::time::Duration;
    ///
    /// let runtime = Runtime::new()?;
    /// let words = runtime.launch(
    ///     RingKernel::host("words", |context: &mut Context<String, ()>| {
    ///         while let Some(line) = context.receive() {
    ///             for word in line.split_whitespace() {
    ///                 context.send("word", word.to_owned()).expect("the output is declared");
    ///             }
    ///         }
    ///     })
    ///     .host_output::<String>("word"),
    /// )?;
    /// words.activate()?;
    /// words.send("two words".to_owned())?;
    /// let word = words.output::<String>("word")?;
    /// assert_eq!(word.recv_timeout(Duration::from_secs(1))?, "two");
    /// # Ok::<(), ringwork::Error>(())
    /// ```
    pub fn send<T: Message + Clone>(&mut self, output: &str, value: T) -> Result<()> {
        self.port.emit(output, &mut Some(value), std::any::type_name::<T>())
    }

    /// Has the kernel been told to end? A long computation asks now and then.
    pub fn should_terminate(&self) -> bool {
        self.port.should_terminate()
    }

    /// The kernel's name.
    pub fn name(&self) -> &str {
        self.port.name()
    }
}

/// The error of a receive that ended with the kernel.
pub(crate) fn ended(kernel: &str) -> Error {
    Error::new(ErrorKind::Terminated, format!("kernel `{kernel}` is terminated"))
}
