//! Peers that are wrong, whether they mean it or not: the node says what is wrong, ends that connection, and
//! goes on with the others.

use std::cell::Cell;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use ports::{Context, PortId};
use reactor::simulated::{Node as Site, WorldOptions};
use reactor::{ConnectOptions, Handler, HandlerError, Reactor, Read, Reason, Token};

use crate::net::{Net, address, config, id};
use crate::raw::Stage;

fn stage() -> Stage {
    Stage::new(config("victim", &[]))
}

/// Whether the node still does what it is for.
fn assert_serves(stage: &mut Stage) {
    let mut good = stage.join("good", "json");
    let before = stage.seen.borrow().len();
    let name = stage.port.name().to_owned();
    good.send(stage, format!("[\"{name}\",\"hello\"]").as_bytes());
    stage.until("served", |stage| stage.seen.borrow().len() > before);
    assert_eq!(stage.seen.borrow().last().expect("it came"), "[\"hello\"]");
    drop(good);
    stage.until_alone();
}

#[test]
fn who_does_not_get_through_the_handshake_leaves_nothing_behind() {
    let long = format!("aemp;1;{};hmac_sha3_512;json\nx\n", "a".repeat(5000));
    let cases = [
        ("aemp;1;evil;hmac_sha3_512;json\nx\ncleartext;00;json\n", "shared secret mismatch"),
        ("aemp;1;evil;hmac_sha3_512;json\nx\nhmac_sha3_512;00;json\n", "shared secret mismatch"),
        ("aemp;1;evil;hmac_sha3_512;json\nx\nhmac_sha3_512\n", "mismatch"),
        (
            "aemp;1;evil;hmac_sha3_512;json\nx\nmd5;00;json\n",
            "selected unsupported rcv auth method",
        ),
        ("aemp;1;evil;cleartext;json\nx\n", "cleartext: no common auth type supported"),
        ("aemp;1;evil;hmac_sha3_512;storable\nx\n", "storable: no common framing method supported"),
        ("aemp;1;victim;hmac_sha3_512;json\nx\n", "I refuse to talk to myself"),
        ("aemp;1;e#vil;hmac_sha3_512;json\nx\n", "is no node ID"),
        ("aemp;0;evil;hmac_sha3_512;json\nx\n", "version mismatch (we: 1, they: 0)"),
        ("GET / HTTP/1.0\r\n\r\n", "unparsable greeting, expected 'aemp'"),
        (
            "aemp-dataconn;1;evil;hmac_sha3_512;json;dataconn_id=a\nx\n",
            "no data connection \"a\" is expected",
        ),
        ("\0\u{1}\n\n\n", "unparsable greeting"),
        (long.as_str(), "a handshake line of more than 4096 octets"),
    ];
    let mut stage = stage();
    for (lines, text) in cases {
        let mut raw = stage.connect();
        raw.send(&mut stage, lines.as_bytes());
        raw.until_closed(&mut stage);
        stage.until_logged(text);
        stage.until_alone();
    }
    assert_serves(&mut stage);
}

#[test]
fn an_echo_is_not_let_in() {
    let mut stage = stage();
    let mut raw = stage.connect();
    for _ in 0..2 {
        let line = raw.line(&mut stage);
        raw.send(&mut stage, format!("{line}\n").as_bytes());
    }
    raw.until_closed(&mut stage);
    stage.until_logged("echo attack?");
    // With another name, by what the node says on a second connection.
    let (mut first, mut second) = (stage.connect(), stage.connect());
    let (greeting, nonce) = (second.line(&mut stage), second.line(&mut stage));
    let greeting = greeting.replace("victim", "evil");
    first.send(&mut stage, format!("{greeting}\n{nonce}\n").as_bytes());
    let (greeting, nonce) = (first.line(&mut stage), first.line(&mut stage));
    let greeting = greeting.replace("victim", "evil");
    second.send(&mut stage, format!("{greeting}\n{nonce}\n").as_bytes());
    // Both claim to be the node's own program, of a lower ID: so the node waits for their proof.
    stage.turn();
    assert!(stage.node.up_nodes().is_empty());
    drop((first, second));
    stage.until_alone();
    assert_serves(&mut stage);
}

