//! Ranges of addresses side by side, so that one binary search finds the one that holds an address.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// An address as a number.
pub(super) trait Address: Copy + Ord {
    /// The one below; itself for the lowest.
    fn before(self) -> Self;
    /// The one above, if there is one.
    fn after(self) -> Option<Self>;
}

impl Address for u32 {
    fn before(self) -> Self {
        self.saturating_sub(1)
    }

    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Address for u128 {
    fn before(self) -> Self {
        self.saturating_sub(1)
    }

    fn after(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// A range with its label; both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range<A> {
    pub(super) first: A,
    pub(super) last: A,
    pub(super) label: u32,
}

/// Ranges without overlaps, in order, each with the label that holds there.
#[derive(Debug)]
pub(super) struct Ranges<A> {
    ranges: Vec<Range<A>>,
    /// Where every [`BLOCK_LEN`]th of them begins. A search here stays in the processor's cache and leaves
    /// a few cache lines of ranges to look at, where it would else wait for memory a dozen times.
    blocks: Vec<A>,
}

impl<A: Address> Ranges<A> {
    /// Sorts ranges and cuts them where they overlap: there the label of the lowest level holds. Of
    /// equal levels the range that goes on for longest does, which makes the fewest cuts.
    pub(super) fn resolve(mut given: Vec<Range<A>>, level_of: impl Fn(u32) -> u8) -> Self {
        given.sort_unstable();
        let mut ranges: Vec<Range<A>> = Vec::with_capacity(given.len());
        let mut to_come = given.into_iter().peekable();
        let mut open = BinaryHeap::new();
        let mut at = None;
        loop {
            if open.is_empty() {
                at = to_come.peek().map(|range| range.first);
            }
            let Some(from) = at else { break };
            while let Some(range) = to_come.next_if(|range| range.first <= from) {
                let level = level_of(range.label);
                open.push((Reverse(level), range.last, Reverse(range.label)));
            }
            let Some(&(_, last, Reverse(label))) = open.peek() else { continue };
            if last < from {
                open.pop();
                continue;
            }
            let next_first = to_come.peek().map(|range| range.first);
            let to = next_first.filter(|first| *first <= last).map_or(last, Address::before);
            match ranges.last_mut() {
                // It goes on where the one before ends.
                Some(before) if before.label == label && before.last.after() == Some(from) => {
                    before.last = to;
                }
                Some(_) | None => ranges.push(Range { first: from, last: to, label }),
            }
            at = to.after();
        }
        ranges.shrink_to_fit();
        let blocks = ranges.iter().step_by(BLOCK_LEN).map(|range| range.first).collect();
        Self { ranges, blocks }
    }

    /// The range that holds `address`, and its index.
    pub(super) fn find(&self, address: A) -> Option<(usize, Range<A>)> {
        let block = self.blocks.partition_point(|first| *first <= address).checked_sub(1)?;
        let start = block * BLOCK_LEN;
        let ranges = self.ranges.get(start..)?;
        let ranges = ranges.get(..BLOCK_LEN).unwrap_or(ranges);
        let at = ranges.partition_point(|range| range.first <= address).checked_sub(1)?;
        let range = ranges.get(at).filter(|range| address <= range.last)?;
        Some((start + at, *range))
    }

    pub(super) fn get(&self, index: usize) -> Option<Range<A>> {
        self.ranges.get(index).copied()
    }
}

impl<A> Ranges<A> {
    pub(super) const fn len(&self) -> usize {
        self.ranges.len()
    }
}

impl<A> Default for Ranges<A> {
    fn default() -> Self {
        Self { ranges: Vec::new(), blocks: Vec::new() }
    }
}

const BLOCK_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(given: &[(u32, u32, u32)]) -> Vec<(u32, u32, u32)> {
        let given =
            given.iter().map(|&(first, last, label)| Range { first, last, label }).collect();
        let ranges = Ranges::resolve(given, |label| label as u8);
        let found = (0..ranges.len()).filter_map(|index| ranges.get(index));
        found.map(|range| (range.first, range.last, range.label)).collect()
    }

    #[test]
    fn ranges_apart_stay_as_they_are_and_touching_ones_of_one_label_become_one() {
        assert_eq!(resolve(&[(8, 9, 1), (0, 3, 1)]), [(0, 3, 1), (8, 9, 1)]);
        assert_eq!(resolve(&[(4, 9, 1), (0, 3, 1)]), [(0, 9, 1)]);
        assert_eq!(resolve(&[(4, 9, 2), (0, 3, 1)]), [(0, 3, 1), (4, 9, 2)]);
        assert_eq!(resolve(&[(0, 5, 1), (3, 9, 1), (0, 9, 1)]), [(0, 9, 1)]);
    }

    #[test]
    fn a_lower_level_cuts_a_higher_one_and_not_the_other_way_round() {
        assert_eq!(resolve(&[(0, 9, 5), (3, 4, 1)]), [(0, 2, 5), (3, 4, 1), (5, 9, 5)]);
        assert_eq!(resolve(&[(0, 9, 1), (3, 4, 5)]), [(0, 9, 1)]);
        assert_eq!(resolve(&[(0, 5, 1), (3, 9, 5)]), [(0, 5, 1), (6, 9, 5)]);
        assert_eq!(resolve(&[(0, u32::MAX, 5), (u32::MAX, u32::MAX, 1)]).len(), 2);
    }

    #[test]
    fn finds_in_many_blocks_what_a_look_at_each_finds() {
        for count in [1_u32, 15, 16, 17, 32, 1000] {
            let given = (0..count).map(|index| (index * 10 + 5, index * 10 + 7, 1));
            let given = given.map(|(first, last, label)| Range { first, last, label });
            let ranges = Ranges::resolve(given.collect(), |label| label as u8);
            for address in 0..=count * 10 + 10 {
                let expected = (5..=7).contains(&(address % 10)).then_some(address as usize / 10);
                let expected = expected.filter(|index| *index < count as usize);
                assert_eq!(
                    ranges.find(address).map(|(index, _)| index),
                    expected,
                    "{address} of {count}"
                );
            }
        }
    }
}
