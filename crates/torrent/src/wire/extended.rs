//! The handshake of the extension protocol ([BEP 10]): what a client is called and what it can do.
//!
//! [BEP 10]: https://www.bittorrent.org/beps/bep_0010.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::PeerFault;
use crate::bencode::{self, Limits, OwnedValue, Value};

/// What one side says of itself. Everything is optional; what is of the wrong type is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtendedHandshake {
    /// The client's name and version; at most 64 characters, none of them a control character.
    pub v: Option<String>,
    /// How many requests it queues.
    pub reqq: Option<u32>,
    /// The listener's address, as the speaker sees it.
    pub yourip: Option<IpAddr>,
    /// The port that it listens on.
    pub p: Option<u16>,
    /// The number that it wants each extension to be called by; 0 switches one off.
    pub m: BTreeMap<Vec<u8>, u8>,
    /// The length of the info dictionary (BEP 9).
    pub metadata_size: Option<u32>,
    /// Whether it will download nothing more (BEP 21).
    pub upload_only: Option<bool>,
    /// Whether it would rather have its connections encrypted.
    pub e: Option<bool>,
}

impl ExtendedHandshake {
    /// The payload of message 0.
    pub fn encode(&self) -> Vec<u8> {
        let mut dict = BTreeMap::new();
        let m = self
            .m
            .iter()
            .map(|(name, id)| (name.clone(), OwnedValue::Integer((*id).into())))
            .collect();
        dict.insert(b"m".to_vec(), OwnedValue::Dict(m));
        let mut put = |key: &[u8], value: Option<OwnedValue>| {
            if let Some(value) = value {
                dict.insert(key.to_vec(), value);
            }
        };
        put(b"v", self.v.as_ref().map(|v| OwnedValue::Bytes(v.clone().into_bytes())));
        put(b"reqq", self.reqq.map(|reqq| OwnedValue::Integer(reqq.into())));
        put(b"p", self.p.map(|p| OwnedValue::Integer(p.into())));
        put(b"metadata_size", self.metadata_size.map(|len| OwnedValue::Integer(len.into())));
        put(b"upload_only", self.upload_only.map(|flag| OwnedValue::Integer(flag.into())));
        put(b"e", self.e.map(|flag| OwnedValue::Integer(flag.into())));
        let ip = self.yourip.map(|ip| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        });
        put(b"yourip", ip.map(OwnedValue::Bytes));
        bencode::encode(&OwnedValue::Dict(dict))
    }

    /// Reads the payload of message 0.
    ///
    /// # Errors
    /// [`PeerFault::MalformedMessage`] if it is no dictionary.
    pub fn decode(payload: &[u8]) -> Result<Self, PeerFault> {
        let limits = Limits { items: ITEMS_MAX, depth: 8, keys_in_order: false };
        let Ok((value, _)) = bencode::decode_prefix(payload, limits) else {
            return Err(PeerFault::MalformedMessage);
        };
        let dict = value.as_dict().ok_or(PeerFault::MalformedMessage)?;
        let number = |key: &[u8]| dict.get(key).and_then(Value::as_integer);
        let yourip =
            dict.get(b"yourip").and_then(Value::as_bytes).and_then(|bytes| match bytes.len() {
                4 => bytes.first_chunk::<4>().map(|ip| IpAddr::from(*ip)),
                16 => bytes.first_chunk::<16>().map(|ip| IpAddr::from(*ip)),
                _ => None,
            });
        let m = dict.get(b"m").and_then(Value::as_dict).map(|m| {
            let known = m.iter().filter_map(|(name, id)| {
                Some((name.to_vec(), u8::try_from(id.as_integer()?).ok()?))
            });
            let known = known.filter(|(name, _)| name.len() <= NAME_LEN_MAX);
            known.take(EXTENSIONS_MAX).collect()
        });
        Ok(Self {
            v: dict.get(b"v").and_then(Value::as_bytes).map(client_name),
            reqq: number(b"reqq").and_then(|reqq| u32::try_from(reqq).ok()),
            yourip,
            p: number(b"p").and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
            m: m.unwrap_or_default(),
            metadata_size: number(b"metadata_size").and_then(|len| u32::try_from(len).ok()),
            upload_only: number(b"upload_only").map(|flag| flag != 0),
            e: number(b"e").map(|flag| flag != 0),
        })
    }

    /// The speaker has said more: what a later handshake leaves out is as it was before.
    pub fn update(&mut self, later: Self) {
        let Self { v, reqq, yourip, p, m, metadata_size, upload_only, e } = later;
        self.v = v.or_else(|| self.v.take());
        self.reqq = reqq.or(self.reqq);
        self.yourip = yourip.or(self.yourip);
        self.p = p.or(self.p);
        self.metadata_size = metadata_size.or(self.metadata_size);
        self.upload_only = upload_only.or(self.upload_only);
        self.e = e.or(self.e);
        for (name, number) in m {
            if self.m.len() < EXTENSIONS_MAX || self.m.contains_key(&name) {
                self.m.insert(name, number);
            }
        }
    }
}

