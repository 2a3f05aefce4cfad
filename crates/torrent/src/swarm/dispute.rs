//! Which blocks of a wrong piece are wrong: proven by the hashes of its blocks ([BEP 52]), asked of any peer that has
//! the piece.
//!
//! Without them nobody can say whose block was wrong until the whole piece has come again, and it all comes again.
//! With them the liars are known at once, and only what they sent is asked for again. A piece that one peer sent
//! alone needs no proof, and one of version 1 has none.
//!
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::download::{OpenPiece, Slot};
use super::hashes::{ASKED_MAX, AskedHashes, Hashes, Purpose};
use super::peer::Peer;
use super::{PeerKey, Swarm};
use crate::metainfo::merkle::Hash;
use crate::wire::{HASHES_MAX, HashRequest, Message};
use crate::{BLOCK_LEN, PieceIndex};

/// A piece whose blocks' hashes are asked for. If it came wrong from several peers, it stays open with all that came.
#[derive(Debug)]
pub(super) struct Dispute {
    /// The SHA-256 of each of its blocks, as they came; `None` if somebody just wants to know what they should be.
    digests: Option<Vec<Hash>>,
    /// Somebody wants to know what they should be.
    is_wanted: bool,
    /// Who is being asked.
    asked: Option<PeerKey>,
    /// Who was asked, and did not say.
    mute: BTreeSet<PeerKey>,
    /// It is given up then; set by the first tick.
    ends_at: Option<Instant>,
}

impl Dispute {
    const fn about(digests: Option<Vec<Hash>>) -> Self {
        let is_wanted = digests.is_none();
        Self { digests, is_wanted, asked: None, mute: BTreeSet::new(), ends_at: None }
    }
}

impl Hashes {
    /// A peer that was asked about a piece has not said.
    pub(super) fn dispute_again(&mut self, key: PeerKey, piece: PieceIndex) {
        if let Some(dispute) = self.disputes.get_mut(&piece) {
            dispute.asked = dispute.asked.filter(|asked| *asked != key);
            dispute.mute.insert(key);
        }
    }

    /// Whether somebody wants to know of blocks what nobody has said yet.
    pub(super) fn has_wishes(&self) -> bool {
        self.disputes.values().any(|dispute| dispute.is_wanted)
    }

    /// The question for the hashes of all blocks of a piece. What is above them is known.
    fn request_for_blocks(&self, piece: PieceIndex) -> Option<HashRequest> {
        let layers = self.layers.as_ref()?;
        let file = layers.layout().file_at(piece)?;
        let height = layers.check(piece)?.height;
        let at = piece.0.checked_sub(layers.layout().file_pieces(file).start)?;
        let count = 1_u32.checked_shl(height).filter(|count| (2..=HASHES_MAX).contains(count))?;
        let index = at.checked_mul(count)?;
        Some(HashRequest { root: layers.root(file)?, base: 0, index, count, proof_layers: 0 })
    }
}

impl Swarm {
    /// Keeps a wrong piece until it is known which of its blocks are wrong. Gives it back if nobody can say.
    pub(super) fn begin_dispute(
        &mut self,
        piece: PieceIndex,
        mut open: OpenPiece,
        digests: Vec<Hash>,
        blocks: Vec<(u32, Bytes)>,
    ) -> Result<(), (OpenPiece, Vec<Hash>)> {
        let senders: BTreeSet<Option<IpAddr>> = open.senders().collect();
        if senders.len() < 2
            || self.hashes.disputes.values().filter(|dispute| dispute.digests.is_some()).count()
                >= DISPUTES_MAX
            || self.hashes.request_for_blocks(piece).is_none()
            || !self.peers.values().any(|peer| self.may_ask_about(piece, peer))
        {
            return Err((open, digests));
        }
        for (offset, data) in blocks {
            let slot = open.slots.get_mut((offset / BLOCK_LEN) as usize);
            if let Some(slot @ Slot::Stored { .. }) = slot {
                self.held_len += data.len() as u64;
                let Slot::Stored { from } = *slot else { continue };
                *slot = Slot::Held { from, data };
            }
        }
        open.is_verifying = false;
        self.open.insert(piece, open);
        let is_wanted = self.hashes.disputes.get(&piece).is_some_and(|wish| wish.is_wanted);
        let dispute = Dispute { is_wanted, ..Dispute::about(Some(digests)) };
        self.hashes.disputes.insert(piece, dispute);
        Ok(())
    }

