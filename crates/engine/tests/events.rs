//! What a session tells, to whom, and whom it does not talk to.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use common::{
    GUARD, HONEST, HOSTILE, LOCAL, Leecher, PIECE_LEN, PLAIN, Payload, RawPeer, config, eventually,
    handshake, honest_seed, hostile_door, session, tracker, wait_for,
};
use engine::{
    AddOptions, DisconnectReason, EventKind, EventMask, EventSink, Events, FilterFn, FilterPoint,
    ListenConfig, Packet, Session, SessionConfig, SessionError, SessionLimits, Severity,
};
use torrent::ip_filter::{IpFilter, IpFilterBuilder};
use torrent::tracker::AnnounceEvent;
use torrent::wire::{Message, Reserved};
use torrent::{BLOCK_LEN, Block, InfoHash, PieceIndex};

fn names(events: Events) -> BTreeSet<&'static str> {
    events.map(|event| event.kind.name()).collect()
}

/// A session that has everything, its address, and all that happens.
fn watched_seed(payload: &Payload) -> (Session, SocketAddr, Events) {
    watched_seed_with(payload, SessionLimits::default())
}

fn watched_seed_with(payload: &Payload, limits: SessionLimits) -> (Session, SocketAddr, Events) {
    let seeder = Session::start(SessionConfig { limits, ..config(LOCAL) }).unwrap();
    common::seed(&seeder, payload);
    let events = seeder.subscribe_to(EventMask::ALL).unwrap();
    let addr = seeder.listen_addrs()[0];
    (seeder, addr, events)
}

/// Waits until a connection to `ip` is over; returns why.
fn reason_for(events: &Events, ip: std::net::IpAddr) -> DisconnectReason {
    loop {
        let event = events.recv_timeout(GUARD).expect("a connection that is over");
        if let EventKind::PeerDisconnected { addr, reason, .. } = event.kind
            && addr.ip() == ip
        {
            return reason;
        }
    }
}

/// A peer that shook hands with a seed and sent `messages` has to go for this.
fn assert_goes(messages: &[Message], code: i32) {
    let payload = Payload::new();
    let (_seeder, addr, events) = watched_seed(&payload);
    let hash = payload.metainfo.info_hash();
    let mut peer = RawPeer::dial(addr, hash, Reserved::ours());
    // It may hang up before it has heard everything.
    peer.send(messages).ok();
    assert_eq!(reason_for(&events, LOCAL).code(), code);
}

fn block(piece: u32, offset: u32, len: u32) -> Block {
    Block { piece: PieceIndex(piece), offset, len }
}

fn banning(list: &str) -> IpFilter {
    let mut rules = IpFilterBuilder::default();
    rules.load(list.as_bytes()).unwrap();
    rules.build()
}

#[test]
fn a_whole_download_is_told_in_all_its_steps() {
    let payload = Payload::new();
    let (_honest, honest) = honest_seed(&payload);
    let SocketAddr::V4(v4) = honest else { panic!("{honest}") };
    let peers = [&v4.ip().octets()[..], &v4.port().to_be_bytes()].concat();
    let answer = [
        &b"d8:completei1e10:incompletei0e8:intervali1800e5:peers6:"[..],
        &peers,
        b"15:warning message4:busye",
    ]
    .concat();
    let (sink, events) = EventSink::new(EventMask::ALL);
    let leecher = Session::start(SessionConfig { events: Some(sink), ..config(LOCAL) }).unwrap();
    let usual = leecher.subscribe().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = AddOptions {
        dir: dir.path().into(),
        trackers: Some(vec![vec![tracker(move |_| answer.clone())]]),
        ..AddOptions::default()
    };
    leecher.add(payload.metainfo, options).unwrap();
    wait_for(&usual, |kind| matches!(kind, EventKind::PeerDisconnected { .. }));
    leecher.shutdown(GUARD);
    let usual = names(usual);
    let all = names(events);
    let expected = [
        "listen_succeeded",
        "state",
        "completed",
        "piece_sources",
        "piece_verified",
        "tracker_connected",
        "tracker_written",
        "tracker_read",
        "tracker_disconnected",
        "tracker_answered",
        "tracker_warned",
        "connection_opened",
        "peer_connected",
        "peer_bitfield",
        "packet_sent",
        "packet_received",
        "peer_read",
        "peer_written",
        "file_opened",
        "file_written",
        "file_closed",
    ];
    for name in expected {
        assert!(all.contains(name), "{name} is not among {all:?}");
    }
    for name in ["peer_bitfield", "packet_sent", "peer_read", "file_written", "tracker_read"] {
        assert!(!usual.contains(name), "{name} is too frequent for people");
    }
    assert!(usual.is_subset(&all));
}

