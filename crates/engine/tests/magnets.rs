//! Torrents that a magnet link names, from the link to the last byte.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use common::{
    GUARD, LOCAL, Payload, RawPeer, config, eventually, honest_seed, hostile_door, peers_answer,
    session, tracker, wait_for, wait_for_failure, wait_for_state,
};
use engine::{
    AddError, AddOptions, CheckError, EventKind, Events, SaveTorrentError, Session, SessionConfig,
    StatusWord, Torrent, TorrentState, WhenKnown,
};
use tempfile::TempDir;
use torrent::metainfo::Metainfo;
use torrent::metainfo::create::Format;
use torrent::wire::{ExtendedHandshake, Message, MetadataMessage, Reserved};
use torrent::{InfoHash, InfoHashes, Magnet};

/// A link to the payload that names these peers.
fn link(payload: &Payload, peers: &[SocketAddr]) -> Magnet {
    Magnet {
        peers: peers.iter().map(|peer| (peer.ip().to_string(), peer.port())).collect(),
        name: Some("a name".to_owned()),
        ..Magnet::new(payload.metainfo.info_hashes())
    }
}

/// A session that has a link.
struct Finder {
    session: Session,
    torrent: Torrent,
    events: Events,
    dir: TempDir,
}

impl Finder {
    fn start(magnet: &Magnet, options: AddOptions) -> Self {
        Self::with_config(magnet, options, config(LOCAL))
    }

    fn with_config(magnet: &Magnet, options: AddOptions, config: SessionConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let session = Session::start(config).unwrap();
        let events = session.subscribe().unwrap();
        let options = AddOptions { dir: dir.path().into(), ..options };
        let torrent = session.add_magnet(magnet, options).unwrap();
        Self { session, torrent, events, dir }
    }

    fn wait_for(&self, is_it: impl Fn(&EventKind) -> bool) -> Vec<EventKind> {
        wait_for(&self.events, is_it)
    }
}

const fn is_completed(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Completed)
}

const fn is_parting(kind: &EventKind) -> bool {
    matches!(kind, EventKind::PeerDisconnected { .. })
}

const FETCHING: TorrentState = TorrentState::FetchingMetadata { done: 0, total: 0 };

