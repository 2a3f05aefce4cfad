//! Blocks that have come, from the first of a piece to the verdict on it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::{BlockOrigin, Output, PeerKey, Selector, Swarm, WebSeedKey};
use crate::metainfo::merkle::Hash;
use crate::wire::Message;
use crate::{BLOCK_LEN, Block, PeerFault, PieceIndex};

/// A piece of which something has been asked for.
#[derive(Debug)]
pub(super) struct OpenPiece {
    pub(super) slots: Vec<Slot>,
    /// No slot before this one is free.
    pub(super) first_free: u32,
    /// How many slots are free.
    pub(super) free: u32,
    /// How many blocks are here.
    pub(super) received: u32,
    /// The peer that works through it alone, while it does.
    pub(super) owner: Option<PeerKey>,
    /// While it has an owner, others are not asked for it if there is anything else: the owner is on
    /// parole.
    pub(super) is_alone: bool,
    /// All blocks are with the disk.
    pub(super) is_verifying: bool,
}

/// One block of an open piece.
#[derive(Debug)]
pub(super) enum Slot {
    /// Not asked for.
    Free,
    /// Asked of this many peers.
    Asked(u8),
    /// Here, in memory.
    Held { from: IpAddr, data: Bytes },
    /// Here, written to disk unverified.
    Stored { from: IpAddr },
}

/// Blocks for the disk.
#[derive(Debug)]
pub struct VerifyJob {
    /// The piece that they belong to.
    pub piece: PieceIndex,
    /// What is in memory: offset within the piece, and the data. In order. What is missing between
    /// was stored before and has to be read.
    pub blocks: Vec<(u32, Bytes)>,
    /// The verdict should bring the hash of each block: one of them may be a lie.
    pub wants_digests: bool,
}

/// What became of a [`VerifyJob`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The hash matches, and the data is on disk. With the SHA-256 of each block, if wanted.
    Good(Option<Vec<Hash>>),
    /// The hash does not match; nothing has been written.
    Bad {
        /// The SHA-256 of each block, without what of it is padding behind the end of a file of version 2.
        digests: Vec<Hash>,
        /// The blocks that were in memory, as they came.
        blocks: Vec<(u32, Bytes)>,
    },
    /// The disk failed. The blocks are gone.
    Lost,
}

impl OpenPiece {
    pub(super) fn new(block_count: u32) -> Self {
        let slots = (0..block_count).map(|_| Slot::Free).collect();
        Self {
            slots,
            first_free: 0,
            free: block_count,
            received: 0,
            owner: None,
            is_alone: false,
            is_verifying: false,
        }
    }

    /// One of which everything has just been asked of somebody.
    pub(super) fn asked_whole(block_count: u32) -> Self {
        let slots = (0..block_count).map(|_| Slot::Asked(1)).collect();
        Self { slots, free: 0, first_free: block_count, ..Self::new(0) }
    }

    fn is_whole(&self) -> bool {
        self.received as usize == self.slots.len()
    }

    /// Whether others than the owner may be asked for it.
    pub(super) fn is_shared(&self) -> bool {
        !(self.is_alone && self.owner.is_some())
    }

    /// Where each block came from.
    pub(super) fn senders(&self) -> impl Iterator<Item = Option<IpAddr>> {
        self.slots.iter().map(|slot| match slot {
            Slot::Held { from, .. } | Slot::Stored { from } => Some(*from),
            Slot::Free | Slot::Asked(_) => None,
        })
    }

    /// Takes what is in memory, leaving notes of where it came from.
    fn take_held(&mut self) -> Vec<(u32, Bytes)> {
        let mut blocks = Vec::new();
        for (slot, offset) in self.slots.iter_mut().zip((0_u32..).step_by(BLOCK_LEN as usize)) {
            if let Slot::Held { from, data } = slot {
                blocks.push((offset, std::mem::take(data)));
                *slot = Slot::Stored { from: *from };
            }
        }
        blocks
    }
}

impl Swarm {
    pub(super) fn handle_block(
        &mut self,
        now: Instant,
        key: PeerKey,
        piece: PieceIndex,
        offset: u32,
        data: Bytes,
    ) -> Result<(), PeerFault> {
        let block = Block { piece, offset, len: data.len() as u32 };
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        let len = u64::from(block.len);
        // Whether its request still counted as one that the block was asked of.
        let mut is_counted = false;
        match peer.take_asked(block) {
            Some(asked) => {
                is_counted = !asked.is_released;
                peer.pipeline.block_arrived(now, now.saturating_duration_since(asked.at));
                peer.block_at = now;
                peer.is_snubbed = false;
            }
            None if peer.take_forgiven(block) => {}
            None => {
                self.wasted += len;
                peer.unrequested += 1;
                let is_too_much = peer.unrequested > UNREQUESTED_MAX;
                return if is_too_much { Err(PeerFault::UnrequestedData) } else { Ok(()) };
            }
        }
        // Only what was asked for counts: nobody gains a place among the served by sending rubbish.
        self.down.add(now, len);
        self.downloaded += len;
        peer.down.add(now, len);
        peer.downloaded += len;
        peer.payload_at = now;
        let from = peer.ip();
        self.keep_block(Some(key), from, is_counted, block, data);
        Ok(())
    }

