//! Names of nodes, how far apart they are ([BEP 5]), and which name an address may bear ([BEP 42]).
//!
//! Whoever may choose its name freely can sit down around any info hash. So the first 21 bits of a
//! node's name follow from its address, and only three bits of choice are left.
//!
//! [BEP 5]: https://www.bittorrent.org/beps/bep_0005.html
//! [BEP 42]: https://www.bittorrent.org/beps/bep_0042.html

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::crc32c::crc32c;
/// Whether the address is of a network where everybody knows everybody.
pub(super) use crate::locality::is_local;
use crate::{InfoHash, Rng};

/// A place in the space of 160 bits: the name of a node, or of what is looked for. Shown as 40
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

/// How far apart two places are: the exclusive or of their names, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Distance([u8; 20]);

/// A node and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// Its name.
    pub id: NodeId,
    /// Where its datagrams come from.
    pub addr: SocketAddr,
}

impl NodeId {
    /// Any place.
    pub fn random(rng: &mut Rng) -> Self {
        Self(rng.bytes())
    }

    /// A name that a node which is seen at `ip` may bear ([BEP 42](https://www.bittorrent.org/beps/bep_0042.html)).
    pub fn for_address(ip: IpAddr, rng: &mut Rng) -> Self {
        Self::from_choice(ip, rng.bytes())
    }

    /// The last byte of `choice` holds what is chosen; its first three are replaced.
    fn from_choice(ip: IpAddr, choice: [u8; 20]) -> Self {
        let mut id = choice;
        let [high, middle, low, _] = prefix(ip, choice[19]).to_be_bytes();
        id[0] = high;
        id[1] = middle;
        id[2] = (low & 0xf8) | (choice[2] & 7);
        Self(id)
    }

    /// Whether a node at `ip` may bear this name. In local networks everyone may.
    pub fn fits(&self, ip: IpAddr) -> bool {
        if is_local(ip) {
            return true;
        }
        let [high, middle, low, _] = prefix(ip, self.0[19]).to_be_bytes();
        self.0[0] == high && self.0[1] == middle && (self.0[2] ^ low) & 0xf8 == 0
    }

    /// How far it is to `other`.
    pub fn distance(&self, other: &Self) -> Distance {
        Distance(std::array::from_fn(|at| self.0[at] ^ other.0[at]))
    }

    /// How many bits at the start are the same; 160 for equal names.
    pub fn shared_bits(&self, other: &Self) -> usize {
        let Distance(apart) = self.distance(other);
        let bytes = apart.iter().take_while(|byte| **byte == 0).count();
        apart.get(bytes).map_or(160, |byte| bytes * 8 + byte.leading_zeros() as usize)
    }

    /// A random place that shares `bits` bits with this one, and not the next.
    pub(super) fn random_sharing(&self, bits: usize, rng: &mut Rng) -> Self {
        let mut id: [u8; 20] = rng.bytes();
        for bit in 0..=bits.min(159) {
            let mask = 0x80 >> (bit % 8);
            let own = self.0[bit / 8] & mask;
            let wanted = if bit == bits { own ^ mask } else { own };
            id[bit / 8] = (id[bit / 8] & !mask) | wanted;
        }
        Self(id)
    }

    /// The same 20 bytes as the name of a torrent.
    pub const fn info_hash(&self) -> InfoHash {
        InfoHash(self.0)
    }
}

impl From<InfoHash> for NodeId {
    fn from(hash: InfoHash) -> Self {
        Self(hash.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info_hash().fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// The addresses that one holder commonly has all of: a /24, or with IPv6 a /64.
pub(super) fn subnet(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits() >> 8),
        IpAddr::V6(ip) => ip.to_bits() >> 64,
    }
}

/// Whom to hold responsible: an address, or with IPv6 the /64 that one host has all of.
pub(super) fn holder(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) if !is_local(ip) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        IpAddr::V4(_) | IpAddr::V6(_) => ip,
    }
}

/// Who counts as one who asks: all ports of a [`holder`]; but in a local network each may be somebody else.
pub(super) fn asker(from: SocketAddr) -> SocketAddr {
    let port = if is_local(from.ip()) { from.port() } else { 0 };
    SocketAddr::new(holder(from.ip()), port)
}

/// What the name of a node at `ip` begins with, in the upper 21 bits.
fn prefix(ip: IpAddr, choice: u8) -> u32 {
    let choice = (choice & 7) << 5;
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = (ip.to_bits() & 0x030f_3fff).to_be_bytes();
            bytes[0] |= choice;
            crc32c(&bytes)
        }
        IpAddr::V6(ip) => {
            let network = (ip.to_bits() >> 64) as u64;
            let mut bytes = (network & 0x0103_070f_1f3f_7fff).to_be_bytes();
            bytes[0] |= choice;
            crc32c(&bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NodeId {
        NodeId(text.parse::<InfoHash>().expect("40 digits").0)
    }

    #[test]
    fn names_are_those_of_the_specification() {
        let vectors = [
            ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
            ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
            ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
            ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
            ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
        ];
        for (ip, text) in vectors {
            let ip: IpAddr = ip.parse().expect("an address");
            assert!(id(text).fits(ip), "{ip}");
            assert_eq!(NodeId::from_choice(ip, id(text).0), id(text));
            let mut other = id(text);
            other.0[1] ^= 1;
            assert!(!other.fits(ip));
        }
    }

    #[test]
    fn a_made_name_fits_its_address_and_seldom_another() {
        let mut rng = Rng::from_seed(1);
        let addresses = ["2.3.4.5", "2001:db8:1:2::3", "93.184.216.34"];
        for ip in addresses.map(|ip| ip.parse::<IpAddr>().expect("an address")) {
            let made = NodeId::for_address(ip, &mut rng);
            assert!(made.fits(ip));
            assert!(!made.fits([8, 8, 8, 8].into()));
            assert!(made.fits([192, 168, 1, 1].into()), "local networks are exempt");
        }
    }

    #[test]
    fn distance_is_nothing_to_oneself_and_the_same_both_ways() {
        let mut rng = Rng::from_seed(2);
        for _ in 0..100 {
            let [a, b] = [NodeId::random(&mut rng), NodeId::random(&mut rng)];
            assert_eq!(a.distance(&b), b.distance(&a));
            assert_eq!((a.shared_bits(&a), a.distance(&a)), (160, Distance([0; 20])));
            let bits = rng.below(160);
            let near = a.random_sharing(bits, &mut rng);
            assert_eq!(a.shared_bits(&near), bits);
            assert!(bits == 0 || a.distance(&near) < a.distance(&b) || a.shared_bits(&b) >= bits);
        }
    }
}
