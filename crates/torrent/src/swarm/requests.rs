//! Which blocks to ask a peer for next.
//!
//! A peer works through a piece alone while it is quick enough: its blocks then come in order, and a
//! bad piece has one sender. Pieces left over by others come before new ones, and what is the last
//! to come is asked of several.

use std::time::{Duration, Instant};

use super::download::{OpenPiece, Slot};
use super::peer::{Asked, Peer};
use super::web_seeds::OpenRun;
use super::{Offer, PeerKey, Selector, SelectorKind, Swarm};
use crate::wire::Message;
use crate::{BLOCK_LEN, Block, PieceIndex};

impl Swarm {
    /// Fills the pipeline of a peer.
    pub(super) fn fill(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else { return };
        if self.is_paused
            || peer.early.is_some()
            || !peer.am_interested
            || (peer.peer_choking && peer.allowed_to_us.is_empty())
        {
            return;
        }
        let mut room = peer.room();
        // Topping up in runs keeps the requests of a fast peer in few writes.
        if room == 0 || room < peer.pipeline.depth() / 8 || peer.starved_at == Some(self.supply) {
            return;
        }
        while room > 0 {
            let Some(piece) = self.choose_piece(key) else {
                self.ask_again(now, key, room);
                return;
            };
            let asked = self.ask_run(now, key, piece, room);
            debug_assert!(asked > 0, "a chosen piece has a free block");
            room = room.saturating_sub(asked.max(1));
        }
    }

    /// A piece with a free block that the peer may be asked for.
    fn choose_piece(&mut self, key: PeerKey) -> Option<PieceIndex> {
        let peer = self.peers.get(&key)?;
        if let Some(piece) = peer.current
            && peer.may_ask(piece)
            && self.picker.is_wanted(piece)
            && self.open.get(&piece).is_some_and(|open| open.free > 0)
        {
            return Some(piece);
        }
        let piece = self.select(key)?;
        let peer = self.peers.get_mut(&key)?;
        if !self.open.contains_key(&piece) {
            self.picker.open(piece);
            self.open.insert(piece, OpenPiece::new(self.layout.block_count(piece)));
        }
        let open = self.open.get_mut(&piece)?;
        if open.owner.is_none() {
            open.owner = Some(key);
            open.is_alone = peer.is_on_parole && open.received == 0;
        }
        let before = peer.current.replace(piece);
        if let Some(before) = before.and_then(|before| self.open.get_mut(&before))
            && before.owner == Some(key)
            && before.free > 0
        {
            before.owner = None;
        }
        Some(piece)
    }

    /// The piece to go on with, open or new.
    fn select(&mut self, key: PeerKey) -> Option<PieceIndex> {
        self.picker.prepare();
        let Self { picker, open, layout, peers, selector, selector_rng: rng, web_runs, .. } = self;
        let offer = Offer { picker, open, layout, peer: peers.get(&key)? };
        let of_web_seeds: usize = web_runs.values().map(OpenRun::piece_count).sum();
        let is_crowded = open.len() > OPEN_BASE + peers.len() * 3 / 2 + of_web_seeds;
        let kind = match selector {
            Selector::Kind(kind) => *kind,
            Selector::Own(own) => {
                let choice = if is_crowded { None } else { own.select(&offer, rng) };
                if let Some(piece) = choice.and_then(|piece| offer.piece(piece)) {
                    return Some(piece.index);
                }
                SelectorKind::Rarest
            }
        };
        // A suspect begins where nobody else has sent anything, if it can.
        let own = if offer.peer.is_on_parole { offer.select_new(kind, rng) } else { None };
        own.or_else(|| offer.nearest_its_end(|open| open.owner.is_none()))
            .or_else(|| if is_crowded { offer.nearest_its_end(OpenPiece::is_shared) } else { None })
            .or_else(|| offer.select(kind, rng))
            .or_else(|| offer.nearest_its_end(|_| true))
    }

    /// Asks for up to `room` free blocks of a piece, in order. Returns how many.
    fn ask_run(&mut self, now: Instant, key: PeerKey, piece: PieceIndex, room: u32) -> u32 {
        let (Some(peer), Some(open)) = (self.peers.get_mut(&key), self.open.get_mut(&piece)) else {
            return 0;
        };
        if peer.asked.is_empty() {
            // Its time starts now; what it did before does not count against it.
            peer.block_at = now;
        }
        let mut asked = 0;
        let mut index = open.first_free;
        while asked < room && open.free > 0 {
            let Some(slot) = open.slots.get_mut(index as usize) else { break };
            if matches!(slot, Slot::Free) {
                *slot = Slot::Asked(1);
                open.free -= 1;
                asked += 1;
                let block = self.layout.block(piece, index);
                peer.asked.push_back(Asked { block, at: now, is_released: false });
                peer.send(&Message::Request(block));
            }
            index += 1;
        }
        open.first_free = index;
        self.dirty.push(key);
        asked
    }

