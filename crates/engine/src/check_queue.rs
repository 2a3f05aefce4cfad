//! Whose pieces are hashed next, of all torrents that are being checked.
//!
//! Of each disk so many batches are under way that its threads never wait for this one. Torrents on the
//! same disk take turns by their weights; if it has a moving head, one is checked after the other. What
//! is read may be limited in bytes per second, of all together and of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use torrent::rate::TokenBucket;

use crate::task::TaskId;

/// All checks that have something to hash still.
#[derive(Debug)]
pub(crate) struct CheckQueue {
    disks: BTreeMap<DiskId, Disk>,
    waiting: BTreeMap<TaskId, Waiting>,
    /// Those of them that have a limit of their own.
    limited: BTreeSet<TaskId>,
    /// Counts those who came.
    places: u64,
    allowance: TokenBucket,
}

/// One disk of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DiskId(pub(crate) u64);

/// What a disk is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskTraits {
    pub(crate) id: DiskId,
    /// It has a head that moves.
    pub(crate) is_rotational: bool,
    /// Batches that may be under way.
    pub(crate) batches_max: usize,
}

#[derive(Debug)]
struct Disk {
    is_rotational: bool,
    batches_max: usize,
    /// Batches under way, those of checks that have ended among them.
    in_flight: usize,
    /// Bytes of all batches: of the common allowance, who has had least is next.
    served: u64,
    /// Those who wait, whoever is next first.
    turns: BTreeSet<Rank>,
}

/// What a torrent has had (0 where one is checked after the other), and its place.
type Rank = (u64, u64, TaskId);

impl Disk {
    fn rank(&self, id: TaskId, waiting: &Waiting) -> Rank {
        (if self.is_rotational { 0 } else { waiting.served }, waiting.place, id)
    }
}

/// A torrent that has something to hash still.
#[derive(Debug)]
struct Waiting {
    disk: DiskId,
    weight: u64,
    /// Whoever came first has the lowest.
    place: u64,
    /// What it has had, divided by its weight: whoever has had least is next.
    served: u64,
    allowance: TokenBucket,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) id: TaskId,
    pub(crate) disk: DiskId,
    /// What its batch may hold, in bytes; one piece is always allowed.
    pub(crate) len_max: u64,
}

impl CheckQueue {
    /// A queue without checks. All together may read `rate` bytes per second.
    pub(crate) fn new(now: Instant, rate: Option<u64>) -> Self {
        Self {
            disks: BTreeMap::new(),
            waiting: BTreeMap::new(),
            limited: BTreeSet::new(),
            places: 0,
            allowance: TokenBucket::new(now, rate),
        }
    }

    /// A torrent wants to be checked, with its share of the disk and its own limit on reading.
    pub(crate) fn insert(
        &mut self,
        now: Instant,
        id: TaskId,
        disk: DiskTraits,
        weight: u32,
        rate: Option<u64>,
    ) {
        self.remove(id);
        let DiskTraits { id: disk, is_rotational, batches_max } = disk;
        let served = self.disks.values().map(|disk| disk.served).min().unwrap_or(0);
        let new = Disk {
            is_rotational,
            batches_max: batches_max.max(1),
            in_flight: 0,
            served,
            turns: BTreeSet::new(),
        };
        let state = self.disks.entry(disk).or_insert(new);
        self.places += 1;
        let waiting = Waiting {
            disk,
            weight: u64::from(weight.max(1)),
            place: self.places,
            // It has no claim to what others had before it came.
            served: state.turns.first().map_or(0, |&(served, ..)| served),
            allowance: TokenBucket::new(now, rate),
        };
        state.turns.insert(state.rank(id, &waiting));
        if rate.is_some() {
            self.limited.insert(id);
        }
        self.waiting.insert(id, waiting);
    }

    /// A torrent has nothing to hash any more, or is not to be checked.
    pub(crate) fn remove(&mut self, id: TaskId) {
        self.limited.remove(&id);
        let Some(waiting) = self.waiting.remove(&id) else { return };
        if let Some(disk) = self.disks.get_mut(&waiting.disk) {
            disk.turns.remove(&disk.rank(id, &waiting));
        }
        self.forget_idle(waiting.disk);
    }

    /// Who is to hash a batch now. Say [`started`](Self::started), or [`remove`](Self::remove).
    pub(crate) fn next(&self, now: Instant) -> Option<Turn> {
        let all = self.allowance.available(now);
        let turns = self.disks.iter().filter_map(|(&disk, state)| {
            if all == 0 || state.in_flight >= state.batches_max {
                return None;
            }
            // Where one is checked after the other, nobody passes the first.
            let candidates = if state.is_rotational { 1 } else { usize::MAX };
            let allowed = |&(.., id): &Rank| {
                let own = self.waiting.get(&id)?.allowance.available(now);
                (own > 0).then_some(Turn { id, disk, len_max: all.min(own) })
            };
            let turn = state.turns.iter().take(candidates).find_map(allowed)?;
            Some((state.served, turn))
        });
        turns.min_by_key(|(served, _)| *served).map(|(_, turn)| turn)
    }

