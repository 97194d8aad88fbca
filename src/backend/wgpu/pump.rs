//! The one pump of a device: gathers what waits in all its kernels into a submission, and hands out what comes back.
//!
//! Whoever waits for a kernel of the device runs the pump, if nobody else does; a thread of its own runs it while
//! nobody waits. The device's answer is looked for without sleeping at first, because a round is often over sooner than
//! a thread is awake.

use super::gpu::Gpu;
use super::group::{Group, Piece};
use super::lane::Lane;
use super::link::{Leg, LinkPass, hand_back, legs};
use super::round::{Landed, Mapping, Round};
use crate::error::{Error, Result};
use crate::sync::{Condvar, Mutex, MutexGuard, lock, wait_until};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, TryLockError, Weak};
use std::time::{Duration, Instant};

/// The device's answer is looked for without sleeping for so long. What takes longer gains nothing by it, and loses a
/// third of its speed where the processor that looks is one of those that work (measured on llvmpipe).
const SPIN: Duration = Duration::from_micros(100);
/// … and so much longer for each further dispatch of the submission. A driver that hands each to another thread wakes that
/// one in half of the time if no processor sleeps: 64 kernels with a handler each took 1.4 ms, and 1.8 to 3.8 before
/// (measured on llvmpipe).
const SPIN_MORE: Duration = Duration::from_micros(30);
/// … but not longer than this.
const LONGEST_SPIN: Duration = Duration::from_millis(2);
/// A sleep for the device's answer ends after so long, to look whether the one who waits may leave.
const NAP: Duration = Duration::from_millis(2);
/// A waiting caller that found somebody else at the pump looks again after so long.
const TURN: Duration = Duration::from_micros(50);

/// Submissions that may be on their way at once: the next one is made ready while the device works. Worth a fifth of the
/// throughput even where the device is the host's own processors (measured on llvmpipe).
const DEPTH: usize = 2;
/// No submission is over sooner: who only sends need not look for its end, which takes some microseconds.
const SHORTEST: Duration = Duration::from_micros(20);
/// Whoever pumped and left is expected back within so long; it saves waking the thread for each round.
const WATCH: Duration = Duration::from_micros(200);
/// While callers keep coming back, the thread looks more and more rarely, down to this: on two processors that have a
/// device to run, too, its looks every 200 µs took a twelfth of the throughput (measured on llvmpipe).
const LONGEST_WATCH: Duration = Duration::from_millis(1);

/// How long the thread sleeps before its next look, from how long it did before this one.
fn next_watch(watch: Duration, came_back: bool, was_untold: bool) -> Duration {
    // Kernels that wait to be told by the thread would wait longer, too.
    if came_back && !was_untold { LONGEST_WATCH.min(watch * 2) } else { WATCH }
}

/// See the module.
pub(super) struct Pump {
    gpu: Arc<Gpu>,
    /// The device ends loops after so many iterations.
    longest_loop: Option<u32>,
    /// Made for the first kernel that may need it; `None` where it could not be: then what kernels emit goes through the host.
    links: OnceLock<Option<LinkPass>>,
    /// Kernels with messages for the next submission.
    queue: Mutex<Vec<Arc<Lane>>>,
    /// Kernels to which a caller of another one brought results: whoever waits for them has most often sent them together
    /// with its own, and comes for them next. Told by the thread if nobody does.
    untold: Mutex<Vec<Weak<Lane>>>,
    /// Every kernel there is, to be told when the device is lost.
    lanes: Mutex<Vec<Weak<Lane>>>,
    /// Held by whoever pumps.
    flights: std::sync::Mutex<VecDeque<Flight>>,
    /// Submissions that are on their way, for those who do not hold the lock.
    under_way: AtomicUsize,
    /// Counts how often somebody pumped, or left the pump.
    turns: AtomicU64,
    /// Whoever waits and does not pump.
    waiting: AtomicUsize,
    /// Wakes the thread that pumps while nobody waits; the flag says that there is something to do, or that it is over.
    bell: (Mutex<Bell>, Condvar),
}

#[derive(Default)]
struct Bell {
    has_rung: bool,
    /// Somebody pumped and left, and may come back: the thread looks now and then whether nobody does.
    is_watched: bool,
    /// … and did so just now.
    has_just_left: bool,
    /// The device is nobody's any more.
    is_closed: bool,
    has_thread: bool,
}