/// A name that may be shown: short, and without what a terminal would obey.
fn client_name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(NAME_LEN_MAX).collect()
}

const ITEMS_MAX: usize = 1000;
const EXTENSIONS_MAX: usize = 64;
/// Of a client's name, in characters, and of an extension's, in bytes.
const NAME_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn full() -> ExtendedHandshake {
        ExtendedHandshake {
            v: Some("Flotilla 0.1".to_owned()),
            reqq: Some(500),
            yourip: Some(IpAddr::from([10, 0, 0, 1])),
            p: Some(6881),
            m: BTreeMap::from([(b"ut_metadata".to_vec(), 3)]),
            metadata_size: Some(31_235),
            upload_only: Some(true),
            e: Some(true),
        }
    }

    #[test]
    fn there_and_back() {
        assert_eq!(ExtendedHandshake::decode(&full().encode()), Ok(full()));
    }

    #[test]
    fn what_is_of_the_wrong_type_or_out_of_range_is_left_out() {
        let hello = ExtendedHandshake::decode(
            b"d1:md1:ai999e1:b0:e1:pi0e4:reqqi-1e1:v3:a\x1bb6:yourip3:abce",
        );
        assert_eq!(
            hello,
            Ok(ExtendedHandshake { v: Some("ab".to_owned()), ..ExtendedHandshake::default() })
        );
        assert_eq!(ExtendedHandshake::decode(b"le"), Err(PeerFault::MalformedMessage));
    }

    #[test]
    fn what_a_later_handshake_leaves_out_is_as_before() {
        let mut known = full();
        known.update(ExtendedHandshake::default());
        assert_eq!(known, full());
        let names = |names: &[(&str, u8)]| -> BTreeMap<Vec<u8>, u8> {
            names.iter().map(|(name, number)| (name.as_bytes().to_vec(), *number)).collect()
        };
        known.update(ExtendedHandshake {
            p: Some(1),
            m: names(&[("ut_metadata", 0), ("ut_pex", 9)]),
            upload_only: Some(false),
            ..ExtendedHandshake::default()
        });
        assert_eq!((known.p, known.upload_only, known.reqq), (Some(1), Some(false), Some(500)));
        assert_eq!(known.m, names(&[("ut_metadata", 0), ("ut_pex", 9)]));
    }

    #[test]
    fn extensions_named_again_and_again_take_no_more_room_than_once() {
        let mut known = ExtendedHandshake::default();
        for round in 0..100_u32 {
            let many = (0..100_u32).map(|number| (format!("{round} {number}").into_bytes(), 1));
            let long = (vec![b'x'; NAME_LEN_MAX + 1], 1);
            let m = many.chain([long]).collect();
            let hello = ExtendedHandshake { m, ..ExtendedHandshake::default() };
            known.update(ExtendedHandshake::decode(&hello.encode()).expect("valid"));
        }
        assert_eq!(known.m.len(), EXTENSIONS_MAX);
        assert!(known.m.keys().all(|name| name.len() <= NAME_LEN_MAX));
    }

    #[test]
    fn survives_noise_and_mutations() {
        let valid = full().encode();
        let alphabet = b"ilde0123456789:mvp";
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
            if let Ok(hello) = ExtendedHandshake::decode(&bytes) {
                assert_eq!(ExtendedHandshake::decode(&hello.encode()), Ok(hello));
            }
        }
    }
}
