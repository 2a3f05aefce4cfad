//! The hashes of version 2 that stand in no info dictionary ([BEP 52]): asked of peers, proven, and given to
//! them.
//!
//! Who has a torrent from a magnet link knows the root of each file, and not what its pieces must be. Until that
//! is known nothing of the file is asked for, as if it were not wanted: it could not be verified. A hybrid
//! torrent has the hashes of version 1, and waits for nothing.
//!
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::dispute::Dispute;
use super::leaves::{Answer, Leaves};
use super::peer::Peer;
use super::{Output, PeerKey, Swarm};
use crate::metainfo::PieceLayers;
use crate::metainfo::merkle::{self, Hash, Tree};
use crate::wire::{HashRequest, Message};
use crate::{PeerFault, PieceIndex};

/// The hashes of a torrent, and what is done to have them all.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    /// `None` if the torrent is of version 1 only.
    pub(super) layers: Option<Arc<PieceLayers>>,
    /// It has no other hashes, so that all its peers know these.
    is_alone: bool,
    /// Files whose hashes have not been asked for yet.
    waiting: BTreeSet<usize>,
    gathered: BTreeMap<usize, Gathered>,
    /// Pieces that cannot be verified yet, and how much they are wanted.
    hidden: BTreeMap<PieceIndex, u8>,
    /// Those of them that may be on the disk already: they are looked at before they are asked for.
    held: BTreeSet<PieceIndex>,
    /// What is above the hashes of pieces, of files that peers have asked about. It takes as much memory as these.
    pub(super) trees: BTreeMap<usize, Tree>,
    /// What is below them.
    pub(super) leaves: Leaves,
    /// Pieces that came wrong, of which it is asked which blocks are.
    pub(super) disputes: BTreeMap<PieceIndex, Dispute>,
}

/// The hashes of one file's pieces, while they come.
#[derive(Debug)]
struct Gathered {
    hashes: Vec<Hash>,
    /// [`RUN_LEN`] hashes each.
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Free,
    Asked,
    Here,
}

/// What a peer is asked for hashes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To know those of a file's pieces.
    Pieces { file: usize },
    /// To know which blocks of a piece are wrong.
    Blocks { piece: PieceIndex },
}

/// Hashes that a peer was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskedHashes {
    pub(super) request: HashRequest,
    pub(super) purpose: Purpose,
    pub(super) at: Instant,
}

/// What one peer owes us of it, and may ask of us.
#[derive(Debug)]
pub(super) struct HashDealings {
    pub(super) asked: Vec<AskedHashes>,
    /// It is not asked before: it had none, or was too slow.
    pub(super) ask_from: Instant,
    /// What it may be given in this second still, in hashes.
    allowance: u32,
}

impl HashDealings {
    pub(super) const fn new(now: Instant) -> Self {
        Self { asked: Vec::new(), ask_from: now, allowance: ALLOWANCE }
    }

    /// The peer may have more.
    pub(super) const fn restore(&mut self) {
        self.allowance = ALLOWANCE;
    }
}

impl Hashes {
    /// Whether nothing that is wanted waits for its hashes, nor anybody for some.
    pub(super) fn is_settled(&self) -> bool {
        !self.has_wishes() && self.hidden.values().all(|priority| *priority == 0)
    }

    /// Notes how much a piece is wanted that cannot be verified yet. Returns whether it is one.
    pub(super) fn hide(&mut self, piece: PieceIndex, priority: u8) -> bool {
        self.hidden.get_mut(&piece).map(|hidden| *hidden = priority).is_some()
    }

    /// The next hashes to ask for: of which file, which run of them.
    fn next(&mut self) -> Option<(usize, usize)> {
        let layers = self.layers.as_ref()?;
        let free = |(&file, gathered): (&usize, &Gathered)| {
            let at = gathered.runs.iter().position(|run| *run == Run::Free)?;
            Some((file, at))
        };
        if let Some(found) = self.gathered.iter().find_map(free) {
            return Some(found);
        }
        if self.gathered.len() >= FILES_AT_ONCE {
            return None;
        }
        let file = self.waiting.pop_first()?;
        let len = layers.layer_len(file);
        let gathered = Gathered {
            hashes: vec![[0; 32]; len as usize],
            runs: vec![Run::Free; len.div_ceil(RUN_LEN) as usize],
        };
        self.gathered.insert(file, gathered);
        Some((file, 0))
    }