#[test]
fn a_link_with_a_peer_is_enough_and_the_connection_that_brought_the_metadata_brings_all() {
    let payload = Payload::new();
    let (_seeder, addr) = honest_seed(&payload);
    let finder = Finder::start(&link(&payload, &[]), AddOptions::default());
    let torrent = &finder.torrent;
    assert_eq!((torrent.name(), torrent.info_hash()), ("a name", payload.metainfo.info_hash()));
    assert!(torrent.metainfo().is_none() && !torrent.is_complete());
    assert_eq!((torrent.size(), torrent.piece_count(), torrent.left()), (0, 0, 0));
    let status = torrent.status();
    assert!(status.awaits_metadata && status.state == FETCHING && status.progress() < 0.1);
    assert!(!torrent.status_word().contains(StatusWord::LOADED));
    assert_eq!(torrent.check(), Err(CheckError::NoMetadata));
    assert!(torrent.files().unwrap().is_empty());
    torrent.set_priorities(Vec::new()).unwrap();
    let path = finder.dir.path().join("saved.torrent");
    assert!(matches!(torrent.save_torrent(&path), Err(SaveTorrentError::NoMetadata)));
    let again = finder.session.add_magnet(&link(&payload, &[]), AddOptions::default());
    assert_eq!(again.err(), Some(AddError::Duplicate(payload.metainfo.info_hash())));

    torrent.add_peer(addr).unwrap();
    let before = finder.wait_for(is_completed);
    assert!(before.iter().any(|kind| matches!(kind, EventKind::MetadataReceived)));
    assert!(!before.iter().any(is_parting), "{before:?}");
    payload.assert_equals(finder.dir.path());
    assert_eq!(torrent.metainfo().map(Metainfo::info_bytes), Some(payload.metainfo.info_bytes()));
    assert_eq!((torrent.name(), torrent.size()), ("payload", payload.bytes.len() as u64));
    assert!(torrent.is_complete() && torrent.status_word().contains(StatusWord::LOADED));
    torrent.save_torrent(&path).unwrap();
    let saved = Metainfo::parse(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(saved.info_hash(), payload.metainfo.info_hash());
    assert!(torrent.save_torrent(finder.dir.path().join("no/such/folder")).is_err());
}

#[test]
fn peers_may_come_from_the_tracker_and_hear_of_the_torrent_from_whom_fetched_it() {
    let payload = Payload::new();
    let (seeder, addr) = honest_seed(&payload);
    let url = tracker(move |_| peers_answer(&[addr]));
    let magnet = Magnet { trackers: vec![vec![url.clone()]], ..link(&payload, &[]) };
    let finder = Finder::start(&magnet, AddOptions::default());
    finder.wait_for(is_completed);
    assert_eq!(finder.torrent.metainfo().unwrap().trackers(), [[url]]);
    seeder.shutdown(GUARD);
    // The next one knows only the first.
    let from = finder.session.listen_addrs()[0];
    let next = Finder::start(&link(&payload, &[from]), AddOptions::default());
    next.wait_for(is_completed);
    payload.assert_equals(next.dir.path());
}

#[test]
fn only_the_files_that_the_link_selects_are_wanted() {
    let payload = Payload::new();
    let (_seeder, addr) = honest_seed(&payload);
    let magnet = Magnet { select: vec![0..=0, 4..=4], ..link(&payload, &[addr]) };
    let finder = Finder::start(&magnet, AddOptions::default());
    finder.wait_for(is_completed);
    let priorities: Vec<u8> =
        finder.torrent.files().unwrap().iter().map(|file| file.priority).collect();
    assert_eq!(priorities, [4, 0, 0, 0, 4, 0]);
    let root = finder.dir.path().join("payload");
    assert!(root.join("a.bin").exists() && root.join("b/c/d.bin").exists());
    assert!(!root.join("z").exists());
    // Whoever says otherwise is heeded.
    let options = AddOptions { priorities: vec![0, 0, 0, 0, 0, 7], ..AddOptions::default() };
    let finder = Finder::start(&magnet, options);
    finder.wait_for(is_completed);
    assert!(finder.dir.path().join("payload/z").exists());
    assert!(!finder.dir.path().join("payload/a.bin").exists());
}

#[test]
fn a_torrent_may_wait_for_a_decision_once_it_is_known_and_keeps_its_peers() {
    let payload = Payload::new();
    let (_seeder, addr) = honest_seed(&payload);
    let options = AddOptions { when_known: WhenKnown::Pause, ..AddOptions::default() };
    let finder = Finder::start(&link(&payload, &[addr]), options);
    let before =
        finder.wait_for(|kind| matches!(kind, EventKind::StateChanged(TorrentState::Paused)));
    assert!(!before.iter().any(is_parting), "{before:?}");
    let torrent = &finder.torrent;
    eventually("it is looked at", || torrent.status_word().contains(StatusWord::LOADED));
    torrent.set_priorities(vec![7, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(torrent.status().downloaded, 0);
    torrent.start().unwrap();
    let before = finder.wait_for(is_completed);
    assert!(!before.iter().any(is_parting), "{before:?}");
    assert!(finder.dir.path().join("payload/a.bin").exists());
    assert!(!finder.dir.path().join("payload/z").exists());
}

#[test]
fn a_torrent_may_stop_once_it_is_known() {
    let payload = Payload::new();
    let (_seeder, addr) = honest_seed(&payload);
    let options = AddOptions { when_known: WhenKnown::Stop, ..AddOptions::default() };
    let finder = Finder::start(&link(&payload, &[addr]), options);
    finder.wait_for(|kind| matches!(kind, EventKind::MetadataReceived));
    wait_for_state(&finder.events, &TorrentState::Stopped);
    assert_eq!(finder.torrent.name(), "payload");
    assert!(!finder.dir.path().join("payload").exists(), "nothing is made on disk");
    finder.torrent.start().unwrap();
    finder.wait_for(is_completed);
    payload.assert_equals(finder.dir.path());
}

#[test]
fn what_is_on_disk_already_is_not_fetched() {
    let payload = Payload::new();
    let (_seeder, addr) = honest_seed(&payload);
    let copy = tempfile::tempdir().unwrap();
    let session = session(LOCAL);
    for file in payload.metainfo.layout().files() {
        let path = file.path.to_path_buf();
        fs::create_dir_all(copy.path().join(&path).parent().unwrap()).unwrap();
        fs::copy(payload.dir.path().join(&path), copy.path().join(&path)).unwrap();
    }
    let events = session.subscribe().unwrap();
    let options = AddOptions { dir: copy.path().into(), ..AddOptions::default() };
    let torrent = session.add_magnet(&link(&payload, &[addr]), options).unwrap();
    wait_for(&events, is_completed);
    assert_eq!((torrent.downloaded(), torrent.bitfield().is_all()), (0, true));
}

#[test]
fn a_stopped_link_asks_nobody_until_it_is_started() {
    let payload = Payload::new();
    let (seeder, addr) = honest_seed(&payload);
    let seen = seeder.subscribe().unwrap();
    let options = AddOptions { is_stopped: true, ..AddOptions::default() };
    let finder = Finder::start(&link(&payload, &[addr]), options);
    assert_eq!(finder.torrent.status().state, TorrentState::Stopped);
    finder.torrent.start().unwrap();
    finder.torrent.stop().unwrap();
    finder.torrent.start().unwrap();
    finder.wait_for(is_completed);
    payload.assert_equals(finder.dir.path());
    finder.torrent.remove().unwrap();
    assert!(finder.session.torrents().is_empty());
    drop(seen);
}

fn remembering(state: &Path) -> SessionConfig {
    SessionConfig { state_dir: Some(state.into()), restore: true, ..config(LOCAL) }
}

#[test]
fn a_link_comes_back_in_the_next_session_and_so_does_what_became_of_it() {
    let (payload, state) = (Payload::new(), tempfile::tempdir().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let magnet = Magnet { select: vec![0..=4], ..link(&payload, &[]) };
    let first = Session::start(remembering(state.path())).unwrap();
    let options = AddOptions { dir: dir.path().into(), ..AddOptions::default() };
    first.add_magnet(&magnet, options).unwrap();
    first.shutdown(GUARD);

    let second = Session::start(remembering(state.path())).unwrap();
    let events = second.subscribe().unwrap();
    let torrents = second.torrents();
    let [torrent] = &torrents[..] else { panic!("{torrents:?}") };
    assert_eq!((torrent.name(), torrent.status().state.clone()), ("a name", FETCHING));
    let (_seeder, addr) = honest_seed(&payload);
    torrent.add_peer(addr).unwrap();
    wait_for(&events, is_completed);
    second.shutdown(GUARD);

    let third = Session::start(remembering(state.path())).unwrap();
    let torrents = third.torrents();
    let [torrent] = &torrents[..] else { panic!("{torrents:?}") };
    assert_eq!(torrent.metainfo().map(Metainfo::name), Some("payload"));
    eventually("it seeds", || torrent.status().state == TorrentState::Seeding);
    assert_eq!(torrent.files().unwrap()[5].priority, 0, "as the link said");
    third.shutdown(GUARD);
}

#[test]
fn of_two_links_to_a_hybrid_the_one_that_failed_is_removed_without_harm_to_the_other() {
    let payload = Payload::in_format(Format::Hybrid, &[("a", 100_000)], 16 * 1024, 7);
    let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seeds = [honest_seed(&payload), honest_seed(&payload)];
    let names = payload.metainfo.info_hashes();
    let of_version = [InfoHashes { v2: None, ..names }, InfoHashes { v1: None, ..names }];
    let first = Session::start(remembering(state.path())).unwrap();
    let links = of_version.map(|names| {
        let options = AddOptions { dir: dir.path().into(), ..AddOptions::default() };
        first.add_magnet(&Magnet::new(names), options).unwrap()
    });
    for (link, (_, addr)) in links.iter().zip(&seeds) {
        link.add_peer(*addr).unwrap();
    }
    let has_failed = |link: &&Torrent| matches!(link.status().state, TorrentState::Failed(_));
    eventually("one of them fails", || links.iter().any(|link| has_failed(&link)));
    let (lost, kept): (Vec<_>, Vec<_>) = links.iter().partition(has_failed);
    let ([lost], [kept]) = (&lost[..], &kept[..]) else { panic!("{lost:?} {kept:?}") };
    eventually("the other is complete", || kept.status().state == TorrentState::Seeding);
    first.remove(lost).unwrap();
    assert_eq!(first.torrents().len(), 1);
    first.shutdown(GUARD);

    let second = Session::start(remembering(state.path())).unwrap();
    let torrents = second.torrents();
    let [torrent] = &torrents[..] else { panic!("{torrents:?}") };
    eventually("it seeds", || torrent.status().state == TorrentState::Seeding);
    assert_eq!(torrent.metainfo().map(Metainfo::info_hashes), Some(names));
}

#[test]
fn metadata_is_not_fetched_twice_with_one_state_directory() {
    let (payload, state) = (Payload::new(), tempfile::tempdir().unwrap());
    let settings = || SessionConfig { state_dir: Some(state.path().into()), ..config(LOCAL) };
    let (seeder, addr) = honest_seed(&payload);
    let options = || AddOptions { when_known: WhenKnown::Pause, ..AddOptions::default() };
    let first = Finder::with_config(&link(&payload, &[addr]), options(), settings());
    first.wait_for(|kind| matches!(kind, EventKind::MetadataReceived));
    first.session.shutdown(GUARD);
    seeder.shutdown(GUARD);
    // There is nobody to ask.
    let second = Finder::with_config(&link(&payload, &[]), options(), settings());
    second.wait_for(|kind| matches!(kind, EventKind::MetadataReceived));
    wait_for_state(&second.events, &TorrentState::Paused);
    assert_eq!(second.torrent.name(), "payload");
}

/// A peer that has this metadata, whatever it is worth, and says that it is so long.
fn teller(info_hash: InfoHash, len: u32, pieces: Vec<Vec<u8>>) -> SocketAddr {
    let (listener, addr) = hostile_door();
    std::thread::spawn(move || {
        let mut peer = RawPeer::accept(&listener, info_hash, Reserved::ours());
        let hello = ExtendedHandshake {
            m: [(b"ut_metadata".to_vec(), 9)].into(),
            metadata_size: Some(len),
            ..ExtendedHandshake::default()
        };
        let extended = |id, payload: Vec<u8>| Message::Extended { id, payload: payload.into() };
        peer.send(&[Message::HaveNone, extended(0, hello.encode())]).ok();
        while let Some(message) = peer.receive() {
            let Message::Extended { id: 9, payload } = message else { continue };
            if let Ok(Some(MetadataMessage::Request { piece })) = MetadataMessage::decode(&payload)
            {
                let data = pieces.get(piece as usize).cloned().unwrap_or_default();
                let data = MetadataMessage::Data { piece, total_len: Some(len), data: data.into() };
                peer.send(&[extended(1, data.encode())]).ok();
            }
        }
    });
    addr
}

#[test]
fn metadata_that_could_lead_out_of_the_folder_fails_the_torrent_and_says_why() {
    let info = b"d6:lengthi1e4:name2:..12:piece lengthi16384e6:pieces20:aaaaaaaaaaaaaaaaaaaae";
    let info_hash = InfoHash::of(info);
    let addr = teller(info_hash, info.len() as u32, vec![info.to_vec()]);
    let magnet = Magnet {
        peers: vec![(addr.ip().to_string(), addr.port())],
        ..Magnet::new(InfoHashes { v1: Some(info_hash), v2: None })
    };
    let finder = Finder::start(&magnet, AddOptions::default());
    let why = wait_for_failure(&finder.events);
    assert!(why.contains("refused") && why.contains("unsafe file name"), "{why}");
    assert_eq!(finder.torrent.name(), info_hash.to_string());
    assert!(finder.torrent.metainfo().is_none());
    finder.torrent.start().unwrap();
    wait_for_state(&finder.events, &FETCHING);
    finder.torrent.remove().unwrap();
}

#[test]
fn liars_are_banned_and_the_truth_comes_from_others() {
    let payload = Payload::new();
    let info_hash = payload.metainfo.info_hash();
    let liar = teller(
        info_hash,
        100_000,
        vec![vec![7; 16_384]; 6].into_iter().chain([vec![7; 1696]]).collect(),
    );
    let magnet = link(&payload, &[liar]);
    let finder = Finder::start(&magnet, AddOptions::default());
    finder.wait_for(|kind| matches!(kind, EventKind::PeerBanned { ip } if *ip == liar.ip()));
    let (_seeder, addr) = honest_seed(&payload);
    finder.torrent.add_peer(addr).unwrap();
    finder.wait_for(is_completed);
    payload.assert_equals(finder.dir.path());
}
