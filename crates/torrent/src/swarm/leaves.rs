//! The hashes of blocks, for peers that ask ([BEP 52]): they stand in no torrent file, so they are computed from what
//! is on the disk, for one question after another, and kept for a while for those who ask next.
//!
//! Who asks wants to know which block of a wrong piece is wrong, or to check each block as it comes. The answer is
//! short and costs us much reading, so there is a limit on that.
//!
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;

use super::hashes::Hashes;
use super::{Output, PeerKey, Swarm};
use crate::PieceIndex;
use crate::metainfo::PieceLayers;
use crate::metainfo::merkle::{self, Hash, Tree};
use crate::wire::{HASHES_MAX, HashRequest, Message};

/// The trees of pieces down to their blocks, as far as they are known, and who waits for others.
#[derive(Debug)]
pub(super) struct Leaves {
    known: BTreeMap<PieceIndex, Tree>,
    /// In the order in which they came: the first gives way.
    order: VecDeque<PieceIndex>,
    /// How many blocks the known ones have.
    count: usize,
    /// The pieces of the first are being hashed.
    waiting: VecDeque<(PeerKey, HashRequest)>,
    /// How many blocks may be hashed still; below 0 more was than should be.
    allowance: i64,
    allowed_at: Option<Instant>,
}

impl Default for Leaves {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            order: VecDeque::new(),
            count: 0,
            waiting: VecDeque::new(),
            allowance: BLOCKS_PER_SECOND,
            allowed_at: None,
        }
    }
}

/// What is done about a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Now(Bytes),
    /// When these pieces have been hashed, so many blocks.
    Later {
        pieces: Range<u32>,
        blocks: u32,
    },
    Never,
}

impl Leaves {
    fn keep(&mut self, piece: PieceIndex, tree: Tree) {
        self.count += 1 << tree.height();
        if let Some(before) = self.known.insert(piece, tree) {
            self.count -= 1 << before.height();
        } else {
            self.order.push_back(piece);
        }
    }

    /// Forgets the first, until few enough are left.
    fn trim(&mut self) {
        while self.count > BLOCKS_KEPT_MAX
            && let Some(first) = self.order.pop_front()
        {
            let gone = self.known.remove(&first);
            self.count -= gone.map_or(0, |tree| 1 << tree.height());
        }
    }

    fn refill(&mut self, now: Instant) {
        let before = *self.allowed_at.get_or_insert(now);
        let seconds = now.saturating_duration_since(before).as_secs();
        if seconds > 0 {
            let more = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(BLOCKS_PER_SECOND);
            self.allowance = self.allowance.saturating_add(more).min(BLOCKS_PER_SECOND);
            self.allowed_at = Some(now);
        }
    }
}

impl Hashes {
    /// What answers a question.
    pub(super) fn answer(&mut self, request: &HashRequest) -> Answer {
        self.try_answer(request).unwrap_or(Answer::Never)
    }

