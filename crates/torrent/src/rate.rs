//! How fast bytes flow, and how fast they may.

use std::time::{Duration, Instant};

/// Bytes per second over the last few seconds.
#[derive(Clone, Debug)]
pub struct RateMeter {
    /// Bytes in each slice of time; the newest is at `index % SLICES`.
    slices: [u64; SLICES],
    began: Instant,
    /// Which slice `now` was in, counted from `began`.
    index: u64,
}

impl RateMeter {
    /// A meter that has seen nothing.
    pub const fn new(now: Instant) -> Self {
        Self { slices: [0; SLICES], began: now, index: 0 }
    }

    /// `len` bytes have passed.
    pub fn add(&mut self, now: Instant, len: u64) {
        self.advance(now);
        self.slices[(self.index % SLICES as u64) as usize] += len;
    }

    /// The rate over up to the last five seconds; at the start, over the time there was.
    pub fn bytes_per_second(&self, now: Instant) -> u64 {
        let mut meter = self.clone();
        meter.advance(now);
        let age = now.saturating_duration_since(self.began).max(SLICE);
        let in_slice = Duration::from_nanos((age.as_nanos() % SLICE.as_nanos()) as u64);
        let window = age.min(SLICE * (SLICES as u32 - 1) + in_slice).max(SLICE);
        let sum: u64 = meter.slices.iter().sum();
        (sum as f64 / window.as_secs_f64()) as u64
    }

    fn advance(&mut self, now: Instant) {
        let index =
            (now.saturating_duration_since(self.began).as_nanos() / SLICE.as_nanos()) as u64;
        let passed = index.saturating_sub(self.index).min(SLICES as u64);
        for step in 1..=passed {
            self.slices[((index - passed + step) % SLICES as u64) as usize] = 0;
        }
        self.index = self.index.max(index);
    }
}

/// An allowance that grows with time: a limit on a rate.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    /// Bytes per second; `None` is no limit.
    rate: Option<u64>,
    /// What may be spent at `at`; below zero after something larger had to go out whole.
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    /// A full bucket. `rate` is in bytes per second; `None` is no limit.
    pub fn new(now: Instant, rate: Option<u64>) -> Self {
        let rate = rate.map(|rate| rate.max(1));
        Self { rate, tokens: rate.map_or(0.0, burst), at: now }
    }

    /// The limit, in bytes per second; `None` is no limit.
    pub const fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// What may be spent now, in bytes; `u64::MAX` without a limit.
    pub fn available(&self, now: Instant) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(rate) => self.tokens_at(now, rate).max(0.0) as u64,
        }
    }

    /// Spends `len` bytes, whether or not there were as many: the debt is paid first.
    pub fn take(&mut self, now: Instant, len: u64) {
        if let Some(rate) = self.rate {
            self.tokens = self.tokens_at(now, rate) - len as f64;
            self.at = self.at.max(now);
        }
    }

    fn tokens_at(&self, now: Instant, rate: u64) -> f64 {
        let grown = now.saturating_duration_since(self.at).as_secs_f64() * rate as f64;
        (self.tokens + grown).min(burst(rate))
    }
}

/// What may go out at once after a pause: a tenth of a second's worth, and at least two blocks.
fn burst(rate: u64) -> f64 {
    (rate as f64 / 10.0).max(32.0 * 1024.0)
}

const SLICES: usize = 10;
const SLICE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::tests::epoch;

    #[test]
    fn a_steady_flow_is_measured_and_then_forgotten() {
        let start = epoch();
        let mut meter = RateMeter::new(start);
        for step in 0..200 {
            meter.add(start + Duration::from_millis(step * 50), 5000);
        }
        let end = start + Duration::from_secs(10);
        let rate = meter.bytes_per_second(end);
        assert!((90_000..=110_000).contains(&rate), "{rate}");
        assert_eq!(meter.bytes_per_second(end + Duration::from_secs(6)), 0);
        meter.add(end + Duration::from_secs(1000), 10);
        assert!(meter.bytes_per_second(end + Duration::from_secs(1000)) < 10);
    }

    #[test]
    fn a_young_meter_does_not_exaggerate() {
        let start = epoch();
        let mut meter = RateMeter::new(start);
        meter.add(start, 1000);
        assert_eq!(meter.bytes_per_second(start), 2000);
        let rate = meter.bytes_per_second(start + Duration::from_secs(2));
        assert_eq!(rate, 500);
    }

    #[test]
    fn a_bucket_lets_through_its_rate_and_no_more() {
        let start = epoch();
        let mut bucket = TokenBucket::new(start, Some(1_000_000));
        let mut sent = 0;
        for step in 0..10_000 {
            let now = start + Duration::from_millis(step);
            if bucket.available(now) >= 16 * 1024 {
                bucket.take(now, 16 * 1024);
                sent += 16 * 1024;
            }
        }
        assert!((9_900_000..=10_200_000).contains(&sent), "{sent}");
    }

    #[test]
    fn debt_is_paid_first_and_no_limit_is_no_limit() {
        let start = epoch();
        let mut bucket = TokenBucket::new(start, Some(100_000));
        bucket.take(start, 132_768);
        assert_eq!(bucket.available(start + Duration::from_millis(900)), 0);
        assert_ne!(bucket.available(start + Duration::from_millis(1100)), 0);
        let mut free = TokenBucket::new(start, None);
        free.take(start, u64::MAX);
        assert_eq!(free.available(start), u64::MAX);
    }
}
