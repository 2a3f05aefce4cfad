//! The file: what is set, shown, and refused.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::json;

use crate::home::Home;

#[test]
fn without_a_command_it_says_how_it_is_used() {
    let home = Home::new();
    let outcome = home.aemp(&[]);
    assert_eq!(outcome.status, 255);
    assert!(outcome.err.starts_with("Usage: aemp subcommand "), "{}", outcome.err);
    assert!(!home.file().exists());
}

#[test]
fn a_command_that_does_not_exist_changes_nothing() {
    let home = Home::new();
    let outcome = home.aemp(&["nodeid", "x", "frobnicate"]);
    assert_eq!(outcome.status, 255);
    assert!(outcome.err.starts_with("frobnicate: no such aemp command"), "{}", outcome.err);
    assert!(!home.file().exists());
}

#[test]
fn help_is_there_for_all_and_for_one_even_if_the_file_is_broken() {
    let home = Home::new();
    home.write("{ broken");
    for args in [&["help"][..], &["--help"], &["help", "snd"], &["help", "delsecret"]] {
        assert!(!home.out(args).is_empty());
    }
    assert!(home.out(&["help"]).contains("showconfig"));
    assert!(home.out(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
    assert!(home.out(&["help", "snd"]).starts_with("aemp snd PORT VALUE…\n"));
    assert_eq!(home.out(&["snd", "--help"]), home.out(&["help", "snd"]));
    assert_eq!(home.aemp(&["help", "nothing"]).status, 255);
}

#[test]
fn commands_are_chained_and_each_eats_its_arguments() {
    let home = Home::new();
    home.out(&[
        "gensecret",
        "profile",
        "x",
        "binds",
        "4040,4041",
        "nodeid",
        "anon/",
        "setautocork",
        "1",
    ]);
    let mut file = home.json();
    let secret = file["secret"].take();
    assert_eq!(secret.as_str().unwrap().len(), 180);
    assert!(secret.as_str().unwrap().chars().all(|c| c.is_ascii_alphanumeric()));
    let profile = json!({ "binds": ["4040", "4041"], "nodeid": "anon/", "autocork": "1" });
    assert_eq!(file["profile"]["x"], profile);
}

#[test]
fn only_its_owner_can_read_the_file() {
    let home = Home::new();
    home.out(&["secret", "geheim"]);
    let mode = |home: &Home| std::fs::metadata(home.file()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home), 0o600);
    std::fs::set_permissions(home.file(), PermissionsExt::from_mode(0o644)).unwrap();
    let outcome = home.aemp(&["showconfig"]);
    assert_eq!(outcome.status, 0);
    assert!(outcome.err.contains("others may read it"), "{}", outcome.err);
    home.out(&["nodeid", "x"]);
    assert_eq!(mode(&home), 0o600);
}

#[test]
fn arguments_may_be_json_and_one_list_may_be_all_of_them() {
    let home = Home::new();
    home.out(&["services", r#"["a::", ["b::c", 1, {"k": null}]]"#, "nodeid", "\"[x]\""]);
    assert_eq!(home.json()["services"], json!(["a::", ["b::c", 1, { "k": null }]]));
    assert_eq!(home.json()["nodeid"], "[x]");
    home.out(&[r#"["nodeid", "y", "binds", ["4040"]]"#]);
    assert_eq!((&home.json()["nodeid"], &home.json()["binds"]), (&json!("y"), &json!(["4040"])));
    let outcome = home.aemp(&["services", "[1,"]);
    assert_eq!(outcome.status, 255);
    assert!(outcome.err.contains("'[1,'"), "{}", outcome.err);
}

#[test]
fn every_key_is_set_and_deleted() {
    let home = Home::new();
    for (key, value) in [
        ("nodeid", "x"),
        ("secret", "geheim"),
        ("seeds", "127.0.0.1:4040"),
        ("binds", "*:4040"),
        ("services", "a::b"),
        ("monitor_timeout", "10"),
        ("connect_interval", "1.5"),
        ("framing_format", "json"),
        ("auth_offer", "hmac_sha3_512"),
        ("auth_accept", "hmac_sha3_512,cleartext"),
        ("autocork", "1"),
        ("nodelay", "0"),
        ("secure", "1"),
        ("eval", "version"),
    ] {
        home.out(&[&format!("set{key}"), value]);
        assert!(!home.json()[key].is_null(), "{key}");
        home.out(&[&format!("del{key}")]);
        assert!(home.json().get(key).is_none(), "{key}");
    }
    for value in ["-1", "0", "soon"] {
        assert_eq!(home.aemp(&["monitor_timeout", value]).status, 255, "{value}");
    }
}

#[test]
fn elements_are_added_and_taken_away() {
    let home = Home::new();
    home.out(&["addseed", "a:1", "addseed", "b:2", "addseed", "a:1"]);
    assert_eq!(home.json()["seeds"], json!(["b:2", "a:1"]));
    home.out(&["delseed", "b:2", "addbind", "127.0.0.1", "addbind", "*", "delbind", "*"]);
    assert_eq!(home.json()["seeds"], json!(["a:1"]));
    assert_eq!(home.json()["binds"], json!(["127.0.0.1"]));
    home.out(&["addservice", "s::", "addservice", "t::", "addservice", "s::", "delservice", "s::"]);
    assert_eq!(home.json()["services"], json!(["t::", "s::"]));
}

#[test]
fn a_secret_can_come_from_the_input_instead_of_the_command_line() {
    let home = Home::new();
    assert_eq!(home.aemp_with_input(&["setsecret", "-"], "ge heim\n").status, 0);
    assert_eq!(home.json()["secret"], "ge heim");
    assert_eq!(home.aemp_with_input(&["setsecret", "-"], "\n").status, 255);
}

#[test]
fn certificates_are_made_and_read_from_files() {
    let home = Home::new();
    home.out(&["gencert"]);
    let cert = home.json()["cert"].as_str().unwrap().to_owned();
    assert!(cert.contains("BEGIN CERTIFICATE"));
    let path = home.file().with_extension("pem");
    std::fs::write(&path, &cert).unwrap();
    home.out(&["profile", "x", "setcert", path.to_str().unwrap()]);
    assert_eq!(home.json()["profile"]["x"]["cert"], cert);
    home.out(&["delcert"]);
    std::fs::write(&path, "no certificate").unwrap();
    for bad in [path.to_str().unwrap(), "/nonexistent"] {
        let outcome = home.aemp(&["setcert", bad]);
        assert_eq!(outcome.status, 255);
        assert!(outcome.err.contains(bad), "{}", outcome.err);
    }
}

#[test]
fn a_broken_file_is_named_with_line_and_column_and_stays_as_it_is() {
    let home = Home::new();
    let broken = "{\n  \"secret\": \"geheim\",\n  \"seeds\": [1 2]\n}";
    home.write(broken);
    for args in [&["gensecret"][..], &["showconfig"], &["snd", "a#b", "c"], &["run"]] {
        let outcome = home.aemp(args);
        assert_eq!(outcome.status, 255, "{args:?}");
        assert!(outcome.err.contains("rc:3:"), "{}", outcome.err);
        assert_eq!(home.read(), broken);
    }
}

#[test]
fn parents_that_go_in_a_circle_are_refused() {
    let home = Home::new();
    home.out(&["profile", "a", "setparent", "b", "profile", "b", "setparent", "c"]);
    let before = home.read();
    let outcome = home.aemp(&["profile", "c", "parent", "a"]);
    assert_eq!(outcome.status, 255);
    assert!(outcome.err.contains("circle"), "{}", outcome.err);
    assert_eq!(home.read(), before);
    assert!(home.aemp(&["setparent", "a"]).err.contains("profile NAME setparent"));
    home.out(&["profile", "b", "delparent", "profile", "c", "parent", "a"]);
}

#[test]
fn a_profile_is_shown_as_it_is_and_as_what_it_comes_to() {
    let home = Home::new();
    home.out(&["secret", "s", "profile", "p", "binds", "*:1", "profile", "q", "setparent", "p"]);
    let own: serde_json::Value = serde_json::from_str(&home.out(&["showprofile", "q"])).unwrap();
    assert_eq!(own, json!({ "parent": "p" }));
    let all: serde_json::Value =
        serde_json::from_str(&home.out(&["showconfig", "q", "nodeid", "n"])).unwrap();
    assert_eq!(
        (&all["binds"], &all["secret"], &all["nodeid"]),
        (&json!(["*:1"]), &json!("s"), &json!("n"))
    );
    assert!(all.get("parent").is_none());
    home.out(&["delprofile", "q"]);
    let outcome = home.aemp(&["showprofile", "q"]);
    assert_eq!((outcome.status, outcome.err.as_str()), (1, "q: no such profile (p)\n"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_trouble() {
    let home = Home::new();
    home.out(&["profile", "p", "nodeid", "y"]);
    let mut child = home
        .command(&["nodeid", "x", "showprofile", "p", "showconfig"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    assert_eq!(home.json()["nodeid"], "x");
}

#[test]
fn missing_arguments_are_named() {
    let home = Home::new();
    for (args, text) in [
        (&["snd"][..], "snd: PORT is missing; see 'aemp help snd'\n"),
        (&["cal", "#x"], "cal: '#x' names no node"),
        (&["nodeid"], "nodeid: ID is missing"),
        (&["timeout", "soon"], "timeout: SECONDS must be a number"),
        (&["run", "nonsense", "nodeid", "x", "bindz", "1"], "'bindz' is no setting"),
        (&["top", "a", "b"], "top: it shows one node"),
    ] {
        let outcome = home.aemp(args);
        assert_eq!(outcome.status, 255, "{args:?}");
        assert!(outcome.err.starts_with(text), "{}", outcome.err);
    }
}
