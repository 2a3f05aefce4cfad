//! Seeded chance: SplitMix64, which needs one word and passes the usual tests.
//!
//! <https://prng.di.unimi.it/splitmix64.c>

use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Chance {
    state: u64,
}

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not 0.
    pub(super) const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True this often: 0.0 never, 1.0 always.
    pub(super) fn happens(&mut self, share: f64) -> bool {
        // 53 bits are what the number can hold.
        ((self.next() >> 11) as f64) < share * (1_u64 << 53) as f64
    }

    /// From nothing up to `max`.
    pub(super) fn duration(&mut self, max: Duration) -> Duration {
        let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(self.next() % (micros + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_published_numbers() {
        let mut chance = Chance::new(1_234_567);
        assert_eq!(chance.next(), 6_457_827_717_110_365_317);
        assert_eq!(chance.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn never_is_never_and_always_is_always() {
        let mut chance = Chance::new(1);
        assert!((0..1000).all(|_| !chance.happens(0.0) && chance.happens(1.0)));
        let halves = (0..1000).filter(|_| chance.happens(0.5)).count();
        assert!((400..600).contains(&halves));
    }
}