    /// Asks peers for the hashes of the blocks of these pieces, however long it takes; they can then be had of
    /// [`PieceLayers::blocks`]. Until then the torrent is not completed, so that its seeds stay connected. What can
    /// never be known is not asked for: version 1 has no such hashes. Nor is what is beyond 4,096 pieces at a time.
    ///
    /// [`PieceLayers::blocks`]: crate::metainfo::PieceLayers::blocks
    pub fn want_block_hashes(&mut self, pieces: &[PieceIndex]) {
        for &piece in pieces {
            let layers = self.hashes.layers.as_ref();
            let is_known = layers.is_none_or(|layers| layers.blocks(piece).is_some());
            if !is_known
                && self.hashes.request_for_blocks(piece).is_some()
                && self.hashes.disputes.len() < WISHES_MAX
            {
                let wish = || Dispute::about(None);
                self.hashes.disputes.entry(piece).or_insert_with(wish).is_wanted = true;
            }
        }
        self.complete_if_all_is_here();
    }

    /// The pieces whose blocks' hashes are still asked for.
    pub fn block_hashes_wanted(&self) -> Vec<PieceIndex> {
        let wishes = self.hashes.disputes.iter().filter(|(_, dispute)| dispute.is_wanted);
        wishes.map(|(&piece, _)| piece).collect()
    }

    fn may_ask_about(&self, piece: PieceIndex, peer: &Peer) -> bool {
        peer.bits.has(piece) && self.knows_hashes(peer)
    }

    /// Asks a peer about the pieces in dispute that it has and nobody is being asked about.
    pub(super) fn ask_about_blocks(&mut self, now: Instant, key: PeerKey) {
        let Self { hashes, peers, dirty, .. } = self;
        let Some(peer) = peers.get_mut(&key) else { return };
        let is_due = |(piece, dispute): &(&PieceIndex, &Dispute)| {
            dispute.asked.is_none() && !dispute.mute.contains(&key) && peer.bits.has(**piece)
        };
        let room = ASKED_MAX.saturating_sub(peer.hashes.asked.len());
        let due: Vec<PieceIndex> =
            hashes.disputes.iter().filter(is_due).map(|(&piece, _)| piece).take(room).collect();
        for piece in due {
            let Some(request) = hashes.request_for_blocks(piece) else { continue };
            if let Some(dispute) = hashes.disputes.get_mut(&piece) {
                dispute.asked = Some(key);
            }
            let purpose = Purpose::Blocks { piece };
            peer.hashes.asked.push(AskedHashes { request, purpose, at: now });
            peer.send(&Message::HashRequest(request));
            dirty.push(key);
        }
    }

    /// The hashes of the blocks of a piece have come, and are proven: who sent others lied, and only these blocks are
    /// asked for again.
    pub(super) fn settle(&mut self, piece: PieceIndex, right: &[Hash]) {
        let Some(dispute) = self.hashes.disputes.remove(&piece) else { return };
        if let Some(layers) = self.hashes.layers.as_ref().filter(|_| dispute.is_wanted) {
            layers.put_blocks(piece, right);
        }
        let Some(digests) = dispute.digests else { return self.complete_if_all_is_here() };
        let Some(open) = self.open.get_mut(&piece) else { return };
        let own = self.layout.tree_shape(piece).0.div_ceil(BLOCK_LEN);
        let mut liars = BTreeSet::new();
        let slots = (0..own).zip(&mut open.slots).zip(digests.iter().zip(right));
        for ((index, slot), _) in slots.filter(|(_, (found, right))| found != right) {
            let len = u64::from(self.layout.block(piece, index).len);
            match std::mem::replace(slot, Slot::Free) {
                Slot::Held { from, data } => {
                    self.held_len = self.held_len.saturating_sub(data.len() as u64);
                    liars.insert(from);
                }
                Slot::Stored { from } => _ = liars.insert(from),
                Slot::Free | Slot::Asked(_) => continue,
            }
            (open.free, open.received) = (open.free + 1, open.received - 1);
            open.first_free = open.first_free.min(index);
            self.wasted += len;
        }
        (open.owner, open.is_alone) = (None, false);
        self.supply += 1;
        if liars.is_empty() {
            // Its blocks are right and it is not: better to begin it anew.
            self.abandon(piece);
        }
        liars.into_iter().for_each(|ip| self.ban(ip));
    }

