//! Encrypted connections with a peer that is played by hand: one that begins, chooses or breaks off in ways
//! that a session of ours would not.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::{GUARD, HOSTILE, LOCAL, PLAIN, Payload, assert_serves, config, handshake, seed};
use engine::{
    AddOptions, DisconnectReason, Encryption, EventKind, Events, Session, SessionConfig,
    SessionLimits,
};
use torrent::mse::{Established, Initiator, Method, Output, Responder, Secret, SkeyTable};
use torrent::wire::Handshake;
use torrent::{InfoHash, Rng};

/// A seed, its events, and where it is. It waits for handshakes as long as `patience`.
fn seeder(
    payload: &Payload,
    encryption: Encryption,
    handshake_patience: Duration,
) -> (Session, Events, SocketAddr) {
    let limits = SessionLimits { handshake_patience, ..SessionLimits::default() };
    let session = Session::start(SessionConfig { encryption, limits, ..config(LOCAL) }).unwrap();
    seed(&session, payload);
    let events = session.subscribe().unwrap();
    let addr = session.listen_addrs()[0];
    (session, events, addr)
}

/// Why the next connection that ends does so.
fn parting(events: &Events) -> DisconnectReason {
    loop {
        let event = events.recv_timeout(GUARD).expect("a connection that ends");
        if let EventKind::PeerDisconnected { reason, .. } = event.kind {
            return reason;
        }
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    stream
}

fn secret() -> Secret {
    Secret::new([7; 20])
}

/// Begins, with `payload` as the first that is heard.
fn initiator(torrent: InfoHash, methods: &'static [Method], payload: Vec<u8>) -> Initiator {
    Initiator::new(secret(), torrent, methods, payload, Rng::from_seed(1))
}

/// Goes on until both agree, or the other end hangs up.
fn negotiate(stream: &mut TcpStream, mut initiator: Initiator) -> Option<Established> {
    let mut bytes = [0; 4096];
    loop {
        while let Some(output) = initiator.poll_output() {
            match output {
                Output::Send(bytes) => stream.write_all(&bytes).ok()?,
                Output::Established(established) => return Some(established),
            }
        }
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return None,
            Ok(count) => initiator.handle_bytes(&bytes[..count]).unwrap(),
        }
    }
}

/// Reads a handshake of BitTorrent, decrypted if it is encrypted.
fn read_greeting(stream: &mut TcpStream, established: &mut Established) -> [u8; Handshake::LEN] {
    let mut bytes = std::mem::take(&mut established.received);
    while bytes.len() < Handshake::LEN {
        let mut more = vec![0; Handshake::LEN - bytes.len()];
        let count = stream.read(&mut more).unwrap();
        assert!(count > 0, "hung up");
        if let Some(ciphers) = &mut established.ciphers {
            ciphers.receive.apply(&mut more[..count]);
        }
        bytes.extend_from_slice(&more[..count]);
    }
    *bytes.first_chunk().unwrap()
}

