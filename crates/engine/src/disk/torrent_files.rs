//! The files of one torrent, opened when needed, and watched for what other programs do to them.

use std::cell::OnceCell;
use std::fs::File;
use std::io::IoSlice;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{FileType, Stat};
use torrent::metainfo::{FileEntry, FileLayout, Span};

use super::direct::read_direct;
use super::file_io::{self, Fault, read_bytes_at, read_exact_at, write_all_at};
use super::file_pool::{FileKey, FileMode};
use super::file_watch::FileWatch;
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
    pub(super) watch: FileWatch,
}

/// A file that is read piece by piece, and not looked at anew for each.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) index: usize,
    file: Arc<File>,
    may_have_holes: bool,
    is_in_memory: bool,
    /// The same file, to be read past the cache; `None` inside if that cannot be.
    direct: OnceCell<Option<File>>,
}

impl OpenFile {
    /// Whether these bytes are there, but were never written.
    pub(super) fn is_hole(&self, offset: u64, len: u32) -> bool {
        self.may_have_holes && file_io::is_hole(&self.file, offset, len)
    }

    /// Whether what is at `offset` is not in memory.
    pub(super) fn is_cold(&self, offset: u64) -> bool {
        !self.is_in_memory && file_io::is_cold(&self.file, offset)
    }

    /// Asks for these bytes to be read from the disk, without a wait for them.
    pub(super) fn read_ahead(&self, offset: u64, len: u32) {
        file_io::read_ahead(&self.file, offset, len);
    }
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
        Self { layout, root, owner: pool.new_owner(), pool, states, watch: FileWatch::default() }
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
        self.watch.written(span.file, span.len.into());
        Ok(())
    }

    pub(super) fn read(&self, span: Span, buf: &mut [u8]) -> Result<(), DiskError> {
        let file = self.open(span.file, false)?;
        read_exact_at(&file, buf, span.offset).map_err(self.fault(span.file))?;
        self.watch.read(span.file, span.len.into());
        Ok(())
    }

    pub(super) fn read_bytes(&self, span: Span) -> Result<Bytes, DiskError> {
        let file = self.open(span.file, false)?;
        let bytes = read_bytes_at(&file, span.len, span.offset).map_err(self.fault(span.file))?;
        self.watch.read(span.file, span.len.into());
        Ok(bytes)
    }

    /// A file to be read for a while.
    pub(super) fn open_to_read(&self, index: usize) -> Result<OpenFile, DiskError> {
        let (file, stat) = self.open_and_look(index, false)?;
        // What a file takes up is counted in units of 512 bytes, whatever the file system.
        let taken = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let may_have_holes = taken < u64::try_from(stat.st_size).unwrap_or(0);
        let is_in_memory = file_io::is_in_memory(&file);
        Ok(OpenFile { index, file, may_have_holes, is_in_memory, direct: OnceCell::new() })
    }

    /// Fills `buf` from `offset` of a file. Before it waits for the disk, it calls `before_wait`.
    pub(super) fn read_open(
        &self,
        open: &OpenFile,
        offset: u64,
        buf: &mut [u8],
        before_wait: impl FnOnce(),
    ) -> Result<(), DiskError> {
        let done = if open.is_in_memory {
            0
        } else {
            let done = file_io::read_cached_at(&open.file, buf, offset);
            if done < buf.len() {
                before_wait();
            }
            done
        };
        let rest = offset + done as u64;
        read_exact_at(&open.file, &mut buf[done..], rest).map_err(self.fault(open.index))?;
        self.watch.read(open.index, buf.len() as u64);
        Ok(())
    }

    /// Whether a file is read past the cache when it is cold: if it is long enough for that to pay, and if it can be.
    pub(super) fn is_direct(&self, open: &OpenFile) -> bool {
        self.direct(open).is_some()
    }

    /// Reads past the cache, if that can be. Returns where in `buf` the bytes are.
    pub(super) fn read_direct(
        &self,
        open: &OpenFile,
        offset: u64,
        len: usize,
        buf: &mut [u8],
    ) -> Option<Range<usize>> {
        let found = read_direct(self.direct(open)?, offset, len, buf)?;
        self.watch.read(open.index, len as u64);
        Some(found)
    }

    fn direct<'a>(&self, open: &'a OpenFile) -> Option<&'a File> {
        let file = || {
            let entry = self.entry(open.index);
            (entry.len >= DIRECT_MIN).then(|| self.open_direct(entry))?
        };
        open.direct.get_or_init(file).as_ref()
    }

    #[cfg(target_os = "linux")]
    fn open_direct(&self, entry: &FileEntry) -> Option<File> {
        open_below(&self.root, &entry.path.to_path_buf(), Access::ReadDirect).ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn open_direct(&self, _: &FileEntry) -> Option<File> {
        None
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

    /// How each file is open.
    pub(super) fn modes(&self) -> Vec<Option<FileMode>> {
        self.pool.modes(self.owner, self.states.len())
    }

    /// Closes all files.
    pub(super) fn let_go(&self) {
        self.pool.close_all(self.owner);
    }

    /// Closes all files, and forgets what was known of them.
    pub(super) fn close(&self) {
        self.let_go();
        for state in &self.states {
            state.len_known.store(0, Ordering::Release);
            state.is_unsynced.store(true, Ordering::Release);
        }
    }

    fn open(&self, file: usize, for_writing: bool) -> Result<Arc<File>, DiskError> {
        self.open_and_look(file, for_writing).map(|(open, _)| open)
    }

    /// The open file; made if it is to be written and was not seen before.
    fn open_and_look(
        &self,
        file: usize,
        for_writing: bool,
    ) -> Result<(Arc<File>, Stat), DiskError> {
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
            .file(key, for_writing, &self.watch, || {
                open_below(&self.root, &entry.path.to_path_buf(), access)
            })
            .inspect_err(|error| self.watch.failed(file, &self.path(file), error))?;
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
        Ok((open, stat))
    }

    /// Whether the file of that name is still the one that `open` describes.
    fn is_still(&self, file: usize, open: &Stat) -> bool {
        let named = stat_below(&self.root, &self.entry(file).path.to_path_buf());
        matches!(named, Ok(Some(named)) if (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino))
    }

    fn fault(&self, file: usize) -> impl FnOnce(Fault) -> DiskError {
        move |fault| {
            let path = self.path(file);
            let error = fault.at(&path);
            self.watch.failed(file, &path, &error);
            error
        }
    }

    fn entry(&self, file: usize) -> &FileEntry {
        &self.layout.files()[file]
    }

    fn path(&self, file: usize) -> PathBuf {
        self.root.join(self.entry(file).path.to_path_buf())
    }
}

/// Shorter files are read through the cache: many of them are asked for in advance.
const DIRECT_MIN: u64 = 4 * 1024 * 1024;

impl Drop for TorrentFiles {
    fn drop(&mut self) {
        self.pool.close_all(self.owner);
    }
}
