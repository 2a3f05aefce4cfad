//! Which piece to open next: by priority, then the rarest first, at random among equals.
//!
//! All candidates stand in one array, sorted into buckets by priority and by how many peers have
//! them. A piece that becomes rarer or more common moves to the neighbouring bucket by one swap at
//! its border, so keeping the order costs the same for a hundred pieces as for a hundred thousand.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::{Bitfield, PieceIndex, Rng};

/// The pieces that are wanted, missing and not opened, in the order to take them.
#[derive(Clone, Debug)]
pub struct PiecePicker {
    pieces: Vec<Piece>,
    /// Candidates, bucket after bucket.
    order: Vec<PieceIndex>,
    /// Where each bucket ends in `order`; bucket `b` begins where `b - 1` ends.
    ends: Vec<u32>,
    /// Peers that have everything: counted once, not for each piece.
    seeds: u32,
    wanted_missing: u32,
    is_sequential: bool,
    /// No candidate comes before this one, in sequence.
    first_candidate: u32,
    /// Pieces that are needed by a time.
    deadlines: BTreeSet<(Instant, PieceIndex)>,
    rng: Rng,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    /// How many peers have it, seeds not counted.
    availability: u32,
    /// 0 is not wanted, 7 is wanted most.
    priority: u8,
    is_had: bool,
    is_open: bool,
    /// Its place in `order`, if it is a candidate.
    place: u32,
    deadline: Option<Instant>,
}

impl Piece {
    const fn is_wanted(&self) -> bool {
        self.priority > 0 && !self.is_had
    }

    const fn is_candidate(&self) -> bool {
        self.is_wanted() && !self.is_open
    }

    /// Lower is better: the highest priority first, in it the rarest. What no peer but seeds has is
    /// rarest of all.
    const fn bucket(&self) -> usize {
        let rarity =
            if self.availability < RARITY_MAX { self.availability } else { RARITY_MAX - 1 };
        (PRIORITY_MAX - self.priority) as usize * RARITY_MAX as usize + rarity as usize
    }
}

impl PiecePicker {
    /// A picker for pieces of which `have` are here. `priorities` has a number a piece: 0 is not
    /// wanted, 7 is wanted most; pieces past its end are not wanted.
    pub fn new(have: &Bitfield, priorities: &[u8], rng: Rng) -> Self {
        let piece = |index: u32| Piece {
            availability: 0,
            priority: priorities.get(index as usize).copied().unwrap_or(0).min(PRIORITY_MAX),
            is_had: have.has(PieceIndex(index)),
            is_open: false,
            place: NOWHERE,
            deadline: None,
        };
        let mut picker = Self {
            pieces: (0..have.len()).map(piece).collect(),
            order: Vec::new(),
            ends: vec![0; BUCKETS],
            seeds: 0,
            wanted_missing: 0,
            is_sequential: false,
            first_candidate: 0,
            deadlines: BTreeSet::new(),
            rng,
        };
        // In a random order, so that equals begin shuffled.
        let mut all: Vec<PieceIndex> = (0..have.len()).map(PieceIndex).collect();
        picker.rng.shuffle(&mut all);
        for piece in all {
            picker.wanted_missing += u32::from(picker.pieces[piece.index()].is_wanted());
            picker.insert(piece);
        }
        picker
    }

    /// A peer has come that has these pieces.
    pub fn add_peer(&mut self, bits: &Bitfield) {
        if bits.is_all() && !bits.is_empty() {
            self.seeds += 1;
        } else {
            bits.iter().for_each(|piece| self.change_availability(piece, 1));
        }
    }

    /// A peer has gone that has these pieces.
    pub fn remove_peer(&mut self, bits: &Bitfield) {
        if bits.is_all() && !bits.is_empty() && self.seeds > 0 {
            self.seeds -= 1;
        } else {
            bits.iter().for_each(|piece| self.change_availability(piece, -1));
        }
    }

    /// A peer that was counted has one piece more. If that made it a seed, call
    /// [`became_seed`](Self::became_seed) as well.
    pub fn add_have(&mut self, piece: PieceIndex) {
        self.change_availability(piece, 1);
    }

    /// A peer whose pieces were counted one by one has all of them now.
    pub fn became_seed(&mut self) {
        for piece in 0..self.pieces.len() as u32 {
            self.change_availability(PieceIndex(piece), -1);
        }
        self.seeds += 1;
    }

