//! Trees of SHA-256 over the blocks of a file ([BEP 52]), and proofs that a hash lies in one.
//!
//! The leaves are the hashes of blocks of 16 KiB, the last of which may be shorter. Leaves of zeros are put
//! behind them until there are as many as a power of two. A node above two others is the hash of
//! these. *Height* is counted from the leaves, which are at 0; a tree of height `h` has 2^h leaves.
//!
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use sha2::{Digest, Sha256};

/// A node of a tree.
pub type Hash = [u8; 32];

/// The node above two others.
pub fn parent(left: &Hash, right: &Hash) -> Hash {
    let mut sha256 = Sha256::new();
    sha256.update(left);
    sha256.update(right);
    sha256.finalize().into()
}

/// The top of a tree in which there is nothing but leaves of zeros.
pub fn pad(height: u32) -> Hash {
    (0..height).fold([0; 32], |pad, _| parent(&pad, &pad))
}

/// How high a tree of so many leaves, or nodes of any one height, is above these.
pub const fn height_above(count: u64) -> u32 {
    match count.checked_next_power_of_two() {
        Some(width) => width.trailing_zeros(),
        None => u64::BITS,
    }
}

/// The node that is `above` nodes of the height `height`, the first of which are `nodes`, while under all others
/// there is nothing.
pub fn root(nodes: &[Hash], height: u32, above: u32) -> Hash {
    let mut layer = nodes.to_vec();
    let mut pad = pad(height);
    for _ in 0..above {
        layer = layer_above(&layer, &pad);
        pad = parent(&pad, &pad);
    }
    layer.first().copied().unwrap_or(pad)
}

fn layer_above(layer: &[Hash], pad: &Hash) -> Vec<Hash> {
    let (pairs, rest) = layer.as_chunks();
    let mut above: Vec<Hash> = pairs.iter().map(|[left, right]| parent(left, right)).collect();
    above.extend(rest.first().map(|last| parent(last, pad)));
    above
}

/// The upper part of a tree, from some layer to its root.
#[derive(Clone, Debug)]
pub struct Tree {
    /// From the lowest to the root, without padding behind each.
    layers: Vec<Vec<Hash>>,
    /// What stands for all nodes that are not there, layer by layer.
    pads: Vec<Hash>,
}

impl Tree {
    /// The nodes above `nodes`, which are of the height `height`.
    pub fn new(nodes: &[Hash], height: u32) -> Self {
        Self::below(nodes, height, height_above(nodes.len() as u64))
    }

    /// The same with a top that is `above` layers above `nodes`: behind these, there may be nothing up to there.
    pub fn below(nodes: &[Hash], height: u32, above: u32) -> Self {
        let (mut layers, mut pads) = (vec![nodes.to_vec()], vec![pad(height)]);
        for _ in 0..above {
            let (Some(layer), Some(pad)) = (layers.last(), pads.last()) else { break };
            let (above, pad) = (layer_above(layer, pad), parent(pad, pad));
            layers.push(above);
            pads.push(pad);
        }
        Self { layers, pads }
    }

    /// The top.
    pub fn root(&self) -> Hash {
        self.node(self.layers.len().saturating_sub(1) as u32, 0).unwrap_or_default()
    }

    /// How many layers there are above the lowest.
    pub const fn height(&self) -> u32 {
        self.layers.len().saturating_sub(1) as u32
    }

    /// The node number `index` of a layer, counted from the lowest.
    pub fn node(&self, layer: u32, index: u64) -> Option<Hash> {
        let width = 1_u64.checked_shl(self.height().checked_sub(layer)?)?;
        if index >= width {
            return None;
        }
        let nodes = self.layers.get(layer as usize)?;
        let found = usize::try_from(index).ok().and_then(|index| nodes.get(index));
        found.or_else(|| self.pads.get(layer as usize)).copied()
    }

    /// What answers a question for nodes of a layer, counted from the lowest, as [`run`] does.
    pub fn hashes(
        &self,
        layer: u32,
        index: u32,
        count: u32,
        proof_layers: u32,
    ) -> Option<Vec<Hash>> {
        let node = |above: u32, index| self.node(layer.checked_add(above)?, index);
        run(index, count, proof_layers, node)
    }
}

/// What answers a question for hashes: `count` nodes of a layer from `index` on, then their
/// [uncles](uncle_count) as far as `proof_layers` says. `node` gives those of a layer so far above the one that is
/// asked about. `None` if there are no such nodes.
pub fn run(
    index: u32,
    count: u32,
    proof_layers: u32,
    node: impl Fn(u32, u64) -> Option<Hash>,
) -> Option<Vec<Hash>> {
    if !count.is_power_of_two() || !index.is_multiple_of(count) {
        return None;
    }
    let nodes = (0..count).map(|at| node(0, u64::from(index).checked_add(at.into())?));
    let first_uncle = count.trailing_zeros();
    let uncle = |above: u32| node(above, u64::from(index.checked_shr(above)?) ^ 1);
    // Those that have no sibling are no uncles: the root, first of all.
    let uncles =
        (first_uncle..=proof_layers).take(uncle_count(count, proof_layers) as usize).map(uncle);
    nodes.chain(uncles).collect()
}

/// How many uncles go with `count` hashes if `proof_layers` layers above them are to be proven: the siblings
/// of those nodes on the way up that cannot be computed from the hashes themselves.
pub const fn uncle_count(count: u32, proof_layers: u32) -> u32 {
    let height = height_above(count as u64);
    proof_layers.saturating_add(1).saturating_sub(height)
}