    /// Nothing is left to ask for: asks for what others were asked for and have not sent, if they
    /// have had their time.
    fn ask_again(&mut self, now: Instant, key: PeerKey, room: u32) {
        if !self.is_endgame() {
            let supply = self.supply;
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.starved_at = Some(supply);
            }
            return;
        }
        let Some(peer) = self.peers.get(&key) else { return };
        let room = room.min(ENDGAME_MAX.saturating_sub(peer.asked.len() as u32)) as usize;
        let patience = peer
            .pipeline
            .round_trip()
            .map_or(ENDGAME_PATIENCE, |trip| (trip * 4).min(ENDGAME_PATIENCE));
        let ours = time_for(now, peer, peer.asked.len() + 1);
        // Only what would take the other at least twice as long is worth sending twice.
        let is_late = |other: &Peer, at: usize, asked: &Asked| {
            !asked.is_released
                && now.saturating_duration_since(asked.at) >= patience
                && time_for(now, other, at + 1) >= ours * 2
        };
        let overdue: Vec<Block> = self
            .peers
            .iter()
            .filter(|(other, _)| **other != key)
            .flat_map(|(_, other)| {
                let late = move |(at, asked): &(usize, &Asked)| is_late(other, *at, asked);
                other.asked.iter().enumerate().filter(late)
            })
            .map(|(_, asked)| asked.block)
            .chain(self.web_runs.values().flat_map(|run| run.late(now, ours)))
            .filter(|block| peer.may_ask(block.piece) && self.asked_of(*block) == Some(1))
            .take(room)
            .collect();
        let Some(peer) = self.peers.get_mut(&key) else { return };
        for block in overdue {
            let open = self.open.get_mut(&block.piece);
            let Some(Slot::Asked(count)) =
                open.and_then(|open| open.slots.get_mut(block.index() as usize))
            else {
                continue;
            };
            if *count > 1 {
                continue;
            }
            *count += 1;
            peer.asked.push_back(Asked { block, at: now, is_released: false });
            peer.send(&Message::Request(block));
            self.dirty.push(key);
        }
    }

    /// How many peers a block is asked of, if it is.
    pub(super) fn asked_of(&self, block: Block) -> Option<u8> {
        match self.open.get(&block.piece)?.slots.get(block.index() as usize)? {
            Slot::Asked(count) => Some(*count),
            Slot::Free | Slot::Held { .. } | Slot::Stored { .. } => None,
        }
    }

    /// Whether everything wanted has been asked for.
    pub(super) fn is_endgame(&self) -> bool {
        !self.is_completed
            && self.picker.unopened_wanted() == 0
            && self
                .open
                .iter()
                .all(|(&piece, open)| open.free == 0 || !self.picker.is_wanted(piece))
    }

    /// A request of `key` is off: its block may be asked of others.
    pub(super) fn release(&mut self, key: PeerKey, asked: Asked) {
        if !asked.is_released {
            self.free_block(Some(key), asked.block);
        }
    }

    /// One of those that a block was asked of will not bring it. `key` is `None` for a web seed.
    pub(super) fn free_block(&mut self, key: Option<PeerKey>, block: Block) {
        let Some(open) = self.open.get_mut(&block.piece) else { return };
        let index = block.index();
        let Some(Slot::Asked(count)) = open.slots.get_mut(index as usize) else { return };
        if *count > 1 {
            *count -= 1;
            return;
        }
        open.slots[index as usize] = Slot::Free;
        open.free += 1;
        open.first_free = open.first_free.min(index);
        if key.is_some() && open.owner == key {
            open.owner = None;
        }
        self.supply += 1;
        self.close_if_untouched(block.piece);
    }

    /// An open piece of which nothing is here or asked for is as good as a new one.
    fn close_if_untouched(&mut self, piece: PieceIndex) {
        if self.open.get(&piece).is_some_and(|open| open.free as usize == open.slots.len()) {
            self.open.remove(&piece);
            self.picker.release(piece);
        }
    }

    /// The peer is too slow: what it was asked for may be asked of others, and may still come.
    pub(super) fn release_all(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let all: Vec<Asked> = peer.asked.iter().copied().collect();
        peer.asked.iter_mut().for_each(|asked| asked.is_released = true);
        for asked in all {
            self.release(key, asked);
        }
        self.disown(key);
    }

    /// The peer will not answer what it was asked for, but some answers may be under way.
    pub(super) fn forgive_all(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let all = std::mem::take(&mut peer.asked);
        all.iter().for_each(|asked| peer.forgive(asked.block));
        for asked in all {
            self.release(key, asked);
        }
        self.disown(key);
    }

    /// The peer works on no piece any more.
    pub(super) fn disown(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.current = None;
        }
        for open in self.open.values_mut().filter(|open| open.owner == Some(key)) {
            open.owner = None;
            self.supply += 1;
        }
    }
}

/// How long a peer needs for so many blocks at its present rate.
fn time_for(now: Instant, peer: &Peer, blocks: usize) -> Duration {
    let len = (blocks as u64).saturating_mul(BLOCK_LEN.into());
    match peer.down.bytes_per_second(now) {
        // One that has shown nothing yet may be as good as any.
        0 if peer.downloaded == 0 => ENDGAME_PATIENCE,
        rate => Duration::from_millis(len.saturating_mul(1000) / rate.max(1)),
    }
}

/// Pieces that may be open besides one and a half a peer.
const OPEN_BASE: usize = 16;
/// Requests of others that one peer is asked for as well.
const ENDGAME_MAX: u32 = 64;
const ENDGAME_PATIENCE: Duration = Duration::from_millis(500);
