//! Which piece to take from a peer next: the ways that are built in, and room for your own.

use std::fmt;

use super::download::OpenPiece;
use super::offer::Offer;
use super::piece_picker::{PRIORITY_MAX, RARITY_MAX};
use crate::{PieceIndex, Rng};

/// A way of your own to choose pieces, for [`Selector::Own`].
///
/// Nothing comes before it: priorities and deadlines are shown in the offer, and it is up to the
/// selector to heed them. An answer that is not in the offer counts as none, and where there is none
/// the rarest piece is taken. A peer that has begun a piece finishes it before the selector is asked
/// again; and while more than 16 pieces are open, and one and a half for each peer, those are
/// finished without asking.
pub trait PieceSelector: fmt::Debug + Send {
    /// The piece to take next from the peer that the offer is of.
    fn select(&mut self, offer: &Offer<'_>, rng: &mut Rng) -> Option<PieceIndex>;
}

/// How pieces are chosen.
#[derive(Debug)]
pub enum Selector {
    /// As one of those built in.
    Kind(SelectorKind),
    /// As you like.
    Own(Box<dyn PieceSelector>),
}

/// The ways to choose pieces that are built in.
///
/// With all of them, pieces begun and left by another peer come before new ones, and of new ones
/// first those that have a deadline, the nearest before others, then those of the highest priority
/// (but with [`Random`](Self::Random)). Within a priority it is as said here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelectorKind {
    /// What the fewest peers have, at random among equals: keeps the swarm whole.
    #[default]
    Rarest,
    /// What the most peers have, at random among equals: quick to come by.
    Popular,
    /// Any, and a piece of priority 7 seven times as likely as one of priority 1.
    Random,
    /// In the order of the torrent, as for playing it.
    Linear,
    /// What is begun is finished by all together before anything new is begun, the nearest to its
    /// end first; then as [`Rarest`](Self::Rarest). Few pieces are open at a time.
    Endgame,
    /// [`Random`](Self::Random) for the first four pieces, to have something to trade soon; then
    /// [`Rarest`](Self::Rarest); and when no more than a tenth of all is missing,
    /// [`Endgame`](Self::Endgame).
    Hybrid,
}

impl SelectorKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Rarest, Self::Popular, Self::Random, Self::Linear, Self::Endgame, Self::Hybrid];

    /// Its name in one lower-case word, for files and command lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rarest => "rarest",
            Self::Popular => "popular",
            Self::Random => "random",
            Self::Linear => "linear",
            Self::Endgame => "endgame",
            Self::Hybrid => "hybrid",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Default for Selector {
    fn default() -> Self {
        Self::Kind(SelectorKind::default())
    }
}

impl From<SelectorKind> for Selector {
    fn from(kind: SelectorKind) -> Self {
        Self::Kind(kind)
    }
}

