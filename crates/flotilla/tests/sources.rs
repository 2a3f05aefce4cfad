//! What torrents are named by, and settings that hold for all who ask the network for them.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common::Fixture;
use serde_json::Value;

const ALONE: [&str; 5] = ["--port", "0", "--bind", "127.0.0.1", "--no-state"];

/// Runs it to its end, with this on standard input.
fn run_with(fixture: &Fixture, arguments: &[&str], stdin: &[u8]) -> Output {
    let mut command = fixture.command(arguments);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap()
}

fn shown(fixture: &Fixture, key: &str) -> String {
    let shown = fixture.run(&["show", "payload.torrent", "--json"]).out();
    serde_json::from_str::<Value>(&shown).unwrap()[key].as_str().unwrap().to_owned()
}

#[test]
fn standard_input_is_a_torrent_file_or_a_list() {
    let fixture = Fixture::with_torrent();
    let torrent = fs::read(fixture.path("payload.torrent")).unwrap();
    let (_seeder, peer) = fixture.seed(&[]);
    let link = shown(&fixture, "magnet");
    let list = format!("# all that is wanted\n\n  {link}\r\npayload.torrent\nnot-there.torrent\n");
    for (dir, stdin, status) in [("a", torrent.as_slice(), 0), ("b", list.as_bytes(), 1)] {
        let arguments = [&["get", "-", "-o", dir, "--peer", &peer][..], &ALONE].concat();
        let ran = run_with(&fixture, &arguments, stdin);
        let err = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(status), "{err}");
        assert_eq!(status == 1, err.contains("not-there.torrent: "), "{err}");
        fixture.assert_has_payload(dir);
    }
    let ran = run_with(&fixture, &["get", "-"], b"");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("standard input: empty"));
    let ran = run_with(&fixture, &["get", "-"], b"d4:infoi1ee");
    assert!(String::from_utf8_lossy(&ran.stderr).contains("standard input: "));
    assert_eq!(run_with(&fixture, &["verify", "-", "a"], &torrent).status.code(), Some(0));
    let ran = run_with(&fixture, &["show", "-"], &torrent);
    assert!(String::from_utf8_lossy(&ran.stdout).contains(&link));
    let piped = fixture.command(&["create", "payload", "--piece-size", "64K", "-o", "-"]).output();
    assert!(piped.unwrap().stdout == torrent, "the same bytes, and nothing else");
}

#[test]
fn a_list_is_no_torrent_file_whatever_it_begins_with_and_its_bad_lines_do_not_keep_the_others() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&[]);
    fs::rename(fixture.path("payload.torrent"), fixture.path("data.torrent")).unwrap();
    let list = b"data.torrent\nmagnet:?xt=urn:btih:aa\nftp://a/x.torrent\n-\nnot-there\n";
    let arguments = [&["get", "-", "-o", "out", "--peer", &peer][..], &ALONE].concat();
    let ran = run_with(&fixture, &arguments, list);
    let err = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{err}");
    for word in ["`xt` of the magnet link", "ftp", "only once", "not-there: "] {
        assert!(err.contains(word), "{word}: {err}");
    }
    fixture.assert_has_payload("out");
    let ran = run_with(&fixture, &["get", "-"], b"# nothing\n\n");
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(err.contains("standard input: it names no torrent"), "{err}");
}

#[test]
fn what_standard_input_names_is_read_once_and_shown_if_it_is_one() {
    let fixture = Fixture::with_torrent();
    let torrent = fs::read(fixture.path("payload.torrent")).unwrap();
    for twice in [&["get", "-", "-"][..], &["seed", "payload", "-t", "-", "-t", "-"]] {
        let ran = run_with(&fixture, twice, &torrent);
        let err = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.code() == Some(2) && err.contains("only once"), "{err}");
    }
    let hash = shown(&fixture, "info_hash");
    let ran = run_with(&fixture, &["show", "-"], hash.as_bytes());
    assert!(String::from_utf8_lossy(&ran.stdout).contains(&hash));
    let ran = run_with(&fixture, &["show", "-"], format!("{hash}\n{hash}\n").as_bytes());
    assert_eq!(ran.status.code(), Some(2), "{}", String::from_utf8_lossy(&ran.stderr));
    let save = ["show", &hash, "--fetch", "--save", "-"];
    fixture.run(&save).assert_complains(2, "./-");
}

