//! Magnet links: shown, fetched, saved, downloaded.

mod common;

use std::fs;

use common::Fixture;
use serde_json::Value;

const BIND: [&str; 2] = ["--bind", "127.0.0.1"];
const QUIET: [&str; 3] = ["--port", "0", "--no-state"];

/// The link that `show` gives of the fixture's torrent.
fn link(fixture: &Fixture) -> String {
    let shown: Value =
        serde_json::from_str(&fixture.run(&["show", "payload.torrent", "--json"]).out()).unwrap();
    shown["magnet"].as_str().unwrap().to_owned()
}

fn get<'a>(source: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["get", source, "-o", "out"], &BIND[..], &QUIET, more].concat()
}

#[test]
fn a_link_is_downloaded_and_its_torrent_file_saved() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&[]);
    let link = format!("{}&x.pe={peer}", link(&fixture));
    let ran = fixture.run(&get(&link, &["--save-torrent", "saved"]));
    ran.assert_status(0);
    assert!(ran.out().contains("metadata: payload, 1.4 MiB in 5 files"), "{}", ran.out());
    assert!(ran.out().contains("complete: payload, 1.4 MiB; 1.4 MiB in "), "{}", ran.out());
    fixture.assert_has_payload("out");
    let saved = fixture.run(&["show", "saved/payload.torrent", "--json"]).out();
    let original = fixture.run(&["show", "payload.torrent", "--json"]).out();
    let hash = |shown: &str| serde_json::from_str::<Value>(shown).unwrap()["info_hash"].clone();
    assert_eq!(hash(&saved), hash(&original));
}

#[test]
fn a_bare_info_hash_and_a_file_may_be_mixed_and_only_what_is_wanted_comes() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&[]);
    let link = link(&fixture);
    let hash = link.split(['&', ':']).find(|part| part.len() == 40).unwrap().to_owned();
    let ran = fixture.run(&get(&hash, &["--peer", &peer, "--only", "*.dat"]));
    ran.assert_status(0);
    assert!(fixture.path("out/payload/ünï/cödé 漢字.dat").exists());
    assert!(!fixture.path("out/payload/a.bin").exists());
    let twice = get(&hash, &["payload.torrent", "--peer", &peer]);
    fixture.run(&twice).assert_complains(0, "named twice");
    fixture.assert_has_payload("out");
    let nothing = get(&hash, &["--peer", &peer, "--only", "nothing-like-it"]);
    fixture.run(&nothing).assert_complains(1, "no file matches");
}

#[test]
fn links_of_version_2_and_of_both_versions_are_downloaded_too() {
    for format in ["v2", "hybrid"] {
        let fixture = Fixture::with_torrent();
        let create = ["create", "payload", "--format", format, "-f", "-o", "payload.torrent"];
        fixture.run(&create).assert_status(0);
        let (_seeder, peer) = fixture.seed(&[]);
        let link = format!("{}&x.pe={peer}", link(&fixture));
        assert!(link.contains("xt=urn:btmh:1220"), "{link}");
        fixture.run(&get(&link, &["--save-torrent", "saved"])).assert_status(0);
        fixture.assert_has_payload("out");
        let fetch = ["show", &link, "--fetch", "--save", "fetched.torrent"];
        fixture.run(&[&fetch[..], &BIND].concat()).assert_status(0);
        for saved in ["saved/payload.torrent", "fetched.torrent"] {
            let shown = fixture.run(&["show", saved]).out();
            assert!(!shown.contains("Piece hashes"), "they belong into {saved}: {shown}");
        }
    }
}

