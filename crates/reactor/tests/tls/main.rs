//! What TLS promises as a transport, over a wire that gives and takes little at a time.

mod in_reactor;
mod stage;
mod tasks;

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use reactor::{Tls, Transport};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, CertificateError, ClientConnection, Error};
use stage::{
    ALL, Connection, HOST, Host, PIPE_MAX, client, client_config, name, or_nothing, pair, play,
    server, server_config, wire,
};

#[test]
fn a_mebibyte_goes_each_way_however_little_the_wire_moves_at_a_time() {
    for seed in 0..20 {
        let len_max = [500, 5_000, 30_000, 200_000, ALL][seed as usize % 5];
        goes_each_way(1024 * 1024, seed, len_max);
    }
}

#[test]
fn so_does_a_little_byte_by_byte() {
    for seed in 0..20 {
        goes_each_way(5_000, seed, 1 + seed as usize % 3);
    }
}

fn goes_each_way(len: usize, seed: u64, len_max: usize) {
    let version = if seed.is_multiple_of(2) { &TLS13 } else { &TLS12 };
    let (mut one, mut other) = connections(pair(version), seed, len_max);
    one.sending = noise(seed, len);
    other.sending = noise(seed + 1000, len);
    play(&mut one, &mut other);
    assert!(matches!(one.ended, Some(Ok(()))), "seed {seed}: {:?}", one.ended);
    assert!(matches!(other.ended, Some(Ok(()))), "seed {seed}: {:?}", other.ended);
    assert!(one.received == other.sending && other.received == one.sending, "seed {seed}");
}

#[test]
fn takes_nothing_while_the_handshake_stands_and_everything_after_it() {
    for version in [&TLS12, &TLS13] {
        let (mut one, mut other) = connections(pair(version), 1, ALL);
        let mut refused = 0;
        let hello = [IoSlice::new(b"hello ")];
        while or_nothing(one.tls.write(&mut one.wire, &hello)).unwrap().is_none() {
            assert!(one.tls.is_handshaking());
            refused += 1;
            other.flush().unwrap();
        }
        one.sending = noise(1, 300_000);
        play(&mut one, &mut other);
        assert!(refused > 0 && other.received == [&b"hello "[..], &one.sending].concat());
    }
}

#[test]
fn the_handshake_needs_nobody_to_read_or_write() {
    for (version, seed) in [(&TLS12, 1), (&TLS13, 2)] {
        let (mut one, mut other) = connections(pair(version), seed, 50);
        shake_hands(&mut one, &mut other);
        assert!(!one.tls.has_input() && !other.tls.has_input());
    }
}

#[test]
fn bytes_that_came_before_tls_was_there_are_its_first() {
    for version in [&TLS12, &TLS13] {
        let (mut one, other) = connections(pair(version), 3, ALL);
        one.flush().unwrap();
        let Connection { tls, mut wire, .. } = other;
        let mut hello = vec![0; 4096];
        let len = reactor::Wire::read(&mut wire, &mut [IoSliceMut::new(&mut hello)]).unwrap();
        hello.truncate(len);
        let mut other = Connection::new(tls.with_received(hello), wire, Vec::new());
        shake_hands(&mut one, &mut other);
        one.sending = b"hello".to_vec();
        play(&mut one, &mut other);
        assert_eq!(other.received, b"hello");
    }
}

