//! One torrent's bytes on the disk: pieces in, pieces out, spread over its files.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use sha1::{Digest as _, Sha1};
use torrent::metainfo::{FileLayout, Span};
use torrent::{Block, PieceIndex};

use super::file_io::Gather;
use super::file_watch::FileWatch;
use super::gate::Gate;
use super::part_file::{PartFile, Segment};
use super::torrent_files::TorrentFiles;
use super::{DiskError, FileMode, FilePool, FileStamp};

/// The files of one torrent below its download folder.
///
/// All calls block and may come from any thread. Files are opened when they are first needed, and made
/// when they are first written; they grow as they are written, so that a half-finished one takes only the space of
/// what it has.
///
/// Bytes that belong in an unwanted file go to the part file, and pad files ([BEP 47]) are not kept at all: they
/// read as zeros.
///
/// What another program does to the files in the meantime is noticed: a file that was there and is gone is
/// [`DiskError::Missing`], one that lost bytes is [`DiskError::Shortened`]. These stay until
/// [`close_files`](Self::close_files) says to take the files as they are now.
///
/// [BEP 47]: https://www.bittorrent.org/beps/bep_0047.html
#[derive(Debug)]
pub struct Storage {
    pub(super) files: TorrentFiles,
    preallocate: bool,
    /// Taken before `part` if both are.
    wanted: RwLock<Vec<bool>>,
    /// The number of the latest wish that was heard; changed under the lock of `wanted`.
    wish: AtomicU64,
    /// `None` if there is to be no part file.
    part_path: Option<PathBuf>,
    /// `None` until it has been looked at.
    part: Mutex<Option<PartFile>>,
    /// One of the `PART_*` constants: spares most reads the lock.
    part_state: AtomicU8,
    /// Whether no byte of a wanted file is in the part file.
    is_settled: AtomicBool,
    gate: Gate,
}

/// How a torrent is to be stored.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// Whether files get their full length, with disk space, at once.
    pub preallocate: bool,
    /// For each file, whether the user wants it.
    pub wanted: Vec<bool>,
    /// Where stray bytes of unwanted files go: a name in the download folder that no torrent's file will have.
    /// If it is relative, it is so to the download folder. Empty: the torrent is stored without a part file, and writing to
    /// an unwanted file is a mistake.
    pub part_path: PathBuf,
}

impl Storage {
    /// A torrent laid out as `layout` below the folder `root`. Touches nothing on the disk.
    ///
    /// # Panics
    /// Unless `options.wanted` has an entry for each file.
    pub fn new(
        layout: Arc<FileLayout>,
        root: PathBuf,
        pool: Arc<FilePool>,
        options: StorageOptions,
    ) -> Self {
        let StorageOptions { preallocate, wanted, part_path } = options;
        assert_eq!(wanted.len(), layout.files().len(), "each file is wanted or not");
        let has_part = !part_path.as_os_str().is_empty();
        Self {
            preallocate,
            wanted: RwLock::new(wanted),
            wish: AtomicU64::new(0),
            part_path: has_part.then(|| root.join(part_path)),
            files: TorrentFiles::new(layout, root, pool),
            part: Mutex::new(None),
            part_state: AtomicU8::new(if has_part { PART_UNKNOWN } else { PART_EMPTY }),
            is_settled: AtomicBool::new(!has_part),
            gate: Gate::default(),
        }
    }

    /// Tells `watch` what is done with the files.
    pub(crate) fn watched_by(mut self, watch: FileWatch) -> Self {
        self.files.watch = watch;
        self
    }

    /// Where the pieces lie in the files.
    pub fn layout(&self) -> &Arc<FileLayout> {
        self.files.layout()
    }

    /// The download folder.
    pub fn root(&self) -> &Path {
        self.files.root()
    }

    /// Whether files get their full length at once.
    pub(crate) const fn preallocates(&self) -> bool {
        self.preallocate
    }

