//! Trackers that answer nonsense, too much, too late or not at all: the torrent says so, and the
//! rest goes on.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    GUARD, HOSTILE, LOCAL, Leecher, Payload, config, eventually, find, honest_seed, peers_answer,
    session, wait_for,
};
use engine::{AddOptions, EventKind, Session};
use torrent::metainfo::{Metainfo, create::Builder};

/// A web server on a thread: hands each request, by its first line, to `answer`.
fn web_server(mut answer: impl FnMut(&str, &mut TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut request, mut bytes) = (Vec::new(), [0; 4096]);
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut bytes) {
                    Ok(count @ 1..) => request.extend_from_slice(&bytes[..count]),
                    _ => break,
                }
            }
            let request = String::from_utf8_lossy(&request);
            answer(request.lines().next().unwrap_or_default(), &mut stream);
        }
    });
    format!("http://{addr}/announce")
}

/// One that says the same to everybody.
fn web_server_of(status: &'static str, head: String, body: Vec<u8>) -> String {
    web_server(move |_, stream| {
        let head = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{head}\r\n",
            body.len()
        );
        // The client may have seen enough before the end.
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).ok();
    })
}

fn ok(stream: &mut TcpStream, body: &[u8]) {
    let head =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok();
}

const NO_PEERS: &[u8] = b"d8:completei0e10:incompletei0e8:intervali1800e5:peers0:e";

fn compact(addr: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(addr) = addr else { panic!("{addr} is IPv4") };
    [&addr.ip().octets()[..], &addr.port().to_be_bytes()].concat()
}

fn leecher_with(payload: &Payload, tiers: &[&[&str]]) -> Leecher {
    let tiers = tiers.iter().map(|tier| tier.iter().map(|&url| url.to_owned()).collect()).collect();
    Leecher::with_options(payload, AddOptions { trackers: Some(tiers), ..AddOptions::default() })
}

/// The only tracker fails with these words, people can see them, and the download works all the same.
fn assert_fails(url: &str, why: &str) {
    let payload = Payload::new();
    let leecher = leecher_with(&payload, &[&[url]]);
    let error = wait_for_tracker_failure(&leecher);
    assert!(error.contains(why), "{error:?} instead of {why:?}");
    eventually("people are told", || {
        let trouble = leecher.torrent.status().tracker_trouble.clone();
        trouble.is_some_and(|trouble| trouble.contains(why) && trouble.contains(url))
    });
    let (_honest, honest) = honest_seed(&payload);
    leecher.torrent.add_peer(honest).unwrap();
    leecher.complete(&payload);
}

fn wait_for_tracker_failure(leecher: &Leecher) -> String {
    loop {
        match leecher.events.recv_timeout(GUARD).expect("a failure").kind {
            EventKind::TrackerFailed { error, .. } => return error,
            EventKind::TrackerAnswered { url, .. } => panic!("{url} was understood"),
            _ => {}
        }
    }
}

