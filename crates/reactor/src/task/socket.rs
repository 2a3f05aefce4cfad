//! A socket that a task has, of whatever kind: how it is waited for, and that it is closed when it is dropped.

use std::cell::RefCell;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use crate::Token;
use crate::core::{Core, Direction};

pub(super) struct Socket {
    core: Weak<RefCell<Core>>,
    token: Token,
}

impl Socket {
    pub(super) const fn new(core: Weak<RefCell<Core>>, token: Token) -> Self {
        Self { core, token }
    }

    pub(super) const fn token(&self) -> Token {
        self.token
    }

    pub(super) const fn core(&self) -> &Weak<RefCell<Core>> {
        &self.core
    }

    /// Does something with it, if the loop is still there.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Core, Token) -> T) -> Option<T> {
        let core = self.core.upgrade()?;
        let core = &mut *core.borrow_mut();
        Some(act(core, self.token))
    }

    /// Tries to do something, and is woken when it may be tried again.
    pub(super) fn poll<T>(
        &self,
        context: &Context<'_>,
        direction: Direction,
        attempt: impl FnOnce(&mut Core, Token) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(core) = self.core.upgrade() else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if !has_share(&core, context) {
            return Poll::Pending;
        }
        let result = attempt(&mut core.borrow_mut(), self.token);
        if result.is_ready() {
            take_share(&core);
        } else {
            self.wait(&core, context, direction);
        }
        result
    }

    fn wait(&self, core: &Rc<RefCell<Core>>, context: &Context<'_>, direction: Direction) {
        let is_known = core
            .borrow_mut()
            .waker_slot(self.token, direction)
            .is_some_and(|slot| slot.as_ref().is_some_and(|w| w.will_wake(context.waker())));
        if is_known {
            return;
        }
        let waker = context.waker().clone();
        let before = core
            .borrow_mut()
            .waker_slot(self.token, direction)
            .and_then(|slot| slot.replace(waker));
        // Now that nothing is borrowed.
        drop(before);
    }

    /// Gives it away, open.
    pub(super) fn release(mut self) -> Token {
        self.core = Weak::new();
        self.token
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let entry = self.with(Core::forget);
        drop(entry);
    }
}

/// Whether the task that runs may get something done. If not, it is to return, and goes on soon: one
/// for which everything is always ready must not keep the others waiting.
pub(super) fn has_share(core: &RefCell<Core>, context: &Context<'_>) -> bool {
    let has_share = core.borrow().task_share > 0;
    if !has_share {
        context.waker().wake_by_ref();
    }
    has_share
}

pub(super) fn take_share(core: &RefCell<Core>) {
    let core = &mut *core.borrow_mut();
    core.task_share = core.task_share.saturating_sub(1);
}
