//! The torrent's info dictionary between us and our peers ([BEP 9]): while we lack it, it is fetched from
//! them, and what they say of pieces is kept for later; when we have it, they get it from us.
//!
//! [BEP 9]: https://www.bittorrent.org/beps/bep_0009.html

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::early::{BITFIELD_LEN_MAX, Early, IsNews};
use super::messages::BITFIELD_COST;
use super::metadata_copy::piece_len;
use super::metadata_fetch::MetadataFetch;
use super::piece_picker::PiecePicker;
use super::{Output, PeerKey, Swarm, SwarmConfig};
use crate::metainfo::create::Format;
use crate::metainfo::{FileLayout, Metainfo};
use crate::wire::{Extension, METADATA_PIECE_LEN, Message, MetadataMessage};
use crate::{BLOCK_LEN, Bitfield, InfoHashes, PeerFault, PieceIndex, Rng};

/// What a swarm knows of its torrent's metadata.
#[derive(Debug, Default)]
pub(super) enum Metadata {
    /// It is known to the caller, and not passed on.
    #[default]
    Elsewhere,
    /// It is to come from peers.
    Awaited(Box<MetadataFetch>),
    /// Peers may have it.
    Here(Arc<Metainfo>),
}

/// Metadata that one peer wants of us.
#[derive(Debug, Default)]
pub(super) struct MetadataWants {
    waiting: VecDeque<u32>,
    sent_this_second: u32,
    /// Pieces that it asked for, since it came.
    asked: usize,
}

impl MetadataWants {
    /// It may have more.
    pub(super) const fn restore(&mut self) {
        self.sent_this_second = 0;
    }
}

impl Swarm {
    /// The metadata that came is of no use to the caller: peers are asked for it again.
    pub fn fetch_metadata_again(&mut self) {
        if let Metadata::Awaited(fetch) = &mut self.metadata {
            fetch.start_over();
        }
    }

    /// A swarm of a torrent of which only the names are known. It gets the metadata from its peers, says so
    /// by [`Output::Metadata`], and waits for [`learn`](Self::learn).
    ///
    /// # Panics
    /// If there is no name.
    pub fn awaiting(now: Instant, names: InfoHashes, config: SwarmConfig, rng: Rng) -> Self {
        let layout = FileLayout::new(BLOCK_LEN, Vec::new()).expect("nothing always fits");
        let (info_hash, layout) = (names.first(), Arc::new(layout));
        let mut swarm = Self::new(now, info_hash, layout, Bitfield::none(0), &[], config, rng);
        swarm.metadata = Metadata::Awaited(Box::new(MetadataFetch::new(names)));
        swarm.is_completed = false;
        swarm
    }

    /// Whether it is not known yet what the torrent is.
    pub const fn is_awaiting_metadata(&self) -> bool {
        matches!(self.metadata, Metadata::Awaited(_))
    }

    /// How much of the metadata is here, and how much there is, in bytes; `None` if no peer has said, or
    /// all is here.
    pub fn metadata_progress(&self) -> Option<(u32, u32)> {
        match &self.metadata {
            Metadata::Awaited(fetch) => fetch.progress(),
            Metadata::Elsewhere | Metadata::Here(_) => None,
        }
    }

    /// The metadata to pass on to peers that ask for it.
    pub fn set_metadata(&mut self, metainfo: Arc<Metainfo>) {
        self.metadata = Metadata::Here(metainfo);
    }

