//! The brain of one torrent: what to ask of whom, whom to serve, what is ours already.
//!
//! A [`Swarm`] is told what its peers say (`handle_*`) and what the disk did; after each, take every
//! [`Output`] and do it. It knows no socket and no file.
//!
//! - `peer`: what is known of one connection; `pipeline`: how deep to ask.
//! - `greeting`: what we say of ourselves. `messages`: what each message does. `requests`: which
//!   blocks to ask for next. `web_seeds`: the same for servers that have the files.
//! - `extensions`: messages that both have to know. `exchange`: who else is there; `holepunch`:
//!   having them meet; `upload_only`: who wants nothing more. `priority`: an order of peers that both ends agree on.
//! - `metadata`: what the torrent is, from peers and for them; `metadata_fetch`: whom to ask and believe;
//!   `early`: what they say of pieces before that is known.
//! - `download`: blocks that came, until their piece is verified. `uploads`: serving others.
//!   `pause`: neither, for a while. `super_seeding`: as little as can be of a whole copy.
//! - `hashes`: what is to be known before pieces of version 2 can be verified. `leaves`: the hashes of blocks, for
//!   others; `dispute`: from others, to find the wrong blocks of a wrong piece.
//! - `piece_picker` and its `buckets`: what is wanted and how common it is. [`Offer`]: what of it one
//!   peer has. [`Selector`]: which of that to take.
//! - [`Choker`], [`PeerList`], [`SmartBan`]: the policies, each by itself.

mod buckets;
mod choker;
mod dispute;
mod download;
mod early;
mod exchange;
mod extensions;
mod greeting;
mod hashes;
mod holepunch;
mod leaves;
mod messages;
mod metadata;
mod metadata_copy;
mod metadata_fetch;
mod offer;
mod pause;
mod peer;
mod peer_list;
mod peer_text;
mod piece_picker;
mod pipeline;
mod priority;
mod requests;
mod selector;
mod smart_ban;
mod super_seeding;
#[cfg(test)]
pub(crate) mod tests;
mod upload_only;
mod uploads;
mod web_seeds;
#[cfg(test)]
mod world;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use choker::{Candidate, Choker, ChokingTimers, Role, SeedingPolicy, Slots};
pub use download::{Verdict, VerifyJob};
pub use offer::{Offer, OfferedPiece};
pub use peer::{Direction, NewPeer, PeerStatus};
pub use peer_list::{Ending, PeerList, Source};
pub use priority::canonical_priority;
pub use selector::{PieceSelector, Selector, SelectorKind};
pub use smart_ban::{BlockOrigin, SmartBan};
pub use uploads::ReadRun;
pub use web_seeds::{WebRun, WebSeedKey};

use crate::metainfo::FileLayout;
use crate::rate::RateMeter;
use crate::wire::Message;
use crate::{Bitfield, Block, InfoHash, PeerId, PieceIndex, Rng};
use download::OpenPiece;
use hashes::Hashes;
use metadata::Metadata;
use peer::Peer;
use piece_picker::PiecePicker;
use web_seeds::OpenRun;

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
    /// A web seed sent data that was proven wrong: ask it no more.
    WebSeedLied(WebSeedKey),
    /// All that is wanted is here.
    Completed,
    /// The hashes of all pieces have come from peers: those of [`Swarm::set_hashes`] are whole.
    HashesKnown,
    /// The hashes of these pieces have come, and they may be on disk already ([`Swarm::hold`]): look, and say of each
    /// by [`Swarm::handle_rechecked`].
    Recheck(Vec<PieceIndex>),
    /// A peer asks about the blocks of these pieces: read them, then [`Swarm::handle_block_hashes`].
    HashBlocks(Vec<PieceIndex>),
    /// The info dictionary has come from peers, whole and right; then [`Swarm::learn`].
    Metadata(Bytes),
    /// Addresses have come: somebody may be dialled.
    Found,
    /// A peer introduces us to another, which dials us now: dial it, by uTP.
    Rendezvous(SocketAddr),
    /// A peer says at which address it sees us.
    SeenAs {
        /// Where the peer is.
        by: IpAddr,
        /// What it says.
        ours: IpAddr,
    },
    /// A peer says that it has a node of the DHT, at its address and this port.
    DhtNode(SocketAddr),
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
    /// Our client's name, told to peers. Empty, peers are told neither that nor what address they have.
    pub client: String,
    /// How many peers to serve at once.
    pub slots: Slots,
    /// Whom to serve when all is here.
    pub seeding: SeedingPolicy,
    /// When it is decided who is served.
    pub choking: ChokingTimers,
    /// Tell peers of each other and hear of others from them (BEP 11), and help them to meet (BEP 55).
    pub exchange: bool,
    /// Peers are found by trackers only (BEP 27): nothing is exchanged, and what comes from elsewhere is not taken.
    pub is_private: bool,
    /// The UDP port of our node of the DHT, for peers that have one; `None` if we have none, or the torrent is private.
    pub dht_port: Option<u16>,
}

