//! Models of the hand-off protocols: the real kernel core behind a port that runs a plain function, every
//! interleaving of a few threads up to a bound of preemptions. `ci/loom.sh` runs them.
//!
//! A lost wake-up shows as a deadlock, two threads in one port as a concurrent access, and wrong books as a failed
//! assertion. The clock does not exist here: see [`crate::sync`].

mod cells;
mod flow;
mod host;
mod life;
mod port;

use super::core::{Core, Engine, Facts, Memory};
use super::dead_letters::DeadLetterLog;
use super::lifecycle::{Event, KernelState};
use super::mailbox::Mailbox;
use super::pool::Pool;
use super::send::{Options, Wait};
use super::services::Services;
use super::telemetry::Telemetry;
use crate::backend::{Port, PortControl, Shape};
use crate::kernel::{AnyOutlet, Backpressure, Plain, Queue, RestartPolicy};
use crate::message::TokenPrefix;
use loom::thread::{self, JoinHandle};
use port::{Log, ModelPort};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

crate::message! {
    pub(super) struct Number { pub(super) value: u32 }
}

/// What a model's kernel takes and replies.
pub(super) type Kernel = Core<Number, Number>;

/// A time-out that the model never reaches.
const NEVER: Duration = Duration::from_secs(1);

/// A deadline that has passed.
fn past() -> Option<Instant> {
    Some(Instant::now())
}

fn number(value: u32) -> Number {
    Number { value }
}

/// Runs a model with at most so many preemptions (`LOOM_MAX_PREEMPTIONS` overrides it), and says how large it was.
fn explore(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    let begun = Instant::now();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!(
        "{name}: {} interleavings, preemptions up to {}, {:.1?}",
        runs.load(Ordering::Relaxed),
        builder.preemption_bound.unwrap_or_default(),
        begun.elapsed()
    );
}

/// A runtime without a runtime: the pool and whoever works for it.
struct World {
    services: Arc<Services>,
    next_id: std::cell::Cell<u64>,
}

impl World {
    fn new() -> Self {
        let services = Services {
            pool: Pool::new(),
            prefix: TokenPrefix::random(),
            dead_letters: DeadLetterLog::new(1),
            registry: Default::default(),
        };
        Self { services: Arc::new(services), next_id: std::cell::Cell::new(1) }
    }

    /// Starts a background driver.
    fn background(&self) -> JoinHandle<()> {
        let services = self.services.clone();
        thread::spawn(move || services.pool.work())
    }

    /// Lets the background driver finish what it has.
    fn finish(&self, background: JoinHandle<()>) {
        self.services.pool.close();
        background.join().unwrap();
    }

    fn kernel(&self, plan: Plan) -> Arc<Kernel> {
        let control = Arc::new(PortControl::default());
        let id = self.next_id.replace(self.next_id.get() + 1);
        let facts = Facts {
            id,
            name: format!("k{id}").into(),
            services: self.services.clone(),
            plain: (!plan.host).then(Plain::new),
            shape: Shape::Serial,
            has_reply: true,
            backpressure: plan.backpressure,
            restart: plan.restart,
            background_only: plan.background_only,
            on_probation: plan.on_probation,
            on_device: false,
            relaunch: None,
            state: None,
            launched: Instant::now(),
        };
        let port = (!plan.host).then(|| {
            let port = ModelPort::new(control.clone(), plan.log, plan.interruptions, plan.outlets.len());
            Box::new(port) as Box<dyn Port>
        });
        let engine = Engine::new(port, Memory { initial: Vec::new(), instances: 0, snapshot: None });
        let mut mailbox = Mailbox::new(plan.capacity, plan.backpressure);
        mailbox.state = KernelState::Created.after(Event::Launch, "k").unwrap();
        let replies = Queue::new(plan.output_capacity, Backpressure::Block);
        let core = Core::new(facts, mailbox, replies, plan.outlets, engine, control);
        core.activate().unwrap();
        core
    }
}

/// What a model's kernel is like.
struct Plan {
    log: Log,
    capacity: usize,
    output_capacity: usize,
    backpressure: Backpressure,
    restart: RestartPolicy,
    background_only: bool,
    on_probation: bool,
    host: bool,
    /// So many messages are left in the middle at first.
    interruptions: usize,
    outlets: Vec<(String, Arc<dyn AnyOutlet>)>,
}

impl Plan {
    fn new(log: &Log) -> Self {
        Self {
            log: log.clone(),
            capacity: 2,
            output_capacity: 2,
            backpressure: Backpressure::Block,
            restart: RestartPolicy::Never,
            background_only: false,
            on_probation: false,
            host: false,
            interruptions: 0,
            outlets: Vec::new(),
        }
    }
}

/// Sends a message whose reply nobody wants.
fn send(kernel: &Arc<Kernel>, value: u32) -> bool {
    let options = Options::default().discard_reply();
    kernel.send(number(value), &options, Wait::Until(None)).is_ok()
}

fn ask(kernel: &Arc<Kernel>, value: u32) -> crate::Result<u32> {
    kernel.ask(number(value), NEVER, &Options::default()).map(|reply| reply.value)
}

/// The reply that the model's handler gives.
fn reply_to(value: u32) -> u32 {
    value + 100
}

/// Reads the telemetry and checks that the books balance.
fn audit(kernel: &Arc<Kernel>) -> Telemetry {
    let books = kernel.telemetry();
    let sum = books.handled + books.returned + books.dead_letters.total() + books.pending;
    assert_eq!(books.accepted, sum, "{books:?}");
    books
}
