//! How many kernels a device has room for: a resident one that is started beside too many waits in the device until another
//! one leaves, and looks like one that hangs; a dispatch waits until then.

use std::time::{Duration, Instant};

/// Kernels on the device at once; it takes 128 grids, and those above wait until one ends.
pub(super) const MOST_RESIDENT: usize = 96;
/// Who found no room comes first for so long: longer than it takes others to leave, and it may have given up.
const PRECEDENCE: Duration = Duration::from_millis(50);
/// A whole multiprocessor.
const UNIT: u64 = 1 << 20;

/// What a block takes of a multiprocessor, of that of its resources which it takes most of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part(u64);

impl Part {
    /// Of a block of which so many fit into one multiprocessor; one, if none does: that is for the driver to refuse.
    pub fn of(blocks: u32) -> Self {
        Self(UNIT.div_ceil(u64::from(blocks.max(1))))
    }
}

/// Who wants room on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A resident kernel, which stays.
    Kernel,
    /// A dispatch of an entry point, for one of its blocks: the others follow.
    Dispatch,
}

/// What the kernels on a device take of it.
pub(super) struct Room {
    /// Parts that all multiprocessors have; `None` if their number is not known.
    units: Option<u64>,
    kernels: usize,
    used: u64,
    /// Who found no room, and until when it comes before the other kind.
    first: Option<(Who, Instant)>,
    /// The other kind waits for that.
    other_waits: bool,
}

impl Room {
    pub fn new(units: Option<u32>) -> Self {
        Self { units: units.map(u64::from), kernels: 0, used: 0, first: None, other_waits: false }
    }

    /// Does one more block find a multiprocessor with room for it wherever those before it are?
    ///
    /// It does if there is one without any. It also does if one of them is used to no more than what the block leaves of
    /// it, and were all used to more, then the sum of what is used would be more than the bound below. A device that has
    /// kernels of some other program's has to wait for those, of course.
    fn has_room(&self, part: Part) -> bool {
        let kernels = self.kernels as u64;
        let fits = self.units.is_none_or(|units| kernels < units || self.used <= units * (UNIT - part.0));
        fits && self.kernels < MOST_RESIDENT
    }

    /// Enters one more block, if there is room for it; whoever is refused asks again. Where both kinds wait, they take
    /// turns.
    pub fn enter(&mut self, who: Who, part: Part, now: Instant) -> bool {
        let first = self.first.filter(|(_, until)| now < *until);
        if first.is_none() {
            // Whoever still waits says so again.
            self.other_waits = false;
        }
        if first.is_some_and(|(first, _)| first != who) {
            self.other_waits = true;
            return false;
        }
        if !self.has_room(part) {
            self.first = first.or(Some((who, now + PRECEDENCE)));
            return false;
        }
        let other = if who == Who::Kernel { Who::Dispatch } else { Who::Kernel };
        self.first = std::mem::take(&mut self.other_waits).then_some((other, now + PRECEDENCE));
        self.enter_anyway(part);
        true
    }

    /// Enters one more block if there is room for it, and nobody waits for that; who is refused does not come back for it.
    pub fn enter_if_free(&mut self, part: Part, now: Instant) -> bool {
        let is_free = self.first.is_none_or(|(_, until)| now >= until) && self.has_room(part);
        if is_free {
            self.enter_anyway(part);
        }
        is_free
    }

    /// Blocks that are there.
    pub fn blocks(&self) -> usize {
        self.kernels
    }

    pub fn enter_anyway(&mut self, part: Part) {
        self.kernels += 1;
        self.used += part.0;
    }

    pub fn leave(&mut self, part: Part) {
        self.kernels -= 1;
        self.used -= part.0;
    }
}

#[cfg(test)]
mod tests {
    use super::Who::*;
    use super::*;
    use proptest::prelude::*;

    /// What blocks of a kernel take of three resources, in thousandths of what a multiprocessor has.
    type Needs = [u32; 3];

