//! The threads that check what is on one disk: how they take turns at the processor and at the disk.
//!
//! While some hash, another reads on, so that neither the disk nor the processor waits for the other. One
//! reads at a time, run after run, as a disk likes it best; and the bytes that were read and not yet hashed are
//! bounded, however many threads there are.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What the threads share.
#[derive(Debug)]
pub struct Crew {
    hashing: Pool<()>,
    windows: Pool<Vec<u8>>,
    reading: Mutex<()>,
}

impl Crew {
    /// A crew of which so many hash at once; 0 counts as 1.
    pub fn new(hashing_max: usize) -> Self {
        let seats = vec![(); hashing_max.max(1)];
        let windows = vec![Vec::new(); WINDOWS_MAX];
        Self { hashing: Pool::new(seats), windows: Pool::new(windows), reading: Mutex::new(()) }
    }

    /// How many threads it is to have, if so many are to hash at once.
    pub fn threads(hashing_max: usize) -> usize {
        hashing_max.max(1) + SPARE
    }

    /// Waits until one more may hash.
    pub(super) fn turn(&self) -> Turn<'_> {
        Turn { crew: self, seat: Some(self.hashing.take()) }
    }

    /// Waits until there is room for what is read from a disk.
    pub(super) fn window(&self) -> Loan<'_, Vec<u8>> {
        self.windows.take()
    }

    /// Waits until nobody else reads from the disk.
    pub(super) fn read(&self) -> MutexGuard<'_, ()> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thread that hashes has, until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) crew: &'a Crew,
    seat: Option<Loan<'a, ()>>,
}

impl Turn<'_> {
    /// Leaves the processor to others, while the disk is waited for.
    pub(super) fn leave(&mut self) {
        self.seat = None;
    }

    /// Waits until it may hash again, if it may not.
    pub(super) fn take(&mut self) {
        self.seat.get_or_insert_with(|| self.crew.hashing.take());
    }
}

/// Things that are lent one by one.
#[derive(Debug)]
struct Pool<T> {
    free: Mutex<Vec<T>>,
    returned: Condvar,
}

impl<T> Pool<T> {
    fn new(free: Vec<T>) -> Self {
        Self { free: Mutex::new(free), returned: Condvar::new() }
    }

    /// The one that was returned last, which the processor may still know.
    fn take(&self) -> Loan<'_, T> {
        let mut free = self.lock();
        loop {
            match free.pop() {
                Some(thing) => return Loan { pool: self, thing: Some(thing) },
                None => free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        // Nothing that can panic is done under the lock.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something lent, until this is dropped.
#[derive(Debug)]
pub(super) struct Loan<'a, T> {
    pool: &'a Pool<T>,
    /// `None` only while it is dropped.
    thing: Option<T>,
}

impl<T> Deref for Loan<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.thing.as_ref().expect("it is there until it is dropped")
    }
}

impl<T> DerefMut for Loan<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("it is there until it is dropped")
    }
}

impl<T> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        self.pool.lock().extend(self.thing.take());
        self.pool.returned.notify_one();
    }
}

/// Threads beyond those that may hash: one that reads, and one whose bytes wait to be hashed.
const SPARE: usize = 2;

/// Windows that are filled at once: at 2 MiB for each of 16 lanes, 96 MiB; half of that with pieces of 1 MiB.
const WINDOWS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn no_more_hash_at_once_than_may_however_many_there_are() {
        let (crew, hashing) = (Crew::new(2), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..Crew::threads(2) {
                scope.spawn(|| {
                    let mut turn = crew.turn();
                    for _ in 0..1000 {
                        turn.take();
                        assert!(hashing.fetch_add(1, Ordering::Relaxed) < 2);
                        hashing.fetch_sub(1, Ordering::Relaxed);
                        turn.leave();
                        crew.window().push(0);
                    }
                });
            }
        });
        let windows: Vec<_> = (0..WINDOWS_MAX).map(|_| crew.window()).collect();
        assert_eq!(windows.iter().map(|window| window.len()).sum::<usize>(), 4000);
    }
}
