//! Connections within the reactor.

use std::net::IpAddr;
use std::time::Duration;

use reactor::{Address, Budgets, Reactor, Read, Token};

use crate::parts::{count_turns, few_turns};
use crate::stage::{Script, echo, everywhere, noise, script, turn_for, turn_until};

#[derive(Default)]
struct Log {
    received: Vec<u8>,
    calls: Vec<String>,
}

fn collector() -> Script<Log> {
    script()
        .connected(|_, _, _| panic!("it always was"))
        .readable(|token, log: &mut Log, reactor| {
            let mut bytes = vec![0; 32 * 1024];
            match reactor.read(token, &mut bytes)? {
                Read::Data(count) => log.received.extend_from_slice(&bytes[..count]),
                Read::WouldBlock => {}
                Read::Eof => log.calls.push("the end".to_owned()),
            }
            Ok(())
        })
        .closed(|_, reason, log, _| log.calls.push(reason.to_string()))
}

/// Plays a story with two ends, of which the second collects.
fn with_pipe(here: fn() -> Script<Log>, story: impl Fn(&mut Reactor<Log>, Token, Token)) {
    everywhere(|mut reactor: Reactor<Log>, _: IpAddr| {
        let (here, there) = reactor.pipe(here().boxed(), collector().boxed());
        story(&mut reactor, here, there);
    });
}

#[test]
fn two_ends_talk_without_a_network() {
    with_pipe(echo, |reactor, here, there| {
        let mut log = Log::default();
        reactor.write(there, noise(300_000)).unwrap();
        turn_until(reactor, &mut log, |log| log.received.len() == 300_000);
        assert!(log.received == noise(300_000) && log.calls.is_empty());
        assert_eq!(
            (reactor.peer_address(here), reactor.peer_addr(here)),
            (Some(Address::Pipe), None)
        );
        assert_eq!(reactor.local_address(there), Some(Address::Pipe));
        assert_eq!(reactor.with_fd(here, |_| ()), None);
    });
}

#[test]
fn a_writer_waits_for_a_slow_reader() {
    with_pipe(script, |reactor, here, there| {
        let mut log = Log::default();
        reactor.pause(there);
        reactor.write(here, noise(1_000_000)).unwrap();
        let turns = count_turns(reactor, &mut log, A_WHILE);
        assert!(turns < few_turns(A_WHILE), "{turns} turns");
        assert!(reactor.queued(here) > 900_000 && log.received.is_empty());
        reactor.resume(there);
        turn_until(reactor, &mut log, |log| log.received.len() == 1_000_000);
        assert!(log.received == noise(1_000_000));
    });
}

#[test]
fn one_end_may_be_done_before_the_other() {
    with_pipe(collector, |reactor, here, there| {
        let mut log = Log::default();
        reactor.write(here, "that is all").unwrap();
        reactor.finish(here).unwrap();
        turn_until(reactor, &mut log, |log| log.calls == ["the end"]);
        assert_eq!(log.received, b"that is all");
        log.received.clear();
        reactor.write(there, "is it?").unwrap();
        turn_until(reactor, &mut log, |log| log.received == b"is it?");
        reactor.close_after_flush(there, Duration::from_secs(9));
        turn_until(reactor, &mut log, |log| log.calls.len() == 3);
        log.calls.sort();
        assert_eq!(log.calls, ["flushed", "the end", "the end"]);
        reactor.close(here, "over");
        turn_until(reactor, &mut log, |log| log.calls.len() == 4);
        assert!(reactor.is_empty());
    });
}

#[test]
fn what_was_written_before_a_gentle_close_arrives() {
    with_pipe(script, |reactor, here, _| {
        let mut log = Log::default();
        reactor.write(here, noise(1_000_000)).unwrap();
        reactor.close_after_flush(here, Duration::from_secs(9));
        turn_until(reactor, &mut log, |log| !log.calls.is_empty());
        assert!(log.received == noise(1_000_000));
        assert_eq!(log.calls, ["the end"]);
    });
}

#[test]
fn nobody_writes_to_an_end_that_is_closed() {
    with_pipe(script, |reactor, here, there| {
        let mut log = Log::default();
        reactor.pause(there);
        reactor.close(here, "over");
        reactor.write(there, "anybody?").unwrap();
        turn_until(reactor, &mut log, |log| !log.calls.is_empty());
        turn_for(reactor, &mut log, Duration::from_millis(5));
        assert_eq!(log.calls, ["reset by the peer"]);
        assert!(reactor.is_empty());
    });
}

#[test]
fn a_share_of_each_turn_is_enough_to_send_everything() {
    with_pipe(script, |reactor, here, _| {
        let mut log = Log::default();
        reactor.set_budgets(Budgets { write_bytes: 1000, ..Budgets::default() });
        reactor.write(here, noise(50_000)).unwrap();
        turn_until(reactor, &mut log, |log| log.received.len() == 50_000);
        assert!(log.received == noise(50_000));
    });
}

const A_WHILE: Duration = Duration::from_millis(300);
