//! Much to write and slow readers: the marks of the queue, pausing, resuming.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::{Accepted, ConnectOptions, ListenOptions, Reactor, Token};

use crate::stage::{Door, everywhere, noise, read, script, turn_for, turn_until};

#[derive(Default)]
struct State {
    server: Option<Token>,
    received: Vec<u8>,
    drained: usize,
}

/// A server that is paused at first and collects what it reads, and a client that has queued `len`
/// bytes, more than fits into any socket, with marks at 1,000,000 and 10,000.
fn flood(
    reactor: &mut Reactor<State>,
    state: &mut State,
    ip: std::net::IpAddr,
    len: usize,
) -> Token {
    let door = Door(|accepted: Accepted, state: &mut State, reactor: &mut Reactor<State>| {
        let server = script().readable(|token, state: &mut State, reactor| {
            state.received.extend(read(token, reactor)?);
            Ok(())
        });
        let token = reactor.attach(accepted, server.boxed()).unwrap();
        reactor.pause(token);
        state.server = Some(token);
    });
    let any = SocketAddr::new(ip, 0);
    let listener = reactor.listen(any, &ListenOptions::default(), Box::new(door)).unwrap();
    let addr = reactor.local_addr(listener).unwrap();
    let client = script().drained(|token, state: &mut State, reactor| {
        assert!(reactor.queued(token) <= 10_000 && !reactor.is_full(token));
        state.drained += 1;
        Ok(())
    });
    let token = reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
    reactor.set_water(token, 1_000_000, 10_000);
    for part in noise(len).chunks(100_000) {
        reactor.write(token, part.to_vec()).unwrap();
    }
    turn_until(reactor, state, |state| state.server.is_some());
    turn_for(reactor, state, Duration::from_millis(20));
    token
}

#[test]
fn a_full_queue_waits_for_the_reader_and_drains_once() {
    everywhere(|mut reactor: Reactor<State>, ip| {
        let mut state = State::default();
        let client = flood(&mut reactor, &mut state, ip, LEN);
        assert!(reactor.is_full(client) && reactor.queued(client) > 1_000_000);
        assert_eq!((state.drained, state.received.len()), (0, 0));
        reactor.resume(state.server.unwrap());
        turn_until(&mut reactor, &mut state, |state| state.received.len() >= LEN);
        assert!(state.received == noise(LEN));
        turn_for(&mut reactor, &mut state, Duration::from_millis(5));
        assert_eq!((state.drained, reactor.queued(client)), (1, 0));
    });
}

#[test]
fn a_queue_below_the_mark_is_not_reported() {
    everywhere(|mut reactor: Reactor<State>, ip| {
        let mut state = State::default();
        let client = flood(&mut reactor, &mut state, ip, 999_999);
        assert!(!reactor.is_full(client));
        reactor.resume(state.server.unwrap());
        turn_until(&mut reactor, &mut state, |state| state.received.len() >= 999_999);
        assert_eq!(state.drained, 0);
    });
}

#[test]
fn pausing_stops_the_reader_and_resuming_loses_nothing() {
    everywhere(|mut reactor: Reactor<State>, ip| {
        let mut state = State::default();
        flood(&mut reactor, &mut state, ip, LEN);
        let server = state.server.unwrap();
        while state.received.len() < LEN {
            reactor.resume(server);
            let before = state.received.len();
            turn_until(&mut reactor, &mut state, |state| {
                state.received.len() >= LEN || state.received.len() > before + 1_000_000
            });
            reactor.pause(server);
            let paused_at = state.received.len();
            turn_for(&mut reactor, &mut state, Duration::from_millis(2));
            assert_eq!(state.received.len(), paused_at);
        }
        assert!(state.received == noise(LEN));
    });
}

/// More than the system's buffers hold, whatever they grow to on loopback.
const LEN: usize = 16_000_000;
