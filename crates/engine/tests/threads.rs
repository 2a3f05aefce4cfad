//! Checks on any thread, watched from any thread: what is promised of one torrent, by number.
//!
//! The promises that need peers are in `threads_and_peers.rs`.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{
    FILES, GUARD, LOCAL, Leecher, PIECE_LEN, Payload, at_rate, eventually, honest_seed, seed,
    session, wait_for, wait_for_state,
};
use engine::{
    AddOptions, CheckError, EventKind, EventMask, Events, Orphan, Session, StatusWord, Torrent,
    TorrentState,
};
use torrent::{Bitfield, PieceIndex};

#[test]
fn t3_the_status_word_goes_its_ways_in_order_for_all_who_listen() {
    let payload = Payload::new();
    for (start_after_check, first) in [(false, [193, 195, 201]), (true, [197, 199, 201])] {
        let session = session(LOCAL);
        let listening = [(); 2].map(|()| {
            let events = session.subscribe_to(EventMask::STATUS).unwrap();
            std::thread::spawn(|| words(events))
        });
        let states = session.subscribe().unwrap();
        let options = AddOptions { start_after_check, ..payload.here() };
        let torrent = session.add(payload.metainfo.clone(), options).unwrap();
        wait_for_state(&states, &TorrentState::Seeding);
        assert_eq!(torrent.status_word().bits(), 201);
        torrent.check().unwrap();
        wait_for_state(&states, &TorrentState::Seeding);
        session.shutdown(GUARD);
        for thread in listening {
            assert_eq!(thread.join().unwrap(), [&first[..], &[195, 201], &[200]].concat());
        }
    }
    let orphan = Orphan::new(payload.metainfo.clone(), payload.here()).unwrap();
    assert_eq!(orphan.status_word().bits(), 64);
    let listening = [(); 2].map(|()| {
        let events = orphan.subscribe();
        std::thread::spawn(|| words(events))
    });
    for _ in 0..2 {
        let checker = orphan.clone();
        std::thread::spawn(move || checker.check()).join().unwrap().unwrap();
        assert_eq!(orphan.status_word().bits(), 72);
    }
    drop(orphan);
    for thread in listening {
        assert_eq!(thread.join().unwrap(), [66, 72, 66, 72]);
    }
}

/// All status words until the end.
fn words(events: Events) -> Vec<u8> {
    let word = |kind| match kind {
        EventKind::StatusChanged(word) => Some(word.bits()),
        _ => None,
    };
    events.filter_map(|event| word(event.kind)).collect()
}

#[test]
fn t4_the_bitfield_grows_live_and_is_readable_everywhere() {
    let payload = Payload::with_pieces(1024, BLOCK);
    let session = session(LOCAL);
    let torrent = seed(&session, &payload);
    let mut truth = Bitfield::all(1024);
    for piece in [0, 1, 500] {
        payload.flip(piece);
        truth.clear(PieceIndex(piece));
    }
    // So slow that two pieces are looked at, and no third.
    torrent.check_with(at_rate(1)).unwrap();
    let on_another_thread = {
        let torrent = session.find(torrent.info_hash()).unwrap();
        move || (torrent.bitfield().count(), torrent.has(PieceIndex(7)))
    };
    assert_eq!(std::thread::spawn(on_another_thread).join().unwrap(), (0, false));
    torrent.cancel_check().unwrap();

    let mut counts = BTreeSet::from([0]);
    let mut sample = || {
        let bits = torrent.bitfield();
        assert!(bits.count() >= *counts.last().unwrap(), "it only grows");
        assert!(bits.iter().all(|piece| truth.has(piece)), "what has a bit is right");
        counts.insert(bits.count());
        counts.len()
    };
    torrent.check_with(at_rate(1 << 20)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| eventually("it has grown in steps", || sample() >= 10)).join().unwrap();
    });
    torrent.cancel_check().unwrap();

    counts.retain(|&count| count == 0);
    let mut sample = || {
        let bits = torrent.bitfield();
        assert!(bits.count() >= *counts.last().unwrap(), "it only grows");
        counts.insert(bits.count());
    };
    torrent.check().unwrap();
    std::thread::scope(|scope| {
        let until_it_is_over = || {
            eventually("it is over", || {
                sample();
                torrent.status_word().contains(StatusWord::CHECKED)
            });
        };
        scope.spawn(until_it_is_over).join().unwrap();
    });
    assert_eq!(torrent.bitfield(), truth);
}

