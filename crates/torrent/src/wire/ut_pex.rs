//! What a peer says about the peers that it is connected to ([BEP 11]): who has come, who has gone.
//!
//! [BEP 11]: https://www.bittorrent.org/beps/bep_0011.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::BitOr;

use crate::bencode::{self, Dict, Limits, OwnedValue, Value};
use crate::{PeerFault, compact};

/// Changes among the peers that the speaker is connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExchangeMessage {
    /// Who has come, IPv4 first.
    pub added: Vec<(SocketAddr, PeerFlags)>,
    /// Who has gone, IPv4 first.
    pub dropped: Vec<SocketAddr>,
}

/// What is said about a peer, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerFlags(pub u8);

impl PeerFlags {
    /// It would rather have its connections encrypted.
    pub const ENCRYPTION: Self = Self(1);
    /// It downloads nothing: a seed, or one that has all that it wants.
    pub const SEED: Self = Self(2);
    /// It talks uTP.
    pub const UTP: Self = Self(4);
    /// It can be reached by a holepunch (BEP 55).
    pub const HOLEPUNCH: Self = Self(8);
    /// It was dialled: others can reach it, too.
    pub const OUTGOING: Self = Self(16);

    /// Whether it has all bits of `flags`.
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// These bits if `is_set`; else none.
    #[must_use]
    pub const fn only_if(self, is_set: bool) -> Self {
        if is_set { self } else { Self(0) }
    }
}

impl BitOr for PeerFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl ExchangeMessage {
    /// More peers in one list are more than anyone sends who means well; what is beyond is not read. BEP 11 allows 50
    /// once a minute, and more at the beginning.
    pub const PEERS_MAX: usize = 250;

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let (mut added, mut added6) = (Vec::new(), Vec::new());
        let (mut flags, mut flags6) = (Vec::new(), Vec::new());
        for (addr, of) in &self.added {
            compact::append(*addr, &mut added, &mut added6);
            if addr.is_ipv4() { &mut flags } else { &mut flags6 }.push(of.0);
        }
        let (mut dropped, mut dropped6) = (Vec::new(), Vec::new());
        self.dropped.iter().for_each(|addr| compact::append(*addr, &mut dropped, &mut dropped6));
        let lists = [
            (&b"added"[..], added),
            (b"added.f", flags),
            (b"added6", added6),
            (b"added6.f", flags6),
            (b"dropped", dropped),
            (b"dropped6", dropped6),
        ];
        let entry = |(key, bytes): (&[u8], Vec<u8>)| (key.to_vec(), OwnedValue::Bytes(bytes));
        let filled = lists.into_iter().filter(|(_, bytes)| !bytes.is_empty());
        bencode::encode(&OwnedValue::Dict(filled.map(entry).collect::<BTreeMap<_, _>>()))
    }

    /// Reads a payload. What is of the wrong type is left out, as are bytes past the last whole address; a peer
    /// without flags has none.
    ///
    /// # Errors
    /// [`PeerFault::MalformedMessage`] if it is no dictionary, [`PeerFault::OversizeMessage`] if a list is longer than
    /// [`PEERS_MAX`](Self::PEERS_MAX).
    pub fn decode(payload: &[u8]) -> Result<Self, PeerFault> {
        let limits = Limits { items: ITEMS_MAX, depth: 4, keys_in_order: false };
        let Ok((value, _)) = bencode::decode_prefix(payload, limits) else {
            return Err(PeerFault::MalformedMessage);
        };
        let dict = value.as_dict().ok_or(PeerFault::MalformedMessage)?;
        let added = compact::parse_v4(bytes(dict, b"added")).zip(flags(dict, b"added.f"));
        let added6 = compact::parse_v6(bytes(dict, b"added6")).zip(flags(dict, b"added6.f"));
        let dropped = compact::parse_v4(bytes(dict, b"dropped"));
        let dropped6 = compact::parse_v6(bytes(dict, b"dropped6"));
        Ok(Self {
            added: bounded(added.chain(added6))?,
            dropped: bounded(dropped.chain(dropped6))?,
        })
    }
}

