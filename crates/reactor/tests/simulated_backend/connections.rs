//! Streams: paths, shared ports, files, halves and errors.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reactor::simulated::{Host, World, WorldOptions};
use reactor::{Address, Backend, ListenOptions, Source};

use crate::stage::{
    A_WHILE, CLIENT, HERE, SERVER, THERE, accept, connect, hosts, kind, listen, pair, pass, read,
    tame, token, write,
};

#[test]
fn a_path_leads_to_its_listener_on_its_own_host_alone() {
    let (mut here, mut there) = hosts(&tame(1));
    let path = Address::from(Path::new("/run/control"));
    let listener = listen(&mut here, path.clone());
    let client = connect(&mut here, &path).unwrap();
    assert_eq!(kind(connect(&mut there, &path)), Some(ErrorKind::NotFound));
    assert_eq!(pass(&mut here, Duration::from_millis(1)).len(), 2);
    let (server, peer) = here.accept(listener).unwrap();
    here.finish_connect(client).unwrap();
    assert_eq!(peer, Address::Unix(None));
    assert_eq!(here.peer_addr(server).unwrap(), Address::Unix(None));
    assert_eq!(here.local_addr(client).unwrap(), Address::Unix(None));
    for addr in [here.peer_addr(client), here.local_addr(server), here.local_addr(listener)] {
        assert_eq!(addr.unwrap(), path);
    }
    write(&mut here, client, b"hello").unwrap();
    pass(&mut here, Duration::from_millis(1));
    assert_eq!(read(&mut here, server).unwrap(), b"hello");
}

#[test]
fn a_path_is_its_listeners_until_that_is_closed() {
    let (mut here, _) = hosts(&tame(1));
    let path = Address::from(Path::new("/run/control"));
    assert_eq!(kind(connect(&mut here, &path)), Some(ErrorKind::NotFound));
    let listener = listen(&mut here, path.clone());
    let again = here.listen(&path, &ListenOptions::default(), token(9));
    assert_eq!(kind(again), Some(ErrorKind::AddrInUse));
    here.close(listener);
    assert_eq!(kind(connect(&mut here, &path)), Some(ErrorKind::ConnectionRefused));
    listen(&mut here, path.clone());
    connect(&mut here, &path).unwrap();
    assert_eq!(kind(connect(&mut here, &Address::Unix(None))), Some(ErrorKind::InvalidInput));
    assert_eq!(kind(connect(&mut here, &Address::Pipe)), Some(ErrorKind::InvalidInput));
}

/// How many of forty connections each of two listeners at one port got.
fn spread(seed: u64) -> [usize; 2] {
    let world = tame(seed);
    let (mut here, mut there) = hosts(&world);
    let mut beside = world.reactor_on(THERE);
    let addr = Address::from(SocketAddr::from((THERE, 80)));
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let open = |host: &mut Host| host.listen(&addr, &options, token(1)).unwrap();
    let (first, second) = (open(&mut there), open(&mut beside));
    assert_eq!(
        kind(there.listen(&addr, &ListenOptions::default(), token(1))),
        Some(ErrorKind::AddrInUse)
    );
    for _ in 0..40 {
        connect(&mut here, &addr).unwrap();
    }
    pass(&mut here, A_WHILE);
    let count = |host: &mut Host, listener| {
        std::iter::repeat_with(|| host.accept(listener)).take_while(Result::is_ok).count()
    };
    [count(&mut there, first), count(&mut beside, second)]
}

#[test]
fn listeners_that_share_a_port_share_what_comes() {
    for seed in 0..10 {
        let [first, second] = spread(seed);
        assert!(first + second == 40 && first.min(second) > 5, "seed {seed}: {first} {second}");
        assert_eq!(spread(seed), [first, second]);
    }
}

#[test]
fn a_port_that_was_not_to_be_shared_is_not() {
    let (mut here, _) = hosts(&tame(1));
    listen(&mut here, SocketAddr::from((HERE, 80)));
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let addr = SocketAddr::from((HERE, 80)).into();
    assert_eq!(kind(here.listen(&addr, &options, token(9))), Some(ErrorKind::AddrInUse));
}

#[test]
fn a_file_goes_out_in_pieces_as_there_is_room_and_its_end_is_nothing() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs");
    let (file, expected) = (File::open(path).unwrap(), fs::read(path).unwrap());
    for seed in 0..20 {
        let options =
            WorldOptions { partial_share: 0.5, buffer_len: 1000, ..WorldOptions::default() };
        let (mut here, mut there) = hosts(&World::new(seed, options));
        let (_, client, server) = pair(&mut here, &mut there);
        let (mut received, mut offset, mut is_full) = (Vec::new(), 100, false);
        loop {
            match here.send_file(client, &file, offset, 1 << 20) {
                Ok(0) => break,
                Ok(count) => offset += count as u64,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    is_full = true;
                    drain(&mut there, server, &mut received);
                    assert!(pass(&mut here, A_WHILE).iter().any(|event| event.writable));
                }
            }
        }
        drain(&mut there, server, &mut received);
        assert!(is_full && received == expected[100..], "seed {seed}");
    }
}

