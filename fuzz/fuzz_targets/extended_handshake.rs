//! The extension handshake: what was understood of one encodes to one that says the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::wire::ExtendedHandshake;

fuzz_target!(|payload: &[u8]| {
    let Ok(hello) = ExtendedHandshake::decode(payload) else { return };
    if let Some(name) = &hello.v {
        assert!(name.chars().count() <= 64 && !name.contains(char::is_control), "{name:?}");
    }
    assert_ne!(hello.p, Some(0));
    assert_eq!(ExtendedHandshake::decode(&hello.encode()), Ok(hello));
});
