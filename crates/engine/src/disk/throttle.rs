//! Bytes per second for several threads together, on request to stop at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::DiskError;

/// Spaces out what threads do, and tells them when to stop.
#[derive(Debug)]
pub(super) struct Throttle<'a> {
    cancel: &'a AtomicBool,
    is_stopped: AtomicBool,
    /// In bytes per second; `None`: as fast as can be.
    rate: Option<u64>,
    /// When what has been let through so far is paid for.
    free_at: Mutex<Instant>,
}

impl<'a> Throttle<'a> {
    pub(super) fn new(rate: Option<u64>, cancel: &'a AtomicBool) -> Self {
        Self {
            cancel,
            is_stopped: AtomicBool::new(false),
            rate,
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// Waits until `len` more bytes may be read.
    ///
    /// # Errors
    /// [`DiskError::Cancelled`], soon after it is asked for.
    pub(super) fn pass(&self, len: u64) -> Result<(), DiskError> {
        let go_at = self.rate.map(|rate| self.reserve(len, rate.max(1)));
        loop {
            if self.cancel.load(Ordering::Relaxed) || self.is_stopped.load(Ordering::Relaxed) {
                return Err(DiskError::Cancelled);
            }
            let left = go_at.map(|at| at.saturating_duration_since(Instant::now()));
            match left.filter(|left| !left.is_zero()) {
                Some(left) => thread::sleep(left.min(NAP)),
                None => return Ok(()),
            }
        }
    }

    /// As if it were cancelled from outside.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// When to go on: each waits for those that came before it.
    fn reserve(&self, len: u64, rate: u64) -> Instant {
        let cost = Duration::from_secs_f64(len as f64 / rate as f64).min(COST_MAX);
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        // Time that went by unused is not made up for.
        let go_at = (*free_at).max(Instant::now());
        *free_at = go_at + cost;
        go_at
    }
}

/// How often one that waits looks whether it is to stop.
const NAP: Duration = Duration::from_millis(20);

/// At a byte a second a run of pieces takes days, but the clock has an end.
const COST_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_holds_for_all_threads_together() {
        let (cancel, begun) = (AtomicBool::new(false), Instant::now());
        let throttle = Throttle::new(Some(1_000_000), &cancel);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..5).for_each(|_| throttle.pass(10_000).unwrap()));
            }
        });
        // The first passes at once, each of the others when those before it are paid for.
        assert!(begun.elapsed() >= Duration::from_millis(90));
    }

    #[test]
    fn whoever_waits_is_cancelled() {
        let cancel = AtomicBool::new(false);
        let throttle = Throttle::new(Some(1), &cancel);
        throttle.pass(1_000_000).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| throttle.pass(1));
            cancel.store(true, Ordering::Relaxed);
            assert!(matches!(waiting.join().unwrap(), Err(DiskError::Cancelled)));
        });
    }
}
