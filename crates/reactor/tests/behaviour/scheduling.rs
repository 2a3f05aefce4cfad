//! When timers come, and when they do not.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use reactor::simulated::{World, WorldOptions};
use reactor::{IntervalGuard, Reactor, TimerId};

use crate::parts::count_turns;
use crate::stage::{everywhere, on_the_real_network, turn_for, turn_until};

type Log = Vec<u32>;

fn number(number: u32) -> impl FnOnce(&mut Log, &mut Reactor<Log>) {
    move |log, _| log.push(number)
}

const fn millis(count: u32) -> Duration {
    Duration::from_millis(count as u64)
}

#[test]
fn equal_times_come_in_the_order_they_were_added() {
    everywhere(|mut reactor: Reactor<Log>, _| {
        let at = reactor.now() + millis(2);
        for count in 0..100 {
            reactor.add_timer(at, number(count));
        }
        let mut log = Log::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 100);
        assert!(log.iter().copied().eq(0..100));
    });
}

#[test]
fn they_come_by_their_times_whatever_the_order_they_were_added_in() {
    everywhere(|mut reactor: Reactor<Log>, _| {
        let began = reactor.now();
        // Every number once, in no order.
        for count in (0..1000).map(|count| count * 7919 % 1000) {
            let at = began + Duration::from_micros(u64::from(count) * 10);
            reactor.add_timer(at, move |log: &mut Log, reactor| {
                assert!(reactor.now() >= at);
                log.push(count);
            });
        }
        let mut log = Log::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 1000);
        assert!(log.is_sorted());
    });
}

#[test]
fn one_may_take_back_another_that_is_due_too() {
    everywhere(|mut reactor: Reactor<Log>, _| {
        let at = reactor.now();
        let later = Rc::new(Cell::new(None::<TimerId>));
        let victim = Rc::clone(&later);
        reactor.add_timer(at, move |_, reactor| {
            assert!(reactor.cancel_timer(victim.get().unwrap()));
            assert!(!reactor.cancel_timer(victim.get().unwrap()));
        });
        reactor.add_timer(at, number(1));
        later.set(Some(reactor.add_timer(at, number(2))));
        reactor.add_timer(at, number(3));
        let mut log = Log::new();
        turn_for(&mut reactor, &mut log, millis(5));
        assert_eq!(log, [1, 3]);
    });
}

#[test]
fn to_take_back_one_that_has_come_does_nothing_even_to_its_heir() {
    everywhere(|mut reactor: Reactor<Log>, _| {
        let own = Rc::new(Cell::new(None::<TimerId>));
        let shared = Rc::clone(&own);
        let timer = reactor.add_timer(reactor.now(), move |log: &mut Log, reactor| {
            assert!(!reactor.cancel_timer(shared.get().unwrap()), "it has come");
            log.push(1);
        });
        own.set(Some(timer));
        let mut log = Log::new();
        turn_until(&mut reactor, &mut log, |log| log == &[1]);
        // Perhaps in the same place.
        let heir = reactor.add_timer(reactor.now() + millis(1), number(2));
        assert!(heir != timer && !reactor.cancel_timer(timer));
        turn_until(&mut reactor, &mut log, |log| log == &[1, 2]);
    });
}

#[test]
fn a_guard_takes_its_timer_back_and_lets_go_of_what_it_held() {
    everywhere(|mut reactor: Reactor<Log>, _| {
        let (held, at) = (Rc::new(()), reactor.now() + millis(1));
        let callback = Rc::clone(&held);
        let dropped = reactor.guard_timer(at, move |_, _| panic!("{callback:?}"));
        let kept = reactor.guard_timer(at, number(1));
        reactor.guard_timer(at, number(2)).detach();
        drop(dropped);
        let mut log = Log::new();
        turn_for(&mut reactor, &mut log, millis(5));
        assert_eq!((log.as_slice(), Rc::strong_count(&held)), (&[1, 2][..], 1));
        // Too late to do anything, also when it outlives the loop.
        drop(reactor);
        drop(kept);
    });
}

#[test]
fn a_guard_may_be_dropped_within_its_own_call_and_another_s() {
    everywhere(|mut reactor: Reactor<Log>, _| {
        let guards = Rc::new(RefCell::new(Vec::new()));
        let at = reactor.now();
        for count in 0..3 {
            let all = Rc::clone(&guards);
            guards.borrow_mut().push(reactor.guard_timer(at, move |log: &mut Log, _| {
                log.push(count);
                all.borrow_mut().clear();
            }));
        }
        let mut log = Log::new();
        turn_for(&mut reactor, &mut log, millis(5));
        assert_eq!(log, [0]);
    });
}

#[test]
fn timers_that_were_taken_back_wake_nobody() {
    everywhere(|mut reactor: Reactor<Log>, _| {
        let began = reactor.now();
        let timers: Vec<_> =
            (1..200).map(|count| reactor.add_timer(began + millis(count), number(0))).collect();
        let guards: Vec<_> =
            (1..200).map(|count| reactor.guard_timer(began + millis(count), number(0))).collect();
        assert!(reactor.next_wake().is_some());
        for timer in timers {
            assert!(reactor.cancel_timer(timer));
        }
        drop(guards);
        let mut log = Log::new();
        let turns = count_turns(&mut reactor, &mut log, millis(50));
        // One to sweep away what the guards left, one to wait, and one should the wait end early.
        assert!(turns <= 3 && log.is_empty(), "{turns} turns");
        assert_eq!(reactor.next_wake(), None);
    });
}

