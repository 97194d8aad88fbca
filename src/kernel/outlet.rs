//! The way out of a kernel: to the kernels it is linked to, or to a queue that somebody receives from.
//!
//! A value for a full destination waits in the link's own box, and the kernel begins no further message before the
//! box is empty: that is the space reserved before a handler runs, so nothing is ever retried or lost. A link that
//! is part of a cycle of links is different, since waiting for the box could be waiting for oneself: there the
//! number of messages in the whole cycle is bounded where they enter it, and the box takes what comes.
//!
//! Between kernels of one device values need not come here: a round that begins is [shown the way](Onward) into the
//! next kernel, if there is room in it for all that it may emit.

use super::queue::{Queue, Tagged};
use super::settings::Backpressure;
use crate::backend::{DeviceInlet, Onward};
use crate::message::{DeviceMessage, Message, Token};
use crate::sync::{Mutex, MutexGuard, lock};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// A kernel's mailbox as a link sees it.
pub(crate) trait Inlet<T>: Send + Sync {
    /// Places free now.
    fn room(&self) -> usize;
    /// Will there be more of them?
    fn is_active(&self) -> bool;
    /// Takes values from the front, as many as there is room for; drops them all if the kernel takes none any more.
    /// A link in a cycle moves messages; one from outside brings them in.
    fn accept(self: Arc<Self>, values: &mut VecDeque<Tagged<T>>, in_cycle: bool) -> Dropped;
    /// Keeps room for up to `most` values of one round of `source`, which come on the device; the way in, or `None` if it
    /// does not go now.
    fn open(self: Arc<Self>, source: &Arc<dyn DeviceInlet>, most: usize) -> Option<Arc<dyn DeviceInlet>>;
}

/// What became of the values of an output.
#[derive(Default)]
pub(crate) struct OutletCounts {
    /// They went out.
    pub emitted: u64,
    /// By the queue's strategy.
    pub dropped: u64,
    /// There was no kernel for them.
    pub undeliverable: u64,
}

/// Values that an [`Inlet`] took, and that are messages of no kernel now.
#[derive(Default)]
pub(crate) struct Dropped {
    /// The kernel takes none any more.
    pub undeliverable: usize,
    /// Dead letters of the kernel: it has not the instance.
    pub misdirected: usize,
}

/// The number of messages in a cycle of links, as an outlet of one of its kernels sees it.
pub(crate) trait Credits: Send + Sync {
    /// So many messages left the cycle; if negative, came into it.
    fn release(&self, credits: i64);
    /// After that: lets kernels go on that wait to send into the cycle. Not under a lock of kernels or outlets.
    fn resume_sources(&self);
}

/// Keeps everybody from delivering over an outlet's links. Inside: the cycle that those in a cycle are part of.
pub(crate) type Paused<'a> = MutexGuard<'a, Option<Arc<dyn Credits>>>;

/// One link.
struct Link<T> {
    target: Weak<dyn Inlet<T>>,
    target_id: u64,
    /// Values there was no room for.
    waiting: VecDeque<Tagged<T>>,
    /// Part of a cycle of links.
    in_cycle: bool,
}

/// What waits on a link, while it is being delivered.
type Waiting<T> = (Weak<dyn Inlet<T>>, bool, VecDeque<Tagged<T>>);

/// A declared output of one kernel.
pub(crate) struct Outlet<T> {
    /// Takes the values while there is no link.
    queue: Queue<T>,
    /// Taken under mailbox locks, so nothing else is locked under it.
    links: Mutex<Vec<Link<T>>>,
    /// One delivery at a time, by whoever sees room: the kernel itself or the one at the link's end. What is lost on
    /// its way gives its credit back to this cycle. Mailboxes are locked under it, and `links`.
    delivering: Mutex<Option<Arc<dyn Credits>>>,
    /// There are links: spares the lock of those where there are none.
    linked: AtomicBool,
    max_per_message: usize,
    emitted: AtomicU64,
    undeliverable: AtomicU64,
}

/// An outlet without its type.
pub(crate) trait AnyOutlet: Onward {
    /// Delivers what waits, then says how many messages may begin.
    fn admit(&self) -> usize;
    /// Adds a value, given as bytes; only outlets of device messages are given any. Returns through `into_cycles`
    /// how many cycles of links it went into.
    fn put_bytes(&self, token: Token, value: &[u8], into_cycles: &mut usize);
    /// Counts values that go over the link on the device.
    fn count_passed(&self, count: usize);
    /// Adds a value that was counted so, but found nobody at the link's end.
    fn put_passed(&self, token: Token, value: &[u8], into_cycles: &mut usize);
    /// Adds the value in `value` (an `Option<T>`), counts it in its cycle, and delivers as [`flush`](Self::flush) does;
    /// `false`, and nothing taken, if it is of another type.
    fn put_any(&self, token: Token, value: &mut dyn Any) -> bool;
    /// Delivers what waits for room, as far as there is some; `true` if nothing waits on a link outside of cycles.
    fn flush(&self) -> bool;
    /// Does anything wait on a link to a kernel that runs and so will make room?
    fn will_deliver(&self) -> bool;
    /// Keeps everybody from delivering.
    fn pause(&self) -> Paused<'_>;
    /// Values that one message may send here, if it is linked to a kernel that is in one cycle with its own; else none.
    fn leads_back(&self) -> usize;
    /// For links that are part of a cycle: values waiting on them, and values a message may add to them.
    fn in_cycles(&self) -> (usize, usize);
    /// Marks the links to these kernels as part of a cycle.
    fn mark_cycle(&self, members: &[u64]);
    fn counts(&self) -> OutletCounts;
    /// Wakes everybody who receives from the queue, for good.
    fn close(&self);
    /// As the typed outlet.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<T: Clone + Send + 'static> Outlet<T> {
    pub(crate) fn new(capacity: usize, strategy: Backpressure, max_per_message: u32) -> Self {
        Self {
            queue: Queue::new(capacity, strategy),
            links: Mutex::new(Vec::new()),
            delivering: Mutex::new(None),
            linked: AtomicBool::new(false),
            max_per_message: max_per_message as usize,
            emitted: AtomicU64::new(0),
            undeliverable: AtomicU64::new(0),
        }
    }

