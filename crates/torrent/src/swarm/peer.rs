//! What is known of one connected peer.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Source;
use super::early::Early;
use super::exchange::Exchange;
use super::hashes::HashDealings;
use super::holepunch::INTRODUCTIONS_MAX;
use super::metadata::MetadataWants;
use super::pipeline::Pipeline;
use super::super_seeding::Shown;
use crate::rate::RateMeter;
use crate::wire::{ExtendedHandshake, Message, PeerFlags, Reserved};
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
    /// Whether what it and we say is encrypted.
    pub is_encrypted: bool,
}

/// One peer's state, as a snapshot for people.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Where it is.
    pub addr: SocketAddr,
    /// Who dialled.
    pub direction: Direction,
    /// Who told us of it first; if nobody did, it came to us.
    pub source: Source,
    /// The name it gave itself.
    pub peer_id: PeerId,
    /// What its handshake said it can do.
    pub reserved: Reserved,
    /// Whether what it and we say is encrypted.
    pub is_encrypted: bool,
    /// Whether uTP carries it, rather than TCP.
    pub is_utp: bool,
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
    /// It sent blocks of a piece that failed, of which others sent some too, and has not proven
    /// itself since: it is given pieces of its own.
    pub is_on_parole: bool,
    /// It wants nothing more, though it may not have everything (BEP 21).
    pub is_upload_only: bool,
    /// It is served by chance, to find out whether it serves us.
    pub is_optimistic: bool,
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
    /// The piece that it works through for us.
    pub piece: Option<PieceIndex>,
    /// Requests of its own that we have not answered.
    pub requests_queued: usize,
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
    pub(super) reserved: Reserved,
    is_encrypted: bool,
    pub(super) has_fast: bool,
    pub(super) has_extensions: bool,
    pub(super) extended: Option<ExtendedHandshake>,
    /// Of what others are told about it: how it is connected.
    pub(super) carrier: PeerFlags,
    pub(super) exchange: Exchange,
    /// How often it may be introduced to others, or introduce them, for now.
    pub(super) introductions: u8,
    pub(super) bits: Bitfield,
    /// What it knows of what we have; `None` if all.
    pub(super) shown: Option<Shown>,
    /// What it said of its pieces, while it is not known how many there are.
    pub(super) early: Option<Box<Early>>,
    pub(super) metadata_wants: MetadataWants,
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
    /// Gets pieces of its own, so that a bad one has one sender.
    pub(super) is_on_parole: bool,
    /// Nothing was found to ask it for, when the swarm's supply count stood here.
    pub(super) starved_at: Option<u64>,

    /// Requests of it that we have not begun to answer.
    pub(super) wants: VecDeque<Block>,
    /// Those that are being read from disk.
    pub(super) reading: Vec<Block>,
    /// Pieces that we give it even while we choke it.
    pub(super) allowed_to_it: Vec<PieceIndex>,
    /// Requests taken that it has not cancelled.
    pub(super) cancels_due: u32,
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
    /// When a block last went either way, or it came.
    pub(super) payload_at: Instant,
    pub(super) down: RateMeter,
    pub(super) up: RateMeter,
    pub(super) downloaded: u64,
    pub(super) uploaded: u64,
    /// Of both, what there was when peers last gave way to others.
    pub(super) moved: (u64, u64),
    pub(super) unrequested: u32,
    /// Control messages that it may still send in this tick.
    pub(super) patience: u32,
    pub(super) hashes: HashDealings,
    pub(super) outbox: Vec<u8>,
}

