//! Peers that break the protocol, lie, flood or say nothing: it costs them their connection, and
//! nobody else anything.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use bytes::Bytes;
use common::{
    GUARD, HOSTILE, LOCAL, Leecher, PIECE_LEN, PLAIN, Payload, RawPeer, assert_serves, config,
    eventually, handshake, honest_seed, hostile_door, seed, session, wait_for, wait_for_parting,
};
use engine::{AddOptions, EventKind, Session, SessionConfig, SessionLimits, TorrentState};
use torrent::wire::{Message, Reserved};
use torrent::{BLOCK_LEN, Block, InfoHash, PieceIndex, Rng};

/// A peer that shook hands with a seed and then sent `bytes` is gone for `reason`, and an honest one
/// is served.
fn assert_parts_from_seed(reserved: Reserved, bytes: &[u8], reason: &str) {
    let payload = Payload::new();
    let seeder = session(LOCAL);
    seed(&seeder, &payload);
    let events = seeder.subscribe().unwrap();
    let addr = seeder.listen_addrs()[0];
    let mut peer = RawPeer::dial(addr, payload.metainfo.info_hash(), reserved);
    // It may hang up before it has heard everything.
    peer.stream.write_all(bytes).ok();
    assert_eq!(wait_for_parting(&events, LOCAL), reason);
    while peer.receive().is_some() {}
    assert_serves(&payload, addr);
}

fn assert_parts_after(reserved: Reserved, messages: &[Message], reason: &str) {
    let mut bytes = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut bytes));
    assert_parts_from_seed(reserved, &bytes, reason);
}

fn request(piece: u32, offset: u32, len: u32) -> Message {
    Message::Request(Block { piece: PieceIndex(piece), offset, len })
}

