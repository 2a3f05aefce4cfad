//! `get` and `seed` over loopback: whole transfers, limits of what is wanted, crashes, Ctrl-C.

mod common;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Fixture, made_up};

fn get<'a>(peer: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let usual = [
        "get",
        "payload.torrent",
        "-o",
        "out",
        "--port",
        "0",
        "--bind",
        "127.0.0.1",
        "--peer",
        peer,
    ];
    [&usual, more].concat()
}

#[test]
fn a_download_ends_when_it_is_complete() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&[]);
    let ran = fixture.run(&get(&peer, &[]));
    ran.assert_status(0);
    assert!(ran.out().contains("complete: payload, 1.4 MiB; 1.4 MiB in "), "{}", ran.out());
    fixture.assert_has_payload("out");
    // Again: nothing is fetched, and no peer is needed.
    let again = fixture.run(&["get", "payload.torrent", "-o", "out", "--port", "0", "--json"]);
    again.assert_status(0);
    assert!(again.out().contains(r#""event":"end","status":"done""#), "{}", again.out());
}

#[test]
fn what_happens_while_it_begins_is_told_as_well() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&[]);
    let ran = fixture.run(&get(&peer, &["--json"]));
    ran.assert_status(0);
    // That it listens is so before anybody could ask to hear of what happens, and a router may be as quick.
    assert!(ran.out().contains(r#""event":"listen_succeeded""#), "{}", ran.out());
}

#[test]
fn only_the_files_that_are_wanted_come() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&[]);
    fixture
        .run(&get(&peer, &["--only", "*.dat", "--exclude", "z", "--sequential"]))
        .assert_status(0);
    let out = fixture.path("out/payload");
    assert!(fs::read(out.join("ünï/cödé 漢字.dat")).unwrap() == made_up(1_200_001));
    assert!(!out.join("a.bin").exists() && !out.join("z").exists() && !out.join("tiny").exists());
    // Then the rest: what came along in shared pieces is not lost.
    fixture.run(&get(&peer, &[])).assert_status(0);
    fixture.assert_has_payload("out");
}

#[test]
fn an_interrupted_download_says_so_and_goes_on_later() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&["--limit-up", "400K", "--limit-local"]);
    let mut leecher = fixture.start(&get(&peer, &[]));
    for _ in 0..3 {
        leecher.wait_for("piece_verified");
    }
    leecher.signal("-INT");
    assert_eq!(leecher.end(), Some(130));
    let mut leecher = fixture.start(&get(&peer, &[]));
    leecher.wait_for("completed");
    let last = leecher.wait_until(|value| value["event"] == "progress" && value["progress"] == 1.0);
    assert_eq!(leecher.end(), Some(0));
    let size: u64 = common::FILES.iter().map(|(_, len)| *len as u64).sum();
    // The counter goes over both runs: no byte came twice, but for what was on its way.
    let downloaded = last["downloaded"].as_u64().unwrap();
    assert!((size..size + 3 * 65536 + 65536).contains(&downloaded), "{downloaded} of {size}");
    fixture.assert_has_payload("out");
}

#[test]
fn after_a_crash_what_was_verified_is_there() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&["--limit-up", "400K", "--limit-local"]);
    let mut leecher = fixture.start(&get(&peer, &[]));
    let mut verified = Vec::new();
    for _ in 0..5 {
        verified.push(leecher.wait_for("piece_verified")["piece"].as_u64().unwrap());
    }
    leecher.signal("-KILL");
    leecher.end();
    // In the second run they are found on disk, before any peer is there.
    let mut again = fixture.start(&[
        "get",
        "payload.torrent",
        "-o",
        "out",
        "--port",
        "0",
        "--bind",
        "127.0.0.1",
    ]);
    let mut found = Vec::new();
    again.wait_until(|value| {
        value["event"] == "state"
            && value["state"] == "checking"
            && value["to_check"].as_u64() > Some(0)
    });
    while !verified.iter().all(|piece| found.contains(piece)) {
        found.push(again.wait_for("piece_verified")["piece"].as_u64().unwrap());
    }
    again.signal("-INT");
    assert_eq!(again.end(), Some(130));
    fixture.run(&get(&peer, &[])).assert_status(0);
    fixture.assert_has_payload("out");
}

