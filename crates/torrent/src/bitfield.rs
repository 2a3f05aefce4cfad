//! A bit for each piece, in the order of the wire: the first piece is the highest bit of the first byte.

use std::fmt;

use crate::PieceIndex;

/// A fixed number of bits, one a piece. Counting what is set costs nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    /// How many pieces there are. Bits of `bytes` past it are always clear.
    len: u32,
    /// How many bits are set.
    count: u32,
}

impl Bitfield {
    /// `len` bits, none of them set.
    pub fn none(len: u32) -> Self {
        Self { bytes: vec![0; len.div_ceil(8) as usize], len, count: 0 }
    }

    /// `len` bits, all of them set.
    pub fn all(len: u32) -> Self {
        let mut bytes = vec![0xff; len.div_ceil(8) as usize];
        if let (Some(last), spare @ 1..) = (bytes.last_mut(), bytes_spare(len)) {
            *last <<= spare;
        }
        Self { bytes, len, count: len }
    }

    /// `len` bits as they come over the wire ([BEP 3]); `None` unless the length is right and the
    /// spare bits are clear.
    ///
    /// [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html
    pub fn from_bytes(bytes: &[u8], len: u32) -> Option<Self> {
        if bytes.len() != len.div_ceil(8) as usize {
            return None;
        }
        let spare_mask = (1_u8 << bytes_spare(len)) - 1;
        if bytes.last().is_some_and(|last| last & spare_mask != 0) {
            return None;
        }
        let count = bytes.iter().map(|byte| byte.count_ones()).sum();
        Some(Self { bytes: bytes.to_vec(), len, count })
    }

    /// The bytes that go over the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bits there are, set or not.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are no bits at all.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bits are set.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether every bit is set.
    pub const fn is_all(&self) -> bool {
        self.count == self.len
    }

    /// Whether the bit of `piece` is set; `false` past the end.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.bytes.get(piece.index() / 8).is_some_and(|byte| byte & mask(piece) != 0)
    }

    /// Sets the bit of `piece`. Returns whether it was clear; past the end nothing happens.
    pub fn set(&mut self, piece: PieceIndex) -> bool {
        if piece.0 >= self.len || self.has(piece) {
            return false;
        }
        self.bytes[piece.index() / 8] |= mask(piece);
        self.count += 1;
        true
    }

    /// Clears the bit of `piece`. Returns whether it was set.
    pub fn clear(&mut self, piece: PieceIndex) -> bool {
        if !self.has(piece) {
            return false;
        }
        self.bytes[piece.index() / 8] &= !mask(piece);
        self.count -= 1;
        true
    }

    /// The pieces whose bit is set, in order.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.bytes.iter().zip(0_u32..).filter(|(byte, _)| **byte != 0).flat_map(|(&byte, at)| {
            (0..8)
                .filter(move |bit| byte & (0x80 >> bit) != 0)
                .map(move |bit| PieceIndex(at * 8 + bit))
        })
    }
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({} of {})", self.count, self.len)
    }
}

const fn mask(piece: PieceIndex) -> u8 {
    0x80 >> (piece.0 % 8)
}

/// How many bits of the last byte stand for no piece.
const fn bytes_spare(len: u32) -> u32 {
    (8 - len % 8) % 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_piece_is_the_highest_bit() {
        let mut bits = Bitfield::none(10);
        assert!(bits.set(PieceIndex(0)) && bits.set(PieceIndex(9)));
        assert!(!bits.set(PieceIndex(9)) && !bits.set(PieceIndex(10)));
        assert_eq!(bits.as_bytes(), [0x80, 0x40]);
        assert_eq!(bits.iter().collect::<Vec<_>>(), [PieceIndex(0), PieceIndex(9)]);
        assert!(bits.clear(PieceIndex(0)) && !bits.clear(PieceIndex(0)));
        assert_eq!(bits.count(), 1);
    }

    #[test]
    fn all_sets_no_spare_bit() {
        for len in 0..40 {
            let all = Bitfield::all(len);
            assert_eq!(all.iter().count() as u32, len);
            assert_eq!(Bitfield::from_bytes(all.as_bytes(), len), Some(all));
        }
    }

    #[test]
    fn refuses_a_wrong_length_and_spare_bits() {
        assert_eq!(Bitfield::from_bytes(&[0xff], 9), None);
        assert_eq!(Bitfield::from_bytes(&[0xff, 0, 0], 9), None);
        assert_eq!(Bitfield::from_bytes(&[0xff, 0x40], 9), None);
        assert_eq!(Bitfield::from_bytes(&[0xff, 0x80], 9), Some(Bitfield::all(9)));
    }
}
