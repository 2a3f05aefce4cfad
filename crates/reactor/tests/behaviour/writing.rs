//! Writing: when it goes out, what the writer is told of it, and when nobody is there to read.

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::Bytes;
use reactor::{Closed, Progress, Reactor, Reason, Token};

use crate::parts::{count_turns, few_turns, is_alone, pair};
use crate::stage::{
    Script, everywhere, noise, on_the_real_network, read, script, serve, turn_for, turn_until,
};

#[derive(Default)]
struct Log {
    /// What the handler of the writer was called for.
    calls: Vec<String>,
    received: Vec<u8>,
}

/// Logs what it is called for.
fn writer() -> Script<Log> {
    let say = |what: &'static str| {
        move |_: Token, log: &mut Log, _: &mut Reactor<Log>| {
            log.calls.push(what.to_owned());
            Ok(())
        }
    };
    script()
        .connected(say("connected"))
        .writable(say("writable"))
        .full(say("full"))
        .drained(say("drained"))
        .closed(|_, reason, log, _| log.calls.push(reason.to_string()))
}

/// Keeps what it reads.
fn collector() -> Script<Log> {
    script().readable(|token, log: &mut Log, reactor| {
        log.received.extend(read(token, reactor)?);
        Ok(())
    })
}

/// One that logs and one that collects.
fn writer_and_collector(reactor: &mut Reactor<Log>, log: &mut Log, ip: IpAddr) -> (Token, Token) {
    let ends = pair(reactor, log, ip, writer().boxed(), collector().boxed());
    log.calls.clear();
    ends
}

/// A writer that has more queued than fits into any socket, with marks at 1,000,000 and 10,000.
fn flood(reactor: &mut Reactor<Log>, log: &mut Log, ip: IpAddr) -> (Token, Token) {
    let (here, there) = writer_and_collector(reactor, log, ip);
    reactor.pause(there);
    reactor.set_water(here, 1_000_000, 10_000);
    assert_eq!(reactor.write(here, noise(LEN)), Ok(Progress::Full(LEN)));
    turn_for(reactor, log, Duration::from_millis(20));
    assert!(reactor.queued(here) > 1_000_000);
    (here, there)
}

#[test]
fn one_that_connects_is_told_once_and_may_write_before_that() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let addr = serve(&mut reactor, ip, collector);
        let options = reactor::ConnectOptions::default();
        let here = reactor.connect(addr, &options, writer().boxed()).unwrap();
        assert_eq!(reactor.write(here, "early"), Ok(Progress::Queued(5)));
        assert_eq!(reactor.write_now(here, b" bird"), Ok(Progress::Queued(10)));
        reactor.notify_writable(here);
        let mut log = Log::default();
        turn_until(&mut reactor, &mut log, |log| log.received == b"early bird");
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        assert_eq!(log.calls, ["connected", "writable"]);
    });
}

#[test]
fn what_is_written_waits_in_the_queue_for_the_end_of_the_turn() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, _) = writer_and_collector(&mut reactor, &mut log, ip);
        assert_eq!(reactor.write(here, vec![b'a'; 64]), Ok(Progress::Queued(64)));
        assert_eq!(reactor.write(here, "b"), Ok(Progress::Queued(65)));
        // What is written at once still goes behind what was written before.
        assert_eq!(reactor.write_now(here, b"c"), Ok(Progress::Queued(66)));
        assert_eq!(reactor.queued(here), 66);
        turn_until(&mut reactor, &mut log, |log| log.received.len() == 66);
        assert!(reactor.queued(here) == 0 && log.received.ends_with(b"abc"));
        assert!(log.calls.is_empty());
    });
}

#[test]
fn what_is_written_at_once_does_not_wait_and_a_kick_is_as_quick() {
    on_the_real_network(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, there) = writer_and_collector(&mut reactor, &mut log, ip);
        assert_eq!(reactor.write_now(here, &[b'a'; 64]), Ok(Progress::Sent));
        assert_eq!(reactor.queued(here), 0);
        reactor.write(here, "b").unwrap();
        assert_eq!(reactor.kick(here), Ok(Progress::Sent));
        assert_eq!(reactor.kick(here), Ok(Progress::Sent));
        // It is there, without a turn.
        let mut bytes = [0; 99];
        let count = reactor.read(there, &mut bytes).unwrap();
        assert!(count == reactor::Read::Data(65) && bytes[63..65] == *b"ab");
    });
}

#[test]
fn a_kick_writes_no_further_than_there_is_room() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, there) = flood(&mut reactor, &mut log, ip);
        let before = reactor.queued(here);
        assert!(matches!(reactor.kick(here), Ok(Progress::Full(queued)) if queued <= before));
        reactor.resume(there);
        turn_until(&mut reactor, &mut log, |log| log.received.len() == LEN);
        assert_eq!(reactor.kick(here), Ok(Progress::Sent));
        assert!(log.received == noise(LEN));
    });
}

#[test]
fn writing_nothing_is_neither_an_end_nor_anything_else() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, _) = writer_and_collector(&mut reactor, &mut log, ip);
        assert_eq!(reactor.write(here, ""), Ok(Progress::Queued(0)));
        reactor.write_now(here, b"").unwrap();
        let turns = count_turns(&mut reactor, &mut log, A_WHILE);
        assert!(turns < few_turns(A_WHILE), "{turns} turns");
        assert_eq!((reactor.len(), reactor.queued(here)), (2, 0));
        reactor.write(here, "and on").unwrap();
        turn_until(&mut reactor, &mut log, |log| log.received == b"and on");
        assert!(log.calls.is_empty());
    });
}

