//! Streams that begin encrypted connections, to either end: both stay within bounds and agree with nobody
//! who does not know the torrent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::mse::{Initiator, Method, Output, Responder, Secret, SkeyTable};
use torrent::{InfoHash, Rng};

const METHODS: &[Method] = &[Method::Rc4, Method::Plaintext];

fuzz_target!(|input: (bool, Vec<&[u8]>)| {
    let (is_initiator, parts) = input;
    let torrent = InfoHash([1; 20]);
    let secret = Secret::new([2; 20]);
    let mut torrents = SkeyTable::default();
    torrents.insert(torrent);
    let mut sent = 0;
    let mut take = |output: Output| match output {
        Output::Send(bytes) => sent += bytes.len(),
        Output::Established(_) => panic!("nobody knows the torrent"),
    };
    if is_initiator {
        let mut end = Initiator::new(secret, torrent, METHODS, vec![3; 68], Rng::from_seed(1));
        for part in parts {
            let is_over = end.handle_bytes(part).is_err();
            while let Some(output) = end.poll_output() {
                take(output);
            }
            if is_over {
                break;
            }
        }
    } else {
        let mut end = Responder::new(secret, METHODS, Rng::from_seed(1));
        for part in parts {
            let is_over = end.handle_bytes(part, &torrents).is_err();
            while let Some(output) = end.poll_output() {
                take(output);
            }
            if is_over {
                break;
            }
        }
    }
    assert!(sent <= 2 * (96 + 512) + 200);
});