fn drain(host: &mut Host, source: Source, received: &mut Vec<u8>) {
    pass(host, A_WHILE);
    while let Ok(bytes) = read(host, source) {
        received.extend(bytes);
    }
}

#[test]
fn sending_less_of_a_file_than_was_asked_for_is_told_when_there_is_room() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs");
    let file = File::open(path).unwrap();
    let options = WorldOptions { partial_share: 0.0, buffer_len: 1000, ..WorldOptions::default() };
    let (mut here, mut there) = hosts(&World::new(1, options));
    let (_, client, server) = pair(&mut here, &mut there);
    assert_eq!(here.send_file(client, &file, 0, 2000).unwrap(), 1000);
    assert!(pass(&mut here, A_WHILE).is_empty());
    drain(&mut there, server, &mut Vec::new());
    assert!(pass(&mut here, A_WHILE).iter().any(|event| event.writable));
}

#[test]
fn each_half_closes_alone_and_both_together_hang_up() {
    let (mut here, mut there) = hosts(&tame(1));
    let (_, client, server) = pair(&mut here, &mut there);
    here.shutdown_write(client);
    let events = pass(&mut there, A_WHILE);
    assert!(events.iter().any(|event| event.ended && event.readable));
    assert!(events.iter().all(|event| event.token == token(SERVER) && !event.hung_up));
    assert_eq!(read(&mut there, server).unwrap(), b"");
    assert_eq!(kind(write(&mut here, client, b"no")), Some(ErrorKind::BrokenPipe));
    write(&mut there, server, b"all the same").unwrap();
    there.shutdown_write(server);
    let events = pass(&mut there, A_WHILE);
    assert!(events.iter().any(|event| event.hung_up && !event.ended));
    assert_eq!(read(&mut here, client).unwrap(), b"all the same");
    let events = pass(&mut here, A_WHILE);
    assert!(events.iter().any(|event| event.hung_up && event.token == token(CLIENT)));
    assert_eq!(read(&mut here, client).unwrap(), b"");
}

#[test]
fn what_broke_a_connection_is_told_once() {
    let world = tame(1);
    let (mut here, mut there) = hosts(&world);
    let (_, client, server) = pair(&mut here, &mut there);
    assert!(here.take_error(client).is_none());
    world.reset_between(HERE, THERE);
    pass(&mut here, A_WHILE);
    let error = here.take_error(client).map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::ConnectionReset));
    assert!(here.take_error(client).is_none());
    assert_eq!(read(&mut here, client).unwrap(), b"");
    assert_eq!(kind(here.peer_addr(client)), Some(ErrorKind::NotConnected));
    assert_eq!(kind(write(&mut there, server, b"x")), Some(ErrorKind::ConnectionReset));
    assert_eq!(kind(write(&mut there, server, b"x")), Some(ErrorKind::BrokenPipe));
    let refused = connect(&mut here, &SocketAddr::from((THERE, 81)).into()).unwrap();
    assert_eq!(kind(here.finish_connect(refused)), Some(ErrorKind::WouldBlock));
    pass(&mut here, A_WHILE);
    assert_eq!(kind(here.finish_connect(refused)), Some(ErrorKind::ConnectionRefused));
    assert!(here.take_error(refused).is_none());
}

#[test]
fn two_connections_of_one_pair_of_hosts_overtake_each_other() {
    let overtakes = |seed: &u64| {
        let (mut here, mut there) = hosts(&tame(*seed));
        let (listener, first, first_there) = pair(&mut here, &mut there);
        let second = connect(&mut here, &there.local_addr(listener).unwrap()).unwrap();
        pass(&mut here, A_WHILE);
        let second_there = accept(&mut there, listener).unwrap();
        write(&mut here, first, b"first").unwrap();
        write(&mut here, second, b"second").unwrap();
        loop {
            pass(&mut here, Duration::from_micros(1));
            match (read(&mut there, first_there), read(&mut there, second_there)) {
                (Err(_), Err(_)) => {}
                (first, second) => return first.is_err() && second.is_ok(),
            }
        }
    };
    let count = (0..40).filter(overtakes).count();
    assert!((5..35).contains(&count), "{count}");
}
