//! What handles tell of files and trackers, and in words.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::io::Read as _;
use std::net::TcpListener;

use common::{FILES, GUARD, LOCAL, Leecher, Payload, eventually, honest_seed, seed, session};
use engine::{AddOptions, FileMode, Gone, PriorityError};

#[test]
fn each_file_tells_where_it_is_how_much_of_it_is_here_and_how_it_is_open() {
    let payload = Payload::new();
    let (_seed, addr) = honest_seed(&payload);
    let leecher = Leecher::start(&payload, &[]);
    let files = leecher.torrent.files().unwrap();
    for (index, (file, (path, len))) in files.iter().zip(FILES).enumerate() {
        assert_eq!(file.path, leecher.dir.path().join("payload").join(path));
        assert_eq!((file.index, file.len, file.priority, file.done_len), (index, len as u64, 4, 0));
        assert_eq!(file.percent(), if len == 0 { 100.0 } else { 0.0 });
    }
    leecher.torrent.add_peer(addr).unwrap();
    leecher.complete(&payload);
    let files = leecher.torrent.files().unwrap();
    assert!(files.iter().all(|file| file.done_len == file.len && file.percent() == 100.0));
    assert!(files.iter().any(|file| file.mode == Some(FileMode::ReadWrite)), "{files:?}");
    leecher.torrent.stop().unwrap();
    let modes = || leecher.torrent.files().unwrap().into_iter().map(|file| file.mode);
    eventually("the files are closed", || modes().all(|mode| mode.is_none()));
}

#[test]
fn the_priority_of_a_file_can_be_changed_and_a_wrong_one_changes_nothing() {
    let payload = Payload::new();
    let leecher = Leecher::start(&payload, &[]);
    let priorities = || -> Vec<u8> {
        leecher.torrent.files().unwrap().iter().map(|file| file.priority).collect()
    };
    leecher.torrent.set_file_priority(4, 0).unwrap();
    leecher.torrent.set_file_priority(0, 7).unwrap();
    assert_eq!(priorities(), [7, 4, 4, 4, 0, 4]);
    eventually("less is wanted", || leecher.torrent.left() < payload.bytes.len() as u64);
    let no_file = PriorityError::NoFile { index: 6, files: 6 };
    assert_eq!(leecher.torrent.set_file_priority(6, 1), Err(no_file));
    assert_eq!(leecher.torrent.set_file_priority(0, 8), Err(PriorityError::TooHigh(8)));
    assert_eq!(priorities(), [7, 4, 4, 4, 0, 4]);
    leecher.torrent.remove().unwrap();
    assert_eq!(leecher.torrent.files(), Err(Gone));
    assert_eq!(leecher.torrent.set_file_priority(0, 1), Err(PriorityError::Gone(Gone)));
}

#[test]
fn a_tier_that_is_added_is_asked_at_once() {
    let payload = Payload::new();
    let leecher = Leecher::start(&payload, &[]);
    assert!(leecher.torrent.tiers().unwrap().is_empty());
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    leecher.torrent.add_tier(vec![url.clone()]).unwrap();
    leecher.torrent.add_tier(vec!["udp://127.0.0.1:9".to_owned(), url.clone()]).unwrap();
    leecher.torrent.add_tier(Vec::new()).unwrap();
    leecher.torrent.announce_now().unwrap();
    let tiers = leecher.torrent.tiers().unwrap();
    let urls: Vec<Vec<&str>> = tiers
        .iter()
        .map(|tier| tier.iter().map(|tracker| tracker.url.as_str()).collect())
        .collect();
    // The URL that was there already is left out.
    assert_eq!(urls, [[url.as_str()], ["udp://127.0.0.1:9"]]);
    let (mut stream, _) = listener.accept().unwrap();
    let mut asked = [0; 14];
    stream.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"GET /announce?");
}

#[test]
fn a_torrent_may_have_only_so_many_peers_if_it_is_told_so() {
    let payload = Payload::new();
    let (_seed, addr) = honest_seed(&payload);
    let options = AddOptions { peers: vec![addr], peers_max: Some(0), ..AddOptions::default() };
    let leecher = Leecher::with_options(&payload, options);
    assert_eq!(leecher.torrent.status().peers_max, Some(0));
    assert_eq!(leecher.torrent.status().peers_connected, 0);
    leecher.torrent.set_peers_max(None).unwrap();
    leecher.complete(&payload);
}

#[test]
fn everything_can_be_told_in_words_with_nothing_that_a_terminal_obeys() {
    let payload = Payload::new();
    let seeder = session(common::HONEST);
    let torrent = seed(&seeder, &payload);
    let leecher = Leecher::start(&payload, &[seeder.listen_addrs()[0]]);
    leecher.complete(&payload);
    leecher.torrent.add_tier(vec!["udp://127.0.0.1:9/\x1b".to_owned()]).unwrap();
    let session_text = format!("{seeder:#}");
    assert!(session_text.starts_with(&seeder.to_string()));
    for text in ["listens on  127.0.0.2:", "download    no limit", "payload, 201(STARTED|CHECKED|"]
    {
        assert!(session_text.contains(text), "{text:?} is not in {session_text}");
    }
    assert_eq!(torrent.to_string(), "payload");
    let text = format!("{:#}", leecher.torrent);
    let hash = torrent.info_hash().to_string();
    for part in [
        hash.as_str(),
        "seeding",
        "100.00% of what is wanted",
        "tier 1: udp://127.0.0.1:9/\u{fffd}, ",
        "payload/tiny, 10 bytes, priority 4, 100.00%, ",
        "[||||||",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'));
    let peer = torrent.peers().unwrap().pop();
    if let Some(peer) = peer {
        assert_eq!(peer.to_string(), peer.addr().to_string());
        assert!(format!("{peer:#}").starts_with(&peer.to_string()));
    }
    seeder.shutdown(GUARD);
    assert!(format!("{seeder:#}").ends_with("state       ended"));
    assert!(format!("{torrent:#}").starts_with("payload\n"));
}
