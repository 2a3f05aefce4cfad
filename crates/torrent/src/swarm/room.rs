//! Who gives way to another peer when there is no room: whoever is of no use first. Every five minutes a few of those
//! that are of least use go, too, so that a full swarm goes on finding better ones; what goes with them is at most a
//! tenth of what all bring.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::{PeerKey, Source, Swarm};

impl Swarm {
    /// The peer that gives way first when there is no room, if there is one that may: of those connected for a
    /// minute where neither wants anything of the other, and then of those with whom no block has gone either
    /// way for five minutes, the one that ranks lowest, and the oldest of equals.
    pub fn least_useful(&self, now: Instant) -> Option<PeerKey> {
        let since = |at: Instant| now.saturating_duration_since(at);
        let is_useless = |peer: &Peer| {
            let wants_nothing = !peer.am_interested && !peer.peer_interested;
            if wants_nothing && since(peer.connected_at) >= USELESS_AFTER {
                return Some(true);
            }
            // What a pause holds up is nobody's fault.
            (since(peer.payload_at) >= UNUSED_AFTER && !self.is_paused).then_some(false)
        };
        let rank = |peer: &Peer| Reverse(self.rank(peer));
        let candidates =
            self.peers.iter().filter_map(|(&key, peer)| Some((key, peer, is_useless(peer)?)));
        let first = candidates
            .min_by_key(|(_, peer, is_useless)| (!is_useless, rank(peer), peer.connected_at));
        first.map(|(key, ..)| key)
    }

    /// Those that make room for strangers although they are of some use, the least useful first: one in 25, or one, of
    /// those that were here for five minutes, as far as all that they brought is a tenth at most of what everybody
    /// brought. That is what came of a peer, or went to it once everything is here. Whom a person named stays.
    ///
    /// For a torrent that is full and knows of others. Nobody goes within five minutes of the last time.
    pub fn turn_over(&mut self, now: Instant) -> Vec<PeerKey> {
        if !self.may_turn_over(now) {
            return Vec::new();
        }
        let since = std::mem::replace(&mut self.turned_over_at, now);
        let (mut total, mut old) = (0, Vec::new());
        for (&key, peer) in &mut self.peers {
            let (brought, returned) = peer.moved_since(self.is_completed);
            total += brought;
            let is_named =
                self.known.source(peer.contact().unwrap_or(peer.addr)) == Some(Source::Manual);
            if peer.connected_at <= since && !is_named {
                old.push((brought, returned, key));
            }
        }
        let rank = |key: &PeerKey| Reverse(self.peers.get(key).and_then(|peer| self.rank(peer)));
        old.sort_by_key(|(brought, returned, key)| (*brought, *returned, rank(key)));
        let mut spare = total / SHARE_OF_GOING;
        let affordable = old.into_iter().take_while(|(brought, ..)| {
            let rest = spare.checked_sub(*brought);
            spare = rest.unwrap_or(0);
            rest.is_some()
        });
        affordable.take((self.peers.len() / ONE_IN).max(1)).map(|(.., key)| key).collect()
    }

    /// Whether it is time for [`turn_over`](Self::turn_over).
    pub fn may_turn_over(&self, now: Instant) -> bool {
        !self.is_paused && now.saturating_duration_since(self.turned_over_at) >= TURN_OVER_EVERY
    }

    /// The place of a peer in the order of BEP 40, the lowest first.
    fn rank(&self, peer: &Peer) -> Option<u32> {
        self.known.rank(peer.contact().unwrap_or(peer.addr))
    }
}

impl Peer {
    /// What it has brought us since this was last asked, and what it got for that; the other way round for a seed.
    fn moved_since(&mut self, is_seed: bool) -> (u64, u64) {
        let (down, up) = std::mem::replace(&mut self.moved, (self.downloaded, self.uploaded));
        let (down, up) = (self.downloaded - down, self.uploaded - up);
        if is_seed { (up, down) } else { (down, up) }
    }
}