/// Waits until a tracker has answered; returns how many peers it named.
fn wait_for_answer(leecher: &Leecher) -> usize {
    loop {
        match leecher.events.recv_timeout(GUARD).expect("an answer").kind {
            EventKind::TrackerAnswered { peers, .. } => return peers,
            EventKind::TrackerFailed { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
}

#[test]
fn what_is_not_bencode_makes_no_sense() {
    let page = web_server_of("200 OK", String::new(), b"<html>Welcome!</html>".to_vec());
    assert_fails(&page, "its answer makes no sense");
}

#[test]
fn a_failure_reason_is_shown_as_it_is() {
    let body = b"d14:failure reason22:torrent not registerede".to_vec();
    assert_fails(&web_server_of("200 OK", String::new(), body), "torrent not registered");
}

#[test]
fn an_error_of_the_web_server_is_shown_by_its_number() {
    let url = web_server_of("500 Internal Server Error", String::new(), b"oops".to_vec());
    assert_fails(&url, "the server answered 500");
}

#[test]
fn of_peers_of_a_wrong_length_the_whole_ones_are_taken() {
    let payload = Payload::new();
    let (_honest, honest) = honest_seed(&payload);
    let peers = [&compact(honest)[..], b"abc"].concat();
    let body = [b"d8:intervali1800e5:peers9:", &peers[..], b"e"].concat();
    let url = web_server_of("200 OK", String::new(), body);
    let leecher = leecher_with(&payload, &[&[&url]]);
    assert_eq!(wait_for_answer(&leecher), 1);
    leecher.complete(&payload);
}

#[test]
fn an_endless_answer_is_cut_off_early() {
    let (sender, sent) = channel();
    let url = web_server(move |_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 30);
        stream.write_all(head.as_bytes()).unwrap();
        let mut len = 0_usize;
        while len < 1 << 30 && stream.write_all(&[b'x'; 64 * 1024]).is_ok() {
            len += 64 * 1024;
        }
        sender.send(len).ok();
    });
    assert_fails(&url, "its answer is too long");
    let sent = sent.recv_timeout(GUARD).unwrap();
    assert!(sent < 1 << 26, "{sent} bytes were taken");
}

#[test]
fn a_little_gzip_that_becomes_a_lot_is_cut_off_early() {
    let body = gzip_of_zeros(400_000);
    assert!(body.len() < 1 << 20);
    let url = web_server_of("200 OK", "Content-Encoding: gzip\r\n".to_owned(), body);
    assert_fails(&url, "its answer is too long");
}

/// A hundred million zeros, as `runs` copies of 258 bytes each: one block with the fixed codes of
/// RFC 1951. The checksum is left out, for nobody should get that far.
fn gzip_of_zeros(runs: usize) -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    // Codes go in from their highest bit.
    let mut put =
        |code: u32, len: u32| (0..len).rev().for_each(|at| bits.push(code >> at & 1 == 1));
    put(0b110, 3);
    put(0b0011_0000, 8);
    for _ in 0..runs {
        put(0b1100_0101, 8);
        put(0, 5);
    }
    let packed = bits
        .chunks(8)
        .map(|byte| byte.iter().enumerate().fold(0, |sum, (at, bit)| sum | u8::from(*bit) << at));
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255].into_iter().chain(packed).collect()
}

#[test]
fn redirects_in_a_circle_end() {
    let url = web_server_of("302 Found", "Location: /announce\r\n".to_owned(), Vec::new());
    assert_fails(&url, "too many redirects");
}

#[test]
fn a_redirect_to_another_scheme_is_not_followed() {
    for target in ["file:///etc/passwd", "ftp://127.0.0.1/", "udp://127.0.0.1:1/"] {
        let url = web_server_of("302 Found", format!("Location: {target}\r\n"), Vec::new());
        let leecher = leecher_with(&Payload::new(), &[&[&url]]);
        let error = wait_for_tracker_failure(&leecher);
        assert!(!error.contains("root"), "{error}");
    }
}

#[test]
fn an_address_of_a_kind_that_is_not_known_is_said_to_be_so() {
    assert_fails("wss://127.0.0.1/announce", "not supported");
}

#[test]
fn a_tracker_that_never_answers_holds_up_neither_the_download_nor_the_end() {
    let payload = Payload::new();
    let (kept, _silent) = channel();
    let url = web_server(move |_, stream| kept.send(stream.try_clone().unwrap()).unwrap());
    let mute = UdpSocket::bind((LOCAL, 0)).unwrap();
    let udp = format!("udp://{}", mute.local_addr().unwrap());
    let leecher = leecher_with(&payload, &[&[&url], &[&udp]]);
    let (_honest, honest) = honest_seed(&payload);
    leecher.torrent.add_peer(honest).unwrap();
    leecher.complete(&payload);
    let began_at = Instant::now();
    leecher.session.shutdown(Duration::from_millis(100));
    assert!(began_at.elapsed() < SILENCE, "the tracker was waited for");
}

/// What each announce said: its `event`.
fn recording_tracker(body: Vec<u8>) -> (String, Receiver<String>) {
    let (sender, events) = channel();
    let url = web_server(move |request, stream| {
        sender.send(event_of(request)).unwrap();
        ok(stream, &body);
    });
    (url, events)
}

fn event_of(request: &str) -> String {
    let query = request.split(['?', '&', ' ']);
    query.filter_map(|part| part.strip_prefix("event=")).collect()
}