/// One torrent's dealings with its peers.
#[derive(Debug)]
pub struct Swarm {
    config: SwarmConfig,
    info_hash: InfoHash,
    layout: Arc<FileLayout>,
    metadata: Metadata,
    picker: PiecePicker,
    selector: Selector,
    selector_rng: Rng,
    open: BTreeMap<PieceIndex, OpenPiece>,
    peers: BTreeMap<PeerKey, Peer>,
    web_runs: BTreeMap<WebSeedKey, OpenRun>,
    next_key: u32,
    /// Addresses to dial, and bans.
    pub known: PeerList,
    choker: Choker,
    smart_ban: SmartBan,
    hashes: Hashes,
    /// Counts the times when blocks became free to ask for: a peer that found none looks again
    /// only after it has changed.
    supply: u64,
    /// Counts the changes in who is here and where: peers are told of each other when it has changed.
    peer_changes: u64,
    exchange_rng: Rng,
    /// Those whom we have asked to be introduced to, and when.
    sought: Vec<(Instant, SocketAddr)>,
    /// Bytes of blocks in memory: received, not yet on disk.
    held_len: u64,
    tick_at: Instant,
    is_completed: bool,
    is_paused: bool,
    wants_super_seeding: bool,
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
        let mut known = PeerList::new(KNOWN_PEERS_MAX, fork());
        known.avoid_seeds(is_completed);
        if config.is_private {
            known.set_private();
        }
        Self {
            known,
            choker: Choker::new(now, config.choking, fork()),
            smart_ban: SmartBan::new(),
            hashes: Hashes::default(),
            config,
            info_hash,
            layout,
            metadata: Metadata::default(),
            picker,
            selector: Selector::default(),
            selector_rng: fork(),
            open: BTreeMap::new(),
            peers: BTreeMap::new(),
            web_runs: BTreeMap::new(),
            next_key: 0,
            supply: 0,
            peer_changes: 0,
            exchange_rng: fork(),
            sought: Vec::new(),
            held_len: 0,
            tick_at: now,
            is_completed,
            is_paused: false,
            wants_super_seeding: false,
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
        if let Some((&peer, other)) = self.peers.iter().find(|(_, peer)| is_same(peer)) {
            if !self.gives_way(now, other, new) {
                return Err(Refused::Duplicate);
            }
            self.outputs.push_back(Output::Close { peer, reason: "already connected" });
        }
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        let mut peer = Peer::new(now, new, self.layout.piece_count());
        peer.shown = self.is_super_seeding().then(|| self.show_nothing());
        peer.early = self.early_of_new_peer();
        self.greet(&mut peer);
        self.peers.insert(key, peer);
        self.dirty.push(key);
        self.ask_for_hashes(now, key);
        self.peer_changes += 1;
        if self.peers.len() == 1 {
            self.tick_at = now + TICK;
        }
        Ok(key)
    }

    /// The connection to a peer has ended, whoever ended it.
    pub fn remove_peer(&mut self, key: PeerKey) {
        self.forget_hash_requests(key);
        let Some(mut peer) = self.peers.remove(&key) else { return };
        self.metadata_peer_gone(key);
        self.picker.remove_peer(&peer.bits);
        for asked in std::mem::take(&mut peer.asked) {
            self.release(key, asked);
        }
        self.disown(key);
        if let Some(contact) = peer.contact_of_incoming() {
            self.known.left(contact);
        }
        self.peer_changes += 1;
        self.rest_if_alone();
    }