    /// A batch of `len` bytes has been given to a disk thread.
    pub(crate) fn started(&mut self, now: Instant, turn: Turn, len: u64) {
        self.allowance.take(now, len);
        let Some(disk) = self.disks.get_mut(&turn.disk) else { return };
        disk.in_flight += 1;
        disk.served += len;
        if let Some(waiting) = self.waiting.get_mut(&turn.id) {
            disk.turns.remove(&disk.rank(turn.id, waiting));
            waiting.allowance.take(now, len);
            waiting.served += len * SHARES / waiting.weight;
            disk.turns.insert(disk.rank(turn.id, waiting));
        }
    }

    /// A disk thread is through with a batch, whether or not anybody wants to know what it found.
    pub(crate) fn finished(&mut self, disk: DiskId) {
        if let Some(state) = self.disks.get_mut(&disk) {
            state.in_flight = state.in_flight.saturating_sub(1);
        }
        self.forget_idle(disk);
    }

    /// Whether time alone will bring somebody's turn: then ask again soon.
    pub(crate) fn waits_for_allowance(&self, now: Instant) -> bool {
        let is_held_up =
            |id| self.waiting.get(id).is_some_and(|waiting| waiting.allowance.available(now) == 0);
        (self.allowance.available(now) == 0 && !self.waiting.is_empty())
            || self.limited.iter().any(is_held_up)
    }

    fn forget_idle(&mut self, disk: DiskId) {
        if self.disks.get(&disk).is_some_and(|it| it.in_flight == 0 && it.turns.is_empty()) {
            self.disks.remove(&disk);
        }
    }

    /// Batches that disk threads are at, on all disks.
    #[cfg(test)]
    fn in_flight(&self) -> usize {
        self.disks.values().map(|disk| disk.in_flight).sum()
    }
}

