//! The loop itself: how it waits, how it ends, and who is called in a turn.

use std::cell::Cell;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use reactor::simulated::{World, WorldOptions};
use reactor::{ListenOptions, Reactor, Token};

use crate::parts::pair;
use crate::stage::{
    Door, everywhere, on_the_real_network, read, script, serve, turn_for, turn_until,
};

#[test]
fn a_loop_with_nothing_to_do_turns_once_in_the_time_that_it_may_wait() {
    everywhere(|mut reactor: Reactor<u32>, ip| {
        reactor.set_max_wait(Some(MAX_WAIT));
        let hook = reactor.on_turn_end(|turns, reactor| {
            *turns += 1;
            if *turns == 4 {
                reactor.stop();
            }
        });
        let (began, mut turns) = (reactor.now(), 0);
        reactor.run(&mut turns).unwrap();
        let took = reactor.now() - began;
        assert!(turns == 4 && took >= 4 * MAX_WAIT, "{turns} turns in {took:?}");
        if is_simulated(ip) {
            assert!(took < 4 * MAX_WAIT + TURNS_TAKE, "{took:?}");
        }
        drop(hook);
    });
}

#[test]
fn the_shorter_of_two_limits_to_a_wait_counts() {
    let mut reactor = Reactor::simulated(World::new(1, WorldOptions::default()).host(&[]));
    for (max_wait, wait_max) in [(2, 30), (30, 2)] {
        reactor.set_max_wait(Some(Duration::from_secs(max_wait)));
        let began = reactor.now();
        reactor.turn(&mut (), Some(Duration::from_secs(wait_max))).unwrap();
        let took = reactor.now() - began;
        assert!((2.0..2.1).contains(&took.as_secs_f64()), "{took:?}");
    }
}

#[test]
fn a_limit_to_waits_hides_no_timer() {
    everywhere(|mut reactor: Reactor<Vec<u32>>, _| {
        reactor.set_max_wait(Some(WATCHDOG));
        let began = reactor.now();
        for number in [3, 1, 2] {
            let at = began + number * Duration::from_millis(1);
            reactor.add_timer(at, move |log: &mut Vec<u32>, _| log.push(number));
        }
        let mut log = Vec::new();
        assert!(reactor.run_until(&mut log, |log| log.len() == 3).unwrap());
        assert!(reactor.now() - began < WATCHDOG);
        assert_eq!(log, [1, 2, 3]);
    });
}

#[test]
fn every_hook_is_called_in_every_turn_also_when_one_ends_the_loop() {
    everywhere(|mut reactor: Reactor<Vec<&str>>, _| {
        reactor.set_max_wait(Some(Duration::ZERO));
        let first = reactor.on_turn_end(|log: &mut Vec<&str>, _| log.push("first"));
        let second = reactor.on_turn_end(|log, reactor| {
            log.push("second");
            if log.len() >= 5 {
                reactor.stop();
            }
        });
        reactor.on_turn_end(|log, _| log.push("third")).detach();
        let mut log = Vec::new();
        reactor.run(&mut log).unwrap();
        assert_eq!(log, ["first", "second", "third"].repeat(2));
        drop((first, second));
        log.clear();
        reactor.turn(&mut log, None).unwrap();
        assert_eq!(log, ["third"]);
    });
}

#[test]
fn a_hook_may_be_added_and_taken_back_within_a_hook() {
    everywhere(|mut reactor: Reactor<Vec<&str>>, _| {
        reactor.set_max_wait(Some(Duration::ZERO));
        let own = Rc::new(Cell::new(None));
        let guard = Rc::clone(&own);
        own.set(Some(reactor.on_turn_end(move |log: &mut Vec<&str>, reactor| {
            log.push("once");
            drop(guard.take());
            reactor.on_turn_end(|log, _| log.push("from now on")).detach();
        })));
        let mut log = Vec::new();
        for _ in 0..3 {
            reactor.turn(&mut log, None).unwrap();
        }
        assert_eq!(log, ["once", "from now on", "from now on"]);
    });
}

