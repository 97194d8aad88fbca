//! The thread that looks after kernels whose ports nobody waits at: starts them again, and tells when something came back.

use super::driver;
use super::lane::Lane;
use crate::error::Result;
use crate::message::Token;
use crate::sync::{Condvar, Mutex, lock, wait_until};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Looked at again and again for so long after something came back; then less often.
const EAGER: Duration = Duration::from_micros(50);
/// … and how often then.
const STEP: Duration = Duration::from_micros(50);
/// … and how often when there has been nothing for a while.
const LAZY: Duration = Duration::from_micros(500);

#[derive(Default)]
struct Watched {
    /// Whose ports want to be told.
    lanes: Vec<Arc<Lane>>,
    /// Whose ports are gone: kept until their kernels have left.
    orphans: Vec<(Arc<Lane>, Vec<Token>)>,
    /// All kernels, if something waits for some of them to leave, and whether any of them may be in its way.
    crowd: Vec<Arc<Lane>>,
    any_is_in_the_way: bool,
    /// To be told that the device is lost.
    lost: Vec<Arc<Lane>>,
    is_closed: bool,
}

impl Watched {
    fn is_empty(&self) -> bool {
        let Self { lanes, orphans, crowd, lost, .. } = self;
        [lanes, crowd, lost].iter().all(|list| list.is_empty()) && orphans.is_empty()
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Watch {
    watched: Mutex<Watched>,
    changed: Condvar,
}

impl Watch {
    /// Its thread runs until it is [closed](Self::close).
    ///
    /// # Errors
    ///
    /// `Unavailable` if the system gives no thread.
    pub fn start() -> Result<Arc<Self>> {
        let watch = Arc::new(Self::default());
        let own = watch.clone();
        let thread = std::thread::Builder::new().name("ringwork-cuda".into());
        let started = thread.spawn(move || own.run());
        started
            .map_err(|error| driver::unavailable(format!("no thread that looks after kernels: {error}")))?;
        Ok(watch)
    }

    /// Tells the kernel of a lane when something comes back.
    pub fn add(&self, lane: &Arc<Lane>) {
        let mut watched = lock(&self.watched);
        // Under the lock: what is added before it is closed goes when it is [adopted](Self::adopt).
        if lane.links.are_closed() {
            return;
        }
        if !watched.lanes.iter().any(|other| Arc::ptr_eq(other, lane)) {
            watched.lanes.push(lane.clone());
        }
        drop(watched);
        self.changed.notify_one();
    }

    /// Keeps a lane whose port is gone until its kernel has left; `tokens` are those of what was in the port.
    pub fn adopt(&self, lane: Arc<Lane>, tokens: Vec<Token>) {
        let mut watched = lock(&self.watched);
        // There is nobody to tell any more.
        watched.lanes.retain(|other| !Arc::ptr_eq(other, &lane));
        watched.orphans.push((lane, tokens));
        drop(watched);
        self.changed.notify_one();
    }

    /// Asks kernels to leave because something waits: for room, which any of them makes, and those with nothing to do come
    /// first; or for those that are in its way, which may be any. Not done by whoever found that out: it holds locks. Many
    /// may find that out before this looks, and one is enough.
    pub fn make_room(&self, any_is_in_the_way: bool, all: impl FnOnce() -> Vec<Arc<Lane>>) {
        let mut watched = lock(&self.watched);
        watched.any_is_in_the_way |= any_is_in_the_way;
        if watched.crowd.is_empty() {
            // They stay until they have been looked at: the last of a kernel that has gone meanwhile gives its memory
            // back, which is not for here.
            watched.crowd = all();
        }
        drop(watched);
        self.changed.notify_one();
    }

    /// Tells kernels that their device is lost.
    pub fn tell_all(&self, lanes: Vec<Arc<Lane>>) {
        lock(&self.watched).lost.extend(lanes);
        self.changed.notify_one();
    }

    pub fn close(&self) {
        lock(&self.watched).is_closed = true;
        self.changed.notify_one();
    }

    fn run(&self) {
        let mut last_news = Instant::now();
        loop {
            let mut watched = lock(&self.watched);
            while watched.is_empty() {
                if watched.is_closed {
                    return;
                }
                watched = wait_until(&self.changed, watched, None);
                last_news = Instant::now();
            }
            let crowd = std::mem::take(&mut watched.crowd);
            let any_is_in_the_way = std::mem::take(&mut watched.any_is_in_the_way);
            let lost = std::mem::take(&mut watched.lost);
            let lanes = watched.lanes.clone();
            let orphans: Vec<_> = watched.orphans.iter().map(|(lane, _)| lane.clone()).collect();
            drop(watched);
            let mut news = Vec::new();
            for lane in lanes {
                lane.tend();
                if lane.has_news() | lane.count_waiting() || lane.gpu.is_lost() {
                    news.push(lane);
                }
            }
            let mut left = Vec::new();
            for lane in orphans {
                lane.tend();
                if !lane.is_running() {
                    left.push(lane);
                }
            }
            if !news.is_empty() || !left.is_empty() {
                let mut watched = lock(&self.watched);
                watched.lanes.retain(|lane| !news.iter().any(|other| Arc::ptr_eq(lane, other)));
                let is_left =
                    |(lane, _): &mut (Arc<Lane>, _)| left.iter().any(|other| Arc::ptr_eq(lane, other));
                let over: Vec<_> = watched.orphans.extract_if(.., is_left).collect();
                drop(watched);
                over.into_iter().for_each(|(lane, tokens)| lane.end_links(tokens.into_iter()));
                last_news = Instant::now();
            }
            // Outside of the lock: whoever is told may come back at once. Dropped here, too, with all that they keep.
            thin_out(&crowd, any_is_in_the_way);
            drop((left, crowd));
            for lane in news.into_iter().chain(lost) {
                lane.control.call_ready(lane.gpu.is_lost());
            }
            match last_news.elapsed() {
                quiet if quiet < EAGER => std::thread::yield_now(),
                quiet if quiet < EAGER * 100 => std::thread::sleep(STEP),
                _ => std::thread::sleep(LAZY),
            }
        }
    }
}

/// Asks those to leave that have nothing to do; if there are none, or if any is in the way, those that had their turn.
fn thin_out(crowd: &[Arc<Lane>], any_is_in_the_way: bool) {
    let (idle, busy): (Vec<_>, Vec<_>) =
        crowd.iter().filter(|lane| lane.is_running()).partition(|lane| lane.is_idle());
    idle.iter().for_each(|lane| lane.ask_to_stop());
    if idle.is_empty() || any_is_in_the_way {
        busy.iter().filter(|lane| lane.had_turn()).for_each(|lane| lane.ask_to_stop());
    }
}
