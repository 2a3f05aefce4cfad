//! What is to be called when: a hierarchical timing wheel.
//!
//! Nearly every timer of a network program is a deadline that is met: it is added and cancelled and
//! never fires. So these two only touch a list, and the price of putting timers in order is paid
//! late, by the few that come near.
//!
//! Time is cut into ticks. The wheel stands at one of them, its position. A timer of a later tick
//! lies in a bucket: the level is that of the highest digit, to the base 64, in which its tick
//! differs from the position, and the bucket is that digit. As the position enters a bucket, what
//! is in it goes to lower levels; what the position has reached goes to a heap, which knows its exact
//! order. So however coarse a tick is, timers fire in the order of their nanoseconds.
//!
//! After G. Varghese and T. Lauck, *Hashed and hierarchical timing wheels*, 1987.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// One timer. Harmless after it has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    pub(crate) slot: u32,
    generation: u32,
}

/// Items by time; equal times in the order they were added. A cancelled timer is gone at once: it
/// wakes nobody.
///
/// Times count in nanoseconds from the start, for 292 years either way; what is beyond counts as the
/// last of them.
pub(crate) struct TimerWheel<T> {
    start: Instant,
    /// The tick that the wheel stands at: all timers up to it are in the heaps, all others in the
    /// buckets. It never passes the present.
    position: u64,
    levels: Box<[Level; LEVELS]>,
    nodes: Vec<Node<T>>,
    /// The free ones among the nodes. Not a chain through them, where each `add` would have to wait
    /// for the memory of the one before.
    free: Vec<u32>,
    /// What the position has reached. The first of each heap is never stale.
    reached: BinaryHeap<Reverse<Reached>>,
    /// What was set aside as too young for this turn: no number in it is below `turn_mark`.
    young: BinaryHeap<Reverse<Reached>>,
    /// How many in the two heaps are of cancelled timers: never more than half.
    stale: usize,
    turn_mark: u64,
    next_number: u64,
}

