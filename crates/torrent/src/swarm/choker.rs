//! Whom to serve: those who serve us best, and now and then someone new ([BEP 3]).
//!
//! [BEP 3]: https://www.bittorrent.org/beps/bep_0003.html

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::PeerKey;
use crate::Rng;

/// Decides every ten seconds who is served.
#[derive(Clone, Debug)]
pub struct Choker {
    timers: ChokingTimers,
    opens_at: Instant,
    next_at: Instant,
    optimistic: Option<PeerKey>,
    optimistic_until: Instant,
    /// How many are served if that follows the capacity, and the rate that this brought.
    slots: usize,
    rate_before: u64,
    /// The last slot was added to see whether it brings more.
    is_probing: bool,
    /// Rounds to go before it is seen again.
    rounds_to_probe: u32,
    rng: Rng,
}

/// What the choker looks at in a peer.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Who it is.
    pub key: PeerKey,
    /// Where it is.
    pub host: IpAddr,
    /// It wants something.
    pub is_interested: bool,
    /// It is not served now.
    pub is_choked: bool,
    /// What it gives us, in bytes per second.
    pub download_rate: u64,
    /// What we give it, in bytes per second.
    pub upload_rate: u64,
    /// It promised blocks and sends none.
    pub is_snubbed: bool,
    /// When it came.
    pub connected_at: Instant,
    /// Since when it has been served.
    pub unchoked_at: Option<Instant>,
    /// What it got since then, in bytes.
    pub uploaded_since_unchoke: u64,
    /// It was served and asked for nothing, and has asked for nothing since.
    pub wasted_its_turn: bool,
}

/// What we are to the swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We need data: serve those who give us some.
    Leeching,
    /// We need nothing: serve by policy.
    Seeding(SeedingPolicy),
}

/// Whom a seed serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedingPolicy {
    /// Those who take fastest, so that copies spread soonest.
    FastestFirst,
    /// Everyone in turn: who has had a minute and some megabytes gives way.
    RoundRobin,
}

/// How many peers are served at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// Just so many.
    Fixed(usize),
    /// As many as the line can feed, from 8 to 64, and fewer if the limit is low: one more each time that
    /// brought more. One that brought nothing is taken back, and tried again after a minute.
    Adaptive,
}

/// When it is decided who is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChokingTimers {
    /// How often: from a second to ten minutes; usually ten seconds.
    pub rechoke_every: Duration,
    /// How long the one that is served by chance stays: up to an hour, no shorter than
    /// `rechoke_every`; usually thirty seconds.
    pub optimistic_every: Duration,
    /// How long after the swarm began nobody is served yet: up to ten minutes; usually not at all.
    pub first_after: Duration,
}

impl Default for ChokingTimers {
    fn default() -> Self {
        Self {
            rechoke_every: Duration::from_secs(10),
            optimistic_every: Duration::from_secs(30),
            first_after: Duration::ZERO,
        }
    }
}

impl ChokingTimers {
    /// The same, with what is out of bounds at the nearest bound.
    fn clamped(self) -> Self {
        let rechoke_every = self.rechoke_every.clamp(EVERY_MIN, EVERY_MAX);
        Self {
            rechoke_every,
            optimistic_every: self.optimistic_every.clamp(rechoke_every, OPTIMISTIC_MAX),
            first_after: self.first_after.min(EVERY_MAX),
        }
    }
}

impl Choker {
    /// A choker that has not decided yet.
    pub fn new(now: Instant, timers: ChokingTimers, rng: Rng) -> Self {
        let timers = timers.clamped();
        let opens_at = now + timers.first_after;
        Self {
            timers,
            opens_at,
            next_at: opens_at,
            optimistic: None,
            optimistic_until: opens_at,
            slots: SLOTS_FIRST,
            rate_before: 0,
            is_probing: false,
            rounds_to_probe: 0,
            rng,
        }
    }

