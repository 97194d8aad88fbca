//! Links on the device: what a kernel emits goes into the ring of the next resident kernel without a visit to the host.
//!
//! A kernel that others may emit to has a second ring of slots, in device memory. When messages are about to be given to
//! a kernel, [`open_way`] asks where what they emit goes, as far as that leads on the device, and gives out places in the
//! rings on the way for all that they may emit: a kernel never waits for room, and who writes where does not depend on
//! who is faster. The numbers are explained in `ring.cuh`.
//!
//! The host keeps its books with the records, as ever: those of a kernel say what it emitted. When they have been entered,
//! the kernel at the link's end hears what the messages are that have come to it ([`Lane::arrive`]), and only then are
//! its own records taken: nobody sees what a message caused before the message itself is in the books.
//!
//! A kernel that has left the device and does not go on would keep the one behind it waiting. What it has not begun goes
//! through the host then, and its places are [called off](Lane::call_off): the host puts slots with nothing in them there.

use super::gpu::DeviceMemory;
use super::lane::Lane;
use super::layout::{Layout, ROUTE_WORDS, ROUTES};
use crate::backend::onward::{self, MOST_LEGS};
use crate::backend::{Completion, DeviceInlet, Onward, Shape};
use crate::message::Token;
use crate::sync::{Mutex, lock};
use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The ring for what other kernels emit: nobody has asked for it, somebody has, and it has been made, if there was memory.
const NOT_WANTED: u8 = 0;
const WANTED: u8 = 1;
const MADE: u8 = 2;

/// What a lane has for links.
pub(super) struct Links {
    onward: Option<Arc<dyn Onward>>,
    /// Messages that the port keeps until it has asked where what they emit goes.
    pub staged: AtomicUsize,
    /// What the messages before this position emitted is where it goes.
    passed: AtomicU64,
    /// Kernels that are started see it.
    ring: OnceLock<DeviceMemory>,
    ring_state: AtomicU8,
    /// For the next start.
    made: Mutex<Option<DeviceMemory>>,
    inbound: Mutex<Inbound>,
    outbound: Mutex<Outbound>,
    /// What a test does between the looks at whose record is next and at whether it is there.
    #[cfg(test)]
    pub between: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

/// Places that were given out for what other kernels emit.
#[derive(Default)]
struct Inbound {
    /// Position of the first of `places`; those before it, and those behind the last, are the host's.
    first: u64,
    places: VecDeque<Place>,
    /// How many of them are [open](Place::Open), and for whose values: one kernel's at a time.
    open: usize,
    source: usize,
    /// The layer above has heard of all before this position.
    heard: u64,
    is_closed: bool,
}

/// What is in the place of a message.
enum Place {
    /// One from the host.
    Host,
    /// What a kernel may emit, or not.
    Open,
    Skipped,
    /// A message of which the layer above has not heard.
    Came {
        token: Token,
        words: Box<[u32]>,
    },
    /// One of which it has.
    Heard,
}

/// What there is to know of the next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is that of a message with a token.
    Known,
    /// It has nothing in it.
    Skipped,
    /// The kernel before has to be heard first.
    Unknown,
}

impl Inbound {
    fn get(&self, position: u64) -> Option<&Place> {
        self.places.get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }

    /// Decides what is in an open place; `false` if it is not open.
    fn fill(&mut self, position: u64, place: Place) -> bool {
        let index = position.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(old @ Place::Open) = index.and_then(|index| self.places.get_mut(index)) else {
            return false;
        };
        *old = place;
        self.open -= 1;
        true
    }

    fn end(&self) -> u64 {
        self.first + self.places.len() as u64
    }
}

/// What a kernel's messages emit over its link on the device.
#[derive(Default)]
struct Outbound {
    /// The messages that do so and have not been popped, in order.
    segments: VecDeque<Segment>,
    /// What some message before this position emits goes through the host.
    detour: u64,
    /// The newest route, and its number.
    newest: Option<(Route, u32)>,
}

/// Messages with the same route, one after the other.
#[derive(Clone)]
struct Segment {
    messages: Range<u64>,
    number: u32,
    route: Route,
}

