//! Token buckets: how fast bytes may go.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::Token;
use crate::timer_wheel::TimerId;

/// A rate limit. What is not used is saved up, to `burst` at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many bytes a second; at least 1.
    pub bytes_per_second: u64,
    /// How many bytes at once, after a silence; at least 1.
    pub burst: u64,
}

impl Rate {
    /// So many bytes a second, and at once at most what a twentieth of a second brings, or 16 KiB.
    pub fn per_second(bytes: u64) -> Self {
        Self { bytes_per_second: bytes.max(1), burst: (bytes / 20).max(16 * 1024) }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the peer.
    Read,
    /// To the peer.
    Write,
}

#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    /// In bytes times a billion, so that no time is too short to count.
    level: u128,
    filled_at: Instant,
    /// Who waits for it to fill, which way.
    pub(crate) waiting: VecDeque<(Token, Direction)>,
    pub(crate) timer: Option<TimerId>,
    /// How many connections draw on it, and whether a group's handle does.
    pub(crate) users: usize,
}

impl Bucket {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        let rate = sane(rate);
        Self {
            rate,
            level: u128::from(rate.burst) * NANOS,
            filled_at: now,
            waiting: VecDeque::new(),
            timer: None,
            users: 1,
        }
    }

    pub(crate) fn set_rate(&mut self, rate: Rate, now: Instant) {
        self.fill(now);
        self.rate = sane(rate);
        self.level = self.level.min(u128::from(self.rate.burst) * NANOS);
    }

    fn fill(&mut self, now: Instant) {
        let nanos = now.saturating_duration_since(self.filled_at).as_nanos();
        self.filled_at = self.filled_at.max(now);
        let level = self.level + nanos * u128::from(self.rate.bytes_per_second);
        self.level = level.min(u128::from(self.rate.burst) * NANOS);
    }

    /// How many bytes may go now. Less than it is worth a system call counts as none.
    pub(crate) fn available(&mut self, now: Instant) -> usize {
        self.fill(now);
        let bytes = (self.level / NANOS) as u64;
        if bytes < self.quantum() { 0 } else { usize::try_from(bytes).unwrap_or(usize::MAX) }
    }

    /// So many went.
    pub(crate) fn draw(&mut self, bytes: usize) {
        self.level = self.level.saturating_sub(bytes as u128 * NANOS);
    }

    /// When something may go again.
    pub(crate) fn ready_at(&self) -> Instant {
        let missing = (u128::from(self.quantum()) * NANOS).saturating_sub(self.level);
        let nanos = missing.div_ceil(u128::from(self.rate.bytes_per_second));
        self.filled_at + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 2))
    }

    /// The least that is worth a call: what 5 ms bring, but at least a small packet, if so much fits.
    fn quantum(&self) -> u64 {
        (self.rate.bytes_per_second / 200).max(512).min(self.rate.burst)
    }
}

fn sane(rate: Rate) -> Rate {
    Rate { bytes_per_second: rate.bytes_per_second.max(1), burst: rate.burst.max(1) }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_burst_at_once_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { bytes_per_second: 10_000, burst: 5_000 }, start);
        assert_eq!(bucket.available(start), 5_000);
        bucket.draw(5_000);
        assert_eq!(bucket.available(start + Duration::from_millis(50)), 0);
        let ready_at = bucket.ready_at();
        assert!(bucket.available(ready_at - Duration::from_micros(1)) == 0);
        assert_eq!(bucket.available(ready_at), 512);
        assert_eq!(bucket.available(start + Duration::from_secs(100)), 5_000);
    }

    #[test]
    fn a_rate_of_nothing_is_a_byte_a_second_and_not_a_division_by_zero() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { bytes_per_second: 0, burst: 0 }, start);
        assert_eq!(bucket.available(start), 1);
        bucket.draw(1);
        assert_eq!(bucket.ready_at(), start + Duration::from_secs(1));
    }
}
