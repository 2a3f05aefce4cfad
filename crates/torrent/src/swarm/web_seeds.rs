//! Servers that have the files (BEP 17, BEP 19), as the swarm sees them: which stretch of the torrent to
//! fetch next, and its blocks as they come.
//!
//! A web seed is no peer: it chokes nobody and wants nothing, and each question costs a round trip and
//! an answer from its beginning. So it gets a run of whole pieces at a time, out of the longest gap:
//! there it is least in the way of peers, who take what is rarest. Its blocks go the way of all others,
//! and so do the consequences of wrong ones.
//!
//! The conversation itself is [`WebSeed`](crate::web_seed::WebSeed).

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::download::{OpenPiece, Slot};
use super::{Selector, SelectorKind, Swarm};
use crate::rate::RateMeter;
use crate::{Block, PieceIndex};

/// One web seed of one swarm. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebSeedKey(pub u32);

/// A stretch of the torrent for one web seed: whole blocks, side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebRun {
    /// Where it begins, in bytes from the start of the torrent.
    pub start: u64,
    /// How long it is, in bytes; never 0.
    pub len: u64,
}

/// A run that a web seed is being asked for.
#[derive(Debug)]
pub(super) struct OpenRun {
    /// Blocks that have not come, in order.
    asked: VecDeque<Block>,
    asked_at: Instant,
    down: RateMeter,
}

/// Pieces side by side that nobody has been asked for, all wanted equally.
#[derive(Clone, Copy)]
struct Gap {
    first: u32,
    count: u32,
    priority: u8,
}

impl WebSeedKey {
    /// What stands for it among the senders of blocks: an address that is set aside to lead nowhere
    /// ([RFC 6666]), so that no peer can have it.
    ///
    /// [RFC 6666]: https://www.rfc-editor.org/rfc/rfc6666
    const fn stand_in(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(NOWHERE | self.0 as u128))
    }

    /// The web seed that an address stands for.
    pub(super) fn of_stand_in(ip: IpAddr) -> Option<Self> {
        let IpAddr::V6(ip) = ip else { return None };
        let number = ip.to_bits().checked_sub(NOWHERE)?;
        u32::try_from(number).ok().map(Self)
    }
}

impl OpenRun {
    fn new(now: Instant, asked: VecDeque<Block>) -> Self {
        Self { asked, asked_at: now, down: RateMeter::new(now) }
    }

    /// Takes a block off the list, wherever it is.
    pub(super) fn take(&mut self, block: Block) -> bool {
        if self.asked.front() == Some(&block) {
            self.asked.pop_front();
            return true;
        }
        let at = self.asked.binary_search(&block);
        at.is_ok_and(|at| self.asked.remove(at).is_some())
    }

    /// How many pieces it keeps open.
    pub(super) fn piece_count(&self) -> usize {
        match (self.asked.front(), self.asked.back()) {
            (Some(first), Some(last)) => (last.piece.0 - first.piece.0 + 1) as usize,
            _ => 0,
        }
    }

    /// The blocks that would come later from here than from one who needs `ours` for a block; the last
    /// first. At the end of a download they are worth asking for twice.
    pub(super) fn late(&self, now: Instant, ours: Duration) -> impl Iterator<Item = Block> {
        let has_had_its_time = now.saturating_duration_since(self.asked_at) >= LATE_AFTER;
        let rate = self.down.bytes_per_second(now).max(1);
        let blocks = self.asked.iter().enumerate().rev().filter(move |(at, block)| {
            let len = (*at as u64 + 1).saturating_mul(block.len.into());
            let theirs = Duration::from_millis(len.saturating_mul(1000) / rate);
            has_had_its_time && theirs >= ours * 2
        });
        blocks.map(|(_, block)| *block)
    }
}