/// Whether the other end has not hung up.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut bytes = [0; 4096];
    loop {
        match (&mut &*stream).read(&mut bytes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// A connection that has shaken hands as another peer for each `number`. It may be hung up on.
fn greeted(addr: SocketAddr, payload: &Payload, number: u16) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    let mut hello = handshake(payload.metainfo.info_hash(), PLAIN);
    hello[66..].copy_from_slice(&number.to_be_bytes());
    stream.write_all(&hello).ok();
    stream
}

#[test]
fn random_bytes_instead_of_a_handshake_are_hung_up_on() {
    let payload = Payload::new();
    let seeder = session(LOCAL);
    seed(&seeder, &payload);
    for seed in 0..20 {
        let mut rng = Rng::from_seed(seed);
        let noise: Vec<u8> = (0..rng.below(300) + 1).map(|_| rng.u32() as u8).collect();
        let mut stream = TcpStream::connect(seeder.listen_addrs()[0]).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.write_all(&noise).ok();
        let answer = stream.read(&mut [0; 100]);
        assert!(!matches!(answer, Ok(1..)), "an answer to noise");
        assert!(answer.is_ok_and(|len| len == 0) || !is_open(&stream), "still open");
    }
    assert_serves(&payload, seeder.listen_addrs()[0]);
}

#[test]
fn a_wrong_info_hash_is_hung_up_on_whoever_dialled() {
    let payload = Payload::new();
    let wrong = InfoHash([9; 20]);
    let (door, hostile) = hostile_door();
    let (_honest, honest) = honest_seed(&payload);
    let leecher = Leecher::start(&payload, &[hostile]);
    let mut dialled = RawPeer::accept(&door, wrong, Reserved::ours());
    assert_eq!(dialled.receive(), None);
    let mut stream = TcpStream::connect(leecher.addr()).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream.write_all(&handshake(wrong, Reserved::ours())).unwrap();
    assert_eq!(stream.read(&mut [0; 100]).unwrap(), 0);
    leecher.torrent.add_peer(honest).unwrap();
    leecher.complete(&payload);
}

#[test]
fn a_session_told_of_its_own_address_remembers_that_it_is_its_own() {
    let payload = Payload::new();
    let leecher = Leecher::start(&payload, &[]);
    eventually("the address is known to be its own", || {
        leecher.torrent.add_peer(leecher.addr()).unwrap();
        // The state is published with the change.
        leecher.torrent.stop().unwrap();
        let known = leecher.torrent.status().peers_known;
        leecher.torrent.start().unwrap();
        known == 0
    });
    let (_honest, honest) = honest_seed(&payload);
    leecher.torrent.add_peer(honest).unwrap();
    leecher.complete(&payload);
}

#[test]
fn an_oversize_message_ends_the_connection() {
    assert_parts_from_seed(PLAIN, &[0xff, 0xff, 0xff, 0xff, 7], "oversize message");
}

#[test]
fn a_bitfield_of_wrong_length_ends_the_connection() {
    let bits = |len| Message::Bitfield(Bytes::from(vec![0; len]));
    let right = Payload::new().piece_count().div_ceil(8) as usize;
    assert_parts_after(PLAIN, &[bits(right - 1)], "malformed bitfield");
    assert_parts_after(PLAIN, &[bits(right + 1)], "oversize message");
}

#[test]
fn a_bitfield_with_spare_bits_set_ends_the_connection() {
    let len = Payload::new().piece_count().div_ceil(8) as usize;
    let bits = Message::Bitfield(Bytes::from(vec![0xff; len]));
    assert_parts_after(PLAIN, &[bits], "malformed bitfield");
}

#[test]
fn a_stream_of_bitfields_ends_the_connection() {
    let len = Payload::new().piece_count().div_ceil(8) as usize;
    let bits = Message::Bitfield(Bytes::from(vec![0; len]));
    assert_parts_after(PLAIN, &vec![bits; 1000], "flood of control messages");
}

#[test]
fn a_request_that_no_block_can_answer_ends_the_connection() {
    let last = Payload::new().piece_count();
    for (bad, reason) in [
        (request(0, PIECE_LEN - BLOCK_LEN + 1, BLOCK_LEN), "request out of range"),
        (request(0, u32::MAX, BLOCK_LEN), "request out of range"),
        (request(0, 0, 128 * 1024 + 1), "request out of range"),
        (request(0, 0, 0), "request out of range"),
        (request(last, 0, BLOCK_LEN), "no such piece"),
        (request(u32::MAX, 0, BLOCK_LEN), "no such piece"),
    ] {
        assert_parts_after(PLAIN, &[Message::Interested, bad], reason);
    }
}

#[test]
fn a_request_for_what_we_do_not_have_ends_the_connection() {
    let payload = Payload::new();
    let leecher = Leecher::start(&payload, &[]);
    let mut peer = RawPeer::dial(leecher.addr(), payload.metainfo.info_hash(), PLAIN);
    peer.send(&[Message::Interested, request(0, 0, BLOCK_LEN)]).unwrap();
    let reason = wait_for_parting(&leecher.events, LOCAL);
    assert_eq!(reason, "request for a piece that we do not have");
}

#[test]
fn data_that_was_never_asked_for_is_neither_counted_nor_kept() {
    let payload = Payload::new();
    let leecher = Leecher::start(&payload, &[]);
    let mut peer = RawPeer::dial(leecher.addr(), payload.metainfo.info_hash(), PLAIN);
    let block = Block { piece: PieceIndex(0), offset: 0, len: BLOCK_LEN };
    let unasked = Message::Piece { piece: block.piece, offset: 0, data: payload.block(block) };
    while peer.send(std::slice::from_ref(&unasked)).is_ok() {}
    assert_eq!(wait_for_parting(&leecher.events, LOCAL), "data that was never asked for");
    leecher.torrent.stop().unwrap();
    let status = leecher.torrent.status();
    assert_eq!((status.downloaded, status.done_len, status.download_rate), (0, 0, 0));
    assert!(status.wasted > 0);
    assert!(!leecher.dir.path().join("payload/a.bin").exists());
    leecher.torrent.start().unwrap();
    let (_honest, honest) = honest_seed(&payload);
    leecher.torrent.add_peer(honest).unwrap();
    leecher.complete(&payload);
}

#[test]
fn choking_and_unchoking_thousands_of_times_costs_us_little() {
    let payload = Payload::new();
    for reserved in [PLAIN, Reserved::ours()] {
        let (door, hostile) = hostile_door();
        let leecher = Leecher::start(&payload, &[hostile]);
        let mut peer = RawPeer::accept(&door, payload.metainfo.info_hash(), reserved);
        peer.send(&[payload.all_bits()]).unwrap();
        for _ in 0..3000 {
            if peer.send(&[Message::Unchoke, Message::Choke]).is_err() {
                break;
            }
        }
        while peer.receive().is_some() {}
        assert!(peer.received_len < 256 * 1024, "{} bytes", peer.received_len);
        let (_honest, honest) = honest_seed(&payload);
        leecher.torrent.add_peer(honest).unwrap();
        leecher.complete(&payload);
    }
}

#[test]
fn a_thousand_connections_from_one_host_leave_room_for_others() {
    let payload = Payload::new();
    let seeder = session(LOCAL);
    seed(&seeder, &payload);
    let mut open: Vec<TcpStream> = Vec::new();
    let addr = seeder.listen_addrs()[0];
    for round in 0..10 {
        for count in 0..100 {
            // Some say nothing, some begin a handshake as slowly as can be, some shake hands.
            open.push(match count % 4 {
                0 => TcpStream::connect(addr).unwrap(),
                1 => {
                    let mut stream = TcpStream::connect(addr).unwrap();
                    stream.write_all(&[19]).ok();
                    stream
                }
                _ => greeted(addr, &payload, round * 100 + count),
            });
        }
        eventually("one host has no more than its share", || {
            open.retain(is_open);
            open.len() <= PER_HOST_MAX
        });
    }
    assert_serves(&payload, addr);
}

#[test]
fn a_host_that_we_dialled_in_vain_may_open_no_more_connections_for_that() {
    let payload = Payload::new();
    let leecher = Leecher::start(&payload, &[]);
    let greeted = |number| greeted(leecher.addr(), &payload, number as u16);
    let mut open: Vec<TcpStream> = (0..PER_HOST_MAX).map(greeted).collect();
    for _ in 0..PER_HOST_MAX {
        let door = TcpListener::bind((LOCAL, 0)).unwrap();
        leecher.torrent.add_peer(door.local_addr().unwrap()).unwrap();
        let mut dialled = RawPeer::accept(&door, InfoHash([9; 20]), PLAIN);
        assert_eq!(dialled.receive(), None);
    }
    open.extend((PER_HOST_MAX..2 * PER_HOST_MAX).map(greeted));
    eventually("one host has no more than its share", || {
        open.retain(is_open);
        open.len() <= PER_HOST_MAX
    });
}

#[test]
fn a_peer_that_serves_only_lies_is_banned_and_the_file_is_right() {
    let payload = Payload::new();
    let (door, hostile) = hostile_door();
    let leecher = Leecher::start(&payload, &[hostile]);
    let mut liar = RawPeer::accept(&door, payload.metainfo.info_hash(), Reserved::ours());
    liar.send(&[Message::HaveAll, Message::Unchoke]).unwrap();
    while let Some(Block { piece, offset, len }) = liar.receive_request() {
        let data = Bytes::from(vec![0x55; len as usize]);
        if liar.send(&[Message::Piece { piece, offset, data }]).is_err() {
            break;
        }
    }
    let (_honest, honest) = honest_seed(&payload);
    leecher.torrent.add_peer(honest).unwrap();
    let events = leecher.complete(&payload);
    assert_eq!(banned(&events), [HOSTILE]);
    eventually("the lies count as wasted", || {
        leecher.torrent.status().wasted >= u64::from(PIECE_LEN)
    });
}

#[test]
fn of_two_peers_that_sent_one_piece_only_the_liar_is_banned() {
    let payload = Payload::new();
    let (door, hostile) = hostile_door();
    let leecher = Leecher::start(&payload, &[hostile]);
    let mut liar = RawPeer::accept(&door, payload.metainfo.info_hash(), PLAIN);
    liar.send(&[payload.all_bits(), Message::Unchoke]).unwrap();
    let Block { piece, offset, len } = liar.receive_request().unwrap();
    let data = Bytes::from(vec![0x55; len as usize]);
    liar.send(&[Message::Piece { piece, offset, data }, Message::Choke]).unwrap();
    eventually("the lie has come", || leecher.torrent.status().downloaded > 0);
    let (_honest, honest) = honest_seed(&payload);
    leecher.torrent.add_peer(honest).unwrap();
    let events = leecher.complete(&payload);
    assert_eq!(banned(&events), [HOSTILE]);
    assert!(events.iter().any(|kind| matches!(kind, EventKind::PieceFailed(bad) if *bad == piece)));
}

fn banned(events: &[EventKind]) -> Vec<std::net::IpAddr> {
    events
        .iter()
        .filter_map(|kind| match kind {
            EventKind::PeerBanned { ip } => Some(*ip),
            _ => None,
        })
        .collect()
}

#[test]
fn a_peer_that_promises_everything_and_sends_nothing_only_delays() {
    let payload = Payload::new();
    let (door, hostile) = hostile_door();
    let leecher = Leecher::start(&payload, &[hostile]);
    let mut mute = RawPeer::accept(&door, payload.metainfo.info_hash(), Reserved::ours());
    mute.send(&[Message::HaveAll, Message::Unchoke]).unwrap();
    assert!(mute.receive_request().is_some());
    let (slow, honest) = honest_seed(&payload);
    slow.set_limits(None, Some(2_000_000)).unwrap();
    leecher.torrent.add_peer(honest).unwrap();
    leecher.complete(&payload);
}

#[test]
fn a_choking_peer_is_asked_only_for_what_it_allows_and_not_again_for_what_it_rejects() {
    let payload = Payload::new();
    let (door, hostile) = hostile_door();
    let leecher = Leecher::start(&payload, &[hostile]);
    let mut peer = RawPeer::accept(&door, payload.metainfo.info_hash(), Reserved::ours());
    peer.send(&[Message::HaveAll, Message::AllowedFast(PieceIndex(5))]).unwrap();
    for _ in 0..PIECE_LEN / BLOCK_LEN {
        let block = peer.receive_request().unwrap();
        assert_eq!(block.piece, PieceIndex(5));
        peer.send(&[Message::Reject(block)]).unwrap();
    }
    let (_honest, honest) = honest_seed(&payload);
    leecher.torrent.add_peer(honest).unwrap();
    let events = leecher.complete(&payload);
    let has_parted = |kind: &EventKind| matches!(kind, EventKind::PeerDisconnected { addr, detail, .. } if addr.ip() == HOSTILE && detail != "both are seeds");
    assert!(!events.iter().any(has_parted), "{events:?}");
    leecher.session.shutdown(GUARD);
    assert_eq!(peer.receive_request(), None);
}

#[test]
fn a_reject_of_what_was_never_asked_for_ends_the_connection() {
    let block = Block { piece: PieceIndex(0), offset: 0, len: BLOCK_LEN };
    let reject = [Message::Reject(block)];
    assert_parts_after(Reserved::ours(), &reject, "reject of a request that was never made");
    assert_parts_after(PLAIN, &reject, "message of an extension that was not negotiated");
}

#[test]
fn a_flood_of_have_messages_ends_the_connection() {
    let haves = vec![Message::Have(PieceIndex(0)); 100_000];
    assert_parts_after(PLAIN, &haves, "flood of control messages");
    assert_parts_after(PLAIN, &[Message::Have(PieceIndex(1 << 31))], "no such piece");
}

#[test]
fn an_extended_handshake_that_makes_no_sense_ends_the_connection() {
    let hello = |payload: Vec<u8>| Message::Extended { id: 0, payload: payload.into() };
    for (payload, reason) in [
        (vec![b'x'; 64 * 1024], "malformed message"),
        (vec![b'l'; 64 * 1024], "malformed message"),
        (b"d1:m".repeat(10_000), "malformed message"),
        (vec![b'd'; 64 * 1024 + 1], "oversize message"),
    ] {
        assert_parts_after(Reserved::ours(), &[hello(payload)], reason);
    }
}

#[test]
fn a_long_extended_handshake_is_taken_in_part() {
    let payload = Payload::new();
    let leecher = Leecher::start(&payload, &[]);
    let mut peer = RawPeer::dial(leecher.addr(), payload.metainfo.info_hash(), Reserved::ours());
    let name = "\x1b[2J".repeat(16_000);
    let hello = format!("d1:v{}:{name}e", name.len());
    peer.send(&[Message::Extended { id: 0, payload: hello.into() }]).unwrap();
    eventually("it has a name", || {
        let peers = leecher.torrent.peers().unwrap();
        let names: Vec<String> = peers.iter().filter_map(|peer| peer.status()?.client).collect();
        names.iter().for_each(|name| assert!(name.len() <= 64 && !name.contains('\x1b')));
        names.len() == 1
    });
}

#[test]
fn blocks_of_a_torrent_whose_peer_fell_silent_do_not_use_up_all_memory() {
    let (half, whole) = (Payload::with_seed(1), Payload::with_seed(2));
    let limits = SessionLimits { memory_max: 4 * u64::from(BLOCK_LEN), ..SessionLimits::default() };
    let leecher = Session::start(SessionConfig { limits, ..config(LOCAL) }).unwrap();
    let events = leecher.subscribe().unwrap();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (door, hostile) = hostile_door();
    let options =
        AddOptions { dir: dirs[0].path().into(), peers: vec![hostile], ..AddOptions::default() };
    let stuck = leecher.add(half.metainfo.clone(), options).unwrap();
    let mut peer = RawPeer::accept(&door, half.metainfo.info_hash(), Reserved::ours());
    peer.send(&[Message::HaveAll, Message::Unchoke]).unwrap();
    // The first and the second block of each piece, never the whole.
    for sent in 0.. {
        let block = peer.receive_request().unwrap();
        let Block { piece, offset, .. } = block;
        if offset < 2 * BLOCK_LEN {
            peer.send(&[Message::Piece { piece, offset, data: half.block(block) }]).unwrap();
        }
        if sent == 7 {
            break;
        }
    }
    eventually("four blocks are held", || stuck.status().downloaded >= 4 * u64::from(BLOCK_LEN));
    let (_honest, honest) = honest_seed(&whole);
    let options =
        AddOptions { dir: dirs[1].path().into(), peers: vec![honest], ..AddOptions::default() };
    leecher.add(whole.metainfo.clone(), options).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    whole.assert_equals(dirs[1].path());
    assert_eq!(stuck.status().state, TorrentState::Downloading);
}

#[test]
fn hostile_peers_of_every_kind_at_once_do_not_keep_a_download_from_its_end() {
    let payload = Payload::new();
    let leecher = Leecher::start(&payload, &[]);
    let (addr, hash) = (leecher.addr(), payload.metainfo.info_hash());
    let attackers: Vec<_> = (0..8_u64)
        .map(|seed| {
            thread::spawn(move || {
                let mut rng = Rng::from_seed(seed);
                for _ in 0..10 {
                    let Ok(mut stream) = TcpStream::connect(addr) else { return };
                    let noise: Vec<u8> = (0..rng.below(5000)).map(|_| rng.u32() as u8).collect();
                    let hello = handshake(hash, Reserved::ours());
                    stream.write_all(&hello).and_then(|()| stream.write_all(&noise)).ok();
                }
            })
        })
        .collect();
    let (_honest, honest) = honest_seed(&payload);
    leecher.torrent.add_peer(honest).unwrap();
    leecher.complete(&payload);
    attackers.into_iter().for_each(|attacker| attacker.join().unwrap());
}

/// The default of a session.
const PER_HOST_MAX: usize = 50;
