//! What is computed of pieces: the SHA-1 of version 1, the tree over their blocks of version 2 ([BEP 52]), or both
//! in one pass over bytes that are in the core's cache.
//!
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

use sha_lanes::{LANES_MAX, Sha1Lanes, Sha256Lanes};
use torrent::metainfo::create::Format;
use torrent::metainfo::merkle::{self, Hash};
use torrent::metainfo::{FileLayout, PieceCheck};
use torrent::{BLOCK_LEN, PieceIndex};

/// The hashes of what is there of a piece, as far as they were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PieceHash {
    /// Of all its bytes.
    pub(crate) v1: Option<[u8; 20]>,
    /// The root of the tree over its blocks.
    pub(crate) v2: Option<Hash>,
}

/// What the hashes of a piece say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is what it should be.
    Right,
    /// It is not, or it is not known what it should be.
    Wrong,
    /// It is right by one version and wrong by the other: no data is right by both.
    Contradiction,
}

impl PieceHash {
    pub(crate) fn judge(&self, check: &PieceCheck) -> Judgement {
        let v1 = check.v1.zip(self.v1).map(|(expected, found)| expected == found);
        let v2 = check.v2.zip(self.v2).map(|(expected, found)| expected.root == found);
        match (v1, v2) {
            (Some(true), Some(true) | None) | (None, Some(true)) => Judgement::Right,
            (Some(true), Some(false)) | (Some(false), Some(true)) => Judgement::Contradiction,
            (Some(false), Some(false) | None) | (None, Some(false) | None) => Judgement::Wrong,
        }
    }

    /// What a piece of nothing but zeros has.
    pub(super) fn of_zeros(format: Format, layout: &FileLayout, piece: PieceIndex) -> Self {
        let zeros = vec![0; BLOCK_LEN as usize];
        let mut hasher = PieceHasher::new(format, layout, &[piece]);
        let len = layout.len_of(piece);
        for offset in (0..len).step_by(zeros.len()) {
            hasher.update(&[&zeros[..BLOCK_LEN.min(len - offset) as usize]]);
        }
        hasher.finish().next().expect("one piece")
    }
}

/// Several pieces that are hashed together.
#[derive(Debug)]
pub(super) struct PieceHasher {
    sha1: Option<Sha1Lanes>,
    /// Empty if no trees are wanted.
    trees: Vec<Tree>,
}

#[derive(Debug)]
struct Tree {
    /// Bytes of the piece that are still to come; what follows is padding.
    left: usize,
    height: u32,
    blocks: Vec<Hash>,
}

impl PieceHasher {
    /// For up to [`LANES_MAX`] pieces.
    pub(super) fn new(format: Format, layout: &FileLayout, pieces: &[PieceIndex]) -> Self {
        let tree = |&piece: &PieceIndex| {
            let (len, height) = layout.tree_shape(piece);
            let blocks = Vec::with_capacity(len.div_ceil(BLOCK_LEN) as usize);
            Tree { left: len as usize, height, blocks }
        };
        Self {
            sha1: format.has_v1().then(|| Sha1Lanes::new(pieces.len())),
            trees: if format.has_v2() { pieces.iter().map(tree).collect() } else { Vec::new() },
        }
    }

    /// Gives each piece its next bytes: whole blocks, but perhaps for the last ones.
    pub(super) fn update(&mut self, slices: &[&[u8]]) {
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(slices);
        }
        let mut blocks = Vec::new();
        let mut counts = [0; LANES_MAX];
        for ((tree, slice), count) in self.trees.iter_mut().zip(slices).zip(&mut counts) {
            let own = &slice[..slice.len().min(tree.left)];
            tree.left -= own.len();
            *count = own.len().div_ceil(BLOCK_LEN as usize);
            blocks.extend(own.chunks(BLOCK_LEN as usize));
        }
        let mut hashes = hash_blocks(&blocks);
        for (tree, count) in self.trees.iter_mut().zip(counts) {
            tree.blocks.extend(hashes.by_ref().take(count));
        }
    }

    /// The hashes of each, in order.
    pub(super) fn finish(self) -> impl Iterator<Item = PieceHash> {
        let count = self.trees.len();
        let sha1 = self.sha1.map(Sha1Lanes::finish).unwrap_or_default();
        let count = count.max(sha1.len());
        let root = |tree: &Tree| merkle::root(&tree.blocks, 0, tree.height);
        (0..count).map(move |at| PieceHash {
            v1: sha1.get(at).copied(),
            v2: self.trees.get(at).map(root),
        })
    }
}