#[test]
fn a_loop_sleeps_once_for_each_time_that_something_is_due() {
    let host = World::new(1, WorldOptions::default()).host(&[]);
    let mut reactor = Reactor::simulated(host);
    let began = reactor.now();
    // From far below a millisecond to days.
    for exponent in 1..40 {
        reactor.add_timer(began + Duration::from_micros(1 << exponent), number(exponent));
    }
    let (mut log, mut turns) = (Log::new(), 0);
    while log.len() < 39 {
        reactor.turn(&mut log, None).unwrap();
        turns += 1;
    }
    // A turn waits first and is called for after: one more to come to the last.
    assert!(log.is_sorted() && turns <= 40, "{turns} turns");
}

#[test]
fn what_came_due_while_another_was_slow_does_not_wait() {
    on_the_real_network(|mut reactor: Reactor<Log>, _| {
        let began = reactor.now();
        reactor.add_timer(began + millis(1), |_, _| sleep(millis(20)));
        reactor.add_timer(began + millis(10), move |log: &mut Log, reactor| {
            // The clock has been read since.
            assert!(reactor.now() >= began + millis(21));
            log.push(1);
        });
        reactor.add_timer(began + WATCHDOG, number(2));
        let mut log = Log::new();
        assert!(reactor.run_until(&mut log, |log| !log.is_empty()).unwrap());
        assert_eq!(log, [1]);
    });
}

/// Calls at `first` and every `EVERY` from then on, and logs which of these times is over.
fn add_interval(
    reactor: &mut Reactor<Log>,
    first: Instant,
    mut act: impl FnMut(u32) + 'static,
) -> IntervalGuard {
    reactor.add_interval(first, EVERY, move |log: &mut Log, reactor| {
        let over = reactor.now().checked_duration_since(first).expect("not before its time");
        let count = (over.as_nanos() / EVERY.as_nanos()) as u32;
        log.push(count);
        act(count);
    })
}

#[test]
fn an_interval_keeps_its_rhythm_until_its_guard_is_dropped() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let first = reactor.now() + millis(1);
        let guard = add_interval(&mut reactor, first, |_| {});
        let mut log = Log::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 10);
        // On a busy machine some are left out; none comes twice.
        assert!(log.is_sorted_by(|a, b| a < b), "{log:?}");
        if !ip.is_loopback() {
            assert!(log.iter().copied().eq(0..10), "{log:?}");
        }
        drop(guard);
        turn_for(&mut reactor, &mut log, 3 * EVERY);
        assert_eq!((log.len(), reactor.next_wake()), (10, None));
    });
}

#[test]
fn an_interval_that_is_held_up_leaves_out_what_it_missed() {
    on_the_real_network(|mut reactor: Reactor<Log>, _| {
        let first = reactor.now();
        let guard = add_interval(&mut reactor, first, |count| {
            if count == 0 {
                sleep(5 * EVERY + EVERY / 2);
            }
        });
        let mut log = Log::new();
        turn_until(&mut reactor, &mut log, |log| log.len() >= 4);
        // One comes late, and then again all in their time.
        assert!(log.is_sorted_by(|a, b| a < b), "{log:?}");
        assert!(log[0] > 0 || log[1] >= 5, "{log:?}");
        drop(guard);
    });
}

#[test]
fn an_interval_may_end_within_its_own_call_and_goes_on_after_a_panic() {
    everywhere(|mut reactor: Reactor<Log>, _| {
        let own = Rc::new(RefCell::new(None));
        let guard = Rc::clone(&own);
        let mut calls = 0;
        let first = reactor.now();
        *own.borrow_mut() = Some(reactor.add_interval(first, EVERY, move |log: &mut Log, _| {
            calls += 1;
            log.push(calls);
            match calls {
                1 => std::panic::resume_unwind(Box::new("on purpose")),
                3 => drop(guard.take()),
                _ => {}
            }
        }));
        let mut log = Log::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 3);
        turn_for(&mut reactor, &mut log, 3 * EVERY);
        assert_eq!(log, [1, 2, 3]);
    });
}

#[test]
fn very_many_may_be_added_and_taken_back() {
    everywhere(|mut reactor: Reactor<Log>, _| {
        let began = reactor.now();
        let timers: Vec<_> = (0..20_000_u32)
            .map(|count| reactor.add_timer(began + millis(count * 7919 % 100_000), number(count)))
            .collect();
        timers.into_iter().for_each(|timer| assert!(reactor.cancel_timer(timer)));
        assert_eq!(reactor.next_wake(), None);
    });
}

#[test]
fn a_short_time_is_not_rounded_up_to_a_millisecond() {
    on_the_real_network(|mut reactor: Reactor<u32>, _| {
        // However busy the machine is, one of so many comes in time.
        let late = (1..=100).map(|round| {
            let at = reactor.now() + Duration::from_micros(100);
            reactor.add_timer(at, |count, _| *count += 1);
            let mut count = 0;
            assert!(reactor.run_until(&mut count, |count| *count == 1).unwrap(), "{round}");
            reactor.now() - at
        });
        let least = late.min().unwrap();
        assert!(least < Duration::from_micros(500), "{least:?}");
    });
}

const EVERY: Duration = millis(4);
/// Nothing takes so long that does not wait for something else.
const WATCHDOG: Duration = Duration::from_secs(30);
