//! Meeting peers that cannot be dialled: a third, connected to both, has them dial each other at once ([BEP 55]).
//!
//! Each of us may be any of the three. As a relay we introduce only those who are connected to us and know the
//! extension, a few a minute. Whoever introduces somebody to us is believed as far as he can know the address.
//!
//! [BEP 55]: https://www.bittorrent.org/beps/bep_0055.html

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::known_peer::canonical;
use super::peer::Peer;
use super::{Output, PeerKey, Swarm};
use crate::wire::{Extension, HolepunchError, HolepunchMessage, PeerFlags};
use crate::{PeerFault, Reach};

impl Swarm {
    /// Dialling somebody led to nothing: asks a peer that is connected to it to introduce us. Returns whether there is
    /// such a peer; then an [`Output::Rendezvous`] may follow. Nobody is sought again within five minutes.
    pub fn seek_introduction(&mut self, now: Instant, addr: SocketAddr) -> bool {
        if !self.exchanges() || !self.sought.may_add(now, addr) {
            return false;
        }
        let knows_both = |peer: &Peer| {
            peer.exchange.knows(addr) && peer.number_of(Extension::Holepunch).is_some()
        };
        let relay = self.peers.iter_mut().find(|(_, peer)| {
            // With an introduction to spare, so that nobody is asked for all of them.
            knows_both(peer) && peer.introductions > 0
        });
        let Some((&key, relay)) = relay else { return false };
        relay.introductions -= 1;
        self.sought.add(now, addr);
        let message = HolepunchMessage::Rendezvous(canonical(addr)).encode();
        self.send_extension(key, Extension::Holepunch, message)
    }

    pub(super) fn handle_holepunch(
        &mut self,
        now: Instant,
        key: PeerKey,
        payload: &[u8],
    ) -> Result<(), PeerFault> {
        let is_welcome = self.exchanges();
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        peer.spend_patience()?;
        if !is_welcome {
            return Ok(());
        }
        match HolepunchMessage::decode(payload)? {
            HolepunchMessage::Rendezvous(addr) => self.introduce_two(key, canonical(addr)),
            HolepunchMessage::Connect(addr) => {
                self.be_introduced(now, key, canonical(addr));
                Ok(())
            }
            // The address waits for its next turn, as after any dialling that led to nothing.
            HolepunchMessage::Error(..) => Ok(()),
        }
    }

    /// As a relay: has the one who asks and the one asked for dial each other.
    fn introduce_two(&mut self, asker: PeerKey, wanted: SocketAddr) -> Result<(), PeerFault> {
        let Some(peer) = self.peers.get_mut(&asker) else { return Ok(()) };
        for _ in 0..INTRODUCTION_COST {
            peer.spend_patience()?;
        }
        let (asker_at, may_ask) = (peer.punched_at(), peer.introductions > 0);
        let found = self.peers.iter_mut().find(|(_, peer)| peer.is_at(wanted));
        let error = match found {
            _ if Reach::of(wanted.ip()) == Reach::Nowhere || wanted.port() == 0 => {
                Some(HolepunchError::NoSuchPeer)
            }
            _ if asker_at == Some(wanted) => Some(HolepunchError::NoSuchPeer),
            _ if self.known.is_self(wanted) => Some(HolepunchError::NoSelf),
            None => Some(HolepunchError::NotConnected),
            Some((_, peer)) if peer.number_of(Extension::Holepunch).is_none() => {
                Some(HolepunchError::NoSupport)
            }
            Some((&key, peer)) => {
                // More than either can make use of is not passed on.
                let wanted_at = peer.punched_at().unwrap_or(wanted);
                if let Some(asker_at) = asker_at.filter(|_| may_ask && peer.introductions > 0) {
                    peer.introductions -= 1;
                    let to_wanted = HolepunchMessage::Connect(asker_at).encode();
                    self.send_extension(key, Extension::Holepunch, to_wanted);
                    let to_asker = HolepunchMessage::Connect(wanted_at).encode();
                    self.send_extension(asker, Extension::Holepunch, to_asker);
                    if let Some(peer) = self.peers.get_mut(&asker) {
                        peer.introductions -= 1;
                    }
                }
                None
            }
        };
        if let Some(error) = error {
            let message = HolepunchMessage::Error(wanted, error).encode();
            self.send_extension(asker, Extension::Holepunch, message);
        }
        Ok(())
    }

