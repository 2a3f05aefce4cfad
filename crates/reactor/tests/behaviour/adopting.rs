//! Connections that come from elsewhere, go elsewhere, or get another handler.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use reactor::{Closed, ConnectOptions, Reactor, Token};

use crate::parts::pair;
use crate::stage::{
    Script, everywhere, noise, on_the_real_network, read, script, serve, turn_for, turn_until,
};

#[derive(Default)]
struct Log {
    received: Vec<u8>,
    calls: Vec<&'static str>,
    tokens: Vec<Token>,
}

fn collector() -> Script<Log> {
    script().readable(|token, log: &mut Log, reactor| {
        log.received.extend(read(token, reactor)?);
        Ok(())
    })
}

/// Says its name in every call.
fn named(name: &'static str) -> Script<Log> {
    script()
        .readable(move |token, log: &mut Log, reactor| {
            log.calls.push(name);
            log.received.extend(read(token, reactor)?);
            Ok(())
        })
        .closed(move |_, _, log, _| log.calls.push(name))
}

#[test]
fn a_socket_that_was_opened_elsewhere_is_a_connection_like_any_other() {
    on_the_real_network(|mut reactor: Reactor<Log>, _| {
        let mut log = Log::default();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let here = reactor.register(ours, collector().boxed()).unwrap();
        let is_nonblocking =
            reactor.with_fd(here, |fd| rustix::fs::fcntl_getfl(fd).unwrap()).unwrap();
        assert!(is_nonblocking.contains(rustix::fs::OFlags::NONBLOCK));
        theirs.write_all(b"hello").unwrap();
        turn_until(&mut reactor, &mut log, |log| log.received == b"hello");
        reactor.write(here, "goodbye").unwrap();
        reactor.close_after_flush(here, Duration::from_secs(9));
        reactor.turn(&mut log, Some(Duration::ZERO)).unwrap();
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "goodbye");
        drop(theirs);
        while !reactor.is_empty() {
            reactor.turn(&mut log, Some(Duration::from_millis(10))).unwrap();
        }
    });
}

#[test]
fn the_end_of_a_pipe_is_a_connection_and_a_file_is_none() {
    on_the_real_network(|mut reactor: Reactor<Log>, _| {
        let mut log = Log::default();
        let (reader, mut writer) = io::pipe().unwrap();
        reactor.register(reader, collector().boxed()).unwrap();
        writer.write_all(b"through a pipe").unwrap();
        turn_until(&mut reactor, &mut log, |log| log.received == b"through a pipe");
        drop(writer);
        while !reactor.is_empty() {
            reactor.turn(&mut log, Some(Duration::from_millis(10))).unwrap();
        }
        let file: File = tempfile::tempfile().unwrap();
        reactor.register(file, collector().boxed()).unwrap_err();
        assert!(reactor.is_empty());
    });
}

#[test]
fn one_that_is_taken_and_adopted_loses_nothing_and_has_a_new_name() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (old, there) =
            pair(&mut reactor, &mut log, ip, named("old").boxed(), collector().boxed());
        for end in [old, there] {
            reactor.pause(end);
        }
        reactor.write(old, noise(LEN)).unwrap();
        reactor.write(there, "from the network").unwrap();
        turn_for(&mut reactor, &mut log, Duration::from_millis(20));
        let queued = reactor.queued(old);
        assert!(queued > 0 && queued < LEN);
        let held = Rc::new(());
        let callback = Rc::clone(&held);
        reactor.write_then(old, move |_, _| panic!("{callback:?} stays behind")).unwrap();
        reactor.write(old, "the last").unwrap();
        reactor.unread(old, "and put back, ").unwrap();
        reactor.unread(old, "put back, ").unwrap();

        let taken = reactor.take(old).unwrap();
        let unsent: usize = taken.connection.unsent.iter().map(reactor::Chunk::len).sum();
        assert_eq!((unsent, taken.connection.unread.len()), (queued + 8, 2));
        assert_eq!(reactor.write(old, "x"), Err(Closed));
        assert_eq!(reactor.take(old).unwrap_err().kind(), io::ErrorKind::NotConnected);
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        assert!(taken.handler.is_some() && log.calls.is_empty() && Rc::strong_count(&held) == 1);

        let new = reactor.adopt(taken.connection, named("new").boxed()).unwrap();
        assert!(new != old && reactor.len() == 2 && reactor.queued(new) == queued + 8);
        let expected = b"put back, and put back, from the network";
        turn_until(&mut reactor, &mut log, |log| log.received == expected);
        log.received.clear();
        reactor.resume(there);
        turn_until(&mut reactor, &mut log, |log| log.received.len() == LEN + 8);
        assert!(log.received == [noise(LEN), b"the last".to_vec()].concat());
        assert!(log.calls.iter().all(|name| *name == "new"));
    });
}

