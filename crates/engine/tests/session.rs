//! Sessions and a torrent between them, over loopback.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::time::{Duration, Instant};

use common::{
    FILES, GUARD, HONEST, LOCAL, Leecher, PIECE_LEN, Payload, RawPeer, config, eventually, fetch,
    honest_seed, hostile_door, seed, session, wait_for, wait_for_state,
};
use engine::{AddError, AddOptions, CheckError, EventKind, Session, SessionConfig, TorrentState};
use torrent::swarm::SelectorKind;
use torrent::wire::{Message, Reserved};
use torrent::{Block, PieceIndex};

#[test]
fn handles_go_to_any_thread() {
    fn is_handle<T: Clone + Send + Sync>() {}
    is_handle::<Session>();
    is_handle::<engine::Torrent>();
}

#[test]
fn all_files_come_over_whatever_the_family() {
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let payload = Payload::new();
        let seeder = session(ip);
        seed(&seeder, &payload);
        let dir = tempfile::tempdir().unwrap();
        let (leecher, _) = fetch(&payload, seeder.listen_addrs()[0], config(ip), dir.path());
        leecher.shutdown(GUARD);
        payload.assert_equals(dir.path());
    }
}

#[test]
fn each_piece_is_told_of_exactly_once() {
    let payload = Payload::new();
    let seeds = [honest_seed(&payload), honest_seed(&payload)];
    let leecher = Leecher::start(&payload, &seeds.each_ref().map(|(_, addr)| *addr));
    let events = leecher.complete(&payload);
    let mut pieces: Vec<PieceIndex> = events
        .iter()
        .filter_map(|kind| match kind {
            EventKind::PieceVerified(piece) => Some(*piece),
            _ => None,
        })
        .collect();
    pieces.sort_unstable();
    assert_eq!(pieces, (0..payload.piece_count()).map(PieceIndex).collect::<Vec<_>>());
}

#[test]
fn a_stopped_torrent_lets_go_of_its_peers_and_goes_on_when_started() {
    let payload = Payload::new();
    let (door, addr) = hostile_door();
    let leecher = Leecher::start(&payload, &[addr]);
    let mut peer = RawPeer::accept(&door, payload.metainfo.info_hash(), Reserved::ours());
    leecher.torrent.stop().unwrap();
    while peer.receive().is_some() {}
    wait_for_state(&leecher.events, &TorrentState::Stopped);
    assert_eq!(leecher.torrent.status().state, TorrentState::Stopped);
    // The reset of a connection that was never read from is as good as its end.
    let turned_away = TcpStream::connect(leecher.addr()).unwrap().read(&mut [0]);
    assert!(!matches!(turned_away, Ok(1..)));
    let (_seeder, honest) = honest_seed(&payload);
    leecher.torrent.add_peer(honest).unwrap();
    leecher.torrent.start().unwrap();
    leecher.complete(&payload);
}

#[test]
fn a_removed_torrent_leaves_its_files_and_may_come_again() {
    let payload = Payload::new();
    let (_seeder, honest) = honest_seed(&payload);
    let leecher = Leecher::start(&payload, &[honest]);
    leecher.complete(&payload);
    let options = || AddOptions { dir: leecher.dir.path().into(), ..AddOptions::default() };
    let again = leecher.session.add(payload.metainfo.clone(), options());
    assert_eq!(again.err(), Some(AddError::Duplicate(payload.metainfo.info_hash())));
    leecher.torrent.remove().unwrap();
    assert_eq!(leecher.torrent.status().state, TorrentState::Removed);
    payload.assert_equals(leecher.dir.path());
    leecher.session.add(payload.metainfo, options()).unwrap();
    wait_for(&leecher.events, |kind| {
        matches!(kind, EventKind::StateChanged(TorrentState::Checking { total: 1.., .. }))
    });
    wait_for_state(&leecher.events, &TorrentState::Seeding);
}

#[test]
fn a_check_finds_what_was_changed_on_disk_and_it_is_fetched_again() {
    let payload = Payload::new();
    let (_seeder, honest) = honest_seed(&payload);
    let leecher = Leecher::start(&payload, &[honest]);
    leecher.complete(&payload);
    wait_for_state(&leecher.events, &TorrentState::Seeding);
    let file = leecher.dir.path().join("payload/a.bin");
    let mut bytes = fs::read(&file).unwrap();
    bytes[70_000] ^= 1;
    fs::write(&file, bytes).unwrap();
    leecher.torrent.check().unwrap();
    let checked = wait_for_state(&leecher.events, &TorrentState::Downloading);
    let failed: Vec<_> =
        checked.iter().filter(|kind| matches!(kind, EventKind::PieceFailed(_))).collect();
    assert!(matches!(failed[..], [EventKind::PieceFailed(PieceIndex(1))]), "{failed:?}");
    leecher.complete(&payload);
}

#[test]
fn a_check_of_a_stopped_torrent_leaves_it_stopped() {
    let payload = Payload::new();
    let seeder = session(LOCAL);
    let events = seeder.subscribe().unwrap();
    let torrent = seed(&seeder, &payload);
    torrent.stop().unwrap();
    wait_for_state(&events, &TorrentState::Stopped);
    torrent.check().unwrap();
    wait_for_state(&events, &TorrentState::Stopped);
    assert_eq!(torrent.status().pieces_have, payload.piece_count());
}

#[test]
fn checks_in_the_middle_of_a_download_only_delay_it() {
    let payload = Payload::new();
    let (_seeder, honest) = honest_seed(&payload);
    let leecher = Leecher::start(&payload, &[honest]);
    for _ in 0..20 {
        wait_for(&leecher.events, |kind| {
            matches!(kind, EventKind::PieceVerified(_) | EventKind::Completed)
        });
        match leecher.torrent.check() {
            Ok(()) | Err(CheckError::AlreadyChecking) => {}
            Err(error) => panic!("{error}"),
        }
    }
    eventually("all is here", || leecher.torrent.status().state == TorrentState::Seeding);
    payload.assert_equals(leecher.dir.path());
}

