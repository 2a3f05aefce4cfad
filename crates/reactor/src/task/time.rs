//! Waiting for a time.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Weak;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::socket::{has_share, take_share};
use crate::TimerId;
use crate::core::{Core, Due};

/// Is over at a time, or when the reactor is gone. Dropped, it wakes nobody.
pub struct Sleep {
    core: Weak<RefCell<Core>>,
    at: Instant,
    /// The timer, and whom it wakes.
    timer: Option<(TimerId, Waker)>,
}

impl Sleep {
    pub(super) const fn new(core: Weak<RefCell<Core>>, at: Instant) -> Self {
        Self { core, at, timer: None }
    }

    /// When it is over.
    pub const fn at(&self) -> Instant {
        self.at
    }

    fn cancel(&mut self) {
        if let (Some((timer, _)), Some(core)) = (self.timer.take(), self.core.upgrade()) {
            let due = core.borrow_mut().timers.cancel(timer);
            // Whom it would wake is let go of when nothing is borrowed.
            drop(due);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(core) = self.core.upgrade() else { return Poll::Ready(()) };
        if !has_share(&core, context) {
            return Poll::Pending;
        }
        if core.borrow().now >= self.at {
            take_share(&core);
            self.cancel();
            return Poll::Ready(());
        }
        if let Some((timer, waker)) = &self.timer
            && waker.will_wake(context.waker())
            && core.borrow().timers.contains(*timer)
        {
            return Poll::Pending;
        }
        self.cancel();
        let due = Due::Wake(context.waker().clone());
        let timer = core.borrow_mut().timers.add(self.at, due);
        self.timer = Some((timer, context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("at", &self.at).finish_non_exhaustive()
    }
}

/// One time after another, at equal distances.
#[derive(Debug)]
pub struct Interval {
    core: Weak<RefCell<Core>>,
    next: Instant,
    every: Duration,
}

impl Interval {
    pub(super) fn new(core: Weak<RefCell<Core>>, first: Instant, every: Duration) -> Self {
        assert!(!every.is_zero(), "an interval needs a length");
        Self { core, next: first, every }
    }

    /// Waits for the next time, and returns it. After a delay those that were missed are left out, and
    /// the rhythm is kept.
    pub async fn tick(&mut self) -> Instant {
        let at = self.next;
        Sleep::new(Weak::clone(&self.core), at).await;
        let now = self.core.upgrade().map_or(at, |core| core.borrow().now);
        let late = now.saturating_duration_since(at).as_nanos();
        let missed = u32::try_from(late / self.every.as_nanos()).unwrap_or(u32::MAX);
        self.next = later(at, self.every.saturating_mul(missed.saturating_add(1)));
        at
    }
}

/// A time so long after another, or one that nobody lives to see.
pub(super) fn later(at: Instant, time: Duration) -> Instant {
    at.checked_add(time).or_else(|| at.checked_add(FOR_EVER)).unwrap_or(at)
}

/// A hundred years.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// It took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it took too long")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(io::ErrorKind::TimedOut, elapsed)
    }
}