/// Whether `hashes`, of which the first `count` are nodes from `index` on and the others their uncles, lie
/// in a tree with this root, which is `height` above the nodes.
pub fn is_proven(hashes: &[Hash], index: u32, count: u32, height: u32, root: &Hash) -> bool {
    let Some((nodes, uncles)) = hashes.split_at_checked(count as usize) else { return false };
    let below = height_above(count.into());
    if !count.is_power_of_two()
        || !index.is_multiple_of(count)
        || height.checked_sub(below) != Some(uncles.len() as u32)
        || u64::from(index).checked_shr(height).unwrap_or(0) != 0
    {
        return false;
    }
    let (mut node, mut index) = (self::root(nodes, 0, below), index >> below.min(31));
    for uncle in uncles {
        node = if index & 1 == 1 { parent(uncle, &node) } else { parent(&node, uncle) };
        index >>= 1;
    }
    node == *root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn leaves(rng: &mut Rng, count: usize) -> Vec<Hash> {
        (0..count).map(|_| rng.bytes()).collect()
    }

    #[test]
    fn a_tree_is_filled_up_with_zeros() {
        let [a, b, c] = [[1; 32], [2; 32], [3; 32]];
        let by_hand = parent(&parent(&a, &b), &parent(&c, &[0; 32]));
        assert_eq!(root(&[a, b, c], 0, 2), by_hand);
        assert_eq!(root(&[a, b, c], 0, 3), parent(&by_hand, &pad(2)));
        assert_eq!(root(&[a], 0, 0), a);
        assert_eq!(root(&[], 0, 5), pad(5));
        assert_eq!(pad(1), parent(&[0; 32], &[0; 32]));
    }

    #[test]
    fn the_layers_of_a_tree_are_cut_anywhere_without_changing_its_root() {
        for seed in 0..100 {
            let mut rng = Rng::from_seed(seed);
            let count = 1 + rng.below(70);
            let leaves = leaves(&mut rng, count);
            let height = height_above(leaves.len() as u64);
            let whole = root(&leaves, 0, height);
            assert_eq!(Tree::new(&leaves, 0).root(), whole, "seed {seed}");
            let cut = rng.below(height as usize + 1) as u32;
            let nodes: Vec<Hash> =
                leaves.chunks(1 << cut).map(|under| root(under, 0, cut)).collect();
            assert_eq!(Tree::new(&nodes, cut).root(), whole, "seed {seed}");
            assert_eq!(root(&nodes, cut, height - cut), whole, "seed {seed}");
        }
    }

    #[test]
    fn what_a_tree_answers_is_proven_and_any_changed_bit_is_not() {
        for seed in 0..1000 {
            let mut rng = Rng::from_seed(seed);
            let count = 2 + rng.below(70);
            let tree = Tree::new(&leaves(&mut rng, count), 0);
            let (root, height) = (tree.root(), tree.height());
            let below = rng.below(height as usize + 1) as u32;
            let count = 1 << below;
            let index = rng.below(1 << (height - below)) as u32 * count;
            let proof_layers = height.saturating_sub(1);
            let mut hashes = tree.hashes(0, index, count, proof_layers).expect("there");
            assert_eq!(hashes.len() as u32, count + uncle_count(count, proof_layers));
            assert!(is_proven(&hashes, index, count, height, &root), "seed {seed}");
            let (at, byte) = (rng.below(hashes.len()), rng.below(32));
            hashes[at][byte] ^= 1 << rng.below(8);
            assert!(!is_proven(&hashes, index, count, height, &root), "seed {seed}");
        }
    }

    #[test]
    fn a_proof_that_is_too_short_too_long_or_of_another_place_is_none() {
        let mut rng = Rng::from_seed(1);
        let tree = Tree::new(&leaves(&mut rng, 16), 0);
        let hashes = tree.hashes(0, 4, 4, 3).expect("there");
        assert_eq!(hashes.len(), 6);
        let root = tree.root();
        assert!(is_proven(&hashes, 4, 4, 4, &root));
        assert!(!is_proven(&hashes[..5], 4, 4, 4, &root));
        assert!(!is_proven(&[&hashes[..], &hashes[5..]].concat(), 4, 4, 4, &root));
        for (index, count, height) in
            [(0, 4, 4), (8, 4, 4), (4, 2, 4), (4, 4, 3), (6, 4, 4), (4, 3, 4), (20, 4, 4)]
        {
            assert!(!is_proven(&hashes, index, count, height, &root), "{index} {count} {height}");
        }
        assert!(!is_proven(&[], 0, 0, 0, &root) && !is_proven(&[], 0, 1, u32::MAX, &root));
    }

    #[test]
    fn there_is_no_answer_beyond_the_tree() {
        let tree = Tree::new(&[[1; 32]; 5], 3);
        assert_eq!(
            tree.hashes(0, 4, 4, 0).expect("padding is there"),
            [[1; 32], pad(3), pad(3), pad(3)]
        );
        for (layer, index, count, proof_layers) in
            [(0, 8, 1, 0), (0, 0, 16, 0), (0, 0, 3, 0), (0, 1, 2, 0), (4, 0, 1, 0), (0, 0, 2, 3)]
        {
            assert_eq!(tree.hashes(layer, index, count, proof_layers), None);
        }
        assert_eq!(tree.hashes(u32::MAX, u32::MAX - 1, 2, u32::MAX), None);
        assert_eq!(tree.hashes(0, 0, 0, 0), None);
    }
}