/// Time enough for somebody new to be served by chance, and to serve us.
const TURN_OVER_EVERY: Duration = Duration::from_secs(300);
const ONE_IN: usize = 25;
/// The part of everything that may go with those who give way.
const SHARE_OF_GOING: u64 = 10;
/// No peer is called useless before it has had so long to say what it has.
const USELESS_AFTER: Duration = Duration::from_secs(60);
/// No peer is called of little use before nothing has come or gone for so long.
const UNUSED_AFTER: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::world::World;

    /// A leech or a seed that is full of peers, and what they are known by.
    fn full(is_seed: bool, count: usize) -> (World, usize, Vec<PeerKey>) {
        let mut world = World::new(400_000, 100_000);
        let host = if is_seed { world.seed() } else { world.leech() };
        let others: Vec<usize> =
            (0..count).map(|_| if is_seed { world.leech() } else { world.seed() }).collect();
        for &other in &others {
            world.hosts[other].is_mute = true;
            world.connect(host, other);
        }
        world.hosts[host].is_mute = true;
        let keys = world.hosts[host].links.keys().copied().collect();
        (world, host, keys)
    }

    /// Who goes after five minutes, in which each peer moved so much.
    fn going(world: &mut World, host: usize, moved: &[(PeerKey, u64)]) -> Vec<PeerKey> {
        world.now += TURN_OVER_EVERY;
        let swarm = &mut world.hosts[host].swarm;
        for (key, count) in moved {
            let peer = swarm.peers.get_mut(key).expect("connected");
            if swarm.is_completed {
                peer.uploaded += count;
            } else {
                peer.downloaded += count;
            }
        }
        swarm.turn_over(world.now)
    }

    #[test]
    fn whoever_brings_least_gives_way_every_five_minutes_and_no_sooner() {
        for is_seed in [false, true] {
            let (mut world, host, keys) = full(is_seed, 20);
            let moved: Vec<_> = keys.iter().copied().zip((0..20).map(|at| 100 + at)).collect();
            assert_eq!(going(&mut world, host, &moved), [keys[0]]);
            world.now += TURN_OVER_EVERY - Duration::from_secs(1);
            assert_eq!(world.hosts[host].swarm.turn_over(world.now), []);
            let other_way: Vec<_> = keys.iter().copied().zip((0..20).rev()).collect();
            assert_eq!(going(&mut world, host, &other_way), [keys[19]], "the past does not count");
        }
    }

    #[test]
    fn what_goes_is_one_in_25_and_a_tenth_of_all_at_most() {
        let (mut world, host, keys) = full(false, 100);
        let moved = |of: &dyn Fn(usize) -> u64| -> Vec<(PeerKey, u64)> {
            keys.iter().enumerate().map(|(at, &key)| (key, of(at))).collect()
        };
        assert_eq!(going(&mut world, host, &moved(&|_| 1000)).len(), 4);
        assert_eq!(going(&mut world, host, &moved(&|_| 0)).len(), 4, "nobody brings anything");
        let few = moved(&|at| if at < 97 { 0 } else { 1000 });
        assert_eq!(going(&mut world, host, &few).len(), 4);
        let (mut world, host, keys) = full(false, 9);
        let all: Vec<_> = keys.iter().map(|&key| (key, 1000)).collect();
        assert_eq!(going(&mut world, host, &all), [], "each brings more than a tenth");
        let (first, rest) = all.split_first().expect("nine");
        assert_eq!(going(&mut world, host, rest), [first.0]);
    }

    #[test]
    fn the_new_the_named_and_the_paused_are_left_alone() {
        let (mut world, host, keys) = full(false, 2);
        let late = world.seed();
        world.hosts[late].is_mute = true;
        world.now += Duration::from_secs(1);
        world.connect(host, late);
        let named = world.hosts[host].links[&keys[0]].0;
        world.hosts[host].swarm.known.add(World::addr(named), Source::Manual);
        assert_eq!(going(&mut world, host, &[]), [keys[1]]);
        world.hosts[host].swarm.set_paused(world.now, true);
        assert_eq!(going(&mut world, host, &[]), []);
        world.hosts[host].swarm.set_paused(world.now, false);
        assert_eq!(world.hosts[host].swarm.turn_over(world.now), [], "five minutes to show it");
    }

    #[test]
    fn among_equals_the_order_of_bep_40_decides() {
        let (mut world, host, keys) = full(false, 20);
        world.hosts[host].swarm.known.set_ours(&["10.0.9.9:1".parse().expect("valid")]);
        let gone = going(&mut world, host, &[]);
        let swarm = &world.hosts[host].swarm;
        let last = keys.iter().max_by_key(|key| swarm.rank(&swarm.peers[key]));
        assert_eq!(gone.first(), last);
    }
}
