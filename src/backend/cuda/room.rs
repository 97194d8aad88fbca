//! How many resident kernels a device has room for: one that is started beside too many waits in the device until another
//! one leaves, and looks like one that hangs.

/// Kernels on the device at once; it takes 128 grids, and those above wait until one ends.
const MOST_RESIDENT: usize = 96;
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

/// What the kernels on a device take of it.
pub(super) struct Room {
    /// Parts that all multiprocessors have; `None` if their number is not known.
    units: Option<u64>,
    kernels: usize,
    used: u64,
}

impl Room {
    pub fn new(units: Option<u32>) -> Self {
        Self { units: units.map(u64::from), kernels: 0, used: 0 }
    }

    /// Enters one more block, if it finds a multiprocessor with room for it wherever those before it are.
    ///
    /// It does if one of them is used to no more than what the block leaves of it, and were all used to more, then the sum
    /// of what is used would be more than the bound below. A device that has kernels of some other program's has to wait
    /// for those, of course.
    pub fn enter(&mut self, part: Part) -> bool {
        let fits = self.units.is_none_or(|units| self.used <= units * (UNIT - part.0));
        let may_enter = fits && self.kernels < MOST_RESIDENT;
        if may_enter {
            self.enter_anyway(part);
        }
        may_enter
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
                } else if room.enter(Part::of(blocks(needs))) {
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
    fn a_device_is_used_to_all_but_what_its_largest_kernel_takes() {
        let enter = |units, blocks| {
            let mut room = Room::new(units);
            (0..1000).take_while(|_| room.enter(Part::of(blocks))).count()
        };
        // One that has a whole multiprocessor is alone, however many there are: the others might be in its way.
        assert_eq!(enter(Some(1), 1), 1);
        assert_eq!(enter(Some(1), 4), 4);
        assert_eq!(enter(Some(4), 8), 29);
        assert_eq!(enter(Some(132), 6), MOST_RESIDENT);
        assert_eq!(enter(None, 1), MOST_RESIDENT);
    }
}
