//! Datagrams from UDP trackers: any of them leaves a conversation that goes on or has ended, once.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use torrent::tracker::{
    AnnounceEvent, AnnounceRequest, AnnouncedEncryption, TrackerRequest, UdpOutput, UdpTracker,
};
use torrent::{InfoHash, PeerId, Rng};

fuzz_target!(|input: (bool, bool, bool, &[u8])| {
    let (is_ipv6, is_scrape, is_connected, body) = input;
    let request = if is_scrape {
        TrackerRequest::Scrape(vec![InfoHash([1; 20]); 3])
    } else {
        TrackerRequest::Announce(Box::new(announce()))
    };
    let now = Instant::now();
    let mut tracker = UdpTracker::new(now, Rng::from_seed(1), request, is_ipv6, b"/a".to_vec());
    let mut transaction_id = sent(&mut tracker);
    if is_connected {
        tracker.handle_datagram(now, &[&[0; 4][..], &transaction_id, &[7; 8]].concat());
        transaction_id = sent(&mut tracker);
    }
    // As it is, then as an answer to what was asked: action, transaction id, the rest.
    tracker.handle_datagram(now, body);
    if let Some((action, rest)) = body.split_first_chunk::<4>() {
        tracker.handle_datagram(now, &[&action[..], &transaction_id, rest].concat());
    }
    match tracker.poll_output() {
        Some(UdpOutput::Announced(reply)) => {
            assert!(is_connected && !is_scrape && reply.peers.len() <= 2000);
            assert!(reply.peers.iter().all(|peer| peer.is_ipv6() == is_ipv6));
        }
        Some(UdpOutput::Scraped(entries)) => {
            assert!(is_connected && is_scrape && entries.len() <= 3);
        }
        Some(UdpOutput::Transmit(_)) => {
            assert!(!is_connected && tracker.poll_timeout().is_some());
            return;
        }
        Some(UdpOutput::Failed(_)) => {}
        None => return assert!(tracker.poll_timeout().is_some(), "it still waits"),
    }
    assert_eq!((tracker.poll_output(), tracker.poll_timeout()), (None, None));
});

/// The transaction id of the datagram that goes out.
fn sent(tracker: &mut UdpTracker) -> [u8; 4] {
    let Some(UdpOutput::Transmit(datagram)) = tracker.poll_output() else { panic!("a datagram") };
    datagram[12..16].try_into().expect("four bytes")
}

fn announce() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        port: 6881,
        uploaded: 3,
        downloaded: 4,
        left: 5,
        event: AnnounceEvent::Started,
        numwant: None,
        key: 7,
        tracker_id: None,
        encryption: AnnouncedEncryption::None,
    }
}
