//! Having a third peer introduce two that cannot reach each other ([BEP 55]).
//!
//! [BEP 55]: https://www.bittorrent.org/beps/bep_0055.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::PeerFault;

/// One message of the extension `ut_holepunch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolepunchMessage {
    /// To a relay: have the peer at this address and us dial each other.
    Rendezvous(SocketAddr),
    /// From a relay: dial this address now, by uTP; it dials us.
    Connect(SocketAddr),
    /// From a relay: nothing comes of the rendezvous with this address.
    Error(SocketAddr, HolepunchError),
}

/// Why a relay does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolepunchError {
    /// The address makes no sense.
    NoSuchPeer,
    /// The relay is not connected to it.
    NotConnected,
    /// It does not know this extension.
    NoSupport,
    /// It is the relay itself.
    NoSelf,
    /// A number that BEP 55 does not know.
    Other(u32),
}

impl HolepunchMessage {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, addr, error) = match *self {
            Self::Rendezvous(addr) => (RENDEZVOUS, addr, 0),
            Self::Connect(addr) => (CONNECT, addr, 0),
            Self::Error(addr, error) => (ERROR, addr, error.number()),
        };
        let mut out = vec![kind];
        match addr.ip().to_canonical() {
            IpAddr::V4(ip) => {
                out.push(IPV4);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(IPV6);
                out.extend_from_slice(&ip.octets());
            }
        }
        out.extend_from_slice(&addr.port().to_be_bytes());
        out.extend_from_slice(&error.to_be_bytes());
        out
    }

    /// Reads a payload. Only errors need a number at their end, and nobody minds what comes after.
    ///
    /// # Errors
    /// [`PeerFault::MalformedMessage`] if it is cut off or of a kind or family that BEP 55 does not know.
    pub fn decode(payload: &[u8]) -> Result<Self, PeerFault> {
        Self::read(payload).ok_or(PeerFault::MalformedMessage)
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let (&[kind, family], rest) = payload.split_first_chunk()?;
        let (ip, rest): (IpAddr, _) = match family {
            IPV4 => {
                rest.split_first_chunk::<4>().map(|(ip, rest)| (Ipv4Addr::from(*ip).into(), rest))
            }
            IPV6 => {
                rest.split_first_chunk::<16>().map(|(ip, rest)| (Ipv6Addr::from(*ip).into(), rest))
            }
            _ => None,
        }?;
        let (port, rest) = rest.split_first_chunk()?;
        let addr = SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(*port));
        match kind {
            RENDEZVOUS => Some(Self::Rendezvous(addr)),
            CONNECT => Some(Self::Connect(addr)),
            ERROR => {
                let number = u32::from_be_bytes(*rest.first_chunk()?);
                Some(Self::Error(addr, HolepunchError::of_number(number)))
            }
            _ => None,
        }
    }
}

impl HolepunchError {
    const fn number(self) -> u32 {
        match self {
            Self::NoSuchPeer => 1,
            Self::NotConnected => 2,
            Self::NoSupport => 3,
            Self::NoSelf => 4,
            Self::Other(number) => number,
        }
    }

    const fn of_number(number: u32) -> Self {
        match number {
            1 => Self::NoSuchPeer,
            2 => Self::NotConnected,
            3 => Self::NoSupport,
            4 => Self::NoSelf,
            _ => Self::Other(number),
        }
    }
}

const RENDEZVOUS: u8 = 0;
const CONNECT: u8 = 1;
const ERROR: u8 = 2;
const IPV4: u8 = 0;
const IPV6: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn all() -> Vec<HolepunchMessage> {
        let v4: SocketAddr = "10.0.0.1:6881".parse().expect("valid");
        let v6 = "[2001:db8::1]:1".parse().expect("valid");
        let errors =
            (0..=5).map(|number| HolepunchMessage::Error(v4, HolepunchError::of_number(number)));
        [v4, v6]
            .into_iter()
            .flat_map(|addr| [HolepunchMessage::Rendezvous(addr), HolepunchMessage::Connect(addr)])
            .chain(errors)
            .collect()
    }

    #[test]
    fn there_and_back() {
        for message in all() {
            assert_eq!(HolepunchMessage::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn an_ipv4_address_in_the_form_of_ipv6_is_the_ipv4_address() {
        let mapped = "[::ffff:10.0.0.1]:6881".parse::<SocketAddr>().expect("valid");
        let mut payload = vec![RENDEZVOUS, IPV6];
        let IpAddr::V6(ip) = mapped.ip() else { panic!("{mapped} is IPv6") };
        payload.extend_from_slice(&ip.octets());
        payload.extend_from_slice(&6881u16.to_be_bytes());
        let addr = "10.0.0.1:6881".parse().expect("valid");
        assert_eq!(HolepunchMessage::decode(&payload), Ok(HolepunchMessage::Rendezvous(addr)));
    }

    #[test]
    fn looks_as_the_specification_has_it() {
        let message = HolepunchMessage::decode(&[1, 0, 1, 2, 3, 4, 1, 2]);
        assert_eq!(message, Ok(HolepunchMessage::Connect("1.2.3.4:258".parse().expect("valid"))));
        let error = [2, 0, 1, 2, 3, 4, 1, 2, 0, 0, 0, 2];
        let addr = "1.2.3.4:258".parse().expect("valid");
        let message = HolepunchMessage::Error(addr, HolepunchError::NotConnected);
        assert_eq!(
            (message.encode(), HolepunchMessage::decode(&error)),
            (error.to_vec(), Ok(message))
        );
        // An error without its number, a family and a kind that there are not.
        for bad in [&error[..11], &[1, 2, 1, 2, 3, 4, 1, 2], &[3, 0, 1, 2, 3, 4, 1, 2], &[0], &[]] {
            assert_eq!(HolepunchMessage::decode(bad), Err(PeerFault::MalformedMessage));
        }
    }

    #[test]
    fn survives_noise() {
        for seed in 0..2000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes: Vec<u8> = (0..rng.below(30)).map(|_| rng.u32() as u8).collect();
            bytes.iter_mut().take(2).for_each(|byte| *byte %= 4);
            if let Ok(message) = HolepunchMessage::decode(&bytes) {
                assert_eq!(HolepunchMessage::decode(&message.encode()), Ok(message));
            }
        }
    }
}
