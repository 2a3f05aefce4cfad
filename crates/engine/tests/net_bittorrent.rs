//! What people know from Net::BitTorrent, and must find here: the number of each test is its place in the
//! list of behaviours that are worth carrying over. Those without a number are about its defects. What
//! is not here has its test beside the code that does it.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::env::current_dir;
use std::fs;
use std::io::Write;
use std::path::Path;

use common::tracker_host::TrackerHost;
use common::{
    FILES, GUARD, HONEST, LOCAL, Leecher, PLAIN, Payload, RawPeer, assert_serves, eventually,
    honest_seed, hostile_door, seed, session, wait_for, wait_for_state,
};
use engine::{
    AddError, AddOptions, DisconnectReason, EventKind, EventMask, Events, Peer, Torrent,
    TorrentState,
};
use torrent::metainfo::Metainfo;
use torrent::wire::{Message, Reserved};
use torrent::{BLOCK_LEN, Bitfield, Block, PieceIndex};

const FIRST: Block = Block { piece: PieceIndex(0), offset: 0, len: BLOCK_LEN };

fn in_dir(dir: &Path) -> AddOptions {
    AddOptions { dir: dir.into(), ..AddOptions::default() }
}

/// The same priority for every file.
fn all_files(priority: u8) -> Vec<u8> {
    vec![priority; FILES.len()]
}

fn words(events: &Events) -> Vec<u8> {
    let word = |kind| match kind {
        EventKind::StatusChanged(word) => Some(word.bits()),
        _ => None,
    };
    events.try_iter().filter_map(|event| word(event.kind)).collect()
}

/// The only peer, once it is there.
fn only_peer(torrent: &Torrent) -> Peer {
    eventually("there is a peer", || torrent.peers().unwrap().len() == 1);
    torrent.peers().unwrap().remove(0)
}

fn receive_until(peer: &mut RawPeer, is_it: impl Fn(&Message) -> bool) -> Vec<Message> {
    let mut before = Vec::new();
    loop {
        let message = peer.receive().expect("it is still connected");
        if is_it(&message) {
            return before;
        }
        before.push(message);
    }
}

#[test]
fn b05_a_path_is_absolute_whatever_folder_was_named() {
    let session = session(LOCAL);
    let options = AddOptions { is_stopped: true, ..in_dir(Path::new("not/here")) };
    let torrent = session.add(Payload::new().metainfo, options).unwrap();
    assert_eq!(torrent.path(), current_dir().unwrap().join("not/here/payload"));
}

#[test]
fn b06_a_torrent_is_in_a_session_once_whatever_else_its_file_says() {
    let payload = Payload::new();
    let seeder = session(LOCAL);
    let torrent = seed(&seeder, &payload);
    let info = payload.metainfo.info_bytes();
    let file = [b"d8:announce16:http://[::1]:1/a4:info", info, b"e"].concat();
    let same = Metainfo::parse(&file).unwrap();
    assert_ne!(same.trackers(), payload.metainfo.trackers());
    let hash = same.info_hash();
    assert_eq!(seeder.add(same, payload.here()).err(), Some(AddError::Duplicate(hash)));
    assert_eq!((seeder.count(), torrent.status_word().bits()), (1, 201));
    assert!(torrent.trackers().unwrap().is_empty(), "the first is as it was");
    assert_serves(&payload, seeder.listen_addrs()[0]);
}

#[test]
fn b07_a_torrent_that_is_removed_closes_its_peers_and_tells_its_trackers() {
    let payload = Payload::new();
    let host = TrackerHost::start();
    let trackers = Some(vec![vec![host.http.clone()], vec![host.udp.clone()]]);
    let leecher = Leecher::with_options(&payload, AddOptions { trackers, ..AddOptions::default() });
    for _ in 0..2 {
        wait_for(&leecher.events, |kind| matches!(kind, EventKind::TrackerAnswered { .. }));
    }
    let mut peer = RawPeer::dial(leecher.addr(), payload.metainfo.info_hash(), PLAIN);
    only_peer(&leecher.torrent);
    leecher.session.remove(&leecher.torrent).unwrap();
    while peer.receive().is_some() {}
    let is_parting = |kind: &EventKind| matches!(kind, EventKind::PeerDisconnected { reason, .. } if *reason == DisconnectReason::Removed);
    wait_for(&leecher.events, is_parting);
    assert!(leecher.session.find(payload.metainfo.info_hash()).is_none());
    let port = leecher.addr().port();
    eventually("both trackers know", || {
        host.events_of(port) == ["started", "started", "stopped", "stopped"]
    });
}

