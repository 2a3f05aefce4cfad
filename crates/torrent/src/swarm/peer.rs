//! What is known of one connected peer.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::pipeline::Pipeline;
use crate::rate::RateMeter;
use crate::wire::{ExtendedHandshake, Message, Reserved};
use crate::{Bitfield, Block, PeerFault, PeerId, PieceIndex};

/// Who dialled whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer came to us.
    Incoming,
    /// We went to the peer.
    Outgoing,
}

/// A peer whose handshake is done.
#[derive(Clone, Debug)]
pub struct NewPeer {
    /// Where it is.
    pub addr: SocketAddr,
    /// Who dialled.
    pub direction: Direction,
    /// The name it gave itself.
    pub peer_id: PeerId,
    /// What its handshake says it can do.
    pub reserved: Reserved,
}

/// One peer's state, as a snapshot for people.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Where it is.
    pub addr: SocketAddr,
    /// Who dialled.
    pub direction: Direction,
    /// The name it gave itself.
    pub peer_id: PeerId,
    /// Its client's name, as it says itself.
    pub client: Option<String>,
    /// How many pieces it has.
    pub pieces_have: u32,
    /// Whether it has everything.
    pub is_seed: bool,
    /// We do not serve it.
    pub am_choking: bool,
    /// We want something that it has.
    pub am_interested: bool,
    /// It does not serve us.
    pub peer_choking: bool,
    /// It wants something that we have.
    pub peer_interested: bool,
    /// It promised blocks and sends none.
    pub is_snubbed: bool,
    /// Payload from it, bytes per second.
    pub download_rate: u64,
    /// Payload to it, bytes per second.
    pub upload_rate: u64,
    /// Payload from it so far, in bytes.
    pub downloaded: u64,
    /// Payload to it so far, in bytes.
    pub uploaded: u64,
    /// Requests of ours that it has not answered.
    pub requests_outstanding: usize,
    /// How many may be.
    pub pipeline_depth: u32,
}

/// A request of ours that is out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) block: Block,
    pub(super) at: Instant,
    /// Given up on: others may be asked for it, and it may still come.
    pub(super) is_released: bool,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    pub(super) direction: Direction,
    pub(super) peer_id: PeerId,
    pub(super) has_fast: bool,
    pub(super) has_extensions: bool,
    pub(super) extended: Option<ExtendedHandshake>,
    pub(super) bits: Bitfield,
    pub(super) am_choking: bool,
    pub(super) am_interested: bool,
    pub(super) peer_choking: bool,
    pub(super) peer_interested: bool,
    /// How many pieces it has that we want and lack: we are interested if that is over 0.
    pub(super) interesting: u32,

    pub(super) asked: VecDeque<Asked>,
    /// Blocks that may still come although we no longer count on them.
    pub(super) forgiven: VecDeque<Block>,
    pub(super) pipeline: Pipeline,
    /// The piece it is working through.
    pub(super) current: Option<PieceIndex>,
    /// Pieces that it gives us even while it chokes us.
    pub(super) allowed_to_us: Vec<PieceIndex>,
    pub(super) is_snubbed: bool,
    /// Nothing was found to ask it for, when the swarm's supply count stood here.
    pub(super) starved_at: Option<u64>,

    /// Requests of it that we have not begun to answer.
    pub(super) wants: VecDeque<Block>,
    /// Those that are being read from disk.
    pub(super) reading: Vec<Block>,
    /// Pieces that we give it even while we choke it.
    pub(super) allowed_to_it: Vec<PieceIndex>,
    /// Requests that were not taken, since it was last unchoked.
    pub(super) requests_dropped: u32,

    pub(super) connected_at: Instant,
    pub(super) unchoked_at: Option<Instant>,
    pub(super) uploaded_since_unchoke: u64,
    /// It was served for a round and asked for nothing.
    pub(super) wasted_its_turn: bool,
    pub(super) received_at: Instant,
    pub(super) sent_at: Instant,
    pub(super) block_at: Instant,
    pub(super) down: RateMeter,
    pub(super) up: RateMeter,
    pub(super) downloaded: u64,
    pub(super) uploaded: u64,
    pub(super) unrequested: u32,
    /// Control messages that it may still send in this tick.
    pub(super) patience: u32,
    pub(super) outbox: Vec<u8>,
}

