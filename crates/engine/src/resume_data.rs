//! What is known of one torrent in a file of its own, for programs that keep no database: which pieces
//! are here, how the files looked, what was sent and received, where peers were, what is wanted.
//!
//! A bencoded dictionary with a version. What it says is believed only as far as the files still look
//! as they did: [`trusted`](crate::resume::trusted).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use reactor::Reactor;
use torrent::InfoHash;
use torrent::bencode::{self, OwnedValue, Value};
use torrent::metainfo::Metainfo;

use crate::engine::Engine;
use crate::event::EventKind;
use crate::resume::ResumeRecord;
use crate::session::Gone;
use crate::task::{Stage, Task, TaskId};
use crate::torrent_handle::Torrent;

/// Why resume data could not be had, or not be saved.
#[derive(Debug, thiserror::Error)]
pub enum ResumeDataError {
    /// What is here of it is not certain.
    #[error(
        "it is not certain what is here: ask again when the check is over, or start it if its disk failed"
    )]
    InDoubt,
    /// The disk does not take what was downloaded; the torrent has failed.
    #[error("{0}")]
    Disk(String),
    /// The file cannot be written; the one before is untouched.
    #[error("cannot write {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The session has ended, or the torrent was removed from it.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// Waits for resume data; it is told once.
pub(crate) type Asker = Sender<Result<Vec<u8>, ResumeDataError>>;

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResumeData {
    pub(crate) record: ResumeRecord,
    /// One for each file; empty: all are usual.
    pub(crate) priorities: Vec<u8>,
}

/// Why what a file says is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is damaged, or no resume data")]
    Damaged,
    #[error("a newer version of this program wrote it")]
    Newer,
    #[error("it is that of another torrent, {0}")]
    OtherTorrent(InfoHash),
}

impl Torrent {
    /// What is known of it, to be given back by [`AddOptions::resume_file`](crate::AddOptions::resume_file). Waits until
    /// everything that was downloaded is safe on the disk.
    ///
    /// # Errors
    /// [`ResumeDataError`]; also during a check.
    pub fn resume_data(&self) -> Result<Vec<u8>, ResumeDataError> {
        let (sender, receiver) = channel();
        self.tell(|engine, id, reactor| engine.ask_for_resume_data(id, sender, reactor))?;
        receiver.recv().map_err(|_gone| Gone)?
    }

    /// Writes [`resume_data`](Self::resume_data) to a file: beside it first, so that it is there whole or not at
    /// all. The file before is kept as `.bak`.
    ///
    /// # Errors
    /// [`ResumeDataError`]; then the file is as it was.
    pub fn save_resume_data(&self, path: impl AsRef<Path>) -> Result<(), ResumeDataError> {
        let (path, data) = (path.as_ref(), self.resume_data()?);
        replace(path, &data)
            .map_err(|source| ResumeDataError::File { path: path.to_owned(), source })
    }
}

impl Engine {
    fn ask_for_resume_data(&mut self, id: TaskId, asker: Asker, reactor: &mut Reactor<Self>) {
        // Of one that was removed the asker is dropped, which tells as much.
        if let Some(task) = self.tasks.get_mut(&id).filter(|task| !task.is_leaving) {
            task.resume_askers.push(asker);
            self.save(id, reactor);
        }
    }
}

impl Task {
    /// Whether nothing should be written down of what is here.
    pub(crate) const fn is_in_doubt(&self) -> bool {
        match self.stage {
            Stage::Opening | Stage::Fetching | Stage::Checking(_) | Stage::Failed(_) => true,
            Stage::Ended { is_in_doubt } => is_in_doubt,
            Stage::Running | Stage::Stopped { .. } => false,
        }
    }
}

/// What a file says of a torrent; if it is missing or damaged, what the one kept of before says. What
/// cannot be used is told by an event to `tell`. Blocks.
pub(crate) fn load(
    path: &Path,
    metainfo: &Metainfo,
    tell: impl Fn(&EventKind),
) -> Option<ResumeData> {
    let refuse = |path: &Path, why: &Unusable| {
        tracing::warn!(path = %path.display(), %why, "what is on disk is looked at instead");
        tell(&EventKind::ResumeRefused { path: path.to_owned(), error: why.to_string() });
    };
    match read(path, metainfo) {
        Ok(data) => return Some(data),
        // It is the first run.
        Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Err(why @ (Unusable::Io(_) | Unusable::Damaged)) => refuse(path, &why),
        Err(why @ (Unusable::Newer | Unusable::OtherTorrent(_))) => {
            refuse(path, &why);
            return None;
        }
    }
    let before = beside(path, ".bak");
    match read(&before, metainfo) {
        Ok(data) => Some(data),
        Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound => None,
        Err(why) => {
            refuse(&before, &why);
            None
        }
    }
}

fn read(path: &Path, metainfo: &Metainfo) -> Result<ResumeData, Unusable> {
    // A pipe would have us wait for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(Unusable::Damaged);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LEN_MAX).read_to_end(&mut bytes)?;
    ResumeData::decode(&bytes, metainfo)
}

