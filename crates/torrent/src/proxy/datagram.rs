//! Datagrams through a SOCKS5 proxy: a head that says where to, or where from (RFC 1928, section 7).

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::Target;
use super::target::Decoded;

/// A datagram for the proxy to carry to `target`.
pub fn wrap(target: &Target, data: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(data.len().saturating_add(HEAD_LEN_USUAL));
    datagram.extend([0, 0, 0]);
    target.encode(&mut datagram);
    datagram.extend(data);
    datagram
}

/// Where a datagram of the proxy's came from, and what is in it. `None` for what is none, and for
/// fragments: nobody sends those, and RFC 1928 lets us drop them.
pub fn unwrap(datagram: &[u8]) -> Option<(Target, &[u8])> {
    let rest = datagram.strip_prefix(&[0, 0, 0])?;
    match Target::decode(rest) {
        Decoded::Whole(from, data) => Some((from, data)),
        Decoded::Short | Decoded::Malformed => None,
    }
}

/// With an IPv6 address.
pub const HEAD_LEN_USUAL: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn comes_back_as_it_was_wrapped() {
        for host in ["192.0.2.1", "2001:db8::1", "tracker.example"] {
            let target = Target::new(host, 6969).expect("valid");
            let datagram = wrap(&target, b"hello");
            assert_eq!(unwrap(&datagram), Some((target, &b"hello"[..])));
        }
        let v6 = Target::new("2001:db8::1", 6969).expect("valid");
        assert_eq!(wrap(&v6, b"").len(), HEAD_LEN_USUAL);
    }

    #[test]
    fn a_fragment_is_dropped() {
        let mut datagram = wrap(&Target::new("192.0.2.1", 1).expect("valid"), b"hello");
        datagram[2] = 1;
        assert_eq!(unwrap(&datagram), None);
    }

    #[test]
    fn survives_any_datagram() {
        for seed in 0..2000 {
            let mut noise = Rng::from_seed(seed);
            let mut datagram: Vec<u8> = (0..noise.u32() % 40).map(|_| noise.u32() as u8).collect();
            if let Some(head) = datagram.first_chunk_mut::<4>() {
                *head = [0, 0, 0, (noise.u32() % 6) as u8];
            }
            if let Some((target, data)) = unwrap(&datagram) {
                assert!(data.len() < datagram.len());
                unwrap(&wrap(&target, data)).expect("what was read can be written");
            }
        }
    }
}
