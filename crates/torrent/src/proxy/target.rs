//! Where a proxy is to take us: an address, or a name that it looks up itself.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where a proxy is to take us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Addr(SocketAddr),
    /// A name, at most 255 bytes of printable ASCII, and a port. The proxy looks it up, so that nobody here
    /// is asked.
    Name(String, u16),
}

/// A name that no proxy could be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host name of 1 to 255 printable ASCII characters")]
pub struct TargetError;

impl Target {
    /// A host, by its address or name, and a port.
    ///
    /// # Errors
    /// If it is too long, or has characters that no name has: in a request of HTTP they could begin another line.
    pub fn new(host: &str, port: u16) -> Result<Self, TargetError> {
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(Self::Addr((ip, port).into()));
        }
        let is_printable = host.bytes().all(|byte| byte.is_ascii_graphic());
        let is_name = (1..=NAME_LEN_MAX).contains(&host.len()) && is_printable;
        if is_name { Ok(Self::Name(host.to_owned(), port)) } else { Err(TargetError) }
    }

    /// As SOCKS5 writes it: kind, address, port.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Addr(addr) => {
                match addr.ip().to_canonical() {
                    IpAddr::V4(ip) => {
                        out.push(KIND_IPV4);
                        out.extend(ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        out.push(KIND_IPV6);
                        out.extend(ip.octets());
                    }
                }
                out.extend(addr.port().to_be_bytes());
            }
            Self::Name(name, port) => {
                out.push(KIND_NAME);
                out.push(u8::try_from(name.len()).expect("a target's name is short"));
                out.extend(name.as_bytes());
                out.extend(port.to_be_bytes());
            }
        }
    }

    /// Reads what SOCKS5 has written, from the start of `bytes`; gives the rest.
    pub(super) fn decode(bytes: &[u8]) -> Decoded<'_> {
        let Some((&kind, rest)) = bytes.split_first() else { return Decoded::Short };
        let (name_len, rest) = match kind {
            KIND_IPV4 | KIND_IPV6 => (0, rest),
            KIND_NAME => match rest.split_first() {
                Some((&len, rest)) => (usize::from(len), rest),
                None => return Decoded::Short,
            },
            _ => return Decoded::Malformed,
        };
        let host_len = match kind {
            KIND_IPV4 => 4,
            KIND_IPV6 => 16,
            _ => name_len,
        };
        let Some((host, rest)) = rest.split_at_checked(host_len) else { return Decoded::Short };
        let Some((&port, rest)) = rest.split_first_chunk() else { return Decoded::Short };
        let port = u16::from_be_bytes(port);
        let target = if let Ok(ip) = <[u8; 4]>::try_from(host)
            && kind == KIND_IPV4
        {
            Ok(Self::Addr((Ipv4Addr::from(ip), port).into()))
        } else if let Ok(ip) = <[u8; 16]>::try_from(host)
            && kind == KIND_IPV6
        {
            Ok(Self::Addr((Ipv6Addr::from(ip).to_canonical(), port).into()))
        } else {
            std::str::from_utf8(host)
                .map_err(|_not_text| TargetError)
                .and_then(|name| Self::new(name, port))
        };
        match target {
            Ok(target) => Decoded::Whole(target, rest),
            Err(TargetError) => Decoded::Malformed,
        }
    }
}

/// What was read of a target.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded<'a> {
    Whole(Target, &'a [u8]),
    /// It goes on behind what is here.
    Short,
    Malformed,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// One byte of SOCKS5 holds the length.
const NAME_LEN_MAX: usize = 255;
const KIND_IPV4: u8 = 1;
const KIND_NAME: u8 = 3;
const KIND_IPV6: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_written() {
        let long = "x".repeat(255);
        for (host, port) in
            [("192.0.2.1", 6881), ("[2001:db8::1]", 1), ("tracker.example", 80), (&long, 65535)]
        {
            let target = Target::new(host, port).expect("valid");
            let mut bytes = Vec::new();
            target.encode(&mut bytes);
            for len in 0..bytes.len() {
                assert_eq!(Target::decode(&bytes[..len]), Decoded::Short);
            }
            bytes.push(7);
            assert_eq!(Target::decode(&bytes), Decoded::Whole(target, &[7]));
        }
    }

    #[test]
    fn refuses_names_that_would_end_a_line() {
        for name in ["", "a\r\nHost: b", "a b", "ä", &"x".repeat(256)] {
            assert_eq!(Target::new(name, 80), Err(TargetError));
        }
        assert_eq!(Target::decode(&[KIND_NAME, 1, b'\n', 0, 80]), Decoded::Malformed);
        assert_eq!(Target::decode(&[9, 9, 9]), Decoded::Malformed);
    }
}