#[test]
fn a_file_may_be_called_as_standard_input_is() {
    let fixture = Fixture::with_torrent();
    fs::rename(fixture.path("payload.torrent"), fixture.path("-")).unwrap();
    fixture.run(&["verify", "./-", "payload"]).assert_status(0);
    fixture.run(&["show", "./-"]).assert_status(0);
    fs::create_dir(fixture.path("in")).unwrap();
    for name in ["-", "z"] {
        fs::write(fixture.path("in").join(name), "shared").unwrap();
    }
    let mut create = fixture.command(&["create", ".", "-o", "-"]);
    let torrent = create.current_dir(fixture.path("in")).output().unwrap().stdout;
    let ran = run_with(&fixture, &["show", "-"], &torrent);
    assert!(String::from_utf8_lossy(&ran.stdout).contains("2 files"), "`-` is one of them");
}

#[test]
fn a_server_that_does_not_answer_can_be_left_at_once() {
    let fixture = Fixture::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.torrent", server.local_addr().unwrap());
    for command in ["get", "show"] {
        let mut waits = fixture.start(&[command, &url]);
        let _asked = server.accept().unwrap();
        waits.signal("-INT");
        assert_eq!(waits.end(), Some(130), "{command}");
    }
}

#[test]
fn a_tracker_may_be_named_beside_those_of_the_torrent() {
    let fixture = Fixture::with_torrent();
    let server = || {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/announce", server.local_addr().unwrap());
        (server, url)
    };
    let get = |source: &str, tracker: &str| {
        let arguments = ["get", source, "-o", "out", "--tracker", tracker];
        fixture.start(&[&arguments[..], &ALONE].concat())
    };
    for source in [shown(&fixture, "info_hash").as_str(), "payload.torrent"] {
        let (server, url) = server();
        let mut getter = get(source, &url);
        let mut asked = String::new();
        BufReader::new(server.accept().unwrap().0).read_line(&mut asked).unwrap();
        assert!(asked.starts_with("GET /announce?info_hash="), "{asked}");
        getter.signal("-INT");
        assert_eq!(getter.end(), Some(130));
    }
    let create = ["create", "payload", "--private", "-f", "-t", "http://127.0.0.1:1/own"];
    fixture.run(&create).assert_status(0);
    let (server, url) = server();
    let mut getter = get("payload.torrent", &url);
    getter.wait_for("tracker_failed");
    getter.signal("-INT");
    getter.end();
    server.set_nonblocking(true).unwrap();
    assert!(server.accept().is_err(), "a private torrent has its own trackers only");
    let wrong = ["get", "payload.torrent", "--tracker", "wss://t/"];
    fixture.run(&wrong).assert_complains(2, "--tracker");
}