    /// Writes `data`, one buffer after another, from `offset` of `piece` on.
    ///
    /// # Errors
    /// Some of the bytes may have been written nevertheless; none if it is [`DiskError::Cancelled`], since a check
    /// [looks](Self::freeze) at them.
    ///
    /// # Panics
    /// If the bytes do not lie within the piece.
    pub fn write(&self, piece: PieceIndex, offset: u32, data: &[Bytes]) -> Result<(), DiskError> {
        let len: usize = data.iter().map(Bytes::len).sum();
        if len == 0 {
            return Ok(());
        }
        let len = self.checked_len(piece, offset, len);
        let _passage = self.gate.enter()?;
        let wanted = self.settled()?;
        let mut gather = Gather::new(data);
        for span in self.layout().spans(piece, offset, len) {
            let mut slices = gather.take(span.len as usize);
            if self.is_pad(span.file) {
                continue;
            }
            if wanted[span.file] {
                self.files.write(span, &mut slices)?;
            } else {
                let stray: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
                self.write_part(span, &stray.concat())?;
            }
        }
        Ok(())
    }

    /// The `len` bytes from `offset` of `piece` on.
    ///
    /// # Errors
    /// [`DiskError::Missing`] or [`DiskError::Shortened`] if they are not there.
    ///
    /// # Panics
    /// If they do not lie within the piece.
    pub fn read(&self, piece: PieceIndex, offset: u32, len: u32) -> Result<Bytes, DiskError> {
        let len = self.checked_len(piece, offset, len as usize);
        let mut spans = self.layout().spans(piece, offset, len);
        let first = spans.next();
        // Nearly every read lies in one file: then the kernel fills the buffer, and nobody need zero it first.
        if let Some(span) = first
            && span.len == len
            && !self.is_pad(span.file)
            && self.part_state.load(Ordering::Acquire) == PART_EMPTY
        {
            return self.files.read_bytes(span);
        }
        let mut buf = vec![0; len as usize];
        self.read_into(piece, offset, &mut buf)?;
        Ok(buf.into())
    }

    /// Fills `buf` with the bytes from `offset` of `piece` on.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Panics
    /// If they do not lie within the piece.
    pub fn read_into(
        &self,
        piece: PieceIndex,
        offset: u32,
        buf: &mut [u8],
    ) -> Result<(), DiskError> {
        let len = self.checked_len(piece, offset, buf.len());
        let mut rest = buf;
        for span in self.layout().spans(piece, offset, len) {
            let (now, later) = rest.split_at_mut(span.len as usize);
            self.read_span(span, now)?;
            rest = later;
        }
        Ok(())
    }