#[test]
fn t8_all_who_listen_hear_of_each_piece_once_when_its_bit_can_be_seen() {
    let payload = Payload::with_pieces(256, BLOCK);
    let session = session(LOCAL);
    let torrent = seed(&session, &payload);
    [0, 9, 255].into_iter().for_each(|piece| payload.flip(piece));
    let early = [hear(&torrent), hear(&torrent)];
    let events = torrent.subscribe_to(EventMask::PIECES).unwrap();
    torrent.check_with(at_rate(512 * 1024)).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::PieceVerified(_)));
    let late = hear(&torrent);
    let found = torrent.bitfield().count();
    eventually("more is found", || torrent.bitfield().count() > found + 5);
    torrent.cancel_check().unwrap();
    let [one, other] = early.map(|thread| thread.join().unwrap());
    let late = late.join().unwrap();
    assert_eq!(one, other);
    assert!(one.ends_with(&late) && !late.is_empty() && late.len() < one.len());

    let all = [(); 3].map(|()| hear(&torrent));
    torrent.check().unwrap();
    for thread in all {
        let mut heard = thread.join().unwrap();
        heard.sort_unstable();
        assert!(heard.into_iter().eq((0..256).map(PieceIndex)));
    }
}

/// On a thread of its own: of which pieces it hears, until the check is over.
fn hear(torrent: &Torrent) -> JoinHandle<Vec<PieceIndex>> {
    let torrent = torrent.clone();
    let events = torrent.subscribe_to(EventMask::PIECES | EventMask::STATUS).unwrap();
    std::thread::spawn(move || {
        let mut heard = Vec::new();
        for event in events {
            match event.kind {
                EventKind::PieceVerified(piece) => {
                    assert!(torrent.has(piece));
                    heard.push(piece);
                }
                EventKind::PieceFailed(piece) => {
                    assert!(!torrent.has(piece));
                    heard.push(piece);
                }
                EventKind::StatusChanged(word) if !word.contains(StatusWord::CHECKING) => break,
                _ => {}
            }
        }
        heard
    })
}

#[test]
fn t9_a_check_is_not_begun_twice_and_not_in_a_pause() {
    let payload = Payload::with_pieces(128, BLOCK);
    let session = session(LOCAL);
    let torrent = seed(&session, &payload);
    payload.flip(3);
    let heard = hear(&torrent);
    // Two seconds.
    torrent.check_with(at_rate(1 << 20)).unwrap();
    assert_eq!(torrent.check(), Err(CheckError::AlreadyChecking));
    eventually("half is found", || torrent.bitfield().count() > 60);
    assert_eq!(torrent.check(), Err(CheckError::AlreadyChecking));
    assert!(torrent.bitfield().count() > 60, "it does not begin again");
    assert_eq!(heard.join().unwrap().len(), 128);
    assert_eq!(torrent.bitfield().count(), 127);

    torrent.pause().unwrap();
    let before = torrent.status_word();
    assert!(before.contains(StatusWord::PAUSED));
    assert_eq!(torrent.check(), Err(CheckError::Paused));
    assert_eq!((torrent.status_word(), torrent.bitfield().count()), (before, 127));
    torrent.start().unwrap();
    torrent.check().unwrap();
}

#[test]
fn t12_whatever_ends_a_check_ends_it_soon_and_leaves_nothing_behind() {
    const ALONE: &str = "ONE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        end_checks_in_all_ways();
        return;
    }
    // Threads and open files are those of a process, and other tests have theirs.
    let name = "t12_whatever_ends_a_check_ends_it_soon_and_leaves_nothing_behind";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(ALONE, "").stdout(Stdio::null());
    let mut alone = command.spawn().unwrap();
    let since = Instant::now();
    let status = loop {
        if let Some(status) = alone.try_wait().unwrap() {
            break status;
        }
        if since.elapsed() > GUARD * 3 {
            alone.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
}

fn end_checks_in_all_ways() {
    // Before anything else: threads that are about to end would count.
    let (threads, files) = (count("/proc/self/task"), count("/proc/self/fd"));
    let payload = Payload::with_pieces(64, BLOCK);
    let ways: [fn(Session, &Torrent) -> Option<Session>; 5] = [
        |session, torrent| {
            torrent.cancel_check().unwrap();
            Some(session)
        },
        |session, torrent| {
            torrent.stop().unwrap();
            Some(session)
        },
        |session, torrent| {
            session.remove(torrent).unwrap();
            Some(session)
        },
        |session, _| {
            session.shutdown(GUARD);
            None
        },
        |session, _| {
            drop(session);
            None
        },
    ];
    for end in ways {
        let session = session(LOCAL);
        let torrent = seed(&session, &payload);
        let events = torrent.subscribe_to(EventMask::PIECES).unwrap();
        // It would take days.
        torrent.check_with(at_rate(1)).unwrap();
        let mut found = Bitfield::none(64);
        for _ in 0..2 {
            match events.recv_timeout(GUARD).unwrap().kind {
                EventKind::PieceVerified(piece) => found.set(piece),
                other => panic!("{other:?}"),
            };
        }
        let asked_at = Instant::now();
        let session = end(session, &torrent);
        assert!(asked_at.elapsed() < GUARD / 6);
        let word = torrent.status_word();
        assert_eq!(word.only(StatusWord::CHECKING | StatusWord::CHECKED), StatusWord::default());
        assert_eq!(torrent.bitfield(), found);
        drop(session);
        assert!(events.recv().is_err(), "nothing more is told");
    }
    eventually("its threads have ended", || count("/proc/self/task") == threads);
    assert_eq!(count("/proc/self/fd"), files);
}

fn count(dir: &str) -> usize {
    fs::read_dir(dir).unwrap().count()
}

#[test]
fn t14_what_one_thread_brings_about_all_others_see() {
    let payload = Payload::new();
    let (_seeder, addr) = honest_seed(&payload);
    let leecher = Leecher::start(&payload, &[]);
    let torrent = &leecher.torrent;
    let elsewhere = |what: &str, is_so: fn(&Torrent) -> bool| {
        let torrent = leecher.session.find(torrent.info_hash()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| eventually(what, || is_so(&torrent))).join().unwrap();
        });
    };
    let (name, _) = FILES[0];
    let only_one = FILES.map(|(other, _)| if other == name { 4 } else { 0 });
    torrent.set_priorities(only_one.to_vec()).unwrap();
    elsewhere("less is wanted", |torrent| torrent.status().wanted_len == u64::from(PIECE_LEN) * 2);
    torrent.add_peer(addr).unwrap();
    elsewhere("it was downloaded", |torrent| torrent.downloaded() == u64::from(PIECE_LEN) * 2);
    elsewhere("it is complete", |torrent| torrent.is_complete() && torrent.left() == 0);
    let file = leecher.dir.path().join("payload").join(name);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    torrent.check().unwrap();
    elsewhere("it has an error", |torrent| {
        torrent.error().is_some_and(|text| text.contains("a.bin"))
    });
}