    fn try_answer(&mut self, request: &HashRequest) -> Option<Answer> {
        let layers = self.layers.as_ref()?;
        let file = layers.file_of(&request.root)?;
        if request.count > HASHES_MAX {
            return None;
        }
        let alone;
        let tree = if layers.layer_len(file) == 0 {
            alone = layers.tree(file)?;
            &alone
        } else {
            if let std::collections::btree_map::Entry::Vacant(place) = self.trees.entry(file) {
                place.insert(layers.tree(file)?);
            }
            self.trees.get(&file)?
        };
        let trunk = layers.trunk(file);
        if let Some(layer) = request.base.checked_sub(trunk) {
            let found = tree.hashes(layer, request.index, request.count, request.proof_layers)?;
            return Some(Answer::Now(found.concat().into()));
        }
        let pieces = pieces_of(layers, file, request)?;
        if !pieces.clone().all(|piece| self.leaves.known.contains_key(&PieceIndex(piece))) {
            let blocks = u32::try_from(pieces.len()).ok()?.checked_mul(1 << trunk)?;
            return (blocks <= BLOCKS_MAX).then_some(Answer::Later { pieces, blocks });
        }
        let first = layers.layout().file_pieces(file).start;
        let nothing = Tree::below(&[], 0, trunk);
        let node = |above: u32, index: u64| {
            let layer = request.base.checked_add(above)?;
            let Some(below) = trunk.checked_sub(layer).filter(|&below| below > 0) else {
                return tree.node(layer - trunk, index);
            };
            let piece = index >> below;
            if piece >= 1 << tree.height() {
                return None;
            }
            let known = u32::try_from(piece).ok().and_then(|piece| first.checked_add(piece));
            let known = known.and_then(|piece| self.leaves.known.get(&PieceIndex(piece)));
            known.unwrap_or(&nothing).node(layer, index - (piece << below))
        };
        let HashRequest { index, count, proof_layers, .. } = *request;
        let found = merkle::run(index, count, proof_layers, node)?;
        Some(Answer::Now(found.concat().into()))
    }
}

/// The pieces whose blocks must be known for an answer; there are none where only padding is asked about.
fn pieces_of(layers: &PieceLayers, file: usize, request: &HashRequest) -> Option<Range<u32>> {
    if !request.count.is_power_of_two() || !request.index.is_multiple_of(request.count) {
        return None;
    }
    let below = layers.trunk(file).checked_sub(request.base)?;
    let last = request.index.checked_add(request.count - 1)?;
    let all = layers.layout().file_pieces(file);
    let at = |index: u32| all.start.saturating_add(index >> below.min(31)).min(all.end);
    Some(at(request.index)..at(last).saturating_add(1).min(all.end))
}

impl Swarm {
    /// Takes in a question whose answer has to be computed. Returns whether it will be.
    pub(super) fn hash_for(
        &mut self,
        key: PeerKey,
        request: HashRequest,
        pieces: Range<u32>,
        blocks: u32,
    ) -> bool {
        let have = self.picker.have();
        let leaves = &mut self.hashes.leaves;
        let of_peer = leaves.waiting.iter().filter(|(other, _)| *other == key).count();
        if self.is_paused
            || !pieces.clone().all(|piece| have.has(PieceIndex(piece)))
            || leaves.waiting.len() >= WAITING_MAX
            || of_peer >= WAITING_PER_PEER_MAX
            || leaves.allowance <= 0
        {
            return false;
        }
        leaves.allowance -= i64::from(blocks);
        leaves.waiting.push_back((key, request));
        if leaves.waiting.len() == 1 {
            self.outputs.push_back(Output::HashBlocks(pieces.map(PieceIndex).collect()));
        }
        true
    }

    /// What an [`Output::HashBlocks`] asked for: of each of its pieces the SHA-256 of all blocks, without padding
    /// behind the end of its file. What cannot be read is left out.
    pub fn handle_block_hashes(&mut self, found: Vec<(PieceIndex, Vec<Hash>)>) {
        let Some(layers) = self.hashes.layers.clone() else { return };
        for (piece, blocks) in found {
            let Some(check) = layers.check(piece) else { continue };
            let tree = Tree::below(&blocks, 0, check.height);
            // What was damaged since it was verified is no answer.
            if blocks.len() <= 1 << check.height && tree.root() == check.root {
                self.hashes.leaves.keep(piece, tree);
            }
        }
        if let Some((key, request)) = self.hashes.leaves.waiting.pop_front() {
            let answer = self.hashes.answer(&request);
            self.tell_hashes(key, request, answer);
        }
        self.hashes.leaves.trim();
        self.hash_next();
    }