    fn blocks(needs: Needs) -> u32 {
        needs.into_iter().map(|need| 1000 / need).min().expect("there are three")
    }

    /// Kernels come and go; each goes where the device likes.
    fn steps() -> impl Strategy<Value = Vec<(Needs, usize, bool)>> {
        let needs = prop_oneof![[1..60u32, 1..60u32, 1..60u32], [1..400u32, 1..400u32, 1..400u32]];
        proptest::collection::vec((needs, 0..1000usize, proptest::bool::weighted(0.7)), 0..300)
    }

    proptest! {
        #[test]
        fn whoever_may_enter_finds_a_multiprocessor(units in 1..12u32, steps in steps()) {
            let mut room = Room::new(Some(units));
            let mut free = vec![[1000u32; 3]; units as usize];
            let mut there: Vec<(usize, Needs)> = Vec::new();
            for (needs, choice, comes) in steps {
                if !comes && !there.is_empty() {
                    let (unit, needs) = there.swap_remove(choice % there.len());
                    free[unit].iter_mut().zip(needs).for_each(|(free, need)| *free += need);
                    room.leave(Part::of(blocks(needs)));
                } else if room.enter(Kernel, Part::of(blocks(needs)), Instant::now()) {
                    let fits = |free: &[u32; 3]| free.iter().zip(needs).all(|(free, need)| *free >= need);
                    let fitting: Vec<_> = (0..free.len()).filter(|unit| fits(&free[*unit])).collect();
                    prop_assert!(!fitting.is_empty(), "{needs:?} finds no room in {free:?}");
                    let unit = fitting[choice % fitting.len()];
                    free[unit].iter_mut().zip(needs).for_each(|(free, need)| *free -= need);
                    there.push((unit, needs));
                }
            }
        }
    }

    #[test]
    fn kernels_and_dispatches_take_turns() {
        let (mut room, half, now) = (Room::new(Some(1)), Part::of(2), Instant::now());
        let enter = |room: &mut Room, who| room.enter(who, half, now);
        assert!(enter(&mut room, Kernel) && enter(&mut room, Kernel));
        // The dispatch was there first, then a kernel, then another dispatch.
        for (first, second) in [(Dispatch, Kernel), (Kernel, Dispatch), (Dispatch, Kernel)] {
            assert!(!enter(&mut room, first) && !enter(&mut room, second));
            room.leave(half);
            assert!(!enter(&mut room, second) && enter(&mut room, first));
        }
        // Who does not come any more is waited for for a while.
        room.leave(half);
        assert!(!enter(&mut room, Dispatch));
        assert!(room.enter(Dispatch, half, now + PRECEDENCE));
        // … and then not again, as long as it does not come back.
        room.leave(half);
        assert!(enter(&mut room, Dispatch));
    }

    #[test]
    fn a_multiprocessor_without_kernels_has_room_for_any_block() {
        let (mut room, now) = (Room::new(Some(4)), Instant::now());
        assert!((0..3).all(|_| room.enter(Kernel, Part::of(8), now)));
        assert!(room.enter(Kernel, Part::of(1), now) && !room.enter(Kernel, Part::of(1), now));
    }

    #[test]
    fn a_device_is_used_to_all_but_what_its_largest_kernel_takes() {
        let enter = |units, blocks| {
            let mut room = Room::new(units);
            (0..1000).take_while(|_| room.enter(Kernel, Part::of(blocks), Instant::now())).count()
        };
        // One that has a whole multiprocessor is alone, however many there are: the others might be in its way.
        assert_eq!(enter(Some(1), 1), 1);
        assert_eq!(enter(Some(1), 4), 4);
        assert_eq!(enter(Some(4), 8), 29);
        assert_eq!(enter(Some(132), 6), MOST_RESIDENT);
        assert_eq!(enter(None, 1), MOST_RESIDENT);
    }
}
