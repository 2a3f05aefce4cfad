//! uTP over real sockets.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::net::UdpSocket;

use common::{GUARD, LOCAL, Payload, config, eventually, seed, wait_for};
use engine::{AddOptions, EventKind, Events, Session, SessionConfig};
use tempfile::TempDir;
use torrent::Rng;

fn session() -> Session {
    Session::start(SessionConfig { tcp: false, utp: true, ..config(LOCAL) }).unwrap()
}

/// One that has the payload, and one that fetches it, with its events and where to.
fn pair(payload: &Payload) -> ([Session; 2], Events, TempDir) {
    let (seeder, leecher) = (session(), session());
    seed(&seeder, payload);
    let dir = tempfile::tempdir().unwrap();
    let peers = vec![seeder.listen_addrs()[0]];
    let events = leecher.subscribe().unwrap();
    let options = AddOptions { dir: dir.path().into(), peers, ..AddOptions::default() };
    leecher.add(payload.metainfo.clone(), options).unwrap();
    ([seeder, leecher], events, dir)
}

#[test]
fn a_torrent_goes_over_utp_though_strangers_send_noise() {
    let payload = Payload::with_pieces(100, 64 * 1024);
    let (sessions, events, dir) = pair(&payload);
    let stranger = UdpSocket::bind((LOCAL, 0)).unwrap();
    let mut rng = Rng::from_seed(1);
    for number in 0..2000_usize {
        let mut noise: [u8; 60] = rng.bytes();
        noise[0] = ((number % 5) as u8) << 4 | 1;
        let to = sessions[number % 2].listen_addrs()[0];
        stranger.send_to(&noise[..20 + number % 40], to).unwrap();
    }
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    payload.assert_equals(dir.path());
}

#[test]
fn who_ends_says_so() {
    let payload = Payload::with_pieces(3, 64 * 1024);
    let ([seeder, leecher], events, _dir) = pair(&payload);
    let seen = seeder.subscribe().unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    drop(leecher);
    // Long before anything would time out.
    let is_parting = |kind: &EventKind| matches!(kind, EventKind::PeerDisconnected { .. });
    eventually("a parting", || seen.recv_timeout(GUARD).is_ok_and(|event| is_parting(&event.kind)));
}
