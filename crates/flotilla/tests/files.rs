//! `create`, `show`, `verify`, and torrent files that mean no good.

#[expect(dead_code, reason = "shared by the test programs; this one does not use all of it")]
mod common;

use std::fs;

use common::{Fixture, made_up};
use serde_json::Value;

#[test]
fn the_same_files_make_the_same_torrent_with_any_number_of_threads() {
    let fixture = Fixture::new();
    for (threads, output) in [("1", "one.torrent"), ("7", "seven.torrent")] {
        fixture
            .run(&[
                "create",
                "payload",
                "-o",
                output,
                "--threads",
                threads,
                "-t",
                "http://a/announce,udp://b:1",
                "-t",
                "http://c/",
            ])
            .assert_status(0);
    }
    assert_eq!(
        fs::read(fixture.path("one.torrent")).unwrap(),
        fs::read(fixture.path("seven.torrent")).unwrap()
    );
}

#[test]
fn a_torrent_holds_what_was_asked_for() {
    let fixture = Fixture::new();
    let arguments = [
        "create",
        "payload",
        "-o",
        "x.torrent",
        "--piece-size",
        "32KiB",
        "--private",
        "--comment",
        "a comment",
        "--source",
        "S",
        "--name",
        "another",
        "-t",
        "http://a/announce,http://b/announce",
        "-t",
        "udp://c:1",
        "--web-seed",
        "http://w/",
        "--exclude",
        "another/tiny",
    ];
    fixture.run(&arguments).assert_status(0);
    let shown: Value =
        serde_json::from_str(&fixture.run(&["show", "x.torrent", "--json"]).out()).unwrap();
    assert_eq!(shown["name"], "another");
    assert_eq!(shown["piece_length"], 32768);
    assert_eq!(shown["private"], true);
    assert_eq!(shown["comment"], "a comment");
    assert_eq!(shown["source"], "S");
    assert_eq!(
        shown["trackers"],
        serde_json::json!([["http://a/announce", "http://b/announce"], ["udp://c:1"]])
    );
    assert_eq!(shown["web_seeds"], serde_json::json!(["http://w/"]));
    let paths: Vec<&str> = shown["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["another/a.bin", "another/empty", "another/z", "another/ünï/cödé 漢字.dat"]);
    let people = fixture.run(&["show", "x.torrent"]).out();
    assert!(people.contains("Private") && people.contains("another/ünï/cödé 漢字.dat"), "{people}");
}

#[test]
fn a_torrent_is_not_overwritten_unless_told_so() {
    let fixture = Fixture::with_torrent();
    let before = fs::read(fixture.path("payload.torrent")).unwrap();
    fixture.run(&["create", "payload"]).assert_complains(1, "payload.torrent");
    assert_eq!(fs::read(fixture.path("payload.torrent")).unwrap(), before);
    fixture.run(&["create", "payload", "--force"]).assert_status(0);
}

#[test]
fn a_single_file_makes_a_torrent_of_one_file() {
    let fixture = Fixture::new();
    fixture.run(&["create", "payload/a.bin"]).assert_status(0);
    fixture.run(&["verify", "a.bin.torrent", "payload"]).assert_status(0);
    fs::create_dir(fixture.path("nothing")).unwrap();
    fixture.run(&["create", "nothing"]).assert_complains(1, "nothing");
    fixture.run(&["create", "not-there"]).assert_complains(1, "not-there");
}

#[test]
fn verify_tells_each_file_that_is_not_right() {
    let fixture = Fixture::with_torrent();
    fixture.run(&["verify", "payload.torrent"]).assert_status(0);
    let mut bytes = made_up(1_200_001);
    bytes[600_000] ^= 1;
    fs::write(fixture.path("payload/ünï/cödé 漢字.dat"), &bytes).unwrap();
    fs::write(fixture.path("payload/z"), made_up(99)).unwrap();
    fs::remove_file(fixture.path("payload/empty")).unwrap();
    let ran = fixture.run(&["verify", "payload.torrent"]);
    ran.assert_status(1);
    for line in [
        "payload/ünï/cödé 漢字.dat: damaged in ",
        "payload/z: too short by 1 B",
        "payload/empty: missing",
        "payload/a.bin: perhaps good: 1 of 5 pieces shared with a file that is not right",
        "3 of 5 files not right, 2 unclear; 21 of 23 pieces good",
    ] {
        assert!(ran.out().contains(line), "{line:?} is not in {}", ran.out());
    }
    bytes.push(0);
    fs::write(fixture.path("payload/ünï/cödé 漢字.dat"), bytes).unwrap();
    let ran = fixture.run(&["verify", "payload.torrent"]);
    let line = "payload/ünï/cödé 漢字.dat: too long by 1 B, damaged in ";
    assert!(ran.out().contains(line), "{line:?} is not in {}", ran.out());
    fixture
        .run(&["verify", "payload.torrent", "no-such-folder"])
        .assert_complains(1, "no-such-folder");
}

#[test]
fn verify_tells_what_cannot_be_read_and_checks_the_rest() {
    let fixture = Fixture::with_torrent();
    fs::remove_file(fixture.path("payload/z")).unwrap();
    fs::create_dir(fixture.path("payload/z")).unwrap();
    let ran = fixture.run(&["verify", "payload.torrent", "--rate", "1G", "--low-priority"]);
    ran.assert_status(1);
    for line in ["payload/z: ", "is in the way: it is not a file", "1 of 5 files not right"] {
        assert!(ran.out().contains(line), "{line:?} is not in {}", ran.out());
    }
}

/// A torrent file with this info dictionary.
fn torrent(info: &str) -> Vec<u8> {
    format!("d4:info{info}e").into_bytes()
}

#[test]
fn torrent_files_that_mean_no_good_are_refused_in_clear_words() {
    let fixture = Fixture::with_torrent();
    let good = fs::read(fixture.path("payload.torrent")).unwrap();
    let pieces = "6:pieces20:aaaaaaaaaaaaaaaaaaaa";
    let path = |path: &str| {
        torrent(&format!(
            "d5:filesld6:lengthi5e4:pathl{path}eee4:name1:t12:piece lengthi16384e{pieces}e"
        ))
    };
    let single = |length: &str, piece_length: &str, pieces: &str| {
        torrent(&format!("d6:length{length}4:name1:t12:piece length{piece_length}{pieces}e"))
    };
    let twice = "d6:lengthi5e4:pathl1:aeed6:lengthi5e4:pathl1:aee";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", Vec::new(), "not a torrent file"),
        ("truncated", good[..good.len() / 2].to_vec(), "not a torrent file"),
        ("not bencode", b"<html>404</html>".to_vec(), "not a torrent file"),
        ("deep nesting", b"l".repeat(1_000_000), "not a torrent file"),
        (
            "a huge integer",
            single("i99999999999999999999999999e", "i16384e", pieces),
            "not a torrent file",
        ),
        ("a negative length", single("i-5e", "i16384e", pieces), "-5"),
        (
            "hashes not of 20 bytes",
            single("i5e", "i16384e", "6:pieces19:aaaaaaaaaaaaaaaaaaa"),
            "pieces",
        ),
        ("fewer hashes than pieces", single("i500000e", "i16384e", pieces), "hashes"),
        ("no piece length", single("i5e", "i0e", pieces), "piece length"),
        ("more than any disk", single("i9223372036854775807e", "i16384e", pieces), "petabyte"),
        ("a way out", path("2:..1:x"), "unsafe file name"),
        ("an absolute path", path("4:/etc1:x"), "unsafe file name"),
        ("a drive", path("2:C:1:x"), "unsafe file name"),
        ("a zero byte", path("3:a\0b"), "unsafe file name"),
        ("an empty name", path("0:"), "unsafe file name"),
        (
            "one path twice",
            torrent(&format!("d5:filesl{twice}e4:name1:t12:piece lengthi16384e{pieces}e")),
            "same path",
        ),
    ];
    for (what, bytes, word) in cases {
        fs::write(fixture.path("bad.torrent"), bytes).unwrap();
        for command in
            [&["show", "bad.torrent"][..], &["get", "bad.torrent", "--no-state", "-o", "out"]]
        {
            let ran = fixture.run(command);
            assert!(
                ran.err().contains("bad.torrent") && ran.err().contains(word),
                "{what}: {}",
                ran.err()
            );
            ran.assert_complains(1, word);
        }
        assert!(!fixture.path("out").exists(), "{what}: something was made");
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused_in_clear_words() {
    let fixture = Fixture::with_torrent();
    for (arguments, status, word) in [
        (&["get"][..], 2, "SOURCE"),
        (&["get", "not-there.torrent"], 1, "not-there.torrent"),
        (&["get", "payload"], 1, "a folder"),
        (&["get", "payload.torrent", "--port", "99999"], 2, "--port"),
        (&["get", "payload.torrent", "--limit-down", "fast"], 2, "--limit-down"),
        (&["get", "payload.torrent", "--only", "["], 2, "["),
        (&["get", "payload.torrent", "--only", "nothing-like-it"], 1, "no file matches"),
        (
            &["get", "payload.torrent", "--peer", "nonsense"],
            2,
            "'nonsense' for '--peer <HOST:PORT>'",
        ),
        (&["get", "payload.torrent", "-o", "payload.torrent/x"], 1, "payload.torrent/x"),
        (&["get", "magnet:?xt=urn:btih:aa"], 2, "`xt` of the magnet link: 40 hexadecimal"),
        (&["seed", "x", "-t", "magnet:?xt=urn:btih:aa"], 2, "the torrent file is wanted here"),
        (&["get", "ftp://a/x.torrent"], 2, "ftp"),
        (&["get", "http://127.0.0.1:1/x.torrent"], 1, "127.0.0.1:1"),
        (&["get", "payload.torrent", "--seed", "--ratio", "1"], 2, "--ratio"),
        (&["seed", "nowhere", "-t", "payload.torrent"], 1, "nowhere"),
        (&["create", "payload", "-t", "wss://tracker/"], 2, "wss"),
        (&["create", "payload", "--piece-size", "100000"], 2, "power of two"),
        (&["create", "payload", "-f", "-o", "no/such/folder/x.torrent"], 1, "no/such/folder"),
        (&["tracker", "--http", "nonsense"], 2, "nonsense"),
        (&["nonsense"], 2, "nonsense"),
    ] {
        fixture.run(arguments).assert_complains(status, word);
    }
}

#[test]
fn a_port_in_use_is_named_and_the_next_of_a_range_is_taken() {
    let fixture = Fixture::with_torrent();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let arguments =
        ["seed", "payload", "-t", "payload.torrent", "--no-state", "--bind", "127.0.0.1", "--port"];
    let one = port.to_string();
    fixture.run(&[&arguments[..], &[&one]].concat()).assert_complains(1, &one);
    // One of them is free, whatever runs beside this.
    let range = format!("{port}-{}", port.saturating_add(100));
    let mut seeder = fixture.start(&[&arguments[..], &[&range]].concat());
    let addr = seeder.wait_for("listening")["addrs"][0].as_str().unwrap().to_owned();
    assert_ne!(addr, taken.local_addr().unwrap().to_string());
}

#[test]
fn a_list_of_addresses_is_used_as_far_as_it_makes_sense_and_named_where_it_does_not() {
    let fixture = Fixture::with_torrent();
    let arguments = |list| {
        let seed = ["seed", "payload", "-t", "payload.torrent", "--no-state"];
        [&seed[..], &["--bind", "127.0.0.1", "--port", "0", "--ip-filter", list]].concat()
    };
    fixture.run(&arguments("no.dat")).assert_complains(1, "no.dat");
    fs::write(fixture.path("bad.dat"), "nonsense\n").unwrap();
    fixture.run(&arguments("bad.dat")).assert_complains(1, "bad.dat: line 1: ");
    fs::write(fixture.path("good.dat"), "nonsense\n10.0.0.0/8\n").unwrap();
    fixture.start(&arguments("good.dat")).wait_for("listening");
}

#[test]
fn completions_and_man_pages_cover_every_command() {
    let fixture = Fixture::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(fixture.run(&["completions", shell]).assert_status(0).out().contains("limit-down"));
    }
    assert!(fixture.run(&["man"]).assert_status(0).out().contains(".TH"));
    fixture.run(&["man", "pages"]).assert_status(0);
    for command in ["get", "seed", "create", "show", "verify", "tracker", "demo"] {
        assert!(fixture.path(&format!("pages/flotilla-{command}.1")).exists());
        assert!(fixture.run(&[command, "--help"]).assert_status(0).out().contains("Usage:"));
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let fixture = Fixture::with_torrent();
    for arguments in [&["show", "payload.torrent"][..], &["verify", "payload.torrent"], &["man"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ran = fixture.command(arguments).stdout(full).output().unwrap();
        assert_eq!(ran.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8_lossy(&ran.stderr).contains("cannot write the output"));
    }
}

#[test]
fn what_is_no_file_is_not_read_without_end_nor_overwritten() {
    let fixture = Fixture::new();
    fixture.run(&["show", "/dev/zero"]).assert_complains(1, "/dev/zero: longer than 64 MiB");
    fixture.run(&["create", "/dev/null", "-o", "x.torrent"]).assert_complains(1, "/dev/null");
    fixture.run(&["create", "payload", "-f", "-o", "/dev/full"]).assert_complains(1, "/dev/full");
    std::os::unix::fs::symlink("real.torrent", fixture.path("link.torrent")).unwrap();
    fs::write(fixture.path("real.torrent"), b"old").unwrap();
    fixture.run(&["create", "payload", "-f", "-o", "link.torrent"]).assert_status(0);
    assert!(fixture.path("link.torrent").is_symlink());
    fixture.run(&["show", "real.torrent"]).assert_status(0);
}

#[test]
fn the_file_in_its_usual_place_is_read_and_may_be_missing() {
    let fixture = Fixture::new();
    fixture.run(&["create", "payload"]).assert_status(0);
    let dir = fixture.path("config/flotilla");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("config.toml"), "[create]\noutput = 'configured.torrent'\n").unwrap();
    fixture.run(&["create", "payload"]).assert_status(0);
    assert!(fixture.path("configured.torrent").exists());
    fixture.run(&["create", "payload", "-o", "given.torrent"]).assert_status(0);
    assert!(fixture.path("given.torrent").exists());
    fixture.run(&["create", "payload", "--config", "/dev/null", "-f"]).assert_status(0);
}

#[test]
fn what_is_wrong_with_it_is_told_with_its_name() {
    let fixture = Fixture::new();
    fs::write(fixture.path("c.toml"), "piece-sise = '1M'\n").unwrap();
    fixture.run(&["create", "payload", "--config", "c.toml"]).assert_complains(2, "c.toml");
    fixture.run(&["create", "payload", "--config", "none.toml"]).assert_complains(1, "none.toml");
    fixture.run(&["create", "payload", "--config", "/dev/zero"]).assert_complains(1, "/dev/zero");
}
