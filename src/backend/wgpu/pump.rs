//! The one pump of a device: gathers what waits in all its kernels into a submission, and hands out what comes back.
//!
//! Whoever waits for a kernel of the device runs the pump, if nobody else does; a thread of its own runs it while
//! nobody waits. The device's answer is looked for without sleeping at first, because a round is often over sooner than
//! a thread is awake.

use super::gpu::Gpu;
use super::group::{Group, Piece};
use super::lane::Lane;
use super::round::{Mapping, Round};
use crate::error::{Error, Result};
use crate::sync::{Condvar, Mutex, MutexGuard, lock, wait_until};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, TryLockError, Weak};
use std::time::{Duration, Instant};

/// The device's answer is looked for without sleeping for so long. What takes longer gains nothing by it, and loses a
/// third of its speed where the processor that looks is one of those that work (measured on llvmpipe).
const SPIN: Duration = Duration::from_micros(100);
/// A sleep for the device's answer ends after so long, to look whether the one who waits may leave.
const NAP: Duration = Duration::from_millis(2);
/// A waiting caller that found somebody else at the pump looks again after so long.
const TURN: Duration = Duration::from_micros(50);

/// See the module.
pub(super) struct Pump {
    gpu: Arc<Gpu>,
    /// Submissions that may be on their way at once.
    depth: usize,
    /// Kernels with messages for the next submission.
    queue: Mutex<Vec<Arc<Lane>>>,
    /// Every kernel there is, to be told when the device is lost.
    lanes: Mutex<Vec<Weak<Lane>>>,
    /// Held by whoever pumps.
    flights: std::sync::Mutex<VecDeque<Flight>>,
    /// Submissions that are on their way, for those who do not hold the lock.
    under_way: AtomicUsize,
    /// Whoever waits and does not pump.
    waiting: AtomicUsize,
    /// Wakes the thread that pumps while nobody waits; the flag says that there is something to do, or that it is over.
    bell: (Mutex<Bell>, Condvar),
}

#[derive(Default)]
struct Bell {
    has_rung: bool,
    is_closed: bool,
    has_thread: bool,
}

/// A submission on its way.
struct Flight {
    submission: wgpu::SubmissionIndex,
    rounds: Vec<Round>,
    mapping: Mapping,
}

