//! Which pieces are here, for every thread to see: set by one, read by any, without a lock.

use std::sync::atomic::{AtomicU8, Ordering};

use torrent::{Bitfield, PieceIndex};

/// A bit for each piece. Whoever sees a bit sees all that was done before it was set.
#[derive(Debug)]
pub(crate) struct SharedBits {
    /// In the order of the wire.
    bytes: Box<[AtomicU8]>,
    len: u32,
}

impl SharedBits {
    /// `len` bits, none of them set.
    pub(crate) fn new(len: u32) -> Self {
        let bytes = (0..len.div_ceil(8)).map(|_| AtomicU8::new(0)).collect();
        Self { bytes, len }
    }

    /// How many bits there are, set or not.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Whether the bit of `piece` is set; `false` past the end.
    pub(crate) fn has(&self, piece: PieceIndex) -> bool {
        let byte = self.bytes.get(piece.index() / 8);
        byte.is_some_and(|byte| byte.load(Ordering::Acquire) & mask(piece) != 0)
    }

    /// Sets the bit of `piece`; past the end nothing happens.
    pub(crate) fn set(&self, piece: PieceIndex) {
        let Some(byte) = self.bytes.get(piece.index() / 8) else { return };
        if piece.0 < self.len {
            byte.fetch_or(mask(piece), Ordering::AcqRel);
        }
    }

    /// Clears the bit of `piece`.
    pub(crate) fn clear(&self, piece: PieceIndex) {
        if let Some(byte) = self.bytes.get(piece.index() / 8) {
            byte.fetch_and(!mask(piece), Ordering::AcqRel);
        }
    }

    /// Makes the bits those of `bits`, which are as many.
    pub(crate) fn load(&self, bits: &Bitfield) {
        assert_eq!(bits.len(), self.len, "a bit for each piece");
        for (byte, &new) in self.bytes.iter().zip(bits.as_bytes()) {
            byte.store(new, Ordering::Release);
        }
    }

    /// The bits as they are. While others are being set, some of those may be among them.
    pub(crate) fn snapshot(&self) -> Bitfield {
        let bytes: Vec<u8> = self.bytes.iter().map(|byte| byte.load(Ordering::Acquire)).collect();
        Bitfield::from_bytes(&bytes, self.len).expect("no bit past the end is ever set")
    }
}

const fn mask(piece: PieceIndex) -> u8 {
    0x80 >> (piece.0 % 8)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn no_bit_lies_past_the_end() {
        let bits = SharedBits::new(10);
        for piece in [0, 9, 9, 10, 11, 4000] {
            bits.set(PieceIndex(piece));
        }
        assert_eq!(bits.len(), 10);
        assert!(bits.has(PieceIndex(9)) && !bits.has(PieceIndex(10)));
        assert_eq!(bits.snapshot().as_bytes(), [0x80, 0x40]);
        bits.clear(PieceIndex(9));
        assert_eq!(bits.snapshot().as_bytes(), [0x80, 0]);
        bits.load(&Bitfield::none(10));
        assert_eq!(bits.snapshot().count(), 0);
    }

    #[test]
    fn what_was_written_before_a_bit_is_there_for_whoever_sees_the_bit() {
        let bits = Arc::new(SharedBits::new(1000));
        let data: Arc<Vec<AtomicU8>> = Arc::new((0..1000).map(|_| AtomicU8::new(0)).collect());
        let (seen, written) = (Arc::clone(&bits), Arc::clone(&data));
        let reader = std::thread::spawn(move || {
            let mut before = 0;
            while before < 1000 {
                let now = seen.snapshot();
                assert!(now.count() >= before, "a bit was lost");
                for piece in now.iter() {
                    assert_eq!(written[piece.index()].load(Ordering::Relaxed), 1);
                }
                before = now.count();
            }
        });
        for piece in 0..1000 {
            data[piece].store(1, Ordering::Relaxed);
            bits.set(PieceIndex(piece as u32));
        }
        reader.join().expect("no bit came before its data");
    }
}
