//! The database of a state directory: what is remembered of torrents between runs.
//!
//! It has three tables, all by info hash: `torrents` is what was verified ([`ResumeRecord`]), of every
//! torrent that ever ran with this directory; `members` says how the torrents of a session that
//! remembers them were added, and `torrent_files` is what they are. Opening and syncing cost the same
//! for one row as for thousands: so all that is to be written at a time is one transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use torrent::InfoHash;
use torrent::metainfo::Metainfo;

use crate::resume::{ResumeError, ResumeRecord};

/// The database of a state directory. It is open only while it is read or written, so that several
/// processes may share the directory.
#[derive(Debug)]
pub struct ResumeStore {
    dir: PathBuf,
    /// Held while this process has the database open.
    turn: Mutex<()>,
    #[cfg(test)]
    commits: std::sync::atomic::AtomicU64,
}

/// Something to be remembered from now on, or no more.
#[derive(Debug)]
pub(crate) enum Change {
    /// What was verified: an encoded [`ResumeRecord`].
    Record(InfoHash, Vec<u8>),
    /// A torrent is of the session, and was added like this.
    Join(Arc<Metainfo>, Vec<u8>),
    /// What a torrent is, got from peers.
    TorrentFile(Arc<Metainfo>),
    /// It is to be treated otherwise, or is of the session and only its link is known.
    Options(InfoHash, Vec<u8>),
    /// Nothing is to be remembered of it.
    Forget(InfoHash),
}

/// The rows of one torrent of the session, as they are in the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    pub(crate) info_hash: InfoHash,
    pub(crate) options: &'a [u8],
    pub(crate) torrent_file: Option<&'a [u8]>,
    pub(crate) record: Option<&'a [u8]>,
}

impl Change {
    /// Roughly what it takes in memory besides what is there anyway.
    pub(crate) const fn len(&self) -> usize {
        let bytes = match self {
            Self::Record(_, bytes) | Self::Join(_, bytes) | Self::Options(_, bytes) => bytes.len(),
            Self::TorrentFile(_) | Self::Forget(_) => 0,
        };
        bytes + size_of::<Self>()
    }
}