    /// Called every tick: gives up what nobody can tell.
    pub(super) fn tick_disputes(&mut self, now: Instant) {
        let pieces: Vec<PieceIndex> = self.hashes.disputes.keys().copied().collect();
        for piece in pieces {
            let Some(dispute) = self.hashes.disputes.get_mut(&piece) else { continue };
            let is_over = now >= *dispute.ends_at.get_or_insert(now + PATIENCE);
            if dispute.digests.is_none() {
                if is_over {
                    // Who had no answer may have one by now.
                    (dispute.mute, dispute.ends_at) = (BTreeSet::new(), None);
                }
            } else if is_over || !self.may_be_settled(piece) {
                self.give_up_dispute(piece);
            }
        }
    }

    /// Whether somebody is being asked about a piece, or may be.
    fn may_be_settled(&self, piece: PieceIndex) -> bool {
        let Some(dispute) = self.hashes.disputes.get(&piece) else { return false };
        let can_say = |(key, peer): (&PeerKey, &Peer)| {
            !dispute.mute.contains(key) && self.may_ask_about(piece, peer)
        };
        dispute.asked.is_some() || self.peers.iter().any(can_say)
    }

    /// A piece is not kept any longer. Whoever wants to know of its blocks still does.
    pub(super) fn end_dispute(&mut self, piece: PieceIndex) -> Option<Dispute> {
        let dispute = self.hashes.disputes.remove(&piece)?;
        if dispute.is_wanted {
            self.hashes.disputes.insert(piece, Dispute::about(None));
        }
        Some(dispute)
    }

    /// Nobody said which blocks are wrong: that is seen when the piece has come again.
    fn give_up_dispute(&mut self, piece: PieceIndex) {
        let Some(dispute) = self.end_dispute(piece) else { return };
        self.wasted += u64::from(self.layout.len_of(piece));
        if let (Some(open), Some(digests)) = (self.abandon(piece), dispute.digests) {
            self.blame(piece, &open, digests);
        }
    }
}

