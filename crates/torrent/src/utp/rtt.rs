//! How long the way there and back takes, and how long to wait for an answer ([RFC 6298]).
//!
//! [RFC 6298]: https://www.rfc-editor.org/rfc/rfc6298

/// Round trips of one connection, in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct RoundTrip {
    smoothed: Option<u64>,
    variation: u64,
    /// The shortest there was.
    least: u64,
    /// How often in succession nothing came.
    silences: u32,
}

impl RoundTrip {
    pub(super) fn add(&mut self, sample: u64) {
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(sample.max(1));
            (self.variation, self.least) = (sample / 2, sample);
            return;
        };
        self.least = self.least.min(sample);
        self.variation = (3 * self.variation + smoothed.abs_diff(sample)) / 4;
        self.smoothed = Some(((7 * smoothed + sample) / 8).max(1));
    }

    /// As it is on average, once something is known.
    pub(super) const fn smoothed(&self) -> Option<u64> {
        self.smoothed
    }

    /// The shortest, and the average, once something is known.
    pub(super) fn least_and_smoothed(&self) -> Option<(u64, u64)> {
        self.smoothed.map(|smoothed| (self.least, smoothed))
    }

    /// After how long a silence the last packet is sent once more (RFC 8985). Others let an acknowledgement wait for
    /// a tenth of a second if there is little to acknowledge.
    pub(super) fn tail_patience(&self, is_little: bool) -> Option<u64> {
        let others_wait = if is_little { ACK_PATIENCE_OF_OTHERS } else { 0 };
        self.smoothed.map(|smoothed| (2 * smoothed + others_wait).max(TAIL_PATIENCE_MIN))
    }

    /// After how long a silence everything under way counts as lost.
    pub(super) fn timeout(&self) -> u64 {
        let first = match self.smoothed {
            Some(smoothed) => (smoothed + 4 * self.variation).max(TIMEOUT_MIN),
            None => TIMEOUT_UNKNOWN,
        };
        (first << self.silences.min(SILENCES_COUNTED)).min(TIMEOUT_MAX.max(first))
    }

    /// So long passed, and nothing came. Returns how often in succession.
    pub(super) const fn silence(&mut self) -> u32 {
        self.silences = self.silences.saturating_add(1);
        self.silences
    }

    /// Something new was acknowledged.
    pub(super) const fn answered(&mut self) {
        self.silences = 0;
    }
}

const TIMEOUT_UNKNOWN: u64 = 1_000_000;
const TIMEOUT_MIN: u64 = 500_000;
const TIMEOUT_MAX: u64 = 30_000_000;
const SILENCES_COUNTED: u32 = 10;
const ACK_PATIENCE_OF_OTHERS: u64 = 100_000;
const TAIL_PATIENCE_MIN: u64 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_the_longer_and_less_even_the_way_is_and_twice_as_long_after_each_silence() {
        let mut rtt = RoundTrip::default();
        assert_eq!(rtt.timeout(), TIMEOUT_UNKNOWN);
        rtt.add(400_000);
        assert_eq!((rtt.smoothed(), rtt.timeout()), (Some(400_000), 1_200_000));
        (0..100).for_each(|_| rtt.add(20_000));
        assert_eq!(rtt.timeout(), TIMEOUT_MIN);
        assert_eq!((rtt.silence(), rtt.timeout()), (1, 2 * TIMEOUT_MIN));
        (0..100).for_each(|_| _ = rtt.silence());
        assert_eq!(rtt.timeout(), TIMEOUT_MAX);
        rtt.answered();
        assert_eq!(rtt.timeout(), TIMEOUT_MIN);
    }
}
