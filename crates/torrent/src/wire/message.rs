//! Messages after the handshake: four bytes of length, one of kind, then what the kind needs.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;

use super::hash_request::{HASHES_MAX, HashRequest};
use crate::metainfo::merkle::Hash;
use crate::{Block, PeerFault, PieceIndex};

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Nothing; the connection is to stay.
    KeepAlive,
    /// Requests will not be answered.
    Choke,
    /// Requests will be answered.
    Unchoke,
    /// The speaker wants something that the listener has.
    Interested,
    /// It does not.
    NotInterested,
    /// The speaker has one piece more.
    Have(PieceIndex),
    /// What the speaker has, a bit a piece.
    Bitfield(Bytes),
    /// Asks for a block.
    Request(Block),
    /// Brings a block.
    Piece {
        /// The piece that it lies in.
        piece: PieceIndex,
        /// Where it begins in the piece.
        offset: u32,
        /// The data.
        data: Bytes,
    },
    /// Takes a request back.
    Cancel(Block),
    /// The speaker's DHT node listens on this port (BEP 5).
    Port(u16),
    /// The speaker would rather be asked for this piece (BEP 6).
    Suggest(PieceIndex),
    /// The speaker has everything (BEP 6).
    HaveAll,
    /// The speaker has nothing (BEP 6).
    HaveNone,
    /// A request will not be answered (BEP 6).
    Reject(Block),
    /// This piece may be asked for while choked (BEP 6).
    AllowedFast(PieceIndex),
    /// A message of the extension protocol (BEP 10).
    Extended {
        /// 0 is the handshake; others are as it said.
        id: u8,
        /// The rest.
        payload: Bytes,
    },
    /// Asks for hashes of a file's tree (BEP 52).
    HashRequest(HashRequest),
    /// Brings them (BEP 52).
    Hashes {
        /// What was asked for.
        request: HashRequest,
        /// The nodes, then their uncles, 32 bytes each.
        hashes: Bytes,
    },
    /// They will not be brought (BEP 52).
    HashReject(HashRequest),
    /// A kind that we do not know; its contents were skipped.
    Unknown(u8),
}

/// How long a message may be.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    /// A bitfield's data, in bytes: exactly one is right, and only a check against the number of
    /// pieces can say which.
    pub bitfield_len: usize,
    /// The payload of an extended message, in bytes. Default: 64 KiB, four times the longest that is usual.
    pub extended_len: usize,
    /// A block, in bytes. Default: 128 KiB.
    pub piece_data_len: usize,
}

impl Default for MessageLimits {
    /// For a torrent of at most 65,536 pieces.
    fn default() -> Self {
        Self { bitfield_len: 8192, extended_len: 64 * 1024, piece_data_len: 128 * 1024 }
    }
}

impl MessageLimits {
    /// Whether a message may have a body of `len` bytes, the first of which, if it is here, is `kind`.
    pub(super) fn check(&self, len: u32, kind: Option<u8>) -> Result<(), PeerFault> {
        let Some(payload) = len.checked_sub(1) else { return Ok(()) };
        let payload = payload as usize;
        let longest = match kind {
            Some(CHOKE | UNCHOKE | INTERESTED | NOT_INTERESTED | HAVE_ALL | HAVE_NONE) => 0,
            Some(HAVE | SUGGEST | ALLOWED_FAST) => 4,
            Some(PORT) => 2,
            Some(REQUEST | CANCEL | REJECT) => 12,
            Some(HASH_REQUEST | HASH_REJECT) => HashRequest::LEN,
            Some(HASHES) => HASHES_LEN_MAX,
            Some(BITFIELD) => self.bitfield_len,
            Some(PIECE) => self.piece_data_len.saturating_add(8),
            Some(EXTENDED) => self.extended_len.saturating_add(1),
            Some(_) => UNKNOWN_LEN_MAX,
            None => self
                .bitfield_len
                .max(self.extended_len.saturating_add(1))
                .max(self.piece_data_len.saturating_add(8))
                .max(HASHES_LEN_MAX)
                .max(UNKNOWN_LEN_MAX),
        };
        if payload <= longest { Ok(()) } else { Err(PeerFault::OversizeMessage) }
    }
}

