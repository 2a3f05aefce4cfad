//! Limits that adapt: who is left out of them, and what the hour makes of them.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::time::Instant;

use common::{HONEST, LOCAL, Leecher, Payload, config, eventually, seed, wait_for};
use engine::{
    AddOptions, Days, Encryption, EventKind, HourlyLimit, ScheduledLimits, Session, SessionConfig,
    SessionLimits,
};

/// Nobody gets a block at this rate within a test's patience.
const NEXT_TO_NOTHING: u64 = 1;

/// All day, every day.
const ALWAYS: ScheduledLimits = ScheduledLimits {
    days: Days::ALL,
    from: 0,
    until: 0,
    download: HourlyLimit::Usual,
    upload: HourlyLimit::Usual,
};

/// A session with these limits on uploads that seeds the payload.
fn seeder(payload: &Payload, limits: SessionLimits, schedule: Vec<ScheduledLimits>) -> Session {
    let settings = SessionConfig { limits, schedule, ..config(HONEST) };
    let session = Session::start(settings).unwrap();
    seed(&session, payload);
    session
}

#[test]
fn peers_in_the_local_network_are_left_out() {
    let payload = Payload::with_pieces(6, 64 * 1024);
    let limits = SessionLimits {
        upload: Some(NEXT_TO_NOTHING),
        download: Some(NEXT_TO_NOTHING),
        ..SessionLimits::default()
    };
    let session = seeder(&payload, limits, Vec::new());
    Leecher::start(&payload, session.listen_addrs()).complete(&payload);
}

#[test]
fn by_whatever_road_they_come() {
    let payload = Payload::with_pieces(6, 64 * 1024);
    for (utp, encryption) in
        [(false, Encryption::Required), (true, Encryption::Required), (true, Encryption::Off)]
    {
        let limits = SessionLimits {
            upload: Some(NEXT_TO_NOTHING),
            download: Some(NEXT_TO_NOTHING),
            ..SessionLimits::default()
        };
        let session = || {
            let settings = SessionConfig {
                tcp: !utp,
                utp,
                encryption,
                limits: limits.clone(),
                ..config(LOCAL)
            };
            Session::start(settings).unwrap()
        };
        let (seeder, leecher) = (session(), session());
        seed(&seeder, &payload);
        let dir = tempfile::tempdir().unwrap();
        let peers = vec![seeder.listen_addrs()[0]];
        let events = leecher.subscribe().unwrap();
        let options = AddOptions { dir: dir.path().into(), peers, ..AddOptions::default() };
        leecher.add(payload.metainfo.clone(), options).unwrap();
        wait_for(&events, |kind| matches!(kind, EventKind::Completed));
        payload.assert_equals(dir.path());
    }
}

#[test]
fn unless_they_are_to_be_held_to_them_too() {
    let payload = Payload::with_pieces(8, 64 * 1024);
    let limits =
        SessionLimits { upload: Some(200_000), local_too: true, ..SessionLimits::default() };
    let session = seeder(&payload, limits, Vec::new());
    let began_at = Instant::now();
    Leecher::start(&payload, session.listen_addrs()).complete(&payload);
    assert!(began_at.elapsed().as_secs_f64() > 1.5, "{:?}", began_at.elapsed());
}

#[test]
fn what_the_schedule_says_holds_in_place_of_the_usual_limits() {
    let payload = Payload::with_pieces(6, 64 * 1024);
    let limits = SessionLimits {
        upload: Some(NEXT_TO_NOTHING),
        local_too: true,
        ..SessionLimits::default()
    };
    let schedule = vec![ScheduledLimits { upload: HourlyLimit::Unlimited, ..ALWAYS }];
    let session = seeder(&payload, limits, schedule);
    let leecher = Leecher::start(&payload, session.listen_addrs());
    leecher.complete(&payload);
    assert_eq!(session.limits().unwrap().upload, Some(NEXT_TO_NOTHING), "that is the usual one");
}

#[test]
fn a_change_of_limits_by_the_hour_is_told_and_survives_that_of_the_usual_ones() {
    let schedule = vec![ScheduledLimits { download: HourlyLimit::BytesPerSecond(7), ..ALWAYS }];
    let (sink, told) = engine::EventSink::new(engine::EventMask::STATUS);
    let settings = SessionConfig { schedule, events: Some(sink), ..config(LOCAL) };
    let session = Session::start(settings).unwrap();
    wait_for(&told, |kind| {
        matches!(kind, EventKind::LimitsChanged { download: Some(7), upload: None })
    });
    session.set_limits(Some(9), Some(9)).unwrap();
    eventually("the usual ones are noted", || session.limits().unwrap().upload == Some(9));
}
