//! Datagrams.

use std::net::{IpAddr, SocketAddr};

use reactor::{Interface, ListenOptions, Multicast, Reactor, Token};

use crate::stage::{Inbox, everywhere, noise, turn_until};

type Received = Vec<(SocketAddr, Vec<u8>)>;

fn collect<S: AsMut<Received> + 'static>(
    reactor: &mut Reactor<S>,
    ip: IpAddr,
) -> (Token, SocketAddr) {
    let inbox = Inbox(|_, from, data: &[u8], state: &mut S, _: &mut Reactor<S>| {
        state.as_mut().push((from, data.to_vec()));
    });
    let token =
        reactor.bind_udp((ip, 0).into(), &ListenOptions::default(), Box::new(inbox)).unwrap();
    (token, reactor.local_addr(token).unwrap())
}

#[test]
fn datagrams_arrive_whole_with_their_sender() {
    everywhere(|mut reactor: Reactor<Received>, ip| {
        let (here, here_addr) = collect(&mut reactor, ip);
        let (there, there_addr) = collect(&mut reactor, ip);
        let mut received = Vec::new();
        for len in [1, 0, 1400, 60_000] {
            reactor.send_to(here, there_addr, &noise(len)).unwrap();
            turn_until(&mut reactor, &mut received, |received: &Received| !received.is_empty());
            assert!(received == [(here_addr, noise(len))]);
            received.clear();
        }
        reactor.send_to(there, here_addr, b"answer").unwrap();
        turn_until(&mut reactor, &mut received, |received: &Received| !received.is_empty());
        assert_eq!(received, [(there_addr, b"answer".to_vec())]);
        assert!(reactor.send_to(here, there_addr, &noise(70_000)).is_err());
    });
}

#[test]
fn more_than_one_turn_takes_are_not_forgotten() {
    everywhere(|mut reactor: Reactor<Received>, ip| {
        let (here, _) = collect(&mut reactor, ip);
        let (_, there_addr) = collect(&mut reactor, ip);
        for number in 0..150 {
            reactor.send_to(here, there_addr, &[number]).unwrap();
        }
        let mut received = Vec::new();
        turn_until(&mut reactor, &mut received, |received: &Received| received.len() == 150);
        let numbers: Vec<u8> = received.iter().map(|(_, data)| data[0]).collect();
        assert_eq!(numbers, Vec::from_iter(0..150));
    });
}

#[test]
fn a_panic_over_a_datagram_costs_only_that_one() {
    everywhere(|mut reactor: Reactor<Vec<u8>>, ip| {
        let inbox = Inbox(|_, _, data: &[u8], state: &mut Vec<u8>, _: &mut Reactor<Vec<u8>>| {
            if data[0] == 1 {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
            state.push(data[0]);
        });
        let options = ListenOptions::default();
        let token = reactor.bind_udp((ip, 0).into(), &options, Box::new(inbox)).unwrap();
        let addr = reactor.local_addr(token).unwrap();
        for number in 0..3 {
            reactor.send_to(token, addr, &[number]).unwrap();
        }
        let mut received = Vec::new();
        turn_until(&mut reactor, &mut received, |received| received.len() == 2);
        assert_eq!(received, [0, 2]);
    });
}

#[test]
fn a_socket_that_is_replaced_from_its_own_handler_takes_nothing_from_the_new_one() {
    everywhere(|mut reactor: Reactor<Vec<u8>>, ip| {
        let options = ListenOptions::default();
        let inbox = Inbox(move |token, _, _: &[u8], _: &mut Vec<u8>, reactor: &mut Reactor<_>| {
            reactor.close(token, "replaced");
            let heir = Inbox(|_, _, data: &[u8], state: &mut Vec<u8>, _: &mut Reactor<_>| {
                state.extend_from_slice(data);
            });
            let options = ListenOptions::default();
            let heir = reactor.bind_udp((ip, 0).into(), &options, Box::new(heir)).unwrap();
            let addr = reactor.local_addr(heir).unwrap();
            reactor.send_to(heir, addr, b"kept").unwrap();
        });
        let token = reactor.bind_udp((ip, 0).into(), &options, Box::new(inbox)).unwrap();
        let addr = reactor.local_addr(token).unwrap();
        reactor.send_to(token, addr, b"go").unwrap();
        let mut received = Vec::new();
        turn_until(&mut reactor, &mut received, |received| !received.is_empty());
        assert_eq!((received, reactor.len()), (b"kept".to_vec(), 1));
    });
}

#[test]
fn a_port_belongs_to_one_socket() {
    everywhere(|mut reactor: Reactor<Received>, ip| {
        let (_, addr) = collect(&mut reactor, ip);
        let inbox = Inbox(|_, _, _: &[u8], _: &mut Received, _: &mut Reactor<Received>| {});
        let error = reactor.bind_udp(addr, &ListenOptions::default(), Box::new(inbox)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    });
}

#[test]
fn what_is_sent_to_a_group_comes_to_its_members_and_to_nobody_else() {
    everywhere(|mut reactor: Reactor<Received>, ip| {
        let group = match ip {
            IpAddr::V4(_) => IpAddr::from([239, 255, 77, 78]),
            IpAddr::V6(_) => IpAddr::from([0xff15, 0, 0, 0, 0, 0, 77, 78]),
        };
        let interface = Interface { name: "lo".to_owned(), index: 1, addr: ip };
        let multicast = Some(Multicast { group, interface });
        let options = ListenOptions { multicast, ..ListenOptions::default() };
        let inbox =
            Inbox(|_, from, data: &[u8], state: &mut Received, _: &mut Reactor<Received>| {
                state.push((from, data.to_vec()));
            });
        let member = reactor.bind_udp((group, 0).into(), &options, Box::new(inbox)).unwrap();
        let port = reactor.local_addr(member).unwrap().port();
        let (_, stranger) = collect(&mut reactor, ip);
        let mut received = Vec::new();
        let sent = reactor.send_to(member, (group, port).into(), b"to all");
        // Linux has no way to groups of IPv6 over the loopback.
        if sent.is_err() && ip.is_ipv6() {
            return;
        }
        sent.unwrap();
        reactor.send_to(member, stranger, b"to one").unwrap();
        turn_until(&mut reactor, &mut received, |received: &Received| received.len() == 2);
        received.sort_by_key(|(_, data)| data.clone());
        let from = SocketAddr::new(ip, port);
        assert_eq!(received, [(from, b"to all".to_vec()), (from, b"to one".to_vec())]);
        // Another program may join on the same port.
        let other = Inbox(|_, _, _: &[u8], _: &mut Received, _: &mut Reactor<Received>| {});
        reactor.bind_udp((group, port).into(), &options, Box::new(other)).unwrap();
    });
}
