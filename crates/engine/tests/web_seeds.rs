//! Whole sessions and the web servers that they download from, good and bad ones.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::time::Instant;

use common::web_host::{Answer, Asked, WebHost};
use common::{GUARD, LOCAL, Leecher, Payload, config, eventually, honest_seed, session, wait_for};
use engine::{AddOptions, EventKind, FilterFn, FilterPoint, Session, SessionConfig, TorrentState};
use torrent::metainfo::Metainfo;
use torrent::web_seed::WebSeedState;

/// A session whose only source are these.
fn leech(payload: &Payload, urls: &[&str]) -> Leecher {
    let web_seeds = urls.iter().map(|&url| url.to_owned()).collect();
    Leecher::with_options(payload, AddOptions { web_seeds, ..AddOptions::default() })
}

/// What is told of web seeds that fail, with whether they were dropped.
fn failures(events: &[EventKind]) -> Vec<(&str, bool)> {
    let mut failures = Vec::new();
    for kind in events {
        if let EventKind::WebSeedFailed { error, is_dropped, .. } = kind {
            failures.push((error.as_str(), *is_dropped));
        }
    }
    failures
}

#[test]
fn one_server_alone_brings_all_files() {
    let payload = Payload::new();
    let host = WebHost::honest(&payload);
    let leecher = leech(&payload, &[&host.url]);
    let events = leecher.complete(&payload);
    assert!(
        events
            .iter()
            .any(|kind| matches!(kind, EventKind::WebSeedAnswered { url } if *url == host.url))
    );
    assert_eq!(failures(&events), []);
    let asked = host.asked();
    assert!(asked.iter().any(|asked| asked.path == "/payload/ünï/cödé 漢字.dat"), "{asked:?}");
    assert!(!asked.iter().any(|asked| asked.path.ends_with("/empty")), "nothing is in it");
    assert!(asked.iter().all(|asked| asked.user_agent.starts_with("Flotilla/")));
    let status = leecher.torrent.status();
    assert_eq!((status.wasted, status.peers_connected), (0, 0));
    assert_eq!(status.downloaded, payload.bytes.len() as u64);
    let [web_seed] = &leecher.torrent.web_seeds().unwrap()[..] else { panic!("there is one") };
    assert_eq!((web_seed.downloaded, &web_seed.fault), (status.downloaded, &None));
}

#[test]
fn a_torrent_of_one_file_is_fetched_in_parts() {
    let payload = Payload::with_pieces(80, 64 * 1024);
    let host = WebHost::honest(&payload);
    let leecher = leech(&payload, &[&host.url]);
    leecher.complete(&payload);
    let asked = host.asked();
    assert!(host.connections() < asked.len(), "one connection serves many questions");
    assert_eq!(asked[0].range, Some((0, (1 << 20) - 1)), "{asked:?}");
    assert!(
        asked
            .iter()
            .any(|asked| asked.range.is_some_and(|(first, last)| last - first + 1 >= 2 << 20))
    );
}

#[test]
fn a_server_of_pieces_is_asked_for_pieces() {
    let payload = Payload::new();
    let host = WebHost::start(&payload, |number, _| match number {
        0 => Answer::Plainly("503 Busy", b"1".to_vec()),
        _ => Answer::Honest,
    });
    let url = format!("{}seed.php?key=1", host.url);
    // The keys need not be in order.
    let list = format!("d9:httpseedsl{}:{url}e", url.len());
    let torrent = [list.as_bytes(), &payload.metainfo.as_bytes()[1..]].concat();
    let metainfo = Metainfo::parse(&torrent).unwrap();
    assert_eq!(metainfo.info_hash(), payload.metainfo.info_hash());
    let payload = Payload { metainfo, ..payload };
    // A query that a stranger made is not for a server of our own network, unless it is trusted.
    let mut config = config(LOCAL);
    config.network.allow_local = true;
    let session = Session::start(config).unwrap();
    let leecher = Leecher::of(session, &payload, AddOptions::default());
    let events = leecher.complete(&payload);
    assert_eq!(failures(&events), [("the server answered 503", false)]);
    let asked = host.asked();
    assert!(asked[1].query.starts_with("key=1&info_hash="), "{asked:?}");
    assert!(asked.iter().all(|asked| asked.path == "/seed.php" && asked.range.is_none()));
}