impl<T> TimerWheel<T> {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            position: 0,
            levels: Box::new([Level::EMPTY; LEVELS]),
            nodes: Vec::new(),
            free: Vec::new(),
            reached: BinaryHeap::new(),
            young: BinaryHeap::new(),
            stale: 0,
            turn_mark: 0,
            next_number: 0,
        }
    }

    pub(crate) fn add(&mut self, at: Instant, item: T) -> TimerId {
        let (at, number) = (self.nanos(at), self.next_number);
        self.next_number += 1;
        let slot = self.occupy(at, number, item);
        self.place(slot);
        TimerId { slot, generation: self.node(slot).generation }
    }

    /// Takes a timer back, if it is still to come.
    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<T> {
        if !self.contains(id) {
            return None;
        }
        let place = self.node(id.slot).place;
        if let Place::Bucket { level, digit } = place {
            self.unlink(id.slot, level, digit);
        }
        let item = self.vacate(id.slot);
        if let Place::Heap = place {
            self.stale += 1;
            self.drop_stale();
        }
        Some(item)
    }

    pub(crate) fn contains(&self, id: TimerId) -> bool {
        // The generation of a free node has not been handed out yet.
        self.nodes.get(id.slot as usize).is_some_and(|node| node.generation == id.generation)
    }

    /// All that are still to come, in no order that means anything.
    pub(crate) fn into_items(self) -> impl Iterator<Item = T> {
        self.nodes.into_iter().filter_map(|node| node.item)
    }

    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// No timer is due before this. It may be too early if the earliest one was cancelled, see
    /// [`is_next_exact`](Self::is_next_exact).
    pub(crate) fn next_at_least(&self) -> Option<Instant> {
        let in_bucket =
            || self.first_bucket().map(|(level, digit)| self.bucket(level, digit).earliest);
        self.next_reached().or_else(in_bucket).map(|at| self.instant(at))
    }

    /// When the earliest timer is due. It may have to search one bucket for that.
    pub(crate) fn next_at(&mut self) -> Option<Instant> {
        if !self.is_next_exact()
            && let Some((level, digit)) = self.first_bucket()
        {
            self.search(level, digit);
        }
        self.next_at_least()
    }

    /// Whether [`next_at`](Self::next_at) costs no more than [`next_at_least`](Self::next_at_least),
    /// and says the same.
    pub(crate) fn is_next_exact(&self) -> bool {
        self.next_reached().is_some()
            || self
                .first_bucket()
                .is_none_or(|(level, digit)| self.bucket(level, digit).order != Order::Unknown)
    }

    /// A number that every timer added from now on is not below.
    pub(crate) const fn mark(&self) -> u64 {
        self.next_number
    }

    /// Takes the earliest timer that is due and was added before `mark`: one that a timer adds waits
    /// for the next turn, so that a chain of them starves nobody.
    pub(crate) fn take_due(&mut self, now: Instant, mark: u64) -> Option<(TimerId, T)> {
        if mark > self.turn_mark {
            self.reached.append(&mut self.young);
        }
        self.turn_mark = mark;
        let now = self.nanos(now);
        loop {
            while let Some(&Reverse(first)) = self.reached.peek() {
                // All in the buckets is later.
                if first.at > now {
                    return None;
                }
                self.reached.pop();
                if first.number < mark {
                    let id =
                        TimerId { slot: first.slot, generation: self.node(first.slot).generation };
                    let item = self.vacate(first.slot);
                    self.drop_stale();
                    return Some((id, item));
                }
                self.young.push(Reverse(first));
                self.drop_stale();
            }
            if !self.advance(now) {
                return None;
            }
        }
    }

    /// Moves on to `now`, or to the next bucket on the way there. Returns whether that was emptied.
    fn advance(&mut self, now: i64) -> bool {
        let now = tick(now);
        if let Some((level, digit)) = self.first_bucket() {
            let earliest = tick(self.bucket(level, digit).earliest);
            let shift = u32::from(level) * DIGIT_BITS;
            if earliest >> shift << shift <= now {
                // As far as no timer is passed, so that each sinks as deep as it can.
                self.position = earliest.min(now);
                self.empty(level, digit);
                return true;
            }
        }
        self.position = self.position.max(now);
        false
    }

    /// Places anew what is in a bucket that the position has entered. From both ends at once: what
    /// takes time is to wait for memory, and two lists of nodes are fetched in the time of one.
    fn empty(&mut self, level: u8, digit: u8) {
        self.levels[usize::from(level)].occupied &= !(1 << digit);
        let mut front = self.bucket(level, digit).head;
        let mut back = self.node(front).before;
        loop {
            let (next, before) = (self.node(front).next, self.node(back).before);
            self.place(front);
            if front == back {
                return;
            }
            self.place(back);
            if next == back {
                return;
            }
            (front, back) = (next, before);
        }
    }

    fn place(&mut self, slot: u32) {
        let &Node { at, number, .. } = self.node(slot);
        let tick = tick(at);
        let place = if tick <= self.position {
            self.reached.push(Reverse(Reached { at, number, slot }));
            Place::Heap
        } else {
            let level = (tick ^ self.position).ilog2() / DIGIT_BITS;
            let digit = (tick >> (level * DIGIT_BITS)) & DIGIT_MAX;
            let (level, digit) = (level as u8, digit as u8);
            self.link(slot, level, digit);
            Place::Bucket { level, digit }
        };
        self.node_mut(slot).place = place;
    }

    fn link(&mut self, slot: u32, level: u8, digit: u8) {
        let at = self.node(slot).at;
        let level = &mut self.levels[usize::from(level)];
        let bucket = &mut level.buckets[usize::from(digit)];
        let is_empty = level.occupied & (1 << digit) == 0;
        level.occupied |= 1 << digit;
        if is_empty {
            *bucket = Bucket { head: slot, order: Order::Sorted, earliest: at };
            let node = self.node_mut(slot);
            (node.before, node.next) = (slot, slot);
            return;
        }
        let head = bucket.head;
        let last = std::mem::replace(&mut self.nodes[head as usize].before, slot);
        bucket.order = match bucket.order {
            Order::Sorted if self.nodes[last as usize].at <= at => Order::Sorted,
            Order::Unknown if bucket.earliest < at => Order::Unknown,
            Order::Sorted | Order::Unsorted | Order::Unknown => Order::Unsorted,
        };
        bucket.earliest = bucket.earliest.min(at);
        self.node_mut(last).next = slot;
        let node = self.node_mut(slot);
        (node.before, node.next) = (last, head);
    }

    fn unlink(&mut self, slot: u32, level: u8, digit: u8) {
        let &Node { at, before, next, .. } = self.node(slot);
        self.node_mut(before).next = next;
        self.node_mut(next).before = before;
        let level = &mut self.levels[usize::from(level)];
        if next == slot {
            level.occupied &= !(1 << digit);
            return;
        }
        let bucket = &mut level.buckets[usize::from(digit)];
        if bucket.head == slot {
            bucket.head = next;
        }
        match bucket.order {
            Order::Sorted => bucket.earliest = self.nodes[bucket.head as usize].at,
            Order::Unsorted if bucket.earliest == at => bucket.order = Order::Unknown,
            Order::Unsorted | Order::Unknown => {}
        }
    }

    /// Finds out which timer of a bucket is the earliest.
    fn search(&mut self, level: u8, digit: u8) {
        let head = self.bucket(level, digit).head;
        let (mut slot, mut earliest) = (head, i64::MAX);
        loop {
            let node = self.node(slot);
            (slot, earliest) = (node.next, earliest.min(node.at));
            if slot == head {
                break;
            }
        }
        let bucket = &mut self.levels[usize::from(level)].buckets[usize::from(digit)];
        (bucket.order, bucket.earliest) = (Order::Unsorted, earliest);
    }

    /// Level and digit of the bucket with the earliest timers. Those of a level are all before those
    /// of the next, and none is at or before the position's own digit.
    fn first_bucket(&self) -> Option<(u8, u8)> {
        let (level, bits) = self
            .levels
            .iter()
            .map(|level| level.occupied)
            .enumerate()
            .find(|(_, bits)| *bits != 0)?;
        Some((level as u8, bits.trailing_zeros() as u8))
    }

    fn next_reached(&self) -> Option<i64> {
        let firsts = [self.reached.peek(), self.young.peek()];
        firsts.into_iter().flatten().map(|Reverse(first)| first.at).min()
    }

    /// Drops cancelled timers where they would be seen, and everywhere once they are many.
    fn drop_stale(&mut self) {
        if self.stale == 0 {
            return;
        }
        let nodes = &self.nodes;
        let is_stale = |&Reverse(reached): &Reverse<Reached>| {
            let node = &nodes[reached.slot as usize];
            node.item.is_none() || node.number != reached.number
        };
        for heap in [&mut self.reached, &mut self.young] {
            while heap.peek().is_some_and(is_stale) {
                heap.pop();
                self.stale -= 1;
            }
        }
        if self.stale > (self.reached.len() + self.young.len()) / 2 {
            self.reached.retain(|reached| !is_stale(reached));
            self.young.retain(|reached| !is_stale(reached));
            self.stale = 0;
        }
    }

    fn occupy(&mut self, at: i64, number: u64, item: T) -> u32 {
        let item = Some(item);
        if let Some(slot) = self.free.pop() {
            let node = self.node_mut(slot);
            (node.at, node.number, node.item) = (at, number, item);
            return slot;
        }
        let slot = u32::try_from(self.nodes.len()).expect("at most 2^32 timers");
        let (before, next, place) = (slot, slot, Place::Heap);
        self.nodes.push(Node { at, number, before, next, generation: 0, place, item });
        slot
    }

    fn vacate(&mut self, slot: u32) -> T {
        self.free.push(slot);
        let node = self.node_mut(slot);
        node.generation = node.generation.wrapping_add(1);
        node.item.take().expect("a timer has its item until it is over")
    }

    fn bucket(&self, level: u8, digit: u8) -> &Bucket {
        &self.levels[usize::from(level)].buckets[usize::from(digit)]
    }

    fn node(&self, slot: u32) -> &Node<T> {
        &self.nodes[slot as usize]
    }

    fn node_mut(&mut self, slot: u32) -> &mut Node<T> {
        &mut self.nodes[slot as usize]
    }

    fn nanos(&self, at: Instant) -> i64 {
        let clamped = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        match at.checked_duration_since(self.start) {
            Some(after) => clamped(after),
            None => -clamped(self.start.duration_since(at)),
        }
    }

    fn instant(&self, nanos: i64) -> Instant {
        let span = Duration::from_nanos(nanos.unsigned_abs());
        if nanos < 0 { self.start - span } else { self.start + span }
    }
}

