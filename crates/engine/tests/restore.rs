//! Sessions that remember their torrents, with a real disk and database.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::path::Path;

use common::{GUARD, HONEST, LOCAL, Payload, config, eventually, seed};
use engine::{AddOptions, Session, SessionConfig, Torrent, TorrentState};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tempfile::TempDir;
use torrent::InfoHash;

fn start(state: &Path) -> Session {
    let settings = SessionConfig { state_dir: Some(state.into()), restore: true, ..config(LOCAL) };
    Session::start(settings).unwrap()
}

fn end(session: &Session) {
    session.shutdown(GUARD);
}

fn hashes(session: &Session) -> Vec<InfoHash> {
    session.torrents().iter().map(Torrent::info_hash).collect()
}

fn wait_until(torrent: &Torrent, state: &TorrentState) {
    eventually("its state", || torrent.status().state == *state);
}

/// Three torrents that were added to a session that is over: one seeds, one is stopped, one waits for
/// peers and wants one file only.
fn remembered() -> (TempDir, [Payload; 3]) {
    let state = tempfile::tempdir().unwrap();
    let payloads = [3, 1, 2].map(Payload::with_seed);
    let session = start(state.path());
    let add = |payload: &Payload, options: AddOptions| {
        session.add(payload.metainfo.clone(), options).unwrap()
    };
    let dir = |payload: &Payload| payload.dir.path().to_owned();
    let here = AddOptions { dir: dir(&payloads[0]), ..AddOptions::default() };
    let seeding = add(&payloads[0], here.clone());
    let stopped = add(&payloads[1], AddOptions { dir: dir(&payloads[1]), ..here });
    let waiting = AddOptions {
        dir: state.path().join("elsewhere"),
        priorities: vec![0, 0, 0, 0, 7, 0],
        ..AddOptions::default()
    };
    let waiting = add(&payloads[2], waiting);
    wait_until(&seeding, &TorrentState::Seeding);
    wait_until(&stopped, &TorrentState::Seeding);
    wait_until(&waiting, &TorrentState::Downloading);
    stopped.stop().unwrap();
    end(&session);
    (state, payloads)
}

#[test]
fn torrents_come_back_in_their_order_and_as_they_were() {
    let (state, payloads) = remembered();
    let session = start(state.path());
    let all = payloads.each_ref().map(|payload| payload.metainfo.info_hash());
    assert_eq!(hashes(&session), all);
    let events = session.subscribe().unwrap();
    let torrents = session.torrents();
    wait_until(&torrents[0], &TorrentState::Seeding);
    wait_until(&torrents[1], &TorrentState::Stopped);
    wait_until(&torrents[2], &TorrentState::Downloading);
    let left = torrents[2].status();
    assert!(left.wanted_len >= 1_500_000 && left.wanted_len < 1_700_000, "{}", left.wanted_len);
    // Nothing had to be hashed again.
    let checked = |kind: &engine::EventKind| matches!(kind, engine::EventKind::PieceVerified(_));
    assert!(!events.try_iter().any(|event| checked(&event.kind)));
    torrents[1].start().unwrap();
    wait_until(&torrents[1], &TorrentState::Seeding);
    end(&session);
}

#[test]
fn what_was_removed_stays_away_and_what_was_changed_stays_changed() {
    let (state, payloads) = remembered();
    let session = start(state.path());
    let torrents = session.torrents();
    torrents[0].remove().unwrap();
    torrents[2].set_priorities(vec![0, 7, 0, 0, 0, 0]).unwrap();
    torrents[1].start().unwrap();
    end(&session);
    let session = start(state.path());
    assert_eq!(hashes(&session), [1, 2].map(|at| payloads[at].metainfo.info_hash()));
    let torrents = session.torrents();
    wait_until(&torrents[0], &TorrentState::Seeding);
    wait_until(&torrents[1], &TorrentState::Downloading);
    assert!(torrents[1].status().wanted_len < 200_000, "{}", torrents[1].status().wanted_len);
    // It may come again, and then it is the last.
    let options = AddOptions { dir: payloads[0].dir.path().into(), ..AddOptions::default() };
    session.add(payloads[0].metainfo.clone(), options).unwrap();
    end(&session);
    let session = start(state.path());
    assert_eq!(hashes(&session), [1, 2, 0].map(|at| payloads[at].metainfo.info_hash()));
    end(&session);
}

#[test]
fn a_session_that_does_not_remember_leaves_alone_what_another_does() {
    let (state, payloads) = remembered();
    let plain = SessionConfig { state_dir: Some(state.path().into()), ..config(HONEST) };
    let remembering = start(state.path());
    let plain = Session::start(plain).unwrap();
    assert_eq!(hashes(&plain), []);
    let more = Payload::with_seed(9);
    seed(&plain, &more);
    end(&plain);
    end(&remembering);
    let session = start(state.path());
    assert_eq!(hashes(&session).len(), payloads.len());
    end(&session);
}

#[test]
fn an_entry_that_is_newer_or_damaged_is_left_out_and_left_alone() {
    let (state, payloads) = remembered();
    let [newer, damaged, kept] = payloads.each_ref().map(|payload| payload.metainfo.info_hash());
    let database = Database::open(state.path().join("state.redb")).unwrap();
    let change = |table: Table, hash: InfoHash, bytes: &dyn Fn(&[u8]) -> Vec<u8>| {
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(table).unwrap();
        let before = table.get(hash.0).unwrap().unwrap().value().to_vec();
        table.insert(hash.0, bytes(&before).as_slice()).unwrap();
        drop(table);
        transaction.commit().unwrap();
    };
    change(MEMBERS, newer, &|bytes| {
        String::from_utf8(bytes.to_vec()).unwrap().replace("versioni1e", "versioni2e").into()
    });
    change(TORRENT_FILES, damaged, &|bytes| bytes[..bytes.len() / 2].to_vec());
    drop(database);
    let session = start(state.path());
    assert_eq!(hashes(&session), [kept]);
    end(&session);
    let database = Database::open(state.path().join("state.redb")).unwrap();
    let members = database.begin_read().unwrap().open_table(MEMBERS).unwrap();
    assert_eq!(members.iter().unwrap().count(), 3);
}

#[test]
fn a_database_that_is_damaged_is_moved_aside_and_the_session_begins_empty() {
    let (state, _payloads) = remembered();
    let path = state.path().join("state.redb");
    let len = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len / 2).unwrap();
    let session = start(state.path());
    assert_eq!(hashes(&session), []);
    end(&session);
    assert!(state.path().join("state.redb.corrupt-1").exists());
}

type Table = TableDefinition<'static, [u8; 20], &'static [u8]>;

const MEMBERS: Table = TableDefinition::new("members");
const TORRENT_FILES: Table = TableDefinition::new("torrent_files");
