//! What is wanted and how common it is among peers: all that choosing a piece goes by.
//!
//! All candidates stand sorted by priority and by how many peers have them. While there is nobody to
//! ask, none of that is kept: a torrent at rest holds one bit a piece.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::buckets::Buckets;
use crate::{Bitfield, PieceIndex, Rng};

/// The pieces that are here, and those that are wanted, missing and not opened.
#[derive(Debug)]
pub(super) struct PiecePicker {
    have: Bitfield,
    priorities: Priorities,
    wanted_missing: u32,
    /// Peers that have everything: counted once, not for each piece.
    seeds: u32,
    deadlines: Deadlines,
    /// Made when it is first needed.
    table: Option<Box<Table>>,
    rng: Rng,
}

/// How much each piece is wanted: 0 is not, 7 is most.
#[derive(Debug)]
enum Priorities {
    All(u8),
    Each(Box<[u8]>),
}

/// What is known of each piece while there are peers.
#[derive(Debug)]
struct Table {
    /// How many peers have it, seeds not counted.
    availability: Vec<u32>,
    open: Bitfield,
    candidates: Buckets,
    /// No candidate comes before this one.
    first_candidate: u32,
}

/// Pieces that are needed by a time.
#[derive(Debug, Default)]
struct Deadlines {
    in_order: BTreeSet<(Instant, PieceIndex)>,
    of_piece: BTreeMap<PieceIndex, Instant>,
}

impl Priorities {
    fn new(piece_count: u32, given: &[u8]) -> Self {
        let of = |index: usize| given.get(index).copied().unwrap_or(0).min(PRIORITY_MAX);
        let count = piece_count as usize;
        if (1..count).all(|index| of(index) == of(0)) {
            Self::All(of(0))
        } else {
            Self::Each((0..count).map(of).collect())
        }
    }

    fn of(&self, piece: PieceIndex) -> u8 {
        match self {
            Self::All(priority) => *priority,
            Self::Each(each) => each.get(piece.index()).copied().unwrap_or(0),
        }
    }
}

impl PiecePicker {
    /// A picker for pieces of which `have` are here. `priorities` has a number a piece: 0 is not
    /// wanted, 7 is wanted most; pieces past its end are not wanted.
    pub(super) fn new(have: Bitfield, priorities: &[u8], rng: Rng) -> Self {
        let priorities = Priorities::new(have.len(), priorities);
        let mut picker = Self {
            have,
            priorities,
            wanted_missing: 0,
            seeds: 0,
            deadlines: Deadlines::default(),
            table: None,
            rng,
        };
        picker.wanted_missing =
            picker.pieces().filter(|&piece| picker.is_wanted(piece)).count() as u32;
        picker
    }

    /// Forgets what is only of use with peers. They all must have been taken off, and no piece may
    /// be open.
    pub(super) fn rest(&mut self) {
        self.table = None;
        if let Priorities::Each(each) = &self.priorities {
            self.priorities = Priorities::new(self.have.len(), each);
        }
    }

    /// A peer has come that has these pieces.
    pub(super) fn add_peer(&mut self, bits: &Bitfield) {
        if bits.is_all() && !bits.is_empty() {
            self.seeds += 1;
        } else {
            bits.iter().for_each(|piece| self.change_availability(piece, 1));
        }
    }

    /// A peer has gone that has these pieces.
    pub(super) fn remove_peer(&mut self, bits: &Bitfield) {
        if bits.is_all() && !bits.is_empty() && self.seeds > 0 {
            self.seeds -= 1;
        } else {
            bits.iter().for_each(|piece| self.change_availability(piece, -1));
        }
    }

    /// A peer that was counted has one piece more. If that made it a seed, call
    /// [`became_seed`](Self::became_seed) as well.
    pub(super) fn add_have(&mut self, piece: PieceIndex) {
        self.change_availability(piece, 1);
    }

    /// A peer whose pieces were counted one by one has one less.
    pub(super) fn lost_have(&mut self, piece: PieceIndex) {
        self.change_availability(piece, -1);
    }

    /// A peer whose pieces were counted one by one has all of them now.
    pub(super) fn became_seed(&mut self) {
        self.pieces().for_each(|piece| self.change_availability(piece, -1));
        self.seeds += 1;
    }

