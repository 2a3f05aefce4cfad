//! Torrents of version 2 and hybrids ([BEP 52]), from the files on one disk to those on another.
//!
//! [BEP 52]: https://www.bittorrent.org/beps/bep_0052.html

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use common::{
    GUARD, LOCAL, Leecher, Payload, RawPeer, config, handshake, honest_seed, seed, session,
    wait_for, wait_for_failure,
};
use engine::disk::{
    CheckOptions, FilePool, PieceState, Storage, StorageOptions, check_pieces, hash_files_as,
};
use engine::{AddOptions, EventKind, Session};
use torrent::metainfo::Metainfo;
use torrent::metainfo::create::{Builder, Format};
use torrent::wire::{Handshake, Message, Reserved};
use torrent::{Block, PieceIndex};

const PIECE_LEN: u32 = 32 * 1024;
const FILES: [(&str, usize); 6] = [
    ("a", 100_000),
    ("b/empty", 0),
    ("b/exact", 65_536),
    ("b/short", 10),
    ("c", 1_000_000),
    ("d", 32_769),
];

fn payload(format: Format) -> Payload {
    Payload::in_format(format, &FILES, PIECE_LEN, 7)
}

/// The same as from a magnet link: without the hashes of pieces.
fn bare(metainfo: &Metainfo) -> Metainfo {
    Metainfo::parse(&[b"d4:info", metainfo.info_bytes(), b"e"].concat()).unwrap()
}

#[test]
fn sessions_give_each_other_what_is_of_any_version() {
    for format in [Format::V2, Format::Hybrid] {
        let payload = payload(format);
        let (_seeder, addr) = honest_seed(&payload);
        let leecher = Leecher::start(&payload, &[addr]);
        leecher.complete(&payload);
        let status = leecher.torrent.status();
        assert_eq!(status.done_len, payload.metainfo.layout().total_len());
        for file in leecher.torrent.files().unwrap() {
            assert!(file.done_len == file.len, "{}", file.path.display());
        }
    }
}

#[test]
fn from_a_link_the_hashes_come_from_peers_and_are_kept() {
    let payload = payload(Format::V2);
    let (_seeder, addr) = honest_seed(&payload);
    let dir = tempfile::tempdir().unwrap();
    let leecher = Session::start(config(LOCAL)).unwrap();
    let events = leecher.subscribe().unwrap();
    let options = AddOptions { dir: dir.path().into(), peers: vec![addr], ..AddOptions::default() };
    let torrent = leecher.add(bare(&payload.metainfo), options).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    payload.assert_equals(dir.path());
    let saved = dir.path().join("saved.torrent");
    torrent.save_torrent(&saved).unwrap();
    let saved = Metainfo::parse(&fs::read(saved).unwrap()).unwrap();
    assert!(saved.layers().unwrap().is_whole());
    assert_eq!(saved.info_hashes(), payload.metainfo.info_hashes());
}

#[test]
fn a_hybrid_is_known_by_both_its_names() {
    let payload = payload(Format::Hybrid);
    let (seeder, addr) = honest_seed(&payload);
    let names: Vec<_> = payload.metainfo.info_hashes().on_the_wire().collect();
    let [v1, v2] = names[..] else { panic!("{names:?}") };
    for name in [v1, v2] {
        assert_eq!(seeder.find(name).unwrap().info_hash(), v1);
    }
    assert_eq!(seeder.count(), 1);
    // Who knows version 2 too is answered by that name.
    for (asked, reserved, answered) in [
        (v1, Reserved::ours(), v1),
        (v1, Reserved::ours().with_v2(), v2),
        (v2, Reserved::ours(), v2),
    ] {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.write_all(&handshake(asked, reserved)).unwrap();
        let mut theirs = [0; Handshake::LEN];
        stream.read_exact(&mut theirs).unwrap();
        let theirs = Handshake::decode(&theirs).unwrap();
        assert_eq!(theirs.info_hash, answered);
        assert!(theirs.reserved.has_v2());
    }
    let again = seeder.add(payload.metainfo.clone(), payload.here());
    assert!(again.is_err());
    seeder.remove(&seeder.find(v2).unwrap()).unwrap();
    assert!(seeder.find(v1).is_none() && seeder.find(v2).is_none());
}

