//! Things that end when they are dropped.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};

use crate::core::{Core, Orphan};
use crate::{Rate, TimerId, Token};

/// Watches a descriptor for as long as it lives. Made by [`Reactor::watch`](crate::Reactor::watch) and
/// [`Reactor::on_signal`](crate::Reactor::on_signal).
#[must_use = "dropped, it watches no more"]
pub struct WatchGuard {
    core: Weak<RefCell<Core>>,
    token: Token,
}

impl WatchGuard {
    pub(crate) fn new(core: &Rc<RefCell<Core>>, token: Token) -> Self {
        Self { core: Rc::downgrade(core), token }
    }

    /// Watches until the reactor ends.
    pub fn detach(mut self) {
        self.core = Weak::new();
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        let core = &mut *core.borrow_mut();
        if let Some(other) = core.other(self.token) {
            let source = other.source;
            core.backend.close(source);
            core.vacate(self.token);
            core.orphans.push(Orphan::Watch(self.token));
        }
    }
}

/// A timer that is cancelled when this is dropped. Made by
/// [`Reactor::guard_timer`](crate::Reactor::guard_timer).
#[must_use = "dropped, it cancels the timer"]
pub struct TimerGuard {
    core: Weak<RefCell<Core>>,
    timer: TimerId,
}

impl TimerGuard {
    pub(crate) fn new(core: &Rc<RefCell<Core>>, timer: TimerId) -> Self {
        Self { core: Rc::downgrade(core), timer }
    }

    /// Lets the timer come.
    pub fn detach(mut self) {
        self.core = Weak::new();
    }
}

impl Drop for TimerGuard {
    fn drop(&mut self) {
        cancel(&self.core, self.timer);
    }
}

/// A call again and again, until this is dropped. Made by
/// [`Reactor::add_interval`](crate::Reactor::add_interval).
#[must_use = "dropped, it ends the calls"]
pub struct IntervalGuard {
    core: Weak<RefCell<Core>>,
    /// The timer of the next call; none once this is gone.
    timer: Rc<Cell<Option<TimerId>>>,
}

impl IntervalGuard {
    pub(crate) fn new(core: &Rc<RefCell<Core>>, timer: Rc<Cell<Option<TimerId>>>) -> Self {
        Self { core: Rc::downgrade(core), timer }
    }

    /// Goes on until the reactor ends.
    pub fn detach(mut self) {
        self.core = Weak::new();
    }
}

impl Drop for IntervalGuard {
    fn drop(&mut self) {
        if self.core.strong_count() > 0
            && let Some(timer) = self.timer.take()
        {
            cancel(&self.core, timer);
        }
    }
}

fn cancel(core: &Weak<RefCell<Core>>, timer: TimerId) {
    let Some(core) = core.upgrade() else { return };
    let core = &mut *core.borrow_mut();
    if core.timers.cancel(timer).is_some() {
        core.orphans.push(Orphan::Timer(timer));
    }
}

/// Takes back a turn's hook when it is dropped. Made by
/// [`Reactor::on_turn_end`](crate::Reactor::on_turn_end).
#[must_use = "dropped, it takes the hook back"]
pub struct HookGuard {
    pub(crate) is_wanted: Rc<Cell<bool>>,
    pub(crate) is_detached: bool,
}

impl HookGuard {
    /// Calls the hook until the reactor ends.
    pub fn detach(mut self) {
        self.is_detached = true;
    }
}

impl Drop for HookGuard {
    fn drop(&mut self) {
        self.is_wanted.set(self.is_detached);
    }
}

/// Holds back segments of a connection that are not full, until it is dropped and what was queued
/// meanwhile is with the kernel (`TCP_CORK`). Made by [`Reactor::cork`](crate::Reactor::cork).
#[must_use = "dropped, it holds back nothing"]
pub struct Cork {
    core: Weak<RefCell<Core>>,
    token: Token,
}

impl Cork {
    pub(crate) fn new(core: &Rc<RefCell<Core>>, token: Token) -> Self {
        Self { core: Rc::downgrade(core), token }
    }
}

impl Drop for Cork {
    fn drop(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        let core = &mut *core.borrow_mut();
        if let Some(stream) = core.stream_mut(self.token) {
            let extras = stream.extras();
            extras.corks = extras.corks.saturating_sub(1);
            core.uncork(self.token);
        }
    }
}

/// A rate limit that connections share: together they go no faster. Made by
/// [`Reactor::rate_group`](crate::Reactor::rate_group). The limit holds for its members for as long as
/// they last, also when this is gone.
pub struct RateGroup {
    pub(crate) core: Weak<RefCell<Core>>,
    pub(crate) bucket: u32,
}

impl RateGroup {
    /// Changes the limit.
    pub fn set_rate(&self, rate: Rate) {
        let Some(core) = self.core.upgrade() else { return };
        let core = &mut *core.borrow_mut();
        let now = core.now;
        if let Some(bucket) = core.bucket_mut(self.bucket) {
            bucket.set_rate(rate, now);
            if let Some(timer) = bucket.timer.take() {
                // Whoever waits looks anew.
                core.timers.cancel(timer);
            }
            core.bucket_filled(self.bucket);
        }
    }
}

impl Drop for RateGroup {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.borrow_mut().drop_bucket_user(self.bucket);
        }
    }
}

macro_rules! debug_by_name {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($type))
            }
        }
    )*};
}
debug_by_name!(WatchGuard, TimerGuard, IntervalGuard, HookGuard, Cork, RateGroup);
