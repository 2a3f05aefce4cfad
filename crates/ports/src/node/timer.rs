//! Calls after a time.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use reactor::TimerGuard;

use super::Node;

/// A call that is to come. Dropped, it does not; [`detach`](Self::detach) lets it come.
#[must_use = "dropped, it cancels the call"]
pub struct Timer {
    state: Rc<RefCell<State>>,
    is_detached: bool,
}

enum State {
    /// The loop has yet to hear of it.
    Asked,
    Set(TimerGuard),
    /// The time has come, and the call is about to.
    Due,
    Over,
}

impl Timer {
    /// Lets the call come.
    pub fn detach(mut self) {
        self.is_detached = true;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if !self.is_detached {
            let before = self.state.replace(State::Over);
            drop(before);
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").finish_non_exhaustive()
    }
}

impl Node {
    /// Calls after a time, outside of any port.
    pub fn after(&self, time: Duration, call: impl FnOnce(&Self) + 'static) {
        self.timer(time, call).detach();
    }

    /// The same, unless the guard is dropped before. What is too far off to be counted never comes.
    pub fn timer(&self, time: Duration, call: impl FnOnce(&Self) + 'static) -> Timer {
        let state = Rc::new(RefCell::new(State::Asked));
        let (shared, node) = (Rc::clone(&state), Rc::downgrade(&self.shared));
        self.shared.run_queue.handle().soon(move |(), reactor| {
            // By the time of the turn that begins: who calls from outside of the loop may have slept.
            let Some(at) = reactor.now().checked_add(time) else { return };
            if matches!(*shared.borrow(), State::Over) {
                return;
            }
            // The call owns what cancels it, so that a detached timer comes.
            let kept = Rc::clone(&shared);
            let guard = reactor.guard_timer(at, move |(), _| {
                let (Some(node), State::Set(guard)) = (node.upgrade(), kept.replace(State::Due))
                else {
                    return;
                };
                guard.detach();
                Self { shared: node }.soon(move |node| {
                    if matches!(kept.replace(State::Over), State::Due) {
                        call(node);
                    }
                });
            });
            *shared.borrow_mut() = State::Set(guard);
        });
        Timer { state, is_detached: false }
    }
}
