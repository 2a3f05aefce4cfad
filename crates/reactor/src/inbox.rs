//! What other threads have for the loop, and how they wake it.
//!
//! One word of bits says all there is to know. Its states, from the loop's side:
//!
//! | bits | the loop is |
//! | --- | --- |
//! | nothing, or news | awake: it looks again before it sleeps, so nobody calls |
//! | `ASLEEP` | asleep or about to be: whoever brings the first news calls |
//! | `ASLEEP` and news | notified: somebody has called or is about to, so nobody else does |
//!
//! Every change is a read-modify-write of that one word, so all threads agree on their order. That
//! is why no wake-up is lost: either the loop finds the news as it goes to sleep, or the one who
//! brings it finds the loop asleep. `tests/inbox_loom.rs` tries this in every order there is.

use std::sync::{Arc, PoisonError};

use crate::backend::Wake;
use crate::sync::{AtomicU8, Mutex, MutexGuard, Ordering};

/// Items from any thread for the one that owns the loop. Only that one may call
/// [`take`](Self::take), [`begin_wait`](Self::begin_wait) and [`end_wait`](Self::end_wait).
pub(crate) struct Inbox<T> {
    bits: AtomicU8,
    items: Mutex<Items<T>>,
    wake: Arc<dyn Wake>,
}

struct Items<T> {
    /// Not empty if and only if the bit `ITEMS` is set, whenever the lock is free.
    list: Vec<T>,
    is_closed: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new(wake: Arc<dyn Wake>) -> Arc<Self> {
        let items = Mutex::new(Items { list: Vec::new(), is_closed: false });
        Arc::new(Self { bits: AtomicU8::new(0), items, wake })
    }

