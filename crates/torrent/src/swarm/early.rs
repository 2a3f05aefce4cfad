//! What a peer says of its pieces before we know how many there are: kept until we do, so that the
//! connection need not be made anew.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::wire::Message;
use crate::{Bitfield, PeerFault, PieceIndex};

/// Whether a message said of one piece what was not known: such cost a peer no patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IsNews(pub(super) bool);

/// What one peer has said so far.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// In the order of the wire; as long as it needs to be.
    bytes: Vec<u8>,
    /// Its bitfield has this length.
    bitfield_len: Option<usize>,
    has_all: bool,
    /// Pieces that it does not have after all.
    lost: Vec<PieceIndex>,
    /// Pieces that it gives us even while it chokes us.
    allowed: Vec<PieceIndex>,
}

impl Early {
    /// Keeps what a message says of pieces. Returns whether it says anything of them, and if so, anything
    /// that was not known.
    ///
    /// # Errors
    /// If there can be no such piece.
    pub(super) fn note(&mut self, message: &Message) -> Result<Option<IsNews>, PeerFault> {
        match message {
            Message::Have(piece) => return self.set(*piece).map(Some),
            Message::Bitfield(bytes) => {
                if bytes.len() > BITFIELD_LEN_MAX {
                    return Err(PeerFault::MalformedBitfield);
                }
                (self.bytes, self.has_all) = (bytes.to_vec(), false);
                self.lost.clear();
                self.bitfield_len = Some(bytes.len());
            }
            Message::HaveAll => *self = Self { has_all: true, ..Self::default() },
            Message::HaveNone => *self = Self::default(),
            Message::AllowedFast(piece) => {
                if self.allowed.len() < ALLOWED_MAX {
                    self.allowed.push(*piece);
                }
            }
            _ => return Ok(None),
        }
        Ok(Some(IsNews(false)))
    }

    /// It has a piece no more (BEP 54).
    pub(super) fn lost(&mut self, piece: PieceIndex) {
        if let Some(byte) = self.bytes.get_mut(piece.index() / 8) {
            *byte &= !(0x80 >> (piece.0 % 8));
        }
        // Of who loses more than that, less is believed.
        if self.has_all && self.lost.len() < LOST_MAX {
            self.lost.push(piece);
        } else if self.has_all {
            *self = Self::default();
        }
    }

    fn set(&mut self, piece: PieceIndex) -> Result<IsNews, PeerFault> {
        let (at, bit) = (piece.index() / 8, piece.0 % 8);
        self.lost.retain(|lost| *lost != piece);
        if at >= BITFIELD_LEN_MAX {
            return Err(PeerFault::NoSuchPiece);
        }
        if at >= self.bytes.len() {
            self.bytes.resize(at.saturating_add(1), 0);
        }
        let byte = self.bytes.get_mut(at).ok_or(PeerFault::NoSuchPiece)?;
        let before = *byte;
        *byte |= 0x80 >> bit;
        Ok(IsNews(*byte != before && !self.has_all))
    }

    /// Whether it has any piece.
    pub(super) fn has_any(&self) -> bool {
        self.has_all || self.bytes.iter().any(|&byte| byte != 0)
    }

    /// The pieces that it has, now that it is known how many there are.
    ///
    /// # Errors
    /// If what it said does not fit.
    pub(super) fn bits(&self, piece_count: u32) -> Result<Bitfield, PeerFault> {
        if self.has_all {
            let mut bits = Bitfield::all(piece_count);
            self.lost.iter().for_each(|&piece| _ = bits.clear(piece));
            return Ok(bits);
        }
        let len = piece_count.div_ceil(8) as usize;
        if self.bitfield_len.is_some_and(|said| said != len) {
            return Err(PeerFault::MalformedBitfield);
        }
        if self.bytes.len() > len {
            return Err(PeerFault::NoSuchPiece);
        }
        let mut bytes = self.bytes.clone();
        bytes.resize(len, 0);
        Bitfield::from_bytes(&bytes, piece_count).ok_or(PeerFault::MalformedBitfield)
    }