    /// How many peers have a piece.
    pub(super) fn availability(&self, piece: PieceIndex) -> u32 {
        let counted = self.table.as_ref().and_then(|table| table.availability.get(piece.index()));
        counted.copied().unwrap_or(0) + self.seeds
    }

    /// How much a piece is wanted: 0 not at all, 7 most.
    pub(super) fn priority(&self, piece: PieceIndex) -> u8 {
        self.priorities.of(piece)
    }

    /// Changes how much a piece is wanted: 0 not at all, 7 most.
    pub(super) fn set_priority(&mut self, piece: PieceIndex, priority: u8) {
        let priority = priority.min(PRIORITY_MAX);
        let before = self.priority(piece);
        if piece.0 >= self.have.len() || priority == before {
            return;
        }
        self.change(piece, |picker| {
            if let Priorities::All(all) = picker.priorities {
                let each = vec![all; picker.have.len() as usize];
                picker.priorities = Priorities::Each(each.into());
            }
            if let Priorities::Each(each) = &mut picker.priorities {
                each[piece.index()] = priority;
            }
        });
    }

    /// Which pieces are here.
    pub(super) const fn have(&self) -> &Bitfield {
        &self.have
    }

    /// The piece is here. Returns whether that is new.
    pub(super) fn set_have(&mut self, piece: PieceIndex) -> bool {
        self.clear_deadline(piece);
        let mut is_new = false;
        self.change(piece, |picker| is_new = picker.have.set(piece));
        is_new
    }

    /// Some of the piece has been asked for: it is not picked as new.
    pub(super) fn open(&mut self, piece: PieceIndex) {
        self.wake();
        self.change(piece, |picker| {
            _ = picker.table.as_mut().is_some_and(|table| table.open.set(piece));
        });
    }

    /// Nothing of the piece is asked for any more.
    pub(super) fn release(&mut self, piece: PieceIndex) {
        self.change(piece, |picker| {
            _ = picker.table.as_mut().is_some_and(|table| table.open.clear(piece));
        });
    }

    /// The piece is needed by a time: it comes before all that have none, the nearest first.
    pub(super) fn set_deadline(&mut self, piece: PieceIndex, deadline: Instant) {
        self.clear_deadline(piece);
        if piece.0 < self.have.len() && !self.have.has(piece) {
            self.deadlines.of_piece.insert(piece, deadline);
            self.deadlines.in_order.insert((deadline, piece));
        }
    }

    /// The piece is needed like any other.
    pub(super) fn clear_deadline(&mut self, piece: PieceIndex) {
        if let Some(deadline) = self.deadlines.of_piece.remove(&piece) {
            self.deadlines.in_order.remove(&(deadline, piece));
        }
    }

    /// By when a piece is needed.
    pub(super) fn deadline(&self, piece: PieceIndex) -> Option<Instant> {
        self.deadlines.of_piece.get(&piece).copied()
    }

    /// The candidates that have a deadline, the nearest first.
    pub(super) fn due(&self) -> impl Iterator<Item = PieceIndex> {
        let due = self.deadlines.in_order.iter().map(|(_, piece)| *piece);
        due.filter(|&piece| self.is_candidate(piece))
    }

    /// Whether a piece is wanted and not here.
    pub(super) fn is_wanted(&self, piece: PieceIndex) -> bool {
        piece.0 < self.have.len() && self.priority(piece) > 0 && !self.have.has(piece)
    }

    /// Whether a piece is wanted, not here and not open.
    pub(super) fn is_candidate(&self, piece: PieceIndex) -> bool {
        match &self.table {
            Some(table) => table.candidates.contains(piece),
            None => self.is_wanted(piece),
        }
    }

    /// How many pieces are wanted and not here, open or not.
    pub(super) const fn wanted_missing(&self) -> u32 {
        self.wanted_missing
    }

    /// How many of those are not open.
    pub(super) fn unopened_wanted(&self) -> u32 {
        self.table.as_ref().map_or(self.wanted_missing, |table| table.candidates.len())
    }

    /// Makes what choosing goes by. Call it before [`candidates`](Self::candidates).
    pub(super) fn prepare(&mut self) {
        let table = self.wake();
        while table.first_candidate < table.open.len()
            && !table.candidates.contains(PieceIndex(table.first_candidate))
        {
            table.first_candidate += 1;
        }
    }

