//! The tracker: no question makes it remember more than it may, or send more than a stranger may get.

#![no_main]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use torrent::Rng;
use torrent::bencode::{Value, decode};
use torrent::tracker::server::{TableLimits, TrackerServer};

/// Questions: who asks, how many seconds later, over HTTP or not, and what.
type Question<'a> = (u8, u16, bool, &'a [u8]);

fuzz_target!(|questions: Vec<Question<'_>>| {
    let limits =
        TableLimits { torrents: 3, peers_per_torrent: 3, peers: 5, ..TableLimits::default() };
    let mut tracker = TrackerServer::new(limits, Rng::from_seed(1));
    let mut now = Instant::now();
    for (who, wait, is_http, bytes) in questions {
        now += Duration::from_secs(wait.into());
        let ip = match who {
            0..128 => IpAddr::from([10, 0, 0, who]),
            128.. => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, who.into()]),
        };
        if is_http {
            http(&mut tracker, now, bytes, ip);
        } else {
            udp(&mut tracker, now, bytes, SocketAddr::new(ip, who.into()));
        }
        let stats = tracker.stats();
        assert!(stats.torrents <= 3 && stats.peers <= 5 && stats.torrents <= stats.peers);
    }
});

fn http(tracker: &mut TrackerServer, now: Instant, target: &[u8], from: IpAddr) {
    let reply = tracker.handle_http(now, &String::from_utf8_lossy(target), from);
    assert!(reply.body.len() < 32 * 1024);
    let value = decode(&reply.body).expect("canonical bencode");
    let dict = value.as_dict().expect("a dictionary");
    let is_refusal = dict.get(b"failure reason").and_then(Value::as_str).is_some();
    assert!(reply.status == 200 || is_refusal);
}

fn udp(tracker: &mut TrackerServer, now: Instant, datagram: &[u8], from: SocketAddr) {
    // Its connection id is a guess, so the answer must not be longer than the question.
    if let Some(reply) = tracker.handle_udp(now, from, datagram) {
        assert!((8..=datagram.len()).contains(&reply.len()), "an amplifier");
        assert_eq!(reply[4..8], datagram[12..16], "the transaction id comes back");
    }
    // As an honest asker, who connects first.
    let connect = [&0x0417_2710_1980_u64.to_be_bytes()[..], &[0; 8]].concat();
    let answer = tracker.handle_udp(now, from, &connect).expect("everyone may connect");
    if let Some(rest) = datagram.get(8..) {
        let honest = [&answer[8..], rest].concat();
        let reply = tracker.handle_udp(now, from, &honest);
        assert!(reply.is_none_or(|reply| reply.len() <= 20 + 200 * 18));
    }
}
