//! What is remembered of each torrent between runs: a record a torrent, in one database file.
//!
//! A record is a bencoded dictionary with a version. What it says is believed only as far as the disk
//! agrees: see [`trusted`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use torrent::bencode::{self, OwnedValue, Value};
use torrent::metainfo::FileLayout;
use torrent::{Bitfield, InfoHash, PieceIndex, compact};

use crate::disk::FileStamp;

/// The database of a state directory. It is open only while it is read or written, so that several
/// processes may share the directory.
#[derive(Debug)]
pub struct ResumeStore {
    dir: PathBuf,
    /// Held while this process has the database open.
    turn: Mutex<()>,
}

/// One torrent, as it was when last saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeRecord {
    /// The folder that its files are in.
    pub dir: PathBuf,
    /// The pieces that were verified.
    pub bits: Bitfield,
    /// How each file looked; `None` if it was not there.
    pub stamps: Vec<Option<FileStamp>>,
    /// Payload from peers, in bytes, over all runs.
    pub downloaded: u64,
    /// Payload to peers, in bytes, over all runs.
    pub uploaded: u64,
    /// Where peers were; at most 200.
    pub peers: Vec<SocketAddr>,
}

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// Another process holds on to it.
    #[error("the state in {dir} is in use by another process for too long")]
    InUse {
        /// The state directory.
        dir: PathBuf,
    },
    /// The folder cannot be made or written.
    #[error("cannot use the state directory {dir}: {why}")]
    Folder {
        /// The state directory.
        dir: PathBuf,
        /// What the system says.
        why: String,
    },
    /// The database fails.
    #[error("the state database: {0}")]
    Database(String),
    /// A record is of a newer version, or does not make sense.
    #[error("what is remembered of {0} cannot be used")]
    BadRecord(InfoHash),
}

impl From<redb::Error> for ResumeError {
    fn from(error: redb::Error) -> Self {
        Self::Database(error.to_string())
    }
}

