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
}
