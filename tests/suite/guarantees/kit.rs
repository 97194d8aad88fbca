//! What the guarantees' tests share: one job in three kinds of kernels, latches, bounded waits.

use crate::common::{LONG, runtime};
use ringwork::{Capabilities, Context, Execution, Handle, RingKernel, Runtime, Telemetry, message};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, OnceLock, mpsc};
use std::time::{Duration, Instant};

message! {
    /// Something to do, and how long it takes.
    pub struct Job {
        pub sender: u32,
        pub number: u32,
        /// One of the constants below.
        pub action: u32,
        /// Loop iterations of a WGSL handler.
        pub loops: u32,
        /// What a native or host handler sleeps.
        pub micros: u32,
        /// The instance.
        pub to: u32,
    }
}
message! {
    /// The job again, and what the kernel had counted when it was done.
    pub struct Answer { pub sender: u32, pub number: u32, pub count: u32, pub sum: u32 }
}
message! {
    /// What a counting kernel keeps.
    pub struct Tally { pub count: u32, pub sum: u32, pub noise: u32 }
}

/// Counts, and answers.
pub const COUNT: u32 = 0;
/// Waits at the latch first (native and host kernels; a WGSL handler has nobody to wait for).
pub const BLOCK: u32 = 1;
/// Changes its state, then faults: a panic, or for WGSL a loop that never ends.
pub const FAULT: u32 = 2;

/// What `FAULT` panics with.
pub const PANIC: &str = "a panic on purpose";

/// Longer than any test takes, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn job(number: u32) -> Job {
    Job { number, ..Job::default() }
}

impl Job {
    pub fn of(sender: u32, number: u32) -> Self {
        Self { sender, number, ..Self::default() }
    }

    pub fn action(self, action: u32) -> Self {
        Self { action, ..self }
    }

    pub fn to(self, to: u32) -> Self {
        Self { to, ..self }
    }

