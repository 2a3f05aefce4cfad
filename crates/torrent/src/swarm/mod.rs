//! The brain of one torrent: what to ask of whom, whom to serve, what is ours already.
//!
//! A [`Swarm`] is told what its peers say (`handle_*`) and what the disk did; after each, take every
//! [`Output`] and do it. It knows no socket and no file.
//!
//! - `peer`: what is known of one connection; `pipeline`: how deep to ask.
//! - `greeting`: what we say of ourselves. `messages`: what each message does. `requests`: which
//!   blocks to ask for next.
//! - `download`: blocks that came, until their piece is verified. `uploads`: serving others.
//!   `pause`: neither, for a while.
//! - `piece_picker` and its `buckets`: what is wanted and how common it is. [`Offer`]: what of it one
//!   peer has. [`Selector`]: which of that to take.
//! - [`Choker`], [`PeerList`], [`SmartBan`]: the policies, each by itself.

mod buckets;
mod choker;
mod download;
mod greeting;
mod messages;
mod offer;
mod pause;
mod peer;
mod peer_list;
mod peer_text;
mod piece_picker;
mod pipeline;
mod requests;
mod selector;
mod smart_ban;
#[cfg(test)]
pub(crate) mod tests;
mod uploads;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use choker::{Candidate, Choker, ChokingTimers, Role, SeedingPolicy, Slots};
pub use download::{Verdict, VerifyJob};
pub use offer::{Offer, OfferedPiece};
pub use peer::{Direction, NewPeer, PeerStatus};
pub use peer_list::{Ending, PeerList, Source};
pub use selector::{PieceSelector, Selector, SelectorKind};
pub use smart_ban::{BlockOrigin, SmartBan};
pub use uploads::ReadRun;

use crate::metainfo::FileLayout;
use crate::rate::RateMeter;
use crate::wire::Message;
use crate::{Bitfield, Block, InfoHash, PeerId, PieceIndex, Rng};
use download::OpenPiece;
use peer::Peer;
use piece_picker::PiecePicker;

/// One connected peer of one swarm. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u32);

/// What the caller must do next.
#[derive(Debug)]
pub enum Output {
    /// Send these bytes to the peer.
    Send {
        /// To whom.
        peer: PeerKey,
        /// Whole messages.
        bytes: Bytes,
    },
    /// Send a block to the peer: the head of the message, then the data.
    SendBlock {
        /// To whom.
        peer: PeerKey,
        /// The message up to the data.
        head: [u8; 13],
        /// The data.
        data: Bytes,
    },
    /// Hash these blocks, and write them if they match; then [`Swarm::handle_verdict`].
    Verify(VerifyJob),
    /// Write these blocks although their piece is not whole yet: memory is short.
    Store(VerifyJob),
    /// A piece is ours now.
    PieceVerified(PieceIndex),
    /// A piece came and its hash is wrong; it will be asked for again.
    PieceFailed(PieceIndex),
    /// End the connection; then [`Swarm::remove_peer`].
    Close {
        /// Which.
        peer: PeerKey,
        /// Why, in words.
        reason: &'static str,
    },
    /// Everyone at this address sent data that was proven wrong; its connections are being closed.
    Banned(IpAddr),
    /// All that is wanted is here.
    Completed,
}

/// Why a peer was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is ourselves.
    #[error("connected to ourselves")]
    Ourselves,
    /// We are connected already.
    #[error("already connected")]
    Duplicate,
    /// It sent bad data before.
    #[error("banned")]
    Banned,
}

/// What a swarm may be told at birth.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// The name we go by.
    pub peer_id: PeerId,
    /// The port we listen on, told to peers; `None` if we do not.
    pub port: Option<u16>,
    /// Our client's name, told to peers.
    pub client: String,
    /// How many peers to serve at once.
    pub slots: Slots,
    /// Whom to serve when all is here.
    pub seeding: SeedingPolicy,
    /// When it is decided who is served.
    pub choking: ChokingTimers,
}

