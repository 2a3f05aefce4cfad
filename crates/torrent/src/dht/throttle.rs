//! How many questions we answer: so many in a second, and so many of them for one address.
//!
//! The address of a datagram can be forged; whoever does that wants our answers to go to someone else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::node_id::asker;

/// Counts questions.
#[derive(Debug)]
pub(super) struct Throttle {
    per_second: u32,
    per_address: u32,
    second_began: Instant,
    count: u32,
    /// Of this second; at most `per_second`.
    by_asker: BTreeMap<SocketAddr, u32>,
}

impl Throttle {
    pub(super) const fn new(now: Instant, per_second: u32, per_address: u32) -> Self {
        Self { per_second, per_address, second_began: now, count: 0, by_asker: BTreeMap::new() }
    }

    /// Whether to answer another question of `from`. The ports of an address count as one, and with IPv6 the addresses
    /// of a /64; but in a local network each may be somebody else.
    pub(super) fn admits(&mut self, now: Instant, from: SocketAddr) -> bool {
        if now.saturating_duration_since(self.second_began) >= Duration::from_secs(1) {
            self.second_began = now;
            self.count = 0;
            self.by_asker.clear();
        }
        if self.count >= self.per_second {
            return false;
        }
        let of_this = self.by_asker.entry(asker(from)).or_default();
        if *of_this >= self.per_address {
            return false;
        }
        *of_this += 1;
        self.count += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::swarm::tests::epoch;

    #[test]
    fn each_address_has_its_share_of_each_second() {
        let mut throttle = Throttle::new(epoch(), 10, 3);
        let mut admitted = |now, ip| {
            (0..100).filter(|port| throttle.admits(now, ([1, 1, 1, ip], *port).into())).count()
        };
        assert_eq!([1, 2, 3, 4, 5].map(|ip| admitted(epoch(), ip)), [3, 3, 3, 1, 0]);
        assert_eq!(admitted(epoch() + Duration::from_secs(1), 5), 3);
        assert!(throttle.by_asker.len() <= 10);
    }

    #[test]
    fn the_many_addresses_of_a_host_of_ipv6_have_one_share() {
        let mut throttle = Throttle::new(epoch(), 100, 3);
        let from = |host: u128| {
            SocketAddr::new(Ipv6Addr::from_bits((0x2a01_u128 << 112) | host).into(), 1)
        };
        assert_eq!((0..50).filter(|host| throttle.admits(epoch(), from(*host))).count(), 3);
        assert!(throttle.admits(epoch(), from(1 << 64)), "another network");
    }
}
