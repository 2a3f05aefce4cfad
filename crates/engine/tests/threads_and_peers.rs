//! Checks on any thread, and what peers see of them: what is promised, by number.
//!
//! The promises that need no peers are in `threads.rs`.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Instant;

use common::{
    GUARD, LOCAL, Leecher, PLAIN, Payload, RawPeer, assert_serves, at_rate, eventually, handshake,
    honest_seed, hostile_door, peers_answer, seed, session, tracker, wait_for, wait_for_state,
};
use engine::{
    AddOptions, CheckError, EventKind, EventMask, Events, Orphan, Peer, Session, StatusWord,
    Torrent, TorrentState,
};
use tempfile::TempDir;
use torrent::wire::{Handshake, Message, Reserved};
use torrent::{BLOCK_LEN, Bitfield, Block, PieceIndex, Rng};

#[test]
fn t1_any_thread_may_call_anything_at_any_time() {
    fn is_handle<T: Clone + Send + Sync + 'static>() {}
    is_handle::<Session>();
    is_handle::<Torrent>();
    is_handle::<Peer>();
    is_handle::<Orphan>();
    let payload = Payload::with_pieces(256, BLOCK_LEN);
    let (_seeder, addr) = honest_seed(&payload);
    let leecher = Leecher::start(&payload, &[addr]);
    let (done, all_done) = channel();
    for number in 0..8 {
        let (session, torrent) = (leecher.session.clone(), leecher.torrent.clone());
        let done = done.clone();
        std::thread::spawn(move || {
            hammer(&session, &torrent, &mut Rng::from_seed(number));
            done.send(()).unwrap();
        });
    }
    for _ in 0..8 {
        all_done.recv_timeout(GUARD).expect("a thread that is through");
    }
    leecher.torrent.start().unwrap();
    eventually("all is here", || leecher.torrent.status().state == TorrentState::Seeding);
    assert!(leecher.torrent.is_complete() && leecher.torrent.bitfield().is_all());
    payload.assert_equals(leecher.dir.path());
}

fn hammer(session: &Session, torrent: &Torrent, rng: &mut Rng) {
    for _ in 0..40 {
        look_at(session, torrent);
        match rng.below(6) {
            0 => torrent.pause().unwrap(),
            1 => torrent.stop().unwrap(),
            2 => torrent.cancel_check().unwrap(),
            3 => match torrent.check() {
                Ok(()) | Err(CheckError::AlreadyChecking | CheckError::Paused) => {}
                Err(error) => panic!("{error}"),
            },
            _ => torrent.start().unwrap(),
        }
    }
}

/// Asks for all that can be asked.
fn look_at(session: &Session, torrent: &Torrent) {
    let hash = torrent.info_hash();
    assert_eq!(session.find(hash).unwrap().info_hash(), hash);
    assert_eq!(session.torrents().len(), session.count());
    assert!(!session.listen_addrs().is_empty());
    assert_eq!(torrent.metainfo().map(torrent::metainfo::Metainfo::name), Some(torrent.name()));
    assert!(torrent.path().is_absolute());
    assert_eq!(torrent.bitfield().len(), torrent.piece_count());
    let (status, word) = (torrent.status(), torrent.status_word());
    assert_eq!(status.total_len, torrent.size());
    assert!(word.contains(StatusWord::LOADED | StatusWord::QUEUED));
    assert_eq!(torrent.error(), None);
    assert!(torrent.left() <= torrent.size() && torrent.uploaded() == 0);
    std::hint::black_box((torrent.is_complete(), torrent.downloaded(), torrent.has(PieceIndex(0))));
    assert!(torrent.trackers().unwrap().is_empty());
    for peer in torrent.peers().unwrap() {
        // It may be gone by now.
        std::hint::black_box((peer.status(), peer.bitfield(), peer.addr(), peer.peer_id()));
    }
    drop(torrent.subscribe_to(EventMask::ALL).unwrap());
}