impl Offer<'_> {
    /// What a built-in way would take.
    pub fn select(&self, kind: SelectorKind, rng: &mut Rng) -> Option<PieceIndex> {
        let shared =
            if self.shares_first(kind) { self.nearest_its_end(OpenPiece::is_shared) } else { None };
        shared.or_else(|| self.select_new(kind, rng))
    }

    /// The same, of the pieces that are not begun.
    pub(super) fn select_new(&self, kind: SelectorKind, rng: &mut Rng) -> Option<PieceIndex> {
        if self.peer.peer_choking {
            return self.allowed();
        }
        self.picker.due().find(|&piece| self.peer.bits.has(piece)).or_else(|| match kind {
            SelectorKind::Rarest | SelectorKind::Endgame => self.rarest(rng),
            SelectorKind::Popular => self.popular(rng),
            SelectorKind::Random => self.random(rng),
            SelectorKind::Linear => self.linear(),
            SelectorKind::Hybrid if self.have().count() < RANDOM_FIRST => self.random(rng),
            SelectorKind::Hybrid => self.rarest(rng),
        })
    }

    /// Whether open pieces are shared before new ones are begun.
    fn shares_first(&self, kind: SelectorKind) -> bool {
        let all = self.have().count().saturating_add(self.wanted_missing());
        match kind {
            SelectorKind::Endgame => true,
            SelectorKind::Hybrid => self.wanted_missing() <= all / 10,
            SelectorKind::Rarest
            | SelectorKind::Popular
            | SelectorKind::Random
            | SelectorKind::Linear => false,
        }
    }

    /// A new piece that the peer gives us although it chokes us.
    fn allowed(&self) -> Option<PieceIndex> {
        let fresh =
            |piece: &PieceIndex| self.picker.is_candidate(*piece) && self.peer.bits.has(*piece);
        self.peer.allowed_to_us.iter().copied().find(fresh)
    }

    fn rarest(&self, rng: &mut Rng) -> Option<PieceIndex> {
        self.picker.candidates()?.iter().find_map(|bucket| self.any_of(bucket, rng))
    }

    fn popular(&self, rng: &mut Rng) -> Option<PieceIndex> {
        let candidates = self.picker.candidates()?;
        (0..usize::from(PRIORITY_MAX)).find_map(|level| {
            let buckets = (level * RARITY_MAX..(level + 1) * RARITY_MAX).rev();
            buckets.map(|at| candidates.range(at, at + 1)).find_map(|all| self.any_of(all, rng))
        })
    }

    /// Any of a bucket that the peer has, at random.
    fn any_of(&self, bucket: &[PieceIndex], rng: &mut Rng) -> Option<PieceIndex> {
        if bucket.is_empty() {
            return None;
        }
        // Anywhere in the bucket, then around.
        let (before, after) = bucket.split_at(rng.below(bucket.len()));
        after.iter().chain(before).copied().find(|piece| self.peer.bits.has(*piece))
    }

    /// First a priority by the weight of what it has, then any of its pieces.
    fn random(&self, rng: &mut Rng) -> Option<PieceIndex> {
        let candidates = self.picker.candidates()?;
        let mut levels: Vec<(usize, &[PieceIndex])> = (0..usize::from(PRIORITY_MAX))
            .map(|level| {
                let all = candidates.range(level * RARITY_MAX, (level + 1) * RARITY_MAX);
                (all.len() * (usize::from(PRIORITY_MAX) - level), all)
            })
            .collect();
        // A priority of which the peer has nothing is left out, and chance asked again.
        loop {
            let mut chance = rng.below(levels.iter().map(|(weight, _)| weight).sum());
            let chosen = levels.iter().position(|&(weight, _)| {
                let is_it = chance < weight;
                chance = chance.saturating_sub(weight);
                is_it
            })?;
            if let Some(piece) = self.any_of(levels[chosen].1, rng) {
                return Some(piece);
            }
            levels.swap_remove(chosen);
        }
    }

    fn linear(&self) -> Option<PieceIndex> {
        // Of the highest priority that any candidate has, there will be none better.
        let first = self.picker.candidates()?.first()?;
        let highest = PRIORITY_MAX - (first / RARITY_MAX) as u8;
        let mut best: Option<(u8, PieceIndex)> = None;
        for piece in self.picker.in_order() {
            let priority = self.picker.priority(piece);
            if best.is_none_or(|(known, _)| priority > known) && self.peer.bits.has(piece) {
                best = Some((priority, piece));
                if priority == highest {
                    break;
                }
            }
        }
        best.map(|(_, piece)| piece)
    }
}