#[test]
fn messages_are_told_with_their_fields_in_order() {
    let payload = Payload::new();
    let (_seeder, addr, events) = watched_seed(&payload);
    let mut peer = RawPeer::dial(addr, payload.metainfo.info_hash(), PLAIN);
    let wanted = block(1, BLOCK_LEN, 1000);
    peer.send(&[Message::Interested]).unwrap();
    while peer.receive().unwrap() != Message::Unchoke {}
    peer.send(&[Message::Have(PieceIndex(3)), Message::Request(wanted)]).unwrap();
    let mut received = Vec::new();
    let sent = loop {
        match events.recv_timeout(GUARD).unwrap().kind {
            EventKind::PacketReceived { packet, .. } => received.push(packet),
            EventKind::PacketSent { packet: packet @ Packet::Piece(_), .. } => break packet,
            EventKind::PeerHas { piece, .. } => assert_eq!(piece, PieceIndex(3)),
            _ => {}
        }
    };
    assert_eq!(sent, Packet::Piece(wanted));
    let [Packet::Handshake(theirs), rest @ ..] = &received[..] else { panic!("{received:?}") };
    assert_eq!(theirs.info_hash, payload.metainfo.info_hash());
    let expected = [Message::Interested, Message::Have(PieceIndex(3)), Message::Request(wanted)];
    assert_eq!(rest, expected.map(Packet::Message));
}

#[test]
fn a_torrent_tells_of_itself_only_and_a_function_hears_it_until_it_is_let_go() {
    let (one, other) = (Payload::with_seed(1), Payload::with_seed(2));
    let seeder = session(LOCAL);
    let dir = tempfile::tempdir().unwrap();
    let options = AddOptions { dir: dir.path().into(), ..AddOptions::default() };
    let torrent = seeder.add(one.metainfo.clone(), options).unwrap();
    let heard = Arc::new(Mutex::new(BTreeSet::new()));
    let (sender, receiver) = channel();
    let by_function = Arc::clone(&heard);
    let subscription = torrent
        .on_event(EventMask::ALL, move |event| {
            by_function.lock().unwrap().insert(event.torrent);
            // Nobody listens any more at the end.
            sender.send(event.kind.name()).ok();
        })
        .unwrap();
    let events = torrent.subscribe_to(EventMask::STATUS).unwrap();
    common::seed(&seeder, &other);
    torrent.remove().unwrap();
    assert_eq!(events.recv_timeout(GUARD).unwrap().torrent, Some(one.metainfo.info_hash()));
    assert!(receiver.recv_timeout(GUARD).is_ok());
    drop(subscription);
    assert_eq!(*heard.lock().unwrap(), BTreeSet::from([Some(one.metainfo.info_hash())]));
    let called: Vec<_> = receiver.iter().collect();
    assert!(
        !called.is_empty() || receiver.recv().is_err(),
        "the function is dropped with its thread"
    );
}

#[test]
fn peers_that_break_the_protocol_go_by_their_numbers() {
    assert_goes(&[Message::Have(PieceIndex(1 << 30))], -22);
    assert_goes(&[Message::HaveAll], -25);
    let piece = Message::Piece { piece: PieceIndex(0), offset: 0, data: vec![0; 16].into() };
    assert_goes(&vec![piece; 100], -26);
    assert_goes(&[Message::Reject(block(1 << 30, 0, BLOCK_LEN))], -28);
    assert_goes(&[Message::Reject(block(0, 0, BLOCK_LEN))], -29);
    assert_goes(&[Message::Request(block(0, PIECE_LEN, 1))], -207);
    assert_goes(&vec![Message::Have(PieceIndex(0)); 10_000], -208);
}

#[test]
fn an_invalid_request_is_told_before_its_peer_goes() {
    let payload = Payload::new();
    let (_seeder, addr, events) = watched_seed(&payload);
    let mut peer = RawPeer::dial(addr, payload.metainfo.info_hash(), PLAIN);
    let wrong = block(2, PIECE_LEN - 1, 2);
    peer.send(&[Message::Request(wrong)]).unwrap();
    wait_for(
        &events,
        |kind| matches!(kind, EventKind::InvalidRequest { block, .. } if *block == wrong),
    );
    wait_for(&events, |kind| matches!(kind, EventKind::PeerFailed { .. }));
    assert_eq!(reason_for(&events, LOCAL), DisconnectReason::InvalidRequest);
}