impl Swarm {
    /// What to fetch next from a web seed that has the pieces of which `has` is true: about `len_max`
    /// bytes, and at least one piece if there is a whole one to fetch. `None` if there is nothing for it, or
    /// it is at something. Then [`handle_web_block`](Self::handle_web_block) for each block, and
    /// [`end_web_run`](Self::end_web_run).
    pub fn next_web_run(
        &mut self,
        now: Instant,
        key: WebSeedKey,
        len_max: u64,
        has: impl Fn(PieceIndex) -> bool,
    ) -> Option<WebRun> {
        if self.is_paused || self.is_completed || self.web_runs.contains_key(&key) {
            return None;
        }
        let blocks = match self.best_gap(len_max, &has) {
            Some(pieces) => self.open_pieces(pieces, len_max),
            None => self.free_blocks(len_max, &has).or_else(|| self.late_blocks(now, &has))?,
        };
        let (first, last) = (blocks.front()?, blocks.back()?);
        let start = self.place_of(*first);
        let run = WebRun { start, len: self.place_of(*last) + u64::from(last.len) - start };
        self.web_runs.insert(key, OpenRun::new(now, blocks));
        Some(run)
    }

    /// A block of a run has come from a web seed.
    pub fn handle_web_block(&mut self, now: Instant, key: WebSeedKey, block: Block, data: Bytes) {
        let len = u64::from(block.len);
        let Some(run) = self.web_runs.get_mut(&key).filter(|_| data.len() as u64 == len) else {
            return;
        };
        run.down.add(now, len);
        self.down.add(now, len);
        self.downloaded += len;
        if run.take(block) {
            self.keep_block(None, key.stand_in(), true, block, data);
        } else {
            // A peer was quicker.
            self.wasted += len;
        }
    }

    /// Whether anything is still awaited of a run.
    pub fn needs_web_run(&self, key: WebSeedKey) -> bool {
        self.web_runs.get(&key).is_some_and(|run| !run.asked.is_empty())
    }

    /// A run is over, whole or not: what has not come may be asked of others.
    pub fn end_web_run(&mut self, key: WebSeedKey) {
        let Some(run) = self.web_runs.remove(&key) else { return };
        for block in run.asked {
            self.free_block(None, block);
        }
        self.rest_if_alone();
    }

    /// The pieces to begin with: those that are due, or the longest gap of those that are wanted most;
    /// in order, if that is how pieces are chosen.
    fn best_gap(&mut self, len_max: u64, has: &impl Fn(PieceIndex) -> bool) -> Option<Gap> {
        self.picker.prepare();
        let picker = &self.picker;
        if let Some(due) = picker.due().find(|&piece| has(piece)) {
            let fits =
                |piece: &u32| picker.is_candidate(PieceIndex(*piece)) && has(PieceIndex(*piece));
            let count = (due.0..self.layout.piece_count()).take_while(fits).count() as u32;
            return Some(Gap { first: due.0, count, priority: 0 });
        }
        let is_in_order = matches!(self.selector, Selector::Kind(SelectorKind::Linear));
        let rank = |gap: &Gap| (gap.priority, if is_in_order { 0 } else { gap.count });
        let (mut best, mut gap): (Option<Gap>, Option<Gap>) = (None, None);
        let candidates = picker.in_order().filter(|&piece| has(piece)).map(Some);
        for piece in candidates.chain([None]) {
            let priority = piece.map_or(0, |piece| picker.priority(piece));
            match (&mut gap, piece) {
                (Some(gap), Some(piece))
                    if gap.first + gap.count == piece.0 && gap.priority == priority =>
                {
                    gap.count += 1;
                }
                _ => {
                    let before = gap.take();
                    best = match (best, before) {
                        (Some(best), Some(gap)) if rank(&gap) > rank(&best) => Some(gap),
                        (None, gap) => gap,
                        (best, _) => best,
                    };
                    gap = piece.map(|piece| Gap { first: piece.0, count: 1, priority });
                }
            }
        }
        let mut best = best?;
        // Another web seed is about to come here: leave it the first half.
        let before = best.first.checked_sub(1).map(PieceIndex);
        let is_taken = |run: &OpenRun| run.asked.back().map(|block| block.piece) == before;
        let is_long = u64::from(best.count / 2) * u64::from(self.layout.piece_len()) >= len_max;
        if is_long && !is_in_order && self.web_runs.values().any(is_taken) {
            best.first += best.count / 2;
            best.count -= best.count / 2;
        }
        Some(best)
    }

