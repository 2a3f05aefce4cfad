//! How a swarm is doing, for whoever asks.

use std::sync::Arc;
use std::time::Instant;

use super::peer::Peer;
use super::{PeerKey, PeerStatus, Source, Swarm};
use crate::metainfo::FileLayout;
use crate::{Bitfield, Block};

impl Swarm {
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
}
