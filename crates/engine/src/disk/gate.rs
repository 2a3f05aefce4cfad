//! Keeps writers out while a check is on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::DiskError;

/// Writers pass while it is open; who closes it waits until they are through.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    is_changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    is_closed: bool,
}

/// One writer on its way through.
#[derive(Debug)]
pub(super) struct Passage<'a>(&'a Gate);

impl Gate {
    /// # Errors
    /// [`DiskError::Cancelled`] if it is closed.
    pub(super) fn enter(&self) -> Result<Passage<'_>, DiskError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(DiskError::Cancelled);
        }
        state.inside += 1;
        Ok(Passage(self))
    }

    /// Lets nobody in any more, and waits for those inside. Returns whether it is closed: whoever sets
    /// `is_over` and then opens it ends the wait, or keeps it from being closed at all.
    pub(super) fn close(&self, is_over: &AtomicBool) -> bool {
        let mut state = self.lock();
        // Under the lock: who opened it before did so for good.
        if is_over.load(Ordering::Acquire) {
            return false;
        }
        state.is_closed = true;
        while state.inside > 0 && !is_over.load(Ordering::Acquire) {
            state = self.is_changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !is_over.load(Ordering::Acquire)
    }

    pub(super) fn open(&self) {
        self.lock().is_closed = false;
        self.is_changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic is done under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.0.lock().inside -= 1;
        self.0.is_changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn closing_waits_for_those_inside_and_turns_away_the_rest() {
        let gate = Gate::default();
        let passage = gate.enter().unwrap();
        let (tx, closed) = mpsc::channel();
        thread::scope(|scope| {
            let gate = &gate;
            scope.spawn(move || {
                assert!(gate.close(&AtomicBool::new(false)));
                tx.send(()).unwrap();
            });
            while gate.enter().is_ok() {
                thread::yield_now();
            }
            assert!(closed.try_recv().is_err(), "one is inside");
            drop(passage);
            closed.recv().unwrap();
        });
        assert!(matches!(gate.enter(), Err(DiskError::Cancelled)));
        gate.open();
        assert!(gate.enter().is_ok());
    }

    #[test]
    fn a_check_that_is_over_closes_nothing_and_waits_for_nobody() {
        let (gate, first, second) =
            (Gate::default(), AtomicBool::new(false), AtomicBool::new(false));
        let hanging = gate.enter().unwrap();
        thread::scope(|scope| {
            let closing = scope.spawn(|| gate.close(&first));
            while gate.enter().is_ok() {
                thread::yield_now();
            }
            first.store(true, Ordering::Release);
            gate.open();
            assert!(!closing.join().unwrap(), "it does not wait for who hangs");
        });
        drop(hanging);
        assert!(!gate.close(&first), "it comes too late");
        assert!(gate.enter().is_ok());
        assert!(gate.close(&second) && gate.enter().is_err());
    }
}
