//! What is asked for is done before the loop sleeps, wherever it was asked for.

use std::cell::RefCell;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use reactor::{Reactor, TimerGuard, TimerId, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::parts::{count_turns, pair};
use crate::stage::{everywhere, on_the_real_network, read, script, turn_for};

/// Longer than anything may take that does not wait for something that never comes.
const FOR_EVER: Duration = Duration::from_secs(30);

type Log = Vec<&'static str>;
type Act = fn(Token, &mut Reactor<Log>);

/// What may be asked for, and what is to follow from it.
const ACTS: [(Act, &str); 5] = [
    (|token, reactor| reactor.close(token, "enough"), "the other end is over"),
    (|token, reactor| reactor.close_after_flush(token, FOR_EVER), "the other end is over"),
    (|token, reactor| reactor.unread(token, "again").unwrap(), "readable"),
    (|token, reactor| reactor.write(token, "word").map(drop).unwrap(), "the other end has read"),
    (|token, reactor| reactor.notify_writable(token), "writable"),
];

struct Here;

impl reactor::Handler<Log> for Here {
    fn readable(
        &mut self,
        token: Token,
        log: &mut Log,
        reactor: &mut Reactor<Log>,
    ) -> Result<(), reactor::HandlerError> {
        if !read(token, reactor)?.is_empty() {
            log.push("readable");
        }
        Ok(())
    }

    fn writable(
        &mut self,
        _: Token,
        log: &mut Log,
        _: &mut Reactor<Log>,
    ) -> Result<(), reactor::HandlerError> {
        log.push("writable");
        Ok(())
    }

    fn closed(&mut self, _: Token, _: reactor::Reason, _: &mut Log, _: &mut Reactor<Log>) {}
}

/// Has `ask` see to it that something is done from within a callback, when nothing else goes on, and
/// expects the loop not to sleep on it.
fn done_at_once(ask: impl Fn(&mut Reactor<Log>, Box<dyn FnOnce(&mut Reactor<Log>)>)) {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        for (act, effect) in ACTS {
            let mut log = Log::new();
            let there = script()
                .readable(|token, log: &mut Log, reactor| {
                    if !read(token, reactor)?.is_empty() {
                        log.push("the other end has read");
                    }
                    Ok(())
                })
                .closed(|_, _, log, _| log.push("the other end is over"));
            let (here, there) = pair(&mut reactor, &mut log, ip, Box::new(Here), there.boxed());
            turn_for(&mut reactor, &mut log, Duration::from_millis(20));
            assert!(log.is_empty(), "{log:?}");
            ask(&mut reactor, Box::new(move |reactor| act(here, reactor)));
            let asked_at = reactor.now();
            while log.is_empty() {
                reactor.turn(&mut log, Some(FOR_EVER)).unwrap();
            }
            assert_eq!(log, [effect]);
            assert!(reactor.now() < asked_at + FOR_EVER / 2, "{effect}");
            reactor.close(here, "over");
            reactor.close(there, "over");
            turn_for(&mut reactor, &mut log, Duration::from_millis(1));
        }
    });
}

#[test]
fn what_a_timer_asks_for_is_done_before_the_loop_sleeps() {
    done_at_once(|reactor, act| {
        let at = reactor.now() + Duration::from_millis(1);
        reactor.add_timer(at, move |_, reactor| act(reactor));
    });
}

#[test]
fn what_a_hook_asks_for_is_done_before_the_loop_sleeps() {
    done_at_once(|reactor, act| {
        let mut act = Some(act);
        let hook = reactor.on_turn_end(move |_: &mut Log, reactor| {
            if let Some(act) = act.take() {
                act(reactor);
            }
        });
        hook.detach();
        // So that there is a turn.
        reactor.remote().wake();
    });
}

#[test]
fn what_a_post_asks_for_is_done_before_the_loop_sleeps() {
    done_at_once(|reactor, act| {
        // Only what is `Send` is posted; a timer without a delay is not far from it.
        let at = reactor.now();
        reactor.add_timer(at, move |_, reactor| {
            let act = RefCell::new(Some(act));
            reactor.resolve("127.0.0.1", 1, move |_, _, reactor| act.take().unwrap()(reactor));
        });
    });
}