#[test]
fn run_until_says_whether_it_was_done_or_stopped() {
    everywhere(|mut reactor: Reactor<u32>, _| {
        reactor.set_max_wait(Some(Duration::ZERO));
        reactor.on_turn_end(|turns, _| *turns += 1).detach();
        let mut turns = 0;
        assert!(reactor.run_until(&mut turns, |turns| *turns == 3).unwrap());
        assert_eq!(turns, 3);
        reactor.stop();
        assert!(!reactor.run_until(&mut turns, |_| false).unwrap());
        assert_eq!(turns, 4);
        // A stop ends one run. The next is a new beginning.
        assert!(reactor.run_until(&mut turns, |turns| *turns == 6).unwrap());
    });
}

#[test]
fn a_loop_knows_what_carries_it() {
    assert_eq!(Reactor::<()>::new().unwrap().backend(), "epoll");
    let host = World::new(1, WorldOptions::default()).host(&[]);
    assert_eq!(Reactor::<()>::simulated(host).backend(), "simulated");
}

#[test]
fn a_loop_counts_its_sockets_and_ends_them_all_with_itself() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        assert!(reactor.is_empty());
        let door = Door(|_, (): &mut (), _: &mut Reactor<()>| {});
        let addr = SocketAddr::new(ip, 0);
        reactor.listen(addr, &ListenOptions::default(), Box::new(door)).unwrap();
        assert_eq!(reactor.len(), 1);
        let held = Rc::new(());
        let holder = || {
            let held = Rc::clone(&held);
            script().closed(move |_, _, (), _| panic!("{held:?}")).boxed()
        };
        let (here, there) = pair(&mut reactor, &mut (), ip, holder(), holder());
        let tokens = reactor.tokens();
        assert!(reactor.len() == 3 && tokens.contains(&here) && tokens.contains(&there));
        // What stood there for its sake goes with it, untold.
        reactor.add_timer(reactor.now() + WATCHDOG, {
            let held = Rc::clone(&held);
            move |_, _| drop(held)
        });
        drop(reactor);
        assert_eq!(Rc::strong_count(&held), 1);
    });
}

#[test]
fn the_sockets_of_a_loop_that_is_dropped_are_closed() {
    on_the_real_network(|mut reactor: Reactor<usize>, ip| {
        let addr = serve(&mut reactor, ip, script);
        let mut client = TcpStream::connect(addr).unwrap();
        turn_until(&mut reactor, &mut 0, |_| true);
        while reactor.len() < 2 {
            reactor.turn(&mut 0, Some(Duration::from_millis(10))).unwrap();
        }
        drop(reactor);
        assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);
        TcpStream::connect(addr).unwrap_err();
    });
}

#[derive(Default)]
struct Race {
    tokens: Vec<Token>,
    called: Vec<Token>,
    closed: Vec<Token>,
}

#[test]
fn one_that_another_closes_in_the_same_turn_is_not_called_any_more() {
    everywhere(|mut reactor: Reactor<Race>, ip| {
        for _ in 0..10 {
            let mut race = Race::default();
            let racer = || {
                script()
                    .readable(|token, race: &mut Race, reactor| {
                        race.called.push(token);
                        let other = race.tokens.iter().find(|other| **other != token).unwrap();
                        reactor.close(*other, "lost the race");
                        read(token, reactor).map(drop)
                    })
                    .closed(|token, _, race, _| race.closed.push(token))
            };
            let mut one = || {
                let (writer, racer) =
                    pair(&mut reactor, &mut race, ip, script().boxed(), racer().boxed());
                reactor.pause(racer);
                reactor.write(writer, "go").unwrap();
                racer
            };
            let tokens = vec![one(), one()];
            turn_for(&mut reactor, &mut race, Duration::from_millis(5));
            race.tokens.clone_from(&tokens);
            tokens.iter().for_each(|token| reactor.resume(*token));
            turn_until(&mut reactor, &mut race, |race| !race.closed.is_empty());
            turn_for(&mut reactor, &mut race, Duration::from_millis(5));
            assert_eq!((race.called.len(), race.closed.len()), (1, 1));
            assert_ne!(race.called, race.closed);
            reactor.close(race.called[0], "won");
            turn_for(&mut reactor, &mut race, Duration::from_millis(5));
        }
    });
}

