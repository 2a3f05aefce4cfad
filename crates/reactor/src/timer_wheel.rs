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
#[path = "timer_wheel_tests.rs"]
mod tests;
