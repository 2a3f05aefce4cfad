//! Checks of what is on disk, and the states of a torrent before, meanwhile and after.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Instant;

use common::{
    GUARD, LOCAL, Leecher, PIECE_LEN, Payload, RawPeer, config, eventually, honest_seed,
    hostile_door, seed, session, wait_for, wait_for_state,
};
use engine::{
    AddError, AddOptions, CheckError, CheckOptions, EventKind, Events, Orphan, Session,
    SessionConfig, StatusWord, Torrent, TorrentState,
};
use torrent::PieceIndex;
use torrent::wire::{Message, Reserved};

#[test]
fn the_status_word_goes_through_a_check_in_order() {
    let payload = Payload::new();
    for (start_after_check, expected) in [(false, [193, 195, 201]), (true, [197, 199, 201])] {
        let session = session(LOCAL);
        let events = session.subscribe().unwrap();
        let torrent = session.add(payload.metainfo.clone(), here(&payload, start_after_check));
        let torrent = torrent.unwrap();
        assert_eq!(words_until(&events, 201), expected);
        torrent.check().unwrap();
        assert_eq!(words_until(&events, 201), [195, 201]);
        torrent.stop().unwrap();
        torrent.pause().unwrap();
        assert_eq!(torrent.check(), Err(CheckError::Paused));
        assert_eq!(words_until(&events, 232), [200, 232]);
        torrent.start().unwrap();
        assert_eq!(words_until(&events, 201), [201]);
        session.remove(&torrent).unwrap();
        assert_eq!(words_until(&events, 72), [72]);
        assert_eq!(torrent.status().state, TorrentState::Removed);
        assert!(matches!(torrent.check(), Err(CheckError::Gone(_))));
    }
}

#[test]
fn where_nothing_is_nothing_is_checked() {
    let leecher = Leecher::start(&Payload::new(), &[]);
    assert_eq!(leecher.torrent.status_word().bits(), 193);
}

#[test]
fn a_check_tells_of_each_piece_once_whether_it_is_there_or_not() {
    let payload = Payload::new();
    let dir = tempfile::tempdir().unwrap();
    copy(&payload, dir.path());
    fs::remove_file(dir.path().join("payload/b/c/d.bin")).unwrap();
    let session = session(LOCAL);
    let events = session.subscribe().unwrap();
    let torrent = session.add(payload.metainfo.clone(), in_dir(dir.path())).unwrap();
    let mut told = vec![0; payload.piece_count() as usize];
    for kind in wait_for(&events, |kind| kind_word(kind) == Some(201)) {
        if let EventKind::PieceVerified(piece) | EventKind::PieceFailed(piece) = kind {
            told[piece.index()] += 1;
            assert_eq!(torrent.has(piece), matches!(kind, EventKind::PieceVerified(_)));
        }
    }
    assert!(told.iter().all(|&times| times == 1), "{told:?}");
    assert_eq!(torrent.error(), None);
    assert!(torrent.bitfield().count() > 0 && !torrent.bitfield().is_all());
}

#[test]
fn what_cannot_be_read_is_an_error_with_a_text_and_all_else_is_looked_at() {
    let payload = Payload::new();
    let dir = tempfile::tempdir().unwrap();
    copy(&payload, dir.path());
    let file = dir.path().join("payload/b/c/d.bin");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let session = session(LOCAL);
    let events = session.subscribe().unwrap();
    let torrent = session.add(payload.metainfo, in_dir(dir.path())).unwrap();
    assert_eq!(words_until(&events, 208), [193, 195, 208]);
    assert!(torrent.error().unwrap().contains("d.bin"));
    assert!(torrent.bitfield().count() > 0);
    fs::remove_dir(&file).unwrap();
    torrent.start().unwrap();
    assert_eq!(words_until(&events, 201), [195, 201]);
    assert!(torrent.error().is_some(), "the text stays");
}