impl Message {
    /// Appends the bytes that go over the wire.
    ///
    /// # Panics
    /// If a payload has more bytes than the length field can say, 4 GiB.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::KeepAlive => out.extend_from_slice(&[0; 4]),
            Self::Choke => head(out, CHOKE, 0),
            Self::Unchoke => head(out, UNCHOKE, 0),
            Self::Interested => head(out, INTERESTED, 0),
            Self::NotInterested => head(out, NOT_INTERESTED, 0),
            Self::HaveAll => head(out, HAVE_ALL, 0),
            Self::HaveNone => head(out, HAVE_NONE, 0),
            Self::Have(piece) => with_piece(out, HAVE, *piece),
            Self::Suggest(piece) => with_piece(out, SUGGEST, *piece),
            Self::AllowedFast(piece) => with_piece(out, ALLOWED_FAST, *piece),
            Self::Request(block) => with_block(out, REQUEST, *block),
            Self::Cancel(block) => with_block(out, CANCEL, *block),
            Self::Reject(block) => with_block(out, REJECT, *block),
            Self::Bitfield(bits) => {
                head(out, BITFIELD, bits.len());
                out.extend_from_slice(bits);
            }
            Self::Piece { piece, offset, data } => {
                let len = u32::try_from(data.len()).expect("a block fits a message");
                out.extend_from_slice(&Self::piece_header(Block {
                    piece: *piece,
                    offset: *offset,
                    len,
                }));
                out.extend_from_slice(data);
            }
            Self::Port(port) => {
                head(out, PORT, 2);
                out.extend_from_slice(&port.to_be_bytes());
            }
            Self::Extended { id, payload } => {
                head(out, EXTENDED, payload.len().saturating_add(1));
                out.push(*id);
                out.extend_from_slice(payload);
            }
            Self::HashRequest(request) => {
                head(out, HASH_REQUEST, HashRequest::LEN);
                request.encode(out);
            }
            Self::HashReject(request) => {
                head(out, HASH_REJECT, HashRequest::LEN);
                request.encode(out);
            }
            Self::Hashes { request, hashes } => {
                head(out, HASHES, hashes.len().saturating_add(HashRequest::LEN));
                request.encode(out);
                out.extend_from_slice(hashes);
            }
            Self::Unknown(kind) => head(out, *kind, 0),
        }
    }

    /// What comes before the data of a block.
    pub fn piece_header(block: Block) -> [u8; 13] {
        let [a, b, c, d] = block.len.saturating_add(9).to_be_bytes();
        let [e, f, g, h] = block.piece.0.to_be_bytes();
        let [i, j, k, l] = block.offset.to_be_bytes();
        [a, b, c, d, PIECE, e, f, g, h, i, j, k, l]
    }

    /// Reads a message whose length prefix has been taken off. Slices of `body` are shared.
    pub(super) fn decode(body: &Bytes) -> Result<Self, PeerFault> {
        let Some((&kind, payload)) = body.split_first() else { return Ok(Self::KeepAlive) };
        let exact = |message| {
            if payload.is_empty() { Ok(message) } else { Err(PeerFault::MalformedMessage) }
        };
        match kind {
            CHOKE => exact(Self::Choke),
            UNCHOKE => exact(Self::Unchoke),
            INTERESTED => exact(Self::Interested),
            NOT_INTERESTED => exact(Self::NotInterested),
            HAVE_ALL => exact(Self::HaveAll),
            HAVE_NONE => exact(Self::HaveNone),
            HAVE => Ok(Self::Have(piece(payload)?)),
            SUGGEST => Ok(Self::Suggest(piece(payload)?)),
            ALLOWED_FAST => Ok(Self::AllowedFast(piece(payload)?)),
            REQUEST => Ok(Self::Request(block(payload)?)),
            CANCEL => Ok(Self::Cancel(block(payload)?)),
            REJECT => Ok(Self::Reject(block(payload)?)),
            BITFIELD => Ok(Self::Bitfield(body.slice(1..))),
            PIECE => {
                let [piece, offset] = numbers(payload).ok_or(PeerFault::MalformedMessage)?;
                Ok(Self::Piece { piece: PieceIndex(piece), offset, data: body.slice(9..) })
            }
            PORT => match payload {
                &[high, low] => Ok(Self::Port(u16::from_be_bytes([high, low]))),
                _ => Err(PeerFault::MalformedMessage),
            },
            EXTENDED => {
                let id = *payload.first().ok_or(PeerFault::MalformedMessage)?;
                Ok(Self::Extended { id, payload: body.slice(2..) })
            }
            HASH_REQUEST => Ok(Self::HashRequest(hash_request(payload)?)),
            HASH_REJECT => Ok(Self::HashReject(hash_request(payload)?)),
            HASHES => {
                let (request, hashes) = HashRequest::decode(payload)?;
                let len =
                    u64::from(request.answer_count()).saturating_mul(size_of::<Hash>() as u64);
                if hashes.len() as u64 != len {
                    return Err(PeerFault::MalformedMessage);
                }
                Ok(Self::Hashes { request, hashes: body.slice_ref(hashes) })
            }
            _ => Ok(Self::Unknown(kind)),
        }
    }
}

