//! Giving a new torrent to the world with as little upload as can be ([BEP 16]).
//!
//! The seed looks as if it had nothing. It shows each peer a piece or two, and the next only once one of these has been
//! seen at somebody else: so each piece is sent about once, to somebody who passes it on. It is slower than plain
//! seeding once there are other seeds, so it is for the first one alone. Who wants none of what it was shown is not
//! waited for.
//!
//! [BEP 16]: https://www.bittorrent.org/beps/bep_0016.html

use std::time::{Duration, Instant};

use super::peer::Peer;
use super::{PeerKey, Swarm};
use crate::wire::Message;
use crate::{Bitfield, PieceIndex};

/// What one peer has been shown of us.
#[derive(Debug)]
pub(super) struct Shown {
    /// Everything so far.
    pieces: Bitfield,
    /// Those that have not been seen elsewhere, and since when it may have them.
    pending: Vec<(PieceIndex, Instant)>,
    /// When it was last shown anything.
    at: Option<Instant>,
    /// It was shown what it does not want: some of the files are enough for it.
    is_choosy: bool,
}

impl Swarm {
    /// Begins or ends super seeding (BEP 16). It is in effect while everything is here, for peers that come from then
    /// on. At its end all peers see all that there is.
    pub fn set_super_seeding(&mut self, is_wanted: bool) {
        self.wants_super_seeding = is_wanted;
        if is_wanted {
            return;
        }
        for (&key, peer) in &mut self.peers {
            let Some(shown) = peer.shown.take() else { continue };
            for piece in (0..self.layout.piece_count()).map(PieceIndex) {
                if !shown.pieces.has(piece) && !peer.bits.has(piece) {
                    peer.send(&Message::Have(piece));
                }
            }
            self.dirty.push(key);
        }
    }

    /// Whether it is wanted, in effect or not.
    pub const fn wants_super_seeding(&self) -> bool {
        self.wants_super_seeding
    }

    /// Whether peers that come now are to be shown one piece after another.
    pub(super) fn is_super_seeding(&self) -> bool {
        self.wants_super_seeding && self.picker.have().is_all()
    }

    /// Nothing, so far.
    pub(super) fn show_nothing(&self) -> Shown {
        Shown {
            pieces: Bitfield::none(self.layout.piece_count()),
            pending: Vec::new(),
            at: None,
            is_choosy: false,
        }
    }

    /// Whether a peer knows that we have a piece.
    pub(super) fn shows(&self, key: PeerKey, piece: PieceIndex) -> bool {
        let shown = self.peers.get(&key).and_then(|peer| peer.shown.as_ref());
        shown.is_none_or(|shown| shown.pieces.has(piece))
    }

    /// A peer has got a piece: whoever was to pass it on has done so, and is shown another.
    pub(super) fn seen_at(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        if !self.wants_super_seeding {
            return;
        }
        // Where there is nobody to pass anything on to, it need not be.
        let is_alone = self.has_one_leech();
        let mut freed = Vec::new();
        for (&other, peer) in &mut self.peers {
            let Some(shown) = &mut peer.shown else { continue };
            let before = shown.pending.len();
            if other != key || is_alone {
                shown.pending.retain(|(pending, _)| *pending != piece);
            }
            if shown.pending.len() < before {
                freed.push(other);
            }
        }
        freed.into_iter().for_each(|key| self.show_more(now, key));
    }