    /// How many peers have a piece.
    pub fn availability(&self, piece: PieceIndex) -> u32 {
        self.pieces.get(piece.index()).map_or(0, |piece| piece.availability + self.seeds)
    }

    /// Changes how much a piece is wanted: 0 not at all, 7 most.
    pub fn set_priority(&mut self, piece: PieceIndex, priority: u8) {
        self.update(piece, |piece| piece.priority = priority.min(PRIORITY_MAX));
    }

    /// The piece is here.
    pub fn set_have(&mut self, piece: PieceIndex) {
        self.clear_deadline(piece);
        self.update(piece, |piece| (piece.is_had, piece.is_open) = (true, false));
    }

    /// Some of the piece has been asked for: it is not picked as new.
    pub fn open(&mut self, piece: PieceIndex) {
        self.update(piece, |piece| piece.is_open = true);
    }

    /// Nothing of the piece is asked for any more.
    pub fn release(&mut self, piece: PieceIndex) {
        self.update(piece, |piece| piece.is_open = false);
    }

    /// Whether to take pieces in order, rather than the rarest first. Priorities and deadlines still
    /// come before the order.
    pub const fn set_sequential(&mut self, is_sequential: bool) {
        self.is_sequential = is_sequential;
    }

    /// The piece is needed by a time: it comes before all that have none, the nearest first.
    pub fn set_deadline(&mut self, piece: PieceIndex, deadline: Instant) {
        self.clear_deadline(piece);
        let Some(state) = self.pieces.get_mut(piece.index()) else { return };
        if !state.is_had {
            state.deadline = Some(deadline);
            self.deadlines.insert((deadline, piece));
        }
    }

