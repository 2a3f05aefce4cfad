//! How long packets wait in queues: their delay by the difference of two clocks, less the least that it has
//! been in the last minutes.
//!
//! The two clocks run apart, a little: a base that has become too high by that follows within the
//! history, one that has become too low is moved by [`raise_base`](DelayHistory::raise_base).

/// The delays of one direction, in microseconds that wrap.
#[derive(Clone, Debug, Default)]
pub(super) struct DelayHistory {
    /// The least of each minute, the newest last.
    minutes: [u32; MINUTES],
    /// How many of them are known.
    count: usize,
    /// When the newest of them began.
    began: u64,
    /// The last few delays above the base. The least of them is what counts: a packet may have been
    /// held up by something that is no queue.
    recent: [u32; RECENT],
    next: usize,
}

impl DelayHistory {
    /// A packet took so long. Returns by how much it lowered the base.
    pub(super) fn add(&mut self, now: u64, delay: u32) -> u32 {
        let Some(base) = self.base() else {
            self.minutes[0] = delay;
            (self.count, self.began) = (1, now);
            return 0;
        };
        let lowered = if is_before(delay, base) { base.wrapping_sub(delay) } else { 0 };
        if now.saturating_sub(self.began) >= MINUTE {
            if self.count == MINUTES {
                self.minutes.rotate_left(1);
            } else {
                self.count += 1;
            }
            self.minutes[self.count - 1] = delay;
            self.began = now;
        }
        let newest = &mut self.minutes[self.count - 1];
        if is_before(delay, *newest) {
            *newest = delay;
        }
        let base = self.base().unwrap_or(delay);
        self.recent[self.next] = delay.wrapping_sub(base);
        self.next = (self.next + 1) % RECENT;
        if lowered > 0 {
            // They were measured from a base that was wrong.
            for recent in &mut self.recent {
                *recent = recent.saturating_add(lowered);
            }
            self.recent[(self.next + RECENT - 1) % RECENT] = 0;
        }
        lowered
    }

    /// The least delay of the last minutes.
    pub(super) fn base(&self) -> Option<u32> {
        let known = self.minutes.get(..self.count)?;
        known.iter().copied().reduce(|a, b| if is_before(b, a) { b } else { a })
    }

    /// How long packets wait, going by the last few of them.
    pub(super) fn queueing(&self) -> u32 {
        self.recent.iter().copied().min().unwrap_or_default()
    }

    /// The other clock was found to run slower than ours, by so much since it was looked at last.
    pub(super) fn raise_base(&mut self, by: u32) {
        for minute in &mut self.minutes[..self.count] {
            *minute = minute.wrapping_add(by);
        }
        for recent in &mut self.recent {
            *recent = recent.saturating_sub(by);
        }
    }
}

/// Whether `a` is less than `b`, of numbers that wrap.
const fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) > u32::MAX / 2
}

const MINUTE: u64 = 60_000_000;
/// For how long the least delay is remembered.
const MINUTES: usize = 10;
const RECENT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR_WRAP: u32 = u32::MAX - 3_000;

    #[test]
    fn what_is_above_the_least_is_queueing_though_the_numbers_wrap() {
        let mut history = DelayHistory::default();
        for (at, delay) in [5_000, 4_000, 9_000, 9_500, 8_000, 9_900].into_iter().enumerate() {
            history.add(at as u64, NEAR_WRAP.wrapping_add(delay));
        }
        assert_eq!(history.queueing(), 4_000);
        assert_eq!(history.base(), Some(NEAR_WRAP.wrapping_add(4_000)));
    }

    #[test]
    fn a_base_is_forgotten_after_minutes() {
        let mut history = DelayHistory::default();
        history.add(0, 1_000);
        for minute in 1..MINUTES as u64 {
            history.add(minute * MINUTE, 5_000);
        }
        assert_eq!(history.base(), Some(1_000));
        history.add(MINUTES as u64 * MINUTE, 5_000);
        assert_eq!(history.base(), Some(5_000));
    }

    #[test]
    fn a_new_base_makes_earlier_delays_longer() {
        let mut history = DelayHistory::default();
        for _ in 0..8 {
            history.add(0, 10_000);
        }
        assert_eq!((history.queueing(), history.add(1, 7_000)), (0, 3_000));
        for _ in 0..RECENT {
            history.add(2, 10_000);
        }
        assert_eq!(history.queueing(), 3_000);
        history.raise_base(3_000);
        assert_eq!(history.queueing(), 0);
    }
}
