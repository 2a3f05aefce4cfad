//! Messages of the holepunch extension: what was understood of one encodes to one that says the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::wire::HolepunchMessage;

fuzz_target!(|payload: &[u8]| {
    if let Ok(message) = HolepunchMessage::decode(payload) {
        assert_eq!(HolepunchMessage::decode(&message.encode()), Ok(message));
    }
});
