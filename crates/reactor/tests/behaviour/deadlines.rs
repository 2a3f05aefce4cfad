//! Silence and deadlines, to the millisecond of simulated time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reactor::simulated::{Node, World, WorldOptions};
use reactor::{ConnectOptions, Reason};

use crate::parts::{HERE, THERE, far_pair};
use crate::stage::{Script, echo, read, script, serve};

const TICK: Duration = Duration::from_millis(1);

/// When bytes last went, and when and how it ended.
#[derive(Default)]
struct Log {
    alive_at: Option<Instant>,
    ending: Option<(Instant, String)>,
}

fn noting() -> Script<Log> {
    script()
        .readable(|token, log: &mut Log, reactor| {
            if !read(token, reactor)?.is_empty() {
                log.alive_at = Some(reactor.now());
            }
            Ok(())
        })
        .closed(|_, reason, log, reactor| {
            log.ending = Some((reactor.now(), reason.to_string()));
        })
}

/// Two nodes, the clock of which stands still between arrivals.
fn world(seed: u64) -> (World, Node<Log>, Node<Log>) {
    let world = World::new(seed, WorldOptions::default());
    let here = Node::new(world.host(&[HERE]), Log::default());
    let there = Node::new(world.host(&[THERE]), Log::default());
    (world, here, there)
}

#[test]
fn a_silent_connection_ends_to_the_millisecond() {
    for (seed, millis) in [1, 2, 7, 63, 64, 65, 1000, 65_537, 3_600_000].into_iter().enumerate() {
        let (world, mut here, mut there) = world(seed as u64);
        let handlers = (noting().boxed(), noting().boxed());
        let (client, _) = far_pair(&world, (&mut here, &mut there), handlers);
        world.run_for(&mut [&mut here, &mut there], Duration::from_micros(123_456));
        here.reactor.turn(&mut here.state, Some(Duration::ZERO)).unwrap();
        let silence = Duration::from_millis(millis);
        let from = here.reactor.now();
        here.reactor.set_idle_timeout(client, Some(silence));
        world.run_for(&mut [&mut here, &mut there], silence + Duration::from_secs(1));
        let (at, why) = here.state.ending.unwrap();
        assert_eq!(why, "timed out");
        let took = at - from;
        assert!(took >= silence && took <= silence + TICK, "{took:?} instead of {silence:?}");
    }
}

#[test]
fn every_byte_either_way_pushes_the_end_back() {
    for reads in [true, false] {
        for seed in 0..10 {
            let (world, mut here, mut there) = world(seed);
            let handlers = (noting().boxed(), noting().boxed());
            let (client, server) = far_pair(&world, (&mut here, &mut there), handlers);
            world.run_for(&mut [&mut here, &mut there], Duration::from_millis(50));
            let silence = Duration::from_millis(500);
            here.reactor.set_idle_timeout(client, Some(silence));
            for _ in 0..20 {
                if reads {
                    there.reactor.write(server, "still here").unwrap();
                } else {
                    here.reactor.write(client, "still here").unwrap();
                    here.reactor.turn(&mut here.state, Some(Duration::ZERO)).unwrap();
                    here.state.alive_at = Some(here.reactor.now());
                }
                world.run_for(&mut [&mut here, &mut there], Duration::from_millis(470));
                assert!(here.state.ending.is_none());
            }
            world.run_for(&mut [&mut here, &mut there], Duration::from_secs(1));
            let ((at, why), alive_at) = (here.state.ending.unwrap(), here.state.alive_at.unwrap());
            assert_eq!(why, "timed out");
            let took = at - alive_at;
            assert!(took >= silence - TICK && took <= silence + TICK, "{took:?}");
        }
    }
}

#[test]
fn activity_does_not_move_a_deadline_and_silence_is_no_longer_counted_if_not_wanted() {
    let (world, mut here, mut there) = world(3);
    let handlers = (noting().boxed(), noting().boxed());
    let (client, server) = far_pair(&world, (&mut here, &mut there), handlers);
    world.run_for(&mut [&mut here, &mut there], Duration::from_millis(50));
    here.reactor.set_idle_timeout(client, Some(Duration::from_millis(300)));
    here.reactor.set_idle_timeout(client, None);
    world.run_for(&mut [&mut here, &mut there], Duration::from_secs(2));
    assert!(here.state.ending.is_none());
    let deadline = world.now() + Duration::from_secs(2);
    here.reactor.set_deadline(client, Some(deadline));
    here.reactor.set_idle_timeout(client, Some(Duration::from_millis(900)));
    for _ in 0..9 {
        there.reactor.write(server, "still here").unwrap();
        world.run_for(&mut [&mut here, &mut there], Duration::from_millis(210));
    }
    world.run_for(&mut [&mut here, &mut there], Duration::from_millis(200));
    let (at, why) = here.state.ending.unwrap();
    assert_eq!(why, "timed out");
    assert!(at >= deadline && at <= deadline + TICK);
}

#[test]
fn one_that_is_not_answered_gives_up_when_it_was_told_to() {
    for millis in [1, 99, 3000] {
        let (world, mut here, mut there) = world(millis);
        let addr = serve(&mut there.reactor, THERE, echo);
        world.cut(HERE, THERE);
        let timeout = Duration::from_millis(millis);
        let options = ConnectOptions { timeout, ..ConnectOptions::default() };
        let began = here.reactor.now();
        here.reactor.connect(addr, &options, noting().boxed()).unwrap();
        world.run_for(&mut [&mut here, &mut there], Duration::from_secs(9));
        let (at, why) = here.state.ending.unwrap();
        assert_eq!(why, "timed out");
        assert!(at - began >= timeout && at - began <= timeout + TICK, "{:?}", at - began);
    }
}

#[test]
fn the_time_to_connect_does_not_end_what_stands() {
    let (world, mut here, mut there) = world(4);
    let addr: SocketAddr = serve(&mut there.reactor, THERE, echo);
    let timeout = Duration::from_millis(100);
    let options = ConnectOptions { timeout, ..ConnectOptions::default() };
    let client = noting().closed(|_, reason: Reason, _, _| panic!("{reason}"));
    here.reactor.connect(addr, &options, client.boxed()).unwrap();
    world.run_for(&mut [&mut here, &mut there], Duration::from_secs(100));
    assert_eq!(here.reactor.len(), 1);
}

#[test]
fn time_that_passed_outside_the_loop_is_not_counted() {
    let (world, mut here, mut there) = world(5);
    let addr: SocketAddr = serve(&mut there.reactor, THERE, echo);
    world.run_for(&mut [&mut there], Duration::from_secs(3600));
    let client = noting().boxed();
    let token = here.reactor.connect(addr, &ConnectOptions::default(), client).unwrap();
    world.run_for(&mut [&mut here, &mut there], Duration::from_secs(1));
    assert!(here.state.ending.is_none());
    world.run_for(&mut [&mut there], Duration::from_secs(3600));
    here.reactor.set_idle_timeout(token, Some(Duration::from_secs(10)));
    world.run_for(&mut [&mut here, &mut there], Duration::from_secs(1));
    assert!(here.state.ending.is_none());
    world.run_for(&mut [&mut there], Duration::from_secs(9));
    here.reactor.set_idle_timeout(token, None);
    here.reactor.write(token, "last words").unwrap();
    here.reactor.close_after_flush(token, Duration::from_secs(9));
    world.run_for(&mut [&mut here, &mut there], Duration::from_secs(1));
    assert_eq!(here.state.ending.unwrap().1, "flushed");
}
