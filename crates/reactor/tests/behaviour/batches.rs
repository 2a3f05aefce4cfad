//! Many datagrams at once, and stream sockets that have paths.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use reactor::simulated::{World, WorldOptions};
use reactor::{
    Accepted, Address, Budgets, ConnectOptions, DatagramHandler, ListenOptions, Reactor, Token,
};

use crate::parts::{HERE, count_turns, few_turns};
use crate::stage::{Door, everywhere, noise, read, script, turn_for, turn_until};

/// What came, turn by turn, and how often there was room.
#[derive(Default)]
struct Log {
    received: Vec<(SocketAddr, Vec<u8>)>,
    writable: usize,
}

struct Socket;

impl DatagramHandler<Log> for Socket {
    fn datagram(
        &mut self,
        _: Token,
        from: SocketAddr,
        data: &[u8],
        log: &mut Log,
        _: &mut Reactor<Log>,
    ) {
        log.received.push((from, data.to_vec()));
    }

    fn writable(&mut self, _: Token, log: &mut Log, _: &mut Reactor<Log>) {
        log.writable += 1;
    }
}

fn bind(reactor: &mut Reactor<Log>, ip: std::net::IpAddr) -> (Token, SocketAddr) {
    let token =
        reactor.bind_udp((ip, 0).into(), &ListenOptions::default(), Box::new(Socket)).unwrap();
    (token, reactor.local_addr(token).unwrap())
}

/// A tenth at a time: as much as the receiver's buffer surely holds.
const BATCH: usize = 100;

#[test]
fn a_thousand_datagrams_of_two_senders_arrive_in_the_order_of_each() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (senders, (_, to)) =
            ([bind(&mut reactor, ip), bind(&mut reactor, ip)], bind(&mut reactor, ip));
        let all = Vec::from_iter((0..500_u16).map(u16::to_be_bytes));
        for part in all.chunks(BATCH / 2) {
            for (sender, _) in senders {
                let datagrams = Vec::from_iter(part.iter().map(|data| (to, data.as_slice())));
                assert_eq!(reactor.send_many(sender, &datagrams).unwrap(), BATCH / 2);
            }
            let expected = log.received.len() + BATCH;
            turn_until(&mut reactor, &mut log, |log| log.received.len() == expected);
        }
        for (_, addr) in senders {
            let of_one = log.received.iter().filter(|(from, _)| *from == addr);
            // The simulated network may overtake, as the real one does; it is told to keep order here.
            assert!(of_one.map(|(_, data)| data.as_slice()).eq(all.iter().map(|data| &data[..])));
        }
    });
}

#[test]
fn segments_arrive_as_datagrams() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let ((sender, from), (_, to)) = (bind(&mut reactor, ip), bind(&mut reactor, ip));
        let data = noise(70_500);
        assert_eq!(reactor.send_segments(sender, to, &data, 1000).unwrap(), data.len());
        turn_until(&mut reactor, &mut log, |log| log.received.len() == 71);
        let expected = data.chunks(1000).map(|segment| (from, segment.to_vec()));
        assert!(log.received.iter().cloned().eq(expected));
        reactor.send_segments(sender, to, &data, 0).unwrap_err();
        reactor.close(sender, "over");
        reactor.send_segments(sender, to, &data, 1000).unwrap_err();
        reactor.send_many(sender, &[(to, b"data")]).unwrap_err();
    });
}

#[test]
fn a_flood_of_datagrams_has_its_share_of_a_turn() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let budget = 20;
        reactor.set_budgets(Budgets { datagrams: budget as u32, ..Budgets::default() });
        let mut log = Log::default();
        let ((sender, _), (_, to)) = (bind(&mut reactor, ip), bind(&mut reactor, ip));
        let datagrams = [(to, b"datagram".as_slice()); BATCH];
        assert_eq!(reactor.send_many(sender, &datagrams).unwrap(), BATCH);
        let mut turns = 0;
        while log.received.len() < BATCH {
            let before = log.received.len();
            reactor.turn(&mut log, None).unwrap();
            assert!(log.received.len() - before < budget + reactor::DatagramBatch::BUFFERS);
            turns += 1;
        }
        assert!(turns >= 3);
    });
}

#[test]
fn room_for_datagrams_is_told_once_for_each_time_that_was_asked() {
    everywhere(|mut reactor: Reactor<Log>, ip| {
        let mut log = Log::default();
        let (socket, _) = bind(&mut reactor, ip);
        turn_for(&mut reactor, &mut log, Duration::from_millis(5));
        assert_eq!(log.writable, 0);
        for asked in 1..4 {
            reactor.notify_writable(socket);
            let a_while = Duration::from_millis(20);
            let turns = count_turns(&mut reactor, &mut log, a_while);
            assert!(turns < few_turns(a_while), "{turns} turns");
            assert_eq!(log.writable, asked);
        }
    });
}

/// Says what came over connections to a path, and who they are said to be.
fn talk_at(mut reactor: Reactor<Vec<u8>>, path: PathBuf) {
    let door = Door(|accepted: Accepted, _: &mut Vec<u8>, reactor: &mut Reactor<Vec<u8>>| {
        assert_eq!(accepted.peer, Address::Unix(None));
        let echo = script().readable(|token, _, reactor| {
            let bytes = read(token, reactor)?;
            reactor.write(token, bytes)?;
            Ok(())
        });
        reactor.attach(accepted, echo.boxed()).unwrap();
    });
    let options = ListenOptions::default();
    let listener = reactor.listen(path.clone(), &options, Box::new(door)).unwrap();
    let client = || {
        script()
            .connected(|token, _, reactor| {
                reactor.write(token, noise(500_000))?;
                Ok(())
            })
            .readable(|token, received: &mut Vec<u8>, reactor| {
                received.extend(read(token, reactor)?);
                Ok(())
            })
    };
    let client = reactor.connect(path.clone(), &ConnectOptions::default(), client().boxed());
    let client = client.unwrap();
    let mut received = Vec::new();
    turn_until(&mut reactor, &mut received, |received| received.len() >= 500_000);
    assert!(received == noise(500_000));
    let addr = Address::from(path.clone());
    assert_eq!(reactor.peer_address(client), Some(addr.clone()));
    assert_eq!(reactor.local_address(listener), Some(addr.clone()));
    assert_eq!((reactor.peer_addr(client), reactor.local_addr(listener)), (None, None));
    assert_eq!(reactor.info(client).unwrap().peer, Some(addr));
    // Once its listener is gone a path is free.
    let another = || Box::new(Door(|_, _: &mut Vec<u8>, _: &mut Reactor<Vec<u8>>| {}));
    assert!(reactor.listen(path.clone(), &options, another()).is_err());
    reactor.close(listener, "over");
    reactor.listen(path, &options, another()).unwrap();
}

#[test]
fn a_path_leads_to_its_listener() {
    let folder = tempfile::tempdir().unwrap();
    talk_at(Reactor::new().unwrap(), folder.path().join("socket"));
    for seed in 0..10 {
        let world = World::new(seed, WorldOptions::default());
        talk_at(Reactor::simulated(world.host(&[HERE])), "/run/socket".into());
    }
}
