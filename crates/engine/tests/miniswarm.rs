//! A small swarm that knows nothing but its tracker: one seed, five leeches, and all become seeds.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use common::tracker_host::TrackerHost;
use common::{GUARD, LOCAL, Payload, config, eventually, wait_for, wait_for_state};
use engine::{
    AddOptions, Encryption, EventKind, Events, Session, SessionConfig, Torrent, TorrentState,
};
use tempfile::TempDir;

/// A session with the torrent, which knows of no peer.
struct Member {
    session: Session,
    torrent: Torrent,
    events: Events,
    port: u16,
}

impl Member {
    fn start(
        payload: &Payload,
        options: AddOptions,
        tracker: &str,
        encryption: Encryption,
    ) -> Self {
        let session = Session::start(SessionConfig { encryption, ..config(LOCAL) }).unwrap();
        let events = session.subscribe().unwrap();
        let options = AddOptions { trackers: Some(vec![vec![tracker.to_owned()]]), ..options };
        let torrent = session.add(payload.metainfo.clone(), options).unwrap();
        let port = session.listen_addrs()[0].port();
        Self { session, torrent, events, port }
    }
}

/// Both have the same tracker; `tracker` is its address.
fn assert_all_become_seeds(host: &TrackerHost, tracker: &str, encryption: Encryption) {
    let payload = Payload::new();
    let seed = Member::start(&payload, payload.here(), tracker, encryption);
    wait_for(&seed.events, |kind| matches!(kind, EventKind::TrackerAnswered { .. }));
    let dirs: [TempDir; 5] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let leeches = dirs.each_ref().map(|dir| {
        let options = AddOptions { dir: dir.path().into(), ..AddOptions::default() };
        Member::start(&payload, options, tracker, encryption)
    });
    for (leech, dir) in leeches.iter().zip(&dirs) {
        wait_for(&leech.events, |kind| matches!(kind, EventKind::Completed));
        wait_for_state(&leech.events, &TorrentState::Seeding);
        payload.assert_equals(dir.path());
        assert!(leech.torrent.bitfield().is_all());
        eventually("its completion is announced", || {
            host.events_of(leech.port) == ["started", "completed"]
        });
    }
    for member in leeches.iter().chain([&seed]) {
        member.session.shutdown(GUARD);
    }
    let begun = host.heard_of(seed.port);
    assert_eq!((begun[0].event.as_str(), begun[0].left), ("started", 0));
    assert_eq!(host.events_of(seed.port), ["started", "stopped"]);
    for leech in &leeches {
        assert_eq!(host.events_of(leech.port), ["started", "completed", "stopped"]);
        let heard = host.heard_of(leech.port);
        assert_eq!(heard[0].left, payload.bytes.len() as u64);
        assert!(heard.iter().all(|said| said.event != "completed" || said.left == 0));
    }
}

#[test]
fn b30_one_seed_and_five_leeches_find_each_other_over_http_and_all_end_as_seeds() {
    let host = TrackerHost::start();
    assert_all_become_seeds(&host, &host.http, Encryption::Off);
}

#[test]
fn b30_one_seed_and_five_leeches_find_each_other_over_udp_and_all_end_as_seeds() {
    let host = TrackerHost::start();
    assert_all_become_seeds(&host, &host.udp, Encryption::Off);
}

#[test]
fn b30_one_seed_and_five_leeches_become_seeds_where_all_is_encrypted() {
    let host = TrackerHost::start();
    assert_all_become_seeds(&host, &host.udp, Encryption::Required);
}