    /// The candidates in buckets: [`RARITY_MAX`] for each priority, the highest first, and of these
    /// the rarest first. `None` at rest.
    pub(super) fn candidates(&self) -> Option<&Buckets> {
        self.table.as_ref().map(|table| &table.candidates)
    }

    /// The candidates in the order of the torrent.
    pub(super) fn in_order(&self) -> impl Iterator<Item = PieceIndex> {
        let first = self.table.as_ref().map_or(0, |table| table.first_candidate);
        (first..self.have.len()).map(PieceIndex).filter(|&piece| self.is_candidate(piece))
    }

    fn wake(&mut self) -> &mut Table {
        let (have, priorities, rng) = (&self.have, &self.priorities, &mut self.rng);
        self.table.get_or_insert_with(|| {
            let is_wanted = |piece: &PieceIndex| priorities.of(*piece) > 0 && !have.has(*piece);
            let mut wanted: Vec<_> = (0..have.len())
                .map(PieceIndex)
                .filter(is_wanted)
                .map(|piece| (bucket_of(priorities.of(piece), 0), piece))
                .collect();
            // In a random order, so that equals begin shuffled.
            rng.shuffle(&mut wanted);
            Box::new(Table {
                availability: vec![0; have.len() as usize],
                open: Bitfield::none(have.len()),
                candidates: Buckets::new(BUCKETS, have.len(), wanted),
                first_candidate: 0,
            })
        })
    }

    /// Which bucket a piece should be in, if it is a candidate.
    fn bucket(&self, piece: PieceIndex) -> Option<usize> {
        let table = self.table.as_ref()?;
        let is_candidate = self.is_wanted(piece) && !table.open.has(piece);
        is_candidate.then(|| bucket_of(self.priority(piece), table.availability[piece.index()]))
    }

    fn change_availability(&mut self, piece: PieceIndex, by: i32) {
        if piece.0 >= self.have.len() {
            return;
        }
        self.wake();
        let from = self.bucket(piece);
        if let Some(table) = &mut self.table {
            let count = &mut table.availability[piece.index()];
            *count = count.saturating_add_signed(by);
        }
        let to = self.bucket(piece);
        if let (Some(table), Some(from), Some(to)) = (&mut self.table, from, to) {
            table.candidates.shift(piece, from, to);
        }
    }

    /// Changes something of a piece, and what follows from it.
    fn change(&mut self, piece: PieceIndex, change: impl FnOnce(&mut Self)) {
        let (was_wanted, from) = (self.is_wanted(piece), self.bucket(piece));
        change(self);
        let (is_wanted, to) = (self.is_wanted(piece), self.bucket(piece));
        self.wanted_missing = self.wanted_missing + u32::from(is_wanted) - u32::from(was_wanted);
        let Some(table) = &mut self.table else { return };
        match (from, to) {
            (None, None) => {}
            (None, Some(to)) => {
                table.candidates.insert(piece, to);
                table.first_candidate = table.first_candidate.min(piece.0);
            }
            (Some(from), None) => table.candidates.remove(piece, from),
            (Some(from), Some(to)) => table.candidates.shift(piece, from, to),
        }
    }

    fn pieces(&self) -> impl Iterator<Item = PieceIndex> + use<> {
        (0..self.have.len()).map(PieceIndex)
    }
}

/// Lower is better: the highest priority first, in it the rarest. What no peer but seeds has is
/// rarest of all.
fn bucket_of(priority: u8, availability: u32) -> usize {
    let rarity = (availability as usize).min(RARITY_MAX - 1);
    usize::from(PRIORITY_MAX - priority) * RARITY_MAX + rarity
}