    /// It is known what the torrent is, and which of its pieces are on disk. Peers stay: what they said
    /// meanwhile is taken as if they said it now. `have` and `priorities` as for [`new`](Self::new).
    ///
    /// # Panics
    /// If `have` has not one bit for each piece.
    pub fn learn(
        &mut self,
        now: Instant,
        metainfo: Arc<Metainfo>,
        have: Bitfield,
        priorities: &[u8],
    ) {
        assert_eq!(have.len(), metainfo.layout().piece_count(), "a bit for each piece");
        self.layout = Arc::clone(metainfo.layout());
        self.config.is_private = metainfo.is_private();
        self.metadata = Metadata::Here(Arc::clone(&metainfo));
        let rng = Rng::from_seed(self.selector_rng.u64());
        self.picker = PiecePicker::new(have, priorities, rng);
        self.is_completed = self.picker.wanted_missing() == 0;
        self.note_for_known();
        if let Some(layers) = metainfo.layers() {
            self.set_hashes(layers, metainfo.format() == Format::V2);
        }
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            if let Err(reason) = self.replay(key) {
                self.outputs.push_back(Output::Close { peer: key, reason });
                continue;
            }
            self.introduce_again(key);
            self.recount_interesting(key);
            self.close_if_both_done(key);
            self.ask_for_hashes(now, key);
            self.fill(now, key);
        }
    }

    /// Takes what a peer said early as said now, and tells it what we have.
    ///
    /// # Errors
    /// Why the connection cannot stay.
    fn replay(&mut self, key: PeerKey) -> Result<(), &'static str> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        let count = self.layout.piece_count();
        let early = peer.early.take().unwrap_or_default();
        peer.bits = Bitfield::none(count);
        let bits = early.bits(count).map_err(|_fault| "malformed message")?;
        peer.allowed_to_us = early.allowed(count);
        self.picker.add_peer(&bits);
        peer.bits = bits;
        // It was told that we have nothing, and a bitfield may only come first.
        if self.picker.have().count() > HAVES_TOLD_MAX {
            return Err("hash checking");
        }
        self.picker.have().iter().for_each(|piece| peer.send(&Message::Have(piece)));
        self.dirty.push(key);
        Ok(())
    }

    /// Keeps what a peer says of pieces while we do not know them. Returns whether the message was one
    /// that says so.
    pub(super) fn note_early(
        &mut self,
        key: PeerKey,
        message: &Message,
    ) -> Result<bool, PeerFault> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(false) };
        let Some(early) = &mut peer.early else { return Ok(false) };
        let is_fast =
            matches!(message, Message::HaveAll | Message::HaveNone | Message::AllowedFast(_));
        if is_fast && !peer.has_fast {
            return Err(PeerFault::NotNegotiated);
        }
        let Some(IsNews(is_news)) = early.note(message)? else { return Ok(false) };
        // Said now, it may well serve us by the time when we know what to ask for.
        if !peer.am_interested && early.has_any() {
            peer.am_interested = true;
            peer.send(&Message::Interested);
            self.dirty.push(key);
        }
        let cost = match message {
            Message::Bitfield(_) => BITFIELD_COST,
            _ => u32::from(!is_news),
        };
        for _ in 0..cost {
            peer.spend_patience()?;
        }
        Ok(true)
    }

    /// The same for a piece that it has no more.
    pub(super) fn note_early_loss(
        &mut self,
        key: PeerKey,
        piece: PieceIndex,
    ) -> Result<bool, PeerFault> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(false) };
        let Some(early) = &mut peer.early else { return Ok(false) };
        early.lost(piece);
        peer.spend_patience()?;
        Ok(true)
    }

    /// A new peer has come: what it says of pieces is kept, if they are not known.
    pub(super) fn early_of_new_peer(&self) -> Option<Box<Early>> {
        self.is_awaiting_metadata().then(Box::default)
    }

    /// A peer has said in its extended handshake how long the metadata is.
    pub(super) fn metadata_told(&mut self, now: Instant, key: PeerKey) {
        let Metadata::Awaited(fetch) = &mut self.metadata else { return };
        let Some(peer) = self.peers.get(&key) else { return };
        let Some(hello) = &peer.extended else { return };
        let name = Extension::Metadata.name().as_bytes();
        let is_known = hello.m.get(name).is_some_and(|&number| number > 0);
        match hello.metadata_size.filter(|_| is_known) {
            Some(len) => fetch.told(key, peer.ip(), peer.peer_id, len),
            None => fetch.remove(key),
        }
        self.ask_for_metadata(now);
    }

    pub(super) fn metadata_peer_gone(&mut self, key: PeerKey) {
        if let Metadata::Awaited(fetch) = &mut self.metadata {
            fetch.remove(key);
        }
    }

    /// Called every tick.
    pub(super) fn tick_metadata(&mut self, now: Instant) {
        if let Metadata::Awaited(fetch) = &mut self.metadata {
            fetch.handle_timeout(now);
            self.ask_for_metadata(now);
        }
    }

    /// Asks whoever can be asked. Not in a pause.
    pub(super) fn ask_for_metadata(&mut self, now: Instant) {
        let is_paused = self.is_paused;
        let Metadata::Awaited(fetch) = &mut self.metadata else { return };
        if is_paused {
            return;
        }
        for (key, piece) in fetch.requests(now) {
            let request = MetadataMessage::Request { piece };
            self.send_extension(key, Extension::Metadata, request.encode());
        }
    }

    pub(super) fn handle_metadata(
        &mut self,
        now: Instant,
        key: PeerKey,
        payload: &Bytes,
    ) -> Result<(), PeerFault> {
        match MetadataMessage::decode(payload)? {
            Some(MetadataMessage::Request { piece }) => self.handle_metadata_request(key, piece),
            Some(MetadataMessage::Data { piece, total_len, data }) => {
                let Metadata::Awaited(fetch) = &mut self.metadata else {
                    return self.spend_patience(key);
                };
                let was_asked = fetch.has_asked(key, piece);
                let found = fetch.handle_data(now, key, piece, total_len, &data)?;
                if let Some(metadata) = found.metadata {
                    self.outputs.push_back(Output::Metadata(metadata.into()));
                }
                found.liars.into_iter().for_each(|ip| self.ban(ip));
                self.ask_for_metadata(now);
                if was_asked { Ok(()) } else { self.spend_patience(key) }
            }
            Some(MetadataMessage::Reject { piece }) => {
                if let Metadata::Awaited(fetch) = &mut self.metadata {
                    fetch.handle_reject(now, key, piece);
                    self.ask_for_metadata(now);
                }
                self.spend_patience(key)
            }
            None => self.spend_patience(key),
        }
    }

    /// Sends a piece of the metadata, now or when the peer has had enough for this tick.
    fn handle_metadata_request(&mut self, key: PeerKey, piece: u32) -> Result<(), PeerFault> {
        let count = self.metadata_len().map_or(0, |len| len.div_ceil(METADATA_PIECE_LEN));
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        let wants = &mut peer.metadata_wants;
        wants.asked = wants.asked.saturating_add(1);
        // Each piece may be asked for a few times: it may have been lost with a wrong copy.
        let is_modest =
            wants.asked <= count as usize * COPIES_MAX && wants.waiting.len() < WAITING_MAX;
        if piece >= count || !is_modest {
            let reject = MetadataMessage::Reject { piece };
            self.send_extension(key, Extension::Metadata, reject.encode());
            return self.spend_patience(key);
        }
        wants.waiting.push_back(piece);
        self.send_metadata(key);
        Ok(())
    }

    /// Gives a peer what it waits for, as far as its share of the second goes.
    pub(super) fn send_metadata(&mut self, key: PeerKey) {
        let Metadata::Here(metainfo) = &self.metadata else { return };
        let metainfo = Arc::clone(metainfo);
        let info = metainfo.info_bytes();
        let total_len = u32::try_from(info.len()).ok();
        while let Some(peer) = self.peers.get_mut(&key) {
            let wants = &mut peer.metadata_wants;
            if wants.sent_this_second >= SENT_PER_SECOND_MAX {
                return;
            }
            let Some(piece) = wants.waiting.pop_front() else { return };
            wants.sent_this_second += 1;
            let start = piece as usize * METADATA_PIECE_LEN as usize;
            let end = start + piece_len(total_len.unwrap_or(0), piece);
            let data = Bytes::copy_from_slice(info.get(start..end).unwrap_or_default());
            let message = MetadataMessage::Data { piece, total_len, data };
            self.send_extension(key, Extension::Metadata, message.encode());
        }
    }

    /// How long the metadata is that peers may have of us, in bytes.
    pub(super) fn metadata_len(&self) -> Option<u32> {
        match &self.metadata {
            Metadata::Here(metainfo) => u32::try_from(metainfo.info_bytes().len()).ok(),
            Metadata::Elsewhere | Metadata::Awaited(_) => None,
        }
    }

    /// How long a bitfield may be that a peer sends, in bytes: while it is not known how many pieces there
    /// are, that of a million.
    pub fn bitfield_len_max(&self) -> usize {
        if self.is_awaiting_metadata() {
            BITFIELD_LEN_MAX
        } else {
            self.layout.piece_count().div_ceil(8) as usize
        }
    }
}