impl Pump {
    pub fn new(gpu: Arc<Gpu>, depth: usize) -> Self {
        Self {
            gpu,
            depth,
            queue: Mutex::default(),
            lanes: Mutex::default(),
            flights: Default::default(),
            under_way: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            bell: Default::default(),
        }
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

    /// Pumps, or waits for whoever does, until `is_over` (`true`), or until the deadline.
    pub fn wait_until(
        self: &Arc<Self>,
        lane: &Lane,
        deadline: Option<Instant>,
        is_over: &dyn Fn() -> bool,
    ) -> bool {
        let over = loop {
            if is_over() {
                break true;
            }
            if crate::sync::passed(deadline) {
                break false;
            }
            match self.try_flights() {
                Some(mut flights) => {
                    self.turn(&mut flights, deadline, &|| !is_over());
                }
                None => {
                    // Relaxed: only a hint for whoever leaves the pump, that its thread is not needed.
                    self.waiting.fetch_add(1, Ordering::Relaxed);
                    let turn = Instant::now() + TURN;
                    lane.wait(deadline.map_or(turn, |end| end.min(turn)));
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                }
            }
        };
        self.leave();
        over
    }

    /// One look, without waiting.
    pub fn look(self: &Arc<Self>) {
        if let Some(mut flights) = self.try_flights() {
            self.turn(&mut flights, Some(Instant::now()), &|| false);
        }
        self.leave();
    }

    /// Sees to it that somebody goes on with what is left.
    pub fn leave(self: &Arc<Self>) {
        let is_idle = self.under_way.load(Ordering::SeqCst) == 0 && lock(&self.queue).is_empty();
        if !is_idle && self.waiting.load(Ordering::Relaxed) == 0 {
            self.ring();
        }
    }

    /// Wakes the thread that pumps.
    pub fn ring(self: &Arc<Self>) {
        let mut bell = lock(&self.bell.0);
        bell.has_rung = true;
        if !bell.has_thread && !bell.is_closed {
            let pump = Arc::downgrade(self);
            let thread = std::thread::Builder::new().name("ringwork-wgpu".into());
            // Without a thread the work waits for callers.
            bell.has_thread = thread.spawn(move || Self::work(&pump)).is_ok();
        }
        drop(bell);
        self.bell.1.notify_one();
    }

    /// Ends the thread.
    pub fn close(&self) {
        lock(&self.bell.0).is_closed = true;
        self.bell.1.notify_all();
    }

    /// The thread that pumps while nobody waits.
    fn work(pump: &Weak<Self>) {
        loop {
            let Some(pump) = pump.upgrade() else { return };
            let mut bell = lock(&pump.bell.0);
            if bell.is_closed {
                return;
            }
            if !bell.has_rung {
                // Not for ever: the pump is gone when its last owner is, and this thread holds it meanwhile.
                let nap = Instant::now() + Duration::from_millis(100);
                bell = wait_until(&pump.bell.1, bell, Some(nap));
            }
            if !std::mem::take(&mut bell.has_rung) {
                continue;
            }
            drop(bell);
            loop {
                let Some(mut flights) = pump.try_flights() else {
                    // Somebody waits and pumps; who leaves rings again.
                    break;
                };
                let more = pump.turn(&mut flights, None, &|| true);
                drop(flights);
                if !more {
                    break;
                }
            }
        }
    }

    fn try_flights(&self) -> Option<MutexGuard<'_, VecDeque<Flight>>> {
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
    ) -> bool {
        if self.gpu.is_lost() {
            self.give_up(flights);
            return false;
        }
        while flights.len() < self.depth
            && let Some(rounds) = self.gather()
        {
            if let Err(error) = self.submit(flights, rounds) {
                self.abandon(flights, &error);
            }
        }
        self.under_way.store(flights.len(), Ordering::SeqCst);
        if flights.front().is_some_and(|flight| self.is_back(flight, deadline, may_stay)) {
            let flight = flights.pop_front().expect("it was there");
            self.land(flight);
            self.under_way.store(flights.len(), Ordering::SeqCst);
        }
        !flights.is_empty() || !lock(&self.queue).is_empty()
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
                !state.staged.alone && !round[0].batch.alone && taken + state.staged.count <= group.most
            });
            if !fits {
                drop(state);
                later.push(lane);
                continue;
            }
            let spare = state.spare.pop().unwrap_or_default();
            let batch = std::mem::replace(&mut state.staged, spare);
            state.is_queued = false;
            state.rounds += 1;
            lane.count_waiting(state.apart);
            drop(state);
            let piece = Piece { lane, batch };
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
            match group.prepare(pieces) {
                Ok(round) => prepared.push(round),
                // Its kernels alone: the others' messages go on.
                Err(error) => lanes.iter().for_each(|lane| lane.fail(&error)),
            }
        }
        if prepared.is_empty() {
            return scope.check("a round");
        }
        let (commands, mapping) = Round::encode(&self.gpu, &mut prepared);
        let submission = self.gpu.submit(commands);
        drop(keeping);
        if let [round] = &mut prepared[..] {
            round.encode_ahead();
        }
        flights.push_back(Flight { submission, rounds: prepared, mapping });
        scope.check("a round")
    }

    /// Waits for a submission: without sleeping at first.
    fn is_back(&self, flight: &Flight, deadline: Option<Instant>, may_stay: &dyn Fn() -> bool) -> bool {
        let is_back = || flight.mapping.is_over();
        let begun = Instant::now();
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
            if now - begun > SPIN {
                nap = deadline.map_or(NAP, |end| NAP.min(end - now));
            } else {
                // Not a pause: the driver's own thread may wait for this processor.
                std::thread::yield_now();
            }
        }
    }

    /// Hands out what a submission brought.
    fn land(&self, flight: Flight) {
        if self.gpu.is_lost() || flight.mapping.has_failed() {
            let error = self.gpu.lose("the results of a round", &"they could not be mapped");
            flight.rounds.iter().for_each(|round| round.fail(&error));
            return;
        }
        let mut next = Vec::new();
        for round in flight.rounds {
            // Told to its kernels already.
            let _ = round.finish(&mut next);
        }
        lock(&self.queue).append(&mut next);
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
        for lane in std::mem::take(&mut *lock(&self.lanes)) {
            if let Some(lane) = lane.upgrade() {
                lane.fail(&error);
            }
        }
    }
}