#[test]
fn b09_a_disk_that_fails_under_a_checked_torrent_makes_its_word_216() {
    let payload = Payload::new();
    let seeder = session(LOCAL);
    let torrent = seed(&seeder, &payload);
    fs::remove_file(payload.file("a.bin")).unwrap();
    fs::create_dir(payload.file("a.bin")).unwrap();
    let addr = seeder.listen_addrs()[0];
    let mut peer = RawPeer::dial(addr, payload.metainfo.info_hash(), PLAIN);
    peer.send(&[Message::Interested]).unwrap();
    receive_until(&mut peer, |message| *message == Message::Unchoke);
    peer.send(&[Message::Request(FIRST)]).unwrap();
    while peer.receive().is_some() {}
    eventually("it has failed", || torrent.status_word().bits() == 216);
    assert!(torrent.error().unwrap().contains("a.bin"));
}

#[test]
fn b10_to_start_stop_or_pause_twice_is_to_do_it_once() {
    let host = TrackerHost::start();
    let trackers = Some(vec![vec![host.http.clone()]]);
    let options = AddOptions { trackers, ..AddOptions::default() };
    let leecher = Leecher::with_options(&Payload::new(), options);
    wait_for(&leecher.events, |kind| matches!(kind, EventKind::TrackerAnswered { .. }));
    words(&leecher.events);
    let (torrent, events) = (&leecher.torrent, &leecher.events);
    let is_told_once = |act: fn(&Torrent), word: u8| {
        act(torrent);
        act(torrent);
        assert_eq!(torrent.status_word().bits(), word);
        words(events)
    };
    assert_eq!(is_told_once(|torrent| torrent.start().unwrap(), 193), []);
    assert_eq!(is_told_once(|torrent| torrent.stop().unwrap(), 192), [192]);
    assert_eq!(is_told_once(|torrent| torrent.pause().unwrap(), 224), [224]);
    assert_eq!(is_told_once(|torrent| torrent.start().unwrap(), 193), [193]);
    assert_eq!(is_told_once(|torrent| torrent.pause().unwrap(), 225), [225]);
    assert_eq!(is_told_once(|torrent| torrent.start().unwrap(), 193), [193]);
    let port = leecher.addr().port();
    let expected = ["started", "stopped", "started"];
    eventually("the tracker has heard", || host.events_of(port).len() == expected.len());
    assert_eq!(host.events_of(port), expected);
}

#[test]
fn b11_a_paused_seed_keeps_its_peers_and_sends_no_block() {
    let payload = Payload::new();
    let seeder = session(LOCAL);
    let torrent = seed(&seeder, &payload);
    let (addr, hash) = (seeder.listen_addrs()[0], payload.metainfo.info_hash());
    let mut peer = RawPeer::dial(addr, hash, Reserved::ours());
    peer.send(&[Message::Interested]).unwrap();
    receive_until(&mut peer, |message| *message == Message::Unchoke);
    torrent.pause().unwrap();
    peer.send(&[Message::Request(FIRST)]).unwrap();
    let before = receive_until(&mut peer, |message| *message == Message::Reject(FIRST));
    assert!(!before.iter().any(|message| matches!(message, Message::Piece { .. })));
    assert_eq!((torrent.uploaded(), torrent.peers().unwrap().len()), (0, 1));
    torrent.start().unwrap();
    receive_until(&mut peer, |message| *message == Message::Unchoke);
    peer.send(&[Message::Request(FIRST)]).unwrap();
    receive_until(
        &mut peer,
        |message| matches!(message, Message::Piece { data, .. } if *data == payload.block(FIRST)),
    );
}