/// The hash of each block, many at once.
pub(crate) fn hash_blocks(blocks: &[&[u8]]) -> impl Iterator<Item = Hash> {
    blocks.chunks(LANES_MAX).flat_map(|blocks| {
        let mut lanes = Sha256Lanes::new(blocks.len());
        lanes.update(blocks);
        lanes.finish()
    })
}

#[cfg(test)]
mod tests {
    use torrent::Rng;
    use torrent::metainfo::BlockTree;
    use torrent::metainfo::create::Builder;

    use super::*;

    #[test]
    fn hashed_together_in_stretches_pieces_hash_as_each_alone() {
        for seed in 0..40 {
            let mut rng = Rng::from_seed(seed);
            let lens = (0..1 + rng.below(4)).map(|_| 1 + rng.below(200_000) as u64);
            let files = lens.zip(b'a'..).map(|(len, name)| (vec![vec![name]], len)).collect();
            for format in [Format::V1, Format::V2, Format::Hybrid] {
                let (name, piece_len) = (b"t".to_vec(), Some(64 * 1024));
                let files = Vec::clone(&files);
                let builder = Builder { format, name, files, piece_len, ..Builder::default() };
                let layout = builder.layout().unwrap();
                let pieces: Vec<PieceIndex> = (0..layout.piece_count()).map(PieceIndex).collect();
                for alike in pieces.chunk_by(|&a, &b| layout.len_of(a) == layout.len_of(b)) {
                    let data: Vec<Vec<u8>> = alike
                        .iter()
                        .map(|&piece| {
                            (0..layout.len_of(piece)).map(|_| rng.below(256) as u8).collect()
                        })
                        .collect();
                    let mut hasher = PieceHasher::new(format, &layout, alike);
                    for at in (0..data[0].len()).step_by(32 * 1024) {
                        let end = data[0].len().min(at + 32 * 1024);
                        let slices: Vec<&[u8]> = data.iter().map(|data| &data[at..end]).collect();
                        hasher.update(&slices);
                    }
                    for ((found, data), &piece) in hasher.finish().zip(&data).zip(alike) {
                        assert_eq!(found, alone(format, &layout, piece, data), "seed {seed}");
                    }
                }
            }
        }
    }

    fn alone(format: Format, layout: &FileLayout, piece: PieceIndex, data: &[u8]) -> PieceHash {
        let (len, height) = layout.tree_shape(piece);
        let blocks = data[..len as usize].chunks(BLOCK_LEN as usize);
        let blocks: Vec<Hash> = blocks.map(sha_lanes::sha256).collect();
        PieceHash {
            v1: format.has_v1().then(|| sha_lanes::sha1(data)),
            v2: format.has_v2().then(|| merkle::root(&blocks, 0, height)),
        }
    }

    #[test]
    fn what_is_right_by_one_version_only_is_a_contradiction() {
        let tree = |byte| BlockTree { root: [byte; 32], len: 1, height: 0 };
        let check = |v1: Option<u8>, v2: Option<u8>| PieceCheck {
            v1: v1.map(|byte| [byte; 20]),
            v2: v2.map(tree),
        };
        let found = PieceHash { v1: Some([1; 20]), v2: Some([2; 32]) };
        assert_eq!(found.judge(&check(Some(1), Some(2))), Judgement::Right);
        assert_eq!(found.judge(&check(Some(1), None)), Judgement::Right);
        assert_eq!(found.judge(&check(None, Some(2))), Judgement::Right);
        assert_eq!(found.judge(&check(None, Some(3))), Judgement::Wrong);
        assert_eq!(found.judge(&check(Some(2), Some(3))), Judgement::Wrong);
        assert_eq!(found.judge(&check(Some(1), Some(3))), Judgement::Contradiction);
        assert_eq!(found.judge(&check(Some(2), Some(2))), Judgement::Contradiction);
        assert_eq!(found.judge(&check(None, None)), Judgement::Wrong);
    }
}
