//! Hashing what is on the disk, on as many threads as the caller likes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use sha1::{Digest as _, Sha1};
use torrent::PieceIndex;
use torrent::metainfo::{FileLayout, Metainfo};

use super::{DiskError, FilePool, Storage, StorageOptions};

/// What was found of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceState {
    /// All of it is there, and its hash is right.
    Good,
    /// All of it is there, and its hash is wrong.
    Bad,
    /// Some of it was never written, or its file is gone or too short.
    Missing,
}

/// Hashes `pieces` on `threads` threads, and calls `on_piece` for each from one of them, in no certain order.
///
/// Each thread takes a few megabytes of neighbouring pieces at a time, so that a disk with a moving head streams.
/// When `cancel` is set, the call ends soon, as if the remaining pieces had not been asked for.
///
/// # Errors
/// What is wrong with the disk, apart from pieces that are not there. Threads end after the piece they are at.
pub fn check_pieces(
    storage: &Storage,
    metainfo: &Metainfo,
    pieces: impl Iterator<Item = PieceIndex> + Send,
    threads: usize,
    cancel: &AtomicBool,
    on_piece: impl Fn(PieceIndex, PieceState) + Sync,
) -> Result<(), DiskError> {
    let zeros = ZeroHashes::new(storage.layout());
    for_each_piece(storage.layout(), pieces, threads, cancel, |piece, buf| {
        let expected = metainfo.piece_hash(piece);
        // A hole reads as zeros, and a piece may well be zeros; only if it is not, the hole says that it is missing.
        let state = match storage.is_hole(piece) {
            Ok(true) if zeros.of(piece) == expected => PieceState::Good,
            Ok(true) => PieceState::Missing,
            Ok(false) => match storage.hash(piece, buf)? {
                Some(hash) if hash == expected => PieceState::Good,
                Some(_) => PieceState::Bad,
                None => PieceState::Missing,
            },
            Err(error) if error.is_absence() => PieceState::Missing,
            Err(error) => return Err(error),
        };
        on_piece(piece, state);
        Ok(())
    })
}

/// The hashes of all pieces of the files below `root`, to make a torrent of them. `on_progress` is called with the
/// number of bytes hashed since the last call, from any of the threads.
///
/// # Errors
/// [`DiskError::Missing`] or [`DiskError::Shortened`] if the files are not as `layout` says;
/// [`DiskError::Cancelled`] once `cancel` is set.
pub fn hash_files(
    layout: &Arc<FileLayout>,
    root: &Path,
    threads: usize,
    cancel: &AtomicBool,
    on_progress: impl Fn(u64) + Sync,
) -> Result<Vec<[u8; 20]>, DiskError> {
    let options = StorageOptions {
        preallocate: false,
        wanted: vec![true; layout.files().len()],
        part_path: std::path::PathBuf::new(),
    };
    let pool = Arc::new(FilePool::default());
    let storage = Storage::new(Arc::clone(layout), root.to_owned(), pool, options);
    let hashes = Mutex::new(vec![[0; 20]; layout.piece_count() as usize]);
    let pieces = (0..layout.piece_count()).map(PieceIndex);
    for_each_piece(layout, pieces, threads, cancel, |piece, buf| {
        let hash = storage.hash_or_absence(piece, buf)?;
        hashes.lock().unwrap_or_else(PoisonError::into_inner)[piece.index()] = hash;
        on_progress(u64::from(layout.len_of(piece)));
        Ok(())
    })?;
    if cancel.load(Ordering::Relaxed) {
        return Err(DiskError::Cancelled);
    }
    Ok(hashes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Calls `job` for each piece, on `threads` threads, until one fails or `cancel` is set.
fn for_each_piece(
    layout: &FileLayout,
    pieces: impl Iterator<Item = PieceIndex> + Send,
    threads: usize,
    cancel: &AtomicBool,
    job: impl Fn(PieceIndex, &mut Vec<u8>) -> Result<(), DiskError> + Sync,
) -> Result<(), DiskError> {
    let batch_count = (BATCH_LEN / layout.piece_len()).max(1) as usize;
    let pieces = Mutex::new(pieces);
    let has_failed = AtomicBool::new(false);
    let is_over = || cancel.load(Ordering::Relaxed) || has_failed.load(Ordering::Relaxed);
    let work = || {
        let mut buf = Vec::new();
        while !is_over() {
            let batch: Vec<_> = {
                let mut pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
                pieces.by_ref().take(batch_count).collect()
            };
            if batch.is_empty() {
                break;
            }
            for piece in batch {
                if is_over() {
                    break;
                }
                job(piece, &mut buf).inspect_err(|_| has_failed.store(true, Ordering::Relaxed))?;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let first = work();
        others.into_iter().fold(first, |result, other| {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.and(other)
        })
    })
}

/// The hashes that pieces of nothing but zeros have, made when first asked for.
struct ZeroHashes<'a> {
    layout: &'a FileLayout,
    whole: OnceLock<[u8; 20]>,
}

impl<'a> ZeroHashes<'a> {
    fn new(layout: &'a FileLayout) -> Self {
        Self { layout, whole: OnceLock::new() }
    }

    fn of(&self, piece: PieceIndex) -> [u8; 20] {
        match self.layout.len_of(piece) {
            len if len == self.layout.piece_len() => *self.whole.get_or_init(|| hash_zeros(len)),
            len => hash_zeros(len),
        }
    }
}

fn hash_zeros(len: u32) -> [u8; 20] {
    let zeros = [0; 64 * 1024];
    let mut sha1 = Sha1::new();
    let mut rest = len as usize;
    while rest > 0 {
        let now = rest.min(zeros.len());
        sha1.update(&zeros[..now]);
        rest -= now;
    }
    sha1.finalize().into()
}

/// How many bytes of neighbouring pieces a thread takes at a time.
const BATCH_LEN: u32 = 4 * 1024 * 1024;
