//! A disk that fills up, files that change or vanish behind our back: the torrent stops with a reason
//! that names the file, keeps what it has, and goes on when it is told to.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{
    LOCAL, Leecher, Payload, RawPeer, assert_serves, eventually, honest_seed, hostile_door,
    session, wait_for, wait_for_failure, wait_for_state,
};
use engine::{AddOptions, EventKind, Session, Torrent, TorrentState};
use torrent::swarm::SelectorKind;
use torrent::wire::{Message, Reserved};
use torrent::{Block, PieceIndex};

/// A file system in memory, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` for those who may not mount.
    fn mount(dir: &Path, size: &str) -> Option<Self> {
        let path = dir.join("small");
        fs::create_dir(&path).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&path);
        command.output().ok()?.status.success().then_some(Self(path))
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "remount with {options}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

/// Copies the payload's files into `dir`.
fn copy_files(payload: &Payload, dir: &Path) {
    for (path, _) in common::FILES {
        let to = dir.join("payload").join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(payload.dir.path().join("payload").join(path), to).unwrap();
    }
}

fn verified(events: &[EventKind]) -> Vec<PieceIndex> {
    let mut pieces: Vec<PieceIndex> = events
        .iter()
        .filter_map(|kind| match kind {
            EventKind::PieceVerified(piece) => Some(*piece),
            _ => None,
        })
        .collect();
    pieces.sort_unstable();
    pieces
}

/// A torrent that was complete when it was added, from a folder of its own.
fn seed_from(session: &Session, payload: &Payload, dir: &Path) -> Torrent {
    let events = session.subscribe().unwrap();
    let options = AddOptions { dir: dir.into(), ..AddOptions::default() };
    let torrent = session.add(payload.metainfo.clone(), options).unwrap();
    wait_for_state(&events, &TorrentState::Seeding);
    torrent
}

#[test]
fn a_full_disk_stops_the_torrent_until_there_is_space_and_nothing_verified_is_lost() {
    let (payload, dir) = (Payload::new(), tempfile::tempdir().unwrap());
    let Some(disk) = SmallDisk::mount(dir.path(), "1200k") else { return };
    let (_honest, honest) = honest_seed(&payload);
    let leecher = session(LOCAL);
    let events = leecher.subscribe().unwrap();
    let options = AddOptions { dir: disk.0.clone(), peers: vec![honest], ..AddOptions::default() };
    let torrent = leecher.add(payload.metainfo.clone(), options).unwrap();
    let before = wait_for(&events, |kind| matches!(kind, EventKind::DiskFailed(_)));
    let why = failure_of(&torrent);
    assert!(why.contains("no space left for") && why.contains("small/payload/"), "{why}");
    torrent.start().unwrap();
    assert!(failure_of(&torrent).contains("no space left for"));
    disk.remount("size=8m");
    torrent.start().unwrap();
    // The last check found all that came before the first failure, and only the rest is fetched.
    let after = wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    let is_begin =
        |kind: &EventKind| matches!(kind, EventKind::StateChanged(TorrentState::Downloading));
    let fetched = verified(&after[after.iter().rposition(is_begin).unwrap()..]);
    let before = verified(&before);
    assert!(!before.is_empty() && before.iter().all(|piece| !fetched.contains(piece)));
    payload.assert_equals(&disk.0);
    leecher.shutdown(common::GUARD);
}

/// Why the torrent stands still, once it does.
fn failure_of(torrent: &Torrent) -> String {
    let mut failure = None;
    eventually("it fails", || {
        if let TorrentState::Failed(why) = &torrent.status().state {
            failure = Some(why.clone());
        }
        failure.is_some()
    });
    failure.unwrap()
}

#[test]
fn a_file_system_that_is_read_only_stops_the_torrent() {
    let (payload, dir) = (Payload::new(), tempfile::tempdir().unwrap());
    let Some(disk) = SmallDisk::mount(dir.path(), "8m") else { return };
    let leecher = session(LOCAL);
    let events = leecher.subscribe().unwrap();
    let (_honest, honest) = honest_seed(&payload);
    disk.remount("ro");
    let options = AddOptions { dir: disk.0.clone(), peers: vec![honest], ..AddOptions::default() };
    let torrent = leecher.add(payload.metainfo.clone(), options).unwrap();
    let why = wait_for_failure(&events);
    assert!(why.contains("not allowed to use") && why.contains("small/payload"), "{why}");
    disk.remount("rw");
    torrent.start().unwrap();
    wait_for(&events, |kind| matches!(kind, EventKind::Completed));
    payload.assert_equals(&disk.0);
    leecher.shutdown(common::GUARD);
}

fn serve(peer: &mut RawPeer, payload: &Payload, block: Block) {
    let Block { piece, offset, .. } = block;
    // It may have hung up.
    peer.send(&[Message::Piece { piece, offset, data: payload.block(block) }]).ok();
}