impl Peer {
    pub(super) fn new(now: Instant, new: &NewPeer, piece_count: u32) -> Self {
        Self {
            addr: new.addr,
            direction: new.direction,
            peer_id: new.peer_id,
            has_fast: new.reserved.has_fast(),
            has_extensions: new.reserved.has_extensions(),
            extended: None,
            bits: Bitfield::none(piece_count),
            am_choking: true,
            am_interested: false,
            peer_choking: true,
            peer_interested: false,
            interesting: 0,
            asked: VecDeque::new(),
            forgiven: VecDeque::new(),
            pipeline: Pipeline::new(now),
            current: None,
            allowed_to_us: Vec::new(),
            is_snubbed: false,
            starved_at: None,
            wants: VecDeque::new(),
            reading: Vec::new(),
            allowed_to_it: Vec::new(),
            requests_dropped: 0,
            connected_at: now,
            unchoked_at: None,
            uploaded_since_unchoke: 0,
            wasted_its_turn: false,
            received_at: now,
            sent_at: now,
            block_at: now,
            down: RateMeter::new(now),
            up: RateMeter::new(now),
            downloaded: 0,
            uploaded: 0,
            unrequested: 0,
            patience: PATIENCE,
            outbox: Vec::new(),
        }
    }

    pub(super) fn ip(&self) -> IpAddr {
        self.addr.ip()
    }

    pub(super) fn send(&mut self, message: &Message) {
        message.encode(&mut self.outbox);
    }

    /// Whether we may ask it for `piece` now.
    pub(super) fn may_ask(&self, piece: PieceIndex) -> bool {
        self.bits.has(piece) && (!self.peer_choking || self.allowed_to_us.contains(&piece))
    }

    /// How many more requests it should get.
    pub(super) fn room(&self) -> u32 {
        self.pipeline.depth().saturating_sub(self.asked.len() as u32)
    }

    /// Takes the request that `block` answers off the list. Blocks come in the order asked for,
    /// nearly always.
    pub(super) fn take_asked(&mut self, block: Block) -> Option<Asked> {
        if self.asked.front().is_some_and(|asked| asked.block == block) {
            return self.asked.pop_front();
        }
        let at = self.asked.iter().position(|asked| asked.block == block)?;
        self.asked.remove(at)
    }

    /// Whether `block` may still come although it is not asked for; at most once each.
    pub(super) fn take_forgiven(&mut self, block: Block) -> bool {
        let Some(at) = self.forgiven.iter().position(|known| *known == block) else { return false };
        self.forgiven.remove(at);
        true
    }

    pub(super) fn forgive(&mut self, block: Block) {
        if self.forgiven.len() >= FORGIVEN_MAX {
            self.forgiven.pop_front();
        }
        self.forgiven.push_back(block);
    }

    /// A message that costs us something and it nothing.
    pub(super) fn spend_patience(&mut self) -> Result<(), PeerFault> {
        self.patience = self.patience.checked_sub(1).ok_or(PeerFault::ControlFlood)?;
        Ok(())
    }

    /// Called every tick: patience grows back.
    pub(super) fn restore_patience(&mut self) {
        self.patience = (self.patience + PATIENCE_PER_TICK).min(PATIENCE);
    }

    pub(super) fn is_seed(&self) -> bool {
        self.bits.is_all()
    }

    /// Silent although blocks are due?
    pub(super) fn stalls(&self, now: Instant) -> bool {
        let due_since = self.asked.front().map(|asked| asked.at.max(self.block_at));
        due_since.is_some_and(|since| now.saturating_duration_since(since) >= SNUBBED_AFTER)
    }

    pub(super) fn take_outbox(&mut self, now: Instant) -> Bytes {
        self.sent_at = now;
        Bytes::from(std::mem::take(&mut self.outbox))
    }

    pub(super) fn status(&self, now: Instant) -> PeerStatus {
        PeerStatus {
            addr: self.addr,
            direction: self.direction,
            peer_id: self.peer_id,
            client: self.extended.as_ref().and_then(|extended| extended.v.clone()),
            pieces_have: self.bits.count(),
            is_seed: self.is_seed(),
            am_choking: self.am_choking,
            am_interested: self.am_interested,
            peer_choking: self.peer_choking,
            peer_interested: self.peer_interested,
            is_snubbed: self.is_snubbed,
            download_rate: self.down.bytes_per_second(now),
            upload_rate: self.up.bytes_per_second(now),
            downloaded: self.downloaded,
            uploaded: self.uploaded,
            requests_outstanding: self.asked.len(),
            pipeline_depth: self.pipeline.depth(),
        }
    }
}

/// Blocks that may still arrive late; beyond it the oldest counts as never asked for.
const FORGIVEN_MAX: usize = 4096;
/// Control messages in one burst. A honest client sends a few a second.
const PATIENCE: u32 = 400;
const PATIENCE_PER_TICK: u32 = 20;
/// No block for so long although some are due: ask others.
const SNUBBED_AFTER: Duration = Duration::from_secs(15);