#[test]
fn one_that_is_taken_may_go_on_in_the_loop_of_another_thread() {
    on_the_real_network(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (here, _) = pair(&mut reactor, &mut log, ip, script().boxed(), collector().boxed());
        reactor.write(here, "from one thread, ").unwrap();
        let connection = reactor.take(here).unwrap().connection;
        let elsewhere = thread::spawn(move || {
            let mut reactor = Reactor::new().unwrap();
            let token = reactor.adopt(connection, collector().boxed()).unwrap();
            reactor.write(token, "from another").unwrap();
            reactor.close_after_flush(token, Duration::from_secs(9));
            let mut log = Log::default();
            while !reactor.is_empty() {
                reactor.turn(&mut log, None).unwrap();
            }
        });
        turn_until(&mut reactor, &mut log, |log| log.received == b"from one thread, from another");
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        elsewhere.join().unwrap();
    });
}

#[test]
fn one_that_is_taken_within_a_call_for_another_is_not_called_under_its_old_name() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        // Whoever is called first takes the other.
        let taker = || {
            script().readable(|token, log: &mut Log, reactor| {
                let other = log.tokens.iter().copied().find(|other| *other != token).unwrap();
                log.calls.push("first");
                let taken = reactor.take(other)?;
                let heir = reactor.adopt(taken.connection, named("heir").boxed())?;
                assert!(heir != other && taken.handler.is_some());
                read(token, reactor).map(drop)
            })
        };
        let mut tokens = Vec::new();
        for _ in 0..2 {
            let (reader, writer) =
                pair(&mut reactor, &mut log, ip, taker().boxed(), script().boxed());
            reactor.pause(reader);
            reactor.write(writer, "x").unwrap();
            tokens.push(reader);
        }
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        log.tokens.clone_from(&tokens);
        tokens.iter().for_each(|token| reactor.resume(*token));
        turn_until(&mut reactor, &mut log, |log| log.received == b"x");
        assert_eq!(log.calls, ["first", "heir"]);
    });
}

#[test]
fn one_may_be_taken_within_its_own_call() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let leaving = script()
            .readable(|token, _: &mut Log, reactor| {
                let mut taken = reactor.take(token)?;
                assert!(taken.handler.is_none());
                taken.connection.unread.push("before, ".into());
                reactor.adopt(taken.connection, named("heir").boxed())?;
                Ok(())
            })
            .closed(|_, reason, _, _| panic!("{reason}"));
        let (_, there) = pair(&mut reactor, &mut log, ip, leaving.boxed(), script().boxed());
        reactor.write(there, "behind").unwrap();
        turn_until(&mut reactor, &mut log, |log| log.received == b"before, behind");
        reactor.close(there, "over");
        turn_until(&mut reactor, &mut log, |log| log.calls.len() > 2);
        assert!(log.calls.iter().all(|name| *name == "heir"));
    });
}

#[test]
fn what_does_not_stand_or_has_no_socket_cannot_be_taken() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let addr: SocketAddr = serve(&mut reactor, ip, script);
        let options = ConnectOptions::default();
        let connecting = reactor.connect(addr, &options, script().boxed()).unwrap();
        let (pipe, _) = reactor.pipe(script().boxed(), script().boxed());
        let kind = |reactor: &mut Reactor<Log>, token| reactor.take(token).unwrap_err().kind();
        if !ip.is_loopback() {
            // Over loopback it may stand at once.
            assert_eq!(kind(&mut reactor, connecting), io::ErrorKind::NotConnected);
        }
        assert_eq!(kind(&mut reactor, pipe), io::ErrorKind::Unsupported);
        assert!(reactor.info(pipe).is_some());
        reactor.close(pipe, "over");
        assert_eq!(kind(&mut reactor, pipe), io::ErrorKind::NotConnected);
    });
}

/// Has one end write, and waits until the other has been called for that.
fn call_from(there: Token, reactor: &mut Reactor<Log>, log: &mut Log) {
    let before = log.calls.len();
    reactor.write(there, "x").unwrap();
    turn_until(reactor, log, |log| log.calls.len() > before);
}

#[test]
fn another_handler_takes_over_from_within_a_call_or_from_without() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let held = Rc::new(());
        let first = Rc::clone(&held);
        let first = script()
            .readable(move |token, log: &mut Log, reactor| {
                assert!(Rc::strong_count(&first) > 1);
                log.calls.push("first");
                let second = named("second").boxed();
                assert!(reactor.set_handler(token, second).is_none(), "it is being called");
                read(token, reactor).map(drop)
            })
            .closed(|_, reason, _, _| panic!("{reason}"));
        let (here, there) = pair(&mut reactor, &mut log, ip, first.boxed(), script().boxed());
        call_from(there, &mut reactor, &mut log);
        assert_eq!(Rc::strong_count(&held), 1, "the first is gone");
        call_from(there, &mut reactor, &mut log);
        assert!(reactor.set_handler(here, named("third").boxed()).is_some());
        call_from(there, &mut reactor, &mut log);
        reactor.close(here, "over");
        assert!(reactor.set_handler(here, named("fourth").boxed()).is_some());
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        assert_eq!(log.calls, ["first", "second", "third", "fourth"]);
        assert!(reactor.set_handler(here, named("nobody's").boxed()).is_none());
    });
}

/// More than the system's buffers hold, whatever they grow to on loopback.
const LEN: usize = 16_000_000;
