//! Links between kernels of one device, as a backend sees them: what a kernel emits may go into the round of the kernel at
//! the link's end without a visit to the host.
//!
//! When a round begins, or messages are given to a kernel that is resident, its backend asks the output where its values
//! go. The kernel there answers with its port's [`DeviceInlet`] if it takes as many as they may emit, and keeps the room: it is
//! given no other messages until [`Completion::LinkOver`](super::Completion::LinkOver). Otherwise they go through the host.

use std::any::Any;
use std::sync::Arc;

/// The way into a port for what other kernels of its device emit; used without holding the port.
pub(crate) trait DeviceInlet: Any + Send + Sync {
    /// Opens for one round, behind one of `source`, that brings up to `most` messages. `false`, with nothing changed, if
    /// it does not go now. The caller makes sure that nothing is in the port, unless it [queues](Self::queues), and that
    /// nothing is pushed meanwhile.
    fn open(&self, source: &Arc<dyn DeviceInlet>, most: usize) -> bool;
    /// May it open while there is something in the port? What comes then is behind that.
    fn queues(&self) -> bool {
        false
    }
    /// Is its device lost, as far as anybody knows?
    fn is_lost(&self) -> bool;
}

/// Where an output's values go.
pub(crate) trait Onward: Send + Sync {
    /// The way into the one kernel that what the next so many messages of `source` emit goes to, opened for all that they
    /// may emit; `None` if it goes through the host.
    #[cfg_attr(
        not(any(feature = "cuda", feature = "wgpu")),
        expect(dead_code, reason = "the CPU has no links of its own")
    )]
    fn open(&self, source: &Arc<dyn DeviceInlet>, messages: usize) -> Option<Arc<dyn DeviceInlet>>;
}

/// Kernels behind each other that are sent to on the device, at most.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) const MOST_LEGS: usize = 16;

/// As [`Onward::open`], for a backend all of whose inlets are of one type.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub(super) fn open<L: DeviceInlet>(onward: &dyn Onward, source: &Arc<L>, messages: usize) -> Option<Arc<L>> {
    let source: Arc<dyn DeviceInlet> = source.clone();
    let inlet: Arc<dyn Any + Send + Sync> = onward.open(&source, messages)?;
    let Ok(inlet) = inlet.downcast() else { unreachable!("an inlet opens for those of its backend only") };
    Some(inlet)
}