/// As `RtRoute`.
#[derive(Clone)]
struct Route {
    to: Arc<Lane>,
    offset: u64,
    /// What the values become there has this route.
    next: u32,
}

impl Outbound {
    fn find(&self, position: u64) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.messages.contains(&position))
    }
}

/// A step of the way of what messages emit.
struct Leg {
    from: Arc<Lane>,
    messages: Range<u64>,
    to: Arc<Lane>,
    /// The first of their places there.
    place: u64,
}

/// Opens the way for what the next so many messages of a kernel emit, as far as it leads on the device; the route of the
/// messages, or 0 if all goes through the host. Neither a mailbox nor a lane is locked, the kernel's port is held.
pub(super) fn open_way(lane: &Arc<Lane>, count: usize) -> u32 {
    let mut legs: Vec<Leg> = Vec::new();
    let mut from = lane.clone();
    let mut messages = lane.tail()..lane.tail() + count as u64;
    while legs.len() < MOST_LEGS
        && from.may_pass_on()
        && let Some(onward) = &from.links.onward
    {
        let count = messages.end - messages.start;
        let Some(to) = onward::open(&**onward, &from, count as usize) else { break };
        let end = to.tail();
        let place = end - count * from.layout.most_emitted();
        legs.push(Leg { from, messages, to: to.clone(), place });
        (from, messages) = (to, place..end);
    }
    from.take_detour(messages.end);
    let mut route = 0;
    for leg in legs.iter().rev() {
        route = leg.from.enter_route(leg, route).unwrap_or_else(|| {
            let most = leg.from.layout.most_emitted();
            leg.to.skip(leg.place..leg.place + (leg.messages.end - leg.messages.start) * most);
            0
        });
    }
    for leg in &legs {
        leg.to.rouse();
    }
    for leg in legs.iter().skip(1) {
        // It may have been told to stop before it had something to call off.
        leg.from.tend();
    }
    route
}

impl Links {
    pub fn new(onward: Option<Arc<dyn Onward>>) -> Self {
        Self {
            onward,
            staged: AtomicUsize::new(0),
            passed: AtomicU64::new(0),
            ring: OnceLock::new(),
            ring_state: AtomicU8::new(NOT_WANTED),
            made: Mutex::default(),
            inbound: Mutex::default(),
            outbound: Mutex::default(),
            #[cfg(test)]
            between: Mutex::default(),
        }
    }

    #[cfg(test)]
    pub fn looked(&self) {
        let between = lock(&self.between).take();
        if let Some(between) = between {
            between();
        }
    }

    /// The ring's address for a kernel that is about to be started, or 0.
    pub fn ring(&self) -> u64 {
        if let Some(made) = lock(&self.made).take() {
            _ = self.ring.set(made);
        }
        self.ring.get().map_or(0, |ring| ring.address)
    }

    /// May anything have come over a link?
    fn are_used(&self) -> bool {
        self.ring.get().is_some()
    }

    /// Positions in this range in which there is no message, as far as the layer above knows.
    pub fn unheard(&self, range: Range<u64>) -> usize {
        if !self.are_used() {
            return 0;
        }
        let inbound = lock(&self.inbound);
        let index = |position: u64| position.saturating_sub(inbound.first) as usize;
        let part = inbound.places.iter().take(index(range.end)).skip(index(range.start));
        part.filter(|place| !matches!(place, Place::Host | Place::Heard)).count()
    }

    /// Have places been given out?
    pub fn are_awaited(&self) -> bool {
        self.are_used() && !lock(&self.inbound).places.is_empty()
    }

    /// What the record in this place is.
    pub fn next(&self, position: u64) -> Next {
        if !self.are_used() {
            return Next::Known;
        }
        match lock(&self.inbound).get(position) {
            None | Some(Place::Host | Place::Heard) => Next::Known,
            Some(Place::Skipped) => Next::Skipped,
            Some(Place::Open | Place::Came { .. }) => Next::Unknown,
        }
    }

    /// Is it known what the record in this place is, or about to be when the port looks?
    pub fn is_filled(&self, position: u64) -> bool {
        !self.are_used() || !matches!(lock(&self.inbound).get(position), Some(Place::Open))
    }