    /// Puts a block into its piece, unless it is there already. `key` is `None` for a web seed.
    pub(super) fn keep_block(
        &mut self,
        key: Option<PeerKey>,
        from: IpAddr,
        is_counted: bool,
        block: Block,
        data: Bytes,
    ) {
        let len = u64::from(block.len);
        let Some(open) = self.open.get_mut(&block.piece) else {
            self.wasted += len;
            return;
        };
        let index = block.index();
        let Some(slot) = open.slots.get_mut(index as usize) else { return };
        let asked_of = match slot {
            Slot::Free => {
                open.free -= 1;
                0
            }
            Slot::Asked(count) => *count,
            Slot::Held { .. } | Slot::Stored { .. } => {
                self.wasted += len;
                return;
            }
        };
        *slot = Slot::Held { from, data };
        open.received += 1;
        self.held_len += len;
        if open.is_whole() {
            open.is_verifying = true;
            let blocks = open.take_held();
            let wants_digests = self.smart_ban.has_record(block.piece);
            self.outputs.push_back(Output::Verify(VerifyJob {
                piece: block.piece,
                blocks,
                wants_digests,
            }));
        }
        if asked_of > u8::from(is_counted) {
            self.cancel_elsewhere(key, block);
        }
    }

    /// Several peers were asked for the same block, at the end or because one was slow; one was enough.
    fn cancel_elsewhere(&mut self, except: Option<PeerKey>, block: Block) {
        for run in self.web_runs.values_mut() {
            run.take(block);
        }
        for (&key, peer) in &mut self.peers {
            if Some(key) != except && peer.take_asked(block).is_some() {
                peer.send(&Message::Cancel(block));
                peer.forgive(block);
                self.dirty.push(key);
            }
        }
    }

    /// Memory is short: hands the piece with the most blocks in memory to the disk, whole or not.
    pub fn relieve(&mut self) {
        let held = |open: &OpenPiece| {
            open.slots.iter().filter(|slot| matches!(slot, Slot::Held { .. })).count()
        };
        let fullest = self
            .open
            .iter_mut()
            .filter(|(_, open)| !open.is_verifying)
            .max_by_key(|(_, open)| held(open));
        let Some((&piece, open)) = fullest else { return };
        let blocks = open.take_held();
        if !blocks.is_empty() {
            self.outputs.push_back(Output::Store(VerifyJob {
                piece,
                blocks,
                wants_digests: false,
            }));
        }
    }

    /// The disk has failed, or what is on it is looked at anew: pieces that are not whole are begun
    /// again, some day.
    pub fn abandon_open(&mut self) {
        self.web_runs.clear();
        let unfinished: Vec<PieceIndex> = self
            .open
            .iter()
            .filter(|(_, open)| !open.is_verifying)
            .map(|(&piece, _)| piece)
            .collect();
        for piece in unfinished {
            self.end_dispute(piece);
            self.abandon(piece);
        }
        self.rest_if_alone();
    }

    /// Begins a piece anew, some day. Returns what there was of it, but for the data.
    pub(super) fn abandon(&mut self, piece: PieceIndex) -> Option<OpenPiece> {
        let mut open = self.open.remove(&piece)?;
        let held: u64 = open.take_held().iter().map(|(_, data)| data.len() as u64).sum();
        self.held_len = self.held_len.saturating_sub(held);
        self.reopen(piece);
        Some(open)
    }

    /// The blocks of an [`Output::Store`] have left memory: `len` bytes.
    pub const fn handle_stored(&mut self, len: u64) {
        self.held_len = self.held_len.saturating_sub(len);
    }

    /// The peers who sent the blocks of an open piece, each once.
    pub fn contributors(&self, piece: PieceIndex) -> BTreeSet<IpAddr> {
        let slots = self.open.get(&piece).into_iter().flat_map(|open| &open.slots);
        slots
            .filter_map(|slot| match slot {
                Slot::Held { from, .. } | Slot::Stored { from } => Some(*from),
                Slot::Free | Slot::Asked(_) => None,
            })
            .filter(|&from| WebSeedKey::of_stand_in(from).is_none())
            .collect()
    }

    /// The disk has said what an [`Output::Verify`] was worth; `len` bytes of memory are free again.
    pub fn handle_verdict(&mut self, piece: PieceIndex, len: u64, verdict: Verdict) {
        self.held_len = self.held_len.saturating_sub(len);
        let Some(open) = self.open.remove(&piece) else { return };
        match verdict {
            Verdict::Good(digests) => {
                let had_record = digests.is_some();
                let liars = digests.map(|digests| self.smart_ban.piece_passed(piece, &digests));
                liars.into_iter().flatten().for_each(|ip| self.ban(ip));
                self.end_parole(&open, had_record);
                self.add_piece(piece);
            }
            Verdict::Bad { digests, blocks } => {
                if let Err((open, digests)) = self.begin_dispute(piece, open, digests, blocks) {
                    self.wasted += u64::from(self.layout.len_of(piece));
                    self.blame(piece, &open, digests);
                    self.reopen(piece);
                }
                self.outputs.push_back(Output::PieceFailed(piece));
            }
            Verdict::Lost => self.reopen(piece),
        }
        self.rest_if_alone();
    }