    fn request(&self, file: usize, run: usize) -> Option<HashRequest> {
        let layers = self.layers.as_ref()?;
        let height = merkle::height_above(layers.layer_len(file).into());
        Some(HashRequest {
            root: layers.root(file)?,
            base: layers.piece_height(),
            index: run as u32 * RUN_LEN,
            count: RUN_LEN.min(1 << height.min(31)),
            proof_layers: height.saturating_sub(1),
        })
    }

    /// What a peer was asked for, others may be asked for.
    fn release(&mut self, key: PeerKey, asked: &AskedHashes) {
        let file = match asked.purpose {
            Purpose::Pieces { file } => file,
            Purpose::Blocks { piece } => return self.dispute_again(key, piece),
        };
        let request = &asked.request;
        let run = (request.index / RUN_LEN) as usize;
        let run = self.gathered.get_mut(&file).and_then(|gathered| gathered.runs.get_mut(run));
        if let Some(run) = run {
            *run = Run::Free;
        }
    }

    /// Takes hashes that are proven. Returns whether they were the last of their file.
    fn take(&mut self, file: usize, request: &HashRequest, nodes: &[Hash]) -> bool {
        let Some(gathered) = self.gathered.get_mut(&file) else { return false };
        let places = gathered.hashes.iter_mut().skip(request.index as usize);
        places.zip(nodes).for_each(|(place, node)| *place = *node);
        if let Some(run) = gathered.runs.get_mut((request.index / RUN_LEN) as usize) {
            *run = Run::Here;
        }
        gathered.runs.iter().all(|run| *run == Run::Here)
    }
}

impl Swarm {
    /// The torrent is of version 2: with these hashes it is verified, and what of them is missing is asked of peers.
    /// `is_alone` says that it is not of version 1, too. To be called before peers say what they have, or before that
    /// is counted anew.
    pub fn set_hashes(&mut self, layers: &Arc<PieceLayers>, is_alone: bool) {
        let missing: BTreeSet<usize> = layers.missing().collect();
        if is_alone {
            let pieces = missing.iter().flat_map(|&file| self.layout.file_pieces(file));
            let have = self.picker.have().clone();
            for piece in pieces.map(PieceIndex).filter(|&piece| !have.has(piece)) {
                self.hashes.hidden.insert(piece, self.picker.priority(piece));
                self.picker.set_priority(piece, 0);
            }
        }
        self.hashes.layers = Some(Arc::clone(layers));
        self.hashes.is_alone = is_alone;
        self.hashes.waiting = missing;
    }

    /// These pieces may be on the disk though their hashes are not known: once they are, it is to be
    /// [seen](Output::Recheck) before they are asked for. To be called after [`set_hashes`](Self::set_hashes).
    pub fn hold(&mut self, pieces: &[PieceIndex]) {
        let hidden = &self.hashes.hidden;
        let held = pieces.iter().copied().filter(|piece| hidden.contains_key(piece));
        self.hashes.held = held.collect();
    }

    /// What was seen of a piece that an [`Output::Recheck`] asked about.
    pub fn handle_rechecked(&mut self, piece: PieceIndex, is_here: bool) {
        self.show(piece);
        if is_here {
            self.add_piece(piece);
        }
        self.supply += 1;
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        keys.into_iter().for_each(|key| self.update_interest(key));
        self.complete_if_all_is_here();
    }

    pub(super) fn knows_hashes(&self, peer: &Peer) -> bool {
        self.hashes.layers.is_some() && (self.hashes.is_alone || peer.reserved.has_v2())
    }