#[test]
fn connections_that_end_before_the_handshake_are_told_too() {
    let payload = Payload::new();
    let limits = SessionLimits {
        handshake_patience: std::time::Duration::from_millis(50),
        ..SessionLimits::default()
    };
    let (_seeder, addr, events) = watched_seed_with(&payload, limits);
    let _silent = TcpStream::connect(addr).unwrap();
    assert_eq!(reason_for(&events, LOCAL).code(), -30);
    // Those who talk have all the time that they need.
    let (_seeder, addr, events) = watched_seed_with(&payload, SessionLimits::default());
    TcpStream::connect(addr).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(reason_for(&events, LOCAL).code(), -13);
    drop(TcpStream::connect(addr).unwrap());
    assert_eq!(reason_for(&events, LOCAL).code(), 0);
    let unknown = InfoHash([9; 20]);
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(&handshake(unknown, PLAIN)).unwrap();
    let told = events.iter().find(|event| matches!(event.kind, EventKind::PeerDisconnected { .. }));
    let told = told.unwrap();
    assert_eq!(told.torrent, Some(unknown), "the torrent that it asked for");
    let EventKind::PeerDisconnected { peer_id, reason, .. } = told.kind else { unreachable!() };
    assert_eq!((reason.code(), peer_id.is_some()), (-11, true));
}

#[test]
fn who_is_dialled_and_is_not_there_or_is_another_goes_by_its_number() {
    let payload = Payload::new();
    let (door, hostile) = hostile_door();
    let leecher = Leecher::start(&payload, &[hostile]);
    let _other = RawPeer::accept(&door, InfoHash([9; 20]), PLAIN);
    assert_eq!(reason_for(&leecher.events, HOSTILE).code(), -12);
    drop(door);
    let (door, closed) = hostile_door();
    drop(door);
    leecher.torrent.add_peer(closed).unwrap();
    let refused = std::io::Error::from_raw_os_error(reason_for(&leecher.events, HOSTILE).code());
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    leecher.torrent.add_peer(leecher.addr()).unwrap();
    assert_eq!(reason_for(&leecher.events, LOCAL), DisconnectReason::Ourselves);
    assert_eq!(reason_for(&leecher.events, LOCAL), DisconnectReason::Ourselves, "both ends");
}

#[test]
fn there_is_one_connection_to_each_peer_and_no_more_than_allowed() {
    let payload = Payload::new();
    let limits = SessionLimits { connections_per_torrent_max: 2, ..SessionLimits::default() };
    let (_seeder, addr, events) = watched_seed_with(&payload, limits);
    let hash = payload.metainfo.info_hash();
    let greet = |number: u8| {
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut hello = handshake(hash, PLAIN);
        hello[67] = number;
        stream.write_all(&hello).unwrap();
        stream
    };
    let _twice = [greet(1), greet(1)];
    assert_eq!(reason_for(&events, LOCAL).code(), -16);
    let _others = [greet(2), greet(3)];
    assert_eq!(reason_for(&events, LOCAL).code(), -17);
}

