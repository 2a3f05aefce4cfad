//! Hashing several pieces at once, each in a lane of the processor's.
//!
//! Of each piece a stretch is read, few enough bytes that all of them together stay in the core's cache, and
//! then all lanes advance together. What is not in memory comes from long files in long runs, past the system's cache;
//! short files are asked for far enough ahead that the disk never has nothing to do.

use std::ops::Range;

use sha_lanes::LANES_MAX;
use torrent::PieceIndex;
use torrent::metainfo::FileLayout;
use torrent::metainfo::create::Format;

use super::crew::Turn;
use super::cursor::{Cursor, Unreadable};
use super::direct::DIRECT_SLACK;
use super::piece_hash::{PieceHash, PieceHasher};
use super::throttle::Throttle;
use super::{DiskError, Storage};

/// What a thread needs to hash, made once and used for batch after batch: half a megabyte.
#[derive(Debug, Default)]
pub struct Scratch {
    stretches: Vec<u8>,
}

/// What came of one piece.
#[derive(Debug)]
pub(super) enum Outcome {
    Hash(PieceHash),
    /// Nothing of it was ever written.
    Hole,
    Unreadable(Unreadable),
}

/// The pieces of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    pub(super) storage: &'a Storage,
    /// Which hashes are wanted.
    pub(super) format: Format,
    pub(super) pieces: &'a [PieceIndex],
    /// What is likely to come after them.
    pub(super) next: &'a [PieceIndex],
}

/// How many pieces make a batch: as many as are hashed at once, or more if they are small.
pub fn batch_len(layout: &FileLayout) -> usize {
    let lanes = sha_lanes::lanes();
    let groups = BATCH_LEN / u64::from(layout.piece_len()) / lanes as u64;
    lanes * (groups as usize).max(1)
}

impl Batch<'_> {
    /// Hashes the pieces, and tells what came of each, in no certain order.
    ///
    /// # Errors
    /// What `tell` returns; [`DiskError::Cancelled`], soon after that is asked for.
    pub(super) fn hash(
        self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        throttle: &Throttle<'_>,
        mut tell: impl FnMut(PieceIndex, Outcome) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let layout = self.storage.layout();
        let mut cursor = Cursor::default();
        let mut full = Vec::with_capacity(self.pieces.len());
        for &piece in self.pieces {
            throttle.pass(0)?;
            match self.storage.is_hole(piece, &mut cursor) {
                Ok(true) => tell(piece, Outcome::Hole)?,
                Ok(false) => full.push(piece),
                Err(error) => tell(piece, Outcome::Unreadable(error))?,
            }
        }
        let mut ahead = Ahead::new(
            self.storage,
            cursor,
            groups(layout, &full).chain(groups(layout, self.next)),
        );
        for group in groups(layout, &full) {
            self.hash_group(group, turn, scratch, throttle, &mut ahead, &mut tell)?;
        }
        Ok(())
    }

    /// Hashes equally long pieces, a lane each.
    fn hash_group(
        self,
        pieces: &[PieceIndex],
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        throttle: &Throttle<'_>,
        ahead: &mut Ahead<'_>,
        tell: &mut impl FnMut(PieceIndex, Outcome) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let Some(&first) = pieces.first() else { return Ok(()) };
        let (storage, layout) = (self.storage, self.storage.layout());
        let len = layout.len_of(first);
        let new = |&piece| Lane {
            storage,
            piece,
            // As like as not they are all in one file.
            cursor: ahead.cursor.clone(),
            is_direct: false,
            failure: None,
        };
        let mut lanes: Vec<Lane<'_>> = pieces.iter().map(new).collect();
        let mut hasher = PieceHasher::new(self.format, layout, pieces);
        let mut offset = 0;
        while offset < len && lanes.iter().any(|lane| lane.failure.is_none()) {
            let window = offset..len.min(offset.saturating_add(WINDOW_LEN));
            // Where one has to wait for the disk, so will its neighbours; to look at each would be to wait for each.
            if lanes[0].is_cold(offset) {
                ahead.begin();
            }
            if ahead.is_needed {
                lanes.iter_mut().for_each(|lane| lane.look(offset));
            }
            offset = if lanes.iter().any(|lane| lane.is_direct) {
                hash_cold(&mut lanes, &mut hasher, window, turn, throttle, ahead)?
            } else {
                if ahead.is_needed {
                    turn.leave();
                } else {
                    turn.take();
                }
                hash_cached(&mut lanes, &mut hasher, window, scratch, throttle, ahead)?
            };
        }
        for (lane, hash) in lanes.into_iter().zip(hasher.finish()) {
            let outcome = lane.failure.map_or(Outcome::Hash(hash), Outcome::Unreadable);
            tell(lane.piece, outcome)?;
        }
        Ok(())
    }
}