impl ResumeStore {
    /// Makes the state directory and its database if they are not there, and looks whether they are
    /// of use. A database that is damaged is moved aside, never deleted.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn open(dir: &Path) -> Result<Self, ResumeError> {
        let store = Self {
            dir: dir.to_owned(),
            turn: Mutex::new(()),
            #[cfg(test)]
            commits: Default::default(),
        };
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
            let opened = unless_it_panics(open).unwrap_or_else(|why| {
                Err(DatabaseError::Storage(redb::StorageError::Corrupted(why)))
            });
            let database = match opened {
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
                    self.move_aside(&error.to_string())?;
                    open().map_err(|error| ResumeError::Database(error.to_string()))?
                }
            };
            let done = unless_it_panics(|| job(&database))
                .unwrap_or_else(|why| Err(ResumeError::Damaged(why)));
            if let Err(why) = unless_it_panics(move || drop(database)) {
                tracing::warn!(why, "the state database does not close");
            }
            if let Err(ResumeError::Damaged(why)) = &done {
                self.move_aside(why)?;
            }
            return done;
        }
        Err(ResumeError::InUse { dir: self.dir.clone() })
    }

    fn move_aside(&self, why: &str) -> Result<(), ResumeError> {
        let aside = aside(&self.dir);
        tracing::warn!(why, aside = %aside.display(), "the state database is damaged; it is moved aside");
        std::fs::rename(self.dir.join(FILE_NAME), &aside).map_err(|error| self.folder_error(&error))
    }

    /// What is remembered of a torrent.
    ///
    /// # Errors
    /// If the database fails, or the record cannot be used.
    pub fn load(&self, info_hash: &InfoHash) -> Result<Option<ResumeRecord>, ResumeError> {
        self.load_all(&[*info_hash])?.pop().transpose().map(Option::flatten)
    }

    /// What is remembered of each of some torrents.
    ///
    /// # Errors
    /// If the database fails; and one for each record that cannot be used.
    pub(crate) fn load_all(&self, hashes: &[InfoHash]) -> Result<Vec<Loaded>, ResumeError> {
        self.with(|database| {
            let Some(table) = table(database, TORRENTS)? else {
                return Ok(hashes.iter().map(|_| Ok(None)).collect());
            };
            let load = |hash: &InfoHash| match table.get(&hash.0).map_err(redb::Error::from)? {
                Some(bytes) => ResumeRecord::decode(bytes.value())
                    .map(Some)
                    .ok_or(ResumeError::BadRecord(*hash)),
                None => Ok(None),
            };
            Ok(hashes.iter().map(load).collect())
        })
    }

    /// What earlier runs got from peers of a torrent of which only a link is known, and what they verified
    /// of it. What cannot be used counts as nothing.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) fn recall(
        &self,
        info_hash: &InfoHash,
    ) -> Result<(Option<Metainfo>, Option<ResumeRecord>), ResumeError> {
        self.with(|database| {
            let row = |definition| -> Result<Option<Vec<u8>>, redb::Error> {
                let Some(table) = table(database, definition)? else { return Ok(None) };
                Ok(table.get(&info_hash.0)?.map(|bytes| bytes.value().to_vec()))
            };
            let file = row(TORRENT_FILES)?.and_then(|bytes| Metainfo::parse(&bytes).ok());
            let file = file.filter(|metainfo| metainfo.info_hash() == *info_hash);
            let record = row(TORRENTS)?.and_then(|bytes| ResumeRecord::decode(&bytes));
            Ok((file, record))
        })
    }

    /// The torrents of which something was verified.
    ///
    /// # Errors
    /// If the database fails.
    pub fn list(&self) -> Result<Vec<InfoHash>, ResumeError> {
        self.with(|database| {
            let Some(table) = table(database, TORRENTS)? else { return Ok(Vec::new()) };
            let rows = table.iter().map_err(redb::Error::from)?;
            rows.map(|row| Ok(InfoHash(row.map_err(redb::Error::from)?.0.value()))).collect()
        })
    }

    /// Reads the rows of every torrent of the session, on several threads; in the order of their info
    /// hashes.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) fn read_members<T: Send>(
        &self,
        read: impl Fn(Rows<'_>) -> T + Sync,
    ) -> Result<Vec<T>, ResumeError> {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(16));
        self.with(|database| {
            let read = &read;
            let parts = std::thread::scope(|scope| {
                let part = |at: usize| {
                    let (first, end) = (at * 256 / threads, (at + 1) * 256 / threads);
                    scope.spawn(move || read_some(database, first as u8, (end - 1) as u8, read))
                };
                let parts: Vec<_> = (0..threads).map(part).collect();
                let damaged = |_| Err(ResumeError::Damaged(PANICKED.to_owned()));
                parts
                    .into_iter()
                    .map(|part| part.join().unwrap_or_else(damaged))
                    .collect::<Result<Vec<_>, _>>()
            });
            Ok(parts?.into_iter().flatten().collect())
        })
    }

    /// Remembers a torrent; all of it or, if the machine dies meanwhile, what was remembered before.
    ///
    /// # Errors
    /// If the database fails.
    pub fn save(&self, info_hash: &InfoHash, record: &ResumeRecord) -> Result<(), ResumeError> {
        self.apply(&[Change::Record(*info_hash, record.encode())])
    }

    /// Forgets a torrent.
    ///
    /// # Errors
    /// If the database fails.
    pub fn remove(&self, info_hash: &InfoHash) -> Result<(), ResumeError> {
        self.apply(&[Change::Forget(*info_hash)])
    }

    /// Makes all changes, in order, in one transaction: all of them or none.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) fn apply(&self, changes: &[Change]) -> Result<(), ResumeError> {
        #[cfg(test)]
        self.commits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.with(|database| Ok(apply(database, changes)?))
    }

    /// How many transactions were tried.
    #[cfg(test)]
    pub(crate) fn commits(&self) -> u64 {
        self.commits.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// What is remembered of one of several torrents.
pub(crate) type Loaded = Result<Option<ResumeRecord>, ResumeError>;

type Table = redb::ReadOnlyTable<[u8; 20], &'static [u8]>;
type Definition = TableDefinition<'static, [u8; 20], &'static [u8]>;

/// A table, for reading; `None` if nothing was ever put into it.
fn table(database: &Database, definition: Definition) -> Result<Option<Table>, redb::Error> {
    match database.begin_read()?.open_table(definition) {
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        other => Ok(Some(other?)),
    }
}

/// Reads the torrents whose info hashes begin with a byte of `first` to `last`.
fn read_some<T>(
    database: &Database,
    first: u8,
    last: u8,
    read: &impl Fn(Rows<'_>) -> T,
) -> Result<Vec<T>, ResumeError> {
    let Some(members) = table(database, MEMBERS)? else { return Ok(Vec::new()) };
    let (files, records) = (table(database, TORRENT_FILES)?, table(database, TORRENTS)?);
    let (mut low, mut high) = ([0; 20], [0xff; 20]);
    (low[0], high[0]) = (first, last);
    let mut found = Vec::new();
    for row in members.range(low..=high).map_err(redb::Error::from)? {
        let (key, options) = row.map_err(redb::Error::from)?;
        let of_torrent = |table: &Option<Table>| match table {
            Some(table) => table.get(key.value()),
            None => Ok(None),
        };
        let file = of_torrent(&files).map_err(redb::Error::from)?;
        let record = of_torrent(&records).map_err(redb::Error::from)?;
        found.push(read(Rows {
            info_hash: InfoHash(key.value()),
            options: options.value(),
            torrent_file: file.as_ref().map(|file| file.value()),
            record: record.as_ref().map(|record| record.value()),
        }));
    }
    Ok(found)
}

fn apply(database: &Database, changes: &[Change]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut records = transaction.open_table(TORRENTS)?;
        let mut members = transaction.open_table(MEMBERS)?;
        let mut files = transaction.open_table(TORRENT_FILES)?;
        for change in changes {
            match change {
                Change::Record(hash, record) => _ = records.insert(hash.0, record.as_slice())?,
                Change::Join(metainfo, options) => {
                    let hash = metainfo.info_hash().0;
                    members.insert(hash, options.as_slice())?;
                    files.insert(hash, &*metainfo.to_file())?;
                }
                Change::TorrentFile(metainfo) => {
                    files.insert(metainfo.info_hash().0, &*metainfo.to_file())?;
                }
                Change::Options(hash, options) => _ = members.insert(hash.0, options.as_slice())?,
                Change::Forget(hash) => {
                    records.remove(hash.0)?;
                    members.remove(hash.0)?;
                    files.remove(hash.0)?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// The database checks its pages, but not all that is in them: it panics over some that were changed
/// by a broken disk.
fn unless_it_panics<T>(job: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(job)).map_err(|_panic| PANICKED.to_owned())
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

const FILE_NAME: &str = "state.redb";
const TORRENTS: Definition = TableDefinition::new("torrents");
const MEMBERS: Definition = TableDefinition::new("members");
const TORRENT_FILES: Definition = TableDefinition::new("torrent_files");
const PANICKED: &str = "what is in it makes no sense";
const CACHE_LEN: usize = 1024 * 1024;
/// Together ten seconds: another process needs a few milliseconds.
const TRIES_MAX: u32 = 500;
const RETRY_AFTER: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use torrent::metainfo::create::Builder;
    use torrent::{Bitfield, Rng};

    use super::*;

    fn record(pieces: u32) -> ResumeRecord {
        ResumeRecord {
            dir: "/some/where".into(),
            bits: Bitfield::all(pieces),
            stamps: vec![None],
            downloaded: 10,
            uploaded: 20,
            peers: Vec::new(),
        }
    }

    fn metainfo(name: &str) -> Arc<Metainfo> {
        let files = vec![(Vec::new(), 5)];
        let builder = Builder { name: name.into(), files, ..Builder::default() };
        let bytes = builder.finish(&[[7; 20]]).expect("a torrent");
        Arc::new(Metainfo::parse(&bytes).expect("valid"))
    }

    fn opened() -> (tempfile::TempDir, ResumeStore) {
        let dir = tempfile::tempdir().expect("a folder");
        let store = ResumeStore::open(dir.path()).expect("opened");
        (dir, store)
    }

    /// The options of every torrent of the session, with whether there is more of it.
    fn members(store: &ResumeStore) -> Vec<(InfoHash, Vec<u8>, bool, bool)> {
        let read = |rows: Rows<'_>| {
            let (file, record) = (rows.torrent_file.is_some(), rows.record.is_some());
            (rows.info_hash, rows.options.to_vec(), file, record)
        };
        store.read_members(read).expect("read")
    }

    #[test]
    fn what_is_saved_is_loaded_by_the_next_run() {
        let (dir, store) = opened();
        let hash = InfoHash([5; 20]);
        assert_eq!(store.load(&hash).expect("no failure"), None);
        store.save(&hash, &record(3)).expect("saved");
        let another = ResumeStore::open(dir.path()).expect("opened beside the first");
        another.save(&InfoHash([6; 20]), &record(3)).expect("saved by the other");
        another.remove(&InfoHash([6; 20])).expect("removed by the other");
        assert_eq!(store.load(&hash).expect("no failure"), Some(record(3)));
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
    fn members_come_back_in_the_order_of_their_hashes() {
        let (_dir, store) = opened();
        assert_eq!(members(&store), []);
        let mut torrents: Vec<_> = (0..500).map(|number| metainfo(&number.to_string())).collect();
        let join = |metainfo: &Arc<Metainfo>| {
            Change::Join(Arc::clone(metainfo), metainfo.name().as_bytes().to_vec())
        };
        store.apply(&torrents.iter().map(join).collect::<Vec<_>>()).expect("written");
        torrents.sort_by_key(|metainfo| metainfo.info_hash());
        let expected = torrents.iter().map(|metainfo| {
            (metainfo.info_hash(), metainfo.name().as_bytes().to_vec(), true, false)
        });
        assert!(members(&store).into_iter().eq(expected));
    }

    #[test]
    fn of_changes_to_one_torrent_the_last_counts() {
        let (_dir, store) = opened();
        let torrent = metainfo("a");
        let hash = torrent.info_hash();
        let join = || Change::Join(Arc::clone(&torrent), b"first".to_vec());
        let saved = || Change::Record(hash, record(1).encode());
        store.apply(&[join(), saved(), Change::Forget(hash)]).expect("written");
        assert_eq!((members(&store), store.list().expect("read")), (Vec::new(), Vec::new()));
        store
            .apply(&[
                Change::Forget(hash),
                join(),
                Change::Options(hash, b"then".to_vec()),
                saved(),
            ])
            .expect("written");
        assert_eq!(members(&store), [(hash, b"then".to_vec(), true, true)]);
    }

    #[test]
    fn whoever_dies_before_the_commit_leaves_what_was_there() {
        let (dir, store) = opened();
        let hash = |number| InfoHash([number; 20]);
        store.save(&hash(1), &record(1)).expect("saved");
        let crashed = tempfile::tempdir().expect("a folder");
        let copy = |database: &Database| {
            let transaction = database.begin_write().expect("begun");
            let mut table = transaction.open_table(TORRENTS).expect("opened");
            for number in 0..100 {
                table.insert(hash(number).0, record(2).encode().as_slice()).expect("inserted");
            }
            std::fs::copy(dir.path().join(FILE_NAME), crashed.path().join(FILE_NAME))
                .expect("copied");
            Ok(())
        };
        store.with(copy).expect("done");
        let found = ResumeStore::open(crashed.path()).expect("opened");
        assert_eq!(found.list().expect("read"), [hash(1)]);
        assert_eq!(found.load(&hash(1)).expect("read"), Some(record(1)));
    }

    #[test]
    fn noise_in_the_database_is_an_error_or_nothing() {
        let (dir, store) = opened();
        let changes =
            [Change::Join(metainfo("a"), vec![1; 9]), Change::Join(metainfo("b"), vec![2])];
        store.apply(&changes).expect("written");
        let path = dir.path().join(FILE_NAME);
        let whole = std::fs::read(&path).expect("read");
        for seed in 0..20 {
            let mut rng = Rng::from_seed(seed);
            let mut bytes = whole.clone();
            let at = rng.below(bytes.len() - 64);
            bytes[at..at + 64].iter_mut().for_each(|byte| *byte = rng.u32() as u8);
            std::fs::write(&path, bytes).expect("written");
            // Whatever it says; it must come back.
            drop(store.read_members(|rows| rows.options.len()));
        }
    }
}