/// Bytes are counted in so many parts, so that a large weight still counts a small piece.
const SHARES: u64 = 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use torrent::Rng;

    use super::*;

    const SSD: DiskTraits = DiskTraits { id: DiskId(1), is_rotational: false, batches_max: 4 };
    const HEAD: DiskTraits = DiskTraits { id: DiskId(2), is_rotational: true, batches_max: 2 };

    fn queue(rate: Option<u64>) -> (CheckQueue, Instant) {
        let now = Instant::now();
        (CheckQueue::new(now, rate), now)
    }

    /// Hashes `count` batches of `len` bytes, one at a time. Returns whose they were.
    fn hash(queue: &mut CheckQueue, now: Instant, count: usize, len: u64) -> Vec<u64> {
        let mut whose = Vec::new();
        for _ in 0..count {
            let Some(turn) = queue.next(now) else { break };
            queue.started(now, turn, len);
            queue.finished(turn.disk);
            whose.push(turn.id.0);
        }
        whose
    }

    fn share(whose: &[u64], id: u64) -> usize {
        whose.iter().filter(|&&other| other == id).count()
    }

    #[test]
    fn torrents_on_a_disk_take_turns_by_their_weights() {
        let (mut queue, now) = queue(None);
        queue.insert(now, TaskId(1), SSD, 1, None);
        queue.insert(now, TaskId(2), SSD, 3, None);
        let whose = hash(&mut queue, now, 400, 1 << 20);
        assert_eq!((share(&whose, 1), share(&whose, 2)), (100, 300));
        // Who comes late gets its share from then on, and nothing for the time before.
        queue.insert(now, TaskId(3), SSD, 4, None);
        let whose = hash(&mut queue, now, 800, 1 << 20);
        assert_eq!(share(&whose, 3), 400);
    }

    #[test]
    fn a_disk_with_a_moving_head_has_one_torrent_at_a_time() {
        let (mut queue, now) = queue(None);
        queue.insert(now, TaskId(2), HEAD, 1, None);
        queue.insert(now, TaskId(1), HEAD, 100, None);
        assert_eq!(hash(&mut queue, now, 3, 1 << 20), [2, 2, 2]);
        queue.remove(TaskId(2));
        assert_eq!(hash(&mut queue, now, 2, 1 << 20), [1, 1]);
    }

    #[test]
    fn disks_share_what_may_be_read_of_all_together() {
        let (mut queue, now) = queue(Some(1 << 20));
        queue.insert(now, TaskId(1), SSD, 1, None);
        queue.insert(now, TaskId(2), HEAD, 1, None);
        let whose: Vec<u64> = (0..100)
            .flat_map(|second| hash(&mut queue, now + Duration::from_secs(second), 1, 1 << 20))
            .collect();
        assert_eq!((share(&whose, 1), share(&whose, 2)), (50, 50));
    }

    #[test]
    fn no_more_batches_are_under_way_than_a_disk_may_have_and_a_disk_that_hangs_holds_up_no_other()
    {
        let (mut queue, now) = queue(None);
        queue.insert(now, TaskId(1), SSD, 1, None);
        let mut turns = Vec::new();
        while let Some(turn) = queue.next(now) {
            queue.started(now, turn, 1);
            turns.push(turn);
        }
        assert_eq!((turns.len(), queue.in_flight()), (4, 4));
        // Its batches hang; it is cancelled, and another on that disk has to wait.
        queue.remove(TaskId(1));
        queue.insert(now, TaskId(2), SSD, 1, None);
        assert_eq!(queue.next(now), None);
        queue.insert(now, TaskId(3), HEAD, 1, None);
        assert_eq!(hash(&mut queue, now, 1, 1), [3]);
        queue.finished(SSD.id);
        assert_eq!(queue.next(now).map(|turn| turn.id), Some(TaskId(2)));
    }

    #[test]
    fn nothing_is_read_faster_than_allowed() {
        let (mut queue, start) = queue(None);
        queue.insert(start, TaskId(1), SSD, 1, Some(1 << 20));
        let mut len = 0;
        for millisecond in 0..2000 {
            let now = start + Duration::from_millis(millisecond);
            len += hash(&mut queue, now, 100, 64 * 1024).len() as u64 * 64 * 1024;
            assert!(queue.waits_for_allowance(now));
        }
        // Two seconds' worth, a full bucket, and a last batch.
        assert!(len > 2 << 20 && len < (2 << 20) + 300_000, "{len} bytes");
    }

    #[test]
    fn one_that_is_slow_by_its_own_limit_leaves_the_disk_to_others() {
        let (mut queue, now) = queue(None);
        queue.insert(now, TaskId(1), SSD, 100, Some(1));
        queue.insert(now, TaskId(2), SSD, 1, None);
        let whose = hash(&mut queue, now, 100, 1 << 20);
        assert_eq!(share(&whose, 1), 1);
    }

    #[test]
    fn ten_thousand_take_their_turns() {
        let (mut queue, now) = queue(None);
        for id in 0..10_000 {
            queue.insert(now, TaskId(id), if id % 2 == 0 { SSD } else { HEAD }, 1, None);
        }
        for _ in 0..10_000 {
            let turn = queue.next(now).expect("somebody waits");
            queue.started(now, turn, 1 << 20);
            queue.remove(turn.id);
            queue.finished(turn.disk);
        }
        assert_eq!(queue.next(now), None);
        assert!(!queue.waits_for_allowance(now));
    }

    #[test]
    fn whatever_comes_and_goes_all_are_served_and_nothing_is_left() {
        for seed in 0..1000 {
            let (mut queue, now) = queue(None);
            let mut rng = Rng::from_seed(seed);
            let mut left: BTreeMap<u64, u64> = BTreeMap::new();
            let mut flying: Vec<Turn> = Vec::new();
            for id in 0..20 {
                let disk = if rng.below(2) == 0 { SSD } else { HEAD };
                queue.insert(now, TaskId(id), disk, rng.below(4) as u32, None);
                left.insert(id, 1 + rng.below(10) as u64);
            }
            while !left.is_empty() || !flying.is_empty() {
                if rng.below(10) == 0
                    && let Some(&id) = left.keys().next()
                {
                    left.remove(&id);
                    queue.remove(TaskId(id));
                }
                match queue.next(now) {
                    Some(turn) if rng.below(2) == 0 => {
                        let rest = left.get_mut(&turn.id.0).expect("it is to be checked");
                        queue.started(now, turn, 1 + rng.below(1000) as u64);
                        flying.push(turn);
                        *rest -= 1;
                        if *rest == 0 {
                            left.remove(&turn.id.0);
                            queue.remove(turn.id);
                        }
                    }
                    _ if !flying.is_empty() => {
                        let turn = flying.swap_remove(rng.below(flying.len()));
                        queue.finished(turn.disk);
                    }
                    turn => {
                        assert!(turn.is_some() || left.is_empty(), "seed {seed}: nothing moves");
                    }
                }
                assert_eq!(queue.in_flight(), flying.len(), "seed {seed}");
            }
            let is_empty = queue.waiting.is_empty() && queue.disks.is_empty();
            assert!(is_empty, "seed {seed}");
        }
    }
}