#[test]
fn what_we_end_ourselves_goes_by_its_number() {
    let payload = Payload::new();
    let hash = payload.metainfo.info_hash();
    let leecher = Leecher::start(&payload, &[]);
    let events = leecher.session.subscribe_to(EventMask::PEERS).unwrap();
    let connect = || {
        let peer = RawPeer::dial(leecher.addr(), hash, PLAIN);
        wait_for(&events, |kind| matches!(kind, EventKind::PeerConnected { .. }));
        peer
    };
    let mut peer = connect();
    peer.send(&[payload.all_bits()]).unwrap();
    let handle = leecher.torrent.peers().unwrap().pop().unwrap();
    assert_eq!(handle.peer_id().0, *b"-XX0000-played12hand");
    eventually("it is a seed", || handle.status().is_some_and(|status| status.is_seed));
    assert!(handle.bitfield().is_some_and(|pieces| pieces.is_all()));
    handle.disconnect().unwrap();
    assert_eq!(reason_for(&events, LOCAL), DisconnectReason::Requested);
    assert!(handle.status().is_none() && handle.bitfield().is_none());
    handle.disconnect().unwrap();
    let _peer = connect();
    leecher.session.set_ip_filter(banning("127.0.0.1-127.0.0.1")).unwrap();
    assert_eq!(reason_for(&events, LOCAL), DisconnectReason::Filtered);
    leecher.session.set_ip_filter(IpFilter::default()).unwrap();
    let _peer = connect();
    leecher.torrent.check().unwrap();
    assert_eq!(reason_for(&events, LOCAL), DisconnectReason::HashChecking);
    common::wait_for_state(&leecher.events, &engine::TorrentState::Downloading);
    let _peer = connect();
    leecher.torrent.stop().unwrap();
    assert_eq!(reason_for(&events, LOCAL), DisconnectReason::Stopped);
    leecher.torrent.start().unwrap();
    let _peer = connect();
    leecher.torrent.remove().unwrap();
    assert_eq!(reason_for(&events, LOCAL), DisconnectReason::Removed);
    let dir = tempfile::tempdir().unwrap();
    let options = AddOptions { dir: dir.path().into(), ..AddOptions::default() };
    let states = leecher.session.subscribe().unwrap();
    leecher.session.add(payload.metainfo, options).unwrap();
    common::wait_for_state(&states, &engine::TorrentState::Downloading);
    let _peer = connect();
    leecher.session.shutdown(GUARD);
    assert_eq!(reason_for(&events, LOCAL), DisconnectReason::Shutdown);
}

#[test]
fn a_bad_piece_is_told_with_whom_it_came_from() {
    let payload = Payload::new();
    let leecher = Leecher::start(&payload, &[]);
    let events = leecher.session.subscribe_to(EventMask::ALL).unwrap();
    let mut peer = RawPeer::dial(leecher.addr(), payload.metainfo.info_hash(), PLAIN);
    peer.send(&[payload.all_bits(), Message::Unchoke]).unwrap();
    let answering = std::thread::spawn(move || {
        while let Some(Block { piece, offset, len }) = peer.receive_request() {
            let data = vec![0; len as usize].into();
            if peer.send(&[Message::Piece { piece, offset, data }]).is_err() {
                return;
            }
        }
    });
    let mut seen = Vec::new();
    let reason = loop {
        let event = events.recv_timeout(GUARD).unwrap();
        match event.kind {
            EventKind::PieceSources { is_good, peers, .. } => {
                assert!(!is_good && peers == [LOCAL]);
                seen.push("sources");
            }
            EventKind::PieceFailed(_) => seen.push("failed"),
            EventKind::PeerBanned { ip } => {
                assert_eq!(ip, LOCAL);
                seen.push("banned");
            }
            EventKind::PeerDisconnected { reason, .. } => break reason,
            _ => {}
        }
    };
    assert_eq!(reason, DisconnectReason::Banned);
    assert!(["sources", "failed", "banned"].iter().all(|what| seen.contains(what)), "{seen:?}");
    answering.join().unwrap();
}

#[test]
fn a_file_that_is_of_no_use_is_told_by_its_number_before_the_torrent_fails() {
    let payload = Payload::new();
    let (_honest, honest) = honest_seed(&payload);
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("payload/a.bin")).unwrap();
    let session = session(LOCAL);
    let events = session.subscribe().unwrap();
    let options =
        AddOptions { dir: dir.path().into(), peers: vec![honest], ..AddOptions::default() };
    session.add(payload.metainfo, options).unwrap();
    let is_it = |kind: &EventKind| matches!(kind, EventKind::FileFailed { file: 0, path, .. } if path.ends_with("payload/a.bin"));
    wait_for(&events, is_it);
    wait_for(&events, |kind| matches!(kind, EventKind::DiskFailed(_)));
    assert_eq!(reason_for(&events, HONEST), DisconnectReason::DiskFailed);
}