#[test]
fn a_queue_that_fills_and_drains_is_told_of_each_once() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, there) = flood(&mut reactor, &mut log, ip);
        assert_eq!(log.calls, ["full"]);
        assert!(matches!(reactor.write(here, "more"), Ok(Progress::Full(_))));
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        assert_eq!(log.calls, ["full"]);
        reactor.resume(there);
        turn_until(&mut reactor, &mut log, |log| log.received.len() == LEN + 4);
        assert!(log.received == [noise(LEN), b"more".to_vec()].concat());
        assert_eq!(
            (log.calls.as_slice(), reactor.queued(here)),
            (&["full".to_owned(), "drained".to_owned()][..], 0)
        );
        // Nothing is left that would keep it busy.
        let turns = count_turns(&mut reactor, &mut log, A_WHILE);
        assert!(turns < few_turns(A_WHILE), "{turns} turns");
    });
}

#[test]
fn one_that_drains_within_its_turn_is_not_told_that_it_was_full() {
    everywhere(|mut reactor: Reactor<Log>, _| {
        let mut log = Log::default();
        let (here, _) = reactor.pipe(writer().boxed(), collector().boxed());
        reactor.set_water(here, 100, 10);
        assert_eq!(reactor.write(here, noise(100)), Ok(Progress::Full(100)));
        turn_until(&mut reactor, &mut log, |log| log.received.len() == 100);
        assert_eq!(log.calls, ["drained"]);
    });
}

#[test]
fn room_is_told_after_the_queue_is_empty_and_only_to_one_that_asked() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        for has_asked in [true, false] {
            let mut log = Log::default();
            let (here, there) = flood(&mut reactor, &mut log, ip);
            if has_asked {
                reactor.notify_writable(here);
            }
            turn_for(&mut reactor, &mut log, Duration::from_millis(5));
            reactor.resume(there);
            turn_until(&mut reactor, &mut log, |log| log.received.len() == LEN);
            turn_for(&mut reactor, &mut log, Duration::from_millis(5));
            let expected: &[&str] =
                if has_asked { &["full", "drained", "writable"] } else { &["full", "drained"] };
            assert_eq!(log.calls, expected);
            reactor.close(here, "over");
            turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        }
    });
}

#[test]
fn one_that_is_paused_still_writes() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, there) = flood(&mut reactor, &mut log, ip);
        reactor.pause(here);
        reactor.resume(there);
        turn_until(&mut reactor, &mut log, |log| log.received.len() == LEN);
        assert!(log.received == noise(LEN) && reactor.queued(here) == 0);
    });
}

#[test]
fn bytes_may_be_shared_between_connections() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (one, _) = writer_and_collector(&mut reactor, &mut log, ip);
        let (two, _) = writer_and_collector(&mut reactor, &mut log, ip);
        let block = Bytes::from(noise(100_000));
        for part in [block.slice(..60_000), block.slice(60_000..), block.clone()] {
            reactor.write(one, part.clone()).unwrap();
            turn_until(&mut reactor, &mut log, |log| log.received == part);
            log.received.clear();
            reactor.write(two, part.clone()).unwrap();
            turn_until(&mut reactor, &mut log, |log| log.received == part);
            log.received.clear();
        }
        // Nobody keeps what has been sent.
        assert!(block.is_unique());
    });
}

/// Writes in every turn, until it is told that this is in vain.
fn insist(reactor: &mut Reactor<Log>, here: Token) {
    let mut refused = 0;
    let hook = reactor.on_turn_end(move |log: &mut Log, reactor| {
        if reactor.write_now(here, b"anybody?") == Err(Closed) {
            refused += 1;
            log.received = vec![refused];
        }
    });
    hook.detach();
    reactor.set_max_wait(Some(Duration::from_millis(1)));
}

#[test]
fn writing_to_one_that_is_gone_fails_and_ends_the_connection_once() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, there) = pair(
            &mut reactor,
            &mut log,
            ip,
            // It never reads, so that only writing can tell.
            writer().boxed(),
            script().boxed(),
        );
        log.calls.clear();
        reactor.pause(here);
        reactor.close(there, "not interested");
        insist(&mut reactor, here);
        turn_until(&mut reactor, &mut log, |log| log.received.first() > Some(&3));
        assert_eq!(log.calls, [Reason::Reset.to_string()]);
        assert_eq!(reactor.write(here, "x"), Err(Closed));
        assert_eq!(reactor.write_then(here, |_, _| panic!("nothing is sent")), Err(Closed));
        assert_eq!((reactor.kick(here), reactor.finish(here)), (Err(Closed), Err(Closed)));
    });
}

#[test]
fn no_broken_pipe_is_a_signal() {
    if !is_alone() {
        return;
    }
    on_the_real_network(|mut reactor: Reactor<Log>, ip| {
        let signal = rustix::process::Signal::PIPE.as_raw();
        let guard = reactor.on_signal(signal, |log: &mut Log, _| log.calls.push("signal".into()));
        let mut log = Log::default();
        let (tcp, peer) = writer_and_collector(&mut reactor, &mut log, ip);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let unix = reactor.register(ours, writer().boxed()).unwrap();
        drop(theirs);
        assert_eq!(reactor.write_now(unix, b"anybody?"), Err(Closed));
        reactor.pause(tcp);
        reactor.close(peer, "not interested");
        insist(&mut reactor, tcp);
        turn_until(&mut reactor, &mut log, |log| log.received.first() > Some(&3));
        assert_eq!(log.calls, [Reason::Reset.to_string(), Reason::Reset.to_string()]);
        drop(guard);
    });
}

/// More than the system's buffers hold, whatever they grow to on loopback.
const LEN: usize = 16_000_000;
const A_WHILE: Duration = Duration::from_millis(300);