/// Pieces that are kept until it is known which of their blocks are wrong.
const DISPUTES_MAX: usize = 16;
/// Pieces whose blocks' hashes somebody wants.
const WISHES_MAX: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::super::hashes::testing::{bare, give, world_of};
    use super::super::world::{World, epoch};
    use super::*;
    use crate::metainfo::create::Format;
    use crate::wire::Reserved;

    /// A leech that gets the first piece, of 32 blocks, of an honest seed and of one that spoils some of what it sends.
    fn lied_to(format: Format, reserved: Reserved) -> (World, usize) {
        let (mut world, whole) = world_of(40, 32 * BLOCK_LEN, format);
        let (seed, liar, leech) = (world.seed(), world.seed(), world.leech());
        for host in [seed, liar] {
            (world.hosts[host].upload_per_step, world.hosts[host].upload_left) =
                (u64::from(BLOCK_LEN), 0);
        }
        world.hosts[liar].lies_about = vec![PieceIndex(0)];
        [seed, liar, leech].into_iter().for_each(|host| give(&mut world, host, &whole));
        world.hosts[leech].swarm.set_priorities(&[4, 0]);
        world.connect_with(leech, seed, reserved);
        world.connect_with(leech, liar, reserved);
        world.run(40);
        assert!(world.hosts[leech].swarm.is_completed(), "{:?}", world.hosts[leech].events);
        assert!(world.hosts.iter().all(|host| host.faults.is_empty()));
        (world, leech)
    }

    fn events(world: &World, host: usize) -> Vec<&str> {
        world.hosts[host].events.iter().map(String::as_str).collect()
    }

    #[test]
    fn proof_shows_who_lied_and_what_to_ask_for_again() {
        for format in [Format::V2, Format::Hybrid] {
            let (world, leech) = lied_to(format, Reserved::ours().with_v2());
            let told = ["failed 0", "banned 10.0.0.2", "verified 0", "completed"];
            assert_eq!(events(&world, leech), told);
            let swarm = &world.hosts[leech].swarm;
            let (wasted, block) = (swarm.wasted(), u64::from(BLOCK_LEN));
            assert!(wasted > 0 && wasted <= 20 * block, "{wasted}");
            assert_eq!(swarm.held_len(), 0);
        }
    }

    #[test]
    fn where_nobody_has_proof_the_piece_comes_again_and_shows_it() {
        let (world, leech) = lied_to(Format::Hybrid, Reserved::ours());
        assert!(events(&world, leech).contains(&"banned 10.0.0.2"));
        let swarm = &world.hosts[leech].swarm;
        assert!(swarm.wasted() >= 32 * u64::from(BLOCK_LEN));
        assert_eq!(swarm.held_len(), 0);
    }

    #[test]
    fn whoever_wants_the_hashes_of_blocks_hears_them_from_a_peer_that_knows() {
        let (mut world, whole) = world_of(30, 4 * BLOCK_LEN, Format::V2);
        let (seed, other, leech) = (world.seed(), world.leech(), world.leech());
        give(&mut world, seed, &whole);
        let own = crate::metainfo::Metainfo::parse(whole.as_bytes()).expect("valid");
        give(&mut world, leech, &own);
        // Nothing is wanted, and all of that is here; but for this.
        world.hosts[leech].swarm.set_priorities(&[0; 8]);
        assert!(world.hosts[leech].swarm.is_completed());
        let pieces = [1, 7, 99].map(PieceIndex);
        world.hosts[leech].swarm.want_block_hashes(&pieces);
        let swarm = &world.hosts[leech].swarm;
        assert_eq!(swarm.block_hashes_wanted(), pieces[..2]);
        assert!(!swarm.is_completed());
        world.connect(leech, other);
        world.run(60);
        assert_eq!(world.hosts[leech].swarm.block_hashes_wanted().len(), 2);
        world.connect(leech, seed);
        world.run(20);
        assert!(world.hosts[leech].swarm.is_completed());
        let hash = |block: &[u8]| sha_of(block);
        let right = |piece: usize| -> Vec<Hash> {
            let blocks = world.data.chunks(BLOCK_LEN as usize);
            blocks.skip(4 * piece).take(4).map(hash).collect()
        };
        let layers = own.layers().expect("v2");
        assert_eq!(layers.blocks(PieceIndex(1)), Some(right(1)));
        assert_eq!(layers.blocks(PieceIndex(7)), Some(right(7)));
        assert_eq!(layers.blocks(PieceIndex(2)), None);
        assert!(!layers.put_blocks(PieceIndex(2), &right(1)));
        assert_eq!(world.hosts[leech].swarm.downloaded(), 0);
    }

    fn sha_of(block: &[u8]) -> Hash {
        use sha2::{Digest, Sha256};
        Sha256::digest(block).into()
    }

    #[test]
    fn a_piece_in_dispute_may_leave_memory_and_be_begun_anew() {
        let (mut world, whole) = world_of(32, 32 * BLOCK_LEN, Format::V2);
        let (seed, liar, leech) = (world.seed(), world.seed(), world.leech());
        give(&mut world, leech, &whole);
        for host in [seed, liar] {
            give(&mut world, host, &bare(&whole));
            (world.hosts[host].upload_per_step, world.hosts[host].upload_left) =
                (u64::from(BLOCK_LEN), 0);
            world.connect_with(leech, host, Reserved::ours().with_v2());
        }
        world.hosts[liar].lies_about = vec![PieceIndex(0)];
        while world.hosts[leech].swarm.hashes.disputes.is_empty() {
            assert!(world.now < epoch() + Duration::from_secs(60), "no dispute");
            world.run_for(Duration::from_millis(10));
        }
        let swarm = &mut world.hosts[leech].swarm;
        assert_eq!(swarm.held_len(), world.data.len() as u64);
        swarm.relieve();
        world.drain(leech);
        let swarm = &mut world.hosts[leech].swarm;
        assert_eq!(swarm.held_len(), 0);
        swarm.abandon_open();
        assert!(swarm.hashes.disputes.is_empty() && swarm.open.is_empty());
        world.hosts[liar].lies_about.clear();
        world.run(60);
        assert!(world.is_done(leech));
    }
}