impl ResumeData {
    pub(crate) fn encode(info_hash: InfoHash, priorities: &[u8], record: &[u8]) -> Vec<u8> {
        let entries: [(&str, OwnedValue); 5] = [
            ("format", OwnedValue::from(FORMAT)),
            ("info hash", OwnedValue::Bytes(info_hash.0.to_vec())),
            ("priorities", OwnedValue::Bytes(priorities.to_vec())),
            ("record", OwnedValue::Bytes(record.to_vec())),
            ("version", OwnedValue::Integer(VERSION)),
        ];
        let dict: BTreeMap<Vec<u8>, OwnedValue> =
            entries.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value)).collect();
        bencode::encode(&OwnedValue::Dict(dict))
    }

    fn decode(bytes: &[u8], metainfo: &Metainfo) -> Result<Self, Unusable> {
        let value = bencode::decode(bytes).ok();
        let dict = value.as_ref().and_then(Value::as_dict).ok_or(Unusable::Damaged)?;
        let bytes_of =
            |key: &[u8]| dict.get(key).and_then(Value::as_bytes).ok_or(Unusable::Damaged);
        if bytes_of(b"format")? != FORMAT.as_bytes() {
            return Err(Unusable::Damaged);
        }
        match dict.get(b"version").and_then(Value::as_integer) {
            Some(VERSION) => {}
            Some(version) if version > VERSION => return Err(Unusable::Newer),
            Some(_) | None => return Err(Unusable::Damaged),
        }
        let info_hash = bytes_of(b"info hash")?.try_into().map_err(|_short| Unusable::Damaged)?;
        if InfoHash(info_hash) != metainfo.info_hash() {
            return Err(Unusable::OtherTorrent(InfoHash(info_hash)));
        }
        let priorities = bytes_of(b"priorities")?.to_vec();
        if !priorities.is_empty() && priorities.len() != metainfo.layout().files().len() {
            return Err(Unusable::Damaged);
        }
        let record = ResumeRecord::decode(bytes_of(b"record")?).ok_or(Unusable::Damaged)?;
        Ok(Self { record, priorities })
    }
}

/// Replaces a file at once, and keeps the one before.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Two threads may save the same torrent.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let aside = beside(path, ".new");
    let mut file = File::create(&aside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // The first error is the one to tell.
        fs::remove_file(&aside).ok();
        return Err(error);
    }
    match fs::rename(path, beside(path, ".bak")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::rename(&aside, path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

const FORMAT: &str = "Flotilla resume data";
const VERSION: i64 = 1;
/// A torrent of a million files needs less.
const LEN_MAX: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use torrent::metainfo::create::Builder;
    use torrent::{Bitfield, PieceIndex, Rng};

    use super::*;

    fn metainfo(name: &str) -> Metainfo {
        let files = vec![(vec![b"a".to_vec()], 16_384), (vec![b"b".to_vec()], 100)];
        let piece_len = Some(16_384);
        let builder = Builder { name: name.into(), files, piece_len, ..Builder::default() };
        Metainfo::parse(&builder.finish(&[[1; 20], [2; 20]]).expect("fits")).expect("valid")
    }

    fn record() -> ResumeRecord {
        let mut bits = Bitfield::none(2);
        bits.set(PieceIndex(1));
        ResumeRecord {
            dir: "/some/where".into(),
            bits,
            stamps: vec![None, None],
            downloaded: 3,
            uploaded: 4,
            peers: vec!["10.0.0.1:1".parse().expect("valid")],
        }
    }

    fn bytes() -> Vec<u8> {
        ResumeData::encode(metainfo("t").info_hash(), &[0, 7], &record().encode())
    }

    fn newer() -> Vec<u8> {
        let mut bytes = bytes();
        // The version is the last entry.
        let at = bytes.len() - 3;
        bytes[at] = b'2';
        bytes
    }

    #[test]
    fn what_was_written_is_read() {
        let data = ResumeData::decode(&bytes(), &metainfo("t")).expect("readable");
        assert_eq!(data, ResumeData { record: record(), priorities: vec![0, 7] });
    }

    #[test]
    fn what_is_newer_or_of_another_torrent_is_refused_and_says_so() {
        assert!(matches!(ResumeData::decode(&newer(), &metainfo("t")), Err(Unusable::Newer)));
        let other = ResumeData::decode(&bytes(), &metainfo("u"));
        assert!(matches!(other, Err(Unusable::OtherTorrent(_))));
    }

    #[test]
    fn noise_is_refused_without_a_panic() {
        let (bytes, metainfo) = (bytes(), metainfo("t"));
        for seed in 0..2000 {
            let mut rng = Rng::from_seed(seed);
            let mut mangled = bytes.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(mangled.len());
                mangled[at] = rng.u32() as u8;
            }
            mangled.truncate(rng.below(2 * mangled.len()));
            // It may be something else, but must not panic.
            drop(ResumeData::decode(&mangled, &metainfo));
        }
    }

    #[test]
    fn the_file_before_is_kept_and_used_if_the_new_one_is_damaged_but_not_if_it_is_newer() {
        let (dir, metainfo) = (tempfile::tempdir().expect("a folder"), metainfo("t"));
        let path = dir.path().join("t.resume");
        let loaded = |refused: usize| {
            let count = std::cell::Cell::new(0);
            let data = load(&path, &metainfo, |_| count.set(count.get() + 1));
            assert_eq!(count.get(), refused);
            data
        };
        assert!(loaded(0).is_none());
        replace(&path, &bytes()).expect("written");
        assert!(loaded(0).is_some());
        replace(&path, b"junk").expect("written");
        assert!(loaded(1).is_some());
        fs::remove_file(&path).expect("removed");
        assert!(loaded(0).is_some());
        fs::write(&path, newer()).expect("written");
        assert!(loaded(1).is_none());
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        fs::remove_file(beside(&path, ".bak")).expect("removed");
        assert!(loaded(1).is_none());
        assert!(!beside(&path, ".new").exists());
    }
}
