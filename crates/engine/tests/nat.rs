//! Ports mapped by a router, that is played by hand: it speaks NAT-PMP, and gives the port behind the one that
//! it is asked for.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use common::{GUARD, HONEST, LOCAL, config, find, wait_for};
use engine::{EventKind, EventMask, EventSink, MappingProtocol, NatConfig, Session, SessionConfig};

/// What a router was asked to do with a port: over TCP or not, and for how many seconds.
type Asked = (bool, u16, u32);

fn router(addr: Ipv4Addr, code: u16) -> Receiver<Asked> {
    let socket = UdpSocket::bind((addr, 5351)).unwrap();
    let (sender, asked) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 1100];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let request = &buffer[..len];
            let mut answer = match request {
                // PCP is not known here.
                [2, ..] => vec![0, 128, 0, 1],
                [0, opcode, ..] => [&[0, 128 + opcode][..], &code.to_be_bytes()].concat(),
                _ => continue,
            };
            answer.extend([0, 0, 0, 9]);
            match *request {
                [0, 0] => answer.extend([203, 0, 113, 7]),
                [0, opcode, _, _, high, low, _, _, ref lifetime @ ..] => {
                    let port = u16::from_be_bytes([high, low]);
                    let lifetime = u32::from_be_bytes(lifetime.try_into().unwrap());
                    let external = if lifetime == 0 { 0 } else { port.wrapping_add(1) };
                    answer.extend([high, low]);
                    answer.extend(external.to_be_bytes());
                    answer.extend(lifetime.to_be_bytes());
                    if sender.send((opcode == 2, port, lifetime)).is_err() {
                        return;
                    }
                }
                _ => {}
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
    asked
}

#[test]
fn ports_are_mapped_and_given_back() {
    let gateway = Ipv4Addr::new(127, 0, 0, 91);
    let asked = router(gateway, 0);
    let (sink, events) = EventSink::new(EventMask::LISTEN);
    let nat = NatConfig { is_on: true, gateway: Some(gateway) };
    let session =
        Session::start(SessionConfig { nat, events: Some(sink), ..config(HONEST) }).unwrap();
    let ours = session.listen_addrs()[0].port();
    let (port, ports) = find(&events, |kind| match kind {
        EventKind::PortMapped { port, ports } => Some((port, ports)),
        _ => None,
    });
    assert_eq!((port, ports.tcp, ports.udp), (ours, ours + 1, ours + 1));
    assert_eq!(ports.by, MappingProtocol::NatPmp);
    assert_eq!(ports.external_ip, Some([203, 0, 113, 7].into()));
    session.shutdown(GUARD);
    let mut all: Vec<Asked> = asked.try_iter().collect();
    all.sort_unstable();
    // A router that is slow to answer is asked again.
    all.dedup();
    assert_eq!(all, [(false, ours, 0), (false, ours, 3600), (true, ours, 0), (true, ours, 3600)]);
}

#[test]
fn a_router_that_refuses_is_told_of_and_one_that_is_not_wanted_is_left_alone() {
    let gateway = Ipv4Addr::new(127, 0, 0, 92);
    let asked = router(gateway, 2);
    let (sink, events) = EventSink::new(EventMask::LISTEN);
    let nat = NatConfig { is_on: true, gateway: Some(gateway) };
    let wanted = SessionConfig { nat, events: Some(sink), ..config(LOCAL) };
    let mut hidden = SessionConfig { events: None, ..wanted.clone() };
    hidden.network.is_anonymous = true;
    let _hidden = Session::start(hidden).unwrap();
    let session = Session::start(wanted).unwrap();
    let ours = session.listen_addrs()[0].port();
    wait_for(&events, |kind| matches!(kind, EventKind::PortNotMapped { .. }));
    session.shutdown(Duration::from_secs(1));
    assert!(asked.try_iter().all(|(_, port, _)| port == ours));
}
