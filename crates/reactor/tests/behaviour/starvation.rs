//! Budgets: how much of a turn one may have, counted.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::{Accepted, Budgets, ConnectOptions, ListenOptions, Reactor, Read, Token};

use crate::parts::pair;
use crate::stage::{Door, everywhere, noise, on_the_real_network, script, turn_for, turn_until};

const READ_LEN: usize = 1000;

/// How much each connection has read, and how often it was called.
type Shares = Vec<(usize, usize)>;

/// A connection that reads all it gets, and whose peer has sent it so many bytes. It is paused.
fn greedy(
    reactor: &mut Reactor<Shares>,
    shares: &mut Shares,
    ip: std::net::IpAddr,
    len: usize,
) -> Token {
    let number = shares.len();
    shares.push((0, 0));
    let reader = script().readable(move |token, shares: &mut Shares, reactor| {
        shares[number].1 += 1;
        while let Read::Data(count) = reactor.read(token, &mut [0; READ_LEN])? {
            shares[number].0 += count;
        }
        Ok(())
    });
    let (writer, reader) = pair(reactor, shares, ip, script().boxed(), reader.boxed());
    reactor.pause(reader);
    reactor.write(writer, noise(len)).unwrap();
    reader
}

#[test]
fn one_that_reads_until_nothing_is_left_gets_its_share_of_each_turn_and_so_do_all_others() {
    everywhere(|mut reactor: Reactor<Shares>, ip| {
        let budget = 4000;
        reactor.set_budgets(Budgets { read_bytes: budget as u32, ..Budgets::default() });
        let mut shares = Shares::new();
        let flooded: Vec<Token> =
            (0..5).map(|_| greedy(&mut reactor, &mut shares, ip, 50_000)).collect();
        let quiet = greedy(&mut reactor, &mut shares, ip, 1);
        turn_for(&mut reactor, &mut shares, Duration::from_millis(20));
        for token in flooded {
            reactor.resume(token);
        }
        for turn in 1..=10 {
            if turn == 5 {
                // It is served in the turn in which it is ready, behind all that flood.
                reactor.resume(quiet);
            }
            let before = shares.clone();
            reactor.turn(&mut shares, Some(Duration::ZERO)).unwrap();
            for (now, then) in shares.iter().zip(&before).take(5) {
                let read = now.0 - then.0;
                assert_eq!(now.1 - then.1, 1, "called once a turn");
                assert!(read > 0 && read < budget + READ_LEN, "{read} bytes");
            }
            assert_eq!(shares[5].1, usize::from(turn >= 5));
        }
        turn_until(&mut reactor, &mut shares, |shares| {
            shares.iter().map(|share| share.0).sum::<usize>() == 250_001
        });
    });
}

#[test]
fn a_quiet_one_waits_no_more_than_a_few_turns_beside_a_flood() {
    on_the_real_network(|mut reactor: Reactor<Shares>, ip| {
        let mut shares = Shares::new();
        for _ in 0..20 {
            let token = greedy(&mut reactor, &mut shares, ip, 1_000_000);
            reactor.resume(token);
        }
        let quiet = script().readable(|token, shares: &mut Shares, reactor| {
            reactor.read(token, &mut [0; 9])?;
            shares[0].1 = usize::MAX;
            Ok(())
        });
        let (pinger, _) = pair(&mut reactor, &mut shares, ip, script().boxed(), quiet.boxed());
        for _ in 0..20 {
            shares[0].1 = 0;
            reactor.write(pinger, "x").unwrap();
            // Written out at the end of the first, told by the kernel at the next.
            for _ in 0..3 {
                reactor.turn(&mut shares, Some(Duration::ZERO)).unwrap();
            }
            assert_eq!(shares[0].1, usize::MAX);
        }
    });
}

#[test]
fn a_listener_takes_in_its_share_of_a_turn_and_forgets_nobody() {
    everywhere(|mut reactor: Reactor<usize>, ip| {
        reactor.set_budgets(Budgets { accepts: 3, ..Budgets::default() });
        let door = Door(|accepted: Accepted, count: &mut usize, reactor: &mut Reactor<usize>| {
            reactor.attach(accepted, script().boxed()).unwrap();
            *count += 1;
        });
        let any = SocketAddr::new(ip, 0);
        let listener = reactor.listen(any, &ListenOptions::default(), Box::new(door)).unwrap();
        let addr = reactor.local_addr(listener).unwrap();
        for _ in 0..20 {
            reactor.connect(addr, &ConnectOptions::default(), script().boxed()).unwrap();
        }
        let mut count = 0;
        while count < 20 {
            let before = count;
            turn_until_changed(&mut reactor, &mut count);
            assert!(count - before <= 3);
        }
    });
}

fn turn_until_changed(reactor: &mut Reactor<usize>, count: &mut usize) {
    let before = *count;
    let limit = reactor.now() + Duration::from_secs(60);
    while *count == before {
        assert!(reactor.now() < limit, "it did not happen");
        reactor.turn(count, None).unwrap();
    }
}

#[test]
fn timers_that_are_due_have_their_share_of_a_turn_and_sockets_theirs() {
    everywhere(|mut reactor: Reactor<Vec<usize>>, ip| {
        reactor.set_budgets(Budgets { timers: 7, ..Budgets::default() });
        let mut log = Vec::new();
        const CALL: usize = 1000;
        // It reads little at a time, and so has something in every turn.
        let reader = script().readable(|token, log: &mut Vec<usize>, reactor| {
            reactor.read(token, &mut [0; 9])?;
            log.push(CALL);
            Ok(())
        });
        let (writer, reader) = pair(&mut reactor, &mut log, ip, script().boxed(), reader.boxed());
        reactor.pause(reader);
        reactor.write(writer, noise(5000)).unwrap();
        turn_for(&mut reactor, &mut log, Duration::from_millis(20));
        let due = reactor.now();
        for number in 0..100 {
            reactor.add_timer(due, move |log: &mut Vec<usize>, _| log.push(number));
        }
        reactor.resume(reader);
        for turn in 0..15 {
            log.clear();
            // Nothing waits while some are due.
            reactor.turn(&mut log, None).unwrap();
            let fired = log.iter().copied().filter(|number| *number != CALL);
            assert!(fired.eq(turn * 7..(turn * 7 + 7).min(100)), "{log:?}");
            assert!(log.contains(&CALL));
        }
    });
}

#[test]
fn timers_without_a_delay_do_not_keep_sockets_from_their_turn() {
    everywhere(|mut reactor: Reactor<usize>, ip| {
        fn again(_: &mut usize, reactor: &mut Reactor<usize>) {
            reactor.add_timer(reactor.now() - Duration::from_secs(1), again);
        }
        let mut received = 0;
        let reader = script().readable(|token, received: &mut usize, reactor| {
            *received += crate::stage::read(token, reactor)?.len();
            Ok(())
        });
        let (writer, _) = pair(&mut reactor, &mut received, ip, script().boxed(), reader.boxed());
        again(&mut received, &mut reactor);
        reactor.write(writer, noise(300_000)).unwrap();
        turn_until(&mut reactor, &mut received, |received| *received == 300_000);
    });
}
