//! How much may be under way: a window that fills a link, and gives way to whoever else uses it
//! (LEDBAT, [RFC 6817]).
//!
//! The window is steered by how long packets wait in queues. It grows until that is [`TARGET`]; above, it
//! shrinks in proportion to itself, as LEDBAT++ does, so that it gives way within a few round trips
//! however large it is. Two more things that the RFC leaves open: after a second of empty queues and no
//! loss the window grows faster and faster (the increase of H-TCP), since the link has become ours; and
//! if a queue has stood for minutes the window is let down for a moment, so that our own queue
//! is not taken for the length of the path.
//!
//! [RFC 6817]: https://www.rfc-editor.org/rfc/rfc6817

use super::delay::DelayHistory;

/// The window of one connection, and what it is steered by. Times are in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Ledbat {
    /// Bytes that may be under way.
    window: usize,
    /// The window up to which it grows with each acknowledged byte.
    threshold: usize,
    packet_len: usize,
    /// How long our packets take.
    delays: DelayHistory,
    round_trips: DelayHistory,
    /// What an increase was short of a byte.
    remainder: u64,
    /// Since when there has been neither a queue nor a loss.
    calm_since: u64,
    /// When the queue was last as good as empty.
    empty_at: u64,
    /// The window is let down until then, and was so large before.
    drain: Option<(u64, usize)>,
}

/// What an acknowledgement tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feedback {
    /// Bytes that are no longer under way.
    pub(super) acknowledged: usize,
    /// How long our last packet took, by the difference of the two clocks.
    pub(super) delay: Option<u32>,
    /// How long it was until it was acknowledged.
    pub(super) round_trip: Option<u32>,
    /// The window was all used: otherwise more of it would be of no use.
    pub(super) is_limited: bool,
}

impl Ledbat {
    pub(super) fn new(now: u64, packet_len: usize) -> Self {
        Self {
            window: INITIAL_PACKETS * packet_len,
            threshold: WINDOW_MAX,
            packet_len,
            delays: DelayHistory::default(),
            round_trips: DelayHistory::default(),
            remainder: 0,
            calm_since: now,
            empty_at: now,
            drain: None,
        }
    }

    /// Bytes that may be under way.
    pub(super) const fn window(&self) -> usize {
        self.window
    }

    /// Whether the window grows with each byte.
    pub(super) const fn is_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    pub(super) const fn set_packet_len(&mut self, len: usize) {
        self.packet_len = len;
    }

    /// The other side's packets come sooner than they ever did: its clock and ours run apart.
    pub(super) fn clocks_drift(&mut self, by: u32) {
        if by < DRIFT_MAX {
            self.delays.raise_base(by);
        }
    }

    /// How long our packets wait in queues. They cannot wait for longer than the way there and back takes longer than
    /// at best: if it seems so, a clock was set.
    pub(super) fn queueing(&self) -> u32 {
        self.delays.queueing().min(self.round_trips.queueing())
    }

    /// Something was acknowledged.
    pub(super) fn handle_ack(&mut self, now: u64, feedback: Feedback) {
        if let Some(round_trip) = feedback.round_trip {
            self.round_trips.add(now, round_trip);
        }
        if let Some(delay) = feedback.delay {
            self.delays.add(now, delay);
            if self.delays.queueing() > self.round_trips.queueing().saturating_add(CLOCK_WAS_SET) {
                self.delays = DelayHistory::default();
                self.delays.add(now, delay);
            }
        }
        let queueing = self.queueing();
        if queueing < SLOW_START_DELAY {
            self.empty_at = now;
        }
        if queueing > TARGET / 2 {
            self.calm_since = now;
        }
        if self.is_draining(now) {
            return;
        }
        if self.is_slow_start() {
            self.start_slowly(queueing, feedback);
        } else if queueing <= TARGET {
            self.grow(now, queueing, feedback);
        } else {
            // A quarter, since the answer to it comes only after a round trip.
            let above = (queueing - TARGET).min(2 * TARGET);
            self.shrink(scale(feedback.acknowledged, above, 4 * TARGET));
        }
    }