    /// Answers those whose pieces were hashed for others, up to the first that has to wait for its own.
    fn hash_next(&mut self) {
        while let Some((key, request)) = self.hashes.leaves.waiting.front().copied() {
            match self.hashes.answer(&request) {
                Answer::Later { pieces, .. } if self.peers.contains_key(&key) => {
                    self.outputs.push_back(Output::HashBlocks(pieces.map(PieceIndex).collect()));
                    return;
                }
                answer => self.tell_hashes(key, request, answer),
            }
            self.hashes.leaves.waiting.pop_front();
        }
    }

    fn tell_hashes(&mut self, key: PeerKey, request: HashRequest, answer: Answer) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.send(&match answer {
            Answer::Now(hashes) => Message::Hashes { request, hashes },
            Answer::Later { .. } | Answer::Never => Message::HashReject(request),
        });
        self.dirty.push(key);
    }

    /// Called every tick.
    pub(super) fn tick_leaves(&mut self, now: Instant) {
        self.hashes.leaves.refill(now);
    }

    /// Keeps no hashes of blocks for peers that are not there.
    pub(super) fn forget_leaves(&mut self) {
        let leaves = &mut self.hashes.leaves;
        (leaves.known, leaves.order, leaves.count) = Default::default();
    }
}

/// Blocks that are hashed for peers: 16 MiB a second are read for that of each torrent. A longer piece is hashed at
/// once, and others wait the longer.
const BLOCKS_PER_SECOND: i64 = 1024;
/// Blocks that one question may be about, as many as there are hashes in an answer.
const BLOCKS_MAX: u32 = HASHES_MAX;
/// Blocks whose hashes are kept: 2 MiB, with what is above them.
const BLOCKS_KEPT_MAX: usize = 32 * 1024;
/// Questions that wait for pieces to be hashed.
const WAITING_MAX: usize = 64;
const WAITING_PER_PEER_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::hashes::testing::{bare, give, world_of};
    use super::super::world::{World, plain};
    use super::*;
    use crate::metainfo::Metainfo;
    use crate::metainfo::create::Format;
    use crate::{BLOCK_LEN, Rng};

    /// A seed of pieces of four blocks each, the last of which is short, and a stranger to ask it.
    fn seed(blocks: u32) -> (World, Metainfo, usize, usize) {
        let (mut world, whole) = world_of(blocks, 4 * BLOCK_LEN, Format::V2);
        let (seed, stranger) = (world.seed(), world.leech());
        give(&mut world, seed, &whole);
        // The stranger is there to ask, and not to become a seed.
        (world.hosts[seed].upload_per_step, world.hosts[seed].upload_left) = (0, 0);
        world.connect_with(seed, stranger, plain());
        (world, whole, seed, stranger)
    }

    /// What it answers.
    fn ask(world: &mut World, seed: usize, stranger: usize, request: HashRequest) -> Message {
        world.hosts[stranger].heard = Some(Vec::new());
        world.inject(stranger, seed, &[Message::HashRequest(request)]);
        let heard = world.hosts[stranger].heard.take().unwrap_or_default();
        let is_answer =
            |message: &Message| matches!(message, Message::Hashes { .. } | Message::HashReject(_));
        let mut answers = heard.into_iter().filter(is_answer);
        match (answers.next(), answers.next()) {
            (Some(answer), None) => answer,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    #[test]
    fn every_node_of_a_tree_is_told_with_its_proof() {
        for blocks in [2, 3, 4, 5, 8, 30] {
            let (mut world, whole, seed, stranger) = seed(blocks);
            let layers = whole.layers().expect("v2");
            let root = layers.root(0).expect("not empty");
            let leaves: Vec<Hash> = world.data.chunks(BLOCK_LEN as usize).map(hash).collect();
            let tree = Tree::new(&leaves, 0);
            assert_eq!(tree.root(), root);
            for base in 0..tree.height() {
                for count in (1..=tree.height() - base).map(|height| 1 << height) {
                    for index in (0..1 << (tree.height() - base)).step_by(count as usize) {
                        let proof_layers = tree.height() - base - 1;
                        let request = HashRequest { root, base, index, count, proof_layers };
                        let told = ask(&mut world, seed, stranger, request);
                        let right = tree.hashes(base, index, count, proof_layers).expect("there");
                        let hashes = right.concat().into();
                        assert_eq!(told, Message::Hashes { request, hashes }, "{blocks} blocks");
                    }
                }
            }
        }
    }

    fn hash(block: &[u8]) -> Hash {
        use sha2::{Digest, Sha256};
        Sha256::digest(block).into()
    }

    #[test]
    fn whatever_is_asked_there_is_an_answer_that_proves_itself_or_a_refusal() {
        let (mut world, whole, seed, stranger) = seed(30);
        let root = whole.layers().expect("v2").root(0).expect("not empty");
        let (mut told_count, mut rng) = (0, Rng::from_seed(1));
        for number in 0..1000 {
            if number % 10 == 0 {
                world.run(1);
            }
            let mut number = || match rng.below(8) {
                0 => rng.u32(),
                1 => 1 << rng.below(32),
                2 | 3 => rng.below(9) as u32,
                _ => rng.below(3) as u32,
            };
            let (base, index, count, proof_layers) = (number(), number(), number(), number());
            let request = HashRequest { root, base, index, count, proof_layers };
            if let Message::Hashes { hashes, .. } = ask(&mut world, seed, stranger, request) {
                assert_eq!(hashes.len() as u32, request.answer_count() * 32, "{request:?}");
                told_count += 1;
                if proof_layers + 1 == 5 - base {
                    let (nodes, _) = hashes.as_chunks();
                    assert!(merkle::is_proven(nodes, index, count, 5 - base, &root));
                }
            }
            assert!(world.hosts[seed].faults.is_empty());
        }
        assert!(told_count > 50, "{told_count}");
    }

    #[test]
    fn what_is_not_here_or_was_damaged_is_refused() {
        let (mut world, whole, seed, stranger) = seed(8);
        let root = whole.layers().expect("v2").root(0).expect("not empty");
        let request = HashRequest { root, base: 0, index: 4, count: 4, proof_layers: 0 };
        world.hosts[seed].disk[5 * BLOCK_LEN as usize] ^= 1;
        let told = ask(&mut world, seed, stranger, request);
        assert_eq!(told, Message::HashReject(request));
        // The hashes of this piece it knows, and not those of its blocks.
        let (mut world, whole, ..) = self::seed(8);
        let (leech, stranger) = (world.leech(), world.leech());
        give(&mut world, leech, &whole);
        world.connect_with(leech, stranger, plain());
        let told = ask(&mut world, leech, stranger, request);
        assert_eq!(told, Message::HashReject(request));
        let bare = bare(&whole);
        give(&mut world, leech, &bare);
        assert_eq!(ask(&mut world, leech, stranger, request), Message::HashReject(request));
    }

    #[test]
    fn nobody_has_us_read_the_whole_disk() {
        let (mut world, whole, seed, stranger) = seed(4096);
        let root = whole.layers().expect("v2").root(0).expect("not empty");
        let mut answered = Vec::new();
        for at in 0..32 {
            if at == 16 {
                world.run(2);
            }
            let request =
                HashRequest { root, base: 0, index: at * 128, count: 128, proof_layers: 0 };
            let told = ask(&mut world, seed, stranger, request);
            answered.extend(matches!(told, Message::Hashes { .. }).then_some(at));
        }
        // A thousand blocks a second.
        assert_eq!(answered, [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23]);
        assert!(world.hosts[seed].faults.is_empty());
        let leaves = &world.hosts[seed].swarm.hashes.leaves;
        assert!(leaves.count <= BLOCKS_KEPT_MAX && leaves.known.len() == leaves.order.len());
        world.disconnect(seed, stranger);
        assert_eq!(world.hosts[seed].swarm.hashes.leaves.count, 0);
    }
}