#[test]
fn damage_behind_our_back_is_found_and_mended() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&[]);
    fixture.run(&get(&peer, &[])).assert_status(0);
    let path = fixture.path("out/payload/a.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[150_000] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    fixture.run(&get(&peer, &[])).assert_status(0);
    fixture.assert_has_payload("out");
    // A longer file is touched only if told so; then it is cut to its length.
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"more");
    fs::write(&path, bytes).unwrap();
    fixture.run(&get(&peer, &["--check"])).assert_complains(1, "a.bin");
    fixture.run(&get(&peer, &["--overwrite"])).assert_status(0);
    fixture.run(&["verify", "payload.torrent", "out"]).assert_status(0);
}

#[test]
fn what_is_not_as_the_torrent_says_is_not_seeded() {
    let fixture = Fixture::with_torrent();
    let mut bytes = made_up(300_000);
    bytes[7] ^= 1;
    fs::write(fixture.path("payload/a.bin"), &bytes).unwrap();
    fixture
        .run(&["seed", "payload", "-t", "payload.torrent", "--port", "0"])
        .assert_complains(1, "payload");
    assert!(fs::read(fixture.path("payload/a.bin")).unwrap() == bytes, "it was changed");
}

#[test]
fn files_of_the_same_name_that_are_something_else_are_not_overwritten_unless_told_so() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&[]);
    fs::create_dir_all(fixture.path("out/payload")).unwrap();
    let path = fixture.path("out/payload/a.bin");
    fs::write(&path, b"a diary").unwrap();
    fixture.run(&get(&peer, &[])).assert_complains(1, "--overwrite");
    assert_eq!(fs::read(&path).unwrap(), b"a diary");
    fixture.run(&get(&peer, &["--overwrite"])).assert_status(0);
    fixture.assert_has_payload("out");
}

#[test]
fn what_stands_in_the_way_of_a_file_is_named_at_once() {
    let fixture = Fixture::with_torrent();
    let in_the_way = |make: &dyn Fn(&Path), what: &str| {
        make(&fixture.path("out/payload"));
        for more in [&[][..], &["--overwrite"]] {
            // Nobody is there to have anything of: it must not be waited for.
            let ran = fixture.run(&[&["get", "payload.torrent", "-o", "out"][..], more].concat());
            ran.assert_complains(1, what);
        }
        fs::remove_dir_all(fixture.path("out")).unwrap();
    };
    in_the_way(
        &|dir| fs::create_dir_all(dir.join("z")).unwrap(),
        "z is in the way: it is not a file",
    );
    in_the_way(
        &|dir| {
            fs::create_dir_all(dir).unwrap();
            fs::write(dir.join("ünï"), "").unwrap();
        },
        "ünï is in the way: it is not a folder",
    );
    in_the_way(
        &|dir| {
            fs::create_dir_all(dir).unwrap();
            std::os::unix::fs::symlink("/tmp", dir.join("ünï")).unwrap();
        },
        "ünï is a symbolic link",
    );
}

#[test]
fn a_check_can_be_held_back() {
    let fixture = Fixture::new();
    fs::write(fixture.path("payload/big"), vec![7; 24 << 20]).unwrap();
    let held_back = |arguments: &[&str]| {
        let began = Instant::now();
        fixture.run(arguments).assert_status(0);
        // Three seconds, but two threads read 8 MiB at a time, and the last of them is not waited for.
        assert!(began.elapsed() > Duration::from_millis(800), "{arguments:?}");
    };
    held_back(&["create", "payload", "--threads", "2", "--rate", "8M", "--low-priority"]);
    held_back(&["verify", "payload.torrent", "--threads", "2", "--rate", "8M", "--low-priority"]);
    let get = ["get", "payload.torrent", "--port", "0", "--check", "--check-rate", "8M"];
    held_back(&[&get[..], &["--low-priority"]].concat());
}

#[test]
fn what_another_program_changed_while_we_seeded_is_found() {
    let fixture = Fixture::with_torrent();
    let arguments =
        ["seed", "payload", "-t", "payload.torrent", "--port", "0", "--bind", "127.0.0.1"];
    let mut seeder = fixture.start(&arguments);
    seeder.wait_until(|value| value["event"] == "state" && value["state"] == "seeding");
    let mut bytes = made_up(300_000);
    bytes[7] ^= 1;
    fs::write(fixture.path("payload/a.bin"), &bytes).unwrap();
    seeder.signal("-INT");
    assert_eq!(seeder.end(), Some(0));
    fixture.run(&arguments).assert_complains(1, "payload");
}

