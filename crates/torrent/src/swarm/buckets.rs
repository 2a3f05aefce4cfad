//! Pieces in buckets: one array, sorted by bucket, in no order within one.
//!
//! A piece that moves to a neighbouring bucket does so by one swap at the border, so keeping the
//! order costs the same for a hundred pieces as for a hundred thousand.

use crate::PieceIndex;

/// Some pieces of a torrent, each in one of a fixed number of buckets. Whoever uses it knows which
/// bucket a piece is in.
#[derive(Debug)]
pub(super) struct Buckets {
    /// Bucket after bucket.
    order: Vec<PieceIndex>,
    /// Where each bucket ends in `order`; bucket `b` begins where `b - 1` ends.
    ends: Vec<u32>,
    /// Where each piece of the torrent is in `order`, or [`NOWHERE`].
    places: Vec<u32>,
}

impl Buckets {
    /// `bucket_count` buckets for a torrent of `piece_count` pieces, filled with `pieces` and their
    /// buckets; in each they stay in the order given.
    pub(super) fn new(
        bucket_count: usize,
        piece_count: u32,
        mut pieces: Vec<(usize, PieceIndex)>,
    ) -> Self {
        pieces.sort_by_key(|(bucket, _)| *bucket);
        let mut ends = vec![0; bucket_count];
        let mut places = vec![NOWHERE; piece_count as usize];
        for ((bucket, piece), place) in pieces.iter().zip(0..) {
            places[piece.index()] = place;
            ends[*bucket] += 1;
        }
        let mut end = 0;
        for len in &mut ends {
            end += *len;
            *len = end;
        }
        Self { order: pieces.into_iter().map(|(_, piece)| piece).collect(), ends, places }
    }

    /// How many pieces are in it.
    pub(super) const fn len(&self) -> u32 {
        self.order.len() as u32
    }

    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        self.places.get(piece.index()).is_some_and(|place| *place != NOWHERE)
    }

    /// Each bucket's pieces, the first bucket first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &[PieceIndex]> {
        (0..self.ends.len()).map(|bucket| self.range(bucket, bucket + 1))
    }

    /// The pieces of all buckets from `from` to before `to`.
    pub(super) fn range(&self, from: usize, to: usize) -> &[PieceIndex] {
        let end_of = |bucket: usize| bucket.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.order[end_of(from) as usize..end_of(to) as usize]
    }

    /// The first bucket that has anything.
    pub(super) fn first(&self) -> Option<usize> {
        self.ends.iter().position(|&end| end > 0)
    }

    /// Puts a piece that is in none at the end of the last bucket, then lets it sink to its own.
    pub(super) fn insert(&mut self, piece: PieceIndex, bucket: usize) {
        let last = self.ends.len() - 1;
        self.places[piece.index()] = self.len();
        self.order.push(piece);
        self.ends[last] += 1;
        self.shift(piece, last, bucket);
    }

    /// Lets a piece rise to the end of the last bucket, then takes it off.
    pub(super) fn remove(&mut self, piece: PieceIndex, bucket: usize) {
        let last = self.ends.len() - 1;
        self.shift(piece, bucket, last);
        self.swap(piece, self.len() - 1);
        self.order.pop();
        self.ends[last] -= 1;
        self.places[piece.index()] = NOWHERE;
    }

    /// Moves a piece from bucket to bucket, by swaps at the borders between.
    pub(super) fn shift(&mut self, piece: PieceIndex, from: usize, to: usize) {
        for bucket in from..to {
            // Becomes the last of this bucket; then the border moves before it.
            self.swap(piece, self.ends[bucket] - 1);
            self.ends[bucket] -= 1;
        }
        for bucket in (to..from).rev() {
            // Becomes the first of the bucket that it is in; then the border moves behind it.
            self.swap(piece, self.ends[bucket]);
            self.ends[bucket] += 1;
        }
    }

    fn swap(&mut self, piece: PieceIndex, to: u32) {
        let from = self.places[piece.index()];
        self.order.swap(from as usize, to as usize);
        for place in [from, to] {
            self.places[self.order[place as usize].index()] = place;
        }
    }
}

const NOWHERE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Rng;

    #[test]
    fn agrees_with_a_plain_map_after_any_history() {
        for seed in 0..1000 {
            let mut rng = Rng::from_seed(seed);
            let (bucket_count, piece_count) = (1 + rng.below(12), 1 + rng.below(30) as u32);
            let mut plain: BTreeMap<PieceIndex, usize> = BTreeMap::new();
            for piece in (0..piece_count).map(PieceIndex) {
                if rng.below(2) == 0 {
                    plain.insert(piece, rng.below(bucket_count));
                }
            }
            let first = plain.iter().map(|(&piece, &bucket)| (bucket, piece)).collect();
            let mut buckets = Buckets::new(bucket_count, piece_count, first);
            for _ in 0..60 {
                let piece = PieceIndex(rng.below(piece_count as usize) as u32);
                let to = rng.below(bucket_count);
                match plain.get(&piece).copied() {
                    None => {
                        buckets.insert(piece, to);
                        plain.insert(piece, to);
                    }
                    Some(from) if rng.below(3) == 0 => {
                        buckets.remove(piece, from);
                        plain.remove(&piece);
                    }
                    Some(from) => {
                        buckets.shift(piece, from, to);
                        plain.insert(piece, to);
                    }
                }
                let have: BTreeMap<PieceIndex, usize> = buckets
                    .iter()
                    .enumerate()
                    .flat_map(|(bucket, pieces)| pieces.iter().map(move |&piece| (piece, bucket)))
                    .collect();
                assert_eq!(have, plain, "seed {seed}");
                assert_eq!(buckets.len() as usize, plain.len(), "seed {seed}");
                assert_eq!(buckets.first(), plain.values().min().copied(), "seed {seed}");
                assert_eq!(buckets.contains(piece), plain.contains_key(&piece), "seed {seed}");
            }
        }
    }
}
