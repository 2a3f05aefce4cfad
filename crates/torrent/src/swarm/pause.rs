//! A pause: connections stay, and no data moves either way.
//!
//! A paused swarm goes on to greet, to say what it has and wants, and to keep its connections alive,
//! so that the end of the pause costs no round of dialling.

use std::time::Instant;

use super::{PeerKey, Swarm};
use crate::Block;
use crate::wire::Message;

impl Swarm {
    /// Begins or ends a pause. While it lasts no block is asked for and none is served: requests that
    /// are out are cancelled, those that wait here are dropped, and everyone is choked. Blocks that
    /// were under way already are kept as they come. At its end peers are served and asked at once.
    pub fn set_paused(&mut self, now: Instant, is_paused: bool) {
        if is_paused == self.is_paused {
            return;
        }
        self.is_paused = is_paused;
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        if is_paused {
            for key in keys {
                self.stop_asking(key);
                self.stop_serving(key);
            }
        } else {
            // Nobody is judged by what did not move meanwhile.
            self.turned_over_at = now;
            self.rechoke(now);
            self.ask_for_metadata(now);
            keys.into_iter().for_each(|key| self.fill(now, key));
        }
    }

    /// Whether it is paused.
    pub const fn is_paused(&self) -> bool {
        self.is_paused
    }

    fn stop_asking(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.asked.is_empty() {
            return;
        }
        let asked: Vec<Block> = peer.asked.iter().map(|asked| asked.block).collect();
        asked.into_iter().for_each(|block| peer.send(&Message::Cancel(block)));
        self.dirty.push(key);
        self.forgive_all(key);
    }

