//! Bytes of a torrent as they come, cut into blocks.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::sync::Arc;

use bytes::Bytes;

use crate::metainfo::FileLayout;
use crate::swarm::WebRun;
use crate::{BLOCK_LEN, Block, PieceIndex};

/// Takes bytes from the start of a run on, of any length, and gives whole blocks.
#[derive(Debug)]
pub(super) struct Assembler {
    layout: Arc<FileLayout>,
    /// The block that is being filled.
    block: Block,
    filled: Vec<u8>,
}

impl Assembler {
    /// `run` must begin where a block does.
    pub(super) fn new(layout: Arc<FileLayout>, run: WebRun) -> Self {
        let piece_len = u64::from(layout.piece_len());
        let piece =
            u32::try_from(run.start.checked_div(piece_len).unwrap_or(0)).unwrap_or(u32::MAX);
        let offset = run.start.checked_rem(piece_len).unwrap_or(0);
        let index = u32::try_from(offset).unwrap_or(0).checked_div(BLOCK_LEN).unwrap_or(0);
        let block = layout.block(PieceIndex(piece), index);
        Self { layout, block, filled: Vec::new() }
    }

    /// The next bytes. `take` gets each block that they make whole.
    pub(super) fn push(&mut self, mut data: &[u8], mut take: impl FnMut(Block, Bytes)) {
        while !data.is_empty() {
            let missing = (self.block.len as usize).saturating_sub(self.filled.len());
            if missing == 0 {
                // Past the end of the torrent: nobody asks for that.
                return;
            }
            if self.filled.capacity() == 0 {
                self.filled.reserve_exact(missing);
            }
            let (now, later) = data.split_at_checked(missing).unwrap_or((data, &[]));
            self.filled.extend_from_slice(now);
            data = later;
            if self.filled.len() == self.block.len as usize {
                take(self.block, Bytes::from(std::mem::take(&mut self.filled)));
                self.advance();
            }
        }
    }

    /// The same for so many zeros.
    pub(super) fn push_zeros(&mut self, len: u64, mut take: impl FnMut(Block, Bytes)) {
        let mut rest = len;
        while rest > 0 {
            let now = usize::try_from(rest).map_or(ZEROS.len(), |rest| rest.min(ZEROS.len()));
            self.push(ZEROS.get(..now).unwrap_or_default(), &mut take);
            rest = rest.saturating_sub(now as u64);
        }
    }

    fn advance(&mut self) {
        let Block { piece, .. } = self.block;
        let index = self.block.index().saturating_add(1);
        self.block = if index < self.layout.block_count(piece) {
            self.layout.block(piece, index)
        } else {
            self.layout.block(PieceIndex(piece.0.saturating_add(1)), 0)
        };
    }
}

static ZEROS: [u8; BLOCK_LEN as usize] = [0; BLOCK_LEN as usize];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::web_seed::tests::layout_of;

    #[test]
    fn blocks_are_whole_however_the_bytes_come() {
        for seed in 0..300 {
            let mut rng = Rng::from_seed(seed);
            let piece_len = 1 + rng.below(50_000) as u32;
            let total_len = 1 + rng.below(200_000);
            let layout = Arc::new(layout_of(piece_len, &[("x", total_len as u64)]));
            let data: Vec<u8> = (0..total_len).map(|_| rng.u32() as u8 | 1).collect();
            let first = PieceIndex(rng.below(layout.piece_count() as usize) as u32);
            let start = u64::from(first.0) * u64::from(piece_len);
            let run = WebRun { start, len: total_len as u64 - start };
            let mut assembler = Assembler::new(Arc::clone(&layout), run);
            let mut blocks = Vec::new();
            let mut rest = &data[start as usize..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(1 + rng.below(rest.len().min(40_000)));
                assembler.push(now, |block, data| blocks.push((block, data)));
                rest = later;
            }
            let expected = (first.0..layout.piece_count()).map(PieceIndex).flat_map(|piece| {
                let layout = &layout;
                (0..layout.block_count(piece)).map(move |index| layout.block(piece, index))
            });
            let mut at = start as usize;
            let mut found = blocks.into_iter();
            for block in expected {
                let end = at + block.len as usize;
                assert_eq!(
                    found.next(),
                    Some((block, data[at..end].to_vec().into())),
                    "seed {seed}"
                );
                at = end;
            }
            assert_eq!(found.next(), None, "seed {seed}");
        }
    }
}