#[test]
fn b12_payload_is_counted_and_nothing_else_not_even_a_check() {
    let payload = Payload::new();
    let seeder = session(HONEST);
    let seeding = seed(&seeder, &payload);
    let leecher = Leecher::start(&payload, &[seeder.listen_addrs()[0]]);
    leecher.complete(&payload);
    let len = payload.bytes.len() as u64;
    leecher.torrent.check().unwrap();
    wait_for(&leecher.events, |kind| matches!(kind, EventKind::Completed));
    let torrent = &leecher.torrent;
    assert_eq!((torrent.downloaded(), torrent.uploaded(), torrent.left()), (len, 0, 0));
    eventually("all is counted", || seeding.uploaded() == len && seeding.downloaded() == 0);
}

#[test]
fn b13_everything_is_wanted_at_first_and_nothing_when_every_priority_is_zero() {
    let payload = Payload::new();
    let (door, hostile) = hostile_door();
    let leecher = Leecher::start(&payload, &[hostile]);
    let torrent = &leecher.torrent;
    assert_eq!((torrent.left(), torrent.is_complete()), (torrent.size(), false));
    let mut peer = RawPeer::accept(&door, payload.metainfo.info_hash(), PLAIN);
    // Not all, or there would be no use for it.
    let mut bits = Bitfield::all(payload.piece_count());
    bits.clear(PieceIndex(7));
    let bits = Message::Bitfield(bits.as_bytes().to_vec().into());
    torrent.set_priorities(all_files(0)).unwrap();
    wait_for_state(&leecher.events, &TorrentState::Seeding);
    assert_eq!((torrent.left(), torrent.is_complete()), (0, true));
    peer.send(&[bits, Message::Unchoke]).unwrap();
    let handle = only_peer(torrent);
    eventually("it has heard that", || handle.status().is_some_and(|peer| !peer.peer_choking));
    let status = handle.status().unwrap();
    assert_eq!((status.am_interested, status.requests_outstanding), (false, 0));
    torrent.set_priorities(all_files(4)).unwrap();
    assert!(peer.receive_request().is_some());
}

#[test]
fn b15_bits_that_were_handed_out_change_nothing_and_none_are_taken() {
    // Nothing that a torrent can be told to do has bits for an argument: only a check sets them.
    let payload = Payload::new();
    let seeder = session(LOCAL);
    let torrent = seed(&seeder, &payload);
    let mut bits = torrent.bitfield();
    assert!(bits.clear(PieceIndex(0)));
    assert!(torrent.has(PieceIndex(0)) && torrent.bitfield().is_all());
}

#[test]
fn b26_a_message_may_come_a_byte_at_a_time_and_waits_for_its_last() {
    let payload = Payload::new();
    let seeder = session(LOCAL);
    seed(&seeder, &payload);
    let mut peer = RawPeer::dial(seeder.listen_addrs()[0], payload.metainfo.info_hash(), PLAIN);
    peer.send(&[Message::Interested]).unwrap();
    receive_until(&mut peer, |message| *message == Message::Unchoke);
    let events = seeder.subscribe_to(EventMask::TRANSFER).unwrap();
    let mut bytes = Vec::new();
    Message::Request(FIRST).encode(&mut bytes);
    let (last, all_but_last) = bytes.split_last().unwrap();
    peer.stream.set_nodelay(true).unwrap();
    all_but_last.iter().for_each(|&byte| peer.stream.write_all(&[byte]).unwrap());
    let mut unread = all_but_last.len();
    while unread > 0 {
        if let EventKind::PeerRead { len, .. } = events.recv_timeout(GUARD).unwrap().kind {
            unread -= len;
        }
    }
    peer.stream.write_all(&[*last]).unwrap();
    receive_until(&mut peer, |message| matches!(message, Message::Piece { .. }));
}

