//! Reading, putting back what was read, and the end.

use std::io::{self, IoSliceMut};
use std::time::Duration;

use reactor::{Closed, Reactor, Read, Token};

use crate::parts::{count_turns, few_turns, pair};
use crate::stage::{Script, everywhere, noise, read, script, turn_for, turn_until};

/// What was read, call by call.
type Log = Vec<String>;

/// Reads `len` bytes at once in every call, and logs them.
fn reader(len: usize) -> Script<Log> {
    script().readable(move |token, log: &mut Log, reactor| {
        log.extend(take(reactor, token, len)?);
        Ok(())
    })
}

/// What one read brings; nothing if there is nothing.
fn take<S: 'static>(
    reactor: &mut Reactor<S>,
    token: Token,
    len: usize,
) -> io::Result<Option<String>> {
    let mut bytes = vec![0; len];
    Ok(match reactor.read(token, &mut bytes)? {
        Read::Data(count) => Some(String::from_utf8_lossy(&bytes[..count]).into_owned()),
        Read::WouldBlock => None,
        Read::Eof => Some("the end".to_owned()),
    })
}

/// All that many reads bring, up to `len` bytes: one alone may bring less than there is.
fn gather<S: 'static>(reactor: &mut Reactor<S>, token: Token, len: usize) -> io::Result<String> {
    let mut all = String::new();
    while all.len() < len
        && let Some(part) = take(reactor, token, len - all.len())?
    {
        all += &part;
    }
    Ok(all)
}

/// A connection to which `bytes` have come, paused, and its peer.
fn with_input(
    reactor: &mut Reactor<Log>,
    ip: std::net::IpAddr,
    reader: Script<Log>,
    bytes: &'static str,
) -> (Token, Token) {
    let ends = pair(reactor, &mut Log::new(), ip, reader.boxed(), script().boxed());
    reactor.pause(ends.0);
    reactor.write(ends.1, bytes).unwrap();
    // Whole, even where the network cuts it in pieces.
    turn_for(reactor, &mut Log::new(), Duration::from_millis(5));
    ends
}

#[test]
fn what_was_put_back_is_read_first_and_by_itself_without_a_wait() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut has_put_back = false;
        let reader = script().readable(move |token, log: &mut Log, reactor| {
            if std::mem::replace(&mut has_put_back, true) {
                log.extend(take(reactor, token, 99)?);
                return Ok(());
            }
            assert_eq!(gather(reactor, token, 5)?, "Hello");
            reactor.unread(token, "lo")?;
            Ok(())
        });
        let (here, _) = with_input(&mut reactor, ip, reader, "Hello!\n");
        reactor.resume(here);
        let mut log = Log::new();
        reactor.turn(&mut log, None).unwrap();
        assert!(log.is_empty(), "called twice in a turn");
        // There is something to do: it does not wait.
        let began = reactor.now();
        reactor.turn(&mut log, Some(A_WHILE)).unwrap();
        assert!(reactor.now() - began < A_WHILE);
        assert_eq!(log, ["lo"]);
        turn_until(&mut reactor, &mut log, |log| log.concat() == "lo!\n");
    });
}

#[test]
fn asking_for_less_splits_what_was_put_back() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let (here, _) = with_input(&mut reactor, ip, script(), "fresh");
        reactor.unread(here, "Hello").unwrap();
        for (len, part) in [(3, "Hel"), (1, "l"), (99, "o")] {
            assert_eq!(take(&mut reactor, here, len).unwrap().as_deref(), Some(part));
        }
        assert_eq!(gather(&mut reactor, here, 99).unwrap(), "fresh");
        assert_eq!(take(&mut reactor, here, 99).unwrap(), None);
    });
}

#[test]
fn putting_back_is_the_opposite_of_reading() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let (here, _) = with_input(&mut reactor, ip, script(), "!");
        reactor.unread(here, "Hello").unwrap();
        assert_eq!(take(&mut reactor, here, 3).unwrap().as_deref(), Some("Hel"));
        reactor.unread(here, "Hel").unwrap();
        reactor.unread(here, "").unwrap();
        assert_eq!(gather(&mut reactor, here, 99).unwrap(), "Hello!");
    });
}

#[test]
fn what_was_put_back_is_not_told_while_reading_is_paused() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let (here, _) = with_input(&mut reactor, ip, reader(99), "");
        let mut log = Log::new();
        reactor.unread(here, "later").unwrap();
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        assert!(log.is_empty());
        reactor.resume(here);
        turn_until(&mut reactor, &mut log, |log| !log.is_empty());
        assert_eq!(log, ["later"]);
    });
}