#[test]
fn a_handshake_that_was_recorded_is_worth_nothing_later() {
    let mut stage = stage();
    let mut raw = stage.connect();
    let ours = "aemp;1;honest;hmac_sha3_512;json\nmy nonce\n";
    let theirs = format!("{}\n{}\n", raw.line(&mut stage), raw.line(&mut stage));
    let mut mac = Hmac::<sha3::Sha3_512>::new_from_slice(b"geheim").expect("any key");
    mac.update(format!("{ours}{theirs}").as_bytes());
    let proof: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let recorded = format!("{ours}hmac_sha3_512;{proof};json\n[\"{}\",1]", stage.port.name());
    raw.send(&mut stage, recorded.as_bytes());
    stage.until("it came", |stage| stage.seen.borrow().len() == 1);
    drop(raw);
    stage.until_alone();
    let mut raw = stage.connect();
    raw.send(&mut stage, recorded.as_bytes());
    raw.until_closed(&mut stage);
    stage.until_logged("shared secret mismatch");
    assert_eq!(stage.seen.borrow().len(), 1);
    assert_serves(&mut stage);
}

#[test]
fn who_names_thousands_of_nodes_has_not_all_of_them_dialled() {
    let mut stage = stage();
    let mut raw = stage.join("evil", "json");
    raw.send(&mut stage, br#"["","g_global"]["","g_slave"]"#);
    let all = (0..5000).map(|number| format!("\"x{number}\":null")).collect::<Vec<_>>().join(",");
    raw.send(&mut stage, format!(r#"["","g_upd","'g",{{{all}}}]"#).as_bytes());
    stage.until_logged("is not kept connected with: 4096 nodes are");
    let name = stage.port.name().to_owned();
    raw.send(&mut stage, format!("[\"{name}\",\"still here\"]").as_bytes());
    stage.until("served", |stage| stage.seen.borrow().len() == 1);
}

#[test]
fn who_sends_what_is_no_message_loses_the_connection() {
    let deep = "[".repeat(200);
    let cases: [(&str, &[u8], &str); 12] = [
        ("json", b"[\"\",nonsense]", "node is down"),
        ("json", b"{\"a\":1}", "not a list"),
        ("json", b"3 ", "not a list"),
        ("json", deep.as_bytes(), "nests deeper than 64"),
        ("json", b"[\"\",\"g_upd\",[1]]", "a g_upd message without"),
        ("json", b"[\"\",\"g_set\",[[]]]", "a g_set message without"),
        ("cbor", b"\x82\x40\xff", "CBOR with a break"),
        ("cbor", b"\x03", "not a list"),
        ("cbor", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "a frame of more than"),
        ("cbor", b"\x82\x40\x5b\x7f\xff\xff\xff\xff\xff\xff\xff", "a frame of more than"),
        ("cbor", &[0x81; 200], "nests deeper than 64"),
        ("cbor", b"\x82\x61\xff\x01", "UTF-8"),
    ];
    let mut stage = stage();
    let mut other = stage.join("other", "json");
    for (index, (framing, bytes, text)) in cases.into_iter().enumerate() {
        let name = format!("evil{index}");
        let mut raw = stage.join(&name, framing);
        raw.send(&mut stage, bytes);
        raw.until_closed(&mut stage);
        stage.until_logged(text);
        stage.until("forgotten", |stage| stage.node.known_nodes_count() == 1);
    }
    let name = stage.port.name().to_owned();
    other.send(&mut stage, format!("[\"{name}\",\"still here\"]").as_bytes());
    stage.until("served", |stage| stage.seen.borrow().len() == 1);
    drop(other);
    stage.until_alone();
    assert_serves(&mut stage);
}

#[test]
fn what_a_node_does_not_know_is_logged_and_nothing_else() {
    let mut stage = stage();
    let mut raw = stage.join("odd", "json");
    let bytes = br#"["","system","rm"]["",["x"]]["","kil"]["","kil1",""]["nobody",1]["","mon0","x"][][null,"devnull"]"#;
    raw.send(&mut stage, bytes);
    let name = stage.port.name().to_owned();
    raw.send(&mut stage, format!("[\"{name}\",\"end\"]").as_bytes());
    stage.until("served", |stage| stage.seen.borrow().len() == 1);
    stage.until_logged("unable to resolve function 'system'");
    stage.until_logged("kil1: expected the name of a port, not the node's own");
    assert_eq!(stage.node.up_nodes(), [id("odd")]);
}

#[test]
fn a_peer_that_goes_in_the_middle_of_a_frame_leaves_nothing_behind() {
    let mut stage = stage();
    for bytes in [&b"\x82\x40"[..], b"\x82\x40\x5a\x00\xff\xff\xff", &[]] {
        let mut raw = stage.join("hasty", "cbor");
        raw.send(&mut stage, bytes);
        drop(raw);
        stage.until_alone();
    }
    assert_serves(&mut stage);
}

#[test]
fn a_long_message_in_small_pieces_is_read_whole() {
    let mut stage = stage();
    let mut raw = stage.join("slow", "json");
    let text = "x".repeat(500_000);
    let message = format!("[\"{}\",\"{text}\",2][\"{}\",3]", stage.port.name(), stage.port.name());
    for piece in message.as_bytes().chunks(30_011) {
        raw.send(&mut stage, piece);
        stage.turn();
    }
    stage.until("both came", |stage| stage.seen.borrow().len() == 2);
    assert_eq!(stage.seen.borrow()[0].len(), text.len() + 6);
    assert_eq!(stage.seen.borrow()[1], "[3]");
}

#[test]
fn who_is_silent_in_the_handshake_is_not_waited_for_longer_than_is_said() {
    for said in ["", "aemp;1;mute;hmac_sha3_512;json\nx\n"] {
        let mut stage = Stage::new(config("victim", &[]).monitor_timeout(Duration::from_secs(1)));
        let mut raw = stage.connect();
        raw.send(&mut stage, said.as_bytes());
        raw.until_closed(&mut stage);
        stage.until_alone();
    }
}

#[test]
fn of_two_connections_of_one_node_the_later_one_stays_as_perl_nodes_expect() {
    let mut stage = stage();
    let mut raws = [stage.connect(), stage.connect()];
    for (number, raw) in raws.iter_mut().enumerate() {
        let hello = format!("aemp;1;twice;hmac_sha3_512;json\nnonce {number}\n");
        raw.send(&mut stage, hello.as_bytes());
        (0..3).for_each(|_| drop(raw.line(&mut stage)));
    }
    let fired: Rc<Cell<usize>> = Rc::default();
    for (number, raw) in raws.iter_mut().enumerate() {
        raw.send(&mut stage, b"cleartext;67656865696d;json\n");
        stage.until("up", |stage| stage.node.up_nodes().len() == 1);
        if number == 0 {
            let shared = Rc::clone(&fired);
            let watch = move |_: &_, reason: ports::Reason| {
                assert_eq!(reason.to_string(), "transport_error twice switched connections");
                shared.set(shared.get() + 1);
            };
            stage.node.monitor(PortId::new("twice#a").expect("a port"), watch).detach();
        }
    }
    stage.until("switched", |_| fired.get() == 1);
    raws[0].until_closed(&mut stage);
    assert_eq!(stage.node.up_nodes(), [id("twice")]);
    // A third is refused, and the one that stands is asked whether it does.
    raws[1].received(&mut stage, 1);
    let mut third = stage.connect();
    third.send(&mut stage, b"aemp;1;twice;hmac_sha3_512;json\nnonce 3\n");
    third.until_closed(&mut stage);
    stage.until_logged("twice already connected, not connecting again.");
    assert_eq!(raws[1].received(&mut stage, 7), b"[\"\",\"\"]");
}

#[test]
fn who_sends_faster_than_handlers_work_is_read_no_further() {
    let mut stage = stage();
    let count: Rc<Cell<usize>> = Rc::default();
    let shared = Rc::clone(&count);
    let port = stage.node.port(move |_: &Context<'_>, _: (u8,)| shared.set(shared.get() + 1)).id();
    let mut raw = stage.join("flood", "cbor");
    let mut message = vec![0x82, 0x60 + u8::try_from(port.name().len()).expect("short")];
    message.extend_from_slice(port.name().as_bytes());
    message.push(1);
    let flood = message.repeat(1000);
    let (mut sent, mut most) = (0, 0);
    let total = 250 * flood.len();
    stage.until("all came", |stage| {
        while sent < total {
            let bytes = &flood[sent % flood.len()..];
            match raw.send_some(bytes) {
                0 => break,
                taken => sent += taken,
            }
        }
        most = most.max(stage.node.waiting_count());
        count.get() == 250_000
    });
    // What may wait, and one read.
    assert!(most <= 100_000 + (512 << 10) / message.len(), "{most}");
    assert_eq!(stage.node.waiting_count(), 0);
}

/// Connects, and says nothing.
struct Mute;

impl Handler<()> for Mute {
    fn readable(
        &mut self,
        token: Token,
        (): &mut (),
        reactor: &mut Reactor<()>,
    ) -> Result<(), HandlerError> {
        match reactor.read(token, &mut [0; 4096])? {
            Read::Eof => Err("over".into()),
            Read::Data(_) | Read::WouldBlock => Ok(()),
        }
    }

    fn closed(&mut self, _: Token, _: Reason, (): &mut (), _: &mut Reactor<()>) {}
}

#[test]
fn thousands_that_say_nothing_keep_nobody_out() {
    let mut net = Net::new(1, WorldOptions::default());
    net.add(config("victim", &[]));
    let crowd = net.add(config("crowd", &[]));
    let site: &mut Site<()> = &mut net.sites[crowd].as_mut().expect("it runs").site;
    let to: SocketAddr = address(0).parse().expect("an address");
    for _ in 0..2000 {
        site.reactor.connect(to, &ConnectOptions::default(), Box::new(Mute)).expect("a socket");
    }
    net.run(Duration::from_secs(2));
    assert!(net.node(0).strangers_count() >= 900 && net.node(0).strangers_count() <= 1000);
    let late = net.add(config("late", &[0]));
    net.run(Duration::from_secs(2));
    assert!(net.are_connected(0, late));
    net.run(Duration::from_secs(40));
    assert_eq!((net.node(0).strangers_count(), net.sockets_count(0)), (0, 1));
}

#[test]
fn noise_in_place_of_anything_is_survived() {
    let mut stage = stage();
    for seed in 0..60u64 {
        let mut chance = crate::net::Chance(seed);
        let mut bytes = Vec::new();
        let named = format!("[\"{}\",1]", stage.port.name());
        for _ in 0..1 + chance.below(40) {
            match chance.below(4) {
                0 => bytes.extend_from_slice(named.as_bytes()),
                1 => bytes.write_all(b"[\"\",\"g_upd\",\"f\",{\"k\":1}]").expect("memory"),
                2 => bytes.push(chance.below(256) as u8),
                _ => bytes.extend((0..chance.below(9)).map(|_| b"[]{}\",:1"[chance.below(8)])),
            }
        }
        let framing = if seed % 2 == 0 { "json" } else { "cbor" };
        let mut raw = stage.join("noise", framing);
        raw.send(&mut stage, &bytes);
        drop(raw);
        stage.until_alone();
    }
    assert_serves(&mut stage);
}
