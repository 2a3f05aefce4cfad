//! One message of the peer wire as subscribers see it: with all its fields, but without a block's data.

use bytes::Bytes;
use torrent::wire::{Handshake, Message};
use torrent::{Block, PieceIndex};

/// A message from or to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// The first 68 bytes.
    Handshake(Handshake),
    /// A block; its data is not kept.
    Piece(Block),
    /// Any other.
    Message(Message),
}

impl Packet {
    /// What is to be told of a message. Copies what it keeps: a slice would pin all that was read with it.
    pub(crate) fn of(message: &Message) -> Self {
        let message = match message {
            Message::Piece { piece, offset, data } => {
                let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
                return Self::Piece(Block { piece: *piece, offset: *offset, len });
            }
            Message::Bitfield(bytes) => Message::Bitfield(Bytes::copy_from_slice(bytes)),
            Message::Extended { id, payload } => {
                Message::Extended { id: *id, payload: Bytes::copy_from_slice(payload) }
            }
            Message::Hashes { request, hashes } => {
                Message::Hashes { request: *request, hashes: Bytes::copy_from_slice(hashes) }
            }
            other => other.clone(),
        };
        Self::Message(message)
    }

    /// The block that `head` announces.
    pub(crate) fn of_piece_head(head: &[u8; 13]) -> Self {
        let [l0, l1, l2, l3, _kind, p0, p1, p2, p3, o0, o1, o2, o3] = *head;
        Self::Piece(Block {
            piece: PieceIndex(u32::from_be_bytes([p0, p1, p2, p3])),
            offset: u32::from_be_bytes([o0, o1, o2, o3]),
            len: u32::from_be_bytes([l0, l1, l2, l3]).saturating_sub(9),
        })
    }

    /// The type as the wire has it: -1 for the handshake, `None` for a keep-alive.
    pub const fn wire_type(&self) -> Option<i16> {
        Some(match self {
            Self::Handshake(_) => -1,
            Self::Piece(_) => 7,
            Self::Message(message) => match message {
                Message::KeepAlive => return None,
                Message::Choke => 0,
                Message::Unchoke => 1,
                Message::Interested => 2,
                Message::NotInterested => 3,
                Message::Have(_) => 4,
                Message::Bitfield(_) => 5,
                Message::Request(_) => 6,
                Message::Piece { .. } => 7,
                Message::Cancel(_) => 8,
                Message::Port(_) => 9,
                Message::Suggest(_) => 13,
                Message::HaveAll => 14,
                Message::HaveNone => 15,
                Message::Reject(_) => 16,
                Message::AllowedFast(_) => 17,
                Message::Extended { .. } => 20,
                Message::HashRequest(_) => 21,
                Message::Hashes { .. } => 22,
                Message::HashReject(_) => 23,
                Message::Unknown(kind) => *kind as i16,
            },
        })
    }

    /// Bytes that it keeps beside its own.
    pub(super) fn extra_len(&self) -> usize {
        match self {
            Self::Message(
                Message::Bitfield(bytes)
                | Message::Extended { payload: bytes, .. }
                | Message::Hashes { hashes: bytes, .. },
            ) => bytes.len(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_told_by_its_place_and_length() {
        let block = Block { piece: PieceIndex(3), offset: 16384, len: 100 };
        let message = Message::Piece {
            piece: block.piece,
            offset: block.offset,
            data: Bytes::from(vec![7; 100]),
        };
        assert_eq!(Packet::of(&message), Packet::Piece(block));
        assert_eq!(Packet::of_piece_head(&Message::piece_header(block)), Packet::Piece(block));
        assert_eq!(Packet::of(&message).wire_type(), Some(7));
    }

    #[test]
    fn what_is_kept_of_a_message_pins_nothing_else() {
        let read = Bytes::from(vec![1; 1000]);
        let kept = Packet::of(&Message::Bitfield(read.slice(10..20)));
        let Packet::Message(Message::Bitfield(bytes)) = &kept else { panic!("{kept:?}") };
        assert_eq!((bytes.len(), kept.extra_len()), (10, 10));
        assert!(read.is_unique());
    }
}