    /// Asks a peer for hashes that we lack: in a pause, too, for they are no data.
    pub(super) fn ask_for_hashes(&mut self, now: Instant, key: PeerKey) {
        let Hashes { waiting, gathered, disputes, .. } = &self.hashes;
        let is_idle = waiting.is_empty() && gathered.is_empty() && disputes.is_empty();
        let Some(peer) = self.peers.get(&key).filter(|_| !is_idle) else {
            return;
        };
        if !self.knows_hashes(peer) {
            return;
        }
        self.ask_about_blocks(now, key);
        let Self { hashes, peers, dirty, .. } = self;
        let Some(peer) = peers.get_mut(&key).filter(|peer| peer.hashes.ask_from <= now) else {
            return;
        };
        while peer.hashes.asked.len() < ASKED_MAX {
            let Some((file, run)) = hashes.next() else { return };
            let Some(request) = hashes.request(file, run) else { return };
            if let Some(gathered) = hashes.gathered.get_mut(&file) {
                gathered.runs[run] = Run::Asked;
            }
            let purpose = Purpose::Pieces { file };
            peer.hashes.asked.push(AskedHashes { request, purpose, at: now });
            peer.send(&Message::HashRequest(request));
            dirty.push(key);
        }
    }

    /// Does not wait any longer for what a peer owes, and asks it for more.
    pub(super) fn tick_hashes(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let is_late = |asked: &AskedHashes| {
            let patience = match asked.purpose {
                Purpose::Pieces { .. } => ANSWER_PATIENCE,
                Purpose::Blocks { .. } => BLOCKS_PATIENCE,
            };
            now.saturating_duration_since(asked.at) >= patience
        };
        if peer.hashes.asked.iter().any(is_late) {
            peer.hashes.ask_from = now + ASK_AGAIN_AFTER;
            self.forget_hash_requests(key);
        }
        self.ask_for_hashes(now, key);
    }

    /// What the peer was asked for may be asked of others.
    pub(super) fn forget_hash_requests(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        for asked in peer.hashes.asked.drain(..) {
            self.hashes.release(key, &asked);
        }
    }

    pub(super) fn handle_hash_request(
        &mut self,
        key: PeerKey,
        request: HashRequest,
    ) -> Result<(), PeerFault> {
        let Some(peer) = self.peers.get(&key) else { return Ok(()) };
        // While we have a link only, we cannot know of which version the torrent is.
        if !self.knows_hashes(peer) && !self.is_awaiting_metadata() {
            return Err(PeerFault::NotNegotiated);
        }
        let cost = request.count.saturating_add(REQUEST_COST);
        let is_affordable = cost <= peer.hashes.allowance;
        let answer = if is_affordable { self.hashes.answer(&request) } else { Answer::Never };
        let is_refused = match &answer {
            Answer::Now(_) => false,
            Answer::Later { pieces, blocks } => {
                !self.hash_for(key, request, pieces.clone(), *blocks)
            }
            Answer::Never => true,
        };
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        self.dirty.push(key);
        if is_refused {
            peer.send(&Message::HashReject(request));
            return peer.spend_patience();
        }
        peer.hashes.allowance = peer.hashes.allowance.saturating_sub(cost);
        if let Answer::Now(hashes) = answer {
            peer.send(&Message::Hashes { request, hashes });
        }
        Ok(())
    }

    pub(super) fn handle_hashes(
        &mut self,
        now: Instant,
        key: PeerKey,
        request: &HashRequest,
        hashes: &Bytes,
    ) -> Result<(), PeerFault> {
        let Some(asked) = self.take_hash_request(key, request)? else { return Ok(()) };
        let Some(layers) = self.hashes.layers.clone() else { return Ok(()) };
        let (nodes, _) = hashes.as_chunks();
        let is_proven = match asked.purpose {
            Purpose::Pieces { file } => {
                let height = merkle::height_above(layers.layer_len(file).into());
                merkle::is_proven(nodes, request.index, request.count, height, &request.root)
            }
            Purpose::Blocks { piece } => {
                layers.check(piece).is_some_and(|tree| tree.matches(nodes))
            }
        };
        if !is_proven {
            self.hashes.release(key, &asked);
            if let Some(ip) = self.peers.get(&key).map(Peer::ip) {
                self.ban(ip);
            }
            return Err(PeerFault::FalseHashes);
        }
        match asked.purpose {
            Purpose::Pieces { file } => {
                if self.hashes.take(file, request, nodes) {
                    self.complete_file_hashes(&layers, file);
                }
            }
            Purpose::Blocks { piece } => self.settle(piece, nodes),
        }
        self.ask_for_hashes(now, key);
        Ok(())
    }

