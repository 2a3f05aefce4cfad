//! Addresses of peers: whom to dial next, whom to leave in peace, whom never to talk to again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::canonical_priority;
use super::known_peer::{Ending, KnownPeer, Source, State, canonical, is_dialable};
use crate::wire::PeerFlags;
use crate::{Reach, Rng};

/// The addresses that a torrent knows.
#[derive(Clone, Debug)]
pub struct PeerList {
    known: BTreeMap<SocketAddr, KnownPeer>,
    /// Only trackers are asked for peers of a private torrent (BEP 27): what others say is not taken.
    is_private: bool,
    /// We download nothing, so those that do not either are not dialled.
    avoids_seeds: bool,
    /// Our own addresses, as others see them.
    ours: Vec<SocketAddr>,
    /// Where those listen who came to us: they need not be dialled.
    came: BTreeSet<SocketAddr>,
    banned: BTreeSet<IpAddr>,
    max: usize,
    rng: Rng,
}

impl PeerList {
    /// A list of at most `max` addresses; the least promising give way.
    pub const fn new(max: usize, rng: Rng) -> Self {
        Self {
            known: BTreeMap::new(),
            is_private: false,
            avoids_seeds: false,
            ours: Vec::new(),
            came: BTreeSet::new(),
            banned: BTreeSet::new(),
            max,
            rng,
        }
    }

    /// An address was heard of. Returns whether it is new and worth knowing.
    pub fn add(&mut self, addr: SocketAddr, source: Source) -> bool {
        let addr = canonical(addr);
        if !is_dialable(addr)
            || self.banned.contains(&addr.ip())
            || (self.is_private && source.is_gossip())
        {
            return false;
        }
        if let Some(known) = self.known.get_mut(&addr) {
            known.source = known.source.min(source);
            return false;
        }
        let from_host = self
            .known
            .range(SocketAddr::new(addr.ip(), 0)..=SocketAddr::new(addr.ip(), u16::MAX))
            .count();
        let ports_max = match source {
            Source::Manual => usize::MAX,
            // Whoever sends us to a host that is no peer at all shall not have us knock on many doors.
            _ if source.is_gossip() && Reach::of(addr.ip()) == Reach::Global => PORTS_BY_GOSSIP_MAX,
            _ => PORTS_PER_HOST_MAX,
        };
        if from_host >= ports_max || !self.make_room(source) {
            return false;
        }
        let rank = rank(&self.ours, addr).unwrap_or_else(|| self.rng.u32());
        self.known.insert(addr, KnownPeer::new(source, rank));
        true
    }

    /// A peer told us of an address, and what is special there. Returns whether it is new and worth knowing.
    pub fn add_exchanged(&mut self, addr: SocketAddr, flags: PeerFlags) -> bool {
        let is_new = self.add(addr, Source::Exchange);
        self.set_flags(addr, flags);
        is_new
    }

    /// A peer told us what is special at an address, if it is known.
    pub fn set_flags(&mut self, addr: SocketAddr, flags: PeerFlags) {
        if let Some(known) = self.known.get_mut(&canonical(addr))
            && !self.is_private
        {
            known.flags = flags;
        }
    }

    /// What other peers say of an address.
    pub fn flags(&self, addr: SocketAddr) -> PeerFlags {
        self.known.get(&canonical(addr)).map_or(PeerFlags(0), |known| known.flags)
    }

    /// The torrent is private: peers are found by its trackers and by people, or come to us, and in no other way
    /// (BEP 27).
    pub fn set_private(&mut self) {
        self.is_private = true;
        self.known.retain(|_, known| !known.source.is_gossip());
    }

    /// Whether those are left alone that are said to download nothing: we do not either.
    pub const fn avoid_seeds(&mut self, avoids_seeds: bool) {
        self.avoids_seeds = avoids_seeds;
    }

    /// Others see us at these addresses, at most one of each family: they decide about the order of BEP 40.
    pub fn set_ours(&mut self, ours: &[SocketAddr]) {
        if self.ours != ours {
            self.ours = ours.to_vec();
            for (&addr, known) in &mut self.known {
                known.rank = rank(ours, addr).unwrap_or(known.rank);
            }
        }
    }

    /// How a connection to an address ranks among others, the lowest first: by the order of BEP 40, if our own
    /// address is known.
    pub fn rank(&self, addr: SocketAddr) -> Option<u32> {
        rank(&self.ours, canonical(addr))
    }

