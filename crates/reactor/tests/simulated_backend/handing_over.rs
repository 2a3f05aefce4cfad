//! Sockets that go from one reactor of a host to another.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};

use reactor::{Backend, Interest, RawSocket};

use crate::stage::{
    A_WHILE, HERE, THERE, connect, hosts, kind, pair, pass, read, tame, token, write,
};

#[test]
fn a_handed_over_socket_keeps_what_came_and_tells_it_anew() {
    let world = tame(1);
    let (mut here, mut there) = hosts(&world);
    let mut beside = world.reactor_on(THERE);
    let (_, client, server) = pair(&mut here, &mut there);
    write(&mut here, client, b"before, ").unwrap();
    pass(&mut here, A_WHILE);
    let socket = there.detach(server).unwrap();
    assert_eq!(kind(read(&mut there, server)), Some(ErrorKind::NotConnected));
    write(&mut here, client, b"between, ").unwrap();
    assert!(pass(&mut there, A_WHILE).is_empty());
    let socket = std::thread::spawn(move || socket).join().unwrap();
    let server = beside.adopt(socket, token(7)).unwrap();
    let events = pass(&mut beside, A_WHILE);
    assert!(matches!(events[..], [event] if event.readable && event.writable));
    assert_eq!(events[0].token, token(7));
    write(&mut here, client, b"after").unwrap();
    assert!(pass(&mut there, A_WHILE).is_empty());
    assert_eq!(read(&mut beside, server).unwrap(), b"before, between, after");
    write(&mut beside, server, b"answer").unwrap();
    pass(&mut here, A_WHILE);
    assert_eq!(read(&mut here, client).unwrap(), b"answer");
}

#[test]
fn one_that_connects_or_was_not_registered_goes_over_too() {
    let world = tame(1);
    let (mut here, mut there) = hosts(&world);
    let mut beside = here.another();
    let (listener, _, _) = pair(&mut here, &mut there);
    let client = connect(&mut here, &there.local_addr(listener).unwrap()).unwrap();
    let client = beside.adopt(here.detach(client).unwrap(), token(7)).unwrap();
    assert!(pass(&mut beside, A_WHILE).iter().any(|event| event.writable));
    beside.finish_connect(client).unwrap();
    let (server, _) = there.accept(listener).unwrap();
    let server = there.detach(server).unwrap();
    let server = there.adopt(server, token(8)).unwrap();
    write(&mut there, server, b"hello").unwrap();
    pass(&mut there, A_WHILE);
    assert_eq!(read(&mut beside, client).unwrap(), b"hello");
}

#[test]
fn a_dropped_socket_is_closed() {
    let (mut here, mut there) = hosts(&tame(1));
    let (_, client, server) = pair(&mut here, &mut there);
    let socket = there.detach(server).unwrap();
    assert!(pass(&mut here, A_WHILE).is_empty());
    drop(socket);
    assert!(pass(&mut here, A_WHILE).iter().any(|event| event.ended));
    assert_eq!(read(&mut here, client).unwrap(), b"");
}

#[test]
fn a_socket_cannot_leave_its_host_nor_its_world() {
    let world = tame(1);
    let (mut here, mut there) = hosts(&world);
    let (listener, client, server) = pair(&mut here, &mut there);
    let socket = there.detach(server).unwrap();
    assert_eq!(kind(here.adopt(socket, token(7))), Some(ErrorKind::Unsupported));
    assert!(pass(&mut here, A_WHILE).iter().any(|event| event.ended));
    assert_eq!(read(&mut here, client).unwrap(), b"");
    let mut elsewhere = tame(2).host(&[THERE]);
    let socket = there.detach(listener).unwrap();
    assert_eq!(kind(elsewhere.adopt(socket, token(7))), Some(ErrorKind::Unsupported));
    let file = RawSocket::Fd(OwnedFd::from(File::open("/dev/null").unwrap()));
    assert_eq!(kind(here.adopt(file, token(7))), Some(ErrorKind::Unsupported));
}

#[test]
fn there_are_no_descriptors() {
    let mut host = tame(1).host(&[HERE]);
    let file = File::open("/dev/null").unwrap();
    let result = host.watch(file.as_fd(), Interest::Readable, token(1));
    assert_eq!(kind(result), Some(ErrorKind::Unsupported));
    let (mut here, mut there) = hosts(&tame(1));
    let (_, client, _) = pair(&mut here, &mut there);
    assert!(here.fd(client).is_none());
}

#[test]
fn a_reactor_that_is_gone_has_closed_its_sockets() {
    let world = tame(1);
    let (mut here, mut there) = hosts(&world);
    let (listener, client, _) = pair(&mut here, &mut there);
    let addr = there.local_addr(listener).unwrap();
    drop(there);
    pass(&mut here, A_WHILE);
    assert_eq!(read(&mut here, client).unwrap(), b"");
    let refused = connect(&mut here, &addr).unwrap();
    pass(&mut here, A_WHILE);
    assert_eq!(kind(here.finish_connect(refused)), Some(ErrorKind::ConnectionRefused));
    let mut anew = world.reactor_on(THERE);
    pair(&mut here, &mut anew);
}
