//! Ends that come from the other side, wanted or not, and that nothing about them keeps a loop busy.

use std::net::IpAddr;
use std::time::Duration;

use reactor::{
    ConnectOptions, Direction, Handler, HandlerError, Rate, Reactor, Read, Reason, Token,
};

use crate::parts::{count_turns, few_turns, pair};
use crate::stage::{everywhere, noise, read, script, turn_for, turn_until};

const A_WHILE: Duration = Duration::from_millis(300);

/// A handler that wants everything or nothing, counts its calls, and does nothing else.
struct Deaf;

#[derive(Default)]
struct Calls {
    readable: u32,
    writable: u32,
    endings: Vec<String>,
}

impl Handler<Calls> for Deaf {
    fn readable(
        &mut self,
        _: Token,
        calls: &mut Calls,
        _: &mut Reactor<Calls>,
    ) -> Result<(), HandlerError> {
        calls.readable += 1;
        Ok(())
    }

    fn writable(
        &mut self,
        _: Token,
        calls: &mut Calls,
        _: &mut Reactor<Calls>,
    ) -> Result<(), HandlerError> {
        calls.writable += 1;
        Ok(())
    }

    fn closed(&mut self, _: Token, reason: Reason, calls: &mut Calls, _: &mut Reactor<Calls>) {
        calls.endings.push(reason.to_string());
    }
}

/// A deaf one, and one that is paused.
fn deaf_and_paused(reactor: &mut Reactor<Calls>, calls: &mut Calls, ip: IpAddr) -> (Token, Token) {
    let (deaf, paused) = pair(reactor, calls, ip, Box::new(Deaf), script().boxed());
    reactor.pause(paused);
    (deaf, paused)
}

/// Has the peer of a connection reset it: by a close with something unread.
fn reset(reactor: &mut Reactor<Calls>, calls: &mut Calls, token: Token, peer: Token) {
    reactor.write(token, "unwanted").unwrap();
    turn_for(reactor, calls, Duration::from_millis(20));
    reactor.close(peer, "not interested");
}

#[test]
fn a_reset_is_told_once_to_one_that_wants_nothing() {
    everywhere(|mut reactor: Reactor<Calls>, ip| {
        let mut calls = Calls::default();
        let (deaf, peer) = deaf_and_paused(&mut reactor, &mut calls, ip);
        reactor.pause(deaf);
        reset(&mut reactor, &mut calls, deaf, peer);
        turn_until(&mut reactor, &mut calls, |calls| !calls.endings.is_empty());
        turn_for(&mut reactor, &mut calls, Duration::from_millis(20));
        assert_eq!((calls.endings, calls.readable), (vec!["reset by the peer".to_owned()], 0));
        assert!(reactor.is_empty());
    });
}

#[test]
fn a_reset_is_told_once_to_one_that_wants_everything() {
    everywhere(|mut reactor: Reactor<Calls>, ip| {
        let mut calls = Calls::default();
        let client = script()
            .readable(|token, _, reactor| {
                reactor.notify_writable(token);
                read(token, reactor).map(drop)
            })
            .closed(|_, reason, calls: &mut Calls, _| calls.endings.push(reason.to_string()));
        let (here, peer) = pair(&mut reactor, &mut calls, ip, client.boxed(), script().boxed());
        reactor.pause(peer);
        reactor.write(here, noise(8_000_000)).unwrap();
        reactor.notify_writable(here);
        reactor.set_idle_timeout(here, Some(Duration::from_secs(50)));
        reactor.set_deadline(here, Some(reactor.now() + Duration::from_secs(50)));
        turn_for(&mut reactor, &mut calls, Duration::from_millis(20));
        reactor.close(peer, "not interested");
        turn_until(&mut reactor, &mut calls, |calls| !calls.endings.is_empty());
        turn_for(&mut reactor, &mut calls, Duration::from_millis(20));
        assert_eq!(calls.endings, ["reset by the peer"]);
        assert!(reactor.is_empty() && reactor.next_wake().is_none());
    });
}

#[test]
fn a_hang_up_that_nobody_heeds_keeps_no_loop_busy() {
    everywhere(|mut reactor: Reactor<Calls>, ip| {
        let mut calls = Calls::default();
        let (_, peer) = deaf_and_paused(&mut reactor, &mut calls, ip);
        reactor.close(peer, "over");
        let turns = count_turns(&mut reactor, &mut calls, A_WHILE);
        assert!(calls.readable > 0 && turns < few_turns(A_WHILE), "{turns} turns");
        assert!(calls.endings.is_empty());
    });
}

#[test]
fn a_reset_that_nobody_reads_keeps_no_loop_busy() {
    everywhere(|mut reactor: Reactor<Calls>, ip| {
        let mut calls = Calls::default();
        let (deaf, peer) = deaf_and_paused(&mut reactor, &mut calls, ip);
        reset(&mut reactor, &mut calls, deaf, peer);
        let turns = count_turns(&mut reactor, &mut calls, A_WHILE);
        assert!(turns < few_turns(A_WHILE), "{turns} turns");
    });
}