#[test]
fn completed_is_announced_once_when_everything_is_here_and_not_when_nothing_is_wanted() {
    let payload = Payload::new();
    let host = TrackerHost::start();
    let (session, dir) = (session(LOCAL), tempfile::tempdir().unwrap());
    let events = session.subscribe().unwrap();
    let trackers = Some(vec![vec![host.http.clone()]]);
    let options = AddOptions { trackers, priorities: all_files(0), ..in_dir(dir.path()) };
    let torrent = session.add(payload.metainfo.clone(), options).unwrap();
    wait_for_state(&events, &TorrentState::Seeding);
    assert_eq!((torrent.bitfield().count(), torrent.is_complete()), (0, true));
    let (_honest, honest) = honest_seed(&payload);
    torrent.add_peer(honest).unwrap();
    let mut first = all_files(0);
    first[0] = 4;
    for wanted in [first, all_files(4)] {
        torrent.set_priorities(wanted).unwrap();
        wait_for_state(&events, &TorrentState::Downloading);
        wait_for_state(&events, &TorrentState::Seeding);
    }
    payload.assert_equals(dir.path());
    let port = session.listen_addrs()[0].port();
    eventually("it is announced", || host.events_of(port).len() > 1);
    torrent.check().unwrap();
    wait_for_state(&events, &TorrentState::Seeding);
    session.shutdown(GUARD);
    assert_eq!(host.events_of(port), ["started", "completed", "stopped"]);
}

#[test]
fn a_seed_of_which_nothing_is_wanted_is_complete_and_serves() {
    let payload = Payload::new();
    let seeder = session(LOCAL);
    let torrent = seed(&seeder, &payload);
    torrent.set_priorities(all_files(0)).unwrap();
    eventually("nothing is wanted", || torrent.status().wanted_len == 0);
    assert!(torrent.is_complete() && torrent.bitfield().is_all());
    assert_eq!(torrent.status().state, TorrentState::Seeding);
    assert_serves(&payload, seeder.listen_addrs()[0]);
    let events = seeder.subscribe().unwrap();
    torrent.check().unwrap();
    wait_for_state(&events, &TorrentState::Seeding);
    assert!(torrent.is_complete() && torrent.bitfield().is_all());
}

#[test]
fn a_torrent_that_is_removed_halfway_and_comes_again_goes_on() {
    let payload = Payload::new();
    let (_honest, honest) = honest_seed(&payload);
    let leecher = Leecher::start(&payload, &[]);
    leecher.torrent.set_limits(Some(1), None).unwrap();
    leecher.torrent.add_peer(honest).unwrap();
    wait_for(&leecher.events, |kind| matches!(kind, EventKind::PeerConnected { .. }));
    for _ in 0..3 {
        let hash = payload.metainfo.info_hash();
        leecher.session.remove(&leecher.session.find(hash).unwrap()).unwrap();
        let options = AddOptions { peers: vec![honest], ..in_dir(leecher.dir.path()) };
        leecher.session.add(payload.metainfo.clone(), options).unwrap();
    }
    leecher.complete(&payload);
}

#[test]
fn a_peer_is_told_of_once_however_much_it_says() {
    let payload = Payload::new();
    let seeder = session(LOCAL);
    seed(&seeder, &payload);
    let events = seeder.subscribe().unwrap();
    let mut peer = RawPeer::dial(seeder.listen_addrs()[0], payload.metainfo.info_hash(), PLAIN);
    peer.send(&[Message::Interested]).unwrap();
    receive_until(&mut peer, |message| *message == Message::Unchoke);
    for _ in 0..10 {
        peer.send(&[Message::Request(FIRST)]).unwrap();
        receive_until(&mut peer, |message| matches!(message, Message::Piece { .. }));
    }
    drop(peer);
    let before = wait_for(&events, |kind| matches!(kind, EventKind::PeerDisconnected { .. }));
    let is_arrival = |kind: &&EventKind| matches!(kind, EventKind::PeerConnected { .. });
    assert_eq!(before.iter().filter(is_arrival).count(), 1);
}
