//! Datagrams of local service discovery: bounded, and what was understood of one encodes to one that says the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::lsd::{Announcement, GROUP_V4};

fuzz_target!(|datagram: &[u8]| {
    let Some(read) = Announcement::decode(datagram) else { return };
    assert!(read.port != 0 && (1..=Announcement::HASHES_MAX).contains(&read.info_hashes.len()));
    assert_eq!(Announcement::decode(&read.encode(GROUP_V4.into())), Some(read));
});