impl ResumeStore {
    /// Makes the state directory and its database if they are not there, and looks whether they are
    /// of use. A database that is damaged is moved aside, never deleted.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn open(dir: &Path) -> Result<Self, ResumeError> {
        let store = Self { dir: dir.to_owned(), turn: Mutex::new(()) };
        let folder = |error| store.folder_error(&error);
        std::fs::create_dir_all(dir).map_err(folder)?;
        store.with(|_| Ok(()))?;
        restrict(&dir.join(FILE_NAME)).map_err(folder)?;
        Ok(store)
    }

    fn folder_error(&self, error: &std::io::Error) -> ResumeError {
        ResumeError::Folder { dir: self.dir.clone(), why: error.to_string() }
    }

    /// Has `job` work on the database, once no other thread or process does.
    fn with<T>(
        &self,
        job: impl FnOnce(&Database) -> Result<T, ResumeError>,
    ) -> Result<T, ResumeError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.dir.join(FILE_NAME);
        let open = || Database::builder().set_cache_size(CACHE_LEN).create(&path);
        for _ in 0..TRIES_MAX {
            let database = match open() {
                Ok(database) => database,
                Err(DatabaseError::DatabaseAlreadyOpen) => {
                    std::thread::sleep(RETRY_AFTER);
                    continue;
                }
                Err(DatabaseError::Storage(redb::StorageError::Io(error)))
                    if error.kind() != std::io::ErrorKind::InvalidData =>
                {
                    return Err(self.folder_error(&error));
                }
                Err(error) => {
                    let aside = aside(&self.dir);
                    tracing::warn!(%error, aside = %aside.display(), "the state database is damaged; it is moved aside");
                    std::fs::rename(&path, &aside).map_err(|error| self.folder_error(&error))?;
                    open().map_err(|error| ResumeError::Database(error.to_string()))?
                }
            };
            return job(&database);
        }
        Err(ResumeError::InUse { dir: self.dir.clone() })
    }

    /// What is remembered of a torrent.
    ///
    /// # Errors
    /// If the database fails, or the record cannot be used.
    pub fn load(&self, info_hash: &InfoHash) -> Result<Option<ResumeRecord>, ResumeError> {
        self.with(|database| {
            let Some(table) = table(database)? else { return Ok(None) };
            let Some(bytes) = table.get(&info_hash.0).map_err(redb::Error::from)? else {
                return Ok(None);
            };
            ResumeRecord::decode(bytes.value()).map(Some).ok_or(ResumeError::BadRecord(*info_hash))
        })
    }

    /// The torrents that are remembered.
    ///
    /// # Errors
    /// If the database fails.
    pub fn list(&self) -> Result<Vec<InfoHash>, ResumeError> {
        self.with(|database| {
            let Some(table) = table(database)? else { return Ok(Vec::new()) };
            let rows = table.iter().map_err(redb::Error::from)?;
            rows.map(|row| Ok(InfoHash(row.map_err(redb::Error::from)?.0.value()))).collect()
        })
    }

    /// Remembers a torrent; all of it or, if the machine dies meanwhile, what was remembered before.
    ///
    /// # Errors
    /// If the database fails.
    pub fn save(&self, info_hash: &InfoHash, record: &ResumeRecord) -> Result<(), ResumeError> {
        self.change(|table| table.insert(&info_hash.0, record.encode().as_slice()).map(drop))
    }

    /// Forgets a torrent.
    ///
    /// # Errors
    /// If the database fails.
    pub fn remove(&self, info_hash: &InfoHash) -> Result<(), ResumeError> {
        self.change(|table| table.remove(&info_hash.0).map(drop))
    }

    fn change(
        &self,
        change: impl FnOnce(
            &mut redb::Table<'_, [u8; 20], &'static [u8]>,
        ) -> Result<(), redb::StorageError>,
    ) -> Result<(), ResumeError> {
        self.with(|database| {
            let transaction = database.begin_write().map_err(redb::Error::from)?;
            let mut table = transaction.open_table(TORRENTS).map_err(redb::Error::from)?;
            change(&mut table).map_err(redb::Error::from)?;
            drop(table);
            transaction.commit().map_err(redb::Error::from)?;
            Ok(())
        })
    }
}

type Rows = redb::ReadOnlyTable<[u8; 20], &'static [u8]>;

/// The table, for reading; `None` if nothing was ever saved.
fn table(database: &Database) -> Result<Option<Rows>, ResumeError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
    match transaction.open_table(TORRENTS) {
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        other => Ok(Some(other.map_err(redb::Error::from)?)),
    }
}