    /// Has nobody heard yet what is in some place before this position?
    pub fn is_unknown_before(&self, position: u64) -> bool {
        self.are_used() && {
            let inbound = lock(&self.inbound);
            let before = position.saturating_sub(inbound.first) as usize;
            inbound.places.iter().take(before).any(|place| matches!(place, Place::Open))
        }
    }

    /// Tells the layer above of messages that came, each with its token. The port's.
    pub fn tell(&self, tokens: &mut dyn FnMut(Token), sink: &mut dyn FnMut(Completion<'_>)) {
        if !self.are_used() {
            return;
        }
        let mut locked = lock(&self.inbound);
        let inbound = &mut *locked;
        let mut over = 0;
        inbound.heard = inbound.heard.max(inbound.first);
        let heard = (inbound.heard - inbound.first) as usize;
        for place in inbound.places.iter_mut().skip(heard) {
            match place {
                Place::Open => break,
                // An empty place is over when it has been passed on: the next kernel waits for it, too.
                Place::Host | Place::Skipped | Place::Heard => {}
                Place::Came { token, words } => {
                    sink(Completion::Arrived { token: *token, message: bytemuck::cast_slice(words) });
                    tokens(*token);
                    *place = Place::Heard;
                    over += 1;
                }
            }
            inbound.heard += 1;
        }
        drop(locked);
        if over > 0 {
            sink(Completion::LinkOver { most: over });
        }
    }

    /// Records before this position have been taken.
    pub fn forget_before(&self, position: u64) {
        if !self.are_used() {
            return;
        }
        let mut inbound = lock(&self.inbound);
        while inbound.first < position && inbound.places.pop_front().is_some() {
            inbound.first += 1;
        }
    }

    /// Is the port gone, or about to be?
    pub fn are_closed(&self) -> bool {
        lock(&self.inbound).is_closed
    }

    /// Nothing that comes from now on is of interest.
    pub fn close(&self) {
        lock(&self.inbound).is_closed = true;
    }

    /// What all messages before this position emitted is where it goes.
    pub fn set_passed(&self, position: u64) {
        // Release pairs with the Acquire in `may_pass_on`: what was put on the host's way is there.
        self.passed.store(position, Ordering::Release);
    }

    /// Is there a message whose values go over the link, and that has not been popped? The last one counts until another
    /// follows.
    pub fn are_open(&self) -> bool {
        self.onward.is_some() && !lock(&self.outbound).segments.is_empty()
    }

    /// Where what this message emits goes on the device: to whom, and its first place there. Asked in order.
    pub fn way(&self, position: u64, most: u64) -> Option<(Arc<Lane>, u64)> {
        self.onward.as_ref()?;
        let mut outbound = lock(&self.outbound);
        while outbound.segments.front().is_some_and(|segment| segment.messages.end <= position) {
            outbound.segments.pop_front();
        }
        outbound.find(position).map(|segment| (segment.route.to.clone(), segment.place(position, most)))
    }
}

impl Segment {
    fn place(&self, position: u64, most: u64) -> u64 {
        position.wrapping_mul(most).wrapping_add(self.route.offset)
    }
}

impl Lane {
    /// Makes the ring for what other kernels emit, if somebody has asked for it. The port's, with nothing locked.
    pub fn make_ring(&self) {
        // Relaxed: the port alone makes it.
        if self.links.ring_state.load(Ordering::Relaxed) != WANTED {
            return;
        }
        self.links.ring_state.store(MADE, Ordering::Relaxed);
        // Without the memory everything goes through the host.
        if let Ok(ring) = self.gpu.device_memory(self.layout.slot * self.layout.places() * 8) {
            *lock(&self.links.made) = Some(ring);
            // It sees the ring when it comes back.
            self.ask_to_stop();
        }
    }

    /// Is nothing of what this kernel emitted on its way through the host, and is there room for another route?
    fn may_pass_on(&self) -> bool {
        let outbound = lock(&self.links.outbound);
        let newest = outbound.newest.as_ref().map_or(0, |(_, number)| *number);
        let has_room = |oldest: &Segment| newest.wrapping_sub(oldest.number) < ROUTES as u32 - 2;
        self.layout.is_routed && self.is_all_out(&outbound) && outbound.segments.front().is_none_or(has_room)
    }

