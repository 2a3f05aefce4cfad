//! The hashes of version 2 ([BEP 52]): a root for each file, and between it and the blocks one for each piece.
//!
//! The roots stand in the info dictionary. The others do not, so who has a torrent from a magnet link asks
//! peers for them: they are [put](PieceLayers::put) here when they come, and all who share the torrent see them.
//!
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use super::FileLayout;
use super::merkle::{self, Hash};
use crate::{BLOCK_LEN, PieceIndex};

/// The root of each file of a torrent, and as far as they are known the hashes of all pieces.
#[derive(Debug)]
pub struct PieceLayers {
    layout: Arc<FileLayout>,
    files: Vec<FileHashes>,
    /// The files that have a root, sorted by it.
    by_root: Vec<u32>,
    /// What peers have said of the blocks of some pieces.
    blocks: Mutex<BTreeMap<PieceIndex, Vec<Hash>>>,
}

#[derive(Debug)]
struct FileHashes {
    /// `None` for what is empty, or padding.
    root: Option<Hash>,
    /// One after another the hashes of its pieces; they make up the root. Never set if it has only one.
    layer: OnceLock<Bytes>,
}

/// What a piece must be to be right by version 2: the tree over its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockTree {
    /// The root.
    pub root: Hash,
    /// The bytes of the piece that belong to its file; what may follow is padding, and not hashed.
    pub len: u32,
    /// How high the tree is above the blocks.
    pub height: u32,
}

/// What a piece must be to be right. A piece of a hybrid torrent has to be so by both versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceCheck {
    /// The SHA-1 of all its bytes.
    pub v1: Option<[u8; 20]>,
    /// The tree of SHA-256 over its blocks.
    pub v2: Option<BlockTree>,
}

impl BlockTree {
    /// Whether blocks with these hashes, each of 16 KiB but perhaps the last, are those of the tree.
    pub fn matches(&self, blocks: &[Hash]) -> bool {
        let is_too_many = merkle::height_above(blocks.len() as u64) > self.height;
        !is_too_many && merkle::root(blocks, 0, self.height) == self.root
    }
}

impl PieceCheck {
    /// Nothing is known of what the piece must be.
    pub const fn is_unknown(&self) -> bool {
        self.v1.is_none() && self.v2.is_none()
    }
}

impl PieceLayers {
    /// With a root for each file that has bytes of its own, and no hash below.
    pub(super) fn new(layout: Arc<FileLayout>, roots: Vec<Option<Hash>>) -> Self {
        let mut by_root: Vec<u32> =
            (0..).zip(&roots).filter_map(|(file, root)| root.map(|_| file)).collect();
        by_root.sort_by_key(|&file| roots.get(file as usize));
        let files =
            roots.into_iter().map(|root| FileHashes { root, layer: OnceLock::new() }).collect();
        Self { layout, files, by_root, blocks: Mutex::default() }
    }

    /// Where the files lie.
    pub const fn layout(&self) -> &Arc<FileLayout> {
        &self.layout
    }

    /// The root of a file; `None` if it is empty, or only padding.
    pub fn root(&self, file: usize) -> Option<Hash> {
        self.files.get(file)?.root
    }

    /// A file with this root. If there are several, they have the same contents.
    pub fn file_of(&self, root: &Hash) -> Option<usize> {
        let root_of = |file: &u32| self.root(*file as usize);
        let at = self.by_root.partition_point(|file| root_of(file) < Some(*root));
        let file = *self.by_root.get(at)? as usize;
        (self.root(file) == Some(*root)).then_some(file)
    }

    /// How many pieces the file has that need hashes of their own: none if it has only one, whose hash is the root.
    pub fn layer_len(&self, file: usize) -> u32 {
        let has_root = self.root(file).is_some();
        match self.layout.file_pieces(file).len() as u32 {
            count @ 2.. if has_root => count,
            _ => 0,
        }
    }

    /// The hashes of the pieces of a file; none if they are not known, or not needed.
    pub fn layer(&self, file: usize) -> &[Hash] {
        let layer = self.files.get(file).and_then(|file| file.layer.get());
        layer.map_or(&[], |layer| layer.as_chunks().0)
    }