#[test]
fn a_tracker_named_beside_a_link_hears_no_more_when_that_turns_out_to_be_private() {
    let fixture = Fixture::new();
    let create = ["create", "payload", "--private", "-t", "http://127.0.0.1:1/own"];
    fixture.run(&create).assert_status(0);
    let (_seeder, peer) = fixture.seed(&[]);
    let link = shown(&fixture, "magnet");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", server.local_addr().unwrap());
    let port = peer.parse::<SocketAddr>().unwrap().port().to_be_bytes();
    let peer = [&[127, 0, 0, 1][..], &port].concat();
    let (tells, told) = mpsc::channel();
    // The metadata can come only from the peer that it names. It ends with this program.
    std::thread::spawn(move || {
        for asks in server.incoming() {
            let mut asks = asks.unwrap();
            let mut lines = BufReader::new(asks.try_clone().unwrap()).lines().map(Result::unwrap);
            let asked = lines.next().unwrap();
            lines.find(String::is_empty);
            asks.write_all(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
            asks.write_all(b"d8:completei1e8:intervali1800e5:peers6:").unwrap();
            asks.write_all(&[&peer[..], b"e"].concat()).unwrap();
            tells.send(asked).ok();
        }
    });
    let get = ["get", &link, "-o", "out", "--seed", "--tracker", &url];
    let mut getter = fixture.start(&[&get[..], &ALONE].concat());
    for event in ["event=started", "event=stopped"] {
        let asked = told.recv_timeout(Duration::from_secs(120)).unwrap();
        assert!(asked.contains(event), "{asked}");
    }
    getter.wait_for("completed");
    getter.signal("-INT");
    assert_eq!(getter.end(), Some(0));
    assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
    fixture.assert_has_payload("out");
}

#[test]
fn settings_for_peers_hold_for_all_commands_that_ask_some() {
    let fixture = Fixture::with_torrent();
    let (mut seeder, peer) = fixture.seed(&[]);
    let link = format!("{}&x.pe={peer}", shown(&fixture, "magnet"));
    let path = fixture.path("config/flotilla/config.toml");
    let mut config = fs::OpenOptions::new().append(true).open(&path).unwrap();
    config.write_all(b"encryption = 'required'\ntransport = 'tcp'\n").unwrap();
    fixture.run(&["show", &link, "--fetch", "--bind", "127.0.0.1"]).assert_status(0);
    assert_eq!(seeder.wait_for("peer_connected")["encrypted"], true);
    // Each that asks somebody reads the list, for none may talk to whom it bans.
    let hash = "0123456789abcdef0123456789abcdef01234567";
    for arguments in [
        &["get", "payload.torrent", "-o", "out"][..],
        &["seed", "payload", "-t", "payload.torrent"],
        &["show", &link, "--fetch"],
        &["show", "payload.torrent", "--scrape"],
        &["dht", "peers", hash],
    ] {
        let filtered = [arguments, &["--ip-filter", "no-such-list"]].concat();
        fixture.run(&filtered).assert_complains(1, "no-such-list");
    }
    fixture.run(&["show", "payload.torrent", "--ip-filter", "no-such-list"]).assert_status(0);
}

#[test]
fn what_may_go_beside_a_proxy_needs_one_wherever_it_is_named() {
    let fixture = Fixture::with_torrent();
    let loose = ["get", "payload.torrent", "-o", "out", "--proxy-loose"];
    fixture.run(&loose).assert_complains(2, "--proxy names one");
    let path = fixture.path("config/flotilla/config.toml");
    let mut config = fs::OpenOptions::new().append(true).open(&path).unwrap();
    config.write_all(b"proxy = 'socks5://127.0.0.1:1'\n").unwrap();
    fixture.start(&[&loose[..], &ALONE].concat()).wait_for("listening");
    let hash = "0123456789abcdef0123456789abcdef01234567";
    // What is wrong is that the list is not there.
    let dht = ["dht", "--proxy", "socks5://127.0.0.1:1", "peers", hash, "--proxy-loose"];
    let dht = [&dht[..], &["--ip-filter", "no-such-list"]].concat();
    fixture.run(&dht).assert_complains(1, "no-such-list");
}

#[test]
fn padding_between_files_is_not_counted() {
    let fixture = Fixture::new();
    let ran = fixture.run(&["create", "payload", "--format", "hybrid"]);
    ran.assert_status(0);
    assert!(ran.out().contains("payload.torrent: 5 files"), "{}", ran.out());
}

#[test]
fn addresses_that_nobody_can_ask_are_refused() {
    let fixture = Fixture::new();
    for option in ["--web-seed", "--update-url"] {
        fixture.run(&["create", "payload", option, "files/"]).assert_complains(2, option);
    }
    let ran = fixture.run(&["get", "payload.torrent", "--web-seed", "ftp://a/"]);
    ran.assert_complains(2, "--web-seed");
}