/// Pieces that are taken at random before rarity counts.
const RANDOM_FIRST: u32 = 4;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::metainfo::{FileEntry, FileLayout, RelativePath};
    use crate::swarm::download::OpenPiece;
    use crate::swarm::offer::OfferedPiece;
    use crate::swarm::peer::Peer;
    use crate::swarm::piece_picker::PiecePicker;
    use crate::swarm::world::{World, epoch, plain};
    use crate::swarm::{Direction, NewPeer};
    use crate::{BLOCK_LEN, Bitfield, PeerId};

    /// A picker, and a peer that has everything, serves us, and is not counted.
    struct Shop {
        picker: PiecePicker,
        open: BTreeMap<PieceIndex, OpenPiece>,
        layout: FileLayout,
        peer: Peer,
        rng: Rng,
    }

    /// A shop of so many pieces of two blocks, of priority 4.
    fn shop(count: u32) -> Shop {
        let file = FileEntry {
            path: RelativePath::from_components(vec![b"x".to_vec()]).expect("safe"),
            len: u64::from(count * BLOCK_LEN * 2),
            is_pad: false,
            is_executable: false,
            is_hidden: false,
        };
        let new = NewPeer {
            addr: World::addr(1),
            direction: Direction::Outgoing,
            peer_id: PeerId([1; 20]),
            reserved: plain(),
            is_encrypted: false,
        };
        let mut peer = Peer::new(epoch(), &new, count);
        (peer.bits, peer.peer_choking) = (Bitfield::all(count), false);
        let priorities = vec![4; count as usize];
        Shop {
            picker: PiecePicker::new(Bitfield::none(count), &priorities, Rng::from_seed(1)),
            open: BTreeMap::new(),
            layout: FileLayout::new(BLOCK_LEN * 2, vec![file]).expect("in range"),
            peer,
            rng: Rng::from_seed(2),
        }
    }

    impl Shop {
        /// A peer comes that has these.
        fn add_peer(&mut self, pieces: &[u32]) {
            let bits = bits(self.picker.have().len(), pieces);
            self.picker.add_peer(&bits);
        }

        fn open(&mut self, piece: u32, received: u32) {
            self.picker.open(PieceIndex(piece));
            let mut open = OpenPiece::new(2);
            (open.received, open.free) = (received, 2 - received);
            self.open.insert(PieceIndex(piece), open);
        }

        fn offer(&mut self) -> (Offer<'_>, &mut Rng) {
            self.picker.prepare();
            let Self { picker, open, layout, peer, rng } = self;
            (Offer { picker, open, layout, peer }, rng)
        }

        fn select(&mut self, kind: SelectorKind) -> Option<u32> {
            let (offer, rng) = self.offer();
            offer.select(kind, rng).map(|piece| piece.0)
        }

        /// All new pieces, in the order in which they are taken.
        fn take_all(&mut self, kind: SelectorKind) -> Vec<u32> {
            std::iter::from_fn(|| {
                self.select(kind).inspect(|&piece| self.picker.open(PieceIndex(piece)))
            })
            .collect()
        }
    }

    fn bits(count: u32, set: &[u32]) -> Bitfield {
        let mut bits = Bitfield::none(count);
        set.iter().for_each(|&piece| assert!(bits.set(PieceIndex(piece))));
        bits
    }

    const ALL: [SelectorKind; 6] = SelectorKind::ALL;

    #[test]
    fn names_lead_back() {
        assert!(ALL.iter().all(|kind| SelectorKind::from_name(kind.name()) == Some(*kind)));
        assert_eq!(SelectorKind::from_name("Rarest"), None);
    }

    #[test]
    fn the_rarest_comes_first_or_the_most_popular() {
        for (kind, order) in
            [(SelectorKind::Rarest, [3, 2, 1, 0]), (SelectorKind::Popular, [0, 1, 2, 3])]
        {
            let mut shop = shop(4);
            shop.add_peer(&[0, 1, 2]);
            shop.add_peer(&[0, 1]);
            shop.add_peer(&[0]);
            shop.add_peer(&[0, 1, 2, 3]);
            assert_eq!(shop.picker.availability(PieceIndex(0)), 4);
            assert_eq!(shop.take_all(kind), order, "{kind:?}");
        }
    }

    #[test]
    fn equals_come_in_random_order_and_only_what_the_peer_has() {
        for kind in ALL {
            let mut all = shop(100);
            let mut taken = all.take_all(kind);
            let in_order: Vec<u32> = (0..100).collect();
            assert_eq!(taken == in_order, kind == SelectorKind::Linear, "{kind:?}");
            taken.sort_unstable();
            assert_eq!(taken, in_order, "{kind:?}: each once");
            let mut some = shop(100);
            some.peer.bits = bits(100, &[5, 50, 95]);
            let mut taken = some.take_all(kind);
            taken.sort_unstable();
            assert_eq!(taken, [5, 50, 95], "{kind:?}");
        }
    }

    #[test]
    fn priorities_come_before_the_order_deadlines_before_both_and_zero_never() {
        for kind in ALL {
            let mut shop = shop(6);
            shop.add_peer(&[0, 1]);
            for (piece, priority) in [(0, 7), (1, 1), (2, 0)] {
                shop.picker.set_priority(PieceIndex(piece), priority);
            }
            shop.picker.set_deadline(PieceIndex(5), epoch() + Duration::from_secs(2));
            shop.picker.set_deadline(PieceIndex(3), epoch() + Duration::from_secs(1));
            let taken = shop.take_all(kind);
            assert_eq!((taken.len(), &taken[..2]), (5, &[3, 5][..]), "{kind:?}");
            let is_chance = [SelectorKind::Random, SelectorKind::Hybrid].contains(&kind);
            assert!(is_chance || taken[2..] == [0, 4, 1], "{kind:?} {taken:?}");
            assert!(!taken.contains(&2), "{kind:?}");
        }
    }

    #[test]
    fn at_random_a_piece_of_priority_7_is_seven_times_as_likely() {
        let mut shop = shop(20);
        for piece in 0..20 {
            shop.picker.set_priority(PieceIndex(piece), if piece < 10 { 7 } else { 1 });
        }
        let draws = 8000;
        let is_high = |shop: &mut Shop| shop.select(SelectorKind::Random) < Some(10);
        let high = (0..draws).filter(|_| is_high(&mut shop)).count();
        assert!((6700..7300).contains(&high), "{high} of {draws}");
        shop.peer.bits = bits(20, &[15]);
        assert_eq!(shop.select(SelectorKind::Random), Some(15));
        shop.peer.bits = bits(20, &[]);
        assert_eq!(shop.select(SelectorKind::Random), None);
    }

    #[test]
    fn in_sequence_what_was_given_back_comes_next() {
        let mut shop = shop(6);
        shop.picker.set_priority(PieceIndex(4), 6);
        assert_eq!(shop.take_all(SelectorKind::Linear), [4, 0, 1, 2, 3, 5]);
        shop.picker.release(PieceIndex(5));
        shop.picker.release(PieceIndex(1));
        assert_eq!(shop.select(SelectorKind::Linear), Some(1));
    }

    #[test]
    fn endgame_finishes_what_is_open_the_nearest_to_its_end_first() {
        let mut shop = shop(6);
        shop.open(2, 0);
        shop.open(4, 1);
        assert_eq!(shop.select(SelectorKind::Endgame), Some(4));
        shop.peer.bits = bits(6, &[0, 2]);
        assert_eq!(shop.select(SelectorKind::Endgame), Some(2));
        shop.peer.bits = bits(6, &[0]);
        assert_eq!(shop.select(SelectorKind::Endgame), Some(0));
    }

    #[test]
    fn a_hybrid_begins_at_random_goes_on_with_the_rarest_and_ends_together() {
        let mut shop = shop(40);
        let common: Vec<u32> = (0..39).collect();
        shop.add_peer(&common);
        let is_rarest = |shop: &mut Shop| shop.select(SelectorKind::Hybrid) == Some(39);
        assert!((0..20).any(|_| !is_rarest(&mut shop)));
        (0..4).for_each(|piece| _ = shop.picker.set_have(PieceIndex(piece)));
        assert!((0..20).all(|_| is_rarest(&mut shop)));
        shop.open(38, 1);
        assert!(is_rarest(&mut shop));
        (0..36).for_each(|piece| _ = shop.picker.set_have(PieceIndex(piece)));
        assert_eq!(shop.select(SelectorKind::Hybrid), Some(38));
    }

    #[test]
    fn an_offer_shows_what_the_peer_has_that_can_be_asked_for() {
        let mut shop = shop(6);
        shop.add_peer(&[0, 1, 2]);
        shop.open(1, 1);
        shop.open(2, 2);
        shop.picker.set_have(PieceIndex(3));
        shop.picker.set_priority(PieceIndex(4), 0);
        shop.picker.set_deadline(PieceIndex(0), epoch());
        let (offer, _) = shop.offer();
        let new = OfferedPiece {
            index: PieceIndex(0),
            availability: 1,
            priority: 4,
            deadline: Some(epoch()),
            blocks: 2,
            blocks_received: 0,
            blocks_free: 2,
        };
        let begun = OfferedPiece {
            index: PieceIndex(1),
            deadline: None,
            blocks_received: 1,
            blocks_free: 1,
            ..new
        };
        let far = OfferedPiece { index: PieceIndex(5), availability: 0, deadline: None, ..new };
        assert_eq!(offer.pieces().collect::<Vec<_>>(), [new, begun, far]);
        assert_eq!(offer.piece(PieceIndex(2)), None);
        assert_eq!((offer.wanted_missing(), offer.have().count()), (4, 1));
        shop.peer.peer_choking = true;
        shop.peer.allowed_to_us = vec![PieceIndex(2), PieceIndex(5)];
        let (offer, _) = shop.offer();
        assert_eq!(offer.pieces().collect::<Vec<_>>(), [far]);
        assert!(ALL.iter().all(|&kind| shop.select(kind) == Some(5)));
    }

    #[test]
    fn every_way_brings_everything_from_several_peers() {
        for kind in ALL {
            let mut world = World::new(2_000_000, 60_000);
            let seeds = [world.seed(), world.seed()];
            let leeches = [world.leech(), world.leech()];
            world.hosts.iter_mut().for_each(|host| host.upload_per_step = 20_000);
            for leech in leeches {
                world.hosts[leech].swarm.set_selector(kind.into());
                seeds.iter().for_each(|&seed| world.connect(leech, seed));
            }
            world.connect(leeches[0], leeches[1]);
            world.run(30);
            assert!(leeches.iter().all(|&leech| world.is_done(leech)), "{kind:?}");
        }
    }

    /// Takes the last piece first; what it may not take as well, if it is told to.
    #[derive(Debug)]
    struct Backwards {
        lies: bool,
    }

    impl PieceSelector for Backwards {
        fn select(&mut self, offer: &Offer<'_>, rng: &mut Rng) -> Option<PieceIndex> {
            match rng.below(4) {
                0 if self.lies => Some(PieceIndex(u32::MAX)),
                1 if self.lies => offer.have().iter().next(),
                2 if self.lies => None,
                _ => offer.pieces().last().map(|piece| piece.index),
            }
        }
    }

    #[test]
    fn a_selector_of_your_own_decides_alone() {
        let mut world = World::new(1_000_000, 100_000);
        let (seed, leech) = (world.seed(), world.leech());
        let swarm = &mut world.hosts[leech].swarm;
        swarm.set_selector(Selector::Own(Box::new(Backwards { lies: false })));
        swarm.set_deadline(PieceIndex(0), Some(epoch()));
        world.connect_with(leech, seed, plain());
        world.run(3);
        let order: Vec<String> = (0..10).rev().map(|piece| format!("verified {piece}")).collect();
        assert_eq!(world.hosts[leech].events[..10], order);
    }

    #[test]
    fn what_a_selector_answers_wrongly_is_no_answer() {
        for seed in 0..20 {
            let mut world = World::new(500_000, 20_000);
            let (seeds, leech) = ([world.seed(), world.seed()], world.leech());
            world.hosts[leech].swarm.selector_rng = Rng::from_seed(seed);
            let own = Selector::Own(Box::new(Backwards { lies: true }));
            world.hosts[leech].swarm.set_selector(own);
            seeds.iter().for_each(|&seed| world.connect(leech, seed));
            world.run(5);
            assert!(world.is_done(leech), "seed {seed}");
        }
    }
}