    /// Leaves `item` for the loop. While that is awake, or has items already, no system call is made.
    ///
    /// # Errors
    /// If the reactor is gone: here is the item again.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut items = self.lock();
        if items.is_closed {
            return Err(item);
        }
        let is_first = items.list.is_empty();
        items.list.push(item);
        // The one who brought the first item woke the loop for all.
        let must_call = is_first && self.tell(ITEMS);
        drop(items);
        if must_call {
            self.wake.wake();
        }
        Ok(())
    }

    /// Has the loop look around once more: it wakes, or does not fall asleep.
    pub(crate) fn wake(&self) {
        if self.tell(WOKEN) {
            self.wake.wake();
        }
    }

    /// Sets the flag that the loop is to stop, and wakes it.
    pub(crate) fn stop(&self) {
        if self.tell(STOPPED) {
            self.wake.wake();
        }
    }

    /// Appends everything that came so far, in order.
    pub(crate) fn take(&self, into: &mut Vec<T>) {
        if self.is_empty() {
            return;
        }
        let mut items = self.lock();
        self.bits.fetch_and(!ITEMS, Ordering::AcqRel);
        if into.is_empty() {
            // The two vectors take turns, and neither is allocated anew.
            std::mem::swap(into, &mut items.list);
        } else {
            into.append(&mut items.list);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bits.load(Ordering::Acquire) & ITEMS == 0
    }

    /// The loop is about to sleep. If this is false there is something to look at, and it must not.
    pub(crate) fn begin_wait(&self) -> bool {
        let is_quiet =
            self.bits.compare_exchange(0, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !is_quiet {
            self.end_wait();
        }
        is_quiet
    }

    /// The loop is awake again, and looks at everything before the next
    /// [`begin_wait`](Self::begin_wait); until then nobody calls.
    pub(crate) fn end_wait(&self) {
        self.bits.fetch_and(!(ASLEEP | WOKEN), Ordering::AcqRel);
    }

    /// Whether anything has come since the loop began to sleep. Whoever brought it has called, or is
    /// about to: once.
    pub(crate) fn has_news(&self) -> bool {
        self.bits.load(Ordering::Acquire) & !ASLEEP != 0
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.bits.load(Ordering::Acquire) & STOPPED != 0
    }

    /// Whether it was stopped; it no longer is. A stop that comes at the same moment is not lost.
    pub(crate) fn take_stopped(&self) -> bool {
        self.bits.fetch_and(!STOPPED, Ordering::AcqRel) & STOPPED != 0
    }

    /// The reactor is gone. What there is is dropped, what comes later is refused.
    pub(crate) fn close(&self) {
        let mut items = self.lock();
        items.is_closed = true;
        let dropped = std::mem::take(&mut items.list);
        self.bits.fetch_and(!ITEMS, Ordering::AcqRel);
        // An item that is dropped may well push another.
        drop(items);
        drop(dropped);
    }

    /// Sets a bit of news. Returns whether it falls to the caller to wake the loop.
    fn tell(&self, news: u8) -> bool {
        // Set already is not enough to leave it out: only a write shows the loop what came before it.
        self.bits.fetch_or(news, Ordering::AcqRel) == ASLEEP
    }

    fn lock(&self) -> MutexGuard<'_, Items<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const ASLEEP: u8 = 1;
/// News: there are items.
const ITEMS: u8 = 2;
/// News: somebody wants the loop to look around.
const WOKEN: u8 = 4;
/// News: the loop is to stop.
const STOPPED: u8 = 8;

/// Each test is a model: beside the library it runs once, in `tests/inbox_loom.rs` under loom.
#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::sync::model;

    #[derive(Debug, Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Bell {
        fn rung(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    fn inbox<T>() -> (Arc<Bell>, Arc<Inbox<T>>) {
        let bell = Arc::new(Bell::default());
        let wake: Arc<dyn Wake> = Arc::clone(&bell) as _;
        (bell, Inbox::new(wake))
    }

    #[test]
    fn items_are_taken_in_order_behind_what_the_vector_holds() {
        model(|| {
            let (_, inbox) = inbox();
            assert!(inbox.is_empty());
            let mut taken = Vec::new();
            inbox.take(&mut taken);
            assert!(taken.is_empty());
            for item in [1, 2] {
                inbox.push(item).unwrap();
            }
            assert!(!inbox.is_empty());
            inbox.take(&mut taken);
            assert!(inbox.is_empty());
            for item in [3, 4] {
                inbox.push(item).unwrap();
            }
            inbox.take(&mut taken);
            inbox.take(&mut taken);
            assert_eq!(taken, [1, 2, 3, 4]);
        });
    }

    #[test]
    fn what_comes_to_one_that_sleeps_is_news() {
        model(|| {
            let (bell, inbox) = inbox();
            assert!(inbox.begin_wait() && !inbox.has_news());
            inbox.push(1).unwrap();
            assert!(inbox.has_news() && bell.rung() == 1);
        });
    }

    #[test]
    fn a_loop_that_is_awake_is_not_called() {
        model(|| {
            let (bell, inbox) = inbox();
            inbox.push(1).unwrap();
            inbox.wake();
            inbox.stop();
            assert!(!inbox.begin_wait());
            inbox.push(2).unwrap();
            assert_eq!(bell.rung(), 0);
        });
    }

    #[test]
    fn a_loop_that_sleeps_is_called_once_whatever_comes() {
        model(|| {
            let (bell, inbox) = inbox();
            let mut taken = Vec::new();
            for sleep in 0..3 {
                assert!(inbox.begin_wait());
                assert_eq!(bell.rung(), 0);
                for first in sleep..sleep + 3 {
                    match first % 3 {
                        0 => inbox.push(sleep).unwrap(),
                        1 => inbox.wake(),
                        _ => inbox.stop(),
                    }
                }
                assert_eq!(bell.rung(), 1);
                inbox.end_wait();
                inbox.take(&mut taken);
                assert!(inbox.take_stopped());
            }
            assert_eq!(taken, [0, 1, 2]);
        });
    }

    #[test]
    fn the_loop_does_not_sleep_before_it_has_looked() {
        model(|| {
            let (bell, inbox) = inbox();
            inbox.push(1).unwrap();
            assert!(!inbox.begin_wait());
            assert!(!inbox.begin_wait(), "the item is still there");
            inbox.take(&mut Vec::new());
            inbox.stop();
            assert!(!inbox.begin_wait());
            assert!(inbox.is_stopped());
            assert!(inbox.take_stopped());
            assert!(!inbox.is_stopped() && !inbox.take_stopped());
            inbox.wake();
            assert!(!inbox.begin_wait(), "it is to look around");
            assert!(inbox.begin_wait(), "it has looked around");
            assert_eq!(bell.rung(), 0);
        });
    }

    #[test]
    fn a_wait_that_ends_by_itself_leaves_nobody_calling() {
        model(|| {
            let (bell, inbox) = inbox();
            assert!(inbox.begin_wait());
            inbox.end_wait();
            inbox.push(1).unwrap();
            inbox.wake();
            assert_eq!(bell.rung(), 0);
        });
    }

    /// Comes back through the inbox as it is dropped.
    struct Boomerang {
        inbox: Arc<Inbox<Self>>,
        refused: Arc<AtomicUsize>,
        is_thrown: bool,
    }

    impl Drop for Boomerang {
        fn drop(&mut self) {
            if self.is_thrown {
                let (inbox, refused) = (Arc::clone(&self.inbox), Arc::clone(&self.refused));
                let item = Self { inbox, refused, is_thrown: false };
                if self.inbox.push(item).is_err() {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    #[test]
    fn closed_it_drops_what_there_is_and_refuses_what_comes() {
        model(|| {
            let (bell, inbox) = inbox();
            let refused = Arc::new(AtomicUsize::new(0));
            for _ in 0..2 {
                let (inbox, refused) = (Arc::clone(&inbox), Arc::clone(&refused));
                let item = Boomerang { inbox: Arc::clone(&inbox), refused, is_thrown: true };
                inbox.push(item).map_err(drop).unwrap();
            }
            inbox.close();
            assert_eq!(refused.load(Ordering::Relaxed), 2);
            assert!(inbox.is_empty());
            inbox.wake();
            inbox.stop();
            inbox.close();
            assert_eq!(Arc::strong_count(&inbox), 1);
            assert_eq!(bell.rung(), 0);
        });
    }
}