    /// Takes about this long (WGSL: at least; a second or more is enough where a device ends loops), whatever the
    /// kernel.
    pub fn taking(self, time: Duration) -> Self {
        Self { loops: loops_for(time), micros: time.as_micros() as u32, ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Wgsl,
    Native,
    Host,
}

pub const KINDS: [Kind; 3] = [Kind::Wgsl, Kind::Native, Kind::Host];

/// The kinds whose handlers can be made never to end. A device that is given rounds is not one to try that on: nothing
/// interrupts a round, so that a real one is reset by its driver, and a software one may end loops by itself.
pub fn endless_kinds() -> Vec<Kind> {
    let dispatched = device().execution == Execution::Dispatched;
    let can_be = |kind: &Kind| !(dispatched && *kind == Kind::Wgsl);
    if dispatched {
        println!("without endless WGSL handlers: no round of {} can be interrupted", device().name);
    }
    KINDS.into_iter().filter(can_be).collect()
}

/// What the device under test is.
pub fn device() -> &'static Capabilities {
    static DEVICE: OnceLock<Capabilities> = OnceLock::new();
    DEVICE.get_or_init(|| runtime().capabilities().expect("the backend under test is there"))
}

/// Counts jobs in its state. `FAULT` changes the state first, so that a missing rollback shows.
const COUNTER: &str = "
    fn on_message(m: Job, s: ptr<function, Tally>) -> Answer {
        var noise = m.number;
        for (var i = 0u; i < m.loops; i++) { noise = churn(noise); }
        (*s).count += 1u;
        (*s).sum += m.number;
        (*s).noise ^= noise;
        while m.action == 2u { (*s).count += 1000u; }
        return Answer(m.sender, m.number, (*s).count, (*s).sum);
    }";

/// Iterations that a job's second must not exceed where the device ends loops; below what is known of any.
const MOST_LOOPS: u32 = 60_000;

/// Adds to a handler's text the function `churn(x: u32) -> u32`, which its loop over `m.loops` calls.
///
/// A device that ends loops needs iterations of which few take long: as many square roots in a row as make a second of
/// [`MOST_LOOPS`], each of which needs the one before it, so that no compiler can fold them. Each is one instruction: a
/// software driver is a minute and more at as many divisions of integers, which take no longer.
pub fn with_churn(handler: &str) -> String {
    if device().longest_loop.is_none() {
        return format!("{handler}\nfn churn(x: u32) -> u32 {{ return x * 1664525u + 1013904223u; }}");
    }
    let mut text = format!("{handler}\nfn churn0(x: f32) -> f32 {{ return sqrt(x + 1.5); }}\n");
    for level in 1..=5 {
        let below = level - 1;
        let calls = format!("churn{below}(churn{below}(churn{below}(churn{below}(x))))");
        text += &format!("fn churn{level}(x: f32) -> f32 {{ return {calls}; }}\n");
    }
    text + "fn churn(x: u32) -> u32 { return bitcast<u32>(churn5(churn4(churn4(f32(x & 0xffffu))))); }"
}

/// The counting kernel of this kind. Its answers carry the count and the sum so far.
pub fn counter(kind: Kind, name: &str, latch: &Latch) -> RingKernel<Job, Answer> {
    quiet();
    let latch = latch.inner();
    let work = move |job: &Job, tally: &mut Tally| {
        if job.micros > 0 {
            std::thread::sleep(Duration::from_micros(job.micros.into()));
        }
        tally.count += 1;
        tally.sum = tally.sum.wrapping_add(job.number);
        match job.action {
            BLOCK => latch.pass(),
            FAULT => {
                tally.count += 1000;
                std::panic::panic_any(PANIC)
            }
            _ => {}
        }
        Answer { sender: job.sender, number: job.number, count: tally.count, sum: tally.sum }
    };
    match kind {
        Kind::Wgsl => {
            RingKernel::wgsl(name, with_churn(COUNTER)).initial_state(Tally::default()).loop_budget(u32::MAX)
        }
        Kind::Native => RingKernel::native(name, move |job: Job, tally: &mut Tally| work(&job, tally)),
        Kind::Host => RingKernel::host(name, move |context: &mut Context<Job, Answer>| {
            let mut tally = Tally::default();
            while let Some(job) = context.receive() {
                let answer = work(&job, &mut tally);
                context.reply(answer);
            }
        }),
    }
}

/// A native kernel without state that waits at the latch where it is told to, and sleeps first as long as it is told to.
pub fn stateless(name: &str, latch: &Latch) -> RingKernel<Job, Answer> {
    let latch = latch.inner();
    RingKernel::native(name, move |job: Job, _: &mut ()| {
        std::thread::sleep(Duration::from_micros(job.micros.into()));
        if job.action == BLOCK {
            latch.pass();
        }
        Answer { sender: job.sender, number: job.number, ..Answer::default() }
    })
}

/// As [`counter`], and a WGSL handler begins where it stays: one that loops and writes a table is never begun on a
/// caller's thread, from where it would go back to the ring when it takes long.
pub fn holdable(runtime: &Runtime, kind: Kind, name: &str, latch: &Latch) -> RingKernel<Job, Answer> {
    if kind != Kind::Wgsl {
        return counter(kind, name, latch);
    }
    let table = "@group(1) @binding(0) var<storage, read_write> last: array<u32>;";
    let source = with_churn(&COUNTER.replace("return", "last[0] = m.number;\n        return"));
    RingKernel::wgsl(name, format!("{table}{source}"))
        .initial_state(Tally::default())
        .loop_budget(u32::MAX)
        .bind("last", &runtime.buffer(&[0u32]).unwrap())
}

/// Panics on purpose leave no text on the terminal; all others do.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&PANIC) {
                loud(info);
            }
        }));
    });
}

/// Where handlers wait until the test lets them go. Dropping it opens it, so that no thread stays behind.
#[derive(Default)]
pub struct Latch(Arc<LatchInner>);

#[derive(Default)]
pub struct LatchInner {
    /// Let through, arrived, gone through; open for good.
    counts: Mutex<(u32, u32, u32, bool)>,
    changed: Condvar,
}

impl LatchInner {
    /// Waits to be let through.
    pub fn pass(&self) {
        let mut counts = self.counts.lock().unwrap();
        counts.1 += 1;
        self.changed.notify_all();
        let closed = |counts: &mut (u32, u32, u32, bool)| !counts.3 && counts.0 == 0;
        counts = self.changed.wait_timeout_while(counts, PATIENCE, closed).unwrap().0;
        counts.0 = counts.0.saturating_sub(1);
        counts.2 += 1;
        self.changed.notify_all();
    }
}

impl Latch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn inner(&self) -> Arc<LatchInner> {
        self.0.clone()
    }

    /// Lets one through.
    pub fn let_one(&self) {
        self.0.counts.lock().unwrap().0 += 1;
        self.0.changed.notify_all();
    }

    /// Lets everybody through from now on.
    pub fn open(&self) {
        self.0.counts.lock().unwrap().3 = true;
        self.0.changed.notify_all();
    }

    /// Waits until so many have arrived in all.
    pub fn await_arrivals(&self, arrivals: u32) {
        let counts = self.0.counts.lock().unwrap();
        let counts = self.0.changed.wait_timeout_while(counts, LONG, |counts| counts.1 < arrivals).unwrap();
        assert!(counts.0.1 >= arrivals, "{} of {arrivals} arrived at the latch", counts.0.1);
    }

    /// Waits until so many have gone through in all.
    pub fn await_passed(&self, passed: u32) {
        let counts = self.0.counts.lock().unwrap();
        let counts = self.0.changed.wait_timeout_while(counts, LONG, |counts| counts.2 < passed).unwrap();
        assert!(counts.0.2 >= passed, "{} of {passed} went through the latch", counts.0.2);
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.open();
    }
}