    /// Opens as many pieces of a gap as are not longer than `len_max`, and at least one.
    fn open_pieces(&mut self, gap: Gap, len_max: u64) -> VecDeque<Block> {
        let mut blocks = VecDeque::new();
        let mut len = 0;
        for piece in (gap.first..gap.first + gap.count).map(PieceIndex) {
            len += u64::from(self.layout.len_of(piece));
            if len > len_max && !blocks.is_empty() {
                break;
            }
            let count = self.layout.block_count(piece);
            self.picker.open(piece);
            self.open.insert(piece, OpenPiece::asked_whole(count));
            blocks.extend((0..count).map(|index| self.layout.block(piece, index)));
        }
        blocks
    }

    /// No piece is new any more: what is left of one that has been begun.
    fn free_blocks(
        &mut self,
        len_max: u64,
        has: &impl Fn(PieceIndex) -> bool,
    ) -> Option<VecDeque<Block>> {
        let Self { open, picker, .. } = self;
        let suits = |piece: PieceIndex, open: &OpenPiece| {
            open.free > 0 && open.is_shared() && picker.is_wanted(piece) && has(piece)
        };
        let suiting = open.iter_mut().filter(|(piece, open)| suits(**piece, open));
        let (&piece, open) = suiting.max_by_key(|(_, open)| open.free)?;
        let mut blocks = VecDeque::new();
        let mut len = 0;
        let first = open.slots.iter().position(|slot| matches!(slot, Slot::Free))?;
        for (index, slot) in (0_u32..).zip(&mut open.slots).skip(first) {
            if !matches!(slot, Slot::Free) || (len >= len_max && !blocks.is_empty()) {
                break;
            }
            *slot = Slot::Asked(1);
            open.free -= 1;
            open.first_free = index + 1;
            let block = self.layout.block(piece, index);
            len += u64::from(block.len);
            blocks.push_back(block);
        }
        Some(blocks)
    }

    /// Everything has been asked for: what peers are late with, side by side.
    fn late_blocks(
        &mut self,
        now: Instant,
        has: &impl Fn(PieceIndex) -> bool,
    ) -> Option<VecDeque<Block>> {
        if !self.is_endgame() {
            return None;
        }
        let mut late: Vec<Block> = self
            .peers
            .values()
            .flat_map(|peer| &peer.asked)
            .filter(|asked| {
                !asked.is_released
                    && now.saturating_duration_since(asked.at) >= LATE_AFTER
                    && has(asked.block.piece)
                    && self.asked_of(asked.block) == Some(1)
            })
            .map(|asked| asked.block)
            .collect();
        late.sort_unstable();
        let first = *late.first()?;
        let is_next = |(at, block): &(usize, &Block)| {
            block.piece == first.piece && block.index() as usize == first.index() as usize + at
        };
        let blocks: VecDeque<Block> =
            late.iter().enumerate().take_while(is_next).map(|(_, block)| *block).collect();
        let open = self.open.get_mut(&first.piece)?;
        for block in &blocks {
            if let Some(Slot::Asked(count)) = open.slots.get_mut(block.index() as usize) {
                *count += 1;
            }
        }
        Some(blocks)
    }

    fn place_of(&self, block: Block) -> u64 {
        u64::from(block.piece.0) * u64::from(self.layout.piece_len()) + u64::from(block.offset)
    }
}

