//! How many peers a torrent has, without naming them: sets of addresses of which only the size can be told
//! ([BEP 33]).
//!
//! Sets of several nodes are united bit by bit: who announced to all of them counts once.
//!
//! [BEP 33]: https://www.bittorrent.org/beps/bep_0033.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::IpAddr;

use sha1::{Digest, Sha1};

/// A Bloom filter of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bloom([u8; LEN]);

impl Default for Bloom {
    fn default() -> Self {
        Self([0; LEN])
    }
}

impl Bloom {
    /// The bytes, as they are told.
    pub(super) const fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }

    pub(super) fn insert(&mut self, ip: IpAddr) {
        let hash = match ip {
            IpAddr::V4(ip) => Sha1::digest(ip.octets()),
            IpAddr::V6(ip) => Sha1::digest(ip.octets()),
        };
        for pair in hash.as_chunks::<2>().0.iter().take(2) {
            let index = usize::from(u16::from_le_bytes(*pair));
            if let Some(byte) = self.0.get_mut((index / 8) % LEN) {
                *byte |= 1 << (index % 8);
            }
        }
    }

    /// Takes in what is in another.
    pub(super) fn unite(&mut self, other: &[u8; LEN]) {
        self.0.iter_mut().zip(other).for_each(|(byte, other)| *byte |= other);
    }

    /// About how many addresses are in it; never more than 7,806.
    pub(super) fn count(&self) -> u64 {
        let zeros: u32 = self.0.iter().map(|byte| byte.count_zeros()).sum();
        // With none left it is full, and could hold any number.
        let share = f64::from(zeros.max(1)) / BITS;
        let count = share.ln() / (2.0 * (1.0 - 1.0 / BITS).ln());
        count.round() as u64
    }
}

/// In bytes.
pub(super) const LEN: usize = 256;
const BITS: f64 = 2048.0;

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn filters_are_those_of_the_specification() {
        let mut filter = Bloom::default();
        (0..=255).for_each(|host| filter.insert([192, 0, 2, host].into()));
        (0..0x3e8).for_each(|host| {
            filter.insert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host).into());
        });
        let hex: String = filter.bytes().iter().map(|byte| format!("{byte:02X}")).collect();
        assert!(hex.starts_with("F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2"), "{hex}");
        assert!(hex.ends_with("FFFBFD9F6AEFFEEE76B6FD8F72EF"), "{hex}");
        assert_eq!(filter.count(), 1225, "1224.9308 there");
    }

    #[test]
    fn what_several_tell_counts_once_and_nothing_counts_without_end() {
        let mut filter = Bloom::default();
        assert_eq!(filter.count(), 0);
        let mut other = Bloom::default();
        (0..20).for_each(|host| filter.insert([1, 2, 3, host].into()));
        (10..30).for_each(|host| other.insert([1, 2, 3, host].into()));
        filter.unite(other.bytes());
        assert_eq!(filter.count(), 30);
        filter.unite(&[0xff; LEN]);
        assert_eq!(filter.count(), 7806);
    }
}