    pub(super) fn handle_hash_reject(
        &mut self,
        now: Instant,
        key: PeerKey,
        request: &HashRequest,
    ) -> Result<(), PeerFault> {
        let Some(asked) = self.take_hash_request(key, request)? else { return Ok(()) };
        self.hashes.release(key, &asked);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.hashes.ask_from = now + ASK_AGAIN_AFTER;
        }
        Ok(())
    }

    /// What was asked for; `None` if it was not, or so long ago that it was given up.
    fn take_hash_request(
        &mut self,
        key: PeerKey,
        request: &HashRequest,
    ) -> Result<Option<AskedHashes>, PeerFault> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(None) };
        let at = peer.hashes.asked.iter().position(|asked| asked.request == *request);
        let Some(at) = at else {
            for _ in 0..UNASKED_COST {
                peer.spend_patience()?;
            }
            return Ok(None);
        };
        Ok(Some(peer.hashes.asked.swap_remove(at)))
    }

    /// All hashes of a file's pieces are here: it may be downloaded, and all that are equal to it.
    fn complete_file_hashes(&mut self, layers: &PieceLayers, file: usize) {
        let Some(gathered) = self.hashes.gathered.remove(&file) else { return };
        // If they are not right together, though each is proven, nobody can have this file: whoever made the torrent put
        // something other than zeros behind its end.
        if !layers.put(file, gathered.hashes.concat().into()) {
            return;
        }
        let layout = Arc::clone(&self.layout);
        for file in layers.equal_files(file) {
            self.hashes.waiting.remove(&file);
            self.hashes.gathered.remove(&file);
            let pieces = layout.file_pieces(file).map(PieceIndex);
            let (held, others): (Vec<PieceIndex>, Vec<PieceIndex>) =
                pieces.partition(|piece| self.hashes.held.remove(piece));
            others.into_iter().for_each(|piece| self.show(piece));
            if !held.is_empty() {
                self.outputs.push_back(Output::Recheck(held));
            }
        }
        self.supply += 1;
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        keys.into_iter().for_each(|key| self.update_interest(key));
        if self.hashes.waiting.is_empty() && self.hashes.gathered.is_empty() {
            self.outputs.push_back(Output::HashesKnown);
        }
    }

    /// A piece can be verified: it is wanted as much as ever.
    fn show(&mut self, piece: PieceIndex) {
        let Some(priority) = self.hashes.hidden.remove(&piece) else { return };
        self.picker.set_priority(piece, priority);
        if self.picker.is_wanted(piece) {
            for peer in self.peers.values_mut().filter(|peer| peer.bits.has(piece)) {
                peer.interesting += 1;
                peer.starved_at = None;
            }
        }
    }
}

/// Hashes asked for at once, as the specification proposes.
const RUN_LEN: u32 = 512;
/// Requests for hashes that one peer may owe us.
pub(super) const ASKED_MAX: usize = 4;
/// Files whose hashes are gathered at the same time.
const FILES_AT_ONCE: usize = 64;
/// Hashes that one peer is given in a second, at most: 2 MiB. Beyond that it is told that there are none.
const ALLOWANCE: u32 = 64 * 1024;
/// What a question costs beside the hashes that it asks for, as if these were more.
const REQUEST_COST: u32 = 16;
/// Hashes that nobody asked for count as so many control messages.
const UNASKED_COST: u32 = 20;
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
/// Shorter for a piece in dispute, for which others are to be asked in time.
const BLOCKS_PATIENCE: Duration = Duration::from_secs(5);
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Worlds of version 2.
#[cfg(test)]
pub(super) mod testing {
    use sha1::Sha1;
    use sha2::{Digest, Sha256};

    use super::super::world::World;
    use super::*;
    use crate::BLOCK_LEN;
    use crate::metainfo::Metainfo;
    use crate::metainfo::create::{Builder, Format, PieceHashes};

