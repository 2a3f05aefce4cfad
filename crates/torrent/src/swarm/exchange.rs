//! Telling peers of each other, and hearing of others from them ([BEP 11]).
//!
//! Each is told once a minute at most who has come and who has gone since, and whose flags are others now; and only of
//! those that somebody can dial: where we reached them ourselves, or where they say that they listen. What peers say
//! is hearsay. So each may name so many addresses, few of one network, and none of networks that it cannot know; and
//! whoever says too much too often has to go.
//!
//! [BEP 11]: https://www.bittorrent.org/beps/bep_0011.html

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::known_peer::canonical;
use super::peer::Peer;
use super::{Direction, Output, PeerKey, Swarm};
use crate::wire::{ExchangeMessage, Extension, PeerFlags};
use crate::{PeerFault, Reach};

/// What a peer and we have told each other of others.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Those that it believes us to be connected to, and what it knows of them.
    told: BTreeMap<SocketAddr, PeerFlags>,
    /// Nothing is new to it before the count of changes has passed this.
    told_at: u64,
    /// It may not be told anything before.
    not_before: Option<Instant>,
    /// Those that it says to be connected to.
    heard: BTreeSet<SocketAddr>,
    heard_at: Option<Instant>,
    /// How many it has named lately.
    named: usize,
    /// How often it said too much or too soon.
    strikes: u8,
}

impl Exchange {
    /// Whether the peer says that it is connected to somebody at `addr`.
    pub(super) fn knows(&self, addr: SocketAddr) -> bool {
        self.heard.contains(&canonical(addr))
    }

    /// Whether a message may come now. Those that come too soon count against the peer; good ones make up for it.
    fn may_hear(&mut self, now: Instant) -> Result<bool, PeerFault> {
        let is_early =
            self.heard_at.is_some_and(|at| now.saturating_duration_since(at) < HEARD_EVERY);
        if is_early {
            return self.strike().map(|()| false);
        }
        self.heard_at = Some(now);
        self.named = self.named.saturating_sub(TOLD_AT_ONCE_MAX);
        Ok(true)
    }

    fn strike(&mut self) -> Result<(), PeerFault> {
        self.strikes += 1;
        if self.strikes > STRIKES_MAX { Err(PeerFault::ControlFlood) } else { Ok(()) }
    }

    /// Whether there is any sense in what a peer at `teller` says of `addr`, and room for more.
    fn takes(&mut self, addr: SocketAddr, teller: IpAddr) -> bool {
        let is_sensible = addr.port() != 0 && Reach::is_credible(addr.ip(), teller);
        if !is_sensible || self.named >= NAMED_MAX || self.heard.len() >= HEARD_MAX {
            return false;
        }
        let (first, last) = network(addr.ip());
        let neighbours = self.heard.range(first..=last).count();
        if neighbours >= NEIGHBOURS_MAX || !self.heard.insert(addr) {
            return false;
        }
        self.named += 1;
        true
    }
}