fn hash_request(payload: &[u8]) -> Result<HashRequest, PeerFault> {
    match HashRequest::decode(payload)? {
        (request, []) => Ok(request),
        (_, _) => Err(PeerFault::MalformedMessage),
    }
}

fn head(out: &mut Vec<u8>, kind: u8, payload_len: usize) {
    let len = u32::try_from(payload_len.saturating_add(1)).expect("our own messages are short");
    out.extend_from_slice(&len.to_be_bytes());
    out.push(kind);
}

fn with_piece(out: &mut Vec<u8>, kind: u8, piece: PieceIndex) {
    head(out, kind, 4);
    out.extend_from_slice(&piece.0.to_be_bytes());
}

fn with_block(out: &mut Vec<u8>, kind: u8, block: Block) {
    head(out, kind, 12);
    for number in [block.piece.0, block.offset, block.len] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn piece(payload: &[u8]) -> Result<PieceIndex, PeerFault> {
    match (numbers(payload), payload.len()) {
        (Some([piece]), 4) => Ok(PieceIndex(piece)),
        _ => Err(PeerFault::MalformedMessage),
    }
}

fn block(payload: &[u8]) -> Result<Block, PeerFault> {
    match (numbers(payload), payload.len()) {
        (Some([piece, offset, len]), 12) => Ok(Block { piece: PieceIndex(piece), offset, len }),
        _ => Err(PeerFault::MalformedMessage),
    }
}

/// The first `N` big-endian numbers of `payload`.
fn numbers<const N: usize>(payload: &[u8]) -> Option<[u32; N]> {
    let (words, _) = payload.as_chunks();
    let words: &[[u8; 4]; N] = words.first_chunk()?;
    Some(words.map(u32::from_be_bytes))
}

const CHOKE: u8 = 0;
const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const NOT_INTERESTED: u8 = 3;
const HAVE: u8 = 4;
const BITFIELD: u8 = 5;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;
const CANCEL: u8 = 8;
const PORT: u8 = 9;
const SUGGEST: u8 = 13;
const HAVE_ALL: u8 = 14;
const HAVE_NONE: u8 = 15;
const REJECT: u8 = 16;
const ALLOWED_FAST: u8 = 17;
const EXTENDED: u8 = 20;
const HASH_REQUEST: u8 = 21;
const HASHES: u8 = 22;
const HASH_REJECT: u8 = 23;
/// As many nodes as libtorrent gives at once, and as many uncles as a tree may have layers.
const HASHES_LEN_MAX: usize = HashRequest::LEN + (HASHES_MAX as usize + 64) * size_of::<Hash>();
/// What a message of a kind that we do not know may carry.
const UNKNOWN_LEN_MAX: usize = 64 * 1024;