    /// When to call [`rechoke`](Self::rechoke).
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next_at
    }

    /// Whether anybody may be served yet.
    pub fn is_open(&self, now: Instant) -> bool {
        now >= self.opens_at
    }

    /// Who has a place by chance, if not all who wait can be served.
    pub const fn optimistic(&self) -> Option<PeerKey> {
        self.optimistic
    }

    /// Decides. Returns exactly those who shall be served now. `upload_capacity` is the limit on what
    /// we send, in bytes per second, if there is one.
    pub fn rechoke(
        &mut self,
        now: Instant,
        role: Role,
        slots: Slots,
        upload_capacity: Option<u64>,
        candidates: &[Candidate],
    ) -> Vec<PeerKey> {
        if !self.is_open(now) {
            return Vec::new();
        }
        self.next_at = now + self.timers.rechoke_every;
        let slots = self.count_slots(slots, upload_capacity, candidates);
        let mut interested: Vec<&Candidate> =
            candidates.iter().filter(|peer| peer.is_interested).collect();
        // Among equals, nobody's second connection comes before another's first.
        let mut of_host: BTreeMap<IpAddr, u32> = BTreeMap::new();
        let mut ranks: BTreeMap<PeerKey, u32> = BTreeMap::new();
        for peer in &interested {
            let rank = of_host.entry(peer.host).or_default();
            ranks.insert(peer.key, *rank);
            *rank += 1;
        }
        let rank = |peer: &Candidate| (ranks.get(&peer.key).copied(), peer.key);
        match role {
            Role::Leeching => {
                interested.sort_by_key(|peer| {
                    let gives = Reverse(peer.download_rate);
                    (peer.is_snubbed, gives, peer.wasted_its_turn, rank(peer))
                });
            }
            Role::Seeding(SeedingPolicy::FastestFirst) => {
                interested.sort_by_key(|peer| {
                    (peer.wasted_its_turn, Reverse(peer.upload_rate), rank(peer))
                });
            }
            Role::Seeding(SeedingPolicy::RoundRobin) => {
                interested.sort_by_key(|peer| {
                    let is_over = peer.wasted_its_turn || has_had_its_turn(now, peer);
                    (is_over, Reverse(peer.unchoked_at.is_some()), rank(peer))
                });
            }
        }
        if interested.len() <= slots || slots == 0 {
            self.optimistic = None;
            interested.truncate(slots);
            return interested.into_iter().map(|peer| peer.key).collect();
        }
        let is_fair_game = |peer: &&&Candidate| role != Role::Leeching || !peer.is_snubbed;
        let mut served: Vec<PeerKey> = interested
            .iter()
            .filter(is_fair_game)
            .take(slots.saturating_sub(1))
            .map(|peer| peer.key)
            .collect();
        let waiting: Vec<&Candidate> =
            interested.into_iter().filter(|peer| !served.contains(&peer.key)).collect();
        served.extend(self.choose_optimistic(now, &waiting));
        served
    }

    /// One slot goes by chance, for thirty seconds, to find out who would be better: the newly come
    /// three times as likely, and hardly ever to who made nothing of it before.
    fn choose_optimistic(&mut self, now: Instant, waiting: &[&Candidate]) -> Option<PeerKey> {
        let is_it = |peer: &&Candidate| Some(peer.key) == self.optimistic && !peer.wasted_its_turn;
        let may_stay = waiting.iter().any(is_it);
        if !may_stay || now >= self.optimistic_until {
            self.optimistic_until = now + self.timers.optimistic_every;
            let is_new =
                |peer: &Candidate| now.saturating_duration_since(peer.connected_at) < NEW_FOR;
            let weight = |peer: &Candidate| match peer.wasted_its_turn {
                true => 1,
                false if is_new(peer) => 30,
                false => 10,
            };
            let mut chance = self.rng.below(waiting.iter().map(|peer| weight(peer)).sum());
            let chosen = waiting.iter().find(|peer| {
                let weight = weight(peer);
                let is_it = chance < weight;
                chance = chance.saturating_sub(weight);
                is_it
            });
            self.optimistic = chosen.map(|peer| peer.key);
        }
        self.optimistic
    }

    fn count_slots(
        &mut self,
        slots: Slots,
        capacity: Option<u64>,
        candidates: &[Candidate],
    ) -> usize {
        if let Slots::Fixed(count) = slots {
            return count;
        }
        let rate: u64 = candidates.iter().map(|peer| peer.upload_rate).sum();
        let served = candidates.iter().filter(|peer| !peer.is_choked).count();
        let has_grown = rate > self.rate_before + self.rate_before / 20;
        // More slots would share what there is.
        let is_saturated = capacity.is_some_and(|capacity| rate >= capacity - capacity / 10);
        if rate < self.rate_before / 2 {
            self.take_slot();
        } else if served < self.slots || rate == 0 || is_saturated {
            self.is_probing = false;
        } else if has_grown || (!self.is_probing && self.rounds_to_probe == 0) {
            self.slots = (self.slots + 1).min(SLOTS_MAX);
            self.is_probing = true;
        } else if self.is_probing {
            self.take_slot();
        } else {
            self.rounds_to_probe -= 1;
        }
        self.rate_before = rate;
        // A slot that gets a trickle serves nobody.
        let affordable = capacity.map_or(SLOTS_MAX as u64, |capacity| capacity / RATE_PER_SLOT_MIN);
        self.slots.min((affordable as usize).max(SLOTS_MIN))
    }
}

impl Choker {
    /// One slot less, for a while at least.
    fn take_slot(&mut self) {
        self.slots = (self.slots - 1).max(SLOTS_FIRST);
        self.is_probing = false;
        self.rounds_to_probe = PROBE_EVERY;
    }
}

