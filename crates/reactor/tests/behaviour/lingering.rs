//! Closing in good order: what was written arrives, whatever the peer still sends.

use std::time::Duration;

use reactor::simulated::{Node, World, WorldOptions};
use reactor::{Direction, Rate, Reactor};

use crate::parts::{HERE, THERE, count_turns, far_pair, few_turns, pair};
use crate::stage::{Script, everywhere, noise, read, script, turn_until};

#[derive(Default)]
struct Log {
    received: Vec<u8>,
    /// Who ended, and why.
    endings: Vec<String>,
}

fn collector(name: &'static str) -> Script<Log> {
    script()
        .readable(|token, log: &mut Log, reactor| {
            log.received.extend(read(token, reactor)?);
            Ok(())
        })
        .closed(move |_, reason, log, _| log.endings.push(format!("{name}: {reason}")))
}

#[test]
fn input_that_nobody_read_does_not_turn_the_end_into_a_reset() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let server = collector("server").readable(|_, _, _| Ok(()));
        let (here, there) =
            pair(&mut reactor, &mut log, ip, collector("client").boxed(), server.boxed());
        reactor.write(here, noise(100_000)).unwrap();
        reactor.write(there, noise(400_000)).unwrap();
        reactor.close_after_flush(there, Duration::from_secs(9));
        turn_until(&mut reactor, &mut log, |log| log.endings.len() == 2);
        log.endings.sort();
        assert_eq!(log.endings, ["client: the peer is done", "server: flushed"]);
        assert!(log.received == noise(400_000));
    });
}

#[test]
fn what_the_peer_sends_after_the_end_does_no_harm() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        // It has a last word for whoever is leaving.
        let client = collector("client").readable(|token, log: &mut Log, reactor| {
            log.received.extend(read(token, reactor)?);
            reactor.write(token, noise(50_000)).ok();
            Ok(())
        });
        let server =
            collector("server").readable(|token, _, reactor| read(token, reactor).map(drop));
        let (_, there) = pair(&mut reactor, &mut log, ip, client.boxed(), server.boxed());
        reactor.write(there, noise(400_000)).unwrap();
        reactor.close_after_flush(there, Duration::from_secs(9));
        turn_until(&mut reactor, &mut log, |log| log.endings.len() == 2);
        log.endings.sort();
        assert_eq!(log.endings, ["client: the peer is done", "server: flushed"]);
        assert!(log.received == noise(400_000));
        assert!(reactor.closing().is_empty());
    });
}

#[test]
fn a_peer_that_never_ends_is_waited_for_two_seconds_and_no_longer() {
    for seed in 0..10 {
        let world = World::new(seed, WorldOptions::default());
        let mut here = Node::new(world.host(&[HERE]), Log::default());
        let mut there = Node::new(world.host(&[THERE]), Log::default());
        let client = script().readable(|token, log: &mut Log, reactor| {
            let mut bytes = [0; 999];
            if let reactor::Read::Data(count) = reactor.read(token, &mut bytes)? {
                log.received.extend_from_slice(&bytes[..count]);
            }
            Ok(())
        });
        let handlers = (client.boxed(), collector("server").boxed());
        let (_, server) = far_pair(&world, (&mut here, &mut there), handlers);
        there.reactor.write(server, "goodbye").unwrap();
        there.reactor.close_after_flush(server, Duration::from_secs(30));
        let sent_at = world.elapsed();
        assert_eq!(there.reactor.closing(), [server]);
        while there.state.endings.is_empty() {
            assert!(world.step(&mut [&mut here, &mut there]));
        }
        let took = world.elapsed() - sent_at;
        assert!((2000..2002).contains(&took.as_millis()), "{took:?}");
        assert_eq!(there.state.endings, ["server: flushed"]);
        assert_eq!(here.state.received, b"goodbye");
    }
}

#[test]
fn a_queue_that_does_not_empty_is_given_up_at_the_deadline() {
    for seed in 0..10 {
        let world = World::new(seed, WorldOptions::default());
        let mut here = Node::new(world.host(&[HERE]), Log::default());
        let mut there = Node::new(world.host(&[THERE]), Log::default());
        let handlers = (collector("client").boxed(), collector("server").boxed());
        let (client, server) = far_pair(&world, (&mut here, &mut there), handlers);
        here.reactor.pause(client);
        there.reactor.write(server, noise(2_000_000)).unwrap();
        there.reactor.close_after_flush(server, Duration::from_millis(700));
        let asked_at = world.elapsed();
        while there.state.endings.is_empty() {
            assert!(world.step(&mut [&mut here, &mut there]));
        }
        let took = world.elapsed() - asked_at;
        assert!((700..702).contains(&took.as_millis()), "{took:?}");
        assert_eq!(there.state.endings, ["server: timed out"]);
    }
}

#[test]
fn a_rate_limit_on_one_that_lingers_keeps_no_loop_busy() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, there) =
            pair(&mut reactor, &mut log, ip, script().boxed(), collector("server").boxed());
        let slow = Rate { bytes_per_second: 1000, burst: 1000 };
        reactor.set_rate(there, Direction::Read, Some(slow));
        reactor.write(here, noise(60_000)).unwrap();
        reactor.pause(here);
        reactor.close_after_flush(there, Duration::from_secs(9));
        let a_while = Duration::from_millis(300);
        let turns = count_turns(&mut reactor, &mut log, a_while);
        assert_eq!(reactor.closing(), [there]);
        assert!(turns < few_turns(a_while), "{turns} turns");
    });
}