    /// The hash of what is there of `piece`, or `None` if some of its bytes are not there. `buf` is scratch
    /// space that grows to 1 MiB at most, whatever the length of the piece.
    ///
    /// # Errors
    /// Whatever else is wrong with the disk.
    pub fn hash(
        &self,
        piece: PieceIndex,
        buf: &mut Vec<u8>,
    ) -> Result<Option<[u8; 20]>, DiskError> {
        match self.hash_or_absence(piece, buf) {
            Ok(hash) => Ok(Some(hash)),
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`hash`](Self::hash), but says which bytes are not there.
    pub(super) fn hash_or_absence(
        &self,
        piece: PieceIndex,
        buf: &mut Vec<u8>,
    ) -> Result<[u8; 20], DiskError> {
        let (mut sha1, mut offset, len) = (Sha1::new(), 0, self.layout().len_of(piece));
        while offset < len {
            let run = HASH_RUN_LEN.min(len - offset);
            buf.resize(run as usize, 0);
            self.read_into(piece, offset, buf)?;
            sha1.update(&*buf);
            offset += run;
        }
        Ok(sha1.finalize().into())
    }

    /// Makes the wanted files that have no bytes at all, and, if they are to be preallocated, gives all
    /// wanted files their full length. To be called when a download starts.
    ///
    /// # Errors
    /// [`DiskError::Full`], first of all.
    pub fn create_empty_files(&self) -> Result<(), DiskError> {
        let wanted = self.settled()?;
        self.create_wanted(&wanted, |_| true)
    }

    /// Changes which files are wanted. Bytes in the part file that belong in a file that is wanted now are
    /// moved there; a file that is no longer wanted stays as it is. Wishes are numbered: one that comes after
    /// one of a higher number changes nothing.
    ///
    /// # Errors
    /// The files are wanted nevertheless, and no byte is lost: the next call that writes tries again to move them.
    ///
    /// # Panics
    /// Unless `wanted` has an entry for each file.
    pub fn set_wanted(&self, number: u64, wanted: Vec<bool>) -> Result<(), DiskError> {
        assert_eq!(wanted.len(), self.layout().files().len(), "each file is wanted or not");
        let mut current = self.wanted.write().unwrap_or_else(PoisonError::into_inner);
        // Threads may come here in another order than they were told.
        if self.wish.fetch_max(number, Ordering::AcqRel) > number {
            return Ok(());
        }
        let before = std::mem::replace(&mut *current, wanted);
        self.is_settled.store(self.part_path.is_none(), Ordering::Release);
        self.settle(&current)?;
        self.create_wanted(&current, |file| !before[file])
    }

    /// For each file, what tells whether it was changed since; `None` if it is not there.
    pub fn file_stamps(&self) -> Vec<Option<FileStamp>> {
        // If the part file cannot be read, what is in it cannot either.
        let in_part = self.with_part(|part| Ok(part.lens())).ok().flatten().unwrap_or_default();
        let stamp = |file| {
            let strays = in_part.get(&file).copied().unwrap_or(0);
            match self.files.stamp(file) {
                _ if self.is_pad(file) => None,
                Some(stamp) => Some(FileStamp { len: stamp.len.saturating_add(strays), ..stamp }),
                None => (strays > 0).then_some(FileStamp { len: strays, mtime_ns: 0 }),
            }
        };
        (0..self.layout().files().len()).map(stamp).collect()
    }

    /// How each file is open at this moment; `None` if it is closed.
    pub fn file_modes(&self) -> Vec<Option<FileMode>> {
        self.files.modes()
    }

    /// Cuts off what wanted files have past their end: a longer file was there before. To be called when all of
    /// them are complete.
    ///
    /// # Errors
    /// Those of opening a file to write it.
    pub fn cut_to_length(&self) -> Result<(), DiskError> {
        let wanted = self.settled()?;
        let mut files = (0..wanted.len()).filter(|&file| wanted[file] && !self.is_pad(file));
        files.try_for_each(|file| self.files.cut_to_length(file))
    }

    /// Waits until everything that was written is on the disk. Returns which files we wrote since the
    /// last time: those that look otherwise now because of us.
    ///
    /// # Errors
    /// What the system has to say, perhaps about bytes that it took long ago; and if a file that we
    /// wrote is gone.
    pub fn sync(&self) -> Result<Vec<usize>, DiskError> {
        let written = self.files.sync()?;
        self.with_part(|part| part.sync())?;
        Ok(written)
    }

    /// Closes all files, and forgets what was known of them. They are opened again, as they are then, when
    /// they are needed.
    pub fn close_files(&self) {
        self.files.close();
        if self.part_path.is_some() {
            let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
            *part = None;
            self.part_state.store(PART_UNKNOWN, Ordering::Release);
        }
    }

    /// Lets no more be written, and waits until what is under way has been: a check is about to look. Until
    /// [`thaw`](Self::thaw), [`write`](Self::write) says [`DiskError::Cancelled`].
    ///
    /// Returns `false` if the check is over, and lets be written whatever `thaw` did: whoever ends the check sets
    /// `is_over` before it calls that.
    pub fn freeze(&self, is_over: &AtomicBool) -> bool {
        self.gate.close(is_over)
    }

    /// Lets be written again.
    pub fn thaw(&self) {
        self.gate.open();
    }

    /// Closes all files until they are needed again. What other programs do to them meanwhile is noticed.
    pub fn let_go(&self) {
        self.files.let_go();
    }

    pub(super) fn part_state(&self) -> u8 {
        self.part_state.load(Ordering::Acquire)
    }

    /// Whether no byte is in the part file, which is looked at if it has not been.
    pub(super) fn is_part_empty(&self) -> Result<bool, DiskError> {
        if self.part_state() == PART_UNKNOWN {
            self.with_part(|_| Ok(()))?;
        }
        Ok(self.part_state() == PART_EMPTY)
    }

    fn checked_len(&self, piece: PieceIndex, offset: u32, len: usize) -> u32 {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let block = Block { piece, offset, len };
        assert!(len == 0 || self.layout().contains(block), "{block:?} lies within its piece");
        len
    }

    pub(super) fn is_pad(&self, file: usize) -> bool {
        self.layout().files()[file].is_pad
    }

    fn write_part(&self, span: Span, data: &[u8]) -> Result<(), DiskError> {
        let written = self.with_part(|part| part.write(span.file, span.offset, data))?;
        assert!(written.is_some(), "a torrent with unwanted files has a part file");
        Ok(())
    }

    pub(super) fn read_span(&self, span: Span, buf: &mut [u8]) -> Result<(), DiskError> {
        if self.is_pad(span.file) {
            buf.fill(0);
            return Ok(());
        }
        if self.part_state.load(Ordering::Acquire) == PART_EMPTY {
            return self.files.read(span, buf);
        }
        let read = |part: &mut PartFile| {
            let segments = part.segments(span.file, span.offset, span.len);
            if !segments.iter().any(Segment::is_here) {
                return Ok(false);
            }
            self.read_segments(span.file, part, &segments, buf)?;
            Ok(true)
        };
        match self.with_part(read)? {
            Some(true) => Ok(()),
            // None of these bytes: then others need not wait for the part file until they are read.
            Some(false) | None => self.files.read(span, buf),
        }
    }

    fn read_segments(
        &self,
        file: usize,
        part: &PartFile,
        segments: &[Segment],
        buf: &mut [u8],
    ) -> Result<(), DiskError> {
        let mut rest = buf;
        for &segment in segments {
            let (now, later) = rest.split_at_mut(segment.len as usize);
            if segment.is_here() {
                part.read(segment, now)?;
            } else {
                self.files.read(Span { file, offset: segment.offset, len: segment.len }, now)?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Locks the part file, its index read. Does nothing if this torrent is stored without one.
    fn with_part<T>(
        &self,
        job: impl FnOnce(&mut PartFile) -> Result<T, DiskError>,
    ) -> Result<Option<T>, DiskError> {
        let Some(path) = &self.part_path else { return Ok(None) };
        let mut guard = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            let files = self.layout().files();
            let len_of =
                |file: usize| files.get(file).filter(|entry| !entry.is_pad).map(|entry| entry.len);
            *guard = Some(PartFile::load(path, fingerprint(self.layout()), len_of)?);
        }
        let part = guard.as_mut().expect("it has just been loaded");
        let result = job(part);
        let state = if part.is_empty() { PART_EMPTY } else { PART_FILLED };
        self.part_state.store(state, Ordering::Release);
        result.map(Some)
    }

    /// Which files are wanted, once no byte of one that is wanted is left in the part file: an old byte moved
    /// later would overwrite a new one.
    fn settled(&self) -> Result<RwLockReadGuard<'_, Vec<bool>>, DiskError> {
        let wanted = self.wanted.read().unwrap_or_else(PoisonError::into_inner);
        if !self.is_settled.load(Ordering::Acquire) {
            self.settle(&wanted)?;
        }
        Ok(wanted)
    }

    fn settle(&self, wanted: &[bool]) -> Result<(), DiskError> {
        self.with_part(|part| {
            // Another thread may have done it in the meantime.
            if self.is_settled.load(Ordering::Acquire) {
                return Ok(());
            }
            for file in part.files().into_iter().filter(|&file| wanted[file]) {
                part.move_out(file, |offset, run| {
                    let len = u32::try_from(run.len()).expect("bytes are moved in short runs");
                    self.files.write(Span { file, offset, len }, &mut [IoSlice::new(run)])
                })?;
            }
            part.remove_if_empty()?;
            self.is_settled.store(true, Ordering::Release);
            Ok(())
        })?;
        Ok(())
    }

    fn create_wanted(
        &self,
        wanted: &[bool],
        is_chosen: impl Fn(usize) -> bool,
    ) -> Result<(), DiskError> {
        for (file, entry) in self.layout().files().iter().enumerate() {
            let is_due = entry.len == 0 || self.preallocate;
            if wanted[file] && !entry.is_pad && is_due && is_chosen(file) {
                self.files.create_full(file)?;
            }
        }
        Ok(())
    }
}

/// Differs between torrents whose bytes must not be mixed up.
fn fingerprint(layout: &FileLayout) -> [u8; 20] {
    let mut sha1 = Sha1::new();
    sha1.update(layout.piece_len().to_be_bytes());
    for entry in layout.files() {
        sha1.update(entry.len.to_be_bytes());
        sha1.update(entry.path.to_path_buf().as_os_str().as_encoded_bytes());
        sha1.update([0]);
    }
    sha1.finalize().into()
}

/// The part file has not been looked at.
const PART_UNKNOWN: u8 = 0;
/// Nothing is in the part file.
pub(super) const PART_EMPTY: u8 = 1;
/// Something is in the part file.
const PART_FILLED: u8 = 2;

/// How much of a piece is read before it is hashed: enough for a disk to stream, little enough that the bytes
/// are still in the cache when they are hashed.
const HASH_RUN_LEN: u32 = 1024 * 1024;