#[test]
fn each_event_is_told_exactly_once_over_a_whole_download() {
    let payload = Payload::new();
    let (_honest, honest) = honest_seed(&payload);
    let peers =
        [b"d8:completei0e10:incompletei0e8:intervali1800e5:peers6:", &compact(honest)[..], b"e"]
            .concat();
    let (url, events) = recording_tracker(peers);
    let (udp, udp_events) = udp_tracker(move |socket, from, request| {
        answer_as_udp_tracker(socket, from, request, &compact(honest));
    });
    let leecher = leecher_with(&payload, &[&[&url], &[&udp]]);
    leecher.complete(&payload);
    // One of them may have told of the peer long before the other answered at all.
    eventually("both know that it is complete", || {
        let trackers = leecher.torrent.trackers().unwrap();
        trackers.iter().all(|tracker| tracker.next_announce.is_some())
    });
    leecher.session.shutdown(GUARD);
    assert_eq!(events.try_iter().collect::<Vec<_>>(), ["started", "completed", "stopped"]);
    assert_eq!(udp_events.try_iter().collect::<Vec<_>>(), [2, 1, 3]);
}

#[test]
fn a_seed_completes_nothing() {
    let payload = Payload::new();
    let (url, events) = recording_tracker(NO_PEERS.to_vec());
    let seeder = session(LOCAL);
    let heard = seeder.subscribe().unwrap();
    let options = AddOptions {
        dir: payload.dir.path().into(),
        trackers: Some(vec![vec![url]]),
        ..AddOptions::default()
    };
    seeder.add(payload.metainfo, options).unwrap();
    wait_for(&heard, |kind| matches!(kind, EventKind::TrackerAnswered { .. }));
    seeder.shutdown(GUARD);
    assert_eq!(events.try_iter().collect::<Vec<_>>(), ["started", "stopped"]);
}

#[test]
fn a_torrent_that_goes_on_before_the_tracker_took_its_leave_begins_anew() {
    let (sender, events) = channel();
    let (go_on, resumed) = channel::<()>();
    let url = web_server(move |request, stream| {
        let event = event_of(request);
        sender.send(event.clone()).unwrap();
        if event == "stopped" {
            resumed.recv_timeout(GUARD).ok();
        }
        ok(stream, NO_PEERS);
    });
    let leecher = leecher_with(&Payload::new(), &[&[&url]]);
    wait_for_answer(&leecher);
    leecher.torrent.stop().unwrap();
    assert_eq!(events.recv_timeout(GUARD).unwrap(), "started");
    assert_eq!(events.recv_timeout(GUARD).unwrap(), "stopped");
    leecher.torrent.start().unwrap();
    go_on.send(()).unwrap();
    assert_eq!(events.recv_timeout(GUARD).unwrap(), "started");
    leecher.session.shutdown(Duration::from_millis(1));
}

#[test]
fn trackers_of_one_tier_stand_in_for_each_other_and_each_tier_is_told() {
    let payload = Payload::new();
    let broken: Vec<String> = (0..5)
        .map(|_| web_server_of("500 Internal Server Error", String::new(), Vec::new()))
        .collect();
    let (works, events) = recording_tracker(NO_PEERS.to_vec());
    let (other_tier, other_events) = recording_tracker(NO_PEERS.to_vec());
    let mut tier: Vec<&str> = broken.iter().map(String::as_str).collect();
    tier.push(&works);
    let leecher = leecher_with(&payload, &[&tier, &[&other_tier]]);
    assert_eq!(events.recv_timeout(GUARD).unwrap(), "started");
    assert_eq!(other_events.recv_timeout(GUARD).unwrap(), "started");
    eventually("both work", || {
        let trackers = leecher.torrent.trackers().unwrap();
        let working = |url: &str| {
            trackers.iter().any(|tracker| tracker.url == url && tracker.next_announce.is_some())
        };
        working(&works) && working(&other_tier)
    });
    leecher.session.shutdown(GUARD);
    assert_eq!(events.try_iter().collect::<Vec<_>>(), ["stopped"]);
    assert_eq!(other_events.try_iter().collect::<Vec<_>>(), ["stopped"]);
}