    /// Who told us of an address, if it is known.
    pub fn source(&self, addr: SocketAddr) -> Option<Source> {
        self.known.get(&canonical(addr)).map(|known| known.source)
    }

    /// The most promising address to dial now. Say [`dialing`](Self::dialing) if it is.
    pub fn next_to_dial(&self, now: Instant) -> Option<SocketAddr> {
        let may_dial = |addr: &SocketAddr, known: &KnownPeer| {
            self.dial_at(addr, known).is_some_and(|at| at.is_none_or(|at| now >= at))
        };
        let candidates = self.known.iter().filter(|(addr, known)| may_dial(addr, known));
        candidates
            .min_by_key(|(_, known)| (known.failures, known.source, known.rank))
            .map(|(&addr, _)| addr)
    }

    /// When an address may be dialled, if ever; `Some(None)` is at any time.
    fn dial_at(&self, addr: &SocketAddr, known: &KnownPeer) -> Option<Option<Instant>> {
        let is_pointless = known.source == Source::Incoming
            || self.came.contains(addr)
            // It takes one liar to say it of everybody, so it is believed only of those that we know from such talk.
            || (self.avoids_seeds
                && known.source == Source::Exchange
                && known.flags.contains(PeerFlags::SEED));
        match known.state {
            State::Idle { not_before } if !is_pointless => Some(not_before.max(known.is_us_until)),
            State::Idle { .. } | State::Dialing | State::Connected => None,
        }
    }

    /// When the first address may be dialled again; `now` if one may be at once.
    pub fn next_dial_at(&self, now: Instant) -> Option<Instant> {
        let wait = |(addr, known): (&SocketAddr, &KnownPeer)| {
            self.dial_at(addr, known).map(|at| at.map_or(now, |at| at.max(now)))
        };
        self.known.iter().filter_map(wait).min()
    }

    /// An address is being dialled.
    pub fn dialing(&mut self, addr: SocketAddr) {
        self.set_state(addr, State::Dialing);
        if let Some(known) = self.known.get_mut(&canonical(addr)) {
            known.is_us_until = None;
        }
    }

    /// A peer at this address has shaken hands, whoever dialled.
    pub fn connected(&mut self, addr: SocketAddr) {
        self.add(addr, Source::Incoming);
        self.set_state(addr, State::Connected);
    }

    /// A peer came to us that listens at this address: it is not dialled while it is connected.
    pub fn came(&mut self, addr: SocketAddr) {
        self.came.insert(canonical(addr));
    }

    /// A peer that came to us and listens at this address has gone.
    pub fn left(&mut self, addr: SocketAddr) {
        self.came.remove(&canonical(addr));
    }

    /// Nobody who came is here any more.
    pub fn forget_who_came(&mut self) {
        self.came.clear();
    }

    /// The roads, a bit each, that led nowhere in this attempt; and the one that led there last, if any.
    pub fn roads(&self, addr: SocketAddr) -> (u8, u8) {
        self.known.get(&canonical(addr)).map_or((0, 0), |known| (known.tried, known.good))
    }

    /// These roads led nowhere; there are others, so it may be dialled again at once.
    pub fn road_failed(&mut self, addr: SocketAddr, roads: u8) {
        if let Some(known) = self.known.get_mut(&canonical(addr)) {
            known.tried |= roads;
            known.state = State::Idle { not_before: None };
        }
    }

    /// This road led to a handshake.
    pub fn road_was_good(&mut self, addr: SocketAddr, road: u8) {
        if let Some(known) = self.known.get_mut(&canonical(addr)) {
            (known.tried, known.good) = (0, road);
        }
    }

    /// Dialling led to nothing, on any road.
    pub fn failed(&mut self, now: Instant, addr: SocketAddr) {
        if let Some(known) = self.known.get_mut(&canonical(addr)) {
            known.failed(now, &mut self.rng);
        }
    }

    /// A connection that had shaken hands is over.
    pub fn disconnected(&mut self, now: Instant, addr: SocketAddr, ending: Ending) {
        // A peer that came to us did so from a port that nobody listens on: not worth remembering.
        let addr = canonical(addr);
        let Some(known) = self.known.get_mut(&addr) else { return };
        if known.source == Source::Incoming {
            self.known.remove(&addr);
        } else {
            known.disconnected(now, ending, &mut self.rng);
        }
    }