#[test]
fn a_cancelled_check_keeps_what_it_has_found_and_the_download_goes_on() {
    let payload = Payload::new();
    let (session, torrent, events) = slowly_checked(&payload);
    let (_honest, honest) = honest_seed(&payload);
    torrent.add_peer(honest).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::PieceVerified(_)));
    assert_eq!(torrent.check(), Err(CheckError::AlreadyChecking));
    assert!(torrent.peers().unwrap().is_empty() && !torrent.is_complete());
    torrent.cancel_check().unwrap();
    let word = torrent.status_word();
    assert!(!word.contains(StatusWord::CHECKING) && !word.contains(StatusWord::CHECKED));
    assert!(torrent.bitfield().count() > 0);
    eventually("the rest has come from the peer", || torrent.is_complete());
    session.shutdown(GUARD);
}

#[test]
fn a_check_that_was_stopped_goes_on_when_the_torrent_is_started() {
    let payload = Payload::new();
    let (session, torrent, events) = slowly_checked(&payload);
    wait_for(&events, |kind| matches!(kind, EventKind::PieceVerified(_)));
    torrent.stop().unwrap();
    assert_eq!(
        (torrent.status_word().bits(), torrent.status().state.clone()),
        (192, TorrentState::Stopped)
    );
    let found = torrent.bitfield();
    torrent.start().unwrap();
    assert!(torrent.bitfield().count() >= found.count(), "what was found is not looked for again");
    wait_for_state(&events, &TorrentState::Seeding);
    assert_eq!(torrent.status_word().bits(), 201);
    session.shutdown(GUARD);
}

#[test]
fn a_check_ends_with_its_torrent_and_with_its_session() {
    let payload = Payload::new();
    let (session, torrent, _events) = slowly_checked(&payload);
    torrent.remove().unwrap();
    assert_eq!((torrent.status_word().bits(), session.count()), (64, 0));
    for is_shut_down in [true, false] {
        let (session, torrent, _events) = slowly_checked(&payload);
        let asked_at = Instant::now();
        if is_shut_down {
            session.shutdown(GUARD);
        } else {
            drop(session);
        }
        assert!(asked_at.elapsed() < GUARD / 4);
        assert_eq!(torrent.status_word().bits(), 192);
        assert!(matches!(torrent.check(), Err(CheckError::Gone(_))));
    }
}

#[test]
fn a_check_of_some_pieces_leaves_the_others_as_they_are() {
    let payload = Payload::new();
    let dir = tempfile::tempdir().unwrap();
    copy(&payload, dir.path());
    let session = session(LOCAL);
    let events = session.subscribe().unwrap();
    let torrent = session.add(payload.metainfo, in_dir(dir.path())).unwrap();
    wait_for_state(&events, &TorrentState::Seeding);
    flip(&dir.path().join("payload/a.bin"), 0);
    flip(&dir.path().join("payload/a.bin"), u64::from(PIECE_LEN));
    let pieces = vec![PieceIndex(2), PieceIndex(1), PieceIndex(2), PieceIndex(u32::MAX)];
    torrent.check_with(CheckOptions { pieces: Some(pieces), ..CheckOptions::default() }).unwrap();
    let told = wait_for(&events, |kind| kind_word(kind) == Some(201));
    let told = told
        .iter()
        .filter(|kind| matches!(kind, EventKind::PieceVerified(_) | EventKind::PieceFailed(_)));
    assert_eq!(told.count(), 2);
    assert!(torrent.has(PieceIndex(0)) && torrent.has(PieceIndex(2)));
    assert!(!torrent.has(PieceIndex(1)));
}

#[test]
fn a_check_of_some_pieces_before_anything_is_known_of_the_others_looks_at_all() {
    let payload = Payload::new();
    let session = session(LOCAL);
    let events = session.subscribe().unwrap();
    let torrent = session.add(payload.metainfo.clone(), here(&payload, false)).unwrap();
    let pieces = Some(vec![PieceIndex(0)]);
    // Whether it is in time or comes upon the check of what is there: no piece is forgotten.
    torrent.check_with(CheckOptions { pieces, ..CheckOptions::default() }).ok();
    wait_for_state(&events, &TorrentState::Seeding);
}

