//! The files that are open now, for all torrents on a disk together: a system lets a process have only
//! so many.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::DiskError;
use super::file_watch::{FileWatch, WatchedFile};

/// Keeps the files used last open, up to a maximum, and closes the one that was not used for longest.
///
/// A file in use is an [`Arc`] of its own, so that closing it here while another thread reads it is
/// harmless: it is closed when that thread is done.
///
/// Whoever opens a file closes another, and that may take forever on a disk that hangs: so each disk has
/// a pool of its own [`beside`](Self::beside) those of others, and they share the maximum evenly.
#[derive(Debug)]
pub struct FilePool {
    /// Of all pools that have it together.
    open_max: Arc<usize>,
    owners: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    files: BTreeMap<FileKey, Entry>,
    /// The same files, by when they were used last.
    by_age: BTreeMap<u64, FileKey>,
    /// Counts uses; each file's latest is its age.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    file: Arc<File>,
    is_writable: bool,
    used: u64,
    /// Those who hear of its end.
    _watched: WatchedFile,
}

/// How a file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileMode {
    /// To be read.
    Read,
    /// To be read and written.
    ReadWrite,
}

/// Which file: whose, and which of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileKey {
    pub(super) owner: u64,
    pub(super) file: usize,
}

impl FilePool {
    /// A pool that keeps at most `open_max` files open, but always the one in use.
    pub fn new(open_max: usize) -> Self {
        Self::within(Arc::new(open_max))
    }

    /// A pool for other files, which has its part of the maximum from now on. What others have open beyond
    /// theirs they close when they next open a file.
    pub fn beside(&self) -> Self {
        Self::within(Arc::clone(&self.open_max))
    }

    fn within(open_max: Arc<usize>) -> Self {
        Self { open_max, owners: AtomicU64::new(0), open: Mutex::default() }
    }

    fn share(&self) -> usize {
        (*self.open_max / Arc::strong_count(&self.open_max)).max(1)
    }

    /// How many files are open now.
    pub fn open_count(&self) -> usize {
        self.lock().files.len()
    }

    /// A number that no other user of this pool has.
    pub(super) fn new_owner(&self) -> u64 {
        self.owners.fetch_add(1, Ordering::Relaxed)
    }

    /// The open file, or, if it is not open or only for reading when it is to be written, what `open`
    /// gives. Two threads that ask at once may both call `open`; one of the files is then closed again
    /// when its thread is done.
    pub(super) fn file(
        &self,
        key: FileKey,
        for_writing: bool,
        watch: &FileWatch,
        open: impl Fn() -> Result<File, DiskError>,
    ) -> Result<Arc<File>, DiskError> {
        if let Some(file) = self.lock().find(key, for_writing) {
            return Ok(file);
        }
        // Opening may take long, on a network drive: never under the lock.
        let file = match open() {
            Err(DiskError::TooManyOpen { .. }) => {
                self.close_half();
                open()?
            }
            opened => opened?,
        };
        let file = Arc::new(file);
        let entry = Entry {
            file: Arc::clone(&file),
            is_writable: for_writing,
            used: 0,
            _watched: watch.opened(key.file, for_writing),
        };
        // Closing may take long too: what was pushed out leaves the lock first.
        let closed = self.lock().keep(key, entry, self.share());
        drop(closed);
        Ok(file)
    }

    /// How each of the first `count` files of `owner` is open.
    pub(super) fn modes(&self, owner: u64, count: usize) -> Vec<Option<FileMode>> {
        let mut modes = vec![None; count];
        let (first, last) = (FileKey { owner, file: 0 }, FileKey { owner, file: usize::MAX });
        for (key, entry) in self.lock().files.range(first..=last) {
            if let Some(mode) = modes.get_mut(key.file) {
                *mode = Some(if entry.is_writable { FileMode::ReadWrite } else { FileMode::Read });
            }
        }
        modes
    }

    /// Closes one file.
    pub(super) fn close(&self, key: FileKey) {
        let closed = self.lock().remove(key);
        drop(closed);
    }

    /// Closes every file of `owner`.
    pub(super) fn close_all(&self, owner: u64) {
        let mut open = self.lock();
        let (first, last) = (FileKey { owner, file: 0 }, FileKey { owner, file: usize::MAX });
        let keys: Vec<_> = open.files.range(first..=last).map(|(&key, _)| key).collect();
        let closed: Vec<_> = keys.into_iter().map(|key| open.remove(key)).collect();
        drop(open);
        drop(closed);
    }