    /// A world of one file of so many blocks, the last of which is a bit shorter, and its torrent.
    pub(in super::super) fn world_of(
        block_count: u32,
        piece_len: u32,
        format: Format,
    ) -> (World, Metainfo) {
        let len = u64::from(block_count) * u64::from(BLOCK_LEN) - 5;
        let mut world = World::new(len, piece_len);
        let builder = Builder {
            format,
            name: b"x".to_vec(),
            files: vec![(Vec::new(), len)],
            piece_len: Some(piece_len),
            ..Builder::default()
        };
        let layout = builder.layout().expect("fits");
        let root = |(piece, data): (u32, &[u8])| {
            let blocks = data.chunks(BLOCK_LEN as usize);
            let blocks: Vec<Hash> = blocks.map(|block| Sha256::digest(block).into()).collect();
            merkle::root(&blocks, 0, layout.tree_shape(PieceIndex(piece)).1)
        };
        let pieces = || world.data.chunks(piece_len as usize);
        let v1 = pieces().filter(|_| format.has_v1()).map(|piece| Sha1::digest(piece).into());
        let hashes = PieceHashes { v1: v1.collect(), v2: (0..).zip(pieces()).map(root).collect() };
        let metainfo = Metainfo::parse(&builder.finish_as(&hashes).expect("fits")).expect("valid");
        world.layout = Arc::clone(metainfo.layout());
        (world, metainfo)
    }

    /// The same, as from a magnet link.
    pub(in super::super) fn bare(metainfo: &Metainfo) -> Metainfo {
        Metainfo::parse(&[b"d4:info", metainfo.info_bytes(), b"e"].concat()).expect("valid")
    }

    pub(in super::super) fn give(world: &mut World, host: usize, metainfo: &Metainfo) {
        let is_alone = metainfo.format() == Format::V2;
        let layers = metainfo.layers().expect("of version 2");
        world.hosts[host].swarm.set_hashes(layers, is_alone);
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, plain};
    use super::testing::{bare, give, world_of};
    use super::*;
    use crate::metainfo::Metainfo;
    use crate::metainfo::create::Format;
    use crate::wire::Reserved;
    use crate::{BLOCK_LEN, Rng};

    /// A world of one file of so many pieces of one block each, and its torrent.
    fn world(piece_count: u32, format: Format) -> (World, Metainfo) {
        world_of(piece_count, BLOCK_LEN, format)
    }

    fn count(world: &World, host: usize, event: &str) -> usize {
        world.hosts[host].events.iter().filter(|told| *told == event).count()
    }

    #[test]
    fn from_a_magnet_link_the_hashes_come_first_and_then_the_pieces() {
        for piece_count in [2, 3, 700] {
            let (mut world, whole) = world(piece_count, Format::V2);
            let (seed, leech) = (world.seed(), world.leech());
            let known = bare(&whole);
            give(&mut world, seed, &whole);
            give(&mut world, leech, &known);
            assert!(!world.hosts[leech].swarm.is_completed());
            world.connect_with(leech, seed, plain());
            world.run(30);
            assert!(world.is_done(leech), "{piece_count} pieces");
            assert_eq!(world.hosts[leech].events[0], "hashes known");
            assert_eq!(known.to_file(), whole.as_bytes());
        }
    }

    #[test]
    fn a_paused_swarm_learns_the_hashes_and_takes_no_piece() {
        let (mut world, whole) = world(700, Format::V2);
        let (seed, leech) = (world.seed(), world.leech());
        let known = bare(&whole);
        give(&mut world, seed, &whole);
        give(&mut world, leech, &known);
        world.hosts[leech].swarm.set_paused(world.now, true);
        world.connect_with(leech, seed, plain());
        world.run(30);
        assert_eq!(known.to_file(), whole.as_bytes());
        assert_eq!(world.hosts[leech].swarm.downloaded(), 0);
        world.hosts[leech].swarm.set_paused(world.now, false);
        world.run(30);
        assert!(world.is_done(leech));
    }