const fn tick(nanos: i64) -> u64 {
    // What was due before the start is due at the start.
    if nanos < 0 { 0 } else { nanos.cast_unsigned() >> TICK_BITS }
}

struct Node<T> {
    at: i64,
    number: u64,
    /// Its neighbours in a bucket's list, which is a ring.
    before: u32,
    next: u32,
    generation: u32,
    place: Place,
    /// None in a free node.
    item: Option<T>,
}

#[derive(Clone, Copy)]
enum Place {
    Heap,
    Bucket { level: u8, digit: u8 },
}

/// What a heap knows of a timer. It is stale once the slot is free, or another's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Reached {
    at: i64,
    number: u64,
    slot: u32,
}

#[derive(Clone, Copy)]
struct Level {
    /// A bit for each bucket that is not empty; what an empty one holds means nothing.
    occupied: u64,
    buckets: [Bucket; 1 << DIGIT_BITS],
}

#[derive(Clone, Copy)]
struct Bucket {
    head: u32,
    order: Order,
    /// None in the list is before this.
    earliest: i64,
}

/// What is known of a bucket's list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The head is the earliest, and whoever cancels it finds the next one behind it. Timers of one
    /// duration make such lists, and those are the ones that are cancelled in the order of age.
    Sorted,
    /// The earliest is known, and no more.
    Unsorted,
    /// The earliest was cancelled.
    Unknown,
}

