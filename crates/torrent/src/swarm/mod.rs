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
//! - [`Choker`], [`PeerList`], [`SmartBan`]: the policies, each by itself. `known_peer`: an entry of the list;
//!   `room`: who gives way to another.
//! - [`SwarmConfig`] goes in, [`Output`] comes out, `status` is for people.

mod buckets;
mod choker;
mod config;
mod dispute;
mod download;
mod early;
mod exchange;
mod extensions;
mod greeting;
mod hashes;
mod holepunch;
mod known_peer;
mod leaves;
mod messages;
mod metadata;
mod metadata_copy;
mod metadata_fetch;
mod offer;
mod output;
mod pause;
mod peer;
mod peer_list;
mod peer_text;
mod piece_picker;
mod pipeline;
mod priority;
mod requests;
mod room;
mod selector;
mod smart_ban;
mod status;
mod super_seeding;
#[cfg(test)]
pub(crate) mod tests;
mod upload_only;
mod uploads;
mod web_seeds;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use choker::{Candidate, Choker, ChokingTimers, Role, SeedingPolicy, Slots};
pub use config::{OwnPorts, Refused, SwarmConfig};
pub use download::{Verdict, VerifyJob};
pub use known_peer::{Ending, Source};
pub use offer::{Offer, OfferedPiece};
pub use output::Output;
pub use peer::{Direction, NewPeer, PeerStatus};
pub use peer_list::PeerList;
pub use priority::canonical_priority;
pub use selector::{PieceSelector, Selector, SelectorKind};
pub use smart_ban::{BlockOrigin, SmartBan};
pub use uploads::ReadRun;
pub use web_seeds::{WebRun, WebSeedKey};

use crate::metainfo::FileLayout;
use crate::rate::RateMeter;
use crate::wire::{Message, PeerFlags};
use crate::{Bitfield, InfoHash, PieceIndex, Rng};
use download::OpenPiece;
use hashes::Hashes;
use holepunch::Lately;
use metadata::Metadata;
use peer::Peer;
use piece_picker::PiecePicker;
use web_seeds::OpenRun;

/// One connected peer of one swarm. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u32);

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
    /// Who is here, for peers to be told of each other; and how often that has changed.
    contacts: BTreeMap<SocketAddr, PeerFlags>,
    peer_changes: u64,
    exchange_rng: Rng,
    /// Those whom we have asked to be introduced to.
    sought: Lately,
    /// Those whom relays have had us dial.
    met: Lately,
    /// When peers gave way to others, or nobody had to.
    turned_over_at: Instant,
    /// When the patience with peers grows back by another second's worth.
    patience_at: Instant,
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
            contacts: BTreeMap::new(),
            peer_changes: 0,
            exchange_rng: fork(),
            sought: Lately::new(holepunch::SOUGHT_EVERY),
            met: Lately::new(holepunch::MET_EVERY),
            turned_over_at: now,
            patience_at: now,
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
                self.known.remember_self(now, new.addr);
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
        if self.peers.len() == 1 {
            self.tick_at = now + TICK;
        }
        Ok(key)
    }

    /// The connection to a peer has ended, whoever ended it. Returns where it listens, if it came to us and has said
    /// so.
    pub fn remove_peer(&mut self, key: PeerKey) -> Option<SocketAddr> {
        self.forget_hash_requests(key);
        let mut peer = self.peers.remove(&key)?;
        self.metadata_peer_gone(key);
        self.picker.remove_peer(&peer.bits);
        for asked in std::mem::take(&mut peer.asked) {
            self.release(key, asked);
        }
        self.disown(key);
        let contact = peer.contact_of_incoming();
        if let Some(contact) = contact {
            self.known.left(contact);
        }
        self.rest_if_alone();
        contact
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
        // Of pieces whose hashes are awaited nothing is asked for yet, nor of a torrent that is but a name.
        let knows_its_needs = self.hashes.is_settled() && !self.is_awaiting_metadata();
        let is_done = |peer: &Peer| match self.is_completed {
            true => peer.is_seed(),
            false => peer.is_upload_only() && peer.interesting == 0 && knows_its_needs,
        };
        self.peers.get(&key).is_some_and(is_done)
    }

    /// Whether one side serves the other, which wants more: if it hangs up now, that is an interruption.
    pub fn is_in_the_middle(&self, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|peer| {
            let serves_us = peer.downloaded > 0 || !peer.peer_choking;
            let is_served = peer.uploaded > 0 || !peer.am_choking;
            (peer.am_interested && serves_us) || (peer.peer_interested && is_served)
        })
    }

    /// Whether a peer is connected from or at this address.
    pub fn is_connected_to(&self, addr: SocketAddr) -> bool {
        self.peers.values().any(|peer| peer.addr == addr)
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
        self.restore_patience(now);
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

    /// Peers may send as much again as in a second, however often we look in the end game.
    fn restore_patience(&mut self, now: Instant) {
        if now < self.patience_at {
            return;
        }
        self.patience_at = now + TICK;
        for peer in self.peers.values_mut() {
            peer.restore_patience();
            peer.hashes.restore();
            peer.metadata_wants.restore();
            peer.restore_introductions();
        }
    }

    fn tick_peer(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if now.saturating_duration_since(peer.received_at) >= IDLE_AFTER {
            self.outputs.push_back(Output::Close { peer: key, reason: "silent for three minutes" });
            return;
        }
        // What it has may be wanted once it is known.
        let is_needless = self.picker.wanted_missing() > 0 && self.hashes.is_settled();
        if is_needless && peer.is_of_no_use(now) {
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
        self.send_metadata(key);
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
const IDLE_AFTER: Duration = Duration::from_secs(180);
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(100);
