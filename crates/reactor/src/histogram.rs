//! How durations are spread, in little room and without end.

use std::fmt;
use std::time::Duration;

/// How many durations there were of each magnitude: a bucket reaches twice as far as the one before,
/// from 1 µs to 67 s, and the last one takes what is longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    longest: Duration,
}

impl Histogram {
    pub(crate) fn record(&mut self, duration: Duration) {
        self.buckets[bucket(duration)] += 1;
        self.longest = self.longest.max(duration);
    }

    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The longest of them.
    pub const fn longest(&self) -> Duration {
        self.longest
    }

    /// A duration that the share `quantile` of them, from 0 to 1, does not exceed: the upper bound of
    /// the bucket, or [`longest`](Self::longest) if that is less. Zero if there were none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let rank = (quantile * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = self.buckets().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        reached.map_or(self.longest, |(bound, _)| bound.min(self.longest))
    }

    /// Each bucket's upper bound, which is in it, and how many durations are in it. The last bound is
    /// [`Duration::MAX`].
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        self.buckets.iter().enumerate().map(|(index, count)| (upper_bound(index), *count))
    }
}

fn bucket(duration: Duration) -> usize {
    let micros = duration.as_nanos().div_ceil(1000).max(1);
    let doublings = micros.next_power_of_two().trailing_zeros() as usize;
    doublings.min(BUCKETS - 1)
}

const fn upper_bound(bucket: usize) -> Duration {
    if bucket == BUCKETS - 1 { Duration::MAX } else { Duration::from_micros(1 << bucket) }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, nearly_all] = [0.5, 0.9, 0.99].map(|quantile| self.quantile(quantile));
        let (count, longest) = (self.count(), self.longest);
        write!(f, "{count} measured, 50% within {half:.1?}, 90% within {most:.1?}, ")?;
        write!(f, "99% within {nearly_all:.1?}, at most {longest:.1?}")
    }
}

/// 1 µs doubled 26 times is the last bound; one more bucket has none.
const BUCKETS: usize = 28;

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    #[test]
    fn a_bucket_holds_its_upper_bound_and_no_more() {
        let histogram = Histogram::default();
        let bounds = Vec::from_iter(histogram.buckets().map(|(bound, _)| bound));
        assert_eq!((bounds[0], bounds[1], bounds[10]), (micros(1), micros(2), micros(1024)));
        assert_eq!((bounds[26].as_secs(), bounds[27], bounds.len()), (67, Duration::MAX, 28));
        assert_eq!((bucket(Duration::ZERO), bucket(Duration::MAX)), (0, 27));
        for (index, bound) in bounds[..27].iter().enumerate() {
            assert_eq!(bucket(*bound), index);
            assert_eq!(bucket(*bound + Duration::from_nanos(1)), index + 1);
        }
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket_but_never_more_than_there_was() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.count()), (Duration::ZERO, 0));
        for _ in 0..98 {
            histogram.record(micros(3));
        }
        histogram.record(micros(900));
        histogram.record(Duration::from_secs(100));
        assert_eq!((histogram.quantile(0.0), histogram.quantile(0.98)), (micros(4), micros(4)));
        assert_eq!(histogram.quantile(0.99), micros(1024));
        assert_eq!(histogram.quantile(1.0), Duration::from_secs(100));
        assert_eq!((histogram.count(), histogram.longest()), (100, Duration::from_secs(100)));
    }
}
