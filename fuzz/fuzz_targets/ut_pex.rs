//! Messages of peer exchange: bounded, and what was understood of one encodes to one that says the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::wire::ExchangeMessage;

fuzz_target!(|payload: &[u8]| {
    let Ok(message) = ExchangeMessage::decode(payload) else { return };
    assert!(message.added.len() <= ExchangeMessage::PEERS_MAX);
    assert!(message.dropped.len() <= ExchangeMessage::PEERS_MAX);
    assert_eq!(ExchangeMessage::decode(&message.encode()), Ok(message));
});
