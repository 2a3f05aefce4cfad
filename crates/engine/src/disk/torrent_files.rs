//! The files of one torrent, opened when needed, and watched for what other programs do to them.

use std::fs::File;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::FileType;
use torrent::metainfo::{FileEntry, FileLayout, Span};

use super::file_io::{self, Fault, read_bytes_at, read_exact_at, write_all_at};
use super::file_pool::FileKey;
use super::path::{Access, open_below, stat_below};
use super::{DiskError, FilePool};

/// What tells a file that was changed from one that was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// Its length, with the bytes of it that are in the part file.
    pub len: u64,
    /// When it was changed last, in nanoseconds since 1970; 0 if it is in the part file only.
    pub mtime_ns: i128,
}

/// The files, without a thought for which are wanted.
#[derive(Debug)]
pub(super) struct TorrentFiles {
    layout: Arc<FileLayout>,
    root: PathBuf,
    pool: Arc<FilePool>,
    owner: u64,
    states: Vec<FileState>,
}

#[derive(Debug, Default)]
struct FileState {
    /// One more than the length that the file has had for certain; 0 while nothing is known of it.
    len_known: AtomicU64,
    /// Whether something may not be on the disk yet: we wrote, or another run did before it was killed.
    is_unsynced: AtomicBool,
    /// Whether we wrote since that was last asked.
    is_written: AtomicBool,
}

impl FileState {
    fn wrote(&self) {
        self.is_unsynced.store(true, Ordering::Release);
        self.is_written.store(true, Ordering::Release);
    }
}