    /// Where values wait while there is no link.
    pub(crate) fn queue(&self) -> &Queue<T> {
        &self.queue
    }

    /// Sends every further value to this kernel too; what waits in the queue stays there.
    pub(crate) fn link(&self, target: Weak<dyn Inlet<T>>, target_id: u64) -> bool {
        // A delivery knows a link by its place.
        let _paused = lock(&self.delivering);
        let mut links = lock(&self.links);
        if links.iter().any(|link| link.target_id == target_id) {
            return false;
        }
        // Those whose end is gone, once the next delivery has counted what waits for it.
        links.retain(|link| link.target.strong_count() > 0 || !link.waiting.is_empty());
        links.push(Link { target, target_id, waiting: VecDeque::new(), in_cycle: false });
        // Release pairs with the Acquire in `is_linked`; the source's port is held meanwhile in any case.
        self.linked.store(true, Ordering::Release);
        true
    }

    fn is_linked(&self) -> bool {
        self.linked.load(Ordering::Acquire)
    }

    fn put(&self, token: Token, value: T, into_cycles: &mut usize) {
        self.emitted.fetch_add(1, Ordering::Relaxed);
        self.put_counted(token, value, into_cycles);
    }

    fn put_counted(&self, token: Token, value: T, into_cycles: &mut usize) {
        if !self.is_linked() {
            self.queue.push([(token, value)]);
            return;
        }
        for link in lock(&self.links).iter_mut() {
            link.waiting.push_back((token, value.clone()));
            *into_cycles += usize::from(link.in_cycle);
        }
    }
}

impl<T: Clone + Send + 'static> Outlet<T> {
    /// Delivers what there is room for; `true` if nothing waits on a link outside of cycles. A target's mailbox is
    /// locked meanwhile, which may be the one that a `put` into `links` happens under.
    fn deliver(&self, cycle: Paused<'_>) -> bool {
        let (mut lost, mut freed, mut clear) = (0, 0, true);
        let mut index = 0;
        while let Some((target, in_cycle, mut values)) = self.take_waiting(index) {
            if !values.is_empty() {
                let dropped = match target.upgrade() {
                    Some(target) => target.accept(&mut values, in_cycle),
                    None => Dropped { undeliverable: std::mem::take(&mut values).len(), misdirected: 0 },
                };
                lost += dropped.undeliverable;
                freed += if in_cycle { dropped.undeliverable + dropped.misdirected } else { 0 };
            }
            clear &= in_cycle || values.is_empty();
            // What was put meanwhile comes behind.
            let waiting = &mut lock(&self.links)[index].waiting;
            values.append(waiting);
            *waiting = values;
            index += 1;
        }
        if lost > 0 {
            self.undeliverable.fetch_add(lost as u64, Ordering::Relaxed);
        }
        if freed > 0
            && let Some(credits) = cycle.clone()
        {
            // Before anybody can count the boxes for another cycle.
            credits.release(freed as i64);
            drop(cycle);
            credits.resume_sources();
        }
        clear
    }

    fn put_and_deliver(&self, token: Token, value: T) {
        // A cycle that is made meanwhile counts what it finds in the boxes: this value, or it is counted here.
        let cycle = lock(&self.delivering);
        let mut into_cycles = 0;
        self.put(token, value, &mut into_cycles);
        if let Some(cycle) = &*cycle {
            cycle.release(-(into_cycles as i64));
        }
        self.deliver(cycle);
    }

    /// A link's target, whether it is part of a cycle, and the values that wait.
    fn take_waiting(&self, index: usize) -> Option<Waiting<T>> {
        let mut links = lock(&self.links);
        let link = links.get_mut(index)?;
        Some((link.target.clone(), link.in_cycle, std::mem::take(&mut link.waiting)))
    }

    fn flush_links(&self) -> bool {
        !self.is_linked() || self.deliver(lock(&self.delivering))
    }

    fn admit_typed(&self) -> usize {
        if !self.is_linked() {
            return self.queue.room() / self.max_per_message;
        }
        if !self.flush_links() {
            return 0;
        }
        let outside: Vec<_> = {
            let links = lock(&self.links);
            links.iter().filter(|link| !link.in_cycle).filter_map(|link| link.target.upgrade()).collect()
        };
        let room =
            outside.iter().map(|target| target.room() / self.max_per_message).min().unwrap_or(usize::MAX);
        // One message may begin whatever the room: the link's box takes what it sends.
        room.max(1)
    }

    /// See [`Onward::open`]: to the one link there is, outside of cycles, with nothing before it.
    fn open_link(&self, source: &Arc<dyn DeviceInlet>, messages: usize) -> Option<Arc<dyn DeviceInlet>> {
        if !self.is_linked() {
            return None;
        }
        let target = {
            // What is being delivered would be behind.
            let _one_at_a_time = lock(&self.delivering);
            match &lock(&self.links)[..] {
                [link] if !link.in_cycle && link.waiting.is_empty() => link.target.upgrade()?,
                _ => return None,
            }
        };
        target.open(source, messages * self.max_per_message)
    }

    fn mark(&self, members: &[u64]) {
        for link in lock(&self.links).iter_mut() {
            link.in_cycle |= members.contains(&link.target_id);
        }
    }
}