#[test]
fn peers_are_closed_as_a_check_begins_and_none_is_let_in_until_it_is_over() {
    let payload = Payload::new();
    let (session, torrent, events) = slowly_checked(&payload);
    let hash = payload.metainfo.info_hash();
    torrent.cancel_check().unwrap();
    let mut peer = RawPeer::dial(session.listen_addrs()[0], hash, Reserved::ours());
    wait_for(&events, |kind| matches!(kind, EventKind::PeerConnected { .. }));
    torrent.check_with(slow()).unwrap();
    let code = loop {
        if let EventKind::PeerDisconnected { reason, .. } =
            events.recv_timeout(GUARD).expect("it is closed").kind
        {
            break reason.code();
        }
    };
    assert_eq!(code, -18);
    while peer.receive().is_some() {}
    let (door, addr) = hostile_door();
    torrent.add_peer(addr).unwrap();
    door.set_nonblocking(true).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::PieceVerified(_)));
    assert!(door.accept().is_err(), "nobody is dialled");
    torrent.cancel_check().unwrap();
    door.set_nonblocking(false).unwrap();
    RawPeer::accept(&door, hash, Reserved::ours());
}

#[test]
fn a_pause_keeps_peers_and_moves_no_data_until_the_start() {
    let payload = Payload::new();
    let (door, addr) = hostile_door();
    let leecher = Leecher::start(&payload, &[addr]);
    let mut peer = RawPeer::accept(&door, payload.metainfo.info_hash(), Reserved::ours());
    leecher.torrent.pause().unwrap();
    assert_eq!(leecher.torrent.status_word().bits(), 225);
    assert_eq!(leecher.torrent.status().state, TorrentState::Paused);
    peer.send(&[Message::HaveAll, Message::Unchoke]).unwrap();
    eventually("it has heard that", || {
        leecher
            .torrent
            .peers()
            .unwrap()
            .iter()
            .any(|peer| peer.bitfield().is_some_and(|bits| bits.is_all()))
    });
    leecher.torrent.start().unwrap();
    assert_eq!(leecher.torrent.status_word().bits(), 193);
    peer.receive_request().expect("it asks now");
}

#[test]
fn an_orphan_is_checked_by_any_thread_and_joins_a_session_once() {
    let payload = Payload::new();
    let orphan = Orphan::new(payload.metainfo.clone(), here(&payload, false)).unwrap();
    let events = orphan.subscribe();
    assert_eq!(orphan.status_word().bits(), 64);
    let checker = orphan.clone();
    std::thread::spawn(move || checker.check()).join().unwrap().unwrap();
    assert_eq!(words_until(&events, 72), [66, 72]);
    assert!(orphan.bitfield().is_all());
    orphan.pause();
    assert_eq!((orphan.status_word().bits(), orphan.check()), (104, Err(CheckError::Paused)));
    orphan.unpause();

    let session = session(LOCAL);
    let told = session.subscribe().unwrap();
    let torrent = session.attach(&orphan).unwrap();
    let kinds =
        wait_for(&told, |kind| matches!(kind, EventKind::StateChanged(TorrentState::Seeding)));
    assert!(!kinds.iter().any(|kind| matches!(kind, EventKind::PieceVerified(_))));
    assert_eq!((torrent.status_word().bits(), orphan.status_word().bits()), (201, 201));
    let hash = payload.metainfo.info_hash();
    assert_eq!(session.attach(&orphan).err(), Some(AddError::Attached(hash)));
    assert_eq!(orphan.check(), Err(CheckError::Attached));
}

#[test]
fn an_orphan_that_is_not_taken_is_still_one() {
    let payload = Payload::new();
    let (orphan, session) =
        (Orphan::new(payload.metainfo.clone(), here(&payload, false)).unwrap(), session(LOCAL));
    let torrent = seed(&session, &payload);
    let hash = payload.metainfo.info_hash();
    assert_eq!(session.attach(&orphan).err(), Some(AddError::Duplicate(hash)));
    torrent.remove().unwrap();
    session.attach(&orphan).unwrap();
    // The handle is one to what was removed, whatever has come in its place.
    session.remove(&torrent).unwrap();
    assert_eq!(session.count(), 1);
}

#[test]
fn a_session_finds_its_torrents() {
    let payload = Payload::new();
    let session = Session::start(config(LOCAL)).unwrap();
    let hash = payload.metainfo.info_hash();
    assert!(session.find(hash).is_none() && session.torrents().is_empty());
    let torrent = seed(&session, &payload);
    assert_eq!(session.find(hash).unwrap().info_hash(), hash);
    assert_eq!((session.torrents().len(), session.count()), (1, 1));
    assert_eq!(torrent.path(), payload.dir.path().join("payload"));
    assert_eq!((torrent.name(), torrent.size()), ("payload", payload.bytes.len() as u64));
    assert_eq!((torrent.left(), torrent.is_complete()), (0, true));
    session.shutdown(GUARD);
    assert!(session.find(hash).is_none() && session.count() == 0);
    assert_eq!(torrent.status_word().bits(), 200);
}