#[test]
fn t2_a_slow_check_holds_up_no_other_torrent_and_nobody_who_asks() {
    let (slow, other) = (Payload::with_pieces(64, BLOCK_LEN), Payload::with_seed(2));
    let (_seeder, addr) = honest_seed(&other);
    let session = session(LOCAL);
    let checked = seed(&session, &slow);
    std::thread::scope(|scope| {
        scope.spawn(|| checked.check_with(at_rate(1)).unwrap());
    });
    let events = session.subscribe().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = AddOptions { dir: dir.path().into(), peers: vec![addr], ..AddOptions::default() };
    let downloading = session.add(other.metainfo.clone(), options).unwrap();
    let ask_until_it_is_here = || {
        eventually("the other is here", || {
            let asked_at = Instant::now();
            look_at(&session, &checked);
            assert!(asked_at.elapsed() < GUARD / 6);
            downloading.bitfield().is_all()
        });
    };
    std::thread::scope(|scope| {
        scope.spawn(ask_until_it_is_here);
        scope.spawn(ask_until_it_is_here);
        wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    });
    other.assert_equals(dir.path());
    assert_eq!(checked.status_word().bits(), 195, "it is still checked");
    assert_eq!(checked.bitfield().count(), 2);
}

/// A session with the first half of a torrent's pieces on disk.
struct Half {
    payload: Payload,
    session: Session,
    torrent: Torrent,
    events: Events,
    dir: TempDir,
}

impl Half {
    fn start(options: AddOptions) -> Self {
        let payload = Payload::with_pieces(PIECES as usize, PIECE_LEN);
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("payload")).unwrap();
        let half = &payload.bytes[..payload.bytes.len() / 2];
        fs::write(dir.path().join("payload/data.bin"), half).unwrap();
        let session = session(LOCAL);
        let events = session.subscribe().unwrap();
        let options = AddOptions { dir: dir.path().into(), ..options };
        let torrent = session.add(payload.metainfo.clone(), options).unwrap();
        Self { payload, session, torrent, events, dir }
    }

    /// Knows of a peer that is played by hand, and has come to it.
    fn with_peer() -> (Self, TcpListener, RawPeer) {
        let (door, addr) = hostile_door();
        let half = Self::start(AddOptions { peers: vec![addr], ..AddOptions::default() });
        let peer = half.comes_to(&door);
        assert_eq!(half.torrent.bitfield().count(), PIECES / 2);
        (half, door, peer)
    }

    /// Waits for it, as a seed that serves.
    fn comes_to(&self, door: &TcpListener) -> RawPeer {
        let hash = self.torrent.info_hash();
        let mut peer = RawPeer::accept(door, hash, Reserved::ours());
        peer.send(&[Message::HaveAll, Message::Unchoke]).unwrap();
        peer
    }

    /// Serves all that it asks for, until it hangs up. Returns what that was.
    fn serve(&self, peer: &mut RawPeer) -> Vec<Block> {
        let mut served = Vec::new();
        while let Some(block) = peer.receive_request() {
            served.push(block);
            // It may have hung up.
            peer.send(&[self.piece_message(block)]).ok();
        }
        served
    }

    fn piece_message(&self, block: Block) -> Message {
        let Block { piece, offset, .. } = block;
        Message::Piece { piece, offset, data: self.payload.block(block) }
    }

    fn assert_completes(&self) {
        wait_for(&self.events, |kind| matches!(kind, EventKind::Completed));
        self.payload.assert_equals(self.dir.path());
    }
}

/// Why the next connection to be over is so, as a number; and whose it was.
fn next_parting(events: &Events) -> (i32, SocketAddr) {
    loop {
        let event = events.recv_timeout(GUARD).expect("a connection that is over");
        if let EventKind::PeerDisconnected { addr, reason, .. } = event.kind {
            return (reason.code(), addr);
        }
    }
}

