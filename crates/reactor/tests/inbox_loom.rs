//! The inbox under loom: what must hold in whatever order the threads of a model run.
//!
//! The module is compiled into this test a second time, with loom's locks and atomics for the
//! standard library's, so that the library itself needs no switch.

use std::sync::Arc;

use loom::model::Builder;
use loom::thread;

use inbox::Inbox;
use sync::{Condvar, Mutex};

#[path = "../src/inbox.rs"]
mod inbox;

mod sync {
    pub(crate) use loom::model;
    pub(crate) use loom::sync::atomic::{AtomicU8, Ordering};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
}

mod backend {
    pub(crate) trait Wake: std::fmt::Debug + Send + Sync {
        fn wake(&self);
    }
}

/// Where the loop sleeps. Like an event descriptor it remembers a call that comes too early.
#[derive(Debug)]
struct Bed {
    calls: Mutex<Calls>,
    is_called: Condvar,
}

#[derive(Debug, Default)]
struct Calls {
    pending: usize,
    total: usize,
}

impl backend::Wake for Bed {
    fn wake(&self) {
        let mut calls = self.calls.lock().unwrap();
        calls.pending += 1;
        calls.total += 1;
        self.is_called.notify_one();
    }
}

/// The loop's side: it counts its sleeps.
struct Sleeper<T> {
    bed: Arc<Bed>,
    inbox: Arc<Inbox<T>>,
    sleeps: usize,
}

impl<T: Send + 'static> Sleeper<T> {
    fn new() -> Self {
        let bed = Bed { calls: Mutex::new(Calls::default()), is_called: Condvar::new() };
        let bed = Arc::new(bed);
        let wake: Arc<dyn backend::Wake> = Arc::clone(&bed) as _;
        Self { bed, inbox: Inbox::new(wake), sleeps: 0 }
    }

    /// Without a timeout: a wake-up that is lost is a deadlock, which loom reports.
    fn wait(&mut self) {
        if !self.inbox.begin_wait() {
            return;
        }
        self.sleeps += 1;
        let mut calls = self.bed.calls.lock().unwrap();
        while calls.pending == 0 {
            calls = self.bed.is_called.wait(calls).unwrap();
        }
        calls.pending = 0;
        drop(calls);
        self.inbox.end_wait();
    }

    fn beside(&self, run: impl FnOnce(&Inbox<T>) + 'static) -> thread::JoinHandle<()> {
        let inbox = Arc::clone(&self.inbox);
        thread::spawn(move || run(&inbox))
    }

    fn calls(&self) -> usize {
        self.bed.calls.lock().unwrap().total
    }
}

fn join<const COUNT: usize>(threads: [thread::JoinHandle<()>; COUNT]) {
    for thread in threads {
        thread.join().unwrap();
    }
}

fn check(preemptions_max: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions_max);
    builder.check(model);
}

#[test]
fn nothing_pushed_is_lost_and_no_sleep_is_called_twice() {
    check(3, || {
        let mut sleeper = Sleeper::new();
        let pushers = [10, 20].map(|first| {
            sleeper.beside(move |inbox| {
                inbox.push(first).unwrap();
                inbox.push(first + 1).unwrap();
            })
        });
        let mut taken = Vec::new();
        while taken.len() < 4 {
            sleeper.wait();
            sleeper.inbox.take(&mut taken);
        }
        join(pushers);
        assert!(sleeper.inbox.is_empty());
        assert!(sleeper.calls() <= sleeper.sleeps);
        let (tens, twenties): (Vec<_>, Vec<_>) = taken.into_iter().partition(|item| *item < 20);
        assert_eq!((tens, twenties), (vec![10, 11], vec![20, 21]));
    });
}

#[test]
fn one_sleep_is_called_exactly_once_by_whoever_is_first() {
    check(4, || {
        let sleeper = Sleeper::new();
        assert!(sleeper.inbox.begin_wait());
        let callers = [
            sleeper.beside(|inbox| inbox.push(1).unwrap()),
            sleeper.beside(Inbox::wake),
            sleeper.beside(Inbox::stop),
        ];
        join(callers);
        assert_eq!(sleeper.calls(), 1);
    });
}

#[test]
fn no_stop_is_lost() {
    check(4, || {
        let mut sleeper = Sleeper::<()>::new();
        let stoppers = [sleeper.beside(Inbox::stop), sleeper.beside(Inbox::wake)];
        while !sleeper.inbox.take_stopped() {
            sleeper.wait();
        }
        join(stoppers);
        assert!(!sleeper.inbox.is_stopped());
        assert!(sleeper.calls() <= sleeper.sleeps);
    });
}

#[test]
fn the_loop_sees_what_was_written_before_it_was_woken() {
    use loom::sync::atomic::{AtomicBool, Ordering};
    check(4, || {
        let mut sleeper = Sleeper::<()>::new();
        let flags = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let writers = [0, 1].map(|which| {
            let flags = Arc::clone(&flags);
            sleeper.beside(move |inbox| {
                flags[which].store(true, Ordering::Relaxed);
                inbox.wake();
            })
        });
        while !flags.iter().all(|flag| flag.load(Ordering::Relaxed)) {
            sleeper.wait();
        }
        join(writers);
        assert!(sleeper.calls() <= sleeper.sleeps);
    });
}

#[test]
fn what_is_pushed_as_it_closes_is_dropped_or_handed_back() {
    check(4, || {
        let sleeper = Sleeper::new();
        let held = Arc::new(());
        let pushers = [(); 2].map(|()| {
            let item = Arc::clone(&held);
            sleeper.beside(move |inbox| match inbox.push(item) {
                Ok(()) => {}
                Err(item) => drop(item),
            })
        });
        sleeper.inbox.close();
        join(pushers);
        // The inbox itself is still there, and holds none.
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(sleeper.inbox.is_empty());
    });
}