#[test]
fn t15_pieces_are_where_they_should_be_at_every_edge() {
    let block = BLOCK as usize;
    for files in [
        &[("whole", 64 * block)][..],
        &[("short", 64 * block + 1)],
        &[("less than a piece", 5)],
        &[("a", block - 5), ("nothing", 0), ("b", 3), ("c", block)],
        &[("nothing", 0), ("a", block), ("b", block), ("nothing too", 0)],
    ] {
        let payload = Payload::of(files, BLOCK, 1);
        let (word, failed, error) = checked(&payload);
        assert_eq!((word, failed, error), (201, vec![], None), "{files:?}");
        let orphan = Orphan::new(payload.metainfo.clone(), payload.here()).unwrap();
        orphan.check().unwrap();
        assert!(orphan.bitfield().is_all() && orphan.status_word().bits() == 72, "{files:?}");
    }

    let payload = Payload::of(&EDGES, BLOCK, 1);
    fs::remove_file(payload.file("tiny")).unwrap();
    fs::remove_file(payload.file("nothing")).unwrap();
    let failed = [1, 2].map(PieceIndex).to_vec();
    assert_eq!(checked(&payload), (201, failed, None), "missing is no error");
}

#[test]
fn t15_what_cannot_be_read_is_an_error_with_a_text() {
    let obstacles: [fn(&Path); 3] = [
        |path| fs::create_dir(path).unwrap(),
        |path| symlink("/dev/zero", path).unwrap(),
        |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
    ];
    for obstruct in obstacles {
        let payload = Payload::of(&EDGES, BLOCK, 1);
        fs::remove_file(payload.file("tiny")).unwrap();
        obstruct(&payload.file("tiny"));
        let (word, failed, error) = checked(&payload);
        assert_eq!((word, failed), (208, [1, 2].map(PieceIndex).to_vec()));
        assert!(error.is_some_and(|text| text.contains("tiny")));
    }
}

/// The second and the third piece touch a file of a few bytes between two others, and an empty one.
const EDGES: [(&str, usize); 4] =
    [("a", 2 * BLOCK as usize - 5), ("tiny", 10), ("nothing", 0), ("b", 2 * BLOCK as usize)];

/// Adds it where its files are. Returns its word after the check that this begins with, the pieces that
/// failed, and its error.
fn checked(payload: &Payload) -> (u8, Vec<PieceIndex>, Option<String>) {
    let session = session(LOCAL);
    let events = session.subscribe().unwrap();
    let torrent = session.add(payload.metainfo.clone(), payload.here()).unwrap();
    let is_begun = |kind: &EventKind| matches!(kind, EventKind::StatusChanged(word) if word.contains(StatusWord::CHECKING));
    wait_for(&events, is_begun);
    let is_over = |kind: &EventKind| matches!(kind, EventKind::StatusChanged(_));
    let told = wait_for(&events, is_over);
    let failed = told.iter().filter_map(|kind| match kind {
        EventKind::PieceFailed(piece) => Some(*piece),
        _ => None,
    });
    let mut failed: Vec<PieceIndex> = failed.collect();
    failed.sort_unstable();
    let right = torrent.piece_count() as usize - failed.len();
    assert_eq!(torrent.bitfield().count() as usize, right);
    (torrent.status_word().bits(), failed, torrent.error())
}

/// The length of the pieces, in bytes: so slow a check as can be looks at two.
const BLOCK: u32 = torrent::BLOCK_LEN;