/// A UDP tracker on a thread that leaves every datagram to `answer`, and tells the events of announces.
fn udp_tracker(
    answer: impl Fn(&UdpSocket, SocketAddr, &[u8]) + Send + 'static,
) -> (String, Receiver<u32>) {
    let socket = UdpSocket::bind((LOCAL, 0)).unwrap();
    let url = format!("udp://{}/announce", socket.local_addr().unwrap());
    let (sender, events): (Sender<u32>, _) = channel();
    thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut datagram) {
            let request = &datagram[..len];
            if number(request, 8) == 1 {
                sender.send(number(request, 80)).ok();
            }
            answer(&socket, from, request);
        }
    });
    (url, events)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Answers a connect or an announce as BEP 15 says.
fn answer_as_udp_tracker(socket: &UdpSocket, from: SocketAddr, request: &[u8], peers: &[u8]) {
    socket.send_to(&right_answer(request, peers), from).unwrap();
}

fn right_answer(request: &[u8], peers: &[u8]) -> Vec<u8> {
    let (action, transaction) = (&request[8..12], &request[12..16]);
    match number(request, 8) {
        0 => [action, transaction, b"theyknow"].concat(),
        _ => [action, transaction, &[0, 0, 7, 8, 0, 0, 0, 1, 0, 0, 0, 1], peers].concat(),
    }
}

#[test]
fn datagrams_that_answer_nothing_are_ignored() {
    let payload = Payload::new();
    let (_honest, honest) = honest_seed(&payload);
    let stranger = UdpSocket::bind((HOSTILE, 0)).unwrap();
    let (url, _) = udp_tracker(move |socket, from, request| {
        let refusal = [&3_u32.to_be_bytes()[..], &request[12..16], b"go away"].concat();
        stranger.send_to(&refusal, from).unwrap();
        let mut wrong = refusal;
        wrong[4] ^= 1;
        socket.send_to(&wrong, from).unwrap();
        for len in 0..8 {
            socket.send_to(&right_answer(request, b"")[..len], from).unwrap();
        }
        answer_as_udp_tracker(socket, from, request, &compact(honest));
    });
    let leecher = leecher_with(&payload, &[&[&url]]);
    assert_eq!(wait_for_answer(&leecher), 1);
    leecher.complete(&payload);
}

#[test]
fn a_datagram_cut_short_makes_no_sense() {
    for len in [8, 15] {
        let (url, _) = udp_tracker(move |socket, from, request| {
            socket.send_to(&right_answer(request, b"")[..len], from).unwrap();
        });
        assert_fails(&url, "its answer makes no sense");
    }
    let (url, _) = udp_tracker(|socket, from, request| {
        let answer = right_answer(request, b"");
        socket.send_to(&answer[..answer.len().min(19)], from).unwrap();
    });
    assert_fails(&url, "its answer makes no sense");
}

#[test]
fn an_error_by_datagram_is_shown_as_it_is() {
    let (url, _) = udp_tracker(|socket, from, request| {
        let refusal = [&3_u32.to_be_bytes()[..], &request[12..16], b"not\x07 registered"].concat();
        socket.send_to(&refusal, from).unwrap();
    });
    assert_fails(&url, "not  registered");
}

/// Far less than a session waits for a tracker, far more than any machine needs to end one.
const SILENCE: Duration = Duration::from_secs(15);

#[test]
fn a_torrent_for_the_world_does_not_have_us_ask_this_machine() {
    let url = web_server_of("200 OK", String::new(), peers_answer(&[]));
    // An address that is nobody's; nothing can be sent there from this machine's own.
    let world = "http://192.0.2.1/announce";
    let trackers = vec![vec![url.clone()], vec![world.to_owned()]];
    let builder = Builder {
        name: b"t".to_vec(),
        files: vec![(Vec::new(), 5)],
        trackers,
        ..Builder::default()
    };
    let metainfo = Metainfo::parse(&builder.finish(&[[7; 20]]).unwrap()).unwrap();
    let answer = |allow_local| {
        let mut config = config(LOCAL);
        config.network.allow_local = allow_local;
        let session = Session::start(config).unwrap();
        let events = session.subscribe().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = AddOptions { dir: dir.path().into(), ..AddOptions::default() };
        session.add(metainfo.clone(), options).unwrap();
        find(&events, |kind| match kind {
            EventKind::TrackerFailed { url: asked, error, .. } if asked == url => Some(error),
            EventKind::TrackerAnswered { url: asked, .. } if asked == url => Some(String::new()),
            _ => None,
        })
    };
    assert!(answer(false).contains("our own network"));
    assert_eq!(answer(true), "");
}