#[test]
fn one_that_never_reads_is_called_more_and_more_rarely_and_loses_nothing() {
    everywhere(|mut reactor: Reactor<Calls>, ip| {
        let mut calls = Calls::default();
        let (deaf, peer) = deaf_and_paused(&mut reactor, &mut calls, ip);
        reactor.write(peer, noise(50_000)).unwrap();
        let turns = count_turns(&mut reactor, &mut calls, A_WHILE);
        assert!(turns < few_turns(A_WHILE), "{turns} turns");
        // Some at once, then after 1, 2, 4 ... ms; and what arrives meanwhile may call too.
        // A slow machine may be slower still.
        let is_real = reactor.backend() != "simulated";
        let least = |count| if is_real { 0 } else { count };
        assert!((least(5)..30).contains(&calls.readable), "{} calls", calls.readable);
        let before = calls.readable;
        count_turns(&mut reactor, &mut calls, A_WHILE);
        assert!(
            (least(1)..5).contains(&(calls.readable - before)),
            "{} calls",
            calls.readable - before
        );
        let mut received = Vec::new();
        let mut bytes = [0; 9000];
        while received.len() < 50_000 {
            match reactor.read(deaf, &mut bytes).unwrap() {
                Read::Eof => panic!("cut off"),
                Read::Data(count) => received.extend_from_slice(&bytes[..count]),
                Read::WouldBlock => turn_for(&mut reactor, &mut calls, Duration::from_millis(1)),
            }
        }
        assert!(received == noise(50_000));
    });
}

#[test]
fn room_to_write_is_told_once_for_each_time_that_was_asked() {
    everywhere(|mut reactor: Reactor<Calls>, ip| {
        let mut calls = Calls::default();
        let (deaf, _) = deaf_and_paused(&mut reactor, &mut calls, ip);
        for asked in 1..4 {
            reactor.notify_writable(deaf);
            reactor.notify_writable(deaf);
            let turns = count_turns(&mut reactor, &mut calls, Duration::from_millis(20));
            assert_eq!(calls.writable, asked);
            assert!(turns < few_turns(Duration::from_millis(20)), "{turns} turns");
        }
    });
}

#[test]
fn nothing_at_all_to_write_is_not_waited_for() {
    everywhere(|mut reactor: Reactor<Calls>, ip| {
        let mut calls = Calls::default();
        let addr = crate::stage::serve(&mut reactor, ip, script);
        let deaf = reactor.connect(addr, &ConnectOptions::default(), Box::new(Deaf)).unwrap();
        reactor.write(deaf, "").unwrap();
        reactor.notify_writable(deaf);
        let turns = count_turns(&mut reactor, &mut calls, Duration::from_millis(100));
        assert_eq!((calls.writable, calls.endings.len()), (1, 0));
        assert!(turns < few_turns(Duration::from_millis(100)), "{turns} turns");
    });
}

#[test]
fn a_half_closed_connection_is_told_of_the_end_once_and_still_writes() {
    type Log = (Vec<u8>, Vec<u8>, u32, u32);
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let client = script()
            .readable(|token, log: &mut Log, reactor| {
                log.0.extend(read(token, reactor)?);
                Ok(())
            })
            .closed(|_, _, log, _| log.3 += 1);
        let server = script()
            .readable(|token, log: &mut Log, reactor| {
                let mut bytes = [0; 4096];
                match reactor.read(token, &mut bytes)? {
                    Read::Data(count) => log.1.extend_from_slice(&bytes[..count]),
                    Read::WouldBlock => {}
                    Read::Eof => log.2 += 1,
                }
                Ok(())
            })
            .closed(|_, _, log, _| log.3 += 1);
        let (here, there) = pair(&mut reactor, &mut log, ip, client.boxed(), server.boxed());
        reactor.write(here, noise(30_000)).unwrap();
        reactor.finish(here).unwrap();
        turn_until(&mut reactor, &mut log, |log| log.2 > 0);
        let turns = count_turns(&mut reactor, &mut log, A_WHILE);
        assert!(turns < few_turns(A_WHILE), "{turns} turns");
        assert_eq!((log.2, log.3), (1, 0));
        reactor.write(there, noise(200_000)).unwrap();
        reactor.close_after_flush(there, Duration::from_secs(9));
        turn_until(&mut reactor, &mut log, |log| log.3 == 2);
        assert!(log.0 == noise(200_000) && log.1 == noise(30_000));
    });
}

#[test]
fn two_that_are_both_done_and_do_not_close_keep_no_loop_busy() {
    everywhere(|mut reactor: Reactor<u32>, ip| {
        let one = || {
            script()
                .readable(|token, ends: &mut u32, reactor| {
                    if reactor.read(token, &mut [0; 99])? == Read::Eof {
                        *ends += 1;
                    }
                    Ok(())
                })
                .boxed()
        };
        let mut ends = 0;
        let (here, there) = pair(&mut reactor, &mut ends, ip, one(), one());
        reactor.finish(here).unwrap();
        reactor.finish(there).unwrap();
        turn_until(&mut reactor, &mut ends, |ends| *ends >= 2);
        let turns = count_turns(&mut reactor, &mut ends, A_WHILE);
        assert!(turns < few_turns(A_WHILE), "{turns} turns");
        assert_eq!(reactor.len(), 2);
    });
}

#[test]
fn a_rate_limit_that_holds_back_a_flood_keeps_no_loop_busy() {
    everywhere(|mut reactor: Reactor<Calls>, ip| {
        let mut calls = Calls::default();
        let (here, there) = pair(&mut reactor, &mut calls, ip, script().boxed(), script().boxed());
        let slow = Rate { bytes_per_second: 1000, burst: 1000 };
        reactor.set_rate(here, Direction::Write, Some(slow));
        reactor.set_rate(here, Direction::Read, Some(slow));
        reactor.write(here, noise(100_000)).unwrap();
        reactor.write(there, noise(100_000)).unwrap();
        let turns = count_turns(&mut reactor, &mut calls, A_WHILE);
        assert!(turns < few_turns(A_WHILE), "{turns} turns");
    });
}
