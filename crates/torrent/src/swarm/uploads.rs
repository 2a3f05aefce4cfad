//! Serving peers: their requests, from the message to the block.

use std::time::Instant;

use bytes::Bytes;

use super::{Output, PeerKey, Slots, Swarm};
use crate::wire::Message;
use crate::{Block, PeerFault};

/// Adjacent blocks to be read at once for one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRun {
    /// Whose requests these are.
    pub peer: PeerKey,
    /// What to read: it may be longer than any single block.
    pub span: Block,
}

impl Swarm {
    pub(super) fn handle_request(&mut self, key: PeerKey, block: Block) -> Result<(), PeerFault> {
        if block.piece.0 >= self.layout.piece_count() {
            return Err(PeerFault::NoSuchPiece);
        }
        if block.len > BLOCK_LEN_MAX || !self.layout.may_be_asked(block) {
            return Err(PeerFault::BadRequest);
        }
        if !self.picker.have().has(block.piece) {
            return Err(PeerFault::RequestForMissingPiece);
        }
        let is_shown = self.shows(key, block.piece);
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        let is_allowed = is_shown
            && !self.is_paused
            && (!peer.am_choking || peer.allowed_to_it.contains(&block.piece));
        let is_full = peer.wants.len() >= REQUESTS_QUEUED_MAX;
        if is_allowed && !is_full {
            peer.wants.push_back(block);
            peer.cancels_due = peer.cancels_due.saturating_add(1);
            peer.wasted_its_turn = false;
            return Ok(());
        }
        // Choking crosses requests under way, so these are no fault, up to a point.
        peer.requests_dropped += 1;
        if peer.requests_dropped > REQUESTS_DROPPED_MAX {
            return Err(PeerFault::TooManyRequests);
        }
        if peer.has_fast {
            peer.send(&Message::Reject(block));
            self.dirty.push(key);
        }
        Ok(())
    }

    pub(super) fn handle_cancel(&mut self, key: PeerKey, block: Block) -> Result<(), PeerFault> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        let wanted =
            peer.wants.iter().position(|wanted| *wanted == block).map(|at| peer.wants.remove(at));
        let read = peer
            .reading
            .iter()
            .position(|wanted| *wanted == block)
            .map(|at| peer.reading.swap_remove(at));
        if (wanted.is_some() || read.is_some()) && peer.has_fast {
            peer.send(&Message::Reject(block));
            self.dirty.push(key);
        }
        // Each request may be cancelled once, though the block is on its way; a pause does so with all.
        match peer.cancels_due.checked_sub(1) {
            Some(due) => peer.cancels_due = due,
            None => peer.spend_patience()?,
        }
        Ok(())
    }

    /// Whether a peer waits for blocks that have not been begun.
    pub fn has_requests(&self, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|peer| !peer.wants.is_empty())
    }

    /// The next blocks to read for a peer: adjacent requests of one piece, up to `len_max` bytes (at
    /// least one block). Then [`handle_read`](Self::handle_read).
    pub fn next_read(&mut self, key: PeerKey, len_max: u32) -> Option<ReadRun> {
        let peer = self.peers.get_mut(&key)?;
        let first = peer.wants.pop_front()?;
        let mut span = first;
        peer.reading.push(first);
        while let Some(&next) = peer.wants.front() {
            let is_adjacent = next.piece == span.piece && next.offset == span.offset + span.len;
            if !is_adjacent || span.len + next.len > len_max {
                break;
            }
            span.len += next.len;
            peer.reading.push(next);
            peer.wants.pop_front();
        }
        Some(ReadRun { peer: key, span })
    }

    /// What [`next_read`](Self::next_read) asked for has been read; blocks that were cancelled
    /// meanwhile are dropped.
    pub fn handle_read(&mut self, now: Instant, run: ReadRun, data: &Bytes) {
        let Some(peer) = self.peers.get_mut(&run.peer) else { return };
        let span = run.span;
        let inside = |block: &Block| {
            block.piece == span.piece
                && block.offset >= span.offset
                && block.offset + block.len <= span.offset + span.len
        };
        for block in peer.reading.extract_if(.., |block| inside(block)) {
            let from = (block.offset - span.offset) as usize;
            let data = data.slice(from..from + block.len as usize);
            let len = u64::from(block.len);
            peer.up.add(now, len);
            peer.uploaded += len;
            peer.uploaded_since_unchoke += len;
            self.up.add(now, len);
            self.uploaded += len;
            let head = Message::piece_header(block);
            self.outputs.push_back(Output::SendBlock { peer: run.peer, head, data });
        }
        (peer.sent_at, peer.payload_at) = (now, now);
    }

    /// What [`next_read`](Self::next_read) asked for cannot be read.
    pub fn handle_read_failed(&mut self, run: ReadRun) {
        let Some(peer) = self.peers.get_mut(&run.peer) else { return };
        let failed = std::mem::take(&mut peer.reading);
        if peer.has_fast {
            failed.into_iter().for_each(|block| peer.send(&Message::Reject(block)));
            self.dirty.push(run.peer);
        }
    }

    pub(super) fn unchoke(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.am_choking = false;
        peer.unchoked_at = Some(now);
        peer.uploaded_since_unchoke = 0;
        peer.requests_dropped = 0;
        peer.send(&Message::Unchoke);
        self.dirty.push(key);
    }

    pub(super) fn choke(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.am_choking = true;
        peer.unchoked_at = None;
        peer.send(&Message::Choke);
        let allowed = std::mem::take(&mut peer.allowed_to_it);
        let (kept, dropped): (Vec<Block>, Vec<Block>) =
            peer.wants.drain(..).partition(|block| allowed.contains(&block.piece));
        peer.wants = kept.into();
        if peer.has_fast {
            dropped.into_iter().for_each(|block| peer.send(&Message::Reject(block)));
        }
        peer.allowed_to_it = allowed;
        self.dirty.push(key);
    }

    /// Changes how many peers are served at once.
    pub const fn set_slots(&mut self, slots: Slots) {
        self.config.slots = slots;
    }

    /// How many peers are served without waiting for the choker's next round.
    pub(super) const fn slots_free_for_all(&self) -> usize {
        match self.config.slots {
            Slots::Fixed(count) => count,
            Slots::Adaptive => SLOTS_AT_ONCE,
        }
    }

    /// The pieces that `key` may ask for while choked. For tests of BEP 6.
    #[cfg(test)]
    pub(super) fn allowed_to(&self, key: PeerKey) -> &[crate::PieceIndex] {
        self.peers.get(&key).map_or(&[], |peer| &peer.allowed_to_it)
    }
}

/// Requests of one peer that wait their turn, told to it as `reqq`. Transmission fills this queue once
/// a second and no sooner, so it is what bounds the rate to it. Only those who are served can fill it.
pub(super) const REQUESTS_QUEUED_MAX: usize = 10_000;
/// Requests beyond that, or while choked, before the peer is a nuisance.
const REQUESTS_DROPPED_MAX: u32 = 10_000;
/// What libtorrent and others take as the longest block.
const BLOCK_LEN_MAX: u32 = 128 * 1024;
const SLOTS_AT_ONCE: usize = 8;