/// Runs a test on a thread of its own, and fails if it does not end.
#[track_caller]
pub fn bounded(test: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if wait.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("the test hangs");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// As [`bounded`], once for each kind of kernel.
#[track_caller]
pub fn each_kind(test: impl Fn(Kind) + Send + 'static) {
    each_of(KINDS.to_vec(), test);
}

/// As [`each_kind`], for those in [`endless_kinds`].
#[track_caller]
pub fn each_endless_kind(test: impl Fn(Kind) + Send + 'static) {
    each_of(endless_kinds(), test);
}

#[track_caller]
fn each_of(kinds: Vec<Kind>, test: impl Fn(Kind) + Send + 'static) {
    bounded(move || {
        for &kind in &kinds {
            // Shown only if the test fails: says which kind it was.
            println!("kind: {kind:?}");
            test(kind);
        }
    });
}

/// Waits until it is so.
#[track_caller]
pub fn eventually(what: &str, mut it_is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !it_is_so() {
        assert!(Instant::now() < end, "still not so: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The best of five measurements has to be within the bound.
#[track_caller]
pub fn within(bound: Duration, what: &str, mut measure: impl FnMut(u32) -> Duration) {
    let mut best = Duration::MAX;
    for attempt in 0..5 {
        best = best.min(measure(attempt));
        if best <= bound {
            println!("{what}: {best:?} at attempt {}", attempt + 1);
            return;
        }
    }
    panic!("{what}: {best:?} at best, but {bound:?} is promised");
}

/// Loop iterations of the counting handler that take at least this long. Measured once.
pub fn loops_for(time: Duration) -> u32 {
    static PER_SECOND: OnceLock<f64> = OnceLock::new();
    if time.is_zero() {
        return 0;
    }
    let per_second = PER_SECOND.get_or_init(|| {
        let runtime = runtime();
        let latch = Latch::new();
        let kernel = runtime.launch(counter(Kind::Wgsl, "calibration", &latch)).unwrap();
        kernel.activate().unwrap();
        let mut best = 0.0f64;
        let (mut loops, most) = match device().longest_loop {
            None => (20_000, u32::MAX),
            Some(_) => (200, MOST_LOOPS / 8),
        };
        for _ in 0..6 {
            let begun = Instant::now();
            kernel.ask(Job { loops, ..job(0) }, LONG).unwrap();
            let took = begun.elapsed();
            best = best.max(f64::from(loops) / took.as_secs_f64());
            if took < Duration::from_millis(20) {
                loops = most.min(loops * 8);
            }
        }
        best
    });
    let loops = (per_second * time.as_secs_f64()).ceil().min(f64::from(u32::MAX)) as u32;
    // More would be a fault there, not a longer run.
    if device().longest_loop.is_some() { loops.min(MOST_LOOPS) } else { loops }
}

/// The first guarantee.
#[track_caller]
pub fn check_books(books: &Telemetry) {
    let ended = books.handled + books.returned + books.dead_letters.total();
    assert_eq!(books.accepted, ended + books.pending, "{books:#?}");
}

/// Waits until nothing is pending and every reply is where it belongs; the books then.
#[track_caller]
pub fn settled(kernel: &Handle<Job, Answer>) -> Telemetry {
    eventually("nothing is pending", || kernel.telemetry().pending == 0);
    // A message is handled before its reply is handed out. The state is read between rounds, when that is done
    // too; whether there is a state to read does not matter here.
    drop(kernel.read_state::<Tally>());
    let books = kernel.telemetry();
    check_books(&books);
    books
}

/// How often each of a number of things happened.
#[derive(Clone)]
pub struct Seen(Arc<Vec<AtomicU32>>);

impl Seen {
    pub fn new(things: usize) -> Self {
        Self(Arc::new((0..things).map(|_| AtomicU32::new(0)).collect()))
    }

    pub fn mark(&self, thing: usize) {
        self.0[thing].fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self, thing: usize) -> u32 {
        self.0[thing].load(Ordering::Relaxed)
    }
}
