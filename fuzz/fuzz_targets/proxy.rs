//! What a proxy answers, and the datagrams that it hands on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::proxy::{Conversation, ProxyUrl, Target, datagram};

fuzz_target!(|bytes: &[u8]| {
    let target = Target::new("192.0.2.1", 6881).expect("valid");
    for url in ["socks5://a:b@c", "http://c"] {
        let proxy: ProxyUrl = url.parse().expect("valid");
        let mut conversation = Conversation::connect(&proxy, &target);
        if let Ok(used) = conversation.handle_bytes(bytes) {
            assert!(used <= bytes.len());
        }
    }
    if let Some((from, data)) = datagram::unwrap(bytes) {
        assert!(datagram::unwrap(&datagram::wrap(&from, data)).is_some());
    }
});