fn has_had_its_turn(now: Instant, peer: &Candidate) -> bool {
    peer.unchoked_at.is_some_and(|at| now.saturating_duration_since(at) >= TURN)
        && peer.uploaded_since_unchoke >= TURN_LEN
}

const EVERY_MIN: Duration = Duration::from_secs(1);
const EVERY_MAX: Duration = Duration::from_secs(600);
const OPTIMISTIC_MAX: Duration = Duration::from_secs(3600);
const NEW_FOR: Duration = Duration::from_secs(60);
const TURN: Duration = Duration::from_secs(60);
const TURN_LEN: u64 = 4 * 1024 * 1024;
const SLOTS_FIRST: usize = 8;
/// Rounds between two attempts to serve one more.
const PROBE_EVERY: u32 = 6;
const SLOTS_MIN: usize = 4;
const SLOTS_MAX: usize = 64;
const RATE_PER_SLOT_MIN: u64 = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::tests::epoch;

    const ROUND: Duration = Duration::from_secs(10);

    fn choker() -> Choker {
        Choker::new(epoch(), ChokingTimers::default(), Rng::from_seed(1))
    }

    fn peer(key: u32) -> Candidate {
        Candidate {
            key: PeerKey(key),
            host: IpAddr::from(key.to_be_bytes()),
            is_interested: true,
            is_choked: true,
            download_rate: 0,
            upload_rate: 0,
            is_snubbed: false,
            connected_at: epoch(),
            unchoked_at: None,
            uploaded_since_unchoke: 0,
            wasted_its_turn: false,
        }
    }

    fn rechoke(
        choker: &mut Choker,
        round: u32,
        role: Role,
        slots: usize,
        peers: &[Candidate],
    ) -> Vec<u32> {
        let now = epoch() + ROUND * round;
        let mut served: Vec<u32> = choker
            .rechoke(now, role, Slots::Fixed(slots), None, peers)
            .iter()
            .map(|key| key.0)
            .collect();
        served.sort_unstable();
        served
    }

    #[test]
    fn few_are_all_served_and_the_uninterested_never() {
        let mut choker = choker();
        assert!(choker.is_due(epoch()));
        let bored = Candidate { is_interested: false, ..peer(2) };
        assert_eq!(rechoke(&mut choker, 0, Role::Leeching, 4, &[peer(1), bored, peer(3)]), [1, 3]);
        assert!(!choker.is_due(epoch() + ROUND / 2) && choker.is_due(epoch() + ROUND));
        assert_eq!(rechoke(&mut choker, 1, Role::Leeching, 0, &[peer(1), peer(3)]), []);
    }

    #[test]
    fn a_leecher_serves_those_who_give_most_and_one_by_chance() {
        let mut choker = choker();
        let peers: Vec<Candidate> = (0..20)
            .map(|key| Candidate { download_rate: u64::from(key) * 100, ..peer(key) })
            .collect();
        let mut lucky = std::collections::BTreeSet::new();
        for round in 0..60 {
            let served = rechoke(&mut choker, round, Role::Leeching, 4, &peers);
            assert_eq!((served.len(), &served[1..]), (4, &[17, 18, 19][..]));
            lucky.insert(served[0]);
        }
        assert!((5..=20).contains(&lucky.len()), "{lucky:?}");
    }

    #[test]
    fn whoever_snubs_us_gets_no_regular_slot() {
        let mut choker = choker();
        let mut peers: Vec<Candidate> = (0..4).map(peer).collect();
        peers[0] = Candidate { is_snubbed: true, download_rate: 1000, ..peer(0) };
        let served = rechoke(&mut choker, 0, Role::Leeching, 3, &peers);
        assert!(served.contains(&1) && served.contains(&2), "{served:?}");
    }

    #[test]
    fn a_seed_serves_the_fastest_or_everyone_in_turn() {
        let mut choker = choker();
        let fast: Vec<Candidate> =
            (0..9).map(|key| Candidate { upload_rate: u64::from(key), ..peer(key) }).collect();
        let served = rechoke(&mut choker, 0, Role::Seeding(SeedingPolicy::FastestFirst), 3, &fast);
        assert_eq!(served[1..], [7, 8]);

        let mut turn: Vec<Candidate> = (0..4).map(peer).collect();
        for at in [0, 1] {
            turn[at].unchoked_at = Some(epoch());
            turn[at].uploaded_since_unchoke = 10 << 20;
        }
        let early = rechoke(&mut choker, 1, Role::Seeding(SeedingPolicy::RoundRobin), 3, &turn);
        assert_eq!(early[..2], [0, 1]);
        let late = rechoke(&mut choker, 7, Role::Seeding(SeedingPolicy::RoundRobin), 3, &turn);
        assert!(late.contains(&2) && late.contains(&3), "{late:?}");
    }

    #[test]
    fn whoever_asks_for_nothing_gives_way_to_whoever_waits() {
        for role in [
            Role::Leeching,
            Role::Seeding(SeedingPolicy::FastestFirst),
            Role::Seeding(SeedingPolicy::RoundRobin),
        ] {
            let mut choker = choker();
            let idle = (0..20).map(|key| Candidate {
                wasted_its_turn: true,
                is_choked: false,
                unchoked_at: Some(epoch()),
                ..peer(key)
            });
            let peers: Vec<Candidate> = idle.chain([peer(20), peer(21)]).collect();
            let served = rechoke(&mut choker, 1, role, 4, &peers);
            assert!(served.contains(&20) && served.contains(&21), "{role:?}: {served:?}");
        }
    }

    #[test]
    fn a_crowd_from_one_host_leaves_slots_to_others() {
        for role in [Role::Leeching, Role::Seeding(SeedingPolicy::FastestFirst)] {
            let crowd =
                (0..50).map(|key| Candidate { host: IpAddr::from([10, 0, 0, 1]), ..peer(key) });
            let peers: Vec<Candidate> = crowd.chain([peer(50), peer(51)]).collect();
            let served = rechoke(&mut choker(), 1, role, 4, &peers);
            assert!(served.contains(&50) && served.contains(&51), "{role:?}: {served:?}");
        }
    }

    #[test]
    fn slots_follow_the_capacity() {
        let mut choker = choker();
        let busy = |rate| {
            (0..100)
                .map(|key| Candidate { upload_rate: rate, is_choked: key > 50, ..peer(key) })
                .collect::<Vec<_>>()
        };
        let mut count = |rate, capacity| {
            choker.rechoke(epoch(), Role::Leeching, Slots::Adaptive, capacity, &busy(rate)).len()
        };
        assert_eq!(count(0, None), 8);
        assert_eq!([count(100, None), count(200, None), count(200, None)], [9, 10, 9]);
        assert_eq!([(); 8].map(|()| count(200, None)), [9, 9, 9, 9, 9, 9, 10, 9], "now and then");
        assert_eq!(count(200, Some(40_000)), 4);
        assert_eq!(
            [(); 9].map(|()| count(10_000, Some(1_050_000))),
            [9; 9],
            "the limit is reached"
        );
        assert_eq!(count(20_000, Some(8_000_000)), 10, "there is room on the line");
    }

    #[test]
    fn the_timers_say_when_it_is_decided_and_how_long_chance_lasts() {
        let second = Duration::from_secs(1);
        let timers = ChokingTimers {
            rechoke_every: second * 20,
            optimistic_every: second * 120,
            first_after: second * 15,
        };
        let mut choker = Choker::new(epoch(), timers, Rng::from_seed(1));
        let peers: Vec<Candidate> = (0..50).map(peer).collect();
        let mut rechoke = |at: u32| {
            let now = epoch() + second * at;
            assert!(choker.is_due(now), "at {at}");
            let served = choker.rechoke(now, Role::Leeching, Slots::Fixed(3), None, &peers);
            assert!(!choker.is_due(now + second * 19) && choker.is_due(now + second * 20));
            (served.len(), choker.optimistic())
        };
        assert_eq!(rechoke(15).0, 3);
        let lucky: Vec<_> = (2..15).map(|round| rechoke(15 + 20 * round).1).collect();
        let changes: Vec<usize> = (1..13).filter(|&at| lucky[at] != lucky[at - 1]).collect();
        assert_eq!(changes, [4, 10], "every sixth round, the first having been one of them");
    }

    #[test]
    fn nobody_is_served_before_the_first_time() {
        let timers = ChokingTimers { first_after: ROUND, ..ChokingTimers::default() };
        let mut choker = Choker::new(epoch(), timers, Rng::from_seed(1));
        let early = epoch() + ROUND / 2;
        assert!(!choker.is_open(early) && !choker.is_due(early));
        let served = choker.rechoke(early, Role::Leeching, Slots::Adaptive, None, &[peer(1)]);
        assert_eq!(served, []);
        assert!(choker.is_due(epoch() + ROUND), "asking early puts nothing off");
    }

    #[test]
    fn timers_out_of_bounds_are_brought_within() {
        let zero = ChokingTimers {
            rechoke_every: Duration::ZERO,
            optimistic_every: Duration::ZERO,
            first_after: Duration::MAX,
        };
        let least = zero.clamped();
        assert_eq!([least.rechoke_every, least.optimistic_every], [EVERY_MIN; 2]);
        assert_eq!(least.first_after, EVERY_MAX);
        let ever = ChokingTimers { rechoke_every: Duration::MAX, ..zero }.clamped();
        assert_eq!([ever.rechoke_every, ever.optimistic_every], [EVERY_MAX; 2]);
        assert_eq!(ChokingTimers::default().clamped(), ChokingTimers::default());
    }
}