#[test]
fn what_a_check_found_wrong_is_not_believed_by_the_next_session_if_this_one_ends_meanwhile() {
    let (payload, state) = (Payload::new(), tempfile::tempdir().unwrap());
    let dir = tempfile::tempdir().unwrap();
    copy(&payload, dir.path());
    let start = || {
        let state_dir = Some(state.path().into());
        let session = Session::start(SessionConfig { state_dir, ..config(LOCAL) }).unwrap();
        let events = session.subscribe().unwrap();
        let torrent = session.add(payload.metainfo.clone(), in_dir(dir.path())).unwrap();
        (session, events, torrent)
    };
    let (session, events, torrent) = start();
    wait_for_state(&events, &TorrentState::Seeding);
    torrent.stop().unwrap();
    session.shutdown(GUARD);
    let (session, events, torrent) = start();
    wait_for_state(&events, &TorrentState::Seeding);
    // It rots: nothing but a check can tell.
    let file = dir.path().join("payload/a.bin");
    let changed_at = fs::metadata(&file).unwrap().modified().unwrap();
    flip(&file, 0);
    fs::File::options().write(true).open(&file).unwrap().set_modified(changed_at).unwrap();
    torrent.check_with(slow()).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::PieceFailed(_)));
    session.shutdown(GUARD);
    let (_session, events, torrent) = start();
    wait_for_state(&events, &TorrentState::Downloading);
    assert!(!torrent.has(PieceIndex(0)));
}

#[test]
fn what_is_wanted_may_change_during_a_check() {
    let payload = Payload::new();
    let (_session, torrent, events) = slowly_checked(&payload);
    let files = payload.metainfo.layout().files().len();
    let mut none = vec![0; files];
    none[0] = 4;
    torrent.set_priorities(none).unwrap();
    torrent.cancel_check().unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::StateChanged(_)));
    let wanted = payload.metainfo.layout().file_pieces(0).len() as u64 * u64::from(PIECE_LEN);
    eventually("less is wanted", || torrent.status().wanted_len <= wanted);
}

/// A torrent whose data is all there and that is being checked, as by a slow disk.
fn slowly_checked(payload: &Payload) -> (Session, Torrent, Events) {
    let session = session(LOCAL);
    let torrent = seed(&session, payload);
    let events = session.subscribe().unwrap();
    torrent.check_with(slow()).unwrap();
    (session, torrent, events)
}

/// It would take many seconds.
fn slow() -> CheckOptions {
    CheckOptions { rate: Some(u64::from(PIECE_LEN) * 10), ..CheckOptions::default() }
}

fn here(payload: &Payload, start_after_check: bool) -> AddOptions {
    AddOptions { start_after_check, ..in_dir(payload.dir.path()) }
}

fn in_dir(dir: &Path) -> AddOptions {
    AddOptions { dir: dir.into(), ..AddOptions::default() }
}

fn copy(payload: &Payload, dir: &Path) {
    for file in payload.metainfo.layout().files() {
        let name = file.path.to_path_buf();
        fs::create_dir_all(dir.join(&name).parent().unwrap()).unwrap();
        fs::copy(payload.dir.path().join(&name), dir.join(&name)).unwrap();
        fs::set_permissions(dir.join(&name), fs::Permissions::from_mode(0o644)).unwrap();
    }
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn kind_word(kind: &EventKind) -> Option<u8> {
    match kind {
        EventKind::StatusChanged(word) => Some(word.bits()),
        _ => None,
    }
}

/// The status words until this one, with it.
fn words_until(events: &Events, last: u8) -> Vec<u8> {
    let mut words = Vec::new();
    while words.last() != Some(&last) {
        let kind = events.recv_timeout(GUARD).unwrap_or_else(|_| panic!("{words:?}")).kind;
        if let EventKind::StatusChanged(word) = kind {
            words.push(word.bits());
        }
    }
    words
}