    fn start_slowly(&mut self, queueing: u32, feedback: Feedback) {
        if queueing > SLOW_START_DELAY {
            // What we see is a round trip old, and the window has grown by three quarters since.
            self.set_window(self.window / 7 * 4);
            self.threshold = self.window;
        } else if feedback.is_limited {
            self.set_window(self.window + feedback.acknowledged * 3 / 4);
        }
    }

    /// One packet more in a round trip; less than that, the nearer the target is.
    fn grow(&mut self, now: u64, queueing: u32, feedback: Feedback) {
        if !feedback.is_limited {
            return;
        }
        let packets_milli = increase_milli(now.saturating_sub(self.calm_since));
        let packets = u64::from(TARGET - queueing) * packets_milli / u64::from(TARGET);
        let bytes_squared = (feedback.acknowledged * self.packet_len) as u64 * packets / 1000;
        let total = bytes_squared + self.remainder;
        let window = self.window.max(1) as u64;
        self.remainder = total % window;
        self.set_window(self.window + (total / window) as usize);
    }

    fn shrink(&mut self, by: usize) {
        self.set_window(self.window.saturating_sub(by));
        // It stays out of slow start, which is for those who do not know the link.
        self.threshold = self.threshold.min(self.window);
    }

    fn set_window(&mut self, window: usize) {
        self.window = window.clamp(MIN_PACKETS * self.packet_len, WINDOW_MAX);
    }

    /// Whether the window is let down for now.
    fn is_draining(&mut self, now: u64) -> bool {
        match self.drain {
            Some((until, _)) if now < until => return true,
            Some((_, before)) => {
                self.drain = None;
                self.threshold = before;
                self.empty_at = now;
            }
            None if now.saturating_sub(self.empty_at) >= DRAIN_AFTER => {
                let queueing = u64::from(self.queueing());
                let round_trip = u64::from(self.round_trips.base().unwrap_or_default());
                self.drain = Some((now + 2 * round_trip + 2 * queueing, self.window));
                self.set_window(0);
                return true;
            }
            None => {}
        }
        false
    }

    /// Packets were lost: at most once for all that were under way together.
    pub(super) fn handle_loss(&mut self, now: u64) {
        let window = self.drain.take().map_or(self.window, |(_, before)| before);
        self.calm_since = now;
        self.set_window(window / 2);
        self.threshold = self.window;
    }

    /// Nothing was acknowledged for so long that all that was under way counts as lost.
    pub(super) fn handle_timeout(&mut self, now: u64) {
        self.handle_loss(now);
        self.window = self.packet_len;
    }
}

/// By how many thousandths of a packet the window grows in a round trip, after so long a calm.
fn increase_milli(calm: u64) -> u64 {
    let millis = (calm / 1000).saturating_sub(1000).min(10_000);
    (1000 + 10 * millis + (millis / 2) * (millis / 2) / 1000).min(INCREASE_MILLI_MAX)
}

/// `value * numerator / denominator`.
const fn scale(value: usize, numerator: u32, denominator: u32) -> usize {
    (value as u64 * numerator as u64 / denominator as u64) as usize
}