#[test]
fn the_torrent_file_of_a_link_is_whole_as_soon_as_all_is_here_and_no_other_is_touched() {
    let fixture = Fixture::with_torrent();
    let create = ["create", "payload", "--format", "v2", "-f", "-o", "payload.torrent"];
    fixture.run(&create).assert_status(0);
    let (_seeder, peer) = fixture.seed(&[]);
    let link = format!("{}&x.pe={peer}", link(&fixture));
    let mut getter = fixture.start(&get(&link, &["--save-torrent", "saved", "--seed"]));
    getter.wait_for("completed");
    getter.wait_until(|value| value["state"] == "seeding");
    let shown = fixture.run(&["show", "saved/payload.torrent"]);
    assert!(!shown.assert_status(0).out().contains("Piece hashes"), "{}", shown.out());
    getter.signal("-INT");
    assert_eq!(getter.end(), Some(0));
    fs::write(fixture.path("saved/payload.torrent"), "mine").unwrap();
    fixture.run(&get("payload.torrent", &["--save-torrent", "saved"])).assert_status(0);
    assert_eq!(fs::read(fixture.path("saved/payload.torrent")).unwrap(), b"mine");
}

#[test]
fn files_that_are_something_else_are_not_overwritten() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&[]);
    let link = format!("{}&x.pe={peer}", link(&fixture));
    fs::create_dir_all(fixture.path("out/payload")).unwrap();
    fs::write(fixture.path("out/payload/a.bin"), "mine").unwrap();
    fixture.run(&get(&link, &[])).assert_complains(1, "--overwrite");
    assert_eq!(fs::read(fixture.path("out/payload/a.bin")).unwrap(), b"mine");
    fixture.run(&get(&link, &["--overwrite"])).assert_status(0);
    fixture.assert_has_payload("out");
}

#[test]
fn show_tells_what_a_link_says_and_fetches_what_it_names() {
    let fixture = Fixture::with_torrent();
    let (_seeder, peer) = fixture.seed(&[]);
    let link = link(&fixture);
    let link = format!("{link}&tr=http%3A%2F%2Ft%2F&x.pe={peer}&so=0,2-4");
    let shown = fixture.run(&["show", &link]);
    shown.assert_status(0);
    for line in ["Name         payload", "Tracker 1    http://t/", "Files        0, 2 to 4"] {
        assert!(shown.out().contains(line), "{line}: {}", shown.out());
    }
    assert!(shown.out().contains(&format!("Peer         {peer}")), "{}", shown.out());
    let json: Value = serde_json::from_str(&fixture.run(&["show", &link, "--json"]).out()).unwrap();
    assert_eq!((&json["magnet"], &json["select"][1]), (&link.into(), &"2 to 4".into()));
    let link = json["magnet"].as_str().unwrap();
    let fetch = ["show", link, "--fetch", "--save", "got.torrent", "--json"];
    let fetched = fixture.run(&[&fetch[..], &BIND].concat());
    fetched.assert_status(0);
    let fetched: Value = serde_json::from_str(&fetched.out()).unwrap();
    assert_eq!(fetched["files"].as_array().map(Vec::len), Some(5));
    fixture.run(&["show", "got.torrent"]).assert_status(0);
    fixture.run(&["show", link, "--scrape"]).assert_complains(2, "--fetch");
    fixture.run(&["show", link, "--save", "x"]).assert_complains(2, "--fetch");
}

#[test]
fn a_link_whose_peers_are_not_there_waits_and_can_be_interrupted() {
    let fixture = Fixture::with_torrent();
    let link = format!("{}&x.pe=127.0.0.1:1", link(&fixture));
    let mut waits = fixture.start(&get(&link, &[]));
    let told = waits.wait_until(|value| value["event"] == "progress");
    assert_eq!(told["state"], "fetching_metadata");
    assert_eq!(told["progress"], 0.0);
    waits.signal("-INT");
    assert_eq!(waits.end(), Some(130));
}

#[test]
fn a_network_that_begins_at_a_dead_node_is_waited_for_aloud_and_not_for_ever() {
    let fixture = Fixture::with_torrent();
    // Somebody else has the port, and says nothing.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let boot = silent.local_addr().unwrap().to_string();
    let hash = "0123456789012345678901234567890123456789";
    let ran = fixture.run(&[&["dht", "get", hash, "--boot", &boot], &BIND[..], &QUIET].concat());
    ran.assert_complains(1, &format!("waiting for an answer of {boot}"));
    ran.assert_complains(1, &format!("asked were {boot}; see that"));
}
