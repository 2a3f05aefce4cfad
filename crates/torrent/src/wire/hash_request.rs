//! Which hashes of a file's tree are asked for ([BEP 52]).
//!
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::PeerFault;
use crate::metainfo::merkle::{Hash, uncle_count};

/// Nodes of one layer of a file's tree that follow one another, with what proves them.
///
/// It stands as it is in the question, in the answer, and in the refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HashRequest {
    /// The file, by the root of its tree.
    pub root: Hash,
    /// The layer, counted from the blocks, which are at 0.
    pub base: u32,
    /// The first node, a multiple of `count`.
    pub index: u32,
    /// How many nodes, a power of two.
    pub count: u32,
    /// How many layers above the nodes are to be proven.
    pub proof_layers: u32,
}

impl HashRequest {
    /// How long it is in a message, in bytes.
    pub(super) const LEN: usize = 48;

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.root);
        for number in [self.base, self.index, self.count, self.proof_layers] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// Reads it from the start of a message. Returns what follows.
    pub(super) fn decode(payload: &[u8]) -> Result<(Self, &[u8]), PeerFault> {
        let split = payload.split_first_chunk().and_then(|(root, rest)| {
            let (words, rest) = rest.split_first_chunk::<16>()?;
            Some((root, words.as_chunks().0, rest))
        });
        let Some((root, words @ [_, _, _, _], rest)) = split else {
            return Err(PeerFault::MalformedMessage);
        };
        let &[base, index, count, proof_layers] = words else {
            return Err(PeerFault::MalformedMessage);
        };
        let [base, index, count, proof_layers] =
            [base, index, count, proof_layers].map(u32::from_be_bytes);
        Ok((Self { root: *root, base, index, count, proof_layers }, rest))
    }

    /// How many hashes answer it: the nodes and their uncles.
    pub fn answer_count(&self) -> u32 {
        self.count.saturating_add(uncle_count(self.count, self.proof_layers))
    }
}

/// Nodes that may be asked for at once.
pub const HASHES_MAX: u32 = 8192;
