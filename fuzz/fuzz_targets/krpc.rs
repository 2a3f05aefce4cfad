//! Datagrams of the DHT: what is read comes back, and a node survives whatever it is sent.

#![no_main]

use std::net::SocketAddr;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use torrent::Rng;
use torrent::dht::krpc::Message;
use torrent::dht::{Node, NodeConfig, Output, State};

fuzz_target!(|input: &[u8]| {
    if let Ok(message) = Message::decode(input) {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Ok(message));
    }
    State::decode(input);
    let now = Instant::now();
    let mut node = Node::new(NodeConfig::default(), now, Rng::from_seed(1), None);
    let from = SocketAddr::from(([9, 1, 2, 3], 6881));
    node.handle_datagram(now, from, input);
    let mut sent = 0;
    while let Some(output) = node.poll_output() {
        let Output::Send { to, bytes } = output else { continue };
        assert!(to == from && bytes.len() < 1500);
        sent += 1;
    }
    assert!(sent <= 1, "an amplifier");
});
