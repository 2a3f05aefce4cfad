//! Opening connections, talking, and being told when that is impossible.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use reactor::{ConnectOptions, ListenOptions, Reactor, Reason};

use crate::stage::{Door, echo, everywhere, noise, read, script, serve, turn_until};

#[test]
fn bytes_go_both_ways() {
    everywhere(|mut reactor: Reactor<Vec<u8>>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let client = script()
            .connected(|token, _, reactor| {
                reactor.write(token, noise(10_000))?;
                Ok(())
            })
            .readable(|token, state: &mut Vec<u8>, reactor| {
                state.extend(read(token, reactor)?);
                Ok(())
            });
        reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        let mut answer = Vec::new();
        turn_until(&mut reactor, &mut answer, |answer| answer.len() >= 10_000);
        assert!(answer == noise(10_000));
    });
}

#[test]
fn both_ends_know_each_other() {
    everywhere(|mut reactor: Reactor<Vec<SocketAddr>>, ip| {
        let door = Door(
            |accepted: reactor::Accepted,
             state: &mut Vec<SocketAddr>,
             reactor: &mut Reactor<Vec<SocketAddr>>| {
                let came_from = accepted.peer.socket_addr().unwrap();
                let token = reactor.attach(accepted, script().boxed()).unwrap();
                assert_eq!(reactor.peer_addr(token), Some(came_from));
                state.extend([came_from, reactor.local_addr(token).unwrap()]);
            },
        );
        let any = SocketAddr::new(ip, 0);
        let listener = reactor.listen(any, &ListenOptions::default(), Box::new(door)).unwrap();
        let addr = reactor.local_addr(listener).unwrap();
        let options = ConnectOptions { bind: Some(ip), ..ConnectOptions::default() };
        let client = reactor.connect(addr, &options, script().boxed()).unwrap();
        let mut seen = Vec::new();
        turn_until(&mut reactor, &mut seen, |seen| !seen.is_empty());
        let ours = reactor.local_addr(client).unwrap();
        assert_eq!(
            (seen, ours.ip(), reactor.peer_addr(client)),
            (vec![ours, addr], ip, Some(addr))
        );
        assert_eq!(reactor.len(), 3);
    });
}

#[test]
fn a_refused_connection_is_told_so_and_no_other_is() {
    everywhere(|mut reactor: Reactor<(Vec<io::ErrorKind>, usize)>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let refused = script().connected(|_, _, _| panic!("nobody listens there")).closed(
            |_, reason, state: &mut (Vec<_>, _), _| match reason {
                Reason::Error(error) => state.0.push(error.kind()),
                other => panic!("{other}"),
            },
        );
        let welcome = script()
            .connected(|_, state: &mut (_, usize), _| {
                state.1 += 1;
                Ok(())
            })
            .closed(|_, reason, _, _| panic!("{reason}"));
        let options = ConnectOptions::default();
        reactor.connect(addr, &options, welcome.boxed()).unwrap();
        reactor.connect(nobody_at(ip), &options, refused.boxed()).unwrap();
        let mut state = (Vec::new(), 0);
        turn_until(&mut reactor, &mut state, |(refused, welcome)| refused.len() + welcome == 2);
        assert_eq!(state, (vec![io::ErrorKind::ConnectionRefused], 1));
    });
}

#[test]
fn an_address_has_one_listener() {
    everywhere(|mut reactor: Reactor<()>, ip| {
        let addr = serve(&mut reactor, ip, echo);
        let door = || Box::new(Door(|_, _: &mut (), _: &mut Reactor<()>| {}));
        let error = reactor.listen(addr, &ListenOptions::default(), door()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
        let error = reactor.listen(foreign, &ListenOptions::default(), door()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert_eq!(reactor.len(), 1);
    });
}

#[test]
fn a_connection_that_nobody_attaches_is_closed() {
    everywhere(|mut reactor: Reactor<bool>, ip| {
        let door = Door(|_, _: &mut bool, _: &mut Reactor<bool>| {});
        let any = SocketAddr::new(ip, 0);
        let listener = reactor.listen(any, &ListenOptions::default(), Box::new(door)).unwrap();
        let addr = reactor.local_addr(listener).unwrap();
        let client = script().closed(|_, _, is_closed: &mut bool, _| *is_closed = true);
        reactor.connect(addr, &ConnectOptions::default(), client.boxed()).unwrap();
        turn_until(&mut reactor, &mut false, |is_closed| *is_closed);
    });
}

#[test]
fn an_ipv6_listener_takes_ipv4_too_unless_told_not_to() {
    everywhere(|mut reactor: Reactor<Vec<SocketAddr>>, ip| {
        if ip.is_ipv6() {
            return;
        }
        let mut listen = |v6_only| {
            let door = Door(
                |accepted: reactor::Accepted, state: &mut Vec<SocketAddr>, _: &mut Reactor<_>| {
                    state.push(accepted.peer.socket_addr().unwrap());
                },
            );
            let options = ListenOptions { v6_only, ..ListenOptions::default() };
            let any: SocketAddr = "[::]:0".parse().unwrap();
            let listener = reactor.listen(any, &options, Box::new(door));
            // Not every machine has IPv6.
            listener.ok().and_then(|listener| reactor.local_addr(listener))
        };
        let (Some(both), Some(only_v6)) = (listen(false), listen(true)) else { return };
        let closed = |_, _, state: &mut Vec<SocketAddr>, _: &mut Reactor<_>| {
            state.push("0.0.0.0:0".parse().unwrap());
        };
        let mut state = Vec::new();
        let mut connect = |port| {
            let options = ConnectOptions::default();
            let client = script().closed(closed).boxed();
            state.clear();
            reactor.connect(SocketAddr::new(ip, port), &options, client).unwrap();
            turn_until(&mut reactor, &mut state, |state| !state.is_empty());
            state[0].ip()
        };
        assert_eq!(connect(both.port()).to_canonical(), ip);
        assert_eq!(connect(only_v6.port()), IpAddr::from([0, 0, 0, 0]));
    });
}

/// An address at which nobody listens, in any world.
fn nobody_at(ip: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::new(ip, 0));
    let addr = listener.and_then(|listener| listener.local_addr());
    addr.unwrap_or_else(|_not_ours| SocketAddr::new(ip, 1))
}
