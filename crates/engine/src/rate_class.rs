//! Which limits hold for whom: peers in the local network are left out of those on all torrents together.
//!
//! The limits are there for the line to the world. What stays within the house does not use it; so such
//! peers are held by nothing but the limits of their own torrent, unless
//! [`SessionLimits::local_too`](crate::SessionLimits::local_too) says otherwise.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use reactor::Token;
use torrent::locality;

use crate::engine::Engine;

/// The networks that this machine is in, and the connections within them.
#[derive(Debug, Default)]
pub(crate) struct LocalNetwork {
    /// Of the network interfaces, as of then.
    subnets: Vec<Subnet>,
    read_at: Option<Instant>,
    connections: BTreeSet<Token>,
}

/// An address and how many of its first bits the network's other addresses have in common with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Subnet {
    ip: IpAddr,
    prefix_len: u32,
}

impl Engine {
    /// A connection to a peer begins: which limits will hold for it?
    pub(crate) fn classify(&mut self, token: Token, ip: IpAddr, now: Instant) {
        if self.local_network.has(ip, now) {
            self.local_network.connections.insert(token);
        }
    }

    /// Whether the limits on all torrents together do not hold for what comes from there.
    pub(crate) fn is_exempt(&mut self, ip: IpAddr, now: Instant) -> bool {
        !self.config.limits.local_too && self.local_network.has(ip, now)
    }

    /// A connection is over.
    pub(crate) fn declassify(&mut self, token: Token) {
        self.local_network.connections.remove(&token);
    }

    /// Whether the limits on all torrents together hold for a connection.
    pub(crate) fn is_limited(&self, token: Token) -> bool {
        self.config.limits.local_too || !self.local_network.connections.contains(&token)
    }
}

impl LocalNetwork {
    /// Private, link-local and the like, or in a network of one of our interfaces.
    fn has(&mut self, ip: IpAddr, now: Instant) -> bool {
        let ip = ip.to_canonical();
        if locality::is_local(ip) && !is_behind_carrier(ip) {
            return true;
        }
        if self.read_at.is_none_or(|at| now.saturating_duration_since(at) >= FRESH) {
            self.read_at = Some(now);
            self.subnets = subnets();
        }
        self.subnets.iter().any(|subnet| subnet.has(ip))
    }
}

impl Subnet {
    fn has(self, ip: IpAddr) -> bool {
        let (a, b, width) = match (self.ip, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let differing: u128 = a ^ b;
        // A mask that lets in a large part of the world is of no network that one is in.
        let is_network = self.prefix_len >= width / 4;
        is_network && differing.checked_shr(width - self.prefix_len.min(width)).unwrap_or(0) == 0
    }
}

/// Whether an address is of those that internet providers give to customers behind their NAT (RFC 6598): private, and
/// yet the line lies between them.
fn is_behind_carrier(ip: IpAddr) -> bool {
    Subnet { ip: [100, 64, 0, 0].into(), prefix_len: 10 }.has(ip)
}

/// Those of this machine's interfaces; none if the system does not tell.
fn subnets() -> Vec<Subnet> {
    let all = match nix::ifaddrs::getifaddrs() {
        Ok(all) => all,
        Err(error) => {
            tracing::info!(%error, "the networks of this machine are not known");
            return Vec::new();
        }
    };
    let subnets = all.filter_map(|at| {
        let (address, mask) = (at.address?, at.netmask?);
        if let (Some(ip), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
            return Some(Subnet {
                ip: ip.ip().into(),
                prefix_len: mask.ip().to_bits().leading_ones(),
            });
        }
        let (ip, mask) = (address.as_sockaddr_in6()?, mask.as_sockaddr_in6()?);
        Some(Subnet { ip: ip.ip().into(), prefix_len: mask.ip().to_bits().leading_ones() })
    });
    subnets.take(SUBNETS_MAX).collect()
}

/// So long what the interfaces are is taken to be as it was.
const FRESH: Duration = Duration::from_secs(60);
const SUBNETS_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_has_those_who_begin_alike() {
        for (subnet, prefix_len, ip, is_in) in [
            ("203.0.113.9", 24, "203.0.113.200", true),
            ("203.0.113.9", 24, "203.0.112.9", false),
            ("203.0.113.9", 32, "203.0.113.9", true),
            ("203.0.113.9", 32, "203.0.113.8", false),
            ("203.0.113.9", 99, "203.0.113.9", true),
            ("203.0.113.9", 0, "8.8.8.8", false),
            ("2001:db8::1", 64, "2001:db8::ffff:1", true),
            ("2001:db8::1", 64, "2001:db8:0:1::1", false),
            ("2001:db8::1", 3, "2a00::1", false),
            ("2001:db8::1", 64, "203.0.113.9", false),
        ] {
            let subnet = Subnet { ip: subnet.parse().expect("valid"), prefix_len };
            assert_eq!(subnet.has(ip.parse().expect("valid")), is_in, "{subnet:?} {ip}");
        }
    }

    #[test]
    fn private_addresses_are_local_whatever_the_interfaces() {
        let (mut network, now) = (LocalNetwork::default(), Instant::now());
        for ip in ["192.168.1.1", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "127.0.0.1"] {
            assert!(network.has(ip.parse().expect("valid"), now), "{ip}");
        }
        network.read_at = Some(now);
        network.subnets = vec![Subnet { ip: [203, 0, 113, 9].into(), prefix_len: 24 }];
        assert!(network.has([203, 0, 113, 10].into(), now));
        assert!(!network.has([198, 51, 100, 1].into(), now));
        assert!(!network.has([100, 64, 0, 9].into(), now), "another customer of our provider");
        network.subnets = vec![Subnet { ip: [100, 64, 0, 1].into(), prefix_len: 24 }];
        assert!(network.has([100, 64, 0, 9].into(), now));
    }
}
