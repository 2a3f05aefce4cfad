//! How connections end: once, for a reason, and without taking anything along.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::{Accepted, Closed, ConnectOptions, ListenOptions, Reactor, Read, Reason, Token};

use crate::parts::pair;
use crate::stage::{
    Done, Door, echo, everywhere, noise, read, script, serve, turn_for, turn_until,
};

#[test]
fn closing_is_deferred_and_told_once() {
    everywhere(|mut reactor: Reactor<Vec<String>>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let client = script()
            .connected(|token, state: &mut Vec<String>, reactor| {
                reactor.write(token, "never sent")?;
                reactor.close(token, "first");
                reactor.close(token, "second");
                assert_eq!(reactor.write(token, "x"), Err(Closed));
                state.push("still connected".to_owned());
                Ok(())
            })
            .closed(|token, reason, state: &mut Vec<String>, reactor| {
                assert!(matches!(reason, Reason::Local("first")));
                reactor.close(token, "third");
                state.push("closed".to_owned());
            });
        reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 2);
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        assert_eq!(log, ["still connected", "closed"]);
    });
}

#[test]
fn one_that_is_closed_before_it_stands_never_connects() {
    everywhere(|mut reactor: Reactor<Vec<&str>>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let client = script()
            .connected(|_, log: &mut Vec<&str>, _| {
                log.push("connected");
                Ok(())
            })
            .closed(|_, _, log, _| log.push("closed"));
        let token = reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        reactor.close(token, "changed my mind");
        let mut log = Vec::new();
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        assert_eq!(log, ["closed"]);
    });
}

#[test]
fn an_error_or_a_panic_ends_its_connection_and_nothing_else() {
    everywhere(|mut reactor: Reactor<Vec<String>>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let mut client = |what: &'static str, act: fn(&mut Reactor<Vec<String>>, Token) -> Done| {
            let client = script()
                .connected(|token, _, reactor| {
                    reactor.write(token, "ping")?;
                    Ok(())
                })
                .readable(move |token, _, reactor| act(reactor, token))
                .closed(move |_, reason, log: &mut Vec<String>, _| {
                    log.push(format!("{what}: {reason}"));
                });
            reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        };
        client("faulty", |_, _| Err("what a mess".into()));
        client("panicking", |_, _| std::panic::resume_unwind(Box::new("on purpose")));
        client("fine", |reactor, token| {
            let bytes = read(token, reactor)?;
            {
                reactor.write(token, bytes)?;
                Ok(())
            }
        });
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| log.len() == 2);
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        log.sort();
        assert_eq!(log, ["faulty: what a mess", "panicking: its handler panicked"]);
        // The listener, the one that is fine, and the other end of that.
        turn_for(&mut reactor, &mut log, Duration::from_millis(50));
        assert_eq!(reactor.len(), 3);
    });
}

#[test]
fn the_token_of_a_connection_that_is_over_does_nothing() {
    everywhere(|mut reactor: Reactor<usize>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let options = ConnectOptions::default();
        let client = || script().closed(|_, _, closed: &mut usize, _| *closed += 1).boxed();
        let old = reactor.connect(addr, &options, client()).unwrap();
        reactor.close(old, "over");
        let mut closed = 0;
        turn_until(&mut reactor, &mut closed, |closed| *closed == 1);
        let new = reactor.connect(addr, &options, client()).unwrap();
        assert_ne!(old, new);
        assert_eq!(reactor.write(old, "x"), Err(Closed));
        assert!(reactor.read(old, &mut [0; 9]).is_err());
        assert_eq!((reactor.queued(old), reactor.is_full(old)), (0, false));
        assert_eq!((reactor.local_addr(old), reactor.peer_addr(old)), (None, None));
        reactor.pause(old);
        reactor.set_deadline(old, Some(reactor.now()));
        reactor.close_after_flush(old, Duration::ZERO);
        reactor.close(old, "again");
        turn_for(&mut reactor, &mut closed, Duration::from_millis(5));
        assert_eq!(closed, 1);
    });
}

#[test]
fn an_end_that_came_with_the_last_bytes_is_heard() {
    everywhere(|mut reactor: Reactor<(Vec<u8>, Option<Token>, bool)>, ip| {
        let door = Door(
            |accepted: Accepted, state: &mut (_, Option<Token>, _), reactor: &mut Reactor<_>| {
                let server = script().readable(|token, state: &mut (Vec<u8>, _, bool), reactor| {
                    let mut bytes = [0; 4096];
                    match reactor.read(token, &mut bytes)? {
                        Read::Data(count) => state.0.extend_from_slice(&bytes[..count]),
                        Read::WouldBlock => {}
                        Read::Eof => state.2 = true,
                    }
                    Ok(())
                });
                let token = reactor.attach(accepted, server.boxed()).unwrap();
                reactor.pause(token);
                state.1 = Some(token);
            },
        );
        let any = SocketAddr::new(ip, 0);
        let listener = reactor.listen(any, &ListenOptions::default(), Box::new(door)).unwrap();
        let addr = reactor.local_addr(listener).unwrap();
        let client = script().connected(|token, _, reactor| {
            reactor.write(token, "all there is")?;
            reactor.close_after_flush(token, Duration::from_secs(10));
            Ok(())
        });
        reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        let mut state = (Vec::new(), None, false);
        turn_until(&mut reactor, &mut state, |state| state.1.is_some());
        turn_for(&mut reactor, &mut state, Duration::from_millis(20));
        reactor.resume(state.1.unwrap());
        turn_until(&mut reactor, &mut state, |state| state.2);
        assert_eq!(state.0, b"all there is");
    });
}