type Talk = Vec<&'static str>;
type Wish = fn(&mut Reactor<Talk>, Token, Token);

/// What a program may ask for in a timer or at the end of a turn, with `there` at the other end of `here`.
const WISHES: [Wish; 5] = [
    |reactor, here, _| reactor.close(here, "over"),
    |reactor, here, _| reactor.unread(here, "once more").unwrap(),
    |reactor, _, there| assert!(reactor.write(there, "hello").is_ok()),
    |reactor, here, _| reactor.notify_writable(here),
    |reactor, _, _| reactor.stop(),
];

#[test]
fn what_a_timer_asks_for_waits_for_nothing_else() {
    everywhere(|mut reactor: Reactor<Talk>, ip| {
        for wish in WISHES {
            let (mut log, began) = (Vec::new(), reactor.now());
            let (here, there) = talkers(&mut reactor, &mut log, ip);
            let at = reactor.now() + Duration::from_millis(2);
            reactor.add_timer(at, move |_, reactor| wish(reactor, here, there));
            await_wish(&mut reactor, &mut log);
            assert!(reactor.now() - began < WATCHDOG);
        }
    });
}

#[test]
fn what_a_hook_asks_for_waits_for_nothing_else() {
    everywhere(|mut reactor: Reactor<Talk>, ip| {
        for wish in WISHES {
            let (mut log, began) = (Vec::new(), reactor.now());
            let (here, there) = talkers(&mut reactor, &mut log, ip);
            let mut has_asked = false;
            let hook = reactor.on_turn_end(move |_, reactor| {
                if !std::mem::replace(&mut has_asked, true) {
                    wish(reactor, here, there);
                }
            });
            // So that there is a turn to begin with.
            reactor.add_timer(reactor.now(), |_, _| {});
            await_wish(&mut reactor, &mut log);
            assert!(reactor.now() - began < WATCHDOG);
            drop(hook);
        }
    });
}

/// Two that log what they hear, each of them alone.
fn talkers(reactor: &mut Reactor<Talk>, log: &mut Talk, ip: IpAddr) -> (Token, Token) {
    let talker = script()
        .readable(|token, log: &mut Talk, reactor| {
            log.push("readable");
            read(token, reactor).map(drop)
        })
        .writable(|_, log, _| {
            log.push("writable");
            Ok(())
        })
        .closed(|_, _, log, _| log.push("closed"));
    pair(reactor, log, ip, talker.boxed(), script().boxed())
}

/// Nothing but the wish can end this before the watchdog does.
fn await_wish(reactor: &mut Reactor<Talk>, log: &mut Talk) {
    let watchdog = reactor.guard_timer(reactor.now() + WATCHDOG, |log: &mut Talk, _| {
        log.push("too late");
    });
    // A stop ends it without a word.
    reactor.run_until(log, |log| !log.is_empty()).unwrap();
    assert!(!log.contains(&"too late"));
    drop(watchdog);
}

/// The hosts of simulated worlds have addresses of their own.
fn is_simulated(ip: IpAddr) -> bool {
    !ip.is_loopback()
}

const MAX_WAIT: Duration = Duration::from_millis(25);
/// In a simulation a few turns take no longer than this.
const TURNS_TAKE: Duration = Duration::from_millis(1);
/// Nothing takes so long that does not wait for something else.
const WATCHDOG: Duration = Duration::from_secs(30);