    /// Those of the pieces that it gives us while it chokes us that there are.
    pub(super) fn allowed(&self, piece_count: u32) -> Vec<PieceIndex> {
        self.allowed.iter().copied().filter(|piece| piece.0 < piece_count).collect()
    }
}

/// How long a bitfield may be while it is not known how long it must be: that of a million pieces.
pub(super) const BITFIELD_LEN_MAX: usize = 128 * 1024;
const ALLOWED_MAX: usize = 100;
const LOST_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Rng;

    fn after(messages: &[Message]) -> Early {
        let mut early = Early::default();
        for message in messages {
            assert!(early.note(message).is_ok_and(|noted| noted.is_some()));
        }
        early
    }

    #[test]
    fn what_was_said_early_is_true_later() {
        let have = |piece| Message::Have(PieceIndex(piece));
        let bits = |messages: &[Message], count| {
            after(messages).bits(count).map(|bits| bits.iter().map(|piece| piece.0).collect())
        };
        let field = |bytes: &'static [u8]| Message::Bitfield(Bytes::from_static(bytes));
        assert_eq!(bits(&[], 10), Ok(vec![]));
        assert_eq!(bits(&[have(9), have(0)], 10), Ok(vec![0, 9]));
        assert_eq!(bits(&[field(&[0x80, 0]), have(9)], 10), Ok(vec![0, 9]));
        assert_eq!(bits(&[Message::HaveAll], 3), Ok(vec![0, 1, 2]));
        assert_eq!(bits(&[Message::HaveAll, Message::HaveNone, have(1)], 3), Ok(vec![1]));
        assert_eq!(bits(&[field(&[0x80])], 10), Err(PeerFault::MalformedBitfield));
        assert_eq!(bits(&[field(&[0, 0, 0])], 10), Err(PeerFault::MalformedBitfield));
        assert_eq!(bits(&[field(&[0, 0x3f])], 10), Err(PeerFault::MalformedBitfield));
        assert_eq!(bits(&[have(10)], 10), Err(PeerFault::MalformedBitfield));
        assert_eq!(bits(&[have(99)], 10), Err(PeerFault::NoSuchPiece));
        let allowed =
            after(&[Message::AllowedFast(PieceIndex(3)), Message::AllowedFast(PieceIndex(30))]);
        assert_eq!(allowed.allowed(10), [PieceIndex(3)]);
        let mut loser = after(&[Message::HaveAll]);
        [1, 1, 9].into_iter().for_each(|piece| loser.lost(PieceIndex(piece)));
        assert_eq!(loser.bits(3).expect("fits").as_bytes(), [0xa0]);
        (0..1000).for_each(|piece| loser.lost(PieceIndex(piece)));
        assert!(loser.lost.len() <= LOST_MAX);
        let mut loser = after(&[have(1), have(2)]);
        loser.lost(PieceIndex(1));
        assert_eq!(loser.bits(8).expect("fits").as_bytes(), [0x20]);
        assert!(!after(&[Message::HaveNone]).has_any() && after(&[have(5)]).has_any());
    }

    #[test]
    fn a_peer_fills_no_more_memory_than_a_million_pieces_need() {
        let mut early = Early::default();
        assert_eq!(early.note(&Message::Have(PieceIndex(u32::MAX))), Err(PeerFault::NoSuchPiece));
        let long = Message::Bitfield(vec![0xff; BITFIELD_LEN_MAX + 1].into());
        assert_eq!(early.note(&long), Err(PeerFault::MalformedBitfield));
        let mut rng = Rng::from_seed(1);
        for _ in 0..100_000 {
            let piece = PieceIndex(rng.u32() >> rng.below(32));
            if piece.0 == 77_777 {
                continue;
            }
            early.note(&Message::Have(piece)).ok();
            early.note(&Message::AllowedFast(piece)).ok();
        }
        assert!(early.bytes.len() <= BITFIELD_LEN_MAX && early.allowed.len() <= ALLOWED_MAX);
        assert_eq!(early.note(&Message::Interested), Ok(None));
        let again = Message::Have(PieceIndex(77_777));
        assert_eq!(
            [early.note(&again), early.note(&again)].map(Result::ok),
            [Some(Some(IsNews(true))), Some(Some(IsNews(false)))]
        );
    }
}
