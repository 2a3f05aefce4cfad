//! Spreads packets over the round trip, so that the queue on the way is not filled by bursts.

/// How much may go out now. Times are in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Pacer {
    /// Bytes that may go out; below 0 more did than should have.
    credit: i64,
    /// As of when.
    at: u64,
}

impl Pacer {
    pub(super) const fn new(now: u64) -> Self {
        Self { credit: 0, at: now }
    }

    /// Bytes that may go out at once, at `rate` bytes a second: what makes a call to the system worth it,
    /// and not more than a couple of milliseconds of the link.
    fn burst(rate: u64) -> i64 {
        (rate * BURST_MICROS / 1_000_000).clamp(BURST_MIN, BURST_MAX).cast_signed()
    }

    /// What may go out now, or when something may.
    pub(super) fn allowance(&mut self, now: u64, rate: u64) -> Result<usize, u64> {
        let burst = Self::burst(rate);
        let passed = now.saturating_sub(self.at).min(1_000_000);
        self.credit = (self.credit + (rate * passed / 1_000_000).cast_signed()).min(burst);
        self.at = now;
        if self.credit > 0 {
            return Ok(self.credit.cast_unsigned() as usize);
        }
        // Half a burst, so that there are two in the time of one.
        let missing = (burst / 2 - self.credit).cast_unsigned();
        Err(now + (missing * 1_000_000 / rate.max(1)).clamp(1, PAUSE_MAX))
    }

    pub(super) const fn spend(&mut self, bytes: usize) {
        self.credit -= bytes as i64;
    }
}

const BURST_MICROS: u64 = 2_000;
const BURST_MIN: u64 = 12 * 1024;
const BURST_MAX: u64 = 512 * 1024;
const PAUSE_MAX: u64 = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_in_a_second_is_the_rate_in_small_bursts() {
        for rate in [200_000, 2_000_000, 100_000_000] {
            let mut pacer = Pacer::new(0);
            let (mut now, mut sent, mut longest) = (0, 0, 0);
            while now < 1_000_000 {
                match pacer.allowance(now, rate) {
                    Ok(bytes) => {
                        pacer.spend(bytes);
                        sent += bytes as u64;
                        longest = longest.max(bytes as u64);
                    }
                    Err(at) => now = at,
                }
            }
            assert!(sent.abs_diff(rate) < rate / 10, "{sent} of {rate}");
            assert!(longest <= (rate / 500).max(BURST_MIN), "{longest}");
        }
    }
}