pub(super) const PRIORITY_MAX: u8 = 7;
/// What more peers than this have is as common as it gets.
pub(super) const RARITY_MAX: usize = 32;
const BUCKETS: usize = PRIORITY_MAX as usize * RARITY_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn picker(count: u32) -> PiecePicker {
        PiecePicker::new(Bitfield::none(count), &vec![4; count as usize], Rng::from_seed(1))
    }

    #[test]
    fn counts_what_is_missing() {
        let mut picker = picker(3);
        picker.open(PieceIndex(0));
        assert_eq!((picker.wanted_missing(), picker.unopened_wanted()), (3, 2));
        assert!(picker.set_have(PieceIndex(0)) && picker.set_have(PieceIndex(1)));
        assert!(!picker.set_have(PieceIndex(1)) && !picker.set_have(PieceIndex(9)));
        assert_eq!((picker.wanted_missing(), picker.unopened_wanted()), (1, 1));
        assert!(picker.is_wanted(PieceIndex(2)) && !picker.is_wanted(PieceIndex(0)));
        assert!(!picker.is_wanted(PieceIndex(3)));
    }

    #[test]
    fn at_rest_it_answers_as_ever_and_holds_no_table() {
        let mut picker = picker(1000);
        assert!(picker.table.is_none());
        picker.add_peer(&Bitfield::all(1000));
        picker.set_priority(PieceIndex(1), 0);
        picker.set_have(PieceIndex(2));
        assert!(picker.table.is_none(), "who only has all needs no counting");
        assert_eq!((picker.wanted_missing(), picker.unopened_wanted()), (998, 998));
        assert!(picker.is_candidate(PieceIndex(0)) && !picker.is_candidate(PieceIndex(1)));
        picker.prepare();
        picker.open(PieceIndex(0));
        assert_eq!(picker.in_order().next(), Some(PieceIndex(3)));
        picker.release(PieceIndex(0));
        picker.set_priority(PieceIndex(1), 4);
        picker.remove_peer(&Bitfield::all(1000));
        picker.rest();
        assert!(picker.table.is_none() && matches!(picker.priorities, Priorities::All(4)));
        assert_eq!((picker.wanted_missing(), picker.availability(PieceIndex(0))), (999, 0));
    }

    #[test]
    fn deadlines_are_in_order_and_end_with_the_piece() {
        let now = crate::swarm::tests::epoch();
        let mut picker = picker(4);
        let later = now + std::time::Duration::from_secs(1);
        picker.set_deadline(PieceIndex(0), later);
        picker.set_deadline(PieceIndex(1), now);
        picker.set_deadline(PieceIndex(2), now);
        picker.set_deadline(PieceIndex(9), now);
        picker.set_deadline(PieceIndex(2), later);
        assert_eq!(picker.due().collect::<Vec<_>>(), [1, 0, 2].map(PieceIndex));
        picker.set_have(PieceIndex(1));
        picker.clear_deadline(PieceIndex(0));
        picker.open(PieceIndex(2));
        assert_eq!(picker.due().next(), None);
        assert_eq!(picker.deadline(PieceIndex(2)), Some(later));
    }

    #[test]
    fn agrees_with_plain_counting_after_any_history() {
        for seed in 0..60 {
            let mut rng = Rng::from_seed(seed);
            let count = 1 + rng.below(40) as u32;
            let mut picker = picker(count);
            let mut peers: Vec<Bitfield> = Vec::new();
            for _ in 0..200 {
                let piece = PieceIndex(rng.below(count as usize) as u32);
                match rng.below(9) {
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
                    5 => _ = picker.set_have(piece),
                    6 => picker.prepare(),
                    _ => picker.set_priority(piece, rng.below(8) as u8),
                }
                check(&picker, &peers, seed);
            }
        }
    }

    fn check(picker: &PiecePicker, peers: &[Bitfield], seed: u64) {
        for piece in picker.pieces() {
            let having = peers.iter().filter(|bits| bits.has(piece)).count() as u32;
            assert_eq!(picker.availability(piece), having, "seed {seed}");
        }
        let wanted = picker.pieces().filter(|&piece| picker.is_wanted(piece)).count();
        assert_eq!(picker.wanted_missing() as usize, wanted, "seed {seed}");
        let Some(table) = &picker.table else { return };
        for (bucket, pieces) in table.candidates.iter().enumerate() {
            for &piece in pieces {
                assert_eq!(picker.bucket(piece), Some(bucket), "seed {seed}");
            }
        }
        let candidates: Vec<PieceIndex> =
            picker.pieces().filter(|&piece| picker.bucket(piece).is_some()).collect();
        assert_eq!(picker.in_order().collect::<Vec<_>>(), candidates, "seed {seed}");
        assert_eq!(picker.unopened_wanted() as usize, candidates.len(), "seed {seed}");
    }
}