impl Swarm {
    /// What carries a connection: [`PeerFlags::ENCRYPTION`] and [`PeerFlags::UTP`] are told to others.
    pub fn set_carrier(&mut self, key: PeerKey, flags: PeerFlags) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.carrier = flags;
        }
    }

    /// Whether peers tell us of peers, and we them.
    pub(super) const fn exchanges(&self) -> bool {
        self.config.exchange && !self.config.is_private
    }

    /// Those whom there is something new to tell are told.
    pub(super) fn tell_of_peers(&mut self, now: Instant) {
        if !self.exchanges() {
            return;
        }
        let contacts = self.peers.values().filter_map(|peer| Some((peer.contact()?, peer.flags())));
        let contacts: BTreeMap<SocketAddr, PeerFlags> = contacts.collect();
        if self.contacts != contacts {
            self.contacts = contacts;
            self.peer_changes += 1;
        }
        let is_due = |peer: &Peer| {
            peer.exchange.told_at < self.peer_changes
                && peer.exchange.not_before.is_none_or(|at| now >= at)
                && peer.number_of(Extension::Exchange).is_some()
        };
        let due: Vec<PeerKey> =
            self.peers.iter().filter(|(_, peer)| is_due(peer)).map(|(&key, _)| key).collect();
        if due.is_empty() {
            return;
        }
        let contacts = std::mem::take(&mut self.contacts);
        for key in due {
            let Some(message) = self.news_for(now, key, &contacts) else { continue };
            self.send_extension(key, Extension::Exchange, message.encode());
        }
        self.contacts = contacts;
    }

    /// What a peer does not know yet, if there is anything.
    fn news_for(
        &mut self,
        now: Instant,
        key: PeerKey,
        contacts: &BTreeMap<SocketAddr, PeerFlags>,
    ) -> Option<ExchangeMessage> {
        let peer = self.peers.get_mut(&key)?;
        let (own, ip, is_seed) = (peer.contact(), peer.ip(), peer.is_upload_only());
        let exchange = &mut peer.exchange;
        let is_of_use = |addr: &SocketAddr, flags: PeerFlags| {
            Some(*addr) != own
                && Reach::is_credible(addr.ip(), ip)
                && !(is_seed && flags.contains(PeerFlags::SEED))
        };
        let mut added: Vec<(SocketAddr, PeerFlags)> = contacts
            .iter()
            .map(|(&addr, &flags)| (addr, flags))
            .filter(|(addr, flags)| {
                exchange.told.get(addr) != Some(flags) && is_of_use(addr, *flags)
            })
            .collect();
        let gone = exchange.told.keys().filter(|addr| !contacts.contains_key(addr));
        let mut dropped: Vec<SocketAddr> = gone.copied().collect();
        if added.len() <= TOLD_AT_ONCE_MAX && dropped.len() <= TOLD_AT_ONCE_MAX {
            exchange.told_at = self.peer_changes;
        }
        if added.is_empty() && dropped.is_empty() {
            return None;
        }
        // Of many, not the same to everyone; who is new comes before what has changed.
        self.exchange_rng.shuffle(&mut added);
        added.sort_by_key(|(addr, _)| exchange.told.contains_key(addr));
        added.truncate(TOLD_AT_ONCE_MAX);
        dropped.truncate(TOLD_AT_ONCE_MAX);
        exchange.told.extend(added.iter().copied());
        dropped.iter().for_each(|addr| _ = exchange.told.remove(addr));
        exchange.not_before = Some(now + TOLD_EVERY);
        Some(ExchangeMessage { added, dropped })
    }

    pub(super) fn handle_exchange(
        &mut self,
        now: Instant,
        key: PeerKey,
        payload: &[u8],
    ) -> Result<(), PeerFault> {
        // It may not have heard yet that the torrent has turned out to be private.
        let is_welcome = self.exchanges();
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        peer.spend_patience()?;
        if !is_welcome || !peer.exchange.may_hear(now)? {
            return Ok(());
        }
        let message = match ExchangeMessage::decode(payload) {
            Err(PeerFault::OversizeMessage) => return peer.exchange.strike(),
            message => message?,
        };
        peer.exchange.strikes = peer.exchange.strikes.saturating_sub(1);
        for addr in message.dropped {
            peer.exchange.heard.remove(&canonical(addr));
        }
        let teller = peer.ip();
        let mut is_any_new = false;
        for (addr, flags) in message.added {
            let addr = canonical(addr);
            if peer.exchange.knows(addr) {
                self.known.set_flags(addr, flags);
            } else if peer.exchange.takes(addr, teller) {
                is_any_new |= self.known.add_exchanged(addr, flags);
            }
        }
        if is_any_new {
            self.outputs.push_back(Output::Found);
        }
        Ok(())
    }
}

impl Peer {
    /// Where others can reach it: where we did, or where it says that it listens.
    pub(super) fn contact(&self) -> Option<SocketAddr> {
        match self.direction {
            Direction::Outgoing => Some(canonical(self.addr)),
            Direction::Incoming => {
                let port = self.extended.as_ref()?.p?;
                Some(canonical(SocketAddr::new(self.ip(), port)))
            }
        }
    }

    /// Where it listens, if it came to us: there is no need to dial it there.
    pub(super) fn contact_of_incoming(&self) -> Option<SocketAddr> {
        self.contact().filter(|_| self.direction == Direction::Incoming)
    }