/// The pieces as they are hashed together: equally long ones, as many as there are lanes.
fn groups<'a>(
    layout: &'a FileLayout,
    pieces: &'a [PieceIndex],
) -> impl Iterator<Item = &'a [PieceIndex]> {
    let alike = pieces.chunk_by(|&a, &b| layout.len_of(a) == layout.len_of(b));
    alike.flat_map(|alike| alike.chunks(sha_lanes::lanes()))
}

/// Hashes bytes that are in memory, stretch by stretch through the core's cache. Returns how far it came: to where
/// the first bytes were that were not in memory after all, or to the end of the window.
fn hash_cached(
    lanes: &mut [Lane<'_>],
    hasher: &mut PieceHasher,
    window: Range<u32>,
    scratch: &mut Scratch,
    throttle: &Throttle<'_>,
    ahead: &mut Ahead<'_>,
) -> Result<u32, DiskError> {
    grow(&mut scratch.stretches, lanes.len() * STRETCH_STRIDE);
    let was_needed = ahead.is_needed;
    let mut offset = window.start;
    while offset < window.end && ahead.is_needed == was_needed {
        let stretch = STRETCH_LEN.min(window.end - offset);
        let len = u64::from(stretch) * lanes.len() as u64;
        throttle.pass(len)?;
        ahead.advance(throttle, len)?;
        let mut slices = [&[][..]; LANES_MAX];
        let bufs = scratch.stretches.chunks_exact_mut(STRETCH_STRIDE);
        for ((lane, buf), slice) in lanes.iter_mut().zip(bufs).zip(&mut slices) {
            let buf = &mut buf[..stretch as usize];
            lane.read(offset, buf, ahead);
            *slice = buf;
        }
        hasher.update(&slices[..lanes.len()]);
        offset += stretch;
    }
    Ok(offset)
}

/// Hashes bytes that are on a disk, which are read in runs as long as it likes them. Returns the end of the window.
fn hash_cold(
    lanes: &mut [Lane<'_>],
    hasher: &mut PieceHasher,
    window: Range<u32>,
    turn: &mut Turn<'_>,
    throttle: &Throttle<'_>,
    ahead: &mut Ahead<'_>,
) -> Result<u32, DiskError> {
    let (len, room) = (window.len(), window.len() + DIRECT_SLACK);
    let all_len = lanes.len() * len;
    ahead.advance(throttle, all_len as u64)?;
    turn.leave();
    let mut buf = turn.crew.window();
    grow(&mut buf, lanes.len() * room);
    let mut slices = [&[][..]; LANES_MAX];
    let reading = turn.crew.read();
    let run = if is_run(lanes, len) {
        throttle.pass(all_len as u64)?;
        lanes[0].read_direct(0, all_len, &mut buf)
    } else {
        None
    };
    if let Some(found) = run {
        let pieces = buf[found].chunks_exact(len);
        pieces.zip(&mut slices).for_each(|(piece, slice)| *slice = piece);
    } else {
        let bufs = buf.chunks_exact_mut(room);
        for ((lane, buf), slice) in lanes.iter_mut().zip(bufs).zip(&mut slices) {
            throttle.pass(len as u64)?;
            let found = lane.read_direct(window.start, len, buf).unwrap_or_else(|| {
                lane.read(window.start, &mut buf[..len], ahead);
                0..len
            });
            *slice = &buf[found];
        }
    }
    drop(reading);
    turn.take();
    hasher.update(&slices[..lanes.len()]);
    Ok(window.end)
}

/// Whether these are whole pieces, each the neighbour of the one before it.
fn is_run(lanes: &[Lane<'_>], len: usize) -> bool {
    let is_whole = |lane: &Lane<'_>| lane.storage.layout().len_of(lane.piece) as usize == len;
    lanes.iter().all(|lane| lane.is_direct && is_whole(lane))
        && lanes.is_sorted_by(|a, b| a.piece.0.checked_add(1) == Some(b.piece.0))
}

fn grow(buf: &mut Vec<u8>, len: usize) {
    if buf.len() < len {
        buf.resize(len, 0);
    }
}

/// One piece on its way through.
#[derive(Debug)]
struct Lane<'a> {
    storage: &'a Storage,
    piece: PieceIndex,
    cursor: Cursor,
    /// Whether its next bytes are to be read past the system's cache.
    is_direct: bool,
    /// What ended it. The lane then runs on with what its buffer happens to hold, since the others are
    /// fastest with all of them.
    failure: Option<Unreadable>,
}

impl Lane<'_> {
    /// Whether the bytes from `offset` on are not in memory. To look brings them there, so the answer is good for once.
    fn is_cold(&mut self, offset: u32) -> bool {
        self.failure.is_none() && self.storage.is_cold(self.piece, offset, &mut self.cursor)
    }

    /// Sees whether the bytes from `offset` on can be read past the cache.
    fn look(&mut self, offset: u32) {
        self.is_direct =
            self.failure.is_none() && self.storage.is_direct(self.piece, offset, &mut self.cursor);
    }

    fn read(&mut self, offset: u32, buf: &mut [u8], ahead: &mut Ahead<'_>) {
        if self.failure.is_none() {
            let before_wait = || ahead.begin();
            let read = self.storage.read_on(self.piece, offset, buf, &mut self.cursor, before_wait);
            self.failure = read.err();
        }
    }

    /// Returns where in `buf` the bytes are, if they can be had so.
    fn read_direct(&mut self, offset: u32, len: usize, buf: &mut [u8]) -> Option<Range<usize>> {
        if !self.is_direct {
            return None;
        }
        self.storage.read_direct(self.piece, offset, len, buf, &mut self.cursor)
    }
}

/// Asks the disk for what will be read, in the order in which that will be, [`AHEAD_MAX`] bytes in advance.
struct Ahead<'a> {
    storage: &'a Storage,
    cursor: Cursor,
    /// What is left to be asked for: piece, offset, length.
    windows: Box<dyn Iterator<Item = (PieceIndex, u32, u32)> + 'a>,
    asked: u64,
    read: u64,
    /// Whether the disk had to be waited for: what is in memory need not be asked for.
    is_needed: bool,
}

