//! Addresses of peers packed tight ([BEP 23], [BEP 7]): 4 or 16 bytes of address, 2 of port.
//!
//! [BEP 23]: https://www.bittorrent.org/beps/bep_0023.html
//! [BEP 7]: https://www.bittorrent.org/beps/bep_0007.html

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Addresses of six bytes each; bytes past the last whole one are left out.
pub fn parse_v4(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    bytes.as_chunks().0.iter().map(|&[a, b, c, d, high, low]| {
        SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
    })
}

/// Addresses of eighteen bytes each; bytes past the last whole one are left out.
pub fn parse_v6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> + '_ {
    bytes.as_chunks::<18>().0.iter().filter_map(|packed| {
        let (ip, port) = packed.split_first_chunk::<16>()?;
        Some(SocketAddr::from((Ipv6Addr::from(*ip), u16::from_be_bytes(*port.first_chunk()?))))
    })
}

/// Appends an address to the list of its family.
pub fn append(addr: SocketAddr, v4: &mut Vec<u8>, v6: &mut Vec<u8>) {
    let out = match addr.ip() {
        IpAddr::V4(ip) => {
            v4.extend_from_slice(&ip.octets());
            v4
        }
        IpAddr::V6(ip) => {
            v6.extend_from_slice(&ip.octets());
            v6
        }
    };
    out.extend_from_slice(&addr.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let addrs: [SocketAddr; 3] = ["10.0.0.1:6881", "255.1.2.3:1", "[2001:db8::1]:51413"]
            .map(|addr| addr.parse().expect("valid"));
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        addrs.iter().for_each(|addr| append(*addr, &mut v4, &mut v6));
        assert_eq!((v4.len(), v6.len()), (12, 18));
        v4.push(1);
        assert_eq!(parse_v4(&v4).chain(parse_v6(&v6)).collect::<Vec<_>>(), addrs);
    }

    #[test]
    fn every_byte_may_stand_in_an_address() {
        for byte in 0..=255 {
            for at in 0..6 {
                let mut packed = [1, 2, 3, 4, 5, 6];
                packed[at] = byte;
                let addrs: Vec<SocketAddr> = parse_v4(&packed).collect();
                let (mut v4, mut v6) = (Vec::new(), Vec::new());
                append(addrs[0], &mut v4, &mut v6);
                assert_eq!((v4.as_slice(), v6.len()), (&packed[..], 0));
            }
        }
        let line_feed = [10, 10, 10, 10, 10, 10];
        assert_eq!(parse_v4(&line_feed).next(), "10.10.10.10:2570".parse().ok());
    }

    #[test]
    fn ports_are_read_from_their_lowest_to_their_highest() {
        let port = |high, low| parse_v4(&[1, 1, 1, 1, high, low]).next().map(|addr| addr.port());
        assert_eq!(port(0, 0), Some(0));
        assert_eq!(port(0, 1), Some(1));
        assert_eq!(port(0x1a, 0xe1), Some(6881));
        assert_eq!(port(0xff, 0xff), Some(65535));
    }

    #[test]
    fn order_stays_and_nothing_is_lost_of_what_comes_twice() {
        let packed = [2, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 2, 0, 0, 1, 0, 1];
        let found: Vec<String> = parse_v4(&packed).map(|addr| addr.to_string()).collect();
        assert_eq!(found, ["2.0.0.1:1", "1.0.0.1:1", "2.0.0.1:1"]);
    }

    #[test]
    fn cut_off_addresses_are_left_out_at_any_length() {
        for len in 0..60_usize {
            let bytes = vec![7; len];
            assert_eq!(parse_v4(&bytes).count(), len / 6);
            assert_eq!(parse_v6(&bytes).count(), len / 18);
        }
    }
}
