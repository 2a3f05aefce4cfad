//! Magnet links: what was understood of one is written as a link that says the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::Magnet;

fuzz_target!(|text: &str| {
    let Ok(magnet) = text.parse::<Magnet>() else { return };
    assert!(magnet.info_hashes.v1.is_some() || magnet.info_hashes.v2.is_some());
    assert_eq!(magnet.to_string().parse(), Ok(magnet));
});