    /// The files whose pieces' hashes are not known.
    pub fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.files.len())
            .filter(|&file| self.layer_len(file) > 0 && self.layer(file).is_empty())
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.missing().next().is_none()
    }

    /// How high the trees of a file's pieces are above their blocks: lower than others if it has only one.
    pub fn trunk(&self, file: usize) -> u32 {
        let pieces = self.layout.file_pieces(file);
        if pieces.len() > 1 {
            self.piece_height()
        } else {
            self.layout.tree_shape(PieceIndex(pieces.start)).1
        }
    }

    /// What is above the trees of a file's pieces; `None` if their hashes are not known.
    pub fn tree(&self, file: usize) -> Option<merkle::Tree> {
        if self.layer_len(file) == 0 {
            return Some(merkle::Tree::new(&[self.root(file)?], self.trunk(file)));
        }
        let layer = self.layer(file);
        (!layer.is_empty()).then(|| merkle::Tree::new(layer, self.piece_height()))
    }

    /// What `piece` must be; `None` while that is not known.
    pub fn check(&self, piece: PieceIndex) -> Option<BlockTree> {
        let file = self.layout.file_at(piece)?;
        let (pieces, root) = (self.layout.file_pieces(file), self.root(file)?);
        let (len, height) = self.layout.tree_shape(piece);
        if pieces.len() <= 1 {
            return Some(BlockTree { root, len, height });
        }
        let at = piece.0.checked_sub(pieces.start)? as usize;
        self.layer(file).get(at).map(|&root| BlockTree { root, len, height })
    }

    /// Takes the hashes of the pieces of a file, and of all that have the same root. Returns whether they are
    /// what they should be; if not, nothing has changed.
    pub fn put(&self, file: usize, layer: Bytes) -> bool {
        let Some(root) = self.root(file) else { return false };
        let (hashes, rest) = layer.as_chunks();
        let is_right = rest.is_empty()
            && hashes.len() as u64 == u64::from(self.layer_len(file))
            && !hashes.is_empty()
            && self.root_of(hashes) == root;
        if is_right {
            for hashes in self.equal_files(file).filter_map(|file| self.files.get(file)) {
                // Somebody else may have been faster, with the same.
                drop(hashes.layer.set(layer.clone()));
            }
        }
        is_right
    }

    /// The root of a file of more than one piece.
    fn root_of(&self, layer: &[Hash]) -> Hash {
        merkle::root(layer, self.piece_height(), merkle::height_above(layer.len() as u64))
    }

    /// The SHA-256 that each block of a piece must have, where that is known: they stand in no torrent file, but a
    /// piece of one block has its own hash, and [peers](crate::swarm::Swarm::want_block_hashes) say those of others.
    pub fn blocks(&self, piece: PieceIndex) -> Option<Vec<Hash>> {
        match self.check(piece)? {
            BlockTree { root, height: 0, .. } => Some(vec![root]),
            BlockTree { .. } => self.known_blocks().get(&piece).cloned(),
        }
    }

    /// Takes the hashes of the blocks of a piece, with or without those of zeros behind them. Returns whether they are
    /// right; if not, nothing has changed. Those of no more than 4,096 pieces are kept.
    pub fn put_blocks(&self, piece: PieceIndex, blocks: &[Hash]) -> bool {
        let Some(check) = self.check(piece) else { return false };
        if !check.matches(blocks) {
            return false;
        }
        let own = blocks.iter().take(check.len.div_ceil(BLOCK_LEN) as usize);
        let mut known = self.known_blocks();
        known.insert(piece, own.copied().collect());
        if known.len() > BLOCKS_OF_MAX
            && let Some(other) = known.keys().copied().find(|other| *other != piece)
        {
            known.remove(&other);
        }
        true
    }

    fn known_blocks(&self) -> MutexGuard<'_, BTreeMap<PieceIndex, Vec<Hash>>> {
        // Nothing that can panic is done under this lock.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How high the tree of a whole piece is above its blocks.
    pub fn piece_height(&self) -> u32 {
        self.layout.piece_height()
    }

    /// The files with the same contents as this one, itself counted.
    pub fn equal_files(&self, file: usize) -> impl Iterator<Item = usize> + '_ {
        let root = self.root(file);
        let root_of = move |file: &u32| self.root(*file as usize);
        let from = self.by_root.partition_point(|file| root_of(file) < root);
        let with_root = self.by_root.iter().skip(from);
        let equal = with_root.take_while(move |file| root.is_some() && root_of(file) == root);
        // Of another length it cannot have this root: whoever says so lies.
        let len = self.layer_len(file);
        equal.map(|&file| file as usize).filter(move |&file| self.layer_len(file) == len)
    }

    /// What is known, as it stands in a torrent file: by the roots of files.
    pub fn known(&self) -> BTreeMap<Hash, Bytes> {
        let known =
            self.files.iter().filter_map(|file| Some((file.root?, file.layer.get()?.clone())));
        known.collect()
    }
}

/// Pieces whose blocks' hashes are kept.
const BLOCKS_OF_MAX: usize = 4096;
