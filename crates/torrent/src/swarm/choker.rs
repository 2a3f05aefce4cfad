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
    next_at: Option<Instant>,
    round: u32,
    optimistic: Option<PeerKey>,
    /// How many are served if that follows the capacity, and the rate that this brought.
    slots: usize,
    rate_before: u64,
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
    /// Eight, and one more each time that brought more, up to 64.
    Adaptive,
}

impl Choker {
    /// A choker that has not decided yet.
    pub const fn new(rng: Rng) -> Self {
        Self { next_at: None, round: 0, optimistic: None, slots: SLOTS_FIRST, rate_before: 0, rng }
    }

    /// When to call [`rechoke`](Self::rechoke); the first time at once.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next_at.is_none_or(|at| now >= at)
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
        self.next_at = Some(now + ROUND);
        self.round = self.round.wrapping_add(1);
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
        if interested.len() <= slots {
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

    /// One slot goes by chance, for three rounds, to find out who would be better: the newly come
    /// three times as likely, and hardly ever to who made nothing of it before.
    fn choose_optimistic(&mut self, now: Instant, waiting: &[&Candidate]) -> Option<PeerKey> {
        let is_it = |peer: &&Candidate| Some(peer.key) == self.optimistic && !peer.wasted_its_turn;
        let may_stay = waiting.iter().any(is_it);
        if !may_stay || self.round.is_multiple_of(OPTIMISTIC_ROUNDS) {
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
        if served >= self.slots && rate > self.rate_before + self.rate_before / 20 {
            self.slots = (self.slots + 1).min(SLOTS_MAX);
        } else if rate < self.rate_before / 2 {
            self.slots = (self.slots - 1).max(SLOTS_FIRST);
        }
        self.rate_before = rate;
        // A slot that gets a trickle serves nobody.
        let affordable = capacity.map_or(SLOTS_MAX as u64, |capacity| capacity / RATE_PER_SLOT_MIN);
        self.slots.min((affordable as usize).max(SLOTS_MIN))
    }
}

fn has_had_its_turn(now: Instant, peer: &Candidate) -> bool {
    peer.unchoked_at.is_some_and(|at| now.saturating_duration_since(at) >= TURN)
        && peer.uploaded_since_unchoke >= TURN_LEN
}

const ROUND: Duration = Duration::from_secs(10);
const OPTIMISTIC_ROUNDS: u32 = 3;
const NEW_FOR: Duration = Duration::from_secs(60);
const TURN: Duration = Duration::from_secs(60);
const TURN_LEN: u64 = 4 * 1024 * 1024;
const SLOTS_FIRST: usize = 8;
const SLOTS_MIN: usize = 4;
const SLOTS_MAX: usize = 64;
const RATE_PER_SLOT_MIN: u64 = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::tests::epoch;

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
        let mut choker = Choker::new(Rng::from_seed(1));
        assert!(choker.is_due(epoch()));
        let bored = Candidate { is_interested: false, ..peer(2) };
        assert_eq!(rechoke(&mut choker, 0, Role::Leeching, 4, &[peer(1), bored, peer(3)]), [1, 3]);
        assert!(!choker.is_due(epoch() + ROUND / 2) && choker.is_due(epoch() + ROUND));
    }

    #[test]
    fn a_leecher_serves_those_who_give_most_and_one_by_chance() {
        let mut choker = Choker::new(Rng::from_seed(1));
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
        let mut choker = Choker::new(Rng::from_seed(1));
        let mut peers: Vec<Candidate> = (0..4).map(peer).collect();
        peers[0] = Candidate { is_snubbed: true, download_rate: 1000, ..peer(0) };
        let served = rechoke(&mut choker, 0, Role::Leeching, 3, &peers);
        assert!(served.contains(&1) && served.contains(&2), "{served:?}");
    }

    #[test]
    fn a_seed_serves_the_fastest_or_everyone_in_turn() {
        let mut choker = Choker::new(Rng::from_seed(1));
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
            let mut choker = Choker::new(Rng::from_seed(1));
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
            let served = rechoke(&mut Choker::new(Rng::from_seed(1)), 1, role, 4, &peers);
            assert!(served.contains(&50) && served.contains(&51), "{role:?}: {served:?}");
        }
    }

    #[test]
    fn slots_follow_the_capacity() {
        let mut choker = Choker::new(Rng::from_seed(1));
        let busy = |rate| {
            (0..100)
                .map(|key| Candidate { upload_rate: rate, is_choked: key > 50, ..peer(key) })
                .collect::<Vec<_>>()
        };
        let mut count = |rate, capacity| {
            choker.rechoke(epoch(), Role::Leeching, Slots::Adaptive, capacity, &busy(rate)).len()
        };
        assert_eq!(count(0, None), 8);
        assert_eq!([count(100, None), count(200, None), count(200, None)], [9, 10, 10]);
        assert_eq!(count(200, Some(40_000)), 4);
    }
}