    /// What others are told about it.
    fn flags(&self) -> PeerFlags {
        let hello = self.extended.as_ref();
        self.carrier
            | PeerFlags::ENCRYPTION.only_if(hello.and_then(|hello| hello.e) == Some(true))
            | PeerFlags::SEED.only_if(self.is_upload_only())
            | PeerFlags::HOLEPUNCH.only_if(self.number_of(Extension::Holepunch).is_some())
            | PeerFlags::OUTGOING.only_if(self.direction == Direction::Outgoing)
    }
}

/// The first and the last address of the network that an address is in.
fn network(ip: IpAddr) -> (SocketAddr, SocketAddr) {
    let range = |first: IpAddr, last: IpAddr| ((first, 0).into(), (last, u16::MAX).into());
    match ip {
        IpAddr::V4(ip) => {
            let bits = ip.to_bits();
            range(Ipv4Addr::from_bits(bits & !0xff).into(), Ipv4Addr::from_bits(bits | 0xff).into())
        }
        IpAddr::V6(ip) => {
            let (bits, host) = (ip.to_bits(), u128::from(u64::MAX));
            range(Ipv6Addr::from_bits(bits & !host).into(), Ipv6Addr::from_bits(bits | host).into())
        }
    }
}

/// As BEP 11 has it.
const TOLD_EVERY: Duration = Duration::from_secs(60);
const TOLD_AT_ONCE_MAX: usize = 50;
/// The clocks and networks of others are not exact.
const HEARD_EVERY: Duration = Duration::from_secs(45);
/// More than any client connects to in one torrent, as a rule.
const HEARD_MAX: usize = 500;
/// Addresses that one peer may name in a burst, and as many again with each message as BEP 11 allows in one.
const NAMED_MAX: usize = 1000;
/// Of one network, 2^8 addresses of IPv4 or 2^64 of IPv6, while it says that it is connected to them.
const NEIGHBOURS_MAX: usize = 16;
const STRIKES_MAX: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::world::World;
    use crate::swarm::{Source, tests::epoch};
    use crate::wire::Message;

    fn addr(network: u8, host: u8) -> SocketAddr {
        SocketAddr::from(([10, 1, network, host], 6881))
    }

    fn message(added: impl IntoIterator<Item = SocketAddr>) -> Message {
        let added = added.into_iter().map(|addr| (addr, PeerFlags::UTP)).collect();
        let payload = ExchangeMessage { added, dropped: Vec::new() }.encode().into();
        Message::Extended { id: Extension::Exchange.number(), payload }
    }

    /// A seed that answers nothing, and leeches connected to it one by one.
    fn star(leeches: usize) -> (World, usize, Vec<usize>) {
        let mut world = World::new(400_000, 100_000);
        let seed = world.seed();
        world.hosts[seed].is_mute = true;
        let leeches: Vec<usize> = (0..leeches).map(|_| world.leech()).collect();
        leeches.iter().for_each(|&leech| world.connect(leech, seed));
        (world, seed, leeches)
    }

    fn knows(world: &World, at: usize, other: usize) -> bool {
        world.hosts[at].swarm.known.source(World::addr(other)) == Some(Source::Exchange)
    }

    #[test]
    fn those_who_know_one_peer_soon_know_all() {
        let (mut world, seed, leeches) = star(5);
        world.run(3);
        for &leech in &leeches {
            let others = leeches.iter().filter(|&&other| other != leech);
            assert!(others.clone().all(|&other| knows(&world, leech, other)));
            assert!(!knows(&world, leech, leech), "nobody is told of himself");
            assert!(world.hosts[leech].events.contains(&"found".to_owned()));
        }
        let flags = world.hosts[leeches[0]].swarm.known.flags(World::addr(leeches[1]));
        assert_eq!(flags, PeerFlags::HOLEPUNCH, "it came, and the seed did not dial");
        assert!(world.hosts.iter().all(|host| host.faults.is_empty()));
        assert!(world.hosts[seed].swarm.known.is_empty(), "leeches are told of each other only");
    }

    #[test]
    fn who_comes_and_goes_is_told_once_a_minute() {
        let (mut world, seed, leeches) = star(2);
        world.run(3);
        world.disconnect(leeches[1], seed);
        let late = world.leech();
        world.connect(late, seed);
        world.run(50);
        assert!(knows(&world, late, leeches[0]), "whoever is new hears at once");
        assert!(!knows(&world, leeches[0], late));
        let heard = |world: &World, of: usize| {
            let mut peers = world.hosts[leeches[0]].swarm.peers.values();
            peers.next().expect("the seed").exchange.knows(World::addr(of))
        };
        assert!(heard(&world, leeches[1]));
        world.run(10);
        assert!(knows(&world, leeches[0], late));
        assert!(heard(&world, late) && !heard(&world, leeches[1]));
        assert!(world.hosts.iter().all(|host| host.faults.is_empty()));
    }

    #[test]
    fn what_has_changed_about_a_peer_is_told_a_minute_later() {
        let (mut world, seed, leeches) = star(2);
        world.run(3);
        let flags =
            |world: &World| world.hosts[leeches[0]].swarm.known.flags(World::addr(leeches[1]));
        assert_eq!(flags(&world), PeerFlags::HOLEPUNCH);
        let upload_only =
            Message::Extended { id: Extension::UploadOnly.number(), payload: vec![1].into() };
        world.hosts[seed].swarm.is_completed = false;
        world.inject(leeches[1], seed, &[upload_only]);
        world.run(50);
        assert_eq!(flags(&world), PeerFlags::HOLEPUNCH, "once a minute");
        world.run(10);
        assert_eq!(flags(&world), PeerFlags::HOLEPUNCH | PeerFlags::SEED);
        assert!(world.hosts.iter().all(|host| host.faults.is_empty()));
    }

    #[test]
    fn who_prefers_encryption_is_told_of_as_such() {
        for prefers_encryption in [false, true] {
            let (mut world, seed, leeches) = star(1);
            world.prefers_encryption = prefers_encryption;
            let late = world.leech();
            world.connect(late, seed);
            world.run(3);
            let flags = world.hosts[leeches[0]].swarm.known.flags(World::addr(late));
            assert_eq!(flags.contains(PeerFlags::ENCRYPTION), prefers_encryption);
        }
    }

    #[test]
    fn fifty_at_once_and_the_rest_a_minute_later() {
        let (mut world, seed, leeches) = star(80);
        world.run(3);
        let count = |world: &World, at: usize| {
            leeches.iter().filter(|&&other| knows(world, at, other)).count()
        };
        assert_eq!(count(&world, leeches[79]), 16, "of one network no more are believed");
        let told = |world: &World| {
            let swarm = &world.hosts[seed].swarm;
            swarm.peers.values().map(|peer| peer.exchange.told.len()).collect::<Vec<_>>()
        };
        assert_eq!(told(&world), [50; 80]);
        world.run(60);
        assert_eq!(told(&world), [79; 80]);
    }

    #[test]
    fn the_private_and_the_unwilling_exchange_nothing() {
        for (exchange, is_private) in [(false, false), (true, true), (false, true)] {
            let mut world = World::new(400_000, 100_000);
            (world.exchange, world.is_private) = (exchange, is_private);
            let seed = world.seed();
            world.hosts[seed].is_mute = true;
            let leeches = [world.leech(), world.leech()];
            leeches.iter().for_each(|&leech| world.connect(leech, seed));
            world.run(70);
            assert!(!knows(&world, leeches[0], leeches[1]));
            let swarm = &world.hosts[leeches[0]].swarm;
            let seen = swarm.peers.values().next().and_then(|peer| peer.extended.as_ref());
            let names: Vec<&[u8]> =
                seen.expect("a handshake").m.keys().map(Vec::as_slice).collect();
            assert!(!names.contains(&&b"ut_pex"[..]) && !names.contains(&&b"ut_holepunch"[..]));
            assert!(names.contains(&&b"lt_donthave"[..]));
            world.inject(leeches[0], seed, &[message([addr(1, 1)])]);
            assert!(world.hosts[seed].faults.is_empty());
            assert_eq!(world.hosts[seed].swarm.known.source(addr(1, 1)), None);
        }
    }

    #[test]
    fn whoever_floods_us_is_ignored_then_closed() {
        let (mut world, seed, leeches) = star(1);
        world.run(1);
        for turn in 0..=STRIKES_MAX {
            world.inject(leeches[0], seed, &[message([addr(turn, 1)])]);
        }
        assert!(world.hosts[seed].faults.is_empty());
        assert_eq!(world.hosts[seed].swarm.known.source(addr(0, 1)), Some(Source::Exchange));
        assert_eq!(world.hosts[seed].swarm.known.source(addr(1, 1)), None, "it came too soon");
        world.inject(leeches[0], seed, &[message([addr(9, 1)])]);
        assert_eq!(world.hosts[seed].faults, [PeerFault::ControlFlood]);
    }

    #[test]
    fn a_minute_apart_messages_may_come_for_ever() {
        let (mut world, seed, leeches) = star(1);
        for turn in 0..30 {
            world.inject(leeches[0], seed, &[message([addr(turn, 1)])]);
            assert_eq!(world.hosts[seed].swarm.known.source(addr(turn, 1)), Some(Source::Exchange));
            world.run(60);
        }
        assert!(world.hosts[seed].faults.is_empty());
    }

    #[test]
    fn lists_without_end_count_against_their_sender() {
        let (mut world, seed, leeches) = star(1);
        let long =
            message((0..4).flat_map(|network| (0..=255).map(move |host| addr(network, host))));
        for _ in 0..=STRIKES_MAX {
            assert!(world.hosts[seed].faults.is_empty());
            world.inject(leeches[0], seed, std::slice::from_ref(&long));
        }
        assert_eq!(world.hosts[seed].faults, [PeerFault::ControlFlood]);
    }

    #[test]
    fn a_later_handshake_that_names_no_extension_takes_none_back() {
        let (mut world, seed, leeches) = star(1);
        world.run(1);
        let nothing = crate::wire::ExtendedHandshake::default().encode().into();
        world.inject(leeches[0], seed, &[Message::Extended { id: 0, payload: nothing }]);
        let late = world.leech();
        world.connect(late, seed);
        world.run(3);
        assert!(knows(&world, leeches[0], late) && knows(&world, late, leeches[0]));
    }

    #[test]
    fn one_network_and_one_peer_fill_nothing() {
        let mut exchange = Exchange::default();
        let teller = IpAddr::from([10, 0, 0, 1]);
        let taken = (0..=255).filter(|&host| exchange.takes(addr(1, host), teller)).count();
        assert_eq!(taken, NEIGHBOURS_MAX);
        let v6 =
            |host| SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 1, 2, 3, host).into(), 1);
        assert_eq!(
            (0..100).filter(|&host| exchange.takes(v6(host), teller)).count(),
            NEIGHBOURS_MAX
        );
        let mut taken = 0;
        for round in 0..100 {
            exchange.heard.clear();
            taken += (0..=255)
                .flat_map(|network| [addr(network, round), addr(network, round + 100)])
                .filter(|&addr| exchange.takes(addr, teller))
                .count();
            assert!(exchange.heard.len() <= HEARD_MAX);
        }
        assert_eq!(taken, NAMED_MAX - 2 * NEIGHBOURS_MAX);
        exchange.heard.clear();
        assert!(!exchange.takes(addr(9, 9), teller));
        assert_eq!(exchange.may_hear(epoch()), Ok(true));
        assert!(exchange.takes(addr(9, 9), teller), "in time it is believed again");
    }

    #[test]
    fn nobody_is_believed_about_a_network_that_he_is_not_in() {
        let mut exchange = Exchange::default();
        let mut takes = |teller: &str, told: &str| {
            exchange.takes(told.parse().expect("valid"), teller.parse().expect("valid"))
        };
        assert!(!takes("8.8.8.8", "192.168.0.1:80") && !takes("8.8.8.8", "127.0.0.1:80"));
        assert!(!takes("10.0.0.1", "127.0.0.1:80") && !takes("10.0.0.1", "9.9.9.9:0"));
        assert!(takes("10.0.0.1", "192.168.0.1:80") && takes("8.8.8.8", "9.9.9.9:80"));
        assert!(!takes("8.8.8.8", "9.9.9.9:80"), "twice the same is nothing new");
    }

    #[test]
    fn whatever_comes_leaves_bounds_as_they_are() {
        for seed in 0..300 {
            let mut rng = crate::Rng::from_seed(seed);
            let mut exchange = Exchange::default();
            for _ in 0..1000 {
                let addr = SocketAddr::from((rng.bytes::<4>(), rng.u32() as u16));
                exchange.takes(addr, IpAddr::from([10, 0, 0, 1]));
            }
            assert!(exchange.heard.len() <= HEARD_MAX);
            assert!(exchange.may_hear(epoch()).is_ok());
        }
    }
}