#[test]
fn whatever_a_server_does_for_a_while_the_download_goes_on() {
    let payload = Payload::with_pieces(20, 64 * 1024);
    let answers = [
        Answer::Cut(100_000),
        Answer::Cut(0),
        Answer::WrongRange,
        Answer::Plainly("503 Busy\r\nRetry-After: 1", Vec::new()),
        Answer::Plainly("429 Too Many\r\nRetry-After: 1", Vec::new()),
        Answer::Plainly("500 Oops", b"<html>".to_vec()),
        Answer::Plainly("206 Partial Content", vec![0; 1 << 20]),
        Answer::Plainly("204 Nothing", Vec::new()),
    ];
    // All at once: each waits for a while before it asks again.
    let leechers = answers.map(|answer| {
        let failing = answer.clone();
        let host = WebHost::start(&payload, move |number, _| match number {
            0 => failing.clone(),
            _ => Answer::Honest,
        });
        (leech(&payload, &[&host.url]), answer)
    });
    for (leecher, answer) in leechers {
        let events = leecher.complete(&payload);
        assert!(matches!(failures(&events)[..], [(_, false)]), "{answer:?}: {events:?}");
    }
}

#[test]
fn one_that_lies_is_dropped_and_another_takes_its_place() {
    let payload = Payload::with_pieces(40, 64 * 1024);
    let liar = WebHost::start(&payload, |_, _| Answer::Spoilt);
    let leecher = leech(&payload, &[&liar.url]);
    let is_drop =
        |kind: &EventKind| matches!(kind, EventKind::WebSeedFailed { is_dropped: true, .. });
    let before = wait_for(&leecher.events, is_drop);
    assert!(!before.iter().any(|kind| matches!(kind, EventKind::PeerBanned { .. })));
    let [web_seed] = &leecher.torrent.web_seeds().unwrap()[..] else { panic!("there is one") };
    assert_eq!(web_seed.state, WebSeedState::Dropped);
    let asked = liar.asked().len();
    let honest = WebHost::honest(&payload);
    leecher.torrent.add_web_seed(honest.url).unwrap();
    leecher.complete(&payload);
    // One request may have been on its way to it.
    let asked_later = liar.asked().len() - asked;
    assert!(asked_later <= 1, "{asked_later}");
}

#[test]
fn what_one_server_lacks_another_has() {
    let payload = Payload::new();
    let lacks = |name: &'static str| {
        WebHost::start(&payload, move |_, asked: &Asked| {
            if asked.path.ends_with(name) {
                Answer::Plainly("404 Not Found", Vec::new())
            } else {
                Answer::Honest
            }
        })
    };
    let (one, other) = (lacks("a.bin"), lacks("d.bin"));
    let leecher = leech(&payload, &[&one.url, &other.url]);
    leecher.complete(&payload);
    for (host, name) in [(one, "a.bin"), (other, "d.bin")] {
        let asked = host.asked();
        let missed = asked.iter().filter(|asked| asked.path.ends_with(name)).count();
        assert!(missed <= 1, "{asked:?}");
    }
}

#[test]
fn a_server_without_the_files_or_of_no_use_is_dropped() {
    let payload = Payload::with_pieces(4, 64 * 1024);
    let missing = WebHost::start(&payload, |_, _| Answer::Plainly("404 No", Vec::new()));
    let shorter = WebHost::start(&payload, |_, _| Answer::Plainly("200 OK", vec![1; 1000]));
    let encoded = WebHost::start(&payload, |_, _| {
        Answer::Plainly("200 OK\r\nContent-Encoding: gzip", vec![1; 4 * 64 * 1024])
    });
    for (url, error) in [
        (missing.url.as_str(), "the server answered 404"),
        (&shorter.url, "a file there has another length"),
        (&encoded.url, "it encodes what it sends"),
        ("ftp://127.0.0.1/", "not an http or https address"),
        ("nonsense", "not an http or https address"),
    ] {
        let leecher = leech(&payload, &[url]);
        wait_for(&leecher.events, |kind| matches!(kind, EventKind::WebSeedFailed { .. }));
        let [web_seed] = &leecher.torrent.web_seeds().unwrap()[..] else { panic!("there is one") };
        assert_eq!(web_seed.state, WebSeedState::Dropped, "{url}");
        assert_eq!(
            web_seed.fault.as_ref().map(ToString::to_string).as_deref(),
            Some(error),
            "{url}"
        );
        eventually("its status tells", || leecher.torrent.status().web_seed_trouble.is_some());
    }
}

