//! Replies of HTTP trackers: bounded, and safe to show.

#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::tracker::TrackerFault;
use torrent::tracker::http::{parse_announce, parse_scrape};

fuzz_target!(|body: &[u8]| {
    match parse_announce(body) {
        Ok(reply) => {
            assert!(reply.peers.len() <= 2000);
            if let Some(warning) = &reply.warning {
                assert_showable(warning);
            }
        }
        Err(TrackerFault::Refused(reason)) => assert_showable(&reason),
        Err(_) => {}
    }
    if let Ok(entries) = parse_scrape(body) {
        assert!(entries.is_sorted_by(|(a, _), (b, _)| a < b), "no torrent twice");
    }
});

fn assert_showable(text: &str) {
    assert!(text.chars().count() <= 200 && !text.contains(char::is_control), "{text:?}");
}