#[test]
fn an_interrupted_check_forgets_nothing() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&[]);
    fixture.run(&get(&peer, &[])).assert_status(0);
    // Interrupted as soon as it has begun to hash; it may be over by then, which is as well.
    let mut again =
        fixture.start(&["get", "payload.torrent", "-o", "out", "--port", "0", "--check", "--seed"]);
    again.wait_until(|value| value["state"] == "checking" && value["to_check"].as_u64() > Some(0));
    again.signal("-INT");
    again.end();
    // No peer is there: all of it must be found on disk.
    fixture.run(&["get", "payload.torrent", "-o", "out", "--port", "0"]).assert_status(0);
}

#[test]
fn a_seeder_ends_in_order_when_interrupted() {
    let fixture = Fixture::with_torrent();
    let (mut seeder, _) = fixture.seed(&[]);
    seeder.signal("-INT");
    assert_eq!(seeder.end(), Some(0));
}

#[test]
fn a_reader_that_goes_away_ends_it_without_a_panic() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&["--limit-up", "100K", "--limit-local"]);
    let mut command = fixture.command(&get(&peer, &["--json"]));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = child.wait_with_output().unwrap();
    assert_eq!(ran.status.code(), Some(130));
    assert!(!String::from_utf8_lossy(&ran.stderr).contains("panicked"));
}

#[test]
fn one_torrent_that_cannot_be_had_does_not_keep_the_others() {
    let fixture = Fixture::with_torrent();
    fs::write(fixture.path("bad.torrent"), b"nonsense").unwrap();
    let (_seeder, peer) = fixture.seed(&[]);
    let ran = fixture.run(&get(&peer, &["bad.torrent"]));
    ran.assert_complains(1, "bad.torrent");
    fixture.assert_has_payload("out");
}

#[test]
fn peers_find_each_other_through_our_tracker() {
    let fixture = Fixture::new();
    let mut tracker =
        fixture.command(&["tracker", "--http", "127.0.0.1:0", "--udp", "127.0.0.1:0"]);
    let mut tracker = tracker.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(tracker.stdout.take().unwrap()));
    for kind in ["http", "udp"] {
        let url = lines.next().unwrap().unwrap();
        assert!(url.starts_with(kind), "{url}");
        fixture
            .run(&["create", "payload", "-f", "-t", &url, "--comment", kind, "--source", kind])
            .assert_status(0);
        let (mut seeder, _) = fixture.seed(&[]);
        seeder.wait_for("tracker_answered");
        let counted = fixture.run(&["show", "payload.torrent", "--scrape"]).out();
        assert!(counted.contains("(1 seed, 0 leechers)"), "{counted}");
        let out = format!("out-{kind}");
        let bind = ["--port", "0", "--bind", "127.0.0.1"];
        fixture
            .run(&[&["get", "payload.torrent", "-o", &out][..], &bind].concat())
            .assert_status(0);
        fixture.assert_has_payload(&out);
    }
    tracker.kill().unwrap();
    tracker.wait().unwrap();
}

#[test]
fn the_demo_ends_well() {
    let fixture = Fixture::new();
    let ran = fixture.run(&["demo", "--size", "4MiB"]);
    ran.assert_status(0);
    assert!(ran.out().contains("every file has arrived as it was sent"), "{}", ran.out());
}

#[test]
fn what_is_wrong_with_a_proxy_is_told_and_its_password_is_not() {
    let fixture = Fixture::with_torrent();
    for (proxy, what) in [
        ("socks5://me:hidden@", "it names no host"),
        ("ftp://me:hidden@127.0.0.1", "socks5://"),
        ("socks5://me:hidden@127.0.0.1:http", "port"),
    ] {
        let ran = fixture.run(&["get", "payload.torrent", "-o", "out", "--proxy", proxy]);
        assert!(ran.err().contains(what), "{what:?} is not in {}", ran.err());
        assert!(!ran.err().contains("hidden"), "{}", ran.err());
    }
    let proxied = ["get", "payload.torrent", "--proxy", "socks5://127.0.0.1:9", "--peer"];
    fixture.run(&[&proxied[..], &["nas:6881"]].concat()).assert_complains(2, "beside the proxy");
    let missing = ["get", "payload.torrent", "-o", "out", "--interface", "nonsense0"];
    fixture.run(&missing).assert_complains(1, "no network interface nonsense0");
}
