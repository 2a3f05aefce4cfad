//! What a connection begins with: who we are, and by which of its names a torrent is meant.

use std::net::SocketAddr;

use bytes::Bytes;
use reactor::{Closed, Reactor, Token};
use torrent::wire::{Handshake, Reserved};
use torrent::{InfoHash, InfoHashV2, InfoHashes};

use crate::engine::Engine;
use crate::event::Packet;

impl Engine {
    /// Who we are, and for which torrent: what a connection begins with. It is told as sent.
    pub(crate) fn greeting(&self, addr: SocketAddr, info_hash: InfoHash) -> [u8; Handshake::LEN] {
        let ours = Reserved::ours().with_v2_if(self.names(info_hash).v2.is_some());
        let has_dht = self.dht.is_some() && !self.is_private(info_hash);
        let reserved = if has_dht { ours.with_dht() } else { ours };
        let task = self.by_hash.get(&info_hash).and_then(|id| self.tasks.get(id));
        let peer_id = task.map_or(self.identity, |task| task.identity).peer_id;
        let ours = Handshake { reserved, info_hash, peer_id };
        self.tell_packet(Some(info_hash), addr, || Packet::Handshake(ours), true);
        self.tell_written(Some(info_hash), addr, Handshake::LEN);
        ours.encode()
    }

    /// Says who we are, and for which torrent.
    ///
    /// # Errors
    /// If the connection is over.
    pub(crate) fn greet(
        &self,
        token: Token,
        addr: SocketAddr,
        info_hash: InfoHash,
        reactor: &mut Reactor<Self>,
    ) -> Result<(), Closed> {
        let greeting = self.greeting(addr, info_hash);
        reactor.write(token, Bytes::copy_from_slice(&greeting)).map(drop)
    }

    fn is_private(&self, info_hash: InfoHash) -> bool {
        let task = self.by_hash.get(&info_hash).and_then(|id| self.tasks.get(id));
        task.is_some_and(|task| task.metainfo.is_private())
    }

    /// All names of the torrent that has this one.
    pub(crate) fn names(&self, info_hash: InfoHash) -> InfoHashes {
        let task = self.by_hash.get(&info_hash).and_then(|id| self.tasks.get(id));
        let none = InfoHashes { v1: None, v2: None };
        task.map_or(none, |task| task.metainfo.info_hashes())
    }

    /// By which name we answer a peer: who knows version 2 too is told so by that of version 2 (BEP 52).
    pub(crate) fn name_for(&self, theirs: &Handshake) -> InfoHash {
        let v2 = self.names(theirs.info_hash).v2.filter(|_| theirs.reserved.has_v2());
        v2.map_or(theirs.info_hash, InfoHashV2::truncated)
    }

    /// Whether two names are of one torrent.
    pub(crate) fn is_same_torrent(&self, one: InfoHash, other: InfoHash) -> bool {
        one == other
            || self.by_hash.get(&one).is_some_and(|id| self.by_hash.get(&other) == Some(id))
    }
}