/// The bytes under `key`; none if there are none.
fn bytes<'a>(dict: &Dict<'a>, key: &[u8]) -> &'a [u8] {
    match dict.get(key) {
        Some(Value::Bytes(bytes)) => bytes,
        Some(Value::Integer(_) | Value::List(_) | Value::Dict(_)) | None => &[],
    }
}

/// The flags under `key`, and none for whoever comes after.
fn flags<'a>(dict: &Dict<'a>, key: &[u8]) -> impl Iterator<Item = PeerFlags> + use<'a> {
    bytes(dict, key).iter().map(|&bits| PeerFlags(bits)).chain(std::iter::repeat(PeerFlags(0)))
}

fn bounded<T>(list: impl Iterator<Item = T>) -> Result<Vec<T>, PeerFault> {
    let read: Vec<T> = list.take(ExchangeMessage::PEERS_MAX.saturating_add(1)).collect();
    if read.len() > ExchangeMessage::PEERS_MAX { Err(PeerFault::OversizeMessage) } else { Ok(read) }
}

/// A few more than there are keys.
const ITEMS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("valid")
    }

    fn full() -> ExchangeMessage {
        ExchangeMessage {
            added: vec![
                (addr("10.0.0.1:6881"), PeerFlags::SEED | PeerFlags::UTP),
                (addr("10.0.0.2:6882"), PeerFlags::default()),
                (addr("[2001:db8::1]:6883"), PeerFlags::OUTGOING),
            ],
            dropped: vec![addr("10.0.0.3:6884"), addr("[2001:db8::2]:6885")],
        }
    }

    #[test]
    fn there_and_back() {
        assert_eq!(ExchangeMessage::decode(&full().encode()), Ok(full()));
        let nothing = ExchangeMessage::default();
        assert_eq!(nothing.encode(), b"de");
        assert_eq!(ExchangeMessage::decode(b"de"), Ok(nothing));
    }

    #[test]
    fn looks_as_the_specification_has_it() {
        let message = ExchangeMessage {
            added: vec![(addr("1.2.3.4:258"), PeerFlags(0x12))],
            dropped: vec![addr("5.6.7.8:1")],
        };
        let bytes = b"d5:added6:\x01\x02\x03\x04\x01\x027:added.f1:\x127:dropped6:\x05\x06\x07\x08\x00\x01e";
        assert_eq!(message.encode(), bytes);
    }

    #[test]
    fn what_is_missing_cut_off_or_of_the_wrong_type_is_left_out() {
        let read = ExchangeMessage::decode(
            b"d5:added13:\x01\x02\x03\x04\x01\x02\x01\x02\x03\x05\x01\x02\xff7:added.f1:\x026:added6i7e7:droppedlee",
        );
        let added = vec![
            (addr("1.2.3.4:258"), PeerFlags::SEED),
            (addr("1.2.3.5:258"), PeerFlags::default()),
        ];
        assert_eq!(read, Ok(ExchangeMessage { added, dropped: Vec::new() }));
        assert_eq!(ExchangeMessage::decode(b"le"), Err(PeerFault::MalformedMessage));
        assert_eq!(ExchangeMessage::decode(b""), Err(PeerFault::MalformedMessage));
    }

    #[test]
    fn lists_without_end_are_refused() {
        let message = |count: u16| ExchangeMessage {
            added: (1..=count).map(|port| (([1, 2, 3, 4], port).into(), PeerFlags(0))).collect(),
            dropped: Vec::new(),
        };
        let read = |count| ExchangeMessage::decode(&message(count).encode());
        assert_eq!(read(250), Ok(message(250)));
        assert_eq!(read(251), Err(PeerFault::OversizeMessage));
    }

    #[test]
    fn survives_noise_and_mutations() {
        let valid = full().encode();
        let alphabet = b"de0123456789:added.f6dropped\x00\xff";
        for seed in 0..3000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = valid.clone();
            if seed % 3 == 0 {
                bytes.fill_with(|| alphabet[rng.below(alphabet.len())]);
            }
            for _ in 0..=rng.below(4) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.u32() as u8;
            }
            if let Ok(message) = ExchangeMessage::decode(&bytes) {
                assert!(message.added.len() <= ExchangeMessage::PEERS_MAX);
                assert_eq!(ExchangeMessage::decode(&message.encode()), Ok(message));
            }
        }
    }
}