impl<'a> Ahead<'a> {
    fn new(
        storage: &'a Storage,
        cursor: Cursor,
        groups: impl Iterator<Item = &'a [PieceIndex]> + 'a,
    ) -> Self {
        let layout = storage.layout();
        let windows = groups.flat_map(|group| {
            let len = group.first().map_or(0, |&first| layout.len_of(first));
            (0..len).step_by(WINDOW_LEN as usize).flat_map(move |offset| {
                let window = WINDOW_LEN.min(len - offset);
                group.iter().map(move |&piece| (piece, offset, window))
            })
        });
        let windows = Box::new(windows);
        Self { storage, cursor, windows, asked: 0, read: 0, is_needed: false }
    }

    fn begin(&mut self) {
        if !self.is_needed {
            self.is_needed = true;
            self.ask();
        }
    }

    /// `len` more bytes are about to be read.
    fn advance(&mut self, throttle: &Throttle<'_>, len: u64) -> Result<(), DiskError> {
        if self.is_needed {
            throttle.pass(0)?;
            self.ask();
        }
        self.read += len;
        Ok(())
    }

    /// Only a few windows at a time, each of which may be of many files.
    fn ask(&mut self) {
        for _ in 0..WINDOWS_AT_ONCE {
            if self.asked >= self.read + AHEAD_MAX {
                return;
            }
            let Some((piece, offset, len)) = self.windows.next() else { return };
            self.asked += u64::from(len);
            // What was read while it was not needed is past.
            if self.asked > self.read {
                self.storage.read_ahead(piece, offset, len, &mut self.cursor);
            }
        }
    }
}

/// How much of each piece is read before it is hashed: so little that sixteen of them fit a core's own cache,
/// and enough that a system call for each costs little.
const STRETCH_LEN: u32 = 32 * 1024;

/// From one stretch to the next, in bytes: at a power of two all of them would compete for the same few places of
/// the core's cache.
const STRETCH_STRIDE: usize = STRETCH_LEN as usize + 33 * 64;

/// How many bytes of small pieces are handed out at a time.
const BATCH_LEN: u64 = 8 * 1024 * 1024;

/// What the disk is asked for in advance by each thread, at most. It is the system's memory, not ours.
const AHEAD_MAX: u64 = 64 * 1024 * 1024;

/// How much of a piece is read from a disk before it is the next one's turn: enough for a head that has to move.
const WINDOW_LEN: u32 = 2 * 1024 * 1024;

const WINDOWS_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use torrent::metainfo::create::Builder;

    use super::super::{Crew, FilePool, StorageOptions};
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn of_what_lies_in_memory_no_copy_is_made_there() {
        // Only where there is such a place.
        let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
        let len = 8 * 1024 * 1024;
        std::fs::write(dir.path().join("t"), vec![7; len]).expect("written");
        let builder = Builder {
            name: b"t".to_vec(),
            files: vec![(Vec::new(), len as u64)],
            piece_len: Some(256 * 1024),
            ..Builder::default()
        };
        let layout = Arc::new(builder.layout().expect("a layout"));
        let options =
            StorageOptions { preallocate: false, wanted: vec![true], part_path: PathBuf::new() };
        let pool = Arc::new(FilePool::default());
        let storage = Storage::new(Arc::clone(&layout), dir.path().to_owned(), pool, options);
        let pieces: Vec<PieceIndex> = (0..layout.piece_count()).map(PieceIndex).collect();
        let batch = Batch { storage: &storage, format: Format::V1, pieces: &pieces, next: &[] };
        let (crew, never) = (Crew::new(1), AtomicBool::new(false));
        let throttle = Throttle::new(None, &never);
        let tell = |_, outcome| {
            assert!(matches!(outcome, Outcome::Hash(_)));
            Ok(())
        };
        batch.hash(&mut crew.turn(), &mut Scratch::default(), &throttle, tell).expect("hashed");
        assert!(crew.window().is_empty());
    }
}
