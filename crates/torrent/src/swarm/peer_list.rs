//! Addresses of peers: whom to dial next, whom to leave in peace, whom never to talk to again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::Rng;

/// The addresses that a torrent knows.
#[derive(Clone, Debug)]
pub struct PeerList {
    known: BTreeMap<SocketAddr, Known>,
    banned: BTreeSet<IpAddr>,
    ourselves: BTreeSet<SocketAddr>,
    max: usize,
    rng: Rng,
}

/// Who told us of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A person: tried first, and never pushed out.
    Manual,
    /// An earlier run.
    Resume,
    /// A tracker.
    Tracker,
    /// Another peer.
    Exchange,
    /// It came to us.
    Incoming,
}

/// How a connection ended, as far as it matters for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order: it may be dialled again soon, if there is reason to.
    Useful,
    /// In order, and there is nothing that either could give the other.
    NoUse,
    /// We hung up, for no reason that has to do with it: it may be dialled again at once.
    Ours,
    /// It went away.
    Refused,
    /// It broke the protocol.
    Fault,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    source: Source,
    state: State,
    /// Attempts in a row that led to nothing.
    failures: u8,
    /// Breaks a tie at random.
    salt: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle { not_before: Option<Instant> },
    Dialing,
    Connected,
}

impl PeerList {
    /// A list of at most `max` addresses; the least promising give way.
    pub const fn new(max: usize, rng: Rng) -> Self {
        Self {
            known: BTreeMap::new(),
            banned: BTreeSet::new(),
            ourselves: BTreeSet::new(),
            max,
            rng,
        }
    }

    /// An address was heard of. Returns whether it is new and worth knowing.
    pub fn add(&mut self, addr: SocketAddr, source: Source) -> bool {
        let addr = canonical(addr);
        if !is_dialable(addr) || self.banned.contains(&addr.ip()) || self.ourselves.contains(&addr)
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
        if source != Source::Manual && from_host >= PORTS_PER_HOST_MAX {
            return false;
        }
        if self.known.len() >= self.max && !self.evict() {
            return false;
        }
        let state = State::Idle { not_before: None };
        self.known.insert(addr, Known { source, state, failures: 0, salt: self.rng.u32() });
        true
    }

    /// Who told us of an address, if it is known.
    pub fn source(&self, addr: SocketAddr) -> Option<Source> {
        self.known.get(&canonical(addr)).map(|known| known.source)
    }

    /// The most promising address to dial now. Say [`dialing`](Self::dialing) if it is.
    pub fn next_to_dial(&self, now: Instant) -> Option<SocketAddr> {
        let may_dial = |known: &Known| match known.state {
            State::Idle { not_before } => {
                known.source != Source::Incoming && not_before.is_none_or(|at| now >= at)
            }
            State::Dialing | State::Connected => false,
        };
        let candidates = self.known.iter().filter(|(_, known)| may_dial(known));
        candidates
            .min_by_key(|(_, known)| (known.failures, known.source, known.salt))
            .map(|(&addr, _)| addr)
    }

    /// When the first address may be dialled again; `now` if one may be at once.
    pub fn next_dial_at(&self, now: Instant) -> Option<Instant> {
        let wait = |known: &Known| match known.state {
            State::Idle { not_before } if known.source != Source::Incoming => {
                Some(not_before.map_or(now, |at| at.max(now)))
            }
            State::Idle { .. } | State::Dialing | State::Connected => None,
        };
        self.known.values().filter_map(wait).min()
    }

    /// An address is being dialled.
    pub fn dialing(&mut self, addr: SocketAddr) {
        self.set_state(addr, State::Dialing);
    }

    /// A peer at this address has shaken hands, whoever dialled.
    pub fn connected(&mut self, addr: SocketAddr) {
        self.add(addr, Source::Incoming);
        self.set_state(addr, State::Connected);
    }

    /// Dialling led to nothing.
    pub fn failed(&mut self, now: Instant, addr: SocketAddr) {
        let jitter = 1.0 + self.rng.below(256) as f64 / 1024.0;
        if let Some(known) = self.known.get_mut(&canonical(addr)) {
            known.failures = known.failures.saturating_add(1);
            let doublings = u32::from(known.failures - 1).min(DOUBLINGS_MAX);
            let wait = (BACKOFF_FIRST * 2_u32.pow(doublings)).min(BACKOFF_MAX).mul_f64(jitter);
            known.state = State::Idle { not_before: Some(now + wait) };
        }
    }