    fn reopen(&mut self, piece: PieceIndex) {
        self.picker.release(piece);
        self.supply += 1;
        for peer in self.peers.values_mut().filter(|peer| peer.current == Some(piece)) {
            peer.current = None;
        }
    }

    /// A bad piece: the one that sent it all is to blame; of several, time will tell, and till then
    /// each gets pieces of its own.
    pub(super) fn blame(&mut self, piece: PieceIndex, open: &OpenPiece, digests: Vec<Hash>) {
        let origins: Vec<BlockOrigin> = (0_u32..)
            .zip(open.senders().zip(digests))
            .filter_map(|(index, (from, digest))| {
                from.map(|from| BlockOrigin { index, from, digest })
            })
            .collect();
        for ip in self.smart_ban.piece_failed(piece, &origins) {
            self.ban(ip);
        }
        for peer in self.peers.values_mut() {
            peer.is_on_parole |= origins.iter().any(|origin| origin.from == peer.ip());
        }
    }

    /// A good piece clears whoever sent all of it; and if it failed before, those of whom nothing
    /// bad is left on record.
    fn end_parole(&mut self, open: &OpenPiece, had_record: bool) {
        for peer in self.peers.values_mut().filter(|peer| peer.is_on_parole) {
            let sent_it_all = open.senders().all(|from| from == Some(peer.ip()));
            let is_cleared = had_record && !self.smart_ban.suspects(peer.ip());
            peer.is_on_parole = !(sent_it_all || is_cleared);
        }
    }

    /// Ends all dealings with an address.
    pub fn ban(&mut self, ip: IpAddr) {
        if let Some(key) = WebSeedKey::of_stand_in(ip) {
            self.outputs.push_back(Output::WebSeedLied(key));
            return;
        }
        if self.known.is_banned(ip) {
            return;
        }
        self.known.ban(ip);
        self.outputs.push_back(Output::Banned(ip));
        let here = self.peers.iter().filter(|(_, peer)| peer.ip() == ip);
        let closes = here.map(|(&peer, _)| Output::Close { peer, reason: "sent bad data" });
        self.outputs.extend(closes);
    }

    /// A piece is on disk and its hash is right: everyone may know.
    pub(super) fn add_piece(&mut self, piece: PieceIndex) {
        let was_wanted = self.picker.is_wanted(piece);
        if !self.picker.set_have(piece) {
            return;
        }
        self.outputs.push_back(Output::PieceVerified(piece));
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            // A seed cares for none of our pieces.
            if !peer.is_seed() {
                peer.send(&Message::Have(piece));
                self.dirty.push(key);
            }
            if was_wanted && peer.bits.has(piece) {
                peer.interesting = peer.interesting.saturating_sub(1);
                self.update_interest(key);
            }
        }
        self.complete_if_all_is_here();
    }

    pub(super) fn complete_if_all_is_here(&mut self) {
        let is_completed = self.picker.wanted_missing() == 0 && self.hashes.is_settled();
        if is_completed == self.is_completed {
            return;
        }
        self.is_completed = is_completed;
        self.known.avoid_seeds(is_completed);
        if is_completed {
            self.outputs.push_back(Output::Completed);
        }
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            self.tell_wishes(key);
            self.close_if_both_done(key);
        }
    }

    /// Changes what is wanted: a number a piece, 0 is not, 7 is most.
    pub fn set_priorities(&mut self, priorities: &[u8]) {
        if self.is_awaiting_metadata() {
            return;
        }
        for (piece, &priority) in (0..self.layout.piece_count()).map(PieceIndex).zip(priorities) {
            if !self.hashes.hide(piece, priority) {
                self.picker.set_priority(piece, priority);
            }
        }
        self.supply += 1;
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            self.recount_interesting(key);
        }
        self.complete_if_all_is_here();
    }

    /// Changes how pieces are chosen. Those that are begun stay so.
    pub fn set_selector(&mut self, selector: Selector) {
        self.selector = selector;
    }

    /// How pieces are chosen.
    pub const fn selector(&self) -> &Selector {
        &self.selector
    }

    /// How pieces are chosen, to be given to the swarm that takes this one's place.
    pub fn take_selector(&mut self) -> Selector {
        std::mem::take(&mut self.selector)
    }

    /// A piece that is needed by a time, such as for playing: it comes before all others, the
    /// nearest first. `None` takes that back.
    pub fn set_deadline(&mut self, piece: PieceIndex, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => self.picker.set_deadline(piece, deadline),
            None => self.picker.clear_deadline(piece),
        }
    }
}

/// Blocks out of nowhere that are put up with: some clients answer a cancelled request late.
const UNREQUESTED_MAX: u32 = 64;