    /// Shows a peer pieces until it has enough to do. Called every tick, too: a piece that nobody passes on does not
    /// hold it up for ever.
    pub(super) fn show_more(&mut self, now: Instant, key: PeerKey) {
        if self.peers.get(&key).is_none_or(|peer| peer.shown.is_none()) {
            return;
        }
        let is_alone = self.has_one_leech();
        while let Some(peer) = self.peers.get_mut(&key)
            && let Some(shown) = &mut peer.shown
        {
            let is_seed = peer.bits.is_all();
            let (bits, is_interested) = (&peer.bits, peer.peer_interested);
            let before = shown.pending.len();
            let patience = if shown.is_choosy { CHOOSY_AFTER } else { AGAIN_AFTER };
            // It will not pass on what it does not even want.
            shown.pending.retain(|(piece, since)| {
                let is_old = now.saturating_duration_since(*since) >= patience;
                is_interested || bits.has(*piece) || !is_old
            });
            shown.is_choosy |= shown.pending.len() < before;
            shown.is_choosy &= !is_interested || shown.pending.is_empty();
            shown.pending.retain(|(piece, _)| !is_alone || !bits.has(*piece));
            shown.pending.retain(|(_, since)| now.saturating_duration_since(*since) < PATIENCE);
            if shown.pending.len() >= PENDING_MAX || is_seed {
                return;
            }
            let is_due = shown.at.is_none_or(|at| now.saturating_duration_since(at) >= AGAIN_AFTER);
            let Some((piece, is_first)) = self.next_to_show(key) else { return };
            // What others have, or are to get, it may have of them.
            if !is_first && !is_due && !self.has_one_leech() {
                return;
            }
            let Some(peer) = self.peers.get_mut(&key) else { return };
            let Some(shown) = &mut peer.shown else { return };
            shown.at = Some(now);
            shown.pieces.set(piece);
            shown.pending.push((piece, now));
            peer.send(&Message::Have(piece));
            self.dirty.push(key);
        }
    }

    /// Whether there is but one to pass things on to, not counting those who do not want everything.
    fn has_one_leech(&self) -> bool {
        let is_choosy = |peer: &Peer| peer.shown.as_ref().is_some_and(|shown| shown.is_choosy);
        self.peers.values().filter(|peer| !peer.is_seed() && !is_choosy(peer)).count() < 2
    }

    /// The piece that fewest have or have been shown, of those that are new to a peer; and whether it is nowhere yet.
    fn next_to_show(&mut self, key: PeerKey) -> Option<(PieceIndex, bool)> {
        let mut shown_to = vec![0_u32; self.layout.piece_count() as usize];
        for shown in self.peers.values().filter_map(|peer| peer.shown.as_ref()) {
            shown.pending.iter().for_each(|(piece, _)| shown_to[piece.index()] += 1);
        }
        let peer = self.peers.get(&key)?;
        let shown = peer.shown.as_ref()?;
        let (picker, rng) = (&self.picker, &mut self.exchange_rng);
        let spread = |piece: PieceIndex| picker.availability(piece) + shown_to[piece.index()];
        let piece = (0..self.layout.piece_count())
            .map(PieceIndex)
            .filter(|&piece| !peer.bits.has(piece) && !shown.pieces.has(piece))
            .min_by_key(|&piece| (spread(piece), rng.u32()))?;
        Some((piece, spread(piece) == 0))
    }
}