#[test]
fn what_is_asked_for_behind_the_end_of_a_file_is_zeros() {
    let payload = payload(Format::V2);
    let (_seeder, addr) = honest_seed(&payload);
    let mut peer = RawPeer::dial(addr, payload.metainfo.info_hash(), Reserved::ours());
    peer.send(&[Message::Interested]).unwrap();
    while peer.receive().expect("it serves us") != Message::Unchoke {}
    // Of the first file, 100,000 bytes long, 1696 are in its fourth piece.
    let block = Block { piece: PieceIndex(3), offset: 0, len: 16 * 1024 };
    peer.send(&[Message::Request(block)]).unwrap();
    let data = loop {
        if let Message::Piece { data, .. } = peer.receive().expect("an answer") {
            break data;
        }
    };
    assert_eq!(data.len(), 16 * 1024);
    assert!(data[..1696] == payload.bytes[98_304..100_000]);
    assert!(data[1696..].iter().all(|byte| *byte == 0));
    let behind = Block { offset: 16 * 1024, ..block };
    peer.send(&[Message::Request(behind)]).unwrap();
    while peer.receive().is_some() {}
}

#[test]
fn damage_is_found_in_the_file_that_has_it() {
    for format in [Format::V2, Format::Hybrid] {
        let payload = payload(format);
        let layout = Arc::clone(payload.metainfo.layout());
        let path = payload.file("c");
        let mut bytes = fs::read(&path).unwrap();
        bytes[70_000] ^= 1;
        fs::write(&path, bytes).unwrap();
        fs::remove_file(payload.file("d")).unwrap();
        let options = StorageOptions {
            preallocate: false,
            wanted: vec![true; layout.files().len()],
            part_path: ".t.part".into(),
        };
        let root = payload.dir.path().to_owned();
        let storage = Storage::new(Arc::clone(&layout), root, Arc::new(FilePool::new(3)), options);
        let pieces: Vec<PieceIndex> = (0..layout.piece_count()).map(PieceIndex).collect();
        let found = Mutex::new(Vec::new());
        let (never, check) = (AtomicBool::new(false), CheckOptions::default());
        let tell = |piece, state| {
            if state != PieceState::Good {
                found.lock().unwrap().push((piece, state));
            }
        };
        check_pieces(&storage, &payload.metainfo, &pieces, &check, &never, tell).unwrap();
        let mut found = found.into_inner().unwrap();
        found.sort_unstable_by_key(|(piece, _)| *piece);
        // The pieces before it are of `a` (4), `b/exact` (2) and `b/short` (1).
        let damaged = (PieceIndex(7 + 2), PieceState::Bad);
        let gone = [38, 39].map(|piece| (PieceIndex(piece), PieceState::Missing));
        assert_eq!(found, [damaged, gone[0], gone[1]], "{format:?}");
    }
}

#[test]
fn a_hybrid_whose_hashes_contradict_each_other_says_so() {
    let payload = payload(Format::Hybrid);
    let layout = Arc::clone(payload.metainfo.layout());
    let files = FILES.map(|(path, len)| {
        (path.split('/').map(|name| name.as_bytes().to_vec()).collect(), len as u64)
    });
    let builder = Builder {
        format: Format::Hybrid,
        name: b"payload".to_vec(),
        files: files.to_vec(),
        piece_len: Some(PIECE_LEN),
        ..Builder::default()
    };
    let (root, never) = (payload.dir.path(), AtomicBool::new(false));
    let check = CheckOptions::default();
    let mut hashes = hash_files_as(Format::Hybrid, &layout, root, &check, &never, |_| {}).unwrap();
    hashes.v1[5] = [1; 20];
    let metainfo = Metainfo::parse(&builder.finish_as(&hashes).unwrap()).unwrap();
    let session = session(LOCAL);
    let events = session.subscribe().unwrap();
    session.add(metainfo, payload.here()).unwrap();
    let why = wait_for_failure(&events);
    assert!(why.contains("piece 5") && why.contains("contradicts itself"), "{why}");
}

#[test]
fn what_an_earlier_run_got_of_a_link_is_whole_in_the_next() {
    let payload = payload(Format::V2);
    let seeder = session(LOCAL);
    seed(&seeder, &payload);
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let remembering = || {
        let state_dir = Some(state.path().to_owned());
        Session::start(engine::SessionConfig { state_dir, restore: true, ..config(LOCAL) }).unwrap()
    };
    let first = remembering();
    let events = first.subscribe().unwrap();
    let peers = vec![seeder.listen_addrs()[0]];
    let options = AddOptions { dir: dir.path().into(), peers, ..AddOptions::default() };
    first.add(bare(&payload.metainfo), options).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    first.shutdown(GUARD);
    let second = remembering();
    let torrent = second.find(payload.metainfo.info_hash()).unwrap();
    assert!(torrent.metainfo().unwrap().layers().unwrap().is_whole());
}