    /// Whether a connection is replaced by another to the same peer. Two that dial each other at once have two, and both
    /// have to close the same: what whoever has the greater name has dialled stays.
    fn gives_way(&self, now: Instant, other: &Peer, new: &NewPeer) -> bool {
        let stays = match self.config.peer_id.0 > new.peer_id.0 {
            true => Direction::Outgoing,
            false => Direction::Incoming,
        };
        let is_young = now.saturating_duration_since(other.connected_at) < AT_ONCE;
        let is_twin = other.peer_id == new.peer_id && other.ip() == new.addr.ip();
        is_young && is_twin && other.direction != stays && new.direction == stays
    }

    /// Keeps nothing in memory that is of use with peers only, when there are none.
    fn rest_if_alone(&mut self) {
        if self.peers.is_empty() && self.open.is_empty() {
            self.picker.rest();
            self.forget_leaves();
            self.dirty = Vec::new();
            self.outputs.shrink_to_fit();
        }
    }

    /// Takes over the addresses that another brain of the same torrent knows.
    pub fn take_known(&mut self, from: &mut Self) {
        std::mem::swap(&mut self.known, &mut from.known);
        self.known.forget_who_came();
        self.note_for_known();
    }

    /// Tells the list of addresses which of them are of use.
    fn note_for_known(&mut self) {
        self.known.avoid_seeds(self.is_completed);
        if self.config.is_private {
            self.known.set_private();
        }
    }

    /// The caller did not read from this peer for a while: its silence is no fault of its own.
    pub fn excuse(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            (peer.received_at, peer.block_at) = (now, now);
        }
    }

    /// Whether neither side has a use for the other: it wants nothing, and has nothing that we want.
    pub fn is_useless(&self, key: PeerKey) -> bool {
        // Of pieces whose hashes are awaited nothing is asked for yet.
        let knows_its_needs = self.hashes.is_settled();
        let is_done = |peer: &Peer| match self.is_completed {
            true => peer.is_seed(),
            false => peer.is_upload_only() && peer.interesting == 0 && knows_its_needs,
        };
        self.peers.get(&key).is_some_and(is_done)
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
        self.tick_metadata(now);
        self.tick_disputes(now);
        self.tick_leaves(now);
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            self.tick_peer(now, key);
        }
        self.tell_of_peers(now);
        if !self.is_paused && self.choker.is_due(now) {
            self.rechoke(now);
        }
    }

    fn tick_peer(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.restore_patience();
        peer.restore_introductions();
        if now.saturating_duration_since(peer.received_at) >= IDLE_AFTER {
            self.outputs.push_back(Output::Close { peer: key, reason: "silent for three minutes" });
            return;
        }
        if peer.is_of_no_use(now) && self.picker.wanted_missing() > 0 {
            let reason = "neither has what the other wants";
            self.outputs.push_back(Output::Close { peer: key, reason });
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
        self.show_more(now, key);
        self.tick_metadata_wants(key);
        self.fill(now, key);
        self.tick_hashes(now, key);
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

    /// The peer that gives way first when there is no room, if there is one that may: of those connected for a
    /// minute where neither wants anything of the other, and then of those with whom no block has gone either
    /// way for five minutes, the one that ranks lowest, and the oldest of equals.
    pub fn least_useful(&self, now: Instant) -> Option<PeerKey> {
        let since = |at: Instant| now.saturating_duration_since(at);
        let is_useless = |peer: &Peer| {
            let wants_nothing = !peer.am_interested && !peer.peer_interested;
            if wants_nothing && since(peer.connected_at) >= USELESS_AFTER {
                return Some(true);
            }
            // What a pause holds up is nobody's fault.
            (since(peer.payload_at) >= UNUSED_AFTER && !self.is_paused).then_some(false)
        };
        let rank = |peer: &Peer| Reverse(self.known.rank(peer.contact().unwrap_or(peer.addr)));
        let candidates =
            self.peers.iter().filter_map(|(&key, peer)| Some((key, peer, is_useless(peer)?)));
        let first = candidates
            .min_by_key(|(_, peer, is_useless)| (!is_useless, rank(peer), peer.connected_at));
        first.map(|(key, ..)| key)
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
/// Two connections of the same peer that came within so long were dialled at once.
const AT_ONCE: Duration = Duration::from_secs(5);
/// No peer is called useless before it has had so long to say what it has.
const USELESS_AFTER: Duration = Duration::from_secs(60);
/// No peer is called of little use before nothing has come or gone for so long.
const UNUSED_AFTER: Duration = Duration::from_secs(300);
const IDLE_AFTER: Duration = Duration::from_secs(180);
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(100);