#[test]
fn every_datagram_to_and_from_a_tracker_is_told_and_how_often_it_failed() {
    let socket = UdpSocket::bind((LOCAL, 0)).unwrap();
    let url = format!("udp://{}/announce", socket.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut request = [0; 100];
        let (_, from) = socket.recv_from(&mut request).unwrap();
        // An error (action 3) of the transaction that was begun.
        let answer = [&[0, 0, 0, 3][..], &request[12..16], b"go away"].concat();
        socket.send_to(&answer, from).unwrap();
    });
    let payload = Payload::new();
    let session = session(LOCAL);
    let mask = EventMask::TRACKERS | EventMask::TRACKER_TRANSFER;
    let events = session.subscribe_to(mask).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = AddOptions {
        dir: dir.path().into(),
        trackers: Some(vec![vec![url]]),
        ..AddOptions::default()
    };
    session.add(payload.metainfo, options).unwrap();
    let mut told = events.iter().map(|event| event.kind).take(5);
    let event = Some(AnnounceEvent::Started);
    assert!(
        matches!(told.next(), Some(EventKind::TrackerConnected { event: of, .. }) if of == event)
    );
    assert!(matches!(told.next(), Some(EventKind::TrackerWritten { len: 16, .. })));
    assert!(matches!(told.next(), Some(EventKind::TrackerRead { len: 15, .. })));
    assert!(matches!(told.next(), Some(EventKind::TrackerDisconnected { .. })));
    let failed = told.next();
    assert!(
        matches!(&failed, Some(EventKind::TrackerFailed { error, times_in_row: 1, status_code: None, .. }) if error == "go away"),
        "{failed:?}"
    );
}

#[test]
fn whom_the_filter_bans_is_neither_dialled_nor_let_in_nor_asked() {
    let payload = Payload::new();
    let (door, hostile) = hostile_door();
    let (sink, events) = EventSink::new(EventMask::FILTER | EventMask::TRACKERS);
    let config = SessionConfig {
        ip_filter: banning("some where:127.0.0.3-127.0.0.3"),
        on_filter: Some(FilterFn::new(|addr, point| {
            assert_ne!(addr.ip(), HOSTILE, "the rule comes first");
            point == FilterPoint::Outgoing
        })),
        events: Some(sink),
        ..config(LOCAL)
    };
    let session = Session::start(config).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url = tracker(|_| b"d8:intervali1800e5:peers0:e".to_vec());
    let options = AddOptions {
        dir: dir.path().into(),
        peers: vec![hostile],
        trackers: Some(vec![vec![url, "udp://127.0.0.1:9/".to_owned()]]),
        ..AddOptions::default()
    };
    let states = session.subscribe().unwrap();
    session.add(payload.metainfo, options).unwrap();
    common::wait_for_state(&states, &engine::TorrentState::Downloading);
    let _stranger = TcpStream::connect(session.listen_addrs()[0]).unwrap();
    let (mut points, mut failures) = (BTreeSet::new(), 0);
    while points.len() < 3 || failures < 2 {
        match events.recv_timeout(GUARD).unwrap().kind {
            EventKind::IpFiltered { addr, point, rule } => {
                assert_eq!(addr.ip() == HOSTILE, rule.as_deref() == Some("some where"));
                points.insert(format!("{point:?}"));
            }
            EventKind::TrackerFailed { error, times_in_row, .. } => {
                assert!(error.contains("filter"), "{error}");
                assert!(times_in_row > 0);
                failures += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    door.set_nonblocking(true).unwrap();
    assert!(door.accept().is_err(), "the banned peer was dialled");
    assert_eq!(reason_for(&states, LOCAL), DisconnectReason::Filtered);
}

#[test]
fn ports_are_tried_in_order_and_whoever_asked_hears_of_it() {
    let taken = TcpListener::bind((HONEST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let start = |ports: Vec<std::ops::RangeInclusive<u16>>| {
        let (sink, events) = EventSink::new(EventMask::LISTEN);
        let listen = ListenConfig { ports, bind: Some(HONEST) };
        let config = SessionConfig { listen, events: Some(sink), ..config(HONEST) };
        (Session::start(config), events)
    };
    let (session, events) = start(vec![port..=port, 0..=0]);
    let session = session.unwrap();
    let [addr] = *session.listen_addrs() else { panic!("{:?}", session.listen_addrs()) };
    assert_ne!(addr.port(), port);
    let told: Vec<EventKind> = events.try_iter().map(|event| event.kind).collect();
    assert!(
        matches!(&told[..], [
            EventKind::ListenFailed { addr: failed, .. },
            EventKind::ListenSucceeded { addr: told },
        ] if failed.port() == port && *told == addr),
        "{told:?}"
    );
    let (session, events) = start(vec![port..=port]);
    assert!(matches!(session, Err(SessionError::Listen { .. })));
    let last = events.last().unwrap().kind;
    assert_eq!((last.name(), last.severity()), ("not_listening", Severity::Fatal));
}
