//! A small swarm that knows nothing but its tracker: one seed, five leeches, and all become seeds.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use common::tracker_host::TrackerHost;
use common::{GUARD, LOCAL, Payload, eventually, session, wait_for, wait_for_state};
use engine::{AddOptions, EventKind, Events, Session, Torrent, TorrentState};
use tempfile::TempDir;

/// A session with the torrent, which knows of no peer.
struct Member {
    session: Session,
    torrent: Torrent,
    events: Events,
    port: u16,
}

impl Member {
    fn start(payload: &Payload, options: AddOptions, tracker: &str) -> Self {
        let session = session(LOCAL);
        let events = session.subscribe().unwrap();
        let options = AddOptions { trackers: Some(vec![vec![tracker.to_owned()]]), ..options };
        let torrent = session.add(payload.metainfo.clone(), options).unwrap();
        let port = session.listen_addrs()[0].port();
        Self { session, torrent, events, port }
    }
}

/// Both have the same tracker; `tracker` is its address.
fn assert_all_become_seeds(host: &TrackerHost, tracker: &str) {
    let payload = Payload::new();
    let seed = Member::start(&payload, payload.here(), tracker);
    wait_for(&seed.events, |kind| matches!(kind, EventKind::TrackerAnswered { .. }));
    let dirs: [TempDir; 5] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let leeches = dirs.each_ref().map(|dir| {
        let options = AddOptions { dir: dir.path().into(), ..AddOptions::default() };
        Member::start(&payload, options, tracker)
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
    assert_all_become_seeds(&host, &host.http);
}

#[test]
fn b30_one_seed_and_five_leeches_find_each_other_over_udp_and_all_end_as_seeds() {
    let host = TrackerHost::start();
    assert_all_become_seeds(&host, &host.udp);
}