    #[test]
    fn nothing_is_asked_for_that_could_not_be_verified() {
        let (mut world, whole) = world(8, Format::V2);
        let known = bare(&whole);
        // It has all pieces and, as it says, no hashes.
        let (seed, leech) = (world.seed(), world.leech());
        give(&mut world, seed, &bare(&whole));
        give(&mut world, leech, &known);
        world.connect(leech, seed);
        world.run(60);
        assert_eq!(world.hosts[leech].events, [""; 0]);
        assert!(world.hosts[leech].faults.is_empty() && world.hosts[seed].faults.is_empty());
        let other = world.seed();
        give(&mut world, other, &whole);
        world.connect(leech, other);
        world.run(30);
        assert!(world.is_done(leech));
    }

    #[test]
    fn what_may_be_on_the_disk_is_looked_at_before_it_is_asked_for() {
        let (mut world, whole) = world(8, Format::V2);
        let (seed, leech) = (world.seed(), world.leech());
        give(&mut world, seed, &whole);
        give(&mut world, leech, &bare(&whole));
        let held: Vec<PieceIndex> = (2..7).map(PieceIndex).collect();
        world.hosts[leech].swarm.hold(&held);
        // Two of them are here indeed.
        let here = 3 * BLOCK_LEN as usize..5 * BLOCK_LEN as usize;
        world.hosts[leech].disk[here.clone()].copy_from_slice(&world.data[here]);
        world.connect_with(leech, seed, plain());
        world.run(30);
        assert!(world.is_done(leech));
        assert_eq!(world.hosts[leech].events[..2], ["rechecked 5", "hashes known"]);
        let fetched = world.hosts[leech].swarm.downloaded();
        assert_eq!(fetched, 6 * u64::from(BLOCK_LEN) - 5);
        assert_eq!(count(&world, leech, "completed"), 1);
        assert!(world.hosts[leech].events.contains(&"verified 3".to_owned()));
    }

    #[test]
    fn what_is_unwanted_stays_so_when_its_hashes_come() {
        let (mut world, whole) = world(8, Format::V2);
        let (seed, leech) = (world.seed(), world.leech());
        give(&mut world, seed, &whole);
        give(&mut world, leech, &bare(&whole));
        world.hosts[leech].swarm.set_priorities(&[0, 0, 0, 4, 0, 0, 0, 0]);
        world.connect(leech, seed);
        world.run(30);
        assert_eq!(world.hosts[leech].events, ["hashes known", "verified 3", "completed"]);
    }

    #[test]
    fn a_hybrid_does_not_wait_and_asks_who_knows_version_2() {
        let (mut world, whole) = world(8, Format::Hybrid);
        let (seed, leech) = (world.seed(), world.leech());
        let known = bare(&whole);
        give(&mut world, seed, &whole);
        give(&mut world, leech, &known);
        world.connect(leech, seed);
        world.run(30);
        assert!(world.is_done(leech) && count(&world, leech, "hashes known") == 0);
        let other = world.leech();
        let known = bare(&whole);
        give(&mut world, other, &known);
        world.connect_with(other, seed, Reserved::ours().with_v2());
        world.run(30);
        assert!(world.is_done(other) && count(&world, other, "hashes known") == 1);
        assert!(known.layers().expect("v2").is_whole());
    }

    #[test]
    fn a_peer_whose_proof_lies_is_banned_and_another_asked() {
        let (mut world, whole) = world(600, Format::V2);
        let (liar, leech) = (world.seed(), world.leech());
        give(&mut world, leech, &bare(&whole));
        give(&mut world, liar, &bare(&whole));
        world.connect_with(leech, liar, plain());
        let layers = whole.layers().expect("v2");
        let mut asked = Hashes { layers: Some(Arc::clone(layers)), ..Hashes::default() };
        let request = asked.request(0, 1).expect("a run");
        let Answer::Now(answer) = asked.answer(&request) else { panic!("it is known") };
        let mut lie = answer.to_vec();
        lie[100] ^= 1;
        let hashes = lie.into();
        world.inject(liar, leech, &[Message::Hashes { request, hashes }]);
        assert_eq!(world.hosts[leech].faults, [PeerFault::FalseHashes]);
        assert_eq!(count(&world, leech, "banned 10.0.0.1"), 1);
        let seed = world.seed();
        give(&mut world, seed, &whole);
        world.connect(leech, seed);
        world.run(30);
        assert!(world.is_done(leech));
    }