impl<T> Drop for Outlet<T> {
    fn drop(&mut self) {
        // What waits in a cycle's boxes never arrives. Nobody is told of the credits: this may be inside of a delivery.
        if let Some(cycle) = &*lock(&self.delivering) {
            let links = lock(&self.links);
            let lost: usize = links.iter().filter(|link| link.in_cycle).map(|link| link.waiting.len()).sum();
            cycle.release(lost as i64);
        }
    }
}

/// An outlet of device messages: takes bytes too.
pub(crate) struct DeviceOutlet<T>(pub(crate) Arc<Outlet<T>>);
/// An outlet of any host type.
pub(crate) struct HostOutlet<T>(pub(crate) Arc<Outlet<T>>);

macro_rules! any_outlet {
    ($outlet:ident, $bound:path, $bytes:expr) => {
        impl<T: $bound + Clone> Onward for $outlet<T> {
            fn open(&self, source: &Arc<dyn DeviceInlet>, messages: usize) -> Option<Arc<dyn DeviceInlet>> {
                self.0.open_link(source, messages)
            }
        }
        impl<T: $bound + Clone> AnyOutlet for $outlet<T> {
            fn admit(&self) -> usize {
                self.0.admit_typed()
            }
            fn put_bytes(&self, token: Token, value: &[u8], into_cycles: &mut usize) {
                let from_bytes: fn(&[u8]) -> T = $bytes;
                self.0.put(token, from_bytes(value), into_cycles);
            }
            fn count_passed(&self, count: usize) {
                self.0.emitted.fetch_add(count as u64, Ordering::Relaxed);
            }
            fn put_passed(&self, token: Token, value: &[u8], into_cycles: &mut usize) {
                let from_bytes: fn(&[u8]) -> T = $bytes;
                self.0.put_counted(token, from_bytes(value), into_cycles);
            }
            fn put_any(&self, token: Token, value: &mut dyn Any) -> bool {
                let Some(value) = value.downcast_mut::<Option<T>>().and_then(Option::take) else {
                    return false;
                };
                self.0.put_and_deliver(token, value);
                true
            }
            fn flush(&self) -> bool {
                self.0.flush_links()
            }
            fn will_deliver(&self) -> bool {
                let links = lock(&self.0.links);
                let waiting = links.iter().filter(|link| !link.waiting.is_empty());
                let targets: Vec<_> = waiting.filter_map(|link| link.target.upgrade()).collect();
                drop(links);
                targets.iter().any(|target| target.is_active())
            }
            fn pause(&self) -> Paused<'_> {
                lock(&self.0.delivering)
            }
            fn leads_back(&self) -> usize {
                let leads_back = self.0.is_linked() && lock(&self.0.links).iter().any(|link| link.in_cycle);
                if leads_back { self.0.max_per_message } else { 0 }
            }
            fn in_cycles(&self) -> (usize, usize) {
                let links = lock(&self.0.links);
                let in_cycle = links.iter().filter(|link| link.in_cycle);
                in_cycle.fold((0, 0), |(waiting, most), link| {
                    (waiting + link.waiting.len(), most + self.0.max_per_message)
                })
            }
            fn mark_cycle(&self, members: &[u64]) {
                self.0.mark(members);
            }
            fn counts(&self) -> OutletCounts {
                OutletCounts {
                    emitted: self.0.emitted.load(Ordering::Relaxed),
                    dropped: self.0.queue.dropped(),
                    undeliverable: self.0.undeliverable.load(Ordering::Relaxed),
                }
            }
            fn close(&self) {
                self.0.queue.close();
            }
            fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
                self.0.clone()
            }
        }
    };
}
any_outlet!(DeviceOutlet, DeviceMessage, |bytes| bytemuck::pod_read_unaligned(bytes));
any_outlet!(HostOutlet, Message, |_| unreachable!(
    "only device messages come as bytes, and launch has checked"
));
