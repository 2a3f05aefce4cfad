//! How a torrent's pieces are chosen, told through its handle.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{HONEST, LOCAL, Payload, seed, session, wait_for};
use engine::{AddOptions, EventKind};
use torrent::swarm::{Offer, PieceSelector, Selector, SelectorKind};
use torrent::{PieceIndex, Rng};

/// Takes the last piece first, and counts how often it was asked.
#[derive(Debug)]
struct Backwards {
    asked: Arc<AtomicUsize>,
}

impl PieceSelector for Backwards {
    fn select(&mut self, offer: &Offer<'_>, _: &mut Rng) -> Option<PieceIndex> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        offer.pieces().last().map(|piece| piece.index)
    }
}

#[test]
fn a_selector_of_your_own_is_asked_also_after_a_check() {
    let payload = Payload::new();
    let (seeder, leecher) = (session(HONEST), session(LOCAL));
    let _seeding = seed(&seeder, &payload);
    let (dir, events) = (tempfile::tempdir().unwrap(), leecher.subscribe().unwrap());
    let options = AddOptions { dir: dir.path().into(), is_stopped: true, ..AddOptions::default() };
    let torrent = leecher.add(payload.metainfo.clone(), options).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let own = Backwards { asked: Arc::clone(&asked) };
    torrent.set_selector(Selector::Own(Box::new(own))).unwrap();
    torrent.check().unwrap();
    torrent.start().unwrap();
    torrent.add_peer(seeder.listen_addrs()[0]).unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    assert!(asked.load(Ordering::Relaxed) > 0);
    payload.assert_equals(dir.path());
}

#[test]
fn every_way_that_is_built_in_brings_all_files_also_with_one_slot() {
    let payload = Payload::new();
    let seeder = session(HONEST);
    let _seeding = seed(&seeder, &payload);
    for selector in SelectorKind::ALL {
        let leecher = session(LOCAL);
        let (dir, events) = (tempfile::tempdir().unwrap(), leecher.subscribe().unwrap());
        let options = AddOptions {
            dir: dir.path().into(),
            peers: seeder.listen_addrs().to_vec(),
            selector,
            upload_slots: Some(1),
            ..AddOptions::default()
        };
        leecher.add(payload.metainfo.clone(), options).unwrap();
        wait_for(&events, |kind| matches!(kind, EventKind::Completed));
        payload.assert_equals(dir.path());
    }
}