#[test]
fn a_loop_stops_wherever_it_is_told_to() {
    everywhere(|mut reactor: Reactor<u32>, _| {
        reactor.add_timer(reactor.now(), |_, reactor| reactor.stop());
        reactor.run(&mut 0).unwrap();
        let hook = reactor.on_turn_end(|_, reactor| reactor.stop());
        reactor.remote().wake();
        reactor.remote().post(|_, _| {}).unwrap();
        reactor.run(&mut 0).unwrap();
        drop(hook);
        reactor.remote().post(|_, reactor| reactor.stop()).unwrap();
        reactor.run(&mut 0).unwrap();
        // Before it runs at all.
        reactor.stop();
        reactor.run(&mut 0).unwrap();
    });
}

#[test]
fn timers_of_one_time_come_in_the_order_they_were_added_and_may_cancel_each_other() {
    everywhere(|mut reactor: Reactor<Vec<u32>>, _| {
        let at = reactor.now() + Duration::from_millis(3);
        let timers: Rc<RefCell<Vec<TimerId>>> = Rc::default();
        let guards: Rc<RefCell<Vec<TimerGuard>>> = Rc::default();
        for number in 0..10 {
            let (timers_too, guards_too) = (Rc::clone(&timers), Rc::clone(&guards));
            let timer = reactor.add_timer(at, move |log: &mut Vec<u32>, reactor| {
                log.push(number);
                let timers = timers_too.borrow();
                // Itself and one that came do not come again, a later one never.
                assert!(!reactor.cancel_timer(timers[number as usize]));
                assert!(!reactor.cancel_timer(timers[0]));
                if number == 4 {
                    assert!(reactor.cancel_timer(timers[6]) && !reactor.cancel_timer(timers[6]));
                    guards_too.borrow_mut().clear();
                }
            });
            timers.borrow_mut().push(timer);
        }
        guards.borrow_mut().push(reactor.guard_timer(at, |log, _| log.push(99)));
        reactor.guard_timer(at, |log, _| log.push(10)).detach();
        let mut log = Vec::new();
        turn_for(&mut reactor, &mut log, Duration::from_millis(10));
        assert_eq!(log, [0, 1, 2, 3, 4, 5, 7, 8, 9, 10]);
    });
}

#[test]
fn timers_that_were_cancelled_wake_nobody() {
    everywhere(|mut reactor: Reactor<()>, _| {
        let cancelled = (1..20).map(|millis| {
            let at = reactor.now() + Duration::from_millis(millis);
            (reactor.add_timer(at, |(), _| {}), reactor.guard_timer(at, |(), _| {}))
        });
        let cancelled = Vec::from_iter(cancelled);
        for (timer, guard) in cancelled {
            assert!(reactor.cancel_timer(timer));
            drop(guard);
        }
        reactor.turn(&mut (), Some(Duration::ZERO)).unwrap();
        assert_eq!(reactor.next_wake(), None);
        // One that waits all the time, and perhaps one for what is left of it.
        let turns = count_turns(&mut reactor, &mut (), Duration::from_millis(30));
        assert!(turns <= 2, "{turns} turns");
    });
}

#[test]
fn what_came_due_during_a_slow_call_comes_right_after_it() {
    on_the_real_network(|mut reactor: Reactor<Vec<&str>>, _| {
        let now = reactor.now();
        reactor.add_timer(now, |log: &mut Vec<&str>, _| {
            std::thread::sleep(Duration::from_millis(30));
            log.push("slow");
        });
        reactor.add_timer(now + Duration::from_millis(10), |log, _| log.push("due"));
        let mut log = Vec::new();
        reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
        assert_eq!(log, ["slow", "due"]);
    });
}

#[test]
fn more_sockets_than_one_wait_tells_of_are_all_served_by_the_next() {
    const COUNT: usize = 1500;
    // Two descriptors each, and room for all other tests.
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(9000, |maximum| maximum.min(9000));
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    }
    if wanted < 4096 {
        return;
    }
    let mut reactor: Reactor<Vec<u8>> = Reactor::new().unwrap();
    let peers = (0..COUNT).map(|number| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let reader = script().readable(move |token, served: &mut Vec<u8>, reactor| {
            if let reactor::Read::Data(count) = reactor.read(token, &mut [0])? {
                served[number] += count as u8;
            }
            Ok(())
        });
        reactor.register(ours, reader.boxed()).unwrap();
        theirs.write_all(b"xx").unwrap();
        theirs
    });
    let peers = Vec::from_iter(peers);
    let mut served = vec![0; COUNT];
    for _ in 0..2 {
        reactor.turn(&mut served, None).unwrap();
    }
    assert!(served.iter().all(|count| *count >= 1));
    reactor.turn(&mut served, None).unwrap();
    assert!(served.iter().all(|count| *count == 2));
    drop(peers);
}