/// How many bytes come until the other end hangs up.
fn drain(stream: &mut TcpStream) -> usize {
    let (mut total, mut bytes) = (0, [0; 4096]);
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return total,
            Ok(count) => total += count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return total,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn the_method_is_what_suits_both_best() {
    let payload = Payload::new();
    let hash = payload.metainfo.info_hash();
    const BOTH: &[Method] = &[Method::Plaintext, Method::Rc4];
    for (encryption, offered, expected) in [
        (Encryption::Allowed, BOTH, Some(Method::Plaintext)),
        (Encryption::Allowed, &[Method::Rc4], Some(Method::Rc4)),
        (Encryption::Preferred, BOTH, Some(Method::Rc4)),
        (Encryption::Preferred, &[Method::Plaintext], Some(Method::Plaintext)),
        (Encryption::Required, BOTH, Some(Method::Rc4)),
        (Encryption::Required, &[Method::Plaintext], None),
    ] {
        let (_session, events, addr) = seeder(&payload, encryption, GUARD);
        let mut stream = connect(addr);
        let ours = initiator(hash, offered, handshake(hash, PLAIN).to_vec());
        let Some(mut established) = negotiate(&mut stream, ours) else {
            assert_eq!(expected, None, "{encryption}");
            assert_eq!(parting(&events), DisconnectReason::NoCommonEncryption);
            continue;
        };
        assert_eq!(Some(established.method()), expected, "{encryption}");
        let greeting = read_greeting(&mut stream, &mut established);
        assert_eq!(Handshake::decode(&greeting).unwrap().info_hash, hash);
    }
}

#[test]
fn a_plain_connection_is_refused_where_encryption_is_required() {
    let payload = Payload::new();
    let (_session, events, addr) = seeder(&payload, Encryption::Required, GUARD);
    let mut stream = connect(addr);
    stream.write_all(&handshake(payload.metainfo.info_hash(), PLAIN)).unwrap();
    assert_eq!(drain(&mut stream), 0, "not a word");
    assert_eq!(parting(&events).code(), -105);
}

#[test]
fn a_stranger_hears_a_key_and_then_nothing_until_its_time_is_over() {
    let payload = Payload::new();
    let (_session, events, addr) = seeder(&payload, Encryption::Preferred, PATIENCE);
    let begun = Instant::now();
    // One knows another torrent, one does not even try, and one has a key that is none.
    let guess = std::thread::spawn(move || {
        let ours = initiator(InfoHash([9; 20]), &[Method::Rc4], Vec::new());
        assert!(negotiate(&mut connect(addr), ours).is_none());
    });
    let noise = [7_u8, 0].map(|byte| {
        let mut stream = connect(addr);
        stream.write_all(&[byte; 2000]).unwrap();
        stream
    });
    for mut stream in noise {
        let heard = drain(&mut stream);
        assert!(heard <= 96 + 512, "{heard} bytes heard");
    }
    guess.join().unwrap();
    let mut codes = [(); 3].map(|()| parting(&events).code());
    codes.sort_unstable();
    assert_eq!(codes, [-104, -103, -102]);
    assert!(begun.elapsed() >= PATIENCE, "one was hung up on before");
    assert_serves(&payload, addr);
}

#[test]
fn one_that_says_a_byte_at_a_time_has_no_more_time_than_others() {
    let payload = Payload::new();
    let (_session, events, addr) = seeder(&payload, Encryption::Preferred, PATIENCE);
    let mut stream = connect(addr);
    stream.set_nodelay(true).unwrap();
    let begun = Instant::now();
    while stream.write_all(&[7]).is_ok() {
        assert!(begun.elapsed() < GUARD, "it is still listened to");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(parting(&events), DisconnectReason::NoHandshake);
}

#[test]
fn a_torrent_named_in_secret_is_the_one_that_is_served() {
    let (payload, other) = (Payload::new(), Payload::with_seed(8));
    let (session, events, addr) = seeder(&payload, Encryption::Preferred, GUARD);
    seed(&session, &other);
    let mut stream = connect(addr);
    let ours = initiator(payload.metainfo.info_hash(), &[Method::Rc4], Vec::new());
    let mut ciphers = negotiate(&mut stream, ours).unwrap().ciphers.unwrap();
    let mut greeting = handshake(other.metainfo.info_hash(), PLAIN);
    ciphers.send.apply(&mut greeting);
    stream.write_all(&greeting).unwrap();
    assert_eq!(drain(&mut stream), 0);
    assert_eq!(parting(&events), DisconnectReason::WrongInfoHash);
}

#[test]
fn a_crowd_that_brings_keys_is_served_one_after_the_other() {
    let payload = Payload::new();
    let hash = payload.metainfo.info_hash();
    let (_session, _, addr) = seeder(&payload, Encryption::Preferred, GUARD);
    let mut crowd: Vec<(TcpStream, Initiator)> =
        (0..45).map(|_| (connect(addr), initiator(hash, &[Method::Rc4], Vec::new()))).collect();
    for (stream, ours) in &mut crowd {
        let Some(Output::Send(bytes)) = ours.poll_output() else { panic!("a key") };
        stream.write_all(&bytes).unwrap();
    }
    for (mut stream, ours) in crowd {
        assert!(negotiate(&mut stream, ours).is_some());
    }
}

/// A session that wants the payload from whoever is behind the door.
fn leecher(payload: &Payload, encryption: Encryption, from: SocketAddr) -> (Session, Events) {
    let session = Session::start(SessionConfig { encryption, ..config(LOCAL) }).unwrap();
    let events = session.subscribe().unwrap();
    let dir = tempfile::tempdir().unwrap().keep();
    let options = AddOptions { dir, peers: vec![from], ..AddOptions::default() };
    session.add(payload.metainfo.clone(), options).unwrap();
    (session, events)
}

fn door() -> (TcpListener, SocketAddr) {
    let door = TcpListener::bind((HOSTILE, 0)).unwrap();
    let addr = door.local_addr().unwrap();
    (door, addr)
}

/// What a session that dials begins with.
fn first_words(door: &TcpListener) -> (TcpStream, [u8; 20]) {
    let (mut stream, _) = door.accept().unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    let mut bytes = [0; 20];
    stream.read_exact(&mut bytes).unwrap();
    (stream, bytes)
}

#[test]
fn who_hangs_up_on_one_road_is_tried_on_the_other_at_once() {
    let payload = Payload::new();
    for (encryption, is_plain) in
        [(Encryption::Allowed, [true, false]), (Encryption::Preferred, [false, true])]
    {
        let (door, addr) = door();
        let (_session, _events) = leecher(&payload, encryption, addr);
        for is_plain in is_plain {
            let (_, words) = first_words(&door);
            assert_eq!(&words == b"\x13BitTorrent protocol", is_plain, "{encryption}");
        }
    }
}

#[test]
fn a_session_brings_its_first_words_with_the_handshake() {
    let payload = Payload::new();
    let hash = payload.metainfo.info_hash();
    for method in [&[Method::Rc4], &[Method::Plaintext]] {
        let (door, addr) = door();
        let (_session, _events) = leecher(&payload, Encryption::Allowed, addr);
        drop(first_words(&door));
        let (mut stream, words) = first_words(&door);
        let mut torrents = SkeyTable::default();
        torrents.insert(hash);
        let mut ours = Responder::new(secret(), method, Rng::from_seed(1));
        ours.handle_bytes(&words, &torrents).unwrap();
        let mut bytes = [0; 4096];
        let mut established = 'agreed: loop {
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "hung up");
            ours.handle_bytes(&bytes[..count], &torrents).unwrap();
            while let Some(output) = ours.poll_output() {
                match output {
                    Output::Send(bytes) => stream.write_all(&bytes).unwrap(),
                    Output::Established(established) => break 'agreed established,
                }
            }
        };
        let greeting = read_greeting(&mut stream, &mut established);
        assert_eq!(Handshake::decode(&greeting).unwrap().info_hash, hash);
    }
}

/// Of those that tests wait for: for what a handshake takes on any machine.
const PATIENCE: Duration = Duration::from_secs(3);
