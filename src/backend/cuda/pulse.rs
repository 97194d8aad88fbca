//! Tells a kernel that hangs from one whose handler takes long, by signs of life that the device writes.

use std::time::{Duration, Instant};

/// A kernel that gave no sign for so long has hung. The longest that one which runs is silent is 4,096 iterations of a
/// handler's loop, in each lane of a warp: milliseconds.
const SILENCE: Duration = Duration::from_secs(4);
/// Time in which nobody looked counts as no more than this: this process may have been stopped, and a device that is
/// emulated with it.
const MOST_GAP: Duration = Duration::from_millis(100);
/// So many launches in a row that do not see what was written before them are no accident.
pub(super) const MOST_DEAF: u32 = 3;

/// What was last seen of a kernel on the device.
pub(super) struct Pulse {
    signs: [u32; 2],
    looked: Instant,
    silent: Duration,
}

impl Pulse {
    /// Of one that was started then.
    pub fn new(now: Instant) -> Self {
        Self { signs: [0; 2], looked: now, silent: Duration::ZERO }
    }

    /// Looks at the signs; `true` if they have been the same for too long, and time in which the kernel
    /// `may_be_silent` does not count.
    pub fn has_stopped(&mut self, signs: [u32; 2], may_be_silent: bool, now: Instant) -> bool {
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.looked, now));
        if std::mem::replace(&mut self.signs, signs) != signs || may_be_silent {
            self.silent = Duration::ZERO;
        } else {
            self.silent += gap.min(MOST_GAP);
        }
        self.silent >= SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 10 ms until the heart has stopped; after how long, or `None` if it has not within ten times as long as
    /// it may.
    fn stops(mut pulse: Pulse, begun: Instant, look: impl Fn(u32) -> ([u32; 2], bool)) -> Option<Duration> {
        let step = Duration::from_millis(10);
        (1..=(10 * SILENCE.as_millis() / step.as_millis()) as u32).find_map(|turn| {
            let (signs, may_be_silent) = look(turn);
            pulse.has_stopped(signs, may_be_silent, begun + step * turn).then(|| step * turn)
        })
    }

    #[test]
    fn a_heart_stops_when_there_is_no_sign_of_either_kind_for_long() {
        let now = Instant::now();
        let after = |look: fn(u32) -> ([u32; 2], bool)| stops(Pulse::new(now), now, look);
        let step = Duration::from_millis(10);
        assert_eq!(after(|_| ([0, 0], false)), Some(SILENCE));
        assert_eq!(after(|_| ([1, 1], false)), Some(SILENCE + step));
        // One sign just before the end begins it anew, whichever it is.
        assert_eq!(after(|turn| ([turn / 350, 0], false)), None);
        assert_eq!(after(|turn| ([5, turn / 350], false)), None);
        assert_eq!(after(|turn| ([turn.min(100), 0], false)), Some(SILENCE + step * 100));
        assert_eq!(after(|turn| ([7, 7], turn < 500)), Some(SILENCE + step * 499));
    }

    #[test]
    fn time_in_which_nobody_looked_hardly_counts() {
        let now = Instant::now();
        let mut pulse = Pulse::new(now);
        assert!(!pulse.has_stopped([0, 0], false, now + SILENCE * 100));
        let looks = SILENCE.as_millis() / MOST_GAP.as_millis() - 1;
        for look in 1..=looks as u32 {
            let stopped = pulse.has_stopped([0, 0], false, now + SILENCE * (100 + look));
            assert_eq!(stopped, u128::from(look) == looks, "{look}");
        }
    }
}