    /// Makes room when the system has no descriptor left for us.
    fn close_half(&self) {
        let mut open = self.lock();
        let keep = open.files.len() / 2;
        let closed = open.shrink(keep);
        drop(open);
        drop(closed);
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing that can panic is done under the lock, so what it guards is whole.
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for FilePool {
    /// 128 files: few enough beside 500 connections under the usual limit of 1,024 descriptors.
    fn default() -> Self {
        Self::new(128)
    }
}

impl Open {
    fn find(&mut self, key: FileKey, for_writing: bool) -> Option<Arc<File>> {
        let entry = self.files.get_mut(&key)?;
        if for_writing && !entry.is_writable {
            return None;
        }
        self.uses += 1;
        self.by_age.remove(&entry.used);
        self.by_age.insert(self.uses, key);
        entry.used = self.uses;
        Some(Arc::clone(&entry.file))
    }

    fn keep(&mut self, key: FileKey, entry: Entry, open_max: usize) -> Vec<Entry> {
        let mut closed: Vec<_> = self.remove(key).into_iter().collect();
        closed.append(&mut self.shrink(open_max - 1));
        self.uses += 1;
        self.by_age.insert(self.uses, key);
        self.files.insert(key, Entry { used: self.uses, ..entry });
        closed
    }

    fn remove(&mut self, key: FileKey) -> Option<Entry> {
        let entry = self.files.remove(&key)?;
        self.by_age.remove(&entry.used);
        Some(entry)
    }

    fn shrink(&mut self, count: usize) -> Vec<Entry> {
        let excess = self.files.len().saturating_sub(count);
        let oldest = std::iter::from_fn(|| {
            let (_, key) = self.by_age.pop_first()?;
            self.files.remove(&key)
        });
        oldest.take(excess).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn key(file: usize) -> FileKey {
        FileKey { owner: 0, file }
    }

    fn null() -> Result<File, DiskError> {
        Ok(File::open("/dev/null").unwrap())
    }

    #[test]
    fn closes_what_was_not_used_for_longest() {
        let pool = FilePool::new(2);
        let opens = Cell::new(0);
        let use_file = |file| {
            pool.file(key(file), false, &FileWatch::default(), || {
                opens.set(opens.get() + 1);
                null()
            })
            .unwrap();
        };
        for file in [0, 1, 0, 2, 0] {
            use_file(file);
        }
        assert_eq!((opens.get(), pool.open_count()), (3, 2));
        use_file(1);
        assert_eq!(opens.get(), 4, "1 was pushed out by 2");
    }

    #[test]
    fn what_is_opened_on_one_disk_closes_nothing_on_another_and_all_share_the_maximum() {
        let one = FilePool::new(4);
        let open = |pool: &FilePool, file| {
            pool.file(key(file), false, &FileWatch::default(), null).unwrap();
        };
        (0..4).for_each(|file| open(&one, file));
        let other = one.beside();
        (0..4).for_each(|file| open(&other, file));
        assert_eq!((one.open_count(), other.open_count()), (4, 2));
        open(&one, 4);
        assert_eq!((one.open_count(), other.open_count()), (2, 2));
        drop(other);
        (0..4).for_each(|file| open(&one, file));
        assert_eq!(one.open_count(), 4);
    }

    #[test]
    fn a_file_pushed_out_while_in_use_stays_usable() {
        let pool = FilePool::new(1);
        let first = pool.file(key(0), false, &FileWatch::default(), null).unwrap();
        pool.file(key(1), false, &FileWatch::default(), null).unwrap();
        assert_eq!(Arc::strong_count(&first), 1);
        assert!(first.metadata().is_ok());
    }

    #[test]
    fn opens_again_to_write_but_not_to_read() {
        let pool = FilePool::default();
        let read = pool.file(key(0), false, &FileWatch::default(), null).unwrap();
        let write = pool.file(key(0), true, &FileWatch::default(), null).unwrap();
        assert!(!Arc::ptr_eq(&read, &write));
        assert!(Arc::ptr_eq(
            &write,
            &pool.file(key(0), false, &FileWatch::default(), null).unwrap()
        ));
        assert_eq!(pool.open_count(), 1);
    }

    #[test]
    fn gives_up_half_when_the_system_has_no_more() {
        let pool = FilePool::new(8);
        for file in 0..8 {
            pool.file(key(file), false, &FileWatch::default(), null).unwrap();
        }
        let is_first = Cell::new(true);
        let open = || match is_first.replace(false) {
            true => Err(DiskError::TooManyOpen { path: "f".into() }),
            false => null(),
        };
        pool.file(key(8), false, &FileWatch::default(), open).unwrap();
        assert_eq!(pool.open_count(), 5);
    }

    #[test]
    fn closes_the_files_of_one_owner_only() {
        let pool = FilePool::default();
        let (a, b) = (pool.new_owner(), pool.new_owner());
        for (owner, file) in [(a, 0), (a, 7), (b, 0)] {
            pool.file(FileKey { owner, file }, false, &FileWatch::default(), null).unwrap();
        }
        pool.close_all(a);
        assert_eq!(pool.open_count(), 1);
    }
}
