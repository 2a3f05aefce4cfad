//! Nobody gets more than a share of a turn.

use std::net::SocketAddr;
use std::time::Duration;

use reactor::{Accepted, ConnectOptions, ListenOptions, Reactor, Token};

use crate::stage::{Door, everywhere, read, script, serve, turn_until};

#[derive(Default)]
struct State {
    turns: usize,
    calls: usize,
    rounds: usize,
    ticks: usize,
}

/// A client that always has something to write, at most 100 kB of it queued.
fn flood(token: Token, reactor: &mut Reactor<State>) {
    if reactor.queued(token) < 100_000 && reactor.write(token, vec![0; 100_000]).is_err() {
        return;
    }
    let soon = reactor.now() + Duration::from_micros(10);
    reactor.add_timer(soon, move |_, reactor| flood(token, reactor));
}

#[test]
fn one_that_floods_gets_one_call_a_turn_and_leaves_the_others_theirs() {
    everywhere(|mut reactor: Reactor<State>, ip| {
        let hook = reactor.on_turn_end(|state, _| {
            state.turns += 1;
            assert!(state.calls <= state.turns, "called twice in a turn");
        });
        hook.detach();
        // It never reads all there is.
        let busy = serve(&mut reactor, ip, || {
            script().readable(|token, state: &mut State, reactor| {
                state.calls += 1;
                reactor.read(token, &mut [0; 64])?;
                Ok(())
            })
        });
        let calm = serve(&mut reactor, ip, || {
            script().readable(|token, _, reactor| {
                let bytes = read(token, reactor)?;
                {
                    reactor.write(token, bytes)?;
                    Ok(())
                }
            })
        });
        let flooder = script().connected(|token, _, reactor| {
            flood(token, reactor);
            Ok(())
        });
        let pinger = script()
            .connected(|token, _, reactor| {
                reactor.write(token, "ping")?;
                Ok(())
            })
            .readable(|token, state: &mut State, reactor| {
                state.rounds += 1;
                let bytes = read(token, reactor)?;
                {
                    reactor.write(token, bytes)?;
                    Ok(())
                }
            });
        let options = ConnectOptions::default();
        reactor.connect(busy, &options, flooder.boxed()).unwrap();
        reactor.connect(calm, &options, pinger.boxed()).unwrap();
        tick(&mut State::default(), &mut reactor);
        let mut state = State::default();
        turn_until(&mut reactor, &mut state, |state| {
            state.rounds >= 10 && state.ticks >= 10 && state.calls >= 100
        });
    });
}

fn tick(state: &mut State, reactor: &mut Reactor<State>) {
    state.ticks += 1;
    reactor.add_timer(reactor.now() + Duration::from_micros(100), tick);
}

#[test]
fn many_that_come_at_once_are_all_taken_in() {
    everywhere(|mut reactor: Reactor<usize>, ip| {
        let door = Door(|accepted: Accepted, count: &mut usize, reactor: &mut Reactor<usize>| {
            reactor.attach(accepted, script().boxed()).unwrap();
            *count += 1;
        });
        let any = SocketAddr::new(ip, 0);
        let listener = reactor.listen(any, &ListenOptions::default(), Box::new(door)).unwrap();
        let addr = reactor.local_addr(listener).unwrap();
        for _ in 0..150 {
            reactor.connect(addr, &ConnectOptions::default(), script().boxed()).unwrap();
        }
        let mut count = 0;
        turn_until(&mut reactor, &mut count, |count| *count == 150);
        assert_eq!(reactor.len(), 301);
    });
}

#[test]
fn a_listener_that_replaces_itself_takes_nothing_from_its_heir() {
    type State = (Option<Token>, Vec<SocketAddr>);
    everywhere(|mut reactor: Reactor<State>, ip| {
        let any = SocketAddr::new(ip, 0);
        let door = Door(move |_, state: &mut State, reactor: &mut Reactor<State>| {
            reactor.close(state.0.unwrap(), "one was enough");
            let heir = Door(|accepted, state: &mut State, reactor: &mut Reactor<State>| {
                let token = reactor.attach(accepted, script().boxed()).unwrap();
                state.1.extend(reactor.local_addr(token));
            });
            let heir = reactor.listen(any, &ListenOptions::default(), Box::new(heir)).unwrap();
            let addr = reactor.local_addr(heir).unwrap();
            reactor.connect(addr, &ConnectOptions::default(), script().boxed()).unwrap();
            state.1.push(addr);
        });
        let listener = reactor.listen(any, &ListenOptions::default(), Box::new(door)).unwrap();
        let addr = reactor.local_addr(listener).unwrap();
        reactor.connect(addr, &ConnectOptions::default(), script().boxed()).unwrap();
        let mut state = (Some(listener), Vec::new());
        turn_until(&mut reactor, &mut state, |state| state.1.len() == 2);
        assert_eq!(state.1[0], state.1[1]);
    });
}
