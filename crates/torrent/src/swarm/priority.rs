//! An order of peers on which both ends agree ([BEP 40]), so that nobody can choose his place in it.
//!
//! [BEP 40]: https://www.bittorrent.org/beps/bep_0040.html

use std::net::{IpAddr, SocketAddr};

use crate::crc32c::crc32c;

/// How a connection between two addresses ranks among others, the higher the better. The same from both ends;
/// `None` between two families.
pub fn canonical_priority(a: SocketAddr, b: SocketAddr) -> Option<u32> {
    let (a_ip, b_ip) = (a.ip().to_canonical(), b.ip().to_canonical());
    if a_ip == b_ip {
        return Some(joined(a.port().to_be_bytes(), b.port().to_be_bytes()));
    }
    match (a_ip, b_ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Some(masked(a.octets(), b.octets(), 2)),
        (IpAddr::V6(a), IpAddr::V6(b)) => Some(masked(a.octets(), b.octets(), 6)),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// Of all but the first `whole` bytes half the bits count, so that a network has few ranks to choose from; where
/// these bytes are equal, one more counts wholly.
fn masked<const N: usize>(a: [u8; N], b: [u8; N], whole: usize) -> u32 {
    let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let whole = whole.max(common + 1);
    let mask = |ip: [u8; N]| {
        let mut bytes = ip;
        bytes.iter_mut().skip(whole).for_each(|byte| *byte &= 0x55);
        bytes
    };
    joined(mask(a), mask(b))
}

fn joined<const N: usize>(a: [u8; N], b: [u8; N]) -> u32 {
    crc32c(&[a.min(b), a.max(b)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn rank(a: &str, b: &str) -> Option<u32> {
        canonical_priority(a.parse().expect("valid"), b.parse().expect("valid"))
    }

    #[test]
    fn gives_the_numbers_of_the_specification() {
        assert_eq!(rank("123.213.32.10:1", "98.76.54.32:2"), Some(0xec2d_7224));
        assert_eq!(rank("123.213.32.10:1", "123.213.32.234:2"), Some(0x9956_8189));
    }

    #[test]
    fn half_the_bits_count_of_what_lies_within_a_network() {
        let bytes = |bytes: &[u8]| Some(crc32c(bytes));
        let one_16 = bytes(&[230, 12, 23, 1, 230, 12, 123, 1]);
        assert_eq!(rank("230.12.23.1:1", "230.12.123.3:1"), one_16);
        let one_host = bytes(&[1, 44, 4, 210]);
        assert_eq!(rank("230.12.123.3:1234", "230.12.123.3:300"), one_host);
        assert_eq!(rank("[2001:db8::1]:1234", "[2001:db8::1]:300"), one_host);
        // The last two bits differ where they do not count.
        let far = rank("[2001:db8::1]:1", "[2001:db9::1]:1");
        assert_eq!(far, rank("[2001:db8::1]:1", "[2001:db9::3]:1"));
        assert_ne!(far, rank("[2001:db8::1]:1", "[2001:db9::4]:1"));
        let near = rank("[2001:db8::1]:1", "[2001:db8::2]:1");
        assert_ne!(near, rank("[2001:db8::1]:1", "[2001:db8::3]:1"));
    }

    #[test]
    fn both_ends_see_the_same_and_families_do_not_mix() {
        for seed in 0..1000 {
            let mut rng = Rng::from_seed(seed);
            let mut any = || -> SocketAddr { (rng.bytes::<4>(), rng.u32() as u16).into() };
            let (a, b) = (any(), any());
            assert_eq!(canonical_priority(a, b), canonical_priority(b, a));
            let mapped = |addr: SocketAddr| match addr.ip() {
                IpAddr::V4(ip) => (ip.to_ipv6_mapped(), addr.port()).into(),
                IpAddr::V6(_) => addr,
            };
            assert_eq!(canonical_priority(a, b), canonical_priority(mapped(a), b));
        }
        assert_eq!(rank("1.2.3.4:1", "[2001:db8::1]:1"), None);
    }
}
