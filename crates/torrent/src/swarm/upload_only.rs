//! Who wants nothing more, though it may not have everything ([BEP 21]): said in the handshake, and by a message of its
//! own when it changes.
//!
//! [BEP 21]: https://www.bittorrent.org/beps/bep_0021.html

use std::time::{Duration, Instant};

use super::peer::Peer;
use super::{PeerKey, Swarm};
use crate::PeerFault;
use crate::wire::Extension;

impl Swarm {
    /// Says whether we want anything, after that has changed.
    pub(super) fn tell_wishes(&mut self, key: PeerKey) {
        let message = vec![u8::from(self.is_completed)];
        if !self.send_extension(key, Extension::UploadOnly, message) {
            self.introduce_again(key);
        }
    }

    pub(super) fn handle_upload_only(
        &mut self,
        key: PeerKey,
        payload: &[u8],
    ) -> Result<(), PeerFault> {
        let &[flag, ..] = payload else { return Err(PeerFault::MalformedMessage) };
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        peer.spend_patience()?;
        peer.extended.get_or_insert_default().upload_only = Some(flag != 0);
        self.close_if_both_done(key);
        Ok(())
    }
}

impl Peer {
    /// Whether it wants nothing and has nothing that we want, and has had the time to say what it has. Whoever has
    /// nothing at all is no partial seed: it may show us its pieces one by one.
    pub(super) fn is_of_no_use(&self, now: Instant) -> bool {
        self.is_upload_only()
            && self.interesting == 0
            && self.bits.count() > 0
            && now.saturating_duration_since(self.connected_at) >= SAYS_ALL_WITHIN
    }
}

const SAYS_ALL_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::world::World;
    use crate::wire::{ExtendedHandshake, Message};
    use crate::{Bitfield, PieceIndex};

    fn half() -> Bitfield {
        let mut half = Bitfield::none(4);
        assert!(half.set(PieceIndex(0)) && half.set(PieceIndex(1)));
        half
    }

    #[test]
    fn a_partial_seed_with_nothing_for_us_is_let_go_and_others_are_kept() {
        let mut world = World::new(400_000, 100_000);
        let partial = world.add_wanting(half(), &[4, 4, 0, 0]);
        let (have_it, lack_it) = (world.add(half()), world.leech());
        let fellow = world.add(half());
        world.hosts[partial].is_mute = true;
        world.connect(have_it, partial);
        world.connect(lack_it, partial);
        world.connect(have_it, fellow);
        world.run(9);
        assert!(world.hosts[have_it].closed.is_empty());
        world.run(2);
        assert_eq!(world.hosts[have_it].closed, ["neither has what the other wants"]);
        assert_eq!(
            world.hosts[have_it].swarm.peer_count(),
            1,
            "whoever still loads may have more later"
        );
        assert_eq!(world.hosts[lack_it].swarm.peer_count(), 1);
    }

    #[test]
    fn a_change_of_mind_is_told_by_a_message_of_its_own() {
        let mut world = World::new(400_000, 100_000);
        let (partial, leech) = (world.add_wanting(half(), &[4, 4, 0, 0]), world.leech());
        world.hosts[partial].is_mute = true;
        world.connect(partial, leech);
        world.run(1);
        let is_upload_only =
            |world: &World| world.hosts[leech].swarm.peers.values().all(Peer::is_upload_only);
        assert!(is_upload_only(&world));
        world.hosts[partial].swarm.set_priorities(&[4; 4]);
        world.drain(partial);
        let (_, _, bytes) = world.wires.back().expect("it says so");
        let message = Message::Extended { id: 5, payload: vec![0].into() };
        let mut expected = Vec::new();
        message.encode(&mut expected);
        assert!(bytes.ends_with(&expected), "{bytes:?}");
        world.run(1);
        assert!(!is_upload_only(&world));
        world.inject(partial, leech, &[Message::Extended { id: 5, payload: vec![1].into() }]);
        assert!(is_upload_only(&world));
        world.inject(partial, leech, &[Message::Extended { id: 5, payload: Vec::new().into() }]);
        assert_eq!(world.hosts[leech].faults, [PeerFault::MalformedMessage]);
    }

    #[test]
    fn whoever_does_not_know_the_message_is_greeted_again() {
        let mut world = World::new(400_000, 100_000);
        let (partial, leech) = (world.add_wanting(half(), &[4, 4, 0, 0]), world.leech());
        world.hosts[partial].is_mute = true;
        world.connect(partial, leech);
        world.run(1);
        let m = [(Extension::UploadOnly.name().into(), 0)].into();
        let forgets = ExtendedHandshake { m, ..ExtendedHandshake::default() }.encode();
        world.inject(leech, partial, &[Message::Extended { id: 0, payload: forgets.into() }]);
        world.hosts[partial].swarm.set_priorities(&[4; 4]);
        world.drain(partial);
        world.run(1);
        assert!(!world.hosts[leech].swarm.peers.values().any(Peer::is_upload_only));
    }

    #[test]
    fn a_piece_that_is_gone_is_asked_of_nobody_who_had_it() {
        for count in [1, 2] {
            let mut world = World::new(400_000, 100_000);
            let leech = world.leech();
            let seeds: Vec<usize> = (0..count).map(|_| world.seed()).collect();
            for &seed in &seeds {
                world.hosts[seed].is_mute = true;
                world.connect(leech, seed);
            }
            world.run(1);
            let gone = |piece: u32| Message::Extended {
                id: Extension::DontHave.number(),
                payload: piece.to_be_bytes().to_vec().into(),
            };
            let all: Vec<Message> = (0..4).map(gone).collect();
            world.inject(seeds[0], leech, &all);
            let swarm = &world.hosts[leech].swarm;
            let lost =
                swarm.peers.values().find(|peer| peer.bits.count() == 0).expect("it lost all");
            assert!(lost.asked.is_empty() && !lost.am_interested && lost.interesting == 0);
            assert_eq!(swarm.picker.availability(PieceIndex(0)), count - 1);
            // It says so twice, and sends what was under way.
            world.inject(seeds[0], leech, &all);
            seeds.iter().for_each(|&seed| world.hosts[seed].is_mute = false);
            world.run(3);
            assert!(world.hosts[leech].faults.is_empty());
        }
    }

    #[test]
    fn a_piece_that_there_is_not_cannot_be_gone() {
        let mut world = World::new(400_000, 100_000);
        let (seed, leech) = (world.seed(), world.leech());
        world.hosts[seed].is_mute = true;
        for (payload, fault) in [
            (vec![0, 0, 0, 4], PeerFault::NoSuchPiece),
            (vec![0, 0, 0], PeerFault::MalformedMessage),
        ] {
            world.connect(leech, seed);
            let id = Extension::DontHave.number();
            world.inject(seed, leech, &[Message::Extended { id, payload: payload.into() }]);
            assert_eq!(world.hosts[leech].faults.pop(), Some(fault));
        }
    }
}