    /// As one of the two: somebody at `addr` is about to dial us, and we dial it.
    fn be_introduced(&mut self, now: Instant, relay: PeerKey, addr: SocketAddr) {
        let is_here = self.peers.values().any(|peer| peer.is_at(addr));
        let Some(relay) = self.peers.get_mut(&relay) else { return };
        let is_credible = Reach::is_credible(addr.ip(), relay.ip()) && addr.port() != 0;
        let is_refused = self.known.is_banned(addr.ip()) || self.known.is_self(addr);
        if is_here || is_refused || !is_credible || relay.introductions == 0 {
            return;
        }
        // However many relays say so, nobody has us knock again and again.
        if !self.met.may_add(now, addr) {
            return;
        }
        relay.introductions -= 1;
        self.met.add(now, addr);
        self.known.add_exchanged(addr, PeerFlags::UTP | PeerFlags::HOLEPUNCH);
        self.outputs.push_back(Output::Rendezvous(addr));
    }
}

/// Addresses with which something was done lately.
#[derive(Debug)]
pub(super) struct Lately {
    every: Duration,
    list: Vec<(Instant, SocketAddr)>,
}

impl Lately {
    /// Nothing was. It may be done with the same address once in `every`.
    pub(super) const fn new(every: Duration) -> Self {
        Self { every, list: Vec::new() }
    }

    /// Whether it may be done with this one.
    fn may_add(&mut self, now: Instant, addr: SocketAddr) -> bool {
        self.list.retain(|(at, _)| now.saturating_duration_since(*at) < self.every);
        self.list.len() < LATELY_MAX && self.list.iter().all(|(_, known)| *known != addr)
    }

    fn add(&mut self, now: Instant, addr: SocketAddr) {
        self.list.push((now, addr));
    }
}

impl Peer {
    /// Where a datagram reaches it: by uTP the way it came, else where it says that it listens.
    fn punched_at(&self) -> Option<SocketAddr> {
        if self.carrier.contains(PeerFlags::UTP) {
            Some(canonical(self.addr))
        } else {
            self.contact()
        }
    }

    /// Whether that is it: others know it by the port that it listens at, where its router may have shown us another.
    fn is_at(&self, addr: SocketAddr) -> bool {
        self.punched_at() == Some(addr) || self.contact() == Some(addr)
    }

    /// Called every tick: it may be introduced again, and introduce.
    pub(super) fn restore_introductions(&mut self) {
        self.introductions = (self.introductions + 1).min(INTRODUCTIONS_MAX);
    }
}