#[test]
fn files_that_are_wanted_later_come_later() {
    let payload = Payload::new();
    let (_seeder, honest) = honest_seed(&payload);
    let (mut first, all) = (vec![0; FILES.len()], vec![4; FILES.len()]);
    first[0] = 4;
    let options = AddOptions { priorities: first, peers: vec![honest], ..AddOptions::default() };
    let leecher = Leecher::with_options(&payload, options);
    wait_for(&leecher.events, |kind| matches!(kind, EventKind::Completed));
    wait_for_state(&leecher.events, &TorrentState::Seeding);
    let files = leecher.dir.path().join("payload");
    assert_eq!(fs::read(files.join("a.bin")).unwrap(), payload.bytes[..FILES[0].1]);
    assert!(!files.join("b/c/d.bin").exists());
    leecher.torrent.set_priorities(vec![4]).unwrap();
    leecher.torrent.set_priorities(all).unwrap();
    wait_for_state(&leecher.events, &TorrentState::Downloading);
    // The seed that there was no more use for need not wait its hour.
    leecher.complete(&payload);
}

#[test]
fn a_limit_is_kept_to_whoever_has_it() {
    let payload = Payload::new();
    for (up, down) in [(Some(RATE), None), (None, Some(RATE))] {
        let seeder = session(HONEST);
        let (seeding, honest) = (seed(&seeder, &payload), seeder.listen_addrs()[0]);
        let leecher = Leecher::start(&payload, &[]);
        seeding.set_limits(None, up).unwrap();
        leecher.torrent.set_limits(down, None).unwrap();
        let began_at = Instant::now();
        leecher.torrent.add_peer(honest).unwrap();
        leecher.complete(&payload);
        // What a full bucket lets through at once comes on top.
        let least = Duration::from_secs_f64(0.8 * payload.bytes.len() as f64 / RATE as f64);
        assert!(began_at.elapsed() >= least, "{:?} for {up:?} {down:?}", began_at.elapsed());
    }
}

#[test]
fn a_limit_that_is_lifted_holds_nothing_up_any_more() {
    let payload = Payload::new();
    let (_seeder, honest) = honest_seed(&payload);
    let leecher = Leecher::start(&payload, &[]);
    // At this rate it would take a month.
    leecher.torrent.set_limits(Some(1), None).unwrap();
    leecher.torrent.add_peer(honest).unwrap();
    wait_for(&leecher.events, |kind| matches!(kind, EventKind::PeerConnected { .. }));
    leecher.torrent.set_limits(None, None).unwrap();
    leecher.complete(&payload);
}

#[test]
fn what_was_verified_before_a_session_died_is_not_fetched_again() {
    let payload = Payload::new();
    let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = SessionConfig { state_dir: Some(state.path().into()), ..config(LOCAL) };
    let (door, addr) = hostile_door();
    let killed = Session::start(settings.clone()).unwrap();
    let events = killed.subscribe().unwrap();
    let options = |peer| AddOptions {
        dir: dir.path().into(),
        peers: vec![peer],
        selector: SelectorKind::Linear,
        ..AddOptions::default()
    };
    let torrent = killed.add(payload.metainfo.clone(), options(addr)).unwrap();
    let mut peer = RawPeer::accept(&door, payload.metainfo.info_hash(), Reserved::ours());
    peer.send(&[Message::HaveAll, Message::Unchoke]).unwrap();
    for _ in 0..80 {
        let block = peer.receive_request().unwrap();
        let Block { piece, offset, .. } = block;
        peer.send(&[Message::Piece { piece, offset, data: payload.block(block) }]).unwrap();
    }
    let mut verified = 0;
    while verified < 19 {
        wait_for(&events, |kind| matches!(kind, EventKind::PieceVerified(_)));
        verified += 1;
    }
    drop((torrent, killed));

    let seeder = session(HONEST);
    let (seeding, honest) = (seed(&seeder, &payload), seeder.listen_addrs()[0]);
    let next = Session::start(settings).unwrap();
    let events = next.subscribe().unwrap();
    next.add(payload.metainfo.clone(), options(honest)).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    payload.assert_equals(dir.path());
    seeding.pause().unwrap();
    let fetched = seeding.status().uploaded;
    let missing = payload.bytes.len() as u64 - 19 * u64::from(PIECE_LEN);
    assert!(fetched > 0 && fetched <= missing, "{fetched} of {missing} bytes");
}

#[test]
fn what_is_known_is_saved_however_little_patience_there_is_at_the_end() {
    let payload = Payload::new();
    let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = SessionConfig { state_dir: Some(state.path().into()), ..config(LOCAL) };
    let (_seeder, honest) = honest_seed(&payload);
    for (peers, is_fetched) in [(vec![honest], true), (Vec::new(), false)] {
        let session = Session::start(settings.clone()).unwrap();
        let events = session.subscribe().unwrap();
        let options = AddOptions { dir: dir.path().into(), peers, ..AddOptions::default() };
        session.add(payload.metainfo.clone(), options).unwrap();
        let mut verified = 0;
        loop {
            match events.recv_timeout(GUARD).expect("it goes on").kind {
                EventKind::PieceVerified(_) => verified += 1,
                EventKind::StateChanged(TorrentState::Seeding) => break,
                _ => {}
            }
        }
        assert_eq!(verified > 0, is_fetched, "{verified} pieces");
        session.shutdown(Duration::ZERO);
    }
}

/// Bytes per second: the payload takes two seconds.
const RATE: u64 = 1_150_000;
