//! Peers that know the secret, and want more than they may have, or more than there is.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ports::config::Config;
use ports::{Context, List, Reason, gencert};
use reactor::simulated::WorldOptions;

use crate::net::{Net, address, config, id};
use crate::raw::{Stage, keep_log, log};

/// Has a node know a function, and says how often it was called.
fn count_calls(node: &ports::Node) -> Rc<Cell<usize>> {
    let count: Rc<Cell<usize>> = Rc::default();
    let shared = Rc::clone(&count);
    node.register("test::call", move |_: &Context<'_>, _: List| shared.set(shared.get() + 1));
    count
}

/// `["", words…, floats…]` in CBOR, where the floats are three bytes each, and many more as we write them.
fn with_short_floats(words: &[&str], count: u32) -> Vec<u8> {
    let len = count + u32::try_from(words.len()).expect("few") + 1;
    let mut frame = vec![0x9a];
    frame.extend_from_slice(&len.to_be_bytes());
    frame.push(0x60);
    for word in words {
        frame.extend([0x78, u8::try_from(word.len()).expect("short")]);
        frame.extend_from_slice(word.as_bytes());
    }
    (0..count).for_each(|_| frame.extend([0xf9, 0x00, 0x01]));
    frame
}

#[test]
fn a_secure_node_does_not_call_functions_that_it_has_itself_asked_to_call() {
    let mut stage = Stage::new(config("victim", &[]).secure());
    let count = count_calls(&stage.node);
    let mut raw = stage.join("evil", "json");
    for message in [
        r#"["","test::call",1]"#,
        r#"["","snd","victim","test::call",1]"#,
        r#"["","snd","victim#","test::call",1]"#,
        r#"["","time","victim","test::call"]"#,
        r#"["","can","x","victim","AnyEvent::MP::_spawn","new","test::call"]"#,
    ] {
        raw.send(&mut stage, message.as_bytes());
    }
    let refused = |log: &[String]| {
        log.iter().filter(|line| line.contains("evil: remote execution not allowed")).count()
    };
    stage.until("all refused", |_| refused(&log()) == 5);
    assert_eq!(count.get(), 0);
    stage.node.send_to_function(stage.node.id(), "test::call", ());
    stage.until("its own program may", |_| count.get() == 1);
}

#[test]
fn what_is_sent_on_to_a_node_does_not_go_round_there() {
    let mut stage = Stage::new(config("victim", &[]));
    let count = count_calls(&stage.node);
    let mut raw = stage.join("evil", "json");
    let round = "\"snd\",\"victim\",".repeat(100_000);
    raw.send(&mut stage, format!("[\"\",{round}\"test::call\"]").as_bytes());
    stage.until_logged("snd: expected what is sent on to a node not to be sent on again");
    raw.send(&mut stage, br#"["","time","victim","can","x","victim","test::call"]"#);
    stage.until_logged("time: expected what is sent on");
    raw.send(&mut stage, br#"["","snd","victim","test::call"]"#);
    stage.until("called", |_| count.get() == 1);
}

#[test]
fn a_node_that_has_proved_nothing_calls_no_functions() {
    let cert = gencert().expect("a certificate");
    keep_log();
    let mut net = Net::new(1, WorldOptions::default());
    let with = |name, methods: &str, what: &str, seed| {
        let config = Config::new().norc().node_id(name).cert(&cert).seed(&address(seed));
        config.set(what, vec![methods])
    };
    net.add(with("a", "tls_anon", "auth_accept", 1));
    net.add(with("b", "tls_anon", "auth_offer", 0).set("auth_accept", vec!["tls_sha3_512"]));
    let counts = [0, 1].map(|index| count_calls(net.node(index)));
    net.run(Duration::from_secs(1));
    assert!(net.are_connected(0, 1), "{:#?}", log());
    net.node(0).send_to_function(id("b"), "test::call", ());
    net.node(1).send_to_function(id("a"), "test::call", ());
    net.run(Duration::from_secs(1));
    assert_eq!(counts.map(|count| count.get()), [0, 1]);
}

#[test]
fn a_reason_that_is_too_long_to_be_told_is_told_shorter() {
    let mut stage = Stage::new(config("victim", &[]));
    let name = stage.port.name().to_owned();
    let mut watcher = stage.join("watcher", "json");
    watcher.send(&mut stage, format!("[\"\",\"mon1\",\"{name}\"]").as_bytes());
    let seen: Rc<RefCell<Vec<Reason>>> = Rc::default();
    let note = Rc::clone(&seen);
    stage.node.monitor(&stage.port, move |_, reason| note.borrow_mut().push(reason)).detach();
    let mut evil = stage.join("evil", "cbor");
    watcher.received(&mut stage, 1);
    evil.send(&mut stage, &with_short_floats(&["kil1", &name], 2_000_000));
    stage.until("ended", |stage| !stage.node.has_port(&stage.port));
    let mut told = String::new();
    while !told.contains("kil0") {
        told += &String::from_utf8_lossy(&watcher.received(&mut stage, 1));
    }
    assert!(told.contains(&format!("\"kil0\",\"{name}\",\"too_long\"")), "{told}");
    assert_eq!(seen.borrow()[0].values().len(), 2_000_000);
    assert_eq!(stage.node.up_nodes(), [id("evil"), id("watcher")]);
    // And it goes on.
    let fresh = stage.node.port(|_: &Context<'_>, _: List| {}).id();
    stage.node.kill(&fresh, Reason::NORMAL);
    stage.until("goes on", |stage| !stage.node.has_port(&fresh));
}

#[test]
fn what_is_too_long_to_be_sent_on_is_logged_and_nothing_else() {
    let mut stage = Stage::new(config("victim", &[]));
    let _other = stage.join("other", "json");
    let mut evil = stage.join("evil", "cbor");
    evil.send(&mut stage, &with_short_floats(&["snd", "other#port"], 2_000_000));
    stage.until_logged("snd: what is to be sent on cannot be");
    assert_eq!(stage.node.up_nodes(), [id("evil"), id("other")]);
}

#[test]
fn each_monitor_is_told_once_and_those_taken_back_are_not() {
    let mut stage = Stage::new(config("victim", &[]));
    let name = stage.port.name().to_owned();
    let say = |tag: &str| format!("[\"\",\"{tag}\",\"{name}\"]");
    let (mut one, mut two) = (stage.join("one", "json"), stage.join("two", "json"));
    one.send(&mut stage, say("mon1").repeat(5).as_bytes());
    two.send(&mut stage, say("mon1").repeat(3).as_bytes());
    one.send(&mut stage, say("mon0").repeat(2).as_bytes());
    two.send(&mut stage, say("mon0").repeat(4).as_bytes());
    let monitors = |stage: &Stage| {
        let peers = stage.node.statistics().peers;
        peers.iter().map(|peer| peer.monitors_here).collect::<Vec<_>>()
    };
    two.send(&mut stage, b"[\"\",\"mon1\",\"nobody\"]");
    stage.until("monitors", |stage| monitors(stage) == [3, 0]);
    stage.node.kill(&stage.port, Reason::NORMAL);
    stage.until("ended", |stage| !stage.node.has_port(&stage.port));
    one.send(&mut stage, b"[\"\",\"mon1\",\"nobody\"]");
    let mut told = String::new();
    while !told.contains("nobody") {
        told += &String::from_utf8_lossy(&one.received(&mut stage, 1));
    }
    assert_eq!(told.matches(&format!("\"kil0\",\"{name}\"")).count(), 3, "{told}");
    assert_eq!(monitors(&stage), [0, 0]);
}

#[test]
fn what_was_queued_and_is_too_long_in_json_is_lost_as_with_a_connection() {
    let mut net = Net::new(1, WorldOptions::default());
    net.add(config("n0", &[]));
    net.add(config("n1", &[0]).set("framing_format", vec!["json"]));
    let seen: Rc<RefCell<Vec<String>>> = Rc::default();
    let note = Rc::clone(&seen);
    let port = net.node(1).port(move |_: &Context<'_>, (number, _): (u64, Vec<u8>)| {
        note.borrow_mut().push(number.to_string());
    });
    let port = port.id();
    let note = Rc::clone(&seen);
    let call = move |_: &ports::Node, reason: Reason| note.borrow_mut().push(reason.to_string());
    net.node(0).monitor(&port, call).detach();
    net.node(0).send(&port, (1u64, Vec::<u8>::new()));
    net.node(0).send(&port, (2u64, vec![0u8; 4 << 20]));
    net.node(0).send(&port, (3u64, Vec::<u8>::new()));
    net.run_until(Duration::from_secs(60), || !seen.borrow().is_empty());
    assert_eq!(seen.borrow().len(), 1);
    assert!(seen.borrow()[0].contains("transport_error n1 "), "{seen:?}");
    net.run(Duration::from_secs(60));
    net.node(0).send(&port, (4u64, Vec::<u8>::new()));
    net.run(Duration::from_secs(60));
    assert_eq!(seen.borrow()[1..], ["4"]);
}

#[test]
fn nobody_takes_the_names_that_a_node_is_about_to_make() {
    let mut stage = Stage::new(config("victim", &[]));
    stage.node.register("test::make", |context: &Context<'_>, _: List| {
        context.receive(|_: &Context<'_>, _: List| {});
    });
    let mut evil = stage.join("evil", "json");
    let known = stage.node.spawn(id("evil"), "test::make", ()).expect("a name");
    let next = format!("{}x", known.name());
    let spawn = format!("[\"\",\"AnyEvent::MP::_spawn\",\"{next}\",\"test::make\"]");
    evil.send(&mut stage, spawn.as_bytes());
    stage.until_logged("a name that this node does not make itself");
    let expect = "[\"\",\"AnyEvent::MP::DataConn::_expect\",\"9@victim\",\"evil#p\",9,\"a::b\"]";
    evil.send(&mut stage, expect.as_bytes());
    stage.until_logged("only this node makes such names for data connections");
    assert!(!stage.node.has_port(&ports::PortId::of(&id("victim"), &next)));
}

#[test]
fn a_member_does_not_have_a_node_make_endless_acquaintances() {
    let mut stage = Stage::new(config("victim", &[]));
    let mut raw = stage.join("evil", "json");
    for number in 0..1500 {
        raw.send(&mut stage, format!(r#"["","snd","nobody{number}#x",1]"#).as_bytes());
    }
    stage.until("the rest is refused", |_| {
        log().iter().any(|line| line.contains("no more than 1024 nodes are made acquaintance with"))
    });
    assert!(stage.node.known_nodes_count() <= 1024, "{}", stage.node.known_nodes_count());
}