/// A submission on its way.
struct Flight {
    submission: wgpu::SubmissionIndex,
    since: Instant,
    rounds: Vec<Round>,
    mapping: Mapping,
    /// What became of messages that were not handled has been asked for.
    has_statuses: bool,
}

impl Pump {
    pub fn new(gpu: Arc<Gpu>, longest_loop: Option<u32>) -> Self {
        Self {
            gpu,
            longest_loop,
            links: OnceLock::new(),
            queue: Mutex::default(),
            untold: Mutex::default(),
            lanes: Mutex::default(),
            flights: Default::default(),
            under_way: AtomicUsize::new(0),
            turns: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            bell: Default::default(),
        }
    }

    /// Can what a kernel emits stay on the device?
    pub fn has_links(&self) -> bool {
        self.links.get_or_init(|| LinkPass::new(&self.gpu).ok()).is_some()
    }

    /// Has a kernel told when the device is lost.
    pub fn watch(&self, lane: &Arc<Lane>) {
        let mut lanes = lock(&self.lanes);
        // Now and then, so that many launches cost no more than one walk each over what is there.
        if lanes.len() == lanes.capacity() {
            lanes.retain(|lane| lane.strong_count() > 0);
        }
        lanes.push(Arc::downgrade(lane));
    }

    /// Takes a kernel with staged messages into the next submission.
    pub fn enqueue(&self, lane: &Arc<Lane>) {
        let mut state = lane.lock();
        if state.is_queued || !lane.may_begin(&state) {
            return;
        }
        state.is_queued = true;
        drop(state);
        lock(&self.queue).push(lane.clone());
    }

    /// Pumps, or waits for whoever does, until `is_over` (`true`), or until the deadline; once at least.
    pub fn wait_until(
        self: &Arc<Self>,
        lane: &Lane,
        deadline: Option<Instant>,
        is_over: &dyn Fn() -> bool,
    ) -> bool {
        let over = loop {
            match self.try_flights() {
                Some(mut flights) => {
                    let more = self.turn(&mut flights, deadline, &|| !is_over(), Some(lane));
                    drop(flights);
                    // What came over a link is over, and the kernel before is about to hand out what caused it.
                    if !more && lane.lock().on_the_way > 0 && !is_over() {
                        lane.wait(Instant::now() + TURN);
                    }
                }
                None if is_over() => {}
                None => {
                    // Relaxed: only a hint for whoever leaves the pump, that its thread is not needed.
                    self.waiting.fetch_add(1, Ordering::Relaxed);
                    let turn = Instant::now() + TURN;
                    lane.wait(deadline.map_or(turn, |end| end.min(turn)));
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                }
            }
            if is_over() {
                break true;
            }
            if crate::sync::passed(deadline) {
                break false;
            }
        };
        self.leave();
        over
    }

    /// Submits what waits, if nobody else is about to.
    pub fn submit_waiting(self: &Arc<Self>) {
        if let Some(mut flights) = self.try_flights() {
            self.fill(&mut flights);
        }
        self.leave();
    }

    /// Submits what waits, for a caller that does not stay: at once if the device has nothing, or if this kernel's messages
    /// are worth a submission of their own. A few messages of each of many kernels go together in the next one.
    pub fn look(self: &Arc<Self>, lane: &Lane) {
        if let Some(mut flights) = self.try_flights() {
            let is_worth_it = lane.is_worth_a_round();
            if flights.is_empty() || is_worth_it {
                self.fill(&mut flights);
            }
            let is_old = flights.front().is_some_and(|flight| flight.since.elapsed() >= SHORTEST);
            if (is_worth_it && flights.len() == DEPTH && is_old) || self.gpu.is_lost() {
                self.turn(&mut flights, Some(Instant::now()), &|| false, Some(lane));
            }
        }
        self.leave();
    }

    fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) == 0
            && lock(&self.queue).is_empty()
            && lock(&self.untold).is_empty()
    }

    /// Sees to it that somebody goes on with what is left: the caller itself if it comes back soon, else the thread.
    pub fn leave(self: &Arc<Self>) {
        if !self.is_idle() && self.waiting.load(Ordering::Relaxed) == 0 {
            let mut bell = lock(&self.bell.0);
            // Relaxed: see `work`. Who only submits has been here, too, and comes back when its messages do.
            self.turns.fetch_add(1, Ordering::Relaxed);
            if !bell.is_watched {
                (bell.is_watched, bell.has_just_left) = (true, true);
                self.wake(bell);
            }
        }
    }

    /// Has the thread pump.
    pub fn ring(self: &Arc<Self>) {
        let mut bell = lock(&self.bell.0);
        bell.has_rung = true;
        self.wake(bell);
    }

    fn wake(self: &Arc<Self>, mut bell: MutexGuard<'_, Bell>) {
        if !bell.has_thread {
            let pump = Arc::downgrade(self);
            let thread = std::thread::Builder::new().name("ringwork-wgpu".into());
            // Without a thread the work waits for callers.
            bell.has_thread = thread.spawn(move || Self::work(&pump)).is_ok();
        }
        drop(bell);
        self.bell.1.notify_one();
    }

    /// The device is nobody's any more. Its kernels may not know: the thread tells them if it is lost, and ends when none
    /// is left.
    pub fn close(self: &Arc<Self>) {
        lock(&self.bell.0).is_closed = true;
        if self.has_kernels() {
            self.ring();
        } else {
            self.bell.1.notify_all();
        }
    }

    /// Is there a kernel that has not been told of the device's loss?
    fn has_kernels(&self) -> bool {
        lock(&self.lanes).iter().any(|lane| lane.strong_count() > 0)
    }

    /// The thread that pumps while nobody waits.
    fn work(pump: &Weak<Self>) {
        let (mut turns, mut watch) = (0, WATCH);
        loop {
            let Some(pump) = pump.upgrade() else { return };
            let mut bell = lock(&pump.bell.0);
            if bell.is_closed && !bell.has_rung && !pump.has_kernels() {
                bell.has_thread = false;
                return;
            }
            if !bell.has_rung {
                // Not for ever: the pump is gone when its last owner is, and this thread holds it meanwhile.
                let nap = if bell.is_watched { watch } else { Duration::from_millis(100) };
                bell = wait_until(&pump.bell.1, bell, Some(Instant::now() + nap));
            }
            let has_just_left = std::mem::take(&mut bell.has_just_left);
            if !std::mem::take(&mut bell.has_rung) {
                if has_just_left {
                    // Relaxed: as below. Its look is a while from now.
                    turns = pump.turns.load(Ordering::Relaxed);
                    continue;
                }
                if pump.is_idle() {
                    // Whoever leaves something behind from here on says so.
                    bell.is_watched = false;
                    if pump.is_idle() {
                        watch = WATCH;
                        continue;
                    }
                    bell.is_watched = true;
                }
                drop(bell);
                let was_untold = pump.tell_untold();
                bell = lock(&pump.bell.0);
                // Relaxed: only whether somebody has been here lately.
                let before = std::mem::replace(&mut turns, pump.turns.load(Ordering::Relaxed));
                let came_back = before != turns || !bell.is_watched || pump.try_flights().is_none();
                watch = next_watch(watch, came_back, was_untold);
                if came_back {
                    continue;
                }
            }
            watch = WATCH;
            drop(bell);
            loop {
                let Some(mut flights) = pump.try_flights() else {
                    // Somebody waits and pumps; who leaves rings again.
                    break;
                };
                let more = pump.turn(&mut flights, None, &|| true, None);
                drop(flights);
                if !more {
                    break;
                }
            }
        }
    }

    fn try_flights(&self) -> Option<std::sync::MutexGuard<'_, VecDeque<Flight>>> {
        match self.flights.try_lock() {
            Ok(flights) => Some(flights),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Submits what waits, and waits for the oldest submission, until it is back, the deadline passes or the caller may
    /// not stay. `true` if something is left.
    fn turn(
        &self,
        flights: &mut VecDeque<Flight>,
        deadline: Option<Instant>,
        may_stay: &dyn Fn() -> bool,
        own: Option<&Lane>,
    ) -> bool {
        if self.gpu.is_lost() {
            self.give_up(flights);
            return false;
        }
        // Relaxed: see `work`.
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.fill(flights);
        if flights.front().is_some_and(|flight| self.is_back(flight, deadline, may_stay)) {
            let flight = flights.pop_front().expect("it was there");
            self.land(flights, flight, own);
            // At once: whoever gets the results has its hands full with them.
            self.fill(flights);
        }
        !flights.is_empty() || !lock(&self.queue).is_empty()
    }

    /// Submits what waits, as far as there may be more on the way.
    fn fill(&self, flights: &mut VecDeque<Flight>) {
        while flights.len() < DEPTH
            && !self.gpu.is_lost()
            && let Some(rounds) = self.gather()
        {
            if let Err(error) = self.submit(flights, rounds) {
                self.abandon(flights, &error);
            }
        }
        self.under_way.store(flights.len(), Ordering::SeqCst);
    }

    /// What waits in all kernels, as rounds; `None` if nothing does.
    fn gather(&self) -> Option<Vec<Vec<Piece>>> {
        let lanes = std::mem::take(&mut *lock(&self.queue));
        let mut rounds: Vec<Vec<Piece>> = Vec::new();
        let mut later = Vec::new();
        for lane in lanes {
            let group = &lane.group;
            let open = rounds.iter().position(|round| Arc::ptr_eq(&round[0].lane.group, group));
            let mut state = lane.lock();
            if !lane.may_begin(&state) {
                // Whoever lets it go on enqueues it again.
                state.is_queued = false;
                continue;
            }
            let fits = open.is_none_or(|round| {
                let round: &Vec<Piece> = &rounds[round];
                let taken: u32 = round.iter().map(|piece| piece.batch.count).sum();
                let alone = group.alone || state.staged.alone || round[0].batch.alone;
                !alone && taken + state.staged.count <= group.most
            });
            if !fits {
                drop(state);
                later.push(lane);
                continue;
            }
            let spare = state.spare.pop().unwrap_or_default();
            let mut batch = std::mem::replace(&mut state.staged, spare);
            batch.alone |= group.alone;
            state.is_queued = false;
            state.rounds += 1;
            lane.count_waiting(state.apart);
            // In order, and behind nothing that is on its way through the host.
            let may_pass = lane.onward.is_some()
                && (state.rounds, state.detours) == (1, 0)
                && !batch.is_again
                && batch.tokens.len() == batch.count as usize;
            state.passes = may_pass;
            drop(state);
            let legs = if may_pass { legs(&lane, batch.count, self.longest_loop) } else { Vec::new() };
            if legs.is_empty() {
                lane.take_detour(&mut lane.lock(), &mut batch);
            }
            let piece = Piece { lane, batch, legs };
            match open {
                Some(round) => rounds[round].push(piece),
                None => rounds.push(vec![piece]),
            }
        }
        if !later.is_empty() {
            lock(&self.queue).extend(later);
        }
        (!rounds.is_empty()).then_some(rounds)
    }

    fn submit(&self, flights: &mut VecDeque<Flight>, rounds: Vec<Vec<Piece>>) -> Result<()> {
        let scope = self.gpu.scope();
        let keeping = self.gpu.keep_states();
        let mut prepared = Vec::new();
        for pieces in rounds {
            let lanes: Vec<_> = pieces.iter().map(|piece| piece.lane.clone()).collect();
            let group: Arc<Group> = lanes[0].group.clone();
            let mut pieces = pieces;
            let legs: Vec<_> = pieces.iter_mut().map(|piece| std::mem::take(&mut piece.legs)).collect();
            match group.prepare(pieces) {
                Ok(mut round) => {
                    for (piece, legs) in round.pieces.iter_mut().zip(legs) {
                        piece.legs = legs;
                    }
                    prepared.push(round);
                }
                // Its kernels alone: the others' messages go on.
                Err(error) => {
                    lanes.iter().for_each(|lane| lane.fail(&error));
                    legs.iter().flatten().for_each(Leg::call_off);
                }
            }
        }
        if prepared.is_empty() {
            // Each of them has been told why. What is in flight is none of theirs.
            _ = scope.check("a round");
            return Ok(());
        }
        if let Some(Some(links)) = self.links.get() {
            links.extend(&mut prepared);
        }
        let (commands, mapping) = Round::encode(&self.gpu, &mut prepared);
        let submission = self.gpu.submit(commands);
        drop(keeping);
        if let [round] = &mut prepared[..] {
            round.encode_ahead();
        }
        let since = Instant::now();
        flights.push_back(Flight { submission, since, rounds: prepared, mapping, has_statuses: false });
        scope.check("a round")
    }

    /// Waits for a submission: without sleeping at first.
    fn is_back(&self, flight: &Flight, deadline: Option<Instant>, may_stay: &dyn Fn() -> bool) -> bool {
        let is_back = || flight.mapping.is_over();
        let begun = Instant::now();
        let spin = LONGEST_SPIN.min(SPIN + SPIN_MORE * (flight.rounds.len() as u32 - 1));
        let mut nap = Duration::ZERO;
        loop {
            let index = Some(flight.submission.clone());
            let wait = wgpu::PollType::Wait { submission_index: index, timeout: Some(nap) };
            if let Err(error @ wgpu::PollError::WrongSubmissionIndex(..)) = self.gpu.poll(wait) {
                self.gpu.lose("a submission was not accepted", &error);
            }
            if is_back() || self.gpu.is_lost() {
                return true;
            }
            let now = Instant::now();
            if !may_stay() || deadline.is_some_and(|end| now >= end) {
                return false;
            }
            if now - begun > spin {
                nap = deadline.map_or(NAP, |end| NAP.min(end - now));
            } else {
                // Not a pause: the driver's own thread may wait for this processor.
                std::thread::yield_now();
            }
        }
    }

    /// Hands out what a submission brought; or asks for what became of its messages, if not all were handled.
    fn land(&self, flights: &mut VecDeque<Flight>, mut flight: Flight, own: Option<&Lane>) {
        if self.gpu.is_lost() || flight.mapping.has_failed() {
            let error = self.gpu.lose("the results of a round", &"they could not be mapped");
            flight.rounds.iter().for_each(|round| round.fail(&error));
            return;
        }
        if !std::mem::replace(&mut flight.has_statuses, true) {
            match Round::ask_for_statuses(&self.gpu, &flight.rounds) {
                Ok(None) => {}
                Ok(Some((submission, mapping))) => {
                    flight.submission = submission.unwrap_or(flight.submission);
                    flight.mapping = mapping;
                    return flights.push_front(flight);
                }
                Err(error) => return flight.rounds.iter().for_each(|round| round.fail(&error)),
            }
        }
        let may_wait = own.is_some() && lock(&self.bell.0).has_thread;
        let mut over = Vec::new();
        let mut failure = None;
        for mut round in flight.rounds {
            let pieces = std::mem::take(&mut round.pieces);
            let origin = round.link.as_ref().map(|link| link.origin);
            match Landed::new(round) {
                Ok(landed) => over.push((pieces, origin, Arc::new(landed))),
                Err(error) => {
                    pieces.iter().for_each(|piece| piece.lane.fail(&error));
                    failure = Some(error);
                }
            }
        }
        if let Some(error) = failure {
            // The device is lost with it, and no kernel of the submission has anything of it: all of it runs again.
            let pieces = over.iter().flat_map(|(pieces, ..)| pieces);
            return pieces.for_each(|piece| piece.lane.fail(&error));
        }
        let (mut next, mut later) = (Vec::new(), Vec::new());
        hand_back(over, |lane, returned| {
            // Others wait for what it brought to them.
            let is_awaited = returned.next.is_some();
            if lane.take_back(returned) {
                next.push(lane.clone());
            }
            if may_wait && !is_awaited && !own.is_some_and(|own| std::ptr::eq(own, &**lane)) {
                later.push(Arc::downgrade(lane));
            } else {
                lane.tell_kernel();
            }
        });
        lock(&self.queue).append(&mut next);
        lock(&self.untold).append(&mut later);
    }

    /// Tells kernels of results that a caller of another one brought; `true` if there were any.
    fn tell_untold(&self) -> bool {
        let untold = std::mem::take(&mut *lock(&self.untold));
        let are_any = !untold.is_empty();
        for lane in untold {
            // Also where somebody has: who took these results while it handed out others does not know that none are left.
            if let Some(lane) = lane.upgrade() {
                lane.tell_kernel();
            }
        }
        are_any
    }

    /// Something was wrong with the last submission.
    fn abandon(&self, flights: &mut VecDeque<Flight>, error: &Error) {
        if let Some(flight) = flights.pop_back() {
            flight.rounds.iter().for_each(|round| round.fail(error));
        }
    }

    /// The device is lost: nobody gets anything any more.
    fn give_up(&self, flights: &mut VecDeque<Flight>) {
        let error = self.gpu.lost_error();
        for flight in flights.drain(..) {
            flight.rounds.iter().for_each(|round| round.fail(&error));
        }
        self.under_way.store(0, Ordering::SeqCst);
        drop(std::mem::take(&mut *lock(&self.queue)));
        let lanes = std::mem::take(&mut *lock(&self.lanes));
        lanes.iter().filter_map(Weak::upgrade).for_each(|lane| lane.fail(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_looks_rarely_only_while_callers_come_back() {
        let mut watch = WATCH;
        for _ in 0..10 {
            let next = next_watch(watch, true, false);
            assert!(next > watch || next == LONGEST_WATCH);
            watch = next;
        }
        assert_eq!(watch, LONGEST_WATCH);
        assert_eq!(next_watch(watch, false, false), WATCH);
        assert_eq!(next_watch(watch, true, true), WATCH);
    }
}