    /// Is nothing on its way through the host?
    fn is_all_out(&self, outbound: &Outbound) -> bool {
        // Acquire pairs with the Release in `set_passed`.
        outbound.detour <= self.links.passed.load(Ordering::Acquire)
    }

    /// What some messages before this position emit goes through the host.
    pub fn take_detour(&self, end: u64) {
        if self.layout.is_routed {
            let mut outbound = lock(&self.links.outbound);
            outbound.detour = outbound.detour.max(end);
        }
    }

    /// Enters where what messages emit goes, and what is to become of it there; the number of their route. `None` if what
    /// is before them has been [called off](Self::call_off) meanwhile: then they take the same way as that.
    fn enter_route(&self, leg: &Leg, next: u32) -> Option<u32> {
        let offset = leg.place.wrapping_sub(leg.messages.start.wrapping_mul(self.layout.most_emitted()));
        let mut outbound = lock(&self.links.outbound);
        if !self.is_all_out(&outbound) {
            outbound.detour = outbound.detour.max(leg.messages.end);
            return None;
        }
        let is_same =
            |known: &Route| Arc::ptr_eq(&known.to, &leg.to) && (known.offset, known.next) == (offset, next);
        let number = match &outbound.newest {
            Some((known, number)) if is_same(known) => *number,
            other => other.as_ref().map_or(0, |(_, number)| *number).wrapping_add(1).max(1),
        };
        let route = Route { to: leg.to.clone(), offset, next };
        if outbound.newest.as_ref().is_none_or(|(_, newest)| *newest != number) {
            let ring = leg.to.links.ring();
            let halves = |value: u64| [value as u32, (value >> 32) as u32];
            let [to, at] = [halves(ring), halves(offset)];
            let (shift, granules) = (leg.to.layout.shift, leg.to.layout.slot as u32);
            let words = [to[0], to[1], at[0], at[1], next, shift, granules, number];
            let first = number as usize % ROUTES * ROUTE_WORDS;
            for (granule, word) in self.routes()[first..].iter().zip(words) {
                // Release pairs with the fence in `rt_find_route`: who sees where the ring is finds it cleared.
                granule.store(u64::from(number) << 32 | u64::from(word), Ordering::Release);
            }
            outbound.newest = Some((route.clone(), number));
        }
        match outbound.segments.back_mut() {
            Some(last) if last.number == number && last.messages.end == leg.messages.start => {
                last.messages.end = leg.messages.end;
            }
            _ => outbound.segments.push_back(Segment { messages: leg.messages.clone(), number, route }),
        }
        Some(number)
    }

    /// What a message emitted, in its places here; `false` if nobody takes it any more.
    pub fn arrive(&self, place: u64, most: u64, token: Token, words: &[u32]) -> bool {
        let mut inbound = lock(&self.links.inbound);
        if inbound.is_closed || self.gpu.is_lost() {
            return false;
        }
        let mut values = words.chunks_exact(self.layout.message_words);
        let mut goes = true;
        for position in place..place + most {
            let place = match values.next() {
                Some(words) => Place::Came { token, words: words.into() },
                None => Place::Skipped,
            };
            goes &= inbound.fill(position, place);
        }
        debug_assert!(goes, "the places have been kept");
        true
    }

    /// This kernel has left the device, and does not go on for now: nobody is to wait for what it has not begun, from
    /// `first` on. Some messages before `again` may be over although. The position before which everything goes through
    /// the host, if that is new.
    pub fn call_off(&self, first: u64, again: u64) -> Option<u64> {
        if !self.layout.is_routed {
            return None;
        }
        let mut outbound = lock(&self.links.outbound);
        let end = outbound.segments.back().map_or(0, |last| last.messages.end);
        if end <= first {
            return None;
        }
        let most = self.layout.most_emitted();
        for segment in std::mem::take(&mut outbound.segments) {
            let part = |messages| Segment { messages, ..segment.clone() };
            let Range { start, end } = segment.messages.clone();
            if start < first {
                outbound.segments.push_back(part(start..end.min(first)));
            }
            for position in start.max(first)..end {
                if position < again && self.has_record(position) {
                    outbound.segments.push_back(part(position..position + 1));
                } else {
                    let place = segment.place(position, most);
                    segment.route.to.skip(place..place + most);
                }
            }
            self.gpu.watch.add(&segment.route.to);
        }
        // Messages that have a route may not have been written yet: they are behind the tail.
        let end = end.max(self.tail());
        outbound.detour = outbound.detour.max(end);
        Some(end)
    }