#[test]
fn redirects_lead_to_the_data_or_end() {
    let payload = Payload::new();
    let real = WebHost::honest(&payload);
    let target = real.url.clone();
    let host = WebHost::start(&payload, move |_, asked| {
        Answer::Redirect(format!("{target}{}", asked.target.trim_start_matches('/')))
    });
    leech(&payload, &[&host.url]).complete(&payload);
    assert!(host.asked().len() <= real.asked().len());
    let looping = WebHost::start(&payload, |_, asked| Answer::Redirect(asked.target.clone()));
    let leecher = leech(&payload, &[&looping.url]);
    wait_for(
        &leecher.events,
        |kind| matches!(kind, EventKind::WebSeedFailed { error, .. } if error == "too many redirects"),
    );
    assert_eq!(looping.asked().len(), 6);
}

#[test]
fn a_server_that_knows_no_parts_will_do_for_small_files() {
    let payload = Payload::of(&[("a", 300_000), ("b", 200_000), ("c", 400_000)], 64 * 1024, 7);
    let host = WebHost::start(&payload, |_, _| Answer::Whole);
    let events = leech(&payload, &[&host.url]).complete(&payload);
    assert_eq!(failures(&events), []);
}

#[test]
fn peers_and_servers_work_side_by_side() {
    let payload = Payload::with_pieces(120, 64 * 1024);
    let host = WebHost::honest(&payload);
    let (_seeder, addr) = honest_seed(&payload);
    let options = AddOptions {
        web_seeds: vec![host.url],
        peers: vec![addr],
        download_limit: Some(4 << 20),
        ..AddOptions::default()
    };
    let leecher = Leecher::with_options(&payload, options);
    leecher.complete(&payload);
    let from_server = leecher.torrent.web_seeds().unwrap()[0].downloaded;
    assert!(from_server > 0 && from_server < payload.bytes.len() as u64, "{from_server}");
}

#[test]
fn peers_finish_what_a_silent_server_was_asked_for() {
    let payload = Payload::with_pieces(8, 64 * 1024);
    let host = WebHost::start(&payload, |_, _| Answer::Silence);
    let leecher = leech(&payload, &[&host.url]);
    eventually("it is asked", || !host.asked().is_empty());
    let (_seeder, addr) = honest_seed(&payload);
    leecher.torrent.add_peer(addr).unwrap();
    leecher.complete(&payload);
}

#[test]
fn limits_hold_for_servers_as_well() {
    let payload = Payload::with_pieces(12, 64 * 1024);
    let host = WebHost::honest(&payload);
    let options = AddOptions {
        web_seeds: vec![host.url],
        download_limit: Some(400_000),
        ..AddOptions::default()
    };
    let began_at = Instant::now();
    Leecher::with_options(&payload, options).complete(&payload);
    let least = (payload.bytes.len() as f64 - 600_000.0) / 400_000.0;
    assert!(began_at.elapsed().as_secs_f64() > least, "{:?}", began_at.elapsed());
}

#[test]
fn a_server_in_the_local_network_is_left_out_of_the_limits_on_all_torrents() {
    let payload = Payload::with_pieces(6, 64 * 1024);
    let host = WebHost::honest(&payload);
    let mut settings = config(LOCAL);
    // Nobody gets a block at this rate within a test's patience.
    settings.limits.download = Some(1);
    let session = Session::start(settings).unwrap();
    let options = AddOptions { web_seeds: vec![host.url], ..AddOptions::default() };
    Leecher::of(session, &payload, options).complete(&payload);
}

#[test]
fn a_torrent_larger_than_the_memory_allowed_comes_whole() {
    let payload = Payload::with_pieces(12, 512 * 1024);
    let host = WebHost::honest(&payload);
    let usual = config(LOCAL);
    let mut limits = usual.limits.clone();
    limits.memory_max = 256 * 1024;
    let session = Session::start(SessionConfig { limits, ..usual }).unwrap();
    let events = session.subscribe().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let web_seeds = vec![host.url];
    let options = AddOptions { dir: dir.path().into(), web_seeds, ..AddOptions::default() };
    session.add(payload.metainfo.clone(), options).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    payload.assert_equals(dir.path());
}