#[test]
fn a_reset_reaches_even_one_that_does_not_read() {
    everywhere(|mut reactor: Reactor<Vec<String>>, ip| {
        let door = Door(|accepted, _: &mut Vec<String>, reactor: &mut Reactor<Vec<String>>| {
            let server = script()
                .readable(|_, _, _| panic!("it is paused"))
                .closed(|_, reason, log: &mut Vec<String>, _| log.push(reason.to_string()));
            let token = reactor.attach(accepted, server.boxed()).unwrap();
            reactor.pause(token);
            reactor.write(token, "unwanted").unwrap();
        });
        let any = SocketAddr::new(ip, 0);
        let listener = reactor.listen(any, &ListenOptions::default(), Box::new(door)).unwrap();
        let addr = reactor.local_addr(listener).unwrap();
        // Closing with something unread is a reset.
        let client = script().readable(|token, _, reactor| {
            reactor.close(token, "not interested");
            Ok(())
        });
        reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| !log.is_empty());
        assert_eq!(log, ["reset by the peer"]);
    });
}

#[test]
fn what_is_queued_is_sent_before_a_gentle_close() {
    everywhere(|mut reactor: Reactor<(Vec<u8>, bool)>, ip| {
        let addr = serve(&mut reactor, ip, || {
            script()
                .readable(|token, state: &mut (Vec<u8>, bool), reactor| {
                    state.0.extend(read(token, reactor)?);
                    Ok(())
                })
                .closed(|_, _, state, _| state.1 = true)
        });
        let client = script()
            .connected(|token, _, reactor| {
                reactor.write(token, noise(3_000_000))?;
                reactor.close_after_flush(token, Duration::from_secs(30));
                assert_eq!(reactor.write(token, "too late"), Err(Closed));
                Ok(())
            })
            .closed(|_, reason, _, _| assert!(matches!(reason, Reason::Local(_)), "{reason}"));
        reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        let mut state = (Vec::new(), false);
        turn_until(&mut reactor, &mut state, |state| state.1);
        assert!(state.0 == noise(3_000_000));
    });
}

#[test]
fn a_gentle_close_has_an_end_too() {
    everywhere(|mut reactor: Reactor<Vec<String>>, ip| {
        let door = Door(|accepted, _: &mut Vec<String>, reactor: &mut Reactor<Vec<String>>| {
            let token = reactor.attach(accepted, script().boxed()).unwrap();
            reactor.pause(token);
        });
        let any = SocketAddr::new(ip, 0);
        let listener = reactor.listen(any, &ListenOptions::default(), Box::new(door)).unwrap();
        let addr = reactor.local_addr(listener).unwrap();
        let client = script()
            .connected(|token, _, reactor| {
                reactor.write(token, vec![0; 64 << 20])?;
                reactor.close_after_flush(token, Duration::from_millis(20));
                Ok(())
            })
            .closed(|_, reason, log: &mut Vec<String>, _| log.push(reason.to_string()));
        reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        let mut log = Vec::new();
        turn_until(&mut reactor, &mut log, |log| !log.is_empty());
        assert_eq!(log, ["timed out"]);
    });
}

#[test]
fn how_much_a_close_drops_may_be_asked_until_the_turn_ends() {
    everywhere(|mut reactor: Reactor<usize>, ip| {
        let counter = script().readable(|token, received: &mut usize, reactor| {
            *received += read(token, reactor)?.len();
            Ok(())
        });
        let mut received = 0;
        let (here, there) =
            pair(&mut reactor, &mut received, ip, script().boxed(), counter.boxed());
        reactor.pause(there);
        reactor.write(here, noise(LEN)).unwrap();
        turn_for(&mut reactor, &mut received, Duration::from_millis(50));
        let queued = reactor.queued(here);
        assert!(queued > 0);
        reactor.close(here, "enough");
        assert_eq!(reactor.queued(here), queued);
        reactor.resume(there);
        while !reactor.is_empty() {
            reactor.turn(&mut received, Some(Duration::from_millis(10))).unwrap();
        }
        assert_eq!((received, reactor.queued(here)), (LEN - queued, 0));
    });
}

/// More than there is room for on the way.
const LEN: usize = 8_000_000;
