//! The host's side of both rings against a device that is written down here: it takes messages by their stamps, and the
//! granules of its records become visible one by one, in any order.

use super::kit::Launch;
use super::rings::echo;
use crate::backend::cuda::layout::Layout;
use crate::backend::{PortControl, Shape};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a record begins with.
const DONE: u32 = 4;
const FAULT: u32 = 1;

#[derive(Clone, Debug)]
enum Step {
    /// The host writes so many messages, if there are places.
    Write(usize),
    /// The device takes all that it sees, and is about to write their records.
    Run,
    /// So many granules become visible.
    Show(usize),
    /// The host takes replies together, up to so many, and then what is there by itself.
    TakeRun(usize),
    TakeOne,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..20usize).prop_map(Step::Write),
        Just(Step::Run),
        (1..60usize).prop_map(Step::Show),
        (1..20usize).prop_map(Step::TakeRun),
        Just(Step::TakeOne),
    ];
    proptest::collection::vec(step, 0..200)
}

/// Word `part` of message `number`, and of its reply.
fn word(number: u64, part: usize) -> u32 {
    (number as u32).wrapping_mul(2_654_435_761).rotate_left(part as u32)
}

fn faults(number: u64) -> bool {
    number % 11 == 7
}

struct Both {
    layout: Layout,
    input: Vec<AtomicU64>,
    output: Vec<AtomicU64>,
    /// Messages that the host has written, that the device has taken, and whose records the host has taken.
    written: u64,
    run: u64,
    taken: u64,
    /// Granules of records that nobody sees yet, by their places.
    hidden: Vec<(usize, u64)>,
    random: u64,
}

impl Both {
    fn new(message_words: u32, reply_words: u32, round: u32) -> Self {
        let launch = Launch { message_words, reply_words, round, ..echo() };
        let layout = Layout::new(&launch.spec(Arc::new(PortControl::default())), &[]);
        assert_eq!((layout.places(), launch.shape), (round.next_power_of_two() as usize, Shape::Stateless));
        let granules = |count: usize| (0..count * layout.places()).map(|_| AtomicU64::new(0)).collect();
        let (input, output) = (granules(layout.slot), granules(layout.record));
        Self { layout, input, output, written: 0, run: 0, taken: 0, hidden: Vec::new(), random: 1 }
    }

    fn write(&mut self, count: usize) {
        for _ in 0..count.min(self.layout.places() - (self.written - self.taken) as usize) {
            let words: Vec<u32> =
                (0..self.layout.message_words).map(|part| word(self.written, part)).collect();
            self.layout.write(&self.input, self.written, bytemuck::cast_slice(&words), 0);
            self.written += 1;
        }
    }

    fn run(&mut self) {
        let (slot, record) = (self.layout.slot, self.layout.record);
        loop {
            let (stamp, place) = (self.layout.stamp(self.run), self.run as usize % self.layout.places());
            let granules: Vec<u64> = self.input[place * slot..][..slot]
                .iter()
                .map(|granule| granule.load(Ordering::Relaxed))
                .collect();
            let is_there = granules.iter().all(|granule| granule >> 32 << 32 == stamp);
            assert_eq!(is_there, self.run < self.written, "a stamp tells whether the message is there");
            if !is_there {
                return;
            }
            for (part, granule) in granules.iter().enumerate().take(self.layout.message_words) {
                assert_eq!(*granule as u32, word(self.run, part));
            }
            let status = if faults(self.run) { FAULT } else { DONE };
            self.hidden.push((place * record, stamp | u64::from(status)));
            for part in (0..self.layout.reply_words).filter(|_| status == DONE) {
                self.hidden.push((place * record + 1 + part, stamp | u64::from(word(self.run, part))));
            }
            self.run += 1;
        }
    }

    fn show(&mut self, count: usize) {
        for _ in 0..count.min(self.hidden.len()) {
            self.random =
                self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let which = (self.random >> 33) as usize % self.hidden.len();
            let (place, granule) = self.hidden.swap_remove(which);
            self.output[place].store(granule, Ordering::Relaxed);
        }
    }

    /// Is all of a record visible?
    fn is_whole(&self, number: u64) -> bool {
        let (record, place) = (self.layout.record, number as usize % self.layout.places());
        number < self.run && !self.hidden.iter().any(|(at, _)| at / record == place)
    }

    fn take_run(&mut self, most: usize) {
        let most = most.min((self.written - self.taken) as usize);
        let mut words = vec![123];
        let count = self.layout.read_replies(&self.output, self.taken, most, &mut words);
        let numbers = self.taken..self.taken + most as u64;
        let expected = numbers.take_while(|number| !faults(*number) && self.is_whole(*number)).count();
        assert_eq!(count, expected);
        let replies = (self.taken..).take(count);
        let replies =
            replies.flat_map(|number| (0..self.layout.reply_words).map(move |part| word(number, part)));
        assert_eq!(words, std::iter::once(123).chain(replies).collect::<Vec<_>>());
        self.taken += count as u64;
    }

    fn take_one(&mut self) {
        let mut words = vec![123];
        let is_there = self.layout.read(&self.output, self.taken, &mut words);
        assert_eq!(is_there, self.is_whole(self.taken));
        if is_there {
            let status = if faults(self.taken) { FAULT } else { DONE };
            let reply = (0..self.layout.reply_words).filter(|_| status == DONE);
            let expected = std::iter::once(status).chain(reply.map(|part| word(self.taken, part)));
            assert_eq!(words, expected.collect::<Vec<_>>());
            self.taken += 1;
        }
    }
}

proptest! {
    #[test]
    fn every_message_and_every_result_is_whole_and_in_its_place(
        message_words in 0..5u32,
        reply_words in 0..5u32,
        round in 1..17u32,
        steps in steps(),
    ) {
        let mut both = Both::new(message_words, reply_words, round);
        for step in steps {
            match step {
                Step::Write(count) => both.write(count),
                Step::Run => both.run(),
                Step::Show(count) => both.show(count),
                Step::TakeRun(most) => both.take_run(most),
                Step::TakeOne => both.take_one(),
            }
        }
        both.run();
        both.show(usize::MAX);
        while both.taken < both.written {
            both.take_run(3);
            if both.taken < both.written {
                both.take_one();
            }
        }
    }
}
