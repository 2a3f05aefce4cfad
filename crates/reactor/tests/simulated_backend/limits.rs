//! Running out of descriptors, and signals.

use std::io;
use std::net::SocketAddr;

use reactor::simulated::{World, WorldOptions};
use reactor::{Address, Backend, ConnectOptions, ListenOptions};

use crate::stage::{
    A_WHILE, CLIENT, HERE, LISTENER, THERE, accept, connect, hosts, kind, listen, pair, pass, read,
    tame, token,
};

fn is_out_of_descriptors<T>(result: io::Result<T>) -> bool {
    result.err().and_then(|error| error.raw_os_error()) == Some(EMFILE)
}

#[test]
fn a_host_has_no_more_sockets_than_it_may() {
    let options = WorldOptions { descriptors_max: 2, ..WorldOptions::default() };
    let world = World::new(1, options);
    let mut here = world.host(&[HERE]);
    let mut beside = here.another();
    let addr = Address::from(SocketAddr::from((THERE, 80)));
    let (listen_options, connect_options) = (ListenOptions::default(), ConnectOptions::default());
    let first = connect(&mut here, &addr).unwrap();
    let second = connect(&mut beside, &addr).unwrap();
    let udp = SocketAddr::from((HERE, 7));
    assert!(is_out_of_descriptors(here.connect(&addr, &connect_options, token(CLIENT))));
    assert!(is_out_of_descriptors(here.listen(&udp.into(), &listen_options, token(LISTENER))));
    assert!(is_out_of_descriptors(here.bind_udp(udp, &listen_options, token(CLIENT))));
    here.close(first);
    let first = connect(&mut here, &addr).unwrap();
    // Between two reactors it is open still.
    let detached = here.detach(first).unwrap();
    assert!(is_out_of_descriptors(connect(&mut here, &addr)));
    drop(detached);
    let first = connect(&mut here, &addr).unwrap();
    let first = beside.adopt(here.detach(first).unwrap(), token(CLIENT)).unwrap();
    assert!(is_out_of_descriptors(connect(&mut here, &addr)));
    beside.close(first);
    beside.close(second);
    world.set_descriptors_max(HERE, Some(1));
    connect(&mut here, &addr).unwrap();
    assert!(is_out_of_descriptors(connect(&mut here, &addr)));
    world.set_descriptors_max(HERE, None);
    for _ in 0..100 {
        connect(&mut here, &addr).unwrap();
    }
}

#[test]
fn whoever_comes_to_a_host_without_descriptors_is_turned_away() {
    let world = tame(1);
    let (mut here, mut there) = hosts(&world);
    let (listener, _, server) = pair(&mut here, &mut there);
    world.set_descriptors_max(THERE, Some(2));
    let addr = there.local_addr(listener).unwrap();
    let clients = [0; 3].map(|_| connect(&mut here, &addr).unwrap());
    pass(&mut here, A_WHILE);
    assert!(is_out_of_descriptors(accept(&mut there, listener)));
    assert!(is_out_of_descriptors(accept(&mut there, listener)));
    there.close(server);
    accept(&mut there, listener).unwrap();
    assert_eq!(kind(accept(&mut there, listener)), Some(io::ErrorKind::WouldBlock));
    pass(&mut here, A_WHILE);
    let errors = clients.map(|client| kind(read(&mut here, client)));
    let (reset, open) = (io::ErrorKind::ConnectionReset, io::ErrorKind::WouldBlock);
    assert_eq!(errors.iter().filter(|error| **error == Some(reset)).count(), 2);
    assert_eq!(errors.iter().filter(|error| **error == Some(open)).count(), 1);
}

#[test]
fn a_signal_reaches_all_that_watch_it_on_its_host_and_is_taken_once() {
    let world = tame(1);
    let (mut here, mut there) = hosts(&world);
    let mut beside = here.another();
    let first = here.watch_signal(SIGTERM, token(5)).unwrap();
    let second = beside.watch_signal(SIGTERM, token(6)).unwrap();
    let other = here.watch_signal(SIGHUP, token(7)).unwrap();
    let elsewhere = there.watch_signal(SIGTERM, token(8)).unwrap();
    assert!(!here.take_signal(first));
    assert_eq!(world.raise(HERE, SIGTERM), 2);
    let told = |events: Vec<reactor::Event>| {
        assert!(events.iter().all(|event| event.readable && !event.writable));
        Vec::from_iter(events.iter().map(|event| event.token))
    };
    assert_eq!(told(pass(&mut here, A_WHILE)), [token(5)]);
    assert_eq!(told(pass(&mut beside, A_WHILE)), [token(6)]);
    assert_eq!(told(pass(&mut there, A_WHILE)), []);
    // Not taken, it is told again when it comes again.
    assert_eq!(world.raise(HERE, SIGTERM), 2);
    assert_eq!(told(pass(&mut here, A_WHILE)), [token(5)]);
    assert!(here.take_signal(first) && beside.take_signal(second));
    assert!(!here.take_signal(first) && !here.take_signal(other) && !there.take_signal(elsewhere));
    here.close(first);
    assert_eq!((world.raise(HERE, SIGTERM), world.raise(HERE, 10)), (1, 0));
    assert_eq!(told(pass(&mut here, A_WHILE)), []);
}

#[test]
fn some_signals_cannot_be_watched() {
    let mut here = tame(1).host(&[HERE]);
    for signal in [9, 19, 0, -1, 65] {
        let result = here.watch_signal(signal, token(1));
        assert_eq!(kind(result), Some(io::ErrorKind::InvalidInput), "{signal}");
    }
    listen(&mut here, SocketAddr::from((HERE, 80)));
}

const EMFILE: i32 = 24;
const SIGTERM: i32 = 15;
const SIGHUP: i32 = 1;