#[test]
fn nothing_can_be_put_back_or_read_when_it_is_over() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let (here, _) = with_input(&mut reactor, ip, reader(99), "unread");
        reactor.unread(here, "unread too").unwrap();
        reactor.close(here, "over");
        for _ in 0..2 {
            assert_eq!(reactor.unread(here, "too late"), Err(Closed));
            let error = reactor.read(here, &mut [0; 9]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotConnected);
            reactor.turn(&mut Log::new(), Some(Duration::ZERO)).unwrap();
        }
    });
}

#[derive(Default)]
struct Counts {
    calls: u32,
    ticks: u32,
    received: usize,
}

/// Looks at what has come and puts it back, again and again.
fn undecided() -> Script<Counts> {
    script().readable(|token, counts: &mut Counts, reactor| {
        counts.calls += 1;
        let bytes = read(token, reactor)?;
        reactor.unread(token, bytes)?;
        Ok(())
    })
}

#[test]
fn one_that_puts_everything_back_is_called_once_a_turn_and_hinders_nobody() {
    everywhere(|mut reactor: Reactor<Counts>, ip| {
        fn tick(counts: &mut Counts, reactor: &mut Reactor<Counts>) {
            counts.ticks += 1;
            reactor.add_timer(reactor.now() + Duration::from_micros(100), tick);
        }
        let mut counts = Counts::default();
        let reader = script().readable(|token, counts: &mut Counts, reactor| {
            counts.received += read(token, reactor)?.len();
            Ok(())
        });
        let mut pair = |handler: Script<Counts>| {
            pair(&mut reactor, &mut counts, ip, script().boxed(), handler.boxed()).0
        };
        let (tiresome, busy) = (pair(undecided()), pair(reader));
        reactor.write(tiresome, "not enough").unwrap();
        reactor.write(busy, noise(1_000_000)).unwrap();
        tick(&mut counts, &mut reactor);
        let mut turns = 0;
        while counts.received < 1_000_000 || counts.ticks < 10 || counts.calls < 10 {
            reactor.turn(&mut counts, Some(A_WHILE)).unwrap();
            turns += 1;
            assert!(counts.calls <= turns);
        }
    });
}

#[test]
fn reading_nothing_is_not_the_end() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let (here, there) = with_input(&mut reactor, ip, script(), "there");
        for _ in 0..2 {
            assert_eq!(reactor.read(here, &mut []).unwrap(), Read::Data(0));
            let empty = &mut [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
            assert_eq!(reactor.read_vectored(here, empty).unwrap(), Read::Data(0));
            assert_eq!(reactor.read(there, &mut []).unwrap(), Read::Data(0));
        }
        assert_eq!(gather(&mut reactor, here, 99).unwrap(), "there");
        assert_eq!(reactor.read(here, &mut []).unwrap(), Read::Data(0));
        assert_eq!(take(&mut reactor, here, 99).unwrap(), None);
    });
}

#[test]
fn several_buffers_are_filled_in_turn() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let (here, _) = with_input(&mut reactor, ip, script(), "0123456789");
        let (mut first, mut second, mut read) = ([0; 3], [0; 50], Vec::new());
        while read.len() < 10 {
            let slices = &mut [
                IoSliceMut::new(&mut first),
                IoSliceMut::new(&mut []),
                IoSliceMut::new(&mut second),
            ];
            let Read::Data(count) = reactor.read_vectored(here, slices).unwrap() else {
                panic!("it is there")
            };
            read.extend_from_slice(&[&first[..], &second[..]].concat()[..count]);
        }
        assert_eq!(read, b"0123456789");
    });
}

#[test]
fn the_end_is_told_once_and_whoever_asks_again_is_told_again() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let (here, there) = with_input(&mut reactor, ip, reader(99), "last words");
        reactor.finish(there).unwrap();
        reactor.resume(here);
        let mut log = Log::new();
        turn_until(&mut reactor, &mut log, |log| log.last().is_some_and(|last| last == "the end"));
        let before = log.len();
        assert_eq!(log[..before - 1].concat(), "last words");
        // It goes on as if nothing had happened: half a connection is one too.
        let turns = count_turns(&mut reactor, &mut log, A_WHILE);
        assert!(turns < few_turns(A_WHILE), "{turns} turns");
        assert_eq!(log.len(), before);
        assert_eq!(take(&mut reactor, here, 99).unwrap().as_deref(), Some("the end"));
        reactor.unread(here, "an afterthought").unwrap();
        turn_until(&mut reactor, &mut log, |log| log.len() > before);
        assert_eq!(log[before], "an afterthought");
        reactor.write(here, "still here").unwrap();
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        assert_eq!((reactor.len(), reactor.queued(here)), (2, 0));
    });
}

const A_WHILE: Duration = Duration::from_millis(300);
