//! Who sent the bad block: found by comparing, not by suspecting everyone who touched the piece.
//!
//! When a piece fails, the hash of each of its blocks is kept with the address that sent it. When the
//! piece comes again and is good, the blocks that differ show who lied.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::PieceIndex;
use crate::metainfo::merkle::Hash;

/// What failed pieces were made of.
#[derive(Clone, Debug, Default)]
pub struct SmartBan {
    failed: BTreeMap<PieceIndex, Vec<BlockOrigin>>,
}

/// One block of a failed piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockOrigin {
    /// Which block of the piece, counted from 0.
    pub index: u32,
    /// Who sent it.
    pub from: IpAddr,
    /// Its SHA-256.
    pub digest: Hash,
}

impl SmartBan {
    /// Knows of no failure.
    pub const fn new() -> Self {
        Self { failed: BTreeMap::new() }
    }

    /// A piece of these blocks failed. Returns who is proven to have lied: whoever sent all of it. With
    /// several senders, none is, until [`piece_passed`](Self::piece_passed).
    pub fn piece_failed(&mut self, piece: PieceIndex, blocks: &[BlockOrigin]) -> Vec<IpAddr> {
        let Some(first) = blocks.first() else { return Vec::new() };
        if blocks.iter().all(|block| block.from == first.from) {
            return vec![first.from];
        }
        if self.failed.len() >= PIECES_MAX && !self.failed.contains_key(&piece) {
            self.failed.pop_first();
        }
        let known = self.failed.entry(piece).or_default();
        for block in blocks {
            if known.len() < BLOCKS_MAX && !known.contains(block) {
                known.push(*block);
            }
        }
        Vec::new()
    }

    /// Whether a piece failed before, so that [`piece_passed`](Self::piece_passed) wants its blocks' hashes.
    pub fn has_record(&self, piece: PieceIndex) -> bool {
        self.failed.contains_key(&piece)
    }

    /// Whether any of a failed piece came from this address.
    pub fn suspects(&self, ip: IpAddr) -> bool {
        self.failed.values().flatten().any(|block| block.from == ip)
    }

    /// A piece is good, and its blocks have these hashes. Returns who sent another block in its place
    /// before.
    pub fn piece_passed(&mut self, piece: PieceIndex, digests: &[Hash]) -> Vec<IpAddr> {
        let known = self.failed.remove(&piece).unwrap_or_default();
        let lied = |block: &BlockOrigin| {
            digests.get(block.index as usize).is_some_and(|good| *good != block.digest)
        };
        let mut liars: Vec<IpAddr> =
            known.into_iter().filter(lied).map(|block| block.from).collect();
        liars.sort_unstable();
        liars.dedup();
        liars
    }
}

/// Failed pieces remembered; past it the first is forgotten.
const PIECES_MAX: usize = 64;
/// Blocks remembered of one piece, over all its failures.
const BLOCKS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn block(index: u32, from: u8, digest: u8) -> BlockOrigin {
        BlockOrigin { index, from: IpAddr::from([10, 0, 0, from]), digest: [digest; 32] }
    }

    #[test]
    fn one_sender_of_a_bad_piece_is_the_liar() {
        let mut ban = SmartBan::new();
        let liars = ban.piece_failed(PieceIndex(1), &[block(0, 1, 7), block(1, 1, 8)]);
        assert_eq!(liars, [IpAddr::from([10, 0, 0, 1])]);
        assert!(!ban.has_record(PieceIndex(1)));
    }

    #[test]
    fn of_several_the_one_whose_block_differs_is() {
        let mut ban = SmartBan::new();
        assert!(ban.piece_failed(PieceIndex(1), &[block(0, 1, 7), block(1, 2, 99)]).is_empty());
        assert!(ban.piece_failed(PieceIndex(1), &[block(0, 3, 7), block(1, 4, 98)]).is_empty());
        assert!(ban.has_record(PieceIndex(1)) && ban.suspects(IpAddr::from([10, 0, 0, 1])));
        assert!(!ban.suspects(IpAddr::from([10, 0, 0, 5])));
        let liars = ban.piece_passed(PieceIndex(1), &[[7; 32], [8; 32]]);
        assert_eq!(liars, [IpAddr::from([10, 0, 0, 2]), IpAddr::from([10, 0, 0, 4])]);
        assert!(!ban.suspects(IpAddr::from([10, 0, 0, 1])));
        assert!(ban.piece_passed(PieceIndex(1), &[[7; 32], [8; 32]]).is_empty());
    }

    #[test]
    fn remembers_a_bounded_number_of_failures() {
        let mut ban = SmartBan::new();
        for piece in 0..1000 {
            ban.piece_failed(PieceIndex(piece), &[block(0, 1, 7), block(1, 2, 99)]);
        }
        assert_eq!(ban.failed.len(), PIECES_MAX);
        for seed in 0..200 {
            let many: Vec<BlockOrigin> =
                (0..100).map(|index| block(index, seed, seed)).chain([block(0, 255, 0)]).collect();
            ban.piece_failed(PieceIndex(999), &many);
        }
        assert_eq!(ban.failed[&PieceIndex(999)].len(), BLOCKS_MAX);
    }
}