/// The prefix 100::/64.
const NOWHERE: u128 = 0x100 << 112;
/// What has been asked for so long may be asked for twice, when nothing else is left.
const LATE_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::SelectorKind;
    use crate::swarm::world::{World, slice_of};
    use crate::{BLOCK_LEN, Bitfield};

    const FIRST: WebSeedKey = WebSeedKey(0);
    const SECOND: WebSeedKey = WebSeedKey(1);
    const PIECE_LEN: u32 = 2 * BLOCK_LEN;

    /// Twenty pieces of two blocks.
    fn world() -> World {
        World::new(20 * u64::from(PIECE_LEN), PIECE_LEN)
    }

    /// The pieces that a web seed is to fetch next, if it may have so many.
    fn next(world: &mut World, at: usize, key: WebSeedKey, count: u64) -> Option<(u64, u64)> {
        let len_max = count * u64::from(PIECE_LEN);
        let run = world.hosts[at].swarm.next_web_run(world.now, key, len_max, |_| true)?;
        let piece_len = u64::from(PIECE_LEN);
        Some((run.start / piece_len, (run.start + run.len).div_ceil(piece_len)))
    }

    /// Brings what is awaited of a run, `count` blocks at most, spoilt if that is wished.
    fn bring(world: &mut World, at: usize, key: WebSeedKey, count: usize, spoil: u8) {
        let run = world.hosts[at].swarm.web_runs.get(&key);
        let blocks: Vec<Block> =
            run.into_iter().flat_map(|run| &run.asked).take(count).copied().collect();
        for block in blocks {
            let mut data = slice_of(&world.layout, &world.data, block).to_vec();
            data[0] ^= spoil;
            world.hosts[at].swarm.handle_web_block(world.now, key, block, data.into());
            world.drain(at);
        }
    }

    #[test]
    fn one_alone_brings_everything_in_runs_as_long_as_wanted() {
        let mut world = world();
        let leech = world.leech();
        for first in [0, 8, 16] {
            let run = next(&mut world, leech, FIRST, 8);
            assert_eq!(run, Some((first, (first + 8).min(20))));
            assert_eq!(next(&mut world, leech, FIRST, 8), None, "it is at something");
            bring(&mut world, leech, FIRST, usize::MAX, 0);
            assert!(!world.hosts[leech].swarm.needs_web_run(FIRST));
            world.hosts[leech].swarm.end_web_run(FIRST);
        }
        assert!(world.is_done(leech));
        assert_eq!(next(&mut world, leech, FIRST, 8), None);
        let swarm = &world.hosts[leech].swarm;
        assert_eq!((swarm.wasted(), swarm.held_len()), (0, 0));
        assert_eq!(swarm.downloaded(), world.layout.total_len());
    }

    #[test]
    fn the_longest_gap_of_what_is_wanted_most_comes_first_and_what_is_due_before_all() {
        let mut world = world();
        let mut have = Bitfield::none(20);
        [2, 3, 9].iter().for_each(|&piece| assert!(have.set(PieceIndex(piece))));
        let leech = world.add(have.clone());
        assert_eq!(next(&mut world, leech, FIRST, 3), Some((10, 13)));
        let swarm = &mut world.hosts[leech].swarm;
        swarm.end_web_run(FIRST);
        swarm.set_selector(SelectorKind::Linear.into());
        assert_eq!(next(&mut world, leech, FIRST, 3), Some((0, 2)));
        let mut priorities = [4; 20];
        priorities[6..=7].fill(7);
        priorities[15] = 0;
        let picky = world.add_wanting(have, &priorities);
        assert_eq!(next(&mut world, picky, FIRST, 9), Some((6, 8)));
        world.hosts[picky].swarm.set_deadline(PieceIndex(13), Some(world.now));
        assert_eq!(next(&mut world, picky, SECOND, 9), Some((13, 15)));
    }

    #[test]
    fn a_second_begins_in_the_middle_of_what_the_first_is_about_to_fetch() {
        let mut world = world();
        let leech = world.leech();
        assert_eq!(next(&mut world, leech, FIRST, 4), Some((0, 4)));
        assert_eq!(next(&mut world, leech, SECOND, 4), Some((12, 16)));
    }

    #[test]
    fn what_a_run_did_not_bring_may_be_asked_of_others() {
        let mut world = world();
        let (leech, seed) = (world.leech(), world.seed());
        assert_eq!(next(&mut world, leech, FIRST, 20), Some((0, 20)));
        bring(&mut world, leech, FIRST, 5, 0);
        world.connect(leech, seed);
        world.run_for(Duration::from_millis(500));
        assert!(!world.is_done(leech));
        world.hosts[leech].swarm.end_web_run(FIRST);
        world.run(2);
        assert!(world.is_done(leech));
        assert_eq!(world.hosts[leech].swarm.wasted(), 0);
    }

    #[test]
    fn peers_help_out_at_the_end_and_the_run_is_needed_no_more() {
        let mut world = world();
        let (leech, seed) = (world.leech(), world.seed());
        assert_eq!(next(&mut world, leech, FIRST, 20), Some((0, 20)));
        world.connect(leech, seed);
        world.run(8);
        assert!(world.is_done(leech), "the web seed hangs");
        let swarm = &mut world.hosts[leech].swarm;
        assert!(!swarm.needs_web_run(FIRST));
        let late = world.layout.block(PieceIndex(0), 0);
        let data = slice_of(&world.layout, &world.data, late).to_vec();
        swarm.handle_web_block(world.now, FIRST, late, data.into());
        assert_eq!(swarm.wasted(), BLOCK_LEN.into());
    }

    #[test]
    fn what_peers_are_late_with_is_fetched_as_well() {
        let mut world = World::new(4 * u64::from(PIECE_LEN), PIECE_LEN);
        let (leech, mute) = (world.leech(), world.seed());
        world.hosts[mute].is_mute = true;
        world.connect(leech, mute);
        world.run(1);
        assert_eq!(next(&mut world, leech, FIRST, 4), None, "the peer may still do it");
        world.run(3);
        for _ in 0..4 {
            assert!(next(&mut world, leech, FIRST, 4).is_some());
            bring(&mut world, leech, FIRST, usize::MAX, 0);
            world.hosts[leech].swarm.end_web_run(FIRST);
        }
        assert!(world.is_done(leech));
    }

    #[test]
    fn what_is_left_of_begun_pieces_is_fetched_too() {
        let mut world = World::new(u64::from(BLOCK_LEN) * 8, BLOCK_LEN * 8);
        let (leech, slow) = (world.leech(), world.seed());
        (world.hosts[slow].upload_per_step, world.hosts[slow].upload_left) = (0, 1);
        world.connect(leech, slow);
        world.run_for(Duration::from_millis(50));
        world.disconnect(leech, slow);
        let swarm = &mut world.hosts[leech].swarm;
        let run = swarm.next_web_run(world.now, FIRST, u64::MAX, |_| true).expect("some is left");
        assert!(run.start > 0 && run.start + run.len == world.layout.total_len(), "{run:?}");
        bring(&mut world, leech, FIRST, usize::MAX, 0);
        assert!(world.is_done(leech));
    }

    #[test]
    fn one_that_lies_is_told_of_and_nobody_else_is_blamed() {
        let mut world = world();
        let leech = world.leech();
        next(&mut world, leech, SECOND, 1);
        bring(&mut world, leech, SECOND, 1, 0);
        assert_eq!(world.hosts[leech].swarm.contributors(PieceIndex(0)).len(), 0);
        bring(&mut world, leech, SECOND, 1, 1);
        assert_eq!(world.hosts[leech].events, ["web seed 1 lied", "failed 0"]);
        assert!(world.hosts[leech].closed.is_empty());
    }

    #[test]
    fn pieces_that_it_lacks_are_left_to_others() {
        let mut world = world();
        let leech = world.leech();
        let has = |piece: PieceIndex| (5..7).contains(&piece.0);
        let swarm = &mut world.hosts[leech].swarm;
        let run = swarm.next_web_run(world.now, FIRST, u64::MAX, has).expect("there is something");
        let piece_len = u64::from(PIECE_LEN);
        assert_eq!((run.start, run.len), (5 * piece_len, 2 * piece_len));
        assert_eq!(swarm.next_web_run(world.now, SECOND, u64::MAX, has), None);
    }
}
