//! Nodes that the tool runs, and asks.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::home::{Home, Running, is_there, until};

#[test]
fn a_node_is_asked_for_all_it_knows() {
    let home = Home::new();
    let node = home.run("one");
    let version = format!("\"ports {}\"\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(home.talk(&["eval", "one", "version"]).out, version);
    assert_eq!(home.talk(&["eval", "one", "echo", "1", "[2]", "x y"]).out, "1,[2],\"x\",\"y\"\n");
    assert_eq!(home.talk(&["--json", "eval", "one", "echo 1"]).out, "[1]\n");
    let unknown = home.talk(&["eval", "one", "frobnicate"]);
    assert_eq!(unknown.status, 255);
    assert!(unknown.err.starts_with("frobnicate: no such command; there are "), "{unknown:?}");

    let seconds = home.talk(&["cal", "one", "time"]);
    assert!(seconds.out.trim().parse::<f64>().unwrap() > 0.0, "{seconds:?}");
    let silent = home.aemp(&["timeout", "0.1", "cal", "one", "devnull"]);
    assert_eq!(silent.status, 1, "{silent:?}");

    let trace = home.talk(&["trace", "one"]);
    assert_eq!((trace.status, trace.out.as_str()), (0, "one ->\n"));
    assert_eq!(home.talk(&["--json", "trace", "one"]).out, "{\"one\":[]}\n");
    drop(node);
}

#[test]
fn a_message_that_cannot_arrive_is_an_error() {
    let home = Home::new();
    let _node = home.run("one");
    let sent = home.talk(&["snd", "one", "devnull"]);
    assert_eq!((sent.status, sent.out.as_str()), (0, "message sent successfully\n"));
    let lost = home.talk(&["snd", "one#nobody", "hello"]);
    assert_eq!((lost.status, lost.out.as_str()), (1, ""));
    assert!(lost.err.starts_with("one#nobody: no_such_port"), "{lost:?}");
    let call = home.talk(&["cal", "one#nobody", "hello"]);
    assert!(call.status == 1 && call.err.contains("no_such_port"), "{call:?}");
    let nowhere = home.talk(&["snd", "two#x", "hello"]);
    assert_eq!(nowhere.status, 1);
    assert!(
        nowhere.err.contains("cannot reach two: no known address (connected with one)"),
        "{nowhere:?}"
    );
}

#[test]
fn a_port_is_watched_until_it_ends() {
    let home = Home::new();
    let _node = home.run("one");
    let nobody = home.talk(&["mon", "one#nobody"]);
    assert_eq!(nobody.status, 1);
    assert_eq!(nobody.out, "\"no_such_port\",\"cannot monitor nonexistent port\",\"one#nobody\"\n");

    // The shell has a port that can be watched.
    let mut shell = home.command(&["timeout", "120", "shell"]);
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"echo $ECHO\n").unwrap();
    let mut echo = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut echo).unwrap();
    let echo: String = serde_json::from_str(&echo).unwrap();
    let watched = |end: &[&str]| {
        let path = home.file().with_extension("reason");
        let mut watcher = home.command(&["timeout", "120", "mon", &echo]);
        watcher.stdout(File::create(&path).unwrap()).env("PERL_ANYEVENT_MP_TRACE", "1");
        let mut watcher = Running::start(&mut watcher);
        watcher.wait_for_log("\"mon1\"");
        assert_eq!(home.talk(&[&["eval", "one", "kill", &echo], end].concat()).status, 0);
        (watcher.wait().code(), std::fs::read_to_string(path).unwrap())
    };
    assert_eq!(watched(&["why", "[1]"]), (Some(0), "\"why\",[1]\n".to_owned()));
    assert_eq!(
        watched(&[]),
        (Some(1), format!("\"no_such_port\",\"cannot monitor nonexistent port\",\"{echo}\"\n"))
    );
    drop(input);
    assert!(shell.wait().unwrap().success());
}

#[test]
fn without_a_node_to_be_found_it_says_what_to_do() {
    let home = Home::new();
    home.out(&["seeds", "127.0.0.1:1", "secret", "geheim"]);
    for args in [&["snd", "one#x", "hello"][..], &["top"], &["shell"], &["trace", "one"]] {
        let outcome = home.aemp(&[&["timeout", "0.1"], args].concat());
        assert_eq!(outcome.status, 1, "{args:?}");
        assert!(outcome.err.contains("no node answers at 127.0.0.1:1\n"), "{}", outcome.err);
        assert!(outcome.err.contains("aemp run"), "{}", outcome.err);
    }
}

