//! The units that BitTorrent counts in: pieces and blocks.

use std::fmt;

/// The length that nearly every client asks for at once, in bytes (2^14, [BEP 3]).
///
/// [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
pub const BLOCK_LEN: u32 = 16 * 1024;

/// Which piece of a torrent, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(pub u32);

impl PieceIndex {
    /// As an index into a table with an entry a piece.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run of bytes within one piece: what a `request` asks for and a `piece` message brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    /// The piece that it lies in.
    pub piece: PieceIndex,
    /// Where it begins, in bytes from the start of the piece.
    pub offset: u32,
    /// How long it is, in bytes.
    pub len: u32,
}

impl Block {
    /// The position of this block among the piece's blocks, if it is one of the usual
    /// [`BLOCK_LEN`] grid.
    pub const fn index(self) -> u32 {
        self.offset / BLOCK_LEN
    }
}