    /// A connection that had shaken hands is over.
    pub fn disconnected(&mut self, now: Instant, addr: SocketAddr, ending: Ending) {
        // A peer that came to us did so from a port that nobody listens on: not worth remembering.
        let addr = canonical(addr);
        if self.known.get(&addr).is_some_and(|known| known.source == Source::Incoming) {
            self.known.remove(&addr);
            return;
        }
        match ending {
            Ending::Ours => self.set_state(addr, State::Idle { not_before: None }),
            Ending::Useful | Ending::NoUse | Ending::Refused => {
                let wait = match ending {
                    Ending::NoUse => BACKOFF_MAX,
                    Ending::Useful => BACKOFF_MAX / 60,
                    Ending::Ours | Ending::Refused | Ending::Fault => BACKOFF_FIRST,
                };
                if let Some(known) = self.known.get_mut(&addr) {
                    known.failures = 0;
                    known.state = State::Idle { not_before: Some(now + wait) };
                }
            }
            Ending::Fault => {
                for _ in 0..FAULT_FAILURES {
                    self.failed(now, addr);
                }
            }
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

    /// The address turned out to be our own.
    pub fn remember_self(&mut self, addr: SocketAddr) {
        let addr = canonical(addr);
        self.known.remove(&addr);
        if self.ourselves.len() < OURSELVES_MAX {
            self.ourselves.insert(addr);
        }
    }

    /// Everyone gets another chance at once, as after a pause.
    pub fn forget_failures(&mut self) {
        for known in self.known.values_mut() {
            if let State::Idle { not_before } = &mut known.state {
                (*not_before, known.failures) = (None, 0);
            }
        }
    }

    /// How many addresses are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Addresses worth remembering for the next run, those that failed last.
    pub fn iter(&self) -> impl Iterator<Item = SocketAddr> {
        let mut addrs: Vec<(&SocketAddr, &Known)> =
            self.known.iter().filter(|(_, known)| known.source != Source::Incoming).collect();
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

    /// Makes room by forgetting whoever failed most. Returns whether there was one to forget.
    fn evict(&mut self) -> bool {
        let idle = self.known.iter().filter(|(_, known)| {
            matches!(known.state, State::Idle { .. }) && known.source != Source::Manual
        });
        let worst = idle
            .max_by_key(|(_, known)| (known.failures, known.source, known.salt))
            .map(|(&addr, _)| addr);
        worst.is_some_and(|addr| self.known.remove(&addr).is_some())
    }
}

/// An IPv4 address is the same one inside IPv6.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, addr.port())),
        // A link-local address is nothing without its scope.
        IpAddr::V6(_) => addr,
    }
}

fn is_dialable(addr: SocketAddr) -> bool {
    let is_nobody = match addr.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    };
    addr.port() != 0 && !is_nobody
}

const PORTS_PER_HOST_MAX: usize = 64;
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(3600);
const DOUBLINGS_MAX: u32 = 10;
/// A broken protocol counts as so many failures.
const FAULT_FAILURES: u32 = 5;
const BANS_MAX: usize = 10_000;
const OURSELVES_MAX: usize = 64;

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
        assert_eq!(list.next_to_dial(now + BACKOFF_FIRST * 2), Some(addr(2, 1)));
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
        assert_eq!(list.next_to_dial(now + BACKOFF_FIRST), Some(addr(1, 1)));
    }

    #[test]
    fn the_connected_the_banned_and_ourselves_are_not_dialled() {
        let (mut list, now) = (list(10), epoch());
        for host in 1..=3 {
            list.add(addr(host, 1), Source::Tracker);
        }
        list.connected(addr(1, 1));
        list.ban(addr(2, 1).ip());
        list.remember_self(addr(3, 1));
        assert_eq!(list.next_to_dial(now), None);
        assert!(!list.add(addr(2, 9), Source::Tracker) && !list.add(addr(3, 1), Source::Tracker));
        assert!(list.is_banned("::ffff:10.0.0.2".parse().expect("valid")));
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
        assert!(!list.iter().any(|known| known == addr(2, 1)));
        for host in [1, 3, 4] {
            list.connected(addr(host, 1));
        }
        assert!(!list.add(addr(5, 1), Source::Tracker));
    }
}