    /// Puts slots with nothing in them where somebody would have written.
    fn skip(&self, places: Range<u64>) {
        let outbound = lock(&self.links.outbound);
        let mut inbound = lock(&self.links.inbound);
        for position in places {
            // One that is not open any more is somebody else's.
            if inbound.fill(position, Place::Skipped) {
                let route = outbound.find(position).map_or(0, |segment| segment.number);
                self.layout.write_skipped(self.input(), position, route);
            }
        }
    }

    /// Has this kernel's port see to it that it runs.
    fn rouse(self: &Arc<Self>) {
        if self.is_wanted() {
            self.gpu.watch.add(self);
        } else {
            self.control.call_ready(false);
        }
    }

    /// The port is gone, these are the tokens of what was in it, and the kernel has left: what came of it over a link is
    /// the next kernel's.
    pub fn end_links(&self, mut tokens: impl Iterator<Item = Token>) {
        if !self.layout.is_routed {
            return;
        }
        let (mut words, most) = (Vec::new(), self.layout.most_emitted());
        for position in self.next_position()..self.tail() {
            let next = self.links.next(position);
            // The kernel before has not been heard, and this one does not hear it any more: whose it is, nobody says.
            let token = if next == Next::Known { tokens.next() } else { Some(0) };
            let Some(token) = token else { break };
            let Some((to, place)) = self.links.way(position, most) else { continue };
            let mut values: Vec<u32> = Vec::new();
            if !self.layout.read(self.output(), position, &mut words) {
                // It was cut short, and has not been called off.
                to.skip(place..place + most);
            } else {
                // What the books do not know yet, the device does.
                if !Layout::is_skipped(&words) {
                    self.hand_out(token, &words, &mut |completion| {
                        if let Completion::Emit { value, .. } = completion {
                            values.extend_from_slice(bytemuck::cast_slice(value));
                        }
                    });
                }
                to.arrive(place, most, token, &values);
            }
            to.control.call_ready(false);
        }
    }
}

impl DeviceInlet for Lane {
    fn open(&self, source: &Arc<dyn DeviceInlet>, most: usize) -> bool {
        let source: &dyn Any = &**source;
        let Some(source) = source.downcast_ref::<Self>() else { return false };
        // Which instance a message is for, the host has to look at.
        let fits = Arc::ptr_eq(&source.gpu, &self.gpu)
            && !matches!(self.layout.shape, Shape::Instances { .. })
            && source.layout.emitted_words() == self.layout.message_words;
        if !fits || self.gpu.is_lost() || self.control.stop_requested() {
            return false;
        }
        if !self.links.are_used() {
            // Relaxed: a wish.
            let state = &self.links.ring_state;
            _ = state.compare_exchange(NOT_WANTED, WANTED, Ordering::Relaxed, Ordering::Relaxed);
            return false;
        }
        // Acquire pairs with the port's Release: what it kept has its places.
        if self.links.staged.load(Ordering::Acquire) > 0 {
            return false;
        }
        let own = std::ptr::from_ref(source) as usize;
        let mut inbound = lock(&self.links.inbound);
        // Of several kernels with links to this one each has its turn while the others have nothing on the way to it: what
        // they emit then goes through the host.
        if inbound.is_closed
            || inbound.open > 0 && inbound.source != own
            || self.pending() + most > self.layout.places()
        {
            return false;
        }
        let tail = self.tail();
        if inbound.places.is_empty() {
            (inbound.first, inbound.heard) = (tail, tail);
        }
        while inbound.end() < tail {
            inbound.places.push_back(Place::Host);
        }
        inbound.places.extend((0..most).map(|_| Place::Open));
        inbound.open += most;
        inbound.source = own;
        self.give_out(most);
        true
    }

    fn queues(&self) -> bool {
        true
    }

    fn is_lost(&self) -> bool {
        self.gpu.is_lost()
    }
}
