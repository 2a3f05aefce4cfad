//! What is known of a torrent in a file of its own: saved, given back, and not believed when it should not
//! be.

#[expect(dead_code, reason = "each file of tests needs some of it")]
mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::{
    GUARD, LOCAL, Leecher, Payload, honest_seed, seed, session, wait_for, wait_for_state,
};
use engine::{AddOptions, EventKind, ResumeDataError, TorrentState};
use tempfile::TempDir;

#[test]
fn all_that_is_known_is_given_back_and_nothing_is_hashed() {
    let saved = Saved::new();
    let (events, torrent) = saved.back(AddOptions::default());
    assert_eq!(verdicts(&events), (0, 0), "{events:?}");
    assert!(torrent.is_complete());
    assert_eq!(torrent.status_word().bits(), 201);
    assert_eq!(torrent.downloaded(), saved.payload.bytes.len() as u64);
    let priorities: Vec<u8> = torrent.files().unwrap().iter().map(|file| file.priority).collect();
    assert_eq!(priorities, [4, 4, 4, 7, 4, 4]);
    assert_eq!(torrent.status().peers_known, 1);
}

#[test]
fn priorities_that_are_given_count_more_than_those_remembered() {
    let saved = Saved::new();
    let (_, torrent) = saved.back(AddOptions { priorities: vec![1; 6], ..AddOptions::default() });
    assert!(torrent.files().unwrap().iter().all(|file| file.priority == 1));
}

#[test]
fn pieces_of_a_file_of_another_time_or_size_are_hashed_again() {
    let saved = Saved::new();
    let whole = usize::try_from(saved.payload.piece_count()).unwrap();
    let file = File::options().write(true).open(saved.dir.path().join("payload/z")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    let (events, torrent) = saved.back(AddOptions::default());
    // One byte, in the last piece.
    assert_eq!(verdicts(&events), (1, 0));
    assert!(torrent.is_complete());
    file.set_len(2).unwrap();
    assert_eq!(verdicts(&saved.back(AddOptions::default()).0), (1, 0));
    fs::remove_dir_all(saved.dir.path().join("payload")).unwrap();
    let (events, torrent) = saved.back(AddOptions::default());
    assert_eq!(verdicts(&events), (0, whole));
    assert!(!torrent.is_complete());
}

#[test]
fn what_a_newer_version_wrote_is_refused_with_a_warning_and_all_is_hashed() {
    let saved = Saved::new();
    let mut bytes = fs::read(&saved.file).unwrap();
    // The version is the last entry.
    let at = bytes.len() - 3;
    bytes[at] = b'2';
    fs::write(&saved.file, bytes).unwrap();
    let (events, torrent) = saved.back(AddOptions::default());
    let refused = events.iter().find_map(|kind| match kind {
        EventKind::ResumeRefused { path, error } => Some((path, error)),
        _ => None,
    });
    let (path, error) = refused.expect("refused");
    assert_eq!((path, error.as_str()), (&saved.file, "a newer version of this program wrote it"));
    assert_eq!(verdicts(&events), (saved.payload.piece_count() as usize, 0));
    assert!(torrent.is_complete());
}

#[test]
fn the_file_before_is_kept_and_stands_in_for_one_that_is_damaged() {
    let saved = Saved::new();
    let (_, torrent) = saved.back(AddOptions::default());
    torrent.save_resume_data(&saved.file).unwrap();
    let before = saved.file.with_extension("resume.bak");
    assert!(before.is_file());
    fs::write(&saved.file, "d").unwrap();
    assert_eq!(verdicts(&saved.back(AddOptions::default()).0), (0, 0));
}

#[test]
fn nothing_is_saved_of_what_is_not_certain_and_a_file_that_cannot_be_written_is_named() {
    let payload = Payload::new();
    let session = session(LOCAL);
    let torrent = seed(&session, &payload);
    let nowhere = payload.dir.path().join("no/folder/t.resume");
    let error = torrent.save_resume_data(&nowhere).unwrap_err();
    assert!(matches!(&error, ResumeDataError::File { path, .. } if *path == nowhere), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.resume");
    let events = session.subscribe().unwrap();
    torrent.check_with(engine::CheckOptions { rate: Some(1), ..Default::default() }).unwrap();
    assert!(matches!(torrent.save_resume_data(&file), Err(ResumeDataError::InDoubt)));
    assert!(!file.exists());
    torrent.cancel_check().unwrap();
    wait_for_state(&events, &TorrentState::Downloading);
    torrent.save_resume_data(&file).unwrap();
    session.shutdown(GUARD);
    assert!(matches!(torrent.resume_data(), Err(ResumeDataError::Gone(_))));
}

/// A torrent that was downloaded, and the file that says so.
struct Saved {
    payload: Payload,
    dir: TempDir,
    file: PathBuf,
    _file_dir: TempDir,
}

impl Saved {
    fn new() -> Self {
        let payload = Payload::new();
        let (_seed, addr) = honest_seed(&payload);
        let leecher = Leecher::start(&payload, &[addr]);
        leecher.complete(&payload);
        leecher.torrent.set_file_priority(3, 7).unwrap();
        let file_dir = tempfile::tempdir().unwrap();
        let file = file_dir.path().join("t.resume");
        leecher.torrent.save_resume_data(&file).unwrap();
        leecher.session.shutdown(GUARD);
        Self { payload, dir: leecher.dir, file, _file_dir: file_dir }
    }

    /// Another session begins with it. Returns what happened until it was known what is there.
    fn back(&self, options: AddOptions) -> (Vec<EventKind>, engine::Torrent) {
        let session = session(LOCAL);
        let events = session.subscribe().unwrap();
        let dir: &Path = self.dir.path();
        let options =
            AddOptions { dir: dir.into(), resume_file: Some(self.file.clone()), ..options };
        let torrent = session.add(self.payload.metainfo.clone(), options).unwrap();
        let is_known = |kind: &EventKind| {
            matches!(
                kind,
                EventKind::StateChanged(TorrentState::Seeding | TorrentState::Downloading)
            )
        };
        let before = wait_for(&events, is_known);
        // The session lives as long as this process: its torrent is looked at.
        std::mem::forget(session);
        (before, torrent)
    }
}

/// How many pieces were found right, and how many wrong.
fn verdicts(events: &[EventKind]) -> (usize, usize) {
    let count = |is_it: fn(&EventKind) -> bool| events.iter().filter(|kind| is_it(kind)).count();
    (
        count(|kind| matches!(kind, EventKind::PieceVerified(_))),
        count(|kind| matches!(kind, EventKind::PieceFailed(_))),
    )
}