#[test]
fn a_goodbye_is_read_as_the_end_and_told_once() {
    let (mut one, mut other) = connections(pair(&TLS13), 2, 5_000);
    shake_hands(&mut one, &mut other);
    one.tls.finish();
    let error = one.tls.write(&mut one.wire, &[IoSlice::new(b"more")]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    while one.tls.flush(&mut one.wire).is_err() {}
    assert_eq!(read(&mut other, 10).unwrap(), b"");
    assert!(!other.tls.has_input());
    // The other direction still stands.
    other.ended = Some(Ok(()));
    other.sending = b"farewell".to_vec();
    play(&mut one, &mut other);
    assert_eq!(one.received, b"farewell");
}

#[test]
fn a_goodbye_said_in_the_handshake_waits_for_its_end() {
    for version in [&TLS12, &TLS13] {
        let (mut one, mut other) = connections(pair(version), 3, 5_000);
        one.tls.finish();
        while one.wire.outgoing.borrow().bytes.is_empty() {
            let error = one.tls.flush(&mut one.wire).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
        play(&mut one, &mut other);
        assert!(matches!((one.ended, other.ended), (Some(Ok(())), Some(Ok(())))));
    }
}

#[test]
fn an_end_without_a_goodbye_is_an_error_behind_the_bytes() {
    let (mut one, mut other) = connections(pair(&TLS13), 4, 5_000);
    shake_hands(&mut one, &mut other);
    write_all(&mut one, b"the first half");
    one.wire.close();
    assert_eq!(read(&mut other, 100).unwrap(), b"the first half");
    let error = read(&mut other, 100).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("without a TLS close_notify"), "{error}");
}

#[test]
fn an_end_in_the_handshake_is_an_error() {
    let (mut one, other) = connections(pair(&TLS13), 5, 5_000);
    other.wire.close();
    let error = loop {
        if let Err(error) = one.flush() {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("in the TLS handshake"), "{error}");
}

#[test]
fn an_unknown_certificate_is_an_error_on_both_sides_that_says_why() {
    for version in [&TLS12, &TLS13] {
        let stranger = client(client_config(version, &Host::new("another").certificate));
        let (mut one, mut other) = connections((stranger, server(server_config())), 6, ALL);
        play(&mut one, &mut other);
        let (client, server) = (one.ended.unwrap().unwrap_err(), other.ended.unwrap().unwrap_err());
        assert_eq!(client.to_string(), "invalid peer certificate: UnknownIssuer");
        assert_eq!(why(&client), Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(server.to_string(), "received fatal alert: UnknownCA");
        assert_eq!(why(&server), Error::AlertReceived(AlertDescription::UnknownCA));
    }
}

#[test]
fn garbage_instead_of_a_handshake_is_answered_with_an_alert() {
    let (mut stranger, end) = wire(7, ALL);
    let mut other = Connection::new(server(server_config()), end, Vec::new());
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let error = other.flush().unwrap_err();
    assert!(matches!(why(&error), Error::InvalidMessage(_)), "{error}");
    let alert = Vec::from(stranger.incoming.take().bytes);
    assert_eq!((alert[0], alert.len()), (21, 7));
    // It stays so, and nothing more is read.
    stranger.write_all(&[0; 50_000]).unwrap();
    assert_eq!(why(&read(&mut other, 10).unwrap_err()), why(&error));
    assert_eq!(other.wire.incoming.borrow().bytes.len(), 50_000);
}

#[test]
fn noise_ends_a_connection_and_nothing_else() {
    for seed in 0..500 {
        let (mut stranger, end) = wire(seed, ALL);
        // Half of them look like a record at first.
        let mut bytes = noise(seed, 20_000);
        if seed % 2 == 0 {
            bytes[..3].copy_from_slice(&[22, 3, 1]);
        }
        let tls = if seed % 4 < 2 { pair(&TLS13).0 } else { pair(&TLS13).1 };
        let mut other = Connection::new(tls, end, Vec::new());
        let mut sent = 0;
        while sent < bytes.len() && other.ended.is_none() {
            sent += or_nothing(stranger.write(&bytes[sent..])).unwrap().unwrap_or(0);
            other.turn();
        }
        stranger.close();
        while other.ended.is_none() {
            other.turn();
        }
        assert!(other.ended.unwrap().is_err(), "seed {seed}");
    }
}

#[test]
fn bytes_before_a_broken_record_are_given_first() {
    let (mut one, mut other) = connections(pair(&TLS13), 8, ALL);
    shake_hands(&mut one, &mut other);
    write_all(&mut one, &[1; 2000]);
    write_all(&mut one, &[2; 2000]);
    let mut bytes = one.wire.outgoing.take();
    *bytes.bytes.back_mut().unwrap() ^= 1;
    one.wire.outgoing.replace(bytes);
    for _ in 0..2 {
        assert_eq!(read(&mut other, 1000).unwrap(), [1; 1000]);
        assert!(other.tls.has_input());
    }
    assert_eq!(why(&read(&mut other, 1000).unwrap_err()), Error::DecryptError);
    // The other side hears of it.
    let error = read(&mut one, 1000).unwrap_err();
    assert_eq!(why(&error), Error::AlertReceived(AlertDescription::BadRecordMac));
}

#[test]
fn takes_nothing_more_while_what_it_took_waits() {
    let (mut one, mut other) = connections(pair(&TLS13), 9, ALL);
    shake_hands(&mut one, &mut other);
    let bytes = noise(9, 10 * PIPE_MAX);
    let mut taken = 0;
    for _ in 0..100 {
        let write = one.tls.write(&mut one.wire, &[IoSlice::new(&bytes[taken..])]);
        taken += or_nothing(write).unwrap().unwrap_or(0);
        or_nothing(one.tls.flush(&mut one.wire)).unwrap();
    }
    assert!((PIPE_MAX - 1000..PIPE_MAX + 64 * 1024).contains(&taken), "{taken}");
    let error = one.tls.write(&mut one.wire, &[IoSlice::new(&bytes[taken..])]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn says_that_it_has_input_until_all_of_a_record_is_read() {
    let (mut one, mut other) = connections(pair(&TLS13), 10, ALL);
    shake_hands(&mut one, &mut other);
    write_all(&mut one, b"twelve bytes");
    assert_eq!(read(&mut other, 7).unwrap(), b"twelve ");
    assert!(other.tls.has_input() && !other.wire.is_readable());
    assert_eq!(read(&mut other, 5).unwrap(), b"bytes");
    assert!(!other.tls.has_input());
}

#[test]
fn small_records_are_read_together() {
    let (mut one, mut other) = connections(pair(&TLS13), 11, ALL);
    shake_hands(&mut one, &mut other);
    for word in ["one ", "two ", "three"] {
        write_all(&mut one, word.as_bytes());
    }
    assert_eq!(read(&mut other, 100).unwrap(), b"one two three");
}

#[test]
fn keys_change_in_the_midst_of_it() {
    let (mut near, far) = wire(12, ALL);
    let config = client_config(&TLS13, &HOST.certificate);
    let mut raw = ClientConnection::new(config.into(), name()).unwrap();
    let mut other = Connection::new(server(server_config()), far, Vec::new());
    while raw.is_handshaking() || other.tls.is_handshaking() {
        or_nothing(raw.complete_io(&mut near)).unwrap();
        other.flush().unwrap();
    }
    for round in 0..100_u8 {
        raw.refresh_traffic_keys().unwrap();
        raw.writer().write_all(&[round; 100]).unwrap();
        while raw.wants_write() {
            or_nothing(raw.write_tls(&mut near)).unwrap();
        }
        assert_eq!(read(&mut other, 100).unwrap(), [round; 100]);
        write_all(&mut other, &[round; 200]);
        let mut answer = Vec::new();
        while answer.len() < 200 {
            or_nothing(raw.read_tls(&mut near)).unwrap();
            raw.process_new_packets().unwrap();
            or_nothing(raw.reader().read_to_end(&mut answer)).unwrap();
        }
        assert_eq!(answer, [round; 200]);
    }
}

#[test]
fn a_flood_without_bytes_costs_a_share_a_read_and_is_not_forgotten() {
    let mut generous = server_config();
    generous.send_tls13_tickets = 600;
    let client = client(client_config(&TLS13, &HOST.certificate));
    let (mut one, mut other) = connections((client, server(generous)), 13, ALL);
    shake_hands(&mut one, &mut other);
    other.flush().unwrap();
    let before = one.wire.incoming.borrow().bytes.len();
    let error = read_once(&mut one, 10).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    let read = before - one.wire.incoming.borrow().bytes.len();
    assert!((32 * 1024..64 * 1024).contains(&read) && one.wire.is_readable(), "{read} of {before}");
    assert!(one.tls.has_input());
    other.sending = b"at last".to_vec();
    play(&mut one, &mut other);
    assert_eq!(one.received, b"at last");
}

fn connections(tls: (Tls, Tls), seed: u64, len_max: usize) -> (Connection, Connection) {
    let (near, far) = wire(seed, len_max);
    (Connection::new(tls.0, near, Vec::new()), Connection::new(tls.1, far, Vec::new()))
}

fn shake_hands(one: &mut Connection, other: &mut Connection) {
    while one.tls.is_handshaking() || other.tls.is_handshaking() {
        one.flush().unwrap();
        other.flush().unwrap();
    }
}

fn write_all(connection: &mut Connection, bytes: &[u8]) {
    let Connection { tls, wire, .. } = connection;
    let mut sent = 0;
    while sent < bytes.len() {
        sent += or_nothing(tls.write(wire, &[IoSlice::new(&bytes[sent..])])).unwrap().unwrap_or(0);
    }
    while or_nothing(tls.flush(wire)).unwrap().is_none() {}
}

/// Reads at most so much, however long the wire gives nothing.
fn read(connection: &mut Connection, len_max: usize) -> io::Result<Vec<u8>> {
    loop {
        if let Some(bytes) = or_nothing(read_once(connection, len_max))? {
            return Ok(bytes);
        }
    }
}

fn read_once(connection: &mut Connection, len_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len_max];
    let len = connection.tls.read(&mut connection.wire, &mut [IoSliceMut::new(&mut bytes)])?;
    bytes.truncate(len);
    Ok(bytes)
}

/// What rustls says.
fn why(error: &io::Error) -> Error {
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    error.get_ref().and_then(|error| error.downcast_ref::<Error>()).expect("of rustls").clone()
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut step = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..len).map(|_| step()).collect()
}