    fn stop_serving(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else { return };
        if !peer.am_choking {
            self.choke(key);
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        // What choking leaves: blocks of pieces that a choked peer may ask for, and those that are
        // being read.
        let dropped: Vec<Block> = peer.wants.drain(..).chain(peer.reading.drain(..)).collect();
        if peer.has_fast && !dropped.is_empty() {
            dropped.into_iter().for_each(|block| peer.send(&Message::Reject(block)));
            self.dirty.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::swarm::world::{World, plain};
    use crate::wire::Reserved;
    use crate::{Bitfield, PieceIndex};

    /// A leech and two seeds in the middle of a transfer.
    fn busy(reserved: Reserved) -> (World, usize, [usize; 2]) {
        let mut world = World::new(200 * 16_384, 20 * 16_384);
        let (leech, seeds) = (world.leech(), [world.seed(), world.seed()]);
        for seed in seeds {
            (world.hosts[seed].upload_per_step, world.hosts[seed].upload_left) = (16_384, 0);
            world.connect_with(leech, seed, reserved);
        }
        while world.hosts[leech].swarm.downloaded() < 40 * 16_384 {
            world.run_for(Duration::from_millis(10));
        }
        (world, leech, seeds)
    }

    fn pause(world: &mut World, at: usize, is_paused: bool) {
        world.hosts[at].swarm.set_paused(world.now, is_paused);
        world.drain(at);
    }

    fn key_of(world: &World, at: usize) -> PeerKey {
        *world.hosts[at].links.keys().next().expect("linked")
    }

    #[test]
    fn a_paused_leech_asks_for_nothing_keeps_its_peers_and_goes_on_after() {
        for reserved in [Reserved::ours(), plain()] {
            let (mut world, leech, seeds) = busy(reserved);
            pause(&mut world, leech, true);
            // What was under way comes, and no more.
            world.run(1);
            let downloaded = world.hosts[leech].swarm.downloaded();
            assert!(downloaded < 100 * 16_384);
            world.run(600);
            let swarm = &world.hosts[leech].swarm;
            assert_eq!((swarm.downloaded(), swarm.peer_count()), (downloaded, 2));
            assert!(swarm.peers(world.now).all(|(_, peer)| peer.requests_outstanding == 0));
            assert_eq!(swarm.download_rate(world.now), 0);
            pause(&mut world, leech, false);
            world.run(20);
            assert!(world.is_done(leech));
            assert_eq!(world.hosts[leech].closed, ["both are seeds"; 2]);
            assert!(seeds.iter().all(|&seed| world.hosts[seed].faults.is_empty()));
        }
    }

    #[test]
    fn a_paused_seed_serves_nobody_and_the_end_of_the_pause_serves_all_at_once() {
        for reserved in [Reserved::ours(), plain()] {
            let (mut world, leech, [seed, other]) = busy(reserved);
            world.disconnect(leech, other);
            pause(&mut world, seed, true);
            let uploaded = world.hosts[seed].swarm.uploaded();
            world.run(600);
            let key = key_of(&world, seed);
            let swarm = &mut world.hosts[seed].swarm;
            assert_eq!((swarm.uploaded(), swarm.peer_count()), (uploaded, 1));
            assert!(!swarm.has_requests(key) && swarm.next_read(key, u32::MAX).is_none());
            pause(&mut world, seed, false);
            world.run_for(Duration::from_millis(50));
            assert!(world.hosts[seed].swarm.uploaded() > uploaded);
            world.run(20);
            assert!(world.is_done(leech));
            assert!(world.hosts[leech].faults.is_empty() && world.hosts[seed].faults.is_empty());
        }
    }

    #[test]
    fn a_block_that_is_being_read_as_the_pause_begins_is_not_sent() {
        let mut world = World::new(400_000, 100_000);
        let (seed, leech) = (world.seed(), world.leech());
        world.hosts[seed].is_mute = true;
        world.connect(leech, seed);
        world.run(1);
        let key = key_of(&world, seed);
        let swarm = &mut world.hosts[seed].swarm;
        let run = swarm.next_read(key, u32::MAX).expect("the leech has asked");
        swarm.set_paused(world.now, true);
        swarm.handle_read(world.now, run, &Bytes::from(vec![0; run.span.len as usize]));
        assert_eq!(swarm.uploaded(), 0);
    }

    #[test]
    fn a_paused_swarm_rejects_requests_even_for_what_the_choked_may_have() {
        let mut world = World::new(400_000, 100_000);
        let (seed, leech) = (world.seed(), world.leech());
        pause(&mut world, seed, true);
        world.connect(leech, seed);
        world.run(30);
        let key = key_of(&world, seed);
        assert_eq!(world.hosts[seed].swarm.allowed_to(key).len(), 4);
        assert!(!world.hosts[seed].swarm.has_requests(key));
        assert_eq!(world.hosts[seed].swarm.uploaded(), 0);
        pause(&mut world, seed, false);
        world.run(3);
        assert!(world.is_done(leech));
    }

    #[test]
    fn a_paused_swarm_says_what_it_has_and_learns_what_others_have() {
        let mut world = World::new(400_000, 100_000);
        let mut have = Bitfield::none(4);
        have.set(PieceIndex(0));
        let (paused, seed) = (world.add(have), world.seed());
        pause(&mut world, paused, true);
        world.connect(paused, seed);
        world.run(1);
        let seen = world.hosts[seed].swarm.peers(world.now).next().expect("connected").1;
        assert_eq!((seen.pieces_have, seen.peer_interested), (1, true));
        let seen = world.hosts[paused].swarm.peers(world.now).next().expect("connected").1;
        assert!(seen.is_seed && !seen.peer_choking);
    }

    #[test]
    fn pausing_again_and_again_breaks_nothing() {
        for reserved in [Reserved::ours(), plain()] {
            let (mut world, leech, seeds) = busy(reserved);
            for round in 0..50 {
                let at = if round % 3 == 0 { seeds[0] } else { leech };
                pause(&mut world, at, true);
                world.run_for(Duration::from_millis(10 * (round % 4)));
                pause(&mut world, at, false);
                world.run_for(Duration::from_millis(10 * (round % 5)));
            }
            world.run(20);
            assert!(world.is_done(leech));
            assert_eq!(world.hosts[leech].swarm.held_len(), 0);
            assert!(world.hosts.iter().all(|host| host.faults.is_empty()), "no side is blamed");
        }
    }
}
