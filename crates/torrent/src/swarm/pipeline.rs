//! How many requests to keep with one peer: enough to cover its rate times the round trip, no more.
//!
//! A fixed depth is either too shallow for a fast link or hoards blocks at a slow peer. This starts
//! shallow, doubles every round trip while that makes the peer faster, then follows what was
//! measured.

use std::time::{Duration, Instant};

use crate::BLOCK_LEN;

/// The measured answers of one peer, and the depth that follows from them.
#[derive(Debug)]
pub(super) struct Pipeline {
    depth: u32,
    /// What the peer lets us queue (`reqq` of BEP 10).
    depth_max: u32,
    is_slow_start: bool,
    /// The shortest time from request to answer, in the current and in the previous epoch.
    round_trip: [Option<Duration>; 2],
    epoch_ends: Instant,
    window_began: Instant,
    window_blocks: u32,
    blocks_per_second: f64,
}

impl Pipeline {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            depth: DEPTH_FIRST,
            depth_max: DEPTH_MAX_UNKNOWN,
            is_slow_start: true,
            round_trip: [None; 2],
            epoch_ends: now + EPOCH,
            window_began: now,
            window_blocks: 0,
            blocks_per_second: 0.0,
        }
    }

    /// How many requests may be outstanding.
    pub(super) const fn depth(&self) -> u32 {
        self.depth
    }

    /// The peer says how many requests it will queue.
    pub(super) fn set_depth_max(&mut self, depth_max: u32) {
        self.depth_max = depth_max.clamp(DEPTH_MIN, DEPTH_MAX);
        self.depth = self.depth.min(self.depth_max);
    }

    /// The shortest round trip seen lately.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.into_iter().flatten().min()
    }

    /// A block has come, `waited` after it was asked for.
    pub(super) fn block_arrived(&mut self, now: Instant, waited: Duration) {
        if now >= self.epoch_ends {
            self.round_trip = [None, self.round_trip[0]];
            self.epoch_ends = now + EPOCH;
        }
        let shortest = &mut self.round_trip[0];
        *shortest = Some(shortest.map_or(waited, |known| known.min(waited)));
        self.window_blocks += 1;
        if self.is_slow_start {
            self.depth = (self.depth + 1).min(self.depth_max);
        }
        let elapsed = now.saturating_duration_since(self.window_began);
        if elapsed >= WINDOW.max(self.round_trip().unwrap_or_default()) {
            self.close_window(now, elapsed);
        }
    }

    /// The peer went silent: ask for one block at a time until it is back.
    pub(super) fn stalled(&mut self, now: Instant) {
        *self = Self { depth: DEPTH_MIN, depth_max: self.depth_max, ..Self::new(now) };
    }

    fn close_window(&mut self, now: Instant, elapsed: Duration) {
        let rate = f64::from(self.window_blocks) / elapsed.as_secs_f64();
        if self.is_slow_start && rate < self.blocks_per_second * GROWTH {
            self.is_slow_start = false;
        }
        // Rises at once, sinks slowly: one quiet window is no reason to let the link run dry.
        self.blocks_per_second = if rate > self.blocks_per_second {
            rate
        } else {
            self.blocks_per_second * 0.75 + rate * 0.25
        };
        (self.window_began, self.window_blocks) = (now, 0);
        if !self.is_slow_start {
            self.depth = self.wanted_depth().clamp(DEPTH_MIN, self.depth_max);
        }
    }

    /// Rate times round trip, and a reserve for the jitter of both sides' loops.
    fn wanted_depth(&self) -> u32 {
        let round_trip = self.round_trip().unwrap_or_default() + RESERVE;
        let in_flight = self.blocks_per_second * round_trip.as_secs_f64();
        // A peer that serves many in turn answers in bursts: a second's worth costs little there.
        let patient = self.blocks_per_second.min(f64::from(PATIENT_DEPTH));
        in_flight.max(patient).ceil() as u32
    }
}

const DEPTH_FIRST: u32 = 8;
const DEPTH_MIN: u32 = 2;
/// What every client since 2010 accepts, if it does not say.
const DEPTH_MAX_UNKNOWN: u32 = 250;
/// 32 MiB outstanding with one peer: two gigabytes a second at a round trip of 16 ms.
const DEPTH_MAX: u32 = 32 * 1024 * 1024 / BLOCK_LEN;
const PATIENT_DEPTH: u32 = 512;
const EPOCH: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_millis(50);
const RESERVE: Duration = Duration::from_millis(100);
/// Slow start ends when a window is not at least this much faster than the one before.
const GROWTH: f64 = 1.1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::tests::epoch;

    /// A link that carries `blocks_per_second` with `round_trip`, driven for `seconds`.
    fn settle(pipeline: &mut Pipeline, blocks_per_second: f64, round_trip: Duration, seconds: f64) {
        let mut now = epoch();
        let mut link_free = now;
        let mut in_flight = std::collections::VecDeque::new();
        let end = now + Duration::from_secs_f64(seconds);
        while now < end {
            while in_flight.len() < pipeline.depth() as usize {
                link_free = link_free.max(now) + Duration::from_secs_f64(1.0 / blocks_per_second);
                in_flight.push_back((now, link_free + round_trip));
            }
            let (sent, arrives) = in_flight.pop_front().expect("just filled");
            now = now.max(arrives);
            pipeline.block_arrived(now, now - sent);
        }
    }

    #[test]
    fn covers_a_long_fat_link() {
        let mut pipeline = Pipeline::new(epoch());
        pipeline.set_depth_max(2000);
        settle(&mut pipeline, 5000.0, Duration::from_millis(100), 10.0);
        assert!(pipeline.depth() >= 500, "{pipeline:?}");
    }

    #[test]
    fn hoards_little_at_a_slow_peer() {
        let mut pipeline = Pipeline::new(epoch());
        settle(&mut pipeline, 10.0, Duration::from_millis(50), 60.0);
        assert!((DEPTH_MIN..30).contains(&pipeline.depth()), "{pipeline:?}");
    }

    #[test]
    fn keeps_to_what_the_peer_allows_and_starts_over_after_a_stall() {
        let mut pipeline = Pipeline::new(epoch());
        pipeline.set_depth_max(100);
        settle(&mut pipeline, 50_000.0, Duration::from_millis(10), 2.0);
        assert_eq!(pipeline.depth(), 100);
        pipeline.stalled(epoch());
        assert_eq!(pipeline.depth(), DEPTH_MIN);
    }
}