#[test]
fn the_shell_does_what_comes_over_a_pipe() {
    let home = Home::new();
    let _node = home.run("one");
    let lines = "version\n\n=\nsend $ECHO 1 {\"a\":2}\n=one\necho 7\n";
    let outcome = home.aemp_with_input(&["timeout", "120", "shell", "one"], lines);
    assert_eq!((outcome.status, outcome.err.as_str()), (0, ""));
    let mut seen: Vec<&str> = outcome.out.lines().collect();
    seen.sort_unstable();
    let version = format!("\"ports {}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(seen, [version.as_str(), "$ECHO: [1,{\"a\":2}]", "* one", "7"]);
    let outcome = home.aemp_with_input(&["timeout", "120", "shell"], "nonsense\nhelp");
    assert_eq!(outcome.status, 1);
    assert!(outcome.err.contains("nonsense: no such command"));
    assert!(outcome.out.contains("=NODE") && outcome.out.contains("statistics: "));
}

#[test]
fn top_prints_a_table_or_json_where_there_is_no_terminal() {
    let home = Home::new();
    let _node = home.run("one");
    let table = home.talk(&["top"]);
    assert_eq!(table.status, 0, "{table:?}");
    assert!(table.out.starts_with("one   up "), "{}", table.out);
    assert!(table.out.lines().all(|line| line.chars().count() <= 80), "{}", table.out);
    let json: Json = serde_json::from_str(&home.talk(&["top", "one", "--json"]).out).unwrap();
    assert_eq!(json["node"], "one");
    assert_eq!(json["is_global"], true);
    assert_eq!(json["peers"].as_array().unwrap().len(), 1);

    let mut lines = home
        .command(&["timeout", "120", "top", "--json", "--interval", "0.05"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(lines.stdout.take().unwrap());
    for _ in 0..3 {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(serde_json::from_str::<Json>(&line).unwrap()["node"], "one");
    }
    // Then nobody reads any more, and it ends.
    drop(output);
    let ended = lines.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0));
}

#[test]
fn a_node_that_is_killed_is_started_anew() {
    let home = Home::new();
    let node = home.run("one");
    let first = home.pid_of("one");
    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    node.wait_for_log("starts anew in 0.5 s");
    assert!(node.log().contains("signal: 9"), "{}", node.log());
    let second = home.pid_of("one");
    assert_ne!(first, second);
    assert!(!is_there(first));
}

#[test]
fn a_node_starts_anew_when_it_is_told_to() {
    let home = Home::new();
    let node = home.run("one");
    let first = home.pid_of("one");
    let outcome = home.talk(&["restart", "one"]);
    assert_eq!((outcome.status, outcome.out.as_str()), (0, "one starts anew\n"));
    until(|| !is_there(first), || "it does not end".to_owned());
    let second = home.pid_of("one");
    assert_ne!(first, second);
    node.signal(Signal::HUP);
    until(|| !is_there(second), || "it does not end".to_owned());
    assert_ne!(home.pid_of("one"), second);
}

#[test]
fn ctrl_c_ends_the_node_in_good_order() {
    let home = Home::new();
    for signal in [Signal::INT, Signal::TERM] {
        let mut node = home.run("one");
        let pid = home.pid_of("one");
        node.signal(signal);
        assert_eq!(node.wait().code(), Some(0));
        assert!(!is_there(pid));
        assert!(node.log().contains("node one ends"), "{}", node.log());
        drop(node);
        home.out(&["delseeds"]);
    }
}

#[test]
fn a_node_ends_with_its_keeper() {
    let home = Home::new();
    let node = home.run("one");
    let pid = home.pid_of("one");
    node.signal(Signal::KILL);
    until(|| !is_there(pid), || "it goes on".to_owned());
}

#[test]
fn a_node_that_cannot_start_is_an_error_and_not_tried_again() {
    let home = Home::new();
    let mut node = home.run("one");
    let address = home.json()["seeds"][0].as_str().unwrap().to_owned();
    let taken = home.aemp(&["run", "nodeid", "two", "binds", &address]);
    assert_eq!(taken.status, 255);
    assert!(taken.err.contains(&format!("cannot listen on {address}")), "{}", taken.err);
    let service = home.aemp(&["run", "binds", "127.0.0.1:0", "services", "no::such"]);
    assert_eq!(service.status, 255);
    assert!(service.err.contains("service no::such: there is no such function"), "{}", service.err);
    node.signal(Signal::INT);
    node.wait();
}

#[test]
fn messages_are_shown_both_ways_if_the_environment_says_so() {
    let home = Home::new();
    let _node = home.run("one");
    let output = home
        .command(&["timeout", "120", "eval", "one", "version"])
        .env("PERL_ANYEVENT_MP_TRACE", "1")
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("SND one <- [null,\"eval\",\"version\",\"aemp/"), "{err}");
    assert!(err.contains("RCV one -> [\""), "{err}");
}

#[test]
fn the_tool_finds_a_node_whose_address_the_file_wants_to_listen_on() {
    let home = Home::new();
    let _node = home.run("one");
    let address = home.json()["seeds"][0].as_str().unwrap().to_owned();
    home.out(&["binds", &address, "nodeid", "one"]);
    assert_eq!(home.talk(&["eval", "one", "echo 1"]).out, "1\n");
}

#[test]
fn a_wrong_secret_keeps_the_tool_out() {
    let home = Home::new();
    let _node = home.run("one");
    home.out(&["profile", "aemp", "secret", "other"]);
    let outcome = home.aemp(&["timeout", "1", "snd", "one#x", "hello"]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.err.contains("Its secret must be the same"), "{}", outcome.err);
}

#[test]
fn services_of_a_profile_are_started_and_its_command_done() {
    let home = Home::new();
    home.out(&["profile", "p", "seteval", "frobnicate", "binds", "127.0.0.1:0"]);
    let outcome = home.aemp(&["run", "p"]);
    assert_eq!(outcome.status, 255);
    assert!(outcome.err.contains("eval: frobnicate: no such command"), "{}", outcome.err);
    home.out(&["profile", "p", "seteval", "version"]);
    let running =
        Running::start(home.command(&["run", "p", "nodeid", "x"]).env("RUST_LOG", "info"));
    running.wait_for_log("node x starting up");
    assert_eq!(json!(home.json()["profile"]["p"]["eval"]), "version");
}

#[test]
fn a_nodes_log_is_caught_by_another_one() {
    let home = Home::new();
    let one = home.run("one");
    let services = r#"[["AnyEvent::MP::LogCatcher::catch", 5]]"#;
    let mut two =
        home.command(&["run", "nodeid", "two", "binds", "127.0.0.1:0", "services", services]);
    let two = Running::start(&mut two);
    let text = "unable to resolve function 'nonsense'";
    until(
        || {
            assert_eq!(home.talk(&["snd", "one", "nonsense"]).status, 0);
            two.log().contains(text)
        },
        || two.log(),
    );
    assert!(one.log().contains(text));
}
