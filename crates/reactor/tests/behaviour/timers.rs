//! Timers and deadlines.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reactor::simulated::{World, WorldOptions};
use reactor::{ConnectOptions, Reactor, Reason, TimerId};

use crate::stage::{echo, everywhere, script, serve, turn_for, turn_until};

#[test]
fn they_fire_in_order_and_cancelled_ones_never() {
    everywhere(|mut reactor: Reactor<Vec<u64>>, _| {
        let now = reactor.now();
        let mut timer = |millis: u64| {
            reactor.add_timer(
                now + Duration::from_millis(millis),
                move |log: &mut Vec<u64>, reactor| {
                    assert!(reactor.now() >= now + Duration::from_millis(millis));
                    log.push(millis);
                },
            )
        };
        let timers: Vec<TimerId> = [7, 3, 9, 1, 3, 5].into_iter().map(&mut timer).collect();
        assert!(reactor.cancel_timer(timers[0]) && !reactor.cancel_timer(timers[0]));
        let five = timers[5];
        reactor.add_timer(now + Duration::from_millis(4), move |_, reactor| {
            assert!(reactor.cancel_timer(five));
        });
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| log.contains(&9));
        assert_eq!(log, [1, 3, 3, 9]);
        assert!(!reactor.cancel_timer(timers[1]));
    });
}

#[test]
fn a_chain_of_due_timers_takes_one_turn_each() {
    everywhere(|mut reactor: Reactor<usize>, _| {
        fn again(count: &mut usize, reactor: &mut Reactor<usize>) {
            *count += 1;
            reactor.add_timer(reactor.now(), again);
        }
        reactor.add_timer(reactor.now(), again);
        let mut count = 0;
        for turns in 1..50 {
            reactor.turn(&mut count, None).unwrap();
            assert_eq!(count, turns);
        }
    });
}

#[test]
fn a_connection_ends_at_its_deadline_and_not_at_one_that_was_moved() {
    everywhere(|mut reactor: Reactor<Vec<(&str, Instant)>>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let mut connect = |name| {
            let client = script()
                .connected(move |_, log: &mut Vec<(&str, Instant)>, reactor| {
                    log.push((name, reactor.now()));
                    Ok(())
                })
                .closed(move |_, reason, log, reactor| {
                    assert!(matches!(reason, Reason::Timeout), "{reason}");
                    log.push((name, reactor.now()));
                });
            reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap()
        };
        let [early, late, never] = ["early", "late", "never"].map(&mut connect);
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 3);
        log.clear();
        let [one, two, three, far] =
            [1, 2, 3, 1_000_000].map(|millis| reactor.now() + Duration::from_millis(millis));
        for (token, at) in [(late, one), (never, two), (early, two), (late, three), (never, far)] {
            reactor.set_deadline(token, Some(at));
        }
        turn_until(&mut reactor, &mut log, |log| log.len() == 2);
        reactor.set_deadline(never, None);
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        // On a busy machine both may be due in one turn, and end there in any order.
        log.sort_unstable();
        let [("early", ended), ("late", ended_late)] = log[..] else { panic!("{log:?}") };
        assert!(ended >= two && ended_late >= three);
        assert!(ended < three || reactor.backend() != "simulated");
    });
}

#[test]
fn nobody_waits_for_ever_to_connect() {
    let here = [10, 0, 0, 1].into();
    let host = World::new(1, WorldOptions::default()).host(&[here]);
    let mut reactor: Reactor<Vec<String>> = Reactor::simulated(host);
    let welcome = serve(&mut reactor, here, echo);
    let options = ConnectOptions { timeout: Duration::from_secs(3), ..ConnectOptions::default() };
    let began = reactor.now();
    let mut log = Vec::new();
    for addr in [SocketAddr::from(([10, 0, 0, 99], 80)), welcome] {
        let client = script().closed(move |_, reason, log: &mut Vec<String>, reactor| {
            assert!(reactor.now() >= began + Duration::from_secs(3));
            log.push(format!("{addr} {reason}"));
        });
        reactor.connect(addr, &options, client.boxed()).unwrap();
    }
    turn_for(&mut reactor, &mut log, Duration::from_secs(100));
    assert_eq!(log, ["10.0.0.99:80 timed out"]);
}

#[test]
fn a_reactor_with_nothing_to_wait_for_says_so_in_a_simulation() {
    let host = World::new(1, WorldOptions::default()).host(&[]);
    let mut reactor: Reactor<()> = Reactor::simulated(host);
    assert_eq!(reactor.run(&mut ()).unwrap_err().kind(), io::ErrorKind::Other);
}
