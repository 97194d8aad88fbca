//! Cycles of links: how many messages a cycle may hold, so that it can never lock itself up.
//!
//! Inside a cycle a message that is handled makes room for the one it sends, so moving on never needs a free place:
//! the link's box takes what the next mailbox cannot. What must be bounded is the number of messages in the whole
//! cycle, and it is, where they enter it: a sender outside waits until there are fewer than the cycle's mailboxes
//! hold together. A handler that may send more than one message into its cycle reserves the others before it runs. A host
//! kernel's function sends what was declared for each message that it receives; before each further one it waits until the
//! cycle has room, or is told that it waits for itself.

use super::any_kernel::AnyKernel;
use crate::kernel::Credits;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};

/// The messages that one cycle of links may hold.
pub(crate) struct CycleCredits {
    used: AtomicI64,
    /// Messages from outside are let in up to here,
    enter: i64,
    /// and handlers may multiply them up to here.
    limit: i64,
    members: Vec<Weak<dyn AnyKernel>>,
}

impl CycleCredits {
    /// A cycle whose mailboxes hold `capacity` messages together; one handler may add up to `growth` to the one it
    /// handles.
    pub(crate) fn new(capacity: usize, growth: usize, members: Vec<Weak<dyn AnyKernel>>) -> Self {
        let enter = (capacity as i64 - growth as i64).max(1);
        Self { used: AtomicI64::new(0), enter, limit: (enter + growth as i64).max(capacity as i64), members }
    }

    /// Counts messages that a new member holds already.
    pub(crate) fn count(&self, messages: usize) {
        self.used.fetch_add(messages as i64, Ordering::Relaxed);
    }

    /// Lets one message in from outside, if there is room for it.
    pub(crate) fn try_inject(&self) -> bool {
        // Relaxed: the count stands for itself; the messages are published by the mailboxes' locks.
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (used < self.enter).then_some(used + 1)
            })
            .is_ok()
    }

    /// Is there room for one more message of a kernel in the cycle?
    pub(crate) fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.limit
    }

    /// Reserves the growth of up to `messages` messages by `growth` each; returns how many may begin.
    ///
    /// One always may: where all that is in the cycle wants to multiply, waiting for room would be waiting for ever.
    /// So a cycle holds more than its mailboxes if one message from outside becomes that many.
    pub(crate) fn reserve(&self, messages: usize, growth: usize) -> usize {
        if growth == 0 || messages == 0 {
            return messages;
        }
        let mut granted = 0;
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            granted = (((self.limit - used).max(0) as usize) / growth).clamp(1, messages);
            Some(used + (granted * growth) as i64)
        });
        granted
    }
}

impl Credits for CycleCredits {
    fn release(&self, credits: i64) {
        self.used.fetch_sub(credits, Ordering::Relaxed);
    }

    fn resume_sources(&self) {
        self.members.iter().filter_map(Weak::upgrade).for_each(|member| member.resume_sources());
    }
}

/// Groups of kernels that can reach each other over links: each is a cycle.
pub(crate) fn cycles(edges: &[(u64, u64)]) -> Vec<Vec<u64>> {
    let reaches = |from: u64, to: u64| {
        let (mut seen, mut todo) = (Vec::new(), vec![from]);
        while let Some(node) = todo.pop() {
            for &(_, next) in edges.iter().filter(|edge| edge.0 == node) {
                if next == to {
                    return true;
                }
                if !seen.contains(&next) {
                    seen.push(next);
                    todo.push(next);
                }
            }
        }
        false
    };
    let mut nodes: Vec<u64> = edges.iter().flat_map(|edge| [edge.0, edge.1]).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let mut groups: Vec<Vec<u64>> = Vec::new();
    for node in nodes.into_iter().filter(|&node| reaches(node, node)) {
        match groups.iter_mut().find(|group| reaches(group[0], node) && reaches(node, group[0])) {
            Some(group) => group.push(node),
            None => groups.push(vec![node]),
        }
    }
    groups
}

/// Makes these kernels one cycle; they are held.
pub(super) fn enter_cycle(members: &[Arc<dyn AnyKernel>]) {
    if members.is_empty() {
        return;
    }
    let ids: Vec<u64> = members.iter().map(|kernel| kernel.id()).collect();
    // All at once: what moved from one that is counted to one that is not would be counted twice.
    let mut paused: Vec<_> = members.iter().map(|kernel| kernel.pause()).collect();
    let (mut capacity, mut growth) = (0, 0);
    for kernel in members {
        let (places, grows) = kernel.mark_cycle(&ids);
        capacity += places;
        growth = growth.max(grows);
    }
    let credits = Arc::new(CycleCredits::new(capacity, growth, members.iter().map(Arc::downgrade).collect()));
    members.iter().for_each(|kernel| kernel.enter_cycle(credits.clone()));
    paused.iter_mut().flatten().for_each(|outlet| **outlet = Some(credits.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(loom))]
    crate::message! { struct Tick { count: u32 } }

    #[test]
    fn cycles_are_the_strongly_connected_components() {
        assert!(cycles(&[(1, 2), (2, 3), (1, 3)]).is_empty());
        assert_eq!(cycles(&[(1, 1)]), [[1]]);
        assert_eq!(cycles(&[(1, 2), (2, 3), (3, 1), (3, 4), (4, 5)]), [[1, 2, 3]]);
        let eight = cycles(&[(1, 2), (2, 1), (2, 3), (3, 2), (7, 8), (8, 7), (1, 7)]);
        assert_eq!(eight, [vec![1, 2, 3], vec![7, 8]]);
    }

    #[test]
    fn credits_bound_what_enters_and_what_multiplies() {
        let cycle = CycleCredits::new(3, 1, Vec::new());
        assert!(cycle.try_inject() && cycle.try_inject() && !cycle.try_inject());
        assert_eq!(cycle.reserve(5, 1), 1);
        assert_eq!(cycle.reserve(5, 1), 1, "one may always begin");
        assert_eq!(cycle.reserve(5, 0), 5);
        assert_eq!(cycle.reserve(0, 1), 0);
        cycle.release(3);
        assert!(cycle.try_inject());
        // One place and a handler that sends two: still something gets in and through.
        let tight = CycleCredits::new(1, 1, Vec::new());
        assert!(tight.try_inject() && !tight.try_inject());
        assert_eq!(tight.reserve(1, 1), 1);
    }

    #[cfg(not(loom))]
    #[test]
    fn a_source_that_is_gone_is_forgotten() {
        use crate::{BackendKind, RingKernel, Runtime};
        let runtime = Runtime::builder().backend(BackendKind::Cpu).build().unwrap();
        let kernel = |name: &str| {
            let kernel = RingKernel::<Tick, ()>::wgsl(name, "fn on_message(m: Tick) { emit_out(m); }");
            runtime.launch(kernel.output::<Tick>("out")).unwrap()
        };
        let end = kernel("end");
        for _ in 0..3 {
            let source = kernel("source");
            runtime.link(&source.output::<Tick>("out").unwrap(), &end).unwrap();
            assert_eq!(crate::sync::lock(&end.core().upstream).len(), 1);
            source.terminate(std::time::Duration::from_secs(5)).unwrap();
        }
    }
}