/// What we have is told piece by piece to those who are connected already; with more it is less work for
/// both to connect again.
const HAVES_TOLD_MAX: u32 = 2000;
/// Pieces of metadata that a peer may have for each second: 1 MiB.
const SENT_PER_SECOND_MAX: u32 = 64;
/// Pieces that may wait for their turn.
const WAITING_MAX: usize = 4096;
/// How often a peer may ask for each piece; more is rejected.
const COPIES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Block;
    use crate::swarm::world::{World, epoch, plain};
    use crate::swarm::{PeerStatus, Slots};
    use crate::wire::{ExtendedHandshake, Reserved};

    /// Seeds that pass on the metadata of a torrent of so many pieces, and one that wants it.
    fn world(pieces: u64, seeds: usize) -> (World, usize) {
        let mut world = World::new(pieces * 16_384 - 99, 16_384);
        let metainfo = world.metainfo();
        for _ in 0..seeds {
            let seed = world.seed();
            world.hosts[seed].swarm.set_metadata(Arc::clone(&metainfo));
        }
        let stranger = world.stranger();
        (world, stranger)
    }

    /// What the engine does when the metadata is here.
    fn learn(world: &mut World, at: usize, have: Bitfield) {
        let (metainfo, now) = (world.metainfo(), world.now);
        assert_eq!(world.hosts[at].metadata.as_deref(), Some(metainfo.info_bytes()));
        let priorities = vec![4; metainfo.layout().piece_count() as usize];
        world.hosts[at].swarm.learn(now, metainfo, have, &priorities);
        world.drain(at);
    }

    fn learn_all_missing(world: &mut World, at: usize) {
        learn(world, at, Bitfield::none(world.layout.piece_count()));
    }

    fn statuses(world: &World, at: usize) -> Vec<PeerStatus> {
        world.hosts[at].swarm.peers(world.now).map(|(_, status)| status).collect()
    }

    #[test]
    fn metadata_comes_from_peers_and_the_same_connections_bring_the_rest() {
        for reserved in [Reserved::ours(), Reserved([0, 0, 0, 0, 0, 0x10, 0, 0])] {
            // Three pieces of metadata.
            let (mut world, stranger) = world(2000, 3);
            for seed in 0..3 {
                world.connect_with(stranger, seed, reserved);
            }
            let swarm = &world.hosts[stranger].swarm;
            assert!(swarm.is_awaiting_metadata() && !swarm.is_completed());
            world.run_for(Duration::from_millis(100));
            let swarm = &world.hosts[stranger].swarm;
            assert!(swarm.is_awaiting_metadata() && swarm.peer_count() == 3);
            let seen = statuses(&world, stranger);
            // It is interested already, so the seeds are ready when it knows what to ask for.
            assert!(
                seen.iter().all(|peer| peer.am_interested && !peer.peer_choking && !peer.is_seed)
            );
            assert_eq!(seen.iter().map(|peer| peer.requests_outstanding).sum::<usize>(), 0);
            learn_all_missing(&mut world, stranger);
            let seen = statuses(&world, stranger);
            assert!(seen.iter().all(|peer| peer.is_seed && peer.requests_outstanding > 0));
            assert!(!world.hosts[stranger].swarm.is_awaiting_metadata());
            // Its peers hear that it can pass the metadata on.
            world.run_for(Duration::from_millis(50));
            let told =
                world.hosts[0].swarm.peers.values().next().and_then(|peer| peer.extended.clone());
            let len = world.metainfo().info_bytes().len() as u32;
            assert_eq!(told.and_then(|told| told.metadata_size), Some(len));
            while !world.is_done(stranger) {
                assert!(world.now < epoch() + Duration::from_secs(600), "it does not end");
                world.run(1);
            }
            assert!(world.hosts.iter().all(|host| host.faults.is_empty()));
        }
    }

    #[test]
    fn what_was_said_of_pieces_meanwhile_is_not_forgotten() {
        let (mut world, stranger) = world(10, 1);
        let half = world.add(Bitfield::from_bytes(&[0xff, 0], 10).expect("fits"));
        world.connect(stranger, half);
        world.connect(stranger, 0);
        let have = Message::Have(PieceIndex(9));
        world.inject(half, stranger, &[have, Message::AllowedFast(PieceIndex(9))]);
        world.run_for(Duration::from_millis(100));
        learn_all_missing(&mut world, stranger);
        let mut seen: Vec<u32> =
            statuses(&world, stranger).iter().map(|peer| peer.pieces_have).collect();
        seen.sort_unstable();
        assert_eq!(seen, [9, 10]);
        let swarm = &world.hosts[stranger].swarm;
        assert!(swarm.peers.values().any(|peer| peer.allowed_to_us.contains(&PieceIndex(9))));
    }

    #[test]
    fn who_said_what_cannot_be_is_closed_when_that_is_known() {
        let (mut world, stranger) = world(10, 1);
        let (long, past) = (world.leech(), world.leech());
        for other in [0, long, past] {
            world.connect(stranger, other);
        }
        world.inject(long, stranger, &[Message::Bitfield(vec![0xff; 3].into())]);
        world.inject(past, stranger, &[Message::Have(PieceIndex(10))]);
        world.run_for(Duration::from_millis(100));
        assert_eq!(world.hosts[stranger].swarm.peer_count(), 3);
        learn_all_missing(&mut world, stranger);
        assert_eq!(world.hosts[stranger].closed, ["malformed message"; 2]);
        world.run(5);
        assert!(world.is_done(stranger));
    }

    #[test]
    fn what_is_here_already_is_told_to_those_who_are_connected() {
        let (mut world, stranger) = world(10, 1);
        let other = world.leech();
        world.connect(stranger, 0);
        world.connect(stranger, other);
        world.run_for(Duration::from_millis(100));
        let have = Bitfield::from_bytes(&[0xf0, 0], 10).expect("fits");
        world.hosts[stranger].disk = world.data.clone();
        learn(&mut world, stranger, have);
        world.run(5);
        assert!(world.is_done(stranger) && world.is_done(other));
    }

    #[test]
    fn long_metadata_comes_from_one_peer_without_wearing_out_anyones_patience() {
        // 14 MB of it, in 855 pieces.
        let mut world = World::new(700_000 * 16, 16);
        let (metainfo, seed, stranger) = (world.metainfo(), world.seed(), world.leech());
        world.hosts[seed].swarm.set_metadata(Arc::clone(&metainfo));
        let config = world.hosts[stranger].swarm.config.clone();
        let (names, rng) = (metainfo.info_hashes(), Rng::from_seed(1));
        world.hosts[stranger].swarm = Swarm::awaiting(world.now, names, config, rng);
        world.connect(stranger, seed);
        world.run(20);
        assert_eq!(world.hosts[stranger].metadata.as_deref(), Some(metainfo.info_bytes()));
        assert!(world.hosts.iter().all(|host| host.faults.is_empty()));
    }

    #[test]
    fn who_is_only_told_a_lie_bans_the_liar() {
        let (mut world, stranger) = world(10, 1);
        let liar = world.leech();
        world.connect(stranger, liar);
        let hello = ExtendedHandshake {
            m: [(b"ut_metadata".to_vec(), 7)].into(),
            metadata_size: Some(5),
            ..ExtendedHandshake::default()
        };
        let hello = Message::Extended { id: 0, payload: hello.encode().into() };
        let data = MetadataMessage::Data { piece: 0, total_len: Some(5), data: vec![0; 5].into() };
        let data = Message::Extended { id: 1, payload: data.encode().into() };
        world.inject(liar, stranger, &[hello, data]);
        world.connect(stranger, 0);
        world.run(3);
        assert!(world.hosts[stranger].metadata.is_some());
        assert_eq!(world.hosts[stranger].events, ["banned 10.0.0.3"]);
    }

    #[test]
    fn a_paused_swarm_asks_for_no_metadata_until_the_pause_is_over() {
        let (mut world, stranger) = world(10, 1);
        let now = world.now;
        world.hosts[stranger].swarm.set_paused(now, true);
        world.connect(stranger, 0);
        world.run(20);
        assert_eq!(world.hosts[stranger].metadata, None);
        let now = world.now;
        world.hosts[stranger].swarm.set_paused(now, false);
        world.drain(stranger);
        world.run_for(Duration::from_millis(100));
        assert!(world.hosts[stranger].metadata.is_some());
    }

    #[test]
    fn peers_without_extensions_or_metadata_are_kept_and_wait() {
        let (mut world, stranger) = world(10, 0);
        let (seed, leech) = (world.seed(), world.leech());
        world.connect_with(stranger, seed, plain());
        world.connect(stranger, leech);
        world.run(100);
        let swarm = &world.hosts[stranger].swarm;
        assert_eq!((swarm.peer_count(), swarm.metadata_progress()), (2, None));
        assert_eq!((swarm.seed_count(), swarm.wanted_missing()), (0, 0));
    }

    #[test]
    fn a_peer_gets_each_piece_a_few_times_and_no_flood_fills_the_memory() {
        let (mut world, stranger) = world(2000, 1);
        world.connect(stranger, 0);
        world.run_for(Duration::from_millis(100));
        let key = *world.hosts[0].links.keys().next().expect("linked");
        let requests = |world: &mut World, count: u32| {
            for _ in 0..count {
                let payload = MetadataMessage::Request { piece: 0 }.encode().into();
                let mut messages = vec![Message::Extended { id: 1, payload }];
                let now = world.now;
                world.hosts[0].swarm.handle_messages(now, key, &mut messages)?;
            }
            let swarm = &world.hosts[0].swarm;
            Ok(swarm
                .peers
                .get(&key)
                .map_or(0, |peer| peer.outbox.len() + peer.metadata_wants.waiting.len()))
        };
        let len = requests(&mut world, 100).expect("put up with");
        assert!(len < COPIES_MAX * 3 * 17_000, "{len} bytes");
        assert_eq!(requests(&mut world, 400), Err(PeerFault::ControlFlood));
    }

    #[test]
    fn metadata_may_be_asked_for_past_its_end_and_of_who_has_none() {
        let (mut world, stranger) = world(10, 1);
        let other = world.stranger();
        world.connect(stranger, 0);
        world.connect(stranger, other);
        for (from, to, piece) in [(stranger, 0, 9), (stranger, 0, u32::MAX), (other, stranger, 0)] {
            let payload = MetadataMessage::Request { piece }.encode().into();
            world.inject(from, to, &[Message::Extended { id: 1, payload }]);
        }
        let block = Block { piece: PieceIndex(0), offset: 0, len: 1 };
        world.run(1);
        assert!(world.hosts.iter().all(|host| host.faults.is_empty()));
        // Nobody may ask for blocks of whom has said that it has none.
        world.inject(other, stranger, &[Message::Request(block)]);
        assert_eq!(world.hosts[stranger].faults, [PeerFault::NoSuchPiece]);
    }

    #[test]
    fn survives_noise_from_peers_while_it_waits() {
        for seed in 0..100 {
            let mut rng = Rng::from_seed(seed);
            let (mut world, stranger) = world(10, 1);
            let noisy = world.leech();
            world.connect(stranger, noisy);
            for _ in 0..50 {
                let piece = PieceIndex(rng.u32() >> rng.below(32));
                let bytes: Vec<u8> = (0..rng.below(40)).map(|_| rng.u32() as u8).collect();
                let data = MetadataMessage::Data {
                    piece: piece.0,
                    total_len: (rng.below(2) == 0).then(|| rng.u32() >> rng.below(32)),
                    data: bytes.clone().into(),
                };
                let hello = ExtendedHandshake {
                    m: [(b"ut_metadata".to_vec(), rng.u32() as u8)].into(),
                    metadata_size: Some(rng.u32() >> rng.below(32)),
                    ..ExtendedHandshake::default()
                };
                let message = match rng.below(9) {
                    0 => Message::Have(piece),
                    1 => Message::Bitfield(bytes.into()),
                    2 => Message::HaveAll,
                    3 => Message::HaveNone,
                    4 => Message::AllowedFast(piece),
                    5 => Message::Extended { id: 1, payload: data.encode().into() },
                    6 => Message::Extended { id: 0, payload: hello.encode().into() },
                    7 => Message::Extended { id: 1, payload: bytes.into() },
                    _ => Message::Unchoke,
                };
                world.inject(noisy, stranger, &[message]);
            }
            world.connect(stranger, 0);
            for _ in 0..90 {
                if world.hosts[stranger].metadata.is_none() {
                    world.run(1);
                }
            }
            learn_all_missing(&mut world, stranger);
            world.hosts[stranger].swarm.set_slots(Slots::Fixed(1));
            world.run(2);
            assert!(world.is_done(stranger), "seed {seed}");
        }
    }
}