impl ResumeRecord {
    fn encode(&self) -> Vec<u8> {
        let number = |number: u64| OwnedValue::Integer(i64::try_from(number).unwrap_or(i64::MAX));
        let stamp = |stamp: &Option<FileStamp>| match stamp {
            Some(stamp) => OwnedValue::List(vec![
                number(stamp.len),
                OwnedValue::Bytes(stamp.mtime_ns.to_string().into()),
            ]),
            None => OwnedValue::List(Vec::new()),
        };
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        self.peers.iter().take(PEERS_MAX).for_each(|addr| compact::append(*addr, &mut v4, &mut v6));
        let entries: [(&str, OwnedValue); 9] = [
            ("bits", OwnedValue::Bytes(self.bits.as_bytes().to_vec())),
            ("dir", OwnedValue::Bytes(path_bytes(&self.dir))),
            ("downloaded", number(self.downloaded)),
            ("peers", OwnedValue::Bytes(v4)),
            ("peers6", OwnedValue::Bytes(v6)),
            ("pieces", number(self.bits.len().into())),
            ("stamps", OwnedValue::List(self.stamps.iter().map(stamp).collect())),
            ("uploaded", number(self.uploaded)),
            ("version", OwnedValue::Integer(VERSION)),
        ];
        let dict: BTreeMap<Vec<u8>, OwnedValue> =
            entries.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value)).collect();
        bencode::encode(&OwnedValue::Dict(dict))
    }

    /// `None` if it is of another version, or not what [`encode`](Self::encode) writes.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let value = bencode::decode(bytes).ok()?;
        let dict = value.as_dict()?;
        let integer = |key: &[u8]| dict.get(key).and_then(Value::as_integer);
        let number = |key: &[u8]| integer(key).and_then(|number| u64::try_from(number).ok());
        let text = |key: &[u8]| dict.get(key).and_then(Value::as_bytes);
        if integer(b"version")? != VERSION {
            return None;
        }
        let stamp = |value: &Value<'_>| match value.as_list()? {
            [] => Some(None),
            [len, mtime_ns] => Some(Some(FileStamp {
                len: u64::try_from(len.as_integer()?).ok()?,
                mtime_ns: mtime_ns.as_str()?.parse().ok()?,
            })),
            _ => None,
        };
        let pieces = u32::try_from(number(b"pieces")?).ok()?;
        let peers = compact::parse_v4(text(b"peers")?).chain(compact::parse_v6(text(b"peers6")?));
        Some(Self {
            dir: path_from(text(b"dir")?),
            bits: Bitfield::from_bytes(text(b"bits")?, pieces)?,
            stamps: dict.get(b"stamps")?.as_list()?.iter().map(stamp).collect::<Option<_>>()?,
            downloaded: number(b"downloaded")?,
            uploaded: number(b"uploaded")?,
            peers: peers.take(PEERS_MAX).collect(),
        })
    }
}

/// What may be believed of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Pieces that are here: their files look as they did.
    pub bits: Bitfield,
    /// Pieces that touch a file that looks otherwise: to be hashed.
    pub recheck: Vec<PieceIndex>,
}

/// Compares a record with how the files look now. A record that does not fit the torrent is worth
/// nothing: everything is to be hashed.
pub fn trusted(record: &ResumeRecord, layout: &FileLayout, now: &[Option<FileStamp>]) -> Trust {
    let piece_count = layout.piece_count();
    let fits = record.bits.len() == piece_count
        && record.stamps.len() == layout.files().len()
        && now.len() == record.stamps.len();
    if !fits {
        return Trust {
            bits: Bitfield::none(piece_count),
            recheck: (0..piece_count).map(PieceIndex).collect(),
        };
    }
    let mut doubtful = Bitfield::none(piece_count);
    for (file, (before, now)) in record.stamps.iter().zip(now).enumerate() {
        if before != now {
            layout.file_pieces(file).for_each(|piece| _ = doubtful.set(PieceIndex(piece)));
        }
    }
    let mut bits = record.bits.clone();
    doubtful.iter().for_each(|piece| _ = bits.clear(piece));
    Trust { bits, recheck: doubtful.iter().collect() }
}

fn aside(dir: &Path) -> PathBuf {
    let name = |count: u32| dir.join(format!("{FILE_NAME}.corrupt-{count}"));
    (1..).map(name).find(|path| !path.exists()).expect("numbers do not end")
}

#[cfg(unix)]
fn restrict(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn restrict(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn path_bytes(path: &Path) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec()
}

#[cfg(not(unix))]
fn path_bytes(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

#[cfg(unix)]
fn path_from(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from(
        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes),
    ))
}

#[cfg(not(unix))]
fn path_from(bytes: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(bytes).into_owned())
}

const FILE_NAME: &str = "state.redb";
const TORRENTS: TableDefinition<'static, [u8; 20], &'static [u8]> =
    TableDefinition::new("torrents");