    /// A peer that came to us has gone, and it listens at this address. Whom we have no use for, or let go, is not
    /// dialled there right away.
    pub fn came_and_went(&mut self, now: Instant, addr: SocketAddr, ending: Ending) {
        if let Some(known) = self.known.get_mut(&canonical(addr))
            && let State::Idle { not_before } = &mut known.state
            && let (Ending::NoUse | Ending::GaveWay, Some(wait)) = (ending, ending.wait())
        {
            *not_before = (*not_before).max(Some(now + wait));
        }
    }

    /// Never talks to this host again.
    pub fn ban(&mut self, ip: IpAddr) {
        if self.banned.len() >= BANS_MAX {
            self.banned.pop_first();
        }
        let ip = ip.to_canonical();
        self.banned.insert(ip);
        self.known.retain(|addr, _| addr.ip() != ip);
    }

    /// Whether a host is banned.
    pub fn is_banned(&self, ip: IpAddr) -> bool {
        self.banned.contains(&ip.to_canonical())
    }

    /// The address turned out to be our own, for now: it is not dialled for an hour.
    pub fn remember_self(&mut self, now: Instant, addr: SocketAddr) {
        if let Some(known) = self.known.get_mut(&canonical(addr)) {
            known.is_us_until = Some(now + OURSELVES_FOR);
        }
    }

    /// Whether an address has turned out to be our own, the last time that it was dialled.
    pub fn is_self(&self, addr: SocketAddr) -> bool {
        let addr = canonical(addr);
        let known = self.known.get(&addr);
        self.ours.contains(&addr) || known.is_some_and(|known| known.is_us_until.is_some())
    }

    /// Everyone gets another chance at once, as after a pause.
    pub fn forget_failures(&mut self) {
        for known in self.known.values_mut() {
            if let State::Idle { not_before } = &mut known.state {
                (*not_before, known.failures) = (None, 0);
            }
        }
    }

    /// How many addresses are known, our own not counted.
    pub fn len(&self) -> usize {
        self.known.values().filter(|known| known.is_us_until.is_none()).count()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.values().all(|known| known.is_us_until.is_some())
    }

    /// Addresses worth remembering for the next run, those that failed last: where somebody answered, in this run or
    /// the one before, and what a person named. The rest is hearsay, and can be heard again.
    pub fn proven(&self) -> impl Iterator<Item = SocketAddr> {
        let mut addrs: Vec<(&SocketAddr, &KnownPeer)> =
            self.known.iter().filter(|(_, known)| known.is_proven()).collect();
        addrs.sort_by_key(|(_, known)| (known.failures, known.source));
        addrs.into_iter().map(|(&addr, _)| addr)
    }

    fn set_state(&mut self, addr: SocketAddr, state: State) {
        if let Some(known) = self.known.get_mut(&canonical(addr)) {
            known.state = state;
            if state == State::Connected {
                known.failures = 0;
            }
        }
    }

    /// Makes room for one more, if there is none, by forgetting whoever failed most. Of what anybody may say, half
    /// the list is kept at most: it pushes out its like, never what trackers said. Returns whether there is room.
    fn make_room(&mut self, source: Source) -> bool {
        let is_full = self.known.len() >= self.max;
        let is_flood = source.is_gossip()
            && self.known.values().filter(|known| known.source.is_gossip()).count() >= self.max / 2;
        if !is_full && !is_flood {
            return true;
        }
        let may_go = |known: &KnownPeer| {
            matches!(known.state, State::Idle { .. })
                && known.source != Source::Manual
                && (!source.is_gossip() || known.source.is_gossip())
        };
        let idle = self.known.iter().filter(|(_, known)| may_go(known));
        let worst = idle
            .max_by_key(|(_, known)| (known.failures, known.source, known.rank))
            .map(|(&addr, _)| addr);
        worst.is_some_and(|addr| self.known.remove(&addr).is_some())
    }
}

/// The lowest for the highest priority, if we know the address of ours that it goes by.
fn rank(ours: &[SocketAddr], addr: SocketAddr) -> Option<u32> {
    ours.iter().find_map(|ours| canonical_priority(*ours, addr)).map(|priority| !priority)
}

