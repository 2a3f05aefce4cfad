//! Callbacks in write queues: they come when all before them is with the kernel, and before all behind
//! them.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reactor::{Chunk, Closed, Progress, Reactor, Token};

use crate::parts::pair;
use crate::stage::{Script, everywhere, noise, read, script, turn_for, turn_until};

#[derive(Default)]
struct Log {
    calls: Vec<String>,
    received: Vec<u8>,
}

fn collector() -> Script<Log> {
    script()
        .readable(|token, log: &mut Log, reactor| {
            log.received.extend(read(token, reactor)?);
            Ok(())
        })
        .closed(|_, reason, log, _| log.calls.push(reason.to_string()))
}

/// Plays a story with a connection to a peer that collects, and one within the reactor.
fn with_each_kind(story: impl Fn(&mut Reactor<Log>, Token, Token)) {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let (here, there) =
            pair(&mut reactor, &mut Log::default(), ip, collector().boxed(), collector().boxed());
        story(&mut reactor, here, there);
        let (here, there) = reactor.pipe(collector().boxed(), collector().boxed());
        story(&mut reactor, here, there);
    });
}

#[test]
fn with_nothing_queued_it_comes_at_the_end_of_the_turn_and_not_within_the_call() {
    with_each_kind(|reactor, here, _| {
        let mut log = Log::default();
        reactor.write_then(here, |log, _| log.calls.push("sent".into())).unwrap();
        assert!(log.calls.is_empty());
        reactor.turn(&mut log, None).unwrap();
        assert_eq!(log.calls, ["sent"]);
        turn_for(reactor, &mut log, Duration::from_millis(5));
        assert_eq!(log.calls, ["sent"]);
    });
}

#[test]
fn it_comes_after_the_last_byte_before_it_and_before_the_first_behind_it() {
    with_each_kind(|reactor, here, there| {
        let mut log = Log::default();
        reactor.pause(there);
        reactor.write(here, noise(BEFORE)).unwrap();
        let call = move |log: &mut Log, reactor: &mut Reactor<Log>| {
            // Of what is queued, none has been sent.
            assert_eq!(reactor.queued(here), BEHIND);
            log.calls.push("sent".into());
        };
        reactor.write_then(here, call).unwrap();
        assert_eq!(reactor.write(here, noise(BEHIND)), Ok(Progress::Full(BEFORE + BEHIND)));
        // To be quick is no reason to go past it.
        assert!(matches!(reactor.kick(here), Ok(Progress::Full(_))));
        turn_for(reactor, &mut log, Duration::from_millis(20));
        assert!(log.calls.is_empty(), "there is no room for so much");
        reactor.resume(there);
        turn_until(reactor, &mut log, |log| log.received.len() == BEFORE + BEHIND);
        assert!(log.received == [noise(BEFORE), noise(BEHIND)].concat());
        assert_eq!(log.calls, ["sent"]);
    });
}

#[test]
fn what_it_writes_goes_behind_what_is_queued() {
    with_each_kind(|reactor, here, _| {
        reactor.write(here, "first ").unwrap();
        for (what, then) in [("from-1", "behind-1 "), ("from-2", "behind-2 ")] {
            let call = move |log: &mut Log, reactor: &mut Reactor<Log>| {
                reactor.write(here, format!("{what} ")).unwrap();
                reactor
                    .write_then(here, move |log, _| log.calls.push(format!("{what} is sent")))
                    .unwrap();
                log.calls.push(what.into());
            };
            reactor.write_then(here, call).unwrap();
            reactor.write(here, then).unwrap();
        }
        let mut log = Log::default();
        turn_until(reactor, &mut log, |log| log.calls.len() == 4 && log.received.len() == 38);
        assert_eq!(
            String::from_utf8_lossy(&log.received),
            "first behind-1 behind-2 from-1 from-2 "
        );
        assert_eq!(log.calls, ["from-1", "from-2", "from-1 is sent", "from-2 is sent"]);
    });
}

#[test]
fn one_that_closes_drops_what_stands_behind_it() {
    with_each_kind(|reactor, here, _| {
        let held = Arc::new(());
        reactor.write(here, "kept").unwrap();
        let call = move |log: &mut Log, reactor: &mut Reactor<Log>| {
            reactor.close(here, "that was all");
            assert_eq!(reactor.write(here, "too late"), Err(Closed));
            assert_eq!(reactor.write_then(here, |_, _| panic!("it is closed")), Err(Closed));
            log.calls.push("closing".into());
        };
        reactor.write_then(here, call).unwrap();
        reactor.write(here, "dropped").unwrap();
        let behind = Arc::clone(&held);
        reactor.write_then(here, move |_, _| panic!("{behind:?}")).unwrap();
        let mut log = Log::default();
        turn_until(reactor, &mut log, |log| log.received.len() >= 4 && log.calls.len() == 2);
        turn_for(reactor, &mut log, Duration::from_millis(5));
        assert_eq!(log.received, b"kept");
        assert_eq!(log.calls[..2], ["closing", "that was all"]);
        assert_eq!((reactor.write(here, "x"), Arc::strong_count(&held)), (Err(Closed), 1));
    });
}

#[test]
fn one_that_panics_keeps_nothing_back() {
    with_each_kind(|reactor, here, _| {
        reactor.write(here, "before, ").unwrap();
        reactor.write_then(here, |_, _| std::panic::resume_unwind(Box::new("on purpose"))).unwrap();
        reactor.write(here, "behind").unwrap();
        let mut log = Log::default();
        turn_until(reactor, &mut log, |log| log.received == b"before, behind");
    });
}

#[test]
fn bytes_files_and_callbacks_keep_their_order() {
    with_each_kind(|reactor, here, _| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&noise(300_000)).unwrap();
        let file = Arc::new(file);
        let shared = Bytes::from(noise(50_000));
        let mut expected = Vec::new();
        for round in 0..5_usize {
            let part = file_part(&file, round * 1000, 100_000 + round);
            expected.extend_from_slice(&noise(300_000)[round * 1000..][..100_000 + round]);
            reactor.write(here, part).unwrap();
            expect_call(reactor, here, format!("file {round}"));
            for chunk in [shared.clone(), Bytes::from_static(b"small"), shared.slice(round..)] {
                expected.extend_from_slice(&chunk);
                reactor.write(here, chunk).unwrap();
            }
            expect_call(reactor, here, format!("bytes {round}"));
            expect_call(reactor, here, format!("again {round}"));
        }
        assert_eq!(reactor.queued(here), expected.len());
        let mut log = Log::default();
        turn_until(reactor, &mut log, |log| log.received.len() >= expected.len());
        assert!(log.received == expected);
        let calls = (0..5)
            .flat_map(|round| ["file", "bytes", "again"].map(|what| format!("{what} {round}")));
        assert!(calls.eq(log.calls));
    });
}

fn file_part(file: &Arc<File>, offset: usize, len: usize) -> Chunk {
    Chunk::File { file: Arc::clone(file), offset: offset as u64, len }
}

fn expect_call(reactor: &mut Reactor<Log>, here: Token, what: String) {
    reactor.write_then(here, move |log, _| log.calls.push(what)).unwrap();
}

/// More than the system's buffers hold, whatever they grow to on loopback.
const BEFORE: usize = 16_000_000;
const BEHIND: usize = 123_456;