const CACHE_LEN: usize = 1024 * 1024;
const VERSION: i64 = 1;
/// Together ten seconds: another process needs a few milliseconds.
const TRIES_MAX: u32 = 500;
const RETRY_AFTER: Duration = Duration::from_millis(20);
const PEERS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use torrent::Rng;
    use torrent::metainfo::create::Builder;

    use super::*;

    fn record() -> ResumeRecord {
        let mut bits = Bitfield::none(3);
        bits.set(PieceIndex(0));
        bits.set(PieceIndex(2));
        ResumeRecord {
            dir: "/some/where".into(),
            bits,
            stamps: vec![Some(FileStamp { len: 7, mtime_ns: -1_234_567_890_123_456_789 }), None],
            downloaded: 10,
            uploaded: u64::MAX >> 1,
            peers: vec!["10.0.0.1:1".parse().expect("valid"), "[::1]:2".parse().expect("valid")],
        }
    }

    fn layout() -> FileLayout {
        let files = vec![(vec![b"a".to_vec()], 16_384 * 2), (vec![b"b".to_vec()], 100)];
        Builder { name: b"t".to_vec(), files, piece_len: Some(16_384), ..Builder::default() }
            .layout()
            .expect("fits")
    }

    #[test]
    fn what_is_saved_is_loaded_by_the_next_run() {
        let dir = tempfile::tempdir().expect("a folder");
        let hash = InfoHash([5; 20]);
        let store = ResumeStore::open(dir.path()).expect("opened");
        assert_eq!(store.load(&hash).expect("no failure"), None);
        store.save(&hash, &record()).expect("saved");
        let another = ResumeStore::open(dir.path()).expect("opened beside the first");
        another.save(&InfoHash([6; 20]), &record()).expect("saved by the other");
        another.remove(&InfoHash([6; 20])).expect("removed by the other");
        assert_eq!(store.load(&hash).expect("no failure"), Some(record()));
        assert_eq!(store.list().expect("no failure"), [hash]);
        store.remove(&hash).expect("removed");
        assert_eq!(store.list().expect("no failure"), []);
    }

    #[test]
    fn a_damaged_database_is_moved_aside() {
        let dir = tempfile::tempdir().expect("a folder");
        for count in 1..=2 {
            std::fs::write(dir.path().join(FILE_NAME), b"this is no database at all".repeat(1000))
                .expect("written");
            drop(ResumeStore::open(dir.path()).expect("opened anew"));
            assert!(dir.path().join(format!("{FILE_NAME}.corrupt-{count}")).exists());
        }
    }

    #[test]
    fn only_pieces_of_unchanged_files_are_believed() {
        let stamp = |len, mtime_ns| Some(FileStamp { len, mtime_ns });
        let record = ResumeRecord {
            stamps: vec![stamp(32_768, 5), stamp(100, 6)],
            bits: Bitfield::all(3),
            ..record()
        };
        let trust = |a, b| trusted(&record, &layout(), &[a, b]);
        let all = trust(stamp(32_768, 5), stamp(100, 6));
        assert_eq!((all.bits.count(), all.recheck), (3, vec![]));
        let touched = trust(stamp(32_768, 5), stamp(100, 7));
        assert_eq!((touched.bits.count(), touched.recheck), (2, vec![PieceIndex(2)]));
        let gone = trust(None, stamp(100, 6));
        assert_eq!((gone.bits.count(), gone.recheck), (1, vec![PieceIndex(0), PieceIndex(1)]));
    }

    #[test]
    fn a_record_that_does_not_fit_is_worth_nothing() {
        let wrong = ResumeRecord { bits: Bitfield::all(99), ..record() };
        let trust = trusted(&wrong, &layout(), &[None, None]);
        assert_eq!((trust.bits.count(), trust.recheck.len()), (0, 3));
    }

    #[test]
    fn a_newer_or_mangled_record_is_refused() {
        let bytes = record().encode();
        assert_eq!(ResumeRecord::decode(&bytes), Some(record()));
        let newer = String::from_utf8_lossy(&bytes).replace("versioni1e", "versioni2e");
        assert_eq!(ResumeRecord::decode(newer.as_bytes()), None);
        for seed in 0..2000 {
            let mut rng = Rng::from_seed(seed);
            let mut mangled = bytes.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(mangled.len());
                mangled[at] = rng.u32() as u8;
            }
            // It may parse to something, but must not panic.
            ResumeRecord::decode(&mangled);
        }
    }
}
