//! A day on which everything happens that can.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reactor::simulated::{Host, TraceEntry, World, WorldOptions};
use reactor::{Address, Backend, DatagramBatch, ListenOptions, Source};

use crate::stage::{HERE, THERE, accept, connect, hosts, listen, pass, read, token, write};

fn day(seed: u64) -> (Vec<TraceEntry>, u64) {
    let options = WorldOptions {
        partial_share: 0.5,
        reset_share: 0.01,
        datagram_loss_share: 0.1,
        datagram_duplicate_share: 0.1,
        datagram_delay_share: 0.1,
        buffer_len: 4000,
        segment_len_max: 700,
        descriptors_max: 20,
        ..WorldOptions::default()
    };
    let world = World::new(seed, options);
    let (mut here, mut there) = hosts(&world);
    let mut beside = world.reactor_on(THERE);
    let addr = Address::from(SocketAddr::from((THERE, 80)));
    let path = Address::from(Path::new("/run/control"));
    let shared = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let doors = [&mut there, &mut beside].map(|host| {
        let udp = host.bind_udp((THERE, 7).into(), &shared, token(4)).unwrap();
        (host.listen(&addr, &shared, token(1)).unwrap(), udp)
    });
    let control = listen(&mut there, path.clone());
    let sender = here.bind_udp((HERE, 0).into(), &ListenOptions::default(), token(4)).unwrap();
    let file = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")).unwrap();
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for round in 0..200 {
        clients.extend(connect(&mut here, &addr));
        for client in &clients {
            here.send_file(*client, &file, round * 10, 1500).ok();
        }
        here.send_segments(sender, (THERE, 7).into(), &[0; 999], 100).unwrap();
        if here.random().is_multiple_of(3) {
            here.close(clients.swap_remove(0));
        }
        if let Ok(client) = connect(&mut there, &path) {
            write(&mut there, client, b"status").ok();
            servers.push(client);
        }
        servers.extend(accept(&mut there, control));
        servers.extend(accept(&mut there, doors[0].0));
        if let Ok((socket, _)) = beside.accept(doors[1].0) {
            servers.extend(there.adopt(beside.detach(socket).unwrap(), token(9)));
        }
        serve(&mut there, &mut servers);
        receive(&mut there, doors[0].1);
        receive(&mut beside, doors[1].1);
        pass(&mut here, Duration::from_millis(7));
    }
    (world.take_trace(), world.trace_digest())
}

/// Echoes, closes what is over, and gives some away to nobody.
fn serve(host: &mut Host, servers: &mut Vec<Source>) {
    servers.retain(|server| {
        match read(host, *server) {
            Ok(bytes) if !bytes.is_empty() => {
                write(host, *server, &bytes).ok();
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => {
                host.close(*server);
                return false;
            }
        }
        let is_dropped = host.random().is_multiple_of(20);
        if is_dropped {
            drop(host.detach(*server));
        }
        !is_dropped
    });
}

fn receive(host: &mut Host, source: Source) {
    let mut batch = DatagramBatch::default();
    while host.receive(source, &mut batch).is_ok() {}
}

#[test]
fn equal_seeds_give_equal_days() {
    let (trace, digest) = day(1);
    let kinds: BTreeSet<_> = trace.iter().map(|entry| entry.kind).collect();
    assert!(trace.len() > 1000 && kinds.len() >= 7, "{} {kinds:?}", trace.len());
    assert!(trace.is_sorted_by_key(|entry| entry.at_micros));
    assert!((trace, digest) == day(1));
    let digests: BTreeSet<u64> = (1..10).map(|seed| day(seed).1).collect();
    assert_eq!(digests.len(), 9);
}
