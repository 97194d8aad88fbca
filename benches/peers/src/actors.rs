//! What the three frameworks share: tokio's runtime for two of them, and the run over 100,000 actors.

use crate::workload::{self, Agent, INSTANCES, Numbers, wait_until};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use tokio::runtime::Runtime;

/// One multi-threaded runtime, as many workers as processors (tokio's default), kept for the whole run.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("tokio's runtime starts")
    })
}

/// Messages handled by counted agents, ever.
static HANDLED: AtomicUsize = AtomicUsize::new(0);
/// Counted agents alive.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// One of 100,000: the state, and counters that say when all are done. The counter is the one addition to the
/// work, a few ns of it a message.
pub struct CountedAgent(Agent);

impl CountedAgent {
    pub fn new() -> Self {
        LIVE.fetch_add(1, Relaxed);
        Self(Agent::default())
    }

    #[inline]
    pub fn take(&mut self, message: &Numbers) {
        self.0.take(message);
        HANDLED.fetch_add(1, Relaxed);
    }
}

impl Drop for CountedAgent {
    fn drop(&mut self) {
        std::hint::black_box(self.0.totals); // so that the adding is done
        assert!(self.0.count > 0, "an actor got no message");
        LIVE.fetch_sub(1, Relaxed);
    }
}

/// Starts 100,000 actors, times passes of one message to each in shuffled order, from this thread, and stops them.
pub fn instances<A>(
    start: impl FnOnce() -> Vec<A>,
    tell: impl Fn(&A, Numbers),
    stop: impl FnOnce(Vec<A>),
) -> Vec<f64> {
    let order = workload::destinations();
    let actors = start();
    wait_until("the start of all actors", || LIVE.load(Relaxed) == INSTANCES);
    let values = workload::passes(|| {
        let all = HANDLED.load(Relaxed) + INSTANCES;
        for (&to, i) in order.iter().zip(0..) {
            tell(&actors[to as usize], Numbers { to, ..Numbers::new(i) });
        }
        wait_until("the handling of all messages", || HANDLED.load(Relaxed) == all);
    });
    stop(actors);
    wait_until("the end of all actors", || LIVE.load(Relaxed) == 0);
    values
}