impl Level {
    const EMPTY: Self = Self {
        occupied: 0,
        buckets: [Bucket { head: 0, order: Order::Sorted, earliest: 0 }; 1 << DIGIT_BITS],
    };
}

/// A tick is about 66 microseconds: little enough that the heap stays small.
const TICK_BITS: u32 = 16;
const DIGIT_BITS: u32 = 6;
const DIGIT_MAX: u64 = (1 << DIGIT_BITS) - 1;
/// As many as it takes for the last nanosecond to have a bucket.
const LEVELS: usize = (i64::BITS - TICK_BITS).div_ceil(DIGIT_BITS) as usize;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn they_fire_in_order_of_time_then_of_age() {
        let now = Instant::now();
        let (late, mut wheel) = (now + SECOND, TimerWheel::new(now));
        wheel.add(late, "late");
        wheel.add(now, "first");
        wheel.add(now, "second");
        wheel.add(now - SECOND, "of the past");
        let mark = wheel.mark();
        let mut take = |now| wheel.take_due(now, mark).map(|(_, item)| item);
        assert_eq!(take(now), Some("of the past"));
        assert_eq!((take(now), take(now), take(now)), (Some("first"), Some("second"), None));
        assert_eq!(take(late - Duration::from_nanos(1)), None);
        // A clock that steps back does no harm.
        assert_eq!((take(now), take(late), take(late)), (None, Some("late"), None));
    }

    #[test]
    fn one_that_a_timer_adds_waits_for_the_next_turn_and_holds_up_no_older_one() {
        let now = Instant::now();
        let (soon, mut wheel) = (now + SECOND, TimerWheel::new(now));
        wheel.add(now, "older");
        wheel.add(soon, "later but older");
        let mark = wheel.mark();
        assert_eq!(wheel.take_due(now, mark).map(|(_, item)| item), Some("older"));
        wheel.add(now, "younger");
        assert_eq!(wheel.take_due(soon, mark).map(|(_, item)| item), Some("later but older"));
        assert_eq!((wheel.take_due(soon, mark), wheel.next_at()), (None, Some(now)));
        let mark = wheel.mark();
        assert_eq!(wheel.take_due(soon, mark).map(|(_, item)| item), Some("younger"));
    }

    #[test]
    fn an_id_is_harmless_once_its_timer_is_over() {
        let now = Instant::now();
        let mut wheel = TimerWheel::new(now);
        let cancelled = wheel.add(now + SECOND, "cancelled");
        assert!(wheel.contains(cancelled));
        assert_eq!((wheel.cancel(cancelled), wheel.cancel(cancelled)), (Some("cancelled"), None));
        let fired = wheel.add(now, "fired");
        assert_eq!(wheel.take_due(now, wheel.mark()), Some((fired, "fired")));
        let same_slot = wheel.add(now, "other");
        assert_eq!((wheel.cancel(cancelled), wheel.cancel(fired)), (None, None));
        assert!(wheel.contains(same_slot) && !wheel.contains(cancelled) && !wheel.contains(fired));
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn deadlines_that_are_met_in_order_of_age_leave_nothing_to_search() {
        let now = Instant::now();
        let mut wheel = TimerWheel::new(now);
        let at = |millis| now + Duration::from_secs(30) + Duration::from_millis(millis);
        let ids: Vec<TimerId> = (0..1000).map(|millis| wheel.add(at(millis), ())).collect();
        for (millis, id) in (0..).zip(ids) {
            assert!(wheel.is_next_exact());
            assert_eq!(wheel.next_at(), Some(at(millis)));
            wheel.cancel(id);
        }
        assert_eq!(wheel.next_at(), None);
    }

    #[test]
    fn only_the_cancelled_earliest_of_an_unordered_bucket_is_searched_for_and_once() {
        let now = Instant::now();
        let mut wheel = TimerWheel::new(now);
        let at = |millis| now + Duration::from_secs(30) + Duration::from_millis(millis);
        let [middle, earliest, _] = [2, 1, 3].map(|millis| wheel.add(at(millis), ()));
        wheel.cancel(earliest);
        assert_eq!((wheel.is_next_exact(), wheel.next_at_least()), (false, Some(at(1))));
        assert_eq!((wheel.next_at(), wheel.is_next_exact()), (Some(at(2)), true));
        assert_eq!(wheel.next_at_least(), Some(at(2)));
        wheel.cancel(middle);
        // A new one that is earlier is known to be the earliest.
        wheel.add(at(1), ());
        assert_eq!((wheel.is_next_exact(), wheel.next_at_least()), (true, Some(at(1))));
    }

    #[test]
    fn memory_is_bounded_by_the_most_that_were_pending_at_once() {
        let now = Instant::now();
        let mut wheel = TimerWheel::new(now);
        let kept = wheel.add(now, 0);
        for round in 0..1000 {
            let delay = SECOND * (round % 2);
            let ids: Vec<TimerId> = (0..10).map(|item| wheel.add(now + delay, item)).collect();
            assert_eq!(wheel.take_due(now - SECOND, wheel.mark()), None);
            assert_eq!(ids.into_iter().filter_map(|id| wheel.cancel(id)).count(), 10);
            assert_eq!((wheel.nodes.len(), wheel.len()), (11, 1));
            assert!(wheel.reached.len() + wheel.young.len() <= 2, "one is there, one may be stale");
        }
        assert_eq!((wheel.cancel(kept), wheel.next_at(), wheel.len()), (Some(0), None, 0));
        assert!(wheel.reached.is_empty() && wheel.young.is_empty());
    }

    #[test]
    fn a_timer_takes_32_bytes_beside_its_item() {
        assert_eq!(size_of::<Node<Box<dyn Fn()>>>(), 32 + size_of::<Box<dyn Fn()>>());
    }

    #[test]
    fn centuries_later_it_is_still_exact() {
        let start = Instant::now();
        let mut wheel = TimerWheel::new(start);
        let last = start + Duration::from_nanos(i64::MAX as u64);
        wheel.add(last + SECOND, "beyond");
        wheel.add(last - Duration::from_nanos(1), "just before");
        assert_eq!(wheel.next_at(), Some(last - Duration::from_nanos(1)));
        let mark = wheel.mark();
        assert_eq!(wheel.take_due(last - Duration::from_nanos(2), mark), None);
        assert!(wheel.take_due(last - Duration::from_nanos(1), mark).is_some());
        assert_eq!((wheel.next_at(), wheel.take_due(start, mark)), (Some(last), None));
        assert!(wheel.take_due(last, mark).is_some());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add { delay: i64 },
        Cancel(Index),
        CancelNext,
        Pass { span: i64 },
        PassToNext { and: i64 },
        Mark,
        OldMark(Index),
        Take { count_max: usize },
        AskForNext,
    }

    fn any_span() -> impl Strategy<Value = i64> {
        const NANOS_PER_SECOND: i64 = 1_000_000_000;
        prop_oneof![
            Just(0),
            0..1000_i64,
            0..1_000_000_i64,
            Just(NANOS_PER_SECOND),
            0..100 * NANOS_PER_SECOND,
            0..1_000_000 * NANOS_PER_SECOND,
            // Not more, or two hundred steps lead beyond the last nanosecond.
            0..45_000_000 * NANOS_PER_SECOND,
            -NANOS_PER_SECOND..0,
        ]
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => any_span().prop_map(|delay| Step::Add { delay }),
            2 => any::<Index>().prop_map(Step::Cancel),
            2 => Just(Step::CancelNext),
            1 => any_span().prop_map(|span| Step::Pass { span }),
            2 => (-1..=1_i64).prop_map(|and| Step::PassToNext { and }),
            2 => Just(Step::Mark),
            1 => any::<Index>().prop_map(Step::OldMark),
            4 => (0..8_usize).prop_map(|count_max| Step::Take { count_max }),
            1 => Just(Step::AskForNext),
        ]
    }

    proptest! {
        /// What a sorted map does at more expense.
        #[test]
        fn it_does_what_a_sorted_map_does(steps in proptest::collection::vec(any_step(), 0..200)) {
            let start = Instant::now();
            let later = |at: Instant, nanos: i64| {
                let span = Duration::from_nanos(nanos.unsigned_abs());
                if nanos < 0 { at - span } else { at + span }
            };
            let (mut wheel, mut model) = (TimerWheel::new(start), BTreeMap::new());
            let (mut ids, mut mark, mut now) = (Vec::new(), 0, start);
            for step in steps {
                let next = model.first_key_value().map(|(&key, &id)| (key, id));
                match step {
                    Step::Add { delay } => {
                        let (at, number) = (later(now, delay), ids.len() as u64);
                        let id = wheel.add(at, number);
                        model.insert((at, number), id);
                        ids.push((id, (at, number)));
                    }
                    Step::Cancel(index) if !ids.is_empty() => {
                        let (id, key) = *index.get(&ids);
                        let expected = model.remove(&key).map(|_| key.1);
                        prop_assert_eq!(wheel.contains(id), expected.is_some());
                        prop_assert_eq!(wheel.cancel(id), expected);
                    }
                    Step::CancelNext => if let Some((key, id)) = next {
                        model.remove(&key);
                        prop_assert_eq!(wheel.cancel(id), Some(key.1));
                    }
                    Step::Pass { span } => now = later(now, span),
                    Step::PassToNext { and } => if let Some(((at, _), _)) = next {
                        now = later(at, and);
                    }
                    Step::Mark => mark = wheel.mark(),
                    Step::OldMark(index) => mark = index.index(ids.len() + 1) as u64,
                    Step::Take { count_max } => for _ in 0..count_max {
                        let due = model
                            .iter()
                            .take_while(|((at, _), _)| *at <= now)
                            .find(|((_, number), _)| *number < mark)
                            .map(|(&key, &id)| (key, id));
                        if let Some((key, _)) = due {
                            model.remove(&key);
                        }
                        let expected = due.map(|((_, number), id)| (id, number));
                        prop_assert_eq!(wheel.take_due(now, mark), expected);
                    }
                    Step::AskForNext => {
                        prop_assert_eq!(wheel.next_at(), next.map(|((at, _), _)| at));
                        prop_assert!(wheel.is_next_exact());
                    }
                    Step::Cancel(_) => {}
                }
                let next = model.first_key_value().map(|(&(at, _), _)| at);
                let at_least = wheel.next_at_least();
                prop_assert_eq!((wheel.len(), at_least.is_some()), (model.len(), next.is_some()));
                prop_assert!(at_least == next || at_least < next && !wheel.is_next_exact());
                prop_assert!(wheel.stale <= (wheel.reached.len() + wheel.young.len()) / 2);
            }
        }
    }
}
