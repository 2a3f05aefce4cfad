//! What a peer hears of us: what we have, what we are called, whether we want anything.

use std::net::IpAddr;

use bytes::Bytes;

use super::peer::Peer;
use super::{OwnPorts, PeerKey, Swarm, uploads};
use crate::wire::{ExtendedHandshake, Message};

impl Swarm {
    /// What a new peer hears first: what we have, and which extensions we know.
    pub(super) fn greet(&mut self, peer: &mut Peer) {
        let count = if peer.shown.is_some() { 0 } else { self.picker.have().count() };
        let message = match (peer.has_fast, count) {
            (true, 0) => Some(Message::HaveNone),
            (true, _) if self.picker.have().is_all() => Some(Message::HaveAll),
            (false, 0) => None,
            _ => Some(Message::Bitfield(Bytes::copy_from_slice(self.picker.have().as_bytes()))),
        };
        if let Some(message) = message {
            peer.send(&message);
        }
        self.introduce(peer);
        self.name_node(peer);
        if let (true, IpAddr::V4(ip), None) = (peer.has_fast, peer.ip(), &peer.shown) {
            let count = self.layout.piece_count();
            peer.allowed_to_it = crate::wire::allowed_fast_set(
                ip,
                self.info_hash,
                count,
                ALLOWED_FAST_COUNT.min(count as usize),
            );
            peer.allowed_to_it.retain(|&piece| self.picker.have().has(piece));
            for piece in peer.allowed_to_it.clone() {
                peer.send(&Message::AllowedFast(piece));
            }
        }
    }

    /// Says what we are called and whether we want anything, in the words of BEP 10.
    fn introduce(&self, peer: &mut Peer) {
        if !peer.has_extensions {
            return;
        }
        let client = Some(self.config.client.clone()).filter(|client| !client.is_empty());
        let hello = ExtendedHandshake {
            reqq: Some(uploads::REQUESTS_QUEUED_MAX as u32),
            yourip: client.is_some().then_some(peer.ip()),
            p: self.ports_for(peer).listen.filter(|_| client.is_some()),
            v: client,
            // Others would hang up on a seed that has nothing to show.
            upload_only: Some(self.is_completed && peer.shown.is_none()),
            m: self.extensions(),
            metadata_size: self.metadata_len(),
            e: self.config.prefers_encryption.then_some(true),
        };
        peer.send(&Message::Extended { id: 0, payload: hello.encode().into() });
    }

    /// Says where our node of the DHT is.
    fn name_node(&self, peer: &mut Peer) {
        let node = self.ports_for(peer).dht.filter(|_| !self.config.is_private);
        if let Some(port) = node.filter(|_| peer.reserved.has_dht()) {
            peer.send(&Message::Port(port));
        }
    }

    /// We are to be found elsewhere from now on: those whom that is for are told.
    pub fn set_ports(&mut self, ports: [OwnPorts; 2]) {
        let before = std::mem::replace(&mut self.config.ports, ports);
        let mut peers = std::mem::take(&mut self.peers);
        for (&key, peer) in &mut peers {
            let family = usize::from(is_v6(peer));
            let (now, before) = (ports[family], before[family]);
            if now.listen != before.listen {
                self.introduce(peer);
            }
            if now.dht != before.dht {
                self.name_node(peer);
            }
            self.dirty.push(key);
        }
        self.peers = peers;
    }

    /// Where we are to be found, over the family that we met this one by.
    fn ports_for(&self, peer: &Peer) -> OwnPorts {
        self.config.ports[usize::from(is_v6(peer))]
    }

    /// The same, after it has changed whether we want anything.
    pub(super) fn introduce_again(&mut self, key: PeerKey) {
        if let Some(mut peer) = self.peers.remove(&key) {
            self.introduce(&mut peer);
            self.peers.insert(key, peer);
            self.dirty.push(key);
        }
    }
}

fn is_v6(peer: &Peer) -> bool {
    peer.ip().to_canonical().is_ipv6()
}

const ALLOWED_FAST_COUNT: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::world::World;
    use crate::wire::Reserved;

    #[test]
    fn our_node_is_named_to_who_has_one_unless_the_torrent_is_private() {
        for is_private in [false, true] {
            let mut world = World::new(100_000, 16_384);
            let (seed, leech) = (world.seed(), world.leech());
            let swarm = &mut world.hosts[seed].swarm;
            // A link may turn out to be private after it was told of the node.
            swarm.config.ports = [OwnPorts { listen: None, dht: Some(6881) }; 2];
            swarm.config.is_private = is_private;
            world.hosts[leech].heard = Some(Vec::new());
            world.connect_with(seed, leech, Reserved::ours().with_dht());
            world.run(1);
            let heard = world.hosts[leech].heard.take().unwrap_or_default();
            assert_eq!(heard.contains(&Message::Port(6881)), !is_private);
        }
    }
}