/// One torrent's dealings with its peers.
#[derive(Debug)]
pub struct Swarm {
    config: SwarmConfig,
    info_hash: InfoHash,
    layout: Arc<FileLayout>,
    picker: PiecePicker,
    selector: Selector,
    selector_rng: Rng,
    open: BTreeMap<PieceIndex, OpenPiece>,
    peers: BTreeMap<PeerKey, Peer>,
    next_key: u32,
    /// Addresses to dial, and bans.
    pub known: PeerList,
    choker: Choker,
    smart_ban: SmartBan,
    /// Counts the times when blocks became free to ask for: a peer that found none looks again
    /// only after it has changed.
    supply: u64,
    /// Bytes of blocks in memory: received, not yet on disk.
    held_len: u64,
    tick_at: Instant,
    is_completed: bool,
    is_paused: bool,
    was_endgame: bool,
    upload_capacity: Option<u64>,
    down: RateMeter,
    up: RateMeter,
    downloaded: u64,
    uploaded: u64,
    wasted: u64,
    dirty: Vec<PeerKey>,
    outputs: VecDeque<Output>,
}

impl Swarm {
    /// A swarm without peers. `have` says what is on disk, `priorities` has a number a piece: 0 is
    /// not wanted, 7 is wanted most.
    ///
    /// # Panics
    /// If `have` has not one bit for each piece.
    pub fn new(
        now: Instant,
        info_hash: InfoHash,
        layout: Arc<FileLayout>,
        have: Bitfield,
        priorities: &[u8],
        config: SwarmConfig,
        mut rng: Rng,
    ) -> Self {
        assert_eq!(have.len(), layout.piece_count(), "a bit for each piece");
        let mut fork = || Rng::from_seed(rng.u64());
        let picker = PiecePicker::new(have, priorities, fork());
        let is_completed = picker.wanted_missing() == 0;
        Self {
            known: PeerList::new(KNOWN_PEERS_MAX, fork()),
            choker: Choker::new(now, config.choking, fork()),
            smart_ban: SmartBan::new(),
            config,
            info_hash,
            layout,
            picker,
            selector: Selector::default(),
            selector_rng: fork(),
            open: BTreeMap::new(),
            peers: BTreeMap::new(),
            next_key: 0,
            supply: 0,
            held_len: 0,
            tick_at: now,
            is_completed,
            is_paused: false,
            was_endgame: false,
            upload_capacity: None,
            down: RateMeter::new(now),
            up: RateMeter::new(now),
            downloaded: 0,
            uploaded: 0,
            wasted: 0,
            dirty: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// A peer has shaken hands.
    ///
    /// # Errors
    /// If it is one that we must not talk to; close the connection.
    pub fn add_peer(&mut self, now: Instant, new: &NewPeer) -> Result<PeerKey, Refused> {
        if new.peer_id == self.config.peer_id {
            // Who came to us did so from a port that nobody listens on.
            if new.direction == Direction::Outgoing {
                self.known.remember_self(new.addr);
            }
            return Err(Refused::Ourselves);
        }
        if self.known.is_banned(new.addr.ip()) {
            return Err(Refused::Banned);
        }
        let is_same = |peer: &Peer| peer.peer_id == new.peer_id || peer.addr == new.addr;
        if self.peers.values().any(is_same) {
            return Err(Refused::Duplicate);
        }
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        let mut peer = Peer::new(now, new, self.layout.piece_count());
        self.greet(&mut peer);
        self.peers.insert(key, peer);
        self.dirty.push(key);
        if self.peers.len() == 1 {
            self.tick_at = now + TICK;
        }
        Ok(key)
    }

    /// The connection to a peer has ended, whoever ended it.
    pub fn remove_peer(&mut self, key: PeerKey) {
        let Some(mut peer) = self.peers.remove(&key) else { return };
        self.picker.remove_peer(&peer.bits);
        for asked in std::mem::take(&mut peer.asked) {
            self.release(key, asked);
        }
        self.disown(key);
        self.rest_if_alone();
    }

    /// Keeps nothing in memory that is of use with peers only, when there are none.
    fn rest_if_alone(&mut self) {
        if self.peers.is_empty() && self.open.is_empty() {
            self.picker.rest();
            self.dirty = Vec::new();
            self.outputs.shrink_to_fit();
        }
    }

    /// The caller did not read from this peer for a while: its silence is no fault of its own.
    pub fn excuse(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            (peer.received_at, peer.block_at) = (now, now);
        }
    }

    /// Whether neither side has a use for the other: both have all that they want.
    pub fn is_useless(&self, key: PeerKey) -> bool {
        self.is_completed && self.peers.get(&key).is_some_and(Peer::is_seed)
    }

    /// Takes the next thing to do, until there is none.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        while let Some(key) = self.dirty.pop() {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            if !peer.outbox.is_empty() {
                return Some(Output::Send { peer: key, bytes: peer.take_outbox(now) });
            }
        }
        None
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if there are peers.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.peers.is_empty()).then_some(self.tick_at)
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) gave has come. Harmless if it has not.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.tick_at {
            return;
        }
        let is_endgame = self.is_endgame();
        if is_endgame && !self.was_endgame {
            // Whoever found nothing to ask for may ask again now for what is late elsewhere.
            self.supply += 1;
        }
        self.was_endgame = is_endgame;
        self.tick_at = now + if is_endgame { ENDGAME_TICK } else { TICK };
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            self.tick_peer(now, key);
        }
        if !self.is_paused && self.choker.is_due(now) {
            self.rechoke(now);
        }
    }

    fn tick_peer(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.restore_patience();
        if now.saturating_duration_since(peer.received_at) >= IDLE_AFTER {
            self.outputs.push_back(Output::Close { peer: key, reason: "silent for three minutes" });
            return;
        }
        if now.saturating_duration_since(peer.sent_at) >= KEEP_ALIVE_AFTER {
            peer.send(&Message::KeepAlive);
            self.dirty.push(key);
        }
        if peer.stalls(now) {
            peer.is_snubbed = true;
            peer.pipeline.stalled(now);
            self.release_all(key);
        }
        self.fill(now, key);
    }

    fn rechoke(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            let is_idle =
                peer.unchoked_at.is_some_and(|at| now.saturating_duration_since(at) >= IDLE_TURN)
                    && peer.uploaded_since_unchoke == 0
                    && peer.wants.is_empty()
                    && peer.reading.is_empty();
            peer.wasted_its_turn |= is_idle;
        }
        let candidates: Vec<Candidate> =
            self.peers.iter().map(|(&key, peer)| candidate(now, key, peer)).collect();
        let role =
            if self.is_completed { Role::Seeding(self.config.seeding) } else { Role::Leeching };
        let served =
            self.choker.rechoke(now, role, self.config.slots, self.upload_capacity, &candidates);
        for Candidate { key, is_choked, .. } in candidates {
            match (served.contains(&key), is_choked) {
                (true, true) => self.unchoke(now, key),
                (false, false) => self.choke(key),
                (true, false) | (false, true) => {}
            }
        }
    }

    /// Which pieces are ours.
    pub const fn have(&self) -> &Bitfield {
        self.picker.have()
    }

    /// Where the pieces lie.
    pub const fn layout(&self) -> &Arc<FileLayout> {
        &self.layout
    }

    /// Whether all that is wanted is here.
    pub const fn is_completed(&self) -> bool {
        self.is_completed
    }

    /// How many pieces are wanted and not here.
    pub fn wanted_missing(&self) -> u32 {
        self.picker.wanted_missing()
    }

    /// How many peers are connected.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// How many of them have everything.
    pub fn seed_count(&self) -> usize {
        self.peers.values().filter(|peer| peer.is_seed()).count()
    }

    /// Every connected peer, for people to look at.
    pub fn peers(&self, now: Instant) -> impl Iterator<Item = (PeerKey, PeerStatus)> {
        self.peers.iter().map(move |(&key, peer)| (key, self.status_of(now, key, peer)))
    }

    /// One connected peer.
    pub fn peer_status(&self, now: Instant, key: PeerKey) -> Option<PeerStatus> {
        self.peers.get(&key).map(|peer| self.status_of(now, key, peer))
    }

    /// The peer that gives way first when there is no room: of those connected for a minute where neither
    /// wants anything of the other, the oldest.
    pub fn least_useful(&self, now: Instant) -> Option<PeerKey> {
        let is_useless = |peer: &Peer| {
            !peer.am_interested
                && !peer.peer_interested
                && now.saturating_duration_since(peer.connected_at) >= USELESS_AFTER
        };
        let useless = self.peers.iter().filter(|(_, peer)| is_useless(peer));
        useless.min_by_key(|(_, peer)| peer.connected_at).map(|(&key, _)| key)
    }

    /// Which pieces a connected peer has.
    pub fn peer_bitfield(&self, key: PeerKey) -> Option<&Bitfield> {
        self.peers.get(&key).map(|peer| &peer.bits)
    }

    /// The blocks that a connected peer was asked for and has not sent, in the order asked.
    pub fn peer_requests(&self, key: PeerKey) -> impl Iterator<Item = Block> {
        self.peers.get(&key).into_iter().flat_map(|peer| peer.asked.iter().map(|asked| asked.block))
    }

    fn status_of(&self, now: Instant, key: PeerKey, peer: &Peer) -> PeerStatus {
        let source = self.known.source(peer.addr).unwrap_or(Source::Incoming);
        let is_optimistic = !peer.am_choking && self.choker.optimistic() == Some(key);
        peer.status(now, source, is_optimistic)
    }

    /// Payload received, in bytes per second.
    pub fn download_rate(&self, now: Instant) -> u64 {
        self.down.bytes_per_second(now)
    }

    /// Payload sent, in bytes per second.
    pub fn upload_rate(&self, now: Instant) -> u64 {
        self.up.bytes_per_second(now)
    }

    /// Payload received since birth that was asked for, in bytes, good or bad.
    pub const fn downloaded(&self) -> u64 {
        self.downloaded
    }

    /// Payload sent since birth, in bytes.
    pub const fn uploaded(&self) -> u64 {
        self.uploaded
    }

    /// Payload received twice, never asked for, or of pieces that failed, in bytes.
    pub const fn wasted(&self) -> u64 {
        self.wasted
    }

    /// Bytes of blocks in memory: received, not yet on disk.
    pub const fn held_len(&self) -> u64 {
        self.held_len
    }

    /// The limit on uploading, if there is one: fewer peers are served if it is low.
    pub const fn set_upload_capacity(&mut self, bytes_per_second: Option<u64>) {
        self.upload_capacity = bytes_per_second;
    }
}

fn candidate(now: Instant, key: PeerKey, peer: &Peer) -> Candidate {
    Candidate {
        key,
        host: peer.ip(),
        is_interested: peer.peer_interested,
        is_choked: peer.am_choking,
        download_rate: peer.down.bytes_per_second(now),
        upload_rate: peer.up.bytes_per_second(now),
        is_snubbed: peer.is_snubbed,
        connected_at: peer.connected_at,
        unchoked_at: peer.unchoked_at,
        uploaded_since_unchoke: peer.uploaded_since_unchoke,
        wasted_its_turn: peer.wasted_its_turn,
    }
}

/// Whoever is served for so long and asks for nothing gives way.
const IDLE_TURN: Duration = Duration::from_secs(5);
/// Addresses remembered per torrent.
const KNOWN_PEERS_MAX: usize = 3000;
const TICK: Duration = Duration::from_secs(1);
const ENDGAME_TICK: Duration = Duration::from_millis(100);
/// No peer is called useless before it has had so long to say what it has.
const USELESS_AFTER: Duration = Duration::from_secs(60);
const IDLE_AFTER: Duration = Duration::from_secs(180);
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(100);
