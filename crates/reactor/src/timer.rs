//! What is to be called when.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// One timer. Harmless after it has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId {
    at: Instant,
    number: u64,
}

/// Callbacks by time; equal times in the order they were added. A cancelled timer is gone at once:
/// it wakes nobody.
pub(crate) struct Timers<F> {
    pending: BTreeMap<TimerId, F>,
    next: u64,
}

impl<F> Timers<F> {
    pub(crate) const fn new() -> Self {
        Self { pending: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn add(&mut self, at: Instant, callback: F) -> TimerId {
        let id = TimerId { at, number: self.next };
        self.next += 1;
        self.pending.insert(id, callback);
        id
    }

    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<F> {
        self.pending.remove(&id)
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.pending.first_key_value().map(|(id, _)| id.at)
    }

    /// A number that every timer added from now on is not below.
    pub(crate) const fn mark(&self) -> u64 {
        self.next
    }

    /// Takes the first timer that is due and was added before `mark`: one that a timer adds waits
    /// for the next turn, so that a chain of them starves nobody.
    pub(crate) fn take_due(&mut self, now: Instant, mark: u64) -> Option<F> {
        let due = self
            .pending
            .range(..)
            .take_while(|(id, _)| id.at <= now)
            .find(|(id, _)| id.number < mark);
        let id = *due?.0;
        self.pending.remove(&id)
    }
}

impl<F> fmt::Debug for Timers<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timers({} pending)", self.pending.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn they_fire_in_order_of_time_then_of_age() {
        let (now, mut timers) = (Instant::now(), Timers::new());
        let late = now + Duration::from_secs(1);
        timers.add(late, "late");
        timers.add(now, "first");
        timers.add(now, "second");
        let cancelled = timers.add(now, "cancelled");
        assert_eq!((timers.cancel(cancelled), timers.cancel(cancelled)), (Some("cancelled"), None));
        let mark = timers.mark();
        assert_eq!(timers.next_at(), Some(now));
        assert_eq!(timers.take_due(now, mark), Some("first"));
        timers.add(now, "added meanwhile");
        assert_eq!(timers.take_due(now, mark), Some("second"));
        assert_eq!(timers.take_due(now, mark), None);
        assert_eq!(timers.take_due(late, timers.mark()), Some("added meanwhile"));
        assert_eq!(timers.take_due(late, mark), Some("late"));
        assert_eq!(timers.next_at(), None);
    }
}
