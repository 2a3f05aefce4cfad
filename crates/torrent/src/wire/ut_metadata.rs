//! Messages by which peers pass on the info dictionary of a torrent ([BEP 9]): a bencoded dictionary, and
//! behind that of a `data` message 16 KiB of what was asked for.
//!
//! [BEP 9]: https://www.bittorrent.org/beps/bep_0009.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::PeerFault;
use crate::bencode::{self, Limits, OwnedValue, Value};

/// The length of every piece of the metadata but the last, in bytes.
pub const METADATA_PIECE_LEN: u32 = 16 * 1024;

/// One message of `ut_metadata`. Pieces are those of the metadata, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataMessage {
    /// Asks for a piece.
    Request {
        /// Which.
        piece: u32,
    },
    /// Brings a piece.
    Data {
        /// Which.
        piece: u32,
        /// The length of the whole, in bytes; some clients leave it out.
        total_len: Option<u32>,
        /// The piece; at most 16 KiB.
        data: Bytes,
    },
    /// The piece will not be sent.
    Reject {
        /// Which.
        piece: u32,
    },
}

impl MetadataMessage {
    /// The payload of the extended message.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, piece, total_len) = match self {
            Self::Request { piece } => (REQUEST, *piece, None),
            Self::Data { piece, total_len, .. } => (DATA, *piece, *total_len),
            Self::Reject { piece } => (REJECT, *piece, None),
        };
        let mut dict = BTreeMap::from([
            (b"msg_type".to_vec(), OwnedValue::Integer(kind)),
            (b"piece".to_vec(), OwnedValue::Integer(piece.into())),
        ]);
        if let Some(len) = total_len {
            dict.insert(b"total_size".to_vec(), OwnedValue::Integer(len.into()));
        }
        let mut bytes = bencode::encode(&OwnedValue::Dict(dict));
        if let Self::Data { data, .. } = self {
            bytes.extend_from_slice(data);
        }
        bytes
    }

    /// Reads a payload; `None` if it is of a kind that nobody knows, which is to be ignored. The data is a
    /// slice of `payload`.
    ///
    /// # Errors
    /// [`PeerFault::MalformedMessage`] if it makes no sense.
    pub fn decode(payload: &Bytes) -> Result<Option<Self>, PeerFault> {
        let limits = Limits { items: ITEMS_MAX, depth: 4, keys_in_order: false };
        let (value, end) = bencode::decode_prefix(payload, limits)
            .map_err(|_not_bencode| PeerFault::MalformedMessage)?;
        let dict = value.as_dict().ok_or(PeerFault::MalformedMessage)?;
        let number = |key: &[u8]| dict.get(key).and_then(Value::as_integer);
        let kind = number(b"msg_type").ok_or(PeerFault::MalformedMessage)?;
        if !matches!(kind, REQUEST | DATA | REJECT) {
            return Ok(None);
        }
        let piece = number(b"piece").and_then(|piece| u32::try_from(piece).ok());
        let piece = piece.ok_or(PeerFault::MalformedMessage)?;
        Ok(Some(match kind {
            REQUEST => Self::Request { piece },
            REJECT => Self::Reject { piece },
            _ => {
                let data = payload.slice(end..);
                if data.len() > METADATA_PIECE_LEN as usize {
                    return Err(PeerFault::OversizeMessage);
                }
                let total_len = number(b"total_size").and_then(|len| u32::try_from(len).ok());
                Self::Data { piece, total_len, data }
            }
        }))
    }
}

const REQUEST: i64 = 0;
const DATA: i64 = 1;
const REJECT: i64 = 2;
const ITEMS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn decode(payload: &[u8]) -> Result<Option<MetadataMessage>, PeerFault> {
        MetadataMessage::decode(&Bytes::copy_from_slice(payload))
    }

    fn one_of_each() -> [MetadataMessage; 4] {
        [
            MetadataMessage::Request { piece: 0 },
            MetadataMessage::Reject { piece: u32::MAX },
            MetadataMessage::Data {
                piece: 7,
                total_len: Some(34_256),
                data: vec![b'e'; 300].into(),
            },
            MetadataMessage::Data { piece: 1, total_len: None, data: Bytes::new() },
        ]
    }

    #[test]
    fn reads_the_messages_of_the_specification() {
        assert_eq!(
            decode(b"d8:msg_typei0e5:piecei0ee"),
            Ok(Some(MetadataMessage::Request { piece: 0 }))
        );
        assert_eq!(
            decode(b"d8:msg_typei2e5:piecei0ee"),
            Ok(Some(MetadataMessage::Reject { piece: 0 }))
        );
        let data = MetadataMessage::Data {
            piece: 0,
            total_len: Some(34_256),
            data: Bytes::from_static(b"xxxx"),
        };
        let bytes = b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxx";
        assert_eq!(decode(bytes), Ok(Some(data.clone())));
        assert_eq!(data.encode(), bytes);
    }

    #[test]
    fn there_and_back() {
        for message in one_of_each() {
            assert_eq!(decode(&message.encode()), Ok(Some(message)));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_what_is_unknown_ignored() {
        assert_eq!(decode(b"d8:msg_typei9e5:piecei0ee"), Ok(None));
        for bad in [
            &b""[..],
            b"le",
            b"d5:piecei0ee",
            b"d8:msg_typei0ee",
            b"d8:msg_typei0e5:piecei-1ee",
            b"d8:msg_typei0e5:piecei4294967296ee",
        ] {
            assert_eq!(
                decode(bad),
                Err(PeerFault::MalformedMessage),
                "{}",
                String::from_utf8_lossy(bad)
            );
        }
        let long =
            MetadataMessage::Data { piece: 0, total_len: None, data: vec![0; 16_385].into() };
        assert_eq!(decode(&long.encode()), Err(PeerFault::OversizeMessage));
    }

    #[test]
    fn survives_noise_and_mutations() {
        let alphabet = b"ilde0123456789:msgtyp";
        for seed in 0..4000 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = one_of_each()[rng.below(4)].encode();
            if seed % 4 == 0 {
                bytes.fill_with(|| alphabet[rng.below(alphabet.len())]);
            }
            for _ in 0..=rng.below(4) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.u32() as u8;
            }
            if let Ok(Some(message)) = decode(&bytes) {
                assert_eq!(decode(&message.encode()), Ok(Some(message)));
            }
        }
    }
}