const PORTS_PER_HOST_MAX: usize = 64;
/// Of those that only peers and the DHT tell us of.
const PORTS_BY_GOSSIP_MAX: usize = 8;
const BANS_MAX: usize = 10_000;
const OURSELVES_FOR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::tests::epoch;

    fn addr(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], port))
    }

    fn list(max: usize) -> PeerList {
        PeerList::new(max, Rng::from_seed(1))
    }

    #[test]
    fn the_person_s_choice_first_then_whoever_failed_least() {
        let (mut list, now) = (list(10), epoch());
        list.add(addr(1, 1), Source::Tracker);
        list.add(addr(2, 1), Source::Manual);
        assert_eq!(list.next_to_dial(now), Some(addr(2, 1)));
        list.dialing(addr(2, 1));
        assert_eq!(list.next_to_dial(now), Some(addr(1, 1)));
        list.failed(now, addr(2, 1));
        list.dialing(addr(1, 1));
        assert_eq!(list.next_to_dial(now), None);
        assert_eq!(list.next_to_dial(now + Duration::from_secs(10)), Some(addr(2, 1)));
    }

    #[test]
    fn waits_longer_after_each_failure_and_starts_over_after_success() {
        let (mut list, mut now) = (list(10), epoch());
        list.add(addr(1, 1), Source::Tracker);
        let mut waits = Vec::new();
        for _ in 0..12 {
            let failed_at = now;
            list.failed(now, addr(1, 1));
            while list.next_to_dial(now).is_none() {
                now += Duration::from_secs(1);
            }
            waits.push((now - failed_at).as_secs());
        }
        assert!(waits.is_sorted_by(|a, b| a < b || *b >= 3600), "{waits:?}");
        assert!(waits[11] <= 3600 * 5 / 4 + 1, "{waits:?}");
        list.connected(addr(1, 1));
        list.disconnected(now, addr(1, 1), Ending::Refused);
        assert_eq!(list.next_to_dial(now + Duration::from_secs(5)), Some(addr(1, 1)));
    }

    #[test]
    fn the_connected_the_banned_and_ourselves_are_not_dialled() {
        let (mut list, now) = (list(10), epoch());
        for host in 1..=3 {
            list.add(addr(host, 1), Source::Tracker);
        }
        list.connected(addr(1, 1));
        list.ban(addr(2, 1).ip());
        list.remember_self(now, addr(3, 1));
        list.road_failed(addr(3, 1), 1);
        assert_eq!(list.next_to_dial(now), None);
        assert!(!list.add(addr(2, 9), Source::Tracker) && !list.add(addr(3, 1), Source::Tracker));
        assert!(list.is_banned("::ffff:10.0.0.2".parse().expect("valid")));
    }

    #[test]
    fn where_we_met_ourselves_somebody_else_may_be_an_hour_later() {
        let (mut list, now) = (list(10), epoch());
        list.add(addr(3, 1), Source::Manual);
        list.dialing(addr(3, 1));
        list.remember_self(now, addr(3, 1));
        list.failed(now, addr(3, 1));
        assert!(list.is_self(addr(3, 1)));
        assert_eq!((list.is_empty(), list.len()), (true, 0), "we are no peer of ours");
        let later = now + OURSELVES_FOR;
        assert_eq!(list.next_to_dial(later - Duration::from_secs(1)), None);
        assert_eq!(list.next_dial_at(now), Some(later));
        assert_eq!(list.next_to_dial(later), Some(addr(3, 1)));
        list.dialing(addr(3, 1));
        list.connected(addr(3, 1));
        assert!(!list.is_self(addr(3, 1)));
    }

    #[test]
    fn whoever_gave_way_comes_after_those_never_tried() {
        let (mut list, now) = (list(10), epoch());
        let half_an_hour = Duration::from_secs(1800);
        list.add(addr(1, 1), Source::Manual);
        list.connected(addr(1, 1));
        list.disconnected(now, addr(1, 1), Ending::GaveWay);
        list.add(addr(2, 1), Source::Dht);
        let later = now + half_an_hour - Duration::from_secs(1);
        assert_eq!(list.next_to_dial(later), Some(addr(2, 1)));
        list.dialing(addr(2, 1));
        assert_eq!(list.next_to_dial(later), None);
        assert_eq!(list.next_to_dial(now + half_an_hour), Some(addr(1, 1)));
    }

    #[test]
    fn only_where_somebody_answered_is_remembered_and_what_a_person_named() {
        let (mut list, now) = (list(100), epoch());
        for (host, source) in [
            (1, Source::Tracker),
            (2, Source::Exchange),
            (3, Source::Dht),
            (4, Source::Manual),
            (5, Source::Resume),
            (6, Source::Resume),
        ] {
            list.add(addr(host, 1), source);
        }
        for answered in [2, 6] {
            list.connected(addr(answered, 1));
            list.road_was_good(addr(answered, 1), 1);
        }
        list.connected(addr(7, 1));
        let proven = |list: &PeerList| list.proven().collect::<BTreeSet<_>>();
        assert_eq!(proven(&list), [2, 4, 5, 6].map(|host| addr(host, 1)).into());
        for host in [4, 5, 6] {
            (0..10).for_each(|_| list.failed(now, addr(host, 1)));
        }
        assert_eq!(proven(&list), [2, 4, 6].map(|host| addr(host, 1)).into());
    }

    #[test]
    fn nonsense_is_not_taken_and_one_host_does_not_fill_the_list() {
        let mut list = list(1000);
        for bad in
            ["0.0.0.0:1", "10.0.0.1:0", "224.0.0.1:5", "255.255.255.255:5", "[::]:1", "[ff02::1]:1"]
        {
            assert!(!list.add(bad.parse().expect("valid"), Source::Tracker), "{bad}");
        }
        let taken = (1..=500).filter(|&port| list.add(addr(1, port), Source::Exchange)).count();
        assert_eq!(taken, PORTS_PER_HOST_MAX);
        assert!(list.add(addr(1, 9999), Source::Manual));
    }

    #[test]
    fn of_hearsay_less_is_believed_about_one_host_and_half_the_list_at_most() {
        let mut list = list(100);
        let far = |host: u8, port| SocketAddr::from(([8, 8, 8, host], port));
        let taken = (1..=50).filter(|&port| list.add(far(1, port), Source::Exchange)).count();
        assert_eq!(taken, PORTS_BY_GOSSIP_MAX);
        for host in 1..=40 {
            list.add(addr(host, 1), Source::Tracker);
            list.failed(epoch(), addr(host, 1));
        }
        (2..=255).for_each(|host| _ = list.add(far(host, 1), Source::Dht));
        let of_trackers =
            (1..=40).filter(|&host| list.source(addr(host, 1)) == Some(Source::Tracker));
        assert_eq!((of_trackers.count(), list.len()), (40, 90));
        assert!((41..=60).all(|host| list.add(addr(host, 1), Source::Tracker)));
        assert_eq!(list.len(), 100);
    }

    #[test]
    fn a_private_list_takes_addresses_from_trackers_and_people_only() {
        let mut list = list(100);
        list.add(addr(1, 1), Source::Dht);
        list.add(addr(2, 1), Source::Tracker);
        list.set_private();
        assert!(!list.add_exchanged(addr(3, 1), PeerFlags::SEED));
        assert!(!list.add(addr(4, 1), Source::Dht) && !list.add(addr(5, 1), Source::Lsd));
        assert!(list.add(addr(6, 1), Source::Tracker) && list.add(addr(7, 1), Source::Manual));
        list.connected(addr(8, 1));
        assert_eq!(list.len(), 4, "whoever comes is welcome");
        assert!(!list.add_exchanged(addr(2, 1), PeerFlags::SEED));
        assert_eq!(list.flags(addr(2, 1)), PeerFlags::default());
    }

    #[test]
    fn whoever_came_is_not_dialled_where_it_listens() {
        let (mut list, now) = (list(100), epoch());
        list.add(addr(1, 1), Source::Tracker);
        list.came(addr(1, 1));
        assert_eq!((list.next_to_dial(now), list.next_dial_at(now)), (None, None));
        list.left(addr(1, 1));
        assert_eq!((list.next_to_dial(now), list.next_dial_at(now)), (Some(addr(1, 1)), Some(now)));
        list.came(addr(1, 1));
        list.forget_who_came();
        assert_eq!(list.next_to_dial(now), Some(addr(1, 1)));
    }

    #[test]
    fn whoever_came_and_gave_way_is_not_dialled_at_once_where_it_listens() {
        let (mut list, now) = (list(100), epoch());
        list.add(addr(1, 1), Source::Tracker);
        list.came_and_went(now, addr(1, 1), Ending::Refused);
        assert_eq!(list.next_to_dial(now), Some(addr(1, 1)));
        list.came_and_went(now, addr(1, 1), Ending::GaveWay);
        assert_eq!(list.next_to_dial(now), None);
        assert_eq!(list.next_dial_at(now), Some(now + Duration::from_secs(1800)));
        list.dialing(addr(1, 1));
        list.came_and_went(now, addr(1, 1), Ending::Ours);
        assert_eq!(list.next_to_dial(now), None, "it is being dialled");
    }

    #[test]
    fn a_seed_does_not_dial_seeds() {
        let (mut list, now) = (list(100), epoch());
        list.add_exchanged(addr(1, 1), PeerFlags::SEED | PeerFlags::UTP);
        assert_eq!(list.flags(addr(1, 1)), PeerFlags::SEED | PeerFlags::UTP);
        list.avoid_seeds(true);
        assert_eq!((list.next_to_dial(now), list.next_dial_at(now)), (None, None));
        list.avoid_seeds(false);
        assert_eq!((list.next_to_dial(now), list.next_dial_at(now)), (Some(addr(1, 1)), Some(now)));
    }

    #[test]
    fn a_peer_that_calls_everybody_a_seed_keeps_a_seed_from_no_address_that_others_vouch_for() {
        let (mut list, now) = (list(100), epoch());
        list.avoid_seeds(true);
        list.add(addr(1, 1), Source::Tracker);
        list.add_exchanged(addr(1, 1), PeerFlags::SEED);
        assert_eq!(list.next_to_dial(now), Some(addr(1, 1)));
        list.add_exchanged(addr(2, 1), PeerFlags::SEED);
        list.add(addr(2, 1), Source::Manual);
        list.dialing(addr(1, 1));
        assert_eq!(list.next_to_dial(now), Some(addr(2, 1)));
    }

    #[test]
    fn among_equals_the_order_of_bep_40_decides_once_we_know_who_we_are() {
        let (mut list, now) = (list(100), epoch());
        let ours: SocketAddr = "123.213.32.10:1".parse().expect("valid");
        let peers = ["98.76.54.32:1", "123.213.32.234:1", "1.2.3.4:1", "[2001:db8::1]:1"]
            .map(|addr| addr.parse::<SocketAddr>().expect("valid"));
        list.add(peers[0], Source::Tracker);
        list.set_ours(&[ours]);
        peers.iter().for_each(|&peer| _ = list.add(peer, Source::Tracker));
        assert_eq!(list.rank(peers[0]), Some(!0xec2d_7224));
        assert_eq!(list.rank(peers[3]), None);
        let mut order = Vec::new();
        while let Some(next) = list.next_to_dial(now) {
            list.dialing(next);
            order.push(next);
        }
        order.retain(|addr| addr.is_ipv4());
        assert!(order.is_sorted_by_key(|&addr| list.rank(addr)), "{order:?}");
        assert_eq!(order.len(), 3);
    }

    #[test]
    fn an_address_named_again_and_again_is_known_once() {
        let mut list = list(10);
        assert!(list.add(addr(1, 1), Source::Tracker));
        for source in [Source::Tracker, Source::Exchange, Source::Manual] {
            list.add(addr(1, 1), source);
        }
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn whoever_came_to_us_and_went_leaves_no_address() {
        let (mut list, now) = (list(1000), epoch());
        for port in 1..=500 {
            list.connected(addr(1, port));
            list.disconnected(now, addr(1, port), Ending::Refused);
        }
        assert!(list.is_empty());
        assert!(list.add(addr(1, 6881), Source::Tracker));
    }

    #[test]
    fn a_full_list_forgets_the_worst() {
        let (mut list, now) = (list(3), epoch());
        for host in 1..=3 {
            list.add(addr(host, 1), Source::Tracker);
        }
        list.failed(now, addr(2, 1));
        assert!(list.add(addr(4, 1), Source::Tracker));
        assert_eq!(list.len(), 3);
        assert_eq!(list.source(addr(2, 1)), None);
        for host in [1, 3, 4] {
            list.connected(addr(host, 1));
        }
        assert!(!list.add(addr(5, 1), Source::Tracker));
    }
}
