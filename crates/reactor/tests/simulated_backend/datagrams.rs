//! Datagrams by the batch.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;

use reactor::simulated::{Host, World, WorldOptions};
use reactor::{Backend, DatagramBatch, ListenOptions, Source};

use crate::stage::{A_WHILE, HERE, THERE, hosts, kind, pass, tame, token};

fn bind(host: &mut Host, addr: SocketAddr) -> Source {
    host.bind_udp(addr, &ListenOptions::default(), token(1)).unwrap()
}

/// All that has come, by the batch.
fn receive_all(host: &mut Host, source: Source) -> Vec<Vec<Vec<u8>>> {
    let mut batch = DatagramBatch::default();
    let mut batches = Vec::new();
    while host.receive(source, &mut batch).is_ok() {
        batches.push(batch.iter().map(|(_, bytes)| bytes.to_vec()).collect());
    }
    batches
}

/// Without jitter, so that what is sent in order arrives so.
fn steady(seed: u64, partial_share: f64) -> World {
    let jitter = std::time::Duration::ZERO;
    World::new(seed, WorldOptions { jitter, partial_share, ..WorldOptions::default() })
}

#[test]
fn segments_and_many_arrive_as_the_datagrams_they_are() {
    let (mut here, mut there) = hosts(&steady(1, 0.0));
    let to = SocketAddr::from((THERE, 7));
    let (sender, receiver) = (bind(&mut here, (HERE, 0).into()), bind(&mut there, to));
    assert_eq!(here.send_segments(sender, to, b"aabbc", 2).unwrap(), 5);
    assert_eq!(here.send_many(sender, &[(to, b"dd"), (to, b"")]).unwrap(), 2);
    pass(&mut there, A_WHILE);
    assert_eq!(receive_all(&mut there, receiver), [[b"aa".as_slice(), b"bb", b"c", b"dd", b""]]);
}

#[test]
fn what_cannot_be_sent_fails_only_if_it_is_the_first() {
    let (mut here, _) = hosts(&tame(1));
    let (to, sender) = (SocketAddr::from((THERE, 7)), bind(&mut here, (HERE, 0).into()));
    let long = vec![0; 70_000];
    assert_eq!(here.send_many(sender, &[(to, b"a"), (to, &long), (to, b"b")]).unwrap(), 1);
    assert!(here.send_many(sender, &[(to, &long), (to, b"b")]).is_err());
    assert!(here.send_segments(sender, to, &long, 66_000).is_err());
    assert_eq!(kind(here.send_segments(sender, to, b"a", 0)), Some(ErrorKind::InvalidInput));
}

#[test]
fn a_batch_is_full_or_by_chance_less_and_loses_nothing() {
    for (seed, partial_share) in (0..10).map(|seed| (seed, 0.5 * (seed % 2) as f64)) {
        let (mut here, mut there) = hosts(&steady(seed, partial_share));
        let to = SocketAddr::from((THERE, 7));
        let (sender, receiver) = (bind(&mut here, (HERE, 0).into()), bind(&mut there, to));
        let all = Vec::from_iter(0..100_u8);
        here.send_segments(sender, to, &all, 1).unwrap();
        pass(&mut there, A_WHILE);
        let batches = receive_all(&mut there, receiver);
        let lens: BTreeSet<usize> = batches.iter().map(Vec::len).collect();
        assert!(lens.iter().all(|len| (1..=DatagramBatch::BUFFERS).contains(len)));
        assert_eq!(batches.concat().concat(), all);
        assert_eq!(lens != BTreeSet::from([16, 4]), partial_share > 0.0, "seed {seed}: {lens:?}");
    }
}

#[test]
fn a_batch_that_was_not_full_says_when_there_is_more() {
    let (mut here, mut there) = hosts(&steady(3, 1.0));
    let to = SocketAddr::from((THERE, 7));
    let (sender, receiver) = (bind(&mut here, (HERE, 0).into()), bind(&mut there, to));
    here.send_segments(sender, to, &[0; 10], 1).unwrap();
    let mut batch = DatagramBatch::default();
    let mut count = 0;
    while count < 10 {
        assert!(pass(&mut there, A_WHILE).iter().any(|event| event.readable));
        there.receive(receiver, &mut batch).unwrap();
        count += batch.iter().count();
    }
}

#[test]
fn one_sender_always_reaches_the_same_of_those_that_share_a_port() {
    let world = tame(1);
    let (mut here, mut there) = hosts(&world);
    let mut beside = world.reactor_on(THERE);
    let to = SocketAddr::from((THERE, 7));
    let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let first = there.bind_udp(to, &options, token(1)).unwrap();
    let second = beside.bind_udp(to, &options, token(1)).unwrap();
    for number in 0..20_u8 {
        let sender = bind(&mut here, (HERE, 0).into());
        here.send_segments(sender, to, &[number; 5], 1).unwrap();
    }
    pass(&mut here, A_WHILE);
    let mut firsts = receive_all(&mut there, first).concat().concat();
    let mut seconds = receive_all(&mut beside, second).concat().concat();
    assert!(firsts.len().min(seconds.len()) > 10 && firsts.len() + seconds.len() == 100);
    for got in [&mut firsts, &mut seconds] {
        got.sort_unstable();
        assert!(got.chunks(5).all(|chunk| chunk.iter().all(|number| *number == chunk[0])));
    }
}