    /// The piece is needed like any other.
    pub fn clear_deadline(&mut self, piece: PieceIndex) {
        let deadline = self.pieces.get_mut(piece.index()).and_then(|piece| piece.deadline.take());
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, piece));
        }
    }

    /// The next piece to take from a peer that has `bits`; `None` if it has no candidate.
    pub fn pick(&mut self, bits: &Bitfield) -> Option<PieceIndex> {
        let due = self.deadlines.iter().map(|(_, piece)| *piece);
        let due = due
            .into_iter()
            .find(|piece| self.pieces[piece.index()].is_candidate() && bits.has(*piece));
        if due.is_some() {
            return due;
        }
        if self.is_sequential { self.pick_in_order(bits) } else { self.pick_rarest(bits) }
    }

    fn pick_rarest(&mut self, bits: &Bitfield) -> Option<PieceIndex> {
        let mut start = 0;
        for &end in &self.ends {
            let bucket = &self.order[start as usize..end as usize];
            if !bucket.is_empty() {
                // Anywhere in the bucket, then around: random among equals.
                let offset = self.rng.below(bucket.len());
                let (before, after) = bucket.split_at(offset);
                let found = after.iter().chain(before).copied().find(|piece| bits.has(*piece));
                if found.is_some() {
                    return found;
                }
            }
            start = end;
        }
        None
    }

    fn pick_in_order(&mut self, bits: &Bitfield) -> Option<PieceIndex> {
        while self
            .pieces
            .get(self.first_candidate as usize)
            .is_some_and(|piece| !piece.is_candidate())
        {
            self.first_candidate += 1;
        }
        let candidates = self.pieces.iter().zip(0_u32..).skip(self.first_candidate as usize);
        let mut best: Option<(u8, PieceIndex)> = None;
        for (state, index) in candidates {
            let piece = PieceIndex(index);
            if state.is_candidate()
                && best.is_none_or(|(priority, _)| state.priority > priority)
                && bits.has(piece)
            {
                best = Some((state.priority, piece));
                if state.priority == self.priority_highest() {
                    break;
                }
            }
        }
        best.map(|(_, piece)| piece)
    }

    /// The priority of the first bucket that has anything.
    fn priority_highest(&self) -> u8 {
        let first = self.ends.iter().position(|&end| end > 0).unwrap_or(0);
        PRIORITY_MAX - (first / RARITY_MAX as usize) as u8
    }

    /// Whether a piece is wanted and not here.
    pub fn is_wanted(&self, piece: PieceIndex) -> bool {
        self.pieces.get(piece.index()).is_some_and(Piece::is_wanted)
    }

    /// How many pieces are wanted and not here, open or not.
    pub const fn wanted_missing(&self) -> u32 {
        self.wanted_missing
    }

    /// How many of those are not open.
    pub const fn unopened_wanted(&self) -> u32 {
        self.order.len() as u32
    }

    fn change_availability(&mut self, piece: PieceIndex, by: i32) {
        let Some(state) = self.pieces.get_mut(piece.index()) else { return };
        let from = state.bucket();
        state.availability = state.availability.saturating_add_signed(by);
        let to = state.bucket();
        if state.place != NOWHERE {
            self.move_between(piece, from, to);
        }
    }

    fn update(&mut self, piece: PieceIndex, change: impl FnOnce(&mut Piece)) {
        let Some(state) = self.pieces.get_mut(piece.index()) else { return };
        let was_wanted = state.is_wanted();
        let mut changed = *state;
        change(&mut changed);
        self.remove(piece);
        let place = self.pieces[piece.index()].place;
        self.pieces[piece.index()] = Piece { place, ..changed };
        self.wanted_missing =
            self.wanted_missing + u32::from(changed.is_wanted()) - u32::from(was_wanted);
        self.insert(piece);
    }

    /// Puts a candidate at the end of the last bucket, then lets it sink to its own.
    fn insert(&mut self, piece: PieceIndex) {
        let state = &self.pieces[piece.index()];
        if !state.is_candidate() || state.place != NOWHERE {
            return;
        }
        let bucket = state.bucket();
        self.first_candidate = self.first_candidate.min(piece.0);
        self.order.push(piece);
        self.pieces[piece.index()].place = self.order.len() as u32 - 1;
        self.ends[BUCKETS - 1] += 1;
        self.move_between(piece, BUCKETS - 1, bucket);
    }

    /// Lets a candidate rise to the end of the last bucket, then takes it off.
    fn remove(&mut self, piece: PieceIndex) {
        let state = &self.pieces[piece.index()];
        if state.place == NOWHERE {
            return;
        }
        let bucket = state.bucket();
        self.move_between(piece, bucket, BUCKETS - 1);
        let last = self.order.len() as u32 - 1;
        self.swap(self.pieces[piece.index()].place, last);
        self.order.pop();
        self.ends[BUCKETS - 1] -= 1;
        self.pieces[piece.index()].place = NOWHERE;
    }

    /// Moves a candidate from bucket to bucket, by swaps at the borders between.
    fn move_between(&mut self, piece: PieceIndex, from: usize, to: usize) {
        for bucket in from..to {
            // Becomes the last of this bucket; then the border moves before it.
            let last = self.ends[bucket] - 1;
            self.swap(self.pieces[piece.index()].place, last);
            self.ends[bucket] -= 1;
        }
        for bucket in (to..from).rev() {
            // Becomes the first of the bucket that it is in; then the border moves behind it.
            let first = self.ends[bucket];
            self.swap(self.pieces[piece.index()].place, first);
            self.ends[bucket] += 1;
        }
    }

    fn swap(&mut self, a: u32, b: u32) {
        self.order.swap(a as usize, b as usize);
        for place in [a, b] {
            let piece = self.order[place as usize];
            self.pieces[piece.index()].place = place;
        }
    }
}