#[test]
fn a_pause_or_a_stop_hangs_up_and_a_start_goes_on() {
    let payload = Payload::with_pieces(40, 64 * 1024);
    let host = WebHost::honest(&payload);
    let options = AddOptions {
        web_seeds: vec![host.url],
        download_limit: Some(100_000),
        ..AddOptions::default()
    };
    let leecher = Leecher::with_options(&payload, options);
    for rest in [engine::Torrent::pause, engine::Torrent::stop] {
        let is_busy = || leecher.torrent.web_seeds().unwrap()[0].state == WebSeedState::Fetching;
        eventually("it fetches", is_busy);
        rest(&leecher.torrent).unwrap();
        assert_eq!(leecher.torrent.web_seeds().unwrap()[0].state, WebSeedState::Idle);
        leecher.torrent.start().unwrap();
    }
    leecher.torrent.set_limits(None, None).unwrap();
    leecher.complete(&payload);
}

#[test]
fn the_filter_is_asked_first() {
    let payload = Payload::with_pieces(2, 64 * 1024);
    let host = WebHost::honest(&payload);
    let on_filter = FilterFn::new(|_, point| point != FilterPoint::WebSeed);
    let session =
        Session::start(SessionConfig { on_filter: Some(on_filter), ..config(LOCAL) }).unwrap();
    let events = session.subscribe().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let web_seeds = vec![host.url.clone()];
    let options = AddOptions { dir: dir.path().into(), web_seeds, ..AddOptions::default() };
    session.add(payload.metainfo, options).unwrap();
    let before = wait_for(&events, |kind| matches!(kind, EventKind::WebSeedFailed { .. }));
    let is_told = |kind: &EventKind| {
        matches!(kind, EventKind::IpFiltered { point: FilterPoint::WebSeed, .. })
    };
    assert!(before.iter().any(is_told), "{before:?}");
    assert!(host.asked().is_empty());
}

#[test]
fn web_seeds_come_and_go_and_are_remembered() {
    let payload = Payload::with_pieces(2, 64 * 1024);
    let (state, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let start = || {
        let state_dir = Some(state.path().into());
        Session::start(SessionConfig { state_dir, restore: true, ..config(LOCAL) }).unwrap()
    };
    let urls = |session: &Session| -> Vec<String> {
        let torrent = session.find(payload.metainfo.info_hash()).unwrap();
        eventually("it runs", || torrent.status().state == TorrentState::Downloading);
        torrent.web_seeds().unwrap().into_iter().map(|one| one.url).collect()
    };
    let (one, other) = ("http://127.0.0.1:1/".to_owned(), "http://127.0.0.1:2/".to_owned());
    let before = start();
    let options = AddOptions {
        dir: dir.path().into(),
        web_seeds: vec![one.clone()],
        ..AddOptions::default()
    };
    let torrent = before.add(payload.metainfo.clone(), options).unwrap();
    assert_eq!(urls(&before), std::slice::from_ref(&one));
    torrent.add_web_seed(other.clone()).unwrap();
    torrent.add_web_seed(other.clone()).unwrap();
    assert_eq!(urls(&before), [one.clone(), other.clone()]);
    torrent.remove_web_seed(one).unwrap();
    before.shutdown(GUARD);
    let after = start();
    assert_eq!(urls(&after), [other]);
}

#[test]
fn of_hundreds_of_web_seeds_a_few_are_asked() {
    let payload = Payload::with_pieces(2, 64 * 1024);
    let session = session(LOCAL);
    let dir = tempfile::tempdir().unwrap();
    let web_seeds = (0..500).map(|number| format!("http://127.0.0.1:1/{number}/")).collect();
    let options = AddOptions { dir: dir.path().into(), web_seeds, ..AddOptions::default() };
    let torrent = session.add(payload.metainfo, options).unwrap();
    eventually("it runs", || torrent.status().state == TorrentState::Downloading);
    assert_eq!(torrent.web_seeds().unwrap().len(), 64);
}