#[test]
fn a_download_folder_that_is_removed_stops_the_torrent() {
    let payload = Payload::new();
    let (door, hostile) = hostile_door();
    let options = AddOptions {
        peers: vec![hostile],
        selector: SelectorKind::Linear,
        ..AddOptions::default()
    };
    let leecher = Leecher::with_options(&payload, options);
    // Some of the longest file is there then, and more of it is to come.
    let mut peer = RawPeer::accept(&door, payload.metainfo.info_hash(), Reserved::ours());
    peer.send(&[Message::HaveAll, Message::Unchoke]).unwrap();
    for _ in 0..80 {
        let block = peer.receive_request().unwrap();
        serve(&mut peer, &payload, block);
    }
    let is_nineteenth = |kind: &EventKind| matches!(kind, EventKind::PieceVerified(PieceIndex(18)));
    wait_for(&leecher.events, is_nineteenth);
    fs::remove_dir_all(leecher.dir.path()).unwrap();
    while let Some(block) = peer.receive_request() {
        serve(&mut peer, &payload, block);
    }
    let why = wait_for_failure(&leecher.events);
    // Which name is in it depends on which file was open.
    let dir = leecher.dir.path().display().to_string();
    assert!(why.contains("is gone") && why.contains(&dir), "{why}");
    let (_honest, honest) = honest_seed(&payload);
    leecher.torrent.add_peer(honest).unwrap();
    leecher.torrent.start().unwrap();
    leecher.complete(&payload);
}

#[test]
fn a_file_cut_short_under_a_seed_stops_it_and_is_fetched_again() {
    let (payload, dir) = (Payload::new(), tempfile::tempdir().unwrap());
    copy_files(&payload, dir.path());
    let seeder = session(LOCAL);
    let events = seeder.subscribe().unwrap();
    let torrent = seed_from(&seeder, &payload, dir.path());
    let file = dir.path().join("payload/b/c/d.bin");
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(700_000).unwrap();
    let leecher = Leecher::start(&payload, &[seeder.listen_addrs()[0]]);
    let why = wait_for_failure(&events);
    assert!(why.contains("is shorter than it should be") && why.contains("d.bin"), "{why}");
    let (_honest, honest) = honest_seed(&payload);
    torrent.add_peer(honest).unwrap();
    torrent.start().unwrap();
    wait_for_state(&events, &TorrentState::Seeding);
    payload.assert_equals(dir.path());
    leecher.torrent.add_peer(honest).unwrap();
    let seen = leecher.complete(&payload);
    assert!(!seen.iter().any(|kind| matches!(kind, EventKind::PieceFailed(_))), "{seen:?}");
    assert_serves(&payload, seeder.listen_addrs()[0]);
}

#[test]
fn something_in_the_way_of_a_file_or_folder_stops_the_download_until_it_is_moved() {
    for (obstacle, is_folder, why) in
        [("payload/a.bin", true, "it is not a file"), ("payload", false, "it is not a folder")]
    {
        let (payload, dir) = (Payload::new(), tempfile::tempdir().unwrap());
        let obstacle = dir.path().join(obstacle);
        if is_folder {
            fs::create_dir_all(&obstacle).unwrap();
        } else {
            fs::write(&obstacle, "").unwrap();
        }
        let (_honest, honest) = honest_seed(&payload);
        let leecher = session(LOCAL);
        let events = leecher.subscribe().unwrap();
        let options =
            AddOptions { dir: dir.path().into(), peers: vec![honest], ..AddOptions::default() };
        let torrent = leecher.add(payload.metainfo.clone(), options).unwrap();
        let told = wait_for_failure(&events);
        let name = obstacle.display().to_string();
        assert!(told.contains(why) && told.contains(&name), "{told}");
        if is_folder {
            fs::remove_dir(&obstacle).unwrap();
        } else {
            fs::remove_file(&obstacle).unwrap();
        }
        torrent.start().unwrap();
        wait_for(&events, |kind| matches!(kind, EventKind::Completed));
        payload.assert_equals(dir.path());
        leecher.shutdown(common::GUARD);
    }
}

#[test]
fn a_check_that_failed_is_done_anew_after_a_resume_and_finds_everything() {
    let (payload, dir) = (Payload::new(), tempfile::tempdir().unwrap());
    copy_files(&payload, dir.path());
    let (file, aside) = (dir.path().join("payload/b/c/d.bin"), dir.path().join("aside"));
    fs::rename(&file, &aside).unwrap();
    fs::create_dir(&file).unwrap();
    let seeder = session(LOCAL);
    let events = seeder.subscribe().unwrap();
    let options = AddOptions { dir: dir.path().into(), ..AddOptions::default() };
    let torrent = seeder.add(payload.metainfo.clone(), options).unwrap();
    let why = wait_for_failure(&events);
    assert!(why.contains("d.bin is in the way"), "{why}");
    // Impatience does no harm, whatever the disk threads still do for the check before.
    for _ in 0..200 {
        torrent.start().unwrap();
        torrent.stop().unwrap();
    }
    torrent.start().unwrap();
    failure_of(&torrent);
    fs::remove_dir(&file).unwrap();
    fs::rename(&aside, &file).unwrap();
    torrent.start().unwrap();
    wait_for_state(&events, &TorrentState::Seeding);
    assert_serves(&payload, seeder.listen_addrs()[0]);
}

#[test]
fn a_file_replaced_by_a_folder_under_a_seed_stops_it() {
    let (payload, dir) = (Payload::new(), tempfile::tempdir().unwrap());
    copy_files(&payload, dir.path());
    let seeder = session(LOCAL);
    let events = seeder.subscribe().unwrap();
    let torrent = seed_from(&seeder, &payload, dir.path());
    let file = dir.path().join("payload/b/c/d.bin");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let _leecher = Leecher::start(&payload, &[seeder.listen_addrs()[0]]);
    let why = wait_for_failure(&events);
    assert!(why.contains("d.bin"), "{why}");
    fs::remove_dir(&file).unwrap();
    let (_honest, honest) = honest_seed(&payload);
    torrent.add_peer(honest).unwrap();
    torrent.start().unwrap();
    wait_for_state(&events, &TorrentState::Seeding);
    payload.assert_equals(dir.path());
}