impl TorrentFiles {
    pub(super) fn new(layout: Arc<FileLayout>, root: PathBuf, pool: Arc<FilePool>) -> Self {
        let states = layout.files().iter().map(|_| FileState::default()).collect();
        Self { layout, root, owner: pool.new_owner(), pool, states }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn layout(&self) -> &Arc<FileLayout> {
        &self.layout
    }

    /// Makes the file, with the folders on the way, if it was not seen before.
    pub(super) fn write(&self, span: Span, slices: &mut [IoSlice<'_>]) -> Result<(), DiskError> {
        let file = self.open(span.file, true)?;
        let state = &self.states[span.file];
        write_all_at(&file, slices, span.offset).map_err(self.fault(span.file))?;
        // Not before: a sync in between would take the note and miss the data.
        state.wrote();
        let end = span.offset + u64::from(span.len);
        state.len_known.fetch_max(end + 1, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn read(&self, span: Span, buf: &mut [u8]) -> Result<(), DiskError> {
        let file = self.open(span.file, false)?;
        read_exact_at(&file, buf, span.offset).map_err(self.fault(span.file))
    }

    pub(super) fn read_bytes(&self, span: Span) -> Result<Bytes, DiskError> {
        let file = self.open(span.file, false)?;
        read_bytes_at(&file, span.len, span.offset).map_err(self.fault(span.file))
    }

    /// Whether these bytes are there, but were never written.
    pub(super) fn is_hole(&self, span: Span) -> Result<bool, DiskError> {
        let file = self.open(span.file, false)?;
        Ok(file_io::is_hole(&file, span.offset, span.len))
    }

    /// Gives a file its full length, and disk space for it where the file system can do that.
    pub(super) fn create_full(&self, file: usize) -> Result<(), DiskError> {
        let (open, len) = (self.open(file, true)?, self.entry(file).len);
        let found =
            open.metadata().map_err(|source| DiskError::from_io(&self.path(file), source))?;
        if found.len() < len {
            file_io::allocate(&open, len).map_err(self.fault(file))?;
            self.states[file].len_known.fetch_max(len + 1, Ordering::AcqRel);
            self.states[file].wrote();
        }
        Ok(())
    }

    /// Cuts off what a file has past its end.
    pub(super) fn cut_to_length(&self, file: usize) -> Result<(), DiskError> {
        let len = self.entry(file).len;
        if self.stamp(file).is_some_and(|stamp| stamp.len > len) {
            let open = self.open(file, true)?;
            open.set_len(len).map_err(|source| DiskError::from_io(&self.path(file), source))?;
            self.states[file].len_known.store(len + 1, Ordering::Release);
            self.states[file].wrote();
        }
        Ok(())
    }

    /// `None` if the file is not there, or is no file.
    pub(super) fn stamp(&self, file: usize) -> Option<FileStamp> {
        let stat = stat_below(&self.root, &self.entry(file).path.to_path_buf()).ok()??;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return None;
        }
        let (seconds, nanoseconds) = (i128::from(stat.st_mtime), i128::from(stat.st_mtime_nsec));
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        Some(FileStamp { len, mtime_ns: seconds * 1_000_000_000 + nanoseconds })
    }

    /// Waits until everything that was written is on the disk. Returns the files that we wrote since
    /// the last time.
    pub(super) fn sync(&self) -> Result<Vec<usize>, DiskError> {
        let mut written = Vec::new();
        for (file, state) in self.states.iter().enumerate() {
            let is_written = state.is_written.swap(false, Ordering::AcqRel);
            if !state.is_unsynced.swap(false, Ordering::AcqRel) && !is_written {
                continue;
            }
            let synced = self.open(file, false).and_then(|open| {
                open.sync_data().map_err(|source| DiskError::from_io(&self.path(file), source))
            });
            match synced {
                // What we never wrote may be missing.
                Err(error) if is_written || !error.is_absence() => {
                    state.wrote();
                    return Err(error);
                }
                Ok(()) | Err(_) => {}
            }
            written.extend(is_written.then_some(file));
        }
        Ok(written)
    }

    /// Closes all files, and forgets what was known of them.
    pub(super) fn close(&self) {
        self.pool.close_all(self.owner);
        for state in &self.states {
            state.len_known.store(0, Ordering::Release);
            state.is_unsynced.store(true, Ordering::Release);
        }
    }

    /// The open file; made if it is to be written and was not seen before.
    fn open(&self, file: usize, for_writing: bool) -> Result<Arc<File>, DiskError> {
        let (state, entry) = (&self.states[file], self.entry(file));
        // Before the file is looked at: another thread may make it longer in between, never shorter.
        let len_known = state.len_known.load(Ordering::Acquire);
        let access = match (for_writing, len_known) {
            (false, _) => Access::Read,
            (true, 0) => Access::Create { is_executable: entry.is_executable },
            (true, _) => Access::Write,
        };
        let key = FileKey { owner: self.owner, file };
        let open = self
            .pool
            .file(key, for_writing, || open_below(&self.root, &entry.path.to_path_buf(), access))?;
        let stat = rustix::fs::fstat(&open)
            .map_err(|errno| DiskError::from_errno(&self.path(file), errno))?;
        // Some network file systems always say 0, so ask again by name.
        if stat.st_nlink == 0 && !self.is_still(file, &stat) {
            self.pool.close(key);
            return Err(DiskError::Missing { path: self.path(file) });
        }
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        if len.saturating_add(1) < len_known {
            return Err(DiskError::Shortened { path: self.path(file) });
        }
        // What is past its end may be cut off at any time.
        let len = len.min(entry.len);
        state.len_known.fetch_max(len.saturating_add(1), Ordering::AcqRel);
        Ok(open)
    }

    /// Whether the file of that name is still the one that `open` describes.
    fn is_still(&self, file: usize, open: &rustix::fs::Stat) -> bool {
        let named = stat_below(&self.root, &self.entry(file).path.to_path_buf());
        matches!(named, Ok(Some(named)) if (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino))
    }

    fn fault(&self, file: usize) -> impl FnOnce(Fault) -> DiskError {
        move |fault| fault.at(&self.path(file))
    }

    fn entry(&self, file: usize) -> &FileEntry {
        &self.layout.files()[file]
    }

    fn path(&self, file: usize) -> PathBuf {
        self.root.join(self.entry(file).path.to_path_buf())
    }
}

impl Drop for TorrentFiles {
    fn drop(&mut self) {
        self.pool.close_all(self.owner);
    }
}