    #[test]
    fn hashes_that_nobody_asked_for_are_a_flood_before_long() {
        let (mut world, whole) = world(8, Format::V2);
        let (stranger, host) = (world.leech(), world.seed());
        give(&mut world, host, &whole);
        world.connect_with(host, stranger, plain());
        let request = HashRequest { root: [1; 32], base: 0, index: 0, count: 2, proof_layers: 0 };
        let hashes = Bytes::from(vec![0; 64]);
        world.inject(stranger, host, &vec![Message::Hashes { request, hashes }; 30]);
        assert_eq!(world.hosts[host].faults, [PeerFault::ControlFlood]);
    }

    #[test]
    fn whatever_is_asked_the_answer_proves_itself_or_is_a_refusal() {
        let (_, whole) = world(37, Format::V2);
        let layers = whole.layers().expect("v2");
        let mut hashes = Hashes { layers: Some(Arc::clone(layers)), ..Hashes::default() };
        let root = layers.root(0).expect("not empty");
        let mut answered = 0;
        for seed in 0..3000 {
            let mut rng = Rng::from_seed(seed);
            let mut number = || match rng.below(8) {
                0 => rng.u32(),
                1 => 1 << rng.below(32),
                2 | 3 => rng.below(9) as u32,
                _ => rng.below(3) as u32,
            };
            let request = HashRequest {
                root: if seed % 10 == 0 { [1; 32] } else { root },
                base: number(),
                index: number(),
                count: number(),
                proof_layers: number(),
            };
            let Answer::Now(answer) = hashes.answer(&request) else { continue };
            answered += 1;
            assert_eq!(answer.len() as u32, request.answer_count() * 32, "{request:?}");
            let height = 6 - request.base;
            if request.proof_layers + 1 == height {
                let (nodes, _) = answer.as_chunks();
                let HashRequest { index, count, .. } = request;
                assert!(merkle::is_proven(nodes, index, count, height, &root), "{request:?}");
            }
        }
        assert!(answered > 5, "{answered}");
    }

    #[test]
    fn who_knows_version_1_only_has_no_business_with_hashes() {
        let (mut world, whole) = world(3, Format::Hybrid);
        let (stranger, host) = (world.leech(), world.seed());
        give(&mut world, host, &whole);
        world.connect(host, stranger);
        let root = whole.layers().expect("v2").root(0).expect("not empty");
        let request = HashRequest { root, base: 0, index: 0, count: 2, proof_layers: 0 };
        world.inject(stranger, host, &[Message::HashRequest(request)]);
        assert_eq!(world.hosts[host].faults, [PeerFault::NotNegotiated]);
    }

    #[test]
    fn survives_any_messages_about_hashes() {
        for seed in 0..1000 {
            let mut rng = Rng::from_seed(seed);
            let (mut world, whole) = world(5, Format::V2);
            let (stranger, host) = (world.leech(), world.leech());
            let known = if seed % 2 == 0 { bare(&whole) } else { whole.clone() };
            give(&mut world, host, &known);
            world.connect_with(host, stranger, plain());
            let root = whole.layers().expect("v2").root(0).expect("not empty");
            for _ in 0..6 {
                let request = HashRequest {
                    root,
                    base: rng.below(2) as u32,
                    index: rng.below(3) as u32 * 8,
                    count: 8 >> rng.below(2),
                    proof_layers: rng.below(5) as u32,
                };
                let hashes = vec![rng.u32() as u8; request.answer_count() as usize * 32].into();
                let message = match rng.below(3) {
                    0 => Message::HashRequest(request),
                    1 => Message::HashReject(request),
                    _ => Message::Hashes { request, hashes },
                };
                world.inject(stranger, host, &[message]);
            }
            let hidden = known.layers().expect("v2");
            assert!(hidden.layer(0).is_empty() || hidden.is_whole(), "seed {seed}");
        }
    }
}