/// How long packets shall wait in the queue: enough to fill any link, and too little to be in the way of
/// what people do beside.
pub(super) const TARGET: u32 = 100_000;
/// With a longer queue slow start is over.
const SLOW_START_DELAY: u32 = TARGET / 4;
const INITIAL_PACKETS: usize = 10;
const MIN_PACKETS: usize = 2;
/// The largest window, and with it the memory that one connection takes for what it sends.
pub(super) const WINDOW_MAX: usize = 4 * 1024 * 1024;
const INCREASE_MILLI_MAX: u64 = 100_000;
/// A queue that stood for so long is let run empty once: well within the time that the least delay is
/// remembered.
const DRAIN_AFTER: u64 = 240_000_000;
/// Clocks do not drift by more than this between two looks: one of them was set.
const DRIFT_MAX: u32 = 10_000;
/// Queues longer than the round trip by this much are none.
const CLOCK_WAS_SET: u32 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: usize = 1000;

    #[test]
    fn starts_fast_stops_at_the_first_queue_and_goes_back_to_what_there_was_room_for() {
        let mut ledbat = Ledbat::new(0, PACKET);
        for round in 1..=6 {
            acknowledge(&mut ledbat, round * 50_000, 0);
        }
        let before = ledbat.window();
        assert!(before > 200 * PACKET, "{before}");
        acknowledge(&mut ledbat, 350_000, 40_000);
        assert!(!ledbat.is_slow_start());
        assert!(ledbat.window() < before * 2 / 3, "{} of {before}", ledbat.window());
    }

    #[test]
    fn grows_below_the_target_rests_at_it_and_shrinks_above() {
        let mut ledbat = steady();
        acknowledge(&mut ledbat, 100_000, TARGET);
        let window = ledbat.window();
        acknowledge(&mut ledbat, 150_000, TARGET);
        assert_eq!(ledbat.window(), window);
        acknowledge(&mut ledbat, 200_000, TARGET / 2);
        assert!((window + PACKET / 3..window + PACKET).contains(&ledbat.window()));
        acknowledge(&mut ledbat, 300_000, 2 * TARGET);
        assert!(ledbat.window() < window * 9 / 10);
    }

    #[test]
    fn takes_a_link_that_has_become_free_within_seconds() {
        let mut ledbat = steady();
        let window = ledbat.window();
        for round in 0..100 {
            acknowledge(&mut ledbat, round * 50_000, 0);
        }
        assert!(ledbat.window() > 3 * window, "{}", ledbat.window());
    }

    #[test]
    fn what_is_not_used_does_not_grow() {
        let mut ledbat = steady();
        let window = ledbat.window();
        let feedback = Feedback {
            acknowledged: PACKET,
            delay: Some(1_000_000),
            round_trip: Some(50_000),
            is_limited: false,
        };
        (0..100).for_each(|round| ledbat.handle_ack(round * 50_000, feedback));
        assert_eq!(ledbat.window(), window);
    }

    #[test]
    fn a_loss_halves_and_a_timeout_leaves_one_packet() {
        let mut ledbat = steady();
        let window = ledbat.window();
        ledbat.handle_loss(0);
        assert_eq!(ledbat.window(), window / 2);
        ledbat.handle_timeout(0);
        assert_eq!(ledbat.window(), PACKET);
        assert!(ledbat.is_slow_start());
    }

    #[test]
    fn a_clock_that_is_set_does_not_stop_it() {
        let mut ledbat = steady();
        let window = ledbat.window();
        for round in 0..100 {
            let feedback = Feedback {
                acknowledged: window,
                // Forward by a minute, and later back by an hour.
                delay: Some(if round < 50 {
                    61_000_000
                } else {
                    0_u32.wrapping_sub(3_540_000_000)
                }),
                round_trip: Some(50_000),
                is_limited: true,
            };
            ledbat.handle_ack(round * 50_000, feedback);
        }
        assert!(ledbat.window() >= window, "{}", ledbat.window());
    }

    #[test]
    fn a_queue_that_never_empties_is_let_down_once_in_minutes() {
        let mut ledbat = steady();
        let mut least = usize::MAX;
        for round in 0..6_000 {
            let is_down = ledbat.window() < 10 * PACKET;
            acknowledge(&mut ledbat, round * 50_000, if is_down { 0 } else { TARGET });
            least = least.min(ledbat.window());
        }
        assert_eq!(least, MIN_PACKETS * PACKET);
        assert!(ledbat.window() > 5 * PACKET);
    }

    /// One that has left slow start, and knows the way to be empty.
    fn steady() -> Ledbat {
        let mut ledbat = Ledbat::new(0, PACKET);
        (0..8).for_each(|_| acknowledge(&mut ledbat, 0, 0));
        ledbat.handle_loss(0);
        ledbat
    }

    /// A round trip in which every packet had to wait for so long.
    fn acknowledge(ledbat: &mut Ledbat, now: u64, queueing: u32) {
        let packets = ledbat.window() / PACKET;
        for _ in 0..packets.max(8) {
            let feedback = Feedback {
                acknowledged: PACKET.min(ledbat.window() / packets.max(8)),
                delay: Some(1_000_000 + queueing),
                round_trip: Some(50_000 + queueing),
                is_limited: true,
            };
            ledbat.handle_ack(now, feedback);
        }
    }
}