/// Pieces that a peer is shown at a time: while one is passed on, the other comes.
const PENDING_MAX: usize = 2;
/// So often a peer is shown something that is elsewhere already: it may be connected to nobody else.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long somebody who wants but some of the pieces has to want the one that it was shown.
const CHOOSY_AFTER: Duration = Duration::from_secs(1);
/// A peer that passes on nothing for so long is shown more nonetheless: others may have left, or not be reached.
const PATIENCE: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerFault;
    use crate::swarm::world::{World, plain};
    use crate::wire::Reserved;
    use crate::{BLOCK_LEN, Block};

    /// How much a seed sends until all of so many leeches, each connected to each, have everything, in copies.
    fn copies(is_super: bool, leeches: usize, reserved: Reserved) -> f64 {
        let mut world = World::new(100 * 32_768, 32_768);
        let seed = world.seed();
        world.hosts[seed].swarm.set_super_seeding(is_super);
        let leeches: Vec<usize> = (0..leeches).map(|_| world.leech()).collect();
        // A megabyte a second each.
        world.hosts.iter_mut().for_each(|host| host.upload_per_step = 10_000);
        for (at, &leech) in leeches.iter().enumerate() {
            world.connect_with(leech, seed, reserved);
            leeches[..at].iter().for_each(|&other| world.connect_with(leech, other, reserved));
        }
        let deadline = world.now + Duration::from_secs(300);
        while !leeches.iter().all(|&leech| world.is_done(leech)) {
            assert!(world.now < deadline, "it goes on for ever");
            world.run(1);
        }
        assert!(world.hosts.iter().all(|host| host.faults.is_empty()));
        world.hosts[seed].swarm.uploaded() as f64 / world.data.len() as f64
    }

    #[test]
    fn whoever_wants_one_file_only_holds_nobody_up() {
        let mut world = World::new(20 * 32_768, 32_768);
        let seed = world.seed();
        world.hosts[seed].swarm.set_super_seeding(true);
        let leech = world.leech();
        let mut priorities = [0; 20];
        priorities[19] = 4;
        let choosy = world.add_wanting(Bitfield::none(20), &priorities);
        for (one, other) in [(seed, leech), (seed, choosy), (leech, choosy)] {
            world.connect(one, other);
        }
        world.run(60);
        assert!(world.is_done(leech) && world.hosts[choosy].swarm.is_completed());
    }

    #[test]
    fn little_more_than_one_copy_is_sent() {
        for reserved in [Reserved::ours(), plain()] {
            let (usual, little) = (copies(false, 8, reserved), copies(true, 8, reserved));
            assert!(little < 1.1 && usual > little * 1.2, "{little} copies rather than {usual}");
        }
    }

    #[test]
    fn a_peer_that_is_alone_gets_everything() {
        assert!((copies(true, 1, Reserved::ours()) - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_peer_sees_two_pieces_and_may_ask_for_these_alone() {
        let mut world = World::new(1_000_000, 100_000);
        let (seed, leech, other) = (world.seed(), world.leech(), world.leech());
        world.hosts[seed].swarm.set_super_seeding(true);
        world.hosts[seed].is_mute = true;
        world.connect(leech, seed);
        world.connect(other, seed);
        world.run(30);
        let of = |world: &World, at: usize| {
            let mut peers = world.hosts[at].swarm.peers.values();
            peers.next().expect("the seed").bits.iter().collect::<Vec<_>>()
        };
        let (one, two) = (of(&world, leech), of(&world, other));
        assert_eq!((one.len(), two.len()), (2, 2));
        assert!(!one.iter().any(|piece| two.contains(piece)), "each has others");
        let hidden = two[0];
        let request = Message::Request(Block { piece: hidden, offset: 0, len: BLOCK_LEN });
        world.inject(leech, seed, &[request]);
        assert!(world.hosts[seed].faults.is_empty(), "{:?}", world.hosts[seed].faults);
        assert_eq!(world.hosts[leech].faults, [PeerFault::UnexpectedReject], "it gets no block");
        world.hosts[seed].swarm.set_super_seeding(false);
        world.drain(seed);
        world.run(1);
        assert_eq!(of(&world, other).len(), 10);
    }

    #[test]
    fn whoever_passes_nothing_on_waits_for_more() {
        let mut world = World::new(1_000_000, 100_000);
        let (seed, selfish, other) = (world.seed(), world.leech(), world.leech());
        world.hosts[seed].swarm.set_super_seeding(true);
        // They are not connected to each other.
        world.connect(selfish, seed);
        world.connect(other, seed);
        world.run(100);
        assert_eq!(world.hosts[selfish].swarm.downloaded(), 200_000);
        world.run(60);
        assert_eq!(world.hosts[selfish].swarm.downloaded(), 400_000, "but not for ever");
        world.run(900);
        assert!(world.is_done(selfish) && world.is_done(other));
    }

    #[test]
    fn a_partial_seed_shows_what_it_has() {
        let mut world = World::new(400_000, 100_000);
        let mut half = Bitfield::none(4);
        assert!(half.set(PieceIndex(0)) && half.set(PieceIndex(1)));
        let (partial, leech) = (world.add(half), world.leech());
        world.hosts[partial].swarm.set_super_seeding(true);
        world.connect(leech, partial);
        world.run(1);
        assert_eq!(world.hosts[leech].swarm.have().count(), 2);
    }
}