impl Peer {
    pub(super) fn new(now: Instant, new: &NewPeer, piece_count: u32) -> Self {
        Self {
            addr: new.addr,
            direction: new.direction,
            peer_id: new.peer_id,
            reserved: new.reserved,
            is_encrypted: new.is_encrypted,
            has_fast: new.reserved.has_fast(),
            has_extensions: new.reserved.has_extensions(),
            extended: None,
            carrier: PeerFlags::default(),
            exchange: Exchange::default(),
            introductions: INTRODUCTIONS_MAX,
            bits: Bitfield::none(piece_count),
            shown: None,
            early: None,
            metadata_wants: MetadataWants::default(),
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
            is_on_parole: false,
            starved_at: None,
            wants: VecDeque::new(),
            reading: Vec::new(),
            allowed_to_it: Vec::new(),
            cancels_due: 0,
            requests_dropped: 0,
            connected_at: now,
            unchoked_at: None,
            uploaded_since_unchoke: 0,
            wasted_its_turn: false,
            received_at: now,
            sent_at: now,
            block_at: now,
            payload_at: now,
            down: RateMeter::new(now),
            up: RateMeter::new(now),
            downloaded: 0,
            uploaded: 0,
            moved: (0, 0),
            unrequested: 0,
            patience: PATIENCE,
            hashes: HashDealings::new(now),
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
        self.early.is_none() && self.bits.is_all()
    }

    pub(super) fn is_upload_only(&self) -> bool {
        let says_so = self.extended.as_ref().and_then(|extended| extended.upload_only);
        self.is_seed() || says_so == Some(true)
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

    pub(super) fn status(&self, now: Instant, source: Source, is_optimistic: bool) -> PeerStatus {
        PeerStatus {
            addr: self.addr,
            direction: self.direction,
            source,
            peer_id: self.peer_id,
            reserved: self.reserved,
            is_encrypted: self.is_encrypted,
            is_utp: self.carrier.contains(PeerFlags::UTP),
            client: self.extended.as_ref().and_then(|extended| extended.v.clone()),
            pieces_have: self.bits.count(),
            is_seed: self.is_seed(),
            am_choking: self.am_choking,
            am_interested: self.am_interested,
            peer_choking: self.peer_choking,
            peer_interested: self.peer_interested,
            is_snubbed: self.is_snubbed,
            is_on_parole: self.is_on_parole,
            is_upload_only: self.is_upload_only(),
            is_optimistic,
            download_rate: self.down.bytes_per_second(now),
            upload_rate: self.up.bytes_per_second(now),
            downloaded: self.downloaded,
            uploaded: self.uploaded,
            requests_outstanding: self.asked.len(),
            pipeline_depth: self.pipeline.depth(),
            piece: self.current,
            requests_queued: self.wants.len() + self.reading.len(),
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

#[cfg(test)]
mod tests {
    use crate::Bitfield;
    use crate::swarm::world::{World, plain};
    use crate::swarm::{PeerKey, Slots};

    use super::*;

    fn key_of(world: &World, at: usize, other: usize) -> PeerKey {
        let mut links = world.hosts[at].links.iter();
        *links.find(|(_, (to, _))| *to == other).expect("linked").0
    }

    /// What `at` says of its peer `other`.
    fn status(world: &World, at: usize, other: usize) -> PeerStatus {
        let key = key_of(world, at, other);
        world.hosts[at].swarm.peer_status(world.now, key).expect("connected")
    }

    #[test]
    fn says_where_a_peer_is_from_and_what_it_can_do() {
        let mut world = World::new(400_000, 100_000);
        let (seed, leech, other) = (world.seed(), world.leech(), world.leech());
        world.hosts[leech].swarm.known.add(World::addr(seed), Source::Tracker);
        world.hosts[seed].is_mute = true;
        world.connect_with(leech, seed, Reserved::ours());
        world.connect_with(leech, other, plain());
        world.run(1);
        let of_seed = status(&world, leech, seed);
        assert_eq!((of_seed.source, of_seed.reserved), (Source::Tracker, Reserved::ours()));
        let of_other = status(&world, leech, other);
        assert_eq!((of_other.source, of_other.reserved), (Source::Incoming, plain()));
        let key = key_of(&world, leech, seed);
        let swarm = &world.hosts[leech].swarm;
        assert_eq!(swarm.peer_bitfield(key), Some(&Bitfield::all(4)));
        let asked: Vec<Block> = swarm.peer_requests(key).collect();
        assert_eq!(asked.len(), of_seed.requests_outstanding);
        assert_eq!(of_seed.piece, asked.last().map(|block| block.piece));
        assert_eq!(status(&world, seed, leech).requests_queued, asked.len());
        world.disconnect(leech, seed);
        let swarm = &world.hosts[leech].swarm;
        assert!(swarm.peer_status(world.now, key).is_none() && swarm.peer_bitfield(key).is_none());
        assert_eq!(swarm.peer_requests(key).next(), None);
    }

    #[test]
    fn interest_comes_and_goes() {
        let mut world = World::new(400_000, 100_000);
        let (seed, leech) = (world.seed(), world.leech());
        world.hosts[seed].is_mute = true;
        world.connect(leech, seed);
        world.run(1);
        assert!(status(&world, seed, leech).peer_interested);
        world.inject(leech, seed, &[Message::NotInterested]);
        assert!(!status(&world, seed, leech).peer_interested);
        world.inject(leech, seed, &[Message::Interested]);
        assert!(status(&world, seed, leech).peer_interested);
    }

    #[test]
    fn whoever_has_all_that_it_wants_says_so_and_takes_it_back() {
        let mut world = World::new(400_000, 100_000);
        let mut half = Bitfield::none(4);
        assert!(half.set(PieceIndex(0)) && half.set(PieceIndex(1)));
        let partial = world.add_wanting(half.clone(), &[4, 4, 0, 0]);
        let (leech, late) = (world.leech(), world.leech());
        world.hosts[partial].is_mute = true;
        world.connect(partial, leech);
        world.run(1);
        let seen = status(&world, leech, partial);
        assert!(seen.is_upload_only && !seen.is_seed);
        assert!(!status(&world, partial, leech).is_upload_only);
        world.hosts[partial].swarm.set_priorities(&[4; 4]);
        world.drain(partial);
        world.run(1);
        assert!(!status(&world, leech, partial).is_upload_only);
        world.hosts[partial].swarm.set_priorities(&[4, 4, 0, 0]);
        world.drain(partial);
        world.connect(partial, late);
        world.run(1);
        assert!(status(&world, leech, partial).is_upload_only);
        assert!(status(&world, late, partial).is_upload_only);
        // Two that want nothing more have no use for each other, though neither is a seed.
        let other = world.add_wanting(half, &[4, 4, 0, 0]);
        world.connect(partial, other);
        world.run(1);
        assert_eq!(world.hosts[other].swarm.peer_count(), 0);
    }

    #[test]
    fn one_of_those_that_wait_is_served_by_chance() {
        let mut world = World::new(400_000, 100_000);
        let seed = world.seed();
        world.hosts[seed].is_mute = true;
        world.hosts[seed].swarm.set_slots(Slots::Fixed(3));
        let leeches: Vec<usize> = (0..8).map(|_| world.leech()).collect();
        leeches.iter().for_each(|&leech| world.connect(leech, seed));
        world.run(15);
        let lucky = leeches.iter().filter(|&&leech| status(&world, seed, leech).is_optimistic);
        assert_eq!(lucky.count(), 1);
        world.hosts[seed].swarm.set_slots(Slots::Fixed(8));
        world.run(15);
        assert!(leeches.iter().all(|&leech| !status(&world, seed, leech).is_optimistic));
    }

    #[test]
    fn suspects_get_pieces_of_their_own_until_one_passes() {
        let mut world = World::new(100 * 16 * 16_384, 16 * 16_384);
        let (liar, honest) = (world.seed(), world.seed());
        let leech = world.add_wanting(Bitfield::none(100), &[4]);
        world.hosts[liar].lies_about = vec![PieceIndex(0)];
        for seed in [liar, honest] {
            (world.hosts[seed].upload_per_step, world.hosts[seed].upload_left) = (16_384, 0);
            world.connect(leech, seed);
        }
        while world.hosts[leech].events.is_empty() {
            world.run_for(Duration::from_millis(10));
        }
        assert_eq!(world.hosts[leech].events, ["failed 0"]);
        assert!([liar, honest].iter().all(|&seed| status(&world, leech, seed).is_on_parole));

        // Of the other pieces, nobody else sends anything of one that a suspect has begun.
        let others = [[0].as_slice(), &[4; 99]].concat();
        world.hosts[leech].swarm.set_priorities(&others);
        let third = world.seed();
        (world.hosts[third].upload_per_step, world.hosts[third].upload_left) = (16_384, 0);
        let is_busy =
            |world: &World, seed| status(world, leech, seed).piece.is_some_and(|at| at.0 > 0);
        while !(is_busy(&world, liar) && is_busy(&world, honest)) {
            world.run_for(Duration::from_millis(10));
        }
        world.connect(leech, third);
        let mut looks = 0;
        while status(&world, leech, honest).is_on_parole {
            let open = &world.hosts[leech].swarm.open;
            for (piece, open) in open.iter().filter(|(piece, _)| piece.0 > 0) {
                let mut senders: Vec<IpAddr> = open.senders().flatten().collect();
                senders.dedup();
                assert!(senders.len() <= 1, "{piece}: {senders:?}");
                looks += senders.len();
            }
            world.run_for(Duration::from_millis(10));
        }
        assert!(looks > 0);

        world.hosts[leech].swarm.set_priorities(&[4; 100]);
        world.run(20);
        assert!(world.is_done(leech));
        let is_ban = |event: &&String| event.starts_with("banned");
        let bans: Vec<&String> = world.hosts[leech].events.iter().filter(is_ban).collect();
        assert_eq!(bans, ["banned 10.0.0.1"]);
    }
}