const PRIORITY_MAX: u8 = 7;
/// What more peers than this have is as common as it gets.
const RARITY_MAX: u32 = 32;
const BUCKETS: usize = PRIORITY_MAX as usize * RARITY_MAX as usize;
const NOWHERE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::swarm::tests::epoch;

    fn picker(count: u32) -> PiecePicker {
        PiecePicker::new(&Bitfield::none(count), &vec![4; count as usize], Rng::from_seed(1))
    }

    fn bits(count: u32, set: &[u32]) -> Bitfield {
        let mut bits = Bitfield::none(count);
        set.iter().for_each(|&piece| assert!(bits.set(PieceIndex(piece))));
        bits
    }

    fn take_all(picker: &mut PiecePicker, from: &Bitfield) -> Vec<u32> {
        std::iter::from_fn(|| {
            picker.pick(from).inspect(|&piece| picker.open(piece)).map(|piece| piece.0)
        })
        .collect()
    }

    #[test]
    fn the_rarest_comes_first() {
        let mut picker = picker(4);
        picker.add_peer(&bits(4, &[0, 1, 2]));
        picker.add_peer(&bits(4, &[0, 1]));
        picker.add_peer(&bits(4, &[0]));
        picker.add_peer(&Bitfield::all(4));
        assert_eq!(picker.availability(PieceIndex(0)), 4);
        assert_eq!(take_all(&mut picker, &Bitfield::all(4)), [3, 2, 1, 0]);
    }

    #[test]
    fn equals_come_in_random_order_and_only_what_the_peer_has() {
        let mut one = picker(100);
        let order = take_all(&mut one, &Bitfield::all(100));
        assert_ne!(order, (0..100).collect::<Vec<_>>());
        let mut two = picker(100);
        let mut some = take_all(&mut two, &bits(100, &[5, 50, 95]));
        some.sort_unstable();
        assert_eq!(some, [5, 50, 95]);
    }

    #[test]
    fn priorities_come_before_rarity_and_zero_never() {
        let mut picker = picker(4);
        picker.add_peer(&bits(4, &[0, 1]));
        picker.set_priority(PieceIndex(0), 7);
        picker.set_priority(PieceIndex(1), 1);
        picker.set_priority(PieceIndex(2), 0);
        assert_eq!(picker.wanted_missing(), 3);
        assert_eq!(take_all(&mut picker, &Bitfield::all(4)), [0, 3, 1]);
    }

    #[test]
    fn in_sequence_by_priority_and_deadlines_before_all() {
        let mut picker = picker(6);
        picker.set_sequential(true);
        picker.set_priority(PieceIndex(4), 6);
        let now = epoch();
        picker.set_deadline(PieceIndex(5), now + Duration::from_secs(2));
        picker.set_deadline(PieceIndex(3), now + Duration::from_secs(1));
        assert_eq!(take_all(&mut picker, &Bitfield::all(6)), [3, 5, 4, 0, 1, 2]);
        picker.release(PieceIndex(1));
        assert_eq!(picker.pick(&Bitfield::all(6)), Some(PieceIndex(1)));
    }

    #[test]
    fn counts_what_is_missing() {
        let mut picker = picker(3);
        picker.open(PieceIndex(0));
        assert_eq!((picker.wanted_missing(), picker.unopened_wanted()), (3, 2));
        picker.set_have(PieceIndex(0));
        picker.set_have(PieceIndex(1));
        assert_eq!((picker.wanted_missing(), picker.unopened_wanted()), (1, 1));
        assert!(picker.is_wanted(PieceIndex(2)) && !picker.is_wanted(PieceIndex(0)));
    }

    /// The order by counting, and the one by swaps, are the same after any history.
    #[test]
    fn agrees_with_a_plain_list_after_any_history() {
        for seed in 0..60 {
            let mut rng = Rng::from_seed(seed);
            let count = 1 + rng.below(40) as u32;
            let mut picker = picker(count);
            let mut peers: Vec<Bitfield> = Vec::new();
            for _ in 0..200 {
                let piece = PieceIndex(rng.below(count as usize) as u32);
                match rng.below(8) {
                    0 => {
                        let mut bits = Bitfield::none(count);
                        (0..rng.below(40)).for_each(|_| {
                            _ = bits.set(PieceIndex(rng.below(count as usize) as u32));
                        });
                        picker.add_peer(&bits);
                        peers.push(bits);
                    }
                    1 if !peers.is_empty() => {
                        picker.remove_peer(&peers.swap_remove(rng.below(peers.len())));
                    }
                    2 if !peers.is_empty() => {
                        let at = rng.below(peers.len());
                        if peers[at].set(piece) {
                            picker.add_have(piece);
                            if peers[at].is_all() {
                                picker.became_seed();
                            }
                        }
                    }
                    3 => picker.open(piece),
                    4 => picker.release(piece),
                    5 => picker.set_have(piece),
                    _ => picker.set_priority(piece, rng.below(8) as u8),
                }
                for index in (0..count).map(PieceIndex) {
                    let having = peers.iter().filter(|bits| bits.has(index)).count() as u32;
                    assert_eq!(picker.availability(index), having, "seed {seed}");
                }
                let candidates = picker.pieces.iter().filter(|piece| piece.is_candidate()).count();
                assert_eq!(picker.order.len(), candidates, "seed {seed}");
                assert!(
                    picker.order.is_sorted_by_key(|piece| picker.pieces[piece.index()].bucket()),
                    "seed {seed}"
                );
                assert_eq!(
                    picker.wanted_missing() as usize,
                    picker.pieces.iter().filter(|piece| piece.is_wanted()).count()
                );
            }
        }
    }
}