/// Introductions in one burst, of one peer and by it; one more a second.
pub(super) const INTRODUCTIONS_MAX: u8 = 10;
/// Addresses that we ask to be introduced to, or are, within the times below.
const LATELY_MAX: usize = 100;
/// How often we ask to be introduced to the same.
pub(super) const SOUGHT_EVERY: Duration = Duration::from_secs(300);
/// How often we dial the same because a relay says so. Whoever seeks us waits longer.
pub(super) const MET_EVERY: Duration = Duration::from_secs(30);
/// Asking for one counts as so many control messages.
const INTRODUCTION_COST: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::world::World;
    use crate::wire::Message;

    /// Two leeches that know each other by a seed only.
    fn three() -> (World, usize, [usize; 2]) {
        let mut world = World::new(400_000, 100_000);
        let seed = world.seed();
        world.hosts[seed].is_mute = true;
        let leeches = [world.leech(), world.leech()];
        leeches.iter().for_each(|&leech| world.connect(leech, seed));
        world.run(3);
        (world, seed, leeches)
    }

    fn send(world: &mut World, from: usize, to: usize, message: HolepunchMessage) {
        let id = Extension::Holepunch.number();
        world.inject(from, to, &[Message::Extended { id, payload: message.encode().into() }]);
        world.run(1);
    }

    fn meetings(world: &World, at: usize) -> Vec<&str> {
        let events = world.hosts[at].events.iter().map(String::as_str);
        events.filter(|event| event.starts_with("rendezvous")).collect()
    }

    #[test]
    fn a_peer_that_is_connected_to_both_has_them_dial_each_other() {
        let (mut world, _, [one, two]) = three();
        assert!(world.hosts[one].swarm.seek_introduction(world.now, World::addr(two)));
        let now = world.now + Duration::from_secs(10);
        assert!(!world.hosts[one].swarm.seek_introduction(now, World::addr(two)), "once is enough");
        world.drain(one);
        world.run(1);
        assert_eq!(meetings(&world, one), ["rendezvous 10.0.0.3:6881"]);
        assert_eq!(meetings(&world, two), ["rendezvous 10.0.0.2:6881"]);
        assert!(world.hosts.iter().all(|host| host.faults.is_empty()));
    }

    #[test]
    fn nobody_is_asked_to_introduce_whom_he_does_not_know() {
        let (mut world, seed, [one, _]) = three();
        for other in [9, seed] {
            assert!(!world.hosts[one].swarm.seek_introduction(world.now, World::addr(other)));
        }
    }

    #[test]
    fn a_relay_says_why_it_does_not_help() {
        let (mut world, seed, [one, two]) = three();
        let told = |world: &mut World, addr: &str| {
            send(world, one, seed, HolepunchMessage::Rendezvous(addr.parse().expect("valid")));
            meetings(world, two).len()
        };
        for addr in ["10.0.0.77:6881", "0.0.0.0:0", "10.0.0.2:6881", "10.0.0.3:1"] {
            assert_eq!(told(&mut world, addr), 0, "{addr}");
        }
        assert!(meetings(&world, one).is_empty());
        assert!(world.hosts[seed].faults.is_empty());
    }

    #[test]
    fn few_are_introduced_at_a_time_and_whoever_asks_for_more_has_to_go() {
        let (mut world, seed, [one, two]) = three();
        let id = Extension::Holepunch.number();
        let payload = HolepunchMessage::Rendezvous(World::addr(two)).encode().into();
        let flood = vec![Message::Extended { id, payload }; 30];
        world.inject(one, seed, &flood);
        let mut relayed = world.hosts[seed].swarm.peers.values();
        assert!(relayed.all(|peer| peer.introductions == 0));
        assert_eq!(meetings(&world, two).len(), 1);
        world.inject(one, seed, &flood);
        assert_eq!(world.hosts[seed].faults, [PeerFault::ControlFlood]);
    }

    #[test]
    fn we_do_not_knock_wherever_a_relay_likes() {
        let (mut world, seed, [one, _]) = three();
        let connect = |addr: &str| HolepunchMessage::Connect(addr.parse().expect("valid"));
        for addr in ["127.0.0.1:80", "224.0.0.1:80", "8.8.8.8:0", "10.0.0.1:6881"] {
            send(&mut world, seed, one, connect(addr));
        }
        assert!(meetings(&world, one).is_empty(), "{:?}", meetings(&world, one));
        send(&mut world, seed, one, connect("8.8.8.8:80"));
        assert_eq!(meetings(&world, one), ["rendezvous 8.8.8.8:80"]);
        let id = Extension::Holepunch.number();
        for port in 81..130 {
            let payload = connect(&format!("8.8.8.8:{port}")).encode().into();
            world.inject(seed, one, &[Message::Extended { id, payload }]);
            world.run_for(Duration::from_millis(10));
        }
        assert!(meetings(&world, one).len() <= usize::from(INTRODUCTIONS_MAX) + 2);
    }

    #[test]
    fn whoever_is_here_is_not_dialled_where_it_listens() {
        let (mut world, seed, [one, other]) = three();
        world.connect(other, one);
        world.run(1);
        // It came by uTP, from a port that its router has made up.
        let swarm = &mut world.hosts[one].swarm;
        let mut peers = swarm.peers.values_mut();
        let peer = peers.find(|peer| peer.addr == World::addr(other)).expect("connected");
        (peer.addr, peer.carrier) = (SocketAddr::new(peer.ip(), 4000), PeerFlags::UTP);
        for port in [4000, 6881] {
            let addr = SocketAddr::new(World::addr(other).ip(), port);
            send(&mut world, seed, one, HolepunchMessage::Connect(addr));
        }
        assert!(meetings(&world, one).is_empty(), "{:?}", meetings(&world, one));
    }

    #[test]
    fn relays_cannot_have_us_knock_at_one_door_again_and_again() {
        let (mut world, seed, [one, _]) = three();
        let other = world.seed();
        world.hosts[other].is_mute = true;
        world.connect(one, other);
        world.run(1);
        let connect = HolepunchMessage::Connect("8.8.8.8:80".parse().expect("valid"));
        for _ in 0..10 {
            send(&mut world, seed, one, connect);
            send(&mut world, other, one, connect);
        }
        assert_eq!(meetings(&world, one).len(), 1);
        world.run(30);
        send(&mut world, other, one, connect);
        assert_eq!(meetings(&world, one).len(), 2);
    }

    #[test]
    fn no_more_is_remembered_of_meetings_than_there_is_room_for() {
        let mut lately = Lately::new(MET_EVERY);
        let now = crate::swarm::tests::epoch();
        let addr = |port| SocketAddr::from(([8, 8, 8, 8], port));
        let mut meet = |now, port| {
            lately.may_add(now, addr(port)) && {
                lately.add(now, addr(port));
                true
            }
        };
        assert_eq!((1..=1000).filter(|&port| meet(now, port)).count(), LATELY_MAX);
        assert!(meet(now + MET_EVERY, 1));
    }
}
