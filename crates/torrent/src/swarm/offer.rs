//! What a selector chooses from: the pieces of one peer.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use super::download::OpenPiece;
use super::peer::Peer;
use super::piece_picker::PiecePicker;
use crate::metainfo::FileLayout;
use crate::{Bitfield, PieceIndex};

/// What one peer has that we could ask for now.
pub struct Offer<'a> {
    pub(super) picker: &'a PiecePicker,
    pub(super) open: &'a BTreeMap<PieceIndex, OpenPiece>,
    pub(super) layout: &'a FileLayout,
    pub(super) peer: &'a Peer,
}

/// A piece in an [`Offer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedPiece {
    /// Which.
    pub index: PieceIndex,
    /// How many peers have it, this one counted.
    pub availability: u32,
    /// How much it is wanted, from 1 to 7.
    pub priority: u8,
    /// By when it is needed.
    pub deadline: Option<Instant>,
    /// How many blocks it has.
    pub blocks: u32,
    /// How many of them are here.
    pub blocks_received: u32,
    /// How many have been asked of nobody; all of them, if it is new.
    pub blocks_free: u32,
}

impl Offer<'_> {
    /// All that the peer may be asked for, in the order of the torrent: pieces not begun, and begun
    /// ones of which some block has not been asked for. Looks at every piece of the torrent.
    pub fn pieces(&self) -> impl Iterator<Item = OfferedPiece> {
        let may_ask = |piece: &PieceIndex| self.peer.may_ask(*piece);
        self.peer.bits.iter().filter(may_ask).filter_map(|piece| self.find(piece))
    }

    /// One piece of the offer, if it is in it.
    pub fn piece(&self, piece: PieceIndex) -> Option<OfferedPiece> {
        if self.peer.may_ask(piece) { self.find(piece) } else { None }
    }

    fn find(&self, piece: PieceIndex) -> Option<OfferedPiece> {
        let blocks = self.layout.block_count(piece);
        let (blocks_received, blocks_free) = match self.open.get(&piece) {
            Some(open) if open.free > 0 && self.picker.is_wanted(piece) => {
                (open.received, open.free)
            }
            None if self.picker.is_candidate(piece) => (0, blocks),
            Some(_) | None => return None,
        };
        Some(OfferedPiece {
            index: piece,
            availability: self.picker.availability(piece),
            priority: self.picker.priority(piece),
            deadline: self.picker.deadline(piece),
            blocks,
            blocks_received,
            blocks_free,
        })
    }

    /// Which pieces are ours.
    pub const fn have(&self) -> &Bitfield {
        self.picker.have()
    }

    /// Which pieces the peer has.
    pub const fn peer_has(&self) -> &Bitfield {
        &self.peer.bits
    }

    /// How many pieces are wanted and not here, whoever has them.
    pub const fn wanted_missing(&self) -> u32 {
        self.picker.wanted_missing()
    }

    /// Of the open pieces with something left to ask for that `suits`, the one nearest its end.
    pub(super) fn nearest_its_end(&self, suits: impl Fn(&OpenPiece) -> bool) -> Option<PieceIndex> {
        self.open
            .iter()
            .filter(|(piece, open)| {
                open.free > 0
                    && suits(open)
                    && self.peer.may_ask(**piece)
                    && self.picker.is_wanted(**piece)
            })
            .min_by_key(|(_, open)| open.slots.len() as u32 - open.received)
            .map(|(&piece, _)| piece)
    }
}

impl fmt::Debug for Offer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pieces()).finish()
    }
}