fn assert_nobody_came(door: &TcpListener) {
    door.set_nonblocking(true).unwrap();
    assert_eq!(door.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    door.set_nonblocking(false).unwrap();
}

#[test]
fn t5_idle_peers_are_closed_at_once_and_those_of_other_torrents_stay() {
    let (payload, other) = (Payload::new(), Payload::with_seed(2));
    let session = session(LOCAL);
    let (checked, staying) = (seed(&session, &payload), seed(&session, &other));
    let addr = session.listen_addrs()[0];
    let mut idle = RawPeer::dial(addr, checked.info_hash(), PLAIN);
    let mut stays = RawPeer::dial(addr, staying.info_hash(), PLAIN);
    for torrent in [&checked, &staying] {
        eventually("it is a peer", || torrent.peers().unwrap().len() == 1);
    }
    let before = staying.peers().unwrap();
    let events = session.subscribe_to(EventMask::PEERS).unwrap();
    checked.check_with(at_rate(1)).unwrap();
    assert!(checked.peers().unwrap().is_empty());
    // It hears what it was told before, and the end.
    while idle.receive().is_some() {}
    assert_eq!(next_parting(&events), (-18, idle.stream.local_addr().unwrap()));
    stays.send(&[Message::Interested]).unwrap();
    while stays.receive().unwrap() != Message::Unchoke {}
    let block = Block { piece: PieceIndex(3), offset: 0, len: 1000 };
    stays.send(&[Message::Request(block)]).unwrap();
    let data = other.block(block);
    let expected = Message::Piece { piece: block.piece, offset: 0, data };
    assert_eq!(stays.receive(), Some(expected));
    assert_eq!(checked.status_word().bits(), 195, "it is still checked");
    assert_eq!(staying.peers().unwrap(), before);
    assert!(events.try_recv().is_err(), "nobody else has come or gone");
}

#[test]
fn t6_nobody_is_let_in_and_nobody_dialled_during_a_check() {
    let (half, known, mut peer) = Half::with_peer();
    // For its sake the door stays open until a peer has said what it wants.
    let other = Payload::with_seed(2);
    seed(&half.session, &other);
    let (slow, addr) = hostile_door();
    half.torrent.add_peer(addr).unwrap();
    let (mut unanswered, _) = slow.accept().unwrap();
    unanswered.set_read_timeout(Some(GUARD)).unwrap();
    half.torrent.check_with(at_rate(128 * 1024)).unwrap();
    while peer.receive().is_some() {}
    let mut heard = Vec::new();
    unanswered.read_to_end(&mut heard).unwrap();
    assert!(heard.len() <= Handshake::LEN, "{heard:?}");
    let (new, addr) = hostile_door();
    half.torrent.add_peer(addr).unwrap();
    let events = half.session.subscribe_to(EventMask::PEERS).unwrap();
    let mut stranger = TcpStream::connect(half.session.listen_addrs()[0]).unwrap();
    stranger.set_read_timeout(Some(GUARD)).unwrap();
    stranger.write_all(&handshake(half.torrent.info_hash(), Reserved::ours())).unwrap();
    heard.clear();
    // A reset is an end, too.
    stranger.read_to_end(&mut heard).ok();
    assert!(heard.is_empty(), "{heard:?}");
    assert_eq!(next_parting(&events), (-18, stranger.local_addr().unwrap()));
    let found = half.torrent.bitfield().count();
    eventually("more is found", || half.torrent.bitfield().count() > found);
    assert_eq!(half.torrent.status_word().bits(), 195, "it is still checked");
    for door in [&known, &slow, &new] {
        assert_nobody_came(door);
    }
    assert!(events.try_recv().is_err(), "nobody has come or gone");
    half.torrent.cancel_check().unwrap();
    for door in [known, slow, new] {
        half.comes_to(&door);
    }
}

#[test]
fn t7_nothing_is_taken_or_given_during_a_check_and_what_was_underway_is_asked_for_again() {
    let (half, door, mut peer) = Half::with_peer();
    let late = peer.receive_request().unwrap();
    // A second and a half.
    half.torrent.check_with(at_rate(1 << 20)).unwrap();
    let wanted = Block { piece: PieceIndex(0), offset: 0, len: 1000 };
    // Nobody may hear that any more.
    peer.send(&[half.piece_message(late), Message::Request(wanted)]).ok();
    while let Some(message) = peer.receive() {
        assert!(!matches!(message, Message::Piece { .. }));
    }
    let mut peer = half.comes_to(&door);
    let served = half.serve(&mut peer);
    half.assert_completes();
    assert!(served.contains(&late));
    let missing = half.payload.bytes.len() as u64 / 2;
    assert_eq!(served.iter().map(|block| u64::from(block.len)).sum::<u64>(), missing);
    assert_eq!((half.torrent.downloaded(), half.torrent.uploaded()), (missing, 0));
    assert_eq!(half.torrent.status().wasted, 0);
}

#[test]
fn t10_known_peers_are_dialled_again_and_the_download_goes_on_by_itself() {
    let (half, door, mut peer) = Half::with_peer();
    half.torrent.check().unwrap();
    while peer.receive().is_some() {}
    let mut peer = half.comes_to(&door);
    assert_eq!(half.serve(&mut peer).len(), PIECES as usize / 2 * BLOCKS);
    half.assert_completes();
}

#[test]
fn t10_the_tracker_is_asked_when_the_check_is_over_and_nobody_is_known() {
    let payload = Payload::with_pieces(PIECES as usize, PIECE_LEN);
    let (_seeder, addr) = honest_seed(&payload);
    let url = tracker(move |_| peers_answer(&[addr]));
    let trackers = Some(vec![vec![url]]);
    let half = Half::start(AddOptions { trackers, ..AddOptions::default() });
    let before = wait_for(&half.events, |kind| matches!(kind, EventKind::TrackerAnswered { .. }));
    assert!(
        before
            .iter()
            .any(|kind| matches!(kind, EventKind::StatusChanged(word) if word.bits() == 201))
    );
    half.assert_completes();
}

#[test]
fn t10_a_torrent_that_is_to_start_after_its_check_starts() {
    let payload = Payload::with_pieces(PIECES as usize, PIECE_LEN);
    let (_seeder, addr) = honest_seed(&payload);
    let half = Half::start(AddOptions {
        peers: vec![addr],
        is_stopped: true,
        start_after_check: true,
        ..AddOptions::default()
    });
    half.assert_completes();
    assert_eq!(half.torrent.status_word().bits(), 201);
}

#[test]
fn t11_it_seeds_on_when_it_is_complete_and_when_it_was_checked_and_says_so_once() {
    let payload = Payload::with_pieces(PIECES as usize, PIECE_LEN);
    let (_seeder, addr) = honest_seed(&payload);
    let (tell, announces) = channel();
    let url = tracker(move |line| {
        // Nobody listens any more at the end.
        tell.send(line.to_owned()).ok();
        peers_answer(&[])
    });
    let trackers = Some(vec![vec![url]]);
    let half = Half::start(AddOptions { peers: vec![addr], trackers, ..AddOptions::default() });
    half.assert_completes();
    let here = half.session.listen_addrs()[0];
    assert_serves(&payload, here);
    for _ in 0..2 {
        half.torrent.check().unwrap();
        wait_for_state(&half.events, &TorrentState::Seeding);
        assert_serves(&payload, here);
    }
    half.session.shutdown(GUARD);
    let announces: Vec<String> = announces.try_iter().collect();
    let times = |event: &str| announces.iter().filter(|line| line.contains(event)).count();
    let counts = ["event=started", "event=completed", "event=stopped"].map(times);
    assert_eq!(counts, [1, 1, 1], "{announces:?}");
}

#[test]
fn t13_what_went_bad_is_found_and_healed_and_peers_hear_of_it() {
    let payload = Payload::with_pieces(PIECES as usize, PIECE_LEN);
    let session = session(LOCAL);
    let torrent = seed(&session, &payload);
    let events = session.subscribe().unwrap();
    let bad = PieceIndex(5);
    let mut rest = Bitfield::all(PIECES);
    let greet = |expected: &Bitfield| {
        let mut peer = RawPeer::dial(session.listen_addrs()[0], torrent.info_hash(), PLAIN);
        let told = Message::Bitfield(expected.as_bytes().to_vec().into());
        assert_eq!(peer.receive(), Some(told));
        peer
    };
    let mut before = greet(&rest);
    payload.flip(bad.0);
    torrent.check().unwrap();
    let told = wait_for_state(&events, &TorrentState::Downloading);
    let failed = |kind: &&EventKind| matches!(kind, EventKind::PieceFailed(_));
    let failed: Vec<&EventKind> = told.iter().filter(failed).collect();
    assert!(matches!(failed[..], [EventKind::PieceFailed(piece)] if *piece == bad), "{failed:?}");
    while before.receive().is_some() {}
    rest.clear(bad);
    let mut peer = greet(&rest);
    peer.send(&[payload.all_bits(), Message::Unchoke]).unwrap();
    while let Some(block) = peer.receive_request() {
        let Block { piece, offset, .. } = block;
        assert_eq!(piece, bad);
        // It may have hung up.
        peer.send(&[Message::Piece { piece, offset, data: payload.block(block) }]).ok();
    }
    wait_for_state(&events, &TorrentState::Seeding);
    greet(&Bitfield::all(PIECES));
    payload.assert_equals(payload.dir.path());
}

#[test]
fn t14_a_check_forgets_the_blocks_of_pieces_that_were_underway() {
    let (half, door, mut peer) = Half::with_peer();
    let given = peer.receive_request().unwrap();
    peer.send(&[half.piece_message(given)]).unwrap();
    let len = u64::from(given.len);
    eventually("it has come", || half.torrent.downloaded() == len);
    half.torrent.check().unwrap();
    while peer.receive().is_some() {}
    let mut peer = half.comes_to(&door);
    let served = half.serve(&mut peer);
    assert!(served.contains(&given));
    half.assert_completes();
    let missing = half.payload.bytes.len() as u64 / 2;
    assert_eq!(half.torrent.downloaded(), missing + len);
}

const PIECES: u32 = 24;
const PIECE_LEN: u32 = 64 * 1024;
/// In a piece.
const BLOCKS: usize = 4;
