//! Messages of `ut_metadata`: what was understood of one encodes to one that says the same.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use torrent::wire::MetadataMessage;

fuzz_target!(|payload: &[u8]| {
    let Ok(Some(message)) = MetadataMessage::decode(&Bytes::copy_from_slice(payload)) else { return };
    assert_eq!(MetadataMessage::decode(&message.encode().into()), Ok(Some(message)));
});
